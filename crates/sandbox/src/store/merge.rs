//! Two profiles that become one.

use jiff::Timestamp;

use super::{Identifier, Refusal, Store};
use crate::check::Merge;
use crate::error::ApiError;

impl Store {
    /// Gives the events of a profile to another, and the identifiers that this has not; then deletes it. What else both say of
    /// a person stays as the other has it.
    pub fn merge(&mut self, merge: &Merge, now: Timestamp) -> Result<(), ApiError> {
        let find = |id: &str, at: &str| {
            self.by_id.get(id).copied().ok_or_else(|| Refusal::UnknownProfile.to_error("").at(at))
        };
        let destination = find(&merge.destination, "/data/id")?;
        let source = find(&merge.source, "/data/relationships/profiles/data/0/id")?;
        let named = Identifier::ALL.map(|it| self.profiles[source].text(it.attribute()).map(str::to_owned));
        self.delete_at(source);
        for (identifier, text) in Identifier::ALL.into_iter().zip(named) {
            let Some(text) =
                text.filter(|_| self.profiles[destination].text(identifier.attribute()).is_none())
            else {
                continue;
            };
            self.by_identifier[identifier as usize].insert(text.clone(), destination);
            self.profiles[destination].identify(identifier.attribute(), text);
        }
        self.profiles[destination].touch(now);
        self.orders.note(destination);
        for event in self.events.iter_mut().filter(|event| event.profile == source) {
            event.profile = destination;
        }
        self.index_events();
        Ok(())
    }

    /// Finds events by whose they are now.
    fn index_events(&mut self) {
        let Self { by_unique_id, events, .. } = self;
        by_unique_id.clear();
        for index in 0..events.len() {
            self.index_event(index);
        }
    }
}
