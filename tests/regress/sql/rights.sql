-- Guards: who may what, by trying. Each role, and a stranger, reads and writes every column, table and view, takes numbers, calls every function, uses every type; and may no more and no less than the catalogue says, which docs/reference.md is made from.
CREATE EXTENSION klaviyo_sync;
\pset format unaligned
\pset fieldsep ' | '
\pset footer off
CREATE ROLE rights_stranger;

-- Whether one may run a statement. What it did is undone; an error other than of rights comes after one was let in.
CREATE FUNCTION may(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RAISE EXCEPTION 'undo';
EXCEPTION
    WHEN insufficient_privilege THEN RETURN false;
    WHEN OTHERS THEN RETURN true;
END
$$;

-- What to try: everything in schema klaviyo, and every function of the extension. (A subquery keeps a strict function's NULL from being folded away before rights are looked at.)
CREATE TABLE attempt AS
WITH relation AS (
    SELECT c.oid, c.oid::regclass::text AS name, c.relkind FROM pg_class c WHERE c.relnamespace = 'klaviyo'::regnamespace
), col AS (
    SELECT r.*, a.attnum, quote_ident(a.attname) AS col, format_type(a.atttypid, a.atttypmod) AS type,
           a.attgenerated <> '' AS is_generated
      FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
)
SELECT 'schema' AS kind, 'klaviyo' AS object, NULL::oid AS objid, NULL::int2 AS attnum, NULL AS col, 'CREATE' AS privilege, 'CREATE TABLE klaviyo.mine ()' AS statement
UNION ALL
SELECT 'column', name, oid, attnum, col, 'SELECT', format('SELECT %s FROM %s LIMIT 0', col, name) FROM col WHERE relkind IN ('r', 'p', 'v', 'm')
UNION ALL
SELECT 'column', name, oid, attnum, col, 'INSERT', format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT NULL::%s WHERE false', name, col, type) FROM col
 -- Nobody may write what is generated.
 WHERE relkind IN ('r', 'p') AND NOT is_generated
UNION ALL
SELECT 'column', name, oid, attnum, col, 'UPDATE', format('UPDATE %s SET %s = DEFAULT WHERE false', name, col) FROM col WHERE relkind IN ('r', 'p')
UNION ALL
SELECT 'table', name, oid, NULL, NULL, privilege, format(statement, name)
  FROM relation, (VALUES ('SELECT', 'TABLE %s'), ('DELETE', 'DELETE FROM %s WHERE false'), ('TRUNCATE', 'TRUNCATE %s')) AS way (privilege, statement)
 WHERE relkind IN ('r', 'p') OR relkind IN ('v', 'm') AND privilege = 'SELECT'
UNION ALL
SELECT 'sequence', name, oid, NULL, NULL, privilege, format(statement, name)
  FROM relation, (VALUES ('USAGE', 'SELECT nextval(%L)'), ('SELECT', 'TABLE %s'), ('UPDATE', 'SELECT setval(%L, 1)')) AS way (privilege, statement)
 WHERE relkind = 'S'
UNION ALL
SELECT 'type', t.oid::regtype::text, t.oid, NULL, NULL, 'USAGE', format('CREATE TEMP TABLE mine (a %s)', t.oid::regtype)
  FROM pg_type t WHERE t.typnamespace = 'klaviyo'::regnamespace AND t.typcategory <> 'A'
   -- Tables' row types are left as Postgres makes them: see 80_rights.sql.
   AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
UNION ALL
SELECT 'function', p.oid::regprocedure::text, p.oid, NULL, NULL, 'EXECUTE',
       format('SELECT %s(%s)', p.oid::regproc, (SELECT string_agg(format('(SELECT NULL::%s)', a.type::regtype), ', ' ORDER BY a.position) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, position)))
  FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'klaviyo_sync';
CREATE TABLE done (role text, kind text, object text, objid oid, attnum int2, privilege text, allowed boolean);
GRANT SELECT ON attempt TO PUBLIC;
GRANT INSERT ON done TO PUBLIC;
PREPARE try_all AS INSERT INTO done SELECT current_user, a.kind, a.object, a.objid, a.attnum, a.privilege, may(a.statement) FROM attempt a;

SET client_min_messages = error;
SET ROLE klaviyo_admin;
EXECUTE try_all;
SET ROLE klaviyo_gateway;
EXECUTE try_all;
SET ROLE klaviyo_reader;
EXECUTE try_all;
SET ROLE klaviyo_writer;
EXECUTE try_all;
SET ROLE rights_stranger;
EXECUTE try_all;
RESET ROLE;
RESET client_min_messages;

-- What each may; nobody may what is not here, and a stranger nothing at all. Columns are told where it is not all of a table's.
SELECT d.role, d.object, string_agg(DISTINCT d.what, ', ') AS may
  FROM (
        SELECT d.role, d.object,
               d.privilege || CASE WHEN count(d.attnum) = 0 OR bool_and(d.allowed) THEN ''
                                   ELSE format(' (%s)', string_agg(a.attname, ', ' ORDER BY d.attnum) FILTER (WHERE d.allowed)) END AS what
          FROM done d LEFT JOIN pg_attribute a ON a.attrelid = d.objid AND a.attnum = d.attnum
         GROUP BY d.role, d.kind, d.object, d.privilege
        HAVING bool_or(d.allowed)
       ) AS d
 GROUP BY d.role, d.object
 ORDER BY d.role COLLATE "C", d.object COLLATE "C";
-- Everything was tried by everybody.
SELECT count(*) = 5 * (SELECT count(*) FROM attempt) AS tried FROM done;

-- The catalogue says the same: no rows.
SELECT d.role, d.object, a.attname AS column, d.privilege, d.allowed
  FROM done d LEFT JOIN pg_attribute a ON a.attrelid = d.objid AND a.attnum = d.attnum
 WHERE d.allowed <> (
           (d.kind IN ('schema', 'function') AND d.object NOT LIKE 'klaviyo.%' OR has_schema_privilege(d.role, 'klaviyo', 'USAGE'))
           AND CASE d.kind
                   WHEN 'schema' THEN has_schema_privilege(d.role, 'klaviyo', d.privilege)
                   WHEN 'column' THEN has_column_privilege(d.role, d.objid, d.attnum, d.privilege)
                   WHEN 'table' THEN has_table_privilege(d.role, d.objid, d.privilege)
                   WHEN 'sequence' THEN has_sequence_privilege(d.role, d.objid, d.privilege)
                   WHEN 'type' THEN has_type_privilege(d.role, d.objid, d.privilege)
                   ELSE has_function_privilege(d.role, d.objid, d.privilege)
               END
       );
-- And nobody has one of those rights that cannot be tried without one elsewhere: no rows.
SELECT r.role, c.oid::regclass AS relation
  FROM pg_class c, (VALUES ('klaviyo_admin'), ('klaviyo_gateway'), ('klaviyo_reader'), ('klaviyo_writer'), ('rights_stranger')) AS r (role)
 WHERE c.relnamespace = 'klaviyo'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND (has_table_privilege(r.role, c.oid, 'TRIGGER') OR has_any_column_privilege(r.role, c.oid, 'REFERENCES'));

-- Nor may anyone hand on what he has: no rows.
SELECT 'grant option' WHERE EXISTS (
    SELECT FROM pg_class c, aclexplode(c.relacl) x WHERE c.relnamespace = 'klaviyo'::regnamespace AND x.is_grantable AND x.grantee <> c.relowner
    UNION ALL
    SELECT FROM pg_proc p, aclexplode(p.proacl) x WHERE p.proname LIKE 'klaviyo%' AND x.is_grantable AND x.grantee <> p.proowner
);

-- Roles at work --------------------------------------------------------------------------------------------------------
\pset tuples_only on
CREATE FUNCTION state(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
CREATE ROLE rights_shop IN ROLE klaviyo_writer;
CREATE ROLE rights_analyst IN ROLE klaviyo_reader;
CREATE ROLE rights_dba IN ROLE klaviyo_admin;
CREATE ROLE rights_caller;
SET client_min_messages = warning;

-- A member of klaviyo_admin sets up an account and lets it send. (Nothing is delivered here, and no key is right.)
SET ROLE rights_dba;
SELECT klaviyo_set_account(private_key => 'pk_secret'), klaviyo_arm_account(), klaviyo_pause_account(), klaviyo_resume_account();
SELECT klaviyo.is_armed(a) FROM klaviyo.account AS a;

-- A member of klaviyo_writer queues, asks, and sees no table.
SET ROLE rights_shop;
SELECT klaviyo_track_event('By a writer', 'ada@shop.example') AS id \gset
SELECT klaviyo_upsert_profile('ada@shop.example') IS NOT NULL;
SELECT (klaviyo_result(:'id')).status, (klaviyo_await(:'id', '0')).status;
SELECT klaviyo_track_event('By a writer', 'ada@shop.example', account => 'nowhere');
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_track_event('Refused', 'ada') IS NOT NULL;
RESET klaviyo.on_invalid;
SELECT state($$TABLE klaviyo.outbox$$), state($$SELECT klaviyo_discard(kind => 'event')$$);

-- A member of klaviyo_reader sees customers' data, and how delivery stands.
SET ROLE rights_analyst;
SELECT payload #>> '{event,metric,data,attributes,name}' FROM klaviyo.outbox WHERE kind = 'event';
SELECT code FROM klaviyo.dead_letter;
SELECT status FROM klaviyo_result(:'id');
SELECT name, status FROM klaviyo_health() WHERE name = 'arming';
SELECT count(*) >= 0 FROM klaviyo.lane, klaviyo.throughput, klaviyo.latency;
SELECT state($$SELECT klaviyo_track_event('A', 'ada@shop.example')$$), state($$SELECT klaviyo_acknowledge()$$), state($$TABLE klaviyo.account_key$$);

-- A member of klaviyo_admin does all of that, decides about dead letters, and removes an account with all that waits for it.
SET ROLE rights_dba;
SELECT klaviyo_acknowledge();
SELECT klaviyo_redrive(kind => 'event'), klaviyo_discard(kind => 'event');
SELECT klaviyo_set_account('other', private_key => 'pk_other'), klaviyo_track_event('A', 'ada@shop.example', account => 'other') IS NOT NULL;
SELECT state($$SELECT klaviyo_remove_account('other')$$);
SELECT klaviyo_remove_account('other', bury_waiting => true);
-- Nothing is put aside of an account that is there.
SELECT klaviyo.note_removal('default');
SELECT count(*) FROM klaviyo.removed_account WHERE account = 'default';
RESET ROLE;
SELECT account FROM klaviyo.account_key;

-- EXECUTE on one function is enough to queue, and gives nothing else.
GRANT EXECUTE ON FUNCTION klaviyo_track_event TO rights_caller;
SET ROLE rights_caller;
SELECT klaviyo_track_event('By a caller', 'ada@shop.example') IS NOT NULL;
SELECT state($$SELECT klaviyo_upsert_profile('ada@shop.example')$$), state($$TABLE klaviyo.outbox$$);
RESET ROLE;

-- An application that inserts into a table needs no right of ours when the owner of the trigger's function is a writer.
CREATE TABLE orders (id bigint, email text);
CREATE FUNCTION order_placed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM klaviyo_track_event('Placed Order', NEW.email);
    RETURN NULL;
END
$$;
GRANT CREATE ON SCHEMA public TO rights_shop;
ALTER FUNCTION order_placed OWNER TO rights_shop;
CREATE TRIGGER order_placed AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION order_placed();
GRANT INSERT ON orders TO rights_stranger;
SELECT has_schema_privilege('rights_stranger', 'klaviyo', 'USAGE');
SET ROLE rights_stranger;
INSERT INTO orders VALUES (1, 'bob@shop.example');
SELECT state($$SELECT klaviyo_track_event('Placed Order', 'bob@shop.example')$$);
RESET ROLE;
SELECT key FROM klaviyo.outbox ORDER BY seq DESC LIMIT 1;

DROP OWNED BY rights_stranger, rights_shop, rights_analyst, rights_dba, rights_caller CASCADE;
DROP ROLE rights_stranger, rights_shop, rights_analyst, rights_dba, rights_caller;
