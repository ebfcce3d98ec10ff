use std::sync::atomic::Ordering::Relaxed;

use klaviyo::{Answer, REVISION, TransportError};

use super::*;
use crate::gauges::board;
use crate::kind;
use crate::message::Message;

const POLICY: Policy = Policy {
    backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(60) },
    max_strikes: 3,
    max_in_flight: 64,
    bulk: true,
    given_ids: true,
    list_ttl: Duration::from_secs(600),
    request_timeout: Duration::from_secs(30),
};

fn session(key: &str) -> Option<Session> {
    Some(Session::new("http://127.0.0.1:1", REVISION, key).expect("a session"))
}

fn options(key: &str) -> AccountOptions {
    AccountOptions {
        name: "default".into(),
        session: session(key),
        rate_share: 1.0,
        place: None,
        stale: None,
    }
}

fn message(seq: i64, kind: &str, key: &str) -> Message {
    let payload = match kind {
        "event" => r#"{"profile":{"a":1},"event":{"b":2}}"#.to_owned(),
        _ => format!(r#"{{"external_id":"{key}","seq":{seq}}}"#),
    };
    Message {
        seq,
        id: [0; 16],
        kind: kind::find(kind).expect("a kind"),
        key: vec![key.to_owned()],
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

fn answer(status: u16) -> Result<Answer, TransportError> {
    let body = if status >= 400 { br#"{"errors":[{"code":"c","detail":"d"}]}"#.to_vec() } else { Vec::new() };
    Ok(Answer { status, rate: None, retry_after: None, body })
}

/// What a firewall says in between.
fn foreign(status: u16) -> Result<Answer, TransportError> {
    Ok(Answer { status, rate: None, retry_after: None, body: b"<html>Forbidden</html>".to_vec() })
}

/// Makes the next call and lets it end so.
fn play(account: &mut Account, now: Instant, status: u16) -> Option<Report> {
    end(account, now, answer(status))
}

fn end(account: &mut Account, now: Instant, result: Result<Answer, TransportError>) -> Option<Report> {
    let call = account.next_call(now, &POLICY, &mut Vec::new())?;
    let report = account.ended(call, result, now, &POLICY);
    account.lane(report.lane.expect("a call").name).expect("a lane").settled();
    Some(report)
}

/// Whether a bad message dies, which fails so whenever it is tried, while of the others so many out of ten succeed.
fn day(successes_of_ten: u64, failing: fn() -> Result<Answer, TransportError>) -> bool {
    let mut now = Instant::now();
    let mut account = Account::new(options("pk"), now);
    account.queue().add(message(0, "event", "bad"), now);
    for seq in 1..4_000 {
        account.queue().add(message(seq, "event", &seq.to_string()), now);
        now += Duration::from_secs(1);
        while let Some(call) = account.next_call(now, &POLICY, &mut Vec::new()) {
            let good = call.carried.messages[0].message.seq != 0 && fastrand::u64(0..10) < successes_of_ten;
            let report = account.ended(call, if good { answer(202) } else { failing() }, now, &POLICY);
            account.lane("events").expect("a lane").settled();
            if matches!(report.outcomes[0].ending, Ending::Dead { .. }) {
                assert_eq!(report.outcomes[0].seq, 0, "only the bad one");
                return true;
            }
        }
    }
    false
}

#[test]
fn a_message_that_always_fails_is_put_aside_and_an_outage_puts_none_aside() {
    for failing in [|| answer(500), || foreign(403)] {
        assert!(day(10, failing), "all others succeed");
        assert!(!day(0, failing), "an outage, however long");
        assert!(!day(3, failing), "a bad day");
    }
    assert!(!day(10, || answer(503)), "the way to Klaviyo");
}

#[test]
fn a_foreign_refusal_holds_up_nobody_else() {
    let now = Instant::now();
    let mut account = Account::new(options("pk"), now);
    for seq in 1..=3 {
        account.queue().add(message(seq, "event", &seq.to_string()), now);
    }
    let report = end(&mut account, now, foreign(403)).expect("a call");
    assert_eq!(report.account_state, None);
    let Ending::Retry { wait, .. } = report.outcomes[0].ending else { panic!("again") };
    assert!(!wait.is_zero());
    for seq in 2..=3 {
        assert_eq!(play(&mut account, now, 202).expect("the others go on").outcomes[0].seq, seq);
    }
}

#[test]
fn a_refusal_of_many_finds_the_bad_one() {
    let now = Instant::now();
    let mut account = Account::new(options("pk"), now);
    for seq in 1..=3 {
        account.queue().add(message(seq, "profile", "a"), now);
    }
    let report = play(&mut account, now, 400).expect("one call");
    assert_eq!(report.outcomes.len(), 3);
    assert!(report.outcomes.iter().all(|outcome| matches!(outcome.ending, Ending::Retry { .. })));
    for (seq, status, dead) in [(1, 200, false), (2, 400, true), (3, 200, false)] {
        let report = play(&mut account, now, status).expect("alone");
        assert_eq!((report.outcomes.len(), report.outcomes[0].seq), (1, seq));
        assert_eq!(matches!(report.outcomes[0].ending, Ending::Dead { .. }), dead);
    }
}

#[test]
fn a_refused_key_stops_the_account_and_kills_nothing() {
    let now = Instant::now();
    let mut account = Account::new(options("pk_old"), now);
    for seq in 1..=2 {
        account.queue().add(message(seq, "event", &seq.to_string()), now);
    }
    let report = play(&mut account, now, 401).expect("a call");
    assert!(matches!(report.account_state, Some(AccountState::Stopped { .. })));
    assert!(matches!(report.outcomes[0].ending, Ending::Retry { .. }));
    assert!(play(&mut account, now, 202).is_none(), "stopped");
    let probe = account.wakes_at(now, &POLICY).expect("a probe");
    let report = play(&mut account, probe, 401).expect("the probe");
    assert_eq!((report.outcomes[0].seq, report.account_state), (2, None), "another message, and no news");
    assert!(play(&mut account, probe, 202).is_none(), "still stopped");
    let late = account.next_call(probe + POLICY.backoff.max * 3, &POLICY, &mut Vec::new()).expect("a probe");
    let report = account.set(options("pk_new"), probe).expect("news");
    assert_eq!(report.account_state, Some(AccountState::Running));
    assert_eq!(account.ended(late, answer(401), probe, &POLICY).account_state, None, "of the old key");
    assert!(play(&mut account, probe, 202).is_some(), "a new key is tried at once");
}

#[test]
fn a_new_key_lets_nothing_wait_for_what_the_old_one_met() {
    let now = Instant::now();
    let mut account = Account::new(options("pk_old"), now);
    for (seq, key) in [(2, "a"), (3, "b")] {
        account.queue().add(message(seq, "event", key), now);
    }
    let probe = (0..2).fold(now, |at, _| {
        play(&mut account, at, 401).expect("a call");
        account.wakes_at(at, &POLICY).expect("a probe")
    });
    // Redriven: now the older one is the next of its key.
    account.queue().add(message(1, "event", "a"), probe);
    account.set(options("pk_new"), now);
    let mut sent = Vec::new();
    while let Some(report) = play(&mut account, now, 202) {
        sent.push(report.outcomes[0].seq);
    }
    assert_eq!(sent, [1, 2, 3]);
}

#[test]
fn what_was_under_way_when_the_account_was_stopped_says_nothing_new() {
    let now = Instant::now();
    let mut account = Account::new(options("pk"), now);
    for seq in 1..=3 {
        account.queue().add(message(seq, "event", &seq.to_string()), now);
    }
    let [first, second] = [(); 2].map(|()| account.next_call(now, &POLICY, &mut Vec::new()).expect("a call"));
    assert!(account.ended(first, answer(401), now, &POLICY).account_state.is_some());
    assert_eq!(account.ended(second, answer(202), now, &POLICY).account_state, None);
    assert!(account.next_call(now, &POLICY, &mut Vec::new()).is_none(), "still stopped");
}

/// However often a key is refused while nothing passes.
#[test]
fn a_key_that_is_refused_for_long_costs_no_message_a_strike() {
    let mut now = Instant::now();
    let mut account = Account::new(options("pk"), now);
    for seq in 1..=5 {
        account.queue().add(message(seq, "event", &seq.to_string()), now);
    }
    for _ in 0..100 {
        now = account.wakes_at(now, &POLICY).expect("a probe");
        let Some(report) = play(&mut account, now, 401) else { continue };
        assert!(matches!(report.outcomes[0].ending, Ending::Retry { strikes: 0, .. }));
    }
    now += POLICY.backoff.max * 3;
    assert_eq!(
        play(&mut account, now, 202).expect("a probe").account_state,
        Some(AccountState::Running),
        "and then it works again"
    );
    for _ in 2..=5 {
        play(&mut account, now, 202).expect("all go at once");
    }
}

#[test]
fn a_message_that_is_refused_alone_stops_nothing_any_more_and_is_put_aside() {
    for status in [401, 403] {
        let mut now = Instant::now();
        let mut account = Account::new(options("pk"), now);
        account.queue().add(message(0, "event", "bad"), now);
        let (mut dead, mut stops) = (Vec::new(), 0);
        for seq in 1..200 {
            account.queue().add(message(seq, "event", &seq.to_string()), now);
            while let Some(call) = account.next_call(now, &POLICY, &mut Vec::new()) {
                let bad = call.carried.messages[0].message.seq == 0;
                let report = account.ended(call, answer(if bad { status } else { 202 }), now, &POLICY);
                account.lane("events").expect("a lane").settled();
                stops += u32::from(matches!(report.account_state, Some(AccountState::Stopped { .. })));
                let ended = report.outcomes.into_iter();
                dead.extend(ended.filter(|it| matches!(it.ending, Ending::Dead { .. })).map(|it| it.seq));
            }
            now += Duration::from_secs(20);
        }
        assert_eq!((dead.as_slice(), stops), (&[0][..], 1), "{status}");
    }
}

#[test]
fn a_missing_scope_stops_its_lane_and_no_other() {
    let now = Instant::now();
    let mut account = Account::new(options("pk"), now);
    account.queue().add(message(1, "profile", "a"), now);
    account.queue().add(message(2, "profile", "b"), now);
    let report = play(&mut account, now, 403).expect("a profile");
    let Some(AccountState::Stopped { reason }) = report.account_state else { panic!("stopped") };
    assert!(reason.contains("/api/profile-import") && reason.contains("profiles:write"), "{reason}");
    for seq in 3..=9 {
        account.queue().add(message(seq, "event", &seq.to_string()), now);
        assert_eq!(play(&mut account, now, 202).expect("an event").outcomes[0].seq, seq);
    }
    assert!(account.next_call(now, &POLICY, &mut Vec::new()).is_none());
    let probe = account.wakes_at(now, &POLICY).expect("a probe");
    let report = play(&mut account, probe, 201).expect("the probe");
    assert_eq!((report.outcomes[0].seq, report.account_state), (2, Some(AccountState::Running)));
    assert_eq!(play(&mut account, probe, 201).expect("the first one waits no longer").outcomes[0].seq, 1);
}

#[test]
fn a_stopped_account_is_probed_by_whatever_there_is() {
    let now = Instant::now();
    let mut account = Account::new(options("pk"), now);
    account.queue().add(message(1, "profile", "a"), now);
    play(&mut account, now, 401).expect("refused");
    account.queue().clear();
    account.queue().add(message(2, "event", "b"), now);
    let probe = account.wakes_at(now, &POLICY).expect("a probe");
    let report = play(&mut account, probe, 403).expect("the probe");
    let Some(AccountState::Stopped { reason }) = report.account_state else { panic!("something else") };
    assert!(reason.contains("events:write"), "the key is accepted, and lacks a scope: {reason}");
}

/// The messages that were refused may be gone, and no others of their lane come.
#[test]
fn a_preflight_that_passes_ends_a_stop() {
    let now = Instant::now();
    let mut account = Account::new(options("pk"), now);
    account.queue().add(message(1, "event", "a"), now);
    play(&mut account, now, 403).expect("refused");
    let later = now + Duration::from_millis(1);
    account.check();
    let statuses = std::iter::once(400).chain(std::iter::repeat(403)).take(ENDPOINTS.len());
    let reports: Vec<Report> =
        statuses.map(|status| play(&mut account, later, status).expect("a call")).collect();
    assert_eq!(reports[0].account_state, Some(AccountState::Running));
    assert_eq!(reports[1].account_state, None, "no message needs that call");
    assert!(reports.last().is_some_and(|report| report.findings.is_some()));
    assert!(play(&mut account, later, 202).is_some(), "and what has waited for it goes");
}

#[test]
fn a_removed_account_leaves_no_stop_to_its_successor() {
    let now = Instant::now();
    let mut account = Account::new(options("pk"), now);
    account.queue().add(message(1, "event", "a"), now);
    play(&mut account, now, 401).expect("refused");
    let reports = account.forget(now);
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].account_state, Some(AccountState::Running));
    account.queue().add(message(2, "profile", "b"), now);
    account.set(options("pk"), now);
    assert_eq!(play(&mut account, now, 201).expect("it is tried at once").outcomes[0].seq, 2);
}

#[test]
fn a_removed_account_leaves_its_place_and_its_late_calls_say_only_what_was_accepted() {
    let now = Instant::now();
    let board = board(1);
    let place = Some(Place { board, at: 0 });
    let mut account = Account::new(AccountOptions { place, ..options("pk") }, now);
    for seq in 1..=3 {
        account.queue().add(message(seq, "event", &seq.to_string()), now);
    }
    let calls = [202, 400, 401]
        .map(|status| (status, account.next_call(now, &POLICY, &mut Vec::new()).expect("a call")));
    assert!(account.forget(now).is_empty(), "it was not stopped");
    board.clear(0);
    for (status, call) in calls {
        let report = account.ended(call, answer(status), now, &POLICY);
        assert_eq!(report.outcomes.len(), usize::from(status == 202), "{status}");
        assert_eq!(report.account_state, None);
        account.wakes_at(now, &POLICY);
    }
    let shown = &board.accounts[0].lanes[0];
    assert_eq!((shown.calls.load(Relaxed), shown.window(0)), (0, (0, 0)), "the place is another's");
    account.set(options("pk"), now);
    account.queue().add(message(9, "event", "9"), now);
    assert!(play(&mut account, now, 202).is_some(), "and so is the account");
}

#[test]
fn an_account_that_is_not_named_leaves_its_place_to_one_that_is() {
    let now = Instant::now();
    let board = board(2);
    let place = |at| Place { board, at };
    let mut account = Account::new(AccountOptions { place: Some(place(0)), ..options("pk") }, now);
    let shows = |account: &mut Account| {
        board.clear(0);
        account.wakes_at(now, &POLICY);
        board.accounts[0].lanes[0].window(0) != (0, 0)
    };
    assert!(shows(&mut account));
    account.pause(&[place(1)], now);
    assert!(shows(&mut account), "it is nobody else's");
    account.pause(&[place(0)], now);
    assert!(!shows(&mut account));
}

#[test]
fn a_throttled_call_costs_no_strike_and_waits_as_told() {
    let now = Instant::now();
    let mut account = Account::new(options("pk"), now);
    account.queue().add(message(1, "event", "a"), now);
    let call = account.next_call(now, &POLICY, &mut Vec::new()).expect("a call");
    let retry_after = Some(Duration::from_secs(7));
    let throttled = Answer { status: 429, rate: None, retry_after, body: Vec::new() };
    let report = account.ended(call, Ok(throttled), now, &POLICY);
    let Ending::Retry { wait, strikes: 0, .. } = report.outcomes[0].ending else {
        panic!("again, no strike")
    };
    assert!(wait >= Duration::from_secs(7));
    assert!(account.next_call(now + Duration::from_secs(6), &POLICY, &mut Vec::new()).is_none());
    assert!(account.next_call(now + Duration::from_secs(8), &POLICY, &mut Vec::new()).is_some());
}

#[test]
fn without_a_session_nothing_goes() {
    let now = Instant::now();
    let mut account = Account::new(AccountOptions { session: None, ..options("pk") }, now);
    account.queue().add(message(1, "event", "a"), now);
    assert!(play(&mut account, now, 202).is_none());
    account.set(options("pk"), now);
    assert!(play(&mut account, now, 202).is_some());
}
