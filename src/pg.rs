//! Postgres' own interfaces, wrapped small. What is `unsafe` is here, or right where a pointer of Postgres' is used.

pub mod call;
pub mod expression;
pub mod function;
pub mod jsonb;
pub mod scoped;
pub mod server;
pub mod spi;
pub mod table;
pub mod transaction;
pub mod utility;

use std::borrow::Cow;
use std::ffi::CStr;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, function_name, pg_sys};

/// Where names are looked up that say no schema, in whatever of ours runs SQL: nobody else may put anything there.
pub const SEARCH_PATH: &CStr = c"pg_catalog, pg_temp";

/// A warning, to the client if there is one, with what to do. (The fourth argument of pgrx's `ereport!` is the DETAIL.)
pub fn warn(sqlstate: PgSqlErrorCode, message: impl Into<Cow<'static, str>>, hint: impl Into<String>) {
    ErrorReport::new(sqlstate, message, function_name!()).set_hint(hint).report(PgLogLevel::WARNING);
}

/// Whether the postmaster is loading us (shared_preload_libraries).
pub fn is_preloading() -> bool {
    // SAFETY: a plain variable, set before any library is loaded.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Whether pg_upgrade runs the server, to change what is in it by other means than SQL.
pub fn is_binary_upgrade() -> bool {
    // SAFETY: a plain variable, set before any library is loaded.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// Whether a process of this server has that number.
pub fn is_running(pid: i32) -> bool {
    // SAFETY: looks through shared memory under its lock.
    unsafe { !pg_sys::BackendPidGetProc(pid).is_null() }
}

/// Has a process of this server end, as `pg_terminate_backend` does.
pub fn terminate(pid: i32) {
    if is_running(pid) {
        // It may end between the question and the signal; nothing is wrong then.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

/// The database we are connected to.
pub fn database() -> pg_sys::Oid {
    // SAFETY: a plain variable, set once at the start of a backend.
    unsafe { pg_sys::MyDatabaseId }
}

/// Its name, in a transaction.
pub fn database_name() -> String {
    // SAFETY: looks it up in the catalogue; the name ends in NUL, and NULL stands for a database that is gone.
    unsafe {
        let name = pg_sys::get_database_name(database());
        if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// Microseconds from 1970 to 2000, where Postgres' time begins (`POSTGRES_EPOCH_JDATE`).
const EPOCH: i64 = 946_684_800_000_000;

/// The time now in microseconds since 1970, as `clock_timestamp()` has it.
pub fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() + EPOCH }
}

/// A timestamptz from microseconds since 1970.
pub fn timestamp(micros: i64) -> pgrx::datum::TimestampWithTimeZone {
    (micros - EPOCH).try_into().unwrap_or_else(|_| pgrx::datum::transaction_timestamp())
}

/// Microseconds since 1970 from a timestamptz as Postgres holds it; infinities stay extreme.
pub fn micros(timestamp: i64) -> i64 {
    timestamp.saturating_add(EPOCH)
}
