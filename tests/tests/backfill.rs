//! What stood in tables before they were mapped.

use std::time::Duration;

use harness::{Ledger, PATIENCE, Receipt, Shop, query, refused, sql};

/// Where an event of the tests says what it is.
const NUMBER: &str = "data.attributes.properties.Number";

/// Orders with these numbers, in one statement.
fn place(first: i64, last: i64) -> String {
    format!(
        "INSERT INTO orders (number, email, placed_at)
         SELECT n, format('customer-%s@shop.example', n % 50), '2020-01-01 12:00Z'::timestamptz + n * interval '1 minute'
         FROM generate_series({first}, {last}) AS n"
    )
}

const ORDERS: &str =
    "CREATE TABLE orders (number bigint PRIMARY KEY, email text, placed_at timestamptz, note text)";

const MAP: &str = r#"
    SELECT klaviyo_sync_events('orders', 'Placed Order', email => 'email', event_time => 'placed_at',
        properties => '{"Number": "number"}', profile => '{"properties": {"last": "number"}}')"#;

const DONE: &str = "SELECT bool_and(state = 'done') FROM klaviyo.backfill";

/// Waits until all backfills are done and all messages sent.
fn finish(shop: &Shop, patience: Duration) {
    let mut db = shop.connect();
    shop.eventually("the backfill is done", patience, || query::<bool>(&mut db, DONE, &[]));
    shop.drain(patience);
}

fn is_history(receipt: &Receipt) -> bool {
    receipt.at("data.attributes.backfill").is_some_and(|flag| flag == true)
}

#[test]
fn what_was_there_goes_as_history_and_what_comes_goes_as_ever_each_once() {
    let shop = Shop::start();
    let mut db = shop.connect();
    sql(&mut db, &format!("{ORDERS}; {}; {MAP}; {}", place(1, 3_000), place(3_001, 3_010)));
    sql(&mut db, "SELECT klaviyo_backfill('orders')");
    sql(&mut db, &place(3_011, 3_020));
    finish(&shop, PATIENCE);
    let messages = shop.sandbox.messages();
    let orders = Ledger::new(&messages, NUMBER);
    orders.assert_accepted_exactly(1..=3_020);
    assert_eq!(orders.resends(), 0);
    for number in 1..=3_020 {
        let order = orders.of(&number.to_string())[0];
        assert_eq!(is_history(order), number <= 3_000, "{number}");
        let says_more = order.at("data.attributes.profile.data.attributes.properties").is_some();
        assert_eq!(says_more, number > 3_000, "what history says of a person may be old: {number}");
    }
    assert_eq!(orders.of("60")[0].at("data.attributes.time").expect("a time"), "2020-01-01T13:00:00Z");
    let row = db
        .query_one(
            "SELECT relation::text, name, rows_done, rows_queued, rows_refused, rows_left, ended_at IS NOT NULL
             FROM klaviyo.backfill",
            &[],
        )
        .expect("a backfill");
    assert_eq!(
        (row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, i64>(2), row.get::<_, i64>(3)),
        ("orders", "Placed Order", 3_000, 3_000)
    );
    assert_eq!((row.get::<_, i64>(4), row.get::<_, i64>(5), row.get::<_, bool>(6)), (0, 0, true));
    // All of it has been sent.
    let error = refused(&mut db, "SELECT klaviyo_backfill('orders')");
    assert_eq!(error, "KS053");
    shop.assert_requests_conform();
}
