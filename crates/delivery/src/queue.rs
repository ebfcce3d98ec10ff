//! The messages in memory, in the order their keys allow.
//!
//! Messages that share an identifier, directly or through others, form a group. Of a group only the oldest may go,
//! and while it is in a call none of the others: so no message of a key overtakes another, in whatever lane it rides.
//! What a job of Klaviyo's still has to do has left the memory; its identifiers are locked, and none of a group that has
//! one of them may go.
//! States of one profile that stand next to each other go as one call.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::{Index, IndexMut};
use std::time::{Duration, Instant};

use klaviyo::{CREATE_EVENT, ENDPOINTS, Request};

use crate::key::{self, Aliases, Counts, Identifier};
use crate::message::{Message, Parked};
use crate::recent::Recent;
use crate::stale::{Stale, StaleAction};
use crate::stops::Stops;

/// Identifiers whose last accepted state is remembered, far more than can be unsettled at a time. What is settled is
/// looked up in the database when a redriven message is read, and one that is here by then learns of it at once.
const REMEMBERED: usize = 50_000;

/// Requests for deletion that are remembered, twice each: longer than any call takes that was under way.
const REQUESTS: usize = 10_000;

/// Code of what is put aside since the answer to its call is lost, and what is said of it.
pub const AMBIGUOUS: &str = "ambiguous";
pub const NOBODY_KNOWS: &str = "the answer to its call is lost: Klaviyo may have done what it asks for";

mod bulk;
mod campaigns;
mod direct;
mod groups;
mod lists;
mod locks;
mod queued;
mod requests;
mod states;

pub use bulk::Bulk;
use campaigns::{Made, NO_SUCH_CAMPAIGN, unmade};
use direct::Direct;
use lists::Names;
pub use queued::Queued;
use requests::Told;
use states::merged;

pub type GroupId = u64;

struct Group {
    identifiers: Vec<Identifier>,
    /// By seq.
    queue: VecDeque<Queued>,
    calls: u32,
    place: Place,
}

impl Default for Group {
    fn default() -> Self {
        // Most are of one message, and by itself a queue makes room for four.
        Self { identifiers: Vec::new(), queue: VecDeque::with_capacity(1), calls: 0, place: Place::None }
    }
}

/// In which index a group stands.
#[derive(Default, Clone, Copy)]
enum Place {
    #[default]
    None,
    /// By which of the queue's indexes, the seq of its oldest message; and how many messages it has, if that one may ride
    /// with others.
    Ready(Line, i64, Option<usize>),
    /// By the lane of the call that its oldest message asks for itself, and the seq of that.
    Direct(usize, i64),
    Sleeping(Instant),
}

/// Where groups stand whose oldest message's next call is of one endpoint, if it goes by itself, by the endpoint's number.
/// Those of which all that waits is history stand by themselves; where anything else waits behind history, that goes for
/// its sake as if it were none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub lane: usize,
    pub backfill: bool,
}

/// The groups whose oldest message may go, by its seq.
#[derive(Default)]
struct Ready {
    /// Those whose oldest message must go by itself, and those whose oldest may ride with others.
    alone: BTreeSet<(i64, GroupId)>,
    riders: BTreeSet<(i64, GroupId)>,
    /// Messages of the riders' groups: what would ride, if each may that comes behind another.
    riding: usize,
}

/// All lines, by the number of their endpoint: those that are not of history, and those that are.
struct Lines(Vec<[Ready; 2]>);

impl Default for Lines {
    fn default() -> Self {
        Self(ENDPOINTS.iter().map(|_| Default::default()).collect())
    }
}

impl Index<Line> for Lines {
    type Output = Ready;

    fn index(&self, line: Line) -> &Ready {
        &self.0[line.lane][usize::from(line.backfill)]
    }
}

impl IndexMut<Line> for Lines {
    fn index_mut(&mut self, line: Line) -> &mut Ready {
        &mut self.0[line.lane][usize::from(line.backfill)]
    }
}

impl Ready {
    fn set(&mut self, rides: bool) -> &mut BTreeSet<(i64, GroupId)> {
        if rides { &mut self.riders } else { &mut self.alone }
    }
}

/// What to do with the oldest message of a lane.
pub enum Next {
    /// Send this, and tell the queue when the call has ended.
    Call { group: GroupId, messages: Vec<Queued>, request: Request },
    /// It is not to be sent, for that message cancels it; it has left the queue.
    Cancelled { message: Box<Queued>, by: [u8; 16] },
    /// Nothing can be sent; the message has left the queue.
    Unsendable { message: Box<Queued>, code: &'static str, reason: String },
}

pub struct Queue {
    pub stale: Option<Stale>,
    /// Whether messages may ride whose id is one of the user's own.
    given_ids: bool,
    /// Which lists have a name.
    pub names: Names,
    /// Which campaigns messages have made.
    pub campaigns: Made,
    aliases: Aliases,
    /// The identifiers that belong together with others, as they are written.
    texts: Recent<Identifier, Box<str>>,
    newest: Recent<Identifier, i64>,
    /// What was told of people who are to be deleted.
    requests: Recent<Identifier, Told>,
    by_identifier: HashMap<Identifier, GroupId>,
    /// By how many jobs.
    locked: Counts,
    groups: HashMap<GroupId, Group>,
    /// Groups that became part of another while calls of theirs were under way: into which, and how many calls.
    joined: HashMap<GroupId, (GroupId, u32)>,
    next_group: GroupId,
    ready: Lines,
    direct: Direct,
    sleeping: BTreeSet<(Instant, GroupId)>,
}

impl Queue {
    pub fn new() -> Self {
        Self {
            ready: Lines::default(),
            direct: Direct::default(),
            stale: None,
            given_ids: true,
            names: Names::new(Duration::ZERO),
            campaigns: Made::default(),
            aliases: Aliases::default(),
            texts: Recent::new(REMEMBERED),
            newest: Recent::new(REMEMBERED),
            requests: Recent::new(REQUESTS),
            by_identifier: HashMap::new(),
            locked: Counts::default(),
            groups: HashMap::new(),
            joined: HashMap::new(),
            next_group: 0,
            sleeping: BTreeSet::new(),
        }
    }

    /// Learns that identifiers belong together from a message that names them.
    pub fn link(&mut self, key: &[String]) {
        if key.len() > 1 {
            let identifiers = key::identifiers(key);
            self.aliases.link(&identifiers);
            for (identifier, text) in identifiers.into_iter().zip(key) {
                self.texts.insert(identifier, text.as_str().into());
            }
        }
    }

    /// Takes a message, or says that it cannot stay, see [`locks`].
    pub fn add(&mut self, mut message: Message, now: Instant) -> Option<Parked> {
        self.campaigns.tell(&mut message);
        self.link(&message.key);
        let identifiers = key::identifiers(&message.key);
        let all = self.aliases.expand(&identifiers);
        let id = self.group_of(all.clone());
        if self.parks(id, &message) {
            self.place(id, now);
            return Some(Parked { seq: message.seq, identifiers: all });
        }
        let not_before = (!message.wait.is_zero()).then(|| now + message.wait);
        let mut queued = self.queued(message, identifiers, (not_before, now));
        self.names.tell(&mut queued, now);
        if queued.message.unique_id.is_some() && !self.given_ids {
            queued.rides = 0;
        }
        self.keep_newer(&mut queued);
        self.insert(id, queued, now);
        None
    }

    fn queued(
        &mut self,
        message: Message,
        identifiers: Vec<Identifier>,
        times: (Option<Instant>, Instant),
    ) -> Queued {
        // Of what no call can be made that is said when its turn comes, in whatever lane.
        let endpoint = message.kind.endpoint_of(&message.payload).unwrap_or(&CREATE_EVENT);
        Queued::new(message, identifiers, self.direct.number(endpoint), times)
    }

    /// Says whether messages may ride whose id is one of the user's own. Of those that were here while they might not
    /// none does.
    pub fn allow_given_ids(&mut self, allowed: bool, now: Instant) {
        if !allowed && self.given_ids {
            let riders = self.groups.values_mut().flat_map(|group| &mut group.queue);
            riders.filter(|queued| queued.message.unique_id.is_some()).for_each(|queued| queued.rides = 0);
            let groups: Vec<GroupId> = self.groups.keys().copied().collect();
            groups.into_iter().for_each(|id| self.place(id, now));
        }
        self.given_ids = allowed;
    }

    /// How many keys of a line have a message that may go, and goes in a call of its own; with `riders`, also those
    /// whose message may ride with others.
    pub fn ready(&self, line: Line, riders: bool) -> usize {
        let ready = &self.ready[line];
        ready.alone.len() + if riders { ready.riders.len() } else { 0 }
    }

    /// Whether the oldest message of a line that may go must go by itself.
    pub fn is_next_alone(&self, line: Line) -> bool {
        let Ready { alone, riders, .. } = &self.ready[line];
        alone.first().is_some_and(|first| riders.first().is_none_or(|rider| first < rider))
    }

    /// Forgets all messages. Calls under way may still end.
    pub fn clear(&mut self) {
        // Numbers go on, so that a call of before is no group's of after.
        let (next_group, stale, given_ids) = (self.next_group, self.stale, self.given_ids);
        let (names, direct) = (Names::new(self.names.lasts), self.direct.emptied());
        *self = Self { next_group, stale, given_ids, names, direct, ..Self::new() };
    }

    /// When the next message comes out of its backoff.
    pub fn wakes_at(&self) -> Option<Instant> {
        self.sleeping.first().map(|(at, _)| *at)
    }

    /// Lets nothing wait any longer: what held messages back has changed.
    pub fn wake_all(&mut self, now: Instant) {
        // Also what is not the next of its group: something redriven may stand before it.
        for message in self.groups.values_mut().flat_map(|group| &mut group.queue) {
            message.not_before = None;
        }
        for (_, id) in std::mem::take(&mut self.sleeping) {
            self.place(id, now);
        }
    }

    /// Makes ready what has waited long enough.
    pub fn wake(&mut self, now: Instant) {
        while let Some((_, id)) = self.sleeping.first().copied().filter(|(at, _)| *at <= now) {
            self.place(id, now);
        }
    }

    /// Makes ready what has waited for nothing but that Klaviyo takes such calls again.
    pub fn release(&mut self, stops: &Stops, now: Instant) {
        let sleeping: Vec<GroupId> = self.sleeping.iter().map(|(_, id)| *id).collect();
        for id in sleeping {
            let first = self.groups.get_mut(&id).and_then(|group| group.queue.front_mut());
            if let Some(first) = first.filter(|first| first.refusal.is_some_and(|it| stops.is_over(it))) {
                first.not_before = None;
                self.place(id, now);
            }
        }
    }

    /// Takes the oldest message of a line that may go in a call of its own, with those that merge into it. With
    /// `riders` it may be one that could ride with others.
    pub fn next(&mut self, line: Line, riders: bool, now: Instant) -> Option<Next> {
        let ready = &self.ready[line];
        let firsts = [ready.alone.first(), ready.riders.first().filter(|_| riders)];
        let (_, id) = firsts.into_iter().flatten().min().copied()?;
        self.next_of(id, line.lane, now)
    }

    /// Takes the oldest message of a group, if its next call is of that lane, with those that merge into it.
    fn next_of(&mut self, id: GroupId, lane: usize, now: Instant) -> Option<Next> {
        self.displace(id);
        let group = self.groups.get_mut(&id)?;
        if group.queue.front()?.lane(now) != lane {
            self.place(id, now);
            return None;
        }
        let cancelled = self.cancelled_by(id);
        let first = self.groups.get_mut(&id)?.queue.pop_front()?;
        if let Some(by) = cancelled {
            self.place(id, now);
            return Some(Next::Cancelled { message: Box::new(first), by });
        }
        let question = first.asks(now);
        let kind = first.message.kind;
        let superseded = first.message.redriven && self.newer(&first).is_some();
        let redriven = if first.message.redriven { kind.redriven(&first.message.payload) } else { None };
        let payload = redriven.as_ref().unwrap_or(&first.message.payload);
        let stale = self.stale.filter(|stale| stale.applies(&first.message));
        let history = stale.and_then(|_| kind.stale(payload));
        // What may have been done is asked about, however long ago that was.
        let expired = stale.is_some() && kind.expires() && !first.message.may_be_done;
        let aside = stale.is_some_and(|stale| stale.action == StaleAction::DeadLetter);
        let request = if superseded {
            Err(("superseded", "a newer state of this profile has been accepted since".to_owned()))
        } else if let Some(reason) = unmade(&first) {
            Err((NO_SUCH_CAMPAIGN, reason))
        } else if first.stops && first.message.may_be_done && !first.denied && question.is_none() {
            Err((AMBIGUOUS, NOBODY_KNOWS.to_owned()))
        } else if (aside && history.is_some() || expired) && !first.message.redriven {
            Err(("stale", "it has waited for longer than the account's stale_after".to_owned()))
        } else {
            let payload = history.as_ref().unwrap_or(payload);
            let request = match question {
                Some(question) => question.request(payload),
                None => kind.request(payload),
            };
            request.map_err(|reason| ("malformed_payload", reason))
        };
        let request = match request {
            Ok(request) => request,
            Err((code, reason)) => {
                self.place(id, now);
                return Some(Next::Unsendable { message: Box::new(first), code, reason });
            }
        };
        let group = self.groups.get_mut(&id)?;
        let (payload, more) = merged(&first, group.queue.iter(), now);
        let mut messages = vec![first];
        messages.extend(group.queue.drain(..more));
        group.calls += 1;
        let request = match payload {
            Some(payload) => kind.request(&payload).expect("what merges out of two states is one"),
            None => request,
        };
        Some(Next::Call { group: id, messages, request })
    }

    /// A call has ended: `again` goes back to its place, the accepted states are remembered. Returns what has become useless
    /// meanwhile and does not go back, each with the request for deletion that made it so.
    pub fn ended(
        &mut self,
        group: GroupId,
        accepted: &[Queued],
        again: Vec<Queued>,
        now: Instant,
    ) -> Vec<(Message, [u8; 16])> {
        for queued in accepted.iter().filter(|queued| queued.message.carries_state) {
            self.remember_newest(&queued.identifiers, queued.message.seq);
        }
        let id = self.call_ended(group);
        let mut useless = Vec::new();
        for mut queued in again {
            self.keep_newer(&mut queued);
            match (self.discarded_by(&queued), self.groups.get_mut(&id)) {
                (Some(by), _) => useless.push((queued.message, by)),
                (None, Some(group)) => insert_by_seq(&mut group.queue, queued),
                (None, None) => {}
            }
        }
        self.place(id, now);
        useless
    }
}

fn insert_by_seq(queue: &mut VecDeque<Queued>, queued: Queued) {
    let at = queue.partition_point(|other| other.message.seq < queued.message.seq);
    queue.insert(at, queued);
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
