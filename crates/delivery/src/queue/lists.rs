//! Which lists have a name: asked once, and then known for a while.

use std::time::{Duration, Instant};

use klaviyo::GET_LISTS;

use super::{GroupId, Queue, Queued};
use crate::key;
use crate::list::{name_in, with_id};
use crate::question::Learned;
use crate::recent::Recent;

/// Names that are remembered, twice each. A shop has dozens of lists.
const REMEMBERED: usize = 1_000;

pub struct Names {
    /// Klaviyo's ids, by name, and when it was asked.
    known: Recent<String, (String, Instant)>,
    /// How long an answer is good.
    pub lasts: Duration,
}

impl Names {
    pub fn new(lasts: Duration) -> Self {
        Self { known: Recent::new(REMEMBERED), lasts }
    }

    /// Tells a message which list it means, where that is known.
    pub fn tell(&self, queued: &mut Queued, now: Instant) {
        let known = name_in(&queued.message.payload).and_then(|name| self.known.get(&name));
        if let Some((id, asked)) = known
            && now.saturating_duration_since(*asked) < self.lasts
        {
            let payload = with_id(&queued.message.payload, id);
            queued.was_told(&GET_LISTS, *asked, payload);
        }
    }
}

impl Queue {
    /// Klaviyo has said which list has a name. Whoever waits to ask the same need not.
    pub fn learn(&mut self, Learned { name, id }: Learned, asked: Instant, now: Instant) {
        self.names.known.insert(name, (id, asked));
        let mut groups: Vec<GroupId> = Vec::new();
        for (group, waiting) in &mut self.groups {
            for queued in waiting.queue.iter_mut().filter(|queued| queued.asks(now).is_some()) {
                self.names.tell(queued, now);
                groups.push(*group);
            }
        }
        groups.into_iter().for_each(|group| self.place(group, now));
    }

    /// A list has another name, or is gone.
    pub fn forget_names(&mut self) {
        self.names.known = Recent::new(REMEMBERED);
    }

    /// Whether something waits, or is under way, that has an identifier.
    pub fn has(&self, identifier: &str) -> bool {
        let identifiers = key::identifiers(&[identifier.to_owned()]);
        identifiers.iter().any(|identifier| self.by_identifier.contains_key(identifier))
    }
}
