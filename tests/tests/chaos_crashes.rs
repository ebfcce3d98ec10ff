//! Processes killed with SIGKILL, at chosen points of a message's way and at random ones: nothing is lost, nothing is
//! told to be delivered that is not, and no more is sent again than was under way.
//!
//! Each test of a chosen point shows that the point was reached before it kills. The sandbox's receipts are the judge,
//! under a business key of the payload.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Bulk, Fault, Ledger, ORDER, PATIENCE, Process, RaiseAtTheEnd, Receipt, Shop, Signal, Stop, count,
    explain, kill, place_orders, query, sql, wait_for_crash, wait_for_worker, waits_for_lock,
};
use postgres::{Client, NoTls};

/// Calls that may be under way or not yet recorded: the default of `klaviyo.max_in_flight`. The most that one crash
/// sends again.
const IN_FLIGHT: usize = 64;

/// More than may be under way, so that some wait behind those.
const ORDERS: i64 = 300;

/// What hangs is not to be given up and sent again by itself, however slow the machine.
const FOR_EVER: &str = "10min";

/// Whom SIGKILL hits. The kernel does it when memory runs out; any process of a server may be the one.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Postmaster,
    Worker,
    Backend,
}

const VICTIMS: [Victim; 3] = [Victim::Postmaster, Victim::Worker, Victim::Backend];

/// Makes a process vanish.
fn strike(shop: &mut Shop, victim: Victim) {
    let mut db = shop.connect();
    match victim {
        Victim::Postmaster => return shop.cluster.kill9_postmaster(),
        Victim::Worker => kill(wait_for_worker(&mut db), Signal::SIGKILL),
        Victim::Backend => {
            let mut bystander = shop.connect();
            kill(query(&mut bystander, "SELECT pg_backend_pid()", &[]), Signal::SIGKILL);
        }
    }
    wait_for_crash(&mut db);
}

/// Has the server back. Nothing is told to be delivered by then that Klaviyo has not accepted; returns how many are told.
fn recover(shop: &mut Shop, victim: Victim) -> usize {
    match victim {
        Victim::Postmaster => shop.cluster.start(),
        Victim::Worker | Victim::Backend => shop.cluster.wait_ready(),
    }
    // Read before the receipts, which can only be more by then.
    let told = "SELECT message_id::text FROM klaviyo.delivery";
    let told = shop.connect().query(told, &[]).unwrap_or_else(|error| panic!("{}", explain(&error)));
    let messages = shop.sandbox.messages();
    let accepted: BTreeSet<&str> = messages
        .iter()
        .filter(|receipt| receipt.accepted)
        .filter_map(|receipt| receipt.at("data.attributes.unique_id")?.as_str())
        .collect();
    for row in &told {
        let id: &str = row.get(0);
        assert!(accepted.contains(id), "{victim:?}: {id} is told to be delivered, and was never accepted");
    }
    told.len()
}

/// After a crash all goes out, and at most what was under way goes out again.
fn assert_recovered(shop: &Shop, what: &str, sent_before: &[Receipt]) {
    let backlog = shop.drain_soon();
    assert_eq!(backlog.dead, 0);
    let receipts = shop.sandbox.receipts();
    let ledger = Ledger::new(&receipts, ORDER);
    println!("{what}: {} under way, {} sent again", sent_before.len(), ledger.resends());
    ledger.assert_accepted_exactly(1..=ORDERS);
    assert!(ledger.resends() <= IN_FLIGHT, "{what}: {} sent again", ledger.resends());
    for order in ledger.keys() {
        assert!(ledger.sends(order) <= 2, "{what}: order {order} was sent {} times", ledger.sends(order));
    }
    let delivered = count(&mut shop.connect(), "SELECT count(*) FROM klaviyo.delivery");
    assert_eq!(usize::try_from(delivered), Ok(ledger.keys().len()), "{what}");
    assert_eq!(shop.sandbox.events().len(), ledger.keys().len(), "{what}: each is in Klaviyo once");
}

/// Messages are in the worker's memory, and none of them is on the wire: one call hangs, and there may be only one.
#[test]
fn after_claim_before_send() {
    for victim in VICTIMS {
        let mut shop = Shop::builder()
            .setting("klaviyo.max_in_flight", 1)
            .setting("klaviyo.request_timeout", FOR_EVER)
            .start();
        let mut db = shop.connect();
        shop.sandbox.set_faults(&[Fault::hang()]);
        place_orders(&mut db, 1, ORDERS);
        // The worker reads each row once, so when it has read so many, it has them all.
        let read = "SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relid = 'klaviyo.outbox'::regclass";
        shop.eventually("the orders have been read", PATIENCE, || count(&mut db, read) >= ORDERS);
        shop.eventually("the call hangs", PATIENCE, || shop.sandbox.receipts().len() == 1);
        strike(&mut shop, victim);
        assert_eq!(shop.sandbox.receipts().len(), 1, "{victim:?}: all others were read and not sent");
        shop.sandbox.clear_faults();
        recover(&mut shop, victim);
        let backlog = shop.drain_soon();
        assert_eq!(backlog.dead, 0);
        let receipts = shop.sandbox.receipts();
        let ledger = Ledger::new(&receipts, ORDER);
        ledger.assert_accepted_exactly(1..=ORDERS);
        println!("{victim:?}: {} sent again", ledger.resends());
        assert_eq!(
            (ledger.resends(), ledger.needless_resends()),
            (1, 0),
            "{victim:?}: only what hung is sent again"
        );
    }
}

/// Requests are on the wire, and no answer has come: Klaviyo may or may not have acted on them.
#[test]
fn after_send() {
    for victim in VICTIMS {
        for fault in [Fault::hang(), Fault::hang_after()] {
            let mut shop = Shop::builder().setting("klaviyo.request_timeout", FOR_EVER).start();
            let mut db = shop.connect();
            shop.sandbox.set_faults(std::slice::from_ref(&fault));
            place_orders(&mut db, 1, ORDERS);
            shop.eventually("calls are under way", PATIENCE, || shop.sandbox.receipts().len() >= IN_FLIGHT);
            let receipts = shop.sandbox.receipts();
            assert_eq!(receipts.len(), IN_FLIGHT, "no more than may be are under way");
            assert!(receipts.iter().all(|receipt| receipt.status.is_none()));
            assert!(receipts.iter().all(|receipt| receipt.accepted == (fault == Fault::hang_after())));
            assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.delivery"), 0);
            strike(&mut shop, victim);
            shop.sandbox.clear_faults();
            recover(&mut shop, victim);
            assert_recovered(&shop, &format!("{victim:?}, {}", fault.kind()), &receipts);
        }
    }
}

/// A shop whose worker does not send yet, with orders that wait.
fn not_yet_sending() -> Shop {
    let shop = Shop::builder().setting("klaviyo.enabled", "off").start();
    place_orders(&mut shop.connect(), 1, ORDERS);
    shop
}

/// Answers have come, and nothing of that is in the database yet: somebody's lock keeps the worker from its tables.
#[test]
fn after_the_answer_before_it_is_recorded() {
    for victim in VICTIMS {
        let mut shop = not_yet_sending();
        let (mut db, mut locker) = (shop.connect(), shop.connect());
        sql(&mut locker, "BEGIN; LOCK TABLE klaviyo.outbox IN SHARE MODE");
        shop.cluster.set("klaviyo.enabled", "on");
        shop.eventually("the worker waits for the lock", PATIENCE, || waits_for_lock(&mut db));
        shop.eventually("all calls under way are answered", PATIENCE, || {
            shop.sandbox.receipts().iter().filter(|receipt| receipt.accepted).count() >= IN_FLIGHT
        });
        let receipts = shop.sandbox.receipts();
        assert_eq!(receipts.len(), IN_FLIGHT, "no more than may be are sent while nothing is recorded");
        assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.delivery"), 0);
        strike(&mut shop, victim);
        recover(&mut shop, victim);
        assert_recovered(&shop, &format!("{victim:?}"), &receipts);
    }
}

/// The worker has deleted messages, in a transaction that also has to write that they are delivered, and has not.
#[test]
fn in_the_middle_of_recording() {
    for victim in VICTIMS {
        let mut shop = not_yet_sending();
        let (mut db, mut other) = (shop.connect(), shop.connect());
        // The worker comes to a day's partition only when it has a row for it: one that it has deleted elsewhere.
        sql(
            &mut other,
            "BEGIN;
             DO $$
             DECLARE
                 day regclass;
             BEGIN
                 FOR day IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'klaviyo.delivery'::regclass LOOP
                     EXECUTE format('LOCK TABLE %s IN SHARE MODE', day);
                 END LOOP;
             END
             $$",
        );
        shop.cluster.set("klaviyo.enabled", "on");
        shop.eventually("the worker waits, with messages deleted", PATIENCE, || {
            waits_for_lock(&mut db) && count(&mut db, DELETED) > 0
        });
        shop.eventually("all calls under way are answered", PATIENCE, || {
            shop.sandbox.receipts().iter().filter(|receipt| receipt.accepted).count() >= IN_FLIGHT
        });
        let receipts = shop.sandbox.receipts();
        assert_eq!(receipts.len(), IN_FLIGHT, "no more than may be are sent while nothing is recorded");
        let deleted = count(&mut db, DELETED);
        strike(&mut shop, victim);
        recover(&mut shop, victim);
        assert_recovered(&shop, &format!("{victim:?}, {deleted} deleted"), &receipts);
    }
}

/// Messages that the worker has deleted in the transaction it is in.
const DELETED: &str = "SELECT count(*) FROM klaviyo.outbox AS o
                       JOIN pg_stat_activity AS a ON a.backend_xid = o.xmax
                       WHERE a.backend_type = 'klaviyo_sync worker'";

/// Places orders, some of each transaction's kind: committed, rolled back, and cut off by a crash. No number is used
/// twice, and a number is in `placed` exactly if its transaction committed. None is placed beyond the number `until`.
fn place_through_crashes(config: &postgres::Config, until: &AtomicI64, stop: &AtomicBool) {
    let mut next: i64 = 1;
    while !stop.load(SeqCst) {
        let placed = config.connect(NoTls).and_then(|mut db| {
            while !stop.load(SeqCst) {
                if next < until.load(SeqCst) {
                    place_some(&mut db, &mut next)?;
                } else {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            Ok(())
        });
        if let Err(error) = placed {
            assert!(
                error.as_db_error().is_none_or(|error| error.severity() != "ERROR"),
                "{}",
                explain(&error)
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// One transaction of a few orders.
fn place_some(db: &mut Client, next: &mut i64) -> Result<(), postgres::Error> {
    let (first, last) = (*next, *next + fastrand::i64(0..60));
    *next = last + 1;
    let mut transaction = db.transaction()?;
    transaction.execute(
        "INSERT INTO placed (id, message_id)
         SELECT n, klaviyo_track_event('Placed Order', external_id => 'customer-' || n % 5000,
                                       properties => jsonb_build_object('order_id', n))
         FROM generate_series($1::bigint, $2::bigint) AS n",
        &[&first, &last],
    )?;
    if last % 8 == 0 { transaction.rollback() } else { transaction.commit() }
}

#[test]
fn at_random_moments() {
    kill_at_random_moments(Shop::builder().single_calls().start(), 24, 50..650, IN_FLIGHT);
}

/// The same with calls of many, where Klaviyo does not say that it takes none that has come before.
#[test]
fn at_random_moments_of_a_backlog() {
    let shop = Shop::start();
    shop.sandbox.set_bulk(&Bulk { repeats: Some("after"), ..Bulk::default() });
    kill_at_random_moments(shop, 9, 500..6_500, IN_FLIGHT + 4 * 1_000);
}

/// Kills everything there is, so many times, each after so many more events have been sent. `most` is how many each kill
/// may have sent again.
fn kill_at_random_moments(mut shop: Shop, kills: usize, between: Range<u64>, most: usize) {
    sql(&mut shop.connect(), "CREATE TABLE placed (id bigint PRIMARY KEY, message_id uuid NOT NULL)");
    shop.sandbox.set_faults(&[
        Fault::latency(Duration::from_millis(3)).probability(0.5),
        Fault::latency(Duration::from_millis(30)).probability(0.1),
    ]);
    let (until, stop) = (AtomicI64::new(0), AtomicBool::new(false));
    let config = shop.cluster.config("shop");
    let mut hit = [0; VICTIMS.len()];
    let mut told = 0;
    thread::scope(|scope| {
        let placing = scope.spawn(|| place_through_crashes(&config, &until, &stop));
        let stop_at_the_end = RaiseAtTheEnd(&stop);
        for round in 0..kills {
            let sent = shop.sandbox.stats().events + fastrand::u64(between.clone());
            // Enough for that, also without those that are rolled back or lost.
            until.fetch_add(between.end as i64 * 3 / 2, SeqCst);
            shop.eventually("some more have been sent", PATIENCE, || shop.sandbox.stats().events >= sent);
            thread::sleep(Duration::from_millis(fastrand::u64(0..50)));
            let victim = VICTIMS[round % VICTIMS.len()];
            hit[round % VICTIMS.len()] += 1;
            strike(&mut shop, victim);
            told += recover(&mut shop, victim);
        }
        drop(stop_at_the_end);
        placing.join().expect("orders can be placed");
    });
    assert!(told > 0, "after no crash anything was told to be delivered");
    let backlog = shop.drain(PATIENCE * 2);
    assert_eq!(backlog.dead, 0);

    let mut db = shop.connect();
    let placed: BTreeSet<i64> = db
        .query("SELECT id FROM placed", &[])
        .unwrap_or_else(|error| panic!("{}", explain(&error)))
        .iter()
        .map(|row| row.get(0))
        .collect();
    let messages = shop.sandbox.messages();
    let ledger = Ledger::new(&messages, ORDER);
    let never_placed =
        ledger.keys().iter().filter(|order| !placed.contains(&order.parse().expect("a number"))).count();
    assert_eq!(never_placed, 0, "orders arrived whose transaction never committed");
    ledger.assert_accepted_exactly(&placed);
    let told = "SELECT count(*) FROM placed JOIN klaviyo.delivery USING (message_id)";
    assert_eq!(usize::try_from(count(&mut db, told)), Ok(placed.len()));
    assert_eq!(usize::try_from(count(&mut db, "SELECT count(*) FROM klaviyo.delivery")), Ok(placed.len()));
    assert_eq!(shop.sandbox.events().len(), placed.len(), "each is in Klaviyo once");
    assert_eq!(shop.sandbox.stats().bulk_repeats, 0, "no call of many failed for what came before");
    println!(
        "{} orders, {} in calls of many, kills of {VICTIMS:?}: {hit:?}; {} sent again, {} of them needlessly, {:.1} a kill",
        placed.len(),
        count(&mut db, "SELECT count(*) FROM klaviyo.delivery WHERE bulk"),
        ledger.resends(),
        ledger.needless_resends(),
        ledger.resends() as f64 / kills as f64
    );
    assert!(ledger.resends() <= kills * most, "{} sent again", ledger.resends());
    Ledger::new(&messages, "data.attributes.profile.data.attributes.external_id").assert_ascending(ORDER);
}

/// How long the worker waits at its end for answers.
const GRACE: Duration = Duration::from_secs(1);

/// Who ends in order waits for answers and records them: what was answered is not sent again.
#[test]
fn an_orderly_end_sends_nothing_again() {
    const ENDS: i64 = 12;
    const EACH: i64 = 800;
    let mut shop = Shop::builder().single_calls().start();
    let mut db = shop.connect();
    let mut long_ends = 0;
    for round in 0..ENDS {
        let received = shop.sandbox.stats().requests;
        place_orders(&mut db, round * EACH + 1, (round + 1) * EACH);
        let sent = received + fastrand::u64(20..500);
        shop.eventually("calls are under way", PATIENCE, || shop.sandbox.stats().requests >= sent);
        let took = if round % 3 == 0 {
            let took = shop.cluster.stop(Stop::Fast);
            shop.cluster.start();
            db = shop.connect();
            took
        } else {
            let worker = Process::find(wait_for_worker(&mut db)).expect("it runs");
            let began = Instant::now();
            worker.signal(Signal::SIGTERM);
            assert!(worker.wait_gone(PATIENCE), "the worker does not end");
            began.elapsed()
        };
        // On a machine so busy that answers take as long, they are not waited for.
        long_ends += usize::from(took >= GRACE);
        shop.drain_soon();
    }
    let receipts = shop.sandbox.receipts();
    let ledger = Ledger::new(&receipts, ORDER);
    ledger.assert_accepted_exactly(1..=ENDS * EACH);
    println!("{} sent again after {ENDS} orderly ends, {long_ends} of them long", ledger.resends());
    assert!(ledger.resends() <= long_ends * IN_FLIGHT, "{} sent again although answered", ledger.resends());
}

/// The postmaster signals a process and its process group, so one wish to end may come twice: that is no impatience.
#[test]
fn a_wish_to_end_that_comes_twice_is_one() {
    let shop = not_yet_sending();
    let (mut db, mut locker) = (shop.connect(), shop.connect());
    sql(&mut locker, "BEGIN; LOCK TABLE klaviyo.outbox IN SHARE MODE");
    shop.cluster.set("klaviyo.enabled", "on");
    shop.eventually("the worker waits for the lock", PATIENCE, || waits_for_lock(&mut db));
    let worker = Process::find(wait_for_worker(&mut db)).expect("it runs");
    let began = Instant::now();
    worker.signal(Signal::SIGTERM);
    // Or the kernel makes one of them.
    thread::sleep(Duration::from_millis(5));
    worker.signal(Signal::SIGTERM);
    let twice = began.elapsed();
    thread::sleep(Duration::from_millis(50));
    sql(&mut locker, "ROLLBACK");
    let free = began.elapsed();
    assert!(worker.wait_gone(PATIENCE), "the worker does not end");
    let cut_short = shop.cluster.log().contains("terminating background worker \"klaviyo_sync worker\"");
    // On a machine so slow that the second came much later, or the lock was held for long, it was right to give up.
    let in_time = twice < Duration::from_millis(150) && free < Duration::from_millis(800);
    assert!(!cut_short || !in_time, "cut short, signalled {twice:?} apart, {free:?} before it could go on");
    shop.drain_soon();
}

/// Calls that hang are given up at an orderly end; those that have been answered meanwhile are not sent again.
#[test]
fn an_orderly_end_gives_up_only_what_hangs() {
    let mut shop = Shop::builder().setting("klaviyo.request_timeout", FOR_EVER).start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::hang_after().matching("\"order_id\":1")]);
    // 1, 10 to 19 and 100 to 150 hang.
    place_orders(&mut db, 1, 150);
    let hanging = 1 + 10 + 51;
    shop.eventually("most are delivered, the rest hangs", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.delivery") == 150 - hanging
    });
    shop.cluster.stop(Stop::Fast);
    shop.sandbox.clear_faults();
    shop.cluster.start();
    shop.drain_soon();
    let receipts = shop.sandbox.receipts();
    let ledger = Ledger::new(&receipts, ORDER);
    ledger.assert_accepted_exactly(1..=150);
    assert_eq!(i64::try_from(ledger.resends()), Ok(hanging));
    assert_eq!(ledger.unexplained_resends(), 0);
}
