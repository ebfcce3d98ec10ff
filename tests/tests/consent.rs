//! Consent: its order for each person whatever goes wrong, the limits of its calls, a bad one among many, and that nobody is
//! unsubscribed from everything for want of being on a list.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use harness::{Bulk, Fault, PATIENCE, Shop, count, query, queued, refused, sql};
use postgres::Client;

const SUBSCRIBE: &str = "/api/profile-subscription-bulk-create-jobs";
const UNSUBSCRIBE: &str = "/api/profile-subscription-bulk-delete-jobs";
const SUPPRESS: &str = "/api/profile-suppression-bulk-create-jobs";
const UNSUPPRESS: &str = "/api/profile-suppression-bulk-delete-jobs";

fn shop() -> Shop {
    let shop = Shop::builder().quick_retries().start();
    shop.sandbox.set_bulk(&Bulk { queued_ms: Some(0), processing_ms: Some(0), ..Bulk::default() });
    shop
}

/// Queues one, and tells how it ended: its status and code.
fn ended(db: &mut Client, call: &str) -> (String, Option<String>) {
    let id = queued(db, call);
    let result = "SELECT status, code FROM klaviyo_await($1::text::uuid, '1 minute')";
    let row = db.query_one(result, &[&id]).expect("a result");
    (row.get(0), row.get(1))
}

fn accepted() -> (String, Option<String>) {
    ("accepted".to_owned(), None)
}

/// How many people the accepted calls of a path were about, call by call.
fn sizes(shop: &Shop, path: &str) -> Vec<usize> {
    let calls = shop.sandbox.receipts();
    let calls = calls.iter().filter(|call| call.path == path && call.accepted);
    calls
        .map(|call| call.at("data.attributes.profiles.data").and_then(|it| it.as_array()).map_or(0, Vec::len))
        .collect()
}

#[test]
fn what_a_person_has_agreed_to_arrives() {
    let shop = shop();
    let list = shop.sandbox.make_list("Newsletter");
    let mut db = shop.connect();
    let ada = "'ada@shop.example'";
    let subscribe = format!("klaviyo_subscribe({ada}, '+15005550006', '{list}', custom_source => 'Fair')");
    assert_eq!(ended(&mut db, &subscribe), accepted());
    let state = || {
        let profile = shop.sandbox.profiles().into_iter().next().expect("a profile");
        (
            profile.subscriptions["email"].clone(),
            profile.subscriptions["sms"].clone(),
            profile.suppressions,
            profile.lists,
        )
    };
    let (on, off) = ("SUBSCRIBED".to_owned(), "UNSUBSCRIBED".to_owned());
    assert_eq!(state(), (on.clone(), on.clone(), vec![], vec![list.clone()]));
    assert_eq!(ended(&mut db, &format!("klaviyo_suppress({ada})")), accepted());
    assert_eq!(state().2, ["USER_SUPPRESSED"]);
    let job: String = query(&mut db, "SELECT klaviyo_id FROM klaviyo.delivery WHERE kind = 'suppress'", &[]);
    assert!(!job.is_empty(), "Klaviyo's id of the job");
    assert_eq!(ended(&mut db, &format!("klaviyo_unsuppress({ada})")), accepted());
    assert_eq!(state().2, Vec::<String>::new());
    assert_eq!(ended(&mut db, &format!("klaviyo_unsubscribe({ada}, list => '{list}')")), accepted());
    assert_eq!(state().3, Vec::<String>::new());
    assert_eq!(ended(&mut db, &format!("klaviyo_unsubscribe({ada}, channels => '{{email}}')")), accepted());
    assert_eq!(state(), (off, on, vec!["UNSUBSCRIBE".to_owned()], vec![]));
    let past = format!(
        "klaviyo_subscribe({ada}, consented_at => now() - interval '1 year', historical_import => true)"
    );
    assert_eq!(ended(&mut db, &past), accepted());
    assert_eq!(state().0, "SUBSCRIBED");
    shop.assert_requests_conform();
    // What the function does not refuse, and Klaviyo does.
    let nowhere = format!("klaviyo_subscribe({ada}, list => 'id:Nowhere')");
    assert_eq!(ended(&mut db, &nowhere), ("dead".to_owned(), Some("not_found".to_owned())));
}

#[test]
fn whoever_is_not_on_the_list_is_left_alone() {
    let shop = shop();
    let (list, other) = (shop.sandbox.make_list("Newsletter"), shop.sandbox.make_list("VIP"));
    let mut db = shop.connect();
    sql(
        &mut db,
        &format!(
            "SELECT klaviyo_subscribe(format('user-%s@shop.example', n), list => CASE WHEN n % 3 = 0 THEN '{other}' ELSE '{list}' END) FROM generate_series(1, 300) AS n"
        ),
    );
    sql(&mut db, &format!("SELECT klaviyo_subscribe(phone_number => '+15005550006', list => '{list}')"));
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    // Some in another spelling, and one by a number.
    sql(
        &mut db,
        &format!(
            "SELECT klaviyo_unsubscribe(format(CASE WHEN n % 2 = 0 THEN 'User-%s@Shop.example' ELSE 'user-%s@shop.example' END, n), list => '{list}') FROM generate_series(1, 301) AS n"
        ),
    );
    sql(&mut db, &format!("SELECT klaviyo_unsubscribe(phone_number => '+15005550006', list => '{list}')"));
    sql(&mut db, &format!("SELECT klaviyo_unsubscribe(phone_number => '+15005550007', list => '{list}')"));
    let backlog = shop.drain(PATIENCE);
    // 100 of another list, one of none, one number that nobody has.
    assert_eq!(backlog.dead, 102);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.dead_letter WHERE code = 'not_on_list'"), 102);
    let everywhere: Vec<_> =
        shop.sandbox.consents().into_iter().filter(|it| it.change == "unsubscribed_everywhere").collect();
    assert!(everywhere.is_empty(), "{everywhere:?}");
    let profiles = shop.sandbox.profiles();
    assert_eq!(profiles.iter().filter(|profile| profile.lists == [other.clone()]).count(), 100);
    assert_eq!(profiles.iter().filter(|profile| profile.lists.is_empty()).count(), 201);
    // Nobody was put on a list to make sure, and asking made nobody.
    assert_eq!(profiles.len(), 301);
    let hint: String =
        query(&mut db, "SELECT (klaviyo_result(message_id)).reason FROM klaviyo.dead_letter LIMIT 1", &[]);
    assert!(hint.contains("not on that list"), "{hint}");
    // Who is told so may decide.
    assert_eq!(count(&mut db, "SELECT klaviyo_discard(code => 'not_on_list')"), 102);
    shop.assert_requests_conform();
}

/// A call whose answer is lost is looked after and not held against the person: it was on the list, and is not any more.
#[test]
fn a_lost_answer_to_an_unsubscribe_is_read_back() {
    let shop = shop();
    let list = shop.sandbox.make_list("Newsletter");
    let mut db = shop.connect();
    let (subscribe, unsubscribe) = (
        format!("klaviyo_subscribe('ada@shop.example', list => '{list}')"),
        format!("klaviyo_unsubscribe('ada@shop.example', list => '{list}')"),
    );
    assert_eq!(ended(&mut db, &subscribe), accepted());
    shop.sandbox.set_faults(&[Fault::reset_after().path(UNSUBSCRIBE).times(1)]);
    assert_eq!(ended(&mut db, &unsubscribe), accepted());
    assert_eq!(shop.sandbox.consents().len(), 2, "it was done once");
    // The same where it has not been done.
    assert_eq!(ended(&mut db, &subscribe), accepted());
    shop.sandbox.set_faults(&[Fault::reset_before().path(UNSUBSCRIBE).times(1)]);
    assert_eq!(ended(&mut db, &unsubscribe), accepted());
    let changes: Vec<String> = shop.sandbox.consents().into_iter().map(|it| it.change).collect();
    assert_eq!(changes, ["subscribed", "unsubscribed", "subscribed", "unsubscribed"]);
}

/// What a call may have done is known to the next worker; what only a question has asked is nothing done.
#[test]
fn only_what_was_sent_may_have_been_done() {
    let mut shop = shop();
    let list = shop.sandbox.make_list("Newsletter");
    let mut db = shop.connect();
    let unsubscribe = |who: &str| format!("klaviyo_unsubscribe('{who}@shop.example', list => '{list}')");
    assert_eq!(
        ended(&mut db, &format!("klaviyo_subscribe('ada@shop.example', list => '{list}')")),
        accepted()
    );
    // The answer is lost, and nobody can be asked any more until the next worker runs.
    shop.sandbox.set_faults(&[
        Fault::reset_after().path(UNSUBSCRIBE).times(1),
        Fault::status(503).path(&format!("/api/lists/{list}/profiles")).skip(1),
    ]);
    let done = queued(&mut db, &unsubscribe("ada"));
    shop.wait_for_status(&done, "retrying");
    let bob = queued(&mut db, &unsubscribe("bob"));
    let tried = "SELECT count(*) FROM klaviyo.retry WHERE attempts > 0 AND may_be_done = (key[1] ~ 'ada')";
    shop.eventually("both are tried", PATIENCE, || count(&mut db, tried) == 2);
    shop.crash_worker(&mut db);
    db = shop.connect();
    shop.sandbox.clear_faults();
    shop.wait_for_status(&done, "accepted");
    shop.wait_for_status(&bob, "dead");
    // Asked again by whoever has read it, it is no more done than before.
    assert_eq!(count(&mut db, "SELECT klaviyo_redrive(code => 'not_on_list')"), 1);
    assert_eq!(shop.drain_soon().dead, 1);
    assert_eq!(shop.sandbox.consents().len(), 2);
}

#[test]
fn calls_are_as_full_as_klaviyo_takes_them_and_no_fuller() {
    let shop = shop();
    let mut db = shop.connect();
    sql(&mut db, "SELECT klaviyo_pause_account()");
    sql(
        &mut db,
        "SELECT klaviyo_subscribe(format('user-%s@shop.example', n)) FROM generate_series(1, 2001) AS n",
    );
    sql(
        &mut db,
        "SELECT klaviyo_unsubscribe(format('other-%s@shop.example', n)) FROM generate_series(1, 201) AS n",
    );
    sql(
        &mut db,
        "SELECT klaviyo_suppress(format('third-%s@shop.example', n)) FROM generate_series(1, 201) AS n",
    );
    sql(&mut db, "SELECT klaviyo_resume_account()");
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    for (path, most, all) in [(SUBSCRIBE, 1_000, 2_001), (UNSUBSCRIBE, 100, 201), (SUPPRESS, 100, 201)] {
        let sizes = sizes(&shop, path);
        assert!(sizes.iter().all(|size| *size <= most), "{path}: {sizes:?}");
        assert_eq!(
            sizes.iter().sum::<usize>(),
            all,
            "{path}: each once, for none was sent whose answer was lost"
        );
        assert!(sizes.contains(&most), "{path}: {sizes:?}");
    }
    shop.assert_requests_conform();
}

/// What was tried before a crash goes together after it.
#[test]
fn an_outage_and_a_crash_part_nobody() {
    let mut shop = shop();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::status(503)]);
    sql(
        &mut db,
        "SELECT klaviyo_subscribe(format('user-%s@shop.example', n)) FROM generate_series(1, 1000) AS n",
    );
    let tried = "SELECT count(*) FROM klaviyo.retry";
    shop.eventually("all have been tried", PATIENCE, || count(&mut db, tried) == 1_000);
    shop.crash_worker(&mut db);
    shop.sandbox.clear_faults();
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    let sizes = sizes(&shop, SUBSCRIBE);
    assert_eq!(sizes.iter().sum::<usize>(), 1_000);
    assert!(sizes.len() < 50, "{sizes:?}");
}

#[test]
fn a_bad_one_is_found_among_many() {
    let shop = shop();
    let mut db = shop.connect();
    // One that Klaviyo names, and one that it does not.
    shop.sandbox.set_faults(&[
        Fault::refuse("user-77@"),
        Fault::status(400).matching("user-555@").error("invalid", "something is wrong"),
    ]);
    sql(
        &mut db,
        "SELECT klaviyo_subscribe(format('user-%s@shop.example', n)) FROM generate_series(1, 1000) AS n",
    );
    let backlog = shop.drain(PATIENCE);
    let dead: Vec<String> = db
        .query("SELECT key[1] FROM klaviyo.dead_letter ORDER BY seq", &[])
        .expect("dead letters")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(
        (backlog.dead, dead),
        (2, vec!["email:user-77@shop.example".to_owned(), "email:user-555@shop.example".to_owned()])
    );
    assert_eq!(shop.sandbox.profiles().len(), 998);
}

/// People change their minds again and again, while calls fail, answers get lost and the worker and the server are killed. In the end
/// each has what was said last, and no change came after a later one of the same person.
#[test]
fn a_change_of_mind_keeps_its_order_through_failures_and_crashes() {
    const PEOPLE: i64 = 40;
    const ROUNDS: i64 = 12;
    let mut shop = shop();
    let list = shop.sandbox.make_list("Newsletter");
    shop.sandbox.set_bulk(&Bulk { queued_ms: Some(20), processing_ms: Some(20), ..Bulk::default() });
    shop.sandbox.set_faults(&[
        Fault::status(503).probability(0.1),
        Fault::reset_before().probability(0.05),
        Fault::reset_after().probability(0.1),
        Fault::throttle(1).probability(0.05),
    ]);
    let mut db = shop.connect();
    // What is said in which round, differently for each person; and, last, what all come to.
    sql(
        &mut db,
        &format!(
            "CREATE FUNCTION say(person bigint, round bigint) RETURNS uuid LANGUAGE sql AS $$
                SELECT CASE (person * 7 + round * 3 + person * round) % 5
                    WHEN 0 THEN klaviyo_subscribe(format('user-%s@shop.example', person), list => '{list}')
                    WHEN 1 THEN klaviyo_unsubscribe(format('user-%s@shop.example', person))
                    WHEN 2 THEN klaviyo_suppress(format('user-%s@shop.example', person))
                    WHEN 3 THEN klaviyo_unsuppress(format('user-%s@shop.example', person))
                    ELSE klaviyo_subscribe(format('user-%s@shop.example', person))
                END
            $$"
        ),
    );
    for round in 1..=ROUNDS {
        let mut db = shop.connect();
        let say = "SELECT count(say(n, $1)) FROM generate_series(1::bigint, $2) AS n";
        assert_eq!(query::<i64>(&mut db, say, &[&round, &PEOPLE]), PEOPLE);
        match round % 4 {
            1 => {
                shop.crash_worker(&mut db);
            }
            3 => {
                shop.cluster.kill9_postmaster();
                shop.cluster.start();
            }
            _ => thread::sleep(Duration::from_millis(300)),
        }
    }
    shop.sandbox.clear_faults();
    let backlog = shop.drain(PATIENCE * 2);
    assert_eq!(backlog.dead, 0);
    let path = |person: i64, round: i64| {
        let which = usize::try_from((person * 7 + round * 3 + person * round) % 5).expect("small");
        [SUBSCRIBE, UNSUBSCRIBE, SUPPRESS, UNSUPPRESS, SUBSCRIBE][which]
    };
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in shop.sandbox.messages().into_iter().filter(|it| it.accepted && it.path.contains("-jobs")) {
        let Some(email) = message.at("data.attributes.email") else { continue };
        let email = email.as_str().expect("text");
        told.entry(email.to_owned()).or_default().push(message.path);
    }
    let mut repeats = 0;
    for person in 1..=PEOPLE {
        let told = told.get_mut(&format!("user-{person}@shop.example")).expect("calls");
        let mut said: Vec<String> = (1..=ROUNDS).map(|round| path(person, round).to_owned()).collect();
        repeats += told.len() - said.len();
        // Whose answer was lost is said again, before anything else is.
        told.dedup();
        said.dedup();
        assert_eq!(*told, said, "person {person}");
    }
    assert!(repeats > 0, "no answer was lost");
}

#[test]
fn it_is_in_order_with_all_else_about_the_person() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::status(503).path("/api/profile-import").times(3)]);
    sql(&mut db, "SELECT klaviyo_upsert_profile('ada@shop.example', first_name => 'Ada')");
    sql(&mut db, "SELECT klaviyo_subscribe('ada@shop.example')");
    sql(&mut db, "SELECT klaviyo_track_event('Signed Up', 'ada@shop.example')");
    sql(&mut db, "SELECT klaviyo_suppress('ada@shop.example')");
    assert_eq!(shop.drain_soon().dead, 0);
    let receipts = shop.sandbox.receipts();
    let paths: Vec<&str> =
        receipts.iter().filter(|it| it.accepted && it.method == "POST").map(|it| it.path.as_str()).collect();
    assert_eq!(paths, ["/api/profile-import", SUBSCRIBE, "/api/events", SUPPRESS]);
}

#[test]
fn only_who_may_queue_may_say_so() {
    let shop = shop();
    let mut db = shop.connect();
    sql(&mut db, "CREATE ROLE visitor; SET ROLE visitor");
    for call in [
        "klaviyo_subscribe('a@b.example')",
        "klaviyo_unsubscribe('a@b.example')",
        "klaviyo_suppress('a@b.example')",
        "klaviyo_unsuppress('a@b.example')",
    ] {
        assert_eq!(refused(&mut db, &format!("SELECT {call}")), "42501");
    }
}
