//! Reading messages for delivery. Nothing is written: what is taken is held in the worker's memory, and a crash
//! makes it be read anew.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use delivery::gaps::Gaps;
use delivery::kind::{Kind, Rides};
use delivery::room::{CatchUp, Class, Room};
use delivery::{DeletionRequest, Ending, Failure, Message, Outcome, kind, message_id};
use pgrx::Uuid;
use pgrx::spi::{self, SpiTupleTable};

use crate::outbox::campaign;
use crate::outbox::mark::Marks;
use crate::outbox::remove::Removal;
use crate::outbox::{secrets, unique_ids};
use crate::pg;
use crate::pg::spi::{arg, column, json_column, micros_column, rows};

mod deleted;
mod jobs;
mod parked;
mod retries;

use deleted::Ahead;

/// Rows read in one go: enough to be cheap a row, few enough that answers are settled in between.
const CHUNK: usize = 1_000;

/// Looking for what is rarely there must not cost more than this part of the time: a gap can be a million numbers that
/// one transaction has taken and not committed, and each look passes over all of them.
const LATE_SHARE: u32 = 10;
const NET_SHARE: u32 = 20;

const RANGE: &str = "
    SELECT o.seq, o.message_id, o.account, o.kind, o.key, o.payload, o.enqueued_at
    FROM klaviyo.outbox AS o
    WHERE o.seq BETWEEN $1 AND $2
    ORDER BY o.seq
    LIMIT $3";

const RANGE_OF_ACCOUNT: &str = "
    SELECT o.seq, o.message_id, o.account, o.kind, o.key, o.payload, o.enqueued_at
    FROM klaviyo.outbox AS o
    WHERE o.seq BETWEEN $1 AND $2 AND o.account = $4
    ORDER BY o.seq
    LIMIT $3";

/// What was found.
#[derive(Default)]
pub struct Claimed {
    /// To be delivered, by account.
    pub messages: HashMap<String, Vec<Message>>,
    /// Not to be delivered, and why.
    pub undeliverable: Vec<Aside>,
    /// People who are to be deleted, by account, whatever else was found.
    pub requests: HashMap<String, Vec<DeletionRequest>>,
    /// Requests for deletion that were read, by their ids, whether there was room for them or not; each with its account.
    read_requests: HashMap<[u8; 16], (String, DeletionRequest)>,
    /// There may be more to be had at once.
    pub more: bool,
    /// There may be more to be had after that time.
    pub look_again_in: Option<Duration>,
}

impl Claimed {
    /// Forgets what is of an account that was removed.
    pub fn forget(&mut self, account: &str) {
        self.messages.remove(account);
        self.requests.remove(account);
    }

    /// Notes a request for deletion, if the message is one.
    fn saw(&mut self, kind: &dyn Kind, seq: i64, id: [u8; 16], account: &str, key: &[String]) {
        let request = Some(key).filter(|_| kind.deletes()).and_then(|key| deleted::of_row(seq, id, key));
        self.read_requests.extend(request.map(|request| (id, (account.to_owned(), request))));
    }

    /// By account, the highest number of those that are to be known to have been in a call, from now on.
    pub fn highest(&self) -> impl Iterator<Item = (&str, i64)> {
        self.messages.iter().filter_map(|(account, messages)| {
            // An id of the user's own that keeps a message from riding now may not do so later.
            let may_ride = |message: &&Message| message.rides || message.unique_id.is_some();
            let riders = messages.iter().filter(may_ride);
            Some((account.as_str(), riders.map(|message| message.seq).max()?))
        })
    }
}

/// What is not to be delivered, and whom it is about.
pub struct Aside {
    account: String,
    key: Vec<String>,
    enqueued_at: SystemTime,
    pub outcome: Outcome,
}

impl Aside {
    /// Of a message that was read, and is not handed over after all.
    pub fn new(account: &str, message: &Message, outcome: Outcome) -> Self {
        let (key, enqueued_at) = (message.key.clone(), message.enqueued_at);
        Self { account: account.to_owned(), key, enqueued_at, outcome }
    }
}

/// How a row of the outbox was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// It has been queued here since the worker began, or waited then.
    InTurn,
    ByTheNet,
    /// It was found before, and has waited for an import job.
    Parked,
}

/// A look into the gaps that did not fit into one round: the number to go on after, and what was the oldest running
/// transaction when it began.
struct LatePass {
    after: i64,
    xmin: u64,
}

/// How far the outbox has been read, and what of it is in memory.
pub struct Claimer {
    gaps: Gaps,
    pub room: Room,
    pub marks: Marks,
    /// Numbers from which on messages of an account are this database's own.
    fresh_from: HashMap<String, i64>,
    /// Numbers below which the messages of an account are those of one that was removed.
    removed: HashMap<String, i64>,
    /// Where reading of redriven messages stands; none when all have been read.
    redriven: Option<i64>,
    /// How long that has taken, and when it may begin anew.
    redriven_took: Duration,
    redriven_at: Instant,
    /// Accounts of which redriven messages found no room, and of which kind.
    missed: HashMap<String, String>,
    late: Option<LatePass>,
    late_at: Instant,
    net_after: i64,
    net_at: Instant,
    ahead: Ahead,
}

impl Default for Claimer {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            gaps: Gaps::default(),
            room: Room::default(),
            marks: Marks::default(),
            fresh_from: HashMap::new(),
            removed: HashMap::new(),
            redriven: Some(0),
            redriven_took: Duration::ZERO,
            redriven_at: now,
            missed: HashMap::new(),
            late: None,
            late_at: now,
            net_after: 0,
            net_at: now,
            ahead: Ahead::default(),
        }
    }
}

impl Claimer {
    /// Says which accounts can send, and from which number on their messages are this database's own.
    pub fn open(&mut self, open: &HashSet<String>, fresh_from: HashMap<String, i64>) {
        self.room.open(open);
        self.fresh_from = fresh_from;
    }

    /// An account was removed: its messages are put aside where they are.
    pub fn remove(&mut self, removal: &Removal) {
        self.room.forget(&removal.account, removal.before);
        self.removed.insert(removal.account.clone(), removal.before);
    }

    /// What waited for a removed account has been put aside. What is redriven of it now is another account's.
    pub fn removed(&mut self, removal: &Removal) {
        if self.removed.get(&removal.account) == Some(&removal.before) {
            self.removed.remove(&removal.account);
        }
        self.redriven = Some(0);
    }

    fn is_removed(&self, account: &str, seq: i64) -> bool {
        self.removed.get(account).is_some_and(|before| seq < *before)
    }

    /// The number below which nothing waits, but for what only the net can find.
    pub fn low_water(&self) -> i64 {
        let gap = self.gaps.open().next().map(|gap| gap.from);
        let others = [gap, self.room.lowest()].into_iter().flatten();
        others.fold(self.gaps.cursor() + 1, i64::min)
    }

    /// One round of reading, in the transaction the caller has begun.
    pub fn claim(&mut self) -> Result<Claimed, spi::Error> {
        let mut claimed = Claimed::default();
        self.late(&mut claimed)?;
        self.parked(&mut claimed)?;
        if let Some(catch_up) = self.room.catch_up() {
            self.again(&catch_up, &mut claimed)?;
        }
        let mut behind = true;
        if self.room.wants_new() {
            behind = self.new_ones(&mut claimed)?;
        }
        self.redriven(&mut claimed)?;
        self.net(&mut claimed)?;
        campaign::resolve(&mut claimed)?;
        self.deletions(&mut claimed, behind)?;
        secrets::fill_in(&mut claimed)?;
        let look_again_in = self.room.looks_further_in();
        claimed.look_again_in = claimed.look_again_in.into_iter().chain(look_again_in).min();
        Ok(claimed)
    }

    /// Looks into the gaps for what has committed since.
    fn late(&mut self, claimed: &mut Claimed) -> Result<(), spi::Error> {
        let start = Instant::now();
        if self.gaps.is_empty() {
            self.late = None;
            return Ok(());
        }
        if self.late.is_none() && start < self.late_at {
            claimed.look_again_in = Some(self.late_at - start);
            return Ok(());
        }
        let pass = match self.late.take() {
            Some(pass) => pass,
            // Read before the first look: what had ended by then, every look sees.
            None => LatePass { after: 0, xmin: super::oldest_running()? },
        };
        let gaps: Vec<(i64, i64)> = self.gaps.open().map(|gap| (gap.from, gap.to)).collect();
        let mut left = CHUNK;
        for (from, to) in gaps.into_iter().filter(|(_, to)| *to > pass.after) {
            let mut last = None;
            let args = [arg(from.max(pass.after + 1)), arg(to), arg(left as i64)];
            left -= rows(RANGE, &args, |row| last = Some(self.offer(row, Found::InTurn, claimed)))?;
            if let Some(after) = last.filter(|_| left == 0) {
                self.late = Some(LatePass { after, ..pass });
                claimed.more = true;
                return Ok(());
            }
        }
        self.gaps.settle(pass.xmin);
        self.late_at = Instant::now() + start.elapsed() * LATE_SHARE;
        Ok(())
    }

    /// Reads again what was passed over of an account.
    fn again(&mut self, catch_up: &CatchUp, claimed: &mut Claimed) -> Result<(), spi::Error> {
        self.room.look(&catch_up.account);
        let args =
            [arg(catch_up.from), arg(self.gaps.cursor()), arg(CHUNK as i64), arg(catch_up.account.as_str())];
        let mut last = None;
        let read = rows(RANGE_OF_ACCOUNT, &args, |row| last = Some(self.offer(row, Found::InTurn, claimed)))?;
        let next = last.filter(|_| read == CHUNK).map(|last| last + 1);
        self.room.looked(&catch_up.account, next);
        claimed.more = true;
        Ok(())
    }

    /// Reads what is new. Whether there may be more.
    fn new_ones(&mut self, claimed: &mut Claimed) -> Result<bool, spi::Error> {
        let mut seen = Vec::new();
        let args = [arg(self.gaps.cursor() + 1), arg(i64::MAX), arg(CHUNK as i64)];
        rows(RANGE, &args, |row| seen.push(self.offer(row, Found::InTurn, claimed)))?;
        let more = seen.len() == CHUNK;
        claimed.more |= more;
        self.gaps.saw(seen, pg::transaction::next_id());
        Ok(more)
    }

    /// The net: looks, a little at a time, for rows that no gap told of, such as rows that were copied in with
    /// numbers of their own.
    fn net(&mut self, claimed: &mut Claimed) -> Result<(), spi::Error> {
        let start = Instant::now();
        if start < self.net_at {
            return Ok(());
        }
        let mut last = None;
        let args = [arg(self.net_after + 1), arg(self.gaps.cursor()), arg(CHUNK as i64)];
        let read = rows(RANGE, &args, |row| last = Some(self.offer(row, Found::ByTheNet, claimed)))?;
        self.net_after = last.filter(|_| read == CHUNK).unwrap_or_default();
        self.net_at = Instant::now() + crate::settings::poll_interval().max(start.elapsed() * NET_SHARE);
        Ok(())
    }

    /// Takes the row if there is room for it, and says its number.
    fn offer(&mut self, row: &SpiTupleTable, found: Found, claimed: &mut Claimed) -> i64 {
        let seq: i64 = column(row, 1);
        let account: String = column(row, 3);
        let is_held = found != Found::Parked && self.room.holds(&account, seq);
        if is_held || self.is_removed(&account, seq) {
            return seq;
        }
        let (id, kind, key): (_, String, Vec<String>) = (id(row), column(row, 4), column(row, 5));
        let Some(kind) = kind::find(&kind) else {
            self.undeliverable(row, 0, unknown_kind(&kind), claimed);
            return seq;
        };
        claimed.saw(kind, seq, id, &account, &key);
        let (payload, enqueued_at) = (json_column(row, 6), micros_column(row, 7));
        // Of a row that was copied the other may have been sent.
        let is_its_own = message_id::is_of(&id, seq);
        let own = is_its_own && self.fresh_from.get(&account).is_some_and(|from| seq >= *from);
        let fresh = found != Found::ByTheNet && own && self.marks.are_below(&account, seq, enqueued_at);
        let reading = kind.read(&account, id, &payload);
        let unique_id = reading.rides.unique_id();
        let rides = self.may_ride(&account, reading.rides, fresh);
        let class = Class { rides, backfill: reading.backfill, ..Class::of_kind(kind, &payload) };
        let key = reading.ordered(kind, key);
        let admitted = match found {
            Found::Parked => self.room.leaves_parking(seq, &account, class, unique_id),
            Found::InTurn | Found::ByTheNet => self.room.admit(seq, &account, class, &key, unique_id),
        };
        if admitted {
            // What a crash has cut off nobody knows of, but what must not go twice is written down before it goes. The
            // database that this is a copy of may have gone on, though.
            let may_be_done = kind.is_announced(&payload) && !(own && self.marks.are_here(seq, enqueued_at));
            let message = Message {
                seq,
                id,
                kind,
                key,
                payload,
                enqueued_at: time(enqueued_at),
                attempts: 0,
                strikes: 0,
                wait: Duration::ZERO,
                redriven: false,
                rides,
                unique_id,
                carries_state: reading.carries_state,
                backfill: reading.backfill,
                may_be_done,
            };
            self.take(account, message, claimed);
        }
        seq
    }

    /// `fresh`: it is certain that no call has carried the message.
    fn may_ride(&self, account: &str, rides: Rides, fresh: bool) -> bool {
        match rides {
            Rides::Never => false,
            Rides::Always => true,
            Rides::Once => fresh,
            Rides::OnceAs(id) => {
                fresh
                    && !self.removed.contains_key(account)
                    && !self.room.is_carried(account, &id)
                    && !unique_ids::may_have_been_sent(id)
            }
        }
    }

    fn undeliverable(&mut self, row: &SpiTupleTable, attempts: i32, failure: Failure, claimed: &mut Claimed) {
        let (seq, account): (i64, String) = (column(row, 1), column(row, 3));
        self.room.add(
            seq,
            &account,
            Class { kind: "", direct: false, rides: false, backfill: false },
            None,
            0,
        );
        let outcome = Outcome {
            seq,
            id: id(row),
            unique_id: None,
            attempts: attempts.unsigned_abs(),
            sent_at: SystemTime::now(),
            bulk: false,
            deletes: false,
            may_be_done: false,
            ending: Ending::Dead { failure, newer: None },
        };
        let (key, enqueued_at) = (column(row, 5), time(micros_column(row, 7)));
        claimed.undeliverable.push(Aside { account, key, enqueued_at, outcome });
    }

    fn take(&mut self, account: String, message: Message, claimed: &mut Claimed) {
        let class = Class::of(&message);
        self.room.add(message.seq, &account, class, message.unique_id, message.payload.len());
        claimed.messages.entry(account).or_default().push(message);
    }
}

fn id(row: &SpiTupleTable) -> [u8; 16] {
    *column::<Uuid>(row, 2).as_bytes()
}

fn time(micros: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

fn unknown_kind(kind: &str) -> Failure {
    Failure {
        code: "unknown_kind".to_owned(),
        reason: format!("this version knows no kind \"{kind}\""),
        ..Failure::default()
    }
}
