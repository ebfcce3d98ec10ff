//! Many profiles in one call, for an import job.

use serde_json::value::{RawValue, to_raw_value};
use serde_json_borrow::Value;

use super::fields::{Findings, Object};
use super::profile::{self, ProfileDraft};

/// Profiles in a call. Source: the description of `POST /api/profile-bulk-import-jobs`.
const MAX_PROFILES: usize = 10_000;
/// Bytes of one of them, written without spaces, from the same place ("100KB"), read as decimal so that either reading
/// is kept.
const MAX_PROFILE: usize = 100_000;

/// What the call creates.
const RESOURCE: &str = "profile-bulk-import-job";

/// A checked profile of an import job.
#[derive(Debug)]
pub struct ImportItem {
    pub profile: ProfileDraft,
    /// The profile as it was sent.
    pub payload: Box<RawValue>,
}

/// Checks a `ProfileImportJobCreateQuery`.
pub fn check(findings: &mut Findings, root: Object<'_, '_>) -> Option<Vec<ImportItem>> {
    root.only(findings, RESOURCE, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, RESOURCE);
    data.only(findings, RESOURCE, &["type", "attributes", "relationships"]);
    if let Some(relationships) = data.optional_object(findings, "relationships") {
        check_relationships(findings, relationships);
    }
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, RESOURCE, &["profiles"]);
    let items = attributes.each(findings, "profiles", check_item)?;
    if !(1..=MAX_PROFILES).contains(&items.len()) && findings.is_empty() {
        let detail = format!("A call has 1 to {MAX_PROFILES} profiles, this has {}.", items.len());
        findings.add(attributes.at.key("profiles").key("data"), detail);
    }
    Some(items)
}

fn check_item(findings: &mut Findings, item: Object<'_, '_>) -> Option<ImportItem> {
    let profile = profile::check_resource(findings, item)?;
    // A JSON object always has a text.
    let payload = to_raw_value(item.map).ok()?;
    let size = payload.get().len();
    if size > MAX_PROFILE {
        findings.add(item.at, format!("A profile has at most {MAX_PROFILE} bytes, this has {size}."));
    }
    Some(ImportItem { profile, payload })
}

fn check_relationships(findings: &mut Findings, relationships: Object<'_, '_>) {
    relationships.only(findings, RESOURCE, &["lists"]);
    let Some(lists) = relationships.optional_object(findings, "lists") else { return };
    lists.only(findings, "lists", &["data"]);
    if lists.typed(findings, "data", "an array", Value::as_array).is_some_and(|lists| !lists.is_empty()) {
        findings.add(lists.at.key("data"), "klaviyo-sandbox imports into no list.");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::RESOURCE;

    fn pointers(profiles: Value, change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut body = json!({"data": {"type": RESOURCE, "attributes": {"profiles": {"data": profiles}}}});
        change(&mut body["data"]);
        let errors = crate::check::profile_bulk(&(&body).into()).err().unwrap_or_default();
        errors.into_iter().map(|error| error.pointer).collect()
    }

    fn profile(attributes: Value) -> Value {
        json!({"type": "profile", "attributes": attributes})
    }

    #[test]
    fn numbers_and_sizes_have_limits() {
        const DATA: &str = "/data/attributes/profiles/data";
        let many = |count: usize| {
            let profiles: Vec<Value> =
                (0..count).map(|n| profile(json!({"external_id": n.to_string()}))).collect();
            pointers(json!(profiles), |_| {})
        };
        assert_eq!(many(10_000), [""; 0]);
        assert_eq!(many(10_001), [DATA]);
        assert_eq!(many(0), [DATA]);
        let frame = profile(json!({"external_id": "1", "title": ""})).to_string().len();
        let sized = |size: usize| profile(json!({"external_id": "1", "title": "x".repeat(size - frame)}));
        assert_eq!(pointers(json!([sized(100_000), sized(100_001)]), |_| {}), [format!("{DATA}/1")]);
    }

    #[test]
    fn every_wrong_field_has_its_pointer() {
        let profiles = json!([
            profile(json!({"email": "a@a.co", "anonymous_id": "cookie"})),
            {"type": "profile", "id": "01X", "attributes": {}, "meta": {"patch_properties": {"unset": "old"}}},
            profile(json!({"phone_number": "0800"})),
            profile(json!({})),
            7,
        ]);
        let mut found = pointers(profiles, |data| {
            data["relationships"] =
                json!({"lists": {"data": [{"type": "list", "id": "VRgFBd"}]}, "tags": {}});
        });
        found.sort();
        assert_eq!(
            found,
            [
                "/data/attributes/profiles/data/0/attributes/anonymous_id",
                "/data/attributes/profiles/data/2/attributes/phone_number",
                "/data/attributes/profiles/data/3/attributes",
                "/data/attributes/profiles/data/4",
                "/data/relationships/lists/data",
                "/data/relationships/tags",
            ]
        );
        let no_lists = json!({"lists": {"data": []}});
        assert_eq!(
            pointers(json!([profile(json!({"email": "a@a.co"}))]), |data| data["relationships"] = no_lists),
            [""; 0]
        );
    }
}
