//! The extension's background processes, as `pg_stat_activity` shows them.

use postgres::Client;

use crate::sql::query;
use crate::wait::{PATIENCE, becomes_true};

/// A worker of the extension.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Worker {
    /// Its process number.
    pub pid: i32,
    /// The database it works for.
    pub database: String,
}

/// All workers of the cluster.
pub fn workers(client: &mut Client) -> Vec<Worker> {
    let rows = client.query(
        "SELECT pid, coalesce(datname, '') FROM pg_stat_activity WHERE backend_type = 'klaviyo_sync worker'",
        &[],
    );
    let rows = rows.expect("pg_stat_activity can be read");
    rows.iter().map(|row| Worker { pid: row.get(0), database: row.get(1) }).collect()
}

/// The launcher's process number, while it runs.
pub fn launcher(client: &mut Client) -> Option<i32> {
    let row = client
        .query_opt("SELECT pid FROM pg_stat_activity WHERE backend_type = 'klaviyo_sync launcher'", &[]);
    row.expect("pg_stat_activity can be read").map(|row| row.get(0))
}

/// Waits for the worker of the client's own database and returns its process number.
pub fn wait_for_worker(client: &mut Client) -> i32 {
    let database: String = query(client, "SELECT current_database()::text", &[]);
    let mut found = None;
    becomes_true(PATIENCE, || {
        found = workers(client).into_iter().find(|worker| worker.database == database);
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("database {database} has no worker after {PATIENCE:?}")).pid
}

/// The process number of the runner of the client's own database, while there is one.
pub fn runner(client: &mut Client) -> Option<i32> {
    let row = client.query_opt(
        "SELECT pid FROM pg_stat_activity
         WHERE backend_type = 'klaviyo_sync runner' AND datname = current_database()",
        &[],
    );
    row.expect("pg_stat_activity can be read").map(|row| row.get(0))
}

/// Whether a worker waits for somebody's lock.
pub fn waits_for_lock(client: &mut Client) -> bool {
    query(
        client,
        "SELECT EXISTS (SELECT FROM pg_stat_activity
                        WHERE backend_type = 'klaviyo_sync worker' AND wait_event_type = 'Lock')",
        &[],
    )
}
