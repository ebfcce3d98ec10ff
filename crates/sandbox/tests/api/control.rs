//! The control paths, and the process itself.

use std::io::{ErrorKind, Read};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Connection, EVENTS, IMPORT, Sandbox, event, profile, until};

#[test]
fn down_refuses_and_up_answers_on_the_same_port() {
    let sandbox = Sandbox::start(&[]);
    let address = sandbox.address("api");
    for round in 0..3 {
        let mut open = sandbox.api();
        assert_eq!(open.post(EVENTS, &event(&round.to_string())).unwrap().status, 202);
        sandbox.control("POST", "down", Value::Null);
        assert_eq!(Connection::open(address).err().unwrap().kind(), ErrorKind::ConnectionRefused);
        open.wait_for_end().unwrap();
        assert_eq!(sandbox.get("health"), json!({"ok": true, "api": "down"}));
        sandbox.control("POST", "down", Value::Null);
        sandbox.control("POST", "up", Value::Null);
        sandbox.control("POST", "up", Value::Null);
        assert_eq!(sandbox.get("health")["api"], "up");
    }
    assert_eq!(sandbox.counts().0, 3, "what was stored stays");

    sandbox.control("POST", "down", json!({"seconds": 0.05}));
    until(|| Connection::open(address).ok()).post(EVENTS, &event("back")).unwrap();
    // Asked over the connection that it ends, it answers first.
    let answer = sandbox.api().send("POST", "/_sandbox/down", &[], b"").unwrap();
    assert_eq!(answer.status, 200);
    until(|| Connection::open(address).err().filter(|error| error.kind() == ErrorKind::ConnectionRefused));
    assert_eq!(sandbox.try_control("POST", "down", json!({"seconds": -1})).status, 400);
}

#[test]
fn receipts_and_statistics_tell_what_happened() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    api.post(EVENTS, &event("u1")).unwrap();
    sandbox.faults(json!([{"kind": "status", "times": 1}]));
    api.post(EVENTS, &event("u2")).unwrap();
    sandbox.api().post(IMPORT, &profile(json!({"external_id": "7"}))).unwrap();

    let receipts = sandbox.get("receipts")["receipts"].as_array().unwrap().clone();
    let seen: Vec<Value> = receipts
        .iter()
        .map(|row| json!([row["n"], row["connection"], row["status"], row["fault"]]))
        .collect();
    assert_eq!(seen, [json!([1, 1, 202, null]), json!([2, 1, 503, "status"]), json!([3, 2, 201, null])]);
    let first = &receipts[0];
    assert_eq!(first["body"], event("u1"));
    assert_eq!(
        json!([first["version"], first["method"], first["path"], first["revision"], first["content_type"]]),
        json!(["HTTP/1.1", "POST", EVENTS, "2026-07-15", "application/vnd.api+json"])
    );
    assert!(receipts[0]["at_us"].as_u64() <= receipts[1]["at_us"].as_u64());
    let expected = json!({
        "requests": 3, "connections": 2, "events": 1, "profiles": 2, "event_repeats": 0, "bulk_repeats": 0, "throttled": 0,
        "by": [
            {"path": EVENTS, "status": 202, "fault": null, "count": 1},
            {"path": EVENTS, "status": 503, "fault": "status", "count": 1},
            {"path": IMPORT, "status": 201, "fault": null, "count": 1},
        ],
    });
    assert_eq!(sandbox.get("stats"), expected);

    sandbox.control("POST", "reset", Value::Null);
    let after = sandbox.get("stats");
    assert_eq!((&after["requests"], &after["by"], &after["events"]), (&json!(0), &json!([]), &json!(0)));
    assert_eq!(sandbox.get("faults")["faults"], json!([]));
    assert_eq!(api.post(EVENTS, &event("u1")).unwrap().status, 202, "open connections stay");
    assert_eq!(sandbox.receipt()["n"], 1);
}

#[test]
fn a_request_that_waits_across_a_reset_stores_nothing() {
    let sandbox = Sandbox::start(&[]);
    for ms in [300, 3_000, 30_000] {
        sandbox.faults(json!([{"kind": "latency", "ms": ms}]));
        let mut api = sandbox.api();
        let begin = Instant::now();
        let waiting = std::thread::spawn(move || api.post(EVENTS, &event("u1")).unwrap().status);
        until(|| Some(()).filter(|()| sandbox.get("stats")["requests"] == 1));
        sandbox.control("POST", "reset", Value::Null);
        let in_time = begin.elapsed() < Duration::from_millis(ms);
        let status = waiting.join().unwrap();
        if in_time {
            assert_eq!((status, sandbox.counts()), (503, (0, 0)));
            return;
        }
        // A slow machine: the request was done before the reset. Again, with more time.
        sandbox.control("POST", "reset", Value::Null);
    }
    panic!("a reset took longer than half a minute");
}

#[test]
fn control_paths_are_on_both_listeners_and_refuse_politely() {
    let sandbox = Sandbox::start(&["--store-bodies", "false"]);
    let mut api = sandbox.api();
    assert_eq!(api.send("GET", "/_sandbox/health", &[], b"").unwrap().json()["api"], "up");
    api.post(EVENTS, &event("u1")).unwrap();
    assert_eq!(sandbox.receipt()["body"], Value::Null);
    assert_eq!(sandbox.get("stats")["requests"], 1, "control requests are no receipts");
    for (method, path, status) in [
        ("GET", "nothing", 404),
        ("PUT", "stats", 405),
        ("GET", "receipts?after=x", 400),
        ("PUT", "faults", 400),
    ] {
        let answer = sandbox.try_control(method, path, Value::Null);
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.json()["error"].is_string());
    }
}

#[test]
fn it_says_where_it_is_and_ends_cleanly() {
    let mut sandbox = Sandbox::start(&[]);
    let pid = sandbox.child().id();
    assert_eq!(sandbox.ready["pid"], pid);
    assert!(Command::new("kill").arg(pid.to_string()).status().unwrap().success());
    let status = until(|| sandbox.child().try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    let mut line = String::new();
    sandbox.child().stdout.take().unwrap().read_to_string(&mut line).unwrap();
    let [api, control] = ["api", "control"].map(|name| sandbox.ready[name].as_str().unwrap());
    assert_eq!(line, format!("klaviyo-sandbox: API on {api}, control on {control}\n"));
}

#[test]
fn it_stays_on_this_machine() {
    let binary = env!("CARGO_BIN_EXE_klaviyo-sandbox");
    let output = Command::new(binary).args(["--listen", "0.0.0.0:0"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--allow-remote"));
}
