//! Which lists have a name: asked once, and then known for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use klaviyo::GET_LISTS;

use super::{Group, GroupId, Queue, Queued};
use crate::key;
use crate::list::{name_in, with_id, without_id};
use crate::message::Message;
use crate::question::Learned;
use crate::recent::Recent;

/// Names that are remembered, twice each. A shop has dozens of lists.
const REMEMBERED: usize = 1_000;

/// How long after a change Klaviyo may not find a list by its name yet.
const SETTLES: Duration = Duration::from_secs(10);

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

    /// Whether Klaviyo may not have found, by then, what was changed.
    pub fn may_be_settling(&self, asked: Instant) -> bool {
        self.changed_at.is_some_and(|changed| asked <= changed + SETTLES)
    }

    /// Tells a message which list it means, where that is known. Whether it was told.
    ///
    /// What is to become of a list itself is asked when its turn has come: by then what is before it may have given the name
    /// to another.
    pub fn tell(&self, queued: &mut Queued, now: Instant) -> bool {
        // Nor has most that comes by here anything to ask, and its payload may be long.
        if queued.questions.is_empty() || queued.message.kind.renames() {
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
    /// Klaviyo has said which list has a name. Whoever waits to ask the same need not, or may again.
    pub fn learn(&mut self, learned: Learned, asked: Instant, now: Instant) {
        let Learned { name, id } = learned;
        self.names.known.insert(name.clone(), (id, asked));
        let Self { names, groups, .. } = self;
        let changed = change_waiting(groups, |queued| {
            let asks = !queued.questions.is_empty() && !queued.message.kind.renames();
            let waits = asks && name_in(&queued.message.payload).is_some_and(|asked| asked == name);
            if waits {
                names.tell(queued, now);
                queued.not_before = None;
            }
            waits
        });
        changed.into_iter().for_each(|group| self.place(group, now));
    }

    /// A list has that name from now on; what is known of other names is as good as before.
    pub fn made(&mut self, learned: Learned, now: Instant) {
        self.names.changed_at = Some(now);
        self.learn(learned, now, now);
    }

    /// A list has another name, or is gone, or may be; or all are another account's. Whoever has been told of one asks again.
    pub fn forget_names(&mut self, now: Instant) {
        self.names = Names { changed_at: Some(now), ..Names::new(self.names.lasts) };
        let changed = change_waiting(&mut self.groups, Queued::forget_list);
        changed.into_iter().for_each(|group| self.place(group, now));
    }

    /// Whether something waits, or is under way, that has an identifier.
    pub fn has(&self, identifier: &str) -> bool {
        let identifiers = key::identifiers(&[identifier.to_owned()]);
        identifiers.iter().any(|identifier| self.by_identifier.contains_key(identifier))
    }
}

impl Queued {
    /// What it was told of a list by its name is not good any more. Whether it was told. What may have been done was done to
    /// the list that it was told, and so was what has become of one.
    pub fn forget_list(&mut self) -> bool {
        let Message { kind, may_be_done, .. } = self.message;
        let keeps = may_be_done || kind.renames() || kind.questions().is_empty();
        if keeps {
            return false;
        }
        let Some(payload) = without_id(&self.message.payload) else { return false };
        self.forget_told();
        self.set_payload(payload);
        true
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
