//! Jobs that do something with each of many entries: in time like those that import profiles, but what failed is part of
//! the job itself.

mod document;

use std::collections::{HashMap, VecDeque};

use hyper::StatusCode;
use jiff::Timestamp;

use crate::bulk::BulkSettings;
use crate::check::Entry;
use crate::error::ApiError;
use crate::store::{self, Store};
use crate::time::now;
use crate::work::Work;

/// An entry of a job, and what is known to be wrong with it.
pub struct Item {
    pub entry: Entry,
    /// Why nothing will be done with it, whatever the store says.
    pub refused: Option<ApiError>,
}

/// Why nothing could be done with an entry.
struct Failure {
    id: String,
    error: ApiError,
}

/// What came of an entry.
enum Outcome {
    Done,
    /// There was nothing to do: a suppression to lift of somebody who is unknown.
    Skipped,
}

/// One job.
pub struct Batch {
    id: String,
    work: Work,
    created_us: u64,
    created: Timestamp,
    is_started: bool,
    completed: Option<Timestamp>,
    /// Entries not yet taken, in the order of the request.
    waiting: VecDeque<Item>,
    total: usize,
    done: usize,
    skipped: usize,
    failures: Vec<Failure>,
    receipt: u64,
}

/// All such jobs since the last reset.
pub struct Batches {
    random: fastrand::Rng,
    batches: Vec<Batch>,
    by_id: HashMap<String, usize>,
    /// Those that are not complete, in the order of their creation.
    open: Vec<usize>,
}

impl Batches {
    pub fn new(seed: u64) -> Self {
        Self::with_random(fastrand::Rng::with_seed(seed))
    }

    fn with_random(random: fastrand::Rng) -> Self {
        Self { random, batches: Vec::new(), by_id: HashMap::new(), open: Vec::new() }
    }

    pub fn clear(&mut self) {
        *self = Self::with_random(self.random.fork());
    }

    /// A new job, unless too many are under way.
    pub fn create(
        &mut self,
        work: Work,
        items: Vec<Item>,
        receipt: u64,
        now_us: u64,
        now: Timestamp,
    ) -> Result<&Batch, ApiError> {
        let limited = self.open.iter().filter(|&&index| self.batches[index].work.is_limited_with(work));
        if let Some(max) = work.max_jobs().filter(|max| limited.count() >= *max) {
            let detail = format!("At most {max} such jobs can be in progress at one time.");
            return Err(ApiError::new(StatusCode::CONFLICT, "too_many_jobs", "Conflict.", detail));
        }
        let id = store::ulid(&mut self.random);
        let index = self.batches.len();
        self.by_id.insert(id.clone(), index);
        self.open.push(index);
        self.batches.push(Batch {
            id,
            work,
            created_us: now_us,
            created: now,
            is_started: false,
            completed: None,
            total: items.len(),
            waiting: items.into(),
            done: 0,
            skipped: 0,
            failures: Vec::new(),
            receipt,
        });
        Ok(&self.batches[index])
    }

    /// The job with this id, if it does this work.
    pub fn get(&self, work: Work, id: &str) -> Option<&Batch> {
        self.by_id.get(id).map(|&index| &self.batches[index]).filter(|batch| batch.work == work)
    }

    /// Has every job do what is due.
    pub fn advance(&mut self, settings: &BulkSettings, store: &mut Store, now_us: u64) {
        if self.open.is_empty() {
            return;
        }
        let now = now();
        let Self { random, batches, open, .. } = self;
        open.retain(|&index| {
            let batch = &mut batches[index];
            if let Some(due) = settings.due(batch.total, now_us.saturating_sub(batch.created_us)) {
                batch.work(due, store, random, now);
            }
            batch.completed.is_none()
        });
    }
}

impl Batch {
    /// Takes entries until so many are taken.
    fn work(&mut self, due: usize, store: &mut Store, random: &mut fastrand::Rng, now: Timestamp) {
        self.is_started = true;
        while self.taken() < due {
            let at = format!("{}/{}", self.work.entries_at(), self.taken());
            let Some(item) = self.waiting.pop_front() else { break };
            match self.take(item, &at, store, now) {
                Ok(Outcome::Done) => self.done += 1,
                Ok(Outcome::Skipped) => self.skipped += 1,
                Err(error) => self.failures.push(Failure { id: store::uuid(random), error }),
            }
        }
        if self.waiting.is_empty() {
            self.completed = Some(now);
        }
    }

    /// Does what is to be done with an entry; `at` is where it was in the request.
    fn take(&self, item: Item, at: &str, store: &mut Store, now: Timestamp) -> Result<Outcome, ApiError> {
        if let Some(error) = item.refused {
            return Err(error);
        }
        match item.entry {
            Entry::Suppress(email) => store.suppress(email, self.receipt, now),
            Entry::Unsuppress(email) if store.unsuppress(&email, self.receipt, now) => {}
            Entry::Unsuppress(_) => return Ok(Outcome::Skipped),
            Entry::Code(draft) => {
                store.coupons.create_code(draft).map_err(|error| error.under(at))?;
            }
            Entry::Thing(act, draft) => {
                store.catalog.perform(act, draft, now).map_err(|error| error.under(at))?;
            }
        }
        Ok(Outcome::Done)
    }

    fn taken(&self) -> usize {
        self.total - self.waiting.len()
    }
}

#[cfg(test)]
mod tests;
