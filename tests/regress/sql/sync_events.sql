-- klaviyo_sync_events(): what it takes, what it writes, what that does.
\set VERBOSITY terse
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;

CREATE TABLE users (id int PRIMARY KEY, email text);
INSERT INTO users VALUES (1, 'ada@shop.example'), (2, 'bob@shop.example');
CREATE TYPE state AS ENUM ('new', 'paid');
CREATE DOMAIN amount AS numeric(12, 2);
CREATE TABLE orders (
    id int PRIMARY KEY, user_id int, total amount, currency char(3) DEFAULT 'EUR', state state, gone int,
    placed_at timestamptz, local_at timestamp, items jsonb
);
ALTER TABLE orders DROP COLUMN gone;

-- A mapping, and what it comes to -----------------------------------------------------------------------------------
SELECT klaviyo_sync_events('orders', 'Placed Order',
    email          => '(SELECT u.email FROM users AS u WHERE u.id = row.user_id) -- whose it is',
    value          => 'total',
    value_currency => 'currency',
    unique_id      => 'id',
    event_time     => 'placed_at',
    properties     => '{"OrderId": "id", "Items": "items", "Large": "total > 100"}',
    profile        => '{"properties": "jsonb_build_object(''last_order'', id)"}',
    "when"         => 'state = ''paid''');
\a\t
SELECT klaviyo_sync_show('orders');
\a\t
SELECT id, relation, name, kind, account, state, spec FROM klaviyo.sync;

-- Other names in the session, and other settings, change nothing.
SET search_path = pg_catalog;
SET timezone = 'Asia/Tokyo';
INSERT INTO public.orders (id, user_id, total, state, placed_at, items)
SELECT n, 1 + n % 2, n * 60, CASE WHEN n < 4 THEN 'paid' ELSE 'new' END::public.state, '2026-11-01 12:00+00',
       '[{"sku": "tea", "price": 1.10}]'
FROM generate_series(1, 5) AS n;
RESET search_path;
RESET timezone;
SELECT seq, key, jsonb_pretty(payload::jsonb) FROM klaviyo.outbox WHERE seq = 1;
SELECT seq, key, payload #>> '{event,unique_id}' AS unique_id, payload #>> '{event,value}' AS value FROM klaviyo.outbox ORDER BY seq;
BEGIN;
INSERT INTO orders (id, user_id, state) VALUES (6, 1, 'paid');
SELECT count(*) FROM klaviyo.outbox;
ROLLBACK;
SELECT count(*) FROM klaviyo.outbox;
DELETE FROM klaviyo.outbox;

-- Odd names ---------------------------------------------------------------------------------------------------------
CREATE SCHEMA "Odd One";
CREATE TABLE "Odd One"."My ""Orders" ("Order No." text, "row" text, "a'b$klaviyo$" int, "*" int, "-row" int);
SELECT klaviyo_sync_events('"Odd One"."My ""Orders"', 'It''s $klaviyo$ "odd"', external_id => 'Order No.', unique_id => 'row', event_time => '''2026-11-01''::timestamptz',
    properties => '["*", "-row", "a''b$klaviyo$"]') AS "the column *, the column -row, and that";
INSERT INTO "Odd One"."My ""Orders" VALUES ('o1', 'r1', 1, 2, 3);
SELECT key, payload FROM klaviyo.outbox \gx
DELETE FROM klaviyo.outbox;
SELECT klaviyo_sync_detach('"Odd One"."My ""Orders"');
ALTER TABLE "Odd One"."My ""Orders" DROP COLUMN "*", DROP COLUMN "-row";
SELECT klaviyo_sync_events('"Odd One"."My ""Orders"', 'x', external_id => 'Order No.', unique_id => '''u''', event_time => '''2026-11-01''::timestamptz', properties => '["*", "-row"]') > 0 AS mapped;
INSERT INTO "Odd One"."My ""Orders" VALUES ('o1', 'r1', 1);
SELECT payload FROM klaviyo.outbox \gx
DELETE FROM klaviyo.outbox;

-- More columns than a function takes arguments.
SELECT format('CREATE TABLE wide (%s)', string_agg(format('c%s int DEFAULT %s', n, n), ', ')) FROM generate_series(1, 120) AS n \gexec
SELECT klaviyo_sync_events('wide', 'x', external_id => 'c1', properties => '"*"') > 0 AS mapped;
INSERT INTO wide DEFAULT VALUES;
SELECT count(*), sum(value::int) FROM klaviyo.outbox, json_each_text(payload #> '{event,properties}');
DELETE FROM klaviyo.outbox;

-- COPY, ON CONFLICT, no row at all ----------------------------------------------------------------------------------
CREATE TABLE visits (id int PRIMARY KEY, who text);
SELECT klaviyo_sync_events('visits', 'Active on Site', external_id => 'who') > 0 AS mapped;
COPY visits FROM stdin;
1	a
2	b
\.
INSERT INTO visits VALUES (2, 'b'), (3, 'c') ON CONFLICT DO NOTHING;
INSERT INTO visits VALUES (3, 'd'), (4, 'e') ON CONFLICT (id) DO UPDATE SET who = excluded.who;
INSERT INTO visits SELECT 5, 'x' WHERE false;
WITH more AS (INSERT INTO visits VALUES (6, 'f') RETURNING id) INSERT INTO visits SELECT id + 1, 'g' FROM more;
TRUNCATE visits;
SELECT key FROM klaviyo.outbox ORDER BY seq;
DELETE FROM klaviyo.outbox;

-- Renamed, it goes on; what a mapping was said of may move.
ALTER TABLE visits RENAME TO seen;
ALTER TABLE seen SET SCHEMA "Odd One";
INSERT INTO "Odd One".seen VALUES (1, 'still');
SELECT key FROM klaviyo.outbox;
SELECT relation, name FROM klaviyo.sync ORDER BY id;
SELECT klaviyo_sync_detach('"Odd One".seen');
SELECT klaviyo_sync_events('"Odd One".seen', 'Active on Site', external_id => 'who') > 0 AS mapped;
-- Dropped, it leaves nothing.
DROP TABLE "Odd One".seen, wide;
SELECT relation, name FROM klaviyo.sync ORDER BY id;
SELECT proname FROM pg_proc WHERE proname LIKE 'klaviyo_sync_%' AND prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c') ORDER BY proname;

-- Detached by name.
SELECT klaviyo_sync_events('orders', 'Ordered', external_id => 'user_id', name => 'second') > 0 AS mapped;
SELECT klaviyo_sync_events('orders', 'Ordered', external_id => 'user_id', name => 'second');
SELECT klaviyo_sync_detach('orders', 'third');
SELECT klaviyo_sync_detach('orders', 'second');
SELECT klaviyo_sync_detach('orders');
SELECT klaviyo_sync_detach('orders');
SELECT klaviyo_sync_show('orders') IS NULL AS nothing;
SELECT relation, name FROM klaviyo.sync ORDER BY id;
SELECT count(*) FROM klaviyo.mapping;

-- Mistakes ----------------------------------------------------------------------------------------------------------
\set VERBOSITY default
SELECT klaviyo_sync_events(NULL, 'x', email => 'email');
SELECT klaviyo_sync_events('users', '', email => 'email');
SELECT klaviyo_sync_events('users', 'x', email => 'email', account => 'nowhere');
SELECT klaviyo_sync_events('users', 'x');
SELECT klaviyo_sync_events('users', 'x', email => 'emial');
SELECT klaviyo_sync_events('users', 'x', email => '');
SELECT klaviyo_sync_events('users', 'x', email => 'email', value => 'email');
SELECT klaviyo_sync_events('orders', 'x', external_id => 'user_id', event_time => 'local_at');
SELECT klaviyo_sync_events('orders', 'x', external_id => 'user_id', properties => '"user_id"');
SELECT klaviyo_sync_events('orders', 'x', external_id => 'row');
SELECT klaviyo_sync_events('orders', 'x', external_id => 'user_id', "when" => 'user_id');
SELECT klaviyo_sync_events('users', 'x', email => 'email', properties => '["id", "name"]');
SELECT klaviyo_sync_events('users', 'x', email => 'email', properties => '{"Name": "name"}');
SELECT klaviyo_sync_events('users', 'x', email => 'email', properties => '{"Name": 1}');
SELECT klaviyo_sync_events('users', 'x', email => 'email', properties => '1');
SELECT klaviyo_sync_events('users', 'x', email => 'ctid::text');
\set VERBOSITY terse
-- No expression of one row, or more than one, or more than an expression.
SELECT klaviyo_sync_events('users', 'x', email => 'max(email)');
SELECT klaviyo_sync_events('users', 'x', email => 'first_value(email) OVER ()');
SELECT klaviyo_sync_events('users', 'x', email => 'unnest(ARRAY[email])');
SELECT klaviyo_sync_events('users', 'x', email => 'email, id');
SELECT klaviyo_sync_events('users', 'x', email => 'email AS id');
SELECT klaviyo_sync_events('users', 'x', email => 'email FROM users');
SELECT klaviyo_sync_events('users', 'x', email => 'email UNION SELECT email');
SELECT klaviyo_sync_events('users', 'x', email => 'email;');
SELECT klaviyo_sync_events('users', 'x', email => 'email; DROP TABLE users');
SELECT klaviyo_sync_events('users', 'x', email => 'email) FROM users; DROP TABLE users; --');
SELECT klaviyo_sync_events('users', 'x', email => 'email /*');
SELECT klaviyo_sync_events('users', 'x', email => '$1');
SELECT klaviyo_sync_events('users', 'x', email => 'row.*');
SELECT klaviyo_sync_events('users', 'x', email => 'DISTINCT email');
CREATE TEMP TABLE mine (id int, email text);
SELECT klaviyo_sync_events('users', 'x', email => '(SELECT m.email FROM mine AS m WHERE m.id = row.id)');
-- Not these.
CREATE VIEW people AS SELECT * FROM users;
CREATE TABLE parted (id int) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parted DEFAULT;
\set VERBOSITY sqlstate
SELECT klaviyo_sync_events('people', 'x', external_id => 'id');
SELECT klaviyo_sync_events('mine', 'x', external_id => 'id');
SELECT klaviyo_sync_events('part', 'x', external_id => 'id');
SELECT klaviyo_sync_events('klaviyo.outbox', 'x', external_id => 'seq');
SELECT klaviyo_sync_events('pg_class', 'x', external_id => 'relname');
\set VERBOSITY terse
-- Nothing is left of what was refused.
SELECT count(*) FROM klaviyo.mapping;
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'klaviyo_sync%';

-- Whose rights ------------------------------------------------------------------------------------------------------
CREATE ROLE sync_owner;
CREATE ROLE sync_dba;
CREATE ROLE sync_clerk;
GRANT klaviyo_admin TO sync_dba;
CREATE SCHEMA shop AUTHORIZATION sync_owner;
CREATE TABLE shop.orders (id int, user_id int);
ALTER TABLE shop.orders OWNER TO sync_owner;
GRANT USAGE ON SCHEMA shop TO sync_dba, sync_clerk;
GRANT INSERT ON shop.orders TO sync_clerk;
SET ROLE sync_clerk;
SELECT klaviyo_sync_events('shop.orders', 'x', external_id => 'id');
RESET ROLE;
SET ROLE sync_dba;
SELECT klaviyo_sync_events('shop.orders', 'x', external_id => 'id');
RESET ROLE;
GRANT sync_owner TO sync_dba;
SET ROLE sync_dba;
SELECT klaviyo_sync_events('shop.orders', 'x', external_id => 'id');
RESET ROLE;
GRANT klaviyo_writer TO sync_owner;
SET ROLE sync_dba;
\set VERBOSITY default
SELECT klaviyo_sync_events('shop.orders', 'x', email => '(SELECT u.email FROM users AS u WHERE u.id = row.user_id)');
\set VERBOSITY terse
RESET ROLE;
GRANT SELECT ON users TO sync_owner;
SET ROLE sync_dba;
SELECT klaviyo_sync_events('shop.orders', 'x', email => '(SELECT u.email FROM users AS u WHERE u.id = row.user_id)') > 0 AS mapped;
RESET ROLE;
SELECT p.proowner::regrole, p.prosecdef, p.proacl FROM pg_proc AS p WHERE p.proname LIKE 'klaviyo_sync_%' AND p.prosecdef AND p.prorettype = 'trigger'::regtype;
-- A clerk has no right of ours, and needs none.
SET ROLE sync_clerk;
INSERT INTO shop.orders VALUES (1, 2);
SELECT count(*) FROM klaviyo.sync;
RESET ROLE;
SELECT key FROM klaviyo.outbox ORDER BY seq DESC LIMIT 1;
SET ROLE sync_dba;
SELECT klaviyo_sync_detach('shop.orders');
RESET ROLE;
DROP OWNED BY sync_owner, sync_dba, sync_clerk;
DROP ROLE sync_owner, sync_dba, sync_clerk;
