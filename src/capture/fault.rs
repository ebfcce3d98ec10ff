//! What is wrong with a mapping, or has become so since it was made: a column renamed, a function dropped.

use std::panic::UnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::generate::Capture;
use super::refusal;
use super::statements::done;
use super::table::Table;
use crate::pg::function::Refusal;
use crate::pg::scoped::{with_restricted_rights_of, with_settings_of_triggers};

/// Computes something of a table's rows as its triggers do: with its owner's rights, and their settings.
pub fn computing<R>(
    table: &Table,
    hint: &str,
    compute: impl FnOnce() -> R + UnwindSafe,
) -> Result<R, Refusal> {
    let computed = PgTryBuilder::new(|| {
        Ok(with_restricted_rights_of(table.owner, || with_settings_of_triggers(compute)))
    });
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

/// Raises an error of Postgres' if what a mapping does for rows cannot be done any more: a name, a type or a right is not what
/// it was. It is begun for no row, so nothing is computed.
pub fn check(capture: &Capture) {
    // Without a transaction id, which a standby has not to give.
    let run = || {
        capture.probes().iter().for_each(|probe| {
            Spi::connect(|client| done(client.select(probe.as_str(), None, &[]).map(drop)));
        });
    };
    with_restricted_rights_of(capture.table.owner, || with_settings_of_triggers(run));
}
