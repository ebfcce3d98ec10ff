//! Lists by their names, and lists that come and go.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use klaviyo::{
    Answer, CREATE_LIST, DELETE_LIST, GET_LIST_PROFILES, GET_LISTS, SUBSCRIBE, TransportError, UNSUBSCRIBE,
    UPDATE_LIST,
};

use super::*;
use crate::call::tests::{account, add, answer, awaited, endings, lane, message, next, seqs, settled};
use crate::message::Message;

const SECOND: Duration = Duration::from_secs(1);

fn consent(seq: i64, kind: &str, list: &str) -> Message {
    let payload = format!(r#"{{"list_name":"{list}","profile":{{"email":"{seq}@b.example"}}}}"#);
    Message { payload, carries_state: false, ..message(seq, kind, &format!("email:{seq}@b.example")) }
}

fn change(seq: i64, kind: &str, payload: &str, key: &str) -> Message {
    Message { payload: payload.to_owned(), rides: false, carries_state: false, ..message(seq, kind, key) }
}

fn create(seq: i64) -> Message {
    change(seq, "list_create", r#"{"new_list":"VIP"}"#, "list_name:VIP")
}

fn lists(lists: &[(&str, &str)]) -> Result<Answer, TransportError> {
    let list = |(id, name): &(&str, &str)| {
        format!(r#"{{"type":"list","id":"{id}","attributes":{{"name":"{name}"}}}}"#)
    };
    answer(200, &format!(r#"{{"data":[{}]}}"#, lists.iter().map(list).collect::<Vec<_>>().join(",")))
}

fn body(call: &Call) -> String {
    String::from_utf8_lossy(call.request.as_ref().expect("a request").body()).into_owned()
}

#[test]
fn a_name_is_asked_about_once_for_all_and_known_for_a_while() {
    let mut now = Instant::now();
    let mut account = account(now);
    account.know_lists_for(60 * SECOND);
    for seq in 1..=2_000 {
        add(&mut account, consent(seq, "subscribe", "VIP"), now);
    }
    let question = next(&mut account, now).expect("a question");
    assert_eq!((lane(&question), seqs(&question).len()), (&GET_LISTS, 1_000));
    assert!(settled(&mut account, question, lists(&[("Y6nRLr", "VIP")]), now).outcomes.is_empty());
    for _ in 0..2 {
        let call = awaited(&mut account, &mut now);
        assert_eq!((lane(&call), seqs(&call).len()), (&SUBSCRIBE, 1_000));
        assert!(body(&call).contains(r#""id":"Y6nRLr""#));
        settled(&mut account, call, answer(202, ""), now);
    }
    // From a list it is asked as ever who is on it.
    add(&mut account, consent(3_000, "unsubscribe", "VIP"), now);
    let question = awaited(&mut account, &mut now);
    assert_eq!(lane(&question), &GET_LIST_PROFILES);
    let member = r#"{"data":[{"type":"profile","id":"01","attributes":{"email":"3000@b.example"}}]}"#;
    settled(&mut account, question, answer(200, member), now);
    let call = awaited(&mut account, &mut now);
    assert_eq!(lane(&call), &UNSUBSCRIBE);
    settled(&mut account, call, answer(202, ""), now);
    now += 61 * SECOND;
    add(&mut account, consent(4_000, "subscribe", "VIP"), now);
    assert_eq!(lane(&awaited(&mut account, &mut now)), &GET_LISTS, "Klaviyo may know better by now");
}

#[test]
fn a_name_that_no_list_has_or_several_is_told() {
    for (found, code) in [(&[][..], "no_such_list"), (&[("A", "VIP"), ("B", "VIP")], "ambiguous_list")] {
        let now = Instant::now();
        let mut account = account(now);
        add(&mut account, consent(1, "subscribe", "VIP"), now);
        add(&mut account, change(2, "list_delete", r#"{"list_name":"VIP"}"#, "list_name:VIP"), now);
        let (mut now, mut dead) = (now, 0);
        while dead < 2 {
            let question = awaited(&mut account, &mut now);
            assert_eq!(lane(&question), &GET_LISTS);
            for ending in endings(settled(&mut account, question, lists(found), now)).values() {
                assert!(matches!(ending, Ending::Dead { failure, .. } if failure.code == code), "{ending:?}");
                dead += 1;
            }
        }
    }
}

#[test]
fn a_list_is_made_once_whatever_becomes_of_the_answer() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, create(1), now);
    add(&mut account, consent(2, "subscribe", "VIP"), now);
    let question = awaited(&mut account, &mut now);
    assert_eq!((lane(&question), seqs(&question)), (&GET_LISTS, vec![1]));
    assert!(settled(&mut account, question, lists(&[]), now).outcomes.is_empty());
    let create_call = awaited(&mut account, &mut now);
    assert_eq!(lane(&create_call), &CREATE_LIST);
    // What needs it waits until it is there.
    let question = awaited(&mut account, &mut now);
    assert_eq!((lane(&question), seqs(&question)), (&GET_LISTS, vec![2]));
    assert!(settled(&mut account, question, lists(&[]), now).outcomes.is_empty());
    let told = endings(settled(&mut account, create_call, Err(TransportError::Timeout), now));
    assert!(matches!(told[&1], Ending::Retry { .. }));
    let mut done = 0;
    while done < 2 {
        let call = awaited(&mut account, &mut now);
        assert_ne!(lane(&call), &CREATE_LIST, "it has been made");
        let result = if lane(&call) == &GET_LISTS { lists(&[("Y6nRLr", "VIP")]) } else { answer(202, "") };
        for (seq, ending) in endings(settled(&mut account, call, result, now)) {
            let Ending::Accepted { resource_id, .. } = ending else { panic!("{ending:?}") };
            assert_eq!(resource_id.as_deref(), (seq == 1).then_some("Y6nRLr"));
            done += 1;
        }
    }
    // Whoever asks for another one is told that there is one.
    add(&mut account, create(3), now);
    let question = awaited(&mut account, &mut now);
    let told = endings(settled(&mut account, question, lists(&[("Y6nRLr", "VIP")]), now));
    assert!(matches!(&told[&3], Ending::Dead { failure, .. } if failure.code == "list_exists"), "{told:?}");
}

/// Klaviyo may not find it by its name yet.
#[test]
fn a_list_that_was_just_made_is_known() {
    let mut now = Instant::now();
    let mut account = account(now);
    account.know_lists_for(60 * SECOND);
    add(&mut account, create(1), now);
    let question = awaited(&mut account, &mut now);
    settled(&mut account, question, lists(&[]), now);
    let call = awaited(&mut account, &mut now);
    let made = r#"{"data":{"type":"list","id":"Y6nRLr","attributes":{"name":"VIP"}}}"#;
    settled(&mut account, call, answer(201, made), now);
    add(&mut account, consent(2, "subscribe", "VIP"), now);
    let call = awaited(&mut account, &mut now);
    assert_eq!(lane(&call), &SUBSCRIBE);
    assert!(body(&call).contains(r#""id":"Y6nRLr""#));
}

#[test]
fn a_list_that_is_gone_is_known_by_no_name() {
    let mut now = Instant::now();
    let mut account = account(now);
    account.know_lists_for(60 * SECOND);
    add(&mut account, change(1, "list_delete", r#"{"list_name":"VIP"}"#, "list_name:VIP"), now);
    let question = awaited(&mut account, &mut now);
    settled(&mut account, question, lists(&[("Y6nRLr", "VIP")]), now);
    let call = awaited(&mut account, &mut now);
    assert_eq!(lane(&call), &DELETE_LIST);
    settled(&mut account, call, Err(TransportError::Timeout), now);
    let call = awaited(&mut account, &mut now);
    let missing = r#"{"errors":[{"code":"not_found","detail":"There is no such list."}]}"#;
    let told = endings(settled(&mut account, call, answer(404, missing), now));
    assert!(matches!(told[&1], Ending::Accepted { status: 404, .. }), "{told:?}");
    add(&mut account, consent(2, "subscribe", "VIP"), now);
    assert_eq!(lane(&awaited(&mut account, &mut now)), &GET_LISTS);
}

/// What of a list is asked when its turn has come: what is before it may give the name to another.
#[test]
fn a_name_means_what_it_means_when_its_turn_has_come() {
    let mut now = Instant::now();
    let mut account = account(now);
    account.know_lists_for(60 * SECOND);
    for message in [
        change(1, "list_rename", r#"{"list_name":"VIP","name":"Old"}"#, "list_name:VIP"),
        create(2),
        change(3, "list_delete", r#"{"list_name":"VIP"}"#, "list_name:VIP"),
    ] {
        add(&mut account, message, now);
    }
    let mut there = BTreeMap::from([("XXXXXX", "VIP")]);
    let mut done = 0;
    while done < 3 {
        let call = awaited(&mut account, &mut now);
        let result = match *lane(&call) {
            GET_LISTS => lists(&there.iter().map(|(id, name)| (*id, *name)).collect::<Vec<_>>()),
            UPDATE_LIST => {
                there.insert("XXXXXX", "Old");
                answer(200, "{}")
            }
            CREATE_LIST => {
                there.insert("YYYYYY", "VIP");
                answer(201, r#"{"data":{"id":"YYYYYY"}}"#)
            }
            _ => {
                there.retain(|id, _| call.request != Some(Request::to(&DELETE_LIST, id, Vec::new())));
                answer(204, "")
            }
        };
        let ended = endings(settled(&mut account, call, result, now));
        done += ended.values().filter(|ending| matches!(ending, Ending::Accepted { .. })).count();
        assert!(ended.values().all(|ending| matches!(ending, Ending::Accepted { .. })), "{ended:?}");
    }
    assert_eq!(there, BTreeMap::from([("XXXXXX", "Old")]));
}

/// Nobody can undo it, so what is known of the name is not enough.
#[test]
fn a_list_that_is_to_be_deleted_is_asked_for() {
    let mut now = Instant::now();
    let mut account = account(now);
    account.know_lists_for(60 * SECOND);
    add(&mut account, consent(1, "subscribe", "VIP"), now);
    let question = awaited(&mut account, &mut now);
    settled(&mut account, question, lists(&[("XXXXXX", "VIP")]), now);
    let call = awaited(&mut account, &mut now);
    settled(&mut account, call, answer(202, ""), now);
    add(&mut account, change(2, "list_delete", r#"{"list_name":"VIP"}"#, "list_name:VIP"), now);
    assert_eq!(lane(&awaited(&mut account, &mut now)), &GET_LISTS);
}

#[test]
fn an_answer_of_before_a_change_is_not_kept() {
    let mut now = Instant::now();
    let mut account = account(now);
    account.know_lists_for(60 * SECOND);
    add(&mut account, consent(1, "subscribe", "VIP"), now);
    let question = awaited(&mut account, &mut now);
    assert_eq!(lane(&question), &GET_LISTS);
    add(&mut account, change(2, "list_rename", r#"{"list":"XXXXXX","name":"Old"}"#, "list:XXXXXX"), now);
    let rename = awaited(&mut account, &mut now);
    assert_eq!(lane(&rename), &UPDATE_LIST);
    now += SECOND;
    settled(&mut account, rename, answer(200, "{}"), now);
    settled(&mut account, question, lists(&[("XXXXXX", "VIP")]), now);
    let call = awaited(&mut account, &mut now);
    assert_eq!((lane(&call), seqs(&call)), (&SUBSCRIBE, vec![1]));
    add(&mut account, consent(3, "subscribe", "VIP"), now);
    assert_eq!(lane(&awaited(&mut account, &mut now)), &GET_LISTS);
}

/// It was asked before the list was made, and answered after.
#[test]
fn what_comes_too_late_to_an_answer_is_not_missed() {
    for known_for in [Duration::ZERO, 60 * SECOND] {
        let mut now = Instant::now();
        let mut account = account(now);
        account.know_lists_for(known_for);
        add(&mut account, create(1), now);
        let question = awaited(&mut account, &mut now);
        settled(&mut account, question, lists(&[]), now);
        let create = awaited(&mut account, &mut now);
        assert_eq!(lane(&create), &CREATE_LIST);
        add(&mut account, consent(2, "subscribe", "VIP"), now);
        let question = awaited(&mut account, &mut now);
        now += SECOND;
        settled(&mut account, create, answer(201, r#"{"data":{"id":"YYYYYY"}}"#), now);
        assert!(settled(&mut account, question, lists(&[]), now).outcomes.is_empty());
        let mut call = awaited(&mut account, &mut now);
        if lane(&call) == &GET_LISTS {
            settled(&mut account, call, lists(&[("YYYYYY", "VIP")]), now);
            call = awaited(&mut account, &mut now);
        }
        assert_eq!((lane(&call), seqs(&call)), (&SUBSCRIBE, vec![2]));
        assert!(body(&call).contains(r#""id":"YYYYYY""#));
    }
}

fn another_key() -> AccountOptions {
    AccountOptions {
        name: "default".into(),
        session: Some(Session::new("http://127.0.0.1:2", klaviyo::REVISION, "pk").expect("a session")),
        rate_share: 1e6,
        place: None,
        stale: None,
    }
}

#[test]
fn another_key_may_be_of_another_account() {
    let mut now = Instant::now();
    let mut account = account(now);
    account.know_lists_for(60 * SECOND);
    add(&mut account, consent(1, "subscribe", "VIP"), now);
    let question = awaited(&mut account, &mut now);
    settled(&mut account, question, lists(&[("XXXXXX", "VIP")]), now);
    account.set(another_key(), now);
    assert_eq!(lane(&awaited(&mut account, &mut now)), &GET_LISTS, "also what has been told");
}

/// The last call may have been what has done it.
#[test]
fn a_list_that_was_deleted_before_a_restart_is_gone() {
    let now = Instant::now();
    let mut account = account(now);
    let again = change(1, "list_delete", r#"{"list_name":"VIP"}"#, "list_name:VIP");
    add(&mut account, Message { may_be_done: true, attempts: 1, ..again }, now);
    let question = next(&mut account, now).expect("a question");
    let told = endings(settled(&mut account, question, lists(&[]), now));
    assert!(matches!(told[&1], Ending::Accepted { .. }), "{told:?}");
}

/// Two that may have been done, while Klaviyo takes no such calls: neither has the other ask without end.
#[test]
fn what_may_have_been_done_wakes_nobody() {
    let mut now = Instant::now();
    let mut account = account(now);
    account.know_lists_for(60 * SECOND);
    for (seq, name) in [(1, "A"), (2, "B")] {
        let payload = format!(r#"{{"list_name":"{name}","name":"New {name}"}}"#);
        add(&mut account, change(seq, "list_rename", &payload, &format!("list_name:{name}")), now);
    }
    let (mut questions, mut renames) = (0, 0);
    let start = now;
    while now < start + 300 * SECOND {
        let call = awaited(&mut account, &mut now);
        let result = match *lane(&call) {
            GET_LISTS => {
                questions += 1;
                let name = if seqs(&call) == [1] { ("XXXXXX", "A") } else { ("YYYYYY", "B") };
                lists(&[name])
            }
            _ => {
                renames += 1;
                if renames <= 2 { Err(TransportError::Timeout) } else { answer(503, "") }
            }
        };
        settled(&mut account, call, result, now);
    }
    assert!(questions <= 4 && renames > 4, "{questions} questions, {renames} calls");
}

/// Klaviyo may not find a list by its name as soon as it is made, or called so; nor do others it has just made matter.
#[test]
fn a_list_that_klaviyo_does_not_find_yet_is_not_missed() {
    let mut now = Instant::now();
    let mut account = account(now);
    account.know_lists_for(60 * SECOND);
    let mut there: Vec<(&str, &str)> = vec![("ZZZZZZ", "Old")];
    for (seq, name) in [(1, "VIP"), (2, "Other")] {
        let payload = format!(r#"{{"new_list":"{name}"}}"#);
        add(&mut account, change(seq, "list_create", &payload, &format!("list_name:{name}")), now);
    }
    add(&mut account, change(3, "list_rename", r#"{"list":"ZZZZZZ","name":"New"}"#, "list:ZZZZZZ"), now);
    for (seq, name) in [(4, "VIP"), (5, "Other"), (6, "New")] {
        add(&mut account, consent(seq, "subscribe", name), now);
    }
    // What is to become of one behind its making as well.
    add(&mut account, change(7, "list_delete", r#"{"list_name":"Other"}"#, "list_name:Other"), now);
    let (start, mut done) = (now, 0);
    while done < 7 {
        if now > start + 8 * SECOND {
            there = vec![("AAAAAA", "VIP"), ("BBBBBB", "Other"), ("ZZZZZZ", "New")];
        }
        let call = awaited(&mut account, &mut now);
        let made = |id: &str| answer(201, &format!(r#"{{"data":{{"id":"{id}"}}}}"#));
        let result = match *lane(&call) {
            GET_LISTS => lists(&there),
            CREATE_LIST => made(if seqs(&call) == [1] { "AAAAAA" } else { "BBBBBB" }),
            UPDATE_LIST => answer(200, "{}"),
            _ => answer(202, ""),
        };
        for (seq, ending) in endings(settled(&mut account, call, result, now)) {
            assert!(matches!(ending, Ending::Accepted { .. }), "{seq}: {ending:?}");
            done += 1;
        }
    }
}

#[test]
fn what_another_account_has_said_is_not_kept() {
    let mut now = Instant::now();
    let mut account = account(now);
    account.know_lists_for(60 * SECOND);
    add(&mut account, create(1), now);
    add(&mut account, consent(2, "subscribe", "Other"), now);
    let mut calls = Vec::new();
    while calls.len() < 2 {
        let call = awaited(&mut account, &mut now);
        match *lane(&call) {
            GET_LISTS if seqs(&call) == [1] => drop(settled(&mut account, call, lists(&[]), now)),
            _ => calls.push(call),
        }
    }
    account.set(another_key(), now);
    for call in calls {
        let result = match *lane(&call) {
            CREATE_LIST => answer(201, r#"{"data":{"id":"XXXXXX"}}"#),
            _ => lists(&[("YYYYYY", "Other")]),
        };
        settled(&mut account, call, result, now);
    }
    add(&mut account, consent(3, "subscribe", "VIP"), now);
    for _ in 0..2 {
        let call = awaited(&mut account, &mut now);
        assert_eq!(lane(&call), &GET_LISTS, "of {:?}", seqs(&call));
    }
}
