//! Keys whose messages are in a job of Klaviyo's.

use std::time::Instant;

use super::{GroupId, Queue, Queued};
use crate::key::Identifier;
use crate::message::Message;

impl Queue {
    /// A call with messages of these groups has made a job: they leave the memory. Returns what is locked for it until
    /// [`Queue::unlock`].
    pub fn lock(&mut self, groups: &[(GroupId, usize)], now: Instant) -> Vec<Identifier> {
        let mut locks = Vec::with_capacity(groups.len());
        for (group, _) in groups {
            let id = self.call_ended(*group);
            let identifiers = self.groups.get(&id).map(|group| group.identifiers.clone()).unwrap_or_default();
            self.count(&identifiers);
            locks.extend(identifiers);
            self.place(id, now);
        }
        locks
    }

    /// The same for the key of a message of an earlier life's job.
    pub fn lock_key(&mut self, key: &[String]) -> Vec<Identifier> {
        self.link(key);
        let identifiers = self.aliases.expand(&self.identifiers(key));
        self.count(&identifiers);
        identifiers
    }

    /// Several jobs may lock an identifier, where a message has brought together what was apart.
    fn count(&mut self, locks: &[Identifier]) {
        for identifier in locks {
            *self.locked.entry(*identifier).or_default() += 1;
        }
    }

    pub fn unlock(&mut self, locks: &[Identifier], now: Instant) {
        for identifier in locks {
            let jobs = self.locked.get_mut(identifier).map(|jobs| {
                *jobs -= 1;
                *jobs
            });
            if jobs == Some(0) {
                self.locked.remove(identifier);
            }
        }
        for identifier in locks {
            if let Some(group) = self.by_identifier.get(identifier) {
                self.place(*group, now);
            }
        }
    }

    /// Messages of a job that is at its end come back: their groups have a call under way from now on. Returns them, of
    /// which so many may go together from now on, and one after the other whose they are.
    pub fn recall(
        &mut self,
        messages: Vec<Message>,
        rides: usize,
        now: Instant,
    ) -> (Vec<Queued>, Vec<(GroupId, usize)>) {
        let recall = |message: Message| {
            self.link(&message.key);
            let identifiers = self.identifiers(&message.key);
            let id = self.group_of(self.aliases.expand(&identifiers));
            if let Some(group) = self.groups.get_mut(&id) {
                group.calls += 1;
            }
            self.place(id, now);
            (Queued { rides, ..Queued::new(message, identifiers, None) }, (id, 1))
        };
        messages.into_iter().map(recall).unzip()
    }
}
