//! Which messages are in memory, and how much room there is.
//!
//! Memory is bounded: so many messages and bytes a lane. What finds no room stays in the outbox and is read again when
//! there is room. Reading goes on past it for the lanes that have room, or one lane that stands still would hold up
//! all others; but it never takes a message whose key has an older one waiting in the outbox, or order would be lost.
//! So the keys of what was passed over are remembered, and where those become too many, reading ahead stops.
//!
//! What is in an import job of Klaviyo's is not in memory, and not to be read again before its end: of that the numbers are
//! remembered. So it is with what is about the same, see [`parking`].
//!
//! A message that carries an id of the user's own may be in a call of many only if no other has brought that id to Klaviyo.
//! So while one is in memory that may be, others with its id wait in the outbox, whoever they are about.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::key::{self, Aliases};
use crate::kind::{self, Kind};
use crate::message::Message;
use crate::unique_id::UniqueId;

mod behind;
mod jobs;
mod parking;

use behind::Behind;
use parking::Parking;

/// Messages of one lane in memory: some seconds of work for the fastest.
const LANE_MESSAGES: usize = 2_000;

/// Messages in memory that may ride in calls of many. Reading goes on when half of them have left: by then there must
/// still be what four calls of a thousand carry, and what the next is made of.
const RIDERS: usize = 12_000;

/// Bytes of payload of one lane in memory. A message is let in whatever its size while there is any room.
const LANE_BYTES: usize = 8 << 20;

/// The same of one lane of calls that messages have asked for themselves, of which there may be hundreds.
const DIRECT_MESSAGES: usize = 500;
const DIRECT_BYTES: usize = 2 << 20;

/// Of what an account's lanes are: messages of one kind, or of one endpoint that they name themselves; those that may ride in
/// calls of many and those that may not, and of both those that are history. They leave at different speeds, and none may be in the way of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Class {
    /// A kind's name, or, where messages name it themselves, an endpoint's.
    pub kind: &'static str,
    /// Whether it is an endpoint's.
    pub direct: bool,
    pub rides: bool,
    pub backfill: bool,
}

impl Class {
    pub fn of(message: &Message) -> Self {
        let class = Self::of_kind(message.kind, &message.payload);
        Self { rides: message.rides, backfill: message.backfill, ..class }
    }

    /// That of a message with this payload which does not ride and is no history.
    pub fn of_kind(kind: &'static dyn Kind, payload: &str) -> Self {
        let endpoint = if kind.endpoint().is_some() { None } else { kind.endpoint_of(payload) };
        let name = endpoint.map_or(kind.name(), |endpoint| endpoint.name);
        Self { kind: name, direct: endpoint.is_some(), rides: false, backfill: false }
    }

    fn most(self) -> (usize, usize) {
        match self {
            Self { rides: true, .. } => (RIDERS, LANE_BYTES),
            Self { direct: true, .. } => (DIRECT_MESSAGES, DIRECT_BYTES),
            _ => (LANE_MESSAGES, LANE_BYTES),
        }
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
        let (messages, bytes) = class.most();
        self.messages < messages && self.bytes < bytes
    }

    fn has_much_room(&self, class: Class) -> bool {
        let (messages, bytes) = class.most();
        self.messages <= messages / 2 && self.bytes <= bytes / 2
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
    parking: Parking,
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
        if rides {
            let by = key::of_unique_id(unique_id);
            self.parking.released(by);
            if let Some(behind) = &mut self.behind {
                behind.released |= behind.keys.contains(&by);
            }
        }
    }

    /// Whether looking further could find something to take.
    fn can_take(&self) -> bool {
        let class =
            |kind: &dyn Kind, rides| Class { kind: kind.name(), direct: false, rides, backfill: false };
        let rides = |kind: &&dyn Kind| kind.bulk().map(|_| class(*kind, true));
        let single = kind::ALL.iter().map(|kind| class(*kind, false));
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
        let keys = key::identifiers(key);
        self.accounts.entry(account.to_owned()).or_default().aliases.link(&keys);
    }

    /// When an account that is behind may look further, though nothing else happens.
    pub fn looks_further_in(&self) -> Option<Duration> {
        let mut open = self.accounts.values().filter(|account| account.can_take());
        open.any(|account| account.behind.as_ref().is_some_and(|behind| behind.unseen.is_some()))
            .then_some(Duration::from_secs(1))
    }

    /// Whether a message is in memory, in a job, or parked.
    pub fn holds(&self, account: &str, seq: i64) -> bool {
        let account = || self.accounts.get(account);
        self.entries.contains_key(&seq)
            || account().is_some_and(|it| it.in_jobs.contains(&seq) || it.parking.holds(seq))
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

    /// Whether a message found in the outbox is to be taken. If not, it is remembered as parked or passed over. Messages
    /// of an account are to be offered in order, but for those that committed late.
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
        let keys = key::identifiers(key);
        account.aliases.link(&keys);
        if room && !carried && account.behind.is_none() && account.parking.is_idle() {
            return true;
        }
        if account.behind.as_ref().and_then(|behind| behind.unseen).is_some_and(|unseen| seq >= unseen) {
            return false;
        }
        let mut known_by = account.aliases.expand(&keys);
        known_by.extend(unique_id.as_ref().map(key::of_unique_id));
        let is_behind = account.behind.as_ref().is_some_and(|behind| behind.has_any(&known_by));
        let parks = account.open && !is_behind && account.parking.concerns(&known_by);
        if parks && account.parking.has_room() {
            account.parking.park(seq, class, known_by);
            return false;
        }
        // What was passed over for want of room comes before what lies behind it.
        let room = room && account.behind.as_ref().is_none_or(|behind| !behind.waiting.contains(&class));
        if room && !carried && !is_behind && !parks {
            return true;
        }
        let behind = account.behind.get_or_insert_with(|| Behind::new(seq));
        behind.from = behind.from.min(seq);
        behind.passed = true;
        behind.closed |= !account.open;
        behind.unparked |= parks;
        if account.open && !room {
            behind.waiting.insert(class);
        }
        behind.keys.extend(known_by);
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

    /// The lowest number that is in memory or in a job, or was parked or passed over.
    pub fn lowest(&self) -> Option<i64> {
        let behind = self.accounts.values().filter_map(|account| account.behind.as_ref());
        let in_jobs = self.accounts.values().flat_map(|account| &account.in_jobs);
        let parked = self.accounts.values().filter_map(|account| account.parking.lowest());
        self.entries
            .keys()
            .chain(in_jobs)
            .copied()
            .chain(behind.map(|behind| behind.from))
            .chain(parked)
            .min()
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

    /// Whether an account that can send has no room for messages of a class of that name in calls of one.
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
            let may_park = behind.unparked && account.parking.takes_again();
            if behind.closed || behind.released || may_park || behind.waiting.iter().any(much_room) {
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
mod play_tests;
#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
