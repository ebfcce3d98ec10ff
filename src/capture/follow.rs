//! Keeps mappings right while their tables are changed: partitions come and go, a table or its schema is renamed, it loses its
//! primary key, or is inherited from. Called by an event trigger, with the extension's rights, in the transaction that changes them.

use pgrx::{JsonB, pg_sys};

use super::attached::Attached;
use super::generate::Capture;
use super::partitions;
use super::plan::Plan;
use super::refusal;
use super::statements::{define, done, of_ours};
use super::table::Table;
use crate::pg::function::Refusal;
use crate::pg::scoped::with_own_search_path;
use crate::pg::spi::{arg, column, rows, run, value};
use crate::pg::table::drop_with_table;

const MAPPINGS: &str = "
    SELECT s.id, s.name, m.plan
    FROM klaviyo.sync AS s
    JOIN klaviyo.mapping AS m ON m.id = s.id
    WHERE s.relation = $1 AND s.state <> 'copied'
    ORDER BY s.id";

const OWN_SCHEMA: &str = "
    SELECT quote_ident(n.nspname)
    FROM pg_extension AS e
    JOIN pg_namespace AS n ON n.oid = e.extnamespace
    WHERE e.extname = 'klaviyo_sync'";

const REWRITE: &str = "UPDATE klaviyo.mapping AS m SET plan = $2 WHERE m.id = $1";

const RENAME: &str = "UPDATE klaviyo.mapping AS m SET table_name = $2 WHERE m.id = $1 AND m.table_name <> $2";

/// The schema that the functions stand in which queue.
fn own_schema() -> String {
    with_own_search_path(|| done(value(OWN_SCHEMA, &[]))).unwrap_or_default()
}

/// Brings a table's mappings in line with what it has become. Refused is what would have one capture too little or too much.
pub fn follow(relation: pg_sys::Oid) -> Result<(), Refusal> {
    let table = Table::open(Some(relation))?;
    let mut mappings: Vec<(i32, String, JsonB)> = Vec::new();
    with_own_search_path(|| {
        done(rows(MAPPINGS, &[arg(relation)], |row| {
            mappings.push((column(row, 1), column(row, 2), column(row, 3)));
        }));
    });
    for (id, name, JsonB(plan)) in mappings {
        let Some(mut plan) = Plan::from_json(plan) else { continue };
        if plan.action.queue_in(&own_schema()) {
            of_ours(|| done(run(REWRITE, &[arg(id), arg(JsonB(plan.to_json()))])));
        }
        let capture = Capture { table: &table, plan };
        table
            .check_partitions()
            .and_then(|()| capture.check())
            .map_err(|refusal| in_the_way(&name, refusal))?;
        let attached = Attached::find(&table, id)?;
        attached.check_owner(&table).map_err(|refusal| in_the_way(&name, refusal))?;
        of_ours(|| done(run(RENAME, &[arg(id), arg(table.sql())])));
        let disabled = attached.are_disabled(&table);
        renew(id, &capture, &attached, disabled);
        let partitions = partitions::find(&table, attached.function);
        attached.drop_triggers(|it| {
            it.relation != relation && !partitions.iter().any(|partition| partition.oid == it.relation)
        });
        partitions::cover(id, &capture, &attached.function_name, &partitions, disabled);
        // Names lead elsewhere where somebody else has just changed them: then this is not done.
        Attached::find(&table, id)?.check_same(&attached)?;
    }
    Ok(())
}

/// Why a mapping does not allow what somebody does to its table.
fn in_the_way(name: &str, refusal: Refusal) -> Refusal {
    refusal::table(
        format!("mapping \"{name}\" is in the way: {}", refusal.message),
        refusal.detail,
        "Take it away first with klaviyo_sync_detach().",
    )
}

/// Writes the function anew where it is to be another, and the table's triggers where they are to be called otherwise: with
/// the rights of their owner, and so never a function that runs with ours.
fn renew(id: i32, capture: &Capture, attached: &Attached, disabled: bool) {
    let table = capture.table;
    if capture.body(id) == attached.source {
        return;
    }
    let mut of_table = attached.triggers.iter().filter(|trigger| trigger.relation == table.oid);
    let statements = capture.function(id, &attached.function_name, "CREATE OR REPLACE");
    if of_table.all(|trigger| capture.levels(id).contains(&(trigger.name.clone(), trigger.is_row_level))) {
        define(table.owner, &statements);
    } else {
        attached.drop_triggers(|trigger| trigger.relation == table.oid);
        define(table.owner, &statements);
        define(table.owner, &capture.triggers(id, &table.sql(), &attached.function_name));
        if disabled {
            define(table.owner, &capture.disable(id, &table.sql()));
        }
    }
    drop_with_table(attached.function, table.oid);
}
