//! Jobs that import profiles, from before they are asked for to their end.
//!
//! A call that imports profiles makes a job, which takes them when Klaviyo has time. Until it is at its end the keys of its
//! messages are held: a later state that went by itself could be overtaken by the job's older one. What it could not import
//! is asked for then, and found again among its messages.
//!
//! Whether a call that got no answer made a job is found out by asking which jobs are under way: as long as one of the same
//! size is that we know nothing of, it may be ours. A job that is found so is waited for and not adopted, for it may be
//! another sender's: then its messages go again, which for a state does no harm.
//!
//! Who owns the outbox writes each job down before it is asked for ([`ImportReport`]), so that a later life of ours knows
//! which keys to hold.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use klaviyo::{
    Endpoint, GET_IMPORT_ERRORS, GET_IMPORT_JOB, GET_IMPORT_JOBS, ImportError, ImportStatus, Request,
    ask_import_errors, ask_import_job, ask_open_import_jobs, import_errors_of, import_job_of, import_jobs_of,
};

use crate::account::Policy;
use crate::call::Carried;
use crate::key;
use crate::message::{Failure, Message};
use crate::verdict::{Scope, Verdict};

/// Our name of a job.
pub type ImportId = [u8; 16];

/// Between two questions how a job stands, at first and at the most.
const FIRST_QUESTION: Duration = Duration::from_millis(500);
const LATER_QUESTIONS: Duration = Duration::from_secs(10);

/// How long a job that was made may not be known by its id, or not be asked about.
const UNKNOWN: Duration = Duration::from_secs(300);

/// What is to be written down of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportReport {
    pub id: ImportId,
    pub step: ImportStep,
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportStep {
    /// It is asked for as soon as that is durable: [`crate::Command::Import`]. The messages with their profiles' places in
    /// the body.
    Announced { messages: Vec<(i64, usize)> },
    /// Klaviyo has made it.
    Made { klaviyo_id: String },
    /// There is nothing more to come of it.
    Ended { ending: ImportEnding, failed: usize },
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportEnding {
    Complete,
    /// Klaviyo has cancelled it.
    Cancelled,
    /// Klaviyo has not made it, or was not asked to.
    Refused,
    /// Whether Klaviyo has made it is not known, but none like it is under way.
    Lost,
}

impl ImportEnding {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Lost => "lost",
        }
    }
}

/// What is to be written down of a job that was not made.
pub fn not_made(id: ImportId) -> ImportReport {
    ImportReport { id, step: ImportStep::Ended { ending: ImportEnding::Refused, failed: 0 } }
}

/// A job of an earlier life.
#[derive(Clone)]
pub struct PastImport {
    pub id: ImportId,
    /// None where it is not known whether Klaviyo has made it.
    pub klaviyo_id: Option<String>,
    /// Profiles it was to have.
    pub total: usize,
    /// When it was asked for at the latest.
    pub sent_at: SystemTime,
    /// Its messages that still wait, with their profiles' places in the body.
    pub messages: Vec<(Message, usize)>,
}

/// A job under way.
pub struct Import {
    pub id: ImportId,
    pub carried: Carried,
    pub sent_at: SystemTime,
    total: usize,
    since: Instant,
    stage: Stage,
    /// When to ask next, and how often that has been done.
    ask_at: Instant,
    asked: u32,
    asking: bool,
}

/// What is known of a job.
enum Stage {
    /// Klaviyo may have made it.
    Unknown,
    Made {
        klaviyo_id: String,
    },
    /// It is complete; what it could not import is being read.
    Complete {
        klaviyo_id: String,
        failed: usize,
        errors: Vec<ImportError>,
        cursor: Option<String>,
    },
}

/// What an answer means for a job.
pub enum Answered {
    /// To be asked again.
    Later,
    Ended(ImportEnding),
    /// It has ended; these it could not import, so many in all.
    Complete {
        errors: Vec<ImportError>,
        failed: usize,
    },
}

impl Import {
    /// A job that Klaviyo has made, or may have made where there is no id.
    pub fn new(
        id: ImportId,
        carried: Carried,
        klaviyo_id: Option<String>,
        total: usize,
        (sent_at, now): (SystemTime, Instant),
    ) -> Self {
        let stage = klaviyo_id.map_or(Stage::Unknown, |klaviyo_id| Stage::Made { klaviyo_id });
        Self {
            id,
            carried,
            sent_at,
            total,
            since: now,
            stage,
            ask_at: now + FIRST_QUESTION,
            asked: 0,
            asking: false,
        }
    }

    /// Asks again at once: there is another key.
    pub fn hurry(&mut self, now: Instant) {
        self.ask_at = self.ask_at.min(now);
    }

    /// When to ask about it, and in which lane; none while a question is under way.
    pub fn asks(&self) -> Option<(Instant, &'static Endpoint)> {
        let endpoint = match self.stage {
            Stage::Unknown => &GET_IMPORT_JOBS,
            Stage::Made { .. } => &GET_IMPORT_JOB,
            Stage::Complete { .. } => &GET_IMPORT_ERRORS,
        };
        (!self.asking).then_some((self.ask_at, endpoint))
    }

    /// The question, which is under way from now on.
    pub fn ask(&mut self) -> Request {
        self.asking = true;
        self.asked += 1;
        match &self.stage {
            Stage::Unknown => ask_open_import_jobs(),
            Stage::Made { klaviyo_id } => ask_import_job(klaviyo_id),
            Stage::Complete { klaviyo_id, cursor, .. } => ask_import_errors(klaviyo_id, cursor.as_deref()),
        }
    }

    /// Klaviyo's id, where it is known.
    pub fn klaviyo_id(&self) -> Option<&str> {
        match &self.stage {
            Stage::Unknown => None,
            Stage::Made { klaviyo_id } | Stage::Complete { klaviyo_id, .. } => Some(klaviyo_id),
        }
    }

    /// A question was answered. `known` are Klaviyo's ids of all jobs of ours.
    pub fn answered(
        &mut self,
        verdict: &Verdict,
        body: &[u8],
        known: &[String],
        now: Instant,
        policy: &Policy,
    ) -> Answered {
        self.asking = false;
        let age = now.saturating_duration_since(self.since);
        match (&mut self.stage, verdict) {
            (Stage::Unknown, Verdict::Accepted { .. }) => {
                // One that is listed with no end in sight is waited for as any.
                let Some(jobs) = import_jobs_of(body) else {
                    return self.later(now, policy.backoff.delay(self.asked));
                };
                let total = self.total;
                let is_like = |job: &klaviyo::ImportJob| job.total == total && !known.contains(&job.id);
                if age >= policy.request_timeout && !jobs.rows.iter().any(is_like) {
                    return Answered::Ended(ImportEnding::Lost);
                }
                self.later(now, self.pause())
            }
            (Stage::Made { klaviyo_id }, Verdict::Accepted { .. }) => match import_job_of(body) {
                Some(job) if job.status == ImportStatus::Cancelled => {
                    Answered::Ended(ImportEnding::Cancelled)
                }
                Some(job) if job.status == ImportStatus::Complete && job.failed == 0 => {
                    Answered::Complete { errors: Vec::new(), failed: 0 }
                }
                Some(job) if job.status == ImportStatus::Complete => {
                    let klaviyo_id = std::mem::take(klaviyo_id);
                    self.stage =
                        Stage::Complete { klaviyo_id, failed: job.failed, errors: Vec::new(), cursor: None };
                    self.asked = 0;
                    self.later(now, Duration::ZERO)
                }
                Some(_) => self.later(now, self.pause()),
                None => self.later(now, policy.backoff.delay(self.asked)),
            },
            // It is no longer known, or not yet.
            (Stage::Made { .. }, Verdict::Refused { .. }) if age >= UNKNOWN => {
                Answered::Ended(ImportEnding::Lost)
            }
            (Stage::Complete { failed, errors, cursor, .. }, Verdict::Accepted { .. }) => {
                let Some(page) = import_errors_of(body) else {
                    return self.later(now, policy.backoff.delay(self.asked));
                };
                errors.extend(page.rows);
                if page.next.is_none() || errors.len() > self.total {
                    return Answered::Complete { errors: std::mem::take(errors), failed: *failed };
                }
                *cursor = page.next;
                self.asked = 0;
                self.later(now, Duration::ZERO)
            }
            // The key may not ask any more: better sent again than held for ever.
            (stage, Verdict::Stopped { scope: Scope::Lane, .. }) if age >= UNKNOWN => match stage {
                Stage::Unknown | Stage::Made { .. } => Answered::Ended(ImportEnding::Lost),
                Stage::Complete { failed, errors, .. } => {
                    Answered::Complete { errors: std::mem::take(errors), failed: *failed }
                }
            },
            (_, Verdict::Throttled { retry_after, .. } | Verdict::Trouble { retry_after, .. }) => {
                let wait = policy.backoff.delay(self.asked).max(retry_after.unwrap_or_default());
                self.later(now, wait)
            }
            (_, Verdict::Stopped { .. } | Verdict::Refused { .. }) => {
                self.later(now, policy.backoff.delay(self.asked))
            }
        }
    }

    fn later(&mut self, now: Instant, wait: Duration) -> Answered {
        self.ask_at = now + wait;
        Answered::Later
    }

    /// Longer from question to question.
    fn pause(&self) -> Duration {
        let factor = 1.5_f64.powi(i32::try_from(self.asked).unwrap_or(i32::MAX).min(30));
        FIRST_QUESTION.mul_f64(factor).min(LATER_QUESTIONS)
    }

    /// Why the messages of a complete job were not imported, one by one; none for those that were. And, where of so many
    /// failures not each was found among them, what the first of them says.
    pub fn refusals(&self, errors: &[ImportError], failed: usize) -> (Vec<Option<Failure>>, Option<Failure>) {
        let messages = &self.carried.messages;
        let (mut placed, mut named) =
            (HashMap::<usize, Vec<usize>>::new(), HashMap::<&str, Vec<usize>>::new());
        for (number, queued) in messages.iter().enumerate() {
            if let Some(position) = self.carried.position(number) {
                placed.entry(position).or_default().push(number);
            }
            for identifier in &queued.message.key {
                named.entry(identifier).or_default().push(number);
            }
        }
        let mut refusals: Vec<Option<Failure>> = vec![None; messages.len()];
        let mut found = 0;
        for error in errors {
            let theirs: Vec<String> =
                error.identifiers.iter().map(|(name, value)| key::identifier(name, value)).collect();
            let fits = |number: &&usize| {
                let key = &messages[**number].message.key;
                theirs.iter().all(|identifier| key.contains(identifier))
            };
            // By its place, if the identifiers that come with it are not another's; else by these.
            let at = error
                .position
                .and_then(|position| placed.get(&position))
                .filter(|at| at.iter().all(|it| fits(&it)));
            let by_name = || named.get(theirs.first()?.as_str());
            let about = at.or_else(by_name).into_iter().flatten().filter(fits);
            let mut any = false;
            for number in about {
                refusals[*number] = Some(failure(error));
                any = true;
            }
            found += usize::from(any);
        }
        let unknown = found < failed.max(errors.len());
        (refusals, unknown.then(|| errors.first().map(failure).unwrap_or_default()))
    }
}

fn failure(error: &ImportError) -> Failure {
    let klaviyo::ApiError { id, code, .. } = &error.error;
    Failure {
        status: None,
        code: if code.is_empty() { "import_error".to_owned() } else { code.clone() },
        reason: error.error.reason(),
        error_id: Some(id.clone()).filter(|id| !id.is_empty()),
    }
}
