//! Holding workers off: who needs a database for himself has its worker and its runner end, and none starts until he is
//! done.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use pgrx::{pg_guard, pg_sys};

use super::process;
use super::slots::{Shared, Slot, shared};
use crate::pg;

/// Statements at a time that hold workers off. Whoever finds no place must do without: if a worker is in his way,
/// Postgres says so.
const MAX_HOLDS: usize = 64;

/// How long a worker may take to end: over twice what it grants its calls and its transaction. After that Postgres
/// tries, and says who is in the way.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks whether it has ended: it tells nobody but the launcher.
const PAUSE: Duration = Duration::from_millis(20);

/// A database whose worker is held off, and the process that does so. All zero is none.
#[repr(C)]
struct Hold {
    holder: AtomicI32,
    database: AtomicU32,
}

/// All there are, in shared memory.
#[repr(C)]
pub struct Holds([Hold; MAX_HOLDS]);

impl Holds {
    fn take(&self, database: pg_sys::Oid, holder: i32) -> Option<&Hold> {
        let hold =
            self.0.iter().find(|hold| hold.holder.compare_exchange(0, holder, SeqCst, SeqCst).is_ok())?;
        hold.database.store(u32::from(database), SeqCst);
        Some(hold)
    }

    /// Whether a database's worker is held off.
    pub fn contain(&self, database: pg_sys::Oid) -> bool {
        self.0.iter().any(|hold| hold.database.load(SeqCst) == u32::from(database))
    }

    /// Whether any is. Ends those whose holder is no more: he would have ended them himself, but a worker must not
    /// depend on that.
    pub fn check(&self) -> bool {
        let mut any = false;
        for hold in &self.0 {
            match hold.holder.load(SeqCst) {
                0 => {}
                holder if pg::is_running(holder) => any = true,
                _ => hold.end(),
            }
        }
        any
    }
}

impl Hold {
    fn end(&self) {
        self.database.store(0, SeqCst);
        self.holder.store(0, SeqCst);
    }
}

thread_local! {
    /// Holds of the current transaction, and the subtransaction each began in.
    static MINE: RefCell<Vec<(&'static Hold, pg_sys::SubTransactionId)>> = const { RefCell::new(Vec::new()) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Has the worker of a database end, waits for that, and holds the next one off until the transaction ends, or the
/// subtransaction fails.
pub fn take(database: pg_sys::Oid) {
    let Some(shared) = shared() else { return };
    if !REGISTERED.replace(true) {
        // SAFETY: the callbacks live as long as the library, which is never unloaded.
        unsafe {
            pg_sys::RegisterXactCallback(Some(on_transaction_end), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(on_subtransaction_end), std::ptr::null_mut());
        }
    }
    let began_in = pg::transaction::subtransaction();
    // Noted at once: from here on an error ends it.
    MINE.with_borrow_mut(|mine| {
        mine.reserve(1);
        mine.extend(shared.holds.take(database, process::pid()).map(|hold| (hold, began_in)));
    });
    wait_for_end(shared, database);
}

fn wait_for_end(shared: &Shared, database: pg_sys::Oid) {
    let deadline = Instant::now() + PATIENCE;
    let mut told: Vec<i32> = Vec::new();
    while Instant::now() < deadline {
        let slot = shared.slot_of(database);
        // The worker, which could start the others again, first.
        let processes = [slot.and_then(Slot::pid), slot.and_then(Slot::runner), slot.and_then(Slot::gateway)];
        for pid in processes.into_iter().flatten() {
            if !told.contains(&pid) {
                pg::terminate(pid);
                told.push(pid);
            }
        }
        // Its slot is empty a moment before Postgres counts one out.
        if processes == [None; 3] && !told.iter().any(|pid| pg::is_running(*pid)) {
            return;
        }
        process::wait_latch(PAUSE, None);
    }
}

/// Ends the holds of the current transaction that began in a subtransaction or within it, which have higher numbers.
fn release(subtransaction: pg_sys::SubTransactionId) {
    let Some(shared) = shared() else { return };
    let mut any = false;
    MINE.with_borrow_mut(|mine| {
        mine.retain(|(hold, began_in)| {
            let ends = *began_in >= subtransaction;
            if ends {
                hold.end();
                any = true;
            }
            !ends
        });
    });
    if any {
        shared.ask_to_look();
    }
}

/// After the commit record: atomics and a latch only, as in [`super::tell`]. `PREPARE` too: a worker that starts then
/// waits for the lock on its database until somebody ends what was prepared.
#[pg_guard]
unsafe extern "C-unwind" fn on_transaction_end(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if [XACT_EVENT_COMMIT, XACT_EVENT_ABORT, XACT_EVENT_PREPARE].contains(&event) {
        release(0);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_subtransaction_end(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        release(subtransaction);
    }
}
