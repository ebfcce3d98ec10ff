//! Profiles: the state of a person, as far as the shop knows it.
//!
//! Payload: the profile's attributes as Klaviyo names them. What is absent stays as it is at Klaviyo, what is null is
//! cleared. One that is history begins with `"backfill": true`, which is not sent.

use std::borrow::Cow;
use std::collections::BTreeMap;

use klaviyo::{BULK_IMPORT_PROFILES, Endpoint, UPSERT_PROFILE};
use serde_json::value::RawValue;

use super::event::too_large;
use super::profile_batch::ProfileBatch;
use super::{Checked, Kind, Lost, Reading, Rides, push_raw, push_string};
use crate::batch::Batch;
use crate::identifiers::{Identifiers, NAMES};
use crate::invalid::{Fault, Invalid};
use crate::json::JsonLimits;

/// Limits of `properties`, `location` and of an event's `profile` (spec: the call's description).
pub const fn limits(argument: &'static str) -> JsonLimits {
    JsonLimits { argument, properties: usize::MAX, bytes: UPSERT_PROFILE.max_body, shaped: true }
}

/// What `klaviyo_upsert_profile` was given.
#[derive(Debug, Clone, Default)]
pub struct Draft<'a> {
    pub identifiers: Identifiers<'a>,
    /// Attributes that are text, under Klaviyo's names: see [`TEXTS`].
    pub texts: [Option<&'a str>; TEXTS.len()],
    /// JSON objects, written by [`crate::json::JsonWriter`].
    pub location: Option<&'a str>,
    pub properties: Option<&'a str>,
    /// Names of attributes to clear.
    pub clear: Vec<String>,
    /// Whether it goes when nothing else waits.
    pub backfill: bool,
}

/// The attributes that are text, in the order of [`Draft::texts`] (spec: `ProfileUpsertQueryResourceObject`).
pub const TEXTS: [&str; 6] = ["first_name", "last_name", "organization", "title", "locale", "image"];

impl Draft<'_> {
    /// Checks it as it would be checked at Klaviyo, and lays it down.
    pub fn check(&self) -> Result<Checked, Invalid> {
        self.identifiers.check()?;
        if let Some(location) = self.location {
            check_location("location", location)?;
        }
        self.check_clear()?;
        let mut payload = String::from("{");
        if self.backfill {
            push_raw(&mut payload, "backfill", "true");
        }
        for (name, value) in self.identifiers.given() {
            push_string(&mut payload, name, value);
        }
        for (name, value) in TEXTS.iter().zip(self.texts) {
            if let Some(value) = value {
                push_string(&mut payload, name, value);
            }
        }
        for name in &self.clear {
            push_raw(&mut payload, name, "null");
        }
        if let Some(location) = self.location {
            push_raw(&mut payload, "location", location);
        }
        if let Some(properties) = self.properties {
            push_raw(&mut payload, "properties", properties);
        }
        payload.push('}');
        // The body adds a constant frame to the payload.
        if payload.len() + 64 > UPSERT_PROFILE.max_body {
            return Err(too_large(UPSERT_PROFILE.max_body));
        }
        Ok(Checked { key: self.identifiers.key(), payload })
    }

    fn check_clear(&self) -> Result<(), Invalid> {
        for (position, name) in self.clear.iter().enumerate() {
            let (detail, hint) = match TEXTS.iter().position(|text| text == name) {
                None => (
                    format!("It may name {}.", TEXTS.join(", ")),
                    "To clear a property of your own, pass it as null: properties => '{\"name\": null}'.",
                ),
                Some(text) if self.texts[text].is_some() => (
                    format!("Argument \"{name}\" is given a value at the same time."),
                    "Pass one of the two.",
                ),
                Some(_) if self.clear[..position].contains(name) => {
                    (format!("It names \"{name}\" twice."), "Name each field once.")
                }
                Some(_) => continue,
            };
            return Err(Invalid::new(
                Fault::Clear,
                "argument \"clear\" is not a list of fields to clear",
                detail,
                hint,
            ));
        }
        Ok(())
    }
}

/// What a field may hold, besides null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Text,
    /// A string or a number.
    Coordinate,
    /// An object of names that Klaviyo knows nothing of.
    Object,
    Location,
    /// What an event says of a profile.
    Profile,
}

impl Shape {
    /// The fields that an object may have, and no other; none where it may have any.
    pub fn fields(self) -> &'static [Field] {
        match self {
            Self::Text | Self::Coordinate | Self::Object => &[],
            Self::Location => &LOCATION,
            Self::Profile => &ATTRIBUTES,
        }
    }
}

/// A field's name and what it may hold.
pub type Field = (&'static str, Shape);

/// What a profile has besides its identifiers (spec: `EventProfileCreateQueryResourceObject`). [`Draft`] takes all but the
/// last (`ProfileUpsertQueryResourceObject`).
const ATTRIBUTES: [Field; 9] = [
    ("first_name", Shape::Text),
    ("last_name", Shape::Text),
    ("organization", Shape::Text),
    ("title", Shape::Text),
    ("locale", Shape::Text),
    ("image", Shape::Text),
    ("location", Shape::Location),
    ("properties", Shape::Object),
    ("meta", Shape::Object),
];

/// spec: `ProfileLocation`.
const LOCATION: [Field; 10] = [
    ("address1", Shape::Text),
    ("address2", Shape::Text),
    ("city", Shape::Text),
    ("region", Shape::Text),
    ("zip", Shape::Text),
    ("country", Shape::Text),
    ("timezone", Shape::Text),
    ("ip", Shape::Text),
    ("latitude", Shape::Coordinate),
    ("longitude", Shape::Coordinate),
];

/// Refuses attributes Klaviyo does not know, which it would drop or refuse, in what an event says of a profile.
pub(super) fn check_attributes(argument: &str, json: &str) -> Result<(), Invalid> {
    let hint =
        "Identifiers are arguments of their own; what you define yourself belongs under \"properties\".";
    check_fields(argument, json, || ATTRIBUTES.into_iter(), hint)
}

/// The same in a state, which is of identifiers and attributes.
pub(super) fn check_state(argument: &str, json: &str) -> Result<(), Invalid> {
    let identifiers = || NAMES.map(|name| (name, Shape::Text)).into_iter();
    let fields = || identifiers().chain(ATTRIBUTES.into_iter().filter(|(name, _)| *name != "meta"));
    check_fields(argument, json, fields, "What you define yourself belongs under \"properties\".")
}

fn check_location(argument: &str, json: &str) -> Result<(), Invalid> {
    check_fields(argument, json, || LOCATION.into_iter(), "What is not an address belongs into properties.")
}

/// Checks an object's fields. What is said names fields, never what they hold.
fn check_fields<Fields: Iterator<Item = Field>>(
    argument: &str,
    json: &str,
    fields: impl Fn() -> Fields,
    hint: &'static str,
) -> Result<(), Invalid> {
    let refuse = |detail: String| {
        let message = format!("argument \"{argument}\" holds what Klaviyo does not take there");
        Err(Invalid::new(Fault::Profile, message, detail, hint))
    };
    let Ok(given) = serde_json::from_str::<BTreeMap<String, &RawValue>>(json) else {
        return refuse("It must be a JSON object.".to_owned());
    };
    for (name, value) in given {
        let Some((_, shape)) = fields().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = fields().map(|(known, _)| known).collect();
            let name: String = name.chars().take(63).collect();
            return refuse(format!("There is no \"{name}\"; there are {}.", known.join(", ")));
        };
        let first = value.get().bytes().next().unwrap_or_default();
        let wrong = match (shape, first) {
            (_, b'n') | (Shape::Text | Shape::Coordinate, b'"') => continue,
            (Shape::Object | Shape::Profile, b'{') => continue,
            (Shape::Coordinate, b'-' | b'0'..=b'9') => continue,
            (Shape::Location, b'{') => {
                check_location(&format!("{argument}.location"), value.get())?;
                continue;
            }
            (Shape::Text, _) => "text",
            (Shape::Coordinate, _) => "text or a number",
            (Shape::Object | Shape::Location | Shape::Profile, _) => "an object",
        };
        return refuse(format!("\"{name}\" must be {wrong}, or null."));
    }
    Ok(())
}

/// What is between the braces of a JSON object, if anything is.
pub(super) fn open_object(json: &str) -> Option<&str> {
    let inner = json.trim().strip_prefix('{')?.strip_suffix('}')?;
    (!inner.trim().is_empty()).then_some(inner)
}

/// How the payload of one that is history begins.
const HISTORY: &str = "{\"backfill\":true,";

/// What of a payload is sent.
pub(super) fn attributes(payload: &str) -> Cow<'_, str> {
    match payload.strip_prefix(HISTORY) {
        Some(attributes) => Cow::Owned(format!("{{{attributes}")),
        None => Cow::Borrowed(payload),
    }
}

type Entries<'a> = BTreeMap<&'a str, &'a RawValue>;

/// The kind.
pub struct Profile;

impl Kind for Profile {
    fn name(&self) -> &'static str {
        "profile"
    }

    fn endpoint(&self) -> Option<&'static Endpoint> {
        Some(&UPSERT_PROFILE)
    }

    fn body(&self, payload: &str) -> Result<Vec<u8>, String> {
        let payload = attributes(payload);
        match serde_json::from_str::<BTreeMap<String, &RawValue>>(&payload) {
            Ok(attributes) if !attributes.is_empty() => Ok(klaviyo::profile_body(&payload)),
            Ok(_) => Err("it has no attributes".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Later fields win; `properties` entry by entry, as Klaviyo itself merges them.
    ///
    /// Two states merge only where one call does what two would do: both name the same identifiers (or one could be
    /// about another profile), and a later location covers every part of an earlier one (whether Klaviyo replaces a
    /// location or merges into it, its document does not say).
    fn merge(&self, earlier: &str, later: &str) -> Option<String> {
        let (earlier, later) = (attributes(earlier), attributes(later));
        let mut merged: Entries = serde_json::from_str(&earlier).ok()?;
        let newer: Entries = serde_json::from_str(&later).ok()?;
        let same = |name: &str| merged.get(name).map(|raw| raw.get()) == newer.get(name).map(|raw| raw.get());
        if !NAMES.into_iter().all(same) {
            return None;
        }
        let mut properties = None;
        for (name, value) in newer {
            if let Some(before) = merged.get(name) {
                match name {
                    "properties" => properties = Some(merge_entries(before, value)?),
                    "location" if !covers(before, value)? => return None,
                    _ => {}
                }
            }
            merged.insert(name, value);
        }
        if let Some(properties) = &properties {
            merged.insert("properties", properties);
        }
        serde_json::to_string(&merged).ok()
    }

    fn is_state(&self) -> bool {
        true
    }

    /// The same state again ends in the same state.
    fn lost(&self) -> Lost {
        Lost::Repeated
    }

    fn read(&self, _: &str, _: [u8; 16], payload: &str) -> Reading {
        let rides = if self.body(payload).is_ok() { Rides::Always } else { Rides::Never };
        Reading { rides, carries_state: true, backfill: payload.starts_with(HISTORY) }
    }

    /// Which of two states of a profile stays, where both are in one call, nobody says: so one rides.
    fn bulk(&self) -> Option<&'static Endpoint> {
        Some(&BULK_IMPORT_PROFILES)
    }

    fn batch(&self) -> Option<Box<dyn Batch>> {
        Some(Box::new(ProfileBatch::default()))
    }
}

fn merge_entries(earlier: &RawValue, later: &RawValue) -> Option<Box<RawValue>> {
    let mut merged: BTreeMap<String, &RawValue> = serde_json::from_str(earlier.get()).ok()?;
    merged.extend(serde_json::from_str::<BTreeMap<String, &RawValue>>(later.get()).ok()?);
    serde_json::value::to_raw_value(&merged).ok()
}

fn covers(earlier: &RawValue, later: &RawValue) -> Option<bool> {
    let earlier: Entries = serde_json::from_str(earlier.get()).ok()?;
    let later: Entries = serde_json::from_str(later.get()).ok()?;
    Some(earlier.keys().all(|name| later.contains_key(name)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn identified() -> Draft<'static> {
        Draft {
            identifiers: Identifiers { external_id: Some("7"), ..Default::default() },
            ..Default::default()
        }
    }

    fn merged(earlier: Value, later: Value) -> Option<Value> {
        let text = Profile.merge(&earlier.to_string(), &later.to_string())?;
        Some(serde_json::from_str(&text).expect("JSON"))
    }

    #[test]
    fn absent_is_absent_and_clear_is_null() {
        let draft = Draft {
            texts: [Some("Ada"), None, None, None, None, None],
            location: Some(r#"{"city":"London","latitude":51.5}"#),
            properties: Some(r#"{"plan":null}"#),
            clear: vec!["title".to_owned()],
            ..identified()
        };
        let payload: Value = serde_json::from_str(&draft.check().expect("valid").payload).expect("JSON");
        assert_eq!(
            payload,
            json!({"external_id": "7", "first_name": "Ada", "title": null,
                "location": {"city": "London", "latitude": 51.5}, "properties": {"plan": null}})
        );
    }

    #[test]
    fn each_mistake_has_its_name() {
        let fault = |draft: &Draft| draft.check().expect_err("invalid").fault;
        assert_eq!(fault(&Draft::default()), Fault::NoIdentifier);
        assert_eq!(fault(&Draft { location: Some(r#"{"town":"London"}"#), ..identified() }), Fault::Profile);
        assert_eq!(fault(&Draft { location: Some(r#"{"city":1}"#), ..identified() }), Fault::Profile);
        assert_eq!(fault(&Draft { location: Some(r#"{"latitude":{}}"#), ..identified() }), Fault::Profile);
        let told = check_attributes("profile", r#"{"properties":"ada@b.example"}"#).expect_err("no object");
        assert!(told.detail.contains("properties") && !format!("{told:?}").contains("ada@"), "{told:?}");
        let told = check_attributes("profile", r#"{"location":{"zip":1}}"#).expect_err("a number");
        assert!(told.message.contains("profile.location") && told.detail.contains("zip"), "{told:?}");
        for clear in [vec!["email"], vec!["plan"], vec!["title", "title"], vec!["first_name"]] {
            let clear = clear.into_iter().map(str::to_owned).collect();
            let texts = [Some("Ada"), None, None, None, None, None];
            assert_eq!(fault(&Draft { clear, texts, ..identified() }), Fault::Clear);
        }
        let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(100_000));
        assert_eq!(fault(&Draft { properties: Some(&huge), ..identified() }), Fault::TooLarge);
    }

    #[test]
    fn later_fields_win_and_the_rest_stays() {
        assert_eq!(
            merged(
                json!({"external_id": "7", "first_name": "Ada", "title": "Countess", "properties": {"a": 1, "b": 2}}),
                json!({"external_id": "7", "title": null, "properties": {"b": 3, "c": null}}),
            ),
            Some(json!({"external_id": "7", "first_name": "Ada", "title": null,
                "properties": {"a": 1, "b": 3, "c": null}}))
        );
    }

    #[test]
    fn that_it_is_history_is_known_and_not_sent() {
        let draft =
            Draft { texts: [Some("Ada"), None, None, None, None, None], backfill: true, ..identified() };
        let history = draft.check().expect("valid").payload;
        let payload = Draft { backfill: false, ..draft }.check().expect("valid").payload;
        assert_eq!([&history, &payload].map(|it| Profile.read("a", [0; 16], it).backfill), [true, false]);
        assert_eq!(Profile.body(&history), Profile.body(&payload));
        let body = |payload: &str| {
            let mut batch = Profile.batch().expect("there is one");
            assert_eq!(batch.offer(payload, 1), crate::batch::Offered::Taken);
            batch.finish().0
        };
        assert_eq!(body(&history), body(&payload));
        for (earlier, later) in [(&history, &payload), (&payload, &history), (&history, &history)] {
            assert_eq!(Profile.merge(earlier, later), Profile.merge(&payload, &payload));
        }
    }

    #[test]
    fn what_one_call_could_not_say_is_not_merged() {
        assert_eq!(
            merged(json!({"external_id": "7", "email": "a@b.example"}), json!({"external_id": "7"})),
            None
        );
        assert_eq!(
            merged(json!({"email": "a@b.example"}), json!({"email": "c@d.example"})),
            None,
            "another address may be another profile"
        );
        let at = |location: Value| json!({"external_id": "7", "location": location});
        assert_eq!(merged(at(json!({"city": "London"})), at(json!({"zip": "N1"}))), None);
        assert_eq!(
            merged(at(json!({"city": "London"})), at(json!({"zip": "N1", "city": "Paris"}))),
            Some(at(json!({"zip": "N1", "city": "Paris"})))
        );
    }

    #[test]
    fn digits_survive_a_merge() {
        let merged = Profile.merge(
            r#"{"external_id":"7","properties":{"n":12345678901234567890.10}}"#,
            r#"{"external_id":"7","properties":{"m":1}}"#,
        );
        assert!(merged.expect("merged").contains("12345678901234567890.10"));
    }
}
