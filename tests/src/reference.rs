//! `docs/reference.md`, made from what the server's catalogue says of the extension.

use std::io::Write;
use std::process::Stdio;

use delivery::invalid::Fault;
use delivery::kind::{self, Kind};
use delivery::klaviyo::Endpoint;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Where it is kept.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");

/// Prints it, line by line. All that the catalogue does not know is passed as variables.
const SCRIPT: &str = include_str!("../reference.sql");

/// The refusals of mappings.
#[path = "../../src/capture/sqlstate.rs"]
mod mapping_sqlstate;

/// The refusals of handlers of webhooks.
#[path = "../../src/inbound/sqlstate.rs"]
mod handler_sqlstate;

/// Those of clean-ups.
#[path = "../../src/pull/sqlstate.rs"]
mod clean_up_sqlstate;

/// Makes it, on a cluster of its own.
pub fn generate() -> String {
    // Every setting is at its default, and none is hidden because the library came too late.
    let cluster = Cluster::builder().start();
    cluster.create_database("reference");
    cluster.psql("reference", "CREATE EXTENSION klaviyo_sync");
    let faults: Vec<_> =
        Fault::ALL.iter().map(|fault| json!({"sqlstate": fault.sqlstate(), "code": fault.code()})).collect();
    let refusal = |of: &'static str| move |(sqlstate, what): &(&str, &str)| json!({"sqlstate": sqlstate, "what": what, "source": of});
    let mappings = mapping_sqlstate::ALL.iter().map(refusal("mapping a table"));
    let refusals: Vec<_> = mappings
        .chain(handler_sqlstate::ALL.iter().map(refusal("`klaviyo_on_webhook()`")))
        .chain(clean_up_sqlstate::ALL.iter().map(refusal("`klaviyo_set_clean_up()`")))
        .collect();
    let kinds: Vec<_> = kind::ALL.iter().map(|kind| described(*kind)).collect();
    let mut psql = cluster
        .psql_command("reference")
        .args(["--quiet", "--no-align", "--tuples-only", "--variable"])
        .arg(format!("faults={}", json!(faults)))
        .arg("--variable")
        .arg(format!("refusals={}", json!(refusals)))
        .arg("--variable")
        .arg(format!("kinds={}", json!(kinds)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("psql can be run");
    let mut input = psql.stdin.take().expect("psql reads");
    input.write_all(SCRIPT.as_bytes()).expect("psql reads all of it");
    drop(input);
    let output = psql.wait_with_output().expect("psql ends");
    assert!(output.status.success(), "reference.sql failed");
    String::from_utf8(output.stdout).expect("psql writes UTF-8")
}

fn described(kind: &dyn Kind) -> Value {
    let call = |endpoint: &Endpoint| {
        let Endpoint { method, path, max_items, .. } = endpoint;
        let many = if *max_items > 1 { format!(", {max_items} in a call") } else { String::new() };
        format!("`{} {path}`{many}", method.name())
    };
    let mut calls: Vec<String> = kind.questions().iter().map(|question| call(question.endpoint())).collect();
    calls.push(kind.endpoint().map_or("any".to_owned(), call));
    calls.extend(kind.bulk().filter(|bulk| Some(*bulk) != kind.endpoint()).map(call));
    json!({"kind": kind.name(), "calls": calls.join("<br>"), "lost": kind.lost().says()})
}
