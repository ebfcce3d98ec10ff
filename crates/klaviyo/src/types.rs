//! Request bodies and the little we read of answers.
//!
//! Bodies are put together from JSON that was checked when it was queued: it is copied, never parsed into a tree
//! and written again, so a number of twenty digits leaves as it came.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Body of `create_event`: `event` holds the event's attributes but its profile, `profile` the profile's.
/// Both must be JSON objects; `event` is never empty, for a metric is always in it.
pub fn event_body(event: &RawValue, profile: &RawValue) -> Vec<u8> {
    let event = event.get().trim_end();
    let open = event.strip_suffix('}').unwrap_or(event);
    let mut body = Vec::with_capacity(event.len() + profile.get().len() + 96);
    body.extend_from_slice(br#"{"data":{"type":"event","attributes":"#);
    body.extend_from_slice(open.as_bytes());
    body.extend_from_slice(br#","profile":{"data":{"type":"profile","attributes":"#);
    body.extend_from_slice(profile.get().as_bytes());
    body.extend_from_slice(b"}}}}}");
    body
}

/// Body of `create_or_update_profile`.
pub fn profile_body(attributes: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(attributes.len() + 48);
    body.extend_from_slice(br#"{"data":{"type":"profile","attributes":"#);
    body.extend_from_slice(attributes.as_bytes());
    body.extend_from_slice(b"}}");
    body
}

/// Body of `request_profile_deletion`: the attributes name one address or number.
pub fn deletion_body(attributes: &str) -> Vec<u8> {
    let frame = r#"{"data":{"type":"data-privacy-deletion-job","attributes":{"profile":{"data":{"type":"profile","attributes":"#;
    [frame, attributes, "}}}}}"].concat().into_bytes()
}

/// Body of `merge_profiles`: of the profile that stays and of that which is merged into it, by their ids.
pub fn merge_body(destination: &str, source: &str) -> Vec<u8> {
    let profiles = serde_json::json!({"data": [{"type": "profile", "id": source}]});
    let body = serde_json::json!({"data": {
        "type": "profile-merge", "id": destination, "relationships": {"profiles": profiles},
    }});
    body.to_string().into_bytes()
}

/// The id of the resource an answer is about (`data.id`), where it has one.
pub fn resource_id(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        id: Option<String>,
    }
    serde_json::from_slice::<Body>(body).ok()?.data.id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn bodies_carry_the_queued_bytes() {
        let body = event_body(
            &raw(r#"{"properties":{"n":12345678901234567890.50},"unique_id":"u"}"#),
            &raw(r#"{"email":"a@b.example"}"#),
        );
        assert_eq!(
            String::from_utf8(body).expect("UTF-8"),
            r#"{"data":{"type":"event","attributes":{"properties":{"n":12345678901234567890.50},"unique_id":"u","profile":{"data":{"type":"profile","attributes":{"email":"a@b.example"}}}}}}"#
        );
        assert_eq!(
            profile_body(r#"{"email":"a@b.example"}"#),
            br#"{"data":{"type":"profile","attributes":{"email":"a@b.example"}}}"#
        );
    }

    #[test]
    fn a_deletion_names_whom() {
        let body: serde_json::Value =
            serde_json::from_slice(&deletion_body(r#"{"email":"a@b.example"}"#)).expect("JSON");
        assert_eq!(body["data"]["attributes"]["profile"]["data"]["attributes"]["email"], "a@b.example");
    }

    #[test]
    fn resource_id_is_read_where_there_is_one() {
        assert_eq!(resource_id(br#"{"data":{"type":"profile","id":"01H"}}"#).as_deref(), Some("01H"));
        assert_eq!(resource_id(b""), None);
        assert_eq!(resource_id(br#"{"data":[]}"#), None);
    }
}
