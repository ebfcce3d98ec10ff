//! Which jobs are due.

use delivery::klaviyo::pull::PageQuery;
use pgrx::spi;

use crate::pg::spi::{arg, column, rows, run, value};

/// Those that are to begin, or to go on, and have asked for nothing.
macro_rules! due {
    () => {
        "FROM klaviyo.job_plan AS p
        LEFT JOIN klaviyo.job_run AS r USING (account, job)
        WHERE p.paused_at IS NULL
          AND CASE WHEN r.started_at IS NOT NULL THEN coalesce(r.again_at <= pg_catalog.clock_timestamp(), true)
                   ELSE coalesce(r.run_at, r.last_started_at + klaviyo.job_pause(p.job, p.every, r.pages), p.created_at)
                        <= pg_catalog.clock_timestamp() END
          AND NOT EXISTS (SELECT FROM klaviyo.read AS o WHERE o.account = p.account AND o.job = p.job)"
    };
}

const DUE: &str = concat!("SELECT p.account, p.job ", due!(), " ORDER BY p.account, p.job");

/// What somebody has waited for, and does no more.
macro_rules! waited_for {
    () => {
        "FROM klaviyo.job_run AS r
        WHERE r.job ~ '^(segment|profile):'
          AND (r.started_at IS NULL AND r.run_at IS NULL AND r.last_ended_at < pg_catalog.now() - interval '1 minute'
               OR r.job LIKE 'profile:%' AND coalesce(r.started_at, r.run_at) < pg_catalog.now() - interval '15 minutes')"
    };
}

/// Something is to be done: now, or soon, for what was asked a moment ago is answered soon, and what has failed is tried again.
const ANY: &str = concat!(
    "SELECT EXISTS (SELECT ",
    due!(),
    ") OR EXISTS (SELECT FROM klaviyo.read_answer)
     OR EXISTS (SELECT FROM klaviyo.read AS r WHERE r.asked_at > pg_catalog.now() - interval '30 seconds')
     OR EXISTS (
         SELECT FROM klaviyo.job_run AS r
         JOIN klaviyo.job_plan AS p USING (account, job)
         WHERE r.started_at IS NOT NULL AND r.again_at < pg_catalog.now() + interval '30 seconds' AND p.paused_at IS NULL
     )
     OR EXISTS (SELECT ",
    waited_for!(),
    ")"
);

/// Of a run that was given up nobody takes the answer.
const FORGET: &str = "
    DELETE FROM klaviyo.read_answer AS a WHERE NOT EXISTS (SELECT FROM klaviyo.read AS r WHERE r.read_id = a.read_id)";

const FORGET_WAITED_FOR: &str = concat!(
    "DELETE FROM klaviyo.job_plan AS p WHERE (p.account, p.job) IN (SELECT r.account, r.job ",
    waited_for!(),
    " FOR UPDATE SKIP LOCKED)"
);

const BEGIN: &str = "
    INSERT INTO klaviyo.job_run AS r (account, job, started_at)
    VALUES ($1, $2, pg_catalog.clock_timestamp())
    ON CONFLICT ON CONSTRAINT job_run_pkey DO UPDATE
    SET started_at = excluded.started_at, run_at = NULL, page_size = NULL, restarts = 0, pages = 0, rows_read = 0, rows_changed = 0,
        rows_removed = 0, rows_unreadable = 0, failures = 0, again_at = NULL, error = NULL, refusal = NULL
    WHERE r.started_at IS NULL";

const LOCKED: &str = "
    SELECT EXISTS (SELECT FROM klaviyo.job_run AS r WHERE r.account = $1 AND r.job = $2 AND r.started_at IS NOT NULL)";

const ASK: &str = "
    INSERT INTO klaviyo.read (account, job, path, body)
    SELECT p.account, p.job, $3, $4
    FROM klaviyo.job_plan AS p
    WHERE p.account = $1 AND p.job = $2 AND p.paused_at IS NULL";

/// Whether there is anything to do for jobs.
pub fn is_any() -> Result<bool, spi::Error> {
    Ok(value::<bool>(ANY, &[])?.unwrap_or_default())
}

/// Those that are to begin, or to go on, each by its account and its name.
pub fn jobs() -> Result<Vec<(String, String)>, spi::Error> {
    let mut jobs = Vec::new();
    rows(DUE, &[], |row| jobs.push((column(row, 1), column(row, 2))))?;
    Ok(jobs)
}

/// Forgets answers, and segments, that nobody waits for.
pub fn forget() -> Result<(), spi::Error> {
    run(FORGET_WAITED_FOR, &[])?;
    run(FORGET, &[]).map(drop)
}

/// Begins a run, unless one is under way. Whether it has.
pub fn begin(account: &str, job: &str) -> Result<bool, spi::Error> {
    Ok(run(BEGIN, &[arg(account), arg(job)])? > 0)
}

/// Whether a run is under way, whoever has its row.
pub fn is_locked(account: &str, job: &str) -> Result<bool, spi::Error> {
    Ok(value::<bool>(LOCKED, &[arg(account), arg(job)])?.unwrap_or_default())
}

/// Has the worker ask Klaviyo, unless the job is paused.
pub fn ask(account: &str, job: &str, PageQuery { path, body }: PageQuery) -> Result<(), spi::Error> {
    run(ASK, &[arg(account), arg(job), arg(path), arg(body)]).map(drop)
}
