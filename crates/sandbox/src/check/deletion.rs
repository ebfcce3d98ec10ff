//! A request to delete a person's data.

use super::fields::{Findings, Object};
use super::identifiers::{is_email, is_phone};
use crate::store::Identifier;

const RESOURCE: &str = "data-privacy-deletion-job";

/// Checks a `DataPrivacyCreateDeletionJobQuery`: it names one id, address or number.
pub fn check(findings: &mut Findings, root: Object<'_, '_>) -> Option<Whose> {
    root.only(findings, RESOURCE, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, RESOURCE);
    data.only(findings, RESOURCE, &["type", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, RESOURCE, &["profile"]);
    let profile = attributes.object(findings, "profile")?;
    profile.only(findings, "profile", &["data"]);
    let data = profile.object(findings, "data")?;
    data.resource_type(findings, "profile");
    data.only(findings, "profile", &["type", "id", "attributes"]);
    let id = data.text(findings, "id").map(|id| Whose::Id(id.to_owned()));
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, "profile", &["email", "phone_number"]);
    let mut whose: Vec<Whose> = id.into_iter().collect();
    for identifier in [Identifier::Email, Identifier::PhoneNumber] {
        let name = identifier.attribute();
        let Some(text) = attributes.text(findings, name) else { continue };
        let is_valid = if identifier == Identifier::Email { is_email(text) } else { is_phone(text) };
        if !is_valid {
            findings.add(attributes.at.key(name), format!("Invalid {name}."));
        }
        whose.push(Whose::Has(identifier, text.to_owned()));
    }
    if whose.len() != 1 {
        findings.add(data.at.key("attributes"), "Exactly one of email, phone_number and id must be given.");
    }
    whose.pop()
}

/// Whose data it is.
#[derive(Debug, PartialEq)]
pub enum Whose {
    Id(String),
    Has(Identifier, String),
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn checked(id: Option<&str>, attributes: Value) -> Result<Whose, usize> {
        let body = json!({"data": {"type": RESOURCE, "attributes": {"profile": {"data":
            {"type": "profile", "id": id, "attributes": attributes}}}}});
        let text = body.to_string();
        let body: serde_json_borrow::Value<'_> = serde_json::from_str(&text).unwrap();
        crate::check::deletion(&body).map_err(|errors| errors.len())
    }

    #[test]
    fn one_identifier_and_no_more() {
        let has = |identifier, text: &str| Ok(Whose::Has(identifier, text.to_owned()));
        assert_eq!(checked(None, json!({"email": "a@b.example"})), has(Identifier::Email, "a@b.example"));
        let phone = "+15005550006";
        assert_eq!(checked(None, json!({"phone_number": phone})), has(Identifier::PhoneNumber, phone));
        assert_eq!(checked(Some("01H"), json!({})), Ok(Whose::Id("01H".to_owned())));
        for (id, attributes) in [
            (None, json!({})),
            (Some("01H"), json!({"email": "a@b.example"})),
            (None, json!({"email": "a@b.example", "phone_number": phone})),
            (None, json!({"email": "no"})),
        ] {
            assert_eq!(checked(id, attributes.clone()), Err(1), "{attributes}");
        }
        assert_eq!(checked(None, json!({"external_id": "7"})), Err(2), "unknown, and so nobody");
    }
}
