//! Clean-ups: a part of the runner's work, one at a time.

use pgrx::prelude::*;

use super::process::{self, attempt, transaction};
use crate::pull::clean_up;

/// What there was to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cleaning {
    Nothing,
    Run,
    /// Somebody is in the way; it is tried again.
    Later,
}

/// Does the next, if one is due.
pub fn work() -> Cleaning {
    if !transaction(c"looking for clean-ups", clean_up::is_any) {
        return Cleaning::Nothing;
    }
    // Others may be in the way of the one, and not of the other.
    if let Err(error) = attempt(c"clean-up", |_| true, clean_up::schedule) {
        log!("klaviyo_sync: clean-ups whose time has come cannot begin: {error}");
    }
    let id = match attempt(c"clean-up", |_| true, clean_up::begin) {
        Ok(Some(id)) => id,
        Ok(None) => return Cleaning::Later,
        Err(error) => {
            log!("klaviyo_sync: a clean-up cannot begin: {error}");
            return Cleaning::Later;
        }
    };
    // A rule may catch that it is cancelled, and go on; that the process ends it cannot.
    process::end_after(clean_up::TIMEOUT * 2);
    let cleaned = attempt(c"clean-up", |_| true, || clean_up::clean_up(id));
    process::end_no_more();
    if let Err(error) = cleaned
        && let Err(other) = attempt(c"clean-up", |_| true, || clean_up::failed(id, &error))
    {
        log!("klaviyo_sync: that clean-up run {id} has failed cannot be written down: {error}; {other}");
    }
    Cleaning::Run
}
