//! Keys whose messages are in a job of Klaviyo's.
//!
//! What waits behind these could fill the memory for as long as the job takes. So what has not been tried leaves it and is
//! handed in again when the job is over; the owner of the outbox sees to it that nothing comes by meanwhile.

use std::sync::Arc;
use std::time::Instant;

use super::{GroupId, Queue, Queued};
use crate::key::{self, Identifier};
use crate::message::{Message, Parked};

impl Queue {
    /// A call with messages of these groups has made a job: they leave the memory. Returns what is locked for it until
    /// [`Queue::unlock`], and what leaves with them.
    pub fn lock(&mut self, groups: &[(GroupId, usize)], now: Instant) -> (Arc<[Identifier]>, Vec<Parked>) {
        let (mut locks, mut parked) = (Vec::with_capacity(groups.len()), Vec::new());
        let groups: Vec<GroupId> = groups.iter().map(|(group, _)| self.call_ended(*group)).collect();
        for id in &groups {
            if let Some(group) = self.groups.get_mut(id) {
                locks.extend(&group.identifiers);
                // What has been tried stays, and so what must not go after it.
                let kept = group.queue.iter().rposition(|queued| !is_untried(&queued.message));
                let leaving = group.queue.drain(kept.map_or(0, |last| last + 1)..);
                parked.extend(leaving.map(|queued| Parked {
                    seq: queued.message.seq,
                    identifiers: self.aliases.expand(&queued.identifiers),
                }));
            }
        }
        self.locked.take(&locks);
        for id in groups {
            self.place(id, now);
        }
        (locks.into(), parked)
    }

    /// The same for a job of an earlier life.
    pub fn lock_again(&mut self, keys: &[Vec<String>], locks: &[Identifier]) {
        keys.iter().for_each(|key| self.link(key));
        self.locked.take(locks);
    }

    /// Whether a message that has just come into this group cannot stay.
    pub(super) fn parks(&self, group: GroupId, message: &Message) -> bool {
        let Some(group) = self.groups.get(&group) else { return false };
        let goes_after = |queued: &Queued| queued.message.seq > message.seq && !is_untried(&queued.message);
        self.locked.contain_any(&group.identifiers)
            && is_untried(message)
            && !group.queue.iter().any(goes_after)
    }

    pub fn unlock(&mut self, locks: &[Identifier], now: Instant) {
        self.locked.give_back(locks);
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
            let identifiers = key::identifiers(&message.key);
            let id = self.group_of(self.aliases.expand(&identifiers));
            if let Some(group) = self.groups.get_mut(&id) {
                group.calls += 1;
            }
            self.place(id, now);
            (Queued { rides, ..self.queued(message, identifiers, (None, now)) }, (id, 1))
        };
        messages.into_iter().map(recall).unzip()
    }
}

/// Whether the outbox has the message as it came from there.
fn is_untried(message: &Message) -> bool {
    message.attempts == 0 && !message.redriven
}
