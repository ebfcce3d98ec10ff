//! What tells a bad message from a bad day: a message earns a strike when it fails while others succeed.

use crate::lane::Lane;
use crate::message::Failure;
use crate::queue::Queued;

/// Others succeed if there are so many successes for each failure, among at least so many calls of others. On a bad day,
/// when much fails, nobody earns a strike.
const HEALTHY: u64 = 4;
const SAMPLE: u64 = 5;

/// Successes and failures of a lane at a moment, and how often the message itself has failed there since.
pub struct Seen {
    /// The lane's endpoint.
    lane: &'static str,
    successes: u64,
    failures: u64,
    own_failures: u64,
}

impl Seen {
    fn of(lane: &Lane) -> Self {
        let Lane { endpoint, successes, failures, .. } = lane;
        Self { lane: endpoint.name, successes: *successes, failures: *failures, own_failures: 0 }
    }
}

/// A call of a lane carries a message: from now on its failures there are held against those of others. What it sees of
/// one lane, such as that of its questions, says nothing of another.
pub fn watch<'a>(queued: &'a mut Queued, lane: &Lane) -> &'a mut Seen {
    let known = queued.seen.iter().position(|seen| seen.lane == lane.endpoint.name);
    let place = known.unwrap_or_else(|| {
        queued.seen.push(Seen::of(lane));
        queued.seen.len() - 1
    });
    &mut queued.seen[place]
}

/// Counts a failure against the message itself, if its lane is healthy otherwise.
pub fn strike(queued: &mut Queued, failure: &Failure, lane: &Lane) {
    let seen = watch(queued, lane);
    seen.own_failures += 1;
    let succeeded = lane.successes - seen.successes;
    let failed = (lane.failures - seen.failures).saturating_sub(seen.own_failures);
    if succeeded + failed < SAMPLE {
        return;
    }
    *seen = Seen::of(lane);
    if may_be_its_doing(failure) && is_healthy(succeeded, failed) {
        queued.message.strikes += 1;
    }
}

/// Whether others succeed.
pub fn is_healthy(succeeded: u64, failed: u64) -> bool {
    succeeded >= failed * HEALTHY
}

/// An internal error of Klaviyo's can be the message's doing, and so can the refusal of a firewall in between, which looks
/// at what is sent. No answer, a late one (408, 425), or 502 to 504 is the doing of the way to Klaviyo.
pub fn may_be_its_doing(failure: &Failure) -> bool {
    matches!(failure.status, Some(300..=407 | 409..=424 | 426..=500))
}
