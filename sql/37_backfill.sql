-- Backfills: what stood in a table before it was mapped, sent as history.

CREATE TABLE klaviyo.captured_key (
    mapping integer NOT NULL,
    key     text NOT NULL,
    PRIMARY KEY (mapping, key)
);
COMMENT ON TABLE klaviyo.captured_key IS 'Rows that were captured when they were written and could be taken for such as stood there before, and those that a backfill with a "where" has sent: no backfill sends them. Kept until the mapping''s backfill is done, ten million at the most';
COMMENT ON COLUMN klaviyo.captured_key.mapping IS 'Mapping';
COMMENT ON COLUMN klaviyo.captured_key.key IS 'Primary key of the row, as a JSON array of texts';

CREATE TABLE klaviyo.backfill_run (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mapping      integer NOT NULL REFERENCES klaviyo.mapping ON DELETE CASCADE,
    spec         text,
    condition    text,
    again        boolean NOT NULL,
    state        text NOT NULL DEFAULT 'running',
    position     text[],
    rows_total   bigint,
    rows_done    bigint NOT NULL DEFAULT 0,
    rows_queued  bigint NOT NULL DEFAULT 0,
    rows_refused bigint NOT NULL DEFAULT 0,
    error        text,
    started_at   timestamptz NOT NULL DEFAULT now(),
    resumed_at   timestamptz NOT NULL DEFAULT now(),
    done_before  bigint NOT NULL DEFAULT 0,
    refused_before bigint NOT NULL DEFAULT 0,
    worked_at    timestamptz,
    ended_at     timestamptz,
    CONSTRAINT backfill_run_state_check CHECK (state IN ('running', 'paused', 'done', 'cancelled'))
);
CREATE UNIQUE INDEX backfill_run_open_idx ON klaviyo.backfill_run (mapping) WHERE ended_at IS NULL;
COMMENT ON TABLE klaviyo.backfill_run IS 'Backfills, as the process that does them keeps them; see the view backfill';
COMMENT ON COLUMN klaviyo.backfill_run.id IS 'Number';
COMMENT ON COLUMN klaviyo.backfill_run.mapping IS 'Mapping whose table''s rows are sent';
COMMENT ON COLUMN klaviyo.backfill_run.spec IS 'Which of them, as it was said';
COMMENT ON COLUMN klaviyo.backfill_run.condition IS 'What that comes to, as SQL over a row, with every name resolved';
COMMENT ON COLUMN klaviyo.backfill_run.again IS 'Whether rows are sent that may have been sent before';
COMMENT ON COLUMN klaviyo.backfill_run.state IS 'running, paused, done or cancelled';
COMMENT ON COLUMN klaviyo.backfill_run.position IS 'Primary key of the last row that was looked at, until it is done';
COMMENT ON COLUMN klaviyo.backfill_run.rows_total IS 'Rows to look at, as the planner estimated when it began';
COMMENT ON COLUMN klaviyo.backfill_run.rows_done IS 'Rows looked at';
COMMENT ON COLUMN klaviyo.backfill_run.rows_queued IS 'Those of them that were queued';
COMMENT ON COLUMN klaviyo.backfill_run.rows_refused IS 'Those of them that became dead letters';
COMMENT ON COLUMN klaviyo.backfill_run.error IS 'What is in its way, or why it was paused';
COMMENT ON COLUMN klaviyo.backfill_run.started_at IS 'When it was asked for';
COMMENT ON COLUMN klaviyo.backfill_run.resumed_at IS 'When it was asked for or last resumed';
COMMENT ON COLUMN klaviyo.backfill_run.done_before IS 'Rows looked at before that';
COMMENT ON COLUMN klaviyo.backfill_run.refused_before IS 'Rows refused before that';
COMMENT ON COLUMN klaviyo.backfill_run.worked_at IS 'When it last got on';
COMMENT ON COLUMN klaviyo.backfill_run.ended_at IS 'When it was done or cancelled';

-- With its mapping it comes to another cluster, and goes on there once that captures.
SELECT pg_catalog.pg_extension_config_dump('klaviyo.captured_key', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.backfill_run', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.backfill_run_id_seq', '');

CREATE VIEW klaviyo.backfill AS
SELECT r.id, s.relation, m.name, r.state, r.spec AS "where", r.again, r.rows_done, r.rows_queued, r.rows_refused,
       CASE r.state WHEN 'done' THEN 0 WHEN 'cancelled' THEN NULL ELSE greatest(r.rows_total - r.rows_done, 0) END AS rows_left,
       round(p.rate::numeric, 1) AS rows_per_second,
       CASE WHEN r.state = 'running' THEN
           date_trunc('second', make_interval(secs => greatest(r.rows_total - r.rows_done, 0) / nullif(p.rate, 0)))
       END AS time_left,
       r.started_at, r.ended_at, r.position AS last_key, r.error
FROM klaviyo.backfill_run AS r
JOIN klaviyo.mapping AS m ON m.id = r.mapping
LEFT JOIN klaviyo.sync AS s ON s.id = r.mapping
CROSS JOIN LATERAL (
    SELECT (r.rows_done - r.done_before)
           / nullif(extract(epoch FROM r.worked_at - r.resumed_at)::double precision, 0)
) AS p (rate);
COMMENT ON VIEW klaviyo.backfill IS 'Backfills: how far each has come, how fast it is, and what is in its way';
COMMENT ON COLUMN klaviyo.backfill.id IS 'Number';
COMMENT ON COLUMN klaviyo.backfill.relation IS 'Table';
COMMENT ON COLUMN klaviyo.backfill.name IS 'Mapping';
COMMENT ON COLUMN klaviyo.backfill.state IS 'running; paused, by klaviyo_backfill_pause() or by an error; done: all that was there is queued; cancelled';
COMMENT ON COLUMN klaviyo.backfill."where" IS 'Which rows, as it was said; NULL: all';
COMMENT ON COLUMN klaviyo.backfill.again IS 'Whether rows are sent that may have been sent before';
COMMENT ON COLUMN klaviyo.backfill.rows_done IS 'Rows looked at';
COMMENT ON COLUMN klaviyo.backfill.rows_queued IS 'Those of them that were queued: the rest are not to be sent, or were captured when they were written';
COMMENT ON COLUMN klaviyo.backfill.rows_refused IS 'Those of them that became dead letters';
COMMENT ON COLUMN klaviyo.backfill.rows_left IS 'Rows to look at still, by the planner''s estimate';
COMMENT ON COLUMN klaviyo.backfill.rows_per_second IS 'Rows looked at in a second, since it was asked for or last resumed';
COMMENT ON COLUMN klaviyo.backfill.time_left IS 'How long it takes still, if it gets on so';
COMMENT ON COLUMN klaviyo.backfill.started_at IS 'When it was asked for';
COMMENT ON COLUMN klaviyo.backfill.ended_at IS 'When it was done or cancelled';
COMMENT ON COLUMN klaviyo.backfill.last_key IS 'Primary key of the last row that was looked at: rows are taken in its order';
COMMENT ON COLUMN klaviyo.backfill.error IS 'What is in its way, or why it was paused';

CREATE FUNCTION @extschema@.klaviyo_backfill(
    relation regclass,
    "where"  text DEFAULT NULL,
    name     text DEFAULT NULL,
    again    boolean DEFAULT false
) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_backfill';
COMMENT ON FUNCTION @extschema@.klaviyo_backfill(regclass, text, text, boolean) IS
    'Has the rows be sent as history that stood in a table when its mapping of that name, or each of them, was made; only those for which "where" is true, an SQL expression over the row. It is done in the background, in the order of the primary key: see klaviyo.backfill. Events start no flow and keep their own time; what they say of the person besides is left out. Messages of any other kind go first. What was captured when it was written, or sent by an earlier backfill, is not sent, unless again: then events must have a unique_id of their own, and each goes in a call of its own. Returns how many were begun';

CREATE FUNCTION @extschema@.klaviyo_backfill_pause(relation regclass, name text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_backfill_pause';
COMMENT ON FUNCTION @extschema@.klaviyo_backfill_pause(regclass, text) IS
    'Has the backfill of a table''s mapping of that name, or all, queue no more rows. What is queued is sent. Returns how many';

CREATE FUNCTION @extschema@.klaviyo_backfill_resume(relation regclass, name text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_backfill_resume';
COMMENT ON FUNCTION @extschema@.klaviyo_backfill_resume(regclass, text) IS
    'Has the backfill of a table''s mapping of that name, or all, go on where it was paused. Returns how many';

CREATE FUNCTION @extschema@.klaviyo_backfill_cancel(relation regclass, name text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_backfill_cancel';
COMMENT ON FUNCTION @extschema@.klaviyo_backfill_cancel(regclass, text) IS
    'Ends the backfill of a table''s mapping of that name, or all. What is queued is sent; another backfill goes on with the rest. Returns how many';

-- What triggers ask and tell ------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.notes_keys(mapping integer) RETURNS boolean
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_notes_keys';
COMMENT ON FUNCTION klaviyo.notes_keys(integer) IS
    'Whether rows that are captured are noted where they could be taken for such as stood there before: until the mapping''s backfill is done';

CREATE FUNCTION klaviyo.note_keys(mapping integer, keys text[]) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_note_keys';
COMMENT ON FUNCTION klaviyo.note_keys(integer, text[]) IS 'Notes rows that were captured, by their primary keys, so that no backfill sends them';

-- What the process that does them calls -------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.backfill_event(
    metric text, email text, properties jsonb, value numeric, value_currency text, unique_id text, event_time timestamptz,
    phone_number text, external_id text, profile jsonb, account text, again boolean
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_backfill_event';
COMMENT ON FUNCTION klaviyo.backfill_event(text, text, jsonb, numeric, text, text, timestamptz, text, text, jsonb, text, boolean) IS
    'As klaviyo_track_event(), of history. Returns its seq; NULL where it became a dead letter';

CREATE FUNCTION klaviyo.backfill_changes(new jsonb, old jsonb, account text, again boolean) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_backfill_changes';
COMMENT ON FUNCTION klaviyo.backfill_changes(jsonb, jsonb, text, boolean) IS
    'As klaviyo_upsert_changes(), of history. Returns its seq; NULL where it became a dead letter';
