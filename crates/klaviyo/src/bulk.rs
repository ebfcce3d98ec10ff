//! Bodies of calls that carry many, written one by one and never parsed again.

use serde_json::value::RawValue;

const HEAD: &str = r#"{"data":{"type":"event-bulk-create-job","attributes":{"events-bulk-create":{"data":["#;
const TAIL: &str = "]}}}}";
const ENTRY_HEAD: &str =
    r#"{"type":"event-bulk-create","attributes":{"profile":{"data":{"type":"profile","attributes":"#;
const ENTRY_EVENTS: &str = r#"}},"events":{"data":["#;
const ENTRY_TAIL: &str = "]}}}";
const EVENT_HEAD: &str = r#"{"type":"event","attributes":"#;
const EVENT_TAIL: &str = "}";

/// Where an event stands in the body: in which profile's entry, and where in that. Both count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub entry: usize,
    pub event: usize,
}

/// Body of `bulk_create_events`. Events that follow each other and name the same profile in the same words share its
/// entry.
#[derive(Debug)]
pub struct EventsBody {
    body: String,
    /// The profile of the last entry.
    profile: String,
    last: Option<Place>,
}

impl Default for EventsBody {
    fn default() -> Self {
        Self { body: HEAD.to_owned(), profile: String::new(), last: None }
    }
}

impl EventsBody {
    /// Adds an event with its profile's attributes, both being JSON objects, and says where it stands. None, and
    /// nothing is added, if the body would become longer than `max` bytes.
    pub fn push(&mut self, event: &RawValue, profile: &RawValue, max: usize) -> Option<Place> {
        let (event, profile) = (event.get(), profile.get());
        let same = self.last.is_some() && self.profile == profile;
        let around =
            if same { 0 } else { ENTRY_TAIL.len() + ENTRY_HEAD.len() + profile.len() + ENTRY_EVENTS.len() };
        let more = 1 + around + EVENT_HEAD.len() + event.len() + EVENT_TAIL.len();
        if self.body.len() + more + ENTRY_TAIL.len() + TAIL.len() > max {
            return None;
        }
        let place = match self.last {
            Some(Place { entry, event }) if same => {
                self.body.push(',');
                Place { entry, event: event + 1 }
            }
            last => {
                if last.is_some() {
                    self.body.push_str(ENTRY_TAIL);
                    self.body.push(',');
                }
                self.body.push_str(ENTRY_HEAD);
                self.body.push_str(profile);
                self.body.push_str(ENTRY_EVENTS);
                self.profile.clear();
                self.profile.push_str(profile);
                Place { entry: last.map_or(0, |last| last.entry + 1), event: 0 }
            }
        };
        self.body.push_str(EVENT_HEAD);
        self.body.push_str(event);
        self.body.push_str(EVENT_TAIL);
        self.last = Some(place);
        Some(place)
    }

    /// The body; of no event none.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        self.last?;
        self.body.push_str(ENTRY_TAIL);
        self.body.push_str(TAIL);
        Some(self.body.into_bytes())
    }
}

/// Which event of such a body a JSON pointer is about: in which entry, and which of that one's, or all of them.
pub fn event_at(pointer: &str) -> Option<(usize, Option<usize>)> {
    let rest = pointer.strip_prefix("/data/attributes/events-bulk-create/data/")?;
    let (entry, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let event = rest.strip_prefix("attributes/events/data/");
    let event = event.and_then(|event| event.split('/').next()?.parse().ok());
    Some((entry.parse().ok()?, event))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn raw(value: &Value) -> Box<RawValue> {
        RawValue::from_string(value.to_string()).expect("JSON")
    }

    fn push(body: &mut EventsBody, n: usize, who: &str, max: usize) -> Option<Place> {
        body.push(&raw(&json!({ "unique_id": n.to_string() })), &raw(&json!({ "external_id": who })), max)
    }

    #[test]
    fn events_of_a_profile_stand_together() {
        let mut body = EventsBody::default();
        let places = [(1, "a"), (2, "a"), (3, "b"), (4, "a")].map(|(n, who)| push(&mut body, n, who, 10_000));
        let expected = [(0, 0), (0, 1), (1, 0), (2, 0)].map(|(entry, event)| Some(Place { entry, event }));
        assert_eq!(places, expected);
        let body: Value = serde_json::from_slice(&body.finish().expect("a body")).expect("JSON");
        let event = |n: usize| json!({"type": "event", "attributes": {"unique_id": n.to_string()}});
        let entry = |who: &str, events: &[usize]| {
            let events: Vec<Value> = events.iter().map(|n| event(*n)).collect();
            json!({"type": "event-bulk-create", "attributes": {
                "profile": {"data": {"type": "profile", "attributes": {"external_id": who}}},
                "events": {"data": events}
            }})
        };
        let entries = [entry("a", &[1, 2]), entry("b", &[3]), entry("a", &[4])];
        assert_eq!(
            body,
            json!({"data": {"type": "event-bulk-create-job", "attributes": {"events-bulk-create": {"data": entries}}}})
        );
    }

    #[test]
    fn it_becomes_as_long_as_it_may_and_no_longer() {
        for max in 300..900 {
            let mut body = EventsBody::default();
            let mut n = 0;
            while push(&mut body, n, ["a", "bb"][n / 2 % 2], max).is_some() {
                n += 1;
            }
            let Some(bytes) = body.finish() else { continue };
            assert!(bytes.len() <= max);
            let mut longer = EventsBody::default();
            for n in 0..=n {
                push(&mut longer, n, ["a", "bb"][n / 2 % 2], usize::MAX);
            }
            assert!(longer.finish().expect("a body").len() > max, "one more would have fitted into {max}");
        }
        assert_eq!(EventsBody::default().finish(), None);
    }

    #[test]
    fn pointers_name_an_event_or_all_of_a_profile() {
        let base = "/data/attributes/events-bulk-create/data/3/attributes";
        assert_eq!(event_at(&format!("{base}/events/data/12/attributes/time")), Some((3, Some(12))));
        assert_eq!(event_at(&format!("{base}/profile/data/attributes/email")), Some((3, None)));
        assert_eq!(event_at("/data/attributes/events-bulk-create/data/3"), Some((3, None)));
        for other in ["", "/data", "/data/attributes/events-bulk-create/data/x/attributes", "/data/3"] {
            assert_eq!(event_at(other), None, "{other}");
        }
    }
}
