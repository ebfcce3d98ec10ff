//! Writing messages, inside the transaction of whoever calls.

use std::ffi::CStr;

use delivery::kind::Checked;
use delivery::message_id;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::{IntoDatum, Uuid, pg_sys, spi};

use super::{is_to_be_deleted, named};
use crate::pg;
use crate::pg::spi::{arg, json_arg, run, value};
use crate::pg::table::{Table, as_owner, next_number};
use crate::pg::transaction::{AtCommit, assign_id, at_commit};
use crate::settings;

const SCHEMA: &CStr = c"klaviyo";

const INSERT_DEAD: &str = "
    INSERT INTO klaviyo.dead_letter
        (message_id, seq, account, kind, key, payload, code, reason, attempts, enqueued_at, died_at)
    VALUES ($1, NULL, $2, $3, '{}', $4, $5, $6, 0, $7, $7)";

const STRAGGLES: &str = concat!("SELECT ", is_to_be_deleted!("$1"));

/// `outbox.kind` of a request for deletion.
const DELETION: &str = "deletion";

/// The columns of `klaviyo.outbox`.
const COLUMNS: [(&CStr, pg_sys::Oid); 7] = [
    (c"seq", pg_sys::INT8OID),
    (c"message_id", pg_sys::UUIDOID),
    (c"account", pg_sys::TEXTOID),
    (c"kind", pg_sys::TEXTOID),
    (c"key", pg_sys::TEXTARRAYOID),
    (c"payload", pg_sys::JSONOID),
    (c"enqueued_at", pg_sys::TIMESTAMPTZOID),
];

/// What a message is known by, and the table that it goes to.
pub struct Name {
    pub seq: i64,
    pub message_id: uuid::Uuid,
    outbox: Option<Table>,
}

impl Name {
    /// That of the next message. Of an account that is removed before its row is written and added again it counts among
    /// what waited before.
    pub fn next() -> Self {
        // Locked before its sequence, as by whoever changes the table.
        let outbox = Table::open(SCHEMA, c"outbox", pg_sys::RowExclusiveLock);
        // The transaction has its id before the row has its number: see delivery::gaps.
        assign_id();
        let seq = next_number(SCHEMA, c"outbox_seq_seq")
            .unwrap_or_else(|| error!("klaviyo.outbox_seq_seq is missing"));
        Self { seq, message_id: message_id::new(seq), outbox }
    }

    /// That of a message which may have been sent before, by whatever: its id is not its number's, so it never goes in a
    /// call of many in which Klaviyo would take a repeat amiss.
    pub fn of_repeat() -> Self {
        let next = Self::next();
        Self { message_id: message_id::new(next.seq - 1), ..next }
    }
}

/// What a row of the outbox is made of.
struct Row<'a> {
    name: &'a Name,
    account: &'a str,
    kind: &'a str,
    checked: &'a Checked,
    enqueued_at: TimestampWithTimeZone,
}

/// Writes a message to the outbox. `Ok(false)`: there is no such account, and nothing was written.
pub fn enqueue(
    name: &Name,
    account: &str,
    kind: &str,
    checked: &Checked,
    now: i64,
) -> Result<bool, spi::Error> {
    let row = Row { name, account, kind, checked, enqueued_at: pg::timestamp(now) };
    let outbox = name.outbox.as_ref();
    let written = match outbox.and_then(|outbox| row.put(outbox)) {
        Some(written) => written,
        None => as_owner(outbox, || row.insert())?,
    };
    if written && kind == DELETION {
        as_owner(outbox, || record_deletion(name, account, checked, now))?;
    }
    if written {
        at_commit(AtCommit { wake: true, ..AtCommit::default() });
    }
    Ok(written)
}

/// Writes down whose deletion is asked for, from which moment on nothing else about that person is of use.
fn record_deletion(name: &Name, account: &str, checked: &Checked, now: i64) -> Result<(), spi::Error> {
    const RECORD: &str = "
        INSERT INTO klaviyo.deletion (message_id, seq, account, digest, identifier, requested_at, requested_by)
        SELECT $1, $2, a.name, klaviyo.person_digest(a.person_salt, $4), $4, $5, session_user
        FROM klaviyo.account AS a
        WHERE a.name OPERATOR(pg_catalog.=) $3";
    let args = [
        arg(Uuid::from_bytes(*name.message_id.as_bytes())),
        arg(name.seq),
        arg(account),
        arg(checked.key[0].as_str()),
        arg(pg::timestamp(now)),
    ];
    if run(RECORD, &args)? != 1 {
        // The account is there, but not in the snapshot of this transaction.
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            format!("account \"{account}\" was added after this transaction began"),
            "A request for deletion is recorded with what the account is in the transaction's snapshot. Try again in a new transaction."
        );
    }
    Ok(())
}

impl Row<'_> {
    /// Writes it past the executor, which costs more than all the rest. None where somebody has made more of the tables
    /// than they were, so that only a statement does them justice.
    fn put(&self, outbox: &Table) -> Option<bool> {
        if !outbox.is_plain(&COLUMNS) {
            return None;
        }
        if !has_account(self.account) {
            return Some(false);
        }
        let values = [
            self.name.seq.into_datum(),
            Uuid::from_bytes(*self.name.message_id.as_bytes()).into_datum(),
            self.account.into_datum(),
            self.kind.into_datum(),
            self.checked.key.clone().into_datum(),
            // json is laid out as text is.
            self.checked.payload.as_str().into_datum(),
            self.enqueued_at.into_datum(),
        ];
        let [Some(seq), Some(id), Some(account), Some(kind), Some(key), Some(payload), Some(enqueued_at)] =
            values
        else {
            return None;
        };
        // SAFETY: it is plain, and these are the values of its columns.
        unsafe { outbox.insert(&mut [seq, id, account, kind, key, payload, enqueued_at]) };
        Some(true)
    }

    /// Writes it by a statement, which finds out as well whether there is such an account.
    fn insert(&self) -> Result<bool, spi::Error> {
        const INSERT: &str = "
            INSERT INTO klaviyo.outbox (seq, message_id, account, kind, key, payload, enqueued_at)
            OVERRIDING SYSTEM VALUE
            SELECT $7, $1, a.name, $3, $4, $5, $6
            FROM klaviyo.account AS a
            WHERE a.name OPERATOR(pg_catalog.=) $2";
        let args = [
            arg(Uuid::from_bytes(*self.name.message_id.as_bytes())),
            arg(self.account),
            arg(self.kind),
            arg(self.checked.key.clone()),
            json_arg(&self.checked.payload),
            arg(self.enqueued_at),
            arg(self.name.seq),
        ];
        Ok(run(INSERT, &args)? > 0)
    }
}

/// Whether there is such an account, as whoever asks sees it.
pub fn has_account(account: &str) -> bool {
    let accounts = Table::open(SCHEMA, c"account", pg_sys::AccessShareLock);
    accounts.and_then(|accounts| accounts.has(account)).unwrap_or_default()
}

/// Writes a message that was refused straight to the dead letters, with what was given; of somebody whose data was to be
/// deleted nothing is kept.
pub fn bury(
    message_id: uuid::Uuid,
    account: &str,
    kind: &str,
    payload: &str,
    code: &str,
    reason: &str,
    now: i64,
) -> Result<(), spi::Error> {
    let dead_letters = Table::open(SCHEMA, c"dead_letter", pg_sys::RowExclusiveLock);
    as_owner(dead_letters.as_ref(), || {
        let payload = if straggles(account, payload)? { "{}" } else { payload };
        let args = [
            arg(Uuid::from_bytes(*message_id.as_bytes())),
            arg(account),
            arg(kind),
            json_arg(payload),
            arg(code),
            arg(reason),
            arg(pg::timestamp(now)),
        ];
        run(INSERT_DEAD, &args).map(drop)
    })
}

fn straggles(account: &str, payload: &str) -> Result<bool, spi::Error> {
    let people = named::people(payload);
    // Before ALTER EXTENSION UPDATE there is no such table.
    if people.is_empty() || Table::open(SCHEMA, c"deletion", pg_sys::AccessShareLock).is_none() {
        return Ok(false);
    }
    Ok(value::<bool>(STRAGGLES, &[arg(account), arg(people), arg(settings::straggler_minutes())])?
        .unwrap_or_default())
}
