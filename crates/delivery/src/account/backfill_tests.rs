//! History goes when nothing else waits.

use std::time::{Duration, Instant};

use klaviyo::{BULK_CREATE_EVENTS, CREATE_EVENT, ENDPOINTS};

use super::*;
use crate::call::tests::{POLICY, account_with, add, answer, message, next, seqs, settled};
use crate::message::Message;

const MINUTE: Duration = Duration::from_secs(60);

fn history(seq: i64, kind: &str, key: &str) -> Message {
    Message { backfill: true, ..message(seq, kind, key) }
}

/// Events that have no order, as they are read of the outbox.
fn with_history(number: i64, now: Instant) -> Account {
    let mut account = account_with(1.0, now);
    for seq in 1..=number {
        add(&mut account, Message { key: Vec::new(), ..history(seq, "event", "a") }, now);
    }
    account
}

/// Makes the calls that may be made within a time, each ending at once: when, in which lane, and the messages of each.
fn play(
    account: &mut Account,
    start: Instant,
    length: Duration,
    policy: &Policy,
) -> Vec<(Duration, &'static str, Vec<i64>)> {
    let (mut made, mut now) = (Vec::new(), start);
    while now < start + length {
        match account.next_call(now, policy, &mut Vec::new()) {
            Some(call) => {
                made.push((now - start, ENDPOINTS[call.lane].name, seqs(&call)));
                settled(account, call, answer(202, ""), now);
            }
            None => match account.wakes_at(now, policy) {
                Some(wake) => now = wake.max(now + Duration::from_millis(1)),
                None => break,
            },
        }
    }
    made
}

#[test]
fn it_goes_in_calls_of_many_however_little_it_is_and_anything_else_goes_before_it() {
    let now = Instant::now();
    let mut account = with_history(2_500, now);
    add(&mut account, message(2_501, "event", "a"), now);
    let first = next(&mut account, now).expect("a call");
    assert_eq!((ENDPOINTS[first.lane], seqs(&first)), (&CREATE_EVENT, vec![2_501]));
    let second = next(&mut account, now).expect("history");
    assert_eq!((ENDPOINTS[second.lane], seqs(&second)), (&BULK_CREATE_EVENTS, (1..=1_000).collect()));
    add(&mut account, message(2_502, "event", "a"), now);
    assert!(
        next(&mut account, now).is_none(),
        "a's other event is under way, and history waits for its turn"
    );
    settled(&mut account, first, answer(202, ""), now);
    assert_eq!(seqs(&next(&mut account, now).expect("nothing waits for history")), [2_502]);
}

#[test]
fn it_uses_the_limits_of_calls_of_many_evenly_and_to_the_full() {
    let now = Instant::now();
    let mut account = with_history(160_000, now);
    let made = play(&mut account, now, MINUTE, &POLICY);
    assert!(made.iter().all(|(_, lane, seqs)| *lane == BULK_CREATE_EVENTS.name && seqs.len() == 1_000));
    assert!((148..=150).contains(&made.len()), "{}", made.len());
    let half = made.iter().filter(|(at, ..)| *at < MINUTE / 2).count();
    assert!((74..=76).contains(&half), "{half}");
}

#[test]
fn a_backlog_that_comes_has_its_calls_at_once_and_what_is_left_of_them_is_filled_with_it() {
    let now = Instant::now();
    let mut account = with_history(30_000, now);
    play(&mut account, now, Duration::from_secs(5), &POLICY);
    let now = now + Duration::from_secs(5);
    for seq in 100_001..=101_800 {
        add(&mut account, message(seq, "event", &seq.to_string()), now);
    }
    let made = play(&mut account, now, Duration::from_secs(2), &POLICY);
    let of_many = || made.iter().filter(|(_, lane, _)| *lane == BULK_CREATE_EVENTS.name);
    let (at, _, first) = of_many().next().expect("a call of many");
    assert!(*at <= Duration::from_millis(400) && first.iter().all(|seq| *seq > 100_000), "{at:?}");
    let (_, _, second) = of_many().nth(1).expect("another");
    let live = second.iter().filter(|seq| **seq > 100_000).count();
    assert!(second.len() == 1_000 && live > 0 && live < 1_000, "{live} of {}", second.len());
    assert!(second[..live].iter().all(|seq| *seq > 100_000), "first what is no history");
}

#[test]
fn what_of_it_goes_by_itself_leaves_a_quarter_of_the_limits() {
    let now = Instant::now();
    let mut account = with_history(4_000, now);
    let policy = Policy { bulk: false, ..POLICY };
    let made = play(&mut account, now, MINUTE, &policy);
    assert!(made.iter().all(|(_, lane, _)| *lane == CREATE_EVENT.name));
    assert_eq!(made.len(), 3_500 * 3 / 4);
    let now = now + MINUTE - Duration::from_millis(1);
    for seq in 10_001..=10_200 {
        add(&mut account, message(seq, "event", &seq.to_string()), now);
    }
    let burst = play(&mut account, now, Duration::from_millis(1), &policy);
    assert_eq!(burst.iter().filter(|(.., seqs)| seqs[0] > 10_000).count(), 200, "at once");
}

#[test]
fn a_state_that_somebody_waits_for_is_history_no_longer() {
    let now = Instant::now();
    let mut account = account_with(1.0, now);
    for seq in 1..=200 {
        add(&mut account, history(seq, "profile", &seq.to_string()), now);
    }
    add(&mut account, message(201, "profile", "150"), now);
    let call = next(&mut account, now).expect("a call");
    assert_eq!(seqs(&call), [150, 201], "both in one, before all the rest");
}
