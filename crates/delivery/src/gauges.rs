//! What lanes show to the outside while they run: to whoever looks after the server, and to other databases that spend
//! the same account's budget.
//!
//! Gauges lie in memory that several processes share. All of it is atomics, all zero is valid. While an account has
//! its place, only the HTTP thread of its database writes what its lanes do, so a reader sees each number as it was at
//! some moment, though not all at the same one.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use klaviyo::{ENDPOINTS, Endpoint, Session, calls};

use crate::histogram::Histogram;
use crate::throughput::Throughput;
use crate::verdict::Verdict;

/// Windows of one lane at the most: a second, a minute, a day.
pub const WINDOWS: usize = 3;

/// Lanes of an account that have gauges: those of the endpoints in use, by their numbers, and as many others that messages
/// have asked for. Further ones send all the same: unseen, and with their budget unshared.
pub const LANES: usize = ENDPOINTS.len() + 16;

/// How long a name may be, in bytes.
const NAME: usize = 64;

/// One window's part of the budget: what this database holds of it, and until when at the latest.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Held {
    places: AtomicU64,
    /// Milliseconds since 1970. A process that ends without a word keeps its places no longer than that.
    until: AtomicU64,
}

/// One lane.
#[derive(Debug, Default)]
#[repr(C)]
pub struct LaneGauges {
    /// Behind those in use: which of all calls it is of, counted from 1; 0 for none.
    call: AtomicU32,
    held: [Held; WINDOWS],
    limits: [AtomicU64; WINDOWS],
    wants: AtomicBool,
    breaker_open: AtomicBool,
    /// Microseconds since 1970, 0 for not at all: until when Klaviyo has told us to wait; when a call last succeeded
    /// and failed.
    pub held_until: AtomicI64,
    pub last_success: AtomicI64,
    pub last_failure: AtomicI64,
    /// Status of the last call that failed; 0 where there was no answer.
    pub last_failure_status: AtomicU32,
    pub under_way: AtomicU32,
    /// Keys in memory whose next message may go now.
    pub ready: AtomicU64,
    pub calls: AtomicU64,
    pub failures: AtomicU64,
    pub throttled: AtomicU64,
    /// Messages that Klaviyo has accepted.
    pub accepted: Throughput,
    /// From sending a call to its answer, and from queueing a message to Klaviyo's acceptance.
    pub call_time: Histogram,
    pub delivery_time: Histogram,
}

/// One account of one database.
#[derive(Debug)]
#[repr(C)]
pub struct AccountGauges {
    name: [AtomicU32; NAME / 4],
    /// Somebody wants to know what its key may do.
    check: AtomicBool,
    pub lanes: [LaneGauges; LANES],
}

/// The gauges of all accounts of all databases, and which budget each spends: 0 for none yet.
#[derive(Debug, Clone, Copy)]
pub struct Board {
    pub budgets: &'static [AtomicU64],
    pub accounts: &'static [AccountGauges],
}

/// An account's place on the board.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub board: Board,
    pub at: usize,
}

/// What others hold of a window that is ours too, and how many of them want more.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Others {
    pub places: u64,
    pub wanting: u64,
}

impl AccountGauges {
    /// Takes the gauges for an account, none for nobody, and forgets whose they were.
    pub fn take(&self, name: &str) {
        self.check.store(false, SeqCst);
        self.lanes.iter().for_each(LaneGauges::clear);
        let mut bytes = [0; NAME];
        let end = name.len().min(NAME);
        bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
        for (cell, bytes) in self.name.iter().zip(bytes.chunks_exact(4)) {
            cell.store(u32::from_ne_bytes(bytes.try_into().unwrap_or_default()), SeqCst);
        }
    }

    /// Asks for a preflight.
    pub fn ask_for_check(&self) {
        self.check.store(true, SeqCst);
    }

    /// Its lanes that are in use, each with its endpoint.
    pub fn lanes(&self) -> impl Iterator<Item = (&'static Endpoint, &LaneGauges)> {
        let (known, others) = self.lanes.split_at(ENDPOINTS.len());
        let others = others.iter().filter_map(|lane| Some((calls().get(lane.call()?)?, lane)));
        ENDPOINTS.into_iter().zip(known).chain(others)
    }

    /// The account's name; empty while nobody's.
    pub fn name(&self) -> String {
        let bytes: Vec<u8> = self.name.iter().flat_map(|cell| cell.load(SeqCst).to_ne_bytes()).collect();
        String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
    }
}

impl Board {
    /// The place of an account among those of its database: the one it has, or a free one. None where all are taken.
    /// Those of accounts that are no more are free.
    pub fn place(self, database: Range<usize>, name: &str, accounts: &HashSet<&str>) -> Option<Place> {
        let mine = |at: &usize| self.accounts[*at].name() == name;
        let free = |at: &usize| !accounts.contains(self.accounts[*at].name().as_str());
        if let Some(at) = database.clone().find(mine) {
            return Some(Place { board: self, at });
        }
        let at = database.into_iter().find(free)?;
        self.clear(at);
        self.accounts[at].take(name);
        Some(Place { board: self, at })
    }

    /// Makes a place nobody's.
    pub fn clear(self, at: usize) {
        self.budgets[at].store(0, SeqCst);
        self.accounts[at].take("");
    }
}

impl Place {
    pub fn lane(&self, lane: usize) -> &'static LaneGauges {
        &self.board.accounts[self.at].lanes[lane]
    }

    /// Forgets what lanes from that number on have shown in an earlier life.
    pub fn forget_lanes(&self, from: usize) {
        self.board.accounts[self.at].lanes.iter().skip(from).for_each(LaneGauges::clear);
    }

    /// Whether a preflight was asked for since the last look.
    pub fn take_check(&self) -> bool {
        self.board.accounts[self.at].check.swap(false, SeqCst)
    }

    /// Says whose budget is spent here. Two databases with the same key at the same address share one.
    pub fn spend(&self, session: Option<&Session>) {
        if let Some(session) = session {
            self.board.budgets[self.at].store(session.budget().max(1), SeqCst);
        }
    }

    /// Whether anybody else spends the same budget.
    pub fn is_shared(&self) -> bool {
        self.others().next().is_some()
    }

    /// What the others hold of one window of a lane.
    pub fn held_by_others(&self, lane: usize, window: usize) -> Others {
        let now = milliseconds(SystemTime::now());
        let same = |account: &'static AccountGauges| match self.lane(lane).call() {
            None => account.lanes.get(lane),
            call => account.lanes.iter().find(|other| other.call() == call),
        };
        self.others().filter_map(same).fold(Others::default(), |sum, gauges| {
            let held = &gauges.held[window];
            let live = held.until.load(SeqCst) > now;
            Others {
                places: sum.places + if live { held.places.load(SeqCst) } else { 0 },
                wanting: sum.wanting + u64::from(live && gauges.wants.load(SeqCst)),
            }
        })
    }

    fn others(&self) -> impl Iterator<Item = &'static AccountGauges> {
        let mine = self.board.budgets[self.at].load(SeqCst);
        let budgets = self.board.budgets.iter().enumerate();
        let at = self.at;
        budgets
            .filter(move |(other, budget)| mine != 0 && *other != at && budget.load(SeqCst) == mine)
            .filter_map(|(other, _)| self.board.accounts.get(other))
    }
}

impl LaneGauges {
    /// Says which endpoint it is of.
    pub fn set_endpoint(&self, endpoint: &Endpoint) {
        let is_in_use = ENDPOINTS.iter().any(|known| known.name == endpoint.name);
        let number = calls().iter().position(|call| !is_in_use && call.name == endpoint.name);
        let call = number.map_or(0, |number| number as u32 + 1);
        if self.call.load(SeqCst) != call {
            // Of another lane, in an earlier life.
            self.clear();
        }
        self.call.store(call, SeqCst);
    }

    /// Which of all calls it is of, where that is none of those in use.
    fn call(&self) -> Option<usize> {
        self.call.load(SeqCst).checked_sub(1).map(|number| number as usize)
    }

    fn clear(&self) {
        self.call.store(0, SeqCst);
        for window in 0..WINDOWS {
            self.hold(window, 0, 0, Duration::ZERO);
        }
        self.want(false);
        self.set_breaker(false);
        for time in [&self.held_until, &self.last_success, &self.last_failure] {
            time.store(0, Relaxed);
        }
        for number in [&self.last_failure_status, &self.under_way] {
            number.store(0, Relaxed);
        }
        for count in [&self.ready, &self.calls, &self.failures, &self.throttled] {
            count.store(0, Relaxed);
        }
        self.accepted.clear();
        self.call_time.clear();
        self.delivery_time.clear();
    }

    /// Shows what a call came to that took so long, with messages that were queued at those times.
    pub fn count(
        &self,
        verdict: &Verdict,
        took: Duration,
        enqueued: impl ExactSizeIterator<Item = SystemTime>,
    ) {
        let now = SystemTime::now();
        self.calls.fetch_add(1, Relaxed);
        self.call_time.add(took);
        let failure = match verdict {
            Verdict::Accepted { .. } => {
                self.last_success.store(microseconds(now), Relaxed);
                self.accepted.add(enqueued.len() as u64, now);
                enqueued.for_each(|at| self.delivery_time.add(now.duration_since(at).unwrap_or_default()));
                return;
            }
            Verdict::Throttled { failure, .. } => {
                self.throttled.fetch_add(1, Relaxed);
                failure
            }
            Verdict::Refused { failure, .. }
            | Verdict::Stopped { failure, .. }
            | Verdict::Trouble { failure, .. } => failure,
        };
        self.failures.fetch_add(1, Relaxed);
        self.last_failure.store(microseconds(now), Relaxed);
        self.last_failure_status.store(failure.status.unwrap_or_default().into(), Relaxed);
    }

    /// Shows what is held of a window, and until when that counts though nobody says anything more.
    pub fn hold(&self, window: usize, places: u64, limit: u64, lasts: Duration) {
        self.held[window].until.store(milliseconds(SystemTime::now() + lasts), SeqCst);
        self.held[window].places.store(places, SeqCst);
        self.limits[window].store(limit, Relaxed);
    }

    /// Shows whether there is something to send that only the budget holds back.
    pub fn want(&self, wants: bool) {
        self.wants.store(wants, SeqCst);
    }

    pub fn set_breaker(&self, open: bool) {
        self.breaker_open.store(open, Relaxed);
    }

    pub fn is_breaker_open(&self) -> bool {
        self.breaker_open.load(Relaxed)
    }

    /// The limit of a window and what is held of it.
    pub fn window(&self, window: usize) -> (u64, u64) {
        let held = &self.held[window];
        let live = held.until.load(SeqCst) > milliseconds(SystemTime::now());
        (self.limits[window].load(Relaxed), if live { held.places.load(SeqCst) } else { 0 })
    }
}

/// Milliseconds since 1970.
fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Microseconds since 1970.
pub fn microseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub fn board(accounts: usize) -> Board {
    let gauges = std::iter::repeat_with(|| AccountGauges {
        name: Default::default(),
        check: AtomicBool::default(),
        lanes: std::array::from_fn(|_| LaneGauges::default()),
    });
    Board {
        budgets: std::iter::repeat_with(AtomicU64::default).take(accounts).collect::<Vec<_>>().leak(),
        accounts: gauges.take(accounts).collect::<Vec<_>>().leak(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(board: Board, at: usize, key: &str) -> Place {
        let place = Place { board, at };
        let session = Session::new(klaviyo::BASE_URL, klaviyo::REVISION, key).expect("a session");
        place.spend(Some(&session));
        place
    }

    #[test]
    fn only_the_same_key_shares_a_budget() {
        let board = board(3);
        let [one, other, third] =
            [(0, "pk_a"), (1, "pk_b"), (2, "pk_a")].map(|(at, key)| place(board, at, key));
        other.lane(0).hold(0, 7, 10, Duration::from_secs(9));
        third.lane(0).hold(0, 3, 10, Duration::from_secs(9));
        third.lane(0).want(true);
        assert_eq!(one.held_by_others(0, 0), Others { places: 3, wanting: 1 });
        assert_eq!(one.held_by_others(0, 1), Others::default(), "another window");
        assert_eq!(one.held_by_others(1, 0), Others::default(), "another lane");
        assert_eq!(other.held_by_others(0, 0), Others::default());
        assert!(one.is_shared() && !other.is_shared());
    }

    #[test]
    fn lanes_that_were_asked_for_are_known_by_their_calls() {
        let board = board(2);
        let [one, other] = [0, 1].map(|at| place(board, at, "pk_a"));
        let [tags, flows] = ["/api/tags", "/api/flows"]
            .map(|path| klaviyo::call(klaviyo::Method::Get, path).expect("a call"));
        let first = ENDPOINTS.len();
        one.lane(first).set_endpoint(tags);
        other.lane(first).set_endpoint(flows);
        other.lane(first + 1).set_endpoint(tags);
        other.lane(first).hold(0, 7, 10, Duration::from_secs(9));
        assert_eq!(one.held_by_others(first, 0), Others::default(), "another lane");
        other.lane(first + 1).hold(0, 3, 10, Duration::from_secs(9));
        assert_eq!(one.held_by_others(first, 0), Others { places: 3, wanting: 0 });
        let shown: Vec<&str> =
            board.accounts[1].lanes().skip(first).map(|(endpoint, _)| endpoint.name).collect();
        assert_eq!(shown, ["get-flows", "get-tags"]);
        board.accounts[1].take("b");
        assert_eq!(board.accounts[1].lanes().count(), first);
    }

    #[test]
    fn who_says_nothing_any_more_holds_nothing_in_the_end() {
        let board = board(2);
        let [one, other] = [0, 1].map(|at| place(board, at, "pk_a"));
        other.lane(0).hold(0, 3, 10, Duration::ZERO);
        other.lane(0).want(true);
        assert_eq!(one.held_by_others(0, 0), Others::default());
        assert_eq!(other.lane(0).window(0), (10, 0));
    }

    #[test]
    fn an_account_keeps_its_place_and_leaves_it_when_it_is_no_more() {
        let board = board(4);
        let place = |name: &str, accounts: &[&str]| {
            board.place(2..4, name, &accounts.iter().copied().collect()).map(|place| place.at)
        };
        assert_eq!(place("a", &["a", "b", "c"]), Some(2));
        assert_eq!(place("b", &["a", "b", "c"]), Some(3));
        assert_eq!(place("c", &["a", "b", "c"]), None);
        board.accounts[3].lanes[0].calls.store(5, Relaxed);
        assert_eq!(place("b", &["a", "b", "c"]), Some(3));
        assert_eq!(place("c", &["b", "c"]), Some(2));
        assert_eq!(place("a", &["a", "c"]), Some(3));
        assert_eq!(board.accounts[3].lanes[0].calls.load(Relaxed), 0, "what another account left");
    }

    #[test]
    fn names_come_back_as_they_went_in() {
        let board = board(1);
        assert_eq!(board.accounts[0].name(), "");
        for name in ["default", &"x".repeat(63), "a"] {
            board.accounts[0].take(name);
            assert_eq!(board.accounts[0].name(), name);
        }
    }
}
