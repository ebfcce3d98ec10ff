//! Purging our tables of people whose deletion Klaviyo has accepted. It reads all history, so the runner does it, not the
//! worker. Each function is a transaction of its caller's, and each piece a short one: others wait for none.

use std::collections::HashMap;

use pgrx::{Uuid, spi};

use super::{drop_requests, named};
use crate::pg::spi::{arg, column, json_column, micros_column, rows, run, value};

/// People that one pass over the history looks for.
const MOST: i64 = 1_000;

/// Dead letters, answers and noted keys that are read in one go, and blocks of the history.
const DEAD_LETTERS: i64 = 1_000;
const ANSWERS: i64 = 100;
const KEYS: i64 = 20_000;
const BLOCKS: i64 = 10_000;

/// Accepted before whatever still runs had written anything: a transaction that does not know of the request may write more of
/// the person until it ends. A number that nobody has had yet is another cluster's.
macro_rules! is_over {
    () => {
        "(a.xid < pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())
          OR a.xid >= pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()))"
    };
}

const DUE: &str = concat!(
    "SELECT EXISTS (SELECT FROM klaviyo.accepted_deletion AS a WHERE ",
    is_over!(),
    ") OR EXISTS (SELECT FROM klaviyo.deletion AS d WHERE d.accepted_at IS NOT NULL AND d.purged_at IS NULL)"
);

/// Rows that somebody has in an open transaction are left for another time, here and in the next.
const NOTE_ACCEPTED: &str = concat!(
    "WITH ready AS (
        SELECT a.message_id, a.accepted_at
        FROM klaviyo.accepted_deletion AS a
        JOIN klaviyo.deletion AS d USING (message_id)
        WHERE ",
    is_over!(),
    "
        ORDER BY a.message_id
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ), noted AS (
        UPDATE klaviyo.deletion AS d
        SET accepted_at = coalesce(d.accepted_at, r.accepted_at)
        FROM ready AS r
        WHERE d.message_id = r.message_id
    )
    DELETE FROM klaviyo.accepted_deletion AS a
    WHERE a.message_id IN (SELECT r.message_id FROM ready AS r)"
);

/// Where the request is not on record: it came from another database, or its record has been deleted.
const FORGET_ACCEPTED: &str = "
    DELETE FROM klaviyo.accepted_deletion AS a
    WHERE NOT EXISTS (SELECT FROM klaviyo.deletion AS d WHERE d.message_id = a.message_id)";

const NEXT: &str = "
    SELECT d.message_id, d.account, coalesce(d.identifier, ''), coalesce(d.readmitted_seq, (SELECT s.last_value + 1 FROM klaviyo.outbox_seq_seq AS s)),
           coalesce(d.readmitted_at, pg_catalog.now())
    FROM klaviyo.deletion AS d
    WHERE d.accepted_at IS NOT NULL AND d.purged_at IS NULL
    ORDER BY d.accepted_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED";

/// With what was refused when it was queued, for of that nobody knows whose it is, and with calls, which may name others
/// besides; whether their account exists.
const READ_DEAD_LETTERS: &str = "
    SELECT l.message_id, l.account, l.key, CASE WHEN l.key = '{}' OR l.kind = 'call' THEN l.payload ELSE '{}' END, l.seq, l.died_at,
           l.kind = 'call', EXISTS (SELECT FROM klaviyo.account AS a WHERE a.name = l.account)
    FROM klaviyo.dead_letter AS l
    WHERE l.message_id > $1
    ORDER BY l.message_id
    LIMIT $2";

const DELETE_DEAD_LETTERS: &str = concat!(
    "WITH gone AS (
        DELETE FROM klaviyo.dead_letter AS l WHERE l.message_id = ANY ($1)
        RETURNING l.message_id
    ), ",
    drop_requests!(),
    "
    SELECT FROM gone"
);

const READ_ANSWERS: &str = "
    SELECT a.message_id, a.account, a.seq, a.body
    FROM klaviyo.answer AS a
    WHERE a.message_id > $1 AND a.body IS NOT NULL
    ORDER BY a.message_id
    LIMIT $2";

const EMPTY_ANSWERS: &str = "
    UPDATE klaviyo.answer AS a SET body = NULL WHERE a.message_id = ANY ($1)";

const READ_KEYS: &str = "
    SELECT k.mapping, k.key, m.account
    FROM klaviyo.captured_key AS k
    JOIN klaviyo.mapping AS m ON m.id = k.mapping
    WHERE (k.mapping, k.key) > ($1, $2)
    ORDER BY k.mapping, k.key
    LIMIT $3";

const DELETE_KEYS: &str = "
    DELETE FROM klaviyo.captured_key AS k
    USING unnest($1::integer[], $2::text[]) AS g (mapping, key)
    WHERE k.mapping = g.mapping AND k.key = g.key";

/// With the number of their blocks.
const PARTITIONS: &str = "
    SELECT i.inhrelid::pg_catalog.regclass::text,
           pg_catalog.pg_relation_size(i.inhrelid) / pg_catalog.current_setting('block_size')::bigint
    FROM pg_catalog.pg_inherits AS i
    WHERE i.inhparent = 'klaviyo.delivery'::pg_catalog.regclass
    ORDER BY 1";

const DELIVERIES: &str = "SELECT klaviyo.purge_deliveries($1::pg_catalog.regclass, $2, $3, $4, $5, $6)";

const DONE: &str = "
    UPDATE klaviyo.deletion AS d
    SET identifier = NULL, purged_at = pg_catalog.now()
    WHERE d.message_id = ANY ($1)";

/// What of a person is purged: what was queued before the person was readmitted, or before now.
#[derive(Clone, Copy)]
struct Before {
    seq: i64,
    /// In µs since 1970.
    time: i64,
}

/// Whether there is anybody.
pub fn is_due() -> Result<bool, spi::Error> {
    Ok(value::<bool>(DUE, &[])?.unwrap_or_default())
}

/// Purges some of a table, after that row: of rows of an account that name people, by their identifiers, and are of that time, in µs
/// since 1970, says it which go. Returns after which row to go on, if there are more.
pub type Purge<At> = fn(At, &dyn Fn(&str, &[String], i64) -> bool) -> Result<Option<At>, spi::Error>;

/// Tables that are others'.
pub struct Others {
    /// What webhooks have told.
    pub webhook_events: Purge<i64>,
    /// What was read of Klaviyo, each after the row of an account that has that id.
    pub profiles: Purge<(String, String)>,
    pub events: Purge<(String, String)>,
}

/// One pass over our tables, for some people: a piece after the other.
pub struct Pass {
    requests: Vec<Uuid>,
    /// By identifier, and by account.
    people: HashMap<String, HashMap<String, Before>>,
    at: Place,
}

/// Where a pass has come to.
#[derive(Clone)]
enum Place {
    /// After that one.
    DeadLetters(Uuid),
    Answers(Uuid),
    WebhookEvents(i64),
    Profiles((String, String)),
    Events((String, String)),
    Keys(i32, String),
    /// These partitions, from that block of the last of them.
    Deliveries(Vec<(String, i64)>, i64),
    Done,
}

impl Pass {
    /// Takes up what Klaviyo has accepted, and begins a pass for those who are next. None if there is nobody, or others are
    /// in the way.
    pub fn begin() -> Result<Option<Self>, spi::Error> {
        run(NOTE_ACCEPTED, &[arg(MOST)])?;
        run(FORGET_ACCEPTED, &[])?;
        let (mut requests, mut people) = (Vec::new(), HashMap::<String, HashMap<String, Before>>::new());
        rows(NEXT, &[arg(MOST)], |row| {
            requests.push(column(row, 1));
            let (seq, time) = (column(row, 4), micros_column(row, 5));
            let accounts = people.entry(column(row, 3)).or_default();
            let before = accounts.entry(column(row, 2)).or_insert(Before { seq, time });
            // Of several requests the one that reaches further.
            *before = Before { seq: seq.max(before.seq), time: time.max(before.time) };
        })?;
        let at = Place::DeadLetters(Uuid::from_bytes([0; 16]));
        Ok((!requests.is_empty()).then_some(Self { requests, people, at }))
    }

    pub fn is_done(&self) -> bool {
        matches!(self.at, Place::Done)
    }

    /// Does the next piece, in the transaction the caller has begun. Returns where it has come to by that.
    pub fn piece(&self, others: &Others) -> Result<Reached, spi::Error> {
        let next = match &self.at {
            Place::DeadLetters(after) => self.dead_letters(*after)?,
            Place::Answers(after) => self.answers(*after)?,
            Place::WebhookEvents(after) => {
                let next = self.others(*after, others.webhook_events)?;
                next.map_or_else(|| Place::Profiles(Default::default()), Place::WebhookEvents)
            }
            Place::Profiles(after) => {
                let next = self.others(after.clone(), others.profiles)?;
                next.map_or_else(|| Place::Events(Default::default()), Place::Profiles)
            }
            Place::Events(after) => {
                let next = self.others(after.clone(), others.events)?;
                next.map_or_else(|| Place::Keys(0, String::new()), Place::Events)
            }
            Place::Keys(mapping, key) => self.keys(*mapping, key)?,
            Place::Deliveries(partitions, block) => self.deliveries(partitions, *block)?,
            Place::Done => Place::Done,
        };
        Ok(Reached(next))
    }

    /// Goes on from there: the piece is committed.
    pub fn go_on(&mut self, from: Reached) {
        self.at = from.0;
    }

    fn dead_letters(&self, after: Uuid) -> Result<Place, spi::Error> {
        let (mut last, mut theirs) = (after, Vec::new());
        let read = rows(READ_DEAD_LETTERS, &[arg(after), arg(DEAD_LETTERS)], |row| {
            last = column(row, 1);
            let (account, mut key): (String, Vec<String>) = (column(row, 2), column(row, 3));
            let (seq, died_at) = (row.get::<i64>(5).ok().flatten(), micros_column(row, 6));
            let (is_call, has_account) = (column(row, 7), column(row, 8));
            let payload = json_column(row, 4);
            key.extend(if is_call { named::people_within(&payload) } else { named::people(&payload) });
            let is_theirs = |before: &Before| seq.map_or(died_at < before.time, |seq| seq < before.seq);
            if self.of(&key, Some(account.as_str()).filter(|_| has_account)).any(is_theirs) {
                theirs.push(last);
            }
        })?;
        if !theirs.is_empty() {
            run(DELETE_DEAD_LETTERS, &[arg(theirs)])?;
        }
        Ok(match is_cut(read, DEAD_LETTERS) {
            true => Place::DeadLetters(last),
            false => Place::Answers(Uuid::from_bytes([0; 16])),
        })
    }

    /// Of a call that names somebody, or whose answer does, what it was and when stays, and not the answer.
    fn answers(&self, after: Uuid) -> Result<Place, spi::Error> {
        let (mut last, mut theirs) = (after, Vec::new());
        let read = rows(READ_ANSWERS, &[arg(after), arg(ANSWERS)], |row| {
            last = column(row, 1);
            let (account, seq): (String, i64) = (column(row, 2), column(row, 3));
            let people = named::people_within(&json_column(row, 4));
            if self.of(&people, Some(&account)).any(|before| seq < before.seq) {
                theirs.push(last);
            }
        })?;
        if !theirs.is_empty() {
            run(EMPTY_ANSWERS, &[arg(theirs)])?;
        }
        Ok(if is_cut(read, ANSWERS) { Place::Answers(last) } else { Place::WebhookEvents(0) })
    }

    /// What Klaviyo has told of them, or was asked.
    fn others<At>(&self, after: At, purge: Purge<At>) -> Result<Option<At>, spi::Error> {
        purge(after, &|account, people, at| self.of(people, Some(account)).any(|before| at < before.time))
    }

    /// Where a table's key is an address or a number. Of somebody who was readmitted nobody knows which rows these are.
    fn keys(&self, mapping: i32, key: &str) -> Result<Place, spi::Error> {
        let (mut last, mut theirs) = ((mapping, key.to_owned()), (Vec::new(), Vec::new()));
        let read = rows(READ_KEYS, &[arg(mapping), arg(key), arg(KEYS)], |row| {
            last = (column(row, 1), column(row, 2));
            let account: String = column(row, 3);
            if self.of(&named::people(&last.1), Some(&account)).next().is_some() {
                theirs.0.push(last.0);
                theirs.1.push(last.1.clone());
            }
        })?;
        if !theirs.0.is_empty() {
            run(DELETE_KEYS, &[arg(theirs.0), arg(theirs.1)])?;
        }
        if is_cut(read, KEYS) {
            return Ok(Place::Keys(last.0, last.1));
        }
        let mut partitions = Vec::new();
        rows(PARTITIONS, &[], |row| partitions.push((column(row, 1), column(row, 2))))?;
        Ok(Place::Deliveries(partitions, 0))
    }

    /// What was delivered stays, and when, but not to whom.
    fn deliveries(&self, partitions: &[(String, i64)], block: i64) -> Result<Place, spi::Error> {
        let Some(((partition, blocks), others)) = partitions.split_last() else {
            run(DONE, &[arg(self.requests.clone())])?;
            return Ok(Place::Done);
        };
        let (mut accounts, mut identifiers, mut before) = (Vec::new(), Vec::new(), Vec::new());
        for (identifier, of) in &self.people {
            for (account, Before { seq, .. }) in of {
                identifiers.push(identifier.as_str());
                accounts.push(account.as_str());
                before.push(*seq);
            }
        }
        let end = block + BLOCKS;
        let args =
            [arg(partition.as_str()), arg(block), arg(end), arg(accounts), arg(identifiers), arg(before)];
        run(DELIVERIES, &args)?;
        Ok(match end < *blocks {
            true => Place::Deliveries(partitions.to_vec(), end),
            false => Place::Deliveries(others.to_vec(), 0),
        })
    }

    /// Those of the people whom a key names; in whatever account, for what is of one that does not exist.
    fn of<'a>(&'a self, key: &'a [String], account: Option<&'a str>) -> impl Iterator<Item = &'a Before> {
        let known = key.iter().filter_map(|identifier| self.people.get(identifier)).flatten();
        known
            .filter(move |(of, _)| account.is_none_or(|account| account == of.as_str()))
            .map(|(_, before)| before)
    }
}

/// Where a pass has come to by a piece, once that is committed.
pub struct Reached(Place);

fn is_cut(read: usize, limit: i64) -> bool {
    i64::try_from(read) == Ok(limit)
}
