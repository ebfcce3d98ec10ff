-- Columns of all types: what becomes of them as properties, as an identifier, as a value and as a time.
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;

CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE DOMAIN euro AS numeric(40, 2) CHECK (VALUE >= 0);
CREATE DOMAIN many AS int[];
CREATE DOMAIN moment AS timestamptz;
CREATE TYPE place AS (city text, zip int);
CREATE TABLE types (
    id int PRIMARY KEY, a_boolean boolean, a_smallint smallint, a_bigint bigint, a_real real, a_double double precision,
    a_numeric numeric, a_money money, a_text text, a_varchar varchar(9), a_char char(9), a_name name, a_byte "char",
    a_bytea bytea, a_date date, a_time time, a_timetz timetz, a_timestamp timestamp, a_timestamptz timestamptz,
    a_interval interval, a_uuid uuid, an_inet inet, a_json json, a_jsonb jsonb, an_array int[], a_matrix text[], a_range int4range,
    a_multirange tstzmultirange, an_enum mood, enums mood[], a_domain euro, a_domain_array many, a_domain_moment moment, a_composite place,
    composites place[], bits bit(3), a_point point, a_tsvector tsvector, a_transaction xid8, a_table regclass
);
INSERT INTO types VALUES (
    1, true, 1, 9223372036854775807, 1.5, 1e300, 123456789012345678901234567890.123456789, 1.5, 'tëxt "', 'var', 'c', 'n', 'b',
    '\xdead', '2026-11-01', '12:00', '12:00+01', '2026-11-01 12:00', '2026-11-01 12:00+01', '1 day 02:03:04.5',
    'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1/8', '{"b": 1.10, "a": [1]}', '{"b": 1.10, "a": [{"c": null}]}', '{1,NULL,3}', '{{a,b},{c,d}}',
    '[1,5)', '{[2026-11-01 12:00+01,2026-11-02 12:00+01)}', 'glad', '{sad,glad}', 12345678901234567890123456789012345678.9, '{1}', '2026-11-01 12:00+01', '(Bonn,53111)',
    '{"(Bonn,53111)"}', '101', '(1,2)', 'a:1 b', '77', 'types'
);
CREATE TABLE template AS SELECT * FROM types;
SELECT klaviyo_sync_events('types', 'x', external_id => 'id', unique_id => '''u''', event_time => 'now()', properties => '["*", "-id"]', name => 'all') > 0 AS mapped;
SELECT klaviyo_sync_profiles('types', external_id => 'id', properties => '["*", "-id"]') > 0 AS mapped;
DELETE FROM types;
-- In a session that prints all of them otherwise.
SET datestyle = 'German';
SET intervalstyle = 'sql_standard';
SET bytea_output = 'escape';
SET timezone = 'Asia/Tokyo';
SET extra_float_digits = -3;
INSERT INTO types SELECT * FROM template;
SELECT p.key, p.value FROM klaviyo.outbox AS o, json_each(o.payload #> '{event,properties}') WITH ORDINALITY AS p (key, value, place)
WHERE o.kind = 'event' ORDER BY p.place;
SELECT (e.payload #> '{event,properties}')::jsonb = (p.payload -> 'properties')::jsonb AS same
FROM klaviyo.outbox AS e, klaviyo.outbox AS p WHERE e.kind = 'event' AND p.kind = 'profile';
RESET ALL;
DELETE FROM klaviyo.outbox;
SELECT proconfig FROM pg_proc WHERE proname ~ '^klaviyo_sync_[0-9]' ORDER BY proname;
-- What is not finite, and what is not there.
INSERT INTO types (id, a_real, a_double, a_numeric, a_timestamp, a_timestamptz, a_date)
VALUES (2, 'NaN', '-Infinity', 'Infinity', 'infinity', '-infinity', 'infinity');
SELECT p.key, p.value FROM klaviyo.outbox AS o, json_each(o.payload #> '{event,properties}') WITH ORDINALITY AS p (key, value, place)
WHERE o.kind = 'event' AND p.value::text <> 'null' ORDER BY p.place;
SELECT count(*) AS nulls FROM klaviyo.outbox AS o, json_each(o.payload #> '{event,properties}') AS p WHERE p.value::text = 'null';
SELECT payload FROM klaviyo.outbox WHERE kind = 'profile';
DELETE FROM klaviyo.outbox;
-- Nothing has changed, whatever is written.
UPDATE types SET a_numeric = a_numeric + 0, a_double = a_double, a_text = a_text || '';
SELECT count(*) FROM klaviyo.outbox;
SELECT klaviyo_sync_detach('types');
-- As an identifier a day is printed as a text.
SELECT klaviyo_sync_events('types', 'x', external_id => 'a_date', properties => '["a_bigint", "a_date", "enums", "a_domain_array", "a_matrix"]') > 0 AS mapped;
SELECT proconfig FROM pg_proc WHERE proname ~ '^klaviyo_sync_[0-9]' ORDER BY proname;
SELECT klaviyo_sync_detach('types');

-- As anything else than a property.
CREATE FUNCTION fits(argument text, "column" text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT klaviyo_sync_events(''types'', ''x'', %s %I => %L)', CASE WHEN argument <> 'external_id' THEN 'external_id => ''id'',' END, argument, "column");
    PERFORM klaviyo_sync_detach('types', 'x');
    RETURN 'fits';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END
$$;
SELECT a.attname, format_type(a.atttypid, a.atttypmod), fits('external_id', a.attname) AS external_id, fits('value', a.attname) AS value,
       fits('event_time', a.attname) AS event_time, fits('properties', to_jsonb(a.attname)::text) AS properties, fits('when', a.attname) AS "when"
FROM pg_attribute AS a WHERE a.attrelid = 'types'::regclass AND a.attnum > 0 ORDER BY a.attnum;
