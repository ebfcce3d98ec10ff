//! The runner of a database: the process that runs what its users have written, so that nothing of theirs is ever in the way
//! of delivery. Now that is backfills. The worker starts it when there is something to do; it ends when there is not.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum, pg_sys};

use super::process::{self, attempt, transaction};
use super::slots::{Slot, shared};
use super::version::Extension;
use crate::capture::backfill::{self, chunk};
use crate::outbox::waiting;

/// Rows of a chunk: few at first, for nobody knows what they take.
const FIRST: usize = 16;
const MOST: usize = 1_000;

/// What a chunk may take before the next is smaller: snapshots are not held for long, and memory is bounded.
const LONG: Duration = Duration::from_millis(400);
const LARGE: usize = 4 << 20;

/// Rows of a backfill that may wait to be sent, by kind: some seconds' work at Klaviyo's limits. States are in jobs of
/// Klaviyo's for minutes.
const EVENTS_WAITING: usize = 5_000;
const PROFILES_WAITING: usize = 50_000;

/// How often it looks whether there is room again, and for backfills that others have begun, paused or resumed.
const LOOK: Duration = Duration::from_millis(50);

/// Before it tries again what was in somebody's way.
const AGAIN: Duration = Duration::from_secs(1);

/// The process.
///
/// # Safety
/// Called by the postmaster with the number of a slot.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn klaviyo_runner_main(argument: pg_sys::Datum) {
    process::handle_signals();
    // SAFETY: the worker passes an int4.
    let number = unsafe { i32::from_datum(argument, false) }.unwrap_or_default();
    let slots = shared().map(|shared| shared.slots()).unwrap_or_default();
    let Ok(number) = usize::try_from(number) else { return };
    let Some(slot) = slots.get(number) else { return };
    if slot.is_free() || !slot.enter_runner(process::pid()) {
        return;
    }
    // SAFETY: the callback finds the slot by the number, in memory that outlives the process.
    unsafe { pg_sys::before_shmem_exit(Some(on_exit), argument) };
    // Whoever holds workers off says so before he looks for one.
    if shared().is_some_and(|shared| shared.holds.contain(slot.database())) {
        process::end(0);
    }
    process::connect(Some(slot.database()));
    let extension = transaction(c"looking for the extension", Extension::find);
    if extension.is_some_and(|extension| extension.is_ours()) {
        Runner::default().serve();
    }
    process::end(0);
}

#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: i32, argument: pg_sys::Datum) {
    let slots = shared().map(|shared| shared.slots()).unwrap_or_default();
    if let Some(slot) = slots.get(argument.value()) {
        slot.leave_runner(process::pid());
    }
}

/// Starts one for a slot. False where no background worker is free.
pub fn start(number: usize) -> bool {
    BackgroundWorkerBuilder::new("klaviyo_sync runner")
        .set_type("klaviyo_sync runner")
        .set_library("klaviyo_sync")
        .set_function("klaviyo_runner_main")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        // The worker starts another while there is something to do.
        .set_restart_time(None)
        .set_argument(i32::try_from(number).ok().into_datum())
        .load_dynamic()
        .is_ok()
}

/// Whether a slot needs one that it has not.
pub fn is_missing(slot: &Slot) -> bool {
    slot.runner().is_none() && !transaction(c"looking for backfills", backfill::running).is_empty()
}

#[derive(Default)]
struct Runner {
    backfills: HashMap<i32, Backfill>,
}

/// What is known of a backfill while the process lives.
struct Backfill {
    /// Rows of the next chunk.
    size: usize,
    /// The messages that may still wait, chunk by chunk.
    waiting: VecDeque<Vec<i64>>,
    most_waiting: usize,
    /// Not before then.
    again_at: Option<Instant>,
}

impl Default for Backfill {
    fn default() -> Self {
        Self { size: FIRST, waiting: VecDeque::new(), most_waiting: EVENTS_WAITING, again_at: None }
    }
}

impl Runner {
    /// Works on all there are, a chunk of each in turn, until there are none.
    fn serve(&mut self) {
        while !process::is_terminating() {
            let running = transaction(c"looking for backfills", backfill::running);
            if running.is_empty() {
                return;
            }
            self.backfills.retain(|id, _| running.contains(id));
            let mut worked = false;
            for id in running {
                if process::is_terminating() {
                    return;
                }
                worked |= self.backfills.entry(id).or_default().work(id);
            }
            process::wait(if worked { Duration::ZERO } else { LOOK }, None);
        }
    }
}

impl Backfill {
    /// Queues a chunk, if there is room for one. Whether it has got on.
    fn work(&mut self, id: i32) -> bool {
        if self.again_at.is_some_and(|at| Instant::now() < at) || !self.has_room() {
            return false;
        }
        self.again_at = None;
        let began = Instant::now();
        let code = Cell::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR);
        let forgive = |error| {
            code.set(error);
            true
        };
        match attempt(c"backfill", forgive, || chunk::queue(id, self.size)) {
            Ok(Some(done)) => {
                self.most_waiting = if done.kind == "event" { EVENTS_WAITING } else { PROFILES_WAITING };
                self.resize(began.elapsed(), done.bytes);
                if !done.seqs.is_empty() {
                    self.waiting.push_back(done.seqs);
                }
                done.more
            }
            Ok(None) => false,
            Err(error) => self.failed(id, code.get(), &error),
        }
    }

    fn has_room(&mut self) -> bool {
        while let Some(first) = self.waiting.front() {
            if transaction(c"looking what waits", || waiting::any_of(first)) {
                break;
            }
            self.waiting.pop_front();
        }
        self.waiting.iter().map(Vec::len).sum::<usize>() + self.size <= self.most_waiting
    }

    fn resize(&mut self, took: Duration, bytes: usize) {
        self.size = if took > LONG || bytes > LARGE {
            self.size / 2
        } else if took < LONG / 4 && bytes < LARGE / 4 {
            self.size * 2
        } else {
            self.size
        }
        .clamp(1, MOST);
    }

    /// Finds the row whose fault it is, by chunks that become smaller, and puts it aside; where it is none's, tries again.
    /// Whether it has got on.
    fn failed(&mut self, id: i32, code: PgSqlErrorCode, error: &str) -> bool {
        let fault = Fault::of(code);
        if fault == Fault::OfTheRow && self.size > 1 {
            self.size /= 2;
            return true;
        }
        if fault == Fault::OfTheRow {
            match attempt(c"backfill", |_| true, || chunk::bury(id, error)) {
                Ok(Some(_)) => return true,
                Ok(None) => {}
                Err(other) => self.note(id, &other, false),
            }
        } else {
            self.size = (self.size / 2).max(1);
            self.note(id, error, fault == Fault::OfTheMapping);
        }
        self.again_at = Some(Instant::now() + AGAIN);
        false
    }

    fn note(&self, id: i32, error: &str, pause: bool) {
        if let Err(error) = attempt(c"backfill", |_| true, || chunk::note(id, error, pause)) {
            log!("klaviyo_sync: backfill {id} cannot be written down: {error}");
        }
    }
}

/// Whose fault an error is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    OfTheRow,
    /// No row can be computed as the mapping is now.
    OfTheMapping,
    /// A lock, the disk, somebody who cancels.
    OfTheMoment,
}

impl Fault {
    /// By the error's class, the first two of its five characters (utils/elog.h: six bits each).
    fn of(code: PgSqlErrorCode) -> Self {
        const fn class(name: &[u8; 2]) -> i32 {
            (name[0] - b'0') as i32 | ((name[1] - b'0') as i32) << 6
        }
        match code as i32 & 0xfff {
            // What takes too long is a row's doing, if the chunk has no other.
            _ if code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED => Self::OfTheRow,
            it if it == class(b"42") || it == class(b"3F") => Self::OfTheMapping,
            it if [b"08", b"25", b"40", b"53", b"54", b"55", b"57", b"58"]
                .iter()
                .any(|name| it == class(name)) =>
            {
                Self::OfTheMoment
            }
            _ => Self::OfTheRow,
        }
    }
}
