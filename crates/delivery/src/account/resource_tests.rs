//! Resources, one by one and in jobs.

use klaviyo::{Answer, CREATE_COUPON_CODES, CREATE_ITEMS, Endpoint, TransportError, UPDATE_ITEMS};

use super::*;
use crate::call::tests::{POLICY, account_with, add, answer, awaited, endings, lane, message, seqs, settled};
use crate::kind::catalog::{CATEGORIES, Draft, ITEMS, delete};
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

fn not_found() -> Result<Answer, TransportError> {
    answer(404, r#"{"errors":[{"code":"not_found"}]}"#)
}

fn refused(status: u16) -> Result<Answer, TransportError> {
    answer(status, r#"{"errors":[{"code":"c"}]}"#)
}

/// One that does not say how many it has failed at, and points at one of them only.
fn unnamed() -> Result<Answer, TransportError> {
    let error = |pointer| {
        format!(r#"{{"id":"e","code":"c","title":"t","detail":"d","source":{{"pointer":"{pointer}"}}}}"#)
    };
    let errors = [error("/data/attributes/items/data/3"), error("/data")].join(",");
    answer(
        200,
        &format!(
            r#"{{"data":{{"id":"J","attributes":{{"status":"complete","failed_count":null,"errors":[{errors}]}}}}}}"#
        ),
    )
}

/// An answer to the question which jobs are under way.
fn under_way(jobs: &[&str]) -> Result<Answer, TransportError> {
    let job = |id: &&str| format!(r#"{{"type":"job","id":"{id}","attributes":{{"status":"queued"}}}}"#);
    answer(200, &format!(r#"{{"data":[{}]}}"#, jobs.iter().map(job).collect::<Vec<_>>().join(",")))
}

/// Answers all such questions of one look, each so; returns when they had been asked.
fn look(account: &mut Account, now: &mut Instant, questions: usize, jobs: &[&str]) -> Instant {
    let mut asked = *now;
    for _ in 0..questions {
        let call = awaited(account, now);
        assert!(matches!(call.purpose, Purpose::Look(_)), "{}", lane(&call).name);
        asked = *now;
        assert!(settled(account, call, under_way(jobs), *now).outcomes.is_empty());
    }
    asked
}

/// The next call that brings something, or asks about a job that was made; none are under way otherwise.
fn next(account: &mut Account, now: &mut Instant) -> Call {
    loop {
        let call = awaited(account, now);
        if !matches!(call.purpose, Purpose::Look(_)) {
            return call;
        }
        assert!(settled(account, call, under_way(&[]), *now).outcomes.is_empty());
    }
}

/// The same, which is of this endpoint.
fn next_of(account: &mut Account, now: &mut Instant, endpoint: &Endpoint) -> Call {
    let call = next(account, now);
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
    assert!(settled(&mut account, one, not_found(), now).outcomes.is_empty());
    assert!(matches!(endings(settled(&mut account, other, refused(400), now))[&100], Ending::Dead { .. }));
    let again = next_of(&mut account, &mut now, &CREATE_ITEMS.one);
    assert_eq!(accepted(settled(&mut account, again, answer(201, ""), now)), [21]);
}

#[test]
fn where_a_job_does_not_say_at_what_it_failed_all_go_again() {
    for told in [complete("items", 3, &[1, 2]), complete("variants", 1, &[0]), unnamed()] {
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
    let question = awaited(&mut account, &mut now);
    assert!(matches!(question.purpose, Purpose::Look("catalog-item")));
    let report = settled(&mut account, question, refused(403), now);
    assert_eq!(report.account_state, None, "it does without");
    for _ in 0..100 {
        let call = awaited(&mut account, &mut now);
        assert_eq!(lane(&call), &CREATE_ITEMS.one);
        assert_eq!(accepted(settled(&mut account, call, answer(201, ""), now)).len(), 1);
    }
}

/// What an earlier life has left at Klaviyo may still be done, and would undo what is newer.
#[test]
fn nothing_goes_before_jobs_that_may_be_ours_are_over() {
    let (mut account, start) = with([item(1, 1), message(2, "event", "a")]);
    let mut now = start;
    let event = account.next_call(now, &POLICY, &mut Vec::new()).expect("others wait for nothing");
    assert_eq!(accepted(settled(&mut account, event, answer(202, ""), now)), [2]);
    look(&mut account, &mut now, 6, &["A", "B"]);
    let mut looks = 0;
    while now < start + Duration::from_secs(60) {
        let call = awaited(&mut account, &mut now);
        assert!(matches!(call.purpose, Purpose::Look(_)));
        // Others make jobs all the time.
        settled(&mut account, call, under_way(&["B", &format!("J{looks}")]), now);
        looks += 1;
    }
    assert!((10..120).contains(&looks), "{looks}");
    let before = now;
    loop {
        let call = awaited(&mut account, &mut now);
        if !matches!(call.purpose, Purpose::Look(_)) {
            assert_eq!(accepted(settled(&mut account, call, answer(201, ""), now)), [1]);
            break;
        }
        settled(&mut account, call, under_way(&["C", "D"]), now);
    }
    assert!(now < before + Duration::from_secs(25), "of others nobody waits for: {:?}", now - before);
}

/// A call whose answer is lost may have made a job: what it carried does not go again before that is over.
#[test]
fn a_lost_answer_is_looked_after() {
    let (mut account, mut now) = with((1..=200).map(|seq| item(seq, seq)));
    let job = next_of(&mut account, &mut now, &CREATE_ITEMS.many);
    settled(&mut account, job, Err(TransportError::Timeout), now);
    let lost = now;
    let asked = look(&mut account, &mut now, 6, &["A"]);
    assert!(asked >= lost + POLICY.request_timeout, "it may still be on its way");
    look(&mut account, &mut now, 6, &["A", "B"]);
    look(&mut account, &mut now, 6, &["B"]);
    let again = awaited(&mut account, &mut now);
    assert!([&CREATE_ITEMS.many, &CREATE_ITEMS.one].contains(&lane(&again)));
}

/// A job that begins its work between the two questions is seen by one of them.
#[test]
fn a_job_that_begins_meanwhile_is_seen() {
    let (mut account, mut now) = with([item(1, 1)]);
    let mut is_first = true;
    for _ in 0..6 {
        let call = awaited(&mut account, &mut now);
        let address = format!("{:?}", call.request);
        let sees = address.contains("queued") == is_first;
        is_first = !is_first;
        settled(&mut account, call, under_way(if sees { &["A"] } else { &[] }), now);
    }
    assert!(matches!(awaited(&mut account, &mut now).purpose, Purpose::Look(_)), "it is waited for");
}

/// What cannot be asked holds nothing up for ever, and whoever cannot ask makes no jobs.
#[test]
fn questions_that_are_refused_or_fail_are_given_up() {
    for (status, least, most) in [(400, 0, 60), (500, 3_600, 3_800)] {
        let (mut account, start) = with((1..=200).map(|seq| item(seq, seq)));
        let mut now = start;
        let call = loop {
            let call = awaited(&mut account, &mut now);
            if !matches!(call.purpose, Purpose::Look(_)) {
                break call;
            }
            settled(&mut account, call, refused(status), now);
        };
        assert_eq!(lane(&call), &CREATE_ITEMS.one, "no job");
        let waited = (now - start).as_secs();
        assert!((least..most).contains(&waited), "{status}: {waited}");
    }
}

#[test]
fn another_key_has_to_ask_again() {
    let (mut account, mut now) = with((1..=200).map(|seq| item(seq, seq)));
    look(&mut account, &mut now, 6, &[]);
    let job = next_of(&mut account, &mut now, &CREATE_ITEMS.many);
    let session = Some(Session::new("http://127.0.0.1:1", klaviyo::REVISION, "pk_other").expect("a session"));
    let options =
        AccountOptions { name: "default".into(), session, rate_share: 1.0, place: None, stale: None };
    account.set(options, now);
    settled(&mut account, job, made("A"), now);
    let question = loop {
        let call = awaited(&mut account, &mut now);
        if matches!(call.purpose, Purpose::Look(_)) {
            break call;
        }
        settled(&mut account, call, complete("items", 0, &[]), now);
    };
    settled(&mut account, question, refused(403), now);
    for _ in 0..100 {
        let call = next(&mut account, &mut now);
        assert!(!call.carried.is_bulk(), "{}", lane(&call).name);
        settled(&mut account, call, answer(201, ""), now);
    }
}

/// One that Klaviyo has forgotten is not waited for for ever.
#[test]
fn a_job_that_never_ends_holds_nothing_up_for_ever() {
    let (mut account, start) = with([item(1, 1)]);
    let mut now = start;
    let call = loop {
        let call = awaited(&mut account, &mut now);
        if !matches!(call.purpose, Purpose::Look(_)) {
            break call;
        }
        settled(&mut account, call, under_way(&["A"]), now);
    };
    assert_eq!(seqs(&call), [1]);
    let waited = now - start;
    assert!((3_600..3_700).contains(&waited.as_secs()), "{waited:?}");
}

/// A job of which nobody tells may still be done: what it is of waits until it can be thought to be over, and goes again.
#[test]
fn a_job_that_cannot_be_asked_about_is_not_taken_for_done() {
    for no_id in [false, true] {
        let (mut account, mut now) = with((1..=200).map(|seq| item(seq, seq)));
        let one = next_of(&mut account, &mut now, &CREATE_ITEMS.many);
        let other = next_of(&mut account, &mut now, &CREATE_ITEMS.many);
        let told = if no_id { answer(202, "{}") } else { made("A") };
        assert!(settled(&mut account, one, told, now).outcomes.is_empty());
        if !no_id {
            let asked = next_of(&mut account, &mut now, &CREATE_ITEMS.asks);
            assert!(settled(&mut account, asked, refused(403), now).outcomes.is_empty());
            assert!(settled(&mut account, other, made("B"), now).outcomes.is_empty());
        }
        let then = now;
        let call = next(&mut account, &mut now);
        assert!(now >= then + Duration::from_secs(299), "{:?}", now - then);
        assert!([&UPDATE_ITEMS.many, &UPDATE_ITEMS.one].contains(&lane(&call)), "{}", lane(&call).name);
    }
}

#[test]
fn of_an_account_that_is_removed_nothing_in_a_job_counts_as_done() {
    let (mut account, mut now) = with((1..=100).map(|seq| item(seq, seq)));
    let job = next_of(&mut account, &mut now, &CREATE_ITEMS.many);
    settled(&mut account, job, made("A"), now);
    assert!(account.forget(now).is_empty());
}

#[test]
fn what_klaviyo_says_is_there_and_is_not_comes_to_an_end() {
    let (mut account, mut now) = with([item(1, 1)]);
    let mut calls = 0;
    let ending = loop {
        calls += 1;
        let call = next(&mut account, &mut now);
        let told = if lane(&call) == &CREATE_ITEMS.one { refused(409) } else { refused(404) };
        if let Some(ending) = endings(settled(&mut account, call, told, now)).remove(&1) {
            break ending;
        }
    };
    assert!(matches!(ending, Ending::Dead { .. }) && calls == 4, "{calls}");
}

#[test]
fn what_needs_a_category_that_is_coming_waits_for_it() {
    let category = Draft {
        external_id: Some("Tops"),
        attributes: vec![("name", "\"Tops\"".to_owned())],
        ..Draft::default()
    };
    let (kind, checked) = category.check(&CATEGORIES).expect("valid");
    let category = of(1, kind, checked.key, checked.payload);
    let with_category = Message {
        payload: item(2, 2).payload.replace(r#"{"external"#, r#"{"categories":["Tops"],"external"#),
        ..item(2, 2)
    };
    let (mut account, mut now) = with([category, with_category]);
    let (one, other) = (next(&mut account, &mut now), next(&mut account, &mut now));
    let (needy, category) = if seqs(&one) == [2] { (one, other) } else { (other, one) };
    assert!(settled(&mut account, needy, not_found(), now).outcomes.is_empty());
    assert_eq!(accepted(settled(&mut account, category, answer(201, ""), now)), [1]);
    let again = next_of(&mut account, &mut now, &CREATE_ITEMS.one);
    let nothing_comes = endings(settled(&mut account, again, not_found(), now));
    assert!(matches!(nothing_comes[&2], Ending::Dead { .. }), "nothing is on its way any more");
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
    let delete = next(&mut account, &mut now);
    assert_eq!(seqs(&delete), [101]);
    assert_eq!(accepted(settled(&mut account, delete, not_found(), now)), [101]);
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
    let (one, other) = (next(&mut account, &mut now), next(&mut account, &mut now));
    assert_eq!((lane(&one), lane(&other)), (&CREATE_COUPON_CODES.one, &CREATE_COUPON_CODES.one));
    assert_eq!(accepted(settled(&mut account, one, refused(409), now)), [1]);
    assert!(matches!(endings(settled(&mut account, other, not_found(), now))[&2], Ending::Dead { .. }));
}
