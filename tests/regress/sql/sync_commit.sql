-- klaviyo_sync_events(at => 'commit'): rows as they are, with what belongs to them, when their transaction ends.
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;
CREATE VIEW queued AS SELECT payload #>> '{event,metric,data,attributes,name}' AS metric, payload #>> '{event,unique_id}' AS unique_id,
    payload #>> '{event,value}' AS value, payload #> '{event,properties}' AS properties FROM klaviyo.outbox ORDER BY seq;

CREATE TABLE orders (id int, part text, email text, status text DEFAULT 'new', total numeric DEFAULT 0, PRIMARY KEY (id, part));
CREATE TABLE items (order_id int, sku text, price numeric);
SELECT klaviyo_sync_events('orders', 'Placed Order', email => 'email', value => 'total', unique_id => 'id || part', at => 'commit',
    properties => '{"Items": "(SELECT jsonb_agg(jsonb_build_object(''SKU'', i.sku, ''ItemPrice'', i.price) ORDER BY i.sku) FROM items AS i WHERE i.order_id = row.id)"}');
\a\t
SELECT klaviyo_sync_show('orders');
\a\t
SELECT spec FROM klaviyo.sync;

-- Order, then items, then its total.
BEGIN;
INSERT INTO orders (id, part, email) VALUES (1, 'a', 'a@shop.example'), (2, 'a', 'b@shop.example');
INSERT INTO items VALUES (1, 'tea', 2.50), (1, 'pot', 20), (2, 'tea', 2.50);
UPDATE orders AS o SET total = (SELECT sum(i.price) FROM items AS i WHERE i.order_id = o.id);
SELECT count(*) FROM queued;
COMMIT;
TABLE queued;
DELETE FROM klaviyo.outbox;

-- What is no more at the end, or was undone.
BEGIN;
INSERT INTO orders VALUES (3, 'a', 'c@shop.example'), (4, 'a', 'd@shop.example');
DELETE FROM orders WHERE id = 3;
SAVEPOINT undone;
INSERT INTO orders VALUES (5, 'a', 'e@shop.example');
ROLLBACK TO undone;
COMMIT;
BEGIN;
INSERT INTO orders VALUES (6, 'a', 'f@shop.example');
ROLLBACK;
-- Sooner, if the session wants it so.
BEGIN;
INSERT INTO orders VALUES (7, 'a', 'g@shop.example');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT count(*) FROM queued;
INSERT INTO items VALUES (7, 'late', 1);
COMMIT;
TABLE queued;
DELETE FROM klaviyo.outbox;

-- Updates and deletes. One statement makes the event, whatever else the transaction does to the row.
SELECT klaviyo_sync_events('orders', 'Paid', email => 'email', unique_id => 'id', value => 'total', "when" => 'status = ''paid''', "on" => 'insert or update', at => 'commit');
SELECT klaviyo_sync_events('orders', 'Gone', email => 'email', unique_id => 'id', "on" => 'delete', at => 'COMMIT',
    properties => '{"Items": "(SELECT count(*) FROM items AS i WHERE i.order_id = row.id)"}');
SELECT klaviyo_sync_detach('orders', 'Placed Order');
BEGIN;
INSERT INTO orders VALUES (10, 'a', 'a@shop.example', 'new', 1), (11, 'a', 'b@shop.example', 'paid', 1), (12, 'a', 'c@shop.example', 'paid', 1);
UPDATE orders SET status = 'paid' WHERE id = 10;
UPDATE orders SET total = 2 WHERE id IN (10, 11);
UPDATE orders SET status = 'void' WHERE id = 12;
COMMIT;
SELECT metric, unique_id, value FROM queued;
DELETE FROM klaviyo.outbox;
UPDATE orders SET status = 'paid';
UPDATE orders SET total = 3;
SELECT metric, unique_id, value FROM queued ORDER BY unique_id;
DELETE FROM klaviyo.outbox;
BEGIN;
DELETE FROM orders WHERE id = 1;
DELETE FROM items WHERE order_id = 1;
COMMIT;
TABLE queued;
DELETE FROM klaviyo.outbox;
-- One that gets another key.
UPDATE orders SET id = 20, status = 'new' WHERE id = 10;
UPDATE orders SET id = 21, status = 'paid' WHERE id = 20;
SELECT metric, unique_id FROM queued;

-- What is refused.
SELECT klaviyo_sync_events('orders', 'x', email => 'email', at => 'end');
SELECT klaviyo_sync_events('items', 'x', external_id => 'sku', at => 'commit');
SELECT klaviyo_sync_events('orders', 'x', email => 'email', at => 'commit', replicated => true);
