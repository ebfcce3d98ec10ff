//! What others lose while the worker works.

use harness::{Backlog, Shop, count, sql};
use postgres::Client;

use crate::bed;
use crate::effort::Effort;
use crate::figure::{Figure, Section};
use crate::pgbench::{self, Pgbench};
use crate::turns::in_turns;

/// A million accounts, 150 MB.
const SCALE: u32 = 10;

const CLIENTS: usize = 4;

/// Events a second that no worker drains, at Klaviyo's limits and as fast as it can: so many are queued that it does not
/// run out of them.
const PLENTY_AT_THE_LIMITS: i64 = 12_000;
const PLENTY: i64 = 100_000;

/// What the worker does meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Work {
    Off,
    Idle,
    AtKlaviyosLimits,
    AsFastAsItCan,
}

impl Work {
    const ALL: [Self; 4] = [Self::Off, Self::Idle, Self::AtKlaviyosLimits, Self::AsFastAsItCan];

    fn name(self) -> &'static str {
        match self {
            Self::Off => "klaviyo.enabled off",
            Self::Idle => "idle",
            Self::AtKlaviyosLimits => "drains at Klaviyo's limits",
            Self::AsFastAsItCan => "drains, no limiter",
        }
    }

    /// Where it has something to do: the part of Klaviyo's limits that it may use, and how many events a second are
    /// queued for it.
    fn plenty(self) -> Option<(f64, i64)> {
        match self {
            Self::Off | Self::Idle => None,
            Self::AtKlaviyosLimits => Some((1.0, PLENTY_AT_THE_LIMITS)),
            Self::AsFastAsItCan => Some((1e6, PLENTY)),
        }
    }
}

/// pgbench beside a worker in each of its states.
pub fn measure(effort: &Effort) -> Result<Vec<Section>, String> {
    let shop = bed::start(bed::shop(), false);
    let mut db = shop.connect();
    pgbench::initialize(&shop.cluster, SCALE)?;
    let samples = in_turns("neighbours", effort.repetitions, &Work::ALL, |work| {
        beside(&shop, &mut db, *work, effort.neighbour_seconds)
    })?;
    let mut figures = Vec::new();
    for (work, rates) in Work::ALL.into_iter().zip(&samples) {
        let figure = Figure::new(format!("TPC-B, worker: {}", work.name()), "tps", rates.clone());
        figures.push(match work {
            Work::Off => figure,
            _ => figure.against("enabled off", &samples[0]),
        });
    }
    Ok(vec![Section {
        title: "What others lose".to_owned(),
        how: format!(
            "pgbench's built-in TPC-B, scale {SCALE}, {CLIENTS} clients, prepared, {} s a run, in the worker's database. \
             Events wait all the time that it drains; the sandbox answers at once, and it and pgbench run on the same \
             cores: what they take is in the loss.",
            effort.neighbour_seconds
        ),
        figures,
    }])
}

fn beside(shop: &Shop, db: &mut Client, work: Work, seconds: u64) -> Result<f64, String> {
    let share = |db: &mut Client, share: f64| {
        sql(db, &format!("SELECT klaviyo_set_account(rate_share => {share})"));
    };
    let mut queued = 0;
    if let Some((rate_share, plenty)) = work.plenty() {
        queued = plenty * i64::try_from(seconds).map_err(|error| error.to_string())?;
        bed::queue_events(db, "default", 1, queued)?;
        share(db, rate_share);
    }
    sql(db, "CHECKPOINT");
    if work != Work::Off {
        bed::send(shop);
    }
    if queued > 0 {
        bed::wait("the worker has begun", || shop.sandbox.stats().events > 0)?;
    }
    let done = Pgbench::new(&shop.cluster).run(CLIENTS, seconds)?;
    if queued > 0 {
        if count(db, "SELECT count(*) FROM klaviyo.outbox") == 0 {
            return Err(format!("the worker had drained all {queued} events before the end of the run"));
        }
        share(db, 1e6);
        bed::wait("the outbox is empty", || Backlog::read(db).waiting() == 0)?;
    }
    bed::hold(shop, db)?;
    bed::check_arrived(shop, db, Some(queued))?;
    bed::forget(shop, db);
    Ok(done.rate)
}
