//! What the four kinds about consent have in common: subscribe, unsubscribe, suppress, unsuppress.
//!
//! Payload: `{"job": …, "list": …, "profile": …}`, of which the first two may be absent: attributes of the job that the call
//! makes, the list (see [`crate::list`]), and the profile's attributes. Each is of a person's mind at a time, so they keep their order, none
//! is merged into another, and of one person one is in a call.

use std::borrow::Cow;

use klaviyo::Endpoint;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::consent_batch::ConsentBatch;
use super::{Kind, Lost, Reading, Rides, push_raw, push_string};
use crate::batch::Batch;
use crate::identifiers::Identifiers;
use crate::invalid::{Fault, Invalid};
use crate::list::List;
use crate::question::Question;

/// What is laid down.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload<'a> {
    #[serde(borrow)]
    pub job: Option<&'a RawValue>,
    #[serde(borrow)]
    pub list: Option<Cow<'a, str>>,
    /// Where nobody has said yet which list that is.
    #[serde(borrow)]
    list_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub profile: &'a RawValue,
}

impl<'a> Payload<'a> {
    /// # Errors
    /// Says why it is none of ours.
    pub fn read(payload: &'a str) -> Result<Self, String> {
        let payload: Self = serde_json::from_str(payload).map_err(|error| error.to_string())?;
        payload.who()?;
        Ok(payload)
    }

    /// It, to be sent.
    ///
    /// # Errors
    /// Where nobody has said yet which list it means, or it is none of ours.
    pub fn known(payload: &'a str) -> Result<Self, String> {
        let payload = Self::read(payload)?;
        if payload.list_name.is_some() && payload.list.is_none() {
            Err("nobody has said yet which list it means".to_owned())
        } else {
            Ok(payload)
        }
    }

    /// Whom it is about, by the first identifier it names, and which that is.
    ///
    /// # Errors
    /// Where it names nobody.
    pub fn who(&self) -> Result<(&'static str, String), String> {
        #[derive(Deserialize)]
        struct Who {
            email: Option<String>,
            phone_number: Option<String>,
        }
        let Who { email, phone_number } =
            serde_json::from_str(self.profile.get()).map_err(|error| error.to_string())?;
        let email = email.map(|email| ("email", email));
        let phone_number = phone_number.map(|phone_number| ("phone_number", phone_number));
        email.or(phone_number).ok_or_else(|| "it names neither email nor phone_number".to_owned())
    }
}

/// A kind of these.
pub struct Consent {
    pub(super) name: &'static str,
    pub(super) endpoint: &'static Endpoint,
    /// The type of the job that a call makes.
    pub(super) resource: &'static str,
    pub(super) lost: Lost,
    pub(super) questions: &'static [&'static dyn Question],
}

impl Consent {
    fn call(&self) -> ConsentBatch {
        ConsentBatch::new(self.endpoint, self.resource)
    }
}

impl Kind for Consent {
    fn name(&self) -> &'static str {
        self.name
    }

    fn endpoint(&self) -> Option<&'static Endpoint> {
        Some(self.endpoint)
    }

    fn body(&self, payload: &str) -> Result<Vec<u8>, String> {
        self.call().body_of(payload)
    }

    fn lost(&self) -> Lost {
        self.lost
    }

    fn read(&self, _: &str, _: [u8; 16], payload: &str) -> Reading {
        let rides = if Payload::read(payload).is_ok() { Rides::Always } else { Rides::Never };
        Reading { rides, carries_state: false, backfill: false }
    }

    fn bulk(&self) -> Option<&'static Endpoint> {
        Some(self.endpoint)
    }

    fn batch(&self) -> Option<Box<dyn Batch>> {
        Some(Box::new(self.call()))
    }

    fn questions(&self) -> &'static [&'static dyn Question] {
        self.questions
    }
}

/// A payload that is being written.
pub(super) fn payload(job: &str, list: Option<List<'_>>, profile: &str) -> String {
    let mut payload = String::from("{");
    if job != "{}" {
        push_raw(&mut payload, "job", job);
    }
    if let Some(list) = list {
        list.push(&mut payload);
    }
    push_raw(&mut payload, "profile", profile);
    payload.push('}');
    payload
}

/// A channel, and what of it is consented to, as the argument `channels` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Email,
    Sms,
    SmsTransactional,
}

impl Channel {
    const ALL: [Self; 3] = [Self::Email, Self::Sms, Self::SmsTransactional];

    const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
            Self::SmsTransactional => "sms_transactional",
        }
    }

    /// The identifier it reaches a person by.
    const fn needs(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms | Self::SmsTransactional => "phone_number",
        }
    }
}

/// The channels that are named, in our order; of those not named, what the identifiers that are given reach: marketing by
/// e-mail, by SMS.
pub(super) fn channels(named: Option<&[String]>, identifiers: &Identifiers) -> Result<Vec<Channel>, Invalid> {
    let refuse = |detail: String, hint: &'static str| {
        Err(Invalid::new(Fault::Channels, "argument \"channels\" is not a list of channels", detail, hint))
    };
    let is_given = |channel: &Channel| identifiers.given().any(|(name, _)| name == channel.needs());
    let Some(named) = named else {
        return Ok([Channel::Email, Channel::Sms].into_iter().filter(is_given).collect());
    };
    let all = Channel::ALL.map(Channel::name).join(", ");
    if named.is_empty() {
        return refuse(
            "It is empty.".to_owned(),
            "Name at least one, or pass NULL for those of the identifiers given.",
        );
    }
    if let Some(unknown) =
        named.iter().find(|name| Channel::ALL.iter().all(|channel| channel.name() != **name))
    {
        let unknown: String = unknown.chars().take(63).collect();
        return refuse(
            format!("There is no channel \"{unknown}\"; there are {all}."),
            "Name channels of those.",
        );
    }
    let channels: Vec<Channel> =
        Channel::ALL.into_iter().filter(|channel| named.iter().any(|name| name == channel.name())).collect();
    match channels.iter().find(|channel| !is_given(channel)) {
        Some(channel) => refuse(
            format!("Channel \"{}\" reaches nobody without {}.", channel.name(), channel.needs()),
            "Pass that as well, or leave the channel out.",
        ),
        None => Ok(channels),
    }
}

/// The profile's attributes: its identifiers, and for each channel the parameters of what is consented to.
pub(super) fn profile(
    identifiers: &Identifiers,
    channels: &[Channel],
    parameters: &str,
    more: &str,
) -> String {
    let mut profile = String::from("{");
    for (name, value) in identifiers.given() {
        push_string(&mut profile, name, value);
    }
    profile.push_str(more);
    let mut subscriptions = String::from("{");
    if channels.contains(&Channel::Email) {
        push_raw(&mut subscriptions, "email", &format!(r#"{{"marketing":{parameters}}}"#));
    }
    let mut sms = String::from("{");
    for (channel, name) in [(Channel::Sms, "marketing"), (Channel::SmsTransactional, "transactional")] {
        if channels.contains(&channel) {
            push_raw(&mut sms, name, parameters);
        }
    }
    if sms.len() > 1 {
        sms.push('}');
        push_raw(&mut subscriptions, "sms", &sms);
    }
    subscriptions.push('}');
    push_raw(&mut profile, "subscriptions", &subscriptions);
    profile.push('}');
    profile
}

/// Refuses what names nobody, or would be refused by Klaviyo.
pub(super) fn check_who(identifiers: &Identifiers) -> Result<(), Invalid> {
    if identifiers.given().next().is_none() {
        return Err(Invalid::new(
            Fault::NoIdentifier,
            "no identifier: consent is somebody's",
            "Neither email nor phone_number is given.",
            "Pass at least one of them; a column that is NULL counts as absent.",
        ));
    }
    identifiers.check()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Identifiers<'_> =
        Identifiers { email: Some("a@b.example"), phone_number: Some("+15005550006"), external_id: None };

    fn named(names: &[&str], identifiers: &Identifiers) -> Result<Vec<Channel>, Fault> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        channels(Some(&names), identifiers).map_err(|invalid| invalid.fault)
    }

    #[test]
    fn channels_are_those_that_reach_the_person() {
        let email = Identifiers { phone_number: None, ..BOTH };
        assert_eq!(channels(None, &BOTH), Ok(vec![Channel::Email, Channel::Sms]));
        assert_eq!(channels(None, &email), Ok(vec![Channel::Email]));
        let all = ["sms_transactional", "sms", "email", "sms"];
        assert_eq!(named(&all, &BOTH), Ok(Channel::ALL.to_vec()));
        for bad in [&[] as &[&str], &["sms"], &["push"], &["email", ""]] {
            assert_eq!(named(bad, &email), Err(Fault::Channels), "{bad:?}");
        }
    }

    #[test]
    fn a_payload_is_about_somebody() {
        let read = |payload: &str| Payload::read(payload).and_then(|payload| payload.who());
        let email = Ok(("email", "a@b.example".to_owned()));
        assert_eq!(read(r#"{"profile":{"email":"a@b.example","phone_number":"+1"}}"#), email);
        assert_eq!(read(r#"{"profile":{"phone_number":"+1"}}"#), Ok(("phone_number", "+1".to_owned())));
        for bad in ["{}", r#"{"profile":{}}"#, r#"{"profile":{"email":"a@b.example"},"x":1}"#, "[]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
