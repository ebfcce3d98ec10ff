//! Jobs that Klaviyo makes of a call's messages and does later: their messages are at their end when the job is, so that
//! nothing about the same people overtakes it.
//!
//! Unlike those of an import they stay in memory meanwhile, for they are few and short, and nothing is written down: what a
//! crash forgets is done again, once it can overtake nothing, see [`super::gates`]. A job of resources says what it failed at,
//! and that goes again, by itself in the end; so does all of one of which nobody tells.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use klaviyo::{
    ESTIMATE_RECIPIENTS, Endpoint, GET_ESTIMATION, GET_ESTIMATION_JOB, GET_SUPPRESS_JOB, GET_UNSUPPRESS_JOB,
    JobStatus, Request, ResourceCalls, ResourceJob, SUPPRESS, UNSUPPRESS, recipients_of,
};

use super::{Account, Policy, earlier};
use crate::call::{Call, Carried, Purpose};
use crate::campaign::{CampaignFact, CampaignNews};
use crate::draw;
use crate::import::{FIRST_QUESTION, UNKNOWN, pause};
use crate::lane::Lane;
use crate::message::{Ending, Failure, KeptAnswer, Report};
use crate::verdict::{Scope, Verdict};

/// A job under way.
pub struct Followed {
    number: u64,
    klaviyo_id: String,
    /// The lane of the question how it stands.
    lane: usize,
    /// Of what resources it was made, if it was.
    resources: Option<&'static ResourceCalls>,
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

impl Followed {
    /// Which of its messages it has failed at; all that it may have failed at, where it does not say of each.
    fn failed(&self, told: &ResourceJob, calls: &ResourceCalls) -> BTreeSet<usize> {
        let pointers = told.errors.iter().map(|error| error.source.pointer.as_deref());
        let named: Option<BTreeSet<usize>> =
            pointers.map(|pointer| pointer.and_then(|pointer| calls.resource_at(pointer))).collect();
        let named = named.filter(|named| named.len() >= told.failed);
        let messages = 0..self.carried.messages.len();
        let is_failed = |number: &usize| match (&named, self.carried.position(*number)) {
            (Some(named), Some(position)) => named.contains(&position),
            _ => true,
        };
        messages.filter(is_failed).collect()
    }
}

/// How a job ends for its messages.
enum End {
    /// They are done, but for these, which go on otherwise, after a wait.
    Complete(BTreeSet<usize>, Duration),
    /// They are done, and that is the answer.
    Answered(KeptAnswer),
    /// They go again, for that reason and after that wait.
    Again(Failure, Duration),
}

/// All of them.
#[derive(Default)]
pub struct Jobs {
    under_way: Vec<Followed>,
    made: u64,
}

/// Whether a job counts something: nobody waits for that, nor is it begun anew.
fn is_of_count(endpoint: &Endpoint) -> bool {
    [&ESTIMATE_RECIPIENTS, &GET_ESTIMATION_JOB, &GET_ESTIMATION].contains(&endpoint)
}

/// The question what has come of a job, once one is complete about which this was asked.
fn question_after(endpoint: &Endpoint) -> Option<&'static Endpoint> {
    (*endpoint == GET_ESTIMATION_JOB).then_some(&GET_ESTIMATION)
}

/// The question how a job stands that a call of a lane has made.
fn question_about(lane: &Lane) -> Option<&'static Endpoint> {
    let jobs = [
        (&SUPPRESS, &GET_SUPPRESS_JOB),
        (&UNSUPPRESS, &GET_UNSUPPRESS_JOB),
        (&ESTIMATE_RECIPIENTS, &GET_ESTIMATION_JOB),
    ];
    let found = jobs.into_iter().find_map(|(makes, question)| (makes == lane.endpoint).then_some(question));
    found.or_else(|| lane.resources.map(|calls| &calls.asks))
}

impl Account {
    /// A call was accepted: if it has made a job that can be followed, it is from now on. Else the call comes back.
    pub(super) fn follows(
        &mut self,
        call: Call,
        verdict: &Verdict,
        now: Instant,
        report: &mut Report,
    ) -> Option<Call> {
        let Verdict::Accepted { status, resource_id, .. } = verdict else { return Some(call) };
        if call.carried.is_direct() {
            return Some(call);
        }
        let resources = self.lanes[call.lane].resources;
        let question = question_about(&self.lanes[call.lane]).map(draw::number);
        let asked = question.filter(|lane| self.stops.is_open(*lane) && resource_id.is_some());
        // What may not be asked is not waited for; but of resources it may fail at any.
        let Some(lane) = asked.or(question.filter(|_| resources.is_some())) else { return Some(call) };
        let mut call = call;
        if is_of_count(self.lanes[call.lane].endpoint) {
            for (group, _) in std::mem::take(&mut call.carried.groups) {
                self.queue.ended(group, &[], Vec::new(), now);
            }
        }
        self.jobs.made += 1;
        self.jobs.under_way.push(Followed {
            number: self.jobs.made,
            klaviyo_id: resource_id.clone().unwrap_or_default(),
            lane,
            resources,
            sent_at: call.sent_at,
            carried: call.carried,
            status: *status,
            ask_at: now + FIRST_QUESTION,
            asked: 0,
            asking: false,
            heard_at: now,
        });
        if asked.is_none() {
            self.give_up(self.jobs.under_way.len() - 1, now, report);
        }
        None
    }

    /// Nobody tells of a job. What Klaviyo has accepted it has accepted, but of resources it may have failed at any: they go
    /// again when the job can be thought to be over, lest it do afterwards what is old by then.
    fn give_up(&mut self, at: usize, now: Instant, report: &mut Report) {
        let Followed { resources, carried, .. } = &self.jobs.under_way[at];
        let failed =
            if resources.is_some() { (0..carried.messages.len()).collect() } else { BTreeSet::new() };
        self.end_followed(at, End::Complete(failed, UNKNOWN), now, report);
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
        let counts =
            matches!(verdict, Verdict::Accepted { .. }) && *self.lanes[lane].endpoint == GET_ESTIMATION;
        if let Some(recipients) = recipients_of(body).filter(|_| counts) {
            let fact = CampaignFact::Recipients(recipients);
            report.campaigns.extend(CampaignNews::new(&job.klaviyo_id, fact));
            let body = String::from_utf8(body.to_vec()).ok();
            let answer = KeptAnswer { lane: self.lanes[lane].endpoint.name, body };
            self.end_followed(at, End::Answered(answer), now, &mut report);
            return report;
        }
        let (resources, told) = (job.resources, klaviyo::resource_job_of(body));
        let wait = match (verdict, told.as_ref().map(|told| told.status)) {
            (Verdict::Accepted { .. }, Some(JobStatus::Complete))
                if let Some(question) = question_after(self.lanes[lane].endpoint) =>
            {
                (job.lane, job.asked, job.heard_at) = (draw::number(question), 0, now);
                Some(Duration::ZERO)
            }
            (Verdict::Accepted { .. }, Some(JobStatus::Complete)) => {
                let failed =
                    told.zip(resources).map(|(told, calls)| job.failed(&told, calls)).unwrap_or_default();
                self.end_followed(at, End::Complete(failed, Duration::ZERO), now, &mut report);
                return report;
            }
            (Verdict::Accepted { .. }, Some(JobStatus::Cancelled))
                if is_of_count(self.lanes[lane].endpoint) =>
            {
                None
            }
            (Verdict::Accepted { .. }, Some(JobStatus::Cancelled)) => {
                let failure = Failure {
                    code: "job_cancelled".to_owned(),
                    reason: "Klaviyo has cancelled the job that was to do it".to_owned(),
                    ..Failure::default()
                };
                self.end_followed(at, End::Again(failure, policy.backoff.delay(1)), now, &mut report);
                return report;
            }
            (Verdict::Accepted { .. }, Some(JobStatus::Queued | JobStatus::Processing)) => {
                if !is_of_count(self.lanes[lane].endpoint) {
                    job.heard_at = now;
                } else if silence >= UNKNOWN {
                    self.give_up(at, now, &mut report);
                    return report;
                }
                Some(pause(job.asked))
            }
            // The key may not ask, of any such job.
            (Verdict::Stopped { scope: Scope::Lane, .. }, _) => {
                while let Some(at) =
                    self.jobs.under_way.iter().position(|job| job.lane == lane && !job.asking)
                {
                    self.give_up(at, now, &mut report);
                }
                return report;
            }
            // Nobody knows the job, or what is said of it.
            (Verdict::Accepted { .. } | Verdict::Refused { .. }, _) if silence >= UNKNOWN => None,
            (Verdict::Throttled { retry_after, .. } | Verdict::Trouble { retry_after, .. }, _) => {
                Some(policy.backoff.delay(job.asked).max(retry_after.unwrap_or_default()))
            }
            _ => Some(policy.backoff.delay(job.asked)),
        };
        match wait {
            Some(wait) => job.ask_at = now + wait,
            None => self.give_up(at, now, &mut report),
        }
        report
    }

    /// A job is at its end, and so are its messages, or they go again.
    fn end_followed(&mut self, at: usize, end: End, now: Instant, report: &mut Report) {
        let Followed { mut carried, klaviyo_id, status, sent_at, .. } = self.jobs.under_way.swap_remove(at);
        if let End::Complete(failed, _) = &end {
            for number in failed {
                let queued = &mut carried.messages[*number];
                match queued.message.kind.after_job(&queued.message.payload) {
                    Some(kind) => queued.turn_into(kind),
                    None => queued.rides = 0,
                }
            }
        }
        let how = |_: &Self, carried: &Carried, number: usize| match &end {
            End::Again(failure, wait) => {
                let strikes = carried.messages[number].message.strikes;
                (Some(Ending::Retry { wait: *wait, strikes, failure: failure.clone() }), Some(*wait))
            }
            End::Complete(failed, wait) if failed.contains(&number) => (None, Some(*wait)),
            End::Answered(answer) => {
                let ending = Ending::Accepted {
                    status,
                    resource_id: Some(klaviyo_id.clone()),
                    state_of: Vec::new(),
                    answer: Some(answer.clone()),
                };
                (Some(ending), None)
            }
            End::Complete(..) => {
                let resource_id = Some(klaviyo_id.clone());
                (Some(Ending::done(status, resource_id)), None)
            }
        };
        self.end(carried, sent_at, now, how, report);
    }

    /// The account was removed: what Klaviyo has accepted it has accepted, but resources it may have failed at, which are
    /// put aside with what else waits.
    pub(super) fn forget_followed(&mut self, now: Instant) -> Option<Report> {
        let mut report = Report::new(&self.name, None);
        while !self.jobs.under_way.is_empty() {
            self.give_up(0, now, &mut report);
        }
        (!report.outcomes.is_empty()).then_some(report)
    }
}
