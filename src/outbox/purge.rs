//! Purging our tables of people whose deletion Klaviyo has accepted. It reads all history, so the runner does it, not the
//! worker; each function is a transaction of its caller's.

use pgrx::{Uuid, spi};

use crate::pg::spi::{arg, column, rows, run, value};

/// People that one pass over the history looks for.
const MOST: i64 = 1_000;

const DUE: &str = "
    SELECT EXISTS (SELECT FROM klaviyo.deletion AS d WHERE d.accepted_at IS NOT NULL AND d.purged_at IS NULL)";

const NEXT: &str = "
    SELECT d.message_id, d.account, d.identifier
    FROM klaviyo.deletion AS d
    WHERE d.accepted_at IS NOT NULL AND d.purged_at IS NULL AND d.identifier IS NOT NULL
    ORDER BY d.accepted_at
    LIMIT $1";

/// Their messages, and what was refused when it was queued and has the identifier for a value anywhere: of that nobody knows
/// whose it is. As a whole, in its quotes: one address may be the end of another.
const DEAD_LETTERS: &str = "
    DELETE FROM klaviyo.dead_letter AS l
    USING unnest($1::text[], $2::text[]) AS p (account, identifier)
    WHERE l.account = p.account
      AND (
          l.key @> ARRAY[p.identifier]
          OR l.key = '{}'
             AND strpos(lower(l.payload::text), lower(to_json(substr(p.identifier, strpos(p.identifier, ':') + 1))::text)) > 0
      )";

/// Where a table's key is an address or a number.
const CAPTURED_KEYS: &str = "
    DELETE FROM klaviyo.captured_key AS c
    WHERE EXISTS (
        SELECT FROM unnest($1::text[]) AS p (identifier)
        WHERE strpos(lower(c.key::text), lower(to_json(substr(p.identifier, strpos(p.identifier, ':') + 1))::text)) > 0
    )";

const PARTITIONS: &str = "
    SELECT i.inhrelid::regclass::text
    FROM pg_catalog.pg_inherits AS i
    WHERE i.inhparent = 'klaviyo.delivery'::pg_catalog.regclass
    ORDER BY 1";

const DELIVERIES: &str = "SELECT klaviyo.purge_deliveries($1::pg_catalog.regclass, $2, $3)";

const DONE: &str = "
    UPDATE klaviyo.deletion AS d
    SET identifier = NULL, purged_at = pg_catalog.now()
    WHERE d.message_id = ANY ($1)";

/// People to be purged, each by the request and as our tables have them.
#[derive(Default)]
pub struct People {
    requests: Vec<Uuid>,
    accounts: Vec<String>,
    identifiers: Vec<String>,
}

/// Whether there is anybody.
pub fn is_due() -> Result<bool, spi::Error> {
    Ok(value::<bool>(DUE, &[])?.unwrap_or_default())
}

/// The next of them.
pub fn next() -> Result<People, spi::Error> {
    let mut people = People::default();
    rows(NEXT, &[arg(MOST)], |row| {
        people.requests.push(column(row, 1));
        people.accounts.push(column(row, 2));
        people.identifiers.push(column(row, 3));
    })?;
    Ok(people)
}

/// The parts of the history, for [`deliveries`].
pub fn parts() -> Result<Vec<String>, spi::Error> {
    let mut parts = Vec::new();
    rows(PARTITIONS, &[], |row| parts.push(column(row, 1)))?;
    Ok(parts)
}

/// Purges what is not history.
pub fn others(people: &People) -> Result<(), spi::Error> {
    run(DEAD_LETTERS, &[arg(people.accounts.clone()), arg(people.identifiers.clone())])?;
    run(CAPTURED_KEYS, &[arg(people.identifiers.clone())]).map(drop)
}

/// Purges a part of the history: what was delivered stays, and when, but not to whom.
pub fn deliveries(people: &People, part: &str) -> Result<(), spi::Error> {
    run(DELIVERIES, &[arg(part), arg(people.accounts.clone()), arg(people.identifiers.clone())]).map(drop)
}

/// Writes down that it is done.
pub fn done(people: &People) -> Result<(), spi::Error> {
    run(DONE, &[arg(people.requests.clone())]).map(drop)
}
