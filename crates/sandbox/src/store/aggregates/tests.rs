use serde_json::json;

use super::*;
use crate::check;

fn record(store: &mut Store, who: &str, time: &str, value: Value, properties: Value) {
    let now = "2026-11-30T12:00:00Z".parse().unwrap();
    let body = json!({"data": {"type": "event", "attributes": {
        "properties": properties, "time": time, "value": value, "value_currency": "EUR",
        "unique_id": format!("{who} {time}"),
        "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
        "profile": {"data": {"type": "profile", "attributes": {"email": format!("{who}@shop.example")}}},
    }}});
    let body = (&body).into();
    let (profile, event) = check::event(&body, now).unwrap();
    store.record(profile, event, 1, now).unwrap();
}

/// Of each row of the page its dimensions, and all numbers.
fn aggregated(store: &mut Store, attributes: Value) -> (Vec<(Value, Value)>, Option<Key>) {
    store.sort_events();
    let mut body = json!({"data": {"type": "metric-aggregate", "attributes": {
        "metric_id": store.metrics()[0].id,
        "measurements": ["count", "sum_value", "unique"],
        "filter": ["greater-or-equal(datetime,2026-10-24T00:00:00)", "less-than(datetime,2026-10-26T00:00:00)"],
    }}});
    for (name, value) in attributes.as_object().unwrap() {
        body["data"]["attributes"][name] = value.clone();
    }
    let asked = check::metric_aggregate(&(&body).into()).unwrap();
    let Rows { rows, last } = store.aggregate(&asked).unwrap().rows;
    let numbers =
        |row: &Row| row.measurements.iter().map(|(_, numbers)| json!(numbers)).collect::<Vec<_>>().into();
    (rows.iter().map(|row| (json!(row.dimensions), numbers(row))).collect(), last)
}

#[test]
fn events_count_where_they_happened_by_the_zones_clock() {
    let mut store = Store::new(1);
    for (who, time, value) in [
        ("a", "2026-10-23T22:00:00Z", json!(1)),
        ("a", "2026-10-24T21:59:59Z", json!(2.5)),
        ("a", "2026-10-24T22:00:00Z", json!(null)),
        ("b", "2026-10-25T22:59:59Z", json!(10)),
        ("b", "2026-10-25T23:00:00Z", json!(100)),
    ] {
        record(&mut store, who, time, value, json!({}));
    }
    let utc = aggregated(&mut store, json!({}));
    assert_eq!(utc, (vec![(json!([]), json!([[2.0, 2.0], [2.5, 110.0], [1.0, 1.0]]))], None));
    let berlin = json!({"timezone": "Europe/Berlin"});
    let found = aggregated(&mut store, berlin);
    assert_eq!(found, (vec![(json!([]), json!([[2.0, 2.0], [3.5, 10.0], [1.0, 2.0]]))], None));
    // Of nobody's events there is a row all the same.
    let filter =
        json!(["greater-or-equal(datetime,2026-01-01T00:00:00)", "less-than(datetime,2026-01-03T00:00:00)"]);
    let found = aggregated(&mut store, json!({"filter": filter, "measurements": ["count"]}));
    assert_eq!(found.0, [(json!([]), json!([[0.0, 0.0]]))]);
    assert!(aggregated(&mut store, json!({"filter": filter, "by": ["URL"]})).0.is_empty());
}

#[test]
fn events_are_grouped_by_their_properties_as_texts() {
    let mut store = Store::new(1);
    for (second, properties) in [
        json!({"$flow": "X", "Segment Count": 7}),
        json!({"$flow": "X", "Segment Count": "7"}),
        json!({"$flow": null, "Segment Count": true}),
        json!({"$value_currency": "USD"}),
    ]
    .into_iter()
    .enumerate()
    {
        record(&mut store, "a", &format!("2026-10-24T00:00:0{second}Z"), json!(second), properties);
    }
    let rows = |found: (Vec<(Value, Value)>, _)| found.0;
    let by = json!({"by": ["$flow", "Segment Count"], "measurements": ["count"]});
    assert_eq!(
        rows(aggregated(&mut store, by)),
        [
            (json!(["", ""]), json!([[1.0, 0.0]])),
            (json!(["", "true"]), json!([[1.0, 0.0]])),
            (json!(["X", "7"]), json!([[2.0, 0.0]])),
        ]
    );
    let by = json!({"by": ["$value_currency"], "measurements": ["sum_value"]});
    let expected = [(json!(["EUR"]), json!([[3.0, 0.0]])), (json!(["USD"]), json!([[3.0, 0.0]]))];
    assert_eq!(rows(aggregated(&mut store, by)), expected);
}

#[test]
fn rows_come_sorted_and_page_by_page() {
    let mut store = Store::new(1);
    for (second, (flow, value)) in [("A", 5), ("B", 2), ("B", 1), ("C", 5)].into_iter().enumerate() {
        let time = format!("2026-10-24T00:00:0{second}Z");
        record(&mut store, "a", &time, json!(value), json!({"$flow": flow}));
    }
    for (sort, expected) in [
        (json!({}), ["A", "B", "C"]),
        (json!({"sort": "-$flow"}), ["C", "B", "A"]),
        (json!({"sort": "sum_value"}), ["B", "A", "C"]),
        (json!({"sort": "-sum_value"}), ["C", "A", "B"]),
        (json!({"sort": "-count"}), ["B", "C", "A"]),
    ] {
        let (mut found, mut asked) = (Vec::new(), sort.clone());
        asked["by"] = json!(["$flow"]);
        asked["page_size"] = json!(1);
        loop {
            let (rows, last) = aggregated(&mut store, asked.clone());
            assert_eq!(rows.len(), 1);
            found.push(rows[0].0[0].clone());
            let Some(last) = last else { break };
            let text = sort["sort"].as_str().unwrap_or("dimensions");
            let known = ["dimensions", "$flow", "sum_value", "count"];
            let order = Order::parse(text, &known).map_err(|error| error.detail).unwrap();
            asked["page_cursor"] = json!(crate::order::cursor(order, &last));
        }
        assert_eq!(found, expected, "{sort}");
    }
}

#[test]
fn a_metric_that_there_is_not_is_not_found() {
    let mut store = Store::new(1);
    record(&mut store, "a", "2026-10-24T00:00:00Z", json!(1), json!({}));
    let body = json!({"data": {"type": "metric-aggregate", "attributes": {
        "metric_id": "XXXXXX", "measurements": ["count"],
        "filter": ["greater-or-equal(datetime,2026-10-24T00:00:00)", "less-than(datetime,2026-10-26T00:00:00)"],
    }}});
    let asked = check::metric_aggregate(&(&body).into()).unwrap();
    let error = store.aggregate(&asked).err().unwrap();
    assert_eq!((error.code.as_str(), error.pointer.as_str()), ("not_found", "/data/attributes/metric_id"));
}
