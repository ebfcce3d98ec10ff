//! Ids of the user's own choosing, by which Klaviyo knows a repeated event.
//!
//! Klaviyo looks for a repeat among the events of one profile and metric. Which messages are about one profile it knows
//! better than we do, so here an id stands for the same event whoever that is about.

use sha2::{Digest, Sha256};

/// An id as we remember it: the first 16 bytes of the SHA-256 of account, metric and id, with a zero byte between them.
/// A digest, for it is kept for ever of every event, and tells nobody what the event was.
pub type UniqueId = [u8; 16];

/// The digest of an id. It stands in tables and must stay what it is.
pub fn digest(account: &str, metric: &str, unique_id: &str) -> UniqueId {
    let mut digest = Sha256::new();
    for part in [account, "\0", metric, "\0", unique_id] {
        digest.update(part);
    }
    let digest = digest.finalize();
    *digest.first_chunk().expect("a SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `substr(sha256('default'::bytea || '\x00' || 'Placed Order' || '\x00' || 'A-1001'), 1, 16)` has it.
    #[test]
    fn the_digest_stays_what_it_is() {
        let digest = digest("default", "Placed Order", "A-1001");
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "a68f0151c2ff84fdb81175553fa99baa");
    }

    #[test]
    fn account_metric_and_id_each_count() {
        let one = digest("a", "b", "c");
        for other in
            [digest("a", "b", "d"), digest("a", "d", "c"), digest("d", "b", "c"), digest("ab", "", "c")]
        {
            assert_ne!(one, other);
        }
    }
}
