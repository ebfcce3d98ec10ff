use jiff::Timestamp;

use super::*;
use crate::check::{self, Merge, Whose};
use crate::order::Order;

fn now() -> Timestamp {
    "2026-07-15T12:00:00Z".parse().unwrap()
}

/// An event of somebody, so many seconds after the hour.
fn record(store: &mut Store, who: &str, metric: &str, unique_id: &str, second: i64) {
    let time = Timestamp::from_second(now().as_second() + second).unwrap().to_string();
    let body = json!({"data": {"type": "event", "attributes": {
        "properties": {"sku": unique_id, "$event_id": "mine"}, "time": time, "unique_id": unique_id, "value": 9.99,
        "metric": {"data": {"type": "metric", "attributes": {"name": metric}}},
        "profile": {"data": {"type": "profile", "attributes": {"email": format!("{who}@shop.example")}}},
    }}});
    let body = (&body).into();
    let (profile, event) = check::event(&body, now()).unwrap();
    store.record(profile, event, 1, now()).unwrap();
}

fn slice(is_descending: bool, after: Option<Key>, size: usize) -> Slice {
    let order = Order { field: "datetime", is_descending };
    Slice { order, after, from: None, to: None, size }
}

/// The unique ids of the events of a page, and its last row if there are more.
fn page(store: &mut Store, slice: &Slice, profiles: &[&str], metrics: &[&str]) -> (Vec<String>, Option<Key>) {
    store.sort_events();
    let meant = store.events_of(profiles.iter().copied(), metrics.iter().copied());
    let Rows { rows, last } = store.happened(slice, &meant, |_| true);
    (rows.into_iter().map(|event| event.unique_id.to_string()).collect(), last)
}

#[test]
fn events_come_in_the_order_in_which_they_happened() {
    let mut store = Store::new(1);
    for (id, second) in [("3", 3), ("1", 1), ("2", 2)] {
        record(&mut store, "a", "Placed Order", id, second);
    }
    assert_eq!(page(&mut store, &slice(false, None, 9), &[], &[]).0, ["1", "2", "3"]);
    assert_eq!(page(&mut store, &slice(true, None, 9), &[], &[]).0, ["3", "2", "1"]);
    let (first, last) = page(&mut store, &slice(false, None, 2), &[], &[]);
    assert_eq!(first, ["1", "2"]);
    // What came meanwhile and happened before is on no page any more; what happened after is.
    record(&mut store, "a", "Placed Order", "0", 0);
    record(&mut store, "a", "Placed Order", "2b", 2);
    record(&mut store, "a", "Placed Order", "4", 4);
    let (second, _) = page(&mut store, &slice(false, last, 9), &[], &[]);
    assert!(second == ["3", "4"] || second == ["2b", "3", "4"], "{second:?}");
    assert_eq!(page(&mut store, &slice(false, None, 9), &[], &[]).0.len(), 6);
}

#[test]
fn events_are_of_profiles_and_metrics() {
    let mut store = Store::new(1);
    for (who, metric, id) in
        [("a", "Placed Order", "1"), ("b", "Placed Order", "2"), ("a", "Viewed Product", "3")]
    {
        record(&mut store, who, metric, id, id.parse().unwrap());
    }
    let ids: Vec<String> = store.metrics().iter().map(|metric| metric.id.clone()).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1] && ids.iter().all(|id| id.len() == 6), "{ids:?}");
    let people = [0, 1].map(|place| store.profiles[place].id.clone());
    let (a, b, order, viewed) = (&*people[0], &*people[1], &*ids[0], &*ids[1]);
    let every = slice(false, None, 9);
    for (profiles, metrics, expected) in [
        (&[][..], &[order][..], &["1", "2"][..]),
        (&[a], &[], &["1", "3"]),
        (&[a], &[viewed], &["3"]),
        (&[b], &[viewed], &[]),
        (&[a, b], &[], &[]),
        (&[], &["XXXXXX"], &[]),
        (&["01X"], &[], &[]),
    ] {
        assert_eq!(page(&mut store, &every, profiles, metrics).0, expected, "{profiles:?} {metrics:?}");
    }
    store.merge(&Merge { destination: b.to_owned(), source: a.to_owned() }, now()).unwrap();
    assert_eq!(page(&mut store, &every, &[b], &[]).0, ["1", "2", "3"]);
    store.delete(&Whose::Id(b.to_owned()));
    assert_eq!(page(&mut store, &every, &[], &[]).0, [""; 0]);
    // A metric is the same in every run.
    let mut other = Store::new(2);
    record(&mut other, "a", "Viewed Product", "1", 0);
    assert_eq!(other.metrics()[0].id, *viewed);
}

#[test]
fn an_answer_has_the_properties_and_what_klaviyo_adds() {
    let mut store = Store::new(1);
    record(&mut store, "a", "Placed Order", "u1", 1);
    let resource = store.event_resource(&store.events[0], "http://k");
    let attributes = &resource["attributes"];
    assert_eq!(attributes["event_properties"], json!({"sku": "u1", "$event_id": "u1", "$value": 9.99}));
    assert_eq!(attributes["datetime"], "2026-07-15T12:00:01+00:00");
    assert_eq!(attributes["timestamp"], now().as_second() + 1);
    assert_eq!(resource["relationships"]["metric"]["data"]["id"], store.metrics()[0].id);
    assert_eq!(resource["relationships"]["profile"]["data"]["id"], store.profiles[0].id);
}
