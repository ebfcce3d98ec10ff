//! A million rows at Klaviyo's limits, and three kills.

use std::time::{Duration, Instant};

use harness::{Shop, Signal, count, kill, query, runner, sql, wait_for_crash, wait_for_worker};

/// At Klaviyo's limits it takes seven minutes, and some for what a crash leaves to calls of one.
const ENOUGH: Duration = Duration::from_secs(1_100);

const ROWS: i64 = 1_000_000;

#[test]
fn each_of_a_million_rows_is_sent_once_through_three_kills() {
    let mut shop = Shop::builder().rate_share(1.0).start();
    let mut db = shop.connect();
    sql(
        &mut db,
        &format!(
            r#"CREATE TABLE orders (number bigint PRIMARY KEY, email text, total numeric, placed_at timestamptz);
               INSERT INTO orders
               SELECT n, format('customer-%s@shop.example', n % 50000), n % 100 + 0.99, '2020-01-01Z'::timestamptz + n * interval '1 minute'
               FROM generate_series(1, {ROWS}) AS n;
               ANALYZE orders;
               SELECT klaviyo_sync_events('orders', 'Placed Order', email => 'email', value => 'total', value_currency => '''EUR''',
                   event_time => 'placed_at', properties => '["number"]');
               SELECT klaviyo_backfill('orders')"#
        ),
    );
    let began = Instant::now();
    let done = "SELECT rows_done FROM klaviyo.backfill";
    let mut live = 0;
    for (kill_at, victim) in [(150_000, "runner"), (450_000, "worker"), (750_000, "postmaster")] {
        shop.eventually("it gets on", ENOUGH, || {
            live += 1;
            let order = format!("INSERT INTO orders VALUES ({ROWS} + {live}, 'late@shop.example', 1, now())");
            sql(&mut db, &order);
            count(&mut db, done) >= kill_at
        });
        let estimate = db
            .query_one(
                "SELECT rows_left, rows_per_second::float8, time_left::text FROM klaviyo.backfill",
                &[],
            )
            .expect("a backfill");
        let (left, rate): (i64, f64) = (estimate.get(0), estimate.get(1));
        println!(
            "{:?}: {left} left, {rate} a second, {:?}",
            began.elapsed(),
            estimate.get::<_, Option<&str>>(2)
        );
        assert!((ROWS - kill_at - 100_000..ROWS).contains(&left) && rate > 0.0);
        match victim {
            "postmaster" => {
                shop.cluster.kill9_postmaster();
                shop.cluster.start();
            }
            victim => {
                let pid = if victim == "runner" { runner(&mut db) } else { Some(wait_for_worker(&mut db)) };
                kill(pid.expect("it runs"), Signal::SIGKILL);
                wait_for_crash(&mut db);
                shop.cluster.wait_ready();
            }
        }
        db = shop.connect();
    }
    let state = "SELECT bool_and(state = 'done') FROM klaviyo.backfill";
    shop.eventually("the backfill is done", ENOUGH, || query(&mut db, state, &[]));
    let backlog = shop.drain(ENOUGH);
    println!("{live} live, all sent after {:?}", began.elapsed());
    assert_eq!(backlog.dead, 0);
    assert_eq!(count(&mut db, "SELECT rows_queued FROM klaviyo.backfill"), ROWS);
    // Each message is on record once, and Klaviyo has each event once: none is missing, and no row became two.
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.delivery"), ROWS + live);
    let stats = shop.sandbox.stats();
    assert_eq!(i64::try_from(stats.events), Ok(ROWS + live));
    assert_eq!((stats.throttled, stats.bulk_repeats), (0, 0));
    println!("{} events came twice, as crashes excuse", stats.event_repeats);
}
