//! Calls that messages ask for themselves: one by one, each in the lane of its endpoint.

use std::time::Instant;

use super::{Account, Policy, earlier};
use crate::call::{Call, Carried, Purpose};
use crate::lane::{Lane, Start, most_in_flight};
use crate::message::Report;
use crate::preflight;
use crate::strikes::watch;

impl Account {
    /// Makes lanes for endpoints that have come to be needed.
    pub(super) fn open_lanes(&mut self, now: Instant) {
        for number in self.lanes.len()..self.queue.endpoints().len() {
            let endpoint = self.queue.endpoints()[number];
            let mut lane = Lane::new(endpoint, self.rate_share, now);
            lane.set_place(self.place.map(|place| (place, number)), now);
            // An earlier worker may have made calls of which there is no trace.
            let made = most_in_flight(endpoint, u32::MAX);
            lane.budget.occupy(now, now.saturating_duration_since(self.since), made.into());
            self.lanes.push(lane);
            self.stops.add(endpoint);
        }
    }

    /// The next of these calls that may start now. Reports of messages that cannot be sent are added to `reports`.
    pub(super) fn next_direct(
        &mut self,
        now: Instant,
        policy: &Policy,
        reports: &mut Vec<Report>,
    ) -> Option<Call> {
        for number in self.directs() {
            while (self.queue.direct_ready(number) > 0 || self.lanes[number].owes_probe())
                && self.direct_when(number, now, policy) == Start::Now
                && self.lanes[number].take(now, policy.max_in_flight)
            {
                // Which of them Klaviyo fails at would be lost in an outage, one after the other.
                let probes =
                    self.queue.direct_ready(number) == 0 || self.queue.is_next_direct_the_last(number);
                if self.lanes[number].is_broken() && probes {
                    self.stops.started(number);
                    let request = preflight::request(self.lanes[number].endpoint);
                    return self.start(number, request, Carried::default(), Purpose::Probe, now);
                }
                match self.queue.next_direct(number, now).map(Carried::single) {
                    Some(Ok((request, mut carried))) => {
                        self.stops.started(number);
                        carried.messages.iter_mut().for_each(|queued| _ = watch(queued, &self.lanes[number]));
                        return self.start(number, request, carried, Purpose::Deliver, now);
                    }
                    Some(Err((message, why))) => {
                        self.lanes[number].budget.give_back(now);
                        reports.push(self.unsendable(&message, why));
                    }
                    None => self.lanes[number].budget.give_back(now),
                }
            }
        }
        None
    }

    /// When the next of these may start.
    pub(super) fn directs_at(&mut self, now: Instant, policy: &Policy) -> Option<Instant> {
        let lanes = self.directs();
        lanes.into_iter().fold(None, |wake, lane| earlier(wake, self.direct_when(lane, now, policy).at(now)))
    }

    /// The lanes that have something to do of this: for what waits, or to find out whether an outage is over that others of
    /// these have died in.
    fn directs(&self) -> Vec<usize> {
        let mut lanes = self.queue.direct_lanes();
        let owing = (0..self.lanes.len()).filter(|number| self.lanes[*number].owes_probe());
        let owing: Vec<usize> = owing.filter(|number| !lanes.contains(number)).collect();
        lanes.extend(owing);
        lanes
    }

    fn direct_when(&mut self, lane: usize, now: Instant, policy: &Policy) -> Start {
        self.stops.start_when(lane, now).and(self.lanes[lane].start_when(now, policy.max_in_flight))
    }
}
