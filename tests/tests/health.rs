//! What `klaviyo_health()` and the views of lanes tell: well and not, with what to do, and when it has passed.

use std::thread;
use std::time::Duration;

use harness::{
    Bulk, Cluster, Fault, PATIENCE, Shop, ShopBuilder, Stop, count, eventually, place, place_orders, query,
    queued, sql, wait_for_worker,
};
use postgres::Client;

/// How often the worker looks around here.
const POLL: Duration = Duration::from_millis(200);

fn shop() -> ShopBuilder {
    Shop::builder()
        .setting("klaviyo.poll_interval", format!("{}ms", POLL.as_millis()))
        .setting("klaviyo.retry_min_delay", "20ms")
        .setting("klaviyo.retry_max_delay", "200ms")
}

/// A row of `klaviyo_health()`.
#[derive(Debug)]
struct Check {
    name: String,
    account: Option<String>,
    status: String,
    value: String,
    hint: Option<String>,
}

fn health(db: &mut Client) -> Vec<Check> {
    let rows = db.query("SELECT name, account, status, value, hint FROM klaviyo_health()", &[]);
    let rows = rows.expect("the health can be asked");
    let check = |row: &postgres::Row| Check {
        name: row.get(0),
        account: row.get(1),
        status: row.get(2),
        value: row.get(3),
        hint: row.get(4),
    };
    rows.iter().map(check).collect()
}

/// The check of that name, of that account when it is about accounts.
fn check(db: &mut Client, name: &str, account: &str) -> Check {
    let mut found = health(db);
    found.retain(|check| check.name == name && check.account.as_deref().unwrap_or(account) == account);
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.remove(0)
}

/// Waits until a check of the account `default` is ok and says this.
fn wait_for_ok(shop: &Shop, db: &mut Client, name: &str, value: &str) {
    let mut last = None;
    shop.eventually(&format!("{name} is ok: {value}"), PATIENCE, || {
        let check = check(db, name, "default");
        let met = check.status == "ok" && check.value.contains(value);
        last = Some(check);
        met
    });
    assert_eq!(last.expect("looked at").hint, None, "where all is well nothing is to be done");
}

/// Waits until a check of the account `default` has this status and says this, with this hint.
fn wait_for_alarm(shop: &Shop, db: &mut Client, name: &str, status: &str, value: &str, hint: &str) {
    shop.eventually(&format!("{name} is {status}: {value}; {hint}"), PATIENCE, || {
        let check = check(db, name, "default");
        check.status == status
            && check.value.contains(value)
            && check.hint.is_some_and(|given| given.contains(hint))
    });
}

#[test]
fn without_the_library_health_says_so_itself() {
    let cluster = Cluster::builder().preload(false).start();
    cluster.create_database("shop");
    let mut db = cluster.connect("shop");
    sql(&mut db, "CREATE EXTENSION klaviyo_sync; SELECT klaviyo_set_account(private_key => 'pk_1')");
    for (name, hint) in
        [("preload", "shared_preload_libraries"), ("launcher", "log"), ("worker", "max_worker_processes")]
    {
        let check = check(&mut db, name, "default");
        assert_eq!(check.status, "critical", "{check:?}");
        assert!(check.hint.as_ref().is_some_and(|given| given.contains(hint)), "{check:?}");
    }
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.lane"), 0);
    // The rest is told all the same.
    assert_eq!(check(&mut db, "arming", "default").value, "never armed");
    assert_eq!(check(&mut db, "backlog", "default").status, "ok");
}

/// Postgres' own launcher of logical replication takes one place, ours and the worker want one each.
#[test]
fn a_server_without_a_place_for_them_says_what_is_missing() {
    let mut shop = shop().setting("max_worker_processes", 1).start();
    let mut db = shop.connect();
    wait_for_alarm(&shop, &mut db, "launcher", "critical", "not running", "log");
    wait_for_alarm(&shop, &mut db, "worker", "critical", "not running", "max_worker_processes");
    shop.cluster.set("max_worker_processes", 2);
    shop.cluster.restart(Stop::Fast);
    let mut db = shop.connect();
    wait_for_ok(&shop, &mut db, "launcher", "running");
    wait_for_alarm(&shop, &mut db, "worker", "critical", "not running", "max_worker_processes");
}

#[test]
fn where_all_is_well_every_check_is_ok() {
    let shop = shop().start();
    let mut db = shop.connect();
    wait_for_ok(&shop, &mut db, "last_success", "none since");
    wait_for_ok(&shop, &mut db, "last_error", "none since");
    wait_for_ok(&shop, &mut db, "key", "not used");
    let id = place(&mut db, 1);
    shop.wait_for_status(&id, "accepted");
    let mut last = Vec::new();
    shop.eventually("all is ok", PATIENCE, || {
        last = health(&mut db);
        last.iter().all(|check| check.status == "ok" && check.hint.is_none())
    });
    let mut names: Vec<&str> = last.iter().map(|check| check.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "arming",
            "backlog",
            "backlog_age",
            "backlog_size",
            "dead_letters",
            "deletions",
            "enabled",
            "homeless",
            "import_jobs",
            "key",
            "lane events",
            "last_error",
            "last_success",
            "launcher",
            "paused",
            "preload",
            "revision",
            "version",
            "worker",
            "xmin",
        ]
    );
    let year = query::<String>(&mut db, "SELECT to_char(now(), 'YYYY-')", &[]);
    assert!(check(&mut db, "last_success", "default").value.contains(&year));
    wait_for_ok(&shop, &mut db, "key", "accepted, last at");
}

/// As long as Klaviyo has not ended a job nothing else is sent about its people: who asks why is told.
#[test]
fn a_job_that_takes_long_is_told_of() {
    let shop = shop().setting("klaviyo.backlog_age", "1s").start();
    let mut db = shop.connect();
    let bulk = |queued_ms| Bulk { queued_ms: Some(queued_ms), processing_ms: Some(0), ..Bulk::default() };
    shop.sandbox.set_bulk(&bulk(3_600_000));
    sql(
        &mut db,
        "CREATE TABLE queued AS
         SELECT klaviyo_upsert_profile(external_id => n::text, title => 'Ms') AS id FROM generate_series(1, 2000) AS n",
    );
    wait_for_alarm(
        &shop,
        &mut db,
        "import_jobs",
        "warning",
        "under way, the first since",
        "klaviyo.bulk_job",
    );
    let told = "SELECT count(*)
                FROM klaviyo.bulk_job AS j
                JOIN klaviyo.outbox AS o ON o.seq = j.seqs[1]
                WHERE klaviyo_result(o.message_id)::text LIKE '%as job ' || j.klaviyo_id || ': see klaviyo.bulk_job.%'";
    assert!(count(&mut db, told) > 0, "so is who asks for one of its messages");
    shop.sandbox.set_bulk(&bulk(0));
    wait_for_ok(&shop, &mut db, "import_jobs", "none under way");
    shop.drain_soon();
    assert_eq!(count(&mut db, "SELECT count(*) FROM queued WHERE (klaviyo_result(id)).hint IS NOT NULL"), 0);
}

/// A person's data that nothing purges is not forgotten.
#[test]
fn a_purge_that_cannot_begin_is_told_of() {
    let shop = shop().start();
    let (mut db, mut other) = (shop.connect(), shop.connect());
    sql(&mut db, "SELECT klaviyo_pause_account()");
    let request = queued(&mut db, "klaviyo_request_deletion('ada@shop.example')");
    sql(&mut other, "BEGIN; SELECT FROM klaviyo.deletion FOR UPDATE");
    sql(&mut db, "SELECT klaviyo_resume_account()");
    shop.wait_for_status(&request, "accepted");
    let told = check(&mut db, "deletions", "default");
    assert!(told.status == "ok" && told.value.contains("1 to be purged"), "{}", told.value);
    sql(&mut db, "UPDATE klaviyo.accepted_deletion SET accepted_at = now() - interval '2 days'");
    wait_for_alarm(&shop, &mut db, "deletions", "warning", "1 to be purged", "pg_prepared_xacts");
    sql(&mut other, "ROLLBACK");
    wait_for_ok(&shop, &mut db, "deletions", "none to be purged");
}

#[test]
fn what_somebody_has_set_is_told_until_it_is_undone() {
    let shop = shop().start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);

    shop.cluster.set("klaviyo.enabled", "off");
    wait_for_alarm(&shop, &mut db, "enabled", "warning", "off", "klaviyo.enabled = on");
    shop.cluster.set("klaviyo.enabled", "on");
    wait_for_ok(&shop, &mut db, "enabled", "on");

    sql(&mut db, "SELECT klaviyo_pause_account(reason => 'stock-taking')");
    wait_for_alarm(&shop, &mut db, "paused", "warning", "stock-taking", "klaviyo_resume_account('default')");
    // Who paused it knows that the worker does not send: that is no trouble with the key.
    wait_for_ok(&shop, &mut db, "key", "not used");
    sql(&mut db, "SELECT klaviyo_resume_account()");
    wait_for_ok(&shop, &mut db, "paused", "no");

    let revision: String = query(&mut db, "SELECT revision FROM klaviyo.account", &[]);
    sql(&mut db, "SELECT klaviyo_set_account(revision => '2024-01-15')");
    wait_for_alarm(&shop, &mut db, "revision", "critical", "2024-01-15", "klaviyo_set_account(revision");
    let late: String = query(&mut db, "SELECT (current_date - interval '19 months')::date::text", &[]);
    sql(&mut db, &format!("SELECT klaviyo_set_account(revision => '{late}')"));
    wait_for_alarm(&shop, &mut db, "revision", "warning", &late, "klaviyo_set_account(revision");
    sql(&mut db, &format!("SELECT klaviyo_set_account(revision => '{revision}')"));
    wait_for_ok(&shop, &mut db, "revision", &revision);

    sql(&mut db, "SELECT klaviyo_set_account('second', private_key => 'pk_of_the_second')");
    let arming = check(&mut db, "arming", "second");
    assert_eq!((arming.status.as_str(), arming.value.as_str()), ("critical", "never armed"));
    assert!(arming.hint.is_some_and(|hint| hint.contains("klaviyo_arm_account('second')")));
    sql(&mut db, "SELECT klaviyo_arm_account('second')");
    assert_eq!(check(&mut db, "arming", "second").status, "ok");
    wait_for_ok(&shop, &mut db, "arming", "armed");
}

#[test]
fn what_klaviyo_refuses_and_its_absence_are_told() {
    let shop = shop().start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::status(401)]);
    place(&mut db, 1);
    wait_for_alarm(&shop, &mut db, "key", "critical", "not accepted", "private key");
    wait_for_alarm(&shop, &mut db, "last_error", "warning", "HTTP status 401", "klaviyo.retry.last_error");
    shop.sandbox.clear_faults();
    wait_for_ok(&shop, &mut db, "key", "accepted, last at");
    // What was is still told, and is no trouble any more.
    wait_for_ok(&shop, &mut db, "last_error", "HTTP status 401");

    shop.sandbox.down();
    eventually("it is down", PATIENCE, || !shop.sandbox.is_up());
    place_orders(&mut db, 2, 60);
    wait_for_alarm(&shop, &mut db, "lane events", "critical", "breaker open", "probed by itself");
    wait_for_alarm(&shop, &mut db, "last_error", "warning", "no answer", "Nothing has succeeded since");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.lane WHERE state = 'breaker open'"), 1);
    // A lane without messages has no trouble.
    assert_eq!(
        count(&mut db, "SELECT count(*) FROM klaviyo.lane WHERE lane = 'profile-import' AND state = 'idle'"),
        1
    );
    shop.sandbox.up();
    assert_eq!(shop.drain_soon().dead, 0);
    wait_for_ok(&shop, &mut db, "lane events", "idle");
    wait_for_ok(&shop, &mut db, "last_error", "no answer");
}

#[test]
fn a_backlog_is_told_and_logged_once_when_it_begins_and_ends() {
    let shop = shop().setting("klaviyo.backlog_age", "1s").start();
    let mut db = shop.connect();
    // A worker that only begins may have found the account as it was before the pause.
    place(&mut db, 0);
    shop.drain_soon();
    let logged = |text: &str| shop.cluster.log().matches(text).count();
    let (begins, ends) =
        ("WARNING:  klaviyo_sync: backlog_age:", "klaviyo_sync: backlog_age is as it should be again");
    sql(&mut db, "SELECT klaviyo_pause_account()");
    place(&mut db, 1);
    // From ten times the age on, and it only grows.
    wait_for_alarm(&shop, &mut db, "backlog_age", "critical", "00:", "klaviyo.backlog_age");
    let backlog = check(&mut db, "backlog", "default");
    assert_eq!((backlog.status.as_str(), backlog.value.as_str()), ("ok", "1 messages, 0 to be tried again"));
    shop.eventually("the beginning is logged", PATIENCE, || logged(begins) == 1);
    shop.cluster.set("klaviyo.backlog_age", "1h");
    wait_for_ok(&shop, &mut db, "backlog_age", "00:");
    shop.eventually("the end is logged", PATIENCE, || logged(ends) == 1);
    // Between once and ten times the age, however slow this machine is.
    sql(&mut db, "UPDATE klaviyo.outbox SET enqueued_at = now() - interval '2 hours'");
    wait_for_alarm(&shop, &mut db, "backlog_age", "warning", "02:0", "klaviyo.backlog_age");
    shop.eventually("it is logged again", PATIENCE, || logged(begins) == 2);
    sql(&mut db, "SELECT klaviyo_resume_account()");
    assert_eq!(shop.drain_soon().dead, 0);
    wait_for_ok(&shop, &mut db, "backlog_age", "nothing waits");
    shop.eventually("the end is logged again", PATIENCE, || logged(ends) == 2);
    thread::sleep(POLL * 10);
    assert_eq!((logged(begins), logged(ends)), (2, 2), "each was logged once");
}

#[test]
fn messages_without_a_home_are_told() {
    let shop = shop().start();
    let mut db = shop.connect();
    // Queueing for nobody is refused: somebody has to have removed the account by hand.
    sql(
        &mut db,
        "SELECT klaviyo_set_account('elsewhere', private_key => 'pk_1'),
                klaviyo_track_event('A', external_id => '1', account => 'elsewhere')",
    );
    wait_for_ok(&shop, &mut db, "homeless", "none");
    sql(&mut db, "DELETE FROM klaviyo.account WHERE name = 'elsewhere'");
    wait_for_alarm(&shop, &mut db, "homeless", "critical", "elsewhere", "klaviyo_remove_account");
    sql(
        &mut db,
        &format!(
            "SELECT klaviyo_set_account('elsewhere', private_key => 'pk_1', base_url => '{}', rate_share => 1e6),
                    klaviyo_arm_account('elsewhere')",
            shop.sandbox.api()
        ),
    );
    wait_for_ok(&shop, &mut db, "homeless", "none");
    assert_eq!(shop.drain_soon().dead, 0);
}

#[test]
fn dead_letters_are_told_until_somebody_has_seen_them() {
    let shop = shop().start();
    let mut db = shop.connect();
    wait_for_ok(&shop, &mut db, "dead_letters", "0, 0 of them new");
    shop.sandbox.set_faults(&[Fault::status(400)]);
    place_orders(&mut db, 1, 2);
    wait_for_alarm(&shop, &mut db, "dead_letters", "warning", "2, 2 of them new", "klaviyo_acknowledge()");
    sql(&mut db, "SELECT klaviyo_acknowledge()");
    wait_for_ok(&shop, &mut db, "dead_letters", "2, 0 of them new");
    place(&mut db, 3);
    wait_for_alarm(&shop, &mut db, "dead_letters", "warning", "3, 1 of them new", "klaviyo_redrive()");
    sql(&mut db, "SELECT klaviyo_acknowledge()");
    wait_for_ok(&shop, &mut db, "dead_letters", "3, 0 of them new");
}

#[test]
fn a_transaction_that_holds_vacuum_back_is_named() {
    let shop = shop().start();
    let (mut db, mut other) = (shop.connect(), shop.connect());
    wait_for_ok(&shop, &mut db, "xmin", "not held back");
    let pid: i32 = query(&mut other, "SELECT pg_backend_pid()", &[]);
    sql(&mut other, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    // For an hour that is nobody's fault.
    wait_for_ok(&shop, &mut db, "xmin", &format!("by pid {pid}"));
    sql(&mut other, "COMMIT");
    wait_for_ok(&shop, &mut db, "xmin", "not held back");
    sql(
        &mut other,
        "BEGIN; SELECT klaviyo_track_event('A', external_id => '1'); PREPARE TRANSACTION 'forgotten'",
    );
    wait_for_ok(&shop, &mut db, "xmin", "prepared transaction 'forgotten'");
    sql(&mut other, "ROLLBACK PREPARED 'forgotten'");
    wait_for_ok(&shop, &mut db, "xmin", "not held back");
}

#[test]
fn a_slot_that_a_standby_has_left_behind_is_named() {
    let shop = shop().start();
    let mut db = shop.connect();
    sql(&mut db, "SELECT pg_create_physical_replication_slot('left_behind')");
    let standby = Cluster::builder()
        .standby_of(&shop.cluster)
        .setting("primary_slot_name", "left_behind")
        .setting("hot_standby_feedback", "on")
        .start();
    let mut reader = standby.connect("shop");
    sql(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    wait_for_ok(&shop, &mut db, "xmin", "transactions by active replication slot 'left_behind'");
    drop(standby);
    wait_for_alarm(
        &shop,
        &mut db,
        "xmin",
        "warning",
        "inactive replication slot 'left_behind'",
        "drop that slot",
    );
    sql(&mut db, "SELECT pg_drop_replication_slot('left_behind')");
    wait_for_ok(&shop, &mut db, "xmin", "not held back");
}
