//! Faults of the bulk calls.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{
    Connection, EVENT_BULK, EVENTS, IMPORT, JOBS, Sandbox, event, event_bulk, import_job, profile,
};

/// How long a test listens to a connection on which nothing may come.
const SILENCE: Duration = Duration::from_millis(300);

fn orders() -> Value {
    event_bulk(&[("a@example.com", &["u1", "u-odd"])])
}

fn people() -> Value {
    import_job([json!({"external_id": "7"}), json!({"external_id": "u-odd"})])
}

/// How many events or profiles were let in, once all jobs are done.
fn stored(sandbox: &Sandbox, path: &str) -> u64 {
    let (events, profiles) = sandbox.counts();
    if path == EVENT_BULK { events } else { profiles }
}

#[test]
fn every_fault_strikes_before_or_after_accepting() {
    for (path, body) in [(EVENT_BULK, orders()), (JOBS, people())] {
        for (kind, failure, accepted) in [
            ("reset_before", Err(ErrorKind::ConnectionReset), false),
            ("reset_after", Err(ErrorKind::ConnectionReset), true),
            ("hang", Err(ErrorKind::WouldBlock), false),
            ("hang_after", Err(ErrorKind::WouldBlock), true),
            ("half", Err(ErrorKind::UnexpectedEof), true),
            ("throttle", Ok(429), false),
            ("status", Ok(503), false),
            ("malformed", Ok(500), false),
            ("latency", Ok(202), true),
        ] {
            let sandbox = Sandbox::start(&["--job-queued", "0", "--job-processing", "0"]);
            let mut rule = json!({"kind": kind, "path": path, "match": "u-odd"});
            if kind == "latency" {
                rule["ms"] = json!(80);
            }
            sandbox.faults(json!([rule]));
            let begin = Instant::now();
            let mut api = match failure {
                Err(ErrorKind::WouldBlock) => sandbox.api().with_timeout(SILENCE),
                _ => sandbox.api(),
            };
            let result = api.post(path, &body).map(|answer| answer.status).map_err(|error| error.kind());
            assert_eq!(result, failure, "{kind} of {path}");
            assert!(kind != "latency" || begin.elapsed() >= Duration::from_millis(80));
            let receipt = sandbox.receipt();
            assert_eq!((&receipt["fault"], &receipt["accepted"]), (&json!(kind), &json!(accepted)));
            assert_eq!(stored(&sandbox, path), if accepted { 2 } else { 0 }, "{kind} of {path}");
        }
    }
}

#[test]
fn a_fault_may_be_for_bulk_calls_with_a_text() {
    let sandbox = Sandbox::start(&["--job-queued", "0", "--job-processing", "0"]);
    let mut api = sandbox.api();
    let post = |api: &mut Connection, path, body: &Value| api.post(path, body).unwrap().status;
    sandbox.faults(json!([
        {"kind": "status", "status": 400, "path": EVENT_BULK, "match": "u-odd"},
        {"kind": "status", "status": 400, "path": JOBS, "method": "POST"},
    ]));
    assert_eq!(post(&mut api, EVENTS, &event("u-odd")), 202, "no bulk call");
    assert_eq!(
        post(&mut api, EVENT_BULK, &event_bulk(&[("a@example.com", &["u1"])])),
        202,
        "without the text"
    );
    let refused = api.post(EVENT_BULK, &orders()).unwrap();
    assert_eq!((refused.status, refused.error()["source"]["pointer"].as_str()), (400, Some("/data")));
    assert_eq!(post(&mut api, JOBS, &people()), 400);
    assert_eq!(api.get(&format!("{JOBS}/01UNKNOWN")).unwrap().status, 404, "another method");
}

#[test]
fn what_contains_a_text_is_refused_alone_and_among_many() {
    let sandbox = Sandbox::start(&["--job-queued", "0", "--job-processing", "0"]);
    let mut api = sandbox.api();
    sandbox.faults(json!([
        {"kind": "refuse", "match": "u-odd", "code": "odd"}, {"kind": "latency", "ms": 1},
    ]));
    let mut refusal = |path, body: &Value| {
        let answer = api.post(path, body).unwrap();
        assert_eq!(sandbox.receipt()["fault"], "refuse");
        let error = answer.error();
        assert_eq!((answer.status, &error["code"]), (400, &json!("odd")));
        error["source"]["pointer"].as_str().unwrap().to_owned()
    };
    assert_eq!(refusal(EVENTS, &event("u-odd")), "/data");
    assert_eq!(refusal(IMPORT, &profile(json!({"external_id": "u-odd"}))), "/data");
    let group = "/data/attributes/events-bulk-create/data/1/attributes";
    let body = event_bulk(&[("b@example.com", &["u1"]), ("a@example.com", &["u2", "u-odd"])]);
    assert_eq!(refusal(EVENT_BULK, &body), format!("{group}/events/data/1"));
    let body = event_bulk(&[("b@example.com", &["u1"]), ("u-odd@example.com", &["u2"])]);
    assert_eq!(refusal(EVENT_BULK, &body), format!("{group}/profile/data"));
    assert_eq!(sandbox.counts(), (0, 0));
    let job = api.post(JOBS, &people()).unwrap();
    assert_eq!(job.status, 202);
    assert_eq!(sandbox.counts(), (0, 1));
    assert_eq!(sandbox.try_control("PUT", "faults", json!({"faults": [{"kind": "refuse"}]})).status, 400);
}
