//! Which messages cannot have been in a call yet, though nobody remembers: the mark is raised, durably, before messages
//! above it are handed over. So a worker that begins knows that those above it were never sent. What lies below may have
//! been, and goes by itself, where Klaviyo drops a repeat.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi;

use crate::pg;
use crate::pg::spi::{arg, column, rows, run};

/// Messages that may be handed over before the mark must be raised again: seldom enough to cost nothing, and no more than
/// single calls carry in a minute or two after a crash.
const AHEAD: i64 = 4_000;

const OPEN: &str = "SELECT m.seq, m.since FROM klaviyo.open_claim_mark() AS m";

const RAISE: &str = "UPDATE klaviyo.claim_mark SET seq = $1";

/// The mark, as a worker has found it and as it has raised it since.
#[derive(Debug, Default)]
pub struct Mark {
    /// Messages up to this number may have been in a call before this worker began.
    before: i64,
    raised_to: i64,
    /// Microseconds since 1970. What was queued earlier came out of a dump.
    since: i64,
}

impl Mark {
    /// Reads it, or what is left of it if this is another timeline now, in the transaction the caller has begun.
    pub fn open() -> Result<Self, spi::Error> {
        let mut mark = Self::default();
        rows(OPEN, &[], |row| {
            let (seq, since): (i64, TimestampWithTimeZone) = (column(row, 1), column(row, 2));
            mark = Self { before: seq, raised_to: seq, since: pg::micros(i64::from(since)) };
        })?;
        Ok(mark)
    }

    /// Whether a message, queued at `enqueued_at` (µs since 1970), cannot have been in a call of an earlier worker.
    pub fn is_above(&self, seq: i64, enqueued_at: i64) -> bool {
        seq > self.before && enqueued_at >= self.since
    }

    /// Whether a message may be handed over: a crash after that will be known to have been possible.
    pub fn covers(&self, seq: i64) -> bool {
        seq <= self.raised_to
    }

    /// Raises it above that number, in the transaction the caller has begun. Once that has committed: [`Mark::raised`].
    pub fn raise(seq: i64) -> Result<i64, spi::Error> {
        let to = seq + AHEAD;
        run(RAISE, &[arg(to)])?;
        Ok(to)
    }

    pub fn raised(&mut self, to: i64) {
        self.raised_to = to;
    }
}
