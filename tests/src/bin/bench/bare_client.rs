//! The peer of a drain: ready bodies sent by the same HTTP client, and nothing else. No database, no order, no record:
//! nothing that speaks to this sandbox from one thread is faster.

use std::time::{Duration, Instant, SystemTime};

use delivery::klaviyo::{CREATE_EVENT, Client, ClientOptions, REVISION, Session, event_body};
use harness::{SANDBOX_KEY, Sandbox, query};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// For whatever may take time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Speaks to one sandbox.
pub struct BareClient {
    runtime: Runtime,
    client: Client,
    session: Session,
}

impl BareClient {
    /// One with a connection of its own, on the thread that calls.
    pub fn new(sandbox: &Sandbox) -> Result<Self, String> {
        let options =
            ClientOptions { connect_timeout: PATIENCE, read_timeout: PATIENCE, request_timeout: PATIENCE };
        Ok(Self {
            runtime: Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?,
            client: Client::new(options)?,
            session: Session::new(sandbox.api(), REVISION, SANDBOX_KEY).map_err(|error| error.to_string())?,
        })
    }

    /// Sends one event; returns when it began to.
    pub fn send(&self, body: Vec<u8>) -> Result<SystemTime, String> {
        let began = SystemTime::now();
        self.runtime.block_on(post(self.client.clone(), self.session.clone(), body))?;
        Ok(began)
    }

    /// Sends events, so many at a time; returns how many a second were answered.
    pub fn send_all(&self, bodies: Vec<Vec<u8>>, at_a_time: usize) -> Result<f64, String> {
        let (began, count) = (Instant::now(), bodies.len());
        self.runtime.block_on(async {
            let mut bodies = bodies.into_iter();
            let mut calls = JoinSet::new();
            loop {
                for body in bodies.by_ref().take(at_a_time - calls.len()) {
                    calls.spawn(post(self.client.clone(), self.session.clone(), body));
                }
                match calls.join_next().await {
                    Some(answer) => answer.map_err(|error| error.to_string())??,
                    None => return Ok::<_, String>(()),
                }
            }
        })?;
        Ok(count as f64 / began.elapsed().as_secs_f64())
    }
}

async fn post(client: Client, session: Session, body: Vec<u8>) -> Result<(), String> {
    let answer = client.post(&session, &CREATE_EVENT, body).await.map_err(|error| error.to_string())?;
    if answer.status == 202 { Ok(()) } else { Err(format!("the sandbox answers {}", answer.status)) }
}

/// The bodies of the first events in the outbox, as the worker will send them.
pub fn waiting_bodies(db: &mut postgres::Client, events: i64) -> Result<Vec<Vec<u8>>, String> {
    let payloads: Vec<String> = query(
        db,
        "SELECT array_agg(w.payload) FROM (SELECT payload::text FROM klaviyo.outbox ORDER BY seq LIMIT $1) AS w",
        &[&events],
    );
    payloads.iter().map(|payload| body(payload)).collect()
}

fn body(payload: &str) -> Result<Vec<u8>, String> {
    #[derive(Deserialize)]
    struct Payload<'a> {
        #[serde(borrow)]
        profile: &'a RawValue,
        #[serde(borrow)]
        event: &'a RawValue,
    }
    let payload: Payload = serde_json::from_str(payload).map_err(|error| error.to_string())?;
    Ok(event_body(payload.event, payload.profile))
}
