-- Guards: klaviyo_result() tells where a message is and what to do; klaviyo_await() is bounded, and says at once when waiting is in vain.
CREATE EXTENSION klaviyo_sync;
\pset format unaligned
\pset tuples_only on
\pset null NULL
\set SHOW_CONTEXT never
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN 'returned';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    -- The message's id is another each time.
    RETURN regexp_replace(concat_ws(E'\n', state || ': ' || message, '  DETAIL: ' || nullif(detail, ''), '  HINT: ' || nullif(hint, '')), '[0-9a-f]{8}-[0-9a-f-]{27}', '<message_id>');
END
$$;
SET client_min_messages = warning;
SELECT klaviyo_set_account();
RESET client_min_messages;

-- Unknown: always one row.
SELECT * FROM klaviyo_result('00000000-0000-0000-0000-000000000000');
SELECT status FROM klaviyo_result(NULL);

-- Waiting: kind, account, no attempts, and why.
SELECT klaviyo_track_event('Placed Order', 'ada@shop.example') AS id \gset
SELECT status, kind, account, http_status, attempts, klaviyo_id, code, reason, klaviyo_error_id, enqueued_at IS NOT NULL AS enqueued, settled_at, hint, message_id = :'id' FROM klaviyo_result(:'id');
SELECT (klaviyo_result(:'id')).status;

-- While it can still be rolled back, that is what is told.
BEGIN;
SELECT klaviyo_upsert_profile('ada@shop.example') AS own \gset
SELECT status, kind FROM klaviyo_result(:'own');
ROLLBACK;
SELECT status FROM klaviyo_result(:'own');

-- Retrying, accepted, dead.
INSERT INTO klaviyo.retry (seq, message_id, account, kind, key, payload, enqueued_at, attempts, strikes, not_before, last_attempt_at, last_status, last_code, last_error)
VALUES (1001, '00000000-0000-0000-0000-000000001001', 'default', 'event', '{email:ada@shop.example}', '{}', now(), 3, 1, now(), now(), 503, 'unavailable', 'Klaviyo answers 503');
INSERT INTO klaviyo.delivery (message_id, seq, account, kind, key, http_status, attempts, klaviyo_id, enqueued_at, sent_at, settled_at)
VALUES ('00000000-0000-0000-0000-000000001002', 1002, 'default', 'profile', '{email:ada@shop.example}', 200, 2, '01GDDKASAP8TKDDA2GRZDSVP4H', now(), now(), now());
INSERT INTO klaviyo.dead_letter (message_id, seq, account, kind, key, payload, code, reason, http_status, klaviyo_error_id, attempts, enqueued_at, died_at)
VALUES ('00000000-0000-0000-0000-000000001003', 1003, 'default', 'event', '{email:ada@shop.example}', '{}', 'invalid', 'Klaviyo says no', 400, 'e-1', 1, now(), now());
SELECT status, kind, account, http_status, attempts, klaviyo_id, code, reason, klaviyo_error_id, settled_at IS NOT NULL AS settled, hint
  FROM generate_series(1001, 1003) AS i, klaviyo_result(('00000000-0000-0000-0000-00000000' || i)::uuid)
 ORDER BY i;

-- One that is superseded is not to be sent again, so the hint must not say that it can be.
INSERT INTO klaviyo.dead_letter (message_id, seq, account, kind, key, payload, code, reason, http_status, attempts, enqueued_at, died_at)
VALUES ('00000000-0000-0000-0000-000000001004', 1004, 'default', 'profile', '{email:ada@shop.example}', '{}', 'invalid', 'Klaviyo says no', 400, 1, now(), now());
INSERT INTO klaviyo.superseded VALUES ('00000000-0000-0000-0000-000000001004', 1005);
SELECT hint LIKE '%klaviyo_redrive() sends it again%' AS misleading FROM klaviyo_result('00000000-0000-0000-0000-000000001004');

-- klaviyo_await: what is settled or unknown is told at once, what waits when the time is up.
CREATE FUNCTION awaited(id uuid, timeout interval) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp(); r klaviyo.result; took interval;
    -- Of the time it may take, or else of the default.
    half interval := CASE WHEN timeout > '0' THEN timeout ELSE '10 s' END / 2;
BEGIN
    r := klaviyo_await(id, timeout);
    took := clock_timestamp() - began;
    RETURN r.status || CASE WHEN took < half THEN ' at once' WHEN took >= timeout AND took < timeout + interval '1 minute' THEN ' in time' ELSE ' after ' || took END;
END
$$;
SELECT awaited('00000000-0000-0000-0000-000000000000', '1 minute');
SELECT awaited('00000000-0000-0000-0000-000000001002', '1 minute');
SELECT awaited('00000000-0000-0000-0000-000000001003', '1 minute');
SELECT awaited(:'id', '0');
SELECT awaited(:'id', '-1 day');
SELECT awaited(:'id', '300 ms');
SELECT awaited('00000000-0000-0000-0000-000000001001', '300 ms');
SELECT status, hint FROM klaviyo_await(:'id', '0');
SELECT status FROM klaviyo_await(NULL);
-- NULL is absent: the ten seconds of the default, which a statement timeout ends here.
SET statement_timeout = '500ms';
SELECT status FROM klaviyo_await(:'id', NULL);
SELECT status FROM klaviyo_await(:'id');
RESET statement_timeout;

-- In the transaction that queued it, waiting would never end, however it was queued.
BEGIN;
SELECT klaviyo_track_event('A', 'ada@shop.example') AS own \gset
SELECT try(format('SELECT klaviyo_await(%L)', :'own'));
SAVEPOINT a;
SELECT klaviyo_track_event('B', 'ada@shop.example') AS inner \gset
SELECT try(format('SELECT klaviyo_await(%L)', :'inner'));
RELEASE a;
SELECT try(format('SELECT klaviyo_await(%L)', :'inner'));
SAVEPOINT b;
SELECT klaviyo_track_event('C', 'ada@shop.example') AS undone \gset
ROLLBACK TO b;
-- One that is rolled back is unknown, and one of another transaction is none of these.
SELECT awaited(:'undone', '1 minute');
SELECT awaited(:'id', '0');
COMMIT;
SELECT awaited(:'inner', '0');
-- In one statement.
SELECT try($$SELECT klaviyo_await(klaviyo_track_event('A', 'ada@shop.example'))$$);
-- One that was refused when it was queued has its answer in the same transaction.
BEGIN;
SET LOCAL klaviyo.on_invalid = dead_letter;
SELECT klaviyo_track_event('A', 'ada') AS refused \gset
SELECT awaited(:'refused', '1 minute');
COMMIT;

-- Where the answer cannot be seen.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT try(format('SELECT klaviyo_await(%L)', :'id'));
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT try(format('SELECT klaviyo_await(%L)', :'id'));
-- Asking is no waiting.
SELECT status FROM klaviyo_result(:'id');
ROLLBACK;
BEGIN ISOLATION LEVEL READ UNCOMMITTED;
SELECT awaited(:'id', '0');
ROLLBACK;
BEGIN READ ONLY;
SELECT awaited(:'id', '0');
ROLLBACK;

-- Why a message waits, and what to do. With delivery on there must be a worker to hold anything up.
ALTER SYSTEM SET klaviyo.enabled = on;
SELECT pg_reload_conf();
DO $$
BEGIN
    FOR i IN 1 .. 1000 LOOP
        EXIT WHEN klaviyo.worker_pid() > 0 AND current_setting('klaviyo.enabled') = 'on';
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SELECT klaviyo.worker_pid() > 0 AS worker, current_setting('klaviyo.enabled') AS enabled;
\connect
SELECT status, hint FROM klaviyo_result(:'id');
BEGIN;
DELETE FROM klaviyo.account;
SELECT status, hint FROM klaviyo_result(:'id');
ROLLBACK;
ALTER SYSTEM RESET klaviyo.enabled;
SELECT pg_reload_conf();
DO $$
BEGIN
    FOR i IN 1 .. 1000 LOOP
        EXIT WHEN current_setting('klaviyo.enabled') = 'off';
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SHOW klaviyo.enabled;
