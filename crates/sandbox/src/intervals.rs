//! The intervals that numbers are counted by: stretches of a zone's clocks, each from its start to that of the next.

use jiff::tz::TimeZone;
use jiff::{RoundMode, Timestamp, ToSpan, Unit, Zoned, ZonedRound};

/// How long each is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interval {
    /// On the clock's full hour. One that comes twice is two.
    Hour,
    /// From midnight, or the first time of the day where there is none.
    Day,
    /// From Monday. Klaviyo does not say from which day on.
    Week,
    Month,
}

impl Interval {
    /// The starts of those that have a part of `from` up to `to`. The first may be before `from`.
    pub fn starts(self, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Vec<Zoned> {
        // Away from the limits of the type by the checks of times, so that none fails.
        let first = self.start(&from.to_zoned(zone.clone())).ok();
        let starts = std::iter::successors(first, |start| self.next(start).ok());
        starts.take_while(|start| start.timestamp() < to).collect()
    }

    /// The start of the one that a time is in.
    fn start(self, time: &Zoned) -> Result<Zoned, jiff::Error> {
        match self {
            Self::Hour => time.round(ZonedRound::new().smallest(Unit::Hour).mode(RoundMode::Trunc)),
            Self::Day => time.start_of_day(),
            Self::Week => {
                let days = i64::from(time.weekday().to_monday_zero_offset());
                time.checked_sub(days.days())?.start_of_day()
            }
            Self::Month => time.first_of_month()?.start_of_day(),
        }
    }

    fn next(self, start: &Zoned) -> Result<Zoned, jiff::Error> {
        match self {
            Self::Hour => start.checked_add(1.hour()),
            Self::Day => start.tomorrow()?.start_of_day(),
            Self::Week => start.checked_add(1.week())?.start_of_day(),
            Self::Month => start.checked_add(1.month())?.start_of_day(),
        }
    }
}

/// The start as answers have it.
pub fn written(start: &Zoned) -> String {
    start.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(interval: Interval, zone: &str, from: &str, to: &str) -> Vec<String> {
        let [from, to] = [from, to].map(|time| time.parse().unwrap());
        interval.starts(&TimeZone::get(zone).unwrap(), from, to).iter().map(written).collect()
    }

    #[test]
    fn days_begin_at_a_zones_midnight_however_long_they_are() {
        // The clocks go back on the first.
        let days =
            starts(Interval::Day, "America/New_York", "2026-10-31T12:00:00Z", "2026-11-03T05:00:00.000001Z");
        assert_eq!(
            days,
            [
                "2026-10-31T00:00:00-04:00",
                "2026-11-01T00:00:00-04:00",
                "2026-11-02T00:00:00-05:00",
                "2026-11-03T00:00:00-05:00",
            ]
        );
        // Midnight is skipped.
        let days = starts(Interval::Day, "America/Santiago", "2026-09-05T12:00:00Z", "2026-09-08T00:00:00Z");
        assert_eq!(
            days,
            ["2026-09-05T00:00:00-04:00", "2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00",]
        );
    }

    #[test]
    fn an_hour_that_comes_twice_is_two_and_one_that_is_skipped_is_none() {
        let hours = starts(Interval::Hour, "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z");
        assert_eq!(hours, ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]);
        let hours = starts(Interval::Hour, "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z");
        assert_eq!(hours, ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"]);
        let hours = starts(Interval::Hour, "Asia/Kolkata", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z");
        assert_eq!(hours, ["2026-03-29T05:00:00+05:30", "2026-03-29T06:00:00+05:30"]);
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        let weeks = starts(Interval::Week, "UTC", "2026-11-01T23:59:59Z", "2026-11-09T00:00:00Z");
        assert_eq!(weeks, ["2026-10-26T00:00:00+00:00", "2026-11-02T00:00:00+00:00"]);
        let months = starts(Interval::Month, "Asia/Tokyo", "2026-10-31T15:00:00Z", "2026-12-31T15:00:00Z");
        assert_eq!(months, ["2026-11-01T00:00:00+09:00", "2026-12-01T00:00:00+09:00"]);
        let months = starts(Interval::Month, "UTC", "2024-01-31T00:00:00Z", "2024-03-01T00:00:00Z");
        assert_eq!(months, ["2024-01-01T00:00:00+00:00", "2024-02-01T00:00:00+00:00"]);
    }
}
