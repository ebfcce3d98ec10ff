//! A dump carries accounts and every message that is not settled; no key, no history. What is restored from it is silent
//! until it is armed, and then nothing is lost and nothing comes twice.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use harness::{
    Cluster, Fault, Ledger, ORDER, PATIENCE, RaiseAtTheEnd, Receipt, SANDBOX_KEY, Shop, Stop, count,
    eventually, place_orders, sql, wait_for_worker,
};
use postgres::Client;

/// Runs a program of Postgres' on a database and returns what it prints.
fn run(cluster: &Cluster, program: &str, database: &str, arguments: &[&str]) -> String {
    let mut command = cluster.client(program);
    command.args(["-d", database]).args(arguments);
    let output = command.output().unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    assert_eq!(errors, "", "{program} {arguments:?} has something to say");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A text file as psql runs it, stopping at the first error.
fn run_script(cluster: &Cluster, database: &str, file: &Path) {
    run(
        cluster,
        "psql",
        database,
        &["-X", "-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-f", path(file)],
    );
}

fn path(path: &Path) -> &str {
    path.to_str().expect("paths are UTF-8")
}

/// Orders with a message in a table.
fn orders(db: &mut Client, table: &str) -> BTreeSet<String> {
    let query = format!("SELECT replace(key[1], 'external_id:', '') FROM {table} WHERE kind = 'event'");
    db.query(&query, &[]).expect("messages can be read").iter().map(|row| row.get(0)).collect()
}

/// A shop with messages in every state, whose key is stored, and whose calls hang by now.
fn busy_shop() -> Shop {
    let shop = Shop::builder()
        .setting("klaviyo.request_timeout", "10min")
        .setting("klaviyo.retry_min_delay", "5s")
        .start();
    let mut db = shop.connect();
    db.execute("SELECT klaviyo_set_account(private_key => $1)", &[&SANDBOX_KEY])
        .expect("the key can be stored");
    shop.sandbox.set_faults(&[
        Fault::status(400).matching("\"external_id\":\"200"),
        Fault::status(503).matching("\"external_id\":\"300"),
        Fault::status(400).matching("\"first_name\":\"old\""),
    ]);
    // Delivered, dead, tried again.
    place_orders(&mut db, 1001, 1500);
    place_orders(&mut db, 2001, 2005);
    place_orders(&mut db, 3001, 3005);
    sql(&mut db, "SELECT klaviyo_upsert_profile(external_id => 'ada', first_name => 'old')");
    shop.eventually("all of that has happened", PATIENCE, || {
        let backlog = shop.backlog();
        (backlog.outbox, backlog.retry, backlog.dead) == (0, 5, 6)
    });
    sql(&mut db, "SELECT klaviyo_upsert_profile(external_id => 'ada', first_name => 'new')");
    shop.eventually("the old state is superseded", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.superseded") == 1
    });
    shop.sandbox.set_faults(&[Fault::hang()]);
    place_orders(&mut db, 4001, 4500);
    shop
}

/// Dumps a shop while orders come in, into files of these names with these arguments.
fn dump_busy(shop: &Shop, dumps: &[(&str, &[&str])]) -> Vec<PathBuf> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = RaiseAtTheEnd(&stop);
        scope.spawn(|| {
            let mut db = shop.connect();
            for order in (10_000..).take_while(|_| !stop.load(Ordering::SeqCst)) {
                place_orders(&mut db, order, order);
            }
        });
        let files = dumps.iter().map(|(name, arguments)| {
            thread::sleep(Duration::from_millis(200));
            let file = shop.cluster.directory().join(name);
            let arguments: Vec<&str> = arguments.iter().copied().chain(["-f", path(&file)]).collect();
            run(&shop.cluster, "pg_dump", "shop", &arguments);
            file
        });
        files.collect()
    })
}

/// Another cluster, with an empty database `shop`.
fn other_cluster() -> Cluster {
    let cluster = Cluster::builder().own_identity().setting("klaviyo.poll_interval", "500ms").start();
    cluster.create_database("shop");
    cluster
}

/// What a restored database must be like before anybody has touched it. Returns the orders that are on their way.
fn assert_restored(cluster: &Cluster) -> BTreeSet<String> {
    let mut db = cluster.connect("shop");
    wait_for_worker(&mut db);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.account"), 1);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.account_key"), 0, "the key has come along");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.delivery"), 0, "history has come along");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.delivery_days()"), 4);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.superseded"), 1);
    let number = |range: std::ops::RangeInclusive<u32>| range.map(|n| n.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(orders(&mut db, "klaviyo.retry"), number(3001..=3005));
    assert_eq!(orders(&mut db, "klaviyo.dead_letter"), number(2001..=2005));
    let waiting = orders(&mut db, "klaviyo.outbox");
    assert!(number(4001..=4500).is_subset(&waiting), "what had been queued before the dump is missing");
    assert!(waiting.contains("10000"), "nothing was queued while the dump was made");
    let above = "SELECT nextval('klaviyo.outbox_seq_seq') - greatest((SELECT max(seq) FROM klaviyo.outbox),
                        (SELECT max(seq) FROM klaviyo.retry), (SELECT max(seq) FROM klaviyo.dead_letter))";
    assert!(count(&mut db, above) > 0, "new messages would get numbers of restored ones");
    eventually("the account says why it does not send", PATIENCE, || {
        let query =
            "SELECT count(*) FROM klaviyo.account_status WHERE stopped_reason LIKE '%this may be a copy%'";
        count(&mut db, query) == 1
    });
    waiting.into_iter().chain(number(3001..=3005)).collect()
}

fn arrived(receipts: &[Receipt]) -> BTreeSet<String> {
    Ledger::new(receipts, ORDER).keys().into_iter().map(str::to_owned).collect()
}

#[test]
fn a_restored_database_is_silent_until_armed_and_then_sends_all_once() {
    let mut shop = busy_shop();
    let files = dump_busy(&shop, &[("plain.sql", &[]), ("custom.dump", &["-Fc"])]);
    let texts = [fs::read_to_string(&files[0]).expect("the dump can be read"), run_to_text(&shop, &files[1])];
    for text in &texts {
        assert!(!text.contains(SANDBOX_KEY), "the key is in the dump");
        assert!(!text.contains("klaviyo.delivery"), "history, or a partition of it, is in the dump");
        assert!(text.contains("COPY klaviyo.outbox "), "the outbox is not in the dump");
    }
    // The original has died; what it had under way is known to nobody.
    shop.cluster.stop(Stop::Immediate);
    shop.sandbox.clear_faults();
    let before = shop.sandbox.receipts().len();

    let plain = other_cluster();
    run_script(&plain, "shop", &files[0]);
    let custom = other_cluster();
    run(&custom, "pg_restore", "shop", &["--exit-on-error", path(&files[1])]);
    assert_restored(&plain);
    let expected = assert_restored(&custom);
    // Some polls later still nothing has left either of them.
    thread::sleep(Duration::from_secs(2));
    assert_eq!(shop.sandbox.receipts().len(), before, "a copy has sent something");

    let mut db = custom.connect("shop");
    sql(&mut db, "SELECT klaviyo_arm_account()");
    eventually("the key is missed", PATIENCE, || {
        let query =
            "SELECT count(*) FROM klaviyo.account_status WHERE stopped_reason LIKE '%no private key%'";
        count(&mut db, query) == 1
    });
    assert_eq!(shop.sandbox.receipts().len(), before, "it has sent something without a key");
    db.execute("SELECT klaviyo_set_account(private_key => $1)", &[&SANDBOX_KEY]).expect("the key can be set");
    // A new order goes behind them.
    place_orders(&mut db, 1_000_000, 1_000_000);
    let left = "SELECT (SELECT count(*) FROM klaviyo.outbox) + (SELECT count(*) FROM klaviyo.retry)";
    eventually("all has been sent", PATIENCE, || count(&mut db, left) == 0);
    let receipts = shop.sandbox.receipts();
    let ledger = Ledger::new(&receipts[before..], ORDER);
    ledger.assert_accepted_exactly(expected.iter().map(String::as_str).chain(["1000000"]));
    assert_eq!(ledger.resends(), 0, "something was sent twice");

    // Dead letters can be redriven there, but for the state that a newer one has replaced.
    assert_eq!(count(&mut db, "SELECT klaviyo_redrive(account => 'default')"), 5);
    eventually("they have been sent", PATIENCE, || count(&mut db, left) == 0);
    let receipts = shop.sandbox.receipts();
    let redriven: Vec<String> = arrived(&receipts[before..])
        .difference(&arrived(&receipts[before..before + expected.len() + 1]))
        .cloned()
        .collect();
    assert_eq!(redriven, (2001..=2005).map(|order| order.to_string()).collect::<Vec<_>>());
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.dead_letter"), 1);
    assert_eq!(Ledger::new(&receipts[before..], ORDER).resends(), 0);
    drop(plain);
}

#[test]
fn parts_of_a_dump_are_as_one_would_think() {
    let shop = busy_shop();
    let files = dump_busy(
        &shop,
        &[
            ("schema.sql", &["--schema-only"]),
            ("data.sql", &["--data-only"]),
            ("inserts.sql", &["--inserts"]),
        ],
    );
    let text = |file: &Path| fs::read_to_string(file).expect("the dump can be read");
    let schema = text(&files[0]);
    assert!(schema.contains("CREATE EXTENSION IF NOT EXISTS klaviyo_sync"));
    assert!(!schema.contains("COPY"), "there are rows in a dump of the schema");
    assert!(!schema.contains("klaviyo.delivery"), "partitions are in a dump of the schema");
    assert!(!text(&files[1]).contains("CREATE"), "there are definitions in a dump of the data");

    // Definitions and rows apart, or rows as statements: the same comes of it.
    let cluster = other_cluster();
    run_script(&cluster, "shop", &files[0]);
    run_script(&cluster, "shop", &files[1]);
    assert_restored(&cluster);
    let cluster = other_cluster();
    run_script(&cluster, "shop", &files[2]);
    assert_restored(&cluster);
}

/// A custom dump as text.
fn run_to_text(shop: &Shop, file: &Path) -> String {
    let output = shop.cluster.bin().command("pg_restore").args(["-f", "-", path(file)]).output();
    String::from_utf8(output.expect("pg_restore can be run").stdout).expect("dumps are UTF-8")
}
