//! The calls that change who may be sent to.

use hyper::StatusCode;
use jiff::Timestamp;
use serde_json_borrow::Value;

use super::Received;
use super::calls::{document, none, not_found, refused};
use super::{query, refuse};
use crate::check::{self, ConsentDraft};
use crate::error::ApiError;
use crate::receipts::Ticket;
use crate::reply::Reply;
use crate::sandbox::State;
use crate::suppressions::Work;

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
        let now = Timestamp::now();
        let draft = check(body, now).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::profiles, body))?;
        change(draft, now).map_err(|errors| Reply::errors(&errors))?;
        Ok(Reply::empty(StatusCode::ACCEPTED))
    }

    /// A job, and so done in time.
    pub(super) fn suppression(
        &self,
        state: &mut State,
        body: &Value<'_>,
        work: Work,
        ticket: Ticket,
    ) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let emails = check::suppression(body, work.resource()).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::profiles, body))?;
        let (now_us, now) = (self.sandbox.now_us(), Timestamp::now());
        let job = state.suppressions.create(work, emails, ticket.n, now_us, now);
        Ok(document(StatusCode::ACCEPTED, &job.document(&self.sandbox.settings.api_url)))
    }

    pub(super) fn suppression_job(&self, state: &State, work: Work, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let job = state.suppressions.get(work, id);
        let job = job.ok_or_else(|| not_found("A job with this id does not exist."))?;
        Ok(document(StatusCode::OK, &job.document(&self.sandbox.settings.api_url)))
    }
}
