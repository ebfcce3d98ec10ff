//! One Klaviyo account: its messages, its lanes, and whether Klaviyo takes its calls at all.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use klaviyo::{ENDPOINTS, Method, Request, SEND_CAMPAIGN, Session};

use crate::backoff::Backoff;
use crate::budget::LOOK;
use crate::call::{Call, Carried, Purpose, Unsent};
use crate::deletion::DeletionRequest;
use crate::draw;
use crate::gauges::Place;
use crate::lane::{Lane, Start};
use crate::message::{AccountState, Ending, Message, Outcome, Parked, Report};
use crate::preflight::{self, Preflight};
use crate::queue::{Line, Queue, Queued};
use crate::stale::Stale;
use crate::stops::Stops;
use crate::strikes::watch;

mod campaigns;
mod choice;
mod direct;
mod ended;
mod endings;
mod follow;
mod gates;
mod imports;
mod questions;
mod reads;

use campaigns::Watches;
use follow::Jobs;
use gates::Gates;
use imports::Imports;
use reads::Waiting;

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
    /// Whether calls may carry many messages.
    pub bulk: bool,
    /// Whether events may be among them that have a `unique_id` of the user's own.
    pub given_ids: bool,
    /// How long it is known which list has a name.
    pub list_ttl: Duration,
    /// How long a call may take; and so how long one may still be on its way that nobody waits for any more.
    pub request_timeout: Duration,
}

pub struct Account {
    name: Arc<str>,
    /// How often it was removed.
    life: u32,
    session: Option<Session>,
    /// The session last used, also while the account sends nothing.
    last_session: Option<Session>,
    place: Option<Place>,
    /// By the numbers of their endpoints, see [`Queue::endpoints`].
    lanes: Vec<Lane>,
    rate_share: f64,
    /// Since when calls are counted here.
    since: Instant,
    queue: Queue,
    stops: Stops,
    preflight: Preflight,
    imports: Imports,
    jobs: Jobs,
    watches: Watches,
    gates: Gates,
    /// Calls that only ask, in the order in which they were handed in.
    reads: Vec<Waiting>,
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
            rate_share: options.rate_share,
            since: now,
            queue: Queue::new(),
            stops: Stops::default(),
            preflight: Preflight::default(),
            imports: Imports::default(),
            jobs: Jobs::default(),
            watches: Watches::default(),
            gates: Gates::new(),
            reads: Vec::new(),
        };
        account.queue.stale = options.stale;
        account.spend(options.session, options.place, now);
        account
    }

    fn spend(&mut self, session: Option<Session>, place: Option<Place>, now: Instant) {
        (self.session, self.place) = (session, place);
        if let Some(place) = place {
            place.spend(self.session.as_ref());
            place.forget_lanes(self.lanes.len());
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
            // It may be another account of Klaviyo's.
            self.queue.forget_names(now);
            self.imports.wake_all(now);
            self.forget_gates();
            self.last_session.clone_from(&options.session);
        }
        self.queue.stale = options.stale;
        self.spend(options.session, options.place, now);
        self.rate_share = options.rate_share;
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

    /// See [`Policy::given_ids`].
    pub fn allow_given_ids(&mut self, allowed: bool, now: Instant) {
        self.queue.allow_given_ids(allowed, now);
    }

    /// See [`Policy::list_ttl`].
    pub fn know_lists_for(&mut self, time: Duration) {
        self.queue.names.lasts = time;
    }

    /// It was removed: nothing of it is ours any more but what its calls have spent. Another may come by its name, or
    /// have its place. Reports what it has done, and that it is not stopped, if it was.
    pub fn forget(&mut self, now: Instant) -> Vec<Report> {
        let done = self.forget_followed(now);
        self.life += 1;
        self.spend(None, None, now);
        self.queue.clear();
        self.imports = Imports::default();
        self.watches = Watches::default();
        self.reads.clear();
        self.forget_gates();
        self.preflight = Preflight::default();
        done.into_iter().chain(self.go_on(now)).collect()
    }

    /// Lets all go that was stopped. Reports that, if there was anything.
    fn go_on(&mut self, now: Instant) -> Option<Report> {
        let before = self.stops.reason();
        self.stops.clear();
        let account_state = self.news(before, now);
        account_state.map(|state| Report { account_state: Some(state), ..Report::new(&self.name, None) })
    }

    /// Takes messages, in their order. Reports those that cannot stay.
    pub fn add(&mut self, messages: Vec<Message>, now: Instant) -> Option<Report> {
        let parked: Vec<Parked> =
            messages.into_iter().filter_map(|message| self.queue.add(message, now)).collect();
        self.open_lanes(now);
        (!parked.is_empty()).then(|| Report { parked, ..Report::new(&self.name, None) })
    }

    /// People are to be deleted. Reports what is of no use for that.
    pub fn discard(&mut self, requests: Vec<DeletionRequest>, now: Instant) -> Option<Report> {
        let mut report = Report::new(&self.name, None);
        for request in requests {
            let by = request.id;
            let discarded = self.queue.discard(request, now);
            report.outcomes.extend(
                discarded
                    .iter()
                    .map(|useless| Outcome::of(useless, SystemTime::now(), false, Ending::Discarded { by })),
            );
        }
        (!report.outcomes.is_empty()).then_some(report)
    }

    pub fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// The lane of an endpoint, by its name.
    pub fn lane(&mut self, endpoint: &str) -> Option<&mut Lane> {
        if let Some(number) = self.lanes.iter().position(|lane| lane.endpoint.name == endpoint) {
            return self.lanes.get_mut(number);
        }
        let number = self.queue.number(klaviyo::call_named(endpoint)?);
        self.open_lanes(self.since);
        self.lanes.get_mut(number)
    }

    /// The next call that may start now. Reports of messages that cannot be sent are added to `reports`.
    pub fn next_call(&mut self, now: Instant, policy: &Policy, reports: &mut Vec<Report>) -> Option<Call> {
        self.queue.wake(now);
        if self.session.is_none() {
            self.preflight.abandon();
            return None;
        }
        if let Some(lane) = self.preflight.next()
            && self.lanes[lane].take(now, policy.max_in_flight)
        {
            self.preflight.started();
            let request = preflight::request(self.lanes[lane].endpoint);
            return self.start(lane, request, Carried::default(), Purpose::Preflight, now);
        }
        if let Some(question) = self.next_question(now, policy).or_else(|| self.next_follow(now, policy)) {
            return Some(question);
        }
        if let Some(call) = self.next_direct(now, policy, reports).or_else(|| self.next_look(now, policy)) {
            return Some(call);
        }
        if let Some(call) = self.next_watch(now, policy) {
            return Some(call);
        }
        let lanes = 0..self.lanes.len();
        for (backfill, number) in
            lanes.clone().map(|lane| (false, lane)).chain(lanes.map(|lane| (true, lane)))
        {
            let Some(draw) = self.lanes[number].draw else { continue };
            let line = Line { lane: draw.from, backfill };
            while self.ready(number, backfill, now, policy) > 0
                && self.starts_when(number, backfill, now, policy) == Start::Now
                && self.lanes[number].take(now, policy.max_in_flight)
            {
                // Whether an outage is over is not found out by what an outage would have put aside.
                if self.lanes[number].is_broken() && *self.lanes[number].endpoint == SEND_CAMPAIGN {
                    self.stops.started(number);
                    let request = preflight::request(&SEND_CAMPAIGN);
                    return self.start(number, request, Carried::default(), Purpose::Probe, now);
                }
                let next = match self.is_next_bulk(number, draw, backfill, policy) {
                    true => draw::batch(self.lanes[number].endpoint)
                        .and_then(|batch| self.queue.next_bulk(draw.from, batch, now))
                        .map(|bulk| Ok(Carried::bulk(bulk, draw))),
                    false => {
                        let riders = draw.many || !self.rides(line, now, policy);
                        self.queue.next(line, riders, now).map(Carried::single)
                    }
                };
                match next {
                    Some(Ok((request, mut carried))) => {
                        self.stops.started(number);
                        for queued in &mut carried.messages {
                            watch(queued, &self.lanes[number]);
                        }
                        let lane = &self.lanes[number];
                        let purpose = match lane.endpoint.method {
                            Method::Get => Purpose::Question,
                            _ if lane.is_followed() => Purpose::Import(imports::new_id()),
                            Method::Post | Method::Patch | Method::Delete => Purpose::Deliver,
                        };
                        return self.start(number, request, carried, purpose, now);
                    }
                    Some(Err((message, why))) => {
                        self.lanes[number].budget.give_back(now);
                        reports.push(self.unsendable(&message, why));
                    }
                    // What seemed to ride does not.
                    None => self.lanes[number].budget.give_back(now),
                }
            }
        }
        self.next_read(now, policy)
    }

    /// No call is made of a message.
    fn unsendable(&self, queued: &Queued, why: Unsent) -> Report {
        let ending = match why {
            Unsent::Dead(failure) => Ending::Dead { failure, newer: self.queue.newer(queued) },
            Unsent::Cancelled(by) => Ending::Discarded { by },
        };
        let outcome = Outcome::of(&queued.message, SystemTime::now(), false, ending);
        Report { outcomes: vec![outcome], ..Report::new(&self.name, None) }
    }

    /// A call starts, in the place that was taken.
    fn start(
        &mut self,
        lane: usize,
        request: Request,
        carried: Carried,
        purpose: Purpose,
        now: Instant,
    ) -> Option<Call> {
        self.lanes[lane].started(now);
        Some(Call {
            account: self.name.clone(),
            session: self.session.clone()?,
            lane,
            request: Some(request),
            sent_at: SystemTime::now(),
            started: now,
            life: self.life,
            purpose,
            carried,
        })
    }

    /// Whether a call was made with the key that is used, or was used last.
    fn is_current(&self, call: &Call) -> bool {
        self.last_session.as_ref() == Some(&call.session)
    }

    /// Whether a call that was held back may still be made.
    pub fn sends(&self, call: &Call) -> bool {
        self.life == call.life && self.session.as_ref() == Some(&call.session)
    }

    /// When to look again, if nothing else happens.
    pub fn wakes_at(&mut self, now: Instant, policy: &Policy) -> Option<Instant> {
        let mut watched = false;
        for number in 0..self.lanes.len() {
            let may = self.session.is_some() && self.stops.is_open(number) && !self.is_shut(number);
            let ready = [false, true].map(|backfill| self.ready(number, backfill, now, policy));
            let ready = ready.iter().sum::<usize>() + self.queue.direct_ready(number);
            watched |= self.lanes[number].show(now, ready, may);
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
        wake = earlier(wake, self.asks_at(now, policy));
        wake = earlier(wake, self.follows_at(now, policy));
        wake = earlier(wake, self.directs_at(now, policy));
        wake = earlier(wake, self.watches_at(now, policy));
        wake = earlier(wake, self.gates_look_at(now, policy));
        wake = earlier(wake, self.reads_at(now, policy));
        for number in 0..self.lanes.len() {
            for backfill in [false, true] {
                if self.ready(number, backfill, now, policy) > 0 {
                    wake = earlier(wake, self.starts_when(number, backfill, now, policy).at(now));
                }
            }
        }
        earlier(wake, self.queue.wakes_at())
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
#[path = "account/backfill_tests.rs"]
mod backfill_tests;
#[cfg(test)]
#[path = "account/campaign_tests.rs"]
mod campaign_tests;
#[cfg(test)]
#[path = "account/consent_tests.rs"]
mod consent_tests;
#[cfg(test)]
#[path = "account/direct_tests.rs"]
mod direct_tests;
#[cfg(test)]
#[path = "account/list_tests.rs"]
mod list_tests;
#[cfg(test)]
#[path = "account/read_tests.rs"]
mod read_tests;
#[cfg(test)]
#[path = "account/resource_tests.rs"]
mod resource_tests;
#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
