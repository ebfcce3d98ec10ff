//! Tables whose rows are sent: from the statement that writes them to Klaviyo, in dumps, and beside those who write.

use std::io::Write;
use std::process::Stdio;
use std::thread;

use harness::{Cluster, Fault, Ledger, PATIENCE, Shop, count, eventually, explain, query, refused, sql};
use serde_json::json;

/// Orders and their customers.
const SHOP: &str = "
    CREATE TABLE customers (id bigint PRIMARY KEY, email text NOT NULL);
    CREATE TABLE orders (
        number text PRIMARY KEY, customer_id bigint, total numeric(10, 2), placed_at timestamptz DEFAULT now(), items jsonb
    );
    INSERT INTO customers SELECT n, format('customer-%s@shop.example', n) FROM generate_series(1, 50) AS n";

/// What is told of them.
const MAP: &str = r#"
    SELECT klaviyo_sync_events('orders', 'Placed Order',
        email          => '(SELECT c.email FROM customers AS c WHERE c.id = row.customer_id)',
        value          => 'total',
        value_currency => '''EUR''',
        unique_id      => 'number',
        event_time     => 'placed_at',
        properties     => '{"OrderId": "number", "Items": "items"}')"#;

/// Orders with these numbers, in one statement.
fn place(first: i64, last: i64) -> String {
    format!(
        r#"INSERT INTO orders (number, customer_id, total, items)
           SELECT n, 1 + n % 50, n + 0.10, '[{{"sku": "tea", "price": 1.10}}]'
           FROM generate_series({first}, {last}) AS n"#
    )
}

#[test]
fn what_is_inserted_is_sent() {
    let shop = Shop::start();
    let mut db = shop.connect();
    sql(&mut db, SHOP);
    sql(&mut db, MAP);
    // Many at once, which ride, one by one, which do not, and some that never were.
    sql(&mut db, &place(1, 3_000));
    for order in 3_001..=3_010 {
        sql(&mut db, &place(order, order));
    }
    sql(&mut db, &format!("BEGIN; {}; ROLLBACK", place(4_001, 4_010)));
    assert_eq!(shop.drain_soon().dead, 0);
    let messages = shop.sandbox.messages();
    let orders = Ledger::new(&messages, "data.attributes.properties.OrderId");
    orders.assert_accepted_exactly(1..=3_010);
    let order = orders.of("7")[0];
    let at = |path: &str| order.at(&format!("data.attributes.{path}")).expect(path).to_string();
    assert_eq!(at("profile.data.attributes.email"), r#""customer-8@shop.example""#);
    assert_eq!(at("value"), "7.1");
    assert_eq!(at("unique_id"), r#""7""#);
    assert_eq!(at("properties.Items"), r#"[{"price":1.1,"sku":"tea"}]"#);
    shop.assert_requests_conform();
}

#[test]
fn a_dump_carries_what_is_attached() {
    let cluster = Cluster::builder().setting("klaviyo.enabled", "off").start();
    cluster.create_database("shop");
    cluster.psql(
        "shop",
        "CREATE EXTENSION klaviyo_sync; SELECT klaviyo_set_account(); SELECT klaviyo_arm_account()",
    );
    cluster.psql("shop", &format!("{SHOP}; {MAP}; {}", place(1, 5)));
    cluster.psql(
        "shop",
        "CREATE TABLE visits (who text, page text) PARTITION BY LIST (page);
         CREATE TABLE visits_home PARTITION OF visits FOR VALUES IN ('home');
         SELECT klaviyo_sync_events('visits', 'Viewed Page', external_id => 'who')",
    );
    let shown =
        "SELECT id, relation, name, spec, klaviyo_sync_show(relation, name) FROM klaviyo.sync ORDER BY id";
    let (queued, state) = ("SELECT count(*) FROM klaviyo.outbox", "SELECT DISTINCT state FROM klaviyo.sync");
    // As a whole, and first what there is and then what is in it, when the triggers are there already.
    for (copy, dumps) in [("copy", vec![vec![]]), ("parts", vec![vec!["-s"], vec!["-a"]])] {
        cluster.create_database(copy);
        for options in dumps {
            restore(&cluster, copy, &options);
        }
        assert_eq!(cluster.psql(copy, shown), cluster.psql("shop", shown));
        assert!(cluster.psql(copy, shown).contains("Placed Order"));
        // Restoring wrote orders, which the dump had messages of already. Nobody has said yet that new ones are to be sent.
        assert_eq!(cluster.psql(copy, state), "copied");
        cluster.psql(copy, &place(6, 7));
        cluster.psql(copy, "INSERT INTO visits_home VALUES ('v', 'home')");
        assert_eq!(cluster.psql(copy, queued), "5");
        cluster.psql(copy, "SELECT klaviyo_arm_account()");
        assert_eq!(cluster.psql(copy, state), "on");
        cluster.psql(copy, &place(8, 9));
        cluster.psql(copy, "INSERT INTO visits_home VALUES ('v', 'home')");
        assert_eq!(cluster.psql(copy, queued), "8");
    }
    let function = "SELECT count(*) FROM pg_proc WHERE proname ~ '^klaviyo_sync_[0-9]'";
    assert_eq!(cluster.psql("parts", function), "2");
    cluster.psql("parts", "DROP TABLE orders");
    assert_eq!(cluster.psql("parts", function), "1");
    // The next mapping has a number of its own.
    assert_eq!(cluster.psql("copy", "SELECT klaviyo_sync_events('customers', 'x', email => 'email')"), "3");
    assert_eq!(cluster.psql("copy", "SELECT klaviyo_sync_detach('orders')"), "1");
    // It takes what is left along.
    cluster.psql("copy", "DROP EXTENSION klaviyo_sync");
    assert_eq!(cluster.psql("copy", "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"), "0");
    cluster.psql("copy", "INSERT INTO customers VALUES (100, 'late@shop.example')");
}

/// Restores what pg_dump dumps of the shop.
fn restore(cluster: &Cluster, copy: &str, options: &[&str]) {
    let dump = cluster.client("pg_dump").args(["-d", "shop"]).args(options).output();
    let dump = dump.expect("pg_dump can be run");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let mut psql = cluster.psql_command(copy).stdin(Stdio::piped()).spawn().expect("psql can be run");
    psql.stdin.take().expect("psql reads").write_all(&dump.stdout).expect("psql reads all of it");
    assert!(psql.wait().expect("psql ends").success(), "the dump cannot be restored");
}

#[test]
fn what_logical_replication_applies_is_captured_but_not_what_it_copies_first() {
    let cluster =
        Cluster::builder().setting("wal_level", "logical").setting("klaviyo.enabled", "off").start();
    for database in ["producer", "shop"] {
        cluster.create_database(database);
        cluster.psql(database, "CREATE TABLE orders (id int PRIMARY KEY, who text, status text)");
        cluster.psql(database, "CREATE TABLE others (id int PRIMARY KEY, who text)");
    }
    cluster.psql("shop", "CREATE EXTENSION klaviyo_sync; SELECT klaviyo_set_account()");
    cluster.psql(
        "shop",
        r#"SELECT klaviyo_sync_events('orders', 'Order', external_id => 'who', unique_id => 'id || status',
                                      "when" => 'status <> ''old''', "on" => 'insert or update', replicated => true);
           SELECT klaviyo_sync_events('orders', 'Gone', external_id => 'who', "on" => 'delete', replicated => true);
           SELECT klaviyo_sync_profiles('orders', external_id => 'who', title => 'status', replicated => true);
           SELECT klaviyo_sync_profiles('others', external_id => 'who', properties => '["id"]')"#,
    );
    let write = |from: i32, to: i32| {
        let numbers = format!("generate_series({from}, {to}) AS n");
        cluster.psql("producer", &format!("INSERT INTO orders SELECT n, 'w' || n, 'new' FROM {numbers}"));
        cluster.psql("producer", &format!("INSERT INTO others SELECT n, 'w' || n FROM {numbers}"));
    };
    write(1, 3);
    cluster.psql("producer", "CREATE PUBLICATION shop FOR ALL TABLES");
    cluster.psql("producer", "SELECT pg_create_logical_replication_slot('shop', 'pgoutput')");
    let subscription = format!(
        "CREATE SUBSCRIPTION shop CONNECTION 'host={} port={} dbname=producer user=postgres'
         PUBLICATION shop WITH (create_slot = false, slot_name = 'shop')",
        cluster.directory().display(),
        cluster.port()
    );
    cluster.psql("shop", &subscription);
    let mut db = cluster.connect("shop");
    let synced = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'r'";
    eventually("the tables are copied", PATIENCE, || count(&mut db, synced) == 2);
    assert_eq!(count(&mut db, "SELECT count(*) FROM orders"), 3);
    write(4, 5);
    cluster.psql("producer", "UPDATE orders SET status = 'old' WHERE id = 1");
    cluster.psql("producer", "UPDATE orders SET status = 'again' WHERE id = 1");
    cluster.psql("producer", "DELETE FROM orders WHERE id = 2");
    write(6, 6);
    let applied = "SELECT count(*) FROM others WHERE id = 6";
    eventually("what was written is applied", PATIENCE, || count(&mut db, applied) == 1);
    // And what is written here.
    sql(&mut db, "INSERT INTO orders VALUES (7, 'w7', 'new')");
    let of = |metric: &str, what: &str| {
        let events = format!(
            "SELECT string_agg({what}, ' ' ORDER BY seq) FROM klaviyo.outbox
             WHERE payload #>> '{{event,metric,data,attributes,name}}' = '{metric}'"
        );
        cluster.psql("shop", &events)
    };
    assert_eq!(of("Order", "payload #>> '{event,unique_id}'"), "4new 5new 1again 6new 7new");
    assert_eq!(of("Gone", "key[1]"), "external_id:w2");
    let profiles =
        "SELECT string_agg(payload ->> 'external_id' || ' ' || (payload ->> 'title'), ', ' ORDER BY seq)
                    FROM klaviyo.outbox WHERE kind = 'profile'";
    let expected = "w4 new, w5 new, w1 old, w1 again, w6 new, w7 new";
    assert_eq!(cluster.psql("shop", profiles), expected, "and nothing of what is not asked for");
    cluster.psql("shop", "DROP SUBSCRIPTION shop");
}

#[test]
fn attaching_does_not_hold_up_those_who_write() {
    let shop = Shop::start();
    let mut db = shop.connect();
    sql(&mut db, SHOP);
    let mut writer = shop.connect();
    sql(&mut writer, &format!("BEGIN; {}", place(1, 1)));
    // It would wait for the writer, and all later ones behind it.
    assert_eq!(refused(&mut db, MAP), "55P03");
    assert_eq!(query::<String>(&mut db, "SHOW lock_timeout", &[]), "0");
    sql(&mut writer, "COMMIT");
    sql(&mut db, MAP);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.mapping"), 1);
    let detach = "SELECT klaviyo_sync_detach('orders')";
    sql(&mut writer, &format!("BEGIN; {}", place(2, 2)));
    let error = db.batch_execute(&format!("SET lock_timeout = '20ms'; {detach}")).expect_err("it waits");
    assert!(explain(&error).contains("lock timeout"), "{}", explain(&error));
    sql(&mut writer, "COMMIT");
    sql(&mut db, detach);
}

#[test]
fn two_cannot_attach_the_same() {
    let shop = Shop::start();
    let mut db = shop.connect();
    sql(&mut db, SHOP);
    sql(&mut db, &format!("BEGIN; {MAP}"));
    let mut second = shop.connect();
    let refused = thread::spawn(move || refused(&mut second, &format!("SET lock_timeout = '1min'; {MAP}")));
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass";
    shop.eventually("the second waits", PATIENCE, || count(&mut db, waiting) == 1);
    sql(&mut db, "COMMIT");
    assert_eq!(refused.join().expect("the second ends"), "KS053");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.sync"), 1);
}

#[test]
fn what_changes_is_sent() {
    let shop = Shop::start();
    let mut db = shop.connect();
    sql(&mut db, SHOP);
    sql(
        &mut db,
        "ALTER TABLE customers ADD name text, ADD points numeric, ADD seen_at timestamptz;
         SELECT klaviyo_sync_profiles('customers', email => 'email', first_name => 'name', properties => '[\"points\"]');
         SELECT klaviyo_sync_events('customers', 'Left', email => 'email', \"on\" => 'delete')",
    );
    // Each way there is to write a row, and one customer of each, and all once more.
    sql(&mut db, "UPDATE customers SET seen_at = now()");
    sql(&mut db, "UPDATE customers SET name = 'n' || id, points = id");
    sql(
        &mut db,
        "MERGE INTO customers AS c
         USING (VALUES (1, 'Merged'), (2, NULL), (101, 'New')) AS s (id, name) ON s.id = c.id
         WHEN MATCHED AND s.name IS NULL THEN DELETE
         WHEN MATCHED THEN UPDATE SET name = s.name
         WHEN NOT MATCHED THEN INSERT (id, email, name) VALUES (s.id, 'new@shop.example', s.name)",
    );
    sql(&mut db, "UPDATE customers SET points = NULL WHERE id = 3");
    sql(&mut db, "BEGIN; UPDATE customers SET points = 0; ROLLBACK");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.sync"), 2);
    assert_eq!(shop.drain_soon().dead, 0);
    let profiles = shop.sandbox.profiles();
    let of = |email: &str| {
        let profile = profiles.iter().find(|it| it.attributes["email"] == email).expect(email);
        let attributes = &profile.attributes;
        (attributes["first_name"].clone(), attributes["properties"]["points"].clone())
    };
    assert_eq!(of("customer-1@shop.example"), (json!("Merged"), json!(1)));
    assert_eq!(of("customer-2@shop.example"), (json!("n2"), json!(2)));
    assert_eq!(of("customer-3@shop.example"), (json!("n3"), json!(null)));
    assert_eq!(of("new@shop.example"), (json!("New"), json!(null)));
    assert_eq!(profiles.len(), 51);
    assert_eq!(shop.sandbox.events().len(), 1);
    shop.assert_requests_conform();
}

/// A transaction whose snapshot is older than the mapping has its rows captured, and noted, like any.
#[test]
fn a_transaction_that_sees_nothing_of_a_mapping_is_captured() {
    let shop = Shop::builder().setting("klaviyo.enabled", "off").start();
    let mut db = shop.connect();
    sql(
        &mut db,
        "CREATE TABLE orders (id text PRIMARY KEY); INSERT INTO orders VALUES ('m');
         CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100)",
    );
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut old = shop.connect();
        sql(&mut old, &format!("BEGIN ISOLATION LEVEL {level}; SELECT 1"));
        sql(
            &mut db,
            "SELECT klaviyo_sync_events('orders', 'Ordered', external_id => 'id'),
                    klaviyo_sync_events('parts', 'Parted', external_id => 'id')",
        );
        sql(
            &mut old,
            "INSERT INTO orders VALUES ('a'); INSERT INTO parts_1 VALUES (1); INSERT INTO parts VALUES (2)",
        );
        sql(&mut old, "DELETE FROM orders WHERE id = 'a'; DELETE FROM parts; COMMIT");
        assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.outbox"), 3, "{level}");
        assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.captured_key"), 1, "{level}");
        sql(&mut db, "DELETE FROM klaviyo.outbox; DELETE FROM klaviyo.captured_key");
        sql(&mut db, "SELECT klaviyo_sync_detach('orders'), klaviyo_sync_detach('parts')");
    }
}

/// Whoever deletes a row that is mapped so has Klaviyo forget the person, after all that was queued about him before.
#[test]
fn a_deleted_row_can_have_klaviyo_forget_the_person() {
    let shop = Shop::builder().setting("klaviyo.retry_max_delay", "2s").start();
    let mut db = shop.connect();
    sql(&mut db, "CREATE TABLE users (id int PRIMARY KEY, email text, name text)");
    sql(
        &mut db,
        "SELECT klaviyo_sync_profiles('users', email => 'email', first_name => 'name', on_delete => 'request_deletion')",
    );
    sql(
        &mut db,
        "INSERT INTO users SELECT n, format('user-%s@shop.example', n), 'U' FROM generate_series(1, 5) AS n",
    );
    assert_eq!(shop.drain_soon().dead, 0);
    assert_eq!(shop.sandbox.profiles().len(), 5);
    // An answer that is lost is asked for again, which changes nothing.
    let path = "/api/data-privacy-deletion-jobs";
    shop.sandbox.set_faults(&[Fault::reset_after().path(path).times(1)]);
    sql(&mut db, "UPDATE users SET name = 'V' WHERE id = 2; DELETE FROM users WHERE id = 2");
    sql(&mut db, "BEGIN; DELETE FROM users WHERE id = 3; ROLLBACK");
    assert_eq!(shop.drain_soon().dead, 0);
    let receipts = shop.sandbox.receipts();
    let about_2: Vec<&str> = receipts
        .iter()
        .filter(|receipt| receipt.status.is_none_or(|status| status < 300))
        .filter(|receipt| format!("{:?}", receipt.body).contains("user-2@"))
        .map(|receipt| receipt.path.as_str())
        .collect();
    assert_eq!(about_2.iter().rev().take(2).collect::<Vec<_>>(), [&path, &path]);
    let left: Vec<String> =
        shop.sandbox.profiles().iter().map(|it| it.attributes["email"].to_string()).collect();
    assert_eq!(left.len(), 4);
    assert!(!left.iter().any(|email| email.contains("user-2@")), "{left:?}");
    // Who comes back is somebody new, once the shop says so.
    sql(&mut db, "INSERT INTO users VALUES (2, 'user-2@shop.example', 'W')");
    assert_eq!(shop.drain_soon().dead, 0);
    assert_eq!(shop.sandbox.profiles().len(), 4);
    sql(&mut db, "SELECT klaviyo_readmit('user-2@shop.example'); UPDATE users SET name = 'X' WHERE id = 2");
    assert_eq!(shop.drain_soon().dead, 0);
    assert_eq!(shop.sandbox.profiles().len(), 5);
    shop.assert_requests_conform();
}

/// Columns that are computed when they are read, of PostgreSQL 18, are none that a trigger sees.
#[test]
fn a_column_that_is_computed_when_it_is_read_cannot_be_mapped() {
    let cluster = Cluster::builder().setting("klaviyo.enabled", "off").start();
    if cluster.bin().major() < 18 {
        return;
    }
    cluster.create_database("shop");
    cluster.psql("shop", "CREATE EXTENSION klaviyo_sync; SELECT klaviyo_set_account()");
    cluster.psql(
        "shop",
        "CREATE TABLE orders (id int PRIMARY KEY, net numeric, gross numeric GENERATED ALWAYS AS (net * 1.19) VIRTUAL)",
    );
    let mut db = cluster.connect("shop");
    let map = |value: &str| {
        format!(
            "SELECT klaviyo_sync_events('orders', 'x', external_id => 'id', value => '{value}', properties => '\"*\"')"
        )
    };
    assert_eq!(refused(&mut db, &map("gross")), "KS051");
    sql(&mut db, &map("net * 1.19"));
    sql(&mut db, "INSERT INTO orders (id, net) VALUES (1, 100)");
    let payload =
        "SELECT (payload -> 'event' ->> 'value') || (payload #>> '{event,properties}') FROM klaviyo.outbox";
    assert_eq!(cluster.psql("shop", payload), r#"119.00{"id":1,"net":100}"#);
}
