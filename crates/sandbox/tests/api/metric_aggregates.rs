//! What the events of a metric come to.

use serde_json::{Value, json};

use crate::client::{Connection, METRIC_AGGREGATES, PROFILES, Sandbox, profile};

/// Events of a metric, the first of them at this time and the others an hour after each other. Says the metric's id.
fn orders(sandbox: &Sandbox, who: &str, start: &str, count: u32, properties: Value) -> String {
    let seed = json!({
        "metric": "Placed Order", "email": format!("{who}@shop.example"), "count": count, "start": start,
        "step_seconds": 3600, "value": 2.5, "properties": properties,
    });
    sandbox.control("POST", "events", seed)["metric_id"].as_str().unwrap().to_owned()
}

/// A query of a metric's events in these days, with further attributes.
fn query(metric: &str, [from, to]: [&str; 2], more: Value) -> Value {
    let mut body = json!({"data": {"type": "metric-aggregate", "attributes": {
        "metric_id": metric,
        "measurements": ["count", "sum_value", "unique"],
        "filter": [
            format!("greater-or-equal(datetime,{from}T00:00:00)"), format!("less-than(datetime,{to}T00:00:00)"),
        ],
    }}});
    for (name, value) in more.as_object().unwrap() {
        body["data"]["attributes"][name] = value.clone();
    }
    body
}

fn ask(api: &mut Connection, body: &Value) -> Value {
    let answer = api.post(METRIC_AGGREGATES, body).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The pointer of the one error of a refusal.
fn refused(api: &mut Connection, body: &Value, status: u16) -> Value {
    let answer = api.post(METRIC_AGGREGATES, body).unwrap();
    assert_eq!(answer.status, status, "{answer:?}");
    answer.error()["source"]["pointer"].clone()
}

#[test]
fn days_are_those_of_the_zone_also_when_its_clocks_go_back() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    // An event an hour from midnight to midnight in New York, of a day that has 25.
    let metric = orders(&sandbox, "a", "2026-11-01T04:00:00Z", 26, json!({}));
    orders(&sandbox, "b", "2026-11-01T12:00:00Z", 1, json!({}));
    let days = ["2026-10-31", "2026-11-03"];
    let found = ask(&mut api, &query(&metric, days, json!({"timezone": "America/New_York"})));
    let own = format!("{}{METRIC_AGGREGATES}", sandbox.ready["api"].as_str().unwrap());
    let expected = json!({
        "type": "metric-aggregate",
        "id": found["data"]["id"],
        "attributes": {
            "dates": [
                "2026-10-31T00:00:00-04:00", "2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00",
            ],
            "data": [{"dimensions": [], "measurements": {
                "count": [0.0, 26.0, 1.0], "sum_value": [0.0, 65.0, 2.5], "unique": [0.0, 2.0, 1.0],
            }}],
        },
        "links": {"self": own},
    });
    assert_eq!(found, json!({"data": expected, "links": {"self": own}}));

    let utc = ask(&mut api, &query(&metric, days, json!({})))["data"]["attributes"].clone();
    assert_eq!(utc["dates"][0], "2026-10-31T00:00:00+00:00");
    assert_eq!(utc["data"][0]["measurements"]["count"], json!([0.0, 21.0, 6.0]));
    for (interval, dates, last) in
        [("hour", 73, "2026-11-02T23:00:00-05:00"), ("week", 2, "2026-11-02T00:00:00-05:00")]
    {
        let more = json!({"timezone": "America/New_York", "interval": interval});
        let attributes = ask(&mut api, &query(&metric, days, more))["data"]["attributes"].clone();
        let found = attributes["dates"].as_array().unwrap();
        assert_eq!((found.len(), found[dates - 1].as_str()), (dates, Some(last)));
        let counts = attributes["data"][0]["measurements"]["count"].as_array().unwrap();
        assert_eq!(counts.iter().filter_map(Value::as_f64).sum::<f64>(), 27.0);
    }
    // The first interval begins before the range, and has of it only what is within.
    let more = json!({"interval": "month"});
    let month =
        ask(&mut api, &query(&metric, ["2026-11-02", "2026-11-03"], more))["data"]["attributes"].clone();
    assert_eq!(month["dates"], json!(["2026-11-01T00:00:00+00:00"]));
    assert_eq!(month["data"][0]["measurements"]["count"], json!([6.0]));
}

#[test]
fn groups_come_page_by_page_with_a_cursor_in_the_body() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let mut metric = String::new();
    for n in 0..5 {
        metric = orders(&sandbox, "a", "2026-11-01T00:00:00Z", n + 1, json!({"$flow": format!("F{n}")}));
    }
    orders(&sandbox, "b", "2026-11-01T00:00:00Z", 1, json!({}));
    let ask_page = |api: &mut Connection, cursor: Option<&str>| {
        let mut more = json!({"by": ["$flow"], "sort": "-count", "page_size": 4, "measurements": ["count"]});
        if let Some(cursor) = cursor {
            more["page_cursor"] = json!(cursor);
        }
        ask(api, &query(&metric, ["2026-11-01", "2026-11-02"], more))
    };
    let flows = |page: &Value| -> Vec<Value> {
        let rows = page["data"]["attributes"]["data"].as_array().unwrap();
        rows.iter().map(|row| row["dimensions"][0].clone()).collect()
    };
    let first = ask_page(&mut api, None);
    assert_eq!(flows(&first), ["F4", "F3", "F2", "F1"]);
    let next = first["links"]["next"].as_str().unwrap();
    let (path, cursor) = next.split_once("?page_cursor=").unwrap();
    assert!(path.ends_with(METRIC_AGGREGATES));
    // What comes meanwhile takes no other row with it.
    orders(&sandbox, "c", "2026-11-01T00:00:00Z", 9, json!({"$flow": "F9"}));
    let second = ask_page(&mut api, Some(cursor));
    assert_eq!(flows(&second), ["F0", ""]);
    assert_eq!(second["links"].get("next"), None);

    let wrong = json!({"by": ["$flow"], "page_cursor": cursor});
    let wrong = query(&metric, ["2026-11-01", "2026-11-02"], wrong);
    assert_eq!(refused(&mut api, &wrong, 400), "/data/attributes/page_cursor");
    let answer = api.post(&format!("{METRIC_AGGREGATES}?page_cursor={cursor}"), &wrong).unwrap();
    assert_eq!((answer.status, &answer.error()["source"]["parameter"]), (400, &json!("page_cursor")));
}

#[test]
fn what_is_no_query_is_refused() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let days = ["2026-11-01", "2026-11-02"];
    assert_eq!(refused(&mut api, &query("XXXXXX", days, json!({})), 404), "/data/attributes/metric_id");
    let metric = orders(&sandbox, "a", "2026-11-01T00:00:00Z", 1, json!({}));
    for (more, pointer) in [
        (json!({"measurements": ["sum"]}), "measurements/0"),
        (json!({"interval": "daily"}), "interval"),
        (json!({"by": ["sku"]}), "by/0"),
        (json!({"timezone": "Mars"}), "timezone"),
        (json!({"sort": "-unknown"}), "sort"),
        (json!({"page_size": 0}), "page_size"),
        (json!({"return_fields": ["data"]}), "return_fields"),
        (json!({"filter": ["greater-or-equal(datetime,2026-11-01T00:00:00)"]}), "filter"),
        (json!({"group_by": ["$flow"]}), "group_by"),
    ] {
        let expected = format!("/data/attributes/{pointer}");
        assert_eq!(refused(&mut api, &query(&metric, days, more), 400), json!(expected));
    }
    let mut body = query(&metric, days, json!({}));
    let narrow = api.post(&format!("{METRIC_AGGREGATES}?fields[metric-aggregate]=dates"), &body).unwrap();
    let attributes = narrow.json()["data"]["attributes"].clone();
    assert_eq!(attributes, json!({"dates": ["2026-11-01T00:00:00+00:00"]}));
    for parameter in ["fields[metric-aggregate]=rows", "sort=count"] {
        assert_eq!(api.post(&format!("{METRIC_AGGREGATES}?{parameter}"), &body).unwrap().status, 400);
    }
    body["data"]["type"] = json!("metric-aggregates");
    assert_eq!(refused(&mut api, &body, 400), "/data/type");
    assert_eq!(refused(&mut api, &json!({"data": {"type": "metric-aggregate"}}), 400), "/data/attributes");
    let answer = api.get(METRIC_AGGREGATES).unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
}

#[test]
fn a_deleted_profiles_events_count_no_more() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let metric = orders(&sandbox, "a", "2026-11-01T00:00:00Z", 2, json!({}));
    orders(&sandbox, "b", "2026-11-01T00:00:00Z", 3, json!({}));
    let who = api.get(&format!("{PROFILES}?filter=equals(email,%22a@shop.example%22)")).unwrap().json();
    sandbox.control("DELETE", &format!("profiles/{}", who["data"][0]["id"].as_str().unwrap()), Value::Null);
    let found =
        ask(&mut api, &query(&metric, ["2026-11-01", "2026-11-02"], json!({"measurements": ["count"]})));
    assert_eq!(found["data"]["attributes"]["data"][0]["measurements"], json!({"count": [3.0]}));
}

#[test]
fn queries_have_windows_of_three_a_second() {
    let sandbox = Sandbox::start(&["--window-scale", "60"]);
    let mut api = sandbox.api();
    let answers = [0; 4].map(|_| api.post(METRIC_AGGREGATES, &profile(json!({}))).unwrap());
    assert_eq!(answers.each_ref().map(|answer| answer.status), [400, 400, 400, 429]);
    assert_eq!(answers[0].number("ratelimit-limit"), 60);
}
