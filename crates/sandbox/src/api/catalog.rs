//! The calls about single things of the catalog, and those that list them.

use hyper::StatusCode;
use serde_json::json;
use serde_json_borrow::Value;

use super::Received;
use super::calls::{document, none, refused};
use super::coupons::in_body;
use super::{query, refuse};
use crate::catalog::{Act, Kind};
use crate::check::{self, ThingDraft};
use crate::error::ApiError;
use crate::reply::Reply;
use crate::sandbox::State;
use crate::time::now;

impl Received<'_> {
    pub(super) fn things(&self, state: &State, kind: Kind) -> Result<Reply, Reply> {
        let asked = query::things(&self.head.uri).map_err(refused)?;
        let catalog = &state.store.catalog;
        let found = catalog.chosen(kind, asked.filter.as_ref().map(|filter| filter.values.as_slice()));
        let (range, links) = asked.page.of(found.len(), &asked.url(self.api_url()));
        let data: Vec<_> = found[range].iter().map(|thing| catalog.resource(thing, self.api_url())).collect();
        Ok(document(StatusCode::OK, &json!({"data": data, "links": links})))
    }

    pub(super) fn thing(&self, state: &State, kind: Kind, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let thing = state.store.catalog.get(kind, id).map_err(refused)?;
        Ok(document(StatusCode::OK, &state.store.catalog.document(thing, self.api_url())))
    }

    pub(super) fn create_thing(
        &self,
        state: &mut State,
        body: &Value<'_>,
        kind: Kind,
    ) -> Result<Reply, Reply> {
        self.write(state, body, Act::Create, check::thing(body, kind))
    }

    pub(super) fn update_thing(
        &self,
        state: &mut State,
        body: &Value<'_>,
        kind: Kind,
        id: &str,
    ) -> Result<Reply, Reply> {
        self.write(state, body, Act::Update, check::thing_change(body, kind, id))
    }

    fn write(
        &self,
        state: &mut State,
        body: &Value<'_>,
        act: Act,
        draft: Result<ThingDraft, Vec<ApiError>>,
    ) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let draft = draft.map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        let (kind, id) = (draft.kind, draft.id.clone());
        let catalog = &mut state.store.catalog;
        catalog.perform(act, draft, now()).map_err(in_body)?;
        let thing = catalog.get(kind, &id).map_err(refused)?;
        let status = if act == Act::Create { StatusCode::CREATED } else { StatusCode::OK };
        Ok(document(status, &catalog.document(thing, self.api_url())))
    }

    pub(super) fn delete_thing(&self, state: &mut State, kind: Kind, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        state.store.catalog.delete(kind, id).map_err(refused)?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }
}
