//! One Klaviyo account: its messages, its lanes, and whether Klaviyo takes its calls at all.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use klaviyo::{Answer, ENDPOINTS, Session, TransportError};

use crate::backoff::Backoff;
use crate::budget::LOOK;
use crate::gauges::Place;
use crate::lane::{Lane, Start};
use crate::message::{AccountState, Ending, Failure, Outcome, Report};
use crate::preflight::{self, Preflight};
use crate::queue::{GroupId, Next, Queue, Queued};
use crate::stale::Stale;
use crate::stops::Stops;
use crate::strikes::{Seen, strike};
use crate::verdict::{self, Verdict};

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
    /// In which life of the account it was made.
    life: u32,
    /// Of a preflight none.
    messages: Vec<Queued>,
    group: GroupId,
    /// Finds out whether the key may make this call.
    preflight: bool,
}

pub struct Account {
    name: Arc<str>,
    /// How often it was removed.
    life: u32,
    session: Option<Session>,
    /// The session last used, also while the account sends nothing.
    last_session: Option<Session>,
    place: Option<Place>,
    lanes: Vec<Lane>,
    queue: Queue,
    stops: Stops,
    preflight: Preflight,
}

impl Account {
    pub fn new(options: AccountOptions, now: Instant) -> Self {
        let mut account = Self {
            name: options.name,
            life: 0,
            last_session: options.session.clone(),
            session: None,
            place: None,
            lanes: ENDPOINTS.iter().map(|endpoint| Lane::new(endpoint, options.rate_share, now)).collect(),
            queue: Queue::new(ENDPOINTS.to_vec()),
            stops: Stops::default(),
            preflight: Preflight::default(),
        };
        account.queue.stale = options.stale;
        account.spend(options.session, options.place, now);
        account
    }

    fn spend(&mut self, session: Option<Session>, place: Option<Place>, now: Instant) {
        (self.session, self.place) = (session, place);
        if let Some(place) = place {
            place.spend(self.session.as_ref());
        }
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            lane.set_place(place.map(|place| (place, number)), now);
        }
    }

    /// Changes it. Reports that a stopped account goes on, if that is so.
    pub fn set(&mut self, options: AccountOptions, now: Instant) -> Option<Report> {
        let mut report = None;
        // A new key, revision or address deserves a new try at once.
        if options.session.is_some() && self.last_session != options.session {
            report = self.go_on(now);
            self.queue.wake_all(now);
            self.last_session.clone_from(&options.session);
        }
        self.queue.stale = options.stale;
        self.spend(options.session, options.place, now);
        self.lanes.iter_mut().for_each(|lane| lane.budget.set_share(options.rate_share));
        report
    }

    /// Finds out which calls the key may make.
    pub fn check(&mut self) {
        self.preflight.begin();
    }

    /// Sends nothing until it is set anew. `places` are given out anew too: one of these is not its own until then.
    pub fn pause(&mut self, places: &[Place], now: Instant) {
        let place = self.place.filter(|mine| places.iter().all(|place| place.at != mine.at));
        self.spend(None, place, now);
    }

    /// It was removed: nothing of it is ours any more but what its calls have spent. Another may come by its name, or
    /// have its place. Reports that it is not stopped, if it was.
    pub fn forget(&mut self, now: Instant) -> Option<Report> {
        self.life += 1;
        self.spend(None, None, now);
        self.queue.clear();
        self.preflight = Preflight::default();
        self.go_on(now)
    }

    /// Lets all go that was stopped. Reports that, if there was anything.
    fn go_on(&mut self, now: Instant) -> Option<Report> {
        let before = self.stops.reason();
        self.stops.clear();
        let account_state = self.news(before, now);
        account_state.map(|state| Report { account_state: Some(state), ..Report::new(&self.name, None) })
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
                life: self.life,
                messages: Vec::new(),
                group: GroupId::default(),
                preflight: true,
            });
        }
        for (position, lane) in self.lanes.iter_mut().enumerate() {
            if self.stops.start_when(position, now) != Start::Now {
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
                        let failure = Failure { code: code.to_owned(), reason, ..Failure::default() };
                        let ending = Ending::Dead { failure, newer: self.queue.newer(&message) };
                        let mut report = Report::new(&self.name, None);
                        report.outcomes.push(Outcome::of(&message.message, SystemTime::now(), ending));
                        reports.push(report);
                    }
                    Next::Call { group, mut messages, body } => {
                        lane.started(now);
                        self.stops.started(position);
                        for queued in &mut messages {
                            queued.seen.get_or_insert_with(|| Seen::of(lane));
                        }
                        return Some(Call {
                            account: self.name.clone(),
                            session,
                            lane: position,
                            body,
                            sent_at: SystemTime::now(),
                            started: now,
                            life: self.life,
                            messages,
                            group,
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
        let mut watched = false;
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            let may = self.session.is_some() && self.stops.is_open(number);
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
        for (position, lane) in self.lanes.iter_mut().enumerate() {
            if !self.queue.has_ready(position) {
                continue;
            }
            let holds = [self.stops.start_when(position, now), lane.start_when(now, policy.max_in_flight)];
            let at = holds.into_iter().try_fold(now, |at, hold| match hold {
                Start::Now => Some(at),
                Start::At(later) => Some(at.max(later)),
                Start::AfterCall => None,
            });
            wake = earlier(wake, at);
        }
        earlier(wake, self.queue.wakes_at())
    }

    /// A call has ended: what it means for its messages.
    pub fn ended(
        &mut self,
        mut call: Call,
        result: Result<Answer, TransportError>,
        now: Instant,
        policy: &Policy,
    ) -> Report {
        let lane = &mut self.lanes[call.lane];
        let rate = result.as_ref().ok().and_then(|answer| answer.rate);
        let verdict = verdict::of(lane.endpoint, result);
        if call.life != self.life {
            lane.undecided();
            lane.ended(now, None);
            return self.late(call, &verdict);
        }
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
        let mut report = Report::new(&self.name, Some(lane.endpoint));
        let before = self.stops.reason();
        if call.preflight {
            // Allowed is allowed. What is refused is one for messages to find out.
            if matches!(verdict, Verdict::Accepted { .. } | Verdict::Refused { .. }) {
                self.stops.ended(call.lane, call.started, &verdict, now);
            }
            report.findings = self.preflight.ended(lane.endpoint, verdict);
            report.account_state = self.news(before, now);
            return report;
        }
        if let Some(gauges) = lane.gauges() {
            let enqueued = call.messages.iter().map(|queued| queued.message.enqueued_at);
            gauges.count(&verdict, now.saturating_duration_since(call.started), enqueued);
        }
        let stopped = self.learn(&verdict, &mut call, now, policy);
        let together = call.messages.len() > 1;
        let mut settled = Vec::new();
        let mut again = Vec::new();
        for mut queued in call.messages {
            queued.message.attempts += 1;
            let backoff = || policy.backoff.delay(queued.message.attempts);
            let spent = queued.message.strikes >= policy.max_strikes;
            let wait = match &verdict {
                Verdict::Accepted { .. } => None,
                Verdict::Refused { .. } => together.then_some(Duration::ZERO),
                Verdict::Throttled { .. } => Some(held),
                Verdict::Stopped { .. } => (!spent).then(|| stopped + backoff()),
                Verdict::Trouble { retry_after, .. } => {
                    (!spent).then(|| backoff().max(retry_after.unwrap_or_default()))
                }
            };
            queued.alone |= together && matches!(verdict, Verdict::Refused { .. });
            let ending = self.ending(&verdict, &queued, wait);
            report.outcomes.push(Outcome::of(&queued.message, call.sent_at, ending));
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
        report.account_state = self.news(before, now);
        report
    }

    /// A call of an account that has been removed since. What Klaviyo took it took; the rest is not ours to decide.
    fn late(&self, call: Call, verdict: &Verdict) -> Report {
        let mut report = Report::new(&self.name, Some(self.lanes[call.lane].endpoint));
        if matches!(verdict, Verdict::Accepted { .. }) {
            for mut queued in call.messages {
                queued.message.attempts += 1;
                let ending = self.ending(verdict, &queued, None);
                report.outcomes.push(Outcome::of(&queued.message, call.sent_at, ending));
            }
        }
        report
    }

    /// What a call tells of its lane, of the account and of its own messages. Returns how long those must wait if it was
    /// refused for what it is.
    fn learn(&mut self, verdict: &Verdict, call: &mut Call, now: Instant, policy: &Policy) -> Duration {
        // The next probe of what is stopped.
        let until = now + policy.backoff.max;
        self.stops.ended(call.lane, call.started, verdict, until);
        // What becomes of a key that is not used any more stops nothing.
        let current = self.last_session.as_ref() == Some(&call.session);
        match verdict {
            Verdict::Trouble { failure, .. } => {
                call.messages.iter_mut().for_each(|queued| strike(queued, failure, &self.lanes[call.lane]));
                Duration::ZERO
            }
            Verdict::Stopped { scope, failure } if current => {
                let messages = &mut call.messages;
                self.stops.refused(call.lane, *scope, &failure.reason, messages, (now, until))
            }
            _ => Duration::ZERO,
        }
    }

    /// How a call ended for one of its messages, which is tried again after the wait, if there is one.
    fn ending(&self, verdict: &Verdict, queued: &Queued, wait: Option<Duration>) -> Ending {
        let failure = match verdict {
            Verdict::Accepted { status, resource_id } => {
                let (status, resource_id) = (*status, resource_id.clone());
                return Ending::Accepted { status, resource_id, state_of: self.queue.state_of(queued) };
            }
            Verdict::Refused { failure }
            | Verdict::Throttled { failure, .. }
            | Verdict::Stopped { failure, .. }
            | Verdict::Trouble { failure, .. } => failure.clone(),
        };
        match wait {
            Some(wait) => Ending::Retry { wait, strikes: queued.message.strikes, failure },
            None => Ending::Dead { failure, newer: self.queue.newer(queued) },
        }
    }

    /// What is refused of the account now, where that is another thing than before.
    fn news(&mut self, before: Option<String>, now: Instant) -> Option<AccountState> {
        let reason = self.stops.reason();
        if reason == before {
            return None;
        }
        self.queue.release(&self.stops, now);
        Some(reason.map_or(AccountState::Running, |reason| AccountState::Stopped { reason }))
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
