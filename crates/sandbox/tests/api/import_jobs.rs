//! Jobs that import profiles.

use serde_json::{Value, json};

use crate::client::{Connection, IMPORT, JOBS, Sandbox, import_job, profile, until};

/// Creates a job and returns its path.
fn create(api: &mut Connection, body: &Value) -> String {
    let answer = api.post(JOBS, body).unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    format!("{JOBS}/{}", answer.json()["data"]["id"].as_str().unwrap())
}

fn attributes(api: &mut Connection, job: &str) -> Value {
    let answer = api.get(job).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["data"]["attributes"].clone()
}

fn people(count: usize) -> Value {
    import_job((0..count).map(|n| json!({"external_id": n.to_string()})))
}

#[test]
fn a_job_is_queued_then_at_work_then_complete() {
    // As slow as an hour, so that each state lasts until it is told to end.
    let sandbox = Sandbox::start(&["--job-queued", "3600000", "--job-processing", "3600000"]);
    let mut api = sandbox.api();
    let answer = api.post(JOBS, &people(3)).unwrap();
    assert_eq!((answer.status, answer.number("ratelimit-limit")), (202, 150));
    assert_eq!(answer.json()["data"]["type"], "profile-bulk-import-job");
    let job = format!("{JOBS}/{}", answer.json()["data"]["id"].as_str().unwrap());
    let state = |found: &Value| json!([found["status"], found["total_count"], found["completed_count"]]);
    assert_eq!(state(&answer.json()["data"]["attributes"]), json!(["queued", 3, 0]));

    let queued = attributes(&mut api, &job);
    assert_eq!(state(&queued), json!(["queued", 3, 0]));
    assert_eq!((&queued["started_at"], &queued["completed_at"]), (&Value::Null, &Value::Null));
    sandbox.control("PUT", "bulk", json!({"queued_ms": 0}));
    let working = attributes(&mut api, &job);
    assert_eq!(state(&working), json!(["processing", 3, 0]));
    assert!(working["started_at"].is_string() && working["completed_at"].is_null());
    assert_eq!(sandbox.counts(), (0, 0));
    let settings = sandbox.control("PUT", "bulk", json!({"processing_ms": 0}));
    let expected =
        json!({"repeats": "at_once", "queued_ms": 0, "processing_ms": 0, "original_payloads": true});
    assert_eq!(settings, expected);
    let complete = attributes(&mut api, &job);
    assert_eq!(state(&complete), json!(["complete", 3, 3]));
    assert!(complete["completed_at"].is_string());
    assert_eq!(complete["failed_count"], 0);
    assert_eq!(sandbox.counts(), (0, 3));
    assert_eq!(api.get(&format!("{job}/import-errors")).unwrap().json()["data"], json!([]));
    let jobs = sandbox.get("jobs")["jobs"].clone();
    assert_eq!(
        json!([jobs[0]["status"], jobs[0]["completed_count"], jobs[0]["n"]]),
        json!(["complete", 3, 1])
    );
}

#[test]
fn left_alone_it_ends_by_itself_and_outlives_the_listener() {
    let sandbox = Sandbox::start(&["--job-queued", "20", "--job-processing", "50"]);
    let job = create(&mut sandbox.api(), &people(3));
    sandbox.control("POST", "down", Value::Null);
    until(|| Some(()).filter(|()| sandbox.get("jobs")["jobs"][0]["status"] == "complete"));
    sandbox.control("POST", "up", Value::Null);
    assert_eq!(attributes(&mut sandbox.api(), &job)["completed_count"], 3);
    sandbox.control("POST", "reset", Value::Null);
    assert_eq!(sandbox.api().get(&job).unwrap().status, 404);
}

#[test]
fn what_it_could_not_import_is_told_page_by_page() {
    let sandbox = Sandbox::start(&["--job-queued", "0", "--job-processing", "0", "--rates", "off"]);
    let mut api = sandbox.api();
    sandbox.faults(json!([
        {"kind": "refuse", "match": "u-bad", "code": "odd", "detail": "No.", "pointer": "/attributes/external_id"},
    ]));
    let bad = (0..45).map(|n| json!({"external_id": format!("u-bad-{n}")}));
    let all = [json!({"external_id": "7"}), json!({"phone_number": "+10005550006"})].into_iter().chain(bad);
    let job = create(&mut api, &import_job(all));
    assert_eq!(sandbox.get("receipts")["receipts"][0]["fault"], "refuse");
    let found = attributes(&mut api, &job);
    let counts = json!([found["total_count"], found["completed_count"], found["failed_count"]]);
    assert_eq!(counts, json!([47, 1, 46]));

    let mut pages = Vec::new();
    let mut errors = Vec::new();
    let mut next = Some(json!(format!("{job}/import-errors")));
    while let Some(link) = next {
        let page = api.get(link.as_str().unwrap()).unwrap().json();
        let rows = page["data"].as_array().unwrap();
        pages.push(rows.len());
        assert!(pages.len() < 10, "the pages do not end: {pages:?}");
        errors.extend(rows.iter().map(|row| row["attributes"].clone()));
        next = page["links"].get("next").cloned();
    }
    assert_eq!(pages, [20, 20, 6]);
    assert_eq!(errors[0]["code"], "invalid");
    assert_eq!(errors[0]["source"]["pointer"], "/data/attributes/profiles/data/1/attributes/phone_number");
    assert_eq!(errors[0]["original_payload"]["attributes"], json!({"phone_number": "+10005550006"}));
    for (index, error) in errors.iter().enumerate().skip(1) {
        let pointer = format!("/data/attributes/profiles/data/{}/attributes/external_id", index + 1);
        assert_eq!(error["source"]["pointer"], pointer);
        assert_eq!((&error["code"], &error["detail"]), (&json!("odd"), &json!("No.")));
    }
    let large = api.get(&format!("{job}/import-errors?page%5Bsize%5D=100")).unwrap().json();
    assert_eq!(large["data"].as_array().unwrap().len(), 46);
    let refused = api.get(&format!("{job}/import-errors?page%5Bsize%5D=101")).unwrap();
    assert_eq!((refused.status, &refused.error()["source"]["parameter"]), (400, &json!("page[size]")));
    assert_eq!(api.get(&format!("{job}?include=lists")).unwrap().status, 400);

    sandbox.control("PUT", "bulk", json!({"original_payloads": false}));
    let silent = api.get(&format!("{job}/import-errors")).unwrap().json();
    assert_eq!(silent["data"][0]["attributes"]["original_payload"], Value::Null);
    let single = api.post(IMPORT, &profile(json!({"phone_number": "+10005550006"}))).unwrap();
    assert_eq!((single.status, sandbox.counts()), (400, (0, 1)));
}

#[test]
fn a_bad_form_fails_the_call() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let body = import_job([json!({"external_id": "7"}), json!({"email": "nobody"})]);
    let answer = api.post(JOBS, &body).unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(answer.error()["source"]["pointer"], "/data/attributes/profiles/data/1/attributes/email");
    let large = import_job((0..60).map(|_| json!({"external_id": "7", "title": "x".repeat(90_000)})));
    assert_eq!(api.post(JOBS, &large).unwrap().status, 413);
    let ours = import_job([json!({"external_id": "7", "title": "x".repeat(100_000)})]);
    assert_eq!(
        api.post(JOBS, &ours).unwrap().error()["source"]["pointer"],
        "/data/attributes/profiles/data/0"
    );
    assert_eq!(sandbox.get("jobs")["jobs"], json!([]));
    for path in [format!("{JOBS}/01UNKNOWN"), format!("{JOBS}/01UNKNOWN/import-errors")] {
        assert_eq!(api.get(&path).unwrap().status, 404);
        assert_eq!(api.post(&path, &json!({})).unwrap().header("allow"), Some("GET"));
    }
    let open = format!("{JOBS}?filter=any(status,%5B%22queued%22,%22processing%22%5D)&sort=-created_at");
    assert_eq!(api.get(&open).unwrap().json()["data"], json!([]));
}

#[test]
fn jobs_are_listed_latest_first() {
    let sandbox = Sandbox::start(&["--job-queued", "0", "--job-processing", "0"]);
    let mut api = sandbox.api();
    let complete = create(&mut api, &people(1));
    sandbox.control("PUT", "bulk", json!({"queued_ms": 3_600_000}));
    let open = [2, 3].map(|count| create(&mut api, &people(count)));
    let mut list = |query: &str| -> Vec<String> {
        let answer = api.get(&format!("{JOBS}?{query}")).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let jobs = answer.json()["data"].as_array().unwrap().clone();
        jobs.iter().map(|job| format!("{JOBS}/{}", job["id"].as_str().unwrap())).collect()
    };
    let [second, third] = open;
    assert_eq!(list("sort=-created_at"), [third.as_str(), &second, &complete]);
    assert_eq!(list("page%5Bsize%5D=1&page%5Bcursor%5D=1"), [second.as_str()]);
    let filter = "filter=any(status,%5B%22queued%22,%22processing%22%5D)";
    assert_eq!(list(filter), [third, second]);
}

#[test]
fn a_job_sent_twice_is_two_jobs() {
    let sandbox = Sandbox::start(&["--job-queued", "0", "--job-processing", "0"]);
    let mut api = sandbox.api();
    let [first, second] = [(); 2].map(|()| create(&mut api, &people(1)));
    assert_ne!(first, second);
    assert_eq!(attributes(&mut api, &second)["completed_count"], 1);
    assert_eq!(sandbox.get("profiles")["profiles"][0]["updates"], 2);
    let by = sandbox.get("stats")["by"].as_array().unwrap().clone();
    let paths: Vec<&str> = by.iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert_eq!(paths, [JOBS, "/api/profile-bulk-import-jobs/{job_id}"]);
    assert_eq!(sandbox.receipt()["path"], json!(second));
}
