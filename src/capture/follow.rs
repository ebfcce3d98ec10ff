//! Keeps mappings right while their tables are changed: partitions come and go, a table is renamed, loses its primary key, or
//! is inherited from. Called by an event trigger, with the extension's rights, in the transaction that changes them.

use pgrx::{JsonB, pg_sys};

use super::attached::Attached;
use super::generate::Capture;
use super::partitions;
use super::plan::Plan;
use super::refusal;
use super::statements::{define_as_ours, done};
use super::table::Table;
use crate::pg::function::Refusal;
use crate::pg::scoped::with_own_search_path;
use crate::pg::spi::{arg, column, rows};
use crate::pg::table::drop_with_table;

const MAPPINGS: &str = "
    SELECT s.id, s.name, m.plan
    FROM klaviyo.sync AS s
    JOIN klaviyo.mapping AS m ON m.id = s.id
    WHERE s.relation = $1 AND s.state <> 'copied'
    ORDER BY s.id";

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
        let Some(plan) = Plan::from_json(plan) else { continue };
        let capture = Capture { table: &table, plan };
        table
            .check_partitions()
            .and_then(|()| capture.check())
            .map_err(|refusal| in_the_way(&name, refusal))?;
        let attached = Attached::find(&table, id)?;
        renew(id, &capture, &attached);
        let partitions = partitions::find(&table, attached.function);
        attached.drop_triggers(|it| {
            it.relation != relation && !partitions.iter().any(|partition| partition.oid == it.relation)
        });
        partitions::cover(id, &capture, &attached.function_name, &partitions);
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

/// Writes the function anew where it is to be another, and the table's triggers where they are to be called otherwise.
fn renew(id: i32, capture: &Capture, attached: &Attached) {
    let table = capture.table;
    if capture.body(id) == attached.source {
        return;
    }
    let mut of_table = attached.triggers.iter().filter(|trigger| trigger.relation == table.oid);
    let statements = capture.function(id, &attached.function_name, "CREATE OR REPLACE");
    if of_table.all(|trigger| capture.levels(id).contains(&(trigger.name.clone(), trigger.is_row_level))) {
        define_as_ours(&statements);
    } else {
        attached.drop_triggers(|trigger| trigger.relation == table.oid);
        define_as_ours(&statements);
        define_as_ours(&capture.triggers(id, &table.sql(), &attached.function_name));
    }
    drop_with_table(attached.function, table.oid);
}
