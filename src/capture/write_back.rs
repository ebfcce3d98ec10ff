//! What Klaviyo changes of profiles, written back into the tables that they are mapped from.

pub mod mapping;
mod row;
pub mod task;
mod told;

use pgrx::spi::quote_identifier;
use serde::{Deserialize, Serialize};

use super::query::Sql;
use super::refusal;
use super::statements::done;
use super::table::Table;
use crate::pg::function::Refusal;
use crate::pg::scoped::with_own_search_path;
use crate::pg::spi::{arg, column, rows};

/// Columns that no statement may write.
const GENERATED: &str = "
    SELECT a.attname::text
    FROM pg_attribute AS a
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND (a.attgenerated <> '' OR a.attidentity = 'a')";

/// Identifiers that rows are found by, that which is a shop's own first.
const FOUND_BY: [&str; 3] = ["external_id", "email", "phone_number"];

/// What of a profile is written back, and into which rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WriteBack {
    /// Identifiers that rows are found by, each as SQL over the row.
    identifiers: Vec<(String, String)>,
    /// When a row was last changed, as SQL over it.
    updated_at: String,
    fields: Vec<Field>,
}

/// A field of a profile that is a column of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Field {
    /// Its name, behind that of what it stands in.
    path: Vec<String>,
    column: String,
}

impl WriteBack {
    /// What can be written back of a mapped state: whatever is a column, but for the primary key and what the server computes.
    pub fn of(table: &Table, state: &[(String, Sql)], updated_at: String) -> Result<Self, Refusal> {
        if table.key.is_empty() {
            return Err(refusal::argument(
                format!("{} has no primary key", table.sql()),
                "A row that is written back to is found again by its primary key.",
                "Give it one, or leave out direction => 'both'.",
            ));
        }
        let mut kept: Vec<String> = table.key.iter().map(|key| key.column.clone()).collect();
        with_own_search_path(|| {
            done(rows(GENERATED, &[arg(table.oid)], |row| kept.push(column(row, 1))));
        });
        kept.extend(column_of(table, &updated_at).map(str::to_owned));
        let mut fields: Vec<Field> = Vec::new();
        let mut add = |path: &[&String], sql: &Sql| {
            let Sql::Text(sql) = sql else { return };
            let Some(column) = column_of(table, sql) else { return };
            // One that is mapped twice is the first's.
            if !kept.iter().any(|it| it == column) {
                kept.push(column.to_owned());
                let path = path.iter().map(|name| (*name).clone()).collect();
                fields.push(Field { path, column: column.to_owned() });
            }
        };
        for (name, sql) in state {
            match sql {
                Sql::Object(parts) => parts.iter().for_each(|(part, sql)| add(&[name, part], sql)),
                sql => add(&[name], sql),
            }
        }
        if fields.is_empty() {
            return Err(refusal::argument(
                "there is nothing to write back",
                "None of the mapped fields is a column that may be written: the primary key and what is computed are not.",
                "Map columns by their names, or leave out direction => 'both'.",
            ));
        }
        let sql_of = |name: &&str| match state.iter().find(|(given, _)| given == name) {
            Some((name, Sql::Text(sql))) => Some((name.clone(), sql.clone())),
            _ => None,
        };
        Ok(Self { identifiers: FOUND_BY.iter().filter_map(sql_of).collect(), updated_at, fields })
    }
}

/// The column that an expression is, and nothing else.
fn column_of<'a>(table: &'a Table, sql: &str) -> Option<&'a str> {
    let is = |column: &&String| {
        let of_row = format!("\"row\".{}", quote_identifier(column));
        sql == of_row || sql == format!("({of_row})::text")
    };
    table.columns.iter().find(is).map(String::as_str)
}
