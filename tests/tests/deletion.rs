//! Requests for deletion: what waits about the person is not sent, what comes later does not bring them back, and in the end
//! none of our tables names them.

use std::thread;
use std::time::Duration;

use harness::{Fault, PATIENCE, Shop, count, query, queued, refused, sql, status};
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

/// One about Ada that Klaviyo refuses, as it does from now on with any.
fn refused_request(shop: &Shop, db: &mut Client) -> String {
    shop.sandbox.set_faults(&[Fault::status(400).path(DELETION).error("invalid", "no")]);
    let refused = queued(db, "klaviyo_request_deletion('ada@shop.example')");
    shop.wait_for_status(&refused, "dead");
    refused
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
    sql(&mut db, "SELECT klaviyo_subscribe(' ADA.L@shop.example ')");
    sql(&mut db, "SELECT klaviyo_track_event('Lost', 'ada.l@shop.example', account => 'nowhere')");
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
    // What Klaviyo has told of them.
    sql(&mut db, "SELECT klaviyo_set_webhook('flow:welcome', 'a secret of a flow')");
    for body in [r#"{"email": "Ada.L@shop.example"}"#, r#"{"to": "bob@shop.example"}"#] {
        let headers = r#"{"klaviyo-flow": "welcome", "klaviyo-flow-secret": "a secret of a flow"}"#;
        sql(&mut db, &format!("SELECT klaviyo_receive_webhook('{headers}', convert_to('{body}', 'UTF8'))"));
    }
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.dead_letter"), 6);
    assert_eq!(traces(&mut db, "ada.l@shop.example").len(), 4);

    let request = queued(&mut db, "klaviyo_request_deletion('ADA.L@shop.example')");
    shop.wait_for_status(&request, "accepted");
    wait_until_purged(&shop, 1);
    assert_eq!(traces(&mut db, "\"ada.l@shop.example\""), [""; 0]);
    assert_eq!(traces(&mut db, ":ada.l@shop.example"), [""; 0]);
    assert_eq!(traces(&mut db, "ada.l@shop.example"), ["klaviyo.dead_letter"], "of another");
    // Of others all is there.
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.dead_letter"), 2);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.captured_key"), 2);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.webhook_event"), 1);
    let bob = "SELECT count(*) FROM klaviyo.delivery WHERE key @> '{email:bob@shop.example}'";
    assert_eq!(count(&mut db, bob), 4);
    // What was done is on record, not to whom.
    let done = "SELECT count(*) FROM klaviyo.delivery WHERE key = '{}'";
    assert_eq!(count(&mut db, done), 5);
    let record = db
        .query_one(
            "SELECT accepted_at IS NOT NULL, requested_by, (SELECT count(*) FROM klaviyo.discarded AS m WHERE m.discarded_by = d.message_id), identifier FROM klaviyo.deletion AS d",
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
    shop.crash_worker(&mut db);
    db = shop.connect();
    let later = queued(&mut db, "klaviyo_subscribe('ada@shop.example')");
    shop.wait_for_status(&later, "discarded");
    shop.sandbox.clear_faults();
    shop.wait_for_status(&request, "accepted");
    assert_eq!(shop.drain_soon().dead, 0);
    wait_until_purged(&shop, 1);
    assert_eq!(
        count(
            &mut db,
            "SELECT count(*) FROM klaviyo.discarded AS m JOIN klaviyo.deletion AS d ON d.message_id = m.discarded_by"
        ),
        4
    );
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
    let refused = refused_request(&shop, &mut db);
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
    refused_request(&shop, &mut db);
    let meanwhile = queued(&mut db, "klaviyo_upsert_profile('ada@shop.example')");
    shop.wait_for_status(&meanwhile, "discarded");
    assert_eq!(count(&mut db, "SELECT klaviyo_discard(kind => 'deletion')"), 1);
    assert_eq!(traces(&mut db, "ada@shop.example"), [""; 0]);
    let after = queued(&mut db, "klaviyo_upsert_profile('ada@shop.example')");
    shop.wait_for_status(&after, "accepted");
}

/// Who has a request's row in an open transaction holds up nothing but what is done with that row.
#[test]
fn a_transaction_of_a_user_is_in_nobodys_way() {
    let shop = shop();
    let (mut db, mut other) = (shop.connect(), shop.connect());
    sql(&mut db, "SELECT klaviyo_upsert_profile('ada@shop.example')");
    shop.drain_soon();
    sql(&mut db, "SELECT klaviyo_pause_account()");
    let request = queued(&mut db, "klaviyo_request_deletion('ada@shop.example')");
    let straggler = queued(&mut db, "klaviyo_track_event('Viewed Product', 'ada@shop.example')");
    // Some have it before its outcome is recorded, and when all our tables are to be purged.
    sql(&mut other, "BEGIN");
    assert_eq!(count(&mut other, "SELECT klaviyo_readmit('ada@shop.example')"), 1);
    sql(&mut db, "SELECT klaviyo_resume_account()");
    shop.wait_for_status(&request, "accepted");
    shop.wait_for_status(&straggler, "discarded");
    let bob = queued(&mut db, "klaviyo_upsert_profile('bob@shop.example')");
    shop.wait_for_status(&bob, "accepted");
    sql(&mut other, "ROLLBACK");
    wait_until_purged(&shop, 1);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.deletion WHERE accepted_at <= purged_at"), 1);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.accepted_deletion"), 0);
}

/// Far ahead of what is read of the outbox: of what is in memory nothing goes any more.
#[test]
fn a_request_behind_a_backlog_stops_what_is_tried_again() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::status(503)]);
    let tried = queued(&mut db, "klaviyo_upsert_profile('ada@shop.example')");
    shop.wait_for_status(&tried, "retrying");
    let backlog = "SELECT count(klaviyo_track_event('Viewed Product', external_id => n::text)) FROM generate_series(1, 250000) AS n";
    assert_eq!(count(&mut db, backlog), 250_000);
    let request = queued(&mut db, "klaviyo_request_deletion('ada@shop.example')");
    shop.wait_for_status(&tried, "discarded");
    assert_eq!(status(&mut db, &request), "waiting");
    assert!(shop.sandbox.profiles().is_empty());
}

/// However long it waits: what counts is when it was queued.
#[test]
fn a_straggler_that_waits_is_one() {
    let shop = shop();
    let mut db = shop.connect();
    let request = queued(&mut db, "klaviyo_request_deletion('ada@shop.example')");
    shop.wait_for_status(&request, "accepted");
    wait_until_purged(&shop, 1);
    sql(&mut db, "SELECT klaviyo_pause_account()");
    let straggler = queued(&mut db, "klaviyo_upsert_profile('ada@shop.example')");
    // Two months later.
    let later = "UPDATE klaviyo.deletion SET requested_at = requested_at - interval '60 days';
                 UPDATE klaviyo.outbox SET enqueued_at = enqueued_at - interval '60 days'";
    sql(&mut db, later);
    let after = queued(&mut db, "klaviyo_upsert_profile('ada@shop.example')");
    sql(&mut db, "SELECT klaviyo_resume_account()");
    shop.wait_for_status(&straggler, "discarded");
    shop.wait_for_status(&after, "accepted");
}

/// A request whose dead letter goes, whoever lets it go, names nobody any more, and its record goes in its time.
#[test]
fn a_request_that_is_given_up_by_time_is_over() {
    let shop = shop();
    let mut db = shop.connect();
    refused_request(&shop, &mut db);
    shop.cluster.set("klaviyo.dead_letter_retention", "0");
    let dropped = "SELECT count(*) FROM klaviyo.deletion WHERE dropped_at IS NOT NULL AND identifier IS NULL";
    shop.eventually("it is given up", PATIENCE, || count(&mut db, dropped) == 1);
    assert_eq!(traces(&mut db, "ada@shop.example"), [""; 0]);
    let after = queued(&mut db, "klaviyo_upsert_profile('ada@shop.example')");
    shop.wait_for_status(&after, "accepted");
    shop.cluster.set("klaviyo.deletion_retention", "0");
    shop.cluster.set("klaviyo.straggler_time", "0");
    shop.eventually("the record is dropped", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.deletion") == 0
    });
}

/// What was queued before a request that is dropped, and comes only then, is as good as anything else.
#[test]
fn a_request_that_is_dropped_makes_nothing_useless() {
    let shop = shop();
    let (mut db, mut slow) = (shop.connect(), shop.connect());
    sql(&mut slow, "BEGIN");
    let older = queued(&mut slow, "klaviyo_upsert_profile('ada@shop.example')");
    refused_request(&shop, &mut db);
    assert_eq!(count(&mut db, "SELECT klaviyo_discard(kind => 'deletion')"), 1);
    sql(&mut slow, "COMMIT");
    shop.wait_for_status(&older, "accepted");
}

/// Of whom our tables know since the person is back they know after the purge.
#[test]
fn who_is_back_before_the_purge_is_not_purged() {
    let shop = shop();
    let (mut db, mut other) = (shop.connect(), shop.connect());
    sql(&mut db, "SELECT klaviyo_upsert_profile('ada@shop.example')");
    shop.drain_soon();
    // Somebody holds the request, so that the purge cannot begin.
    sql(&mut db, "SELECT klaviyo_pause_account()");
    let request = queued(&mut db, "klaviyo_request_deletion('ada@shop.example')");
    sql(&mut other, "BEGIN; SELECT FROM klaviyo.deletion FOR UPDATE");
    sql(&mut db, "SELECT klaviyo_resume_account()");
    shop.wait_for_status(&request, "accepted");
    assert_eq!(count(&mut other, "SELECT klaviyo_readmit('ada@shop.example')"), 1);
    sql(&mut other, "SET LOCAL klaviyo.on_invalid = dead_letter");
    let bad = queued(&mut other, "klaviyo_track_event('Bad', 'ada@shop.example', value_currency => 'x')");
    let back = queued(&mut other, "klaviyo_upsert_profile('ada@shop.example')");
    sql(&mut other, "COMMIT");
    shop.wait_for_status(&back, "accepted");
    wait_until_purged(&shop, 1);
    let named: Vec<String> = db
        .query("SELECT message_id::text FROM klaviyo.delivery WHERE key = '{email:ada@shop.example}'", &[])
        .expect("deliveries")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(named, [back]);
    assert_eq!(status(&mut db, &bad), "dead");
    assert_eq!(traces(&mut db, "ada@shop.example").len(), 2);
}

/// What cannot be sent for another reason is no reason to keep it.
#[test]
fn what_is_not_understood_is_discarded_as_well() {
    let shop = shop();
    let mut db = shop.connect();
    let request = queued(&mut db, "klaviyo_request_deletion('ada@shop.example')");
    shop.wait_for_status(&request, "accepted");
    let row = "INSERT INTO klaviyo.outbox (message_id, account, kind, key, payload, enqueued_at)
               VALUES (gen_random_uuid(), 'default', 'fax', '{email:ada@shop.example}', '{}', now())
               RETURNING message_id::text";
    let fax: String = query(&mut db, row, &[]);
    shop.wait_for_status(&fax, "discarded");
}

/// An account that a transaction sees only half is one that it can ask nothing of.
#[test]
fn a_request_is_on_record_or_not_made() {
    let shop = shop();
    let (mut db, mut other) = (shop.connect(), shop.connect());
    sql(&mut db, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.account"), 1);
    sql(&mut other, "SELECT klaviyo_set_account('late')");
    assert_eq!(
        refused(&mut db, "SELECT klaviyo_request_deletion('ada@shop.example', account => 'late')"),
        "40001"
    );
    sql(&mut db, "ROLLBACK");
    sql(&mut db, "SELECT klaviyo_request_deletion('ada@shop.example', account => 'late')");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.deletion WHERE account = 'late'"), 1);
}

/// What was refused before the request, and is committed after all else was purged, is purged as well.
#[test]
fn what_is_under_way_when_a_request_is_accepted_is_waited_for() {
    let shop = shop();
    let (mut db, mut slow) = (shop.connect(), shop.connect());
    sql(&mut slow, "BEGIN; SET LOCAL klaviyo.on_invalid = dead_letter");
    sql(&mut slow, "SELECT klaviyo_track_event('Bad', 'ada@shop.example', value_currency => 'x')");
    let request = queued(&mut db, "klaviyo_request_deletion('ada@shop.example')");
    shop.wait_for_status(&request, "accepted");
    // Others are purged meanwhile whenever it is their turn, and it is looked again and again.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.deletion WHERE purged_at IS NOT NULL"), 0);
    sql(&mut slow, "COMMIT");
    wait_until_purged(&shop, 1);
    assert_eq!(traces(&mut db, "ada@shop.example"), [""; 0]);
}

/// Nor are old dead letters kept for it.
#[test]
fn a_request_that_somebody_has_keeps_no_other_dead_letters() {
    let shop = shop();
    let (mut db, mut other) = (shop.connect(), shop.connect());
    refused_request(&shop, &mut db);
    shop.sandbox.set_faults(&[Fault::status(400).error("invalid", "no")]);
    let dead = queued(&mut db, "klaviyo_track_event('Dead', 'bob@shop.example')");
    shop.wait_for_status(&dead, "dead");
    sql(&mut other, "BEGIN");
    assert_eq!(count(&mut other, "SELECT klaviyo_readmit('ada@shop.example')"), 1);
    shop.cluster.set("klaviyo.dead_letter_retention", "0");
    let left = "SELECT coalesce(string_agg(kind, ' '), '') FROM klaviyo.dead_letter";
    shop.eventually("the other one goes", PATIENCE, || query::<String>(&mut db, left, &[]) == "deletion");
    sql(&mut other, "ROLLBACK");
}
