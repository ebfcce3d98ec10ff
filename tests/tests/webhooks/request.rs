//! A request as Klaviyo makes it, signed by a hand of our own.

use harness::explain;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use postgres::Client;
use serde_json::{Value, json};
use sha2::Sha256;

pub const SECRET: &str = "a secret of one's own";

#[derive(Clone)]
pub struct Request {
    pub webhook: String,
    pub timestamp: String,
    pub signature: String,
    pub body: Vec<u8>,
}

/// In ISO 8601, so many seconds from now.
pub fn time(from_now: i64) -> String {
    (Timestamp::now() + SignedDuration::from_secs(from_now)).to_string()
}

impl Request {
    pub fn new(ids: &[String]) -> Self {
        let event = |id: &String| json!({"external_id": id, "topic": "event:klaviyo.opened_email", "payload": {"data": {"id": id}}});
        Self::of(ids.iter().map(event).collect())
    }

    /// Of events by their ids, topics, and the profiles they are about.
    pub fn about(events: &[(&str, &str, &str)]) -> Self {
        let event = |(id, topic, profile): &(&str, &str, &str)| {
            let profile = json!({"data": {"type": "profile", "id": profile}});
            let payload = json!({"data": {"id": id, "relationships": {"profile": profile}}});
            json!({"external_id": id, "topic": topic, "payload": payload})
        };
        Self::of(events.iter().map(event).collect())
    }

    /// Of events by their ids, topics, profiles and properties, as they happened now.
    pub fn telling(events: &[(&str, &str, &str, Value)]) -> Self {
        let event = |(id, topic, profile, properties): &(&str, &str, &str, Value)| {
            let profile = json!({"data": {"type": "profile", "id": profile}});
            let attributes = json!({"datetime": time(0), "event_properties": properties});
            let payload =
                json!({"data": {"id": id, "attributes": attributes, "relationships": {"profile": profile}}});
            json!({"external_id": id, "topic": topic, "payload": payload})
        };
        Self::of(events.iter().map(event).collect())
    }

    fn of(events: Vec<Value>) -> Self {
        let body = json!({"data": events, "meta": {"klaviyo_account_id": "A", "klaviyo_webhook_id": "W"}});
        Self::signed(body.to_string().into_bytes(), time(0), SECRET)
    }

    pub fn signed(body: Vec<u8>, timestamp: String, secret: &str) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
        mac.update(&body);
        mac.update(timestamp.as_bytes());
        let signature = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { webhook: "W".to_owned(), timestamp, signature, body }
    }

    /// How many events are new, or the SQLSTATE of the refusal.
    pub fn hand_in(&self, db: &mut Client) -> Result<i32, String> {
        let Self { webhook, timestamp, signature, body } = self;
        let headers = json!({"Klaviyo-Webhook-Id": webhook, "Klaviyo-Timestamp": timestamp, "Klaviyo-Signature": signature});
        let call = "SELECT klaviyo_receive_webhook($1::text::jsonb, $2)";
        match db.query_one(call, &[&headers.to_string(), body]) {
            Ok(row) => Ok(row.get(0)),
            Err(error) => {
                let code = error.code().unwrap_or_else(|| panic!("{}", explain(&error)));
                Err(code.code().to_owned())
            }
        }
    }
}
