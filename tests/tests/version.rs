//! The version number stands in Cargo.toml. What has to repeat it says the same.

use std::fs;

use harness::Cluster;
use serde_json::Value;

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn the_server_sees_the_version_of_the_crate() {
    let cluster = Cluster::builder().preload(false).start();
    let seen = "SELECT default_version FROM pg_available_extensions WHERE name = 'klaviyo_sync'";
    assert_eq!(cluster.psql("postgres", seen), VERSION);
}

#[test]
fn pgxn_sees_the_version_of_the_crate() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../META.json"))
        .expect("META.json can be read");
    let meta: Value = serde_json::from_str(&text).expect("META.json is JSON");
    assert_eq!(meta["version"], VERSION);
    assert_eq!(meta["provides"]["klaviyo_sync"]["version"], VERSION);
}
