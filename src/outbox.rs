//! The tables of messages: `outbox`, `retry`, `delivery`, `dead_letter`, `superseded`, `bulk_job`, `sent_unique_id`, `deletion`,
//! `accepted_deletion`, `discarded`, and those of marks. Nobody else in Rust reads or writes them.

pub mod claim;
pub mod enqueue;
pub mod import;
pub mod mark;
mod named;
pub mod purge;
pub mod remove;
pub mod retention;
pub mod settle;
pub mod unique_ids;
pub mod waiting;

use pgrx::spi;

use crate::pg::spi::value;

const XMIN: &str = "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint";

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
