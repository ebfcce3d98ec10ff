use std::collections::{BTreeMap, BTreeSet};

use klaviyo::{
    Answer, BULK_CREATE_EVENTS, BULK_IMPORT_PROFILES, ENDPOINTS, Endpoint, GET_IMPORT_JOB, GET_IMPORT_JOBS,
    REVISION, TransportError,
};
use uuid::Uuid;

use super::*;
use crate::account::{Account, AccountOptions};
use crate::backoff::Backoff;
use crate::kind;
use crate::message::{Ending, Message, Parked};

pub(crate) const POLICY: Policy = Policy {
    backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(60) },
    max_strikes: 3,
    max_in_flight: 64,
    bulk: true,
    given_ids: true,
    list_ttl: Duration::from_secs(600),
    request_timeout: Duration::from_secs(30),
};

/// When the next call is due that is not full, the limits being what they are here.
pub(crate) const SOON: Duration = Duration::from_millis(1);

/// More than single calls may carry in a second.
pub(crate) const BACKLOG: i64 = 1_500;

pub(crate) fn account(now: Instant) -> Account {
    account_with(1e6, now)
}

pub(crate) fn account_with(rate_share: f64, now: Instant) -> Account {
    let options = AccountOptions {
        name: "default".into(),
        session: Some(Session::new("http://127.0.0.1:1", REVISION, "pk").expect("a session")),
        rate_share,
        place: None,
        stale: None,
    };
    Account::new(options, now)
}

pub(crate) fn message(seq: i64, kind: &str, key: &str) -> Message {
    let id = Uuid::from_u128(seq.unsigned_abs().into());
    let payload = match kind {
        "event" => format!(
            r#"{{"profile":{{"external_id":"{key}"}},"event":{{"properties":{{"n":{seq}}},"unique_id":"{id}"}}}}"#
        ),
        _ => format!(r#"{{"external_id":"{key}","title":"{seq}"}}"#),
    };
    Message {
        seq,
        id: *id.as_bytes(),
        kind: kind::find(kind).expect("a kind"),
        key: vec![key.to_owned()],
        payload,
        enqueued_at: SystemTime::UNIX_EPOCH,
        attempts: 0,
        strikes: 0,
        wait: Duration::ZERO,
        redriven: false,
        rides: true,
        unique_id: None,
        carries_state: kind == "profile",
        backfill: false,
        may_be_done: false,
    }
}

/// Hands in a message, of which no job has locked the key.
pub(crate) fn add(account: &mut Account, message: Message, now: Instant) {
    assert_eq!(account.queue().add(message, now), None);
}

fn with_backlog(now: Instant) -> Account {
    let mut account = account(now);
    (1..=BACKLOG).for_each(|seq| add(&mut account, message(seq, "event", &seq.to_string()), now));
    account
}

pub(crate) fn next(account: &mut Account, now: Instant) -> Option<Call> {
    account.next_call(now, &POLICY, &mut Vec::new())
}

/// The next call, whenever it may be.
pub(crate) fn awaited(account: &mut Account, now: &mut Instant) -> Call {
    loop {
        match next(account, *now) {
            Some(call) => return call,
            None => *now = account.wakes_at(*now, &POLICY).expect("something to wait for").max(*now + SOON),
        }
    }
}

pub(crate) fn lane(call: &Call) -> &'static Endpoint {
    ENDPOINTS[call.lane]
}

pub(crate) fn seqs(call: &Call) -> Vec<i64> {
    call.carried.messages.iter().map(|queued| queued.message.seq).collect()
}

pub(crate) fn answer(status: u16, body: &str) -> Result<Answer, TransportError> {
    Ok(Answer { status, rate: None, retry_after: None, body: body.as_bytes().to_vec() })
}

/// What Klaviyo says to a call when all is well: a job is complete when it is first asked about.
fn well(call: &Call) -> Result<Answer, TransportError> {
    let job = |status: &str| {
        format!(
            r#"{{"data":{{"type":"profile-bulk-import-job","id":"01J","attributes":{{"status":"{status}","total_count":1}}}}}}"#
        )
    };
    match *ENDPOINTS[call.lane] {
        BULK_IMPORT_PROFILES => answer(202, &job("queued")),
        GET_IMPORT_JOBS => answer(200, r#"{"data":[]}"#),
        GET_IMPORT_JOB => answer(200, &job("complete")),
        _ => answer(202, ""),
    }
}

fn refusal(pointer: Option<String>) -> Result<Answer, TransportError> {
    let source = pointer.map(|pointer| format!(r#","source":{{"pointer":"{pointer}"}}"#)).unwrap_or_default();
    answer(400, &format!(r#"{{"errors":[{{"code":"invalid","detail":"no"{source}}}]}}"#))
}

/// Ends a call, and returns how it ended for each message.
fn end(
    account: &mut Account,
    call: Call,
    result: Result<Answer, TransportError>,
    now: Instant,
) -> BTreeMap<i64, Ending> {
    endings(settled(account, call, result, now))
}

/// Ends a call, and settles it as the worker does.
pub(crate) fn settled(
    account: &mut Account,
    call: Call,
    result: Result<Answer, TransportError>,
    now: Instant,
) -> Report {
    let report = account.ended(call, result, now, &POLICY);
    if let Some(lane) = report.lane {
        account.lane(lane.name).expect("a lane").settled();
    }
    for ImportReport { id, step } in &report.imports {
        if matches!(step, ImportStep::Made { .. }) {
            assert!(account.barred(*id).is_none(), "it is not over yet");
        }
    }
    report
}

pub(crate) fn endings(report: Report) -> BTreeMap<i64, Ending> {
    report.outcomes.into_iter().map(|outcome| (outcome.seq, outcome.ending)).collect()
}

/// Makes all calls until nothing is left. `refuses` says of a call's messages whether Klaviyo refuses it, and what at.
/// Returns the dead, and how many calls of many there were.
fn drain(
    account: &mut Account,
    mut now: Instant,
    refuses: impl Fn(&Call) -> Option<Result<Answer, TransportError>>,
) -> (BTreeSet<i64>, usize) {
    let (mut dead, mut bulk) = (BTreeSet::new(), 0);
    loop {
        let Some(call) = next(account, now) else {
            let Some(wake) = account.wakes_at(now, &POLICY) else { return (dead, bulk) };
            now = wake;
            continue;
        };
        bulk += usize::from(call.carried.is_bulk());
        let result = refuses(&call).unwrap_or_else(|| well(&call));
        let endings = end(account, call, result, now);
        dead.extend(
            endings.iter().filter(|(_, ending)| matches!(ending, Ending::Dead { .. })).map(|(seq, _)| seq),
        );
    }
}

#[test]
fn a_backlog_goes_in_calls_of_many_and_little_goes_at_once() {
    let now = Instant::now();
    let mut account = with_backlog(now);
    let first = next(&mut account, now).expect("a call");
    assert_eq!(ENDPOINTS[first.lane], &BULK_CREATE_EVENTS);
    assert_eq!(seqs(&first), (1..=1_000).collect::<Vec<_>>(), "the oldest, as many as may be");
    let second = next(&mut account, now + SOON).expect("another");
    assert_eq!(seqs(&second), (1_001..=1_500).collect::<Vec<_>>());
    account.queue().add(message(1_501, "event", "new"), now);
    let third = next(&mut account, now).expect("what comes to an empty queue");
    assert!(!third.carried.is_bulk() && seqs(&third) == [1_501]);
    for call in [first, second, third] {
        let number = call.carried.messages.len();
        let endings = end(&mut account, call, answer(202, ""), now);
        assert_eq!(endings.len(), number);
        assert!(endings.values().all(|ending| matches!(ending, Ending::Accepted { .. })));
    }
    assert!(next(&mut account, now).is_none());
}

#[test]
fn calls_that_are_not_full_are_made_evenly() {
    let start = Instant::now();
    let mut account = account_with(1.0, start);
    let mut seq = 0;
    let mut queue = |account: &mut Account, number: i64, now: Instant| {
        (0..number).for_each(|_| {
            seq += 1;
            account.queue().add(message(seq, "event", &seq.to_string()), now);
        });
    };
    let bulk = |account: &mut Account, now: Instant| {
        let mut carried = Vec::new();
        while let Some(call) = next(account, now) {
            if call.carried.is_bulk() {
                carried.push(call.carried.messages.len());
            }
            end(account, call, answer(202, ""), now);
        }
        carried
    };
    queue(&mut account, 900, start);
    assert_eq!(bulk(&mut account, start), [900], "the first at once");
    queue(&mut account, 900, start);
    // What single calls may carry goes by these.
    assert_eq!(bulk(&mut account, start), [0; 0]);
    let due = start + Duration::from_millis(400);
    assert_eq!(account.wakes_at(start, &POLICY), Some(due));
    let late = due + Duration::from_millis(30);
    assert_eq!(bulk(&mut account, late), [900 - 350]);
    queue(&mut account, 900, late);
    assert_eq!(bulk(&mut account, late), [0; 0]);
    let due = start + Duration::from_millis(800);
    assert_eq!(account.wakes_at(late, &POLICY), Some(due), "a late one makes the next no later");
    queue(&mut account, 2_200, late);
    assert_eq!(bulk(&mut account, late), [1_000; 3], "full ones at once");
}

#[test]
fn no_key_is_in_two_calls_and_none_overtakes() {
    let now = Instant::now();
    let mut account = account(now);
    for seq in 1..=800 {
        // Of key 1 there is an event, a state, and more events.
        let kind = if seq == 11 { "profile" } else { "event" };
        account.queue().add(message(seq, kind, &(seq % 10).to_string()), now);
    }
    let bulk = next(&mut account, now).expect("a call");
    let carried = seqs(&bulk);
    assert_eq!(carried.iter().filter(|seq| *seq % 10 == 1).copied().collect::<Vec<_>>(), [1]);
    assert_eq!(carried.len(), 721);
    for key in 0..10 {
        assert!(carried.iter().filter(|seq| *seq % 10 == key).is_sorted(), "of one key in their order");
    }
    assert!(next(&mut account, now).is_none(), "what is left is of keys that are in a call");
    end(&mut account, bulk, answer(202, ""), now);
    let state = next(&mut account, now).expect("the state");
    assert_eq!(seqs(&state), [11]);
    assert!(next(&mut account, now).is_none());
}

#[test]
fn what_klaviyo_points_at_goes_by_itself_and_the_rest_goes_on() {
    const BAD: i64 = 777;
    let now = Instant::now();
    let mut account = with_backlog(now);
    let (dead, bulk) = drain(&mut account, now, |call| {
        let at = seqs(call).iter().position(|seq| *seq == BAD)?;
        let place =
            format!("/data/attributes/events-bulk-create/data/{at}/attributes/events/data/0/attributes/time");
        Some(refusal(call.carried.is_bulk().then_some(place)))
    });
    assert_eq!(dead, [BAD].into());
    assert!(bulk <= 5, "{bulk} calls of many");
}

#[test]
fn what_klaviyo_does_not_point_at_is_found_by_halving() {
    let now = Instant::now();
    let mut account = with_backlog(now);
    let bad: BTreeSet<i64> = [1, 500, 501, 1_333].into();
    let (dead, bulk) = drain(&mut account, now, |call| {
        seqs(call).iter().any(|seq| bad.contains(seq)).then(|| refusal(None))
    });
    assert_eq!(dead, bad);
    assert!(bulk < 60, "{bulk} calls of many");
}

#[test]
fn what_may_have_been_taken_never_rides_again() {
    let now = Instant::now();
    for (result, rides) in [
        (Err(TransportError::Timeout), false),
        (Err(TransportError::Lost("reset".to_owned())), false),
        (answer(503, ""), false),
        (Err(TransportError::Connect("refused".to_owned())), true),
        (answer(429, ""), true),
        (answer(401, ""), true),
    ] {
        let mut account = with_backlog(now);
        let call = next(&mut account, now).expect("a call");
        let what = format!("{result:?}");
        let carried: BTreeSet<i64> = seqs(&call).into_iter().collect();
        let endings = end(&mut account, call, result, now);
        assert!(endings.values().all(|ending| matches!(ending, Ending::Retry { .. })), "{what}");
        let mut again = BTreeSet::new();
        let mut late = now + Duration::from_secs(600);
        while let Some(call) = next(&mut account, late) {
            if call.carried.is_bulk() {
                again.extend(seqs(&call).into_iter().filter(|seq| carried.contains(seq)));
            }
            end(&mut account, call, answer(202, ""), late);
            late += Duration::from_secs(1);
        }
        assert_eq!(!again.is_empty(), rides, "{what}");
    }
}

#[test]
fn what_may_have_been_sent_before_goes_by_itself() {
    let now = Instant::now();
    let mut account = account(now);
    for seq in 1..=BACKLOG {
        let before = message(seq, "event", &seq.to_string());
        account.queue().add(
            match seq % 2 {
                0 => Message { rides: false, ..before },
                _ => Message { attempts: 1, ..before },
            },
            now,
        );
    }
    assert_eq!(drain(&mut account, now, |_| None), (BTreeSet::new(), 0));
}

#[test]
fn an_outage_is_probed_with_single_calls() {
    let mut now = Instant::now();
    let mut account = account(now);
    (1..=10_000).for_each(|seq| add(&mut account, message(seq, "event", &seq.to_string()), now));
    let (mut bulk, mut single) = (0, 0);
    for _ in 0..200 {
        while let Some(call) = next(&mut account, now) {
            *(if call.carried.is_bulk() { &mut bulk } else { &mut single }) += 1;
            end(&mut account, call, answer(503, ""), now);
        }
        now += Duration::from_secs(5);
    }
    assert!((5..=8).contains(&bulk), "{bulk} calls of many in vain");
    assert!(single > 20, "{single} calls of one");
    let (dead, bulk) = drain(&mut account, now, |_| None);
    assert!(dead.is_empty() && bulk > 0, "{bulk} calls of many afterwards");
}

/// Whatever happens: a key is in one call at a time and in order, and everything is accepted in the end.
#[test]
fn order_holds_under_random_play() {
    let mut jobs = 0;
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut now = Instant::now();
        let mut account = account(now);
        let mut accepted: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let mut calls: Vec<Call> = Vec::new();
        let mut messages = BTreeMap::new();
        // What each job is made of, and those that are over.
        let mut loads: BTreeMap<ImportId, Vec<(i64, usize)>> = BTreeMap::new();
        let mut over: Vec<ImportId> = Vec::new();
        let mut parked: Vec<Parked> = Vec::new();
        let mut left = 0;
        for seq in 1..=3_000 {
            // In every other play there are enough profiles for jobs.
            let profiles = if seed % 2 == 0 { 1 } else { 10 };
            let kind = if random.u8(0..20) < profiles { "profile" } else { "event" };
            let rides = random.u8(0..10) > 0;
            let backfill = random.u8(0..3) == 0;
            let message = Message { rides, backfill, ..message(seq, kind, &random.u16(0..600).to_string()) };
            messages.insert(seq, message.clone());
            account.queue().add(message, now);
            left += 1;
        }
        while left > 0 {
            while let Some(call) = next(&mut account, now) {
                jobs += usize::from(matches!(call.purpose, Purpose::Import(_)));
                calls.push(call);
                let mut busy = BTreeSet::new();
                let in_jobs = loads.values().map(|load| load.iter().map(|(seq, _)| *seq).collect());
                for seqs in calls.iter().map(seqs).chain(in_jobs) {
                    let own: BTreeSet<&str> = seqs.iter().map(|seq| messages[seq].key[0].as_str()).collect();
                    own.into_iter().for_each(|key| assert!(busy.insert(key), "{key} is in two calls"));
                }
                if random.bool() {
                    break;
                }
            }
            let mut reports = Vec::new();
            if calls.is_empty() && over.is_empty() {
                now = account.wakes_at(now, &POLICY).expect("something to wait for");
                continue;
            }
            if !over.is_empty() && (calls.is_empty() || random.bool()) {
                let id = over.swap_remove(random.usize(0..over.len()));
                let load = loads.remove(&id).expect("it was made").into_iter();
                let load = load.map(|(seq, place)| (messages[&seq].clone(), place)).collect();
                reports.push(account.recall(id, load, true, (now, &POLICY)).expect("it is over"));
                // All in their order, so that what still is locked comes back with what is behind it.
                parked.sort_unstable_by_key(|parked| parked.seq);
                let again = parked.iter().map(|parked| messages[&parked.seq].clone());
                parked = again.filter_map(|message| account.queue().add(message, now)).collect();
            } else {
                let call = calls.swap_remove(random.usize(0..calls.len()));
                let result = match random.u8(0..10) {
                    0 => answer(503, ""),
                    1 => answer(429, ""),
                    2 if call.carried.is_bulk() => refusal(None),
                    _ => well(&call),
                };
                let load = call.announcement().map(|(_, report)| report.imports);
                let report = settled(&mut account, call, result, now);
                for ImportReport { id, step } in &report.imports {
                    match (step, load.as_deref()) {
                        (
                            ImportStep::Made { .. },
                            Some([ImportReport { step: ImportStep::Announced { messages }, .. }]),
                        ) => {
                            loads.insert(*id, messages.clone());
                        }
                        (ImportStep::Over { .. }, _) => over.push(*id),
                        _ => {}
                    }
                }
                parked.extend(report.parked.iter().cloned());
                reports.push(report);
            }
            for (seq, ending) in reports.into_iter().flat_map(endings) {
                if matches!(ending, Ending::Accepted { .. }) {
                    accepted.entry(messages[&seq].key[0].clone()).or_default().push(seq);
                    left -= 1;
                }
            }
        }
        assert!(accepted.values().all(|seqs| seqs.is_sorted()), "seed {seed}");
    }
    assert!(jobs > 5, "{jobs} jobs");
}
