//! The launcher: finds the databases and keeps a worker in each that has the extension.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use pgrx::bgworkers::{
    BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime, DynamicBackgroundWorker,
};
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};

use super::slots::{EVERY, Shared, Slot, shared, state};
use super::{board, process};

/// How often it looks for databases nobody told it of.
const LOOK: Duration = Duration::from_secs(10);

/// How often it asks again the databases that were without the extension, though none was announced: a prepared
/// transaction that is committed announces nothing.
const ASK_AGAIN: Duration = Duration::from_secs(600);

/// The pause after a worker that ended at once; it doubles up to `LONGEST_PAUSE`.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often it looks whether those who hold workers off are still there.
const CHECK_HOLDS: Duration = Duration::from_secs(1);

/// A worker that lived so long did not end at once.
const LIVED: Duration = Duration::from_secs(10);

/// Registers the launcher, while the postmaster loads us.
pub fn register() {
    BackgroundWorkerBuilder::new("klaviyo_sync launcher")
        .set_type("klaviyo_sync launcher")
        .set_library("klaviyo_sync")
        .set_function("klaviyo_launcher_main")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(PAUSE))
        .load();
}

/// What the launcher knows of a slot's worker.
struct Worker {
    handle: Option<DynamicBackgroundWorker>,
    started: Instant,
    /// Not before then; and how long the pause before was.
    start_at: Instant,
    pause: Duration,
}

impl Worker {
    fn new(now: Instant) -> Self {
        Self { handle: None, started: now, start_at: now, pause: Duration::ZERO }
    }
}

struct Launcher {
    shared: &'static Shared,
    workers: HashMap<usize, Worker>,
    /// Databases that were found to be without the extension.
    without: HashSet<pg_sys::Oid>,
    /// What was complained about last, so as not to say it again and again.
    complaint: Option<String>,
}

/// The process.
///
/// # Safety
/// Called by the postmaster.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn klaviyo_launcher_main(_argument: pg_sys::Datum) {
    process::handle_signals();
    process::connect(None);
    let Some(shared) = shared() else { return };
    shared.set_launcher(process::latch());
    let mut launcher = Launcher { shared, workers: HashMap::new(), without: HashSet::new(), complaint: None };
    // Workers of an earlier launcher go on; their slots say so.
    let mut look_at = Instant::now();
    let mut ask_again_at = look_at + ASK_AGAIN;
    while !process::is_terminating() {
        let now = Instant::now();
        if now >= ask_again_at {
            launcher.without.clear();
            ask_again_at = now + ASK_AGAIN;
        }
        let ended = launcher.reap(now);
        // A worker that has ended may have left a place to others, or its database may be gone.
        if launcher.heard() || ended || now >= look_at {
            launcher.find_databases(now);
            look_at = now + LOOK;
        }
        let next = launcher.start(now).unwrap_or(look_at).min(look_at);
        process::wait(next.saturating_duration_since(Instant::now()), None);
    }
    // Terminated by hand it comes back, for without it no worker would.
    process::end(1);
}

impl Launcher {
    /// Whether there are news of databases; one that was announced is then asked anew.
    fn heard(&mut self) -> bool {
        let look = self.shared.take_look();
        match self.shared.take_announced() {
            0 => return look,
            EVERY => self.without.clear(),
            database => {
                self.without.remove(&pg_sys::Oid::from(database));
            }
        }
        true
    }

    /// Gives slots to databases that may have the extension, and takes them from those that are gone.
    fn find_databases(&mut self, now: Instant) {
        let databases = process::transaction(c"looking for databases", || Ok(databases()));
        self.without.retain(|database| databases.contains(database));
        for (number, slot) in self.shared.slots().iter().enumerate() {
            let gone = !slot.is_free() && !databases.contains(&slot.database());
            if gone && slot.state() == state::WANTED && slot.pid().is_none() {
                slot.release();
                self.workers.remove(&number);
            }
        }
        let mut left_out = 0;
        for database in databases {
            if self.without.contains(&database) || self.shared.slot_of(database).is_some() {
                continue;
            }
            match self.shared.slots().iter().enumerate().find(|(_, slot)| slot.is_free()) {
                Some((number, slot)) => {
                    board::clear(number);
                    slot.assign(database);
                    self.workers.insert(number, Worker::new(now));
                }
                None => left_out += 1,
            }
        }
        // While slots are still busy finding out, there is nothing to complain about.
        let settled = self.shared.slots().iter().all(|slot| slot.pid().is_some());
        if left_out > 0 && settled {
            self.complain(format!(
                "{left_out} databases may need a worker and get none: raise klaviyo.max_databases"
            ));
        }
    }

    /// Deals with workers that have ended. Returns whether any has.
    fn reap(&mut self, now: Instant) -> bool {
        let mut any = false;
        for (number, slot) in self.shared.slots().iter().enumerate() {
            if slot.is_free() {
                continue;
            }
            // A worker of an earlier launcher is not ours to wait for; it has ended when its slot has no pid.
            let worker = self.workers.entry(number).or_insert_with(|| Worker::new(now));
            let ended = match &worker.handle {
                Some(handle) => matches!(handle.pid(), Err(BackgroundWorkerStatus::Stopped)),
                None => slot.state() != state::WANTED && slot.pid().is_none(),
            };
            if !ended {
                continue;
            }
            any = true;
            worker.handle = None;
            if slot.pid().is_some() {
                // It gave way to one that an earlier launcher started, and which goes on.
                continue;
            }
            if slot.state() == state::ABSENT && slot.take_pending() {
                // It looked just before the extension was made.
                *worker = Worker::new(now);
                slot.set_state(state::WANTED);
                continue;
            }
            if slot.state() == state::ABSENT {
                self.without.insert(slot.database());
                slot.release();
                self.workers.remove(&number);
                continue;
            }
            let lived = now.saturating_duration_since(worker.started) >= LIVED
                || self.shared.holds.contain(slot.database());
            worker.pause =
                if lived { Duration::ZERO } else { (worker.pause * 2).clamp(PAUSE, LONGEST_PAUSE) };
            worker.start_at = now + worker.pause;
            slot.set_state(state::WANTED);
        }
        any
    }

    /// Starts the workers that are due. Says when the next one is.
    fn start(&mut self, now: Instant) -> Option<Instant> {
        // Who holds workers off tells when he is done; this is for one who cannot.
        let mut next = self.shared.holds.check().then(|| now + CHECK_HOLDS);
        for (number, slot) in self.shared.slots().iter().enumerate() {
            if slot.is_free() || slot.state() != state::WANTED || slot.pid().is_some() {
                continue;
            }
            if self.shared.holds.contain(slot.database()) {
                continue;
            }
            let Some(worker) = self.workers.get_mut(&number) else { continue };
            if worker.start_at <= now {
                match register_worker(number, slot) {
                    Some(handle) => {
                        worker.handle = Some(handle);
                        worker.started = now;
                        self.complaint = None;
                        continue;
                    }
                    None => {
                        worker.pause = (worker.pause * 2).clamp(PAUSE, LONGEST_PAUSE);
                        worker.start_at = now + worker.pause;
                        let text = "no background worker is free for a database: raise max_worker_processes";
                        if self.complaint.as_deref() != Some(text) {
                            self.complaint = Some(text.to_owned());
                            ereport!(
                                PgLogLevel::WARNING,
                                PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                                text,
                                "Its messages wait. The launcher tries again."
                            );
                        }
                    }
                }
            }
            next = Some(next.map_or(worker.start_at, |next| next.min(worker.start_at)));
        }
        next
    }

    fn complain(&mut self, text: String) {
        if self.complaint.as_ref() != Some(&text) {
            ereport!(PgLogLevel::WARNING, PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, text.clone());
            self.complaint = Some(text);
        }
    }
}

fn register_worker(number: usize, slot: &Slot) -> Option<DynamicBackgroundWorker> {
    slot.set_state(state::STARTED);
    let started = BackgroundWorkerBuilder::new("klaviyo_sync worker")
        .set_type("klaviyo_sync worker")
        .set_library("klaviyo_sync")
        .set_function("klaviyo_worker_main")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        // The launcher starts it again: the postmaster would not after an exit without error.
        .set_restart_time(None)
        .set_argument(i32::try_from(number).ok().into_datum())
        .set_notify_pid(process::pid())
        .load_dynamic();
    if started.is_err() {
        slot.set_state(state::WANTED);
    }
    started.ok()
}

/// Databases that can be connected to and are no templates.
fn databases() -> HashSet<pg_sys::Oid> {
    let mut found = HashSet::new();
    // SAFETY: the way get_database_list (postmaster/autovacuum.c) reads the catalogue where there is no database to
    // run a query in: inside a transaction, the relation held open while it is scanned.
    unsafe {
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let row: *const pg_sys::FormData_pg_database = pg_sys::GETSTRUCT(tuple).cast();
            if (*row).datallowconn && !(*row).datistemplate {
                found.insert((*row).oid);
            }
        }
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
    found
}
