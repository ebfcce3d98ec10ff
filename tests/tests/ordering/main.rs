//! Order: messages about one person never overtake each other, and no earlier state of a person wins over a later
//! one: not in a call of many states, not after a refusal, not when an old one is sent again.

mod redrive;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use harness::{
    BULK_EVENTS, Fault, Ledger, PATIENCE, Receipt, Shop, ShopBuilder, Stop, count, explain, query, sql,
    status, value_at, wait_for_worker, waits_for_lock,
};
use postgres::{Client, NoTls};
use serde_json::{Value, json};

/// Whom a message is about and its place among those: both kinds carry them where both can.
const PERSON: &str = "data.attributes.properties.person";
const NUMBER: &str = "data.attributes.properties.n";

/// A shop that tries again soon, so that a test of many failures does not take long.
fn shop() -> ShopBuilder {
    Shop::builder()
        .setting("klaviyo.poll_interval", "1s")
        .setting("klaviyo.retry_min_delay", "20ms")
        .setting("klaviyo.retry_max_delay", "300ms")
}

/// A shop that sends nothing until [`open`] is called: what is queued before is found waiting together.
fn closed_shop() -> ShopBuilder {
    shop().setting("klaviyo.enabled", "off")
}

fn open(shop: &Shop) {
    shop.cluster.set("klaviyo.enabled", "on");
}

/// Queues a state of a person, known by the external id; returns the message's id.
fn state(db: &mut Client, person: &str, n: i32, properties: &Value) -> String {
    let mut all = json!({"person": person, "n": n});
    all.as_object_mut().expect("it is one").extend(properties.as_object().expect("it is one").clone());
    query(
        db,
        "SELECT klaviyo_upsert_profile(external_id => $1, first_name => $2, properties => $3::text::jsonb)::text",
        &[&person, &format!("name {n}"), &all.to_string()],
    )
}

/// Queues an event of a person, known by the external id; returns the message's id.
fn event(db: &mut Client, person: &str, n: i32) -> String {
    query(
        db,
        "SELECT klaviyo_track_event('Step', external_id => $1::text,
                                    properties => jsonb_build_object('person', $1::text, 'n', $2::int))::text",
        &[&person, &n],
    )
}

fn redrive(db: &mut Client, message_id: &str) -> i64 {
    query(db, "SELECT klaviyo_redrive(message_id => $1::text::uuid)", &[&message_id])
}

/// Queues an event of somebody else and waits until it has arrived.
fn mark(shop: &Shop, name: &str) {
    let id = event(&mut shop.connect(), name, 0);
    shop.wait_for_status(&id, "accepted");
}

/// The numbers of a person in the order in which they were accepted.
fn accepted(shop: &Shop, person: &str) -> Vec<i64> {
    let receipts = shop.sandbox.receipts();
    let ledger = Ledger::new(&receipts, PERSON);
    ledger.of(person).iter().filter(|receipt| receipt.accepted).map(|receipt| number(receipt)).collect()
}

fn number(receipt: &Receipt) -> i64 {
    receipt.at(NUMBER).and_then(Value::as_i64).expect("every message has a number")
}

/// What the sandbox keeps of a person.
fn kept(shop: &Shop, external_id: &str, path: &str) -> Value {
    let profiles = shop.sandbox.profiles();
    let mut found =
        profiles.iter().filter(|profile| profile.attributes["external_id"].as_str() == Some(external_id));
    let profile = found.next().unwrap_or_else(|| panic!("nobody is known as {external_id}"));
    assert!(found.next().is_none(), "{external_id} is two profiles");
    value_at(&profile.attributes, path).cloned().unwrap_or_default()
}

/// No later message of a person is even tried while an earlier one may have to be sent again, but in the same call.
fn assert_never_overtaken(messages: &[Receipt]) {
    /// What was sent of a person and has to be sent again, and the last that has not.
    #[derive(Default)]
    struct Sent {
        open: BTreeSet<i64>,
        done: i64,
    }
    let mut people: BTreeMap<&str, Sent> = BTreeMap::new();
    for call in messages.chunk_by(|one, other| one.n == other.n) {
        let mut numbers: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
        for message in call {
            let person = message.at(PERSON).and_then(Value::as_str).expect("every message has a person");
            numbers.entry(person).or_default().insert(number(message));
        }
        // Of half an answer its head may have been enough.
        let well = matches!(call[0].status, Some(200..=299));
        let refused = call.len() == 1 && matches!(call[0].status, Some(400..=428));
        for (person, numbers) in numbers {
            let sent = people.entry(person).or_default();
            let earlier: Vec<i64> = sent.open.difference(&numbers).copied().collect();
            for number in &numbers {
                let overtakes = earlier.iter().any(|earlier| earlier < number) || *number < sent.done;
                assert!(
                    !overtakes,
                    "{person}: {number} after {}, {earlier:?} being open (request {})",
                    sent.done, call[0].n
                );
            }
            if well || refused {
                sent.open.retain(|number| !numbers.contains(number));
                if call[0].fault.as_deref() != Some("half") {
                    sent.done = sent.done.max(numbers.last().copied().unwrap_or_default());
                }
            } else {
                sent.open.extend(numbers);
            }
        }
    }
}

#[test]
fn order_is_kept_for_each_person_while_much_goes_wrong() {
    const PEOPLE: i32 = 50;
    const MESSAGES: i32 = 200;
    let shop = shop().start();
    shop.sandbox.set_faults(&[
        Fault::latency(Duration::from_millis(10)).probability(0.1),
        Fault::status(500).probability(0.04),
        Fault::status(503).probability(0.02),
        Fault::throttle(0).probability(0.01),
        Fault::reset_before().probability(0.02),
        Fault::reset_after().probability(0.02),
        Fault::half().probability(0.01),
        Fault::malformed().probability(0.01),
    ]);
    // Two that write at the same time, each for people of its own.
    let writers: Vec<_> = [0, 1]
        .map(|half| {
            let config = shop.cluster.config("shop");
            thread::spawn(move || {
                let mut db = config.connect(NoTls).expect("the server takes connections");
                for from in (1..=MESSAGES).step_by(10) {
                    db.execute(
                        "SELECT CASE WHEN n % 4 = 0
                             THEN klaviyo_upsert_profile(external_id => person, properties => properties)
                             ELSE klaviyo_track_event('Step', external_id => person, properties => properties) END
                         FROM (SELECT n, 'person-' || p AS person,
                                      jsonb_build_object('person', 'person-' || p, 'n', n, 'id', p || '/' || n)
                                          AS properties
                               FROM generate_series($1::int, $1 + 9) AS n, generate_series(1, $2::int) AS p
                               WHERE p % 2 = $3 ORDER BY n, p) AS message",
                        &[&from, &PEOPLE, &half],
                    )
                    .unwrap_or_else(|error| panic!("messages cannot be queued: {}", explain(&error)));
                }
            })
        })
        .into_iter()
        .collect();
    for writer in writers {
        writer.join().expect("the writer ends");
    }
    let backlog = shop.drain(PATIENCE * 4);
    assert_eq!(backlog.dead, 0);
    let messages = shop.sandbox.messages();
    assert_never_overtaken(&messages);
    let is_event = |message: &&Receipt| ["/api/events", BULK_EVENTS].contains(&message.path.as_str());
    let events: Vec<&Receipt> = messages.iter().filter(is_event).collect();
    assert!(events.iter().any(|event| event.path == BULK_EVENTS), "some went in calls of many");
    let expected =
        (1..=PEOPLE).flat_map(|p| (1..=MESSAGES).filter(|n| n % 4 != 0).map(move |n| format!("{p}/{n}")));
    Ledger::new(events, "data.attributes.properties.id").assert_accepted_exactly(expected);
    for profile in shop.sandbox.profiles() {
        assert_eq!(value_at(&profile.attributes, "properties.n"), Some(&json!(MESSAGES)), "{profile:?}");
    }
    assert_eq!(query::<i64>(&mut shop.connect(), "SELECT count(*) FROM klaviyo.delivery", &[]), 10_000);
    shop.assert_requests_conform();
    let faults = shop.sandbox.faults();
    assert!(faults.iter().all(|fault| fault.fired > 0), "each kind of fault happened: {faults:?}");
}

/// Somebody is an e-mail address first; one message says that the address and the customer's number are one person.
#[test]
fn a_person_of_several_identifiers_keeps_one_order() {
    let mut shop = shop().start();
    let mut db = shop.connect();
    let people: Vec<String> = (1..=20).map(|p| format!("person-{p}")).collect();
    let as_email =
        "SELECT klaviyo_upsert_profile(email => $1 || '@shop.example', properties => $2::text::jsonb)";
    let as_number = "SELECT klaviyo_upsert_profile(external_id => $1, properties => $2::text::jsonb)";
    let as_both = "SELECT klaviyo_upsert_profile(email => upper($1) || '@SHOP.example', external_id => $1,
                                                 properties => $2::text::jsonb)";
    let event_of_email =
        "SELECT klaviyo_track_event('Step', email => $1 || '@shop.example', properties => $2::text::jsonb)";
    let event_of_number =
        "SELECT klaviyo_track_event('Step', external_id => $1, properties => $2::text::jsonb)";
    let queue = |db: &mut Client, n: i32, sql: &str| {
        for person in &people {
            db.execute(sql, &[person, &json!({"person": person, "n": n}).to_string()])
                .unwrap_or_else(|error| panic!("{sql}: {}", explain(&error)));
        }
    };
    let faults = [
        Fault::status(500).probability(0.3),
        Fault::reset_after().probability(0.1),
        Fault::latency(Duration::from_millis(20)).probability(0.3),
    ];

    // Waiting together.
    shop.sandbox.down();
    queue(&mut db, 1, as_email);
    queue(&mut db, 2, as_both);
    queue(&mut db, 3, as_number);
    queue(&mut db, 4, event_of_email);
    queue(&mut db, 5, event_of_number);
    shop.sandbox.set_faults(&faults);
    shop.sandbox.up();
    // The link is known by now, whether or not anything of it still waits.
    for round in 1..=4 {
        queue(&mut db, round * 10, as_number);
        queue(&mut db, round * 10 + 1, event_of_email);
        queue(&mut db, round * 10 + 2, as_email);
        queue(&mut db, round * 10 + 3, event_of_number);
        if round == 2 {
            shop.drain_soon();
        }
    }
    shop.drain_soon();
    // A new process has it from what was delivered.
    drop(db);
    shop.cluster.restart(Stop::Fast);
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    for round in 5..=8 {
        queue(&mut db, round * 10, as_email);
        queue(&mut db, round * 10 + 1, event_of_number);
        queue(&mut db, round * 10 + 2, as_number);
        queue(&mut db, round * 10 + 3, event_of_email);
    }
    assert_eq!(shop.drain_soon().dead, 0);
    assert_never_overtaken(&shop.sandbox.messages());
    assert_eq!(shop.sandbox.profiles().len(), people.len());
    for person in &people {
        assert_eq!(kept(&shop, person, "properties.n"), json!(82), "{person}");
    }
    assert_eq!(shop.sandbox.events().len(), people.len() * 18);
}

#[test]
fn states_that_wait_together_travel_together() {
    let shop = closed_shop().start();
    let mut db = shop.connect();
    let ids: BTreeSet<String> =
        (1..=20).map(|n| state(&mut db, "ada", n, &json!({format!("p{n}"): n}))).collect();
    // Others are not mixed in.
    state(&mut db, "bob", 1, &json!({}));
    open(&shop);
    assert_eq!(shop.drain_soon().dead, 0);
    assert_eq!(shop.sandbox.receipts().len(), 2, "a call for each of them");
    assert_eq!((accepted(&shop, "ada"), accepted(&shop, "bob")), (vec![20], vec![1]));
    let rows = db
        .query(
            "SELECT message_id::text, http_status FROM klaviyo.delivery WHERE key = '{external_id:ada}'",
            &[],
        )
        .expect("deliveries can be read");
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<BTreeSet<String>>(), ids);
    assert!(rows.iter().all(|row| [200, 201].contains(&row.get::<_, i32>(1))));
    assert_eq!(kept(&shop, "ada", "first_name"), json!("name 20"));
    assert_eq!(kept(&shop, "ada", "properties.n"), json!(20));
    for n in 1..=20 {
        assert_eq!(kept(&shop, "ada", &format!("properties.p{n}")), json!(n));
    }
    assert_eq!(kept(&shop, "bob", "first_name"), json!("name 1"));
    assert_eq!(kept(&shop, "bob", "properties"), json!({"person": "bob", "n": 1}));
}

#[test]
fn a_call_of_many_states_says_what_they_would_have_said_one_by_one() {
    let shop = closed_shop().start();
    let mut db = shop.connect();
    for sql in [
        "SELECT klaviyo_upsert_profile(external_id => 'ada', first_name => 'Ada', last_name => 'Byron',
             title => 'Miss', properties => '{\"person\": \"ada\", \"n\": 1, \"plan\": \"free\", \"old\": 1}')",
        "SELECT klaviyo_upsert_profile(external_id => 'ada', last_name => 'King', organization => 'Engines',
             properties => '{\"person\": \"ada\", \"n\": 2, \"plan\": \"paid\", \"old\": null}')",
        "SELECT klaviyo_upsert_profile(external_id => 'ada', clear => '{title}', location => '{\"city\": \"London\"}',
             properties => '{\"person\": \"ada\", \"n\": 3}')",
    ] {
        db.execute(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {}", explain(&error)));
    }
    open(&shop);
    shop.drain_soon();
    let receipts = shop.sandbox.receipts();
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert_eq!(
        receipts[0].at("data.attributes"),
        Some(&json!({
            "external_id": "ada", "first_name": "Ada", "last_name": "King", "title": null,
            "organization": "Engines", "location": {"city": "London"},
            "properties": {"person": "ada", "n": 3, "plan": "paid", "old": null},
        }))
    );
}

#[test]
fn an_event_between_two_states_keeps_its_place() {
    let shop = closed_shop().start();
    let mut db = shop.connect();
    state(&mut db, "ada", 1, &json!({}));
    state(&mut db, "ada", 2, &json!({}));
    event(&mut db, "ada", 3);
    state(&mut db, "ada", 4, &json!({}));
    event(&mut db, "ada", 5);
    event(&mut db, "ada", 6);
    state(&mut db, "ada", 7, &json!({}));
    state(&mut db, "ada", 8, &json!({}));
    open(&shop);
    shop.drain_soon();
    assert_eq!(accepted(&shop, "ada"), [2, 3, 4, 5, 6, 8]);
    shop.assert_requests_conform();
}

#[test]
fn one_bad_state_harms_only_itself() {
    let shop = closed_shop().start();
    let mut db = shop.connect();
    let bad =
        Fault::status(400).error("invalid", "That is not right.").pointer("/data/attributes/properties");
    shop.sandbox.set_faults(&[bad.matching("poison")]);
    let mut ids = Vec::new();
    for n in 1..=6 {
        let properties = if n == 3 { json!({"bad": "poison"}) } else { json!({format!("p{n}"): n}) };
        ids.push(state(&mut db, "ada", n, &properties));
    }
    open(&shop);
    assert_eq!(shop.drain_soon().dead, 1);
    let receipts = shop.sandbox.receipts();
    assert_eq!((number(&receipts[0]), receipts[0].accepted), (6, false), "they went together first");
    for (n, id) in (1..).zip(&ids) {
        assert_eq!(status(&mut db, id), if n == 3 { "dead" } else { "accepted" }, "state {n}");
    }
    assert_eq!(accepted(&shop, "ada"), [1, 2, 4, 5, 6]);
    assert_eq!(kept(&shop, "ada", "properties.n"), json!(6));
    assert_eq!(kept(&shop, "ada", "properties.bad"), Value::Null);
}
