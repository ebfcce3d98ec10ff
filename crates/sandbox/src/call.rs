//! The API calls that the sandbox knows, with the limits that Klaviyo publishes for each.

use hyper::Method;

use crate::catalog::{Act, Kind};
use crate::reports::Report;
use crate::work::Work;

/// One of Klaviyo's API calls.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Call {
    /// `POST /api/events`: one event.
    Events,
    /// `GET /api/events`: which events there are.
    RecordedEvents,
    /// `GET /api/metrics`: which metrics there are.
    Metrics,
    /// `GET /api/metrics/{id}`: one metric.
    Metric,
    /// `POST /api/metric-aggregates`: how much there has been of a metric.
    MetricAggregates,
    /// `POST /api/event-bulk-create-jobs`: many events of many profiles.
    EventBulkCreate,
    /// `POST /api/profile-import`: create or update one profile.
    ProfileImport,
    /// `POST /api/profile-bulk-import-jobs`: a job that creates or updates many profiles.
    ProfileBulkImport,
    /// `GET /api/profile-bulk-import-jobs`: which jobs there are.
    ImportJobs,
    /// `GET /api/profile-bulk-import-jobs/{job_id}`: how far the job is.
    ImportJob,
    /// `GET /api/profile-bulk-import-jobs/{id}/import-errors`: what the job could not take in.
    ImportErrors,
    /// `POST /api/data-privacy-deletion-jobs`: delete the profiles that an address or a number matches.
    RequestDeletion,
    /// `POST /api/profile-merge`: make one of two profiles.
    MergeProfiles,
    /// `POST /api/profile-subscription-bulk-create-jobs`: profiles that consent to be sent to.
    Subscribe,
    /// `POST /api/profile-subscription-bulk-delete-jobs`: profiles that do no more.
    Unsubscribe,
    /// `GET /api/lists`: which lists there are.
    Lists,
    /// `POST /api/lists`: a new list.
    CreateList,
    /// `GET /api/lists/{id}`: one list.
    List,
    /// `PATCH /api/lists/{id}`: another name for it.
    UpdateList,
    /// `DELETE /api/lists/{id}`: it is no more; its profiles are.
    DeleteList,
    /// `GET /api/lists/{id}/profiles`: who is on the list.
    ListMembers,
    /// `POST /api/lists/{id}/relationships/profiles`: puts profiles on the list, whatever they consented to.
    AddToList,
    /// `DELETE /api/lists/{id}/relationships/profiles`: takes them off it.
    RemoveFromList,
    /// `GET /api/segments`: which segments there are.
    Segments,
    /// `GET /api/segments/{id}`: one segment.
    Segment,
    /// `GET /api/segments/{id}/profiles`: who is in the segment.
    SegmentMembers,
    /// `GET /api/flows`: which flows there are.
    Flows,
    /// `GET /api/flows/{id}`: one flow.
    Flow,
    /// `GET /api/profiles`: which profiles there are.
    Profiles,
    /// `GET /api/profiles/{id}`: one profile.
    Profile,
    /// `POST /api/coupons`: a new coupon.
    CreateCoupon,
    /// `GET /api/coupons/{id}`: one coupon.
    Coupon,
    /// `GET /api/coupons/{id}/coupon-codes`: which codes a coupon has.
    CodesOfCoupon,
    /// `POST /api/coupon-codes`: a new code.
    CreateCode,
    /// `GET /api/coupon-codes/{id}`: one code.
    Code,
    /// `GET /api/campaigns`: which campaigns there are.
    Campaigns,
    /// `POST /api/campaigns`: a new campaign, with its messages.
    CreateCampaign,
    /// `GET /api/campaigns/{id}`: one campaign.
    Campaign,
    /// `DELETE /api/campaigns/{id}`: it is no more.
    DeleteCampaign,
    /// `GET /api/campaigns/{id}/campaign-messages`: the messages of a campaign.
    MessagesOfCampaign,
    /// `POST /api/campaign-message-assign-template`: has a message be written with a copy of a template.
    AssignTemplate,
    /// `POST /api/campaign-send-jobs`: sends a campaign, at once or when its time comes.
    SendCampaign,
    /// `GET /api/campaign-send-jobs/{id}`: how far that is.
    SendJob,
    /// `PATCH /api/campaign-send-jobs/{id}`: ends it.
    StopSending,
    /// `POST /api/campaign-recipient-estimation-jobs`: a job that counts whom a campaign would be sent to.
    EstimateRecipients,
    /// `GET /api/campaign-recipient-estimation-jobs/{id}`: how far the job is.
    EstimationJob,
    /// `GET /api/campaign-recipient-estimations/{id}`: what it counted.
    Estimation,
    /// `POST /api/templates`: a new template.
    CreateTemplate,
    /// `GET /api/templates/{id}`: one template.
    Template,
    /// `GET /api/webhooks`: which webhooks there are.
    Webhooks,
    /// `POST /api/webhooks`: a new webhook.
    CreateWebhook,
    /// `GET /api/webhooks/{id}`: one webhook.
    Webhook,
    /// `PATCH /api/webhooks/{id}`: changes what it is told, where, or whether at all.
    UpdateWebhook,
    /// `DELETE /api/webhooks/{id}`: it is no more.
    DeleteWebhook,
    /// `GET /api/webhook-topics`: what a webhook can be told of.
    WebhookTopics,
    /// `GET /api/webhook-topics/{id}`: one of them.
    WebhookTopic,
    /// `POST /api/campaign-values-reports` and the like: a report.
    Report(Report),
    /// `GET /api/catalog-items` and the like: which things of the kind there are.
    Things(Kind),
    /// `GET /api/catalog-items/{id}` and the like: one of them.
    Thing(Kind),
    /// `POST /api/catalog-items`, `PATCH` and `DELETE /api/catalog-items/{id}` and the like: a change of one.
    Change(Kind, Act),
    /// `POST /api/catalog-item-bulk-create-jobs` and the like: a job.
    Start(Work),
    /// `GET /api/catalog-item-bulk-create-jobs/{job_id}` and the like: how far the job is.
    Job(Work),
    /// `GET /api/catalog-item-bulk-create-jobs` and the like: which jobs there are.
    Jobs(Work),
}

/// How many requests each of the fixed windows of a call allows, for one account.
/// Source: `x-klaviyo-ratelimit` of the path in Klaviyo's OpenAPI document, revision 2026-07-15.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Requests a second.
    pub burst: u32,
    /// Requests a minute.
    pub steady: u32,
    /// Requests a day, of the few calls that are counted so.
    pub daily: Option<u32>,
}

impl Call {
    /// The calls that are not of a kind.
    const SINGLE: [Self; 56] = [
        Self::Events,
        Self::EventBulkCreate,
        Self::ProfileImport,
        Self::ProfileBulkImport,
        Self::ImportJobs,
        Self::ImportJob,
        Self::ImportErrors,
        Self::RequestDeletion,
        Self::MergeProfiles,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Lists,
        Self::CreateList,
        Self::List,
        Self::UpdateList,
        Self::DeleteList,
        Self::ListMembers,
        Self::AddToList,
        Self::RemoveFromList,
        Self::Profiles,
        Self::Profile,
        Self::Segments,
        Self::Segment,
        Self::SegmentMembers,
        Self::Flows,
        Self::Flow,
        Self::RecordedEvents,
        Self::Metrics,
        Self::Metric,
        Self::MetricAggregates,
        Self::CreateCoupon,
        Self::Coupon,
        Self::CodesOfCoupon,
        Self::CreateCode,
        Self::Code,
        Self::Campaigns,
        Self::CreateCampaign,
        Self::Campaign,
        Self::DeleteCampaign,
        Self::MessagesOfCampaign,
        Self::AssignTemplate,
        Self::SendCampaign,
        Self::SendJob,
        Self::StopSending,
        Self::EstimateRecipients,
        Self::EstimationJob,
        Self::Estimation,
        Self::CreateTemplate,
        Self::Template,
        Self::Webhooks,
        Self::CreateWebhook,
        Self::Webhook,
        Self::UpdateWebhook,
        Self::DeleteWebhook,
        Self::WebhookTopics,
        Self::WebhookTopic,
    ];

    /// All calls, those first that come often.
    pub fn all() -> impl Iterator<Item = Self> {
        let catalog = Kind::ALL.into_iter().flat_map(|kind| {
            [Self::Things(kind), Self::Thing(kind)]
                .into_iter()
                .chain(Act::ALL.map(|act| Self::Change(kind, act)))
        });
        let jobs = Work::all().flat_map(|work| [Self::Start(work), Self::Job(work)]);
        let lists = Work::all().filter(|work| work.is_listed()).map(Self::Jobs);
        let reports = Report::ALL.into_iter().map(Self::Report);
        Self::SINGLE.into_iter().chain(reports).chain(catalog).chain(jobs).chain(lists)
    }

    /// The call that a request is, and the id in its path, empty where the call has none. Of a path that does not answer
    /// to the method, one that it answers to.
    pub fn at<'a>(method: &Method, path: &'a str) -> Option<(Self, &'a str)> {
        let mut at = Self::all().filter_map(|call| Some((call, id_in(call.path(), path)?)));
        let first = at.next()?;
        std::iter::once(first).chain(at).find(|(call, _)| call.method() == method).or(Some(first))
    }

    /// The methods that a path answers to.
    pub fn methods_at(path: &str) -> Vec<Method> {
        Self::all().filter(|call| id_in(call.path(), path).is_some()).map(Self::method).collect()
    }

    /// The path as the OpenAPI document writes it.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Events | Self::RecordedEvents => "/api/events",
            Self::Segments => "/api/segments",
            Self::Segment => "/api/segments/{id}",
            Self::SegmentMembers => "/api/segments/{id}/profiles",
            Self::Flows => "/api/flows",
            Self::Flow => "/api/flows/{id}",
            Self::Metrics => "/api/metrics",
            Self::Metric => "/api/metrics/{id}",
            Self::MetricAggregates => "/api/metric-aggregates",
            Self::EventBulkCreate => "/api/event-bulk-create-jobs",
            Self::ProfileImport => "/api/profile-import",
            Self::ProfileBulkImport | Self::ImportJobs => "/api/profile-bulk-import-jobs",
            Self::ImportJob => "/api/profile-bulk-import-jobs/{job_id}",
            Self::ImportErrors => "/api/profile-bulk-import-jobs/{id}/import-errors",
            Self::RequestDeletion => "/api/data-privacy-deletion-jobs",
            Self::MergeProfiles => "/api/profile-merge",
            Self::Subscribe => "/api/profile-subscription-bulk-create-jobs",
            Self::Unsubscribe => "/api/profile-subscription-bulk-delete-jobs",
            Self::Lists | Self::CreateList => "/api/lists",
            Self::List | Self::UpdateList | Self::DeleteList => "/api/lists/{id}",
            Self::ListMembers => "/api/lists/{id}/profiles",
            Self::AddToList | Self::RemoveFromList => "/api/lists/{id}/relationships/profiles",
            Self::Profiles => "/api/profiles",
            Self::Profile => "/api/profiles/{id}",
            Self::CreateCoupon => "/api/coupons",
            Self::Coupon => "/api/coupons/{id}",
            Self::CodesOfCoupon => "/api/coupons/{id}/coupon-codes",
            Self::CreateCode => "/api/coupon-codes",
            Self::Code => "/api/coupon-codes/{id}",
            Self::Campaigns | Self::CreateCampaign => "/api/campaigns",
            Self::Campaign | Self::DeleteCampaign => "/api/campaigns/{id}",
            Self::MessagesOfCampaign => "/api/campaigns/{id}/campaign-messages",
            Self::AssignTemplate => "/api/campaign-message-assign-template",
            Self::SendCampaign => "/api/campaign-send-jobs",
            Self::SendJob | Self::StopSending => "/api/campaign-send-jobs/{id}",
            Self::EstimateRecipients => "/api/campaign-recipient-estimation-jobs",
            Self::EstimationJob => "/api/campaign-recipient-estimation-jobs/{id}",
            Self::Estimation => "/api/campaign-recipient-estimations/{id}",
            Self::CreateTemplate => "/api/templates",
            Self::Template => "/api/templates/{id}",
            Self::Webhooks | Self::CreateWebhook => "/api/webhooks",
            Self::Webhook | Self::UpdateWebhook | Self::DeleteWebhook => "/api/webhooks/{id}",
            Self::WebhookTopics => "/api/webhook-topics",
            Self::WebhookTopic => "/api/webhook-topics/{id}",
            Self::Report(report) => report.path(),
            Self::Things(kind) | Self::Change(kind, Act::Create) => kind.path(),
            Self::Thing(kind) | Self::Change(kind, Act::Update | Act::Delete) => kind.path_of_one(),
            Self::Start(work) | Self::Jobs(work) => work.path(),
            Self::Job(work) => work.path_of_one(),
        }
    }

    /// The method of the call.
    pub const fn method(self) -> Method {
        match self {
            Self::Events
            | Self::EventBulkCreate
            | Self::MetricAggregates
            | Self::ProfileImport
            | Self::ProfileBulkImport
            | Self::RequestDeletion
            | Self::MergeProfiles
            | Self::Subscribe
            | Self::Unsubscribe
            | Self::CreateList
            | Self::AddToList
            | Self::CreateCoupon
            | Self::CreateCode
            | Self::CreateCampaign
            | Self::AssignTemplate
            | Self::SendCampaign
            | Self::EstimateRecipients
            | Self::CreateTemplate
            | Self::CreateWebhook
            | Self::Report(_)
            | Self::Change(_, Act::Create)
            | Self::Start(_) => Method::POST,
            Self::ImportJobs
            | Self::ImportJob
            | Self::ImportErrors
            | Self::Lists
            | Self::List
            | Self::ListMembers
            | Self::Profiles
            | Self::Profile
            | Self::Segments
            | Self::Segment
            | Self::SegmentMembers
            | Self::Flows
            | Self::Flow
            | Self::RecordedEvents
            | Self::Metrics
            | Self::Metric
            | Self::Coupon
            | Self::CodesOfCoupon
            | Self::Code
            | Self::Campaigns
            | Self::Campaign
            | Self::MessagesOfCampaign
            | Self::SendJob
            | Self::EstimationJob
            | Self::Estimation
            | Self::Template
            | Self::Webhooks
            | Self::Webhook
            | Self::WebhookTopics
            | Self::WebhookTopic
            | Self::Things(_)
            | Self::Thing(_)
            | Self::Job(_)
            | Self::Jobs(_) => Method::GET,
            Self::UpdateList | Self::StopSending | Self::UpdateWebhook | Self::Change(_, Act::Update) => {
                Method::PATCH
            }
            Self::DeleteList
            | Self::RemoveFromList
            | Self::DeleteCampaign
            | Self::DeleteWebhook
            | Self::Change(_, Act::Delete) => Method::DELETE,
        }
    }

    pub const fn limits(self) -> Limits {
        match self {
            Self::Events
            | Self::RecordedEvents
            | Self::CreateCode
            | Self::Code
            | Self::Things(_)
            | Self::Thing(_)
            | Self::Job(Work::Catalog(Kind::Category, _) | Work::Catalog(_, Act::Delete))
            | Self::Jobs(Work::Catalog(Kind::Category, _) | Work::Catalog(_, Act::Delete)) => {
                Limits { burst: 350, steady: 3_500, daily: None }
            }
            Self::ProfileImport
            | Self::Subscribe
            | Self::Unsubscribe
            | Self::Lists
            | Self::List
            | Self::ListMembers
            | Self::Profiles
            | Self::Profile
            | Self::Segments
            | Self::Segment
            | Self::SegmentMembers
            | Self::Coupon
            | Self::CodesOfCoupon
            | Self::CreateTemplate
            | Self::Template
            | Self::Change(..)
            | Self::Start(_)
            | Self::Job(_)
            | Self::Jobs(_) => Limits { burst: 75, steady: 750, daily: None },
            Self::CreateList => Limits { burst: 10, steady: 150, daily: Some(150) },
            Self::RequestDeletion
            | Self::CreateCoupon
            | Self::Flows
            | Self::Flow
            | Self::MetricAggregates => Limits { burst: 3, steady: 60, daily: None },
            Self::Report(_) => Limits { burst: 1, steady: 2, daily: Some(225) },
            Self::Webhooks
            | Self::CreateWebhook
            | Self::Webhook
            | Self::UpdateWebhook
            | Self::DeleteWebhook
            | Self::WebhookTopics
            | Self::WebhookTopic => Limits { burst: 1, steady: 15, daily: None },
            Self::EventBulkCreate
            | Self::ProfileBulkImport
            | Self::ImportJobs
            | Self::ImportJob
            | Self::ImportErrors
            | Self::UpdateList
            | Self::DeleteList
            | Self::AddToList
            | Self::RemoveFromList
            | Self::MergeProfiles
            | Self::Metrics
            | Self::Metric
            | Self::Campaigns
            | Self::CreateCampaign
            | Self::Campaign
            | Self::DeleteCampaign
            | Self::MessagesOfCampaign
            | Self::AssignTemplate
            | Self::SendCampaign
            | Self::StopSending
            | Self::SendJob
            | Self::EstimateRecipients
            | Self::EstimationJob
            | Self::Estimation => Limits { burst: 10, steady: 150, daily: None },
        }
    }

    /// The largest request body, in bytes; none for a call that has no body. Klaviyo's descriptions say "5 MB" and
    /// "100KB"; read as decimal, so that a client which keeps to the sandbox's limit keeps to either reading. Of the calls
    /// about consent, lists, coupons, campaigns, templates, webhooks, analytics and single things of the catalog they say
    /// nothing, and those have the larger one.
    pub const fn max_body(self) -> Option<usize> {
        match self {
            Self::Events
            | Self::EventBulkCreate
            | Self::MetricAggregates
            | Self::ProfileBulkImport
            | Self::Subscribe
            | Self::Unsubscribe
            | Self::CreateList
            | Self::UpdateList
            | Self::AddToList
            | Self::RemoveFromList
            | Self::CreateCoupon
            | Self::CreateCode
            | Self::CreateCampaign
            | Self::AssignTemplate
            | Self::SendCampaign
            | Self::StopSending
            | Self::EstimateRecipients
            | Self::CreateTemplate
            | Self::CreateWebhook
            | Self::UpdateWebhook
            | Self::Report(_)
            | Self::Change(_, Act::Create | Act::Update)
            | Self::Start(_) => Some(5_000_000),
            Self::ProfileImport | Self::RequestDeletion | Self::MergeProfiles => Some(100_000),
            Self::ImportJobs
            | Self::ImportJob
            | Self::ImportErrors
            | Self::Lists
            | Self::List
            | Self::DeleteList
            | Self::ListMembers
            | Self::Profiles
            | Self::Profile
            | Self::Segments
            | Self::Segment
            | Self::SegmentMembers
            | Self::Flows
            | Self::Flow
            | Self::RecordedEvents
            | Self::Metrics
            | Self::Metric
            | Self::Coupon
            | Self::CodesOfCoupon
            | Self::Code
            | Self::Campaigns
            | Self::Campaign
            | Self::MessagesOfCampaign
            | Self::SendJob
            | Self::EstimationJob
            | Self::Estimation
            | Self::Template
            | Self::DeleteCampaign
            | Self::Webhooks
            | Self::Webhook
            | Self::DeleteWebhook
            | Self::WebhookTopics
            | Self::WebhookTopic
            | Self::Things(_)
            | Self::Thing(_)
            | Self::Change(_, Act::Delete)
            | Self::Job(_)
            | Self::Jobs(_) => None,
        }
    }
}

/// What a path has in the place of a template's `{…}`. `None` if the path does not fit the template.
fn id_in<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, rest)) = template.split_once('{') else { return (template == path).then_some("") };
    let (_, after) = rest.split_once('}')?;
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_calls_and_ids() {
        for (method, path, call) in [
            (Method::POST, "/api/events", Some((Call::Events, ""))),
            (Method::GET, "/api/events", Some((Call::RecordedEvents, ""))),
            (Method::PUT, "/api/events", Some((Call::Events, ""))),
            (Method::POST, "/api/profile-bulk-import-jobs", Some((Call::ProfileBulkImport, ""))),
            (Method::GET, "/api/profile-bulk-import-jobs", Some((Call::ImportJobs, ""))),
            (Method::PUT, "/api/profile-bulk-import-jobs", Some((Call::ProfileBulkImport, ""))),
            (Method::GET, "/api/profile-bulk-import-jobs/01J", Some((Call::ImportJob, "01J"))),
            (
                Method::GET,
                "/api/profile-bulk-import-jobs/01J/import-errors",
                Some((Call::ImportErrors, "01J")),
            ),
            (Method::GET, "/api/profile-bulk-import-jobs/", None),
            (Method::GET, "/api/profile-bulk-import-jobs//import-errors", None),
            (Method::GET, "/api/profile-bulk-import-jobs/01J/profiles", None),
            (Method::POST, "/api/events/01J", None),
            (Method::GET, "/api/lists", Some((Call::Lists, ""))),
            (Method::PATCH, "/api/lists/Y6nRLr", Some((Call::UpdateList, "Y6nRLr"))),
            (Method::DELETE, "/api/lists/Y6nRLr", Some((Call::DeleteList, "Y6nRLr"))),
            (Method::GET, "/api/lists/Y6nRLr/profiles", Some((Call::ListMembers, "Y6nRLr"))),
            (
                Method::DELETE,
                "/api/lists/Y6nRLr/relationships/profiles",
                Some((Call::RemoveFromList, "Y6nRLr")),
            ),
            (Method::GET, "/api/lists/Y6nRLr/tags", None),
            (
                Method::DELETE,
                "/api/catalog-items/$custom:::$default:::7",
                Some((Call::Change(Kind::Item, Act::Delete), "$custom:::$default:::7")),
            ),
            (Method::GET, "/api/catalog-items/7/variants", None),
        ] {
            assert_eq!(Call::at(&method, path), call, "{method} {path}");
        }
    }

    #[test]
    fn a_path_answers_to_methods() {
        for (path, methods) in [
            ("/api/events", &[Method::POST, Method::GET][..]),
            ("/api/lists", &[Method::GET, Method::POST]),
            ("/api/lists/Y6nRLr", &[Method::GET, Method::PATCH, Method::DELETE]),
            ("/api/catalog-variants", &[Method::GET, Method::POST]),
            ("/api/catalog-variants/$custom:::$default:::7", &[Method::GET, Method::PATCH, Method::DELETE]),
            ("/api/nothing", &[]),
        ] {
            assert_eq!(Call::methods_at(path), methods, "{path}");
        }
    }

    #[test]
    fn limits_are_those_of_klaviyos_document() {
        let Some(path) = std::env::var_os("KLAVIYO_OPENAPI") else { return };
        let text = std::fs::read_to_string(path).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        for call in Call::all() {
            let method = call.method().as_str().to_lowercase();
            let published = &document["paths"][call.path()][method]["x-klaviyo-ratelimit"];
            let number = |window: &str| {
                let text = published[window].as_str()?;
                text.split('/').next()?.parse().ok()
            };
            let Limits { burst, steady, daily } = call.limits();
            let found = (number("burst"), number("steady"), number("daily"));
            assert_eq!(found, (Some(burst), Some(steady), daily), "{call:?}");
        }
    }

    #[test]
    fn each_call_is_found_where_it_is() {
        for call in Call::all() {
            let path = call.path().replace("{job_id}", "01J").replace("{id}", "01J");
            let id = if call.path().contains('{') { "01J" } else { "" };
            assert_eq!(Call::at(&call.method(), &path), Some((call, id)));
        }
    }
}
