//! Backfills: what stood in a table before it was mapped, sent as history, chunk by chunk.
//!
//! How far one has come is written down with the messages that it has queued, so that after a crash it goes on with the next
//! row, and no row is sent twice. See [`chunk`] for what is done at a time, and [`notes`] for rows that are not its to send.

pub mod chunk;
pub mod notes;

use pgrx::prelude::*;
use pgrx::spi::quote_identifier;
use pgrx::{JsonB, spi};

use super::attach::synced;
use super::fault::computing;
use super::operation::Operation;
use super::plan::Plan;
use super::query::Message;
use super::reader::{Reader, Wanted};
use super::refusal;
use super::statements::{done, of_ours};
use super::table::Table;
use crate::pg::function::Refusal;
use crate::pg::spi::{arg, column, rows, run};
use crate::pg::transaction::{AtCommit, at_commit};

const MAPPING: &str = "
    SELECT m.name, m.plan, m.notes_keys,
           EXISTS (SELECT FROM klaviyo.backfill_run AS r WHERE r.mapping = m.id AND r.ended_at IS NULL),
           EXISTS (
               SELECT FROM klaviyo.backfill_run AS r
               WHERE r.mapping = m.id AND r.state = 'done' AND r.condition IS NULL AND NOT r.again
           )
    FROM klaviyo.mapping AS m
    WHERE m.id = $1";

const START: &str = "
    INSERT INTO klaviyo.backfill_run (mapping, spec, condition, again)
    VALUES ($1, $2, $3, $4)";

const PAUSE: &str = "
    UPDATE klaviyo.backfill_run AS r
    SET state = 'paused', error = NULL
    WHERE r.mapping = ANY ($1) AND r.state = 'running'";

const RESUME: &str = "
    UPDATE klaviyo.backfill_run AS r
    SET state = 'running', error = NULL, resumed_at = now(), done_before = r.rows_done, refused_before = r.rows_refused
    WHERE r.mapping = ANY ($1) AND r.state = 'paused'";

const CANCEL: &str = "
    UPDATE klaviyo.backfill_run AS r
    SET state = 'cancelled', ended_at = now(), error = NULL
    WHERE r.mapping = ANY ($1) AND r.ended_at IS NULL";

/// Of those that can go on here: in a copy none can before it captures what is written.
const RUNNING: &str = "
    SELECT r.id
    FROM klaviyo.backfill_run AS r
    JOIN klaviyo.mapping AS m ON m.id = r.mapping
    WHERE r.state = 'running'
      AND EXISTS (
          SELECT FROM pg_trigger AS t
          WHERE t.tgrelid = m.relation AND starts_with(t.tgname::text, 'klaviyo_sync_' || m.id || '_')
      )
    ORDER BY r.id";

/// What is to be done with those that are open.
#[derive(Clone, Copy)]
pub enum Change {
    Pause,
    Resume,
    Cancel,
}

/// Begins one for the table's mapping of that name, or for each. Returns how many.
pub fn start(
    table: &Table,
    name: Option<&str>,
    condition: Option<&str>,
    again: bool,
) -> Result<usize, Refusal> {
    let ids = synced(table, name)?;
    if ids.is_empty() {
        return Err(refusal::table(
            format!("{} is not mapped", table.sql()),
            "What is sent of its rows a mapping says.",
            "Map it first with klaviyo_sync_events() or klaviyo_sync_profiles().",
        ));
    }
    if !table.has_order() {
        return Err(refusal::table(
            format!("{} has no primary key that its rows could be taken in the order of", table.sql()),
            "A backfill takes rows in its order, so that it can go on after the last one.",
            "Give it one; then take the mapping away with klaviyo_sync_detach(), and make it anew.",
        ));
    }
    let resolved =
        condition.map(|text| Reader::new(table).value("where", text, Wanted::Condition)).transpose()?;
    if let Some(condition) = &resolved {
        let columns: Vec<String> = table.columns.iter().map(quote_identifier).collect();
        let rows = format!("(SELECT {} FROM {} LIMIT 0)", columns.join(", "), table.rows());
        let probe = format!("SELECT FROM {rows} AS \"row\" WHERE {condition}");
        computing(table, "Correct \"where\".", || {
            Spi::connect(|client| done(client.select(probe.as_str(), None, &[]).map(drop)));
        })
        .map_err(|refusal| Refusal {
            message: "argument \"where\" cannot be computed".to_owned(),
            ..refusal
        })?;
    }
    for id in &ids {
        check(table, *id, again)?;
        of_ours(|| done(run(START, &[arg(*id), arg(condition), arg(resolved.as_deref()), arg(again)])));
    }
    at_commit(AtCommit { configuration: true, ..AtCommit::default() });
    Ok(ids.len())
}

/// Refuses what would send rows twice, or none.
fn check(table: &Table, id: i32, again: bool) -> Result<(), Refusal> {
    let mut mapping: Option<(String, JsonB, [bool; 3])> = None;
    of_ours(|| {
        done(rows(MAPPING, &[arg(id)], |row| {
            mapping = Some((column(row, 1), column(row, 2), [3, 4, 5].map(|flag| column(row, flag))));
        }));
    });
    let Some((name, JsonB(plan), [notes_keys, is_under_way, is_done])) = mapping else { return Ok(()) };
    let Some(plan) = Plan::from_json(plan) else { return Ok(()) };
    let whose = format!("mapping \"{name}\" of {}", table.sql());
    if is_under_way {
        return Err(refusal::argument(
            format!("a backfill of {whose} is under way"),
            "A mapping has one at a time.",
            "See klaviyo.backfill; klaviyo_backfill_resume() has one that is paused go on, klaviyo_backfill_cancel() ends it.",
        ));
    }
    if is_done && !again {
        return Err(refusal::argument(
            format!("the history of {whose} has been sent"),
            "A backfill of all that was there is done.",
            AGAIN,
        ));
    }
    may_run(table, &plan, again, notes_keys)
        .map_err(|refusal| Refusal { message: format!("{whose}: {}", refusal.message), ..refusal })
}

/// Refuses what would send rows twice, or none, as mapping and table are.
fn may_run(table: &Table, plan: &Plan, again: bool, notes_keys: bool) -> Result<(), Refusal> {
    if plan.operations == [Operation::Delete] {
        return Err(refusal::argument(
            "there is no history in the table",
            "The mapping sends rows that are deleted.",
            "Name another mapping.",
        ));
    }
    if table.hides_rows {
        return Err(refusal::table(
            format!("the owner of {} does not see all of its rows", table.sql()),
            "Its row-level security is forced on him, and the rows are read with his rights.",
            "Give him BYPASSRLS, or ALTER TABLE … NO FORCE ROW LEVEL SECURITY.",
        ));
    }
    if again {
        let has_id = match &plan.action.message {
            Message::Event(arguments) => arguments.iter().any(|(name, _)| name == "unique_id"),
            Message::Profile(_) => true,
        };
        return if has_id {
            Ok(())
        } else {
            Err(refusal::argument(
                "it has no unique_id",
                "Klaviyo would take an event that is sent again for another.",
                "Map a unique_id, with replace => true; or leave out again => true.",
            ))
        };
    }
    let Some(boundary) = plan.boundary.as_ref().filter(|boundary| boundary.is_of(table)) else {
        return Err(refusal::argument(
            "which rows were there before the table was mapped is not known",
            "The table had no primary key then, or has another now.",
            AGAIN,
        ));
    };
    if !notes_keys && !boundary.is_empty() {
        return Err(refusal::argument(
            "which rows have been captured is not known any more",
            "There were more than can be noted.",
            AGAIN,
        ));
    }
    Ok(())
}

const AGAIN: &str =
    "Pass again => true to send rows again, and say which by \"where\": each goes in a call of its own.";

/// Changes what is open of the table's mapping of that name, or of all. Returns how many.
pub fn change(table: &Table, name: Option<&str>, change: Change) -> Result<usize, Refusal> {
    let ids = synced(table, name)?;
    let statement = match change {
        Change::Pause => PAUSE,
        Change::Resume => RESUME,
        Change::Cancel => CANCEL,
    };
    let changed = of_ours(|| done(run(statement, &[arg(ids)])));
    at_commit(AtCommit { configuration: true, ..AtCommit::default() });
    Ok(changed)
}

/// The numbers of those to be worked on.
pub fn running() -> Result<Vec<i32>, spi::Error> {
    let mut running = Vec::new();
    rows(RUNNING, &[], |row| running.push(column(row, 1)))?;
    Ok(running)
}
