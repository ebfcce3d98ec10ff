//! One profile: how an upsert changes it, and how answers show it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::consent::{Consent, Subscriptions, Suppression};
use super::{Identifier, rfc3339};
use crate::check::{ProfileDraft, PropertyPatch};
use crate::order::{Key, Rank};
use crate::time::written;

/// Attributes that an answer names even when they are null (`PostProfileResponse`).
const SHOWN: [&str; 9] = [
    "email",
    "phone_number",
    "external_id",
    "first_name",
    "last_name",
    "organization",
    "locale",
    "title",
    "image",
];

/// The same of `ProfileLocation`. Its coordinates are shown only when known: read strictly, the document's schema of
/// them admits no null.
const SHOWN_LOCATION: [&str; 8] =
    ["address1", "address2", "city", "country", "region", "zip", "timezone", "ip"];

#[derive(Debug)]
pub struct Profile {
    /// Klaviyo's id: 26 characters.
    pub id: String,
    /// Accepted `profile-import` calls that wrote it, the creating one included.
    pub updates: u64,
    /// Klaviyo was asked to delete it: it is known to nobody any more.
    pub is_deleted: bool,
    pub consent: Consent,
    attributes: Map<String, Value>,
    created: Timestamp,
    updated: Timestamp,
    last_event: Option<Timestamp>,
}

/// A profile as the control path shows it: what was stored, without nulls.
#[derive(Serialize)]
pub struct ProfileView<'a> {
    id: &'a str,
    attributes: &'a Map<String, Value>,
    updates: u64,
    subscriptions: Subscriptions,
    suppressions: &'a [Suppression],
    /// The lists that it is on.
    lists: Vec<&'a str>,
    /// Those that it unsubscribed from, whatever its subscriptions are.
    list_suppressions: Vec<&'a str>,
}

impl Profile {
    pub fn new(id: String, now: Timestamp) -> Self {
        Self {
            id,
            updates: 0,
            is_deleted: false,
            consent: Consent::default(),
            attributes: Map::new(),
            created: now,
            updated: now,
            last_event: None,
        }
    }

    /// A string attribute.
    pub fn text(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute)?.as_str()
    }

    /// Gives it an identifier that it has not.
    pub fn identify(&mut self, attribute: &str, text: String) {
        self.attributes.insert(attribute.to_owned(), text.into());
    }

    /// Absent leaves alone and null clears; location and properties are merged by their keys, then patched.
    pub fn apply(&mut self, draft: ProfileDraft, now: Timestamp) {
        for (key, value) in draft.attributes {
            match value {
                Value::Object(changes) => merge(self.members(&key), changes),
                value => set(&mut self.attributes, key, value),
            }
        }
        self.patch(draft.patch);
        self.touch(now);
    }

    /// Says that something about it has changed.
    pub fn touch(&mut self, now: Timestamp) {
        self.updated = now;
    }

    pub fn created(&self) -> Timestamp {
        self.created
    }

    pub fn updated(&self) -> Timestamp {
        self.updated
    }

    /// Where it is among those that are sorted by this; nowhere once it is deleted.
    pub fn key(&self, field: &str) -> Option<Key> {
        let rank = match field {
            "created" => Rank::time(self.created),
            "email" => Rank::text(self.text(Identifier::Email.attribute())),
            "id" => Rank::Nothing,
            _ => Rank::time(self.updated),
        };
        (!self.is_deleted).then(|| Key { rank, id: self.id.clone() })
    }

    pub fn saw_event(&mut self, time: Timestamp) {
        self.last_event = self.last_event.max(Some(time));
    }

    fn patch(&mut self, patch: PropertyPatch) {
        let PropertyPatch { append, unappend, unset } = patch;
        if append.is_empty() && unappend.is_empty() && unset.is_empty() {
            return;
        }
        let properties = self.members("properties");
        for (key, values) in append {
            let mut all = properties.remove(&key).map(items).unwrap_or_default();
            all.extend(items(values));
            properties.insert(key, Value::Array(all));
        }
        for (key, values) in unappend {
            let gone = items(values);
            if let Some(Value::Array(all)) = properties.get_mut(&key) {
                all.retain(|item| !gone.contains(item));
            }
        }
        for key in unset {
            properties.remove(&key);
        }
    }

    /// The attribute that is an object, made if need be.
    fn members(&mut self, attribute: &str) -> &mut Map<String, Value> {
        let value = self.attributes.entry(attribute).or_insert_with(|| Value::Object(Map::new()));
        match value {
            Value::Object(members) => members,
            // Checks let no other type through for these attributes.
            _ => unreachable!("{attribute} is stored as an object"),
        }
    }

    /// With the lists that it is on, and those that it unsubscribed from.
    pub fn view<'a>(&'a self, [lists, list_suppressions]: [Vec<&'a str>; 2]) -> ProfileView<'a> {
        ProfileView {
            id: &self.id,
            attributes: &self.attributes,
            updates: self.updates,
            subscriptions: self.consent.subscriptions,
            suppressions: &self.consent.suppressions,
            lists,
            list_suppressions,
        }
    }

    /// The profile as answers have it (`PostProfileResponse`, `ListMemberResponseObjectResource` and their like).
    pub fn resource(&self, api_url: &str) -> Value {
        let location = self.attributes.get("location").and_then(Value::as_object);
        let mut attributes = with_nulls(&SHOWN, self.attributes.clone());
        attributes.remove("anonymous_id");
        let location = with_nulls(&SHOWN_LOCATION, location.cloned().unwrap_or_default());
        attributes.insert("location".to_owned(), Value::Object(location));
        attributes.entry("properties").or_insert_with(|| json!({}));
        attributes.insert("created".to_owned(), written(self.created).into());
        attributes.insert("updated".to_owned(), written(self.updated).into());
        attributes.insert("last_event_date".to_owned(), self.last_event.map(rfc3339).into());
        let url = format!("{api_url}/api/profiles/{}/", self.id);
        let relationships = ["lists", "segments", "push-tokens"].map(|name| {
            let own = format!("{url}relationships/{name}/");
            let related = format!("{url}{name}/");
            (name.to_owned(), json!({"links": {"self": own, "related": related}}))
        });
        let mut resource = json!({"type": "profile", "id": self.id, "links": {"self": url}});
        // In their places json! would copy them, of each profile of a long list.
        resource["attributes"] = Value::Object(attributes);
        resource["relationships"] = relationships.into_iter().collect();
        resource
    }
}

fn merge(target: &mut Map<String, Value>, changes: Map<String, Value>) {
    for (key, value) in changes {
        set(target, key, value);
    }
}

fn set(target: &mut Map<String, Value>, key: String, value: Value) {
    if value.is_null() {
        target.remove(&key);
    } else {
        target.insert(key, value);
    }
}

/// The items of an array, or the one value.
fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        value => vec![value],
    }
}

fn with_nulls(keys: &[&str], mut map: Map<String, Value>) -> Map<String, Value> {
    for key in keys {
        map.entry(*key).or_insert(Value::Null);
    }
    map
}
