//! Requests to delete a person's data: that of all profiles which an address or a number matches.
//!
//! Payload: `{"email": …}` or `{"phone_number": …}`. A request that is repeated, since its answer was lost, asks for the same.

use klaviyo::{Endpoint, REQUEST_DELETION};
use serde::Deserialize;

use super::{Checked, Kind, Lost, Reading, Rides, push_string};
use crate::identifiers::Identifiers;
use crate::invalid::{Fault, Invalid};

/// What `klaviyo_request_deletion` was given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Draft<'a> {
    pub email: Option<&'a str>,
    pub phone_number: Option<&'a str>,
}

impl Draft<'_> {
    /// Checks it as it would be checked at Klaviyo, and lays it down.
    pub fn check(&self) -> Result<Checked, Invalid> {
        let Self { email, phone_number } = *self;
        let identifiers = Identifiers { email, phone_number, external_id: None };
        if email.is_some() && phone_number.is_some() {
            return Err(Invalid::new(
                Fault::TwoIdentifiers,
                "a request for deletion names two identifiers",
                "Klaviyo deletes what matches one: email or phone_number.",
                "Pass one of them, or make a request for each.",
            ));
        }
        if email.or(phone_number).is_none() {
            return Err(Invalid::new(
                Fault::NoIdentifier,
                "no identifier: a request for deletion must say whose data it is about",
                "Neither email nor phone_number is given.",
                "Pass one of them; by an external_id Klaviyo deletes nobody.",
            ));
        }
        identifiers.check()?;
        let mut payload = String::from("{");
        for (name, value) in identifiers.given() {
            push_string(&mut payload, name, value);
        }
        payload.push('}');
        Ok(Checked { key: identifiers.key(), payload })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    email: Option<String>,
    phone_number: Option<String>,
}

/// The kind.
pub struct Deletion;

impl Kind for Deletion {
    fn name(&self) -> &'static str {
        "deletion"
    }

    fn endpoint(&self) -> Option<&'static Endpoint> {
        Some(&REQUEST_DELETION)
    }

    fn body(&self, payload: &str) -> Result<Vec<u8>, String> {
        let Payload { email, phone_number } =
            serde_json::from_str(payload).map_err(|error| error.to_string())?;
        match email.is_some() != phone_number.is_some() {
            true => Ok(klaviyo::deletion_body(payload)),
            false => Err("it must name one of email and phone_number".to_owned()),
        }
    }

    fn deletes(&self) -> bool {
        true
    }

    fn lost(&self) -> Lost {
        Lost::Repeated
    }

    fn read(&self, _: &str, _: [u8; 16], _: &str) -> Reading {
        Reading { rides: Rides::Never, carries_state: false, backfill: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_one_address_or_number() {
        let draft = Draft { email: Some("Ada@b.example"), phone_number: None };
        let checked = draft.check().expect("valid");
        assert_eq!(
            (checked.key, checked.payload.as_str()),
            (vec!["email:ada@b.example".to_owned()], r#"{"email":"Ada@b.example"}"#)
        );
        assert!(Deletion.body(&checked.payload).is_ok());
        assert!(Deletion.deletes());
        let reading = Deletion.read("a", [0; 16], &checked.payload);
        assert_eq!(
            reading.ordered(&Deletion, vec!["a".to_owned()]),
            ["a", "history:a"],
            "it goes after both"
        );
        let fault = |email, phone_number| Draft { email, phone_number }.check().expect_err("invalid").fault;
        assert_eq!(fault(None, None), Fault::NoIdentifier);
        assert_eq!(fault(Some("a@b.example"), Some("+15005550006")), Fault::TwoIdentifiers);
        assert_eq!(fault(Some("no"), None), Fault::Email);
        assert_eq!(fault(None, Some("no")), Fault::PhoneNumber);
        for payload in ["{}", r#"{"email":"a","phone_number":"b"}"#, r#"{"id":"1"}"#, "[]"] {
            assert!(Deletion.body(payload).is_err(), "{payload}");
        }
    }
}
