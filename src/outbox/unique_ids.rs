//! Ids of the user's own under which something may have reached Klaviyo: `klaviyo.sent_unique_id`.

use delivery::{Outcome, UniqueId};
use pgrx::{Uuid, pg_sys, spi};

use crate::pg::spi::{arg, run};
use crate::pg::table::Table;

/// Rows deleted in one go.
const BATCH: i64 = 10_000;

const REMEMBER: &str = "
    INSERT INTO klaviyo.sent_unique_id (digest, sent_at)
    SELECT u, pg_catalog.now() FROM unnest($1::uuid[]) AS u
    ON CONFLICT (digest) DO NOTHING";

const FORGET: &str = "
    DELETE FROM klaviyo.sent_unique_id AS s
    WHERE s.ctid = ANY (ARRAY(
        SELECT o.ctid FROM klaviyo.sent_unique_id AS o
        WHERE o.sent_at < pg_catalog.now() - $1 * interval '1 minute'
        LIMIT $2
    ))";

/// Whether that id is among them. Without the table it may be.
pub fn may_have_been_sent(id: UniqueId) -> bool {
    let table = Table::open(c"klaviyo", c"sent_unique_id", pg_sys::AccessShareLock);
    table.and_then(|table| table.has(Uuid::from_bytes(id))).unwrap_or(true)
}

/// Remembers those of messages that were in a call, or may have been, whatever came of it.
pub fn remember(outcomes: &[Outcome]) -> Result<(), spi::Error> {
    let mut ids: Vec<UniqueId> = outcomes.iter().filter_map(|outcome| outcome.unique_id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    // Neighbours in the index are written one after the other.
    ids.sort_unstable();
    let ids: Vec<Uuid> = ids.into_iter().map(Uuid::from_bytes).collect();
    run(REMEMBER, &[arg(ids)]).map(drop)
}

/// Deletes those of messages sent longer ago than so many minutes. Returns how many.
pub fn forget(minutes: i32) -> Result<usize, spi::Error> {
    run(FORGET, &[arg(minutes), arg(BATCH)])
}
