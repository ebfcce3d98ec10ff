//! The calls about lists.

use hyper::StatusCode;
use serde_json_borrow::Value;

use super::Received;
use super::calls::{document, page, refused};
use super::query;
use crate::check;
use crate::order::Rows;
use crate::reply::Reply;
use crate::sandbox::State;
use crate::time::now;

impl Received<'_> {
    pub(super) fn lists(&self, state: &State) -> Result<Reply, Reply> {
        let asked = query::lists::lists(&self.head.uri).map_err(refused)?;
        let lists = state.store.lists().iter().filter(|list| {
            asked.meets(|field, test| match field {
                "id" => test.text(&list.id),
                "name" => test.text(&list.name),
                "created" => test.time(Some(list.created)),
                _ => test.time(Some(list.updated)),
            })
        });
        let field = asked.slice.order.field;
        let Rows { rows, last } =
            asked.slice.page_of_few(lists.map(|list| (list.key(field), list)).collect());
        let data: Vec<_> = rows.into_iter().map(|list| list.resource(self.api_url())).collect();
        let links = asked.links(self.api_url(), last.as_ref());
        Ok(page(data, links))
    }

    pub(super) fn create_list(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let draft = check::list(body).map_err(|errors| Reply::errors(&errors))?;
        let list = state.store.create_list(draft, now());
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
        list.change(change, now());
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
        let added = state.store.add_to_list(id, &profiles, now());
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
        let asked = query::lists::members(&self.head.uri).map_err(refused)?;
        let list = state.store.list(id).map_err(refused)?;
        Ok(self.members(&state.store, &list.members, &asked))
    }
}
