//! What a pull reads of events and metrics.

use std::collections::BTreeSet;

use serde_json::json;

use crate::client::{EVENTS, METRICS, Sandbox, api_headers, event};
use crate::pages::{each, pages, rows};

#[test]
fn events_are_read_in_the_order_in_which_they_happened() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let orders = json!({
        "metric": "Placed Order", "email": "a@shop.example", "count": 2_500, "value": 9.99,
        "start": "2026-01-01T00:00:00Z", "step_seconds": 60, "properties": {"sku": "x"},
    });
    let made = sandbox.control("POST", "events", orders.clone());
    let views = json!({
        "metric": "Viewed Product", "email": "b@shop.example", "count": 10, "start": "2026-01-01T00:00:30Z",
    });
    let viewed = sandbox.control("POST", "events", views);
    assert_eq!(sandbox.counts(), (2_510, 2));

    let found = pages(&mut api, &format!("{EVENTS}?sort=datetime&page[size]=1000"));
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1_000, 510]);
    let found = found.concat();
    assert!(each(&found, "datetime").is_sorted());
    assert_eq!(BTreeSet::from_iter(found.iter().map(|row| row["id"].as_str().unwrap())).len(), 2_510);
    assert_eq!(BTreeSet::from_iter(each(&found, "uuid")).len(), 2_510);
    assert_eq!(rows(&api.get(EVENTS).unwrap()).len(), 200);
    let newest = rows(&api.get(&format!("{EVENTS}?sort=-timestamp&page[size]=1")).unwrap());
    assert_eq!(newest[0]["attributes"]["datetime"], "2026-01-02T17:39:00+00:00");
    assert_eq!(newest[0]["attributes"]["event_properties"]["$value"], 9.99);
    assert_eq!(newest[0]["relationships"]["metric"]["data"]["id"], made["metric_id"]);
    assert_eq!(newest[0]["relationships"]["profile"]["data"]["id"], made["profile_id"]);

    let [order, view] = [&made, &viewed].map(|made| made["metric_id"].as_str().unwrap());
    let [a, b] = [&made, &viewed].map(|made| made["profile_id"].as_str().unwrap());
    for (filter, count) in [
        (format!("equals(metric_id,%22{order}%22)"), 2_500),
        (format!("equals(metric_id,%22{view}%22)"), 10),
        (format!("equals(profile_id,%22{b}%22)"), 10),
        (format!("equals(profile_id,%22{a}%22),equals(metric_id,%22{view}%22)"), 0),
        (format!("equals(metric_id,%22{view}%22),greater-than(datetime,2026-01-01T00:00:35Z)"), 4),
        (format!("equals(metric_id,%22{view}%22),greater-or-equal(datetime,2026-01-01T00:00:35Z)"), 5),
        ("less-or-equal(datetime,2026-01-01T00:00:31Z)".to_owned(), 3),
        ("less-than(datetime,2026-01-01T01:00:31%2B01:00)".to_owned(), 2),
        ("less-than(timestamp,1767225631)".to_owned(), 2),
        ("equals(metric_id,%22XXXXXX%22)".to_owned(), 0),
    ] {
        for sort in ["datetime", "-timestamp"] {
            let found = pages(&mut api, &format!("{EVENTS}?filter={filter}&sort={sort}"));
            assert_eq!(found.concat().len(), count, "{filter} {sort}");
        }
    }
    // Events made again are others.
    sandbox.control("POST", "events", orders);
    assert_eq!(sandbox.counts(), (5_010, 2));
    let narrow = rows(&api.get(&format!("{EVENTS}?fields[event]=uuid&page[size]=1")).unwrap());
    assert_eq!(narrow[0]["attributes"].as_object().unwrap().len(), 1);
    let mut post = event("u1");
    post["data"]["attributes"]["metric"]["data"]["attributes"]["name"] = json!("Refunded Order");
    assert_eq!(api.post(EVENTS, &post).unwrap().status, 202);
    let answer = api.send("DELETE", EVENTS, &api_headers(), b"").unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST, GET")));

    let metrics = rows(&api.get(METRICS).unwrap());
    assert_eq!(each(&metrics, "name"), ["Placed Order", "Viewed Product", "Refunded Order"]);
    assert_eq!([&metrics[0]["id"], &metrics[1]["id"]], [&made["metric_id"], &viewed["metric_id"]]);
    assert_eq!(metrics[0]["attributes"]["integration"]["name"], "API");
    let one = api.get(&format!("{METRICS}/{order}?fields[metric]=name")).unwrap().json();
    assert_eq!(one["data"]["attributes"], json!({"name": "Placed Order"}));
    assert_eq!(api.get(&format!("{METRICS}/XXXXXX")).unwrap().status, 404);
    for (filter, count) in [("integration.name,%22API%22", 3), ("integration.category,%22Shopify%22", 0)] {
        assert_eq!(rows(&api.get(&format!("{METRICS}?filter=equals({filter})")).unwrap()).len(), count);
    }
}

#[test]
fn more_metrics_than_a_page_has_come_on_the_next() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    for n in 0..205 {
        sandbox.control(
            "POST",
            "events",
            json!({"metric": format!("M{n}"), "email": "a@shop.example", "count": 1}),
        );
    }
    let found = pages(&mut api, METRICS);
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [200, 5]);
    assert_eq!(each(&found.concat(), "name")[204], "M204");
}
