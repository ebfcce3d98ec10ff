//! Reading what Klaviyo has: a part of the runner's work, a page at a time.

use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::process::{self, attempt, attempt_any, transaction, with_read_committed};
use super::slots::Slot;
use super::wishes::Wish;
use crate::pg::scoped::with_statement_timeout;
use crate::pull::{due, run, wish};
use crate::settings;

/// How long pages are taken before the runner looks for other work.
const TURN: Duration = Duration::from_millis(200);

/// How long a page may take to be written, with whatever triggers on these tables do.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is waited for of others. The worker, which writes to klaviyo.campaign as well, looks for a deadlock after 200 ms, and is
/// not to be the one that finds it.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '100ms'";

/// What there was to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pulling {
    Nothing,
    Page,
    /// Something is asked for, or is tried again.
    Later,
}

/// Takes pages that have come, and has the next be asked for.
pub fn work(slot: &Slot) -> Pulling {
    let wishes = slot.wishes.take();
    if wishes.is_empty() && !transaction(c"looking for jobs", due::is_any) {
        return Pulling::Nothing;
    }
    // Whoever changes a job meanwhile is no reason to begin anew.
    with_read_committed(|| pull(slot, &wishes))
}

fn pull(slot: &Slot, wishes: &[Wish]) -> Pulling {
    let began = Instant::now();
    let (mut pulling, mut busy) = (Pulling::Later, Vec::new());
    let mut asked = false;
    while began.elapsed() < TURN && !process::is_terminating() {
        let Some(answered) = transaction(c"looking for pages", || run::answered(&busy)) else { break };
        let backoff = settings::policy().backoff;
        // A trigger that hangs is cancelled. It may catch that, and go on; that the process ends it cannot.
        process::end_after(TIMEOUT * 2);
        let taken = attempt(
            c"pulling",
            |_| true,
            || {
                Spi::run(LOCK_TIMEOUT)?;
                with_statement_timeout(TIMEOUT, || run::take(&answered, backoff))
            },
        );
        process::end_no_more();
        match taken {
            Ok(true) => {
                pulling = Pulling::Page;
                slot.ask_to_read();
                asked = true;
            }
            Ok(false) => busy.push((answered.account.clone(), answered.job.clone())),
            Err(error) => {
                note(&answered, &error);
                busy.push((answered.account.clone(), answered.job.clone()));
            }
        }
    }
    if !wishes.is_empty()
        && let Err(error) = attempt(c"looking for wishes", |_| true, || wish::take(wishes))
    {
        // Whoever waits asks again.
        log!("klaviyo_sync: what statements wait for cannot be read: {error}");
    }
    if let Err(error) = attempt(c"forgetting pages", |_| true, due::forget) {
        log!("klaviyo_sync: pages that nobody waits for cannot be forgotten: {error}");
    }
    for (account, job) in transaction(c"looking for jobs", due::jobs) {
        let gone_on = attempt_any(c"pulling", || {
            Spi::run(LOCK_TIMEOUT)?;
            run::go_on(&account, &job)
        });
        match gone_on {
            Ok(gone_on) => asked |= gone_on,
            // Somebody has its rows; it is come to again.
            Err((PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, _)) => {}
            Err((_, error)) => log!("klaviyo_sync: job {job} of account {account} cannot go on: {error}"),
        }
    }
    if asked {
        slot.ask_to_read();
    }
    pulling
}

/// Writes down that a page cannot be taken; it is asked for again later.
fn note(answered: &run::Answered, error: &str) {
    let noted = attempt(
        c"pulling",
        |_| true,
        || {
            Spi::run(LOCK_TIMEOUT)?;
            run::put_off(answered, error, settings::policy().backoff)
        },
    );
    if let Err(other) = noted {
        log!(
            "klaviyo_sync: that job {} of account {} fails cannot be written down: {error}; {other}",
            answered.job,
            answered.account
        );
    }
}
