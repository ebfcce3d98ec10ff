//! Webhooks that Klaviyo sends: what is signed is kept, each event once; nothing else is, whoever tries, and however often.

mod handlers;
mod managed;
mod mirrored;
mod request;

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use harness::{Cluster, PATIENCE, Shop, WebhookRequest, count, eventually, query, queued, sql};
use postgres::Client;
use request::{Request, SECRET, time};
use serde_json::json;

/// A cluster with the webhook `W` of the account `default`; nothing of it needs a worker.
fn cluster() -> (Cluster, Client) {
    let cluster = Cluster::builder().start();
    cluster.create_database("shop");
    let mut db = cluster.connect("shop");
    sql(&mut db, "CREATE EXTENSION klaviyo_sync");
    sql(&mut db, "SELECT klaviyo_set_account(private_key => 'pk_test')");
    db.execute("SELECT klaviyo_set_webhook('W', $1)", &[&SECRET]).expect("a webhook");
    (cluster, db)
}

fn events(db: &mut Client) -> i64 {
    count(db, "SELECT count(*) FROM klaviyo.webhook_event")
}

/// Whatever is changed of a request it is refused, and says nothing but that; and what is not changed is taken, among all that.
#[test]
fn thousands_of_forged_requests_are_refused() {
    let (_cluster, mut db) = cluster();
    let mut random = fastrand::Rng::with_seed(11);
    let mut taken = 0;
    for number in 0..4_000 {
        let mut request = Request::new(&[format!("e{number}"), format!("f{number}")]);
        let expected = match random.u8(0..10) {
            0 => {
                taken += 2;
                assert_eq!(request.hand_in(&mut db), Ok(2));
                continue;
            }
            1 => {
                let at = random.usize(0..request.body.len());
                request.body[at] ^= 1 << random.u8(0..8);
                "KS084"
            }
            2 => {
                request.body.truncate(random.usize(0..request.body.len()));
                "KS084"
            }
            3 => {
                request.body.push(b' ');
                "KS084"
            }
            4 => {
                request.timestamp = time(random.i64(1..60));
                "KS084"
            }
            5 => {
                request.signature = (0..random.usize(0..80)).map(|_| random.char('0'..='g')).collect();
                "KS084"
            }
            6 => {
                let seconds = random.i64(3_700..1_000_000) * if random.bool() { 1 } else { -1 };
                request = Request::signed(request.body, time(seconds), SECRET);
                "KS085"
            }
            7 => {
                request = Request::signed(request.body, request.timestamp, "somebody else's secret");
                "KS084"
            }
            8 => {
                request.webhook =
                    (0..random.usize(0..300)).map(|_| random.char(' '..='~')).filter(|c| *c != 'W').collect();
                "KS084"
            }
            // Klaviyo's, and no such thing as it sends.
            _ => {
                let body: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
                request = Request::signed(body, request.timestamp, SECRET);
                "KS086"
            }
        };
        assert_eq!(request.hand_in(&mut db), Err(expected.to_owned()), "number {number}");
    }
    assert_eq!(events(&mut db), taken);
    assert!(taken > 100);
}

/// Klaviyo may deliver the same twice, at the same time even.
#[test]
fn whatever_comes_again_changes_nothing() {
    const SENDERS: usize = 8;
    let (cluster, mut db) = cluster();
    for round in 0..20 {
        let ids: Vec<String> = (0..50).map(|number| format!("{round}-{number}")).collect();
        let barrier = Barrier::new(SENDERS);
        let new: i32 = thread::scope(|scope| {
            let hand_in = |sender: usize| {
                // In another order and another request, as of a sender that tries again.
                let mut ids = ids.clone();
                ids.rotate_left(sender * 7 % 50);
                let request = Request::new(&ids);
                let mut db = cluster.connect("shop");
                barrier.wait();
                request.hand_in(&mut db).expect("it is taken, and waits for nobody who waits for it")
            };
            let senders: Vec<_> = (0..SENDERS).map(|sender| scope.spawn(move || hand_in(sender))).collect();
            senders.into_iter().map(|sender| sender.join().expect("a sender")).sum()
        });
        assert_eq!(new, 50, "round {round}");
    }
    assert_eq!(events(&mut db), 1_000);
}

#[test]
fn what_is_too_large_is_refused_and_what_is_old_goes() {
    let shop = Shop::start();
    let mut db = shop.connect();
    db.execute("SELECT klaviyo_set_webhook('W', $1)", &[&SECRET]).expect("a webhook");
    let request = Request::new(&["a".to_owned()]);
    shop.cluster.set("klaviyo.webhook_max_size", "1kB");
    let mut large = json!({"meta": {"klaviyo_webhook_id": "W"}, "data": []});
    large["pad"] = "x".repeat(2_000).into();
    let large = Request::signed(large.to_string().into_bytes(), time(0), SECRET);
    eventually("the setting is read", PATIENCE, || large.hand_in(&mut db) == Err("KS083".to_owned()));
    assert_eq!(request.hand_in(&mut db), Ok(1));
    sql(&mut db, "UPDATE klaviyo.webhook_event SET received_at = now() - interval '2 hours'");
    assert_eq!(Request::new(&["b".to_owned()]).hand_in(&mut db), Ok(1));
    shop.cluster.set("klaviyo.webhook_retention", "1h");
    shop.eventually("the old one is gone", PATIENCE, || events(&mut db) == 1);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(events(&mut db), 1, "the other stays");
}

/// Hands in what Klaviyo sends; how many events are new.
fn hand_in(db: &mut Client, WebhookRequest { headers, body }: &WebhookRequest) -> i32 {
    let call = "SELECT klaviyo_receive_webhook($1::text::jsonb, $2)";
    query(db, call, &[&headers.to_string(), &body.as_bytes()])
}

/// The secret is known at both ends, whatever the order in which they learn another.
#[test]
fn what_klaviyo_signs_is_taken() {
    let shop = Shop::builder().quick_retries().start();
    let mut db = shop.connect();
    let topic = "event:klaviyo.opened_email";
    let webhook = json!({"data": {"type": "webhook",
        "attributes": {"name": "Shop", "endpoint_url": "https://shop.example/in", "secret_key": SECRET},
        "relationships": {"webhook-topics": {"data": [{"type": "webhook-topic", "id": topic}]}},
    }});
    let made = queued(&mut db, &format!("klaviyo_call('POST', '/api/webhooks', $${webhook}$$)"));
    let id: String =
        query(&mut db, "SELECT klaviyo_id FROM klaviyo_await($1::text::uuid, '1 minute')", &[&made]);
    db.execute("SELECT klaviyo_set_webhook($1, $2)", &[&id, &SECRET]).expect("a webhook");

    let sent = |profile: &str| {
        let events = json!([
            {"topic": topic, "profile_id": profile, "properties": {"Subject": "Tea"}},
            {"topic": "event:klaviyo.clicked_email", "profile_id": profile},
        ]);
        let requests = shop.sandbox.webhook_requests(&events);
        assert_eq!(requests.len(), 1);
        requests[0].clone()
    };
    let first = sent("P");
    assert_eq!(hand_in(&mut db, &first), 1);
    assert_eq!(hand_in(&mut db, &first), 0);
    let kept = "SELECT concat_ws(' ', webhook = $1, topic, profile_id, payload #>> '{data,attributes,event_properties,Subject}',
                          abs(extract(epoch FROM now() - sent_at)) < 600)
                FROM klaviyo.webhook_event";
    assert_eq!(query::<String>(&mut db, kept, &[&id]), format!("t {topic} P Tea t"));

    // What is on its way when the secret is changed here, and what comes after it is changed there.
    let on_its_way = sent("Q");
    db.execute("SELECT klaviyo_set_webhook($1, 'another secret of it')", &[&id]).expect("another secret");
    assert_eq!(hand_in(&mut db, &on_its_way), 1);
    let change =
        json!({"data": {"type": "webhook", "id": id, "attributes": {"secret_key": "another secret of it"}}});
    let changed = queued(&mut db, &format!("klaviyo_call('PATCH', '/api/webhooks/{id}', '{change}')"));
    shop.wait_for_status(&changed, "accepted");
    assert_eq!(hand_in(&mut db, &sent("R")), 1);
    assert_eq!(events(&mut db), 3);
}

/// Whoever reads an event has seen all those that came before it by its webhook.
#[test]
fn requests_of_a_webhook_come_one_after_the_other() {
    let (cluster, mut db) = cluster();
    let mut other = cluster.connect("shop");
    sql(&mut db, "BEGIN");
    assert_eq!(Request::new(&["1".to_owned()]).hand_in(&mut db), Ok(1));
    let next = Request::new(&["2".to_owned()]);
    sql(&mut other, "SET lock_timeout = '100ms'");
    assert_eq!(next.hand_in(&mut other).as_ref().map_err(String::as_str), Err("55P03"));
    sql(&mut db, "COMMIT");
    assert_eq!(next.hand_in(&mut other), Ok(1));
}

/// As deep as can be read, and no deeper.
#[test]
fn what_is_nested_deeply_is_told_or_refused() {
    let shop = handlers::shop();
    let mut db = shop.connect();
    sql(
        &mut db,
        "SELECT klaviyo_set_webhook('flow:deep', 'a secret of a flow'), klaviyo_on_webhook('flow:*', 'note(jsonb)')",
    );
    let mut hand_in = |depth: usize, id: &str| {
        let body = format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        let headers = json!({"klaviyo-flow": "deep", "klaviyo-flow-secret": "a secret of a flow", "klaviyo-flow-id": id});
        let call = "SELECT klaviyo_receive_webhook($1::text::jsonb, $2)";
        let answer = db.query_one(call, &[&headers.to_string(), &body.as_bytes()]);
        answer
            .map(|row| row.get::<_, i32>(0))
            .map_err(|error| error.code().map(|code| code.code().to_owned()))
    };
    for depth in [125, 126, 127] {
        assert_eq!(hand_in(depth, &depth.to_string()), Ok(1));
    }
    assert_eq!(hand_in(128, "128"), Err(Some("KS086".to_owned())));
    assert_eq!(hand_in(2, &"i".repeat(257)), Err(Some("KS086".to_owned())));
    // No id is none.
    assert_eq!((hand_in(2, ""), hand_in(3, " "), hand_in(3, "")), (Ok(1), Ok(1), Ok(0)));
    let mut db = shop.connect();
    shop.eventually("they are told", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM told") == 5
            && count(&mut db, "SELECT count(*) FROM klaviyo.webhook_task") == 0
    });
}

/// The account of a webhook stays; the secret before can be done away with.
#[test]
fn a_secret_is_changed_and_nothing_else() {
    let (_cluster, mut db) = cluster();
    sql(
        &mut db,
        "SELECT klaviyo_set_account('eu', private_key => 'pk_eu'), klaviyo_set_webhook('E', 'the first secret', 'eu')",
    );
    sql(&mut db, "SELECT klaviyo_set_webhook('E', 'the second secret')");
    let account = "SELECT account FROM klaviyo.webhook WHERE webhook = 'E'";
    assert_eq!(query::<String>(&mut db, account, &[]), "eu");
    let old = "SELECT coalesce(old_secret, '') || coalesce((old_secret_until > now() + '23 hours')::text, '')
               FROM klaviyo.webhook_secret WHERE webhook = 'E'";
    assert_eq!(query::<String>(&mut db, old, &[]), "the first secrettrue");
    sql(&mut db, "SELECT klaviyo_set_webhook('E', 'the second secret', old_secret_for => '2 days')");
    let longer = "SELECT old_secret_until > now() + '1 day' FROM klaviyo.webhook_secret WHERE webhook = 'E'";
    assert!(!query::<bool>(&mut db, longer, &[]), "the same again makes no time longer");
    sql(&mut db, "SELECT klaviyo_set_webhook('E', 'the second secret', old_secret_for => '0')");
    assert_eq!(query::<String>(&mut db, old, &[]), "");
}
