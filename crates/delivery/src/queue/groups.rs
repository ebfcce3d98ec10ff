//! Groups: who shares identifiers with whom, and which of them may go.

use std::collections::HashSet;
use std::time::Instant;

use super::{Group, GroupId, Line, Place, Queue, Queued, insert_by_seq};
use crate::key::Identifier;

/// Identifiers of a group for each of its messages, above which those of messages that are gone are looked for: more
/// than a message can have with all that are known to belong to its three, so that looking is always worth it.
pub(super) const IDENTIFIERS: usize = 32;

impl Queue {
    /// The group of these identifiers: a new one, the one they have, or the one that those they have become.
    pub(super) fn group_of(&mut self, identifiers: Vec<Identifier>) -> GroupId {
        let mut found: Vec<GroupId> =
            identifiers.iter().filter_map(|identifier| self.by_identifier.get(identifier).copied()).collect();
        found.sort_unstable();
        found.dedup();
        let id = found.first().copied().unwrap_or_else(|| {
            self.next_group += 1;
            self.groups.insert(self.next_group, Group::default());
            self.next_group
        });
        let mut all = identifiers;
        for other in found.into_iter().skip(1) {
            self.displace(other);
            let Some(other_group) = self.groups.remove(&other) else { continue };
            if other_group.calls > 0 {
                self.joined.insert(other, (id, other_group.calls));
            }
            all.extend(&other_group.identifiers);
            let group = self.groups.entry(id).or_default();
            group.calls += other_group.calls;
            for queued in other_group.queue {
                insert_by_seq(&mut group.queue, queued);
            }
        }
        for identifier in all {
            if self.by_identifier.insert(identifier, id) != Some(id) {
                self.groups.entry(id).or_default().identifiers.push(identifier);
            }
        }
        id
    }

    pub(super) fn insert(&mut self, id: GroupId, queued: Queued, now: Instant) {
        insert_by_seq(&mut self.groups.entry(id).or_default().queue, queued);
        self.place(id, now);
    }

    /// Puts a group where its oldest message says, or forgets it when it is empty.
    pub(super) fn place(&mut self, id: GroupId, now: Instant) {
        self.displace(id);
        let Some(group) = self.groups.get(&id) else { return };
        let locked = self.locked.contain_any(&group.identifiers);
        if !locked {
            self.tidy(id);
        }
        let Some(group) = self.groups.get_mut(&id) else { return };
        if group.calls > 0 {
            return;
        }
        let Some(first) = group.queue.front() else {
            // What could not stay has brought others to those that are locked: who names one of them cannot stay either.
            if locked && !group.identifiers.iter().all(|identifier| self.locked.contain(identifier)) {
                return;
            }
            for identifier in &group.identifiers {
                self.by_identifier.remove(identifier);
            }
            self.groups.remove(&id);
            return;
        };
        if locked {
            return;
        }
        match first.not_before {
            Some(at) if at > now => {
                group.place = Place::Sleeping(at);
                self.sleeping.insert((at, id));
            }
            _ => {
                let (seq, rides) = (first.message.seq, first.rides > 0);
                let lane = first.lane(now);
                if first.direct && first.asks(now).is_none() {
                    group.place = Place::Direct(lane, seq);
                    self.direct.insert(lane, (seq, id));
                    return;
                }
                let most = if first.message.kind.rides_with_its_own() { group.queue.len() } else { 1 };
                let riding = rides.then_some(most);
                let line = Line { lane, backfill: group.queue.iter().all(|queued| queued.message.backfill) };
                group.place = Place::Ready(line, seq, riding);
                let ready = &mut self.ready[line];
                ready.set(rides).insert((seq, id));
                ready.riding += riding.unwrap_or_default();
            }
        }
    }

    /// Lets go of the identifiers of messages that are gone, where a group is never empty and has come by many.
    fn tidy(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if group.calls > 0 || group.identifiers.len() <= IDENTIFIERS * (group.queue.len() + 1) {
            return;
        }
        let all = group.queue.iter().flat_map(|queued| self.aliases.expand(&queued.identifiers));
        let all: HashSet<Identifier> = all.collect();
        group.identifiers.retain(|identifier| {
            let kept = all.contains(identifier);
            if !kept {
                self.by_identifier.remove(identifier);
            }
            kept
        });
    }

    pub(super) fn displace(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        match std::mem::take(&mut group.place) {
            Place::None => false,
            Place::Ready(line, seq, riding) => {
                let ready = &mut self.ready[line];
                ready.riding -= riding.unwrap_or_default();
                ready.set(riding.is_some()).remove(&(seq, id))
            }
            Place::Direct(lane, seq) => self.direct.remove(lane, (seq, id)),
            Place::Sleeping(at) => self.sleeping.remove(&(at, id)),
        };
    }

    /// One of a group's calls is no longer under way. Returns which group it is by now.
    pub(super) fn call_ended(&mut self, group: GroupId) -> GroupId {
        let mut id = group;
        while let Some((into, calls)) = self.joined.get_mut(&id) {
            let joined = id;
            id = *into;
            *calls -= 1;
            if *calls == 0 {
                self.joined.remove(&joined);
            }
        }
        if let Some(group) = self.groups.get_mut(&id) {
            group.calls -= 1;
        }
        id
    }
}
