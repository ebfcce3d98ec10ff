//! Messages that say themselves which call they ask for. They go one by one, each in the lane of its endpoint, whatever else
//! that lane carries; and there can be many endpoints, so lanes are numbered as they are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use klaviyo::{ENDPOINTS, Endpoint};

use super::{GroupId, Next, Queue};

/// The groups whose oldest message is one of these and may go, by its lane and its seq.
pub(super) struct Direct {
    /// By their number: those in use anyway, and behind them others that messages have asked for.
    endpoints: Vec<&'static Endpoint>,
    ready: BTreeMap<usize, BTreeSet<(i64, GroupId)>>,
}

impl Default for Direct {
    fn default() -> Self {
        Self { endpoints: ENDPOINTS.to_vec(), ready: BTreeMap::new() }
    }
}

impl Direct {
    /// The number of an endpoint, which is that of its lane.
    pub fn number(&mut self, endpoint: &'static Endpoint) -> usize {
        let known = self.endpoints.iter().position(|known| known.name == endpoint.name);
        known.unwrap_or_else(|| {
            self.endpoints.push(endpoint);
            self.endpoints.len() - 1
        })
    }

    /// Of another life, with the same numbers.
    pub fn emptied(&mut self) -> Self {
        Self { endpoints: std::mem::take(&mut self.endpoints), ready: BTreeMap::new() }
    }

    pub fn insert(&mut self, lane: usize, group: (i64, GroupId)) {
        self.ready.entry(lane).or_default().insert(group);
    }

    pub fn remove(&mut self, lane: usize, group: (i64, GroupId)) -> bool {
        let Some(ready) = self.ready.get_mut(&lane) else { return false };
        let was = ready.remove(&group);
        if ready.is_empty() {
            self.ready.remove(&lane);
        }
        was
    }
}

impl Queue {
    /// The endpoints by their numbers, which are those of the lanes: more and more of them, in the order they were needed.
    pub fn endpoints(&self) -> &[&'static Endpoint] {
        &self.direct.endpoints
    }

    /// The number of an endpoint.
    pub fn number(&mut self, endpoint: &'static Endpoint) -> usize {
        self.direct.number(endpoint)
    }

    /// The lanes for which messages wait that ask for their call themselves and may go.
    pub fn direct_lanes(&self) -> Vec<usize> {
        self.direct.ready.keys().copied().collect()
    }

    /// How many keys have such a message for a lane.
    pub fn direct_ready(&self, lane: usize) -> usize {
        self.direct.ready.get(&lane).map_or(0, BTreeSet::len)
    }

    /// Whether the oldest of these of a lane must not go again where nobody knows what has come of it, and has not yet.
    pub fn is_next_direct_the_last(&self, lane: usize) -> bool {
        let first = self.direct.ready.get(&lane).and_then(BTreeSet::first);
        let first = first.and_then(|(_, id)| self.groups.get(id)?.queue.front());
        first.is_some_and(|queued| queued.stops && !queued.message.may_be_done)
    }

    /// Takes the oldest of these of a lane.
    pub fn next_direct(&mut self, lane: usize, now: Instant) -> Option<Next> {
        let (_, id) = self.direct.ready.get(&lane)?.first().copied()?;
        self.next_of(id, lane, now)
    }
}
