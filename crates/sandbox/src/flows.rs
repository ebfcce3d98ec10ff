//! Flows: what Klaviyo does by itself when something happens. Here they only are, and do nothing.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::ApiError;
use crate::order::{Key, Rank};
use crate::store::short_id;
use crate::time::written;

/// Whether a flow does what it would. The document does not say which there are; these are those of Klaviyo's own pages.
const STATUSES: [&str; 3] = ["draft", "live", "manual"];
/// What begins a flow. Source: `FlowResponseObjectResource`.
const TRIGGERS: [&str; 6] =
    ["Added to List", "Date Based", "Low Inventory", "Metric", "Price Drop", "Unconfigured"];

/// A flow to make.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowDraft {
    pub name: String,
    pub status: String,
    pub trigger_type: String,
}

/// One flow.
pub struct Flow {
    pub id: String,
    pub draft: FlowDraft,
    pub created: Timestamp,
}

/// All flows.
pub struct Flows {
    random: fastrand::Rng,
    /// In the order of their creation.
    flows: Vec<Flow>,
}

impl FlowDraft {
    /// What is wrong with it, if anything is.
    fn check(&self) -> Result<(), String> {
        for (name, text, known) in
            [("status", &self.status, &STATUSES[..]), ("trigger_type", &self.trigger_type, &TRIGGERS)]
        {
            if !known.contains(&text.as_str()) {
                return Err(format!("'{name}' must be one of '{}'", known.join("', '")));
            }
        }
        Ok(())
    }
}

impl Flows {
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), flows: Vec::new() }
    }

    pub fn clear(&mut self) {
        *self = Self { random: self.random.fork(), flows: Vec::new() };
    }

    pub fn create(&mut self, draft: FlowDraft, now: Timestamp) -> Result<&Flow, String> {
        draft.check()?;
        let id = short_id(&mut self.random);
        self.flows.push(Flow { id, draft, created: now });
        Ok(&self.flows[self.flows.len() - 1])
    }

    /// All, in the order of their creation.
    pub fn all(&self) -> &[Flow] {
        &self.flows
    }

    pub fn get(&self, id: &str) -> Result<&Flow, ApiError> {
        let unknown = || ApiError::not_found("A flow with this id does not exist.");
        self.flows.iter().find(|flow| flow.id == id).ok_or_else(unknown)
    }
}

impl Flow {
    /// Where it is among those that are sorted by this. Nobody changes one.
    pub fn key(&self, field: &str) -> Key {
        let rank = match field {
            "id" => Rank::Nothing,
            "name" => Rank::text(Some(&self.draft.name)),
            "status" => Rank::text(Some(&self.draft.status)),
            "trigger_type" => Rank::text(Some(&self.draft.trigger_type)),
            _ => Rank::time(self.created),
        };
        Key { rank, id: self.id.clone() }
    }

    /// The flow as answers have it (`FlowResponseObjectResource` and its like).
    pub fn resource(&self, api_url: &str) -> Value {
        let url = format!("{api_url}{}/{}/", Call::Flows.path(), self.id);
        let related = |name: &str| json!({"links": {"self": format!("{url}relationships/{name}/"), "related": format!("{url}{name}/")}});
        json!({
            "type": "flow",
            "id": self.id,
            "attributes": {
                "name": self.draft.name,
                "status": self.draft.status,
                // There is no way to archive one here.
                "archived": false,
                "created": written(self.created),
                "updated": written(self.created),
                "trigger_type": self.draft.trigger_type,
            },
            "relationships": {"flow-actions": related("flow-actions"), "tags": related("tags")},
            "links": {"self": url},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(name: &str, status: &str, trigger_type: &str) -> FlowDraft {
        let [name, status, trigger_type] = [name, status, trigger_type].map(str::to_owned);
        FlowDraft { name, status, trigger_type }
    }

    #[test]
    fn a_flow_is_made_and_found() {
        let mut flows = Flows::new(1);
        let now = "2026-07-15T12:00:00Z".parse().unwrap();
        let flow = flows.create(draft("Welcome", "live", "Added to List"), now).unwrap();
        let id = flow.id.clone();
        assert_eq!(id.len(), 6);
        assert_eq!(
            flows.get(&id).unwrap().resource("http://k")["attributes"]["trigger_type"],
            "Added to List"
        );
        for wrong in [draft("Welcome", "on", "Metric"), draft("Welcome", "live", "List")] {
            assert!(flows.create(wrong, now).is_err());
        }
        assert_eq!(flows.all().len(), 1);
        flows.clear();
        assert!(flows.get(&id).is_err());
    }

    #[test]
    fn flows_are_sorted_by_each_of_these() {
        let mut flows = Flows::new(1);
        let at = |second| Timestamp::from_second(second).unwrap();
        flows.create(draft("b", "manual", "Metric"), at(1)).unwrap();
        flows.create(draft("a", "draft", "Price Drop"), at(2)).unwrap();
        flows.create(draft("c", "live", "Date Based"), at(3)).unwrap();
        for (field, expected) in [
            ("name", ["a", "b", "c"]),
            ("status", ["a", "c", "b"]),
            ("trigger_type", ["c", "b", "a"]),
            ("created", ["b", "a", "c"]),
            ("updated", ["b", "a", "c"]),
        ] {
            let mut sorted: Vec<&Flow> = flows.all().iter().collect();
            sorted.sort_by_key(|flow| flow.key(field));
            assert_eq!(sorted.iter().map(|flow| &*flow.draft.name).collect::<Vec<_>>(), expected, "{field}");
        }
    }
}
