-- Guards: functions and operators of an attacker, in every schema that is looked into and for every pair of types, run neither while the extension is made nor when its functions run with its owner's rights.
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
CREATE ROLE attacks_evil;
CREATE SCHEMA evil AUTHORIZATION attacks_evil;
DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO attacks_evil', current_database()); END $$;

-- Whatever of it runs says so, and as whom. An operator that fits better than Postgres' own, which would have to cast, is taken from any schema in the path.
SET ROLE attacks_evil;
CREATE FUNCTION evil.bite(what text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'evil % ran as %', what, current_user USING ERRCODE = 'EEEEE';
END
$$;
DO $$
DECLARE
    types CONSTANT text[] := '{"\"char\"",boolean,double precision,integer,bigint,interval,json,jsonb,name,numeric,oid,regclass,regtype,text,text[],timestamptz,uuid}';
    l text; r text; o text; number int := 0; f regprocedure;
BEGIN
    FOREACH l IN ARRAY types LOOP
        FOREACH r IN ARRAY types LOOP
            number := number + 1;
            EXECUTE format('CREATE FUNCTION evil.both_%s(%s, %s) RETURNS boolean LANGUAGE sql AS $f$ SELECT evil.bite(%L) $f$', number, l, r, l || ' and ' || r);
            FOREACH o IN ARRAY '{=,<>,<,<=,>,>=,~,!~,~~,||,+,-,*,/,@>,->,->>}'::text[] LOOP
                EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.both_%s)', o, l, r, number);
            END LOOP;
        END LOOP;
    END LOOP;
    -- Functions: what Postgres' own are called with, and what they would have to cast.
    FOR f IN
        SELECT p.oid FROM pg_proc p
         WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0
           AND p.proname IN ('clock_timestamp', 'current_database', 'current_setting', 'date_trunc', 'left', 'length', 'now', 'pg_control_system', 'pg_has_role', 'pg_is_in_recovery', 'pg_size_bytes', 'pg_size_pretty', 'pg_sleep', 'pg_total_relation_size', 'quote_ident', 'round', 'substring', 'to_timestamp')
           AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) AS t (oid) JOIN pg_type y ON y.oid = t.oid WHERE y.typtype = 'p')
    LOOP
        EXECUTE format('CREATE FUNCTION evil.%s RETURNS boolean LANGUAGE sql AS $f$ SELECT evil.bite(%L) $f$', f, f);
    END LOOP;
    FOREACH l IN ARRAY types LOOP
        EXECUTE format('CREATE FUNCTION evil.format(text, %s) RETURNS text LANGUAGE sql AS $f$ SELECT evil.bite(''format'')::text $f$', l);
        EXECUTE format('CREATE FUNCTION evil.num_nonnulls(%s, %1$s) RETURNS int LANGUAGE sql AS $f$ SELECT evil.bite(''num_nonnulls'')::int $f$', l);
        EXECUTE format('CREATE FUNCTION evil.quote_literal(%s) RETURNS text LANGUAGE sql AS $f$ SELECT evil.bite(''quote_literal'')::text $f$', l);
    END LOOP;
END
$$;
CREATE DOMAIN evil.uuid AS text;
CREATE TABLE evil.account (name text);
CREATE TABLE evil.outbox (seq bigint);
CREATE TABLE evil.pg_roles (rolname name, rolsuper boolean);
RESET ROLE;

-- The extension is made in that very schema. Of what it is made of, nothing is evil's: no rows.
CREATE EXTENSION klaviyo_sync SCHEMA evil;
WITH ours AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'klaviyo_sync'
     WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
), inner_part AS (
    SELECT classid, objid FROM ours
    UNION
    SELECT d.classid, d.objid FROM pg_depend d JOIN ours o ON d.refclassid = o.classid AND d.refobjid = o.objid
     WHERE d.classid IN ('pg_constraint'::regclass, 'pg_attrdef'::regclass, 'pg_rewrite'::regclass, 'pg_trigger'::regclass)
)
SELECT pg_describe_object(i.classid, i.objid, 0), pg_describe_object(d.refclassid, d.refobjid, 0)
  FROM inner_part i JOIN pg_depend d ON d.classid = i.classid AND d.objid = i.objid
 WHERE (d.refclassid, d.refobjid) NOT IN (SELECT classid, objid FROM ours)
   AND (d.refclassid = 'pg_operator'::regclass AND (SELECT oprnamespace FROM pg_operator WHERE oid = d.refobjid) = 'evil'::regnamespace
        OR d.refclassid = 'pg_proc'::regclass AND (SELECT pronamespace FROM pg_proc WHERE oid = d.refobjid) = 'evil'::regnamespace
        OR d.refclassid = 'pg_type'::regclass AND (SELECT typnamespace FROM pg_type WHERE oid = d.refobjid) = 'evil'::regnamespace);

-- Each function under a path that looks there first, and at the attacker's own temporary tables. (That the path works is shown first.)
GRANT klaviyo_admin TO attacks_evil;
CREATE FUNCTION state(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'ran';
EXCEPTION WHEN OTHERS THEN
    RETURN pg_catalog.concat(SQLSTATE, ' ', SQLERRM);
END
$$;
SET client_min_messages = warning;
SET ROLE attacks_evil;
CREATE TEMP TABLE account (name text);
CREATE TEMP TABLE outbox (message_id pg_catalog.uuid, account text, kind text, key text[], payload json, enqueued_at timestamptz);
CREATE TEMP TABLE dead_letter (message_id pg_catalog.uuid);
CREATE TEMP TABLE pg_roles (rolname name, rolsuper boolean);
INSERT INTO pg_temp.pg_roles VALUES ('attacks_evil', true);
CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT evil.bite('now')::text::timestamptz $$;
SET search_path = evil, pg_temp, pg_catalog, public;
SELECT state('SELECT 1 OPERATOR(evil.=) 1'), state('SELECT now()');
SELECT klaviyo_set_account(private_key => 'pk_evil', rate_share => 0.5), klaviyo_arm_account(), klaviyo_pause_account(reason => 'evil'), klaviyo_resume_account();
SELECT state($$SELECT klaviyo_set_account('evil', base_url => 'https://evil.com')$$);
SELECT state($$UPDATE klaviyo.account SET base_url = 'https://evil.com'$$);
SELECT state('SELECT klaviyo_set_account(rate_share => 2)'), state('SELECT klaviyo_set_account(name => ''e v i l'')');
SELECT klaviyo_track_event('Under evil'::text, 'ada@shop.example') AS id \gset
SELECT klaviyo_upsert_profile('ada@shop.example') IS NOT NULL;
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_track_event('Refused'::text, 'ada') IS NOT NULL;
RESET klaviyo.on_invalid;
SELECT state($$SELECT klaviyo_track_event('Nowhere', 'ada@shop.example', account => 'nowhere')$$);
SELECT status FROM klaviyo_result(:'id'::pg_catalog.uuid);
SELECT status FROM klaviyo_await(:'id'::pg_catalog.uuid, '0');
SELECT status FROM klaviyo_health() WHERE name::pg_catalog.bpchar OPERATOR(pg_catalog.=) 'arming'::pg_catalog.bpchar;
SELECT state('TABLE klaviyo.lane'), state('TABLE klaviyo.throughput'), state('TABLE klaviyo.latency');
SELECT state('SELECT klaviyo_check_account()'), state('SELECT klaviyo_acknowledge()');
SELECT klaviyo_redrive(kind => 'event'), klaviyo_discard(kind => 'event');
-- Mappings of a table of his own: what is theirs in them is his to say, the rest is ours.
CREATE TABLE evil.orders (id pg_catalog.int4 PRIMARY KEY, who pg_catalog.text);
SELECT state($$INSERT INTO evil.orders VALUES (1, 'a')$$);
SELECT state($$SELECT klaviyo_sync_events('evil.orders', 'x', external_id => 'who', unique_id => 'id', "on" => 'insert or update or delete', "when" => 'who IS NOT NULL')$$);
SELECT state($$SELECT klaviyo_sync_events('evil.orders', 'y', external_id => 'who', at => 'commit')$$);
SELECT state($$SELECT klaviyo_sync_profiles('evil.orders', external_id => 'who', properties => '"*"')$$);
SELECT state($$SELECT klaviyo_sync_metric('evil.orders', 'Active on Site', external_id => 'who')$$);
SELECT state($$INSERT INTO evil.orders VALUES (2, 'b')$$), state($$UPDATE evil.orders SET who = 'c'$$), state($$DELETE FROM evil.orders WHERE id OPERATOR(pg_catalog.=) 2$$);
SELECT state($$SELECT klaviyo_preview('evil.orders')$$), state($$SELECT klaviyo_sync_show('evil.orders')$$), state('TABLE klaviyo.sync');
SELECT state($$SELECT klaviyo_sync_pause('evil.orders')$$), state($$SELECT klaviyo_sync_resume('evil.orders')$$);
SELECT state($$SELECT klaviyo_backfill('evil.orders')$$), state($$SELECT klaviyo_backfill_pause('evil.orders')$$), state('TABLE klaviyo.backfill');
SELECT state($$SELECT klaviyo_backfill_resume('evil.orders')$$), state($$SELECT klaviyo_backfill_cancel('evil.orders')$$);
SELECT state('SELECT klaviyo_health()');
SELECT state('ALTER TABLE evil.orders RENAME TO baskets'), state($$SELECT klaviyo_sync_detach('evil.baskets', 'x')$$), state('DROP TABLE evil.baskets');
SELECT state($$SELECT klaviyo_request_deletion('ada@shop.example')$$), state($$SELECT klaviyo_upsert_changes('{"external_id": "1"}')$$);
SELECT state('SELECT klaviyo_remove_account(''default'')');
SELECT klaviyo_remove_account('default', bury_waiting => true);
RESET search_path;
RESET ROLE;
SELECT (SELECT count(*) FROM pg_temp.outbox) + (SELECT count(*) FROM pg_temp.dead_letter) + (SELECT count(*) FROM pg_temp.account) + (SELECT count(*) FROM evil.outbox) + (SELECT count(*) FROM evil.account) AS misled;

-- (The rest stays, with the extension in its midst.)
REVOKE klaviyo_admin FROM attacks_evil;
