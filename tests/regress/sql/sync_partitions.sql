-- Partitioned tables, and what becomes of mappings while tables are changed.
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;
CREATE VIEW queued AS
SELECT kind, key[1] AS key, payload #>> '{event,metric,data,attributes,name}' AS metric FROM klaviyo.outbox ORDER BY seq;
CREATE VIEW triggers AS
SELECT t.tgrelid::regclass AS relation, t.tgname, t.tgtype & 1 = 1 AS row_level FROM pg_trigger AS t WHERE t.tgname LIKE 'klaviyo%' ORDER BY t.tgrelid::regclass::text COLLATE "C", t.tgname;

CREATE TABLE orders (id int, region text, email text, status text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE orders_eu PARTITION OF orders FOR VALUES IN ('eu');
-- Columns in another order, and one that is no more.
CREATE TABLE orders_us (gone int, status text, email text, id int, region text, PRIMARY KEY (id, region)) PARTITION BY RANGE (id);
ALTER TABLE orders_us DROP COLUMN gone;
CREATE TABLE orders_us_1 PARTITION OF orders_us FOR VALUES FROM (0) TO (100);
ALTER TABLE orders ATTACH PARTITION orders_us FOR VALUES IN ('us');
SELECT klaviyo_sync_events('orders', 'Placed Order', email => 'email');
SELECT klaviyo_sync_events('orders', 'Paid', email => 'email', "when" => 'status = ''paid''', "on" => 'update or delete');
SELECT klaviyo_sync_profiles('orders', email => 'email', title => 'status');
TABLE triggers;
SELECT id, relation, name, state FROM klaviyo.sync ORDER BY id;

-- Each way in, once.
INSERT INTO orders VALUES (1, 'eu', 'a@shop.example', 'new'), (2, 'us', 'b@shop.example', 'new');
INSERT INTO orders_eu VALUES (3, 'eu', 'c@shop.example', 'new');
INSERT INTO orders_us (id, region, email, status) VALUES (4, 'us', 'd@shop.example', 'new');
INSERT INTO orders_us_1 (id, region, email, status) VALUES (5, 'us', 'e@shop.example', 'new');
COPY orders FROM stdin;
6	us	f@shop.example	new
\.
TABLE queued;
DELETE FROM klaviyo.outbox;
-- One that moves is not inserted, and not deleted.
UPDATE orders SET region = 'us', status = 'paid' WHERE id = 1;
UPDATE orders_us_1 SET status = 'paid' WHERE id = 5;
UPDATE orders SET region = 'eu' WHERE id = 1;
DELETE FROM orders WHERE id = 1;
TABLE queued;
DELETE FROM klaviyo.outbox;
SELECT mapping, key, request IS NOT NULL AS sent FROM klaviyo_preview('orders', 2);
SELECT klaviyo_preview('orders_eu');

-- Partitions that come and go.
CREATE TABLE orders_us_2 PARTITION OF orders_us FOR VALUES FROM (100) TO (200);
CREATE TABLE orders_asia (id int, region text, email text, status text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE orders_asia_jp PARTITION OF orders_asia FOR VALUES IN ('jp');
ALTER TABLE orders ATTACH PARTITION orders_asia FOR VALUES IN ('jp', 'kr');
INSERT INTO orders_us_2 VALUES ('new', 'g@shop.example', 100, 'us');
INSERT INTO orders_asia_jp VALUES (101, 'jp', 'h@shop.example', 'new');
SELECT * FROM queued WHERE kind = 'event';
DELETE FROM klaviyo.outbox;
ALTER TABLE orders DETACH PARTITION orders_asia;
ALTER TABLE orders_us DETACH PARTITION orders_us_2;
ALTER TABLE orders DETACH PARTITION orders_eu CONCURRENTLY;
SELECT DISTINCT relation FROM triggers;
INSERT INTO orders_asia VALUES (102, 'jp', 'i@shop.example', 'new');
SELECT count(*) FROM queued;
SELECT klaviyo_sync_detach('orders', 'Paid');
SELECT DISTINCT tgname FROM triggers;

-- Others' partitions, created by one who may do nothing of ours.
CREATE ROLE partitions_shop;
GRANT CREATE ON SCHEMA public TO partitions_shop;
CREATE TABLE taken (id int PRIMARY KEY, who text) PARTITION BY RANGE (id);
ALTER TABLE taken OWNER TO partitions_shop;
GRANT klaviyo_writer TO partitions_shop;
SELECT klaviyo_sync_events('taken', 'Taken', external_id => 'who');
SET ROLE partitions_shop;
CREATE TABLE taken_1 PARTITION OF taken FOR VALUES FROM (0) TO (10);
INSERT INTO taken_1 VALUES (1, 'one');
RESET ROLE;
CREATE TABLE taken_2 PARTITION OF taken FOR VALUES FROM (10) TO (20);
SELECT tableowner = current_user AS ours FROM pg_tables WHERE tablename = 'taken_2';
SET ROLE partitions_shop;
INSERT INTO taken VALUES (11, 'two');
RESET ROLE;
SELECT * FROM queued;
DELETE FROM klaviyo.outbox;
DROP TABLE taken;

-- Renamed, and moved to another schema. What reads the table by its name follows.
CREATE SCHEMA other;
CREATE TABLE carts (id int PRIMARY KEY, email text);
SELECT klaviyo_sync_events('carts', 'Started Checkout', email => 'email', at => 'commit');
ALTER TABLE carts RENAME TO baskets;
INSERT INTO baskets VALUES (1, 'a@shop.example');
ALTER TABLE baskets SET SCHEMA other;
INSERT INTO other.baskets VALUES (2, 'b@shop.example');
ALTER TABLE other.baskets DISABLE TRIGGER klaviyo_sync_5_insert;
ALTER TABLE other.baskets RENAME TO carts;
INSERT INTO other.carts VALUES (3, 'c@shop.example');
ALTER TABLE other.carts ENABLE TRIGGER klaviyo_sync_5_insert;
INSERT INTO other.carts VALUES (4, 'd@shop.example');
SELECT * FROM queued;
DELETE FROM klaviyo.outbox;
ALTER TABLE other.carts DROP CONSTRAINT carts_pkey;
SELECT klaviyo_sync_detach('other.carts');
SELECT proname FROM pg_proc WHERE proname = 'klaviyo_sync_5';

-- Without its primary key, and with one again; inherited from, and no more.
CREATE TABLE people (id int PRIMARY KEY, email text, name text);
SELECT klaviyo_sync_profiles('people', email => 'email', title => 'name');
INSERT INTO people VALUES (1, 'a@shop.example', 'A'), (2, 'b@shop.example', 'B');
DELETE FROM klaviyo.outbox;
ALTER TABLE people DROP CONSTRAINT people_pkey;
SELECT * FROM triggers WHERE relation = 'people'::regclass;
UPDATE people SET name = 'C' WHERE id = 2;
TABLE queued;
ALTER TABLE people ADD PRIMARY KEY (id);
SELECT * FROM triggers WHERE relation = 'people'::regclass;
UPDATE people SET name = 'D' WHERE id = 1;
CREATE TABLE staff () INHERITS (people);
SELECT * FROM triggers WHERE relation = 'people'::regclass;
INSERT INTO staff VALUES (1, 's@shop.example', 'S');
UPDATE people SET name = 'E';
-- That is not told of the table that is inherited from; it does no harm.
ALTER TABLE staff NO INHERIT people;
SELECT * FROM triggers WHERE relation = 'people'::regclass;
TABLE queued;
DELETE FROM klaviyo.outbox;

-- Without a primary key, and one that moves to a partition whose trigger swallows it.
CREATE TABLE keyless (who text, region text, name text) PARTITION BY LIST (region);
CREATE TABLE keyless_eu PARTITION OF keyless FOR VALUES IN ('eu');
CREATE TABLE keyless_us PARTITION OF keyless FOR VALUES IN ('us');
SELECT klaviyo_sync_profiles('keyless', external_id => 'who', title => 'name');
INSERT INTO keyless VALUES ('a', 'eu', 'A'), ('b', 'eu', 'B'), ('c', 'us', 'C');
DELETE FROM klaviyo.outbox;
UPDATE keyless SET region = 'us', name = lower(name) WHERE who IN ('b', 'c');
UPDATE keyless SET region = 'eu' WHERE who = 'b';
SELECT key, payload FROM klaviyo.outbox ORDER BY seq;
DELETE FROM klaviyo.outbox;
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER swallow BEFORE INSERT ON keyless_us FOR EACH ROW EXECUTE FUNCTION swallow();
UPDATE keyless SET region = 'us', name = 'X';
SELECT key, payload FROM klaviyo.outbox ORDER BY seq;
DELETE FROM klaviyo.outbox;
SELECT klaviyo_sync_detach('keyless');

-- What is refused.
SELECT klaviyo_sync_events('orders', 'x', email => 'email', at => 'commit');
SELECT klaviyo_sync_events('orders', 'x', email => 'email', replicated => true);
SELECT klaviyo_sync_events('orders_us_1', 'x', email => 'email');
CREATE FOREIGN DATA WRAPPER partitions_none;
CREATE SERVER partitions_none FOREIGN DATA WRAPPER partitions_none;
CREATE FOREIGN TABLE orders_far PARTITION OF orders FOR VALUES IN ('far') SERVER partitions_none;
CREATE FOREIGN TABLE keyless_far PARTITION OF keyless FOR VALUES IN ('far') SERVER partitions_none;
SELECT klaviyo_sync_events('keyless', 'x', external_id => 'who');
SELECT klaviyo_sync_events('keyless_far', 'x', external_id => 'who');
-- A table that is mapped by itself would be captured no more.
CREATE TABLE orders_my (id int, region text, email text, status text, PRIMARY KEY (id, region));
SELECT klaviyo_sync_events('orders_my', 'Placed Order', email => 'email');
ALTER TABLE orders ATTACH PARTITION orders_my FOR VALUES IN ('my');
SELECT klaviyo_sync_detach('orders_my');
ALTER TABLE orders ATTACH PARTITION orders_my FOR VALUES IN ('my');
INSERT INTO orders_my VALUES (200, 'my', 'j@shop.example', 'new');
SELECT * FROM queued WHERE kind = 'event';

-- Nothing is left.
DROP TABLE orders;
SELECT relation FROM klaviyo.sync;
SELECT klaviyo_sync_detach('people');
SELECT proname FROM pg_proc WHERE proname ~ '^klaviyo_sync_[0-9]';
CREATE TABLE events (id int PRIMARY KEY, who text) PARTITION BY RANGE (id);
CREATE TABLE events_1 PARTITION OF events DEFAULT;
SELECT klaviyo_sync_events('events', 'x', external_id => 'who') > 0 AS mapped;
DROP EXTENSION klaviyo_sync CASCADE;
INSERT INTO events_1 VALUES (1, 'one');
CREATE TABLE orders_after PARTITION OF events FOR VALUES FROM (10) TO (20);
SELECT count(*) FROM pg_event_trigger;
DROP OWNED BY partitions_shop;
DROP ROLE partitions_shop;
