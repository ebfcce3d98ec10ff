-- Guards: what klaviyo_track_event() lays down in the outbox.
CREATE EXTENSION klaviyo_sync;
SET timezone = 'UTC';
\pset format unaligned
\pset null NULL
SET client_min_messages = warning;
SELECT klaviyo_set_account(), klaviyo_set_account('other');
RESET client_min_messages;
\pset fieldsep ' | '
\pset footer off

-- Time and unique_id are shown by name where they are the defaults.
CREATE VIEW queued AS
SELECT o.seq, o.kind, o.account, o.key,
       o.payload::jsonb || jsonb_build_object('event', (o.payload -> 'event')::jsonb
           || jsonb_build_object(
               'time', CASE WHEN (o.payload #>> '{event,time}')::timestamptz = o.enqueued_at
                            THEN 'enqueued_at' ELSE o.payload #>> '{event,time}' END,
               'unique_id', CASE WHEN o.payload #>> '{event,unique_id}' = o.message_id::text
                                 THEN 'message_id' ELSE o.payload #>> '{event,unique_id}' END)) AS payload
  FROM klaviyo.outbox o;

-- As one writes it in psql, from the shortest to the longest.
SELECT klaviyo_track_event('Signed Up', 'ada@shop.example') AS message_id \gset
SELECT klaviyo_track_event('Viewed Product', 'ada@shop.example', '{"sku": "A-1"}') IS NOT NULL AS queued;
SELECT klaviyo_track_event('Placed Order', 'ada@shop.example', '{"order_id": 7}', 12.30, 'EUR') IS NOT NULL AS queued;
SELECT klaviyo_track_event('Placed Order', 'ada@shop.example', '{"order_id": 7}', 12.30, 'EUR', 'order 7') IS NOT NULL AS queued;
SELECT klaviyo_track_event('Placed Order', 'ada@shop.example', '{"order_id": 7}', 12.30, 'EUR', 'order 7', '2026-03-01 12:00+01') IS NOT NULL AS queued;
SELECT klaviyo_track_event(
    metric         => 'Placed Order',
    email          => 'ada@shop.example',
    phone_number   => '+15005550006',
    external_id    => 'u-1',
    profile        => '{"first_name": "Ada", "location": {"city": "London", "latitude": 51.5}, "properties": {"vip": true}}',
    properties     => '{"order_id": 8, "items": [{"sku": "A-1", "count": 2}]}',
    value          => 12.30,
    value_currency => 'EUR',
    event_time     => '2026-03-01 12:00:00.123456+01',
    unique_id      => 'order 8',
    account        => 'other'
) IS NOT NULL AS queued;
SELECT kind, account, key, payload FROM queued ORDER BY seq;

-- The id returned is the row's.
SELECT count(*) FROM klaviyo.outbox WHERE message_id = :'message_id';

-- The text itself: digits, spaces and order as they will be sent.
SELECT payload FROM klaviyo.outbox ORDER BY seq DESC LIMIT 1;
TRUNCATE klaviyo.outbox;

-- NULL is absent, each alone names somebody, and e-mail addresses compare in lower case.
SELECT klaviyo_track_event('A', NULL, NULL, NULL, NULL, NULL, NULL, '+15005550006', NULL, NULL, NULL) IS NOT NULL AS queued;
SELECT klaviyo_track_event('B', external_id => 'U-1') IS NOT NULL AS queued;
SELECT klaviyo_track_event('C', 'Ada@Shop.Example', profile => '{}', properties => '{}') IS NOT NULL AS queued;
SELECT key, payload FROM queued ORDER BY seq;
TRUNCATE klaviyo.outbox;

-- It is stamped when it is queued: not when the transaction began, nor when the statement did.
BEGIN;
SELECT pg_sleep(0.01);
WITH first AS MATERIALIZED (SELECT klaviyo_track_event('A', 'ada@shop.example') AS id),
     pause AS MATERIALIZED (SELECT id, pg_sleep(0.01) FROM first)
SELECT klaviyo_track_event('B', 'ada@shop.example', jsonb_build_object('after', id)) IS NOT NULL AS queued FROM pause;
SELECT bool_and(enqueued_at > now() + interval '10 ms' AND enqueued_at <= clock_timestamp()) AS stamped,
       max(enqueued_at) - min(enqueued_at) >= interval '10 ms' AS apart,
       bool_and((payload #>> '{event,time}')::timestamptz = enqueued_at) AS same_time
  FROM klaviyo.outbox;
COMMIT;
TRUNCATE klaviyo.outbox;

-- Numbers keep every digit; text keeps every character.
SELECT klaviyo_track_event('Digits', 'ada@shop.example', value => v, properties => jsonb_build_object('n', v)) IS NOT NULL AS queued
  FROM unnest(ARRAY[0, -0.10, 12345678901234567890.123456789, 1e20, 1e-20, 0.1 + 0.2]::numeric[]) AS v;
SELECT payload #> '{event,value}' AS value, payload #> '{event,properties,n}' AS property FROM klaviyo.outbox ORDER BY seq;
TRUNCATE klaviyo.outbox;
SELECT klaviyo_track_event(
    E'Bestellung "über" \\ \u00fc\t😀',
    'ünï@exämple.de',
    jsonb_build_object(E'k"ey\n\u0001', E'v\\al"ue\n\u007f\u2028😀', 'nested', '[[], {}, null, true, {"a": [1, {"b": "</script>"}]}]'::jsonb),
    unique_id => E'7''"\\',
    external_id => ' u 1 '
) IS NOT NULL AS queued;
SELECT key, payload FROM queued;
TRUNCATE klaviyo.outbox;

-- A set at a time keeps its order.
SELECT count(klaviyo_track_event('Placed Order', format('u%s@shop.example', i), jsonb_build_object('i', i))) AS queued FROM generate_series(1, 1000) AS i;
SELECT count(*) AS rows, count(DISTINCT message_id) AS ids,
       bool_and((payload #>> '{event,properties,i}')::bigint = place) AS in_order
  FROM (SELECT *, row_number() OVER (ORDER BY seq) AS place FROM klaviyo.outbox) AS o;
TRUNCATE klaviyo.outbox;

-- Nothing of what is rolled back stays.
BEGIN;
SELECT klaviyo_track_event('Kept', 'ada@shop.example') IS NOT NULL AS queued;
SAVEPOINT s;
SELECT klaviyo_track_event('Undone', 'ada@shop.example') IS NOT NULL AS queued;
ROLLBACK TO s;
COMMIT;
BEGIN;
SELECT klaviyo_track_event('Undone', 'ada@shop.example') IS NOT NULL AS queued;
ROLLBACK;
SELECT payload #>> '{event,metric,data,attributes,name}' AS metric FROM klaviyo.outbox;
TRUNCATE klaviyo.outbox;

-- Nothing can be queued where nothing can be written.
\set VERBOSITY sqlstate
BEGIN READ ONLY;
SELECT klaviyo_track_event('Placed Order', 'ada@shop.example');
ROLLBACK;
\set VERBOSITY default

-- From a trigger.
CREATE TABLE orders (id bigint PRIMARY KEY, email text, total numeric(10, 2), placed_at timestamptz);
CREATE FUNCTION order_placed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM klaviyo_track_event('Placed Order', NEW.email, to_jsonb(NEW) - 'email', NEW.total, 'EUR', NEW.id::text, NEW.placed_at);
    RETURN NULL;
END
$$;
CREATE TRIGGER order_placed AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION order_placed();
INSERT INTO orders VALUES (1, 'ada@shop.example', 10, '2026-03-01 12:00+01'), (2, 'ada@shop.example', 9.90, NULL);
SELECT key, payload FROM queued ORDER BY seq;
