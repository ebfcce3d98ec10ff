//! Profiles, events, consents, lists, the catalog, coupons and templates, as Klaviyo would keep them.

mod bulk;
mod catalog;
mod consent;
mod coupons;
mod identifiers;
mod lists;
mod merge;
mod profile;
mod templates;

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use hyper::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Number;
use serde_json::value::{RawValue, to_raw_value};

use crate::check::{EventDraft, ProfileDraft, Whose};
use crate::error::ApiError;
pub use bulk::BulkRefusal;
use catalog::Catalog;
use consent::Entry;
pub use consent::{Channel, ConsentView};
pub use coupons::Coupon;
use coupons::Coupons;
pub use identifiers::Identifier;
pub use lists::{List, OptIn, unknown_list};
pub use profile::{Profile, ProfileView};
use templates::Template;

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
                ApiError::not_found(detail).at(format!("{profile}/id"))
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

/// The profile that has each of a draft's identifiers.
type Owners = [Option<usize>; Identifier::ALL.len()];

struct Event {
    /// The number that its id is written from.
    id: u64,
    profile: usize,
    metric: Arc<str>,
    unique_id: Box<str>,
    time: Timestamp,
    value: Option<Number>,
    value_currency: Option<Arc<str>>,
    /// As text: a tree of small maps takes several times the memory, and events are many.
    properties: Box<RawValue>,
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

/// Everything that requests left behind.
pub struct Store {
    random: fastrand::Rng,
    profiles: Vec<Profile>,
    by_id: HashMap<String, usize>,
    by_identifier: [HashMap<String, usize>; Identifier::ALL.len()],
    /// Metrics and currencies repeat in every event; each text is kept once.
    texts: HashSet<Arc<str>>,
    events: Vec<Event>,
    /// Places in `events`, by what tells them apart there.
    by_unique_id: HashTable<usize>,
    hasher: DefaultHashBuilder,
    repeats: u64,
    /// Bulk calls that a repeat failed.
    bulk_repeats: u64,
    /// In the order of their creation.
    lists: Vec<List>,
    /// Every change of a profile's consent.
    consents: Vec<Entry>,
    pub catalog: Catalog,
    pub coupons: Coupons,
    /// In the order of their creation.
    templates: Vec<Template>,
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
            texts: HashSet::new(),
            events: Vec::new(),
            by_unique_id: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            repeats: 0,
            bulk_repeats: 0,
            lists: Vec::new(),
            consents: Vec::new(),
            catalog: Catalog::default(),
            coupons: Coupons::default(),
            templates: Vec::new(),
        }
    }

    pub fn clear(&mut self) {
        *self = Self::with_random(self.random.fork());
    }

    /// Creates or updates a profile, as `profile-import` does.
    pub fn import(&mut self, draft: ProfileDraft, now: Timestamp) -> Result<Upserted<'_>, Refusal> {
        let owners = self.owners(&draft);
        let found = self.find(&draft, owners)?;
        if let Some(other) = owners.into_iter().flatten().find(|owner| found != Some(*owner)) {
            return Err(Refusal::Duplicate { profile_id: self.profiles[other].id.clone() });
        }
        let index = self.upsert(found, draft, now);
        self.profiles[index].updates += 1;
        Ok(Upserted { profile: &self.profiles[index], created: found.is_none() })
    }

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

    /// Creates or updates the profile of an event. An identifier that belongs to another profile stays there, since
    /// the call cannot answer a conflict.
    fn place(&mut self, mut draft: ProfileDraft, now: Timestamp) -> Result<usize, Refusal> {
        let owners = self.owners(&draft);
        let found = self.find(&draft, owners)?;
        for (identifier, owner) in Identifier::ALL.into_iter().zip(owners) {
            if owner.is_some() && owner != found {
                draft.attributes.remove(identifier.attribute());
            }
        }
        Ok(self.upsert(found, draft, now))
    }

    /// Adds an event to a profile, or counts it if it is a repeat.
    fn add(&mut self, profile: usize, draft: &EventDraft<'_>, receipt: u64, now: Timestamp) {
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
            metric: self.text(draft.metric),
            unique_id: unique_id.into(),
            time,
            value: draft.value.clone(),
            value_currency: draft.value_currency.map(|code| self.text(code)),
            // A JSON object always has a text.
            properties: to_raw_value(draft.properties).unwrap_or_default(),
            received: 1,
            receipt,
        };
        self.events.push(event);
        self.index_event(self.events.len() - 1);
    }

    /// Has an event be found.
    fn index_event(&mut self, index: usize) {
        let Self { by_unique_id, events, hasher, .. } = self;
        let hash = |event: &Event| hasher.hash_one((event.profile, &*event.metric, &*event.unique_id));
        by_unique_id.insert_unique(hash(&events[index]), index, |&index| hash(&events[index]));
    }

    /// The place of an event in the store.
    fn find_event(&self, profile: usize, metric: &str, unique_id: &str) -> Option<usize> {
        let hash = self.hasher.hash_one((profile, metric, unique_id));
        let is_same = |index: &usize| {
            let event = &self.events[*index];
            event.profile == profile && *event.unique_id == *unique_id && *event.metric == *metric
        };
        self.by_unique_id.find(hash, is_same).copied()
    }

    /// The profile that a draft means: by id, else by the first identifier that somebody has.
    fn find(&self, draft: &ProfileDraft, owners: Owners) -> Result<Option<usize>, Refusal> {
        match &draft.id {
            Some(id) => self.by_id.get(id).map(|&index| Some(index)).ok_or(Refusal::UnknownProfile),
            None => Ok(owners.into_iter().flatten().next()),
        }
    }

    /// Who has the identifiers of a draft, in order of precedence.
    fn owners(&self, draft: &ProfileDraft) -> Owners {
        Identifier::ALL.map(|identifier| self.owner(identifier, draft.text(identifier)?))
    }

    fn owner(&self, identifier: Identifier, text: &str) -> Option<usize> {
        self.by_identifier[identifier as usize].get(text).copied()
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
            let before = profile.text(identifier.attribute());
            if before == value.as_str() {
                continue;
            }
            if let Some(before) = before {
                by_text.remove(before);
            }
            if let Some(text) = value.as_str() {
                by_text.insert(text.to_owned(), index);
            }
        }
        profile.apply(draft, now);
        index
    }

    /// The profile with an id or an identifier. An address is the same however it is written.
    fn who(&self, whose: &Whose) -> Option<usize> {
        match whose {
            Whose::Id(id) => self.by_id.get(id).copied(),
            Whose::Has(Identifier::Email, text) => self.owner(Identifier::Email, &text.to_lowercase()),
            Whose::Has(identifier, text) => self.owner(*identifier, text),
        }
    }

    /// Deletes a profile, its events, and what lists and the log of consents know of it. Whoever comes by its identifiers
    /// later is another.
    pub fn delete(&mut self, whose: &Whose) {
        if let Some(index) = self.who(whose) {
            self.delete_at(index);
        }
    }

    fn delete_at(&mut self, index: usize) {
        for list in &mut self.lists {
            list.forget(index);
        }
        self.forget_consents(index);
        let profile = &mut self.profiles[index];
        profile.is_deleted = true;
        self.by_id.remove(&profile.id);
        for identifier in Identifier::ALL {
            if let Some(text) = profile.text(identifier.attribute()) {
                self.by_identifier[identifier as usize].remove(text);
            }
        }
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        Arc::clone(self.texts.get_or_insert_with(text, |text| text.into()))
    }

    /// Events that are kept, those of deleted profiles aside.
    fn kept(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| !self.profiles[event.profile].is_deleted)
    }

    pub fn event_count(&self) -> usize {
        self.kept().count()
    }

    pub fn profile_count(&self) -> usize {
        self.profiles.iter().filter(|profile| !profile.is_deleted).count()
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
        let wanted = self.kept().filter(|event| metric.is_none_or(|metric| *event.metric == *metric));
        wanted.map(|event| self.view(event)).collect()
    }

    pub fn profiles(&self) -> Vec<ProfileView<'_>> {
        let kept = self.profiles.iter().enumerate().filter(|(_, profile)| !profile.is_deleted);
        kept.map(|(index, profile)| profile.view(self.lists_of(index))).collect()
    }

    fn view<'a>(&'a self, event: &'a Event) -> EventView<'a> {
        EventView {
            id: base_62(event.id),
            metric: &event.metric,
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
fn unique_id<'v>(event: &EventDraft<'v>, now: Timestamp) -> Cow<'v, str> {
    event.unique_id.map_or_else(|| happened(event, now).as_second().to_string().into(), Cow::Borrowed)
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

/// An id as the errors of Klaviyo's jobs have it.
pub fn uuid(random: &mut fastrand::Rng) -> String {
    uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid().to_string()
}

/// An event's id: eleven digits.
fn base_62(mut number: u64) -> String {
    let mut digits = [0; 11];
    for digit in &mut digits {
        *digit = BASE_62[(number % 62) as usize];
        number /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

fn random_text(random: &mut fastrand::Rng, alphabet: &[u8], length: usize) -> String {
    (0..length).map(|_| char::from(alphabet[random.usize(..alphabet.len())])).collect()
}

#[cfg(test)]
mod tests;
