//! Suppress: no marketing goes to an e-mail address, whatever the person's consent.
//!
//! Payload: see [`super::consent`].

use super::consent::{self, Consent};
use super::{Checked, Lost, push_string};
use crate::identifiers::Identifiers;
use crate::invalid::{Fault, Invalid};

/// Checks what `klaviyo_suppress` or `klaviyo_unsuppress` was given, and lays it down.
pub fn check(email: Option<&str>) -> Result<Checked, Invalid> {
    let identifiers = Identifiers { email, ..Identifiers::default() };
    if email.is_none() {
        return Err(Invalid::new(
            Fault::NoIdentifier,
            "no identifier: a suppression is of an address",
            "Argument \"email\" is NULL.",
            "Pass it; by a phone_number or an external_id Klaviyo suppresses nobody.",
        ));
    }
    identifiers.check()?;
    let mut profile = String::from("{");
    identifiers.given().for_each(|(name, value)| push_string(&mut profile, name, value));
    profile.push('}');
    Ok(Checked { key: identifiers.key(), payload: consent::payload("{}", None, &profile) })
}

/// The kind. Who is suppressed is so no more by it.
pub const SUPPRESS: Consent = Consent {
    name: "suppress",
    endpoint: &klaviyo::SUPPRESS,
    resource: "profile-suppression-bulk-create-job",
    lost: Lost::Repeated,
    questions: &[],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::kind::unsuppress::UNSUPPRESS;

    #[test]
    fn a_body_names_an_address() {
        let checked = check(Some("a@b.example")).expect("valid");
        assert_eq!(checked.key, ["email:a@b.example"]);
        for kind in [SUPPRESS, UNSUPPRESS] {
            let body = kind.body(&checked.payload).expect("a body");
            let operation = if kind.name() == "suppress" { "create" } else { "delete" };
            assert_eq!(
                String::from_utf8_lossy(&body),
                format!(
                    r#"{{"data":{{"type":"profile-suppression-bulk-{operation}-job","attributes":{{"profiles":{{"data":[{{"type":"profile","attributes":{{"email":"a@b.example"}}}}]}}}}}}}}"#
                )
            );
        }
        assert_eq!(check(None).expect_err("nobody").fault, Fault::NoIdentifier);
        assert_eq!(check(Some("x")).expect_err("no address").fault, Fault::Email);
    }
}
