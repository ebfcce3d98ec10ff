//! Some rows of a backfill, in a transaction of their own: read with the rights of the table's owner, queued, and how far it has
//! come written down with them.

use std::collections::HashSet;
use std::time::Duration;

use pgrx::prelude::*;
use pgrx::spi::quote_identifier;
use pgrx::{JsonB, Uuid, spi};

use super::super::plan::Plan;
use super::super::query::{Action, Message};
use super::super::refusal;
use super::super::statements::as_triggers;
use super::super::table::Table;
use super::notes;
use crate::outbox::enqueue;
use crate::pg::function::Refusal;
use crate::pg::spi::{arg, column, rows, run, value};

/// A backfill that is to go on.
const OPEN: &str = "
    SELECT r.mapping, r.condition, r.again, r.position, r.rows_total, r.rows_refused - r.refused_before,
           m.account, m.plan, m.relation, m.notes_keys
    FROM klaviyo.backfill_run AS r
    JOIN klaviyo.mapping AS m ON m.id = r.mapping
    WHERE r.id = $1 AND r.state = 'running'";

/// Once its rows have been read, which may take long: who pauses or cancels it waits for no more than the rest. He is not
/// waited for.
const LOCK: &str = "
    SELECT true
    FROM klaviyo.backfill_run AS r
    WHERE r.id = $1 AND r.state = 'running'
    FOR UPDATE SKIP LOCKED";

/// How far earlier ones have come that were to send all. What those with a condition have sent is noted, row by row: it may
/// come to something else by now.
const EARLIER: &str = "
    SELECT r.position
    FROM klaviyo.backfill_run AS r
    WHERE r.mapping = $1 AND NOT r.again AND r.condition IS NULL AND r.state = 'cancelled' AND r.position IS NOT NULL
    ORDER BY r.id";

const ADVANCE: &str = "
    UPDATE klaviyo.backfill_run AS r
    SET position = CASE WHEN $8 <> 'done' THEN coalesce($2, r.position) END, rows_total = coalesce(r.rows_total, $3),
        rows_done = r.rows_done + $4, rows_queued = r.rows_queued + $5, rows_refused = r.rows_refused + $6,
        worked_at = clock_timestamp(), error = $7, state = $8,
        ended_at = CASE WHEN $8 = 'done' THEN clock_timestamp() END
    WHERE r.id = $1";

const NOTE_ERROR: &str = "
    UPDATE klaviyo.backfill_run AS r
    SET error = $2, state = CASE WHEN $3 THEN 'paused' ELSE r.state END
    WHERE r.id = $1 AND r.state = 'running'";

const QUEUE_EVENT: &str = "
    SELECT klaviyo.backfill_event(
        m ->> 'metric', m ->> 'email', nullif(m -> 'properties', 'null'), (m ->> 'value')::numeric, m ->> 'value_currency',
        m ->> 'unique_id', (m ->> 'event_time')::timestamptz, m ->> 'phone_number', m ->> 'external_id', NULL, $2, $3
    )
    FROM (SELECT $1::jsonb) AS given (m)";

const QUEUE_PROFILE: &str = "SELECT klaviyo.backfill_changes($1::jsonb, NULL, $2, $3)";

const BURY: &str = "SELECT klaviyo.bury_row($1, $2, $3::jsonb, $4)";

/// How long the rows of a chunk may take to compute; and those of profiles, which are locked meanwhile.
const TIMEOUT: Duration = Duration::from_secs(60);
pub const TIMEOUT_LOCKED: Duration = Duration::from_secs(5);

/// Rows refused after which it is paused, for a person to look: they are dead letters, of which there is a limit too.
const REFUSED: i64 = 10_000;

/// What has been done of one.
#[derive(Debug, Default)]
pub struct Done {
    /// Numbers of the messages that were queued.
    pub seqs: Vec<i64>,
    pub rows: usize,
    /// Bytes of their messages.
    pub bytes: usize,
    pub account: String,
    pub kind: &'static str,
    /// Whether there may be more.
    pub more: bool,
}

/// A backfill, with all that its rows are read by.
struct Run {
    id: i32,
    mapping: i32,
    condition: Option<String>,
    again: bool,
    position: Option<Vec<String>>,
    is_estimated: bool,
    refused: i64,
    account: String,
    plan: Plan,
    table: Table,
    notes_keys: bool,
    /// How far earlier ones have come.
    earlier: Vec<Vec<String>>,
}

/// A row that was looked at.
struct Row {
    /// Its primary key, column by column.
    key: Vec<String>,
    /// The same as it is noted where the row was captured.
    noted_as: String,
    /// What is to be queued of it, if anything is.
    message: Option<String>,
}

/// Queues the next rows, so many at the most. None where it does not go on just now.
pub fn queue(id: i32, most: usize) -> Result<Option<Done>, spi::Error> {
    let Some(run) = Run::open(id)? else { return Ok(None) };
    if let Err(refusal) = run.check() {
        note(id, &format!("{}. {}", refusal.message, refusal.detail), true)?;
        return Ok(None);
    }
    let total = if run.is_estimated { None } else { run.estimate()? };
    let read = run.read(most)?;
    if !run.lock()? {
        return Ok(None);
    }
    let mut done = Done {
        rows: read.len(),
        bytes: read.iter().filter_map(|row| row.message.as_ref()).map(String::len).sum(),
        account: run.account.clone(),
        kind: run.plan.action.message.kind(),
        more: read.len() == most,
        seqs: Vec::new(),
    };
    let last = read.last().map(|row| row.key.clone());
    let refused = run.queue(read, &mut done)?;
    let state = if !done.more {
        "done"
    } else if run.refused + refused >= REFUSED {
        "paused"
    } else {
        "running"
    };
    if state == "done" && run.condition.is_none() && !run.again {
        notes::stop(run.mapping)?;
    }
    run.advance(last, total, &done, refused, state)?;
    Ok(Some(done))
}

/// The primary key of the next row.
pub fn next_key(id: i32) -> Result<Option<Vec<String>>, spi::Error> {
    let Some(run) = Run::open(id)? else { return Ok(None) };
    Ok(run.select("NULL::text", 1)?.pop().map(|row| row.key))
}

/// Makes a dead letter of the next row, of which no message can be made, if it still is that one, and goes on behind it.
pub fn bury(id: i32, key: &[String], fault: &str) -> Result<Option<Done>, spi::Error> {
    let Some(run) = Run::open(id)? else { return Ok(None) };
    let kind = run.plan.action.message.kind();
    let Some(row) = run.select("to_jsonb(\"row\")::text", 1)?.pop() else { return Ok(None) };
    if row.key != key || !run.lock()? {
        return Ok(None);
    }
    // What was captured when it was written is not its to send.
    let is_noted = !run.again && !notes::find(run.mapping, vec![row.noted_as.clone()])?.is_empty();
    if !is_noted {
        let given = [arg(run.account.as_str()), arg(kind), arg(row.message), arg(fault)];
        value::<Uuid>(BURY, &given)?;
        run.note(vec![Some(row.noted_as)])?;
    }
    let refused = i64::from(!is_noted);
    let done = Done { rows: 1, kind, more: true, ..Done::default() };
    let state = if run.refused + refused >= REFUSED { "paused" } else { "running" };
    run.advance(Some(row.key), None, &done, refused, state)?;
    Ok(Some(done))
}

/// Notes what is in its way; with `pause` it does not go on before a person has seen to it.
pub fn note(id: i32, error: &str, pause: bool) -> Result<(), spi::Error> {
    run(NOTE_ERROR, &[arg(id), arg(error), arg(pause)]).map(drop)
}

impl Run {
    fn open(id: i32) -> Result<Option<Self>, spi::Error> {
        let mut found = None;
        rows(OPEN, &[arg(id)], |row| {
            let JsonB(plan) = column(row, 8);
            let opened = (Plan::from_json(plan), Table::open(Some(column(row, 9))));
            let (Some(plan), Ok(table)) = opened else { return };
            found = Some(Self {
                id,
                mapping: column(row, 1),
                condition: row.get(2).ok().flatten(),
                again: column(row, 3),
                position: row.get(4).ok().flatten(),
                is_estimated: row.get::<i64>(5).ok().flatten().is_some(),
                refused: column(row, 6),
                account: column(row, 7),
                plan,
                table,
                notes_keys: column(row, 10),
                earlier: Vec::new(),
            });
        })?;
        let Some(mut run) = found else { return Ok(None) };
        if !run.again {
            rows(EARLIER, &[arg(run.mapping)], |row| run.earlier.push(column(row, 1)))?;
        }
        Ok(Some(run))
    }

    /// Whether it still is to go on. If so, until the end of the transaction.
    fn lock(&self) -> Result<bool, spi::Error> {
        Ok(value::<bool>(LOCK, &[arg(self.id)])?.is_some())
    }

    /// What of a row goes into its message. Of the person an event of the past says nothing: that may be old.
    fn action(&self) -> Action {
        let mut action = self.plan.action.clone();
        if let Message::Event(arguments) = &mut action.message {
            arguments.retain(|(name, _)| name != "profile");
        }
        action
    }

    /// The next rows by primary key, so many at the most, to stand after FROM.
    ///
    /// Of a profile, who has changed it and not committed has sent his change by a number that may be lower than those that
    /// are taken here, and so before this state, which has nothing of it. So its row is locked: it has no such change then,
    /// and none comes before the messages of this chunk are written. That all is seen as it was at one moment, or not at all,
    /// the transaction's isolation sees to.
    fn page(&self, most: usize) -> String {
        let mut after = vec!["true".to_owned()];
        after.extend(self.position.iter().chain(&self.earlier).map(|key| self.table.is_after(key)));
        if let Some(boundary) = self.plan.boundary.as_ref().filter(|_| !self.again) {
            after.push(boundary.holds(&self.table));
        }
        let columns: Vec<String> =
            self.table.columns.iter().map(|name| format!("\"row\".{}", quote_identifier(name))).collect();
        let lock = match self.plan.action.message {
            Message::Profile(_) => " FOR SHARE OF \"row\" NOWAIT",
            Message::Event(_) => "",
        };
        format!(
            "(SELECT {columns} FROM {rows} AS \"row\" WHERE {after} ORDER BY {order} LIMIT {most}{lock}) AS \"row\"",
            columns = columns.join(", "),
            rows = self.table.rows(),
            after = after.join(" AND "),
            order = self.table.key_columns().join(", "),
        )
    }

    /// Reads the next rows, with what is to be queued of each as SQL over it.
    fn select(&self, message: &str, most: usize) -> Result<Vec<Row>, spi::Error> {
        let query = format!(
            "SELECT ARRAY[{key}], {noted_as}, {message} FROM {page} ORDER BY {order}",
            key = self.table.key_texts(),
            noted_as = self.table.key_as_json(),
            page = self.page(most),
            order = self.table.key_columns().join(", "),
        );
        self.as_owner(|| {
            Spi::connect_mut(|client| {
                let found = client.update(query.as_str(), None, &[])?;
                let row = |row: spi::SpiHeapTupleData| {
                    Ok(Row {
                        key: row.get(1)?.unwrap_or_default(),
                        noted_as: row.get(2)?.unwrap_or_default(),
                        message: row.get(3)?,
                    })
                };
                found.map(row).collect()
            })
        })
    }

    fn read(&self, most: usize) -> Result<Vec<Row>, spi::Error> {
        let action = self.action();
        let conditions = [action.condition.as_deref(), self.condition.as_deref()];
        let mut conditions: Vec<String> =
            conditions.into_iter().flatten().map(|it| format!("({it})")).collect();
        conditions.push("true".to_owned());
        let message = format!("CASE WHEN {} THEN ({})::text END", conditions.join(" AND "), action.message());
        self.select(&message, most)
    }

    /// How many rows the table has, as the planner thinks: of how many lie beyond the boundary it often knows nothing.
    fn estimate(&self) -> Result<Option<i64>, spi::Error> {
        let query = format!("EXPLAIN (FORMAT JSON) SELECT FROM {}", self.table.rows());
        let plan: Option<pgrx::Json> = self.as_owner(|| {
            Spi::connect_mut(|client| client.update(query.as_str(), None, &[])?.first().get_one())
        })?;
        Ok(plan
            .and_then(|pgrx::Json(plan)| plan.pointer("/0/Plan/Plan Rows")?.as_f64().map(|rows| rows as i64)))
    }

    /// Runs what was said of the table's rows as its triggers do.
    fn as_owner<R>(&self, run: impl FnOnce() -> R) -> R {
        as_triggers(self.table.owner, self.timeout(), run)
    }

    fn timeout(&self) -> Duration {
        match self.plan.action.message {
            Message::Event(_) => TIMEOUT,
            Message::Profile(_) => TIMEOUT_LOCKED,
        }
    }

    /// Refuses to go on where what has changed since would have it send what it should not.
    fn check(&self) -> Result<(), Refusal> {
        super::may_run(&self.table, &self.plan, self.again, self.notes_keys)?;
        if self.position.as_ref().is_some_and(|key| key.len() != self.table.key.len()) {
            return Err(refusal::table("its primary key is another now", "Where to go on is not known.", ""));
        }
        if !enqueue::has_account(&self.account) {
            return Err(refusal::argument(
                format!("account \"{}\" does not exist", self.account),
                "Its messages would have nowhere to go.",
                "",
            ));
        }
        Ok(())
    }

    /// Queues what was read, but for what was captured when it was written. Returns how many were refused.
    fn queue(&self, read: Vec<Row>, done: &mut Done) -> Result<i64, spi::Error> {
        let to_send = read.iter().filter(|row| row.message.is_some());
        let noted: HashSet<String> = match self.again {
            true => HashSet::new(),
            false => {
                let keys = to_send.map(|row| row.noted_as.clone()).collect();
                notes::find(self.mapping, keys)?.into_iter().collect()
            }
        };
        let statement = match self.plan.action.message {
            Message::Event(_) => QUEUE_EVENT,
            Message::Profile(_) => QUEUE_PROFILE,
        };
        let mut refused = 0;
        let mut sent = Vec::new();
        for row in read {
            let Some(message) = row.message.filter(|_| !noted.contains(&row.noted_as)) else { continue };
            let given = [arg(message), arg(self.account.as_str()), arg(self.again)];
            sent.push(Some(row.noted_as));
            match value::<i64>(statement, &given)? {
                Some(seq) => done.seqs.push(seq),
                None => refused += 1,
            }
        }
        self.note(sent)?;
        Ok(refused)
    }

    /// Notes rows that have been dealt with, where its condition may not tell any more which these were when the rest is sent.
    fn note(&self, keys: Vec<Option<String>>) -> Result<(), spi::Error> {
        if self.condition.is_some() && !self.again { notes::add(self.mapping, keys) } else { Ok(()) }
    }

    /// Writes down how far it has come.
    fn advance(
        &self,
        last: Option<Vec<String>>,
        total: Option<i64>,
        done: &Done,
        refused: i64,
        state: &str,
    ) -> Result<(), spi::Error> {
        let error = (state == "paused").then(|| {
            format!("{REFUSED} rows have become dead letters since it began or was resumed: see klaviyo.dead_letter")
        });
        let (rows, queued) = (done.rows as i64, done.seqs.len() as i64);
        let given = [
            arg(self.id),
            arg(last),
            arg(total),
            arg(rows),
            arg(queued),
            arg(refused),
            arg(error),
            arg(state),
        ];
        run(ADVANCE, &given).map(drop)
    }
}
