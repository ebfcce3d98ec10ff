//! Which path is what.

use std::fmt;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use tokio::sync::oneshot;

/// What webhooks are posted to, and the account after it.
const WEBHOOKS: &str = "/webhooks/klaviyo/";
const HEALTH: &str = "/health";
const METRICS: &str = "/metrics";

/// When to come again, in seconds, who cannot be served now.
const AGAIN: HeaderValue = HeaderValue::from_static("5");

/// What somebody wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Wants {
    /// To hand in a webhook's request for an account.
    Webhook { account: String, headers: Vec<(String, String)>, body: Bytes },
    /// To know how delivery stands.
    Health,
    /// Figures, as Prometheus reads them.
    Metrics,
}

/// A request, to be answered.
pub struct Incoming {
    /// What is wanted.
    pub wants: Wants,
    /// Takes the answer. Where that fails whoever asked has gone away.
    pub reply: oneshot::Sender<Reply>,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("wants", &self.wants).finish_non_exhaustive()
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Of the body.
    pub content_type: &'static str,
    /// What it says.
    pub body: String,
}

impl Reply {
    /// A few words.
    pub fn text(status: u16, words: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{words}\n") }
    }

    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if self.status == 503 {
            headers.insert(RETRY_AFTER, AGAIN);
        }
        response
    }
}

/// A path that there is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Webhook(String),
    Health,
    Metrics,
}

impl Path {
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            HEALTH => Some(Self::Health),
            METRICS => Some(Self::Metrics),
            _ => {
                let account =
                    path.strip_prefix(WEBHOOKS).filter(|rest| !rest.is_empty() && !rest.contains('/'))?;
                Some(Self::Webhook(percent_decode_str(account).decode_utf8().ok()?.into_owned()))
            }
        }
    }

    /// The refusal of a method that it does not take.
    pub(crate) fn refusal(&self, method: &Method) -> Option<Response<Full<Bytes>>> {
        let (takes, allowed) = match self {
            Self::Webhook(_) => (method == Method::POST, "POST"),
            Self::Health | Self::Metrics => (method == Method::GET || method == Method::HEAD, "GET, HEAD"),
        };
        if takes {
            return None;
        }
        let mut refusal = Reply::text(405, "method not allowed").into_response();
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        Some(refusal)
    }
}

/// Headers by their names, in lower case. One that is no text is left out: none of Klaviyo's is that.
pub(crate) fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |(name, value): (&hyper::header::HeaderName, &HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    headers.iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_few() {
        assert_eq!(Path::of("/health"), Some(Path::Health));
        assert_eq!(Path::of("/metrics"), Some(Path::Metrics));
        assert_eq!(Path::of("/webhooks/klaviyo/my%20shop"), Some(Path::Webhook("my shop".to_owned())));
        for none in [
            "/",
            "",
            "/healthz",
            "/health/",
            "/webhooks/klaviyo",
            "/webhooks/klaviyo/",
            "/webhooks/klaviyo/a/b",
            "/webhooks/klaviyo/%ff",
        ] {
            assert_eq!(Path::of(none), None, "{none}");
        }
    }

    #[test]
    fn each_takes_its_methods() {
        let status =
            |path: Path, method: Method| path.refusal(&method).map(|refusal| refusal.status().as_u16());
        assert_eq!(status(Path::Webhook("a".to_owned()), Method::POST), None);
        assert_eq!(status(Path::Webhook("a".to_owned()), Method::GET), Some(405));
        assert_eq!(status(Path::Health, Method::HEAD), None);
        assert_eq!(status(Path::Metrics, Method::DELETE), Some(405));
    }
}
