//! Lists: made, renamed, deleted and meant by their names; and who is put on one and taken off it.

use harness::{Fault, PATIENCE, Shop, count, query, queued, sql, status};

const PROFILES: &str = "/api/profiles";

fn shop() -> Shop {
    Shop::builder().quick_retries().start()
}

/// How many are on a list.
fn on(shop: &Shop, list: &str) -> usize {
    shop.sandbox.profiles().iter().filter(|profile| profile.lists.iter().any(|it| it == list)).count()
}

#[test]
fn people_come_onto_a_list_and_leave_it() {
    let shop = shop();
    let (news, vip) = (shop.sandbox.make_list("Newsletter"), shop.sandbox.make_list("VIP"));
    let mut db = shop.connect();
    sql(
        &mut db,
        "SELECT klaviyo_upsert_profile(format('User-%s@shop.example', n), external_id => n::text,
                                       phone_number => CASE WHEN n = 1 THEN '+15005550006' END) FROM generate_series(1, 300) AS n",
    );
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    // By each of the three, onto two lists, in the order in which it was said.
    sql(
        &mut db,
        &format!(
            "SELECT klaviyo_add_to_list('{news}', format('user-%s@Shop.example', n)) FROM generate_series(1, 250) AS n;
             SELECT klaviyo_add_to_list('{vip}', external_id => n::text) FROM generate_series(201, 300) AS n;
             SELECT klaviyo_add_to_list('{vip}', phone_number => '+15005550006');
             SELECT klaviyo_remove_from_list('{news}', format('user-%s@shop.example', n)) FROM generate_series(1, 100) AS n;
             SELECT klaviyo_add_to_list('{news}', 'user-7@shop.example')"
        ),
    );
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    assert_eq!((on(&shop, &news), on(&shop, &vip)), (151, 101));
    // Nothing was agreed to by it.
    assert!(shop.sandbox.consents().is_empty());
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.delivery WHERE kind = 'list_add'"), 352);
    let calls = shop.sandbox.receipts();
    let calls =
        calls.iter().filter(|call| call.accepted && call.path.ends_with("/relationships/profiles")).count();
    assert!(calls < 100, "they go together: {calls}");
    shop.assert_requests_conform();
}

#[test]
fn who_is_nobody_and_what_is_no_list_is_told() {
    let shop = shop();
    let list = shop.sandbox.make_list("Newsletter");
    let mut db = shop.connect();
    sql(
        &mut db,
        "SELECT klaviyo_upsert_profile(format('user-%s@shop.example', n)) FROM generate_series(1, 50) AS n",
    );
    shop.drain_soon();
    sql(
        &mut db,
        &format!(
            "SELECT klaviyo_add_to_list('{list}', format('user-%s@shop.example', n)) FROM generate_series(1, 50) AS n;
             SELECT klaviyo_add_to_list('{list}', 'nobody@shop.example');
             SELECT klaviyo_add_to_list('id:Nowhere', format('user-%s@shop.example', n)) FROM generate_series(1, 50) AS n"
        ),
    );
    let backlog = shop.drain(PATIENCE);
    assert_eq!((backlog.dead, on(&shop, &list)), (51, 50));
    let nobody = "SELECT key[1] FROM klaviyo.dead_letter WHERE code = 'no_such_profile'";
    assert_eq!(query::<String>(&mut db, nobody, &[]), "email:nobody@shop.example");
    let nowhere = "SELECT count(*) FROM klaviyo.dead_letter WHERE code = 'not_found'";
    assert_eq!(count(&mut db, nowhere), 50);
    // That there is no such list is true of all who were to come onto it: nobody is tried one by one.
    let calls = shop.sandbox.receipts();
    let calls = calls.iter().filter(|call| call.path == "/api/lists/Nowhere/relationships/profiles").count();
    assert!(calls <= 10, "{calls}");
    assert_eq!(shop.sandbox.profiles().len(), 50, "asking made nobody");
}

#[test]
fn lost_answers_and_failures_change_nothing() {
    let shop = shop();
    let list = shop.sandbox.make_list("Newsletter");
    let mut db = shop.connect();
    sql(
        &mut db,
        "SELECT klaviyo_upsert_profile(format('user-%s@shop.example', n)) FROM generate_series(1, 60) AS n",
    );
    shop.drain_soon();
    shop.sandbox.set_faults(&[
        Fault::status(503).path(PROFILES).times(2),
        Fault::reset_after().path("/api/lists").times(3),
        Fault::throttle(0).times(1),
    ]);
    for round in ["add_to_list", "remove_from_list", "add_to_list"] {
        sql(
            &mut db,
            &format!(
                "SELECT klaviyo_{round}('{list}', format('user-%s@shop.example', n)) FROM generate_series(1, 60) AS n"
            ),
        );
    }
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    assert_eq!(on(&shop, &list), 60);
}

#[test]
fn a_list_is_made_meant_by_its_name_renamed_and_deleted() {
    let shop = shop();
    let mut db = shop.connect();
    // All in one transaction: what needs the list comes after it.
    sql(&mut db, "BEGIN");
    let made = queued(&mut db, "klaviyo_create_list('VIP customers')");
    sql(
        &mut db,
        "SELECT klaviyo_upsert_profile('ada@shop.example');
         SELECT klaviyo_add_to_list('VIP customers', 'ada@shop.example');
         SELECT klaviyo_subscribe(format('user-%s@shop.example', n), list => 'VIP customers') FROM generate_series(1, 50) AS n;
         COMMIT",
    );
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    let id: String = query(&mut db, "SELECT (klaviyo_result($1::text::uuid)).klaviyo_id", &[&made]);
    assert_eq!(on(&shop, &id), 51);
    // There is no second one of that name, and none of another.
    let again = queued(&mut db, "klaviyo_create_list('VIP customers')");
    let nowhere = queued(&mut db, "klaviyo_subscribe('ada@shop.example', list => 'VIP')");
    shop.wait_for_status(&again, "dead");
    shop.wait_for_status(&nowhere, "dead");
    let reason: String = query(&mut db, "SELECT (klaviyo_result($1::text::uuid)).reason", &[&again]);
    assert!(reason.contains(&id), "{reason}");
    let codes = "SELECT string_agg(code, ' ' ORDER BY code) FROM klaviyo.dead_letter";
    assert_eq!(query::<String>(&mut db, codes, &[]), "list_exists no_such_list");
    // By another name from now on.
    let renamed = queued(&mut db, "klaviyo_rename_list('VIP customers', 'Gold')");
    shop.wait_for_status(&renamed, "accepted");
    let left = queued(&mut db, "klaviyo_remove_from_list('Gold', 'ada@shop.example')");
    shop.wait_for_status(&left, "accepted");
    assert_eq!(on(&shop, &id), 50);
    let old = queued(&mut db, "klaviyo_remove_from_list('VIP customers', 'user-1@shop.example')");
    shop.wait_for_status(&old, "dead");
    // Two of a name are none that can be meant.
    shop.sandbox.make_list("Gold");
    shop.cluster.set("klaviyo.list_ttl", "0");
    let meant = "SELECT code FROM klaviyo.dead_letter WHERE code = 'ambiguous_list'";
    shop.eventually("it is asked again", PATIENCE, || {
        sql(&mut db, "SELECT klaviyo_add_to_list('Gold', 'ada@shop.example')");
        shop.drain_soon();
        db.query_opt(meant, &[]).expect("dead letters").is_some()
    });
    let deleted = queued(&mut db, &format!("klaviyo_delete_list('{id}')"));
    shop.wait_for_status(&deleted, "accepted");
    assert_eq!(on(&shop, &id), 0);
    let gone = queued(&mut db, &format!("klaviyo_delete_list('{id}')"));
    shop.wait_for_status(&gone, "dead");
    shop.assert_requests_conform();
}

/// How often a list was made.
fn made(shop: &Shop) -> usize {
    let calls = shop.sandbox.receipts();
    calls.iter().filter(|call| call.method == "POST" && call.path == "/api/lists" && call.accepted).count()
}

/// A lost answer makes no second list, nor does a worker that knows of the first only that its answer was lost.
#[test]
fn a_list_is_made_once() {
    let mut shop = shop();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[
        Fault::reset_after().method("POST").path("/api/lists").times(1),
        Fault::status(503).method("GET").path("/api/lists").skip(1),
    ]);
    let list = queued(&mut db, "klaviyo_create_list('VIP customers')");
    let known = "SELECT count(*) FROM klaviyo.retry WHERE may_be_done";
    shop.eventually("the answer is lost", PATIENCE, || count(&mut db, known) == 1);
    shop.crash_worker(&mut db);
    db = shop.connect();
    shop.sandbox.clear_faults();
    shop.wait_for_status(&list, "accepted");
    assert_eq!(made(&shop), 1);
    let id: String = query(&mut db, "SELECT (klaviyo_result($1::text::uuid)).klaviyo_id", &[&list]);
    assert!(!id.is_empty());
}

/// Klaviyo allows so many a day, however often the server is restarted.
#[test]
fn a_worker_knows_of_the_calls_of_a_day() {
    let mut shop = Shop::builder().quick_retries().rate_share(1.0).start();
    let mut db = shop.connect();
    let first = queued(&mut db, "klaviyo_create_list('First list')");
    shop.wait_for_status(&first, "accepted");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.daily_call WHERE lane = 'lists'"), 1);
    sql(
        &mut db,
        "INSERT INTO klaviyo.daily_call SELECT 'default', 'lists', now() - interval '5 hours' FROM generate_series(2, 150)",
    );
    drop(db);
    shop.cluster.restart(harness::Stop::Fast);
    db = shop.connect();
    let list = queued(&mut db, "klaviyo_create_list('Second list')");
    let other = queued(&mut db, "klaviyo_rename_list('First list', 'Third list')");
    shop.wait_for_status(&other, "accepted");
    assert_eq!((status(&mut db, &list).as_str(), made(&shop)), ("waiting", 1));
    sql(&mut db, "UPDATE klaviyo.daily_call SET called_at = called_at - interval '25 hours'");
    drop(db);
    shop.cluster.restart(harness::Stop::Fast);
    db = shop.connect();
    shop.wait_for_status(&list, "accepted");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.daily_call"), 1, "what is older counts no more");
}
