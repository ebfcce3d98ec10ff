//! What a call that has ended was made for, and what its answer is to that.

use std::time::{Duration, Instant};

use klaviyo::{Answer, TransportError};

use super::{Account, Policy, imports, questions};
use crate::call::{Call, Purpose};
use crate::import::not_made;
use crate::message::Report;
use crate::verdict::{self, Keep, Verdict};

impl Account {
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
        let is_question = call.purpose == Purpose::Question;
        let is_read = match call.purpose {
            Purpose::Question | Purpose::Follow(_) | Purpose::Ask(_) | Purpose::Watch(_) => true,
            Purpose::AskLatest | Purpose::TryAsking => true,
            Purpose::Deliver | Purpose::Import(_) | Purpose::Preflight => false,
            Purpose::Look(_) => true,
            Purpose::Probe | Purpose::Read(_) => false,
        };
        let body = result.as_ref().ok().filter(|_| is_read);
        let body = body.map(|answer| answer.body.clone()).unwrap_or_default();
        let keep = match call.purpose {
            Purpose::Read(_) => Keep::Answer,
            Purpose::Probe => Keep::Text,
            _ if call.carried.is_direct() => Keep::Text,
            _ => Keep::Nothing,
        };
        let mut verdict = verdict::of(lane.endpoint, result, keep);
        let mut told = None;
        if is_question && matches!(verdict, Verdict::Accepted { .. }) {
            match questions::read(lane.endpoint, &body) {
                Some(answer) => told = Some(answer),
                None => verdict = verdict::unreadable(),
            }
        }
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
        if call.purpose == Purpose::Preflight {
            // Allowed is allowed. What is refused is one for messages to find out.
            if matches!(verdict, Verdict::Accepted { .. } | Verdict::Refused { .. }) {
                lane.is_answered = true;
                self.stops.ended(call.lane, call.started, &verdict, now);
            }
            report.findings = self.preflight.ended(lane.endpoint, verdict);
            report.account_state = self.news(before, now);
            return report;
        }
        // An answer to a question brings none of them to Klaviyo.
        let messages = if is_question { &[][..] } else { &call.carried.messages };
        if let Some(gauges) = lane.gauges().filter(|_| call.purpose != Purpose::Probe) {
            let enqueued = messages.iter().map(|queued| queued.message.enqueued_at);
            gauges.count(&verdict, now.saturating_duration_since(call.started), enqueued);
        }
        let stopped = self.learn(&verdict, &mut call, now, policy);
        // It was another account of Klaviyo's, maybe, whose lists these are.
        let is_current = self.is_current(&call);
        if !is_current {
            call.carried.messages.iter_mut().for_each(|queued| _ = queued.forget_list());
        }
        if let Some(told) = told {
            let mut report = self.told(call, &*told, (now, policy), report);
            report.account_state = self.news(before, now);
            return report;
        }
        for queued in &mut call.carried.messages {
            queued.message.attempts += 1;
        }
        let mut report = match call.purpose {
            Purpose::Ask(id) => self.answered(id, call.lane, (&verdict, &body), (now, policy), report),
            Purpose::AskLatest => {
                self.looked(call.lane, call.started, (&verdict, &body), (now, policy), report)
            }
            Purpose::Follow(number) => {
                self.followed(number, call.lane, (&verdict, &body), (now, policy), report)
            }
            Purpose::Watch(number) => {
                self.watched(number, call.lane, (&verdict, &body), (now, policy), report)
            }
            Purpose::TryAsking => self.tried_asking((&verdict, &body), call.lane, (now, policy), report),
            Purpose::Import(id) if imports::may_have_made(&verdict) => {
                self.made(id, call, &verdict, now, report)
            }
            Purpose::Import(id) => {
                report.imports.push(not_made(id));
                if matches!(verdict, Verdict::Stopped { .. }) {
                    self.imports.refused(now);
                }
                self.delivered(call, &verdict, (now, policy), (held, stopped), report)
            }
            Purpose::Look(resource) => {
                self.found(resource, call.started, (&verdict, &body), (now, policy));
                report
            }
            Purpose::Probe => report,
            Purpose::Read(id) => self.has_read(id, verdict, is_current, report),
            Purpose::Deliver | Purpose::Question | Purpose::Preflight => {
                match self.follows(call, &verdict, now, &mut report) {
                    Some(call) => self.delivered(call, &verdict, (now, policy), (held, stopped), report),
                    None => report,
                }
            }
        };
        if !is_current {
            self.queue.forget_names(now);
        }
        report.account_state = self.news(before, now);
        report
    }
}
