//! What is asked of Klaviyo in one call.

use reqwest::Url;

use crate::{Endpoint, Session};

/// One call's request, but for the account it is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) endpoint: &'static Endpoint,
    target: Target,
    query: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

/// Where at the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// At what has this id, where the path has a place for it.
    Id(String),
    /// At this path and query, as somebody has written them.
    Written(String),
}

impl Request {
    /// Brings a body.
    pub fn post(endpoint: &'static Endpoint, body: Vec<u8>) -> Self {
        Self::to(endpoint, "", body)
    }

    /// Brings a body to what has this id.
    pub fn to(endpoint: &'static Endpoint, id: &str, body: Vec<u8>) -> Self {
        Self { endpoint, target: Target::Id(id.to_owned()), query: Vec::new(), body }
    }

    /// Brings a body, or none, to a path of the endpoint with its query, both as they are written in an address: what may
    /// not stand in one is encoded, and all else left alone.
    pub fn at(endpoint: &'static Endpoint, written: &str, body: Vec<u8>) -> Self {
        Self { endpoint, target: Target::Written(written.to_owned()), query: Vec::new(), body }
    }

    /// Asks for what has this id, or for a list of them where the path has no place for one.
    pub fn get(endpoint: &'static Endpoint, id: &str) -> Self {
        Self::to(endpoint, id, Vec::new())
    }

    /// With a parameter.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// What it brings; nothing where it only asks.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn url(&self, session: &Session) -> Url {
        let id = match &self.target {
            Target::Id(id) => id.as_str(),
            Target::Written(written) => {
                let (path, query) = written
                    .split_once('?')
                    .map_or((written.as_str(), None), |(path, query)| (path, Some(query)));
                let mut url = session.url(path);
                url.set_query(query);
                return url;
            }
        };
        let mut url = session.url("");
        if let Ok(mut segments) = url.path_segments_mut() {
            let parts = self.endpoint.path.trim_start_matches('/').split('/');
            segments.clear().extend(parts.map(|part| if part.starts_with('{') { id } else { part }));
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CREATE_EVENT, GET_IMPORT_ERRORS, GET_PROFILES};

    #[test]
    fn ids_and_parameters_stand_in_the_address() {
        let session = Session::new("http://127.0.0.1:1", crate::REVISION, "pk_test").expect("a session");
        let url = |request: Request| request.url(&session).to_string();
        assert_eq!(url(Request::post(&CREATE_EVENT, Vec::new())), "http://127.0.0.1:1/api/events");
        let request = Request::get(&GET_IMPORT_ERRORS, "a/b?c").with("page[cursor]", "x&y");
        assert_eq!(
            url(request),
            "http://127.0.0.1:1/api/profile-bulk-import-jobs/a%2Fb%3Fc/import-errors?page%5Bcursor%5D=x%26y"
        );
        let written = "/api/profiles?filter=equals(email,\"a%2Bb@c.example\")&page[size]=1";
        assert_eq!(
            url(Request::at(&GET_PROFILES, written, Vec::new())),
            "http://127.0.0.1:1/api/profiles?filter=equals(email,%22a%2Bb@c.example%22)&page[size]=1"
        );
        assert_eq!(
            url(Request::at(&GET_PROFILES, "/api/profiles", Vec::new())),
            "http://127.0.0.1:1/api/profiles"
        );
    }
}
