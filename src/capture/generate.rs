//! The SQL that a mapping comes to. Meant to be read.

use std::ffi::CStr;

use pgrx::spi::{quote_identifier, quote_literal, quote_qualified_identifier};

use super::boundary::Boundary;
use super::operation::{At, Operation};
use super::plan::Plan;
use super::query::Rows;
use super::refusal;
use super::table::{Key, Table};
use crate::pg::function::Refusal;
use crate::pg::scoped::{OF_PRINTING, OF_READING};

/// What is to be done for rows of a table.
#[derive(Debug)]
pub struct Capture<'a> {
    pub table: &'a Table,
    pub plan: Plan,
}

impl Capture<'_> {
    /// Queries that are right where the triggers' are. As in a trigger, nothing is known of the rows but their columns.
    pub fn probes(&self) -> Vec<String> {
        let columns: Vec<String> = self.table.columns.iter().map(quote_identifier).collect();
        let none = format!("(SELECT {} FROM {} LIMIT 0)", columns.join(", "), self.table.sql());
        let probe = |operation: &Operation| {
            let one = self.is_row_level(*operation).is_some();
            let rows = Rows { new: &none, old: &none, written: self.written(&none), one };
            format!("SELECT {}", self.plan.action.query(*operation, rows, self.table, None, ""))
        };
        self.plan.operations.iter().map(probe).collect()
    }

    /// Why an operation's trigger is called for each row, where it is not called for each statement.
    fn is_row_level(&self, operation: Operation) -> Option<&'static str> {
        match operation {
            _ if self.plan.at == At::Commit => Some("no other trigger waits for the end of the transaction"),
            _ if self.plan.replicated => Some("logical replication calls no other trigger"),
            Operation::Insert => None,
            _ if self.table.has_relatives => Some(
                "a statement on a table that it inherits from, or that inherits from it, would bring the others' rows, or not call the trigger",
            ),
            Operation::Update | Operation::Delete => None,
        }
    }

    /// The rows as they were written, if that matters besides how they are in the end: where an insert is not all that can
    /// make an event of a row, each statement is looked at by itself.
    fn written<'a>(&self, rows: &'a str) -> Option<&'a str> {
        (self.plan.at == At::Commit && self.plan.operations.contains(&Operation::Update)).then_some(rows)
    }

    /// The row that a row-level trigger was called for, as it is when the trigger runs, if it still is there.
    fn as_it_is_now(&self) -> String {
        let same = |key: &Key| {
            let column = quote_identifier(&key.column);
            format!("it.{column} {} NEW.{column}", key.equal)
        };
        let same: Vec<String> = self.table.key.iter().map(same).collect();
        format!("(SELECT it.* FROM {} AS it WHERE {})", self.table.rows(), same.join(" AND "))
    }

    /// The boundary, where rows up to it may be captured and a backfill could take them for history.
    fn boundary(&self) -> Option<&Boundary> {
        let boundary = self.plan.boundary.as_ref()?;
        (boundary.is_of(self.table) && !boundary.is_empty()).then_some(boundary)
    }

    /// Notes rows that have been inserted, to stand in the function. What an update makes an event of is noted by the query
    /// that does.
    fn note(&self, id: i32, rows: &str) -> String {
        let Some(boundary) = self.boundary() else { return String::new() };
        format!(
            "        IF klaviyo.notes_keys({id}) THEN\n            \
             -- They could be taken for such as stood here before the table was mapped: no backfill is to send them.\n            \
             PERFORM klaviyo.note_keys({id}, array_agg({key})) FROM {rows} AS \"row\"\n            \
             WHERE {held};\n        \
             END IF;\n",
            key = self.table.key_as_json(),
            held = boundary.holds(self.table),
        )
    }

    /// What notes a row that has become an event by an update, to stand beside the call that queues it.
    fn note_one(&self, id: i32) -> Option<String> {
        let boundary = self.boundary()?;
        Some(format!(
            "CASE WHEN {} AND klaviyo.notes_keys({id}) THEN klaviyo.note_keys({id}, ARRAY[{}]) END",
            boundary.holds(self.table),
            self.table.key_as_json(),
        ))
    }

    /// Refuses what its triggers could not do.
    pub fn check(&self) -> Result<(), Refusal> {
        let table = self.table;
        let (at_commit, has_key) = (self.plan.at == At::Commit, !table.key.is_empty());
        if self.plan.replicated && (at_commit || table.is_partitioned) {
            return Err(refusal::argument(
                "what logical replication writes cannot be captured so",
                if at_commit {
                    "It may not call triggers that wait for the end of the transaction."
                } else {
                    "A row that moves to another partition looks to the triggers that it calls like one that was inserted."
                },
                "Leave out replicated => true, and map the table where it is published.",
            ));
        }
        if at_commit && !has_key {
            return Err(refusal::argument(
                format!("{} has no primary key", table.sql()),
                "With the end of the transaction a row is read again, which is found by its primary key.",
                "Give it one, or pass at => 'statement'.",
            ));
        }
        if at_commit && table.is_partitioned {
            return Err(refusal::argument(
                format!("{} is partitioned", table.sql()),
                "A row that moves to another partition looks to triggers that wait for the end of the transaction like one that was inserted.",
                "Pass at => 'statement'.",
            ));
        }
        Ok(())
    }

    /// The statements that make the function.
    pub fn function(&self, id: i32, name: &str, create: &str) -> Vec<String> {
        let body = self.body(id);
        let quote = dollar_quote(&body);
        vec![
            format!(
                "{create} FUNCTION {name}() RETURNS trigger\nLANGUAGE plpgsql SECURITY DEFINER\n\
                 SET search_path = pg_catalog, pg_temp\nSET timezone = 'UTC'\n{}AS {quote}{body}{quote}",
                self.settings(&body)
            ),
            // A trigger's function may be called by nobody in particular, but anybody could make a trigger of his own of it.
            format!("REVOKE ALL ON FUNCTION {name}() FROM PUBLIC"),
            // Without the extension they would fail. Dumps carry this too.
            format!("ALTER FUNCTION {name}() DEPENDS ON EXTENSION klaviyo_sync"),
        ]
    }

    /// The triggers' names as SQL, and whether they are called for each row.
    pub fn levels(&self, id: i32) -> Vec<(String, bool)> {
        let level = |operation: &Operation| {
            (quote_identifier(trigger_name(id, *operation)), self.is_row_level(*operation).is_some())
        };
        self.plan.operations.iter().map(level).collect()
    }

    /// The statements that have a relation call the function.
    pub fn triggers(&self, id: i32, relation: &str, function: &str) -> Vec<String> {
        let (constraint, deferred) = match self.plan.at {
            At::Statement => ("", ""),
            At::Commit => ("CONSTRAINT ", "DEFERRABLE INITIALLY DEFERRED\n"),
        };
        let trigger = |operation: &Operation| {
            let level = match operation {
                _ if self.is_row_level(*operation).is_some() => "FOR EACH ROW",
                Operation::Insert => "REFERENCING NEW TABLE AS new_rows\nFOR EACH STATEMENT",
                Operation::Update => {
                    "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows\nFOR EACH STATEMENT"
                }
                Operation::Delete => "REFERENCING OLD TABLE AS old_rows\nFOR EACH STATEMENT",
            };
            let trigger = quote_identifier(trigger_name(id, *operation));
            let after = operation.sql();
            let mut statements = vec![
                format!(
                    "CREATE {constraint}TRIGGER {trigger} AFTER {after} ON {relation}\n{deferred}{level} EXECUTE FUNCTION {function}()"
                ),
                format!("ALTER TRIGGER {trigger} ON {relation} DEPENDS ON EXTENSION klaviyo_sync"),
            ];
            if self.plan.replicated {
                statements.push(format!("ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {trigger}"));
            }
            statements
        };
        self.plan.operations.iter().flat_map(trigger).collect()
    }

    /// The statements that disable a relation's triggers, where they were before they were made anew.
    pub fn disable(&self, id: i32, relation: &str) -> Vec<String> {
        let disable =
            |(trigger, _): (String, bool)| format!("ALTER TABLE {relation} DISABLE TRIGGER {trigger}");
        self.levels(id).into_iter().map(disable).collect()
    }

    fn settings(&self, body: &str) -> String {
        let set = |(name, value): (&CStr, &CStr)| {
            format!("SET {} = {}\n", name.to_string_lossy(), quote_literal(value.to_string_lossy()))
        };
        let printing = OF_PRINTING.into_iter().filter(|_| self.plan.prints_by_settings);
        printing.chain(body.contains('\\').then_some(OF_READING)).map(set).collect()
    }

    /// The function's source.
    pub fn body(&self, id: i32) -> String {
        // A look-up may call its tables as PL/pgSQL calls its variables.
        let mut body = format!(
            "\n#variable_conflict use_column\n\
             <<capture>>\n\
             DECLARE\n    \
             -- Where klaviyo.on_invalid is dead_letter, and a column, say, has been renamed. Else the statement fails.\n    \
             fault text := klaviyo.fault_to_bury({id});\n\
             BEGIN\n    \
             IF NOT klaviyo.is_capturing({id}, TG_RELID) THEN\n        \
             RETURN NULL;\n"
        );
        let now = self.as_it_is_now();
        for operation in &self.plan.operations {
            let why = self.is_row_level(*operation);
            let written = if why.is_some() { Rows::OF_ROW } else { Rows::OF_STATEMENT };
            let rows = match self.plan.at {
                At::Statement => written,
                At::Commit => Rows { new: &now, written: self.written(written.new), ..written },
            };
            let is_it = format!("TG_OP = '{}'", operation.sql());
            let why = why.map(|why| format!("        -- For each row: {why}.\n")).unwrap_or_default();
            let bury = self.plan.action.bury(*operation, written, "capture.fault");
            let note = self.note_one(id).filter(|_| *operation == Operation::Update);
            let query = self.plan.action.query(*operation, rows, self.table, note.as_deref(), "        ");
            let noted =
                if *operation == Operation::Insert { self.note(id, written.new) } else { String::new() };
            body.push_str(&format!(
                "    ELSIF {is_it} AND capture.fault IS NOT NULL THEN\n        PERFORM {bury};\n    \
                 ELSIF {is_it} THEN\n{why}        PERFORM {query};\n{noted}"
            ));
        }
        body.push_str("    END IF;\n    RETURN NULL;\nEND\n");
        body
    }
}

/// The name of a mapping's function, in full. It is made in the table's schema.
pub fn function_name(table: &Table, id: i32) -> String {
    quote_qualified_identifier(&table.schema, &format!("klaviyo_sync_{id}"))
}

/// The name of a mapping's trigger for an operation.
pub fn trigger_name(id: i32, operation: Operation) -> String {
    format!("klaviyo_sync_{id}_{}", operation.sql().to_ascii_lowercase())
}

/// A quote that the text does not hold.
fn dollar_quote(text: &str) -> String {
    let mut quote = "$klaviyo$".to_owned();
    while text.contains(&quote) {
        quote.insert(1, '_');
    }
    quote
}
