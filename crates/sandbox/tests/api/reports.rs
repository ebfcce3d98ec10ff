//! Reports, whose numbers are what a control path says.

use serde_json::{Value, json};

use crate::client::{Answer, Connection, Sandbox, api_headers};

const CAMPAIGN_VALUES: &str = "/api/campaign-values-reports";
const FLOW_VALUES: &str = "/api/flow-values-reports";
const FLOW_SERIES: &str = "/api/flow-series-reports";
const FORM_VALUES: &str = "/api/form-values-reports";
const FORM_SERIES: &str = "/api/form-series-reports";
const SEGMENT_VALUES: &str = "/api/segment-values-reports";
const SEGMENT_SERIES: &str = "/api/segment-series-reports";

/// Says what a day's numbers are.
fn keep(sandbox: &Sandbox, report: &str, groupings: Value, date: &str, statistics: Value) {
    let day = json!({"report": report, "groupings": groupings, "date": date, "statistics": statistics});
    sandbox.control("POST", "reports", json!({"days": [day]}));
}

/// A metric to count conversions of.
fn metric(sandbox: &Sandbox) -> Value {
    let seed = json!({"metric": "Placed Order", "email": "a@shop.example", "count": 1});
    sandbox.control("POST", "events", seed)["metric_id"].clone()
}

/// A query of the first week of November, with further attributes.
fn query(path: &str, statistics: &[&str], more: Value) -> Value {
    // The path names the resource in the plural.
    let resource = path.trim_start_matches("/api/").trim_end_matches('s');
    let timeframe = json!({"start": "2026-11-01T00:00:00+00:00", "end": "2026-11-08T00:00:00+00:00"});
    let mut attributes = json!({"statistics": statistics, "timeframe": timeframe});
    for (name, value) in more.as_object().unwrap() {
        attributes[name] = value.clone();
    }
    json!({"data": {"type": resource, "attributes": attributes}})
}

fn ask(api: &mut Connection, path: &str, statistics: &[&str], more: Value) -> Value {
    let answer = api.post(path, &query(path, statistics, more)).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The same, and of each row only the numbers.
fn numbers(api: &mut Connection, path: &str, statistics: &[&str], more: Value) -> Vec<Value> {
    let found = ask(api, path, statistics, more);
    let rows = found["data"]["attributes"]["results"].as_array().unwrap();
    rows.iter().map(|row| row["statistics"].clone()).collect()
}

#[test]
fn values_are_those_of_the_days_of_the_time() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let metric = metric(&sandbox);
    let groupings = json!({"campaign_id": "01C", "campaign_message_id": "01M", "send_channel": "email"});
    for (date, recipients) in [("2026-10-31", 1), ("2026-11-01", 100), ("2026-11-07", 50), ("2026-11-08", 2)]
    {
        let statistics = json!({
            "recipients": recipients, "delivered": recipients, "opens_unique": recipients / 2,
            "conversion_value": 30.25,
        });
        keep(&sandbox, "campaign", groupings.clone(), date, statistics);
    }
    let asked = ["recipients", "open_rate", "conversion_value", "revenue_per_recipient", "clicks"];
    let found = ask(&mut api, CAMPAIGN_VALUES, &asked, json!({"conversion_metric_id": metric}));
    let statistics = json!({
        "recipients": 150, "open_rate": 0.5, "conversion_value": 60.5, "revenue_per_recipient": 60.5 / 150.0,
        "clicks": 0,
    });
    let own = format!("{}{CAMPAIGN_VALUES}", sandbox.ready["api"].as_str().unwrap());
    let results = json!([{"groupings": groupings, "statistics": statistics}]);
    let data = json!({"type": "campaign-values-report", "attributes": {"results": results}});
    assert_eq!(found, json!({"data": data, "links": {"self": own}}));

    // What is said again takes the place of what was said.
    keep(&sandbox, "campaign", groupings, "2026-11-07", json!({"recipients": 1}));
    let more = || json!({"conversion_metric_id": metric});
    let recipients = |api: &mut Connection, more| numbers(api, CAMPAIGN_VALUES, &["recipients"], more);
    assert_eq!(recipients(&mut api, more()), [json!({"recipients": 101})]);
    sandbox.control("POST", "reset", Value::Null);
    let seed = json!({"metric": "Placed Order", "email": "a@shop.example", "count": 1});
    sandbox.control("POST", "events", seed);
    assert!(recipients(&mut api, more()).is_empty());
}

#[test]
fn days_of_now_have_names() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let day = |days_ago: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let now = jiff::Timestamp::from_second(i64::try_from(now).unwrap()).unwrap();
        let then = now.checked_sub(jiff::SignedDuration::from_hours(24 * days_ago)).unwrap();
        then.strftime("%Y-%m-%d").to_string()
    };
    // Powers of two, so that a sum says which are in it. It may be midnight meanwhile.
    let before = day(0);
    for (days_ago, submits) in [(0, 1), (1, 2), (6, 4), (7, 8), (29, 16), (30, 32), (400, 64)] {
        keep(&sandbox, "form", json!({"form_id": "F"}), &day(days_ago), json!({"submits": submits}));
    }
    let found = ["today", "yesterday", "last_7_days", "last_30_days", "last_365_days"].map(|key| {
        numbers(&mut api, FORM_VALUES, &["submits"], json!({"timeframe": {"key": key}}))[0]["submits"].clone()
    });
    if day(0) == before {
        assert_eq!(found, [1, 2, 7, 31, 63].map(|sum| json!(sum)));
    }
}

#[test]
fn a_series_has_a_number_for_each_interval() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let metric = metric(&sandbox);
    let groupings = json!({"flow_id": "F", "flow_message_id": "M", "send_channel": "sms"});
    for (date, clicks, delivered) in
        [("2026-10-31", 8, 8), ("2026-11-01", 2, 4), ("2026-11-03", 1, 5), ("2026-11-07", 3, 3)]
    {
        let statistics = json!({"clicks_unique": clicks, "delivered": delivered});
        keep(&sandbox, "flow", groupings.clone(), date, statistics);
    }
    let mut series = |interval: &str| {
        let more = json!({"interval": interval, "conversion_metric_id": metric});
        ask(&mut api, FLOW_SERIES, &["clicks_unique", "click_rate"], more)["data"].clone()
    };
    let daily = series("daily");
    let dates: Vec<String> = (1..8).map(|day| format!("2026-11-0{day}T00:00:00+00:00")).collect();
    let statistics = json!({"clicks_unique": [2, 0, 1, 0, 0, 0, 3], "click_rate": [0.5, 0, 0.2, 0, 0, 0, 1]});
    let results = json!([{"groupings": groupings, "statistics": statistics}]);
    let attributes = json!({"results": results, "date_times": dates});
    assert_eq!(daily, json!({"type": "flow-series-report", "attributes": attributes}));
    let weekly = series("weekly")["attributes"].clone();
    assert_eq!(weekly["date_times"], json!(["2026-10-26T00:00:00+00:00", "2026-11-02T00:00:00+00:00"]));
    assert_eq!(
        weekly["results"][0]["statistics"],
        json!({"clicks_unique": [2, 4], "click_rate": [0.5, 0.5]})
    );
    let monthly = series("monthly")["attributes"].clone();
    assert_eq!(monthly["date_times"], json!(["2026-11-01T00:00:00+00:00"]));
    assert_eq!(monthly["results"][0]["statistics"], json!({"clicks_unique": [6], "click_rate": [0.5]}));
    // A day is counted in its first hour.
    let hourly = series("hourly")["attributes"].clone();
    assert_eq!(hourly["date_times"].as_array().unwrap().len(), 7 * 24);
    let clicks = &hourly["results"][0]["statistics"]["clicks_unique"];
    assert_eq!([&clicks[0], &clicks[1], &clicks[48]], [2, 0, 1]);

    keep(&sandbox, "segment", json!({"segment_id": "S"}), "2026-11-02", json!({"total_members": 5}));
    let all = ["total_members", "net_members_changed"];
    let found = numbers(&mut api, SEGMENT_SERIES, &all, json!({"interval": "daily"}));
    assert_eq!(found[0]["total_members"], json!([0, 5, 5, 5, 5, 5, 5]));
    assert_eq!(numbers(&mut api, SEGMENT_VALUES, &all[..1], json!({})), [json!({"total_members": 5})]);
    keep(&sandbox, "form", json!({"form_id": "F"}), "2026-11-02", json!({"viewed_form": 90, "submits": 9}));
    let found = numbers(&mut api, FORM_SERIES, &["submit_rate"], json!({"interval": "weekly"}));
    assert_eq!(found, [json!({"submit_rate": [0, 0.1]})]);
}

#[test]
fn messages_come_page_by_page() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let metric = metric(&sandbox);
    for n in 0..5 {
        let groupings = json!({"flow_id": format!("F{n}"), "flow_message_id": "M", "send_channel": "email"});
        keep(&sandbox, "flow", groupings, "2026-11-01", json!({"recipients": n}));
        keep(&sandbox, "form", json!({"form_id": format!("F{n}")}), "2026-11-01", json!({"submits": n}));
    }
    sandbox.control("PUT", "reports", json!({"page_size": 2}));
    let body = query(FLOW_VALUES, &["recipients"], json!({"conversion_metric_id": metric}));
    let mut found = Vec::new();
    let mut next = Some(format!("{FLOW_VALUES}?fields[flow-values-report]=results"));
    let mut cursor = String::new();
    while let Some(path) = next {
        let page = api.post(&path, &body).unwrap().json();
        assert!(page["links"]["self"].as_str().unwrap().contains("?fields%5Bflow-values-report%5D=results"));
        let rows = page["data"]["attributes"]["results"].as_array().unwrap().clone();
        found.push(rows.iter().map(|row| row["statistics"]["recipients"].clone()).collect::<Vec<_>>());
        let link = page["links"].get("next").map(|link| link.as_str().unwrap().to_owned());
        next = link.map(|link| link[link.find("/api/").unwrap()..].to_owned());
        if let Some(path) = &next {
            cursor = path.split_once("&page_cursor=").unwrap().1.to_owned();
        }
    }
    assert_eq!(found, [vec![json!(0), json!(1)], vec![json!(2), json!(3)], vec![json!(4)]]);
    assert_eq!(numbers(&mut api, FORM_VALUES, &["submits"], json!({})).len(), 5, "they have no pages");

    let mut parameter = |path: &str, body: &Value| {
        let answer = api.post(path, body).unwrap();
        assert_eq!(answer.status, 400, "{answer:?}");
        answer.error()["source"]["parameter"].clone()
    };
    let series = query(FLOW_SERIES, &["opens"], json!({"conversion_metric_id": metric, "interval": "daily"}));
    assert_eq!(parameter(&format!("{FLOW_SERIES}?page_cursor={cursor}"), &series), "page_cursor");
    assert_eq!(parameter(&format!("{FLOW_VALUES}?page_cursor=7"), &body), "page_cursor");
    assert_eq!(parameter(&format!("{FLOW_VALUES}?page[cursor]={cursor}"), &body), "page[cursor]");
    assert_eq!(
        parameter(&format!("{FLOW_VALUES}?fields[flow-values-report]=date_times"), &body),
        "fields[flow-values-report]"
    );
    let form = query(FORM_VALUES, &["submits"], json!({}));
    assert_eq!(parameter(&format!("{FORM_VALUES}?page_cursor={cursor}"), &form), "page_cursor");
}

#[test]
fn what_is_no_query_is_refused() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let mut refused = |path: &str, more: Value, status: u16| {
        let body = query(path, &["opens"], more);
        let answer = api.post(path, &body).unwrap();
        assert_eq!(answer.status, status, "{body} {answer:?}");
        answer.json()["errors"][0]["source"]["pointer"].as_str().unwrap().replace("/data/attributes/", "")
    };
    let unknown = json!({"conversion_metric_id": "XXXXXX"});
    assert_eq!(refused(CAMPAIGN_VALUES, unknown, 404), "conversion_metric_id");
    let metric = metric(&sandbox);
    for (path, more, pointer) in [
        (CAMPAIGN_VALUES, json!({}), "conversion_metric_id"),
        (CAMPAIGN_VALUES, json!({"interval": "daily"}), "interval"),
        (CAMPAIGN_VALUES, json!({"statistics": ["open rate"]}), "statistics/0"),
        (CAMPAIGN_VALUES, json!({"group_by": ["send_channel"], "conversion_metric_id": metric}), "group_by"),
        (FLOW_SERIES, json!({"conversion_metric_id": metric}), "interval"),
        (FLOW_VALUES, json!({"filter": "greater-than(flow_id,\"x\")"}), "filter"),
        (FORM_VALUES, json!({}), "statistics/0"),
        (SEGMENT_VALUES, json!({"statistics": ["total_members"], "group_by": ["segment_id"]}), "group_by"),
        (
            SEGMENT_VALUES,
            json!({"statistics": ["total_members"], "timeframe": {"key": "all"}}),
            "timeframe/key",
        ),
    ] {
        assert_eq!(refused(path, more, 400), pointer, "{path}");
    }
    let mistyped = query(FLOW_SERIES, &["opens"], json!({}));
    let answer = api.post(FLOW_VALUES, &mistyped).unwrap();
    assert_eq!(answer.json()["errors"][0]["source"]["pointer"], "/data/type");
    assert_eq!(api.get(FLOW_VALUES).unwrap().header("allow"), Some("POST"));
    for path in ["/api/campaign-series-reports", "/api/flow-values-reports/x"] {
        assert_eq!(api.post(path, &mistyped).unwrap().status, 404);
    }
    for (method, body) in [
        ("PUT", json!({"page_size": 0})),
        ("PUT", json!({})),
        (
            "POST",
            json!({"days": [{"report": "list", "groupings": {}, "date": "2026-11-01", "statistics": {}}]}),
        ),
        (
            "POST",
            json!({"days": [{"report": "form", "groupings": {}, "date": "2026-11-01", "statistics": {}}]}),
        ),
        ("POST", json!({"days": [{"report": "form", "groupings": {"form_id": "F"}, "statistics": {}}]})),
    ] {
        assert_eq!(sandbox.try_control(method, "reports", body.clone()).status, 400, "{body}");
    }
}

#[test]
fn each_report_has_windows_of_its_own() {
    // A second is an hour, and so on: nothing ends while the test runs.
    let sandbox = Sandbox::start(&["--window-scale", "3600"]);
    let mut api = sandbox.api();
    for path in
        [CAMPAIGN_VALUES, FLOW_VALUES, FLOW_SERIES, FORM_VALUES, FORM_SERIES, SEGMENT_VALUES, SEGMENT_SERIES]
    {
        let mut post = || -> Answer { api.send("POST", path, &api_headers(), b"{}").unwrap() };
        let first = post();
        assert_eq!((first.status, first.number("ratelimit-limit")), (400, 2), "{path}");
        assert_eq!(post().status, 429, "{path}");
    }
}
