//! Answers on their way out, whole or broken off half-way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
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

    pub fn whole(self) -> Response<ReplyBody> {
        let (mut response, body) = self.into_parts();
        *response.body_mut() = ReplyBody::Whole(Some(body).filter(|body| !body.is_empty()));
        response
    }

    /// The head promises the whole body; half of it comes, then the connection (or HTTP/2 stream) ends.
    pub fn half(self) -> Response<ReplyBody> {
        let (mut response, body) = self.into_parts();
        let promised = if body.is_empty() { EMPTY_BODY_PROMISE } else { body.len() };
        response.headers_mut().insert(CONTENT_LENGTH, promised.into());
        let first = body.slice(..body.len() / 2);
        *response.body_mut() = ReplyBody::Half {
            first: Some(first).filter(|first| !first.is_empty()),
            end: Box::pin(tokio::time::sleep(HALF_LEAVES)),
        };
        response
    }

    fn into_parts(self) -> (Response<ReplyBody>, Bytes) {
        let mut response = Response::new(ReplyBody::Whole(None));
        *response.status_mut() = self.status;
        if let Some(content_type) = self.content_type {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        response.headers_mut().extend(self.headers);
        (response, self.body)
    }
}

/// The body of every response.
pub enum ReplyBody {
    Whole(Option<Bytes>),
    Half { first: Option<Bytes>, end: Pin<Box<Sleep>> },
}

/// Tells hyper to end the connection or stream without (more of) an answer.
#[derive(Debug)]
pub struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off on purpose")
    }
}

impl std::error::Error for BrokenOff {}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Half { first, end } => {
                if let Some(first) = first.take() {
                    return Poll::Ready(Some(Ok(Frame::data(first))));
                }
                ready!(end.as_mut().poll(context));
                Poll::Ready(Some(Err(BrokenOff)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Self::Half { .. } => SizeHint::default(),
        }
    }
}
