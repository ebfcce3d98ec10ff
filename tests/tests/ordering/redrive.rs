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
    assert_never_overtaken(&shop.sandbox.receipts());
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
    shop.sandbox.clear_faults();
    let key_file = shop.cluster.directory().join("klaviyo.key");
    std::fs::write(&key_file, format!("{SANDBOX_KEY}1")).expect("the key file can be written");
    ServerUser::current().give(&key_file);
    shop.wait_for_status(&new, "accepted");
    // Before the newer one, with it, or not at all.
    shop.drain_soon();
    let receipts = shop.sandbox.receipts();
    let stopped = receipts.iter().position(|receipt| receipt.status == Some(401)).expect("it was refused");
    assert_never_overtaken(&receipts[stopped + 1..]);
    assert_eq!(kept(&shop, "ada", "first_name"), json!("name 2"));
    assert_eq!(accepted(&shop, "ada").last(), Some(&2));
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

/// The newer one is delivered between the redrive and the moment the worker looks at what was redriven.
#[test]
fn an_old_state_redriven_and_not_yet_read_loses_to_one_delivered_meanwhile() {
    let mut shop = shop().setting("klaviyo.poll_interval", "1h").start();
    let mut db = shop.connect();
    for round in 1..=5 {
        let person = format!("person-{round}");
        let old = dead_state(&shop, &person);
        shop.sandbox.set_faults(&[Fault::latency(Duration::from_millis(500))]);
        let new = state(&mut db, &person, 2, &json!({}));
        redrive(&mut db, &old);
        shop.wait_for_status(&new, "accepted");
        if round % 2 == 0 {
            drop(db);
            shop.cluster.kill9_postmaster();
            shop.cluster.start();
            db = shop.connect();
            wait_for_worker(&mut db);
        }
    }
    drop(db);
    shop.cluster.set("klaviyo.poll_interval", "1s");
    shop.cluster.restart(Stop::Fast);
    shop.drain_soon();
    for round in 1..=5 {
        assert_eq!(kept(&shop, &format!("person-{round}"), "first_name"), json!("name 2"), "person-{round}");
    }
}

/// A refusal and the acceptance of the newer state are recorded in one transaction.
#[test]
fn an_old_state_recorded_together_with_the_newer_one_is_not_redriven_past_it() {
    let mut shop = shop().start();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[
        Fault::status(400).matching("\"old\""),
        Fault::latency(Duration::from_secs(2)).matching("\"ada\"").times(1),
    ]);
    // While somebody holds this table nothing can be recorded, but calls go on. The first answer is that of bob's.
    let mut holder = shop.connect();
    holder.batch_execute("BEGIN; LOCK TABLE klaviyo.delivery IN SHARE MODE").expect("it can be locked");
    db.batch_execute("BEGIN").expect("a transaction can begin");
    event(&mut db, "ada", 0);
    let old = state(&mut db, "ada", 1, &json!({"what": "old"}));
    event(&mut db, "ada", 2);
    let new = state(&mut db, "ada", 3, &json!({}));
    event(&mut db, "bob", 0);
    db.batch_execute("COMMIT").expect("it can be committed");
    shop.eventually("the newer state is taken", PATIENCE, || accepted(&shop, "ada").contains(&3));
    holder.batch_execute("COMMIT").expect("it can be let go");
    shop.wait_for_status(&old, "dead");
    shop.wait_for_status(&new, "accepted");
    shop.sandbox.clear_faults();
    // A process that remembers nothing but what was recorded.
    drop((db, holder));
    shop.cluster.restart(Stop::Fast);
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    redrive(&mut db, &old);
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
        redrive(&mut db, &old);
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
    redrive(&mut db, &old);
    mark(&shop, "marker");
    shop.drain_soon();
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
    redrive(&mut db, &old);
    mark(&shop, "marker");
    shop.drain_soon();
    assert_eq!(kept(&shop, "ada", "first_name"), json!("New"));
}
