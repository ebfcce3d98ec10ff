//! Putting aside what waits for an account that was removed. The worker does it, for it alone takes rows out of
//! `outbox` and `retry`: then nobody's open transaction holds it up.

use pgrx::spi;

use crate::pg;
use crate::pg::scoped::without_triggers;
use crate::pg::spi::{arg, column, rows, run, value};

/// Rows looked at in one go.
const CHUNK: i64 = 1_000;

const REMOVED: &str =
    "SELECT r.account, r.before_seq FROM klaviyo.removed_account AS r ORDER BY r.before_seq";

const LAST: &str = "SELECT s.last_value FROM klaviyo.outbox_seq_seq AS s";

/// The last of the next rows of the outbox, whosever they are.
const NEXT: &str = "
    SELECT max(o.seq)
    FROM (
        SELECT o.seq FROM klaviyo.outbox AS o WHERE o.seq > $1 AND o.seq <= $2 ORDER BY o.seq LIMIT $3
    ) AS o";

const BURY: &str = "SELECT klaviyo.bury($1, $2, $3, $4)";

/// With the last message goes what was known of the account, if there is none of that name now.
const FORGET: &str = "
    WITH gone AS (
        SELECT WHERE NOT EXISTS (SELECT FROM klaviyo.account AS a WHERE a.name = $1)
    ), status AS (
        DELETE FROM klaviyo.account_status AS s USING gone WHERE s.account = $1
    ), jobs AS (
        UPDATE klaviyo.bulk_job AS j
        SET status = 'lost', seqs = NULL, positions = NULL, ended_at = pg_catalog.clock_timestamp()
        WHERE j.account = $1 AND j.ended_at IS NULL AND j.seqs[1] < $2
    ), campaigns AS (
        DELETE FROM klaviyo.campaign AS c USING gone WHERE c.account = $1
    ), checks AS (
        DELETE FROM klaviyo.account_check AS c USING gone WHERE c.account = $1
    )
    DELETE FROM klaviyo.removed_account AS r WHERE r.account = $1 AND r.before_seq = $2";

/// An account that was removed: what was queued for it has a number lower than `before`. Another of the same name may
/// have been added since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub account: String,
    pub before: i64,
}

struct Pending {
    removal: Removal,
    /// The first transaction id that nobody had when the removal was seen. Who could still commit a message for the
    /// account has a lower one: it takes its id before it looks for the account.
    horizon: u64,
    /// The part of the outbox still to be looked through, once those have ended.
    pass: Option<(i64, i64)>,
}

/// What a step has come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Transactions that may still commit messages have not ended.
    Waiting,
    More,
    /// Nothing waits any more for the account that was removed.
    Done(Removal),
}

/// The removals that are not done yet.
#[derive(Default)]
pub struct Remover {
    pending: Vec<Pending>,
}

impl Remover {
    /// Looks for removals, and says which are new.
    pub fn look(&mut self) -> Result<Vec<Removal>, spi::Error> {
        let mut new = Vec::new();
        rows(REMOVED, &[], |row| {
            let removal = Removal { account: column(row, 1), before: column(row, 2) };
            if self.pending.iter().all(|pending| pending.removal != removal) {
                new.push(removal);
            }
        })?;
        let horizon = pg::transaction::next_id();
        let pending = new.iter().map(|removal| Pending { removal: removal.clone(), horizon, pass: None });
        self.pending.extend(pending);
        Ok(new)
    }

    /// Whether there are any.
    pub fn is_busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Puts aside some of what waits, in the transaction the caller has begun.
    pub fn step(&mut self) -> Result<Step, spi::Error> {
        let xmin = super::oldest_running()?;
        let Some(at) = self.pending.iter().position(|pending| pending.horizon <= xmin) else {
            return Ok(Step::Waiting);
        };
        let Pending { removal: Removal { account, before }, pass, .. } = &mut self.pending[at];
        let (after, until) = match *pass {
            Some(pass) => pass,
            None => (0, value::<i64>(LAST, &[])?.unwrap_or_default()),
        };
        let next: Option<i64> = value(NEXT, &[arg(after), arg(until), arg(CHUNK)])?;
        let last = next.unwrap_or(until);
        value::<i64>(BURY, &[arg(account.as_str()), arg(*before), arg(after), arg(last)])?;
        if next.is_some() {
            *pass = Some((last, until));
            return Ok(Step::More);
        }
        without_triggers(|| run(FORGET, &[arg(account.as_str()), arg(*before)]))?;
        Ok(Step::Done(self.pending.remove(at).removal))
    }
}
