//! The calls about jobs of many entries.

use hyper::StatusCode;
use serde_json_borrow::Value;

use super::Received;
use super::calls::{document, none, not_found, refused};
use super::{query, refuse};
use crate::batches::Item;
use crate::check;
use crate::receipts::Ticket;
use crate::reply::Reply;
use crate::sandbox::State;
use crate::time::now;
use crate::work::Work;

impl Received<'_> {
    /// Makes a job, which does its work in time.
    pub(super) fn start(
        &self,
        state: &mut State,
        body: &Value<'_>,
        work: Work,
        ticket: Ticket,
    ) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let (now_us, now) = (self.sandbox.now_us(), now());
        let entries = check::batch(body, work, now).map_err(|errors| Reply::errors(&errors))?;
        let items = entries.into_iter().map(|entry| Item { entry, refused: None });
        let mut items: Vec<Item> = items.collect();
        match work {
            Work::Suppress | Work::Unsuppress => {
                none(refuse::find(&self.refuse, |body| refuse::entries(body, work.entries()), body))?;
            }
            Work::Codes | Work::Catalog(..) if self.refuse.is_empty() => {}
            Work::Codes | Work::Catalog(..) => {
                for (item, (at, part)) in items.iter_mut().zip(refuse::entries(body, work.entries())) {
                    item.refused = refuse::first(&self.refuse, &part.to_string(), &at);
                }
            }
        }
        let batch = state.batches.create(work, items, ticket.n, now_us, now).map_err(refused)?;
        Ok(document(StatusCode::ACCEPTED, &batch.document(self.api_url())))
    }

    pub(super) fn batches(&self, state: &State, work: Work) -> Result<Reply, Reply> {
        let (page, status) = query::batches(&self.head.uri).map_err(refused)?;
        Ok(document(StatusCode::OK, &state.batches.list(work, status.as_deref(), page, self.api_url())))
    }

    pub(super) fn batch(&self, state: &State, work: Work, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let batch = state.batches.get(work, id);
        let batch = batch.ok_or_else(|| not_found("A job with this id does not exist."))?;
        Ok(document(StatusCode::OK, &batch.document(self.api_url())))
    }
}
