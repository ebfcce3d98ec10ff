//! Profiles that have changed at Klaviyo, and what has become of each, which is written in a transaction of its own.

use std::time::Duration;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::{JsonB, spi};

use super::mapping::{Found, Mapping};
use super::row::Row;
use crate::pg::spi::{arg, column, rows, run, value};

/// Whether there is anything to write back, now or soon.
const ANY: &str = "
    SELECT (EXISTS (SELECT FROM klaviyo.write_back) OR EXISTS (SELECT FROM klaviyo.mapping AS m WHERE m.writes_back_after IS NOT NULL))
           AND EXISTS (
               SELECT FROM klaviyo.sync AS s
               JOIN klaviyo.mapping AS m USING (id)
               WHERE s.state = 'on'
                 AND (m.writes_back_after IS NOT NULL
                      OR EXISTS (
                          SELECT FROM klaviyo.write_back AS w
                          WHERE w.mapping = m.id AND w.not_before < pg_catalog.now() + interval '30 seconds'
                      ))
           )";

/// What was known when it was mapped, some at a time.
const FILL: &str = "
    WITH known AS (
        SELECT p.account, p.profile_id
        FROM klaviyo.mapping AS m
        JOIN klaviyo.profile AS p ON p.account = m.account AND p.profile_id > m.writes_back_after
        WHERE m.id = $1
        ORDER BY p.account, p.profile_id
        LIMIT 5000
    ), noted AS (
        INSERT INTO klaviyo.write_back (mapping, account, profile_id)
        SELECT $1, k.account, k.profile_id FROM known AS k
        ON CONFLICT DO NOTHING
    )
    UPDATE klaviyo.mapping AS m
    SET writes_back_after = (SELECT max(k.profile_id) FROM known AS k)
    WHERE m.id = $1 AND m.writes_back_after IS NOT NULL";

/// Of a mapping that writes nothing back any more.
const FORGET_ALL: &str = "
    DELETE FROM klaviyo.write_back AS w USING klaviyo.mapping AS m WHERE w.mapping = $1 AND m.id = $1 AND NOT m.writes_back";

const BATCH: &str = "
    SELECT w.account, w.profile_id, p.external_id, p.email, p.phone_number
    FROM klaviyo.write_back AS w
    JOIN klaviyo.profile AS p USING (account, profile_id)
    WHERE w.mapping = $1 AND w.not_before <= pg_catalog.clock_timestamp()
    ORDER BY w.account, w.profile_id
    LIMIT $2";

/// Nobody has it but who purges it.
const OPEN: &str = "
    SELECT w.before::text, klaviyo.told_of(to_jsonb(p))::text, p.updated_at, m.plan, m.relation
    FROM klaviyo.write_back AS w
    JOIN klaviyo.profile AS p USING (account, profile_id)
    JOIN klaviyo.mapping AS m ON m.id = w.mapping
    WHERE w.mapping = $1 AND w.account = $2 AND w.profile_id = $3 AND klaviyo.is_capturing(m.id, m.relation)
    FOR UPDATE OF w SKIP LOCKED";

const DONE: &str =
    "DELETE FROM klaviyo.write_back AS w WHERE w.mapping = $1 AND w.account = $2 AND w.profile_id = $3";

const ALL_DONE: &str = "
    DELETE FROM klaviyo.write_back AS w
    USING unnest($2::text[], $3::text[]) AS d (account, profile_id)
    WHERE w.mapping = $1 AND w.account = d.account AND w.profile_id = d.profile_id";

/// It is tried again after a while also if nothing more is heard of it: what ends its process is in no other's way.
const BEGIN: &str = "
    UPDATE klaviyo.write_back AS w
    SET attempts = w.attempts + 1, error = 'the process that wrote it has ended',
        not_before = pg_catalog.clock_timestamp() + least(power(2, least(w.attempts, 10)), 600) * interval '1 second'
    WHERE (w.mapping, w.account, w.profile_id) IN (
        SELECT b.mapping, b.account, b.profile_id FROM klaviyo.write_back AS b
        WHERE b.mapping = $1 AND b.account = $2 AND b.profile_id = $3
        FOR UPDATE SKIP LOCKED
    )";

const PUT_OFF_BATCH: &str = "
    UPDATE klaviyo.write_back AS w
    SET attempts = w.attempts + 1, error = $2, not_before = pg_catalog.clock_timestamp() + interval '1 minute'
    WHERE (w.mapping, w.account, w.profile_id) IN (
        SELECT b.mapping, b.account, b.profile_id FROM klaviyo.write_back AS b
        WHERE b.mapping = $1 AND b.not_before <= pg_catalog.clock_timestamp()
        ORDER BY b.account, b.profile_id
        LIMIT $3
        FOR UPDATE SKIP LOCKED
    )";

const PUT_OFF: &str = "
    UPDATE klaviyo.write_back AS w
    SET error = $4
    WHERE w.mapping = $1 AND w.account = $2 AND w.profile_id = $3";

const EXPIRE: &str = "
    DELETE FROM klaviyo.own_value AS o
    WHERE o.ctid = ANY (ARRAY(
        SELECT e.ctid FROM klaviyo.own_value AS e WHERE e.noted_at < pg_catalog.now() - interval '30 days' LIMIT 10000
    ))";

const DELETE_OLD: &str = "
    DELETE FROM klaviyo.sync_conflict AS c
    WHERE c.conflict_id = ANY (ARRAY(
        SELECT o.conflict_id FROM klaviyo.sync_conflict AS o
        WHERE o.found_at < pg_catalog.now() - $1 * interval '1 minute'
        ORDER BY o.found_at
        LIMIT 10000
    ))";

/// What is waited for of others, who may keep a row for long.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '100ms'";

/// Profiles whose rows are looked for together: where no index finds them, the table is read once for all.
const TOGETHER: i64 = 500;

/// How long it may take to write a row, with whatever triggers do.
pub const TIMEOUT_OF_ROW: Duration = Duration::from_secs(5);

/// Bytes of an error that are kept.
const KEPT: usize = 2_000;

/// A profile to write back.
pub struct Task {
    mapping: i32,
    pub account: String,
    profile: String,
    pub rows: Vec<Found>,
}

/// Whether there is anything to do.
pub fn is_any() -> Result<bool, spi::Error> {
    Ok(value::<bool>(ANY, &[])?.unwrap_or_default())
}

/// Some of the profiles to be written back for a mapping. Those that no row is of are done. None if nothing can be done for it just now.
pub fn next(mapping: i32) -> Result<Option<Vec<Task>>, spi::Error> {
    let Some(mapping) = Mapping::open(mapping)? else {
        run(FORGET_ALL, &[arg(mapping)])?;
        return Ok(None);
    };
    run(FILL, &[arg(mapping.id)])?;
    let mut tasks = Vec::new();
    let mut identifiers: Vec<[Option<String>; 3]> = Vec::new();
    rows(BATCH, &[arg(mapping.id), arg(TOGETHER)], |row| {
        let text = |number| row.get::<String>(number).ok().flatten();
        tasks.push(Task {
            mapping: mapping.id,
            account: column(row, 1),
            profile: column(row, 2),
            rows: Vec::new(),
        });
        identifiers.push([text(3), text(4), text(5)]);
    })?;
    mapping.find(&mut tasks, &identifiers)?;
    let (tasks, without): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task: &Task| !task.rows.is_empty());
    let (accounts, profiles): (Vec<String>, Vec<String>) =
        without.into_iter().map(|task| (task.account, task.profile)).unzip();
    if !accounts.is_empty() {
        run(ALL_DONE, &[arg(mapping.id), arg(accounts), arg(profiles)])?;
    }
    Ok(Some(tasks))
}

/// Notes why the rows of those that are next cannot be found, and tries it again later.
pub fn put_off(mapping: i32, error: &str) -> Result<(), spi::Error> {
    run(PUT_OFF_BATCH, &[arg(mapping), arg(kept(error)), arg(TOGETHER)]).map(drop)
}

fn kept(error: &str) -> &str {
    &error[..error.floor_char_boundary(KEPT)]
}

impl Task {
    /// How long it may take in all.
    pub fn timeout(&self) -> Duration {
        TIMEOUT_OF_ROW * (u32::try_from(self.rows.len()).unwrap_or(1).min(1_000) + 3)
    }

    /// Writes down that it is begun. False if somebody has it.
    pub fn begin(&self) -> Result<bool, spi::Error> {
        Ok(run(BEGIN, &self.ids())? > 0)
    }

    /// Writes it into all its rows, in the transaction the caller has begun.
    pub fn write(&self) -> Result<(), spi::Error> {
        Spi::run(LOCK_TIMEOUT)?;
        let mut open = None;
        rows(OPEN, &self.ids(), |row| {
            let JsonB(plan) = column(row, 4);
            let before: Option<String> = row.get(1).ok().flatten();
            let theirs: String = column(row, 2);
            let updated_at: Option<TimestampWithTimeZone> = row.get(3).ok().flatten();
            open = Mapping::of(self.mapping, plan, column(row, 5))
                .map(|mapping| (mapping, before, theirs, updated_at));
        })?;
        let Some((mapping, before, theirs, their_updated_at)) = open else { return Ok(()) };
        for found in &self.rows {
            if let Some((own, own_updated_at)) = mapping.lock(found)? {
                let (theirs, mapping, key) = (&theirs, &mapping, &found.key);
                let row = Row { task: self, mapping, key, own, own_updated_at, theirs, their_updated_at };
                row.settle(before.as_deref())?;
            }
        }
        run(DONE, &self.ids()).map(drop)
    }

    /// Notes why it cannot be written.
    pub fn put_off(&self, error: &str) -> Result<(), spi::Error> {
        let [mapping, account, profile] = self.ids();
        run(PUT_OFF, &[mapping, account, profile, arg(kept(error))]).map(drop)
    }

    pub fn ids(&self) -> [pgrx::datum::DatumWithOid<'_>; 3] {
        [arg(self.mapping), arg(self.account.as_str()), arg(self.profile.as_str())]
    }
}

/// Deletes conflicts that were found longer ago than so many minutes, and what is noted of values for nothing.
pub fn delete_old(minutes: Option<i32>) -> Result<usize, spi::Error> {
    let conflicts = minutes.map_or(Ok(0), |minutes| run(DELETE_OLD, &[arg(minutes)]))?;
    Ok(conflicts + run(EXPIRE, &[])?)
}
