//! What there is to know of a table before it can be mapped.

use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal, quote_qualified_identifier};

use super::refusal;
use crate::pg::function::Refusal;
use crate::pg::scoped::with_own_search_path;
use crate::pg::spi::{arg, column, rows};

const TABLE: &str = "
    SELECT n.nspname::text, c.relname::text, c.relowner, pg_get_userbyid(c.relowner)::text,
           c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND NOT EXISTS (
               SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
           ) AND c.oid >= 16384,
           pg_has_role(c.relowner, 'USAGE'), pg_has_role(c.relowner, 'klaviyo_writer', 'USAGE'),
           c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits AS i WHERE c.oid IN (i.inhrelid, i.inhparent)),
           c.relkind = 'p',
           (SELECT min(f.oid::regclass::text)
            FROM pg_partition_tree(c.oid) AS p
            JOIN pg_class AS f ON f.oid = p.relid
            WHERE f.relkind = 'f'),
           c.relrowsecurity AND c.relforcerowsecurity
           AND NOT EXISTS (SELECT FROM pg_roles AS o WHERE o.oid = c.relowner AND (o.rolsuper OR o.rolbypassrls)),
           has_schema_privilege(c.relowner, n.oid, 'CREATE')
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = $1";

const COLUMNS: &str = "
    SELECT a.attname::text
    FROM pg_attribute AS a
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
    ORDER BY a.attnum";

/// The primary key, with the operators of its order: not greater, equal and greater. A type that is cut to a length has none
/// here.
const KEY: &str = "
    SELECT a.attname::text, a.attnum, a.atttypid, format_type(a.atttypid, -1),
           min(s.operator) FILTER (WHERE s.strategy = 2), min(s.operator) FILTER (WHERE s.strategy = 3),
           min(s.operator) FILTER (WHERE s.strategy = 5)
    FROM pg_index AS i
    CROSS JOIN LATERAL unnest(i.indkey::smallint[], i.indclass::oid[]) WITH ORDINALITY AS k (attnum, opclass, place)
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    JOIN pg_opclass AS c ON c.oid = k.opclass
    CROSS JOIN LATERAL (
        SELECT e.amopstrategy,
               CASE n.nspname WHEN 'pg_catalog' THEN o.oprname::text ELSE format('OPERATOR(%I.%s)', n.nspname, o.oprname) END
        FROM pg_amop AS e
        JOIN pg_operator AS o ON o.oid = e.amopopr
        JOIN pg_namespace AS n ON n.oid = o.oprnamespace
        WHERE e.amopfamily = c.opcfamily AND e.amoplefttype = c.opcintype AND e.amoprighttype = c.opcintype
          AND e.amopmethod = 403
    ) AS s (strategy, operator)
    WHERE i.indrelid = $1 AND i.indisprimary AND k.place <= i.indnkeyatts
    GROUP BY k.place, a.attname, a.attnum, a.atttypid
    ORDER BY k.place";

/// A column of a primary key.
#[derive(Debug)]
pub struct Key {
    pub column: String,
    pub number: i16,
    pub type_oid: pg_sys::Oid,
    /// The type's name, in full.
    pub type_name: String,
    /// The operators that tell whether two values are the same, and whether one comes after another or not.
    pub equal: String,
    greater: String,
    not_greater: String,
}

/// A table whose owner's rights the caller has.
#[derive(Debug)]
pub struct Table {
    pub oid: pg_sys::Oid,
    pub schema: String,
    pub name: String,
    pub owner: pg_sys::Oid,
    owner_name: String,
    is_ordinary: bool,
    is_owner_writer: bool,
    may_owner_create: bool,
    /// Whether it inherits, or others inherit from it.
    pub has_relatives: bool,
    pub is_partitioned: bool,
    foreign_partition: Option<String>,
    /// Whether there are policies by which its owner does not see all of its rows.
    pub hides_rows: bool,
    /// Its columns, but for those that are computed when they are read, which a trigger does not see.
    pub columns: Vec<String>,
    /// Its primary key; empty where it has none.
    pub key: Vec<Key>,
}

impl Table {
    pub fn open(oid: Option<pg_sys::Oid>) -> Result<Self, Refusal> {
        let mut found = None;
        let mut columns = Vec::new();
        let mut key: Vec<Key> = Vec::new();
        with_own_search_path(|| {
            let oid = oid?;
            rows(TABLE, &[arg(oid)], |row| {
                let table = Self {
                    oid,
                    schema: column(row, 1),
                    name: column(row, 2),
                    owner: column(row, 3),
                    owner_name: column(row, 4),
                    is_ordinary: column(row, 5),
                    is_owner_writer: column(row, 7),
                    has_relatives: column(row, 8),
                    is_partitioned: column(row, 9),
                    foreign_partition: row.get(10).ok().flatten(),
                    hides_rows: column(row, 11),
                    may_owner_create: column(row, 12),
                    columns: Vec::new(),
                    key: Vec::new(),
                };
                found = Some((table, column::<bool>(row, 6)));
            })
            .unwrap_or_else(|error| error!("{error}"));
            rows(COLUMNS, &[arg(oid)], |row| columns.push(column(row, 1)))
                .unwrap_or_else(|error| error!("{error}"));
            rows(KEY, &[arg(oid)], |row| {
                key.push(Key {
                    column: column(row, 1),
                    number: column(row, 2),
                    type_oid: column(row, 3),
                    type_name: column(row, 4),
                    not_greater: column(row, 5),
                    equal: column(row, 6),
                    greater: column(row, 7),
                });
            })
            .unwrap_or_else(|error| error!("{error}"));
            Some(())
        });
        let Some((table, has_rights)) = found else {
            return Err(refusal::table(
                "there is no such table",
                "Argument \"relation\" is NULL, or the table has just been dropped.",
                "Name it as after FROM, schema and quotes included.",
            ));
        };
        if !has_rights {
            return Err(refusal::rights(
                format!("{} is not yours to map", table.sql()),
                "What a mapping computes it computes with the rights of the table's owner.",
                format!("Ask a member of role {}.", table.owner_name),
            ));
        }
        Ok(Self { columns, key, ..table })
    }

    /// Refuses a table that no triggers of ours can stand on.
    pub fn check(&self) -> Result<(), Refusal> {
        if !self.is_ordinary {
            return Err(refusal::table(
                format!("{} cannot be mapped", self.sql()),
                "It must be an ordinary table: no view, no foreign or temporary table, no partition, and none of the server's or an extension's own.",
                "Of a partition map the table that it is one of. For all else, write a trigger of your own that calls klaviyo_track_event().",
            ));
        }
        self.check_partitions()?;
        if !self.is_owner_writer {
            return Err(refusal::rights(
                format!("the owner of {} may not queue messages", self.sql()),
                "The trigger runs with the owner's rights.",
                format!("GRANT klaviyo_writer TO {}.", quote_identifier(&self.owner_name)),
            ));
        }
        Ok(())
    }

    /// Refuses a table beside which its owner may not have a function.
    pub fn check_schema(&self) -> Result<(), Refusal> {
        if self.may_owner_create {
            return Ok(());
        }
        let schema = quote_identifier(&self.schema);
        Err(refusal::rights(
            format!("the owner of {} may not create a function in schema {schema}", self.sql()),
            "The trigger's function is his, and stands beside the table.",
            format!("GRANT CREATE ON SCHEMA {schema} TO {}.", quote_identifier(&self.owner_name)),
        ))
    }

    /// Refuses partitions whose rows no trigger sees.
    pub fn check_partitions(&self) -> Result<(), Refusal> {
        match &self.foreign_partition {
            None => Ok(()),
            Some(foreign) => Err(refusal::table(
                format!("{} has a partition that is a foreign table: {foreign}", self.sql()),
                "What is written there is not seen by triggers of statements.",
                "Write triggers of your own that call klaviyo_track_event().",
            )),
        }
    }

    /// The columns of a row's primary key, as SQL over the row.
    pub fn key_columns(&self) -> Vec<String> {
        self.key.iter().map(|key| format!("\"row\".{}", quote_identifier(&key.column))).collect()
    }

    /// A row's primary key as one text, as SQL over the row.
    pub fn key_as_text(&self) -> String {
        format!("({})::text", self.key_columns().join(", "))
    }

    /// A row's primary key as a JSON array of texts, as SQL over the row.
    pub fn key_as_json(&self) -> String {
        format!("jsonb_build_array({})::text", self.key_texts())
    }

    /// The columns of a row's primary key, each as a text, as SQL over the row.
    pub fn key_texts(&self) -> String {
        let texts: Vec<String> =
            self.key_columns().iter().map(|column| format!("({column})::text")).collect();
        texts.join(", ")
    }

    /// Whether a row comes after that primary key, as SQL over the row.
    pub fn is_after(&self, key: &[String]) -> String {
        self.compared(key, |key| &key.greater)
    }

    /// Whether it does not.
    pub fn is_up_to(&self, key: &[String]) -> String {
        self.compared(key, |key| &key.not_greater)
    }

    /// Whether it is the row of that primary key, as SQL over it.
    pub fn is_key(&self, key: &[String]) -> String {
        let is = |(column, text): (&Key, &String)| {
            let value = format!("{}::{}", quote_literal(text), column.type_name);
            let equal = in_full(&column.equal);
            format!("\"row\".{} {equal} {value}", quote_identifier(&column.column))
        };
        self.key.iter().zip(key).map(is).collect::<Vec<_>>().join(" AND ")
    }

    fn compared(&self, key: &[String], operator: impl Fn(&Key) -> &String) -> String {
        let value =
            |(column, text): (&Key, &String)| format!("{}::{}", quote_literal(text), column.type_name);
        let values: Vec<String> = self.key.iter().zip(key).map(value).collect();
        match self.key.as_slice() {
            [one] => format!("{} {} {}", self.key_columns().join(", "), operator(one), values.join(", ")),
            // Compared as a whole, for then its index finds what comes after.
            [first, ..] => {
                let operator = in_full(operator(first));
                format!("ROW({}) {operator} ROW({})", self.key_columns().join(", "), values.join(", "))
            }
            [] => "false".to_owned(),
        }
    }

    /// Whether rows can be told which comes after which by the primary key as a whole.
    pub fn has_order(&self) -> bool {
        let first = self.key.first();
        first.is_some_and(|first| self.key.iter().all(|key| key.greater == first.greater))
    }

    /// Where its rows stand, and none of others that inherit from it.
    pub fn rows(&self) -> String {
        if self.is_partitioned { self.sql() } else { format!("ONLY {}", self.sql()) }
    }

    /// Its name, in full.
    pub fn sql(&self) -> String {
        quote_qualified_identifier(&self.schema, &self.name)
    }
}

/// An operator's name with its schema.
fn in_full(operator: &str) -> String {
    match operator {
        qualified if qualified.starts_with("OPERATOR") => qualified.to_owned(),
        name => format!("OPERATOR(pg_catalog.{name})"),
    }
}
