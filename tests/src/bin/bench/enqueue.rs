//! What queueing costs whoever inserts.

use std::path::PathBuf;
use std::time::Instant;

use harness::{Shop, count, sql};
use postgres::Client;

use crate::bed;
use crate::effort::Effort;
use crate::figure::{Figure, Section};
use crate::pgbench::{self, Pgbench};
use crate::turns::in_turns;

/// Tables of `enqueue.sql`, and what they are called. The second is the floor.
const VARIANTS: [(&str, &str); 5] = [
    ("plain", "plain insert"),
    ("floor", "bare outbox trigger"),
    ("row_level", "ours, row level"),
    ("statement_level", "ours, statement level"),
    ("mapped", "ours, by klaviyo_sync_events"),
];
const FLOOR: usize = 1;

/// Bytes by which payloads may differ on average: the time in ours is a digit shorter in one of ten.
const SAME: f64 = 1.0;

/// Who inserts, and how.
enum Case {
    /// Clients of pgbench, one row a transaction.
    OneByOne { clients: usize, synchronous_commit: &'static str },
    /// One statement.
    AtOnce { rows: i64 },
}

impl Case {
    fn name(&self) -> String {
        match self {
            Self::OneByOne { clients: 1, synchronous_commit } => {
                format!("1 client, synchronous_commit {synchronous_commit}")
            }
            Self::OneByOne { clients, synchronous_commit } => {
                format!("{clients} clients, synchronous_commit {synchronous_commit}")
            }
            Self::AtOnce { rows } => format!("{rows} rows in a statement"),
        }
    }
}

/// A table, and the script that inserts a row into it.
struct Variant {
    table: &'static str,
    script: PathBuf,
}

/// Every case with every variant, all of a case in turns.
pub fn measure(effort: &Effort) -> Result<Vec<Section>, String> {
    // Nothing but what is measured writes. Statements come and go too fast for statistics to matter.
    let shop = bed::start(bed::shop().setting("autovacuum", "off"), false);
    let mut db = shop.connect();
    set_up(&mut db, effort);
    let mut variants = Vec::new();
    for (table, _) in VARIANTS {
        let insert = format!(
            "INSERT INTO bench.{table} (email, properties, key, payload)\n\
             SELECT email, properties, key, payload FROM bench.sample;\n"
        );
        variants.push(Variant { table, script: pgbench::script(&shop.cluster, table, &insert)? });
    }
    let one_by_one = [(1, "on"), (1, "off"), (8, "on"), (8, "off")]
        .map(|(clients, synchronous_commit)| Case::OneByOne { clients, synchronous_commit });
    let mut figures = Vec::new();
    let mut bytes = 0.0;
    for case in one_by_one.into_iter().chain([Case::AtOnce { rows: effort.rows }]) {
        let name = case.name();
        let samples = in_turns(&name, effort.repetitions, &variants, |variant| {
            empty(&mut db);
            let took = insert(&shop, &mut db, &case, variant, effort)?;
            bytes = check(&mut db, variant, took.rows)?.unwrap_or(bytes);
            Ok(took.microseconds / took.rows as f64)
        })?;
        for (number, (_, what)) in VARIANTS.into_iter().enumerate() {
            let figure = Figure::new(format!("{name}: {what}"), "µs/row", samples[number].clone());
            figures.push(match number {
                FLOOR => figure,
                _ => figure.against("bare trigger", &samples[FLOOR]),
            });
        }
    }
    Ok(vec![Section {
        title: "Enqueue".to_owned(),
        how: format!(
            "Rows of five tables, alike but for their triggers. Bare outbox trigger, the floor: row level, one INSERT … \
             VALUES of a ready payload into a copy of klaviyo.outbox. Ours: PERFORM klaviyo_track_event(…), a jsonb \
             column of the row as properties; and the trigger that klaviyo_sync_events() writes of the same. {bytes:.0} bytes of payload on average, compared after each run. \
             klaviyo.enabled off, autovacuum off, a checkpoint before each run. One by one: pgbench, {} s a run, \
             prepared, a row a transaction; what is shown is elapsed time by rows of all clients.",
            effort.pgbench_seconds,
        ),
        figures,
    }])
}

fn set_up(db: &mut Client, effort: &Effort) {
    sql(db, &include_str!("enqueue.sql").replace(":rows", &effort.rows.to_string()));
    sql(db, "VACUUM ANALYZE bench.sample, bench.orders");
}

fn empty(db: &mut Client) {
    let tables = VARIANTS.map(|(table, _)| format!("bench.{table}")).join(", ");
    sql(db, &format!("TRUNCATE klaviyo.outbox, bench.outbox, {tables}"));
    sql(db, "CHECKPOINT");
}

/// What was inserted, and how long it took.
struct Took {
    rows: i64,
    microseconds: f64,
}

fn insert(
    shop: &Shop,
    db: &mut Client,
    case: &Case,
    variant: &Variant,
    effort: &Effort,
) -> Result<Took, String> {
    match case {
        Case::OneByOne { clients, synchronous_commit } => {
            let done = Pgbench::new(&shop.cluster)
                .options(&format!("-c synchronous_commit={synchronous_commit}"))
                .script(&variant.script)
                .run(*clients, effort.pgbench_seconds)?;
            let rows = done.transactions;
            Ok(Took { rows, microseconds: rows as f64 * 1e6 / done.rate })
        }
        Case::AtOnce { rows } => {
            let insert = format!(
                "INSERT INTO bench.{} (email, properties, key, payload)
                 SELECT email, properties, key, payload FROM bench.orders",
                variant.table
            );
            let began = Instant::now();
            sql(db, &insert);
            Ok(Took { rows: *rows, microseconds: began.elapsed().as_secs_f64() * 1e6 })
        }
    }
}

/// An error unless every row has come with its message, and floor and ours stored as many bytes. Says how many bytes a
/// payload has.
fn check(db: &mut Client, variant: &Variant, rows: i64) -> Result<Option<f64>, String> {
    let table = variant.table;
    let inserted = count(db, &format!("SELECT count(*) FROM bench.{table}"));
    let outbox = match table {
        "plain" => None,
        "floor" => Some("bench.outbox"),
        _ => Some("klaviyo.outbox"),
    };
    let Some(outbox) = outbox else {
        return if inserted == rows { Ok(None) } else { Err(format!("{inserted} of {rows} rows are there")) };
    };
    let found = db.query_one(
        &format!(
            "SELECT count(*), coalesce(avg(octet_length(o.payload::text)), 0)::float8,
                    (SELECT length(s.payload::text) FROM bench.sample AS s)::float8
             FROM {outbox} AS o"
        ),
        &[],
    );
    let found = found.map_err(|error| error.to_string())?;
    let (queued, bytes, expected): (i64, f64, f64) = (found.get(0), found.get(1), found.get(2));
    if (inserted, queued) != (rows, rows) {
        return Err(format!(
            "{table}: {rows} rows were inserted, {inserted} are there, {queued} were queued"
        ));
    }
    if (bytes - expected).abs() > SAME {
        return Err(format!("{table}: payloads have {bytes} bytes on average, the sample has {expected}"));
    }
    Ok(Some(bytes))
}
