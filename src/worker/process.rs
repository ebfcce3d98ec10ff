//! What both kinds of process share: signals, waiting, transactions.

use std::os::fd::RawFd;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;
use pgrx::prelude::*;
use pgrx::{pg_sys, spi};

/// Somebody wants us to end.
static TERMINATE: AtomicBool = AtomicBool::new(false);
/// We may be waiting for a lock, where only an ordinary termination gets us out.
static IN_TRANSACTION: AtomicBool = AtomicBool::new(false);

/// We are ending, and what is left to do knows how long it may wait.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Says that the process is ending of its own accord: its last transactions bound their own waits.
pub fn begin_stopping() {
    STOPPING.store(true, SeqCst);
}

/// Installs our signal handlers and lets signals in.
pub fn handle_signals() {
    #[cfg(not(feature = "pg18"))]
    use pg_sys::pqsignal as set_handler;
    #[cfg(feature = "pg18")]
    use pg_sys::pqsignal_be as set_handler;
    // SAFETY: at the start of a background worker, whose signals are blocked until the last line. The handlers only
    // do what a handler may.
    unsafe {
        set_handler(pg_sys::SIGHUP as i32, Some(on_sighup));
        set_handler(pg_sys::SIGTERM as i32, Some(on_sigterm));
        pg_sys::BackgroundWorkerUnblockSignals();
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
    TERMINATE.store(true, SeqCst);
    // SAFETY: both are made to be called from a signal handler; MyLatch is set before signals are let in.
    unsafe {
        if IN_TRANSACTION.load(SeqCst) {
            pg_sys::die(signal);
        } else {
            pg_sys::SetLatch(pg_sys::MyLatch);
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
/// a process in between: interrupts, and reading the configuration anew. Returns whether it was.
pub fn wait(timeout: Duration, socket: Option<RawFd>) -> bool {
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

/// Runs `body` in a transaction. An error ends the process, which is started anew.
pub fn transaction<T>(activity: &std::ffi::CStr, body: impl FnOnce() -> Result<T, spi::Error>) -> T {
    IN_TRANSACTION.store(true, SeqCst);
    if is_terminating() && !STOPPING.load(SeqCst) {
        // The signal came between two transactions: from here on it must get us out of a wait for a lock.
        // SAFETY: sets flags, as it does when it is called by the signal.
        unsafe { pg_sys::die(pg_sys::SIGTERM as i32) };
    }
    report(pg_sys::BackendState::STATE_RUNNING, activity);
    let result = BackgroundWorker::transaction(AssertUnwindSafe(body));
    IN_TRANSACTION.store(false, SeqCst);
    // SAFETY: reports this process' counters, or autovacuum would never learn of its deletes.
    unsafe { pg_sys::pgstat_report_stat(true) };
    report(pg_sys::BackendState::STATE_IDLE, c"");
    result.unwrap_or_else(|error| error!("{error}"))
}

/// Says in `pg_stat_activity` what the process is doing.
fn report(state: pg_sys::BackendState::Type, activity: &std::ffi::CStr) {
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
