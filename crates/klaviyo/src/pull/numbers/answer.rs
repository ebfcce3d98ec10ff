//! What Klaviyo's tables of numbers say: a record for each cell in which anything was counted.

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::Deserialize;
use serde_json::{Map, Number, Value, json};
use sha2::{Digest, Sha256};

use super::super::{CURSOR_OF_NUMBERS, PullPage};
use super::{Report, Span};
use crate::import::{CURSOR, cursor_in};
use crate::json_text::mended;
use crate::webhook::is_name;

/// Bytes of a value of a dimension. One that is longer, as addresses of pages may be, is cut, and told from others by a digest.
const LONGEST: usize = 500;

/// From here on a number may have lost what an integer is.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[derive(Deserialize)]
struct Document<T> {
    data: Resource<T>,
    #[serde(default)]
    links: Links,
}

#[derive(Deserialize)]
struct Resource<T> {
    attributes: T,
    #[serde(default)]
    links: Links,
}

#[derive(Default, Deserialize)]
struct Links {
    next: Option<String>,
}

#[derive(Deserialize)]
struct Aggregated {
    dates: Vec<String>,
    data: Vec<Value>,
}

#[derive(Deserialize)]
struct AggregatedRow {
    dimensions: Vec<Option<String>>,
    measurements: Measurements,
}

#[derive(Deserialize)]
struct Measurements {
    count: Vec<Option<f64>>,
    sum_value: Vec<Option<Number>>,
    unique: Vec<Option<f64>>,
}

#[derive(Deserialize)]
struct Reported {
    results: Vec<Value>,
    #[serde(default)]
    date_times: Vec<String>,
}

#[derive(Deserialize)]
struct ReportedRow {
    groupings: Map<String, Value>,
    statistics: Map<String, Value>,
}

/// Reads an answer about aggregates. None where it is no such thing. An interval that began before the time that was asked for
/// has more events than were counted.
pub fn aggregates(body: &[u8], span: Span) -> Option<PullPage> {
    let (Aggregated { dates, data }, next) = document(body)?;
    // Whatever their zone, they are moments.
    let dates: Vec<Timestamp> = dates.iter().map(|date| date.parse().ok()).collect::<Option<_>>()?;
    let from = Timestamp::from_microsecond(span.from).ok()?;
    Some(page(data, next, |row| cells(serde_json::from_value(row).ok()?, &dates, from)))
}

/// Reads a report. None where it is none.
pub fn report(report: Report, body: &[u8]) -> Option<PullPage> {
    let (Reported { results, date_times }, next) = document(body)?;
    let days: Vec<Option<String>> = match report.is_series() {
        true => date_times.iter().map(|date| day(date).map(Some)).collect::<Option<_>>()?,
        false => vec![None],
    };
    Some(page(results, next, |row| days_of(report, serde_json::from_value(row).ok()?, &days)))
}

fn document<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Option<(T, Option<String>)> {
    let Document::<T> { data, links } = serde_json::from_slice(&mended(body)).ok()?;
    // The document has neither where it stands nor what it is called.
    let next = match links.next.or(data.links.next) {
        Some(next) => Some(cursor_in(&next, CURSOR_OF_NUMBERS).or_else(|| cursor_in(&next, CURSOR))?),
        None => None,
    };
    Some((data.attributes, next))
}

fn page(rows: Vec<Value>, next: Option<String>, read: impl Fn(Value) -> Option<Vec<Value>>) -> PullPage {
    let mut page = PullPage { records: Vec::new(), unreadable: 0, next, latest: None };
    for row in rows {
        match read(row) {
            Some(records) => page.records.extend(records),
            None => page.unreadable += 1,
        }
    }
    page
}

/// What there was of a row's events at each of these times.
fn cells(row: AggregatedRow, dates: &[Timestamp], from: Timestamp) -> Option<Vec<Value>> {
    let Measurements { count, sum_value, unique } = row.measurements;
    if [count.len(), sum_value.len(), unique.len()] != [dates.len(); 3] {
        return None;
    }
    let value = match row.dimensions.as_slice() {
        [] => String::new(),
        [value] => cut(value.as_deref().unwrap_or_default()),
        _ => return None,
    };
    let cells = dates.iter().enumerate().filter(|(_, date)| **date >= from).filter_map(|(at, date)| {
        let (count, sum, unique) = (count[at], &sum_value[at], unique[at]);
        let numbers = [count, unique, sum.as_ref().and_then(Number::as_f64)];
        let is_any = numbers.into_iter().flatten().any(|number| number != 0.0);
        is_any.then(|| {
            json!({
                "id": format!("{date} {value}"), "starts_at": date.to_string(), "dimension_value": value,
                "count": count.and_then(whole), "sum_value": sum, "unique_profiles": unique.and_then(whole),
            })
        })
    });
    Some(cells.collect())
}

/// The days of a row on which anything was counted, or the row where it is of no days.
fn days_of(report: Report, row: ReportedRow, days: &[Option<String>]) -> Option<Vec<Value>> {
    let mut of = Map::new();
    for name in report.groupings() {
        let id = match row.groupings.get(*name) {
            Some(Value::String(id)) if is_name(id) => id.as_str(),
            // A channel need not be said.
            None | Some(Value::Null) if *name == Report::CHANNEL => "",
            _ => return None,
        };
        of.insert((*name).to_owned(), id.into());
    }
    let ids = of.values().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    // What Klaviyo does not say of an account, as of text messages it does not send, is not known.
    let series = report.statistics().filter_map(|name| {
        let said = row.statistics.get(name)?;
        let said = if report.is_series() { said.as_array()?.as_slice() } else { std::slice::from_ref(said) };
        Some((name, said))
    });
    let series: Vec<(&str, &[Value])> = series.collect();
    if series.is_empty() {
        return None;
    }
    let mut records = Vec::new();
    for (at, day) in days.iter().enumerate() {
        let numbers: Vec<(&str, Value)> =
            series.iter().map(|(name, said)| (*name, number(name, said.get(at)))).collect();
        if report.is_series() && numbers.iter().all(|(_, number)| number.is_null() || *number == 0) {
            continue;
        }
        let mut record = of.clone();
        record.insert("id".to_owned(), format!("{ids} {}", day.as_deref().unwrap_or_default()).into());
        record.extend(day.clone().map(|day| ("day".to_owned(), day.into())));
        record.extend(numbers.into_iter().map(|(name, number)| (name.to_owned(), number)));
        records.push(Value::Object(record));
    }
    Some(records)
}

/// A statistic; null what is no number, or no whole one where something is counted.
fn number(name: &str, value: Option<&Value>) -> Value {
    let Some((value, float)) = value.and_then(|value| Some((value, value.as_f64()?))) else {
        return Value::Null;
    };
    match whole(float) {
        Some(whole) => whole.into(),
        None if Report::is_count(name) => Value::Null,
        None => value.clone(),
    }
}

/// A count, which Klaviyo may write as `12.0`.
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i64)
}

/// The day of a time, by the clock it was written by.
fn day(text: &str) -> Option<String> {
    text.parse::<Timestamp>().ok()?;
    // With its offset left out of account.
    let time: DateTime = text.get(.."2026-11-01T00:00:00".len())?.parse().ok()?;
    Some(time.date().to_string())
}

fn cut(value: &str) -> String {
    if value.len() <= LONGEST {
        return value.to_owned();
    }
    let digest: String = Sha256::digest(value).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{}… {digest}", &value[..value.floor_char_boundary(LONGEST - 20)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_read_and_nothing_else() {
        let row = |dimensions: Value, count: Value| {
            let numbers = json!({"count": count, "sum_value": [0.1, 0], "unique": [2.0, 0.0]});
            json!({"dimensions": dimensions, "measurements": numbers})
        };
        let body = json!({
            "data": {"type": "metric-aggregate", "id": "x", "attributes": {
                "dates": ["2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"],
                "data": [
                    row(json!(["email"]), json!([3.0, 0.0])),
                    row(json!(["e", "f"]), json!([3.0, 0.0])),
                    row(json!([]), json!([3.0])),
                ],
            }},
            "links": {"self": "x", "next": "https://a.klaviyo.com/api/metric-aggregates?page_cursor=a%26b"},
        });
        let from = |date: &str| date.parse::<Timestamp>().expect("a time").as_microsecond();
        let span = Span { from: from("2026-10-24T22:00:00Z"), until: from("2026-10-26T23:00:00Z") };
        let page = aggregates(body.to_string().as_bytes(), span).expect("a page");
        let expected = json!({
            "id": "2026-10-24T22:00:00Z email", "starts_at": "2026-10-24T22:00:00Z", "dimension_value": "email",
            "count": 3, "sum_value": 0.1, "unique_profiles": 2,
        });
        assert_eq!((page.records, page.unreadable, page.next.as_deref()), (vec![expected], 2, Some("a&b")));
        let later = Span { from: span.from + 1, ..span };
        assert_eq!(
            aggregates(body.to_string().as_bytes(), later).expect("a page").records,
            Vec::<Value>::new()
        );
        assert_eq!(aggregates(br#"{"data":{"attributes":{"dates":["yesterday"],"data":[]}}}"#, span), None);
        assert_eq!(aggregates(br#"{"data":[]}"#, span), None);
    }

    #[test]
    fn a_day_is_that_of_the_clock_it_was_written_by() {
        let statistics: Map<String, Value> = Report::Segments
            .statistics()
            .map(|name| (name.to_owned(), json!([if name == "total_members" { 7.0 } else { 0.0 }, 0])))
            .collect();
        let row = |groupings: Value| json!({"groupings": groupings, "statistics": statistics});
        let body = json!({"data": {"attributes": {
            "results": [row(json!({"segment_id": "S"})), row(json!({})), row(json!({"segment_id": ""}))],
            "date_times": ["2026-11-01T00:00:00+13:00", "2026-11-02T00:00:00+13:00"],
        }}});
        let page = report(Report::Segments, body.to_string().as_bytes()).expect("a page");
        let expected = json!({
            "id": "S 2026-11-01", "segment_id": "S", "day": "2026-11-01",
            "total_members": 7, "members_added": 0, "members_removed": 0, "net_members_changed": 0,
        });
        assert_eq!((page.records, page.unreadable, page.next), (vec![expected], 2, None));
    }

    #[test]
    fn a_campaign_is_a_row_whatever_it_has_come_to() {
        let mut statistics: Map<String, Value> =
            Report::Campaigns.statistics().map(|name| (name.to_owned(), json!(0.0))).collect();
        statistics["open_rate"] = json!(0.25);
        statistics["click_rate"] = json!(null);
        statistics["clicks"] = json!(2.5);
        statistics.remove("text_message_spend");
        let groupings = json!({"campaign_id": "C", "campaign_message_id": "M", "send_channel": null});
        let row = json!({"groupings": groupings, "statistics": statistics});
        let body = json!({"data": {"attributes": {"results": [row]}}, "links": {"next": null}});
        let page = report(Report::Campaigns, body.to_string().as_bytes()).expect("a page");
        let [record] = page.records.as_slice() else { panic!("{page:?}") };
        assert_eq!(
            (&record["open_rate"], &record["click_rate"], &record["opens"], &record["send_channel"]),
            (&json!(0.25), &json!(null), &json!(0), &json!(""))
        );
        assert_eq!((&record["clicks"], &record["text_message_spend"]), (&json!(null), &json!(null)));
    }

    #[test]
    fn values_too_long_for_an_index_are_cut_and_stay_two() {
        let (one, other) = ("é".repeat(400), "é".repeat(401));
        assert_ne!(cut(&one), cut(&other));
        assert!(cut(&one).len() <= LONGEST && cut(&one).starts_with("éé"));
        assert_eq!(cut("https://shop.example/"), "https://shop.example/");
    }
}
