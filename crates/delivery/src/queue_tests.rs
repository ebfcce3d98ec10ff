use std::time::{Duration, SystemTime};

use super::groups::IDENTIFIERS;
use super::*;
use crate::kind;

const EVENTS: Line = Line { lane: 0, backfill: false };
const PROFILES: Line = Line { lane: 1, backfill: false };
const LINES: [Line; 4] =
    [EVENTS, PROFILES, Line { lane: 0, backfill: true }, Line { lane: 1, backfill: true }];

fn queue() -> Queue {
    Queue::new()
}

fn body(request: &Request) -> String {
    String::from_utf8(request.body().to_vec()).expect("text")
}

fn message(seq: i64, kind: &str, key: &[&str]) -> Message {
    let payload = match kind {
        "event" => format!(r#"{{"profile":{{"external_id":"x"}},"event":{{"n":{seq}}}}}"#),
        _ => format!(r#"{{"external_id":"x","n{seq}":{seq}}}"#),
    };
    Message {
        seq,
        id: [0; 16],
        kind: kind::find(kind).expect("a kind"),
        key: key.iter().map(|text| (*text).to_owned()).collect(),
        payload,
        enqueued_at: SystemTime::UNIX_EPOCH,
        attempts: 0,
        strikes: 0,
        wait: Duration::ZERO,
        redriven: false,
        rides: false,
        unique_id: None,
        carries_state: kind == "profile",
        backfill: false,
        may_be_done: false,
    }
}

/// The seqs of the next call of a line, and the call.
fn call(queue: &mut Queue, line: Line, now: Instant) -> Option<(Vec<i64>, GroupId, Vec<Queued>)> {
    match queue.next(line, true, now)? {
        Next::Call { group, messages, .. } => {
            Some((messages.iter().map(|queued| queued.message.seq).collect(), group, messages))
        }
        Next::Cancelled { .. } | Next::Unsendable { .. } => panic!("unsendable"),
    }
}

#[test]
fn one_of_a_key_at_a_time_oldest_first_across_lanes() {
    let now = Instant::now();
    let mut queue = queue();
    for (seq, kind) in [(3, "event"), (1, "event"), (2, "profile")] {
        queue.add(message(seq, kind, &["a"]), now);
    }
    queue.add(message(4, "event", &["b"]), now);
    let (seqs, group, sent) = call(&mut queue, EVENTS, now).expect("the first of a");
    assert_eq!(seqs, [1]);
    assert_eq!(call(&mut queue, EVENTS, now).expect("b is not held up").0, [4]);
    assert!(queue.ready(EVENTS, true) == 0 && queue.ready(PROFILES, true) == 0);
    queue.ended(group, &sent, vec![], now);
    assert!(queue.ready(EVENTS, true) == 0, "2 goes before 3");
    let (seqs, group, sent) = call(&mut queue, PROFILES, now).expect("the second");
    assert_eq!(seqs, [2]);
    queue.ended(group, &sent, vec![], now);
    assert_eq!(call(&mut queue, EVENTS, now).expect("the third").0, [3]);
}

#[test]
fn a_message_with_two_identifiers_ties_two_keys_even_with_calls_under_way() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add(message(1, "event", &["email"]), now);
    queue.add(message(2, "event", &["id"]), now);
    let (_, first, sent_first) = call(&mut queue, EVENTS, now).expect("1");
    let (_, second, sent_second) = call(&mut queue, EVENTS, now).expect("2, not known to be the same");
    queue.add(message(3, "event", &["email", "id"]), now);
    queue.add(message(4, "event", &["id"]), now);
    assert!(queue.ready(EVENTS, true) == 0);
    queue.ended(first, &[], sent_first, now);
    assert!(queue.ready(EVENTS, true) == 0, "the other call is still under way");
    queue.ended(second, &sent_second, vec![], now);
    for expected in [1, 3, 4] {
        let (seqs, group, sent) = call(&mut queue, EVENTS, now).expect("in order");
        assert_eq!(seqs, [expected]);
        assert!(queue.ready(EVENTS, true) == 0);
        queue.ended(group, &sent, vec![], now);
    }
    assert!(queue.groups.is_empty() && queue.by_identifier.is_empty() && queue.joined.is_empty());
    queue.add(message(5, "event", &["email"]), now);
    queue.add(message(6, "event", &["id"]), now);
    assert_eq!(call(&mut queue, EVENTS, now).expect("5").0, [5]);
    assert!(queue.ready(EVENTS, true) == 0, "that they are one profile is remembered");
}

#[test]
fn states_side_by_side_merge_and_an_event_between_keeps_them_apart() {
    let now = Instant::now();
    let mut queue = queue();
    for (seq, kind) in [(1, "profile"), (2, "profile"), (3, "event"), (4, "profile")] {
        queue.add(message(seq, kind, &["a"]), now);
    }
    let Some(Next::Call { group, messages, request }) = queue.next(PROFILES, true, now) else {
        panic!("a call")
    };
    assert_eq!(messages.len(), 2);
    let body = body(&request);
    assert!(body.contains("\"n1\":1") && body.contains("\"n2\":2") && !body.contains("\"n4\""), "{body}");
    let mut alone = messages;
    alone.iter_mut().for_each(|queued| queued.alone = true);
    queue.ended(group, &[], alone, now);
    assert_eq!(call(&mut queue, PROFILES, now).expect("refused together, sent alone").0, [1]);
}

#[test]
fn backoff_holds_the_key_and_only_the_key() {
    let now = Instant::now();
    let later = now + Duration::from_secs(5);
    let mut queue = queue();
    queue.add(message(1, "event", &["a"]), now);
    queue.add(message(2, "event", &["a"]), now);
    let (_, group, mut sent) = call(&mut queue, EVENTS, now).expect("1");
    sent[0].not_before = Some(later);
    queue.ended(group, &[], sent, now);
    queue.add(message(3, "event", &["b"]), now);
    assert_eq!(call(&mut queue, EVENTS, now).expect("b").0, [3]);
    assert!(queue.ready(EVENTS, true) == 0);
    assert_eq!(queue.wakes_at(), Some(later));
    queue.wake(later);
    assert_eq!(call(&mut queue, EVENTS, later).expect("1 again").0, [1]);
}

#[test]
fn a_redriven_state_never_follows_a_newer_one() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add(message(7, "profile", &["a"]), now);
    let (_, group, sent) = call(&mut queue, PROFILES, now).expect("7");
    queue.add(Message { redriven: true, ..message(5, "profile", &["a"]) }, now);
    queue.ended(group, &sent, vec![], now);
    let Some(Next::Unsendable { message: queued, code, .. }) = queue.next(PROFILES, true, now) else {
        panic!("superseded while it waited");
    };
    assert_eq!((queued.message.seq, code), (5, "superseded"));
    queue.add(Message { redriven: true, ..message(6, "profile", &["a"]) }, now);
    assert!(
        matches!(queue.next(PROFILES, true, now), Some(Next::Unsendable { .. })),
        "remembered when all is sent"
    );
    queue.add(Message { redriven: true, ..message(8, "profile", &["a"]) }, now);
    queue.add(Message { redriven: true, ..message(2, "event", &["a"]) }, now);
    assert!(queue.ready(PROFILES, true) == 0, "the event is older");
    assert_eq!(call(&mut queue, EVENTS, now).expect("events are no states").0, [2]);
}

/// So many others' states are accepted while it waits that nobody remembers who the newer one was of.
#[test]
fn a_redriven_state_that_waits_long_never_follows_a_newer_one() {
    for comes_first in [true, false] {
        let now = Instant::now();
        let mut queue = queue();
        let wait = Duration::from_secs(100);
        let old = Message { redriven: true, wait, ..message(5, "profile", &["a", "b"]) };
        if comes_first {
            queue.add(old.clone(), now);
        }
        queue.accepted(&message(7, "profile", &["a"]));
        if !comes_first {
            queue.add(old, now);
        }
        for seq in 0..3 * REMEMBERED as i64 {
            queue.accepted(&message(10 + seq, "profile", &[&format!("other-{seq}")]));
        }
        assert!(queue.newest.get(&key::identifiers(&["a".to_owned()])[0]).is_none());
        queue.wake(now + wait);
        let Some(Next::Unsendable { message: queued, code: "superseded", .. }) =
            queue.next(PROFILES, true, now)
        else {
            panic!("superseded, {comes_first}");
        };
        assert_eq!(queue.newer(&queued), Some(7));
    }
}

/// Guests share a number, more of them than are taken for one profile.
#[test]
fn a_redriven_state_follows_newer_ones_of_other_profiles() {
    let now = Instant::now();
    let mut queue = queue();
    for guest in 0..20 {
        queue.add(message(guest, "event", &["number", &format!("guest-{guest}")]), now);
    }
    queue.add(Message { redriven: true, ..message(-1, "profile", &["guest-0"]) }, now);
    assert_eq!(queue.groups.len(), 1);
    queue.accepted(&message(30, "profile", &["guest-19"]));
    assert_eq!(call(&mut queue, PROFILES, now).expect("not superseded").0, [-1]);
}

/// The newer one named the profile by another identifier; which belong together is known from a third message.
#[test]
fn a_redriven_state_never_follows_a_newer_one_under_another_identifier() {
    let now = Instant::now();
    let mut queue = queue();
    queue.link(&["email".to_owned(), "id".to_owned()]);
    queue.add(message(20, "profile", &["id"]), now);
    let (_, group, sent) = call(&mut queue, PROFILES, now).expect("20");
    queue.ended(group, &sent, vec![], now);
    queue.add(Message { redriven: true, ..message(10, "profile", &["email"]) }, now);
    let Some(Next::Unsendable { message: queued, code: "superseded", .. }) = queue.next(PROFILES, true, now)
    else {
        panic!("superseded");
    };
    assert_eq!(queue.newer(&queued), Some(20));
}

#[test]
fn a_foreign_payload_is_put_aside() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add(Message { payload: "[]".to_owned(), ..message(1, "event", &["a"]) }, now);
    queue.add(message(2, "event", &["a"]), now);
    assert!(matches!(
        queue.next(EVENTS, true, now),
        Some(Next::Unsendable { code: "malformed_payload", .. })
    ));
    assert_eq!(call(&mut queue, EVENTS, now).expect("the next").0, [2]);
}

/// One number that every guest is given, and always another guest.
#[test]
fn a_group_that_is_never_empty_forgets_whom_it_was_about() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add(message(0, "event", &["number", "guest 0"]), now);
    for seq in 1..5_000 {
        queue.add(message(seq, "event", &["number", &format!("guest {seq}")]), now);
        let (seqs, group, sent) = call(&mut queue, EVENTS, now).expect("the oldest");
        assert_eq!(seqs, [seq - 1]);
        queue.ended(group, &sent, vec![], now);
        assert!(queue.by_identifier.len() < 4 * IDENTIFIERS, "{}", queue.by_identifier.len());
    }
    let (_, group, sent) = call(&mut queue, EVENTS, now).expect("the last");
    queue.ended(group, &sent, vec![], now);
    assert!(queue.groups.is_empty() && queue.by_identifier.is_empty());
}

/// Many keys, random ends: no key is ever in two calls, and each keeps its order.
#[test]
fn order_holds_under_random_play() {
    for seed in 0..50 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        let mut queue = queue();
        let names: Vec<String> = (0..12).map(|n| n.to_string()).collect();
        let mut under_way: Vec<(GroupId, Vec<Queued>)> = Vec::new();
        let mut done: Vec<(i64, Vec<String>)> = Vec::new();
        let mut seq = 0;
        while seq < 400 || !under_way.is_empty() || LINES.iter().any(|line| queue.ready(*line, true) > 0) {
            if seq < 400 && dice.bool() {
                seq += 1;
                let profile = dice.usize(0..6);
                // Two identifiers a profile, either or both of which a message names.
                let both = [names[profile * 2].as_str(), names[profile * 2 + 1].as_str()];
                let key = match dice.u8(0..3) {
                    0 => &both[..1],
                    1 => &both[1..],
                    _ => &both[..],
                };
                let backfill = dice.u8(0..3) == 0;
                let kind = if dice.bool() { "event" } else { "profile" };
                queue.add(Message { backfill, ..message(seq, kind, key) }, now);
            }
            if let Some((_, group, messages)) = call(&mut queue, LINES[dice.usize(0..4)], now) {
                under_way.push((group, messages));
            }
            if !under_way.is_empty() && dice.bool() {
                let (group, mut messages) = under_way.swap_remove(dice.usize(0..under_way.len()));
                if dice.u8(0..4) == 0 {
                    messages.iter_mut().for_each(|queued| queued.alone = dice.bool());
                    queue.ended(group, &[], messages, now);
                } else {
                    done.extend(
                        messages.iter().map(|queued| (queued.message.seq, queued.message.key.clone())),
                    );
                    queue.ended(group, &messages, vec![], now);
                }
            }
        }
        assert_eq!(done.len(), 400, "seed {seed}");
        for name in &names {
            let seqs: Vec<i64> =
                done.iter().filter(|(_, key)| key.contains(name)).map(|(seq, _)| *seq).collect();
            assert!(seqs.is_sorted(), "seed {seed}, key {name}: {seqs:?}");
        }
        assert!(queue.groups.is_empty() && queue.joined.is_empty());
    }
}

#[test]
fn a_stale_event_goes_as_history_or_is_put_aside_and_a_state_goes_as_ever() {
    let now = Instant::now();
    let [long, day] = [3 * 24, 24].map(|hours| Duration::from_secs(hours * 3_600));
    let old = |seq, kind, redriven| Message {
        enqueued_at: SystemTime::now() - long,
        redriven,
        ..message(seq, kind, &[&seq.to_string()])
    };
    for (action, redriven, expected) in [
        (StaleAction::Backfill, false, Some(true)),
        (StaleAction::DeadLetter, false, None),
        (StaleAction::DeadLetter, true, Some(true)),
    ] {
        let mut queue = Queue::new();
        queue.stale = Some(Stale { after: day, action });
        queue.add(old(1, "event", redriven), now);
        let sent = match queue.next(EVENTS, true, now).expect("the event") {
            Next::Call { request, .. } => Some(body(&request).contains("\"backfill\":true")),
            Next::Cancelled { .. } => panic!("nobody cancels it"),
            Next::Unsendable { code, .. } => {
                assert_eq!(code, "stale");
                None
            }
        };
        assert_eq!(sent, expected, "{action:?}, redriven: {redriven}");
        queue.add(old(2, "profile", false), now);
        assert!(matches!(queue.next(PROFILES, true, now), Some(Next::Call { .. })));
        queue.add(Message { enqueued_at: SystemTime::now(), ..old(3, "event", false) }, now);
        let Some(Next::Call { request, .. }) = queue.next(EVENTS, true, now) else { panic!("a fresh event") };
        assert!(!body(&request).contains("backfill"));
    }
}

#[test]
fn keys_of_a_job_are_locked_until_its_own_end() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add(message(1, "profile", &["a"]), now);
    queue.add(message(2, "profile", &["b"]), now);
    let (_, first, _) = call(&mut queue, PROFILES, now).expect("a's");
    let (one, _) = queue.lock(&[(first, 1)], now);
    let (_, second, _) = call(&mut queue, PROFILES, now).expect("b's");
    // While the second is on its way it turns out that both are one.
    let third = message(3, "profile", &["a", "b"]);
    assert!(queue.add(third.clone(), now).is_some());
    let (other, _) = queue.lock(&[(second, 1)], now);
    queue.unlock(&other, now);
    assert!(queue.add(third.clone(), now).is_some(), "the first job still has a's state");
    queue.unlock(&one, now);
    assert!(queue.add(third, now).is_none());
    assert_eq!(call(&mut queue, PROFILES, now).expect("the third").0, [3]);
    assert!(queue.locked.is_empty());
}

#[test]
fn what_a_message_brings_together_is_locked_for_all_its_jobs() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add(message(1, "profile", &["a"]), now);
    queue.add(message(2, "profile", &["b"]), now);
    let (_, first, _) = call(&mut queue, PROFILES, now).expect("a's");
    let (_, second, _) = call(&mut queue, PROFILES, now).expect("b's");
    queue.add(message(3, "profile", &["a", "b"]), now);
    let [(one, parked), (other, _)] = [first, second].map(|group| queue.lock(&[(group, 1)], now));
    let identifiers = key::identifiers(&["a".to_owned(), "b".to_owned()]);
    assert_eq!(parked.len(), 1);
    assert!(parked[0].seq == 3 && identifiers.iter().all(|it| parked[0].identifiers.contains(it)));
    let third = message(3, "profile", &["a", "b"]);
    queue.unlock(&one, now);
    assert!(queue.add(third.clone(), now).is_some(), "the second job still has b's state");
    queue.unlock(&other, now);
    assert!(queue.add(third, now).is_none());
    assert_eq!(call(&mut queue, PROFILES, now).expect("the third").0, [3]);
    assert!(queue.locked.is_empty());
}

#[test]
fn what_comes_back_from_a_job_goes_before_what_came_later() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add(message(1, "profile", &["a"]), now);
    let (_, group, _) = call(&mut queue, PROFILES, now).expect("a's");
    let (locks, _) = queue.lock(&[(group, 1)], now);
    assert!(queue.groups.is_empty() && queue.by_identifier.is_empty(), "it takes no memory");
    assert!(queue.add(message(2, "event", &["a"]), now).is_some());
    let (back, groups) = queue.recall(vec![message(1, "profile", &["a"])], 1, now);
    queue.unlock(&locks, now);
    assert!(queue.add(message(2, "event", &["a"]), now).is_none());
    assert!(call(&mut queue, EVENTS, now).is_none(), "what becomes of the first is not known yet");
    queue.ended(groups[0].0, &[], back, now);
    assert!(queue.ready(EVENTS, true) == 0, "1 goes again before 2");
    assert_eq!(call(&mut queue, PROFILES, now).expect("the first").0, [1]);
}

#[test]
fn what_has_been_tried_stays_though_its_key_is_locked_and_so_what_it_must_go_after() {
    let now = Instant::now();
    let mut queue = queue();
    let redriven = |seq| Message { redriven: true, ..message(seq, "event", &["a"]) };
    queue.add(message(1, "profile", &["a"]), now);
    let (_, group, _) = call(&mut queue, PROFILES, now).expect("the first");
    for seq in 2..=6 {
        queue.add(if seq == 4 { redriven(seq) } else { message(seq, "event", &["a"]) }, now);
    }
    let (locks, parked) = queue.lock(&[(group, 1)], now);
    assert_eq!(parked.iter().map(|parked| parked.seq).collect::<Vec<_>>(), [5, 6]);
    queue.add(message(7, "event", &["a"]), now).expect("nothing waits for it");
    assert!(queue.add(redriven(9), now).is_none());
    assert!(queue.add(message(8, "event", &["a"]), now).is_none(), "9 must not go before it");
    assert_eq!(queue.ready(EVENTS, true), 0);
    queue.unlock(&locks, now);
    for seq in 5..=7 {
        assert!(queue.add(message(seq, "event", &["a"]), now).is_none());
    }
    for seq in 2..=9 {
        let (seqs, group, sent) = call(&mut queue, EVENTS, now).expect("a call");
        assert_eq!(seqs, [seq]);
        queue.ended(group, &sent, vec![], now);
    }
}

/// Else what names only that identifier would find nobody waiting.
#[test]
fn what_could_not_stay_keeps_its_other_identifiers_locked() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add(message(1, "profile", &["a"]), now);
    let (_, group, _) = call(&mut queue, PROFILES, now).expect("the first");
    let (locks, _) = queue.lock(&[(group, 1)], now);
    queue.add(message(2, "event", &["a", "b"]), now).expect("a is locked");
    // So many are called the same that it is not remembered whose they are.
    (10..30).for_each(|n| queue.link(&["b".to_owned(), n.to_string()]));
    let parked = queue.add(message(3, "event", &["b"]), now).expect("2 must go before it");
    assert_eq!(parked.seq, 3);
    queue.unlock(&locks, now);
    assert!(queue.groups.is_empty() && queue.by_identifier.is_empty());
    assert!(queue.add(message(2, "event", &["a", "b"]), now).is_none());
}

#[test]
fn ids_of_the_users_own_ride_while_they_may() {
    let (mut queue, now) = (Queue::new(), Instant::now());
    let given = |seq: i64| Message {
        rides: true,
        unique_id: Some([1; 16]),
        ..message(seq, "event", &[&seq.to_string()])
    };
    let alone_and_all = |queue: &Queue| (queue.ready(EVENTS, false), queue.ready(EVENTS, true));
    queue.add(given(1), now);
    queue.add(Message { unique_id: None, ..given(2) }, now);
    assert_eq!((alone_and_all(&queue), queue.riding(EVENTS)), ((0, 2), 2));
    queue.allow_given_ids(false, now);
    queue.add(given(3), now);
    assert_eq!((alone_and_all(&queue), queue.riding(EVENTS)), ((2, 3), 1));
    queue.allow_given_ids(true, now);
    queue.add(given(4), now);
    assert_eq!((alone_and_all(&queue), queue.riding(EVENTS)), ((2, 4), 2), "those of before stay alone");
}
