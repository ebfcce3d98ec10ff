use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::check::{self, ReportQuery};

fn reports(days: Value) -> Reports {
    let mut reports = Reports::new();
    reports.keep(serde_json::from_value(days).unwrap()).unwrap();
    reports
}

fn campaign(id: &str, channel: &str, date: &str, statistics: Value) -> Value {
    let groupings =
        json!({"campaign_id": id, "campaign_message_id": format!("{id}M"), "send_channel": channel});
    json!({"report": "campaign", "groupings": groupings, "date": date, "statistics": statistics})
}

fn segment(id: &str, date: &str, statistics: Value) -> Value {
    json!({"report": "segment", "groupings": {"segment_id": id}, "date": date, "statistics": statistics})
}

fn query(report: Report, start: &str, end: &str, more: Value) -> ReportQuery {
    let statistics: Vec<&str> = report.subject().spec().statistics.iter().map(|(name, _)| *name).collect();
    let timeframe = json!({"start": format!("{start}:00:00Z"), "end": format!("{end}:00:00Z")});
    let mut attributes = json!({"statistics": statistics, "timeframe": timeframe});
    for (name, value) in more.as_object().unwrap() {
        attributes[name] = value.clone();
    }
    let body = json!({"data": {"type": report.resource(), "attributes": attributes}});
    check::report(&(&body).into(), report, Timestamp::UNIX_EPOCH).unwrap()
}

/// The numbers of a row's statistic.
fn numbers(row: &Row, name: &str) -> Value {
    row.statistics.iter().find(|(known, _)| *known == name).map(|(_, numbers)| json!(numbers)).unwrap()
}

#[test]
fn days_of_the_time_are_added_up_and_rates_come_of_their_sums() {
    let reports = reports(json!([
        campaign("A", "email", "2026-11-01", json!({"recipients": 999, "delivered": 999})),
        campaign(
            "A",
            "email",
            "2026-11-02",
            json!({
                "recipients": 100, "delivered": 80, "opens_unique": 40, "clicks_unique": 10, "conversions": 2,
                "conversion_uniques": 1, "conversion_value": 50.5, "bounced": 5, "failed": 10, "bounced_or_failed": 15,
                "unsubscribe_uniques": 4, "spam_complaints": 2, "text_message_spend": 10,
            })
        ),
        campaign(
            "A",
            "email",
            "2026-11-03",
            json!({"recipients": 150, "delivered": 120, "opens_unique": 60})
        ),
        campaign("A", "email", "2026-11-04", json!({"recipients": 999})),
    ]));
    let asked =
        query(Report::CampaignValues, "2026-11-01T01", "2026-11-04T00", json!({"conversion_metric_id": "x"}));
    let rows = reports.results(Subject::Campaign, &asked, &[asked.from..asked.to]);
    assert_eq!(rows.len(), 1);
    let row = &rows[0].1;
    assert_eq!(
        json!(row.groupings),
        json!({"campaign_id": "A", "campaign_message_id": "AM", "send_channel": "email"})
    );
    for (name, value) in [
        ("recipients", json!(250)),
        ("delivered", json!(200)),
        ("opens_unique", json!(100)),
        ("opens", json!(0)),
        ("conversion_value", json!(50.5)),
        ("average_order_value", json!(25.25)),
        ("bounce_rate", json!(0.02)),
        ("bounced_or_failed_rate", json!(0.06)),
        ("click_rate", json!(0.05)),
        ("click_to_open_rate", json!(0.1)),
        ("conversion_rate", json!(0.005)),
        ("delivery_rate", json!(0.8)),
        ("failed_rate", json!(0.04)),
        ("open_rate", json!(0.5)),
        ("revenue_per_recipient", json!(0.202)),
        ("spam_complaint_rate", json!(0.01)),
        ("text_message_roi", json!(5.05)),
        ("unsubscribe_rate", json!(0.02)),
    ] {
        assert_eq!(numbers(row, name), json!([value]), "{name}");
    }
}

#[test]
fn rows_are_of_what_is_grouped_by_and_of_what_the_filter_lets_through() {
    let reports = reports(json!([
        campaign("A", "email", "2026-11-01", json!({"recipients": 1})),
        campaign("A", "sms", "2026-11-01", json!({"recipients": 2})),
        campaign("B", "sms", "2026-11-01", json!({"recipients": 4})),
        segment("A", "2026-11-01", json!({"members_added": 8})),
    ]));
    let rows = |more: Value| {
        let mut more = more;
        more["conversion_metric_id"] = json!("x");
        let asked = query(Report::CampaignValues, "2026-11-01T00", "2026-11-02T00", more);
        let rows = reports.results(Subject::Campaign, &asked, &[asked.from..asked.to]);
        rows.iter().map(|(_, row)| (json!(row.groupings), numbers(row, "recipients"))).collect::<Vec<_>>()
    };
    assert_eq!(
        rows(json!({})).iter().map(|row| row.1.clone()).collect::<Vec<_>>(),
        [1, 2, 4].map(|n| json!([n]))
    );
    let by = json!({"group_by": ["campaign_id", "campaign_message_id", "variation"]});
    assert_eq!(
        rows(by)[0],
        (json!({"campaign_id": "A", "campaign_message_id": "AM", "variation": null}), json!([3]))
    );
    let filter =
        json!({"filter": "and(contains-any(campaign_id,[\"A\",\"C\"]),equals(send_channel,\"sms\"))"});
    assert_eq!(rows(filter)[0].1, json!([2]));
    assert!(rows(json!({"filter": "equals(variation,\"x\")"})).is_empty());
}

#[test]
fn members_are_those_of_the_last_day_there_was_by_then() {
    let reports = reports(json!([
        segment("A", "2026-11-01", json!({"members_added": 5, "members_removed": 1, "total_members": 14})),
        segment("A", "2026-11-03", json!({"members_added": 1, "members_removed": 4, "total_members": 11})),
        segment("A", "2026-11-04", json!({"members_added": 2})),
        segment("B", "2026-11-01", json!({"total_members": 7})),
        segment("B", "2026-11-05", json!({"total_members": 8})),
    ]));
    let days: Vec<Timestamp> =
        (1..=5).map(|day| format!("2026-11-0{day}T00:00:00Z").parse().unwrap()).collect();
    let stretches: Vec<_> = days[1..].windows(2).map(|days| days[0]..days[1]).collect();
    let asked = query(Report::SegmentValues, "2026-11-02T00", "2026-11-05T00", json!({}));
    let rows = reports.results(Subject::Segment, &asked, &stretches);
    // The other has no day in this time.
    assert_eq!(rows.len(), 1);
    assert_eq!(numbers(&rows[0].1, "total_members"), json!([14, 11, 11]));
    assert_eq!(numbers(&rows[0].1, "members_added"), json!([0, 1, 2]));
    assert_eq!(numbers(&rows[0].1, "net_members_changed"), json!([0, -3, 2]));
}

#[test]
fn days_are_kept_once_and_wrong_ones_not_at_all() {
    let mut reports = reports(json!([segment("A", "2026-11-01", json!({"total_members": 7}))]));
    for wrong in [
        segment("A", "2026-11-01", json!({"net_members_changed": 1})),
        segment("A", "2026-11-01", json!({"recipients": 1})),
        segment("A", "20261101", json!({})),
        segment("A", "2026-11-31", json!({})),
        segment("A", "2026-11-01T00:00:00Z", json!({})),
        json!({"report": "segment", "groupings": {}, "date": "2026-11-01", "statistics": {}}),
        json!({"report": "form", "groupings": {"form_id": "A", "x": "y"}, "date": "2026-11-01", "statistics": {}}),
        json!({"report": "flow", "groupings": {"flow_id": "A", "flow_message_id": "M", "tag_id": "T"},
            "date": "2026-11-01", "statistics": {}}),
    ] {
        let days = json!([segment("B", "2026-11-01", json!({})), wrong]);
        assert!(reports.keep(serde_json::from_value(days).unwrap()).is_err(), "{wrong}");
    }
    assert_eq!(reports.days.len(), 1);
    let again = json!([segment("A", "2026-11-01", json!({"members_added": 3}))]);
    reports.keep(serde_json::from_value(again).unwrap()).unwrap();
    let kept: Vec<&Numbers> = reports.days.values().collect();
    assert_eq!(kept, [&Numbers::from([("members_added".to_owned(), 3.0)])]);
    reports.page_size = 3;
    reports.clear();
    assert_eq!((reports.days.len(), reports.page_size), (0, 3));
}

#[test]
fn what_can_be_asked_for_is_what_klaviyos_document_has() {
    let Some(path) = std::env::var_os("KLAVIYO_OPENAPI") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let follow = |node: &Value| match node["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap().clone(),
        None => node.clone(),
    };
    for report in Report::ALL {
        let call = &document["paths"][report.path()]["post"];
        let body = follow(&call["requestBody"]["content"]["application/vnd.api+json"]["schema"]);
        let attributes =
            follow(&body["properties"]["data"])["properties"]["attributes"]["properties"].clone();
        let names = |name: &str| follow(&attributes[name]["items"])["enum"].clone();
        let spec = report.subject().spec();
        let statistics: Vec<&str> = spec.statistics.iter().map(|(name, _)| *name).collect();
        assert_eq!(names("statistics"), json!(statistics), "{report:?}");
        if report.subject() != Subject::Segment {
            assert_eq!(names("group_by"), json!(spec.groupings), "{report:?}");
        }
        let filter = attributes["filter"]["description"].as_str().unwrap();
        for field in spec.filters {
            assert!(filter.contains(field.name), "{report:?}: {}", field.name);
            assert!(field.operators.iter().all(|operator| filter.contains(operator)), "{report:?}");
        }
    }
}
