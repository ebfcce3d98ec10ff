//! Whether a message goes by itself or with others, and history after all else.

use std::time::Instant;

use super::{Account, Policy};
use crate::lane::{Lane, Start};
use crate::queue::Line;

impl Account {
    /// How many keys have something that a lane may carry now, as far as they are concerned: history, or anything else.
    pub(super) fn ready(&mut self, number: usize, backfill: bool, now: Instant, policy: &Policy) -> usize {
        let Lane { kind: Some(kind), bulk, .. } = self.lanes[number] else { return 0 };
        let line = Line { kind, backfill };
        if !bulk {
            let riders = !self.rides(line, now, policy);
            return self.queue.ready(line, riders);
        }
        let wanted = if backfill { policy.bulk } else { self.is_backlog(kind, policy) };
        let may = wanted && !self.is_outage(kind) && self.may_follow(number);
        if may { self.queue.riding(line) } else { 0 }
    }

    /// Whether more waits of a kind than calls of one may carry in a second: then a call of many is worth its delay.
    /// Below that all goes at once by itself. Neither is a state to flap between: both may go at the same time.
    pub(super) fn is_backlog(&self, kind: usize, policy: &Policy) -> bool {
        let single = self.lanes.iter().find(|lane| lane.kind == Some(kind) && !lane.bulk);
        let riding = self.queue.riding(Line { kind, backfill: false });
        policy.bulk && single.is_some_and(|lane| riding as u64 > lane.budget.burst())
    }

    /// Whether neither lane of a kind gets through. Then calls of one find out when that is over: each risks that one
    /// message may have been sent, and not a thousand.
    fn is_outage(&self, kind: usize) -> bool {
        self.lanes.iter().filter(|lane| lane.kind == Some(kind)).all(Lane::is_broken)
    }

    /// Whether what may ride with others waits for a call of many: there is a backlog, and such a call can go, if only
    /// after one that is under way. While their limits hold them back, calls of one carry what they can; also while as much
    /// is in jobs under way as may be, for these can take minutes. History waits for such a call wherever there can be one.
    pub(super) fn rides(&mut self, line: Line, now: Instant, policy: &Policy) -> bool {
        let Line { kind, backfill } = line;
        let wanted = if backfill { policy.bulk } else { self.is_backlog(kind, policy) };
        if !wanted || self.is_outage(kind) {
            return false;
        }
        let Some(number) = self.lanes.iter().position(|lane| lane.kind == Some(kind) && lane.bulk) else {
            return false;
        };
        if !self.may_follow(number) {
            return false;
        }
        match backfill {
            true => self.stops.is_open(number),
            false => !matches!(self.starts_when(number, false, now, policy), Start::At(_)),
        }
    }

    /// When a call of a lane may start.
    ///
    /// One of many that could carry more waits for its turn as if they were made evenly: made as soon as the limits allow,
    /// calls that are half empty would use up a minute's in a quarter of it. So does history, however full, for a backlog
    /// may come; where it goes by itself it leaves a part of the limits to that.
    pub(super) fn starts_when(
        &mut self,
        number: usize,
        backfill: bool,
        now: Instant,
        policy: &Policy,
    ) -> Start {
        let stops = self.stops.start_when(number, now);
        let lane = &mut self.lanes[number];
        let may = stops.and(lane.start_when(now, policy.max_in_flight));
        let Some(kind) = lane.kind else { return may };
        if !lane.bulk {
            return if backfill { may.and(lane.when_spare(now)) } else { may };
        }
        let riding = [false, true].map(|backfill| self.queue.riding(Line { kind, backfill }));
        match backfill || riding.iter().sum::<usize>() < lane.endpoint.max_items {
            true => may.and(lane.when_due(now)),
            false => may,
        }
    }
}
