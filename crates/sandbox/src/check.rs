//! Checks of request bodies against Klaviyo's OpenAPI document and its documented limits.
//!
//! Every finding is reported, each with a JSON pointer, as Klaviyo does; what passes becomes a draft for the store.

mod batch;
mod campaign;
mod campaign_job;
mod catalog;
mod coupon;
mod deletion;
mod event;
mod event_bulk;
mod fields;
mod identifiers;
mod limits;
mod list;
mod merge;
mod message;
mod metric_aggregate;
mod profile;
mod profile_bulk;
mod report;
mod subscription;
mod template;
mod timeframe;
mod webhook;

use jiff::Timestamp;
use serde_json_borrow::Value;

pub use batch::Entry;
pub use campaign::{Audiences, CampaignDraft};
pub use campaign_job::{Action, Assignment};
pub use catalog::ThingDraft;
pub use coupon::{CodeDraft, CouponDraft};
pub use deletion::Whose;
pub use event::{EventDraft, rfc3339};
pub use event_bulk::EventGroup;
pub use list::{ListChange, ListDraft};
pub use merge::Merge;
pub use message::MessageDraft;
pub use metric_aggregate::{Aggregation, Measurement};
pub use profile::{ProfileDraft, PropertyPatch};
pub use profile_bulk::ImportItem;
pub use report::ReportQuery;
pub use subscription::{ConsentDraft, ConsentItem};
pub use template::TemplateDraft;
pub use webhook::{WebhookChange, WebhookDraft};

use crate::catalog::Kind;
use crate::error::ApiError;
use crate::reports::Report;
use crate::work::Work;
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

/// Checks the body of a call that makes a job of this kind (`SuppressionCreateJobCreateQuery` and its like).
pub fn batch(body: &Value<'_>, work: Work, now: Timestamp) -> Result<Vec<Entry>, Vec<ApiError>> {
    checked(body, |findings, root| batch::check(findings, root, work, now))
}

/// Checks the body of `POST /api/coupons` (`CouponCreateQuery`).
pub fn coupon(body: &Value<'_>) -> Result<CouponDraft, Vec<ApiError>> {
    checked(body, coupon::check_coupon)
}

/// Checks the body of `POST /api/coupon-codes` (`CouponCodeCreateQuery`).
pub fn coupon_code(body: &Value<'_>, now: Timestamp) -> Result<CodeDraft, Vec<ApiError>> {
    checked(body, |findings, root| coupon::check_one_code(findings, root, now))
}

/// Checks the body of `POST /api/catalog-items` or its like (`CatalogItemCreateQuery` and its like).
pub fn thing(body: &Value<'_>, kind: Kind) -> Result<ThingDraft, Vec<ApiError>> {
    checked(body, |findings, root| catalog::check_create(findings, root, kind))
}

/// Checks the body of `PATCH /api/catalog-items/{id}` or its like (`CatalogItemUpdateQuery` and its like).
pub fn thing_change(body: &Value<'_>, kind: Kind, id: &str) -> Result<ThingDraft, Vec<ApiError>> {
    checked(body, |findings, root| catalog::check_update(findings, root, kind, id))
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

/// Checks the body of `POST /api/campaigns` (`CampaignCreateQuery`).
pub fn campaign(body: &Value<'_>) -> Result<CampaignDraft, Vec<ApiError>> {
    checked(body, campaign::check)
}

/// Checks the body of `POST /api/campaign-message-assign-template` (`CampaignMessageAssignTemplateQuery`).
pub fn assignment(body: &Value<'_>) -> Result<Assignment, Vec<ApiError>> {
    checked(body, campaign_job::check_assignment)
}

/// Checks the body of `POST /api/campaign-send-jobs` (`CampaignSendJobCreateQuery`), which is a campaign's id.
pub fn campaign_to_send(body: &Value<'_>) -> Result<String, Vec<ApiError>> {
    checked(body, campaign_job::check_send)
}

/// Checks the body of `PATCH /api/campaign-send-jobs/{id}` (`CampaignSendJobPartialUpdateQuery`).
pub fn send_job_change(body: &Value<'_>, id: &str) -> Result<Action, Vec<ApiError>> {
    checked(body, |findings, root| campaign_job::check_action(findings, root, id))
}

/// Checks the body of `POST /api/campaign-recipient-estimation-jobs` (`CampaignRecipientEstimationJobCreateQuery`), which
/// is a campaign's id.
pub fn campaign_to_estimate(body: &Value<'_>) -> Result<String, Vec<ApiError>> {
    checked(body, campaign_job::check_estimation)
}

/// Checks the body of `POST /api/templates` (`TemplateCreateHtmlOrDndQuery`).
pub fn template(body: &Value<'_>) -> Result<TemplateDraft, Vec<ApiError>> {
    checked(body, template::check)
}

/// Checks the body of `POST /api/webhooks` (`WebhookCreateQuery`).
pub fn webhook(body: &Value<'_>) -> Result<WebhookDraft, Vec<ApiError>> {
    checked(body, webhook::check_create)
}

/// Checks the body of `PATCH /api/webhooks/{id}` (`WebhookPartialUpdateQuery`).
pub fn webhook_change(body: &Value<'_>, id: &str) -> Result<WebhookChange, Vec<ApiError>> {
    checked(body, |findings, root| webhook::check_update(findings, root, id))
}

/// Checks the body of `POST /api/metric-aggregates` (`MetricAggregateQuery`).
pub fn metric_aggregate(body: &Value<'_>) -> Result<Aggregation, Vec<ApiError>> {
    checked(body, metric_aggregate::check)
}

/// Checks the body of a call that asks for a report (`CampaignValuesRequestDTO` and its like).
pub fn report(body: &Value<'_>, report: Report, now: Timestamp) -> Result<ReportQuery, Vec<ApiError>> {
    checked(body, |findings, root| report::check(findings, root, report, now))
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
