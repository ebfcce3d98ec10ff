//! Draining as fast as it goes, by calls of one and by calls of many, nothing limiting it.

use std::time::Duration;

use harness::{Bulk, Fault, Process, Shop, query};

use crate::bare_client::{BareClient, Calls, waiting_bodies};
use crate::bed;
use crate::drain::{self, Drained};
use crate::effort::Effort;
use crate::figure::{Figure, Section};
use crate::turns::in_turns;

const PEER: &str = "bare client";

/// How messages go, how late the sandbox answers, and how many messages there are.
struct Case {
    calls: Calls,
    /// Whether events have ids of the shop's own.
    ids: bool,
    latency: Duration,
    messages: i64,
}

impl Case {
    fn name(&self) -> String {
        let calls = match self.calls {
            Calls::Events => "single calls",
            Calls::ManyEvents if self.ids => "bulk calls, ids of one's own",
            Calls::ManyEvents => "bulk calls",
            Calls::ManyProfiles => "import jobs",
        };
        format!("{calls}, {} ms", self.latency.as_millis())
    }
}

/// Drains with a sandbox that answers at once, and with one that does not.
pub fn measure(effort: &Effort) -> Result<Vec<Section>, String> {
    let shop = bed::start(bed::shop(), false);
    let mut db = shop.connect();
    let calls: String = query(&mut db, "SELECT current_setting('klaviyo.max_in_flight')", &[]);
    let single_at_a_time = calls.parse().map_err(|_| format!("klaviyo.max_in_flight is {calls}"))?;
    let cases = [
        (Calls::Events, false, 0, effort.drained),
        (Calls::Events, false, 50, effort.drained_slowly),
        (Calls::ManyEvents, false, 0, effort.drained_in_bulk),
        (Calls::ManyEvents, false, 50, effort.drained_in_bulk),
        (Calls::ManyEvents, true, 0, effort.drained_in_bulk),
        (Calls::ManyProfiles, false, 0, effort.drained_in_bulk),
        (Calls::ManyProfiles, false, 50, effort.drained_in_bulk),
    ]
    .map(|(calls, ids, latency, messages)| Case {
        calls,
        ids,
        latency: Duration::from_millis(latency),
        messages,
    });
    let samples = in_turns("drains", effort.repetitions, &cases, |case| {
        let single = case.calls == Calls::Events;
        shop.cluster.set("klaviyo.bulk", if single { "off" } else { "on" });
        match case.calls {
            Calls::ManyProfiles => bed::queue_profiles(&mut db, case.messages)?,
            _ if case.ids => bed::queue_events_with_ids(&mut db, case.messages)?,
            _ => bed::queue_events(&mut db, "default", 1, case.messages)?,
        }
        let bodies = waiting_bodies(&mut db, case.calls)?;
        prepare(&shop, case);
        let at_a_time = if single { single_at_a_time } else { BULK_AT_A_TIME };
        let sandbox_before = sandbox_cpu(&shop)?;
        let seconds = BareClient::new(&shop.sandbox)?.send_all(bodies, case.calls, at_a_time)?;
        let sandbox_seconds = (sandbox_cpu(&shop)? - sandbox_before).as_secs_f64();
        shop.sandbox.reset();
        prepare(&shop, case);
        let messages = case.messages as f64;
        let drained = drain::all(&shop, &mut db, case.messages)?;
        Ok(Sample { peer: messages / seconds, core: messages / sandbox_seconds, drained })
    })?;

    let figures = cases.iter().zip(samples).flat_map(|(case, samples)| figures(case, &samples));
    Ok(vec![Section {
        title: "Drain, no limiter".to_owned(),
        how: format!(
            "All that waits is sent, each message about another person: with klaviyo.bulk off {} events to a sandbox that \
             answers at once, {} to one that answers 50 ms late; in calls of many {}; by import jobs, which are complete at once, as many profiles. \
             rate_share 1e6, the sandbox's rates off, klaviyo.max_in_flight {calls}. The rate is taken at the sandbox, from \
             the first message that has arrived to the last, which with import jobs is when it has been imported. CPU of the \
             worker's two threads, until all is on record. Bare client: the same messages in the same calls, full ones, \
             through the same HTTP client from one thread, {calls} calls at a time, of many {BULK_AT_A_TIME}, no database, \
             and it waits for no job; it is what sandbox and loopback allow. Sandbox: what the bare client sent for each \
             second of the sandbox's processor time, which is what it takes on one core. Memory: VmHWM counts the pages of \
             shared_buffers that the worker has touched; beside it what is its own.",
            cases[0].messages, cases[1].messages, cases[2].messages,
        ),
        figures: figures.collect(),
    }])
}

/// What was measured of a case.
struct Sample {
    /// Messages a second of the bare client.
    peer: f64,
    /// Messages of it for a second of the sandbox's processor time: what the sandbox takes on one core.
    core: f64,
    drained: Drained,
}

fn sandbox_cpu(shop: &Shop) -> Result<Duration, String> {
    shop.sandbox.process().and_then(Process::cpu).ok_or_else(|| "the sandbox has ended".to_owned())
}

/// As many calls of many as the worker has under way.
const BULK_AT_A_TIME: usize = 4;

fn prepare(shop: &Shop, case: &Case) {
    if !case.latency.is_zero() {
        shop.sandbox.set_faults(&[Fault::latency(case.latency)]);
    }
    shop.sandbox.set_bulk(&Bulk { queued_ms: Some(0), processing_ms: Some(0), ..Bulk::default() });
}

fn figures(case: &Case, samples: &[Sample]) -> [Figure; 6] {
    let name = case.name();
    let of = |value: fn(&Drained) -> f64| samples.iter().map(|sample| value(&sample.drained)).collect();
    let peer: Vec<f64> = samples.iter().map(|sample| sample.peer).collect();
    let core = samples.iter().map(|sample| sample.core).collect();
    [
        Figure::new(format!("{name}: sandbox, a second of its CPU"), "messages", core),
        Figure::new(format!("{name}: bare client"), "messages/s", peer.clone()),
        Figure::new(format!("{name}: ours"), "messages/s", of(|drained| drained.rate)).against(PEER, &peer),
        Figure::new(format!("{name}: worker's CPU for 10,000"), "s", of(Drained::cpu_per_10k)),
        Figure::new(format!("{name}: worker's VmHWM"), "MB", of(|drained| drained.usage.peak_mb)),
        Figure::new(format!("{name}: worker's own memory"), "MB", of(|drained| drained.usage.own_mb)),
    ]
}
