//! `klaviyo_call()`: any call of Klaviyo's API, in its own lane, with its answer.

use harness::{Fault, PATIENCE, SANDBOX_KEY, Shop, count, query, queued, sql, status};
use postgres::Client;

fn shop() -> Shop {
    Shop::builder().quick_retries().start()
}

/// What Klaviyo has answered, a part of it.
fn answered(db: &mut Client, message: &str, path: &str) -> Option<String> {
    let answer = "SELECT (klaviyo_result($1::text::uuid)).answer #>> $2::text::text[]";
    query(db, answer, &[&message, &path])
}

fn code(db: &mut Client, message: &str) -> String {
    query(db, "SELECT code FROM klaviyo_result($1::text::uuid)", &[&message])
}

/// Calls that have arrived.
fn calls(shop: &Shop, method: &str, path: &str) -> usize {
    let calls = shop.sandbox.receipts();
    calls.iter().filter(|call| call.method == method && call.path == path).count()
}

fn create(name: &str) -> String {
    let body = format!(r#"{{"data": {{"type": "list", "attributes": {{"name": "{name}"}}}}}}"#);
    format!("klaviyo_call('POST', '/api/lists', '{body}')")
}

#[test]
fn what_it_brings_is_in_the_result() {
    let shop = shop();
    let mut db = shop.connect();
    let made = queued(&mut db, &create("VIP"));
    let awaited = "SELECT klaviyo_id FROM klaviyo_await($1::text::uuid, '1 minute')";
    let id: String = query(&mut db, awaited, &[&made]);
    assert_eq!(answered(&mut db, &made, "{data,attributes,name}").as_deref(), Some("VIP"));
    let path = format!("/api/lists/{id}");
    // Of an endpoint that we use for nothing else.
    let read = queued(&mut db, &format!("klaviyo_call('get', '{path}')"));
    shop.wait_for_status(&read, "accepted");
    assert_eq!(answered(&mut db, &read, "{data,id}").as_deref(), Some(id.as_str()));
    let lane = "SELECT path FROM klaviyo.lane WHERE lane = 'get-list' AND last_success_at IS NOT NULL";
    assert_eq!(query::<String>(&mut db, lane, &[]), "/api/lists/{id}");
    // In order, being of one path.
    let body =
        |name: &str| format!(r#"{{"data":{{"type":"list","id":"{id}","attributes":{{"name":"{name}"}}}}}}"#);
    sql(&mut db, "BEGIN");
    for name in ["A", "B", "C"] {
        sql(&mut db, &format!("SELECT klaviyo_call('PATCH', '{path}', '{}')", body(name)));
    }
    let last = queued(&mut db, &format!("klaviyo_call('GET', '{path}')"));
    let gone = queued(&mut db, &format!("klaviyo_call('DELETE', '{path}')"));
    sql(&mut db, "COMMIT");
    shop.wait_for_status(&gone, "accepted");
    assert_eq!(answered(&mut db, &last, "{data,attributes,name}").as_deref(), Some("C"));
    assert_eq!(answered(&mut db, &gone, "{}"), None, "there is nothing to say");
    let missing = queued(&mut db, &format!("klaviyo_call('GET', '{path}')"));
    shop.wait_for_status(&missing, "dead");
    assert_eq!(code(&mut db, &missing), "not_found");
    shop.assert_requests_conform();
}

/// What may have been done is not done again, whether the answer or the worker was lost.
#[test]
fn what_changes_something_is_done_once_or_somebody_decides() {
    let mut shop = shop();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::reset_after().method("POST").times(1)]);
    let lost = queued(&mut db, &create("Lost"));
    shop.wait_for_status(&lost, "dead");
    assert_eq!(code(&mut db, &lost), "ambiguous");
    let hint = harness::hint(&mut db, &lost).unwrap_or_default();
    assert!(hint.contains("klaviyo_redrive()") && hint.contains("klaviyo_discard()"), "{hint}");

    shop.sandbox.set_faults(&[Fault::hang_after().method("POST")]);
    let crashed = queued(&mut db, &create("Crashed"));
    shop.eventually("it is under way", PATIENCE, || calls(&shop, "POST", "/api/lists") == 2);
    let announced = "SELECT may_be_done FROM klaviyo.retry";
    assert!(query::<bool>(&mut db, announced, &[]));
    shop.crash_worker(&mut db);
    db = shop.connect();
    shop.sandbox.clear_faults();
    shop.wait_for_status(&crashed, "dead");
    assert_eq!(code(&mut db, &crashed), "ambiguous");
    assert_eq!(calls(&shop, "POST", "/api/lists"), 2, "neither went again");

    // Somebody has decided.
    sql(&mut db, &format!("SELECT klaviyo_discard('{lost}'), klaviyo_redrive('{crashed}')"));
    shop.wait_for_status(&crashed, "accepted");
    assert_eq!(calls(&shop, "POST", "/api/lists"), 3);
}

/// Of what was numbered elsewhere, or restored from a dump, the original may have been sent.
#[test]
fn what_may_have_been_done_elsewhere_is_not_done_here() {
    let shop = shop();
    let mut db = shop.connect();
    sql(&mut db, "SELECT klaviyo_pause_account()");
    let made = queued(&mut db, &create("VIP"));
    sql(
        &mut db,
        "INSERT INTO klaviyo.outbox (message_id, account, kind, key, payload, enqueued_at)
         SELECT gen_random_uuid(), account, kind, key, payload, enqueued_at FROM klaviyo.outbox",
    );
    sql(&mut db, "SELECT klaviyo_resume_account()");
    let backlog = shop.drain_soon();
    assert_eq!((backlog.dead, status(&mut db, &made).as_str()), (1, "accepted"));
    let dead = "SELECT code FROM klaviyo.dead_letter";
    assert_eq!(query::<String>(&mut db, dead, &[]), "ambiguous");
    assert_eq!(calls(&shop, "POST", "/api/lists"), 1);
}

/// Nothing that is refused, however large it is, keeps anything from being recorded.
#[test]
fn what_is_large_is_recorded() {
    let shop = shop();
    let mut db = shop.connect();
    let random = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 100) AS n)";
    let long = queued(
        &mut db,
        &format!(
            "klaviyo_call('POST', '/api/lists', jsonb_build_object('data', jsonb_build_object('email', {random} || '@b.example')))"
        ),
    );
    let path = queued(&mut db, "klaviyo_call('GET', '/api/lists/' || repeat('x%20', 240))");
    for message in [&long, &path] {
        shop.wait_for_status(message, "dead");
    }
}

/// A call that Klaviyo has not taken is made again; so is one that only asks.
#[test]
fn what_was_not_done_is_done() {
    let mut shop = shop();
    let mut db = shop.connect();
    let list = shop.sandbox.make_list("VIP");
    shop.sandbox.set_faults(&[
        Fault::throttle(0).method("POST").times(1),
        Fault::status(503).method("POST").times(1),
        Fault::reset_after().method("GET").times(1),
        Fault::status(500).method("GET").times(1),
        Fault::malformed().method("GET").times(1),
        Fault::reset_after().method("DELETE").times(1),
    ]);
    let made = queued(&mut db, &create("Other"));
    let read = queued(&mut db, &format!("klaviyo_call('GET', '/api/lists/{list}')"));
    let gone = queued(&mut db, &format!("klaviyo_call('DELETE', '/api/lists/{list}')"));
    for message in [&made, &read, &gone] {
        shop.wait_for_status(message, "accepted");
    }
    // A worker that ends in the middle of a question asks again.
    shop.sandbox.set_faults(&[Fault::hang().method("GET").path("/api/lists").times(1)]);
    let asked = queued(&mut db, "klaviyo_call('GET', '/api/lists')");
    shop.eventually("it is under way", PATIENCE, || calls(&shop, "GET", "/api/lists") == 1);
    shop.crash_worker(&mut db);
    db = shop.connect();
    shop.wait_for_status(&asked, "accepted");
    assert_eq!(answered(&mut db, &asked, "{data,0,attributes,name}").as_deref(), Some("Other"));
}

/// Klaviyo's limits hold for a call that we know only by its path, across a restart and for two databases together.
#[test]
fn its_limits_are_kept() {
    let mut shop = Shop::builder().quick_retries().rate_share(1.0).start();
    shop.add_database("other");
    // 75 a second and 750 a minute.
    let ask = "SELECT klaviyo_call('GET', format('/api/lists/L%s', n)) FROM generate_series(1, 150) AS n";
    let (mut db, mut other) = (shop.connect(), shop.cluster.connect("other"));
    sql(&mut other, ask);
    sql(&mut db, ask);
    let done = "SELECT count(*) FROM klaviyo.dead_letter";
    shop.eventually("a part is through", PATIENCE, || count(&mut db, done) > 20);
    drop((db, other));
    shop.cluster.restart(harness::Stop::Fast);
    let (mut db, mut other) = (shop.connect(), shop.cluster.connect("other"));
    shop.eventually("all is through", PATIENCE, || count(&mut db, done) + count(&mut other, done) == 300);
    let throttled = shop.sandbox.stats().answered(429);
    assert_eq!(throttled, 0, "never too fast");
}

#[test]
fn its_answer_is_as_secret_and_as_short_lived_as_a_delivery() {
    let shop = Shop::builder().quick_retries().setting("klaviyo.poll_interval", "200ms").start();
    let mut db = shop.connect();
    sql(
        &mut db,
        "SELECT klaviyo_upsert_profile('ada@shop.example'), klaviyo_upsert_profile('bob@shop.example')",
    );
    shop.drain_soon();
    let of = |who: &str| {
        format!(r#"klaviyo_call('GET', '/api/profiles?filter=equals(email,"{who}@shop.example")')"#)
    };
    let (ada, bob) = (queued(&mut db, &of("ada")), queued(&mut db, &of("bob")));
    let both = queued(&mut db, "klaviyo_call('GET', '/api/profiles')");
    let bad = queued(&mut db, "klaviyo_call('GET', '/api/profiles?filter=ada%40shop.example')");
    for message in [&ada, &bob, &both] {
        shop.wait_for_status(message, "accepted");
    }
    shop.wait_for_status(&bad, "dead");
    let bodies = "SELECT count(*) FROM klaviyo.answer WHERE body::text LIKE '%ada@shop.example%'";
    assert_eq!(count(&mut db, bodies), 2);
    let request = queued(&mut db, "klaviyo_request_deletion('Ada@shop.example')");
    shop.wait_for_status(&request, "accepted");
    let purged = "SELECT count(*) FROM klaviyo.deletion WHERE purged_at IS NOT NULL";
    shop.eventually("she is purged", PATIENCE, || count(&mut db, purged) == 1);
    assert_eq!(count(&mut db, bodies), 0);
    assert_eq!(status(&mut db, &bad), "unknown", "nor is the dead letter left that names her");
    assert_eq!(answered(&mut db, &bob, "{data,0,attributes,email}").as_deref(), Some("bob@shop.example"));
    // What was held up until she was purged brings her back to none of our tables.
    shop.sandbox.set_faults(&[Fault::throttle(1).method("GET").times(1)]);
    let late = queued(&mut db, &of("ada"));
    let refused = queued(&mut db, "klaviyo_call('GET', '/api/profiles?filter=ada%40shop.example&x=1')");
    shop.wait_for_status(&late, "accepted");
    shop.wait_for_status(&refused, "dead");
    assert_eq!(answered(&mut db, &late, "{}"), None);
    let payload = "SELECT payload::text FROM klaviyo.dead_letter WHERE message_id = $1::text::uuid";
    assert_eq!(query::<String>(&mut db, payload, &[&refused]), "{}");
    // The key is in none.
    let keys = format!("SELECT count(*) FROM klaviyo.answer AS a WHERE a::text LIKE '%{SANDBOX_KEY}%'");
    assert_eq!(count(&mut db, &keys), 0);
    sql(&mut db, "UPDATE klaviyo.answer SET answered_at = answered_at - interval '40 days'");
    shop.cluster.set("klaviyo.delivery_retention", "1d");
    shop.eventually("it is dropped", PATIENCE, || count(&mut db, "SELECT count(*) FROM klaviyo.answer") == 0);
}
