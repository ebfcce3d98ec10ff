//! The import jobs of an account.

use std::time::{Duration, Instant};

use klaviyo::{BULK_IMPORT_PROFILES, Endpoint, GET_IMPORT_JOBS, ask_open_import_jobs};

use super::{Account, Policy, earlier};
use crate::call::{Call, Carried, Purpose};
use crate::import::{Answered, Import, ImportEnding, ImportId, ImportReport, ImportStep, PastImport};
use crate::lane::Start;
use crate::message::{Ending, Failure, Report};
use crate::verdict::Verdict;

/// After a key was told that it may not ask about jobs, how long until it is asked whether that has changed.
const TRY_AGAIN: Duration = Duration::from_secs(600);

/// All of them.
#[derive(Default)]
pub struct Imports {
    under_way: Vec<Import>,
    asking: Asking,
}

/// Whether the key may ask about jobs. One that may make them and not ask could not follow them.
#[derive(Default)]
enum Asking {
    #[default]
    Untried,
    Trying,
    Allowed,
    /// Not before then.
    Refused(Instant),
}

/// Whether a call that ends so may have made a job.
pub fn may_have_made(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Accepted { .. } | Verdict::Trouble { ambiguous: true, .. })
}

/// A job's name.
pub fn new_id() -> ImportId {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid().into_bytes()
}

impl Imports {
    /// Forgets them, and says how many there were, of which each holds a place of its lane.
    pub fn clear(&mut self) -> usize {
        std::mem::take(self).under_way.len()
    }

    /// The key may make none.
    pub fn refused(&mut self, now: Instant) {
        self.asking = Asking::Refused(now + TRY_AGAIN);
    }

    /// Lets nothing wait any longer: there is another key.
    pub fn wake_all(&mut self, now: Instant) {
        self.asking = Asking::default();
        self.under_way.iter_mut().for_each(|import| import.hurry(now));
    }

    fn klaviyo_ids(&self) -> Vec<String> {
        self.under_way.iter().filter_map(|import| import.klaviyo_id().map(str::to_owned)).collect()
    }
}

impl Account {
    /// Takes up a job of an earlier life.
    pub fn follow(&mut self, past: PastImport, now: Instant) {
        let PastImport { id, klaviyo_id, total, sent_at, messages } = past;
        let (messages, positions): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        let (messages, groups) = self.queue.hold(messages, now);
        let carried = Carried::past(messages, groups, positions);
        if let Some(lane) = self.lane(BULK_IMPORT_PROFILES.name) {
            lane.hold_place();
        }
        self.imports.under_way.push(Import::new(id, carried, klaviyo_id, total, (sent_at, now)));
    }

    /// Whether what a lane brings can be followed, where that is needed.
    pub(super) fn may_follow(&self, lane: usize) -> bool {
        !self.lanes[lane].is_followed() || matches!(self.imports.asking, Asking::Allowed)
    }

    /// The next question that may be asked now.
    pub(super) fn next_question(&mut self, now: Instant, policy: &Policy) -> Option<Call> {
        if self.is_to_try(now, policy) {
            let lane = self.number(&GET_IMPORT_JOBS)?;
            if self.may_start(lane, now, policy) {
                self.imports.asking = Asking::Trying;
                return self.start(lane, ask_open_import_jobs(), Carried::default(), Purpose::TryAsking, now);
            }
        }
        for at in 0..self.imports.under_way.len() {
            let Some((_, endpoint)) = self.imports.under_way[at].asks().filter(|(ask_at, _)| *ask_at <= now)
            else {
                continue;
            };
            let lane = self.number(endpoint)?;
            if self.may_start(lane, now, policy) {
                let import = &mut self.imports.under_way[at];
                let (request, purpose) = (import.ask(), Purpose::Ask(import.id));
                return self.start(lane, request, Carried::default(), purpose, now);
            }
        }
        None
    }

    /// Whether jobs are about to be needed and it is to be tried whether they can be asked about.
    fn is_to_try(&self, now: Instant, policy: &Policy) -> bool {
        let is_time = match self.imports.asking {
            Asking::Untried => true,
            Asking::Refused(until) => until <= now,
            Asking::Trying | Asking::Allowed => false,
        };
        let mut followed = self.lanes.iter().filter(|lane| lane.is_followed());
        is_time && followed.any(|lane| lane.kind.is_some_and(|kind| self.is_backlog(kind, policy)))
    }

    fn number(&self, endpoint: &Endpoint) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.endpoint == endpoint)
    }

    fn may_start(&mut self, lane: usize, now: Instant, policy: &Policy) -> bool {
        let may = self.stops.start_when(lane, now) == Start::Now
            && self.lanes[lane].take(now, policy.max_in_flight);
        if may {
            self.stops.started(lane);
        }
        may
    }

    /// When the next question may be asked.
    pub(super) fn asks_at(&mut self, now: Instant, policy: &Policy) -> Option<Instant> {
        let tries = self.is_to_try(now, policy).then_some((now, &GET_IMPORT_JOBS));
        let questions = self.imports.under_way.iter().filter_map(Import::asks);
        let questions: Vec<(Instant, &Endpoint)> = questions.chain(tries).collect();
        let mut wake = None;
        for (ask_at, endpoint) in questions {
            let Some(number) = self.number(endpoint) else { continue };
            let holds = [
                self.stops.start_when(number, now),
                self.lanes[number].start_when(now, policy.max_in_flight),
            ];
            let at = holds.into_iter().try_fold(ask_at, |at, hold| match hold {
                Start::Now => Some(at),
                Start::At(later) => Some(at.max(later)),
                Start::AfterCall => None,
            });
            wake = earlier(wake, at);
        }
        wake
    }

    /// It was tried whether jobs can be asked about.
    pub(super) fn tried_asking(
        &mut self,
        verdict: &Verdict,
        lane: usize,
        (now, policy): (Instant, &Policy),
        mut report: Report,
    ) -> Report {
        self.imports.asking = match verdict {
            Verdict::Accepted { .. } => Asking::Allowed,
            Verdict::Stopped { .. } | Verdict::Refused { .. } => Asking::Refused(now + TRY_AGAIN),
            Verdict::Throttled { .. } | Verdict::Trouble { .. } => Asking::Refused(now + policy.backoff.max),
        };
        self.lanes[lane].settled();
        report.lane = None;
        report
    }

    /// A call has ended that has made a job, or may have.
    pub(super) fn imported(
        &mut self,
        id: ImportId,
        call: Call,
        verdict: &Verdict,
        now: Instant,
        mut report: Report,
    ) -> Report {
        let klaviyo_id = match verdict {
            Verdict::Accepted { resource_id, .. } => resource_id.clone(),
            _ => None,
        };
        let step = klaviyo_id.clone().map(|klaviyo_id| ImportStep::Made { klaviyo_id });
        report.import = step.map(|step| ImportReport { id, step });
        // It holds its place until the job has ended.
        report.lane = None;
        let total = call.carried.profiles();
        let import = Import::new(id, call.carried, klaviyo_id, total, (call.sent_at, now));
        self.imports.under_way.push(import);
        report
    }

    /// A question about a job was answered.
    pub(super) fn answered(
        &mut self,
        id: ImportId,
        verdict: &Verdict,
        body: &[u8],
        (now, policy): (Instant, &Policy),
        mut report: Report,
    ) -> Report {
        let lane = report.lane.take();
        if let Some(lane) = lane.and_then(|endpoint| self.lane(endpoint.name)) {
            lane.settled();
        }
        let known = self.imports.klaviyo_ids();
        let Some(at) = self.imports.under_way.iter().position(|import| import.id == id) else {
            return report;
        };
        let (ending, errors, failed) =
            match self.imports.under_way[at].answered(verdict, body, &known, now, policy) {
                Answered::Later => return report,
                Answered::Ended(ending) => (ending, Vec::new(), 0),
                Answered::Complete { errors, failed } => (ImportEnding::Complete, errors, failed),
            };
        let mut import = self.imports.under_way.swap_remove(at);
        report.lane = Some(&BULK_IMPORT_PROFILES);
        report.import = Some(ImportReport { id, step: ImportStep::Ended { ending, failed } });
        let (refusals, unknown) = match ending {
            ImportEnding::Complete => import.refusals(&errors, failed),
            _ => (vec![None; import.carried.messages.len()], Some(failure_of(ending))),
        };
        import.carried.part_import(&refusals, unknown.is_some() && ending != ImportEnding::Lost);
        let wait = if ending == ImportEnding::Complete { Duration::ZERO } else { policy.backoff.delay(1) };
        let end = |account: &Self, carried: &Carried, message: usize| {
            let queued = &carried.messages[message];
            match refusals[message]
                .clone()
                .map(|failure| (failure, Duration::ZERO))
                .or_else(|| unknown.clone().map(|failure| (failure, wait)))
            {
                Some((failure, wait)) => {
                    let strikes = queued.message.strikes;
                    (Ending::Retry { wait, strikes, failure }, Some(wait))
                }
                None => {
                    let state_of = account.queue.state_of(queued);
                    (Ending::Accepted { status: ACCEPTED, resource_id: None, state_of }, None)
                }
            }
        };
        let Import { carried, sent_at, .. } = import;
        self.end(carried, sent_at, now, end, &mut report);
        report
    }
}

/// Status of the answer to the call that made the job.
const ACCEPTED: u16 = 202;

fn failure_of(ending: ImportEnding) -> Failure {
    let reason = match ending {
        ImportEnding::Cancelled => "Klaviyo has cancelled the job that was to import it",
        _ => "whether Klaviyo has imported it is not known",
    };
    Failure { code: format!("import_{}", ending.name()), reason: reason.to_owned(), ..Failure::default() }
}

#[cfg(test)]
#[path = "imports_tests.rs"]
mod tests;
