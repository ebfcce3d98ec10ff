//! What each call does, once the request is known to be somebody's and in time.

use hyper::StatusCode;
use serde_json::json;
use serde_json_borrow::Value;

use super::Received;
use super::klaviyo::too_large_error;
use super::{query, refuse};
use crate::bulk::Repeats;
use crate::call::Call;
use crate::campaigns::About;
use crate::catalog::Act;
use crate::check;
use crate::error::{ApiError, WHOLE_BODY};
use crate::jobs::{Item, Job, PROFILES};
use crate::receipts::Ticket;
use crate::reply::{JSON_API, Reply};
use crate::sandbox::State;
use crate::store::BulkRefusal;
use crate::time::now;

/// The groups of a bulk call of events.
const GROUPS: &str = "/data/attributes/events-bulk-create/data";

impl Received<'_> {
    /// Checks what the request says and does it. An answer is an `Ok` if its effect is in the store.
    pub(super) fn answer(
        &self,
        state: &mut State,
        call: Call,
        id: &str,
        ticket: Ticket,
    ) -> Result<Reply, Reply> {
        let body = match call.max_body() {
            Some(limit) => self.json(limit).map_err(refused)?,
            None => Value::Null,
        };
        match call {
            Call::Events => self.event(state, &body, ticket),
            Call::RecordedEvents => self.recorded_events(state),
            Call::Segments => self.segments(state),
            Call::Segment => self.segment(state, id),
            Call::SegmentMembers => self.segment_members(state, id),
            Call::Flows => self.flows(state),
            Call::Flow => self.flow(state, id),
            Call::Metrics => self.metrics(state),
            Call::Metric => self.metric(state, id),
            Call::MetricAggregates => self.metric_aggregates(state, &body),
            Call::EventBulkCreate => self.event_bulk(state, &body, ticket),
            Call::ProfileImport => self.import(state, &body),
            Call::ProfileBulkImport => self.profile_bulk(state, &body, ticket),
            Call::ImportJobs => self.jobs(state),
            Call::ImportJob => self.job(state, id),
            Call::ImportErrors => self.job_errors(state, id),
            Call::RequestDeletion => self.deletion(state, &body),
            Call::MergeProfiles => self.merge(state, &body),
            Call::Subscribe => self.subscribe(state, &body, ticket),
            Call::Unsubscribe => self.unsubscribe(state, &body, ticket),
            Call::Lists => self.lists(state),
            Call::CreateList => self.create_list(state, &body),
            Call::List => self.list(state, id),
            Call::UpdateList => self.update_list(state, &body, id),
            Call::DeleteList => self.delete_list(state, id),
            Call::ListMembers => self.list_members(state, id),
            Call::AddToList => self.add_to_list(state, &body, id),
            Call::RemoveFromList => self.remove_from_list(state, &body, id),
            Call::Profiles => self.profiles(state),
            Call::Profile => self.profile(state, id),
            Call::CreateCoupon => self.create_coupon(state, &body),
            Call::Coupon => self.coupon(state, id),
            Call::CodesOfCoupon => self.codes_of_coupon(state, id),
            Call::CreateCode => self.create_code(state, &body),
            Call::Code => self.code(state, id),
            Call::Campaigns => self.campaigns(state),
            Call::CreateCampaign => self.create_campaign(state, &body),
            Call::Campaign => self.campaign(state, id),
            Call::DeleteCampaign => self.delete_campaign(state, id),
            Call::MessagesOfCampaign => self.messages_of_campaign(state, id),
            Call::AssignTemplate => self.assign_template(state, &body),
            Call::SendCampaign => self.send_campaign(state, &body),
            Call::SendJob => self.campaign_job(state, About::Send, id),
            Call::StopSending => self.stop_sending(state, &body, id),
            Call::EstimateRecipients => self.estimate_recipients(state, &body),
            Call::EstimationJob => self.campaign_job(state, About::Estimation, id),
            Call::Estimation => self.estimation(state, id),
            Call::CreateTemplate => self.create_template(state, &body),
            Call::Template => self.template(state, id),
            Call::Webhooks => self.webhooks(state),
            Call::CreateWebhook => self.create_webhook(state, &body),
            Call::Webhook => self.webhook(state, id),
            Call::UpdateWebhook => self.update_webhook(state, &body, id),
            Call::DeleteWebhook => self.delete_webhook(state, id),
            Call::WebhookTopics => self.webhook_topics(),
            Call::WebhookTopic => self.webhook_topic(id),
            Call::Report(report) => self.report(state, &body, report),
            Call::Things(kind) => self.things(state, kind),
            Call::Thing(kind) => self.thing(state, kind, id),
            Call::Change(kind, Act::Create) => self.create_thing(state, &body, kind),
            Call::Change(kind, Act::Update) => self.update_thing(state, &body, kind, id),
            Call::Change(kind, Act::Delete) => self.delete_thing(state, kind, id),
            Call::Start(work) => self.start(state, &body, work, ticket),
            Call::Job(work) => self.batch(state, work, id),
            Call::Jobs(work) => self.batches(state, work),
        }
    }

    fn json(&self, limit: usize) -> Result<Value<'_>, ApiError> {
        if self.body.len() > limit {
            return Err(too_large_error(limit));
        }
        self.check_content_type()?;
        serde_json::from_slice(&self.body).map_err(|error| {
            ApiError::invalid(WHOLE_BODY, format!("The request body is not valid JSON: {error}."))
        })
    }

    fn event(&self, state: &mut State, body: &Value<'_>, ticket: Ticket) -> Result<Reply, Reply> {
        let now = now();
        let (profile, event) = check::event(body, now).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        state
            .store
            .record(profile, event, ticket.n, now)
            .map_err(|refusal| Reply::errors(&[refusal.to_error("/data/attributes/profile/data")]))?;
        Ok(Reply::empty(StatusCode::ACCEPTED))
    }

    fn event_bulk(&self, state: &mut State, body: &Value<'_>, ticket: Ticket) -> Result<Reply, Reply> {
        let now = now();
        let groups = check::event_bulk(body, now).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::events_and_profiles, body))?;
        match state.store.record_all(groups, ticket.n, now) {
            Ok(()) => Ok(Reply::empty(StatusCode::ACCEPTED)),
            Err(BulkRefusal::Profile { group, refusal }) => {
                let profile = format!("{GROUPS}/{group}/attributes/profile/data");
                Err(Reply::errors(&[refusal.to_error(&profile)]))
            }
            Err(BulkRefusal::Repeats(_)) if state.bulk.repeats == Repeats::After => {
                Err(Reply::empty(StatusCode::ACCEPTED))
            }
            Err(BulkRefusal::Repeats(repeats)) => {
                let errors = repeats.into_iter().map(|(group, event)| {
                    let event = format!("{GROUPS}/{group}/attributes/events/data/{event}");
                    let detail = "An event with this unique_id exists for this profile and metric.";
                    ApiError::invalid(format!("{event}/attributes/unique_id"), detail)
                });
                Err(Reply::errors(&errors.collect::<Vec<_>>()))
            }
        }
    }

    fn import(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        let draft = check::profile_import(body).map_err(|errors| Reply::errors(&errors))?;
        none(draft.unreachable_at("/data").into_iter().collect())?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        let upserted = state
            .store
            .import(draft, now())
            .map_err(|refusal| Reply::errors(&[refusal.to_error("/data")]))?;
        let status = if upserted.created { StatusCode::CREATED } else { StatusCode::OK };
        let api_url = self.api_url();
        let link = format!("{api_url}{}", Call::ProfileImport.path());
        let answer = json!({"data": upserted.profile.resource(api_url), "links": {"self": link}});
        Ok(document(status, &answer))
    }

    fn profile_bulk(&self, state: &mut State, body: &Value<'_>, ticket: Ticket) -> Result<Reply, Reply> {
        let imports = check::profile_bulk(body).map_err(|errors| Reply::errors(&errors))?;
        let items = imports.into_iter().enumerate().map(|(index, import)| {
            let at = format!("{PROFILES}/{index}");
            Item { refused: refuse::first(&self.refuse, import.payload.get(), &at), import }
        });
        let job = state.jobs.create(items.collect(), ticket.n, self.sandbox.now_us(), now());
        Ok(document(StatusCode::ACCEPTED, &job.document(self.api_url())))
    }

    /// Klaviyo does it later; here it is done at once.
    fn merge(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        let merge = check::merge(body).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        state.store.merge(&merge, now()).map_err(refused)?;
        let links = json!({"self": format!("{}/api/profiles/{}", self.api_url(), merge.destination)});
        let data = json!({"type": "profile", "id": merge.destination, "links": links});
        Ok(document(StatusCode::CREATED, &json!({"data": data, "links": links})))
    }

    /// The same.
    fn deletion(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        let whose = check::deletion(body).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        state.store.delete(&whose);
        Ok(Reply::empty(StatusCode::ACCEPTED))
    }

    fn job(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let job = find(state, id)?;
        Ok(document(StatusCode::OK, &job.document(self.api_url())))
    }

    fn jobs(&self, state: &State) -> Result<Reply, Reply> {
        let (page, open) = query::jobs(&self.head.uri).map_err(refused)?;
        Ok(document(StatusCode::OK, &state.jobs.list(page, open, self.api_url())))
    }

    fn job_errors(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        let page = query::page(&self.head.uri).map_err(refused)?;
        let job = find(state, id)?;
        let errors = job.errors(page, state.bulk.original_payloads, self.api_url());
        Ok(document(StatusCode::OK, &errors))
    }
}

pub(super) fn none(errors: Vec<ApiError>) -> Result<(), Reply> {
    if errors.is_empty() { Ok(()) } else { Err(Reply::errors(&errors)) }
}

pub(super) fn refused(error: ApiError) -> Reply {
    Reply::errors(&[error])
}

fn find<'a>(state: &'a State, id: &str) -> Result<&'a Job, Reply> {
    state.jobs.get(id).ok_or_else(|| not_found("A job with this id does not exist."))
}

pub(super) fn not_found(detail: &str) -> Reply {
    refused(ApiError::not_found(detail))
}

/// A page of a list. It takes the resources, which json! would copy.
pub(super) fn page(data: Vec<serde_json::Value>, links: serde_json::Value) -> Reply {
    let members = [("data".to_owned(), data.into()), ("links".to_owned(), links)];
    document(StatusCode::OK, &serde_json::Value::Object(members.into_iter().collect()))
}

pub(super) fn document(status: StatusCode, document: &serde_json::Value) -> Reply {
    Reply::with_body(status, JSON_API, document.to_string())
}
