//! What Klaviyo would do with a request.

use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use jiff::civil::{Date, date};

use super::Received;
use super::calls::refused;
use crate::call::Call;
use crate::error::{ApiError, WHOLE_BODY};
use crate::rates::Steady;
use crate::receipts::Ticket;
use crate::reply::{JSON_API, Reply};
use crate::sandbox::State;
use crate::uri::decoded;

/// Revisions before this one are retired. Klaviyo supports a revision for two years.
const OLDEST_REVISION: Date = date(2024, 1, 1);

impl Received<'_> {
    /// Klaviyo's own order: the path, the key, the revision, the rate windows, and only then the body. So a bad body
    /// costs budget and a bad key does not. An answer is an `Ok` if the request's effect is in the store.
    pub(super) fn perform(&self, state: &mut State, ticket: Ticket) -> Result<Reply, Reply> {
        let path = self.head.uri.path();
        let unknown = || refused(ApiError::not_found(format!("There is no {path}.")));
        let (call, id) = Call::at(&self.head.method, path).ok_or_else(unknown)?;
        if self.head.method != call.method() {
            return Err(not_allowed(&self.head.method, path));
        }
        let key = self.authenticate().map_err(refused)?;
        self.check_revision().map_err(refused)?;
        let steady = match state.rates.admit(key, call, self.sandbox.now_us()) {
            Some(Err(seconds)) => {
                return Err(refused(ApiError::throttled(seconds)).header(RETRY_AFTER, seconds));
            }
            Some(Ok(steady)) => Some(steady),
            None => None,
        };
        match self.answer(state, call, &decoded(id), ticket) {
            Ok(reply) => Ok(with_rate_headers(reply, steady)),
            Err(reply) => Err(with_rate_headers(reply, steady)),
        }
    }

    fn authenticate(&self) -> Result<&str, ApiError> {
        let refused = |code, title: &'static str| ApiError::new(StatusCode::UNAUTHORIZED, code, title, title);
        if !self.head.headers.contains_key(AUTHORIZATION) {
            return Err(refused("not_authenticated", "Authentication credentials were not provided."));
        }
        let keys = &self.sandbox.settings.keys;
        let is_known = |key: &&str| match keys.is_empty() {
            true => key.starts_with("pk_"),
            false => keys.iter().any(|known| known == key),
        };
        key(&self.head)
            .filter(is_known)
            .ok_or_else(|| refused("authentication_failed", "Incorrect authentication credentials."))
    }

    /// The `revision` header is a date, with or without a suffix (`YYYY-MM-DD[.suffix]`).
    fn check_revision(&self) -> Result<(), ApiError> {
        let invalid = |detail: &str| ApiError::invalid(WHOLE_BODY, detail);
        let header = self.head.headers.get("revision");
        let text =
            header.ok_or_else(|| invalid("The revision header is required."))?.to_str().unwrap_or_default();
        let (date, _) = text.split_once('.').unwrap_or((text, ""));
        // jiff also reads 20260715 and dates with a time.
        let date = Some(date).filter(|date| date.len() == 10).and_then(|date| date.parse::<Date>().ok());
        let date = date.ok_or_else(|| invalid("The revision header must be a date (YYYY-MM-DD)."))?;
        if date < OLDEST_REVISION {
            let detail = format!("Revision {date} is retired.");
            return Err(ApiError { code: "revision_retired".to_owned(), ..invalid(&detail) });
        }
        Ok(())
    }

    pub(super) fn check_content_type(&self) -> Result<(), ApiError> {
        let header =
            self.head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = header.split(';').next().unwrap_or_default().trim();
        if [JSON_API, "application/json"].iter().any(|known| media_type.eq_ignore_ascii_case(known)) {
            return Ok(());
        }
        Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "Unsupported media type.",
            format!("Unsupported media type \"{media_type}\" in request."),
        ))
    }
}

/// The refusal of a method that the path does not take, with those that it does.
fn not_allowed(method: &Method, path: &str) -> Reply {
    let (title, detail) = ("Method not allowed.", format!("Method \"{method}\" not allowed."));
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", title, detail);
    let reply = refused(error);
    let methods = Call::methods_at(path);
    let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
    match HeaderValue::try_from(allowed.join(", ")) {
        Ok(allowed) => reply.header(ALLOW, allowed),
        // The names of methods can always stand in a header.
        Err(_) => reply,
    }
}

/// The private key that the request carries, known or not.
pub(super) fn key(head: &Parts) -> Option<&str> {
    let (scheme, key) = head.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Klaviyo-API-Key").then(|| key.trim())
}

pub(super) fn with_rate_headers(reply: Reply, steady: Option<Steady>) -> Reply {
    let Some(Steady { limit, remaining, reset_s }) = steady else { return reply };
    reply
        .header(HeaderName::from_static("ratelimit-limit"), limit)
        .header(HeaderName::from_static("ratelimit-remaining"), remaining)
        .header(HeaderName::from_static("ratelimit-reset"), reset_s)
}

pub(super) fn too_large(limit: usize) -> Reply {
    Reply::errors(&[too_large_error(limit)])
}

pub(super) fn too_large_error(limit: usize) -> ApiError {
    let detail = format!("The request body has more than {limit} bytes.");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "Payload too large.", detail)
}
