//! Events under ids of the user's own: they ride in calls of many, and a repeated one never does, whoever has brought the
//! id to Klaviyo before and whatever has ended the worker since. Klaviyo minds a repeat at once or after its 202, and
//! takes nothing of a call that has one.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use harness::{Bulk, Fault, PATIENCE, Shop, Stop, count, query, sql};
use postgres::Client;

/// More than single calls may carry in a second, several times.
const ORDERS: i64 = 5_000;

const READINGS: [&str; 2] = ["at_once", "after"];

fn shop(reading: &'static str) -> Shop {
    let shop = Shop::builder().setting("klaviyo.retry_min_delay", "10ms").start();
    shop.sandbox.set_bulk(&Bulk { repeats: Some(reading), ..Bulk::default() });
    shop
}

/// Queues in one transaction what a query says of each event: whom it is about (an e-mail address or an external id), and
/// which order it tells of, whose number is its id.
fn queue(db: &mut Client, events: &str) -> i64 {
    count(
        db,
        &format!(
            "SELECT count(klaviyo_track_event(
                'Placed Order', unique_id => 'A-' || number, properties => jsonb_build_object('order_id', number),
                email => CASE WHEN person ~ '@' THEN person END, external_id => CASE WHEN person !~ '@' THEN person END
            ))
            FROM ({events}) AS e (person, number)"
        ),
    )
}

/// Queues an event of each of these orders, each by a customer of its own.
fn place(db: &mut Client, first: i64, last: i64) {
    let queued = queue(db, &format!("SELECT n::text, n FROM generate_series({first}, {last}) AS n"));
    assert_eq!(queued, last - first + 1);
}

/// Waits until all is delivered. In Klaviyo there is so much of each order, and no call of many failed for a repeat.
fn assert_there(shop: &Shop, orders: impl IntoIterator<Item = i64>, each: usize) {
    assert_eq!(shop.drain(PATIENCE * 2).dead, 0);
    let mut there: BTreeMap<i64, usize> = orders.into_iter().map(|order| (order, 0)).collect();
    for event in shop.sandbox.events() {
        let order = event.properties["order_id"].as_i64().expect("a number");
        *there.entry(order).or_default() += 1;
    }
    let wrong: Vec<_> = there.iter().filter(|(_, times)| **times != each).take(5).collect();
    assert!(wrong.is_empty(), "not there, or not so often: {wrong:?}");
    assert_eq!(shop.sandbox.stats().bulk_repeats, 0, "a call of many failed for what came before");
}

/// How many deliveries of orders from a number on went in calls of many.
fn rode(db: &mut Client, from: i64) -> i64 {
    count(db, &format!("SELECT count(*) FROM klaviyo.delivery WHERE bulk AND seq >= {from}"))
}

fn next_seq(db: &mut Client) -> i64 {
    count(db, "SELECT last_value + 1 FROM klaviyo.outbox_seq_seq")
}

#[test]
fn ids_ride_the_first_time_and_never_again() {
    for reading in READINGS {
        let mut shop = shop(reading);
        let mut db = shop.connect();
        place(&mut db, 1, ORDERS);
        assert_there(&shop, 1..=ORDERS, 1);
        let first = rode(&mut db, 1);
        assert!(first > 4_000, "{reading}: {first} rode");
        shop.assert_requests_conform();

        shop.cluster.restart(Stop::Fast);
        db = shop.connect();
        let from = next_seq(&mut db);
        place(&mut db, 1, ORDERS);
        assert_there(&shop, 1..=ORDERS, 1);
        assert_eq!(rode(&mut db, from), 0, "{reading}: all are known");

        // Known ones among new ones.
        let from = next_seq(&mut db);
        queue(
            &mut db,
            "SELECT s.n::text, s.n FROM generate_series(1, 10000) AS s (n) ORDER BY s.n % 10, s.n",
        );
        assert_there(&shop, 1..=10_000, 1);
        let rode = rode(&mut db, from);
        assert!(rode > 4_000, "{reading}: {rode} of {} rode", 10_000 - ORDERS);
    }
}

/// The same order again before the first has gone, also under a name that only Klaviyo knows to be the same person's.
#[test]
fn what_is_queued_again_at_once_waits_for_the_first_and_goes_alone() {
    const PEOPLE: i64 = 2_000;
    for reading in READINGS {
        let mut shop = shop(reading);
        // Another database tells Klaviyo who is who, so that here nobody knows.
        shop.add_database("people");
        let mut people = shop.cluster.connect("people");
        let who = "SELECT klaviyo_upsert_profile(external_id => n::text, email => n || '@shop.example')
                   FROM generate_series(1, 2000) AS n";
        sql(&mut people, who);
        shop.eventually("Klaviyo knows them", PATIENCE, || {
            count(&mut people, "SELECT count(*) FROM klaviyo.delivery") == PEOPLE
        });
        let mut db = shop.connect();
        // One after the other, in the next call, and behind all others.
        for (round, spread) in [1, 500, PEOPLE].into_iter().enumerate() {
            let first = round as i64 * PEOPLE + 1;
            let queued = queue(
                &mut db,
                &format!(
                    "SELECT CASE t WHEN 2 THEN n || '@shop.example' ELSE n::text END, {first} + n - 1
                     FROM generate_series(1, {PEOPLE}) AS s (n), generate_series(1, 3) AS t
                     ORDER BY s.n / {spread}, t, s.n"
                ),
            );
            assert_eq!(queued, 3 * PEOPLE);
            assert_there(&shop, 1..first + PEOPLE, 1);
        }
        let rode = rode(&mut db, 1);
        println!("{reading}: {rode} rode");
        assert!(rode > PEOPLE, "{reading}: {rode} rode");
    }
}

/// An id that many people's events have is known from the first on, and the rest go one by one, not one after the other.
#[test]
fn one_id_for_everybody_goes_by_itself_and_is_nobody_elses() {
    let shop = shop("after");
    let mut db = shop.connect();
    queue(&mut db, "SELECT n::text, 7 FROM generate_series(1, 3000) AS n");
    place(&mut db, 10_001, 10_000 + ORDERS);
    assert_eq!(shop.drain(PATIENCE * 2).dead, 0);
    let stats = shop.sandbox.stats();
    assert_eq!((shop.sandbox.events().len() as i64, stats.bulk_repeats), (3_000 + ORDERS, 0));
    assert!(rode(&mut db, 1) > 4_000);
}

#[test]
fn no_kill_lets_a_repeat_ride() {
    // Twice as much is queued: more than may have been sent when the worker is killed.
    const EACH: i64 = 14_000;
    for reading in READINGS {
        let mut shop = shop(reading);
        let mut db = shop.connect();
        for (round, postmaster) in [false, true].into_iter().enumerate() {
            let first = round as i64 * EACH + 1;
            let sent = shop.sandbox.stats().requests;
            // New orders, each once more a little later, and some of before in between.
            queue(
                &mut db,
                &format!(
                    "SELECT n::text, n
                     FROM generate_series({first}, {first} + {EACH} - 1) AS s (n), generate_series(0, 1) AS t
                     ORDER BY s.n + t * 1500"
                ),
            );
            let old = (first - 1_000).max(1);
            queue(&mut db, &format!("SELECT n::text, n FROM generate_series({old}, {first} + 500) AS n"));
            shop.eventually("some are sent", PATIENCE, || shop.sandbox.stats().requests > sent + 3);
            thread::sleep(Duration::from_millis(fastrand::u64(0..60)));
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
            assert_there(&shop, 1..first + EACH, 1);
        }
        let rode = rode(&mut db, 1);
        println!("{reading}: {rode} rode");
        assert!(rode > 0, "{reading}");
    }
}

/// What Klaviyo knows it knows of a restored database's events too.
#[test]
fn a_dump_carries_which_ids_are_known() {
    let mut shop = shop("after");
    let mut db = shop.connect();
    place(&mut db, 1, ORDERS);
    assert_there(&shop, 1..=ORDERS, 1);
    let dump = shop.cluster.directory().join("shop.dump");
    for (program, arguments) in [
        ("pg_dump", ["-Fc", "-f", dump.to_str().expect("a path"), "shop"]),
        ("pg_restore", ["-j1", "-d", "copy", dump.to_str().expect("a path")]),
    ] {
        if program == "pg_restore" {
            shop.cluster.create_database("copy");
        }
        let output = shop.cluster.client(program).args(arguments).output().expect("it can be run");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut copy = shop.cluster.connect("copy");
    sql(&mut copy, "SELECT klaviyo_arm_account()");
    queue(&mut copy, "SELECT s.n::text, s.n FROM generate_series(1, 10000) AS s (n) ORDER BY s.n % 10, s.n");
    shop.eventually("the copy has sent all", PATIENCE, || {
        count(&mut copy, "SELECT count(*) FROM klaviyo.delivery") == 10_000
    });
    assert_there(&shop, 1..=10_000, 1);
    let rode = rode(&mut copy, 1);
    assert!(rode > 4_000, "{rode} rode");
    shop.cluster.stop(Stop::Fast);
}

/// The id of a message is what Klaviyo knows its event by, so handed in as an id of one's own it is a repeat.
#[test]
fn the_id_of_another_message_is_known_without_being_looked_up() {
    let shop = shop("after");
    let mut db = shop.connect();
    sql(
        &mut db,
        "CREATE TABLE placed AS
         SELECT n, klaviyo_track_event('Placed Order', external_id => n::text,
                                       properties => jsonb_build_object('order_id', n)) AS message_id
         FROM generate_series(1, 5000) AS n",
    );
    assert_there(&shop, 1..=ORDERS, 1);
    sql(
        &mut db,
        "SELECT klaviyo_track_event('Placed Order', external_id => n::text, unique_id => upper(message_id::text),
                                    properties => jsonb_build_object('order_id', n)),
                klaviyo_track_event('Placed Order', external_id => n::text, unique_id => message_id::text,
                                    properties => jsonb_build_object('order_id', n))
         FROM placed",
    );
    place(&mut db, 5_001, 10_000);
    assert_eq!(shop.drain(PATIENCE * 2).dead, 0);
    // Written in capitals an id is another one, to Klaviyo too.
    assert_eq!(shop.sandbox.events().len(), 15_000);
    assert_eq!(shop.sandbox.stats().bulk_repeats, 0);
}

#[test]
fn where_others_send_too_ids_of_ones_own_do_not_ride() {
    let shop = shop("after");
    let mut db = shop.connect();
    shop.cluster.set("klaviyo.bulk", "generated_ids");
    place(&mut db, 1, ORDERS);
    assert_there(&shop, 1..=ORDERS, 1);
    assert_eq!(rode(&mut db, 1), 0);
    harness::place_orders(&mut db, ORDERS + 1, 2 * ORDERS);
    assert_there(&shop, 1..=2 * ORDERS, 1);
    assert!(rode(&mut db, 1) > 4_000, "those without one do");
}

/// They went alone, and were not on record, when the worker ended: afterwards they may have been sent.
#[test]
fn what_was_not_to_ride_does_not_after_a_crash_either() {
    let mut shop = shop("after");
    let mut db = shop.connect();
    shop.cluster.set("klaviyo.request_timeout", "10min");
    shop.cluster.set("klaviyo.bulk", "generated_ids");
    // A call has carried one of each, and Klaviyo's answer does not come.
    shop.sandbox.set_faults(&[Fault::hang_after()]);
    place(&mut db, 1, ORDERS);
    shop.eventually("as many are sent as may be", PATIENCE, || shop.sandbox.events().len() == 64);
    shop.cluster.kill9_postmaster();
    shop.cluster.set("klaviyo.bulk", "on");
    shop.cluster.start();
    shop.sandbox.clear_faults();
    assert_there(&shop, 1..=ORDERS, 1);
}

/// Nothing of an account that was removed is sent for another of its name, nor taken for new.
#[test]
fn what_was_buried_with_its_account_may_have_been_sent() {
    let shop = shop("after");
    let mut db = shop.connect();
    let key_file = query::<String>(&mut db, "SELECT private_key_file FROM klaviyo.account", &[]);
    for round in 0..3 {
        let (first, last) = (round * ORDERS + 1, (round + 1) * ORDERS);
        shop.sandbox.set_faults(&[Fault::hang_after().lasting(Duration::from_millis(500))]);
        let before = shop.sandbox.stats().requests;
        place(&mut db, first, last);
        shop.eventually("some are sent", PATIENCE, || shop.sandbox.stats().requests > before);
        thread::sleep(Duration::from_millis(fastrand::u64(0..100)));
        sql(&mut db, "SELECT klaviyo_remove_account('default', bury_waiting => true)");
        shop.eventually("what waited is buried", PATIENCE, || shop.backlog().waiting() == 0);
        shop.sandbox.clear_faults();
        sql(
            &mut db,
            &format!(
                "SELECT klaviyo_set_account(base_url => '{}', private_key_file => '{key_file}', rate_share => 1e6),
                        klaviyo_arm_account()",
                shop.sandbox.api()
            ),
        );
        place(&mut db, first, last);
        sql(&mut db, "SELECT klaviyo_discard(account => 'default')");
        assert_there(&shop, 1..=last, 1);
    }
}

#[test]
fn ids_are_kept_for_as_long_as_one_wishes() {
    let shop = shop("after");
    let mut db = shop.connect();
    place(&mut db, 1, 20);
    shop.drain_soon();
    let known = "SELECT count(*)
                 FROM klaviyo.sent_unique_id AS s, generate_series(1, 20) AS n
                 WHERE s.digest = klaviyo.unique_id_digest('default', 'Placed Order', 'A-' || n)";
    assert_eq!(count(&mut db, known), 20, "SQL and the worker agree on the digest");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.sent_unique_id"), 20);
    // More than are deleted in one go.
    sql(
        &mut db,
        "INSERT INTO klaviyo.sent_unique_id (digest, sent_at)
         SELECT gen_random_uuid(), now() - interval '3 days' FROM generate_series(1, 25000)",
    );
    shop.cluster.set("klaviyo.unique_id_retention", "2d");
    shop.eventually("old ids are forgotten", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.sent_unique_id") == 20
    });
    shop.eventually("it is told", PATIENCE, || {
        shop.cluster.log().contains("forgot unique_ids older than klaviyo.unique_id_retention: 25000")
    });
}
