-- Capture: triggers made from what a person says of a table's columns. Triggers and their functions are the table's
-- owner's, and no members of the extension: dumps carry them with the table.

CREATE TABLE klaviyo.mapping (
    id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind      text NOT NULL,
    name      text NOT NULL,
    account   text NOT NULL,
    spec      jsonb NOT NULL,
    plan      jsonb NOT NULL,
    relation  oid NOT NULL,
    table_name text NOT NULL,
    made_at   timestamptz NOT NULL DEFAULT now(),
    paused_at timestamptz,
    notes_keys boolean NOT NULL DEFAULT false,
    writes_back boolean NOT NULL DEFAULT false,
    writes_back_after text
);
COMMENT ON TABLE klaviyo.mapping IS 'What was said of tables whose rows are sent; see the view sync, which knows the tables';
COMMENT ON COLUMN klaviyo.mapping.id IS 'Number; its function is called klaviyo_sync_ and this, its triggers that and what they are for';
COMMENT ON COLUMN klaviyo.mapping.kind IS 'Kind of message that is queued: event or profile';
COMMENT ON COLUMN klaviyo.mapping.name IS 'Name, by which a table''s mappings are told apart; if nothing else was said an event''s metric, or profile';
COMMENT ON COLUMN klaviyo.mapping.account IS 'Account that the messages go to';
COMMENT ON COLUMN klaviyo.mapping.spec IS 'What was said of the columns, argument by argument';
COMMENT ON COLUMN klaviyo.mapping.plan IS 'What that comes to, as SQL over a row, with every name resolved: what its function is written from';
COMMENT ON COLUMN klaviyo.mapping.relation IS 'Table, by its number, which a dump that is restored has another of';
COMMENT ON COLUMN klaviyo.mapping.table_name IS 'Its name, in full, by which it is known in a dump that is restored';
COMMENT ON COLUMN klaviyo.mapping.made_at IS 'When it was attached, or last replaced';
COMMENT ON COLUMN klaviyo.mapping.paused_at IS 'Since when nothing is captured; NULL: not paused';
COMMENT ON COLUMN klaviyo.mapping.notes_keys IS 'Whether rows that are captured are noted in captured_key, so that no backfill sends them: until one is done';
COMMENT ON COLUMN klaviyo.mapping.writes_back IS 'Whether what Klaviyo changes is written back into the table: direction is both';
COMMENT ON COLUMN klaviyo.mapping.writes_back_after IS 'Up to which profile what was known before is to be written back by now; NULL: up to the last';

SELECT pg_catalog.pg_extension_config_dump('klaviyo.mapping', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.mapping_id_seq', '');

-- Found by its triggers: they go with a table that is dropped, stay with one that is renamed, and come with one that is
-- restored. Whoever calls his own triggers so is not found where the table is there.
CREATE VIEW klaviyo.sync AS
SELECT DISTINCT ON (m.id)
       m.id, t.relation::regclass AS relation, m.name, m.kind, m.account,
       CASE
           WHEN m.relation <> t.relation THEN 'copied'
           WHEN m.paused_at IS NOT NULL THEN 'paused'
           WHEN NOT t.enabled THEN 'disabled'
           ELSE 'on'
       END AS state,
       m.spec, t.function::regproc AS function, m.made_at, m.paused_at
FROM klaviyo.mapping AS m
JOIN (
    SELECT t.tgrelid AS relation, split_part(t.tgname, '_', 3)::integer AS id, min(t.tgfoid) AS function,
           bool_and(t.tgenabled <> 'D') AS enabled, c.relispartition AS is_partition,
           format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_trigger AS t
    JOIN pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE t.tgname ~ '^klaviyo_sync_[0-9]{1,9}_(insert|update|delete)$' AND NOT t.tgisinternal
    GROUP BY 1, 2, c.relispartition, n.nspname, c.relname
) AS t USING (id)
ORDER BY m.id, m.relation <> t.relation, m.table_name <> t.name, t.is_partition, t.relation;
COMMENT ON VIEW klaviyo.sync IS 'What is attached to which table; see klaviyo_sync_show() for the triggers themselves';
COMMENT ON COLUMN klaviyo.sync.id IS 'Number; its function is called klaviyo_sync_ and this, its triggers that and what they are for';
COMMENT ON COLUMN klaviyo.sync.relation IS 'Table';
COMMENT ON COLUMN klaviyo.sync.name IS 'Name, by which a table''s mappings are told apart';
COMMENT ON COLUMN klaviyo.sync.kind IS 'Kind of message that is queued: event or profile';
COMMENT ON COLUMN klaviyo.sync.account IS 'Account that the messages go to';
COMMENT ON COLUMN klaviyo.sync.state IS 'on; paused: klaviyo_sync_resume() ends that; disabled: a trigger of its is, by ALTER TABLE; copied: it came in a dump, and captures nothing until its account is armed here';
COMMENT ON COLUMN klaviyo.sync.spec IS 'What was said of the columns, argument by argument';
COMMENT ON COLUMN klaviyo.sync.function IS 'What its triggers call';
COMMENT ON COLUMN klaviyo.sync.made_at IS 'When it was attached, or last replaced';
COMMENT ON COLUMN klaviyo.sync.paused_at IS 'Since when nothing is captured; NULL: not paused';

CREATE FUNCTION @extschema@.klaviyo_sync_events(
    relation       regclass,
    metric         text,
    email          text DEFAULT NULL,
    phone_number   text DEFAULT NULL,
    external_id    text DEFAULT NULL,
    value          text DEFAULT NULL,
    value_currency text DEFAULT NULL,
    unique_id      text DEFAULT NULL,
    event_time     text DEFAULT NULL,
    properties     jsonb DEFAULT NULL,
    profile        jsonb DEFAULT NULL,
    "when"         text DEFAULT NULL,
    "on"           text DEFAULT 'insert',
    at             text DEFAULT 'statement',
    replicated     boolean DEFAULT false,
    name           text DEFAULT NULL,
    account        text DEFAULT NULL,
    replace        boolean DEFAULT false
) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_events';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_events(regclass, text, text, text, text, text, text, text, text, jsonb, jsonb, text, text, text, boolean, text, text, boolean) IS
    'Has rows that are written to a table queue events, by triggers that klaviyo_sync_show() shows. "on" is insert (the default), update, delete, or some of them: insert or update. An update is an event where the row then meets "when" and did not before. at is statement (the default), or commit: with the end of the transaction, as the row and what belongs to it are then. With replicated rows that logical replication applies count, too. Other arguments than metric, "on", at, name and account name a column or are an SQL expression over the row, a look-up in another table included: (SELECT u.email FROM users AS u WHERE u.id = row.user_id). properties and profile are a list of columns ("*": all, "-name": not that one), a map of names to expressions, lists or maps, or one expression. Only rows for which "when" is true are sent. Whoever calls must have the rights of the table''s owner, who must be a klaviyo_writer. With replace the mapping of that name is changed to this one. Returns the number of the mapping';

CREATE FUNCTION @extschema@.klaviyo_sync_profiles(
    relation     regclass,
    email        text DEFAULT NULL,
    phone_number text DEFAULT NULL,
    external_id  text DEFAULT NULL,
    first_name   text DEFAULT NULL,
    last_name    text DEFAULT NULL,
    organization text DEFAULT NULL,
    title        text DEFAULT NULL,
    locale       text DEFAULT NULL,
    image        text DEFAULT NULL,
    location     jsonb DEFAULT NULL,
    properties   jsonb DEFAULT NULL,
    "when"       text DEFAULT NULL,
    on_delete    text DEFAULT 'keep',
    replicated   boolean DEFAULT false,
    name         text DEFAULT 'profile',
    account      text DEFAULT NULL,
    replace      boolean DEFAULT false,
    direction    text DEFAULT 'out',
    updated_at   text DEFAULT NULL
) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_profiles';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_profiles(regclass, text, text, text, text, text, text, text, text, text, jsonb, jsonb, text, text, boolean, text, text, boolean, text, text) IS
    'Has rows that are inserted into a table queue the state of a profile, and those that are updated what of it has changed, if anything, by triggers that klaviyo_sync_show() shows. on_delete is keep (the default): a row that is deleted changes nothing at Klaviyo; or request_deletion: klaviyo_request_deletion() is called with its email, or its phone_number if it has none. direction is out (the default), or both: what Klaviyo changes of a profile, as the jobs and klaviyo_pull_profile() read it, is written back into the columns that are mapped as such, where updated_at says when a row was last changed: of a field that both have changed the later value stands, see klaviyo.sync_conflict. Other arguments are as those of klaviyo_sync_events(). Returns the number of the mapping';

CREATE FUNCTION @extschema@.klaviyo_sync_metric(
    relation       regclass,
    metric         text,
    email          text DEFAULT NULL,
    phone_number   text DEFAULT NULL,
    external_id    text DEFAULT NULL,
    value          text DEFAULT NULL,
    value_currency text DEFAULT NULL,
    unique_id      text DEFAULT NULL,
    event_time     text DEFAULT NULL,
    properties     jsonb DEFAULT NULL,
    profile        jsonb DEFAULT NULL,
    "when"         text DEFAULT NULL,
    "on"           text DEFAULT NULL,
    at             text DEFAULT NULL,
    replicated     boolean DEFAULT false,
    name           text DEFAULT NULL,
    account        text DEFAULT NULL,
    replace        boolean DEFAULT false,
    items          jsonb DEFAULT NULL,
    items_from     text DEFAULT NULL
) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_metric';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_metric(regclass, text, text, text, text, text, text, text, text, jsonb, jsonb, text, text, text, boolean, text, text, boolean, jsonb, text) IS
    'As klaviyo_sync_events(), for a metric that every shop has, with the properties that Klaviyo''s standard flows and reports look at: Placed Order, Ordered Product, Fulfilled Order, Cancelled Order, Refunded Order, Started Checkout, Viewed Product, Active on Site. items says what an order''s items are made of, field by field, and items_from where they stand, as after FROM: order_items AS i WHERE i.order_id = row.id. If nobody says otherwise, metrics with items are looked at with the end of the transaction, unique_id is the primary key, and what becomes of an order later is an event of an insert or update that meets "when". Returns the number of the mapping';

CREATE FUNCTION @extschema@.klaviyo_sync_detach(relation regclass, name text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_detach';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_detach(regclass, text) IS
    'Takes a table''s mapping of that name away, or all, triggers and function included. What was queued stays so. Returns how many';

CREATE FUNCTION @extschema@.klaviyo_sync_pause(relation regclass, name text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_pause';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_pause(regclass, text) IS
    'Has a table''s mapping of that name, or all, capture nothing of what is written from now on, without waiting for anybody who writes. Returns how many';

CREATE FUNCTION @extschema@.klaviyo_sync_resume(relation regclass, name text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_resume';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_resume(regclass, text) IS
    'Has a table''s mapping of that name, or all, capture again. What was written meanwhile was not captured. Returns how many';

CREATE FUNCTION @extschema@.klaviyo_sync_show(relation regclass, name text DEFAULT NULL) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(rtrim(pg_get_functiondef(f.oid), E'\n') || E';\n\n' || f.triggers, E'\n\n' ORDER BY s.id)
    FROM klaviyo.sync AS s
    CROSS JOIN LATERAL (
        SELECT t.tgfoid, string_agg(pg_get_triggerdef(t.oid) || ';', E'\n' ORDER BY t.oid)
        FROM pg_trigger AS t
        WHERE t.tgfoid = s.function AND t.tgname ~ format('^klaviyo_sync_%s_(insert|update|delete)$', s.id)
        GROUP BY t.tgfoid
    ) AS f (oid, triggers)
    WHERE s.relation = klaviyo_sync_show.relation
      AND (klaviyo_sync_show.name IS NULL OR s.name = klaviyo_sync_show.name)
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_sync_show(regclass, text) IS
    'The SQL of a table''s mapping of that name, or of all: what runs when a row is written. NULL where there is none';

-- Preview -----------------------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.check_event(
    metric text, email text, properties jsonb, value numeric, value_currency text, unique_id text, event_time timestamptz,
    phone_number text, external_id text, profile jsonb
) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_check_event';
COMMENT ON FUNCTION klaviyo.check_event(text, text, jsonb, numeric, text, text, timestamptz, text, text, jsonb) IS
    'What klaviyo_track_event() would send, or why it would refuse, as JSON; nothing is queued';

CREATE FUNCTION klaviyo.check_changes(new jsonb, old jsonb) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_check_changes';
COMMENT ON FUNCTION klaviyo.check_changes(jsonb, jsonb) IS
    'What klaviyo_upsert_changes() would send, or why it would refuse, as JSON; nothing is queued';

CREATE FUNCTION klaviyo.preview_rows(relation regclass, name text, "limit" integer, place integer, keys_only boolean) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_preview_rows';
COMMENT ON FUNCTION klaviyo.preview_rows(regclass, text, integer, integer, boolean) IS
    'What klaviyo_preview() shows of a mapping''s last rows but for so many, as a JSON array';

CREATE FUNCTION @extschema@.klaviyo_preview(
    relation regclass,
    "limit"  integer DEFAULT 10,
    name     text DEFAULT NULL
) RETURNS TABLE (mapping text, key text[], request json, code text, reason text, hint text)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    one    text;
    failed text;
    advice text;
BEGIN
    -- Refuses a table that is not the caller's, mapped or not.
    PERFORM klaviyo.preview_rows(relation, NULL, 0, 0, true);
    FOR one IN
        SELECT s.name
        FROM klaviyo.sync AS s
        WHERE s.relation = klaviyo_preview.relation AND (klaviyo_preview.name IS NULL OR s.name = klaviyo_preview.name)
        ORDER BY s.id
    LOOP
        BEGIN
            RETURN QUERY
            SELECT one, ARRAY(SELECT json_array_elements_text(p.key)), p.checked -> 'request', p.checked ->> 'code', p.checked ->> 'reason', p.checked ->> 'hint'
            FROM json_to_recordset(klaviyo.preview_rows(relation, one, "limit", 0, false)::json) AS p (key json, checked json);
            CONTINUE;
        EXCEPTION
            -- Of some row it cannot be computed: of which?
            WHEN SQLSTATE 'KS051' THEN
                NULL;
        END;
        FOR place IN 0 .. "limit" - 1 LOOP
            BEGIN
                RETURN QUERY
                SELECT one, ARRAY(SELECT json_array_elements_text(p.key)), p.checked -> 'request', p.checked ->> 'code', p.checked ->> 'reason', p.checked ->> 'hint'
                FROM json_to_recordset(klaviyo.preview_rows(relation, one, 1, place, false)::json) AS p (key json, checked json);
            EXCEPTION
                WHEN SQLSTATE 'KS051' THEN
                    GET STACKED DIAGNOSTICS failed = PG_EXCEPTION_DETAIL, advice = PG_EXCEPTION_HINT;
                    RETURN QUERY
                    SELECT one, ARRAY(SELECT json_array_elements_text(p.key)), NULL::json, 'broken_mapping', failed, advice
                    FROM json_to_recordset(klaviyo.preview_rows(relation, one, 1, place, true)::json) AS p (key json);
            END;
            EXIT WHEN NOT FOUND;
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_preview(regclass, integer, text) IS
    'What a table''s mapping of that name, or each of them, would send of the last rows by primary key for which its "when" is true: the body of the call to Klaviyo, or why it would be refused; broken_mapping where it cannot be computed. Nothing is queued. A message''s own id, and so an event''s unique_id where it has no other, is shown as zeros';

-- Faults ------------------------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.check_mapping(relation regclass, plan jsonb) RETURNS void
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_check_mapping';
COMMENT ON FUNCTION klaviyo.check_mapping(regclass, jsonb) IS
    'Raises an error if what a mapping says of a table''s rows is understood no more. Nothing of it is computed';

CREATE FUNCTION klaviyo.mapping_fault(relation regclass, plan jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
-- Whoever changes the table is not waited for.
SET lock_timeout = '100ms'
AS $$
BEGIN
    PERFORM klaviyo.check_mapping(relation, plan);
    RETURN NULL;
EXCEPTION
    WHEN lock_not_available THEN
        RETURN NULL;
    WHEN OTHERS THEN
        RETURN SQLERRM;
END
$$;
COMMENT ON FUNCTION klaviyo.mapping_fault(regclass, jsonb) IS 'What has become wrong with a mapping since it was made; NULL: nothing';

-- What triggers ask and tell ------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.is_capturing(mapping integer, relation oid) RETURNS boolean
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_is_capturing';
COMMENT ON FUNCTION klaviyo.is_capturing(integer, oid) IS
    'Whether what is written to a table is captured: not where the mapping is paused, not in a copy that is not armed, and not what a subscription copies when it begins';

CREATE FUNCTION klaviyo.fault_to_bury(mapping integer) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_fault_to_bury';
COMMENT ON FUNCTION klaviyo.fault_to_bury(integer) IS
    'What has become wrong with a mapping, where klaviyo.on_invalid says that such rows become dead letters; NULL: nothing, or that the statement is to fail';

CREATE FUNCTION klaviyo.bury_row(account text, kind text, "row" jsonb, fault text) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_bury_row';
COMMENT ON FUNCTION klaviyo.bury_row(text, text, jsonb, text) IS 'Makes a dead letter of a row of which no message can be made. Returns its message_id';

-- Copies --------------------------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.adopt_mappings(account text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_adopt_mappings';
COMMENT ON FUNCTION klaviyo.adopt_mappings(text) IS 'Has an account''s mappings that came in a dump capture what is written to the tables here';

-- Tables that change --------------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.follow_table(relation oid) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_follow_table';
COMMENT ON FUNCTION klaviyo.follow_table(oid) IS 'Brings the triggers of a table, its partitions'' included, and their functions in line with what it has become';

-- It has the extension's rights: partitions may be of other owners.
CREATE FUNCTION klaviyo.follow_tables() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed  regclass;
    attached record;
BEGIN
    -- Of all that are changed in a database the fewest are mapped.
    IF NOT EXISTS (SELECT FROM klaviyo.mapping) THEN
        RETURN;
    END IF;
    FOR changed IN
        WITH command AS (
            SELECT c.objid FROM pg_event_trigger_ddl_commands() AS c WHERE c.classid = 'pg_class'::regclass
            UNION
            -- Of a schema that is renamed all tables, and of ours all that are mapped.
            SELECT s.relation::oid
            FROM pg_event_trigger_ddl_commands() AS c
            JOIN klaviyo.sync AS s ON true
            JOIN pg_class AS t ON t.oid = s.relation
            WHERE c.classid = 'pg_namespace'::regclass
              AND (t.relnamespace = c.objid
                   OR c.objid = (SELECT e.extnamespace FROM pg_extension AS e WHERE e.extname = 'klaviyo_sync'))
        )
        SELECT coalesce(pg_partition_root(c.objid), c.objid::regclass) FROM command AS c
        UNION
        SELECT i.inhparent FROM command AS c JOIN pg_inherits AS i ON i.inhrelid = c.objid
    LOOP
        SELECT s.relation, s.name
        INTO attached
        FROM klaviyo.sync AS s
        JOIN pg_class AS c ON c.oid = s.relation
        WHERE c.relispartition AND s.state <> 'copied' AND pg_partition_root(s.relation) = changed;
        IF FOUND THEN
            RAISE EXCEPTION 'mapping "%" of % is in the way', attached.name, attached.relation
                USING ERRCODE = 'KS050', DETAIL = 'What is written to a partition through its table calls no trigger of the partition''s.',
                      HINT = format(
                          'Take it away with SELECT klaviyo_sync_detach(%L), and map %s as a whole.', attached.relation::text, changed);
        END IF;
        IF EXISTS (SELECT FROM klaviyo.sync AS s WHERE s.relation = changed AND s.state <> 'copied') THEN
            PERFORM klaviyo.follow_table(changed);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION klaviyo.follow_tables() IS 'Has mappings follow what is done to their tables';

CREATE EVENT TRIGGER klaviyo_sync ON ddl_command_end
WHEN TAG IN ('ALTER FOREIGN TABLE', 'ALTER SCHEMA', 'ALTER TABLE', 'CREATE FOREIGN TABLE', 'CREATE SCHEMA', 'CREATE TABLE')
EXECUTE FUNCTION klaviyo.follow_tables();
COMMENT ON EVENT TRIGGER klaviyo_sync IS 'Has mappings follow what is done to their tables';

-- A mapping's function depends on its table, but pg_upgrade knows nothing of that.
CREATE FUNCTION klaviyo.forget_tables() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone     integer;
    function regprocedure;
BEGIN
    FOR gone IN
        SELECT m.id
        FROM pg_event_trigger_dropped_objects() AS d
        JOIN klaviyo.mapping AS m ON m.relation = d.objid
        WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0
          AND NOT EXISTS (SELECT FROM klaviyo.sync AS s WHERE s.id = m.id)
    LOOP
        DELETE FROM klaviyo.captured_key AS k WHERE k.mapping = gone;
        DELETE FROM klaviyo.mapping AS m WHERE m.id = gone;
        FOR function IN
            SELECT p.oid
            FROM pg_proc AS p
            JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'x'
            JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'klaviyo_sync'
            WHERE p.proname = 'klaviyo_sync_' || gone AND d.refclassid = 'pg_extension'::regclass
              AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgfoid = p.oid)
        LOOP
            EXECUTE format('DROP FUNCTION %s', function);
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION klaviyo.forget_tables() IS 'Has mappings go with their tables';

CREATE EVENT TRIGGER klaviyo_sync_drop ON sql_drop
WHEN TAG IN ('DROP OWNED', 'DROP SCHEMA', 'DROP TABLE')
EXECUTE FUNCTION klaviyo.forget_tables();
COMMENT ON EVENT TRIGGER klaviyo_sync_drop IS 'Has mappings go with their tables';
