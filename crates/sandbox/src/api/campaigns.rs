//! The calls about campaigns, their messages and their jobs.

use hyper::StatusCode;
use serde_json::json;
use serde_json_borrow::Value;

use super::Received;
use super::calls::{document, none, not_found, refused};
use super::coupons::in_body;
use super::{query, refuse};
use crate::campaigns::{About, Campaign};
use crate::check;
use crate::error::WHOLE_BODY;
use crate::filter::Test;
use crate::order::Rows;
use crate::reply::Reply;
use crate::sandbox::State;
use crate::time::now;

impl Received<'_> {
    pub(super) fn campaigns(&self, state: &State) -> Result<Reply, Reply> {
        let (asked, shown) = query::campaigns::many(&self.head.uri).map_err(refused)?;
        let campaigns = state.campaigns.all().iter();
        let found = campaigns.filter(|campaign| asked.meets(|field, test| meets(campaign, field, test)));
        let field = asked.slice.order.field;
        let Rows { rows, last } =
            asked.slice.page_of_few(found.map(|campaign| (campaign.key(field), campaign)).collect());
        let data: Vec<_> =
            rows.iter().map(|campaign| shown.fields.narrow(campaign.resource(self.api_url()))).collect();
        let mut answer = json!({"data": data, "links": asked.links(self.api_url(), last.as_ref())});
        if shown.with_messages {
            answer["included"] =
                rows.iter().flat_map(|campaign| self.messages(campaign, &shown.message_fields)).collect();
        }
        Ok(document(StatusCode::OK, &answer))
    }

    pub(super) fn create_campaign(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let draft = check::campaign(body).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        let State { campaigns, store, .. } = state;
        let campaign = campaigns.create(draft, store, now()).map_err(|errors| {
            let errors: Vec<_> = errors.into_iter().map(|error| error.under(WHOLE_BODY)).collect();
            Reply::errors(&errors)
        })?;
        Ok(document(StatusCode::CREATED, &campaign.document(self.api_url())))
    }

    pub(super) fn campaign(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        let shown = query::campaigns::one(&self.head.uri).map_err(refused)?;
        let campaign = state.campaigns.get(id).map_err(refused)?;
        let mut answer = campaign.document(self.api_url());
        answer["data"] = shown.fields.narrow(answer["data"].take());
        if shown.with_messages {
            answer["included"] = self.messages(campaign, &shown.message_fields).collect();
        }
        Ok(document(StatusCode::OK, &answer))
    }

    pub(super) fn delete_campaign(&self, state: &mut State, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        state.campaigns.delete(id).map_err(refused)?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn messages_of_campaign(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        let fields = query::campaigns::messages(&self.head.uri).map_err(refused)?;
        let campaign = state.campaigns.get(id).map_err(refused)?;
        let data: Vec<_> = self.messages(campaign, &fields).collect();
        let links = json!({"self": format!("{}{}", self.api_url(), self.head.uri.path())});
        Ok(document(StatusCode::OK, &json!({"data": data, "links": links})))
    }

    pub(super) fn assign_template(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let assignment = check::assignment(body).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        let State { campaigns, store, .. } = state;
        let (campaign, message) = campaigns.assign(&assignment, store, now()).map_err(in_body)?;
        Ok(document(StatusCode::OK, &campaign.assigned(message, self.api_url())))
    }

    pub(super) fn send_campaign(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let id = check::campaign_to_send(body).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        let campaign = state.campaigns.send(&id, self.sandbox.now_us(), now()).map_err(in_body)?;
        self.job_of(campaign, About::Send, StatusCode::ACCEPTED)
    }

    pub(super) fn stop_sending(&self, state: &mut State, body: &Value<'_>, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let action = check::send_job_change(body, id).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        state.campaigns.stop(id, action, now()).map_err(in_body)?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn estimate_recipients(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let id = check::campaign_to_estimate(body).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        let campaign = state.campaigns.estimate(&id, self.sandbox.now_us()).map_err(in_body)?;
        self.job_of(campaign, About::Estimation, StatusCode::ACCEPTED)
    }

    pub(super) fn campaign_job(&self, state: &State, about: About, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let campaign = state.campaigns.get(id).map_err(refused)?;
        self.job_of(campaign, about, StatusCode::OK)
    }

    pub(super) fn estimation(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let campaign = state.campaigns.get(id).map_err(refused)?;
        let estimation = campaign.estimation(self.api_url());
        let unknown = || not_found("The recipients of this campaign were never estimated.");
        Ok(document(StatusCode::OK, &estimation.ok_or_else(unknown)?))
    }

    fn job_of(&self, campaign: &Campaign, about: About, status: StatusCode) -> Result<Reply, Reply> {
        let job = campaign.job(about, self.api_url());
        Ok(document(status, &job.ok_or_else(|| not_found("There is no such job for this campaign."))?))
    }

    fn messages(
        &self,
        campaign: &Campaign,
        fields: &query::Fields,
    ) -> impl Iterator<Item = serde_json::Value> {
        let messages = campaign.messages.iter();
        messages.map(move |message| fields.narrow(campaign.message(message, self.api_url())))
    }
}

fn meets(campaign: &Campaign, field: &str, test: &Test) -> bool {
    match field {
        "id" => test.text(&campaign.id),
        "messages.channel" => campaign.messages.iter().any(|message| test.text(message.channel)),
        "name" => test.text(&campaign.name),
        "status" => test.text(campaign.status()),
        "archived" => test.flag(false),
        "created_at" => test.time(Some(campaign.created)),
        "scheduled_at" => test.time(campaign.scheduled),
        _ => test.time(Some(campaign.updated)),
    }
}
