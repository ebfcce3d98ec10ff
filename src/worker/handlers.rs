//! Telling users' functions what webhooks bring: a part of the runner's work, a call at a time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::process::{self, attempt, attempt_any, transaction};
use crate::inbound::handlers::{self, Task};
use crate::settings;

/// How long calls are made before the runner looks for other work.
const TURN: Duration = Duration::from_millis(200);

/// A handler that has taken longer is not called for as long again: others are told meanwhile.
const LONG: Duration = Duration::from_millis(500);

/// For how long a handler is not called that has just hung. It doubles from one to the next.
const HUNG: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Until a call is tried again that could not be begun.
const AGAIN: Duration = Duration::from_secs(1);

/// How much longer than looking through the tasks from the beginning has taken it is not done again: so it takes a tenth of the
/// time, however many there are that have to wait.
const SHARE: u32 = 10;

/// And not before this time: what has come back to be told again waits no longer, however much is new.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long after a call that was to be cancelled the process is ended, if it has not come back.
const GRACE: Duration = Duration::from_secs(1);

/// What there was to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    Nothing,
    Call,
    /// It is tried again.
    Later,
}

/// How far the process is with all there is to be told.
#[derive(Default)]
pub struct Handlers {
    /// Handlers that are not called until then, and how often each has hung, one time after the other.
    paused: HashMap<i32, (u32, Instant)>,
    /// The last task that was looked at, if what comes before it need not be looked at again yet.
    last: Option<Task>,
    /// When it is to be begun from the first.
    again_at: Option<Instant>,
}

impl Handlers {
    /// Makes some calls, if there are any to be made.
    pub fn work(&mut self) -> Telling {
        if !transaction(c"looking what webhooks have told", handlers::is_due) {
            *self = Self::default();
            return Telling::Nothing;
        }
        // What a handler sees is what is committed, as in any session; the runner's own work sees its tables at one moment.
        transaction(c"beginning", || Spi::run("SET default_transaction_isolation = 'read committed'"));
        let began = Instant::now();
        let mut telling = Telling::Later;
        while began.elapsed() < TURN && !process::is_terminating() {
            let Some(task) = self.next() else { break };
            self.call(task);
            telling = Telling::Call;
        }
        transaction(c"ending", || {
            handlers::unlock()?;
            Spi::run("SET default_transaction_isolation = 'repeatable read'")
        });
        telling
    }

    /// The next to call: after the last, or from the first, if that may be looked for again.
    fn next(&mut self) -> Option<Task> {
        let now = Instant::now();
        let paused = self.paused.iter().filter(|(_, (_, until))| *until > now);
        let paused: Vec<i32> = paused.map(|(handler, _)| *handler).collect();
        let look = |after| transaction(c"looking what webhooks have told", || handlers::next(after, &paused));
        let begins_anew = self.again_at.is_none_or(|at| at <= now);
        let mut next = None;
        if self.last.is_some() && !begins_anew {
            next = look(self.last);
        } else if begins_anew {
            next = look(None);
            let took = now.elapsed();
            self.again_at = Some(Instant::now() + (took * SHARE).max(LOOK_AGAIN));
        }
        self.last = next.or(self.last);
        next
    }

    /// Calls a handler, and notes what came of it.
    fn call(&mut self, task: Task) {
        let most = settings::webhook_max_attempts().unsigned_abs();
        if task.attempts >= most {
            return note(|| handlers::bury(task));
        }
        let again = settings::policy().backoff.delay(task.attempts + 1);
        let begins = || {
            handlers::unlock()?;
            handlers::begin(task, again)
        };
        match attempt(c"webhook handler", |_| true, begins) {
            Ok(true) => {}
            // It is come to again, from the first.
            Ok(false) => return,
            Err(error) => {
                log!("klaviyo_sync: a handler of webhooks cannot be called: {error}");
                return self.pause(task, AGAIN);
            }
        }
        let timeout = settings::webhook_handler_timeout();
        let began = Instant::now();
        // It may catch that it is cancelled, and go on; that the process ends it cannot.
        process::end_after(timeout.saturating_mul(2) + GRACE);
        let called = attempt_any(c"webhook handler", || handlers::call(task, timeout));
        process::end_no_more();
        let took = began.elapsed();
        let has_hung = matches!(called, Err((PgSqlErrorCode::ERRCODE_QUERY_CANCELED, _)));
        if let Err((_, error)) = called {
            note(|| handlers::failed(task, &error, task.attempts + 1 >= most));
        }
        if has_hung {
            let times = self.paused.get(&task.handler).map_or(0, |(times, _)| *times);
            let wait = HUNG.saturating_mul(1 << times.min(16)).min(LONGEST).max(took);
            self.paused.insert(task.handler, (times + 1, Instant::now() + wait));
        } else {
            self.paused.remove(&task.handler);
            if took > LONG {
                self.pause(task, took);
            }
        }
    }

    fn pause(&mut self, task: Task, time: Duration) {
        let (_, until) = self.paused.entry(task.handler).or_insert((0, Instant::now()));
        *until = Instant::now() + time;
    }
}

/// Writes down what came of a call. It counts as made already.
fn note(write: impl FnOnce() -> Result<(), pgrx::spi::Error>) {
    if let Err(error) = attempt(c"webhook handler", |_| true, write) {
        log!("klaviyo_sync: what came of a handler of webhooks cannot be written down: {error}");
    }
}
