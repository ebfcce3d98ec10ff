use serde_json::{Value, json};

use super::*;
use crate::bulk::Repeats;
use crate::catalog::{Act, Kind, id_of};
use crate::check::{CodeDraft, CouponDraft, ThingDraft};

const SETTINGS: BulkSettings =
    BulkSettings { repeats: Repeats::AtOnce, queued_ms: 10, processing_ms: 100, original_payloads: true };

const DELETE: Work = Work::Catalog(Kind::Item, Act::Delete);

fn item(entry: Entry) -> Item {
    Item { entry, refused: None }
}

fn emails(entry: fn(String) -> Entry, names: &[&str]) -> Vec<Item> {
    names.iter().map(|name| item(entry(format!("{name}@example.com")))).collect()
}

fn codes(codes: &[(&str, &str)]) -> Vec<Item> {
    let code = |(coupon, code): &(&str, &str)| {
        let (coupon, unique_code) = ((*coupon).to_owned(), (*code).to_owned());
        item(Entry::Code(CodeDraft { coupon, unique_code, expires: Timestamp::UNIX_EPOCH }))
    };
    codes.iter().map(code).collect()
}

fn deletions(count: usize) -> Vec<Item> {
    let deletion = |n: usize| {
        let draft = ThingDraft {
            kind: Kind::Item,
            id: id_of(&n.to_string()),
            attributes: serde_json::Map::new(),
            related: None,
        };
        item(Entry::Thing(Act::Delete, draft))
    };
    (0..count).map(deletion).collect()
}

/// The id of a new job.
fn create(batches: &mut Batches, work: Work, items: Vec<Item>, receipt: u64, now_us: u64) -> String {
    batches.create(work, items, receipt, now_us, Timestamp::now()).unwrap().id.clone()
}

fn attributes(batches: &Batches, work: Work, id: &str) -> Value {
    batches.get(work, id).unwrap().document("http://k")["data"]["attributes"].clone()
}

fn suppressions(store: &Store) -> Vec<Value> {
    let profiles = serde_json::to_value(store.profiles()).unwrap();
    profiles.as_array().unwrap().iter().map(|profile| profile["suppressions"].clone()).collect()
}

#[test]
fn a_job_takes_its_entries_in_time_and_in_order() {
    let (mut batches, mut store) = (Batches::new(1), Store::new(1));
    let id = create(&mut batches, Work::Suppress, emails(Entry::Suppress, &["a", "b"]), 7, 5_000);
    for (now_us, expected) in [
        (14_999, json!(["queued", 0])),
        (15_000, json!(["processing", 0])),
        (65_000, json!(["processing", 1])),
        (115_000, json!(["complete", 2])),
    ] {
        batches.advance(&SETTINGS, &mut store, now_us);
        let attributes = attributes(&batches, Work::Suppress, &id);
        let found = json!([attributes["status"], attributes["completed_count"]]);
        assert_eq!(found, expected, "at {now_us}");
        assert_eq!(json!(store.profile_count()), expected[1], "at {now_us}");
    }
    assert_eq!(suppressions(&store), [json!(["USER_SUPPRESSED"]), json!(["USER_SUPPRESSED"])]);
    assert!(batches.get(Work::Unsuppress, &id).is_none(), "of the other kind");
}

#[test]
fn lifting_skips_whom_nobody_knows_and_comes_after_what_was_before() {
    let (mut batches, mut store) = (Batches::new(1), Store::new(1));
    create(&mut batches, Work::Suppress, emails(Entry::Suppress, &["a", "b", "a"]), 7, 0);
    let id = create(&mut batches, Work::Unsuppress, emails(Entry::Unsuppress, &["x", "b"]), 8, 0);
    batches.advance(&SETTINGS, &mut store, 1_000_000);
    assert_eq!(suppressions(&store), [json!(["USER_SUPPRESSED"]), json!([])]);
    let document = batches.get(Work::Unsuppress, &id).unwrap().document("http://k");
    let attributes = &document["data"]["attributes"];
    assert_eq!(
        json!([attributes["total_count"], attributes["completed_count"], attributes["skipped_count"]]),
        json!([2, 1, 1])
    );
    assert_eq!(
        document["data"]["links"]["self"],
        format!("http://k/api/profile-suppression-bulk-delete-jobs/{id}")
    );
    let log = serde_json::to_value(store.consents()).unwrap();
    let changes: Vec<Value> =
        log.as_array().unwrap().iter().map(|entry| json!([entry["n"], entry["change"]])).collect();
    assert_eq!(
        changes,
        [
            json!([7, "suppressed"]),
            json!([7, "suppressed"]),
            json!([7, "suppressed"]),
            json!([8, "unsuppressed"]),
        ]
    );
}

#[test]
fn what_fails_is_part_of_the_job_and_the_others_are_done() {
    let (mut batches, mut store) = (Batches::new(1), Store::new(1));
    let coupon =
        CouponDraft { external_id: "10OFF".to_owned(), description: None, monitor_configuration: None };
    store.coupons.create(coupon).unwrap();
    let mut items = codes(&[("10OFF", "A"), ("20OFF", "A"), ("10OFF", "A"), ("10OFF", "B"), ("10OFF", "C")]);
    items[3].refused = Some(ApiError::invalid("/data/attributes/coupon-codes/data/3", "No."));
    let id = create(&mut batches, Work::Codes, items, 7, 0);
    batches.advance(&SETTINGS, &mut store, 70_000);
    let at_work = attributes(&batches, Work::Codes, &id);
    assert_eq!(
        json!([at_work["status"], at_work["errors"].as_array().unwrap().len()]),
        json!(["processing", 2])
    );
    assert_eq!(at_work["completed_at"], Value::Null);
    batches.advance(&SETTINGS, &mut store, 110_000);
    let found = attributes(&batches, Work::Codes, &id);
    assert_eq!(
        json!([found["status"], found["total_count"], found["completed_count"], found["failed_count"]]),
        json!(["complete", 5, 2, 3])
    );
    let errors: Vec<Value> = found["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| json!([error["code"], error["source"]["pointer"]]))
        .collect();
    let at = "/data/attributes/coupon-codes/data";
    assert_eq!(
        errors,
        [
            json!(["not_found", format!("{at}/1/relationships/coupon/data/id")]),
            json!(["duplicate", format!("{at}/2/attributes/unique_code")]),
            json!(["invalid", format!("{at}/3")]),
        ]
    );
    assert!(found["errors"][0]["id"] != found["errors"][1]["id"] && found["skipped_count"].is_null());
    assert!(store.coupons.code("10OFF-C").is_some() && store.coupons.code("10OFF-B").is_none());
}

#[test]
fn so_many_jobs_are_under_way_and_no_more() {
    let (mut batches, mut store) = (Batches::new(1), Store::new(1));
    let create_variants = Work::Catalog(Kind::Variant, Act::Create);
    for (max, works) in [(500, [DELETE, create_variants]), (100, [Work::Codes; 2])] {
        for n in 0..max {
            create(&mut batches, works[n % 2], deletions(1), 7, 0);
        }
        let refused = batches.create(works[0], deletions(1), 7, 0, Timestamp::now()).err().unwrap();
        assert_eq!((refused.status.as_u16(), refused.code.as_str()), (409, "too_many_jobs"));
    }
    create(&mut batches, Work::Suppress, emails(Entry::Suppress, &["a"]), 7, 0);
    batches.advance(&SETTINGS, &mut store, 1_000_000);
    create(&mut batches, DELETE, deletions(1), 7, 1_000_000);
    create(&mut batches, Work::Codes, codes(&[("10OFF", "A")]), 7, 1_000_000);
}
