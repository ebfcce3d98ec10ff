//! What a lane may spend: the windows of its endpoint, and of them what other databases leave that spend the same
//! account's budget.
//!
//! Each database shows how many places it holds. It takes one more only if all of them together then hold no more than
//! Klaviyo allows: it shows the place first and looks at the others afterwards, so that of two that take the last place
//! at the same moment at least one sees the other. While several want more, each keeps to an equal part; what one does
//! not want, the others may have.

use std::time::{Duration, Instant};

use klaviyo::Endpoint;

use crate::gauges::Place;
use crate::lane::Start;
use crate::window::Window;

/// How soon to look again for places that another database may have given back, and how often to show that ours have
/// come free.
pub const LOOK: Duration = Duration::from_millis(20);

/// How long a call may be under way at the most. For so long the places of a process that died count.
const CALL: Duration = Duration::from_secs(600);

/// The part of every window that history leaves to what may come: a burst of the shop's is not to wait for it.
const SPARE: u64 = 4;

#[derive(Debug)]
pub struct Budget {
    endpoint: &'static Endpoint,
    windows: Vec<Window>,
    share: f64,
    /// Where to show it, and the lane's number there.
    place: Option<(Place, usize)>,
}

impl Budget {
    pub fn new(endpoint: &'static Endpoint, share: f64, now: Instant) -> Self {
        let windows = endpoint.limits.windows();
        let windows = windows.map(|(length, calls)| Window::new(length, scaled(calls, share), now)).collect();
        Self { endpoint, windows, share, place: None }
    }

    /// Sets the part of Klaviyo's limits that is ours.
    pub fn set_share(&mut self, share: f64) {
        self.share = share;
        for (window, (_, calls)) in self.windows.iter_mut().zip(self.endpoint.limits.windows()) {
            window.set_limit(scaled(calls, share));
        }
    }

    /// Shows it there from now on.
    pub fn set_place(&mut self, place: Option<(Place, usize)>, now: Instant) {
        self.place = place;
        self.show(now);
    }

    /// Calls that may be made in a second, and no more than Klaviyo allows.
    pub fn burst(&self) -> u64 {
        u64::from(self.endpoint.limits.burst).min(scaled(self.endpoint.limits.burst, self.share))
    }

    /// Between two calls, where as many are made as may be and evenly.
    pub fn interval(&self) -> Duration {
        let even = self.windows.iter().map(|window| window.length().div_f64(window.limit().max(1) as f64));
        even.max().unwrap_or_default()
    }

    /// Counts calls of an earlier life of ours.
    pub fn occupy(&mut self, now: Instant, age: Duration, calls: u64) {
        for window in &mut self.windows {
            window.occupy(now, age, calls);
        }
    }

    /// When a call may start, as far as can be told.
    pub fn start_when(&mut self, now: Instant) -> Start {
        let mut at = now;
        for number in 0..self.windows.len() {
            let window = &mut self.windows[number];
            if window.free(now) == 0 {
                match window.next_free() {
                    Some(free) => at = at.max(free),
                    None => return Start::AfterCall,
                }
            } else if !self.fits(number, self.windows[number].held() + 1) {
                at = at.max(now + LOOK);
            }
        }
        if at > now { Start::At(at) } else { Start::Now }
    }

    /// When a call may start of which nobody is in need: while a quarter of every window is free for others.
    pub fn start_when_spare(&mut self, now: Instant) -> Start {
        let scarce = |window: &mut Window| window.free(now) <= window.limit() / SPARE;
        let scarce = self.windows.iter_mut().filter_map(|window| scarce(window).then(|| window.next_free()));
        scarce.fold(Start::Now, |start, free| start.and(free.map_or(Start::AfterCall, Start::At)))
    }

    /// Takes a place in every window for a call that starts. False if another database was faster.
    pub fn take(&mut self, now: Instant) -> bool {
        self.windows.iter_mut().for_each(Window::start);
        self.show(now);
        let fits = (0..self.windows.len()).all(|number| self.fits(number, self.windows[number].held()));
        if !fits {
            self.give_back(now);
        }
        fits
    }

    /// The call that a place was taken for is not made.
    pub fn give_back(&mut self, now: Instant) {
        self.windows.iter_mut().for_each(Window::cancel);
        self.show(now);
    }

    /// The call has ended.
    pub fn end(&mut self, now: Instant) {
        self.windows.iter_mut().for_each(|window| window.end(now));
        self.show(now);
    }

    /// Shows what is held now. Says whether others wait to see that it becomes less by the passing of time.
    pub fn show(&mut self, now: Instant) -> bool {
        let Some((place, lane)) = self.place else { return false };
        let mut ends = false;
        for (number, window) in self.windows.iter_mut().enumerate() {
            window.free(now);
            let lasts = window.length() + if window.is_under_way() { CALL } else { Duration::ZERO };
            place.lane(lane).hold(number, window.held(), window.limit(), lasts);
            ends |= window.next_free().is_some();
        }
        ends && place.is_shared()
    }

    /// Whether that many places of a window leave the others theirs.
    fn fits(&self, number: usize, places: u64) -> bool {
        let Some((place, lane)) = self.place else { return true };
        let others = place.held_by_others(lane, number);
        let Some((_, calls)) = self.endpoint.limits.windows().nth(number) else { return true };
        let all = scaled(calls, self.share.max(1.0));
        let part = (all / (others.wanting + 1)).max(1);
        places + others.places <= all && (others.wanting == 0 || places <= part)
    }
}

fn scaled(calls: u32, share: f64) -> u64 {
    ((f64::from(calls) * share).floor() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use klaviyo::{CREATE_EVENT, REVISION, Session};

    use super::*;
    use crate::gauges::{Board, board};

    fn database(board: Board, at: usize, now: Instant) -> Budget {
        let place = Place { board, at };
        place.spend(Some(&Session::new(klaviyo::BASE_URL, REVISION, "pk_a").expect("a session")));
        let mut budget = Budget::new(&CREATE_EVENT, 1.0, now);
        budget.set_place(Some((place, 0)), now);
        budget
    }

    /// Calls it makes at once, each ending at once.
    fn spend(budget: &mut Budget, now: Instant) -> u32 {
        let mut calls = 0;
        while budget.start_when(now) == Start::Now && budget.take(now) {
            budget.end(now);
            calls += 1;
        }
        calls
    }

    #[test]
    fn what_one_does_not_want_the_other_may_have() {
        let now = Instant::now();
        let board = board(2);
        let [mut one, mut other] = [0, 1].map(|at| database(board, at, now));
        assert_eq!(spend(&mut one, now), 350);
        assert_eq!(spend(&mut other, now), 0, "all is spent");
        let later = now + Duration::from_millis(1_010);
        assert!(one.show(later), "there is more to come free, and somebody to see it");
        assert_eq!(spend(&mut other, later), 350);
    }

    /// Two databases that always want more: never more than the limit together, and each gets its half soon.
    #[test]
    fn who_wants_gets_a_fair_part() {
        let now = Instant::now();
        let board = board(2);
        let [mut one, mut other] = [0, 1].map(|at| database(board, at, now));
        board.accounts[0].lanes[0].want(true);
        let mut spent = [spend(&mut one, now), 0];
        board.accounts[1].lanes[0].want(true);
        let mut starts = vec![(now, spent[0])];
        for tick in 1..=12_000 {
            let now = now + Duration::from_millis(10) * tick;
            one.show(now);
            other.show(now);
            let calls = [spend(&mut one, now), spend(&mut other, now)];
            spent = [spent[0] + calls[0], spent[1] + calls[1]];
            starts.push((now, calls[0] + calls[1]));
        }
        for (length, limit) in [(Duration::from_secs(1), 350), (Duration::from_secs(60), 3_500)] {
            for (number, (from, _)) in starts.iter().enumerate() {
                let window = starts[number..].iter().take_while(|(at, _)| *at < *from + length);
                let calls: u32 = window.map(|(_, calls)| calls).sum();
                assert!(calls <= limit, "{calls} of {limit} in {length:?}");
            }
        }
        assert!(spent[0] + spent[1] > 6_900, "the budget is used: {spent:?}");
        assert!(spent[0].abs_diff(spent[1]) < 800, "fairly: {spent:?}");
    }

    #[test]
    fn of_two_that_take_the_last_place_at_once_one_gives_way() {
        let now = Instant::now();
        let board = board(2);
        let [mut one, mut other] = [0, 1].map(|at| database(board, at, now));
        one.occupy(now, Duration::ZERO, 349);
        one.show(now);
        assert_eq!((one.start_when(now), other.start_when(now)), (Start::Now, Start::Now));
        assert!(one.take(now));
        assert!(!other.take(now));
        assert_eq!(other.windows[0].held(), 0, "it holds nothing of it");
    }
}
