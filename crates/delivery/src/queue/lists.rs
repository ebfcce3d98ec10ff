//! Which lists have a name: asked once, and then known for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use klaviyo::GET_LISTS;

use super::{Group, GroupId, Queue, Queued};
use crate::key;
use crate::list::{name_in, with_id, without_id};
use crate::question::Learned;
use crate::recent::Recent;

/// Names that are remembered, twice each. A shop has dozens of lists.
const REMEMBERED: usize = 1_000;

pub struct Names {
    /// Klaviyo's ids, by name, and when it was asked.
    known: Recent<String, (String, Instant)>,
    /// How long an answer is good.
    pub lasts: Duration,
    /// When a list was last made, renamed or deleted, as far as is known here.
    changed_at: Option<Instant>,
}

impl Names {
    pub fn new(lasts: Duration) -> Self {
        Self { known: Recent::new(REMEMBERED), lasts, changed_at: None }
    }

    /// Whether an answer to what was asked then may be of before a change.
    pub fn may_have_changed_since(&self, asked: Instant) -> bool {
        self.changed_at.is_some_and(|changed| asked <= changed)
    }

    /// Tells a message which list it means, where that is known. Whether it was told.
    ///
    /// What is to become of a list itself is asked when its turn has come: by then what is before it may have given the name
    /// to another.
    pub fn tell(&self, queued: &mut Queued, now: Instant) -> bool {
        if queued.message.kind.renames() {
            return false;
        }
        let known = name_in(&queued.message.payload).and_then(|name| self.known.get(&name));
        let Some((id, asked)) = known else { return false };
        if now.saturating_duration_since(*asked) >= self.lasts {
            return false;
        }
        queued.was_told(&GET_LISTS, *asked, with_id(&queued.message.payload, id));
        true
    }
}

impl Queue {
    /// Klaviyo has said which list has a name. Whoever waits to ask the same need not.
    pub fn learn(&mut self, Learned { name, id }: Learned, asked: Instant, now: Instant) {
        self.names.known.insert(name, (id, asked));
        let Self { names, groups, .. } = self;
        let changed = change_waiting(groups, |queued| {
            let told = names.tell(queued, now);
            if told {
                queued.not_before = None;
            }
            told
        });
        changed.into_iter().for_each(|group| self.place(group, now));
    }

    /// A list was made, or has another name, or is gone; or all are another account's. Whoever has been told of one asks
    /// again, and whoever waits for one.
    pub fn forget_names(&mut self, now: Instant) {
        self.names = Names { changed_at: Some(now), ..Names::new(self.names.lasts) };
        let changed = change_waiting(&mut self.groups, |queued| {
            let untold = without_id(&queued.message.payload);
            let named = untold.is_some() || name_in(&queued.message.payload).is_some();
            if untold.is_some() {
                queued.was_told(&GET_LISTS, now, untold);
                queued.forget_told();
            }
            if named {
                queued.not_before = None;
            }
            named
        });
        changed.into_iter().for_each(|group| self.place(group, now));
    }

    /// Whether something waits, or is under way, that has an identifier.
    pub fn has(&self, identifier: &str) -> bool {
        let identifiers = key::identifiers(&[identifier.to_owned()]);
        identifiers.iter().any(|identifier| self.by_identifier.contains_key(identifier))
    }
}

/// Changes what waits, as `change` does, which says of each whether it has. Returns the groups in which it has any.
fn change_waiting(
    groups: &mut HashMap<GroupId, Group>,
    mut change: impl FnMut(&mut Queued) -> bool,
) -> Vec<GroupId> {
    let mut changed = Vec::new();
    for (id, group) in groups {
        let mut any = false;
        for queued in &mut group.queue {
            any |= change(queued);
        }
        changed.extend(any.then_some(*id));
    }
    changed
}
