-- Guards: with klaviyo.on_invalid = dead_letter no value of the declared types fails the user's statement; each mistake is a dead letter with what was given.
CREATE EXTENSION klaviyo_sync;
SET timezone = 'UTC';
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SELECT klaviyo_set_account();
RESET client_min_messages;

-- Runs a call and tells of its dead letter: code, attempts, reason, and what was given, or how long that is.
CREATE FUNCTION buried(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    id uuid; d klaviyo.dead_letter;
BEGIN
    EXECUTE 'SELECT ' || call INTO id;
    SELECT * INTO d FROM klaviyo.dead_letter WHERE message_id = id;
    IF NOT FOUND THEN
        RETURN CASE WHEN id IS NULL THEN 'NULL' ELSE 'queued' END;
    END IF;
    IF d.seq IS NOT NULL OR d.key <> '{}' OR d.attempts <> 0 OR d.died_at <> d.enqueued_at OR json_typeof(d.payload) <> 'object'
       OR d.payload::text::jsonb IS NULL OR d.http_status IS NOT NULL THEN
        RETURN 'not as it should be: ' || d::text;
    END IF;
    RETURN format(E'%s %s in %s: %s\n  %s', d.kind, d.code, left(d.account, 20), d.reason,
        CASE WHEN length(d.payload::text) <= 300 THEN d.payload::text
             ELSE (SELECT string_agg(format('%s: %s', e.key, CASE WHEN length(e.value::text) <= 60 THEN e.value::text ELSE '… ' || length(e.value::text) END), ', ') FROM json_each(d.payload) AS e) END);
EXCEPTION WHEN OTHERS THEN
    RETURN format('FAILED: %s %s', SQLSTATE, left(SQLERRM, 200));
END
$$;
CREATE FUNCTION nested(levels integer) RETURNS jsonb LANGUAGE sql AS $$ SELECT (repeat('{"a":', levels - 1) || '{}' || repeat('}', levels - 1))::jsonb $$;

-- Failing the statement is the default.
SHOW klaviyo.on_invalid;
SELECT klaviyo_track_event('Placed Order', 'ada');
SELECT count(*) FROM klaviyo.dead_letter;
SET klaviyo.on_invalid = dead_letter;

-- What is valid is queued as ever.
SELECT buried($$klaviyo_track_event('Placed Order', 'ada@shop.example')$$);

-- Each mistake, and what a dead letter keeps of the call.
SELECT buried($$klaviyo_track_event('Placed Order', NULL, '{"order_id": 7}', 12.30, 'EUR', 'order 7', '2026-03-01 12:00+00')$$);
SELECT buried($$klaviyo_track_event('Placed Order', 'ada', '{"order_id": 7}', 12.30, 'EUR', 'order 7', '2026-03-01 12:00+00', '+15005550006', 'u-1', '{"first_name": "Ada"}')$$);
SELECT buried($$klaviyo_upsert_profile('ada', '+15005550006', 'u-1', 'Ada', 'Lovelace', 'Engines', 'Countess', 'en', 'https://shop.example/ada.png', '{"city": "London"}', '{"plan": "gold"}', NULL)$$);
SELECT buried($$klaviyo_track_event('Placed Order', phone_number => '555-0006')$$);
SELECT buried($$klaviyo_track_event('Placed Order', external_id => '')$$);
SELECT buried($$klaviyo_track_event('', 'ada@shop.example')$$);
SELECT buried($$klaviyo_track_event(NULL)$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', '[1]')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', '"text"')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', 'null')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', profile => '{"email": "bob@shop.example"}')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', event_time => '1990-01-01 00:00+00')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', value_currency => 'usd')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', unique_id => '')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', account => 'nowhere')$$);
SELECT buried($$klaviyo_upsert_profile()$$);
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', location => '{"town": "London"}')$$);
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', properties => '1')$$);
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', clear => '{email}')$$);

-- The far ends of each type.
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', value => 'NaN')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', value => 'Infinity')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', value => '-Infinity')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', value => ('1e131071')::numeric)$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', value => ('1e-16383')::numeric)$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', event_time => 'infinity')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', event_time => '-infinity')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', event_time => '4713-01-01 00:00+00 BC')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', event_time => '294276-12-31 23:59:59.999999+00')$$);

-- Empty everywhere.
SELECT buried($$klaviyo_track_event('', '', '{}', 0, '', '', now(), '', '', '{}', '')$$) LIKE 'event invalid_metric in %' AS as_expected;
SELECT buried($$klaviyo_upsert_profile('', '', '', '', '', '', '', '', '', '{}', '{}', '', '{}')$$);
SELECT buried($$klaviyo_upsert_profile('', clear => '{""}')$$);

-- Texts of 30 MB.
SELECT buried($$klaviyo_track_event(repeat('x', 30000000), 'ada@shop.example')$$);
SELECT buried($$klaviyo_track_event('A', repeat('x', 30000000))$$);
SELECT buried($$klaviyo_track_event('A', 'ada@' || repeat('x.', 15000000) || 'example')$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', value_currency => repeat('x', 30000000))$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', unique_id => repeat('x', 30000000))$$);
SELECT buried($$klaviyo_track_event('A', phone_number => '+' || repeat('1', 30000000))$$);
SELECT buried($$klaviyo_track_event('A', external_id => repeat('ü', 15000000))$$);
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', first_name => repeat('x', 30000000))$$);
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', image => repeat(E'\u0001', 30000000))$$);
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', properties => jsonb_build_object('a', repeat('x', 30000000)))$$);
SELECT left(buried($$klaviyo_track_event('A', 'ada@shop.example', account => repeat('é', 500000))$$), 50);
SELECT octet_length(account), octet_length(reason) FROM klaviyo.dead_letter ORDER BY octet_length(account) DESC LIMIT 1;

-- JSON that is too much.
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', nested(11))$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', nested(5000))$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', profile => nested(5000))$$);
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', location => nested(5000), properties => nested(5000))$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', ('[' || repeat('[', 5000) || repeat(']', 5000) || ']')::jsonb)$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', (SELECT jsonb_object_agg(i, i) FROM generate_series(1, 401) AS i))$$);
SELECT buried($$klaviyo_track_event('A', 'ada@shop.example', (SELECT jsonb_build_object('a', jsonb_agg(i)) FROM generate_series(1, 4001) AS i))$$) LIKE '%left out%' AS lost;
-- What is left out of a dead letter says so truly: Klaviyo takes 5 MB of an event.
CREATE FUNCTION untrue(call text) RETURNS boolean LANGUAGE sql AS $$ SELECT b LIKE '%takes 1000000 bytes%' FROM buried(call) AS b WHERE b LIKE '% too_large in default: %' $$;
SELECT untrue($$klaviyo_track_event('A', 'ada@shop.example', (SELECT jsonb_object_agg(i, repeat('x', 100000)) FROM generate_series(1, 51) AS i))$$);
-- Small as jsonb, half a gigabyte as text.
SELECT pg_column_size(('{"a": [' || repeat('1e131000, ', 3999) || '1]}')::jsonb) < 100000 AS small;
SELECT untrue($$klaviyo_track_event('A', 'ada@shop.example', ('{"a": [' || repeat('1e131000, ', 3999) || '1]}')::jsonb)$$);
SELECT untrue($$klaviyo_upsert_profile('ada@shop.example', properties => ('{"a": [' || repeat('1e131000, ', 3999) || '1]}')::jsonb)$$);

-- A dead letter keeps what was given, so that it can be put right: all digits of a number, and all that Klaviyo would have taken.
SELECT buried($$klaviyo_track_event('A', 'ada', '{"n": 12345678901234567890.10}')$$) LIKE '%12345678901234567890.10%' AS all_digits;
SELECT buried($$klaviyo_track_event('A', 'ada', '{"m": 1e400}')$$) LIKE '%"properties":null%' AS lost;
SELECT klaviyo_track_event('A', 'ada', (SELECT jsonb_object_agg(i, repeat('x', 90000)) FROM generate_series(1, 20) AS i)) AS large \gset
SELECT reason, json_typeof(payload -> 'properties') AS properties, length(payload::text) > 1800000 AS all_of_it FROM klaviyo.dead_letter WHERE message_id = :'large';

-- Arrays of every shape.
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', clear => ARRAY['title', NULL])$$);
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', clear => ARRAY[NULL]::text[])$$);
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', clear => ARRAY[['plan', 'image'], ['x', NULL]])$$);
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', clear => ARRAY[['title', 'image'], ['locale', 'first_name']])$$);
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', clear => '[5:6]={plan,title}')$$);
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', clear => array_fill('title'::text, ARRAY[100000]))$$);
SELECT buried($$klaviyo_upsert_profile('ada@shop.example', clear => ARRAY[repeat('x', 30000000)])$$);

-- What a session sees of one.
SELECT klaviyo_track_event('Placed Order', 'ada', account => 'nowhere') AS refused \gset
SELECT status, code, reason, attempts, hint FROM klaviyo_result(:'refused');

-- The order is kept: a bad row does not fail the statement that wrote it, nor the rows beside it.
TRUNCATE klaviyo.outbox;
TRUNCATE klaviyo.dead_letter;
CREATE TABLE orders (id bigint PRIMARY KEY, email text);
CREATE FUNCTION order_placed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM klaviyo_track_event('Placed Order', NEW.email, unique_id => NEW.id::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER order_placed AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION order_placed();
INSERT INTO orders VALUES (1, 'ada@shop.example'), (2, 'bob'), (3, 'cyd@shop.example');
SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM klaviyo.outbox), (SELECT string_agg(payload ->> 'unique_id', ',') FROM klaviyo.dead_letter);

-- And what is rolled back leaves none.
TRUNCATE klaviyo.dead_letter;
BEGIN;
SELECT klaviyo_track_event('A', 'ada') IS NOT NULL;
SAVEPOINT s;
SELECT klaviyo_track_event('B', 'bob') IS NOT NULL;
ROLLBACK TO s;
COMMIT;
BEGIN;
SELECT klaviyo_track_event('C', 'cyd') IS NOT NULL;
ROLLBACK;
SELECT payload ->> 'metric' FROM klaviyo.dead_letter;
