//! What the numbers of days come to in the stretches of time of a report.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::statistics::How;
use super::{Groupings, Numbers, Reports, Spec, Subject};
use crate::check::ReportQuery;
use crate::filter::Test;
use crate::order::{Key, Rank};

/// The days that are alike in what is grouped by.
pub struct Row {
    /// Null for those of which nothing is said.
    pub groupings: Map<String, Value>,
    /// Of each statistic a number for each stretch.
    pub statistics: Vec<(&'static str, Vec<Value>)>,
}

/// The days of a row up to the end of the time that is asked about, in order, and what is said of each.
type Days<'a> = Vec<(Timestamp, &'a Numbers)>;

impl Reports {
    /// The rows of a report, of each that has a day in these stretches of time, which lie end to end.
    pub fn results(
        &self,
        subject: Subject,
        asked: &ReportQuery,
        stretches: &[Range<Timestamp>],
    ) -> Vec<(Key, Row)> {
        let mut groups: BTreeMap<Vec<Option<&str>>, Days<'_>> = BTreeMap::new();
        for ((of, date, groupings), numbers) in &self.days {
            // A day is counted at its first moment.
            let Ok(day) = date.to_zoned(TimeZone::UTC) else { continue };
            if *of == subject && day.timestamp() < asked.to && asked.is_about(groupings) {
                let group =
                    asked.group_by.iter().map(|name| groupings.get(*name).map(String::as_str)).collect();
                groups.entry(group).or_default().push((day.timestamp(), numbers));
            }
        }
        groups.retain(|_, days| days.last().is_some_and(|(day, _)| *day >= asked.from));
        let rows = groups.into_iter().map(|(group, days)| {
            let id = json!(group).to_string();
            let names = asked.group_by.iter().map(|name| (*name).to_owned());
            let groupings = names.zip(group.into_iter().map(Value::from)).collect();
            let series = |&name: &&'static str| {
                let value = |stretch| number(subject.spec().value(name, &days, stretch));
                (name, stretches.iter().map(value).collect())
            };
            let statistics = asked.statistics.iter().map(series).collect();
            (Key { rank: Rank::Nothing, id }, Row { groupings, statistics })
        });
        rows.collect()
    }
}

impl ReportQuery {
    fn is_about(&self, groupings: &Groupings) -> bool {
        let is_met = |field: &str, test: &Test| groupings.get(field).is_some_and(|value| test.text(value));
        self.conditions.iter().all(|condition| is_met(condition.field, &condition.test))
    }
}

impl Spec {
    /// What a statistic comes to in a stretch of time.
    fn value(&self, name: &str, days: &Days<'_>, stretch: &Range<Timestamp>) -> f64 {
        let said = |numbers: &Numbers| numbers.get(name).copied();
        match self.how(name) {
            Some(How::Sum) | None => {
                let within = days.iter().filter(|(day, _)| stretch.contains(day));
                within.filter_map(|(_, numbers)| said(numbers)).sum()
            }
            Some(How::Last) => {
                let by_then = days.iter().rev().filter(|(day, _)| *day < stretch.end);
                by_then.filter_map(|(_, numbers)| said(numbers)).next().unwrap_or_default()
            }
            Some(How::Rate(part, whole)) => match self.value(whole, days, stretch) {
                0.0 => 0.0,
                whole => self.value(part, days, stretch) / whole,
            },
            Some(How::Net(more, less)) => self.value(more, days, stretch) - self.value(less, days, stretch),
        }
    }
}

/// A number as the document's examples have it: without a fraction where there is none.
fn number(value: f64) -> Value {
    // A cast of a float saturates; what is larger has no fraction to lose.
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}
