use super::behind::PASSED_OVER_A_SECOND;
use super::*;

const EVENT: Class = Class { kind: "event", direct: false, rides: false, backfill: false };
const PROFILE: Class = Class { kind: "profile", direct: false, rides: false, backfill: false };
const RIDER: Class = Class { kind: "event", direct: false, rides: true, backfill: false };

fn names(names: &[&str]) -> HashSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// An outbox, and a reader that does what the worker does: reads on where it may, catches up where it should.
struct Reader {
    room: Room,
    outbox: Vec<(i64, &'static str, Class, String)>,
    cursor: i64,
    chunk: usize,
    reads: usize,
    taken: HashSet<i64>,
}

impl Reader {
    fn new(chunk: usize) -> Self {
        let mut room = Room::default();
        room.open(&names(&["a"]));
        Self { room, outbox: Vec::new(), cursor: 0, chunk, reads: 0, taken: HashSet::new() }
    }

    fn put(&mut self, account: &'static str, class: Class, key: &str) {
        self.outbox.push((self.outbox.len() as i64 + 1, account, class, key.to_owned()));
    }

    fn offer(&mut self, seq: i64) {
        self.reads += 1;
        let (_, account, class, key) = self.outbox[seq as usize - 1].clone();
        if !self.room.holds(account, seq)
            && !self.taken.contains(&seq)
            && self.room.admit(seq, account, class, &[key], None)
        {
            self.room.add(seq, account, class, None, 1);
        }
    }

    /// Locks the keys of these for a job, which takes them.
    fn enter_job(&mut self, job: u8, seqs: std::ops::RangeInclusive<i64>) {
        let keys = seqs.clone().flat_map(|seq| key::identifiers(&[self.outbox[seq as usize - 1].3.clone()]));
        let locks = keys.collect();
        self.room.enter_job("a", [job; 16], &seqs.collect::<Vec<_>>(), locks);
    }

    /// Reads until nothing more is to be read.
    fn read(&mut self) {
        loop {
            if let Some((account, due)) = self.room.due(self.chunk) {
                for seq in due {
                    self.reads += 1;
                    let class = self.outbox[seq as usize - 1].2;
                    if self.room.leaves_parking(seq, &account, class, None) {
                        self.room.add(seq, &account, class, None, 1);
                    }
                }
            } else if let Some(CatchUp { account, from }) = self.room.catch_up() {
                self.room.look(&account);
                let mine: Vec<i64> = (self.outbox.iter())
                    .filter(|row| row.1 == account && row.0 >= from && row.0 <= self.cursor)
                    .map(|row| row.0)
                    .filter(|seq| !self.taken.contains(seq))
                    .take(self.chunk)
                    .collect();
                mine.iter().for_each(|seq| self.offer(*seq));
                let next = (mine.len() == self.chunk).then(|| mine[mine.len() - 1] + 1);
                self.room.looked(&account, next);
            } else if self.room.wants_new() && self.cursor < self.outbox.len() as i64 {
                let end = (self.cursor + self.chunk as i64).min(self.outbox.len() as i64);
                (self.cursor + 1..=end).for_each(|seq| self.offer(seq));
                self.cursor = end;
            } else {
                return;
            }
        }
    }

    fn in_memory(&self, class: Class) -> usize {
        self.room.entries.values().filter(|entry| entry.class == class).count()
    }

    /// Delivers the oldest of a class in memory.
    fn deliver(&mut self, class: Class, count: usize) {
        let mut seqs: Vec<i64> =
            self.room.entries.iter().filter(|(_, entry)| entry.class == class).map(|(seq, _)| *seq).collect();
        seqs.sort_unstable();
        for seq in seqs.into_iter().take(count) {
            self.room.remove(seq);
            self.taken.insert(seq);
        }
    }
}

#[test]
fn memory_is_bounded_and_everything_comes_in_the_end() {
    const ALL: usize = LANE_MESSAGES * 5;
    let start = std::time::Instant::now();
    let mut reader = Reader::new(500);
    (0..ALL).for_each(|n| reader.put("a", EVENT, &n.to_string()));
    reader.read();
    assert_eq!(reader.room.entries.len(), LANE_MESSAGES);
    assert!(reader.cursor < ALL as i64, "not all is read to no end");
    while reader.taken.len() < ALL {
        reader.deliver(EVENT, LANE_MESSAGES / 5);
        reader.read();
        assert!(reader.room.entries.len() <= LANE_MESSAGES);
    }
    // The longer it takes, the further it may look.
    let looks_far = start.elapsed().as_millis() as usize * PASSED_OVER_A_SECOND / 1_000;
    assert!(reader.reads < ALL * 6 + looks_far, "{} reads of {ALL}, {looks_far}", reader.reads);
}

#[test]
fn a_lane_that_stands_still_does_not_hold_up_the_other_nor_lose_order() {
    const PROFILES: i64 = LANE_MESSAGES as i64 * 5 / 2;
    let mut reader = Reader::new(500);
    reader.put("a", EVENT, "first");
    (0..PROFILES).for_each(|n| reader.put("a", PROFILE, &n.to_string()));
    reader.put("a", EVENT, "other");
    let kept = PROFILES - 1_000;
    reader.put("a", EVENT, &kept.to_string());
    while !reader.room.holds("a", PROFILES + 2) {
        // Looking so far ahead takes its time.
        std::thread::sleep(Duration::from_millis(10));
        reader.read();
    }
    assert_eq!(reader.in_memory(PROFILE), LANE_MESSAGES);
    assert!(reader.room.holds("a", PROFILES + 2), "an event far behind, of a key that waits for nothing");
    assert!(!reader.room.holds("a", PROFILES + 3), "an event whose profile still waits in the outbox");
    while reader.taken.iter().filter(|seq| **seq <= PROFILES + 1).count() < PROFILES as usize {
        reader.deliver(PROFILE, LANE_MESSAGES / 3);
        reader.read();
        let profile = kept + 2;
        assert!(
            !reader.room.holds("a", PROFILES + 3)
                || reader.room.holds("a", profile)
                || reader.taken.contains(&profile)
        );
    }
    assert!(reader.room.holds("a", PROFILES + 3));
}

/// As after a crash in a backlog: what may have been sent goes one by one, and what lies behind it rides.
#[test]
fn what_goes_one_by_one_is_not_in_the_way_of_what_rides() {
    let mut reader = Reader::new(500);
    (0..16_000).for_each(|n| reader.put("a", EVENT, &n.to_string()));
    (0..200_000).for_each(|n| reader.put("a", RIDER, &format!("rider {n}")));
    let mut rode = 0;
    while rode < 100_000 {
        reader.read();
        reader.deliver(EVENT, 20);
        let before = reader.in_memory(RIDER);
        reader.deliver(RIDER, 1_000);
        rode += before - reader.in_memory(RIDER);
        // Looking so far ahead takes its time.
        std::thread::sleep(Duration::from_millis(2));
    }
    let single = reader.taken.iter().filter(|seq| **seq <= 16_000).count();
    assert!(single < 16_000, "{single} had to go first");
}

/// What leaves makes room for what has waited longest. Else, after a crash, much more could have been sent than was in
/// memory.
#[test]
fn what_was_passed_over_comes_before_what_lies_behind_it() {
    let mut reader = Reader::new(500);
    (0..40_000).for_each(|n| reader.put("a", RIDER, &n.to_string()));
    for _ in 0..100 {
        reader.read();
        reader.deliver(RIDER, 10);
        std::thread::sleep(Duration::from_millis(2));
    }
    let highest = reader.room.entries.keys().max().copied();
    assert_eq!(highest, Some(RIDERS as i64));
}

#[test]
fn an_account_that_cannot_send_costs_nothing_and_comes_back() {
    let mut reader = Reader::new(500);
    for n in 0..6_000 {
        reader.put(if n % 2 == 0 { "a" } else { "b" }, EVENT, &n.to_string());
    }
    while reader.taken.len() < 3_000 {
        reader.read();
        reader.deliver(EVENT, 2_000);
    }
    assert!(reader.taken.iter().all(|seq| seq % 2 == 1), "only those of a");
    reader.room.open(&names(&["a", "b"]));
    while reader.taken.len() < 6_000 {
        reader.read();
        reader.deliver(EVENT, 2_000);
    }
    reader.put("b", EVENT, "new");
    reader.read();
    assert!(reader.room.holds("a", 6_001), "caught up");
}

#[test]
fn what_is_linked_keeps_its_order_too() {
    let mut reader = Reader::new(500);
    reader.room.link("a", &["email".to_owned(), "id".to_owned()]);
    (0..LANE_MESSAGES).for_each(|n| reader.put("a", EVENT, &n.to_string()));
    reader.put("a", EVENT, "email");
    reader.put("a", PROFILE, "id");
    reader.put("a", PROFILE, "other");
    reader.read();
    let last = LANE_MESSAGES as i64 + 3;
    assert!(
        reader.room.holds("a", last) && !reader.room.holds("a", last - 1),
        "the profile waits for its event"
    );
}

#[test]
fn looking_ahead_ends_somewhere() {
    let mut reader = Reader::new(500);
    reader.put("a", EVENT, "first");
    (0..100_000).for_each(|n| reader.put("a", PROFILE, &n.to_string()));
    reader.read();
    assert!(reader.cursor < 100_000);
}

#[test]
fn one_huge_message_fits_and_shuts_the_door() {
    let mut room = Room::default();
    room.open(&names(&["a"]));
    assert!(room.admit(1, "a", EVENT, &[], None));
    room.add(1, "a", EVENT, None, LANE_BYTES * 2);
    assert!(!room.admit(2, "a", EVENT, &["k".to_owned()], None));
    room.remove(1);
    assert_eq!(room.catch_up(), Some(CatchUp { account: "a".to_owned(), from: 2 }));
}

#[test]
fn what_is_in_a_job_takes_no_room_and_is_not_read_again() {
    let mut reader = Reader::new(500);
    (0..RIDERS + 1_000).for_each(|n| reader.put("a", RIDER, &n.to_string()));
    reader.read();
    assert_eq!(reader.in_memory(RIDER), RIDERS);
    reader.enter_job(1, 1..=10_000);
    assert_eq!((reader.in_memory(RIDER), reader.room.lowest()), (RIDERS - 10_000, Some(1)));
    reader.read();
    assert_eq!(reader.in_memory(RIDER), RIDERS - 9_000, "what is in the job was passed over");
    assert!(reader.room.leave_job("a", 1) && !reader.room.leave_job("a", 1));
    assert!(!reader.room.holds("a", 1) && reader.room.holds("a", 2));
    reader.room.forget("a", 11_500);
    reader.enter_job(2, 11_600..=11_600);
    assert_eq!(reader.room.lowest(), Some(11_500), "nothing of a removed account is in a job");
    assert!(reader.room.accounts["a"].parking.is_idle());
}

#[test]
fn what_waits_for_a_job_takes_no_room_and_comes_in_its_order() {
    let mut reader = Reader::new(500);
    (0..10_000).for_each(|n| {
        reader.put(
            "a",
            Class { kind: "profile", direct: false, rides: true, backfill: false },
            &n.to_string(),
        )
    });
    reader.read();
    reader.enter_job(1, 1..=5_000);
    reader.enter_job(2, 5_001..=10_000);
    // Three of each in the jobs, one after the other, and then those of others.
    (0..30_000).for_each(|n| reader.put("a", RIDER, &(n % 10_000).to_string()));
    (0..6_000).for_each(|n| reader.put("a", RIDER, &format!("other {n}")));
    reader.read();
    assert_eq!(reader.in_memory(RIDER), 6_000);
    assert_eq!((reader.reads, reader.room.lowest()), (46_000, Some(1)), "nothing is read twice");
    reader.deliver(RIDER, 6_000);
    reader.read();
    assert_eq!((reader.reads, reader.in_memory(RIDER)), (46_000, 0));
    reader.room.unlock("a", [2; 16]);
    reader.read();
    let due = || [10_001, 20_001, 30_001].into_iter().flat_map(|of| of + 5_000..of + 10_000);
    let mut held: Vec<i64> = reader.room.entries.keys().copied().collect();
    held.sort_unstable();
    assert!(held.into_iter().eq(due().take(RIDERS)), "the oldest, as many as there is room for");
    // What comes now goes behind what waits for room.
    reader.put("a", EVENT, "9999");
    reader.read();
    assert_eq!(reader.in_memory(EVENT), 0);
    reader.deliver(RIDER, RIDERS / 2);
    reader.read();
    assert!(due().all(|seq| reader.taken.contains(&seq) || reader.room.entries.contains_key(&seq)));
    assert_eq!(reader.in_memory(EVENT), 1);
    reader.room.unlock("a", [1; 16]);
    while reader.taken.len() < 36_000 {
        reader.read();
        reader.deliver(RIDER, 1_000);
    }
    let reads = reader.reads;
    assert!((76_001..80_000).contains(&reads), "each of them hardly more than once again: {reads}");
    reader.room.forget("a", 50_000);
    assert_eq!(reader.room.lowest(), Some(50_000));
}

#[test]
fn a_job_without_end_does_not_hold_up_others() {
    const WAITING: i64 = 70_000;
    let mut reader = Reader::new(500);
    (0..1_000).for_each(|n| reader.put("a", PROFILE, &n.to_string()));
    reader.read();
    reader.enter_job(1, 1..=1_000);
    // More than may be parked.
    (0..WAITING).for_each(|n| reader.put("a", RIDER, &(n % 1_000).to_string()));
    (0..20_000).for_each(|n| reader.put("a", RIDER, &format!("other {n}")));
    let others = |reader: &Reader| reader.taken.iter().filter(|seq| **seq > WAITING + 1_000).count();
    while others(&reader) < 20_000 {
        reader.read();
        reader.deliver(RIDER, 1_000);
        // Looking so far ahead takes its time.
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(reader.taken.len(), 20_000, "none of those that wait");
    reader.room.unlock("a", [1; 16]);
    let mut newest = HashMap::new();
    while reader.taken.len() < WAITING as usize + 20_000 {
        reader.read();
        let before = reader.taken.clone();
        reader.deliver(RIDER, 1_000);
        let mut left: Vec<i64> = reader.taken.difference(&before).copied().collect();
        left.sort_unstable();
        for seq in left {
            let last = newest.insert(reader.outbox[seq as usize - 1].3.clone(), seq);
            assert!(last < Some(seq), "{last:?} before {seq}");
        }
    }
}

#[test]
fn what_found_no_place_to_wait_comes_when_it_need_not() {
    const MOST: i64 = parking::MOST as i64;
    let mut reader = Reader::new(500);
    for key in ["endless", "short"] {
        reader.put("a", PROFILE, key);
    }
    reader.read();
    reader.enter_job(1, 1..=1);
    reader.enter_job(2, 2..=2);
    (0..MOST - 1).for_each(|_| reader.put("a", RIDER, "endless"));
    reader.put("a", RIDER, "short");
    reader.put("a", EVENT, "short");
    (0..RIDERS).for_each(|n| reader.put("a", RIDER, &format!("other {n}")));
    reader.read();
    let (parked, passed) = (MOST + 2, MOST + 3);
    assert!(reader.room.holds("a", parked) && !reader.room.holds("a", passed));
    assert_eq!(reader.in_memory(RIDER), RIDERS);
    reader.room.unlock("a", [2; 16]);
    reader.read();
    assert!(!reader.room.entries.contains_key(&parked), "there is no room");
    assert!(!reader.room.holds("a", passed), "and for this there is, but not before that");
    reader.deliver(RIDER, RIDERS / 2);
    reader.read();
    assert!(reader.room.entries.contains_key(&parked) && reader.room.entries.contains_key(&passed));
    // The same where nothing waits before it: one was put into the place that came free.
    reader.put("a", RIDER, "endless");
    reader.put("a", PROFILE, "last");
    reader.read();
    reader.enter_job(3, MOST + 5 + RIDERS as i64..=MOST + 5 + RIDERS as i64);
    reader.put("a", EVENT, "last");
    reader.read();
    let last = reader.outbox.len() as i64;
    assert!(!reader.room.holds("a", last));
    reader.room.unlock("a", [3; 16]);
    reader.read();
    assert!(reader.room.entries.contains_key(&last));
}

#[test]
fn what_was_in_memory_when_its_key_was_locked_comes_again() {
    let mut reader = Reader::new(500);
    reader.put("a", PROFILE, "one");
    reader.put("a", RIDER, "one");
    reader.read();
    reader.enter_job(1, 1..=1);
    reader.room.park(2, key::identifiers(&["one".to_owned()]));
    reader.read();
    assert!(reader.room.entries.is_empty() && reader.room.holds("a", 2));
    reader.room.unlock("a", [1; 16]);
    reader.read();
    assert!(reader.room.entries.contains_key(&2));
    // It turns out to be about a key that no job has any more.
    reader.room.park(2, key::identifiers(&["one".to_owned()]));
    reader.read();
    assert!(reader.room.entries.contains_key(&2));
    reader.room.park(2, key::identifiers(&["one".to_owned()]));
    assert!(reader.room.leave_job("a", 1));
    assert_eq!(reader.room.lowest(), Some(2));
    // Somebody has deleted it.
    assert_eq!(reader.room.due(10), Some(("a".to_owned(), vec![2])));
    reader.room.unpark("a", 2);
    assert!(!reader.room.holds("a", 2) && reader.room.accounts["a"].parking.is_idle());
}

/// As the worker does it: what has an id that was sent, or that another in memory has, does not ride.
#[test]
fn an_id_rides_only_where_no_other_can_have_brought_it() {
    const MESSAGES: usize = 1_200;
    let mut random = fastrand::Rng::with_seed(7);
    let mut rode = 0;
    for round in 0..12 {
        // Those before this number may have been sent by a worker of before.
        let fresh_from = random.usize(0..MESSAGES / 2);
        let ids = [3, 40, 800][round % 3];
        let outbox: Vec<(UniqueId, Vec<String>)> = (0..MESSAGES)
            .map(|_| ([random.u8(..), random.u8(..)], random.u16(0..500)))
            .map(|(id, key)| {
                let id = u16::from_le_bytes(id) % ids;
                (u128::from(id).to_le_bytes(), vec![key.to_string()])
            })
            .collect();
        let mut room = Room::default();
        room.open(&names(&["a"]));
        let (mut cursor, mut sent, mut left) = (0, HashSet::new(), HashSet::new());
        let mut offer = |room: &mut Room, seq: usize, sent: &HashSet<UniqueId>, left: &HashSet<usize>| {
            let (id, key) = &outbox[seq];
            if room.holds("a", seq as i64) || left.contains(&seq) {
                return;
            }
            let rides = seq >= fresh_from && !room.is_carried("a", id) && !sent.contains(id);
            let class = Class { kind: "event", direct: false, rides, backfill: false };
            if room.admit(seq as i64, "a", class, key, Some(*id)) {
                room.add(seq as i64, "a", class, Some(*id), LANE_BYTES / 50);
                let may_have_it = |other: &usize| {
                    *other != seq
                        && outbox[*other].0 == *id
                        && (*other < fresh_from || room.holds("a", *other as i64))
                };
                let mut others = (0..MESSAGES).filter(|other| !left.contains(other));
                assert!(!rides || !others.any(|other| may_have_it(&other)), "{seq} rides");
                assert!(rides || !room.is_carried_by_rider("a", id), "{seq} goes beside one that rides");
                rode += usize::from(rides);
            }
        };
        while left.len() < MESSAGES {
            if let Some(CatchUp { from, .. }) = room.catch_up() {
                room.look("a");
                let to = (from as usize + 200).min(cursor);
                (from as usize..to).for_each(|seq| offer(&mut room, seq, &sent, &left));
                room.looked("a", (to < cursor).then_some(to as i64));
            } else if room.wants_new() && cursor < MESSAGES {
                let end = (cursor + 200).min(MESSAGES);
                (cursor..end).for_each(|seq| offer(&mut room, seq, &sent, &left));
                cursor = end;
            }
            let held: Vec<i64> = room.entries.keys().copied().collect();
            for seq in held.into_iter().filter(|_| random.u8(0..4) == 0) {
                room.remove(seq);
                sent.insert(outbox[seq as usize].0);
                left.insert(seq as usize);
            }
        }
        assert!(room.accounts["a"].unique_ids.is_empty());
    }
    assert!(rode > 1_000, "{rode} rode");
}

/// Whoever has an id that is just riding waits until that is over, and so do those behind it that are about the same.
#[test]
fn what_repeats_the_id_of_a_rider_waits_for_it() {
    let mut room = Room::default();
    room.open(&names(&["a"]));
    let (id, other) = ([1; 16], [2; 16]);
    let key = |key: &str| [key.to_owned()];
    assert!(room.admit(1, "a", RIDER, &key("one"), Some(id)));
    room.add(1, "a", RIDER, Some(id), 1);
    assert!(!room.admit(2, "a", EVENT, &key("two"), Some(id)), "whoever it is about");
    assert!(!room.admit(3, "a", PROFILE, &key("two"), None), "behind that");
    assert!(room.admit(4, "a", RIDER, &key("three"), Some(other)));
    room.add(4, "a", RIDER, Some(other), 1);
    room.remove(4);
    assert_eq!(room.catch_up(), None);
    room.remove(1);
    assert_eq!(room.catch_up(), Some(CatchUp { account: "a".to_owned(), from: 2 }));
    room.look("a");
    assert!(room.admit(2, "a", EVENT, &key("two"), Some(id)));
    room.add(2, "a", EVENT, Some(id), 1);
    assert!(room.admit(3, "a", PROFILE, &key("two"), None));
    room.looked("a", None);
    assert!(room.is_carried("a", &id) && !room.is_carried_by_rider("a", &id));
    assert!(room.admit(5, "a", EVENT, &key("four"), Some(id)), "calls of one need not wait for each other");
}
