use serde_json::{Value, json};

use super::*;
use crate::check;
use crate::error::ApiError;

fn body(report: Report) -> Value {
    let mut attributes = json!({
        "statistics": [report.subject().spec().statistics[0].0],
        "timeframe": {"start": "2026-11-01T00:00:00+00:00", "end": "2026-11-08T00:00:00+00:00"},
    });
    if report.is_series() {
        attributes["interval"] = json!("daily");
    }
    if report.subject().spec().is_of_messages {
        attributes["conversion_metric_id"] = json!("RESQ6t");
    }
    json!({"data": {"type": report.resource(), "attributes": attributes}})
}

fn checked(report: Report, changes: Value) -> Result<ReportQuery, Vec<ApiError>> {
    let mut body = body(report);
    for (name, value) in changes.as_object().unwrap() {
        body["data"]["attributes"][name] = value.clone();
    }
    check::report(&(&body).into(), report, "2026-11-30T12:00:00Z".parse().unwrap())
}

/// What is wrong, each below the attributes.
fn wrong(report: Report, changes: Value) -> Vec<String> {
    let errors = checked(report, changes).unwrap_err().into_iter();
    errors.map(|error| error.pointer.strip_prefix("/data/attributes/").unwrap().to_owned()).collect()
}

#[test]
fn each_report_has_members_of_its_own() {
    for report in Report::ALL {
        let asked = checked(report, json!({"filter": null})).unwrap();
        let spec = report.subject().spec();
        assert_eq!(asked.group_by, spec.default);
        assert_eq!(asked.interval.is_some(), report.is_series());
        assert_eq!(asked.conversion_metric.is_some(), spec.is_of_messages);
        // Empty where it is a member, and no member elsewhere.
        for name in ["group_by", "interval", "conversion_metric_id"] {
            assert_eq!(wrong(report, json!({name: []}))[0], name, "{report:?}");
        }
        for name in ["statistics", "timeframe"] {
            assert_eq!(wrong(report, json!({name: null})), [name], "{report:?}");
        }
        assert_eq!(wrong(report, json!({"limit": 7})), ["limit"]);
    }
}

#[test]
fn every_wrong_field_has_its_pointer() {
    for (changes, pointer) in [
        (json!({"statistics": []}), "statistics"),
        (json!({"statistics": ["opens", "total_members"]}), "statistics/1"),
        (json!({"group_by": ["flow_id", "flow_message_id", "campaign_id"]}), "group_by/2"),
        (json!({"group_by": ["flow_id"]}), "group_by"),
        (json!({"group_by": ["flow_id", "flow_message_id", "tag_id"]}), "group_by"),
        (json!({"interval": "day"}), "interval"),
        (json!({"conversion_metric_id": " "}), "conversion_metric_id"),
        (json!({"filter": ["equals(flow_id,\"x\")"]}), "filter"),
        (json!({"filter": "any(flow_id,[\"x\"])"}), "filter"),
        (json!({"filter": "contains-all(tag_id,[\"x\"])"}), "filter"),
        (json!({"filter": "equals(send_channel,\"mail\")"}), "filter"),
        (json!({"filter": "and(equals(flow_id,\"x\"),contains-any(flow_id,[\"y\"]))"}), "filter"),
        (json!({"filter": "or(equals(flow_id,\"x\"),equals(send_channel,\"sms\"))"}), "filter"),
        (json!({"filter": format!("contains-any(flow_id,{})", json!(vec!["x"; 101]))}), "filter"),
        (json!({"timeframe": "today"}), "timeframe"),
        (json!({"timeframe": {}}), "timeframe/start"),
        (json!({"timeframe": {"key": "tomorrow"}}), "timeframe/key"),
        (json!({"timeframe": {"key": "today", "start": "2026-11-01T00:00:00Z"}}), "timeframe/start"),
    ] {
        assert_eq!(wrong(Report::FlowSeries, changes.clone())[0], pointer, "{changes}");
    }
    let longest = format!("contains-any(flow_id,{})", json!(vec!["x"; 100]));
    assert!(checked(Report::FlowSeries, json!({"filter": longest})).is_ok());
    assert_eq!(wrong(Report::FormValues, json!({"group_by": ["form_version_id"]})), ["group_by"]);
    assert!(checked(Report::FormValues, json!({"group_by": ["form_version_id", "form_id"]})).is_ok());
    assert_eq!(wrong(Report::FormValues, json!({"filter": "contains-any(form_id,[\"x\"])"})), ["filter"]);
}

#[test]
fn filters_say_what_is_meant() {
    let filter = "and(equals(campaign_id,\"A\"),contains-any(send_channel,['email','push-notification']))";
    let asked = checked(Report::CampaignValues, json!({"filter": filter})).unwrap();
    let texts = |values: &[&str]| Test::OneOf(values.iter().map(|&value| value.to_owned()).collect());
    assert_eq!(
        asked.conditions,
        [
            Condition { field: "campaign_id", test: texts(&["A"]) },
            Condition { field: CHANNEL, test: texts(&["email", "push-notification"]) },
        ]
    );
}

fn between(report: Report, start: &str, end: &str) -> Result<(String, String), Vec<ApiError>> {
    let asked = checked(report, json!({"timeframe": {"start": start, "end": end}}))?;
    Ok((asked.from.to_string(), asked.to.to_string()))
}

#[test]
fn a_time_of_ones_own_has_no_offset_that_counts_and_at_most_a_year() {
    let values = |start: &str, end: &str| between(Report::SegmentValues, start, end);
    let expected = ("2026-11-01T00:00:00Z".to_owned(), "2026-11-01T23:59:59.5Z".to_owned());
    assert_eq!(values("2026-11-01T00:00:00-05:00", "2026-11-01T23:59:59.5+02:00").unwrap(), expected);
    assert_eq!(values("2026-11-01T00:00:00Z", "2026-11-01T23:59:59.5z").unwrap(), expected);
    assert!(values("2024-02-29T00:00:00Z", "2025-02-28T00:00:00Z").is_ok());
    for (start, end, pointer) in [
        ("2024-11-01T00:00:00Z", "2025-11-01T00:00:00.000001Z", ""),
        ("2025-11-01T00:00:00Z", "2025-11-01T00:00:00+00:00", "/end"),
        ("2025-11-01T00:00:00", "2025-11-02T00:00:00Z", "/start"),
        ("2025-11-01", "2025-11-02T00:00:00Z", "/start"),
        ("2025-11-01T00:00:00Z", "Z", "/end"),
        ("2023-05-31T00:00:00Z", "2023-07-01T00:00:00Z", "/start"),
    ] {
        let pointers: Vec<String> =
            values(start, end).unwrap_err().into_iter().map(|error| error.pointer).collect();
        assert_eq!(pointers, [format!("/data/attributes/timeframe{pointer}")], "{start} {end}");
    }
    assert!(between(Report::FormValues, "2023-05-31T00:00:00Z", "2023-07-01T00:00:00Z").is_ok());
}

#[test]
fn a_series_has_at_most_so_many_intervals() {
    for (interval, longest) in [
        ("hourly", Some("2026-01-08T00:00:00Z")),
        ("daily", Some("2026-03-02T00:00:00Z")),
        ("monthly", Some("2026-12-31T00:00:00Z")),
        ("weekly", None),
    ] {
        let ends = |end: &str| {
            let timeframe = json!({"start": "2026-01-01T00:00:00Z", "end": end});
            checked(Report::FormSeries, json!({"interval": interval, "timeframe": timeframe})).map(|_| ())
        };
        assert!(ends(longest.unwrap_or("2027-01-01T00:00:00Z")).is_ok(), "{interval}");
        let Some(longest) = longest else { continue };
        let errors = ends(&longest.replace("00Z", "01Z")).unwrap_err();
        assert_eq!(errors[0].pointer, "/data/attributes/interval", "{interval}");
    }
    let year = json!({"timeframe": {"key": "last_365_days"}, "interval": "monthly"});
    assert_eq!(wrong(Report::SegmentSeries, year), ["interval"]);
}
