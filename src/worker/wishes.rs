//! Jobs that statements wait for, in shared memory: a transaction that waits for one cannot tell by a row.

use std::array;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::SeqCst};

/// How many may wait at once; others say it again.
const MAX_WISHES: usize = 8;

/// Words of eight bytes that the names of an account and a job have room in: 63 bytes, and as many as an address has.
const WORDS: usize = 42;

mod state {
    pub const FREE: u32 = 0;
    pub const WRITING: u32 = 1;
    pub const READY: u32 = 2;
}

/// A job that somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub account: String,
    pub job: String,
    /// As of when it is to have read at the least, in microseconds since 1970.
    pub oldest: i64,
}

/// Where they are left. All zero is none.
#[repr(C)]
pub struct Wishes([Cell; MAX_WISHES]);

#[repr(C)]
struct Cell {
    state: AtomicU32,
    oldest: AtomicI64,
    /// The names of the account and of the job, each behind its length, with zeros behind.
    text: [AtomicU64; WORDS],
}

impl Wishes {
    /// Leaves one. Where it is lost, for want of room or since it was taken in the same moment, whoever waits says it again.
    pub fn leave(&self, wish: &Wish) {
        // All that has such names has room.
        let Some(text) = wish.text() else { return };
        let is_it = |cell: &&Cell| cell.state.load(SeqCst) == state::READY && cell.read() == text;
        if let Some(cell) = self.0.iter().find(is_it) {
            cell.oldest.fetch_max(wish.oldest, SeqCst);
            return;
        }
        let take =
            |cell: &&Cell| cell.state.compare_exchange(state::FREE, state::WRITING, SeqCst, SeqCst).is_ok();
        if let Some(cell) = self.0.iter().find(take) {
            cell.oldest.store(wish.oldest, SeqCst);
            cell.text.iter().zip(text).for_each(|(word, value)| word.store(value, SeqCst));
            cell.state.store(state::READY, SeqCst);
        }
    }

    /// Takes all there are. For one process only.
    pub fn take(&self) -> Vec<Wish> {
        let ready = self.0.iter().filter(|cell| cell.state.load(SeqCst) == state::READY);
        let take = |cell: &Cell| {
            let wish = Wish::of(&cell.read(), cell.oldest.load(SeqCst));
            cell.state.store(state::FREE, SeqCst);
            wish
        };
        ready.filter_map(take).collect()
    }

    /// Whether there are any.
    pub fn are_any(&self) -> bool {
        self.0.iter().any(|cell| cell.state.load(SeqCst) == state::READY)
    }
}

impl Cell {
    fn read(&self) -> [u64; WORDS] {
        array::from_fn(|word| self.text[word].load(SeqCst))
    }
}

impl Wish {
    fn text(&self) -> Option<[u64; WORDS]> {
        let mut bytes = Vec::with_capacity(WORDS * 8);
        for name in [&self.account, &self.job] {
            bytes.extend(u16::try_from(name.len()).ok()?.to_le_bytes());
            bytes.extend(name.as_bytes());
        }
        let mut text = [0; WORDS];
        for (word, bytes) in bytes.chunks(8).enumerate() {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *text.get_mut(word)? = u64::from_le_bytes(padded);
        }
        Some(text)
    }

    fn of(text: &[u64; WORDS], oldest: i64) -> Option<Self> {
        let bytes: Vec<u8> = text.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut rest = bytes.as_slice();
        let mut name = || {
            let (length, behind) = rest.split_first_chunk::<2>()?;
            let (name, behind) = behind.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            rest = behind;
            String::from_utf8(name.to_vec()).ok()
        };
        Some(Self { account: name()?, job: name()?, oldest })
    }
}
