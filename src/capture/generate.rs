//! The SQL that a mapping comes to. Meant to be read.

use pgrx::spi::{quote_identifier, quote_qualified_identifier};

use super::table::Table;

/// What is done for a row: a call of a function that queues.
#[derive(Debug)]
pub struct Call {
    /// The function, by its full name.
    pub function: String,
    /// Its arguments, as SQL over `"row"`.
    pub arguments: Vec<(&'static str, String)>,
    /// Which rows; all where there is none.
    pub condition: Option<String>,
}

impl Call {
    /// The call for each of some rows, to stand after SELECT or PERFORM.
    fn over(&self, rows: &str) -> String {
        let arguments: Vec<String> =
            self.arguments.iter().map(|(name, sql)| format!("        {name} => {sql}")).collect();
        let condition = self.condition.as_ref().map(|it| format!("\n    WHERE {it}")).unwrap_or_default();
        format!("{}(\n{}\n    )\n    FROM {rows} AS \"row\"{condition}", self.function, arguments.join(",\n"))
    }

    /// A query that is right where the trigger's is. As in a trigger, nothing is known of the rows but their columns.
    pub fn probe(&self, table: &Table) -> String {
        format!("SELECT {}\n    LIMIT 0", self.over(&format!("(SELECT * FROM {})", table.sql())))
    }
}

/// The name of a mapping's trigger and of its function, which stands in the table's schema.
pub fn name(id: i32) -> String {
    format!("klaviyo_sync_{id}")
}

fn full_name(table: &Table, id: i32) -> String {
    quote_qualified_identifier(&table.schema, &name(id))
}

/// The statements that attach a mapping.
pub fn attach(table: &Table, id: i32, call: &Call) -> [String; 3] {
    let body = format!("\nBEGIN\n    PERFORM {};\n    RETURN NULL;\nEND\n", call.over("new_rows"));
    let quote = dollar_quote(&body);
    let (function, trigger, table) = (full_name(table, id), quote_identifier(name(id)), table.sql());
    [
        format!(
            "CREATE FUNCTION {function}() RETURNS trigger\nLANGUAGE plpgsql SECURITY DEFINER\n\
             SET search_path = pg_catalog, pg_temp\nSET timezone = 'UTC'\nAS {quote}{body}{quote}"
        ),
        // A trigger's function may be called by nobody in particular, but anybody could make a trigger of his own of it.
        format!("REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"),
        format!(
            "CREATE TRIGGER {trigger} AFTER INSERT ON {table}\nREFERENCING NEW TABLE AS new_rows\n\
             FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        ),
    ]
}

/// The statements that detach it. `function` is its function's full name: the table may have moved to another schema since.
pub fn detach(table: &Table, id: i32, function: &str) -> [String; 2] {
    [
        format!("DROP TRIGGER {} ON {}", quote_identifier(name(id)), table.sql()),
        format!("DROP FUNCTION {function}()"),
    ]
}

/// A quote that the text does not hold.
fn dollar_quote(text: &str) -> String {
    let mut quote = "$klaviyo$".to_owned();
    while text.contains(&quote) {
        quote.insert(1, '_');
    }
    quote
}
