//! The time that a report is about. The company's zone is UTC here.

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::event::rfc3339;
use super::fields::{Findings, Object};
use crate::reports::Subject;

/// Source: `Timeframe`.
const KEYS: [&str; 14] = [
    "last_12_months",
    "last_30_days",
    "last_365_days",
    "last_3_months",
    "last_7_days",
    "last_90_days",
    "last_month",
    "last_week",
    "last_year",
    "this_month",
    "this_week",
    "this_year",
    "today",
    "yesterday",
];

/// Before it there are no numbers of segments. Source: `timeframe` of `SegmentValuesRequestDTO`.
const FIRST_OF_SEGMENTS: Date = date(2023, 6, 1);

/// Checks a `Timeframe` or `CustomTimeframe`: from when until when it is.
pub fn check(
    findings: &mut Findings,
    attributes: Object<'_, '_>,
    subject: Subject,
    now: Timestamp,
) -> Option<(Timestamp, Timestamp)> {
    let timeframe = attributes.object(findings, "timeframe")?;
    if timeframe.map.get("key").is_some() {
        timeframe.only(findings, "timeframe", &["key"]);
        let key = timeframe.choice(findings, "key", &KEYS)?;
        let (from, to) = named(key, now.to_zoned(TimeZone::UTC).date());
        return Some((midnight(from)?, midnight(to)?));
    }
    timeframe.only(findings, "timeframe", &["start", "end"]);
    let from = check_time(findings, timeframe, "start");
    let to = check_time(findings, timeframe, "end");
    let (from, to) = (from?, to?);
    let latest = from.to_zoned(TimeZone::UTC).saturating_add(1.year()).timestamp();
    if to <= from {
        findings.add(timeframe.at.key("end"), "'end' must be after 'start'.");
    } else if to > latest {
        findings.add(timeframe.at, "A timeframe has at most a year.");
    }
    if subject == Subject::Segment && from.to_zoned(TimeZone::UTC).date() < FIRST_OF_SEGMENTS {
        let detail = format!("There is no data of segments before {FIRST_OF_SEGMENTS}.");
        findings.add(timeframe.at.key("start"), detail);
    }
    Some((from, to))
}

/// A time by the company's clock, whatever its offset is.
fn check_time(findings: &mut Findings, timeframe: Object<'_, '_>, key: &str) -> Option<Timestamp> {
    let text = timeframe.required_text(findings, key)?;
    let local = match text.strip_suffix(['Z', 'z']) {
        Some(local) => Some(local),
        // Of a time in this form the last six characters are the offset.
        None => rfc3339(text).and_then(|_| text.get(..text.len() - "+00:00".len())),
    };
    let time = local.and_then(|local| rfc3339(&format!("{local}Z")));
    if time.is_none() {
        findings.add(timeframe.at.key(key), "This must be a date and time in RFC 3339 form.");
    }
    time
}

/// The first day of a time that has a name, and the first after it. Those that end with today have what is left of it.
fn named(key: &str, today: Date) -> (Date, Date) {
    let tomorrow = today.saturating_add(1.day());
    let (month, year) = (today.first_of_month(), today.first_of_year());
    let monday = today.saturating_sub(i64::from(today.weekday().to_monday_zero_offset()).days());
    match key {
        "today" => (today, tomorrow),
        "yesterday" => (today.saturating_sub(1.day()), today),
        "last_7_days" => (tomorrow.saturating_sub(7.days()), tomorrow),
        "last_30_days" => (tomorrow.saturating_sub(30.days()), tomorrow),
        "last_90_days" => (tomorrow.saturating_sub(90.days()), tomorrow),
        "last_365_days" => (tomorrow.saturating_sub(365.days()), tomorrow),
        "this_week" => (monday, tomorrow),
        "last_week" => (monday.saturating_sub(1.week()), monday),
        "this_month" => (month, tomorrow),
        "last_month" => (month.saturating_sub(1.month()), month),
        "last_3_months" => (month.saturating_sub(3.months()), month),
        "last_12_months" => (month.saturating_sub(12.months()), month),
        "this_year" => (year, tomorrow),
        _ => (year.saturating_sub(1.year()), year),
    }
}

fn midnight(date: Date) -> Option<Timestamp> {
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_a_name_are_whole_days_of_now() {
        // A Wednesday.
        let today = date(2026, 3, 4);
        for (key, from, to) in [
            ("today", "2026-03-04", "2026-03-05"),
            ("yesterday", "2026-03-03", "2026-03-04"),
            ("last_7_days", "2026-02-26", "2026-03-05"),
            ("last_30_days", "2026-02-03", "2026-03-05"),
            ("last_90_days", "2025-12-05", "2026-03-05"),
            ("last_365_days", "2025-03-05", "2026-03-05"),
            ("this_week", "2026-03-02", "2026-03-05"),
            ("last_week", "2026-02-23", "2026-03-02"),
            ("this_month", "2026-03-01", "2026-03-05"),
            ("last_month", "2026-02-01", "2026-03-01"),
            ("last_3_months", "2025-12-01", "2026-03-01"),
            ("last_12_months", "2025-03-01", "2026-03-01"),
            ("this_year", "2026-01-01", "2026-03-05"),
            ("last_year", "2025-01-01", "2026-01-01"),
        ] {
            assert!(KEYS.contains(&key));
            let found = named(key, today);
            assert_eq!((found.0.to_string(), found.1.to_string()), (from.to_owned(), to.to_owned()), "{key}");
        }
        assert_eq!(named("this_week", date(2026, 3, 2)).0, date(2026, 3, 2));
        assert_eq!(named("this_week", date(2026, 3, 8)).0, date(2026, 3, 2));
    }
}
