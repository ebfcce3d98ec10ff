//! Calls that only ask.

use klaviyo::{Answer, TransportError};

use super::*;
use crate::call::tests::{POLICY, account_with, answer, awaited, settled};
use crate::read::{Read, ReadAnswer, ReadFailure};

const PROFILES: &str = "/api/profiles?page%5Bsize%5D=100";

fn read(id: i64, path: &str) -> Read {
    Read { id, path: path.to_owned(), body: None }
}

/// An account that has been here for so long that nothing of before counts any more.
fn with(reads: Vec<Read>) -> (Account, Instant) {
    let now = Instant::now();
    let mut account = account_with(1.0, now);
    let now = now + Duration::from_secs(3_600);
    assert!(account.read(reads, now).is_none());
    (account, now)
}

/// Makes the only call there is and lets it end so.
fn ended(result: Result<Answer, TransportError>) -> (Account, Vec<ReadAnswer>) {
    let (mut account, mut now) = with(vec![read(7, PROFILES)]);
    let call = awaited(&mut account, &mut now);
    let report = settled(&mut account, call, result, now);
    assert!(report.outcomes.is_empty());
    (account, report.reads)
}

#[test]
fn the_answer_is_told() {
    let (account, answers) = ended(answer(200, r#"{"data":[]}"#));
    assert_eq!(answers, [ReadAnswer { id: 7, result: Ok(r#"{"data":[]}"#.to_owned()) }]);
    assert!(account.reads.is_empty());
}

/// What somebody has written into it has no levels.
#[test]
fn an_answer_with_many_brackets_in_its_texts_is_told() {
    let text = r#"[{\"["#.repeat(100);
    let body = format!(r#"{{"data":["{text}"]}}"#);
    let (_, answers) = ended(answer(200, &body));
    assert_eq!(answers, [ReadAnswer { id: 7, result: Ok(body) }]);
    let deep = "[".repeat(101) + &"]".repeat(101);
    let (_, answers) = ended(answer(200, &deep));
    assert!(answers[0].result.is_err());
}

#[test]
fn why_there_is_none_is_told() {
    let error =
        r#"{"errors":[{"code":"invalid","title":"T","detail":"D","source":{"parameter":"page[cursor]"}}]}"#;
    for (result, again, code) in [
        (answer(400, error), false, "invalid"),
        (answer(403, error), false, "invalid"),
        (answer(404, error), false, "invalid"),
        (answer(401, error), true, "invalid"),
        (answer(503, ""), true, "http_503"),
        (answer(200, "<html>"), true, "unreadable_answer"),
        (Err(TransportError::Timeout), true, "timeout"),
    ] {
        let (_, answers) = ended(result);
        let [ReadAnswer { id: 7, result: Err(ReadFailure { failure, again: found }) }] = answers.as_slice()
        else {
            panic!("{answers:?}");
        };
        assert_eq!((failure.code.as_str(), *found), (code, again));
    }
    let now = Instant::now();
    let report = account_with(1.0, now).read(vec![read(1, "/api/nothing")], now).expect("a report");
    assert!(matches!(&report.reads[0].result, Err(failure) if failure.failure.code == "no_such_call"));
}

/// What Klaviyo has no room for, or was asked of another account, is asked again.
#[test]
fn what_was_not_answered_is_asked_again() {
    let (account, answers) = ended(answer(429, ""));
    assert_eq!((answers, account.reads.len()), (Vec::new(), 1));
    let (mut account, mut now) = with(vec![read(7, PROFILES)]);
    let call = awaited(&mut account, &mut now);
    let session = Session::new("http://127.0.0.1:1", klaviyo::REVISION, "pk_another").expect("a session");
    account.last_session = Some(session);
    assert_eq!(settled(&mut account, call, answer(200, "{}"), now).reads, []);
    let again = awaited(&mut account, &mut now);
    assert_eq!(again.purpose, Purpose::Read(7));
}

/// Also of what is asked for by POST the answer is all there is to it.
#[test]
fn a_question_in_a_body_is_answered_or_is_not() {
    let aggregates = |answered| {
        let body = Some("{}".to_owned());
        let (mut account, mut now) =
            with(vec![Read { id: 7, path: "/api/metric-aggregates".to_owned(), body }]);
        let call = awaited(&mut account, &mut now);
        assert_eq!(call.request.as_ref().map(Request::body), Some(&b"{}"[..]));
        settled(&mut account, call, answered, now).reads
    };
    assert_eq!(aggregates(answer(200, "[1]")), [ReadAnswer { id: 7, result: Ok("[1]".to_owned()) }]);
    for (text, code, again) in [
        ("<html>".to_owned(), "unreadable_answer", true),
        (" ".repeat(klaviyo::MAX_ANSWER), "answer_too_long", false),
    ] {
        let answers = aggregates(answer(200, &text));
        let [ReadAnswer { result: Err(ReadFailure { failure, again: found }), .. }] = answers.as_slice()
        else {
            panic!("{answers:?}");
        };
        assert_eq!((failure.code.as_str(), *found), (code, again));
    }
    let now = Instant::now();
    let read = Read { id: 1, path: "/api/nothing".to_owned(), body: Some(String::new()) };
    let report = account_with(1.0, now).read(vec![read], now).expect("a report");
    assert!(
        matches!(&report.reads[0].result, Err(failure) if failure.failure.reason.contains("POST /api/nothing"))
    );
}

#[test]
fn a_removed_account_is_not_asked() {
    let (mut account, mut now) = with(vec![read(7, PROFILES), read(8, "/api/flows")]);
    let call = awaited(&mut account, &mut now);
    account.forget(now);
    assert_eq!(settled(&mut account, call, answer(200, "{}"), now).reads, []);
    assert!(account.reads.is_empty());
}

/// However much is to be read, a part of the limits is left to what goes out, and all goes on in the next minute.
#[test]
fn what_goes_out_finds_room() {
    let (mut account, start) = with((0..1_000).map(|id| read(id, PROFILES)).collect());
    let (mut now, mut made) = (start, 0);
    while now < start + Duration::from_secs(59) {
        match account.next_call(now, &POLICY, &mut Vec::new()) {
            Some(call) => {
                assert!(settled(&mut account, call, answer(200, "{}"), now).reads.len() == 1);
                made += 1;
            }
            None => {
                now =
                    account.wakes_at(now, &POLICY).expect("more to come").max(now + Duration::from_millis(1))
            }
        }
    }
    assert!((560..=563).contains(&made), "three quarters of 750: {made}");
}
