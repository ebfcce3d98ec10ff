//! Numbers that Klaviyo has counted: aggregates of a metric's events, and its reports. They are asked for with a body, and what
//! comes are tables of numbers, not resources with ids.

mod answer;

pub(super) use answer::{aggregates, report};
use serde_json::{Map, Value, json};

use super::time;

/// Numbers that an answer may have, about: some 400 KB of them.
const CELLS: usize = 20_000;

/// Rows of a page of aggregates, as many as Klaviyo gives unless it is asked for others (spec: `page_size`).
const ROWS: usize = 500;

/// The stretches of time that events are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    Hour,
    Day,
    Week,
    Month,
}

impl Interval {
    /// That of a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Hour, Self::Day, Self::Week, Self::Month].into_iter().find(|interval| interval.name() == name)
    }

    /// As Klaviyo and Postgres call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    const fn micros(self) -> i64 {
        let hours = match self {
            Self::Hour => 1,
            Self::Day => 24,
            Self::Week => 7 * 24,
            Self::Month => 28 * 24,
        };
        hours * 3_600_000_000
    }
}

/// From when until before when, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: i64,
    pub until: i64,
}

/// A query for what the events of a metric come to: how many they are, their values, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aggregates<'a> {
    /// Klaviyo's id of the metric.
    pub metric: &'a str,
    /// What they are grouped by, if by anything (spec: `by`).
    pub dimension: Option<&'a str>,
    pub interval: Interval,
    /// Whose clock says when a day begins.
    pub time_zone: &'a str,
    /// A year at the most.
    pub span: Span,
}

impl Aggregates<'_> {
    /// Rows that a page may have, so that the answer is no longer than it should be.
    pub(super) const fn largest(&self) -> usize {
        let Span { from, until } = self.span;
        // One may begin before.
        let dates = (until - from) / self.interval.micros() + 2;
        let rows = CELLS / dates.unsigned_abs() as usize;
        match rows {
            0 => 1,
            1..ROWS => rows,
            _ => ROWS,
        }
    }

    pub(super) fn body(&self, cursor: Option<&str>, size: usize) -> Value {
        let Span { from, until } = self.span;
        let mut attributes = json!({
            "metric_id": self.metric,
            "measurements": ["count", "sum_value", "unique"],
            "interval": self.interval.name(),
            "timezone": self.time_zone,
            "page_size": size,
            "filter": [
                format!("greater-or-equal(datetime,{})", time(from)),
                format!("less-than(datetime,{})", time(until)),
            ],
        });
        if let Some(dimension) = self.dimension {
            attributes["by"] = json!([dimension]);
            // So that rows keep their places while events come.
            attributes["sort"] = json!(dimension);
        }
        if let Some(cursor) = cursor {
            attributes["page_cursor"] = json!(cursor);
        }
        json!({"data": {"type": "metric-aggregate", "attributes": attributes}})
    }
}

/// A report: of campaigns what they have come to in all, of the others what each day has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Campaigns,
    Flows,
    Forms,
    Segments,
}

/// A query for a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportQuery<'a> {
    pub report: Report,
    /// Klaviyo's id of the metric whose events are conversions, of campaigns and flows.
    pub conversion_metric: &'a str,
    /// Days of the company's clock, whatever zone the times are of: of campaigns a year at the most, else 60 days.
    pub span: Span,
}

/// Counts that reports of campaigns and flows have.
const OF_MESSAGES: &[&str] = &[
    "recipients",
    "delivered",
    "bounced",
    "failed",
    "opens",
    "opens_unique",
    "clicks",
    "clicks_unique",
    "unsubscribes",
    "unsubscribe_uniques",
    "spam_complaints",
    "conversions",
    "conversion_uniques",
    "conversion_value",
    "text_message_spend",
];

/// What those of campaigns have besides: each of some of the counts by others, as Klaviyo reckons it.
const OF_CAMPAIGNS: &[&str] = &[
    "delivery_rate",
    "bounce_rate",
    "open_rate",
    "click_rate",
    "click_to_open_rate",
    "conversion_rate",
    "unsubscribe_rate",
    "spam_complaint_rate",
    "revenue_per_recipient",
    "average_order_value",
];

const OF_FORMS: &[&str] = &[
    "viewed_form",
    "viewed_form_uniques",
    "closed_form",
    "closed_form_uniques",
    "submits",
    "submitted_form_step",
    "submitted_form_step_uniques",
    "qualified_form",
    "qualified_form_uniques",
];

const OF_SEGMENTS: &[&str] = &["total_members", "members_added", "members_removed", "net_members_changed"];

impl Report {
    /// The grouping that a row need not have.
    const CHANNEL: &str = "send_channel";

    const fn resource(self) -> &'static str {
        match self {
            Self::Campaigns => "campaign-values-report",
            Self::Flows => "flow-series-report",
            Self::Forms => "form-series-report",
            Self::Segments => "segment-series-report",
        }
    }

    /// The path's last part.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Campaigns => "campaign-values-reports",
            Self::Flows => "flow-series-reports",
            Self::Forms => "form-series-reports",
            Self::Segments => "segment-series-reports",
        }
    }

    /// What its rows are of.
    const fn groupings(self) -> &'static [&'static str] {
        match self {
            Self::Campaigns => &["campaign_id", "campaign_message_id", Self::CHANNEL],
            Self::Flows => &["flow_id", "flow_message_id", Self::CHANNEL],
            Self::Forms => &["form_id"],
            Self::Segments => &["segment_id"],
        }
    }

    fn statistics(self) -> impl Iterator<Item = &'static str> {
        let (some, others): (_, &[_]) = match self {
            Self::Campaigns => (OF_MESSAGES, OF_CAMPAIGNS),
            Self::Flows => (OF_MESSAGES, &[]),
            Self::Forms => (OF_FORMS, &[]),
            Self::Segments => (OF_SEGMENTS, &[]),
        };
        some.iter().chain(others).copied()
    }

    /// Whether a statistic counts something. The others may have a fraction.
    fn is_count(name: &str) -> bool {
        !OF_CAMPAIGNS.contains(&name) && !["conversion_value", "text_message_spend"].contains(&name)
    }

    /// Whether it is of days.
    pub const fn is_series(self) -> bool {
        !matches!(self, Self::Campaigns)
    }

    const fn is_of_messages(self) -> bool {
        matches!(self, Self::Campaigns | Self::Flows)
    }
}

impl ReportQuery<'_> {
    pub(super) fn body(&self) -> Value {
        let Self { report, conversion_metric, span } = *self;
        let mut attributes = Map::new();
        let mut say = |name: &str, value: Value| _ = attributes.insert(name.to_owned(), value);
        say("statistics", report.statistics().collect());
        // Nothing is lost of the last second where Klaviyo leaves out the end, and no hour is added where it has it.
        say("timeframe", json!({"start": time(span.from), "end": time(span.until - 1_000_000)}));
        if report.is_series() {
            say("interval", json!("daily"));
        }
        if report.is_of_messages() {
            say("conversion_metric_id", json!(conversion_metric));
        }
        // Of segments nobody can say.
        if report != Report::Segments {
            say("group_by", json!(report.groupings()));
        }
        json!({"data": {"type": report.resource(), "attributes": attributes}})
    }
}
