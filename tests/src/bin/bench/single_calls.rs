//! Draining by single calls, nothing limiting it.

use std::time::Duration;

use harness::{Fault, Shop, query};

use crate::bare_client::{BareClient, waiting_bodies};
use crate::bed;
use crate::drain::{self, Drained};
use crate::effort::Effort;
use crate::figure::{Figure, Section};
use crate::turns::in_turns;

const PEER: &str = "bare client";

/// How late the sandbox answers, and how many events are sent to it.
struct Case {
    latency: Duration,
    events: i64,
}

/// Drains with a sandbox that answers at once, and with one that does not.
pub fn measure(effort: &Effort) -> Result<Vec<Section>, String> {
    let shop = bed::start(bed::shop(), false);
    let mut db = shop.connect();
    let calls: String = query(&mut db, "SELECT current_setting('klaviyo.max_in_flight')", &[]);
    let at_a_time = calls.parse().map_err(|_| format!("klaviyo.max_in_flight is {calls}"))?;
    let cases = [(0, effort.drained), (50, effort.drained_slowly)]
        .map(|(latency, events)| Case { latency: Duration::from_millis(latency), events });

    let samples = in_turns("single calls", effort.repetitions, &cases, |case| {
        bed::queue_events(&mut db, "default", 1, case.events)?;
        let bodies = waiting_bodies(&mut db, case.events)?;
        answer_late(&shop, case);
        let peer = BareClient::new(&shop.sandbox)?.send_all(bodies, at_a_time)?;
        shop.sandbox.reset();
        answer_late(&shop, case);
        Ok((peer, drain::all(&shop, &mut db, case.events)?))
    })?;

    let figures = cases.iter().zip(samples).flat_map(|(case, samples)| figures(case, &samples));
    Ok(vec![Section {
        title: "Drain, single calls, no limiter".to_owned(),
        how: format!(
            "All that waits is sent: {} events to a sandbox that answers at once, {} to one that answers 50 ms late; \
             each about another person. rate_share 1e6, the sandbox's rates off, klaviyo.max_in_flight {calls}. \
             The rate is taken at the sandbox. CPU of the worker's two threads, until all is on record. Bare client: \
             the same bodies through the same HTTP client from one thread, {calls} calls at a time, no database; it is \
             what sandbox and loopback allow. Memory: VmHWM counts the pages of shared_buffers that the worker has \
             touched; beside it what is its own.",
            cases[0].events, cases[1].events,
        ),
        figures: figures.collect(),
    }])
}

fn answer_late(shop: &Shop, case: &Case) {
    if !case.latency.is_zero() {
        shop.sandbox.set_faults(&[Fault::latency(case.latency)]);
    }
}

fn figures(case: &Case, samples: &[(f64, Drained)]) -> [Figure; 5] {
    let latency = case.latency.as_millis();
    let of = |value: fn(&Drained) -> f64| samples.iter().map(|(_, drained)| value(drained)).collect();
    let peer: Vec<f64> = samples.iter().map(|(peer, _)| *peer).collect();
    [
        Figure::new(format!("{latency} ms: bare client"), "messages/s", peer.clone()),
        Figure::new(format!("{latency} ms: single calls"), "messages/s", of(|drained| drained.rate))
            .against(PEER, &peer),
        Figure::new(format!("{latency} ms: worker's CPU for 10,000"), "s", of(Drained::cpu_per_10k)),
        Figure::new(format!("{latency} ms: worker's VmHWM"), "MB", of(|drained| drained.usage.peak_mb)),
        Figure::new(format!("{latency} ms: worker's own memory"), "MB", of(|drained| drained.usage.own_mb)),
    ]
}
