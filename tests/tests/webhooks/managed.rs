//! System webhooks that are made at Klaviyo from here: their secret is known to Klaviyo and to us, and stands in no message.

use harness::{Fault, PATIENCE, Shop, count, query, queued, sql};
use serde_json::json;

use super::hand_in;

const TOPIC: &str = "event:klaviyo.opened_email";
const SECRET: &str = "a \"secret\" of our own";

/// How many rows of our tables, but those of secrets, have the secret in them.
const TRACES: &str = "
    SELECT (SELECT count(*) FROM klaviyo.outbox AS t WHERE t.payload::text LIKE '%of our own%')
           + (SELECT count(*) FROM klaviyo.dead_letter AS t WHERE t.payload::text LIKE '%of our own%')
           + (SELECT count(*) FROM klaviyo.answer AS t WHERE t.body::text LIKE '%of our own%')
           + (SELECT count(*) FROM klaviyo.delivery AS t WHERE t::text LIKE '%of our own%')";

#[test]
fn a_webhook_is_made_known_and_deleted() {
    let shop = Shop::builder().quick_retries().start();
    let mut db = shop.connect();
    sql(&mut db, "SELECT klaviyo_pause_account()");
    let made = queued(
        &mut db,
        &format!(
            "klaviyo_webhook_create('Shop', 'https://shop.example/in', '{{{TOPIC}}}', secret => $${SECRET}$$)"
        ),
    );
    assert_eq!(count(&mut db, TRACES), 0);
    assert!(!String::from_utf8_lossy(&shop.cluster.dump("shop")).contains("of our own"));
    // Klaviyo will not have it at first.
    shop.sandbox.set_faults(&[Fault::status(400).path("/api/webhooks").times(1)]);
    sql(&mut db, "SELECT klaviyo_resume_account()");
    shop.wait_for_status(&made, "dead");
    assert_eq!(count(&mut db, TRACES), 0);
    sql(&mut db, "SELECT klaviyo_redrive(kind => 'call')");
    shop.wait_for_status(&made, "accepted");
    let known =
        "SELECT count(*) FROM klaviyo.webhook AS w JOIN klaviyo.delivery AS d ON d.klaviyo_id = w.webhook";
    shop.eventually("it is known", PATIENCE, || count(&mut db, known) == 1);
    assert_eq!(count(&mut db, TRACES), 0);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.message_secret"), 0);
    // What Klaviyo signs with it is taken.
    let requests = shop.sandbox.webhook_requests(&json!([{"topic": TOPIC, "profile_id": "P"}]));
    assert_eq!(hand_in(&mut db, &requests[0]), 1);
    // It is among those there are, and what it may be told of is known.
    let id: String = query(&mut db, "SELECT webhook FROM klaviyo.webhook", &[]);
    for (call, expected) in [("klaviyo_webhook_list()", id.as_str()), ("klaviyo_webhook_topics()", TOPIC)] {
        let asked = queued(&mut db, call);
        let answer: String =
            query(&mut db, "SELECT answer::text FROM klaviyo_await($1::text::uuid, '1 minute')", &[&asked]);
        assert!(answer.contains(expected), "{call}: {answer}");
    }
    // Another one, with a secret that nobody knows.
    let made = queued(
        &mut db,
        &format!("klaviyo_webhook_create('Other', 'https://shop.example/other', '{{{TOPIC}}}')"),
    );
    shop.wait_for_status(&made, "accepted");
    shop.eventually("it is known", PATIENCE, || count(&mut db, "SELECT count(*) FROM klaviyo.webhook") == 2);
    let requests = shop.sandbox.webhook_requests(&json!([{"topic": TOPIC, "profile_id": "P"}]));
    assert_eq!(requests.iter().map(|request| hand_in(&mut db, request)).sum::<i32>(), 2);
    let gone = queued(&mut db, &format!("klaviyo_webhook_delete('{id}')"));
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.webhook"), 1);
    shop.wait_for_status(&gone, "accepted");
    assert_eq!(shop.sandbox.webhook_requests(&json!([{"topic": TOPIC, "profile_id": "P"}])).len(), 1);
    shop.assert_requests_conform();
}

/// A copy has no secret to give: its message is put aside, and not sent without.
#[test]
fn without_its_secret_it_is_not_made() {
    let shop = Shop::builder().quick_retries().start();
    let mut db = shop.connect();
    // As if it came from a dump: whoever reads it finds none.
    sql(&mut db, "BEGIN");
    let made =
        queued(&mut db, &format!("klaviyo_webhook_create('Shop', 'https://shop.example/in', '{{{TOPIC}}}')"));
    sql(&mut db, "DELETE FROM klaviyo.message_secret; COMMIT");
    shop.wait_for_status(&made, "dead");
    assert_eq!(query::<String>(&mut db, "SELECT code FROM klaviyo.dead_letter", &[]), "no_secret");
    assert!(shop.sandbox.receipts().iter().all(|call| call.path != "/api/webhooks"));
}
