//! What a DBA does to a server with the extension: other versions, too few processes, other extensions, errors.

use std::process::Command;
use std::thread;
use std::time::Duration;

use harness::{
    Cluster, PATIENCE, PgBin, ServerUser, Shop, Stop, count, eventually, launcher, place_orders, refused,
    sql, wait_for_worker, workers,
};
use postgres::Client;

const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

fn wait_for_log(cluster: &Cluster, text: &str) {
    eventually(&format!("the log says \"{text}\""), PATIENCE, || cluster.log().contains(text));
}

fn occurrences(cluster: &Cluster, text: &str) -> usize {
    cluster.log().matches(text).count()
}

/// What the catalogue says after an update of the extension whose library is not loaded yet, or the other way round.
fn pretend_version(db: &mut Client, version: &str) {
    sql(
        db,
        &format!(
            "BEGIN;
             UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'klaviyo_sync';
             ALTER EXTENSION klaviyo_sync UPDATE TO '{version}';
             COMMIT"
        ),
    );
}

#[test]
fn an_extension_of_another_version_is_left_alone() {
    let mut shop = Shop::builder().setting("klaviyo.poll_interval", "1h").start();
    let mut db = shop.connect();
    place_orders(&mut db, 1, 5);
    shop.drain_soon();
    let mut order = 5;
    for (version, hint) in
        [("99.0.0", "HINT:  Restart the server"), ("0.0.1", "HINT:  ALTER EXTENSION klaviyo_sync UPDATE")]
    {
        // Told at commit: by itself this worker would look in an hour.
        pretend_version(&mut db, version);
        wait_for_log(&shop.cluster, hint);
        assert!(shop.cluster.log().contains(&format!("the extension is version {version}")));
        place_orders(&mut db, order + 1, order + 5);
        order += 5;
        wait_for_worker(&mut db);
        thread::sleep(Duration::from_secs(1));
        assert_eq!(shop.backlog().outbox, 5, "nothing is sent for version {version}");
        assert_eq!(occurrences(&shop.cluster, hint), 1, "it is said once");
        pretend_version(&mut db, OWN_VERSION);
        shop.drain_soon();
        shop.assert_arrived(1, order);
    }
    // Nobody tells it: then it looks as often as it is to.
    shop.cluster.set("klaviyo.poll_interval", "200ms");
    let version = |db: &mut Client, version: &str| {
        sql(db, &format!("UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'klaviyo_sync'"));
    };
    version(&mut db, "99.0.0");
    eventually("it is noticed", PATIENCE, || occurrences(&shop.cluster, "HINT:  Restart the server") == 2);
    place_orders(&mut db, order + 1, order + 5);
    // Also a server that starts with it.
    drop(db);
    shop.cluster.restart(Stop::Fast);
    let mut db = shop.connect();
    eventually("it is noticed", PATIENCE, || occurrences(&shop.cluster, "HINT:  Restart the server") == 3);
    assert_eq!(shop.backlog().outbox, 5);
    version(&mut db, OWN_VERSION);
    shop.drain_soon();
    shop.assert_arrived(1, order + 5);
}

#[test]
fn a_database_waits_for_a_free_process() {
    // One for the launcher, one for a worker.
    let mut shop = Shop::builder()
        .setting("max_worker_processes", 2)
        .setting("max_logical_replication_workers", 0)
        .setting("klaviyo.poll_interval", "1h")
        .start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    shop.add_database("second");
    let mut second = shop.cluster.connect("second");
    place_orders(&mut second, 1, 5);
    wait_for_log(&shop.cluster, "raise max_worker_processes");
    place_orders(&mut db, 6, 10);
    shop.drain_soon();
    shop.assert_arrived(6, 10);
    assert_eq!(workers(&mut db).len(), 1);
    sql(&mut db, "DROP EXTENSION klaviyo_sync");
    wait_for_worker(&mut second);
    shop.eventually("the other database delivers", PATIENCE, || {
        count(&mut second, "SELECT count(*) FROM klaviyo.outbox") == 0
    });
    shop.assert_arrived(1, 10);
    assert_eq!(occurrences(&shop.cluster, "raise max_worker_processes"), 1, "it is said once");
}

/// An error anywhere is a Rust panic by the time it has left Postgres' own code. What it costs is the statement in a
/// session, and in the worker one restart; nobody else notices.
#[test]
fn an_error_costs_one_statement_or_one_restart() {
    let mut shop = Shop::builder().setting("klaviyo.poll_interval", "200ms").start();
    let mut db = shop.connect();
    shop.add_database("second");
    let mut second = shop.cluster.connect("second");
    let (victim, bystander) = (wait_for_worker(&mut db), wait_for_worker(&mut second));
    let started = "SELECT extract(epoch FROM pg_postmaster_start_time())::bigint";
    let before = count(&mut db, started);
    sql(&mut db, "ALTER TABLE klaviyo.outbox RENAME COLUMN payload TO paypack");
    // In a session: the statement, and not even the transaction where there is a savepoint.
    let order = "SELECT klaviyo_track_event('Placed Order', external_id => '0')";
    sql(&mut db, "BEGIN; SAVEPOINT before");
    assert_eq!(refused(&mut db, order), "42703");
    sql(&mut db, "ROLLBACK TO before; COMMIT");
    // In a worker: the worker.
    shop.eventually("another worker, which fails likewise", PATIENCE, || {
        let log = shop.cluster.log();
        let failed = log.matches("ERROR:  column o.payload does not exist").count();
        failed >= 2
    });
    place_orders(&mut second, 1, 5);
    shop.eventually("the other database delivers", PATIENCE, || {
        count(&mut second, "SELECT count(*) FROM klaviyo.outbox") == 0
    });
    sql(&mut db, "ALTER TABLE klaviyo.outbox RENAME COLUMN paypack TO payload");
    place_orders(&mut db, 6, 10);
    shop.drain_soon();
    shop.assert_arrived(1, 10);
    assert_eq!(wait_for_worker(&mut second), bystander);
    assert_ne!(wait_for_worker(&mut db), victim);
    assert_eq!(count(&mut db, started), before, "the server was not restarted");
}

/// A name is looked up by a thread that the runtime starts when it needs one. Where it cannot, it panics.
#[test]
fn a_panic_of_the_http_thread_costs_one_restart_of_the_worker() {
    let mut shop = Shop::builder().setting("klaviyo.poll_interval", "200ms").start();
    let mut db = shop.connect();
    shop.add_database("second");
    let mut second = shop.cluster.connect("second");
    let (victim, bystander) = (wait_for_worker(&mut db), wait_for_worker(&mut second));
    let api = shop.sandbox.api().replace("127.0.0.1", "localhost");
    sql(&mut db, &format!("SELECT klaviyo_set_account(base_url => '{api}')"));
    let mut limit = Command::new("prlimit");
    limit.args(["--nproc=1", "--pid", &victim.to_string()]);
    let limited = ServerUser::current().run(&mut limit).status().expect("prlimit can be run");
    assert!(limited.success());
    place_orders(&mut db, 1, 10);
    shop.drain_soon();
    shop.assert_arrived(1, 10);
    assert_ne!(wait_for_worker(&mut db), victim);
    assert_eq!(wait_for_worker(&mut second), bystander);
    let log = shop.cluster.log();
    let panicked = "ERROR:  klaviyo_sync: the HTTP thread has ended: it panicked";
    assert_eq!(log.matches(panicked).count(), 1, "{log}");
}

#[test]
fn nothing_of_ours_runs_while_pg_upgrade_is_at_work() {
    let mut shop = Shop::builder().setting("klaviyo.enabled", "off").start();
    place_orders(&mut shop.connect(), 1, 5);
    shop.cluster.stop(Stop::Fast);
    // Not before, or the worker may deliver until it is stopped.
    shop.cluster.set("klaviyo.enabled", "on");
    // As pg_upgrade starts servers (start_postmaster in bin/pg_upgrade/server.c).
    shop.cluster.start_with(&["-b"]);
    let mut db = shop.connect();
    thread::sleep(Duration::from_secs(2));
    assert_eq!((launcher(&mut db), workers(&mut db)), (None, Vec::new()));
    assert_eq!(shop.sandbox.receipts().len(), 0);
    drop(db);
    shop.cluster.restart(Stop::Fast);
    shop.drain_soon();
    shop.assert_arrived(1, 5);
}

/// Preloaded beside us, before and behind: each gets its worker, its hook and its memory.
#[test]
fn other_extensions_with_workers_and_hooks_are_no_trouble() {
    let library = |name: &str| PgBin::from_env().library_dir().join(format!("{name}.so")).exists();
    if !library("pg_prewarm") || !library("pg_stat_statements") {
        eprintln!("SKIPPED: this Postgres has no pg_prewarm or no pg_stat_statements");
        return;
    }
    for order in
        ["pg_prewarm, klaviyo_sync, pg_stat_statements", "pg_stat_statements, klaviyo_sync, pg_prewarm"]
    {
        let shop = Shop::builder().setting("shared_preload_libraries", order).start();
        let mut db = shop.connect();
        sql(&mut db, "CREATE EXTENSION pg_stat_statements");
        place_orders(&mut db, 1, 5);
        shop.drain_soon();
        shop.assert_arrived(1, 5);
        // Its worker is connected to no database, so only it can tell that one is running.
        sql(&mut db, "CREATE EXTENSION pg_prewarm");
        assert_eq!(refused(&mut db, "SELECT autoprewarm_start_worker()"), "55000");
        let seen =
            |what: &str| format!("SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%{what}%'");
        assert!(count(&mut db, &seen("klaviyo_track_event")) > 0);
        drop(db);
        let mut postgres = shop.cluster.connect("postgres");
        sql(&mut postgres, "CREATE EXTENSION pg_stat_statements");
        sql(&mut postgres, "CREATE DATABASE copy TEMPLATE shop");
        sql(&mut postgres, "DROP DATABASE shop");
        assert_eq!(count(&mut postgres, &seen("DROP DATABASE shop")), 1);
    }
}
