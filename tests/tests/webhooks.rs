//! Webhooks that Klaviyo sends: what is signed is kept, each event once; nothing else is, whoever tries, and however often.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use harness::{Cluster, PATIENCE, Shop, WebhookRequest, count, eventually, explain, query, queued, sql};
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
        Self::of(ids.iter().map(event).collect())
    }

    /// Of events by their ids, topics, and the profiles they are about.
    fn about(events: &[(&str, &str, &str)]) -> Self {
        let event = |(id, topic, profile): &(&str, &str, &str)| {
            let profile = json!({"data": {"type": "profile", "id": profile}});
            let payload = json!({"data": {"id": id, "relationships": {"profile": profile}}});
            json!({"external_id": id, "topic": topic, "payload": payload})
        };
        Self::of(events.iter().map(event).collect())
    }

    fn of(events: Vec<Value>) -> Self {
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

/// A shop with the webhook `W`, and a table that handlers write to.
fn shop() -> Shop {
    let shop = Shop::builder().quick_retries().setting("klaviyo.webhook_max_attempts", 4).start();
    let mut db = shop.connect();
    db.execute("SELECT klaviyo_set_webhook('W', $1)", &[&SECRET]).expect("a webhook");
    sql(
        &mut db,
        "CREATE TABLE told (n bigserial, handler text, event_id bigint, external_id text, topic text, who text);
         CREATE FUNCTION note(event jsonb) RETURNS void LANGUAGE sql AS $$
             INSERT INTO told (handler, event_id, external_id, topic, who)
             VALUES ('note', (event->>'event_id')::bigint, event->>'external_id', event->>'topic', current_user)
         $$",
    );
    shop
}

fn told(db: &mut Client, handler: &str) -> Vec<String> {
    let query = "SELECT external_id FROM told WHERE handler = $1 ORDER BY n";
    db.query(query, &[&handler]).expect("what was told").iter().map(|row| row.get(0)).collect()
}

fn tasks(db: &mut Client) -> i64 {
    count(db, "SELECT count(*) FROM klaviyo.webhook_task")
}

#[test]
fn handlers_are_told_of_the_topics_they_asked_for() {
    let shop = shop();
    let mut db = shop.connect();
    sql(
        &mut db,
        "CREATE FUNCTION opened(event jsonb) RETURNS integer LANGUAGE sql AS $$
             INSERT INTO told (handler, external_id) VALUES ('opened', event->>'external_id') RETURNING 1
         $$;
         CREATE FUNCTION flows(event jsonb) RETURNS void LANGUAGE sql AS $$
             INSERT INTO told (handler, external_id) VALUES ('flows', event #>> '{payload,name}')
         $$",
    );
    sql(
        &mut db,
        "SELECT klaviyo_on_webhook('event:klaviyo.*', 'note(jsonb)'), klaviyo_on_webhook('event:klaviyo.opened_email', 'opened(jsonb)'),
                klaviyo_on_webhook('flow:*', 'flows(jsonb)'), klaviyo_on_webhook('event:klaviyo.*', 'note(jsonb)')",
    );
    let events = [
        ("1", "event:klaviyo.opened_email", "P"),
        ("2", "event:klaviyo.clicked_email", "P"),
        ("3", "event:klaviyo.opened_email_twice", "Q"),
        ("4", "event:of_a_shop", "Q"),
    ];
    let request = Request::about(&events);
    assert_eq!(request.hand_in(&mut db), Ok(4));
    assert_eq!(request.hand_in(&mut db), Ok(0), "and nobody is told again");
    sql(&mut db, "SELECT klaviyo_set_webhook('flow:welcome', 'a secret of a flow')");
    sql(
        &mut db,
        r#"SELECT klaviyo_receive_webhook('{"klaviyo-flow": "welcome", "klaviyo-flow-secret": "a secret of a flow"}', '{"name": "Ada"}')"#,
    );
    shop.eventually("all are told", PATIENCE, || tasks(&mut db) == 0);
    assert_eq!(told(&mut db, "note"), ["1", "2", "3"]);
    assert_eq!(told(&mut db, "opened"), ["1"]);
    assert_eq!(told(&mut db, "flows"), ["Ada"]);
    sql(&mut db, "SELECT klaviyo_off_webhook('event:klaviyo.*', 'note(jsonb)')");
    assert_eq!(Request::about(&[("5", "event:klaviyo.opened_email", "P")]).hand_in(&mut db), Ok(1));
    shop.eventually("it is told", PATIENCE, || tasks(&mut db) == 0);
    assert_eq!((told(&mut db, "note").len(), told(&mut db, "opened").len()), (3, 2));
}

/// What fails is tried again and put aside in the end; of that person nothing goes before, and nobody else waits.
#[test]
fn a_handler_that_fails_is_in_no_others_way() {
    let shop = shop();
    let mut db = shop.connect();
    sql(
        &mut db,
        "CREATE TABLE broken (on_it boolean); INSERT INTO broken VALUES (true);
         CREATE SEQUENCE too_early;
         CREATE FUNCTION fragile(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
         BEGIN
             IF event->>'external_id' = '3' THEN
                 PERFORM nextval('too_early')
                 FROM klaviyo.webhook_task JOIN klaviyo.webhook_event AS e USING (event_id)
                 WHERE e.external_id = '1';
             END IF;
             INSERT INTO told (handler, external_id) VALUES ('fragile', event->>'external_id');
             IF event->>'profile_id' = 'bad' AND (SELECT on_it FROM broken) THEN
                 RAISE EXCEPTION 'no %', event->>'external_id';
             END IF;
         END
         $$;
         SELECT klaviyo_on_webhook('*', 'fragile(jsonb)'), klaviyo_on_webhook('*', 'note(jsonb)')",
    );
    let topic = "event:klaviyo.opened_email";
    let events = [("1", topic, "bad"), ("2", topic, "good"), ("3", topic, "bad")];
    assert_eq!(Request::about(&events).hand_in(&mut db), Ok(3));
    shop.eventually("both are put aside", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.webhook_dead_letter") == 2
    });
    assert_eq!(told(&mut db, "fragile"), ["2"], "what failed has written nothing");
    assert_eq!(told(&mut db, "note").len(), 3);
    let early = query::<bool>(&mut db, "SELECT is_called FROM too_early", &[]);
    assert!(!early, "what comes after of that profile waits");
    let dead = "SELECT string_agg(error || ', ' || attempts, '; ' ORDER BY event_id) FROM klaviyo.webhook_dead_letter";
    assert_eq!(query::<String>(&mut db, dead, &[]), "no 1, 4; no 3, 4");
    sql(&mut db, "UPDATE broken SET on_it = false");
    assert_eq!(query::<i64>(&mut db, "SELECT klaviyo_redrive_webhook()", &[]), 2);
    shop.eventually("they are told", PATIENCE, || tasks(&mut db) == 0);
    assert_eq!(told(&mut db, "fragile"), ["2", "1", "3"]);
    // One that is not there any more.
    sql(&mut db, "DROP FUNCTION fragile(jsonb)");
    assert_eq!(Request::about(&[("4", topic, "good")]).hand_in(&mut db), Ok(1));
    shop.eventually("it is put aside", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.webhook_dead_letter WHERE error LIKE '%fragile(jsonb) does not exist'") == 1
    });
}

/// Delivery goes on, and others are told.
#[test]
fn a_handler_that_hangs_is_in_nobodys_way() {
    let shop = shop();
    shop.cluster.set("klaviyo.webhook_handler_timeout", "300ms");
    let mut db = shop.connect();
    sql(
        &mut db,
        "CREATE FUNCTION hangs(event jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(3600) $$;
         SELECT klaviyo_on_webhook('*', 'hangs(jsonb)'), klaviyo_on_webhook('*', 'note(jsonb)')",
    );
    let ids: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(Request::new(&ids).hand_in(&mut db), Ok(100));
    sql(
        &mut db,
        "SELECT klaviyo_track_event('Placed Order', external_id => n::text) FROM generate_series(1, 200) AS n",
    );
    assert_eq!(shop.drain_soon().dead, 0);
    shop.eventually("the other is told of all", PATIENCE, || told(&mut db, "note").len() == 100);
    assert_eq!(told(&mut db, "note"), ids, "in the order in which they came");
    let hung = "SELECT count(*) FROM klaviyo.webhook_task WHERE last_error LIKE '%timeout%'";
    shop.eventually("it is noted", PATIENCE, || count(&mut db, hung) > 0);
}

/// What a handler writes is written with the end of its task.
#[test]
fn each_event_is_told_once_whoever_is_killed() {
    let mut shop = shop();
    let mut db = shop.connect();
    sql(&mut db, "SELECT klaviyo_on_webhook('*', 'note(jsonb)')");
    for round in 0..4 {
        let ids: Vec<String> = (0..300).map(|number| format!("{round}-{number}")).collect();
        assert_eq!(Request::new(&ids).hand_in(&mut db), Ok(300));
        shop.eventually("some are told", PATIENCE, || told(&mut db, "note").len() > round * 300 + 20);
        if let Some(runner) = harness::runner(&mut db) {
            harness::kill(runner, harness::Signal::SIGKILL);
            harness::wait_for_crash(&mut db);
            shop.cluster.wait_ready();
            db = shop.connect();
        }
        shop.eventually("all are told", PATIENCE, || tasks(&mut db) == 0);
    }
    let told = told(&mut db, "note");
    assert_eq!(told.len(), 1_200);
    assert_eq!(count(&mut db, "SELECT count(DISTINCT external_id) FROM told"), 1_200);
}

/// A handler is called with its owner's rights, which only its owner may hand out.
#[test]
fn a_handler_has_its_owners_rights_and_no_other() {
    let shop = shop();
    let mut db = shop.connect();
    sql(
        &mut db,
        "CREATE ROLE marketer LOGIN; GRANT klaviyo_admin TO marketer; CREATE SCHEMA marketing AUTHORIZATION marketer;
         CREATE TABLE secret (n integer); GRANT INSERT ON told TO marketer; GRANT USAGE ON SEQUENCE told_n_seq TO marketer",
    );
    sql(
        &mut db,
        "SET ROLE marketer;
         CREATE FUNCTION marketing.mine(event jsonb) RETURNS void LANGUAGE sql AS $$
             INSERT INTO public.told (handler, external_id, who) VALUES ('mine', event->>'external_id', current_user)
         $$;
         CREATE FUNCTION marketing.peeks(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
         BEGIN INSERT INTO public.secret VALUES (1); END $$;
         SELECT klaviyo_on_webhook('*', 'marketing.mine(jsonb)'), klaviyo_on_webhook('*', 'marketing.peeks(jsonb)')",
    );
    let refused = |db: &mut Client, call: &str| {
        let error = db.query_one(call, &[]).expect_err("it is refused");
        error.code().map(|code| code.code().to_owned())
    };
    for (call, code) in [
        ("SELECT klaviyo_on_webhook('*', 'public.note(jsonb)')", "KS089"),
        ("SELECT klaviyo_on_webhook('*', 'pg_catalog.now()')", "KS088"),
        ("SELECT klaviyo_on_webhook('*', NULL)", "KS088"),
        ("SELECT klaviyo_on_webhook('a*b', 'marketing.mine(jsonb)')", "KS087"),
        ("SELECT klaviyo_on_webhook('', 'marketing.mine(jsonb)')", "KS087"),
        (
            "INSERT INTO klaviyo.webhook_handler (pattern, function) VALUES ('*', 'public.note(jsonb)')",
            "42501",
        ),
    ] {
        assert_eq!(refused(&mut db, call).as_deref(), Some(code), "{call}");
    }
    sql(&mut db, "RESET ROLE");
    assert_eq!(Request::new(&["1".to_owned()]).hand_in(&mut db), Ok(1));
    shop.eventually("it is told", PATIENCE, || told(&mut db, "mine") == ["1"]);
    assert_eq!(query::<String>(&mut db, "SELECT who FROM told WHERE handler = 'mine'", &[]), "marketer");
    let refused = "SELECT count(*) FROM klaviyo.webhook_dead_letter WHERE error LIKE 'permission denied%'";
    shop.eventually("the other is refused", PATIENCE, || count(&mut db, refused) == 1);
}
