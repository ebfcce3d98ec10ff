//! Writing back into users' tables what Klaviyo has changed: a part of the runner's work, a profile at a time.

use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::process::{self, attempt, transaction, with_read_committed};
use crate::capture::write_back::task::{self, TIMEOUT_OF_ROW};

/// How long profiles are written before the runner looks for other work.
const TURN: Duration = Duration::from_millis(200);

/// What there was to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    Nothing,
    Profile,
    /// Somebody is in the way; it is tried again.
    Later,
}

/// Writes some.
pub fn work() -> Writing {
    if !transaction(c"looking for profiles to write back", task::is_any) {
        return Writing::Nothing;
    }
    with_read_committed(|| {
        let began = Instant::now();
        let mut writing = Writing::Later;
        for mapping in transaction(c"looking for profiles to write back", task::due) {
            let tasks = match attempt(c"write back", |_| true, || task::next(mapping)) {
                Ok(tasks) => tasks,
                Err(error) => {
                    log!("klaviyo_sync: rows of mapping {mapping} cannot be written back to: {error}");
                    continue;
                }
            };
            for task in tasks {
                if began.elapsed() > TURN || process::is_terminating() {
                    return Writing::Profile;
                }
                writing = Writing::Profile;
                // A trigger may catch that it is cancelled, and go on; that the process ends it cannot.
                process::end_after(TIMEOUT_OF_ROW * 4);
                let written = attempt(c"write back", |_| true, || task.write());
                process::end_no_more();
                if let Err(error) = written
                    && let Err(other) = attempt(c"write back", |_| true, || task.put_off(&error))
                {
                    log!(
                        "klaviyo_sync: why a profile is not written back cannot be written down: {error}; {other}"
                    );
                }
            }
        }
        writing
    })
}
