//! Consent, lists, and who is who.

use harness::{Cluster, PEOPLE_CALLS, Sandbox};
use serde_json::{Value, json};

use super::hand::{HEADERS, Hand};

const SUBSCRIBE: &str = "/api/profile-subscription-bulk-create-jobs";
const UNSUBSCRIBE: &str = "/api/profile-subscription-bulk-delete-jobs";

fn job(resource: &str, attributes: Value, profiles: &[Value], list: Option<&str>) -> String {
    let mut job = json!({"data": {"type": resource, "attributes": attributes}});
    job["data"]["attributes"]["profiles"] = json!({"data": profiles});
    if let Some(list) = list {
        job["data"]["relationships"] = json!({"list": {"data": {"type": "list", "id": list}}});
    }
    job.to_string()
}

fn person(attributes: Value) -> Value {
    json!({"type": "profile", "attributes": attributes})
}

#[test]
fn the_sandbox_answers_calls_about_people_as_the_document_says() {
    let Some(document) = super::document() else { return };
    // For its directory only.
    let cluster = Cluster::builder().preload(false).start();
    let sandbox = Sandbox::builder().arguments(["--rates", "off"]).start(cluster.directory());
    let mut hand = Hand::new(&sandbox, &document);
    let list =
        json!({"data": {"type": "list", "attributes": {"name": "News", "opt_in_process": "single_opt_in"}}});
    let made = hand.send("POST", "/api/lists", &HEADERS, &list.to_string(), &[201]);
    let list = made["data"]["id"].as_str().expect("an id");

    let marketing = |consent: &str| json!({"marketing": {"consent": consent}});
    let ada = |consent: &str| {
        let subscriptions = json!({"email": marketing(consent), "sms": marketing(consent)});
        person(
            json!({"email": "ada@shop.example", "phone_number": "+15005550006", "subscriptions": subscriptions}),
        )
    };
    let past = json!({"marketing": {"consent": "SUBSCRIBED", "consented_at": "2020-01-02T03:04:05Z"}});
    let bob = person(json!({"email": "bob@shop.example", "subscriptions": {"email": past}}));
    let create = "profile-subscription-bulk-create-job";
    let historical = json!({"historical_import": true, "custom_source": "Fair"});
    hand.post(SUBSCRIBE, &job(create, json!({}), &[ada("SUBSCRIBED")], Some(list)), 202);
    hand.post(SUBSCRIBE, &job(create, historical, std::slice::from_ref(&bob), Some(list)), 202);
    hand.post(SUBSCRIBE, &job(create, json!({}), &[bob], None), 400);
    hand.post(SUBSCRIBE, &job(create, json!({}), &[ada("SUBSCRIBED")], Some("Nobody")), 404);
    let delete = "profile-subscription-bulk-delete-job";
    hand.post(UNSUBSCRIBE, &job(delete, json!({}), &[ada("UNSUBSCRIBED")], None), 202);
    hand.post(UNSUBSCRIBE, &job(delete, json!({}), &[ada("SUBSCRIBED")], None), 400);
    for operation in ["create", "delete"] {
        let path = format!("/api/profile-suppression-bulk-{operation}-jobs");
        let resource = format!("profile-suppression-bulk-{operation}-job");
        let emails =
            [person(json!({"email": "ada@shop.example"})), person(json!({"email": "eve@shop.example"}))];
        let made = hand.send("POST", &path, &HEADERS, &job(&resource, json!({}), &emails, None), &[202]);
        let at = format!("{path}/{}", made["data"]["id"].as_str().expect("an id"));
        harness::eventually("the job is complete", harness::PATIENCE, || {
            hand.send("GET", &at, &HEADERS, "", &[200])["data"]["attributes"]["status"] == "complete"
        });
        hand.send("GET", &format!("{path}/nobody"), &HEADERS, "", &[404]);
        hand.post(&path, &job(&resource, json!({}), &[], None), 400);
    }

    let of_list = format!("/api/lists/{list}");
    for path in ["/api/lists", "/api/profiles", &of_list, &format!("{of_list}/profiles")] {
        hand.send("GET", path, &HEADERS, "", &[200]);
        hand.send("GET", &format!("{path}?include=tags&x=1"), &HEADERS, "", &[400]);
    }
    let found = hand.send(
        "GET",
        "/api/profiles?filter=any(email,%5B%22Ada@shop.example%22%5D)",
        &HEADERS,
        "",
        &[200],
    );
    let ada = found["data"][0]["id"].as_str().expect("an id").to_owned();
    let found =
        hand.send("GET", "/api/profiles?filter=equals(email,%22bob@shop.example%22)", &HEADERS, "", &[200]);
    let bob = found["data"][0]["id"].as_str().expect("an id").to_owned();
    hand.send("GET", &format!("/api/profiles/{ada}"), &HEADERS, "", &[200]);
    hand.send("GET", "/api/profiles/nobody", &HEADERS, "", &[404]);
    let members = json!({"data": [{"type": "profile", "id": ada}]}).to_string();
    for method in ["POST", "DELETE"] {
        let path = format!("{of_list}/relationships/profiles");
        hand.send(method, &path, &HEADERS, &members, &[204]);
        hand.send(method, &path, &HEADERS, "{}", &[400]);
        hand.send(method, "/api/lists/nobody/relationships/profiles", &HEADERS, &members, &[404]);
    }
    let merge = |keep: &str, source: &str| {
        let profiles = json!({"data": [{"type": "profile", "id": source}]});
        json!({"data": {"type": "profile-merge", "id": keep, "relationships": {"profiles": profiles}}})
            .to_string()
    };
    hand.post("/api/profile-merge", &merge(&ada, &bob), 201);
    hand.post("/api/profile-merge", &merge(&ada, &bob), 404);
    hand.post("/api/profile-merge", &merge(&ada, &ada), 400);
    let renamed =
        json!({"data": {"type": "list", "id": list, "attributes": {"name": "Old news"}}}).to_string();
    hand.send("PATCH", &of_list, &HEADERS, &renamed, &[200]);
    hand.send("PATCH", &of_list, &HEADERS, "{}", &[400]);
    hand.send("DELETE", &of_list, &HEADERS, "", &[204]);
    hand.send("DELETE", &of_list, &HEADERS, "", &[404]);

    let accepted: Vec<_> = sandbox.receipts().into_iter().filter(|receipt| receipt.accepted).collect();
    document.assert_requests(&accepted);
    super::assert_made(&accepted, &PEOPLE_CALLS);
}
