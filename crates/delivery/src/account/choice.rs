//! Whether a message goes by itself or with others, and history after all else.

use std::time::Instant;

use super::{Account, Policy};
use crate::draw::Draw;
use crate::lane::Start;
use crate::queue::Line;

impl Account {
    /// How many keys have something that a lane may carry now, as far as they are concerned: history, or anything else.
    pub(super) fn ready(&mut self, number: usize, backfill: bool, now: Instant, policy: &Policy) -> usize {
        let Some(Draw { from, one, many }) = self.lanes[number].draw else { return 0 };
        let line = Line { lane: from, backfill };
        match (one, many) {
            (true, true) => self.queue.ready(line, true),
            (true, false) => {
                let riders = !self.rides(line, now, policy);
                self.queue.ready(line, riders)
            }
            (false, _) => {
                let riding = self.queue.riding(line);
                if riding == 0 {
                    return 0;
                }
                let wanted = if backfill { policy.bulk } else { self.is_backlog(from, policy) };
                let may = wanted && !self.is_outage(from) && self.may_follow(number);
                if may { riding } else { 0 }
            }
        }
    }

    /// Whether the next call of a lane is one of many. One that may carry either finds out by one message when an outage is
    /// over, and is not kept in it by a message that Klaviyo fails at.
    pub(super) fn is_next_bulk(&self, number: usize, draw: Draw, backfill: bool, policy: &Policy) -> bool {
        let Draw { from, one, many } = draw;
        let alone = || self.queue.is_next_alone(Line { lane: from, backfill });
        many && (!one || policy.bulk && !self.lanes[number].is_broken() && !alone())
    }

    /// Whether more waits than calls of one may carry in a second, where there are calls of many besides: then such a call
    /// is worth its delay. Below that all goes at once by itself. Neither is a state to flap between: both may go at the
    /// same time.
    pub(super) fn is_backlog(&self, from: usize, policy: &Policy) -> bool {
        let riding = self.queue.riding(Line { lane: from, backfill: false });
        policy.bulk && riding as u64 > self.lanes[from].budget.burst()
    }

    /// Whether neither of the lanes that draw from there gets through. Then calls of one find out when that is over: each
    /// risks that one message may have been sent, and not a thousand.
    fn is_outage(&self, from: usize) -> bool {
        self.drawing(from).all(|number| self.lanes[number].is_broken())
    }

    fn drawing(&self, from: usize) -> impl Iterator<Item = usize> {
        let lanes = self.lanes.iter().enumerate();
        lanes
            .filter(move |(_, lane)| lane.draw.is_some_and(|draw| draw.from == from))
            .map(|(number, _)| number)
    }

    /// Whether what may ride with others waits for a call of many: there is a backlog, and such a call can go, if only
    /// after one that is under way. While their limits hold them back, calls of one carry what they can; also while as much
    /// is in jobs under way as may be, for these can take minutes. History waits for such a call wherever there can be one.
    pub(super) fn rides(&mut self, line: Line, now: Instant, policy: &Policy) -> bool {
        let Line { lane, backfill } = line;
        let wanted = if backfill { policy.bulk } else { self.is_backlog(lane, policy) };
        if !wanted || self.is_outage(lane) {
            return false;
        }
        let Some(number) = self.drawing(lane).find(|number| *number != lane) else { return false };
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
        let (stops, gate) = (self.stops.start_when(number, now), self.gate(number));
        let lane = &mut self.lanes[number];
        let may = stops.and(lane.start_when(now, policy.max_in_flight)).and(gate);
        let Some(Draw { from, many, .. }) = lane.draw else { return may };
        if !many {
            return if backfill { may.and(lane.when_spare(now)) } else { may };
        }
        let riding = [false, true].map(|backfill| self.queue.riding(Line { lane: from, backfill }));
        match backfill || riding.iter().sum::<usize>() < lane.endpoint.max_items {
            true => may.and(lane.when_due(now)),
            false => may,
        }
    }
}
