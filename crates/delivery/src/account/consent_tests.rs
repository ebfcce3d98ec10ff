//! Calls that carry one message or many, and those that ask first.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use klaviyo::{
    Answer, GET_LIST_PROFILES, GET_SUPPRESS_JOB, SUBSCRIBE, SUPPRESS, TransportError, UNSUBSCRIBE, UNSUPPRESS,
};

use super::*;
use crate::call::tests::{
    POLICY, SOON, account, add, answer, awaited, endings, lane, message, next, seqs, settled,
};
use crate::message::Message;
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);

/// A message of a person, about a list where one is named.
fn consent(seq: i64, kind: &str, who: &str, list: &str) -> Message {
    let list = if list.is_empty() { String::new() } else { format!(r#""list":"{list}","#) };
    let payload = format!(r#"{{{list}"profile":{{"email":"{who}@b.example"}}}}"#);
    Message { payload, carries_state: false, ..message(seq, kind, &format!("email:{who}@b.example")) }
}

/// Klaviyo's answer to a question, when these are on the list.
fn on_the_list(who: &[&str]) -> Result<Answer, TransportError> {
    let member = |who: &&str| {
        format!(
            r#"{{"type":"profile","id":"01","attributes":{{"email":"{who}@b.example","phone_number":null}}}}"#
        )
    };
    answer(200, &format!(r#"{{"data":[{}]}}"#, who.iter().map(member).collect::<Vec<_>>().join(",")))
}

fn refused_at(profile: usize) -> Result<Answer, TransportError> {
    let pointer = format!("/data/attributes/profiles/data/{profile}/attributes/email");
    answer(
        400,
        &format!(r#"{{"errors":[{{"code":"invalid","detail":"no","source":{{"pointer":"{pointer}"}}}}]}}"#),
    )
}

#[test]
fn what_comes_by_itself_goes_at_once_and_what_comes_together_goes_together() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, consent(1, "subscribe", "a", ""), now);
    let first = next(&mut account, now).expect("a call");
    assert_eq!((lane(&first), seqs(&first), first.carried.is_bulk()), (&SUBSCRIBE, vec![1], false));
    settled(&mut account, first, answer(202, ""), now);
    for seq in 2..1_200 {
        add(&mut account, consent(seq, "subscribe", &seq.to_string(), ""), now);
    }
    now += SECOND;
    let full = next(&mut account, now).expect("a call of many");
    assert_eq!(seqs(&full), (2..1_002).collect::<Vec<_>>(), "as many as Klaviyo takes");
    now += SECOND;
    assert_eq!(seqs(&next(&mut account, now).expect("the rest")), (1_002..1_200).collect::<Vec<_>>());
}

#[test]
fn a_change_of_mind_is_told_in_its_order() {
    let mut now = Instant::now();
    let mut account = account(now);
    let kinds =
        ["subscribe", "unsubscribe", "subscribe", "subscribe", "suppress", "unsuppress", "unsubscribe"];
    for (seq, kind) in (1..).zip(kinds) {
        add(&mut account, consent(seq, kind, "a", ""), now);
    }
    let mut told = Vec::new();
    while let Some(call) = next(&mut account, now) {
        assert_eq!(call.carried.messages.len(), 1, "of one person one is in a call");
        assert!(next(&mut account, now).is_none(), "and nothing else is on its way");
        told.extend(seqs(&call));
        // Some answers are lost, and some calls come too fast.
        let result = match told.len() {
            2 => Err(TransportError::Timeout),
            5 => answer(429, ""),
            _ => answer(202, ""),
        };
        settled(&mut account, call, result, now);
        now += 5 * SECOND;
    }
    assert_eq!(told, [1, 2, 2, 3, 4, 4, 5, 6, 7]);
}

#[test]
fn a_call_is_of_one_list_and_others_do_not_wait_for_it() {
    let mut now = Instant::now();
    let mut account = account(now);
    for seq in 1..=300 {
        let list = ["A", "B", ""][seq as usize % 3];
        add(&mut account, consent(seq, "subscribe", &seq.to_string(), list), now);
    }
    let mut sizes = Vec::new();
    while sizes.len() < 3 {
        match next(&mut account, now) {
            Some(call) => sizes.push(call.carried.messages.len()),
            None => now += SOON,
        }
    }
    assert_eq!(sizes, [100, 100, 100]);
}

#[test]
fn a_bad_one_harms_only_itself() {
    let mut now = Instant::now();
    let mut account = account(now);
    for seq in 1..=100 {
        add(&mut account, consent(seq, "suppress", &seq.to_string(), ""), now);
    }
    let mut dead = Vec::new();
    let (mut accepted, mut calls) = (0, 0);
    while let Some(call) = next(&mut account, now) {
        assert_eq!(lane(&call), &SUPPRESS);
        calls += 1;
        let at = seqs(&call).iter().position(|seq| *seq == 42);
        let result = at.map_or_else(|| answer(202, ""), refused_at);
        for (seq, ending) in endings(settled(&mut account, call, result, now)) {
            match ending {
                Ending::Accepted { .. } => accepted += 1,
                Ending::Dead { .. } => dead.push(seq),
                Ending::Retry { .. } | Ending::Discarded { .. } => {}
            }
        }
        now += SECOND;
    }
    assert_eq!((dead, accepted), (vec![42], 99));
    assert_eq!(calls, 4, "all; the one by itself; the others by halves");
    let single = consent(101, "suppress", "101", "");
    add(&mut account, single, now);
    let call = next(&mut account, now).expect("a call");
    let ending = endings(settled(&mut account, call, refused_at(0), now));
    assert!(matches!(ending[&101], Ending::Dead { .. }), "of one it is clear at once");
}

#[test]
fn it_is_asked_first_who_is_on_the_list() {
    let mut now = Instant::now();
    let mut account = account(now);
    for (seq, who) in (1..).zip(["ada", "bob", "eve"]) {
        add(&mut account, consent(seq, "unsubscribe", who, "Y6nRLr"), now);
    }
    add(&mut account, consent(4, "unsubscribe", "ada", ""), now);
    let question = next(&mut account, now).expect("a question");
    assert_eq!((lane(&question), seqs(&question)), (&GET_LIST_PROFILES, vec![1, 2, 3]));
    assert!(
        next(&mut account, now).is_none(),
        "nothing goes before the answer, and nothing of the same person"
    );
    let told = endings(settled(&mut account, question, on_the_list(&["ada", "eve"]), now));
    let (seq, ending) = told.iter().next().expect("one is not on it");
    let Ending::Dead { failure, .. } = ending else { panic!("{ending:?}") };
    assert_eq!((told.len(), *seq, failure.code.as_str()), (1, 2, "not_on_list"));
    let call = next(&mut account, now).expect("the call");
    assert_eq!((lane(&call), seqs(&call)), (&UNSUBSCRIBE, vec![1, 3]));
    settled(&mut account, call, answer(202, ""), now);
    now += SECOND;
    let everywhere = next(&mut account, now).expect("what asks nothing");
    assert_eq!((lane(&everywhere), seqs(&everywhere)), (&UNSUBSCRIBE, vec![4]));
}

#[test]
fn an_answer_is_good_for_a_while() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, consent(1, "unsubscribe", "ada", "Y6nRLr"), now);
    for _ in 0..3 {
        let question = next(&mut account, now).expect("a question");
        assert_eq!(lane(&question), &GET_LIST_PROFILES);
        settled(&mut account, question, on_the_list(&["ada"]), now);
        let call = next(&mut account, now).expect("the call");
        assert_eq!(lane(&call), &UNSUBSCRIBE);
        // Klaviyo is to be left alone for longer than that.
        let rate = Answer { retry_after: Some(60 * SECOND), ..answer(429, "").expect("an answer") };
        settled(&mut account, call, Ok(rate), now);
        assert!(next(&mut account, now + SECOND).is_none());
        now += 62 * SECOND;
    }
}

#[test]
fn what_may_have_been_done_is_not_held_against_it() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, consent(1, "unsubscribe", "ada", "Y6nRLr"), now);
    add(&mut account, Message { may_be_done: true, ..consent(2, "unsubscribe", "bob", "Y6nRLr") }, now);
    let question = next(&mut account, now).expect("a question");
    let told = endings(settled(&mut account, question, on_the_list(&["ada"]), now));
    assert!(matches!(told[&2], Ending::Accepted { status: 200, .. }), "an earlier life has done it");
    let call = next(&mut account, now).expect("the call");
    settled(&mut account, call, Err(TransportError::Timeout), now);
    now += SECOND;
    let again = loop {
        match next(&mut account, now) {
            Some(call) => break call,
            None => now += SECOND,
        }
    };
    // The last answer is still good, but for what has been done since.
    assert_eq!(lane(&again), &GET_LIST_PROFILES);
    let told = endings(settled(&mut account, again, on_the_list(&[]), now));
    assert!(matches!(told[&1], Ending::Accepted { status: 200, .. }));
}

#[test]
fn a_question_without_a_good_answer_is_asked_again() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, consent(1, "unsubscribe", "ada", "Y6nRLr"), now);
    for result in [answer(503, ""), answer(200, "<html>"), Err(TransportError::Timeout)] {
        let question = loop {
            match next(&mut account, now) {
                Some(call) => break call,
                None => now += SECOND,
            }
        };
        assert_eq!(lane(&question), &GET_LIST_PROFILES);
        let told = endings(settled(&mut account, question, result, now));
        assert!(matches!(told[&1], Ending::Retry { .. }), "{told:?}");
    }
    now += 60 * SECOND;
    let question = next(&mut account, now).expect("a question");
    let missing = r#"{"errors":[{"code":"not_found","detail":"There is no such list."}]}"#;
    let told = endings(settled(&mut account, question, answer(404, missing), now));
    assert!(matches!(&told[&1], Ending::Dead { failure, .. } if failure.code == "not_found"), "{told:?}");
}

#[test]
fn without_calls_of_many_all_goes_one_by_one() {
    let now = Instant::now();
    let mut account = account(now);
    for seq in 1..=3 {
        add(&mut account, consent(seq, "subscribe", &seq.to_string(), ""), now);
    }
    let policy = Policy { bulk: false, ..POLICY };
    let call = account.next_call(now, &policy, &mut Vec::new()).expect("a call");
    assert_eq!((seqs(&call), call.carried.is_bulk()), (vec![1], false));
}

/// Klaviyo's answer about a job.
fn job(status: &str) -> Result<Answer, TransportError> {
    let body = format!(
        r#"{{"data":{{"type":"profile-suppression-bulk-create-job","id":"J1","attributes":{{"status":"{status}","total_count":1}}}}}}"#
    );
    answer(if status == "queued" { 202 } else { 200 }, &body)
}

/// An account with a suppression and, behind it, its contrary; the job of the first is under way.
fn with_a_job(now: Instant) -> Account {
    let mut account = account(now);
    add(&mut account, consent(1, "suppress", "ada", ""), now);
    add(&mut account, consent(2, "unsuppress", "ada", ""), now);
    let call = next(&mut account, now).expect("a call");
    assert!(settled(&mut account, call, job("queued"), now).outcomes.is_empty(), "it is not done yet");
    assert!(next(&mut account, now).is_none(), "nothing overtakes it");
    account
}

#[test]
fn a_suppression_is_at_its_end_when_its_job_is() {
    let mut now = Instant::now();
    let mut account = with_a_job(now);
    for status in ["queued", "processing"] {
        let question = awaited(&mut account, &mut now);
        assert_eq!(lane(&question), &GET_SUPPRESS_JOB);
        assert!(settled(&mut account, question, job(status), now).outcomes.is_empty());
    }
    let question = awaited(&mut account, &mut now);
    let told = endings(settled(&mut account, question, job("complete"), now));
    let accepted = Ending::Accepted {
        status: 202,
        resource_id: Some("J1".to_owned()),
        state_of: Vec::new(),
        answer: None,
    };
    assert_eq!(told[&1], accepted);
    let then = awaited(&mut account, &mut now);
    assert_eq!((lane(&then), seqs(&then)), (&UNSUPPRESS, vec![2]));
}

#[test]
fn a_job_that_was_cancelled_is_made_again() {
    let mut now = Instant::now();
    let mut account = with_a_job(now);
    let question = awaited(&mut account, &mut now);
    let told = endings(settled(&mut account, question, job("cancelled"), now));
    assert!(matches!(&told[&1], Ending::Retry { failure, .. } if failure.code == "job_cancelled"));
    let again = awaited(&mut account, &mut now);
    assert_eq!((lane(&again), seqs(&again)), (&SUPPRESS, vec![1]));
}

#[test]
fn a_job_that_nobody_tells_of_is_as_good_as_done() {
    let forbidden = || answer(403, r#"{"errors":[{"code":"permission_denied","detail":"no"}]}"#);
    let unknown = || answer(404, r#"{"errors":[{"code":"not_found","detail":"no"}]}"#);
    for (result, patience) in [(&forbidden as &dyn Fn() -> _, 1), (&unknown, 300)] {
        let start = Instant::now();
        let mut now = start;
        let mut account = with_a_job(now);
        loop {
            let question = awaited(&mut account, &mut now);
            let told = endings(settled(&mut account, question, result(), now));
            if matches!(told.get(&1), Some(Ending::Accepted { .. })) {
                break;
            }
        }
        assert!(now - start >= Duration::from_millis(500) && now - start < (patience + 61) * SECOND);
        assert_eq!(seqs(&awaited(&mut account, &mut now)), [2]);
    }
}

#[test]
fn of_a_removed_account_a_job_under_way_is_done() {
    let now = Instant::now();
    let reports = with_a_job(now).forget(now);
    assert!(matches!(reports[0].outcomes[0].ending, Ending::Accepted { .. }));
}

/// After an outage, however long, what waits goes together again; and what Klaviyo fails at is found all the same.
#[test]
fn an_outage_parts_nobody_and_a_message_that_klaviyo_fails_at_is_found() {
    let mut now = Instant::now();
    let mut account = account(now);
    for seq in 1..=1_000 {
        add(&mut account, consent(seq, "subscribe", &seq.to_string(), ""), now);
    }
    for _ in 0..30 {
        let call = awaited(&mut account, &mut now);
        settled(&mut account, call, answer(503, ""), now);
    }
    now += 60 * SECOND;
    // First goes what has found out, by itself, that it was not over.
    let mut probes = 0;
    let together = loop {
        let call = awaited(&mut account, &mut now);
        if call.carried.messages.len() > 1 {
            break call;
        }
        probes += 1;
        settled(&mut account, call, answer(202, ""), now);
    };
    assert!((1..=30).contains(&probes) && together.carried.messages.len() > 950, "{probes}");
    // Of these it answers one with an error of its own, and the connection breaks at another.
    let (mut result, mut call) = (Some(together), None);
    let (mut accepted, mut dead, mut calls) = (BTreeSet::new(), BTreeSet::new(), 0);
    let bad = |call: &Call, seq: i64| seqs(call).contains(&seq);
    while let Some(next) = result.take().or_else(|| call.take()) {
        calls += 1;
        let answer = match (bad(&next, 500), bad(&next, 700)) {
            (true, _) => answer(500, ""),
            (_, true) => Err(TransportError::Lost("reset".to_owned())),
            _ => answer(202, ""),
        };
        for (seq, ending) in endings(settled(&mut account, next, answer, now)) {
            match ending {
                Ending::Accepted { .. } => drop(accepted.insert(seq)),
                Ending::Dead { .. } => drop(dead.insert(seq)),
                Ending::Retry { .. } | Ending::Discarded { .. } => {}
            }
        }
        // A little traffic of others tells a bad message from a bad day.
        let other = 10_000 + calls;
        now += SECOND;
        add(&mut account, consent(other, "subscribe", &other.to_string(), ""), now);
        call = (calls < 3_000 && dead.is_empty()).then(|| awaited(&mut account, &mut now));
    }
    assert_eq!(dead, BTreeSet::from([500]), "after {calls} calls");
    let left: Vec<i64> = (1..=1_000).filter(|seq| !accepted.contains(seq)).collect();
    assert!(left.len() < 60 && left.contains(&700), "{left:?}");
}

fn request(seq: i64, who: &str) -> DeletionRequest {
    let id = *Uuid::from_u128(seq.unsigned_abs().into()).as_bytes();
    DeletionRequest { id, seq, identifier: format!("email:{who}@b.example"), until: None, readmitted: None }
}

/// What waits about a person is of no use once that person is to be deleted; what is under way is waited for.
#[test]
fn what_waits_about_somebody_who_is_to_be_deleted_is_discarded() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, consent(1, "subscribe", "ada", ""), now);
    let under_way = next(&mut account, now).expect("a call");
    let history = Message {
        backfill: true,
        key: vec!["history:email:ada@b.example".to_owned()],
        ..message(4, "event", "x")
    };
    for other in [
        consent(2, "unsubscribe", "ada", ""),
        consent(3, "subscribe", "bob", ""),
        history,
        Message {
            key: vec!["email:ada@b.example".to_owned(), "phone_number:+15005550006".to_owned()],
            ..message(5, "event", "x")
        },
        Message { key: vec!["phone_number:+15005550006".to_owned()], ..message(6, "event", "x") },
    ] {
        add(&mut account, other, now);
    }
    let payload = r#"{"email":"ada@b.example"}"#.to_owned();
    let key = ["email:ada@b.example", "history:email:ada@b.example"].map(str::to_owned).to_vec();
    let deletion = Message { payload, key, rides: false, ..consent(7, "deletion", "ada", "") };
    let by = deletion.id;
    let report = account.discard(vec![request(7, "ada")], now).expect("a report");
    assert!(account.add(vec![deletion], now).is_none());
    let mut discarded: Vec<i64> = report.outcomes.iter().map(|outcome| outcome.seq).collect();
    discarded.sort_unstable();
    assert_eq!(discarded, [2, 4, 5], "but nothing of others, who share a number");
    assert!(report.outcomes.iter().all(|outcome| outcome.ending == Ending::Discarded { by }));
    assert_eq!(seqs(&awaited(&mut account, &mut now)), [3], "who has nothing to do with it");
    settled(&mut account, under_way, answer(202, ""), now);
    for expected in [6, 7] {
        let call = awaited(&mut account, &mut now);
        assert_eq!(seqs(&call), [expected]);
        settled(&mut account, call, answer(202, ""), now);
    }
}

/// Also before the message is at hand that asks Klaviyo; and who has been readmitted since is a customer like any other.
#[test]
fn what_is_under_way_when_a_request_is_told_does_not_come_back() {
    let now = Instant::now();
    let later = now + SECOND;
    let mut account = account(now);
    for seq in [1, 5] {
        add(&mut account, consent(seq, "subscribe", &format!("user-{seq}"), ""), now);
    }
    let call = next(&mut account, now).expect("a call");
    assert_eq!(seqs(&call), [1, 5]);
    // In whatever order: what was made later reaches further.
    let requests = [(6, "user-5"), (3, "user-1"), (2, "user-5")].map(|(seq, person)| request(seq, person));
    assert!(account.discard(requests.to_vec(), later).is_none());
    let report = settled(&mut account, call, answer(503, ""), later);
    let discarded = report.outcomes.iter().filter_map(|outcome| match outcome.ending {
        Ending::Discarded { by } => Some((outcome.seq, by)),
        _ => None,
    });
    let by = |seq| request(seq, "").id;
    assert_eq!(discarded.collect::<Vec<_>>(), [(1, by(3)), (5, by(6))]);
    let after = later + 60 * SECOND;
    add(&mut account, consent(8, "subscribe", "user-1", ""), after);
    let mut now = after;
    let back = awaited(&mut account, &mut now);
    assert_eq!(settled(&mut account, back, answer(503, ""), after).outcomes.len(), 1, "it is tried again");
    let readmitted = DeletionRequest { readmitted: Some(7), ..request(3, "user-1") };
    assert!(
        account.discard(vec![readmitted], after + SECOND).is_none(),
        "nor does it go for the same request"
    );
}

#[test]
fn what_fails_while_the_person_is_to_be_deleted_is_not_tried_again() {
    let now = Instant::now();
    let mut account = account(now);
    add(&mut account, consent(1, "subscribe", "ada", ""), now);
    let under_way = next(&mut account, now).expect("a call");
    let deletion = Message {
        payload: r#"{"email":"ada@b.example"}"#.to_owned(),
        rides: false,
        ..consent(2, "deletion", "ada", "")
    };
    assert!(account.add(vec![deletion], now).is_none());
    assert!(account.discard(vec![request(2, "ada")], now).is_none());
    let report = settled(&mut account, under_way, answer(503, ""), now);
    // First it has failed, and then it is useless.
    let endings: Vec<&Ending> = report.outcomes.iter().map(|outcome| &outcome.ending).collect();
    assert!(matches!(endings[..], [Ending::Retry { .. }, Ending::Discarded { .. }]), "{endings:?}");
    assert_eq!(seqs(&next(&mut account, now).expect("the request")), [2]);
}

/// What Klaviyo fails at is found also where each of its calls comes after a question that is answered.
#[test]
fn a_message_that_asks_first_is_found_as_well() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, consent(1, "unsubscribe", "bad", "Y6nRLr"), now);
    for other in 10_000.. {
        let call = awaited(&mut account, &mut now);
        let bad = seqs(&call).contains(&1);
        let people: Vec<String> = seqs(&call).iter().map(ToString::to_string).collect();
        let people: Vec<&str> = people.iter().map(|seq| if seq == "1" { "bad" } else { seq }).collect();
        let result = match (lane(&call) == &GET_LIST_PROFILES, bad) {
            (true, _) => on_the_list(&people),
            (false, true) => answer(500, ""),
            (false, false) => answer(202, ""),
        };
        let told = endings(settled(&mut account, call, result, now));
        if told.get(&1).is_some_and(|ending| matches!(ending, Ending::Dead { .. })) {
            return;
        }
        assert!(other < 10_200, "it is never found");
        now += SECOND;
        add(&mut account, consent(other, "unsubscribe", &other.to_string(), "Y6nRLr"), now);
    }
}

#[test]
fn of_a_removed_account_an_answer_to_a_question_brings_nothing() {
    let now = Instant::now();
    let mut account = account(now);
    add(&mut account, consent(1, "unsubscribe", "ada", "Y6nRLr"), now);
    let question = next(&mut account, now).expect("a question");
    account.forget(now);
    assert!(settled(&mut account, question, on_the_list(&["ada"]), now).outcomes.is_empty());
}

/// What fails in one lane is not held against what others have done in another.
#[test]
fn failures_count_by_the_lane() {
    let mut now = Instant::now();
    let mut account = account(now);
    for seq in 1..=20 {
        add(&mut account, consent(seq, "unsubscribe", &seq.to_string(), "Y6nRLr"), now);
        let question = awaited(&mut account, &mut now);
        let who = seq.to_string();
        settled(&mut account, question, on_the_list(&[&who]), now);
        let call = awaited(&mut account, &mut now);
        assert_eq!(lane(&call), &UNSUBSCRIBE);
        // The first calls of this lane: of their failure nobody knows whose doing it is.
        let report = settled(&mut account, call, answer(if seq == 20 { 500 } else { 202 }, ""), now);
        let ending = &report.outcomes[0].ending;
        assert!(matches!(ending, Ending::Accepted { .. } | Ending::Retry { strikes: 0, .. }), "{ending:?}");
    }
}
