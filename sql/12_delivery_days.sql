-- klaviyo.delivery by days of UTC: a partition delivery_YYYYMMDD a day, made ahead and dropped when old by the worker, and
-- delivery_default for rows that find none. They belong to the extension: DROP EXTENSION takes them along, no dump
-- carries them, and a restored one begins with new ones.

CREATE TABLE klaviyo.delivery_default (LIKE klaviyo.delivery INCLUDING COMMENTS);
ALTER TABLE klaviyo.delivery ATTACH PARTITION klaviyo.delivery_default DEFAULT;
COMMENT ON TABLE klaviyo.delivery_default IS
    'Deliveries of days without a partition of their own: the clock jumped, or somebody held a lock for days';

CREATE FUNCTION klaviyo.delivery_days() RETURNS SETOF date
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT to_date(substr(c.relname, length('delivery_') + 1), 'YYYYMMDD')
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'klaviyo.delivery'::regclass AND c.relname ~ '^delivery_[0-9]{8}$'
$$;
COMMENT ON FUNCTION klaviyo.delivery_days() IS 'Days that have a partition of klaviyo.delivery';

-- Takes: how many days ahead to look. Returns: the days from today on that are to get a partition, the first one first.
-- One whose rows are in delivery_default already gets none: they would have to be moved, and they leave as well from
-- there.
CREATE FUNCTION klaviyo.missing_delivery_days(ahead integer) RETURNS SETOF date
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.day
    FROM (
        SELECT (now() AT TIME ZONE 'UTC')::date + n AS day FROM generate_series(0, missing_delivery_days.ahead) AS n
    ) AS d
    WHERE NOT EXISTS (SELECT FROM klaviyo.delivery_days() AS known (day) WHERE known.day = d.day)
      AND NOT EXISTS (
          SELECT FROM klaviyo.delivery_default AS f
          WHERE f.settled_at >= d.day::timestamp AT TIME ZONE 'UTC'
            AND f.settled_at < (d.day + 1)::timestamp AT TIME ZONE 'UTC'
      )
    ORDER BY d.day
$$;
COMMENT ON FUNCTION klaviyo.missing_delivery_days(integer) IS
    'Days from today to so many days ahead that are to get a partition of klaviyo.delivery';

-- Takes: a day without a partition. Touches: delivery.
-- Made first and attached then, for CREATE TABLE … PARTITION OF would lock out all readers of delivery; this locks out
-- those of delivery_default, for a moment. SECURITY DEFINER, so that it belongs to whom the others belong to.
CREATE FUNCTION klaviyo.add_delivery_day(day date) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name    text := 'delivery_' || to_char(day::timestamp, 'YYYYMMDD');
    grantee text;
BEGIN
    EXECUTE format('CREATE TABLE klaviyo.%I (LIKE klaviyo.delivery INCLUDING COMMENTS)', name);
    EXECUTE format('COMMENT ON TABLE klaviyo.%I IS %L', name,
                   'Deliveries of ' || to_char(day::timestamp, 'YYYY-MM-DD') || ', UTC');
    -- As 80_rights.sql: default privileges may have granted things to anyone.
    FOR grantee IN
        SELECT DISTINCT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS g
        WHERE c.oid = format('klaviyo.%I', name)::regclass AND g.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON TABLE klaviyo.%I FROM %s', name, grantee);
    END LOOP;
    EXECUTE format('ALTER TABLE klaviyo.delivery ATTACH PARTITION klaviyo.%I FOR VALUES FROM (%L) TO (%L)', name,
                   to_char(day::timestamp, 'YYYY-MM-DD') || ' 00:00:00+00',
                   to_char((day + 1)::timestamp, 'YYYY-MM-DD') || ' 00:00:00+00');
    -- While the extension is being created, all that is made belongs to it already.
    IF NOT EXISTS (
        SELECT FROM pg_depend AS d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = format('klaviyo.%I', name)::regclass AND d.deptype = 'e'
    ) THEN
        EXECUTE format('ALTER EXTENSION klaviyo_sync ADD TABLE klaviyo.%I', name);
    END IF;
END
$$;
COMMENT ON FUNCTION klaviyo.add_delivery_day(date) IS 'Makes the partition of klaviyo.delivery for a day';

-- Takes: a day with a partition. Touches: delivery. It locks out all readers of delivery, for a moment.
CREATE FUNCTION klaviyo.drop_delivery_day(day date) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text := 'delivery_' || to_char(day::timestamp, 'YYYYMMDD');
BEGIN
    EXECUTE format('ALTER EXTENSION klaviyo_sync DROP TABLE klaviyo.%I', name);
    EXECUTE format('DROP TABLE klaviyo.%I', name);
END
$$;
COMMENT ON FUNCTION klaviyo.drop_delivery_day(date) IS 'Drops the partition of klaviyo.delivery for a day, and all in it';

SELECT klaviyo.add_delivery_day(d) FROM klaviyo.missing_delivery_days(3) AS d;
