//! SQL, as tests speak it: what fails panics with all that the server tells.

use postgres::types::{FromSqlOwned, ToSql};
use postgres::{Client, GenericClient};

use crate::cluster::explain;
use crate::wait::{PATIENCE, eventually};

/// Runs statements.
pub fn sql(db: &mut impl GenericClient, statements: &str) {
    db.batch_execute(statements).unwrap_or_else(|error| panic!("{statements}: {}", explain(&error)));
}

/// Runs statements that must fail, and returns the SQLSTATE with which they do.
pub fn refused(db: &mut impl GenericClient, statements: &str) -> String {
    let error = db.batch_execute(statements).expect_err(statements);
    error.code().unwrap_or_else(|| panic!("{statements}: {}", explain(&error))).code().to_owned()
}

/// The one value that a query returns.
pub fn query<T: FromSqlOwned>(
    db: &mut impl GenericClient,
    query: &str,
    arguments: &[&(dyn ToSql + Sync)],
) -> T {
    let row = db.query_one(query, arguments);
    row.and_then(|row| row.try_get(0)).unwrap_or_else(|error| panic!("{query}: {}", explain(&error)))
}

/// The count that a query returns.
pub fn count(db: &mut impl GenericClient, counting: &str) -> i64 {
    query(db, counting, &[])
}

/// Waits until the server has ended a session, as it ends all when one of its processes crashes. Before that it would
/// still take connections.
pub fn wait_for_crash(session: &mut Client) {
    eventually("the crash is noticed", PATIENCE, || {
        session.is_closed() || session.batch_execute("SELECT").is_err()
    });
}
