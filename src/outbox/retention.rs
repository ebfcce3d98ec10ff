//! What is kept no longer: deliveries by the day, dead letters one by one. And partitions for the days to come.
//!
//! Every function is a step of its own: it does a bounded piece of work in the transaction the caller has begun, and
//! tells how much that was. Nothing is left to do when it says 0.

use super::drop_requests;
use pgrx::datum::Date;
use pgrx::spi;

use crate::pg::spi::{arg, run, value};

/// Days ahead that have a partition: how long a lock on `delivery_default` may be held, or the worker be kept from its
/// upkeep otherwise, before a day begins without one.
const AHEAD: i32 = 3;

/// Rows deleted in one go: some ten milliseconds' work, during which nothing is delivered.
const BATCH: i64 = 10_000;

const MISSING_DAY: &str = "SELECT day FROM klaviyo.missing_delivery_days($1) AS day LIMIT 1";
const ADD_DAY: &str = "SELECT klaviyo.add_delivery_day($1)";

/// A fresh worker asks for the calls of the last minute: whatever the setting, these stay.
const OLD_DAY: &str = "
    SELECT min(day)
    FROM klaviyo.delivery_days() AS day
    WHERE (day + 1)::timestamp AT TIME ZONE 'UTC' < pg_catalog.now() - greatest($1, 5) * interval '1 minute'";
const DROP_DAY: &str = "SELECT klaviyo.drop_delivery_day($1)";

const DELETE_STRAYS: &str = "
    DELETE FROM klaviyo.delivery_default AS d
    WHERE d.ctid = ANY (ARRAY(
        SELECT f.ctid FROM klaviyo.delivery_default AS f
        WHERE f.settled_at < pg_catalog.now() - greatest($1, 5) * interval '1 minute'
        ORDER BY f.settled_at
        LIMIT $2
    ))";

/// The oldest dead letters that match, and what is known of them. One that somebody is just redriving or discarding is
/// left to him, so that nobody waits.
macro_rules! delete_oldest_dead_letters {
    ($condition:literal) => {
        concat!(
            "WITH gone AS (
                DELETE FROM klaviyo.dead_letter AS d
                WHERE d.message_id = ANY (ARRAY(
                    SELECT l.message_id FROM klaviyo.dead_letter AS l
                    WHERE ",
            $condition,
            "
                      -- So is one whose request somebody is just readmitting from.
                      AND (
                          l.kind <> 'deletion'
                          OR NOT EXISTS (SELECT FROM klaviyo.deletion AS d WHERE d.message_id = l.message_id)
                          OR EXISTS (SELECT FROM klaviyo.deletion AS d WHERE d.message_id = l.message_id FOR UPDATE SKIP LOCKED)
                      )
                    ORDER BY l.died_at
                    LIMIT $1
                    FOR UPDATE SKIP LOCKED
                ))
                RETURNING d.message_id
            ), marks AS (
                DELETE FROM klaviyo.superseded AS s USING gone AS g WHERE s.message_id = g.message_id
            ), ",
            drop_requests!(),
            "
            SELECT g.message_id FROM gone AS g"
        )
    };
}

const DELETE_OLD_DEAD_LETTERS: &str =
    delete_oldest_dead_letters!("l.died_at < pg_catalog.now() - $2 * interval '1 minute'");
const DELETE_OLDEST_DEAD_LETTERS: &str = delete_oldest_dead_letters!("true");

const DELETE_OLD_ANSWERS: &str = "
    DELETE FROM klaviyo.answer AS a
    WHERE a.message_id = ANY (ARRAY(
        SELECT o.message_id FROM klaviyo.answer AS o
        WHERE o.answered_at < pg_catalog.now() - greatest($1, 5) * interval '1 minute'
        ORDER BY o.answered_at
        LIMIT $2
    ))";

const DELETE_OLD_DISCARDED: &str = "
    DELETE FROM klaviyo.discarded AS d
    WHERE d.message_id = ANY (ARRAY(
        SELECT o.message_id FROM klaviyo.discarded AS o
        WHERE o.discarded_at < pg_catalog.now() - $1 * interval '1 minute'
        ORDER BY o.discarded_at
        LIMIT $2
    ))";
const DELETE_OLD_DELETIONS: &str = "
    DELETE FROM klaviyo.deletion AS d
    WHERE d.message_id = ANY (ARRAY(
        SELECT o.message_id FROM klaviyo.deletion AS o
        WHERE coalesce(o.purged_at, o.dropped_at) < pg_catalog.now() - $1 * interval '1 minute'
        ORDER BY coalesce(o.purged_at, o.dropped_at)
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ))";

const COUNT_DEAD_LETTERS: &str = "SELECT count(*) FROM klaviyo.dead_letter";

/// Makes the partition of the next day that lacks one.
pub fn add_day() -> Result<usize, spi::Error> {
    match value::<Date>(MISSING_DAY, &[arg(AHEAD)])? {
        Some(day) => run(ADD_DAY, &[arg(day)]),
        None => Ok(0),
    }
}

/// Drops the partition of the oldest day, if all of that day is older than so many minutes.
pub fn drop_day(minutes: i32) -> Result<usize, spi::Error> {
    match value::<Date>(OLD_DAY, &[arg(minutes)])? {
        Some(day) => run(DROP_DAY, &[arg(day)]),
        None => Ok(0),
    }
}

/// Deletes deliveries that are older than so many minutes and in no day's partition.
pub fn delete_strays(minutes: i32) -> Result<usize, spi::Error> {
    run(DELETE_STRAYS, &[arg(minutes), arg(BATCH)])
}

/// Deletes dead letters that died longer ago than so many minutes.
pub fn delete_old_dead_letters(minutes: i32) -> Result<usize, spi::Error> {
    run(DELETE_OLD_DEAD_LETTERS, &[arg(BATCH), arg(minutes)])
}

/// Deletes answers that are older than so many minutes.
pub fn delete_old_answers(minutes: i32) -> Result<usize, spi::Error> {
    run(DELETE_OLD_ANSWERS, &[arg(minutes), arg(BATCH)])
}

/// Deletes what is known of messages discarded longer ago than so many minutes.
pub fn delete_old_discarded(minutes: i32) -> Result<usize, spi::Error> {
    run(DELETE_OLD_DISCARDED, &[arg(minutes), arg(BATCH)])
}

/// Deletes the records of requests for deletion that were done, or given up, longer ago than so many minutes.
pub fn delete_old_deletions(minutes: i32) -> Result<usize, spi::Error> {
    run(DELETE_OLD_DELETIONS, &[arg(minutes), arg(BATCH)])
}

/// How many dead letters there are above a limit.
pub fn surplus_dead_letters(limit: i32) -> Result<i64, spi::Error> {
    let there_are = value::<i64>(COUNT_DEAD_LETTERS, &[])?.unwrap_or_default();
    Ok((there_are - i64::from(limit)).max(0))
}

/// Deletes so many of the oldest dead letters, if that fits into one go.
pub fn delete_oldest_dead_letters(count: i64) -> Result<usize, spi::Error> {
    run(DELETE_OLDEST_DEAD_LETTERS, &[arg(count.min(BATCH))])
}
