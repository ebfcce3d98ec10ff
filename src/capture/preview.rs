//! What a mapping would send of the rows that stand in its table.

use pgrx::JsonB;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;

use super::fault::computing;
use super::plan::Plan;
use super::query::Action;
use super::statements::done;
use super::table::Table;
use crate::pg::function::Refusal;
use crate::pg::scoped::with_own_search_path;
use crate::pg::spi::{arg, column, rows, value};

const MAPPING: &str = "
    SELECT m.kind, m.plan
    FROM klaviyo.sync AS s
    JOIN klaviyo.mapping AS m ON m.id = s.id
    WHERE s.relation = $1 AND s.name = $2";

const CHECK_EVENT: &str = "
    SELECT klaviyo.check_event(
        m ->> 'metric', m ->> 'email', nullif(m -> 'properties', 'null'), (m ->> 'value')::numeric, m ->> 'value_currency',
        m ->> 'unique_id', (m ->> 'event_time')::timestamptz, m ->> 'phone_number', m ->> 'external_id',
        nullif(m -> 'profile', 'null')
    )
    FROM (SELECT $1::jsonb) AS given (m)";

const CHECK_PROFILE: &str = "SELECT klaviyo.check_changes($1::jsonb, NULL)";

/// A row, as a mapping sees it.
#[derive(Debug)]
pub struct Previewed {
    /// Its primary key, or where there is none its place: a JSON array of texts.
    pub key: String,
    /// What would be sent of it, or why that would be refused: the fields of a JSON object.
    pub checked: String,
}

/// Which rows: so many of the last ones by primary key, behind so many others.
#[derive(Debug)]
pub struct Page {
    pub limit: i64,
    pub place: i64,
    /// Whether only their keys are wanted.
    pub keys_only: bool,
}

/// Looks at rows of a table that its mapping of that name would send.
pub fn preview(table: &Table, name: &str, page: &Page) -> Result<Vec<Previewed>, Refusal> {
    let mut mapping: Option<(String, JsonB)> = None;
    with_own_search_path(|| {
        done(rows(MAPPING, &[arg(table.oid), arg(name)], |row| {
            mapping = Some((column(row, 1), column(row, 2)));
        }));
    });
    let Some((kind, JsonB(plan))) = mapping else { return Ok(Vec::new()) };
    let Some(plan) = Plan::from_json(plan) else { return Ok(Vec::new()) };
    let check = if kind == "event" { CHECK_EVENT } else { CHECK_PROFILE };
    let checked = |message: String| match page.keys_only {
        true => "{}".to_owned(),
        false => with_own_search_path(|| done(value(check, &[arg(message)]))).unwrap_or_default(),
    };
    let messages = messages(table, &plan.action, page)?;
    Ok(messages.into_iter().map(|(key, message)| Previewed { key, checked: checked(message) }).collect())
}

/// Keys and messages of rows, computed with the rights of the table's owner.
fn messages(table: &Table, action: &Action, page: &Page) -> Result<Vec<(String, String)>, Refusal> {
    let (key, order) = if table.key.is_empty() {
        ("jsonb_build_array(\"row\".ctid::text)::text".to_owned(), String::new())
    } else {
        let order: Vec<String> = table.key_columns().iter().map(|column| format!("{column} DESC")).collect();
        (table.key_as_json(), format!(" ORDER BY {}", order.join(", ")))
    };
    let message = if page.keys_only { "'{}'".to_owned() } else { action.message() };
    // Of the others nothing is computed. No column may be called as the key is.
    let mut known_as = "key".to_owned();
    while table.columns.contains(&known_as) {
        known_as.push('_');
    }
    let columns: Vec<String> =
        table.columns.iter().map(|column| format!("page.{}", quote_identifier(column))).collect();
    let query = format!(
        "SELECT page.{known_as}, ({message})::text
         FROM (SELECT {key} AS {known_as}, \"row\".* FROM {rows}{order} LIMIT $1 OFFSET $2) AS page
         CROSS JOIN LATERAL (SELECT {columns}) AS \"row\"",
        rows = action.of(&table.rows()),
        columns = columns.join(", "),
    );
    computing(table, "Correct what it is said to compute, or leave such rows out by \"when\".", || {
        Spi::connect(|client| {
            let rows = done(client.select(query.as_str(), None, &[arg(page.limit), arg(page.place)]));
            rows.map(|row| (done(row.get(1)).unwrap_or_default(), done(row.get(2)).unwrap_or_default()))
                .collect()
        })
    })
}
