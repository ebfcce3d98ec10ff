//! Transactional: what commits arrives, what does not commit is never sent, and no transaction holds up another.
//!
//! That something is never sent is shown by a message queued after it that arrives: whatever was to come before it
//! would have come by then.

use std::collections::BTreeSet;
use std::thread;

use harness::{
    Fault, Ledger, ORDER, PATIENCE, Process, Shop, ShopBuilder, Signal, Stop, count, place, sql,
    wait_for_worker, workers,
};
use postgres::{Client, NoTls};

/// A shop that looks every second for what no commit tells it of.
fn shop() -> ShopBuilder {
    Shop::builder().setting("klaviyo.poll_interval", "1s")
}

/// Every order that the sandbox got a request for, accepted or not.
fn sent(shop: &Shop) -> BTreeSet<i64> {
    let receipts = shop.sandbox.receipts();
    Ledger::new(&receipts, ORDER).keys().iter().map(|key| key.parse().expect("orders are numbers")).collect()
}

fn wait_for(shop: &Shop, order: i64) {
    shop.eventually(&format!("order {order} arrives"), PATIENCE, || {
        Ledger::new(&shop.sandbox.receipts(), ORDER).accepted(&order.to_string()) > 0
    });
}

/// Queues an order and waits for it: whatever was to be sent before it has been.
fn mark(shop: &Shop, order: i64) {
    place(&mut shop.connect(), order);
    wait_for(shop, order);
}

/// These orders arrived, each once and accepted, and no request was ever made for another.
fn assert_arrived_once(shop: &Shop, orders: impl IntoIterator<Item = i64>) {
    let expected: BTreeSet<i64> = orders.into_iter().collect();
    let receipts = shop.sandbox.receipts();
    let ledger = Ledger::new(&receipts, ORDER);
    assert_eq!(sent(shop), expected);
    ledger.assert_accepted_exactly(&expected);
    assert_eq!(ledger.resends(), 0);
    shop.assert_requests_conform();
}

/// Waits until a backend waits for an advisory lock, and tells which.
fn wait_for_blocked(shop: &Shop, db: &mut Client) -> Process {
    let mut found = None;
    shop.eventually("a backend waits for the lock", PATIENCE, || {
        let row = db
            .query_opt("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", &[])
            .expect("pg_locks can be read");
        found = row.and_then(|row| Process::find(row.get(0)));
        found.is_some()
    });
    found.expect("found above")
}

#[test]
fn nothing_of_a_rolled_back_transaction_is_sent() {
    let shop = shop().start();
    let mut db = shop.connect();
    for order in 1..=20 {
        let mut transaction = db.transaction().expect("a transaction can begin");
        place(&mut transaction, order);
        if order % 2 == 0 {
            transaction.commit().expect("it commits");
        } else {
            transaction.rollback().expect("it rolls back");
        }
    }
    // One that fails by itself.
    let failed = db.batch_execute(
        "BEGIN;
         SELECT klaviyo_track_event('Placed Order', external_id => '1', properties => '{\"order_id\": 21}');
         SELECT 1 / 0;
         COMMIT",
    );
    failed.expect_err("nothing can be divided by 0");
    sql(&mut db, "ROLLBACK");
    // One whose session ends in the middle.
    let mut other = shop.connect();
    sql(&mut other, "BEGIN");
    place(&mut other, 22);
    drop(other);
    mark(&shop, 100);
    mark(&shop, 101);
    shop.drain_soon();
    assert_arrived_once(&shop, (1..=20).filter(|order| order % 2 == 0).chain([100, 101]));
}

#[test]
fn nothing_of_a_rolled_back_savepoint_is_sent() {
    let shop = shop().start();
    let mut db = shop.connect();
    sql(&mut db, "BEGIN");
    place(&mut db, 1);
    sql(&mut db, "SAVEPOINT a");
    place(&mut db, 2);
    sql(&mut db, "SAVEPOINT b");
    place(&mut db, 3);
    sql(&mut db, "RELEASE b");
    place(&mut db, 4);
    sql(&mut db, "ROLLBACK TO a");
    place(&mut db, 5);
    sql(&mut db, "SAVEPOINT c");
    place(&mut db, 6);
    sql(&mut db, "SAVEPOINT d");
    place(&mut db, 7);
    sql(&mut db, "ROLLBACK TO d; RELEASE c; COMMIT");
    // The only thing that remains of a transaction is in a subtransaction, and the other way round.
    sql(&mut db, "BEGIN; SAVEPOINT a");
    place(&mut db, 8);
    sql(&mut db, "ROLLBACK TO a; SAVEPOINT b");
    place(&mut db, 9);
    sql(&mut db, "RELEASE b; COMMIT");
    sql(&mut db, "BEGIN; SAVEPOINT a");
    place(&mut db, 10);
    sql(&mut db, "ROLLBACK TO a; COMMIT");
    mark(&shop, 100);
    shop.drain_soon();
    assert_arrived_once(&shop, [1, 5, 6, 9, 100]);
}

#[test]
fn nothing_of_a_block_that_raised_is_sent() {
    let shop = shop().start();
    let mut db = shop.connect();
    sql(
        &mut db,
        "CREATE FUNCTION place(id bigint) RETURNS void LANGUAGE sql AS $$
             SELECT klaviyo_track_event('Placed Order', external_id => '1',
                                        properties => jsonb_build_object('order_id', id))
         $$;
         DO $$
         BEGIN
             PERFORM place(1);
             BEGIN
                 PERFORM place(2);
                 BEGIN
                     PERFORM place(3);
                     RAISE EXCEPTION 'inner';
                 EXCEPTION WHEN raise_exception THEN
                     PERFORM place(4);
                 END;
                 PERFORM 1 / 0;
             EXCEPTION WHEN division_by_zero THEN
                 PERFORM place(5);
             END;
             BEGIN
                 PERFORM place(6);
             EXCEPTION WHEN others THEN
                 PERFORM place(7);
             END;
         END
         $$",
    );
    // A refused call inside a block leaves the rest of the transaction alone.
    sql(
        &mut db,
        "DO $$
         BEGIN
             PERFORM place(8);
             PERFORM klaviyo_track_event('Placed Order', properties => '{\"order_id\": 9}');
         EXCEPTION WHEN others THEN
             PERFORM place(10);
         END
         $$",
    );
    mark(&shop, 100);
    shop.drain_soon();
    assert_arrived_once(&shop, [1, 5, 6, 10, 100]);
}

#[test]
fn a_prepared_transaction_is_sent_when_it_commits_and_only_then() {
    let mut shop = shop().start();
    let mut db = shop.connect();
    for (order, name) in [(1, "kept"), (2, "dropped"), (3, "kept after a restart")] {
        sql(&mut db, "BEGIN");
        place(&mut db, order);
        sql(&mut db, &format!("PREPARE TRANSACTION '{name}'"));
    }
    mark(&shop, 100);
    assert_arrived_once(&shop, [100]);
    // Nobody queues anything after this: only the poll can find it.
    sql(&mut db, "COMMIT PREPARED 'kept'");
    wait_for(&shop, 1);
    sql(&mut db, "ROLLBACK PREPARED 'dropped'");
    mark(&shop, 101);
    drop(db);
    shop.cluster.restart(Stop::Fast);
    mark(&shop, 102);
    assert_arrived_once(&shop, [1, 100, 101, 102]);
    sql(&mut shop.connect(), "COMMIT PREPARED 'kept after a restart'");
    wait_for(&shop, 3);
    assert_arrived_once(&shop, [1, 3, 100, 101, 102]);
}

#[test]
fn a_prepared_transaction_survives_a_crash() {
    let mut shop = shop().start();
    let mut db = shop.connect();
    for (order, name) in [(1, "kept"), (2, "dropped")] {
        sql(&mut db, "BEGIN");
        place(&mut db, order);
        sql(&mut db, &format!("PREPARE TRANSACTION '{name}'"));
    }
    mark(&shop, 100);
    shop.drain_soon();
    shop.cluster.kill9_postmaster();
    shop.cluster.start();
    mark(&shop, 101);
    let mut db = shop.connect();
    sql(&mut db, "COMMIT PREPARED 'kept'");
    sql(&mut db, "ROLLBACK PREPARED 'dropped'");
    wait_for(&shop, 1);
    mark(&shop, 102);
    shop.drain_soon();
    assert_arrived_once(&shop, [1, 100, 101, 102]);
}

#[test]
fn a_long_transaction_holds_up_nobody() {
    let shop = shop().start();
    let mut long = shop.connect();
    sql(&mut long, "CREATE TABLE orders (id int); BEGIN; INSERT INTO orders VALUES (1)");
    mark(&shop, 1);
    // Every rolled back one leaves a number that nobody will ever fill, and that stays suspect while the long one runs.
    let mut db = shop.connect();
    for order in 1_000..3_600 {
        let mut transaction = db.transaction().expect("a transaction can begin");
        place(&mut transaction, order);
        if order % 2 == 0 {
            transaction.commit().expect("it commits");
        } else {
            transaction.rollback().expect("it rolls back");
        }
    }
    mark(&shop, 2);
    shop.drain_soon();
    place(&mut long, 3);
    mark(&shop, 4);
    assert!(!sent(&shop).contains(&3));
    sql(&mut long, "COMMIT");
    wait_for(&shop, 3);
    mark(&shop, 5);
    shop.drain_soon();
    assert_arrived_once(&shop, (1..=5).chain((1_000..3_600).filter(|order| order % 2 == 0)));
}

#[test]
fn the_first_to_take_a_number_may_be_the_last_to_commit() {
    let shop = shop().start();
    // Among others that roll back in the end, so that its number is not the only one that is missing.
    let mut late: Vec<Client> = (0..6).map(|_| shop.connect()).collect();
    for (order, db) in (1..=6).zip(&mut late) {
        sql(db, "BEGIN");
        place(db, order);
    }
    let mut db = shop.connect();
    for order in 100..300 {
        place(&mut db, order);
    }
    mark(&shop, 300);
    shop.drain_soon();
    assert_arrived_once(&shop, 100..=300);
    while let Some(mut db) = late.pop() {
        let order = 1 + i64::try_from(late.len()).expect("a few");
        sql(&mut db, if order % 2 == 0 { "COMMIT" } else { "ROLLBACK" });
        if order % 2 == 0 {
            wait_for(&shop, order);
        }
        mark(&shop, 400 + order);
    }
    shop.drain_soon();
    assert_arrived_once(&shop, (100..=300).chain([2, 4, 6]).chain(401..=406));
}

#[test]
fn a_backend_frozen_before_it_takes_a_number_is_waited_for() {
    let shop = shop().start();
    let mut db = shop.connect();
    sql(&mut db, "SELECT pg_advisory_lock(7)");
    let config = shop.cluster.config("shop");
    let frozen = thread::spawn(move || {
        let mut db = config.connect(NoTls).expect("the server takes connections");
        sql(
            &mut db,
            "BEGIN;
             SELECT pg_current_xact_id();
             SELECT klaviyo_track_event('Placed Order', external_id => '1', properties =>
                 jsonb_build_object('order_id', 1, 'waited', pg_advisory_xact_lock(7)::text));
             COMMIT",
        );
    });
    let backend = wait_for_blocked(&shop, &mut db);
    backend.freeze();
    for order in 100..200 {
        place(&mut db, order);
    }
    mark(&shop, 200);
    sql(&mut db, "SELECT pg_advisory_unlock(7)");
    mark(&shop, 201);
    shop.drain_soon();
    assert_arrived_once(&shop, 100..=201);
    backend.signal(Signal::SIGCONT);
    frozen.join().expect("the frozen one goes on");
    wait_for(&shop, 1);
    mark(&shop, 202);
    assert_arrived_once(&shop, (100..=202).chain([1]));
}

#[test]
fn a_backend_frozen_between_its_number_and_its_row_is_waited_for() {
    let shop = shop().start();
    let mut db = shop.connect();
    // Identity values are made before this trigger runs, and the row comes after it.
    sql(
        &mut db,
        "CREATE FUNCTION hold_back() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM pg_advisory_xact_lock(7);
             RETURN NEW;
         END
         $$;
         CREATE TRIGGER hold_back BEFORE INSERT ON klaviyo.outbox FOR EACH ROW
         WHEN (NEW.key = ARRAY['external_id:customer-1']) EXECUTE FUNCTION hold_back()",
    );
    // The sequence logs 32 numbers ahead: the frozen one is not to be the first.
    mark(&shop, 90);
    mark(&shop, 91);
    sql(&mut db, "SELECT pg_advisory_lock(7)");
    let config = shop.cluster.config("shop");
    let frozen = thread::spawn(move || {
        let mut db = config.connect(NoTls).expect("the server takes connections");
        place(&mut db, 1);
    });
    let backend = wait_for_blocked(&shop, &mut db);
    backend.freeze();
    for order in 100..200 {
        place(&mut db, order);
    }
    // Each of these makes the worker look at what is missing, with ever fewer transactions running.
    for order in 200..210 {
        mark(&shop, order);
    }
    shop.drain_soon();
    assert_arrived_once(&shop, [90, 91].into_iter().chain(100..210));
    sql(&mut db, "SELECT pg_advisory_unlock(7)");
    backend.signal(Signal::SIGCONT);
    frozen.join().expect("the frozen one goes on");
    wait_for(&shop, 1);
    shop.drain_soon();
    let overtaken = "SELECT count(*) FROM klaviyo.delivery WHERE seq >
                         (SELECT seq FROM klaviyo.delivery WHERE key = ARRAY['external_id:customer-1'])";
    assert_eq!(count(&mut db, overtaken), 110, "it took its number first");
    assert_arrived_once(&shop, [1, 90, 91].into_iter().chain(100..210));
}

/// Where no trigger makes queueing take a statement's way: whoever takes a number has a transaction id by then, by which
/// the worker knows that he may still write its row.
#[test]
fn a_transaction_has_its_id_before_it_takes_a_number() {
    let shop = shop().start();
    mark(&shop, 1);
    let mut db = shop.connect();
    // Numbers are not to be had while somebody changes the sequence.
    sql(&mut db, "BEGIN; ALTER SEQUENCE klaviyo.outbox_seq_seq CACHE 1");
    let mut other = shop.connect();
    let pid = count(&mut other, "SELECT pg_backend_pid()::bigint");
    let held = thread::spawn(move || place(&mut other, 2));
    shop.eventually("it waits for its number", PATIENCE, || {
        count(&mut db, &format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted")) == 1
    });
    let has_id = format!("SELECT count(backend_xid) FROM pg_stat_activity WHERE pid = {pid}");
    let numbers = "SELECT last_value FROM klaviyo.outbox_seq_seq";
    assert_eq!((count(&mut db, &has_id), count(&mut db, numbers)), (1, 1));
    sql(&mut db, "COMMIT");
    held.join().expect("it goes on");
    wait_for(&shop, 2);
    assert_eq!(count(&mut db, numbers), 2);
}

/// Whoever changes the outbox locks the table first, then what belongs to it.
#[test]
fn queueing_and_whoever_changes_the_outbox_do_not_wait_for_each_other() {
    let shop = shop().start();
    mark(&shop, 1);
    let mut db = shop.connect();
    sql(&mut db, "BEGIN; LOCK TABLE klaviyo.outbox IN ACCESS EXCLUSIVE MODE");
    let mut other = shop.connect();
    let pid = count(&mut other, "SELECT pg_backend_pid()::bigint");
    let held = thread::spawn(move || place(&mut other, 2));
    shop.eventually("it waits for the outbox", PATIENCE, || {
        count(&mut db, &format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted")) == 1
    });
    sql(&mut db, "ALTER SEQUENCE klaviyo.outbox_seq_seq CACHE 1; COMMIT");
    held.join().expect("it goes on");
    wait_for(&shop, 2);
}

/// A row written with `synchronous_commit = off` can be seen before it is safe. With a WAL writer that sleeps, what is
/// in the buffers when the postmaster is killed is lost.
#[test]
fn nothing_is_sent_that_a_crash_undoes() {
    let mut shop = shop()
        .cluster(harness::ClusterBuilder::fsync)
        .setting("synchronous_commit", "off")
        .setting("wal_writer_delay", "10s")
        .start();
    sql(&mut shop.connect(), "CREATE TABLE orders (id bigint); CHECKPOINT");
    let mut order = 0;
    let mut undone = 0;
    for round in 0..15 {
        let mut db = shop.connect();
        wait_for_worker(&mut db);
        let first = order + 1;
        match round % 3 {
            0 => {}
            // Where no answer comes nothing is recorded, and recording is what would else make the commit safe. So
            // would recording what is left of the round before.
            1 => {
                shop.drain(PATIENCE);
                shop.sandbox.set_faults(&[Fault::hang_after().matching(&format!("\"customer-{first}\""))]);
            }
            // A worker that records nothing: this shows that commits are lost here.
            _ => shop.cluster.set("klaviyo.enabled", "off"),
        }
        for _ in 0..if round % 3 == 1 { 1 } else { 200 } {
            order += 1;
            let mut transaction = db.transaction().expect("a transaction can begin");
            transaction.execute("INSERT INTO orders VALUES ($1)", &[&order]).expect("an order can be added");
            place(&mut transaction, order);
            transaction.commit().expect("it commits");
        }
        if round % 3 == 1 {
            shop.eventually("the order is sent", PATIENCE, || sent(&shop).contains(&first));
        }
        shop.cluster.kill9_postmaster();
        let sent = sent(&shop);
        shop.sandbox.clear_faults();
        shop.cluster.start();
        shop.cluster.set("klaviyo.enabled", "on");
        let rows = shop.connect().query("SELECT id FROM orders", &[]).expect("orders can be read");
        let survived: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
        let premature: Vec<_> = sent.difference(&survived).collect();
        assert!(premature.is_empty(), "round {round}: sent, but not there any more: {premature:?}");
        undone += (first..=order).filter(|order| !survived.contains(order)).count();
    }
    println!("{undone} of {order} orders were undone by crashes, and none of them was sent");
    assert!(undone > 0, "nothing was ever at stake");
    shop.drain_soon();
    let rows = shop.connect().query("SELECT id FROM orders", &[]).expect("orders can be read");
    let receipts = shop.sandbox.receipts();
    Ledger::new(&receipts, ORDER).assert_accepted_exactly(rows.iter().map(|row| row.get::<_, i64>(0)));
}

#[test]
fn two_databases_are_not_mixed_up() {
    let mut shop = shop().start();
    shop.add_database("annex");
    let mut annex = shop.cluster.connect("annex");
    sql(&mut annex, "SELECT klaviyo_set_account(private_key => 'pk_of_the_annex')");
    let mut db = shop.connect();
    for order in 1..=200 {
        place(&mut db, order);
        place(&mut annex, 1_000 + order);
    }
    mark(&shop, 300);
    place(&mut annex, 1_300);
    wait_for(&shop, 1_300);
    assert_arrived_once(&shop, (1..=200).chain([300]).chain(1_001..=1_200).chain([1_300]));
    let receipts = shop.sandbox.receipts();
    for (db, suffix, orders) in [(&mut db, "cdef", 0..1_000), (&mut annex, "nnex", 1_000..2_000)] {
        shop.eventually("all is recorded", PATIENCE, || {
            count(db, "SELECT count(*) FROM klaviyo.outbox") + count(db, "SELECT count(*) FROM klaviyo.retry")
                == 0
        });
        let rows = db.query("SELECT message_id::text FROM klaviyo.delivery", &[]).expect("it can be read");
        let delivered: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(delivered.len(), 201);
        for receipt in &receipts {
            let order =
                receipt.at(ORDER).and_then(serde_json::Value::as_i64).expect("every event has an order");
            let id = receipt.at("data.attributes.unique_id").and_then(|id| id.as_str()).expect("and an id");
            assert_eq!(delivered.contains(id), orders.contains(&order), "order {order}");
            if orders.contains(&order) {
                assert_eq!(receipt.key_suffix.as_deref(), Some(suffix), "order {order}");
            }
        }
    }
    let both = workers(&mut db);
    assert_eq!(both.len(), 2, "{both:?}");
}

#[test]
fn a_database_gains_and_loses_its_worker_with_the_extension() {
    let shop = shop().start();
    let mut db = shop.connect();
    for order in 1..=3 {
        mark(&shop, order);
        // Thinking better of it changes nothing.
        sql(&mut db, "BEGIN; DROP EXTENSION klaviyo_sync; ROLLBACK");
        mark(&shop, 10 + order);
        shop.sandbox.set_faults(&[Fault::status(503)]);
        place(&mut db, 20 + order);
        sql(&mut db, "DROP EXTENSION klaviyo_sync");
        shop.eventually("the worker has ended", PATIENCE, || workers(&mut db).is_empty());
        shop.sandbox.clear_faults();
        shop.set_up("shop");
        wait_for_worker(&mut db);
    }
    mark(&shop, 4);
    let receipts = shop.sandbox.receipts();
    Ledger::new(&receipts, ORDER).assert_accepted_exactly([1, 2, 3, 4, 11, 12, 13]);
}

#[test]
fn what_is_queued_without_the_library_waits_for_it() {
    let mut shop = shop().cluster(|cluster| cluster.preload(false)).start();
    let mut db = shop.connect();
    for order in 1..=5 {
        place(&mut db, order);
    }
    let row = db
        .query_one(
            "SELECT status, hint FROM klaviyo_result((SELECT message_id FROM klaviyo.outbox ORDER BY seq LIMIT 1))",
            &[],
        )
        .expect("a result can be asked for");
    let (status, hint): (String, Option<String>) = (row.get(0), row.get(1));
    assert_eq!(status, "waiting");
    assert!(hint.is_some_and(|hint| hint.contains("shared_preload_libraries")), "it says what is missing");
    drop(db);
    assert_eq!(shop.backlog().outbox, 5);
    assert!(sent(&shop).is_empty());
    shop.cluster.set("shared_preload_libraries", "klaviyo_sync");
    shop.cluster.restart(Stop::Fast);
    shop.drain_soon();
    mark(&shop, 6);
    assert_arrived_once(&shop, 1..=6);
}
