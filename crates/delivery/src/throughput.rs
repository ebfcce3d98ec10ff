//! How many of something there were: ever, and in the last minute.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

/// Seconds that are told apart.
const SECONDS: usize = 64;

/// One thread counts, any may look. Atomics only; all zero is an empty one.
#[derive(Debug)]
#[repr(C)]
pub struct Throughput {
    total: AtomicU64,
    /// Each second's number since 1970, and the count of that second.
    seconds: [(AtomicU64, AtomicU64); SECONDS],
}

impl Default for Throughput {
    fn default() -> Self {
        Self { total: AtomicU64::new(0), seconds: std::array::from_fn(|_| Default::default()) }
    }
}

impl Throughput {
    pub fn add(&self, count: u64, at: SystemTime) {
        self.total.fetch_add(count, Relaxed);
        let second = seconds(at);
        let (number, sum) = &self.seconds[second as usize % SECONDS];
        if number.swap(second, Relaxed) == second {
            sum.fetch_add(count, Relaxed);
        } else {
            sum.store(count, Relaxed);
        }
    }

    pub fn clear(&self) {
        self.total.store(0, Relaxed);
        self.seconds.iter().for_each(|(number, _)| number.store(0, Relaxed));
    }

    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// In the last `length` whole seconds, at most a minute.
    pub fn last(&self, length: u64, now: SystemTime) -> u64 {
        let now = seconds(now);
        let recent = now.saturating_sub(length.min(60))..now;
        let seconds = self.seconds.iter().filter(|(number, _)| recent.contains(&number.load(Relaxed)));
        seconds.map(|(_, sum)| sum.load(Relaxed)).sum()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counts_whole_seconds_and_forgets_what_is_a_minute_ago() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let throughput = Throughput::default();
        for second in 0..200 {
            throughput.add(2, start + Duration::from_secs(second));
            throughput.add(1, start + Duration::from_millis(second * 1_000 + 900));
        }
        let now = start + Duration::from_secs(200);
        assert_eq!((throughput.total(), throughput.last(10, now), throughput.last(60, now)), (600, 30, 180));
        assert_eq!(throughput.last(60, now + Duration::from_secs(30)), 90);
        assert_eq!(throughput.last(60, now + Duration::from_secs(120)), 0);
    }
}
