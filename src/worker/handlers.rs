//! Telling users' functions what webhooks bring: a part of the runner's work, a call at a time.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::process::{attempt, transaction};
use crate::inbound::handlers::{self, Task};
use crate::settings;

/// How long calls are made before the runner looks for other work.
const TURN: Duration = Duration::from_millis(200);

/// For how long a handler is not called that has just hung: others are told meanwhile. It doubles from one to the next.
const HUNG: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// What there was to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    Nothing,
    Call,
    /// It is tried again.
    Later,
}

/// Handlers that have hung, how often one after the other, and until when they are not called.
#[derive(Default)]
pub struct Handlers {
    hung: HashMap<i32, (u32, Instant)>,
}

impl Handlers {
    /// Makes some calls, if there are any to be made.
    pub fn work(&mut self) -> Telling {
        if !transaction(c"looking what webhooks have told", handlers::is_due) {
            self.hung.clear();
            return Telling::Nothing;
        }
        // What a handler sees is what is committed, as in any session; the runner's own work sees its tables at one moment.
        transaction(c"beginning", || Spi::run("SET default_transaction_isolation = 'read committed'"));
        let began = Instant::now();
        let mut telling = Telling::Later;
        while began.elapsed() < TURN && self.call() {
            telling = Telling::Call;
        }
        transaction(c"ending", || Spi::run("SET default_transaction_isolation = 'repeatable read'"));
        telling
    }

    /// Makes the next call. Whether there was one.
    fn call(&mut self) -> bool {
        let now = Instant::now();
        let hung = self.hung.iter().filter(|(_, (_, until))| *until > now);
        let hung: Vec<i32> = hung.map(|(handler, _)| *handler).collect();
        let Some(task) = transaction(c"looking what webhooks have told", || handlers::next(&hung)) else {
            return false;
        };
        let code = Cell::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR);
        let forgive = |error| {
            code.set(error);
            true
        };
        let called = attempt(c"webhook handler", forgive, || {
            handlers::call(task, settings::webhook_handler_timeout())
        });
        match called {
            Ok(()) => _ = self.hung.remove(&task.handler),
            Err(error) => self.failed(task, &error, code.get()),
        }
        true
    }

    fn failed(&mut self, task: Task, error: &str, code: PgSqlErrorCode) {
        if code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED {
            let (times, _) = self.hung.get(&task.handler).copied().unwrap_or((0, Instant::now()));
            let wait = HUNG.saturating_mul(1 << times.min(16)).min(LONGEST);
            self.hung.insert(task.handler, (times + 1, Instant::now() + wait));
        }
        let backoff = settings::policy().backoff;
        let most = settings::webhook_max_attempts();
        let noted = attempt(
            c"webhook handler",
            |_| true,
            || handlers::failed(task, error, most, |attempts| backoff.delay(attempts)),
        );
        if let Err(error) = noted {
            log!("klaviyo_sync: that a handler of webhooks has failed cannot be written down: {error}");
        }
    }
}
