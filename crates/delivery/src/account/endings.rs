//! What becomes of the messages of a call that has ended.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use super::campaigns::news_of;
use super::questions::soon;
use super::{Account, Policy};
use crate::call::{Call, Carried, Purpose};
use crate::kind::{Otherwise, list};
use crate::message::{Ending, Failure, Message, Outcome, Report};
use crate::question::Learned;
use crate::queue::{AMBIGUOUS, NOBODY_KNOWS, Queued};
use crate::strikes::strike;
use crate::verdict::{Scope, Verdict};

impl Account {
    /// A call that brings messages has ended, and with it what it was to do.
    pub(super) fn delivered(
        &mut self,
        call: Call,
        verdict: &Verdict,
        (now, policy): (Instant, &Policy),
        holds: (Duration, Duration),
        mut report: Report,
    ) -> Report {
        let mut carried = call.carried;
        carried.part(verdict);
        if call.purpose != Purpose::Question && matches!(verdict, Verdict::Trouble { ambiguous: true, .. }) {
            let denied = is_not_done(verdict);
            for queued in &mut carried.messages {
                if !queued.stops || queued.can_ask() || !denied {
                    queued.may_be_done(denied, now);
                }
            }
            if carried.messages.iter().any(|queued| queued.message.kind.renames()) {
                self.queue.forget_names(now);
            }
        }
        if call.purpose != Purpose::Question {
            // How it stands is asked before each call.
            carried.messages.iter_mut().filter(|queued| queued.stops).for_each(Queued::forget_told);
        }
        // Where another call does as well, nobody waits for this one.
        let lane_only = matches!(verdict, Verdict::Stopped { scope: Scope::Lane, .. });
        let goes_otherwise = lane_only && self.lanes[call.lane].endpoint.optional && !carried.is_direct();
        if matches!(verdict, Verdict::Trouble { ambiguous: true, .. }) {
            self.leaves_job(call.lane, now, policy);
        }
        if carried.messages.iter().any(Queued::is_over) {
            self.lanes[call.lane].lost_one();
        }
        let turned = turns(&mut carried, verdict);
        let end = |account: &Self, carried: &Carried, message: usize| {
            let queued = &carried.messages[message];
            if let Verdict::Refused { failure: Failure { status: Some(404), .. }, .. } = verdict
                && !carried.is_bulk()
                && queued.message.kind.needs(&queued.message.payload).iter().any(|key| account.queue.has(key))
            {
                // It is still on its way.
                return (None, Some(soon(queued, now)));
            }
            if matches!(verdict, Verdict::Refused { .. }) && account.cancels_too_soon(queued, now, policy) {
                return (None, Some(soon(queued, now)));
            }
            if turned {
                return (None, Some(policy.backoff.delay(queued.message.attempts)));
            }
            let wait = match goes_otherwise {
                _ if queued.is_over() => None,
                true => Some(Duration::ZERO),
                false => carried.wait(verdict, queued, policy, holds),
            };
            (Some(account.ending(verdict, queued, wait)), wait)
        };
        self.end(carried, call.sent_at, now, end, &mut report);
        report
    }

    /// What a call has carried goes back to its place or leaves, as `how` says of each message: how it ended, where that is
    /// to be recorded, and after what wait its next call may go.
    pub(super) fn end(
        &mut self,
        carried: Carried,
        sent_at: SystemTime,
        now: Instant,
        how: impl Fn(&Self, &Carried, usize) -> (Option<Ending>, Option<Duration>),
        report: &mut Report,
    ) {
        let bulk = carried.is_bulk();
        let mut waits = VecDeque::with_capacity(carried.messages.len());
        let (mut changes, mut campaigns) = (Vec::new(), Vec::new());
        for (number, queued) in carried.messages.iter().enumerate() {
            let (ending, wait) = how(self, &carried, number);
            let accepted = matches!(ending, Some(Ending::Accepted { .. }));
            changes.extend(Change::of(&queued.message, ending.as_ref()));
            campaigns.extend(news_of(&queued.message, ending.as_ref()));
            let outcome = ending.map(|ending| Outcome::of(&queued.message, sent_at, bulk, ending));
            report.outcomes.extend(outcome);
            waits.push_back((wait, accepted));
        }
        let mut messages = carried.messages.into_iter();
        for (group, number) in carried.groups {
            let mut accepted = Vec::new();
            let mut again = Vec::new();
            for mut queued in messages.by_ref().take(number) {
                match waits.pop_front() {
                    Some((Some(wait), _)) => {
                        queued.not_before = (!wait.is_zero()).then(|| now + wait);
                        again.push(queued);
                    }
                    Some((None, true)) => accepted.push(queued),
                    _ => {}
                }
            }
            let useless = self.queue.ended(group, &accepted, again, now);
            report.outcomes.extend(
                useless
                    .iter()
                    .map(|(message, by)| Outcome::of(message, sent_at, bulk, Ending::Discarded { by: *by })),
            );
        }
        for news in campaigns {
            self.campaign_changed(&news, now);
            report.campaigns.push(news);
        }
        for change in changes {
            if !matches!(change, Change::Made(_)) {
                self.queue.forget_names(now);
            }
            if let Change::Made(learned) | Change::Renamed(learned) = change {
                self.queue.made(learned, now);
            }
        }
    }

    /// A call of an account that has been removed since. What Klaviyo took it took; the rest is not ours to decide. An answer
    /// to a question took nothing there.
    pub(super) fn late(&self, call: Call, verdict: &Verdict) -> Report {
        let mut report = Report::new(&self.name, Some(self.lanes[call.lane].endpoint));
        let bulk = call.carried.is_bulk();
        if matches!(verdict, Verdict::Accepted { .. }) && call.purpose != Purpose::Question {
            for mut queued in call.carried.messages {
                queued.message.attempts += 1;
                let ending = self.ending(verdict, &queued, None);
                report.outcomes.push(Outcome::of(&queued.message, call.sent_at, bulk, ending));
            }
        }
        report
    }

    /// What a call tells of its lane, of the account and of its own messages. Returns how long those must wait if it was
    /// refused for what it is.
    pub(super) fn learn(
        &mut self,
        verdict: &Verdict,
        call: &mut Call,
        now: Instant,
        policy: &Policy,
    ) -> Duration {
        // The next probe of what is stopped.
        let until = now + policy.backoff.max;
        self.stops.ended(call.lane, call.started, verdict, until);
        // What becomes of a key that is not used any more stops nothing.
        let current = self.is_current(call);
        match verdict {
            Verdict::Trouble { failure, .. } => {
                // Whose doing it is that a call of many fails nobody can tell.
                if !call.carried.is_bulk() {
                    let messages = call.carried.messages.iter_mut();
                    messages.for_each(|queued| strike(queued, failure, &self.lanes[call.lane]));
                }
                Duration::ZERO
            }
            Verdict::Stopped { scope, failure } if current => {
                let messages = &mut call.carried.messages;
                self.stops.refused(call.lane, *scope, &failure.reason, messages, (now, until))
            }
            _ => Duration::ZERO,
        }
    }

    /// How a call ended for one of its messages, which is tried again after the wait, if there is one.
    fn ending(&self, verdict: &Verdict, queued: &Queued, wait: Option<Duration>) -> Ending {
        if let Verdict::Refused { failure, pointers, .. } = verdict
            && let Some(status) = failure.status
            && let Message { kind, payload, may_be_done, .. } = &queued.message
            && (*may_be_done && kind.says_done(payload, failure, pointers)
                || wait.is_none()
                    && matches!(kind.otherwise(payload, failure, pointers), Some(Otherwise::Done)))
        {
            return Ending::done(status, None);
        }
        let failure = match verdict {
            Verdict::Accepted { status, resource_id, answer } => {
                let (resource_id, answer) = (resource_id.clone(), answer.clone());
                return Ending::Accepted {
                    status: *status,
                    resource_id,
                    state_of: self.queue.state_of(queued),
                    answer,
                };
            }
            Verdict::Trouble { failure, .. } if queued.is_over() => Failure {
                code: AMBIGUOUS.to_owned(),
                reason: format!("{NOBODY_KNOWS} ({})", failure.reason),
                ..failure.clone()
            },
            Verdict::Refused { failure, .. }
            | Verdict::Throttled { failure, .. }
            | Verdict::Stopped { failure, .. }
            | Verdict::Trouble { failure, .. } => failure.clone(),
        };
        match wait {
            Some(wait) => Ending::Retry { wait, strikes: queued.message.strikes, failure },
            None => Ending::Dead { failure, newer: self.queue.newer(queued) },
        }
    }
}

/// How often a message may turn into one of another kind: Klaviyo may say that a thing is there and then that it is not.
const TURNS: u8 = 3;

/// Whether the message of a call that was refused is to be done otherwise: then it is what it has turned into.
fn turns(carried: &mut Carried, verdict: &Verdict) -> bool {
    let is_alone = !carried.is_bulk();
    let (Verdict::Refused { failure, pointers, .. }, [queued], true) =
        (verdict, carried.messages.as_mut_slice(), is_alone)
    else {
        return false;
    };
    let Message { kind, payload, .. } = &queued.message;
    let Some(Otherwise::As(kind)) = kind.otherwise(payload, failure, pointers) else { return false };
    if queued.turns >= TURNS {
        return false;
    }
    queued.turns += 1;
    queued.turn_into(kind);
    true
}

/// Whether Klaviyo says that it is not there for anybody, so that nothing was done.
fn is_not_done(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Trouble { failure: Failure { status: Some(503), .. }, .. })
}

/// What has become of a list, by a message that is accepted. Klaviyo may take a while until it finds it by its name.
enum Change {
    Made(Learned),
    Renamed(Learned),
    Other,
}

impl Change {
    fn of(message: &Message, ending: Option<&Ending>) -> Option<Self> {
        let Some(Ending::Accepted { status, resource_id, .. }) = ending.filter(|_| message.kind.renames())
        else {
            return None;
        };
        // That there is one is not to say that there is no other.
        let made = || Some(Learned { name: list::new_name(&message.payload)?, id: resource_id.clone()? });
        let made = made().filter(|_| *status == 201);
        let renamed = || list::renamed(&message.payload).map(|(id, name)| Learned { name, id });
        Some(made.map(Self::Made).or_else(|| renamed().map(Self::Renamed)).unwrap_or(Self::Other))
    }
}
