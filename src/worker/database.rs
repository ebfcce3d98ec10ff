//! The worker of a database: the one thread that reads the outbox and writes what became of messages.

use std::collections::HashSet;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use delivery::{AccountOptions, Command, Ending, Engine, Gone, Report};
use pgrx::bgworkers::BackgroundWorker;
use pgrx::prelude::*;
use pgrx::{FromDatum, pg_sys};

use super::accounts::{self, Accounts};
use super::alarms::Alarms;
use super::process::{self, transaction};
use super::recorder::{Recorded, Recorder};
use super::slots::{Slot, shared, state};
use super::upkeep::Upkeep;
use crate::outbox::claim::{Claimed, Claimer};
use crate::{pg, settings};

/// How long calls under way may still take when the worker is to end.
const GRACE: Duration = Duration::from_secs(1);

/// The process.
///
/// # Safety
/// Called by the postmaster with the number of a slot.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn klaviyo_worker_main(argument: pg_sys::Datum) {
    process::handle_signals();
    // SAFETY: the launcher passes an int4.
    let number = unsafe { i32::from_datum(argument, false) }.unwrap_or_default();
    let slots = shared().map(|shared| shared.slots()).unwrap_or_default();
    let Ok(number) = usize::try_from(number) else { return };
    let Some(slot) = slots.get(number) else { return };
    if !slot.enter(process::pid(), process::latch()) {
        return;
    }
    // SAFETY: the callback finds the slot by the number, in memory that outlives the process.
    unsafe { pg_sys::before_shmem_exit(Some(on_exit), argument) };
    process::shield_session();
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(slot.database()), None);
    let Some(extension) = transaction(c"starting", accounts::extension) else {
        slot.set_state(state::ABSENT);
        process::end(0);
    };
    match Worker::start(slot, number, extension).and_then(|mut worker| worker.serve()) {
        Ok(()) => process::end(0),
        Err(reason) => error!("klaviyo_sync: the HTTP thread has ended: {reason}"),
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: i32, argument: pg_sys::Datum) {
    let slots = shared().map(|shared| shared.slots()).unwrap_or_default();
    if let Some(slot) = slots.get(argument.value()) {
        slot.leave(process::pid());
    }
}

struct Worker {
    slot: &'static Slot,
    /// The slot's.
    number: usize,
    extension: pg_sys::Oid,
    engine: Engine,
    bell: UnixStream,
    accounts: Accounts,
    alarms: Alarms,
    claimer: Claimer,
    recorder: Recorder,
    upkeep: Upkeep,
    /// Accounts there were when it looked last.
    known: HashSet<Arc<str>>,
}

fn gone(_: Gone) -> String {
    "it panicked, see the message before".to_owned()
}

impl Worker {
    /// Starts the HTTP thread and tells it all it must know before the first call.
    fn start(slot: &'static Slot, number: usize, extension: pg_sys::Oid) -> Result<Self, String> {
        let (bell, ringer) = UnixStream::pair().map_err(|error| error.to_string())?;
        for end in [&bell, &ringer] {
            end.set_nonblocking(true).map_err(|error| error.to_string())?;
        }
        let engine = Engine::start(ringer, settings::policy(), settings::client())?;
        let mut worker = Self {
            slot,
            number,
            extension,
            engine,
            bell,
            accounts: Accounts::default(),
            alarms: Alarms::default(),
            claimer: Claimer::default(),
            recorder: Recorder::default(),
            upkeep: Upkeep::new(),
            known: HashSet::new(),
        };
        let accounts = worker.accounts.load(number);
        let past =
            transaction(c"reading the last minute", || accounts::past(&accounts, settings::max_in_flight()));
        for (account, past) in past {
            past.keys.iter().for_each(|key| worker.claimer.room.link(&account, key));
            worker.tell(Command::Remember { account, past })?;
        }
        worker.recover()?;
        worker.configure(accounts)?;
        Ok(worker)
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut poll_at = Instant::now() + settings::poll_interval();
        let mut look_at = None;
        let mut more = true;
        while !process::is_terminating() {
            let others = [look_at, Some(self.upkeep.due_at()), self.recorder.again_at()];
            let wake_at = others.into_iter().flatten().fold(poll_at, Instant::min);
            let timeout =
                if more { Duration::ZERO } else { wake_at.saturating_duration_since(Instant::now()) };
            let mut reconfigure = process::wait(timeout, Some(self.bell.as_raw_fd()));
            self.answer_bell();
            let now = Instant::now();
            reconfigure |= now >= poll_at;
            if reconfigure {
                // Also after a reload, which may have made the interval shorter.
                poll_at = now + settings::poll_interval();
            }
            // Taken before anything is read: what is committed after that rings again.
            reconfigure |= self.slot.take_configuration();
            let mut read = self.slot.take_pending() || reconfigure || more;
            read |= look_at.is_some_and(|look_at| look_at <= now);
            if reconfigure && !self.reload()? {
                return Ok(());
            }
            // Before anything is recorded: a new day then has its partition.
            self.upkeep.work();
            let reports = self.engine.reports().map_err(gone)?;
            read |= self.settle(reports);
            if read {
                (more, look_at) = self.claim()?;
            }
        }
        self.stop()
    }

    /// Reads accounts and settings anew. False when the extension is gone, or is another one.
    fn reload(&mut self) -> Result<bool, String> {
        let extension = transaction(c"looking for the extension", || {
            let extension = accounts::extension()?;
            if extension == Some(self.extension) {
                self.recorder.look()?;
                self.alarms.look()?;
            }
            Ok(extension)
        });
        if extension != Some(self.extension) {
            if extension.is_none() {
                self.slot.set_state(state::ABSENT);
            }
            return Ok(false);
        }
        let accounts = self.accounts.load(self.number);
        self.recover()?;
        self.configure(accounts)?;
        Ok(true)
    }

    /// Takes up messages that were tried before, by an earlier worker.
    fn recover(&mut self) -> Result<(), String> {
        let recovered = transaction(c"reading retries", || self.claimer.recover());
        self.dispatch(recovered)
    }

    fn configure(&mut self, accounts: Vec<AccountOptions>) -> Result<(), String> {
        let open: HashSet<String> = accounts
            .iter()
            .filter(|account| account.session.is_some())
            .map(|account| account.name.to_string())
            .collect();
        let known: HashSet<Arc<str>> = accounts.iter().map(|account| account.name.clone()).collect();
        for account in std::mem::replace(&mut self.known, known).difference(&self.known) {
            self.claimer.room.forget(account);
            self.tell(Command::Forget { account: account.clone() })?;
        }
        self.claimer.room.open(&open);
        let checks: Vec<Arc<str>> = accounts
            .iter()
            .filter(|account| account.place.is_some_and(|place| place.take_check()))
            .map(|account| account.name.clone())
            .collect();
        let accounts = if settings::ENABLED.get() { accounts } else { Vec::new() };
        self.tell(Command::Configure { accounts, policy: settings::policy(), client: settings::client() })?;
        checks.into_iter().try_for_each(|account| self.tell(Command::Check { account }))
    }

    /// One round of reading. Returns whether there is more to be had at once, and when there may be more.
    fn claim(&mut self) -> Result<(bool, Option<Instant>), String> {
        if !settings::ENABLED.get() {
            return Ok((false, None));
        }
        let claimed = transaction(c"reading the outbox", || self.claimer.claim());
        let more = claimed.more || !claimed.undeliverable.is_empty();
        let look_at = claimed.look_again_in.map(|after| Instant::now() + after);
        self.dispatch(claimed)?;
        Ok((more, look_at))
    }

    fn dispatch(&mut self, claimed: Claimed) -> Result<(), String> {
        if !claimed.messages.is_empty() {
            // Nothing leaves before it is as safe here as it will be there.
            pg::transaction::flush();
        }
        for (account, messages) in claimed.messages {
            self.tell(Command::Add { account: account.into(), messages })?;
        }
        self.recorder.add(claimed.undeliverable);
        Ok(())
    }

    /// Records what the HTTP thread reports. Returns whether that made room for more.
    fn settle(&mut self, reports: Vec<Report>) -> bool {
        self.recorder.take(reports);
        let Some(Recorded { outcomes, lanes }) = self.recorder.record(&mut self.accounts) else {
            return false;
        };
        for (account, lane) in lanes {
            // In vain where the thread has ended, as it was told to.
            let _ = self.tell(Command::Settled { account, lane });
        }
        let mut room = false;
        for outcome in outcomes.iter().filter(|outcome| !matches!(outcome.ending, Ending::Retry { .. })) {
            self.claimer.room.remove(outcome.seq);
            room = true;
        }
        room
    }

    /// Ends: no new calls, a moment for those under way, and what they brought is recorded.
    fn stop(&mut self) -> Result<(), String> {
        process::begin_stopping();
        self.tell(Command::Stop { within: GRACE })?;
        let end = Instant::now() + GRACE + GRACE / 4;
        while Instant::now() < end && !self.engine.has_ended() {
            process::wait(Duration::from_millis(20), Some(self.bell.as_raw_fd()));
            self.answer_bell();
        }
        // By now the thread has ended, or hangs; either way what it said is all there is.
        let reports = self.engine.reports().unwrap_or_default();
        transaction(c"stopping", || Spi::run("SET lock_timeout = '1s'"));
        self.recorder.hurry();
        self.settle(reports);
        Ok(())
    }

    fn answer_bell(&mut self) {
        let mut bytes = [0; 256];
        // Nothing to read, or all of it read: either ends it.
        while self.bell.read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
    }

    fn tell(&self, command: Command) -> Result<(), String> {
        self.engine.tell(command).map_err(gone)
    }
}
