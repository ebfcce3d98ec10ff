//! Webhooks: what they are told of, and how requests are signed.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::client::{Sandbox, TOPICS, WEBHOOKS};

fn webhook(topics: &[&str]) -> Value {
    let topic = |id: &&str| json!({"type": "webhook-topic", "id": id});
    let topics: Vec<Value> = topics.iter().map(topic).collect();
    json!({"data": {"type": "webhook",
        "attributes": {
            "name": "Shop", "endpoint_url": "https://shop.example/in?key=7", "secret_key": "a secret"},
        "relationships": {"webhook-topics": {"data": topics}},
    }})
}

const OPENED: &str = "event:klaviyo.opened_email";
const CLICKED: &str = "event:klaviyo.clicked_email";

/// What webhooks would be told.
fn requests(sandbox: &Sandbox, events: &Value) -> Vec<Value> {
    let answer = sandbox.control("POST", "webhooks", json!({ "events": events }));
    answer["requests"].as_array().unwrap().clone()
}

#[test]
fn a_webhook_is_told_of_its_topics() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let made = api.post(WEBHOOKS, &webhook(&[OPENED])).unwrap();
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let id = made["data"]["id"].as_str().unwrap();
    let shown = &made["data"]["attributes"];
    assert_eq!(shown["endpoint_url"], "https://shop.example");
    assert_eq!(shown["enabled"], true);
    assert!(shown.get("secret_key").is_none());
    let other = api.post(WEBHOOKS, &webhook(&[CLICKED, OPENED])).unwrap().json()["data"]["id"].clone();

    let events = json!([
        {"topic": OPENED, "profile_id": "P", "properties": {"Subject": "Tea"}},
        {"topic": CLICKED, "profile_id": "Q"},
        {"topic": "event:klaviyo.received_email", "profile_id": "P"},
    ]);
    let told = requests(&sandbox, &events);
    let ids: Vec<&Value> = told.iter().map(|request| &request["headers"]["Klaviyo-Webhook-Id"]).collect();
    assert_eq!(ids, [&made["data"]["id"], &other]);
    let bodies = told.iter().map(|request| -> Value {
        assert_eq!(request["endpoint_url"], "https://shop.example/in?key=7");
        serde_json::from_str(request["body"].as_str().unwrap()).unwrap()
    });
    let bodies: Vec<Value> = bodies.collect();
    assert_eq!(bodies[0]["meta"]["klaviyo_webhook_id"], id);
    let first = &bodies[0]["data"][0];
    assert_eq!(bodies[0]["data"].as_array().unwrap().len(), 1);
    assert_eq!(first["topic"], OPENED);
    let payload = &first["payload"]["data"];
    assert_eq!(payload["id"], first["external_id"]);
    assert_eq!(payload["relationships"]["profile"]["data"]["id"], "P");
    assert_eq!(payload["attributes"]["event_properties"], json!({"Subject": "Tea"}));
    assert_eq!(bodies[1]["data"].as_array().unwrap().len(), 2);
    assert_eq!(bodies[1]["data"][0], *first, "it is the same event to all");
}

#[test]
fn requests_are_signed_with_the_secret_of_their_webhook() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let made = api.post(WEBHOOKS, &webhook(&[OPENED])).unwrap().json();
    let path = format!("{WEBHOOKS}/{}", made["data"]["id"].as_str().unwrap());
    let events = json!([{"topic": OPENED, "profile_id": "P"}]);
    let is_signed_with = |secret: &str| {
        let request = &requests(&sandbox, &events)[0];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(text(&request["body"]).as_bytes());
        mac.update(text(&request["headers"]["Klaviyo-Timestamp"]).as_bytes());
        let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        digits == text(&request["headers"]["Klaviyo-Signature"])
    };
    assert!(is_signed_with("a secret"));
    let change = |attributes: Value| json!({"data": {"type": "webhook", "id": made["data"]["id"], "attributes": attributes}});
    assert_eq!(api.request("PATCH", &path, &change(json!({"secret_key": "another"}))).unwrap().status, 200);
    assert!(is_signed_with("another"));
    let clicked = json!([{"topic": CLICKED, "profile_id": "P"}]);
    assert!(requests(&sandbox, &clicked).is_empty());
    let mut both = change(json!({}));
    both["data"]["relationships"] = webhook(&[CLICKED, OPENED])["data"]["relationships"].clone();
    assert_eq!(api.request("PATCH", &path, &both).unwrap().status, 200);
    assert_eq!(requests(&sandbox, &clicked).len(), 1);
    let off = api.request("PATCH", &path, &change(json!({"enabled": false}))).unwrap();
    assert_eq!(off.json()["data"]["attributes"]["enabled"], false);
    assert_eq!(off.json()["data"]["attributes"]["name"], "Shop", "what is not named stays");
    assert!(requests(&sandbox, &events).is_empty());
}

#[test]
fn a_webhook_is_found_until_it_is_deleted() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let made = api.post(WEBHOOKS, &webhook(&[OPENED])).unwrap().json();
    let path = format!("{WEBHOOKS}/{}", made["data"]["id"].as_str().unwrap());
    assert_eq!(api.get(&path).unwrap().json()["data"], made["data"]);
    assert_eq!(api.get(WEBHOOKS).unwrap().json()["data"], json!([made["data"]]));
    assert_eq!(api.request("DELETE", &path, &Value::Null).unwrap().status, 204);
    for (method, body) in [("GET", Value::Null), ("DELETE", Value::Null)] {
        assert_eq!(api.request(method, &path, &body).unwrap().status, 404);
    }
    assert_eq!(api.get(WEBHOOKS).unwrap().json()["data"], json!([]));
    assert!(requests(&sandbox, &json!([{"topic": OPENED, "profile_id": "P"}])).is_empty());
}

#[test]
fn topics_are_listed() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let topics = api.get(TOPICS).unwrap().json();
    let first = &topics["data"][0];
    assert!(topics["data"].as_array().unwrap().iter().any(|topic| topic["id"] == OPENED));
    assert_eq!(
        api.get(first["links"]["self"].as_str().unwrap().trim_end_matches('/')).unwrap().json()["data"],
        *first
    );
    assert_eq!(api.get(&format!("{TOPICS}/event:klaviyo.nothing")).unwrap().status, 404);
    let refused = api.post(WEBHOOKS, &webhook(&["event:klaviyo.nothing"])).unwrap();
    assert_eq!(refused.error()["source"]["pointer"], "/data/relationships/webhook-topics/data/0/id");
}

#[test]
fn a_reset_forgets_webhooks() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    assert_eq!(api.post(WEBHOOKS, &webhook(&[OPENED])).unwrap().status, 201);
    sandbox.control("POST", "reset", Value::Null);
    assert_eq!(api.get(WEBHOOKS).unwrap().json()["data"], json!([]));
}
