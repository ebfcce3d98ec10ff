//! Draining what waits, and how fast that is.

use std::thread;
use std::time::{Duration, Instant};

use harness::{Backlog, Shop, interrupt};
use postgres::Client;

use crate::bed;
use crate::worker::{Usage, Worker};

/// Between two looks at what has arrived. Draining the fewest messages takes some fifty times as long.
const LOOK: Duration = Duration::from_millis(2);

/// Nothing has arrived for so long: something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// A drain.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// Messages a second, from the first look that saw one to the first that saw them all.
    pub rate: f64,
    pub usage: Usage,
    /// Messages that arrived in all.
    pub arrived: i64,
}

impl Drained {
    /// Seconds of the processor that the worker took for ten thousand messages, from reading to recording.
    pub fn cpu_per_10k(&self) -> f64 {
        self.usage.cpu_seconds * 10_000.0 / self.arrived as f64
    }
}

/// Drains all that waits, so many messages.
pub fn all(shop: &Shop, db: &mut Client, messages: i64) -> Result<Drained, String> {
    drain(shop, db, messages, Some(messages))
}

/// Drains the first of what waits, which is timed; some more may leave.
pub fn first(shop: &Shop, db: &mut Client, messages: i64) -> Result<Drained, String> {
    drain(shop, db, messages, None)
}

/// Drains all that waits, so many messages, of which the first are timed.
pub fn first_of(shop: &Shop, db: &mut Client, messages: i64, waiting: i64) -> Result<Drained, String> {
    drain(shop, db, messages, Some(waiting))
}

fn drain(shop: &Shop, db: &mut Client, timed: i64, all: Option<i64>) -> Result<Drained, String> {
    let mut worker = Worker::watch(db)?;
    bed::send(shop);
    let rate = rate(shop, &mut worker, timed)?;
    if all.is_some() {
        bed::wait("the outbox is empty", || Backlog::read(db).waiting() == 0)?;
    }
    bed::hold(shop, db)?;
    let arrived = bed::check_arrived(shop, db, all)?;
    let usage = worker.usage()?;
    bed::forget(shop, db);
    Ok(Drained { rate, usage, arrived })
}

/// Watches until so many messages have arrived. Each is about a person of its own, whom an event makes known as well.
fn rate(shop: &Shop, worker: &mut Worker, messages: i64) -> Result<f64, String> {
    let (mut first, mut latest) = (None, (Instant::now(), 0));
    loop {
        interrupt::check()?;
        let (now, arrived) =
            (Instant::now(), i64::try_from(shop.sandbox.stats().profiles).unwrap_or(i64::MAX));
        worker.look();
        let (since, before) = *first.get_or_insert((now, arrived));
        if before == 0 {
            first = None;
        } else if arrived >= messages {
            let seconds = (now - since).as_secs_f64();
            let more = arrived - before;
            // All of them arrived between two looks where it is that fast.
            return if more > 0 {
                Ok(more as f64 / seconds)
            } else {
                Err("too few to tell how fast".to_owned())
            };
        }
        if arrived > latest.1 {
            latest = (now, arrived);
        } else if latest.0.elapsed() > PATIENCE {
            return Err(format!(
                "{arrived} of {messages} messages have arrived, and for {PATIENCE:?} no more"
            ));
        }
        thread::sleep(LOOK);
    }
}
