-- Guards: the extension installs into any schema of a UTF-8 database and no other, keeps to itself what it makes, documents it, and goes without a trace but for its roles.
-- (What CONTEXT tells of an extension's script differs between majors.)
\set SHOW_CONTEXT never
CREATE EXTENSION klaviyo_sync;
SELECT e.extname, n.nspname AS schema, e.extrelocatable AS relocatable
  FROM pg_extension e
  JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname = 'klaviyo_sync';

-- What belongs to it, besides row and array types.
CREATE VIEW member AS
SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS object
  FROM pg_depend d
  JOIN pg_extension e ON e.oid = d.refobjid
 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'klaviyo_sync';

-- Nothing is granted to PUBLIC: no rows. (An ACL that is NULL means the default, which for functions is PUBLIC.)
WITH acl (object, entries) AS (
    SELECT m.object, coalesce(p.proacl, acldefault('f', p.proowner))
      FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
    UNION ALL
    SELECT m.object, coalesce(c.relacl, acldefault('r', c.relowner))
      FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind <> 'c'
    UNION ALL
    SELECT 'sequence ' || c.oid::regclass, coalesce(c.relacl, acldefault('s', c.relowner))
      FROM pg_class c WHERE c.relnamespace = 'klaviyo'::regnamespace AND c.relkind = 'S'
    UNION ALL
    SELECT m.object || ' column ' || a.attname, a.attacl
      FROM member m JOIN pg_attribute a ON m.classid = 'pg_class'::regclass AND a.attrelid = m.objid
     WHERE a.attacl IS NOT NULL
    UNION ALL
    SELECT m.object, coalesce(n.nspacl, acldefault('n', n.nspowner))
      FROM member m JOIN pg_namespace n ON m.classid = 'pg_namespace'::regclass AND n.oid = m.objid
)
SELECT a.object, x.privilege_type
  FROM acl a, aclexplode(a.entries) x
 WHERE x.grantee = 0
 ORDER BY 1, 2;

-- Everything has a comment: no rows. (Relation kind c: a composite type's, which is described as a type.)
WITH thing (object, comment) AS (
    SELECT m.object, obj_description(m.objid, 'pg_namespace') FROM member m WHERE m.classid = 'pg_namespace'::regclass
    UNION ALL
    SELECT m.object, obj_description(m.objid, 'pg_proc') FROM member m WHERE m.classid = 'pg_proc'::regclass
    UNION ALL
    SELECT m.object, obj_description(c.oid, 'pg_class')
      FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
     WHERE c.relkind <> 'c'
    UNION ALL
    SELECT m.object || ' column ' || a.attname, col_description(c.oid, a.attnum)
      FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE c.relkind <> 'c'
    UNION ALL
    SELECT m.object, obj_description(t.oid, 'pg_type')
      FROM member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
      JOIN pg_class c ON c.oid = t.typrelid
     WHERE c.relkind = 'c'
)
SELECT t.object FROM thing t WHERE coalesce(t.comment, '') = '' ORDER BY 1;

-- No function takes its caller's search_path: no rows. (One in C that runs with its caller's rights looks up nothing; a body that
-- was parsed when it was made has looked up all.)
SELECT m.object
  FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
  JOIN pg_language l ON l.oid = p.prolang
 WHERE (p.prosecdef OR l.lanname <> 'c') AND p.prosqlbody IS NULL AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
 ORDER BY 1;

-- It goes without a trace, but for its roles, which are the cluster's: other databases may use them.
DROP EXTENSION klaviyo_sync;
SELECT count(*) AS schemas FROM pg_namespace WHERE nspname = 'klaviyo';
SELECT oid::regprocedure AS function_left FROM pg_proc WHERE proname LIKE 'klaviyo%' OR probin LIKE '%klaviyo%';
SELECT oid::regclass AS relation_left FROM pg_class WHERE oid >= 16384 AND relname <> 'member' AND relnamespace <> 'pg_toast'::regnamespace;
SELECT typname AS type_left FROM pg_type WHERE oid >= 16384 AND typname NOT IN ('member', '_member');
SELECT rolname AS role_left FROM pg_roles WHERE rolname LIKE 'klaviyo%' ORDER BY 1;

-- Functions go where one wants them, tables into schema klaviyo all the same. Both work from elsewhere.
CREATE SCHEMA tools;
CREATE EXTENSION klaviyo_sync WITH SCHEMA tools;
SELECT n.nspname AS schema, p.proname AS function
  FROM member m
  JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE p.proname LIKE 'klaviyo%'
 ORDER BY 1, 2;
SELECT n.nspname AS schema, count(*) > 0 AS tables
  FROM member m
  JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 GROUP BY 1;
SET search_path = '';
SELECT tools.klaviyo_set_account();
SELECT tools.klaviyo_arm_account();
SELECT tools.klaviyo_track_event('Placed Order', 'ada@shop.example') AS first \gset
SELECT status FROM tools.klaviyo_result(:'first');
SELECT tools.klaviyo_redrive(kind => 'event'), tools.klaviyo_discard(kind => 'event');
RESET search_path;

-- A session that has queued goes on after the extension was dropped and made anew.
DROP EXTENSION klaviyo_sync;
CREATE EXTENSION klaviyo_sync;
SELECT klaviyo_set_account();
SELECT klaviyo_track_event('Placed Order', 'ada@shop.example') IS NOT NULL AS queued;
SELECT count(*) FROM klaviyo.outbox;

-- What is granted by default to new tables, functions and schemas is not granted on its own: a key is for the owner only.
DROP EXTENSION klaviyo_sync;
CREATE ROLE install_reader;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO install_reader, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO install_reader, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO install_reader, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO install_reader, PUBLIC;
CREATE EXTENSION klaviyo_sync;
SELECT r.role, has_table_privilege(r.role, 'klaviyo.account_key', 'SELECT') AS reads_keys,
       has_table_privilege(r.role, 'klaviyo.outbox', 'INSERT') AS writes_outbox,
       has_sequence_privilege(r.role, 'klaviyo.outbox_seq_seq', 'USAGE') AS takes_numbers,
       has_schema_privilege(r.role, 'klaviyo', 'CREATE') AS creates,
       has_function_privilege(r.role, 'klaviyo_redrive(uuid,text,text,text)', 'EXECUTE') AS redrives
  FROM (VALUES ('install_reader'), ('public')) AS r (role);
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM install_reader, PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM install_reader, PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM install_reader, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM install_reader, PUBLIC;
DROP EXTENSION klaviyo_sync;
DROP OWNED BY install_reader;
DROP ROLE install_reader;
CREATE EXTENSION klaviyo_sync;

-- It does not move, and does not take over a schema that is there.
ALTER EXTENSION klaviyo_sync SET SCHEMA tools;
DROP EXTENSION klaviyo_sync;
CREATE SCHEMA klaviyo;
CREATE EXTENSION klaviyo_sync;
DROP SCHEMA klaviyo;

-- Only a superuser installs it.
CREATE ROLE install_owner;
GRANT CREATE ON DATABASE :"DBNAME" TO install_owner;
SET ROLE install_owner;
CREATE EXTENSION klaviyo_sync;
RESET ROLE;
DROP OWNED BY install_owner;
DROP ROLE install_owner;

-- Klaviyo speaks UTF-8 only.
\set own :DBNAME
CREATE DATABASE regress_install_latin1 ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C';
\connect regress_install_latin1
CREATE EXTENSION klaviyo_sync;
SELECT count(*) AS schemas FROM pg_namespace WHERE nspname = 'klaviyo';
\connect :own
DROP DATABASE regress_install_latin1;
