//! A call, and the messages it carries.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use klaviyo::{Request, Session};

use crate::account::Policy;
use crate::batch::Places;
use crate::draw::Draw;
use crate::import::{ImportId, ImportReport, ImportStep, not_made};
use crate::kind::Lost;
use crate::kind::profile_batch::ProfilePlaces;
use crate::message::{Ending, Failure, Outcome, Report};
use crate::queue::{Bulk, GroupId, Next, Queued};
use crate::strikes::may_be_its_doing;
use crate::verdict::Verdict;

/// Calls of many below this size are not worth their place: what is left goes one by one.
const SMALLEST: usize = 8;

/// A call to be made.
pub struct Call {
    pub account: Arc<str>,
    pub session: Session,
    pub lane: usize,
    /// None once it has been sent.
    pub request: Option<Request>,
    pub sent_at: SystemTime,
    pub(crate) started: Instant,
    /// In which life of the account it was made.
    pub(crate) life: u32,
    pub(crate) purpose: Purpose,
    pub(crate) carried: Carried,
}

impl Call {
    /// What is to be written down before the call is made, where that is anything.
    pub(crate) fn announcement(&self) -> Option<(AnnouncementId, Report)> {
        let id = match self.purpose {
            Purpose::Import(id) => id,
            Purpose::Deliver => return self.last_call(),
            _ => return None,
        };
        let messages = self.carried.messages.iter().enumerate();
        let messages = messages
            .map(|(number, queued)| (queued.message.seq, self.carried.position(number).unwrap_or_default()));
        let step = ImportStep::Announced { messages: messages.collect() };
        let imports = vec![ImportReport { id, step }];
        Some((id, Report { imports, ..Report::new(&self.account, None) }))
    }

    /// Of what must not go again where nobody knows what has come of it: that it goes now, so that whoever finds it later
    /// knows that it may have been done.
    fn last_call(&self) -> Option<(AnnouncementId, Report)> {
        let queued = self.carried.messages.iter().find(|queued| queued.announced)?;
        // Numbers are unique here, and no job's id begins with so many zeros.
        let id = i128::from(queued.message.seq).to_be_bytes();
        let mut report = Report::new(&self.account, None);
        report.announced = Some(id);
        report.outcomes.push(self.under_way(queued, "a call is under way", true));
        Some((id, report))
    }

    fn under_way(&self, queued: &Queued, reason: &str, may_be_done: bool) -> Outcome {
        let failure =
            Failure { code: "under_way".to_owned(), reason: reason.to_owned(), ..Failure::default() };
        let ending = Ending::Retry { wait: Duration::ZERO, strikes: queued.message.strikes, failure };
        let mut outcome = Outcome::of(&queued.message, self.sent_at, self.carried.is_bulk(), ending);
        (outcome.attempts, outcome.may_be_done) = (outcome.attempts + 1, may_be_done);
        outcome
    }

    /// It was announced and is not made after all: no later worker need look for it.
    pub(crate) fn withdrawn(&self) -> Report {
        let mut report = Report::new(&self.account, None);
        match self.purpose {
            Purpose::Import(id) => report.imports.push(not_made(id)),
            _ => {
                report.outcomes.extend(self.carried.messages.iter().map(|queued| {
                    self.under_way(queued, "the call was not made", queued.message.may_be_done)
                }))
            }
        }
        report
    }
}

/// What an announced call is known by: the id of its job, or the number of its message.
pub type AnnouncementId = [u8; 16];

/// What a call is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To bring the messages that it carries.
    Deliver,
    /// The same, by a job that Klaviyo makes of them.
    Import(ImportId),
    /// To find out what the messages that it carries must be told before they may go.
    Question,
    /// To find out how a job stands that was made of messages, by its number.
    Follow(u64),
    /// To find out how a campaign stands that is being sent, by the number of its watch.
    Watch(u64),
    /// The same as of a job of one that imports profiles.
    Ask(ImportId),
    /// To find out how all stand that were made last.
    AskLatest,
    /// To find out whether jobs can be asked about that import profiles.
    TryAsking,
    /// To ask for something that who owns the outbox wants to know, by the read's id.
    Read(i64),
    /// To find out which jobs are under way that are of such resources.
    Look(&'static str),
    /// To find out whether the key may make this call.
    Preflight,
    /// To find out whether Klaviyo answers such calls again, without a message that must not go twice.
    Probe,
}

/// Why no call is made of a message.
pub enum Unsent {
    /// None can be.
    Dead(Failure),
    /// That message cancels it.
    Cancelled([u8; 16]),
}

/// What a call carries; one that only asks nothing.
#[derive(Default)]
pub struct Carried {
    pub messages: Vec<Queued>,
    /// Whose they are, one group after the other, and how many of each.
    pub groups: Vec<(GroupId, usize)>,
    /// Where they stand in the body of a call of many.
    places: Option<Box<dyn Places>>,
}

impl Carried {
    /// What a call of many carries, or one that could have carried many and has found one: of that it is clear what an answer
    /// is about.
    pub fn bulk(bulk: Bulk, draw: Draw) -> (Request, Self) {
        let Bulk { messages, groups, request, places } = bulk;
        let places = Some(places).filter(|_| !draw.one || messages.len() > 1);
        (request, Self { messages, groups, places })
    }

    /// What a call carried whose messages have been read again, with their places in its body.
    pub fn past(messages: Vec<Queued>, groups: Vec<(GroupId, usize)>, positions: Vec<usize>) -> Self {
        Self { messages, groups, places: Some(Box::new(ProfilePlaces(positions))) }
    }

    /// A message with those that merge into it, or one of which no call can be made, and why.
    pub fn single(next: Next) -> Result<(Request, Self), (Box<Queued>, Unsent)> {
        match next {
            Next::Call { group, messages, request } => {
                Ok((request, Self { groups: vec![(group, messages.len())], messages, places: None }))
            }
            Next::Cancelled { message, by } => Err((message, Unsent::Cancelled(by))),
            Next::Unsendable { message, code, reason } => {
                let failure = Failure { code: code.to_owned(), reason, ..Failure::default() };
                Err((message, Unsent::Dead(failure)))
            }
        }
    }

    /// Where in the body that message stands, see [`Places::position`].
    pub fn position(&self, message: usize) -> Option<usize> {
        self.places.as_ref()?.position(message)
    }

    /// How many profiles its body has, where that is a plain list of them.
    pub fn profiles(&self) -> usize {
        (0..self.messages.len()).filter_map(|message| self.position(message)).max().map_or(0, |last| last + 1)
    }

    /// What the refusals of a job mean for who may go with whom from now on, as [`Carried::part`]: `halve` where not each
    /// of them was found.
    pub fn part_import(&mut self, refusals: &[Option<Failure>], halve: bool) {
        let half = half(self.messages.len());
        for (queued, refusal) in self.messages.iter_mut().zip(refusals) {
            match refusal {
                Some(_) => queued.rides = 0,
                None if halve => queued.rides = queued.rides.min(half),
                None => {}
            }
        }
    }

    /// Whether it is a call that a message has asked for itself.
    pub fn is_direct(&self) -> bool {
        self.messages.first().is_some_and(|queued| queued.message.kind.endpoint().is_none())
    }

    pub fn is_bulk(&self) -> bool {
        self.places.is_some()
    }

    /// Whether a refusal may be about another message of the call.
    fn is_of_many(&self) -> bool {
        self.is_bulk() || self.messages.len() > 1
    }

    /// What an answer means for who may go with whom from now on.
    ///
    /// Of a call of many that is refused nothing was done. What the answer points at goes by itself, and hears then what
    /// is wrong with it; the others go in calls half as large, so that a bad one that nobody points at is found as well.
    /// What may have been done, and is dropped where it comes again by itself, is not done again in a call of many. The rest
    /// is, unless one of them may be what Klaviyo has failed at.
    pub fn part(&mut self, verdict: &Verdict) {
        let size = self.messages.len();
        let half = half(size);
        for (number, queued) in self.messages.iter_mut().enumerate() {
            match (verdict, &self.places) {
                (Verdict::Refused { pointers, .. }, Some(places)) => {
                    let is_named = pointers.iter().any(|pointer| places.is_about(pointer, number));
                    queued.rides = if is_named { 0 } else { queued.rides.min(half) };
                }
                (Verdict::Refused { .. }, None) => queued.alone |= size > 1,
                (Verdict::Trouble { ambiguous: true, failure, .. }, _) => match queued.message.kind.lost() {
                    Lost::RepeatedAlone => queued.rides = 0,
                    Lost::Repeated | Lost::ReadBack | Lost::ReadBackOrStopped | Lost::RepeatedOrStopped
                        if size == 1 || may_be_its_doing(failure) =>
                    {
                        queued.rides = queued.rides.min(half);
                    }
                    Lost::Repeated | Lost::ReadBack | Lost::ReadBackOrStopped | Lost::RepeatedOrStopped => {}
                },
                _ => {}
            }
        }
    }

    /// How long one of the messages waits for its next attempt; none if it has had its last. `held` is for how long its
    /// lane is throttled, `stopped` for how long what refused it is stopped.
    pub fn wait(
        &self,
        verdict: &Verdict,
        queued: &Queued,
        policy: &Policy,
        (held, stopped): (Duration, Duration),
    ) -> Option<Duration> {
        let backoff = || policy.backoff.delay(queued.message.attempts);
        let spent = queued.message.strikes >= policy.max_strikes;
        match verdict {
            Verdict::Accepted { .. } => None,
            Verdict::Refused { of_all, .. } => (self.is_of_many() && !of_all).then_some(Duration::ZERO),
            Verdict::Throttled { .. } => Some(held),
            Verdict::Stopped { .. } => (!spent).then(|| stopped + backoff()),
            Verdict::Trouble { retry_after, .. } => {
                (!spent).then(|| backoff().max(retry_after.unwrap_or_default()))
            }
        }
    }
}

/// How many may go together of so many that were refused together.
fn half(size: usize) -> usize {
    Some(size / 2).filter(|half| *half >= SMALLEST).unwrap_or_default()
}

#[cfg(test)]
#[path = "call_tests.rs"]
pub(crate) mod tests;
