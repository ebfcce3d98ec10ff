-- Guards: each mistake is refused where it is written, with an SQLSTATE of its own, a DETAIL, and a HINT that helps; what is just valid is not.
CREATE EXTENSION klaviyo_sync;
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SELECT klaviyo_set_account();
RESET client_min_messages;

-- Runs a statement and tells what came of it.
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN 'valid';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state || ': ' || message, '  DETAIL: ' || nullif(detail, ''), '  HINT: ' || nullif(hint, ''));
END
$$;
-- Only whether, for the many cases of one check.
CREATE FUNCTION state(statement text) RETURNS text LANGUAGE sql AS $$ SELECT left(try(statement), 5) $$;

-- Whom it is about.
SELECT try($$SELECT klaviyo_track_event('Placed Order')$$);
SELECT try($$SELECT klaviyo_track_event('Placed Order', NULL, '{"order_id": 7}')$$);
SELECT try($$SELECT klaviyo_upsert_profile()$$);
SELECT try($$SELECT klaviyo_upsert_profile(first_name => 'Ada')$$);

-- E-mail addresses. The text of an error never repeats one.
SELECT try($$SELECT klaviyo_track_event('Placed Order', 'ada')$$);
SELECT try($$SELECT klaviyo_track_event('Placed Order', '')$$);
SELECT try($$SELECT klaviyo_upsert_profile(' ada@shop.example')$$);
SELECT e.email, state(format('SELECT klaviyo_track_event(''A'', %L)', e.email))
  FROM unnest(ARRAY['ada@shop.example', 'ADA@SHOP.EXAMPLE', 'first.last+tag@sub.shop.co.uk', 'o''neil@shop.example', '_-@x.io', 'ünï@exämple.de', repeat('a', 64) || '@b.example']) AS e (email);
SELECT e.email, state(format('SELECT klaviyo_track_event(''A'', %L)', e.email))
  FROM unnest(ARRAY[' ', 'ada@', '@shop.example', 'ada@shop', 'ada@@shop.example', 'a da@shop.example', 'ada@shop..example', '.ada@shop.example', 'ada.@shop.example', 'ada@-shop.example', 'ada@shop.example.', 'ada@shop.example, bob@shop.example', 'Ada <ada@shop.example>', '<ada@shop.example>', 'mailto:ada@shop.example', 'ada@[127.0.0.1]', 'ada@127.0.0.1', 'NULL', repeat('a', 65) || '@b.example', 'a@' || repeat('b', 260) || '.example']) AS e (email);
SELECT state(E'SELECT klaviyo_track_event(\'A\', E\'ada@shop.example\\n\')'), state(E'SELECT klaviyo_track_event(\'A\', E\'ada\\t@shop.example\')'), state(E'SELECT klaviyo_track_event(\'A\', E\'ada@shop.example\\u00a0\')'), state(E'SELECT klaviyo_track_event(\'A\', E\'ada\\u200b@shop.example\')');

-- Phone numbers.
SELECT try($$SELECT klaviyo_track_event('Placed Order', phone_number => '(500) 555-0006')$$);
SELECT try($$SELECT klaviyo_upsert_profile(phone_number => '')$$);
SELECT p.number, state(format('SELECT klaviyo_upsert_profile(phone_number => %L)', p.number))
  FROM unnest(ARRAY['+15005550006', '+1234567', '+123456789012345']) AS p (number);
SELECT p.number, state(format('SELECT klaviyo_upsert_profile(phone_number => %L)', p.number))
  FROM unnest(ARRAY['+', '15005550006', '0015005550006', '+05005550006', '+123456', '+1234567890123456', '+1 500 555 0006', '+1-500-555-0006', ' +15005550006', '+15005550006 ', '++15005550006', '+1500555000x', '+１５００５５５０００６']) AS p (number);

-- External ids.
SELECT try($$SELECT klaviyo_track_event('Placed Order', external_id => '')$$);
SELECT try($$SELECT klaviyo_upsert_profile('ada@shop.example', external_id => ' ')$$);
SELECT n, state(format('SELECT klaviyo_upsert_profile(external_id => %L)', repeat('x', n))) FROM unnest(ARRAY[1, 1024, 1025]) AS n;

-- The metric.
SELECT try($$SELECT klaviyo_track_event('', 'ada@shop.example')$$);
SELECT try($$SELECT klaviyo_track_event(NULL, 'ada@shop.example')$$);
SELECT try(format('SELECT klaviyo_track_event(%L, ''ada@shop.example'')', repeat('x', 128)));
SELECT n, state(format('SELECT klaviyo_track_event(%L, ''ada@shop.example'')', repeat('ü', n))) FROM unnest(ARRAY[1, 127, 128]) AS n;
SELECT state($$SELECT klaviyo_track_event(E' \t\n', 'ada@shop.example')$$);

-- Properties.
SELECT try($$SELECT klaviyo_track_event('Placed Order', 'ada@shop.example', '[1, 2]')$$);
SELECT try($$SELECT klaviyo_track_event('Placed Order', 'ada@shop.example', '"order 7"')$$);
SELECT try($$SELECT klaviyo_track_event('Placed Order', 'ada@shop.example', 'null')$$);
SELECT try($$SELECT klaviyo_upsert_profile('ada@shop.example', properties => '1')$$);
SELECT try($$SELECT klaviyo_upsert_profile('ada@shop.example', location => '[]')$$);
SELECT try($$SELECT klaviyo_track_event('Placed Order', 'ada@shop.example', profile => '"ada"')$$);

CREATE FUNCTION event(properties jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT try(format('SELECT klaviyo_track_event(''A'', ''ada@shop.example'', %L)', properties))
$$;
CREATE FUNCTION profile(properties jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT try(format('SELECT klaviyo_upsert_profile(''ada@shop.example'', properties => %L)', properties))
$$;
CREATE FUNCTION entries(n integer) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_object_agg(i, i) FROM generate_series(1, n) AS i $$;
CREATE FUNCTION nested(levels integer) RETURNS jsonb LANGUAGE sql AS $$ SELECT (repeat('{"a":', levels - 1) || '{}' || repeat('}', levels - 1))::jsonb $$;
CREATE FUNCTION items(n integer) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('a', jsonb_agg(i)) FROM generate_series(1, n) AS i $$;
-- An object whose text, without spaces, has so many bytes.
CREATE FUNCTION filled(bytes integer) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('a', jsonb_agg(repeat('x', (bytes - 7 - 3 * n) / n + (i <= (bytes - 7 - 3 * n) % n)::int)))
      FROM (SELECT bytes / 90000 + 1) AS p (n), generate_series(1, n) AS i
$$;
SELECT octet_length(replace(filled(100)::text, ' ', '')), octet_length(replace(filled(4999000)::text, ' ', ''));

SELECT event(entries(400));
SELECT event(entries(401));
-- The limit is that of the outermost object, and of events.
SELECT event(jsonb_build_object('a', entries(401)));
SELECT profile(entries(401));
SELECT event(nested(10));
SELECT event(nested(11));
SELECT profile(nested(10));
SELECT profile(nested(11));
-- An array is a level too.
SELECT event('{"a": [[[[[[[[[]]]]]]]]]}');
SELECT event('{"a": [[[[[[[[[[]]]]]]]]]]}');
SELECT event(items(4000));
SELECT event(items(4001));
SELECT event(jsonb_build_object('a', repeat('x', 100000)));
SELECT event(jsonb_build_object('a', repeat('x', 100001)));
-- Bytes, not characters; and names are strings.
SELECT event(jsonb_build_object('a', repeat('ü', 50001)));
SELECT event(jsonb_build_object(repeat('x', 100001), 1));
-- A whole event has 5 MB at most, a profile 100 KB: what is around the properties counts.
SELECT event(filled(4999000));
SELECT event(filled(4999950));
SELECT event(filled(5000001));
SELECT profile(filled(99800));
SELECT profile(filled(99990));
SELECT profile(filled(100001));
SELECT try(format('SELECT klaviyo_upsert_profile(''ada@shop.example'', first_name => %L)', repeat('x', 99800)));
SELECT try(format('SELECT klaviyo_upsert_profile(''ada@shop.example'', first_name => %L)', repeat('x', 100001)));

-- The profile of an event, and the location of a profile, hold what Klaviyo knows and nothing else. An error names where, and repeats no value.
SELECT try($$SELECT klaviyo_track_event('A', 'ada@shop.example', profile => '{"email": "bob@shop.example"}')$$);
SELECT try($$SELECT klaviyo_track_event('A', 'ada@shop.example', profile => '{"vip": true}')$$);
SELECT left(e, 5), e LIKE '%first_name%' AS names_the_place FROM try($$SELECT klaviyo_track_event('A', 'ada@shop.example', profile => '{"first_name": {"a": 1}}')$$) AS e;
SELECT try($$SELECT klaviyo_track_event('A', 'ada@shop.example', profile => '{"properties": "bob@shop.example"}')$$) LIKE '%bob@%' AS repeats_an_address;
SELECT try($$SELECT klaviyo_upsert_profile('ada@shop.example', location => '{"town": "London"}')$$);
SELECT try($$SELECT klaviyo_upsert_profile('ada@shop.example', location => '{"zip": 12345678}')$$) LIKE '%12345678%' AS repeats_a_value;
-- A latitude is a number or a text.
SELECT left(try($$SELECT klaviyo_upsert_profile('ada@shop.example', location => '{"latitude": {"degrees": 51}}')$$), 5);

-- The time.
SELECT try($$SELECT klaviyo_track_event('A', 'ada@shop.example', event_time => '1990-12-31 23:59:59.999999+00')$$);
SELECT try($$SELECT klaviyo_track_event('A', 'ada@shop.example', event_time => now() + interval '365 days 1 minute')$$);
SELECT t.time, state(format('SELECT klaviyo_track_event(''A'', ''ada@shop.example'', event_time => %s)', t.time))
  FROM unnest(ARRAY['''1991-01-01 00:00+00''', 'now() + interval ''365 days''', '''infinity''', '''-infinity''', '''epoch''', '''4713-01-01 00:00 BC''', '''294276-12-31 23:59:59.999999+00''']) AS t (time);

-- The value.
SELECT try($$SELECT klaviyo_track_event('A', 'ada@shop.example', value => 'NaN')$$);
SELECT v.value, state(format('SELECT klaviyo_track_event(''A'', ''ada@shop.example'', value => %s)', v.value))
  FROM unnest(ARRAY['0', '-1.5', '1e308', '1e-300', '1e309', '''Infinity''', '''-Infinity''']) AS v (value);
-- A quotient of 500 digits is a finite number; it is told what is wrong with it.
SELECT try($$SELECT klaviyo_track_event('A', 'ada@shop.example', value => 1::numeric(1000, 500) / 3)$$) LIKE '%more than 400 characters%' AS told;

-- The currency. ISO 4217 has new codes now and then.
SELECT try($$SELECT klaviyo_track_event('A', 'ada@shop.example', value => 1, value_currency => 'usd')$$);
SELECT c.code, state(format('SELECT klaviyo_track_event(''A'', ''ada@shop.example'', value => 1, value_currency => %L)', c.code))
  FROM unnest(ARRAY['USD', 'EUR', 'JPY', 'GBP', 'CHF', 'CNY', 'BRL', 'KWD', 'BYN', 'MRU', 'STN', 'VED', 'SLE', 'ZWG', 'XCG']) AS c (code);
SELECT c.code, state(format('SELECT klaviyo_track_event(''A'', ''ada@shop.example'', value => 1, value_currency => %L)', c.code))
  FROM unnest(ARRAY['', 'US', 'USDT', '$', '€', 'US$', ' USD', 'ABC', 'BTC', '840']) AS c (code);

-- The unique id.
SELECT try($$SELECT klaviyo_track_event('A', 'ada@shop.example', unique_id => '')$$);
SELECT n, state(format('SELECT klaviyo_track_event(''A'', ''ada@shop.example'', unique_id => %L)', repeat('x', n))) FROM unnest(ARRAY[1, 1024, 1025]) AS n;

-- What to clear.
SELECT try($$SELECT klaviyo_upsert_profile('ada@shop.example', clear => '{email}')$$);
SELECT try($$SELECT klaviyo_upsert_profile('ada@shop.example', clear => '{plan}')$$);
SELECT try($$SELECT klaviyo_upsert_profile('ada@shop.example', first_name => 'Ada', clear => '{first_name}')$$);
SELECT try($$SELECT klaviyo_upsert_profile('ada@shop.example', clear => '{title,title}')$$);
SELECT try($$SELECT klaviyo_upsert_profile('ada@shop.example', clear => '{NULL}')$$);

-- The account.
SELECT try($$SELECT klaviyo_track_event('A', 'ada@shop.example', account => 'nowhere')$$);
SELECT try($$SELECT klaviyo_upsert_profile('ada@shop.example', account => '')$$);
SELECT try($$SELECT klaviyo_upsert_profile('ada@shop.example', account => 'DEFAULT')$$);

-- A refused message leaves nothing, whatever was accepted beside it.
SELECT count(*) FROM klaviyo.dead_letter;
TRUNCATE klaviyo.outbox;
BEGIN;
SELECT klaviyo_track_event('A', 'ada@shop.example') IS NOT NULL;
SAVEPOINT s;
SELECT klaviyo_track_event('B', 'ada');
ROLLBACK TO s;
SELECT klaviyo_track_event('C', 'ada@shop.example') IS NOT NULL;
COMMIT;
SELECT payload #>> '{event,metric,data,attributes,name}' FROM klaviyo.outbox ORDER BY seq;
SELECT count(*) FROM klaviyo.dead_letter;
