//! The calls about webhooks and what they can be told of.

use hyper::StatusCode;
use serde_json::json;
use serde_json_borrow::Value;

use super::Received;
use super::calls::{document, none, not_found, refused};
use super::{query, refuse};
use crate::check;
use crate::reply::Reply;
use crate::sandbox::State;
use crate::time::now;
use crate::webhooks::{TOPICS, topic};

impl Received<'_> {
    pub(super) fn webhooks(&self, state: &State) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let webhooks = state.webhooks.all().iter();
        self.whole_list(webhooks.map(|webhook| webhook.resource(self.api_url())).collect())
    }

    pub(super) fn create_webhook(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let draft = check::webhook(body).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        let webhook = state.webhooks.create(draft, now());
        Ok(document(StatusCode::CREATED, &webhook.document(self.api_url())))
    }

    pub(super) fn webhook(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let webhook = state.webhooks.get(id).map_err(refused)?;
        Ok(document(StatusCode::OK, &webhook.document(self.api_url())))
    }

    pub(super) fn update_webhook(
        &self,
        state: &mut State,
        body: &Value<'_>,
        id: &str,
    ) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let change = check::webhook_change(body, id).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        let webhook = state.webhooks.change(id, change, now()).map_err(refused)?;
        Ok(document(StatusCode::OK, &webhook.document(self.api_url())))
    }

    pub(super) fn delete_webhook(&self, state: &mut State, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        state.webhooks.delete(id).map_err(refused)?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn webhook_topics(&self) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        self.whole_list(TOPICS.iter().map(|id| topic(id, self.api_url())).collect())
    }

    pub(super) fn webhook_topic(&self, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        if !TOPICS.contains(&id) {
            return Err(not_found("A webhook topic with this id does not exist."));
        }
        let resource = topic(id, self.api_url());
        Ok(document(StatusCode::OK, &json!({"links": resource["links"], "data": resource})))
    }

    /// A list that has no pages.
    fn whole_list(&self, data: Vec<serde_json::Value>) -> Result<Reply, Reply> {
        let links = json!({"self": format!("{}{}", self.api_url(), self.head.uri.path())});
        Ok(document(StatusCode::OK, &json!({"data": data, "links": links})))
    }
}
