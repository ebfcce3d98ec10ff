//! Draining as fast as it goes, by calls of one and by calls of many, nothing limiting it.

use std::time::Duration;

use harness::{Fault, Shop, query};

use crate::bare_client::{BareClient, PER_BULK_CALL, waiting_bodies};
use crate::bed;
use crate::drain::{self, Drained};
use crate::effort::Effort;
use crate::figure::{Figure, Section};
use crate::turns::in_turns;

const PEER: &str = "bare client";

/// How messages go, how late the sandbox answers, and how many events are sent to it.
struct Case {
    bulk: bool,
    latency: Duration,
    events: i64,
}

impl Case {
    fn name(&self) -> &'static str {
        if self.bulk { "bulk calls" } else { "single calls" }
    }
}

/// Drains with a sandbox that answers at once, and with one that does not.
pub fn measure(effort: &Effort) -> Result<Vec<Section>, String> {
    let shop = bed::start(bed::shop(), false);
    let mut db = shop.connect();
    let calls: String = query(&mut db, "SELECT current_setting('klaviyo.max_in_flight')", &[]);
    let single_at_a_time = calls.parse().map_err(|_| format!("klaviyo.max_in_flight is {calls}"))?;
    let cases = [
        (false, 0, effort.drained),
        (false, 50, effort.drained_slowly),
        (true, 0, effort.drained_in_bulk),
        (true, 50, effort.drained_in_bulk),
    ]
    .map(|(bulk, latency, events)| Case { bulk, latency: Duration::from_millis(latency), events });

    let samples = in_turns("drains", effort.repetitions, &cases, |case| {
        shop.cluster.set("klaviyo.bulk", if case.bulk { "on" } else { "off" });
        bed::queue_events(&mut db, "default", 1, case.events)?;
        let bodies = waiting_bodies(&mut db, case.events, case.bulk)?;
        answer_late(&shop, case);
        let at_a_time = if case.bulk { BULK_AT_A_TIME } else { single_at_a_time };
        let seconds = BareClient::new(&shop.sandbox)?.send_all(bodies, case.bulk, at_a_time)?;
        shop.sandbox.reset();
        answer_late(&shop, case);
        Ok((case.events as f64 / seconds, drain::all(&shop, &mut db, case.events)?))
    })?;

    let figures = cases.iter().zip(samples).flat_map(|(case, samples)| figures(case, &samples));
    Ok(vec![Section {
        title: "Drain, no limiter".to_owned(),
        how: format!(
            "All that waits is sent, each event about another person: with klaviyo.bulk off {} events to a sandbox that \
             answers at once, {} to one that answers 50 ms late; in calls of many {}. rate_share 1e6, the sandbox's rates \
             off, klaviyo.max_in_flight {calls}. The rate is taken at the sandbox. CPU of the worker's two threads, until \
             all is on record. Bare client: the same events in the same calls, of many {PER_BULK_CALL} in each, through the \
             same HTTP client from one thread, {calls} calls at a time, of many {BULK_AT_A_TIME}, no database; it is what \
             sandbox and loopback allow. Memory: VmHWM counts the pages of shared_buffers that the worker has touched; \
             beside it what is its own.",
            cases[0].events, cases[1].events, cases[2].events,
        ),
        figures: figures.collect(),
    }])
}

/// As many calls of many as the worker has under way.
const BULK_AT_A_TIME: usize = 4;

fn answer_late(shop: &Shop, case: &Case) {
    if !case.latency.is_zero() {
        shop.sandbox.set_faults(&[Fault::latency(case.latency)]);
    }
}

fn figures(case: &Case, samples: &[(f64, Drained)]) -> [Figure; 5] {
    let name = format!("{}, {} ms", case.name(), case.latency.as_millis());
    let of = |value: fn(&Drained) -> f64| samples.iter().map(|(_, drained)| value(drained)).collect();
    let peer: Vec<f64> = samples.iter().map(|(peer, _)| *peer).collect();
    [
        Figure::new(format!("{name}: bare client"), "messages/s", peer.clone()),
        Figure::new(format!("{name}: ours"), "messages/s", of(|drained| drained.rate)).against(PEER, &peer),
        Figure::new(format!("{name}: worker's CPU for 10,000"), "s", of(Drained::cpu_per_10k)),
        Figure::new(format!("{name}: worker's VmHWM"), "MB", of(|drained| drained.usage.peak_mb)),
        Figure::new(format!("{name}: worker's own memory"), "MB", of(|drained| drained.usage.own_mb)),
    ]
}
