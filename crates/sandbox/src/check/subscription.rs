//! Profiles that consent to be sent to, and profiles that do no more.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Map;
use serde_json_borrow::Value;

use super::event::rfc3339;
use super::fields::{Findings, Object};
use super::identifiers::{has_plan, is_email, is_phone};
use super::profile::{ProfileDraft, PropertyPatch};
use crate::store::{Channel, Identifier};

/// Where the two calls say what of which channel, and which of them are known here.
const CHANNELS: [(&str, &[(&str, Channel)]); 2] = [
    ("email", &[("marketing", Channel::Email)]),
    ("sms", &[("marketing", Channel::Sms), ("transactional", Channel::SmsTransactional)]),
];

/// A checked call about consent.
#[derive(Debug)]
pub struct ConsentDraft {
    pub profiles: Vec<ConsentItem>,
    /// The id of the list that it is about.
    pub list: Option<String>,
}

/// A profile of such a call.
#[derive(Debug)]
pub struct ConsentItem {
    pub profile: ProfileDraft,
    pub channels: Vec<Channel>,
}

/// What tells the two calls from each other.
struct Form {
    resource: &'static str,
    /// The only consent that can be given.
    consent: &'static str,
    /// Profiles in a call. Source: the descriptions of the two calls.
    max: usize,
    attributes: &'static [&'static str],
    profile: &'static [&'static str],
    profile_attributes: &'static [&'static str],
    parameters: &'static [&'static str],
}

const SUBSCRIBE: Form = Form {
    resource: "profile-subscription-bulk-create-job",
    consent: "SUBSCRIBED",
    max: 1_000,
    attributes: &["profiles", "custom_source", "historical_import"],
    profile: &["type", "id", "attributes"],
    profile_attributes: &["email", "phone_number", "subscriptions", BIRTH],
    parameters: &["consent", CONSENTED_AT],
};

const UNSUBSCRIBE: Form = Form {
    resource: "profile-subscription-bulk-delete-job",
    consent: "UNSUBSCRIBED",
    max: 100,
    attributes: &["profiles"],
    profile: &["type", "attributes"],
    profile_attributes: &["email", "phone_number", "subscriptions"],
    parameters: &["consent"],
};

const BIRTH: &str = "age_gated_date_of_birth";
const CONSENTED_AT: &str = "consented_at";

/// When the consents of a call were given.
#[derive(Clone, Copy)]
enum Given {
    /// With the call.
    Now,
    /// Each before this time, and it says when.
    Before(Timestamp),
}

/// Checks a `SubscriptionCreateJobCreateQuery`.
pub fn check_create(findings: &mut Findings, root: Object<'_, '_>, now: Timestamp) -> Option<ConsentDraft> {
    check(findings, root, &SUBSCRIBE, now)
}

/// Checks a `SubscriptionDeleteJobCreateQuery`.
pub fn check_delete(findings: &mut Findings, root: Object<'_, '_>, now: Timestamp) -> Option<ConsentDraft> {
    check(findings, root, &UNSUBSCRIBE, now)
}

fn check(findings: &mut Findings, root: Object<'_, '_>, form: &Form, now: Timestamp) -> Option<ConsentDraft> {
    root.only(findings, form.resource, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, form.resource);
    data.only(findings, form.resource, &["type", "attributes", "relationships"]);
    let list = data
        .optional_object(findings, "relationships")
        .and_then(|relationships| check_list(findings, relationships, form));
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, form.resource, form.attributes);
    attributes.text(findings, "custom_source");
    let historical = attributes.typed(findings, "historical_import", "a boolean", Value::as_bool);
    let given = if historical == Some(true) { Given::Before(now) } else { Given::Now };
    let profiles =
        attributes.each(findings, "profiles", |findings, item| check_item(findings, item, form, given))?;
    if !(1..=form.max).contains(&profiles.len()) && findings.is_empty() {
        let detail = format!("A call has 1 to {} profiles, this has {}.", form.max, profiles.len());
        findings.add(attributes.at.key("profiles").key("data"), detail);
    }
    Some(ConsentDraft { profiles, list })
}

fn check_list(findings: &mut Findings, relationships: Object<'_, '_>, form: &Form) -> Option<String> {
    relationships.only(findings, form.resource, &["list"]);
    let list = relationships.optional_object(findings, "list")?;
    list.only(findings, "list", &["data"]);
    let data = list.object(findings, "data")?;
    data.resource_type(findings, "list");
    data.only(findings, "list", &["type", "id"]);
    data.required_text(findings, "id").map(str::to_owned)
}

fn check_item(
    findings: &mut Findings,
    item: Object<'_, '_>,
    form: &Form,
    given: Given,
) -> Option<ConsentItem> {
    item.resource_type(findings, "profile");
    item.only(findings, "profile", form.profile);
    let id = item.text(findings, "id");
    let attributes = item.object(findings, "attributes")?;
    attributes.only(findings, "profile", form.profile_attributes);
    check_birth(findings, attributes);
    let mut kept = Map::new();
    for identifier in [Identifier::Email, Identifier::PhoneNumber] {
        if let Some(text) = check_identifier(findings, attributes, identifier) {
            kept.insert(identifier.attribute().to_owned(), text.into());
        }
    }
    let subscriptions = attributes.object(findings, "subscriptions")?;
    let channels = check_channels(findings, subscriptions, form, given);
    for (name, identifier) in [("email", Identifier::Email), ("sms", Identifier::PhoneNumber)] {
        let is_needed = channels.iter().any(|channel| channel.identifier() == identifier) && id.is_none();
        let attribute = identifier.attribute();
        if is_needed && attributes.map.get(attribute).is_none_or(Value::is_null) {
            let detail = format!(
                "'{attribute}' must not be empty when the {name} channel is included in 'subscriptions'."
            );
            findings.add(attributes.at.key(attribute), detail);
        }
    }
    let profile =
        ProfileDraft { id: id.map(str::to_owned), attributes: kept, patch: PropertyPatch::default() };
    Some(ConsentItem { profile, channels })
}

/// An address or a number, as the store has it.
fn check_identifier(
    findings: &mut Findings,
    attributes: Object<'_, '_>,
    identifier: Identifier,
) -> Option<String> {
    let attribute = identifier.attribute();
    let text = attributes.text(findings, attribute)?;
    let (wrong, text) = match identifier {
        Identifier::Email => ((!is_email(text)).then_some("Invalid email address."), text.to_lowercase()),
        _ if !is_phone(text) => (Some("Invalid phone number format (must be E.164)."), text.to_owned()),
        _ => {
            let wrong = "The phone number is not one that can be assigned.";
            ((!has_plan(text)).then_some(wrong), text.to_owned())
        }
    };
    if let Some(wrong) = wrong {
        findings.add(attributes.at.key(attribute), wrong);
    }
    Some(text)
}

/// The day of birth is for accounts that gate by age, which no account here does: its form is all that counts.
fn check_birth(findings: &mut Findings, attributes: Object<'_, '_>) {
    let Some(text) = attributes.text(findings, BIRTH) else { return };
    // jiff also reads 20010131 and dates with a time.
    if text.len() != 10 || text.parse::<Date>().is_err() {
        findings.add(attributes.at.key(BIRTH), "This must be a date (YYYY-MM-DD).");
    }
}

/// The channels that the subscriptions name.
fn check_channels(
    findings: &mut Findings,
    subscriptions: Object<'_, '_>,
    form: &Form,
    given: Given,
) -> Vec<Channel> {
    subscriptions.only(findings, "subscriptions", &CHANNELS.map(|(name, _)| name));
    let mut channels = Vec::new();
    for (name, kinds) in CHANNELS {
        let Some(subscription) = subscriptions.optional_object(findings, name) else { continue };
        let known: Vec<&str> = kinds.iter().map(|(kind, _)| *kind).collect();
        subscription.only(findings, name, &known);
        for &(kind, channel) in kinds {
            let Some(parameters) = subscription.optional_object(findings, kind) else { continue };
            check_parameters(findings, parameters, form, given);
            channels.push(channel);
        }
    }
    if channels.is_empty() {
        findings.add(subscriptions.at, "At least one channel must be included in 'subscriptions'.");
    }
    channels
}

fn check_parameters(findings: &mut Findings, parameters: Object<'_, '_>, form: &Form, given: Given) {
    parameters.only(findings, "subscription", form.parameters);
    let consent = parameters.required_text(findings, "consent");
    if consent.is_some_and(|consent| consent != form.consent) {
        findings.add(parameters.at.key("consent"), format!("'consent' must be '{}'.", form.consent));
    }
    if form.parameters.contains(&CONSENTED_AT) {
        check_consented_at(findings, parameters, given);
    }
}

fn check_consented_at(findings: &mut Findings, parameters: Object<'_, '_>, given: Given) {
    let at = parameters.at.key(CONSENTED_AT);
    let is_absent = parameters.map.get(CONSENTED_AT).is_none_or(Value::is_null);
    match given {
        Given::Now if is_absent => {}
        Given::Now => {
            findings.add(at, format!("'{CONSENTED_AT}' is for a historical import, which this is not."));
        }
        Given::Before(_) if is_absent => parameters.missing(findings, CONSENTED_AT),
        Given::Before(now) => {
            let Some(text) = parameters.text(findings, CONSENTED_AT) else { return };
            match rfc3339(text) {
                None => findings.add(at, "This must be a date and time in RFC 3339 form."),
                Some(time) if time >= now => findings.add(at, "The time must be in the past."),
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
