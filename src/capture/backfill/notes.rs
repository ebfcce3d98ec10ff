//! Rows that are captured and could be taken for such as were there before their table was mapped: their keys are noted, and no
//! backfill sends them.

use std::ffi::CStr;

use pgrx::{pg_sys, spi};

use super::super::statements::{done, of_ours};
use crate::pg::spi::{arg, column, rows, run, value};
use crate::pg::table::Table;

/// Keys that are noted at the most, of all mappings: a gigabyte or two. Those that grow are beyond the boundary, and need not
/// be.
const MOST: i64 = 10_000_000;

/// Keys forgotten in one go.
const PIECE: i64 = 10_000;

/// Whoever calls must have the rights of the table's owner, as the trigger has: nobody else is to keep rows from being sent.
const NOTE: &str = "
    INSERT INTO klaviyo.captured_key (mapping, key)
    SELECT $1, k.key
    FROM pg_class AS c
    CROSS JOIN unnest($2::text[]) AS k (key)
    WHERE c.oid = $3 AND pg_has_role($4, c.relowner, 'USAGE')
    ON CONFLICT DO NOTHING";

const NOTED: &str = "SELECT k.key FROM klaviyo.captured_key AS k WHERE k.mapping = $1 AND k.key = ANY ($2)";

const ADD: &str = "
    INSERT INTO klaviyo.captured_key (mapping, key)
    SELECT $1, k.key FROM unnest($2::text[]) AS k (key)
    ON CONFLICT DO NOTHING";

const STOP: &str = "UPDATE klaviyo.mapping AS m SET notes_keys = false WHERE m.id = $1";

/// The mapping that has most, if together they have too many. Counted only where the table's own estimate says so.
const LARGEST: &str = "
    SELECT k.mapping
    FROM klaviyo.captured_key AS k
    JOIN klaviyo.mapping AS m ON m.id = k.mapping
    WHERE (SELECT c.reltuples FROM pg_class AS c WHERE c.oid = 'klaviyo.captured_key'::regclass) > $1
      AND m.notes_keys
    GROUP BY k.mapping
    ORDER BY count(*) DESC
    LIMIT 1";

/// A mapping that has some and notes none any more: from one mapping to the next by the primary key, whatever they have.
const NOTING_NO_MORE: &str = "
    WITH RECURSIVE noted (mapping) AS (
        SELECT min(k.mapping) FROM klaviyo.captured_key AS k
        UNION ALL
        SELECT (SELECT min(k.mapping) FROM klaviyo.captured_key AS k WHERE k.mapping > n.mapping)
        FROM noted AS n
        WHERE n.mapping IS NOT NULL
    )
    SELECT n.mapping
    FROM noted AS n
    WHERE n.mapping IS NOT NULL AND NOT EXISTS (SELECT FROM klaviyo.mapping AS m WHERE m.id = n.mapping AND m.notes_keys)
    LIMIT 1";

const FORGET: &str = "
    DELETE FROM klaviyo.captured_key AS k
    WHERE k.mapping = $1 AND k.key = ANY (ARRAY(
        SELECT g.key FROM klaviyo.captured_key AS g WHERE g.mapping = $1 ORDER BY g.key LIMIT $2
    ))";

/// Whether a mapping notes them.
pub fn are_taken(mapping: i32) -> bool {
    matches!(of_mapping(mapping, c"notes_keys"), Some(notes) if notes.value() != 0)
}

/// Notes keys of rows that have been captured.
pub fn take(mapping: i32, keys: Vec<Option<String>>) {
    let relation =
        of_mapping(mapping, c"relation").map(|relation| pg_sys::Oid::from(relation.value() as u32));
    // SAFETY: a plain variable.
    let caller = unsafe { pg_sys::GetUserId() };
    of_ours(|| done(run(NOTE, &[arg(mapping), arg(keys), arg(relation), arg(caller)])));
}

/// What a mapping is now, whatever the transaction sees of it.
fn of_mapping(mapping: i32, column: &CStr) -> Option<pg_sys::Datum> {
    let mappings = Table::open(c"klaviyo", c"mapping", pg_sys::AccessShareLock)?;
    let [value] = mappings.read(mapping, [column])?;
    value
}

/// Which of these keys are noted.
pub fn find(mapping: i32, keys: Vec<String>) -> Result<Vec<String>, spi::Error> {
    let mut noted = Vec::new();
    rows(NOTED, &[arg(mapping), arg(keys)], |row| noted.push(column(row, 1)))?;
    Ok(noted)
}

/// Notes keys of rows that have been sent.
pub fn add(mapping: i32, keys: Vec<Option<String>>) -> Result<(), spi::Error> {
    run(ADD, &[arg(mapping), arg(keys)]).map(drop)
}

/// Ends it: all that was there before has been sent.
pub fn stop(mapping: i32) -> Result<(), spi::Error> {
    run(STOP, &[arg(mapping)]).map(drop)
}

/// Ends it for the mapping that has noted most, if there are too many. Whether there were.
pub fn stop_largest() -> Result<bool, spi::Error> {
    let largest = value::<i32>(LARGEST, &[arg(MOST as f32)])?;
    largest.map_or(Ok(()), stop).map(|()| largest.is_some())
}

/// Forgets some of those that are noted no more. Returns how many: 0 when none is left.
pub fn forget() -> Result<usize, spi::Error> {
    let mapping = value::<i32>(NOTING_NO_MORE, &[])?;
    mapping.map_or(Ok(0), |mapping| run(FORGET, &[arg(mapping), arg(PIECE)]))
}
