//! A message in memory.

use std::time::{Duration, Instant};

use klaviyo::Endpoint;

use crate::draw;
use crate::key::Identifier;
use crate::kind::Kind;
use crate::message::Message;
use crate::question::Question;
use crate::stops::Refusal;
use crate::strikes::Seen;

/// How long what a message was told is good. Klaviyo may know better by then.
const TOLD: Duration = Duration::from_secs(30);

/// A message with what its earlier attempts taught.
pub struct Queued {
    pub message: Message,
    pub not_before: Option<Instant>,
    /// Since when its failures are held against those of others, by the lanes it has been in.
    pub seen: Vec<Seen>,
    /// When Klaviyo refused it last, whatever the message.
    pub refusal: Option<Refusal>,
    /// Was refused together with others; goes alone now.
    pub alone: bool,
    /// How many may be in the call that carries it at the most; 0 where it must have one of its own.
    pub rides: usize,
    /// The number of the endpoint that a call of its own is of.
    pub(super) lane: usize,
    /// Whether it says itself which call that is, see [`crate::kind::Kind::endpoint`].
    pub(super) direct: bool,
    /// Whether it must not go again where nobody knows what its last call has come to.
    pub stops: bool,
    /// Whether it is written down before its call is made that it is.
    pub announced: bool,
    /// Since when it may have been done.
    pub doubted_at: Option<Instant>,
    /// Whether Klaviyo has said that it is not there for anybody, when it was asked last: so it was not done.
    pub denied: bool,
    /// What it must be told before such a call, and when it was.
    pub(super) questions: Vec<(&'static dyn Question, Option<Instant>)>,
    /// The number of a newer state that was accepted before this has had its turn, having been redriven.
    pub(super) newer: Option<i64>,
    /// How often it has turned into one of another kind by what Klaviyo said to it alone.
    pub turns: u8,
    /// When it was handed in.
    pub since: Instant,
    pub(super) identifiers: Vec<Identifier>,
}

impl Queued {
    pub(super) fn new(
        message: Message,
        identifiers: Vec<Identifier>,
        lane: usize,
        (not_before, now): (Option<Instant>, Instant),
    ) -> Self {
        let bulk = message.kind.bulk();
        let bulk =
            bulk.filter(|_| message.rides && (message.attempts == 0 || message.kind.goes_as_many_do()));
        let rides = bulk.map_or(0, |bulk| bulk.max_items);
        let questions = message.kind.questions().iter().filter(|question| question.is_for(&message.payload));
        let questions = questions.map(|question| (*question, None)).collect();
        Self {
            lane,
            direct: message.kind.endpoint().is_none(),
            stops: message.kind.stops(&message.payload),
            announced: message.kind.is_announced(&message.payload),
            doubted_at: message.may_be_done.then_some(now),
            denied: false,
            message,
            not_before,
            seen: Vec::new(),
            refusal: None,
            alone: false,
            rides,
            questions,
            newer: None,
            turns: 0,
            since: now,
            identifiers,
        }
    }

    /// What is to be asked now: nothing where the last answers are as good as new ones.
    pub fn asks(&self, now: Instant) -> Option<&'static dyn Question> {
        let is_old = |told: &Instant| now.saturating_duration_since(*told) > TOLD;
        let asked = |question: &dyn Question| !question.is_of_doubt() || self.message.may_be_done;
        let mut asks = self
            .questions
            .iter()
            .filter(|(question, told)| asked(*question) && told.as_ref().is_none_or(is_old));
        asks.next().map(|(question, _)| *question)
    }

    /// What it asks at an endpoint was asked at that time, and answered; with another payload for its own, if that is what
    /// it came to.
    pub fn was_told(&mut self, endpoint: &'static Endpoint, asked: Instant, payload: Option<String>) {
        for (_, told) in self.questions.iter_mut().filter(|(question, _)| question.endpoint() == endpoint) {
            *told = Some(asked);
        }
        if let Some(payload) = payload {
            self.set_payload(payload);
        }
    }

    /// Another payload for its own, of which it may have to ask other questions.
    pub(super) fn set_payload(&mut self, payload: String) {
        self.message.payload = payload;
        let Message { kind, payload, .. } = &self.message;
        let told = |asks: &dyn Question| {
            let mut known = self.questions.iter().filter(|(other, _)| other.endpoint() == asks.endpoint());
            known.next().and_then(|(_, told)| *told)
        };
        let asks = kind.questions().iter().filter(|question| question.is_for(payload));
        self.questions = asks.map(|question| (*question, told(*question))).collect();
    }

    /// It is one of that kind from now on, and goes by itself if it has done so before.
    pub fn turn_into(&mut self, kind: &'static dyn Kind) {
        self.message.kind = kind;
        self.lane = kind.endpoint().map_or(self.lane, draw::number);
        self.rides = self.rides.min(kind.bulk().map_or(0, |bulk| bulk.max_items));
    }

    /// It may have been done from now on, `denied` or not.
    pub fn may_be_done(&mut self, denied: bool, now: Instant) {
        self.message.may_be_done = true;
        (self.doubted_at, self.denied) = (Some(now), denied);
        self.forget_told();
    }

    /// Whether it must not go again, for nobody knows what its last call has come to, nor can be asked.
    pub fn is_over(&self) -> bool {
        self.stops && self.message.may_be_done && !self.can_ask()
    }

    /// Whether Klaviyo can be asked whether it was done.
    pub fn can_ask(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Something may have been done since that answers are not of any more.
    pub fn forget_told(&mut self) {
        self.questions.iter_mut().for_each(|(_, told)| *told = None);
    }

    /// The number of the endpoint that its next call is of, by itself.
    pub(super) fn lane(&self, now: Instant) -> usize {
        self.asks(now).map_or(self.lane, |question| draw::number(question.endpoint()))
    }
}
