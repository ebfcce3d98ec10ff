-- Updates and deletes: events of what a row has become, and profiles of which only what changed is sent.
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;
CREATE VIEW queued AS SELECT kind, key, payload FROM klaviyo.outbox ORDER BY seq;

-- Profiles ----------------------------------------------------------------------------------------------------------
CREATE TABLE users (
    id int PRIMARY KEY, email text, phone text, name text, title text, city text, zip text, points numeric, tags text[], seen_at timestamptz
);
SELECT klaviyo_sync_profiles('users', email => 'email', external_id => 'id', first_name => 'name', title => 'title',
    location => '{"city": "city", "zip": "zip"}', properties => '["points", "tags"]', "when" => 'email IS NOT NULL');
\a\t
SELECT klaviyo_sync_show('users');
\a\t
INSERT INTO users (id, email, name, title, city, zip, points, tags)
VALUES (1, 'ada@shop.example', 'Ada', 'Dr', 'Bonn', '53111', 1.10, '{a,b}'),
       (2, 'bob@shop.example', NULL, NULL, NULL, NULL, NULL, NULL), (3, NULL, 'Nobody', NULL, NULL, NULL, NULL, NULL);
SELECT * FROM queued;
DELETE FROM klaviyo.outbox;
-- Nothing of it is mapped, or it is as before.
UPDATE users SET seen_at = now(), phone = '+4930901820';
UPDATE users SET name = name, points = 1.1 WHERE id = 1;
UPDATE users SET name = 'Nobody else' WHERE id = 3;
SELECT * FROM queued;
-- What changed, and who it is.
UPDATE users SET title = NULL, city = 'Köln', tags = '{a}' WHERE id = 1;
UPDATE users SET points = 123456789012345678901234567890.12 WHERE id < 3;
-- Now there is somebody; now there is not.
UPDATE users SET email = 'no@shop.example' WHERE id = 3;
UPDATE users SET email = NULL WHERE id = 3;
-- Another address, another number: all there is to say.
UPDATE users SET email = 'countess@shop.example' WHERE id = 1;
UPDATE users SET id = 7 WHERE id = 1;
UPDATE users SET id = 1 WHERE id = 7;
SELECT * FROM queued;
DELETE FROM klaviyo.outbox;
DELETE FROM users WHERE id = 2;
INSERT INTO users (id, email, name) VALUES (1, 'bob@shop.example', 'Bob'), (5, 'eve@shop.example', NULL)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, email = excluded.email;
UPDATE users SET name = o.name || '!' FROM (VALUES (5, 'Eve'), (6, 'Max')) AS o (id, name) WHERE o.id = users.id;
TRUNCATE users;
SELECT * FROM queued;
DELETE FROM klaviyo.outbox;
SELECT klaviyo_sync_detach('users');

-- Without a key each row tells.
CREATE TABLE people (email text, name text);
SELECT klaviyo_sync_profiles('people', email => 'email', first_name => 'name') > 0 AS mapped;
\a\t
SELECT klaviyo_sync_show('people', 'profile');
\a\t
INSERT INTO people VALUES ('a@shop.example', 'A'), ('b@shop.example', 'B');
UPDATE people SET name = 'B';
UPDATE people SET name = NULL;
SELECT * FROM queued;
DELETE FROM klaviyo.outbox;

-- A key of two columns, in an order of its own, and columns that are called as what is generated calls its own.
CREATE TABLE pairs ("A b" text, met int, key_1 text COLLATE "C", name text, PRIMARY KEY (met, "A b"));
SELECT klaviyo_sync_profiles('pairs', external_id => 'met || "A b"', first_name => 'name', properties => '["key_1"]') > 0 AS mapped;
INSERT INTO pairs VALUES ('x', 1, 'k', 'n'), ('y', 1, 'k', 'm'), ('x', 2, 'k', 'n');
UPDATE pairs SET key_1 = 'l' WHERE "A b" = 'x';
SELECT * FROM queued OFFSET 3;
DELETE FROM klaviyo.outbox;

-- Many, after one: the plan that was made for one does.
CREATE TABLE many (id int PRIMARY KEY, name text);
SELECT klaviyo_sync_profiles('many', external_id => 'id', first_name => 'name') > 0 AS mapped;
INSERT INTO many VALUES (0, 'a');
UPDATE many SET name = 'b';
INSERT INTO many SELECT n, n FROM generate_series(1, 20000) AS n;
UPDATE many SET name = 'c' WHERE id % 2 = 0;
SELECT count(*), count(*) FILTER (WHERE payload #>> '{first_name}' = 'c') AS changed FROM klaviyo.outbox;
DELETE FROM klaviyo.outbox;
DROP TABLE many, pairs, people;

-- By hand.
SELECT klaviyo_upsert_changes(NULL) IS NULL AS nothing;
SELECT klaviyo_upsert_changes('{"email": "a@shop.example", "title": null}', '{"email": "a@shop.example"}') IS NULL AS nothing;
SELECT klaviyo_upsert_changes('{"email": "a@shop.example", "properties": {"n": 1}}', '{"email": "a@shop.example", "title": "x"}') IS NULL AS nothing;
SELECT * FROM queued;
DELETE FROM klaviyo.outbox;
SELECT klaviyo_upsert_changes('{"email": "a@shop.example", "properties": {}, "shoe_size": 43}');
SELECT klaviyo_upsert_changes('[1]');
SELECT klaviyo_upsert_changes('{"first_name": "A"}');
SELECT klaviyo_upsert_changes('{"email": "a@shop.example"}', account => 'nowhere');
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_upsert_changes('{"email": "nobody"}', '{"email": "a@shop.example"}') IS NULL AS nothing;
RESET klaviyo.on_invalid;
SELECT kind, code, payload FROM klaviyo.dead_letter;

-- Events ------------------------------------------------------------------------------------------------------------
CREATE TABLE orders (id int PRIMARY KEY, met int, email text, status text, total numeric, note text);
SELECT klaviyo_sync_events('orders', 'Paid', email => '(SELECT old.email FROM users AS old WHERE old.id = row.id)', external_id => 'id', properties => '["met"]', "when" => 'status = ''paid''', "on" => 'insert or update') > 0 AS mapped;
SELECT klaviyo_sync_events('orders', 'Deleted', email => 'email', properties => '["id"]', "on" => 'DELETE') > 0 AS mapped;
SELECT klaviyo_sync_events('orders', 'Unpaid', email => 'email', properties => '["id"]', "on" => 'update', "when" => 'status IS NULL') > 0 AS mapped;
\a\t
SELECT klaviyo_sync_show('orders', 'Paid');
\a\t
SELECT relation, name, kind, state, spec FROM klaviyo.sync ORDER BY id;
INSERT INTO orders VALUES (1, 7, 'a@shop.example', 'paid'), (2, 8, 'b@shop.example', 'new'), (3, 9, 'c@shop.example', 'new'), (4, 10, 'd@shop.example', NULL);
UPDATE orders SET note = 'x';
UPDATE orders SET status = 'paid' WHERE id < 3;
UPDATE orders SET status = NULL WHERE id = 1;
INSERT INTO orders VALUES (3, 9, 'c@shop.example', 'new'), (5, 11, 'e@shop.example', 'paid') ON CONFLICT (id) DO UPDATE SET status = 'paid';
DELETE FROM orders WHERE id IN (1, 2);
SELECT key, payload #>> '{event,metric,data,attributes,name}' AS metric, payload #> '{event,properties}' AS properties FROM queued;
DELETE FROM klaviyo.outbox;
ALTER TABLE orders DISABLE TRIGGER ALL;
SELECT name, state FROM klaviyo.sync ORDER BY id;
ALTER TABLE orders ENABLE TRIGGER ALL;

-- TRUNCATE deletes no row that a trigger hears of. What a cascade sets is an update.
CREATE TABLE owners (id int PRIMARY KEY);
CREATE TABLE dogs (id int PRIMARY KEY, owner_id int DEFAULT 1 REFERENCES owners ON DELETE SET NULL, keeper_id int DEFAULT 1 REFERENCES owners ON DELETE SET DEFAULT);
SELECT klaviyo_sync_events('dogs', 'Gone', external_id => 'id', "on" => 'delete') > 0 AS mapped;
SELECT klaviyo_sync_profiles('dogs', external_id => 'id', properties => '["owner_id", "keeper_id"]') > 0 AS mapped;
INSERT INTO owners VALUES (1), (2);
INSERT INTO dogs VALUES (7, 2, 2);
DELETE FROM klaviyo.outbox;
DELETE FROM owners WHERE id = 2;
SELECT payload FROM queued;
DELETE FROM klaviyo.outbox;
TRUNCATE dogs;
SELECT count(*) AS none FROM queued;

-- A row is the same whatever becomes of its key, and two that change theirs with each other are not taken for one another.
CREATE TABLE tickets (id int PRIMARY KEY DEFERRABLE, who text, state text, met text, place text);
SELECT klaviyo_sync_events('tickets', 'Closed', external_id => 'who', properties => '{"row": "to_jsonb(row)"}', "on" => 'update', "when" => 'state = ''closed''') > 0 AS mapped;
SELECT klaviyo_sync_profiles('tickets', external_id => 'who', title => 'state') > 0 AS mapped;
INSERT INTO tickets VALUES (1, 'a', 'open'), (2, 'b', 'closed'), (3, 'c', 'closed');
DELETE FROM klaviyo.outbox;
UPDATE tickets SET id = id + 10 WHERE id = 2;
UPDATE tickets SET id = CASE id WHEN 1 THEN 3 WHEN 3 THEN 1 ELSE id END;
SELECT count(*) AS none FROM queued;
UPDATE tickets SET id = 100 - id, state = 'closed' WHERE who IN ('a', 'b');
SELECT kind, key, payload #> '{event,properties}' AS properties FROM queued;
DELETE FROM klaviyo.outbox;

-- A cascade is a statement as any other.
CREATE TABLE items (id int PRIMARY KEY, order_id int REFERENCES orders ON DELETE CASCADE ON UPDATE CASCADE);
SELECT klaviyo_sync_events('items', 'Gone', external_id => 'order_id', properties => '["id"]', "on" => 'delete') > 0 AS mapped;
SELECT klaviyo_sync_profiles('items', external_id => 'order_id', properties => '["id"]') > 0 AS mapped;
INSERT INTO items VALUES (1, 3), (2, 3), (3, 4);
UPDATE orders SET id = 30 WHERE id = 3;
DELETE FROM orders;
SELECT kind, key, payload #> '{event,properties}' AS properties FROM queued;
DELETE FROM klaviyo.outbox;
DROP TABLE items;

-- Parents and children: each has its own rows.
CREATE TABLE base (id int PRIMARY KEY, name text);
CREATE TABLE child (more text) INHERITS (base);
SELECT klaviyo_sync_profiles('base', external_id => 'id', first_name => 'name') > 0 AS mapped;
SELECT klaviyo_sync_profiles('child', external_id => '''c'' || id', first_name => 'name') > 0 AS mapped;
SELECT klaviyo_sync_events('child', 'Gone', external_id => 'id', "on" => 'delete') > 0 AS mapped;
INSERT INTO base VALUES (1, 'b');
INSERT INTO child VALUES (2, 'c');
UPDATE base SET name = name || '!';
DELETE FROM base;
SELECT kind, key, payload ->> 'first_name' AS first_name FROM queued;
DELETE FROM klaviyo.outbox;
SELECT tgrelid::regclass, tgname ~ 'insert' AS of_insert, tgtype & 1 AS for_each_row FROM pg_trigger WHERE tgrelid IN ('base'::regclass, 'child'::regclass) ORDER BY oid;
DROP TABLE base CASCADE;

-- Columns that Postgres computes.
CREATE TABLE computed (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, upper text GENERATED ALWAYS AS (upper(name)) STORED);
SELECT klaviyo_sync_profiles('computed', external_id => 'id', first_name => 'upper', properties => '"*"') > 0 AS mapped;
INSERT INTO computed (name) VALUES ('a');
UPDATE computed SET name = 'b';
SELECT payload FROM queued;
DELETE FROM klaviyo.outbox;

-- Mistakes.
SELECT klaviyo_sync_events('orders', 'x', email => 'email', "on" => 'truncate');
SELECT klaviyo_sync_events('orders', 'x', email => 'email', "on" => ' or ');
SELECT klaviyo_sync_events('orders', 'x', email => 'email', "on" => 'update');
SELECT klaviyo_sync_profiles('orders', properties => '["id"]');
SELECT klaviyo_sync_profiles('orders', email => 'email', title => 'titel');
SELECT klaviyo_sync_profiles('orders', email => 'email', location => '{"city": "status"}', account => 'nowhere');
SELECT klaviyo_sync_profiles('orders', email => 'email', location => '{"town": "status"}');
SELECT klaviyo_sync_profiles('orders', email => 'email', location => '["status"]');
SELECT klaviyo_sync_profiles('orders', email => 'email', location => '{"city": "ARRAY[status]"}');
SELECT klaviyo_sync_profiles('orders', email => 'email', location => '{"city": ["status"]}');
SELECT klaviyo_sync_events('orders', 'x', email => 'email', profile => '{"email": "email"}');
SELECT klaviyo_sync_events('orders', 'x', email => 'email', profile => '{"properties": "status"}');
SELECT count(*) FROM klaviyo.sync WHERE name = 'x' OR relation = 'orders'::regclass AND kind = 'profile';

-- Maps in maps; what must be text becomes it.
SELECT klaviyo_sync_events('orders', 'Nested', email => 'email', properties => '{"Order": {"Id": "id", "More": ["status", "note"]}}',
    profile => '{"title": "id", "location": {"zip": "id", "latitude": "total", "city": "note"}, "properties": ["*", "-email"]}') > 0 AS mapped;
INSERT INTO orders VALUES (50, 7, 'a@shop.example', 'new', 1.5, 'n');
SELECT jsonb_pretty(payload::jsonb #- '{event,time}' #- '{event,unique_id}') FROM queued;
DELETE FROM klaviyo.outbox;

-- The extension takes its triggers along, and nobody else's work.
SELECT count(*) > 0 AS some FROM pg_trigger WHERE NOT tgisinternal;
DROP EXTENSION klaviyo_sync CASCADE;
SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal;
SELECT proname FROM pg_proc WHERE proname LIKE 'klaviyo%';
INSERT INTO orders VALUES (100, 1, 'a@shop.example', 'paid');
