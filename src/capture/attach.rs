//! Makes a mapping so, or undoes it, in the transaction of whoever asks.

use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};

use super::attached::Attached;
use super::boundary::Boundary;
use super::fault::computing;
use super::generate::{self, Capture};
use super::partitions;
use super::plan::Plan;
use super::refusal;
use super::statements::{define, done, of_ours};
use super::table::Table;
use crate::pg;
use crate::pg::function::Refusal;
use crate::pg::scoped::{with_lock_timeout, with_own_search_path};
use crate::pg::spi::{arg, column, rows, run, value};
use crate::pg::table::{drop_with_table, keep_from_writers};
use crate::pg::transaction::{AtCommit, at_commit};

const SYNCED: &str = "
    SELECT s.id
    FROM klaviyo.sync AS s
    WHERE s.relation = $1 AND ($2 IS NULL OR s.name = $2)
    ORDER BY s.id";

const INSERT: &str = "
    INSERT INTO klaviyo.mapping (kind, name, account, spec, plan, relation, table_name, writes_back, writes_back_after, notes_keys)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $8 THEN '' END, $9)
    RETURNING id";

const REPLACE: &str = "
    UPDATE klaviyo.mapping AS m
    SET kind = $1, account = $3, spec = $4, plan = $5, relation = $6, table_name = $7, writes_back = $8,
        writes_back_after = CASE WHEN $8 THEN '' END, made_at = now()
    WHERE m.id = $9 AND m.name = $2
    RETURNING m.id";

const PLAN: &str = "SELECT m.plan FROM klaviyo.mapping AS m WHERE m.id = $1";

const DELETE: &str = "
    WITH noted AS (
        DELETE FROM klaviyo.captured_key AS k WHERE k.mapping = $1
    )
    DELETE FROM klaviyo.mapping AS m WHERE m.id = $1";

/// Of tables that no event trigger told the end of.
const DELETE_ORPHANS: &str = "
    WITH orphan AS (
        DELETE FROM klaviyo.mapping AS m
        WHERE NOT EXISTS (SELECT FROM klaviyo.sync AS s WHERE s.id = m.id)
        RETURNING m.id
    )
    DELETE FROM klaviyo.captured_key AS k USING orphan AS o WHERE k.mapping = o.id";

/// What it was to write back by what was said before.
const WRITE_NOTHING_BACK: &str = "DELETE FROM klaviyo.write_back AS w WHERE w.mapping = $1";

/// What a mapping is, besides what it does.
#[derive(Debug)]
pub struct Mapping<'a> {
    pub kind: &'static str,
    pub name: &'a str,
    pub account: &'a str,
    /// What was said of the table's columns.
    pub spec: serde_json::Value,
}

/// Attaches a mapping, or changes the one of that name. Returns its number.
pub fn attach(mapping: Mapping, mut capture: Capture, replace: bool) -> Result<i32, Refusal> {
    let table = capture.table;
    capture.check()?;
    table.check_schema()?;
    // What others commit before they are kept from writing is history, and must be seen for that.
    if !pg::transaction::sees_latest() {
        return Err(refusal::argument(
            "a table cannot be mapped at this isolation level",
            "The transaction sees the table as it was when it began, and not what has been written to it since.",
            "Map it in a READ COMMITTED transaction, or outside of one.",
        ));
    }
    probe(&capture)?;
    // As CREATE TRIGGER will: of two who attach the same at once, the second is to see the first's.
    with_lock_timeout(|| {
        keep_from_writers(table.oid);
        partitions::find(table, pg_sys::InvalidOid).iter().for_each(|it| keep_from_writers(it.oid));
    });
    let before = named(table, Some(mapping.name)).first().copied();
    if before.is_some() && !replace {
        return Err(refusal::argument(
            format!("{} has a mapping \"{}\" already", table.sql(), mapping.name),
            "A table's mappings are told apart by their names.",
            "Pass replace => true to change that one, or another name.",
        ));
    }
    capture.plan.boundary = match before {
        None => Boundary::find(table)?,
        // What has been captured until now was so by that of before.
        Some(id) => plan_of(id).and_then(|plan| plan.boundary).filter(|it| it.is_of(table)),
    };
    let mut values = vec![
        arg(mapping.kind),
        arg(mapping.name),
        arg(mapping.account),
        arg(JsonB(mapping.spec)),
        arg(JsonB(capture.plan.to_json())),
        arg(table.oid),
        arg(table.sql()),
        arg(capture.plan.write_back.is_some()),
    ];
    of_ours(|| done(run(DELETE_ORPHANS, &[])));
    match before {
        None => values.push(arg(capture.plan.boundary.as_ref().is_some_and(|it| !it.is_empty()))),
        Some(id) => {
            Attached::find(table, id)?.take_away()?;
            values.push(arg(id));
        }
    }
    let id = of_ours(|| {
        done(value::<i32>(if before.is_some() { REPLACE } else { INSERT }, &values))
            .unwrap_or_else(|| error!("klaviyo.mapping took no row"))
    });
    if before.is_some() {
        of_ours(|| done(run(WRITE_NOTHING_BACK, &[arg(id)])));
    }
    if capture.plan.write_back.is_some() {
        at_commit(AtCommit { runner: true, ..AtCommit::default() });
    }
    let function = generate::function_name(table, id);
    define(table.owner, &capture.function(id, &function, "CREATE"));
    define(table.owner, &capture.triggers(id, &table.sql(), &function));
    let attached = Attached::find(table, id)?;
    drop_with_table(attached.function, table.oid);
    partitions::cover(id, &capture, &function, &partitions::find(table, attached.function), false);
    Ok(id)
}

/// Detaches the table's mapping of that name, or all. Returns how many.
pub fn detach(table: &Table, name: Option<&str>) -> Result<usize, Refusal> {
    let ids = synced(table, name)?;
    for id in &ids {
        Attached::find(table, *id)?.take_away()?;
        of_ours(|| done(run(DELETE, &[arg(*id)])));
    }
    Ok(ids.len())
}

/// The numbers of the table's mappings of that name, which must be there, or of all.
pub(super) fn synced(table: &Table, name: Option<&str>) -> Result<Vec<i32>, Refusal> {
    let ids = named(table, name);
    match name.filter(|_| ids.is_empty()) {
        None => Ok(ids),
        Some(name) => Err(refusal::table(
            format!("{} has no mapping \"{name}\"", table.sql()),
            "Nothing is attached to it under that name.",
            "See klaviyo.sync for what is attached.",
        )),
    }
}

fn plan_of(id: i32) -> Option<Plan> {
    let plan: Option<JsonB> = of_ours(|| done(value(PLAN, &[arg(id)])));
    plan.and_then(|JsonB(plan)| Plan::from_json(plan))
}

fn named(table: &Table, name: Option<&str>) -> Vec<i32> {
    let mut ids = Vec::new();
    with_own_search_path(|| {
        done(rows(SYNCED, &[arg(table.oid), arg(name)], |row| ids.push(column(row, 1))));
    });
    ids
}

/// Each expression is right by itself, as whoever asks sees the table. Whether they are in a trigger, and its owner may
/// use what they use, Postgres tells that begins to run them.
fn probe(capture: &Capture) -> Result<(), Refusal> {
    let hint = "In a trigger rows have their columns and nothing else: no type of the table's, no ctid, no xmin, no column that is computed when it is read.";
    computing(capture.table, hint, || capture.probes().iter().for_each(|probe| done(Spi::run(probe))))
}
