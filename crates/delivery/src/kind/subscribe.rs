//! Subscribe: a person consents to be written to.
//!
//! Payload: see [`super::consent`]; of the job `historical_import` and `custom_source`.

use jiff::Span;
use jiff::civil::Date;

use super::consent::{self, Consent};
use super::event::rfc3339;
use super::{Checked, Lost, push_raw, push_string};
use crate::identifiers::Identifiers;
use crate::invalid::{Fault, Invalid};
use crate::list::List;
use crate::question::ListNames;

/// Bytes of `custom_source`. Klaviyo names no bound; it is a few words.
const CUSTOM_SOURCE: usize = 1_024;

/// What `klaviyo_subscribe` was given.
#[derive(Debug, Clone, Default)]
pub struct Draft<'a> {
    pub email: Option<&'a str>,
    pub phone_number: Option<&'a str>,
    pub list: Option<&'a str>,
    /// See [`consent::Channel`].
    pub channels: Option<Vec<String>>,
    /// Microseconds since 1970.
    pub consented_at: Option<i64>,
    pub historical_import: bool,
    pub custom_source: Option<&'a str>,
    /// Days since 1970.
    pub date_of_birth: Option<i32>,
}

impl Draft<'_> {
    /// Checks it as it would be checked at Klaviyo, and lays it down; `now` in µs since 1970.
    pub fn check(&self, now: i64) -> Result<Checked, Invalid> {
        let identifiers =
            Identifiers { email: self.email, phone_number: self.phone_number, external_id: None };
        consent::check_who(&identifiers)?;
        let list = self.list.map(List::read).transpose()?;
        let channels = consent::channels(self.channels.as_deref(), &identifiers)?;
        self.check_consented_at(now)?;
        self.check_custom_source()?;
        let mut more = String::new();
        if let Some(days) = self.date_of_birth {
            more = format!(r#","age_gated_date_of_birth":"{}""#, date_of_birth(days, now)?);
        }
        let mut parameters = String::from(r#"{"consent":"SUBSCRIBED""#);
        if let Some(consented_at) = self.consented_at {
            push_string(&mut parameters, "consented_at", &rfc3339(consented_at));
        }
        parameters.push('}');
        let mut job = String::from("{");
        if self.historical_import {
            push_raw(&mut job, "historical_import", "true");
        }
        if let Some(custom_source) = self.custom_source {
            push_string(&mut job, "custom_source", custom_source);
        }
        job.push('}');
        let profile = consent::profile(&identifiers, &channels, &parameters, &more);
        Ok(Checked { key: identifiers.key(), payload: consent::payload(&job, list, &profile) })
    }

    /// spec: `SubscriptionParameters`.
    fn check_consented_at(&self, now: i64) -> Result<(), Invalid> {
        let (detail, hint) = match (self.historical_import, self.consented_at) {
            (false, None) => return Ok(()),
            // Klaviyo has whole seconds.
            (true, Some(at)) if (0..now - 1_000_000).contains(&at) => return Ok(()),
            (false, Some(_)) => (
                "Klaviyo takes the time of a consent only of consents of the past.",
                "Pass historical_import => true, which starts no flow and asks for no confirmation; or leave consented_at out.",
            ),
            (true, None) => (
                "It is missing, and a consent of the past has a time.",
                "Pass the time at which the person consented, or historical_import => false.",
            ),
            (true, Some(_)) => (
                "It is not in the past, or before 1970.",
                "Pass the time at which the person consented, or historical_import => false for a consent of now.",
            ),
        };
        Err(Invalid::new(
            Fault::ConsentedAt,
            "argument \"consented_at\" does not go with historical_import",
            detail,
            hint,
        ))
    }

    fn check_custom_source(&self) -> Result<(), Invalid> {
        if self.custom_source.is_none_or(|text| !text.trim().is_empty() && text.len() <= CUSTOM_SOURCE) {
            return Ok(());
        }
        Err(Invalid::new(
            Fault::CustomSource,
            "argument \"custom_source\" is blank or too long",
            format!("It must have 1 to {CUSTOM_SOURCE} bytes, not all of them white space."),
            "Say in a few words where the person consented, or pass NULL.",
        ))
    }
}

/// From 1900, which is before anybody was born who lives, to today.
fn date_of_birth(days: i32, now: i64) -> Result<Date, Invalid> {
    let today = now.div_euclid(24 * 60 * 60 * 1_000_000);
    let date = Span::new().try_days(days).and_then(|days| Date::constant(1970, 1, 1).checked_add(days));
    match date {
        Ok(date) if (1900..=2100).contains(&date.year()) && i64::from(days) <= today => Ok(date),
        _ => Err(Invalid::new(
            Fault::DateOfBirth,
            "argument \"date_of_birth\" is not that of somebody who lives",
            "It is after today, or before 1900.",
            "Correct it, or pass NULL.",
        )),
    }
}

/// The kind. Who is subscribed is so no more by it; where it has to be confirmed, a person may be asked twice.
pub const SUBSCRIBE: Consent = Consent {
    name: "subscribe",
    endpoint: &klaviyo::SUBSCRIBE,
    resource: "profile-subscription-bulk-create-job",
    lost: Lost::Repeated,
    questions: &[&ListNames],
};

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kind::Kind;

    const NOW: i64 = 1_795_000_000_000_000;

    fn draft() -> Draft<'static> {
        Draft { email: Some("Ada@b.example"), ..Draft::default() }
    }

    fn fault(draft: &Draft<'_>) -> Fault {
        draft.check(NOW).expect_err("invalid").fault
    }

    #[test]
    fn a_body_says_what_is_consented_to() {
        let checked = draft().check(NOW).expect("valid");
        assert_eq!(checked.key, ["email:ada@b.example"]);
        let body: Value =
            serde_json::from_slice(&SUBSCRIBE.body(&checked.payload).expect("a body")).expect("JSON");
        let profile = json!({"type": "profile", "attributes": {"email": "Ada@b.example",
            "subscriptions": {"email": {"marketing": {"consent": "SUBSCRIBED"}}}}});
        assert_eq!(
            body,
            json!({"data": {"type": "profile-subscription-bulk-create-job", "attributes": {"profiles": {"data": [profile]}}}})
        );
        let all = Draft {
            phone_number: Some("+15005550006"),
            list: Some("Y6nRLr"),
            channels: Some(vec!["sms".to_owned(), "sms_transactional".to_owned()]),
            consented_at: Some(NOW - 5_000_000),
            historical_import: true,
            custom_source: Some("Fair \"18\""),
            date_of_birth: Some(-56_270),
            ..draft()
        };
        assert_eq!(fault(&all), Fault::DateOfBirth);
        let all = Draft { date_of_birth: Some(5_822), ..all };
        let checked = all.check(NOW).expect("valid");
        assert_eq!(checked.key, ["email:ada@b.example", "phone_number:+15005550006"]);
        let body: Value =
            serde_json::from_slice(&SUBSCRIBE.body(&checked.payload).expect("a body")).expect("JSON");
        let parameters = json!({"consent": "SUBSCRIBED", "consented_at": "2026-11-18T11:06:35Z"});
        let profile = json!({"type": "profile", "attributes": {
            "email": "Ada@b.example", "phone_number": "+15005550006", "age_gated_date_of_birth": "1985-12-10",
            "subscriptions": {"sms": {"marketing": parameters, "transactional": parameters}}}});
        assert_eq!(
            body["data"]["attributes"],
            json!({"historical_import": true, "custom_source": "Fair \"18\"", "profiles": {"data": [profile]}})
        );
        assert_eq!(
            body["data"]["relationships"],
            json!({"list": {"data": {"type": "list", "id": "Y6nRLr"}}})
        );
    }

    #[test]
    fn what_klaviyo_would_refuse_is_refused() {
        assert_eq!(fault(&Draft::default()), Fault::NoIdentifier);
        assert_eq!(fault(&Draft { list: Some(" "), ..draft() }), Fault::List);
        assert_eq!(fault(&Draft { channels: Some(vec!["sms".to_owned()]), ..draft() }), Fault::Channels);
        assert_eq!(fault(&Draft { custom_source: Some(" "), ..draft() }), Fault::CustomSource);
        let historical = Draft { historical_import: true, ..draft() };
        for wrong in [
            Draft { consented_at: Some(NOW - 5_000_000), ..draft() },
            historical.clone(),
            Draft { consented_at: Some(NOW), ..historical.clone() },
            Draft { consented_at: Some(NOW + 1), ..historical.clone() },
            Draft { consented_at: Some(-1), ..historical },
        ] {
            assert_eq!(fault(&wrong), Fault::ConsentedAt, "{wrong:?}");
        }
        for days in [i32::MIN, i32::MAX, -25_568, 20_776] {
            assert_eq!(fault(&Draft { date_of_birth: Some(days), ..draft() }), Fault::DateOfBirth, "{days}");
        }
    }
}
