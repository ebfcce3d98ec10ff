//! Requests for deletion: what waits about the person is not sent, what comes later does not bring them back, and in the end
//! none of our tables names them.

use harness::{
    Fault, PATIENCE, Shop, Signal, count, kill, query, queued, sql, status, wait_for_crash, wait_for_worker,
};
use postgres::Client;

const DELETION: &str = "/api/data-privacy-deletion-jobs";

fn shop() -> Shop {
    Shop::builder().quick_retries().setting("klaviyo.poll_interval", "200ms").start()
}

/// Tables of ours, whatever they are, with rows in which a text stands.
fn traces(db: &mut Client, text: &str) -> Vec<String> {
    let tables = "SELECT c.oid::regclass::text FROM pg_class AS c
                  WHERE c.relnamespace = 'klaviyo'::regnamespace AND c.relkind = 'r' ORDER BY 1";
    let tables: Vec<String> = db.query(tables, &[]).expect("tables").iter().map(|row| row.get(0)).collect();
    assert!(tables.len() > 15, "{tables:?}");
    let has = |table: &String| {
        let query = format!("SELECT count(*) FROM {table} AS t WHERE strpos(lower(t::text), lower($1)) > 0");
        harness::query::<i64>(db, &query, &[&text]) > 0
    };
    tables.into_iter().filter(has).collect()
}

fn wait_until_purged(shop: &Shop, requests: i64) {
    let mut db = shop.connect();
    let purged = "SELECT count(*) FROM klaviyo.deletion WHERE purged_at IS NOT NULL";
    shop.eventually("they are purged", PATIENCE, || count(&mut db, purged) == requests);
}

#[test]
fn no_table_of_ours_keeps_a_trace() {
    let shop = shop();
    let mut db = shop.connect();
    for who in ["Ada.L@Shop.example", "bob@shop.example"] {
        sql(&mut db, &format!("SELECT klaviyo_upsert_profile('{who}', '+15005550006', first_name => 'A')"));
        sql(
            &mut db,
            &format!("SELECT klaviyo_track_event('Placed Order', '{who}', unique_id => 'order of {who}')"),
        );
        sql(&mut db, &format!("SELECT klaviyo_subscribe('{who}')"));
    }
    assert_eq!(shop.drain_soon().dead, 0);
    // Refused by Klaviyo, and refused when they were queued.
    shop.sandbox.set_faults(&[Fault::status(400).path("/api/events").error("invalid", "no")]);
    sql(
        &mut db,
        "SELECT klaviyo_track_event('Dead', 'ada.l@shop.example'), klaviyo_track_event('Dead', 'bob@shop.example')",
    );
    shop.drain_soon();
    shop.sandbox.clear_faults();
    sql(&mut db, "SET klaviyo.on_invalid = dead_letter");
    sql(&mut db, "SELECT klaviyo_track_event('Bad', 'ada.l@shop.example', value_currency => 'x')");
    // The address of another has this one in it.
    sql(
        &mut db,
        "SELECT klaviyo_upsert_profile('xada.l@shop.example', first_name => 'X', clear => '{first_name}')",
    );
    // A table whose key is the address, and what is noted of its rows while its history is not sent.
    sql(
        &mut db,
        "CREATE TABLE users (email text PRIMARY KEY, name text); INSERT INTO users VALUES ('zoe@shop.example')",
    );
    sql(&mut db, "SELECT klaviyo_sync_profiles('users', email => 'email', first_name => 'name')");
    sql(&mut db, "INSERT INTO users VALUES ('ada.l@shop.example', 'A'), ('bob@shop.example', 'B')");
    sql(&mut db, "BEGIN; SELECT klaviyo_backfill('users'); SELECT klaviyo_backfill_pause('users'); COMMIT");
    let note = "INSERT INTO klaviyo.captured_key SELECT m.id, json_build_array(u.email) FROM klaviyo.mapping AS m, users AS u ON CONFLICT DO NOTHING";
    sql(&mut db, note);
    shop.drain_soon();
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.dead_letter"), 4);
    assert_eq!(traces(&mut db, "ada.l@shop.example").len(), 3);

    let request = queued(&mut db, "klaviyo_request_deletion('ADA.L@shop.example')");
    shop.wait_for_status(&request, "accepted");
    wait_until_purged(&shop, 1);
    assert_eq!(traces(&mut db, "\"ada.l@shop.example\""), [""; 0]);
    assert_eq!(traces(&mut db, ":ada.l@shop.example"), [""; 0]);
    assert_eq!(traces(&mut db, "ada.l@shop.example"), ["klaviyo.dead_letter"], "of another");
    // Of others all is there.
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.dead_letter"), 2);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.captured_key"), 2);
    let bob = "SELECT count(*) FROM klaviyo.delivery WHERE key @> '{email:bob@shop.example}'";
    assert_eq!(count(&mut db, bob), 4);
    // What was done is on record, not to whom.
    let done = "SELECT count(*) FROM klaviyo.delivery WHERE key = '{}'";
    assert_eq!(count(&mut db, done), 5);
    let record = db
        .query_one(
            "SELECT accepted_at IS NOT NULL, requested_by, discarded, identifier FROM klaviyo.deletion",
            &[],
        )
        .expect("the record");
    assert_eq!((record.get(0), record.get(1), record.get(2)), (true, "postgres", 0_i64));
    assert_eq!(record.get::<_, Option<String>>(3), None);
    assert!(!shop.cluster.log().to_lowercase().contains("ada.l@"), "nor does the log name them");
    shop.assert_requests_conform();
}

#[test]
fn what_waits_is_discarded_and_stragglers_bring_nobody_back() {
    let mut shop = shop();
    let mut db = shop.connect();
    sql(
        &mut db,
        "SELECT klaviyo_upsert_profile('ada@shop.example'), klaviyo_upsert_profile('bob@shop.example')",
    );
    shop.drain_soon();
    // Klaviyo is down: some have been tried, some only wait.
    shop.sandbox.set_faults(&[Fault::status(503)]);
    let tried = queued(&mut db, "klaviyo_upsert_profile('ada@shop.example', first_name => 'Ada')");
    shop.wait_for_status(&tried, "retrying");
    sql(&mut db, "SELECT klaviyo_upsert_profile('bob@shop.example', first_name => 'Bob')");
    let waiting = queued(&mut db, "klaviyo_track_event('Viewed Product', 'ada@shop.example')");
    sql(&mut db, "BEGIN; SELECT klaviyo_request_deletion('ada@shop.example'); ROLLBACK");
    let request = queued(&mut db, "klaviyo_request_deletion('ada@shop.example')");
    let straggler =
        queued(&mut db, "klaviyo_track_event('Viewed Product', 'Ada@Shop.example', external_id => '7')");
    for message in [&tried, &waiting, &straggler] {
        shop.wait_for_status(message, "discarded");
    }
    // It is the same whoever sees to it in the end.
    kill(wait_for_worker(&mut db), Signal::SIGKILL);
    wait_for_crash(&mut db);
    shop.cluster.wait_ready();
    db = shop.connect();
    let later = queued(&mut db, "klaviyo_subscribe('ada@shop.example')");
    shop.wait_for_status(&later, "discarded");
    shop.sandbox.clear_faults();
    shop.wait_for_status(&request, "accepted");
    assert_eq!(shop.drain_soon().dead, 0);
    wait_until_purged(&shop, 1);
    assert_eq!(count(&mut db, "SELECT sum(discarded)::bigint FROM klaviyo.deletion"), 4);
    let names = || {
        let profiles = shop.sandbox.profiles();
        let mut names: Vec<String> = profiles
            .iter()
            .map(|it| it.attributes["email"].as_str().unwrap_or_default().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["bob@shop.example"]);
    // What died of it before is no way back either; nor is the end of the server.
    shop.cluster.kill9_postmaster();
    shop.cluster.start();
    db = shop.connect();
    let after = queued(&mut db, "klaviyo_upsert_profile('ada@shop.example')");
    shop.wait_for_status(&after, "discarded");
    assert_eq!(names(), ["bob@shop.example"]);

    // The person is back.
    let back: i64 = query(&mut db, "SELECT klaviyo_readmit('ADA@shop.example')", &[]);
    assert_eq!(back, 1);
    let welcome = queued(&mut db, "klaviyo_upsert_profile('ada@shop.example')");
    shop.wait_for_status(&welcome, "accepted");
    assert_eq!(names(), ["ada@shop.example", "bob@shop.example"]);
    assert_eq!(query::<i64>(&mut db, "SELECT klaviyo_readmit('nobody@shop.example')", &[]), 0);
    // Until they go again.
    let again = queued(&mut db, "klaviyo_request_deletion('ada@shop.example')");
    shop.wait_for_status(&again, "accepted");
    let gone = queued(&mut db, "klaviyo_track_event('Viewed Product', 'ada@shop.example')");
    shop.wait_for_status(&gone, "discarded");
    assert_eq!(names(), ["bob@shop.example"]);
    assert_eq!(status(&mut db, &welcome), "accepted");
}

/// An old state that is sent again is of somebody who is gone; and after a while who comes is a customer like any other.
#[test]
fn a_dead_letter_is_no_way_back_and_time_is() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::status(400).path("/api/profile-import").error("invalid", "no")]);
    sql(&mut db, "SELECT klaviyo_upsert_profile('ada@shop.example')");
    shop.drain_soon();
    // Refused: then it is a dead letter itself, and nothing is purged.
    shop.sandbox.set_faults(&[Fault::status(400).path(DELETION).error("invalid", "no")]);
    let refused = queued(&mut db, "klaviyo_request_deletion('ada@shop.example')");
    shop.wait_for_status(&refused, "dead");
    shop.sandbox.clear_faults();
    sql(&mut db, "SELECT klaviyo_redrive(kind => 'profile')");
    shop.drain_soon();
    assert_eq!(shop.sandbox.profiles().len(), 0);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.discarded WHERE kind = 'profile'"), 1);
    sql(&mut db, "SELECT klaviyo_redrive(kind => 'deletion')");
    shop.wait_for_status(&refused, "accepted");
    wait_until_purged(&shop, 1);
    shop.cluster.set("klaviyo.straggler_time", "0");
    shop.eventually("who comes is a customer", PATIENCE, || {
        let id = queued(&mut db, "klaviyo_upsert_profile('ada@shop.example')");
        query::<String>(&mut db, "SELECT (klaviyo_await($1::text::uuid)).status", &[&id]) == "accepted"
    });
    // The record goes in its time.
    shop.cluster.set("klaviyo.deletion_retention", "0");
    shop.eventually("the record is dropped", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.deletion") == 0
    });
}

/// A request that Klaviyo refuses and somebody drops is in nobody's way, and names nobody any more.
#[test]
fn a_request_that_is_dropped_is_over() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::status(400).path(DELETION).error("invalid", "no")]);
    let refused = queued(&mut db, "klaviyo_request_deletion('ada@shop.example')");
    shop.wait_for_status(&refused, "dead");
    let meanwhile = queued(&mut db, "klaviyo_upsert_profile('ada@shop.example')");
    shop.wait_for_status(&meanwhile, "discarded");
    assert_eq!(count(&mut db, "SELECT klaviyo_discard(kind => 'deletion')"), 1);
    assert_eq!(traces(&mut db, "ada@shop.example"), [""; 0]);
    let after = queued(&mut db, "klaviyo_upsert_profile('ada@shop.example')");
    shop.wait_for_status(&after, "accepted");
}
