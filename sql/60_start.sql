-- The launcher learns that this database has the extension when this transaction commits.
CREATE FUNCTION klaviyo.announce_database() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_announce_database';
COMMENT ON FUNCTION klaviyo.announce_database() IS
    'Has the launcher start a worker for this database, if none is running, when the current transaction commits';
SELECT klaviyo.announce_database();
