//! Writing back into users' tables what Klaviyo has changed: a part of the runner's work, a profile at a time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::process::{self, attempt, transaction, with_read_committed};
use crate::capture::write_back::mapping;
use crate::capture::write_back::task::{self, Task};

/// How long profiles are written before the runner looks for other work.
const TURN: Duration = Duration::from_millis(200);

/// Before it looks again for rows of a mapping that fails.
const AGAIN: Duration = Duration::from_secs(60);

/// What there was to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    Nothing,
    Profile,
    /// Somebody is in the way; it is tried again.
    Later,
}

/// What it has found to do.
#[derive(Default)]
pub struct Writer {
    found: Vec<Task>,
    /// Mappings whose rows cannot be found, until then.
    failing: HashMap<i32, Instant>,
}

impl Writer {
    /// Writes some.
    pub fn work(&mut self) -> Writing {
        if self.found.is_empty() && !transaction(c"looking for profiles to write back", task::is_any) {
            return Writing::Nothing;
        }
        with_read_committed(|| self.write())
    }

    fn write(&mut self) -> Writing {
        let mut writing = Writing::Later;
        if self.found.is_empty() && self.find() {
            writing = Writing::Profile;
        }
        let began = Instant::now();
        while began.elapsed() < TURN && !process::is_terminating() {
            let Some(task) = self.found.pop() else { break };
            match attempt(c"write back", |_| true, || task.begin()) {
                Ok(true) => writing = Writing::Profile,
                Ok(false) => continue,
                Err(error) => {
                    log!("klaviyo_sync: a profile cannot be written back: {error}");
                    continue;
                }
            }
            // A trigger may catch that it is cancelled, and go on; that the process ends it cannot.
            process::end_after(task.timeout());
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
        writing
    }

    /// Looks for profiles of the next mapping that has some. Whether that has done any.
    fn find(&mut self) -> bool {
        let began = Instant::now();
        self.failing.retain(|_, again_at| *again_at > began);
        for id in transaction(c"looking for profiles to write back", mapping::due) {
            if self.failing.contains_key(&id) {
                continue;
            }
            process::end_after(mapping::TIMEOUT * 4);
            let found = attempt(c"write back", |_| true, || task::next(id));
            process::end_no_more();
            match found {
                // It is paused by now, or what it says is not understood any more.
                Ok(None) => {}
                Ok(Some(found)) => {
                    self.found = found;
                    // Then those there were are no row's, and done.
                    return self.found.is_empty();
                }
                Err(error) => {
                    self.failing.insert(id, Instant::now() + AGAIN);
                    if let Err(other) = attempt(c"write back", |_| true, || task::put_off(id, &error)) {
                        log!(
                            "klaviyo_sync: rows of mapping {id} cannot be written back to: {error}; {other}"
                        );
                    }
                }
            }
        }
        false
    }
}
