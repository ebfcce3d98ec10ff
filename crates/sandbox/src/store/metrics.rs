//! Metrics: what kinds of events there have been.

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{BASE_62, SHORT_ID, Store};
use crate::call::Call;
use crate::error::ApiError;
use crate::order::{Key, Rank};
use crate::time::written;

/// What the events of Klaviyo's own API are said to come from.
pub const INTEGRATION: &str = "API";

/// One metric, of which there has been an event.
pub struct Metric {
    pub id: String,
    pub name: Box<str>,
    created: Timestamp,
}

impl Metric {
    pub fn key(&self) -> Key {
        Key { rank: Rank::time(self.created), id: self.id.clone() }
    }

    /// The metric as answers have it (`MetricResponseObjectResource`).
    pub fn resource(&self, api_url: &str) -> Value {
        let url = format!("{api_url}{}/{}/", Call::Metrics.path(), self.id);
        json!({
            "type": "metric",
            "id": self.id,
            "attributes": {
                "name": self.name,
                "created": written(self.created),
                "updated": written(self.created),
                "integration": {
                    "object": "integration",
                    "id": "0rG4eQ",
                    "key": "api",
                    "name": INTEGRATION,
                    "category": INTEGRATION,
                },
            },
            "relationships": {"flow-triggers": {"links": {
                "self": format!("{url}relationships/flow-triggers/"),
                "related": format!("{url}flow-triggers/"),
            }}},
            "links": {"self": url},
        })
    }
}

impl Store {
    /// All, in the order of their first events.
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    pub fn metric(&self, id: &str) -> Result<&Metric, ApiError> {
        let found = self.metrics.iter().find(|metric| metric.id == id);
        found.ok_or_else(|| ApiError::not_found("A metric with this id does not exist."))
    }

    pub(super) fn find_metric(&self, name: &str) -> Option<usize> {
        self.by_metric.get(name).copied()
    }

    /// The place of the metric of this name, made if need be.
    pub(super) fn place_metric(&mut self, name: &str, now: Timestamp) -> usize {
        if let Some(found) = self.find_metric(name) {
            return found;
        }
        let mut ids = (0..).map(|attempt| id_of(name, attempt));
        let is_free = |id: &String| self.metrics.iter().all(|metric| metric.id != *id);
        // The attempts do not end.
        let id = ids.find(is_free).unwrap_or_default();
        self.metrics.push(Metric { id, name: name.into(), created: now });
        self.by_metric.insert(name.to_owned(), self.metrics.len() - 1);
        self.metrics.len() - 1
    }
}

/// The id of a metric, the same in every run.
fn id_of(name: &str, attempt: u64) -> String {
    let hash = Sha256::new().chain_update(attempt.to_be_bytes()).chain_update(name).finalize();
    hash.iter().take(SHORT_ID).map(|byte| char::from(BASE_62[usize::from(*byte) % BASE_62.len()])).collect()
}
