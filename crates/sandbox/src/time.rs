//! Times as the sandbox keeps, compares and writes them.

use jiff::Timestamp;

/// The time, to the microsecond: what answers show and filters compare is the same.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    // Not near the limits of the type, so the fallback is never taken.
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// A time as answers have it, with the part of the second where there is one.
pub fn written(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.f+00:00").to_string()
}
