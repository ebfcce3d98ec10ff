//! Jobs that import profiles, from before they are asked for to their end.
//!
//! A call that imports profiles makes a job, which takes them when Klaviyo has time. Until it is at its end the keys of its
//! messages are locked: a later state that went by itself could be overtaken by the job's older one. The messages
//! themselves need no memory meanwhile: they stand in the outbox, and are read again when the job has ended. What it could
//! not import is asked for then, and found among them.
//!
//! Jobs that Klaviyo has made are asked about all at once, for it allows no more questions than jobs: the list of the
//! latest hundred says how each stands. One that is not on it is asked about by itself.
//!
//! Whether a call that got no answer made a job is found out by asking which jobs are under way, once it can make none any
//! more: one of the same size that we know nothing of may be ours. Jobs that are found so are waited for and not adopted,
//! for they may be another sender's: then its messages go again, which for a state does no harm.
//!
//! Who owns the outbox writes each job down before it is asked for ([`ImportReport`]), so that a later life of ours knows
//! which keys to lock.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use klaviyo::{
    Endpoint, GET_IMPORT_ERRORS, GET_IMPORT_JOB, GET_IMPORT_JOBS, ImportError, ImportJob, JobStatus, Request,
    ask_import_errors, ask_import_job, ask_open_import_jobs, import_errors_of, import_job_of, import_jobs_of,
};

use crate::account::Policy;
use crate::key::Identifier;
use crate::verdict::{Scope, Verdict};

mod refusals;
mod report;

pub use report::{ImportEnding, ImportReport, ImportStep, PastImport, not_made};

/// Our name of a job.
pub type ImportId = [u8; 16];

/// Between two questions how a job stands, at first and at the most.
pub const FIRST_QUESTION: Duration = Duration::from_millis(500);
const LATER_QUESTIONS: Duration = Duration::from_secs(10);

/// How long Klaviyo may not say anything of a job that can be understood: refuse to, or answer what nobody can read.
pub const UNKNOWN: Duration = Duration::from_secs(300);

/// How long it may fail to say what a complete job could not import: an outage is worth waiting for, but not for ever.
const NO_ERRORS: Duration = Duration::from_secs(3_600);

/// What a job is made of.
pub struct Load {
    pub messages: usize,
    pub profiles: usize,
    /// How many of the messages may go together at the most.
    pub rides: usize,
    /// Identifiers that are locked until its end.
    pub locks: Arc<[Identifier]>,
}

/// A job under way.
pub struct Import {
    pub id: ImportId,
    pub load: Load,
    pub sent_at: SystemTime,
    pub since: Instant,
    /// When Klaviyo last said something of it, at first when it was made.
    heard_at: Instant,
    stage: Stage,
    /// When to ask next, and how often that has been done.
    ask_at: Instant,
    asked: u32,
    asking: bool,
    /// Whether nothing more is handed in that is about what it has locked. Until then it is not over: what is still on
    /// its way must find the locks.
    pub barred: bool,
}

/// What is known of a job.
enum Stage {
    /// Klaviyo may have made it. What is under way and like it, by Klaviyo's ids, as far as the list of those has been read.
    Unknown {
        like: Vec<String>,
        cursor: Option<String>,
    },
    /// One of these may be it: each is asked about until it is over.
    Like {
        like: Vec<String>,
    },
    Made {
        klaviyo_id: String,
        /// It is not among the latest.
        alone: bool,
    },
    /// It is complete; what it could not import is being read.
    Complete {
        klaviyo_id: String,
        failed: usize,
        errors: Vec<ImportError>,
        cursor: Option<String>,
    },
    Over(End),
}

/// How a job ended; what is known of what it could not import, and how much that was.
pub struct End {
    pub ending: ImportEnding,
    pub errors: Vec<ImportError>,
    pub failed: usize,
}

impl End {
    /// Whether anything may be left to do.
    pub fn is_in_doubt(&self) -> bool {
        self.ending != ImportEnding::Complete || self.failed > 0 || !self.errors.is_empty()
    }
}

impl Import {
    /// A job that Klaviyo has made, or may have made where there is no id.
    pub fn new(
        id: ImportId,
        load: Load,
        klaviyo_id: Option<String>,
        (sent_at, now): (SystemTime, Instant),
    ) -> Self {
        let stage = match klaviyo_id {
            Some(klaviyo_id) => Stage::Made { klaviyo_id, alone: false },
            None => Stage::Unknown { like: Vec::new(), cursor: None },
        };
        Self {
            id,
            load,
            sent_at,
            since: now,
            heard_at: now,
            stage,
            ask_at: now + FIRST_QUESTION,
            asked: 0,
            asking: false,
            barred: false,
        }
    }

    /// Asks again at once: there is another key.
    pub fn hurry(&mut self, now: Instant) {
        self.ask_at = self.ask_at.min(now);
    }

    /// When to ask about it by itself, and in which lane; none while such a question is under way.
    pub fn asks(&self) -> Option<(Instant, &'static Endpoint)> {
        let endpoint = match self.stage {
            Stage::Unknown { .. } => &GET_IMPORT_JOBS,
            Stage::Like { .. } | Stage::Made { alone: true, .. } => &GET_IMPORT_JOB,
            Stage::Complete { .. } => &GET_IMPORT_ERRORS,
            Stage::Made { alone: false, .. } | Stage::Over(_) => return None,
        };
        (!self.asking).then_some((self.ask_at, endpoint))
    }

    /// When to look for it among the latest.
    pub fn looks_at(&self) -> Option<Instant> {
        matches!(self.stage, Stage::Made { alone: false, .. }).then_some(self.ask_at)
    }

    /// The question, which is under way from now on.
    pub fn ask(&mut self) -> Option<Request> {
        self.asking = true;
        self.asked += 1;
        match &self.stage {
            Stage::Unknown { cursor, .. } => Some(ask_open_import_jobs(cursor.as_deref())),
            Stage::Like { like } => like.last().map(|id| ask_import_job(id)),
            Stage::Made { klaviyo_id, .. } => Some(ask_import_job(klaviyo_id)),
            Stage::Complete { klaviyo_id, cursor, .. } => {
                Some(ask_import_errors(klaviyo_id, cursor.as_deref()))
            }
            Stage::Over(_) => None,
        }
    }

    /// Klaviyo's id, where it is known and still of use.
    pub fn klaviyo_id(&self) -> Option<&str> {
        match &self.stage {
            Stage::Unknown { .. } | Stage::Like { .. } | Stage::Over(_) => None,
            Stage::Made { klaviyo_id, .. } | Stage::Complete { klaviyo_id, .. } => Some(klaviyo_id),
        }
    }

    /// How it ended, if it has.
    pub fn over(&self) -> Option<&End> {
        match &self.stage {
            Stage::Over(end) if self.barred => Some(end),
            _ => None,
        }
    }

    /// A question for the latest jobs was answered: with these, if they could be read.
    pub fn looked(&mut self, verdict: &Verdict, latest: Option<&[ImportJob]>, now: Instant, policy: &Policy) {
        self.asked += 1;
        match (verdict, &mut self.stage) {
            (Verdict::Accepted { .. }, Stage::Made { klaviyo_id, alone }) => {
                match latest.into_iter().flatten().find(|job| job.id == *klaviyo_id) {
                    Some(job) => self.stands(job, now),
                    None => {
                        *alone = true;
                        self.ask_at = now;
                    }
                }
            }
            _ => self.not_told(verdict, now, policy),
        }
    }

    /// A question about it was answered. `known` are Klaviyo's ids of all jobs of ours.
    pub fn answered(
        &mut self,
        verdict: &Verdict,
        body: &[u8],
        known: &[String],
        now: Instant,
        policy: &Policy,
    ) {
        self.asking = false;
        if !matches!(verdict, Verdict::Accepted { .. }) {
            return self.not_told(verdict, now, policy);
        }
        match &mut self.stage {
            Stage::Unknown { like, cursor } => {
                let Some(open) = import_jobs_of(body) else { return self.not_understood(now, policy) };
                self.heard_at = now;
                // Until then the call may still make one.
                if now.saturating_duration_since(self.since) < policy.request_timeout {
                    return self.later(now, pause(self.asked));
                }
                let is_last = open.next.is_none() || open.rows.is_empty();
                let total = self.load.profiles;
                let found =
                    open.rows.into_iter().filter(|job| job.total == total && !known.contains(&job.id));
                like.extend(found.map(|job| job.id));
                if is_last {
                    let like = std::mem::take(like);
                    return self.waits_for(like, now);
                }
                *cursor = open.next;
                self.later(now, Duration::ZERO);
            }
            Stage::Like { like } => {
                let Some(job) = import_job_of(body) else { return self.not_understood(now, policy) };
                self.heard_at = now;
                if job.status.is_over() {
                    let mut like = std::mem::take(like);
                    like.retain(|id| *id != job.id);
                    return self.waits_for(like, now);
                }
                self.later(now, pause(self.asked));
            }
            Stage::Made { .. } => match import_job_of(body) {
                Some(job) => self.stands(&job, now),
                None => self.not_understood(now, policy),
            },
            Stage::Complete { errors, cursor, .. } => {
                let Some(page) = import_errors_of(body) else { return self.not_understood(now, policy) };
                let is_empty = page.rows.is_empty();
                errors.extend(page.rows);
                if page.next.is_none() || is_empty || errors.len() > self.load.profiles {
                    return self.gives_up(now);
                }
                *cursor = page.next;
                self.heard_at = now;
                self.asked = 0;
                self.later(now, Duration::ZERO);
            }
            Stage::Over(_) => {}
        }
    }

    /// One of these may be it.
    fn waits_for(&mut self, like: Vec<String>, now: Instant) {
        if like.is_empty() {
            return self.ends(ImportEnding::Lost);
        }
        self.stage = Stage::Like { like };
        self.later(now, pause(self.asked));
    }

    /// Klaviyo has said how it stands.
    fn stands(&mut self, job: &ImportJob, now: Instant) {
        self.heard_at = now;
        match (job.status, job.failed) {
            (JobStatus::Cancelled, _) => self.ends(ImportEnding::Cancelled),
            (JobStatus::Complete, Some(0)) => self.ends(ImportEnding::Complete),
            (JobStatus::Complete, failed) => {
                let (klaviyo_id, failed) = (job.id.clone(), failed.unwrap_or_default());
                self.stage = Stage::Complete { klaviyo_id, failed, errors: Vec::new(), cursor: None };
                self.asked = 0;
                self.later(now, Duration::ZERO);
            }
            (JobStatus::Queued | JobStatus::Processing, _) => self.later(now, pause(self.asked)),
        }
    }

    /// Klaviyo has not answered what was asked.
    fn not_told(&mut self, verdict: &Verdict, now: Instant, policy: &Policy) {
        let silence = now.saturating_duration_since(self.heard_at);
        let retry_after = match (verdict, &self.stage) {
            // It is no longer known, or not yet; or the key may not ask any more.
            (Verdict::Refused { .. } | Verdict::Stopped { scope: Scope::Lane, .. }, _)
                if silence >= UNKNOWN =>
            {
                return self.gives_up(now);
            }
            (Verdict::Trouble { .. }, Stage::Complete { .. }) if silence >= NO_ERRORS => {
                return self.gives_up(now);
            }
            (Verdict::Throttled { retry_after, .. } | Verdict::Trouble { retry_after, .. }, _) => {
                *retry_after
            }
            _ => None,
        };
        let wait = policy.backoff.delay(self.asked).max(retry_after.unwrap_or_default());
        self.later(now, wait);
    }

    /// Klaviyo has answered something that cannot be read.
    fn not_understood(&mut self, now: Instant, policy: &Policy) {
        if now.saturating_duration_since(self.heard_at) >= UNKNOWN {
            return self.gives_up(now);
        }
        self.later(now, policy.backoff.delay(self.asked));
    }

    /// There is no more to be learnt of it: better sent again than locked for ever. Of one that is complete, what it could
    /// not import and did not say is found by sending again.
    fn gives_up(&mut self, now: Instant) {
        let (ending, errors, failed) = match &mut self.stage {
            Stage::Like { like } => {
                // Of the others there may be more to be learnt.
                like.pop();
                let like = std::mem::take(like);
                return self.waits_for(like, now);
            }
            Stage::Complete { errors, failed, .. } => {
                (ImportEnding::Complete, std::mem::take(errors), *failed)
            }
            _ => (ImportEnding::Lost, Vec::new(), 0),
        };
        self.stage = Stage::Over(End { ending, errors, failed });
    }

    fn ends(&mut self, ending: ImportEnding) {
        self.stage = Stage::Over(End { ending, errors: Vec::new(), failed: 0 });
    }

    fn later(&mut self, now: Instant, wait: Duration) {
        self.ask_at = now + wait;
    }
}

/// How long to wait with the next question how a job stands, of which so many were asked: longer from one to the next.
pub fn pause(asked: u32) -> Duration {
    let factor = 1.5_f64.powi(i32::try_from(asked).unwrap_or(i32::MAX).min(30));
    FIRST_QUESTION.mul_f64(factor).min(LATER_QUESTIONS)
}
