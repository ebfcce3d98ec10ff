//! Requests for deletion, as far as other messages go: what is about the person is of no use any more.

use std::time::SystemTime;

/// A request, as whoever owns the outbox has it on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletionRequest {
    /// The message that asks Klaviyo, by its id and its number.
    pub id: [u8; 16],
    pub seq: i64,
    /// An identifier of whom it is about, see [`crate::key`].
    pub identifier: String,
    /// Until when what is queued after it is a straggler; none for ever.
    pub until: Option<SystemTime>,
    /// The number from which on what is queued is none, since the person was readmitted.
    pub readmitted: Option<i64>,
}

impl DeletionRequest {
    /// Whether a message about the person must not go: it was queued before the request, however late it comes, or is a
    /// straggler, by when it was queued.
    pub fn covers(&self, seq: i64, enqueued_at: SystemTime) -> bool {
        seq < self.seq
            || seq > self.seq
                && self.readmitted.is_none_or(|readmitted| seq < readmitted)
                && self.until.is_none_or(|until| enqueued_at < until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_older_and_what_straggles_is_covered() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let request = DeletionRequest {
            id: [1; 16],
            seq: 10,
            identifier: "email:ada@b.example".to_owned(),
            until: Some(at(100)),
            readmitted: None,
        };
        let covered = |request: &DeletionRequest, seq, seconds| request.covers(seq, at(seconds));
        assert!(covered(&request, 9, 200), "however late it comes");
        assert!(!covered(&request, 10, 50), "not itself");
        assert!(covered(&request, 11, 99) && !covered(&request, 11, 100));
        let readmitted = DeletionRequest { readmitted: Some(20), ..request.clone() };
        assert!(covered(&readmitted, 9, 50) && covered(&readmitted, 19, 50) && !covered(&readmitted, 21, 50));
        let for_ever = DeletionRequest { until: None, ..request };
        assert!(covered(&for_ever, 11, 1_000_000));
    }
}
