//! A row and Klaviyo's profile of the same person: compared field by field, and each side told what the other knows better.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal};
use pgrx::{JsonB, spi};

use super::Field;
use super::mapping::Mapping;
use super::task::{TIMEOUT_OF_ROW, Task};
use super::told::while_telling;
use crate::pg::scoped::{with_restricted_rights_of, with_settings_of_sessions, with_statement_timeout};
use crate::pg::spi::{arg, column, rows, run, value};

const COMPARE: &str = "
    SELECT c.field, c.outcome
    FROM klaviyo.compare_profiles($1, $2::jsonb, $3::jsonb, $4::jsonb, $5::jsonb, $6, $7) AS c";

const TOLD: &str = "
    SELECT jsonb_build_object(
        'account', $1, 'profile', $3::jsonb,
        'people', (
            SELECT jsonb_agg(encode(p.person, 'hex'))
            FROM klaviyo.account AS a
            CROSS JOIN unnest(klaviyo.people_of(a.person_salt, $2::jsonb) || klaviyo.people_of(a.person_salt, $3::jsonb)) AS p (person)
            WHERE a.name = $1
        ))";

const TRY: &str = "SELECT klaviyo.try_update($1, $2::jsonb, $3)";

const RECORD: &str = "
    INSERT INTO klaviyo.sync_conflict (mapping, account, profile_id, key, field, table_value, table_updated_at, klaviyo_value,
                                       klaviyo_updated_at, winner, error)
    VALUES ($1, $2, $3, $4, array_to_string($5, '.'), $6::jsonb #> $5, $7, $8::jsonb #> $5, $9, $10, $11)";

const WITH_FIELD: &str = "SELECT klaviyo.with_field($1::jsonb, $2, $3::jsonb #> $2)::text";

const NOTE: &str = "SELECT true FROM klaviyo.note_own_values($1, $2::jsonb, $3::jsonb)";

/// Both have the same now: whatever Klaviyo has from now on it has from elsewhere.
const FORGET: &str = "
    DELETE FROM klaviyo.own_value AS o
    USING klaviyo.account AS a
    WHERE a.name = $1 AND o.account = a.name AND o.person = ANY (klaviyo.people_of(a.person_salt, $2::jsonb)) AND o.field = $3";

/// Nothing may be put off until the owner's rights are gone: it is done at once.
const AT_ONCE: &str = "SET CONSTRAINTS ALL IMMEDIATE";

/// What Klaviyo would not take is in nobody else's way.
const ON_INVALID: &str = "SET LOCAL klaviyo.on_invalid = 'dead_letter'";

/// What becomes of a field, see `klaviyo.compare_profiles()`.
struct Compared<'a> {
    field: &'a Field,
    outcome: String,
}

/// A row, and what Klaviyo has of the same profile.
pub struct Row<'a> {
    pub task: &'a Task,
    pub mapping: &'a Mapping,
    pub key: &'a [String],
    /// As the mapping says it to Klaviyo.
    pub own: String,
    pub own_updated_at: Option<TimestampWithTimeZone>,
    pub theirs: &'a str,
    pub their_updated_at: Option<TimestampWithTimeZone>,
}

impl Row<'_> {
    /// Makes it so.
    pub fn settle(&self, before: Option<&str>) -> Result<(), spi::Error> {
        let compared = self.compare(before)?;
        let of = |outcomes: &'static [&str]| {
            let is_one = move |it: &&Compared<'_>| outcomes.contains(&it.outcome.as_str());
            compared.iter().filter(is_one).map(|it| it.field).collect::<Vec<_>>()
        };
        let account = || arg(self.task.account.as_str());
        for field in of(&["same"]) {
            run(FORGET, &[account(), arg(self.own.as_str()), arg(field.path.clone())])?;
        }
        let lost = of(&["klaviyo"]);
        if !lost.is_empty() {
            // It may be on its way to Klaviyo all the same.
            let new = self.with_theirs(&self.own, &lost)?;
            value::<bool>(NOTE, &[account(), arg(new), arg(self.own.as_str())])?;
        }
        let refused = self.write(&of(&["written", "klaviyo"]))?;
        for it in &compared {
            let error = refused.iter().find(|(field, _)| field.column == it.field.column);
            let error = error.map(|(_, error)| error.as_str());
            let winner = match it.outcome.as_str() {
                "table" => "table",
                _ if error.is_some() => "table",
                "klaviyo" => "klaviyo",
                _ => continue,
            };
            self.record(it.field, winner, error)?;
        }
        let is_refused = |field: &&Field| refused.iter().any(|(refused, _)| refused.column == field.column);
        let accepted: Vec<&Field> =
            of(&["written", "klaviyo"]).into_iter().filter(|field| !is_refused(field)).collect();
        self.repeat(&of(&["repeated", "table"]), &accepted)
    }

    fn compare(&self, before: Option<&str>) -> Result<Vec<Compared<'_>>, spi::Error> {
        let fields = &self.mapping.write_back.fields;
        let paths: Vec<&Vec<String>> = fields.iter().map(|field| &field.path).collect();
        let args = [
            arg(self.task.account.as_str()),
            arg(serde_json::json!(paths).to_string()),
            arg(self.own.as_str()),
            arg(self.theirs),
            arg(before),
            arg(self.own_updated_at),
            arg(self.their_updated_at),
        ];
        let mut compared = Vec::new();
        rows(COMPARE, &args, |row| {
            let path: Vec<String> = column(row, 1);
            if let Some(field) = fields.iter().find(|field| field.path == path) {
                compared.push(Compared { field, outcome: column(row, 2) });
            }
        })?;
        Ok(compared)
    }

    /// A state of the row as it is told to Klaviyo, but for fields that are as Klaviyo has them.
    fn with_theirs(&self, own: &str, fields: &[&Field]) -> Result<String, spi::Error> {
        let mut own = own.to_owned();
        for field in fields {
            let args = [arg(own.as_str()), arg(field.path.clone()), arg(self.theirs)];
            own = value::<String>(WITH_FIELD, &args)?.unwrap_or_default();
        }
        Ok(own)
    }

    /// Writes fields into their columns. Returns those that these do not take, and why.
    fn write<'a>(&self, fields: &[&'a Field]) -> Result<Vec<(&'a Field, String)>, spi::Error> {
        let mut refused = Vec::new();
        // One by one where not all can be.
        if !fields.is_empty() && self.update(fields)?.is_some() {
            for field in fields {
                refused.extend(self.update(&[field])?.map(|error| (*field, error)));
            }
        }
        Ok(refused)
    }

    fn update(&self, fields: &[&Field]) -> Result<Option<String>, spi::Error> {
        let Mapping { table, .. } = self.mapping;
        let columns: Vec<String> = fields.iter().map(|field| quote_identifier(&field.column)).collect();
        let values = fields.iter().map(|field| {
            let path: Vec<String> = field.path.iter().map(quote_literal).collect();
            let path = path.join(", ");
            format!("{}, $1 OPERATOR(pg_catalog.#>) ARRAY[{path}]", quote_literal(&field.column))
        });
        // In the table's schema others may have functions and operators of these names: each is named in full.
        let statement = format!(
            "UPDATE {rows} AS \"row\" SET ({columns}) = (
                 SELECT {of_it}
                 FROM pg_catalog.jsonb_populate_record(\"row\", pg_catalog.jsonb_build_object({values})) AS it
             )
             WHERE {is_key}",
            rows = table.rows(),
            columns = columns.join(", "),
            of_it = columns.iter().map(|column| format!("it.{column}")).collect::<Vec<_>>().join(", "),
            values = values.collect::<Vec<_>>().join(", "),
            is_key = table.is_key(self.key),
        );
        let told = value::<JsonB>(
            TOLD,
            &[arg(self.task.account.as_str()), arg(self.own.as_str()), arg(self.theirs)],
        )?;
        let JsonB(told) = told.unwrap_or(JsonB(serde_json::Value::Null));
        let path = format!("{}, pg_temp", quote_identifier(&table.schema));
        Spi::run(AT_ONCE)?;
        with_statement_timeout(TIMEOUT_OF_ROW, || {
            with_restricted_rights_of(table.owner, || {
                with_settings_of_sessions(|| {
                    let args = [arg(statement), arg(self.theirs), arg(path)];
                    while_telling(told, || value::<String>(TRY, &args))
                })
            })
        })
    }

    fn record(&self, field: &Field, winner: &str, error: Option<&str>) -> Result<(), spi::Error> {
        let [mapping, account, profile] = self.task.ids();
        let args = [
            mapping,
            account,
            profile,
            arg(self.key.to_vec()),
            arg(field.path.clone()),
            arg(self.own.as_str()),
            arg(self.own_updated_at),
            arg(self.theirs),
            arg(self.their_updated_at),
            arg(winner),
            arg(error),
        ];
        run(RECORD, &args).map(drop)
    }

    /// Has Klaviyo be told of fields that it has otherwise, now that others were written.
    fn repeat(&self, fields: &[&Field], written: &[&Field]) -> Result<(), spi::Error> {
        if fields.is_empty() {
            return Ok(());
        }
        let function = &self.mapping.plan.action.function;
        let schema = function.rsplit_once('.').map(|(schema, _)| schema).unwrap_or_default();
        let statement = format!("SELECT {schema}.klaviyo_upsert_changes($1::jsonb, $2::jsonb, $3)");
        let own = self.with_theirs(&self.own, written)?;
        let theirs = self.with_theirs(&own, fields)?;
        Spi::run(ON_INVALID)?;
        Spi::run_with_args(&statement, &[arg(own), arg(theirs), arg(self.task.account.as_str())])
    }
}
