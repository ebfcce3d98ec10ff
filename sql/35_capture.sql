-- Capture: triggers made from what a person says of a table's columns. Triggers and their functions are the table's
-- owner's, and no members of the extension: dumps carry them with the table.

CREATE TABLE klaviyo.mapping (
    id      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind    text NOT NULL,
    name    text NOT NULL,
    account text NOT NULL,
    spec    jsonb NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE klaviyo.mapping IS 'What was said of tables whose rows are sent; see the view sync, which knows the tables';
COMMENT ON COLUMN klaviyo.mapping.id IS 'Number; its trigger and its function are called klaviyo_sync_ and this';
COMMENT ON COLUMN klaviyo.mapping.kind IS 'Kind of message that is queued: event';
COMMENT ON COLUMN klaviyo.mapping.name IS 'Name, by which a table''s mappings are told apart; an event''s metric if nothing else was said';
COMMENT ON COLUMN klaviyo.mapping.account IS 'Account that the messages go to';
COMMENT ON COLUMN klaviyo.mapping.spec IS 'What was said of the columns, argument by argument';
COMMENT ON COLUMN klaviyo.mapping.made_at IS 'When it was attached';

SELECT pg_catalog.pg_extension_config_dump('klaviyo.mapping', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.mapping_id_seq', '');

-- Found by its trigger: that goes with a table that is dropped, stays with one that is renamed, and comes with one that is
-- restored.
CREATE VIEW klaviyo.sync AS
SELECT m.id, t.tgrelid::regclass AS relation, m.name, m.kind, m.account, t.tgenabled <> 'D' AS enabled, m.spec, m.made_at
FROM klaviyo.mapping AS m
JOIN pg_trigger AS t ON t.tgname = 'klaviyo_sync_' || m.id AND NOT t.tgisinternal;
COMMENT ON VIEW klaviyo.sync IS 'What is attached to which table; see klaviyo_sync_show() for the triggers themselves';
COMMENT ON COLUMN klaviyo.sync.id IS 'Number; its trigger and its function are called klaviyo_sync_ and this';
COMMENT ON COLUMN klaviyo.sync.relation IS 'Table';
COMMENT ON COLUMN klaviyo.sync.name IS 'Name, by which a table''s mappings are told apart';
COMMENT ON COLUMN klaviyo.sync.kind IS 'Kind of message that is queued: event';
COMMENT ON COLUMN klaviyo.sync.account IS 'Account that the messages go to';
COMMENT ON COLUMN klaviyo.sync.enabled IS 'Whether its trigger is; ALTER TABLE … DISABLE TRIGGER switches it off';
COMMENT ON COLUMN klaviyo.sync.spec IS 'What was said of the columns, argument by argument';
COMMENT ON COLUMN klaviyo.sync.made_at IS 'When it was attached';

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
    name           text DEFAULT NULL,
    account        text DEFAULT NULL
) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_events';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_events(regclass, text, text, text, text, text, text, text, text, jsonb, jsonb, text, text, text) IS
    'Has each row that is inserted into a table queue an event, by a trigger that klaviyo_sync_show() shows. Other arguments than metric, name and account name a column or are an SQL expression over the row, a look-up in another table included: (SELECT u.email FROM users AS u WHERE u.id = row.user_id). properties and profile are a list of columns ("*": all, "-name": not that one), a map of names to expressions, or one expression. Only rows for which "when" is true are sent. Whoever calls must have the rights of the table''s owner, who must be a klaviyo_writer. Returns the number of the mapping';

CREATE FUNCTION @extschema@.klaviyo_sync_detach(relation regclass, name text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_detach';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_detach(regclass, text) IS
    'Takes a table''s mapping of that name away, or all, trigger and function included. What was queued stays so. Returns how many';

CREATE FUNCTION @extschema@.klaviyo_sync_show(relation regclass, name text DEFAULT NULL) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(rtrim(pg_get_functiondef(t.tgfoid), E'\n') || E';\n\n' || pg_get_triggerdef(t.oid) || ';', E'\n\n' ORDER BY s.id)
    FROM klaviyo.sync AS s
    JOIN pg_trigger AS t ON t.tgrelid = s.relation AND t.tgname = 'klaviyo_sync_' || s.id
    WHERE s.relation = klaviyo_sync_show.relation
      AND (klaviyo_sync_show.name IS NULL OR s.name = klaviyo_sync_show.name)
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_sync_show(regclass, text) IS
    'The SQL of a table''s mapping of that name, or of all: what runs when a row is written. NULL where there is none';
