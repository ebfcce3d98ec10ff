//! Jobs that suppress addresses, or lift their suppressions: in time like those that import profiles, but an item is only
//! an address, and none fails.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::bulk::BulkSettings;
use crate::call::Call;
use crate::jobs::Status;
use crate::store::{self, Store, rfc3339};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    Suppress,
    Unsuppress,
}

impl Work {
    /// The resource that such a job is.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Suppress => "profile-suppression-bulk-create-job",
            Self::Unsuppress => "profile-suppression-bulk-delete-job",
        }
    }

    /// The call that makes one.
    const fn call(self) -> Call {
        match self {
            Self::Suppress => Call::Suppress,
            Self::Unsuppress => Call::Unsuppress,
        }
    }
}

/// One job.
pub struct SuppressionJob {
    id: String,
    work: Work,
    created_us: u64,
    created: Timestamp,
    is_started: bool,
    completed: Option<Timestamp>,
    /// Addresses not yet taken, in the order of the request.
    waiting: VecDeque<String>,
    total: usize,
    done: usize,
    /// Addresses that nobody has.
    skipped: usize,
    receipt: u64,
}

/// All such jobs since the last reset.
pub struct SuppressionJobs {
    random: fastrand::Rng,
    jobs: Vec<SuppressionJob>,
    by_id: HashMap<String, usize>,
    /// Those that are not complete, in the order of their creation.
    open: Vec<usize>,
}

impl SuppressionJobs {
    pub fn new(seed: u64) -> Self {
        Self::with_random(fastrand::Rng::with_seed(seed))
    }

    fn with_random(random: fastrand::Rng) -> Self {
        Self { random, jobs: Vec::new(), by_id: HashMap::new(), open: Vec::new() }
    }

    pub fn clear(&mut self) {
        *self = Self::with_random(self.random.fork());
    }

    pub fn create(
        &mut self,
        work: Work,
        emails: Vec<String>,
        receipt: u64,
        now_us: u64,
        now: Timestamp,
    ) -> &SuppressionJob {
        let id = store::ulid(&mut self.random);
        let index = self.jobs.len();
        self.by_id.insert(id.clone(), index);
        self.open.push(index);
        self.jobs.push(SuppressionJob {
            id,
            work,
            created_us: now_us,
            created: now,
            is_started: false,
            completed: None,
            total: emails.len(),
            waiting: emails.into(),
            done: 0,
            skipped: 0,
            receipt,
        });
        &self.jobs[index]
    }

    /// The job with this id, if it does this work.
    pub fn get(&self, work: Work, id: &str) -> Option<&SuppressionJob> {
        self.by_id.get(id).map(|&index| &self.jobs[index]).filter(|job| job.work == work)
    }

    /// Has every job do what is due.
    pub fn advance(&mut self, settings: &BulkSettings, store: &mut Store, now_us: u64) {
        if self.open.is_empty() {
            return;
        }
        let now = Timestamp::now();
        let Self { jobs, open, .. } = self;
        open.retain(|&index| {
            let job = &mut jobs[index];
            if let Some(due) = settings.due(job.total, now_us.saturating_sub(job.created_us)) {
                job.work(due, store, now);
            }
            job.completed.is_none()
        });
    }
}

impl SuppressionJob {
    /// Takes addresses until so many are taken.
    fn work(&mut self, due: usize, store: &mut Store, now: Timestamp) {
        self.is_started = true;
        while self.done + self.skipped < due {
            let Some(email) = self.waiting.pop_front() else { break };
            let is_somebodys = match self.work {
                Work::Suppress => {
                    store.suppress(email, self.receipt, now);
                    true
                }
                Work::Unsuppress => store.unsuppress(&email, self.receipt),
            };
            if is_somebodys {
                self.done += 1;
            } else {
                self.skipped += 1;
            }
        }
        if self.waiting.is_empty() {
            self.completed = Some(now);
        }
    }

    /// The answer to the job's creation and to a question for it (`PostBulkProfileSuppressionsCreateJobResponse` and its
    /// like).
    pub fn document(&self, api_url: &str) -> Value {
        let links = json!({"self": format!("{api_url}{}/{}", self.work.call().path(), self.id)});
        json!({
            "data": {
                "type": self.work.resource(),
                "id": self.id,
                "attributes": {
                    "status": Status::of(self.is_started, self.completed.is_some()),
                    "created_at": rfc3339(self.created),
                    "total_count": self.total,
                    "completed_count": self.done,
                    "completed_at": self.completed.map(rfc3339),
                    "skipped_count": self.skipped,
                },
                "links": links,
            },
            "links": links,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::Repeats;

    const SETTINGS: BulkSettings =
        BulkSettings { repeats: Repeats::AtOnce, queued_ms: 10, processing_ms: 100, original_payloads: true };

    fn emails(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| format!("{name}@example.com")).collect()
    }

    fn suppressions(store: &Store) -> Vec<Value> {
        let profiles = serde_json::to_value(store.profiles()).unwrap();
        profiles.as_array().unwrap().iter().map(|profile| profile["suppressions"].clone()).collect()
    }

    #[test]
    fn a_job_takes_its_addresses_in_time_and_in_order() {
        let (mut jobs, mut store) = (SuppressionJobs::new(1), Store::new(1));
        let id = jobs.create(Work::Suppress, emails(&["a", "b"]), 7, 5_000, Timestamp::now()).id.clone();
        for (now_us, expected) in [
            (14_999, json!(["queued", 0])),
            (15_000, json!(["processing", 0])),
            (65_000, json!(["processing", 1])),
            (115_000, json!(["complete", 2])),
        ] {
            jobs.advance(&SETTINGS, &mut store, now_us);
            let document = jobs.get(Work::Suppress, &id).unwrap().document("http://k");
            let attributes = &document["data"]["attributes"];
            let found = json!([attributes["status"], attributes["completed_count"]]);
            assert_eq!(found, expected, "at {now_us}");
            assert_eq!(json!(store.profile_count()), expected[1], "at {now_us}");
        }
        assert_eq!(suppressions(&store), [json!(["USER_SUPPRESSED"]), json!(["USER_SUPPRESSED"])]);
        assert!(jobs.get(Work::Unsuppress, &id).is_none(), "of the other kind");
    }

    #[test]
    fn lifting_skips_whom_nobody_knows_and_comes_after_what_was_before() {
        let (mut jobs, mut store) = (SuppressionJobs::new(1), Store::new(1));
        jobs.create(Work::Suppress, emails(&["a", "b", "a"]), 7, 0, Timestamp::now());
        let id = jobs.create(Work::Unsuppress, emails(&["x", "b"]), 8, 0, Timestamp::now()).id.clone();
        jobs.advance(&SETTINGS, &mut store, 1_000_000);
        assert_eq!(suppressions(&store), [json!(["USER_SUPPRESSED"]), json!([])]);
        let document = jobs.get(Work::Unsuppress, &id).unwrap().document("http://k");
        let attributes = &document["data"]["attributes"];
        assert_eq!(
            json!([attributes["total_count"], attributes["completed_count"], attributes["skipped_count"]]),
            json!([2, 1, 1])
        );
        assert_eq!(
            document["data"]["links"]["self"],
            format!("http://k/api/profile-suppression-bulk-delete-jobs/{id}")
        );
        let log = serde_json::to_value(store.consents()).unwrap();
        let changes: Vec<Value> =
            log.as_array().unwrap().iter().map(|entry| json!([entry["n"], entry["change"]])).collect();
        assert_eq!(
            changes,
            [
                json!([7, "suppressed"]),
                json!([7, "suppressed"]),
                json!([7, "suppressed"]),
                json!([8, "unsuppressed"]),
            ]
        );
    }
}
