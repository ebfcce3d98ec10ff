//! Message ids, and how they are told from others.
//!
//! An event without an id of the user's own is known to Klaviyo by its message's. So somebody who hands in such an id as
//! his own means a message of before, and that must be seen by the id alone.

use uuid::{Uuid, Version};

/// The last two bytes of each, where others' have random ones.
const MARK: [u8; 2] = *b"ks";

/// A new one. Version 7: ids made one after the other lie side by side in an index.
pub fn new() -> Uuid {
    let mut id = *Uuid::now_v7().as_bytes();
    id[14..].copy_from_slice(&MARK);
    Uuid::from_bytes(id)
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
        let ids: Vec<Uuid> = (0..10_000).map(|_| new()).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert!(ids.iter().all(|id| is_one(&id.to_string()) && is_one(&id.to_string().to_uppercase())));
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
