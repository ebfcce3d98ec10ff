//! New campaigns: a draft with one message, to whom it is to go, and when.
//!
//! Payload: `{"since": …, "attributes": …}`, the campaign's attributes as the call has them, and the time from which on one may
//! have been made of it. Klaviyo makes another one of whoever asks twice; so where it may have been made, it is looked for.

use jiff::Span;
use jiff::civil::Date;
use klaviyo::{Audiences, CREATE_CAMPAIGN, Endpoint, campaign_body};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::event::rfc3339;
use super::{Checked, Kind, Lost, Reading, Rides};
use crate::campaign::{self, Act};
use crate::invalid::{Fault, Invalid};
use crate::question::{CampaignMade, Question};

/// Bytes of a name, as far as Klaviyo may ever take it.
const NAME: usize = 1_000;

/// Audiences of either sort. Klaviyo names no bound.
const AUDIENCES: usize = 1_000;

/// Bytes of a content or of tracking options.
pub const CONTENT: usize = 100_000;

/// Seconds by which our clock may be ahead of Klaviyo's.
const SKEW: i64 = 60;

/// The years that a time may be in, in microseconds since 1970: 1970 to 9999.
const TIMES: std::ops::Range<i64> = 0..253_402_300_800_000_000;

/// Parts of those to whom a campaign goes, in percent an hour (spec: `ThrottledSendStrategy`).
const THROTTLES: [i32; 12] = [1, 2, 5, 10, 11, 13, 14, 17, 20, 25, 33, 50];

/// What a message of a channel may say (spec: `EmailContent`, `SMSContentCreate`, `MobilePushContentCreate`).
const CHANNELS: [(&str, &[&str]); 3] = [
    (
        "email",
        &["subject", "preview_text", "from_email", "from_label", "reply_to_email", "cc_email", "bcc_email"],
    ),
    ("sms", &["body"]),
    ("mobile_push", &["title", "body", "dynamic_image", "action_buttons"]),
];

/// What `klaviyo_create_campaign` was given.
#[derive(Debug, Clone, Default)]
pub struct Draft<'a> {
    pub name: Option<&'a str>,
    pub included: Vec<String>,
    pub excluded: Vec<String>,
    pub channel: Option<&'a str>,
    /// JSON.
    pub content: Option<&'a str>,
    /// Microseconds since 1970.
    pub send_at: Option<i64>,
    /// Whether that is in the time zone of whom it goes to.
    pub recipient_time: bool,
    pub throttle_percentage: Option<i32>,
    /// Days since 1970.
    pub smart_send_on: Option<i32>,
    pub smart_sending: Option<bool>,
    /// JSON.
    pub tracking_options: Option<&'a str>,
}

impl Draft<'_> {
    /// Checks it, and lays it down for the message with that id, at that time in microseconds since 1970.
    pub fn check(&self, message: &uuid::Uuid, now: i64) -> Result<Checked, Invalid> {
        let name = self.name.filter(|name| !name.trim().is_empty() && name.len() <= NAME);
        let name = name.ok_or_else(|| {
            refusal(
                "argument \"name\" is no name for a campaign",
                "It is NULL, blank, or longer than 1000 bytes.",
                "Pass the name that people are to see at Klaviyo.",
            )
        })?;
        let mut attributes = json!({
            "name": name,
            "audiences": self.audiences()?,
            "send_strategy": self.send_strategy()?,
            "campaign-messages": {"data": [
                {"type": "campaign-message", "attributes": {"definition": self.definition()?}},
            ]},
        });
        if let Some(smart_sending) = self.smart_sending {
            attributes["send_options"] = json!({"use_smart_sending": smart_sending});
        }
        if let Some(options) = self.tracking_options {
            attributes["tracking_options"] = object("tracking_options", options)?.into();
        }
        let since = now - now.rem_euclid(1_000_000) - SKEW * 1_000_000;
        let payload = json!({"since": rfc3339(since), "attributes": attributes}).to_string();
        Ok(Checked { key: vec![campaign::key(&message.to_string())], payload })
    }

    fn audiences(&self) -> Result<Value, Invalid> {
        let all = self.included.iter().chain(&self.excluded);
        let few = |audiences: &Vec<String>| audiences.len() <= AUDIENCES;
        if self.included.is_empty() || !few(&self.included) || !few(&self.excluded) {
            return Err(refusal(
                "argument \"included\" does not say to whom the campaign goes",
                format!("It is NULL or empty, or it or \"excluded\" has more than {AUDIENCES} entries."),
                "Pass the ids of the lists and segments to which it is to go.",
            ));
        }
        if !all.clone().all(|id| campaign::is_id(id)) {
            return Err(refusal(
                "argument \"included\" or \"excluded\" names no list or segment",
                "An entry is no id of Klaviyo's, which are of letters and digits.",
                "Pass the id that stands in the address of the list or segment at Klaviyo, such as Y6nRLr.",
            ));
        }
        let mut audiences = json!({"included": self.included});
        if !self.excluded.is_empty() {
            audiences["excluded"] = json!(self.excluded);
        }
        Ok(audiences)
    }

    fn send_strategy(&self) -> Result<Value, Invalid> {
        let Self { send_at, smart_send_on, throttle_percentage, recipient_time, .. } = *self;
        if send_at.is_some() && smart_send_on.is_some()
            || send_at.is_none() && (throttle_percentage.is_some() || recipient_time)
            || throttle_percentage.is_some() && recipient_time
        {
            return Err(refusal(
                "the arguments do not say when the campaign is to be sent",
                "Of send_at and smart_send_on there may be one, and with send_at one of recipient_time and throttle_percentage.",
                "Pass none of them to have it sent at once by klaviyo_send_campaign().",
            ));
        }
        if throttle_percentage.is_some_and(|percentage| !THROTTLES.contains(&percentage)) {
            let known = THROTTLES.map(|percentage| percentage.to_string()).join(", ");
            return Err(refusal(
                "argument \"throttle_percentage\" is none that Klaviyo takes",
                format!("It takes {known}."),
                "Pass one of these, the part of the recipients that it goes to in an hour.",
            ));
        }
        let time = send_at.map(|micros| {
            let micros = Some(micros).filter(|micros| TIMES.contains(micros));
            micros.map(rfc3339).ok_or_else(|| out_of_range("send_at"))
        });
        let date = smart_send_on.map(|days| {
            let date =
                Span::new().try_days(days).and_then(|days| Date::constant(1970, 1, 1).checked_add(days));
            let date = date.ok().filter(|date| (1970..=9999).contains(&date.year()));
            date.ok_or_else(|| out_of_range("smart_send_on"))
        });
        Ok(match (time.transpose()?, date.transpose()?) {
            (Some(time), _) => match throttle_percentage {
                Some(percentage) => {
                    json!({"method": "throttled", "datetime": time, "throttle_percentage": percentage})
                }
                None if recipient_time => {
                    json!({"method": "static", "datetime": time, "options": {"is_local": true}})
                }
                None => json!({"method": "static", "datetime": time}),
            },
            (None, Some(date)) => json!({"method": "smart_send_time", "date": date.to_string()}),
            (None, None) => json!({"method": "immediate"}),
        })
    }

    fn definition(&self) -> Result<Value, Invalid> {
        let found = CHANNELS.into_iter().find(|(channel, _)| self.channel == Some(channel));
        let Some((channel, fields)) = found else {
            return Err(refusal(
                "argument \"channel\" is none of Klaviyo's",
                "Campaigns go by email, sms or mobile_push.",
                "Pass one of these.",
            ));
        };
        let content = self.content.map(|content| object("content", content)).transpose()?.unwrap_or_default();
        for (field, value) in &content {
            let is_text = matches!(value, Value::String(_) | Value::Null);
            let is_list = field == "action_buttons" && value.is_array();
            if !fields.contains(&field.as_str()) || !(is_text || is_list) {
                return Err(refusal(
                    format!(
                        "argument \"content\" has a \"{field}\" that no message of channel {channel} has"
                    ),
                    format!("These are: {}; each is a text, but for action_buttons.", fields.join(", ")),
                    "Leave it out or correct it. Of an e-mail the rest is its template's, see klaviyo_assign_template().",
                ));
            }
        }
        if channel == "mobile_push" && !content.get("body").is_some_and(Value::is_string) {
            return Err(refusal(
                "argument \"content\" has no \"body\"",
                "A push notification needs one.",
                "Pass what it is to say.",
            ));
        }
        let mut definition = json!({"channel": channel});
        if !content.is_empty() {
            definition["content"] = content.into();
        }
        Ok(definition)
    }
}

fn object(argument: &str, text: &str) -> Result<Map<String, Value>, Invalid> {
    serde_json::from_str(text).map_err(|_| {
        refusal(
            format!("argument \"{argument}\" is not a JSON object"),
            "It must be an object of names and values.",
            "Build it with jsonb_build_object('name', value, …).",
        )
    })
}

fn out_of_range(argument: &str) -> Invalid {
    refusal(
        format!("argument \"{argument}\" is out of range"),
        "It is before 1970, after 9999, or infinite.",
        "Pass when the campaign is to be sent.",
    )
}

fn refusal(
    message: impl Into<std::borrow::Cow<'static, str>>,
    detail: impl Into<std::borrow::Cow<'static, str>>,
    hint: &'static str,
) -> Invalid {
    Invalid::new(Fault::Campaign, message, detail, hint)
}

/// What it is looked for by, and how it is told from others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    pub since: String,
    attributes: Map<String, Value>,
}

impl Payload {
    /// # Errors
    /// Says why it is none of ours.
    pub fn read(payload: &str) -> Result<Self, String> {
        let read: Self = serde_json::from_str(payload).map_err(|error| error.to_string())?;
        if read.name().is_empty() { Err("it has no name".to_owned()) } else { Ok(read) }
    }

    pub fn name(&self) -> &str {
        self.attributes.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    pub fn channel(&self) -> &str {
        let messages = self.attributes.get("campaign-messages");
        let channel = messages.and_then(|it| it.pointer("/data/0/attributes/definition/channel")?.as_str());
        channel.unwrap_or_default()
    }

    pub fn audiences(&self) -> Audiences {
        let audiences = self.attributes.get("audiences").cloned().unwrap_or_default();
        serde_json::from_value(audiences).unwrap_or_default()
    }
}

/// The kind.
pub struct Campaign;

impl Kind for Campaign {
    fn name(&self) -> &'static str {
        "campaign_create"
    }

    fn endpoint(&self) -> Option<&'static Endpoint> {
        Some(&CREATE_CAMPAIGN)
    }

    fn body(&self, payload: &str) -> Result<Vec<u8>, String> {
        Ok(campaign_body(&Payload::read(payload)?.attributes.into()))
    }

    fn lost(&self) -> Lost {
        Lost::ReadBack
    }

    fn is_announced(&self, _: &str) -> bool {
        true
    }

    fn read(&self, _: &str, _: [u8; 16], _: &str) -> Reading {
        Reading { rides: Rides::Never, carries_state: false, backfill: false }
    }

    fn questions(&self) -> &'static [&'static dyn Question] {
        &[&CampaignMade]
    }

    fn campaign(&self) -> Option<Act> {
        Some(Act::Make)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_796_000_000_123_456;

    fn draft() -> Draft<'static> {
        Draft {
            name: Some("Sale"),
            included: vec!["Y6nRLr".to_owned()],
            channel: Some("email"),
            ..Draft::default()
        }
    }

    fn attributes(draft: &Draft<'_>) -> Value {
        let checked = draft.check(&uuid::Uuid::nil(), NOW).expect("valid");
        let body: Value =
            serde_json::from_slice(&Campaign.body(&checked.payload).expect("a body")).expect("JSON");
        body["data"]["attributes"].clone()
    }

    #[test]
    fn a_draft_says_what_goes_to_whom_and_when() {
        let draft = Draft { content: Some(r#"{"subject":"Now"}"#), ..draft() };
        assert_eq!(
            attributes(&draft),
            json!({
                "name": "Sale", "audiences": {"included": ["Y6nRLr"]}, "send_strategy": {"method": "immediate"},
                "campaign-messages": {"data": [{"type": "campaign-message", "attributes": {
                    "definition": {"channel": "email", "content": {"subject": "Now"}}}}]},
            })
        );
        let checked = draft.check(&uuid::Uuid::nil(), NOW).expect("valid");
        assert_eq!(checked.key, ["campaign:00000000-0000-0000-0000-000000000000"]);
        let payload = Payload::read(&checked.payload).expect("ours");
        assert_eq!(payload.since, "2026-11-30T00:52:20Z");
        assert_eq!((payload.name(), payload.channel()), ("Sale", "email"));
        assert_eq!(payload.audiences().included, ["Y6nRLr"]);
    }

    #[test]
    fn it_goes_at_once_or_at_a_time_or_when_klaviyo_thinks_best() {
        let strategy = |draft: Draft<'_>| attributes(&draft)["send_strategy"].clone();
        let send_at = Some(1_798_102_800_000_000);
        assert_eq!(
            strategy(Draft { send_at, ..draft() }),
            json!({"method": "static", "datetime": "2026-12-24T09:00:00Z"})
        );
        assert_eq!(
            strategy(Draft { send_at, recipient_time: true, ..draft() })["options"],
            json!({"is_local": true})
        );
        assert_eq!(
            strategy(Draft { send_at, throttle_percentage: Some(25), ..draft() }),
            json!({"method": "throttled", "datetime": "2026-12-24T09:00:00Z", "throttle_percentage": 25})
        );
        assert_eq!(
            strategy(Draft { smart_send_on: Some(20_811), ..draft() }),
            json!({"method": "smart_send_time", "date": "2026-12-24"})
        );
    }

    #[test]
    fn what_is_no_campaign_is_refused() {
        let many = vec!["Y6nRLr".to_owned(); AUDIENCES + 1];
        let send_at = Some(NOW);
        for bad in [
            Draft { name: None, ..draft() },
            Draft { name: Some(" "), ..draft() },
            Draft { included: Vec::new(), ..draft() },
            Draft { included: many.clone(), ..draft() },
            Draft { excluded: many, ..draft() },
            Draft { included: vec!["Newsletter subscribers".to_owned()], ..draft() },
            Draft { excluded: vec![String::new()], ..draft() },
            Draft { channel: None, ..draft() },
            Draft { channel: Some("fax"), ..draft() },
            Draft { content: Some("[]"), ..draft() },
            Draft { content: Some(r#"{"body":"x"}"#), ..draft() },
            Draft { content: Some(r#"{"subject":7}"#), ..draft() },
            Draft { channel: Some("mobile_push"), ..draft() },
            Draft { tracking_options: Some("7"), ..draft() },
            Draft { send_at, smart_send_on: Some(20_811), ..draft() },
            Draft { recipient_time: true, ..draft() },
            Draft { throttle_percentage: Some(25), ..draft() },
            Draft { send_at, recipient_time: true, throttle_percentage: Some(25), ..draft() },
            Draft { send_at, throttle_percentage: Some(26), ..draft() },
            Draft { send_at: Some(i64::MAX), ..draft() },
            Draft { smart_send_on: Some(i32::MAX), ..draft() },
        ] {
            let invalid = bad.check(&uuid::Uuid::nil(), NOW).expect_err("invalid");
            assert_eq!(invalid.fault, Fault::Campaign, "{bad:?}");
        }
        for payload in ["{}", r#"{"since":"","attributes":{}}"#] {
            assert!(Campaign.request(payload).is_err(), "{payload}");
        }
    }
}
