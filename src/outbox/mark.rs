//! Which messages cannot have been in a call yet, though nobody remembers: an account's mark is raised, durably, before
//! messages of it above that are handed over. So a worker that begins knows that those above it were never sent. What lies
//! below may have been, and goes by itself, where Klaviyo drops a repeat.

use std::collections::HashMap;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi;

use crate::pg;
use crate::pg::spi::{arg, column, rows, run};

/// Messages that may be handed over before the mark must be raised again: seldom enough to cost nothing, and no more than
/// single calls carry in a minute or two after a crash.
const AHEAD: i64 = 4_000;

const OPEN: &str = "SELECT f.seq, f.since FROM klaviyo.open_claim_floor() AS f";

const FORGET: &str = "
    DELETE FROM klaviyo.claim_mark AS m
    WHERE NOT EXISTS (SELECT FROM klaviyo.account AS a WHERE a.name = m.account)";

/// What has no number yet was in no call, however far ahead the mark is.
const MARKS: &str = "
    SELECT m.account, least(m.seq, coalesce(pg_catalog.pg_sequence_last_value('klaviyo.outbox_seq_seq'), 0))
    FROM klaviyo.claim_mark AS m";

const RAISE: &str = "
    INSERT INTO klaviyo.claim_mark (account, seq)
    SELECT r.account, r.seq FROM unnest($1::text[], $2::bigint[]) AS r (account, seq)
    ON CONFLICT (account) DO UPDATE SET seq = excluded.seq";

/// The marks, as a worker has found them and as it has raised them since.
#[derive(Debug, Default)]
pub struct Marks {
    /// Messages up to this number may have been in a call before this worker began, whatever their account.
    floor: i64,
    /// Microseconds since 1970. What was queued earlier came out of a dump.
    since: i64,
    accounts: HashMap<String, Mark>,
}

#[derive(Debug, Default)]
struct Mark {
    /// Likewise, messages of the account.
    before: i64,
    raised_to: i64,
}

impl Marks {
    /// Reads them, or what is left of them if this is another timeline now, in the transaction the caller has begun.
    pub fn open() -> Result<Self, spi::Error> {
        let mut marks = Self::default();
        rows(OPEN, &[], |row| {
            let since: TimestampWithTimeZone = column(row, 2);
            (marks.floor, marks.since) = (column(row, 1), pg::micros(i64::from(since)));
        })?;
        run(FORGET, &[])?;
        rows(MARKS, &[], |row| {
            let seq = column(row, 2);
            marks.accounts.insert(column(row, 1), Mark { before: seq, raised_to: seq });
        })?;
        Ok(marks)
    }

    /// Whether a message, queued at `enqueued_at` (µs since 1970), cannot have been in a call of an earlier worker.
    pub fn are_below(&self, account: &str, seq: i64, enqueued_at: i64) -> bool {
        let before = self.accounts.get(account).map_or(0, |mark| mark.before);
        seq > self.floor.max(before) && enqueued_at >= self.since
    }

    /// Whether a message was queued here: not before a dump was restored, nor on another timeline.
    pub fn are_here(&self, seq: i64, enqueued_at: i64) -> bool {
        seq > self.floor && enqueued_at >= self.since
    }

    /// Whether a message may be handed over: a crash after that will be known to have been possible.
    pub fn cover(&self, account: &str, seq: i64) -> bool {
        self.accounts.get(account).is_some_and(|mark| seq <= mark.raised_to)
    }

    /// Raises those of some accounts above numbers of theirs, in the transaction the caller has begun. Once that has
    /// committed: [`Marks::raised`].
    pub fn raise(above: &HashMap<String, i64>) -> Result<(), spi::Error> {
        let (accounts, seqs): (Vec<&str>, Vec<i64>) =
            above.iter().map(|(account, seq)| (account.as_str(), seq + AHEAD)).unzip();
        run(RAISE, &[arg(accounts), arg(seqs)]).map(drop)
    }

    pub fn raised(&mut self, above: HashMap<String, i64>) {
        for (account, seq) in above {
            self.accounts.entry(account).or_default().raised_to = seq + AHEAD;
        }
    }
}
