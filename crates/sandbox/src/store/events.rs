//! Events, each once under its unique id.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Number;
use serde_json::value::{RawValue, to_raw_value};

use super::{BASE_62, Refusal, Store, rfc3339};
use crate::check::{EventDraft, ProfileDraft};

pub struct Event {
    /// The number that its id is written from.
    pub id: u64,
    pub profile: usize,
    pub metric: usize,
    pub unique_id: Box<str>,
    pub time: Timestamp,
    pub value: Option<Number>,
    pub value_currency: Option<Arc<str>>,
    /// As text: a tree of small maps takes several times the memory, and events are many.
    pub properties: Box<RawValue>,
    received: u64,
    receipt: u64,
}

/// An event as the control path shows it.
#[derive(Serialize)]
pub struct EventView<'a> {
    id: String,
    metric: &'a str,
    /// What tells it from others of its profile and metric: given, or the time in seconds since 1970.
    unique_id: &'a str,
    profile_id: &'a str,
    time: String,
    value: &'a Option<Number>,
    value_currency: Option<&'a str>,
    properties: &'a RawValue,
    /// How often it came, the first time included.
    received: u64,
    /// The receipt of the request that made it.
    n: u64,
}

impl Store {
    /// Records an event, unless its profile and metric have one with that unique id.
    pub fn record(
        &mut self,
        profile: ProfileDraft,
        event: EventDraft<'_>,
        receipt: u64,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let profile = self.place(profile, now)?;
        self.add(profile, &event, receipt, now);
        Ok(())
    }

    /// Adds an event to a profile, or counts it if it is a repeat.
    pub(super) fn add(&mut self, profile: usize, draft: &EventDraft<'_>, receipt: u64, now: Timestamp) {
        let unique_id = unique_id(draft, now);
        if let Some(first) = self.find_event(profile, draft.metric, &unique_id) {
            self.events[first].received += 1;
            self.repeats += 1;
            return;
        }
        let time = happened(draft, now);
        self.profiles[profile].saw_event(time);
        let event = Event {
            id: self.random.u64(..),
            profile,
            metric: self.place_metric(draft.metric, now),
            unique_id: unique_id.into(),
            time,
            value: draft.value.clone(),
            value_currency: draft.value_currency.map(|code| self.currency(code)),
            // A JSON object always has a text.
            properties: to_raw_value(draft.properties).unwrap_or_default(),
            received: 1,
            receipt,
        };
        self.events.push(event);
        self.index_event(self.events.len() - 1);
    }

    /// Has an event be found.
    pub(super) fn index_event(&mut self, index: usize) {
        let Self { by_unique_id, events, hasher, .. } = self;
        let hash = |event: &Event| hasher.hash_one((event.profile, event.metric, &*event.unique_id));
        by_unique_id.insert_unique(hash(&events[index]), index, |&index| hash(&events[index]));
    }

    /// The place of an event in the store.
    pub(super) fn find_event(&self, profile: usize, metric: &str, unique_id: &str) -> Option<usize> {
        let metric = self.find_metric(metric)?;
        let hash = self.hasher.hash_one((profile, metric, unique_id));
        let is_same = |index: &usize| {
            let event = &self.events[*index];
            event.profile == profile && event.metric == metric && *event.unique_id == *unique_id
        };
        self.by_unique_id.find(hash, is_same).copied()
    }

    fn currency(&mut self, code: &str) -> Arc<str> {
        Arc::clone(self.currencies.get_or_insert_with(code, |code| code.into()))
    }

    /// Events that are kept, those of deleted profiles aside.
    fn kept(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| !self.profiles[event.profile].is_deleted)
    }

    pub fn event_count(&self) -> usize {
        self.kept().count()
    }

    /// Events that came again and were not recorded again.
    pub fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Bulk calls of which nothing was recorded, since an event in them was a repeat.
    pub fn bulk_repeats(&self) -> u64 {
        self.bulk_repeats
    }

    pub fn events(&self, metric: Option<&str>) -> Vec<EventView<'_>> {
        let wanted =
            self.kept().filter(|event| metric.is_none_or(|metric| *self.metric_of(event) == *metric));
        wanted.map(|event| self.view(event)).collect()
    }

    fn metric_of(&self, event: &Event) -> &str {
        &self.metrics[event.metric].name
    }

    fn view<'a>(&'a self, event: &'a Event) -> EventView<'a> {
        EventView {
            id: base_62(event.id),
            metric: self.metric_of(event),
            unique_id: &event.unique_id,
            profile_id: &self.profiles[event.profile].id,
            time: rfc3339(event.time),
            value: &event.value,
            value_currency: event.value_currency.as_deref(),
            properties: &event.properties,
            received: event.received,
            n: event.receipt,
        }
    }
}

/// When an event happened: now, unless it says so.
fn happened(event: &EventDraft<'_>, now: Timestamp) -> Timestamp {
    truncated(event.time.unwrap_or(now))
}

/// What tells an event from others of its profile and metric: the time to the second, unless it says so.
pub(super) fn unique_id<'v>(event: &EventDraft<'v>, now: Timestamp) -> Cow<'v, str> {
    event.unique_id.map_or_else(|| happened(event, now).as_second().to_string().into(), Cow::Borrowed)
}

/// Klaviyo cuts an event's time to the second (`EventCreateQueryV2`).
fn truncated(time: Timestamp) -> Timestamp {
    // Away from the type's limits by the checks, so the fallback is never taken.
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// An event's id: eleven digits.
pub(super) fn base_62(mut number: u64) -> String {
    let mut digits = [0; 11];
    for digit in &mut digits {
        *digit = BASE_62[(number % 62) as usize];
        number /= 62;
    }
    digits.into_iter().map(char::from).collect()
}
