-- Guards: klaviyo_pause_account(), klaviyo_resume_account(), klaviyo_remove_account(): what they change, refuse and leave.
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
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state || ': ' || message, '  DETAIL: ' || nullif(detail, ''), '  HINT: ' || nullif(hint, ''));
END
$$;
-- The worker puts messages aside, as soon as the transactions of the moment have ended.
CREATE PROCEDURE wait_for_the_worker() LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1..6000 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM klaviyo.removed_account);
        PERFORM pg_sleep(0.01);
        COMMIT;
    END LOOP;
END
$$;
SET client_min_messages = warning;
SELECT klaviyo_set_account(private_key => 'pk_secret'), klaviyo_set_account('other', private_key => 'pk_other');

-- Paused and resumed; the first pause's time stays, the last reason counts.
SELECT klaviyo_pause_account();
SELECT name, paused_at <= now() AS paused, paused_reason FROM klaviyo.account ORDER BY name;
SELECT klaviyo_pause_account('default', reason => 'campaign goes out by hand');
SELECT paused_at < changed_at, paused_reason FROM klaviyo.account WHERE name = 'default';
SELECT klaviyo_resume_account();
SELECT klaviyo_resume_account('default');
SELECT paused_at, paused_reason FROM klaviyo.account WHERE name = 'default';
SELECT try($$SELECT klaviyo_pause_account('nowhere')$$);
SELECT try($$SELECT klaviyo_resume_account('nowhere')$$);

-- Queueing for a paused account works: its messages wait.
SELECT klaviyo_pause_account('other');
SELECT klaviyo_track_event('A', 'ada@shop.example', account => 'other') IS NOT NULL;

-- Removed only when nothing waits, neither untried nor tried. What was refused has changed nothing.
SELECT try($$SELECT klaviyo_remove_account('other')$$);
WITH moved AS (DELETE FROM klaviyo.outbox RETURNING *)
INSERT INTO klaviyo.retry (seq, message_id, account, kind, key, payload, enqueued_at, attempts, strikes, not_before, last_status, last_error_id)
SELECT seq, message_id, account, kind, key, payload, enqueued_at, 3, 0, 'infinity', 503, 'e-1' FROM moved;
SELECT try($$SELECT klaviyo_remove_account('other', bury_waiting => NULL)$$);
SELECT klaviyo_track_event('B', 'bob@shop.example', account => 'other') IS NOT NULL, klaviyo_track_event('C', 'eve@shop.example') IS NOT NULL;
SELECT a.name, k.private_key IS NOT NULL FROM klaviyo.account a LEFT JOIN klaviyo.account_key k ON k.account = a.name ORDER BY a.name;

-- Told to, it makes dead letters of what waits; other accounts are left alone.
INSERT INTO klaviyo.account_status VALUES ('other', now(), 'paused') ON CONFLICT DO NOTHING;
SELECT klaviyo_remove_account('other', bury_waiting => true);
CALL wait_for_the_worker();
SELECT name FROM klaviyo.account;
SELECT account FROM klaviyo.account_key;
SELECT count(*) FROM klaviyo.account_status WHERE account = 'other';
SELECT account, kind, length(payload::text) > 50 AS payload, seq > 0 AS seq, code, reason, http_status, klaviyo_error_id, attempts FROM klaviyo.dead_letter ORDER BY seq;
SELECT account, count(*) FROM klaviyo.outbox GROUP BY account;
SELECT try($$SELECT klaviyo_track_event('D', 'ada@shop.example', account => 'other')$$);
-- Its dead letters stay, and are not sent to nowhere.
RESET client_min_messages;
SELECT klaviyo_redrive(account => 'other');
SET client_min_messages = warning;
SELECT count(*) FROM klaviyo.dead_letter WHERE account = 'other';
SELECT klaviyo_set_account('other'), klaviyo_redrive(account => 'other');
SELECT count(*) FROM klaviyo.retry WHERE account = 'other';
SELECT klaviyo_remove_account('other', true);
CALL wait_for_the_worker();

-- Another account of the same name, added at once, keeps its own messages.
SELECT klaviyo_set_account('again'), klaviyo_track_event('Old', 'ada@shop.example', account => 'again') IS NOT NULL;
BEGIN;
SELECT klaviyo_remove_account('again', true);
SELECT klaviyo_set_account('again'), klaviyo_track_event('New', 'ada@shop.example', account => 'again') IS NOT NULL;
COMMIT;
CALL wait_for_the_worker();
SELECT payload #>> '{event,metric,data,attributes,name}' AS waits FROM klaviyo.outbox WHERE account = 'again';
SELECT payload #>> '{event,metric,data,attributes,name}' AS dead FROM klaviyo.dead_letter WHERE account = 'again';

-- A message that was committed after its account was removed is buried by another call.
INSERT INTO klaviyo.outbox (message_id, account, kind, key, payload, enqueued_at) VALUES (gen_random_uuid(), 'other', 'event', '{email:a@b.c}', '{}', now());
SELECT klaviyo_remove_account('other', bury_waiting => true);
CALL wait_for_the_worker();
SELECT try($$SELECT klaviyo_remove_account('other', bury_waiting => true)$$);
SELECT try($$SELECT klaviyo_remove_account('nowhere')$$);
-- Here NULL is not the account "default".
SELECT try('SELECT klaviyo_remove_account(NULL, true)');
SELECT name FROM klaviyo.account;
