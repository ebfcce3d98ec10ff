//! Whatever an administrator sets for the whole server, and when the disk is full: everything is delivered and recorded.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use harness::{
    Directory, Fault, Ledger, ORDER, PATIENCE, ServerUser, Shop, Stop, count, launcher, place_orders, sql,
    wait_for_worker, workers,
};
use postgres::{Client, NoTls};

/// What administrators set to keep sessions in bounds, as small as it gets, and what a session is not to depend on.
fn hostile(major: u32) -> Vec<(&'static str, &'static str)> {
    let mut settings = vec![
        ("statement_timeout", "1ms"),
        ("lock_timeout", "1ms"),
        ("idle_in_transaction_session_timeout", "1ms"),
        ("idle_session_timeout", "1ms"),
        ("default_transaction_read_only", "on"),
        ("default_transaction_isolation", "serializable"),
        ("default_transaction_deferrable", "on"),
        ("synchronous_commit", "off"),
        ("search_path", "nowhere"),
        ("row_security", "on"),
        ("enable_indexscan", "off"),
        ("TimeZone", "Pacific/Kiritimati"),
        ("DateStyle", "SQL, DMY"),
        ("IntervalStyle", "sql_standard"),
        ("standard_conforming_strings", "off"),
    ];
    if major >= 17 {
        // Above what connecting takes, which is a transaction too; far below the lock waits here.
        settings.push(("transaction_timeout", "100ms"));
    }
    settings
}

/// A session that none of that reaches: a client's own options stand above them.
fn shielded(shop: &Shop, database: &str) -> Client {
    let mut options = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 \
                       -c idle_session_timeout=0 -c default_transaction_read_only=off \
                       -c default_transaction_isolation=read\\ committed -c standard_conforming_strings=on \
                       -c search_path=public"
        .to_owned();
    if shop.cluster.bin().major() >= 17 {
        options.push_str(" -c transaction_timeout=0");
    }
    let mut client = None;
    shop.eventually("a session", PATIENCE, || {
        client = shop.cluster.config(database).options(&options).connect(NoTls).ok();
        client.is_some()
    });
    client.expect("there is a session")
}

/// Everything the worker does: orders taken, tried again and refused, locks waited for, a day dropped.
fn assert_works(shop: &Shop, db: &mut Client, first: i64, retention: &str) {
    let (worker, launched) = (wait_for_worker(db), launcher(db));
    shop.sandbox
        .set_faults(&[Fault::status(503).times(5), Fault::status(400).matching("\"external_id\":\"refused")]);
    let dead = count(db, "SELECT count(*) FROM klaviyo.dead_letter");
    let delivered = count(db, "SELECT count(*) FROM klaviyo.delivery");
    place_orders(db, first, first + 99);
    sql(db, "SELECT klaviyo_track_event('Refused', external_id => 'refused')");
    sql(db, "SELECT klaviyo.add_delivery_day((now() AT TIME ZONE 'UTC')::date - 500)");
    // The worker waits for a lock: no timeout of the server's ends that.
    let mut locker = shielded(shop, "shop");
    sql(&mut locker, "BEGIN; LOCK TABLE klaviyo.delivery IN SHARE MODE");
    place_orders(db, first + 100, first + 109);
    thread::sleep(Duration::from_millis(500));
    sql(&mut locker, "ROLLBACK");
    shop.cluster.set("klaviyo.delivery_retention", retention);
    let mut done = || {
        count(db, "SELECT (SELECT count(*) FROM klaviyo.outbox) + (SELECT count(*) FROM klaviyo.retry)") == 0
            && count(db, "SELECT count(*) FROM klaviyo.delivery") == delivered + 110
            && count(db, "SELECT count(*) FROM klaviyo.dead_letter") == dead + 1
            && count(db, "SELECT count(*) FROM klaviyo.delivery_days()") == 4
    };
    shop.eventually("all is recorded", PATIENCE, &mut done);
    assert_eq!((wait_for_worker(db), launcher(db)), (worker, launched), "a process has died of it");
}

fn all_is_delivered_under(how: &str) {
    let mut shop = Shop::builder()
        .setting("klaviyo.delivery_retention", "-1")
        .setting("klaviyo.retry_min_delay", "10ms")
        .setting("klaviyo.poll_interval", "200ms")
        .start();
    let mut db = shielded(&shop, "shop");
    wait_for_worker(&mut db);
    for (name, value) in hostile(shop.cluster.bin().major()) {
        sql(&mut db, &format!("{how} SET {name} = '{value}'"));
    }
    // What a reload brings to processes that run, then what those meet that start.
    sql(&mut db, "SELECT pg_reload_conf()");
    assert_works(&shop, &mut db, 1, "400d");
    drop(db);
    shop.cluster.restart(Stop::Fast);
    let mut db = shielded(&shop, "shop");
    shop.cluster.set("klaviyo.delivery_retention", "-1");
    assert_works(&shop, &mut db, 1001, "401d");
    Ledger::new(&shop.sandbox.receipts(), ORDER).assert_accepted_exactly((1..=110).chain(1001..=1110));
    let log = shop.cluster.log();
    let bad: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("klaviyo_sync ") && (line.contains("ERROR:") || line.contains("FATAL:")))
        .filter(|line| !line.contains("terminating"))
        .collect();
    assert_eq!(bad, Vec::<&str>::new());
}

#[test]
fn settings_of_the_server_do_no_harm() {
    all_is_delivered_under("ALTER SYSTEM");
}

#[test]
fn settings_of_the_database_do_no_harm() {
    all_is_delivered_under("ALTER DATABASE shop");
}

#[test]
fn settings_of_all_roles_do_no_harm() {
    all_is_delivered_under("ALTER ROLE ALL");
}

#[test]
fn settings_of_the_superuser_in_the_database_do_no_harm() {
    all_is_delivered_under("ALTER ROLE postgres IN DATABASE shop");
}

/// A file system of its own, small enough to be filled.
struct SmallDisk {
    path: PathBuf,
    _directory: Directory,
}

impl SmallDisk {
    /// None where that is not permitted.
    fn mount() -> Option<Self> {
        let directory = Directory::new();
        let path = directory.path().join("disk");
        fs::create_dir(&path).expect("a directory can be made");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(&path).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let space = path.join("space");
        fs::create_dir(&space).expect("a directory can be made");
        for directory in [directory.path(), &path, &space] {
            ServerUser::current().give(directory);
        }
        Some(Self { path, _directory: directory })
    }

    /// Takes all that is left.
    fn fill(&self) {
        let mut file = File::create(self.path.join("filler")).expect("a file can be made");
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.path.join("filler")).expect("the file can be removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whatever still runs there ends on its own.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

#[test]
fn a_full_disk_loses_nothing_and_sends_nothing_twice() {
    let Some(disk) = SmallDisk::mount() else {
        println!("SKIPPED: no file system can be mounted here, which takes root");
        return;
    };
    let mut shop = Shop::builder().setting("klaviyo.max_in_flight", "16").start();
    let mut postgres = shop.cluster.connect("postgres");
    sql(&mut postgres, &format!("CREATE TABLESPACE small LOCATION '{}'", disk.path.join("space").display()));
    // A new database lies where its template does.
    sql(&mut postgres, "ALTER DATABASE template1 SET TABLESPACE small");
    shop.add_database("full");
    let mut db = shop.cluster.connect("full");
    let worker = wait_for_worker(&mut db);
    place_orders(&mut db, 1, 10);
    let delivered = "SELECT count(*) FROM klaviyo.delivery";
    shop.eventually("all is well", PATIENCE, || count(&mut db, delivered) == 10);

    sql(&mut db, "SELECT klaviyo_pause_account()");
    place_orders(&mut db, 11, 5_000);
    // What is in memory only would find no room later, and whoever needs its buffer would complain.
    sql(&mut db, "CHECKPOINT");
    disk.fill();
    sql(&mut db, "SELECT klaviyo_resume_account()");
    let complaint = "what became of messages cannot be recorded";
    shop.eventually("the disk is full", PATIENCE, || shop.cluster.log().contains(complaint));
    thread::sleep(Duration::from_secs(12));
    let sent = shop.sandbox.receipts().len();
    let recorded = usize::try_from(count(&mut db, delivered)).expect("a count");
    println!("{sent} sent, {recorded} recorded while the disk is full");
    assert!(sent <= recorded + 16, "{sent} were sent though only {recorded} could be recorded");
    assert_eq!(Ledger::new(&shop.sandbox.receipts(), ORDER).resends(), 0, "something was sent twice");
    // Postgres complains by itself where it cannot write a block for which it is somebody's turn.
    let of_postgres = ["could not write block", "Multiple failures"];
    let log = shop.cluster.log();
    let of_worker = log.lines().filter(|line| line.contains("klaviyo_sync worker"));
    let lines = of_worker.filter(|line| !of_postgres.iter().any(|text| line.contains(text))).count();
    assert!(lines <= 5, "{lines} lines in the log:\n{}", shop.cluster.log_tail(50));

    // A worker that ends meanwhile forgets what it could not record: that, and no more, is sent again.
    let ends = |db: &mut Client| workers(db).iter().all(|other| other.pid != worker);
    sql(&mut db, &format!("SELECT pg_terminate_backend({worker})"));
    shop.eventually("the worker has ended", PATIENCE, || ends(&mut db));
    wait_for_worker(&mut db);
    thread::sleep(Duration::from_secs(2));
    disk.free();
    let left = "SELECT (SELECT count(*) FROM klaviyo.outbox) + (SELECT count(*) FROM klaviyo.retry)";
    shop.eventually("it goes on", PATIENCE, || count(&mut db, left) == 0);
    assert_eq!(count(&mut db, delivered), 5_000);
    let receipts = shop.sandbox.receipts();
    let ledger = Ledger::new(&receipts, ORDER);
    ledger.assert_accepted_exactly(1..=5_000);
    println!("{} sent twice", ledger.resends());
    assert!(ledger.resends() <= 16, "{} were sent twice", ledger.resends());
    drop(shop);
    drop(disk);
}
