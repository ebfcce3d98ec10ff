//! Events: something a person did, under the name of a metric.
//!
//! Payload: `{"profile": {…}, "event": {…}}`, both being attributes as Klaviyo names them. They are kept apart so
//! that a call for many events can put them together anew by copying.

use std::collections::BTreeMap;

use iso_currency::Currency;
use jiff::Timestamp;
use klaviyo::{BULK_CREATE_EVENTS, CREATE_EVENT, Endpoint};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::event_batch::EventBatch;
use super::profile::{check_attributes, open_object};
use super::{Checked, Kind, Lost, Reading, Rides, push_raw, push_string};
use crate::batch::Batch;
use crate::identifiers::{Identifiers, NAMES};
use crate::invalid::{Fault, Invalid};
use crate::json::JsonLimits;
use crate::{message_id, unique_id};

/// Limits of `properties` (spec: `EventCreateQueryV2`).
pub const PROPERTIES: JsonLimits =
    JsonLimits { argument: "properties", properties: 400, bytes: CREATE_EVENT.max_body, shaped: true };

/// A metric's name has fewer than 128 characters (spec: `MetricCreateQueryResourceObject`).
const METRIC: usize = 127;

/// Bytes of a unique id. Klaviyo names no bound; ours is 36 long where none is given.
const UNIQUE_ID: usize = 1_024;

/// 1991-01-01: the time must be after the year 1990 (spec: `EventCreateQueryV2`).
const EARLIEST: i64 = 662_688_000;
const YEAR: i64 = 365 * 24 * 60 * 60;

/// What `klaviyo_track_event` was given.
#[derive(Debug, Clone, Default)]
pub struct Draft<'a> {
    pub metric: &'a str,
    pub identifiers: Identifiers<'a>,
    /// JSON objects, written by [`crate::json::JsonWriter`].
    pub profile: Option<&'a str>,
    pub properties: Option<&'a str>,
    /// As numeric prints it.
    pub value: Option<&'a str>,
    pub value_currency: Option<&'a str>,
    pub unique_id: Option<&'a str>,
    /// Microseconds since 1970.
    pub time: Option<i64>,
    /// Whether it is history: recorded, and starts no flow (spec: `backfill`).
    pub backfill: bool,
}

impl Draft<'_> {
    /// Checks it as it would be checked at Klaviyo, and lays it down.
    ///
    /// `message_id` is its `unique_id` where none is given; `now` (µs since 1970) its time.
    pub fn check(&self, message_id: &str, now: i64) -> Result<Checked, Invalid> {
        check_metric(self.metric)?;
        self.identifiers.check()?;
        check_time(self.time.unwrap_or(now), now)?;
        if let Some(value) = self.value {
            check_number("value", value)?;
        }
        if let Some(currency) = self.value_currency {
            check_currency(currency)?;
        }
        if let Some(unique_id) = self.unique_id {
            check_unique_id(unique_id)?;
        }
        if let Some(profile) = self.profile {
            check_attributes("profile", profile)?;
        }
        let payload = self.payload(message_id, now);
        // The body adds a constant frame to what is in the payload.
        if payload.len() + 128 > CREATE_EVENT.max_body {
            return Err(too_large(CREATE_EVENT.max_body));
        }
        Ok(Checked { key: self.identifiers.key(), payload })
    }

    fn payload(&self, message_id: &str, now: i64) -> String {
        let mut json = String::with_capacity(256 + self.properties.map_or(2, str::len));
        json.push_str("{\"profile\":{");
        for (name, value) in self.identifiers.given() {
            push_string(&mut json, name, value);
        }
        if let Some(inner) = self.profile.and_then(open_object) {
            json.push(',');
            json.push_str(inner);
        }
        json.push_str("},\"event\":{\"metric\":{\"data\":{\"type\":\"metric\",\"attributes\":{");
        push_string(&mut json, "name", self.metric);
        json.push_str("}}}");
        if self.backfill {
            push_raw(&mut json, "backfill", "true");
        }
        push_raw(&mut json, "properties", self.properties.unwrap_or("{}"));
        push_string(&mut json, "time", &rfc3339(self.time.unwrap_or(now)));
        if let Some(value) = self.value {
            push_raw(&mut json, "value", value);
        }
        if let Some(currency) = self.value_currency {
            push_string(&mut json, "value_currency", currency);
        }
        push_string(&mut json, "unique_id", self.unique_id.unwrap_or(message_id));
        json.push_str("}}");
        json
    }
}

/// Whether Klaviyo takes it for the name of a metric.
pub fn check_metric(metric: &str) -> Result<(), Invalid> {
    let detail = match metric.chars().count() {
        _ if metric.trim().is_empty() => "It is NULL or empty.".to_owned(),
        length if length > METRIC => format!("It has {length} characters; Klaviyo takes {METRIC}."),
        _ => return Ok(()),
    };
    Err(Invalid::new(
        Fault::Metric,
        "argument \"metric\" is not the name of a metric",
        detail,
        "Use a short constant name, such as 'Placed Order'; what varies belongs into properties.",
    ))
}

fn check_time(time: i64, now: i64) -> Result<(), Invalid> {
    let (time, now) = (time.div_euclid(1_000_000), now.div_euclid(1_000_000));
    if time >= EARLIEST && time <= now.saturating_add(YEAR) {
        return Ok(());
    }
    Err(Invalid::new(
        Fault::Time,
        "argument \"event_time\" is out of range",
        "Klaviyo takes times after the year 1990 and up to one year ahead.",
        "Pass the time at which it happened, or NULL for now.",
    ))
}

/// Whether a number, as numeric prints it, is one that Klaviyo takes.
pub fn check_number(argument: &str, value: &str) -> Result<(), Invalid> {
    // Klaviyo keeps a double; a number that is none, or has more digits than any amount of money, is a mistake.
    if value.len() <= 400 && value.parse::<f64>().is_ok_and(f64::is_finite) {
        return Ok(());
    }
    Err(Invalid::new(
        Fault::Value,
        format!("argument \"{argument}\" is not a number that Klaviyo takes"),
        "It must be finite, within the range of a double, and have no more than 400 characters.",
        "Round it; for NaN and infinity pass NULL.",
    ))
}

fn check_currency(currency: &str) -> Result<(), Invalid> {
    if Currency::from_code(currency).is_some() {
        return Ok(());
    }
    Err(Invalid::new(
        Fault::Currency,
        "argument \"value_currency\" is not an ISO 4217 currency code",
        "It must be three capital letters, such as USD or EUR.",
        "Pass the code, not a symbol or a name; upper() helps with lower case.",
    ))
}

fn check_unique_id(unique_id: &str) -> Result<(), Invalid> {
    if !unique_id.trim().is_empty() && unique_id.len() <= UNIQUE_ID {
        return Ok(());
    }
    Err(Invalid::new(
        Fault::UniqueId,
        "argument \"unique_id\" is blank or too long",
        format!("It must have 1 to {UNIQUE_ID} bytes, not all of them white space."),
        "Pass what makes the event unique for its profile and metric, such as the order's number, or NULL for the message's own id.",
    ))
}

pub(super) fn too_large(limit: usize) -> Invalid {
    Invalid::new(
        Fault::TooLarge,
        "the message is too large",
        format!("Klaviyo takes {limit} bytes, all attributes and properties together."),
        "Send less.",
    )
}

/// Microseconds since 1970 as Klaviyo reads a time. The range was checked.
pub(super) fn rfc3339(micros: i64) -> String {
    Timestamp::from_microsecond(micros).unwrap_or_default().to_string()
}

#[derive(Deserialize)]
pub(super) struct Payload<'a> {
    #[serde(borrow)]
    pub profile: &'a RawValue,
    #[serde(borrow)]
    pub event: &'a RawValue,
}

impl<'a> Payload<'a> {
    pub(super) fn read(payload: &'a str) -> Result<Self, String> {
        let payload: Self = serde_json::from_str(payload).map_err(|error| error.to_string())?;
        for part in [payload.profile, payload.event] {
            if open_object(part.get()).is_none() {
                return Err("profile and event must be objects that are not empty".to_owned());
            }
        }
        Ok(payload)
    }
}

type Attributes<'a> = BTreeMap<String, &'a RawValue>;

/// What of an event tells it from others, and whom it is about.
#[derive(Deserialize)]
struct Identity<'a> {
    #[serde(borrow)]
    profile: Attributes<'a>,
    #[serde(borrow)]
    event: EventIdentity<'a>,
}

#[derive(Deserialize)]
struct EventIdentity<'a> {
    backfill: Option<bool>,
    unique_id: Option<String>,
    #[serde(borrow)]
    metric: Option<&'a RawValue>,
}

impl EventIdentity<'_> {
    fn is_history(&self) -> bool {
        self.backfill == Some(true)
    }

    /// Of a call with a `unique_id` that Klaviyo knows it takes nothing.
    fn rides(&self, account: &str, id: [u8; 16]) -> Rides {
        let Some(unique_id) = &self.unique_id else { return Rides::Never };
        if message_id::is_one(unique_id) {
            let mut own = Uuid::encode_buffer();
            let is_own = *unique_id == *Uuid::from_bytes(id).hyphenated().encode_lower(&mut own);
            // Another message's rides by the same id.
            return if is_own { Rides::Once } else { Rides::Never };
        }
        match self.metric.and_then(name_of) {
            Some(metric) => Rides::OnceAs(unique_id::digest(account, &metric, unique_id)),
            None => Rides::Never,
        }
    }
}

fn says_more_than_who(profile: &Attributes) -> bool {
    profile.keys().any(|name| !NAMES.contains(&name.as_str()))
}

fn is_history(event: &RawValue) -> bool {
    serde_json::from_str(event.get()).is_ok_and(|event: EventIdentity| event.is_history())
}

fn name_of(metric: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Metric {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        attributes: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let metric: Metric = serde_json::from_str(metric.get()).ok()?;
    Some(metric.data.attributes.name)
}

/// The kind.
pub struct Event;

impl Kind for Event {
    fn name(&self) -> &'static str {
        "event"
    }

    fn endpoint(&self) -> Option<&'static Endpoint> {
        Some(&CREATE_EVENT)
    }

    fn body(&self, payload: &str) -> Result<Vec<u8>, String> {
        let Payload { profile, event } = Payload::read(payload)?;
        Ok(klaviyo::event_body(event, profile))
    }

    /// By its `unique_id`, which is the message's id where the user gave none.
    fn lost(&self) -> Lost {
        Lost::RepeatedAlone
    }

    fn rides_with_its_own(&self) -> bool {
        true
    }

    /// The event as it was, about the person it named; what it said of that person besides may be old.
    fn redriven(&self, payload: &str) -> Option<String> {
        let Payload { profile, event } = serde_json::from_str(payload).ok()?;
        let mut profile: Attributes = serde_json::from_str(profile.get()).ok()?;
        if !says_more_than_who(&profile) {
            return None;
        }
        profile.retain(|name, _| NAMES.contains(&name.as_str()));
        Some(format!("{{\"profile\":{},\"event\":{event}}}", serde_json::to_string(&profile).ok()?))
    }

    /// The event as history: it starts no flow (spec: `backfill`).
    fn stale(&self, payload: &str) -> Option<String> {
        let Payload { profile, event } = serde_json::from_str(payload).ok()?;
        if is_history(event) {
            return None;
        }
        let event = open_object(event.get())?;
        Some(format!("{{\"profile\":{profile},\"event\":{{\"backfill\":true,{event}}}}}"))
    }

    fn read(&self, account: &str, id: [u8; 16], payload: &str) -> Reading {
        let Ok(Identity { profile, event }) = serde_json::from_str(payload) else {
            return Reading { rides: Rides::Never, carries_state: false, backfill: false };
        };
        Reading {
            rides: event.rides(account, id),
            carries_state: says_more_than_who(&profile),
            backfill: event.is_history(),
        }
    }

    fn bulk(&self) -> Option<&'static Endpoint> {
        Some(&BULK_CREATE_EVENTS)
    }

    fn batch(&self) -> Option<Box<dyn Batch>> {
        Some(Box::new(EventBatch::default()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_795_000_000_000_000;

    fn draft() -> Draft<'static> {
        Draft {
            metric: "Placed Order",
            identifiers: Identifiers { email: Some("Ada@b.example"), ..Default::default() },
            ..Default::default()
        }
    }

    fn fault(draft: &Draft) -> Fault {
        draft.check("id", NOW).expect_err("invalid").fault
    }

    #[test]
    fn the_body_is_what_klaviyo_wants() {
        let checked = Draft {
            profile: Some(r#"{"first_name":"Ada","properties":{"vip":true}}"#),
            properties: Some(r#"{"n":1.10}"#),
            value: Some("12.30"),
            value_currency: Some("EUR"),
            ..draft()
        }
        .check("0197", NOW)
        .expect("valid");
        assert_eq!(checked.key, ["email:ada@b.example"]);
        let body: Value = serde_json::from_slice(&Event.body(&checked.payload).expect("ours")).expect("JSON");
        assert_eq!(
            body,
            json!({"data": {"type": "event", "attributes": {
                "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
                "properties": {"n": 1.10}, "time": "2026-11-18T11:06:40Z", "value": 12.30, "value_currency": "EUR",
                "unique_id": "0197",
                "profile": {"data": {"type": "profile", "attributes":
                    {"email": "Ada@b.example", "first_name": "Ada", "properties": {"vip": true}}}}
            }}})
        );
        assert!(checked.payload.contains("\"value\":12.30"), "digits leave as they came");
    }

    #[test]
    fn each_mistake_has_its_name() {
        let long = "x".repeat(128);
        for metric in ["", "  ", long.as_str()] {
            assert_eq!(fault(&Draft { metric, ..draft() }), Fault::Metric);
        }
        assert_eq!(fault(&Draft { identifiers: Identifiers::default(), ..draft() }), Fault::NoIdentifier);
        for time in [i64::MIN, i64::MAX, 0, NOW + (YEAR + 1) * 1_000_000] {
            assert_eq!(fault(&Draft { time: Some(time), ..draft() }), Fault::Time);
        }
        let digits = "9".repeat(310);
        for value in ["NaN", "Infinity", "-Infinity", digits.as_str()] {
            assert_eq!(fault(&Draft { value: Some(value), ..draft() }), Fault::Value);
        }
        for value_currency in ["", "usd", "€", "ZZZ"] {
            assert_eq!(fault(&Draft { value_currency: Some(value_currency), ..draft() }), Fault::Currency);
        }
        assert_eq!(fault(&Draft { unique_id: Some(""), ..draft() }), Fault::UniqueId);
        assert_eq!(fault(&Draft { profile: Some(r#"{"email":"c@d.example"}"#), ..draft() }), Fault::Profile);
        let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(5_000_000));
        assert_eq!(fault(&Draft { properties: Some(&huge), ..draft() }), Fault::TooLarge);
        let emoji = "é".repeat(127);
        assert!(Draft { metric: &emoji, ..draft() }.check("id", NOW).is_ok(), "characters, not bytes");
    }

    #[test]
    fn a_redriven_event_leaves_what_it_said_of_the_person_behind() {
        let plain = r#"{"profile":{"email":"a@b.example"},"event":{"value":1.10}}"#;
        let stating = r#"{"profile":{"email":"a@b.example","title":"Ms"},"event":{"value":1.10}}"#;
        assert_eq!([plain, stating].map(|it| Event.read("a", [0; 16], it).carries_state), [false, true]);
        assert_eq!(Event.redriven(plain), None);
        assert_eq!(Event.redriven(stating).as_deref(), Some(plain));
    }

    #[test]
    fn history_says_so_and_is_not_made_history_again() {
        let payload = Draft { backfill: true, ..draft() }.check("0197", NOW).expect("valid").payload;
        let body: Value = serde_json::from_slice(&Event.body(&payload).expect("ours")).expect("JSON");
        assert_eq!(body["data"]["attributes"]["backfill"], json!(true));
        assert_eq!(Event.stale(&payload), None);
        let reading = Event.read("a", [0; 16], &payload);
        assert!(reading.backfill);
        assert_eq!(reading.ordered(&Event, vec!["a".to_owned()]), ["history:a"]);
        let live = draft().check("0197", NOW).expect("valid").payload;
        let reading = Event.read("a", [0; 16], &live);
        assert!(!reading.backfill);
        assert_eq!(reading.ordered(&Event, vec!["a".to_owned()]), ["a"]);
        assert!(Event.read("a", [0; 16], &Event.stale(&live).expect("history")).backfill);
    }

    #[test]
    fn what_carries_an_id_of_the_users_own_rides_by_that() {
        let own = message_id::new(7);
        let rides = |payload: &str| Event.read("a", *own.as_bytes(), payload).rides;
        let with = |unique_id: &str| {
            let payload =
                Draft { unique_id: Some(unique_id), ..draft() }.check("id", NOW).expect("valid").payload;
            rides(&payload)
        };
        assert_eq!(with(&own.to_string()), Rides::Once);
        let escaped = format!(
            r#"{{"profile":{{}},"event":{{"unique_id":"{}"}}}}"#,
            own.to_string().replace('7', "\\u0037")
        );
        assert_eq!(rides(&escaped), Rides::Once, "however it is written");
        for other in ["order-7", "\"7\"", &Uuid::now_v7().to_string()] {
            assert_eq!(with(other), Rides::OnceAs(unique_id::digest("a", "Placed Order", other)));
        }
        assert_eq!(with(&message_id::new(8).to_string()), Rides::Never, "another message's");
        for foreign in ["{}", "", r#"{"profile":{},"event":{"unique_id":"u"}}"#] {
            assert_eq!(rides(foreign), Rides::Never, "{foreign}");
        }
    }

    #[test]
    fn a_foreign_payload_is_refused_not_sent() {
        for payload in
            ["{}", "[]", r#"{"profile":1,"event":{}}"#, r#"{"profile":{"a":1},"event":{}}"#, "nonsense"]
        {
            assert!(Event.body(payload).is_err(), "{payload}");
        }
    }
}
