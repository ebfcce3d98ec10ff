//! Rows that are captured and could be taken for such as were there before their table was mapped: their keys are noted, and no
//! backfill sends them.

use pgrx::{pg_sys, spi};

use super::super::statements::{done, of_ours};
use crate::pg::spi::{arg, column, rows, run, value};
use crate::pg::table::Table;

/// Keys of a mapping that are noted at the most. Those that grow are beyond the boundary, and need not be.
const MOST: i64 = 1_000_000;

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

const STOP: &str = "
    WITH stopped AS (
        UPDATE klaviyo.mapping AS m SET notes_keys = false WHERE m.id = $1
    )
    DELETE FROM klaviyo.captured_key AS k WHERE k.mapping = $1";

const TOO_MANY: &str = "
    SELECT k.mapping
    FROM klaviyo.captured_key AS k
    GROUP BY k.mapping
    HAVING count(*) > $1
    LIMIT 1";

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

/// Ends it: all that was there before has been sent.
pub fn stop(mapping: i32) -> Result<(), spi::Error> {
    run(STOP, &[arg(mapping)]).map(drop)
}

/// Ends it for a mapping that has noted too many. Returns for how many it did.
pub fn stop_where_too_many() -> Result<usize, spi::Error> {
    match value::<i32>(TOO_MANY, &[arg(MOST)])? {
        Some(mapping) => stop(mapping).map(|()| 1),
        None => Ok(0),
    }
}
