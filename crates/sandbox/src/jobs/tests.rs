use serde_json::{Value, json};

use super::*;
use crate::bulk::Repeats;
use crate::check;
use crate::page::Page;

const SETTINGS: BulkSettings =
    BulkSettings { repeats: Repeats::AtOnce, queued_ms: 10, processing_ms: 100, original_payloads: true };

fn profile(attributes: Value) -> Value {
    json!({"type": "profile", "attributes": attributes})
}

fn items(profiles: &[Value]) -> Vec<Item> {
    let body = json!({"data": {"type": "profile-bulk-import-job", "attributes": {
        "profiles": {"data": profiles},
    }}});
    let imports = check::profile_bulk(&(&body).into()).unwrap();
    imports.into_iter().map(|import| Item { import, refused: None }).collect()
}

fn people(count: usize) -> Vec<Item> {
    let profiles: Vec<Value> = (0..count).map(|n| profile(json!({"external_id": n.to_string()}))).collect();
    items(&profiles)
}

fn view(jobs: &Jobs) -> Value {
    let view = serde_json::to_value(jobs.views()).unwrap()[0].clone();
    json!([view["status"], view["completed_count"], view["failed_count"]])
}

#[test]
fn a_job_waits_then_works_then_is_complete() {
    let (mut jobs, mut store) = (Jobs::new(1), Store::new(1));
    jobs.create(people(10), 1, 5_000, Timestamp::now());
    for (now_us, expected) in [
        (5_000, json!(["queued", 0, 0])),
        (14_999, json!(["queued", 0, 0])),
        (15_000, json!(["processing", 0, 0])),
        (65_000, json!(["processing", 5, 0])),
        (114_999, json!(["processing", 9, 0])),
        (115_000, json!(["complete", 10, 0])),
        (999_999, json!(["complete", 10, 0])),
    ] {
        jobs.advance(&SETTINGS, &mut store, now_us);
        assert_eq!(view(&jobs), expected, "at {now_us}");
        assert_eq!(json!(store.profile_count()), expected[1], "at {now_us}");
    }
}

#[test]
fn a_change_of_the_times_reaches_open_jobs() {
    let (mut jobs, mut store) = (Jobs::new(1), Store::new(1));
    jobs.create(people(10), 1, 0, Timestamp::now());
    jobs.advance(&BulkSettings { queued_ms: u64::MAX, ..SETTINGS }, &mut store, 1_000_000);
    assert_eq!(view(&jobs)[0], "queued");
    jobs.advance(&BulkSettings { queued_ms: 0, processing_ms: 0, ..SETTINGS }, &mut store, 1_000_000);
    assert_eq!(view(&jobs)[0], "complete");
}

#[test]
fn what_cannot_be_imported_is_told_page_by_page() {
    let (mut jobs, mut store) = (Jobs::new(1), Store::new(1));
    let mut all = items(&[
        profile(json!({"external_id": "7"})),
        profile(json!({"email": "a@example.com"})),
        profile(json!({"external_id": "7", "email": "a@example.com"})),
        profile(json!({"phone_number": "+10005550006"})),
        json!({"type": "profile", "id": "01UNKNOWN", "attributes": {}}),
        profile(json!({"external_id": "8"})),
    ]);
    all[5].refused = Some(ApiError::invalid("/x", "No."));
    let job = jobs.create(all, 1, 0, Timestamp::now());
    let id = job.id.clone();
    jobs.advance(&SETTINGS, &mut store, 1_000_000);
    assert_eq!(view(&jobs), json!(["complete", 2, 4]));
    assert_eq!(store.profile_count(), 2);

    let job = jobs.get(&id).unwrap();
    let page = |start, size| job.errors(Page { start, size }, true, "http://k");
    let first = page(0, 3);
    let found: Vec<Value> = first["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| json!([error["attributes"]["code"], error["attributes"]["source"]["pointer"]]))
        .collect();
    assert_eq!(
        found,
        [
            json!(["duplicate_profile", "/data/attributes/profiles/data/2/attributes"]),
            json!(["invalid", "/data/attributes/profiles/data/3/attributes/phone_number"]),
            json!(["not_found", "/data/attributes/profiles/data/4/id"]),
        ]
    );
    let sent = profile(json!({"phone_number": "+10005550006"}));
    assert_eq!(first["data"][1]["attributes"]["original_payload"], sent);
    let url = format!("http://k/api/profile-bulk-import-jobs/{id}/import-errors");
    assert_eq!(first["links"]["next"], format!("{url}?page%5Bcursor%5D=3&page%5Bsize%5D=3"));
    assert_eq!(first["links"].get("prev"), None);
    let second = page(3, 3);
    assert_eq!(second["data"].as_array().unwrap().len(), 1);
    assert_eq!(second["data"][0]["attributes"]["detail"], "No.");
    assert_eq!(second["links"].get("next"), None);
    assert_eq!(second["links"]["prev"], format!("{url}?page%5Bcursor%5D=0&page%5Bsize%5D=3"));
    assert_eq!(page(4, 3)["data"], json!([]));
    assert_ne!(first["data"][0]["id"], first["data"][1]["id"]);

    let silent = job.errors(Page { start: 0, size: 1 }, false, "http://k");
    assert_eq!(silent["data"][0]["attributes"]["original_payload"], Value::Null);
}
