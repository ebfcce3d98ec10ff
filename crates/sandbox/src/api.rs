//! Requests to the API: read to the end, written down, and then treated as a fault says or as Klaviyo would.

mod batches;
mod calls;
mod campaigns;
mod catalog;
mod consent;
mod coupons;
mod events;
mod flows;
mod klaviyo;
mod lists;
mod metrics;
mod profiles;
mod query;
mod refuse;
mod reports;
mod segments;
mod templates;
mod webhooks;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use bytes::{Buf, BufMut, Bytes};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::header::RETRY_AFTER;
use hyper::http::request::Parts;

use crate::call::Call;
use crate::connection::Connection;
use crate::error::{ApiError, WHOLE_BODY};
use crate::faults::{Kind, Plan, Rule};
use crate::receipts::{Outcome, Ticket};
use crate::reply::{BrokenOff, Reply};
use crate::sandbox::Sandbox;
use klaviyo::{key, too_large, with_rate_headers};

/// How much of a body is read at all, in bytes. Above a call's own limit, so that what is a little too large still
/// gets a receipt and an orderly 413.
const READ_LIMIT: usize = 16 * 1024 * 1024;

const LATENCY: &str = Kind::Latency.name();
const REFUSE: &str = Kind::Refuse.name();

/// Every path that is not the sandbox's own. One handler for all: what Klaviyo does not know gets a receipt and its
/// faults like any other request.
pub fn routes(sandbox: &Arc<Sandbox>) -> Router {
    Router::new().fallback(handle).with_state(Arc::clone(sandbox))
}

/// Answers a request, or does what a fault says instead.
async fn handle(
    State(sandbox): State<Arc<Sandbox>>,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Result<Response, BrokenOff> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, READ_LIMIT).collect().await {
        Ok(body) => exact(body.aggregate()),
        Err(error) if error.is::<LengthLimitError>() => return Ok(too_large(READ_LIMIT).into_response()),
        Err(_) => return Err(BrokenOff),
    };
    let at_us = sandbox.now_us();
    let mut request = Received { at_us, sandbox: &sandbox, head, body, refuse: Vec::new() };
    let (ticket, plan) = request.arrive(connection.number);
    if !plan.delay.is_zero() {
        tokio::time::sleep(plan.delay).await;
    }
    let Some(rule) = plan.fault else {
        let passing = match (request.refuse.is_empty(), plan.delay.is_zero()) {
            (false, _) => Some(REFUSE),
            (true, false) => Some(LATENCY),
            (true, true) => None,
        };
        return Ok(request.settle(ticket, passing, Answered::Yes).into_response());
    };
    let fault = Some(rule.kind.name());
    match rule.kind {
        Kind::Status | Kind::Throttle | Kind::Malformed => {
            let reply = request.injected(&rule);
            request.close(ticket, Some(reply.status), fault, false);
            Ok(reply.into_response())
        }
        Kind::Half => Ok(request.settle(ticket, fault, Answered::Yes).half()),
        Kind::ResetBefore | Kind::ResetAfter => {
            request.fall_silent(ticket, rule.kind);
            connection.reset();
            pending().await
        }
        Kind::Hang | Kind::HangAfter => {
            request.fall_silent(ticket, rule.kind);
            hang(rule.duration()).await;
            Err(BrokenOff)
        }
        // They only ever add to the plan, and decide nothing.
        Kind::Latency | Kind::Refuse => Ok(request.settle(ticket, fault, Answered::Yes).into_response()),
    }
}

/// A body in memory of its own: what the connection reads into is larger, and a receipt would keep all of it.
fn exact(body: impl Buf) -> Bytes {
    let mut bytes = Vec::with_capacity(body.remaining());
    bytes.put(body);
    bytes.into()
}

/// Never ends, or after a duration.
async fn hang(duration: Option<Duration>) {
    match duration {
        None => pending().await,
        Some(duration) => tokio::time::sleep(duration).await,
    }
}

/// Whether the client gets to see the status.
#[derive(PartialEq)]
enum Answered {
    Yes,
    No,
}

/// A request that was read to its end.
struct Received<'a> {
    sandbox: &'a Sandbox,
    head: Parts,
    body: Bytes,
    at_us: u64,
    /// The rules by which parts of it are refused.
    refuse: Vec<Rule>,
}

impl Received<'_> {
    /// Writes the receipt and throws the faults' dice.
    fn arrive(&mut self, connection: u64) -> (Ticket, Plan) {
        let mut state = self.sandbox.state();
        let ticket = state.receipts.open(self.at_us, connection, &self.head, key(&self.head), &self.body);
        let mut plan = state.faults.pick(&self.head.method, self.head.uri.path(), &self.body);
        self.refuse = std::mem::take(&mut plan.refuse);
        (ticket, plan)
    }

    /// Does what Klaviyo would, and writes it down.
    fn settle(&self, ticket: Ticket, fault: Option<&'static str>, answered: Answered) -> Reply {
        let mut state = self.sandbox.state();
        if !state.receipts.is_current(ticket) {
            // It waited across a reset of the sandbox, whose store must not fill with what came before.
            return Reply::errors(&[ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "service_unavailable",
                "Service unavailable.",
                "klaviyo-sandbox was reset while this request waited.",
            )]);
        }
        let (reply, accepted) = match self.perform(&mut state, ticket) {
            Ok(reply) => (reply, true),
            Err(reply) => (reply, false),
        };
        let status = (answered == Answered::Yes).then_some(reply.status.as_u16());
        state.receipts.close(ticket, Outcome { status, fault, accepted });
        reply
    }

    /// For faults that give no answer: stores if the fault does, and writes down that nothing was said.
    fn fall_silent(&self, ticket: Ticket, kind: Kind) {
        if matches!(kind, Kind::ResetAfter | Kind::HangAfter) {
            self.settle(ticket, Some(kind.name()), Answered::No);
        } else {
            self.close(ticket, None, Some(kind.name()), false);
        }
    }

    fn api_url(&self) -> &str {
        &self.sandbox.settings.api_url
    }

    fn close(&self, ticket: Ticket, status: Option<StatusCode>, fault: Option<&'static str>, accepted: bool) {
        let status = status.map(|status| status.as_u16());
        self.sandbox.state().receipts.close(ticket, Outcome { status, fault, accepted });
    }

    /// The answer that a rule makes up. It leaves the rate windows alone, so that a rule's effect does not depend on
    /// them.
    fn injected(&self, rule: &Rule) -> Reply {
        if rule.kind == Kind::Malformed {
            let page = "<!DOCTYPE html><html><head><title>Server Error</title></head><body>{\"errors\": [";
            return Reply::with_body(rule.status(), "text/html; charset=utf-8", page);
        }
        let throttle = rule.kind == Kind::Throttle;
        let retry_after = rule.retry_after.or(throttle.then_some(1));
        let mut error = match throttle {
            true => ApiError::throttled(retry_after.unwrap_or_default()),
            false => made_up(rule.status()),
        };
        error.code = rule.code.clone().unwrap_or(error.code);
        error.detail = rule.detail.clone().unwrap_or(error.detail);
        error.pointer = rule.pointer.clone().unwrap_or(error.pointer);
        let reply = Reply::errors(&[error]);
        let reply = match retry_after {
            Some(seconds) => reply.header(RETRY_AFTER, seconds),
            None => reply,
        };
        match (reply.status, Call::at(&self.head.method, self.head.uri.path()), key(&self.head)) {
            (StatusCode::TOO_MANY_REQUESTS, _, _) | (_, None, _) | (_, _, None) => reply,
            (_, Some((call, _)), Some(key)) => {
                let steady = self.sandbox.state().rates.look(key, call, self.sandbox.now_us());
                with_rate_headers(reply, steady)
            }
        }
    }
}

/// An error for a status that a fault asks for: `invalid` for 400, else the status' own name.
fn made_up(status: StatusCode) -> ApiError {
    if status == StatusCode::BAD_REQUEST {
        return ApiError::invalid(WHOLE_BODY, "A fault of klaviyo-sandbox.");
    }
    let title = status.canonical_reason().unwrap_or("Error");
    let code = title.to_lowercase().replace([' ', '-'], "_");
    ApiError::new(status, &code, title, "A fault of klaviyo-sandbox.")
}
