//! What is measured on: a shop of its own, and how its worker is let go and stopped.

use std::time::{Duration, Instant};

use harness::{Shop, ShopBuilder, count, interrupt, sql};
use postgres::Client;

/// Set to `on`: commits wait for the disk.
const FSYNC: &str = "KLAVIYO_BENCH_FSYNC";

/// How long anything may take before something is wrong with it.
const PATIENCE: Duration = Duration::from_secs(600);

/// Set in every cluster. The first is Postgres' own default, where the harness has less for its many small clusters.
/// The others keep checkpoints out of what is measured.
const SETTINGS: [(&str, &str); 3] =
    [("shared_buffers", "128MB"), ("max_wal_size", "8GB"), ("checkpoint_timeout", "1h")];

/// What every database begins with.
const BED: &str = include_str!("bed.sql");

/// Whether commits wait for the disk.
pub fn fsync() -> bool {
    std::env::var(FSYNC).is_ok_and(|value| value == "on")
}

/// The settings of every cluster that are not Postgres' defaults.
pub fn settings() -> Vec<(String, String)> {
    let fsync = ("fsync", if fsync() { "on" } else { "off" });
    // As the harness has it.
    let others = [("jit", "off"), fsync];
    SETTINGS.iter().chain(&others).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A shop that does not send before it is told to.
pub fn shop() -> ShopBuilder {
    let shop = SETTINGS.iter().fold(Shop::builder(), |shop, (name, value)| shop.setting(name, value));
    let shop = if fsync() { shop.cluster(harness::ClusterBuilder::fsync) } else { shop };
    shop.setting("klaviyo.enabled", "off")
}

/// Starts one with what [`BED`] holds. The sandbox keeps no bodies unless they are asked for: they are only in the way. It
/// keeps its memory, which costs it up to half its time to be given again by some machines, virtual ones above all.
pub fn start(shop: ShopBuilder, bodies: bool) -> Shop {
    let shop =
        shop.sandbox(["--store-bodies", if bodies { "true" } else { "false" }]).sandbox_memory_kept().start();
    sql(&mut shop.connect(), BED);
    shop
}

/// Lets the worker send.
pub fn send(shop: &Shop) {
    shop.cluster.set("klaviyo.enabled", "on");
}

/// Has the worker send nothing more, and waits until what was under way has been recorded: of all that has arrived, each
/// about a person of its own, what became of it.
pub fn hold(shop: &Shop, db: &mut Client) -> Result<(), String> {
    const RECORDED: &str = "
        SELECT (SELECT count(*) FROM klaviyo.delivery) + (SELECT count(*) FROM klaviyo.dead_letter)
            + (SELECT count(*) FROM klaviyo.retry)";
    shop.cluster.set("klaviyo.enabled", "off");
    let mut last = None;
    wait("calls under way are recorded", || {
        let stats = shop.sandbox.stats();
        let state = (stats.requests, count(db, RECORDED));
        let busy = count(db, "SELECT coalesce(sum(under_way), 0)::bigint FROM klaviyo.lane");
        let all = i64::try_from(stats.profiles).is_ok_and(|arrived| state.1 >= arrived);
        let still = busy == 0 && all && last == Some(state);
        last = Some(state);
        still
    })
}

/// Queues events of as many people, from `first` to `last`, in one statement.
pub fn queue_events(db: &mut Client, account: &str, first: i64, last: i64) -> Result<(), String> {
    queue(db, account, first, last, false)
}

/// The same, from 1 on, with ids of their own.
pub fn queue_events_with_ids(db: &mut Client, events: i64) -> Result<(), String> {
    queue(db, "default", 1, events, true)
}

fn queue(db: &mut Client, account: &str, first: i64, last: i64, ids: bool) -> Result<(), String> {
    interrupt::check()?;
    let queue = "
        SELECT count(klaviyo_track_event('Placed Order', 'customer-' || n || '@example.com', o.properties,
                                         account => $3, unique_id => CASE WHEN $4 THEN 'order-' || n END))
        FROM bench.properties AS o, generate_series($1::bigint, $2::bigint) AS n";
    let queued: i64 = harness::query(db, queue, &[&first, &last, &account, &ids]);
    if queued == last - first + 1 { Ok(()) } else { Err(format!("{queued} events are queued")) }
}

/// The same, from 1 on, in statements short enough to be interrupted between.
pub fn queue_many(db: &mut Client, events: i64) -> Result<(), String> {
    const IN_A_STATEMENT: i64 = 200_000;
    let mut first = 1;
    while first <= events {
        let last = events.min(first + IN_A_STATEMENT - 1);
        queue_events(db, "default", first, last)?;
        first = last + 1;
    }
    Ok(())
}

/// Queues states of so many people, in one statement.
pub fn queue_profiles(db: &mut Client, people: i64) -> Result<(), String> {
    interrupt::check()?;
    let queue = "
        SELECT count(klaviyo_upsert_profile('customer-' || n || '@example.com', properties => o.properties))
        FROM bench.properties AS o, generate_series(1, $1::bigint) AS n";
    let queued: i64 = harness::query(db, queue, &[&people]);
    if queued == people { Ok(()) } else { Err(format!("{queued} profiles are queued")) }
}

/// Has both sides forget what was delivered.
pub fn forget(shop: &Shop, db: &mut Client) {
    shop.sandbox.reset();
    sql(db, "TRUNCATE klaviyo.delivery, klaviyo.sent_unique_id");
}

/// Waits, asking often, until a condition holds.
pub fn wait(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        interrupt::check()?;
        if Instant::now() > deadline {
            return Err(format!("not within {PATIENCE:?}: {what}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Sleeps, unless somebody wants all this to end.
pub fn sleep(time: Duration) -> Result<(), String> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(50).min(until.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// An error unless exactly these messages, each about a person of its own, have arrived, events once, and are on record.
pub fn check_arrived(shop: &Shop, db: &mut Client, messages: Option<i64>) -> Result<i64, String> {
    let stats = shop.sandbox.stats();
    let arrived = i64::try_from(stats.profiles).map_err(|error| error.to_string())?;
    let recorded = count(db, "SELECT count(*) FROM klaviyo.delivery");
    let failed =
        count(db, "SELECT (SELECT count(*) FROM klaviyo.dead_letter) + (SELECT count(*) FROM klaviyo.retry)");
    let expected = messages.unwrap_or(arrived);
    if (arrived, recorded, failed, stats.event_repeats) == (expected, expected, 0, 0) {
        return Ok(arrived);
    }
    Err(format!(
        "{expected} messages should have arrived; {arrived} did, {} events came again, {recorded} are recorded, {failed} failed",
        stats.event_repeats
    ))
}
