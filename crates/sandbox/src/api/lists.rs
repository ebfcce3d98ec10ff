//! The calls about lists, and those that read profiles.

use hyper::StatusCode;
use jiff::Timestamp;
use serde_json::json;
use serde_json_borrow::Value;

use super::Received;
use super::calls::{document, not_found, refused};
use super::filter::Filter;
use super::query;
use crate::check::{self, Whose};
use crate::reply::Reply;
use crate::sandbox::State;
use crate::store::rfc3339;

impl Received<'_> {
    pub(super) fn lists(&self, state: &State) -> Result<Reply, Reply> {
        let asked = query::lists(&self.head.uri).map_err(refused)?;
        let is_meant = |filter: &Filter, text: &str| filter.values.iter().any(|value| value == text);
        let lists = state.store.lists().iter();
        let found: Vec<_> = lists
            .filter(|list| {
                asked.filter.as_ref().is_none_or(|filter| is_meant(filter, list.text(filter.field)))
            })
            .collect();
        let (range, links) = asked.page.of(found.len(), &asked.url(self.api_url()));
        let data: Vec<_> = found[range].iter().map(|list| list.resource(self.api_url())).collect();
        Ok(document(StatusCode::OK, &json!({"data": data, "links": links})))
    }

    pub(super) fn create_list(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let draft = check::list(body).map_err(|errors| Reply::errors(&errors))?;
        let list = state.store.create_list(draft, Timestamp::now());
        Ok(document(StatusCode::CREATED, &list.document(self.api_url())))
    }

    pub(super) fn list(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let list = state.store.list(id).map_err(refused)?;
        Ok(document(StatusCode::OK, &list.document(self.api_url())))
    }

    pub(super) fn update_list(&self, state: &mut State, body: &Value<'_>, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let change = check::list_change(body, id).map_err(|errors| Reply::errors(&errors))?;
        let list = state.store.list_mut(id).map_err(refused)?;
        list.change(change, Timestamp::now());
        Ok(document(StatusCode::OK, &list.document(self.api_url())))
    }

    pub(super) fn delete_list(&self, state: &mut State, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        state.store.delete_list(id).map_err(refused)?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn add_to_list(&self, state: &mut State, body: &Value<'_>, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let profiles = check::list_members(body).map_err(|errors| Reply::errors(&errors))?;
        let added = state.store.add_to_list(id, &profiles, Timestamp::now());
        added.map_err(|errors| Reply::errors(&errors))?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn remove_from_list(
        &self,
        state: &mut State,
        body: &Value<'_>,
        id: &str,
    ) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let profiles = check::list_members(body).map_err(|errors| Reply::errors(&errors))?;
        state.store.remove_from_list(id, &profiles).map_err(|errors| Reply::errors(&errors))?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn list_members(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        let asked = query::members(&self.head.uri).map_err(refused)?;
        let list = state.store.list(id).map_err(refused)?;
        let found = state.store.members(list, whose(asked.filter.as_ref()).as_deref());
        let (range, links) = asked.page.of(found.len(), &asked.url(self.api_url()));
        let data = found[range].iter().map(|(profile, joined)| {
            let mut resource = profile.resource(self.api_url());
            resource["attributes"][query::JOINED] = rfc3339(*joined).into();
            asked.fields.narrow(resource)
        });
        Ok(document(StatusCode::OK, &json!({"data": data.collect::<Vec<_>>(), "links": links})))
    }

    pub(super) fn profiles(&self, state: &State) -> Result<Reply, Reply> {
        let asked = query::profiles(&self.head.uri).map_err(refused)?;
        let found = state.store.chosen(whose(asked.filter.as_ref()).as_deref());
        let (range, links) = asked.page.of(found.len(), &asked.url(self.api_url()));
        let data = found[range].iter().map(|profile| asked.fields.narrow(profile.resource(self.api_url())));
        Ok(document(StatusCode::OK, &json!({"data": data.collect::<Vec<_>>(), "links": links})))
    }

    pub(super) fn profile(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        let fields = query::profile(&self.head.uri).map_err(refused)?;
        let found = state.store.chosen(Some(&[Whose::Id(id.to_owned())]));
        let profile = found.first().ok_or_else(|| not_found("A profile with this id does not exist."))?;
        let resource = fields.narrow(profile.resource(self.api_url()));
        Ok(document(StatusCode::OK, &json!({"links": resource["links"], "data": resource})))
    }
}

/// Whom a filter of profiles means; all if there is none.
fn whose(filter: Option<&Filter>) -> Option<Vec<Whose>> {
    filter.map(Filter::whose)
}
