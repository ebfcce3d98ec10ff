-- klaviyo_sync_metric(): the metrics that every shop has, with the names that Klaviyo knows.
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;
CREATE VIEW queued AS
SELECT payload #>> '{event,metric,data,attributes,name}' AS metric, payload #>> '{event,unique_id}' AS unique_id, payload #>> '{event,value}' AS value,
       (payload #> '{event,properties}')::jsonb AS properties FROM klaviyo.outbox ORDER BY seq;

CREATE TABLE products (id text PRIMARY KEY, name text, brand text, categories text[]);
INSERT INTO products VALUES ('t', 'Tea', 'Leaf', '{drinks,hot}'), ('p', 'Pot', 'Clay', '{kitchen}'), ('c', 'Cup', 'Clay', NULL);
CREATE TABLE orders (number int PRIMARY KEY, email text, total numeric, currency text DEFAULT 'EUR', status text DEFAULT 'new', coupon text, placed_at timestamptz DEFAULT now());
CREATE TABLE order_items (number int, line int, product_id text, quantity int, price numeric, PRIMARY KEY (number, line));
CREATE VIEW arguments AS SELECT 'order_items AS i JOIN products AS p ON p.id = i.product_id WHERE i.number = row.number ORDER BY i.line' AS items_from,
    '{"ProductID": "p.id", "ProductName": "p.name", "Brand": "p.brand", "Categories": "p.categories", "Quantity": "i.quantity", "ItemPrice": "i.price"}'::jsonb AS items;

SELECT klaviyo_sync_metric('orders', 'Placed Order', email => 'email', value => 'total', value_currency => 'currency', event_time => 'placed_at',
    properties => '{"OrderId": "number", "DiscountCode": "coupon", "Gift": "false"}', items => a.items, items_from => a.items_from) FROM arguments AS a;
SELECT klaviyo_sync_metric('orders', 'Cancelled Order', email => 'email', value => 'total', "when" => 'status = ''cancelled''',
    properties => '{"OrderId": "number", "Reason": "''none given''"}', items => a.items, items_from => a.items_from) FROM arguments AS a;
SELECT klaviyo_sync_metric('order_items', 'Ordered Product', email => '(SELECT o.email FROM orders AS o WHERE o.number = row.number)', value => 'price * quantity',
    properties => '{"OrderId": "number", "ProductID": "product_id", "ProductName": "(SELECT p.name FROM products AS p WHERE p.id = row.product_id)"}');
\a\t
SELECT klaviyo_sync_show('orders', 'Placed Order');
\a\t
SELECT name, jsonb_pretty(spec) FROM klaviyo.sync WHERE id = 1;
BEGIN;
INSERT INTO orders (number, email, total, coupon) VALUES (7, 'a@shop.example', 45, 'NEW');
INSERT INTO order_items VALUES (7, 1, 't', 2, 2.50), (7, 2, 'p', 1, 20), (7, 3, 'c', 2, 10);
INSERT INTO orders (number, email, total) VALUES (8, 'b@shop.example', 0);
COMMIT;
UPDATE orders SET status = 'cancelled' WHERE number = 7;
SELECT metric, unique_id, value, jsonb_pretty(properties) FROM queued;
DELETE FROM klaviyo.outbox;

-- Of each metric what must be there, and nothing more.
CREATE TABLE things (id int PRIMARY KEY, who text, total numeric);
CREATE FUNCTION at_least(metric text, properties jsonb, has_items boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    PERFORM klaviyo_sync_metric('things', metric, external_id => 'who', value => 'total', properties => properties, "when" => 'id > 0',
        items => CASE WHEN has_items THEN '{"ProductID": "o.id", "ProductName": "o.who"}'::jsonb END,
        items_from => CASE WHEN has_items THEN 'things AS o WHERE o.id = row.id' END);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN format('%s: %s. %s %s', SQLSTATE, SQLERRM, detail, hint);
END $$;
SELECT m.metric, at_least(m.metric, m.properties, m.has_items) AS refused
FROM (VALUES ('Placed Order', '{"OrderId": "id"}'::jsonb, true), ('Fulfilled Order', '{"OrderId": "id"}', true), ('Cancelled Order', '{"OrderId": "id"}', true),
             ('Refunded Order', '{"OrderId": "id"}', true), ('Started Checkout', '{"CheckoutURL": "who"}', true),
             ('Ordered Product', '{"OrderId": "id", "ProductID": "id", "ProductName": "who"}', false),
             ('Viewed Product', '{"ProductID": "id", "ProductName": "who"}', false), ('Active on Site', NULL, false)) AS m (metric, properties, has_items);
SELECT name, spec ->> 'on' AS "on", coalesce(spec ->> 'at', 'statement') AS at FROM klaviyo.sync WHERE relation = 'things'::regclass ORDER BY id;
INSERT INTO things VALUES (5, 'w', 1.5);
SELECT metric, unique_id, value, properties FROM queued;
DELETE FROM klaviyo.outbox;

-- What is refused.
SELECT klaviyo_sync_metric('things', 'Placed order', external_id => 'who');
SELECT klaviyo_sync_metric('things', 'Placed Order', external_id => 'who', name => 'x', properties => '{"OrderID": "id"}');
SELECT klaviyo_sync_metric('things', 'Placed Order', external_id => 'who', name => 'x', properties => '{}');
SELECT klaviyo_sync_metric('things', 'Placed Order', external_id => 'who', name => 'x', properties => '"id"');
SELECT klaviyo_sync_metric('things', 'Placed Order', external_id => 'who', name => 'x', properties => '{"OrderId": "id"}');
SELECT klaviyo_sync_metric('things', 'Placed Order', external_id => 'who', name => 'x', properties => '{"OrderId": "id"}', value => 'total');
SELECT klaviyo_sync_metric('things', 'Placed Order', external_id => 'who', name => 'x', properties => '{"OrderId": "id"}', value => 'total', items => '{"ProductID": "o.id", "ProductName": "o.who"}');
SELECT klaviyo_sync_metric('things', 'Placed Order', external_id => 'who', name => 'x', properties => '{"OrderId": "id"}', value => 'total', items => '{"ProductID": "o.id", "Productname": "o.who"}', items_from => 'things AS o');
SELECT klaviyo_sync_metric('things', 'Placed Order', external_id => 'who', name => 'x', properties => '{"OrderId": "id"}', value => 'total', items => '{"ProductID": "o.id", "ProductName": 1}', items_from => 'things AS o');
SELECT klaviyo_sync_metric('things', 'Placed Order', external_id => 'who', name => 'x', properties => '{"OrderId": "id"}', value => 'total', items => '{"ProductID": "o.id", "ProductName": "o.name"}', items_from => 'things AS o');
SELECT klaviyo_sync_metric('things', 'Viewed Product', external_id => 'who', name => 'x', properties => '{"ProductID": "id", "ProductName": "who"}', items => '{}', items_from => 'things AS o');
