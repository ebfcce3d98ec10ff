//! What is wrong with a mapping, or has become so since it was made: a column renamed, a function dropped.

use std::panic::UnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::query::Action;
use super::refusal;
use super::table::Table;
use crate::pg::expression;
use crate::pg::function::Refusal;
use crate::pg::scoped::{with_rights_of, with_settings_of_triggers};

/// Computes something of a table's rows as its triggers do: with its owner's rights, and their settings.
pub fn computing<R>(
    table: &Table,
    hint: &str,
    compute: impl FnOnce() -> R + UnwindSafe,
) -> Result<R, Refusal> {
    let computed =
        PgTryBuilder::new(|| Ok(with_rights_of(table.owner, || with_settings_of_triggers(compute))));
    // Whoever asks raises the refusal, so that what Postgres began is cleaned up by that.
    let refused = |error| match error {
        CaughtError::PostgresError(report) => {
            let message = format!("the mapping of {} fails", table.sql());
            let detail = format!("{}.", report.message());
            Err(if report.sql_error_code() == PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE {
                let hint = "It runs with the rights of the table's owner: grant him what it uses.";
                refusal::rights(message, detail, hint)
            } else {
                refusal::expression(message, detail, hint)
            })
        }
        other => other.rethrow(),
    };
    computed.catch_others(refused).execute()
}

/// Raises an error of Postgres' if what a mapping says of a row is understood no more. Nothing of it is computed.
pub fn check(table: &Table, action: &Action) {
    let query = format!("SELECT {} FROM {}", action.message(), action.of(&table.rows()));
    with_rights_of(table.owner, || with_settings_of_triggers(|| expression::check(&query)));
}
