//! The calls that ask for reports.

use std::ops::Range;

use hyper::StatusCode;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::{Map, Value, json};
use serde_json_borrow::Value as Borrowed;

use super::Received;
use super::calls::{document, refused};
use super::query;
use crate::check::{self, ReportQuery};
use crate::error::ApiError;
use crate::intervals::written;
use crate::order::{Order, Rows, Slice, cursor};
use crate::reply::Reply;
use crate::reports::{Report, Row};
use crate::sandbox::State;
use crate::time::now;

impl Received<'_> {
    pub(super) fn report(&self, state: &State, body: &Borrowed<'_>, report: Report) -> Result<Reply, Reply> {
        let asked = query::reports::report(&self.head.uri, report).map_err(refused)?;
        let query = check::report(body, report, now()).map_err(|errors| Reply::errors(&errors))?;
        if let Some(metric) = &query.conversion_metric {
            let unknown = |error: ApiError| refused(error.at("/data/attributes/conversion_metric_id"));
            state.store.metric(metric).map_err(unknown)?;
        }
        // Of this report, so that no other takes its cursors.
        let order = Order::ascending(report.resource());
        let is_paged = report.subject().spec().is_of_messages;
        let size = if is_paged { state.reports.page_size } else { usize::MAX };
        let after = asked.after(order).map_err(refused)?;
        let slice = Slice { order, after, from: None, to: None, size };

        let starts = starts(&query);
        let rows = state.reports.results(report.subject(), &query, &stretches(&query, &starts));
        let Rows { rows, last } = slice.page_of_few(rows);
        let results = rows.into_iter().map(|row| resource(row, report));
        let mut attributes = json!({"results": results.collect::<Vec<_>>()});
        if report.is_series() {
            attributes["date_times"] = starts.iter().map(written).collect();
        }
        let resource = asked.fields.narrow(json!({"type": report.resource(), "attributes": attributes}));
        let links = asked.links(self.api_url(), last.map(|last| cursor(order, &last)).as_deref());
        Ok(document(StatusCode::OK, &json!({"data": resource, "links": links})))
    }
}

/// The starts of the intervals of a series, or of the whole time.
fn starts(query: &ReportQuery) -> Vec<Zoned> {
    match query.interval {
        Some(interval) => interval.starts(&TimeZone::UTC, query.from, query.to),
        None => vec![query.from.to_zoned(TimeZone::UTC)],
    }
}

/// What of the time each is, end to end.
fn stretches(query: &ReportQuery, starts: &[Zoned]) -> Vec<Range<Timestamp>> {
    let starts: Vec<Timestamp> = starts.iter().map(|start| start.timestamp().max(query.from)).collect();
    let ends = starts.iter().skip(1).chain([&query.to]);
    starts.iter().zip(ends).map(|(start, end)| *start..*end).collect()
}

/// A row as answers have it (`ValuesData`, `SeriesData`).
fn resource(Row { groupings, statistics }: Row, report: Report) -> Value {
    let statistics = statistics.into_iter().map(|(name, mut numbers)| {
        // Of values there is one stretch of time.
        let number = if report.is_series() { numbers.into() } else { numbers.swap_remove(0) };
        (name.to_owned(), number)
    });
    json!({"groupings": groupings, "statistics": statistics.collect::<Map<_, _>>()})
}
