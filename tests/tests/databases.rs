//! Databases that are dropped, renamed, moved and copied: the worker is in nobody's way, and is back when he is done.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Fault, PATIENCE, Process, ServerUser, Shop, Signal, Stop, count, eventually, kill, place_orders, refused,
    sql, wait_for_worker, workers,
};
use postgres::Client;

/// No other connection may be in the way, so a statement that waits for none needs less. Postgres itself waits for
/// five seconds before it says who is.
const PROMPT: Duration = Duration::from_secs(20);

/// A shop whose worker looks for nothing by itself, and that has delivered an order.
fn shop() -> Shop {
    let shop = Shop::builder().setting("klaviyo.poll_interval", "1h").start();
    place_orders(&mut shop.connect(), 1, 1);
    shop.drain_soon();
    shop
}

fn worker_of(client: &mut Client, database: &str) -> Option<i32> {
    workers(client).into_iter().find(|worker| worker.database == database).map(|worker| worker.pid)
}

fn delivers_again(shop: &Shop, order: i64) {
    place_orders(&mut shop.connect(), order, order);
    shop.drain_soon();
    shop.assert_arrived(1, order);
}

#[test]
fn a_database_is_dropped_without_force_and_its_place_is_free_at_once() {
    let mut shop = Shop::builder()
        .single_calls()
        .setting("klaviyo.max_databases", 1)
        .setting("klaviyo.request_timeout", "10min")
        .setting("klaviyo.poll_interval", "1h")
        .start();
    let mut postgres = shop.cluster.connect("postgres");
    shop.sandbox.set_faults(&[Fault::hang()]);
    place_orders(&mut shop.connect(), 1, 500);
    shop.eventually("calls hang", PATIENCE, || shop.sandbox.receipts().len() == 64);
    let began = Instant::now();
    sql(&mut postgres, "DROP DATABASE shop");
    println!("dropped after {:?}", began.elapsed());
    assert!(began.elapsed() < PROMPT);
    assert_eq!(workers(&mut postgres), []);
    shop.sandbox.clear_faults();
    shop.add_database("other");
    wait_for_worker(&mut shop.cluster.connect("other"));
    let log = shop.cluster.log();
    assert!(!log.contains("does not exist"), "nobody looks for the dropped database:\n{log}");
}

#[test]
fn a_database_is_moved_and_copied_and_goes_on() {
    let shop = shop();
    let mut postgres = shop.cluster.connect("postgres");
    let place = shop.cluster.directory().join("elsewhere");
    fs::create_dir(&place).expect("a directory can be made");
    ServerUser::current().give(&place);
    sql(&mut postgres, &format!("CREATE TABLESPACE elsewhere LOCATION '{}'", place.display()));
    let mut order = 1;
    let mut statements = vec![
        "ALTER DATABASE shop SET TABLESPACE elsewhere",
        "CREATE DATABASE copy TEMPLATE shop",
        "CREATE DATABASE copy_of_a_copy WITH OWNER postgres TEMPLATE = copy",
    ];
    if shop.cluster.bin().major() >= 15 {
        statements.push("CREATE DATABASE files TEMPLATE shop STRATEGY file_copy");
    }
    for statement in statements {
        wait_for_worker(&mut shop.connect());
        let began = Instant::now();
        sql(&mut postgres, statement);
        println!("{statement}: {:?}", began.elapsed());
        order += 1;
        delivers_again(&shop, order);
    }
    // What was made has workers of its own, at once.
    wait_for_worker(&mut shop.cluster.connect("copy"));
    wait_for_worker(&mut shop.cluster.connect("copy_of_a_copy"));
}

#[test]
fn two_may_copy_a_database_at_once() {
    let shop = shop();
    let copiers: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|name| {
            let mut postgres = shop.cluster.connect("postgres");
            thread::spawn(move || sql(&mut postgres, &format!("CREATE DATABASE {name} TEMPLATE shop")))
        })
        .collect();
    for copier in copiers {
        copier.join().expect("the copy succeeds");
    }
    delivers_again(&shop, 2);
}

#[test]
fn a_statement_that_fails_leaves_the_worker_where_it_was() {
    let shop = shop();
    let mut postgres = shop.cluster.connect("postgres");
    let in_the_way = shop.connect();
    let began = Instant::now();
    assert_eq!(refused(&mut postgres, "DROP DATABASE shop"), "55006");
    println!("refused after {:?}", began.elapsed());
    assert_eq!(refused(&mut postgres, "ALTER DATABASE shop RENAME TO store"), "55006");
    drop(in_the_way);
    delivers_again(&shop, 2);
    sql(&mut postgres, "CREATE DATABASE taken");
    assert_eq!(refused(&mut postgres, "ALTER DATABASE shop RENAME TO taken"), "42P04");
    delivers_again(&shop, 3);
}

#[test]
fn who_may_not_run_a_statement_stops_no_worker() {
    let shop = shop();
    let mut postgres = shop.cluster.connect("postgres");
    let worker = worker_of(&mut postgres, "shop");
    assert!(worker.is_some());
    for statement in [
        "DROP DATABASE shop",
        "ALTER DATABASE shop SET TABLESPACE pg_default",
        "CREATE DATABASE copy TEMPLATE shop",
    ] {
        sql(&mut postgres, "BEGIN");
        assert_eq!(refused(&mut postgres, statement), "25001", "{statement}");
        sql(&mut postgres, "ROLLBACK");
    }
    sql(&mut postgres, "CREATE ROLE maker CREATEDB; CREATE ROLE owner; SET ROLE maker");
    for statement in [
        "DROP DATABASE shop",
        "ALTER DATABASE shop RENAME TO store",
        "ALTER DATABASE shop SET TABLESPACE pg_default",
        "CREATE DATABASE copy TEMPLATE shop",
    ] {
        assert_eq!(refused(&mut postgres, statement), "42501", "{statement}");
    }
    // The owner may drop it, but without CREATEDB he may not copy it.
    sql(&mut postgres, "RESET ROLE; ALTER DATABASE shop OWNER TO owner; SET ROLE owner");
    assert_eq!(refused(&mut postgres, "CREATE DATABASE copy TEMPLATE shop"), "42501");
    sql(&mut postgres, "RESET ROLE");
    assert_eq!(refused(&mut postgres, "DROP DATABASE nowhere"), "3D000");
    assert_eq!(refused(&mut shop.connect(), "DROP DATABASE shop"), "55006");
    assert_eq!(worker_of(&mut postgres, "shop"), worker);
    sql(&mut postgres, "SET ROLE owner");
    sql(&mut postgres, "DROP DATABASE shop");
    assert_eq!(workers(&mut postgres), []);
}

/// Renaming may be part of a transaction; until that ends, one way or the other, nobody else gets into the database.
#[test]
fn the_worker_is_held_off_until_the_transaction_ends() {
    let mut shop = shop();
    let mut observer = shop.cluster.connect("postgres");
    for (round, end) in ["ROLLBACK", "ROLLBACK TO before", "terminated", "killed"].into_iter().enumerate() {
        let mut postgres = shop.cluster.connect("postgres");
        sql(&mut postgres, "BEGIN; SAVEPOINT before; ALTER DATABASE shop RENAME TO store");
        let holder: i32 = postgres.query_one("SELECT pg_backend_pid()", &[]).expect("it has one").get(0);
        for _ in 0..20 {
            assert_eq!(workers(&mut observer), [], "before {end}");
            thread::sleep(Duration::from_millis(100));
        }
        match end {
            "terminated" => kill(holder, Signal::SIGTERM),
            "killed" => {
                kill(holder, Signal::SIGKILL);
                shop.eventually("the crash is noticed", PATIENCE, || {
                    observer.is_closed() || observer.batch_execute("SELECT").is_err()
                });
                shop.cluster.wait_ready();
                observer = shop.cluster.connect("postgres");
            }
            statement => sql(&mut postgres, statement),
        }
        delivers_again(&shop, 2 + i64::try_from(round).expect("a small number"));
    }
}

#[test]
fn waiting_for_a_worker_can_be_interrupted() {
    let shop = shop();
    let mut postgres = shop.cluster.connect("postgres");
    let worker = worker_of(&mut postgres, "shop").expect("it runs");
    let process = Process::find(worker).expect("it runs");
    process.freeze();
    // Far below the time after which waiting ends by itself, and Postgres asks who is in the database.
    let began = Instant::now();
    sql(&mut postgres, "SET statement_timeout = '300ms'");
    assert_eq!(refused(&mut postgres, "DROP DATABASE shop"), "57014");
    println!("canceled after {:?}", began.elapsed());
    process.signal(Signal::SIGCONT);
    delivers_again(&shop, 2);
    // Nor is it for ever.
    let process = Process::find(worker_of(&mut postgres, "shop").expect("it runs")).expect("it runs");
    process.freeze();
    sql(&mut postgres, "RESET statement_timeout");
    assert_eq!(refused(&mut postgres, "DROP DATABASE shop"), "55006");
    process.signal(Signal::SIGCONT);
    delivers_again(&shop, 3);
}

/// A prepared transaction keeps the lock on the database, in nobody's name; a worker that starts waits for it.
#[test]
fn a_prepared_renaming_holds_up_no_shutdown() {
    let mut shop = shop();
    let mut postgres = shop.cluster.connect("postgres");
    sql(&mut postgres, "BEGIN; ALTER DATABASE shop RENAME TO store; PREPARE TRANSACTION 'renaming'");
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND NOT granted";
    eventually("a worker waits for its database", PATIENCE, || count(&mut postgres, waits) == 1);
    drop(postgres);
    let took = shop.cluster.stop(Stop::Fast);
    println!("stopped after {took:?}");
    assert!(took < PROMPT);
    shop.cluster.start();
    sql(&mut shop.cluster.connect("postgres"), "ROLLBACK PREPARED 'renaming'");
    delivers_again(&shop, 2);
}

/// All the ways an extension goes: the worker learns of it at once, not when it next looks by itself.
#[test]
fn the_worker_goes_with_the_extension() {
    let shop = shop();
    let mut db = shop.connect();
    for statement in [
        "DROP EXTENSION klaviyo_sync",
        "DROP SCHEMA tools CASCADE",
        "DROP OWNED BY boss",
        "DO $$ BEGIN DROP EXTENSION klaviyo_sync; END $$",
    ] {
        wait_for_worker(&mut db);
        sql(&mut db, statement);
        shop.eventually(&format!("the worker ends after {statement}"), PATIENCE, || {
            workers(&mut db).is_empty()
        });
        sql(
            &mut db,
            "RESET ROLE;
             DROP SCHEMA IF EXISTS tools;
             DROP ROLE IF EXISTS boss;
             CREATE SCHEMA tools;
             CREATE ROLE boss SUPERUSER;
             SET ROLE boss;
             CREATE EXTENSION klaviyo_sync WITH SCHEMA tools;
             RESET ROLE",
        );
    }
}
