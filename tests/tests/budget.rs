//! Several databases of a cluster spend one account's budget. Nothing is scaled down here: a share below 1 is a
//! database's own, and leaves it to whoever sets it what the shares come to together. The calls are those of profiles,
//! of which Klaviyo allows few enough to spend a minute's budget in a test.

use std::thread;
use std::time::{Duration, Instant};

use harness::{PATIENCE, Receipt, Shop, Stop, count, query, sql, wait_for_worker, workers};
use postgres::Client;

/// What Klaviyo allows: 75 profiles a second and 750 a minute.
const A_MINUTE: usize = 750;

/// Few, for a fresh worker takes so many calls for granted.
const IN_FLIGHT: usize = 10;

/// The databases. Both have the same key.
const ONE: &str = "shop";
const OTHER: &str = "other";

/// Profiles of a database are told apart from those of another by their name.
const NAME: &str = "data.attributes.external_id";

const WAITING: &str = "SELECT count(*) FROM klaviyo.outbox";

fn shop_with_two_databases() -> (Shop, [Client; 2]) {
    let seed = fastrand::u32(..).to_string();
    println!("seed of the sandbox: {seed}");
    let shop = Shop::builder()
        .rate_share(1.0)
        .single_calls()
        .sandbox(["--seed", &seed])
        .setting("klaviyo.max_in_flight", IN_FLIGHT);
    let mut shop = shop.start();
    shop.add_database(OTHER);
    let databases = [ONE, OTHER].map(|name| {
        let mut db = shop.cluster.connect(name);
        wait_for_worker(&mut db);
        db
    });
    (shop, databases)
}

/// Queues so many profiles, each to be written by a call of its own.
fn queue_profiles(db: &mut Client, profiles: i64) {
    let queued: i64 = query(
        db,
        "SELECT count(klaviyo_upsert_profile(external_id => current_database() || '-' || n))
         FROM generate_series(1, $1::bigint) AS n",
        &[&profiles],
    );
    assert_eq!(queued, profiles, "profiles are queued");
}

fn is_of(receipt: &Receipt, database: &str) -> bool {
    let name = receipt.at(NAME).and_then(|name| name.as_str()).expect("every call names its profile");
    name.starts_with(&format!("{database}-"))
}

fn calls_of(receipts: &[Receipt], database: &str) -> usize {
    receipts.iter().filter(|receipt| is_of(receipt, database)).count()
}

/// How many calls came in the minute in which most of them came.
fn busiest_minute(receipts: &[Receipt]) -> usize {
    let within_a_minute = |first: &Receipt| {
        let end = first.at_us + 60_000_000;
        receipts.iter().filter(|receipt| (first.at_us..end).contains(&receipt.at_us)).count()
    };
    receipts.iter().map(within_a_minute).max().unwrap_or_default()
}

#[test]
fn one_account_used_from_two_databases_of_the_cluster_without_overspending_its_budget() {
    let (shop, mut databases) = shop_with_two_databases();
    for db in &mut databases {
        // Either could spend the budget of more than two minutes.
        queue_profiles(db, 2 * 900);
    }
    let began = Instant::now();
    // The end of the first minute is where a limit is most easily overstepped.
    shop.eventually("more than a minute's budget is spent", PATIENCE * 3, || {
        thread::sleep(Duration::from_secs(1));
        let stats = shop.sandbox.stats();
        assert_eq!(stats.throttled, 0, "a 429 after {:?}", began.elapsed());
        stats.requests > (A_MINUTE + A_MINUTE / 4) as u64
    });
    let receipts = shop.sandbox.receipts();
    let parts = [ONE, OTHER].map(|database| calls_of(&receipts, database));
    let most = busiest_minute(&receipts);
    println!("after {:?}: {parts:?} calls, {most} of them in a minute", began.elapsed());
    assert_eq!(parts.iter().sum::<usize>(), receipts.len());
    assert!(most > A_MINUTE * 6 / 10, "most of the budget lies idle: {most} calls in the busiest minute");
    for (database, part) in [ONE, OTHER].into_iter().zip(parts) {
        assert!(part * 4 >= receipts.len(), "{database} had {part} of {} calls", receipts.len());
    }
    for (database, db) in [ONE, OTHER].into_iter().zip(&mut databases) {
        assert!(count(db, WAITING) > 0, "{database} had nothing to ask for any more");
    }
}

/// What one database does not want, the other may have, but only until it does.
#[test]
fn who_is_alone_has_the_whole_budget_and_gives_way_to_who_comes() {
    const CLEARLY_MORE_THAN_HALF: usize = A_MINUTE * 6 / 10;
    let (shop, [mut one, mut other]) = shop_with_two_databases();
    queue_profiles(&mut one, 3 * 900);
    shop.eventually("one database alone spends more than half of a minute's budget", PATIENCE, || {
        busiest_minute(&shop.sandbox.receipts()) > CLEARLY_MORE_THAN_HALF
    });
    let before = shop.sandbox.receipts();
    assert_eq!(calls_of(&before, OTHER), 0);
    let came = Instant::now();
    queue_profiles(&mut other, 1);
    let mut receipts = Vec::new();
    // At the latest when the first one's oldest calls are a minute ago.
    shop.eventually("the other's profile gets through", PATIENCE, || {
        receipts = shop.sandbox.receipts();
        receipts.iter().any(|receipt| is_of(receipt, OTHER) && receipt.accepted)
    });
    let meanwhile = receipts[before.len()..].iter().take_while(|receipt| is_of(receipt, ONE)).count();
    println!("the other's turn came after {:?} and {meanwhile} calls of the one", came.elapsed());
    assert!(meanwhile < A_MINUTE / 2, "the one made {meanwhile} calls while the other waited for its first");
    assert!(count(&mut one, WAITING) > 0, "the one had nothing to ask for any more");
    assert_eq!(shop.sandbox.stats().throttled, 0);
}

fn wait_for_calls(shop: &Shop, expected: usize) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    shop.eventually(&format!("{expected} calls"), PATIENCE * 2, || {
        thread::sleep(Duration::from_millis(100));
        receipts = shop.sandbox.receipts();
        let refused = receipts.iter().filter(|receipt| receipt.status == Some(429)).count();
        assert_eq!(refused, 0, "a 429 among {} calls", receipts.len());
        receipts.len() >= expected
    });
    receipts
}

/// What a worker knew dies with it, and what all of them knew dies with the server: what was spent counts all the same.
#[test]
fn no_end_of_a_worker_or_of_the_server_overspends_it() {
    let (mut shop, mut databases) = shop_with_two_databases();
    for db in &mut databases {
        queue_profiles(db, 2 * 900);
    }
    wait_for_calls(&shop, A_MINUTE / 3);
    let [_, other] = &mut databases;
    let worker = wait_for_worker(other);
    assert!(query::<bool>(other, "SELECT pg_terminate_backend($1)", &[&worker]));
    shop.eventually("another worker", PATIENCE, || {
        workers(other).iter().any(|worker_now| worker_now.database == OTHER && worker_now.pid != worker)
    });
    wait_for_calls(&shop, A_MINUTE * 9 / 10);
    shop.cluster.restart(Stop::Fast);
    // And once more in the minute after.
    wait_for_calls(&shop, A_MINUTE * 3 / 2);
    shop.cluster.restart(Stop::Immediate);
    wait_for_calls(&shop, A_MINUTE * 17 / 10);
}

/// After a start of the server nobody knows what the others have spent, until they say it themselves.
#[test]
fn who_starts_first_waits_until_the_other_says_what_it_has_spent() {
    let (mut shop, mut databases) = shop_with_two_databases();
    for db in &mut databases {
        queue_profiles(db, 2 * 900);
    }
    wait_for_calls(&shop, A_MINUTE / 2);
    // The other's worker cannot read its accounts. That outlives the server.
    let [_, other] = &mut databases;
    sql(
        other,
        "BEGIN; LOCK TABLE klaviyo.account IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'in_the_way'",
    );
    shop.cluster.restart(Stop::Immediate);
    let before = shop.sandbox.receipts().len();
    let mut other = shop.cluster.connect(OTHER);
    wait_for_worker(&mut shop.connect());
    thread::sleep(Duration::from_secs(3));
    assert_eq!(shop.sandbox.receipts().len(), before, "calls of which nobody knows whether they may be made");
    sql(&mut other, "ROLLBACK PREPARED 'in_the_way'");
    let receipts = wait_for_calls(&shop, A_MINUTE * 11 / 10);
    assert!(calls_of(&receipts[before..], ONE) > 0 && calls_of(&receipts[before..], OTHER) > 0);
}

/// A database is dropped: it wants nothing more, and what it has not spent of the minute is there for the other.
#[test]
fn who_is_gone_leaves_its_part() {
    let (shop, [mut one, mut other]) = shop_with_two_databases();
    for db in [&mut one, &mut other] {
        queue_profiles(db, 2 * 900);
    }
    wait_for_calls(&shop, A_MINUTE / 10);
    drop(other);
    sql(&mut shop.cluster.connect("postgres"), &format!("DROP DATABASE {OTHER} WITH (FORCE)"));
    let before = shop.sandbox.receipts().len();
    let receipts = wait_for_calls(&shop, A_MINUTE * 9 / 10);
    assert_eq!(calls_of(&receipts[before..], OTHER), 0);
    let most = busiest_minute(&receipts);
    println!("{before} calls before it went, {most} in the busiest minute");
    assert!(
        most >= A_MINUTE * 9 / 10,
        "what the other left was not spent: {most} calls in the busiest minute"
    );
}
