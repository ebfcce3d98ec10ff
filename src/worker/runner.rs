//! The runner of a database: the process that runs what its users have written, so that nothing of theirs is ever in the way
//! of delivery: backfills, and handlers of webhooks. And what reads all history, for its length. The worker starts it when
//! there is something to do; it ends when there is not.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum, pg_sys};

use super::cleaner::{self, Cleaning};
use super::handlers::{Handlers, Telling};
use super::process::{self, attempt, attempt_any, transaction};
use super::puller::{self, Pulling};
use super::purger::{Purger, Purging};
use super::slots::{Slot, shared};
use super::version::Extension;
use super::writer::{Writer, Writing};
use crate::capture::backfill::{self, chunk, notes};
use crate::capture::write_back;
use crate::inbound;
use crate::outbox::{purge, secrets, waiting};
use crate::pull::{clean_up, due};

/// Rows of a chunk: few at first, for nobody knows what they take.
const FIRST: usize = 16;
const MOST: usize = 1_000;

/// What a chunk may take before the next is smaller: snapshots are not held for long, and memory is bounded.
const LONG: Duration = Duration::from_millis(400);
const LARGE: usize = 4 << 20;

/// Rows of an account's backfills that may wait to be sent, by kind: some seconds' work at Klaviyo's limits, and no more than find room in
/// the worker's memory (delivery::room), or what waits outside would be in the way of others.
const EVENTS_WAITING: usize = 5_000;
const PROFILES_WAITING: usize = 10_000;

/// Rows that may fail one after the other before it is thought to be no row's fault.
const ROWS: usize = 10;

/// How often a row is tried again at once that somebody has changed in the same moment.
const TRIES: usize = 10;

/// How soon it looks whether there is room again, and for backfills that others have begun, paused or resumed; it looks less
/// often, up to every [`AGAIN`], while nothing moves.
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
    if slot.is_free() || !slot.enter_runner(process::pid(), process::latch()) {
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
        Runner::default().serve(slot);
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
    slot.runner().is_none() && (slot.wishes.are_any() || has_work())
}

/// What cannot be found out is no reason to deliver nothing.
fn has_work() -> bool {
    let found = attempt(
        c"looking for the runner's work",
        |_| true,
        || {
            Ok(!backfill::running()?.is_empty()
                || purge::is_due()?
                || inbound::handlers::is_due()?
                || due::is_any()?
                || clean_up::is_any()?
                || write_back::task::is_any()?
                || secrets::is_any()?)
        },
    );
    found.unwrap_or_else(|error| {
        log!("klaviyo_sync: whether there is work for the runner cannot be found out: {error}");
        false
    })
}

#[derive(Default)]
struct Runner {
    backfills: HashMap<i32, Backfill>,
    purger: Purger,
    handlers: Handlers,
    writer: Writer,
}

/// What is known of a backfill while the process lives.
struct Backfill {
    /// Rows of the next chunk.
    size: usize,
    account: String,
    kind: &'static str,
    /// The messages that may still wait, chunk by chunk.
    waiting: Vec<Vec<i64>>,
    /// Rows that have failed, one after the other.
    failed: usize,
    /// Tries of one row that others were in the way of, one after the other.
    disturbed: usize,
    /// Not before then.
    again_at: Option<Instant>,
}

impl Default for Backfill {
    fn default() -> Self {
        Self {
            size: FIRST,
            account: String::new(),
            kind: "event",
            waiting: Vec::new(),
            failed: 0,
            disturbed: 0,
            again_at: None,
        }
    }
}

impl Runner {
    /// Works on all there are, a chunk of each in turn, until there are none.
    fn serve(&mut self, slot: &Slot) {
        // What is read of a table and what is noted of it is seen as it was at one moment. Nobody is waited for so long that
        // a deadlock is found (deadlock_timeout, a second unless set): so it is never a user's statement that fails for one.
        transaction(c"beginning", || {
            Spi::run("SET default_transaction_isolation = 'repeatable read'")?;
            Spi::run("SET lock_timeout = '500ms'")
        });
        let mut idle = LOOK;
        while !process::is_terminating() {
            // Before it looks: what comes after that is told anew.
            if slot.take_want_of_runner() {
                idle = LOOK;
            }
            let running = transaction(c"looking for backfills", backfill::running);
            let (purging, telling) = (self.purger.work(), self.handlers.work());
            let (pulling, writing, cleaning) = (puller::work(slot), self.writer.work(), cleaner::work());
            let adopted = adopt();
            let rests = purging == Purging::Nothing
                && telling == Telling::Nothing
                && pulling == Pulling::Nothing
                && writing == Writing::Nothing
                && cleaning == Cleaning::Nothing;
            if running.is_empty() && rests && !forget() {
                return;
            }
            // What was queued of those that have ended still takes room.
            self.backfills.retain(|id, it| running.contains(id) || it.waiting() > 0);
            let mut worked = purging == Purging::Piece
                || telling == Telling::Call
                || pulling == Pulling::Page
                || writing == Writing::Profile
                || cleaning == Cleaning::Run
                || adopted;
            for id in running {
                if process::is_terminating() {
                    return;
                }
                worked |= self.work(id);
            }
            idle = if worked { LOOK } else { (idle * 2).min(AGAIN) };
            process::wait(if worked { Duration::ZERO } else { idle }, None);
        }
    }

    /// Queues a chunk of a backfill, if there is room for one. Whether it has got on.
    fn work(&mut self, id: i32) -> bool {
        let backfill = self.backfills.entry(id).or_default();
        if backfill.again_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let (account, kind, size) = (backfill.account.clone(), backfill.kind, backfill.size);
        // An account that sends nothing just now is in no other's way.
        let alike = self.backfills.values_mut().filter(|it| it.kind == kind && it.account == account);
        let waiting: usize = alike.map(Backfill::waiting).sum();
        let most = if kind == "event" { EVENTS_WAITING } else { PROFILES_WAITING };
        waiting + size <= most && self.backfills.entry(id).or_default().queue(id)
    }
}

/// Has webhooks that Klaviyo has made for us be known. Whether there were any.
fn adopt() -> bool {
    transaction(c"looking for webhooks", secrets::is_any)
        && attempt(c"adopting webhooks", |_| true, secrets::adopt).is_ok_and(|adopted| adopted > 0)
}

/// Forgets what is noted for nothing. Whether there was anything.
fn forget() -> bool {
    attempt(c"forgetting keys", |_| true, notes::forget).is_ok_and(|forgotten| forgotten > 0)
}

impl Backfill {
    fn queue(&mut self, id: i32) -> bool {
        self.again_at = None;
        // If it is one row that fails, which one.
        let key =
            if self.size == 1 { attempt(c"backfill", |_| true, || chunk::next_key(id)) } else { Ok(None) };
        let began = Instant::now();
        match attempt_any(c"backfill", || chunk::queue(id, self.size)) {
            Ok(Some(done)) => {
                self.kind = done.kind;
                self.account = done.account;
                (self.failed, self.disturbed) = (0, 0);
                self.resize(began.elapsed(), done.bytes);
                if !done.seqs.is_empty() {
                    self.waiting.push(done.seqs);
                }
                done.more
            }
            Ok(None) => self.wait(),
            Err((code, error)) => {
                let fault = Fault::of(code, began.elapsed());
                self.failed(id, fault, key.ok().flatten(), &error)
            }
        }
    }

    /// How many of its messages still wait.
    fn waiting(&mut self) -> usize {
        self.waiting.retain(|chunk| transaction(c"looking what waits", || waiting::any_of(chunk)));
        self.waiting.iter().map(Vec::len).sum()
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

    fn wait(&mut self) -> bool {
        self.again_at = Some(Instant::now() + AGAIN);
        false
    }

    /// Finds the row whose fault it is, by chunks that become smaller, and puts it aside; where it is none's, tries again.
    /// Whether it has got on.
    fn failed(&mut self, id: i32, fault: Fault, key: Option<Vec<String>>, error: &str) -> bool {
        if self.size > 1 && matches!(fault, Fault::Row | Fault::Others) {
            self.size /= 2;
            return true;
        }
        match (fault, key) {
            (Fault::Others, _) if self.disturbed < TRIES => {
                self.disturbed += 1;
                return true;
            }
            (Fault::Row, Some(_)) if self.failed >= ROWS => {
                self.failed = 0;
                self.note(id, &format!("{ROWS} rows one after the other fail: {error}"), true);
            }
            (Fault::Row, Some(key)) => {
                match attempt(c"backfill", |_| true, || chunk::bury(id, &key, error)) {
                    Ok(Some(_)) => {
                        self.failed += 1;
                        return true;
                    }
                    // It is another one by now.
                    Ok(None) => {}
                    Err(other) => self.note(id, &other, false),
                }
            }
            (fault, _) => {
                self.size = (self.size / 2).max(1);
                self.disturbed = 0;
                self.note(id, error, fault == Fault::Mapping);
            }
        }
        self.wait()
    }

    fn note(&self, id: i32, error: &str, pause: bool) {
        if let Err(error) = attempt(c"backfill", |_| true, || chunk::note(id, error, pause)) {
            log!("klaviyo_sync: what is in the way of backfill {id} cannot be written down: {error}");
        }
    }
}

/// Whose fault an error is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Row,
    /// Somebody has changed a row in the same moment.
    Others,
    /// No row can be computed as the mapping is now.
    Mapping,
    /// A lock, the disk, somebody who cancels.
    Moment,
}

impl Fault {
    /// By the error's class, the first two of its five characters (utils/elog.h: six bits each), and after how long it came.
    fn of(code: PgSqlErrorCode, after: Duration) -> Self {
        const fn class(name: &[u8; 2]) -> i32 {
            (name[0] - b'0') as i32 | ((name[1] - b'0') as i32) << 6
        }
        match code as i32 & 0xfff {
            // What takes too long is a row's doing, if the chunk has no other.
            _ if code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED && after >= chunk::TIMEOUT_LOCKED => {
                Self::Row
            }
            it if it == class(b"40") => Self::Others,
            it if it == class(b"42") || it == class(b"3F") => Self::Mapping,
            it if [b"08", b"25", b"53", b"55", b"57", b"58"].iter().any(|name| it == class(name)) => {
                Self::Moment
            }
            _ => Self::Row,
        }
    }
}
