//! What Klaviyo has, to be read page by page: what to ask for, and what an answer holds.

mod numbers;
mod records;

use jiff::Timestamp;
use reqwest::Url;
use serde_json::Value;

use crate::import::CURSOR;
pub use numbers::{Aggregates, Interval, Report, ReportQuery, Span};
pub use records::{PullPage, Resource};

/// A listing of one of Klaviyo's collections. Times are microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing<'a> {
    /// All profiles, or those that have changed after a time; that which has not changed for longest first.
    Profiles {
        after: Option<i64>,
    },
    /// The profile of an address, if there is one.
    ProfileOf {
        email: &'a str,
    },
    /// All events, or those of a metric, or from a time on; the oldest first.
    Events {
        metric: Option<&'a str>,
        from: Option<i64>,
    },
    Lists,
    /// Who is on a list, whoever came first first.
    ListMembers(&'a str),
    Segments,
    /// Who is in a segment.
    SegmentMembers(&'a str),
    /// Campaigns of a channel: `email`, `sms` or `mobile_push`. Klaviyo lists no others together.
    Campaigns {
        channel: &'a str,
    },
    Flows,
    Metrics,
    Aggregates(Aggregates<'a>),
    Report(ReportQuery<'a>),
}

/// A page to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuery {
    /// Path and query.
    pub path: String,
    /// What is sent along by POST; none of what is asked for by GET.
    pub body: Option<String>,
}

/// Days that a report by the day may be of (spec: `interval` of `FlowSeriesRequestDTO`).
pub const DAYS: usize = 60;

/// What the pages of numbers are named by.
const CURSOR_OF_NUMBERS: &str = "page_cursor";

/// What members are listed by.
const JOINED: &str = "joined_group_at";

/// Channels of campaigns (spec: `get_campaigns`).
pub const CHANNELS: [&str; 3] = ["email", "sms", "mobile_push"];

/// A parameter of a query, and its value.
type Parameter = (&'static str, String);

impl Listing<'_> {
    /// A page of at most `size` rows, the first unless a cursor is given.
    pub fn page(&self, cursor: Option<&str>, size: usize) -> PageQuery {
        let sort = |by: &str| Some(("sort", by.to_owned()));
        // Consent is no part of a profile unless it is asked for.
        let consent = || Some(("additional-fields[profile]", "subscriptions".to_owned()));
        let filter = |filter: String| Some(filter).filter(|it| !it.is_empty()).map(|it| ("filter", it));
        let (path, query): (Vec<&str>, [Option<Parameter>; 3]) = match self {
            Self::Profiles { after } => {
                let after = after.map(|at| format!("greater-than(updated,{})", time(at)));
                (vec!["profiles"], [filter(after.unwrap_or_default()), sort("updated"), consent()])
            }
            Self::ProfileOf { email } => {
                let email = format!("equals(email,{})", Value::from(*email));
                (vec!["profiles"], [filter(email), None, consent()])
            }
            Self::Events { metric, from } => {
                let metric = metric.map(|id| format!("equals(metric_id,{})", Value::from(id)));
                let from = from.map(|at| format!("greater-or-equal(datetime,{})", time(at)));
                let both: Vec<String> = metric.into_iter().chain(from).collect();
                (vec!["events"], [filter(both.join(",")), sort("datetime"), None])
            }
            Self::ListMembers(id) => (vec!["lists", id, "profiles"], [None, sort(JOINED), consent()]),
            Self::SegmentMembers(id) => (vec!["segments", id, "profiles"], [None, sort(JOINED), consent()]),
            Self::Campaigns { channel } => {
                let channel = format!("equals(messages.channel,{})", Value::from(*channel));
                (vec!["campaigns"], [filter(channel), sort("id"), None])
            }
            Self::Lists => (vec!["lists"], [None, sort("id"), None]),
            Self::Segments => (vec!["segments"], [None, sort("id"), None]),
            Self::Flows => (vec!["flows"], [None, sort("id"), None]),
            Self::Metrics => (vec!["metrics"], [None, None, None]),
            Self::Aggregates(_) => (vec!["metric-aggregates"], [None, None, None]),
            Self::Report(query) => (vec![query.report.path()], [None, None, None]),
        };
        let size = self.largest().map(|largest| size.clamp(1, largest));
        let body = match self {
            Self::Aggregates(query) => Some(query.body(cursor, size.unwrap_or(1)).to_string()),
            Self::Report(query) => Some(query.body().to_string()),
            _ => None,
        };
        let (size, cursor) = match self {
            // Both stand in the body.
            Self::Aggregates(_) => (None, None),
            Self::Report(_) => (None, cursor.map(|cursor| (CURSOR_OF_NUMBERS, cursor))),
            _ => (size.map(|size| ("page[size]", size.to_string())), cursor.map(|cursor| (CURSOR, cursor))),
        };
        let cursor = cursor.map(|(name, cursor)| (name, cursor.to_owned()));
        let mut url = Url::parse("http://localhost/api").expect("an address");
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        let query: Vec<Parameter> = query.into_iter().chain([size, cursor]).flatten().collect();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        PageQuery { path, body }
    }

    /// Rows that a page may have at the most (spec: `page[size]` of the call), or days of a report; none where that cannot be said.
    pub const fn largest(&self) -> Option<usize> {
        match self {
            // Klaviyo gives a thousand. This is what it gives unless asked for more, and what an answer has room for.
            Self::Events { .. } => Some(200),
            Self::Profiles { .. }
            | Self::ProfileOf { .. }
            | Self::ListMembers(_)
            | Self::SegmentMembers(_)
            | Self::Campaigns { .. } => Some(100),
            Self::Flows => Some(50),
            Self::Lists | Self::Segments => Some(10),
            Self::Aggregates(query) => Some(query.largest()),
            Self::Report(query) if query.report.is_series() => Some(DAYS),
            Self::Metrics | Self::Report(_) => None,
        }
    }

    /// Reads an answer. None where it is no such thing.
    pub fn page_of(&self, body: &[u8]) -> Option<PullPage> {
        match self {
            Self::Aggregates(query) => numbers::aggregates(body, query.span),
            Self::Report(query) => numbers::report(query.report, body),
            _ => self.resource()?.page_of(body),
        }
    }

    /// What its rows are; none where they are numbers.
    pub const fn resource(&self) -> Option<Resource> {
        Some(match self {
            Self::Profiles { .. }
            | Self::ProfileOf { .. }
            | Self::ListMembers(_)
            | Self::SegmentMembers(_) => Resource::Profile,
            Self::Events { .. } => Resource::Event,
            Self::Lists => Resource::List,
            Self::Segments => Resource::Segment,
            Self::Campaigns { .. } => Resource::Campaign,
            Self::Flows => Resource::Flow,
            Self::Metrics => Resource::Metric,
            Self::Aggregates(_) | Self::Report(_) => return None,
        })
    }
}

/// A time as filters take it.
fn time(micros: i64) -> String {
    // Beyond any time of Klaviyo's.
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { from: 0, until: 86_400_000_000 };
    const AGGREGATES: Listing<'_> = Listing::Aggregates(Aggregates {
        metric: "Y6nRLr",
        dimension: Some("$flow"),
        interval: Interval::Day,
        time_zone: "UTC",
        span: SPAN,
    });
    const REPORT: ReportQuery<'_> =
        ReportQuery { report: Report::Flows, conversion_metric: "Y6nRLr", span: SPAN };

    fn query(written: &str) -> Vec<(String, String)> {
        let url = Url::parse(&format!("http://localhost{written}")).expect("an address");
        url.query_pairs().into_owned().collect()
    }

    #[test]
    fn a_page_is_asked_for() {
        let after = Some(1_767_225_600_000_001);
        let asked = Listing::Profiles { after }.page(Some("a&b"), 7).path;
        assert!(asked.starts_with("/api/profiles?"), "{asked}");
        let expected = [
            ("filter", "greater-than(updated,2026-01-01T00:00:00.000001Z)"),
            ("sort", "updated"),
            ("additional-fields[profile]", "subscriptions"),
            ("page[size]", "7"),
            ("page[cursor]", "a&b"),
        ];
        assert_eq!(query(&asked), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let asked = Listing::Events { metric: Some("Y6nRLr"), from: Some(0) }.page(None, 1_000).path;
        let filter = "equals(metric_id,\"Y6nRLr\"),greater-or-equal(datetime,1970-01-01T00:00:00Z)";
        assert_eq!(query(&asked)[0].1, filter);
        assert_eq!(query(&asked)[2], ("page[size]".to_owned(), "200".to_owned()));
        assert_eq!(Listing::Metrics.page(None, 100).path, "/api/metrics");
        assert_eq!(
            Listing::ListMembers("a/b?c").page(None, 0).path,
            "/api/lists/a%2Fb%3Fc/profiles?sort=joined_group_at&additional-fields%5Bprofile%5D=subscriptions&page%5Bsize%5D=1"
        );
    }

    #[test]
    fn numbers_are_asked_for_with_a_body() {
        let PageQuery { path, body } = AGGREGATES.page(Some("a&b"), 1_000);
        let body: Value = serde_json::from_str(&body.expect("a body")).expect("JSON");
        let expected = serde_json::json!({"data": {"type": "metric-aggregate", "attributes": {
            "metric_id": "Y6nRLr", "measurements": ["count", "sum_value", "unique"], "interval": "day", "timezone": "UTC",
            "by": ["$flow"], "sort": "$flow", "page_size": 500, "page_cursor": "a&b",
            "filter": ["greater-or-equal(datetime,1970-01-01T00:00:00Z)", "less-than(datetime,1970-01-02T00:00:00Z)"],
        }}});
        assert_eq!((path.as_str(), body), ("/api/metric-aggregates", expected));
        let PageQuery { path, body } = Listing::Report(REPORT).page(Some("a&b"), 1_000);
        let body: Value = serde_json::from_str(&body.expect("a body")).expect("JSON");
        assert_eq!(path, "/api/flow-series-reports?page_cursor=a%26b");
        let attributes = &body["data"]["attributes"];
        assert_eq!(
            attributes["timeframe"],
            serde_json::json!({"start": "1970-01-01T00:00:00Z", "end": "1970-01-01T23:59:59Z"})
        );
        assert_eq!(attributes["conversion_metric_id"], "Y6nRLr");
    }

    /// However many there are.
    #[test]
    fn an_answer_has_no_more_numbers_than_there_is_room_for() {
        let Listing::Aggregates(query) = AGGREGATES else { unreachable!() };
        let rows = |interval, days: i64| {
            let span = Span { from: 0, until: days * 86_400_000_000 };
            Listing::Aggregates(Aggregates { interval, span, ..query }).largest()
        };
        assert_eq!(rows(Interval::Month, 365), Some(500));
        assert_eq!(rows(Interval::Day, 365), Some(54));
        assert_eq!(rows(Interval::Hour, 31), Some(26));
        assert_eq!(rows(Interval::Hour, 1_000_000), Some(1));
    }

    /// Each is a call of Klaviyo's, and with an id in it no other.
    #[test]
    fn each_listing_is_a_call() {
        let listings = [
            Listing::Profiles { after: None },
            Listing::ProfileOf { email: "ada@shop.example" },
            Listing::Events { metric: None, from: None },
            Listing::Lists,
            Listing::ListMembers("Y6nRLr"),
            Listing::Segments,
            Listing::SegmentMembers("Y6nRLr"),
            Listing::Campaigns { channel: CHANNELS[0] },
            Listing::Flows,
            Listing::Metrics,
            AGGREGATES,
            Listing::Report(ReportQuery { report: Report::Campaigns, ..REPORT }),
            Listing::Report(REPORT),
            Listing::Report(ReportQuery { report: Report::Forms, ..REPORT }),
            Listing::Report(ReportQuery { report: Report::Segments, ..REPORT }),
        ];
        let names = listings.map(|listing| {
            let asked = listing.page(None, 10);
            let (path, _) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
            let method = if asked.body.is_some() { crate::Method::Post } else { crate::Method::Get };
            crate::call(method, path).expect("there is such a call").name
        });
        let expected = [
            "get-profiles",
            "get-profiles",
            "get-events",
            "get-lists",
            "get-list-profiles",
            "get-segments",
            "get-profiles-for-segment",
            "get-campaigns",
            "get-flows",
            "get-metrics",
            "query-metric-aggregates",
            "query-campaign-values",
            "query-flow-series",
            "query-form-series",
            "query-segment-series",
        ];
        assert_eq!(names, expected);
    }
}
