//! Many events in one call, each group of them under its profile.

use jiff::Timestamp;
use serde_json_borrow::Value;

use super::event::{self, EventDraft};
use super::fields::{Findings, Object};
use super::limits;
use super::profile::{self, ProfileDraft};

/// Events in a call. Source: the description of `POST /api/event-bulk-create-jobs`.
const MAX_EVENTS: usize = 1_000;

/// The member that has the groups.
const GROUPS: &str = "events-bulk-create";

/// The events of one profile, in the order of the call.
#[derive(Debug)]
pub struct EventGroup<'v> {
    pub profile: ProfileDraft,
    pub events: Vec<EventDraft<'v>>,
}

/// Checks an `EventsBulkCreateJob`.
pub fn check<'v>(
    findings: &mut Findings,
    root: Object<'v, '_>,
    now: Timestamp,
) -> Option<Vec<EventGroup<'v>>> {
    const RESOURCE: &str = "event-bulk-create-job";
    root.only(findings, RESOURCE, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, RESOURCE);
    data.only(findings, RESOURCE, &["type", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, RESOURCE, &[GROUPS]);
    let groups = attributes.each(findings, GROUPS, |findings, group| check_group(findings, group, now))?;
    let count: usize = groups.iter().map(|group| group.events.len()).sum();
    if !(1..=MAX_EVENTS).contains(&count) && findings.is_empty() {
        let detail = format!("A call has 1 to {MAX_EVENTS} events, this has {count}.");
        findings.add(attributes.at.key(GROUPS).key("data"), detail);
    }
    Some(groups)
}

/// Checks an `EventsBulkCreateQueryResourceObject`.
fn check_group<'v>(findings: &mut Findings, group: Object<'v, '_>, now: Timestamp) -> Option<EventGroup<'v>> {
    const RESOURCE: &str = "event-bulk-create";
    group.resource_type(findings, RESOURCE);
    group.only(findings, RESOURCE, &["type", "attributes"]);
    let attributes = group.object(findings, "attributes")?;
    attributes.only(findings, RESOURCE, &["backfill", "profile", "events"]);
    attributes.typed(findings, "backfill", "a boolean", Value::as_bool);
    let profile = check_profile(findings, attributes);
    let events =
        attributes.each(findings, "events", |findings, event| event::check_in_bulk(findings, event, now));
    Some(EventGroup { profile: profile?, events: events? })
}

fn check_profile(findings: &mut Findings, attributes: Object<'_, '_>) -> Option<ProfileDraft> {
    let profile = attributes.object(findings, "profile")?;
    profile.only(findings, "profile", &["data"]);
    let data = profile.object(findings, "data")?;
    if let Some(attributes) = data.map.get("attributes") {
        limits::check_strings(findings, data.at.key("attributes"), attributes);
    }
    profile::check_in_bulk(findings, data)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::GROUPS;

    fn group(email: &str, count: usize) -> Value {
        let event = |n: usize| {
            json!({"type": "event", "attributes": {
                "properties": {"n": n}, "unique_id": format!("{email}-{n}"),
                "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
            }})
        };
        json!({"type": "event-bulk-create", "attributes": {
            "profile": {"data": {"type": "profile", "attributes": {"email": email}}},
            "events": {"data": (0..count).map(event).collect::<Vec<_>>()},
        }})
    }

    fn pointers(groups: &[Value], change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut body =
            json!({"data": {"type": "event-bulk-create-job", "attributes": {GROUPS: {"data": groups}}}});
        change(&mut body["data"]);
        let now = "2026-07-15T12:00:00Z".parse().unwrap();
        let errors = crate::check::event_bulk(&(&body).into(), now).err().unwrap_or_default();
        errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn the_number_of_events_has_limits() {
        const DATA: &str = "/data/attributes/events-bulk-create/data";
        let of = |counts: &[usize]| {
            let groups: Vec<Value> =
                counts.iter().enumerate().map(|(n, count)| group(&format!("{n}@a.co"), *count)).collect();
            pointers(&groups, |_| {})
        };
        assert_eq!(of(&[1, 999]), [""; 0]);
        assert_eq!(of(&[1, 1_000]), [DATA]);
        assert_eq!(of(&[]), [DATA]);
        assert_eq!(of(&[0]), [DATA]);
    }

    #[test]
    fn every_wrong_field_has_its_pointer() {
        let mut found = pointers(&[group("a@a.co", 2), group("b@a.co", 2), json!(7)], |data| {
            data["type"] = json!("event-bulk-create");
            let groups = &mut data["attributes"][GROUPS]["data"];
            let second = &mut groups[1]["attributes"];
            second["backfill"] = json!("no");
            second["events"]["data"][1]["attributes"]["value"] = json!("much");
            // Of a single event, but of none in a group.
            second["events"]["data"][0]["attributes"]["profile"] = json!({});
            second["profile"]["data"]["attributes"]["phone_number"] = json!("0800");
            // Beside the attributes in a group, among them in a single event.
            second["profile"]["data"]["attributes"]["meta"] = json!({});
            groups[0]["attributes"]["profile"]["data"]["attributes"]["properties"] =
                json!({"deep": ["x".repeat(100_001)]});
        });
        found.sort();
        let at = |rest: &str| format!("/data/attributes/events-bulk-create/data/{rest}");
        assert_eq!(
            found,
            [
                at("0/attributes/profile/data/attributes/properties/deep/0"),
                at("1/attributes/backfill"),
                at("1/attributes/events/data/0/attributes/profile"),
                at("1/attributes/events/data/1/attributes/value"),
                at("1/attributes/profile/data/attributes/meta"),
                at("1/attributes/profile/data/attributes/phone_number"),
                at("2"),
                "/data/type".to_owned(),
            ]
        );
    }

    #[test]
    fn a_profile_may_be_anonymous_and_patched() {
        let with = |data: Value| {
            let mut group = group("a@a.co", 1);
            group["attributes"]["profile"]["data"] = data;
            pointers(&[group], |_| {})
        };
        let meta = json!({"patch_properties": {"unset": "old"}});
        let anonymous = json!({"type": "profile", "attributes": {"anonymous_id": "cookie"}, "meta": meta});
        assert_eq!(with(anonymous), [""; 0]);
        let profile = "/data/attributes/events-bulk-create/data/0/attributes/profile/data";
        assert_eq!(with(json!({"type": "profile", "attributes": {}})), [format!("{profile}/attributes")]);
        assert_eq!(with(json!({"type": "profile"})), [format!("{profile}/attributes")]);
    }

    #[test]
    fn the_frame_is_checked() {
        for (member, pointer) in [
            (json!(null), "events-bulk-create"),
            (json!({}), "events-bulk-create/data"),
            (json!({"data": {}}), "events-bulk-create/data"),
            (json!({"data": [group("a@a.co", 1)], "links": {}}), "events-bulk-create/links"),
        ] {
            let found = pointers(&[], |data| data["attributes"][GROUPS] = member);
            assert_eq!(found, [format!("/data/attributes/{pointer}")]);
        }
    }
}
