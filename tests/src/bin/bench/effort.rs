//! How much is measured: `make bench` takes somewhat more than an hour, `make bench-quick` a quarter of one.

use serde::Serialize;

/// Numbers of rows and repetitions.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Effort {
    /// What runs it.
    pub name: &'static str,
    /// Measurements of each figure.
    pub repetitions: usize,
    /// Seconds that each run of pgbench takes.
    pub pgbench_seconds: u64,
    /// Rows that one statement inserts.
    pub rows: i64,
    /// Messages of a drain, the sandbox answering at once.
    pub drained: i64,
    /// Messages of a drain, the sandbox answering late.
    pub drained_slowly: i64,
    /// Events of a drain in calls of many.
    pub drained_in_bulk: i64,
    /// Minutes at Klaviyo's limits.
    pub minutes: u64,
    /// Events whose way to Klaviyo is timed, in each repetition.
    pub timed: usize,
    /// Messages waiting, few and many; of the many as many are drained as there are few.
    pub few: i64,
    pub many: i64,
    /// Repetitions of draining the few, which takes less than a second.
    pub short_repetitions: usize,
    /// Accounts that send at once.
    pub accounts: usize,
    /// Hours of a day's load.
    pub hours: u32,
    /// Seconds of a pgbench run beside the worker.
    pub neighbour_seconds: u64,
}

impl Effort {
    /// `make bench`.
    pub fn full() -> Self {
        Self {
            name: "bench",
            repetitions: 5,
            pgbench_seconds: 5,
            rows: 100_000,
            drained: 100_000,
            drained_slowly: 20_000,
            drained_in_bulk: 300_000,
            minutes: 10,
            timed: 400,
            few: 10_000,
            many: 10_000_000,
            short_repetitions: 15,
            accounts: 20,
            hours: 24,
            neighbour_seconds: 15,
        }
    }

    /// `make bench-quick`.
    pub fn quick() -> Self {
        Self {
            name: "bench-quick",
            pgbench_seconds: 1,
            drained: 20_000,
            drained_slowly: 4_000,
            drained_in_bulk: 100_000,
            minutes: 3,
            timed: 150,
            many: 200_000,
            short_repetitions: 7,
            hours: 5,
            neighbour_seconds: 4,
            ..Self::full()
        }
    }
}
