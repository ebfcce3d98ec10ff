//! Calls of the last minute that messages had asked for themselves: which lane each was in, its kind does not say.

use delivery::kind::{self, Kind};
use delivery::klaviyo::call_named;
use pgrx::spi;

use crate::pg::spi::{arg, column, json_column, rows};

const ANSWERED: &str = "
    SELECT a.account, a.lane, extract(epoch FROM pg_catalog.now() - a.answered_at)::float8, d.attempts
    FROM klaviyo.answer AS a
    JOIN klaviyo.delivery AS d ON d.message_id = a.message_id AND d.settled_at = a.answered_at
    WHERE a.answered_at > pg_catalog.now() - interval '1 minute'";

/// Of what is tried again it is known when the call was sent; it may have ended as late as its timeout. With how long it is
/// to wait, where Klaviyo has said so.
const NOT_ACCEPTED: &str = "
    SELECT r.account, r.payload,
           extract(epoch FROM greatest(pg_catalog.now() - r.last_attempt_at - $1 * interval '1 second', interval '0'))::float8,
           CASE
               WHEN r.last_status = 429 AND r.redriven_at IS NULL THEN
                   extract(epoch FROM r.not_before - pg_catalog.now())::float8
           END,
           r.attempts
    FROM klaviyo.retry AS r
    WHERE r.kind = $2
      AND (r.last_attempt_at > pg_catalog.now() - interval '1 minute' - $1 * interval '1 second'
           OR r.last_status = 429 AND r.not_before > pg_catalog.now())
    UNION ALL
    SELECT l.account, l.payload, extract(epoch FROM pg_catalog.now() - l.died_at)::float8, NULL, l.attempts
    FROM klaviyo.dead_letter AS l
    WHERE l.kind = $2 AND l.attempts > 0 AND l.died_at > pg_catalog.now() - interval '1 minute'";

/// Those of one message.
pub struct DirectCalls {
    pub lane: &'static str,
    pub count: u64,
    /// How many seconds ago the last ended, at least.
    pub age: f64,
    /// For how many seconds its lane is to wait.
    pub hold: Option<f64>,
}

/// Calls `each` for every one of them, with its account, where a call takes so many seconds at the most.
pub fn past(timeout: f64, mut each: impl FnMut(&str, DirectCalls)) -> Result<(), spi::Error> {
    rows(ANSWERED, &[], |row| {
        let (account, lane): (String, String) = (column(row, 1), column(row, 2));
        if let Some(endpoint) = call_named(&lane) {
            let count = column::<i32>(row, 4).unsigned_abs().into();
            each(&account, DirectCalls { lane: endpoint.name, count, age: column(row, 3), hold: None });
        }
    })?;
    rows(NOT_ACCEPTED, &[arg(timeout), arg(kind::call::Call.name())], |row| {
        if let Some(endpoint) = kind::call::Call.endpoint_of(&json_column(row, 2)) {
            let hold = row.get::<f64>(4).ok().flatten().filter(|hold| *hold > 0.0);
            let (account, count): (String, i32) = (column(row, 1), column(row, 5));
            let count = count.unsigned_abs().into();
            each(&account, DirectCalls { lane: endpoint.name, count, age: column(row, 3), hold });
        }
    })
    .map(drop)
}
