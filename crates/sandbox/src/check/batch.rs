//! Calls that make a job of many entries.

use jiff::Timestamp;

use super::catalog::{self, ThingDraft};
use super::coupon::{self, CodeDraft};
use super::fields::{Findings, Object};
use super::identifiers::is_email;
use crate::catalog::Act;
use crate::work::Work;

/// A checked entry: what the job is to do with it.
#[derive(Debug)]
pub enum Entry {
    /// Suppress this address.
    Suppress(String),
    /// Lift its suppression.
    Unsuppress(String),
    Code(CodeDraft),
    Thing(Act, ThingDraft),
}

/// Checks a `SuppressionCreateJobCreateQuery`, `CouponCodeCreateJobCreateQuery`, `CatalogItemCreateJobCreateQuery` or one
/// of their like, which all have one form.
pub fn check(
    findings: &mut Findings,
    root: Object<'_, '_>,
    work: Work,
    now: Timestamp,
) -> Option<Vec<Entry>> {
    let (resource, max) = (work.resource(), work.max_entries());
    root.only(findings, resource, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, resource);
    data.only(findings, resource, &["type", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, resource, &[work.entries()]);
    let entries = attributes.each(findings, work.entries(), |findings, entry| match work {
        Work::Suppress => check_address(findings, entry).map(Entry::Suppress),
        Work::Unsuppress => check_address(findings, entry).map(Entry::Unsuppress),
        Work::Codes => coupon::check_code(findings, entry, now).map(Entry::Code),
        Work::Catalog(kind, act) => {
            catalog::check_thing(findings, entry, kind, act).map(|draft| Entry::Thing(act, draft))
        }
    })?;
    if !(1..=max).contains(&entries.len()) && findings.is_empty() {
        let detail = format!("A call has 1 to {max} {}, this has {}.", work.entries(), entries.len());
        findings.add(attributes.at.key(work.entries()).key("data"), detail);
    }
    Some(entries)
}

/// Checks a profile that is nothing but an address.
fn check_address(findings: &mut Findings, item: Object<'_, '_>) -> Option<String> {
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
mod tests;
