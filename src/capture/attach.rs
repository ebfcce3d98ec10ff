//! Makes a mapping so, or undoes it, in the transaction of whoever asks.

use pgrx::JsonB;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::fault::computing;
use super::generate::{self, Capture};
use super::operation::Operation;
use super::refusal;
use super::table::Table;
use crate::pg::scoped::{with_lock_timeout, with_own_search_path, with_rights_of};
use crate::pg::spi::{arg, column, rows, run, value};
use crate::pg::table::{as_owner, drop_with_table, keep_from_writers};
use crate::pg::{self, function::Refusal};

const SYNCED: &str = "
    SELECT s.id
    FROM klaviyo.sync AS s
    WHERE s.relation = $1 AND ($2 IS NULL OR s.name = $2)
    ORDER BY s.id";

const INSERT: &str = "
    INSERT INTO klaviyo.mapping (kind, name, account, spec, plan, relation)
    VALUES ($1, $2, $3, $4, $5, $6)
    RETURNING id";

const REPLACE: &str = "
    UPDATE klaviyo.mapping AS m
    SET kind = $1, account = $3, spec = $4, plan = $5, relation = $6, made_at = now()
    WHERE m.id = $7 AND m.name = $2
    RETURNING m.id";

const DELETE: &str = "DELETE FROM klaviyo.mapping AS m WHERE m.id = $1";

/// Of tables that were dropped.
const DELETE_ORPHANS: &str = "
    DELETE FROM klaviyo.mapping AS m
    WHERE NOT EXISTS (SELECT FROM klaviyo.sync AS s WHERE s.id = m.id)";

/// A mapping's function, and its triggers.
const TRIGGERS: &str = "
    SELECT t.tgfoid, format('%I.%I', n.nspname, p.proname), quote_ident(t.tgname),
           p.proname = 'klaviyo_sync_' || $3::text, p.proowner, pg_get_userbyid(p.proowner)::text,
           pg_has_role(p.proowner, 'USAGE')
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

/// Attaches a mapping, or changes the one of that name. Returns its number.
pub fn attach(mapping: Mapping, capture: &Capture, replace: bool) -> Result<i32, Refusal> {
    let table = capture.table;
    probe(capture)?;
    // As CREATE TRIGGER will: of two who attach the same at once, the second is to see the first's.
    with_lock_timeout(|| keep_from_writers(table.oid));
    let before = named(table, Some(mapping.name)).first().copied();
    if before.is_some() && !replace {
        return Err(refusal::argument(
            format!("{} has a mapping \"{}\" already", table.sql(), mapping.name),
            "A table's mappings are told apart by their names.",
            "Pass replace => true to change that one, or another name.",
        ));
    }
    let mut values = vec![
        arg(mapping.kind),
        arg(mapping.name),
        arg(mapping.account),
        arg(JsonB(mapping.spec)),
        arg(JsonB(capture.plan.to_json())),
        arg(table.oid),
    ];
    of_ours(|| done(run(DELETE_ORPHANS, &[])));
    if let Some(id) = before {
        take_away(table, id)?;
        values.push(arg(id));
    }
    let id = of_ours(|| {
        done(value::<i32>(if before.is_some() { REPLACE } else { INSERT }, &values))
            .unwrap_or_else(|| error!("klaviyo.mapping took no row"))
    });
    define(table.owner, &capture.attach(id));
    drop_with_table(attached(table, id).function, table.oid);
    Ok(id)
}

/// Detaches the table's mapping of that name, or all. Returns how many.
pub fn detach(table: &Table, name: Option<&str>) -> Result<usize, Refusal> {
    let ids = synced(table, name)?;
    for id in &ids {
        take_away(table, *id)?;
        of_ours(|| done(run(DELETE, &[arg(*id)])));
    }
    Ok(ids.len())
}

/// Drops what there is of a mapping: its triggers, which are the table's owner's, and its function, which may still be of
/// one who was that before.
fn take_away(table: &Table, id: i32) -> Result<(), Refusal> {
    let attached = attached(table, id);
    // Anybody may give a trigger such a name, and have it call what he likes.
    if !attached.is_ours {
        return Err(refusal::table(
            format!(
                "{} has a trigger that is called as those of mapping {id}, and calls another function",
                table.sql()
            ),
            "Names that begin with klaviyo_sync_ and a number are those of mappings.",
            "Drop that trigger, or rename it.",
        ));
    }
    if !attached.has_rights {
        return Err(refusal::rights(
            format!("{}() is not yours to drop", attached.function_name),
            "The table has another owner than when it was mapped.",
            format!(
                "Ask a member of role {}, or have the function be given to the table's owner.",
                attached.owner_name
            ),
        ));
    }
    let drop_trigger = |trigger: &String| format!("DROP TRIGGER {trigger} ON {}", table.sql());
    let drop_triggers: Vec<String> = attached.triggers.iter().map(drop_trigger).collect();
    define(table.owner, &drop_triggers);
    define(attached.owner, &[format!("DROP FUNCTION {}()", attached.function_name)]);
    Ok(())
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

fn named(table: &Table, name: Option<&str>) -> Vec<i32> {
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
    /// Whether the function's name is that of the mapping's.
    is_ours: bool,
    owner: pg_sys::Oid,
    owner_name: String,
    /// Whether who asks has its owner's rights.
    has_rights: bool,
    triggers: Vec<String>,
}

fn attached(table: &Table, id: i32) -> Attached {
    let mut attached: Option<Attached> = None;
    with_own_search_path(|| {
        let names = Operation::ALL.map(|operation| generate::trigger_name(id, operation)).to_vec();
        done(rows(TRIGGERS, &[arg(table.oid), arg(names), arg(id)], |row| {
            let it = attached.get_or_insert_with(|| Attached {
                function: column(row, 1),
                function_name: column(row, 2),
                is_ours: true,
                owner: column(row, 5),
                owner_name: column(row, 6),
                has_rights: column(row, 7),
                triggers: Vec::new(),
            });
            it.triggers.push(column(row, 3));
            it.is_ours &= column::<bool>(row, 4) && it.function == column::<pg_sys::Oid>(row, 1);
        }));
    });
    attached.unwrap_or_else(|| error!("{} has no trigger of mapping {id}", table.sql()))
}

/// Runs statements that change the table. They are an owner's, and wait for its writers as briefly as who asks wants to:
/// while they do, nobody else can write.
fn define(owner: pg_sys::Oid, statements: &[String]) {
    with_lock_timeout(|| {
        with_rights_of(owner, || {
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

/// Reads or writes our table of mappings, which nobody else may write to: what stands there is run with the rights of the
/// tables' owners.
pub(super) fn of_ours<R>(run: impl FnOnce() -> R) -> R {
    let mappings = pg::table::Table::open(c"klaviyo", c"mapping", pg_sys::AccessShareLock);
    as_owner(mappings.as_ref(), run)
}

/// What a statement returned.
pub(super) fn done<T>(result: Result<T, spi::Error>) -> T {
    result.unwrap_or_else(|error| error!("{error}"))
}
