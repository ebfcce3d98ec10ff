//! How long it takes, on a quiet system, from a commit to the request that it leads to.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use harness::Shop;
use postgres::{Client, Statement};

use crate::bare_client::BareClient;
use crate::bed;
use crate::clock::{Clock, micros};
use crate::effort::Effort;
use crate::figure::{Figure, Section, percentile};
use crate::turns::in_turns;

/// Between two events: long enough for all that the one before has caused.
const PAUSE_MS: std::ops::Range<u64> = 20..60;

const PERCENTILES: [(&str, f64); 3] = [("p50", 0.50), ("p95", 0.95), ("p99", 0.99)];

/// A body for a request that is told from those of the worker by its event's id.
fn probe(number: usize) -> (String, Vec<u8>) {
    let id = format!("probe-{number}");
    let body = format!(
        r#"{{"data":{{"type":"event","attributes":{{"metric":{{"data":{{"type":"metric","attributes":{{"name":"Probe"}}}}}},"properties":{{}},"unique_id":"{id}","profile":{{"data":{{"type":"profile","attributes":{{"external_id":"{id}"}}}}}}}}}}}}"#
    );
    (id, body.into_bytes())
}

/// One repetition: latencies in milliseconds of the bare client and of ours, and what the clock may be wrong by.
struct Timed {
    bare: Vec<f64>,
    ours: Vec<f64>,
    error: Duration,
}

/// Times events one by one.
pub fn measure(effort: &Effort) -> Result<Vec<Section>, String> {
    let shop = bed::start(bed::shop().setting("track_commit_timestamp", "on"), true);
    let mut db = shop.connect();
    let bare = BareClient::new(&shop.sandbox)?;
    let queue =
        "SELECT klaviyo_track_event('Placed Order', 'customer-' || $1 || '@example.com', o.properties)::text,
                        pg_current_xact_id()::text
                 FROM bench.properties AS o";
    let queue = db.prepare(queue).map_err(|error| error.to_string())?;
    bed::send(&shop);
    let samples = in_turns("commit to request", effort.repetitions, &[()], |()| {
        time(&shop, &mut db, &bare, &queue, effort.timed)
    })?;
    bed::hold(&shop, &mut db)?;

    let mut figures = Vec::new();
    for (name, part) in PERCENTILES {
        let of = |latencies: fn(&Timed) -> &Vec<f64>| -> Vec<f64> {
            samples[0].iter().map(|timed| percentile(latencies(timed), part)).collect()
        };
        let bare = of(|timed| &timed.bare);
        figures.push(Figure::new(format!("bare client's request, {name}"), "ms", bare.clone()));
        let ours = of(|timed| &timed.ours);
        figures
            .push(Figure::new(format!("commit → request, {name}"), "ms", ours).against("bare client", &bare));
    }
    let error = samples[0].iter().map(|timed| timed.error).max().unwrap_or_default();
    Ok(vec![Section {
        title: "Commit → request, quiet system".to_owned(),
        how: format!(
            "{} events a repetition, one by one, {} to {} ms apart, autocommit. From the commit's own timestamp \
             (track_commit_timestamp; taken by the server as it writes the commit record) to the arrival of the whole \
             request at the sandbox, whose clock is set by requests of ours: each leaves before it arrives and is \
             answered after. That is wrong by {} µs at most. Bare client: from the call of the HTTP client to the \
             arrival, on a warm connection of one thread, in turns with ours, an event each.",
            effort.timed,
            PAUSE_MS.start,
            PAUSE_MS.end,
            error.as_micros(),
        ),
        figures,
    }])
}

fn time(
    shop: &Shop,
    db: &mut Client,
    bare: &BareClient,
    queue: &Statement,
    events: usize,
) -> Result<Timed, String> {
    let pause = || bed::sleep(Duration::from_millis(fastrand::u64(PAUSE_MS)));
    let (mut probes, mut commits) = (Vec::new(), Vec::new());
    // The first ones warm up connections and plans.
    for number in 0..events + 5 {
        let (id, body) = probe(number);
        let began = bare.send(body)?;
        let answered = SystemTime::now();
        probes.push((id, began, answered));
        pause()?;
        let row = db.query_one(queue, &[&number.to_string()]).map_err(|error| error.to_string())?;
        commits.push((row.get::<_, String>(0), row.get::<_, String>(1)));
        pause()?;
    }
    let expected = i64::try_from(commits.len() + probes.len()).map_err(|error| error.to_string())?;
    bed::wait("all events arrive", || i64::try_from(shop.sandbox.stats().events) == Ok(expected))?;

    let arrived: HashMap<String, u64> = shop
        .sandbox
        .receipts()
        .iter()
        .filter_map(|receipt| {
            Some((receipt.at("data.attributes.unique_id")?.as_str()?.to_owned(), receipt.at_us))
        })
        .collect();
    let at = |id: &str| arrived.get(id).copied().ok_or(format!("event {id} has not arrived"));
    let mut clock = Clock::default();
    for (id, began, answered) in &probes {
        clock.saw(*began, at(id)?, *answered);
    }
    let (mut timed, warm) = (Timed { bare: Vec::new(), ours: Vec::new(), error: clock.error() }, 5);
    for (id, began, _) in probes.iter().skip(warm) {
        timed.bare.push((clock.read(at(id)?) - micros(*began)) as f64 / 1e3);
    }
    for (id, xid) in commits.iter().skip(warm) {
        let committed: i64 = harness::query(
            db,
            "SELECT (extract(epoch FROM pg_xact_commit_timestamp($1::text::xid)) * 1000000)::bigint",
            &[xid],
        );
        timed.ours.push((clock.read(at(id)?) - committed) as f64 / 1e3);
    }
    shop.sandbox.reset();
    Ok(timed)
}
