//! Shared memory: a slot a database. Atomics only, so that any process may look at any time.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU32, Ordering::SeqCst};

use pgrx::{pg_guard, pg_sys};

use super::board;
use super::hold::Holds;
use super::wishes::{Wish, Wishes};

/// Slots there are. `klaviyo.max_databases` says how many of them are used.
pub const MAX_DATABASES: usize = 64;

/// Slot states; see README.md.
pub mod state {
    pub const WANTED: u32 = 0;
    pub const STARTED: u32 = 1;
    pub const ABSENT: u32 = 2;
}

/// One database's place. All zero is a free one.
#[repr(C)]
pub struct Slot {
    database: AtomicU32,
    state: AtomicU32,
    pid: AtomicI32,
    latch: AtomicPtr<pg_sys::Latch>,
    /// The process that runs what users have written.
    runner: AtomicI32,
    runner_latch: AtomicPtr<pg_sys::Latch>,
    /// There is something for it.
    wants_runner: AtomicBool,
    /// Jobs that somebody waits for.
    pub wishes: Wishes,
    /// The process that listens for HTTP.
    gateway: AtomicI32,
    /// The runner wants pages of Klaviyo.
    reads: AtomicBool,
    pending: AtomicBool,
    configuration: AtomicBool,
    /// What its accounts have spent of their budgets is on the board.
    shown: AtomicBool,
    low_water: AtomicI64,
}

/// What lies in shared memory.
#[repr(C)]
pub struct Shared {
    launcher: AtomicPtr<pg_sys::Latch>,
    /// A database that has just got the extension; `EVERY` if there were several.
    announced: AtomicU32,
    /// Databases have changed.
    look: AtomicBool,
    /// Databases whose workers are held off.
    pub holds: Holds,
    slots: [Slot; MAX_DATABASES],
}

/// Stands for all databases in `announced`. No database has this OID (`access/transam.h`: OIDs wrap before it).
pub const EVERY: u32 = u32::MAX;

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(std::ptr::null_mut());

/// The shared memory; none where the server has not preloaded us.
pub fn shared() -> Option<&'static Shared> {
    // SAFETY: set once in the postmaster to memory that outlives every process, and inherited by them; zeroed there,
    // which is a valid Shared. All of it is atomics.
    unsafe { SHARED.load(SeqCst).as_ref() }
}

/// Slots in use.
pub fn used() -> usize {
    usize::try_from(crate::settings::MAX_DATABASES.get()).unwrap_or(1).min(MAX_DATABASES)
}

/// Bytes of the slots and of the gauges behind them.
fn size() -> usize {
    size_of::<Shared>() + board::size()
}

/// Asks for the memory. In the postmaster, while it loads libraries.
pub fn request() {
    // SAFETY: hooks are chained as Postgres asks for it; the statics are only touched in the postmaster, which has one
    // thread.
    unsafe {
        #[cfg(feature = "pg14")]
        pg_sys::RequestAddinShmemSpace(size());
        #[cfg(not(feature = "pg14"))]
        {
            PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
            pg_sys::shmem_request_hook = Some(on_request);
        }
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(on_startup);
    }
}

#[cfg(not(feature = "pg14"))]
static mut PREVIOUS_REQUEST: Option<unsafe extern "C-unwind" fn()> = None;
/// `AddinShmemInitLock`, number 21 in every major from 14 to 18 (storage/lwlocknames.txt, lwlocklist.h).
const ADDIN_SHMEM_INIT_LOCK: usize = 21;

static mut PREVIOUS_STARTUP: Option<unsafe extern "C-unwind" fn()> = None;

#[cfg(not(feature = "pg14"))]
#[pg_guard]
unsafe extern "C-unwind" fn on_request() {
    // SAFETY: see `request`.
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            pg_sys::ffi::pg_guard_ffi_boundary(|| previous());
        }
        pg_sys::RequestAddinShmemSpace(size());
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_startup() {
    // SAFETY: see `request`. The memory is zeroed under the lock the header asks for (storage/shmem.h).
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            pg_sys::ffi::pg_guard_ffi_boundary(|| previous());
        }
        let lock = &raw mut (*pg_sys::MainLWLockArray.add(ADDIN_SHMEM_INIT_LOCK)).lock;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let mut found = false;
        let memory: *mut Shared =
            pg_sys::ShmemInitStruct(c"klaviyo_sync".as_ptr(), size(), &mut found).cast();
        if !found {
            memory.cast::<u8>().write_bytes(0, size());
        }
        pg_sys::LWLockRelease(lock);
        SHARED.store(memory, SeqCst);
        board::place_at(memory.add(1).cast());
    }
}

impl Shared {
    /// The slots in use.
    pub fn slots(&self) -> &[Slot] {
        &self.slots[..used()]
    }

    pub fn slot_of(&self, database: pg_sys::Oid) -> Option<&Slot> {
        self.number_of(database).map(|number| &self.slots[number])
    }

    /// The number of a database's slot.
    pub fn number_of(&self, database: pg_sys::Oid) -> Option<usize> {
        self.slots().iter().position(|slot| slot.database() == database)
    }

    /// Whether all databases that may have a worker have shown what they have spent. Right after the server's start the
    /// board is empty, and says nothing of the last minute.
    pub fn have_all_shown(&self) -> bool {
        self.slots().iter().all(|slot| {
            let never =
                slot.is_free() || slot.state() == state::ABSENT || self.holds.contain(slot.database());
            never || slot.shown.load(SeqCst)
        })
    }

    /// The launcher says where to reach it.
    pub fn set_launcher(&self, latch: *mut pg_sys::Latch) {
        self.launcher.store(latch, SeqCst);
    }

    /// A database has got the extension.
    pub fn announce(&self, database: pg_sys::Oid) {
        let mine = u32::from(database);
        if self.announced.compare_exchange(0, mine, SeqCst, SeqCst).is_err_and(|other| other != mine) {
            self.announced.store(EVERY, SeqCst);
        }
        set_latch(&self.launcher);
    }

    /// Has the launcher look which databases there are and who is held off.
    pub fn ask_to_look(&self) {
        self.look.store(true, SeqCst);
        set_latch(&self.launcher);
    }

    /// Whether somebody has asked for that since the last look.
    pub fn take_look(&self) -> bool {
        self.look.swap(false, SeqCst)
    }

    /// What has been announced since the last look: 0 for nothing, or [`EVERY`].
    pub fn take_announced(&self) -> u32 {
        self.announced.swap(0, SeqCst)
    }
}

impl Slot {
    pub fn database(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.database.load(SeqCst))
    }

    pub fn is_free(&self) -> bool {
        self.database.load(SeqCst) == 0
    }

    /// The launcher gives the free slot to a database.
    pub fn assign(&self, database: pg_sys::Oid) {
        self.state.store(state::WANTED, SeqCst);
        self.pending.store(false, SeqCst);
        self.wants_runner.store(false, SeqCst);
        self.reads.store(false, SeqCst);
        self.wishes.take();
        self.shown.store(false, SeqCst);
        self.low_water.store(0, SeqCst);
        self.database.store(u32::from(database), SeqCst);
    }

    /// The launcher takes the slot back.
    pub fn release(&self) {
        self.database.store(0, SeqCst);
    }

    pub fn state(&self) -> u32 {
        self.state.load(SeqCst)
    }

    pub fn set_state(&self, state: u32) {
        self.state.store(state, SeqCst);
    }

    pub fn pid(&self) -> Option<i32> {
        Some(self.pid.load(SeqCst)).filter(|pid| *pid != 0)
    }

    /// A worker takes the slot as its own. False if another one has it, which must end first.
    pub fn enter(&self, pid: i32, latch: *mut pg_sys::Latch) -> bool {
        if self.pid.compare_exchange(0, pid, SeqCst, SeqCst).is_err() {
            return false;
        }
        self.latch.store(latch, SeqCst);
        true
    }

    /// The worker is about to end.
    pub fn leave(&self, pid: i32) {
        if self.pid.load(SeqCst) == pid {
            self.latch.store(std::ptr::null_mut(), SeqCst);
            self.pid.store(0, SeqCst);
        }
    }

    pub fn runner(&self) -> Option<i32> {
        Some(self.runner.load(SeqCst)).filter(|pid| *pid != 0)
    }

    /// A runner takes its place in the slot. False if another one has it.
    pub fn enter_runner(&self, pid: i32, latch: *mut pg_sys::Latch) -> bool {
        if self.runner.compare_exchange(0, pid, SeqCst, SeqCst).is_err() {
            return false;
        }
        self.runner_latch.store(latch, SeqCst);
        true
    }

    /// The runner is about to end.
    pub fn leave_runner(&self, pid: i32) {
        if self.runner.load(SeqCst) == pid {
            self.runner_latch.store(std::ptr::null_mut(), SeqCst);
            self.runner.store(0, SeqCst);
            // What came after its last look another one has to do.
            if self.wants_runner.load(SeqCst) {
                set_latch(&self.latch);
            }
        }
    }

    pub fn gateway(&self) -> Option<i32> {
        Some(self.gateway.load(SeqCst)).filter(|pid| *pid != 0)
    }

    /// A gateway takes its place in the slot. False if another one has it.
    pub fn enter_gateway(&self, pid: i32) -> bool {
        self.gateway.compare_exchange(0, pid, SeqCst, SeqCst).is_ok()
    }

    /// The gateway is about to end.
    pub fn leave_gateway(&self, pid: i32) {
        let _ = self.gateway.compare_exchange(pid, 0, SeqCst, SeqCst);
    }

    /// There is something for the runner: it looks, or the worker starts one.
    pub fn want_runner(&self) {
        self.wants_runner.store(true, SeqCst);
        if self.runner.load(SeqCst) == 0 {
            set_latch(&self.latch);
        } else {
            set_latch(&self.runner_latch);
        }
    }

    /// Whether somebody has said so since the last look. For the runner, or for the worker where there is none.
    pub fn take_want_of_runner(&self) -> bool {
        self.wants_runner.swap(false, SeqCst)
    }

    /// Somebody waits for that. For the runner.
    pub fn wish(&self, wish: &Wish) {
        self.wishes.leave(wish);
        self.want_runner();
    }

    /// There are pages to be asked for.
    pub fn ask_to_read(&self) {
        if !self.reads.swap(true, SeqCst) {
            set_latch(&self.latch);
        }
    }

    /// Whether somebody has said so since the last look.
    pub fn take_reads(&self) -> bool {
        self.reads.swap(false, SeqCst)
    }

    /// To be set when what its accounts have spent is on the board.
    pub fn shown(&self) -> &AtomicBool {
        &self.shown
    }

    /// The number of the outbox below which nothing waits.
    pub fn low_water(&self) -> i64 {
        self.low_water.load(SeqCst)
    }

    pub fn set_low_water(&self, seq: i64) {
        self.low_water.store(seq, SeqCst);
    }

    /// Something was committed.
    pub fn tell(&self, configuration: bool) {
        if configuration {
            self.configuration.store(true, SeqCst);
        }
        // Where it is set, whoever set it rings, and the worker reads what is committed after it has taken it back.
        if !self.pending.swap(true, SeqCst) || configuration {
            set_latch(&self.latch);
        }
    }

    /// Whether something was committed since the last look.
    pub fn take_pending(&self) -> bool {
        self.pending.swap(false, SeqCst)
    }

    /// Whether accounts were changed since the last look, which this is not.
    pub fn has_configuration(&self) -> bool {
        self.configuration.load(SeqCst)
    }

    /// Whether accounts were changed since the last look.
    pub fn take_configuration(&self) -> bool {
        self.configuration.swap(false, SeqCst)
    }
}

/// Sets the latch of a process, if it has one. Latches of processes lie in shared memory for as long as the server
/// runs, so at worst another process is woken for nothing.
fn set_latch(latch: &AtomicPtr<pg_sys::Latch>) {
    let latch = latch.load(SeqCst);
    if !latch.is_null() {
        // SAFETY: a latch of shared memory; SetLatch (storage/ipc/latch.c) cannot fail.
        unsafe { pg_sys::SetLatch(latch) };
    }
}
