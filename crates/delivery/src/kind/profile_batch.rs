//! Many profiles in a call, of which Klaviyo makes a job, see [`crate::import`].
//!
//! The same state again ends in the same state, so unlike events a profile may go in such a call more than once; but in one
//! call it stands once, for a job says nothing of the order in which it takes its profiles.

use klaviyo::{BULK_IMPORT_PROFILES, ProfilesBody, Request, UPSERT_PROFILE, profile_at};

use super::profile::attributes;
use crate::batch::{Batch, Offered, Places};

/// What the frame of a profile adds to its attributes, with room to spare.
const FRAME: usize = 64;

pub struct ProfileBatch {
    body: ProfilesBody,
    profiles: usize,
    positions: Vec<usize>,
}

impl Default for ProfileBatch {
    fn default() -> Self {
        Self { body: ProfilesBody::import(), profiles: 0, positions: Vec::new() }
    }
}

impl Batch for ProfileBatch {
    fn offer(&mut self, payload: &str, messages: usize) -> Offered {
        let payload = &attributes(payload);
        // Of a profile a job takes as much as a call of its own does (spec: the call's description).
        if payload.len() + FRAME > UPSERT_PROFILE.max_body {
            return Offered::Alone;
        }
        if self.profiles >= BULK_IMPORT_PROFILES.max_items
            || !self.body.push(payload, BULK_IMPORT_PROFILES.max_body)
        {
            return Offered::Full;
        }
        self.positions.extend(std::iter::repeat_n(self.profiles, messages));
        self.profiles += 1;
        Offered::Taken
    }

    fn finish(self: Box<Self>) -> (Request, Box<dyn Places>) {
        let body = self.body.finish().unwrap_or_default();
        (Request::post(&BULK_IMPORT_PROFILES, body), Box::new(ProfilePlaces(self.positions)))
    }
}

/// Which profile of the body each message is part of.
pub struct ProfilePlaces(pub Vec<usize>);

impl Places for ProfilePlaces {
    fn is_about(&self, pointer: &str, message: usize) -> bool {
        profile_at(pointer).is_some_and(|profile| self.position(message) == Some(profile))
    }

    fn position(&self, message: usize) -> Option<usize> {
        self.0.get(message).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(bytes: usize) -> String {
        format!(r#"{{"external_id":"7","properties":{{"x":"{}"}}}}"#, "x".repeat(bytes))
    }

    #[test]
    fn a_call_has_as_many_profiles_as_klaviyo_takes() {
        let mut batch = ProfileBatch::default();
        for _ in 0..BULK_IMPORT_PROFILES.max_items {
            assert_eq!(batch.offer(&payload(1), 1), Offered::Taken);
        }
        assert_eq!(batch.offer(&payload(1), 1), Offered::Full);
    }

    #[test]
    fn a_call_has_as_many_bytes_as_klaviyo_takes() {
        let mut batch = ProfileBatch::default();
        let large = payload(90_000);
        let taken = (0..100).take_while(|_| batch.offer(&large, 1) == Offered::Taken).count();
        let (request, _) = Box::new(batch).finish();
        let body = request.body();
        assert!(taken > 50 && body.len() <= BULK_IMPORT_PROFILES.max_body);
        assert!(
            body.len() + large.len() + FRAME > BULK_IMPORT_PROFILES.max_body,
            "one more would have fitted"
        );
        assert_eq!(ProfileBatch::default().offer(&payload(100_000), 1), Offered::Alone);
    }

    #[test]
    fn messages_that_are_one_profile_stand_in_one_place() {
        let mut batch = ProfileBatch::default();
        for messages in [2, 1] {
            assert_eq!(batch.offer(&payload(1), messages), Offered::Taken);
        }
        let (_, places) = Box::new(batch).finish();
        let second = "/data/attributes/profiles/data/1/attributes/email";
        assert_eq!([0, 1, 2].map(|message| places.is_about(second, message)), [false, false, true]);
        assert_eq!([1, 2, 3].map(|message| places.position(message)), [Some(0), Some(1), None]);
    }
}
