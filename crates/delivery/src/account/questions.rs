//! What messages must be told before they may go.

use std::time::{Duration, Instant};

use klaviyo::Endpoint;

use super::{Account, Policy};
use crate::call::{Call, Carried};
use crate::campaign::{self, CampaignFact, CampaignNews};
use crate::message::{Ending, Report};
use crate::question::{self, Answer, Says};
use crate::queue::Queued;

/// What an answer says, where it can be read.
pub fn read(endpoint: &'static Endpoint, body: &[u8]) -> Option<Box<dyn Answer>> {
    question::of(endpoint)?.read(body)
}

/// A message goes on at once, and is not recorded.
pub(super) const GOES_ON: (Option<Ending>, Option<Duration>) = (None, Some(Duration::ZERO));

/// Before it is asked again about what may change soon: at first, and at the most.
const AGAIN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(60);

/// The longer it has waited, the less often. It is told at once if what it waits for happens here.
pub(super) fn soon(queued: &Queued, now: Instant) -> Duration {
    let since = queued.doubted_at.unwrap_or(queued.since);
    (now.saturating_duration_since(since) / 4).clamp(AGAIN, SELDOM)
}

/// How long after the last moment at which a call may do something Klaviyo may not show that it has.
const SHOWS: Duration = Duration::from_secs(10);

/// Whether what a call does that began then, or was lost, may show later than at that time.
pub(super) fn may_still_show(since: Option<Instant>, at: Instant, policy: &Policy) -> bool {
    since.is_some_and(|since| at.saturating_duration_since(since) < policy.request_timeout + SHOWS)
}

impl Account {
    /// Whether what a message needs may be there when it is asked again: something waits that may change it, or has done so
    /// since. What changes lists itself comes after what it waits for, by its key.
    fn may_come(&self, queued: &Queued, key: &str, asked: Instant) -> bool {
        self.queue.names.may_be_settling(asked) || !queued.message.kind.renames() && self.queue.has(key)
    }

    /// A question was answered: its messages go back to their place, from where they go on, or end here.
    pub(super) fn told(
        &mut self,
        call: Call,
        answer: &dyn Answer,
        (now, policy): (Instant, &Policy),
        mut report: Report,
    ) -> Report {
        // It may be another account of Klaviyo's that has answered.
        let is_current = self.is_current(&call);
        let endpoint = self.lanes[call.lane].endpoint;
        let (mut carried, asked, sent_at) = (call.carried, call.started, call.sent_at);
        let learned = carried.messages.iter().find_map(|queued| answer.learned(&queued.message.payload));
        if let Some(campaign) = answer.campaign().filter(|_| is_current) {
            let fact = CampaignFact::Read { campaign: campaign.clone(), followed: None };
            report.campaigns.extend(CampaignNews::new(&campaign.id, fact));
        }
        let mut ends = Vec::with_capacity(carried.messages.len());
        for queued in &mut carried.messages {
            let end = match answer.says(&queued.message.payload) {
                _ if !is_current => GOES_ON,
                Says::MadeOneOf(made) => self.made_one_of(made, queued, asked, (now, policy)),
                Says::GoOnceSettled if self.may_show_otherwise(queued, asked, policy) => {
                    (None, Some(soon(queued, now)))
                }
                // Whatever came after the question it does not know of.
                Says::Go | Says::GoOnceSettled => {
                    queued.was_told(endpoint, asked, None);
                    GOES_ON
                }
                Says::GoAs(payload) => {
                    // It may be a draft that is being sent.
                    let payload = match self.sent_at(queued) {
                        Some(_) => campaign::no_draft(&payload).unwrap_or(payload),
                        None => payload,
                    };
                    queued.was_told(endpoint, asked, Some(payload));
                    GOES_ON
                }
                Says::Done { id } => (Some(Ending::done(200, Some(id))), None),
                // Nothing is left to be done, for it has been, as far as one can tell.
                Says::StopUnlessDone { id: resource_id, .. } if queued.message.may_be_done => {
                    (Some(Ending::done(200, resource_id)), None)
                }
                Says::StopUnlessComing { .. } if self.queue.names.tell(queued, now) => GOES_ON,
                Says::StopUnlessComing { key, .. } if self.may_come(queued, &key, asked) => {
                    (None, Some(soon(queued, now)))
                }
                Says::StopUnlessComing { failure, .. } | Says::Stop(failure)
                    if queued.message.may_be_done
                        && queued.message.kind.says_done(&queued.message.payload, &failure, &[]) =>
                {
                    (Some(Ending::done(200, None)), None)
                }
                Says::StopUnlessDone { failure, .. }
                | Says::StopUnlessComing { failure, .. }
                | Says::Stop(failure) => (Some(Ending::Dead { failure, newer: None }), None),
            };
            if end.0.is_some() {
                queued.message.attempts += 1;
            }
            ends.push(end);
        }
        let how = |_: &Self, _: &Carried, number: usize| ends[number].clone();
        self.end(carried, sent_at, now, how, &mut report);
        if let Some(learned) = learned
            && is_current
            && !self.queue.names.may_have_changed_since(asked)
        {
            self.queue.learn(learned, asked, now);
        }
        report
    }
}
