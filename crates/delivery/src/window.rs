//! A fixed window of Klaviyo's, kept from outside.
//!
//! Klaviyo counts calls in windows whose phase we do not know and by the moment a call *arrives*, which lies
//! somewhere between our sending it and our hearing of it. So a call occupies its place from its start until a whole
//! window after its end. Then no window of Klaviyo's, whatever its phase and however the network bunches calls, ever
//! holds more than the limit: take any window, and the last call sent of those that arrived in it. Every other one
//! was still under way when that last one was sent, or had ended less than a window before; each was counted.
//!
//! Ends are kept in 1/500ths of a window and rounded up, which bounds the memory whatever the limit and costs
//! 0.2 % of the budget.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Ends are told apart to this part of a window.
const SLOTS: u32 = 500;

/// How many calls may be under way or recently ended.
#[derive(Debug)]
pub struct Window {
    limit: u64,
    length: Duration,
    under_way: u64,
    /// Places still held by calls that ended: slot in which they come free, counted from `epoch`, and how many.
    ended: BTreeMap<u128, u64>,
    ended_count: u64,
    epoch: Instant,
}

impl Window {
    /// A window of `length` in which `limit` calls may arrive; at least one, or nothing would ever be sent.
    pub fn new(length: Duration, limit: u64, now: Instant) -> Self {
        Self { limit: limit.max(1), length, under_way: 0, ended: BTreeMap::new(), ended_count: 0, epoch: now }
    }

    /// Changes the limit; what has been sent stays counted.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit.max(1);
    }

    /// How many calls may start now.
    pub fn free(&mut self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.epoch).as_nanos() / self.slot();
        while let Some(entry) = self.ended.first_entry().filter(|entry| *entry.key() <= passed) {
            self.ended_count -= entry.remove();
        }
        self.limit.saturating_sub(self.held())
    }

    /// When the next place comes free by the passing of time; none while only calls under way hold places.
    pub fn next_free(&self) -> Option<Instant> {
        let slot = *self.ended.first_key_value()?.0;
        let nanos = u64::try_from(slot * self.slot()).ok()?;
        Some(self.epoch + Duration::from_nanos(nanos))
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn length(&self) -> Duration {
        self.length
    }

    /// Places held when it was last asked what is free.
    pub fn held(&self) -> u64 {
        self.under_way + self.ended_count
    }

    pub fn is_under_way(&self) -> bool {
        self.under_way > 0
    }

    /// A call starts.
    pub fn start(&mut self) {
        self.under_way += 1;
    }

    /// A call that was to start does not.
    pub fn cancel(&mut self) {
        self.under_way -= 1;
    }

    /// A call that started has ended: it arrived no later than `now`.
    pub fn end(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.occupy(now, Duration::ZERO, 1);
    }

    /// Calls of an earlier life of ours that ended `age` ago, or later than that.
    pub fn occupy(&mut self, now: Instant, age: Duration, count: u64) {
        let until = (now.saturating_duration_since(self.epoch) + self.length).saturating_sub(age);
        *self.ended.entry(until.as_nanos().div_ceil(self.slot())).or_default() += count;
        self.ended_count += count;
    }

    /// Length of a slot in nanoseconds.
    fn slot(&self) -> u128 {
        (self.length / SLOTS).as_nanos().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The promise itself: whatever the phase of the server's windows and however calls are delayed on their way,
    /// no window of the server's ever holds more than the limit.
    #[test]
    fn no_phase_and_no_jitter_provoke_a_refusal() {
        for seed in 0..200 {
            let mut dice = fastrand::Rng::with_seed(seed);
            let limit = dice.u64(1..20);
            let phase = dice.u64(0..1_000_000);
            let start = Instant::now();
            let mut window = Window::new(SECOND, limit, start);
            let mut arrivals = std::collections::HashMap::<u64, u64>::new();
            let mut under_way: Vec<u64> = Vec::new();
            let mut now = 0;
            while now < 10_000_000 {
                under_way.retain(|ends| {
                    if *ends <= now {
                        window.end(start + Duration::from_micros(*ends));
                    }
                    *ends > now
                });
                while window.free(start + Duration::from_micros(now)) > 0 {
                    window.start();
                    let arrives = now + dice.u64(0..400_000);
                    under_way.push(arrives + dice.u64(0..400_000));
                    *arrivals.entry((arrives + phase) / 1_000_000).or_default() += 1;
                }
                now += dice.u64(100..5_000);
            }
            let most = arrivals.values().copied().max().unwrap_or_default();
            assert!(most <= limit, "seed {seed}: {most} calls in a window of {limit}");
        }
    }

    /// With calls that take no time, the whole budget but the rounding is used.
    #[test]
    fn the_budget_is_used_to_the_full() {
        let start = Instant::now();
        let mut window = Window::new(SECOND, 100, start);
        let mut calls = 0;
        for millisecond in 0..60_000 {
            let now = start + Duration::from_millis(millisecond);
            while window.free(now) > 0 {
                window.start();
                window.end(now);
                calls += 1;
            }
        }
        assert!((5_900..=6_000).contains(&calls), "{calls} of 6000 calls");
    }

    #[test]
    fn places_come_free_when_it_says_so() {
        let start = Instant::now();
        let mut window = Window::new(SECOND, 1, start);
        assert_eq!(window.next_free(), None);
        window.start();
        assert_eq!((window.free(start), window.next_free()), (0, None));
        window.end(start + SECOND / 2);
        let free = window.next_free().expect("a time");
        assert_eq!(window.free(free - Duration::from_millis(3)), 0);
        assert_eq!(window.free(free), 1);
        assert!(free >= start + SECOND + SECOND / 2);
    }

    #[test]
    fn an_earlier_life_counts_until_it_is_a_window_ago() {
        let start = Instant::now();
        let mut window = Window::new(SECOND, 10, start);
        window.occupy(start, SECOND * 3, 4);
        window.occupy(start, SECOND / 2, 4);
        assert_eq!(window.free(start), 6);
        assert_eq!(window.free(start + SECOND), 10);
    }
}
