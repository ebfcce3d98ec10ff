//! What the events of a metric come to, interval by interval.

use std::collections::{BTreeMap, HashSet};

use jiff::{Timestamp, Zoned};
use serde_json::{Map, Value};

use super::Store;
use super::events::Event;
use crate::check::{Aggregation, Measurement};
use crate::error::ApiError;
use crate::order::{Key, Order, Rank, Rows, Slice};

/// The dimension that an event has as an attribute too.
const CURRENCY: &str = "$value_currency";

/// A page of what events come to.
pub struct Aggregate {
    /// The starts of the intervals.
    pub starts: Vec<Zoned>,
    pub rows: Rows<Row>,
}

/// The events that are alike in the dimensions that are asked for.
pub struct Row {
    /// Their values, of a dimension that an event has not the empty text.
    pub dimensions: Vec<String>,
    /// Of each measurement a number for each interval.
    pub measurements: Vec<(Measurement, Vec<f64>)>,
}

/// The events of an interval.
#[derive(Clone, Default)]
struct Cell {
    count: f64,
    sum: f64,
    profiles: HashSet<usize>,
}

impl Store {
    /// What the events of a metric come to. Whoever groups by nothing gets one row, also of no events. For this all events have
    /// to be sorted.
    pub fn aggregate(&self, asked: &Aggregation) -> Result<Aggregate, ApiError> {
        let metric = &self.metric(&asked.metric).map_err(|error| error.at("/data/attributes/metric_id"))?.id;
        let starts = asked.interval.starts(&asked.zone, asked.from, asked.to);
        let mut groups = BTreeMap::new();
        if asked.by.is_empty() {
            groups.insert(Vec::new(), vec![Cell::default(); starts.len()]);
        }
        for event in self.within(metric, asked.from, asked.to) {
            let cells = groups
                .entry(dimensions(event, &asked.by))
                .or_insert_with(|| vec![Cell::default(); starts.len()]);
            // The first begins before all events.
            let after = starts.partition_point(|start| start.timestamp() <= event.time);
            if let Some(cell) = cells.get_mut(after.saturating_sub(1)) {
                cell.add(event);
            }
        }
        let rows =
            groups.into_iter().map(|(dimensions, cells)| Row::new(dimensions, &cells, &asked.measurements));
        let keyed = rows.map(|row| (row.key(asked.slice.order, &asked.by), row)).collect();
        Ok(Aggregate { starts, rows: asked.slice.page_of_few(keyed) })
    }

    /// The events of a metric from a time up to another.
    fn within(&self, metric: &str, from: Timestamp, to: Timestamp) -> Vec<&Event> {
        let order = Order::ascending("datetime");
        let (from, to) = (Some(Rank::time(from)), Some(Rank::time(to)));
        let slice = Slice { order, after: None, from, to, size: usize::MAX };
        self.happened(&slice, &self.events_of(std::iter::empty(), [metric].into_iter()), |_| true).rows
    }
}

impl Cell {
    fn add(&mut self, event: &Event) {
        self.count += 1.0;
        self.sum += event.value.as_ref().and_then(serde_json::Number::as_f64).unwrap_or_default();
        self.profiles.insert(event.profile);
    }

    fn measure(&self, measurement: Measurement) -> f64 {
        match measurement {
            Measurement::Count => self.count,
            Measurement::SumValue => self.sum,
            // Never near the 2^53 from which on not every number has one.
            Measurement::Unique => self.profiles.len() as f64,
        }
    }
}

impl Row {
    fn new(dimensions: Vec<String>, cells: &[Cell], measurements: &[Measurement]) -> Self {
        let measured = |&measurement: &Measurement| {
            (measurement, cells.iter().map(|cell| cell.measure(measurement)).collect())
        };
        Self { dimensions, measurements: measurements.iter().map(measured).collect() }
    }

    /// Where it is among those that are sorted by a dimension, or by the sum of a measurement.
    fn key(&self, order: Order, by: &[&str]) -> Key {
        let dimension = by.iter().zip(&self.dimensions).find(|(name, _)| **name == order.field);
        let measured = self.measurements.iter().find(|(measurement, _)| measurement.name() == order.field);
        let rank = match (dimension, measured) {
            (Some((_, value)), _) => Rank::text(Some(value)),
            // To the millionth; a cast of a float saturates.
            (_, Some((_, numbers))) => Rank::Number((numbers.iter().sum::<f64>() * 1e6).round() as i64),
            (None, None) => Rank::Nothing,
        };
        Key { rank, id: Value::from(self.dimensions.clone()).to_string() }
    }
}

/// The values that an event has of these dimensions, each as a text.
fn dimensions(event: &Event, by: &[&str]) -> Vec<String> {
    if by.is_empty() {
        return Vec::new();
    }
    // It was a JSON object when it came.
    let properties: Map<String, Value> = serde_json::from_str(event.properties.get()).unwrap_or_default();
    let text = |name: &&str| match (properties.get(*name), &event.value_currency) {
        (Some(Value::String(text)), _) => text.clone(),
        (None | Some(Value::Null), Some(currency)) if *name == CURRENCY => currency.to_string(),
        (None | Some(Value::Null), _) => String::new(),
        (Some(value), _) => value.to_string(),
    };
    by.iter().map(text).collect()
}

#[cfg(test)]
mod tests;
