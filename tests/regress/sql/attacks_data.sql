-- Guards: whoever has no right to it fills no outbox, forges no result, changes none of our objects, and reads neither payload nor key, on whatever way round the tables' rights. (Tables, columns and functions one by one: rights.sql.)
CREATE EXTENSION klaviyo_sync;
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
CREATE FUNCTION state(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
-- What a role meets that tries them all: SQLSTATEs, since the words differ between majors.
CREATE TABLE attempt (number int GENERATED ALWAYS AS IDENTITY, statement text);
GRANT SELECT ON attempt TO PUBLIC;
CREATE FUNCTION outcomes() RETURNS TABLE (sqlstate text, statement text) LANGUAGE sql AS $$
    SELECT split_part(state(a.statement), ' ', 1), a.statement FROM attempt a ORDER BY a.number
$$;
CREATE ROLE attacks_stranger;
CREATE ROLE attacks_admin IN ROLE klaviyo_admin;
CREATE ROLE attacks_read_all IN ROLE pg_read_all_data;
GRANT CREATE ON SCHEMA public TO attacks_stranger, attacks_admin, attacks_read_all;
SET client_min_messages = warning;
SELECT klaviyo_set_account(private_key => 'pk_secret');
SELECT klaviyo_track_event('Secret', 'ada@shop.example', '{"size": "XS"}') AS id \gset
INSERT INTO klaviyo.outbox (message_id, account, kind, key, payload, enqueued_at) SELECT message_id, account, kind, key, payload, enqueued_at FROM klaviyo.outbox, generate_series(1, 20);
ANALYZE klaviyo.outbox, klaviyo.account_key;
-- The statistics of these tables hold what is to be kept.
SELECT count(*) FROM pg_stats WHERE schemaname = 'klaviyo' AND tablename = 'outbox' AND most_common_vals::text LIKE '%ada@shop.example%';

-- Filling the outbox, past its functions and its table.
SET ROLE attacks_stranger;
\copy klaviyo.outbox (message_id, account, kind, key, payload, enqueued_at) FROM '/dev/null'
\copy klaviyo.dead_letter FROM '/dev/null'
SELECT state($$SELECT nextval('klaviyo.outbox_seq_seq')$$), state(format('SELECT nextval(%s)', (SELECT oid FROM pg_class WHERE relname = 'outbox_seq_seq')));
-- (EXECUTE on what does it cannot be had under another name either.)
SELECT state($$CREATE FUNCTION queue(metric text, email text, properties jsonb, value numeric, value_currency text, unique_id text, event_time timestamptz, phone_number text, external_id text, profile jsonb, account text) RETURNS uuid LANGUAGE c SECURITY DEFINER AS '$libdir/klaviyo_sync', 'klaviyo_track_event'$$);
RESET ROLE;

-- Forging what became of a message, and changing what is ours: not even an administrator.
INSERT INTO attempt (statement) VALUES
    ('INSERT INTO klaviyo.delivery SELECT message_id, seq, account, kind, key, 202, 1, NULL, NULL, enqueued_at, now(), now() FROM klaviyo.outbox'),
    ('WITH gone AS (DELETE FROM klaviyo.outbox RETURNING *) SELECT count(*) FROM gone'),
    ('UPDATE klaviyo.account_status SET stopped_at = NULL'),
    ('ALTER TABLE klaviyo.delivery ADD forged boolean'),
    ('ALTER TABLE klaviyo.account ALTER base_url SET DEFAULT ''https://evil.com'''),
    ('ALTER TABLE klaviyo.account_key DISABLE ROW LEVEL SECURITY'),
    ('ALTER TABLE klaviyo.account DISABLE TRIGGER guard'),
    ('DROP TRIGGER guard ON klaviyo.account'),
    ('CREATE TRIGGER mine BEFORE INSERT ON klaviyo.outbox FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()'),
    ('CREATE RULE mine AS ON INSERT TO klaviyo.outbox DO ALSO NOTIFY mine'),
    ('CREATE POLICY mine ON klaviyo.account_key USING (true)'),
    ('CREATE INDEX ON klaviyo.outbox ((payload::text))'),
    ('CREATE STATISTICS mine ON account, kind FROM klaviyo.outbox'),
    ('CREATE OR REPLACE FUNCTION klaviyo_result(message_id uuid) RETURNS klaviyo.result LANGUAGE sql AS ''SELECT NULL'''),
    ('ALTER FUNCTION klaviyo_result RESET search_path'),
    ('ALTER FUNCTION klaviyo.guard_account SECURITY DEFINER'),
    ('DROP FUNCTION klaviyo.guard_account CASCADE'),
    ('ALTER SCHEMA klaviyo RENAME TO theirs'),
    ('ALTER EXTENSION klaviyo_sync DROP TABLE klaviyo.account_key'),
    ('DROP EXTENSION klaviyo_sync CASCADE'),
    ('GRANT SELECT ON klaviyo.account_key TO PUBLIC'),
    ('GRANT klaviyo_admin TO attacks_stranger'),
    ('COMMENT ON TABLE klaviyo.account IS ''mine''');
SET ROLE attacks_admin;
SELECT * FROM outcomes();
SET klaviyo.enabled = on;
\set VERBOSITY sqlstate
ALTER SYSTEM SET klaviyo.instance = 'mine';
\set VERBOSITY default
SET ROLE attacks_stranger;
SELECT sqlstate, count(*) FROM outcomes() GROUP BY sqlstate;
RESET ROLE;
TRUNCATE attempt;

-- Reading what is to be kept: keys from everybody, payloads from all but readers.
INSERT INTO attempt (statement) VALUES
    ('EXPLAIN SELECT * FROM klaviyo.account_key'),
    ('SELECT k FROM klaviyo.account_key AS k'),
    ('SELECT to_json(k) FROM klaviyo.account_key AS k'),
    ('SELECT count(*) FROM klaviyo.account_key'),
    ('SELECT account FROM klaviyo.account_key'),
    ('SELECT ctid FROM klaviyo.account_key'),
    ('SELECT FROM klaviyo.account AS a JOIN klaviyo.account_key AS k ON k.account = a.name AND k.private_key LIKE ''p%'''),
    ('DELETE FROM klaviyo.account_key WHERE private_key LIKE ''p%'''),
    ('INSERT INTO klaviyo.account_key VALUES (''default'', ''pk'') ON CONFLICT (account) DO UPDATE SET private_key = account_key.private_key RETURNING private_key'),
    ('CREATE TABLE heir (a int) INHERITS (klaviyo.account_key)'),
    ('CREATE TABLE pointer (account text REFERENCES klaviyo.account_key)'),
    ('LOCK TABLE klaviyo.account_key'),
    ('SELECT * FROM pg_statistic'),
    ('SELECT rolpassword FROM pg_authid'),
    ('SELECT pg_read_file(''postgresql.conf'')'),
    ('SELECT klaviyo_result(message_id) FROM klaviyo.outbox'),
    ('SELECT payload FROM klaviyo.outbox');
SET ROLE attacks_stranger;
SELECT sqlstate, count(*) FROM outcomes() GROUP BY sqlstate;
-- What is asked of a function that may not be called tells nothing of whether there is such a message.
SELECT state(format('SELECT klaviyo_result(%L)', :'id')) = state('SELECT klaviyo_result(gen_random_uuid())');
SET ROLE attacks_admin;
SELECT * FROM outcomes();
COPY klaviyo.account_key TO stdout;
COPY (SELECT private_key FROM klaviyo.account_key) TO stdout;
-- A view of one's own reads with one's own rights.
CREATE VIEW keys AS SELECT k.* FROM klaviyo.account_key AS k;
SELECT state('TABLE keys');
-- Nor do errors tell of what is there: that a key is stored anew tells nothing of the one before.
SELECT state($$SELECT klaviyo.store_key('default', 'pk other')$$);
SELECT state($$SELECT klaviyo.store_key('nowhere', 'pk_other')$$);
RESET ROLE;

-- Statistics show values to those who may read the column. No statistics of keys to anybody but the owner.
SET ROLE attacks_stranger;
SELECT count(*) FROM pg_stats WHERE schemaname = 'klaviyo';
SET ROLE attacks_admin;
SELECT count(*) > 0 FROM pg_stats WHERE schemaname = 'klaviyo' AND tablename = 'outbox';
SELECT count(*) FROM pg_stats WHERE schemaname = 'klaviyo' AND tablename = 'account_key';

-- Who may read all data reads messages, and no key.
SET ROLE attacks_read_all;
SELECT count(*) FROM klaviyo.outbox;
SELECT count(*) FROM klaviyo.account_key;
SELECT count(*) FROM pg_stats WHERE schemaname = 'klaviyo' AND tablename = 'account_key';
RESET ROLE;

-- What other sessions are at is told to nobody; and what the worker says it is at has no key in it.
SET ROLE attacks_stranger;
SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pk\_%';
RESET ROLE;
SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pk\_%' AND pid <> pg_backend_pid();

-- Nothing has changed.
SELECT private_key FROM klaviyo.account_key;
SELECT count(*), (SELECT count(*) FROM klaviyo.delivery) + (SELECT count(*) FROM klaviyo.dead_letter) FROM klaviyo.outbox;
DROP OWNED BY attacks_stranger, attacks_admin, attacks_read_all;
DROP ROLE attacks_stranger, attacks_admin, attacks_read_all;
