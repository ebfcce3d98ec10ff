//! Errors in the shape of Klaviyo's API: `{"errors": [{id, code, title, detail, source, …}]}`.
//!
//! `id`, `code`, `title` and `detail` are required by `components/responses/ClientError` of Klaviyo's OpenAPI
//! document; `status`, `links` and `meta` are what its answers carry besides.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

/// Where an error points when it is about no field in particular.
pub const WHOLE_BODY: &str = "/data";

/// One error object.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    pub status: StatusCode,
    /// Klaviyo's machine-readable code, such as `invalid` or `throttled`.
    pub code: String,
    pub title: &'static str,
    pub detail: String,
    /// JSON pointer into the request body, or the name of a query parameter.
    pub pointer: String,
    /// Whether it is the latter.
    pub in_query: bool,
    /// The profile that has the identifiers already, for `duplicate_profile`.
    pub duplicate_profile_id: Option<String>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            title,
            detail: detail.into(),
            pointer: WHOLE_BODY.to_owned(),
            in_query: false,
            duplicate_profile_id: None,
        }
    }

    /// A field that is missing, of the wrong type or over a limit.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", "Invalid input.", detail).at(pointer)
    }

    /// What there is not.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found.", detail)
    }

    /// What there is already.
    pub fn duplicate(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "duplicate", "Conflict.", detail)
    }

    /// The limit of a rate window is reached; `seconds` is what Retry-After says.
    pub fn throttled(seconds: u64) -> Self {
        let unit = if seconds == 1 { "second" } else { "seconds" };
        let detail = format!("Request was throttled. Expected available in {seconds} {unit}.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "throttled", "Request was throttled.", detail)
    }

    pub fn at(self, pointer: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), ..self }
    }

    /// An error about a part of a body, whose pointer began there, in the body that has the part at this place.
    pub fn under(self, part: &str) -> Self {
        Self { pointer: format!("{part}{}", self.pointer), ..self }
    }

    /// A query parameter that is unknown or wrong.
    pub fn parameter(name: &str, detail: impl Into<String>) -> Self {
        Self { in_query: true, ..Self::invalid(name, detail) }
    }

    fn object(&self) -> Value {
        let source = if self.in_query { "parameter" } else { "pointer" };
        let meta = match &self.duplicate_profile_id {
            Some(id) => json!({"duplicate_profile_id": id}),
            None => json!({}),
        };
        json!({
            "id": random_uuid(),
            "status": self.status.as_u16(),
            "code": self.code,
            "title": self.title,
            "detail": self.detail,
            "source": {source: self.pointer},
            "links": {},
            "meta": meta,
        })
    }
}

/// The body of an answer that carries these errors.
pub fn body(errors: &[ApiError]) -> Bytes {
    let errors: Vec<Value> = errors.iter().map(ApiError::object).collect();
    Bytes::from(json!({ "errors": errors }).to_string())
}

fn random_uuid() -> String {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid().to_string()
}
