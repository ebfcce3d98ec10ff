//! Profiles that go both ways: what Klaviyo changes comes back into the table, and what comes back is not told again.

use harness::{
    Fault, PATIENCE, Shop, Signal, StoredProfile, count, kill, query, refused, runner, sql, wait_for_crash,
};
use postgres::Client;
use serde_json::json;

const TABLE: &str = "
    CREATE DOMAIN filled AS text CHECK (VALUE IS NOT NULL);
    CREATE TABLE customers (
        id         bigint PRIMARY KEY,
        email      text NOT NULL,
        phone      text,
        first_name text,
        last_name  varchar(20),
        city       text,
        tier       text,
        points     numeric(10, 2),
        updated_at timestamptz NOT NULL DEFAULT now(),
        note       filled DEFAULT 'x'
    )";

const MAP: &str = "
    SELECT klaviyo_sync_profiles(
        'customers', external_id => 'id', email => 'email', phone_number => 'phone', first_name => 'first_name',
        last_name => 'last_name', location => '{\"city\": \"city\"}',
        properties => '{\"Tier\": \"tier\", \"Points\": \"points\", \"Initial\": \"left(first_name, 1)\"}',
        direction => 'both', updated_at => 'updated_at')";

/// What is noted of fields that are written back.
const NOTED: &str = "SELECT count(*) FROM klaviyo.own_value WHERE field <> '{properties,Initial}'";

/// A shop with a customer that both sides know.
fn shop() -> (Shop, Client) {
    let shop = Shop::builder().quick_retries().start();
    let mut db = shop.connect();
    sql(&mut db, TABLE);
    sql(&mut db, MAP);
    sql(
        &mut db,
        "INSERT INTO customers VALUES (7, 'Ada@shop.example', NULL, 'Ada', 'Lovelace', 'London', 'gold', 10.50)",
    );
    shop.drain_soon();
    sql(&mut db, "SELECT klaviyo_set_job('profiles', '1 day')");
    pulled(&shop, &mut db, 0);
    (shop, db)
}

fn ended(db: &mut Client) -> i64 {
    query(
        db,
        "SELECT coalesce((extract(epoch FROM last_ended_at) * 1e6)::bigint, 0) FROM klaviyo.job WHERE job = 'profiles'",
        &[],
    )
}

fn pulled(shop: &Shop, db: &mut Client, before: i64) {
    shop.eventually("profiles are read", PATIENCE, || ended(db) > before);
    let waiting =
        "SELECT (SELECT count(*) FROM klaviyo.write_back WHERE attempts = 0 OR error LIKE 'the process%')
                          + (SELECT count(*) FROM klaviyo.mapping WHERE writes_back_after IS NOT NULL)";
    shop.eventually("they are written back", PATIENCE, || count(db, waiting) == 0);
}

fn pull(shop: &Shop, db: &mut Client) {
    let before = ended(db);
    sql(db, "SELECT klaviyo_run_job('profiles')");
    pulled(shop, db, before);
}

fn ada(shop: &Shop) -> StoredProfile {
    let profiles = shop.sandbox.profiles();
    profiles.into_iter().find(|it| it.attributes["external_id"] == "7").expect("Klaviyo knows her")
}

fn row(db: &mut Client) -> String {
    query(
        db,
        "SELECT concat_ws(' ', phone, first_name, last_name, city, tier, points) FROM customers WHERE id = 7",
        &[],
    )
}

/// How many messages were ever queued.
fn queued(db: &mut Client) -> i64 {
    query(db, "SELECT last_value FROM klaviyo.outbox_seq_seq", &[])
}

fn conflicts(db: &mut Client) -> String {
    query(
        db,
        "SELECT coalesce(string_agg(concat_ws(' ', field, table_value, klaviyo_value, winner, error), '; ' ORDER BY field, table_value), '')
         FROM klaviyo.sync_conflict",
        &[],
    )
}

#[test]
fn what_klaviyo_changes_comes_back_and_is_not_told_again() {
    let (shop, mut db) = shop();
    let id = ada(&shop).id;
    let before = queued(&mut db);
    let change = json!({"last_name": "King", "phone_number": "+14155550100", "location": {"city": "Ockham"},
                        "properties": {"Tier": null, "Points": 7, "Elsewhere": true}});
    shop.sandbox.change_profile(&id, &change);
    pull(&shop, &mut db);
    assert_eq!(row(&mut db), "+14155550100 Ada King Ockham 7.00");
    shop.drain_soon();
    pull(&shop, &mut db);
    assert_eq!(queued(&mut db), before, "nothing of that was queued");
    // Of what it changes besides, Klaviyo knows nothing yet.
    shop.sandbox.change_profile(&id, &json!({"first_name": "Grace"}));
    pull(&shop, &mut db);
    shop.drain_soon();
    assert_eq!(ada(&shop).attributes["properties"]["Initial"], "G");
    let told: Vec<_> = shop.sandbox.messages();
    let last = told.last().expect("a message").body.to_string();
    assert!(last.contains("Initial") && !last.contains("first_name"), "{last}");
    assert_eq!(queued(&mut db), before + 1);
    // And what the shop changes goes out as ever.
    sql(&mut db, "UPDATE customers SET first_name = 'Augusta', tier = 'silver' WHERE id = 7");
    shop.drain_soon();
    assert_eq!(ada(&shop).attributes["first_name"], "Augusta");
    pull(&shop, &mut db);
    assert_eq!(row(&mut db), "+14155550100 Augusta King Ockham silver 7.00");
    assert_eq!(conflicts(&mut db), "");
    assert_eq!(count(&mut db, NOTED), 0, "both have the same");
}

/// What the shop has changed waits meanwhile, and is sent afterwards.
#[test]
fn of_two_changes_at_once_the_later_stands() {
    let (shop, mut db) = shop();
    let id = ada(&shop).id;
    shop.sandbox.set_faults(&[Fault::status(503).path("/api/profile-")]);
    sql(
        &mut db,
        "UPDATE customers SET first_name = 'Augusta', tier = 'silver', updated_at = now() - interval '1 hour' WHERE id = 7",
    );
    shop.sandbox.change_profile(&id, &json!({"first_name": "Grace", "last_name": "Hopper"}));
    pull(&shop, &mut db);
    assert_eq!(row(&mut db), "Grace Hopper London silver 10.50", "field by field");
    assert_eq!(conflicts(&mut db), "first_name \"Augusta\" \"Grace\" klaviyo");
    // The shop's earlier change comes late: it is put right.
    shop.sandbox.clear_faults();
    shop.drain_soon();
    assert_eq!(ada(&shop).attributes["first_name"], "Augusta");
    pull(&shop, &mut db);
    assert_eq!(row(&mut db), "Grace Hopper London silver 10.50");
    shop.drain_soon();
    pull(&shop, &mut db);
    assert_eq!(ada(&shop).attributes["first_name"], "Grace");
    assert_eq!(ada(&shop).attributes["properties"]["Tier"], "silver");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.sync_conflict"), 1);
    // Now the shop is the later.
    let before = queued(&mut db);
    shop.sandbox.set_faults(&[Fault::status(503).path("/api/profile-")]);
    sql(
        &mut db,
        "UPDATE customers SET last_name = 'King', updated_at = now() + interval '1 hour' WHERE id = 7",
    );
    shop.sandbox.change_profile(&id, &json!({"last_name": "Byron", "location": {"city": "Ockham"}}));
    pull(&shop, &mut db);
    assert_eq!(row(&mut db), "Grace King Ockham silver 10.50");
    assert_eq!(
        conflicts(&mut db),
        "first_name \"Augusta\" \"Grace\" klaviyo; last_name \"King\" \"Byron\" table"
    );
    shop.sandbox.clear_faults();
    shop.drain_soon();
    pull(&shop, &mut db);
    assert_eq!(ada(&shop).attributes["last_name"], "King");
    assert_eq!(queued(&mut db), before + 2, "her change, and that it stands");
    assert_eq!(count(&mut db, NOTED), 0, "both have the same");
}

/// Klaviyo tells of a change what the shop has sent, which has gone on meanwhile.
#[test]
fn what_the_shop_has_sent_itself_is_no_change_of_klaviyos() {
    let (shop, mut db) = shop();
    sql(
        &mut db,
        "UPDATE customers SET first_name = 'Augusta', updated_at = now() - interval '2 hours' WHERE id = 7",
    );
    shop.drain_soon();
    shop.sandbox.set_faults(&[Fault::status(503).path("/api/profile-")]);
    sql(
        &mut db,
        "UPDATE customers SET first_name = 'Ada Augusta', updated_at = now() - interval '1 hour' WHERE id = 7",
    );
    pull(&shop, &mut db);
    assert_eq!(row(&mut db), "Ada Augusta Lovelace London gold 10.50");
    assert_eq!(conflicts(&mut db), "");
    shop.sandbox.clear_faults();
    shop.drain_soon();
    assert_eq!(ada(&shop).attributes["first_name"], "Ada Augusta");
}

/// All of a row is sent when its address changes, and may come late.
#[test]
fn a_change_of_address_undoes_nothing() {
    let (shop, mut db) = shop();
    let id = ada(&shop).id;
    let address = |db: &mut Client, address: &str| {
        sql(
            db,
            &format!(
                "UPDATE customers SET email = '{address}@shop.example', updated_at = now() - interval '1 hour' WHERE id = 7"
            ),
        );
    };
    address(&mut db, "augusta");
    shop.drain_soon();
    shop.sandbox.set_faults(&[Fault::status(503).path("/api/profile-")]);
    address(&mut db, "countess");
    shop.sandbox.change_profile(&id, &json!({"first_name": "Grace"}));
    pull(&shop, &mut db);
    assert_eq!(row(&mut db), "Grace Lovelace London gold 10.50");
    shop.sandbox.clear_faults();
    shop.drain_soon();
    assert_eq!(ada(&shop).attributes["first_name"], "Grace", "what is repeated is what the row is by then");
    for _ in 0..3 {
        shop.drain_soon();
        pull(&shop, &mut db);
    }
    assert_eq!(row(&mut db), "Grace Lovelace London gold 10.50");
    let known = ada(&shop).attributes;
    assert_eq!(
        (known["first_name"].as_str(), known["email"].as_str()),
        (Some("Grace"), Some("countess@shop.example"))
    );
    assert_eq!(conflicts(&mut db), "");
    // Also where it is all that waits.
    shop.sandbox.set_faults(&[Fault::status(503).path("/api/profile-")]);
    address(&mut db, "lady");
    shop.sandbox.change_profile(&id, &json!({"first_name": "Hedy"}));
    pull(&shop, &mut db);
    shop.sandbox.clear_faults();
    for _ in 0..3 {
        shop.drain_soon();
        pull(&shop, &mut db);
    }
    assert_eq!(row(&mut db), "Hedy Lovelace London gold 10.50");
    assert_eq!(ada(&shop).attributes["first_name"], "Hedy");
}

/// Rows that were there before the mapping, and profiles that were known; whoever is killed meanwhile.
#[test]
fn what_one_side_does_not_know_the_other_tells() {
    let mut shop = Shop::builder().quick_retries().start();
    let mut db = shop.connect();
    sql(&mut db, TABLE);
    sql(
        &mut db,
        "SELECT klaviyo_upsert_profile('user-' || n || '@shop.example', first_name => 'Klaviyo ' || n, last_name => 'L')
         FROM generate_series(1, 1200) AS n",
    );
    shop.drain(PATIENCE * 2);
    sql(&mut db, "SELECT klaviyo_set_job('profiles', '1 day')");
    pulled(&shop, &mut db, 0);
    sql(
        &mut db,
        "INSERT INTO customers (id, email, first_name, tier, updated_at)
         SELECT n, 'User-' || n || '@shop.example', CASE WHEN n <= 2 THEN 'Shop ' || n END, 'gold',
                now() + CASE n WHEN 1 THEN interval '1 hour' ELSE interval '-1 hour' END
         FROM generate_series(1, 1100) AS n",
    );
    sql(&mut db, MAP);
    let waiting = "SELECT (SELECT count(*) FROM klaviyo.write_back) + (SELECT count(*) FROM klaviyo.mapping WHERE writes_back_after IS NOT NULL)";
    let written = "SELECT count(*) FROM customers WHERE last_name = 'L'";
    for share in [50, 300] {
        shop.eventually("some are written", PATIENCE, || count(&mut db, written) > share);
        if let Some(pid) = runner(&mut db) {
            kill(pid, Signal::SIGKILL);
            wait_for_crash(&mut db);
            shop.cluster.wait_ready();
            db = shop.connect();
        }
    }
    shop.eventually("all are written back", PATIENCE * 2, || count(&mut db, waiting) == 0);
    let names = "SELECT string_agg(first_name || ' ' || last_name || ' ' || tier, ', ' ORDER BY id) FROM customers WHERE id <= 3";
    assert_eq!(query::<String>(&mut db, names, &[]), "Shop 1 L gold, Klaviyo 2 L gold, Klaviyo 3 L gold");
    let all = "SELECT count(*) FROM customers WHERE first_name = 'Klaviyo ' || id AND last_name = 'L'";
    assert_eq!(count(&mut db, all), 1_099);
    assert_eq!(
        conflicts(&mut db),
        "first_name \"Shop 1\" \"Klaviyo 1\" table; first_name \"Shop 2\" \"Klaviyo 2\" klaviyo"
    );
    // Who is a customer only now is told what was known before.
    let before = queued(&mut db);
    sql(&mut db, "INSERT INTO customers (id, email, tier) VALUES (1200, 'user-1200@shop.example', 'new')");
    let name = "SELECT coalesce(first_name, '') FROM customers WHERE id = 1200";
    shop.eventually("he is", PATIENCE, || query::<String>(&mut db, name, &[]) == "Klaviyo 1200");
    shop.drain_soon();
    assert!(queued(&mut db) <= before + 2, "what it is, and what its name begins with");
    let one = shop.sandbox.profiles().into_iter().find(|it| it.attributes["email"] == "user-1@shop.example");
    assert_eq!(one.expect("it is there").attributes["first_name"], "Shop 1");
}

#[test]
fn what_a_table_does_not_take_is_told_and_the_rest_is_written() {
    let (shop, mut db) = shop();
    let id = ada(&shop).id;
    sql(
        &mut db,
        "CREATE FUNCTION no_ockham() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.city = 'Ockham' THEN RAISE EXCEPTION 'no customers in Ockham'; END IF;
             RETURN NEW;
         END $$;
         CREATE FUNCTION jsonb_populate_record(customers, jsonb) RETURNS customers LANGUAGE plpgsql AS $$
         BEGIN
             RAISE EXCEPTION 'taken over';
         END $$;
         CREATE TRIGGER no_ockham BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION no_ockham()",
    );
    let change = json!({"first_name": "Grace", "last_name": "Hopper, the Rear Admiral", "location": {"city": "Ockham"},
                        "properties": {"Points": "many", "Tier": "iron"}});
    shop.sandbox.change_profile(&id, &change);
    pull(&shop, &mut db);
    assert_eq!(row(&mut db), "Grace Lovelace London iron 10.50");
    let told = conflicts(&mut db);
    for part in [
        "last_name \"Lovelace\" \"Hopper, the Rear Admiral\" table value too long",
        "location.city \"London\" \"Ockham\" table no customers in Ockham",
        "properties.Points 10.50 \"many\" table invalid input syntax",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.sync_conflict"), 3);
    // Whoever has the row is not waited for; it is come to again.
    let mut other = shop.connect();
    // Who only refers to it is in nobody's way.
    sql(&mut other, "BEGIN; SELECT FROM customers WHERE id = 7 FOR KEY SHARE");
    shop.sandbox.change_profile(&id, &json!({"first_name": "Augusta"}));
    pull(&shop, &mut db);
    assert_eq!(row(&mut db), "Augusta Lovelace London iron 10.50");
    sql(&mut other, "ROLLBACK; BEGIN; SELECT FROM customers WHERE id = 7 FOR UPDATE");
    shop.sandbox.change_profile(&id, &json!({"first_name": "Ada"}));
    pull(&shop, &mut db);
    let waits = "SELECT count(*) FROM klaviyo.write_back WHERE attempts > 0 AND error LIKE '%lock timeout%'";
    shop.eventually("it is noted", PATIENCE, || count(&mut db, waits) == 1);
    let health = "SELECT count(*) FROM klaviyo_health() WHERE name = 'mapping' AND status = 'warning' AND value LIKE '%1 profiles cannot be written back: %lock timeout%'";
    shop.eventually("it is told", PATIENCE, || count(&mut db, health) == 1);
    sql(&mut other, "ROLLBACK");
    shop.eventually("it is written", PATIENCE, || row(&mut db) == "Ada Lovelace London iron 10.50");
    // Paused, nothing is written.
    sql(&mut db, "SELECT klaviyo_sync_pause('customers')");
    shop.sandbox.change_profile(&id, &json!({"first_name": "Grace"}));
    let before = ended(&mut db);
    sql(&mut db, "SELECT klaviyo_run_job('profiles')");
    shop.eventually("profiles are read", PATIENCE, || ended(&mut db) > before);
    assert_eq!(row(&mut db), "Ada Lovelace London iron 10.50");
    sql(&mut db, "SELECT klaviyo_sync_resume('customers')");
    shop.eventually("it is written", PATIENCE, || row(&mut db) == "Grace Lovelace London iron 10.50");
    // What is no such mapping.
    for statement in [
        "SELECT klaviyo_sync_profiles('customers', email => 'email', direction => 'in', name => 'x')",
        "SELECT klaviyo_sync_profiles('customers', email => 'email', direction => 'both', name => 'x')",
        "SELECT klaviyo_sync_profiles('customers', email => 'email', updated_at => 'updated_at', name => 'x')",
        "SELECT klaviyo_sync_profiles('customers', external_id => 'id', email => 'lower(email)', direction => 'both', updated_at => 'updated_at', name => 'x')",
    ] {
        assert_eq!(refused(&mut db, statement), "KS053", "{statement}");
    }
    // Who is deleted leaves nothing behind.
    sql(&mut db, "DELETE FROM klaviyo.profile");
    assert_eq!(
        count(
            &mut db,
            "SELECT (SELECT count(*) FROM klaviyo.sync_conflict) + (SELECT count(*) FROM klaviyo.write_back)"
        ),
        0
    );
}

#[test]
fn a_profile_is_read_when_it_is_asked_for() {
    let (shop, mut db) = shop();
    let id = ada(&shop).id;
    let asked = || {
        let calls = shop.sandbox.receipt_heads_after(0);
        calls.iter().filter(|call| call.path.ends_with("/api/profiles")).count()
    };
    let before = asked();
    let grace = json!({"first_name": "Grace", "last_name": "\u{1F600}\"'\\"});
    shop.sandbox.change_profile(&id, &grace);
    let read = "SELECT first_name || ' ' || last_name FROM klaviyo_pull_profile(' ADA@shop.example ')";
    assert_eq!(query::<String>(&mut db, read, &[]), "Grace \u{1F600}\"'\\");
    assert_eq!(asked(), before + 1);
    shop.eventually("it is written back", PATIENCE, || {
        row(&mut db) == "Grace \u{1F600}\"'\\ London gold 10.50"
    });
    // Whatever the transaction comes to, and whoever asks at once.
    std::thread::scope(|scope| {
        for n in 0..12 {
            let mut db = shop.connect();
            scope.spawn(move || {
                sql(&mut db, "BEGIN");
                let email = if n % 2 == 0 { "ada@shop.example" } else { "nobody+\"'@shop.example" };
                let found = "SELECT count(*) FROM klaviyo_pull_profile($1)";
                assert_eq!(query::<i64>(&mut db, found, &[&email]), 1 - n % 2);
                sql(&mut db, "ROLLBACK");
            });
        }
    });
    assert!(asked() - before < 20, "{} calls", asked() - before);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.job"), 1, "nobody has planned that");
    // What cannot be, each with its code.
    for (statement, code) in [
        ("SELECT klaviyo_pull_profile('ada')", "KS002"),
        ("SELECT klaviyo_pull_profile(NULL)", "KS002"),
        ("SELECT klaviyo_pull_profile(repeat('a', 250) || '@shop.example')", "KS002"),
        ("SELECT klaviyo_pull_profile('ada@shop.example', 'nobody')", "KS013"),
    ] {
        assert_eq!(refused(&mut db, statement), code, "{statement}");
    }
    let mut other = shop.connect();
    sql(&mut other, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(refused(&mut other, "SELECT klaviyo_pull_profile('ada@shop.example')"), "KS095");
    sql(&mut other, "ROLLBACK");
    shop.sandbox.set_faults(&[Fault::status(403).path("/api/profiles")]);
    let error = db.simple_query("SELECT klaviyo_pull_profile('ada@shop.example')").unwrap_err();
    let error = error.as_db_error().expect("an error of the server's");
    assert_eq!(error.code().code(), "KS095");
    assert!(!error.detail().unwrap_or_default().contains("klaviyo.pull_timeout"), "{error:?}");
    shop.sandbox.set_faults(&[Fault::status(503).path("/api/profiles")]);
    sql(&mut db, "SET klaviyo.pull_timeout = '300ms'");
    assert_eq!(refused(&mut db, "SELECT klaviyo_pull_profile('ada@shop.example')"), "KS095");
    sql(&mut db, "SET klaviyo.pull_timeout = '10min'; SET statement_timeout = '300ms'");
    assert_eq!(refused(&mut db, "SELECT klaviyo_pull_profile('ada@shop.example')"), "57014");
    // Nobody has that address any more, whatever is known here.
    shop.sandbox.clear_faults();
    sql(&mut db, "RESET statement_timeout");
    shop.sandbox.change_profile(&id, &json!({"email": "grace@shop.example"}));
    let found = "SELECT count(*) FROM klaviyo_pull_profile('ada@shop.example')";
    assert_eq!(count(&mut db, found), 0);
    shop.sandbox.change_profile(&id, &json!({"email": "ada@shop.example"}));
    assert_eq!(count(&mut db, found), 1);
    shop.sandbox.set_faults(&[Fault::status(503).path("/api/profiles")]);
    sql(&mut db, "SET statement_timeout = '300ms'");
    assert_eq!(refused(&mut db, "SELECT klaviyo_pull_profile('ada@shop.example')"), "57014");
    // Nobody waits for it any more: then it is forgotten, with the address.
    sql(&mut db, "RESET statement_timeout");
    shop.eventually("they are forgotten", PATIENCE, || {
        // A quarter of an hour later, whatever it was about to do.
        sql(
            &mut db,
            "UPDATE klaviyo.job_run
             SET started_at = started_at - interval '1 hour', run_at = run_at - interval '1 hour',
                 last_ended_at = last_ended_at - interval '1 hour'
             WHERE job LIKE 'profile:%'",
        );
        count(&mut db, "SELECT count(*) FROM klaviyo.job_plan WHERE job LIKE 'profile:%'") == 0
    });
    shop.sandbox.clear_faults();
    assert_eq!(query::<String>(&mut db, read, &[]), "Grace \u{1F600}\"'\\");
    shop.assert_requests_conform();
}
