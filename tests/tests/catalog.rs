//! The catalog and coupons' codes: one by one, and many in jobs that are followed to their end.

use harness::{Fault, PATIENCE, Receipt, Shop, count, query, queued, sql, status};

/// One that keeps Klaviyo's limits, beyond which jobs are made.
fn limited() -> Shop {
    Shop::builder().quick_retries().rate_share(1.0).start()
}

/// One with products, and a trigger as that of the README.
fn shop() -> Shop {
    let shop = limited();
    sql(
        &mut shop.connect(),
        "CREATE TABLE products (id text PRIMARY KEY, name text NOT NULL, price numeric NOT NULL, category text);
         CREATE FUNCTION to_catalog() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF tg_op = 'DELETE' THEN
                 PERFORM klaviyo_delete_catalog_item(old.id);
             ELSE
                 PERFORM klaviyo_upsert_catalog_item(
                     new.id, new.name, 'All about ' || new.name, 'https://shop.example/' || new.id, new.price,
                     categories => array_remove(ARRAY[new.category], NULL)
                 );
             END IF;
             RETURN NULL;
         END
         $$;
         CREATE TRIGGER to_catalog AFTER INSERT OR UPDATE OR DELETE ON products FOR EACH ROW EXECUTE FUNCTION to_catalog()",
    );
    shop
}

fn id(external_id: impl std::fmt::Display) -> String {
    format!("$custom:::$default:::{external_id}")
}

/// How many entries each job of these was made of, the first first.
fn jobs(shop: &Shop, path: &str, members: &str) -> Vec<usize> {
    let receipts = shop.sandbox.receipts();
    let made = receipts
        .iter()
        .filter(|receipt| receipt.method == "POST" && receipt.path == path && receipt.accepted);
    let pointer = format!("/data/attributes/{members}/data");
    let entries =
        |receipt: &Receipt| receipt.body.pointer(&pointer).and_then(|list| list.as_array().map(Vec::len));
    made.map(|receipt| entries(receipt).expect("a list of entries")).collect()
}

#[test]
fn a_table_of_products_becomes_a_catalog() {
    let shop = shop();
    let mut db = shop.connect();
    sql(
        &mut db,
        "SELECT klaviyo_upsert_catalog_category(c, 'All ' || c) FROM unnest('{Tops,Hats}'::text[]) AS c",
    );
    assert_eq!(shop.drain_soon().dead, 0);
    sql(
        &mut db,
        "INSERT INTO products SELECT n, 'Product ' || n, n, CASE WHEN n % 2 = 0 THEN 'Tops' ELSE 'Hats' END
           FROM generate_series(1, 250) AS n;
         SELECT klaviyo_upsert_catalog_variant(n || '-M', n::text, 'M', 'Of size M', 'sku-' || n, 'https://shop.example', n, 7)
           FROM generate_series(1, 250) AS n",
    );
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    let catalog = shop.sandbox.catalog();
    assert_eq!((catalog.items.len(), catalog.variants.len(), catalog.categories.len()), (250, 250, 2));
    assert_eq!(catalog.categories[0].items.len(), 125);
    let made = jobs(&shop, "/api/catalog-item-bulk-create-jobs", "items");
    assert!(made.len() >= 2 && made.iter().all(|entries| *entries <= 100), "{made:?}");
    let kinds =
        "SELECT count(*) FROM klaviyo.delivery WHERE kind = 'catalog_item' AND klaviyo_id IS NOT NULL";
    assert!(count(&mut db, kinds) > 200, "by the ids of their jobs");

    // What is there already is changed, and what is gone is gone.
    sql(
        &mut db,
        "UPDATE products SET price = price + 1000, category = 'Tops';
         DELETE FROM products WHERE id::integer > 100;
         SELECT klaviyo_upsert_catalog_variant(n || '-M', inventory_quantity => 0) FROM generate_series(1, 100) AS n;
         SELECT klaviyo_delete_catalog_variant(n || '-M') FROM generate_series(91, 120) AS n",
    );
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    let catalog = shop.sandbox.catalog();
    assert_eq!((catalog.items.len(), catalog.variants.len()), (100, 90), "with its item a variant goes");
    assert!(catalog.items.iter().all(|item| item.attributes["price"].as_f64() > Some(1_000.0)));
    assert!(catalog.items.iter().all(|item| item.categories == [id("Tops")]));
    assert!(
        catalog.variants.iter().all(|variant| variant.attributes["inventory_quantity"].as_f64() == Some(0.0))
    );
    // A part of one, and what is emptied.
    let part = queued(&mut db, "klaviyo_upsert_catalog_item('7', title => 'Seven', clear => '{price}')");
    shop.wait_for_status(&part, "accepted");
    let catalog = shop.sandbox.catalog();
    let seven = catalog.items.iter().find(|item| item.id == id(7)).expect("item 7");
    assert!(seven.attributes["title"] == "Seven" && seven.attributes["price"].is_null(), "{seven:?}");
    assert_eq!(seven.attributes["description"], "All about Product 7");
    let nothing = queued(&mut db, "klaviyo_upsert_catalog_item('101', title => 'Gone')");
    shop.wait_for_status(&nothing, "dead");
    shop.assert_requests_conform();
}

#[test]
fn one_bad_entry_harms_only_itself() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::refuse("Product 77\"")]);
    sql(&mut db, "INSERT INTO products SELECT n, 'Product ' || n, n, NULL FROM generate_series(1, 200) AS n");
    sql(
        &mut db,
        "SELECT klaviyo_upsert_catalog_variant(n || '-M', n::text, 'M', 'D', 'S', 'https://shop.example', 1, 1)
           FROM generate_series(190, 210) AS n",
    );
    let backlog = shop.drain(PATIENCE);
    let catalog = shop.sandbox.catalog();
    assert_eq!((catalog.items.len(), catalog.variants.len()), (199, 11), "{backlog:?}");
    let dead = "SELECT string_agg(key[1], ' ' ORDER BY seq) FROM klaviyo.dead_letter WHERE kind = $1";
    assert_eq!(query::<String>(&mut db, dead, &[&"catalog_item"]), "catalog_item:77");
    let of_nothing: Vec<String> = (201..=210).map(|n| format!("catalog_variant:{n}-M")).collect();
    assert_eq!(query::<String>(&mut db, dead, &[&"catalog_variant"]), of_nothing.join(" "));
}

#[test]
fn no_crash_and_no_lost_answer_leaves_one_out() {
    let mut shop = shop();
    shop.cluster.set("klaviyo.request_timeout", "2s");
    let mut db = shop.connect();
    shop.sandbox.make_coupon("SUMMER");
    shop.sandbox.set_faults(&[
        Fault::reset_after().method("POST").path("/api/catalog-item-bulk-create-jobs").times(1),
        Fault::status(500).method("POST").path("/api/catalog-items").times(1),
        Fault::hang_after().method("POST").path("/api/coupon-code-bulk-create-jobs").times(1),
    ]);
    sql(
        &mut db,
        "SELECT klaviyo_upsert_catalog_item(n::text, 'T', 'D', 'https://shop.example') FROM generate_series(1, 300) AS n;
         SELECT klaviyo_create_coupon_code('SUMMER', 'code-' || n) FROM generate_series(1, 1500) AS n",
    );
    let path = "/api/coupon-code-bulk-create-jobs";
    shop.eventually("codes are on their way", PATIENCE, || {
        shop.sandbox.receipts().iter().any(|receipt| receipt.method == "POST" && receipt.path == path)
    });
    shop.crash_worker(&mut db);
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    assert_eq!(shop.sandbox.catalog().items.len(), 300);
    assert_eq!(shop.sandbox.coupons()[0].codes.len(), 1_500);
}

/// What a worker that crashed has left at Klaviyo is done there later, and must not undo what came after.
#[test]
fn a_job_that_was_left_undoes_nothing() {
    let mut shop = Shop::builder()
        .quick_retries()
        .rate_share(1.0)
        .sandbox(["--job-queued", "3000", "--job-processing", "0"])
        .start();
    let mut db = shop.connect();
    let upsert = |price: i32| {
        format!(
            "SELECT klaviyo_upsert_catalog_item(n::text, 'T', 'D', 'https://shop.example', {price}) FROM generate_series(1, 250) AS n"
        )
    };
    sql(&mut db, &upsert(1));
    shop.drain(PATIENCE);
    sql(&mut db, &upsert(2));
    let path = "/api/catalog-item-bulk-update-jobs";
    let is_made = |shop: &Shop| {
        let receipts = shop.sandbox.receipts();
        receipts.iter().any(|receipt| receipt.method == "POST" && receipt.path == path && receipt.accepted)
    };
    shop.eventually("a job is made", PATIENCE, || is_made(&shop));
    shop.crash_worker(&mut db);
    db = shop.connect();
    sql(&mut db, "SELECT klaviyo_upsert_catalog_item(n::text, price => 3) FROM generate_series(1, 250) AS n");
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    // Long after whatever was left must have been done.
    std::thread::sleep(std::time::Duration::from_secs(4));
    let items = shop.sandbox.catalog().items;
    let prices: Vec<_> = items.iter().map(|item| item.attributes["price"].as_f64()).collect();
    assert!(prices.len() == 250 && prices.iter().all(|price| *price == Some(3.0)), "{prices:?}");
}

#[test]
fn codes_come_from_a_table() {
    let shop = limited();
    let mut db = shop.connect();
    shop.sandbox.make_coupon("SUMMER");
    sql(&mut db, "CREATE TABLE codes AS SELECT 'S-' || n AS code FROM generate_series(1, 2500) AS n");
    sql(&mut db, "SELECT klaviyo_create_coupon_code('SUMMER', code, '2030-01-01 00:00+00') FROM codes");
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    let coupons = shop.sandbox.coupons();
    assert_eq!(coupons[0].codes.len(), 2_500);
    assert!(coupons[0].codes.iter().all(|code| code.expires_at.starts_with("2030-01-01")));
    let made = jobs(&shop, "/api/coupon-code-bulk-create-jobs", "coupon-codes");
    assert!(made.contains(&1_000) && made.iter().all(|codes| *codes <= 1_000), "{made:?}");
    // Once more is as good as once, and of no coupon there are no codes.
    let again = queued(&mut db, "klaviyo_create_coupon_code('SUMMER', 'S-7')");
    let nowhere = queued(&mut db, "klaviyo_create_coupon_code('WINTER', 'S-7')");
    shop.wait_for_status(&again, "accepted");
    shop.wait_for_status(&nowhere, "dead");
    sql(
        &mut db,
        "SELECT klaviyo_create_coupon_code('SUMMER', code) FROM codes;
         SELECT klaviyo_create_coupon_code('WINTER', code) FROM codes WHERE code LIKE 'S-1_'",
    );
    assert_eq!(shop.drain(PATIENCE).dead, 1 + 10);
    assert_eq!(shop.sandbox.coupons()[0].codes.len(), 2_500);
    assert_eq!(status(&mut db, &again), "accepted");
    shop.assert_requests_conform();
}
