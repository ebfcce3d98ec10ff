//! Keeping `klaviyo.event` and `klaviyo.campaign_event` within their bounds.

use pgrx::spi;

use crate::pg::spi::{arg, run};

/// Rows deleted in one go.
const BATCH: i64 = 10_000;

const DELETE_OLD_EVENTS: &str = "
    DELETE FROM klaviyo.event AS e
    WHERE (e.account, e.event_id) IN (
        SELECT o.account, o.event_id FROM klaviyo.event AS o
        WHERE o.happened_at < pg_catalog.now() - $1 * interval '1 minute'
        ORDER BY o.happened_at
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    )";

const DELETE_OLD_COUNTS: &str = "
    DELETE FROM klaviyo.campaign_event AS e
    WHERE e.ctid = ANY (ARRAY(
        SELECT o.ctid FROM klaviyo.campaign_event AS o
        WHERE o.day < (pg_catalog.now() - $1 * interval '1 minute')::date
        ORDER BY o.day
        LIMIT $2
    ))";

/// Deletes what was counted of days longer ago than so many minutes.
pub fn delete_old_counts(minutes: i32) -> Result<usize, spi::Error> {
    run(DELETE_OLD_COUNTS, &[arg(minutes), arg(BATCH)])
}

/// Deletes events that happened longer ago than so many minutes.
pub fn delete_old_events(minutes: i32) -> Result<usize, spi::Error> {
    run(DELETE_OLD_EVENTS, &[arg(minutes), arg(BATCH)])
}
