//! What happens to a message between the outbox and Klaviyo: its checks, its order, its lane, its call, its outcome.
//!
//! In here: kinds of message, order per key, lanes with their windows and breakers, retries, and the thread that
//! speaks HTTP. Not in here: Postgres. Whoever owns the outbox hands messages in and is told what became of each.

mod account;
mod backoff;
mod batch;
mod breaker;
mod budget;
mod call;
pub mod campaign;
mod deletion;
mod draw;
mod engine;
pub mod gaps;
pub mod gauges;
mod histogram;
pub mod identifiers;
mod import;
pub mod invalid;
pub mod json;
pub mod key;
pub mod kind;
mod lane;
mod list;
mod message;
pub mod message_id;
mod preflight;
mod question;
mod queue;
mod read;
mod recent;
pub mod room;
mod stale;
mod stops;
mod strikes;
mod throughput;
mod unique_id;
mod verdict;
mod window;

pub use account::{AccountOptions, Policy};
pub use backoff::Backoff;
pub use deletion::DeletionRequest;
pub use engine::{Command, Engine, Gone, Past, PastCalls, with_signals_blocked};
pub use import::{ImportEnding, ImportId, ImportReport, ImportStep, PastImport};
pub use klaviyo;
pub use lane::most_in_flight;
pub use message::{AccountState, Ending, Failure, KeptAnswer, Message, Outcome, Parked, Report};
pub use preflight::{Allowed, Finding};
pub use read::{Read, ReadAnswer, ReadFailure};
pub use stale::{Stale, StaleAction};
pub use unique_id::UniqueId;
