//! The calls that read segments, and who is in them.

use hyper::StatusCode;
use serde_json::json;

use super::Received;
use super::calls::{document, page, refused};
use super::query;
use crate::order::Rows;
use crate::reply::Reply;
use crate::sandbox::State;

impl Received<'_> {
    pub(super) fn segments(&self, state: &State) -> Result<Reply, Reply> {
        let asked = query::lists::segments(&self.head.uri).map_err(refused)?;
        let segments = state.store.segments().iter().filter(|segment| {
            asked.meets(|field, test| match field {
                "id" => test.text(&segment.id),
                "name" => test.text(&segment.name),
                "is_active" => test.flag(segment.is_active),
                "is_starred" => test.flag(false),
                _ => test.time(Some(segment.created)),
            })
        });
        let field = asked.slice.order.field;
        let Rows { rows, last } =
            asked.slice.page_of_few(segments.map(|segment| (segment.key(field), segment)).collect());
        let data =
            rows.into_iter().map(|segment| asked.shown.fields.narrow(segment.resource(self.api_url())));
        Ok(page(data.collect(), asked.links(self.api_url(), last.as_ref())))
    }

    pub(super) fn segment(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        let shown = query::lists::segment(&self.head.uri).map_err(refused)?;
        let segment = state.store.segment(id).map_err(refused)?;
        let resource = shown.fields.narrow(segment.resource(self.api_url()));
        Ok(document(StatusCode::OK, &json!({"links": resource["links"], "data": resource})))
    }

    pub(super) fn segment_members(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        let asked = query::lists::segment_members(&self.head.uri).map_err(refused)?;
        let segment = state.store.segment(id).map_err(refused)?;
        Ok(self.members(&state.store, &segment.members, &asked))
    }
}
