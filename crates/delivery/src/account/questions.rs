//! What messages must be told before they may go.

use std::time::{Duration, Instant};

use klaviyo::Endpoint;

use super::Account;
use crate::call::{Call, Carried};
use crate::message::{Ending, Report};
use crate::question::{self, Answer, Says};

/// What an answer says, where it can be read.
pub fn read(endpoint: &'static Endpoint, body: &[u8]) -> Option<Box<dyn Answer>> {
    question::of(endpoint)?.read(body)
}

impl Account {
    /// A question was answered: its messages go back to their place, from where they go on, or end here.
    pub(super) fn told(
        &mut self,
        call: Call,
        answer: &dyn Answer,
        now: Instant,
        mut report: Report,
    ) -> Report {
        let (mut carried, asked, sent_at) = (call.carried, call.started, call.sent_at);
        let says: Vec<Says> =
            carried.messages.iter().map(|queued| answer.says(&queued.message.payload)).collect();
        for (queued, says) in carried.messages.iter_mut().zip(&says) {
            match says {
                // Whatever came after the question it does not know of.
                Says::Go => queued.told = Some(asked),
                Says::GoAs(payload) => {
                    queued.told = Some(asked);
                    queued.message.payload.clone_from(payload);
                }
                Says::StopUnlessDone(_) | Says::Stop(_) => queued.message.attempts += 1,
            }
        }
        let how = |_: &Self, carried: &Carried, number: usize| match &says[number] {
            Says::Go | Says::GoAs(_) => (None, Some(Duration::ZERO)),
            // Nothing is left to be done, for it has been, as far as one can tell.
            Says::StopUnlessDone(_) if carried.messages[number].message.may_be_done => {
                (Some(Ending::Accepted { status: 200, resource_id: None, state_of: Vec::new() }), None)
            }
            Says::StopUnlessDone(failure) | Says::Stop(failure) => {
                (Some(Ending::Dead { failure: failure.clone(), newer: None }), None)
            }
        };
        self.end(carried, sent_at, now, how, &mut report);
        report
    }
}
