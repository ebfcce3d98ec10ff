//! Retention: partitions of deliveries made ahead and dropped when old, dead letters within their bounds, and nobody
//! held up or harmed by either.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use harness::{
    Ledger, ORDER, PATIENCE, Shop, ShopBuilder, Stop, count, explain, place_orders, sql, wait_for_worker,
};
use postgres::Client;

/// A shop on a day that does not end or begin while a test counts days.
fn shop_at_day(shop: ShopBuilder) -> Shop {
    let (day, margin) = (Duration::from_secs(86_400), Duration::from_secs(360));
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    let left = day.as_secs() - since_epoch.as_secs() % day.as_secs();
    if left < margin.as_secs() {
        thread::sleep(Duration::from_secs(left) + margin);
    } else if left > (day - margin).as_secs() {
        thread::sleep(margin);
    }
    shop.start()
}

/// The days that have a partition, counted from today.
fn days(db: &mut Client) -> Vec<i32> {
    let query =
        "SELECT day - (now() AT TIME ZONE 'UTC')::date FROM klaviyo.delivery_days() AS day ORDER BY 1";
    db.query(query, &[]).expect("days can be read").iter().map(|row| row.get(0)).collect()
}

/// Makes a delivery of some days ago, and its partition.
fn deliver(db: &mut Client, days_ago: i32, partition: bool) {
    if partition {
        db.execute(
            "SELECT klaviyo.add_delivery_day((now() AT TIME ZONE 'UTC')::date - $1::int)",
            &[&days_ago],
        )
        .unwrap_or_else(|error| panic!("no partition {days_ago} days ago: {}", explain(&error)));
    }
    db.execute(
        "INSERT INTO klaviyo.delivery (message_id, seq, account, kind, key, http_status, attempts, enqueued_at, sent_at, settled_at)
         SELECT gen_random_uuid(), 1, 'default', 'event', '{external_id:old}', 202, 1, at, at, at
         FROM (SELECT now() - $1::int * interval '1 day' AS at) AS t",
        &[&days_ago],
    )
    .unwrap_or_else(|error| panic!("no delivery {days_ago} days ago: {}", explain(&error)));
}

/// Makes dead letters, the first one `first` hours old, each a hour younger than the one before.
fn bury(db: &mut Client, dead: i32) {
    db.execute(
        "WITH dead AS (
             INSERT INTO klaviyo.dead_letter (message_id, seq, account, kind, key, payload, code, reason, attempts, enqueued_at, died_at)
             SELECT gen_random_uuid(), -n, 'default', 'profile', '{external_id:old}', '{}', 'invalid', 'n ' || n, 1, now(),
                    now() - n * interval '1 hour'
             FROM generate_series(1, $1::int) AS n
             RETURNING message_id
         )
         INSERT INTO klaviyo.superseded (message_id, newer_seq) SELECT message_id, 1 FROM dead",
        &[&dead],
    )
    .unwrap_or_else(|error| panic!("dead letters cannot be made: {}", explain(&error)));
}

/// Lines of the log that hold a text.
fn said(shop: &Shop, text: &str) -> usize {
    shop.cluster.log().lines().filter(|line| line.contains(text)).count()
}

#[test]
fn days_to_come_get_partitions_and_old_ones_lose_theirs() {
    let mut shop = shop_at_day(Shop::builder());
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    assert_eq!(days(&mut db), [0, 1, 2, 3]);
    // As after a week without a worker: no partition of today, but old ones.
    shop.cluster.stop(Stop::Fast);
    shop.cluster.set("klaviyo.enabled", "off");
    shop.cluster.set("shared_preload_libraries", "");
    shop.cluster.start();
    let mut db = shop.connect();
    for day in 0..=3 {
        db.execute("SELECT klaviyo.drop_delivery_day((now() AT TIME ZONE 'UTC')::date + $1::int)", &[&day])
            .expect("dropped");
    }
    for days_ago in [40, 32, 31, 30, 29, 1] {
        deliver(&mut db, days_ago, true);
    }
    deliver(&mut db, 41, false);
    deliver(&mut db, 28, false);
    drop(db);
    shop.cluster.set("klaviyo.enabled", "on");
    shop.cluster.set("shared_preload_libraries", "klaviyo_sync");
    shop.cluster.restart(Stop::Fast);
    let mut db = shop.connect();
    place_orders(&mut db, 1, 10);
    shop.drain_soon();
    // Thirty days ago is not over for the whole day.
    shop.eventually("the days are as they should be", PATIENCE, || {
        days(&mut db) == [-30, -29, -1, 0, 1, 2, 3]
    });
    shop.eventually("strays are gone", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.delivery_default") == 1
    });
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.delivery"), 3 + 1 + 10);
    assert_eq!(said(&shop, "dropped the deliveries of days older than klaviyo.delivery_retention: 3"), 1);
    assert_eq!(said(&shop, "dropped deliveries older than klaviyo.delivery_retention: 1"), 1);
    // Another setting is obeyed at once.
    shop.cluster.set("klaviyo.delivery_retention", "2d");
    shop.eventually("shorter", PATIENCE, || days(&mut db) == [-1, 0, 1, 2, 3]);
    shop.cluster.set("klaviyo.delivery_retention", "0");
    shop.eventually("shortest", PATIENCE, || days(&mut db) == [0, 1, 2, 3]);
    shop.cluster.set("klaviyo.delivery_retention", "-1");
    deliver(&mut db, 1000, true);
    thread::sleep(Duration::from_secs(2));
    assert_eq!(days(&mut db), [-1000, 0, 1, 2, 3], "-1 keeps for ever");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.delivery_default"), 0);
}

/// A report that reads deliveries all day holds a lock that keeps partitions from coming and going. Nobody else notices.
#[test]
fn a_reader_holds_up_nobody_and_partitions_wait() {
    let shop = shop_at_day(Shop::builder().setting("klaviyo.delivery_retention", "-1"));
    let (mut db, mut reader) = (shop.connect(), shop.connect());
    wait_for_worker(&mut db);
    deliver(&mut db, 40, true);
    // Something delivered: the first round is over, or it would make at once what is taken away here.
    place_orders(&mut db, 1_000, 1_000);
    shop.drain_soon();
    sql(&mut db, "SELECT klaviyo.drop_delivery_day((now() AT TIME ZONE 'UTC')::date + 3)");
    sql(&mut reader, "BEGIN; SELECT count(*) FROM klaviyo.delivery");
    shop.cluster.set("klaviyo.delivery_retention", "31d");
    for step in ["partitions of the days to come", "partitions of old days"] {
        let line = format!("upkeep ({step}) failed: canceling statement due to lock timeout");
        shop.eventually(&line, PATIENCE, || said(&shop, &line) == 1);
    }
    for round in 0..5 {
        let began = Instant::now();
        place_orders(&mut db, round * 100 + 1, round * 100 + 100);
        shop.drain_soon();
        count(&mut db, "SELECT count(*) FROM klaviyo.delivery");
        println!("round {round}: {:?}", began.elapsed());
    }
    assert_eq!(days(&mut db), [-40, 0, 1, 2]);
    // The reader is not harmed, and nor is the worker.
    sql(&mut reader, "SELECT count(*) FROM klaviyo.delivery; COMMIT");
    shop.cluster.set("klaviyo.delivery_retention", "32d");
    shop.eventually("days come and go when the reader is gone", PATIENCE, || days(&mut db) == [0, 1, 2, 3]);
    shop.eventually("that is told", PATIENCE, || {
        said(&shop, "upkeep (partitions of old days) works again") == 1
    });
    assert_eq!(said(&shop, "upkeep (partitions of old days) failed"), 1);
    Ledger::new(&shop.sandbox.receipts(), ORDER).assert_accepted_exactly((1..=500).chain([1_000]));
    assert_eq!(Ledger::new(&shop.sandbox.receipts(), ORDER).resends(), 0);
}

/// What upkeep stumbles over: an object of the user's that needs a partition, event triggers that forbid everything.
#[test]
fn a_step_that_fails_harms_no_other() {
    let shop = shop_at_day(Shop::builder().setting("klaviyo.delivery_retention", "-1"));
    let mut db = shop.connect();
    let worker = wait_for_worker(&mut db);
    deliver(&mut db, 40, true);
    deliver(&mut db, 50, false);
    bury(&mut db, 10);
    let name: String = db
        .query_one(
            "SELECT 'klaviyo.delivery_' || to_char((now() AT TIME ZONE 'UTC')::date - 40, 'YYYYMMDD')",
            &[],
        )
        .expect("it has a name")
        .get(0);
    sql(&mut db, &format!("CREATE VIEW report AS SELECT * FROM {name}"));
    sql(
        &mut db,
        "CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no changes here'; END $$;
         CREATE EVENT TRIGGER forbid ON ddl_command_end EXECUTE FUNCTION forbid();
         CREATE EVENT TRIGGER forbid_drop ON sql_drop EXECUTE FUNCTION forbid()",
    );
    shop.cluster.set("klaviyo.dead_letter_retention", "5h");
    shop.cluster.set("klaviyo.delivery_retention", "31d");
    shop.eventually("dead letters are dropped all the same", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.dead_letter") == 4
    });
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.delivery_default"), 0);
    assert_eq!(days(&mut db), [-40, 0, 1, 2, 3]);
    assert!(
        said(&shop, "upkeep (partitions of old days) failed: cannot drop table") == 1,
        "{}",
        shop.cluster.log_tail(50)
    );
    place_orders(&mut db, 1, 100);
    shop.drain_soon();
    sql(
        &mut db,
        "ALTER EVENT TRIGGER forbid DISABLE; ALTER EVENT TRIGGER forbid_drop DISABLE; DROP VIEW report",
    );
    sql(&mut db, "ALTER EVENT TRIGGER forbid ENABLE; ALTER EVENT TRIGGER forbid_drop ENABLE");
    shop.cluster.set("klaviyo.delivery_retention", "32d");
    shop.eventually("it is dropped, whatever the event triggers say", PATIENCE, || {
        days(&mut db) == [0, 1, 2, 3]
    });
    assert_eq!(wait_for_worker(&mut db), worker, "the worker has lived through all of it");
}

#[test]
fn dead_letters_stay_within_their_bounds() {
    let shop = Shop::start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    bury(&mut db, 25_000);
    thread::sleep(Duration::from_secs(2));
    assert_eq!(
        count(&mut db, "SELECT count(*) FROM klaviyo.dead_letter"),
        25_000,
        "kept unless told otherwise"
    );
    // Somebody is just dealing with one of those that are to go.
    let mut person = shop.connect();
    sql(
        &mut person,
        "BEGIN; SELECT klaviyo_discard((SELECT message_id FROM klaviyo.dead_letter WHERE reason = 'n 24999'))",
    );
    shop.cluster.set("klaviyo.dead_letter_limit", "100");
    let left = "SELECT count(*) FROM klaviyo.dead_letter WHERE died_at > now() - interval '101 hours'";
    shop.eventually("the oldest are gone", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.dead_letter") <= 101
    });
    shop.eventually("that is told", PATIENCE, || {
        said(&shop, "dropped dead letters above klaviyo.dead_letter_limit, the oldest: 24900") == 1
    });
    sql(&mut person, "COMMIT");
    println!("{} of the youngest are left", count(&mut db, left));
    assert_eq!(
        count(&mut db, "SELECT count(*) FROM klaviyo.dead_letter WHERE reason = 'n 99'"),
        1,
        "the youngest stay"
    );
    assert_eq!(
        count(&mut db, "SELECT count(*) FROM klaviyo.superseded"),
        count(&mut db, "SELECT count(*) FROM klaviyo.dead_letter"),
        "their marks go with them"
    );
    shop.cluster.set("klaviyo.dead_letter_retention", "1d");
    shop.eventually("the old are gone", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.dead_letter") == 23
    });
    shop.eventually("that is told", PATIENCE, || {
        said(&shop, "dropped dead letters older than klaviyo.dead_letter_retention") == 1
    });
    let worker = wait_for_worker(&mut db);
    place_orders(&mut db, 1, 100);
    shop.drain_soon();
    assert_eq!(wait_for_worker(&mut db), worker);
}
