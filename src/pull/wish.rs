//! What a statement waits for: each is read by a job of its own, which nobody has planned and which goes soon after.

use pgrx::spi;

use crate::pg;
use crate::pg::spi::{arg, run, value};
use crate::worker::Wish;

/// What the names of such jobs begin with: behind it stands Klaviyo's id of a segment, or a profile's address.
pub const SEGMENT: &str = "segment:";
pub const PROFILE: &str = "profile:";

const IS_KNOWN: &str = "
    SELECT EXISTS (
        SELECT FROM klaviyo.segment AS s
        WHERE s.account = $1 AND $2 = 'segment:' || s.segment_id AND s.members_pulled_at >= $3
    ) OR EXISTS (
        SELECT FROM klaviyo.job_run AS r
        WHERE r.account = $1 AND r.job = $2 AND r.job LIKE 'profile:%' AND r.last_started_at >= $3
    )";

/// It has no next run.
const PLAN: &str = "
    INSERT INTO klaviyo.job_plan (account, job, every, names)
    SELECT a.name, $2, interval '1000 years', ARRAY[$3]
    FROM klaviyo.account AS a
    WHERE a.name = $1
    ON CONFLICT DO NOTHING";

/// One that is under way has begun before that, and is waited for first.
const RUN: &str = "
    INSERT INTO klaviyo.job_run AS r (account, job, run_at)
    SELECT p.account, p.job, pg_catalog.clock_timestamp()
    FROM klaviyo.job_plan AS p
    WHERE p.account = $1 AND p.job = $2
    ON CONFLICT ON CONSTRAINT job_run_pkey DO UPDATE SET run_at = excluded.run_at
    WHERE r.started_at IS NULL";

/// Has these be read, but for what was by now.
pub fn take(wishes: &[Wish]) -> Result<(), spi::Error> {
    for Wish { account, job, oldest } in wishes {
        let Some(item) = job.strip_prefix(SEGMENT).or_else(|| job.strip_prefix(PROFILE)) else { continue };
        let ids = || [arg(account.as_str()), arg(job.as_str())];
        let [of, named] = ids();
        if value::<bool>(IS_KNOWN, &[of, named, arg(pg::timestamp(*oldest))])?.unwrap_or_default() {
            continue;
        }
        let [of, named] = ids();
        run(PLAN, &[of, named, arg(item)])?;
        run(RUN, &ids())?;
    }
    Ok(())
}
