//! The sandbox's clock, which counts from its start, read by that of this machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When the sandbox started, as narrowly as requests of ours tell: each left us before it arrived, and was answered
/// after that.
#[derive(Debug, Default)]
pub struct Clock {
    /// Microseconds since 1970: not before, not after.
    bounds: Option<(i64, i64)>,
}

impl Clock {
    /// A request that began then, arrived at that time of the sandbox, and was answered then.
    pub fn saw(&mut self, began: SystemTime, at_us: u64, answered: SystemTime) {
        let at = i64::try_from(at_us).unwrap_or(i64::MAX);
        let (earliest, latest) = (micros(began) - at, micros(answered) - at);
        let (low, high) = self.bounds.unwrap_or((earliest, latest));
        self.bounds = Some((low.max(earliest), high.min(latest)));
    }

    /// A time of the sandbox as microseconds since 1970.
    pub fn read(&self, at_us: u64) -> i64 {
        let (low, high) = self.bounds.unwrap_or_default();
        i64::midpoint(low, high) + i64::try_from(at_us).unwrap_or(i64::MAX)
    }

    /// By how much it may be wrong.
    pub fn error(&self) -> Duration {
        let (low, high) = self.bounds.unwrap_or_default();
        Duration::from_micros((high - low).unsigned_abs() / 2)
    }
}

/// Microseconds since 1970.
pub fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_narrows_it() {
        let at = |us| UNIX_EPOCH + Duration::from_micros(us);
        let mut clock = Clock::default();
        clock.saw(at(1_000_100), 50, at(1_000_400));
        clock.saw(at(1_000_600), 500, at(1_000_720));
        assert_eq!((clock.read(0), clock.error()), (1_000_160, Duration::from_micros(60)));
        clock.saw(at(1_000_800), 600, at(1_000_810));
        assert_eq!((clock.read(10), clock.error()), (1_000_215, Duration::from_micros(5)));
    }
}
