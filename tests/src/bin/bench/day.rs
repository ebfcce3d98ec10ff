//! A day's steady load in some minutes: whether the tables that it passes through stay small.

use std::time::{Duration, Instant};

use harness::{Backlog, Fault, Stats, count, query};
use postgres::Client;

use crate::bed;
use crate::effort::Effort;
use crate::figure::{Figure, Section};
use crate::worker::Worker;

/// Messages a second of the day that is shortened: what Klaviyo takes in calls of one, or nearly.
const RATE: i64 = 50;

/// So many times as fast.
const SHORTENED: i64 = 200;

/// Autovacuum looks every minute; this is the shortest that Postgres knows.
const NAPTIME: &str = "1s";

const HOUR: i64 = 3_600;

/// Messages of a transaction, and between two of them.
const IN_A_TRANSACTION: i64 = 200;
const PAUSE: Duration = Duration::from_micros((1_000_000 * IN_A_TRANSACTION / (RATE * SHORTENED)) as u64);

/// Who order. The sandbox forgets nobody.
const PEOPLE: i64 = 10_000;

const LATENCY: Duration = Duration::from_millis(20);

/// Queues events steadily, and looks at the tables after each hour's.
pub fn measure(effort: &Effort) -> Result<Vec<Section>, String> {
    let shop = bed::start(bed::shop().setting("autovacuum_naptime", NAPTIME), false);
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::latency(LATENCY)]);
    bed::send(&shop);
    let mut worker = Worker::watch(&mut db)?;
    let mut hours: Vec<Hour> = Vec::new();
    let mut before = Used::default();
    let began = Instant::now();
    let mut transactions = 0;
    for hour in 1..=effort.hours {
        while transactions * IN_A_TRANSACTION < i64::from(hour) * HOUR * RATE {
            queue(&mut db, transactions)?;
            transactions += 1;
            let due = began + PAUSE * u32::try_from(transactions).map_err(|error| error.to_string())?;
            bed::sleep(due.saturating_duration_since(Instant::now()))?;
        }
        hours.push(Hour::look(&mut db, &mut worker, transactions * IN_A_TRANSACTION, &mut before)?);
        eprintln!("bench:   day, hour {hour} of {}", effort.hours);
    }
    let seconds = began.elapsed().as_secs_f64();
    let queued = transactions * IN_A_TRANSACTION;
    let faster = f64::from(effort.hours) * HOUR as f64 / seconds;
    bed::wait("the outbox is empty", || Backlog::read(&mut db).waiting() == 0)?;
    check(&shop.sandbox.stats(), &mut db, queued)?;

    let of = |value: fn(&Hour) -> f64| hours.iter().map(value).collect::<Vec<f64>>();
    let growing = |what: &str, unit, value: fn(&Hour) -> f64| {
        Figure::new(what, unit, of(value)).against_constant("first hour", value(&hours[0]))
    };
    Ok(vec![Section {
        title: "A day's steady load, in minutes".to_owned(),
        how: format!(
            "{} hours of {RATE} events a second, {:.0} times as fast: {queued} in {seconds:.0} s, {IN_A_TRANSACTION} a \
             transaction, of {PEOPLE} people, while the worker drains, by calls of many for the most part, for so many come \
             at this speed; no limiter, the sandbox answering after {} ms. autovacuum_naptime {NAPTIME}, where a minute is \
             {:.1} s. Looked at after each hour: the samples of one run are its hours. Size of the files; of the others \
             klaviyo.delivery is left out, which keeps what became of each message for as long as \
             klaviyo.delivery_retention says.",
            effort.hours,
            faster,
            LATENCY.as_millis(),
            60.0 / faster,
        ),
        figures: vec![
            Figure::new("waiting", "messages", of(|hour| hour.waiting)),
            growing("outbox", "MB", |hour| hour.outbox_mb),
            growing("outbox's index", "MB", |hour| hour.index_mb),
            growing("the other tables, their indexes", "MB", |hour| hour.others_mb),
            growing("worker's CPU for 10,000", "s", |hour| hour.cpu_per_10k),
            growing("worker's own memory", "MB", |hour| hour.own_mb),
        ],
    }])
}

/// How things are after an hour.
struct Hour {
    waiting: f64,
    outbox_mb: f64,
    index_mb: f64,
    others_mb: f64,
    cpu_per_10k: f64,
    own_mb: f64,
}

/// What the worker has done from the beginning on, and what it took.
#[derive(Default)]
struct Used {
    drained: i64,
    cpu_seconds: f64,
}

impl Hour {
    fn look(db: &mut Client, worker: &mut Worker, queued: i64, before: &mut Used) -> Result<Self, String> {
        const OTHERS: &str = "
            SELECT sum(pg_total_relation_size(oid))::bigint
            FROM pg_class
            WHERE relnamespace = 'klaviyo'::regnamespace
            AND relkind = 'r'
            AND NOT relispartition
            AND oid <> 'klaviyo.outbox'::regclass";
        let usage = worker.usage()?;
        let waiting = Backlog::read(db).waiting();
        let used = Used { drained: queued - waiting, cpu_seconds: usage.cpu_seconds };
        let drained = (used.drained - before.drained).max(1) as f64;
        let cpu_seconds = used.cpu_seconds - before.cpu_seconds;
        *before = used;
        let mut megabytes = |bytes: &str| count(db, bytes) as f64 / f64::from(1 << 20);
        Ok(Self {
            outbox_mb: megabytes("SELECT pg_table_size('klaviyo.outbox')"),
            index_mb: megabytes("SELECT pg_indexes_size('klaviyo.outbox')"),
            others_mb: megabytes(OTHERS),
            waiting: waiting as f64,
            cpu_per_10k: cpu_seconds * 10_000.0 / drained,
            own_mb: worker.own_mb(),
        })
    }
}

fn queue(db: &mut Client, transaction: i64) -> Result<(), String> {
    const QUEUE: &str = "
        SELECT count(klaviyo_track_event('Placed Order', 'customer-' || n % $3 || '@example.com', o.properties))
        FROM bench.properties AS o, generate_series($1::bigint, $2::bigint) AS n";
    let (first, last) = (transaction * IN_A_TRANSACTION + 1, (transaction + 1) * IN_A_TRANSACTION);
    let queued: i64 = query(db, QUEUE, &[&first, &last, &PEOPLE]);
    if queued == IN_A_TRANSACTION { Ok(()) } else { Err(format!("{queued} events are queued")) }
}

/// An error unless each message has arrived once and is on record.
fn check(stats: &Stats, db: &mut Client, queued: i64) -> Result<(), String> {
    let recorded = count(db, "SELECT count(*) FROM klaviyo.delivery");
    if i64::try_from(stats.events) == Ok(queued) && stats.event_repeats == 0 && recorded == queued {
        return Ok(());
    }
    Err(format!(
        "of {queued} events {} have arrived, {} came again, {recorded} are recorded",
        stats.events, stats.event_repeats
    ))
}
