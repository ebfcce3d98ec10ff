//! The key of a message: whom it is about, under every identifier it names.
//!
//! Two messages that share an identifier are about one profile and keep their order. So are two that share none but
//! are linked by a third that names both identifiers, as far as we have seen that third.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use crate::recent::Recent;
use crate::unique_id::UniqueId;

/// The identifiers of a profile, each as `name:value`, in the form that compares: e-mail addresses in lower case.
pub fn of(email: Option<&str>, phone_number: Option<&str>, external_id: Option<&str>) -> Vec<String> {
    [
        email.map(|email| identifier("email", email)),
        phone_number.map(|phone_number| identifier("phone_number", phone_number)),
        external_id.map(|external_id| identifier("external_id", external_id)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// One of them.
pub fn identifier(name: &str, value: &str) -> String {
    if name == "email" { format!("{name}:{}", value.to_lowercase()) } else { format!("{name}:{value}") }
}

/// The identifier by which history of a person keeps an order of its own, see [`crate::kind::Reading::ordered`].
pub fn of_history(identifier: &str) -> String {
    format!("{HISTORY}{identifier}")
}

/// Whose history it is, or whose it is that is none.
pub fn whose(identifier: &str) -> &str {
    identifier.strip_prefix(HISTORY).unwrap_or(identifier)
}

const HISTORY: &str = "history:";

/// An identifier as the scheduler compares it. Two that collide merely keep an order nobody asked for.
pub type Identifier = u64;

/// Seeded per process, so that nobody can aim for a collision.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The identifiers of a key, as they compare everywhere in this process.
pub fn identifiers(key: &[String]) -> Vec<Identifier> {
    key.iter().map(|text| HASHER.hash_one(text)).collect()
}

/// An id of the user's own, as if it were one more identifier of the message that carries it.
pub fn of_unique_id(unique_id: &UniqueId) -> Identifier {
    HASHER.hash_one(unique_id)
}

/// Identifiers, each with how often it was taken and not given back.
#[derive(Debug, Default)]
pub struct Counts(HashMap<Identifier, u32>);

impl Counts {
    pub fn take(&mut self, identifiers: &[Identifier]) {
        for identifier in identifiers {
            *self.0.entry(*identifier).or_default() += 1;
        }
    }

    pub fn give_back(&mut self, identifiers: &[Identifier]) {
        for identifier in identifiers {
            if let Some(count) = self.0.get_mut(identifier) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(identifier);
                }
            }
        }
        if self.0.is_empty() {
            // It keeps its size else, and has been of hundreds of thousands.
            self.0 = HashMap::new();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contain(&self, identifier: &Identifier) -> bool {
        // Most often there are none, and nothing need be hashed.
        !self.is_empty() && self.0.contains_key(identifier)
    }

    pub fn contain_any(&self, identifiers: &[Identifier]) -> bool {
        identifiers.iter().any(|identifier| self.contain(identifier))
    }
}

/// Remembers which identifiers belong to one profile, for the profiles seen last.
#[derive(Debug)]
pub struct Aliases(Recent<Identifier, Arc<[Identifier]>>);

/// Identifiers remembered at least: some 8 MB of memory at the most.
const REMEMBERED: usize = 50_000;

/// Identifiers of one profile that are remembered together. A shop that gives every guest the same phone number would
/// otherwise make one profile of all of them. Messages that name the number wait for each other all the same; those that
/// name another identifier of one guest do not wait for those of all.
const MOST_TOGETHER: usize = 8;

impl Default for Aliases {
    fn default() -> Self {
        Self(Recent::new(REMEMBERED))
    }
}

impl Aliases {
    /// All identifiers known to belong together with `identifiers`, these included.
    pub fn expand(&self, identifiers: &[Identifier]) -> Vec<Identifier> {
        let mut all = identifiers.to_vec();
        for together in identifiers.iter().filter_map(|identifier| self.0.get(identifier)) {
            all.extend_from_slice(together);
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Remembers that `identifiers`, named by one message, belong together.
    pub fn link(&mut self, identifiers: &[Identifier]) {
        if identifiers.len() < 2 {
            return;
        }
        let mut all = self.expand(identifiers);
        if all.len() > MOST_TOGETHER {
            all = identifiers.to_vec();
        }
        let together: Arc<[Identifier]> = all.into();
        for identifier in together.iter() {
            self.0.insert(*identifier, together.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_compare_as_klaviyo_compares_them() {
        assert_eq!(
            of(Some("Ada@Example.COM"), Some("+15005550006"), Some("Ab")),
            ["email:ada@example.com", "phone_number:+15005550006", "external_id:Ab"]
        );
        assert!(of(None, None, None).is_empty());
    }

    #[test]
    fn aliases_link_what_was_named_together() {
        let mut aliases = Aliases::default();
        aliases.link(&[1, 2]);
        aliases.link(&[2, 3]);
        assert_eq!(aliases.expand(&[3]), [1, 2, 3]);
        assert_eq!(aliases.expand(&[9]), [9]);
        for other in 100..200 {
            aliases.link(&[1, other]);
        }
        assert!(
            aliases.expand(&[1]).len() <= MOST_TOGETHER + 1,
            "one shared number does not make one profile"
        );
    }
}
