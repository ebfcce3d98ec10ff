//! Calls that messages ask for themselves.

use std::collections::BTreeMap;

use klaviyo::{Answer, GET_LISTS, Method, TransportError};

use super::*;
use crate::call::tests::{POLICY, account_with, answer, awaited, endings, message, seqs, settled};
use crate::kind::{self, call::Draft};
use crate::message::Ending;
use crate::queue::AMBIGUOUS;

fn direct(seq: i64, method: &str, path: &str) -> Message {
    let body = matches!(method, "POST" | "PATCH").then_some("{}");
    let checked = Draft { method: Some(method), path: Some(path), body }.check().expect("a call");
    Message {
        kind: kind::find("call").expect("a kind"),
        payload: checked.payload,
        rides: false,
        key: checked.key,
        ..message(seq, "event", "nobody")
    }
}

/// An account that has been here for so long that nothing of before counts any more.
fn with(messages: Vec<Message>) -> (Account, Instant) {
    let now = Instant::now();
    let mut account = account_with(1.0, now);
    let now = now + Duration::from_secs(3_600);
    assert!(account.add(messages, now).is_none());
    (account, now)
}

fn endpoint(account: &Account, call: &Call) -> (&'static str, Method) {
    let endpoint = account.lanes[call.lane].endpoint;
    (endpoint.path, endpoint.method)
}

/// Makes the only call there is and lets it end so.
fn ended(method: &str, result: Result<Answer, TransportError>) -> Ending {
    let path = if method == "POST" { "/api/tags" } else { "/api/tags/1" };
    let (mut account, mut now) = with(vec![direct(1, method, path)]);
    let call = awaited(&mut account, &mut now);
    endings(settled(&mut account, call, result, now)).remove(&1).expect("an ending")
}

#[test]
fn each_goes_in_a_lane_of_its_own_and_keeps_its_limits() {
    let of_tags = (1..=100).map(|seq| direct(seq, "GET", &format!("/api/tags/{seq}")));
    let (mut account, start) = with(of_tags.chain([direct(101, "GET", "/api/flows")]).collect());
    let (mut now, mut made) = (start, BTreeMap::<_, Vec<Duration>>::new());
    while now < start + Duration::from_secs(59) {
        let Some(call) = account.next_call(now, &POLICY, &mut Vec::new()) else {
            now = account.wakes_at(now, &POLICY).expect("more to come").max(now + Duration::from_millis(1));
            continue;
        };
        made.entry(endpoint(&account, &call).0).or_default().push(now - start);
        settled(&mut account, call, answer(200, "{}"), now);
    }
    assert_eq!(made["/api/flows"], [Duration::ZERO], "whatever becomes of the others");
    let tags = &made["/api/tags/{id}"];
    assert_eq!(tags.len(), 60, "a minute's");
    let in_a_second = tags.windows(4).all(|calls| calls[3] - calls[0] >= Duration::from_millis(999));
    assert!(in_a_second, "three a second: {tags:?}");
}

#[test]
fn what_an_earlier_worker_may_have_called_counts() {
    let now = Instant::now();
    let mut account = account_with(1.0, now);
    account.add(vec![direct(1, "GET", "/api/accounts")], now);
    assert!(account.next_call(now, &POLICY, &mut Vec::new()).is_none(), "one a second");
    assert!(account.next_call(now + Duration::from_secs(2), &POLICY, &mut Vec::new()).is_some());
    account.lane("get-tags").expect("made as it is named").budget.occupy(now, Duration::ZERO, 60);
    account.add(vec![direct(2, "GET", "/api/tags")], now);
    assert!(account.next_call(now + Duration::from_secs(30), &POLICY, &mut Vec::new()).is_none());
    assert!(account.next_call(now + Duration::from_secs(62), &POLICY, &mut Vec::new()).is_some());
}

#[test]
fn those_of_a_path_go_one_after_the_other() {
    let path = "/api/tags/1";
    let (mut account, mut now) =
        with(vec![direct(1, "PATCH", path), direct(2, "GET", path), direct(3, "GET", "/api/tags/2")]);
    let first = awaited(&mut account, &mut now);
    let other = awaited(&mut account, &mut now);
    assert_eq!((seqs(&first), seqs(&other)), (vec![1], vec![3]));
    assert!(account.next_call(now, &POLICY, &mut Vec::new()).is_none());
    settled(&mut account, first, answer(200, ""), now);
    assert_eq!(seqs(&awaited(&mut account, &mut now)), [2]);
}

#[test]
fn a_lane_that_has_other_work_keeps_the_answer_all_the_same() {
    let (mut account, mut now) = with(vec![direct(1, "GET", "/api/lists")]);
    let call = awaited(&mut account, &mut now);
    assert_eq!(endpoint(&account, &call), (GET_LISTS.path, Method::Get));
    let list = r#"{"data":[{"type":"list","id":"Y6nRLr","attributes":{"name":"VIP"}}]}"#;
    let ended = endings(settled(&mut account, call, answer(200, list), now));
    let Ending::Accepted { answer: Some(answer), .. } = &ended[&1] else { panic!("it is accepted") };
    assert_eq!((answer.lane, answer.body.as_deref()), ("get-lists", Some(list)));
}

#[test]
fn what_must_not_go_twice_is_announced() {
    let (mut account, mut now) = with(vec![direct(1, "POST", "/api/tags"), direct(2, "GET", "/api/flows")]);
    for _ in 0..2 {
        let call = awaited(&mut account, &mut now);
        let Some((id, report)) = call.announcement() else {
            assert_eq!(seqs(&call), [2]);
            continue;
        };
        assert_eq!((seqs(&call), report.announced), (vec![1], Some(id)));
        let [outcome] = report.outcomes.as_slice() else { panic!("one") };
        assert!(outcome.may_be_done && outcome.attempts == 1);
        assert!(matches!(outcome.ending, Ending::Retry { .. }), "it stays with us");
        let [withdrawn] = &call.withdrawn().outcomes[..] else { panic!("one") };
        assert!(!withdrawn.may_be_done && withdrawn.seq == 1);
    }
}

#[test]
fn when_the_answer_is_lost_what_changes_something_stops() {
    let lost = || Err(TransportError::Timeout);
    let Ending::Dead { failure, .. } = ended("POST", lost()) else { panic!("dead") };
    assert_eq!((failure.code.as_str(), failure.status), (AMBIGUOUS, None));
    for status in [408, 500, 502, 504] {
        let Ending::Dead { failure, .. } = ended("PATCH", answer(status, "")) else { panic!("{status}") };
        assert_eq!((failure.code.as_str(), failure.status), (AMBIGUOUS, Some(status)));
    }
    for method in ["GET", "DELETE"] {
        assert!(matches!(ended(method, lost()), Ending::Retry { .. }), "{method}");
    }
    for nothing_done in [answer(503, ""), answer(429, ""), Err(TransportError::Connect("refused".to_owned()))]
    {
        assert!(matches!(ended("POST", nothing_done), Ending::Retry { .. }));
    }
    assert!(matches!(
        ended("POST", answer(404, r#"{"errors":[{"code":"not_found"}]}"#)),
        Ending::Dead { .. }
    ));
}

#[test]
fn of_what_was_under_way_when_a_worker_ended_nobody_knows() {
    let lost = |seq, method| Message { may_be_done: true, attempts: 1, ..direct(seq, method, "/api/tags/1") };
    let (mut account, now) = with(vec![lost(1, "PATCH"), lost(2, "GET")]);
    let mut reports = Vec::new();
    assert!(account.next_call(now, &POLICY, &mut reports).is_none());
    let call = account.next_call(now, &POLICY, &mut reports).expect("the other goes again");
    assert_eq!(seqs(&call), [2]);
    let ended = endings(reports.remove(0));
    assert!(matches!(&ended[&1], Ending::Dead { failure, .. } if failure.code == AMBIGUOUS));
}

#[test]
fn what_is_gone_when_it_is_deleted_again_is_done() {
    let (mut account, mut now) = with(vec![direct(1, "DELETE", "/api/tags/1")]);
    let call = awaited(&mut account, &mut now);
    settled(&mut account, call, Err(TransportError::Timeout), now);
    let again = awaited(&mut account, &mut now);
    let gone = answer(404, r#"{"errors":[{"code":"not_found"}]}"#);
    let ended = endings(settled(&mut account, again, gone, now));
    assert!(matches!(ended[&1], Ending::Accepted { status: 404, .. }));
}

#[test]
fn an_outage_takes_few_of_those_that_must_not_go_twice() {
    let (mut account, mut now) =
        with((1..=50).map(|seq| direct(seq, "PATCH", &format!("/api/tags/{seq}"))).collect());
    let (mut dead, mut probes) = (0, 0);
    let end = now + Duration::from_secs(3_600);
    while now < end {
        let call = awaited(&mut account, &mut now);
        probes += usize::from(call.purpose == Purpose::Probe);
        let report = settled(&mut account, call, answer(500, ""), now);
        dead += endings(report).values().filter(|ending| matches!(ending, Ending::Dead { .. })).count();
    }
    assert!(dead < 10 && probes > 10, "{dead} dead, {probes} probes");
    let probe = awaited(&mut account, &mut now);
    assert_eq!(probe.purpose, Purpose::Probe);
    let report = settled(&mut account, probe, answer(404, r#"{"errors":[{"code":"not_found"}]}"#), now);
    assert!(report.outcomes.is_empty());
    for _ in dead..50 {
        let call = awaited(&mut account, &mut now);
        assert_eq!(call.purpose, Purpose::Deliver, "it is over");
        settled(&mut account, call, answer(200, ""), now);
    }
}

#[test]
fn a_scope_that_is_missing_is_said_and_stops_nothing() {
    let (mut account, mut now) = with(vec![direct(1, "GET", "/api/tags"), message(2, "event", "a")]);
    let call = awaited(&mut account, &mut now);
    let refusal = answer(403, r#"{"errors":[{"code":"permission_denied"}]}"#);
    let report = settled(&mut account, call, refusal, now);
    assert_eq!(report.account_state, None);
    assert!(
        matches!(&endings(report)[&1], Ending::Dead { failure, .. } if failure.reason.contains("tags:read"))
    );
    assert_eq!(seqs(&awaited(&mut account, &mut now)), [2]);
}

/// A key that may not make a call is told so by the call itself, whatever found out that the outage is over.
#[test]
fn a_probe_that_is_refused_stops_nothing() {
    let posts = (1..=8).map(|seq| direct(seq, "PATCH", &format!("/api/tags/{seq}")));
    let (mut account, mut now) = with(posts.collect());
    let (mut dead, mut probes) = (0, 0);
    while dead < 8 {
        let call = awaited(&mut account, &mut now);
        let status = if dead < 5 { 500 } else { 403 };
        probes += usize::from(call.purpose == Purpose::Probe);
        let report = settled(&mut account, call, answer(status, r#"{"errors":[{"code":"c"}]}"#), now);
        assert_eq!(report.account_state, None);
        dead += report.outcomes.len();
    }
    assert_eq!(probes, 1);
}

/// What has died in an outage has left an open breaker, which nobody else would close.
#[test]
fn the_end_of_an_outage_is_found_though_nothing_waits() {
    let patches = (1..=5).map(|seq| direct(seq, "PATCH", &format!("/api/tags/{seq}")));
    let (mut account, mut now) = with(patches.collect());
    for _ in 0..5 {
        let call = awaited(&mut account, &mut now);
        settled(&mut account, call, answer(500, ""), now);
    }
    let broken = |account: &Account| account.lanes.iter().any(Lane::is_broken);
    assert!(broken(&account));
    for status in [500, 404] {
        let probe = awaited(&mut account, &mut now);
        assert_eq!(probe.purpose, Purpose::Probe);
        settled(&mut account, probe, answer(status, r#"{"errors":[{"code":"c"}]}"#), now);
    }
    assert!(!broken(&account));
    assert_eq!(account.wakes_at(now, &POLICY), None, "there is nothing more to do");
}
