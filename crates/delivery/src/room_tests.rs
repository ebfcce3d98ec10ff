use super::*;

const EVENT: &str = "event";
const PROFILE: &str = "profile";

fn names(names: &[&str]) -> HashSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// An outbox, and a reader that does what the worker does: reads on where it may, catches up where it should.
struct Reader {
    room: Room,
    outbox: Vec<(i64, &'static str, &'static str, String)>,
    cursor: i64,
    chunk: usize,
    reads: usize,
    taken: Vec<i64>,
}

impl Reader {
    fn new(chunk: usize) -> Self {
        let mut room = Room::default();
        room.open(&names(&["a"]));
        Self { room, outbox: Vec::new(), cursor: 0, chunk, reads: 0, taken: Vec::new() }
    }

    fn put(&mut self, account: &'static str, kind: &'static str, key: &str) {
        self.outbox.push((self.outbox.len() as i64 + 1, account, kind, key.to_owned()));
    }

    fn offer(&mut self, seq: i64) {
        self.reads += 1;
        let (_, account, kind, key) = self.outbox[seq as usize - 1].clone();
        if !self.room.holds(seq) && !self.taken.contains(&seq) && self.room.admit(seq, account, kind, &[key])
        {
            self.room.add(seq, account, kind, 1);
        }
    }

    /// Reads until nothing more is to be read.
    fn read(&mut self) {
        loop {
            if let Some(CatchUp { account, from }) = self.room.catch_up() {
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

    fn in_memory(&self, kind: &str) -> usize {
        self.room.entries.values().filter(|entry| entry.kind == kind).count()
    }

    /// Delivers the oldest of a kind in memory.
    fn deliver(&mut self, kind: &str, count: usize) {
        let mut seqs: Vec<i64> =
            self.room.entries.iter().filter(|(_, entry)| entry.kind == kind).map(|(seq, _)| *seq).collect();
        seqs.sort_unstable();
        for seq in seqs.into_iter().take(count) {
            self.room.remove(seq);
            self.taken.push(seq);
        }
    }
}

#[test]
fn memory_is_bounded_and_everything_comes_in_the_end() {
    let mut reader = Reader::new(500);
    (0..10_000).for_each(|n| reader.put("a", EVENT, &n.to_string()));
    reader.read();
    assert_eq!(reader.room.entries.len(), LANE_MESSAGES);
    assert!(reader.cursor < 10_000, "not all is read to no end");
    while reader.taken.len() < 10_000 {
        reader.deliver(EVENT, 400);
        reader.read();
        assert!(reader.room.entries.len() <= LANE_MESSAGES);
    }
    assert!(reader.reads < 60_000, "{} reads of 10000", reader.reads);
}

#[test]
fn a_lane_that_stands_still_does_not_hold_up_the_other_nor_lose_order() {
    let mut reader = Reader::new(500);
    reader.put("a", EVENT, "first");
    (0..5_000).for_each(|n| reader.put("a", PROFILE, &n.to_string()));
    reader.put("a", EVENT, "other");
    let kept = 4_000;
    reader.put("a", EVENT, &kept.to_string());
    while !reader.room.holds(5_002) {
        // Looking so far ahead takes its time.
        std::thread::sleep(Duration::from_millis(10));
        reader.read();
    }
    assert_eq!(reader.in_memory(PROFILE), LANE_MESSAGES);
    assert!(reader.room.holds(5_002), "an event far behind, of a key that waits for nothing");
    assert!(!reader.room.holds(5_003), "an event whose profile still waits in the outbox");
    while reader.taken.iter().filter(|seq| **seq <= 5_001).count() < 5_000 {
        reader.deliver(PROFILE, 700);
        reader.read();
        let profile = kept + 2;
        assert!(!reader.room.holds(5_003) || reader.room.holds(profile) || reader.taken.contains(&profile));
    }
    assert!(reader.room.holds(5_003));
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
    assert!(reader.room.holds(6_001), "caught up");
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
    assert!(reader.room.holds(last) && !reader.room.holds(last - 1), "the profile waits for its event");
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
    assert!(room.admit(1, "a", EVENT, &[]));
    room.add(1, "a", EVENT, LANE_BYTES * 2);
    assert!(!room.admit(2, "a", EVENT, &["k".to_owned()]));
    room.remove(1);
    assert_eq!(room.catch_up(), Some(CatchUp { account: "a".to_owned(), from: 2 }));
}
