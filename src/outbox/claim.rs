//! Reading messages for delivery. Nothing is written: what is taken is held in the worker's memory, and a crash
//! makes it be read anew.

use std::collections::HashMap;
use std::time::Duration;

use delivery::gaps::Gaps;
use delivery::room::{CatchUp, Room};
use delivery::{Message, kind};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::spi::{self, SpiTupleTable};

use crate::pg;
use crate::pg::spi::{arg, column, json_column, rows};

/// Rows read in one go: enough to be cheap a row, few enough that answers are settled in between.
const CHUNK: usize = 1_000;

const NEW: &str = "
    SELECT o.seq, o.account, o.kind, o.key, o.payload
    FROM klaviyo.outbox AS o
    WHERE o.seq > $1
    ORDER BY o.seq
    LIMIT $2";

const LATE: &str = "
    SELECT o.seq, o.account, o.kind, o.key, o.payload
    FROM unnest($1::bigint[], $2::bigint[]) AS gap (first, last)
    JOIN klaviyo.outbox AS o ON o.seq BETWEEN gap.first AND gap.last
    ORDER BY o.seq";

const AGAIN: &str = "
    SELECT o.seq, o.account, o.kind, o.key, o.payload
    FROM klaviyo.outbox AS o
    WHERE o.seq BETWEEN $1 AND $2 AND o.account = $3
    ORDER BY o.seq
    LIMIT $4";

const RETRIES: &str = "
    SELECT r.seq, r.account, r.kind, r.key, r.payload, r.attempts, r.strikes, r.not_before, r.redriven_at IS NOT NULL,
           s.newer_seq IS NOT NULL
    FROM klaviyo.retry AS r
    LEFT JOIN klaviyo.superseded AS s ON s.message_id = r.message_id
    WHERE r.seq > $1 AND (r.redriven_at IS NOT NULL) = $2
    ORDER BY r.seq
    LIMIT $3";

const XMIN: &str = "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint";

/// What was found.
#[derive(Default)]
pub struct Claimed {
    /// To be delivered, by account.
    pub messages: HashMap<String, Vec<Message>>,
    /// Not to be delivered, and why: (seq, code, reason).
    pub undeliverable: Vec<(i64, &'static str, String)>,
    /// There may be more to be had at once.
    pub more: bool,
}

/// How far the outbox has been read, and what of it is in memory.
#[derive(Default)]
pub struct Claimer {
    gaps: Gaps,
    pub room: Room,
    /// Where reading of redriven messages stands; none when all have been read.
    redriven: Option<i64>,
}

impl Claimer {
    /// Messages that were being tried when the last worker ended. They come before anything of the outbox, whatever
    /// the room: it was enough for them before.
    pub fn recover(&mut self) -> Result<Claimed, spi::Error> {
        self.redriven = Some(0);
        let mut claimed = Claimed::default();
        self.retries(0, false, &mut claimed)?;
        Ok(claimed)
    }

    /// Somebody has redriven messages.
    pub fn look_for_redriven(&mut self) {
        self.redriven = Some(0);
    }

    /// One round of reading, in the transaction the caller has begun.
    pub fn claim(&mut self) -> Result<Claimed, spi::Error> {
        let mut claimed = Claimed::default();
        self.late(&mut claimed)?;
        if let Some(catch_up) = self.room.catch_up() {
            self.again(&catch_up, &mut claimed)?;
        }
        if self.room.wants_new() {
            self.new_ones(&mut claimed)?;
        }
        if let Some(after) = self.redriven {
            self.redriven = self.retries(after, true, &mut claimed)?;
        }
        Ok(claimed)
    }

    /// Looks into the gaps for what has committed since.
    fn late(&mut self, claimed: &mut Claimed) -> Result<(), spi::Error> {
        if self.gaps.is_empty() {
            return Ok(());
        }
        // In one snapshot with what follows: what had ended in it is seen in it.
        let xmin = Spi::get_one::<i64>(XMIN)?.unwrap_or_default();
        let (from, to): (Vec<i64>, Vec<i64>) = self.gaps.open().map(|gap| (gap.from, gap.to)).unzip();
        rows(LATE, &[arg(from), arg(to)], |row| {
            self.offer(row, claimed);
        })?;
        self.gaps.settle(xmin.unsigned_abs());
        Ok(())
    }

    fn again(&mut self, catch_up: &CatchUp, claimed: &mut Claimed) -> Result<(), spi::Error> {
        self.room.look(&catch_up.account);
        let args =
            [arg(catch_up.from), arg(self.gaps.cursor()), arg(catch_up.account.as_str()), arg(CHUNK as i64)];
        let mut last = None;
        let read = rows(AGAIN, &args, |row| last = Some(self.offer(row, claimed)))?;
        let next = last.filter(|_| read == CHUNK).map(|last| last + 1);
        self.room.looked(&catch_up.account, next);
        claimed.more = true;
        Ok(())
    }

    fn new_ones(&mut self, claimed: &mut Claimed) -> Result<(), spi::Error> {
        let mut seen = Vec::new();
        let args = [arg(self.gaps.cursor()), arg(CHUNK as i64)];
        rows(NEW, &args, |row| seen.push(self.offer(row, claimed)))?;
        claimed.more |= seen.len() == CHUNK;
        self.gaps.saw(seen, pg::transaction::next_id());
        Ok(())
    }

    /// Takes the row if there is room for it, and says its number.
    fn offer(&mut self, row: &SpiTupleTable, claimed: &mut Claimed) -> i64 {
        let seq: i64 = column(row, 1);
        if self.room.holds(seq) {
            return seq;
        }
        let (account, kind, key): (String, String, Vec<String>) =
            (column(row, 2), column(row, 3), column(row, 4));
        let Some(kind) = kind::find(&kind) else {
            self.undeliverable(seq, &account, &kind, claimed);
            return seq;
        };
        if self.room.admit(seq, &account, kind.name(), &key) {
            let message = Message {
                seq,
                kind,
                key,
                payload: json_column(row, 5),
                attempts: 0,
                strikes: 0,
                wait: Duration::ZERO,
                redriven: false,
            };
            self.take(account, message, claimed);
        }
        seq
    }

    fn undeliverable(&mut self, seq: i64, account: &str, kind: &str, claimed: &mut Claimed) {
        self.room.add(seq, account, "", 0);
        claimed.undeliverable.push((seq, "unknown_kind", format!("this version knows no kind \"{kind}\"")));
    }

    /// Messages tried before, with a number above `after`. Returns after which number to go on, if not all were read.
    ///
    /// Redriven ones can be any number, so they are taken as there is room; those of an account that cannot send are
    /// found when the next look begins anew.
    fn retries(
        &mut self,
        after: i64,
        redriven: bool,
        claimed: &mut Claimed,
    ) -> Result<Option<i64>, spi::Error> {
        let now = pg::now();
        let limit = if redriven { CHUNK as i64 } else { i64::MAX };
        let mut last = after;
        let mut full = false;
        let read = rows(RETRIES, &[arg(after), arg(redriven), arg(limit)], |row| {
            let seq: i64 = column(row, 1);
            let (account, kind): (String, String) = (column(row, 2), column(row, 3));
            full |= redriven && self.room.is_full(&account, &kind);
            if full {
                return;
            }
            last = seq;
            if self.room.holds(seq) || redriven && !self.room.is_open(&account) {
                return;
            }
            let Some(kind) = kind::find(&kind) else {
                return self.undeliverable(seq, &account, &kind, claimed);
            };
            if column::<bool>(row, 10) {
                self.room.add(seq, &account, kind.name(), 0);
                let reason = "a newer state of this profile has been accepted since".to_owned();
                claimed.undeliverable.push((seq, "superseded", reason));
                return;
            }
            let (attempts, strikes): (i32, i32) = (column(row, 6), column(row, 7));
            let not_before = pg::micros(i64::from(column::<TimestampWithTimeZone>(row, 8)));
            let message = Message {
                seq,
                kind,
                key: column(row, 4),
                payload: json_column(row, 5),
                attempts: attempts.unsigned_abs(),
                strikes: strikes.unsigned_abs(),
                wait: Duration::from_micros(u64::try_from(not_before - now).unwrap_or_default()),
                redriven,
            };
            self.take(account, message, claimed);
        })?;
        // Where there was no room, room is made before there is more to be had.
        let rest = full || read == CHUNK && redriven;
        claimed.more |= rest && !full;
        Ok(rest.then_some(last))
    }

    fn take(&mut self, account: String, message: Message, claimed: &mut Claimed) {
        self.room.add(message.seq, &account, message.kind.name(), message.payload.len());
        claimed.messages.entry(account).or_default().push(message);
    }
}
