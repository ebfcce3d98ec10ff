//! Whether a message goes by itself or with others.

use std::time::Instant;

use super::{Account, Policy};
use crate::lane::{Lane, Start};

impl Account {
    /// How many keys have something that a lane may carry now, as far as they are concerned.
    pub(super) fn ready(&mut self, number: usize, now: Instant, policy: &Policy) -> usize {
        let Lane { kind: Some(kind), bulk, .. } = self.lanes[number] else { return 0 };
        if !bulk {
            let riders = !self.rides(kind, now, policy);
            return self.queue.ready(kind, riders);
        }
        let may = self.is_backlog(kind, policy) && !self.is_outage(kind) && self.may_follow(number);
        if may { self.queue.riding(kind) } else { 0 }
    }

    /// Whether more waits of a kind than calls of one may carry in a second: then a call of many is worth its delay.
    /// Below that all goes at once by itself. Neither is a state to flap between: both may go at the same time.
    pub(super) fn is_backlog(&self, kind: usize, policy: &Policy) -> bool {
        let single = self.lanes.iter().find(|lane| lane.kind == Some(kind) && !lane.bulk);
        policy.bulk && single.is_some_and(|lane| self.queue.riding(kind) as u64 > lane.budget.burst())
    }

    /// Whether neither lane of a kind gets through. Then calls of one find out when that is over: each risks that one
    /// message may have been sent, and not a thousand.
    fn is_outage(&self, kind: usize) -> bool {
        self.lanes.iter().filter(|lane| lane.kind == Some(kind)).all(Lane::is_broken)
    }

    /// Whether what may ride with others waits for a call of many: there is a backlog, and such a call can go, if only
    /// after one that is under way. While their limits hold them back, calls of one carry what they can; also while as much
    /// is in jobs under way as may be, for these can take minutes.
    pub(super) fn rides(&mut self, kind: usize, now: Instant, policy: &Policy) -> bool {
        if !self.is_backlog(kind, policy) || self.is_outage(kind) {
            return false;
        }
        let Some(number) = self.lanes.iter().position(|lane| lane.kind == Some(kind) && lane.bulk) else {
            return false;
        };
        if !self.may_follow(number) {
            return false;
        }
        !matches!(self.starts_when(number, now, policy), Start::At(_))
    }

    /// When a call of a lane may start.
    ///
    /// One of many that could carry more waits for its turn as if they were made evenly: made as soon as the limits allow,
    /// calls that are half empty would use up a minute's in a quarter of it.
    pub(super) fn starts_when(&mut self, number: usize, now: Instant, policy: &Policy) -> Start {
        let stops = self.stops.start_when(number, now);
        let lane = &mut self.lanes[number];
        let may = stops.and(lane.start_when(now, policy.max_in_flight));
        match lane.kind.filter(|_| lane.bulk) {
            Some(kind) if self.queue.riding(kind) < lane.endpoint.max_items => may.and(lane.when_due(now)),
            _ => may,
        }
    }
}
