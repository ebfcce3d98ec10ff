//! Which messages are in memory, and how much room there is.
//!
//! Memory is bounded: so many messages and bytes a lane. What finds no room stays in the outbox and is read again when
//! there is room. Reading goes on past it for the lanes that have room, or one lane that stands still would hold up
//! all others; but it never takes a message whose key has an older one waiting in the outbox, or order would be lost.
//! So the keys of what was passed over are remembered, and where those become too many, reading ahead stops.
//!
//! What is in an import job of Klaviyo's is not in memory, and not to be read again before its end: of that the numbers are
//! remembered.
//!
//! A message that carries an id of the user's own may be in a call of many only if no other has brought that id to Klaviyo.
//! So while one is in memory that may be, others with its id wait in the outbox, whoever they are about.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::key::{Aliases, Hasher, Identifier};
use crate::kind::{self, Kind};
use crate::unique_id::UniqueId;

/// Messages of one lane in memory: some seconds of work for the fastest.
const LANE_MESSAGES: usize = 2_000;

/// Messages in memory that may ride in calls of many. Reading goes on when half of them have left: by then there must
/// still be what four calls of a thousand carry, and what the next is made of.
const RIDERS: usize = 12_000;

/// Bytes of payload of one lane in memory. A message is let in whatever its size while there is any room.
const LANE_BYTES: usize = 8 << 20;

/// Identifiers of an account's messages that may be passed over, at once and after a while without catching up. What
/// lies beyond is not read. A lane that is fast catches up often, and each time all this is read again; one that is
/// slow can hold up the other for hours, and there is time to look far.
const PASSED_OVER: usize = 2_000;
const PASSED_OVER_A_SECOND: usize = 20_000;
const PASSED_OVER_AT_MOST: usize = 200_000;

/// Of what an account's lanes are: messages of one kind, those that may ride in calls of many and those that may not.
/// These leave much faster than those, and neither may be in the way of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Class {
    pub kind: &'static str,
    pub rides: bool,
}

impl Class {
    fn most(self) -> usize {
        if self.rides { RIDERS } else { LANE_MESSAGES }
    }
}

/// Room taken by one lane: an account's messages of one class.
#[derive(Debug, Default)]
struct Lane {
    messages: usize,
    bytes: usize,
}

impl Lane {
    fn has_room(&self, class: Class) -> bool {
        self.messages < class.most() && self.bytes < LANE_BYTES
    }

    fn has_much_room(&self, class: Class) -> bool {
        self.messages <= class.most() / 2 && self.bytes <= LANE_BYTES / 2
    }
}

/// What of an account's messages in the outbox was passed over.
#[derive(Debug)]
struct Behind {
    /// The first of them.
    from: i64,
    /// When reading began there.
    since: Instant,
    /// Whether anything was passed over, and not only left unseen.
    passed: bool,
    /// From here on nothing has been looked at; none when all that was read of the outbox has been.
    unseen: Option<i64>,
    /// Identifiers of those that were looked at, and the ids that they carry.
    keys: HashSet<Identifier>,
    unique_ids: HashSet<UniqueId>,
    /// Classes that found no room.
    waiting: HashSet<Class>,
    /// Passed over because the account could not send.
    closed: bool,
    /// A message with whose id one was passed over has left.
    released: bool,
}

impl Behind {
    fn new(from: i64) -> Self {
        Self {
            from,
            since: Instant::now(),
            passed: false,
            unseen: None,
            keys: HashSet::new(),
            unique_ids: HashSet::new(),
            waiting: HashSet::new(),
            closed: false,
            released: false,
        }
    }

    /// Whether as much was passed over as may be by now.
    fn is_far(&self) -> bool {
        let while_waiting = self.since.elapsed().as_millis() as usize * PASSED_OVER_A_SECOND / 1_000;
        self.keys.len().max(self.unique_ids.len()) > (PASSED_OVER + while_waiting).min(PASSED_OVER_AT_MOST)
    }
}

/// How many messages in memory carry an id.
#[derive(Debug, Default)]
struct Carriers {
    all: usize,
    riders: usize,
}

#[derive(Debug, Default)]
struct Account {
    open: bool,
    lanes: HashMap<Class, Lane>,
    behind: Option<Behind>,
    in_jobs: HashSet<i64>,
    /// Ids that messages in memory carry.
    unique_ids: HashMap<UniqueId, Carriers>,
    /// Which identifiers belong together, as the queue that orders messages has it.
    aliases: Aliases,
}

impl Account {
    fn has_room(&self, class: Class) -> bool {
        self.lanes.get(&class).is_none_or(|lane| lane.has_room(class))
    }

    fn riders_carry(&self, unique_id: &UniqueId) -> bool {
        self.unique_ids.get(unique_id).is_some_and(|carriers| carriers.riders > 0)
    }

    /// A message that carries that id is in memory no longer.
    fn put_down(&mut self, unique_id: &UniqueId, rides: bool) {
        let Some(carriers) = self.unique_ids.get_mut(unique_id) else { return };
        carriers.all -= 1;
        carriers.riders -= usize::from(rides);
        if carriers.all == 0 {
            self.unique_ids.remove(unique_id);
        }
        if let Some(behind) = self.behind.as_mut().filter(|_| rides) {
            behind.released |= behind.unique_ids.contains(unique_id);
        }
    }

    /// Whether looking further could find something to take.
    fn can_take(&self) -> bool {
        let rides = |kind: &&dyn Kind| kind.bulk().map(|_| Class { kind: kind.name(), rides: true });
        let single = kind::ALL.iter().map(|kind| Class { kind: kind.name(), rides: false });
        let mut classes = single.chain(kind::ALL.iter().filter_map(rides));
        self.open && classes.any(|class| self.has_room(class))
    }
}

#[derive(Debug)]
struct Entry {
    account: String,
    class: Class,
    unique_id: Option<UniqueId>,
    bytes: usize,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Room {
    entries: HashMap<i64, Entry>,
    accounts: HashMap<String, Account>,
    hasher: Hasher,
}

/// What to read again.
#[derive(Debug, PartialEq, Eq)]
pub struct CatchUp {
    pub account: String,
    /// The first number to read.
    pub from: i64,
}

impl Room {
    /// Learns that identifiers belong together from a message of the past.
    pub fn link(&mut self, account: &str, key: &[String]) {
        let keys: Vec<Identifier> = key.iter().map(|text| self.hasher.identifier(text)).collect();
        self.accounts.entry(account.to_owned()).or_default().aliases.link(&keys);
    }

    /// When an account that is behind may look further, though nothing else happens.
    pub fn looks_further_in(&self) -> Option<Duration> {
        let mut open = self.accounts.values().filter(|account| account.can_take());
        open.any(|account| account.behind.as_ref().is_some_and(|behind| behind.unseen.is_some()))
            .then_some(Duration::from_secs(1))
    }

    /// Whether a message is in memory, or in a job.
    pub fn holds(&self, account: &str, seq: i64) -> bool {
        let in_job = || self.accounts.get(account).is_some_and(|account| account.in_jobs.contains(&seq));
        self.entries.contains_key(&seq) || in_job()
    }

    /// A message that was in memory is in a job from now on.
    pub fn enter_job(&mut self, seq: i64) {
        // Not there any more where its account was removed meanwhile.
        if let Some(Entry { account, .. }) = self.take_out(seq) {
            self.follow(&account, seq);
        }
    }

    /// A message is in a job of before.
    pub fn follow(&mut self, account: &str, seq: i64) {
        self.accounts.entry(account.to_owned()).or_default().in_jobs.insert(seq);
    }

    /// A message is in a job no longer. Whether it was.
    pub fn leave_job(&mut self, account: &str, seq: i64) -> bool {
        self.accounts.get_mut(account).is_some_and(|account| account.in_jobs.remove(&seq))
    }

    /// Says which accounts can send. The messages of others are left where they are.
    pub fn open(&mut self, names: &HashSet<String>) {
        for name in names {
            self.accounts.entry(name.clone()).or_default();
        }
        for (name, account) in &mut self.accounts {
            account.open = names.contains(name);
        }
    }

    /// Whether a message found in the outbox is to be taken. If not, it is remembered as passed over. Messages of an
    /// account are to be offered in order, but for those that committed late.
    pub fn admit(
        &mut self,
        seq: i64,
        account: &str,
        class: Class,
        key: &[String],
        unique_id: Option<UniqueId>,
    ) -> bool {
        let account = self.accounts.entry(account.to_owned()).or_default();
        let room = account.open && account.has_room(class);
        let carried = unique_id.is_some_and(|id| account.riders_carry(&id));
        let can_take = account.can_take();
        let keys: Vec<Identifier> = key.iter().map(|text| self.hasher.identifier(text)).collect();
        account.aliases.link(&keys);
        if room && !carried && account.behind.is_none() {
            return true;
        }
        let behind = account.behind.get_or_insert_with(|| Behind::new(seq));
        if behind.unseen.is_some_and(|unseen| seq >= unseen) {
            return false;
        }
        let keys = account.aliases.expand(&keys);
        // What was passed over for want of room comes before what lies behind it.
        let room = room && !behind.waiting.contains(&class);
        let repeats = carried || unique_id.is_some_and(|id| behind.unique_ids.contains(&id));
        if room && !repeats && keys.iter().all(|key| !behind.keys.contains(key)) {
            return true;
        }
        behind.from = behind.from.min(seq);
        behind.passed = true;
        behind.closed |= !account.open;
        if account.open && !room {
            behind.waiting.insert(class);
        }
        behind.keys.extend(keys);
        behind.unique_ids.extend(unique_id);
        if !can_take || behind.is_far() {
            behind.unseen = Some(behind.unseen.map_or(seq + 1, |unseen| unseen.min(seq + 1)));
        }
        false
    }

    /// A message is in memory from now on.
    pub fn add(&mut self, seq: i64, account: &str, class: Class, unique_id: Option<UniqueId>, bytes: usize) {
        let of = self.accounts.entry(account.to_owned()).or_default();
        let lane = of.lanes.entry(class).or_default();
        lane.messages += 1;
        lane.bytes += bytes;
        if let Some(id) = unique_id {
            let carriers = of.unique_ids.entry(id).or_default();
            carriers.all += 1;
            carriers.riders += usize::from(class.rides);
        }
        self.entries.insert(seq, Entry { account: account.to_owned(), class, unique_id, bytes });
    }

    /// Whether a message in memory carries that id.
    pub fn is_carried(&self, account: &str, unique_id: &UniqueId) -> bool {
        self.accounts.get(account).is_some_and(|account| account.unique_ids.contains_key(unique_id))
    }

    /// Whether one does that may be in a call of many.
    pub fn is_carried_by_rider(&self, account: &str, unique_id: &UniqueId) -> bool {
        self.accounts.get(account).is_some_and(|account| account.riders_carry(unique_id))
    }

    /// A message has left for good.
    pub fn remove(&mut self, seq: i64) {
        self.take_out(seq);
    }

    fn take_out(&mut self, seq: i64) -> Option<Entry> {
        let entry = self.entries.remove(&seq)?;
        if let Some(account) = self.accounts.get_mut(&entry.account) {
            if let Some(lane) = account.lanes.get_mut(&entry.class) {
                lane.messages -= 1;
                lane.bytes -= entry.bytes;
            }
            if let Some(id) = &entry.unique_id {
                account.put_down(id, entry.class.rides);
            }
        }
        Some(entry)
    }

    /// An account was removed: what is in memory of it is not ours any more, and of another of the same name nothing
    /// from that number on has been taken.
    pub fn forget(&mut self, account: &str, from: i64) {
        self.entries.retain(|_, entry| entry.account != account);
        if let Some(account) = self.accounts.get_mut(account) {
            let behind = Behind { passed: true, closed: true, ..Behind::new(from) };
            *account = Account { open: account.open, behind: Some(behind), ..Account::default() };
        }
    }

    /// The lowest number that is in memory or in a job, or was passed over.
    pub fn lowest(&self) -> Option<i64> {
        let behind = self.accounts.values().filter_map(|account| account.behind.as_ref());
        let in_jobs = self.accounts.values().flat_map(|account| &account.in_jobs);
        self.entries.keys().chain(in_jobs).copied().chain(behind.map(|behind| behind.from)).min()
    }

    /// Whether what is new in the outbox could be taken by anyone.
    pub fn wants_new(&self) -> bool {
        let mut open = self.accounts.values().filter(|account| account.open);
        open.any(|account| match &account.behind {
            None => true,
            Some(behind) => behind.unseen.is_none() && account.can_take(),
        })
    }

    /// Whether the account can send.
    pub fn is_open(&self, account: &str) -> bool {
        self.accounts.get(account).is_some_and(|account| account.open)
    }

    /// Whether an account that can send has no room for messages of a kind in calls of one.
    pub fn is_full(&self, account: &str, kind: &str) -> bool {
        let account = self.accounts.get(account).filter(|account| account.open);
        let mut lanes = account.into_iter().flat_map(|account| &account.lanes);
        lanes.any(|(class, lane)| class.kind == kind && !class.rides && !lane.has_room(*class))
    }

    /// An account of which something is to be read again: from the first that was passed over when a lane that found
    /// no room has much of it now, else on from where looking stopped.
    pub fn catch_up(&mut self) -> Option<CatchUp> {
        for (name, account) in self.accounts.iter_mut().filter(|(_, account)| account.open) {
            let can_take = account.can_take();
            let Some(behind) = &mut account.behind else { continue };
            let much_room =
                |class: &Class| account.lanes.get(class).is_some_and(|lane| lane.has_much_room(*class));
            if behind.closed || behind.released || behind.waiting.iter().any(much_room) {
                let from = behind.from;
                *behind = Behind { unseen: Some(from), ..Behind::new(from) };
                return Some(CatchUp { account: name.clone(), from });
            }
            if let Some(from) = behind.unseen.filter(|_| can_take && !behind.is_far()) {
                return Some(CatchUp { account: name.clone(), from });
            }
        }
        None
    }

    /// Reading of an account begins where [`Room::catch_up`] said: what is offered now is being looked at.
    pub fn look(&mut self, account: &str) {
        if let Some(behind) = self.accounts.get_mut(account).and_then(|account| account.behind.as_mut()) {
            behind.unseen = None;
        }
    }

    /// Reading of an account has ended: before `next`, or, with none, where reading of the outbox stands.
    pub fn looked(&mut self, account: &str, next: Option<i64>) {
        let Some(account) = self.accounts.get_mut(account) else { return };
        let Some(behind) = &mut account.behind else { return };
        behind.unseen = match (behind.unseen, next) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        if !behind.passed && behind.unseen.is_none() {
            account.behind = None;
        } else if !behind.passed {
            behind.from = behind.unseen.unwrap_or(behind.from);
        }
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
