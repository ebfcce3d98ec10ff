//! Which campaign a message means: by Klaviyo's id, or by the message that makes it, for it has an id only when that was done.
//!
//! In a payload it is `"campaign": …`, the id, or `"made_by": …`, the message's, beside which the id stands once it is known.

use klaviyo::{Campaign, JobStatus};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::invalid::{Fault, Invalid};
use crate::kind::push_string;
use crate::message::Message;

/// Bytes of Klaviyo's ids, of campaigns and templates. They have 26 or 6.
pub const LONGEST_ID: usize = 64;

/// What a message does with a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Make,
    AssignTemplate,
    Estimate,
    Send,
    Cancel,
}

/// A campaign, as an argument says which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    Id(String),
    MadeBy(Uuid),
}

impl Meant {
    /// What the argument `campaign` means: a message's id, or Klaviyo's of the campaign.
    pub fn read(argument: Option<&str>) -> Result<Self, Invalid> {
        let argument = argument.unwrap_or_default();
        if argument.len() == 36
            && let Ok(message) = Uuid::parse_str(argument)
        {
            return Ok(Self::MadeBy(message));
        }
        if is_id(argument) {
            return Ok(Self::Id(argument.to_owned()));
        }
        Err(Invalid::new(
            Fault::Campaign,
            "argument \"campaign\" names no campaign",
            "It is neither an id of Klaviyo's, of letters and digits, nor a message_id.",
            "Pass what klaviyo_create_campaign() has returned, or the id that stands in the campaign's address at Klaviyo.",
        ))
    }

    /// Writes it into a payload.
    pub fn push(&self, payload: &mut String) {
        match self {
            Self::Id(id) => push_string(payload, "campaign", id),
            Self::MadeBy(message) => push_string(payload, "made_by", &message.to_string()),
        }
    }

    /// The identifier by which messages about it keep their order.
    pub fn key(&self) -> String {
        match self {
            Self::Id(id) => key(id),
            Self::MadeBy(message) => key(&message.to_string()),
        }
    }
}

/// The same, of a name it has in a payload.
pub fn key(name: &str) -> String {
    format!("campaign:{name}")
}

/// Whether a text may be an id of Klaviyo's.
pub fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What is laid down of a message about a campaign that is made elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<Uuid>,
    /// The template that its message is to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// That message, once Klaviyo has said which it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether it is to be a draft again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revert: Option<bool>,
    /// Whether it was a draft when Klaviyo was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was_draft: Option<bool>,
}

impl Step {
    /// # Errors
    /// Says why it is none of ours.
    pub fn read(payload: &str) -> Result<Self, String> {
        serde_json::from_str(payload).map_err(|error| error.to_string())
    }

    /// The campaign's id.
    ///
    /// # Errors
    /// Where it is not known yet.
    pub fn id(&self) -> Result<&str, String> {
        self.campaign.as_deref().ok_or_else(|| "nobody has said yet which campaign it means".to_owned())
    }

    /// As a payload.
    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("texts can be written to memory")
    }
}

/// The message that makes the campaign that a payload means, if nobody has said yet which that is.
pub fn made_by(payload: &str) -> Option<Uuid> {
    Step::read(payload).ok().filter(|step| step.campaign.is_none())?.made_by
}

/// Tells a message which campaign it means. It keeps its order with what names that so.
pub fn resolve(message: &mut Message, id: &str) {
    if let Ok(step) = Step::read(&message.payload) {
        message.payload = Step { campaign: Some(id.to_owned()), ..step }.write();
        message.key.push(key(id));
    }
}

/// A payload that has it that the campaign is a draft, without that.
pub fn no_draft(payload: &str) -> Option<String> {
    let step = Step::read(payload).ok().filter(|step| step.was_draft.is_some())?;
    Some(Step { was_draft: None, ..step }.write())
}

/// What has become known of a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignNews {
    /// Klaviyo's.
    pub id: String,
    pub fact: CampaignFact,
}

impl CampaignNews {
    /// None where the id cannot be one.
    pub fn new(id: &str, fact: CampaignFact) -> Option<Self> {
        is_id(id).then(|| Self { id: id.to_owned(), fact })
    }
}

/// A time of Klaviyo's in microseconds since 1970.
pub fn micros(time: &str) -> Option<i64> {
    Some(time.parse::<jiff::Timestamp>().ok()?.as_microsecond())
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CampaignFact {
    /// A message has made it.
    Made { by: [u8; 16], name: String },
    /// A message has had Klaviyo send it: it is followed from now on.
    Sent { by: [u8; 16] },
    /// It was to be cancelled: it is followed until that shows.
    Cancelled,
    /// How the job stands that sends it.
    Job(JobStatus),
    /// What Klaviyo says of it; whether it is still followed, where that changes.
    Read { campaign: Campaign, followed: Option<bool> },
    /// It is not followed any more, for Klaviyo does not know it.
    Left,
    /// To how many it would go.
    Recipients(i64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::tests::message;

    #[test]
    fn it_is_named_by_an_id_or_by_the_message_that_makes_it() {
        let message = "0197A000-0000-7000-8000-000000006b73";
        let made = Meant::read(Some(message)).expect("a message");
        assert_eq!(made.key(), format!("campaign:{}", message.to_lowercase()));
        let id = Meant::read(Some("01GDDKASAP8TKDDA2GRZDSVP4H")).expect("an id");
        assert_eq!(id.key(), "campaign:01GDDKASAP8TKDDA2GRZDSVP4H");
        for bad in [None, Some(""), Some("a b"), Some("a/b"), Some("x".repeat(65).as_str())] {
            assert_eq!(Meant::read(bad).expect_err("none").fault, Fault::Campaign);
        }
    }

    #[test]
    fn its_id_stands_beside_the_message_that_made_it() {
        let payload = r#"{"made_by":"0197a000-0000-7000-8000-000000006b73","template":"T"}"#;
        assert!(made_by(payload).is_some() && Step::read(payload).expect("ours").id().is_err());
        let mut known = Message { payload: payload.to_owned(), ..message(1, "event", "maker") };
        resolve(&mut known, "C");
        assert_eq!(known.key, ["maker", "campaign:C"]);
        assert_eq!(Step::read(&known.payload).expect("ours").id(), Ok("C"));
        assert_eq!((made_by(&known.payload), made_by(r#"{"campaign":"C"}"#)), (None, None));
        assert!(Step::read(r#"{"campaign":"C","else":1}"#).is_err());
    }
}
