//! What waits in the outbox for import jobs of Klaviyo's.
//!
//! A message whose key a job has locked is parked: it takes no room in memory, and what is behind it of other keys is read.
//! When the jobs are over it is read again by its number, and until then whatever shares an identifier with it is parked
//! behind it, so none overtakes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::Class;
use crate::import::ImportId;
use crate::key::{Counts, Identifier};

/// Messages of an account that may be parked. After a crash nobody knows that they were not sent, so events among them
/// go in calls of one: for a quarter of an hour, at Klaviyo's limit.
pub const MOST: usize = 50_000;

#[derive(Debug)]
struct Parked {
    class: Class,
    known_by: Box<[Identifier]>,
}

#[derive(Debug, Default)]
pub struct Parking {
    /// By how many jobs.
    locked: Counts,
    jobs: HashMap<ImportId, Arc<[Identifier]>>,
    messages: BTreeMap<i64, Parked>,
    /// What they are known by.
    known_by: Counts,
    /// Some may have come due.
    stirred: bool,
    /// Since [`Parking::takes_again`] was last true.
    has_let_go: bool,
    /// Classes of those that were due and found no room.
    short: HashSet<Class>,
    /// What those were known by that were refused since it was last asked which are due.
    refused: HashSet<Identifier>,
}

impl Parking {
    /// A job has locked these.
    pub fn lock(&mut self, job: ImportId, locks: Arc<[Identifier]>) {
        self.locked.take(&locks);
        self.jobs.insert(job, locks);
    }

    /// A job is over.
    pub fn unlock(&mut self, job: ImportId) {
        let Some(locks) = self.jobs.remove(&job) else { return };
        self.locked.give_back(&locks);
        self.let_go();
    }

    fn let_go(&mut self) {
        (self.stirred, self.has_let_go) = (true, true);
    }

    /// Whether what found no place here has one now, or need not wait any more: something was let go, and all that was
    /// due for that has been read.
    pub fn takes_again(&mut self) -> bool {
        !self.stirred && std::mem::take(&mut self.has_let_go)
    }

    pub fn is_idle(&self) -> bool {
        self.locked.is_empty() && self.messages.is_empty()
    }

    /// Whether what is known by these must wait for a job, or for what does.
    pub fn concerns(&self, known_by: &[Identifier]) -> bool {
        self.locked.contain_any(known_by) || self.known_by.contain_any(known_by)
    }

    pub fn holds(&self, seq: i64) -> bool {
        self.messages.contains_key(&seq)
    }

    pub fn lowest(&self) -> Option<i64> {
        self.messages.keys().next().copied()
    }

    pub fn has_room(&self) -> bool {
        self.messages.len() < MOST
    }

    pub fn park(&mut self, seq: i64, class: Class, known_by: Vec<Identifier>) {
        // Nothing is in its way any more.
        self.stirred |= !self.concerns(&known_by);
        self.known_by.take(&known_by);
        self.messages.insert(seq, Parked { class, known_by: known_by.into() });
    }

    /// A message is parked no longer.
    pub fn unpark(&mut self, seq: i64) {
        if let Some(parked) = self.messages.remove(&seq) {
            self.known_by.give_back(&parked.known_by);
            // Others may have waited for it.
            self.let_go();
        }
    }

    /// What others wait for has left the memory.
    pub fn released(&mut self, by: Identifier) {
        self.stirred |= self.known_by.contain(&by);
    }

    /// Parked messages that no job and no older one is in the way of, oldest first and so many at the most, where there is
    /// room for their class.
    pub fn due(
        &mut self,
        room: impl Fn(&Class) -> bool,
        much: impl Fn(&Class) -> bool,
        most: usize,
    ) -> Vec<i64> {
        if !self.stirred && !self.short.iter().any(much) {
            return Vec::new();
        }
        self.stirred = false;
        self.short.clear();
        self.refused.clear();
        let mut waiting: HashSet<Identifier> = HashSet::new();
        let mut due = Vec::new();
        for (seq, Parked { class, known_by }) in &self.messages {
            let waits = self.locked.contain_any(known_by) || known_by.iter().any(|by| waiting.contains(by));
            if !waits && room(class) {
                due.push(*seq);
                if due.len() == most {
                    break;
                }
                continue;
            }
            if !waits {
                self.short.insert(*class);
            }
            waiting.extend(known_by);
        }
        due
    }

    /// One that is due has been read again: whether it may leave, where there is `room` for what it is now, and nobody in
    /// memory it must wait for.
    pub fn leaves(&mut self, seq: i64, class: Class, room: bool, waits: bool) -> bool {
        let Some(parked) = self.messages.get_mut(&seq) else { return false };
        if room && !waits && !parked.known_by.iter().any(|by| self.refused.contains(by)) {
            self.unpark(seq);
            return true;
        }
        parked.class = class;
        self.refused.extend(&parked.known_by);
        if !room {
            self.short.insert(class);
        }
        false
    }
}
