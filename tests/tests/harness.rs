//! The harness itself: servers that start, stop, die and come back, without the extension.

use std::process::Command;
use std::time::Duration;

use harness::{
    Cluster, PATIENCE, Process, Sandbox, Signal, Stop, count, eventually, kill, query, wait_for_crash,
};

fn plain() -> Cluster {
    Cluster::builder().preload(false).start()
}

#[test]
fn a_cluster_answers_and_stops() {
    let mut cluster = Cluster::builder().preload(false).setting("work_mem", "5MB").start();
    assert_eq!(cluster.psql("postgres", "SHOW work_mem"), "5MB");
    cluster.set("work_mem", "6MB");
    eventually("the setting is reloaded", PATIENCE, || cluster.psql("postgres", "SHOW work_mem") == "6MB");
    cluster.stop(Stop::Fast);
    assert!(cluster.try_connect("postgres").is_err());
    cluster.start();
    cluster.stop(Stop::Smart);
}

#[test]
fn what_was_committed_survives_every_kind_of_end() {
    let mut cluster = plain();
    cluster.connect("postgres").batch_execute("CREATE TABLE t (n int)").expect("t can be made");
    for round in 1..=3 {
        cluster.connect("postgres").execute("INSERT INTO t VALUES (1)", &[]).expect("a row can be added");
        match round {
            1 => {
                cluster.kill9_postmaster();
                cluster.start();
            }
            2 => cluster.restart(Stop::Immediate),
            _ => cluster.restart(Stop::Fast),
        }
        assert_eq!(count(&mut cluster.connect("postgres"), "SELECT count(*) FROM t"), round);
    }
}

#[test]
fn a_frozen_backend_does_not_prevent_a_restart() {
    let mut cluster = plain();
    let mut client = cluster.connect("postgres");
    let pid: i32 = query(&mut client, "SELECT pg_backend_pid()", &[]);
    let backend = Process::find(pid).expect("the backend runs");
    backend.freeze();
    cluster.kill9_postmaster();
    assert!(!backend.is_alive());
    cluster.start();
}

#[test]
fn a_killed_backend_is_recovered_from() {
    let mut cluster = plain();
    let mut client = cluster.connect("postgres");
    let pid: i32 = query(&mut client, "SELECT pg_backend_pid()", &[]);
    kill(pid, Signal::SIGKILL);
    wait_for_crash(&mut client);
    cluster.wait_ready();
}

#[test]
fn two_clusters_are_strangers() {
    let (one, other) = (plain(), Cluster::builder().preload(false).own_identity().start());
    let identity = "SELECT system_identifier FROM pg_control_system()";
    assert_ne!(one.psql("postgres", identity), other.psql("postgres", identity));
    assert_ne!(one.port(), other.port());
    one.create_database("shop");
    assert!(other.try_connect("shop").is_err());
}

#[test]
fn servers_outlive_the_thread_that_started_them() {
    let cluster = std::thread::spawn(plain).join().expect("the thread starts a cluster");
    let postmaster = cluster.postmaster().expect("the server runs");
    assert!(!postmaster.wait_gone(Duration::from_millis(500)));
    cluster.connect("postgres");
}

#[test]
#[ignore = "the process that a_killed_test_leaves_no_server starts and kills"]
fn process_to_kill() {
    let report = std::env::var("HARNESS_TEST_REPORT").expect("the other test names a file");
    let cluster = plain();
    let postmaster = cluster.postmaster().expect("the server runs");
    std::fs::write(report, postmaster.pid.to_string()).expect("the report can be written");
    std::thread::sleep(PATIENCE);
}

#[test]
fn a_killed_test_leaves_no_server() {
    let report = std::env::temp_dir().join(format!("klaviyo_sync-harness-{}", std::process::id()));
    let mut test = Command::new(std::env::current_exe().expect("the own program has a path"))
        .args(["--exact", "process_to_kill", "--ignored"])
        .env("HARNESS_TEST_REPORT", &report)
        .spawn()
        .expect("the own program can be run again");
    let mut postmaster = None;
    eventually("the other process has a server", PATIENCE, || {
        let pid = std::fs::read_to_string(&report).ok().and_then(|pid| pid.parse().ok());
        postmaster = pid.and_then(Process::find);
        postmaster.is_some()
    });
    test.kill().and_then(|()| test.wait()).expect("the other process can be killed");
    assert!(postmaster.expect("found above").wait_gone(PATIENCE));
    std::fs::remove_file(report).expect("the report can be removed");
}

#[test]
fn the_sandbox_can_be_told_to_misbehave() {
    let cluster = plain();
    let sandbox = Sandbox::builder().arguments(["--rates", "off"]).start(cluster.directory());
    assert!(sandbox.is_up());
    sandbox.down();
    assert!(!sandbox.is_up());
    sandbox.up();
    eventually("it is up again", PATIENCE, || sandbox.is_up());
    let faults = [harness::Fault::status(503).times(1), harness::Fault::throttle(2).path("/api/events")];
    sandbox.set_faults(&faults);
    assert_eq!(sandbox.faults(), faults);
    sandbox.clear_faults();
    sandbox.set_rates(&harness::Rates { count_scale: Some(2.0), ..Default::default() });
    sandbox.reset();
    assert!(sandbox.receipts().is_empty() && sandbox.events().is_empty() && sandbox.profiles().is_empty());
    assert_eq!(sandbox.stats().requests, 0);
}
