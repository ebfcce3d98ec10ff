//! What is refused by Klaviyo, or by something on the way there: it holds up what it is about and nothing else.

use harness::{Fault, Ledger, ORDER, PATIENCE, Shop, ShopBuilder, place, query, status};
use postgres::Client;

fn shop() -> ShopBuilder {
    Shop::builder()
        .setting("klaviyo.poll_interval", "1s")
        .setting("klaviyo.retry_min_delay", "20ms")
        .setting("klaviyo.retry_max_delay", "300ms")
}

/// Queues a state of a profile; returns the message's id.
fn state(db: &mut Client, person: &str) -> String {
    query(db, "SELECT klaviyo_upsert_profile(external_id => $1, first_name => 'Ada')::text", &[&person])
}

/// Why calls of the account are refused, if any are.
fn stopped(db: &mut Client) -> Option<String> {
    query(db, "SELECT max(stopped_reason) FROM klaviyo.account_status WHERE stopped_at IS NOT NULL", &[])
}

fn wait_for_stop(shop: &Shop, db: &mut Client) -> String {
    wait_for_reason(shop, "calls are refused", || stopped(db))
}

/// Waits until there is a reason, and says it.
fn wait_for_reason(shop: &Shop, what: &str, mut look: impl FnMut() -> Option<String>) -> String {
    let mut reason = None;
    shop.eventually(what, PATIENCE, || {
        reason = look();
        reason.is_some()
    });
    reason.expect("found above")
}

fn assert_accepted(shop: &Shop, orders: impl IntoIterator<Item = i64>) {
    let receipts = shop.sandbox.receipts();
    Ledger::new(&receipts, ORDER).assert_accepted_exactly(orders);
    shop.assert_requests_conform();
}

/// A refusal that is always the same message's, while the others pass.
fn assert_put_aside(refusal: &Fault, reason: &str) {
    let shop = shop().setting("klaviyo.max_strikes", "3").start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[refusal.clone().matching("\"customer-0\"")]);
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
    let found: String = query(&mut db, "SELECT reason FROM klaviyo.dead_letter WHERE http_status = 403", &[]);
    assert!(found.contains(reason), "{found}");
    shop.eventually("nothing is refused", PATIENCE, || stopped(&mut db).is_none());
}

#[test]
fn a_message_that_a_firewall_refuses_is_put_aside_alone() {
    assert_put_aside(&Fault::foreign(403), "is the base URL right?");
}

#[test]
fn a_message_that_klaviyo_refuses_like_a_key_is_put_aside_alone() {
    assert_put_aside(&Fault::status(403).error("permission_denied", "No."), "events:write");
}

/// Nothing is Klaviyo's answer: the breaker opens, nothing is put aside, and all goes when it is.
#[test]
fn a_wrong_base_url_is_asked_about_and_costs_nothing() {
    let shop = shop().setting("klaviyo.max_strikes", "1").start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::foreign(404)]);
    for order in 1..=20 {
        place(&mut db, order);
    }
    shop.eventually("the breaker is open", PATIENCE, || {
        query(&mut db, "SELECT EXISTS (SELECT FROM klaviyo.lane WHERE state = 'breaker open')", &[])
    });
    // The breaker is seen in shared memory, before what opened it is recorded.
    let last_error = "SELECT min(last_error) FROM klaviyo.retry";
    let reason = wait_for_reason(&shop, "a reason is recorded", || query(&mut db, last_error, &[]));
    assert!(reason.contains("is the base URL right?"), "{reason}");
    shop.eventually("it was tried many times", PATIENCE, || shop.sandbox.faults()[0].fired >= 30);
    shop.sandbox.clear_faults();
    assert_eq!(shop.drain_soon().dead, 0);
    assert_accepted(&shop, 1..=20);
}

#[test]
fn a_key_that_may_only_write_events_writes_events() {
    let shop = shop().start();
    let mut db = shop.connect();
    let missing = Fault::status(403).error("permission_denied", "You do not have permission.");
    shop.sandbox.set_faults(&[missing.path("/api/profile-import")]);
    let ada = state(&mut db, "ada");
    let reason = wait_for_stop(&shop, &mut db);
    assert!(reason.contains("/api/profile-import") && reason.contains("profiles:write"), "{reason}");
    let bob = state(&mut db, "bob");
    for order in 1..=50 {
        place(&mut db, order);
    }
    shop.eventually("all events arrive", PATIENCE, || {
        query::<i64>(&mut db, "SELECT count(*) FROM klaviyo.delivery WHERE kind = 'event'", &[]) == 50
    });
    assert_eq!(stopped(&mut db), Some(reason), "profiles are refused still");
    assert_eq!(shop.backlog().dead, 0);
    shop.sandbox.clear_faults();
    assert_eq!(shop.drain_soon().dead, 0);
    assert_eq!([&ada, &bob].map(|id| status(&mut db, id)), ["accepted", "accepted"]);
    assert_accepted(&shop, 1..=50);
    shop.eventually("nothing is refused", PATIENCE, || stopped(&mut db).is_none());
}

/// The next probe is an hour away.
#[test]
fn a_check_that_passes_ends_a_stop() {
    let shop = Shop::builder().setting("klaviyo.retry_max_delay", "1h").start();
    let mut db = shop.connect();
    let missing = Fault::status(403).error("permission_denied", "You do not have permission.");
    shop.sandbox.set_faults(&[missing.path("/api/profile-import").times(1)]);
    state(&mut db, "ada");
    wait_for_stop(&shop, &mut db);
    db.query("SELECT klaviyo_check_account()", &[]).expect("checked");
    shop.eventually("nothing is refused", PATIENCE, || stopped(&mut db).is_none());
    assert_eq!(shop.drain_soon().dead, 0);
}
