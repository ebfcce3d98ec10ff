//! Reports: numbers of campaigns, flows, forms and segments. Klaviyo counts them; here they are what somebody said of a day.

mod kinds;
mod results;
mod statistics;

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Deserialize;

pub use kinds::{Report, Spec, Subject, TAGS};
pub use results::Row;
use statistics::How;

/// Rows of a page, unless a control path said otherwise. Klaviyo does not say how many there are.
const PAGE: usize = 100;

/// What the numbers of a day are of: the names of groupings, and the value of each.
type Groupings = BTreeMap<String, String>;

/// The numbers of a day, by the names of statistics.
type Numbers = BTreeMap<String, f64>;

/// The numbers of a day to keep.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DayDraft {
    report: Subject,
    groupings: Groupings,
    date: String,
    statistics: Numbers,
}

/// All numbers, by what they are of.
pub struct Reports {
    days: BTreeMap<(Subject, Date, Groupings), Numbers>,
    /// Rows of a page, of the reports that have pages.
    pub page_size: usize,
}

impl DayDraft {
    /// The day, or what is wrong.
    fn check(&self) -> Result<Date, String> {
        let spec = self.report.spec();
        let is_known =
            |name: &String| spec.groupings.contains(&name.as_str()) && !TAGS.contains(&name.as_str());
        if let Some(name) = self.groupings.keys().find(|name| !is_known(name)) {
            return Err(format!("'{name}' is no grouping of this report here"));
        }
        if let Some(name) = spec.required.iter().find(|name| !self.groupings.contains_key(**name)) {
            return Err(format!("'{name}' must be among the groupings"));
        }
        let is_counted = |name: &String| matches!(spec.how(name), Some(How::Sum | How::Last));
        if let Some(name) = self.statistics.keys().find(|name| !is_counted(name)) {
            return Err(format!("'{name}' is no statistic of this report that is counted by the day"));
        }
        // jiff also reads 20261101 and dates with a time.
        let date = Some(&self.date).filter(|date| date.len() == 10).and_then(|date| date.parse().ok());
        date.ok_or_else(|| "'date' must be a date (YYYY-MM-DD)".to_owned())
    }
}

impl Reports {
    pub fn new() -> Self {
        Self { days: BTreeMap::new(), page_size: PAGE }
    }

    /// Forgets the numbers; the size of a page stays.
    pub fn clear(&mut self) {
        self.days.clear();
    }

    /// Keeps the numbers of some days, or of none. They take the place of those that there were of the same.
    pub fn keep(&mut self, drafts: Vec<DayDraft>) -> Result<(), String> {
        let dates: Vec<Date> = drafts.iter().map(DayDraft::check).collect::<Result<_, _>>()?;
        for (draft, date) in drafts.into_iter().zip(dates) {
            self.days.insert((draft.report, date, draft.groupings), draft.statistics);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
