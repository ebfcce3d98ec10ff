//! What a mapping would send of the rows that stand in its table.

use pgrx::JsonB;
use pgrx::prelude::*;

use super::fault::computing;
use super::plan::Plan;
use super::query::Action;
use super::statements::done;
use super::table::Table;
use crate::pg::function::Refusal;
use crate::pg::scoped::with_own_search_path;
use crate::pg::spi::{arg, column, rows, value};

const MAPPINGS: &str = "
    SELECT m.name, m.kind, m.plan
    FROM klaviyo.sync AS s
    JOIN klaviyo.mapping AS m ON m.id = s.id
    WHERE s.relation = $1 AND ($2 IS NULL OR s.name = $2)
    ORDER BY m.id";

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
    pub mapping: String,
    /// Its primary key, or where there is none its place: a JSON array of texts.
    pub key: String,
    /// What would be sent of it, or why that would be refused: the fields of a JSON object.
    pub checked: String,
}

/// Looks at the last rows of a table, by its primary key, that its mapping of that name, or each of them, would send.
pub fn preview(table: &Table, name: Option<&str>, limit: i64) -> Result<Vec<Previewed>, Refusal> {
    let mut mappings: Vec<(String, String, JsonB)> = Vec::new();
    with_own_search_path(|| {
        done(rows(MAPPINGS, &[arg(table.oid), arg(name)], |row| {
            mappings.push((column(row, 1), column(row, 2), column(row, 3)));
        }));
    });
    let mut previewed = Vec::new();
    for (mapping, kind, JsonB(plan)) in mappings {
        let Some(plan) = Plan::from_json(plan) else { continue };
        let check = if kind == "event" { CHECK_EVENT } else { CHECK_PROFILE };
        for (key, message) in messages(table, &plan.action, limit)? {
            let checked = with_own_search_path(|| done(value(check, &[arg(message)]))).unwrap_or_default();
            previewed.push(Previewed { mapping: mapping.clone(), key, checked });
        }
    }
    Ok(previewed)
}

/// Keys and messages of the last rows, computed with the rights of the table's owner.
fn messages(table: &Table, action: &Action, limit: i64) -> Result<Vec<(String, String)>, Refusal> {
    let (key, order) = if table.key.is_empty() {
        ("jsonb_build_array(\"row\".ctid::text)::text".to_owned(), String::new())
    } else {
        let order: Vec<String> = table.key_columns().iter().map(|column| format!("{column} DESC")).collect();
        (table.key_as_json(), format!(" ORDER BY {}", order.join(", ")))
    };
    let query = format!(
        "SELECT {key}, ({})::text FROM {}{order} LIMIT $1",
        action.message(),
        action.of(&table.rows()),
    );
    computing(table, "Correct what it is said to compute, or leave such rows out by \"when\".", || {
        Spi::connect(|client| {
            let rows = done(client.select(query.as_str(), None, &[arg(limit)]));
            rows.map(|row| (done(row.get(1)).unwrap_or_default(), done(row.get(2)).unwrap_or_default()))
                .collect()
        })
    })
}
