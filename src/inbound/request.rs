//! `klaviyo.is_webhook_signed`, `klaviyo.webhook_time`, `klaviyo.webhook_events`: a request, as SQL asks about it.

use delivery::klaviyo::webhook;
use pgrx::{IntoDatum, JsonB};
use serde_json::{Value, json};

use crate::outbox::named;
use crate::pg;
use crate::pg::function::{Arguments, Returned, sql_function};

sql_function!(klaviyo_is_webhook_signed, pg_finfo_klaviyo_is_webhook_signed, is_webhook_signed);
sql_function!(klaviyo_webhook_time, pg_finfo_klaviyo_webhook_time, webhook_time);
sql_function!(klaviyo_server_secrets, pg_finfo_klaviyo_server_secrets, server_secrets);
sql_function!(klaviyo_webhook_events, pg_finfo_klaviyo_webhook_events, webhook_events);

/// `klaviyo.is_webhook_signed(body, sent_at, signature, secrets)`
fn is_webhook_signed(arguments: &Arguments) -> Returned {
    let body: &[u8] = arguments.get(0).unwrap_or_default();
    let text = |number| arguments.get::<&str>(number).unwrap_or_default();
    let secrets: Vec<Option<String>> = arguments.get(3).unwrap_or_default();
    let secrets = secrets.iter().flatten().map(String::as_bytes);
    Ok(webhook::is_signed(body, text(1), text(2), secrets).into_datum())
}

/// Bytes that are read of who has secrets, and that one of them has at least.
const MOST: u64 = 4_096;
const LEAST: usize = 16;

/// `klaviyo.server_secrets(file, variable)`
fn server_secrets(arguments: &Arguments) -> Returned {
    let file = arguments.get::<String>(0).and_then(|path| pg::server::file(&path, MOST).ok());
    let text = file.or_else(|| std::env::var(arguments.get::<String>(1)?).ok()).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| line.len() >= LEAST);
    Ok(lines.map(str::to_owned).collect::<Vec<String>>().into_datum())
}

/// `klaviyo.webhook_time(sent_at)`
fn webhook_time(arguments: &Arguments) -> Returned {
    let sent_at = arguments.get(0).and_then(webhook::sent_at);
    Ok(sent_at.and_then(|micros| pg::timestamp(micros).into_datum()))
}

/// `klaviyo.webhook_events(body, flow, external_id)`: `{"webhook": …, "events": […]}`
fn webhook_events(arguments: &Arguments) -> Returned {
    let body: &[u8] = arguments.get(0).unwrap_or_default();
    let flow: Option<&str> = arguments.get(1);
    let told = match flow {
        Some(flow) => {
            let external_id: &str = arguments.get(2).unwrap_or_default();
            let payload = webhook::payload_of(body).filter(|_| webhook::is_name(external_id));
            payload
                .map(|payload| json!({"webhook": flow, "events": [event(flow, external_id, None, payload)]}))
        }
        None => webhook::delivery_of(body).map(|delivery| {
            let events = delivery.data.into_iter();
            let events =
                events.map(|it| event(&it.topic, &it.external_id, it.profile_id.as_deref(), it.payload));
            json!({"webhook": delivery.meta.klaviyo_webhook_id, "events": events.collect::<Vec<_>>()})
        }),
    };
    Ok(told.map(JsonB).and_then(IntoDatum::into_datum))
}

fn event(topic: &str, external_id: &str, profile_id: Option<&str>, payload: Value) -> Value {
    let people = named::people_within(&payload.to_string());
    json!({
        "topic": topic, "external_id": external_id, "profile_id": profile_id, "payload": payload, "people": people,
    })
}
