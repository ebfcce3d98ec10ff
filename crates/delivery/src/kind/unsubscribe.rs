//! Unsubscribe: a person takes consent back, everywhere or from a list.
//!
//! Payload: see [`super::consent`]. One that names a list goes only after Klaviyo has said that the person is on it, see
//! [`crate::question`].

use super::consent::{self, Consent};
use super::{Checked, Lost};
use crate::identifiers::Identifiers;
use crate::invalid::{Fault, Invalid};
use crate::list::List;
use crate::question::{ListMembers, ListNames};

/// What `klaviyo_unsubscribe` was given.
#[derive(Debug, Clone, Default)]
pub struct Draft<'a> {
    pub email: Option<&'a str>,
    pub phone_number: Option<&'a str>,
    pub list: Option<&'a str>,
    /// See [`consent::Channel`].
    pub channels: Option<Vec<String>>,
}

impl Draft<'_> {
    /// Checks it as it would be checked at Klaviyo, and lays it down.
    pub fn check(&self) -> Result<Checked, Invalid> {
        let identifiers =
            Identifiers { email: self.email, phone_number: self.phone_number, external_id: None };
        consent::check_who(&identifiers)?;
        let list = self.list.map(List::read).transpose()?;
        let channels = consent::channels(self.channels.as_deref(), &identifiers)?;
        if self.list.is_some() && identifiers.given().count() > 1 {
            return Err(Invalid::new(
                Fault::TwoIdentifiers,
                "an unsubscribe from a list names two identifiers",
                "Whether somebody is on the list is asked by one of them, and who is not would be unsubscribed from everything.",
                "Make one of email and one of phone_number.",
            ));
        }
        let profile = consent::profile(&identifiers, &channels, r#"{"consent":"UNSUBSCRIBED"}"#, "");
        Ok(Checked { key: identifiers.key(), payload: consent::payload("{}", list, &profile) })
    }
}

/// The kind. From a list it is asked again whether the person is on it; everywhere, it is repeated.
pub const UNSUBSCRIBE: Consent = Consent {
    name: "unsubscribe",
    endpoint: &klaviyo::UNSUBSCRIBE,
    resource: "profile-subscription-bulk-delete-job",
    lost: Lost::ReadBack,
    questions: &[&ListNames, &ListMembers],
};

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kind::Kind;
    use crate::question::Question;

    #[test]
    fn a_body_says_what_is_taken_back() {
        let draft = Draft {
            email: Some("a@b.example"),
            phone_number: Some("+15005550006"),
            channels: Some(vec!["email".to_owned(), "sms".to_owned()]),
            ..Draft::default()
        };
        let payload = draft.check().expect("valid").payload;
        let body: Value = serde_json::from_slice(&UNSUBSCRIBE.body(&payload).expect("a body")).expect("JSON");
        let parameters = json!({"marketing": {"consent": "UNSUBSCRIBED"}});
        let profile = json!({"type": "profile", "attributes": {
            "email": "a@b.example", "phone_number": "+15005550006",
            "subscriptions": {"email": parameters, "sms": parameters}}});
        assert_eq!(
            body,
            json!({"data": {"type": "profile-subscription-bulk-delete-job", "attributes": {"profiles": {"data": [profile]}}}})
        );
    }

    #[test]
    fn from_a_list_goes_one_identifier() {
        let list = Draft { email: Some("a@b.example"), list: Some("Y6nRLr"), ..Draft::default() };
        assert!(ListMembers.is_for(&list.check().expect("valid").payload));
        let both = Draft { phone_number: Some("+15005550006"), ..list };
        assert_eq!(both.check().expect_err("two").fault, Fault::TwoIdentifiers);
        let fault = |draft: Draft<'_>| draft.check().expect_err("invalid").fault;
        assert_eq!(fault(Draft::default()), Fault::NoIdentifier);
        assert_eq!(
            fault(Draft { list: Some(" "), email: Some("a@b.example"), ..Draft::default() }),
            Fault::List
        );
    }
}
