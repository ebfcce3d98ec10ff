//! Webhooks, and what they can be told of.

use harness::{Cluster, Sandbox, WEBHOOK_CALLS};
use serde_json::json;

use super::hand::{HEADERS, Hand};

#[test]
fn the_sandbox_answers_calls_about_webhooks_as_the_document_says() {
    let Some(document) = super::document() else { return };
    // For its directory only.
    let cluster = Cluster::builder().preload(false).start();
    let sandbox = Sandbox::builder().arguments(["--rates", "off"]).start(cluster.directory());
    let mut hand = Hand::new(&sandbox, &document);
    let topics = hand.send("GET", "/api/webhook-topics", &HEADERS, "", &[200]);
    let topic = topics["data"][0]["id"].as_str().expect("an id").to_owned();
    hand.send("GET", &format!("/api/webhook-topics/{topic}"), &HEADERS, "", &[200]);
    hand.send("GET", "/api/webhook-topics/nothing", &HEADERS, "", &[404]);

    let topics = json!({"webhook-topics": {"data": [{"type": "webhook-topic", "id": topic}]}});
    let webhook = json!({"data": {"type": "webhook",
        "attributes": {
            "name": "Shop", "description": "What it is for", "endpoint_url": "https://shop.example/in",
            "secret_key": "a secret"},
        "relationships": topics,
    }});
    let made = hand.send("POST", "/api/webhooks", &HEADERS, &webhook.to_string(), &[201]);
    let id = made["data"]["id"].as_str().expect("an id").to_owned();
    let at = format!("/api/webhooks/{id}");
    hand.post("/api/webhooks", "{}", 400);
    hand.send("GET", "/api/webhooks", &HEADERS, "", &[200]);
    hand.send("GET", &at, &HEADERS, "", &[200]);
    let change = json!({"data": {"type": "webhook", "id": id,
        "attributes": {"name": "Other", "enabled": false, "secret_key": "another"},
        "relationships": topics,
    }});
    hand.send("PATCH", &at, &HEADERS, &change.to_string(), &[200]);
    hand.send("PATCH", &at, &HEADERS, "{}", &[400]);
    hand.send("DELETE", &at, &HEADERS, "", &[204]);
    hand.send("GET", &at, &HEADERS, "", &[404]);

    let accepted: Vec<_> = sandbox.receipts().into_iter().filter(|receipt| receipt.accepted).collect();
    document.assert_requests(&accepted);
    super::assert_made(&accepted, &WEBHOOK_CALLS);
}
