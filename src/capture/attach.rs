//! Makes a mapping so, or undoes it, in the transaction of whoever asks.

use pgrx::JsonB;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::fault::computing;
use super::generate::{self, Capture};
use super::operation::Operation;
use super::refusal;
use super::table::Table;
use crate::pg::function::Refusal;
use crate::pg::scoped::{with_lock_timeout, with_own_search_path, with_rights_of};
use crate::pg::spi::{arg, column, rows, run, value};
use crate::pg::table::{drop_with_table, keep_from_writers};

const SYNCED: &str = "
    SELECT s.id
    FROM klaviyo.sync AS s
    WHERE s.relation = $1 AND ($2 IS NULL OR s.name = $2)
    ORDER BY s.id";

const INSERT: &str = "
    INSERT INTO klaviyo.mapping (kind, name, account, spec, message, condition)
    VALUES ($1, $2, $3, $4, $5, $6)
    RETURNING id";

const DELETE: &str = "DELETE FROM klaviyo.mapping AS m WHERE m.id = $1";

/// Of tables that were dropped.
const DELETE_ORPHANS: &str = "
    DELETE FROM klaviyo.mapping AS m
    WHERE NOT EXISTS (SELECT FROM klaviyo.sync AS s WHERE s.id = m.id)";

/// A mapping's function, and its triggers.
const TRIGGERS: &str = "
    SELECT t.tgfoid, format('%I.%I', n.nspname, p.proname), quote_ident(t.tgname)
    FROM pg_trigger AS t
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE t.tgrelid = $1 AND t.tgname = ANY ($2) AND NOT t.tgisinternal";

/// What a mapping is, besides what it does.
#[derive(Debug)]
pub struct Mapping<'a> {
    pub kind: &'static str,
    pub name: &'a str,
    pub account: &'a str,
    /// What was said of the table's columns.
    pub spec: serde_json::Value,
}

/// Attaches a mapping. Returns its number.
pub fn attach(mapping: Mapping, capture: &Capture) -> Result<i32, Refusal> {
    let table = capture.table;
    probe(capture)?;
    // As CREATE TRIGGER will: of two who attach the same at once, the second is to see the first's.
    with_lock_timeout(|| keep_from_writers(table.oid));
    if !synced(table, Some(mapping.name)).is_empty() {
        return Err(refusal::argument(
            format!("{} has a mapping \"{}\" already", table.sql(), mapping.name),
            "A table's mappings are told apart by their names.",
            "Detach that one first with klaviyo_sync_detach(), or pass another name.",
        ));
    }
    let values = [
        arg(mapping.kind),
        arg(mapping.name),
        arg(mapping.account),
        arg(JsonB(mapping.spec)),
        arg(capture.action.message()),
        arg(capture.action.condition.clone()),
    ];
    let id = with_own_search_path(|| {
        done(run(DELETE_ORPHANS, &[]));
        done(value::<i32>(INSERT, &values)).unwrap_or_else(|| error!("klaviyo.mapping took no row"))
    });
    define(table, &capture.attach(id));
    drop_with_table(attached(table, id).function, table.oid);
    Ok(id)
}

/// Detaches the table's mapping of that name, or all. Returns how many.
pub fn detach(table: &Table, name: Option<&str>) -> Result<usize, Refusal> {
    let ids = synced(table, name);
    if let Some(name) = name.filter(|_| ids.is_empty()) {
        return Err(refusal::table(
            format!("{} has no mapping \"{name}\"", table.sql()),
            "Nothing is attached to it under that name.",
            "See klaviyo.sync for what is attached.",
        ));
    }
    for id in &ids {
        let attached = attached(table, *id);
        let drop_trigger = |trigger: &String| format!("DROP TRIGGER {trigger} ON {}", table.sql());
        let mut statements: Vec<String> = attached.triggers.iter().map(drop_trigger).collect();
        statements.push(format!("DROP FUNCTION {}()", attached.function_name));
        define(table, &statements);
        with_own_search_path(|| done(run(DELETE, &[arg(*id)])));
    }
    Ok(ids.len())
}

/// The numbers of the table's mappings of that name, or of all.
fn synced(table: &Table, name: Option<&str>) -> Vec<i32> {
    let mut ids = Vec::new();
    with_own_search_path(|| {
        done(rows(SYNCED, &[arg(table.oid), arg(name)], |row| ids.push(column(row, 1))));
    });
    ids
}

/// What there is of a mapping.
struct Attached {
    function: pg_sys::Oid,
    /// In full: the table may have moved to another schema since it was made.
    function_name: String,
    triggers: Vec<String>,
}

fn attached(table: &Table, id: i32) -> Attached {
    let mut attached: Option<Attached> = None;
    with_own_search_path(|| {
        let names = Operation::ALL.map(|operation| generate::trigger_name(id, operation)).to_vec();
        done(rows(TRIGGERS, &[arg(table.oid), arg(names)], |row| {
            let (function, function_name) = (column(row, 1), column(row, 2));
            let it = attached.get_or_insert(Attached { function, function_name, triggers: Vec::new() });
            it.triggers.push(column(row, 3));
        }));
    });
    attached.unwrap_or_else(|| error!("{} has no trigger of mapping {id}", table.sql()))
}

/// Runs statements that change the table. They are its owner's, and wait for its writers as briefly as who asks wants to:
/// while they do, nobody else can write.
fn define(table: &Table, statements: &[String]) {
    with_lock_timeout(|| {
        with_rights_of(table.owner, || {
            for statement in statements {
                done(Spi::run(statement));
            }
        });
    });
}

/// Each expression is right by itself, as whoever asks sees the table. Whether they are in a trigger, and its owner may
/// use what they use, Postgres tells that begins to run them.
fn probe(capture: &Capture) -> Result<(), Refusal> {
    let hint = "In a trigger rows have their columns and nothing else: no type of the table's, no ctid, no xmin, no column that is computed when it is read.";
    computing(capture.table, hint, || capture.probes().iter().for_each(|probe| done(Spi::run(probe))))
}

/// What a statement returned.
pub(super) fn done<T>(result: Result<T, spi::Error>) -> T {
    result.unwrap_or_else(|error| error!("{error}"))
}
