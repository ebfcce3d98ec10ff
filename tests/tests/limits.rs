//! Klaviyo's rate limits. The sandbox enforces them with windows of their real length and of a random phase; only the
//! numbers are scaled down, on both sides, so that a minute's budget can be spent by a test.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    BULK_EVENTS, Fault, Ledger, ORDER, PATIENCE, RaiseAtTheEnd, Receipt, SANDBOX_KEY, Shop, ShopBuilder,
    Signal, Stop, count, explain, kill, place_orders, place_orders_of, wait_for_worker, workers,
};
use serde_json::json;

/// What the numbers of requests are scaled by: 35 events a second and 350 a minute, 7 profiles and 75.
const SCALE: f64 = 0.1;
const LANES: [(&str, usize); 2] = [("/api/events", 350), ("/api/profile-import", 75)];

/// Scaled as well: a fresh worker takes so many calls for granted.
const IN_FLIGHT: usize = 6;

fn limited() -> ShopBuilder {
    Shop::builder()
        .single_calls()
        .rate_share(SCALE)
        .sandbox(["--count-scale", &SCALE.to_string()])
        .setting("klaviyo.max_in_flight", IN_FLIGHT)
}

/// Several accounts, each with windows of its own phase, over more than a minute of more work than they may do, with a
/// crash and a restart in between: never a 429, and the budget of a second minute is used too.
#[test]
fn limits_are_kept_without_a_single_refusal() {
    const ACCOUNTS: usize = 6;
    let seed = fastrand::u32(..).to_string();
    println!("seed of the sandbox: {seed}");
    let mut shop = limited().sandbox(["--seed", &seed]).start();
    shop.sandbox.set_faults(&[
        Fault::latency(Duration::from_millis(10)).probability(0.5),
        Fault::latency(Duration::from_millis(60)).probability(0.2),
        Fault::latency(Duration::from_millis(250)).probability(0.05),
        Fault::latency(Duration::from_millis(900)).probability(0.01),
    ]);
    let mut db = shop.connect();
    let keys: Vec<String> = (0..ACCOUNTS).map(|number| format!("pk_seed_{number:04}")).collect();
    for key in &keys {
        db.execute(
            "SELECT klaviyo_set_account($1, base_url => $2, private_key => $1, rate_share => $3)",
            &[key, &shop.sandbox.api(), &SCALE],
        )
        .and_then(|_| db.execute("SELECT klaviyo_arm_account($1)", &[key]))
        .unwrap_or_else(|error| panic!("the account cannot be set up: {}", explain(&error)));
        // More than two minutes' worth, so that there is always something to send.
        place_orders_of(key, &mut db, 1, 900);
        db.execute(
            "SELECT klaviyo_upsert_profile(external_id => 'p' || n, account => $1)
             FROM generate_series(1, 200) AS n",
            &[key],
        )
        .unwrap_or_else(|error| panic!("profiles cannot be queued: {}", explain(&error)));
    }
    let requests = |shop: &Shop| usize::try_from(shop.sandbox.stats().requests).expect("a small number");
    shop.eventually("sending has begun", PATIENCE, || requests(&shop) > 0);
    let began = Instant::now();
    shop.eventually("a part of the minute's budget is spent", PATIENCE, || requests(&shop) > ACCOUNTS * 90);
    shop.crash_worker(&mut db);
    shop.eventually("more of it is spent", PATIENCE, || requests(&shop) > ACCOUNTS * 220);
    println!("crashed and half-way after {:?}", began.elapsed());
    shop.cluster.restart(Stop::Fast);
    // What is more than a minute's budget goes out in a second window: the end of the first is where a limit is most
    // easily overstepped.
    shop.eventually("each lane has spent more than a minute's budget", PATIENCE * 3, || {
        thread::sleep(Duration::from_secs(1));
        assert_eq!(shop.sandbox.stats().throttled, 0, "a 429 after {:?}", began.elapsed());
        let receipts = shop.sandbox.receipts();
        LANES.iter().all(|(path, a_minute)| {
            keys.iter().all(|key| calls_of(&receipts, path, key) > a_minute + a_minute / 5)
        })
    });
    println!("spent after {:?}", began.elapsed());
}

/// The same with calls of many: never a 429, and what may not go in these spends the other budget meanwhile.
#[test]
fn limits_of_calls_of_many_are_kept_and_both_budgets_spent() {
    const A_MINUTE: usize = 15;
    let mut shop = Shop::builder().rate_share(SCALE).sandbox(["--count-scale", &SCALE.to_string()]).start();
    shop.sandbox.set_faults(&[
        Fault::latency(Duration::from_millis(20)).probability(0.5),
        Fault::latency(Duration::from_millis(300)).probability(0.1),
    ]);
    let mut db = shop.connect();
    place_orders(&mut db, 1, 60_000);
    let calls = |shop: &Shop, path: &str| {
        let receipts = shop.sandbox.receipt_heads_after(0);
        assert_eq!(shop.sandbox.stats().throttled, 0);
        receipts.iter().filter(|receipt| receipt.path == path).count()
    };
    shop.eventually("some calls of many are made", PATIENCE, || calls(&shop, BULK_EVENTS) >= 4);
    shop.crash_worker(&mut db);
    shop.eventually("some more are", PATIENCE, || calls(&shop, BULK_EVENTS) >= 9);
    shop.cluster.restart(Stop::Fast);
    shop.eventually("both lanes have spent more than a minute's budget", PATIENCE * 2, || {
        thread::sleep(Duration::from_millis(500));
        calls(&shop, BULK_EVENTS) > A_MINUTE + 4 && calls(&shop, "/api/events") > 350 + 50
    });
    assert_eq!(shop.sandbox.stats().bulk_repeats, 0);
}

/// How many calls of a lane were signed with a key.
fn calls_of(receipts: &[Receipt], path: &str, key: &str) -> usize {
    let suffix = Some(&key[key.len() - 4..]);
    let calls =
        receipts.iter().filter(|receipt| receipt.path == path && receipt.key_suffix.as_deref() == suffix);
    calls.count()
}

/// Somebody else spends the account's budget as well, and asks nobody. Refusals are then unavoidable; everything
/// arrives all the same, and after each the lane rests.
#[test]
fn a_second_sender_is_coped_with() {
    const ORDERS: i64 = 100;
    // Windows of 12 seconds and of 0.2: else most of the time would be waited away.
    let shop = limited().sandbox(["--window-scale", "0.2"]).start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    let stop = AtomicBool::new(false);
    let url = format!("{}/api/events", shop.sandbox.api());
    let (mut sent, mut refused, mut orders) = (0, 0, 0);
    let is_ours = |receipt: &Receipt| receipt.at(ORDER).is_some() && receipt.status == Some(429);
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            while !stop.load(SeqCst) {
                sent += 1;
                refused += usize::from(send_like_others(&url, sent) == 429);
                thread::sleep(Duration::from_millis(15));
            }
        });
        let finish = RaiseAtTheEnd(&stop);
        // Whom a limit meets is chance; it is gone on with until it has met us.
        shop.eventually("we meet a limit", PATIENCE * 2, || {
            place_orders(&mut db, orders + 1, orders + ORDERS);
            orders += ORDERS;
            shop.drain(PATIENCE * 2);
            shop.sandbox.receipts().iter().any(is_ours)
        });
        drop(finish);
        other.join().expect("the other sender has no reason to fail");
    });
    assert_eq!(shop.backlog().dead, 0);
    let receipts = shop.sandbox.receipts();
    let ledger = Ledger::new(&receipts, ORDER);
    ledger.assert_accepted_exactly(1..=orders);
    assert_eq!(ledger.needless_resends(), 0);
    let ours: Vec<&Receipt> = receipts.iter().filter(|receipt| receipt.at(ORDER).is_some()).collect();
    let refusals: Vec<&Receipt> = receipts.iter().filter(|receipt| is_ours(receipt)).collect();
    println!("we: {} requests, {} refused; the other: {sent}, {refused} refused", ours.len(), refusals.len());
    for refusal in refusals {
        // Retry-After is a second at least.
        let rest = refusal.at_us..refusal.at_us + 1_000_000;
        let meanwhile =
            ours.iter().filter(|other| other.n > refusal.n && rest.contains(&other.at_us)).count();
        // Those under way, and a few that started before the answer was read.
        assert!(meanwhile <= 2 * IN_FLIGHT, "{meanwhile} requests within a second of a 429");
    }
}

/// Posts an event, as another program of the same account would, and returns the status.
fn send_like_others(url: &str, number: usize) -> u16 {
    let event = json!({"data": {"type": "event", "attributes": {
        "metric": {"data": {"type": "metric", "attributes": {"name": "Other"}}},
        "profile": {"data": {"type": "profile", "attributes": {"external_id": format!("other-{number}")}}},
        "properties": {"number": number},
        "unique_id": format!("other-{number}"),
    }}});
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    let agent: ureq::Agent = config.timeout_global(Some(PATIENCE)).build().into();
    let answer = agent
        .post(url)
        .header("Authorization", format!("Klaviyo-API-Key {SANDBOX_KEY}"))
        .header("revision", "2026-07-15")
        .content_type("application/vnd.api+json")
        .send(event.to_string());
    answer.unwrap_or_else(|error| panic!("POST {url}: {error}")).status().as_u16()
}

/// A restart is no reason to knock again before Klaviyo wants to be asked.
#[test]
fn retry_after_outlives_the_worker() {
    const HOLD: u64 = 8;
    let shop = Shop::start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::throttle(HOLD).times(1)]);
    place_orders(&mut db, 1, 1);
    let held = "SELECT count(*) FROM klaviyo.retry WHERE last_status = 429";
    shop.eventually("the 429 is recorded", PATIENCE, || count(&mut db, held) == 1);
    let worker = wait_for_worker(&mut db);
    kill(worker, Signal::SIGTERM);
    shop.eventually("another worker", PATIENCE, || workers(&mut db).iter().any(|other| other.pid != worker));
    place_orders(&mut db, 2, 20);
    shop.drain_soon();
    let receipts = shop.sandbox.receipts();
    Ledger::new(&receipts, ORDER).assert_accepted_exactly(1..=20);
    let held_until = receipts[0].at_us + HOLD * 1_000_000;
    let early = receipts[1..].iter().filter(|receipt| receipt.at_us < held_until).count();
    assert_eq!(early, 0, "requests before Retry-After was over");
}
