//! What must stay secret: the private key everywhere, and a customer's address in the log.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use harness::{
    Fault, PATIENCE, RaiseAtTheEnd, ServerUser, Shop, ShopBuilder, eventually, explain, place, query, sql,
    wait_for_worker,
};
use postgres::Client;

/// What is looked for. It is in every key below, also in the broken ones: a part of a key is a secret too.
const SECRET: &str = "never_to_be_seen";

const KEY: &str = "pk_never_to_be_seen_0123456789abcdef";

/// The server tells all that it can tell.
fn verbose() -> ShopBuilder {
    Shop::builder()
        .setting("log_min_messages", "debug5")
        .setting("log_statement", "all")
        .setting("log_error_verbosity", "verbose")
        .setting("log_parameter_max_length_on_error", "-1")
        .setting("klaviyo.poll_interval", "200ms")
        .setting("klaviyo.retry_min_delay", "20ms")
        .setting("klaviyo.retry_max_delay", "200ms")
        .sandbox(["--key", KEY])
}

/// A place where the secret could be, and what is there.
struct Text {
    place: String,
    text: String,
}

/// All that is collected while things go well and badly.
#[derive(Default)]
struct Collected(Vec<Text>);

impl Collected {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push(Text { place: place.into(), text: text.into() });
    }

    /// Runs statements that must fail, and keeps all that is told about it.
    fn failure(&mut self, db: &mut Client, statements: &str) {
        let error = db.batch_execute(statements).expect_err(statements);
        assert!(error.as_db_error().is_some(), "the server refuses it: {error}");
        self.add("error", format!("{} {error:?}", explain(&error)));
    }

    /// The health and the account's status, as they are now.
    fn health(&mut self, db: &mut Client) {
        for query in
            ["SELECT h::text FROM klaviyo_health() AS h", "SELECT s::text FROM klaviyo.account_status AS s"]
        {
            self.rows("health", db, query).expect("it can be read");
        }
    }

    /// Every row of a query for one text; tells how many there were.
    fn rows(&mut self, place: &str, db: &mut Client, query: &str) -> Result<usize, postgres::Error> {
        let rows = db.query(query, &[])?;
        for row in &rows {
            self.add(place, row.try_get::<_, Option<String>>(0)?.unwrap_or_default());
        }
        Ok(rows.len())
    }

    /// Every row of every table and view that an administrator can look into, but for the one that holds keys.
    fn tables(&mut self, db: &mut Client) {
        // TOAST tables are read through the tables they belong to.
        let names = db.query(
            "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
             WHERE n.nspname IN ('klaviyo', 'pg_catalog', 'information_schema') AND c.relkind IN ('r', 'p', 'v', 'm')
               AND c.oid <> 'klaviyo.account_key'::regclass
               -- It fails where the kernel knows nothing of NUMA.
               AND c.relname <> 'pg_shmem_allocations_numa'",
            &[],
        );
        let names: Vec<String> = names.expect("tables are listed").iter().map(|row| row.get(0)).collect();
        let mut unreadable = Vec::new();
        for name in &names {
            // A row's own notation doubles quotes and backslashes, of which the secret has none.
            if let Err(error) = self.rows(name, db, &format!("SELECT t::text FROM {name} AS t")) {
                unreadable.push(format!("{name}: {}", explain(&error)));
            }
        }
        assert!(unreadable.is_empty(), "{unreadable:#?}");
        for expected in
            ["klaviyo.account", "klaviyo.account_status", "klaviyo.retry", "pg_statistic", "pg_settings"]
        {
            assert!(self.0.iter().any(|text| text.place == expected), "{expected} was read and not empty");
        }
    }

    fn log_and_dump(&mut self, shop: &Shop) {
        self.add("dump", String::from_utf8_lossy(&shop.cluster.dump("shop")));
        self.add("log", shop.cluster.log());
    }

    /// Panics where a text is found, with the lines that hold it.
    fn assert_without(&self, needle: &str) {
        let found: Vec<String> = (self.0.iter())
            .flat_map(|Text { place, text }| text.lines().map(move |line| (place, line)))
            .filter(|(_, line)| line.contains(needle))
            .map(|(place, line)| format!("{place}: {line}"))
            .collect();
        assert!(
            found.is_empty(),
            "{} lines hold it:\n{}",
            found.len(),
            found[..found.len().min(20)].join("\n")
        );
    }
}

fn key_file(shop: &Shop) -> PathBuf {
    shop.cluster.directory().join("klaviyo.key")
}

fn write_key(shop: &Shop, key: &str) {
    fs::write(key_file(shop), key).expect("the key file can be written");
    ServerUser::current().give(&key_file(shop));
}

fn wait_for_stop(shop: &Shop, db: &mut Client, reason: &str) {
    shop.eventually(&format!("the account is stopped: {reason}"), PATIENCE, || {
        query(
            db,
            "SELECT EXISTS (SELECT FROM klaviyo.account_status WHERE stopped_at IS NOT NULL AND stopped_reason ~* $1)",
            &[&reason],
        )
    });
}

/// Delivers a few messages while somebody looks at `pg_stat_activity` all the time.
fn deliver_watched(shop: &Shop, db: &mut Client, collected: &mut Collected) {
    let done = AtomicBool::new(false);
    // Slow calls: there is something to see.
    shop.sandbox.set_faults(&[Fault::latency(Duration::from_millis(20))]);
    let seen = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut other = shop.connect();
            let mut seen = Collected::default();
            while !done.load(SeqCst) {
                seen.rows("pg_stat_activity", &mut other, "SELECT a::text FROM pg_stat_activity AS a")
                    .expect("it can be read");
            }
            seen
        });
        {
            let _done = RaiseAtTheEnd(&done);
            for order in 1..=50 {
                place(db, order);
            }
            assert_eq!(shop.drain_soon().dead, 0);
        }
        watcher.join().expect("the watcher ends well")
    });
    shop.sandbox.clear_faults();
    assert!(seen.0.iter().any(|row| row.text.contains("klaviyo_sync worker")), "the worker was seen");
    collected.0.extend(seen.0);
}

/// Klaviyo refuses, is away, and functions fail.
fn go_wrong(shop: &Shop, db: &mut Client, collected: &mut Collected) {
    for (status, reason) in [(401, "does not accept"), (403, "events:write")] {
        // An answer may repeat what was asked.
        let refusal = Fault::status(status).error("refused", &format!("You said Klaviyo-API-Key {KEY}."));
        shop.sandbox.set_faults(&[refusal]);
        place(db, 1_000 + i64::from(status));
        wait_for_stop(shop, db, reason);
        collected.health(db);
        shop.sandbox.clear_faults();
        shop.drain_soon();
    }
    shop.sandbox.down();
    eventually("it is down", PATIENCE, || !shop.sandbox.is_up());
    place(db, 2_000);
    shop.eventually("connecting fails", PATIENCE, || {
        query(db, "SELECT EXISTS (SELECT FROM klaviyo.retry WHERE last_code = 'connect')", &[])
    });
    collected.health(db);
    for statement in [
        "SELECT klaviyo_track_event('')",
        "SELECT klaviyo_upsert_profile(email => 'nobody')",
        "SELECT klaviyo_set_account(private_key_file => 'relative')",
        "SELECT klaviyo_set_account(private_key_env => 'A=B')",
        "SELECT klaviyo_set_account(rate_share => 7, base_url => 'https://a.klaviyo.com')",
        "SELECT klaviyo_set_account(base_url => 'ftp://localhost')",
        "SELECT klaviyo_arm_account('nobody')",
        "SELECT klaviyo_pause_account('nobody')",
        "SELECT klaviyo_remove_account('nobody')",
        "SELECT klaviyo_check_account(timeout => '0')",
        "SELECT klaviyo_redrive()",
        "SELECT klaviyo_discard()",
        // Constraints quote what they refuse.
        "INSERT INTO klaviyo.account_key SELECT 'nobody', k.private_key FROM klaviyo.account_key AS k
         UNION ALL SELECT 'nobody', '-'",
    ] {
        collected.failure(db, statement);
    }
    // Rows of all tables while something waits there.
    collected.tables(db);
    shop.sandbox.up();
    shop.drain_soon();
}

fn restart_worker(shop: &Shop, db: &mut Client) {
    let worker = wait_for_worker(db);
    sql(db, &format!("SELECT pg_terminate_backend({worker})"));
    shop.eventually("another worker has come", PATIENCE, || wait_for_worker(db) != worker);
    let id = place(db, 3_000);
    shop.wait_for_status(&id, "accepted");
}

/// What could not be found because it was never said proves nothing.
fn assert_log_is_verbose(shop: &Shop) {
    let log = shop.cluster.log();
    for expected in
        ["DEBUG:  00000", "STATEMENT:", "LOCATION:", "ERROR:  KS", "WARNING:", "klaviyo_sync worker"]
    {
        assert!(log.contains(expected), "the log has {expected:?}");
    }
}

#[test]
fn a_key_in_a_file_is_seen_nowhere() {
    let shop = verbose().start();
    let mut db = shop.connect();
    let mut collected = Collected::default();
    // A wrong key first, and broken ones: whoever reads them must not show them.
    for (key, reason) in [
        (format!("pk_wrong_{SECRET}"), "does not accept"),
        (format!("{KEY} and\nmore"), "characters"),
        (KEY.repeat(1_000), "does not accept"),
        (format!("{KEY}\u{1}"), "characters"),
    ] {
        write_key(&shop, &key);
        place(&mut db, 1);
        wait_for_stop(&shop, &mut db, reason);
        collected.health(&mut db);
    }
    fs::write(key_file(&shop), [KEY.as_bytes(), b"\xff"].concat()).expect("the key file can be written");
    wait_for_stop(&shop, &mut db, "UTF-8");
    collected.health(&mut db);
    fs::remove_file(key_file(&shop))
        .and_then(|()| fs::create_dir(key_file(&shop)))
        .expect("a directory can be made");
    wait_for_stop(&shop, &mut db, "not a regular file");
    collected.health(&mut db);
    fs::remove_dir(key_file(&shop)).expect("the directory can be removed");
    write_key(&shop, KEY);
    shop.drain_soon();

    deliver_watched(&shop, &mut db, &mut collected);
    go_wrong(&shop, &mut db, &mut collected);
    restart_worker(&shop, &mut db);
    sql(&mut db, "ANALYZE");
    collected.tables(&mut db);
    collected.log_and_dump(&shop);
    assert_log_is_verbose(&shop);
    collected.assert_without(SECRET);
}

#[test]
fn a_stored_key_is_seen_only_where_it_is_stored() {
    let shop = verbose().start();
    let mut db = shop.connect();
    let mut collected = Collected::default();
    // A statement's own log may hold the key, as the notice says: nothing of these statements is logged. They go by
    // the simple protocol, since the extended one logs what it parses at debug2.
    let mut quiet = shop.connect();
    sql(
        &mut quiet,
        "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic'",
    );
    // Several: of one value alone ANALYZE keeps nothing.
    for (account, key) in
        [("default", KEY), ("second", "pk_never_to_be_seen_2"), ("third", "pk_never_to_be_seen_3")]
    {
        sql(&mut quiet, &format!("SELECT klaviyo_set_account('{account}', private_key => '{key}')"));
    }
    for arguments in [
        format!("private_key => '{KEY} and more'"),
        format!("private_key => '{}'", KEY.repeat(1_000)),
        format!("private_key => '{KEY}', private_key_file => '/nowhere'"),
        format!("private_key => '{KEY}', rate_share => 0"),
        format!("'no name', private_key => '{KEY}'"),
    ] {
        let statement = format!("SELECT klaviyo_set_account({arguments})");
        let error = quiet.batch_execute(&statement).expect_err(&statement);
        collected.add("error", format!("{} {error:?}", explain(&error)));
    }
    // Its last statement would still be in pg_stat_activity, also for as long as it takes to end.
    sql(&mut quiet, "SELECT 1");
    drop(quiet);
    let stored = "SELECT count(*) FROM klaviyo.account_key WHERE private_key ~ '^pk_'";
    assert_eq!(query::<i64>(&mut db, stored, &[]), 3);

    deliver_watched(&shop, &mut db, &mut collected);
    go_wrong(&shop, &mut db, &mut collected);
    restart_worker(&shop, &mut db);
    // Statistics are copies of what tables hold.
    sql(&mut db, "ANALYZE");
    collected.tables(&mut db);
    collected.log_and_dump(&shop);
    assert_log_is_verbose(&shop);
    collected.assert_without(SECRET);
}

/// At the levels that servers have unless told otherwise. Klaviyo quotes what it refuses.
#[test]
fn no_address_of_a_customer_is_in_the_log() {
    const ADDRESS: &str = "sarah.mason@example.com";
    let shop = Shop::builder()
        .setting("klaviyo.poll_interval", "200ms")
        .setting("klaviyo.retry_min_delay", "20ms")
        .setting("klaviyo.retry_max_delay", "200ms")
        .setting("klaviyo.backlog_age", "1s")
        .start();
    let mut db = shop.connect();
    let mut collected = Collected::default();
    let queue = |db: &mut Client| {
        sql(
            db,
            &format!(
                "SELECT klaviyo_track_event('Placed Order', email => '{ADDRESS}'),
                        klaviyo_upsert_profile(email => '{ADDRESS}', first_name => 'Sarah')"
            ),
        );
    };
    queue(&mut db);
    shop.drain_soon();
    shop.sandbox.set_faults(&[Fault::status(400).error("invalid", &format!("'{ADDRESS}' is no address."))]);
    queue(&mut db);
    shop.eventually("both are put aside", PATIENCE, || shop.backlog().dead == 2);
    let reasons: i64 =
        query(&mut db, "SELECT count(*) FROM klaviyo.dead_letter WHERE reason LIKE '%@example.com%'", &[]);
    assert_eq!(reasons, 2, "Klaviyo's words are kept, where only some may read");
    let quoting = |status| Fault::status(status).error("error", &format!("No, {ADDRESS}."));
    // About the key, and of no message: what Klaviyo says of that is logged.
    for fault in [Fault::status(401), Fault::status(403), quoting(429), quoting(503)] {
        shop.sandbox.set_faults(&[fault]);
        queue(&mut db);
        shop.eventually("it was refused", PATIENCE, || shop.sandbox.faults()[0].fired > 0);
    }
    // Refused when queued, and put aside.
    sql(
        &mut db,
        &format!(
            "SET klaviyo.on_invalid = 'dead_letter'; SELECT klaviyo_track_event('', email => '{ADDRESS}')"
        ),
    );
    assert_eq!(shop.backlog().dead, 3);
    let alarm = "klaviyo_sync: backlog_age";
    shop.eventually("the backlog is noticed", PATIENCE, || shop.cluster.log().contains(alarm));
    shop.sandbox.clear_faults();
    restart_worker(&shop, &mut db);
    shop.drain_soon();
    let log = shop.cluster.log();
    assert!(log.contains("Klaviyo refuses calls of account"), "something was logged");
    collected.add("log", log);
    collected.assert_without("sarah");
    collected.assert_without("@example.com");
}
