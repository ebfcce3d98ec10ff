//! Jobs of resources that an earlier life of ours has left at Klaviyo, or that a call has made whose answer is lost. What such
//! a job does it does at its time, also after what we have sent since: so nothing about resources of its type goes until those
//! that are under way when we first look are at their end; but for calls that messages ask for themselves.
//!
//! Looking also finds out whether jobs can be asked about at all. Without that none are made, for one may fail at some.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use klaviyo::{Page, RESOURCE_CALLS, ResourceCalls, job_ids_of};

use super::{Account, Policy, earlier};
use crate::call::{Call, Carried, Purpose};
use crate::draw;
use crate::import::pause;
use crate::lane::Start;
use crate::queue::Line;
use crate::verdict::{Scope, Verdict};

/// From the beginning until the first look: a call of an earlier life may still be on its way.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// How long jobs are waited for. One that takes longer has been forgotten there.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Questions that Klaviyo may refuse before it is taken for one that cannot be asked.
const REFUSALS: u32 = 3;

/// What a job is that is not at its end. It is asked from the end of these: what is queued then may be processing by the
/// time of the next question, and not the other way round.
const OPEN: [&str; 2] = ["processing", "queued"];

/// By the type of a resource; those that nothing has been needed of yet are not there, and count as shut.
pub type Gates = BTreeMap<&'static str, Gate>;

pub struct Gate {
    is_open: bool,
    since: Instant,
    look_at: Instant,
    looked: u32,
    refused: u32,
    asking: bool,
    /// What is still to be asked in this look.
    left: Vec<Question>,
    /// The jobs that this look has found so far, and those that are waited for, once one look has ended.
    found: BTreeSet<String>,
    waits_for: Option<BTreeSet<String>>,
}

/// Which jobs of these have this status, from a cursor on.
type Question = (&'static ResourceCalls, &'static str, Option<String>);

impl Gate {
    fn shut(resource: &str, now: Instant, first_look: Instant) -> Self {
        Self {
            is_open: false,
            since: now,
            look_at: first_look,
            looked: 0,
            refused: 0,
            asking: false,
            left: questions(resource),
            found: BTreeSet::new(),
            waits_for: None,
        }
    }

    /// A look has come to its end.
    fn looked(&mut self, resource: &str, now: Instant) {
        let found = std::mem::take(&mut self.found);
        let still = match self.waits_for.take() {
            Some(before) => before.intersection(&found).cloned().collect(),
            None => found,
        };
        self.is_open = still.is_empty();
        self.waits_for = Some(still);
        self.left = questions(resource);
        self.look_at = now + pause(self.looked);
        self.looked += 1;
    }
}

fn questions(resource: &str) -> Vec<Question> {
    let calls = RESOURCE_CALLS.into_iter().filter(|calls| calls.resource == resource);
    calls.flat_map(|calls| OPEN.map(|status| (calls, status, None))).collect()
}

impl Account {
    /// Whether what a lane brings waits for jobs that may have been left.
    pub(super) fn is_shut(&self, lane: usize) -> bool {
        let resource = self.lanes[lane].resource;
        resource.is_some_and(|resource| !self.gates.get(resource).is_some_and(|gate| gate.is_open))
    }

    /// Whether jobs that a lane makes can be asked about, as has been found out.
    pub(super) fn can_ask(&self, calls: &ResourceCalls) -> bool {
        let (asks, lists) = (draw::number(&calls.asks), draw::number(&calls.lists));
        self.stops.is_open(asks) && self.stops.is_open(lists) && self.lanes[lists].is_answered
    }

    /// A call that makes a job may have made one, of which nobody is told; or may still, for as long as one may take.
    pub(super) fn leaves_job(&mut self, lane: usize, now: Instant, policy: &Policy) {
        if let Some(calls) = self.lanes[lane].resources {
            let gate = Gate::shut(calls.resource, now, now + policy.request_timeout);
            self.gates.insert(calls.resource, gate);
        }
    }

    /// It may be another key from now on, that may do other things, or another account.
    pub(super) fn forget_gates(&mut self) {
        self.gates.clear();
        self.lanes.iter_mut().for_each(|lane| lane.is_answered = false);
    }

    /// Those that are shut and before which something waits.
    fn needed(&mut self, now: Instant) -> Vec<&'static str> {
        let shut = (0..self.lanes.len()).filter(|lane| self.is_shut(*lane)).filter_map(|lane| {
            let (resource, draw) = (self.lanes[lane].resource?, self.lanes[lane].draw?);
            let lines = [false, true].map(|backfill| Line { lane: draw.from, backfill });
            lines.iter().any(|line| self.queue.ready(*line, true) > 0).then_some(resource)
        });
        let resources: BTreeSet<&'static str> = shut.collect();
        for resource in &resources {
            self.gates.entry(resource).or_insert_with(|| Gate::shut(resource, now, now + FIRST_LOOK));
        }
        resources.into_iter().collect()
    }

    /// The next question which jobs are under way that may be asked now.
    pub(super) fn next_look(&mut self, now: Instant, policy: &Policy) -> Option<Call> {
        for resource in self.needed(now) {
            let Some(gate) = self.gates.get(resource).filter(|gate| !gate.asking && gate.look_at <= now)
            else {
                continue;
            };
            let Some((calls, status, cursor)) = gate.left.last().cloned() else { continue };
            let lane = draw::number(&calls.lists);
            if self.may_start(lane, now, policy) {
                self.gates.get_mut(resource)?.asking = true;
                let request = calls.ask_jobs(status, cursor.as_deref());
                return self.start(lane, request, Carried::default(), Purpose::Look(resource), now);
            }
        }
        None
    }

    /// When the next of these may be asked.
    pub(super) fn gates_look_at(&mut self, now: Instant, policy: &Policy) -> Option<Instant> {
        let mut wake = None;
        for resource in self.needed(now) {
            let gate = self.gates.get(resource).filter(|gate| !gate.asking);
            let next = gate.and_then(|gate| Some((gate.look_at, gate.left.last()?.0)));
            let Some((look_at, calls)) = next else { continue };
            let lane = draw::number(&calls.lists);
            wake = earlier(wake, self.starts_when(lane, false, now, policy).at(look_at));
        }
        wake
    }

    /// Such a question was answered that was asked then.
    pub(super) fn found(
        &mut self,
        resource: &'static str,
        asked: Instant,
        (verdict, body): (&Verdict, &[u8]),
        (now, policy): (Instant, &Policy),
    ) {
        // It was shut anew since, by what the answer does not know of.
        let Some(gate) = self.gates.get_mut(resource).filter(|gate| gate.since <= asked) else { return };
        gate.asking = false;
        match (verdict, job_ids_of(body)) {
            (Verdict::Accepted { .. }, Some(Page { rows, next })) => {
                gate.found.extend(rows);
                let asked = gate.left.pop();
                if let Some((calls, ..)) = &asked {
                    self.lanes[draw::number(&calls.lists)].is_answered = true;
                }
                gate.left
                    .extend(asked.zip(next).map(|((calls, status, _), next)| (calls, status, Some(next))));
                if gate.left.is_empty() {
                    gate.looked(resource, now);
                }
            }
            // Who may not ask cannot wait, and makes no jobs while that is so.
            (Verdict::Stopped { scope: Scope::Lane, .. }, _) => gate.is_open = true,
            (Verdict::Refused { .. }, _) => {
                gate.refused += 1;
                gate.is_open = gate.refused >= REFUSALS;
                (gate.left, gate.found) = (questions(resource), BTreeSet::new());
                gate.look_at = now + policy.backoff.delay(gate.refused);
            }
            (Verdict::Throttled { retry_after, .. } | Verdict::Trouble { retry_after, .. }, _) => {
                gate.looked += 1;
                gate.look_at = now + policy.backoff.delay(gate.looked).max(retry_after.unwrap_or_default());
            }
            (Verdict::Accepted { .. } | Verdict::Stopped { .. }, _) => {
                gate.looked += 1;
                gate.look_at = now + policy.backoff.delay(gate.looked);
            }
        }
        gate.is_open |= now.saturating_duration_since(gate.since) >= LONGEST;
    }

    /// When what a lane brings may go as far as such jobs are concerned.
    pub(super) fn gate(&self, lane: usize) -> Start {
        if self.is_shut(lane) { Start::AfterCall } else { Start::Now }
    }
}
