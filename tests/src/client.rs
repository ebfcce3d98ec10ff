//! Statements over a connection, whose errors end the test with all that the server tells of them.

use postgres::Client;

use crate::cluster::explain;

/// Runs statements.
pub fn sql(db: &mut Client, statements: &str) {
    db.batch_execute(statements).unwrap_or_else(|error| panic!("{statements}: {}", explain(&error)));
}

/// Runs statements that must fail, and returns the SQLSTATE with which they do.
pub fn refused(db: &mut Client, statements: &str) -> String {
    let error = db.batch_execute(statements).expect_err(statements);
    error.code().unwrap_or_else(|| panic!("{statements}: {}", explain(&error))).code().to_owned()
}

/// The number that a query returns.
pub fn count(db: &mut Client, query: &str) -> i64 {
    db.query_one(query, &[]).unwrap_or_else(|error| panic!("{query}: {}", explain(&error))).get(0)
}
