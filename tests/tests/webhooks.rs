//! Webhooks that Klaviyo sends: what is signed is kept, each event once; nothing else is, whoever tries, and however often.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use harness::{Cluster, PATIENCE, Shop, count, eventually, explain, sql};
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use postgres::Client;
use serde_json::{Value, json};
use sha2::Sha256;

const SECRET: &str = "a secret of one's own";

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

#[derive(Clone)]
struct Request {
    webhook: String,
    timestamp: String,
    signature: String,
    body: Vec<u8>,
}

/// In ISO 8601, so many seconds from now.
fn time(from_now: i64) -> String {
    (Timestamp::now() + SignedDuration::from_secs(from_now)).to_string()
}

impl Request {
    fn new(ids: &[String]) -> Self {
        let event = |id: &String| json!({"external_id": id, "topic": "event:klaviyo.opened_email", "payload": {"data": {"id": id}}});
        let events: Vec<Value> = ids.iter().map(event).collect();
        let body = json!({"data": events, "meta": {"klaviyo_account_id": "A", "klaviyo_webhook_id": "W"}});
        Self::signed(body.to_string().into_bytes(), time(0), SECRET)
    }

    fn signed(body: Vec<u8>, timestamp: String, secret: &str) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
        mac.update(&body);
        mac.update(timestamp.as_bytes());
        let signature = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { webhook: "W".to_owned(), timestamp, signature, body }
    }

    /// How many events are new, or the SQLSTATE of the refusal.
    fn hand_in(&self, db: &mut Client) -> Result<i32, String> {
        let Self { webhook, timestamp, signature, body } = self;
        let headers = json!({"Klaviyo-Webhook-Id": webhook, "Klaviyo-Timestamp": timestamp, "Klaviyo-Signature": signature});
        let call = "SELECT klaviyo_receive_webhook($1::text::jsonb, $2)";
        match db.query_one(call, &[&headers.to_string(), body]) {
            Ok(row) => Ok(row.get(0)),
            Err(error) => {
                let code = error.code().unwrap_or_else(|| panic!("{}", explain(&error)));
                Err(code.code().to_owned())
            }
        }
    }
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
