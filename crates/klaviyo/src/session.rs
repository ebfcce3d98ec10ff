//! Whom we speak to and as whom: base URL, revision and private key of one account.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use reqwest::Url;
use reqwest::header::HeaderValue;

/// What stands before the key in the header.
const SCHEME: &str = "Klaviyo-API-Key ";

/// What stands for the key where it must not be seen.
const HIDDEN: &[u8] = b"(private key)";

/// Base URL, revision and key, checked once so that a request cannot fail for their form.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    base_url: Url,
    revision: HeaderValue,
    authorization: HeaderValue,
}

/// Why a session cannot be opened. Never carries the key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SessionError {
    #[error("base URL is not a URL of the form https://host[:port]")]
    BaseUrl,
    #[error("base URL must be https, except for a loopback address")]
    NotHttps,
    #[error("revision is not a date of the form YYYY-MM-DD")]
    Revision,
    #[error("private key is empty or has characters that no key has")]
    Key,
}

impl Session {
    /// Checks the three and keeps them in the form a request needs.
    pub fn new(base_url: &str, revision: &str, private_key: &str) -> Result<Self, SessionError> {
        let base_url = check_base_url(base_url)?;
        if !is_revision(revision) {
            return Err(SessionError::Revision);
        }
        let private_key = private_key.trim();
        if private_key.is_empty() || !private_key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SessionError::Key);
        }
        let mut authorization =
            HeaderValue::try_from(format!("{SCHEME}{private_key}")).map_err(|_| SessionError::Key)?;
        authorization.set_sensitive(true);
        Ok(Self {
            base_url,
            revision: HeaderValue::try_from(revision).map_err(|_| SessionError::Revision)?,
            authorization,
        })
    }

    /// The same for every session that spends the same account's budget, as far as one can tell: the same key at the
    /// same address. Tells nothing of the key.
    pub fn budget(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.base_url, &self.authorization).hash(&mut hasher);
        hasher.finish()
    }

    /// Takes the key out of what came back: an answer that repeats the request ends up in errors, logs and dead letters.
    pub(crate) fn hide_key(&self, text: &mut Vec<u8>) {
        let key = &self.authorization.as_bytes()[SCHEME.len()..];
        let mut from = 0;
        while let Some(at) = text[from..].windows(key.len()).position(|part| part == key) {
            text.splice(from + at..from + at + key.len(), HIDDEN.iter().copied());
            from += at + HIDDEN.len();
        }
    }

    pub(crate) fn is_loopback(&self) -> bool {
        names_loopback(&self.base_url)
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base_url.clone();
        url.set_path(path);
        url
    }

    pub(crate) fn revision(&self) -> &HeaderValue {
        &self.revision
    }

    pub(crate) fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("base_url", &self.base_url.as_str()).finish_non_exhaustive()
    }
}

fn check_base_url(text: &str) -> Result<Url, SessionError> {
    let url = Url::parse(text).map_err(|_| SessionError::BaseUrl)?;
    let plain = matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && url.host_str().is_some();
    match url.scheme() {
        "https" if plain => Ok(url),
        "http" if plain && names_loopback(&url) => Ok(url),
        "http" if plain => Err(SessionError::NotHttps),
        _ => Err(SessionError::BaseUrl),
    }
}

/// Whether a base URL names this machine itself: `localhost`, 127.0.0.0/8 or ::1.
pub fn is_loopback(base_url: &str) -> bool {
    Url::parse(base_url).is_ok_and(|url| names_loopback(&url))
}

fn names_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// `YYYY-MM-DD`, as the header asks (spec: parameter `revision`; suffixes are for betas, which are not used).
fn is_revision(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10
        && bytes
            .iter()
            .enumerate()
            .all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(base_url: &str) -> Result<Session, SessionError> {
        Session::new(base_url, crate::REVISION, "pk_test")
    }

    #[test]
    fn https_is_required_except_for_loopback() {
        assert!(open("https://a.klaviyo.com").is_ok());
        for url in ["http://127.0.0.1:8080", "http://[::1]:1", "http://localhost:9/"] {
            assert!(open(url).is_ok(), "{url}");
        }
        assert_eq!(open("http://a.klaviyo.com"), Err(SessionError::NotHttps));
        assert_eq!(open("http://127.0.0.1.evil.example"), Err(SessionError::NotHttps));
        assert_eq!(open("http://localhost.evil.example"), Err(SessionError::NotHttps));
        for url in
            ["", "klaviyo", "ftp://127.0.0.1", "https://a/b", "https://u:p@a", "https://a?x", "file:///etc"]
        {
            assert_eq!(open(url), Err(SessionError::BaseUrl), "{url}");
        }
    }

    #[test]
    fn revision_and_key_cannot_carry_a_header() {
        let url = crate::BASE_URL;
        assert_eq!(Session::new(url, "2026-07-15\r\nx: y", "pk_a"), Err(SessionError::Revision));
        assert_eq!(Session::new(url, "2026-7-15", "pk_a"), Err(SessionError::Revision));
        assert_eq!(Session::new(url, crate::REVISION, "pk_a\r\nx: y"), Err(SessionError::Key));
        assert_eq!(Session::new(url, crate::REVISION, " \n"), Err(SessionError::Key));
        assert!(Session::new(url, crate::REVISION, "pk_a\n").is_ok(), "a key file ends in a newline");
    }

    #[test]
    fn a_key_that_comes_back_is_taken_out() {
        let hidden = |key: &str, text: &str| {
            let session = Session::new(crate::BASE_URL, crate::REVISION, key).expect("a session");
            let mut text = text.as_bytes().to_vec();
            session.hide_key(&mut text);
            String::from_utf8(text).expect("text")
        };
        let text = "pk_a1 is no key; pk_a1pk_a1";
        assert_eq!(hidden("pk_a1", text), "(private key) is no key; (private key)(private key)");
        assert_eq!(hidden("pk_b", text), text);
        assert_eq!(hidden("e", "e"), "(private key)", "what stands for it may contain it");
        assert_eq!(hidden("pk_a1", ""), "");
    }

    #[test]
    fn debug_hides_the_key() {
        let session = open(crate::BASE_URL).expect("a session");
        assert!(!format!("{session:?}").contains("pk_test"));
    }
}
