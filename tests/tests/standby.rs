//! Fail-over: a standby keeps still, and the one that is promoted delivers what the primary had not.

use std::thread;
use std::time::Duration;

use harness::{
    BULK_EVENTS, Backlog, Cluster, Fault, Ledger, ORDER, PATIENCE, Shop, ShopBuilder, Stop, count,
    eventually, launcher, place_orders, refused, sql, wait_for_worker, workers,
};

/// Calls that may be under way, and so the most that are made again after a fail-over.
const IN_FLIGHT: usize = 16;

fn shop() -> ShopBuilder {
    Shop::builder()
        .setting("klaviyo.poll_interval", "1h")
        .setting("klaviyo.max_in_flight", IN_FLIGHT)
        // The standby's is the same: it is to take over as what it stands for.
        .setting("klaviyo.instance", "shop-1")
}

/// A streaming standby that has replayed everything committed so far.
fn standby_of(shop: &Shop) -> Cluster {
    let standby = Cluster::builder().standby_of(&shop.cluster).setting("klaviyo.enabled", "on").start();
    catch_up(&shop.cluster, &standby);
    standby
}

fn catch_up(primary: &Cluster, standby: &Cluster) {
    let position = primary.psql("postgres", "SELECT pg_current_wal_lsn()");
    let reached = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
    eventually("the standby has caught up", PATIENCE, || standby.psql("postgres", &reached) == "t");
}

fn promote(standby: &Cluster) {
    sql(&mut standby.connect("postgres"), "SELECT pg_promote()");
}

/// Everything that was committed is delivered, and at most what was under way is sent once more.
fn assert_takes_over(shop: &Shop, standby: &Cluster, orders: i64) {
    let mut db = standby.connect("shop");
    wait_for_worker(&mut db);
    eventually("the promoted server delivers", PATIENCE, || Backlog::read(&mut db).waiting() == 0);
    place_orders(&mut db, orders + 1, orders + 10);
    eventually("it delivers what is new", PATIENCE, || Backlog::read(&mut db).waiting() == 0);
    let receipts = shop.sandbox.receipts();
    let ledger = Ledger::new(&receipts, ORDER);
    ledger.assert_accepted_exactly(1..=orders + 10);
    let again = ledger.resends();
    println!("{again} requests made again");
    assert!(again <= IN_FLIGHT, "{again} requests were made again");
}

#[test]
fn a_standby_keeps_still_and_delivers_after_a_planned_switch() {
    let mut shop = shop().start();
    place_orders(&mut shop.connect(), 1, 50);
    shop.drain_soon();
    shop.cluster.set("klaviyo.enabled", "off");
    shop.cluster.restart(Stop::Fast);
    let standby = standby_of(&shop);
    place_orders(&mut shop.connect(), 51, 500);
    catch_up(&shop.cluster, &standby);
    let mut observer = standby.connect("shop");
    thread::sleep(Duration::from_secs(2));
    assert_eq!((launcher(&mut observer), workers(&mut observer)), (None, Vec::new()));
    assert_eq!(Backlog::read(&mut observer).waiting(), 450);
    assert_eq!(shop.sandbox.receipts().len(), 50);
    // A standby's own work goes on with the library loaded.
    sql(&mut observer, "BEGIN; SELECT count(*) FROM klaviyo.delivery; COMMIT");
    assert_eq!(
        refused(&mut observer, "SELECT klaviyo_track_event('Placed Order', external_id => '0')"),
        "25006"
    );
    shop.cluster.stop(Stop::Fast);
    promote(&standby);
    assert_takes_over(&shop, &standby, 500);
    // Nothing was under way: nothing comes twice. The standby cannot know that: it sends nothing of it in calls of many.
    let receipts = shop.sandbox.receipts();
    assert_eq!(Ledger::new(&receipts, ORDER).resends(), 0);
    assert!(receipts.iter().all(|receipt| receipt.path != BULK_EVENTS), "what waited rode");
    // What is queued from now on it has queued itself.
    place_orders(&mut standby.connect("shop"), 511, 2_500);
    shop.eventually("these are delivered too", PATIENCE, || shop.sandbox.stats().events == 2_500);
    assert!(shop.sandbox.receipts().iter().any(|receipt| receipt.path == BULK_EVENTS), "nothing rides");
}

#[test]
fn a_killed_primary_costs_what_was_under_way() {
    let mut shop = shop().single_calls().start();
    shop.sandbox.set_faults(&[Fault::latency(Duration::from_millis(200))]);
    let standby = standby_of(&shop);
    // Without this the last commits, and what was settled last, may be on the primary alone.
    sql(&mut shop.cluster.connect("postgres"), "ALTER SYSTEM SET synchronous_standby_names = '*'");
    sql(&mut shop.cluster.connect("postgres"), "SELECT pg_reload_conf()");
    let mut observer = shop.cluster.connect("postgres");
    eventually("the standby is synchronous", PATIENCE, || {
        let query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        count(&mut observer, query) == 1
    });
    let mut db = shop.connect();
    for first in (1..=2_000).step_by(100) {
        place_orders(&mut db, first, first + 99);
    }
    shop.eventually("some are delivered", PATIENCE, || shop.sandbox.receipts().len() > 100);
    shop.cluster.kill9_postmaster();
    let delivered = shop.sandbox.receipts().len();
    assert!(delivered < 2_000, "the primary was killed in the middle");
    shop.sandbox.clear_faults();
    promote(&standby);
    assert_takes_over(&shop, &standby, 2_000);
}
