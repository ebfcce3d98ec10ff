//! A query for a report.

use jiff::{SignedDuration, Timestamp};

use super::fields::{Findings, Object};
use super::timeframe;
use crate::filter::{Condition, Test, conditions};
use crate::intervals::Interval;
use crate::reports::{Report, Subject, TAGS};

/// Values of a filter. Source: its description in each query.
const MAX_VALUES: usize = 100;

/// The grouping that has only these values. Source: the same.
const CHANNEL: &str = "send_channel";
const CHANNELS: [&str; 4] = ["email", "sms", "push-notification", "whatsapp"];

/// How long the time of a series can be. Source: the description of `interval`.
const LONGEST: [(Interval, SignedDuration, &str); 3] = [
    (Interval::Hour, SignedDuration::from_hours(7 * 24), "7 days"),
    (Interval::Day, SignedDuration::from_hours(60 * 24), "60 days"),
    (Interval::Month, SignedDuration::from_hours(52 * 7 * 24), "52 weeks"),
];

/// A checked query.
#[derive(Debug)]
pub struct ReportQuery {
    pub statistics: Vec<&'static str>,
    pub group_by: Vec<&'static str>,
    pub conditions: Vec<Condition>,
    pub from: Timestamp,
    pub to: Timestamp,
    /// Of a series.
    pub interval: Option<Interval>,
    /// Of the reports about messages.
    pub conversion_metric: Option<String>,
}

/// Checks a `CampaignValuesRequestDTO` and its like.
pub fn check(
    findings: &mut Findings,
    root: Object<'_, '_>,
    report: Report,
    now: Timestamp,
) -> Option<ReportQuery> {
    let resource = report.resource();
    root.only(findings, resource, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, resource);
    data.only(findings, resource, &["type", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    let spec = report.subject().spec();
    let is_grouped = report.subject() != Subject::Segment;
    let known = [
        ("statistics", true),
        ("timeframe", true),
        ("filter", true),
        ("group_by", is_grouped),
        ("interval", report.is_series()),
        ("conversion_metric_id", spec.is_of_messages),
    ];
    let known = known.into_iter().filter_map(|(name, is_known)| is_known.then_some(name));
    attributes.only(findings, resource, &known.collect::<Vec<_>>());

    let statistics: Vec<&'static str> = spec.statistics.iter().map(|(name, _)| *name).collect();
    let statistics = attributes.filled_choices(findings, "statistics", &statistics);
    let group_by = if is_grouped { check_groups(findings, attributes, report) } else { None };
    let conditions = check_filter(findings, attributes, report);
    let time = timeframe::check(findings, attributes, report.subject(), now);
    let interval = if report.is_series() { check_interval(findings, attributes, time) } else { None };
    let conversion_metric = match spec.is_of_messages {
        true => attributes.filled_text(findings, "conversion_metric_id").map(str::to_owned),
        false => None,
    };
    let (from, to) = time?;
    Some(ReportQuery {
        statistics: statistics?,
        group_by: group_by.unwrap_or_else(|| spec.default.to_vec()),
        conditions,
        from,
        to,
        interval,
        conversion_metric,
    })
}

fn check_groups(
    findings: &mut Findings,
    attributes: Object<'_, '_>,
    report: Report,
) -> Option<Vec<&'static str>> {
    let spec = report.subject().spec();
    let names = attributes.choices(findings, "group_by", spec.groupings)?;
    let at = attributes.at.key("group_by");
    if names.iter().any(|name| TAGS.contains(name)) {
        findings.add(at, "klaviyo-sandbox does not know tags.");
    }
    for missing in spec.required.iter().filter(|name| !names.contains(name)) {
        findings.add(at, format!("'{missing}' must be among what is grouped by."));
    }
    Some(names)
}

fn check_filter(findings: &mut Findings, attributes: Object<'_, '_>, report: Report) -> Vec<Condition> {
    let Some(text) = attributes.text(findings, "filter") else { return Vec::new() };
    let at = attributes.at.key("filter");
    let conditions = match conditions(text, report.subject().spec().filters) {
        Ok(conditions) => conditions,
        Err(error) => {
            findings.add(at, error.detail);
            return Vec::new();
        }
    };
    for (index, Condition { field, test }) in conditions.iter().enumerate() {
        if conditions[..index].iter().any(|before| before.field == *field) {
            findings.add(at, format!("Only one filter can be used for '{field}'."));
        }
        // All these fields are texts.
        let Test::OneOf(values) = test else { continue };
        if values.len() > MAX_VALUES {
            findings.add(at, format!("A filter has at most {MAX_VALUES} values."));
        }
        if *field == CHANNEL && values.iter().any(|value| !CHANNELS.contains(&value.as_str())) {
            findings.add(at, format!("'{CHANNEL}' is one of '{}'.", CHANNELS.join("', '")));
        }
    }
    conditions
}

fn check_interval(
    findings: &mut Findings,
    attributes: Object<'_, '_>,
    time: Option<(Timestamp, Timestamp)>,
) -> Option<Interval> {
    let name = attributes.choice(findings, "interval", &["daily", "hourly", "monthly", "weekly"])?;
    let interval = match name {
        "hourly" => Interval::Hour,
        "weekly" => Interval::Week,
        "monthly" => Interval::Month,
        _ => Interval::Day,
    };
    let longest = LONGEST.iter().find(|(of, ..)| *of == interval);
    if let (Some((_, longest, words)), Some((from, to))) = (longest, time)
        && to.duration_since(from) > *longest
    {
        let detail = format!("If '{name}' is used, the timeframe cannot be longer than {words}.");
        findings.add(attributes.at.key("interval"), detail);
    }
    Some(interval)
}

#[cfg(test)]
mod tests;
