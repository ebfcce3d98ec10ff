//! A query that aggregates the events of a metric.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json_borrow::Value;

use super::event::rfc3339;
use super::fields::{At, Findings, Object};
use crate::intervals::Interval;
use crate::order::{Order, Slice, key_at};

const RESOURCE: &str = "metric-aggregate";

/// What can be measured.
const MEASUREMENTS: [&str; 3] = [Measurement::COUNT, Measurement::SUM_VALUE, Measurement::UNIQUE];

/// What events can be grouped by. Source: `by` of `MetricAggregateQueryResourceObject`.
const DIMENSIONS: [&str; 36] = [
    "$attributed_channel",
    "$attributed_flow",
    "$attributed_message",
    "$attributed_variation",
    "$campaign_channel",
    "$flow",
    "$flow_channel",
    "$message",
    "$message_send_cohort",
    "$usage_amount",
    "$value_currency",
    "$variation",
    "$variation_send_cohort",
    "Bot Click",
    "Bounce Type",
    "Campaign Name",
    "Client Canonical",
    "Client Name",
    "Client Type",
    "Email Domain",
    "Failure Source",
    "Failure Type",
    "From Number",
    "From Phone Region",
    "Inbox Provider",
    "List",
    "Message Format",
    "Message Name",
    "Message Type",
    "Method",
    "Segment Count",
    "Subject",
    "To Number",
    "To Phone Region",
    "URL",
    "form_id",
];

/// Zones of the database that Klaviyo does not take, by its own description of `timezone`.
const UNKNOWN_ZONES: [&str; 3] = ["Factory", "Europe/Kyiv", "Pacific/Kanton"];

/// Rows of a page, unless the query says otherwise. The document names no maximum.
const PAGE: usize = 500;

/// What rows are in the order of that are sorted by nothing else: their dimensions.
const UNSORTED: Order = Order::ascending("dimensions");

/// What is measured of events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measurement {
    /// How many there are.
    Count,
    /// The sum of their values.
    SumValue,
    /// How many profiles they are of.
    Unique,
}

impl Measurement {
    const COUNT: &str = "count";
    const SUM_VALUE: &str = "sum_value";
    const UNIQUE: &str = "unique";

    pub fn named(name: &str) -> Option<Self> {
        match name {
            Self::COUNT => Some(Self::Count),
            Self::SUM_VALUE => Some(Self::SumValue),
            Self::UNIQUE => Some(Self::Unique),
            _ => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => Self::COUNT,
            Self::SumValue => Self::SUM_VALUE,
            Self::Unique => Self::UNIQUE,
        }
    }
}

/// A checked query.
#[derive(Debug)]
pub struct Aggregation {
    pub metric: String,
    pub measurements: Vec<Measurement>,
    /// The properties of events that they are grouped by.
    pub by: Vec<&'static str>,
    pub from: Timestamp,
    pub to: Timestamp,
    pub interval: Interval,
    pub zone: TimeZone,
    /// The rows of the page, by a measurement, a dimension or all dimensions.
    pub slice: Slice,
}

/// Checks a `MetricAggregateQuery`.
pub fn check(findings: &mut Findings, root: Object<'_, '_>) -> Option<Aggregation> {
    root.only(findings, RESOURCE, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, RESOURCE);
    data.only(findings, RESOURCE, &["type", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    let known = [
        "metric_id",
        "page_cursor",
        "measurements",
        "interval",
        "page_size",
        "by",
        "return_fields",
        "filter",
        "timezone",
        "sort",
    ];
    attributes.only(findings, RESOURCE, &known);
    let metric = attributes.filled_text(findings, "metric_id");
    let names = attributes.filled_choices(findings, "measurements", &MEASUREMENTS);
    let interval = check_interval(findings, attributes);
    let by = attributes.choices(findings, "by", &DIMENSIONS).unwrap_or_default();
    if attributes.texts(findings, "return_fields").is_some() {
        let detail = "klaviyo-sandbox does not know 'return_fields'.";
        findings.add(attributes.at.key("return_fields"), detail);
    }
    let zone = check_zone(findings, attributes);
    let range = zone.as_ref().and_then(|zone| check_range(findings, attributes, zone));
    let names = names?;
    let slice = check_slice(findings, attributes, &[&by[..], &names].concat());
    let (from, to) = range?;
    Some(Aggregation {
        metric: metric?.to_owned(),
        measurements: names.into_iter().filter_map(Measurement::named).collect(),
        by,
        from,
        to,
        interval: interval?,
        zone: zone?,
        slice: slice?,
    })
}

fn check_interval(findings: &mut Findings, attributes: Object<'_, '_>) -> Option<Interval> {
    if attributes.map.get("interval").is_none_or(Value::is_null) {
        return Some(Interval::Day);
    }
    match attributes.choice(findings, "interval", &["day", "hour", "month", "week"])? {
        "hour" => Some(Interval::Hour),
        "week" => Some(Interval::Week),
        "month" => Some(Interval::Month),
        _ => Some(Interval::Day),
    }
}

/// A zone by its name, in its own capitals.
fn check_zone(findings: &mut Findings, attributes: Object<'_, '_>) -> Option<TimeZone> {
    let Some(name) = attributes.text(findings, "timezone") else {
        let is_given = attributes.map.get("timezone").is_some_and(|value| !value.is_null());
        return (!is_given).then_some(TimeZone::UTC);
    };
    let zone = TimeZone::get(name).ok();
    let zone = zone.filter(|zone| zone.iana_name() == Some(name) && !UNKNOWN_ZONES.contains(&name));
    if zone.is_none() {
        findings.add(attributes.at.key("timezone"), format!("'{name}' is not a time zone."));
    }
    zone
}

/// From when until when, which two filters must say. Others the sandbox does not know.
fn check_range(
    findings: &mut Findings,
    attributes: Object<'_, '_>,
    zone: &TimeZone,
) -> Option<(Timestamp, Timestamp)> {
    let at = attributes.at.key("filter");
    let Some(filters) = attributes.texts(findings, "filter") else {
        if attributes.map.get("filter").is_none_or(Value::is_null) {
            attributes.missing(findings, "filter");
        }
        return None;
    };
    let (mut from, mut to) = (None, None);
    for (index, text) in filters.into_iter().enumerate() {
        let at = at.index(index);
        let bound =
            |operator: &str| text.strip_prefix(operator)?.strip_prefix("(datetime,")?.strip_suffix(')');
        match (bound("greater-or-equal"), bound("less-than")) {
            (Some(time), _) => check_bound(findings, at, time, zone, &mut from),
            (_, Some(time)) => check_bound(findings, at, time, zone, &mut to),
            _ => findings.add(at, format!("klaviyo-sandbox does not know the filter '{text}' here.")),
        }
    }
    let (Some(from), Some(to)) = (from, to) else {
        findings.add(at, "'filter' must have greater-or-equal and less-than of 'datetime', each once.");
        return None;
    };
    // Source: Klaviyo's guide to this call.
    let latest = from.to_zoned(zone.clone()).checked_add(1.year()).map_or(from, |latest| latest.timestamp());
    if to <= from || to > latest {
        findings.add(at, "The time range must end after it begins, and at most a year after that.");
    }
    Some((from, to))
}

/// A time, which is of the query's zone unless it has an offset.
fn check_bound(
    findings: &mut Findings,
    at: At<'_>,
    text: &str,
    zone: &TimeZone,
    bound: &mut Option<Timestamp>,
) {
    let local = || {
        let time = rfc3339(&format!("{text}Z"))?.to_zoned(TimeZone::UTC).datetime();
        Some(time.to_zoned(zone.clone()).ok()?.timestamp())
    };
    let Some(time) = rfc3339(text).or_else(local) else {
        findings.add(at, "This must be a time in ISO 8601 form (YYYY-MM-DDTHH:MM:SS.mmmmmm).");
        return;
    };
    if bound.replace(time).is_some() {
        findings.add(at, "There is one filter of this kind already.");
    }
}

/// The page that is asked for, of rows that can be sorted by these.
fn check_slice(findings: &mut Findings, attributes: Object<'_, '_>, known: &[&'static str]) -> Option<Slice> {
    let size = attributes.typed(findings, "page_size", "a whole number of at least 1", |value| {
        usize::try_from(value.as_i64()?).ok().filter(|size| *size > 0)
    });
    let order = match attributes.text_if_any(findings, "sort").map(|text| Order::parse(text, known)) {
        Some(Ok(order)) => order,
        Some(Err(error)) => {
            findings.add(attributes.at.key("sort"), error.detail);
            return None;
        }
        None => UNSORTED,
    };
    let after = match attributes.text_if_any(findings, "page_cursor") {
        Some(cursor) => {
            let after = key_at(cursor, order);
            if after.is_none() {
                findings.add(attributes.at.key("page_cursor"), "Invalid cursor.");
            }
            after
        }
        None => None,
    };
    Some(Slice { order, after, from: None, to: None, size: size.unwrap_or(PAGE) })
}

#[cfg(test)]
mod tests;
