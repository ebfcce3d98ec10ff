//! Many events in a call.
//!
//! Where a `unique_id` is repeated for a profile and metric Klaviyo takes none of the call's events, and its document does
//! not say whether it tells (spec: `bulk_create_events`). So only events that cannot have been sent before may be in one,
//! see [`crate::Message::rides`]. The others go by themselves, for of those a repeat is dropped.

use klaviyo::{BULK_CREATE_EVENTS, EventsBody, Place, Request, event_at};

use super::event::Payload;
use crate::batch::{Batch, Offered, Places};

#[derive(Default)]
pub struct EventBatch {
    body: EventsBody,
    places: Vec<Place>,
}

impl Batch for EventBatch {
    fn offer(&mut self, payload: &str, messages: usize) -> Offered {
        let Ok(Payload { profile, event }) = Payload::read(payload) else { return Offered::Alone };
        match self.body.push(event, profile, BULK_CREATE_EVENTS.max_body) {
            Some(place) => self.places.extend(std::iter::repeat_n(place, messages)),
            // By itself it is too long for the frame of such a call, if not for that of a call of its own.
            None if self.places.is_empty() => return Offered::Alone,
            None => return Offered::Full,
        }
        Offered::Taken
    }

    fn finish(self: Box<Self>) -> (Request, Box<dyn Places>) {
        let body = self.body.finish().unwrap_or_default();
        (Request::post(&BULK_CREATE_EVENTS, body), Box::new(EventPlaces(self.places)))
    }
}

struct EventPlaces(Vec<Place>);

impl Places for EventPlaces {
    fn is_about(&self, pointer: &str, message: usize) -> bool {
        let (Some((entry, event)), Some(place)) = (event_at(pointer), self.0.get(message)) else {
            return false;
        };
        place.entry == entry && event.is_none_or(|event| place.event == event)
    }

    fn position(&self, _: usize) -> Option<usize> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(more: &str) -> String {
        format!(r#"{{"profile":{{"external_id":"a"}},"event":{{"properties":{{"x":"{more}"}}}}}}"#)
    }

    #[test]
    fn what_is_none_of_ours_goes_alone() {
        let mut batch = EventBatch::default();
        for payload in ["{}", "nonsense", r#"{"profile":{},"event":{"a":1}}"#] {
            assert_eq!(batch.offer(payload, 1), Offered::Alone, "{payload}");
        }
        assert_eq!(batch.places.len(), 0);
    }

    #[test]
    fn what_is_too_long_for_the_rest_of_a_call_waits_for_the_next() {
        let long = payload(&"x".repeat(3_000_000));
        let mut batch = EventBatch::default();
        let offered = [&long, &long, &payload("")].map(|payload| batch.offer(payload, 1));
        assert_eq!(offered, [Offered::Taken, Offered::Full, Offered::Taken]);
        let (request, places) = Box::new(batch).finish();
        assert!(request.body().len() <= BULK_CREATE_EVENTS.max_body);
        let event = "/data/attributes/events-bulk-create/data/0/attributes/events/data/1/attributes/time";
        assert_eq!([0, 1, 2].map(|message| places.is_about(event, message)), [false, true, false]);
        let profile = "/data/attributes/events-bulk-create/data/0/attributes/profile";
        assert_eq!([0, 1, 2].map(|message| places.is_about(profile, message)), [true, true, false]);
        let longest = payload(&"x".repeat(BULK_CREATE_EVENTS.max_body));
        assert_eq!(EventBatch::default().offer(&longest, 1), Offered::Alone);
    }
}
