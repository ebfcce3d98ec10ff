//! The views `klaviyo.lane`, `klaviyo.throughput` and `klaviyo.latency`: what they show is what happens.

use std::time::Duration;

use harness::{
    Fault, PATIENCE, SANDBOX_KEY, Shop, Signal, Stop, count, kill, place_orders, query, sql, wait_for_worker,
    workers,
};
use postgres::Client;

const EVENTS: &str = "events";

fn lane_state(db: &mut Client) -> Option<String> {
    query(db, "SELECT max(state) FROM klaviyo.lane WHERE account = 'default' AND lane = $1", &[&EVENTS])
}

fn wait_for_state(shop: &Shop, db: &mut Client, state: &str) {
    let mut last = None;
    shop.eventually(&format!("the lane is {state}"), PATIENCE, || {
        last = lane_state(db);
        last.as_deref() == Some(state)
    });
}

/// Messages accepted, calls ended, of them failed, and of those throttled.
fn throughput(db: &mut Client) -> [i64; 4] {
    let query = "SELECT accepted, calls, failures, throttled FROM klaviyo.throughput
                 WHERE account = 'default' AND lane = $1";
    let row = db.query_opt(query, &[&EVENTS]).expect("the view can be read");
    row.map_or([0; 4], |row| [0, 1, 2, 3].map(|column| row.get(column)))
}

#[test]
fn a_lane_shows_what_it_does() {
    let shop = Shop::builder()
        .setting("klaviyo.poll_interval", "200ms")
        .setting("klaviyo.retry_max_delay", "200ms")
        .setting("klaviyo.max_in_flight", 4)
        .sandbox(["--key", SANDBOX_KEY])
        .start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    wait_for_state(&shop, &mut db, "idle");
    let frozen = shop.sandbox.freeze();
    place_orders(&mut db, 1, 20);
    wait_for_state(&shop, &mut db, "sending");
    shop.eventually("it shows its calls and what may follow", PATIENCE, || {
        let numbers = db
            .query_one("SELECT under_way, ready FROM klaviyo.lane WHERE lane = $1", &[&EVENTS])
            .expect("the view can be read");
        (numbers.get::<_, i32>(0), numbers.get::<_, i64>(1)) == (4, 16)
    });
    drop(frozen);
    shop.drain_soon();
    wait_for_state(&shop, &mut db, "idle");

    shop.sandbox.set_faults(&[Fault::throttle(3_600).times(1)]);
    place_orders(&mut db, 21, 22);
    wait_for_state(&shop, &mut db, "held");
    let held: f64 = query(
        &mut db,
        "SELECT extract(epoch FROM held_until - now())::float8 FROM klaviyo.lane WHERE lane = $1",
        &[&EVENTS],
    );
    assert!((3_000.0..=3_601.0).contains(&held), "held for {held} seconds");
}

#[test]
fn a_lane_shows_that_it_is_stopped_or_that_nobody_answers() {
    let shop = Shop::builder()
        .setting("klaviyo.poll_interval", "200ms")
        .setting("klaviyo.retry_min_delay", "10ms")
        .setting("klaviyo.retry_max_delay", "200ms")
        .start();
    let mut db = shop.connect();
    place_orders(&mut db, 1, 5);
    shop.drain_soon();
    sql(&mut db, "SELECT klaviyo_pause_account()");
    wait_for_state(&shop, &mut db, "stopped");
    sql(&mut db, "SELECT klaviyo_resume_account()");
    wait_for_state(&shop, &mut db, "idle");
    shop.sandbox.down();
    place_orders(&mut db, 6, 30);
    wait_for_state(&shop, &mut db, "breaker open");
    shop.sandbox.up();
    shop.drain_soon();
    wait_for_state(&shop, &mut db, "idle");
}

/// A tenth of Klaviyo's limits: 35 calls a second and 350 a minute.
#[test]
fn a_lane_shows_what_is_left_of_its_limits() {
    let shop = Shop::builder().single_calls().rate_share(0.1).setting("klaviyo.max_in_flight", 4).start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    place_orders(&mut db, 1, 1_000);
    wait_for_state(&shop, &mut db, "at its limit");
    let row = db
        .query_one(
            "SELECT second_calls, minute_calls, day_calls FROM klaviyo.lane WHERE lane = $1",
            &[&EVENTS],
        )
        .expect("the view can be read");
    assert_eq!((row.get(0), row.get(1), row.get(2)), (Some(35_i64), Some(350_i64), None::<i64>));
    shop.eventually("the minute's budget is spent", PATIENCE, || {
        let left = "SELECT sum(minute_left)::bigint FROM klaviyo.lane WHERE lane = 'events'";
        query::<Option<i64>>(&mut db, left, &[]) == Some(0)
    });
    // What a fresh worker takes for granted has not been sent.
    let requests = shop.sandbox.stats().requests;
    assert!((340..=350).contains(&requests), "{requests} requests spend 350");
}

#[test]
fn throughput_counts_what_was_delivered_and_outlives_the_worker() {
    let mut shop = Shop::builder()
        .setting("klaviyo.poll_interval", "200ms")
        .setting("klaviyo.retry_min_delay", "10ms")
        .setting("klaviyo.retry_max_delay", "50ms")
        .start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    place_orders(&mut db, 1, 100);
    shop.drain_soon();
    assert_eq!(throughput(&mut db), [100, 100, 0, 0]);
    shop.eventually("the last minute has them", PATIENCE, || {
        count(&mut db, "SELECT sum(accepted_last_minute)::bigint FROM klaviyo.throughput") > 0
    });
    shop.sandbox.set_faults(&[
        Fault::throttle(1).times(1),
        Fault::status(503).times(3),
        Fault::status(400).error("invalid", "no").matching("\"101\""),
    ]);
    place_orders(&mut db, 101, 110);
    assert_eq!(shop.drain_soon().dead, 1);
    let receipts = shop.sandbox.receipts();
    let failed = |status: u16| {
        let failed = receipts.iter().filter(|receipt| receipt.status == Some(status)).count();
        i64::try_from(failed).expect("a few")
    };
    let calls = i64::try_from(receipts.len()).expect("a few");
    assert_eq!(throughput(&mut db), [109, calls, failed(429) + failed(503) + failed(400), 1]);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.delivery"), 109);

    let worker = wait_for_worker(&mut db);
    kill(worker, Signal::SIGTERM);
    shop.eventually("another worker", PATIENCE, || workers(&mut db).iter().any(|other| other.pid != worker));
    place_orders(&mut db, 111, 120);
    shop.drain_soon();
    shop.eventually("it counts on", PATIENCE, || {
        throughput(&mut db) == [119, calls + 10, failed(429) + failed(503) + failed(400), 1]
    });
    shop.cluster.restart(Stop::Fast);
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    assert_eq!(throughput(&mut db), [0; 4], "since the server started");
}

#[test]
fn latency_is_what_calls_and_deliveries_take() {
    const LATENCY: f64 = 200.0;
    let shop = Shop::builder().setting("klaviyo.max_in_flight", 8).start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    shop.sandbox.set_faults(&[Fault::latency(Duration::from_secs_f64(LATENCY / 1_000.0))]);
    // Most of them wait for those before: deliveries take longer than calls.
    place_orders(&mut db, 1, 64);
    shop.drain_soon();
    let row = db
        .query_one(
            "SELECT call_p50_ms, call_p95_ms, call_p99_ms, delivery_p50_ms, delivery_p95_ms, delivery_p99_ms
             FROM klaviyo.latency WHERE account = 'default' AND lane = $1",
            &[&EVENTS],
        )
        .expect("the view can be read");
    let [call_50, call_95, call_99, delivery_50, delivery_95, delivery_99]: [f64; 6] =
        [0, 1, 2, 3, 4, 5].map(|column| row.get(column));
    println!("calls {call_50} {call_95} {call_99}, deliveries {delivery_50} {delivery_95} {delivery_99} ms");
    assert!(call_50 >= LATENCY && call_50 <= call_95 && call_95 <= call_99);
    assert!(delivery_50 <= delivery_95 && delivery_95 <= delivery_99);
    assert!(delivery_50 >= call_50 * 2.0 && delivery_95 >= call_95 && delivery_99 >= call_99);
    // Right to within a quarter, whatever the machine's speed.
    let longest: f64 = query(
        &mut db,
        "SELECT max(extract(epoch FROM settled_at - enqueued_at) * 1000)::float8 FROM klaviyo.delivery",
        &[],
    );
    assert!(delivery_99 <= longest * 1.26, "{delivery_99} of at most {longest} ms");
}
