//! With whose rights mappings are made, changed and read.

use std::time::Duration;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pg::scoped::{
    with_lock_timeout, with_restricted_rights_of, with_rights_of, with_settings_of_sessions,
    with_settings_of_triggers, with_statement_timeout,
};
use crate::pg::table::{Table, as_owner};

/// Runs statements that change the table. They are an owner's, and wait for its writers as briefly as who asks wants to:
/// while they do, nobody else can write.
pub fn define(owner: pg_sys::Oid, statements: &[String]) {
    with_lock_timeout(|| {
        with_rights_of(owner, || {
            for statement in statements {
                done(Spi::run(statement));
            }
        });
    });
}

/// Runs what was said of a table's rows as its triggers do, in a process of ours: with its owner's rights, and cancelled when it takes
/// longer.
pub fn as_triggers<R>(owner: pg_sys::Oid, timeout: Duration, run: impl FnOnce() -> R) -> R {
    let run = || with_settings_of_sessions(|| with_settings_of_triggers(run));
    with_restricted_rights_of(owner, || with_statement_timeout(timeout, run))
}

/// Runs statements that change tables, of whatever owner, with the rights of the extension. Nothing of theirs is run by them.
pub fn define_as_ours(statements: &[String]) {
    of_ours(|| with_lock_timeout(|| statements.iter().for_each(|statement| done(Spi::run(statement)))));
}

/// Reads or writes our table of mappings, which nobody else may write to: what stands there is run with the rights of the
/// tables' owners.
pub fn of_ours<R>(run: impl FnOnce() -> R) -> R {
    let mappings = Table::open(c"klaviyo", c"mapping", pg_sys::AccessShareLock);
    as_owner(mappings.as_ref(), run)
}

/// What a statement returned.
pub fn done<T>(result: Result<T, spi::Error>) -> T {
    result.unwrap_or_else(|error| error!("{error}"))
}
