//! What goes in and what comes out: messages and what became of them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use klaviyo::Endpoint;

use crate::call::AnnouncementId;
use crate::campaign::CampaignNews;
use crate::import::ImportReport;
use crate::key::Identifier;
use crate::kind::Kind;
use crate::preflight::Finding;
use crate::read::ReadAnswer;
use crate::unique_id::UniqueId;

/// A committed message, on its way.
#[derive(Clone)]
pub struct Message {
    /// Local order, and what an [`Outcome`] names it by. Unique.
    pub seq: i64,
    /// Global identity. With the number it makes sure that an outcome is recorded for this message and no other.
    pub id: [u8; 16],
    pub kind: &'static dyn Kind,
    /// Identifiers of whom it is about, see [`crate::key`].
    pub key: Vec<String>,
    /// JSON text, see the kind.
    pub payload: String,
    pub enqueued_at: SystemTime,
    /// Calls it has been in, in earlier lives of ours too.
    pub attempts: u32,
    /// Those of them that failed while others succeeded.
    pub strikes: u32,
    /// How long it must still wait for its next attempt.
    pub wait: Duration,
    /// Whether it comes from the dead letters, and may be older than what has been sent since.
    pub redriven: bool,
    /// Whether it may go in a call of many, see [`Kind::read`].
    pub rides: bool,
    /// What Klaviyo knows a repeat of it by, where other messages can have the same.
    pub unique_id: Option<UniqueId>,
    /// Whether it changes the state of a profile as it is sent, see [`Kind::read`] and [`Kind::redriven`].
    pub carries_state: bool,
    /// Whether it is history, see [`crate::kind::Reading`]: any other message goes first.
    pub backfill: bool,
    /// Whether an earlier call of its own brought no answer, and may have done what it asks for.
    pub may_be_done: bool,
}

/// What one call, or the refusal to make it, meant for a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub seq: i64,
    pub id: [u8; 16],
    pub unique_id: Option<UniqueId>,
    /// Calls it has now been in.
    pub attempts: u32,
    /// When the last of them was sent.
    pub sent_at: SystemTime,
    /// Whether that was a call of many.
    pub bulk: bool,
    /// Whether it asks that a person be deleted, see [`Kind::deletes`].
    pub deletes: bool,
    /// See [`Message::may_be_done`].
    pub may_be_done: bool,
    pub ending: Ending,
}

impl Outcome {
    pub fn of(message: &Message, sent_at: SystemTime, bulk: bool, ending: Ending) -> Self {
        let Message { seq, id, unique_id, attempts, kind, may_be_done, .. } = *message;
        Self { seq, id, unique_id, attempts, sent_at, bulk, deletes: kind.deletes(), may_be_done, ending }
    }
}

/// How it ended, or did not yet.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// Klaviyo accepted it. That is not yet: processed. `state_of` are all identifiers known of the profile whose state
    /// it changed; none where it changed none. The `answer` is kept of a call that a message has asked for itself.
    Accepted { status: u16, resource_id: Option<String>, state_of: Vec<String>, answer: Option<KeptAnswer> },
    /// It stays with us and is tried again.
    Retry { wait: Duration, strikes: u32, failure: Failure },
    /// It will not be tried again by itself. `newer` is the number of a newer state of the same profile that has been
    /// accepted, where there is one: then it must not be tried again by anyone.
    Dead { failure: Failure, newer: Option<i64> },
    /// It is not sent, for that message asks that the person be deleted whom it is about, or that what it asks for be
    /// cancelled.
    Discarded { by: [u8; 16] },
}

impl Ending {
    /// Klaviyo has done what was asked, and neither the state of a profile nor an answer is to be kept of it.
    pub(crate) const fn done(status: u16, resource_id: Option<String>) -> Self {
        Self::Accepted { status, resource_id, state_of: Vec::new(), answer: None }
    }
}

/// What Klaviyo has answered to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The lane it was made in.
    pub lane: &'static str,
    /// JSON; none where Klaviyo has said nothing that is.
    pub body: Option<String>,
}

/// A message that has left the memory, for a job has locked its key: to be handed in again when that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    pub seq: i64,
    /// Of whom it is about, all that are known.
    pub identifiers: Vec<Identifier>,
}

/// Why a call failed, for a person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// Klaviyo's code, or one of ours.
    pub code: String,
    pub reason: String,
    /// Klaviyo's id of the error.
    pub error_id: Option<String>,
    /// Klaviyo's id of the profile that has one of the identifiers already, where that is why.
    pub duplicate_profile_id: Option<String>,
}

/// One call's outcomes, to be settled together.
#[derive(Debug)]
pub struct Report {
    pub account: Arc<str>,
    /// The lane whose place the call holds until it is settled; none where no call was made.
    pub lane: Option<&'static Endpoint>,
    pub outcomes: Vec<Outcome>,
    /// Set when that has changed.
    pub account_state: Option<AccountState>,
    /// What a preflight has found, with its last call.
    pub findings: Option<Vec<Finding>>,
    /// What has become of import jobs.
    pub imports: Vec<ImportReport>,
    /// What has become known of campaigns.
    pub campaigns: Vec<CampaignNews>,
    /// What has become of calls that only ask.
    pub reads: Vec<ReadAnswer>,
    /// What must wait outside for import jobs.
    pub parked: Vec<Parked>,
    /// A call of a message that must not go twice: it is made when this is durable, see [`crate::Command::Make`].
    pub announced: Option<AnnouncementId>,
}

impl Report {
    pub fn new(account: &Arc<str>, lane: Option<&'static Endpoint>) -> Self {
        Self {
            account: account.clone(),
            lane,
            outcomes: Vec::new(),
            account_state: None,
            findings: None,
            imports: Vec::new(),
            campaigns: Vec::new(),
            reads: Vec::new(),
            parked: Vec::new(),
            announced: None,
        }
    }
}

/// Whether Klaviyo takes the account's calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountState {
    /// It refuses the key or the revision, or for want of a scope those of a lane, which the reason names. One call for
    /// each longest wait between attempts finds out whether that has changed.
    Stopped {
        reason: String,
    },
    Running,
}
