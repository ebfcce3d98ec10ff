-- Guards: without rights nobody calls or reads anything; EXECUTE alone is enough to queue; and nobody's search_path or temporary tables mislead the extension.
CREATE EXTENSION klaviyo_sync;
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
SET client_min_messages = warning;
-- (It is armed below. Should it ever send, it must not reach Klaviyo: nothing answers at port 9.)
SELECT klaviyo_set_account(private_key => 'pk_secret', base_url => 'http://127.0.0.1:9');
RESET client_min_messages;
CREATE FUNCTION state(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
CREATE ROLE rights_stranger;
CREATE ROLE rights_writer;
CREATE ROLE rights_reader;
GRANT CREATE ON SCHEMA public TO rights_writer;
DO $$ BEGIN EXECUTE format('GRANT CREATE, TEMPORARY ON DATABASE %I TO rights_writer', current_database()); END $$;

-- A stranger. has_*_privilege tells of every object: no rows.
SELECT p.oid::regprocedure
  FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'klaviyo_sync'
 WHERE has_function_privilege('rights_stranger', p.oid, 'EXECUTE');
SELECT c.oid::regclass
  FROM pg_class c
 WHERE c.relnamespace = 'klaviyo'::regnamespace AND c.relkind = 'r'
   AND (has_any_column_privilege('rights_stranger', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES') OR has_table_privilege('rights_stranger', c.oid, 'DELETE, TRUNCATE, TRIGGER'));
SELECT has_schema_privilege('rights_stranger', 'klaviyo', 'USAGE'), has_schema_privilege('rights_stranger', 'klaviyo', 'CREATE'), has_sequence_privilege('rights_stranger', 'klaviyo.outbox_seq_seq', 'USAGE, SELECT, UPDATE');
SET ROLE rights_stranger;
SELECT state($$SELECT klaviyo_track_event('A', 'ada@shop.example')$$);
SELECT state($$SELECT klaviyo_upsert_profile('ada@shop.example')$$);
SELECT state($$SELECT klaviyo_result('00000000-0000-0000-0000-000000000000')$$);
SELECT state($$SELECT klaviyo_await('00000000-0000-0000-0000-000000000000')$$);
SELECT state($$SELECT klaviyo_redrive(kind => 'event')$$);
SELECT state($$SELECT klaviyo_discard(kind => 'event')$$);
SELECT state($$SELECT klaviyo_set_account()$$);
SELECT state($$SELECT klaviyo_arm_account()$$);
SELECT state($$SELECT klaviyo.wake_worker(true)$$);
SELECT state($$TABLE klaviyo.outbox$$);
RESET ROLE;

-- EXECUTE on one function is enough to queue, and gives nothing else.
GRANT EXECUTE ON FUNCTION klaviyo_track_event TO rights_writer;
SET ROLE rights_writer;
SELECT klaviyo_track_event('By a writer', 'ada@shop.example') IS NOT NULL;
SELECT klaviyo_track_event('By a writer', 'ada@shop.example', account => 'nowhere');
SELECT state($$SELECT klaviyo_upsert_profile('ada@shop.example')$$);
SELECT state($$SELECT klaviyo_redrive(kind => 'event')$$);
SELECT state($$TABLE klaviyo.outbox$$), state($$TABLE klaviyo.account_key$$);
SELECT state($$INSERT INTO klaviyo.outbox (message_id, account, kind, key, payload, enqueued_at) VALUES (gen_random_uuid(), 'default', 'event', '{}', '{}', now())$$);
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_track_event('Refused', 'ada') IS NOT NULL;
RESET klaviyo.on_invalid;
RESET ROLE;
SELECT payload #>> '{event,metric,data,attributes,name}' FROM klaviyo.outbox;
SELECT code FROM klaviyo.dead_letter;

-- EXECUTE on klaviyo_result() and klaviyo_await() is enough to ask; the result's type needs no rights of its own.
GRANT EXECUTE ON FUNCTION klaviyo_result, klaviyo_await TO rights_reader;
SELECT message_id AS id FROM klaviyo.outbox \gset
SET ROLE rights_reader;
SELECT status FROM klaviyo_result(:'id');
SELECT (klaviyo_await(:'id', '0')).status;
SELECT state($$TABLE klaviyo.delivery$$);
RESET ROLE;

-- A hostile search_path: operators, functions, casts and types like ours and like Postgres' own, put first.
SET ROLE rights_writer;
CREATE SCHEMA evil;
CREATE FUNCTION evil.yes(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE FUNCTION evil.grab(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil ran as %', current_user; END $$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes);
CREATE OPERATOR evil.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes);
CREATE OPERATOR evil.!~ (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes);
CREATE OPERATOR evil.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = evil.grab);
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil ran as %', current_user; END $$;
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil ran as %', current_user; END $$;
CREATE FUNCTION evil.format(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil ran as %', current_user; END $$;
CREATE FUNCTION evil.klaviyo_track_event(text, text) RETURNS uuid LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil ran as %', current_user; END $$;
CREATE TABLE evil.account (name text);
CREATE TABLE evil.outbox (seq bigint);
CREATE TEMP TABLE account (name text);
CREATE TEMP TABLE outbox (message_id uuid, account text, kind text, key text[], payload json, enqueued_at timestamptz);
CREATE TEMP TABLE dead_letter (message_id uuid);
CREATE DOMAIN evil.uuid AS text;
RESET ROLE;
GRANT EXECUTE ON FUNCTION klaviyo_upsert_profile, klaviyo_result, klaviyo_await, klaviyo_redrive, klaviyo_discard, klaviyo_set_account, klaviyo_arm_account TO rights_writer;
SET ROLE rights_writer;
SET search_path = evil, pg_temp, pg_catalog, public;
SELECT public.klaviyo_track_event('Under evil'::pg_catalog.text, 'ada@shop.example') IS NOT NULL;
SELECT public.klaviyo_upsert_profile('ada@shop.example') IS NOT NULL;
SELECT public.klaviyo_track_event('Nowhere', 'ada@shop.example', account => 'nowhere');
SELECT status FROM public.klaviyo_result(:'id');
SELECT (public.klaviyo_await(:'id', '0')).status;
SELECT public.klaviyo_redrive(kind => 'event');
SELECT public.klaviyo_discard(kind => 'event');
SET client_min_messages = warning;
SELECT public.klaviyo_set_account('evil', base_url => 'https://evil.com');
SELECT public.klaviyo_set_account('e v i l');
SELECT public.klaviyo_arm_account();
RESET client_min_messages;
RESET search_path;
RESET ROLE;
SELECT kind, account, coalesce(payload #>> '{event,metric,data,attributes,name}', '') FROM klaviyo.outbox ORDER BY seq;
SELECT (SELECT count(*) FROM pg_temp.outbox), (SELECT count(*) FROM evil.outbox), (SELECT count(*) FROM klaviyo.account);

-- A writer's own trigger queues for whoever fires it.
CREATE TABLE orders (id bigint, email text);
CREATE FUNCTION order_placed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM klaviyo_track_event('Placed Order', NEW.email);
    RETURN NULL;
END
$$;
ALTER FUNCTION order_placed OWNER TO rights_writer;
CREATE TRIGGER order_placed AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION order_placed();
GRANT INSERT ON orders TO rights_stranger;
SET ROLE rights_stranger;
INSERT INTO orders VALUES (1, 'bob@shop.example');
RESET ROLE;
SELECT key FROM klaviyo.outbox ORDER BY seq DESC LIMIT 1;

DISCARD TEMP;
DROP OWNED BY rights_stranger, rights_writer, rights_reader CASCADE;
DROP ROLE rights_stranger, rights_writer, rights_reader;
