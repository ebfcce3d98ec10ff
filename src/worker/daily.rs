//! Calls of endpoints of which Klaviyo allows so many a day, which is longer than a worker lives: written down, so that the
//! next one knows of them.

use delivery::klaviyo::call_named;
use pgrx::spi;

use crate::pg::spi::{arg, column, rows, run};

/// What is older counts no more.
const NOTE: &str = "
    WITH old AS (
        DELETE FROM klaviyo.daily_call AS c WHERE c.called_at < pg_catalog.now() - interval '1 day'
    )
    INSERT INTO klaviyo.daily_call (account, lane, called_at)
    VALUES ($1, $2, pg_catalog.clock_timestamp())";

const PAST: &str = "
    SELECT c.account, c.lane, extract(epoch FROM pg_catalog.now() - c.called_at)::float8
    FROM klaviyo.daily_call AS c
    WHERE c.called_at > pg_catalog.now() - interval '1 day'";

/// Writes down that a call of that lane has ended, if such are counted by the day.
pub fn note(account: &str, lane: &str) -> Result<(), spi::Error> {
    let counts = call_named(lane).is_some_and(|endpoint| endpoint.limits.daily.is_some());
    if counts { run(NOTE, &[arg(account), arg(lane)]).map(drop) } else { Ok(()) }
}

/// Calls `each` for every one of the last day, with its account, its lane and how many seconds ago it ended.
pub fn past(mut each: impl FnMut(&str, &'static str, f64)) -> Result<(), spi::Error> {
    rows(PAST, &[], |row| {
        let (account, lane): (String, String) = (column(row, 1), column(row, 2));
        if let Some(endpoint) = call_named(&lane) {
            each(&account, endpoint.name, column(row, 3));
        }
    })
    .map(drop)
}
