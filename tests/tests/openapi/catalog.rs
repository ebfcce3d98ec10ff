//! The catalog, and coupons' codes.

use harness::{CATALOG_CALLS, Cluster, Sandbox};
use serde_json::{Value, json};

use super::hand::{HEADERS, Hand};

/// Of each kind of thing: what many are called, what one is, and the attributes of a new one.
fn things() -> [(&'static str, &'static str, Value); 3] {
    let texts =
        json!({"title": "T", "description": "D", "url": "https://s.example", "custom_metadata": {"a": 1}});
    let mut variant = texts.clone();
    for (name, value) in [("sku", json!("S")), ("price", json!(9.9)), ("inventory_quantity", json!(7))] {
        variant[name] = value;
    }
    [
        ("categories", "category", json!({"name": "N"})),
        ("items", "item", texts),
        ("variants", "variant", variant),
    ]
}

fn id(external_id: &str) -> String {
    format!("$custom:::$default:::{external_id}")
}

/// A new thing, and a change of it.
fn drafts(one: &str, external_id: &str, attributes: &Value) -> (Value, Value) {
    let resource = format!("catalog-{one}");
    let relationships = match one {
        "item" => json!({"categories": {"data": [{"type": "catalog-category", "id": id("a")}]}}),
        "variant" => json!({"item": {"data": {"type": "catalog-item", "id": id("a")}}}),
        _ => json!({"items": {"data": []}}),
    };
    let mut new = attributes.clone();
    new["external_id"] = external_id.into();
    let mut made = json!({"type": resource, "attributes": new});
    let mut changed = json!({"type": resource, "id": id(external_id), "attributes": attributes});
    made["relationships"] = relationships.clone();
    if one != "variant" {
        changed["relationships"] = relationships;
    }
    (made, changed)
}

/// Makes a job of these, and waits until it is complete.
fn job(hand: &mut Hand, path: &str, members: &str, entries: &[Value]) -> Value {
    let resource = path.trim_start_matches("/api/").trim_end_matches('s');
    let body = json!({"data": {"type": resource, "attributes": {members: {"data": entries}}}});
    let made = hand.send("POST", path, &HEADERS, &body.to_string(), &[202]);
    let at = format!("{path}/{}", made["data"]["id"].as_str().expect("an id"));
    let mut told = Value::Null;
    harness::eventually("the job is complete", harness::PATIENCE, || {
        told = hand.send("GET", &at, &HEADERS, "", &[200])["data"]["attributes"].clone();
        told["status"] == "complete"
    });
    hand.send("GET", &format!("{path}/nobody"), &HEADERS, "", &[404]);
    let listed =
        hand.send("GET", &format!("{path}?filter=equals(status,%22complete%22)"), &HEADERS, "", &[200]);
    assert_eq!(listed["data"][0]["id"], made["data"]["id"]);
    hand.send("GET", &format!("{path}?sort=id"), &HEADERS, "", &[400]);
    hand.post(
        path,
        &json!({"data": {"type": resource, "attributes": {members: {"data": []}}}}).to_string(),
        400,
    );
    told
}

#[test]
fn the_sandbox_answers_calls_about_the_catalog_as_the_document_says() {
    let Some(document) = super::document() else { return };
    // For its directory only.
    let cluster = Cluster::builder().preload(false).start();
    let sandbox = Sandbox::builder().arguments(["--rates", "off"]).start(cluster.directory());
    let mut hand = Hand::new(&sandbox, &document);
    for (many, one, attributes) in things() {
        let path = format!("/api/catalog-{many}");
        let (made, changed) = drafts(one, "a", &attributes);
        let body = json!({"data": made}).to_string();
        hand.post(&path, &body, 201);
        hand.post(&path, &body, 409);
        hand.post(&path, "{}", 400);
        let at = format!("{path}/{}", id("a"));
        hand.send("PATCH", &at, &HEADERS, &json!({"data": changed}).to_string(), &[200]);
        hand.send("PATCH", &at, &HEADERS, "{}", &[400]);
        hand.send("GET", &at, &HEADERS, "", &[200]);
        hand.send("GET", &path, &HEADERS, "", &[200]);
        hand.send("GET", &format!("{path}?x=1"), &HEADERS, "", &[400]);
        hand.send("GET", &format!("{path}/nobody"), &HEADERS, "", &[404]);
        let jobs = |act: &str| format!("/api/catalog-{one}-bulk-{act}-jobs");
        let (other, change) = drafts(one, "b", &attributes);
        let told = job(&mut hand, &jobs("create"), many, &[other.clone(), made.clone()]);
        assert_eq!(told["failed_count"], 1, "{told}");
        assert_eq!(job(&mut hand, &jobs("update"), many, &[change])["failed_count"], 0);
        let gone = json!({"type": other["type"], "id": id("b")});
        assert_eq!(job(&mut hand, &jobs("delete"), many, &[gone])["completed_count"], 1);
    }
    for (many, ..) in things().into_iter().rev() {
        let at = format!("/api/catalog-{many}/{}", id("a"));
        hand.send("DELETE", &at, &HEADERS, "", &[204]);
        hand.send("DELETE", &at, &HEADERS, "", &[404]);
    }

    let coupon =
        json!({"data": {"type": "coupon", "attributes": {"external_id": "SUMMER", "description": "D"}}});
    hand.post("/api/coupons", &coupon.to_string(), 201);
    hand.post("/api/coupons", &coupon.to_string(), 409);
    hand.send("GET", "/api/coupons/SUMMER", &HEADERS, "", &[200]);
    let code = |code: &str, coupon: &str| {
        json!({"type": "coupon-code", "attributes": {"unique_code": code, "expires_at": "2030-01-01T00:00:00Z"},
            "relationships": {"coupon": {"data": {"type": "coupon", "id": coupon}}}})
    };
    for (of, status) in [("SUMMER", 200), ("SUMMER", 409), ("WINTER", 404)] {
        hand.post("/api/coupon-codes", &json!({"data": code("A", of)}).to_string(), status);
    }
    let codes = [code("B", "SUMMER"), code("A", "SUMMER"), code("C", "WINTER")];
    let told = job(&mut hand, "/api/coupon-code-bulk-create-jobs", "coupon-codes", &codes);
    assert_eq!(told["failed_count"], 2, "{told}");
    hand.send("GET", "/api/coupon-codes/SUMMER-B", &HEADERS, "", &[200]);
    hand.send("GET", "/api/coupons/SUMMER/coupon-codes", &HEADERS, "", &[200]);

    let accepted: Vec<_> = sandbox.receipts().into_iter().filter(|receipt| receipt.accepted).collect();
    document.assert_requests(&accepted);
    super::assert_made(&accepted, &CATALOG_CALLS);
}
