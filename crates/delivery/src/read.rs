//! Calls that only ask, for who owns the outbox: what becomes of them is told, and what to make of that is theirs.

use klaviyo::{Endpoint, Method};

use crate::message::Failure;

/// Something to be asked of Klaviyo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// What the answer is known by.
    pub id: i64,
    /// Path and query.
    pub path: String,
    /// What is sent along, of a call that asks by that.
    pub body: Option<String>,
}

impl Read {
    /// The call that it is.
    pub(crate) fn endpoint(&self) -> Option<&'static Endpoint> {
        let (path, _) = self.path.split_once('?').unwrap_or((&self.path, ""));
        klaviyo::call(self.method(), path)
    }

    /// Klaviyo has things be asked for by POST where the question is longer than an address.
    pub(crate) const fn method(&self) -> Method {
        if self.body.is_some() { Method::Post } else { Method::Get }
    }
}

/// What has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadAnswer {
    pub id: i64,
    /// What Klaviyo says, which is JSON.
    pub result: Result<String, ReadFailure>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFailure {
    pub failure: Failure,
    /// Whether the same may be answered another time.
    pub again: bool,
}
