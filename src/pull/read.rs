//! Pages that jobs wait for: `klaviyo.read` is written by the runner, `klaviyo.read_answer` by the worker, which only ever
//! inserts, and so waits for nobody.

use delivery::{Read, ReadAnswer};
use pgrx::spi;

use crate::pg::spi::{arg, column, rows, run};

const OPEN: &str = "
    SELECT r.read_id, r.account, r.path, r.body
    FROM klaviyo.read AS r
    WHERE r.read_id <> ALL ($1) AND NOT EXISTS (SELECT FROM klaviyo.read_answer AS a WHERE a.read_id = r.read_id)
    ORDER BY r.read_id";

const RECORD: &str = "
    INSERT INTO klaviyo.read_answer (read_id, body, code, reason, http_status, again, answered_at)
    VALUES ($1, $2, $3, $4, $5, $6, pg_catalog.clock_timestamp())
    ON CONFLICT ON CONSTRAINT read_answer_pkey DO NOTHING";

/// Those that are not answered, but for these, each with its account.
pub fn open(known: &[i64]) -> Result<Vec<(String, Read)>, spi::Error> {
    let mut open = Vec::new();
    rows(OPEN, &[arg(known.to_vec())], |row| {
        let body = row.get(4).ok().flatten();
        open.push((column(row, 2), Read { id: column(row, 1), path: column(row, 3), body }));
    })?;
    Ok(open)
}

/// Writes down an answer.
pub fn record(ReadAnswer { id, result }: &ReadAnswer) -> Result<(), spi::Error> {
    let failure = result.as_ref().err();
    let status = failure.and_then(|it| it.failure.status).map(i32::from);
    let args = [
        arg(*id),
        arg(result.as_deref().ok()),
        arg(failure.map(|it| it.failure.code.as_str())),
        arg(failure.map(|it| it.failure.reason.as_str())),
        arg(status),
        arg(failure.is_some_and(|it| it.again)),
    ];
    run(RECORD, &args).map(drop)
}
