//! One Klaviyo account: its messages, its lanes, and whether Klaviyo takes its calls at all.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use klaviyo::{Answer, ENDPOINTS, Session, TransportError};

use crate::backoff::Backoff;
use crate::budget::LOOK;
use crate::gauges::Place;
use crate::lane::{Lane, Start};
use crate::message::{AccountState, Ending, Failure, Message, Outcome, Report};
use crate::preflight::{self, Preflight};
use crate::queue::{GroupId, Next, Queue, Queued, Seen, Stale};
use crate::verdict::{self, Verdict};

/// A message earns a strike when it fails while others succeed: at least so many successes for each failure of the
/// others, among at least so many calls of others. On a bad day, when much fails, nobody earns any.
const HEALTHY: u64 = 4;
const SAMPLE: u64 = 5;

/// What the engine is told of an account.
#[derive(Debug, Clone)]
pub struct AccountOptions {
    pub name: Arc<str>,
    /// None while nothing may be sent: not armed, paused, no key.
    pub session: Option<Session>,
    /// Part of Klaviyo's limits that is ours.
    pub rate_share: f64,
    /// Where it shows what it does, and sees what other databases spend of the same budget.
    pub place: Option<Place>,
    pub stale: Option<Stale>,
}

/// How failures are answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    pub backoff: Backoff,
    /// Strikes after which a message is put aside.
    pub max_strikes: u32,
    /// Calls of a lane that may be under way or not yet settled.
    pub max_in_flight: u32,
}

/// A call to be made.
pub struct Call {
    pub account: Arc<str>,
    pub session: Session,
    pub lane: usize,
    pub body: Vec<u8>,
    pub sent_at: SystemTime,
    started: Instant,
    /// Of a preflight none.
    messages: Vec<Queued>,
    group: GroupId,
    /// Finds out whether a stopped account works again.
    probe: bool,
    /// Finds out whether the key may make this call.
    preflight: bool,
}

/// A refused account: when the next probe may go, whether it is out, and in which lane it goes: the one that was
/// refused, for another may be one the key has the scope for.
struct Stopped {
    until: Instant,
    probing: bool,
    lane: usize,
}

pub struct Account {
    name: Arc<str>,
    session: Option<Session>,
    /// The session last used, also while the account sends nothing.
    last_session: Option<Session>,
    lanes: Vec<Lane>,
    queue: Queue,
    stopped: Option<Stopped>,
    preflight: Preflight,
}

impl Account {
    pub fn new(options: AccountOptions, now: Instant) -> Self {
        let mut account = Self {
            name: options.name,
            last_session: options.session.clone(),
            session: None,
            lanes: ENDPOINTS.iter().map(|endpoint| Lane::new(endpoint, options.rate_share, now)).collect(),
            queue: Queue::new(ENDPOINTS.to_vec()),
            stopped: None,
            preflight: Preflight::default(),
        };
        account.queue.stale = options.stale;
        account.spend(options.session, options.place, now);
        account
    }

    fn spend(&mut self, session: Option<Session>, place: Option<Place>, now: Instant) {
        self.session = session;
        if let Some(place) = place {
            place.spend(self.session.as_ref());
        }
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            lane.set_place(place.map(|place| (place, number)), now);
        }
    }

    /// Changes it. Reports that a stopped account goes on, if that is so.
    pub fn set(&mut self, options: AccountOptions, now: Instant) -> Option<Report> {
        let mut goes_on = None;
        // A new key, revision or address deserves a new try at once.
        if options.session.is_some() && self.last_session != options.session {
            goes_on = self.stopped.take().map(|_| Report {
                account: self.name.clone(),
                lane: None,
                outcomes: Vec::new(),
                account_state: Some(AccountState::Running),
                findings: None,
            });
            self.last_session.clone_from(&options.session);
        }
        self.queue.stale = options.stale;
        self.spend(options.session, options.place, now);
        self.lanes.iter_mut().for_each(|lane| lane.budget.set_share(options.rate_share));
        goes_on
    }

    /// Finds out which calls the key may make.
    pub fn check(&mut self) {
        self.preflight.begin();
    }

    pub fn pause(&mut self) {
        self.session = None;
    }

    pub fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }

    pub fn lane(&mut self, endpoint: &str) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.endpoint.name == endpoint)
    }

    /// The next call that may start now. Reports of messages that cannot be sent are added to `reports`.
    pub fn next_call(&mut self, now: Instant, policy: &Policy, reports: &mut Vec<Report>) -> Option<Call> {
        self.queue.wake(now);
        let Some(session) = self.session.clone() else {
            self.preflight.abandon();
            return None;
        };
        if let Some(lane) = self.preflight.next()
            && self.lanes[lane].take(now, policy.max_in_flight)
        {
            self.preflight.started();
            self.lanes[lane].started(now);
            return Some(Call {
                account: self.name.clone(),
                session,
                lane,
                body: preflight::BODY.to_vec(),
                sent_at: SystemTime::now(),
                started: now,
                messages: Vec::new(),
                group: GroupId::default(),
                probe: false,
                preflight: true,
            });
        }
        if self.stopped.as_ref().is_some_and(|stopped| stopped.probing || now < stopped.until) {
            return None;
        }
        let only = self.stopped.as_ref().map(|stopped| stopped.lane);
        for (position, lane) in self.lanes.iter_mut().enumerate() {
            if only.is_some_and(|only| only != position) {
                continue;
            }
            while self.queue.has_ready(position) && lane.take(now, policy.max_in_flight) {
                let Some(next) = self.queue.next(position, now) else {
                    lane.budget.give_back(now);
                    return None;
                };
                match next {
                    Next::Unsendable { message, code, reason } => {
                        lane.budget.give_back(now);
                        let newer = self.queue.newer(&message);
                        reports.push(unsendable(&self.name, &message.message, code, reason, newer));
                    }
                    Next::Call { group, mut messages, body } => {
                        lane.started(now);
                        for queued in &mut messages {
                            queued.seen.get_or_insert_with(|| Seen::of(lane));
                        }
                        if let Some(stopped) = &mut self.stopped {
                            stopped.probing = true;
                        }
                        return Some(Call {
                            account: self.name.clone(),
                            session,
                            lane: position,
                            body,
                            sent_at: SystemTime::now(),
                            started: now,
                            messages,
                            group,
                            probe: self.stopped.is_some(),
                            preflight: false,
                        });
                    }
                }
            }
        }
        None
    }

    /// When to look again, if nothing else happens.
    pub fn wakes_at(&mut self, now: Instant, policy: &Policy) -> Option<Instant> {
        let may = self.session.is_some() && self.stopped.is_none();
        let mut watched = false;
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            watched |= lane.show(now, self.queue.ready(number), may);
        }
        let mut wake = watched.then(|| now + LOOK);
        if self.session.is_none() {
            return wake;
        }
        if let Some(lane) = self.preflight.next()
            && let Start::At(at) = self.lanes[lane].start_when(now, policy.max_in_flight)
        {
            wake = earlier(wake, Some(at));
        }
        if !self.stopped.as_ref().is_some_and(|stopped| stopped.probing) {
            let not_before = self.stopped.as_ref().map_or(now, |stopped| stopped.until);
            let only = self.stopped.as_ref().map(|stopped| stopped.lane);
            for (position, lane) in self.lanes.iter_mut().enumerate() {
                if !self.queue.has_ready(position) || only.is_some_and(|only| only != position) {
                    continue;
                }
                let at = match lane.start_when(now, policy.max_in_flight) {
                    Start::Now => now,
                    Start::At(at) => at,
                    Start::AfterCall => continue,
                };
                wake = earlier(wake, Some(at.max(not_before)));
            }
        }
        earlier(wake, self.queue.wakes_at())
    }

    /// A call has ended: what it means for its messages.
    pub fn ended(
        &mut self,
        call: Call,
        result: Result<Answer, TransportError>,
        now: Instant,
        policy: &Policy,
    ) -> Report {
        let lane = &mut self.lanes[call.lane];
        let rate = result.as_ref().ok().and_then(|answer| answer.rate);
        let verdict = verdict::of(lane.endpoint, result);
        match &verdict {
            Verdict::Accepted { .. } | Verdict::Refused { .. } => lane.succeeded(),
            Verdict::Trouble { retry_after, .. } => lane.failed(now, policy.backoff, *retry_after),
            Verdict::Throttled { .. } | Verdict::Stopped { .. } => lane.undecided(),
        }
        let held = match &verdict {
            Verdict::Throttled { retry_after, .. } => lane.throttled(now, *retry_after),
            _ => Duration::ZERO,
        };
        lane.ended(now, rate);
        let mut report = Report {
            account: self.name.clone(),
            lane: Some(lane.endpoint),
            outcomes: Vec::with_capacity(call.messages.len()),
            account_state: None,
            findings: None,
        };
        if call.preflight {
            report.findings = self.preflight.ended(lane.endpoint, verdict);
            return report;
        }
        if let Some(gauges) = lane.gauges() {
            let enqueued = call.messages.iter().map(|queued| queued.message.enqueued_at);
            gauges.count(&verdict, now.saturating_duration_since(call.started), enqueued);
        }
        let together = call.messages.len() > 1;
        let mut settled = Vec::new();
        let mut again = Vec::new();
        for mut queued in call.messages {
            queued.message.attempts += 1;
            let (failure, wait) = match &verdict {
                Verdict::Accepted { .. } => (None, None),
                Verdict::Refused { failure } if together => {
                    queued.alone = true;
                    (Some(failure), Some(Duration::ZERO))
                }
                Verdict::Refused { failure } => (Some(failure), None),
                Verdict::Throttled { failure, .. } => (Some(failure), Some(held)),
                Verdict::Stopped { failure } => (Some(failure), Some(Duration::ZERO)),
                Verdict::Trouble { retry_after, failure } => {
                    strike(&mut queued, failure, lane);
                    let spent = queued.message.strikes >= policy.max_strikes;
                    let wait =
                        policy.backoff.delay(queued.message.attempts).max(retry_after.unwrap_or_default());
                    (Some(failure), (!spent).then_some(wait))
                }
            };
            let ending = match (&verdict, failure, wait) {
                (_, Some(failure), Some(wait)) => {
                    Ending::Retry { wait, strikes: queued.message.strikes, failure: failure.clone() }
                }
                (_, Some(failure), None) => {
                    Ending::Dead { failure: failure.clone(), newer: self.queue.newer(&queued) }
                }
                (Verdict::Accepted { status, resource_id }, None, _) => {
                    let state_of = self.queue.state_of(&queued);
                    Ending::Accepted { status: *status, resource_id: resource_id.clone(), state_of }
                }
                (_, None, _) => unreachable!("only what is accepted has no failure"),
            };
            report.outcomes.push(Outcome {
                seq: queued.message.seq,
                id: queued.message.id,
                attempts: queued.message.attempts,
                sent_at: call.sent_at,
                ending,
            });
            match wait {
                Some(wait) => {
                    queued.not_before = (!wait.is_zero()).then(|| now + wait);
                    again.push(queued);
                }
                None => settled.push(queued),
            }
        }
        let accepted = matches!(verdict, Verdict::Accepted { .. });
        self.queue.ended(call.group, if accepted { &settled } else { &[] }, again, now);
        report.account_state = self.account_state(&verdict, call.lane, call.probe, now + policy.backoff.max);
        report
    }

    /// What the call says about the account as a whole, where that is news. A refused account is probed at `until`.
    fn account_state(
        &mut self,
        verdict: &Verdict,
        lane: usize,
        probe: bool,
        until: Instant,
    ) -> Option<AccountState> {
        match (verdict, &mut self.stopped) {
            (Verdict::Stopped { failure }, None) => {
                self.stopped = Some(Stopped { until, probing: false, lane });
                Some(AccountState::Stopped { reason: failure.reason.clone() })
            }
            (Verdict::Accepted { .. } | Verdict::Refused { .. }, Some(_)) if probe => {
                self.stopped = None;
                Some(AccountState::Running)
            }
            (_, Some(stopped)) if probe => {
                stopped.probing = false;
                stopped.until = until;
                None
            }
            // Calls that were under way when the account was stopped say nothing new.
            _ => None,
        }
    }
}

/// Counts a failure against the message itself, if its lane is healthy otherwise. Only an internal error of Klaviyo's
/// can be the message's doing; no answer, or 502 to 504, is the doing of what is between us and Klaviyo.
fn strike(queued: &mut Queued, failure: &Failure, lane: &Lane) {
    let seen = queued.seen.get_or_insert_with(|| Seen::of(lane));
    seen.own_failures += 1;
    let succeeded = lane.successes - seen.successes;
    let failed = (lane.failures - seen.failures).saturating_sub(seen.own_failures);
    if succeeded + failed < SAMPLE {
        return;
    }
    queued.seen = Some(Seen::of(lane));
    if failure.status == Some(500) && succeeded >= failed * HEALTHY {
        queued.message.strikes += 1;
    }
}

fn unsendable(
    account: &Arc<str>,
    message: &Message,
    code: &str,
    reason: String,
    newer: Option<i64>,
) -> Report {
    let failure = Failure { code: code.to_owned(), reason, ..Failure::default() };
    Report {
        account: account.clone(),
        lane: None,
        outcomes: vec![Outcome {
            seq: message.seq,
            id: message.id,
            attempts: message.attempts,
            sent_at: SystemTime::now(),
            ending: Ending::Dead { failure, newer },
        }],
        account_state: None,
        findings: None,
    }
}

pub fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
