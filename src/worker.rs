//! The processes: one launcher a cluster, one worker a database. See `worker/README.md` for their states.

mod accounts;
mod alarms;
mod board;
mod cleaner;
mod daily;
mod database;
mod direct_calls;
mod gateway;
mod handlers;
mod hold;
mod launcher;
mod process;
mod puller;
mod purger;
mod recorder;
mod runner;
mod slots;
mod upkeep;
mod version;
mod wishes;
mod writer;

pub use slots::MAX_DATABASES;
pub use wishes::Wish;

use delivery::gauges::AccountGauges;

use crate::pg;
use crate::pg::transaction::{AtCommit, at_commit};
use crate::pg::utility::{self, Statement};
use crate::settings;

/// Called while the postmaster loads us: asks for shared memory, for the launcher, and to be told of statements.
pub fn register() {
    slots::request();
    launcher::register();
    utility::install();
}

/// Whether this server has loaded us at its start, so that there is a launcher.
pub fn is_loaded() -> bool {
    slots::shared().is_some()
}

/// Process id of this database's worker: None while there is none, -1 when there cannot be one.
pub fn pid() -> Option<i32> {
    let Some(shared) = slots::shared() else { return Some(-1) };
    shared.slot_of(pg::database()).and_then(|slot| slot.pid())
}

/// The gauges of this database's accounts; none where it has no worker.
pub fn gauges() -> &'static [AccountGauges] {
    let number = slots::shared().and_then(|shared| shared.number_of(pg::database()));
    number.map(board::of_slot).unwrap_or_default()
}

/// The number of this database's outbox below which nothing waits; 0 where nobody knows.
pub fn low_water() -> i64 {
    let slot = slots::shared().and_then(|shared| shared.slot_of(pg::database()));
    slot.map(|slot| slot.low_water()).unwrap_or_default()
}

/// Has the worker of this database find out what an account's key may do. False if there is none that knows it.
pub fn ask_for_check(name: &str) -> bool {
    let slot = slots::shared().and_then(|shared| shared.slot_of(pg::database()));
    let account = gauges().iter().find(|account| account.name() == name);
    let (Some(slot), Some(account)) = (slot, account) else { return false };
    account.ask_for_check();
    slot.tell(true);
    true
}

/// Called before a statement that is not indifferent to workers.
pub fn before(statement: Statement) {
    match statement {
        Statement::NeedsDatabase(database) => hold::take(database),
        Statement::ChangesExtension => at_commit(AtCommit { configuration: true, ..AtCommit::default() }),
    }
}

/// Has the runner of this database have a job run.
pub fn wish(wish: &Wish) {
    if let Some(slot) = slots::shared().and_then(|shared| shared.slot_of(pg::database())) {
        slot.wish(wish);
    }
}

/// Tells the worker of this database, or the launcher, what has just been committed. Atomics and a latch only: this
/// runs where an error would take the server down.
pub fn tell(note: AtCommit) {
    let Some(shared) = slots::shared() else { return };
    if note.announce {
        shared.announce(pg::database());
    }
    let slot = shared.slot_of(pg::database());
    if let Some(slot) = slot.filter(|_| note.runner) {
        slot.want_runner();
    }
    let configuration = note.configuration || note.announce;
    // While nothing is sent nothing is read. All that waits is read when that ends; what a session queues then that has
    // not heard of it yet, the poll finds.
    let is_news = configuration || (note.wake && settings::ENABLED.get());
    if !is_news {
        return;
    }
    if let Some(slot) = slot {
        // A worker that is just finding out that there is no extension finds out that it was wrong.
        slot.tell(configuration);
    }
}
