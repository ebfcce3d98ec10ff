//! Where a table's history ends: its rows up to the highest primary key that there was when it was mapped are a backfill's to
//! send, but for those that are captured; all others are captured.

use pgrx::prelude::*;
use serde::{Deserialize, Serialize};

use super::fault::computing;
use super::statements::done;
use super::table::Table;
use crate::pg::function::Refusal;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    /// The names of the key's columns, their numbers and their types in full. A column that is renamed keeps its number, and
    /// one that is restored from a dump its name.
    columns: Vec<String>,
    numbers: Vec<i16>,
    types: Vec<String>,
    /// The highest key, column by column; empty where there was no row.
    last: Vec<String>,
}

impl Boundary {
    /// That of a table nobody writes to just now. None where it has no primary key that rows can be ordered by, or its owner
    /// does not see them all.
    pub fn find(table: &Table) -> Result<Option<Self>, Refusal> {
        if !table.has_order() || table.hides_rows {
            return Ok(None);
        }
        let order: Vec<String> = table.key_columns().iter().map(|column| format!("{column} DESC")).collect();
        let query = format!(
            "SELECT ARRAY[{}] FROM {} AS \"row\" ORDER BY {} LIMIT 1",
            table.key_texts(),
            table.rows(),
            order.join(", ")
        );
        let last = computing(table, "Its owner must be able to read it.", || {
            Spi::connect(|client| {
                let rows = done(client.select(query.as_str(), None, &[]));
                rows.first().get_one::<Vec<String>>().ok().flatten()
            })
        })?;
        Ok(Some(Self { last: last.unwrap_or_default(), ..Self::without_rows(table) }))
    }

    /// Whether it is one of the table's primary key as that is now.
    pub fn is_of(&self, table: &Table) -> bool {
        let now = Self::without_rows(table);
        let is_same = self.columns == now.columns || self.numbers == now.numbers;
        table.has_order() && is_same && self.types == now.types
    }

    fn without_rows(table: &Table) -> Self {
        let keys = || table.key.iter();
        Self {
            columns: keys().map(|key| key.column.clone()).collect(),
            numbers: keys().map(|key| key.number).collect(),
            types: keys().map(|key| key.type_name.clone()).collect(),
            last: Vec::new(),
        }
    }

    /// Whether there was no row.
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// Whether a row does not lie beyond it, as SQL over the row.
    pub fn holds(&self, table: &Table) -> String {
        match self.is_empty() {
            true => "false".to_owned(),
            false => table.is_up_to(&self.last),
        }
    }
}
