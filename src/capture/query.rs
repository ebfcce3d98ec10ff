//! What is done for rows that were written: queries over them, to stand in a trigger's function.

use pgrx::spi::{quote_identifier, quote_literal};

use serde::{Deserialize, Serialize};

use super::operation::Operation;
use super::table::Table;

/// What is done for a row. All SQL is over `"row"`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Action {
    /// The function that queues, by its full name.
    pub function: String,
    pub message: Message,
    /// Which rows; all where there is none.
    pub condition: Option<String>,
    /// The account, as SQL.
    pub account: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// One for each row, with these arguments.
    Event(Vec<(String, Sql)>),
    /// One for each row whose state, an object, has changed.
    Profile(Vec<(String, Sql)>),
}

impl Message {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Event(_) => "event",
            Self::Profile(_) => "profile",
        }
    }
}

/// An expression, or what a jsonb object is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sql {
    Text(String),
    Object(Vec<(String, Self)>),
    /// Objects in one; of fields that are in several the last counts.
    Merged(Vec<Self>),
}

/// Pairs in a call: Postgres takes a hundred arguments.
const PAIRS: usize = 50;

impl Sql {
    /// In lines of which all but the first begin with `margin`. What a text has of lines is left alone: it may be a literal's.
    fn print(&self, margin: &str) -> String {
        let pairs = match self {
            Self::Text(sql) => return sql.clone(),
            Self::Object(pairs) if pairs.is_empty() => return "'{}'::jsonb".to_owned(),
            Self::Object(pairs) => pairs,
            Self::Merged(parts) => {
                return parts.iter().map(|part| part.print(margin)).collect::<Vec<_>>().join(" || ");
            }
        };
        let inner = format!("{margin}    ");
        let print =
            |(name, sql): &(String, Self)| format!("{inner}{}, {}", quote_literal(name), sql.print(&inner));
        let call = |pairs: &[(String, Self)]| {
            let pairs: Vec<String> = pairs.iter().map(print).collect();
            format!("jsonb_build_object(\n{}\n{margin})", pairs.join(",\n"))
        };
        pairs.chunks(PAIRS).map(call).collect::<Vec<_>>().join(" || ")
    }
}

/// Where a query finds rows, each a relation as it stands after FROM.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    pub new: &'a str,
    pub old: &'a str,
    /// The new ones as the statement wrote them, where they may have changed since and must have met the condition then too.
    pub written: Option<&'a str>,
    /// Whether it is one row, and not all of a statement's.
    pub one: bool,
}

impl Rows<'_> {
    /// Those of a statement, in its transition tables.
    pub const OF_STATEMENT: Self = Self { new: "new_rows", old: "old_rows", written: None, one: false };
    /// That which a row-level trigger was called for.
    pub const OF_ROW: Self = Self { new: "(SELECT NEW.*)", old: "(SELECT OLD.*)", written: None, one: true };

    /// Whether each new version has its old one at the same place.
    fn are_paired(self) -> String {
        format!("(SELECT count(*) FROM {} AS it) = (SELECT count(*) FROM {} AS it)", self.old, self.new)
    }
}

/// Names that no column of a table has.
struct Names {
    place: String,
    met: String,
}

impl Names {
    fn beside(table: &Table) -> Self {
        let free = |name: &str| {
            let mut name = name.to_owned();
            while table.columns.contains(&name) {
                name.push('_');
            }
            name
        };
        Self { place: free("place"), met: free("met") }
    }
}

/// Why old and new versions are joined so. A statement adds the old and the new version of a row to its transition tables
/// one after the other (`AfterTriggerSaveEvent` in commands/trigger.c, and for one that moves to another partition
/// `ExecCrossPartitionUpdate` in executor/nodeModifyTable.c), so the same place is the same row, whatever became of its key.
/// But for one that a trigger of the partition it moves to has swallowed: then all are taken for new.
const PAIRED: &str = "-- The same place in both is the same row. A full join is never done row by row, however few rows this was planned for.";

impl Action {
    /// Has it queue by the function of that schema. Whether that is another than before.
    pub fn queue_in(&mut self, schema: &str) -> bool {
        let name = self.function.rsplit('.').next().unwrap_or_default();
        let function = format!("{schema}.{name}");
        let changed = self.function != function;
        self.function = function;
        changed
    }

    /// What of a row goes into its message: the arguments of an event, or the state of a profile, as an object.
    pub fn message(&self) -> String {
        match &self.message {
            Message::Event(arguments) => object(arguments).print(""),
            Message::Profile(state) => object(state).print(""),
        }
    }

    /// The rows that meet the condition, to stand after FROM.
    pub fn of(&self, rows: &str) -> String {
        format!("{rows} AS \"row\" WHERE {}", self.condition.as_deref().unwrap_or("true"))
    }

    /// The query, to stand after SELECT or PERFORM, in lines that begin with `margin`. `note` is selected besides of each row
    /// that an update has made an event of.
    pub fn query(
        &self,
        operation: Operation,
        rows: Rows,
        table: &Table,
        note: Option<&str>,
        margin: &str,
    ) -> String {
        match (&self.message, operation) {
            (Message::Event(arguments), Operation::Insert) => {
                self.event(arguments, None, rows.new, &self.and_written(rows), margin)
            }
            (Message::Event(arguments), Operation::Delete) => {
                self.event(arguments, None, rows.old, "", margin)
            }
            (Message::Event(arguments), Operation::Update) => {
                self.event_of_change(arguments, note, rows, table, margin)
            }
            (Message::Profile(state), Operation::Update) => self.profile_change(state, rows, table, margin),
            (Message::Profile(state), Operation::Delete) => self.deletion(state, rows.old, margin),
            (Message::Profile(state), Operation::Insert) => {
                let state = object(state).print(&format!("{margin}    "));
                format!("{}\n{}", self.call(&[("new", state)], margin), self.from(rows.new, "", margin))
            }
        }
    }

    /// The query that makes a dead letter of each row, to stand after SELECT or PERFORM, of which no message can be made.
    pub fn bury(&self, operation: Operation, rows: Rows, fault: &str) -> String {
        let rows = if operation == Operation::Delete { rows.old } else { rows.new };
        let kind = match (&self.message, operation) {
            (Message::Profile(_), Operation::Delete) => "deletion",
            (message, _) => message.kind(),
        };
        let kind = quote_literal(kind);
        format!(
            "klaviyo.bury_row({}, {kind}, to_jsonb(\"row\"), {fault}) FROM {rows} AS \"row\"",
            self.account
        )
    }

    /// A call for each of some rows, and what is selected besides.
    fn event(
        &self,
        arguments: &[(String, Sql)],
        note: Option<&str>,
        rows: &str,
        and: &str,
        margin: &str,
    ) -> String {
        let inner = format!("{margin}    ");
        let arguments: Vec<_> =
            arguments.iter().map(|(name, sql)| (name.as_str(), sql.print(&inner))).collect();
        let note = note.map(|note| format!(",\n{margin}{note}")).unwrap_or_default();
        format!("{}{note}\n{}", self.call(&arguments, margin), self.from(rows, and, margin))
    }

    /// A request to delete the data of each person whose row is gone, by what Klaviyo deletes by.
    fn deletion(&self, state: &[(String, Sql)], rows: &str, margin: &str) -> String {
        let of = |wanted: &str| state.iter().find(|(name, _)| name == wanted).map(|(_, sql)| sql.print(""));
        let (email, phone) = (of("email"), of("phone_number"));
        let known: Vec<String> =
            email.iter().chain(&phone).map(|sql| format!("({sql}) IS NOT NULL")).collect();
        // Klaviyo deletes by one of them.
        let second = match (&email, &phone) {
            (Some(email), Some(phone)) => Some(format!("CASE WHEN {email} IS NULL THEN {phone} END")),
            (_, phone) => phone.clone(),
        };
        let first = email.map(|email| ("email", email));
        let arguments: Vec<_> =
            first.into_iter().chain(second.map(|phone| ("phone_number", phone))).collect();
        let schema = self.function.rsplit_once('.').map(|(schema, _)| schema).unwrap_or_default();
        let action = Self { function: format!("{schema}.klaviyo_request_deletion"), ..self.clone() };
        let condition =
            self.condition.as_deref().map(|condition| format!(" AND {condition}")).unwrap_or_default();
        format!(
            "{}\n{margin}FROM {rows} AS \"row\"\n{margin}WHERE ({}){condition}",
            action.call(&arguments, margin),
            known.join(" OR ")
        )
    }

    fn call(&self, arguments: &[(&str, String)], margin: &str) -> String {
        let account = ("account", self.account.clone());
        let arguments = arguments.iter().chain([&account]);
        let arguments: Vec<String> =
            arguments.map(|(name, sql)| format!("{margin}    {name} => {sql}")).collect();
        format!("{}(\n{}\n{margin})", self.function, arguments.join(",\n"))
    }

    /// The rows that meet the condition, and another.
    fn from(&self, rows: &str, and: &str, margin: &str) -> String {
        let condition = match &self.condition {
            Some(condition) => format!("\n{margin}WHERE {condition}{and}"),
            None => String::new(),
        };
        format!("{margin}FROM {rows} AS \"row\"{condition}")
    }

    /// That a row met the condition when it was written, too: what brought it about is one statement's.
    fn and_written(&self, rows: Rows) -> String {
        match rows.written.zip(self.condition.as_ref()) {
            Some((written, condition)) => {
                format!(" AND EXISTS (SELECT FROM {written} AS \"row\" WHERE {condition})")
            }
            None => String::new(),
        }
    }

    /// A call for each row that meets the condition and did not before.
    fn event_of_change(
        &self,
        arguments: &[(String, Sql)],
        note: Option<&str>,
        rows: Rows,
        table: &Table,
        margin: &str,
    ) -> String {
        let condition = self.condition.as_deref().unwrap_or("true");
        if rows.one {
            let and = format!(
                " AND NOT EXISTS (SELECT FROM {} AS \"row\" WHERE {condition}){}",
                rows.old,
                self.and_written(rows)
            );
            return self.event(arguments, note, rows.new, &and, margin);
        }
        let Names { place, met } = Names::beside(table);
        let columns: Vec<String> =
            table.columns.iter().map(|column| format!("pair.{}", quote_identifier(column))).collect();
        let pairs = format!(
            "(\n\
             {margin}    SELECT after.*, before.{met}\n\
             {margin}    FROM (SELECT row_number() OVER () AS {place}, \"row\".* FROM {new} AS \"row\") AS after\n\
             {margin}    {PAIRED}\n\
             {margin}    FULL JOIN (\n\
             {margin}        SELECT row_number() OVER () AS {place}, ({condition}) AS {met} FROM {old} AS \"row\"\n\
             {margin}        WHERE {paired}\n\
             {margin}    ) AS before ON before.{place} = after.{place}\n\
             {margin}    OFFSET 0\n\
             {margin}) AS pair\n\
             {margin}CROSS JOIN LATERAL (SELECT {columns})",
            new = rows.new,
            old = rows.old,
            paired = rows.are_paired(),
            columns = columns.join(", "),
        );
        self.event(arguments, note, &pairs, &format!(" AND pair.{met} IS NOT TRUE"), margin)
    }

    /// A call for each row whose state is another than before.
    fn profile_change(&self, state: &[(String, Sql)], rows: Rows, table: &Table, margin: &str) -> String {
        let inner = format!("{margin}    ");
        let state = object(state).print(&inner);
        let (after, before, why, same) = if rows.one {
            let states = |rows: &str| format!("SELECT {state} AS state\n{}", self.from(rows, "", &inner));
            (states(rows.new), states(rows.old), String::new(), "true".to_owned())
        } else {
            let place = Names::beside(table).place;
            let state = match &self.condition {
                Some(condition) => format!("CASE WHEN {condition} THEN {state} END"),
                None => state,
            };
            let states = |rows: &str| {
                format!(
                    "SELECT row_number() OVER () AS {place}, {state} AS state\n{inner}FROM {rows} AS \"row\""
                )
            };
            let before = format!("{}\n{inner}WHERE {}", states(rows.old), rows.are_paired());
            let same = format!("before.{place} = after.{place}");
            (states(rows.new), before, format!("{margin}{PAIRED}\n"), same)
        };
        format!(
            "{call}\n\
             {margin}FROM (\n{inner}{after}\n{margin}) AS after\n\
             {why}{margin}FULL JOIN (\n{inner}{before}\n{margin}) AS before ON {same}\n\
             {margin}WHERE after.state IS DISTINCT FROM before.state",
            call =
                self.call(&[("new", "after.state".to_owned()), ("old", "before.state".to_owned())], margin),
        )
    }
}

fn object(pairs: &[(String, Sql)]) -> Sql {
    Sql::Object(pairs.to_vec())
}
