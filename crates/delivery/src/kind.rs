//! Kinds of message. A kind is a file: how its input is checked and laid down, which call carries it, and how two
//! of it merge. [`ALL`] is the list.

pub mod deletion;
pub mod event;
mod event_batch;
pub mod profile;
pub mod profile_batch;
pub mod profile_change;

use klaviyo::{Endpoint, REQUEST_DELETION};

use crate::batch::Batch;
use crate::unique_id::UniqueId;

/// What the scheduler and the HTTP thread must know of a message. Where an answer is lost it is sent again: of an
/// event Klaviyo drops the repeat, by its `unique_id`, and the same state again ends in the same state.
pub trait Kind: Sync {
    /// `outbox.kind`.
    fn name(&self) -> &'static str;

    /// The call that carries one message of it.
    fn endpoint(&self) -> &'static Endpoint;

    /// The body of that call.
    ///
    /// # Errors
    /// Says why the payload is none of ours; then it was not queued by our functions.
    fn body(&self, payload: &str) -> Result<Vec<u8>, String>;

    /// One payload that does what `earlier` and then `later` would do, where there is one. A kind that merges
    /// describes a state: a later message stands above an earlier one.
    fn merge(&self, earlier: &str, later: &str) -> Option<String>;

    /// Whether messages describe a state and nothing else, so that an old one must not follow a newer one.
    fn is_state(&self) -> bool;

    /// What is sent of a message that is redriven, where that is not all of it: no state that may be old by now.
    fn redriven(&self, payload: &str) -> Option<String>;

    /// What is sent of a message that is stale, where that is not the same: it is recorded and starts nothing. None of
    /// what is history already.
    fn stale(&self, payload: &str) -> Option<String>;

    /// What the payload tells of a message of an account.
    fn read(&self, account: &str, id: [u8; 16], payload: &str) -> Reading;

    /// The call that carries many messages of it, where there is one.
    fn bulk(&self) -> Option<&'static Endpoint>;

    /// An empty body of that call.
    fn batch(&self) -> Option<Box<dyn Batch>>;
}

/// What a payload tells of its message. It is read once, for there may be many and they may be long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub rides: Rides,
    /// Whether the message changes the state of a profile, if only beside something else.
    pub carries_state: bool,
    /// Whether it is history, which goes when nothing else waits.
    pub backfill: bool,
}

impl Reading {
    /// The key by which a message of a kind keeps its order. History that changes no state has one of its own: it may go
    /// before and after whatever else there is of the same person, which does not wait for it; but for a request to delete
    /// that person's data, after which it must not go.
    pub fn ordered(&self, kind: &dyn Kind, key: Vec<String>) -> Vec<String> {
        let of_history =
            |key: &[String]| key.iter().map(|name| format!("history:{name}")).collect::<Vec<_>>();
        if self.backfill && !self.carries_state {
            of_history(&key)
        } else if kind.endpoint() == &REQUEST_DELETION {
            let history = of_history(&key);
            key.into_iter().chain(history).collect()
        } else {
            key
        }
    }
}

/// Whether a message may go in a call of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rides {
    Never,
    /// However often it was sent.
    Always,
    /// In its first call: its id is one that we have made and nobody else can know.
    Once,
    /// In its first call, if no other message has brought this id to Klaviyo.
    OnceAs(UniqueId),
}

impl Rides {
    /// What Klaviyo knows a repeat of it by, if other messages can have the same.
    pub fn unique_id(self) -> Option<UniqueId> {
        match self {
            Self::OnceAs(unique_id) => Some(unique_id),
            Self::Never | Self::Always | Self::Once => None,
        }
    }
}

/// Every kind there is.
pub const ALL: [&dyn Kind; 3] = [&event::Event, &profile::Profile, &deletion::Deletion];

/// The number of a kind in [`ALL`].
pub fn number(kind: &dyn Kind) -> usize {
    ALL.iter().position(|other| other.name() == kind.name()).expect("all kinds are listed")
}

/// Which kind an endpoint's calls are of, by its number in [`ALL`].
pub fn of(endpoint: &Endpoint) -> Option<usize> {
    ALL.iter().position(|kind| [Some(kind.endpoint()), kind.bulk()].contains(&Some(endpoint)))
}

/// The kind of that name.
pub fn find(name: &str) -> Option<&'static dyn Kind> {
    ALL.into_iter().find(|kind| kind.name() == name)
}

/// What is laid down in the outbox for a message that passed its checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// See [`crate::key`].
    pub key: Vec<String>,
    /// JSON text.
    pub payload: String,
}

/// Adds `"name":"value"` to an object that is being written.
fn push_string(json: &mut String, name: &str, value: &str) {
    push_raw(json, name, &serde_json::to_string(value).expect("a string can be written to memory"));
}

/// Adds `"name":raw` to an object that is being written; `raw` is JSON already.
fn push_raw(json: &mut String, name: &str, raw: &str) {
    if !json.ends_with('{') {
        json.push(',');
    }
    json.push('"');
    json.push_str(name);
    json.push_str("\":");
    json.push_str(raw);
}
