//! The tour: a shop that orders through an outage, and a look at what arrived.

use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Backlog, PATIENCE, Shop, interrupt};

use crate::compare::compare;
use crate::screen::{heading, say};

macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!("../../../demo/", $name, ".sql"))
    };
}

/// Plays it; an error when Klaviyo ends up with anything but what the database holds.
pub fn play() -> Result<(), String> {
    heading("A throw-away PostgreSQL, and a sandbox in the place of Klaviyo");
    // So that the audience need not wait for long after the outage.
    let shop = Shop::builder().rate_share(1.0).setting("klaviyo.retry_max_delay", "2s").start();
    say(&format!("PostgreSQL {}, Klaviyo at {}", shop.cluster.bin().version(), shop.sandbox.api()));

    heading("A shop");
    psql(&shop, sql!("1_shop"))?;
    heading("Two calls keep Klaviyo in step with its tables");
    psql(&shop, sql!("2_sync"))?;
    heading("People sign up and order");
    psql(&shop, sql!("3_orders"))?;
    wait_until_delivered(&shop)?;
    heading("What is rolled back was never sent");
    psql(&shop, sql!("4_rollback"))?;

    heading("Klaviyo goes down; the shop does not notice");
    shop.sandbox.down();
    psql(&shop, sql!("5_outage"))?;
    wait_for_a_failure(&shop)?;
    psql(&shop, sql!("6_waiting"))?;
    heading("Klaviyo comes back");
    shop.sandbox.up();
    wait_until_delivered(&shop)?;

    heading("What was delivered, as the database tells it");
    psql(&shop, sql!("7_delivered"))?;
    heading("What Klaviyo holds, compared with the tables");
    compare(&shop)
}

/// Shows SQL and what it answers.
fn psql(shop: &Shop, sql: &str) -> Result<(), String> {
    interrupt::check()?;
    let mut psql = shop.cluster.psql_command("shop");
    let mut psql = psql
        .args(["--echo-all", "--quiet", "--pset=footer=off", "--pset=null=∅", "--file=-"])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run psql: {error}"))?;
    let mut input = psql.stdin.take().ok_or("psql reads nothing")?;
    let written = input.write_all(sql.as_bytes());
    drop(input);
    let status = psql.wait().map_err(|error| format!("cannot wait for psql: {error}"))?;
    interrupt::check()?;
    if status.success() && written.is_ok() { Ok(()) } else { Err(format!("psql failed: {status}")) }
}

/// Calls `look` until it returns true, every now and then saying what is going on.
fn wait(shop: &Shop, what: &str, mut look: impl FnMut(Backlog) -> bool) -> Result<(), String> {
    let began = Instant::now();
    let mut said = None;
    loop {
        interrupt::check()?;
        let backlog = shop.backlog();
        if look(backlog) {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!(
                "not within {PATIENCE:?}: {what}; {backlog:?}\n{}",
                shop.cluster.log_tail(30)
            ));
        }
        if said != Some(backlog) && began.elapsed() > Duration::from_millis(200) {
            say(&format!("   … {what}: {} on their way", backlog.waiting()));
            said = Some(backlog);
        }
        thread::sleep(Duration::from_millis(250));
    }
}

fn wait_until_delivered(shop: &Shop) -> Result<(), String> {
    wait(shop, "delivering", |backlog| backlog.waiting() == 0)?;
    say("   ✓ everything is delivered");
    Ok(())
}

/// Until the first failed attempt is on record; the story goes on without one too.
fn wait_for_a_failure(shop: &Shop) -> Result<(), String> {
    let began = Instant::now();
    wait(shop, "the worker tries", |backlog| backlog.retry > 0 || began.elapsed() > Duration::from_secs(5))
}
