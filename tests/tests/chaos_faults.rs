//! Klaviyo in every kind of trouble at once: all is delivered, and no more is sent again than the trouble explains. Each
//! message goes in a call of its own, so that troubles meet many calls; for calls of many see bulk.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harness::{
    Fault, Ledger, ORDER, PATIENCE, Receipt, Shop, ShopBuilder, count, explain, place_orders, sql,
};
use serde_json::Value;

/// Calls of a lane that may be under way: the default of `klaviyo.max_in_flight`.
const IN_FLIGHT: usize = 64;

/// What there is at least between two probes of a lane.
const RETRY_MIN_DELAY: Duration = Duration::from_millis(50);

/// A shop that tries again soon, so that a test of many failures does not take long.
fn hasty() -> ShopBuilder {
    Shop::builder()
        .single_calls()
        .setting("klaviyo.retry_min_delay", format!("{}ms", RETRY_MIN_DELAY.as_millis()))
        .setting("klaviyo.retry_max_delay", "2s")
}

/// The messages in the body of a profile's call: each set a property of its own, and calls may be merged.
fn states(receipt: &Receipt) -> Vec<String> {
    let properties = receipt.at("data.attributes.properties").and_then(Value::as_object);
    let names = properties.into_iter().flat_map(|properties| properties.keys());
    names.filter_map(|name| name.strip_prefix("state_")).map(str::to_owned).collect()
}

#[test]
fn ten_thousand_messages_survive_all_of_klaviyos_troubles() {
    const EVENTS: i64 = 9_000;
    const PROFILES: i64 = 1_000;
    const CUSTOMERS: i64 = 4_000;
    // Some calls hang.
    let shop = hasty().setting("klaviyo.request_timeout", "3s").start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[
        Fault::latency(Duration::from_millis(5)).probability(0.2),
        Fault::latency(Duration::from_millis(50)).probability(0.02),
        Fault::throttle(1).probability(0.005).times(6),
        Fault::status(500).probability(0.03),
        Fault::status(503).probability(0.03),
        Fault::malformed().probability(0.02),
        Fault::reset_before().probability(0.02),
        Fault::reset_after().probability(0.02),
        Fault::half().probability(0.02),
        Fault::hang().probability(0.003),
        Fault::hang_after().probability(0.003),
    ]);
    sql(
        &mut db,
        "CREATE TABLE orders (id bigint PRIMARY KEY, customer text NOT NULL, message_id uuid NOT NULL);
         CREATE TABLE states (id bigint PRIMARY KEY, customer text NOT NULL, message_id uuid NOT NULL)",
    );
    // In portions, so that reading, sending and writing go on side by side.
    for portion in 0..10 {
        db.execute(
            "INSERT INTO orders
             SELECT n, customer, klaviyo_track_event('Placed Order', external_id => customer,
                                                     properties => jsonb_build_object('order_id', n))
             FROM generate_series($1::bigint, $2::bigint) AS n, LATERAL (SELECT 'customer-' || n % $3::bigint) AS c (customer)",
            &[&(portion * EVENTS / 10 + 1), &((portion + 1) * EVENTS / 10), &CUSTOMERS],
        )
        .unwrap_or_else(|error| panic!("orders cannot be placed: {}", explain(&error)));
        db.execute(
            "INSERT INTO states
             SELECT n, customer, klaviyo_upsert_profile(
                 external_id => customer, properties => jsonb_build_object('state_' || n, n, 'latest', n))
             FROM generate_series($1::bigint, $2::bigint) AS n, LATERAL (SELECT 'customer-' || n % ($3::bigint / 10)) AS c (customer)",
            &[&(portion * PROFILES / 10 + 1), &((portion + 1) * PROFILES / 10), &CUSTOMERS],
        )
        .unwrap_or_else(|error| panic!("profiles cannot be changed: {}", explain(&error)));
    }

    shop.eventually("a third has been sent", PATIENCE * 2, || shop.sandbox.stats().requests > 3_500);
    shop.sandbox.down();
    let before = shop.sandbox.stats().requests;
    let waiting = shop.backlog().waiting();
    assert!(waiting > 0, "nothing was left to send when Klaviyo went down");
    let refused = "SELECT count(*) FROM klaviyo.retry WHERE last_code = 'connect'";
    shop.eventually("calls are refused", PATIENCE, || count(&mut db, refused) > 0);
    assert_eq!(shop.sandbox.stats().requests, before, "who is down receives nothing");
    shop.sandbox.up();
    let backlog = shop.drain(PATIENCE * 4);
    assert_eq!(
        backlog.dead,
        0,
        "{}",
        shop.cluster.psql("shop", "SELECT code, reason FROM klaviyo.dead_letter LIMIT 5")
    );

    // Every kind of trouble was met.
    let troubles = shop.sandbox.stats().troubles();
    println!("troubles: {troubles:?}");
    for trouble in [
        "latency",
        "throttle",
        "500",
        "503",
        "malformed",
        "reset_before",
        "reset_after",
        "half",
        "hang",
        "hang_after",
    ] {
        assert!(
            troubles.get(trouble).is_some_and(|count| *count > 0),
            "{trouble} never happened: {troubles:?}"
        );
    }

    // Everything arrived, and is told to have arrived.
    let receipts = shop.sandbox.receipts();
    let orders = Ledger::new(&receipts, ORDER);
    let states = Ledger::by(&receipts, states);
    orders.assert_accepted_exactly(1..=EVENTS);
    states.assert_accepted_exactly(1..=PROFILES);
    for (table, ledger, messages) in [("orders", &orders, EVENTS), ("states", &states, PROFILES)] {
        let told = db
            .query(
                &format!(
                    "SELECT t.id, d.attempts FROM {table} AS t JOIN klaviyo.delivery AS d USING (message_id)"
                ),
                &[],
            )
            .unwrap_or_else(|error| panic!("deliveries cannot be read: {}", explain(&error)));
        assert_eq!(told.len(), usize::try_from(messages).expect("a small number"), "deliveries of {table}");
        for row in told {
            let (id, attempts): (i64, i32) = (row.get(0), row.get(1));
            let sends = i32::try_from(ledger.sends(&id.to_string())).expect("a small number");
            assert!(
                sends <= attempts,
                "{table} {id} was sent {sends} times, and told to have been {attempts} times"
            );
        }
    }
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.delivery"), EVENTS + PROFILES);

    // What was sent again had a reason: its answer was bad or lost. When Klaviyo goes down, answers are lost too.
    let (resends, needless) = (orders.resends(), orders.needless_resends());
    let unexplained = [orders.unexplained_resends(), states.unexplained_resends()];
    println!(
        "events: {resends} re-sends, {needless} of them needless; unexplained of events, profiles: {unexplained:?}"
    );
    for unexplained in unexplained {
        assert!(unexplained <= IN_FLIGHT, "{unexplained} re-sends without a reason");
    }

    // Once in Klaviyo.
    let events = shop.sandbox.events();
    let kept: BTreeSet<i64> =
        events.iter().filter_map(|event| event.properties["order_id"].as_i64()).collect();
    assert_eq!((events.len(), kept.len()), (9_000, 9_000));

    // In order, and the last state of a profile is what Klaviyo holds.
    let of_customers = Ledger::new(&receipts, "data.attributes.profile.data.attributes.external_id");
    of_customers.assert_ascending(ORDER);
    let latest = db
        .query("SELECT customer, max(id), array_agg(id) FROM states GROUP BY customer", &[])
        .unwrap_or_else(|error| panic!("states cannot be read: {}", explain(&error)));
    let profiles = shop.sandbox.profiles();
    let profiles: BTreeMap<&str, &Value> = profiles
        .iter()
        .filter_map(|profile| {
            Some((profile.attributes["external_id"].as_str()?, &profile.attributes["properties"]))
        })
        .collect();
    for row in latest {
        let (customer, last, all): (&str, i64, Vec<i64>) = (row.get(0), row.get(1), row.get(2));
        let properties = profiles.get(customer).unwrap_or_else(|| panic!("{customer} is missing"));
        assert_eq!(properties["latest"], last, "{customer}");
        for id in all {
            assert_eq!(properties[format!("state_{id}")], id, "{customer}");
        }
    }
}

/// A 429 holds back all of its lane, not only the message it answered.
#[test]
fn retry_after_is_obeyed() {
    const LIMIT: usize = 4;
    const HOLD: u64 = 3;
    let shop = hasty().setting("klaviyo.max_in_flight", LIMIT).start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::throttle(HOLD).matching("\"order_id\":300").times(1)]);
    place_orders(&mut db, 1, 600);
    shop.drain_soon();
    let receipts = shop.sandbox.receipts();
    let refused = receipts.iter().find(|receipt| receipt.status == Some(429)).expect("it was there");
    let held_until = refused.at_us + HOLD * 1_000_000;
    let meanwhile =
        receipts.iter().filter(|receipt| receipt.n > refused.n && receipt.at_us < held_until).count();
    println!("{meanwhile} requests arrived while the lane was to be held");
    // Those under way, and a few that started before the answer was read.
    assert!(meanwhile <= 2 * LIMIT, "{meanwhile} requests arrived while the lane was to be held");
    let orders = Ledger::new(&receipts, ORDER);
    orders.assert_accepted_exactly(1..=600);
    assert_eq!((orders.resends(), orders.needless_resends()), (1, 0));
}

/// A long outage kills no message, and costs Klaviyo no more than a probe now and then.
#[test]
fn an_outage_makes_no_dead_letters() {
    const LIMIT: usize = 4;
    /// Failures in a row that open the breaker.
    const TRIP: usize = 5;
    let shop = hasty()
        .setting("klaviyo.max_in_flight", LIMIT)
        .setting("klaviyo.max_strikes", 2)
        .setting("klaviyo.retry_max_delay", "200ms")
        .start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::status(500)]);
    place_orders(&mut db, 1, 500);
    // Once the breaker has opened, one probe at a time: every one a chance to count too much against a message.
    shop.eventually("the outage has lasted a while", PATIENCE, || shop.sandbox.stats().answered(500) > 75);
    shop.sandbox.clear_faults();
    let backlog = shop.drain_soon();
    assert_eq!(backlog.dead, 0);
    let receipts = shop.sandbox.receipts();
    let failed: Vec<&Receipt> = receipts.iter().filter(|receipt| receipt.status == Some(500)).collect();
    // Those that opened it and those under way by then, twice: the first probe may meet the last of them.
    for pair in failed[TRIP + 2 * LIMIT..].windows(2) {
        let apart = Duration::from_micros(pair[1].at_us - pair[0].at_us);
        assert!(apart >= RETRY_MIN_DELAY, "probes {apart:?} apart (request {})", pair[1].n);
    }
    let orders = Ledger::new(&receipts, ORDER);
    orders.assert_accepted_exactly(1..=500);
    assert_eq!((orders.needless_resends(), orders.unexplained_resends()), (0, 0));
}
