//! Handlers of what webhooks tell: functions of users', each called for the events that its pattern matches, by the runner.
//!
//! A call is a transaction of its own, in which its task goes: what a handler writes is written once, if all it does is in the
//! database. What fails is tried again, and put aside in the end; of one profile nothing is told to a handler before what came
//! earlier.

use std::ffi::CString;
use std::time::Duration;

use pgrx::prelude::*;
use pgrx::spi::quote_identifier;
use pgrx::{pg_sys, spi};

use super::sqlstate;
use crate::pg::call::call_with_jsonb;
use crate::pg::function::Refusal;
use crate::pg::scoped::{
    with_own_search_path, with_restricted_rights_of, with_search_path, with_settings_of_sessions,
    with_statement_timeout,
};
use crate::pg::spi::{arg, column, rows, run, value};
use crate::pg::table::{Table, as_owner};

/// Bytes of a pattern, and so of the topics it is for.
const LONGEST: usize = 256;

const FUNCTION: &str = "
    SELECT p.oid::regprocedure::text, pg_has_role(p.proowner, 'USAGE'), pg_get_userbyid(p.proowner)::text
    FROM pg_proc AS p
    WHERE p.oid = $1 AND p.prokind = 'f' AND NOT p.proretset AND p.proargtypes = '3802'::oidvector";

/// As whoever calls means it.
const NAMED: &str = "SELECT to_regprocedure($1)::oid";

const STORE: &str = "
    INSERT INTO klaviyo.webhook_handler AS h (pattern, function, owner) VALUES ($1, $2, $3)
    ON CONFLICT ON CONSTRAINT webhook_handler_once_key DO UPDATE SET owner = excluded.owner WHERE h.owner <> excluded.owner";

const FORGET: &str = "DELETE FROM klaviyo.webhook_handler AS h WHERE h.pattern = $1 AND h.function = $2";

/// The next after one that may be told now, of other handlers than these; before none that the same handler is to be told of
/// the same profile.
const DUE: &str = "
    SELECT t.event_id, t.handler_id, t.attempts
    FROM klaviyo.webhook_task AS t
    WHERE (t.event_id, t.handler_id) > ($2, $3) AND t.not_before <= now() AND t.handler_id <> ALL ($1)
      AND NOT EXISTS (
          SELECT FROM klaviyo.webhook_task AS o
          WHERE o.handler_id = t.handler_id AND o.profile_id = t.profile_id AND o.event_id < t.event_id
      )
    ORDER BY t.event_id, t.handler_id
    LIMIT 1";

const ANY: &str = "SELECT EXISTS (SELECT FROM klaviyo.webhook_task)";

/// Nobody is waited for: whoever has it may keep it for long.
const BEGIN: &str = "
    UPDATE klaviyo.webhook_task AS t
    SET attempts = t.attempts + 1, last_error = 'the process that called it has ended', last_attempt_at = now(),
        not_before = now() + $3 * interval '1 second'
    WHERE (t.event_id, t.handler_id) IN (
        SELECT k.event_id, k.handler_id FROM klaviyo.webhook_task AS k
        WHERE k.event_id = $1 AND k.handler_id = $2 FOR UPDATE SKIP LOCKED
    )";

/// What one handler has taken stays with the session otherwise, and others wait for it.
const UNLOCK: &str = "SELECT pg_advisory_unlock_all()";

/// The event as a handler gets it.
const OPEN: &str = "
    SELECT h.function, h.owner,
           jsonb_build_object(
               'event_id', e.event_id, 'account', e.account, 'webhook', e.webhook, 'topic', e.topic,
               'external_id', e.external_id, 'profile_id', e.profile_id, 'sent_at', e.sent_at, 'received_at', e.received_at,
               'payload', e.payload)::text
    FROM klaviyo.webhook_task AS t
    JOIN klaviyo.webhook_handler AS h USING (handler_id)
    JOIN klaviyo.webhook_event AS e USING (event_id)
    WHERE t.event_id = $1 AND t.handler_id = $2
    FOR UPDATE OF t SKIP LOCKED";

/// A name that was taken down with its schema means the same whoever looks; not so whose it is.
const RESOLVE: &str = "
    SELECT p.oid, p.proowner, n.nspname::text, pg_get_userbyid(p.proowner)::text,
           has_function_privilege(p.proowner, p.oid, 'EXECUTE')
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE p.oid = to_regprocedure($1)";

/// How long a handler waits for others.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '5s'";

/// Nothing may be put off until a handler's rights are gone (`with_restricted_rights_of`): it is done at once.
const AT_ONCE: &str = "SET CONSTRAINTS ALL IMMEDIATE";

const DONE: &str = "DELETE FROM klaviyo.webhook_task AS t WHERE t.event_id = $1 AND t.handler_id = $2";

const FAILED: &str =
    "UPDATE klaviyo.webhook_task AS t SET last_error = $3 WHERE t.event_id = $1 AND t.handler_id = $2";

const BURY: &str = "
    WITH gone AS (
        DELETE FROM klaviyo.webhook_task AS t WHERE t.event_id = $1 AND t.handler_id = $2
        RETURNING t.*
    )
    INSERT INTO klaviyo.webhook_dead_letter (event_id, handler_id, error, attempts, died_at)
    SELECT g.event_id, g.handler_id, g.last_error, g.attempts, now() FROM gone AS g
    ON CONFLICT ON CONSTRAINT webhook_dead_letter_pkey DO UPDATE
    SET error = excluded.error, attempts = excluded.attempts, died_at = excluded.died_at";

/// Bytes of an error that are kept.
const KEPT: usize = 2_000;

/// Has a function be called for what a pattern matches. Whether it was not before.
pub fn register(pattern: Option<&str>, function: Option<pg_sys::Oid>) -> Result<bool, Refusal> {
    let pattern = check_pattern(pattern)?;
    let (function, owner) = check_function(function)?;
    Ok(done(ours(|| run(STORE, &[arg(pattern), arg(function), arg(owner)]))) > 0)
}

/// Has it be called no more. Whether it was. One that is gone is known by the name that it had.
pub fn forget(pattern: Option<&str>, function: Option<&str>) -> Result<bool, Refusal> {
    let pattern = check_pattern(pattern)?;
    let found = function.and_then(|name| done(value::<pg_sys::Oid>(NAMED, &[arg(name)])));
    let function = match (found, function) {
        (None, Some(name)) => name.to_owned(),
        _ => check_function(found)?.0,
    };
    Ok(done(ours(|| run(FORGET, &[arg(pattern), arg(function)]))) > 0)
}

fn check_pattern(pattern: Option<&str>) -> Result<&str, Refusal> {
    let is_one = |pattern: &&str| {
        let topic = pattern.strip_suffix('*').unwrap_or(pattern);
        (1..=LONGEST).contains(&pattern.len()) && !topic.contains(|c: char| c == '*' || c.is_control())
    };
    pattern.filter(is_one).ok_or_else(|| Refusal {
        sqlstate: sqlstate::PATTERN,
        message: "argument \"pattern\" matches no topic".to_owned(),
        detail: "It must have 1 to 256 bytes, and a * only at its end.".to_owned(),
        hint: "Pass a topic, such as event:klaviyo.opened_email or flow:welcome, or its beginning and *."
            .to_owned(),
    })
}

/// Its name with its schema and argument, and its owner. Whoever registers a function has the owner's rights, with which it is
/// called.
fn check_function(function: Option<pg_sys::Oid>) -> Result<(String, String), Refusal> {
    let mut found: Option<(String, bool, String)> = None;
    if let Some(function) = function {
        let look = || {
            rows(FUNCTION, &[arg(function)], |row| {
                found = Some((column(row, 1), column(row, 2), column(row, 3)))
            })
        };
        done(with_own_search_path(look));
    }
    match found {
        Some((name, true, owner)) => Ok((name, owner)),
        Some((name, false, _)) => Err(Refusal {
            sqlstate: sqlstate::OWNER,
            message: format!("function {name} is somebody else's"),
            detail: "It is called with its owner's rights, which only a member of that role may hand out."
                .to_owned(),
            hint: "Have its owner register it, or make one of your own that calls it.".to_owned(),
        }),
        None => Err(Refusal {
            sqlstate: sqlstate::FUNCTION,
            message: "argument \"function\" is no function that can be called with an event".to_owned(),
            detail: "It must take one argument, of type jsonb, and return no set.".to_owned(),
            hint: "CREATE FUNCTION opened(event jsonb) RETURNS void …".to_owned(),
        }),
    }
}

/// Reads or writes our tables, to which nobody else may write: what stands there is called with its owner's rights.
fn ours<R>(run: impl FnOnce() -> R) -> R {
    let handlers = Table::open(c"klaviyo", c"webhook_handler", pg_sys::AccessShareLock);
    as_owner(handlers.as_ref(), run)
}

fn done<T>(result: Result<T, spi::Error>) -> T {
    result.unwrap_or_else(|error| error!("{error}"))
}

/// An event that a handler is to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    event: i64,
    pub handler: i32,
    /// Calls that were begun before.
    pub attempts: u32,
}

/// Whether there are any.
pub fn is_due() -> Result<bool, spi::Error> {
    Ok(value::<bool>(ANY, &[])?.unwrap_or_default())
}

/// The next that may be told now after that one, or of all, but to these handlers.
pub fn next(after: Option<Task>, without: &[i32]) -> Result<Option<Task>, spi::Error> {
    let (event, handler) = after.map_or((0, 0), |task| (task.event, task.handler));
    let mut task = None;
    rows(DUE, &[arg(without.to_vec()), arg(event), arg(handler)], |row| {
        let attempts: i32 = column(row, 3);
        task =
            Some(Task { event: column(row, 1), handler: column(row, 2), attempts: attempts.unsigned_abs() });
    })?;
    Ok(task)
}

/// Writes down that a call is made, and that it is made again after that time unless more is heard of it: a handler that takes
/// its process down is not called for ever. False if somebody has the task.
pub fn begin(Task { event, handler, .. }: Task, again: Duration) -> Result<bool, spi::Error> {
    Ok(run(BEGIN, &[arg(event), arg(handler), arg(again.as_secs_f64())])? > 0)
}

/// Gives back what handlers have locked for the length of a session.
pub fn unlock() -> Result<(), spi::Error> {
    Spi::run(UNLOCK)
}

/// Calls the handler, in the transaction the caller has begun, read committed as any session's.
pub fn call(Task { event, handler, .. }: Task, timeout: Duration) -> Result<(), spi::Error> {
    Spi::run(LOCK_TIMEOUT)?;
    let mut open: Option<(String, String, String)> = None;
    rows(OPEN, &[arg(event), arg(handler)], |row| {
        open = Some((column(row, 1), column(row, 2), column(row, 3)));
    })?;
    // It is gone.
    let Some((name, registered, told)) = open else { return Ok(()) };
    let mut function: Option<(pg_sys::Oid, pg_sys::Oid, String, String, bool)> = None;
    rows(RESOLVE, &[arg(name.as_str())], |row| {
        function = Some((column(row, 1), column(row, 2), column(row, 3), column(row, 4), column(row, 5)));
    })?;
    let Some((function, owner_id, schema, owner, may_call)) = function else {
        error!("function {name} does not exist");
    };
    if owner != registered {
        error!("function {name} is {owner}'s, and was {registered}'s when it was registered");
    }
    if !may_call {
        error!("permission denied for function {name}");
    }
    let path = CString::new(format!("{}, pg_temp", quote_identifier(&schema))).unwrap_or_default();
    Spi::run(AT_ONCE)?;
    with_statement_timeout(timeout, || {
        with_restricted_rights_of(owner_id, || {
            with_settings_of_sessions(|| with_search_path(&path, || call_with_jsonb(function, &told)))
        })
    });
    run(DONE, &[arg(event), arg(handler)]).map(drop)
}

/// Notes that a call has failed, and puts it aside if it was the last.
pub fn failed(task: Task, error: &str, was_last: bool) -> Result<(), spi::Error> {
    let error = &error[..error.floor_char_boundary(KEPT)];
    run(FAILED, &[arg(task.event), arg(task.handler), arg(error)])?;
    if was_last { bury(task) } else { Ok(()) }
}

/// Puts aside what was begun too often.
pub fn bury(Task { event, handler, .. }: Task) -> Result<(), spi::Error> {
    run(BURY, &[arg(event), arg(handler)]).map(drop)
}
