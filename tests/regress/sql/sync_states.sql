-- What a mapping can be besides on: replaced, paused, disabled, broken, and of another owner than its table.
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;
CREATE VIEW mappings AS SELECT status, value, hint FROM klaviyo_health() WHERE name = 'mapping' ORDER BY value;
CREATE VIEW queued AS SELECT kind, key, payload #>> '{event,metric,data,attributes,name}' AS metric FROM klaviyo.outbox ORDER BY seq;

CREATE TABLE orders (id int PRIMARY KEY, email text, status text);
SELECT klaviyo_sync_events('orders', 'Placed Order', email => 'email');
SELECT klaviyo_sync_profiles('orders', email => 'email', properties => '["status"]');
SELECT id, relation, name, kind, account, state, spec, function, paused_at FROM klaviyo.sync ORDER BY id;

-- Paused --------------------------------------------------------------------------------------------------------------
SELECT klaviyo_sync_pause('orders', 'Placed Order');
SELECT klaviyo_sync_pause('orders', 'Placed Order');
SELECT id, name, state, paused_at = (SELECT m.paused_at FROM klaviyo.mapping AS m WHERE m.id = s.id) AS since FROM klaviyo.sync AS s ORDER BY id;
SELECT * FROM mappings;
INSERT INTO orders VALUES (1, 'a@shop.example', 'new');
SELECT * FROM queued;
BEGIN;
SELECT klaviyo_sync_pause('orders');
INSERT INTO orders VALUES (2, 'b@shop.example', 'new');
ROLLBACK;
INSERT INTO orders VALUES (2, 'b@shop.example', 'new');
SELECT klaviyo_sync_resume('orders');
INSERT INTO orders VALUES (3, 'c@shop.example', 'new');
SELECT * FROM queued;
DELETE FROM klaviyo.outbox;
SELECT klaviyo_sync_pause('orders', 'nothing');
ALTER TABLE orders DISABLE TRIGGER klaviyo_sync_1_insert;
SELECT id, state FROM klaviyo.sync ORDER BY id;
SELECT * FROM mappings;
ALTER TABLE orders ENABLE TRIGGER klaviyo_sync_1_insert;

-- Replaced ------------------------------------------------------------------------------------------------------------
SELECT klaviyo_sync_events('orders', 'Placed Order', email => 'email');
SELECT klaviyo_sync_events('orders', 'Placed Order', email => 'email', name => 'Other', replace => true);
SELECT klaviyo_sync_detach('orders', 'Other');
SELECT klaviyo_sync_pause('orders', 'Placed Order');
SELECT klaviyo_sync_events('orders', 'Cancelled Order', email => 'email', "when" => 'status = ''cancelled''', "on" => 'update', name => 'Placed Order', replace => true);
SELECT id, name, state, spec FROM klaviyo.sync ORDER BY id;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'orders'::regclass ORDER BY tgname;
SELECT klaviyo_sync_resume('orders', 'Placed Order');
UPDATE orders SET status = 'cancelled' WHERE id = 1;
SELECT * FROM queued;
DELETE FROM klaviyo.outbox;
-- What is refused leaves what there was.
SELECT klaviyo_sync_events('orders', 'x', email => 'mail', name => 'Placed Order', replace => true);
UPDATE orders SET status = 'cancelled' WHERE id = 2;
SELECT * FROM queued;
DELETE FROM klaviyo.outbox;

-- Broken --------------------------------------------------------------------------------------------------------------
SELECT klaviyo_sync_events('orders', 'Left', email => 'email', unique_id => 'id', "on" => 'insert or delete');
ALTER TABLE orders RENAME COLUMN email TO mail;
INSERT INTO orders VALUES (4, 'd@shop.example', 'new');
SET klaviyo.on_invalid = dead_letter;
INSERT INTO orders VALUES (4, 'd@shop.example', 'new'), (5, 'e@shop.example', 'new');
UPDATE orders SET status = 'old' WHERE id = 5;
DELETE FROM orders WHERE id = 4;
SELECT account, kind, payload, code, reason FROM klaviyo.dead_letter ORDER BY message_id;
SELECT count(*) FROM queued;
SELECT * FROM mappings;
SELECT klaviyo_redrive(code => 'broken_mapping');
SELECT klaviyo_discard(code => 'broken_mapping');
ALTER TABLE orders RENAME COLUMN mail TO email;
INSERT INTO orders VALUES (6, 'f@shop.example', 'new');
SELECT * FROM queued;
RESET klaviyo.on_invalid;
DELETE FROM klaviyo.outbox;

-- Another owner -------------------------------------------------------------------------------------------------------
CREATE ROLE states_shop;
CREATE ROLE states_dba;
GRANT klaviyo_writer TO states_shop;
GRANT klaviyo_admin TO states_dba;
GRANT states_shop TO states_dba;
GRANT CREATE ON SCHEMA public TO states_shop;
ALTER TABLE orders OWNER TO states_shop;
SELECT * FROM mappings;
SET ROLE states_dba;
-- The function is still of one whose rights it has not.
SELECT klaviyo_sync_detach('orders', 'Left');
RESET ROLE;
SELECT klaviyo_sync_events('orders', 'Left', email => 'email', "on" => 'delete', replace => true);
SELECT proname, proowner::regrole FROM pg_proc WHERE proname ~ '^klaviyo_sync_[0-9]' ORDER BY proname;
-- Triggers that only look like it.
CREATE FUNCTION klaviyo_sync_9() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TABLE others (id int);
CREATE TRIGGER klaviyo_sync_1_insert AFTER INSERT ON others EXECUTE FUNCTION klaviyo_sync_9();
SELECT id, relation FROM klaviyo.sync ORDER BY id;
SELECT klaviyo_sync_detach('others');
CREATE TRIGGER klaviyo_sync_1_insert AFTER INSERT ON orders EXECUTE FUNCTION klaviyo_sync_9();
SELECT klaviyo_sync_detach('orders', 'Placed Order');
DROP TRIGGER klaviyo_sync_1_insert ON orders;
SELECT klaviyo_sync_detach('orders');
SELECT count(*) FROM pg_proc WHERE proname ~ '^klaviyo_sync_[0-9]';
DROP OWNED BY states_shop, states_dba;
DROP ROLE states_shop, states_dba;
