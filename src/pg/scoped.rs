//! Rights and settings that hold while something runs. What ends by an error is put back by whoever catches that, as of a
//! SECURITY DEFINER function (utils/fmgr/fmgr.c, `fmgr_security_definer`).

use std::ffi::{CStr, c_int};
use std::time::Duration;

use pgrx::{Spi, pg_sys, spi};

use super::SEARCH_PATH;

/// How long a change of somebody's table waits for who writes there, if his session does not say: all others who want to
/// write wait behind it.
const LOCK_TIMEOUT: &CStr = c"5s";

/// Runs statements with the rights of that user, and with our own `search_path`.
pub fn with_rights_of<R>(user: pg_sys::Oid, run: impl FnOnce() -> R) -> R {
    let (mut before, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: puts back what it finds, innermost first.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut before, &mut context);
        pg_sys::SetUserIdAndSecContext(user, context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32);
        let result = with_own_search_path(run);
        pg_sys::SetUserIdAndSecContext(before, context);
        result
    }
}

/// Runs what somebody else has written with his rights: nothing of it is put off until ours are back, and what it sets is
/// undone (miscadmin.h: `SECURITY_RESTRICTED_OPERATION`).
pub fn with_restricted_rights_of<R>(user: pg_sys::Oid, run: impl FnOnce() -> R) -> R {
    let (mut before, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: puts back what it finds, innermost first.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        pg_sys::GetUserIdAndSecContext(&mut before, &mut context);
        let restricted = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        pg_sys::SetUserIdAndSecContext(user, context | restricted as i32);
        let result = with_own_search_path(run);
        pg_sys::AtEOXact_GUC(false, level);
        pg_sys::SetUserIdAndSecContext(before, context);
        result
    }
}

// utils/timeout.h, the same from 14 to 18. pgrx has no binding.
unsafe extern "C-unwind" {
    fn enable_timeout_after(id: c_int, delay_ms: c_int);
    fn disable_timeout(id: c_int, keep_indicator: bool);
}

/// `STATEMENT_TIMEOUT`, the fourth of `TimeoutId`.
const STATEMENT_TIMEOUT: c_int = 3;

/// Runs something that is cancelled when it takes longer. In our own processes: others have a timeout already.
pub fn with_statement_timeout<R>(timeout: Duration, run: impl FnOnce() -> R) -> R {
    /// Nobody else takes it away after an error, and it would cancel what comes next.
    struct Armed;
    impl Drop for Armed {
        fn drop(&mut self) {
            // SAFETY: as below.
            unsafe { disable_timeout(STATEMENT_TIMEOUT, false) };
        }
    }
    let milliseconds = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: every process that is connected to a database has registered this timeout (InitPostgres), which cancels by
    // SIGINT.
    unsafe { enable_timeout_after(STATEMENT_TIMEOUT, milliseconds) };
    let _armed = Armed;
    run()
}

/// Runs statements that call nobody's triggers, unless they are `ENABLE ALWAYS` or `ENABLE REPLICA`; and none of foreign keys
/// either. In the transaction of a process of ours.
pub fn without_triggers<R>(run: impl FnOnce() -> Result<R, spi::Error>) -> Result<R, spi::Error> {
    Spi::run("SET LOCAL session_replication_role = replica")?;
    let result = run()?;
    Spi::run("SET LOCAL session_replication_role = DEFAULT")?;
    Ok(result)
}

/// Runs something with our own `search_path`.
pub fn with_own_search_path<R>(run: impl FnOnce() -> R) -> R {
    with_setting(c"search_path", SEARCH_PATH, run)
}

/// Settings on which it depends how values are printed, as triggers of ours have them where they print such.
pub const OF_PRINTING: [(&CStr, &CStr); 4] = [
    (c"datestyle", c"ISO"),
    (c"intervalstyle", c"postgres"),
    (c"bytea_output", c"hex"),
    (c"extra_float_digits", c"1"),
];

/// How texts are read, where they have a backslash.
pub const OF_READING: (&CStr, &CStr) = (c"standard_conforming_strings", c"on");

/// Runs something in the time zone UTC, with those, and with our own `search_path`.
pub fn with_settings_of_triggers<R>(run: impl FnOnce() -> R) -> R {
    let others = [OF_READING, (c"timezone", c"UTC"), (c"search_path", SEARCH_PATH)];
    with_settings(OF_PRINTING.into_iter().chain(others), run)
}

/// Runs what somebody else has written as his sessions would, in a process of ours, which has other settings.
pub fn with_settings_of_sessions<R>(run: impl FnOnce() -> R) -> R {
    let settings = [(c"row_security", c"on"), (c"enable_seqscan", c"on"), (c"plan_cache_mode", c"auto")];
    with_settings(settings, run)
}

/// Runs something that waits for locks no longer than the session says, or else than a moment.
pub fn with_lock_timeout<R>(run: impl FnOnce() -> R) -> R {
    // SAFETY: a plain variable, the session's setting in milliseconds; 0 is for ever.
    if unsafe { pg_sys::LockTimeout } > 0 { run() } else { with_setting(c"lock_timeout", LOCK_TIMEOUT, run) }
}

/// Runs something with that `search_path`.
pub fn with_search_path<R>(path: &CStr, run: impl FnOnce() -> R) -> R {
    with_setting(c"search_path", path, run)
}

fn with_setting<R>(name: &CStr, value: &CStr, run: impl FnOnce() -> R) -> R {
    with_settings([(name, value)], run)
}

fn with_settings<'a, R>(
    settings: impl IntoIterator<Item = (&'a CStr, &'a CStr)>,
    run: impl FnOnce() -> R,
) -> R {
    // SAFETY: puts back what it finds.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        for (name, value) in settings {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        let result = run();
        pg_sys::AtEOXact_GUC(true, level);
        result
    }
}
