//! What a person says of a table's columns, understood and checked.

use std::cell::Cell;

use delivery::kind::profile::Shape;
use pgrx::spi::quote_identifier;
use pgrx::{PgBuiltInOids, pg_sys};
use serde_json::Value;

use super::query::Sql;
use super::refusal;
use super::table::Table;
use crate::pg::expression::{self, Expression, Fault};
use crate::pg::function::Refusal;

/// What an argument of the function that queues is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Text,
    Number,
    Time,
    Json,
    Condition,
}

/// Understands what is said of a table.
pub struct Reader<'a> {
    table: &'a Table,
    prints_by_settings: Cell<bool>,
}

impl<'a> Reader<'a> {
    pub fn new(table: &'a Table) -> Self {
        // Its key is printed to be known again.
        let prints_by_settings = !table.key.iter().all(|key| prints_alike(key.type_oid, false));
        Self { table, prints_by_settings: Cell::new(prints_by_settings) }
    }

    /// Whether something was read that is printed as settings of the session say.
    pub fn prints_by_settings(&self) -> bool {
        self.prints_by_settings.get()
    }

    /// Notes the type of what is printed, in JSON or as a text.
    fn printed(&self, type_oid: pg_sys::Oid, as_json: bool) {
        if !prints_alike(type_oid, as_json) {
            self.prints_by_settings.set(true);
        }
    }

    /// A column, or an expression over the row, as SQL of the wanted type.
    pub fn value(&self, argument: &str, text: &str, wanted: Wanted) -> Result<String, Refusal> {
        let expression = self.expression(argument, text)?;
        self.fit(argument, text, expression, wanted)
    }

    /// What makes an object of some shape: a list of columns, a map, or one expression that is an object.
    pub fn object(&self, argument: &str, given: &Value, shape: Shape) -> Result<Sql, Refusal> {
        let fields = match given {
            Value::String(text) if text == "*" => self.columns(argument, &[Value::from("*")], shape)?,
            Value::String(text) => return self.value(argument, text, Wanted::Json).map(Sql::Text),
            Value::Array(names) => self.columns(argument, names, shape)?,
            Value::Object(map) => {
                let field = |(name, given): (&String, &Value)| self.field(argument, name, given, shape);
                map.iter().map(field).collect::<Result<_, _>>()?
            }
            _ => return Err(misshapen(argument)),
        };
        Ok(Sql::Object(fields))
    }

    /// A field of an object: an expression, or what makes an object of its own.
    fn field(&self, argument: &str, name: &str, given: &Value, of: Shape) -> Result<(String, Sql), Refusal> {
        let place = format!("{argument}.{name}");
        let known = of.fields();
        let shape = known.iter().find(|(field, _)| *field == name).map(|(_, shape)| *shape);
        if shape.is_none() && !known.is_empty() {
            let known: Vec<&str> = known.iter().map(|(field, _)| *field).collect();
            return Err(refusal::argument(
                format!("argument \"{argument}\" has no field \"{name}\""),
                format!("Klaviyo takes {}.", known.join(", ")),
                "What you define yourself belongs into properties.",
            ));
        }
        let sql = match (shape, given) {
            (Some(Shape::Text | Shape::Coordinate), Value::String(text)) => {
                Sql::Text(self.value(&place, text, Wanted::Text)?)
            }
            (Some(Shape::Text | Shape::Coordinate), _) => return Err(misshapen(&place)),
            (None, Value::String(text)) => {
                let Expression { sql, type_oid, .. } = self.expression(&place, text)?;
                self.printed(type_oid, true);
                Sql::Text(sql)
            }
            (shape, given) => self.object(&place, given, shape.unwrap_or(Shape::Object))?,
        };
        Ok((name.to_owned(), sql))
    }

    fn columns(&self, argument: &str, names: &[Value], shape: Shape) -> Result<Vec<(String, Sql)>, Refusal> {
        let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
        let names = names.ok_or_else(|| misshapen(argument))?;
        let mut chosen: Vec<&str> = Vec::new();
        let mut left_out: Vec<&str> = Vec::new();
        for name in names {
            // A column may well be called so.
            if self.has(name) {
                chosen.push(name);
            } else if name == "*" {
                chosen.extend(self.table.columns.iter().map(String::as_str));
            } else if let Some(name) = name.strip_prefix('-').filter(|name| self.has(name)) {
                left_out.push(name);
            } else {
                return Err(refusal::expression(
                    format!("argument \"{argument}\": {} has no column \"{name}\"", self.table.sql()),
                    format!("Its columns are: {}.", self.table.columns.join(", ")),
                    "A list names columns; for expressions pass a map: {\"Name\": \"expression\"}.",
                ));
            }
        }
        chosen.retain(|name| !left_out.contains(name));
        let field = |name: &str| self.field(argument, name, &Value::from(name), shape);
        chosen.into_iter().map(field).collect()
    }

    fn has(&self, column: &str) -> bool {
        self.table.columns.iter().any(|it| it == column)
    }

    fn expression(&self, argument: &str, text: &str) -> Result<Expression, Refusal> {
        let quoted = self.has(text).then(|| of_row(text));
        let text = quoted.as_deref().unwrap_or(text);
        let refused = |message: &str, detail: &str, hint: &str| {
            refusal::expression(format!("argument \"{argument}\" {message}"), detail, hint)
        };
        let read = expression::understand(self.table.oid, &self.table.sql(), text);
        if read.as_ref().is_ok_and(|read| read.is_mutable) {
            self.prints_by_settings.set(true);
        }
        read.map_err(|fault| match fault {
            Fault::Refused { message, hint } => refused(
                &format!("cannot be computed from a row of {}", self.table.sql()),
                &format!("{text}: {message}."),
                hint.as_deref().unwrap_or("Pass a column, or an SQL expression in which columns stand as row.name; a literal has quotes of its own: '''EUR'''."),
            ),
            Fault::NotSingle => refused(
                "is not a single expression",
                text,
                "Put a query into parentheses: (SELECT … WHERE id = row.user_id).",
            ),
            Fault::NotOfOneRow => refused(
                "is not computed from one row",
                "It has an aggregate, a window function, or a function that returns many rows.",
                "Put it into a query of its own: (SELECT sum(…) FROM … WHERE order_id = row.id).",
            ),
            Fault::Temporary => refused(
                "uses a temporary table",
                "Only this session sees it.",
                "Use a table that every session sees.",
            ),
        })
    }

    fn fit(
        &self,
        argument: &str,
        text: &str,
        expression: Expression,
        wanted: Wanted,
    ) -> Result<String, Refusal> {
        let Expression { sql, type_oid, .. } = expression;
        let (base, category) = kind_of(type_oid);
        let is = |known: PgBuiltInOids| base == known.value();
        let fits = match wanted {
            Wanted::Text => !matches!(category, b'A' | b'C' | b'P') && !is(PgBuiltInOids::BYTEAOID),
            Wanted::Number => category == pg_sys::TYPCATEGORY_NUMERIC,
            Wanted::Time => is(PgBuiltInOids::TIMESTAMPTZOID),
            Wanted::Json => is(PgBuiltInOids::JSONBOID) || is(PgBuiltInOids::JSONOID),
            Wanted::Condition => is(PgBuiltInOids::BOOLOID),
        };
        if fits {
            if wanted == Wanted::Text {
                self.printed(type_oid, false);
            }
            let cast = match wanted {
                Wanted::Text => "text",
                Wanted::Number => "numeric",
                Wanted::Time | Wanted::Condition => return Ok(sql),
                Wanted::Json => "jsonb",
            };
            return Ok(if is_named(type_oid, cast) { sql } else { format!("({sql})::{cast}") });
        }
        let (wants, hint) = match wanted {
            Wanted::Text => (
                "text, or what can be shown as such",
                format!("Choose one of its parts: ({text})[1], ({text}).name."),
            ),
            Wanted::Number => ("a number", format!("Say how it is one: ({text})::numeric.")),
            Wanted::Time => (
                "timestamp with time zone",
                format!("Say which zone's it is: ({text})::timestamp AT TIME ZONE 'UTC'."),
            ),
            Wanted::Json => ("jsonb", "Pass a list of columns or a map of names to expressions.".to_owned()),
            Wanted::Condition => ("boolean", "Write a condition, as after WHERE.".to_owned()),
        };
        Err(refusal::data_type(
            format!("argument \"{argument}\" is of type {}", type_name(type_oid)),
            format!("It must be {wants}."),
            hint,
        ))
    }
}

fn misshapen(argument: &str) -> Refusal {
    refusal::argument(
        format!("argument \"{argument}\" says nothing about columns"),
        "It must be a list of columns, in which \"*\" is all and \"-name\" leaves one out, a map of names to expressions, lists or maps, or one expression.",
        "For example '[\"number\", \"status\"]', '[\"*\", \"-notes\"]', '{\"OrderId\": \"number\"}'.",
    )
}

fn of_row(column: &str) -> String {
    format!("\"row\".{}", quote_identifier(column))
}

/// The type that a domain is made of, and Postgres' category of it.
fn kind_of(type_oid: pg_sys::Oid) -> (pg_sys::Oid, u8) {
    let (mut category, mut preferred) = (0, false);
    // SAFETY: looked up in the catalogue caches.
    let base = unsafe {
        let base = pg_sys::getBaseType(type_oid);
        pg_sys::get_type_category_preferred(base, &mut category, &mut preferred);
        base
    };
    (base, category as u8)
}

/// Whether values of a type are printed in the same way whatever a session has set. Of others it may be so.
fn prints_alike(type_oid: pg_sys::Oid, as_json: bool) -> bool {
    use PgBuiltInOids as Is;
    const ALWAYS: [PgBuiltInOids; 14] = [
        Is::BOOLOID,
        Is::INT2OID,
        Is::INT4OID,
        Is::INT8OID,
        Is::NUMERICOID,
        Is::TEXTOID,
        Is::VARCHAROID,
        Is::BPCHAROID,
        Is::NAMEOID,
        Is::UUIDOID,
        Is::INETOID,
        Is::CIDROID,
        Is::JSONOID,
        Is::JSONBOID,
    ];
    // JSON has a way of its own with them.
    const IN_JSON: [PgBuiltInOids; 3] = [Is::DATEOID, Is::TIMESTAMPOID, Is::TIMESTAMPTZOID];
    // SAFETY: looked up in the catalogue caches.
    let (element, base) = unsafe {
        let base = pg_sys::getBaseType(type_oid);
        (pg_sys::get_element_type(base), base)
    };
    if as_json && element != pg_sys::InvalidOid {
        return prints_alike(element, true);
    }
    let is = |known: &PgBuiltInOids| known.value() == base;
    // SAFETY: as above.
    ALWAYS.iter().any(is) || as_json && IN_JSON.iter().any(is) || unsafe { pg_sys::type_is_enum(base) }
}

fn is_named(type_oid: pg_sys::Oid, name: &str) -> bool {
    type_name(type_oid) == name
}

fn type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: returns a string that ends in NUL.
    unsafe { std::ffi::CStr::from_ptr(pg_sys::format_type_be(type_oid)) }.to_string_lossy().into_owned()
}
