//! Unsuppress: takes a suppression back. What the person or their mailbox has brought about stays.
//!
//! Payload: see [`super::consent`]; it is checked by [`super::suppress::check`].

use super::Lost;
use super::consent::Consent;

/// The kind. Who is not suppressed is so no less by it.
pub const UNSUPPRESS: Consent = Consent {
    name: "unsuppress",
    endpoint: &klaviyo::UNSUPPRESS,
    resource: "profile-suppression-bulk-delete-job",
    lost: Lost::Repeated,
    questions: &[],
};
