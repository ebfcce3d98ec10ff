//! The control paths: looking inside the sandbox, and telling it to misbehave.

use std::borrow::Cow;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::faults::Rule;
use crate::rates::RateChange;
use crate::receipts::ReceiptView;
use crate::reply::{Reply, ReplyBody};
use crate::sandbox::Sandbox;
use crate::server::Command;
use crate::store::EventView;

/// What all control paths begin with.
pub const PREFIX: &str = "/_sandbox/";

/// The largest body of a control request, in bytes: a generous list of faults.
const MAX_BODY: usize = 1024 * 1024;

/// How long the answer to `down` has to leave, when it came over a connection that `down` ends.
const ANSWER_LEAVES: Duration = Duration::from_millis(100);

/// The listener that a control request came to.
#[derive(Clone, Copy, PartialEq)]
pub enum Via {
    Api,
    Control,
}

/// A status and what went wrong.
type Refused = (StatusCode, String);

/// The lists that grow long are written straight to text, which json! does not do.
#[derive(Serialize)]
struct Receipts<'a> {
    receipts: Vec<ReceiptView<'a>>,
}

#[derive(Serialize)]
struct Events<'a> {
    events: Vec<EventView<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultList {
    faults: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Down {
    seconds: Option<f64>,
}

/// Answers a control request, in JSON.
pub async fn handle(sandbox: &Sandbox, via: Via, request: Request<Incoming>) -> Response<ReplyBody> {
    let (status, body) = match answer(sandbox, via, request).await {
        Ok(body) => (StatusCode::OK, body),
        Err((status, reason)) => (status, json!({"error": reason}).to_string()),
    };
    Reply::with_body(status, "application/json", body).whole()
}

async fn answer(sandbox: &Sandbox, via: Via, request: Request<Incoming>) -> Result<String, Refused> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let Some(name) = path.strip_prefix(PREFIX) else {
        return Err((StatusCode::NOT_FOUND, format!("there is no {path}")));
    };
    let body =
        Limited::new(body, MAX_BODY).collect().await.map_err(|error| bad(error.to_string()))?.to_bytes();
    let query = Query(head.uri.query().unwrap_or_default());
    match (&head.method, name) {
        (&Method::GET, "health") => Ok(health(sandbox)),
        (&Method::GET, "receipts") => receipts(sandbox, &query),
        (&Method::GET, "stats") => json_text(&stats(sandbox)),
        (&Method::GET, "events") => {
            let metric = query.get("metric");
            json_text(&Events { events: sandbox.state().store.events(metric.as_deref()) })
        }
        (&Method::GET, "profiles") => json_text(&json!({"profiles": sandbox.state().store.profiles()})),
        (&Method::GET, "faults") => faults(sandbox),
        (&Method::PUT, "faults") => {
            let FaultList { faults: rules } = parse(&body)?;
            rules.iter().try_for_each(Rule::check).map_err(bad)?;
            sandbox.state().faults.replace(rules);
            faults(sandbox)
        }
        (&Method::DELETE, "faults") => {
            sandbox.state().faults.replace(Vec::new());
            faults(sandbox)
        }
        (&Method::PUT, "rates") => {
            let change: RateChange = parse(&body)?;
            let settings = sandbox.state().rates.change(change).map_err(bad)?;
            json_text(&settings)
        }
        (&Method::POST, "down") => down(sandbox, via, &body).await,
        (&Method::POST, "up") => up(sandbox).await,
        (&Method::POST, "reset") => {
            sandbox.reset();
            Ok(json!({"ok": true}).to_string())
        }
        (
            _,
            "health" | "receipts" | "stats" | "events" | "profiles" | "faults" | "rates" | "down" | "up"
            | "reset",
        ) => Err((StatusCode::METHOD_NOT_ALLOWED, format!("{path} does not take {}", head.method))),
        _ => Err((StatusCode::NOT_FOUND, format!("there is no {path}"))),
    }
}

fn health(sandbox: &Sandbox) -> String {
    let api = if sandbox.is_up() { "up" } else { "down" };
    json!({"ok": true, "api": api}).to_string()
}

fn receipts(sandbox: &Sandbox, query: &Query<'_>) -> Result<String, Refused> {
    let after = query.number("after")?.unwrap_or(0);
    let limit = query.number("limit")?.unwrap_or(usize::MAX);
    json_text(&Receipts { receipts: sandbox.state().receipts.after(after, limit) })
}

fn stats(sandbox: &Sandbox) -> Value {
    let state = sandbox.state();
    json!({
        "requests": state.receipts.len(),
        "connections": sandbox.connections(),
        "by": state.receipts.counts(),
        "events": state.store.event_count(),
        "profiles": state.store.profile_count(),
        "event_repeats": state.store.repeats(),
        "throttled": state.receipts.throttled(),
    })
}

fn faults(sandbox: &Sandbox) -> Result<String, Refused> {
    json_text(&json!({"faults": sandbox.state().faults.armed()}))
}

async fn down(sandbox: &Sandbox, via: Via, body: &[u8]) -> Result<String, Refused> {
    let Down { seconds } = if body.is_empty() { Down::default() } else { parse(body)? };
    let back_after =
        seconds.map(Duration::try_from_secs_f64).transpose().map_err(|error| bad(error.to_string()))?;
    let (done, is_done) = oneshot::channel();
    let command = Command::Down { back_after, done };
    let door = sandbox.door.clone();
    if via == Via::Api {
        // This very connection is about to end.
        tokio::spawn(async move {
            tokio::time::sleep(ANSWER_LEAVES).await;
            // Fails only when the sandbox is ending anyway.
            let _ = door.send(command).await;
        });
    } else {
        door.send(command).await.map_err(|_| ending())?;
        is_done.await.map_err(|_| ending())?;
    }
    Ok(json!({"ok": true, "api": "down"}).to_string())
}

async fn up(sandbox: &Sandbox) -> Result<String, Refused> {
    let (done, is_done) = oneshot::channel();
    sandbox.door.send(Command::Up { done }).await.map_err(|_| ending())?;
    let outcome = is_done.await.map_err(|_| ending())?;
    outcome.map_err(|error| (StatusCode::CONFLICT, format!("cannot listen: {error}")))?;
    Ok(json!({"ok": true, "api": "up"}).to_string())
}

fn ending() -> Refused {
    (StatusCode::CONFLICT, "the sandbox is ending".to_owned())
}

fn bad(reason: impl Into<String>) -> Refused {
    (StatusCode::BAD_REQUEST, reason.into())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| bad(error.to_string()))
}

fn json_text(value: &impl Serialize) -> Result<String, Refused> {
    serde_json::to_string(value).map_err(|error| (StatusCode::CONFLICT, error.to_string()))
}

/// The query of a request's URL.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        form_urlencoded::parse(self.0.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn number(&self, name: &str) -> Result<Option<usize>, Refused> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| bad(format!("{name} is not a whole number: {text}")))
    }
}
