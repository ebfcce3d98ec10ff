use klaviyo::REVISION;

use super::*;
use crate::kind;

const POLICY: Policy = Policy {
    backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(60) },
    max_strikes: 3,
    max_in_flight: 64,
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
    }
}

fn answer(status: u16) -> Result<Answer, TransportError> {
    let body = if status >= 400 { br#"{"errors":[{"code":"c","detail":"d"}]}"#.to_vec() } else { Vec::new() };
    Ok(Answer { status, rate: None, retry_after: None, body })
}

/// Makes the next call and lets it end so.
fn play(account: &mut Account, now: Instant, status: u16) -> Option<Report> {
    let call = account.next_call(now, &POLICY, &mut Vec::new())?;
    let report = account.ended(call, answer(status), now, &POLICY);
    account.lane(report.lane.expect("a call").name).expect("a lane").settled();
    Some(report)
}

/// An account in which `bad` answers 500 whenever it is tried, and others so often out of ten.
fn day(successes_of_ten: u64) -> bool {
    let mut now = Instant::now();
    let mut account = Account::new(options("pk"), now);
    account.queue().add(message(0, "event", "bad"), now);
    for seq in 1..4_000 {
        account.queue().add(message(seq, "event", &seq.to_string()), now);
        now += Duration::from_secs(1);
        while let Some(call) = account.next_call(now, &POLICY, &mut Vec::new()) {
            let good = call.messages[0].message.seq != 0 && fastrand::u64(0..10) < successes_of_ten;
            let report = account.ended(call, answer(if good { 202 } else { 500 }), now, &POLICY);
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
    assert!(day(10), "all others succeed");
    assert!(!day(0), "an outage, however long");
    assert!(!day(3), "a bad day");
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
    let report = play(&mut account, probe, 403).expect("the probe");
    assert_eq!(report.account_state, None, "no news");
    account.set(options("pk_new"), now);
    assert!(play(&mut account, probe, 202).is_some(), "a new key is tried at once");
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
