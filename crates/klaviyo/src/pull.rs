//! What Klaviyo has, to be read page by page: what to ask for, and what an answer holds.

mod records;

use jiff::Timestamp;
use reqwest::Url;
use serde_json::Value;

use crate::import::CURSOR;
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
}

/// What members are listed by.
const JOINED: &str = "joined_group_at";

/// Channels of campaigns (spec: `get_campaigns`).
pub const CHANNELS: [&str; 3] = ["email", "sms", "mobile_push"];

/// A parameter of a query, and its value.
type Parameter = (&'static str, String);

impl Listing<'_> {
    /// Path and query of a page of at most `size` rows, the first unless a cursor is given.
    pub fn page(&self, cursor: Option<&str>, size: usize) -> String {
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
        };
        let size = self.largest().map(|largest| ("page[size]", size.clamp(1, largest).to_string()));
        let cursor = cursor.map(|cursor| (CURSOR, cursor.to_owned()));
        let mut url = Url::parse("http://localhost/api").expect("an address");
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        let query: Vec<Parameter> = query.into_iter().chain([size, cursor]).flatten().collect();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        }
    }

    /// Rows that a page may have at the most (spec: `page[size]` of the call); none where that cannot be said.
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
            Self::Metrics => None,
        }
    }

    /// What its rows are.
    pub const fn resource(&self) -> Resource {
        match self {
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
        }
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

    fn query(written: &str) -> Vec<(String, String)> {
        let url = Url::parse(&format!("http://localhost{written}")).expect("an address");
        url.query_pairs().into_owned().collect()
    }

    #[test]
    fn a_page_is_asked_for() {
        let after = Some(1_767_225_600_000_001);
        let asked = Listing::Profiles { after }.page(Some("a&b"), 7);
        assert!(asked.starts_with("/api/profiles?"), "{asked}");
        let expected = [
            ("filter", "greater-than(updated,2026-01-01T00:00:00.000001Z)"),
            ("sort", "updated"),
            ("additional-fields[profile]", "subscriptions"),
            ("page[size]", "7"),
            ("page[cursor]", "a&b"),
        ];
        assert_eq!(query(&asked), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let asked = Listing::Events { metric: Some("Y6nRLr"), from: Some(0) }.page(None, 1_000);
        let filter = "equals(metric_id,\"Y6nRLr\"),greater-or-equal(datetime,1970-01-01T00:00:00Z)";
        assert_eq!(query(&asked)[0].1, filter);
        assert_eq!(query(&asked)[2], ("page[size]".to_owned(), "200".to_owned()));
        assert_eq!(Listing::Metrics.page(None, 100), "/api/metrics");
        assert_eq!(
            Listing::ListMembers("a/b?c").page(None, 0),
            "/api/lists/a%2Fb%3Fc/profiles?sort=joined_group_at&additional-fields%5Bprofile%5D=subscriptions&page%5Bsize%5D=1"
        );
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
        ];
        let names = listings.map(|listing| {
            let asked = listing.page(None, 10);
            let (path, _) = asked.split_once('?').unwrap_or((&asked, ""));
            crate::call(crate::Method::Get, path).expect("there is such a call").name
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
        ];
        assert_eq!(names, expected);
    }
}
