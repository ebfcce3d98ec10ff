//! Durations counted by size, for percentiles. Each power of two has four buckets, so a percentile is too long by a
//! quarter at the most.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// From 64 µs, four for each power of two, to some 19 hours.
const BUCKETS: usize = 120;
const SMALLEST_LOG2: u32 = 6;

/// Counts since the beginning. Atomics only; all zero is an empty one.
#[derive(Debug)]
#[repr(C)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Histogram {
    pub fn add(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].fetch_add(1, Relaxed);
    }

    pub fn clear(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
    }

    /// For each part the duration that so much of all does not exceed, rounded up; none when nothing was counted.
    pub fn percentiles<const N: usize>(&self, parts: [f64; N]) -> [Option<Duration>; N] {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        parts.map(|part| {
            let rank = ((all as f64 * part).ceil() as u64).max(1);
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            found.map(|at| Duration::from_micros(upper_bound(at)))
        })
    }
}

fn bucket(micros: u64) -> usize {
    let micros = micros.max(1 << SMALLEST_LOG2);
    let log2 = micros.ilog2();
    // The two bits below the highest one say which quarter.
    let quarter = (micros >> (log2 - 2)) & 3;
    (((log2 - SMALLEST_LOG2) * 4) as usize + quarter as usize).min(BUCKETS - 1)
}

/// In microseconds.
fn upper_bound(bucket: usize) -> u64 {
    let base = 1_u64 << (SMALLEST_LOG2 as usize + bucket / 4);
    base + base / 4 * (bucket % 4 + 1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_a_quarter() {
        let histogram = Histogram::default();
        assert_eq!(histogram.percentiles([0.5]), [None]);
        for millisecond in 1..=1_000 {
            histogram.add(Duration::from_millis(millisecond));
        }
        for (part, expected) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0), (1.0, 1_000.0), (0.0, 1.0)] {
            let [found] = histogram.percentiles([part]);
            let found = found.expect("a duration").as_secs_f64() * 1_000.0;
            assert!(found >= expected && found <= expected * 1.26, "{part}: {found} for {expected}");
        }
    }

    #[test]
    fn every_duration_has_a_bucket_that_holds_it() {
        for micros in [0, 1, 63, 64, 79, 80, 127, 128, 1_000, u64::from(u32::MAX), u64::MAX] {
            let at = bucket(micros);
            assert!(at == BUCKETS - 1 || micros < upper_bound(at), "{micros} in bucket {at}");
            assert!(at == 0 || at == BUCKETS - 1 || micros >= upper_bound(at - 1), "{micros} in bucket {at}");
        }
    }
}
