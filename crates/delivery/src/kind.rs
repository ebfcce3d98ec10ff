//! Kinds of message. A kind is a file: how its input is checked and laid down, which call carries it, and how two
//! of it merge. [`ALL`] is the list.

pub mod call;
pub mod campaign;
pub mod campaign_step;
pub mod catalog;
pub mod consent;
mod consent_batch;
pub mod coupon_code;
pub mod deletion;
pub mod event;
mod event_batch;
pub mod list;
pub mod list_member;
pub mod merge;
pub mod profile;
pub mod profile_batch;
pub mod profile_change;
pub mod resource;
pub mod subscribe;
pub mod suppress;
pub mod unsubscribe;
pub mod unsuppress;

use klaviyo::{Endpoint, Request};

use crate::batch::Batch;
use crate::campaign::Act;
use crate::key;
use crate::message::Failure;
use crate::question::Question;
use crate::unique_id::UniqueId;

/// What the scheduler and the HTTP thread must know of a message.
pub trait Kind: Sync {
    /// `outbox.kind`.
    fn name(&self) -> &'static str;

    /// The call that carries one message of it; none where each message says itself which.
    fn endpoint(&self) -> Option<&'static Endpoint>;

    /// The call that carries this message, where there is such a call.
    fn endpoint_of(&self, _payload: &str) -> Option<&'static Endpoint> {
        self.endpoint()
    }

    /// The body of that call.
    ///
    /// # Errors
    /// Says why the payload is none of ours; then it was not queued by our functions.
    fn body(&self, payload: &str) -> Result<Vec<u8>, String>;

    /// The call that carries one message.
    ///
    /// # Errors
    /// As [`Kind::body`].
    fn request(&self, payload: &str) -> Result<Request, String> {
        let endpoint = self.endpoint_of(payload).ok_or("there is no such call")?;
        Ok(Request::post(endpoint, self.body(payload)?))
    }

    /// What it means for a message that the answer to its call is lost.
    fn lost(&self) -> Lost;

    /// Whether this message must not go again where nobody knows what its last call has come to.
    fn stops(&self, _payload: &str) -> bool {
        false
    }

    /// Whether it is written down before its call is made that it is: so that it is known to whoever finds it later that it
    /// may have been done.
    fn is_announced(&self, payload: &str) -> bool {
        self.stops(payload)
    }

    /// Whether a refusal, with what it points at in the body, says that what a message asks for is done, to one that may
    /// have been done before.
    fn says_done(&self, _payload: &str, _failure: &Failure, _pointers: &[String]) -> bool {
        false
    }

    /// What the refusal of a call of its own comes to, with what it points at in the body, where that is not a refusal of
    /// what the message asks for.
    fn otherwise(&self, _payload: &str, _failure: &Failure, _pointers: &[String]) -> Option<Otherwise> {
        None
    }

    /// Keys of what must be there for what a message asks for: while something with one of them waits, it may come.
    fn needs(&self, _payload: &str) -> Vec<String> {
        Vec::new()
    }

    /// What a message is from now on that a job has failed at, if it need not go by itself yet.
    fn after_job(&self, _payload: &str) -> Option<&'static dyn Kind> {
        None
    }

    /// What the payload tells of a message of an account.
    fn read(&self, account: &str, id: [u8; 16], payload: &str) -> Reading;

    /// One payload that does what `earlier` and then `later` would do, where there is one. A kind that merges
    /// describes a state: a later message stands above an earlier one.
    fn merge(&self, _earlier: &str, _later: &str) -> Option<String> {
        None
    }

    /// Whether messages describe a state and nothing else, so that an old one must not follow a newer one.
    fn is_state(&self) -> bool {
        false
    }

    /// What is sent of a message that is redriven, where that is not all of it: no state that may be old by now.
    fn redriven(&self, _payload: &str) -> Option<String> {
        None
    }

    /// What is sent of a message that is stale, where that is not the same: it is recorded and starts nothing. None of
    /// what is history already.
    fn stale(&self, _payload: &str) -> Option<String> {
        None
    }

    /// The call that carries many messages of it, where there is one. It may be the same that carries one.
    fn bulk(&self) -> Option<&'static Endpoint> {
        None
    }

    /// An empty call of that kind.
    fn batch(&self) -> Option<Box<dyn Batch>> {
        None
    }

    /// Whether such a call may carry more than one message of a key.
    fn rides_with_its_own(&self) -> bool {
        false
    }

    /// Whether it asks that the person be deleted: then nothing that waits about that person is of use any more.
    fn deletes(&self) -> bool {
        false
    }

    /// What some of its messages must be told before they may go, one after the other.
    fn questions(&self) -> &'static [&'static dyn Question] {
        &[]
    }

    /// Whether one message goes as many do, so that one which was tried may ride with others again.
    fn goes_as_many_do(&self) -> bool {
        self.bulk().is_some_and(|bulk| self.endpoint() == Some(bulk))
    }

    /// What it does with a campaign, if it is about one.
    fn campaign(&self) -> Option<Act> {
        None
    }

    /// Whether it must not go at all once it is stale.
    fn expires(&self) -> bool {
        false
    }

    /// Whether it changes what lists are called.
    fn renames(&self) -> bool {
        false
    }
}

/// What a refusal comes to.
pub enum Otherwise {
    /// Nothing is left to be done.
    Done,
    /// It is to be done as a message of that kind.
    As(&'static dyn Kind),
}

/// What it means that an answer is lost: nobody knows whether Klaviyo has done what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It is sent again, by itself: Klaviyo drops the repeat.
    RepeatedAlone,
    /// It is sent again: done twice is as good as done once.
    Repeated,
    /// Klaviyo is asked whether it is still to be done.
    ReadBack,
    /// Klaviyo is asked whether it was done; it is put aside for a person where that does not tell.
    ReadBackOrStopped,
    /// By what the message does, see [`Kind::stops`]: it is sent again, or put aside for a person.
    RepeatedOrStopped,
}

impl Lost {
    /// What then happens, for a person.
    pub const fn says(self) -> &'static str {
        match self {
            Self::RepeatedAlone => "sent again by itself: Klaviyo drops the repeat",
            Self::Repeated => "sent again: done twice is as good as done once",
            Self::ReadBack => {
                "sent again, once Klaviyo has said that it is still to be done, where that makes a difference"
            }
            Self::ReadBackOrStopped => {
                "Klaviyo is asked whether it was done; where that does not tell, put aside with code `ambiguous`, for a person to decide"
            }
            Self::RepeatedOrStopped => {
                "`GET` and `DELETE`: sent again; `POST` and `PATCH`: put aside with code `ambiguous`, for a person to decide"
            }
        }
    }
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
        let of_history = |key: &[String]| key.iter().map(|name| key::of_history(name)).collect::<Vec<_>>();
        if self.backfill && !self.carries_state {
            of_history(&key)
        } else if kind.deletes() {
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
pub const ALL: [&dyn Kind; 29] = [
    &event::Event,
    &profile::Profile,
    &deletion::Deletion,
    &subscribe::SUBSCRIBE,
    &unsubscribe::UNSUBSCRIBE,
    &suppress::SUPPRESS,
    &unsuppress::UNSUPPRESS,
    &merge::Merge,
    &list_member::ADD,
    &list_member::REMOVE,
    &list::CREATE,
    &list::RENAME,
    &list::DELETE,
    &catalog::ITEM,
    &catalog::ITEM_UPDATE,
    &catalog::ITEM_DELETE,
    &catalog::VARIANT,
    &catalog::VARIANT_UPDATE,
    &catalog::VARIANT_DELETE,
    &catalog::CATEGORY,
    &catalog::CATEGORY_UPDATE,
    &catalog::CATEGORY_DELETE,
    &coupon_code::COUPON_CODE,
    &campaign::Campaign,
    &campaign_step::TEMPLATE,
    &campaign_step::ESTIMATE,
    &campaign_step::SEND,
    &campaign_step::CANCEL,
    &call::Call,
];

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
pub(crate) fn push_string(json: &mut String, name: &str, value: &str) {
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
