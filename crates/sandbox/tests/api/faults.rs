//! Each fault, as the client at the other end of the connection sees it.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{EVENTS, IMPORT, Sandbox, event, profile, until};

/// How long a test listens to a connection on which nothing may come.
const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn faults_that_answer() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    sandbox.faults(json!([
        {"kind": "throttle", "retry_after": 7, "times": 1},
        {"kind": "malformed", "times": 1},
        {"kind": "malformed", "status": 403, "times": 1},
        {"kind": "status", "status": 400, "code": "invalid", "detail": "No.", "pointer": "/data/x", "match": "u-bad"},
        {"kind": "status", "path": "/api/profile"},
    ]));
    let throttled = api.post(EVENTS, &event("u1")).unwrap();
    assert_eq!((throttled.status, throttled.number("retry-after")), (429, 7));
    for status in [500, 403] {
        let malformed = api.post(EVENTS, &event("u1")).unwrap();
        assert_eq!(malformed.status, status);
        assert!(serde_json::from_slice::<Value>(&malformed.body).is_err());
    }
    let bad = api.post(EVENTS, &event("u-bad")).unwrap();
    assert_eq!((bad.status, bad.error()["detail"].as_str()), (400, Some("No.")));
    assert_eq!(bad.error()["source"]["pointer"], "/data/x");
    let unavailable = api.post(IMPORT, &profile(json!({"external_id": "7"}))).unwrap();
    assert_eq!(
        (unavailable.status, unavailable.error()["code"].as_str()),
        (503, Some("service_unavailable"))
    );
    assert_eq!(sandbox.counts(), (0, 0));
    assert_eq!(api.post(EVENTS, &event("u1")).unwrap().status, 202);
    assert_eq!(sandbox.counts(), (1, 1));
    let fired: Vec<Value> = sandbox.get("faults")["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["fired"].clone())
        .collect();
    assert_eq!(fired, [1, 1, 1, 1, 1]);
    assert_eq!(sandbox.control("DELETE", "faults", Value::Null), json!({"faults": []}));
    assert_eq!(sandbox.try_control("PUT", "faults", json!({"faults": [{"kind": "latency"}]})).status, 400);
}

#[test]
fn resets_reach_the_client_as_resets() {
    let sandbox = Sandbox::start(&[]);
    for (kind, stored) in [("reset_before", 0), ("reset_after", 1)] {
        sandbox.faults(json!([{"kind": kind}]));
        let error = sandbox.api().post(EVENTS, &event("u1")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{kind}: {error}");
        assert_eq!(sandbox.counts().0, stored, "{kind}");
        let receipt = sandbox.receipt();
        assert_eq!(receipt["status"], Value::Null);
        assert_eq!((&receipt["fault"], &receipt["accepted"]), (&json!(kind), &json!(stored == 1)));
    }
}

#[test]
fn hangs_are_silent() {
    let sandbox = Sandbox::start(&[]);
    for (kind, stored) in [("hang", 0), ("hang_after", 1)] {
        sandbox.faults(json!([{"kind": kind}]));
        let error = sandbox.api().with_timeout(SILENCE).post(EVENTS, &event("u1")).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind}: {error}");
        until(|| Some(()).filter(|()| sandbox.receipt()["fault"] == kind));
        assert_eq!(sandbox.receipt()["status"], Value::Null);
        assert_eq!(sandbox.counts().0, stored, "{kind}");
    }
    sandbox.faults(json!([{"kind": "hang", "ms": 1}]));
    let error = sandbox.api().post(EVENTS, &event("u2")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "a hang with an end has no answer either");
}

#[test]
fn half_an_answer_is_half_an_answer() {
    let sandbox = Sandbox::start(&[]);
    sandbox.faults(json!([{"kind": "half"}]));
    for (path, body) in [(EVENTS, event("u1")), (IMPORT, profile(json!({"external_id": "7"})))] {
        let error = sandbox.api().post(path, &body).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{path}: {error}");
        assert_eq!(sandbox.receipt()["accepted"], true);
    }
    assert_eq!(sandbox.receipt()["status"], 201, "the head was sent");
    let raw = sandbox.api().post_raw(EVENTS, &event("u2")).unwrap();
    assert!(raw.starts_with("HTTP/1.1 202"), "{raw}");
    assert!(raw.to_lowercase().contains("content-length: 64\r\n") && raw.ends_with("\r\n\r\n"), "{raw}");
    let raw = sandbox.api().post_raw(IMPORT, &profile(json!({"external_id": "7"}))).unwrap();
    let (_, body) = raw.split_once("\r\n\r\n").unwrap();
    assert!(body.starts_with('{') && serde_json::from_str::<Value>(body).is_err(), "{raw}");
    assert_eq!(sandbox.counts(), (2, 2));
}

#[test]
fn latency_waits_and_then_goes_on() {
    let sandbox = Sandbox::start(&[]);
    sandbox
        .faults(json!([{"kind": "latency", "ms": 80}, {"kind": "status", "status": 500, "match": "u-bad"}]));
    let mut api = sandbox.api();
    for (unique_id, status, fault) in [("u1", 202, "latency"), ("u-bad", 500, "status")] {
        let begin = Instant::now();
        assert_eq!(api.post(EVENTS, &event(unique_id)).unwrap().status, status);
        assert!(begin.elapsed() >= Duration::from_millis(80));
        assert_eq!(sandbox.receipt()["fault"], fault);
    }
}
