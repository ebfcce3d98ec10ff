//! The preflight of an account: may its key make every call we need? Each endpoint is called once, with an empty object
//! for a body or for what there is not. Klaviyo looks at the key and its scopes first, so a key that may make the call is
//! told that the body is no good, or that there is no such thing, and nothing comes of it.

use std::collections::VecDeque;

use klaviyo::{ENDPOINTS, Endpoint, Method, Request};

use crate::message::Failure;
use crate::verdict::Verdict;

/// A call that does nothing: with a body that no endpoint takes, or about what there is not.
pub fn request(endpoint: &'static Endpoint) -> Request {
    match endpoint.method {
        Method::Post | Method::Patch | Method::Delete => Request::to(endpoint, "preflight", b"{}".to_vec()),
        Method::Get if endpoint.path.contains('{') => Request::get(endpoint, "preflight"),
        // There may be some of these; no more of them than need be come back.
        Method::Get => Request::get(endpoint, "").with("page[size]", "1"),
    }
}

/// What one call of the preflight found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub endpoint: &'static Endpoint,
    pub allowed: Allowed,
    /// What Klaviyo said, where it did not come to the body.
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    Yes,
    /// Klaviyo refuses the key or this use of it.
    No,
    /// No answer, or one that does not tell.
    Unknown,
}

impl Allowed {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yes => "allowed",
            Self::No => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// A preflight under way, or none.
#[derive(Default)]
pub struct Preflight {
    lanes: VecDeque<usize>,
    found: Vec<Finding>,
}

impl Preflight {
    /// Begins anew. Of calls still under way the answers are as good.
    pub fn begin(&mut self) {
        self.lanes = (0..ENDPOINTS.len()).collect();
        self.found.clear();
    }

    /// The lane of the next call. Asked again it is the same, until [`Preflight::started`].
    pub fn next(&self) -> Option<usize> {
        self.lanes.front().copied()
    }

    pub fn started(&mut self) {
        self.lanes.pop_front();
    }

    /// A call has ended. Once all have, what was found.
    pub fn ended(&mut self, endpoint: &'static Endpoint, verdict: Verdict) -> Option<Vec<Finding>> {
        let (allowed, failure) = match verdict {
            Verdict::Accepted { .. } | Verdict::Refused { .. } => (Allowed::Yes, None),
            Verdict::Stopped { failure, .. } => (Allowed::No, Some(failure)),
            Verdict::Throttled { failure, .. } | Verdict::Trouble { failure, .. } => {
                (Allowed::Unknown, Some(failure))
            }
        };
        self.found.retain(|finding| finding.endpoint != endpoint);
        self.found.push(Finding { endpoint, allowed, failure });
        (self.found.len() == ENDPOINTS.len()).then(|| std::mem::take(&mut self.found))
    }

    /// The account can make no calls.
    pub fn abandon(&mut self) {
        self.lanes.clear();
    }
}
