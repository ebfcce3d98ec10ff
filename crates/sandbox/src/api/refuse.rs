//! Events, profiles and other entries that a test wants refused.

use serde_json_borrow::Value;

use crate::error::ApiError;
use crate::faults::Rule;

/// An event, a profile or another entry in a body, and the pointer to it.
pub type Part<'a> = (String, &'a Value<'a>);

/// The one resource of a body.
pub fn whole<'v>(body: &'v Value<'v>) -> Vec<Part<'v>> {
    vec![("/data".to_owned(), body.get("data"))]
}

/// The profiles and events of a bulk call of events.
pub fn events_and_profiles<'v>(body: &'v Value<'v>) -> Vec<Part<'v>> {
    let at = "/data/attributes/events-bulk-create/data";
    let groups = items(body.get("data").get("attributes").get("events-bulk-create"));
    let parts = groups.flat_map(|(group, value)| {
        let attributes = value.get("attributes");
        let profile =
            (format!("{at}/{group}/attributes/profile/data"), attributes.get("profile").get("data"));
        let events = items(attributes.get("events"));
        let events =
            events.map(move |(event, value)| (format!("{at}/{group}/attributes/events/data/{event}"), value));
        [profile].into_iter().chain(events)
    });
    parts.collect()
}

/// The entries of a call that has many of them, in the attribute with this name.
pub fn entries<'v>(body: &'v Value<'v>, name: &'static str) -> Vec<Part<'v>> {
    let entries = items(body.get("data").get("attributes").get(name));
    entries.map(|(index, value)| (format!("/data/attributes/{name}/data/{index}"), value)).collect()
}

fn items<'v>(member: &'v Value<'v>) -> impl Iterator<Item = (usize, &'v Value<'v>)> {
    member.get("data").as_array().into_iter().flatten().enumerate()
}

/// What the rules find in the parts of a body.
pub fn find<'v>(
    rules: &[Rule],
    parts: impl FnOnce(&'v Value<'v>) -> Vec<Part<'v>>,
    body: &'v Value<'v>,
) -> Vec<ApiError> {
    if rules.is_empty() {
        return Vec::new();
    }
    let errors = parts(body).into_iter().filter_map(|(at, part)| first(rules, &part.to_string(), &at));
    errors.collect()
}

/// The error that the first rule finds in the text of a part at this place.
pub fn first(rules: &[Rule], text: &str, at: &str) -> Option<ApiError> {
    let is_meant = |rule: &&Rule| rule.body_contains.as_deref().is_some_and(|part| text.contains(part));
    let rule = rules.iter().find(is_meant)?;
    let code = rule.code.as_deref().unwrap_or("invalid");
    let detail = rule.detail.as_deref().unwrap_or("A fault of klaviyo-sandbox.");
    let pointer = format!("{at}{}", rule.pointer.as_deref().unwrap_or_default());
    Some(ApiError::new(rule.status(), code, "Invalid input.", detail).at(pointer))
}
