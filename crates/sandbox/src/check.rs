//! Checks of request bodies against Klaviyo's OpenAPI document and its documented limits.
//!
//! Every finding is reported, each with a JSON pointer, as Klaviyo does; what passes becomes a draft for the store.

mod event;
mod fields;
mod identifiers;
mod limits;
mod profile;

use jiff::Timestamp;
use serde_json::Value;

pub use event::EventDraft;
pub use profile::{ProfileDraft, PropertyPatch};

use crate::error::ApiError;
use fields::{Findings, Object};

/// Checks the body of `POST /api/events` (`EventCreateQueryV2`).
pub fn event(body: Value, now: Timestamp) -> Result<EventDraft, Vec<ApiError>> {
    checked(body, |findings, root| event::check(findings, root, now))
}

/// Checks the body of `POST /api/profile-import` (`ProfileUpsertQuery`).
pub fn profile_import(body: Value) -> Result<ProfileDraft, Vec<ApiError>> {
    checked(body, profile::check_import)
}

/// A draft only if nothing was found.
fn checked<T>(
    body: Value,
    check: impl FnOnce(&mut Findings, Object<'_>) -> Option<T>,
) -> Result<T, Vec<ApiError>> {
    let mut findings = Findings::default();
    let draft = Object::root(&mut findings, &body).and_then(|root| check(&mut findings, root));
    match draft {
        Some(draft) if findings.is_empty() => Ok(draft),
        _ => Err(findings.into_errors()),
    }
}
