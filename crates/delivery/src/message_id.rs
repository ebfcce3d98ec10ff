//! Message ids, and how they are told from others.
//!
//! An event without an id of the user's own is known to Klaviyo by its message's. So somebody who hands in such an id as
//! his own means a message of before, and that must be seen by the id alone. And where a row of the outbox has been copied
//! the copy must be seen to be one, for it brings to Klaviyo what the first brings: an id says which number it was made for.

use uuid::{Uuid, Version};

/// The last two bytes of each, where others' have random ones.
const MARK: [u8; 2] = *b"ks";

/// A new one for the message of that number. Version 7: ids made one after the other lie side by side in an index.
pub fn new(seq: i64) -> Uuid {
    let mut id = *Uuid::now_v7().as_bytes();
    id[10..].copy_from_slice(&ending(seq));
    Uuid::from_bytes(id)
}

/// Whether an id was made for the message of that number, which one that was numbered elsewhere was not.
pub fn is_of(id: &[u8; 16], seq: i64) -> bool {
    id.ends_with(&ending(seq))
}

fn ending(seq: i64) -> [u8; 6] {
    let [.., a, b, c, d] = seq.to_be_bytes();
    [a, b, c, d, MARK[0], MARK[1]]
}

/// Whether a text looks like one. Of others' ids of version 7 one in 65,536 does.
pub fn is_one(text: &str) -> bool {
    Uuid::parse_str(text)
        .is_ok_and(|id| id.get_version() == Some(Version::SortRand) && id.as_bytes().ends_with(&MARK))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn they_differ_rise_and_are_known() {
        let ids: Vec<Uuid> = (0..10_000).map(new).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert!(ids.iter().all(|id| is_one(&id.to_string()) && is_one(&id.to_string().to_uppercase())));
        assert!(
            ids.iter().zip(0..).all(|(id, seq)| is_of(id.as_bytes(), seq) && !is_of(id.as_bytes(), seq + 1))
        );
        for other in [
            "",
            "ks",
            "A-1001",
            "00000000-0000-4000-8000-000000006b73",
            "0197a000-0000-7000-8000-000000000000",
        ] {
            assert!(!is_one(other), "{other}");
        }
    }
}
