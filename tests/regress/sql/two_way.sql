-- klaviyo_sync_profiles(direction => 'both'). No worker runs here: that rows are written back is for the end-to-end tests.
SET timezone = 'UTC';
SET client_min_messages = error;
CREATE EXTENSION klaviyo_sync;
SELECT klaviyo_set_account();
RESET client_min_messages;

CREATE SCHEMA shop;
CREATE TABLE shop.customers (
    id integer PRIMARY KEY, email varchar(80), "First" text, city text, tier text, full_name text GENERATED ALWAYS AS ("First") STORED,
    tags jsonb, updated_at timestamptz DEFAULT '2026-01-01Z'
);

-- The runner sees nothing of this, and so has nothing to do
BEGIN;
-- What is written back is what is a column, and may be written
SELECT klaviyo_sync_profiles(
    'shop.customers', external_id => 'id', email => 'email', first_name => 'First', title => 'lower("First")', organization => 'full_name',
    location => '{"city": "city", "country": "''AT''"}', properties => '["*", "-email"]',
    direction => 'both', updated_at => 'updated_at');
SELECT f ->> 'column' AS column, f ->> 'path' AS field
FROM klaviyo.mapping AS m, jsonb_array_elements(m.plan #> '{write_back,fields}') AS f
ORDER BY 1;
SELECT plan #>> '{write_back,updated_at}' AS updated_at, plan #>> '{write_back,identifiers}' AS identifiers, writes_back FROM klaviyo.mapping;
SELECT spec ->> 'direction' AS direction, spec ->> 'updated_at' AS updated_at FROM klaviyo.sync;
SELECT klaviyo_sync_show('shop.customers');

-- What is changed is queued, and what was noted without a word of it
INSERT INTO shop.customers VALUES (1, 'ada@shop.example', 'Ada', 'Graz', 'gold');
UPDATE shop.customers SET "First" = 'Augusta', tier = NULL;
SELECT payload FROM klaviyo.outbox ORDER BY seq;
SELECT field, count(DISTINCT person) AS people, count(DISTINCT digest) AS values FROM klaviyo.own_value GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM klaviyo.own_value AS o WHERE o::text LIKE '%Ada%';

-- With another direction nothing is
SELECT klaviyo_sync_profiles('shop.customers', email => 'email', first_name => 'First', replace => true);
SELECT plan -> 'write_back' AS write_back, writes_back FROM klaviyo.mapping;

-- What changes at Klaviyo is to be written back, with what it was
SELECT klaviyo_sync_profiles('shop.customers', email => 'email', first_name => 'First', direction => 'both', updated_at => 'updated_at', replace => true);
INSERT INTO klaviyo.profile (account, profile_id, email, first_name, pulled_at) VALUES ('default', 'P1', 'ada@shop.example', 'Ada', now());
INSERT INTO klaviyo.profile (account, profile_id, email, pulled_at) VALUES ('default', 'P2', 'bob@shop.example', now());
SELECT profile_id, before FROM klaviyo.write_back ORDER BY 1;
DELETE FROM klaviyo.write_back;
UPDATE klaviyo.profile SET first_name = 'Grace', last_event_at = now() WHERE profile_id = 'P1';
UPDATE klaviyo.profile SET last_event_at = now();
UPDATE klaviyo.profile SET first_name = 'Ada' WHERE profile_id = 'P1';
SELECT profile_id, jsonb_strip_nulls(before) AS before FROM klaviyo.write_back ORDER BY 1;
-- What was known before is written back as well
SELECT klaviyo_sync_profiles('shop.customers', email => 'email', location => '{"city": "city"}', direction => 'both', updated_at => 'updated_at', name => 'city');
SELECT m.name, m.writes_back_after FROM klaviyo.mapping AS m ORDER BY 1;
SELECT klaviyo_sync_detach('shop.customers', 'city');
SELECT count(*) FROM klaviyo.write_back;

-- A row that is new is to be told what is known of its profile
DELETE FROM klaviyo.write_back;
DELETE FROM klaviyo.own_value;
INSERT INTO shop.customers (id, email, "First") VALUES (2, 'BOB@shop.example', 'Bob'), (3, 'eve@shop.example', 'Eve');
SELECT profile_id, before FROM klaviyo.write_back;
SELECT DISTINCT field FROM klaviyo.own_value ORDER BY 1;

SELECT klaviyo_sync_detach('shop.customers');
COMMIT;

-- Field by field
SELECT klaviyo.note_own_values('default', '{"email": "ada@shop.example", "title": "B"}', '{"email": "ada@shop.example", "title": "Dr", "properties": {"n": 1.50}}');
SELECT c.field, c.outcome
FROM klaviyo.compare_profiles(
    'default', '[["email"], ["first_name"], ["last_name"], ["title"], ["locale"], ["image"], ["organization"], ["location", "city"], ["properties", "n"], ["properties", "x.y"], ["properties", "list"]]',
    '{"email": "Ada@shop.example", "first_name": "A", "last_name": "B", "title": "B", "locale": "de", "image": "i", "organization": null, "location": {"city": "G"}, "properties": {"n": 2.0, "x.y": "7", "list": [1]}}',
    '{"email": "ada@shop.example", "first_name": "A", "last_name": "K", "title": "Dr", "locale": "en", "organization": "O", "location": {"city": "L"}, "properties": {"n": 2, "x.y": 7, "list": [1, 2]}}',
    '{"first_name": "X", "last_name": "B", "title": "B", "locale": "en", "image": "i", "location": {"city": "X"}, "properties": {"list": [0]}}',
    '2026-01-01Z', '2026-01-02Z') AS c;
-- Where nothing is known of before, who has something tells the other
SELECT c.field, c.outcome
FROM klaviyo.compare_profiles(
    'default', '[["first_name"], ["last_name"], ["title"], ["properties", "n"]]',
    '{"email": "ada@shop.example", "first_name": "A", "title": "B", "properties": {"n": 2}}', '{"last_name": "L", "title": "C", "properties": {"n": 1.5}}',
    NULL, '2026-01-02Z', '2026-01-01Z') AS c;
SELECT own, theirs, outcome
FROM (VALUES ('2026-01-01Z'::timestamptz, '2026-01-01Z'::timestamptz), (NULL, '2026-01-01Z'), ('2026-01-01Z', NULL), (NULL, NULL)) AS t (own, theirs)
CROSS JOIN LATERAL klaviyo.compare_profiles('default', '[["title"]]', '{"title": "A"}', '{"title": "B"}', '{}', own, theirs);
SELECT klaviyo.with_field('{"title": "A", "properties": {"a": 1}}', '{properties,b}', '2'), klaviyo.with_field('{}', '{location,city}', NULL), klaviyo.with_field('{"title": "A"}', '{title}', '"B"');

-- What an owner's columns do not take is said, and what may be otherwise another time raised
SELECT klaviyo.try_update('UPDATE shop.customers SET (id) = (SELECT it.id FROM jsonb_populate_record(NULL::shop.customers, $1) AS it)', '{"id": "x"}', 'shop');
SELECT klaviyo.try_update('UPDATE shop.customers SET nothing = 1', '{}', 'shop');
SELECT klaviyo.try_update('UPDATE shop.customers SET (tier) = (SELECT it.tier FROM jsonb_populate_record(NULL::shop.customers, $1) AS it)', '{"tier": "iron"}', 'shop');
SELECT tier FROM shop.customers;
SELECT klaviyo.try_update('UPDATE shop.customers SET tier = $1::text WHERE false', '{}', 'shop');
SELECT klaviyo.try_update('DO $do$ BEGIN ASSERT false; END $do$', '{}', 'shop'), klaviyo.try_update('DO $do$ BEGIN RAISE insufficient_privilege; END $do$', '{}', 'shop');

-- What is no such mapping
CREATE TABLE shop.keyless (email text, updated_at timestamptz, changed timestamp);
SELECT klaviyo_sync_profiles('shop.customers', email => 'email', direction => 'in', name => 'x');
\echo :LAST_ERROR_SQLSTATE
SELECT klaviyo_sync_profiles('shop.customers', email => 'email', direction => 'both', name => 'x');
SELECT klaviyo_sync_profiles('shop.customers', email => 'email', updated_at => 'updated_at', name => 'x');
SELECT klaviyo_sync_profiles('shop.customers', external_id => 'id', direction => 'both', updated_at => 'updated_at', name => 'x');
SELECT klaviyo_sync_profiles('shop.keyless', email => 'email', direction => 'both', updated_at => 'updated_at');
SELECT klaviyo_sync_profiles('shop.keyless', email => 'email', direction => 'both', updated_at => 'changed');
