//! The tables of messages: `outbox`, `retry`, `delivery`, `dead_letter`, `superseded`, `bulk_job`, `sent_unique_id`, `deletion`,
//! `accepted_deletion`, `discarded`, `answer`, `campaign`, `message_secret`, and those of marks. Nobody else in Rust reads or writes them.

pub mod campaign;
pub mod claim;
pub mod enqueue;
pub mod import;
pub mod mark;
pub mod named;
pub mod purge;
pub mod remove;
pub mod retention;
pub mod secrets;
pub mod settle;
pub mod unique_ids;
pub mod waiting;

use pgrx::spi;

use crate::pg::spi::value;

const XMIN: &str = "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint";

/// Whether one of the people `$2` is to be deleted of an account, so that what names them now is a straggler: `$3` is for
/// how many minutes there are such.
macro_rules! is_to_be_deleted {
    ($account:literal) => {
        concat!(
            "EXISTS (
                SELECT FROM unnest($2::text[]) AS p (identifier)
                JOIN klaviyo.account AS a ON a.name OPERATOR(pg_catalog.=) ",
            $account,
            "
                JOIN klaviyo.deletion AS x
                  ON x.digest OPERATOR(pg_catalog.=) klaviyo.person_digest(a.person_salt, p.identifier)
                 AND x.account OPERATOR(pg_catalog.=) a.name
                WHERE x.dropped_at IS NULL AND x.readmitted_seq IS NULL
                  AND ($3 IS NULL OR x.requested_at OPERATOR(pg_catalog.>) pg_catalog.now() - $3 * interval '1 minute')
            )"
        )
    };
}
pub(crate) use is_to_be_deleted;

/// Of what has left the dead letters, `gone`, the requests for deletion are given up, and name nobody any more.
macro_rules! drop_requests {
    () => {
        "requests AS (
            UPDATE klaviyo.deletion AS d
            SET identifier = NULL, dropped_at = pg_catalog.now()
            FROM gone AS g
            WHERE d.message_id = g.message_id AND d.accepted_at IS NULL
        )"
    };
}
use drop_requests;

/// The id of the oldest transaction that is still running: all with a lower one have ended.
fn oldest_running() -> Result<u64, spi::Error> {
    Ok(value::<i64>(XMIN, &[])?.unwrap_or_default().unsigned_abs())
}
