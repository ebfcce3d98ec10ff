//! Profiles, events, consents, lists, segments, the catalog, coupons and templates, as Klaviyo would keep them.

mod aggregates;
mod bulk;
mod catalog;
mod consent;
mod coupons;
mod events;
mod identifiers;
mod index;
mod lists;
mod members;
mod merge;
mod metrics;
mod people;
mod profile;
mod seeds;
mod segments;
mod subscriptions;
mod templates;
mod timeline;

use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use hyper::StatusCode;
use jiff::Timestamp;

use crate::check::{ProfileDraft, Whose};
use crate::error::ApiError;
pub use aggregates::Aggregate;
pub use bulk::BulkRefusal;
use catalog::Catalog;
use consent::Entry;
pub use consent::{Channel, ConsentView};
pub use coupons::Coupon;
use coupons::Coupons;
pub use events::EventView;
use events::{Event, unique_id};
pub use identifiers::Identifier;
pub use lists::{List, OptIn, unknown_list};
pub use members::Members;
pub use metrics::INTEGRATION;
use metrics::Metric;
use people::Orders;
pub use profile::{Profile, ProfileView};
use segments::Segment;
use templates::Template;
use timeline::Timeline;

/// Crockford's base 32, which Klaviyo's profile ids (ULIDs) are written in.
const BASE_32: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// The alphabet of Klaviyo's other ids.
const BASE_62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Digits of the ids of what an account does not have many of.
const SHORT_ID: usize = 6;

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

/// Everything that requests left behind.
pub struct Store {
    random: fastrand::Rng,
    profiles: Vec<Profile>,
    by_id: HashMap<String, usize>,
    by_identifier: [HashMap<String, usize>; Identifier::ALL.len()],
    orders: Orders,
    /// In the order of their first events.
    metrics: Vec<Metric>,
    by_metric: HashMap<String, usize>,
    /// Currencies repeat in every event; each text is kept once.
    currencies: HashSet<Arc<str>>,
    events: Vec<Event>,
    timeline: Timeline,
    /// Places in `events`, by what tells them apart there.
    by_unique_id: HashTable<usize>,
    hasher: DefaultHashBuilder,
    repeats: u64,
    /// Bulk calls that a repeat failed.
    bulk_repeats: u64,
    /// In the order of their creation.
    lists: Vec<List>,
    /// The same.
    segments: Vec<Segment>,
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
            orders: Orders::default(),
            metrics: Vec::new(),
            by_metric: HashMap::new(),
            currencies: HashSet::new(),
            events: Vec::new(),
            timeline: Timeline::default(),
            by_unique_id: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            repeats: 0,
            bulk_repeats: 0,
            lists: Vec::new(),
            segments: Vec::new(),
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
        let (index, created) = self.change(draft, now)?;
        self.profiles[index].updates += 1;
        Ok(Upserted { profile: &self.profiles[index], created })
    }

    /// The same as somebody does it in Klaviyo's own pages. The place of the profile, and whether it is new.
    pub fn change(&mut self, draft: ProfileDraft, now: Timestamp) -> Result<(usize, bool), Refusal> {
        let owners = self.owners(&draft);
        let found = self.find(&draft, owners)?;
        if let Some(other) = owners.into_iter().flatten().find(|owner| found != Some(*owner)) {
            return Err(Refusal::Duplicate { profile_id: self.profiles[other].id.clone() });
        }
        Ok((self.upsert(found, draft, now), found.is_none()))
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
        self.orders.note(index);
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

    /// Deletes a profile, its events, and what lists, segments and the log of consents know of it. Whoever comes by its identifiers
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
        for segment in &mut self.segments {
            segment.members.leave(index);
        }
        self.forget_consents(index);
        self.orders.note(index);
        let profile = &mut self.profiles[index];
        profile.is_deleted = true;
        self.by_id.remove(&profile.id);
        for identifier in Identifier::ALL {
            if let Some(text) = profile.text(identifier.attribute()) {
                self.by_identifier[identifier as usize].remove(text);
            }
        }
    }

    pub fn profile_count(&self) -> usize {
        self.profiles.iter().filter(|profile| !profile.is_deleted).count()
    }

    pub fn profiles(&self) -> Vec<ProfileView<'_>> {
        let kept = self.profiles.iter().enumerate().filter(|(_, profile)| !profile.is_deleted);
        kept.map(|(index, profile)| profile.view(self.lists_of(index))).collect()
    }
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

/// An id as Klaviyo's lists, segments, flows and templates have it.
pub fn short_id(random: &mut fastrand::Rng) -> String {
    random_text(random, BASE_62, SHORT_ID)
}

/// An id as the errors of Klaviyo's jobs have it.
pub fn uuid(random: &mut fastrand::Rng) -> String {
    uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid().to_string()
}

fn random_text(random: &mut fastrand::Rng, alphabet: &[u8], length: usize) -> String {
    (0..length).map(|_| char::from(alphabet[random.usize(..alphabet.len())])).collect()
}

#[cfg(test)]
mod tests;
