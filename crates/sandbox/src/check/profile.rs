//! A profile, as `profile-import` takes it and as an event carries it.

use serde_json::{Map, Value};
use serde_json_borrow::Value as Borrowed;

use super::fields::{At, Findings, Object};
use super::identifiers::{has_plan, is_email, is_phone};
use crate::error::ApiError;
use crate::store::Identifier;

/// String attributes of `ProfileUpsertQuery`, identifiers first.
const TEXTS: [&str; 10] = [
    "external_id",
    "email",
    "phone_number",
    "_kx",
    "first_name",
    "last_name",
    "organization",
    "locale",
    "title",
    "image",
];

/// Attributes of `ProfileUpsertQuery`.
const IMPORT: [&str; 12] = [
    "external_id",
    "email",
    "phone_number",
    "_kx",
    "first_name",
    "last_name",
    "organization",
    "locale",
    "title",
    "image",
    "location",
    "properties",
];

/// String members of `ProfileLocation`; latitude and longitude may be numbers too.
const LOCATION: [&str; 8] = ["address1", "address2", "city", "country", "region", "zip", "timezone", "ip"];
const COORDINATES: [&str; 2] = ["latitude", "longitude"];

/// A checked profile.
#[derive(Debug, Default)]
pub struct ProfileDraft {
    /// Klaviyo's own id.
    pub id: Option<String>,
    /// What the request said: absent leaves alone, null clears.
    pub attributes: Map<String, Value>,
    pub patch: PropertyPatch,
}

impl ProfileDraft {
    /// What the request says an identifier is.
    pub fn text(&self, identifier: Identifier) -> Option<&str> {
        self.attributes.get(identifier.attribute())?.as_str()
    }

    /// What only somebody who knows of numbering plans can find wrong, in the profile at this place of a body.
    pub fn unreachable_at(&self, profile: &str) -> Option<ApiError> {
        let phone = self.text(Identifier::PhoneNumber)?;
        (!has_plan(phone)).then(|| {
            let attribute = Identifier::PhoneNumber.attribute();
            let detail = "The phone number is not one that can be assigned.";
            ApiError::invalid(format!("{profile}/attributes/{attribute}"), detail)
        })
    }
}

/// `meta.patch_properties`: changes to properties that do not replace them.
#[derive(Debug, Default)]
pub struct PropertyPatch {
    /// Values to add to the array that a property is.
    pub append: Map<String, Value>,
    /// Values to take out of it.
    pub unappend: Map<String, Value>,
    /// Properties to remove.
    pub unset: Vec<String>,
}

/// Checks a `ProfileUpsertQuery`.
pub fn check_import(findings: &mut Findings, root: Object<'_, '_>) -> Option<ProfileDraft> {
    root.only(findings, "profile", &["data"]);
    let data = root.object(findings, "data")?;
    check_resource(findings, data)
}

/// Checks a `ProfileUpsertQueryResourceObject`, alone or one of many.
pub fn check_resource(findings: &mut Findings, data: Object<'_, '_>) -> Option<ProfileDraft> {
    data.resource_type(findings, "profile");
    data.only(findings, "profile", &["type", "id", "attributes", "meta"]);
    let meta = data.optional_object(findings, "meta");
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, "profile", &IMPORT);
    Some(draft(findings, data, attributes, meta))
}

/// Checks the profile of a group of events in a bulk call (`OnsiteProfileCreateQueryResourceObject`): as one that is
/// imported, and it may carry an anonymous id.
pub fn check_in_bulk(findings: &mut Findings, data: Object<'_, '_>) -> Option<ProfileDraft> {
    data.resource_type(findings, "profile");
    data.only(findings, "profile", &["type", "id", "attributes", "meta"]);
    let meta = data.optional_object(findings, "meta");
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, "profile", &[&IMPORT[..], &["anonymous_id"]].concat());
    attributes.text(findings, "anonymous_id");
    Some(draft(findings, data, attributes, meta))
}

/// Checks the profile in an event (`EventProfileCreateQueryResourceObject`), which may carry an anonymous id, and
/// has its `meta` among the attributes.
pub fn check_in_event(findings: &mut Findings, data: Object<'_, '_>) -> Option<ProfileDraft> {
    data.resource_type(findings, "profile");
    data.only(findings, "profile", &["type", "id", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    let known: Vec<&str> = IMPORT.into_iter().chain(["anonymous_id", "meta"]).collect();
    attributes.only(findings, "profile", &known);
    attributes.text(findings, "anonymous_id");
    let meta = attributes.optional_object(findings, "meta");
    Some(draft(findings, data, attributes, meta))
}

fn draft(
    findings: &mut Findings,
    data: Object<'_, '_>,
    attributes: Object<'_, '_>,
    meta: Option<Object<'_, '_>>,
) -> ProfileDraft {
    for key in TEXTS {
        attributes.text(findings, key);
    }
    if let Some(location) = attributes.optional_object(findings, "location") {
        check_location(findings, location);
    }
    attributes.optional_object(findings, "properties");
    let id = data.text(findings, "id");
    check_identifiers(findings, attributes, id);

    // `_kx` is an opaque token of Klaviyo's web tracking: it identifies nobody here.
    let kept = attributes.map.iter().filter(|(key, _)| !["meta", "_kx"].contains(key));
    let mut kept: Map<String, Value> = kept.map(|(key, value)| (key.to_owned(), value.into())).collect();
    if let Some(Value::String(email)) = kept.get_mut("email") {
        *email = email.to_lowercase();
    }
    let patch = meta.map_or_else(PropertyPatch::default, |meta| check_meta(findings, meta));
    ProfileDraft { id: id.map(str::to_owned), attributes: kept, patch }
}

fn check_identifiers(findings: &mut Findings, attributes: Object<'_, '_>, id: Option<&str>) {
    let of = |identifier: Identifier| attributes.map.get(identifier.attribute());
    if id.is_none() && Identifier::ALL.into_iter().filter_map(of).all(Borrowed::is_null) {
        let detail = "At least one identifier is required: id, email, phone_number or external_id.";
        findings.add(attributes.at, detail);
    }
    for identifier in Identifier::ALL {
        let Some(text) = of(identifier).and_then(Borrowed::as_str) else { continue };
        let wrong = match identifier {
            Identifier::Email if !is_email(text) => "Invalid email address.",
            Identifier::PhoneNumber if !is_phone(text) => "Invalid phone number format (must be E.164).",
            _ if text.is_empty() => "This field may not be blank.",
            _ => continue,
        };
        findings.add(attributes.at.key(identifier.attribute()), wrong);
    }
}

fn check_location(findings: &mut Findings, location: Object<'_, '_>) {
    for key in LOCATION {
        location.text(findings, key);
    }
    for key in COORDINATES {
        location.typed(findings, key, "a string or a number", |value| {
            (value.is_string() || value.is_number()).then_some(())
        });
    }
    let known: Vec<&str> = LOCATION.into_iter().chain(COORDINATES).collect();
    location.only(findings, "location", &known);
}

fn check_meta(findings: &mut Findings, meta: Object<'_, '_>) -> PropertyPatch {
    meta.only(findings, "meta", &["patch_properties", "patch_identifiers"]);
    if meta.map.get("patch_identifiers").is_some_and(|value| !value.is_null()) {
        let detail = "klaviyo-sandbox keeps one email per profile and cannot patch identifiers.";
        findings.add(meta.at.key("patch_identifiers"), detail);
    }
    let Some(patch) = meta.optional_object(findings, "patch_properties") else {
        return PropertyPatch::default();
    };
    patch.only(findings, "patch_properties", &["append", "unappend", "unset"]);
    PropertyPatch {
        append: simple_values(findings, patch, "append"),
        unappend: simple_values(findings, patch, "unappend"),
        unset: keys(findings, patch.at, patch.map.get("unset")),
    }
}

/// Property names with "a simple value or values" each.
fn simple_values(findings: &mut Findings, patch: Object<'_, '_>, key: &str) -> Map<String, Value> {
    let is_simple = |value: &Borrowed| value.is_string() || value.is_number() || value.is_bool();
    let Some(object) = patch.optional_object(findings, key) else { return Map::new() };
    for (name, value) in object.map.iter() {
        if !value.as_array().map_or_else(|| is_simple(value), |items| items.iter().all(is_simple)) {
            findings.add(object.at.key(name), "This must be a simple value or an array of simple values.");
        }
    }
    object.map.into()
}

/// One property name, or an array of them.
fn keys(findings: &mut Findings, patch: At<'_>, unset: Option<&Borrowed<'_>>) -> Vec<String> {
    let text = |value: &Borrowed| value.as_str().map(str::to_owned);
    let keys = match unset {
        None | Some(Borrowed::Null) => Some(Vec::new()),
        Some(Borrowed::Array(items)) => items.iter().map(text).collect(),
        Some(value) => text(value).map(|key| vec![key]),
    };
    keys.unwrap_or_else(|| {
        findings.add(patch.key("unset"), "'unset' must be a string or an array of strings.");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::check::profile_import;

    fn pointers(body: serde_json::Value) -> Vec<String> {
        let errors = profile_import(&(&body).into()).err().unwrap_or_default();
        errors.into_iter().map(|error| error.pointer).collect()
    }

    fn import(attributes: serde_json::Value) -> serde_json::Value {
        json!({"data": {"type": "profile", "attributes": attributes}})
    }

    #[test]
    fn a_full_profile_passes() {
        let body = json!({"data": {"type": "profile", "id": null, "attributes": {
            "email": "Sarah@Example.com", "phone_number": "+15005550006", "external_id": "7", "_kx": "opaque",
            "first_name": null, "location": {"city": "Bern", "latitude": 46.9, "longitude": "7.4"},
            "properties": {"any": {"thing": [1]}},
        }, "meta": {"patch_properties": {"append": {"a": 1, "b": ["x", true]}, "unappend": null, "unset": "c"}}}});
        let draft = profile_import(&(&body).into()).unwrap();
        assert_eq!(draft.attributes["email"], "sarah@example.com");
        assert!(!draft.attributes.contains_key("_kx"));
        assert_eq!(draft.patch.append["b"], json!(["x", true]));
        assert_eq!(draft.patch.unset, ["c"]);
    }

    #[test]
    fn every_wrong_field_has_its_pointer() {
        let body = json!({"data": {"type": "person", "id": 7, "attributes": {
            "email": "nobody", "phone_number": "0800", "external_id": "", "first_name": 1, "nickname": "x",
            "location": {"zip": 8000, "latitude": true}, "properties": [],
        }, "meta": {"patch_properties": {"append": {"a/b": {}}, "unset": 1}, "patch_identifiers": {}}}});
        let mut found = pointers(body);
        found.sort();
        assert_eq!(
            found,
            [
                "/data/attributes/email",
                "/data/attributes/external_id",
                "/data/attributes/first_name",
                "/data/attributes/location/latitude",
                "/data/attributes/location/zip",
                "/data/attributes/nickname",
                "/data/attributes/phone_number",
                "/data/attributes/properties",
                "/data/id",
                "/data/meta/patch_identifiers",
                "/data/meta/patch_properties/append/a~1b",
                "/data/meta/patch_properties/unset",
                "/data/type",
            ]
        );
    }

    #[test]
    fn an_identifier_is_needed() {
        assert_eq!(pointers(import(json!({"first_name": "Sarah"}))), ["/data/attributes"]);
        assert_eq!(pointers(import(json!({"email": null}))), ["/data/attributes"]);
        assert_eq!(pointers(import(json!({"external_id": "x", "email": null}))), [""; 0]);
        assert_eq!(pointers(json!({"data": {"type": "profile", "id": "01X", "attributes": {}}})), [""; 0]);
    }

    #[test]
    fn the_frame_is_checked() {
        assert_eq!(pointers(json!([])), ["/data"]);
        assert_eq!(pointers(json!({})), ["/data"]);
        assert_eq!(pointers(json!({"data": []})), ["/data"]);
        assert_eq!(pointers(json!({"data": {}})), ["/data/type", "/data/attributes"]);
    }
}
