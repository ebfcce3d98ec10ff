//! Klaviyo's rate limits: fixed windows for each account and call, of one second and one minute, and for few a day.
//!
//! Klaviyo's rate limit documentation: all windows apply at once; every answer but a 429 carries the state of the
//! steady window, a 429 carries Retry-After. Where a window begins is Klaviyo's, so the phase here is random.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::call::Call;

/// Length of the burst window, in microseconds.
const BURST_US: u64 = 1_000_000;
/// Length of the steady window, in microseconds.
const STEADY_US: u64 = 60_000_000;
/// Length of the daily window, in microseconds.
const DAY_US: u64 = 24 * 60 * STEADY_US;

/// How Klaviyo's limits are applied.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RateSettings {
    pub enabled: bool,
    /// Multiplies the number of requests that a window allows (which stays at least 1).
    pub count_scale: f64,
    /// Multiplies the length of the windows.
    pub window_scale: f64,
}

/// A change of some of the settings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateChange {
    enabled: Option<bool>,
    count_scale: Option<f64>,
    window_scale: Option<f64>,
}

impl RateSettings {
    /// The reason why these settings make no sense, if they do not.
    pub fn check(&self) -> Result<(), String> {
        for (name, scale) in [("count scale", self.count_scale), ("window scale", self.window_scale)] {
            if !(scale.is_finite() && scale > 0.0) {
                return Err(format!("{name} {scale} is not a number greater than 0"));
            }
        }
        Ok(())
    }
}

/// One fixed window.
#[derive(Debug)]
struct Window {
    /// Requests allowed while the window lasts.
    limit: u64,
    length_us: u64,
    phase_us: u64,
    /// Which window since the start the count belongs to.
    index: u64,
    used: u64,
}

impl Window {
    fn new(limit: u32, length_us: u64, settings: &RateSettings, random: &mut fastrand::Rng) -> Self {
        // Both products are positive; casts of floats saturate.
        let limit = (f64::from(limit) * settings.count_scale).round() as u64;
        let length_us = ((length_us as f64 * settings.window_scale) as u64).clamp(1, u64::MAX / 4);
        Self { limit: limit.max(1), length_us, phase_us: random.u64(..length_us), index: 0, used: 0 }
    }

    /// Moves on to the window that contains `now_us`.
    fn advance(&mut self, now_us: u64) {
        let index = (now_us + self.phase_us) / self.length_us;
        if index != self.index {
            self.index = index;
            self.used = 0;
        }
    }

    fn is_full(&self) -> bool {
        self.used >= self.limit
    }

    /// Whole seconds until the next window, rounded up as Klaviyo does.
    fn ends_in_s(&self, now_us: u64) -> u64 {
        (self.length_us - (now_us + self.phase_us) % self.length_us).div_ceil(1_000_000)
    }
}

/// The windows of one account and call.
#[derive(Debug)]
struct Windows {
    burst: Window,
    steady: Window,
    daily: Option<Window>,
}

/// What the RateLimit headers of an answer say of the steady window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steady {
    /// Requests allowed in a window.
    pub limit: u64,
    /// Requests left in this window.
    pub remaining: u64,
    /// Whole seconds until the window ends.
    pub reset_s: u64,
}

/// The windows of all accounts.
pub struct Rates {
    settings: RateSettings,
    seed: u64,
    /// Counts restarts, so that each draws new phases from the one seed.
    generation: u64,
    accounts: HashMap<String, HashMap<Call, Windows>>,
}

impl Rates {
    pub fn new(settings: RateSettings, seed: u64) -> Self {
        Self { settings, seed, generation: 0, accounts: HashMap::new() }
    }

    /// Forgets all counts; windows begin anew with other phases.
    pub fn restart(&mut self) {
        self.generation += 1;
        self.accounts.clear();
    }

    /// Applies a change of settings, and restarts. The settings that hold are returned.
    pub fn change(&mut self, change: RateChange) -> Result<RateSettings, String> {
        let settings = RateSettings {
            enabled: change.enabled.unwrap_or(self.settings.enabled),
            count_scale: change.count_scale.unwrap_or(self.settings.count_scale),
            window_scale: change.window_scale.unwrap_or(self.settings.window_scale),
        };
        settings.check()?;
        self.settings = settings;
        self.restart();
        Ok(settings)
    }

    /// Counts a request, or refuses it with the seconds after which to try again. A refused request counts nowhere.
    /// `None` when limits are off.
    pub fn admit(&mut self, key: &str, call: Call, now_us: u64) -> Option<Result<Steady, u64>> {
        let windows = self.windows(key, call, now_us)?;
        let full = windows.all().filter(|window| window.is_full());
        if let Some(retry_after_s) = full.map(|window| window.ends_in_s(now_us)).max() {
            return Some(Err(retry_after_s));
        }
        windows.all().for_each(|window| window.used += 1);
        Some(Ok(windows.steady_state(now_us)))
    }

    /// The state of the steady window, with nothing counted. `None` when limits are off.
    pub fn look(&mut self, key: &str, call: Call, now_us: u64) -> Option<Steady> {
        self.windows(key, call, now_us).map(|windows| windows.steady_state(now_us))
    }

    fn windows(&mut self, key: &str, call: Call, now_us: u64) -> Option<&mut Windows> {
        if !self.settings.enabled {
            return None;
        }
        if !self.accounts.contains_key(key) {
            self.accounts.insert(key.to_owned(), HashMap::new());
        }
        let windows = self.accounts.get_mut(key)?.entry(call).or_insert_with(|| {
            let mut random = fastrand::Rng::with_seed(mix(self.seed, self.generation, key, call));
            let mut window = |limit, length_us| Window::new(limit, length_us, &self.settings, &mut random);
            Windows {
                burst: window(call.limits().burst, BURST_US),
                steady: window(call.limits().steady, STEADY_US),
                daily: call.limits().daily.map(|limit| window(limit, DAY_US)),
            }
        });
        windows.all().for_each(|window| window.advance(now_us));
        Some(windows)
    }
}

impl Windows {
    fn all(&mut self) -> impl Iterator<Item = &mut Window> {
        [&mut self.burst, &mut self.steady].into_iter().chain(self.daily.as_mut())
    }

    fn steady_state(&self, now_us: u64) -> Steady {
        let Window { limit, used, .. } = self.steady;
        Steady { limit, remaining: limit - used, reset_s: self.steady.ends_in_s(now_us) }
    }
}

/// Phases depend on what the windows are of, not on the order in which accounts first appear.
fn mix(seed: u64, generation: u64, key: &str, call: Call) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, generation, key, call.path()).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: RateSettings = RateSettings { enabled: true, count_scale: 1.0, window_scale: 1.0 };

    /// Admitted requests in `[from, to)`, trying every `step` microseconds.
    fn admitted(rates: &mut Rates, from: u64, to: u64, step: usize) -> u64 {
        (from..to)
            .step_by(step)
            .filter(|&now| matches!(rates.admit("pk_a", Call::ProfileImport, now), Some(Ok(_))))
            .count() as u64
    }

    #[test]
    fn burst_window_holds_its_limit_between_its_own_borders() {
        let mut rates = Rates::new(ON, 7);
        let phase = rates.windows("pk_a", Call::ProfileImport, 0).unwrap().burst.phase_us;
        assert!((1..BURST_US).contains(&phase), "seed 7 gives a phase that is not 0: {phase}");
        let border = BURST_US - phase;
        assert_eq!(admitted(&mut rates, border, border + BURST_US, 1_000), 75);
        assert_eq!(admitted(&mut rates, border + BURST_US, border + BURST_US + 1_000, 100), 10);
    }

    #[test]
    fn two_bursts_may_meet_at_a_border() {
        let mut rates = Rates::new(ON, 7);
        let border = BURST_US - rates.windows("pk_a", Call::ProfileImport, 0).unwrap().burst.phase_us;
        assert_eq!(admitted(&mut rates, border - 100, border + 100, 1), 150);
    }

    #[test]
    fn steady_window_refuses_and_says_until_when() {
        let mut rates = Rates::new(RateSettings { count_scale: 0.004, ..ON }, 3);
        let steady = rates.look("pk_a", Call::ProfileImport, 0).unwrap();
        assert_eq!((steady.limit, steady.remaining), (3, 3));
        let mut now = 0;
        for remaining in [2, 1, 0] {
            let steady = rates.admit("pk_a", Call::ProfileImport, now).unwrap().unwrap();
            assert_eq!(steady.remaining, remaining);
            now += BURST_US;
        }
        let wait = rates.admit("pk_a", Call::ProfileImport, now).unwrap().unwrap_err();
        assert_eq!(wait, rates.look("pk_a", Call::ProfileImport, now).unwrap().reset_s);
        assert_eq!(
            rates.look("pk_a", Call::ProfileImport, now).unwrap().remaining,
            0,
            "a refusal counts nowhere"
        );
        assert!(rates.admit("pk_a", Call::ProfileImport, now + wait * 1_000_000).unwrap().is_ok());
    }

    #[test]
    fn few_calls_are_counted_by_the_day() {
        let mut rates = Rates::new(ON, 3);
        let seconds = 0..600;
        let made = seconds
            .filter(|second| matches!(rates.admit("pk_a", Call::CreateList, second * BURST_US), Some(Ok(_))));
        assert_eq!(made.count(), 150);
        let wait = rates.admit("pk_a", Call::CreateList, 600 * BURST_US).unwrap().unwrap_err();
        assert!(wait > 60, "{wait}");
        assert!(rates.admit("pk_a", Call::CreateList, (600 + wait) * BURST_US).unwrap().is_ok());
    }

    #[test]
    fn accounts_and_calls_have_windows_and_phases_of_their_own() {
        let mut rates = Rates::new(RateSettings { count_scale: 0.0001, ..ON }, 3);
        assert!(rates.admit("pk_a", Call::Events, 0).unwrap().is_ok());
        assert!(rates.admit("pk_a", Call::Events, 0).unwrap().is_err());
        assert!(rates.admit("pk_b", Call::Events, 0).unwrap().is_ok());
        assert!(rates.admit("pk_a", Call::ProfileImport, 0).unwrap().is_ok());
        let phase = |rates: &mut Rates, key, call| rates.windows(key, call, 0).unwrap().steady.phase_us;
        let first = phase(&mut rates, "pk_a", Call::Events);
        assert_ne!(first, phase(&mut rates, "pk_b", Call::Events));
        assert_ne!(first, phase(&mut rates, "pk_a", Call::ProfileImport));
        rates.restart();
        assert_ne!(first, phase(&mut rates, "pk_a", Call::Events));
    }

    #[test]
    fn window_scale_shortens_windows_but_retry_after_stays_whole() {
        let mut rates = Rates::new(RateSettings { count_scale: 0.0001, window_scale: 0.01, ..ON }, 3);
        assert!(rates.admit("pk_a", Call::Events, 0).unwrap().is_ok());
        assert_eq!(rates.admit("pk_a", Call::Events, 0), Some(Err(1)));
        assert!(rates.admit("pk_a", Call::Events, 600_000).unwrap().is_ok());
    }

    #[test]
    fn off_means_no_limits_and_bad_scales_are_refused() {
        let mut rates = Rates::new(RateSettings { enabled: false, ..ON }, 3);
        assert_eq!(rates.admit("pk_a", Call::Events, 0), None);
        let change = RateChange { enabled: Some(true), count_scale: Some(0.0), window_scale: None };
        assert!(rates.change(change).is_err());
        assert_eq!(rates.admit("pk_a", Call::Events, 0), None, "a refused change changes nothing");
    }
}
