use serde_json::{Value, json};

use super::*;
use crate::check;
use crate::order::{Key, Rank, cursor};

fn checked(change: impl FnOnce(&mut Value)) -> Result<Aggregation, Vec<String>> {
    let mut body = json!({"data": {"type": RESOURCE, "attributes": {
        "metric_id": "0rG4eQ",
        "measurements": ["count"],
        "filter": [
            "greater-or-equal(datetime,2026-10-25T00:00:00)",
            "less-than(datetime,2026-10-26T00:00:00.000001)",
        ],
    }}});
    change(&mut body["data"]["attributes"]);
    let errors =
        |errors: Vec<crate::error::ApiError>| errors.into_iter().map(|error| error.pointer).collect();
    check::metric_aggregate(&(&body).into()).map_err(errors)
}

/// What is wrong, each below the attributes.
fn wrong(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let pointers = checked(change).unwrap_err();
    pointers.iter().map(|pointer| pointer.strip_prefix("/data/attributes/").unwrap().to_owned()).collect()
}

fn between(zone: Value, from: &str, to: &str) -> Result<(String, String), Vec<String>> {
    let filter = json!([format!("less-than(datetime,{to})"), format!("greater-or-equal(datetime,{from})")]);
    let checked = checked(|attributes| {
        attributes["timezone"] = zone;
        attributes["filter"] = filter;
    });
    checked.map(|asked| (asked.from.to_string(), asked.to.to_string()))
}

#[test]
fn a_query_has_defaults() {
    let asked = checked(|_| {}).unwrap();
    assert_eq!((asked.metric.as_str(), asked.by.len()), ("0rG4eQ", 0));
    assert_eq!((asked.measurements, asked.interval), (vec![Measurement::Count], Interval::Day));
    assert_eq!(asked.zone, TimeZone::UTC);
    assert_eq!((asked.slice.size, asked.slice.order, asked.slice.after), (500, UNSORTED, None));
    let nulls = checked(|attributes| {
        for name in ["interval", "page_size", "by", "return_fields", "timezone"] {
            attributes[name] = Value::Null;
        }
    });
    assert_eq!(nulls.unwrap().interval, Interval::Day);
}

#[test]
fn every_wrong_field_has_its_pointer() {
    for (key, value, pointer) in [
        ("metric_id", json!(null), "metric_id"),
        ("metric_id", json!(7), "metric_id"),
        ("measurements", json!(null), "measurements"),
        ("measurements", json!([]), "measurements"),
        ("measurements", json!("count"), "measurements"),
        ("measurements", json!([7]), "measurements"),
        ("measurements", json!(["count", "sum"]), "measurements/1"),
        ("interval", json!("daily"), "interval"),
        ("interval", json!(7), "interval"),
        ("page_size", json!(0), "page_size"),
        ("page_size", json!(-1), "page_size"),
        ("page_size", json!(1.5), "page_size"),
        ("page_size", json!("7"), "page_size"),
        ("page_cursor", json!("7"), "page_cursor"),
        ("page_cursor", json!(null), "page_cursor"),
        ("by", json!("$flow"), "by"),
        ("by", json!(["$flow", "sku"]), "by/1"),
        ("return_fields", json!(["data"]), "return_fields"),
        ("filter", json!(null), "filter"),
        ("filter", json!([]), "filter"),
        ("filter", json!("less-than(datetime,2026-10-25T00:00:00)"), "filter"),
        ("timezone", json!("Europe/Nowhere"), "timezone"),
        ("timezone", json!(7), "timezone"),
        ("sort", json!("$flow"), "sort"),
        ("sort", json!("unique"), "sort"),
        ("sort", json!(null), "sort"),
        ("page", json!(7), "page"),
    ] {
        assert_eq!(wrong(|attributes| attributes[key] = value.clone()), [pointer], "{key} {value}");
    }
}

#[test]
fn a_range_has_both_its_ends_and_at_most_a_year() {
    let [from, to] = ["2026-10-25T00:00:00", "2026-10-25T00:00:01"];
    let utc = |from: &str, to: &str| between(json!(null), from, to);
    assert_eq!(utc(from, to), Ok(("2026-10-25T00:00:00Z".to_owned(), "2026-10-25T00:00:01Z".to_owned())));
    assert!(utc("2025-10-25T00:00:00", from).is_ok());
    assert!(utc("2025-10-24T23:59:59.999999", from).is_err());
    assert!(utc(from, from).is_err());
    for time in ["2026-10-25", "2026-10-25 00:00:00", "'2026-10-25T00:00:00'", "1793000000"] {
        let pointers = utc(time, to).unwrap_err();
        assert_eq!(pointers[0], "/data/attributes/filter/1", "{time}");
    }
    for more in
        ["equals($flow,\"x\")", "less-than(datetime,2026-10-26T00:00:00)", "less-or-equal(datetime,x)"]
    {
        let pointers = wrong(|attributes| attributes["filter"].as_array_mut().unwrap().push(json!(more)));
        assert_eq!(pointers, ["filter/2"], "{more}");
    }
}

#[test]
fn times_are_of_the_zone_unless_they_have_an_offset() {
    let berlin =
        |from: &str| between(json!("Europe/Berlin"), from, "2026-10-27T00:00:00Z").map(|(from, _)| from);
    assert_eq!(berlin("2026-10-25T00:00:00").unwrap(), "2026-10-24T22:00:00Z");
    assert_eq!(berlin("2026-10-26T00:00:00").unwrap(), "2026-10-25T23:00:00Z");
    assert_eq!(berlin("2026-10-25T00:00:00+00:00").unwrap(), "2026-10-25T00:00:00Z");
    for zone in ["America/New_York", "US/Eastern", "UTC", "Asia/Kolkata"] {
        assert!(checked(|attributes| attributes["timezone"] = json!(zone)).is_ok(), "{zone}");
    }
    for zone in ["america/new_york", "Europe/Kyiv", "Pacific/Kanton", "Factory", "+02:00", ""] {
        assert_eq!(wrong(|attributes| attributes["timezone"] = json!(zone)), ["timezone"], "{zone}");
    }
}

#[test]
fn rows_are_sorted_by_what_is_asked_for_and_go_on_in_that_order() {
    let asked = checked(|attributes| {
        attributes["by"] = json!(["URL", "$flow"]);
        attributes["sort"] = json!("-$flow");
    });
    let order = asked.unwrap().slice.order;
    assert_eq!(order, Order { field: "$flow", is_descending: true });
    let key = Key { rank: Rank::text(Some("x")), id: "[]".to_owned() };
    let paged = |sort: &str| {
        checked(|attributes| {
            attributes["by"] = json!(["$flow"]);
            attributes["sort"] = json!(sort);
            attributes["page_cursor"] = json!(cursor(order, &key));
        })
    };
    assert_eq!(paged("-$flow").unwrap().slice.after.as_ref(), Some(&key));
    assert_eq!(paged("count").unwrap_err(), ["/data/attributes/page_cursor"]);
}
