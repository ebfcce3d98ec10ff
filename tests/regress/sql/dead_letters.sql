-- Guards: klaviyo_redrive() and klaviyo_discard(): which dead letters they take, which stay, and where those go.
CREATE EXTENSION klaviyo_sync;
\pset format unaligned
\pset tuples_only on
\pset null NULL
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
SET client_min_messages = warning;
SELECT klaviyo_set_account(), klaviyo_set_account('other');
RESET client_min_messages;

-- Numbers 1 to 6 were sent; 7 and 8 were refused when they were queued; 5 and 6 are superseded by 9.
CREATE FUNCTION id(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid $$;
CREATE PROCEDURE bury() LANGUAGE sql AS $$
    -- (TRUNCATE would wait for the worker, and the worker for it.)
    DELETE FROM klaviyo.retry; DELETE FROM klaviyo.dead_letter; DELETE FROM klaviyo.superseded;
    INSERT INTO klaviyo.dead_letter (message_id, seq, account, kind, key, payload, code, reason, http_status, klaviyo_error_id, attempts, enqueued_at, died_at)
    SELECT id(n), CASE WHEN n < 7 THEN n END, account, kind, CASE WHEN n < 7 THEN ARRAY['email:u' || n || '@shop.example'] ELSE '{}' END, json_build_object('n', n),
           code, 'reason ' || n, CASE WHEN n < 7 THEN 400 END, CASE WHEN n < 7 THEN 'e-' || n END, CASE WHEN n < 7 THEN n ELSE 0 END, '2026-03-01 12:00+00', '2026-03-01 12:01+00'
      FROM (VALUES (1, 'default', 'event', 'invalid'), (2, 'default', 'profile', 'invalid'), (3, 'other', 'event', 'invalid'), (4, 'default', 'event', 'gone'),
                   (5, 'default', 'profile', 'invalid'), (6, 'other', 'profile', 'invalid'), (7, 'default', 'event', 'invalid_email'), (8, 'default', 'profile', 'invalid_email')) AS v (n, account, kind, code);
    INSERT INTO klaviyo.superseded SELECT id(n), 9 FROM generate_series(5, 6) AS n;
$$;
CREATE VIEW places AS
SELECT string_agg((d.payload ->> 'n'), ' ' ORDER BY d.message_id) AS dead, (SELECT string_agg(r.payload ->> 'n', ' ' ORDER BY r.seq) FROM klaviyo.retry r) AS retry,
       (SELECT count(*) FROM klaviyo.superseded) AS superseded
  FROM klaviyo.dead_letter d;

-- All of them at once by accident: no.
CALL bury();
SELECT try('SELECT klaviyo_redrive()');
SELECT try('SELECT klaviyo_discard()');
SELECT try('SELECT klaviyo_redrive(NULL, NULL, NULL, NULL)');
TABLE places;

-- One.
SELECT klaviyo_redrive(id(1));
TABLE places;
-- It keeps its number and what is known of it, and starts with no strikes.
SELECT seq, message_id = id(1), account, kind, key, payload, enqueued_at = '2026-03-01 12:00+00', attempts, strikes, not_before <= now(), last_attempt_at, last_status, last_code, last_error, redriven_at >= not_before
  FROM klaviyo.retry;
SELECT status, attempts, code FROM klaviyo_result(id(1));
-- Not again, and not what is not there.
SELECT klaviyo_redrive(id(1)), klaviyo_redrive(id(99)), klaviyo_discard(id(1)), klaviyo_discard(id(99));
TABLE places;

-- By code, kind and account, each alone and together. What was refused when it was queued stays, and so does what is superseded.
CALL bury();
SELECT klaviyo_redrive(code => 'gone');
TABLE places;
CALL bury();
SELECT klaviyo_redrive(kind => 'event');
TABLE places;
CALL bury();
SELECT klaviyo_redrive(kind => 'profile');
TABLE places;
CALL bury();
SELECT klaviyo_redrive(account => 'other');
TABLE places;
CALL bury();
SELECT klaviyo_redrive(account => 'default', kind => 'event', code => 'invalid');
TABLE places;
CALL bury();
SELECT klaviyo_redrive(id(1), kind => 'profile'), klaviyo_redrive(code => 'none'), klaviyo_redrive(account => ''), klaviyo_redrive(kind => 'Event');
TABLE places;
SELECT klaviyo_redrive(id(5));
SELECT klaviyo_redrive(id(7));
TABLE places;

-- Discard takes any, with its mark.
CALL bury();
SELECT klaviyo_discard(id(5));
TABLE places;
SELECT klaviyo_discard(code => 'invalid_email');
TABLE places;
SELECT klaviyo_discard(kind => 'profile', account => 'other');
TABLE places;
SELECT klaviyo_discard(account => 'default');
TABLE places;
SELECT status, hint FROM klaviyo_result(id(5));

-- Rolled back, nothing has happened.
CALL bury();
BEGIN;
SELECT klaviyo_redrive(kind => 'event') > 0, klaviyo_discard(kind => 'profile') > 0;
ROLLBACK;
TABLE places;
