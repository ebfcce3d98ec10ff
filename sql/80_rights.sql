-- Rights: what the extension made is its owner's alone. Not only PUBLIC is refused: default privileges of the role that
-- creates the extension may have granted things to anyone.

DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT o.kind, o.name, g.grantee
        FROM (
            SELECT 'SCHEMA' AS kind, pg_catalog.quote_ident(n.nspname) AS name, n.nspacl AS acl, n.nspowner AS owner,
                   'n'::"char" AS type
            FROM pg_catalog.pg_namespace AS n
            WHERE n.nspname = 'klaviyo'
            UNION ALL
            SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::pg_catalog.regclass::text, c.relacl,
                   c.relowner, CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END
            FROM pg_catalog.pg_class AS c
            JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = 'klaviyo' AND c.relkind IN ('r', 'p', 'v', 'S')
            UNION ALL
            SELECT 'FUNCTION', p.oid::pg_catalog.regprocedure::text, p.proacl, p.proowner, 'f'::"char"
            FROM pg_catalog.pg_proc AS p
            JOIN pg_catalog.pg_depend AS d
                ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
            JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'klaviyo_sync'
            UNION ALL
            SELECT 'TYPE', t.oid::pg_catalog.regtype::text, t.typacl, t.typowner, 'T'::"char"
            FROM pg_catalog.pg_type AS t
            WHERE t.oid = 'klaviyo.result'::pg_catalog.regtype
        ) AS o
        CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(o.acl, pg_catalog.acldefault(o.type, o.owner))) AS g
        WHERE g.grantee <> o.owner
    LOOP
        EXECUTE pg_catalog.format(
            'REVOKE ALL ON %s %s FROM %s',
            granted.kind,
            granted.name,
            CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::pg_catalog.regrole::text END
        );
    END LOOP;
END
$$;
