//! Draining at Klaviyo's real limits, which the sandbox enforces.

use std::time::{Duration, Instant};

use delivery::klaviyo::{BULK_CREATE_EVENTS, BULK_IMPORT_PROFILES, CREATE_EVENT, Endpoint, UPSERT_PROFILE};
use harness::{Fault, Receipt, Shop, query, sql, wait_for_worker};
use postgres::Client;

use crate::bed;
use crate::effort::Effort;
use crate::figure::{Figure, Section};

/// Klaviyo's steady window, in microseconds.
const MINUTE_US: u64 = 60_000_000;

/// Answers take 20 ms, some of them much longer.
const LATENCIES: [(u64, f64); 3] = [(20, 1.0), (40, 0.3), (250, 0.02)];

/// What is sent, and where it arrives.
const CALLS: [(&str, &Endpoint); 4] = [
    ("events, single calls", &CREATE_EVENT),
    ("events, bulk calls", &BULK_CREATE_EVENTS),
    ("profiles, single calls", &UPSERT_PROFILE),
    ("profiles, import jobs", &BULK_IMPORT_PROFILES),
];

/// What fits into a minute of calls of one and calls of many.
const fn in_a_minute(single: &Endpoint, many: &Endpoint) -> i64 {
    single.limits.steady as i64 + many.limits.steady as i64 * many.max_items as i64
}

/// So many of each follow each other in the outbox.
const EVENTS: i64 = 200;
const PROFILES: i64 = EVENTS * in_a_minute(&UPSERT_PROFILE, &BULK_IMPORT_PROFILES)
    / in_a_minute(&CREATE_EVENT, &BULK_CREATE_EVENTS);

/// Whose states they are: enough that nobody's wait for each other, and not so many that the sandbox, which forgets
/// nothing, needs gigabytes for them.
const PEOPLE: i64 = 300_000;

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
    check(&shop, &mut db, &queued)?;
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
    let jobs = shop.sandbox.jobs();
    let imported: u64 = jobs.iter().map(|job| job.total_count).sum();
    let in_a_job = imported as f64 / jobs.len().max(1) as f64;
    figures.push(Figure::new("profiles in an import job", "profiles", vec![in_a_job]));
    figures.push(Figure::new("answered 429", "calls", vec![stats.throttled as f64]));
    figures.push(Figure::new("sent twice, for the restart", "events", vec![stats.event_repeats as f64]));
    Ok(vec![Section {
        title: "Drain at Klaviyo's limits".to_owned(),
        how: format!(
            "{} minutes, events and profiles at once, more of both waiting than fits, mixed. rate_share 1; the sandbox enforces \
             windows of 1 s and 60 s whose phase nobody knows: {} and {} calls of one event, {} and {} of a thousand, {} and {} of \
             a profile, {} and {} of ten thousand. An import job takes half a second. It answers after \
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
            BULK_IMPORT_PROFILES.limits.burst,
            BULK_IMPORT_PROFILES.limits.steady,
        ),
        figures,
    }])
}

/// What was queued.
struct Queued {
    events: i64,
    profiles: i64,
}

/// Queues more than so many minutes can take, some profiles after some events.
fn queue(db: &mut Client, minutes: u64) -> Result<Queued, String> {
    let minutes = i64::try_from(minutes + 1).unwrap_or(i64::MAX);
    let times = 1 + minutes * in_a_minute(&CREATE_EVENT, &BULK_CREATE_EVENTS) / EVENTS;
    let queue = "
        SELECT count(klaviyo_upsert_profile('profile-' || n % $3 || '@example.com', title => 'state ' || n))
        FROM generate_series($1::bigint, $2::bigint) AS n";
    for number in 0..times {
        bed::queue_events(db, "default", number * EVENTS + 1, (number + 1) * EVENTS)?;
        let (first, last) = (number * PROFILES + 1, (number + 1) * PROFILES);
        if query::<i64>(db, queue, &[&first, &last, &PEOPLE]) != PROFILES {
            return Err(format!("profiles from {first} to {last} are not queued"));
        }
    }
    Ok(Queued { events: times * EVENTS, profiles: times * PROFILES })
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
    receipts.iter().filter(|receipt| {
        receipt.path == endpoint.path && receipt.method == endpoint.method.name() && receipt.accepted
    })
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
fn check(shop: &Shop, db: &mut Client, queued: &Queued) -> Result<(), String> {
    let mut count_of = |kind: &str| {
        let recorded = query::<i64>(db, "SELECT count(*) FROM klaviyo.delivery WHERE kind = $1", &[&kind]);
        let waiting = "SELECT (SELECT count(*) FROM klaviyo.outbox WHERE kind = $1)
                            + (SELECT count(*) FROM klaviyo.retry WHERE kind = $1)";
        (recorded, query::<i64>(db, waiting, &[&kind]))
    };
    let ((events, events_wait), (profiles, profiles_wait)) = (count_of("event"), count_of("profile"));
    let number = |number: u64| i64::try_from(number).map_err(|error| error.to_string());
    let events_arrived = number(shop.sandbox.stats().events)?;
    // A state that may have arrived is sent again, and what is in a job that has not ended is not on record yet.
    let single = passed(&shop.sandbox.receipts(), &UPSERT_PROFILE).count() as u64;
    let imported: u64 = shop.sandbox.jobs().iter().map(|job| job.total_count).sum();
    let profiles_arrived = number(single + imported)?;
    if events + events_wait != queued.events
        || profiles + profiles_wait != queued.profiles
        || events_arrived != events
        || profiles_arrived < profiles
    {
        return Err(format!(
            "of {} events {events} are on record and {events_wait} wait, {events_arrived} have arrived; of {} profiles \
             {profiles} are on record and {profiles_wait} wait, {profiles_arrived} have arrived",
            queued.events, queued.profiles
        ));
    }
    Ok(())
}
