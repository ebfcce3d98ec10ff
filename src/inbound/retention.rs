//! Keeping `klaviyo.webhook_event` within its bounds, and free of people whose data was to be deleted.

use pgrx::spi;

use crate::outbox::named;
use crate::pg::spi::{arg, column, json_column, micros_column, rows, run};

/// Rows deleted in one go, and read.
const BATCH: i64 = 10_000;
const READ: i64 = 500;

const DELETE_OLD: &str = "
    DELETE FROM klaviyo.webhook_event AS e
    WHERE e.event_id = ANY (ARRAY(
        SELECT o.event_id FROM klaviyo.webhook_event AS o
        WHERE o.received_at < pg_catalog.now() - $1 * interval '1 minute'
        ORDER BY o.received_at
        LIMIT $2
    ))";

const NEXT: &str = "
    SELECT e.event_id, e.account, e.received_at, e.payload::json
    FROM klaviyo.webhook_event AS e
    WHERE e.event_id > $1
    ORDER BY e.event_id
    LIMIT $2";

const DELETE: &str = "DELETE FROM klaviyo.webhook_event AS e WHERE e.event_id = ANY ($1)";

/// Deletes events that came longer ago than so many minutes.
pub fn delete_old(minutes: i32) -> Result<usize, spi::Error> {
    run(DELETE_OLD, &[arg(minutes), arg(BATCH)])
}

/// Deletes some of the events after that one that name somebody who is purged, see [`crate::outbox::purge::Purge`].
pub fn purge(
    after: i64,
    is_theirs: &dyn Fn(&str, &[String], i64) -> bool,
) -> Result<Option<i64>, spi::Error> {
    let (mut last, mut theirs) = (after, Vec::new());
    let read = rows(NEXT, &[arg(after), arg(READ)], |row| {
        last = column(row, 1);
        let (account, received_at): (String, i64) = (column(row, 2), micros_column(row, 3));
        if is_theirs(&account, &named::people_within(&json_column(row, 4)), received_at) {
            theirs.push(last);
        }
    })?;
    if !theirs.is_empty() {
        run(DELETE, &[arg(theirs)])?;
    }
    Ok((i64::try_from(read) == Ok(READ)).then_some(last))
}
