//! Whether it matters how much waits, what holds a snapshot meanwhile, and for how many accounts it is.

use harness::{Shop, sql};
use postgres::{Client, NoTls};

use crate::bed;
use crate::drain::{self, Drained};
use crate::effort::Effort;
use crate::figure::{Figure, Section};
use crate::turns::in_turns;

/// All three.
pub fn measure(effort: &Effort) -> Result<Vec<Section>, String> {
    let sections = vec![few_and_many(effort)?];
    let shop = bed::start(bed::shop(), false);
    Ok(sections.into_iter().chain([held_snapshot(&shop, effort)?, accounts(&shop, effort)?]).collect())
}

/// A cluster in which more or less waits.
struct Waiting {
    shop: Shop,
    /// Queued before each drain, all of which is drained; else nothing is, and only some of what waits is drained.
    refill: bool,
}

fn few_and_many(effort: &Effort) -> Result<Section, String> {
    let places = [true, false].map(|refill| Waiting { shop: bed::start(bed::shop(), false), refill });
    eprintln!("bench:   {} messages are queued", effort.many);
    fill(&mut places[1].shop.connect(), effort.many)?;
    let samples = in_turns("few and many", effort.short_repetitions, &places, |place| {
        let mut db = place.shop.connect();
        if place.refill {
            bed::queue_events(&mut db, "default", 1, 2 * effort.few)?;
            drain::first_of(&place.shop, &mut db, effort.few, 2 * effort.few)
        } else {
            drain::first(&place.shop, &mut db, effort.few)
        }
    })?;
    let mut figures = compared(
        &samples,
        &[format!("{} waiting", effort.few), format!("{} waiting", effort.many)],
        "fewer waiting",
    );
    for (samples, waiting) in samples.iter().zip([effort.few, effort.many]) {
        let of = |value: fn(&Drained) -> f64| samples.iter().map(value).collect();
        figures.push(Figure::new(
            format!("{waiting} waiting: worker's VmHWM"),
            "MB",
            of(|drained| drained.usage.peak_mb),
        ));
        figures.push(Figure::new(
            format!("{waiting} waiting: worker's own memory"),
            "MB",
            of(|drained| drained.usage.own_mb),
        ));
    }
    Ok(Section {
        title: format!("{} against {} messages waiting", effort.few, effort.many),
        how: format!(
            "Two clusters, their workers let go in turns, no limiter. {} messages of each are timed: the first of twice as \
             many, so that those that are fewer wait to the end, and the first of the many. {} repetitions, for they are \
             short.",
            effort.few, effort.short_repetitions
        ),
        figures,
    })
}

/// Queues that many, and has the table be as it would be by itself some minutes later: visibility map and statistics.
fn fill(db: &mut Client, many: i64) -> Result<(), String> {
    bed::queue_many(db, many)?;
    sql(db, "VACUUM ANALYZE klaviyo.outbox");
    sql(db, "CHECKPOINT");
    Ok(())
}

fn held_snapshot(shop: &Shop, effort: &Effort) -> Result<Section, String> {
    let mut db = shop.connect();
    let samples = in_turns("snapshot", effort.repetitions, &[false, true], |held| {
        bed::queue_events(&mut db, "default", 1, effort.drained_in_bulk)?;
        let mut other = shop.cluster.config("shop").connect(NoTls).map_err(|error| error.to_string())?;
        if *held {
            sql(&mut other, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_class LIMIT 1");
        }
        drain::all(shop, &mut db, effort.drained_in_bulk)
    })?;
    Ok(Section {
        title: "Without and with a snapshot held".to_owned(),
        how: format!(
            "{} messages queued and drained, no limiter. Held: another session is idle in a REPEATABLE READ \
             transaction from before the drain to its end, so that nothing deleted can be cleaned away.",
            effort.drained_in_bulk
        ),
        figures: compared(&samples, &["no snapshot".to_owned(), "snapshot held".to_owned()], "no snapshot"),
    })
}

fn accounts(shop: &Shop, effort: &Effort) -> Result<Section, String> {
    let mut db = shop.connect();
    let names: Vec<String> = (1..effort.accounts).map(|number| format!("account-{number}")).collect();
    for name in &names {
        shop.add_account(&mut db, name, &format!("pk_bench_{name}"));
    }
    let mut all = vec!["default"];
    all.extend(names.iter().map(String::as_str));
    let each = effort.drained_in_bulk / i64::try_from(all.len()).map_err(|error| error.to_string())?;
    let together = each * i64::try_from(all.len()).map_err(|error| error.to_string())?;
    let samples = in_turns("accounts", effort.repetitions, &[1, all.len()], |accounts| {
        // The same statements in both cases; one account gets them all, or each gets one.
        for number in 0..all.len() {
            let first = i64::try_from(number).map_err(|error| error.to_string())? * each + 1;
            bed::queue_events(&mut db, all[number % accounts], first, first + each - 1)?;
        }
        drain::all(shop, &mut db, together)
    })?;
    Ok(Section {
        title: format!("1 against {} accounts", effort.accounts),
        how: format!(
            "{together} messages of one database queued and drained, no limiter: of one account, or of {} at \
             once, those of each lying together in the outbox.",
            effort.accounts
        ),
        figures: compared(
            &samples,
            &["1 account".to_owned(), format!("{} accounts", effort.accounts)],
            "1 account",
        ),
    })
}

/// Rate and CPU of two alternatives, the second compared with the first.
fn compared(samples: &[Vec<Drained>], names: &[String; 2], peer: &str) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut compare = |what: &str, unit: &'static str, value: fn(&Drained) -> f64| {
        let [one, other] =
            [0, 1].map(|alternative: usize| samples[alternative].iter().map(value).collect::<Vec<f64>>());
        figures.push(Figure::new(format!("{}: {what}", names[0]), unit, one.clone()));
        figures.push(Figure::new(format!("{}: {what}", names[1]), unit, other).against(peer, &one));
    };
    compare("drained", "messages/s", |drained| drained.rate);
    compare("worker's CPU for 10,000", "s", Drained::cpu_per_10k);
    figures
}
