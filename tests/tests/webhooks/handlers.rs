//! Functions that are told what webhooks bring.

use harness::{PATIENCE, Shop, count, query, sql};
use postgres::Client;

use super::request::{Request, SECRET};

/// A shop with the webhook `W`, and a table that handlers write to.
pub fn shop() -> Shop {
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

/// Whoever has the name later is not called with rights that he has not given.
#[test]
fn a_function_that_changes_hands_is_called_no_more() {
    let shop = shop();
    let mut db = shop.connect();
    sql(&mut db, "CREATE ROLE marketer; CREATE SCHEMA marketing AUTHORIZATION marketer");
    let make = |db: &mut Client, owner: &str| {
        sql(db, "DROP FUNCTION IF EXISTS marketing.mine(jsonb)");
        sql(db, "CREATE FUNCTION marketing.mine(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT'");
        sql(db, &format!("ALTER FUNCTION marketing.mine(jsonb) OWNER TO {owner}"));
    };
    make(&mut db, "marketer");
    sql(&mut db, "SELECT klaviyo_on_webhook('*', 'marketing.mine(jsonb)')");
    make(&mut db, "CURRENT_USER");
    // With another of that name besides it is still clear which is meant.
    sql(
        &mut db,
        "CREATE FUNCTION marketing.mine(event jsonb, also integer DEFAULT 1) RETURNS void LANGUAGE sql AS 'SELECT'",
    );
    assert_eq!(Request::new(&["1".to_owned()]).hand_in(&mut db), Ok(1));
    let refused = "SELECT count(*) FROM klaviyo.webhook_dead_letter WHERE error LIKE '%was marketer''s when it was registered'";
    shop.eventually("it is not called", PATIENCE, || count(&mut db, refused) == 1);
    let critical = "SELECT count(*) FROM klaviyo_health() WHERE name = 'webhook' AND status = 'critical'";
    assert_eq!(count(&mut db, critical), 1);
    let anew = "SELECT klaviyo_on_webhook('*', 'marketing.mine(jsonb)')";
    assert!(query::<bool>(&mut db, anew, &[]), "it is its new owner's now");
    assert!(!query::<bool>(&mut db, anew, &[]));
    sql(&mut db, "SELECT klaviyo_redrive_webhook()");
    let left = "SELECT (SELECT count(*) FROM klaviyo.webhook_task) + (SELECT count(*) FROM klaviyo.webhook_dead_letter)";
    shop.eventually("it is told", PATIENCE, || count(&mut db, left) == 0);
}

/// It catches that it is cancelled, so that its process has to end: each time counts, and others are told.
#[test]
fn a_handler_that_will_not_end_is_put_aside() {
    let shop = shop();
    shop.cluster.set("klaviyo.webhook_handler_timeout", "100ms");
    shop.cluster.set("klaviyo.webhook_max_attempts", "2");
    let mut db = shop.connect();
    sql(
        &mut db,
        "CREATE FUNCTION stubborn(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM pg_sleep(3600);
         EXCEPTION WHEN query_canceled THEN
             PERFORM pg_sleep(3600);
         END
         $$;
         SELECT klaviyo_on_webhook('*', 'stubborn(jsonb)'), klaviyo_on_webhook('*', 'note(jsonb)')",
    );
    assert_eq!(Request::new(&["1".to_owned()]).hand_in(&mut db), Ok(1));
    let aside = "SELECT count(*) FROM klaviyo.webhook_dead_letter
                 WHERE attempts = 2 AND error = 'the process that called it has ended'";
    shop.eventually("it is put aside", PATIENCE, || count(&mut db, aside) == 1);
    shop.eventually("the other is told", PATIENCE, || told(&mut db, "note") == ["1"]);
    assert_eq!(tasks(&mut db), 0);
}

/// What somebody holds in a transaction that he does not end is in nobody else's way.
#[test]
fn a_task_that_is_locked_is_in_no_others_way() {
    let shop = shop();
    shop.cluster.set("klaviyo.webhook_max_attempts", "1000");
    let (mut db, mut other) = (shop.connect(), shop.connect());
    sql(
        &mut db,
        "CREATE TABLE broken (on_it boolean); INSERT INTO broken VALUES (true);
         CREATE FUNCTION held(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
         BEGIN
             IF (SELECT on_it FROM broken) THEN
                 RAISE EXCEPTION 'no';
             END IF;
             INSERT INTO told (handler, external_id) VALUES ('held', event->>'external_id');
         END
         $$;
         SELECT klaviyo_on_webhook('*', 'held(jsonb)'), klaviyo_on_webhook('*', 'note(jsonb)')",
    );
    assert_eq!(Request::new(&["1".to_owned()]).hand_in(&mut db), Ok(1));
    let failing = "SELECT count(*) FROM klaviyo.webhook_task WHERE last_error = 'no'";
    shop.eventually("it fails", PATIENCE, || count(&mut db, failing) == 1);
    sql(&mut other, "BEGIN; SELECT FROM klaviyo.webhook_task FOR UPDATE");
    sql(&mut db, "UPDATE broken SET on_it = false");
    assert_eq!(Request::new(&["2".to_owned()]).hand_in(&mut db), Ok(1));
    shop.eventually("others are told", PATIENCE, || told(&mut db, "note") == ["1", "2"]);
    shop.eventually("it is told of others", PATIENCE, || told(&mut db, "held") == ["2"]);
    sql(&mut other, "COMMIT");
    shop.eventually("it is told", PATIENCE, || told(&mut db, "held") == ["2", "1"]);
}

/// As in a session of one's own: what waits for the end of a transaction is done before that, and nothing is left behind.
#[test]
fn a_handler_may_write_what_is_checked_at_the_end() {
    let shop = shop();
    shop.cluster.set("klaviyo.webhook_max_attempts", "1000");
    let mut db = shop.connect();
    sql(
        &mut db,
        "CREATE TABLE person (id text PRIMARY KEY);
         CREATE TABLE opening (person text REFERENCES person DEFERRABLE INITIALLY DEFERRED);
         CREATE FUNCTION opened(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM pg_advisory_lock(42);
             INSERT INTO person VALUES (event->>'profile_id') ON CONFLICT DO NOTHING;
             INSERT INTO opening VALUES (event->>'profile_id');
             IF event->>'external_id' = '2' THEN
                 RAISE EXCEPTION 'no';
             END IF;
         END
         $$;
         SELECT klaviyo_on_webhook('*', 'opened(jsonb)')",
    );
    let topic = "event:klaviyo.opened_email";
    assert_eq!(Request::about(&[("1", topic, "P"), ("2", topic, "Q")]).hand_in(&mut db), Ok(2));
    shop.eventually("one is told", PATIENCE, || count(&mut db, "SELECT count(*) FROM opening") == 1);
    // The runner lives as long as the other is tried again.
    shop.eventually("nothing stays locked", PATIENCE, || {
        query(&mut db, "SELECT pg_try_advisory_lock(42)", &[])
    });
}
