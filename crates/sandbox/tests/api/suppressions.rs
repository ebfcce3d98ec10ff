//! Jobs that suppress addresses, and jobs that lift that.

use serde_json::{Value, json};

use crate::client::{Connection, SUPPRESS, Sandbox, UNSUPPRESS, consents};

fn emails(emails: &[&str]) -> Vec<Value> {
    emails.iter().map(|email| json!({ "email": email })).collect()
}

/// Creates a job and returns its path.
fn create(api: &mut Connection, path: &str, names: &[&str]) -> String {
    let answer = api.post(path, &consents(path, &emails(names), None)).unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    format!("{path}/{}", answer.json()["data"]["id"].as_str().unwrap())
}

/// Status, and how many addresses are in all, done and skipped.
fn state(api: &mut Connection, job: &str) -> Value {
    let answer = api.get(job).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let of = answer.json()["data"]["attributes"].clone();
    json!([of["status"], of["total_count"], of["completed_count"], of["skipped_count"]])
}

fn suppressions(sandbox: &Sandbox) -> Vec<Value> {
    let show = |profile: &Value| json!([profile["attributes"]["email"], profile["suppressions"]]);
    sandbox.get("profiles")["profiles"].as_array().unwrap().iter().map(show).collect()
}

#[test]
fn addresses_are_suppressed_while_the_job_works() {
    // As slow as an hour, so that each state lasts until it is told to end.
    let sandbox = Sandbox::start(&["--job-queued", "3600000", "--job-processing", "3600000"]);
    let mut api = sandbox.api();
    let job = create(&mut api, SUPPRESS, &["Ada@example.com", "bob@example.com"]);
    assert_eq!(state(&mut api, &job), json!(["queued", 2, 0, 0]));
    sandbox.control("PUT", "bulk", json!({"queued_ms": 0}));
    assert_eq!(state(&mut api, &job), json!(["processing", 2, 0, 0]));
    assert_eq!(suppressions(&sandbox), [""; 0]);
    sandbox.control("PUT", "bulk", json!({"processing_ms": 0}));
    assert_eq!(state(&mut api, &job), json!(["complete", 2, 2, 0]));
    let suppressed = json!(["USER_SUPPRESSED"]);
    assert_eq!(
        suppressions(&sandbox),
        [json!(["ada@example.com", suppressed]), json!(["bob@example.com", suppressed])]
    );

    let lift = create(&mut api, UNSUPPRESS, &["bob@example.com", "eve@example.com"]);
    assert_eq!(state(&mut api, &lift), json!(["complete", 2, 1, 1]));
    assert_eq!(
        suppressions(&sandbox),
        [json!(["ada@example.com", suppressed]), json!(["bob@example.com", []])]
    );
    let log = sandbox.get("consents")["consents"].as_array().unwrap().clone();
    let changes: Vec<Value> =
        log.iter().map(|entry| json!([entry["n"], entry["email"], entry["change"]])).collect();
    assert_eq!(
        changes,
        [
            json!([1, "ada@example.com", "suppressed"]),
            json!([1, "bob@example.com", "suppressed"]),
            json!([5, "bob@example.com", "unsuppressed"]),
        ]
    );
    assert_eq!((&log[0]["channels"], &log[0]["list"]), (&json!(["email"]), &Value::Null));
    sandbox.control("POST", "reset", Value::Null);
    assert_eq!(api.get(&job).unwrap().status, 404);
}

#[test]
fn a_bad_form_fails_the_call_and_a_job_has_one_path() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    for path in [SUPPRESS, UNSUPPRESS] {
        let bad = consents(path, &emails(&["ada@example.com", "nobody"]), None);
        let answer = api.post(path, &bad).unwrap();
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.error()["source"]["pointer"], "/data/attributes/profiles/data/1/attributes/email");
        let listed = consents(path, &emails(&["ada@example.com"]), Some("Y6nRLr"));
        let answer = api.post(path, &listed).unwrap();
        assert_eq!(
            (answer.status, &answer.error()["source"]["pointer"]),
            (400, &json!("/data/relationships"))
        );
        let many = consents(path, &emails(&["ada@example.com"; 101]), None);
        assert_eq!(api.post(path, &many).unwrap().status, 400);
    }
    let job = create(&mut api, SUPPRESS, &["ada@example.com"]);
    assert_eq!(api.get(&format!("{job}?include=lists")).unwrap().status, 400);
    assert_eq!(api.get(&job.replace(SUPPRESS, UNSUPPRESS)).unwrap().status, 404);
    assert_eq!(api.get(&format!("{UNSUPPRESS}/01UNKNOWN")).unwrap().error()["code"], "not_found");
    assert_eq!(api.post(&job, &json!({})).unwrap().header("allow"), Some("GET"));
}
