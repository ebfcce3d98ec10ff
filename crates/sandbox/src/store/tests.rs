use serde_json::{Value, json};

use super::*;
use crate::check;

fn now() -> Timestamp {
    "2026-07-15T12:00:00.9Z".parse().unwrap()
}

fn import(store: &mut Store, data: Value) -> Result<(String, bool), Refusal> {
    let mut body = json!({"data": {"type": "profile", "attributes": {}}});
    for (key, value) in data.as_object().unwrap() {
        body["data"][key] = value.clone();
    }
    let upserted = store.import(check::profile_import(&(&body).into()).unwrap(), now())?;
    Ok((upserted.profile.id.clone(), upserted.created))
}

fn record(store: &mut Store, who: Value, unique_id: Option<&str>, time: &str) -> Result<(), Refusal> {
    let body = json!({"data": {"type": "event", "attributes": {
        "properties": {"at": time}, "time": time, "unique_id": unique_id,
        "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
        "profile": {"data": {"type": "profile", "attributes": who}},
    }}});
    let body = (&body).into();
    let (profile, event) = check::event(&body, now()).unwrap();
    store.record(profile, event, 1, now())
}

fn shown(store: &Store) -> Value {
    serde_json::to_value(store.profiles()).unwrap()
}

#[test]
fn upsert_finds_by_id_then_external_id_then_email_then_phone() {
    let mut store = Store::new(1);
    let who =
        json!({"attributes": {"external_id": "7", "email": "A@Example.com", "phone_number": "+15005550006"}});
    let (id, created) = import(&mut store, who).unwrap();
    assert!(created);
    assert_eq!(id.len(), 26);
    for same in [
        json!({"id": id, "attributes": {}}),
        json!({"attributes": {"external_id": "7"}}),
        json!({"attributes": {"email": "a@EXAMPLE.com"}}),
        json!({"attributes": {"phone_number": "+15005550006"}}),
    ] {
        assert_eq!(import(&mut store, same).unwrap(), (id.clone(), false));
    }
    assert_eq!(shown(&store)[0]["updates"], 5);
    assert_eq!(
        import(&mut store, json!({"id": "01UNKNOWN", "attributes": {}})),
        Err(Refusal::UnknownProfile)
    );
}

#[test]
fn absent_leaves_alone_null_clears_and_properties_merge() {
    let mut store = Store::new(1);
    import(
        &mut store,
        json!({"attributes": {
            "external_id": "7", "first_name": "Sarah", "last_name": "Mason", "title": "Dr",
            "location": {"city": "Bern", "zip": "3000"}, "properties": {"a": 1, "b": {"x": 1}, "c": 3},
        }}),
    )
    .unwrap();
    import(
        &mut store,
        json!({"attributes": {
            "external_id": "7", "first_name": null, "title": "Prof",
            "location": {"zip": null, "country": "CH"}, "properties": {"b": {"y": 2}, "c": null},
        }}),
    )
    .unwrap();
    let expected = json!({
        "external_id": "7", "last_name": "Mason", "title": "Prof",
        "location": {"city": "Bern", "country": "CH"}, "properties": {"a": 1, "b": {"y": 2}},
    });
    assert_eq!(shown(&store)[0]["attributes"], expected);
    import(&mut store, json!({"attributes": {"external_id": "7", "properties": null}})).unwrap();
    assert_eq!(shown(&store)[0]["attributes"]["properties"], Value::Null);
}

#[test]
fn properties_are_patched() {
    let mut store = Store::new(1);
    import(&mut store, json!({
        "attributes": {"external_id": "7", "properties": {"list": [1, 2, 1], "one": "x", "gone": true, "too": 1}},
    }))
    .unwrap();
    import(&mut store, json!({
        "attributes": {"external_id": "7"},
        "meta": {"patch_properties": {
            "append": {"one": "y", "new": [1]}, "unappend": {"list": 1, "absent": 1}, "unset": ["gone", "too"],
        }},
    }))
    .unwrap();
    let expected = json!({"list": [2], "one": ["x", "y"], "new": [1]});
    assert_eq!(shown(&store)[0]["attributes"]["properties"], expected);
}

#[test]
fn identifiers_move_with_the_profile() {
    let mut store = Store::new(1);
    let (id, _) =
        import(&mut store, json!({"attributes": {"external_id": "7", "email": "old@example.com"}})).unwrap();
    import(&mut store, json!({"attributes": {"external_id": "7", "email": "new@example.com"}})).unwrap();
    assert_eq!(
        import(&mut store, json!({"attributes": {"email": "new@example.com"}})).unwrap(),
        (id.clone(), false)
    );
    assert!(import(&mut store, json!({"attributes": {"email": "old@example.com"}})).unwrap().1);
    import(&mut store, json!({"attributes": {"external_id": "7", "email": null}})).unwrap();
    assert!(import(&mut store, json!({"attributes": {"email": "new@example.com"}})).unwrap().1);
}

#[test]
fn identifiers_of_two_profiles_conflict_and_change_nothing() {
    let mut store = Store::new(1);
    import(&mut store, json!({"attributes": {"external_id": "7"}})).unwrap();
    let (other, _) = import(&mut store, json!({"attributes": {"email": "a@example.com"}})).unwrap();
    let before = shown(&store);
    let both = json!({"attributes": {"external_id": "7", "email": "a@example.com", "title": "Dr"}});
    assert_eq!(import(&mut store, both), Err(Refusal::Duplicate { profile_id: other }));
    assert_eq!(shown(&store), before);
}

#[test]
fn a_repeated_event_keeps_the_first() {
    let mut store = Store::new(1);
    let (who, other) = (json!({"email": "a@example.com"}), json!({"email": "b@example.com"}));
    record(&mut store, who.clone(), Some("u1"), "2026-07-01T00:00:00Z").unwrap();
    record(&mut store, who.clone(), Some("u1"), "2026-07-02T00:00:00Z").unwrap();
    record(&mut store, who, Some("u2"), "2026-07-02T00:00:00Z").unwrap();
    record(&mut store, other, Some("u1"), "2026-07-02T00:00:00Z").unwrap();
    let events = serde_json::to_value(store.events(None)).unwrap();
    assert_eq!(events.as_array().unwrap().len(), 3);
    assert_eq!(events[0]["received"], 2);
    assert_eq!(events[0]["properties"]["at"], "2026-07-01T00:00:00Z");
    assert_eq!(events[1]["received"], 1);
    assert_eq!((store.repeats(), store.profile_count()), (1, 2));
    assert!(store.events(Some("Other")).is_empty());
}

#[test]
fn without_a_unique_id_the_second_is_one() {
    let mut store = Store::new(1);
    let who = json!({"email": "a@example.com"});
    for time in ["2026-07-01T00:00:00.1Z", "2026-07-01T00:00:00.9Z", "2026-07-01T00:00:01Z"] {
        record(&mut store, who.clone(), None, time).unwrap();
    }
    assert_eq!((store.event_count(), store.repeats()), (2, 1));
    let events = serde_json::to_value(store.events(None)).unwrap();
    assert_eq!(events[0]["time"], "2026-07-01T00:00:00+00:00");
}

#[test]
fn an_event_updates_its_profile_but_takes_no_identifier_from_another() {
    let mut store = Store::new(1);
    import(&mut store, json!({"attributes": {"external_id": "7"}})).unwrap();
    import(&mut store, json!({"attributes": {"email": "a@example.com"}})).unwrap();
    let who = json!({"external_id": "7", "email": "a@example.com", "title": "Dr"});
    record(&mut store, who, Some("u1"), "2026-07-01T00:00:00Z").unwrap();
    let profiles = shown(&store);
    assert_eq!(profiles[0]["attributes"], json!({"external_id": "7", "title": "Dr"}));
    assert_eq!(profiles[0]["updates"], 1, "events are no updates");
    assert_eq!(profiles[1]["attributes"], json!({"email": "a@example.com"}));
}

#[test]
fn clearing_forgets_everything() {
    let mut store = Store::new(1);
    record(&mut store, json!({"email": "a@example.com"}), Some("u1"), "2026-07-01T00:00:00Z").unwrap();
    store.clear();
    assert_eq!((store.event_count(), store.profile_count(), store.repeats()), (0, 0, 0));
    assert!(import(&mut store, json!({"attributes": {"email": "a@example.com"}})).unwrap().1);
}
