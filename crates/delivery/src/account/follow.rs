//! Jobs that Klaviyo makes of a call's messages and does later: their messages are at their end when the job is, so that
//! nothing about the same people overtakes it.
//!
//! Unlike those of an import they stay in memory meanwhile, for they are few and short, and nothing is written down: what a
//! crash forgets is done again, which does no harm.

use std::time::{Duration, Instant, SystemTime};

use klaviyo::{Endpoint, GET_SUPPRESS_JOB, GET_UNSUPPRESS_JOB, JobStatus, Request, SUPPRESS, UNSUPPRESS};

use super::{Account, Policy, earlier};
use crate::call::{Call, Carried, Purpose};
use crate::draw;
use crate::import::{FIRST_QUESTION, UNKNOWN, pause};
use crate::message::{Ending, Failure, Report};
use crate::verdict::{Scope, Verdict};

/// A job under way.
pub struct Followed {
    number: u64,
    klaviyo_id: String,
    /// The lane of the question how it stands.
    lane: usize,
    carried: Carried,
    sent_at: SystemTime,
    /// The answer to the call that made it.
    status: u16,
    ask_at: Instant,
    asked: u32,
    asking: bool,
    /// When Klaviyo last said something of it.
    heard_at: Instant,
}

/// All of them.
#[derive(Default)]
pub struct Jobs {
    under_way: Vec<Followed>,
    made: u64,
}

/// The question how a job stands that a call of an endpoint has made.
fn question_about(endpoint: &Endpoint) -> Option<&'static Endpoint> {
    [(&SUPPRESS, &GET_SUPPRESS_JOB), (&UNSUPPRESS, &GET_UNSUPPRESS_JOB)]
        .into_iter()
        .find_map(|(makes, question)| (makes == endpoint).then_some(question))
}

impl Account {
    /// A call was accepted: if it has made a job that can be followed, it is from now on. Else the call comes back.
    pub(super) fn follows(&mut self, call: Call, verdict: &Verdict, now: Instant) -> Option<Call> {
        let Verdict::Accepted { status, resource_id: Some(klaviyo_id), .. } = verdict else {
            return Some(call);
        };
        if call.carried.is_direct() {
            return Some(call);
        }
        let question = question_about(self.lanes[call.lane].endpoint).map(draw::number);
        // What may not be asked is not waited for.
        let Some(lane) = question.filter(|lane| self.stops.is_open(*lane)) else { return Some(call) };
        self.jobs.made += 1;
        self.jobs.under_way.push(Followed {
            number: self.jobs.made,
            klaviyo_id: klaviyo_id.clone(),
            lane,
            sent_at: call.sent_at,
            carried: call.carried,
            status: *status,
            ask_at: now + FIRST_QUESTION,
            asked: 0,
            asking: false,
            heard_at: now,
        });
        None
    }

    /// The next question how a job stands that may be asked now.
    pub(super) fn next_follow(&mut self, now: Instant, policy: &Policy) -> Option<Call> {
        for at in 0..self.jobs.under_way.len() {
            let Followed { lane, ask_at, asking, .. } = self.jobs.under_way[at];
            if !asking && ask_at <= now && self.may_start(lane, now, policy) {
                let job = &mut self.jobs.under_way[at];
                (job.asking, job.asked) = (true, job.asked + 1);
                let request = Request::get(self.lanes[lane].endpoint, &job.klaviyo_id);
                let purpose = Purpose::Follow(job.number);
                return self.start(lane, request, Carried::default(), purpose, now);
            }
        }
        None
    }

    /// When the next such question may be asked.
    pub(super) fn follows_at(&mut self, now: Instant, policy: &Policy) -> Option<Instant> {
        let questions = self.jobs.under_way.iter().filter(|job| !job.asking);
        let questions: Vec<(usize, Instant)> = questions.map(|job| (job.lane, job.ask_at)).collect();
        let mut wake = None;
        for (lane, ask_at) in questions {
            wake = earlier(wake, self.starts_when(lane, false, now, policy).at(ask_at));
        }
        wake
    }

    /// Such a question was answered.
    pub(super) fn followed(
        &mut self,
        number: u64,
        lane: usize,
        (verdict, body): (&Verdict, &[u8]),
        (now, policy): (Instant, &Policy),
        mut report: Report,
    ) -> Report {
        self.lanes[lane].settled();
        report.lane = None;
        let Some(at) = self.jobs.under_way.iter().position(|job| job.number == number) else { return report };
        let job = &mut self.jobs.under_way[at];
        job.asking = false;
        let silence = now.saturating_duration_since(job.heard_at);
        let wait = match (verdict, klaviyo::job_status_of(body)) {
            (Verdict::Accepted { .. }, Some(JobStatus::Complete)) => None,
            (Verdict::Accepted { .. }, Some(JobStatus::Cancelled)) => {
                let failure = Failure {
                    code: "job_cancelled".to_owned(),
                    reason: "Klaviyo has cancelled the job that was to do it".to_owned(),
                    ..Failure::default()
                };
                self.end_followed(at, Some((failure, policy.backoff.delay(1))), now, &mut report);
                return report;
            }
            (Verdict::Accepted { .. }, Some(JobStatus::Queued | JobStatus::Processing)) => {
                job.heard_at = now;
                Some(pause(job.asked))
            }
            // The key may not ask; or nobody knows the job, or what is said of it.
            (Verdict::Stopped { scope: Scope::Lane, .. }, _) => None,
            (Verdict::Accepted { .. } | Verdict::Refused { .. }, _) if silence >= UNKNOWN => None,
            (Verdict::Throttled { retry_after, .. } | Verdict::Trouble { retry_after, .. }, _) => {
                Some(policy.backoff.delay(job.asked).max(retry_after.unwrap_or_default()))
            }
            _ => Some(policy.backoff.delay(job.asked)),
        };
        match wait {
            Some(wait) => job.ask_at = now + wait,
            // What Klaviyo has accepted it has accepted.
            None => self.end_followed(at, None, now, &mut report),
        }
        report
    }

    /// A job is at its end: its messages are accepted, or go again, for that reason and after that wait.
    fn end_followed(
        &mut self,
        at: usize,
        again: Option<(Failure, Duration)>,
        now: Instant,
        report: &mut Report,
    ) {
        let Followed { carried, klaviyo_id, status, sent_at, .. } = self.jobs.under_way.swap_remove(at);
        let how = |_: &Self, carried: &Carried, number: usize| match &again {
            Some((failure, wait)) => {
                let strikes = carried.messages[number].message.strikes;
                (Some(Ending::Retry { wait: *wait, strikes, failure: failure.clone() }), Some(*wait))
            }
            None => {
                let resource_id = Some(klaviyo_id.clone());
                (Some(Ending::Accepted { status, resource_id, state_of: Vec::new(), answer: None }), None)
            }
        };
        self.end(carried, sent_at, now, how, report);
    }

    /// The account was removed: what Klaviyo has accepted it has accepted.
    pub(super) fn forget_followed(&mut self, now: Instant) -> Option<Report> {
        let mut report = Report::new(&self.name, None);
        while !self.jobs.under_way.is_empty() {
            self.end_followed(0, None, now, &mut report);
        }
        (!report.outcomes.is_empty()).then_some(report)
    }
}
