//! Jobs that read what Klaviyo has: setting them up, and waiting for a run.

use std::time::Duration;

use postgres::Client;

use crate::{PATIENCE, Shop, query, sql};

/// Sets a job up, with further arguments of `klaviyo_set_job()`, and waits until its first run has ended. Says how.
pub fn set(shop: &Shop, db: &mut Client, job: &str, more: &str) -> String {
    sql(db, &format!("SELECT klaviyo_set_job('{job}'{more})"));
    await_end(shop, db, job, 0, PATIENCE)
}

/// Has a job run, and waits until that run has ended.
pub fn run(shop: &Shop, db: &mut Client, job: &str) -> String {
    run_so(shop, db, job, false)
}

/// The same from the beginning.
pub fn run_anew(shop: &Shop, db: &mut Client, job: &str) -> String {
    run_so(shop, db, job, true)
}

fn run_so(shop: &Shop, db: &mut Client, job: &str, anew: bool) -> String {
    let before: i64 = ended(db, job);
    db.execute("SELECT klaviyo_run_job($1, $2)", &[&job, &anew]).expect("it is run");
    await_end(shop, db, job, before, PATIENCE)
}

/// When the last run ended, in microseconds since 1970; 0 before that.
pub fn ended(db: &mut Client, job: &str) -> i64 {
    let ended = "SELECT coalesce((extract(epoch FROM last_ended_at) * 1e6)::bigint, 0) FROM klaviyo.job WHERE job = $1";
    query(db, ended, &[&job])
}

/// Waits until a run has ended after that, and says how.
pub fn await_end(shop: &Shop, db: &mut Client, job: &str, before: i64, patience: Duration) -> String {
    shop.eventually(&format!("{job} are read"), patience, || ended(db, job) > before);
    query(
        db,
        "SELECT last_outcome || coalesce(': ' || last_error, '') FROM klaviyo.job WHERE job = $1",
        &[&job],
    )
}

/// What the last run counted: rows read, changed, removed.
pub fn counts(db: &mut Client, job: &str) -> (i64, i64, i64) {
    let row = db
        .query_one("SELECT rows_read, rows_changed, rows_removed FROM klaviyo.job WHERE job = $1", &[&job])
        .expect("a job");
    (row.get(0), row.get(1), row.get(2))
}
