//! The circuit breaker of a lane: after a run of failures it stops sending, then lets one call through at a time
//! until one succeeds. While it is open no message is tried, so an outage costs no message its attempts.

use std::time::Instant;

use crate::backoff::Backoff;

/// Failures in a row that open it. High enough that a message or two which always fail do not, low enough that an
/// outage costs a handful of attempts.
const TRIP: u32 = 5;

#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    /// Closed to all calls until then.
    open_until: Option<Instant>,
    /// The one call that may find out whether it works again.
    probing: bool,
}

impl Breaker {
    /// Whether a call may start.
    pub fn allows(&self, now: Instant) -> bool {
        match self.open_until {
            None => true,
            Some(until) => now >= until && !self.probing,
        }
    }

    pub fn is_open(&self) -> bool {
        self.open_until.is_some()
    }

    /// When a call may start again, if the breaker is open and no probe is out.
    pub fn opens_at(&self) -> Option<Instant> {
        self.open_until.filter(|_| !self.probing)
    }

    /// A call starts. While the breaker is open that call is the probe.
    pub fn started(&mut self) {
        self.probing = self.open_until.is_some();
    }

    /// Klaviyo answered sensibly; a refusal of the message is that too.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// No answer, or one that says Klaviyo is in trouble.
    pub fn failed(&mut self, now: Instant, backoff: Backoff) {
        self.failures = self.failures.saturating_add(1);
        // Failures of calls that were under way when it opened do not push the probe away.
        if self.probing || (self.open_until.is_none() && self.failures >= TRIP) {
            self.probing = false;
            self.open_until = Some(now + backoff.delay(self.failures - TRIP + 1).max(backoff.min));
        }
    }

    /// The call neither succeeded nor failed (held back by a limit, or refused for its key).
    pub fn undecided(&mut self) {
        self.probing = false;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60) };

    #[test]
    fn opens_after_a_run_probes_one_at_a_time_and_closes_on_success() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..TRIP {
            assert!(breaker.allows(now));
            breaker.started();
            breaker.failed(now, BACKOFF);
        }
        assert!(!breaker.allows(now));
        let later = breaker.opens_at().expect("a time");
        assert!(later >= now + BACKOFF.min);
        breaker.failed(now, BACKOFF);
        assert_eq!(breaker.opens_at(), Some(later), "a straggler does not move the probe");
        assert!(breaker.allows(later));
        breaker.started();
        assert!(!breaker.allows(later + BACKOFF.max), "one probe at a time");
        breaker.failed(later, BACKOFF);
        assert!(!breaker.allows(later));
        breaker.started();
        breaker.succeeded();
        assert!(breaker.allows(now) && breaker.opens_at().is_none());
    }

    #[test]
    fn a_success_in_between_keeps_it_closed() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            for _ in 1..TRIP {
                breaker.failed(now, BACKOFF);
            }
            breaker.succeeded();
        }
        assert!(breaker.allows(now));
    }
}
