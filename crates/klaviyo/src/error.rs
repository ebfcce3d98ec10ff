//! How Klaviyo says no: `{"errors": [{"id", "code", "title", "detail", "source"}]}` (spec: `ClientError`).

use serde::Deserialize;

/// One error of an answer. Every part may be missing: an answer may come from something between us and Klaviyo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ApiError {
    /// Klaviyo's id of this very error; what its support asks for.
    pub id: String,
    /// Machine-readable, such as `invalid` or `not_authenticated`.
    pub code: String,
    pub title: String,
    pub detail: String,
    pub source: Source,
    pub meta: Meta,
}

/// What else it says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// The profile that has the identifiers already, of code `duplicate_profile`.
    pub duplicate_profile_id: Option<String>,
}

/// What an error is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Source {
    /// JSON pointer into the request's body.
    pub pointer: Option<String>,
    /// Name of a query parameter.
    pub parameter: Option<String>,
}

impl ApiError {
    /// One line for a person: title, detail and where.
    pub fn reason(&self) -> String {
        let mut text = match (self.title.as_str(), self.detail.as_str()) {
            ("", "") => self.code.clone(),
            ("", detail) => detail.to_owned(),
            (title, "") => title.to_owned(),
            (title, detail) => format!("{} {detail}", with_full_stop(title)),
        };
        if let Some(place) = self.source.pointer.as_ref().or(self.source.parameter.as_ref()) {
            text.push_str(&format!(" (at {place})"));
        }
        text
    }
}

fn with_full_stop(text: &str) -> String {
    if text.ends_with(['.', '!', '?', ':']) { text.to_owned() } else { format!("{text}.") }
}

/// The errors of an answer's body; none where the body is something else.
pub fn errors_of(body: &[u8]) -> Vec<ApiError> {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<ApiError>,
    }
    serde_json::from_slice::<Body>(body).map(|body| body.errors).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_klaviyos_shape_and_survives_any_other() {
        let body = br#"{"errors":[{"id":"7a","status":400,"code":"invalid","title":"Invalid input",
            "detail":"Invalid email address","source":{"pointer":"/data/attributes/email"},"links":{},"meta":{}}]}"#;
        let errors = errors_of(body);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].code, "invalid");
        assert_eq!(errors[0].reason(), "Invalid input. Invalid email address (at /data/attributes/email)");
        for other in [&b"<html>"[..], b"", b"{}", b"{\"errors\":{}}", b"[1]"] {
            assert!(errors_of(other).is_empty());
        }
        assert_eq!(errors_of(b"{\"errors\":[{}]}")[0].reason(), "");
    }
}
