-- klaviyo_track_purchase(): an order as Klaviyo's own integrations tell of it.
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;
CREATE VIEW queued AS SELECT kind, account, key, jsonb_pretty(payload::jsonb) AS payload FROM klaviyo.outbox ORDER BY seq;

SELECT klaviyo_track_purchase(
    'ada@shop.example', 'order-17', 79.70,
    '[{"product_id": "A1", "sku": "A1-M", "name": "Shirt", "quantity": 2, "price": 19.90, "categories": ["Tops", "Sale"], "brand": "Acme", "url": "https://shop.example/a1", "image_url": "https://shop.example/a1.png", "colour": "red"},
      {"product_id": 7, "name": "Hat", "price": 39.90, "row_total": 35.00, "categories": "Hats"},
      {"product_id": "A1", "price": 4.90, "quantity": null, "name": "Shirt"}]',
    currency => 'EUR', discount_code => 'AUTUMN', discount_value => 4.90, properties => '{"Channel": "web", "DiscountCode": "SPRING"}',
    event_time => '2026-11-01 12:00+00', external_id => '42', profile => '{"first_name": "Ada"}'
) AS placed \gset
SELECT :'placed' = message_id AS placed FROM klaviyo.outbox ORDER BY seq LIMIT 1;
\a\t
SELECT * FROM queued;
\a\t
DELETE FROM klaviyo.outbox;

-- As little as there can be.
SELECT klaviyo_track_purchase(order_id => '18', phone_number => '+15005550006') IS NOT NULL AS queued;
SELECT klaviyo_track_purchase('ada@shop.example', '19', items => '[]') IS NOT NULL AS queued;
SELECT payload #>> '{event,properties}' AS properties, payload #>> '{event,unique_id}' AS unique_id, payload #>> '{event,value}' AS value FROM klaviyo.outbox;
DELETE FROM klaviyo.outbox;

-- Whatever underscores there are in ids: each has a unique_id of its own.
SELECT klaviyo_track_purchase('ada@shop.example', 'A', items => '[{"product_id": "B"}, {"product_id": "B"}, {"product_id": "B_2"}, {"product_id": "B%5F2"}, {"product_id": "B_C"}]') IS NOT NULL AS queued;
SELECT klaviyo_track_purchase('ada@shop.example', 'A_B', items => '[{"product_id": "C"}]') IS NOT NULL AS queued;
SELECT payload #>> '{event,unique_id}' AS unique_id FROM klaviyo.outbox WHERE payload #>> '{event,properties,ProductID}' IS NOT NULL ORDER BY seq;
DELETE FROM klaviyo.outbox;

-- What is none.
SELECT klaviyo_track_purchase('ada@shop.example', total => 5);
SELECT klaviyo_track_purchase('ada@shop.example', ' ', 5);
SELECT klaviyo_track_purchase('ada@shop.example', '20', 5, '{}');
SELECT klaviyo_track_purchase('ada@shop.example', '20', 5, '[{"product_id": "A1"}, 7]');
SELECT klaviyo_track_purchase('ada@shop.example', '20', 5, '[{"name": "Shirt"}]');
SELECT klaviyo_track_purchase('ada@shop.example', '20', 5, '[{"product_id": ["A1"]}]');
SELECT klaviyo_track_purchase('ada@shop.example', '20', 5, '[{"product_id": "A1", "price": "19.90"}]');
SELECT klaviyo_track_purchase('ada@shop.example', '20', 5, '[{"product_id": "A1", "quantity": {}}]');
SELECT klaviyo_track_purchase('ada@shop.example', '20', 5, '[{"product_id": "A1"}]', currency => 'euros');
SELECT klaviyo_track_purchase(order_id => '20');
SELECT klaviyo_track_purchase('ada@shop.example', '20', account => 'none');
SELECT count(*) FROM klaviyo.outbox;

-- Put aside, with what was given.
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_track_purchase('ada@shop.example', '21', 5, '[{"product_id": "A1", "price": "19.90"}]') IS NOT NULL AS buried;
SELECT klaviyo_track_purchase('ada@shop.example', NULL, 5) IS NOT NULL AS buried;
SELECT kind, code, reason, payload FROM klaviyo.dead_letter ORDER BY code;
SELECT count(*) FROM klaviyo.outbox;

-- By whom: a role that may queue, whatever stands in its way.
CREATE ROLE regress_purchase_shop IN ROLE klaviyo_writer;
GRANT CREATE ON SCHEMA public TO regress_purchase_shop;
SET ROLE regress_purchase_shop;
CREATE FUNCTION public.btrim(text) RETURNS text LANGUAGE sql AS $$ SELECT 'taken' $$;
SET search_path = public, pg_catalog;
SELECT klaviyo_track_purchase('ada@shop.example', '22', 5, '[{"product_id": "A1", "price": 5}]') IS NOT NULL AS queued;
RESET search_path;
RESET ROLE;
SELECT count(*) FROM klaviyo.outbox;
DROP OWNED BY regress_purchase_shop;
DROP ROLE regress_purchase_shop;
