//! What stood in tables before they were mapped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use harness::{
    Ledger, PATIENCE, Receipt, Shop, Signal, Stop, count, explain, kill, query, refused, runner, sql,
    wait_for_crash, wait_for_worker,
};
use postgres::Client;

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

/// Keys in no order, of rows that become events by an insert or later, while the backfill is under way and kills hit it.
#[test]
fn at_random_moments_each_row_is_sent_once_whoever_writes_meanwhile() {
    const BEFORE: i64 = 20_000;
    const ROUNDS: i64 = 8;
    let mut shop = Shop::start();
    let mut db = shop.connect();
    sql(
        &mut db,
        "CREATE TABLE orders (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), number bigint, state text, note text);
         CREATE INDEX ON orders (number)",
    );
    let insert = |first: i64, last: i64| {
        format!(
            "INSERT INTO orders (number, state)
             SELECT n, CASE WHEN n % 4 = 0 THEN 'new' ELSE 'paid' END FROM generate_series({first}, {last}) AS n"
        )
    };
    sql(&mut db, &insert(1, BEFORE));
    sql(
        &mut db,
        r#"SELECT klaviyo_sync_events('orders', 'Paid', external_id => 'number', "on" => 'insert or update',
               "when" => 'state = ''paid''', properties => '["number"]')"#,
    );
    sql(&mut db, "SELECT klaviyo_backfill('orders')");
    let mut last = BEFORE;
    for round in 0..ROUNDS {
        // New ones, some that are paid now, and some of which something else is written.
        sql(&mut db, &insert(last + 1, last + 200));
        last += 200;
        let these = format!("number % {ROUNDS} = {round}");
        sql(
            &mut db,
            &format!(
                "UPDATE orders SET state = 'paid' WHERE number % 4 = 0 AND (number / 4) % {ROUNDS} = {round}"
            ),
        );
        sql(&mut db, &format!("UPDATE orders SET note = 'x' WHERE number % 3 = 0 AND {these}"));
        let done = "SELECT coalesce(max(rows_done), 0) FROM klaviyo.backfill";
        let at = count(&mut db, done) + fastrand::i64(0..2_000);
        shop.eventually("it gets on", PATIENCE, || {
            count(&mut db, done) >= at.min(BEFORE) || query(&mut db, DONE, &[])
        });
        let victim = match round % 4 {
            0 => runner(&mut db),
            1 => Some(wait_for_worker(&mut db)),
            _ => None,
        };
        match victim {
            Some(pid) => {
                kill(pid, Signal::SIGKILL);
                wait_for_crash(&mut db);
                shop.cluster.wait_ready();
            }
            None if round % 4 == 2 => {
                shop.cluster.kill9_postmaster();
                shop.cluster.start();
            }
            None => continue,
        }
        db = shop.connect();
    }
    sql(&mut db, "UPDATE orders SET state = 'paid' WHERE state <> 'paid'");
    finish(&shop, PATIENCE);
    assert_eq!(shop.backlog().dead, 0);
    let messages = shop.sandbox.messages();
    let orders = Ledger::new(&messages, "data.attributes.properties.number");
    orders.assert_accepted_exactly(1..=last);
    // What a crash sends again is the same message; no row has two.
    let by_id = |number: &str| -> BTreeMap<String, bool> {
        let sent = orders.of(number).iter();
        sent.map(|it| (it.at("data.attributes.unique_id").expect("an id").to_string(), is_history(it)))
            .collect()
    };
    let mut history = 0;
    for number in orders.keys() {
        let ids = by_id(number);
        assert_eq!(ids.len(), 1, "{number}: {ids:?}");
        history += usize::from(ids.values().all(|is_history| *is_history));
    }
    println!("{history} of {last} by the backfill");
    assert!(history > 1_000 && i64::try_from(history).expect("few") < BEFORE);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.delivery"), last);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.captured_key"), 0);
}

/// Whoever changes a profile while all are sent has the last word, whichever transaction took its number first.
#[test]
fn a_state_of_before_never_stands_over_a_change() {
    const PEOPLE: i32 = 2_000;
    let shop = Shop::start();
    let mut db = shop.connect();
    sql(&mut db, "CREATE TABLE people (id int PRIMARY KEY, rank int NOT NULL, city text)");
    sql(&mut db, &format!("INSERT INTO people SELECT n, 0, 'c' || n FROM generate_series(1, {PEOPLE}) AS n"));
    sql(
        &mut db,
        r#"SELECT klaviyo_sync_profiles('people', external_id => 'id', properties => '{"rank": "rank", "city": "city"}')"#,
    );
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..3 {
            let (ended, mut db) = (&ended, shop.connect());
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                while !ended.load(SeqCst) {
                    // Its number is taken by the statement, and it commits a moment later.
                    let first = random.i32(1..PEOPLE);
                    let update = format!(
                        "BEGIN; UPDATE people SET rank = rank + 1 WHERE id BETWEEN {first} AND {first} + 5;
                         SELECT pg_sleep({}); COMMIT",
                        random.f64() / 50.0
                    );
                    // Two of them may meet.
                    if let Err(error) = db.batch_execute(&update) {
                        assert!(explain(&error).contains("deadlock"), "{}", explain(&error));
                        sql(&mut db, "ROLLBACK");
                    }
                }
            });
        }
        for _ in 0..5 {
            sql(&mut db, "SELECT klaviyo_backfill('people', again => true)");
            shop.eventually("the backfill is done", PATIENCE, || query(&mut db, DONE, &[]));
        }
        ended.store(true, SeqCst);
    });
    assert_eq!(shop.drain_soon().dead, 0);
    let rows = db.query("SELECT id::text, rank::text, city FROM people", &[]).expect("people");
    let people: BTreeMap<String, (String, String)> =
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let kept: BTreeMap<String, (String, String)> = shop
        .sandbox
        .profiles()
        .iter()
        .map(|profile| {
            let of = |name: &str| text(&profile.attributes["properties"][name]);
            (text(&profile.attributes["external_id"]), (of("rank"), of("city")))
        })
        .collect();
    let wrong: Vec<_> = people.iter().filter(|(id, state)| kept.get(*id) != Some(state)).take(5).collect();
    assert!(wrong.is_empty(), "{wrong:?}, at Klaviyo {:?}", kept.get(wrong[0].0));
    assert!(count(&mut db, "SELECT sum(rank)::bigint FROM people") > 100, "there were changes");
}

/// A session's statement is in a backfill's way only where both are about the same row, and a backfill in nobody's.
#[test]
fn who_changes_a_row_holds_it_up_and_it_holds_up_nobody() {
    let shop = Shop::start();
    let (mut db, mut locker) = (shop.connect(), shop.connect());
    sql(&mut db, "CREATE TABLE people (id int PRIMARY KEY, rank int NOT NULL)");
    sql(&mut db, "INSERT INTO people SELECT n, 0 FROM generate_series(1, 100) AS n");
    sql(&mut db, r#"SELECT klaviyo_sync_profiles('people', external_id => 'id', properties => '["rank"]')"#);
    sql(&mut locker, "BEGIN; UPDATE people SET rank = 1 WHERE id = 50");
    sql(&mut db, "SELECT klaviyo_backfill('people')");
    let at = "SELECT coalesce(last_key[1], '') || ' ' || coalesce(error, '') FROM klaviyo.backfill";
    shop.eventually("it says what is in its way", PATIENCE, || {
        let at: String = query(&mut db, at, &[]);
        at.starts_with("49 ") && at.contains("could not obtain lock")
    });
    let warned = "SELECT count(*) FROM klaviyo_health() WHERE name = 'backfill' AND status = 'warning'";
    assert_eq!(count(&mut db, warned), 1);
    // Nobody waits for it.
    sql(&mut db, "SET lock_timeout = '2s'; UPDATE people SET rank = 2 WHERE id <> 50");
    sql(&mut locker, "COMMIT");
    finish(&shop, PATIENCE);
    let profiles = shop.sandbox.profiles();
    assert_eq!(profiles.len(), 100);
    let rank = |rank: i32| profiles.iter().filter(|it| it.attributes["properties"]["rank"] == rank).count();
    assert_eq!((rank(1), rank(2)), (1, 99));
}

/// While there is more history than can be sent, what is queued behind it goes before it.
#[test]
fn what_happens_now_overtakes_what_is_history() {
    let shop = Shop::builder().rate_share(0.1).start();
    let mut db = shop.connect();
    sql(&mut db, &format!("{ORDERS}; {}; {MAP}", place(1, 30_000)));
    sql(&mut db, "SELECT klaviyo_backfill('orders')");
    let waiting = "SELECT count(*) FROM klaviyo.outbox WHERE payload #>> '{event,backfill}' = 'true'";
    let last = "
        SELECT o.payload #>> '{event,properties,Number}'
        FROM klaviyo.outbox AS o
        WHERE o.payload #>> '{event,backfill}' = 'true'
        ORDER BY o.seq DESC
        LIMIT 1";
    let mut behind: Vec<String> = Vec::new();
    for order in 100_001..=100_020 {
        shop.eventually("history waits", PATIENCE, || count(&mut db, waiting) > 3_000);
        assert!(count(&mut db, waiting) <= 5_000, "no more than some seconds' work is queued ahead");
        behind.push(query(&mut db, last, &[]));
        sql(&mut db, &place(order, order));
    }
    let alone = "SELECT count(*) FROM klaviyo.delivery AS d WHERE NOT d.bulk";
    shop.eventually("they have gone by themselves", PATIENCE, || count(&mut db, alone) >= 20);
    sql(&mut db, "SELECT klaviyo_backfill_cancel('orders')");
    let messages = shop.sandbox.messages();
    let orders = Ledger::new(&messages, NUMBER);
    for (order, before) in (100_001..=100_020).zip(&behind) {
        let live = orders.of(&order.to_string())[0];
        let history = orders.of(before).first();
        assert!(
            history.is_none_or(|history| history.n > live.n),
            "{before}, queued before {order}, went before"
        );
    }
    assert_eq!(query::<String>(&mut db, "SELECT state FROM klaviyo.backfill", &[]), "cancelled");
}

/// What users have written may take as long as it likes: nothing waits for it, and nobody is kept from ending it.
#[test]
fn an_expression_that_hangs_is_in_nobodys_way() {
    let mut shop = Shop::start();
    let mut db = shop.connect();
    sql(&mut db, &format!("{ORDERS}; {}", place(1, 10)));
    sql(
        &mut db,
        r#"CREATE FUNCTION slow(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$
           BEGIN IF n <= 10 THEN PERFORM pg_sleep(3600); END IF; RETURN n; END $$;
           SELECT klaviyo_sync_events('orders', 'x', email => 'email', properties => '{"Number": "slow(number)"}');
           SELECT klaviyo_backfill('orders')"#,
    );
    let hangs = |db: &mut Client| {
        query::<bool>(
            db,
            "SELECT EXISTS (SELECT FROM pg_stat_activity
                            WHERE backend_type = 'klaviyo_sync runner' AND wait_event = 'PgSleep')",
            &[],
        )
    };
    shop.eventually("it hangs", PATIENCE, || hangs(&mut db));
    sql(&mut db, &place(11, 40));
    assert_eq!(shop.drain_soon().dead, 0);
    arrived(&shop, 11, 40);
    assert!(hangs(&mut db));
    // Neither who pauses or cancels it waits, nor who needs the database, nor who stops the server.
    sql(
        &mut db,
        "SET statement_timeout = '10s'; SELECT klaviyo_backfill_cancel('orders'); RESET statement_timeout",
    );
    let pid = runner(&mut db).expect("it runs");
    sql(&mut db, &format!("SELECT pg_cancel_backend({pid})"));
    shop.eventually("it ends", PATIENCE, || runner(&mut db).is_none());
    sql(&mut db, "SELECT klaviyo_backfill('orders')");
    shop.eventually("it hangs", PATIENCE, || hangs(&mut db));
    drop(db);
    shop.cluster.psql("postgres", "ALTER DATABASE shop RENAME TO store");
    shop.cluster.psql("postgres", "ALTER DATABASE store RENAME TO shop");
    let mut db = shop.connect();
    shop.cluster.psql("shop", "SELECT klaviyo_arm_account()");
    shop.eventually("it hangs again", PATIENCE, || hangs(&mut db));
    let took = shop.cluster.stop(Stop::Fast);
    assert!(took < PATIENCE, "{took:?}");
    shop.cluster.start();
    let mut db = shop.connect();
    shop.eventually("it hangs again", PATIENCE, || hangs(&mut db));
    sql(&mut db, "DROP EXTENSION klaviyo_sync CASCADE");
    assert_eq!(runner(&mut db), None);
}

/// A dump carries how far a backfill has come; in another cluster it goes on where that captures.
#[test]
fn a_dump_carries_it_on() {
    let shop = Shop::builder().setting("klaviyo.enabled", "off").start();
    let mut db = shop.connect();
    sql(&mut db, &format!("{ORDERS}; {}; {MAP}; {}", place(1, 12_000), place(-2, 0)));
    sql(&mut db, "SELECT klaviyo_backfill('orders')");
    let queued = "SELECT rows_queued FROM klaviyo.backfill";
    shop.eventually("as much is queued as may wait", PATIENCE, || count(&mut db, queued) > 4_000);
    sql(&mut db, "SELECT klaviyo_backfill_pause('orders')");
    let before = count(&mut db, queued);
    assert!(before <= 5_000);
    let dump = shop.cluster.dump("shop");
    let other = Shop::builder().setting("klaviyo.enabled", "off").start();
    other.cluster.restore("copy", &dump);
    let psql = |sql: &str| other.cluster.psql("copy", sql);
    assert_eq!(psql("SELECT state, rows_queued FROM klaviyo.backfill"), format!("paused|{before}"));
    psql("SELECT klaviyo_backfill_resume('orders')");
    // Nobody has said yet that its rows are to be sent from here.
    psql(&place(20_001, 20_001));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(psql(queued), before.to_string());
    let captured = "SELECT string_agg(payload #>> '{event,properties,Number}', ' ') FROM klaviyo.outbox
                    WHERE payload #>> '{event,backfill}' IS NULL";
    assert_eq!(psql(captured), "-2 -1 0");
    psql("SELECT klaviyo_arm_account()");
    psql(&place(20_002, 20_002));
    assert_eq!(psql(captured), "-2 -1 0 20002");
    // What its original has sent since, nobody knows here.
    assert_eq!(psql("SELECT state FROM klaviyo.backfill WHERE error LIKE '%in a dump%'"), "paused");
    psql("SELECT klaviyo_backfill_resume('orders')");
    let mut copy = other.cluster.connect("copy");
    other.eventually("it goes on", PATIENCE, || count(&mut copy, queued) > before);
    other.eventually("it is done", PATIENCE, || {
        sql(&mut copy, "DELETE FROM klaviyo.outbox");
        query(&mut copy, DONE, &[])
    });
    assert_eq!(count(&mut copy, queued), 12_000, "what was captured is not in it");
}

/// What waits for an account that sends nothing keeps nothing of another from being queued, and what waits for an account
/// keeps more of it.
#[test]
fn an_account_that_sends_nothing_is_in_no_others_way() {
    let shop = Shop::builder().setting("klaviyo.enabled", "off").start();
    let mut db = shop.connect();
    sql(
        &mut db,
        &format!(
            "{ORDERS}; {}; {MAP};
             CREATE TABLE visits (id int PRIMARY KEY);
             INSERT INTO visits SELECT generate_series(1, 4000);
             SELECT klaviyo_set_account('other');
             SELECT klaviyo_sync_events('visits', 'Visited', external_id => 'id', account => 'other');
             SELECT klaviyo_backfill('orders')",
            place(1, 12_000)
        ),
    );
    let queued =
        |of: &str| format!("SELECT rows_queued FROM klaviyo.backfill WHERE name = '{of}' ORDER BY id DESC");
    shop.eventually("as much is queued as may wait", PATIENCE, || {
        count(&mut db, &queued("Placed Order")) > 4_000
    });
    sql(&mut db, "SELECT klaviyo_backfill('visits')");
    shop.eventually("the other's is done", PATIENCE, || {
        query::<bool>(&mut db, "SELECT state = 'done' FROM klaviyo.backfill WHERE name = 'Visited'", &[])
    });
    assert_eq!(count(&mut db, &queued("Visited")), 4_000);
    assert!(count(&mut db, &queued("Placed Order")) <= 5_000);
}

/// Where no background worker is free the log says so, and delivery goes on.
#[test]
fn without_a_process_it_waits() {
    // The server's own, launcher and worker.
    let mut shop = Shop::builder().setting("max_worker_processes", 3).start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    sql(&mut db, &format!("{ORDERS}; {}; {MAP}; SELECT klaviyo_backfill('orders')", place(1, 10)));
    shop.eventually("the log tells", PATIENCE, || {
        shop.cluster.log().contains("no background worker is free for the runner")
    });
    sql(&mut db, &place(11, 12));
    shop.eventually("the new ones are sent", PATIENCE, || shop.backlog().waiting() == 0);
    arrived(&shop, 11, 12);
    shop.cluster.set("max_worker_processes", 4);
    shop.cluster.restart(Stop::Fast);
    finish(&shop, PATIENCE);
    arrived(&shop, 1, 12);
}

/// Panics unless the events of the tests with these numbers, and no others, were accepted.
fn arrived(shop: &Shop, first: i64, last: i64) {
    Ledger::new(&shop.sandbox.messages(), NUMBER).assert_accepted_exactly(first..=last);
}
