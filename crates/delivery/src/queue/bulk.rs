//! Calls that carry many messages.

use std::ops::Bound;
use std::time::Instant;

use klaviyo::Request;

use super::{GroupId, Line, Queue, Queued, merged};
use crate::batch::{Batch, Offered, Places};
use crate::stale::StaleAction;

/// A call of many.
pub struct Bulk {
    /// In the order of the body.
    pub messages: Vec<Queued>,
    /// Whose they are, one group after the other, and how many of each.
    pub groups: Vec<(GroupId, usize)>,
    pub request: Request,
    pub places: Box<dyn Places>,
}

impl Queue {
    /// How many messages of a line may ride in a call of many now, as far as their keys are concerned. Some of them
    /// may turn out not to when they are put into one.
    pub fn riding(&self, line: Line) -> usize {
        self.ready[line].riding
    }

    /// Fills a call with the oldest messages of those lines that may ride in one, each followed by those of its key that
    /// may go with it, and what is left of it with history. None if none may.
    pub fn next_bulk(&mut self, lane: usize, mut batch: Box<dyn Batch>, now: Instant) -> Option<Bulk> {
        let (mut messages, mut groups) = (Vec::new(), Vec::new());
        // The smallest number that any of them may go with.
        let mut most = usize::MAX;
        'lines: for line in [false, true].map(|backfill| Line { lane, backfill }) {
            let mut after = Bound::Unbounded;
            while let Some(first) = self.ready[line].riders.range((after, Bound::Unbounded)).next().copied() {
                after = Bound::Excluded(first);
                let (before, (_, id)) = (messages.len(), first);
                self.displace(id);
                let full = self.fill(id, (lane, now), &mut *batch, &mut messages, &mut most);
                let taken = messages.len() - before;
                if taken > 0 {
                    self.groups.get_mut(&id)?.calls += 1;
                    groups.push((id, taken));
                }
                // A group with a call under way has no place.
                self.place(id, now);
                if full {
                    break 'lines;
                }
            }
        }
        if messages.is_empty() {
            return None;
        }
        let (request, places) = batch.finish();
        Some(Bulk { messages, groups, request, places })
    }

    /// Takes what rides of one group. Returns whether the batch is full.
    fn fill(
        &mut self,
        id: GroupId,
        (lane, now): (usize, Instant),
        batch: &mut dyn Batch,
        messages: &mut Vec<Queued>,
        most: &mut usize,
    ) -> bool {
        let stale = self.stale;
        let Some(group) = self.groups.get_mut(&id) else { return false };
        let Some(kind) = group.queue.front().map(|first| first.message.kind) else { return false };
        while let Some(next) = group.queue.front() {
            let waits = next.not_before.is_some_and(|at| at > now);
            if next.rides == 0 || waits || next.lane(now) != lane {
                return false;
            }
            if messages.len() >= next.rides.min(*most) {
                return true;
            }
            let (state, more) = match kind.is_state() {
                true => merged(next, group.queue.iter().skip(1), now),
                false => (None, 0),
            };
            let payload = state.as_ref().unwrap_or(&next.message.payload);
            let stale = stale.filter(|stale| stale.applies(&next.message));
            let history = stale.and_then(|_| kind.stale(payload));
            let aside =
                history.is_some() && stale.is_some_and(|stale| stale.action == StaleAction::DeadLetter);
            let offered = match &history {
                // Putting it aside is not the business of calls.
                Some(_) if aside => Offered::Alone,
                Some(history) => batch.offer(history, 1),
                None => batch.offer(payload, 1 + more),
            };
            match offered {
                Offered::Taken => {
                    *most = next.rides.min(*most);
                    messages.extend(group.queue.drain(..=more));
                    if !kind.rides_with_its_own() {
                        return false;
                    }
                }
                Offered::Full => return true,
                Offered::Elsewhere => return false,
                Offered::Alone => {
                    if let Some(next) = group.queue.front_mut() {
                        next.rides = 0;
                    }
                }
            }
        }
        false
    }
}
