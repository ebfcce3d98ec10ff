//! What the views of lanes, throughput and latency are made of.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use delivery::gauges::{AccountGauges, LaneGauges};
use delivery::klaviyo::Endpoint;
use pgrx::IntoDatum;
use serde_json::{Value, json};

use crate::pg::function::{Arguments, Returned, sql_function};

sql_function!(klaviyo_gauges, pg_finfo_klaviyo_gauges, gauges);

/// `klaviyo.gauges()`: an object a lane, in an array.
fn gauges(_: &Arguments) -> Returned {
    let accounts = crate::worker::gauges().iter().map(|account| (account.name(), account));
    let lanes: Vec<Value> = accounts
        .filter(|(name, _)| !name.is_empty())
        .flat_map(|(name, account)| lanes(&name, account))
        .collect();
    Ok(Value::from(lanes).to_string().into_datum())
}

fn lanes(name: &str, account: &AccountGauges) -> Vec<Value> {
    account.lanes().map(|(endpoint, gauges)| lane(name, endpoint, gauges)).collect()
}

/// Times are microseconds since 1970, durations milliseconds.
fn lane(account: &str, endpoint: &Endpoint, gauges: &LaneGauges) -> Value {
    let now = SystemTime::now();
    let windows: Vec<Value> = (endpoint.limits.windows().enumerate())
        .map(|(number, (length, _))| {
            let (limit, held) = gauges.window(number);
            json!({"seconds": length.as_secs(), "calls": limit, "left": limit.saturating_sub(held)})
        })
        .collect();
    let percentiles = [0.5, 0.95, 0.99];
    json!({
        "account": account,
        "lane": endpoint.name,
        "path": endpoint.path,
        "windows": windows,
        "breaker_open": gauges.is_breaker_open(),
        "held_until": time(&gauges.held_until),
        "under_way": gauges.under_way.load(Relaxed),
        "ready": gauges.ready.load(Relaxed),
        "calls": gauges.calls.load(Relaxed),
        "failures": gauges.failures.load(Relaxed),
        "throttled": gauges.throttled.load(Relaxed),
        "last_success": time(&gauges.last_success),
        "last_failure": time(&gauges.last_failure),
        "last_failure_status": gauges.last_failure_status.load(Relaxed),
        "accepted": gauges.accepted.total(),
        "accepted_10s": gauges.accepted.last(10, now),
        "accepted_60s": gauges.accepted.last(60, now),
        "call_ms": gauges.call_time.percentiles(percentiles).map(milliseconds),
        "delivery_ms": gauges.delivery_time.percentiles(percentiles).map(milliseconds),
    })
}

/// 0 stands for never.
fn time(gauge: &AtomicI64) -> Option<i64> {
    Some(gauge.load(Relaxed)).filter(|micros| *micros != 0)
}

fn milliseconds(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_secs_f64() * 1_000.0)
}
