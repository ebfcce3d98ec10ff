-- klaviyo_preview(): what would be sent, and klaviyo_health(): what has become wrong.
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;
CREATE VIEW mappings AS SELECT * FROM klaviyo_health() WHERE name = 'mapping' ORDER BY value;
GRANT SELECT ON mappings TO PUBLIC;

CREATE TABLE users (id int PRIMARY KEY, mail text);
INSERT INTO users VALUES (1, 'ada@shop.example'), (2, 'bob');
CREATE TABLE orders (id int, part text, user_id int, total numeric, status text, placed_at timestamptz, PRIMARY KEY (id, part));
INSERT INTO orders VALUES (1, 'a', 1, 1.10, 'paid', '2026-11-01 12:00+00'), (1, 'b', 2, 2, 'paid', NULL), (2, 'a', 1, 'NaN', 'paid', '2026-11-01 12:00+00'),
                          (3, 'a', 1, 3, 'new', NULL), (4, 'a', 1, 123456789012345678901234567890.12, 'paid', '2026-11-01 12:00+00');
SELECT klaviyo_sync_events('orders', 'Placed Order', email => '(SELECT u.mail FROM users AS u WHERE u.id = row.user_id)', value => 'total',
    unique_id => 'id || part', event_time => 'placed_at', properties => '{"Hour": "extract(hour FROM placed_at)"}', "when" => 'status = ''paid''') > 0 AS mapped;
SELECT klaviyo_sync_profiles('users', email => 'mail', external_id => 'id', properties => '["id"]', name => 'people') > 0 AS mapped;
SELECT * FROM mappings;
SET timezone = 'Asia/Tokyo';
SET search_path = pg_catalog;
SELECT * FROM public.klaviyo_preview('public.orders') \gx
RESET timezone;
RESET search_path;
SELECT key, request IS NOT NULL AS sent FROM klaviyo_preview('orders', 2);
SELECT * FROM klaviyo_preview('users', name => 'people') \gx
SELECT count(*) FROM klaviyo_preview('users', name => 'nothing');
SELECT count(*) FROM klaviyo.outbox;
-- Before anything is switched on.
BEGIN;
SELECT klaviyo_sync_events('users', 'Signed up', email => 'mail') > 0 AS mapped;
SELECT key, replace(request #>> '{data,attributes,time}', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'today') LIKE 'todayT%' AS now, request #>> '{data,attributes,unique_id}' AS unique_id, reason FROM klaviyo_preview('users', name => 'Signed up');
ROLLBACK;
-- What fails for a row.
SELECT klaviyo_sync_events('orders', 'Share', external_id => 'user_id', value => '1 / total') > 0 AS mapped;
SELECT key, code FROM klaviyo_preview('orders', 1, 'Share');
UPDATE orders SET total = 0 WHERE id = 4;
SELECT key, code, reason, hint FROM klaviyo_preview('orders', 1, 'Share');
SELECT key, code, request IS NOT NULL AS sent FROM klaviyo_preview('orders', 10, 'Share');
SELECT klaviyo_sync_detach('orders', 'Share');
-- Without a key.
CREATE TABLE visits (who text);
INSERT INTO visits VALUES ('v');
SELECT klaviyo_sync_events('visits', 'Visit', external_id => 'who') > 0 AS mapped;
SELECT key, request #> '{data,attributes,profile}' AS profile FROM klaviyo_preview('visits');

-- What breaks later.
ALTER TABLE users RENAME COLUMN mail TO email;
SELECT * FROM mappings;
SELECT klaviyo_preview('orders');
ALTER TABLE users RENAME COLUMN email TO mail;
ALTER TABLE users RENAME TO people;
SELECT * FROM mappings;
SELECT key FROM klaviyo_preview('people', 1);
DROP TABLE people;
SELECT * FROM mappings;

-- Whose rights.
CREATE ROLE preview_dba;
GRANT klaviyo_admin TO preview_dba;
SET ROLE preview_dba;
SELECT klaviyo_preview('visits');
SELECT * FROM mappings;
RESET ROLE;
-- Nobody has looked.
ALTER EVENT TRIGGER klaviyo_sync DISABLE;
ALTER TABLE visits OWNER TO preview_dba;
ALTER EVENT TRIGGER klaviyo_sync ENABLE;
SET ROLE preview_dba;
SELECT key FROM klaviyo_preview('visits');
SELECT status, value FROM klaviyo_health() WHERE name = 'mapping' ORDER BY value;
RESET ROLE;
REVOKE klaviyo_admin FROM preview_dba;
SELECT * FROM mappings;
DROP OWNED BY preview_dba;
DROP ROLE preview_dba;
