//! The rows of a table that Klaviyo's profiles are written back to: found by what identifies the person, read and locked with the
//! rights of the table's owner.

use std::time::Duration;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal};
use pgrx::{JsonB, pg_sys, spi};

use super::super::plan::Plan;
use super::super::statements::as_triggers;
use super::super::table::{Key, Table};
use super::task::{TIMEOUT_OF_ROW, Task};
use super::{FOUND_BY, WriteBack};
use crate::pg::function::Refusal;
use crate::pg::spi::{arg, column, rows};

const DUE: &str = "
    SELECT s.id, m.plan, s.relation::oid
    FROM klaviyo.sync AS s
    JOIN klaviyo.mapping AS m USING (id)
    WHERE s.state = 'on'
      AND (m.writes_back_after IS NOT NULL
           OR EXISTS (SELECT FROM klaviyo.write_back AS w WHERE w.mapping = s.id AND w.not_before <= pg_catalog.clock_timestamp()))
    ORDER BY s.id";

/// How long it may take to find the rows of some profiles.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// A row of a profile's, by its primary key, and why it is one, as SQL over the row: when it is written that may be otherwise.
pub struct Found {
    pub key: Vec<String>,
    is_it: String,
}

/// A mapping that there is something to do for.
pub struct Mapping {
    pub id: i32,
    pub plan: Plan,
    pub write_back: WriteBack,
    pub table: Table,
}

/// The mappings that profiles are to be written back for now.
pub fn due() -> Result<Vec<i32>, spi::Error> {
    let mut due = Vec::new();
    rows(DUE, &[], |row| due.push(column(row, 1)))?;
    Ok(due)
}

impl Mapping {
    /// That of a number, if profiles are to be written back for it now.
    pub fn open(id: i32) -> Result<Option<Self>, spi::Error> {
        let mut found = None;
        rows(DUE, &[], |row| {
            if column::<i32>(row, 1) == id {
                let JsonB(plan) = column(row, 2);
                found = Self::of(id, plan, column(row, 3));
            }
        })?;
        Ok(found)
    }

    /// None if what it says is not understood, or its table is gone.
    pub fn of(id: i32, plan: serde_json::Value, relation: pg_sys::Oid) -> Option<Self> {
        let plan = Plan::from_json(plan)?;
        let write_back = plan.write_back.clone()?;
        let table: Result<Table, Refusal> = Table::open(Some(relation));
        Some(Self { id, plan, write_back, table: table.ok()? })
    }

    /// Finds rows by the first identifier that some have.
    pub fn find(&self, tasks: &mut [Task], identifiers: &[[Option<String>; 3]]) -> Result<(), spi::Error> {
        for (name, sql) in &self.write_back.identifiers {
            let Some(place) = FOUND_BY.iter().position(|it| it == name) else { continue };
            let known = identifiers.iter().map(|identifiers| identifiers[place].clone());
            let (numbers, wanted): (Vec<i32>, Vec<String>) = (0..)
                .zip(known)
                .zip(&*tasks)
                .filter(|(_, task)| task.rows.is_empty())
                .filter_map(|((number, known), _)| Some((number, known?)))
                .unzip();
            if wanted.is_empty() {
                continue;
            }
            let is_it = |identifier: &str| self.is_it(name, sql, identifier);
            let query = format!(
                "SELECT wanted.number, ARRAY[{key}]
                 FROM unnest($1::integer[], $2::text[]) AS wanted (number, identifier)
                 JOIN {rows} AS \"row\" ON {is_it} AND ({condition})",
                is_it = is_it("wanted.identifier"),
                key = self.table.key_texts(),
                rows = self.table.rows(),
                condition = self.plan.action.condition.as_deref().unwrap_or("true"),
            );
            let found: Vec<(i32, Vec<String>)> = self.as_owner(TIMEOUT, || {
                Spi::connect_mut(|client| {
                    let found = client.update(query.as_str(), None, &[arg(numbers), arg(wanted)])?;
                    found
                        .map(|row| Ok((row.get(1)?.unwrap_or_default(), row.get(2)?.unwrap_or_default())))
                        .collect::<Result<_, spi::Error>>()
                })
            })?;
            for (number, key) in found {
                let Ok(number) = usize::try_from(number) else { continue };
                if let (Some(task), Some(Some(known))) =
                    (tasks.get_mut(number), identifiers.get(number).map(|it| &it[place]))
                {
                    task.rows.push(Found { key, is_it: is_it(&quote_literal(known)) });
                }
            }
        }
        Ok(())
    }

    /// Whether a row has that identifier, as SQL over it.
    fn is_it(&self, name: &str, sql: &str, identifier: &str) -> String {
        let is_key = |key: &&Key| sql == format!("(\"row\".{})::text", quote_identifier(&key.column));
        let shape = self.table.key.iter().find(is_key).and_then(|key| match key.type_oid {
            pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => Some((key, "^[0-9]{1,18}$", "bigint")),
            pg_sys::UUIDOID => Some((key, "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "uuid")),
            _ => None,
        });
        match shape {
            // By the primary key's index, which knows nothing of its text.
            Some((key, shape, type_name)) => format!(
                "\"row\".{} = CASE WHEN {identifier} ~ '{shape}' THEN {identifier}::{type_name} END AND ({sql}) = {identifier}",
                quote_identifier(&key.column)
            ),
            // Klaviyo's are in small letters.
            None if name == "email" => format!("lower({sql}) = lower({identifier})"),
            None => format!("({sql}) = {identifier}"),
        }
    }

    /// Runs what was said of the table's rows as its triggers do.
    fn as_owner<R>(&self, timeout: Duration, run: impl FnOnce() -> R) -> R {
        as_triggers(self.table.owner, timeout, run)
    }

    /// A row as the mapping says it to Klaviyo, and when it was last changed, from now on locked. None if it is not mapped any more.
    pub fn lock(&self, found: &Found) -> Result<Option<(String, Option<TimestampWithTimeZone>)>, spi::Error> {
        let query = format!(
            "SELECT ({state})::text, {updated_at}
             FROM {rows} AS \"row\"
             WHERE ({condition}) AND {is_it} AND {is_key}
             FOR NO KEY UPDATE OF \"row\"",
            state = self.plan.action.message(),
            updated_at = self.write_back.updated_at,
            rows = self.table.rows(),
            condition = self.plan.action.condition.as_deref().unwrap_or("true"),
            is_it = found.is_it,
            is_key = self.table.is_key(&found.key),
        );
        self.as_owner(TIMEOUT_OF_ROW, || {
            Spi::connect_mut(|client| {
                let mut found = client.update(query.as_str(), Some(1), &[])?;
                match found.next() {
                    Some(row) => Ok(row.get::<String>(1)?.zip(Some(row.get(2)?))),
                    None => Ok(None),
                }
            })
        })
    }
}
