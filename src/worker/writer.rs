//! Writing back into users' tables what Klaviyo has changed: a part of the runner's work, a profile at a time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::process::{self, attempt, transaction, with_read_committed};
use crate::capture::write_back::task::{self, TIMEOUT_OF_ROW, Task};

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
        if self.found.is_empty() {
            let began = Instant::now();
            self.failing.retain(|_, again_at| *again_at > began);
            for mapping in transaction(c"looking for profiles to write back", task::due) {
                if self.failing.contains_key(&mapping) {
                    continue;
                }
                match attempt(c"write back", |_| true, || task::next(mapping)) {
                    Ok(found) => {
                        self.found.extend(found);
                        writing = Writing::Profile;
                    }
                    Err(error) => {
                        self.failing.insert(mapping, Instant::now() + AGAIN);
                        log!("klaviyo_sync: rows of mapping {mapping} cannot be written back to: {error}");
                    }
                }
            }
        }
        let began = Instant::now();
        while began.elapsed() < TURN && !process::is_terminating() {
            let Some(task) = self.found.pop() else { break };
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
        writing
    }
}
