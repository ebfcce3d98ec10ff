//! Numbers of the outbox that were passed over: taken by transactions that had not committed when we read.
//!
//! A number is taken after its transaction got its id. So once every transaction that existed when we saw the gap has
//! ended (`xmin` has passed the `horizon`), a last look tells: what is not there then will never be.

use std::collections::VecDeque;

/// Gaps remembered one by one; above that neighbours are joined, and a look into one also meets numbers that are
/// known. Bounds the memory and the length of a look while one long transaction keeps all gaps open.
const MOST: usize = 1_000;

/// A run of numbers, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub from: i64,
    pub to: i64,
    /// The first transaction id that nobody had when the gap was seen.
    horizon: u64,
}

/// How far the outbox has been read, and what was passed over.
#[derive(Debug, Default)]
pub struct Gaps {
    cursor: i64,
    gaps: VecDeque<Gap>,
}

impl Gaps {
    /// The highest number seen.
    pub fn cursor(&self) -> i64 {
        self.cursor
    }

    /// The gaps, lowest first.
    pub fn open(&self) -> impl Iterator<Item = &Gap> {
        self.gaps.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.gaps.is_empty()
    }

    /// Numbers above the cursor were seen, in ascending order. `horizon` is the next transaction id, read *after* the
    /// snapshot in which they were seen.
    pub fn saw(&mut self, numbers: impl IntoIterator<Item = i64>, horizon: u64) {
        for number in numbers {
            if number > self.cursor + 1 {
                self.gaps.push_back(Gap { from: self.cursor + 1, to: number - 1, horizon });
            }
            self.cursor = number;
            if self.gaps.len() > MOST {
                self.join_closest();
            }
        }
    }

    /// Joins the two neighbours that have the fewest known numbers between them.
    fn join_closest(&mut self) {
        let between = |at: &usize| self.gaps[at + 1].from - self.gaps[*at].to;
        let Some(at) = (0..self.gaps.len() - 1).min_by_key(between) else { return };
        let later = self.gaps.remove(at + 1).expect("it was just looked at");
        let gap = &mut self.gaps[at];
        gap.to = later.to;
        gap.horizon = gap.horizon.max(later.horizon);
    }

    /// Forgets the gaps into which everything that could appear had appeared when `xmin` was the oldest transaction
    /// running. They must have been looked into *after* `xmin` was read.
    pub fn settle(&mut self, xmin: u64) {
        self.gaps.retain(|gap| gap.horizon > xmin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(gaps: &Gaps) -> Vec<(i64, i64)> {
        gaps.open().map(|gap| (gap.from, gap.to)).collect()
    }

    #[test]
    fn what_was_passed_over_stays_open_until_its_time() {
        let mut gaps = Gaps::default();
        gaps.saw([1, 2, 5], 100);
        gaps.saw([6, 9], 200);
        assert_eq!((ranges(&gaps), gaps.cursor()), (vec![(3, 4), (7, 8)], 9));
        gaps.settle(99);
        assert_eq!(ranges(&gaps).len(), 2);
        gaps.settle(100);
        assert_eq!(ranges(&gaps), [(7, 8)]);
        gaps.settle(200);
        assert!(gaps.is_empty());
    }

    #[test]
    fn gaps_are_bounded_and_none_is_lost() {
        let mut gaps = Gaps::default();
        gaps.saw((0..20_000).map(|n| n * 3), 7);
        assert!(ranges(&gaps).len() <= MOST);
        for n in 1..19_999 {
            for number in [n * 3 + 1, n * 3 + 2] {
                assert!(gaps.open().any(|gap| (gap.from..=gap.to).contains(&number)), "{number}");
            }
        }
        gaps.settle(6);
        assert!(!gaps.is_empty());
    }
}
