//! What asks for numbers: aggregates of a metric's events, and reports.

use harness::{Directory, EventSeed, REPORT_CALLS, Rates, ReportSeed, Sandbox};
use serde_json::{Value, json};

use super::hand::{HEADERS, Hand};

const AGGREGATES: &str = REPORT_CALLS[0].1;
const WEEK: [&str; 2] = ["2026-11-01T00:00:00", "2026-11-08T00:00:00"];

/// The rows of the first page and of those after it, each page judged.
fn all(hand: &mut Hand<'_>, path: &str, body: &Value) -> Vec<Value> {
    let (mut rows, mut next, mut body) = (Vec::new(), Some(path.to_owned()), body.clone());
    while let Some(path) = next {
        let page = hand.send("POST", &path, &HEADERS, &body.to_string(), &[200]);
        let attributes = &page["data"]["attributes"];
        let found = attributes.get("results").unwrap_or(&attributes["data"]).as_array().expect("rows");
        rows.extend(found.iter().cloned());
        let link = page["links"].get("next").and_then(Value::as_str);
        next = link.map(|link| link[link.find("/api/").expect("a link into the API")..].to_owned());
        // Of aggregates the document has the cursor in the body.
        if let Some((path, cursor)) = next.as_deref().and_then(|path| path.split_once("?page_cursor="))
            && path == AGGREGATES
        {
            body["data"]["attributes"]["page_cursor"] = json!(cursor);
            next = Some(AGGREGATES.to_owned());
        }
    }
    rows
}

/// A query for aggregates, with further attributes.
fn aggregate(metric: &str, more: &Value) -> Value {
    let [from, to] = WEEK;
    let filter = [format!("greater-or-equal(datetime,{from})"), format!("less-than(datetime,{to})")];
    let measurements = ["count", "sum_value", "unique"];
    with(
        json!({"metric_id": metric, "measurements": measurements, "filter": filter}),
        "metric-aggregate",
        more,
    )
}

/// A query for a report, with further attributes.
fn report(path: &str, statistics: &[&str], more: &Value) -> Value {
    let [start, end] = WEEK.map(|time| format!("{time}+00:00"));
    let attributes = json!({"statistics": statistics, "timeframe": {"start": start, "end": end}});
    // The path names the resource in the plural.
    with(attributes, path.trim_start_matches("/api/").trim_end_matches('s'), more)
}

fn with(mut attributes: Value, resource: &str, more: &Value) -> Value {
    for (name, value) in more.as_object().expect("attributes") {
        attributes[name] = value.clone();
    }
    json!({"data": {"type": resource, "attributes": attributes}})
}

/// Orders of two flows, one an hour from the first of November on. Says the metric's id.
fn orders(sandbox: &Sandbox) -> String {
    let mut metric = String::new();
    for flow in ["X", "Y", ""] {
        let seed = EventSeed {
            metric: "Placed Order",
            email: "ada@shop.example",
            count: 30,
            start: Some("2026-11-01T00:00:00Z"),
            step_seconds: 3600.0,
        };
        let more = json!({"value": 2.5, "properties": {"$flow": flow}});
        metric = sandbox.seed_events_with(&seed, &more).metric_id;
    }
    metric
}

/// A day's numbers of each kind of report, of three of the kind.
fn numbers(sandbox: &Sandbox) {
    for n in ["1", "2", "3"] {
        let sent = json!({"recipients": 100, "delivered": 98, "opens_unique": 49, "conversion_value": 120.5});
        let [date, channel] = ["2026-11-02", "email"];
        let campaign = json!({"campaign_id": n, "campaign_message_id": n, "send_channel": channel});
        sandbox.seed_report("campaign", &campaign, date, &sent);
        let flow = json!({"flow_id": n, "flow_message_id": n, "send_channel": channel});
        sandbox.seed_reports(&[
            ReportSeed { report: "flow", groupings: &flow, date, statistics: &sent },
            ReportSeed {
                report: "form",
                groupings: &json!({"form_id": n, "form_version_id": n}),
                date,
                statistics: &json!({"viewed_form": 10, "submits": 1}),
            },
            ReportSeed {
                report: "segment",
                groupings: &json!({"segment_id": n}),
                date,
                statistics: &json!({"total_members": 7, "members_added": 2}),
            },
        ]);
    }
}

#[test]
fn the_sandbox_answers_for_numbers_as_the_document_says() {
    let Some(document) = super::document() else { return };
    let directory = Directory::new();
    let sandbox = Sandbox::builder().arguments(["--rates", "off"]).start(directory.path());
    let mut hand = Hand::new(&sandbox, &document);
    let metric = orders(&sandbox);
    numbers(&sandbox);

    for interval in ["hour", "day", "week", "month"] {
        let more = json!({"interval": interval, "timezone": "America/New_York"});
        let rows = all(&mut hand, AGGREGATES, &aggregate(&metric, &more));
        let counts = rows[0]["measurements"]["count"].as_array().expect("numbers");
        // The first five hours of the first are of October there, and before the range.
        assert_eq!(counts.iter().filter_map(Value::as_f64).sum::<f64>(), 78.0, "{interval}");
    }
    for (more, count) in [
        (json!({"by": null, "sort": "count"}), 1),
        (json!({"by": ["$flow"], "page_size": 1}), 3),
        (json!({"by": ["$flow", "URL"], "page_size": 2, "sort": "-$flow"}), 3),
    ] {
        assert_eq!(all(&mut hand, AGGREGATES, &aggregate(&metric, &more)).len(), count, "{more}");
    }

    let series = json!({"interval": "daily"});
    let of_messages = json!({"conversion_metric_id": metric});
    let of_series = json!({"conversion_metric_id": metric, "interval": "weekly"});
    let sent = ["recipients", "open_rate", "revenue_per_recipient"];
    sandbox.set_report_page(2);
    for ((_, path), statistics, more, filter) in [
        (REPORT_CALLS[1], &sent[..], &of_messages, "equals(campaign_id,\"2\")"),
        (REPORT_CALLS[2], &sent, &of_messages, "contains-any(flow_id,[\"2\",\"9\"])"),
        (REPORT_CALLS[3], &sent, &of_series, "and(equals(flow_id,\"2\"),equals(send_channel,\"email\"))"),
        (REPORT_CALLS[4], &["submits", "submit_rate"], &json!({}), "any(form_id,[\"2\"])"),
        (REPORT_CALLS[5], &["submits", "submit_rate"], &series, "equals(form_version_id,\"2\")"),
        (REPORT_CALLS[6], &["total_members", "net_members_changed"], &json!({}), "equals(segment_id,\"2\")"),
        (
            REPORT_CALLS[7],
            &["total_members", "net_members_changed"],
            &series,
            "any(segment_id,[\"2\",\"9\"])",
        ),
    ] {
        let mut body = report(path, statistics, more);
        assert_eq!(all(&mut hand, path, &body).len(), 3, "{path}");
        body["data"]["attributes"]["filter"] = json!(filter);
        assert_eq!(all(&mut hand, path, &body).len(), 1, "{path}");
        body["data"]["attributes"]["timeframe"] = json!({"key": "last_7_days"});
        all(&mut hand, path, &body);

        body["data"]["attributes"]["statistics"] = json!(["nothing"]);
        hand.post(path, &body.to_string(), 400);
        hand.post(&format!("{path}?page[size]=1"), &report(path, statistics, more).to_string(), 400);
    }
    let unknown = json!({"conversion_metric_id": "nobody"});
    hand.post(REPORT_CALLS[1].1, &report(REPORT_CALLS[1].1, &sent, &unknown).to_string(), 404);
    hand.post(AGGREGATES, &aggregate("nobody", &json!({})).to_string(), 404);
    for (_, path) in REPORT_CALLS {
        for bad in ["", "{", "[]", "{}", "{\"data\": {}}", "{\"data\": {\"type\": \"x\", \"attributes\": 1}}"]
        {
            hand.post(path, bad, 400);
        }
        hand.send("GET", path, &HEADERS, "", &[405]);
    }
    sandbox.set_rates(&Rates { enabled: Some(true), window_scale: Some(3600.0), ..Rates::default() });
    for (_, path) in REPORT_CALLS {
        for status in if path == AGGREGATES { [400, 400, 400, 429] } else { [400, 429, 429, 429] } {
            hand.post(path, "{}", status);
        }
    }

    let accepted: Vec<_> = sandbox.receipts().into_iter().filter(|receipt| receipt.accepted).collect();
    document.assert_requests(&accepted);
    super::assert_made(&accepted, &REPORT_CALLS);
}
