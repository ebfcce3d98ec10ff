//! What both kinds of process share: signals, waiting, transactions.

use std::cell::Cell;
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, Ordering::SeqCst};
use std::time::Duration;

use nix::libc;
use pgrx::bgworkers::BackgroundWorker;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use pgrx::{pg_sys, spi};

use crate::pg;

/// How long a transaction that is running when we are asked to end may take before it is cut short.
const PATIENCE: Duration = Duration::from_secs(1);

/// Until something is tried again for which there was no room.
pub const NO_ROOM_PAUSE: Duration = Duration::from_secs(5);

/// Sends us SIGTERM once more when that time is up. None yet: zero is no timer Linux hands out to us.
static TIMER: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());

/// The postmaster signals a process and then its process group (signal_child in postmaster/postmaster.c), so each SIGTERM
/// of its may come twice. What comes within this time of the first is that.
const ECHO_MS: i64 = 200;

/// Somebody wants us to end.
static TERMINATE: AtomicBool = AtomicBool::new(false);
/// When that was first said, in milliseconds of the monotonic clock.
static TERMINATE_AT: AtomicI64 = AtomicI64::new(0);
/// We may be waiting for a lock, where only an ordinary termination gets us out.
static IN_TRANSACTION: AtomicBool = AtomicBool::new(false);

/// Says that the process is ending of its own accord: its last transactions bound their own waits.
pub fn begin_stopping() {
    set_timer(Duration::ZERO);
}

/// Makes the timer that [`set_timer`] sets.
fn make_timer() {
    // SAFETY: plain structures that the kernel reads and fills. Without a timer (there are thousands) a transaction
    // that waits for a lock holds up our end until that lock is free.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGTERM;
        let mut timer: libc::timer_t = std::ptr::null_mut();
        if libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) == 0 {
            // Kept one higher, for Linux counts its timers from 0.
            TIMER.store(timer.wrapping_byte_add(1), SeqCst);
        }
    }
}

/// Has SIGTERM sent to us after that time; zero: not at all. May be called from a signal handler.
fn set_timer(after: Duration) {
    let timer = TIMER.load(SeqCst);
    if timer.is_null() {
        return;
    }
    // SAFETY: a timer of ours; timer_settime is one of the functions POSIX allows in a signal handler.
    unsafe {
        let mut time: libc::itimerspec = std::mem::zeroed();
        time.it_value.tv_sec = after.as_secs() as libc::time_t;
        libc::timer_settime(timer.wrapping_byte_sub(1), 0, &time, std::ptr::null_mut());
    }
}

/// Has the process end after that time as if somebody had asked for it, cutting short whatever runs then, until
/// [`end_no_more`]. What has no other bound is bounded so.
pub fn end_after(time: Duration) {
    if !is_terminating() {
        set_timer(time.max(Duration::from_secs(1)));
    }
}

/// Takes that back, if it has not begun.
pub fn end_no_more() {
    if !is_terminating() {
        set_timer(Duration::ZERO);
    }
}

/// Installs our signal handlers and lets signals in.
pub fn handle_signals() {
    #[cfg(not(feature = "pg18"))]
    use pg_sys::pqsignal as set_handler;
    #[cfg(feature = "pg18")]
    use pg_sys::pqsignal_be as set_handler;
    make_timer();
    // SAFETY: at the start of a background worker, whose signals are blocked until the last line. The handlers only
    // do what a handler may.
    unsafe {
        set_handler(pg_sys::SIGHUP as i32, Some(on_sighup));
        set_handler(pg_sys::SIGTERM as i32, Some(on_sigterm));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// From which size on memory is given back to the system as soon as it is freed. By itself glibc learns from bodies of
/// megabytes that they come often, keeps theirs, and cuts it to pieces.
#[cfg(target_env = "gnu")]
const GIVEN_BACK: i32 = 256 << 10;

/// Keeps this process from holding on to memory that it had for a moment.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a parameter of malloc, before there is a second thread.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, GIVEN_BACK);
    }
}

unsafe extern "C-unwind" fn on_sighup(_signal: i32) {
    // SAFETY: as SignalHandlerForConfigReload (postmaster/interrupt.c).
    unsafe {
        (&raw mut pg_sys::ConfigReloadPending).write_volatile(1);
        pg_sys::SetLatch(pg_sys::MyLatch);
    }
}

unsafe extern "C-unwind" fn on_sigterm(signal: i32) {
    // The first time it is a wish, which is seen to between two transactions. The second time, by the timer or by
    // somebody without patience, a transaction is cut short.
    let again = TERMINATE.swap(true, SeqCst);
    let now = monotonic_ms();
    if !again {
        TERMINATE_AT.store(now, SeqCst);
    }
    let echo = now - TERMINATE_AT.load(SeqCst) < ECHO_MS;
    // SAFETY: both are made to be called from a signal handler; MyLatch is set before signals are let in.
    unsafe {
        if again && !echo && IN_TRANSACTION.load(SeqCst) {
            pg_sys::die(signal);
        } else {
            set_timer(PATIENCE);
            pg_sys::SetLatch(pg_sys::MyLatch);
        }
    }
}

/// Milliseconds of the monotonic clock. May be called from a signal handler.
fn monotonic_ms() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills a structure; clock_gettime is one of the functions POSIX allows in a signal handler.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}

/// Settings that must not reach our processes, whoever made them: postgresql.conf, a database, a role.
const SESSION: &[(&CStr, &CStr)] = &[
    (c"search_path", pg::SEARCH_PATH),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_isolation", c"read committed"),
    (c"synchronous_commit", c"on"),
    (c"statement_timeout", c"0"),
    (c"lock_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    (c"transaction_timeout", c"0"),
    // In a deadlock it is the worker that gives way: it can begin anew, and loses nothing.
    (c"deadlock_timeout", c"200ms"),
    (c"row_security", c"off"),
    (c"jit", c"off"),
    // The tables of a queue are never what their statistics say; by its index each is always read well.
    (c"enable_seqscan", c"off"),
    (c"plan_cache_mode", c"force_generic_plan"),
];

/// Shields the process from settings of the server.
fn shield_session() {
    for (name, value) in SESSION {
        // SAFETY: settings there are, with values they take. Nothing but a SET of our own stands above this source,
        // so neither a reload nor what ALTER DATABASE and ALTER ROLE say comes through.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}

/// Whether the process is to end.
pub fn is_terminating() -> bool {
    TERMINATE.load(SeqCst)
}

/// Our own latch.
pub fn latch() -> *mut pg_sys::Latch {
    // SAFETY: a plain variable, set at the start of the process.
    unsafe { pg_sys::MyLatch }
}

/// Our own process id.
pub fn pid() -> i32 {
    // SAFETY: a plain variable, set at the start of the process.
    unsafe { pg_sys::MyProcPid }
}

/// Waits until the latch is set, there is something to read, or the time is up, and does then what Postgres asks of
/// a process at any time: interrupts.
pub fn wait_latch(timeout: Duration, socket: Option<RawFd>) {
    let timeout = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX).min(3_600_000);
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    if socket.is_some() {
        events |= pg_sys::WL_SOCKET_READABLE;
    }
    // SAFETY: our own latch and an open socket.
    unsafe {
        pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as i32,
            socket.unwrap_or(pg_sys::PGINVALID_SOCKET),
            timeout,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    check_for_interrupts!();
}

/// Waits likewise, and does then what Postgres asks of a process between two transactions: reading the configuration
/// anew. Returns whether it was.
pub fn wait(timeout: Duration, socket: Option<RawFd>) -> bool {
    wait_latch(timeout, socket);
    // SAFETY: a plain variable that the handler of SIGHUP sets; the file is read between transactions, as elsewhere.
    unsafe {
        let reload = (&raw const pg_sys::ConfigReloadPending).read_volatile() != 0;
        if reload {
            // First this, then the file: a signal in between makes us read once more.
            (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
        reload
    }
}

/// Connects to a database, or to none: then only what all databases share can be read. A process that is asked to end
/// while it waits there for the database's lock is cut short.
pub fn connect(database: Option<pg_sys::Oid>) {
    // Connecting is a transaction already.
    shield_session();
    IN_TRANSACTION.store(true, SeqCst);
    BackgroundWorker::connect_worker_to_spi_by_oid(database, None);
    IN_TRANSACTION.store(false, SeqCst);
}

/// Runs `body` in a transaction. An error ends the process, which is started anew.
pub fn transaction<T>(activity: &CStr, body: impl FnOnce() -> Result<T, spi::Error>) -> T {
    let result = bracket(activity, || BackgroundWorker::transaction(AssertUnwindSafe(body)));
    result.unwrap_or_else(|error| error!("{error}"))
}

/// Runs `body` in a transaction. An error that `forgives` knows undoes that and is handed back as it reads in the log;
/// any other ends the process.
pub fn attempt<T>(
    activity: &CStr,
    forgives: impl Fn(PgSqlErrorCode) -> bool,
    body: impl FnOnce() -> Result<T, spi::Error>,
) -> Result<T, String> {
    // An error that is returned would let the transaction commit: raised, it ends it like any other.
    let body = || body().unwrap_or_else(|error| error!("{error}"));
    let forgives = AssertUnwindSafe(forgives);
    let raised = || {
        PgTryBuilder::new(AssertUnwindSafe(|| Ok(BackgroundWorker::transaction(AssertUnwindSafe(body)))))
            .catch_others(move |cause| match cause {
                CaughtError::PostgresError(error) | CaughtError::ErrorReport(error)
                    if forgives(error.sql_error_code()) =>
                {
                    // SAFETY: whatever state the error has left the transaction in, this ends it, as the loops of
                    // Postgres' own processes do (AutoVacLauncherMain in postmaster/autovacuum.c).
                    unsafe { pg_sys::AbortCurrentTransaction() };
                    Err(error.message().to_owned())
                }
                other => other.rethrow(),
            })
            .execute()
    };
    bracket(activity, raised)
}

/// Runs transactions that see what others commit meanwhile, in a process whose transactions else see one moment.
pub fn with_read_committed<T>(run: impl FnOnce() -> T) -> T {
    let isolate = |statement| transaction(c"beginning", || Spi::run(statement));
    isolate("SET default_transaction_isolation = 'read committed'");
    let result = run();
    isolate("SET default_transaction_isolation = 'repeatable read'");
    result
}

/// Runs `body` in a transaction that nothing ends the process for, as [`attempt`]. An error is handed back with its code.
pub fn attempt_any<T>(
    activity: &CStr,
    body: impl FnOnce() -> Result<T, spi::Error>,
) -> Result<T, (PgSqlErrorCode, String)> {
    let code = Cell::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR);
    let forgive = |error| {
        code.set(error);
        true
    };
    attempt(activity, forgive, body).map_err(|message| (code.get(), message))
}

/// Disk or memory that somebody may free. Ending would help nobody: what is under way would be sent again.
pub fn is_lack_of_room(code: PgSqlErrorCode) -> bool {
    use PgSqlErrorCode::{ERRCODE_DISK_FULL, ERRCODE_OUT_OF_MEMORY};
    matches!(code, ERRCODE_DISK_FULL | ERRCODE_OUT_OF_MEMORY)
}

/// What goes before and after a transaction.
fn bracket<T>(activity: &CStr, transaction: impl FnOnce() -> T) -> T {
    IN_TRANSACTION.store(true, SeqCst);
    report(pg_sys::BackendState::STATE_RUNNING, activity);
    let result = transaction();
    IN_TRANSACTION.store(false, SeqCst);
    // SAFETY: reports this process' counters, or autovacuum would never learn of its deletes.
    unsafe { pg_sys::pgstat_report_stat(true) };
    report(pg_sys::BackendState::STATE_IDLE, c"");
    result
}

/// Says in `pg_stat_activity` what the process is doing.
fn report(state: pg_sys::BackendState::Type, activity: &CStr) {
    // SAFETY: copies the text.
    unsafe { pg_sys::pgstat_report_activity(state, activity.as_ptr()) };
}

/// Ends the process, with nothing to complain about. The postmaster starts a process that ends with 0 never again, one
/// that ends with 1 as it was registered.
pub fn end(code: i32) -> ! {
    // SAFETY: runs the exit callbacks, as every backend ends.
    unsafe { pg_sys::proc_exit(code) };
    // Not every major's header tells bindgen that it does not return.
    #[allow(unreachable_code)]
    {
        unreachable!("proc_exit does not return")
    }
}
