//! The owner of an outbox and the HTTP thread play together, with everything between them as late as it can be.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use klaviyo::{
    Answer, BULK_IMPORT_PROFILES, ENDPOINTS, GET_IMPORT_ERRORS, GET_IMPORT_JOB, GET_IMPORT_JOBS,
    GET_LIST_PROFILES, GET_SUPPRESS_JOB, SUPPRESS, TransportError,
};

use super::*;
use crate::account::Account as Sender;
use crate::call::Call;
use crate::call::tests::{POLICY, account, answer, message, next, seqs};
use crate::deletion::DeletionRequest;
use crate::engine::Command;
use crate::import::{ImportId, ImportReport, ImportStep};
use crate::key::Identifier;
use crate::message::{Ending, Message, Report};

/// Messages of a class in memory at the most: more than calls of one may carry in a second, or there are no jobs.
const ROOM: usize = 400;

struct Row {
    message: Message,
    identifiers: Vec<Identifier>,
}

#[derive(Default)]
struct Counts {
    jobs: usize,
    parked: usize,
    bounced: usize,
    rode: usize,
    asked: usize,
    followed: usize,
    discarded: usize,
}

struct Play {
    random: fastrand::Rng,
    now: Instant,
    rows: Vec<Row>,
    /// Rows of each identifier that are not done.
    pending: HashMap<Identifier, BTreeSet<i64>>,
    done: HashSet<i64>,
    /// Ids that were in a call that ended well.
    sent: HashSet<UniqueId>,
    // The owner.
    room: Room,
    committed: i64,
    cursor: i64,
    over: VecDeque<(ImportId, bool)>,
    loads: HashMap<ImportId, Vec<(i64, usize)>>,
    /// Who is to be deleted: of whom nothing with a lower number is of use.
    requests: HashMap<Identifier, i64>,
    // Between them.
    commands: VecDeque<Command>,
    reports: VecDeque<Report>,
    // The thread.
    sender: Sender,
    announced: HashMap<ImportId, Call>,
    calls: Vec<Call>,
    /// As far as the thread has heard.
    told: HashMap<Identifier, i64>,
    counts: Counts,
}

impl Play {
    fn new(seed: u64, rows: i64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        let people = random.i64(100..1_500);
        let profiles = random.u8(30..90);
        let names = ["email", "id", "phone"];
        let rows: Vec<Row> = (1..=rows)
            .map(|seq| {
                let person = random.i64(0..people);
                // Some numbers are everybody's.
                let mut key: Vec<String> = (0..3)
                    .filter(|_| random.bool())
                    .map(|n| match n {
                        2 => format!("phone:{}", person % 7),
                        n => format!("{}:{person}", names[n]),
                    })
                    .collect();
                if key.is_empty() {
                    key.push(format!("email:{person}"));
                }
                let kind = match random.u8(0..100) {
                    n if n < profiles => "profile",
                    // People change their minds.
                    n if n % 2 == 0 => ["subscribe", "unsubscribe", "suppress"][random.usize(0..3)],
                    _ => "event",
                };
                let unique_id = (kind == "event" && random.u8(0..4) == 0)
                    .then(|| u128::from(random.u16(0..200)).to_le_bytes());
                let identifiers = key::identifiers(&key);
                let backfill = random.u8(0..4) == 0 && matches!(kind, "profile" | "event");
                let mut message = Message { key, unique_id, backfill, ..message(seq, kind, "x") };
                if !matches!(kind, "profile" | "event") {
                    let list = match kind {
                        "unsubscribe" => [r#""list":"A","#, r#""list":"B","#, ""][random.usize(0..3)],
                        _ => "",
                    };
                    message.payload = format!(r#"{{{list}"profile":{{"email":"{seq}@b.example"}}}}"#);
                }
                Row { message, identifiers }
            })
            .collect();
        let mut pending: HashMap<Identifier, BTreeSet<i64>> = HashMap::new();
        for row in &rows {
            for identifier in &row.identifiers {
                pending.entry(*identifier).or_default().insert(row.message.seq);
            }
        }
        let mut room = Room::default();
        room.open(&["default".to_owned()].into());
        Self {
            random,
            now,
            rows,
            pending,
            done: HashSet::new(),
            sent: HashSet::new(),
            room,
            committed: 0,
            cursor: 0,
            over: VecDeque::new(),
            loads: HashMap::new(),
            requests: HashMap::new(),
            commands: VecDeque::new(),
            reports: VecDeque::new(),
            sender: account(now),
            announced: HashMap::new(),
            calls: Vec::new(),
            told: HashMap::new(),
            counts: Counts::default(),
        }
    }

    fn row(&self, seq: i64) -> &Row {
        &self.rows[seq as usize - 1]
    }

    // What the owner does.

    /// Somebody is to be deleted, of whom something was queued.
    fn request(&mut self) {
        if self.committed == 0 {
            return;
        }
        let row = self.row(self.random.clone().i64(1..=self.committed));
        let (identifier, text) = (row.identifiers[0], row.message.key[0].clone());
        let seq = self.random.i64(1..=self.committed + 1);
        let request = DeletionRequest {
            id: [9; 16],
            seq,
            identifier: text,
            until: Some(SystemTime::UNIX_EPOCH),
            readmitted: None,
        };
        let of = self.requests.entry(identifier).or_default();
        *of = seq.max(*of);
        self.commands.push_back(Command::Discard { account: "default".into(), requests: vec![request] });
    }

    fn is_gone(&self, seq: i64, requests: &HashMap<Identifier, i64>) -> bool {
        let identifiers = &self.row(seq).identifiers;
        identifiers.iter().any(|identifier| requests.get(identifier).is_some_and(|request| seq < *request))
    }

    fn offer(&mut self, seq: i64, parked: bool, found: &mut Vec<Message>) {
        let account = "default";
        if self.done.contains(&seq) || !parked && self.room.holds(account, seq) {
            return;
        }
        let message = &self.rows[seq as usize - 1].message;
        let rides = message
            .unique_id
            .is_none_or(|id| !self.room.is_carried(account, &id) && !self.sent.contains(&id));
        let class = Class { rides, ..Class::of(message) };
        let admitted = match parked {
            true => self.room.leaves_parking(seq, account, class, message.unique_id),
            false => self.room.admit(seq, account, class, &message.key, message.unique_id),
        };
        if admitted {
            self.room.add(seq, account, class, message.unique_id, LANE_BYTES / ROOM);
            let message = Message { rides, ..message.clone() };
            if self.is_gone(seq, &self.requests) {
                self.is_done(seq);
                self.room.remove(seq);
            } else {
                found.push(message);
            }
        } else {
            self.counts.parked += usize::from(self.room.accounts[account].parking.holds(seq));
        }
    }

    fn read(&mut self) {
        let mut found = Vec::new();
        let chunk = self.random.i64(1..200);
        if let Some((_, due)) = self.room.due(chunk as usize) {
            due.into_iter().for_each(|seq| self.offer(seq, true, &mut found));
        }
        if let Some(CatchUp { account, from }) = self.room.catch_up() {
            self.room.look(&account);
            let to = (from + chunk).min(self.cursor + 1);
            (from..to).for_each(|seq| self.offer(seq, false, &mut found));
            self.room.looked(&account, (to <= self.cursor).then_some(to));
        }
        if self.room.wants_new() {
            let end = (self.cursor + chunk).min(self.committed);
            (self.cursor + 1..=end).for_each(|seq| self.offer(seq, false, &mut found));
            self.cursor = end;
        }
        if !found.is_empty() {
            self.commands.push_back(Command::Add { account: "default".into(), messages: found });
        }
    }

    fn take_reports(&mut self) {
        let most = self.random.usize(1..10).min(self.reports.len());
        let reports: Vec<Report> = self.reports.drain(..most).collect();
        let account: Arc<str> = "default".into();
        let (mut outcomes, mut parked) = (Vec::new(), Vec::new());
        for report in reports {
            outcomes.extend(report.outcomes);
            parked.extend(report.parked);
            for ImportReport { id, step } in report.imports {
                match step {
                    ImportStep::Announced { messages } => {
                        self.loads.insert(id, messages);
                        self.commands.push_back(Command::Make { account: account.clone(), id });
                    }
                    ImportStep::Made { messages, locks, .. } => {
                        self.counts.jobs += 1;
                        self.room.enter_job(&account, id, &messages, locks);
                        self.commands.push_back(Command::Barred { account: account.clone(), id });
                    }
                    ImportStep::Over { in_doubt, .. } => self.over.push_back((id, in_doubt)),
                    ImportStep::Ended { .. } => self.room.unlock(&account, id),
                }
            }
        }
        for parked in parked {
            self.counts.bounced += 1;
            self.room.park(parked.seq, parked.identifiers);
        }
        for outcome in outcomes {
            match outcome.ending {
                Ending::Accepted { .. } | Ending::Dead { .. } | Ending::Discarded { .. } => {
                    self.room.remove(outcome.seq);
                }
                Ending::Retry { .. } => {}
            }
        }
    }

    fn recall(&mut self) {
        let Some((id, in_doubt)) = self.over.front().copied() else { return };
        let load = self.loads.get_mut(&id).expect("a job");
        let part = if in_doubt { load.len() } else { self.random.usize(1..=load.len()) };
        let part: Vec<(i64, usize)> = load.drain(..part).collect();
        let last = load.is_empty();
        let messages: Vec<(Message, usize)> =
            part.into_iter().map(|(seq, place)| (self.row(seq).message.clone(), place)).collect();
        for (message, _) in &messages {
            assert!(self.room.leave_job("default", message.seq));
            let class = Class { kind: "profile", direct: false, rides: true, backfill: false };
            self.room.add(message.seq, "default", class, None, LANE_BYTES / ROOM);
        }
        if last {
            self.over.pop_front();
        }
        self.commands.push_back(Command::Recall { account: "default".into(), id, messages, last });
    }

    // What the thread does.

    fn obey(&mut self) {
        let now = self.now;
        match self.commands.pop_front() {
            Some(Command::Add { messages, .. }) => {
                let report = self.sender.add(messages, now);
                report.into_iter().for_each(|report| self.report(report));
            }
            Some(Command::Discard { requests, .. }) => {
                for request in &requests {
                    let identifier = key::identifiers(std::slice::from_ref(&request.identifier))[0];
                    let of = self.told.entry(identifier).or_default();
                    *of = request.seq.max(*of);
                }
                let report = self.sender.discard(requests, now);
                report.into_iter().for_each(|report| self.report(report));
            }
            Some(Command::Make { id, .. }) => {
                let call = self.announced.remove(&id).expect("it is announced");
                self.begin(call);
            }
            Some(Command::Barred { id, .. }) => {
                let report = self.sender.barred(id);
                report.into_iter().for_each(|report| self.report(report));
            }
            Some(Command::Recall { id, messages, last, .. }) => {
                let report = self.sender.recall(id, messages, last, (now, &POLICY)).expect("it is over");
                self.report(report);
            }
            _ => {}
        }
    }

    fn report(&mut self, report: Report) {
        for outcome in &report.outcomes {
            self.counts.discarded += usize::from(matches!(outcome.ending, Ending::Discarded { .. }));
            if !matches!(outcome.ending, Ending::Retry { .. }) {
                self.is_done(outcome.seq);
            }
        }
        self.reports.push_back(report);
    }

    fn is_done(&mut self, seq: i64) {
        if self.done.insert(seq) {
            for identifier in &self.rows[seq as usize - 1].identifiers {
                self.pending.get_mut(identifier).expect("known").remove(&seq);
            }
        }
    }

    fn start(&mut self) {
        while let Some(call) = next(&mut self.sender, self.now) {
            let useless = seqs(&call).into_iter().find(|seq| self.is_gone(*seq, &self.told));
            assert_eq!(useless, None, "a person's who is to be deleted");
            match call.announcement() {
                Some((id, report)) => {
                    self.announced.insert(id, call);
                    self.report(report);
                }
                None => self.begin(call),
            }
            if self.random.bool() {
                return;
            }
        }
    }

    /// A call is on its way: all that its messages must go after is done, or is in it before them.
    fn begin(&mut self, call: Call) {
        let mut before: BTreeMap<Identifier, i64> = BTreeMap::new();
        for seq in seqs(&call) {
            for identifier in &self.row(seq).identifiers {
                let mut older = self.pending[identifier].range(..seq);
                let last = before.insert(*identifier, seq);
                assert_eq!(older.next_back().copied(), last, "of {identifier} before {seq}");
            }
        }
        let rides = call.carried.is_bulk();
        for queued in &call.carried.messages {
            let Some(id) = queued.message.unique_id else { continue };
            assert!(!rides || !self.sent.contains(&id), "an id that was sent rides");
            self.counts.rode += usize::from(rides);
        }
        self.calls.push(call);
    }

    fn end(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls.swap_remove(self.random.usize(0..self.calls.len()));
        let job = |status: &str, failed: &str| {
            let attributes = format!(r#"{{"status":"{status}","total_count":1,"failed_count":{failed}}}"#);
            let job = format!(r#"{{"type":"profile-bulk-import-job","id":"01J","attributes":{attributes}}}"#);
            format!(r#"{{"data":{job}}}"#)
        };
        let error = r#"{"data":[{"id":"e","type":"import-error","attributes":{"code":"invalid","detail":"no","source":{"pointer":"/data/attributes/profiles/data/3"}}}],"links":{}}"#;
        let result: Result<Answer, TransportError> = match (self.random.u8(0..30), ENDPOINTS[call.lane]) {
            (0, _) => answer(503, ""),
            (1, _) => answer(429, ""),
            (2, _) => Err(TransportError::Timeout),
            (3..20, &GET_IMPORT_JOB) => answer(200, &job("processing", "null")),
            (20, &GET_IMPORT_JOB) => answer(200, &job("cancelled", "null")),
            (21, &GET_IMPORT_JOB) => answer(200, &job("complete", "1")),
            (_, &GET_IMPORT_JOB) => answer(200, &job("complete", "0")),
            (_, &GET_IMPORT_ERRORS) => answer(200, error),
            (_, &BULK_IMPORT_PROFILES) => answer(202, &job("queued", "null")),
            (_, &GET_IMPORT_JOBS) => answer(200, r#"{"data":[]}"#),
            (_, &SUPPRESS) => answer(202, &job("queued", "null")),
            (3..12, &GET_SUPPRESS_JOB) => answer(200, &job("processing", "null")),
            (12, &GET_SUPPRESS_JOB) => answer(200, &job("cancelled", "null")),
            (_, &GET_SUPPRESS_JOB) => answer(200, &job("complete", "null")),
            (_, &GET_LIST_PROFILES) => self.on_the_list(&call),
            _ => answer(202, ""),
        };
        let delivers = !matches!(&result, Ok(answer) if answer.status == 429);
        let ids: Vec<UniqueId> =
            call.carried.messages.iter().filter_map(|queued| queued.message.unique_id).collect();
        if delivers {
            self.sent.extend(ids);
        }
        self.counts.followed += usize::from(ENDPOINTS[call.lane] == &GET_SUPPRESS_JOB);
        let report = self.sender.ended(call, result, self.now, &POLICY);
        if let Some(lane) = report.lane {
            self.sender.lane(lane.name).expect("a lane").settled();
        }
        self.report(report);
    }

    /// Klaviyo's answer to a question, by which some are on the list.
    fn on_the_list(&mut self, call: &Call) -> Result<Answer, TransportError> {
        let members: Vec<String> = seqs(call)
            .into_iter()
            .filter(|_| self.random.u8(0..4) > 0)
            .map(|seq| format!(r#"{{"id":"{seq}","attributes":{{"email":"{seq}@b.example"}}}}"#))
            .collect();
        self.counts.asked += call.carried.messages.len();
        answer(200, &format!(r#"{{"data":[{}]}}"#, members.join(",")))
    }

    fn run(mut self) -> Counts {
        let (mut idle, mut deaf) = (0, 0);
        while self.done.len() < self.rows.len() {
            let before = (self.done.len(), self.cursor, self.commands.len(), self.reports.len());
            for _ in 0..20 {
                // Now and then the owner is busy for long, and hears nothing.
                deaf = if self.random.u8(..) == 0 { self.random.u32(0..400) } else { deaf.saturating_sub(1) };
                match self.random.u8(0..13) {
                    0 => {
                        self.committed =
                            (self.committed + self.random.i64(0..300)).min(self.rows.len() as i64)
                    }
                    1 | 2 => self.read(),
                    3 | 4 if deaf == 0 => self.take_reports(),
                    3 | 4 => {}
                    5 => self.recall(),
                    6 | 7 => self.obey(),
                    8 | 9 => self.start(),
                    10 if self.random.u8(0..8) == 0 => self.request(),
                    10 => self.now += Duration::from_millis(self.random.u64(0..600)),
                    _ => self.end(),
                }
            }
            if before == (self.done.len(), self.cursor, self.commands.len(), self.reports.len()) {
                idle += 1;
                assert!(idle < 100_000, "{} of {} came through", self.done.len(), self.rows.len());
                self.now += Duration::from_millis(self.random.u64(0..2_000));
            }
        }
        self.counts
    }
}

/// Whatever comes late between them: of two messages that share an identifier the later is not on its way before the
/// earlier has arrived, no id of the user's own that was sent rides, nothing goes that is about somebody whom the thread
/// knows to be deleted, and everything else arrives.
#[test]
fn order_holds_however_late_each_hears_of_the_other() {
    let mut all = Counts::default();
    for seed in 0..30 {
        let Counts { jobs, parked, bounced, rode, asked, followed, discarded } = Play::new(seed, 3_000).run();
        all.jobs += jobs;
        all.parked += parked;
        all.bounced += bounced;
        all.rode += rode;
        all.asked += asked;
        all.followed += followed;
        all.discarded += discarded;
    }
    let Counts { jobs, parked, bounced, rode, asked, followed, discarded } = all;
    assert!(jobs > 30 && parked > 1_000 && bounced > 100 && rode > 100, "{jobs} {parked} {bounced} {rode}");
    assert!(asked > 1_000 && followed > 1_000 && discarded > 300, "{asked} {followed} {discarded}");
}
