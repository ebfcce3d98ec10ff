//! The calls about templates.

use hyper::StatusCode;
use serde_json_borrow::Value;

use super::Received;
use super::calls::{document, none, refused};
use super::{query, refuse};
use crate::check;
use crate::reply::Reply;
use crate::sandbox::State;
use crate::time::now;

impl Received<'_> {
    pub(super) fn create_template(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let draft = check::template(body).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        let template = state.store.create_template(draft, now()).map_err(refused)?;
        Ok(document(StatusCode::CREATED, &template.document(self.api_url())))
    }

    pub(super) fn template(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let template = state.store.template(id).map_err(refused)?;
        Ok(document(StatusCode::OK, &template.document(self.api_url())))
    }
}
