//! States of profiles: which of them merge into one call, and that none goes when a newer one has been accepted.

use std::time::Instant;

use super::{Queue, Queued};
use crate::key::{self, Identifier};
use crate::message::Message;

/// States merged into one call at the most: bounds what one refusal can make us send again one by one.
const MERGED: usize = 100;

impl Queue {
    /// A message that has left the memory was accepted. Returns the same as [`Queue::state_of`].
    pub fn accepted(&mut self, message: &Message) -> Vec<String> {
        let identifiers = key::identifiers(&message.key);
        if message.carries_state {
            self.remember_newest(&identifiers, message.seq);
        }
        self.state_of_key(message, &identifiers)
    }

    pub(super) fn remember_newest(&mut self, identifiers: &[Identifier], seq: i64) {
        for identifier in identifiers {
            let known = self.newest.get(identifier).copied().unwrap_or(i64::MIN);
            self.newest.insert(*identifier, known.max(seq));
            let group = self.by_identifier.get(identifier).and_then(|id| self.groups.get_mut(id));
            let older = group.into_iter().flat_map(|group| &mut group.queue);
            older
                .take_while(|queued| queued.message.seq < seq)
                .filter(|queued| queued.message.redriven)
                // Several profiles are one group where they share an identifier.
                .filter(|queued| self.aliases.expand(&queued.identifiers).contains(identifier))
                .for_each(|queued| queued.newer = queued.newer.max(Some(seq)));
        }
    }

    /// Keeps with a redriven message that a newer state is remembered, which may be forgotten before its turn.
    pub(super) fn keep_newer(&self, queued: &mut Queued) {
        if queued.message.redriven {
            queued.newer = self.newer(queued);
        }
    }

    /// The number of a newer state of the same profile that has been accepted, where one is remembered.
    pub fn newer(&self, queued: &Queued) -> Option<i64> {
        if !queued.message.kind.is_state() {
            return None;
        }
        let all = self.aliases.expand(&queued.identifiers);
        let known = all.iter().filter_map(|identifier| self.newest.get(identifier)).max();
        known.copied().max(queued.newer).filter(|newest| *newest > queued.message.seq)
    }

    /// All identifiers known of the profile whose state an accepted message changed.
    pub fn state_of(&self, queued: &Queued) -> Vec<String> {
        self.state_of_key(&queued.message, &queued.identifiers)
    }

    fn state_of_key(&self, message: &Message, identifiers: &[Identifier]) -> Vec<String> {
        if !message.carries_state {
            return Vec::new();
        }
        let mut all = message.key.clone();
        for identifier in self.aliases.expand(identifiers) {
            all.extend(self.texts.get(&identifier).map(|text| text.to_string()));
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// One payload for a message and as many of those behind it as merge into it, where any do, and how many.
pub(super) fn merged<'a>(
    first: &'a Queued,
    behind: impl Iterator<Item = &'a Queued>,
    now: Instant,
) -> (Option<String>, usize) {
    let kind = first.message.kind;
    let (mut payload, mut more): (Option<String>, usize) = (None, 0);
    for later in behind {
        let before = payload.as_deref().unwrap_or(&first.message.payload);
        let may = !first.alone
            && !later.alone
            && more + 1 < MERGED
            && later.message.kind.name() == kind.name()
            && !later.message.redriven
            && later.not_before.is_none_or(|at| at <= now);
        let merged = if may { kind.merge(before, &later.message.payload) } else { None };
        // The body adds a constant frame to the payload.
        let most = kind.endpoint().map_or(0, |endpoint| endpoint.max_body);
        let Some(merged) = merged.filter(|merged| merged.len() + 64 <= most) else { break };
        payload = Some(merged);
        more += 1;
    }
    (payload, more)
}
