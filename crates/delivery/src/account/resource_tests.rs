//! Resources, one by one and in jobs.

use klaviyo::{CREATE_COUPON_CODES, CREATE_ITEMS, Endpoint, UPDATE_ITEMS};

use super::*;
use crate::call::tests::{account_with, add, answer, awaited, endings, lane, message, seqs, settled};
use crate::kind::catalog::{Draft, ITEMS, delete};
use crate::kind::{self, coupon_code};
use crate::message::Ending;

fn of(seq: i64, kind: &str, key: Vec<String>, payload: String) -> Message {
    Message { kind: kind::find(kind).expect("a kind"), key, payload, ..message(seq, "event", "x") }
}

fn item(seq: i64, id: i64) -> Message {
    let texts = ["title", "description", "url"].map(|name| (name, format!("\"{name}\"")));
    let id = id.to_string();
    let draft = Draft { external_id: Some(&id), attributes: texts.to_vec(), ..Draft::default() };
    let (kind, checked) = draft.check(&ITEMS).expect("valid");
    of(seq, kind, checked.key, checked.payload)
}

fn with(messages: impl IntoIterator<Item = Message>) -> (Account, Instant) {
    let now = Instant::now();
    let mut account = account_with(1.0, now);
    messages.into_iter().for_each(|message| add(&mut account, message, now));
    (account, now)
}

fn made(id: &str) -> Result<Answer, TransportError> {
    answer(
        202,
        &format!(
            r#"{{"data":{{"type":"job","id":"{id}","attributes":{{"status":"queued","total_count":1}}}}}}"#
        ),
    )
}

/// A job that is complete, and has failed at these.
fn complete(members: &str, failed: usize, named: &[usize]) -> Result<Answer, TransportError> {
    let error = |n: &usize| {
        format!(
            r#"{{"id":"e","code":"c","title":"t","detail":"d","source":{{"pointer":"/data/attributes/{members}/data/{n}"}}}}"#
        )
    };
    let errors: Vec<String> = named.iter().map(error).collect();
    let errors = errors.join(",");
    let attributes =
        format!(r#""status":"complete","total_count":9,"failed_count":{failed},"errors":[{errors}]"#);
    answer(200, &format!(r#"{{"data":{{"type":"job","id":"J","attributes":{{{attributes}}}}}}}"#))
}

/// The next call that is of one of these.
fn next_of(account: &mut Account, now: &mut Instant, endpoint: &Endpoint) -> Call {
    let call = awaited(account, now);
    assert_eq!(lane(&call), endpoint);
    call
}

fn accepted(report: Report) -> Vec<i64> {
    let all = endings(report);
    assert!(all.values().all(|ending| matches!(ending, Ending::Accepted { .. })), "{all:?}");
    all.into_keys().collect()
}

#[test]
fn what_a_job_fails_at_is_changed_and_goes_by_itself_in_the_end() {
    let (mut account, mut now) = with((1..=100).map(|seq| item(seq, seq)));
    let job = next_of(&mut account, &mut now, &CREATE_ITEMS.many);
    assert_eq!(seqs(&job).len(), 100);
    assert!(settled(&mut account, job, made("A"), now).outcomes.is_empty(), "they are at no end yet");
    let asked = next_of(&mut account, &mut now, &CREATE_ITEMS.asks);
    let report = settled(&mut account, asked, complete("items", 80, &(20..100).collect::<Vec<_>>()), now);
    assert_eq!(accepted(report), (1..=20).collect::<Vec<_>>());
    // They are there, as it seems: many still go together.
    let job = next_of(&mut account, &mut now, &UPDATE_ITEMS.many);
    assert_eq!(seqs(&job), (21..=100).collect::<Vec<_>>());
    settled(&mut account, job, made("B"), now);
    let asked = next_of(&mut account, &mut now, &UPDATE_ITEMS.asks);
    let report = settled(&mut account, asked, complete("items", 2, &[0, 79]), now);
    assert_eq!(accepted(report), (22..=99).collect::<Vec<_>>());
    let (one, other) = (
        next_of(&mut account, &mut now, &UPDATE_ITEMS.one),
        next_of(&mut account, &mut now, &UPDATE_ITEMS.one),
    );
    assert_eq!((seqs(&one), seqs(&other)), (vec![21], vec![100]));
    let missing = || answer(404, r#"{"errors":[{"code":"not_found"}]}"#);
    let invalid = || answer(400, r#"{"errors":[{"code":"invalid"}]}"#);
    assert!(settled(&mut account, one, missing(), now).outcomes.is_empty());
    assert!(matches!(endings(settled(&mut account, other, invalid(), now))[&100], Ending::Dead { .. }));
    let again = next_of(&mut account, &mut now, &CREATE_ITEMS.one);
    assert_eq!(accepted(settled(&mut account, again, answer(201, ""), now)), [21]);
}

#[test]
fn where_a_job_does_not_say_at_what_it_failed_all_go_again() {
    for told in [complete("items", 3, &[1, 2]), complete("variants", 1, &[0])] {
        let (mut account, mut now) = with((1..=100).map(|seq| item(seq, seq)));
        let job = next_of(&mut account, &mut now, &CREATE_ITEMS.many);
        settled(&mut account, job, made("A"), now);
        let asked = next_of(&mut account, &mut now, &CREATE_ITEMS.asks);
        assert!(settled(&mut account, asked, told, now).outcomes.is_empty());
        assert_eq!(seqs(&next_of(&mut account, &mut now, &UPDATE_ITEMS.many)).len(), 100);
    }
}

#[test]
fn a_job_that_was_cancelled_is_made_again() {
    let (mut account, mut now) = with((1..=100).map(|seq| item(seq, seq)));
    let job = next_of(&mut account, &mut now, &CREATE_ITEMS.many);
    settled(&mut account, job, made("A"), now);
    let asked = next_of(&mut account, &mut now, &CREATE_ITEMS.asks);
    let cancelled = answer(200, r#"{"data":{"id":"A","attributes":{"status":"cancelled"}}}"#);
    let all = endings(settled(&mut account, asked, cancelled, now));
    assert!(all.len() == 100 && all.values().all(|ending| matches!(ending, Ending::Retry { .. })));
    next_of(&mut account, &mut now, &CREATE_ITEMS.many);
}

#[test]
fn who_may_not_ask_about_jobs_makes_none() {
    let (mut account, mut now) = with((1..=100).map(|seq| item(seq, seq)));
    let job = next_of(&mut account, &mut now, &CREATE_ITEMS.many);
    settled(&mut account, job, made("A"), now);
    let asked = next_of(&mut account, &mut now, &CREATE_ITEMS.asks);
    let refused = answer(403, r#"{"errors":[{"code":"permission_denied"}]}"#);
    settled(&mut account, asked, refused, now);
    (101..=200).for_each(|seq| add(&mut account, item(seq, seq), now));
    let mut ended = Vec::new();
    while ended.len() < 200 {
        let call = awaited(&mut account, &mut now);
        assert!(!call.carried.is_bulk() || lane(&call) == &UPDATE_ITEMS.many, "{}", lane(&call).name);
        if call.carried.is_bulk() {
            // Of these it has not been told yet.
            settled(&mut account, call, made("B"), now);
            continue;
        }
        let result =
            if lane(&call) == &UPDATE_ITEMS.asks { complete("items", 0, &[]) } else { answer(200, "") };
        ended.extend(accepted(settled(&mut account, call, result, now)));
    }
}

#[test]
fn of_one_item_the_end_comes_after_the_job() {
    let (mut account, mut now) = with((1..=100).map(|seq| item(seq, seq)));
    let gone = delete(&ITEMS, Some("7")).expect("valid");
    add(&mut account, of(101, "catalog_item_delete", gone.key, gone.payload), now);
    let job = next_of(&mut account, &mut now, &CREATE_ITEMS.many);
    settled(&mut account, job, made("A"), now);
    let asked = next_of(&mut account, &mut now, &CREATE_ITEMS.asks);
    settled(&mut account, asked, complete("items", 0, &[]), now);
    let delete = awaited(&mut account, &mut now);
    assert_eq!(seqs(&delete), [101]);
    let gone = answer(404, r#"{"errors":[{"code":"not_found"}]}"#);
    assert_eq!(accepted(settled(&mut account, delete, gone, now)), [101]);
}

#[test]
fn a_code_that_is_there_is_done_and_a_bad_one_is_found() {
    let code = |seq: i64| {
        let code = seq.to_string();
        let draft = coupon_code::Draft { coupon: Some("SUMMER"), code: Some(&code), expires_at: None };
        let checked = draft.check().expect("valid");
        of(seq, "coupon_code", checked.key, checked.payload)
    };
    let (mut account, mut now) = with((1..=500).map(code));
    let job = next_of(&mut account, &mut now, &CREATE_COUPON_CODES.many);
    assert_eq!(seqs(&job).len(), 500);
    settled(&mut account, job, made("A"), now);
    let asked = next_of(&mut account, &mut now, &CREATE_COUPON_CODES.asks);
    let report = settled(&mut account, asked, complete("coupon-codes", 2, &[0, 1]), now);
    assert_eq!(accepted(report).len(), 498);
    let (one, other) = (awaited(&mut account, &mut now), awaited(&mut account, &mut now));
    assert_eq!((lane(&one), lane(&other)), (&CREATE_COUPON_CODES.one, &CREATE_COUPON_CODES.one));
    let known = answer(409, r#"{"errors":[{"code":"duplicate"}]}"#);
    assert_eq!(accepted(settled(&mut account, one, known, now)), [1]);
    let invalid = answer(404, r#"{"errors":[{"code":"not_found"}]}"#);
    assert!(matches!(endings(settled(&mut account, other, invalid, now))[&2], Ending::Dead { .. }));
}
