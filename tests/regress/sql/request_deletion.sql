-- klaviyo_request_deletion(), and rows whose deletion asks for it.
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;
CREATE VIEW queued AS SELECT kind, account, key, payload FROM klaviyo.outbox ORDER BY seq;

SELECT klaviyo_request_deletion('Ada@Shop.example') IS NOT NULL AS queued;
SELECT klaviyo_request_deletion(phone_number => '+15005550006') IS NOT NULL AS queued;
SELECT * FROM queued;
DELETE FROM klaviyo.outbox;
SELECT klaviyo_request_deletion();
SELECT klaviyo_request_deletion('a@shop.example', '+15005550006');
SELECT klaviyo_request_deletion('nobody');
SELECT klaviyo_request_deletion('a@shop.example', account => 'none');
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_request_deletion('nobody') IS NOT NULL AS buried;
SELECT kind, code, reason, payload FROM klaviyo.dead_letter;
RESET klaviyo.on_invalid;

CREATE TABLE users (id int PRIMARY KEY, email text, phone text, is_test boolean NOT NULL DEFAULT false);
SELECT klaviyo_sync_profiles('users', external_id => 'id', on_delete => 'request_deletion');
SELECT klaviyo_sync_profiles('users', email => 'email', on_delete => 'forget');
SELECT klaviyo_sync_profiles('users', email => 'email', phone_number => 'phone', external_id => 'id', "when" => 'NOT is_test', on_delete => 'request_deletion') > 0 AS mapped;
\a\t
SELECT klaviyo_sync_show('users');
\a\t
SELECT spec FROM klaviyo.sync;
INSERT INTO users VALUES (1, 'a@shop.example', NULL, false), (2, 'b@shop.example', '+15005550006', false), (3, NULL, '+15005550007', false), (5, 'test@shop.example', NULL, true);
DELETE FROM klaviyo.outbox;
DELETE FROM users;
SELECT * FROM queued;
DELETE FROM klaviyo.outbox;
-- By one of them, and by a cascade of a table that is inherited from.
CREATE TABLE accounts (id int PRIMARY KEY);
CREATE TABLE people (id int PRIMARY KEY, account_id int REFERENCES accounts ON DELETE CASCADE, phone text);
CREATE TABLE staff () INHERITS (people);
SELECT klaviyo_sync_profiles('people', phone_number => 'phone', on_delete => 'request_deletion') > 0 AS mapped;
INSERT INTO accounts VALUES (1);
INSERT INTO people VALUES (1, 1, '+15005550008');
DELETE FROM accounts;
SELECT * FROM queued;

-- It is on record, by a digest that is the account's own; who may read that reads no digest.
SELECT klaviyo_sync_detach('users'), klaviyo_sync_detach('people');
DELETE FROM klaviyo.outbox;
DELETE FROM klaviyo.deletion;
SELECT klaviyo_request_deletion('Ada@Shop.example') AS request \gset
SELECT d.message_id = :'request' AS same, o.seq = d.seq AS in_order, d.account, d.identifier, d.requested_by = session_user AS by_us, d.accepted_at, d.dropped_at,
       d.digest = klaviyo.person_digest(a.person_salt, 'email:ada@shop.example') AS is_digest
FROM klaviyo.deletion AS d JOIN klaviyo.outbox AS o USING (message_id) JOIN klaviyo.account AS a ON a.name = d.account;
BEGIN;
SELECT klaviyo_request_deletion('bob@shop.example') IS NOT NULL AS queued;
ROLLBACK;
SELECT count(*) FROM klaviyo.deletion;
SELECT klaviyo_readmit();
SELECT klaviyo_readmit('nobody@shop.example'), klaviyo_readmit('ada@shop.example', account => 'none'), klaviyo_readmit(phone_number => 'ada@shop.example');
BEGIN;
SELECT klaviyo_readmit('ADA@shop.example');
SELECT klaviyo_upsert_profile('ada@shop.example') IS NOT NULL AS queued;
SELECT o.seq > d.readmitted_seq AS comes_after FROM klaviyo.outbox AS o, klaviyo.deletion AS d WHERE o.kind = 'profile';
COMMIT;
SELECT readmitted_seq AS first FROM klaviyo.deletion \gset
SELECT klaviyo_readmit('ada@shop.example') AS once_is_enough, (SELECT readmitted_seq = :first FROM klaviyo.deletion) AS same;
SELECT klaviyo_request_deletion('ÄDA@shop.example') IS NOT NULL AS queued;
SELECT klaviyo_readmit('Äda@shop.example'), klaviyo.identifier('email', 'ÄDA@Shop.example'), klaviyo.identifier('external_id', 'Ä');
-- What is refused about somebody who is to be deleted names them no more than anything else.
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_request_deletion('bob@shop.example') IS NOT NULL AS queued;
SELECT klaviyo_track_event('Bad', ' Bob@Shop.example ') IS NOT NULL AS buried;
SELECT klaviyo_upsert_changes('{"email": "bob@shop.example", "locale": 7}') IS NOT NULL AS buried;
SELECT klaviyo_track_event('Bad', ' xbob@shop.example ') IS NOT NULL AS buried;
UPDATE klaviyo.deletion SET requested_at = requested_at - interval '60 days' WHERE identifier ~ 'bob';
SELECT klaviyo_track_event('Bad', 'bob@shop.example', value_currency => 'x') IS NOT NULL AS buried;
SELECT code, payload FROM klaviyo.dead_letter WHERE code <> 'no_identifier' ORDER BY died_at;
RESET klaviyo.on_invalid;
CREATE ROLE regress_deletion_reader IN ROLE klaviyo_reader;
SET ROLE regress_deletion_reader;
SELECT account, identifier FROM klaviyo.deletion;
SELECT digest FROM klaviyo.deletion;
SELECT klaviyo_readmit('ada@shop.example');
RESET ROLE;
DROP ROLE regress_deletion_reader;
-- What was delivered is purged some blocks at a time, of the people and the account alone, and of what is older.
INSERT INTO klaviyo.delivery (message_id, seq, account, kind, key, http_status, attempts, enqueued_at, sent_at, settled_at)
SELECT gen_random_uuid(), n, CASE n % 3 WHEN 0 THEN 'other' ELSE 'default' END, 'event', ARRAY['external_id:' || n % 5, 'email:' || n % 2], 202, 1, t, t, t
FROM generate_series(1, 1000) AS n, (VALUES ('2001-01-01'::timestamptz)) AS g (t);
SELECT klaviyo.purge_deliveries('klaviyo.delivery_default', 1, 1000, '{default,default}', '{email:0,email:none}', '{800,1000}');
SELECT account, key[2] IS NULL AS purged, count(*), min(seq) > 10 AS from_the_second_block, max(seq) FROM klaviyo.delivery WHERE seq % 2 = 0 OR key = '{}' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT klaviyo.purge_deliveries('klaviyo.delivery_default', 0, 1, '{default,default}', '{email:0,email:none}', '{800,1000}');
SELECT account, key[2] IS NULL AS purged, count(*), min(seq), max(seq) FROM klaviyo.delivery WHERE seq % 2 = 0 OR key = '{}' GROUP BY 1, 2 ORDER BY 1, 2;
