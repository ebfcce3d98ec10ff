//! Checks of request bodies against Klaviyo's OpenAPI document and its documented limits.
//!
//! Every finding is reported, each with a JSON pointer, as Klaviyo does; what passes becomes a draft for the store.

mod deletion;
mod event;
mod event_bulk;
mod fields;
mod identifiers;
mod limits;
mod profile;
mod profile_bulk;

use jiff::Timestamp;
use serde_json_borrow::Value;

pub use deletion::Whose;
pub use event::EventDraft;
pub use event_bulk::EventGroup;
pub use profile::{ProfileDraft, PropertyPatch};
pub use profile_bulk::ImportItem;

use crate::error::ApiError;
use fields::{Findings, Object};

/// Checks the body of `POST /api/events` (`EventCreateQueryV2`).
pub fn event<'v>(
    body: &'v Value<'v>,
    now: Timestamp,
) -> Result<(ProfileDraft, EventDraft<'v>), Vec<ApiError>> {
    checked(body, |findings, root| event::check(findings, root, now))
}

/// Checks the body of `POST /api/event-bulk-create-jobs` (`EventsBulkCreateJob`).
pub fn event_bulk<'v>(body: &'v Value<'v>, now: Timestamp) -> Result<Vec<EventGroup<'v>>, Vec<ApiError>> {
    checked(body, |findings, root| event_bulk::check(findings, root, now))
}

/// Checks the body of `POST /api/profile-import` (`ProfileUpsertQuery`).
pub fn profile_import(body: &Value<'_>) -> Result<ProfileDraft, Vec<ApiError>> {
    checked(body, profile::check_import)
}

/// Checks the body of `POST /api/profile-bulk-import-jobs` (`ProfileImportJobCreateQuery`).
pub fn profile_bulk(body: &Value<'_>) -> Result<Vec<ImportItem>, Vec<ApiError>> {
    checked(body, profile_bulk::check)
}

/// Checks the body of `POST /api/data-privacy-deletion-jobs` (`DataPrivacyCreateDeletionJobQuery`).
pub fn deletion(body: &Value<'_>) -> Result<Whose, Vec<ApiError>> {
    checked(body, deletion::check)
}

/// A draft only if nothing was found.
fn checked<'v, T>(
    body: &'v Value<'v>,
    check: impl FnOnce(&mut Findings, Object<'v, '_>) -> Option<T>,
) -> Result<T, Vec<ApiError>> {
    let mut findings = Findings::default();
    let draft = Object::root(&mut findings, body).and_then(|root| check(&mut findings, root));
    match draft {
        Some(draft) if findings.is_empty() => Ok(draft),
        _ => Err(findings.into_errors()),
    }
}
