//! The import jobs of an account.

use std::time::{Duration, Instant, SystemTime};

use klaviyo::{Endpoint, GET_IMPORT_JOBS, ask_latest_import_jobs, ask_open_import_jobs, import_jobs_of};

use super::{Account, Policy, earlier};
use crate::call::{Call, Carried, Purpose};
use crate::draw;
use crate::import::{End, Import, ImportEnding, ImportId, ImportReport, ImportStep, Load, PastImport};
use crate::lane::Start;
use crate::message::{Ending, Failure, Message, Outcome, Report};
use crate::verdict::{Scope, Verdict};

/// After a key was told that it may not ask about jobs, how long until it is asked whether that has changed.
const TRY_AGAIN: Duration = Duration::from_secs(600);

/// Between two questions for the latest jobs, which are asked for all of them at once.
const LOOK: Duration = Duration::from_secs(1);

/// Messages that may be in jobs under way: what comes together in ten seconds at Klaviyo's limit. Their keys are locked,
/// which takes some 50 bytes of each.
const MOST: usize = 250_000;

/// All of them.
#[derive(Default)]
pub struct Imports {
    under_way: Vec<Import>,
    asking: Asking,
    looking: Looking,
}

/// A look at the latest jobs.
#[derive(Default)]
enum Looking {
    #[default]
    Never,
    UnderWay,
    /// Not again before then.
    Until(Instant),
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
    /// The key may make none.
    pub fn refused(&mut self, now: Instant) {
        self.asking = Asking::Refused(now + TRY_AGAIN);
    }

    /// A question about jobs was answered. Where that may not be asked any more, no more are made.
    fn told(&mut self, verdict: &Verdict, now: Instant) {
        if matches!(verdict, Verdict::Stopped { scope: Scope::Lane, .. }) {
            self.refused(now);
        }
    }

    /// Lets nothing wait any longer: there is another key.
    pub fn wake_all(&mut self, now: Instant) {
        self.asking = Asking::default();
        self.under_way.iter_mut().for_each(|import| import.hurry(now));
    }

    fn klaviyo_ids(&self) -> Vec<String> {
        self.under_way.iter().filter_map(|import| import.klaviyo_id().map(str::to_owned)).collect()
    }

    /// Whether as much is in them as may be.
    fn are_full(&self) -> bool {
        self.under_way.iter().map(|import| import.load.messages).sum::<usize>() >= MOST
    }

    /// When to look at the latest jobs.
    fn looks_at(&self) -> Option<Instant> {
        let due = self.under_way.iter().filter_map(Import::looks_at).min()?;
        match self.looking {
            Looking::Never => Some(due),
            Looking::UnderWay => None,
            Looking::Until(until) => Some(due.max(until)),
        }
    }
}

impl Account {
    /// Takes up a job of an earlier life.
    pub fn follow(&mut self, past: PastImport, now: Instant) {
        let PastImport { id, klaviyo_id, messages, profiles, sent_at, keys, locks } = past;
        self.queue.lock_again(&keys, &locks);
        let load = Load { messages, profiles, rides: keys.len(), locks };
        let mut import = Import::new(id, load, klaviyo_id, (sent_at, now));
        import.barred = true;
        self.imports.under_way.push(import);
    }

    /// Nothing more is handed in that is about what a job has locked. It may be over by now.
    pub fn barred(&mut self, id: ImportId) -> Option<Report> {
        let import = self.imports.under_way.iter_mut().find(|import| import.id == id)?;
        import.barred = true;
        let over = over(import)?;
        Some(Report { imports: vec![over], ..Report::new(&self.name, None) })
    }

    /// Whether what a lane brings can be followed, where that is needed.
    pub(super) fn may_follow(&self, lane: usize) -> bool {
        if let Some(calls) = self.lanes[lane].resources {
            return self.can_ask(calls);
        }
        !self.lanes[lane].is_followed()
            || matches!(self.imports.asking, Asking::Allowed) && !self.imports.are_full()
    }

    /// The next question that may be asked now.
    pub(super) fn next_question(&mut self, now: Instant, policy: &Policy) -> Option<Call> {
        if self.is_to_try(now, policy) {
            let lane = draw::number(&GET_IMPORT_JOBS);
            if self.may_start(lane, now, policy) {
                self.imports.asking = Asking::Trying;
                return self.start(
                    lane,
                    ask_open_import_jobs(None),
                    Carried::default(),
                    Purpose::TryAsking,
                    now,
                );
            }
        }
        if self.imports.looks_at().is_some_and(|at| at <= now) {
            let lane = draw::number(&GET_IMPORT_JOBS);
            if self.may_start(lane, now, policy) {
                self.imports.looking = Looking::UnderWay;
                let (request, purpose) = (ask_latest_import_jobs(), Purpose::AskLatest);
                return self.start(lane, request, Carried::default(), purpose, now);
            }
        }
        for at in 0..self.imports.under_way.len() {
            let Some((_, endpoint)) = self.imports.under_way[at].asks().filter(|(ask_at, _)| *ask_at <= now)
            else {
                continue;
            };
            let lane = draw::number(endpoint);
            if self.may_start(lane, now, policy) {
                let import = &mut self.imports.under_way[at];
                let (request, purpose) = (import.ask()?, Purpose::Ask(import.id));
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
        is_time && followed.any(|lane| lane.draw.is_some_and(|draw| self.is_backlog(draw.from, policy)))
    }

    pub(super) fn may_start(&mut self, lane: usize, now: Instant, policy: &Policy) -> bool {
        let may = self.starts_when(lane, false, now, policy) == Start::Now
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
        let looks = self.imports.looks_at().map(|at| (at, &GET_IMPORT_JOBS));
        let questions: Vec<(Instant, &Endpoint)> = questions.chain(tries).chain(looks).collect();
        let mut wake = None;
        for (ask_at, endpoint) in questions {
            let lane = draw::number(endpoint);
            wake = earlier(wake, self.starts_when(lane, false, now, policy).at(ask_at));
        }
        wake
    }

    /// It was tried whether jobs can be asked about.
    pub(super) fn tried_asking(
        &mut self,
        (verdict, body): (&Verdict, &[u8]),
        lane: usize,
        (now, policy): (Instant, &Policy),
        mut report: Report,
    ) -> Report {
        self.imports.asking = match verdict {
            Verdict::Accepted { .. } if import_jobs_of(body).is_some() => Asking::Allowed,
            Verdict::Accepted { .. } | Verdict::Stopped { .. } | Verdict::Refused { .. } => {
                Asking::Refused(now + TRY_AGAIN)
            }
            Verdict::Throttled { .. } | Verdict::Trouble { .. } => Asking::Refused(now + policy.backoff.max),
        };
        self.lanes[lane].settled();
        report.lane = None;
        report
    }

    /// A call has ended that has made a job, or may have.
    pub(super) fn made(
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
        let Call { carried, sent_at, .. } = call;
        let messages: Vec<i64> = carried.messages.iter().map(|queued| queued.message.seq).collect();
        let (locks, parked) = self.queue.lock(&carried.groups, now);
        let load = Load {
            messages: messages.len(),
            profiles: carried.profiles(),
            rides: carried.messages.iter().map(|queued| queued.rides).min().unwrap_or_default(),
            locks: locks.clone(),
        };
        let step = ImportStep::Made { klaviyo_id: klaviyo_id.clone(), messages, locks };
        report.imports.push(ImportReport { id, step });
        report.parked = parked;
        self.imports.under_way.push(Import::new(id, load, klaviyo_id, (sent_at, now)));
        report
    }

    /// The question for the latest jobs was answered.
    pub(super) fn looked(
        &mut self,
        lane: usize,
        asked: Instant,
        (verdict, body): (&Verdict, &[u8]),
        (now, policy): (Instant, &Policy),
        mut report: Report,
    ) -> Report {
        self.lanes[lane].settled();
        report.lane = None;
        self.imports.looking = Looking::Until(now + LOOK);
        self.imports.told(verdict, now);
        let latest = import_jobs_of(body).map(|page| page.rows);
        // One made since may not be among them.
        let looks = |import: &&mut Import| import.looks_at().is_some() && import.since < asked;
        for import in self.imports.under_way.iter_mut().filter(looks) {
            import.looked(verdict, latest.as_deref(), now, policy);
            report.imports.extend(over(import));
        }
        report
    }

    /// A question about a job was answered.
    pub(super) fn answered(
        &mut self,
        id: ImportId,
        lane: usize,
        (verdict, body): (&Verdict, &[u8]),
        (now, policy): (Instant, &Policy),
        mut report: Report,
    ) -> Report {
        self.lanes[lane].settled();
        report.lane = None;
        self.imports.told(verdict, now);
        let known = self.imports.klaviyo_ids();
        if let Some(import) = self.imports.under_way.iter_mut().find(|import| import.id == id) {
            import.answered(verdict, body, &known, now, policy);
            report.imports.extend(over(import));
        }
        report
    }

    /// Messages of a job that is over have been read again, each with its profile's place in the body: what has become of
    /// them. None where nobody waits for them.
    pub fn recall(
        &mut self,
        id: ImportId,
        mut messages: Vec<(Message, usize)>,
        last: bool,
        (now, policy): (Instant, &Policy),
    ) -> Option<Report> {
        let at = self.imports.under_way.iter().position(|import| import.id == id)?;
        let End { ending, failed, .. } = *self.imports.under_way[at].over()?;
        let mut report = Report::new(&self.name, None);
        messages.iter_mut().for_each(|(message, _)| message.attempts += 1);
        if last {
            let import = self.imports.under_way.swap_remove(at);
            report.imports.push(ImportReport { id, step: ImportStep::Ended { ending, failed } });
            self.end_import(&import, messages, (now, policy), &mut report);
            self.queue.unlock(&import.load.locks, now);
        } else {
            let sent_at = self.imports.under_way[at].sent_at;
            report.outcomes.extend(messages.into_iter().map(|(message, _)| self.imported(&message, sent_at)));
        }
        Some(report)
    }

    /// A job has ended: what has become of the last messages of it, which are all where anything is in doubt.
    fn end_import(
        &mut self,
        import: &Import,
        messages: Vec<(Message, usize)>,
        (now, policy): (Instant, &Policy),
        report: &mut Report,
    ) {
        let Some(end) = import.over() else { return };
        if !end.is_in_doubt() {
            let imported = messages.into_iter().map(|(message, _)| self.imported(&message, import.sent_at));
            report.outcomes.extend(imported);
            return;
        }
        let (messages, positions): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        let (messages, groups) = self.queue.recall(messages, import.load.rides, now);
        let mut carried = Carried::past(messages, groups, positions);
        let (refusals, unknown) = match end.ending {
            ImportEnding::Complete => carried.refusals(&end.errors, end.failed),
            ending => (vec![None; carried.messages.len()], Some(failure_of(ending))),
        };
        // Also where nobody knows why: a call may be too large for the way to Klaviyo.
        carried.part_import(&refusals, unknown.is_some());
        let wait =
            if end.ending == ImportEnding::Complete { Duration::ZERO } else { policy.backoff.delay(1) };
        let how = |account: &Self, carried: &Carried, message: usize| {
            let queued = &carried.messages[message];
            let refused = refusals[message].clone().map(|failure| (failure, Duration::ZERO));
            match refused.or_else(|| unknown.clone().map(|failure| (failure, wait))) {
                Some((failure, wait)) => {
                    let strikes = queued.message.strikes;
                    (Some(Ending::Retry { wait, strikes, failure }), Some(wait))
                }
                None => (Some(accepted(account.queue.state_of(queued))), None),
            }
        };
        self.end(carried, import.sent_at, now, how, report);
    }

    /// A job has imported a message.
    fn imported(&mut self, message: &Message, sent_at: SystemTime) -> Outcome {
        Outcome::of(message, sent_at, true, accepted(self.queue.accepted(message)))
    }
}

/// That a job is at its end, if it is.
fn over(import: &Import) -> Option<ImportReport> {
    let (in_doubt, messages) = (import.over()?.is_in_doubt(), import.load.messages);
    Some(ImportReport { id: import.id, step: ImportStep::Over { in_doubt, messages } })
}

fn accepted(state_of: Vec<String>) -> Ending {
    // The status of the answer to the call that made the job.
    Ending::Accepted { status: 202, resource_id: None, state_of, answer: None }
}

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
