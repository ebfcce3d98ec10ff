//! Segments that a statement waits for: each is read by a job of its own, which nobody has planned and which goes soon after.

use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi;

use crate::pg;
use crate::pg::spi::{arg, column, rows, run};
use crate::worker::Wish;

/// What the names of such jobs begin with; behind it stands Klaviyo's id.
pub const JOB: &str = "segment:";

const ALL: &str = "SELECT s.account, s.segment_id, s.members_pulled_at FROM klaviyo.segment AS s";

/// It has no next run.
const PLAN: &str = "
    INSERT INTO klaviyo.job_plan (account, job, every, names)
    VALUES ($1, $2, interval '1000 years', ARRAY[$3])
    ON CONFLICT DO NOTHING";

const RUN: &str = "
    INSERT INTO klaviyo.job_run AS r (account, job, run_at)
    VALUES ($1, $2, pg_catalog.clock_timestamp())
    ON CONFLICT ON CONSTRAINT job_run_pkey DO UPDATE SET run_at = excluded.run_at
    WHERE r.started_at IS NULL";

/// What stands for a segment in shared memory, the same in every process, and never 0.
pub fn digest(account: &str, segment: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (account, segment).hash(&mut hasher);
    hasher.finish().max(1)
}

/// Has segments be read, but for those that were by now. One that is being read already is read anew only if somebody asks again.
pub fn take(wishes: &[Wish]) -> Result<(), spi::Error> {
    let mut wanted: Vec<(String, String)> = Vec::new();
    rows(ALL, &[], |row| {
        let (account, segment): (String, String) = (column(row, 1), column(row, 2));
        let digest = digest(&account, &segment);
        let known = row.get::<TimestampWithTimeZone>(3).ok().flatten();
        let known = known.map(|time| pg::micros(i64::from(time)));
        if wishes.iter().any(|wish| wish.digest == digest && known.is_none_or(|known| known < wish.oldest)) {
            wanted.push((account, segment));
        }
    })?;
    for (account, segment) in wanted {
        let job = format!("{JOB}{segment}");
        run(PLAN, &[arg(account.as_str()), arg(job.as_str()), arg(segment)])?;
        run(RUN, &[arg(account), arg(job)])?;
    }
    Ok(())
}
