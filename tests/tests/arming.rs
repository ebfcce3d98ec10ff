//! A copy is not the original: whatever becomes another database sends nothing until somebody arms it, says so, and
//! delivers then what waited.

use std::thread;
use std::time::Duration;

use harness::{
    Backlog, Cluster, Ledger, ORDER, PATIENCE, Shop, Stop, eventually, place_orders, sql, wait_for_worker,
};
use postgres::Client;

/// How many orders wait in each of these tests.
const ORDERS: i64 = 100;

/// A shop in which orders wait, some of them tried in vain.
fn shop_with_waiting_orders() -> Shop {
    let shop = Shop::builder()
        .setting("klaviyo.poll_interval", "200ms")
        .setting("klaviyo.retry_max_delay", "1s")
        .setting("klaviyo.instance", "original")
        .start();
    shop.sandbox.down();
    place_orders(&mut shop.connect(), 1, ORDERS);
    shop.eventually("some are tried in vain", PATIENCE, || shop.backlog().retry > 0);
    shop
}

fn stopped_reason(db: &mut Client) -> Option<String> {
    let query = "SELECT stopped_reason FROM klaviyo.account_status WHERE account = 'default'";
    db.query_opt(query, &[]).expect("the status can be read").and_then(|row| row.get(0))
}

/// What every copy must do. Klaviyo is up from here on.
fn assert_silent_until_armed(shop: &Shop, cluster: &Cluster, database: &str) {
    let mut db = cluster.connect(database);
    wait_for_worker(&mut db);
    eventually("the status says why nothing is sent", PATIENCE, || {
        stopped_reason(&mut db).is_some_and(|reason| {
            reason.contains("this may be a copy") && reason.contains("SELECT klaviyo_arm_account('default')")
        })
    });
    let log = cluster.log();
    let said =
        log.find("nothing is sent for account \"default\"").expect("the log says that nothing is sent");
    assert!(log[said..].contains("SELECT klaviyo_arm_account('default')"), "and what to do:\n{log}");
    let before = shop.sandbox.receipts().len();
    shop.sandbox.up();
    assert_eq!(Backlog::read(&mut db).waiting(), ORDERS);
    sql(
        &mut db,
        "SELECT klaviyo_track_event('Placed Order', external_id => 'late', properties => '{\"order_id\": 0}')",
    );
    thread::sleep(Duration::from_secs(2));
    assert_eq!(Backlog::read(&mut db).waiting(), ORDERS + 1);
    assert_eq!(shop.sandbox.receipts().len(), before, "the copy sends nothing");
    sql(&mut db, "SELECT klaviyo_arm_account()");
    eventually("what waited is delivered", PATIENCE, || Backlog::read(&mut db).waiting() == 0);
    let receipts = shop.sandbox.receipts();
    Ledger::new(&receipts[before..], ORDER).assert_accepted_exactly(0..=ORDERS);
    eventually("the status has nothing to say", PATIENCE, || stopped_reason(&mut db).is_none());
}

#[test]
fn a_dump_restored_into_another_cluster() {
    let mut shop = shop_with_waiting_orders();
    let dump = shop.cluster.dump("shop");
    shop.cluster.stop(Stop::Fast);
    let other = Cluster::builder()
        .own_identity()
        .setting("klaviyo.poll_interval", "200ms")
        .setting("klaviyo.instance", "original")
        .start();
    other.restore("shop", &dump);
    assert_silent_until_armed(&shop, &other, "shop");
}

#[test]
fn a_file_level_copy_of_another_name() {
    let mut shop = shop_with_waiting_orders();
    shop.cluster.stop(Stop::Fast);
    let copy = Cluster::builder().copy_of(&shop.cluster).setting("klaviyo.instance", "copy").start();
    assert_silent_until_armed(&shop, &copy, "shop");
}

#[test]
fn a_renamed_database() {
    let shop = shop_with_waiting_orders();
    sql(&mut shop.cluster.connect("postgres"), "ALTER DATABASE shop RENAME TO store");
    assert_silent_until_armed(&shop, &shop.cluster, "store");
}

/// Nobody has to arm what is what it was.
#[test]
fn a_database_that_gets_its_name_back() {
    let shop = shop_with_waiting_orders();
    let mut postgres = shop.cluster.connect("postgres");
    sql(&mut postgres, "ALTER DATABASE shop RENAME TO store");
    wait_for_worker(&mut shop.cluster.connect("store"));
    sql(&mut postgres, "ALTER DATABASE store RENAME TO shop");
    shop.sandbox.up();
    shop.drain_soon();
    shop.assert_arrived(1, ORDERS);
}

#[test]
fn a_database_that_is_dropped_and_restored() {
    let shop = shop_with_waiting_orders();
    let dump = shop.cluster.dump("shop");
    sql(&mut shop.cluster.connect("postgres"), "DROP DATABASE shop");
    shop.cluster.restore("shop", &dump);
    assert_silent_until_armed(&shop, &shop.cluster, "shop");
}

/// Copy and original do not know of each other; the account's events have the same unique_id in both.
#[test]
fn a_database_made_of_another() {
    let shop = shop_with_waiting_orders();
    sql(&mut shop.cluster.connect("postgres"), "CREATE DATABASE copy TEMPLATE shop");
    let mut copy = shop.cluster.connect("copy");
    wait_for_worker(&mut copy);
    shop.sandbox.up();
    shop.drain_soon();
    shop.assert_arrived(1, ORDERS);
    shop.sandbox.reset();
    assert_silent_until_armed(&shop, &shop.cluster, "copy");
}
