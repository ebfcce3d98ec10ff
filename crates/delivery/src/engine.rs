//! The HTTP thread: owns all accounts, makes the calls, reports what became of them.
//!
//! One thread with a current-thread tokio runtime. Commands come in by a channel; reports go out by another, and a
//! byte on a socket tells the receiver, which sleeps on that socket and has no runtime of its own. Nothing here is
//! bounded by itself: the receiver bounds what it hands in, and no more than that can be on the way out.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use klaviyo::{Answer, Client, ClientOptions, TransportError};
use nix::sys::signal::{SigSet, SigmaskHow};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::account::{Account, AccountOptions, Policy, earlier};
use crate::call::{AnnouncementId, Call};
use crate::deletion::DeletionRequest;
use crate::gauges::Place;
use crate::import::{ImportId, PastImport};
use crate::message::{Message, Report};
use crate::read::Read;

/// What the owner of the outbox tells the thread.
pub enum Command {
    /// These are the accounts and this is the policy from now on. An account not named sends nothing more.
    Configure { accounts: Vec<AccountOptions>, policy: Policy, client: ClientOptions },
    /// What an account's messages of the past taught about keys, and calls that still count against its limits.
    Remember { account: Arc<str>, past: Past },
    /// Say so when all that was told before is done, and shown on the board.
    Acknowledge { done: &'static AtomicBool },
    /// An import job of an earlier life, which locks the keys of its messages.
    Follow { account: Arc<str>, import: PastImport },
    /// What an earlier life has made of campaigns: which messages have made the last of them, and which are followed, by
    /// Klaviyo's ids.
    Campaigns { account: Arc<str>, made: Vec<(Uuid, String)>, followed: Vec<String> },
    /// A call that was announced is written down and may be made.
    Make { account: Arc<str>, id: AnnouncementId },
    /// Nothing more is handed in that is about what an import job has locked.
    Barred { account: Arc<str>, id: ImportId },
    /// Messages of an import job that is over, each with its profile's place in the body; the `last` of them or not.
    Recall { account: Arc<str>, id: ImportId, messages: Vec<(Message, usize)>, last: bool },
    /// Committed messages of one account.
    Add { account: Arc<str>, messages: Vec<Message> },
    /// These people are to be deleted; what waits about them and is of no use for that is reported as discarded.
    Discard { account: Arc<str>, requests: Vec<DeletionRequest> },
    /// Calls that only ask, to be made when there is room for them. A report brings each answer.
    Read { account: Arc<str>, reads: Vec<Read> },
    /// Find out which calls the account's key may make. A report brings the findings.
    Check { account: Arc<str> },
    /// The account is gone: its messages are not ours any more.
    Forget { account: Arc<str> },
    /// The outcomes of one call of that lane are durable.
    Settled { account: Arc<str>, lane: &'static str },
    /// Start no more calls; end when those under way have ended, or when the time is up.
    Stop { within: Duration },
}

/// What is to be known of an account before its first call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// Keys of messages that name several identifiers.
    pub keys: Vec<Vec<String>>,
    pub calls: Vec<PastCalls>,
    /// Lanes that Klaviyo has told to wait, and how much longer.
    pub holds: Vec<(&'static str, Duration)>,
}

/// Calls of an earlier life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastCalls {
    pub lane: &'static str,
    /// How long ago they ended, at least.
    pub age: Duration,
    pub count: u64,
}

/// The thread, from outside.
pub struct Engine {
    commands: UnboundedSender<Command>,
    reports: Receiver<Report>,
    thread: JoinHandle<()>,
}

/// The thread is gone, after a panic of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

impl Engine {
    /// Starts the thread. It writes a byte to `bell` whenever there are reports to fetch; `bell` must not block.
    ///
    /// # Errors
    /// When the thread, the runtime or the HTTP client cannot be made.
    pub fn start(bell: UnixStream, policy: Policy, client: ClientOptions) -> Result<Self, String> {
        let http = Client::new(client)?;
        let (commands, inbox) = unbounded_channel();
        let (outbox, reports) = channel();
        let thread = with_signals_blocked(|| {
            std::thread::Builder::new().name("klaviyo http".to_owned()).spawn(move || {
                let state = State {
                    accounts: HashMap::new(),
                    policy,
                    client,
                    http,
                    calls: JoinSet::new(),
                    announced: HashMap::new(),
                    reports: outbox,
                    bell,
                    stop_at: None,
                };
                run(inbox, state);
            })
        })?;
        Ok(Self { commands, reports, thread: thread.map_err(|error| error.to_string())? })
    }

    /// Hands in a command.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn tell(&self, command: Command) -> Result<(), Gone> {
        self.commands.send(command).map_err(|_| Gone)
    }

    /// Whether the thread is gone, as it was told or by a panic.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// All reports there are now. `Err` when there are none and there never will be.
    ///
    /// # Errors
    /// When the thread is gone and everything it said has been fetched.
    pub fn reports(&self) -> Result<Vec<Report>, Gone> {
        let reports: Vec<Report> = self.reports.try_iter().collect();
        if reports.is_empty() && self.thread.is_finished() {
            // It may have spoken between the two.
            let last: Vec<Report> = self.reports.try_iter().collect();
            return if last.is_empty() { Err(Gone) } else { Ok(last) };
        }
        Ok(reports)
    }
}

/// Postgres' signal handlers run on whatever thread the kernel picks; this one must never be picked. Threads inherit
/// the mask, and so do those that the runtime starts for name look-ups.
///
/// # Errors
/// When the mask cannot be changed.
pub fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> Result<T, String> {
    let before =
        SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(|error| error.to_string())?;
    let result = start();
    before.thread_set_mask().map_err(|error| error.to_string())?;
    Ok(result)
}

type Ended = (Call, Result<Answer, TransportError>);

struct State {
    accounts: HashMap<Arc<str>, Account>,
    policy: Policy,
    client: ClientOptions,
    http: Client,
    calls: JoinSet<Ended>,
    /// Calls that are announced, until that has been written down.
    announced: HashMap<AnnouncementId, Call>,
    reports: Sender<Report>,
    bell: UnixStream,
    stop_at: Option<Instant>,
}

fn run(mut inbox: UnboundedReceiver<Command>, mut state: State) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .expect("a runtime needs a few file descriptors");
    runtime.block_on(state.serve(&mut inbox));
    // A name look-up may hang in the system's resolver; nobody waits for it.
    runtime.shutdown_background();
}

impl State {
    async fn serve(&mut self, inbox: &mut UnboundedReceiver<Command>) {
        loop {
            let wake = self.start_calls();
            let over = self.calls.is_empty() || self.stop_at.is_some_and(|at| at <= Instant::now());
            if self.stop_at.is_some() && over {
                return;
            }
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                Some(ended) = self.calls.join_next() => self.ended(ended),
                () = sleep_until(wake) => {}
            }
            // What else has come is taken in one go before calls are started anew.
            while let Ok(command) = inbox.try_recv() {
                self.obey(command);
            }
            while let Some(ended) = self.calls.try_join_next() {
                self.ended(ended);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Configure { accounts, policy, client } => self.configure(accounts, policy, client),
            Command::Remember { account, past } => {
                let account = self.account(&account);
                for key in past.keys {
                    account.queue().link(&key);
                }
                for calls in past.calls {
                    if let Some(lane) = account.lane(calls.lane) {
                        lane.budget.occupy(now, calls.age, calls.count);
                    }
                }
                for (lane, wait) in past.holds {
                    if let Some(lane) = account.lane(lane) {
                        lane.hold(Some(now + wait));
                    }
                }
            }
            Command::Acknowledge { done } => done.store(true, SeqCst),
            Command::Add { account, messages } => {
                if let Some(report) = self.account(&account).add(messages, now) {
                    self.report(report);
                }
            }
            Command::Discard { account, requests } => {
                if let Some(report) = self.account(&account).discard(requests, now) {
                    self.report(report);
                }
            }
            Command::Follow { account, import } => self.account(&account).follow(import, now),
            Command::Campaigns { account, made, followed } => {
                let account = self.account(&account);
                made.into_iter().for_each(|(maker, id)| account.queue().campaigns.insert(maker, id));
                followed.into_iter().for_each(|campaign| account.watch(campaign, None, now));
            }
            Command::Make { account, id } => {
                let Some(call) = self.announced.remove(&id) else { return };
                if self.account(&account).sends(&call) {
                    self.send(call);
                } else {
                    let reason = "the account was paused or changed before the call was made".to_owned();
                    self.ended(Ok((call, Err(TransportError::Connect(reason)))));
                }
            }
            Command::Barred { account, id } => {
                if let Some(report) = self.account(&account).barred(id) {
                    self.report(report);
                }
            }
            Command::Recall { account, id, messages, last } => {
                let policy = self.policy;
                if let Some(report) = self.account(&account).recall(id, messages, last, (now, &policy)) {
                    self.report(report);
                }
            }
            Command::Read { account, reads } => {
                if let Some(report) = self.account(&account).read(reads, now) {
                    self.report(report);
                }
            }
            Command::Check { account } => self.account(&account).check(),
            Command::Forget { account } => {
                let account = self.accounts.get_mut(&account);
                let reports = account.map(|account| account.forget(now)).unwrap_or_default();
                reports.into_iter().for_each(|report| self.report(report));
            }
            Command::Settled { account, lane } => {
                if let Some(lane) = self.account(&account).lane(lane) {
                    lane.settled();
                }
            }
            Command::Stop { within } => {
                self.stop_at = Some(now + within);
                for call in std::mem::take(&mut self.announced).into_values() {
                    self.report(call.withdrawn());
                }
            }
        }
    }

    fn configure(&mut self, accounts: Vec<AccountOptions>, policy: Policy, client: ClientOptions) {
        self.policy = policy;
        if client != self.client
            && let Ok(http) = Client::new(client)
        {
            (self.http, self.client) = (http, client);
        }
        let now = Instant::now();
        let places: Vec<Place> = accounts.iter().filter_map(|options| options.place).collect();
        for account in self.accounts.values_mut() {
            account.pause(&places, now);
            account.allow_given_ids(policy.given_ids, now);
            account.know_lists_for(policy.list_ttl);
        }
        for options in accounts {
            if let Some(report) = self.account(&options.name.clone()).set(options, now) {
                self.report(report);
            }
        }
    }

    fn account(&mut self, name: &Arc<str>) -> &mut Account {
        let Policy { given_ids, list_ttl, .. } = self.policy;
        self.accounts.entry(name.clone()).or_insert_with(|| {
            let options = AccountOptions {
                name: name.clone(),
                session: None,
                rate_share: 1.0,
                place: None,
                stale: None,
            };
            let now = Instant::now();
            let mut account = Account::new(options, now);
            account.allow_given_ids(given_ids, now);
            account.know_lists_for(list_ttl);
            account
        })
    }

    /// Starts every call that may start, account by account in turn, and says when to look again.
    fn start_calls(&mut self) -> Option<Instant> {
        if self.stop_at.is_some() {
            return self.stop_at;
        }
        let now = Instant::now();
        let (mut calls, mut reports) = (Vec::new(), Vec::new());
        let mut wake = None;
        for account in self.accounts.values_mut() {
            while let Some(call) = account.next_call(now, &self.policy, &mut reports) {
                calls.push(call);
            }
            wake = earlier(wake, account.wakes_at(now, &self.policy));
        }
        for call in calls {
            match call.announcement() {
                Some((id, report)) => {
                    self.announced.insert(id, call);
                    reports.push(report);
                }
                None => self.send(call),
            }
        }
        for report in reports {
            self.report(report);
        }
        wake
    }

    fn send(&mut self, mut call: Call) {
        let Some(request) = call.request.take() else { return };
        let http = self.http.clone();
        self.calls.spawn(async move {
            let result = http.send(&call.session, request).await;
            (call, result)
        });
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let (call, result) = match ended {
            Ok(ended) => ended,
            // The messages of that call are lost to us: better to start anew and find them in the outbox.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let policy = self.policy;
        let report = self.account(&call.account.clone()).ended(call, result, Instant::now(), &policy);
        self.report(report);
    }

    fn report(&mut self, report: Report) {
        // Without a receiver the thread ends with its next look at the commands; a full socket has bytes in it.
        if self.reports.send(report).is_ok() {
            let _ = self.bell.write(&[0]);
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}
