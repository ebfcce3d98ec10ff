//! The calls that change who may be sent to.

use hyper::StatusCode;
use jiff::Timestamp;
use serde_json_borrow::Value;

use super::Received;
use super::calls::{none, refused};
use super::{query, refuse};
use crate::check::{self, ConsentDraft};
use crate::error::ApiError;
use crate::receipts::Ticket;
use crate::reply::Reply;
use crate::sandbox::State;
use crate::time::now;

impl Received<'_> {
    pub(super) fn subscribe(
        &self,
        state: &mut State,
        body: &Value<'_>,
        ticket: Ticket,
    ) -> Result<Reply, Reply> {
        let subscribe = |draft, now| state.store.subscribe(draft, ticket.n, now);
        self.consent(body, check::subscription, subscribe)
    }

    pub(super) fn unsubscribe(
        &self,
        state: &mut State,
        body: &Value<'_>,
        ticket: Ticket,
    ) -> Result<Reply, Reply> {
        let unsubscribe = |draft, now| state.store.unsubscribe(draft, ticket.n, now);
        self.consent(body, check::unsubscription, unsubscribe)
    }

    /// Klaviyo does it a little later; here it is done at once.
    fn consent(
        &self,
        body: &Value<'_>,
        check: fn(&Value<'_>, Timestamp) -> Result<ConsentDraft, Vec<ApiError>>,
        change: impl FnOnce(ConsentDraft, Timestamp) -> Result<(), Vec<ApiError>>,
    ) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let now = now();
        let draft = check(body, now).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, |body| refuse::entries(body, "profiles"), body))?;
        change(draft, now).map_err(|errors| Reply::errors(&errors))?;
        Ok(Reply::empty(StatusCode::ACCEPTED))
    }
}
