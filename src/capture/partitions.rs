//! Partitions of a table, which have triggers of their own: a statement calls those of the table that it names, and no others.

use pgrx::pg_sys;

use super::generate::Capture;
use super::statements::{define_as_ours, done};
use super::table::Table;
use crate::pg::scoped::with_own_search_path;
use crate::pg::spi::{arg, column, rows};

/// All in a table's partition tree but itself, and whether they call a function.
const PARTITIONS: &str = "
    SELECT p.relid::oid, format('%I.%I', n.nspname, c.relname),
           EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = p.relid AND t.tgfoid = $2)
    FROM pg_partition_tree($1) AS p
    JOIN pg_class AS c ON c.oid = p.relid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE p.relid <> $1
    ORDER BY p.relid";

/// A relation of a partition tree.
#[derive(Debug)]
pub struct Partition {
    pub oid: pg_sys::Oid,
    name: String,
    /// Whether it calls the mapping's function.
    is_covered: bool,
}

/// All in a table's partition tree but itself.
pub fn find(table: &Table, function: pg_sys::Oid) -> Vec<Partition> {
    let mut partitions = Vec::new();
    with_own_search_path(|| {
        done(rows(PARTITIONS, &[arg(table.oid), arg(function)], |row| {
            partitions.push(Partition {
                oid: column(row, 1),
                name: column(row, 2),
                is_covered: column(row, 3),
            });
        }));
    });
    partitions
}

/// Has a table's partitions call the function as it does: a statement calls triggers of the table that it names alone. They
/// may be of other owners, who let their rows be seen by that of the table.
pub fn cover(id: i32, capture: &Capture, function: &str, partitions: &[Partition], disabled: bool) {
    for partition in partitions.iter().filter(|partition| !partition.is_covered) {
        define_as_ours(&capture.triggers(id, &partition.name, function));
        if disabled {
            define_as_ours(&capture.disable(id, &partition.name));
        }
    }
}
