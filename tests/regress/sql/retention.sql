-- Guards: partitions of klaviyo.delivery belong to the extension, hold a day of UTC each, and are nobody else's to read.
-- Nothing here may depend on what day it is. The worker's part is tested in tests/tests/retention.rs.
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
CREATE ROLE "Retention stranger";
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO "Retention stranger";
\set SHOW_CONTEXT never
SET TimeZone = 'Pacific/Kiritimati';
SET DateStyle = 'SQL, DMY';

-- Today and three days ahead are there, and whatever comes otherwise has a place. In one transaction, lest a day end.
BEGIN;
CREATE EXTENSION klaviyo_sync;
CREATE FUNCTION deliver(id uuid, at timestamptz) RETURNS text LANGUAGE sql AS $$
    INSERT INTO klaviyo.delivery (message_id, seq, account, kind, key, http_status, attempts, enqueued_at, sent_at, settled_at)
    VALUES (id, 1, 'default', 'event', '{external_id:1}', 202, 1, at, at, at)
    RETURNING tableoid::regclass::text
$$;
SELECT d - (now() AT TIME ZONE 'UTC')::date AS day FROM klaviyo.delivery_days() AS d ORDER BY 1;
SELECT count(*) FROM klaviyo.missing_delivery_days(3);
SELECT d - (now() AT TIME ZONE 'UTC')::date AS day FROM klaviyo.missing_delivery_days(5) AS d;
-- A day with rows in the default partition is to get none of its own.
SELECT deliver('00000000-0000-0000-0000-000000000005', ((now() AT TIME ZONE 'UTC')::date + 4)::timestamp AT TIME ZONE 'UTC');
SELECT d - (now() AT TIME ZONE 'UTC')::date AS day FROM klaviyo.missing_delivery_days(5) AS d;
COMMIT;

-- A day made by hand is like those of the installation.
SELECT klaviyo.add_delivery_day('2024-02-29');
SELECT pg_get_expr(c.relpartbound, c.oid) LIKE 'FOR VALUES FROM (''29/02/2024 14:00:00%'') TO (''01/03/2024 14:00:00%'')' AS a_day_of_utc,
       obj_description(c.oid) AS comment, c.relacl IS NOT NULL AS has_acl,
       (SELECT count(*) FROM aclexplode(c.relacl) AS g WHERE g.grantee <> c.relowner) AS granted
  FROM pg_class AS c WHERE c.oid = 'klaviyo.delivery_20240229'::regclass;
SELECT count(*) AS without_comment FROM pg_attribute AS a
 WHERE a.attrelid = 'klaviyo.delivery_20240229'::regclass AND a.attnum > 0 AND col_description(a.attrelid, a.attnum) IS NULL;
SELECT c.relname, c.relowner = p.relowner AS same_owner,
       EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') AS member,
       (SELECT array_agg(regexp_replace(x.indexrelid::regclass::text, '\d{8}', 'DAY') ORDER BY x.indexrelid::regclass::text) FROM pg_index AS x WHERE x.indrelid = c.oid) AS indexes
  FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_class AS p ON p.oid = i.inhparent
 WHERE p.oid = 'klaviyo.delivery'::regclass AND c.relname IN ('delivery_20240229', 'delivery_default') ORDER BY 1;
-- All of them: members with no rights for others.
SELECT count(*) AS partitions, count(*) FILTER (WHERE e.objid IS NULL) AS strangers,
       count(*) FILTER (WHERE EXISTS (SELECT FROM aclexplode(c.relacl) AS g WHERE g.grantee <> c.relowner)) AS granted
  FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
  LEFT JOIN pg_depend AS e ON e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e'
 WHERE i.inhparent = 'klaviyo.delivery'::regclass;
SELECT klaviyo.add_delivery_day('2024-02-29');
DROP TABLE klaviyo.delivery_20240229;

-- Rows find their day, and others the default one; a message is found wherever it is.
SELECT deliver('00000000-0000-0000-0000-000000000001', '2024-02-29 00:00:00+00'),
       deliver('00000000-0000-0000-0000-000000000002', '2024-02-29 23:59:59.999999+00'),
       deliver('00000000-0000-0000-0000-000000000003', '2024-03-01 00:00:00+00'),
       deliver('00000000-0000-0000-0000-000000000004', '2024-02-28 23:59:59.999999+00');
SELECT status FROM generate_series(1, 5) AS n, klaviyo_result(('00000000-0000-0000-0000-00000000000' || n)::uuid) ORDER BY n;

-- A day with rows in the default partition cannot have one of its own.
SELECT klaviyo.add_delivery_day('2024-02-28');

-- Gone, with all in it.
SELECT klaviyo.drop_delivery_day('2024-02-29');
SELECT to_regclass('klaviyo.delivery_20240229');
SELECT status FROM generate_series(1, 5) AS n, klaviyo_result(('00000000-0000-0000-0000-00000000000' || n)::uuid) ORDER BY n;
SELECT klaviyo.drop_delivery_day('2024-02-29');

-- Nothing stays of them when the extension goes.
SELECT klaviyo.add_delivery_day('2024-02-29');
DROP EXTENSION klaviyo_sync;
SELECT count(*) FROM pg_class WHERE relname LIKE 'delivery%';
DROP FUNCTION deliver;
ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM "Retention stranger";
DROP ROLE "Retention stranger";
