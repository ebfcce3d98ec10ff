//! Webhooks that Klaviyo sends: how they are signed, and what is in one. Source: Klaviyo's guide "Working with system webhooks".

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json_text::mended;
use sha2::Sha256;

/// The header that names the webhook.
pub const WEBHOOK_ID: &str = "klaviyo-webhook-id";
/// The header with the signature: HMAC-SHA256 in lower-case hexadecimal digits.
pub const SIGNATURE: &str = "klaviyo-signature";
/// The header that says when the request was sent.
pub const TIMESTAMP: &str = "klaviyo-timestamp";

/// Whether a request was signed with one of these secrets: over its body as it came, and the text of [`TIMESTAMP`] behind it.
/// It takes as long whether they differ at the first digit or at the last.
pub fn is_signed<'a>(
    body: &[u8],
    timestamp: &str,
    signature: &str,
    secrets: impl IntoIterator<Item = &'a [u8]>,
) -> bool {
    let Some(signature) = digest(signature) else { return false };
    // Each is tried, so that nobody sees by the time which it was.
    secrets.into_iter().fold(false, |is_signed, secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length will do");
        mac.update(body);
        mac.update(timestamp.as_bytes());
        mac.verify_slice(&signature).is_ok() | is_signed
    })
}

/// The 32 bytes that 64 lower-case hexadecimal digits stand for.
fn digest(hex: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut digest = [0; 32];
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
    if pairs.len() != digest.len() {
        return None;
    }
    for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(digest)
}

/// The time that [`TIMESTAMP`] says, in microseconds since 1970: an HTTP date, or ISO 8601.
pub fn sent_at(timestamp: &str) -> Option<i64> {
    let iso = || timestamp.parse::<Timestamp>().ok();
    let http = || rfc2822::parse(timestamp).ok().map(|time| time.timestamp());
    Some(iso().or_else(http)?.as_microsecond())
}

/// What is in a request.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Delivery {
    pub data: Vec<Event>,
    pub meta: Meta,
}

/// What it says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Meta {
    /// Klaviyo's id of the account.
    pub klaviyo_account_id: Option<String>,
    /// The same as [`WEBHOOK_ID`].
    pub klaviyo_webhook_id: String,
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Event {
    /// Klaviyo's id of it.
    pub external_id: String,
    /// Of what sort, such as `event:klaviyo.opened_email`.
    pub topic: String,
    /// As the call that gets an event has it.
    pub payload: Value,
    /// Klaviyo's id of the profile it is about, where it says that.
    #[serde(skip_deserializing)]
    pub profile_id: Option<String>,
}

/// Bytes of an id or a topic. Klaviyo names no bound; this keeps what is none out of every index.
const LONGEST: usize = 256;

/// Reads the body of a request. None where it is no such thing.
///
/// What a text of Postgres cannot hold is mended.
pub fn delivery_of(body: &[u8]) -> Option<Delivery> {
    let mut delivery: Delivery = serde_json::from_slice(&mended(body)).ok()?;
    for event in &mut delivery.data {
        event.profile_id = profile_id(&event.payload);
        if [&event.external_id, &event.topic].into_iter().any(|id| !is_name(id)) {
            return None;
        }
    }
    is_name(&delivery.meta.klaviyo_webhook_id).then_some(delivery)
}

/// Reads the body of a request of a flow's webhook, which is what its maker has written: an object.
pub fn payload_of(body: &[u8]) -> Option<Value> {
    let payload: Value = serde_json::from_slice(&mended(body)).ok()?;
    payload.is_object().then_some(payload)
}

/// Whether a text can be an id or a topic.
pub fn is_name(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && !text.contains(char::is_control)
}

/// `data.relationships.profile.data.id` (spec: `GetEventResponseCompoundDocument`).
fn profile_id(payload: &Value) -> Option<String> {
    let id = payload.pointer("/data/relationships/profile/data/id")?.as_str()?;
    is_name(id).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a secret of one's own";
    const SENT: &str = "Tue, 14 Apr 2026 03:50:12 GMT";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn sign(body: &[u8], timestamp: &str, secret: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key");
        mac.update(body);
        mac.update(timestamp.as_bytes());
        hex(&mac.finalize().into_bytes())
    }

    /// RFC 4231, test case 2, its data cut in two: what is signed is the one behind the other.
    #[test]
    fn it_is_hmac_sha256_of_the_body_and_the_timestamp() {
        let signature = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert!(is_signed(b"what do ya want ", "for nothing?", signature, [&b"Jefe"[..]]));
        assert!(!is_signed(b"what do ya want", " for nothing", signature, [&b"Jefe"[..]]));
    }

    #[test]
    fn either_of_two_secrets_will_do() {
        let body = br#"{"data":[]}"#;
        for secret in [SECRET, b"another"] {
            let signature = sign(body, SENT, secret);
            assert!(is_signed(body, SENT, &signature, [SECRET, b"another"]));
        }
        assert!(!is_signed(body, SENT, &sign(body, SENT, b"none"), [SECRET, b"another"]));
        assert!(!is_signed(body, SENT, &sign(body, SENT, SECRET), []));
    }

    /// Whatever is changed of a request, or of how it is signed, it is not Klaviyo's any more.
    #[test]
    fn nothing_that_was_changed_is_signed() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..20_000 {
            let body: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
            let secret: Vec<u8> = (0..random.usize(1..80)).map(|_| random.u8(..)).collect();
            let signature = sign(&body, SENT, &secret);
            assert!(is_signed(&body, SENT, &signature, [&secret[..]]), "round {round}");
            let (mut other, mut sent, mut signed, mut key) =
                (body.clone(), SENT.to_owned(), signature.clone().into_bytes(), secret.clone());
            match random.u8(0..8) {
                0 => {
                    let at = random.usize(0..other.len());
                    other[at] ^= 1 << random.u8(0..8);
                }
                1 => other.truncate(random.usize(0..other.len())),
                2 => other.push(random.u8(..)),
                3 => sent.replace_range(5..7, "15"),
                4 => {
                    let at = random.usize(0..signed.len());
                    signed[at] = if signed[at] == b'0' { b'1' } else { b'0' };
                }
                5 => signed.truncate(random.usize(0..signed.len())),
                // The digits of upper case are not Klaviyo's.
                6 => signed.iter_mut().for_each(|digit| {
                    *digit = if digit.is_ascii_digit() { b'A' } else { digit.to_ascii_uppercase() }
                }),
                _ => {
                    let at = random.usize(0..key.len());
                    key[at] ^= 1 << random.u8(0..8);
                }
            }
            let signed = String::from_utf8(signed).expect("digits");
            assert!(!is_signed(&other, &sent, &signed, [&key[..]]), "round {round}");
        }
        for none in ["", "0", "é", &"é".repeat(32), &"0".repeat(63), &"0".repeat(65), &"0".repeat(66)] {
            assert!(!is_signed(b"", "", none, [SECRET]), "{none}");
        }
    }

    #[test]
    fn times_are_read_in_either_form() {
        let expected = Some(1_776_138_612_000_000);
        for text in
            [SENT, "2026-04-14T03:50:12Z", "2026-04-14T03:50:12.000000+00:00", "2026-04-14T05:50:12+02:00"]
        {
            assert_eq!(sent_at(text), expected, "{text}");
        }
        for none in ["", "yesterday", "1776138612", "2026-04-14", "Tue, 14 Apr 2026"] {
            assert_eq!(sent_at(none), None, "{none}");
        }
    }

    #[test]
    fn a_body_has_events() {
        let body = serde_json::json!({
            "data": [{"external_id": "E", "topic": "event:klaviyo.opened_email", "payload": {"data": {
                "attributes": {"n\u{0}ame": "a\u{0}b"},
                "relationships": {"profile": {"data": {"type": "profile", "id": "01P"}}}}}}],
            "meta": {"klaviyo_account_id": "A", "klaviyo_webhook_id": "W", "timestamp": SENT},
        });
        let read = |body: &Value| delivery_of(body.to_string().as_bytes());
        let delivery = read(&body).expect("a delivery");
        let event = &delivery.data[0];
        assert_eq!(
            (event.topic.as_str(), event.profile_id.as_deref()),
            ("event:klaviyo.opened_email", Some("01P"))
        );
        assert_eq!(event.payload["data"]["attributes"], serde_json::json!({"name": "ab"}));
        assert_eq!(delivery.meta.klaviyo_webhook_id, "W");
        for pointer in ["/data", "/meta", "/data/0/topic", "/data/0/external_id", "/meta/klaviyo_webhook_id"]
        {
            let mut bad = body.clone();
            *bad.pointer_mut(pointer).expect("it is there") = Value::Null;
            assert_eq!(read(&bad), None, "{pointer}");
        }
        for pointer in ["/data/0/topic", "/data/0/external_id", "/meta/klaviyo_webhook_id"] {
            for text in [String::new(), "a\nb".to_owned(), "x".repeat(257)] {
                let mut bad = body.clone();
                *bad.pointer_mut(pointer).expect("it is there") = text.into();
                assert_eq!(read(&bad), None, "{pointer}");
            }
        }
    }

    /// Whatever comes, nothing breaks.
    #[test]
    fn whatever_is_cut_off_or_mixed_up_is_read_or_not() {
        let mut random = fastrand::Rng::with_seed(8);
        let body = br#"{"data":[{"external_id":"E","topic":"event:a","payload":{"a":[1,{"b":"\u0000"}]}}],"meta":{"klaviyo_webhook_id":"W"}}"#;
        assert!(delivery_of(body).is_some());
        for end in 0..body.len() {
            assert_eq!(delivery_of(&body[..end]), None, "{end}");
        }
        for _ in 0..20_000 {
            let mut body = body.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..body.len());
                body[at] = random.u8(..);
            }
            if let Some(delivery) = delivery_of(&body) {
                assert!(!serde_json::to_string(&delivery).expect("JSON").contains("\\u0000"));
            }
        }
        assert_eq!((payload_of(b"[1]"), payload_of(b"{")), (None, None));
        assert_eq!(payload_of(br#"{"a":"\u0000b"}"#), Some(serde_json::json!({"a": "b"})));
        let deep = [b"{\"data\":".to_vec(), b"[".repeat(100_000)].concat();
        assert_eq!(delivery_of(&deep), None);
    }
}
