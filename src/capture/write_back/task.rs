//! A profile that has changed at Klaviyo, in a transaction of its own: each of its rows is read and locked with the rights of the
//! table's owner, compared field by field, and written.

use std::time::Duration;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal};
use pgrx::{JsonB, pg_sys, spi};

use super::super::plan::Plan;
use super::super::table::{Key, Table};
use super::told::while_telling;
use super::{Field, WriteBack};
use crate::pg::function::Refusal;
use crate::pg::scoped::{
    with_restricted_rights_of, with_settings_of_sessions, with_settings_of_triggers, with_statement_timeout,
};
use crate::pg::spi::{arg, column, rows, run, value};

/// Whether there is anything to write back, now or soon.
const ANY: &str = "
    SELECT (EXISTS (SELECT FROM klaviyo.write_back) OR EXISTS (SELECT FROM klaviyo.mapping AS m WHERE m.writes_back_after IS NOT NULL))
           AND EXISTS (
               SELECT FROM klaviyo.sync AS s
               JOIN klaviyo.mapping AS m USING (id)
               WHERE s.state = 'on'
                 AND (m.writes_back_after IS NOT NULL
                      OR EXISTS (
                          SELECT FROM klaviyo.write_back AS w
                          WHERE w.mapping = m.id AND w.not_before < pg_catalog.now() + interval '30 seconds'
                      ))
           )";

const DUE: &str = "
    SELECT s.id, m.plan, s.relation::oid
    FROM klaviyo.sync AS s
    JOIN klaviyo.mapping AS m USING (id)
    WHERE s.state = 'on'
      AND (m.writes_back_after IS NOT NULL
           OR EXISTS (SELECT FROM klaviyo.write_back AS w WHERE w.mapping = s.id AND w.not_before <= pg_catalog.clock_timestamp()))
    ORDER BY s.id";

/// What was known when it was mapped, some at a time.
const FILL: &str = "
    WITH known AS (
        SELECT p.account, p.profile_id
        FROM klaviyo.mapping AS m
        JOIN klaviyo.profile AS p ON p.account = m.account AND p.profile_id > m.writes_back_after
        WHERE m.id = $1
        ORDER BY p.account, p.profile_id
        LIMIT 5000
    ), noted AS (
        INSERT INTO klaviyo.write_back (mapping, account, profile_id)
        SELECT $1, k.account, k.profile_id FROM known AS k
        ON CONFLICT DO NOTHING
    )
    UPDATE klaviyo.mapping AS m
    SET writes_back_after = (SELECT max(k.profile_id) FROM known AS k)
    WHERE m.id = $1 AND m.writes_back_after IS NOT NULL";

/// Of a mapping that writes nothing back any more.
const FORGET_ALL: &str = "DELETE FROM klaviyo.write_back AS w WHERE w.mapping = $1";

const BATCH: &str = "
    SELECT w.account, w.profile_id, p.external_id, p.email, p.phone_number
    FROM klaviyo.write_back AS w
    JOIN klaviyo.profile AS p USING (account, profile_id)
    WHERE w.mapping = $1 AND w.not_before <= pg_catalog.clock_timestamp()
    ORDER BY w.account, w.profile_id
    LIMIT $2";

/// Nobody has it but who purges it.
const OPEN: &str = "
    SELECT w.before::text, klaviyo.told_of(to_jsonb(p))::text, p.updated_at, m.plan, m.relation
    FROM klaviyo.write_back AS w
    JOIN klaviyo.profile AS p USING (account, profile_id)
    JOIN klaviyo.mapping AS m ON m.id = w.mapping
    WHERE w.mapping = $1 AND w.account = $2 AND w.profile_id = $3 AND klaviyo.is_capturing(m.id, m.relation)
    FOR UPDATE OF w SKIP LOCKED";

const COMPARE: &str = "
    SELECT c.field, c.outcome
    FROM klaviyo.compare_profiles($1, $2::jsonb, $3::jsonb, $4::jsonb, $5::jsonb, $6, $7) AS c";

const TOLD: &str = "
    SELECT jsonb_build_object(
        'account', $1, 'profile', $3::jsonb,
        'people', (
            SELECT jsonb_agg(encode(p.person, 'hex'))
            FROM (SELECT klaviyo.people_of($1, $2::jsonb) UNION SELECT klaviyo.people_of($1, $3::jsonb)) AS p (person)
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
    USING klaviyo.people_of($1, $2::jsonb) AS p (person)
    WHERE o.account = $1 AND o.person = p.person AND o.field = $3";

const DONE: &str =
    "DELETE FROM klaviyo.write_back AS w WHERE w.mapping = $1 AND w.account = $2 AND w.profile_id = $3";

const ALL_DONE: &str = "
    DELETE FROM klaviyo.write_back AS w
    USING unnest($2::text[], $3::text[]) AS d (account, profile_id)
    WHERE w.mapping = $1 AND w.account = d.account AND w.profile_id = d.profile_id";

/// It is tried again after a while also if nothing more is heard of it: what ends its process is in no other's way.
const BEGIN: &str = "
    UPDATE klaviyo.write_back AS w
    SET attempts = w.attempts + 1, error = 'the process that wrote it has ended',
        not_before = pg_catalog.clock_timestamp() + least(power(2, least(w.attempts, 10)), 600) * interval '1 second'
    WHERE (w.mapping, w.account, w.profile_id) IN (
        SELECT b.mapping, b.account, b.profile_id FROM klaviyo.write_back AS b
        WHERE b.mapping = $1 AND b.account = $2 AND b.profile_id = $3
        FOR UPDATE SKIP LOCKED
    )";

const PUT_OFF_BATCH: &str = "
    UPDATE klaviyo.write_back AS w
    SET attempts = w.attempts + 1, error = $2, not_before = pg_catalog.clock_timestamp() + interval '1 minute'
    WHERE (w.mapping, w.account, w.profile_id) IN (
        SELECT b.mapping, b.account, b.profile_id FROM klaviyo.write_back AS b
        WHERE b.mapping = $1 AND b.not_before <= pg_catalog.clock_timestamp()
        ORDER BY b.account, b.profile_id
        LIMIT $3
        FOR UPDATE SKIP LOCKED
    )";

const PUT_OFF: &str = "
    UPDATE klaviyo.write_back AS w
    SET error = $4
    WHERE w.mapping = $1 AND w.account = $2 AND w.profile_id = $3";

const EXPIRE: &str = "
    DELETE FROM klaviyo.own_value AS o
    WHERE o.ctid = ANY (ARRAY(
        SELECT e.ctid FROM klaviyo.own_value AS e WHERE e.noted_at < pg_catalog.now() - interval '30 days' LIMIT 10000
    ))";

const DELETE_OLD: &str = "
    DELETE FROM klaviyo.sync_conflict AS c
    WHERE c.conflict_id = ANY (ARRAY(
        SELECT o.conflict_id FROM klaviyo.sync_conflict AS o
        WHERE o.found_at < pg_catalog.now() - $1 * interval '1 minute'
        ORDER BY o.found_at
        LIMIT 10000
    ))";

/// What is waited for of others, who may keep a row for long.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '100ms'";

/// Nothing may be put off until the owner's rights are gone: it is done at once.
const AT_ONCE: &str = "SET CONSTRAINTS ALL IMMEDIATE";

/// What Klaviyo would not take is in nobody else's way.
const ON_INVALID: &str = "SET LOCAL klaviyo.on_invalid = 'dead_letter'";

/// Profiles whose rows are looked for together: where no index finds them, the table is read once for all.
const TOGETHER: i64 = 500;

/// How long it may take to find them, and to write a row, with whatever triggers do.
pub const TIMEOUT: Duration = Duration::from_secs(60);
const TIMEOUT_OF_ROW: Duration = Duration::from_secs(5);

/// Bytes of an error that are kept.
const KEPT: usize = 2_000;

/// A profile to write back.
pub struct Task {
    mapping: i32,
    account: String,
    profile: String,
    rows: Vec<Found>,
}

/// A row of it, by its primary key, and why it is one, as SQL over the row: when it is written that may be otherwise.
struct Found {
    key: Vec<String>,
    is_it: String,
}

/// A mapping that there is something to do for.
struct Mapping {
    id: i32,
    plan: Plan,
    write_back: WriteBack,
    table: Table,
}

/// What becomes of a field, see `klaviyo.compare_profiles()`.
struct Compared<'a> {
    field: &'a Field,
    outcome: String,
}

/// Whether there is anything to do.
pub fn is_any() -> Result<bool, spi::Error> {
    Ok(value::<bool>(ANY, &[])?.unwrap_or_default())
}

/// The mappings that profiles are to be written back for now.
pub fn due() -> Result<Vec<i32>, spi::Error> {
    let mut due = Vec::new();
    rows(DUE, &[], |row| due.push(column(row, 1)))?;
    Ok(due)
}

/// Some of the profiles to be written back for a mapping. Those that no row is of are done.
pub fn next(mapping: i32) -> Result<Vec<Task>, spi::Error> {
    let Some(mapping) = Mapping::open(mapping)? else {
        run(FORGET_ALL, &[arg(mapping)])?;
        return Ok(Vec::new());
    };
    run(FILL, &[arg(mapping.id)])?;
    let mut tasks = Vec::new();
    let mut identifiers: Vec<[Option<String>; 3]> = Vec::new();
    rows(BATCH, &[arg(mapping.id), arg(TOGETHER)], |row| {
        let text = |number| row.get::<String>(number).ok().flatten();
        tasks.push(Task {
            mapping: mapping.id,
            account: column(row, 1),
            profile: column(row, 2),
            rows: Vec::new(),
        });
        identifiers.push([text(3), text(4), text(5)]);
    })?;
    mapping.find(&mut tasks, &identifiers)?;
    let (tasks, without): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task: &Task| !task.rows.is_empty());
    let (accounts, profiles): (Vec<String>, Vec<String>) =
        without.into_iter().map(|task| (task.account, task.profile)).unzip();
    if !accounts.is_empty() {
        run(ALL_DONE, &[arg(mapping.id), arg(accounts), arg(profiles)])?;
    }
    Ok(tasks)
}

/// Notes why the rows of those that are next cannot be found, and tries it again later.
pub fn put_off(mapping: i32, error: &str) -> Result<(), spi::Error> {
    run(PUT_OFF_BATCH, &[arg(mapping), arg(kept(error)), arg(TOGETHER)]).map(drop)
}

fn kept(error: &str) -> &str {
    &error[..error.floor_char_boundary(KEPT)]
}

impl Mapping {
    fn open(id: i32) -> Result<Option<Self>, spi::Error> {
        let mut found = None;
        rows(DUE, &[], |row| {
            if column::<i32>(row, 1) == id {
                let JsonB(plan) = column(row, 2);
                found = Self::of(id, plan, column(row, 3));
            }
        })?;
        Ok(found)
    }

    fn of(id: i32, plan: serde_json::Value, relation: pg_sys::Oid) -> Option<Self> {
        let plan = Plan::from_json(plan)?;
        let write_back = plan.write_back.clone()?;
        let table: Result<Table, Refusal> = Table::open(Some(relation));
        Some(Self { id, plan, write_back, table: table.ok()? })
    }

    /// Finds rows by the first identifier that some have.
    fn find(&self, tasks: &mut [Task], identifiers: &[[Option<String>; 3]]) -> Result<(), spi::Error> {
        for (name, sql) in &self.write_back.identifiers {
            let Some(place) = super::FOUND_BY.iter().position(|it| it == name) else { continue };
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
        let run = || with_settings_of_sessions(|| with_settings_of_triggers(run));
        with_restricted_rights_of(self.table.owner, || with_statement_timeout(timeout, run))
    }
}

/// A row, and what Klaviyo has of the same profile.
struct Row<'a> {
    task: &'a Task,
    mapping: &'a Mapping,
    key: &'a [String],
    /// As the mapping says it to Klaviyo.
    own: String,
    own_updated_at: Option<TimestampWithTimeZone>,
    theirs: &'a str,
    their_updated_at: Option<TimestampWithTimeZone>,
}

impl Task {
    /// How long it may take in all.
    pub fn timeout(&self) -> Duration {
        TIMEOUT_OF_ROW * (u32::try_from(self.rows.len()).unwrap_or(1).min(1_000) + 3)
    }

    /// Writes down that it is begun. False if somebody has it.
    pub fn begin(&self) -> Result<bool, spi::Error> {
        Ok(run(BEGIN, &self.ids())? > 0)
    }

    /// Writes it into all its rows, in the transaction the caller has begun.
    pub fn write(&self) -> Result<(), spi::Error> {
        Spi::run(LOCK_TIMEOUT)?;
        let mut open = None;
        rows(OPEN, &self.ids(), |row| {
            let JsonB(plan) = column(row, 4);
            let before: Option<String> = row.get(1).ok().flatten();
            let theirs: String = column(row, 2);
            let updated_at: Option<TimestampWithTimeZone> = row.get(3).ok().flatten();
            open = Mapping::of(self.mapping, plan, column(row, 5))
                .map(|mapping| (mapping, before, theirs, updated_at));
        })?;
        let Some((mapping, before, theirs, their_updated_at)) = open else { return Ok(()) };
        for found in &self.rows {
            if let Some((own, own_updated_at)) = mapping.lock(found)? {
                let (theirs, mapping, key) = (&theirs, &mapping, &found.key);
                let row = Row { task: self, mapping, key, own, own_updated_at, theirs, their_updated_at };
                row.settle(before.as_deref())?;
            }
        }
        run(DONE, &self.ids()).map(drop)
    }

    /// Notes why it cannot be written.
    pub fn put_off(&self, error: &str) -> Result<(), spi::Error> {
        let [mapping, account, profile] = self.ids();
        run(PUT_OFF, &[mapping, account, profile, arg(kept(error))]).map(drop)
    }

    fn ids(&self) -> [pgrx::datum::DatumWithOid<'_>; 3] {
        [arg(self.mapping), arg(self.account.as_str()), arg(self.profile.as_str())]
    }
}

impl Mapping {
    /// A row as the mapping says it to Klaviyo, and when it was last changed, from now on locked. None if it is not mapped any more.
    fn lock(&self, found: &Found) -> Result<Option<(String, Option<TimestampWithTimeZone>)>, spi::Error> {
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

impl Row<'_> {
    fn settle(&self, before: Option<&str>) -> Result<(), spi::Error> {
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

/// Deletes conflicts that were found longer ago than so many minutes, and what is noted of values for nothing.
pub fn delete_old(minutes: Option<i32>) -> Result<usize, spi::Error> {
    let conflicts = minutes.map_or(Ok(0), |minutes| run(DELETE_OLD, &[arg(minutes)]))?;
    Ok(conflicts + run(EXPIRE, &[])?)
}
