//! Checks of request bodies against Klaviyo's OpenAPI document and its documented limits.
//!
//! Every finding is reported, each with a JSON pointer, as Klaviyo does; what passes becomes a draft for the store.

mod deletion;
mod event;
mod event_bulk;
mod fields;
mod identifiers;
mod limits;
mod list;
mod merge;
mod profile;
mod profile_bulk;
mod subscription;
mod suppression;

use jiff::Timestamp;
use serde_json_borrow::Value;

pub use deletion::Whose;
pub use event::EventDraft;
pub use event_bulk::EventGroup;
pub use list::{ListChange, ListDraft};
pub use merge::Merge;
pub use profile::{ProfileDraft, PropertyPatch};
pub use profile_bulk::ImportItem;
pub use subscription::{ConsentDraft, ConsentItem};

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

/// Checks the body of `POST /api/profile-merge` (`ProfileMergeQuery`).
pub fn merge(body: &Value<'_>) -> Result<Merge, Vec<ApiError>> {
    checked(body, merge::check)
}

/// Checks the body of `POST /api/data-privacy-deletion-jobs` (`DataPrivacyCreateDeletionJobQuery`).
pub fn deletion(body: &Value<'_>) -> Result<Whose, Vec<ApiError>> {
    checked(body, deletion::check)
}

/// Checks the body of `POST /api/profile-subscription-bulk-create-jobs` (`SubscriptionCreateJobCreateQuery`).
pub fn subscription(body: &Value<'_>, now: Timestamp) -> Result<ConsentDraft, Vec<ApiError>> {
    checked(body, |findings, root| subscription::check_create(findings, root, now))
}

/// Checks the body of `POST /api/profile-subscription-bulk-delete-jobs` (`SubscriptionDeleteJobCreateQuery`).
pub fn unsubscription(body: &Value<'_>, now: Timestamp) -> Result<ConsentDraft, Vec<ApiError>> {
    checked(body, |findings, root| subscription::check_delete(findings, root, now))
}

/// Checks the body of `POST /api/profile-suppression-bulk-create-jobs` or its counterpart
/// (`SuppressionCreateJobCreateQuery`, `SuppressionDeleteJobCreateQuery`), which this resource is made by.
pub fn suppression(body: &Value<'_>, resource: &str) -> Result<Vec<String>, Vec<ApiError>> {
    checked(body, |findings, root| suppression::check(findings, root, resource))
}

/// Checks the body of `POST /api/lists` (`ListCreateQuery`).
pub fn list(body: &Value<'_>) -> Result<ListDraft, Vec<ApiError>> {
    checked(body, list::check_create)
}

/// Checks the body of `PATCH /api/lists/{id}` (`ListPartialUpdateQuery`).
pub fn list_change(body: &Value<'_>, id: &str) -> Result<ListChange, Vec<ApiError>> {
    checked(body, |findings, root| list::check_update(findings, root, id))
}

/// Checks the body of `POST` and `DELETE /api/lists/{id}/relationships/profiles` (`ListMembersAddQuery`,
/// `ListMembersDeleteQuery`).
pub fn list_members(body: &Value<'_>) -> Result<Vec<String>, Vec<ApiError>> {
    checked(body, list::check_members)
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
