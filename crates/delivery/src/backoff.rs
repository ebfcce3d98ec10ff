//! Exponential backoff with full jitter: any moment up to the exponential bound is as likely as any other, so that
//! what failed together does not come back together.

use std::time::Duration;

/// How long to wait after the first failure at most, and how long at the very most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub min: Duration,
    pub max: Duration,
}

impl Backoff {
    /// How long to wait after the `failures`-th failure in a row (1 is the first).
    pub fn delay(&self, failures: u32) -> Duration {
        self.bound(failures).mul_f64(fastrand::f64())
    }

    fn bound(&self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.min.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_bound_and_fills_what_is_below() {
        let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60) };
        assert_eq!(backoff.bound(1), Duration::from_secs(1));
        assert_eq!(backoff.bound(4), Duration::from_secs(8));
        assert_eq!(backoff.bound(7), Duration::from_secs(60));
        assert_eq!(backoff.bound(u32::MAX), Duration::from_secs(60));
        let delays: Vec<_> = (0..2_000).map(|_| backoff.delay(4)).collect();
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(8)));
        assert!(delays.iter().any(|delay| *delay < Duration::from_secs(1)));
        assert!(delays.iter().any(|delay| *delay > Duration::from_secs(7)));
    }
}
