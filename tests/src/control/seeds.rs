//! What happens at Klaviyo of itself: people who come, go and do things, and what is made and changed in its own pages. None
//! of it is a request to the API: no receipt, no rate window.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Control;

/// Events of one profile and metric, each a step after the other.
#[derive(Clone, Copy, Debug)]
pub struct EventSeed<'a> {
    /// The metric's name.
    pub metric: &'a str,
    /// Whose they are; whoever is not known yet is from then on.
    pub email: &'a str,
    /// How many.
    pub count: u64,
    /// When the first happened, in RFC 3339. Without it the last happens now.
    pub start: Option<&'a str>,
    /// How long after each the next happens.
    pub step_seconds: f64,
}

/// The numbers of a day, of which Klaviyo's reports would be the sums.
#[derive(Clone, Copy, Debug)]
pub struct ReportSeed<'a> {
    /// `campaign`, `flow`, `form` or `segment`.
    pub report: &'a str,
    /// What they are of: of a campaign `campaign_id` and `campaign_message_id`, of a flow `flow_id` and `flow_message_id`, of a
    /// form `form_id`, of a segment `segment_id`, and what else its report groups by.
    pub groupings: &'a Value,
    /// The day, `2026-11-01`.
    pub date: &'a str,
    /// The numbers by their names, such as `recipients`. Rates come of them.
    pub statistics: &'a Value,
}

/// Whose events were made, and of which metric.
#[derive(Clone, Debug, Deserialize)]
pub struct SeededEvents {
    /// The profile's id.
    pub profile_id: String,
    /// The metric's id.
    pub metric_id: String,
}

/// A segment that the sandbox keeps.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredSegment {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// Whether Klaviyo would keep it up to date.
    pub is_active: bool,
    /// The ids of the profiles in it, the oldest first.
    pub members: Vec<String>,
}

/// The answer about profiles that were made.
#[derive(Deserialize)]
struct People {
    ids: Vec<String>,
}

/// The answer about something else that was made.
#[derive(Deserialize)]
struct Made {
    id: String,
}

impl Control {
    /// Makes profiles with these attributes, or changes those that are known, and says their ids.
    pub fn make_profiles(&self, profiles: &[Value]) -> Vec<String> {
        self.posted::<People>("profiles", &json!({ "profiles": profiles })).ids
    }

    /// Makes `count` profiles, `prefix-1@shop.example` and so on, and says their ids. Each is a microsecond younger than the
    /// one before it, and none has a time that is yet to come.
    pub fn seed_profiles(&self, prefix: &str, count: u64) -> Vec<String> {
        self.posted::<People>("profiles", &json!({"prefix": prefix, "count": count})).ids
    }

    /// The same as of `start`, in RFC 3339, each so much later than the one before it. All have one time if that is nothing.
    pub fn seed_profiles_since(
        &self,
        prefix: &str,
        count: u64,
        start: &str,
        step_seconds: f64,
    ) -> Vec<String> {
        let seed = json!({"prefix": prefix, "count": count, "start": start, "step_seconds": step_seconds});
        self.posted::<People>("profiles", &seed).ids
    }

    /// Changes a profile as somebody does in Klaviyo's own pages: what is absent stays, null clears.
    pub fn change_profile(&self, id: &str, attributes: &Value) {
        self.put(&format!("profiles/{id}"), &json!({ "attributes": attributes }));
    }

    /// Deletes a profile, and its events.
    pub fn delete_profile(&self, id: &str) {
        self.delete(&format!("profiles/{id}"));
    }

    /// Makes events.
    pub fn seed_events(&self, seed: &EventSeed<'_>) -> SeededEvents {
        self.seed_events_with(seed, &json!({}))
    }

    /// The same with further members: `value`, and `properties`.
    pub fn seed_events_with(&self, seed: &EventSeed<'_>, more: &Value) -> SeededEvents {
        let EventSeed { metric, email, count, start, step_seconds } = seed;
        let mut body =
            json!({"metric": metric, "email": email, "count": count, "step_seconds": step_seconds});
        for (name, value) in more.as_object().expect("members") {
            body[name] = value.clone();
        }
        if let Some(start) = start {
            body["start"] = json!(start);
        }
        self.posted("events", &body)
    }

    /// Says what the numbers of days are. They take the place of those that there were of the same.
    pub fn seed_reports(&self, seeds: &[ReportSeed<'_>]) {
        let day = |seed: &ReportSeed<'_>| {
            let ReportSeed { report, groupings, date, statistics } = seed;
            json!({"report": report, "groupings": groupings, "date": date, "statistics": statistics})
        };
        self.post("reports", &json!({ "days": seeds.iter().map(day).collect::<Vec<_>>() }));
    }

    /// The same of one day.
    pub fn seed_report(&self, report: &str, groupings: &Value, date: &str, statistics: &Value) {
        self.seed_reports(&[ReportSeed { report, groupings, date, statistics }]);
    }

    /// How many rows a page of the reports of campaigns and flows has. It outlasts a reset.
    pub fn set_report_page(&self, rows: u64) {
        self.put("reports", &json!({ "page_size": rows }));
    }

    /// Makes a segment that nobody is in, and says its id.
    pub fn make_segment(&self, name: &str) -> String {
        self.posted::<Made>("segments", &json!({ "name": name })).id
    }

    /// Has those with these addresses be in a segment, and nobody else. Whoever stays joined when they did.
    pub fn set_segment_members(&self, id: &str, emails: &[&str]) {
        self.put(&format!("segments/{id}/members"), &json!({ "emails": emails }));
    }

    /// Deletes a segment. Its profiles stay.
    pub fn delete_segment(&self, id: &str) {
        self.delete(&format!("segments/{id}"));
    }

    /// Every segment kept, in the order of creation.
    pub fn segments(&self) -> Vec<StoredSegment> {
        #[derive(Deserialize)]
        struct Answer {
            segments: Vec<StoredSegment>,
        }
        self.get::<Answer>("segments").segments
    }

    /// Makes a flow and says its id: `draft`, `live` or `manual`, and begun by `Added to List`, `Date Based`, `Low Inventory`,
    /// `Metric`, `Price Drop` or `Unconfigured`.
    pub fn make_flow(&self, name: &str, status: &str, trigger_type: &str) -> String {
        let flow = json!({"name": name, "status": status, "trigger_type": trigger_type});
        self.posted::<Made>("flows", &flow).id
    }
}
