//! Several accounts in one database, and what becomes of one that is paused, removed, or gets another key.

use std::fs;
use std::thread;
use std::time::Duration;

use harness::{
    ClusterBuilder, Fault, Ledger, ORDER, PATIENCE, Receipt, SANDBOX_KEY, ServerUser, Shop, ShopBuilder,
    count, hint, place, place_orders, place_orders_of, query, refused, signed_with, sql, status,
    stopped_reason, under_way, wait_for_worker,
};
use postgres::Client;

/// A second key that the sandbox takes.
const OTHER_KEY: &str = "pk_other_76543210";

/// How long to watch that nothing comes.
const A_WHILE: Duration = Duration::from_secs(2);

/// A shop whose sandbox takes two keys and no other.
fn two_keys() -> ShopBuilder {
    Shop::builder().sandbox(["--key", SANDBOX_KEY, "--key", OTHER_KEY])
}

fn waiting(db: &mut Client, account: &str) -> i64 {
    query(db, "SELECT klaviyo.count_waiting($1)", &[&account])
}

/// Panics unless these orders, and no others, were sent, each once.
fn assert_sent_once(receipts: &[&Receipt], orders: impl IntoIterator<Item = i64>) {
    let ledger = Ledger::new(receipts.iter().copied(), ORDER);
    ledger.assert_accepted_exactly(orders);
    assert_eq!(ledger.resends(), 0);
}

#[test]
fn accounts_of_one_database_do_not_disturb_each_other() {
    const WRONG_KEY: &str = "pk_nobody_s_key_0000";
    let shop = two_keys().start();
    let mut db = shop.connect();
    shop.add_account(&mut db, "other", OTHER_KEY);
    shop.add_account(&mut db, "paused", OTHER_KEY);
    shop.add_account(&mut db, "refused", WRONG_KEY);
    sql(&mut db, "SELECT klaviyo_pause_account('paused')");
    let accounts = ["default", "other", "paused", "refused"];
    // Twice: before anything is known of the refusal, and afterwards.
    for round in [0, 1_000] {
        for (account, first) in accounts.into_iter().zip([1, 101, 201, 301]) {
            place_orders_of(account, &mut db, round + first, round + first + 49);
        }
        shop.eventually("the accounts that may send have sent", PATIENCE, || {
            waiting(&mut db, "default") + waiting(&mut db, "other") == 0
        });
        shop.eventually("the refused one is stopped", PATIENCE, || {
            stopped_reason(&mut db, "refused").is_some()
        });
    }
    let orders = |first: i64| (first..first + 50).chain(1_000 + first..1_000 + first + 50);
    let receipts = shop.sandbox.receipts();
    assert_sent_once(&signed_with(&receipts, SANDBOX_KEY), orders(1));
    assert_sent_once(&signed_with(&receipts, OTHER_KEY), orders(101));
    let wrong = signed_with(&receipts, WRONG_KEY);
    assert!(!wrong.is_empty() && wrong.iter().all(|receipt| receipt.status == Some(401)));
    assert_eq!(["paused", "refused"].map(|account| waiting(&mut db, account)), [100, 100]);
    // What held each up ends, and holds up nobody else's messages then either.
    sql(&mut db, "SELECT klaviyo_resume_account('paused')");
    shop.add_account(&mut db, "refused", SANDBOX_KEY);
    assert_eq!(shop.drain_soon().dead, 0);
    let receipts = shop.sandbox.receipts();
    assert_sent_once(&signed_with(&receipts, SANDBOX_KEY), orders(1).chain(orders(301)));
    assert_sent_once(&signed_with(&receipts, OTHER_KEY), orders(101).chain(orders(201)));
}

#[test]
fn nothing_leaves_a_paused_account_and_calls_under_way_end() {
    const IN_FLIGHT: usize = 4;
    let shop = Shop::builder().setting("klaviyo.max_in_flight", IN_FLIGHT).start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::latency(Duration::from_secs(5))]);
    place_orders(&mut db, 1, 20);
    shop.eventually("calls are under way", PATIENCE, || shop.sandbox.receipts().len() >= IN_FLIGHT);
    sql(&mut db, "SELECT klaviyo_pause_account(reason => 'stocktaking')");
    let late = place(&mut db, 21);
    shop.eventually("the hint says so", PATIENCE, || {
        hint(&mut db, &late).is_some_and(|hint| {
            hint.contains("paused (stocktaking)") && hint.contains("klaviyo_resume_account('default')")
        })
    });
    assert_eq!(status(&mut db, &late), "waiting");
    // What has left has an answer, good and on record, and for the others it stays at that.
    let delivered = "SELECT count(*) FROM klaviyo.delivery WHERE http_status = 202";
    shop.eventually("calls under way end and are recorded", PATIENCE, || {
        let receipts = shop.sandbox.receipts();
        receipts.iter().all(|receipt| receipt.status == Some(202))
            && count(&mut db, delivered) == i64::try_from(receipts.len()).expect("a small number")
    });
    shop.sandbox.clear_faults();
    let sent = shop.sandbox.receipts().len();
    assert!(sent < 20, "all was sent before the pause");
    place_orders(&mut db, 22, 40);
    thread::sleep(A_WHILE);
    assert_eq!(shop.sandbox.receipts().len(), sent, "nothing leaves");
    assert_eq!(shop.backlog().waiting(), 40 - i64::try_from(sent).expect("a small number"));
    sql(&mut db, "SELECT klaviyo_resume_account()");
    assert_eq!(shop.drain_soon().dead, 0);
    assert_eq!(status(&mut db, &late), "accepted");
    assert_sent_once(&shop.sandbox.receipts().iter().collect::<Vec<_>>(), 1..=40);
}

/// The orders of account `old`, all of them in the worker's memory: two are being sent, and never get there.
const OLD: std::ops::RangeInclusive<i64> = 1..=200;

fn shop_with_an_account_that_hangs() -> (Shop, Client) {
    let shop = two_keys().setting("klaviyo.max_in_flight", 2).start();
    let mut db = shop.connect();
    shop.add_account(&mut db, "old", SANDBOX_KEY);
    // The answer never comes; in a while the connection ends.
    shop.sandbox.set_faults(&[Fault::hang().lasting(Duration::from_secs(15))]);
    place_orders_of("old", &mut db, *OLD.start(), *OLD.end());
    shop.eventually("calls hang", PATIENCE, || shop.sandbox.receipts().len() == 2);
    (shop, db)
}

fn wait_until_buried(shop: &Shop, db: &mut Client) {
    let dead = "SELECT count(*) FROM klaviyo.dead_letter WHERE account = 'old' AND code = 'account_removed'";
    shop.eventually("what waited is put aside", PATIENCE, || count(db, dead) == *OLD.end());
    // What is sent next has to wait until those that hang have ended, for they are as many as may be under way.
    shop.sandbox.clear_faults();
}

#[test]
fn an_account_is_removed_only_with_what_waits_for_it_and_that_is_never_sent_unasked() {
    let (shop, mut db) = shop_with_an_account_that_hangs();
    assert_eq!(refused(&mut db, "SELECT klaviyo_remove_account('old')"), "KS027");
    let buried: i64 = query(&mut db, "SELECT klaviyo_remove_account('old', bury_waiting => true)", &[]);
    assert_eq!(buried, *OLD.end());
    wait_until_buried(&shop, &mut db);
    place_orders(&mut db, 1_001, 1_020);
    shop.eventually("others are still served", PATIENCE, || waiting(&mut db, "default") == 0);
    shop.add_account(&mut db, "old", OTHER_KEY);
    place_orders_of("old", &mut db, 2_001, 2_020);
    shop.drain_soon();
    thread::sleep(A_WHILE);
    let receipts = shop.sandbox.receipts();
    let sent = Ledger::new(&receipts, ORDER);
    sent.assert_accepted_exactly((1_001..=1_020).chain(2_001..=2_020));
    assert_eq!(OLD.map(|order| sent.sends(&order.to_string())).sum::<usize>(), 2, "those that hung");
    redrive(&shop, &mut db);
}

/// Another account of its name is no reason to send what waited for the first, not even in the same moment.
#[test]
fn an_account_removed_and_added_with_another_key_in_one_transaction_sends_nothing_of_the_first() {
    let (shop, mut db) = shop_with_an_account_that_hangs();
    let mut transaction = db.transaction().expect("a transaction");
    sql(&mut transaction, "SELECT klaviyo_remove_account('old', bury_waiting => true)");
    shop.add_account(&mut transaction, "old", OTHER_KEY);
    sql(
        &mut transaction,
        "SELECT klaviyo_track_event('Placed Order', external_id => n::text, account => 'old',
                                    properties => jsonb_build_object('order_id', n))
         FROM generate_series(2001, 2020) AS n",
    );
    transaction.commit().expect("committed");
    wait_until_buried(&shop, &mut db);
    shop.drain_soon();
    thread::sleep(A_WHILE);
    let receipts = shop.sandbox.receipts();
    Ledger::new(&receipts, ORDER).assert_accepted_exactly(2_001..=2_020);
    assert_eq!(signed_with(&receipts, SANDBOX_KEY).len(), 2, "those that hung");
    let with_its_own_key = Ledger::new(signed_with(&receipts, OTHER_KEY), ORDER);
    assert_eq!(OLD.map(|order| with_its_own_key.sends(&order.to_string())).sum::<usize>(), 0);
    redrive(&shop, &mut db);
}

/// Asked for, what was put aside is sent with the new account's key: exactly once.
fn redrive(shop: &Shop, db: &mut Client) {
    let before = shop.sandbox.receipts().len();
    let redriven: i64 = query(db, "SELECT klaviyo_redrive(account => 'old')", &[]);
    assert_eq!(redriven, *OLD.end());
    assert_eq!(shop.drain_soon().dead, 0);
    let receipts = shop.sandbox.receipts_after(before as u64);
    assert_eq!(signed_with(&receipts, OTHER_KEY).len(), receipts.len());
    assert_sent_once(&receipts.iter().collect::<Vec<_>>(), OLD);
}

/// Load that runs until the key has changed, and what must be true of it afterwards.
fn rotate(shop: &Shop, change_key: impl FnOnce(&mut Client)) {
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    shop.sandbox.set_faults(&[Fault::latency(Duration::from_millis(30))]);
    place_orders(&mut db, 1, 200);
    shop.eventually("the old key is used", PATIENCE, || shop.sandbox.receipts().len() > 20);
    change_key(&mut db);
    let mut last = 200;
    shop.eventually("the new key is used", PATIENCE, || {
        // So that there is something to send whenever the worker gets to know.
        if shop.backlog().waiting() < 100 {
            place_orders(&mut db, last + 1, last + 100);
            last += 100;
        }
        !signed_with(&shop.sandbox.receipts(), OTHER_KEY).is_empty()
    });
    assert_eq!(shop.drain_soon().dead, 0);
    let receipts = shop.sandbox.receipts();
    let [old, new] = [SANDBOX_KEY, OTHER_KEY].map(|key| signed_with(&receipts, key));
    println!("{} calls with the old key, {} with the new one", old.len(), new.len());
    assert_eq!(shop.sandbox.stats().answered(401), 0);
    assert!(!old.is_empty() && !new.is_empty());
    assert_eq!(old.len() + new.len(), receipts.len());
    assert_sent_once(&receipts.iter().collect::<Vec<_>>(), 1..=last);
    assert_eq!(stopped_reason(&mut db, "default"), None);
}

#[test]
fn a_stored_key_is_changed_without_a_gap() {
    let shop = two_keys().setting("klaviyo.max_in_flight", 8).start();
    rotate(&shop, |db| {
        sql(db, &format!("SELECT klaviyo_set_account(private_key => '{OTHER_KEY}')"));
    });
}

/// Nobody tells the worker: it looks at the file now and then.
#[test]
fn a_key_file_is_replaced_without_a_gap() {
    let shop =
        two_keys().setting("klaviyo.max_in_flight", 8).setting("klaviyo.poll_interval", "200ms").start();
    rotate(&shop, |db| {
        let file: String =
            query(db, "SELECT private_key_file FROM klaviyo.account WHERE name = 'default'", &[]);
        let fresh = format!("{file}.new");
        fs::write(&fresh, OTHER_KEY).expect("the new key can be written");
        ServerUser::current().give(fresh.as_ref());
        fs::rename(&fresh, &file).expect("the key file can be replaced");
    });
}

/// The old key is revoked at Klaviyo as soon as the new one is set. Calls that were under way with it are refused;
/// that says nothing of the new one.
#[test]
fn a_revoked_key_that_is_not_used_any_more_stops_nothing() {
    let shop = Shop::builder()
        .setting("klaviyo.request_timeout", "10min")
        // A stop would then be seen for long.
        .setting("klaviyo.retry_max_delay", "60s")
        .setting("klaviyo.retry_min_delay", "20ms")
        .sandbox(["--key", OTHER_KEY])
        .start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    let frozen = shop.sandbox.freeze();
    place_orders(&mut db, 1, 4);
    shop.eventually("calls with the old key are under way", PATIENCE, || under_way(&mut db, "default") == 4);
    db.execute("SELECT klaviyo_set_account(private_key => $1)", &[&OTHER_KEY])
        .expect("the key can be changed");
    // What is queued after that goes with the new one.
    place_orders(&mut db, 5, 8);
    shop.eventually("and with the new one", PATIENCE, || under_way(&mut db, "default") == 8);
    drop(frozen);
    assert_eq!(shop.drain_soon().dead, 0);
    let receipts = shop.sandbox.receipts();
    let ledger = Ledger::new(&receipts, ORDER);
    ledger.assert_accepted_exactly(1..=8);
    for order in 1..=8 {
        let sends = ledger.of(&order.to_string());
        let statuses: Vec<_> = sends.iter().map(|receipt| receipt.status).collect();
        let expected = if order <= 4 { vec![Some(401), Some(202)] } else { vec![Some(202)] };
        assert_eq!(statuses, expected, "order {order}");
    }
    assert_eq!(stopped_reason(&mut db, "default"), None);
    let log = shop.cluster.log();
    assert!(!log.contains("Klaviyo refuses calls of account"), "no stop was ever noted:\n{log}");
}

#[test]
fn a_key_comes_from_the_servers_environment() {
    const VARIABLE: &str = "KLAVIYO_KEY_OF_A_TEST";
    let shop = two_keys()
        .setting("klaviyo.poll_interval", "200ms")
        .cluster(|cluster: ClusterBuilder| cluster.environment(VARIABLE, OTHER_KEY))
        .start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    sql(&mut db, "SELECT klaviyo_set_account(private_key_env => 'NO_SUCH_VARIABLE')");
    place_orders(&mut db, 1, 10);
    shop.eventually("the missing variable is named", PATIENCE, || {
        stopped_reason(&mut db, "default").is_some_and(|reason| reason.contains("NO_SUCH_VARIABLE"))
    });
    sql(&mut db, &format!("SELECT klaviyo_set_account(private_key_env => '{VARIABLE}')"));
    assert_eq!(shop.drain_soon().dead, 0);
    shop.assert_arrived(1, 10);
    assert_eq!(shop.sandbox.stats().answered(401), 0);
    assert_eq!(signed_with(&shop.sandbox.receipts(), OTHER_KEY).len(), 10);
}
