//! Profiles and events, as Klaviyo would keep them.

mod bulk;
mod identifiers;
mod profile;

use std::collections::HashMap;
use std::sync::Arc;

use hyper::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Number;
use serde_json::value::RawValue;

use crate::check::{EventDraft, ProfileDraft};
use crate::error::ApiError;
pub use bulk::BulkRefusal;
pub use identifiers::Identifier;
pub use profile::{Profile, ProfileView};

/// Crockford's base 32, which Klaviyo's profile ids (ULIDs) are written in.
const BASE_32: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// The alphabet of Klaviyo's other ids.
const BASE_62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Why the store refuses a request.
#[derive(Debug, PartialEq)]
pub enum Refusal {
    /// No profile has the id that was given.
    UnknownProfile,
    /// The identifiers belong to two profiles; this is the one that was not meant.
    Duplicate { profile_id: String },
}

impl Refusal {
    /// The refusal in Klaviyo's words; `profile` is where the request names the profile.
    pub fn to_error(&self, profile: &str) -> ApiError {
        match self {
            Self::UnknownProfile => {
                let detail = "A profile with this id does not exist.";
                let error = ApiError::new(StatusCode::NOT_FOUND, "not_found", "Not found.", detail);
                error.at(format!("{profile}/id"))
            }
            Self::Duplicate { profile_id } => {
                let detail = "A profile already exists with one of these identifiers.";
                let error = ApiError::new(StatusCode::CONFLICT, "duplicate_profile", "Conflict.", detail);
                let duplicate_profile_id = Some(profile_id.clone());
                ApiError { duplicate_profile_id, ..error.at(format!("{profile}/attributes")) }
            }
        }
    }
}

/// What an upsert did.
#[derive(Debug)]
pub struct Upserted<'a> {
    pub profile: &'a Profile,
    pub created: bool,
}

struct Event {
    id: String,
    profile: usize,
    metric: Arc<str>,
    unique_id: Arc<str>,
    time: Timestamp,
    value: Option<Number>,
    value_currency: Option<String>,
    properties: Box<RawValue>,
    received: u64,
    receipt: u64,
}

/// An event as the control path shows it.
#[derive(Serialize)]
pub struct EventView<'a> {
    id: &'a str,
    metric: &'a str,
    /// What tells it from others of its profile and metric: given, or the time in seconds since 1970.
    unique_id: &'a str,
    profile_id: &'a str,
    time: String,
    value: &'a Option<Number>,
    value_currency: &'a Option<String>,
    properties: &'a RawValue,
    /// How often it came, the first time included.
    received: u64,
    /// The receipt of the request that made it.
    n: u64,
}

/// Everything that requests left behind.
pub struct Store {
    random: fastrand::Rng,
    profiles: Vec<Profile>,
    by_id: HashMap<String, usize>,
    by_identifier: [HashMap<String, usize>; Identifier::ALL.len()],
    metrics: HashMap<String, Arc<str>>,
    events: Vec<Event>,
    by_unique_id: HashMap<(usize, Arc<str>, Arc<str>), usize>,
    repeats: u64,
    /// Bulk calls that a repeat failed.
    bulk_repeats: u64,
}

impl Store {
    pub fn new(seed: u64) -> Self {
        Self::with_random(fastrand::Rng::with_seed(seed))
    }

    fn with_random(random: fastrand::Rng) -> Self {
        Self {
            random,
            profiles: Vec::new(),
            by_id: HashMap::new(),
            by_identifier: Default::default(),
            metrics: HashMap::new(),
            events: Vec::new(),
            by_unique_id: HashMap::new(),
            repeats: 0,
            bulk_repeats: 0,
        }
    }

    pub fn clear(&mut self) {
        *self = Self::with_random(self.random.fork());
    }

    /// Creates or updates a profile, as `profile-import` does.
    pub fn import(&mut self, draft: ProfileDraft, now: Timestamp) -> Result<Upserted<'_>, Refusal> {
        let found = self.find(&draft)?;
        if let Some(other) = self.conflicts(found, &draft).next() {
            return Err(Refusal::Duplicate { profile_id: self.profiles[other.1].id.clone() });
        }
        let index = self.upsert(found, draft, now);
        self.profiles[index].updates += 1;
        Ok(Upserted { profile: &self.profiles[index], created: found.is_none() })
    }

    /// Records an event, unless its profile and metric have one with that unique id.
    pub fn record(
        &mut self,
        profile: ProfileDraft,
        event: EventDraft,
        receipt: u64,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let profile = self.place(profile, now)?;
        self.add(profile, event, receipt, now);
        Ok(())
    }

    /// Creates or updates the profile of an event. An identifier that belongs to another profile stays there, since
    /// the call cannot answer a conflict.
    fn place(&mut self, mut draft: ProfileDraft, now: Timestamp) -> Result<usize, Refusal> {
        let found = self.find(&draft)?;
        let taken: Vec<Identifier> =
            self.conflicts(found, &draft).map(|(identifier, _)| identifier).collect();
        for identifier in taken {
            draft.attributes.remove(identifier.attribute());
        }
        Ok(self.upsert(found, draft, now))
    }

    /// Adds an event to a profile, or counts it if it is a repeat.
    fn add(&mut self, profile: usize, draft: EventDraft, receipt: u64, now: Timestamp) {
        let time = happened(&draft, now);
        let unique_id: Arc<str> = unique_id(&draft, now).into();
        let metric = self.metric(draft.metric);
        let key = (profile, Arc::clone(&metric), Arc::clone(&unique_id));
        if let Some(&first) = self.by_unique_id.get(&key) {
            self.events[first].received += 1;
            self.repeats += 1;
            return;
        }
        self.by_unique_id.insert(key, self.events.len());
        self.profiles[profile].saw_event(time);
        self.events.push(Event {
            id: random_text(&mut self.random, BASE_62, 11),
            profile,
            metric,
            unique_id,
            time,
            value: draft.value,
            value_currency: draft.value_currency,
            properties: draft.properties,
            received: 1,
            receipt,
        });
    }

    /// The profile that a draft means: by id, else by the first identifier that somebody has.
    fn find(&self, draft: &ProfileDraft) -> Result<Option<usize>, Refusal> {
        if let Some(id) = &draft.id {
            return self.by_id.get(id).map(|&index| Some(index)).ok_or(Refusal::UnknownProfile);
        }
        Ok(self.owners(draft).next().map(|(_, owner)| owner))
    }

    /// Who has the identifiers of a draft, in order of precedence.
    fn owners(&self, draft: &ProfileDraft) -> impl Iterator<Item = (Identifier, usize)> {
        Identifier::ALL.into_iter().filter_map(|identifier| {
            let text = draft.attributes.get(identifier.attribute())?.as_str()?;
            Some((identifier, *self.by_identifier[identifier as usize].get(text)?))
        })
    }

    /// The identifiers of a draft that belong to another profile than the one it means.
    fn conflicts(
        &self,
        found: Option<usize>,
        draft: &ProfileDraft,
    ) -> impl Iterator<Item = (Identifier, usize)> {
        self.owners(draft).filter(move |(_, owner)| found != Some(*owner))
    }

    fn upsert(&mut self, found: Option<usize>, draft: ProfileDraft, now: Timestamp) -> usize {
        let index = found.unwrap_or_else(|| {
            let id = ulid(&mut self.random);
            self.by_id.insert(id.clone(), self.profiles.len());
            self.profiles.push(Profile::new(id, now));
            self.profiles.len() - 1
        });
        let profile = &mut self.profiles[index];
        for identifier in Identifier::ALL {
            let Some(value) = draft.attributes.get(identifier.attribute()) else { continue };
            let by_text = &mut self.by_identifier[identifier as usize];
            if let Some(before) = profile.text(identifier.attribute()) {
                by_text.remove(before);
            }
            if let Some(text) = value.as_str() {
                by_text.insert(text.to_owned(), index);
            }
        }
        profile.apply(draft, now);
        index
    }

    fn metric(&mut self, name: String) -> Arc<str> {
        Arc::clone(self.metrics.entry(name).or_insert_with_key(|name| name.as_str().into()))
    }

    pub fn event_count(&self) -> usize {
        self.events.len()
    }

    pub fn profile_count(&self) -> usize {
        self.profiles.len()
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
        let wanted = self.events.iter().filter(|event| metric.is_none_or(|metric| *event.metric == *metric));
        wanted.map(|event| self.view(event)).collect()
    }

    pub fn profiles(&self) -> Vec<ProfileView<'_>> {
        self.profiles.iter().map(Profile::view).collect()
    }

    fn view<'a>(&'a self, event: &'a Event) -> EventView<'a> {
        EventView {
            id: &event.id,
            metric: &event.metric,
            unique_id: &event.unique_id,
            profile_id: &self.profiles[event.profile].id,
            time: rfc3339(event.time),
            value: &event.value,
            value_currency: &event.value_currency,
            properties: &event.properties,
            received: event.received,
            n: event.receipt,
        }
    }
}

/// When an event happened: now, unless it says so.
fn happened(event: &EventDraft, now: Timestamp) -> Timestamp {
    truncated(event.time.unwrap_or(now))
}

/// What tells an event from others of its profile and metric: the time to the second, unless it says so.
fn unique_id(event: &EventDraft, now: Timestamp) -> String {
    event.unique_id.clone().unwrap_or_else(|| happened(event, now).as_second().to_string())
}

/// Klaviyo cuts an event's time to the second (`EventCreateQueryV2`).
fn truncated(time: Timestamp) -> Timestamp {
    // Away from the type's limits by the checks, so the fallback is never taken.
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The way Klaviyo writes times.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// An id as Klaviyo's profiles and jobs have it.
pub fn ulid(random: &mut fastrand::Rng) -> String {
    // The leading digits of the ULIDs of these years.
    format!("01{}", random_text(random, BASE_32, 24))
}

fn random_text(random: &mut fastrand::Rng, alphabet: &[u8], length: usize) -> String {
    (0..length).map(|_| char::from(alphabet[random.usize(..alphabet.len())])).collect()
}

#[cfg(test)]
mod tests;
