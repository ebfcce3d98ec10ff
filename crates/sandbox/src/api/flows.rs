//! The calls that read flows.

use hyper::StatusCode;
use serde_json::json;

use super::Received;
use super::calls::{document, page, refused};
use super::query;
use crate::order::Rows;
use crate::reply::Reply;
use crate::sandbox::State;

impl Received<'_> {
    pub(super) fn flows(&self, state: &State) -> Result<Reply, Reply> {
        let asked = query::lists::flows(&self.head.uri).map_err(refused)?;
        let flows = state.flows.all().iter().filter(|flow| {
            asked.meets(|field, test| match field {
                "id" => test.text(&flow.id),
                "name" => test.text(&flow.draft.name),
                "status" => test.text(&flow.draft.status),
                "trigger_type" => test.text(&flow.draft.trigger_type),
                "archived" => test.flag(false),
                _ => test.time(Some(flow.created)),
            })
        });
        let field = asked.slice.order.field;
        let Rows { rows, last } =
            asked.slice.page_of_few(flows.map(|flow| (flow.key(field), flow)).collect());
        let data = rows.into_iter().map(|flow| asked.shown.fields.narrow(flow.resource(self.api_url())));
        Ok(page(data.collect(), asked.links(self.api_url(), last.as_ref())))
    }

    pub(super) fn flow(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        let shown = query::lists::flow(&self.head.uri).map_err(refused)?;
        let flow = state.flows.get(id).map_err(refused)?;
        let resource = shown.fields.narrow(flow.resource(self.api_url()));
        Ok(document(StatusCode::OK, &json!({"links": resource["links"], "data": resource})))
    }
}
