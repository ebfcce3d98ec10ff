//! The two calls: what is accepted, what is refused and how.

use serde_json::{Value, json};

use crate::client::{EVENTS, IMPORT, Sandbox, api_headers, event, profile};

#[test]
fn an_event_is_accepted_once() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    for _ in 0..2 {
        let answer = api.post(EVENTS, &event("u1")).unwrap();
        assert_eq!((answer.status, answer.body.len()), (202, 0));
        assert_eq!(answer.header("ratelimit-limit"), Some("3500"));
    }
    let events = sandbox.get("events?metric=Placed%20Order");
    let first = &events["events"][0];
    assert_eq!(events["events"].as_array().unwrap().len(), 1);
    assert_eq!(first["received"], 2);
    assert_eq!(first["n"], 1);
    assert_eq!(first["unique_id"], "u1");
    assert_eq!(first["value"], 9.99);
    assert_eq!(first["time"], "2026-07-01T10:00:00+00:00");
    assert_eq!(first["properties"], json!({"OrderId": "u1"}));
    assert_eq!(first["profile_id"], sandbox.get("profiles")["profiles"][0]["id"]);
    assert_eq!(sandbox.get("events?metric=Other")["events"], json!([]));
    assert_eq!(sandbox.get("stats")["event_repeats"], 1);
}

#[test]
fn a_profile_is_created_then_updated() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    let attributes = json!({"external_id": "7", "email": "Sarah@example.com", "properties": {"a": 1}});
    let created = api.post(IMPORT, &profile(attributes)).unwrap();
    assert_eq!(created.status, 201);
    assert_eq!(created.header("content-type"), Some("application/vnd.api+json"));
    assert_eq!(created.number("ratelimit-remaining"), 749);
    let changes = json!({"external_id": "7", "first_name": "Sarah", "properties": {"b": 2}});
    let updated = api.post(IMPORT, &profile(changes)).unwrap();
    assert_eq!(updated.status, 200);
    let data = &updated.json()["data"];
    assert_eq!(data["id"], created.json()["data"]["id"]);
    assert_eq!(data["type"], "profile");
    assert_eq!(data["attributes"]["email"], "sarah@example.com");
    assert_eq!(data["attributes"]["title"], Value::Null);
    assert_eq!(data["attributes"]["properties"], json!({"a": 1, "b": 2}));
    let link =
        format!("{}/api/profiles/{}/", sandbox.ready["api"].as_str().unwrap(), data["id"].as_str().unwrap());
    assert_eq!(data["links"]["self"], link);
    assert_eq!(sandbox.get("profiles")["profiles"][0]["updates"], 2);
}

#[test]
fn two_profiles_are_not_mixed_up() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    api.post(IMPORT, &profile(json!({"external_id": "7"}))).unwrap();
    let other = api.post(IMPORT, &profile(json!({"email": "a@example.com"}))).unwrap().json();
    let answer = api.post(IMPORT, &profile(json!({"external_id": "7", "email": "a@example.com"}))).unwrap();
    assert_eq!(answer.status, 409);
    assert_eq!(answer.error()["code"], "duplicate_profile");
    assert_eq!(answer.error()["meta"]["duplicate_profile_id"], other["data"]["id"]);
    let unknown = json!({"data": {"type": "profile", "id": "01UNKNOWN", "attributes": {}}});
    assert_eq!(api.post(IMPORT, &unknown).unwrap().status, 404);
}

#[test]
fn bad_bodies_are_pointed_at() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    let mut bad = event("u1");
    bad["data"]["attributes"]["value"] = json!("a lot");
    let answer = api.post(EVENTS, &bad).unwrap();
    assert_eq!((answer.status, answer.error()["code"].as_str()), (400, Some("invalid")));
    assert_eq!(answer.error()["source"]["pointer"], "/data/attributes/value");
    let answer = api.post(IMPORT, &profile(json!({"phone_number": "0800"}))).unwrap();
    assert_eq!(answer.error()["source"]["pointer"], "/data/attributes/phone_number");
    assert_eq!(answer.number("ratelimit-remaining"), 749, "a bad body costs budget");
    assert_eq!(api.send("POST", EVENTS, &api_headers(), b"{").unwrap().status, 400);
    let large = profile(json!({"external_id": "7", "properties": {"x": "y".repeat(100_000)}}));
    assert_eq!(api.post(IMPORT, &large).unwrap().status, 413);
    assert_eq!(sandbox.counts(), (0, 0));
    let receipt = sandbox.get("receipts?after=2&limit=1")["receipts"][0].clone();
    assert_eq!((&receipt["n"], &receipt["body"]), (&json!(3), &json!("{")));
    assert_eq!(receipt["accepted"], false);
}

#[test]
fn headers_and_paths_are_checked() {
    let sandbox = Sandbox::start(&["--key", "pk_test_1234"]);
    let mut api = sandbox.api();
    let body = event("u1").to_string();
    let mut send = |change: fn(&mut Vec<(&'static str, &'static str)>)| {
        let mut headers = api_headers().to_vec();
        change(&mut headers);
        let answer = api.send("POST", EVENTS, &headers, body.as_bytes()).unwrap();
        let code = if answer.body.is_empty() { json!("") } else { answer.error()["code"].clone() };
        (answer.status, code.as_str().unwrap().to_owned())
    };
    assert_eq!(send(|_| {}), (202, String::new()));
    assert_eq!(send(|headers| headers[2].1 = "application/json; charset=utf-8").0, 202);
    assert_eq!(send(|headers| headers[1].1 = "2026-07-15.pre").0, 202);
    assert_eq!(
        send(|headers| headers.retain(|header| header.0 != "Authorization")),
        (401, "not_authenticated".to_owned())
    );
    for key in ["Klaviyo-API-Key pk_other", "Bearer pk_test_1234", "pk_test_1234"] {
        let mut headers = api_headers();
        headers[0].1 = key;
        let answer = sandbox.api().send("POST", EVENTS, &headers, body.as_bytes()).unwrap();
        assert_eq!((answer.status, &answer.error()["code"]), (401, &json!("authentication_failed")), "{key}");
    }
    assert_eq!(send(|headers| headers.retain(|header| header.0 != "revision")), (400, "invalid".to_owned()));
    assert_eq!(send(|headers| headers[1].1 = "latest"), (400, "invalid".to_owned()));
    assert_eq!(send(|headers| headers[1].1 = "2023-12-31"), (400, "revision_retired".to_owned()));
    assert_eq!(send(|headers| headers[2].1 = "text/plain").0, 415);
    assert_eq!(send(|headers| headers.retain(|header| header.0 != "Content-Type")).0, 415);
    assert_eq!(api.send("POST", "/api/nothing", &api_headers(), b"").unwrap().error()["code"], "not_found");
    assert_eq!(api.send("PUT", EVENTS, &api_headers(), b"").unwrap().status, 405);
    assert_eq!(sandbox.get("receipts")["receipts"][0]["key_suffix"], "1234");
}

#[test]
fn a_seed_repeats_every_id() {
    let ids = |seed| {
        let sandbox = Sandbox::start(&["--seed", seed]);
        let mut api = sandbox.api();
        let imported = api.post(IMPORT, &profile(json!({"external_id": "7"}))).unwrap().json();
        [imported["data"]["id"].clone(), api.post(EVENTS, &json!({})).unwrap().error()["id"].clone()]
    };
    let first = ids("5");
    assert_eq!(ids("5"), first);
    let other = ids("6");
    assert!(first[0] != other[0] && first[1] != other[1], "{first:?} {other:?}");
}

#[test]
fn limits_are_enforced_for_each_key_and_call() {
    // Windows of months, so that none ends while the test runs, and one request in each.
    let sandbox = Sandbox::start(&["--count-scale", "0.0001", "--window-scale", "1000000", "--seed", "5"]);
    let mut api = sandbox.api();
    let first = api.post(EVENTS, &event("u1")).unwrap();
    assert_eq!(
        (first.status, first.number("ratelimit-remaining"), first.number("ratelimit-limit")),
        (202, 0, 1)
    );
    assert!(first.number("ratelimit-reset") > 1);
    let refused = api.post(EVENTS, &event("u2")).unwrap();
    assert_eq!((refused.status, refused.error()["code"].as_str()), (429, Some("throttled")));
    let seconds = refused.number("retry-after");
    assert!(seconds > 1);
    assert!(refused.error()["detail"].as_str().unwrap().contains(&format!(" {seconds} seconds")));
    assert_eq!(refused.header("ratelimit-remaining"), None);
    assert_eq!(api.post(IMPORT, &profile(json!({"external_id": "7"}))).unwrap().status, 201);
    let mut headers = api_headers();
    headers[0].1 = "Klaviyo-API-Key pk_other_5678";
    let body = event("u2").to_string();
    assert_eq!(api.send("POST", EVENTS, &headers, body.as_bytes()).unwrap().status, 202);
    assert_eq!(sandbox.get("stats")["throttled"], 1);

    let settings = sandbox.control("PUT", "rates", json!({"enabled": false}));
    assert_eq!(settings, json!({"enabled": false, "count_scale": 0.0001, "window_scale": 1_000_000.0}));
    let free = api.post(EVENTS, &event("u3")).unwrap();
    assert_eq!((free.status, free.header("ratelimit-limit")), (202, None));
    assert_eq!(sandbox.try_control("PUT", "rates", json!({"count_scale": -1})).status, 400);
}
