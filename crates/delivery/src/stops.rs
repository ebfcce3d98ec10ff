//! What Klaviyo refuses of an account: all of it, for its key or revision, or a lane, for a scope the key lacks. While
//! it does nothing goes that way but one call now and then, which finds out whether that has changed.
//!
//! A refusal may also be about one message, whatever it says. So what was refused waits for longer than the next probe,
//! which takes another message; and a message that is refused again after others have passed stops nothing any more
//! and earns a strike each time.

use std::time::{Duration, Instant};

use klaviyo::{ENDPOINTS, Endpoint};

use crate::lane::Start;
use crate::queue::Queued;
use crate::strikes::is_healthy;
use crate::verdict::{Scope, Verdict};

/// The account as a whole comes before its lanes.
const ACCOUNT: usize = 0;

/// What may be refused: a lane, or the account as a whole.
#[derive(Debug, Default)]
struct Part {
    /// Whether nothing is stopped for want of it.
    optional: bool,
    stop: Option<Stop>,
    /// Calls that passed and that were refused, ever; of those under way when it was stopped only refusals count.
    passed: u64,
    refused: u64,
}

#[derive(Debug)]
struct Stop {
    reason: String,
    since: Instant,
    /// When the next probe may go.
    until: Instant,
    probing: bool,
}

/// How a part stood when it refused a message.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    part: usize,
    passed: u64,
    refused: u64,
    /// It was refused again after others had passed.
    suspect: bool,
}

#[derive(Debug)]
pub struct Stops {
    parts: Vec<Part>,
}

impl Default for Stops {
    fn default() -> Self {
        let mut stops = Self { parts: vec![Part::default()] };
        ENDPOINTS.iter().for_each(|endpoint| stops.add(endpoint));
        stops
    }
}

impl Stops {
    /// There is one more lane.
    pub fn add(&mut self, endpoint: &Endpoint) {
        self.parts.push(Part { optional: endpoint.optional, ..Part::default() });
    }

    /// Why calls are refused that are needed; none if all those may go.
    pub fn reason(&self) -> Option<String> {
        let reason = |part: &Part| part.stop.as_ref().map(|stop| stop.reason.clone());
        // A key that is not accepted may have no scopes either; of those one hears then.
        reason(&self.parts[ACCOUNT]).or_else(|| {
            let parts = self.parts.iter().skip(1).filter(|part| !part.optional);
            let lanes: Vec<String> = parts.filter_map(reason).collect();
            (!lanes.is_empty()).then(|| lanes.join("; "))
        })
    }

    /// Whether the calls of a lane pass, as far as is known.
    pub fn is_open(&self, lane: usize) -> bool {
        needed(lane).iter().all(|part| self.parts[*part].stop.is_none())
    }

    pub fn start_when(&self, lane: usize, now: Instant) -> Start {
        let mut at = now;
        for stop in needed(lane).iter().filter_map(|part| self.parts[*part].stop.as_ref()) {
            if stop.probing {
                return Start::AfterCall;
            }
            at = at.max(stop.until);
        }
        if at > now { Start::At(at) } else { Start::Now }
    }

    /// A call of a lane starts. Through what is stopped it goes as the probe.
    pub fn started(&mut self, lane: usize) {
        for part in needed(lane) {
            if let Some(stop) = &mut self.parts[part].stop {
                stop.probing = true;
            }
        }
    }

    /// A call of a lane that started then has ended. Where it proved nothing the next probe goes at `until`.
    pub fn ended(&mut self, lane: usize, started: Instant, verdict: &Verdict, until: Instant) {
        for number in needed(lane) {
            let passed = match verdict {
                Verdict::Accepted { .. } | Verdict::Refused { .. } => true,
                // Who is told of a scope was known by the key.
                Verdict::Stopped { scope: Scope::Lane, .. } => number == ACCOUNT,
                _ => false,
            };
            let part = &mut self.parts[number];
            match &mut part.stop {
                // Calls that were under way when it was stopped say nothing new.
                Some(stop) if started <= stop.since => {}
                Some(stop) if !passed => (stop.probing, stop.until) = (false, until),
                _ => {
                    part.passed += u64::from(passed);
                    part.stop = None;
                }
            }
        }
    }

    /// A call with these messages was refused: stops that part, unless the refusal is about a message. They must wait
    /// for so long at least.
    pub fn refused(
        &mut self,
        lane: usize,
        scope: Scope,
        reason: &str,
        messages: &mut [Queued],
        (now, until): (Instant, Instant),
    ) -> Duration {
        let number = if scope == Scope::Account { ACCOUNT } else { part(lane) };
        let part = &mut self.parts[number];
        let mut suspect = false;
        for queued in messages.iter_mut() {
            let before = queued.refusal.filter(|refusal| refusal.part == number);
            let passed = before.map_or(0, |before| part.passed - before.passed);
            let refused = before.map_or(0, |before| part.refused - before.refused);
            let again = part.stop.is_none() && passed > 0;
            if again && is_healthy(passed, refused) {
                queued.message.strikes += 1;
            }
            let refusal = Refusal {
                part: number,
                passed: part.passed,
                refused: part.refused + 1,
                suspect: again || before.is_some_and(|before| before.suspect),
            };
            suspect |= refusal.suspect;
            queued.refusal = Some(refusal);
        }
        part.refused += 1;
        if suspect {
            // Which of them it is shows when they go one by one.
            messages.iter_mut().for_each(|queued| (queued.alone, queued.rides) = (true, 0));
        } else if part.stop.is_none() {
            part.stop = Some(Stop { reason: reason.to_owned(), since: now, until, probing: false });
        }
        part.stop.as_ref().map_or(Duration::ZERO, |stop| stop.until.saturating_duration_since(now))
    }

    /// Whether a message that was refused need not wait any more: not for its own sake, and what refused it goes on.
    pub fn is_over(&self, refusal: Refusal) -> bool {
        !refusal.suspect && self.parts[refusal.part].stop.is_none()
    }

    /// Lets all go.
    pub fn clear(&mut self) {
        self.parts.iter_mut().for_each(|part| part.stop = None);
    }
}

/// What a call of a lane needs.
fn needed(lane: usize) -> [usize; 2] {
    [ACCOUNT, part(lane)]
}

/// The number of a lane's part.
fn part(lane: usize) -> usize {
    lane + 1
}
