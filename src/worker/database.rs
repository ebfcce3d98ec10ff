//! The worker of a database: the one thread that reads the outbox and writes what became of messages.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use delivery::{AccountOptions, Command, Ending, Engine, Gone, Parked, Policy, Report};
use pgrx::prelude::*;
use pgrx::{FromDatum, pg_sys};

use super::accounts::{self, Accounts};
use super::alarms::Alarms;
use super::board;
use super::gateway;
use super::process::{self, NO_ROOM_PAUSE, attempt, is_lack_of_room, transaction};
use super::recorder::{Recorded, Recorder};
use super::runner;
use super::slots::{Shared, Slot, shared, state};
use super::upkeep::Upkeep;
use super::version::{self, Extension};
use crate::outbox::campaign;
use crate::outbox::claim::{Claimed, Claimer};
use crate::outbox::mark::Marks;
use crate::outbox::remove::{Remover, Step};
use crate::pull::read;
use crate::{pg, settings};

mod imports;

use imports::Over;

/// How long to wait for other databases to say what they have spent. One whose worker cannot start must not hold up all.
const INTRODUCTION: Duration = Duration::from_secs(10);

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
    process::give_memory_back();
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
    // Whoever holds workers off says so before he looks for one.
    if shared().is_some_and(|shared| shared.holds.contain(slot.database())) {
        process::end(0);
    }
    process::connect(Some(slot.database()));
    let Some(extension) = version::wait_for_ours(slot) else { process::end(0) };
    match Worker::start(slot, number, extension).and_then(|mut worker| worker.serve()) {
        Ok(()) => process::end(0),
        Err(reason) => error!("klaviyo_sync: the HTTP thread has ended: {reason}"),
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: i32, argument: pg_sys::Datum) {
    let slots = shared().map(|shared| shared.slots()).unwrap_or_default();
    if let Some(slot) = slots.get(argument.value()) {
        // Before another worker can have the slot.
        board::want_nothing(argument.value());
        slot.leave(process::pid());
    }
}

struct Worker {
    slot: &'static Slot,
    /// The slot's.
    number: usize,
    extension: Extension,
    engine: Engine,
    bell: UnixStream,
    accounts: Accounts,
    alarms: Alarms,
    remover: Remover,
    claimer: Claimer,
    recorder: Recorder,
    upkeep: Upkeep,
    /// What has been read of the outbox and not handed over.
    claimed: Vec<Claimed>,
    /// Import jobs whose messages are to be read again.
    over: VecDeque<Over>,
    /// There was no room to raise marks, so nothing is handed over: when to try again.
    held_until: Option<Instant>,
    /// Accounts that the HTTP thread sends for.
    sending: HashSet<Arc<str>>,
    /// Pages that the HTTP thread is to ask for.
    reading: HashMap<i64, String>,
    /// That no background worker is free for a runner the log knows.
    lacks_runner: bool,
    /// The same of a gateway.
    lacks_gateway: bool,
    /// The database's name.
    database: String,
}

/// What has become of the extension a worker began with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Same,
    AnotherVersion,
    /// It has been dropped, and maybe made anew.
    Another,
}

fn gone(_: Gone) -> String {
    "it panicked, see the message before".to_owned()
}

impl Worker {
    /// Starts the HTTP thread and tells it all it must know before the first call.
    fn start(slot: &'static Slot, number: usize, extension: Extension) -> Result<Self, String> {
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
            remover: Remover::default(),
            claimer: Claimer::default(),
            recorder: Recorder::default(),
            upkeep: Upkeep::new(),
            claimed: Vec::new(),
            over: VecDeque::new(),
            held_until: None,
            sending: HashSet::new(),
            reading: HashMap::new(),
            lacks_runner: false,
            lacks_gateway: false,
            database: transaction(c"looking for the database's name", || Ok(pg::database_name())),
        };
        let accounts = worker.accounts.load(number);
        let past =
            transaction(c"reading the last minute", || accounts::past(&accounts, settings::max_in_flight()));
        for (account, past) in past {
            past.keys.iter().for_each(|key| worker.claimer.room.link(&account, key));
            worker.tell(Command::Remember { account, past })?;
        }
        worker.introduce(accounts)?;
        // As they are by now.
        let accounts = worker.accounts.load(number);
        worker.claimer.marks = transaction(c"reading marks", Marks::open);
        worker.look()?;
        worker.follow()?;
        worker.tell_campaigns()?;
        worker.recover();
        worker.configure(accounts)?;
        worker.see_to_gateway();
        Ok(worker)
    }

    /// Tells the thread what earlier workers have made of campaigns, before it is handed anything about one.
    fn tell_campaigns(&self) -> Result<(), String> {
        let known = transaction(c"reading campaigns", campaign::known);
        known.into_iter().try_for_each(|(account, campaign::Known { made, followed })| {
            self.tell(Command::Campaigns { account: account.into(), made, followed })
        })
    }

    /// Shows what its accounts have spent, and waits until the other databases have shown it too: after a start of the
    /// server nobody knows it of the others, and those with the same key would spend the same budget twice.
    fn introduce(&self, accounts: Vec<AccountOptions>) -> Result<(), String> {
        let policy = Policy { max_in_flight: 0, ..settings::policy() };
        self.tell(Command::Configure { accounts, policy, client: settings::client() })?;
        self.tell(Command::Acknowledge { done: self.slot.shown() })?;
        let end = Instant::now() + INTRODUCTION;
        let known = || shared().is_none_or(Shared::have_all_shown);
        while !known() && Instant::now() < end && !process::is_terminating() && !self.engine.has_ended() {
            process::wait(Duration::from_millis(10), None);
        }
        Ok(())
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut poll_at = Instant::now() + settings::poll_interval();
        let mut look_at = None;
        let mut more = true;
        while !process::is_terminating() {
            let others = [look_at, Some(self.upkeep.due_at()), self.recorder.again_at(), self.held_until];
            let wake_at = others.into_iter().flatten().fold(poll_at, Instant::min);
            let more_to_hand_over = (more || !self.claimed.is_empty()) && !self.is_held();
            let more_to_recall = !self.over.is_empty() && self.recorder.again_at().is_none();
            let timeout = match more_to_hand_over || more_to_recall {
                true => Duration::ZERO,
                false => wake_at.saturating_duration_since(Instant::now()),
            };
            let mut reconfigure = process::wait(timeout, Some(self.bell.as_raw_fd()));
            self.answer_bell();
            let now = Instant::now();
            reconfigure |= now >= poll_at;
            // An account that was to send again may have waited for this.
            reconfigure |= self.held_until.is_some_and(|until| until <= now);
            if reconfigure {
                // Also after a reload, which may have made the interval shorter.
                poll_at = now + settings::poll_interval();
            }
            // Taken before anything is read: what is committed after that rings again.
            reconfigure |= self.slot.take_configuration();
            let mut read = self.slot.take_pending() || reconfigure || more;
            read |= look_at.is_some_and(|look_at| look_at <= now);
            if reconfigure {
                match self.reload()? {
                    Found::Same => {}
                    Found::Another => return Ok(()),
                    // Its tables are others' to know. What is under way is recorded if they take it, else sent again.
                    Found::AnotherVersion => break,
                }
            }
            if self.slot.take_reads() {
                self.hand_over_reads()?;
            }
            if self.slot.runner().is_none() && self.slot.take_want_of_runner() {
                self.see_to_runner();
            }
            // Only now, for what was queued after its account was paused or changed must find it so.
            self.hand_over()?;
            // Before anything is recorded: a new day then has its partition.
            self.upkeep.work();
            let reports = self.engine.reports().map_err(gone)?;
            read |= self.settle(reports);
            self.recall()?;
            if read && !self.is_held() {
                let claimed = self.claim();
                more = claimed.more || !claimed.undeliverable.is_empty();
                look_at = claimed.look_again_in.map(|after| Instant::now() + after);
                self.claimed.push(claimed);
            }
        }
        self.stop()
    }

    /// Reads accounts and settings anew, if the extension is still there.
    fn reload(&mut self) -> Result<Found, String> {
        let found = transaction(c"looking for the extension", || {
            Ok(match Extension::find()? {
                Some(extension) if extension == self.extension => Found::Same,
                Some(extension) if extension.oid == self.extension.oid => Found::AnotherVersion,
                Some(_) => Found::Another,
                None => {
                    self.slot.set_state(state::ABSENT);
                    Found::Another
                }
            })
        });
        if found == Found::Same {
            let accounts = self.accounts.load(self.number);
            self.look()?;
            self.recover();
            self.configure(accounts)?;
            self.see_to_runner();
            self.see_to_gateway();
        }
        Ok(found)
    }

    /// Starts the runner, if there is something for it.
    fn see_to_runner(&mut self) {
        if !runner::is_missing(self.slot) {
            return;
        }
        let started = runner::start(self.number);
        if !started && !self.lacks_runner {
            pg::warn(
                PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                "no background worker is free for the runner, which does backfills and purges deleted people",
                "Raise max_worker_processes. It is tried again; messages are delivered meanwhile.",
            );
        }
        self.lacks_runner = !started;
    }

    /// Starts the gateway, if there is to be one.
    fn see_to_gateway(&mut self) {
        if !gateway::is_missing(self.slot, &self.database) {
            return;
        }
        let started = gateway::start(self.number);
        if !started && !self.lacks_gateway {
            pg::warn(
                PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                "no background worker is free for the gateway, which listens for HTTP",
                "Raise max_worker_processes. It is tried again; messages are delivered meanwhile.",
            );
        }
        self.lacks_gateway = !started;
    }

    /// Looks for what others have left in our tables: states put aside, accounts removed, a backlog too large, pages to be read.
    fn look(&mut self) -> Result<(), String> {
        self.slot.set_low_water(self.claimer.low_water());
        let known = self.known_reads();
        let (removals, reads) = transaction(c"looking around", || {
            self.recorder.look()?;
            self.alarms.look()?;
            Ok((self.remover.look()?, read::open(&known)?))
        });
        if !reads.is_empty() {
            // Once their accounts are known to the HTTP thread.
            self.slot.ask_to_read();
        }
        for removal in removals {
            self.claimer.remove(&removal);
            // What was read before: its rows become dead letters.
            self.claimed.iter_mut().for_each(|claimed| claimed.forget(&removal.account));
            // With it are forgotten the reads of another account of that name: they are handed over anew.
            self.reading.retain(|_, account| *account != removal.account);
            self.slot.ask_to_read();
            self.tell(Command::Forget { account: removal.account.into() })?;
        }
        Ok(())
    }

    /// Takes up messages that were tried before, by an earlier worker.
    fn recover(&mut self) {
        let recovered = transaction(c"reading retries", || self.claimer.recover());
        self.claimed.push(recovered);
    }

    fn configure(&mut self, accounts: Vec<AccountOptions>) -> Result<(), String> {
        let open: HashSet<String> = accounts
            .iter()
            .filter(|account| account.session.is_some())
            .map(|account| account.name.to_string())
            .collect();
        self.claimer.open(&open, self.accounts.fresh_from());
        let accounts = if settings::ENABLED.get() { accounts } else { Vec::new() };
        // What an account that may send again has in memory must not go before older messages that were redriven while
        // it could not: those are read first. What is read for the others goes by what was changed of them.
        let opens =
            |account: &AccountOptions| account.session.is_some() && !self.sending.contains(&account.name);
        if accounts.iter().any(opens) {
            let mut closed = accounts.clone();
            closed.iter_mut().filter(|account| opens(account)).for_each(|account| account.session = None);
            self.tell_accounts(closed)?;
            let claimed = self.claim();
            self.claimed.push(claimed);
            if self.slot.has_configuration() {
                // Accounts have changed meanwhile: this is looked at once more, before anything is handed over.
                return Ok(());
            }
            self.hand_over()?;
            if self.is_held() {
                return Ok(());
            }
        }
        let sending = accounts.iter().filter(|account| account.session.is_some());
        self.sending = sending.map(|account| account.name.clone()).collect();
        let checks: Vec<Arc<str>> = accounts
            .iter()
            .filter(|account| account.place.is_some_and(|place| place.take_check()))
            .map(|account| account.name.clone())
            .collect();
        self.tell_accounts(accounts)?;
        checks.into_iter().try_for_each(|account| self.tell(Command::Check { account }))
    }

    fn tell_accounts(&self, accounts: Vec<AccountOptions>) -> Result<(), String> {
        self.tell(Command::Configure { accounts, policy: settings::policy(), client: settings::client() })
    }

    /// One round of reading.
    fn claim(&mut self) -> Claimed {
        let mut removing = false;
        if self.remover.is_busy() {
            let step = transaction(c"putting aside messages", || self.remover.step());
            removing = step != Step::Waiting;
            if let Step::Done(removal) = step {
                self.claimer.removed(&removal);
            }
        }
        let mut claimed = match settings::ENABLED.get() {
            true => transaction(c"reading the outbox", || self.claimer.claim()),
            false => Claimed::default(),
        };
        claimed.more |= removing;
        claimed
    }

    /// Hands over what has been read, if the marks stand above it or can be raised.
    fn hand_over(&mut self) -> Result<(), String> {
        if self.is_held() || !self.raise_marks() {
            return Ok(());
        }
        std::mem::take(&mut self.claimed).into_iter().try_for_each(|claimed| self.dispatch(claimed))
    }

    /// Has pages be asked for that jobs want.
    fn hand_over_reads(&mut self) -> Result<(), String> {
        let known = self.known_reads();
        for (account, read) in transaction(c"looking for reads", || read::open(&known)) {
            self.reading.insert(read.id, account.clone());
            self.tell(Command::Read { account: account.into(), reads: vec![read] })?;
        }
        Ok(())
    }

    fn known_reads(&self) -> Vec<i64> {
        self.reading.keys().copied().collect()
    }

    fn is_held(&self) -> bool {
        self.held_until.is_some_and(|until| Instant::now() < until)
    }

    fn raise_marks(&mut self) -> bool {
        let mut above = HashMap::new();
        for (account, seq) in self.claimed.iter().flat_map(Claimed::highest) {
            if !self.claimer.marks.cover(account, seq) {
                let highest = above.entry(account.to_owned()).or_insert(seq);
                *highest = seq.max(*highest);
            }
        }
        if above.is_empty() {
            return true;
        }
        match attempt(c"raising marks", is_lack_of_room, || Marks::raise(&above)) {
            Ok(()) => {
                self.claimer.marks.raised(above);
                self.held_until = None;
                true
            }
            Err(error) => {
                if self.held_until.is_none() {
                    ereport!(
                        PgLogLevel::WARNING,
                        PgSqlErrorCode::ERRCODE_DISK_FULL,
                        format!("klaviyo_sync: what is to be sent cannot be written down: {error}"),
                        "Until it can, which is tried every few seconds, nothing new is sent."
                    );
                }
                self.held_until = Some(Instant::now() + NO_ROOM_PAUSE);
                false
            }
        }
    }

    fn dispatch(&mut self, claimed: Claimed) -> Result<(), String> {
        if !claimed.messages.is_empty() {
            // Nothing leaves before it is as safe here as it will be there.
            pg::transaction::flush();
        }
        // First, for what is under way then does not come back.
        for (account, requests) in claimed.requests {
            self.tell(Command::Discard { account: account.into(), requests })?;
        }
        for (account, messages) in claimed.messages {
            self.tell(Command::Add { account: account.into(), messages })?;
        }
        self.recorder.add(claimed.undeliverable.into_iter().map(|aside| aside.outcome).collect());
        Ok(())
    }

    /// Records what the HTTP thread reports. Returns whether that made room for more.
    fn settle(&mut self, reports: Vec<Report>) -> bool {
        self.recorder.take(reports);
        let Some(recorded) = self.recorder.record(&mut self.accounts) else { return false };
        let Recorded { outcomes, lanes, imports, parked, reads, announced } = recorded;
        let mut room = self.imports_stepped(imports) | !parked.is_empty();
        if !announced.is_empty() {
            // As what is handed over: none is made that a crash would make forgotten.
            pg::transaction::flush();
        }
        for (account, id) in announced {
            // In vain where the thread has ended, as it was told to.
            let _ = self.tell(Command::Make { account, id });
        }
        if !reads.is_empty() {
            reads.iter().for_each(|id| _ = self.reading.remove(id));
            self.slot.want_runner();
        }
        for Parked { seq, identifiers } in parked {
            self.claimer.room.park(seq, identifiers);
        }
        for (account, lane) in lanes {
            // In vain where the thread has ended, as it was told to.
            let _ = self.tell(Command::Settled { account, lane });
        }
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
