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
DELETE FROM klaviyo.outbox;
-- A type, a right, and what the table is looked for by.
CREATE ROLE states_owner IN ROLE klaviyo_writer;
CREATE SCHEMA states AUTHORIZATION states_owner;
CREATE TABLE codes (id int, code text);
GRANT SELECT ON codes TO states_owner;
SET ROLE states_owner;
CREATE TABLE states.carts (id int PRIMARY KEY, who text, total numeric);
RESET ROLE;
SELECT klaviyo_sync_events('states.carts', 'Cart', external_id => 'who', value => 'total', properties => '{"code": "(SELECT c.code FROM codes AS c WHERE c.id = row.id)"}') > 0 AS mapped;
REVOKE SELECT ON codes FROM states_owner;
INSERT INTO states.carts VALUES (1, 'a', 1);
SELECT name, status, value FROM klaviyo_health() WHERE name = 'mapping' AND status = 'critical';
GRANT SELECT ON codes TO states_owner;
ALTER TABLE states.carts ALTER COLUMN who TYPE uuid USING NULL;
INSERT INTO states.carts VALUES (2, NULL, 1);
SELECT name, status, value FROM klaviyo_health() WHERE name = 'mapping' AND status = 'critical';
ALTER TABLE states.carts ALTER COLUMN who TYPE text;
RESET klaviyo.on_invalid;
SELECT payload, reason FROM klaviyo.dead_letter ORDER BY message_id;
SELECT klaviyo_discard(code => 'broken_mapping');
SELECT klaviyo_sync_events('states.carts', 'Cart', external_id => 'who', value => 'total', at => 'commit', replace => true) > 0 AS mapped;
ALTER SCHEMA states RENAME TO "New States";
INSERT INTO "New States".carts VALUES (3, 'c', 1);
SELECT key FROM klaviyo.outbox;
SELECT table_name FROM klaviyo.mapping WHERE name = 'Cart';
DELETE FROM klaviyo.outbox;
-- Whoever owns a table does nothing by a mapping of it that he may not do himself: not when a superuser looks at it.
SET ROLE states_owner;
CREATE TABLE "New States".trap (id int);
CREATE FUNCTION "New States".spring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ALTER ROLE states_owner SUPERUSER; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER spring AFTER INSERT ON "New States".trap DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION "New States".spring();
CREATE FUNCTION "New States".bait(n int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('search_path', '"New States"', false), set_config('klaviyo.on_invalid', 'dead_letter', false);
    INSERT INTO "New States".trap VALUES (n);
    RETURN 'x';
END $$;
RESET ROLE;
SELECT klaviyo_sync_events('"New States".carts', 'Bait', external_id => '"New States".bait(id)') > 0 AS mapped;
SELECT * FROM klaviyo_preview('"New States".carts', name => 'Bait');
SELECT rolsuper FROM pg_roles WHERE rolname = 'states_owner';
SHOW klaviyo.on_invalid;
SELECT klaviyo_sync_detach('"New States".carts', 'Bait');
DROP SCHEMA "New States" CASCADE;
SELECT name FROM klaviyo.mapping WHERE name IN ('Cart', 'Bait');
DROP TABLE codes;
DROP OWNED BY states_owner;
DROP ROLE states_owner;
-- How it is said is how the session that says it means it, whatever others have set.
CREATE TABLE days (id int PRIMARY KEY, day date, note text);
SET datestyle = 'SQL, DMY';
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SELECT klaviyo_sync_events('days', 'Day', external_id => 'id', properties => '{"day": "day::text", "is_path": "note LIKE ''%\\\\%''"}', "when" => 'day >= ''03/02/2026''') > 0 AS mapped;
SET datestyle = 'SQL, MDY';
INSERT INTO days VALUES (1, '2026-02-03', E'a\\b'), (2, '2026-02-02', 'c'), (3, '2026-03-02', 'd');
RESET datestyle;
RESET standard_conforming_strings;
INSERT INTO days VALUES (4, '2026-02-03', E'a\\b'), (5, '2026-02-02', 'c'), (6, '2026-03-02', 'd');
RESET escape_string_warning;
SELECT key, payload #> '{event,properties}' AS properties FROM klaviyo.outbox ORDER BY seq;
SELECT spec FROM klaviyo.mapping WHERE name = 'Day';
DELETE FROM klaviyo.outbox;
DROP TABLE days;

-- Another owner -------------------------------------------------------------------------------------------------------
CREATE ROLE states_shop;
CREATE ROLE states_dba;
GRANT klaviyo_writer TO states_shop;
GRANT klaviyo_admin TO states_dba;
GRANT states_shop TO states_dba;
GRANT CREATE ON SCHEMA public TO states_shop;
ALTER TABLE orders OWNER TO states_shop;
-- As if nobody had looked.
ALTER EVENT TRIGGER klaviyo_sync DISABLE;
ALTER TABLE orders OWNER TO states_shop;
ALTER EVENT TRIGGER klaviyo_sync ENABLE;
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
