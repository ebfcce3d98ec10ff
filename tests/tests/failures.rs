//! What goes wrong at Klaviyo, on the way there or in the account: who is harmed, what is said about it, and how it
//! goes on.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use harness::{
    ClusterBuilder, Directory, Fault, Ledger, ORDER, PATIENCE, Port, Receipt, SANDBOX_KEY, ServerUser, Shop,
    ShopBuilder, eventually, hint, place, query, status, wait_for_worker,
};
use postgres::Client;
use serde_json::Value;

/// What there is between two probes of an account that Klaviyo refuses.
const RETRY_MAX_DELAY: Duration = Duration::from_millis(300);

fn shop() -> ShopBuilder {
    Shop::builder()
        .setting("klaviyo.poll_interval", "1s")
        .setting("klaviyo.retry_min_delay", "20ms")
        .setting("klaviyo.retry_max_delay", format!("{}ms", RETRY_MAX_DELAY.as_millis()))
}

/// Matches the requests of an order.
fn of_order(order: i64) -> String {
    format!("\"customer-{order}\"")
}

/// Why nothing can be sent, if the worker says so.
fn stopped(db: &mut Client) -> Option<String> {
    query(db, "SELECT max(stopped_reason) FROM klaviyo.account_status WHERE stopped_at IS NOT NULL", &[])
}

fn wait_for_stop(shop: &Shop, db: &mut Client) -> String {
    let mut reason = None;
    shop.eventually("the account is stopped", PATIENCE, || {
        reason = stopped(db);
        reason.is_some()
    });
    reason.expect("found above")
}

fn wait_for_running(shop: &Shop, db: &mut Client) {
    shop.eventually("the account's status says that it runs again", PATIENCE, || stopped(db).is_none());
}

fn key_file(shop: &Shop) -> PathBuf {
    shop.cluster.directory().join("klaviyo.key")
}

fn write_key(shop: &Shop, key: &str) {
    fs::write(key_file(shop), key).expect("the key file can be written");
    ServerUser::current().give(&key_file(shop));
}

/// What was sent and taken is exactly this.
fn assert_accepted(shop: &Shop, orders: impl IntoIterator<Item = i64>) {
    let receipts = shop.sandbox.receipts();
    Ledger::new(&receipts, ORDER).assert_accepted_exactly(orders);
    shop.assert_requests_conform();
}

#[test]
fn what_klaviyo_refuses_is_put_aside_with_its_reason() {
    let shop = shop().start();
    let mut db = shop.connect();
    let refusal = Fault::status(400)
        .error("invalid_value", "That is not a value.")
        .pointer("/data/attributes/value")
        .matching(&of_order(3));
    shop.sandbox.set_faults(&[refusal]);
    let ids: Vec<String> = (1..=6).map(|order| place(&mut db, order)).collect();
    assert_eq!(shop.drain_soon().dead, 1);
    for (order, id) in (1..).zip(&ids) {
        assert_eq!(status(&mut db, id), if order == 3 { "dead" } else { "accepted" }, "order {order}");
    }
    let row = db
        .query_one(
            "SELECT d.message_id::text, d.code, d.reason, d.http_status, d.attempts, d.klaviyo_error_id,
                    d.payload::text, r.code, r.reason, r.klaviyo_error_id, r.hint
             FROM klaviyo.dead_letter AS d, klaviyo_result(d.message_id) AS r",
            &[],
        )
        .expect("there is one");
    assert_eq!(row.get::<_, String>(0), ids[2]);
    assert_eq!(row.get::<_, String>(1), "invalid_value");
    let reason: String = row.get(2);
    assert!(reason.contains("That is not a value.") && reason.contains("/data/attributes/value"), "{reason}");
    assert_eq!((row.get::<_, Option<i32>>(3), row.get::<_, i32>(4)), (Some(400), 1));
    let error_id: String = row.get(5);
    assert_eq!(error_id.len(), 36, "Klaviyo's id of the error: {error_id}");
    assert!(row.get::<_, String>(6).contains("customer-3"), "the payload is kept");
    assert_eq!((row.get::<_, String>(7), row.get::<_, String>(8)), ("invalid_value".to_owned(), reason));
    assert_eq!(row.get::<_, String>(9), error_id);
    assert!(row.get::<_, String>(10).contains("klaviyo_redrive"));
    assert_accepted(&shop, [1, 2, 4, 5, 6]);
}

#[test]
fn a_refused_key_stops_the_account_until_it_is_corrected() {
    // One call at a time: every refusal but the first is then that of a probe.
    let shop = shop().setting("klaviyo.max_in_flight", 1).sandbox(["--key", SANDBOX_KEY]).start();
    let mut db = shop.connect();
    let first = place(&mut db, 1);
    shop.wait_for_status(&first, "accepted");
    write_key(&shop, "pk_mistyped");
    let mut ids = Vec::new();
    // The file is read now and then: some may still go with the old key.
    shop.eventually("the account is stopped", PATIENCE, || {
        ids.push(place(&mut db, 2 + i64::try_from(ids.len()).expect("a few")));
        stopped(&mut db).is_some()
    });
    let reason = wait_for_stop(&shop, &mut db);
    assert!(reason.contains("key"), "{reason}");
    assert!(!reason.contains("pk_mistyped"), "no key is shown: {reason}");
    assert_eq!(
        query::<String>(
            &mut db,
            "SELECT account FROM klaviyo.account_status WHERE stopped_at IS NOT NULL",
            &[]
        ),
        "default"
    );
    let last = place(&mut db, 1_000);
    assert_eq!(hint(&mut db, &last), Some(reason));
    assert_eq!(shop.backlog().dead, 0);
    // It knocks with the same key now and then.
    shop.eventually("some probes", PATIENCE, || shop.sandbox.stats().answered(401) >= 6);
    let receipts = shop.sandbox.receipts();
    let refused: Vec<&Receipt> = receipts.iter().filter(|receipt| receipt.status == Some(401)).collect();
    for pair in refused.windows(2) {
        let apart = Duration::from_micros(pair[1].at_us - pair[0].at_us);
        assert!(apart >= RETRY_MAX_DELAY, "probes {apart:?} apart");
    }
    write_key(&shop, SANDBOX_KEY);
    assert_eq!(shop.drain_soon().dead, 0);
    assert_eq!(status(&mut db, &last), "accepted");
    let placed = i64::try_from(ids.len()).expect("a few") + 1;
    assert_accepted(&shop, (1..=placed).chain([1_000]));
    wait_for_running(&shop, &mut db);
}

/// The scope is granted at Klaviyo, so nothing changes here: a probe now and then finds out.
#[test]
fn a_missing_scope_is_named_and_its_granting_noticed() {
    let shop = shop().start();
    let mut db = shop.connect();
    let missing = Fault::status(403).error("permission_denied", "You do not have permission.");
    shop.sandbox.set_faults(&[missing.path("/api/events")]);
    let id = place(&mut db, 1);
    let reason = wait_for_stop(&shop, &mut db);
    assert!(reason.contains("events:write"), "{reason}");
    assert_eq!(status(&mut db, &id), "retrying");
    assert_eq!(hint(&mut db, &id), Some(reason));
    shop.sandbox.clear_faults();
    assert_eq!(shop.drain(PATIENCE * 3).dead, 0);
    assert_accepted(&shop, [1]);
    wait_for_running(&shop, &mut db);
}

#[test]
fn a_message_that_always_fails_alone_is_put_aside() {
    let shop = shop().setting("klaviyo.max_strikes", "5").start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::status(500).matching(&of_order(0))]);
    let bad = place(&mut db, 0);
    let mut placed = 0;
    shop.eventually("it is put aside", PATIENCE, || {
        for _ in 0..10 {
            placed += 1;
            place(&mut db, placed);
        }
        status(&mut db, &bad) == "dead"
    });
    assert_eq!(shop.drain_soon().dead, 1);
    assert_accepted(&shop, 1..=placed);
    let receipts = shop.sandbox.receipts();
    let ledger = Ledger::new(&receipts, ORDER);
    assert!(ledger.sends("0") >= 5, "{} sends", ledger.sends("0"));
    assert_eq!(ledger.needless_resends(), 0);
    // The others went on all the time, between its attempts.
    let attempts = ledger.of("0");
    let (first, last) = (attempts[0].n, attempts[attempts.len() - 1].n);
    let between =
        receipts.iter().filter(|receipt| receipt.accepted && (first..last).contains(&receipt.n)).count();
    assert!(between > 0);
    let row = db
        .query_one("SELECT code, http_status, attempts FROM klaviyo.dead_letter", &[])
        .expect("there is one");
    assert_eq!(row.get::<_, Option<i32>>(1), Some(500));
    assert_eq!(usize::try_from(row.get::<_, i32>(2)).ok(), Some(ledger.sends("0")));
}

#[test]
fn an_outage_puts_nothing_aside() {
    let shop = shop().setting("klaviyo.max_strikes", "1").setting("klaviyo.retry_max_delay", "30ms").start();
    let mut db = shop.connect();
    for order in 1..=50 {
        place(&mut db, order);
    }
    shop.drain_soon();
    for (phase, fault) in [Fault::status(500), Fault::status(503), Fault::malformed(), Fault::reset_before()]
        .into_iter()
        .enumerate()
    {
        shop.sandbox.set_faults(&[fault]);
        for order in 1..=50 {
            place(&mut db, 100 * (i64::try_from(phase).expect("a few") + 1) + order);
        }
        // Long enough to fail many times over.
        shop.eventually("many calls have failed", PATIENCE, || shop.sandbox.faults()[0].fired >= 40);
        assert_eq!(shop.backlog().dead, 0);
    }
    shop.sandbox.down();
    eventually("it is down", PATIENCE, || !shop.sandbox.is_up());
    for order in 501..=550 {
        place(&mut db, order);
    }
    shop.eventually("it was missed", PATIENCE, || {
        query(
            &mut db,
            "SELECT EXISTS (SELECT FROM klaviyo.retry WHERE last_code IN ('connect', 'connection_lost'))",
            &[],
        )
    });
    shop.sandbox.clear_faults();
    shop.sandbox.up();
    assert_eq!(shop.drain_soon().dead, 0);
    assert_accepted(&shop, (0..=5).flat_map(|phase| (1..=50).map(move |order| order + 100 * phase)));
}

#[test]
fn nobody_listens_at_the_base_url() {
    let shop = shop().start();
    let mut db = shop.connect();
    // Held to the end, so that nobody else listens there.
    let port = Port::reserve();
    let closed = format!("http://127.0.0.1:{}", port.number());
    let set = "SELECT klaviyo_set_account(base_url => $1)";
    db.execute(set, &[&closed]).expect("the address can be changed");
    // The change and the message travel by one commit or the order of two.
    let id = place(&mut db, 1);
    shop.eventually("connecting fails", PATIENCE, || {
        query(&mut db, "SELECT EXISTS (SELECT FROM klaviyo.retry WHERE last_code = 'connect')", &[])
    });
    assert_eq!(status(&mut db, &id), "retrying");
    db.execute(set, &[&shop.sandbox.api()]).expect("the address can be changed");
    shop.wait_for_status(&id, "accepted");
    assert_accepted(&shop, [1]);
}

#[test]
fn an_unreadable_key_file_is_named() {
    let shop = shop().start();
    let mut db = shop.connect();
    fs::remove_file(key_file(&shop)).expect("the key file can be removed");
    let reason = wait_for_stop(&shop, &mut db);
    assert!(reason.contains("klaviyo.key"), "{reason}");
    let id = place(&mut db, 1);
    assert_eq!(hint(&mut db, &id), Some(reason));
    // Also an empty one is no key.
    write_key(&shop, "");
    shop.eventually("an empty file is told apart", PATIENCE, || {
        stopped(&mut db).is_some_and(|reason| reason.contains("empty"))
    });
    assert!(shop.sandbox.receipts().is_empty());
    write_key(&shop, SANDBOX_KEY);
    shop.wait_for_status(&id, "accepted");
    wait_for_running(&shop, &mut db);
    assert_accepted(&shop, [1]);
}

#[test]
fn an_account_sends_nothing_until_it_is_armed() {
    let shop = shop().start();
    let mut db = shop.connect();
    db.execute(
        "SELECT klaviyo_set_account('second', base_url => $1, private_key => 'pk_of_the_second', rate_share => 1e6)",
        &[&shop.sandbox.api()],
    )
    .expect("an account can be added");
    let id: String = query(
        &mut db,
        "SELECT klaviyo_track_event('Placed Order', external_id => '1', properties => '{\"order_id\": 1}',
                                    account => 'second')::text",
        &[],
    );
    // The other account goes on.
    let other = place(&mut db, 2);
    shop.wait_for_status(&other, "accepted");
    assert_eq!(status(&mut db, &id), "waiting");
    assert!(hint(&mut db, &id).is_some_and(|hint| hint.contains("klaviyo_arm_account")));
    assert_accepted(&shop, [2]);
    db.execute("SELECT klaviyo_arm_account('second')", &[]).expect("it can be armed");
    shop.wait_for_status(&id, "accepted");
    let receipts = shop.sandbox.receipts();
    let ledger = Ledger::new(&receipts, ORDER);
    assert_eq!(ledger.of("1")[0].key_suffix.as_deref(), Some("cond"));
    assert_eq!(ledger.of("2")[0].key_suffix.as_deref(), Some("cdef"));
    assert_eq!(receipts.len(), 2);
}

#[test]
fn delivery_can_be_switched_off_and_on() {
    let shop = shop().start();
    let mut db = shop.connect();
    let mut orders = 0;
    for round in 1..=3 {
        shop.cluster.set("klaviyo.enabled", "off");
        // What is under way ends; from some moment on nothing new begins.
        let mut waiting = Vec::new();
        shop.eventually("something waits", PATIENCE, || {
            orders += 1;
            let id = place(&mut db, orders);
            let row = db
                .query_one("SELECT status, hint FROM klaviyo_await($1::text::uuid, '1 second')", &[&id])
                .expect("a message can be awaited");
            let off = row.get::<_, Option<String>>(1).is_some_and(|hint| hint.contains("klaviyo.enabled"));
            if row.get::<_, String>(0) == "waiting" && off {
                waiting.push(id);
            }
            !waiting.is_empty()
        });
        let before = shop.sandbox.receipts().len();
        for _ in 0..20 {
            orders += 1;
            waiting.push(place(&mut db, orders));
        }
        // Time for a worker that sends all the same.
        thread::sleep(Duration::from_secs(1));
        assert_eq!(shop.sandbox.receipts().len(), before, "round {round}");
        shop.cluster.set("klaviyo.enabled", "on");
        shop.drain_soon();
        for id in &waiting {
            assert_eq!(status(&mut db, id), "accepted");
        }
    }
    assert_accepted(&shop, 1..=orders);
}

#[test]
fn over_tls_many_requests_share_one_http_2_connection() {
    let tls = Directory::new();
    let authority = tls.path().join("ca.pem");
    let shop = shop()
        .sandbox(["--tls-dir", tls.path().to_str().expect("it is plain")])
        .cluster(|cluster: ClusterBuilder| cluster.environment("SSL_CERT_FILE", &authority))
        // A share above 1 is for plain HTTP on this machine only.
        .rate_share(1.0)
        .start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    for order in 1..=100_i64 {
        place(&mut db, order);
    }
    assert_eq!(shop.drain_soon().dead, 0);
    let receipts = shop.sandbox.receipts();
    assert_accepted(&shop, 1..=100);
    assert!(receipts.iter().all(|receipt| receipt.version == "HTTP/2.0"), "{:?}", receipts[0]);
    assert!(receipts.iter().all(|receipt| receipt.connection == receipts[0].connection));
    assert_eq!(Ledger::new(&receipts, ORDER).resends(), 0);
}

/// The authority that signed the sandbox' certificate is not known to the server: nothing may be said to it.
#[test]
fn a_certificate_that_is_not_trusted_is_refused() {
    let tls = Directory::new();
    let shop =
        shop().sandbox(["--tls-dir", tls.path().to_str().expect("it is plain")]).rate_share(1.0).start();
    let mut db = shop.connect();
    let id = place(&mut db, 1);
    shop.eventually("connecting fails", PATIENCE, || {
        query(
            &mut db,
            "SELECT EXISTS (SELECT FROM klaviyo.retry WHERE last_code = 'connect' AND attempts > 2)",
            &[],
        )
    });
    let reason: String = query(&mut db, "SELECT last_error FROM klaviyo.retry", &[]);
    assert!(reason.contains("certificate"), "{reason}");
    assert_eq!(status(&mut db, &id), "retrying");
    assert!(shop.sandbox.receipts().is_empty());
}

/// One account's trouble is not another's, though both share the worker.
#[test]
fn an_account_that_hangs_does_not_hold_up_another() {
    let shop = shop().start();
    let mut db = shop.connect();
    db.execute(
        "SELECT klaviyo_set_account('second', base_url => $1, private_key => 'pk_of_the_second', rate_share => 1e6)",
        &[&shop.sandbox.api()],
    )
    .and_then(|_| db.execute("SELECT klaviyo_arm_account('second')", &[]))
    .expect("an account can be added");
    shop.sandbox.set_faults(&[Fault::hang().lasting(Duration::from_secs(120)).matching("\"hang\"")]);
    for order in 1..=100_i64 {
        db.execute(
            "SELECT klaviyo_track_event('Placed Order', external_id => $1, account => 'second',
                 properties => jsonb_build_object('order_id', $2::bigint, 'how', 'hang'))",
            &[&format!("customer-{order}"), &order],
        )
        .expect("it can be queued");
    }
    shop.eventually("calls hang", PATIENCE, || shop.sandbox.faults()[0].fired >= 10);
    for order in 1_001..=1_200 {
        place(&mut db, order);
    }
    let last = place(&mut db, 1_201);
    shop.wait_for_status(&last, "accepted");
    shop.eventually("all of the other account arrive", PATIENCE, || {
        query::<i64>(&mut db, "SELECT count(*) FROM klaviyo.delivery WHERE account = 'default'", &[]) == 201
    });
    assert_accepted(&shop, 1_001..=1_201);
}

/// The worker waits for somebody's lock while a message fails, is tried again and fails again: both failures are then
/// recorded at once.
#[test]
fn a_message_may_fail_several_times_between_two_recordings() {
    let shop = Shop::builder()
        .setting("klaviyo.retry_min_delay", "10ms")
        .setting("klaviyo.retry_max_delay", "10ms")
        .start();
    let (mut db, mut locker) = (shop.connect(), shop.connect());
    let worker = wait_for_worker(&mut db);
    shop.sandbox.set_faults(&[
        Fault::latency(Duration::from_millis(500)).matching("slow"),
        Fault::status(503).matching("slow").times(4),
    ]);
    // Recording what was accepted needs this table, recording what failed does not.
    locker.batch_execute("BEGIN; LOCK TABLE klaviyo.delivery IN SHARE MODE").expect("locked");
    db.batch_execute(
        "BEGIN;
         SELECT klaviyo_track_event('A', external_id => 'quick'), klaviyo_track_event('A', external_id => 'slow');
         COMMIT",
    )
    .expect("queued");
    shop.eventually("two calls have failed", PATIENCE, || shop.sandbox.stats().answered(503) >= 2);
    locker.batch_execute("ROLLBACK").expect("unlocked");
    assert_eq!(shop.drain_soon().dead, 0);
    assert_eq!(wait_for_worker(&mut db), worker, "the worker has not ended");
    let attempts: i32 = db
        .query_one("SELECT attempts FROM klaviyo.delivery WHERE key = '{external_id:slow}'", &[])
        .expect("delivered")
        .get(0);
    assert_eq!(attempts, 5);
}

/// Events that waited through a pause of the account are recorded and start no flows; those of now do.
#[test]
fn a_stale_event_starts_no_flow() {
    let shop = Shop::start();
    let mut db = shop.connect();
    let set = |db: &mut Client, action: &str| {
        db.execute("SELECT klaviyo_set_account(stale_after => '1 second', stale_action => $1)", &[&action])
            .and_then(|_| db.execute("SELECT klaviyo_pause_account()", &[]))
            .expect("set and paused");
    };
    set(&mut db, "backfill");
    place(&mut db, 1);
    db.execute("SELECT klaviyo_upsert_profile(external_id => 'a state')", &[]).expect("queued");
    thread::sleep(Duration::from_millis(1_100));
    db.execute("SELECT klaviyo_resume_account()", &[]).expect("resumed");
    shop.drain_soon();
    set(&mut db, "dead_letter");
    let stale = place(&mut db, 2);
    thread::sleep(Duration::from_millis(1_100));
    db.execute("SELECT klaviyo_resume_account()", &[]).expect("resumed");
    shop.eventually("the stale event is put aside", PATIENCE, || shop.backlog().dead == 1);
    let code: String =
        query(&mut db, "SELECT code FROM klaviyo.dead_letter WHERE message_id = $1::text::uuid", &[&stale]);
    assert_eq!(code, "stale");
    // Whoever redrives it wants it sent; a day late it still starts nothing.
    db.execute("SELECT klaviyo_redrive(code => 'stale')", &[]).expect("redriven");
    shop.drain_soon();
    db.execute("SELECT klaviyo_set_account(stale_after => '1 day')", &[]).expect("set");
    place(&mut db, 3);
    assert_eq!(shop.drain_soon().dead, 0);
    let backfill = |order: i64| {
        let receipts = shop.sandbox.receipts();
        let sent = receipts.iter().find(|receipt| receipt.at(ORDER).and_then(Value::as_i64) == Some(order));
        sent.expect("sent").at("data.attributes.backfill").cloned()
    };
    assert_eq!([1, 2, 3].map(backfill), [Some(Value::Bool(true)), Some(Value::Bool(true)), None]);
    assert_eq!(shop.sandbox.profiles().len(), 4);
    shop.assert_requests_conform();
}
