//! Rows that are captured and could be taken for such as were there before their table was mapped: their keys are noted, and no
//! backfill sends them.

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
    SELECT m.id, k.key
    FROM klaviyo.mapping AS m
    JOIN pg_class AS c ON c.oid = m.relation
    CROSS JOIN unnest($2::text[]) AS k (key)
    WHERE m.id = $1 AND pg_has_role($3, c.relowner, 'USAGE')
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
    WHERE (SELECT c.reltuples FROM pg_class AS c WHERE c.oid = 'klaviyo.captured_key'::regclass) > $1
    GROUP BY k.mapping
    ORDER BY count(*) DESC
    LIMIT 1";

const FORGET: &str = "
    DELETE FROM klaviyo.captured_key AS k
    WHERE k.ctid = ANY (ARRAY(
        SELECT g.ctid
        FROM klaviyo.captured_key AS g
        WHERE NOT EXISTS (SELECT FROM klaviyo.mapping AS m WHERE m.id = g.mapping AND m.notes_keys)
        LIMIT $1
    ))";

/// Whether a mapping notes them.
pub fn are_taken(mapping: i32) -> bool {
    let mappings = Table::open(c"klaviyo", c"mapping", pg_sys::AccessShareLock);
    let noted = mappings.and_then(|mappings| mappings.read(mapping, [c"notes_keys"]));
    matches!(noted, Some([Some(notes)]) if notes.value() != 0)
}

/// Notes keys of rows that have been captured.
pub fn take(mapping: i32, keys: Vec<Option<String>>) {
    // SAFETY: a plain variable.
    let caller = unsafe { pg_sys::GetUserId() };
    of_ours(|| done(run(NOTE, &[arg(mapping), arg(keys), arg(caller)])));
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
    run(FORGET, &[arg(PIECE)])
}
