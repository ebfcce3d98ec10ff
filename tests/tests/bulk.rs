//! Calls that carry many events: when they are made, that a bad message is found in them, and that none is lost whatever
//! ends a call or the worker, and whenever Klaviyo minds a `unique_id` that it knows.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::{
    BULK_EVENTS, Bulk, Fault, Ledger, ORDER, PATIENCE, Receipt, Shop, Stop, count, place, place_orders,
    place_orders_of, query, sql,
};

/// More than single calls may carry in a second, several times.
const ORDERS: i64 = 5_000;

/// The two readings of Klaviyo's document: a repeated `unique_id` fails the call at once, or after its 202.
const READINGS: [&str; 2] = ["at_once", "after"];

fn shop(reading: &'static str) -> Shop {
    let shop = Shop::builder().setting("klaviyo.retry_min_delay", "10ms").start();
    shop.sandbox.set_bulk(&Bulk { repeats: Some(reading), ..Bulk::default() });
    shop
}

fn bulk_calls(receipts: &[Receipt]) -> Vec<&Receipt> {
    receipts.iter().filter(|receipt| receipt.path == BULK_EVENTS).collect()
}

/// Every order is in Klaviyo once, no call of many failed for a repeat, and what is said of deliveries is so.
fn assert_all_there(shop: &Shop, orders: i64, dead: i64) {
    let backlog = shop.drain(PATIENCE * 2);
    assert_eq!(backlog.dead, dead);
    let events = shop.sandbox.events();
    let there: BTreeSet<i64> =
        events.iter().map(|event| event.properties["order_id"].as_i64().expect("a number")).collect();
    let missing: Vec<i64> = (1..=orders).filter(|order| !there.contains(order)).collect();
    assert_eq!(missing.len() as i64, dead, "lost: {:?}", &missing[..missing.len().min(5)]);
    assert_eq!(events.len() as i64, orders - dead, "each is in Klaviyo once");
    let stats = shop.sandbox.stats();
    assert_eq!(stats.bulk_repeats, 0, "a call of many failed for what came before");
    let told = count(&mut shop.connect(), "SELECT count(*) FROM klaviyo.delivery");
    assert_eq!(told, orders - dead);
}

#[test]
fn a_backlog_rides_and_what_comes_alone_goes_at_once() {
    let shop = shop("at_once");
    let mut db = shop.connect();
    for order in 1..=20 {
        place(&mut db, order);
    }
    shop.drain_soon();
    assert!(bulk_calls(&shop.sandbox.receipts()).is_empty(), "there was no backlog");
    place_orders(&mut db, 21, ORDERS);
    assert_all_there(&shop, ORDERS, 0);
    let receipts = shop.sandbox.receipts();
    let calls = bulk_calls(&receipts);
    let riders: Vec<usize> = calls.iter().map(|call| call.messages().len()).collect();
    assert!(riders.iter().all(|riders| *riders <= 1_000), "{riders:?}");
    assert!(riders.iter().sum::<usize>() > 4_000, "{riders:?}");
    Ledger::new(&shop.sandbox.messages(), ORDER).assert_accepted_exactly(1..=ORDERS);
    let told = count(&mut db, "SELECT count(*) FROM klaviyo.delivery WHERE bulk");
    assert_eq!(usize::try_from(told), Ok(riders.iter().sum()), "which of them rode is on record");
    shop.assert_requests_conform();

    shop.cluster.set("klaviyo.bulk", "off");
    place_orders(&mut db, ORDERS + 1, ORDERS + 2_000);
    assert_all_there(&shop, ORDERS + 2_000, 0);
    assert_eq!(bulk_calls(&shop.sandbox.receipts()).len(), calls.len(), "klaviyo.bulk is off");
}

#[test]
fn a_bad_event_is_found_and_the_others_are_delivered() {
    let unnamed = Fault::status(400).error("invalid", "something is wrong").matching("\"order_id\":2345}");
    for (fault, bulk) in [(Fault::refuse("\"order_id\":2345}"), 20), (unnamed, 60)] {
        let shop = shop("at_once");
        let mut db = shop.connect();
        let what = format!("{fault:?}");
        shop.sandbox.set_faults(&[fault]);
        place_orders(&mut db, 1, ORDERS);
        assert_all_there(&shop, ORDERS, 1);
        let dead: String = query(&mut db, "SELECT key[1] FROM klaviyo.dead_letter", &[]);
        assert_eq!(dead, "external_id:2345");
        let receipts = shop.sandbox.receipts();
        let calls = bulk_calls(&receipts);
        assert!(calls.iter().any(|call| call.status == Some(400)), "{what}: it rode");
        assert!(calls.len() < bulk, "{what}: {} calls of many", calls.len());
        let single = receipts.len() - calls.len();
        // The last halves are no backlog.
        assert!(single < 400, "{what}: {single} calls of one");
    }
}

/// However a call ends: what may have been taken goes by itself from then on, where a repeat is dropped.
#[test]
fn no_ending_of_a_call_loses_an_event() {
    for reading in READINGS {
        for fault in [
            Fault::reset_before(),
            Fault::reset_after(),
            Fault::half(),
            Fault::malformed(),
            Fault::status(503),
            Fault::hang_after().lasting(Duration::from_millis(200)),
            Fault::throttle(1),
        ] {
            let shop = shop(reading);
            let mut db = shop.connect();
            let fault = fault.path(BULK_EVENTS).times(2);
            shop.sandbox.set_faults(std::slice::from_ref(&fault));
            place_orders(&mut db, 1, ORDERS);
            assert_all_there(&shop, ORDERS, 0);
            let met = shop.sandbox.stats().troubles();
            assert_eq!(met.values().sum::<u64>(), 2, "{reading}, {fault:?}: {met:?}");
        }
    }
}

/// A worker that is killed remembers nothing; what it had in hand goes by itself afterwards, the rest rides.
#[test]
fn no_kill_loses_an_event() {
    // More than are in memory at a time, which all may have been sent.
    const EACH: i64 = 30_000;
    for reading in READINGS {
        let mut shop = shop(reading);
        let mut db = shop.connect();
        shop.cluster.set("klaviyo.request_timeout", "10min");
        for (round, postmaster) in [false, true].into_iter().enumerate() {
            // Two are taken, two are not; none is answered.
            shop.sandbox.set_faults(&[
                Fault::hang_after().path(BULK_EVENTS).times(2),
                Fault::hang().path(BULK_EVENTS),
            ]);
            let first = round as i64 * EACH + 1;
            let before = shop.sandbox.stats().requests;
            place_orders(&mut db, first, first + EACH - 1);
            shop.eventually("calls of many hang", PATIENCE, || {
                let receipts = shop.sandbox.receipt_heads_after(before);
                receipts.iter().filter(|call| call.path == BULK_EVENTS && call.status.is_none()).count() >= 4
            });
            match postmaster {
                true => {
                    shop.cluster.kill9_postmaster();
                    shop.cluster.start();
                }
                false => {
                    shop.crash_worker(&mut db);
                }
            }
            db = shop.connect();
            shop.sandbox.clear_faults();
            assert_all_there(&shop, first + EACH - 1, 0);
        }
        let rode = count(&mut db, "SELECT count(*) FROM klaviyo.delivery WHERE bulk");
        let alone = count(&mut db, "SELECT count(*) FROM klaviyo.delivery WHERE NOT bulk");
        println!("{reading}: {rode} rode, {alone} went alone");
        assert!(rode > 8_000, "{reading}: {rode} rode, {alone} did not");
    }
}

/// What one account sends tells nothing of what another's messages have been through, though they lie before.
#[test]
fn after_an_end_each_account_goes_on_by_what_it_has_sent() {
    let mut shop = shop("after");
    let mut db = shop.connect();
    shop.add_account(&mut db, "other", "pk_other");
    sql(&mut db, "SELECT klaviyo_pause_account('other')");
    place_orders_of("other", &mut db, 1, ORDERS);
    place_orders(&mut db, ORDERS + 1, ORDERS + 1_000);
    shop.eventually("the account that may has sent all", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.delivery WHERE account = 'default'") == 1_000
    });
    shop.cluster.restart(Stop::Fast);
    db = shop.connect();
    sql(&mut db, "SELECT klaviyo_resume_account('other')");
    assert_all_there(&shop, ORDERS + 1_000, 0);
    let rode = count(&mut db, "SELECT count(*) FROM klaviyo.delivery WHERE bulk AND account = 'other'");
    assert!(rode > ORDERS / 2, "{rode} rode");
}

/// What waits in a copy may have been sent by the original: of it nothing rides.
#[test]
fn of_what_waits_in_a_copy_nothing_rides() {
    let mut shop = shop("after");
    shop.cluster.set("klaviyo.enabled", "off");
    place_orders(&mut shop.connect(), 1, ORDERS);
    let dump = shop.cluster.directory().join("shop.dump");
    let run = |program: &str, arguments: &[&str]| {
        let output = shop.cluster.client(program).args(arguments).output().expect("it can be run");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("pg_dump", &["-Fc", "-f", dump.to_str().expect("a path"), "shop"]);
    shop.cluster.set("klaviyo.enabled", "on");
    assert_all_there(&shop, ORDERS, 0);
    let rode = bulk_calls(&shop.sandbox.receipts()).len();
    assert!(rode > 0, "the original had a backlog");

    shop.cluster.create_database("copy");
    run("pg_restore", &["-d", "copy", dump.to_str().expect("a path")]);
    let mut copy = shop.cluster.connect("copy");
    assert_eq!(count(&mut copy, "SELECT count(*) FROM klaviyo.outbox"), ORDERS);
    sql(&mut copy, "SELECT klaviyo_arm_account()");
    shop.eventually("the copy has sent all", PATIENCE, || {
        count(&mut copy, "SELECT count(*) FROM klaviyo.delivery") == ORDERS
    });
    assert_eq!(bulk_calls(&shop.sandbox.receipts()).len(), rode, "nothing of the copy rode");
    assert_eq!(shop.sandbox.events().len() as i64, ORDERS);
    // What is queued there from now on is the copy's own.
    place_orders(&mut copy, ORDERS + 1, ORDERS + 2_000);
    shop.eventually("that has been sent too", PATIENCE, || {
        count(&mut copy, "SELECT count(*) FROM klaviyo.delivery") == ORDERS + 2_000
    });
    assert!(bulk_calls(&shop.sandbox.receipts()).len() > rode, "the copy's own messages ride");
    assert_eq!(shop.sandbox.events().len() as i64, ORDERS + 2_000);
    shop.cluster.stop(Stop::Fast);
}

/// Whoever owns the database can copy rows of the outbox, by a restore above all: then a message waits twice.
#[test]
fn a_message_that_waits_twice_is_delivered_once() {
    for reading in READINGS {
        let shop = shop(reading);
        let mut db = shop.connect();
        shop.cluster.set("klaviyo.enabled", "off");
        place_orders(&mut db, 1, ORDERS);
        sql(
            &mut db,
            "INSERT INTO klaviyo.outbox (message_id, account, kind, key, payload, enqueued_at)
             SELECT message_id, account, kind, key, payload, enqueued_at FROM klaviyo.outbox ORDER BY seq",
        );
        shop.cluster.set("klaviyo.enabled", "on");
        assert_eq!(shop.drain(PATIENCE * 2).dead, 0);
        let stats = shop.sandbox.stats();
        assert_eq!((stats.events, stats.bulk_repeats), (ORDERS.unsigned_abs(), 0), "{reading}");
        let recorded = "SELECT count(DISTINCT message_id) FROM klaviyo.delivery";
        assert_eq!(count(&mut db, recorded), ORDERS);
    }
}

/// Both are recorded by one transaction, where recording was held up meanwhile.
#[test]
fn a_message_that_waits_twice_is_recorded_all_the_same() {
    let shop = shop("at_once");
    let mut db = shop.connect();
    shop.cluster.set("klaviyo.enabled", "off");
    place_orders(&mut db, 1, 2);
    sql(
        &mut db,
        "INSERT INTO klaviyo.outbox (message_id, account, kind, key, payload, enqueued_at)
         SELECT message_id, account, kind, key, payload, enqueued_at FROM klaviyo.outbox ORDER BY seq DESC LIMIT 1",
    );
    const LATE: Duration = Duration::from_millis(300);
    let late = Fault::latency(LATE).matching("\"order_id\":2");
    shop.sandbox.set_faults(&[late]);
    sql(&mut db, "BEGIN; LOCK TABLE klaviyo.delivery IN EXCLUSIVE MODE");
    shop.cluster.set("klaviyo.enabled", "on");
    shop.eventually("the copy has been sent too", PATIENCE, || shop.sandbox.stats().event_repeats == 1);
    std::thread::sleep(LATE * 2);
    sql(&mut db, "COMMIT");
    shop.drain_soon();
    assert_eq!(count(&mut db, "SELECT count(DISTINCT message_id) FROM klaviyo.delivery"), 2);
    assert_eq!(shop.sandbox.stats().event_repeats, 1, "nothing was sent again");
}

/// The rows of a dump brought back into a database that has gone on: what failed meanwhile stands in both tables.
#[test]
fn a_message_that_also_waits_for_its_next_attempt_is_recorded_once() {
    let shop = shop("at_once");
    let mut db = shop.connect();
    shop.cluster.set("klaviyo.enabled", "off");
    place_orders(&mut db, 1, ORDERS);
    sql(
        &mut db,
        "INSERT INTO klaviyo.retry (seq, message_id, account, kind, key, payload, enqueued_at, attempts, strikes,
                                    not_before, last_attempt_at, last_code, last_error)
         SELECT seq, message_id, account, kind, key, payload, enqueued_at, 1, 1, now(), now(), 'server', 'it failed'
         FROM klaviyo.outbox WHERE seq % 2 = 0",
    );
    shop.cluster.set("klaviyo.enabled", "on");
    assert_eq!(shop.drain(PATIENCE * 2).dead, 0);
    assert_eq!(shop.sandbox.stats().events, ORDERS.unsigned_abs());
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.delivery"), ORDERS);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.retry"), 0);
}
