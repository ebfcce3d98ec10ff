//! Stretches of time that numbers are read of, one after the other: as long as Klaviyo takes, from the beginning of an interval to
//! that of another.

use delivery::klaviyo::pull::{Interval, Report, Span};
use pgrx::spi;

use super::plan::{Job, Options};
use crate::pg;
use crate::pg::spi::{arg, micros_column, rows};

const DAY: i64 = 24 * 3_600_000_000;

/// With today a year, as much as Klaviyo tells of at once: what is read where nothing says from when on, and of a report that has
/// no days.
const YEAR: i64 = 364 * DAY;

/// What is read anew by each run: events come late.
const LATE: i64 = 30 * DAY;

/// The same of what counts conversions on the day of what has led to them, which may be so long before.
const ATTRIBUTED: i64 = 90 * DAY;

/// There was no Klaviyo before 2012.
const EARLIEST: i64 = 1_325_376_000_000_000;

/// The first of June 2023. Of segments nothing is known before (spec: `timeframe` of `SegmentSeriesRequestDTO`).
const FIRST_OF_SEGMENTS: i64 = 1_685_577_600_000_000;

/// From the beginning of the interval of `$1` for so long (`$4`), but not beyond the end of that of `$2`.
const WINDOW: &str = "
    WITH w AS (
        SELECT least(pg_catalog.date_trunc($3, $1, $5), pg_catalog.date_trunc($3, $2, $5)) AS begins,
               (pg_catalog.date_trunc($3, $2, $5) AT TIME ZONE $5 + ('1 ' || $3)::interval) AT TIME ZONE $5 AS ends
    )
    SELECT w.begins, least((w.begins AT TIME ZONE $5 + $4::interval) AT TIME ZONE $5, w.ends), w.ends FROM w";

/// The first of a run that was begun at `started_at`, where all was read until `marked`. A report by the day is of so many at the
/// most.
pub fn first(
    job: Job,
    options: &Options,
    since: Option<i64>,
    marked: Option<i64>,
    started_at: i64,
    days: usize,
) -> Result<Span, spi::Error> {
    let from = match job.is_of_a_year() {
        true => started_at - YEAR,
        false => {
            let late = if job == Job::Report(Report::Flows) { ATTRIBUTED } else { LATE };
            let anew = marked.map(|marked| marked.min(started_at) - late);
            since.unwrap_or(started_at - YEAR).max(anew.unwrap_or(i64::MIN))
        }
    };
    let earliest = if job == Job::Report(Report::Segments) { FIRST_OF_SEGMENTS } else { EARLIEST };
    of(job, options, from.max(earliest), started_at, days)
}

/// The one behind that which ends then.
pub fn next(
    job: Job,
    options: &Options,
    ended: i64,
    started_at: i64,
    days: usize,
) -> Result<Option<Span>, spi::Error> {
    // Klaviyo does not say with which day a week begins: one that both have a part of is whole in the later.
    let from = if interval(job, options) == Interval::Week { ended - 7 * DAY } else { ended };
    let (span, end) = window(job, options, from, started_at, days)?;
    Ok(Some(span).filter(|_| ended < end))
}

/// The one that begins with the interval of that time.
pub fn of(job: Job, options: &Options, from: i64, started_at: i64, days: usize) -> Result<Span, spi::Error> {
    Ok(window(job, options, from, started_at, days)?.0)
}

/// It, and where the last of them ends.
fn window(
    job: Job,
    options: &Options,
    from: i64,
    started_at: i64,
    days: usize,
) -> Result<(Span, i64), spi::Error> {
    let interval = interval(job, options);
    let length = match (job, interval) {
        (Job::Report(report), _) if report.is_series() => format!("{days} days"),
        (_, Interval::Hour) => "31 days".to_owned(),
        (_, Interval::Week) => "52 weeks".to_owned(),
        _ => "1 year".to_owned(),
    };
    // A report is of the company's days, whatever zone it is asked for by.
    let zone = if job == Job::Aggregates { options.time_zone.as_str() } else { "UTC" };
    let mut window = (Span { from, until: from }, from);
    let args = [
        arg(pg::timestamp(from)),
        arg(pg::timestamp(started_at)),
        arg(interval.name()),
        arg(length),
        arg(zone),
    ];
    rows(WINDOW, &args, |row| {
        window = (Span { from: micros_column(row, 1), until: micros_column(row, 2) }, micros_column(row, 3));
    })?;
    Ok(window)
}

fn interval(job: Job, options: &Options) -> Interval {
    if job == Job::Aggregates { options.interval } else { Interval::Day }
}
