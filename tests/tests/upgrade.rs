//! pg_upgrade to the Postgres under test, from an older one whose pg_config `KLAVIYO_UPGRADE_FROM` names.

use std::borrow::Cow;
use std::process::Command;

use harness::{
    Backlog, Cluster, PATIENCE, PgBin, ServerUser, Shop, Stop, count, eventually, place_orders, sql,
    wait_for_worker,
};

const FROM: &str = "KLAVIYO_UPGRADE_FROM";

const ORDERS: i64 = 100;

fn pg_upgrade(old: &Cluster, new: &Cluster) -> Command {
    let mut command = new.bin().command("pg_upgrade");
    command
        .arg("--old-bindir")
        .arg(old.bin().bin_dir())
        .arg("--new-bindir")
        .arg(new.bin().bin_dir())
        .arg("--old-datadir")
        .arg(old.data_directory())
        .arg("--new-datadir")
        .arg(new.data_directory())
        .arg("--socketdir")
        .arg(new.directory())
        .args(["--old-port", &old.port().to_string(), "--new-port", &new.port().to_string()])
        .args(["--username", "postgres", "--no-sync"])
        // It leaves files where it is run.
        .current_dir(new.directory());
    command
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// What pg_upgrade has written to its logs, which it keeps when it fails.
fn logs(new: &Cluster) -> String {
    let output = Command::new("find")
        .arg(new.data_directory().join("pg_upgrade_output.d"))
        .args(["-name", "*.log", "-exec", "tail", "-n", "20", "-v", "{}", "+"])
        .output();
    lossy(&output.expect("find can be run").stdout).into_owned()
}

#[test]
fn what_waits_is_delivered_by_the_new_major_once_it_is_armed() {
    let Ok(from) = std::env::var(FROM) else {
        eprintln!("SKIPPED: {FROM} names no pg_config of an older Postgres");
        return;
    };
    let (from, to) = (PgBin::new(&from), PgBin::from_env());
    if from.major() >= to.major() {
        eprintln!(
            "SKIPPED: {FROM} names a PostgreSQL {}, which is no older than {}",
            from.major(),
            to.major()
        );
        return;
    }
    let mut shop = Shop::builder()
        .cluster(|cluster| cluster.bin(from).own_identity())
        .setting("klaviyo.poll_interval", "200ms")
        .setting("klaviyo.retry_max_delay", "1s")
        .start();
    shop.sandbox.down();
    sql(
        &mut shop.connect(),
        "CREATE TABLE visits (who text);
         SELECT klaviyo_sync_events('visits', 'Visited', external_id => 'who')",
    );
    place_orders(&mut shop.connect(), 1, ORDERS);
    shop.eventually("some are tried in vain", PATIENCE, || shop.backlog().retry > 0);
    shop.cluster.stop(Stop::Fast);
    shop.sandbox.up();
    let before = shop.sandbox.receipts().len();

    let mut new = Cluster::builder()
        .own_identity()
        .setting("klaviyo.poll_interval", "200ms")
        .setting("klaviyo.retry_max_delay", "1s")
        .make();
    let output = ServerUser::current().run(&mut pg_upgrade(&shop.cluster, &new)).output();
    let output = output.expect("pg_upgrade can be run");
    assert!(output.status.success(), "pg_upgrade failed:\n{}{}", lossy(&output.stdout), logs(&new));
    assert_eq!(shop.sandbox.receipts().len(), before, "nothing is sent while pg_upgrade is at work");

    new.start();
    let mut db = new.connect("shop");
    wait_for_worker(&mut db);
    let stopped = "SELECT count(*) FROM klaviyo.account_status
                   WHERE stopped_reason LIKE '%SELECT klaviyo_arm_account(''default'')%'";
    eventually("it says that it waits to be armed", PATIENCE, || count(&mut db, stopped) == 1);
    assert!(new.log().contains("nothing is sent for account \"default\""));
    place_orders(&mut db, ORDERS + 1, ORDERS + 10);
    // A copy captures nothing before that, but this is none.
    sql(&mut db, "INSERT INTO visits VALUES ('v')");
    assert_eq!(Backlog::read(&mut db).waiting(), ORDERS + 11);
    assert_eq!(shop.sandbox.receipts().len(), before, "nothing is sent before it is armed");
    sql(&mut db, "SELECT klaviyo_arm_account()");
    eventually("what waited is delivered", PATIENCE, || Backlog::read(&mut db).waiting() == 0);
    shop.assert_arrived(1, ORDERS + 10);
}
