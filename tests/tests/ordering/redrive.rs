//! What comes back from the dead letters never undoes what came after it.

use super::*;

#[test]
fn a_redriven_event_is_sent_again() {
    let shop = shop().start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::status(400).matching("\"ada\"")]);
    let id = event(&mut db, "ada", 1);
    shop.wait_for_status(&id, "dead");
    // Still refused: it dies again.
    assert_eq!(redrive(&mut db, &id), 1);
    shop.eventually("it was tried again and died", PATIENCE, || {
        shop.sandbox.receipts().len() == 2 && status(&mut db, &id) == "dead"
    });
    shop.sandbox.clear_faults();
    assert_eq!(redrive(&mut db, &id), 1);
    shop.wait_for_status(&id, "accepted");
    assert_eq!(redrive(&mut db, &id), 0, "there is nothing to redrive any more");
    mark(&shop, "marker");
    let receipts = shop.sandbox.receipts();
    let ledger = Ledger::new(&receipts, PERSON);
    assert_eq!((ledger.sends("ada"), ledger.accepted("ada")), (3, 1));
    let unique_ids: BTreeSet<_> = ledger
        .of("ada")
        .iter()
        .map(|receipt| receipt.at("data.attributes.unique_id").map(Value::to_string))
        .collect();
    assert_eq!(unique_ids, BTreeSet::from([Some(format!("\"{id}\""))]));
    assert_eq!(shop.backlog().dead, 0);
}

#[test]
fn a_redrive_does_not_wait_for_the_poll() {
    let shop = shop().setting("klaviyo.poll_interval", "1h").start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::status(400).times(1)]);
    let id = event(&mut db, "ada", 1);
    shop.wait_for_status(&id, "dead");
    assert_eq!(redrive(&mut db, &id), 1);
    shop.wait_for_status(&id, "accepted");
}

/// Queues a state that is refused; what follows is taken.
fn dead_state(shop: &Shop, person: &str) -> String {
    let fault = Fault::status(400).matching("\"old\"").path("/api/profile-import");
    shop.sandbox.set_faults(&[fault]);
    let id = state(&mut shop.connect(), person, 1, &json!({"what": "old"}));
    shop.wait_for_status(&id, "dead");
    shop.sandbox.clear_faults();
    id
}

/// The person is what the later message said, and no request with the older one came after it.
fn assert_newest(shop: &Shop, person: &str, newest: i32) {
    mark(shop, &format!("marker of {person} {newest}"));
    shop.drain_soon();
    assert_eq!(kept(shop, person, "first_name"), json!(format!("name {newest}")));
    assert_eq!(accepted(shop, person).last(), Some(&i64::from(newest)));
    shop.assert_requests_conform();
    assert_never_overtaken(&shop.sandbox.messages());
}

#[test]
fn an_old_state_is_not_redriven_past_a_delivered_one() {
    let mut shop = shop().start();
    let mut db = shop.connect();
    let old = dead_state(&shop, "ada");
    let new = state(&mut db, "ada", 2, &json!({}));
    shop.wait_for_status(&new, "accepted");
    let other = dead_state(&shop, "bob");
    assert_eq!(redrive(&mut db, &old), 0);
    assert_eq!(query::<i64>(&mut db, "SELECT klaviyo_redrive(kind => 'profile')", &[]), 1, "bob's only");
    shop.wait_for_status(&other, "accepted");
    assert_newest(&shop, "ada", 2);
    // Nor by anyone who remembers nothing.
    drop(db);
    shop.cluster.restart(Stop::Fast);
    let mut db = shop.connect();
    assert_eq!(redrive(&mut db, &old), 0);
    assert_newest(&shop, "ada", 2);
    assert_eq!(status(&mut db, &old), "dead");
}

#[test]
fn an_old_state_is_redriven_before_a_waiting_one() {
    let shop = shop().start();
    let mut db = shop.connect();
    let old = dead_state(&shop, "ada");
    // A refused key stops the account.
    shop.sandbox.set_faults(&[Fault::status(401)]);
    let new = state(&mut db, "ada", 2, &json!({}));
    shop.eventually("the account is stopped", PATIENCE, || {
        query(&mut db, "SELECT EXISTS (SELECT FROM klaviyo.account_status WHERE stopped_at IS NOT NULL)", &[])
    });
    assert_eq!(redrive(&mut db, &old), 1);
    // A stopped account is probed now and then: with the old one, once the worker has read it.
    shop.eventually("the old one is tried", PATIENCE, || {
        let receipts = shop.sandbox.receipts();
        receipts.iter().any(|receipt| receipt.status == Some(401) && says_old(receipt))
    });
    shop.sandbox.clear_faults();
    shop.wait_for_status(&new, "accepted");
    shop.wait_for_status(&old, "accepted");
    let receipts = shop.sandbox.receipts();
    assert!(receipts.iter().any(|receipt| receipt.accepted && says_old(receipt)), "it went in some call");
    assert_eq!(kept(&shop, "ada", "first_name"), json!("name 2"));
    let accepted = accepted(&shop, "ada");
    assert!(accepted.is_sorted() && accepted.last() == Some(&2), "{accepted:?}");
}

/// Nothing is read for a paused account. When it goes on, what is in memory may not go before what was redriven.
#[test]
fn an_old_state_redriven_while_its_account_is_paused_goes_before_those_that_wait() {
    const PEOPLE: i64 = 30;
    // A stopped account is not probed while this test lasts.
    let shop = shop().setting("klaviyo.retry_max_delay", "1h").start();
    let mut db = shop.connect();
    let people: Vec<String> = (1..=PEOPLE).map(|p| format!("person-{p}")).collect();
    let old: Vec<String> = people.iter().map(|person| dead_state(&shop, person)).collect();
    shop.sandbox.set_faults(&[Fault::status(401)]);
    for person in &people {
        state(&mut db, person, 2, &json!({}));
    }
    let stopped = "SELECT EXISTS (SELECT FROM klaviyo.account_status WHERE stopped_at IS NOT NULL)";
    shop.eventually("the account is stopped", PATIENCE, || query(&mut db, stopped, &[]));
    // What was refused waits for a probe with another.
    let ready = "SELECT sum(ready)::bigint + (SELECT count(*) FROM klaviyo.retry) FROM klaviyo.lane";
    shop.eventually("the newer ones are in memory", PATIENCE, || count(&mut db, ready) == PEOPLE);
    sql(&mut db, "SELECT klaviyo_pause_account()");
    let paused = "SELECT EXISTS (SELECT FROM klaviyo.account_status WHERE stopped_reason LIKE '%paused%')";
    shop.eventually("the account is paused", PATIENCE, || query(&mut db, paused, &[]));
    for id in &old {
        assert_eq!(redrive(&mut db, id), 1);
    }
    shop.sandbox.clear_faults();
    // A new key is tried at once.
    sql(&mut db, "SELECT klaviyo_set_account(private_key => 'pk_another'), klaviyo_resume_account()");
    shop.drain_soon();
    for (person, id) in people.iter().zip(&old) {
        assert_eq!(status(&mut db, id), "accepted", "the old state of {person}");
        assert_eq!(kept(&shop, person, "first_name"), json!("name 2"), "{person}");
    }
}

/// Whether a call carries the state that [`dead_state`] queued.
fn says_old(receipt: &Receipt) -> bool {
    receipt.at("data.attributes.properties.what").is_some_and(|what| what == "old")
}

#[test]
fn an_old_state_is_not_redriven_past_one_under_way() {
    let shop = shop().start();
    let mut db = shop.connect();
    let old = dead_state(&shop, "ada");
    // The newer one is taken in, but nothing is heard of it for a while, and then it is sent again.
    let lost = Fault::hang_after().lasting(Duration::from_secs(4)).times(1).path("/api/profile-import");
    shop.sandbox.set_faults(&[lost]);
    let new = state(&mut db, "ada", 2, &json!({}));
    shop.eventually("it is under way", PATIENCE, || accepted(&shop, "ada") == [2]);
    assert_eq!(redrive(&mut db, &old), 1);
    shop.wait_for_status(&new, "accepted");
    mark(&shop, "marker");
    shop.drain_soon();
    assert_eq!(kept(&shop, "ada", "first_name"), json!("name 2"));
    assert_eq!(accepted(&shop, "ada").last(), Some(&2));
}

#[test]
fn an_old_state_redriven_while_no_worker_runs_loses_to_the_newer_one() {
    let mut shop = shop().start();
    let old = dead_state(&shop, "ada");
    let delivered = dead_state(&shop, "bob");
    let new = state(&mut shop.connect(), "bob", 2, &json!({}));
    shop.wait_for_status(&new, "accepted");
    shop.cluster.set("shared_preload_libraries", "");
    shop.cluster.restart(Stop::Immediate);
    let mut db = shop.connect();
    assert_eq!(redrive(&mut db, &old), 1);
    state(&mut db, "ada", 2, &json!({}));
    assert_eq!(redrive(&mut db, &delivered), 0);
    drop(db);
    shop.cluster.set("shared_preload_libraries", "klaviyo_sync");
    shop.cluster.restart(Stop::Immediate);
    shop.drain_soon();
    assert_newest(&shop, "ada", 2);
    assert_newest(&shop, "bob", 2);
}

/// The newer one is taken, and somebody keeps the worker from recording that while the old one is redriven.
#[test]
fn an_old_state_redriven_before_the_newer_one_is_recorded_loses_to_it() {
    let mut shop = shop().setting("klaviyo.poll_interval", "1h").start();
    for crash in [false, true] {
        let person = if crash { "ada" } else { "bob" };
        let old = dead_state(&shop, person);
        let (mut db, mut holder) = (shop.connect(), shop.connect());
        sql(&mut holder, "BEGIN; LOCK TABLE klaviyo.delivery IN SHARE MODE");
        let new = state(&mut db, person, 2, &json!({}));
        shop.eventually("the newer state is taken", PATIENCE, || accepted(&shop, person) == [2]);
        shop.eventually("the worker waits for the lock", PATIENCE, || waits_for_lock(&mut db));
        assert_eq!(redrive(&mut db, &old), 1);
        sql(&mut holder, "COMMIT");
        shop.wait_for_status(&new, "accepted");
        // Recorded with the newer one: no process need remember it.
        drop((db, holder));
        if crash {
            shop.cluster.kill9_postmaster();
            shop.cluster.start();
        }
        shop.wait_for_status(&old, "dead");
        assert_newest(&shop, person, 2);
    }
}

/// A refusal and the acceptance of the newer state are recorded in one transaction.
#[test]
fn an_old_state_recorded_together_with_the_newer_one_is_not_redriven_past_it() {
    let mut shop = shop().start();
    let mut db = shop.connect();
    // While somebody holds this table the worker cannot record that bob's event was taken, but calls go on. Until it
    // waits, the first of ada's messages fails, and what comes after that waits for it.
    let refused = Fault::status(400).matching("\"old\"");
    shop.sandbox.set_faults(&[Fault::status(503).matching("\"n\":0"), refused.clone()]);
    let mut holder = shop.connect();
    sql(&mut holder, "BEGIN; LOCK TABLE klaviyo.delivery IN SHARE MODE");
    sql(&mut db, "BEGIN");
    event(&mut db, "ada", 0);
    let old = state(&mut db, "ada", 1, &json!({"what": "old"}));
    event(&mut db, "ada", 2);
    let new = state(&mut db, "ada", 3, &json!({}));
    event(&mut db, "bob", 9);
    sql(&mut db, "COMMIT");
    shop.eventually("the worker waits for the lock", PATIENCE, || waits_for_lock(&mut db));
    shop.sandbox.set_faults(&[refused]);
    shop.eventually("the newer state is taken", PATIENCE, || accepted(&shop, "ada").contains(&3));
    let heard = "SELECT (SELECT sum(accepted) FROM klaviyo.throughput) = 4
                    AND (SELECT sum(under_way) FROM klaviyo.lane) = 0";
    shop.eventually("the worker has all answers", PATIENCE, || query(&mut db, heard, &[]));
    sql(&mut holder, "COMMIT");
    shop.wait_for_status(&old, "dead");
    shop.wait_for_status(&new, "accepted");
    let together = "SELECT l.xmin = d.xmin FROM klaviyo.dead_letter AS l, klaviyo.delivery AS d
                    WHERE l.message_id = $1::text::uuid AND d.message_id = $2::text::uuid";
    assert!(query::<bool>(&mut db, together, &[&old, &new]), "both were recorded in one transaction");
    shop.sandbox.clear_faults();
    // A process that remembers nothing but what was recorded.
    drop((db, holder));
    shop.cluster.restart(Stop::Fast);
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    assert_eq!(redrive(&mut db, &old), 0);
    mark(&shop, "marker");
    shop.drain_soon();
    assert_eq!(kept(&shop, "ada", "first_name"), json!("name 3"));
    assert_eq!(accepted(&shop, "ada").last(), Some(&3));
}

/// The old state names the person by e-mail address, the newer one by number; a third has linked them.
#[test]
fn an_old_state_under_another_identifier_is_not_redriven_past_a_newer_one() {
    for restart in [false, true] {
        let mut shop = shop().start();
        let mut db = shop.connect();
        let link: String = query(
            &mut db,
            "SELECT klaviyo_upsert_profile(email => 'ada@shop.example', external_id => 'ada')::text",
            &[],
        );
        shop.wait_for_status(&link, "accepted");
        shop.sandbox.set_faults(&[Fault::status(400).matching("Old")]);
        let old: String = query(
            &mut db,
            "SELECT klaviyo_upsert_profile(email => 'ada@shop.example', first_name => 'Old')::text",
            &[],
        );
        shop.wait_for_status(&old, "dead");
        shop.sandbox.clear_faults();
        let new = state(&mut db, "ada", 2, &json!({}));
        shop.wait_for_status(&new, "accepted");
        if restart {
            drop(db);
            shop.cluster.restart(Stop::Fast);
            db = shop.connect();
            wait_for_worker(&mut db);
        }
        assert_eq!(redrive(&mut db, &old), 0);
        mark(&shop, "marker");
        shop.drain_soon();
        assert_eq!(kept(&shop, "ada", "first_name"), json!("name 2"), "after a restart: {restart}");
    }
}

/// Events can carry attributes of the person too.
#[test]
fn a_redriven_event_does_not_bring_back_old_attributes() {
    let shop = shop().start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::status(400).matching("Old")]);
    let old: String = query(
        &mut db,
        "SELECT klaviyo_track_event('Step', external_id => 'ada', profile => '{\"first_name\": \"Old\"}')::text",
        &[],
    );
    shop.wait_for_status(&old, "dead");
    shop.sandbox.clear_faults();
    let new = state(&mut db, "ada", 2, &json!({}));
    shop.wait_for_status(&new, "accepted");
    assert_eq!(redrive(&mut db, &old), 1);
    shop.wait_for_status(&old, "accepted");
    let receipts = shop.sandbox.receipts();
    let events: Vec<&Receipt> = receipts.iter().filter(|receipt| receipt.path == "/api/events").collect();
    let name = "data.attributes.profile.data.attributes.first_name";
    assert_eq!(events.iter().map(|event| event.accepted).collect::<Vec<_>>(), [false, true]);
    assert_eq!(events[0].at(name), Some(&json!("Old")));
    assert_eq!(events[1].at(name), None, "what it said of her may be old by now");
    assert_eq!(kept(&shop, "ada", "first_name"), json!("name 2"));
}

#[test]
fn a_redriven_state_does_not_undo_the_attributes_of_a_newer_event() {
    let shop = shop().start();
    let mut db = shop.connect();
    let old = dead_state(&shop, "ada");
    let new: String = query(
        &mut db,
        "SELECT klaviyo_track_event('Step', external_id => 'ada', profile => '{\"first_name\": \"New\"}')::text",
        &[],
    );
    shop.wait_for_status(&new, "accepted");
    assert_eq!(redrive(&mut db, &old), 0);
    mark(&shop, "marker");
    shop.drain_soon();
    assert_eq!(kept(&shop, "ada", "first_name"), json!("New"));
}
