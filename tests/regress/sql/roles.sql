-- Guards: the extension's roles are groups and nothing more; they are found or made, and whoever is a member of one already is named.
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
-- (What comes and goes in one transaction gets no worker, which another transaction would have to wait for.)
BEGIN;
CREATE EXTENSION klaviyo_sync;
DROP EXTENSION klaviyo_sync;
COMMIT;
SELECT r.rolname, r.rolcanlogin, r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication, r.rolbypassrls, r.rolinherit, shobj_description(r.oid, 'pg_authid')
  FROM pg_roles r WHERE r.rolname LIKE 'klaviyo%' ORDER BY 1;
SELECT m.rolname AS member, r.rolname, g.admin_option
  FROM pg_auth_members g JOIN pg_roles r ON r.oid = g.roleid JOIN pg_roles m ON m.oid = g.member
 WHERE r.rolname LIKE 'klaviyo%' OR m.rolname LIKE 'klaviyo%' ORDER BY 1, 2;

-- Their members of before get the rights in this database too, and the one who creates the extension is told who.
CREATE ROLE "roles Mallory";
CREATE ROLE roles_dba SUPERUSER;
GRANT klaviyo_reader TO "roles Mallory", roles_dba;
GRANT klaviyo_writer TO "roles Mallory" WITH ADMIN OPTION;
BEGIN;
CREATE EXTENSION klaviyo_sync;
ROLLBACK;
REVOKE klaviyo_reader FROM "roles Mallory", roles_dba;
REVOKE klaviyo_writer FROM "roles Mallory";

-- A role of the name that can do more, or cannot pass on what it is granted, is not taken.
ALTER ROLE klaviyo_writer LOGIN;
CREATE EXTENSION klaviyo_sync;
ALTER ROLE klaviyo_writer NOLOGIN;
CREATE FUNCTION creates(attribute text, opposite text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'ALTER ROLE klaviyo_admin ' || attribute;
    BEGIN
        CREATE EXTENSION klaviyo_sync;
        RAISE EXCEPTION 'created';
    EXCEPTION WHEN OTHERS THEN
        EXECUTE 'ALTER ROLE klaviyo_admin ' || opposite;
        RETURN SQLSTATE || ' ' || SQLERRM;
    END;
END
$$;
SELECT a, creates(a, o)
  FROM (VALUES ('LOGIN', 'NOLOGIN'), ('SUPERUSER', 'NOSUPERUSER'), ('CREATEROLE', 'NOCREATEROLE'), ('CREATEDB', 'NOCREATEDB'),
               ('REPLICATION', 'NOREPLICATION'), ('BYPASSRLS', 'NOBYPASSRLS'), ('NOINHERIT', 'INHERIT'), ('NOLOGIN', 'NOLOGIN')) AS v (a, o);
-- Nothing has come of that.
SELECT count(*) FROM pg_extension WHERE extname = 'klaviyo_sync';

-- klaviyo_admin is put back into what it was taken out of.
REVOKE klaviyo_reader FROM klaviyo_admin;
CREATE EXTENSION klaviyo_sync;
SELECT pg_has_role('klaviyo_admin', 'klaviyo_reader', 'USAGE'), pg_has_role('klaviyo_admin', 'klaviyo_writer', 'USAGE');

DROP ROLE "roles Mallory", roles_dba;
