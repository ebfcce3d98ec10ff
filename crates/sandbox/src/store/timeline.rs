//! Events in the order in which they happened, for the call that reads them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use uuid::Builder;

use super::events::{Event, base_62};
use super::{Store, rfc3339};
use crate::call::Call;
use crate::order::{Key, Rank, Rows, Slice};

/// Events by when they happened. It grows when it is read and not when they come, which is what has to be quick.
#[derive(Default)]
pub struct Timeline {
    rows: BTreeMap<Key, usize>,
    /// How many of the store's events are in it.
    count: usize,
}

impl Timeline {
    fn grow(&mut self, events: &[Event]) {
        for (place, event) in events.iter().enumerate().skip(self.count) {
            self.rows.insert(Key { rank: Rank::time(event.time), id: base_62(event.id) }, place);
        }
        self.count = events.len();
    }
}

/// Whose events are meant, and of which metric: by their places, of which there may be more than one or none that an event
/// can be of.
pub struct Meant {
    profiles: Vec<Option<usize>>,
    metrics: Vec<Option<usize>>,
}

impl Store {
    /// Has the order be of all events that there are by now.
    pub fn sort_events(&mut self) {
        self.timeline.grow(&self.events);
    }

    /// The events that are of each of these profiles and metrics.
    pub fn events_of<'a>(
        &self,
        profiles: impl Iterator<Item = &'a str>,
        metrics: impl Iterator<Item = &'a str>,
    ) -> Meant {
        let metric = |id: &str| self.metrics.iter().position(|metric| metric.id == id);
        Meant {
            profiles: profiles.map(|id| self.by_id.get(id).copied()).collect(),
            metrics: metrics.map(metric).collect(),
        }
    }

    /// A page of events.
    pub fn happened(&self, slice: &Slice, meant: &Meant, meets: impl Fn(&Event) -> bool) -> Rows<&Event> {
        let is_meant = |event: &Event| {
            meant.profiles.iter().all(|profile| *profile == Some(event.profile))
                && meant.metrics.iter().all(|metric| *metric == Some(event.metric))
                && !self.profiles[event.profile].is_deleted
        };
        let rows = slice.of(&self.timeline.rows).map(|(key, place)| (key, &self.events[place]));
        let rows = rows.filter(|(_, event)| is_meant(event) && meets(event));
        slice.page(rows.map(|(key, event)| (key.clone(), event)))
    }

    /// An event as answers have it (`EventResponseObjectResource`).
    pub fn event_resource(&self, event: &Event, api_url: &str) -> Value {
        let id = base_62(event.id);
        let url = format!("{api_url}{}/{id}/", Call::Events.path());
        // It was a JSON object when it came.
        let mut properties: Map<String, Value> =
            serde_json::from_str(event.properties.get()).unwrap_or_default();
        properties.insert("$event_id".to_owned(), (&*event.unique_id).into());
        if let Some(value) = &event.value {
            properties.insert("$value".to_owned(), value.clone().into());
        }
        let related = |name: &str, id: &str| {
            json!({
                "data": {"type": name, "id": id},
                "links": {
                    "self": format!("{url}relationships/{name}/"),
                    "related": format!("{url}{name}/"),
                },
            })
        };
        // Twice the id, since a version takes the place of some digits.
        let uuid =
            Builder::from_random_bytes((u128::from(event.id) << 64 | u128::from(event.id)).to_be_bytes());
        let mut resource = json!({
            "type": "event",
            "id": id,
            "attributes": {
                "timestamp": event.time.as_second(),
                "datetime": rfc3339(event.time),
                "uuid": uuid.into_uuid().to_string(),
            },
            "relationships": {
                "profile": related("profile", &self.profiles[event.profile].id),
                "metric": related("metric", &self.metrics[event.metric].id),
            },
            "links": {"self": url},
        });
        // In its place json! would copy them, of each event of a long list.
        resource["attributes"]["event_properties"] = Value::Object(properties);
        resource
    }
}

#[cfg(test)]
mod tests;
