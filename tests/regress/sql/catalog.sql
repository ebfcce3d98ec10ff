-- The catalog's functions, and klaviyo_create_coupon_code().
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;

SELECT klaviyo_upsert_catalog_item(
    'S-1', 'Shirt', 'Of linen, "white"', 'https://shop.example/s-1', 19.90, images => '{https://shop.example/s-1.png}',
    categories => '{Tops,Sale}', custom_metadata => '{"brand": "Acme"}', published => true, clear => '{image_full_url}'
) IS NOT NULL AS queued;
SELECT klaviyo_upsert_catalog_item('S-1', price => 17.50) IS NOT NULL AS queued;
SELECT klaviyo_upsert_catalog_variant(
    'S-1-M', 'S-1', 'Shirt, M', 'Of linen', 'S1M', 'https://shop.example/s-1', 19.90, 7, 1
) IS NOT NULL AS queued;
SELECT klaviyo_upsert_catalog_variant('S-1-M', inventory_quantity => 0) IS NOT NULL AS queued;
SELECT klaviyo_upsert_catalog_category('Tops', 'Tops & shirts') IS NOT NULL AS queued;
SELECT klaviyo_delete_catalog_item('S-1'), klaviyo_delete_catalog_variant('S-1-M'), klaviyo_delete_catalog_category('Tops') \g /dev/null
SELECT klaviyo_create_coupon_code('SUMMER', 'A-1') IS NOT NULL AS queued;
SELECT klaviyo_create_coupon_code('SUMMER', 'A-2', '2027-01-01 00:00+00') IS NOT NULL AS queued;
SELECT kind, key, payload FROM klaviyo.outbox ORDER BY seq;
DELETE FROM klaviyo.outbox;
SELECT klaviyo_upsert_catalog_item(NULL, 'Shirt');
SELECT klaviyo_upsert_catalog_item(' ', 'Shirt');
SELECT klaviyo_upsert_catalog_item(repeat('x', 201), 'Shirt');
SELECT klaviyo_upsert_catalog_item('S-1', price => 'NaN');
SELECT klaviyo_upsert_catalog_item('S-1', custom_metadata => '[1]');
SELECT klaviyo_upsert_catalog_item('S-1', custom_metadata => jsonb_build_object('a', repeat('x', 100000)));
SELECT klaviyo_upsert_catalog_item('S-1', description => repeat('x', 1000000));
SELECT klaviyo_upsert_catalog_item('S-1', clear => '{title}');
SELECT klaviyo_upsert_catalog_item('S-1', price => 1, clear => '{price}');
SELECT klaviyo_upsert_catalog_item('S-1', categories => '{NULL}');
SELECT klaviyo_upsert_catalog_variant('S-1-M', '');
SELECT klaviyo_upsert_catalog_category(NULL, 'Tops');
SELECT klaviyo_delete_catalog_item('');
SELECT klaviyo_create_coupon_code('', 'A');
SELECT klaviyo_create_coupon_code('SUMMER', NULL);
SELECT klaviyo_create_coupon_code('SUMMER', 'A', 'infinity');
SELECT klaviyo_create_coupon_code('SUMMER', 'A', account => 'none');
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_upsert_catalog_variant('', 'S-1', price => 2.50, images => '{a}', custom_metadata => '{"a": 1}', published => false) IS NOT NULL AS buried;
SELECT klaviyo_create_coupon_code('SUMMER', ' ', '2027-01-01 00:00+00') IS NOT NULL AS buried;
SET timezone = 'UTC';
SELECT kind, code, payload FROM klaviyo.dead_letter ORDER BY kind;
SELECT count(*) FROM klaviyo.outbox;
