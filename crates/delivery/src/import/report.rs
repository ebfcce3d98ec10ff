//! What is written down of jobs, and what a later life is told of them.

use std::sync::Arc;
use std::time::SystemTime;

use super::ImportId;
use crate::key::Identifier;

/// What is to be written down of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportReport {
    pub id: ImportId,
    pub step: ImportStep,
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportStep {
    /// It is asked for as soon as that is durable: [`crate::Command::Make`]. The messages with their profiles' places in
    /// the body.
    Announced { messages: Vec<(i64, usize)> },
    /// Klaviyo has made it, or may have where there is no id. These messages are not in our memory any more, and nothing
    /// is to be handed in that is about what is locked; [`crate::Command::Barred`] says that this is so.
    Made { klaviyo_id: Option<String>, messages: Vec<i64>, locks: Arc<[Identifier]> },
    /// Klaviyo has said all there is to say of it. Nothing is written down yet: its messages, as many as were announced,
    /// are to be read again and handed in by [`crate::Command::Recall`]. Where anything is `in_doubt` all at once and with
    /// their payloads; else in any number of parts and without.
    Over { in_doubt: bool, messages: usize },
    /// There is nothing more to come of it.
    Ended { ending: ImportEnding, failed: usize },
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportEnding {
    Complete,
    /// Klaviyo has cancelled it.
    Cancelled,
    /// Klaviyo has not made it, or was not asked to.
    Refused,
    /// Whether Klaviyo has made it is not known, but none like it is under way.
    Lost,
}

impl ImportEnding {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Lost => "lost",
        }
    }
}

/// What is to be written down of a job that was not made.
pub fn not_made(id: ImportId) -> ImportReport {
    ImportReport { id, step: ImportStep::Ended { ending: ImportEnding::Refused, failed: 0 } }
}

/// A job of an earlier life.
#[derive(Clone)]
pub struct PastImport {
    pub id: ImportId,
    /// None where it is not known whether Klaviyo has made it.
    pub klaviyo_id: Option<String>,
    /// Messages that were announced, and profiles it was to have.
    pub messages: usize,
    pub profiles: usize,
    /// When it was asked for at the latest.
    pub sent_at: SystemTime,
    /// Keys of its messages that still wait, and what is locked for it.
    pub keys: Vec<Vec<String>>,
    pub locks: Arc<[Identifier]>,
}
