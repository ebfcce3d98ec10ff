//! The gauges of all accounts, in shared memory: laid out behind the slots, so many accounts for each of them.

use std::collections::HashSet;
use std::slice;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::SeqCst};

use delivery::gauges::{AccountGauges, Board, Place};

/// Accounts of one database that have gauges. Further ones send all the same: unseen, and with their budget unshared.
const ACCOUNTS: usize = 16;

static MEMORY: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());

/// Gauges there are.
fn number() -> usize {
    super::slots::used() * ACCOUNTS
}

/// Bytes of shared memory.
pub fn size() -> usize {
    number() * (size_of::<AtomicU64>() + size_of::<AccountGauges>())
}

/// Says where the memory is. In the postmaster and, where processes are not forked, in each of them.
pub fn place_at(memory: *mut AtomicU64) {
    MEMORY.store(memory, SeqCst);
}

/// All gauges; none where the server has not preloaded us.
pub fn board() -> Option<Board> {
    let memory = MEMORY.load(SeqCst);
    if memory.is_null() {
        return None;
    }
    // SAFETY: the memory has `size()` bytes that were zeroed, which is valid for both kinds; it outlives every process,
    // and all of it is atomics. The setting that `number` depends on cannot change while the server runs.
    unsafe {
        Some(Board {
            budgets: slice::from_raw_parts(memory, number()),
            accounts: slice::from_raw_parts(memory.add(number()).cast(), number()),
        })
    }
}

/// An account's place, by its slot's number. `accounts` are all there are in the database.
pub fn place(slot: usize, name: &str, accounts: &HashSet<&str>) -> Option<Place> {
    board()?.place(range(slot), name, accounts)
}

/// The gauges of a slot's accounts.
pub fn of_slot(slot: usize) -> &'static [AccountGauges] {
    board().map(|board| &board.accounts[range(slot)]).unwrap_or_default()
}

/// The slot's worker has ended: it wants nothing more, so others need not leave it a part. What it has spent counts on.
pub fn want_nothing(slot: usize) {
    of_slot(slot).iter().flat_map(|account| &account.lanes).for_each(|lane| lane.want(false));
}

/// The slot is another database's from now on.
pub fn clear(slot: usize) {
    if let Some(board) = board() {
        range(slot).for_each(|at| board.clear(at));
    }
}

fn range(slot: usize) -> std::ops::Range<usize> {
    slot * ACCOUNTS..(slot + 1) * ACCOUNTS
}
