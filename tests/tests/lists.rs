//! Members of lists: put on one and taken off it by whatever identifies them.

use harness::{Fault, PATIENCE, Shop, count, query, sql};

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
             SELECT klaviyo_add_to_list('Nowhere', format('user-%s@shop.example', n)) FROM generate_series(1, 50) AS n"
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
