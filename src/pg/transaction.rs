//! Transactions: ids, snapshots, durability, and what happens at commit.

use std::cell::Cell;

use pgrx::{pg_guard, pg_sys};

/// Gives the current transaction its id, if it has none yet, to insert something.
pub fn assign_id() {
    // SAFETY: the first refuses where there can be none (a read-only transaction, a standby) as Postgres refuses the
    // INSERT; errors are turned into panics by pgrx.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(c"INSERT".as_ptr());
        pg_sys::GetTopTransactionId();
    }
}

/// Whether each statement of the transaction sees what others have committed before it.
pub fn sees_latest() -> bool {
    // SAFETY: a plain variable, the transaction's isolation level.
    unsafe { pg_sys::XactIsoLevel < pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// The first transaction id that nobody has yet.
pub fn next_id() -> u64 {
    // SAFETY: reads shared memory under its lock.
    unsafe { pg_sys::ReadNextFullTransactionId().value }
}

/// Whether a transaction id is the current transaction's or that of a subtransaction of it that still stands.
pub fn is_current(xid: pg_sys::TransactionId) -> bool {
    // SAFETY: looks through the backend's own transaction state.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(xid) }
}

/// The number of the current subtransaction; those within it, and later ones, have higher numbers.
pub fn subtransaction() -> pg_sys::SubTransactionId {
    // SAFETY: reads the backend's own transaction state.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

/// Makes durable all that was visible to us until now. A row written with `synchronous_commit = off` is visible
/// before its commit is on disk.
pub fn flush() {
    // SAFETY: the position lies within what has been written, but for one case: where nothing has been written to a
    // page yet it names the byte after the page's header, and XLogFlush (access/transam/xlog.c) would complain in
    // the log of a request past the end.
    unsafe {
        let mut position = pg_sys::GetXLogInsertRecPtr();
        let offset = position % u64::from(pg_sys::XLOG_BLCKSZ);
        let first_page = position % u64::from(pg_sys::wal_segment_size.unsigned_abs()) == offset;
        let header = if first_page {
            size_of::<pg_sys::XLogLongPageHeaderData>()
        } else {
            size_of::<pg_sys::XLogPageHeaderData>()
        };
        if offset == header as u64 {
            position -= offset;
        }
        pg_sys::XLogFlush(position);
    }
}

thread_local! {
    /// What to do when the current transaction commits. Static functions, so that the callback cannot fail.
    static AT_COMMIT: Cell<Option<AtCommit>> = const { Cell::new(None) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Bits of things to tell other processes at commit.
#[derive(Clone, Copy, Default)]
pub struct AtCommit {
    /// There is something to deliver.
    pub wake: bool,
    /// Accounts have changed.
    pub configuration: bool,
    /// There is something for the runner.
    pub runner: bool,
    /// The database has just got the extension.
    pub announce: bool,
}

/// Has `tell` called with all that was noted in the current transaction, once, if and when it commits. It must not
/// fail and not call Postgres beyond setting a latch: an error after the commit record would take the server down.
pub fn at_commit(note: AtCommit) {
    let before = AT_COMMIT.get().unwrap_or_default();
    AT_COMMIT.set(Some(AtCommit {
        wake: before.wake || note.wake,
        configuration: before.configuration || note.configuration,
        runner: before.runner || note.runner,
        announce: before.announce || note.announce,
    }));
    if !REGISTERED.replace(true) {
        // SAFETY: the callback lives as long as the library, which is never unloaded.
        unsafe { pg_sys::RegisterXactCallback(Some(on_transaction_end), std::ptr::null_mut()) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction_end(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT => {
            if let Some(note) = AT_COMMIT.take() {
                crate::worker::tell(note);
            }
        }
        // PREPARE too: whoever commits it does not know what it held; the worker's own poll finds it.
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => AT_COMMIT.set(None),
        _ => {}
    }
}
