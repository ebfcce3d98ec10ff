//! Messages that have waited for too long to start anything now.

use std::time::Duration;

use crate::message::Message;

/// What becomes of them, and from when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale {
    pub after: Duration,
    pub action: StaleAction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleAction {
    /// It is sent as history.
    Backfill,
    /// It is put aside. Whoever redrives it wants it sent; then it goes as history.
    DeadLetter,
}

impl Stale {
    pub fn applies(&self, message: &Message) -> bool {
        message.enqueued_at.elapsed().is_ok_and(|age| age > self.after)
    }
}
