//! The peer of a drain: ready bodies sent by the same HTTP client, and nothing else. No database, no order, no record:
//! nothing that speaks to this sandbox from one thread is faster.

use std::time::{Duration, Instant, SystemTime};

use delivery::klaviyo::{
    BULK_CREATE_EVENTS, BULK_IMPORT_PROFILES, CREATE_EVENT, Client, ClientOptions, Endpoint, EventsBody,
    ProfilesBody, REVISION, Request, Session, event_body,
};
use harness::{SANDBOX_KEY, Sandbox, query};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// For whatever may take time.
const PATIENCE: Duration = Duration::from_secs(30);

/// What carries messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    Events,
    ManyEvents,
    /// Of which Klaviyo makes import jobs.
    ManyProfiles,
}

impl Calls {
    fn endpoint(self) -> &'static Endpoint {
        match self {
            Self::Events => &CREATE_EVENT,
            Self::ManyEvents => &BULK_CREATE_EVENTS,
            Self::ManyProfiles => &BULK_IMPORT_PROFILES,
        }
    }
}

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
        self.runtime.block_on(post(self.client.clone(), self.session.clone(), &CREATE_EVENT, body))?;
        Ok(began)
    }

    /// Sends bodies of such calls, so many at a time; returns how many seconds that took.
    pub fn send_all(&self, bodies: Vec<Vec<u8>>, calls: Calls, at_a_time: usize) -> Result<f64, String> {
        let endpoint = calls.endpoint();
        let began = Instant::now();
        self.runtime.block_on(async {
            let mut bodies = bodies.into_iter();
            let mut calls = JoinSet::new();
            loop {
                for body in bodies.by_ref().take(at_a_time - calls.len()) {
                    calls.spawn(post(self.client.clone(), self.session.clone(), endpoint, body));
                }
                match calls.join_next().await {
                    Some(answer) => answer.map_err(|error| error.to_string())??,
                    None => return Ok::<_, String>(()),
                }
            }
        })?;
        Ok(began.elapsed().as_secs_f64())
    }
}

async fn post(
    client: Client,
    session: Session,
    endpoint: &'static Endpoint,
    body: Vec<u8>,
) -> Result<(), String> {
    let answer =
        client.send(&session, Request::post(endpoint, body)).await.map_err(|error| error.to_string())?;
    if answer.status == 202 { Ok(()) } else { Err(format!("the sandbox answers {}", answer.status)) }
}

/// The bodies of such calls with what waits in the outbox, as the worker will send it.
pub fn waiting_bodies(db: &mut postgres::Client, calls: Calls) -> Result<Vec<Vec<u8>>, String> {
    let payloads: Vec<String> = query(
        db,
        "SELECT array_agg(w.payload) FROM (SELECT payload::text FROM klaviyo.outbox ORDER BY seq) AS w",
        &[],
    );
    if calls == Calls::ManyProfiles {
        return Ok(profiles(&payloads));
    }
    let payloads = payloads.iter().map(|payload| serde_json::from_str(payload));
    let payloads: Vec<Payload> = payloads.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if calls == Calls::Events {
        return Ok(payloads.iter().map(|Payload { event, profile }| event_body(event, profile)).collect());
    }
    payloads.chunks(BULK_CREATE_EVENTS.max_items).map(events).collect()
}

fn events(payloads: &[Payload]) -> Result<Vec<u8>, String> {
    let mut body = EventsBody::default();
    for Payload { event, profile } in payloads {
        body.push(event, profile, BULK_CREATE_EVENTS.max_body)
            .ok_or("the events are too large for one call")?;
    }
    body.finish().ok_or_else(|| "there are no events".to_owned())
}

fn profiles(payloads: &[String]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    let (mut body, mut profiles) = (ProfilesBody::import(), 0);
    for payload in payloads {
        if profiles == BULK_IMPORT_PROFILES.max_items || !body.push(payload, BULK_IMPORT_PROFILES.max_body) {
            bodies.extend(std::mem::replace(&mut body, ProfilesBody::import()).finish());
            body.push(payload, BULK_IMPORT_PROFILES.max_body);
            profiles = 0;
        }
        profiles += 1;
    }
    bodies.extend(body.finish());
    bodies
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    profile: &'a RawValue,
    #[serde(borrow)]
    event: &'a RawValue,
}
