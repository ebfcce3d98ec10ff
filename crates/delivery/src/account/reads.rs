//! Calls that only ask, for who owns the outbox. Whatever is going out comes first: they take what a lane can spare, one after
//! the other in the order in which they were handed in.

use std::time::Instant;

use klaviyo::Request;

use super::{Account, Policy, earlier};
use crate::call::{Call, Carried, Purpose};
use crate::lane::Start;
use crate::message::{Failure, Report};
use crate::read::{Read, ReadAnswer, ReadFailure};
use crate::verdict::Verdict;

/// A read that has not been answered.
pub(super) struct Waiting {
    read: Read,
    lane: usize,
    under_way: bool,
}

impl Account {
    /// Takes calls to be made. Reports those that Klaviyo has not.
    pub fn read(&mut self, reads: Vec<Read>, now: Instant) -> Option<Report> {
        let mut report = Report::new(&self.name, None);
        for read in reads {
            match read.endpoint() {
                Some(endpoint) => {
                    let lane = self.queue.number(endpoint);
                    self.reads.push(Waiting { read, lane, under_way: false });
                }
                None => {
                    let reason = format!("Klaviyo has no call {} {}", read.method().name(), read.path);
                    let failure = Failure { code: "no_such_call".to_owned(), reason, ..Failure::default() };
                    let result = Err(ReadFailure { failure, again: false });
                    report.reads.push(ReadAnswer { id: read.id, result });
                }
            }
        }
        self.open_lanes(now);
        (!report.reads.is_empty()).then_some(report)
    }

    /// The next of these calls that may start now.
    pub(super) fn next_read(&mut self, now: Instant, policy: &Policy) -> Option<Call> {
        for number in 0..self.reads.len() {
            let Waiting { lane, under_way, .. } = self.reads[number];
            let may_start = !under_way && self.read_when(lane, now, policy) == Start::Now;
            if may_start && self.lanes[lane].take(now, policy.max_in_flight) {
                self.stops.started(lane);
                let waiting = &mut self.reads[number];
                waiting.under_way = true;
                let Read { id, path, body } = &waiting.read;
                let (id, body) = (*id, body.clone().unwrap_or_default().into_bytes());
                let request = Request::at(self.lanes[lane].endpoint, path, body);
                return self.start(lane, request, Carried::default(), Purpose::Read(id), now);
            }
        }
        None
    }

    /// When the next of these may start.
    pub(super) fn reads_at(&mut self, now: Instant, policy: &Policy) -> Option<Instant> {
        let waiting = self.reads.iter().filter(|waiting| !waiting.under_way);
        let lanes: Vec<usize> = waiting.map(|waiting| waiting.lane).collect();
        lanes.into_iter().fold(None, |wake, lane| earlier(wake, self.read_when(lane, now, policy).at(now)))
    }

    fn read_when(&mut self, lane: usize, now: Instant, policy: &Policy) -> Start {
        let stopped = self.stops.start_when(lane, now);
        let lane = &mut self.lanes[lane];
        stopped.and(lane.start_when(now, policy.max_in_flight)).and(lane.when_spare(now))
    }

    /// Such a call has ended. One that hit a limit is made again, and so is one that another account of Klaviyo's may have
    /// answered, for that is not what was asked.
    pub(super) fn has_read(
        &mut self,
        id: i64,
        verdict: Verdict,
        is_current: bool,
        mut report: Report,
    ) -> Report {
        let Some(number) = self.reads.iter().position(|waiting| waiting.read.id == id) else { return report };
        let result = match verdict {
            Verdict::Accepted { answer, .. } if is_current => {
                Ok(answer.and_then(|answer| answer.body).unwrap_or_default())
            }
            Verdict::Refused { failure, .. } if is_current => Err(ReadFailure { failure, again: false }),
            Verdict::Trouble { failure, .. } | Verdict::Stopped { failure, .. } if is_current => {
                Err(ReadFailure { failure, again: true })
            }
            _ => {
                self.reads[number].under_way = false;
                return report;
            }
        };
        self.reads.remove(number);
        report.reads.push(ReadAnswer { id, result });
        report
    }
}
