//! An event.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::Number;
use serde_json_borrow::{Map, Value};

use super::fields::{At, Findings, Object};
use super::limits;
use super::profile::{self, ProfileDraft};

/// The longest metric name, in characters. Source: `MetricCreateQueryResourceObject` ("less than 128 characters").
const MAX_METRIC_NAME: usize = 127;
/// An event's time "must be after the year 1990" (`EventCreateQueryV2`): the first second of 1991.
const EARLIEST: i64 = 662_688_000;

/// Attributes of `BaseEventCreateQueryBulkEntryResourceObject`; `EventCreateQueryV2` has the profile besides.
const ATTRIBUTES: [&str; 7] =
    ["properties", "time", "value", "value_currency", "unique_id", "backfill", "metric"];

/// A checked event.
#[derive(Debug)]
pub struct EventDraft<'v> {
    pub metric: &'v str,
    pub properties: &'v Map<'v>,
    pub time: Option<Timestamp>,
    pub value: Option<Number>,
    pub value_currency: Option<&'v str>,
    pub unique_id: Option<&'v str>,
}

/// Checks an `EventCreateQueryV2`.
pub fn check<'v>(
    findings: &mut Findings,
    root: Object<'v, '_>,
    now: Timestamp,
) -> Option<(ProfileDraft, EventDraft<'v>)> {
    root.only(findings, "event", &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, "event");
    data.only(findings, "event", &["type", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    let known: Vec<&str> = ATTRIBUTES.into_iter().chain(["profile"]).collect();
    attributes.only(findings, "event", &known);
    let event = check_attributes(findings, attributes, now);
    let profile = check_profile(findings, attributes);
    Some((profile?, event?))
}

/// Checks a `BaseEventCreateQueryBulkEntryResourceObject`, which leaves the profile to its group.
pub fn check_in_bulk<'v>(
    findings: &mut Findings,
    data: Object<'v, '_>,
    now: Timestamp,
) -> Option<EventDraft<'v>> {
    data.resource_type(findings, "event");
    data.only(findings, "event", &["type", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, "event", &ATTRIBUTES);
    check_attributes(findings, attributes, now)
}

fn check_attributes<'v>(
    findings: &mut Findings,
    attributes: Object<'v, '_>,
    now: Timestamp,
) -> Option<EventDraft<'v>> {
    let properties = attributes.object(findings, "properties");
    if let Some(properties) = properties {
        limits::check(findings, properties.at, properties.map);
    }
    let time = check_time(findings, attributes, now);
    let value = attributes.typed(findings, "value", "a number", |value| match value {
        // What does not fit a finite number is refused by the JSON parser already.
        Value::Number(number) => Some(Number::from(*number)),
        _ => None,
    });
    let value_currency = attributes.text(findings, "value_currency");
    if value_currency.is_some_and(|code| code.len() != 3 || !code.bytes().all(|c| c.is_ascii_uppercase())) {
        findings.add(attributes.at.key("value_currency"), "This must be an ISO 4217 currency code.");
    }
    let unique_id = attributes.text(findings, "unique_id");
    attributes.typed(findings, "backfill", "a boolean", Value::as_bool);
    let metric = check_metric(findings, attributes);

    Some(EventDraft { metric: metric?, properties: properties?.map, time, value, value_currency, unique_id })
}

fn check_time(findings: &mut Findings, attributes: Object<'_, '_>, now: Timestamp) -> Option<Timestamp> {
    let text = attributes.text(findings, "time")?;
    let at = attributes.at.key("time");
    let Some(time) = rfc3339(text) else {
        findings.add(at, "This must be a date and time in RFC 3339 form.");
        return None;
    };
    check_era(findings, at, time, now);
    Some(time)
}

/// After 1990, and at most a year ahead of the clock.
fn check_era(findings: &mut Findings, at: At<'_>, time: Timestamp, now: Timestamp) {
    let latest = now.to_zoned(TimeZone::UTC).checked_add(1.year()).map_or(now, |zoned| zoned.timestamp());
    if time.as_second() < EARLIEST {
        findings.add(at, "The time must be after the year 1990.");
    } else if time > latest {
        findings.add(at, "The time can only be up to 1 year in the future.");
    }
}

/// jiff reads more than RFC 3339 (spaces, missing seconds, offsets without a colon), so the shape is checked first.
pub fn rfc3339(text: &str) -> Option<Timestamp> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    let (head, rest) = text.as_bytes().split_at_checked(SHAPE.len())?;
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte.eq_ignore_ascii_case(shape),
    };
    let offset = match rest.strip_prefix(b".") {
        // At least one digit, and then the offset.
        Some(fraction) => match fraction.iter().position(|byte| !byte.is_ascii_digit())? {
            0 => return None,
            digits => &fraction[digits..],
        },
        None => rest,
    };
    let is_offset = match offset {
        b"Z" | b"z" => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].into_iter().all(u8::is_ascii_digit),
        _ => false,
    };
    (head.iter().zip(SHAPE).all(fits) && is_offset).then(|| text.parse().ok())?
}

fn check_metric<'v>(findings: &mut Findings, attributes: Object<'v, '_>) -> Option<&'v str> {
    let metric = attributes.object(findings, "metric")?;
    metric.only(findings, "event", &["data"]);
    let data = metric.object(findings, "data")?;
    data.resource_type(findings, "metric");
    data.only(findings, "metric", &["type", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, "metric", &["name", "service"]);
    attributes.text(findings, "service");
    let name = attributes.required_text(findings, "name")?;
    if !(1..=MAX_METRIC_NAME).contains(&name.chars().count()) {
        let detail = format!("A metric's name has 1 to {MAX_METRIC_NAME} characters.");
        findings.add(attributes.at.key("name"), detail);
    }
    Some(name)
}

fn check_profile(findings: &mut Findings, attributes: Object<'_, '_>) -> Option<ProfileDraft> {
    let profile = attributes.object(findings, "profile")?;
    profile.only(findings, "event", &["data"]);
    let data = profile.object(findings, "data")?;
    profile::check_in_event(findings, data)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    fn pointers(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut body = json!({"data": {"type": "event", "attributes": {
            "properties": {"OrderId": 7},
            "time": "2026-11-08T00:00:00.25+02:00",
            "value": 9.99,
            "value_currency": "USD",
            "unique_id": "u1",
            "backfill": false,
            "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
            "profile": {"data": {"type": "profile", "attributes": {"email": "a@example.com"}}},
        }}});
        change(&mut body["data"]["attributes"]);
        let now = "2026-07-15T12:00:00Z".parse().unwrap();
        let errors = crate::check::event(&(&body).into(), now).err().unwrap_or_default();
        errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn a_good_event_passes() {
        assert_eq!(pointers(|_| {}), [""; 0]);
        let midnight = super::rfc3339("2026-11-08T00:00:00.25+02:00").unwrap();
        assert_eq!(midnight.as_second(), 1_794_088_800);
        for key in ["time", "value", "value_currency", "unique_id", "backfill"] {
            assert_eq!(pointers(|attributes| attributes[key] = Value::Null), [""; 0], "{key} may be null");
        }
    }

    #[test]
    fn every_wrong_field_has_its_pointer() {
        for (key, value) in [
            ("properties", json!(null)),
            ("properties", json!("x")),
            ("time", json!(1_668_000_000)),
            ("time", json!("yesterday")),
            ("value", json!("9.99")),
            ("value_currency", json!("dollars")),
            ("unique_id", json!(7)),
            ("backfill", json!("false")),
            ("metric", json!(null)),
            ("profile", json!([])),
            ("proprties", json!({})),
        ] {
            assert_eq!(pointers(|attributes| attributes[key] = value), [format!("/data/attributes/{key}")]);
        }
        assert_eq!(
            pointers(|attributes| {
                attributes["value"] = json!(true);
                attributes["metric"]["data"]["type"] = json!("event");
                attributes["profile"]["data"]["attributes"] = json!({"email": "nobody"});
            }),
            [
                "/data/attributes/value",
                "/data/attributes/metric/data/type",
                "/data/attributes/profile/data/attributes/email",
            ]
        );
    }

    #[test]
    fn metric_names_have_a_length() {
        let pointer = "/data/attributes/metric/data/attributes/name";
        let named =
            |name: Value| pointers(|attributes| attributes["metric"]["data"]["attributes"]["name"] = name);
        assert_eq!(named(json!("é".repeat(127))), [""; 0]);
        assert_eq!(named(json!("é".repeat(128))), [pointer]);
        assert_eq!(named(json!("")), [pointer]);
        assert_eq!(named(json!(null)), [pointer]);
    }

    #[test]
    fn an_event_needs_somebody() {
        let identified =
            |who: Value| pointers(|attributes| attributes["profile"]["data"]["attributes"] = who);
        assert_eq!(identified(json!({"anonymous_id": "cookie"})), [""; 0]);
        assert_eq!(identified(json!({"_kx": "opaque"})), ["/data/attributes/profile/data/attributes"]);
        assert_eq!(identified(json!({"phone_number": "+15005550006", "meta": null})), [""; 0]);
    }

    #[test]
    fn times_lie_between_1991_and_a_year_ahead() {
        let at = |time: &str| pointers(|attributes| attributes["time"] = json!(time)).is_empty();
        for good in [
            "1991-01-01T00:00:00Z",
            "2027-07-15T12:00:00Z",
            "2026-07-15t12:00:00z",
            "2026-07-15T12:00:00-09:30",
        ] {
            assert!(at(good), "{good}");
        }
        for bad in [
            "1990-12-31T23:59:59Z",
            "2027-07-15T12:00:01Z",
            "2026-07-15",
            "2026-07-15T12:00Z",
            "2026-07-15T12:00:00",
            "2026-07-15 12:00:00Z",
            "2026-07-15T12:00:00+0200",
            "2026-07-15T12:00:00.Z",
            "2026-02-30T12:00:00Z",
            "2026-07-15T12:00:00Z[UTC]",
        ] {
            assert!(!at(bad), "{bad}");
        }
    }
}
