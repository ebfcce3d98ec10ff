//! Answers on their way out, whole or broken off half-way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::time::Sleep;

use crate::error::{self, ApiError};

/// JSON:API's media type, which Klaviyo answers with.
pub const JSON_API: &str = "application/vnd.api+json";

/// What the head of a half answer promises when there is no body to halve, in bytes.
const EMPTY_BODY_PROMISE: usize = 64;

/// How long the first half of an answer has to leave before the connection ends. HTTP/2 throws away what is still
/// queued when a stream is reset.
const HALF_LEAVES: Duration = Duration::from_millis(20);

/// An answer before it becomes a response.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    content_type: Option<&'static str>,
    pub body: Bytes,
}

impl Reply {
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), content_type: None, body: Bytes::new() }
    }

    pub fn with_body(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), content_type: Some(content_type), body: body.into() }
    }

    /// Klaviyo's error body; the status is the first error's.
    pub fn errors(errors: &[ApiError]) -> Self {
        let status = errors.first().map_or(StatusCode::INTERNAL_SERVER_ERROR, |error| error.status);
        Self::with_body(status, JSON_API, error::body(errors))
    }

    pub fn header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The head promises the whole body; half of it comes, then the connection (or HTTP/2 stream) ends.
    pub fn half(mut self) -> Response {
        let body = std::mem::take(&mut self.body);
        let promised = if body.is_empty() { EMPTY_BODY_PROMISE } else { body.len() };
        let mut response = self.into_response();
        response.headers_mut().insert(CONTENT_LENGTH, promised.into());
        let first = body.slice(..body.len() / 2);
        *response.body_mut() = Body::new(HalfBody {
            first: Some(first).filter(|first| !first.is_empty()),
            end: Box::pin(tokio::time::sleep(HALF_LEAVES)),
        });
        response
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body.into());
        *response.status_mut() = self.status;
        if let Some(content_type) = self.content_type {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        response.headers_mut().extend(self.headers);
        response
    }
}

/// Ends the connection or stream without (more of) an answer.
#[derive(Clone, Copy, Debug)]
pub struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off on purpose")
    }
}

impl std::error::Error for BrokenOff {}

impl IntoResponse for BrokenOff {
    /// Marks a response that must not be sent.
    fn into_response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(self);
        response
    }
}

struct HalfBody {
    first: Option<Bytes>,
    end: Pin<Box<Sleep>>,
}

impl HttpBody for HalfBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        ready!(self.end.as_mut().poll(context));
        Poll::Ready(Some(Err(BrokenOff)))
    }
}
