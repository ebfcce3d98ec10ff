-- klaviyo_backfill(): what stood in a table before it was mapped.
\set VERBOSITY terse
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;
CREATE VIEW queued AS
SELECT kind, coalesce(payload #>> '{event,properties,n}', payload #>> '{properties,n}') AS n, payload #>> '{event,unique_id}' AS unique_id,
       coalesce(payload #>> '{event,backfill}', payload ->> 'backfill') AS backfill, account
FROM klaviyo.outbox;
-- Waits until nothing is left to do, and what has been noted for those that are done is forgotten.
CREATE PROCEDURE finish() LANGUAGE plpgsql AS $$
BEGIN
    WHILE EXISTS (SELECT FROM klaviyo.backfill WHERE state = 'running' AND error IS NULL)
        OR EXISTS (SELECT FROM klaviyo.captured_key AS k JOIN klaviyo.mapping AS m ON m.id = k.mapping WHERE NOT m.notes_keys) LOOP
        COMMIT;
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
CREATE VIEW runs AS SELECT relation, name, state, "where", again, rows_done, rows_queued, rows_refused, rows_left, last_key, error FROM klaviyo.backfill ORDER BY id;

-- Once --------------------------------------------------------------------------------------------------------------
CREATE TABLE orders (n int PRIMARY KEY, who text, state text DEFAULT 'new', at timestamptz DEFAULT '2020-01-01Z');
INSERT INTO orders SELECT n, 'w' || n FROM generate_series(1, 40) AS n;
SELECT klaviyo_backfill('orders');
SELECT klaviyo_sync_events('orders', 'Ordered', external_id => 'who', event_time => 'at', properties => '["n"]', profile => '{"properties": {"last": "n"}}');
INSERT INTO orders SELECT n, 'w' || n FROM generate_series(41, 42) AS n;
-- Rows that could be taken for such as were there before.
INSERT INTO orders VALUES (0, 'w0'), (-5, 'w-5');
DELETE FROM orders WHERE n = 7;
INSERT INTO orders VALUES (7, 'w7 anew');
SELECT key FROM klaviyo.captured_key ORDER BY key COLLATE "C";
SELECT klaviyo_backfill('orders');
CALL finish();
SELECT * FROM runs;
SELECT backfill, count(*), count(DISTINCT n), min(n::int), max(n::int) FROM queued GROUP BY 1 ORDER BY 1;
SELECT payload -> 'profile' AS profile, payload #>> '{event,backfill}' AS backfill, payload #>> '{event,time}' AS at, right(payload #>> '{event,unique_id}', 4) AS id FROM klaviyo.outbox WHERE payload #>> '{event,properties,n}' = '9';
SELECT count(*) FROM klaviyo.captured_key;
INSERT INTO orders VALUES (-6, 'w-6');
SELECT count(*) FROM klaviyo.captured_key;
SELECT klaviyo_backfill('orders');
SELECT klaviyo_backfill('orders', again => true);
-- By ids of one's own they may be sent again. None of those rides: its id is not its number's.
SELECT klaviyo_sync_events('orders', 'Ordered', external_id => 'who', event_time => 'at', unique_id => 'n', properties => '["n"]', replace => true);
DELETE FROM klaviyo.outbox;
SELECT klaviyo_backfill('orders', 'n BETWEEN 38 AND 41', again => true);
CALL finish();
SELECT * FROM runs WHERE again;
SELECT n, unique_id, backfill FROM queued ORDER BY n;
SELECT count(*) FROM klaviyo.outbox WHERE right(message_id::text, 12) = lpad(to_hex(seq), 8, '0') || '6b73';
DELETE FROM klaviyo.outbox;

-- What is written by a trigger of a mapping with a history -------------------------------------------------------------
CREATE TABLE parcels (a text, b int, state text, who text, PRIMARY KEY (b, a));
INSERT INTO parcels VALUES ('x', 1, 'new', 'w1'), ('y', 1, 'sent', 'w2'), ('x', 2, 'sent', 'w3'), ('it''s', 2, 'new', 'w4'), ('z', 9, 'new', 'w9');
SELECT klaviyo_sync_events('parcels', 'Sent', external_id => 'who', "on" => 'insert or update', "when" => 'state = ''sent''', properties => '{"n": "b || a"}') > 0 AS mapped;
\a\t
SELECT klaviyo_sync_show('parcels');
\a\t
-- One becomes an event, one is one no more, and one was none and is none.
UPDATE parcels SET state = 'sent' WHERE who = 'w4';
UPDATE parcels SET state = 'lost' WHERE who = 'w2';
UPDATE parcels SET who = 'w1' WHERE who = 'w1';
INSERT INTO parcels VALUES ('a', 3, 'sent', 'w5'), ('b', 3, 'new', 'w6'), ('a', 10, 'sent', 'w7');
UPDATE parcels SET state = 'sent' WHERE who = 'w6';
SELECT key FROM klaviyo.captured_key ORDER BY key COLLATE "C";
SELECT klaviyo_backfill('parcels');
CALL finish();
SELECT n, backfill FROM queued ORDER BY n COLLATE "C";
SELECT rows_done, rows_queued, last_key FROM runs WHERE relation = 'parcels'::regclass;
DELETE FROM klaviyo.outbox;

-- In parts, and what becomes of one ----------------------------------------------------------------------------------
CREATE TABLE visits (id uuid PRIMARY KEY, n int, who text);
INSERT INTO visits SELECT md5(n::text)::uuid, n, 'w' FROM generate_series(1, 100) AS n;
SELECT klaviyo_sync_events('visits', 'Visited', external_id => 'who', properties => '["n"]', at => 'commit') > 0 AS mapped;
INSERT INTO visits SELECT md5(n::text)::uuid, n, 'w' FROM generate_series(101, 150) AS n;
SELECT count(*) BETWEEN 40 AND 50 AS "nearly all" FROM klaviyo.captured_key;
SELECT klaviyo_backfill('visits', 'n > 60');
CALL finish();
SELECT klaviyo_backfill('visits', 'row.n % 2 = 0', name => 'Visited');
CALL finish();
SELECT klaviyo_backfill('visits');
CALL finish();
SELECT backfill, count(*), count(DISTINCT n) FROM queued GROUP BY 1 ORDER BY 1;
SELECT "where", state, rows_done, rows_queued FROM runs WHERE relation = 'visits'::regclass;
DELETE FROM klaviyo.outbox;
SELECT klaviyo_sync_detach('visits');
SELECT count(*) FROM klaviyo.backfill WHERE name = 'Visited';
SELECT klaviyo_sync_events('visits', 'Visited', external_id => 'who', properties => '["n"]') > 0 AS mapped;
BEGIN;
SELECT klaviyo_backfill('visits');
SELECT klaviyo_backfill_pause('visits');
COMMIT;
SELECT klaviyo_backfill('visits');
SELECT state, rows_queued FROM klaviyo.backfill WHERE name = 'Visited';
SELECT * FROM klaviyo_health() WHERE name = 'backfill';
SELECT klaviyo_backfill_resume('visits', 'Visited');
CALL finish();
SELECT state, rows_queued FROM klaviyo.backfill WHERE name = 'Visited';
SELECT klaviyo_backfill_resume('visits'), klaviyo_backfill_pause('visits'), klaviyo_backfill_cancel('visits');
DELETE FROM klaviyo.outbox;

-- Parts whose rows change between them: each is sent once ---------------------------------------------------------------
CREATE TABLE lots (n int PRIMARY KEY, state text, who text DEFAULT 'w');
INSERT INTO lots SELECT n, CASE WHEN n <= 30 THEN 'old' ELSE 'new' END FROM generate_series(1, 60) AS n;
SELECT klaviyo_sync_events('lots', 'Lot', external_id => 'who', properties => '["n"]') > 0 AS mapped;
SELECT klaviyo_backfill('lots', 'state = ''old''');
CALL finish();
UPDATE lots SET state = CASE WHEN n <= 20 THEN 'new' ELSE 'old' END WHERE n BETWEEN 11 AND 40;
SELECT klaviyo_backfill('lots', 'state = ''new''');
CALL finish();
SELECT klaviyo_backfill('lots');
CALL finish();
SELECT "where", rows_done, rows_queued FROM runs WHERE relation = 'lots'::regclass;
SELECT count(*), count(DISTINCT n) FROM queued;
SELECT count(*) FROM klaviyo.captured_key;
DELETE FROM klaviyo.outbox;

-- Profiles -----------------------------------------------------------------------------------------------------------
CREATE TABLE people (id int PRIMARY KEY, name text, n int);
INSERT INTO people VALUES (1, 'Ada', 1), (2, 'Bob', 2), (3, NULL, 3);
SELECT klaviyo_sync_profiles('people', external_id => 'id', first_name => 'name', properties => '["n"]') > 0 AS mapped;
UPDATE people SET n = 20 WHERE id = 2;
INSERT INTO people VALUES (0, 'Zoe', 0), (4, 'Eve', 4);
SELECT klaviyo_backfill('people');
CALL finish();
SELECT payload FROM klaviyo.outbox ORDER BY seq;
DELETE FROM klaviyo.outbox;

-- What cannot be sent is put aside, and the rest is sent ---------------------------------------------------------------
CREATE TABLE odd (n int PRIMARY KEY, email text);
INSERT INTO odd SELECT n, CASE n WHEN 13 THEN 'no address' ELSE 'a@b.example' END FROM generate_series(1, 30) AS n;
SELECT klaviyo_sync_events('odd', 'Odd', email => 'email', value => '100 / (n - 17)', properties => '["n"]') > 0 AS mapped;
SELECT klaviyo_backfill('odd');
CALL finish();
SELECT state, rows_done, rows_queued, rows_refused FROM klaviyo.backfill WHERE name = 'Odd';
SELECT count(DISTINCT n) FROM queued;
SELECT code, reason, payload FROM klaviyo.dead_letter ORDER BY died_at;
DELETE FROM klaviyo.outbox;
-- Where one after the other fails, it is no row's fault.
SELECT klaviyo_sync_detach('odd');
SELECT klaviyo_sync_events('odd', 'Odd', external_id => 'n', value => '1 / (CASE WHEN n < 5 THEN 1 ELSE 0 END)', properties => '["n"]') > 0 AS mapped;
DELETE FROM klaviyo.dead_letter;
SELECT klaviyo_backfill('odd');
CALL finish();
SELECT state, rows_done, rows_refused, error FROM klaviyo.backfill WHERE name = 'Odd';
SELECT count(*) FROM klaviyo.dead_letter;
DELETE FROM klaviyo.outbox;
-- A mapping that is broken.
SELECT klaviyo_sync_detach('odd');
SELECT klaviyo_sync_events('odd', 'Odd', email => '(SELECT p.name FROM people AS p WHERE p.id = row.n)') > 0 AS mapped;
ALTER TABLE people RENAME COLUMN name TO first;
SELECT klaviyo_backfill('odd');
CALL finish();
SELECT state, rows_done, error FROM klaviyo.backfill WHERE name = 'Odd';
ALTER TABLE people RENAME COLUMN first TO name;
SELECT klaviyo_backfill_resume('odd');
CALL finish();
SELECT state, rows_done, rows_refused, error FROM klaviyo.backfill WHERE name = 'Odd';
DELETE FROM klaviyo.outbox;

-- Tables of all kinds --------------------------------------------------------------------------------------------------
CREATE SCHEMA "Odd One";
CREATE TABLE "Odd One"."My ""Rows" ("The Key" timestamptz, "row" numeric, n int, PRIMARY KEY ("The Key", "row"));
INSERT INTO "Odd One"."My ""Rows" SELECT '2020-01-01Z'::timestamptz + n * interval '1.000001 day', n / 7.0, n FROM generate_series(1, 100) AS n;
INSERT INTO "Odd One"."My ""Rows" VALUES ('-infinity', 'NaN', 101), ('infinity', '-1', 102);
CREATE TABLE parts (day date, id bigint, n int, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO parts SELECT '2026-01-01'::date + n % 59, n, n FROM generate_series(1, 100) AS n;
CREATE TABLE parent (n int PRIMARY KEY);
CREATE TABLE child (PRIMARY KEY (n)) INHERITS (parent);
INSERT INTO parent SELECT generate_series(1, 5);
INSERT INTO child SELECT generate_series(6, 9);
CREATE DOMAIN code AS text COLLATE "C" CHECK (value <> '');
CREATE TYPE mood AS ENUM ('sad', 'glad', 'mad');
CREATE TABLE coded (code code, mood mood, n int, PRIMARY KEY (code, mood));
INSERT INTO coded SELECT 'it''s' || chr(64 + n % 20) || '\', (enum_range(NULL::mood))[1 + n % 3], n FROM generate_series(1, 60) AS n;
CREATE TABLE padded (c char(10), b bit(8), n int, PRIMARY KEY (c, b));
INSERT INTO padded SELECT n % 7, n::bit(8), n FROM generate_series(1, 50) AS n;
CREATE TYPE place AS (aisle text, shelf int);
CREATE TABLE shelved (at place PRIMARY KEY, n int);
INSERT INTO shelved SELECT (chr(65 + n % 5) || ',"', n)::place, n FROM generate_series(1, 50) AS n;
CREATE TABLE empty (n int PRIMARY KEY);
SELECT klaviyo_sync_events('"Odd One"."My ""Rows"', 'a', external_id => '''w''', properties => '["n"]') > 0
   AND klaviyo_sync_events('parts', 'b', external_id => '''w''', properties => '["n"]') > 0
   AND klaviyo_sync_events('parent', 'c', external_id => '''w''', properties => '["n"]') > 0
   AND klaviyo_sync_events('coded', 'd', external_id => '''w''', properties => '["n"]') > 0
   AND klaviyo_sync_events('empty', 'e', external_id => '''w''', properties => '["n"]') > 0
   AND klaviyo_sync_events('padded', 'f', external_id => '''w''', properties => '["n"]') > 0
   AND klaviyo_sync_events('shelved', 'g', external_id => '''w''', properties => '["n"]') > 0 AS mapped;
INSERT INTO parts VALUES ('2026-01-15', 101, 101), ('2026-02-28', 101, 102);
INSERT INTO parts_2 VALUES ('2026-02-01', 102, 103);
INSERT INTO empty VALUES (1);
SET datestyle = 'German, DMY';
SET timezone = 'Asia/Tokyo';
SELECT klaviyo_backfill('"Odd One"."My ""Rows"'), klaviyo_backfill('parts'), klaviyo_backfill('parent'), klaviyo_backfill('coded'), klaviyo_backfill('empty'), klaviyo_backfill('padded'), klaviyo_backfill('shelved');
CALL finish();
SELECT name, state, rows_done, rows_queued, rows_refused, last_key, error FROM runs WHERE length(name) = 1;
SELECT payload #>> '{event,metric,data,attributes,name}' AS metric, payload #>> '{event,backfill}' AS backfill, count(*), count(DISTINCT payload #>> '{event,properties,n}')
FROM klaviyo.outbox GROUP BY 1, 2 ORDER BY 1, 2;
RESET datestyle;
RESET timezone;

-- What is refused ------------------------------------------------------------------------------------------------------
\set VERBOSITY default
CREATE TABLE keyless (n int);
SELECT klaviyo_sync_events('keyless', 'x', external_id => 'n') > 0 AS mapped;
SELECT klaviyo_backfill('keyless');
ALTER TABLE keyless ADD PRIMARY KEY (n);
SELECT klaviyo_backfill('keyless');
ALTER TABLE empty ADD COLUMN m text DEFAULT 'x', DROP CONSTRAINT empty_pkey, ADD PRIMARY KEY (m, n);
SELECT klaviyo_backfill('empty');
SELECT klaviyo_backfill('people', 'no_such_column');
SELECT klaviyo_backfill('people', 'n');
SELECT klaviyo_backfill('people', '1 / 0 > id');
SELECT klaviyo_backfill('people', 'true); DROP TABLE people; --');
SELECT klaviyo_backfill('people', name => 'x');
SELECT klaviyo_backfill(NULL);
CREATE TABLE gone (n int PRIMARY KEY);
SELECT klaviyo_sync_events('gone', 'x', external_id => 'n', "on" => 'delete') > 0 AS mapped;
SELECT klaviyo_backfill('gone');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT klaviyo_sync_events('gone', 'y', external_id => 'n');
ROLLBACK;
-- Rows that are kept from the table's owner are no history that he could send.
CREATE ROLE backfill_keeper IN ROLE klaviyo_writer;
CREATE TABLE "Odd One".hidden (n int PRIMARY KEY);
INSERT INTO "Odd One".hidden VALUES (1);
ALTER TABLE "Odd One".hidden OWNER TO backfill_keeper, ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT klaviyo_sync_events('"Odd One".hidden', 'x', external_id => 'n') > 0 AS mapped;
GRANT CREATE, USAGE ON SCHEMA "Odd One" TO backfill_keeper;
SELECT klaviyo_sync_events('"Odd One".hidden', 'x', external_id => 'n') > 0 AS mapped;
SELECT klaviyo_backfill('"Odd One".hidden');
DROP TABLE "Odd One".hidden;
REVOKE CREATE, USAGE ON SCHEMA "Odd One" FROM backfill_keeper;
DROP ROLE backfill_keeper;
CREATE ROLE backfill_clerk IN ROLE klaviyo_admin;
SET ROLE backfill_clerk;
SELECT klaviyo_backfill('people');
SELECT klaviyo_backfill_cancel('people');
-- Whoever is no owner notes nothing.
SELECT klaviyo.note_keys(id, '{"[\"1\"]"}') FROM klaviyo.mapping WHERE name = 'profile';
RESET ROLE;
SELECT count(*) FROM klaviyo.captured_key AS k JOIN klaviyo.mapping AS m ON m.id = k.mapping WHERE m.name = 'profile';
DROP ROLE backfill_clerk;

-- After one that was cancelled, however far it came --------------------------------------------------------------------
CREATE TABLE steps (n int PRIMARY KEY, who text);
INSERT INTO steps SELECT n, 'w' FROM generate_series(1, 50) AS n;
SELECT klaviyo_sync_events('steps', 'Step', external_id => 'who', properties => '["n"]') > 0 AS mapped;
DELETE FROM klaviyo.outbox;
BEGIN;
SELECT klaviyo_backfill('steps');
SELECT klaviyo_backfill_cancel('steps');
COMMIT;
-- As if it had been cancelled behind its first rows.
INSERT INTO klaviyo.backfill_run (mapping, condition, again, state, position, ended_at)
SELECT id, NULL, false, 'cancelled', '{20}', now() FROM klaviyo.mapping WHERE name = 'Step';
SELECT klaviyo_backfill('steps');
CALL finish();
SELECT state, rows_done, rows_queued FROM klaviyo.backfill WHERE name = 'Step' ORDER BY id;
SELECT string_agg(n, ' ' ORDER BY n::int) FROM queued;
DELETE FROM klaviyo.outbox;

-- While it is paused, its table changes --------------------------------------------------------------------------------
-- A key's column may get another name.
CREATE TABLE moved (n int PRIMARY KEY, other int UNIQUE NOT NULL, who text);
INSERT INTO moved SELECT n, 100 - n, 'w' FROM generate_series(1, 50) AS n;
SELECT klaviyo_sync_events('moved', 'Moved', external_id => 'who', properties => '{"n": "other"}') > 0 AS mapped;
BEGIN;
SELECT klaviyo_backfill('moved');
SELECT klaviyo_backfill_pause('moved');
COMMIT;
ALTER TABLE moved RENAME COLUMN n TO id;
SELECT klaviyo_sync_events('moved', 'Moved', external_id => 'who', properties => '{"n": "other"}', replace => true) > 0 AS mapped;
INSERT INTO moved VALUES (0, 100, 'w'), (51, 49, 'w');
SELECT klaviyo_backfill_resume('moved');
CALL finish();
SELECT state, rows_done, rows_queued, error FROM klaviyo.backfill WHERE name = 'Moved';
SELECT count(*), count(DISTINCT n) FROM queued;
DELETE FROM klaviyo.outbox;
-- In the order of another key it cannot go on.
SELECT klaviyo_sync_detach('moved');
SELECT klaviyo_sync_events('moved', 'Moved', external_id => 'who', properties => '{"n": "other"}') > 0 AS mapped;
BEGIN;
SELECT klaviyo_backfill('moved');
SELECT klaviyo_backfill_pause('moved');
COMMIT;
ALTER TABLE moved DROP CONSTRAINT moved_pkey, ADD PRIMARY KEY (other);
SELECT klaviyo_backfill_resume('moved');
CALL finish();
SELECT state, rows_done, rows_queued, error FROM klaviyo.backfill WHERE name = 'Moved';
SELECT count(*) FROM queued;
