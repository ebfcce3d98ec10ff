//! Addresses to suppress, or no more.

use super::fields::{Findings, Object};
use super::identifiers::is_email;

/// Addresses in a call. Source: the descriptions of `POST /api/profile-suppression-bulk-create-jobs` and of its
/// counterpart.
const MAX_EMAILS: usize = 100;

/// Checks a `SuppressionCreateJobCreateQuery` or a `SuppressionDeleteJobCreateQuery`, which the resource tells apart.
pub fn check(findings: &mut Findings, root: Object<'_, '_>, resource: &str) -> Option<Vec<String>> {
    root.only(findings, resource, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, resource);
    data.only(findings, resource, &["type", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, resource, &["profiles"]);
    let emails = attributes.each(findings, "profiles", check_item)?;
    if !(1..=MAX_EMAILS).contains(&emails.len()) && findings.is_empty() {
        let detail = format!("A call has 1 to {MAX_EMAILS} profiles, this has {}.", emails.len());
        findings.add(attributes.at.key("profiles").key("data"), detail);
    }
    Some(emails)
}

fn check_item(findings: &mut Findings, item: Object<'_, '_>) -> Option<String> {
    item.resource_type(findings, "profile");
    item.only(findings, "profile", &["type", "attributes"]);
    let attributes = item.object(findings, "attributes")?;
    attributes.only(findings, "profile", &["email"]);
    let email = attributes.required_text(findings, "email")?;
    if !is_email(email) {
        findings.add(attributes.at.key("email"), "Invalid email address.");
    }
    Some(email.to_lowercase())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    const RESOURCE: &str = "profile-suppression-bulk-create-job";

    fn checked(profiles: Value, change: impl FnOnce(&mut Value)) -> Result<Vec<String>, Vec<String>> {
        let mut body = json!({"data": {"type": RESOURCE, "attributes": {"profiles": {"data": profiles}}}});
        change(&mut body["data"]);
        crate::check::suppression(&(&body).into(), RESOURCE)
            .map_err(|errors| errors.into_iter().map(|error| error.pointer).collect())
    }

    fn profile(email: &str) -> Value {
        json!({"type": "profile", "attributes": {"email": email}})
    }

    #[test]
    fn addresses_have_a_form_and_a_number() {
        const DATA: &str = "/data/attributes/profiles/data";
        assert_eq!(checked(json!([profile("A@a.co")]), |_| {}), Ok(vec!["a@a.co".to_owned()]));
        let many = |count: usize| checked(json!(vec![profile("a@a.co"); count]), |_| {}).map(|all| all.len());
        assert_eq!(many(100), Ok(100));
        assert_eq!(many(101), Err(vec![DATA.to_owned()]));
        assert_eq!(many(0), Err(vec![DATA.to_owned()]));
    }

    #[test]
    fn every_wrong_field_has_its_pointer() {
        let profiles = json!([
            profile("nobody"),
            {"type": "profile", "id": "01X", "attributes": {"email": null, "phone_number": "+15005550006"}},
            {"type": "email", "attributes": {"email": "a@a.co"}},
        ]);
        let mut found = checked(profiles, |data| {
            data["relationships"] = json!({"list": {"data": {"type": "list", "id": "Y6nRLr"}}});
        })
        .unwrap_err();
        found.sort();
        assert_eq!(
            found,
            [
                "/data/attributes/profiles/data/0/attributes/email",
                "/data/attributes/profiles/data/1/attributes/email",
                "/data/attributes/profiles/data/1/attributes/phone_number",
                "/data/attributes/profiles/data/1/id",
                "/data/attributes/profiles/data/2/type",
                "/data/relationships",
            ]
        );
    }
}
