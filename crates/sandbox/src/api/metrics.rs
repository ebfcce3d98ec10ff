//! The calls that read metrics.

use hyper::StatusCode;
use serde_json::json;

use super::Received;
use super::calls::{document, page, refused};
use super::query;
use crate::order::Rows;
use crate::reply::Reply;
use crate::sandbox::State;
use crate::store::INTEGRATION;

impl Received<'_> {
    pub(super) fn metrics(&self, state: &State) -> Result<Reply, Reply> {
        let asked = query::lists::metrics(&self.head.uri).map_err(refused)?;
        // All have the one integration, whose category is called like itself.
        let found = state.store.metrics().iter().filter(|_| asked.meets(|_, test| test.text(INTEGRATION)));
        let Rows { rows, last } =
            asked.slice.page_of_few(found.map(|metric| (metric.key(), metric)).collect());
        let data: Vec<_> = rows
            .into_iter()
            .map(|metric| asked.shown.fields.narrow(metric.resource(self.api_url())))
            .collect();
        let links = asked.links(self.api_url(), last.as_ref());
        Ok(page(data, links))
    }

    pub(super) fn metric(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        let shown = query::lists::metric(&self.head.uri).map_err(refused)?;
        let metric = state.store.metric(id).map_err(refused)?;
        let resource = shown.fields.narrow(metric.resource(self.api_url()));
        Ok(document(StatusCode::OK, &json!({"links": resource["links"], "data": resource})))
    }
}
