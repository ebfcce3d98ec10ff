//! Clean-ups: a part of the runner's work, one at a time.

use pgrx::prelude::*;

use super::process::{attempt, transaction};
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
    let id = match attempt(c"clean-up", |_| true, clean_up::begin) {
        Ok(Some(id)) => id,
        Ok(None) => return Cleaning::Later,
        Err(error) => {
            log!("klaviyo_sync: a clean-up cannot begin: {error}");
            return Cleaning::Later;
        }
    };
    if let Err(error) = attempt(c"clean-up", |_| true, || clean_up::clean_up(id))
        && let Err(other) = attempt(c"clean-up", |_| true, || clean_up::failed(id, &error))
    {
        log!("klaviyo_sync: that clean-up run {id} has failed cannot be written down: {error}; {other}");
    }
    Cleaning::Run
}
