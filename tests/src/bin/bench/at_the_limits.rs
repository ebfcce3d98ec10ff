//! Draining at Klaviyo's real limits, which the sandbox enforces.

use std::time::{Duration, Instant};

use delivery::klaviyo::{BULK_CREATE_EVENTS, CREATE_EVENT, Endpoint, UPSERT_PROFILE};
use harness::{Fault, Receipt, Shop, count, query, sql, wait_for_worker};
use postgres::Client;

use crate::bed;
use crate::effort::Effort;
use crate::figure::{Figure, Section};

/// Klaviyo's steady window, in microseconds.
const MINUTE_US: u64 = 60_000_000;

/// Answers take 20 ms, some of them much longer.
const LATENCIES: [(u64, f64); 3] = [(20, 1.0), (40, 0.3), (250, 0.02)];

/// What is sent, and where it arrives.
const CALLS: [(&str, &Endpoint); 3] = [
    ("events, single calls", &CREATE_EVENT),
    ("events, bulk calls", &BULK_CREATE_EVENTS),
    ("profiles", &UPSERT_PROFILE),
];

/// Events that fit into a minute.
const EVENTS: u32 =
    CREATE_EVENT.limits.steady + BULK_CREATE_EVENTS.limits.steady * BULK_CREATE_EVENTS.max_items as u32;

/// Sends as fast as it may for some minutes, the worker being ended in the middle.
pub fn measure(effort: &Effort) -> Result<Vec<Section>, String> {
    let shop = bed::start(bed::shop().rate_share(1.0), false);
    let mut db = shop.connect();
    let queued = queue(&mut db, effort.minutes)?;
    let latencies =
        LATENCIES.map(|(ms, likely)| Fault::latency(Duration::from_millis(ms)).probability(likely));
    shop.sandbox.set_faults(&latencies);
    run(&shop, &mut db, effort.minutes)?;

    let receipts = shop.sandbox.receipts();
    let stats = shop.sandbox.stats();
    check(&shop, &mut db, queued)?;
    let mut figures = Vec::new();
    for (name, endpoint) in CALLS {
        let minutes = by_minute(&receipts, endpoint, effort.minutes);
        let limit = f64::from(endpoint.limits.steady);
        let all = minutes.iter().sum::<f64>() / minutes.len() as f64;
        figures.push(
            Figure::new(format!("{name}, each minute"), "calls/min", minutes)
                .against_constant("Klaviyo's limit", limit),
        );
        figures.push(
            Figure::new(format!("{name}, all minutes"), "calls/min", vec![all])
                .against_constant("Klaviyo's limit", limit),
        );
    }
    figures.push(Figure::new("events in a bulk call", "events", vec![carried(&receipts, stats.events)]));
    figures.push(Figure::new("answered 429", "calls", vec![stats.throttled as f64]));
    figures.push(Figure::new("sent twice, for the restart", "events", vec![stats.event_repeats as f64]));
    Ok(vec![Section {
        title: "Drain at Klaviyo's limits".to_owned(),
        how: format!(
            "{} minutes, events and profiles at once, more of both waiting than fits, mixed. rate_share 1; the sandbox enforces \
             windows of 1 s and 60 s whose phase nobody knows: {} and {} calls of one event, {} and {} of a thousand, {} and {} of \
             a profile. It answers after \
             20 ms, of ten answers three after 60, of a hundred two 250 later. The worker is ended in the middle with \
             pg_terminate_backend. Counted are calls that the sandbox let pass, by minutes from the first of their \
             kind. The samples of one run are its minutes. Not scaled down: the worker knows Klaviyo's own windows only.",
            effort.minutes,
            CREATE_EVENT.limits.burst,
            CREATE_EVENT.limits.steady,
            BULK_CREATE_EVENTS.limits.burst,
            BULK_CREATE_EVENTS.limits.steady,
            UPSERT_PROFILE.limits.burst,
            UPSERT_PROFILE.limits.steady,
        ),
        figures,
    }])
}

/// Queues more than so many minutes can take, a profile after so many events; says how much.
fn queue(db: &mut Client, minutes: u64) -> Result<i64, String> {
    let profiles = i64::try_from(minutes + 2).unwrap_or(i64::MAX) * i64::from(UPSERT_PROFILE.limits.steady);
    let events_a_profile = i64::from(EVENTS / UPSERT_PROFILE.limits.steady);
    for profile in 1..=profiles {
        let last = profile * events_a_profile;
        bed::queue_events(db, "default", last - events_a_profile + 1, last)?;
        let queue = "
            SELECT klaviyo_upsert_profile('profile-' || $1::bigint || '@example.com', properties => o.properties) IS NOT NULL
            FROM bench.properties AS o";
        if !query::<bool>(db, queue, &[&profile]) {
            return Err(format!("profile {profile} is not queued"));
        }
    }
    Ok(profiles * (events_a_profile + 1))
}

fn run(shop: &Shop, db: &mut Client, minutes: u64) -> Result<(), String> {
    bed::send(shop);
    bed::wait("both kinds arrive", || {
        let stats = shop.sandbox.stats();
        CALLS.iter().all(|(_, endpoint)| stats.by.iter().any(|row| row.path == endpoint.path))
    })?;
    let began = Instant::now();
    let half = Duration::from_secs(minutes * 30);
    for minute in 0..minutes {
        let (now, next) = (began.elapsed(), Duration::from_secs((minute + 1) * 60));
        if (now..next).contains(&half) {
            bed::sleep(half - now)?;
            let worker = wait_for_worker(db);
            sql(db, &format!("SELECT pg_terminate_backend({worker})"));
        }
        bed::sleep(next.saturating_sub(began.elapsed()))?;
        eprintln!("bench:   limits, minute {} of {minutes}", minute + 1);
    }
    // What arrives in the last moment counts for it.
    bed::sleep(Duration::from_secs(1))?;
    bed::hold(shop, db)
}

/// Calls that passed.
fn passed<'a>(receipts: &'a [Receipt], endpoint: &'static Endpoint) -> impl Iterator<Item = &'a Receipt> {
    receipts.iter().filter(|receipt| receipt.path == endpoint.path && receipt.accepted)
}

/// Calls that passed, in each full minute since the first.
fn by_minute(receipts: &[Receipt], endpoint: &'static Endpoint, minutes: u64) -> Vec<f64> {
    let passed: Vec<u64> = passed(receipts, endpoint).map(|receipt| receipt.at_us).collect();
    let first = passed.iter().min().copied().unwrap_or_default();
    let calls = |minute: u64| passed.iter().filter(|at| (*at - first) / MINUTE_US == minute).count();
    (0..minutes).map(|minute| calls(minute) as f64).collect()
}

/// Events of a call of many, on average.
fn carried(receipts: &[Receipt], events: u64) -> f64 {
    let calls = |endpoint| passed(receipts, endpoint).count() as f64;
    (events as f64 - calls(&CREATE_EVENT)) / calls(&BULK_CREATE_EVENTS)
}

/// An error unless everything is either on record, and at Klaviyo, or still waiting.
fn check(shop: &Shop, db: &mut Client, queued: i64) -> Result<(), String> {
    let recorded = count(db, "SELECT count(*) FROM klaviyo.delivery");
    let waiting =
        count(db, "SELECT (SELECT count(*) FROM klaviyo.outbox) + (SELECT count(*) FROM klaviyo.retry)");
    // Every message is about a person of its own, whom an event makes known as well.
    let arrived = i64::try_from(shop.sandbox.stats().profiles).map_err(|error| error.to_string())?;
    if recorded + waiting != queued || arrived != recorded {
        return Err(format!(
            "of {queued} messages {recorded} are on record and {waiting} wait; {arrived} have arrived"
        ));
    }
    Ok(())
}
