//! The bulk call of events.

use serde_json::{Value, json};

use crate::client::{EVENT_BULK, EVENTS, Sandbox, event, event_bulk};

const GROUPS: &str = "/data/attributes/events-bulk-create/data";

#[test]
fn many_events_are_accepted_at_once() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    let body = event_bulk(&[("a@example.com", &["u1", "u2"]), ("b@example.com", &["u1"])]);
    let answer = api.post(EVENT_BULK, &body).unwrap();
    assert_eq!((answer.status, answer.body.len()), (202, 0));
    assert_eq!((answer.number("ratelimit-limit"), answer.number("ratelimit-remaining")), (150, 149));
    assert_eq!(sandbox.counts(), (3, 2));
    let events = sandbox.get("events")["events"].as_array().unwrap().clone();
    let seen: Vec<Value> =
        events.iter().map(|event| json!([event["unique_id"], event["properties"], event["n"]])).collect();
    let expected = |id: &str| json!([id, {"OrderId": id}, 1]);
    assert_eq!(seen, [expected("u1"), expected("u2"), expected("u1")]);
    assert_eq!(events[0]["profile_id"], events[1]["profile_id"]);
    assert_ne!(events[0]["profile_id"], events[2]["profile_id"]);
    assert_eq!((&sandbox.receipt()["accepted"], &sandbox.receipt()["body"]), (&json!(true), &body));
}

#[test]
fn one_bad_event_fails_the_call_and_is_pointed_at() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    let mut body = event_bulk(&[("a@example.com", &["u1"]), ("b@example.com", &["u2", "u3"])]);
    let groups = &mut body["data"]["attributes"]["events-bulk-create"]["data"];
    groups[1]["attributes"]["events"]["data"][1]["attributes"]["time"] = json!("yesterday");
    let answer = api.post(EVENT_BULK, &body).unwrap();
    assert_eq!(answer.status, 400);
    let pointer = format!("{GROUPS}/1/attributes/events/data/1/attributes/time");
    assert_eq!(answer.error()["source"]["pointer"], pointer);
    let ids: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let many = api.post(EVENT_BULK, &event_bulk(&[("a@example.com", &ids)])).unwrap();
    assert_eq!((many.status, &many.error()["source"]["pointer"]), (400, &json!(GROUPS)));
    let mut large = event_bulk(&[("a@example.com", &["u1"])]);
    large["data"]["x"] = json!("y".repeat(5_000_000));
    assert_eq!(api.post(EVENT_BULK, &large).unwrap().status, 413);
    assert_eq!(api.get(EVENT_BULK).unwrap().status, 405);
    assert_eq!(sandbox.counts(), (0, 0));
    assert_eq!(api.post(EVENT_BULK, &event_bulk(&[("a@example.com", &ids[..1_000])])).unwrap().status, 202);
    assert_eq!(sandbox.counts(), (1_000, 1));
}

#[test]
fn a_repeat_fails_the_call_at_once_or_after_its_answer() {
    let (first, repeat) = (
        event_bulk(&[("sarah@example.com", &["u1"])]),
        event_bulk(&[("b@example.com", &["u1"]), ("sarah@example.com", &["u2", "u1"])]),
    );
    for (option, control, status) in [("at_once", "after", 400), ("after", "at_once", 202)] {
        let sandbox = Sandbox::start(&["--bulk-repeats", option]);
        let mut api = sandbox.api();
        assert_eq!(api.post(EVENT_BULK, &first).unwrap().status, 202);
        let answer = api.post(EVENT_BULK, &repeat).unwrap();
        assert_eq!(answer.status, status, "{option}");
        if status == 400 {
            let pointer = format!("{GROUPS}/1/attributes/events/data/1/attributes/unique_id");
            assert_eq!(answer.error()["source"]["pointer"], pointer);
        }
        assert_eq!(sandbox.receipt()["accepted"], false);
        assert_eq!(sandbox.counts(), (1, 1), "nothing of it is processed");
        assert_eq!(sandbox.control("PUT", "bulk", json!({"repeats": control}))["repeats"], control);
        assert_eq!(api.post(EVENT_BULK, &repeat).unwrap().status, 602 - status, "{control}");
        let twice = event_bulk(&[("c@example.com", &["u1", "u1"])]);
        assert_eq!(api.post(EVENT_BULK, &twice).unwrap().status, 602 - status, "twice in a call");
        assert_eq!((sandbox.counts(), &sandbox.get("stats")["bulk_repeats"]), ((1, 1), &json!(3)));
        // One by one the first is kept, and what failed with it can come.
        assert_eq!(api.post(EVENTS, &event("u1")).unwrap().status, 202);
        assert_eq!(api.post(EVENTS, &event("u2")).unwrap().status, 202);
        assert_eq!(sandbox.counts(), (2, 1));
    }
}
