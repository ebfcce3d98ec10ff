//! What pulls read: profiles, who is on lists and in segments, events and their metrics, campaigns and flows.

use harness::{Cluster, EventSeed, PULL_CALLS, Sandbox};
use serde_json::{Value, json};

use super::hand::{HEADERS, Hand};

const PROFILES: &str = "/api/profiles";
const EVENTS: &str = "/api/events";

/// Every row from this page on, each page judged.
fn all(hand: &mut Hand<'_>, path: &str) -> Vec<Value> {
    let (mut rows, mut next) = (Vec::new(), Some(path.to_owned()));
    while let Some(path) = next {
        let page = hand.send("GET", &path, &HEADERS, "", &[200]);
        rows.extend(page["data"].as_array().expect("rows").iter().cloned());
        let link = page["links"].get("next").and_then(Value::as_str);
        next = link.map(|link| link[link.find("/api/").expect("a link into the API")..].to_owned());
    }
    rows
}

/// A time of a resource, as an address can have it.
fn time(row: &Value, attribute: &str) -> String {
    row["attributes"][attribute].as_str().expect("a time").replace('+', "%2B")
}

/// Consent of all kinds, and none: what somebody has who subscribed, left the list and all, and is suppressed besides.
fn subscribe_and_leave(hand: &mut Hand<'_>, list: &str) {
    let marketing = |consent: &str| json!({"marketing": {"consent": consent}});
    for (operation, consent, channels, list) in [
        ("create", "SUBSCRIBED", &["email", "sms"][..], Some(list)),
        ("delete", "UNSUBSCRIBED", &["email"], Some(list)),
        ("delete", "UNSUBSCRIBED", &["email", "sms"], None),
    ] {
        let of = |channel: &&str| ((*channel).to_owned(), marketing(consent));
        let subscriptions: Value = channels.iter().map(of).collect();
        let ada = json!({"type": "profile", "attributes": {
            "email": "ada@shop.example", "phone_number": "+15005550006", "subscriptions": subscriptions}});
        let resource = format!("profile-subscription-bulk-{operation}-job");
        let mut job = json!({"data": {"type": resource, "attributes": {"profiles": {"data": [ada]}}}});
        if let Some(list) = list {
            job["data"]["relationships"] = json!({"list": {"data": {"type": "list", "id": list}}});
        }
        hand.post(&format!("/api/{resource}s"), &job.to_string(), 202);
    }
    let suppress = "profile-suppression-bulk-create-job";
    let ada = json!({"type": "profile", "attributes": {"email": "ada@shop.example"}});
    let job = json!({"data": {"type": suppress, "attributes": {"profiles": {"data": [ada]}}}});
    hand.post(&format!("/api/{suppress}s"), &job.to_string(), 202);
    let asked =
        "/api/profiles?filter=equals(email,%22ada@shop.example%22)&additional-fields[profile]=subscriptions";
    harness::eventually("the address is suppressed", harness::PATIENCE, || {
        let found = hand.send("GET", asked, &HEADERS, "", &[200]);
        let email = &found["data"][0]["attributes"]["subscriptions"]["email"]["marketing"];
        let counts = ["suppression", "list_suppressions"].map(|name| email[name].as_array().map(Vec::len));
        counts == [Some(2), Some(1)]
    });
}

#[test]
fn the_sandbox_answers_pulls_as_the_document_says() {
    let Some(document) = super::document() else { return };
    // For its directory only.
    let cluster = Cluster::builder().preload(false).start();
    let sandbox = Sandbox::builder().arguments(["--rates", "off", "--job-processing", "0"]);
    let sandbox = sandbox.start(cluster.directory());
    let mut hand = Hand::new(&sandbox, &document);
    let ids = sandbox.seed_profiles("shopper", 45);
    sandbox.change_profile(&ids[7], &json!({"first_name": "Ada", "location": {"city": "London"}}));
    let list = sandbox.make_list("Newsletter");
    subscribe_and_leave(&mut hand, &list);

    let additional = "additional-fields[profile]=subscriptions";
    for sort in ["created", "updated", "email", "id"] {
        for sort in [sort.to_owned(), format!("-{sort}")] {
            assert_eq!(all(&mut hand, &format!("{PROFILES}?sort={sort}&{additional}")).len(), 46, "{sort}");
        }
    }
    let rows = all(&mut hand, &format!("{PROFILES}?sort=updated"));
    let since = time(&rows[44], "updated");
    let changed = all(&mut hand, &format!("{PROFILES}?sort=updated&filter=greater-than(updated,{since})"));
    assert_eq!(changed.len(), 1);
    hand.send("GET", &format!("{PROFILES}/{}?{additional}", ids[7]), &HEADERS, "", &[200]);

    let segment = sandbox.make_segment("Buyers");
    sandbox.set_segment_members(&segment, &["shopper-1@shop.example", "ada@shop.example"]);
    assert_eq!(sandbox.segments()[0].members.len(), 2);
    let members = json!({"data": [{"type": "profile", "id": ids[0]}, {"type": "profile", "id": ids[1]}]});
    let onto_list = format!("/api/lists/{list}/relationships/profiles");
    hand.send("POST", &onto_list, &HEADERS, &members.to_string(), &[204]);
    for group in [format!("/api/lists/{list}"), format!("/api/segments/{segment}")] {
        hand.send("GET", &group, &HEADERS, "", &[200]);
        for sort in ["joined_group_at", "-joined_group_at"] {
            let path = format!("{group}/profiles?sort={sort}&page[size]=1&{additional}");
            let rows = all(&mut hand, &path);
            assert_eq!(rows.len(), 2);
            let since = time(&rows[0], "joined_group_at");
            let path = format!("{group}/profiles?filter=greater-or-equal(joined_group_at,{since})");
            assert!(!all(&mut hand, &path).is_empty());
        }
    }

    let seed = EventSeed {
        metric: "Placed Order",
        email: "ada@shop.example",
        count: 450,
        start: Some("2026-01-01T00:00:00Z"),
        step_seconds: 60.0,
    };
    let seeded = sandbox.seed_events(&seed);
    sandbox.seed_events(&EventSeed { metric: "Viewed Product", start: None, count: 1, ..seed });
    assert_eq!(all(&mut hand, &format!("{EVENTS}?sort=datetime")).len(), 451);
    let filter = format!("equals(metric_id,%22{}%22)", seeded.metric_id);
    let filter = format!("{filter},greater-or-equal(datetime,2026-01-01T07:00:00Z)");
    let rows = all(&mut hand, &format!("{EVENTS}?filter={filter}&sort=-datetime&page[size]=1000"));
    assert_eq!(rows.len(), 30);
    assert_eq!(rows[0]["relationships"]["profile"]["data"]["id"], json!(seeded.profile_id));
    assert_eq!(all(&mut hand, "/api/metrics").len(), 2);
    hand.send("GET", &format!("/api/metrics/{}", seeded.metric_id), &HEADERS, "", &[200]);

    let flow = sandbox.make_flow("Welcome", "live", "Added to List");
    assert_eq!(all(&mut hand, "/api/flows?sort=-updated&page[size]=1").len(), 1);
    hand.send("GET", &format!("/api/flows/{flow}"), &HEADERS, "", &[200]);
    assert_eq!(all(&mut hand, "/api/segments?sort=name").len(), 1);
    assert_eq!(all(&mut hand, "/api/lists?sort=-updated").len(), 1);
    for channel in ["email", "sms", "mobile_push"] {
        let filter = format!("equals(messages.channel,%22{channel}%22)");
        all(&mut hand, &format!("/api/campaigns?filter={filter}&sort=-updated_at&page[size]=50"));
    }

    for path in [PROFILES, EVENTS, "/api/metrics", "/api/segments", "/api/flows", "/api/lists"] {
        hand.send("GET", &format!("{path}?page[cursor]=1"), &HEADERS, "", &[400]);
        hand.send("GET", &format!("{path}?sort=nothing"), &HEADERS, "", &[400]);
        hand.send("GET", &format!("{path}?filter=nothing"), &HEADERS, "", &[400]);
    }
    for path in
        ["/api/metrics/nobody", "/api/segments/nobody", "/api/segments/nobody/profiles", "/api/flows/nobody"]
    {
        hand.send("GET", path, &HEADERS, "", &[404]);
    }
    sandbox.delete_profile(&ids[0]);
    sandbox.delete_segment(&segment);
    assert_eq!(all(&mut hand, PROFILES).len(), 45);

    let accepted: Vec<_> = sandbox.receipts().into_iter().filter(|receipt| receipt.accepted).collect();
    document.assert_requests(&accepted);
    super::assert_made(&accepted, &PULL_CALLS);
}
