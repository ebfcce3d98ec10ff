//! Jobs that import profiles: queued for a while, then at work, then complete.
//!
//! Nothing runs on a clock of its own: whoever takes the sandbox's lock first has the jobs do what they would have
//! done by then, so that nobody sees a job late.

mod document;

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::bulk::BulkSettings;
use crate::check::ImportItem;
use crate::error::ApiError;
use crate::store::{self, Store};
use crate::time::now;
pub use document::expiry;

/// Where a profile is in the body that creates a job, before its number.
pub const PROFILES: &str = "/data/attributes/profiles/data";

/// A profile of a job, and what is known to be wrong with it.
pub struct Item {
    pub import: ImportItem,
    /// Why it will not be imported, whatever the store says.
    pub refused: Option<ApiError>,
}

/// A profile that could not be imported.
struct Failure {
    id: String,
    error: ApiError,
    payload: Box<RawValue>,
}

/// One job.
pub struct Job {
    id: String,
    created_us: u64,
    created: Timestamp,
    started: Option<Timestamp>,
    completed: Option<Timestamp>,
    /// Profiles not yet taken, in the order of the request.
    waiting: VecDeque<Item>,
    total: usize,
    imported: usize,
    failures: Vec<Failure>,
    receipt: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Queued,
    Processing,
    Complete,
    /// Somebody ended it; only of those that send a campaign.
    Cancelled,
}

impl Status {
    /// That of a job which has begun its work, or has ended it.
    pub fn of(started: bool, completed: bool) -> Self {
        match (started, completed) {
            (_, true) => Self::Complete,
            (true, false) => Self::Processing,
            (false, false) => Self::Queued,
        }
    }
}

/// A job as the control path shows it.
#[derive(Serialize)]
pub struct JobView<'a> {
    id: &'a str,
    status: Status,
    total_count: usize,
    completed_count: usize,
    failed_count: usize,
    /// The receipt of the request that made it.
    n: u64,
}

/// All jobs since the last reset.
pub struct Jobs {
    random: fastrand::Rng,
    jobs: Vec<Job>,
    by_id: HashMap<String, usize>,
    /// Those that are not complete.
    open: Vec<usize>,
}

impl Jobs {
    pub fn new(seed: u64) -> Self {
        Self::with_random(fastrand::Rng::with_seed(seed))
    }

    fn with_random(random: fastrand::Rng) -> Self {
        Self { random, jobs: Vec::new(), by_id: HashMap::new(), open: Vec::new() }
    }

    pub fn clear(&mut self) {
        *self = Self::with_random(self.random.fork());
    }

    pub fn create(&mut self, items: Vec<Item>, receipt: u64, now_us: u64, now: Timestamp) -> &Job {
        let id = store::ulid(&mut self.random);
        let index = self.jobs.len();
        self.by_id.insert(id.clone(), index);
        self.open.push(index);
        self.jobs.push(Job {
            id,
            created_us: now_us,
            created: now,
            started: None,
            completed: None,
            total: items.len(),
            waiting: items.into(),
            imported: 0,
            failures: Vec::new(),
            receipt,
        });
        &self.jobs[index]
    }

    pub fn get(&self, id: &str) -> Option<&Job> {
        self.by_id.get(id).map(|&index| &self.jobs[index])
    }

    /// Those not at their end, or all, the latest first.
    fn latest(&self, open: bool) -> Vec<&Job> {
        self.jobs.iter().rev().filter(|job| !open || job.completed.is_none()).collect()
    }

    pub fn views(&self) -> Vec<JobView<'_>> {
        self.jobs.iter().map(Job::view).collect()
    }

    /// Has every job do what is due.
    pub fn advance(&mut self, settings: &BulkSettings, store: &mut Store, now_us: u64) {
        if self.open.is_empty() {
            return;
        }
        let now = now();
        let Self { random, jobs, open, .. } = self;
        open.retain(|&index| {
            let job = &mut jobs[index];
            let due = settings.due(job.total, now_us.saturating_sub(job.created_us));
            job.work(due, store, random, now);
            job.completed.is_none()
        });
    }
}

impl Job {
    fn work(&mut self, due: Option<usize>, store: &mut Store, random: &mut fastrand::Rng, now: Timestamp) {
        let Some(due) = due else { return };
        self.started.get_or_insert(now);
        while self.taken() < due {
            let at = format!("{PROFILES}/{}", self.taken());
            let Some(item) = self.waiting.pop_front() else { break };
            self.take(item, &at, store, random, now);
        }
        if self.waiting.is_empty() {
            self.completed = Some(now);
        }
    }

    /// Imports a profile, or keeps why not; `at` is where it was in the request.
    fn take(&mut self, item: Item, at: &str, store: &mut Store, random: &mut fastrand::Rng, now: Timestamp) {
        let Item { import: ImportItem { profile, payload }, refused } = item;
        let error = match refused.or_else(|| profile.unreachable_at(at)) {
            Some(error) => error,
            None => match store.import(profile, now) {
                Ok(_) => {
                    self.imported += 1;
                    return;
                }
                Err(refusal) => refusal.to_error(at),
            },
        };
        self.failures.push(Failure { id: store::uuid(random), error, payload });
    }

    fn taken(&self) -> usize {
        self.total - self.waiting.len()
    }

    fn status(&self) -> Status {
        Status::of(self.started.is_some(), self.completed.is_some())
    }

    fn view(&self) -> JobView<'_> {
        JobView {
            id: &self.id,
            status: self.status(),
            total_count: self.total,
            completed_count: self.imported,
            failed_count: self.failures.len(),
            n: self.receipt,
        }
    }
}

#[cfg(test)]
mod tests;
