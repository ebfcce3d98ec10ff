//! The rows of an answer, made flat: what is kept of each, by our names, as far as it is what the document says.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::import;
use crate::json_text::mended;
use crate::webhook::is_name;

/// What the rows of a listing are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Profile,
    Event,
    List,
    Segment,
    Campaign,
    Flow,
    Metric,
}

/// A page of a listing.
#[derive(Debug, PartialEq)]
pub struct PullPage {
    /// Flat objects: `id`, and of [`Resource::fields`] those that are there; no other value is a text that may be none. Of numbers
    /// the id tells one from all others of the same query.
    pub records: Vec<Value>,
    /// Rows that have no id, or that nobody can read.
    pub unreadable: usize,
    /// The cursor of the next page; none where this is the last.
    pub next: Option<String>,
    /// The latest time by which such a listing is sorted, in microseconds since 1970.
    pub latest: Option<i64>,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// Written anew, so that whoever reads it need know one form only.
    Time,
    /// True or false.
    Flag,
    /// An object.
    Object,
}

/// What is kept of a row: our name of it, where it stands, what it is.
type Field = (&'static str, &'static str, Kind);

const PROFILE: &[Field] = &[
    ("email", "/attributes/email", Kind::Text),
    ("phone_number", "/attributes/phone_number", Kind::Text),
    ("external_id", "/attributes/external_id", Kind::Text),
    ("first_name", "/attributes/first_name", Kind::Text),
    ("last_name", "/attributes/last_name", Kind::Text),
    ("organization", "/attributes/organization", Kind::Text),
    ("title", "/attributes/title", Kind::Text),
    ("locale", "/attributes/locale", Kind::Text),
    ("image", "/attributes/image", Kind::Text),
    ("location", "/attributes/location", Kind::Object),
    ("properties", "/attributes/properties", Kind::Object),
    ("subscriptions", "/attributes/subscriptions", Kind::Object),
    ("created_at", "/attributes/created", Kind::Time),
    ("updated_at", "/attributes/updated", Kind::Time),
    ("last_event_at", "/attributes/last_event_date", Kind::Time),
    ("joined_at", "/attributes/joined_group_at", Kind::Time),
];

const EVENT: &[Field] = &[
    ("metric_id", "/relationships/metric/data/id", Kind::Text),
    ("profile_id", "/relationships/profile/data/id", Kind::Text),
    ("happened_at", "/attributes/datetime", Kind::Time),
    ("properties", "/attributes/event_properties", Kind::Object),
];

const LIST: &[Field] = &[
    ("name", "/attributes/name", Kind::Text),
    ("opt_in_process", "/attributes/opt_in_process", Kind::Text),
    ("created_at", "/attributes/created", Kind::Time),
    ("updated_at", "/attributes/updated", Kind::Time),
];

const SEGMENT: &[Field] = &[
    ("name", "/attributes/name", Kind::Text),
    ("is_active", "/attributes/is_active", Kind::Flag),
    ("is_processing", "/attributes/is_processing", Kind::Flag),
    ("created_at", "/attributes/created", Kind::Time),
    ("updated_at", "/attributes/updated", Kind::Time),
];

const CAMPAIGN: &[Field] = &[
    ("name", "/attributes/name", Kind::Text),
    ("status", "/attributes/status", Kind::Text),
    ("archived", "/attributes/archived", Kind::Flag),
    ("send_time", "/attributes/send_time", Kind::Time),
    ("scheduled_at", "/attributes/scheduled_at", Kind::Time),
    ("created_at", "/attributes/created_at", Kind::Time),
    ("updated_at", "/attributes/updated_at", Kind::Time),
];

const FLOW: &[Field] = &[
    ("name", "/attributes/name", Kind::Text),
    ("status", "/attributes/status", Kind::Text),
    ("archived", "/attributes/archived", Kind::Flag),
    ("trigger_type", "/attributes/trigger_type", Kind::Text),
    ("created_at", "/attributes/created", Kind::Time),
    ("updated_at", "/attributes/updated", Kind::Time),
];

const METRIC: &[Field] = &[
    ("name", "/attributes/name", Kind::Text),
    ("integration", "/attributes/integration/name", Kind::Text),
    ("category", "/attributes/integration/category", Kind::Text),
    ("created_at", "/attributes/created", Kind::Time),
    ("updated_at", "/attributes/updated", Kind::Time),
];

impl Resource {
    const fn fields(self) -> &'static [Field] {
        match self {
            Self::Profile => PROFILE,
            Self::Event => EVENT,
            Self::List => LIST,
            Self::Segment => SEGMENT,
            Self::Campaign => CAMPAIGN,
            Self::Flow => FLOW,
            Self::Metric => METRIC,
        }
    }

    /// By what such rows are listed from one pull to the next, where they are.
    const fn mark(self) -> Option<&'static str> {
        match self {
            Self::Profile => Some("updated_at"),
            Self::Event => Some("happened_at"),
            Self::List | Self::Segment | Self::Campaign | Self::Flow | Self::Metric => None,
        }
    }

    /// Reads an answer. None where it is no such thing.
    pub fn page_of(self, body: &[u8]) -> Option<PullPage> {
        let body = mended(body);
        let found = import::page::<Box<RawValue>>(&body)?;
        let (mut records, mut latest) = (Vec::with_capacity(found.rows.len()), None);
        let mut unreadable = 0;
        for row in found.rows {
            match serde_json::from_str(row.get()).ok().and_then(|row| self.record(&row)) {
                Some(record) => {
                    latest = latest.max(self.mark().and_then(|mark| micros(record[mark].as_str()?)));
                    records.push(record);
                }
                None => unreadable += 1,
            }
        }
        Some(PullPage { records, unreadable, next: found.next, latest })
    }

    fn record(self, row: &Value) -> Option<Value> {
        let id = row["id"].as_str().filter(|id| is_name(id))?;
        let mut record = Map::new();
        record.insert("id".to_owned(), id.into());
        for (name, pointer, kind) in self.fields() {
            let value = row.pointer(pointer).and_then(|value| kind.read(value));
            record.extend(value.map(|value| ((*name).to_owned(), value)));
        }
        Some(Value::Object(record))
    }
}

impl Kind {
    fn read(self, value: &Value) -> Option<Value> {
        match self {
            Self::Text => value.as_str().filter(|text| !text.is_empty()).map(Value::from),
            Self::Time => {
                Timestamp::from_microsecond(micros(value.as_str()?)?).ok().map(|at| at.to_string().into())
            }
            Self::Flag => value.as_bool().map(Value::from),
            Self::Object => value.is_object().then(|| value.clone()),
        }
    }
}

/// A time that Klaviyo has written, in microseconds since 1970. One without a zone is of UTC.
fn micros(text: &str) -> Option<i64> {
    let zoned = || text.parse::<Timestamp>().ok();
    let plain = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp());
    Some(zoned().or_else(plain)?.as_microsecond())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_profile_is_read() {
        let body = json!({
            "data": [{
                "type": "profile",
                "id": "01GDDKASAP8TKDDA2GRZDSVP4H",
                "attributes": {
                    "email": "ada@shop.example", "phone_number": null, "external_id": "", "first_name": "Ada\u{0}",
                    "location": {"city": "Graz"}, "properties": {"plan\u{0}": "gold"}, "title": 7,
                    "created": "2022-11-08T00:00:00+00:00", "updated": "2022-11-08T01:02:03.000004",
                    "last_event_date": "yesterday",
                },
            }, {"id": "", "attributes": {}}, 7],
            "links": {"next": "https://a.klaviyo.com/api/profiles?page%5Bcursor%5D=a%26b&sort=updated"},
        });
        let page = Resource::Profile.page_of(body.to_string().as_bytes()).expect("a page");
        let expected = json!({
            "id": "01GDDKASAP8TKDDA2GRZDSVP4H", "email": "ada@shop.example", "first_name": "Ada",
            "location": {"city": "Graz"}, "properties": {"plan": "gold"},
            "created_at": "2022-11-08T00:00:00Z", "updated_at": "2022-11-08T01:02:03.000004Z",
        });
        assert_eq!(page.records, [expected]);
        assert_eq!((page.unreadable, page.next.as_deref()), (2, Some("a&b")));
        assert_eq!(page.latest, Some(1_667_869_323_000_004));
    }

    #[test]
    fn an_event_is_somebodys_and_of_a_metric() {
        let body = json!({"data": [{
            "type": "event", "id": "4vRpBT",
            "attributes": {"datetime": "2022-11-08 01:23:45+00:00", "event_properties": {"$value": 3}},
            "relationships": {
                "profile": {"data": {"type": "profile", "id": "01P"}}, "metric": {"data": {"type": "metric", "id": "Y6"}},
            },
        }]});
        let page = Resource::Event.page_of(body.to_string().as_bytes()).expect("a page");
        let expected = json!({
            "id": "4vRpBT", "profile_id": "01P", "metric_id": "Y6", "happened_at": "2022-11-08T01:23:45Z",
            "properties": {"$value": 3},
        });
        assert_eq!((page.records, page.next), (vec![expected], None));
    }

    #[test]
    fn what_is_no_page_is_none() {
        for body in [
            "",
            "{}",
            "[]",
            r#"{"data":{}}"#,
            r#"{"data":[}"#,
            r#"{"errors":[]}"#,
            r#"{"data":[],"links":{"next":"?"}}"#,
        ] {
            assert_eq!(Resource::List.page_of(body.as_bytes()), None, "{body}");
        }
        let page = Resource::List.page_of(br#"{"data":[],"links":{"next":null}}"#).expect("a page");
        assert_eq!((page.records.len(), page.next), (0, None));
    }
}
