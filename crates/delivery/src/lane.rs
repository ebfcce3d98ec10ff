//! A lane: one endpoint of one account, with everything that may hold it back.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use klaviyo::{BULK_IMPORT_PROFILES, Endpoint, Method, RESOURCE_CALLS, RateHeaders, ResourceCalls};

use crate::backoff::Backoff;
use crate::breaker::Breaker;
use crate::budget::Budget;
use crate::draw::{self, Draw};
use crate::gauges::{LANES, LaneGauges, Place, microseconds};

/// Calls of many that may be under way: each is worth a thousand, which a crash sends again, one by one. Also questions,
/// of which there are a few for each such call.
const FEW_IN_FLIGHT: u32 = 4;

/// How long to hold back after a 429 that does not say.
const THROTTLED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Lane {
    pub endpoint: &'static Endpoint,
    /// What its calls carry.
    pub draw: Option<Draw>,
    /// The type of the resources that they bring, where they do.
    pub resource: Option<&'static str>,
    /// The resources that they make jobs of, where they do.
    pub resources: Option<&'static ResourceCalls>,
    pub budget: Budget,
    breaker: Breaker,
    /// When the next call is due, where they are made evenly.
    due: Option<Instant>,
    /// Klaviyo's `Retry-After`.
    held_until: Option<Instant>,
    /// What Klaviyo says is left of its steady window, and when that ends. Matters where others spend the account's
    /// budget too.
    left: Option<(u32, Instant)>,
    /// Calls under way, and calls ended whose outcome is not yet durable. Together they are what a crash sends again.
    under_way: u32,
    unsettled: u32,
    /// Calls that succeeded and failed, ever: what tells a bad message from a bad day.
    pub successes: u64,
    pub failures: u64,
    /// Whether Klaviyo has answered such a question, to the key that is used.
    pub is_answered: bool,
    /// What could have found out whether an outage is over has died in it.
    probes: bool,
    gauges: Option<&'static LaneGauges>,
}

/// Calls of an endpoint that may be under way or not yet settled, which is what a crash sends again: no more than may be
/// made in a second. Of those that are counted by the day one: after a crash as many count as made.
pub fn most_in_flight(endpoint: &Endpoint, max_in_flight: u32) -> u32 {
    let few = endpoint.max_items > 1 || endpoint.method == Method::Get;
    let most = match endpoint.limits.daily {
        Some(_) => 1,
        None if few => FEW_IN_FLIGHT,
        None => endpoint.limits.burst,
    };
    max_in_flight.min(most).min(endpoint.limits.burst)
}

/// Whether a call may start.
#[derive(Debug, PartialEq, Eq)]
pub enum Start {
    Now,
    /// Not before then.
    At(Instant),
    /// Not before a call under way has ended or been settled.
    AfterCall,
}

impl Start {
    /// When both allow it.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::AfterCall, _) | (_, Self::AfterCall) => Self::AfterCall,
            (Self::At(one), Self::At(other)) => Self::At(one.max(other)),
            (Self::At(at), Self::Now) | (Self::Now, Self::At(at)) => Self::At(at),
            (Self::Now, Self::Now) => Self::Now,
        }
    }

    /// When to look again at what may start from `earliest` on; none where a call must end first.
    pub fn at(self, earliest: Instant) -> Option<Instant> {
        match self {
            Self::Now => Some(earliest),
            Self::At(at) => Some(at.max(earliest)),
            Self::AfterCall => None,
        }
    }
}

impl Lane {
    pub fn new(endpoint: &'static Endpoint, share: f64, now: Instant) -> Self {
        Self {
            endpoint,
            draw: draw::of(endpoint),
            resource: RESOURCE_CALLS
                .into_iter()
                .find(|calls| [calls.one.name, calls.many.name].contains(&endpoint.name))
                .map(|calls| calls.resource),
            resources: RESOURCE_CALLS.into_iter().find(|calls| calls.many.name == endpoint.name),
            budget: Budget::new(endpoint, share, now),
            breaker: Breaker::default(),
            due: None,
            held_until: None,
            left: None,
            under_way: 0,
            unsettled: 0,
            successes: 0,
            failures: 0,
            is_answered: false,
            probes: false,
            gauges: None,
        }
    }

    /// Whether what its calls bring is done later, by jobs that are followed to their end.
    pub fn is_followed(&self) -> bool {
        self.endpoint == &BULK_IMPORT_PROFILES
    }

    /// Shows there, from now on, what it does. With the place goes the lane's number.
    pub fn set_place(&mut self, place: Option<(Place, usize)>, now: Instant) {
        // Those for which there is no room there are not seen.
        let place = place.filter(|(_, lane)| *lane < LANES);
        self.gauges = place.map(|(place, lane)| place.lane(lane));
        if let Some(gauges) = self.gauges {
            gauges.set_endpoint(self.endpoint);
        }
        self.budget.set_place(place, now);
    }

    pub fn gauges(&self) -> Option<&'static LaneGauges> {
        self.gauges
    }

    /// Shows how it stands, with that many keys ready to go if they `may`. Says whether it is to be shown again soon,
    /// for others wait to see it.
    pub fn show(&mut self, now: Instant, ready: usize, may: bool) -> bool {
        if let Some(gauges) = self.gauges {
            let held = self.held_until.filter(|until| *until > now);
            gauges
                .held_until
                .store(held.map_or(0, |until| microseconds(SystemTime::now() + (until - now))), Relaxed);
            gauges.under_way.store(self.under_way, Relaxed);
            gauges.ready.store(ready as u64, Relaxed);
            gauges.set_breaker(self.breaker.is_open());
            gauges.want(ready > 0 && may && held.is_none() && self.breaker.allows(now));
        }
        self.budget.show(now)
    }

    pub fn start_when(&mut self, now: Instant, max_in_flight: u32) -> Start {
        if self.under_way + self.unsettled >= most_in_flight(self.endpoint, max_in_flight) {
            return Start::AfterCall;
        }
        let mut at = now;
        if !self.breaker.allows(now) {
            match self.breaker.opens_at() {
                Some(opens) => at = at.max(opens),
                None => return Start::AfterCall,
            }
        }
        at = at.max(self.held_until.unwrap_or(now));
        if let Some((0, until)) = self.left {
            at = at.max(until);
        }
        match self.budget.start_when(now) {
            Start::Now => {}
            Start::At(free) => at = at.max(free),
            Start::AfterCall => return Start::AfterCall,
        }
        if at > now { Start::At(at) } else { Start::Now }
    }

    /// Not before the next call is due.
    pub fn when_due(&self, now: Instant) -> Start {
        self.due.filter(|due| *due > now).map_or(Start::Now, Start::At)
    }

    /// Not before a part of the limits is free that history leaves alone.
    pub fn when_spare(&mut self, now: Instant) -> Start {
        self.budget.start_when_spare(now)
    }

    /// Takes a place for a call if one may start: [`Lane::started`] says that it does, [`Budget::give_back`] that not.
    pub fn take(&mut self, now: Instant, max_in_flight: u32) -> bool {
        self.start_when(now, max_in_flight) == Start::Now && self.budget.take(now)
    }

    /// A call starts in the place that was taken.
    pub fn started(&mut self, now: Instant) {
        self.under_way += 1;
        self.breaker.started();
        // One that starts a little late makes none of the following late.
        let due = self.due.unwrap_or(now).min(now) + self.budget.interval();
        self.due = Some(due.max(now));
        self.left = match self.left {
            Some((left, until)) if now < until => Some((left.saturating_sub(1), until)),
            _ => None,
        };
    }

    /// A call ended; its outcome waits to be settled.
    pub fn ended(&mut self, now: Instant, rate: Option<RateHeaders>) {
        self.under_way -= 1;
        self.unsettled += 1;
        self.budget.end(now);
        let Some(rate) = rate else { return };
        let (left, until) = (rate.remaining.saturating_sub(self.under_way), now + rate.reset);
        self.left = match self.left {
            // Answers overtake each other: within one window of Klaviyo's the lowest is the newest.
            Some((known, end))
                if now < end && until.saturating_duration_since(end) < Duration::from_secs(2) =>
            {
                Some((known.min(left), end.max(until)))
            }
            _ => Some((left, until)),
        };
    }

    pub fn settled(&mut self) {
        self.unsettled = self.unsettled.saturating_sub(1);
    }

    pub fn succeeded(&mut self) {
        self.probes = false;
        self.successes += 1;
        self.breaker.succeeded();
    }

    pub fn failed(&mut self, now: Instant, backoff: Backoff, retry_after: Option<Duration>) {
        self.failures += 1;
        self.breaker.failed(now, backoff);
        self.hold(retry_after.map(|after| now + after));
    }

    /// A 429. What Klaviyo says comes cut to whole seconds; a little jitter keeps several senders apart.
    pub fn throttled(&mut self, now: Instant, retry_after: Option<Duration>) -> Duration {
        let wait = retry_after.unwrap_or(THROTTLED) + Duration::from_millis(fastrand::u64(0..250));
        self.breaker.undecided();
        self.hold(Some(now + wait));
        wait
    }

    /// A message has died in it that would have found out whether an outage is over.
    pub fn lost_one(&mut self) {
        self.probes = true;
    }

    /// Whether it is to be found out, by a call that does nothing, whether an outage is over.
    pub fn owes_probe(&self) -> bool {
        self.probes && self.breaker.is_open()
    }

    /// Whether its breaker is open.
    pub fn is_broken(&self) -> bool {
        self.breaker.is_open()
    }

    /// The account was refused: says nothing about the lane.
    pub fn undecided(&mut self) {
        self.breaker.undecided();
    }

    /// Lets no call start before then.
    pub fn hold(&mut self, until: Option<Instant>) {
        self.held_until = self.held_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use klaviyo::{CREATE_EVENT, UPSERT_PROFILE};

    use super::*;

    const BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60) };
    const MINUTE: Duration = Duration::from_secs(60);

    fn call(lane: &mut Lane, now: Instant, rate: Option<RateHeaders>) {
        assert!(lane.take(now, 64));
        lane.started(now);
        lane.ended(now, rate);
        lane.settled();
    }

    /// Calls it starts at `now` when each ends at once.
    fn spend(lane: &mut Lane, now: Instant) -> u32 {
        let mut calls = 0;
        while lane.start_when(now, 64) == Start::Now {
            call(lane, now, None);
            calls += 1;
        }
        calls
    }

    #[test]
    fn both_windows_hold_and_an_earlier_life_counts() {
        let now = Instant::now();
        let mut lane = Lane::new(&UPSERT_PROFILE, 1.0, now);
        lane.budget.occupy(now, Duration::from_secs(30), 100);
        assert_eq!(spend(&mut lane, now), 75, "the burst");
        let mut calls = 75;
        for tick in 1..300 {
            calls += spend(&mut lane, now + Duration::from_millis(100) * tick);
        }
        assert_eq!(calls, 650, "the rest of the minute");
        assert_eq!(spend(&mut lane, now + Duration::from_secs(31)), 75, "the earlier calls are a minute ago");
    }

    #[test]
    fn what_is_not_settled_holds_its_place() {
        let now = Instant::now();
        let mut lane = Lane::new(&CREATE_EVENT, 1e6, now);
        for _ in 0..4 {
            assert!(lane.take(now, 4));
            lane.started(now);
        }
        assert_eq!(lane.start_when(now, 4), Start::AfterCall);
        lane.ended(now, None);
        assert_eq!(lane.start_when(now, 4), Start::AfterCall);
        lane.settled();
        assert_eq!(lane.start_when(now, 4), Start::Now);
    }

    #[test]
    fn klaviyos_headers_hold_it_back_when_others_spend_too() {
        let now = Instant::now();
        let mut lane = Lane::new(&CREATE_EVENT, 1.0, now);
        let rate = |remaining| Some(RateHeaders { remaining, reset: Duration::from_secs(10) });
        call(&mut lane, now, rate(3));
        call(&mut lane, now, rate(7));
        assert_eq!(spend(&mut lane, now), 2, "an older answer that came later is not believed");
        assert_eq!(lane.start_when(now, 64), Start::At(now + Duration::from_secs(10)));
        assert!(spend(&mut lane, now + Duration::from_secs(10)) > 300);
    }

    #[test]
    fn retry_after_and_the_breaker_hold_it_back() {
        let now = Instant::now();
        let mut lane = Lane::new(&CREATE_EVENT, 1.0, now);
        assert!(lane.take(now, 64));
        lane.started(now);
        lane.throttled(now, Some(MINUTE));
        lane.ended(now, None);
        lane.settled();
        let Start::At(at) = lane.start_when(now, 64) else { panic!("held") };
        assert!(at >= now + MINUTE && at < now + MINUTE + THROTTLED);
        for _ in 0..5 {
            assert!(lane.take(at, 64));
            lane.started(at);
            lane.failed(at, BACKOFF, None);
            lane.ended(at, None);
            lane.settled();
        }
        assert!(matches!(lane.start_when(at, 64), Start::At(_)));
        assert_eq!(lane.start_when(at + MINUTE, 64), Start::Now);
        assert!(lane.take(at + MINUTE, 64));
        lane.started(at + MINUTE);
        assert_eq!(lane.start_when(at + MINUTE, 64), Start::AfterCall, "one probe at a time");
    }
}
