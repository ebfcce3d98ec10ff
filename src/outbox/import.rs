//! Import jobs, as `klaviyo.bulk_job` has them: written down before Klaviyo is asked for one, so that a later worker
//! knows which messages may be in it.

use std::time::{Duration, SystemTime};

use delivery::{ImportId, ImportReport, ImportStep};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{Uuid, spi};

use crate::pg;
use crate::pg::spi::{arg, column, rows, run};

/// Rows deleted in one go.
const BATCH: i64 = 10_000;

const ANNOUNCE: &str = "
    INSERT INTO klaviyo.bulk_job (job_id, account, status, profiles, seqs, positions, announced_at)
    VALUES ($1, $2, 'announced', $3, $4, $5, pg_catalog.clock_timestamp())";

const MADE: &str = "
    UPDATE klaviyo.bulk_job AS j
    SET status = 'made', klaviyo_id = $2, made_at = pg_catalog.clock_timestamp()
    WHERE j.job_id = $1";

/// Which messages were in it their own records tell.
const ENDED: &str = "
    UPDATE klaviyo.bulk_job AS j
    SET status = $2, failed = $3, seqs = NULL, positions = NULL, ended_at = pg_catalog.clock_timestamp()
    WHERE j.job_id = $1";

const OPEN: &str = "
    SELECT j.job_id, j.account, j.klaviyo_id, j.profiles, j.announced_at, coalesce(cardinality(j.seqs), 0)
    FROM klaviyo.bulk_job AS j
    WHERE j.ended_at IS NULL
    ORDER BY j.announced_at";

const DELETE_OLD: &str = "
    DELETE FROM klaviyo.bulk_job AS j
    WHERE j.job_id = ANY (ARRAY(
        SELECT o.job_id FROM klaviyo.bulk_job AS o
        WHERE o.ended_at < pg_catalog.now() - greatest($1, 5) * interval '1 minute'
        ORDER BY o.ended_at
        LIMIT $2
    ))";

/// A job that has not ended.
pub struct Open {
    pub id: ImportId,
    pub account: String,
    pub klaviyo_id: Option<String>,
    pub messages: usize,
    pub profiles: usize,
    pub announced_at: SystemTime,
}

/// Writes down how far a job has come, in the transaction the caller has begun.
pub fn record(account: &str, report: &ImportReport) -> Result<(), spi::Error> {
    let id = Uuid::from_bytes(report.id);
    match &report.step {
        ImportStep::Announced { messages } => {
            let (seqs, positions): (Vec<i64>, Vec<i32>) =
                messages.iter().map(|(seq, position)| (*seq, count(*position))).unzip();
            let profiles = positions.last().map_or(0, |last| last + 1);
            run(ANNOUNCE, &[arg(id), arg(account), arg(profiles), arg(seqs), arg(positions)])
        }
        ImportStep::Made { klaviyo_id: Some(klaviyo_id), .. } => {
            run(MADE, &[arg(id), arg(klaviyo_id.as_str())])
        }
        ImportStep::Made { klaviyo_id: None, .. } | ImportStep::Over { .. } => return Ok(()),
        ImportStep::Ended { ending, failed } => {
            run(ENDED, &[arg(id), arg(ending.name()), arg(count(*failed))])
        }
    }
    .map(drop)
}

/// Jobs that have not ended, oldest first.
pub fn open() -> Result<Vec<Open>, spi::Error> {
    let mut open = Vec::new();
    rows(OPEN, &[], |row| {
        let announced_at: TimestampWithTimeZone = column(row, 5);
        let micros = u64::try_from(pg::micros(i64::from(announced_at))).unwrap_or_default();
        open.push(Open {
            id: *column::<Uuid>(row, 1).as_bytes(),
            account: column(row, 2),
            klaviyo_id: row.get(3).ok().flatten(),
            messages: usize::try_from(column::<i32>(row, 6)).unwrap_or_default(),
            profiles: usize::try_from(column::<i32>(row, 4)).unwrap_or_default(),
            announced_at: SystemTime::UNIX_EPOCH + Duration::from_micros(micros),
        });
    })?;
    Ok(open)
}

/// Deletes what is known of jobs that ended longer ago than so many minutes.
pub fn delete_old(minutes: i32) -> Result<usize, spi::Error> {
    run(DELETE_OLD, &[arg(minutes), arg(BATCH)])
}

/// As Postgres counts.
pub fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
