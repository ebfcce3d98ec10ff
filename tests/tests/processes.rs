//! The launcher and the workers: who runs when, what wakes them, and that they are never in anybody's way.

use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Fault, Ledger, ORDER, PATIENCE, Process, Shop, Signal, Stop, count, eventually, kill, launcher,
    place_orders, query, sql, wait_for_crash, wait_for_worker, waits_for_lock, workers,
};
use postgres::Client;

/// Far below what a hanging call may take in these tests, far above what a busy machine takes for a shutdown.
const PROMPT: Duration = Duration::from_secs(20);

/// A shop whose worker looks for nothing by itself, so that what it does somebody told it to.
fn unasked() -> Shop {
    Shop::builder().setting("klaviyo.poll_interval", "1h").start()
}

/// A shop with calls that hang, and will for longer than a test lasts.
fn hanging(orders: i64) -> Shop {
    let shop = Shop::builder()
        .single_calls()
        .setting("klaviyo.request_timeout", "10min")
        .setting("klaviyo.poll_interval", "1s")
        .start();
    shop.sandbox.set_faults(&[Fault::hang()]);
    place_orders(&mut shop.connect(), 1, orders);
    let under_way = usize::try_from(orders.min(64)).expect("a small number");
    shop.eventually("calls hang", PATIENCE, || shop.sandbox.receipts().len() == under_way);
    shop
}

/// Waits for a worker other than this one.
fn wait_for_another_worker(shop: &Shop, db: &mut Client, worker: i32) {
    shop.eventually("another worker", PATIENCE, || {
        workers(db).iter().any(|other| other.database == "shop" && other.pid != worker)
    });
}

#[test]
fn one_launcher_and_a_worker_for_each_database_with_the_extension() {
    let mut shop = Shop::start();
    let mut db = shop.connect();
    let worker = wait_for_worker(&mut db);
    assert_eq!(query::<i32>(&mut db, "SELECT klaviyo.worker_pid()", &[]), worker);
    assert!(launcher(&mut db).is_some());
    shop.cluster.create_database("bystander");
    shop.add_database("second");
    let mut second = shop.cluster.connect("second");
    assert_ne!(wait_for_worker(&mut second), worker);
    place_orders(&mut db, 1, 10);
    place_orders(&mut second, 11, 20);
    shop.drain_soon();
    shop.eventually("both have delivered", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.delivery") == 10
            && count(&mut second, "SELECT count(*) FROM klaviyo.delivery") == 10
    });
    shop.assert_arrived(1, 20);
    // Databases without it are asked once and left alone then.
    shop.eventually("no other database has a worker", PATIENCE, || workers(&mut db).len() == 2);
    assert_eq!(
        workers(&mut db).iter().filter(|other| other.pid == worker).count(),
        1,
        "the first one still runs"
    );
}

#[test]
fn a_template_has_no_worker_and_what_is_made_from_it_has() {
    let shop = Shop::start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    // Announces itself to the launcher, as everywhere.
    sql(&mut shop.cluster.connect("template1"), "CREATE EXTENSION klaviyo_sync");
    for _ in 0..20 {
        let of_templates =
            workers(&mut db).into_iter().filter(|worker| worker.database.starts_with("template"));
        assert_eq!(of_templates.collect::<Vec<_>>(), []);
        thread::sleep(Duration::from_millis(100));
    }
    shop.cluster.create_database("child");
    wait_for_worker(&mut shop.cluster.connect("child"));
}

#[test]
fn a_commit_wakes_the_worker() {
    let shop = unasked();
    let mut db = shop.connect();
    for order in 1..=5 {
        place_orders(&mut db, order, order);
        shop.drain_soon();
        // It sleeps again before the next one comes.
        thread::sleep(Duration::from_millis(300));
    }
    shop.assert_arrived(1, 5);
}

#[test]
fn an_idle_worker_does_nothing() {
    let mut shop =
        Shop::builder().setting("klaviyo.poll_interval", "1h").setting("autovacuum", "off").start();
    place_orders(&mut shop.connect(), 1, 10);
    shop.drain_soon();
    let mut observer = shop.cluster.connect("postgres");
    let transactions = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'shop'";
    let mut last = count(&mut observer, transactions);
    shop.eventually("the worker comes to rest", PATIENCE, || {
        thread::sleep(Duration::from_secs(1));
        std::mem::replace(&mut last, count(&mut observer, transactions)) == last
    });
    let before = count(&mut observer, transactions);
    thread::sleep(Duration::from_secs(4));
    assert_eq!(count(&mut observer, transactions) - before, 0, "transactions of a worker with nothing to do");
    // The default: a look every five seconds, of a transaction or two.
    shop.cluster.set("klaviyo.poll_interval", "5s");
    shop.cluster.restart(Stop::Fast);
    wait_for_worker(&mut shop.connect());
    let mut observer = shop.cluster.connect("postgres");
    thread::sleep(Duration::from_secs(2));
    let before = count(&mut observer, transactions);
    thread::sleep(Duration::from_secs(11));
    let looks = count(&mut observer, transactions) - before;
    println!("{looks} transactions in eleven idle seconds");
    assert!((2..=12).contains(&looks), "{looks} transactions in eleven idle seconds");
}

#[test]
fn a_terminated_worker_is_replaced() {
    let shop = unasked();
    let mut db = shop.connect();
    for order in 1..=2 {
        let worker = wait_for_worker(&mut db);
        kill(worker, Signal::SIGTERM);
        wait_for_another_worker(&shop, &mut db, worker);
        place_orders(&mut db, order, order);
        shop.drain_soon();
    }
    shop.assert_arrived(1, 2);
}

#[test]
fn a_terminated_launcher_is_replaced() {
    let shop = unasked();
    let mut db = shop.connect();
    let worker = wait_for_worker(&mut db);
    let first = launcher(&mut db).expect("it runs");
    kill(first, Signal::SIGTERM);
    shop.eventually("another launcher", PATIENCE, || launcher(&mut db).is_some_and(|other| other != first));
    // The worker went on meanwhile, and the new launcher looks after it.
    place_orders(&mut db, 1, 1);
    shop.drain_soon();
    assert_eq!(wait_for_worker(&mut db), worker);
    kill(worker, Signal::SIGTERM);
    wait_for_another_worker(&shop, &mut db, worker);
    place_orders(&mut db, 2, 2);
    shop.drain_soon();
    shop.assert_arrived(1, 2);
}

#[test]
fn a_killed_worker_or_launcher_comes_back_with_the_server() {
    let mut shop = unasked();
    for order in 1..=2 {
        let mut db = shop.connect();
        let worker = wait_for_worker(&mut db);
        let victim = if order == 1 { worker } else { launcher(&mut db).expect("it runs") };
        kill(victim, Signal::SIGKILL);
        wait_for_crash(&mut db);
        shop.cluster.wait_ready();
        place_orders(&mut shop.connect(), order, order);
        shop.drain_soon();
    }
    shop.assert_arrived(1, 2);
}

#[test]
fn a_reload_applies_settings() {
    let shop = Shop::builder()
        .setting("klaviyo.poll_interval", "1h")
        .setting("klaviyo.request_timeout", "10min")
        .setting("klaviyo.enabled", "off")
        .start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::hang()]);
    place_orders(&mut db, 1, 1);
    wait_for_worker(&mut db);
    // Time for a worker that sends all the same.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(shop.sandbox.stats().requests, 0, "nothing is sent while klaviyo.enabled is off");
    shop.cluster.set("klaviyo.enabled", "on");
    shop.eventually("the waiting order is sent", PATIENCE, || shop.sandbox.receipts().len() == 1);
    // Calls under way keep their time; those that start after the reload have the new one.
    shop.cluster.set("klaviyo.request_timeout", "200ms");
    let mut order = 1;
    shop.eventually("a call times out", PATIENCE, || {
        order += 1;
        place_orders(&mut db, order, order);
        thread::sleep(Duration::from_millis(300));
        count(&mut db, "SELECT count(*) FROM klaviyo.retry WHERE last_code = 'timeout'") > 0
    });
    // The first is one of those that were sent before the reload came to the worker.
    let old = count(&mut db, "SELECT min(seq) - 1 FROM klaviyo.retry WHERE last_code = 'timeout'");
    assert!(old >= 1, "the first call has timed out");
    // All but those end, so that nothing but a reload or the poll makes the worker look.
    shop.sandbox.clear_faults();
    let left = "SELECT (SELECT count(*) FROM klaviyo.outbox) + (SELECT count(*) FROM klaviyo.retry)";
    shop.eventually("the others are delivered", PATIENCE, || count(&mut db, left) == old);
    // Nothing tells of a prepared transaction's commit.
    let mut place_prepared = |order| {
        sql(&mut db, "BEGIN");
        place_orders(&mut db, order, order);
        sql(&mut db, "PREPARE TRANSACTION 'late'");
        sql(&mut db, "COMMIT PREPARED 'late'");
    };
    let arrived = |order: i64| Ledger::new(&shop.sandbox.receipts(), ORDER).accepted(&order.to_string()) > 0;
    place_prepared(1_000_001);
    thread::sleep(Duration::from_secs(1));
    assert!(!arrived(1_000_001), "the poll is an hour away");
    shop.cluster.set("klaviyo.poll_interval", "500ms");
    shop.eventually("the reload makes it look", PATIENCE, || arrived(1_000_001));
    place_prepared(1_000_002);
    shop.eventually("the poll finds it", PATIENCE, || arrived(1_000_002));
}

#[test]
fn no_shutdown_waits_for_calls() {
    for how in [Stop::Fast, Stop::Immediate, Stop::Smart] {
        let mut shop = hanging(100);
        let took = shop.cluster.stop(how);
        println!("{how:?}: {took:?}");
        assert!(took < PROMPT, "{how:?} shutdown took {took:?}");
        shop.sandbox.clear_faults();
        shop.cluster.start();
        shop.drain_soon();
        shop.assert_arrived(1, 100);
    }
}

#[test]
fn a_shutdown_while_idle_is_quick() {
    let mut shop = unasked();
    for how in [Stop::Smart, Stop::Fast, Stop::Immediate] {
        wait_for_worker(&mut shop.connect());
        let took = shop.cluster.stop(how);
        println!("{how:?}: {took:?}");
        assert!(took < PROMPT, "{how:?} shutdown took {took:?}");
        shop.cluster.start();
    }
}

#[test]
fn a_lock_on_the_outbox_holds_up_no_end() {
    let mut shop = Shop::builder().setting("klaviyo.poll_interval", "500ms").start();
    let mut db = shop.connect();
    place_orders(&mut db, 1, 10);
    shop.drain_soon();
    // A prepared transaction keeps its locks whatever ends, also after a restart.
    sql(&mut db, "BEGIN; LOCK TABLE klaviyo.outbox IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'lock'");
    shop.eventually("the worker waits for the lock", PATIENCE, || waits_for_lock(&mut db));
    let worker = wait_for_worker(&mut db);
    let process = Process::find(worker).expect("it runs");
    kill(worker, Signal::SIGTERM);
    assert!(process.wait_gone(PROMPT), "the worker does not end while it waits for a lock");
    shop.eventually("the next worker waits for the lock", PATIENCE, || waits_for_lock(&mut db));
    drop(db);
    let took = shop.cluster.stop(Stop::Fast);
    println!("{took:?}");
    assert!(took < PROMPT, "the shutdown took {took:?}");
    shop.cluster.start();
    let mut db = shop.connect();
    sql(&mut db, "ROLLBACK PREPARED 'lock'");
    place_orders(&mut db, 11, 20);
    shop.drain_soon();
    shop.assert_arrived(1, 20);
}

/// While the worker waits for a lock, commits ring as ever; what they told it is not forgotten.
#[test]
fn a_commit_during_a_lock_wait_is_not_forgotten() {
    let shop = unasked();
    let (mut db, mut locker) = (shop.connect(), shop.connect());
    wait_for_worker(&mut db);
    for round in 0..5 {
        // Recording needs the table, queueing does not.
        sql(&mut locker, "BEGIN; LOCK TABLE klaviyo.delivery IN SHARE MODE");
        place_orders(&mut db, round * 10 + 1, round * 10 + 5);
        shop.eventually("the worker waits for the lock", PATIENCE, || waits_for_lock(&mut db));
        place_orders(&mut db, round * 10 + 6, round * 10 + 10);
        thread::sleep(Duration::from_millis(100));
        sql(&mut locker, "ROLLBACK");
        shop.drain_soon();
    }
    shop.assert_arrived(1, 50);
}

#[test]
fn a_database_can_be_dropped_while_messages_wait() {
    let shop = hanging(500);
    let mut postgres = shop.cluster.connect("postgres");
    let began = Instant::now();
    sql(&mut postgres, "DROP DATABASE shop WITH (FORCE)");
    println!("dropped after {:?}", began.elapsed());
    assert!(began.elapsed() < PROMPT);
    eventually("no worker is left", PATIENCE, || workers(&mut postgres).is_empty());
    // Its place is free for another of the same name.
    let mut shop = shop;
    shop.sandbox.clear_faults();
    shop.add_database("shop");
    let received = shop.sandbox.receipts().len();
    place_orders(&mut shop.connect(), 1_000, 1_010);
    shop.drain_soon();
    let receipts = shop.sandbox.receipts();
    Ledger::new(&receipts[received..], ORDER).assert_accepted_exactly(1_000..=1_010);
}

#[test]
fn the_extension_can_be_dropped_while_messages_wait() {
    let shop = hanging(500);
    let mut db = shop.connect();
    let worker = wait_for_worker(&mut db);
    let began = Instant::now();
    sql(&mut db, "SET lock_timeout = '30s'; DROP EXTENSION klaviyo_sync");
    println!("dropped after {:?}", began.elapsed());
    assert!(began.elapsed() < PROMPT);
    let process = Process::find(worker);
    eventually("the worker ends", PATIENCE, || process.is_none_or(|process| !process.is_alive()));
    assert!(!db.is_closed(), "nobody else was harmed");
    // It can be had again, and begins anew.
    shop.sandbox.clear_faults();
    let received = shop.sandbox.receipts().len();
    shop.set_up("shop");
    place_orders(&mut db, 1_000, 1_010);
    shop.drain_soon();
    let receipts = shop.sandbox.receipts();
    Ledger::new(&receipts[received..], ORDER).assert_accepted_exactly(1_000..=1_010);
}
