//! What is put into the store at a control path's word, and not by a request to the API.

use jiff::Timestamp;

use super::{Profile, Refusal, Store};
use crate::check::{EventDraft, ProfileDraft};

/// The receipt of what no request brought: there is none of this number.
const NO_RECEIPT: u64 = 0;

impl Store {
    /// Makes or updates a profile, as at that time. It counts as no import.
    pub fn seed(&mut self, draft: ProfileDraft, time: Timestamp) -> Result<&Profile, Refusal> {
        let place = self.place(draft, time)?;
        Ok(&self.profiles[place])
    }

    /// Makes events of one profile and metric that are alike but for their times, and says the ids of both.
    pub fn seed_events(
        &mut self,
        profile: ProfileDraft,
        event: &EventDraft<'_>,
        times: impl Iterator<Item = Timestamp>,
        now: Timestamp,
    ) -> Result<[&str; 2], Refusal> {
        let profile = self.place(profile, now)?;
        for time in times {
            let unique_id = format!("seed-{}", self.events.len() + 1);
            let event = EventDraft {
                time: Some(time),
                unique_id: Some(&unique_id),
                value: event.value.clone(),
                ..*event
            };
            self.add(profile, &event, NO_RECEIPT, now);
        }
        let metric = self.place_metric(event.metric, now);
        Ok([&self.profiles[profile].id, &self.metrics[metric].id])
    }
}
