//! The API calls that the sandbox knows, with the limits that Klaviyo publishes for each.

use hyper::Method;

/// One of Klaviyo's API calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Call {
    /// `POST /api/events`: one event.
    Events,
    /// `POST /api/profile-import`: create or update one profile.
    ProfileImport,
}

/// How many requests each of the two fixed windows of a call allows, for one account.
/// Source: `x-klaviyo-ratelimit` of the path in Klaviyo's OpenAPI document, revision 2026-07-15.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Requests a second.
    pub burst: u32,
    /// Requests a minute.
    pub steady: u32,
}

impl Call {
    /// All calls, in the order of their discriminants.
    pub const ALL: [Self; 2] = [Self::Events, Self::ProfileImport];

    /// The call that a request path names.
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.path() == path)
    }

    pub const fn path(self) -> &'static str {
        match self {
            Self::Events => "/api/events",
            Self::ProfileImport => "/api/profile-import",
        }
    }

    /// The only method that the path answers to.
    pub const fn method(self) -> Method {
        Method::POST
    }

    pub const fn limits(self) -> Limits {
        match self {
            Self::Events => Limits { burst: 350, steady: 3_500 },
            Self::ProfileImport => Limits { burst: 75, steady: 750 },
        }
    }

    /// The largest request body, in bytes. Klaviyo's descriptions of both calls say "5 MB" and "100KB"; read as
    /// decimal, so that a client which keeps to the sandbox's limit keeps to either reading.
    pub const fn max_body(self) -> usize {
        match self {
            Self::Events => 5_000_000,
            Self::ProfileImport => 100_000,
        }
    }
}
