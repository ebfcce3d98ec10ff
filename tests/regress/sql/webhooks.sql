-- Webhooks: what is taken, and what is refused.
SET client_min_messages = error;
CREATE EXTENSION klaviyo_sync;
SELECT klaviyo_set_account();
SELECT klaviyo_set_account('other');
RESET client_min_messages;

-- HMAC-SHA256 (RFC 2104), as nothing in here has it.
CREATE FUNCTION sign(body text, sent text, secret text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    key   bytea := convert_to(secret, 'UTF8');
    inner_pad bytea := ''; outer_pad bytea := '';
BEGIN
    IF octet_length(key) > 64 THEN
        key := sha256(key);
    END IF;
    FOR i IN 0..63 LOOP
        inner_pad := inner_pad || set_byte('\x00', 0, CASE WHEN i < octet_length(key) THEN get_byte(key, i) ELSE 0 END # 54);
        outer_pad := outer_pad || set_byte('\x00', 0, CASE WHEN i < octet_length(key) THEN get_byte(key, i) ELSE 0 END # 92);
    END LOOP;
    RETURN encode(sha256(outer_pad || sha256(inner_pad || convert_to(body || sent, 'UTF8'))), 'hex');
END
$$;
CREATE FUNCTION body(webhook text, VARIADIC ids text[]) RETURNS text LANGUAGE sql AS $$
    SELECT jsonb_build_object(
        'data', jsonb_agg(jsonb_build_object(
            'external_id', id, 'topic', 'event:klaviyo.opened_email',
            'payload', jsonb_build_object('data', jsonb_build_object(
                'attributes', jsonb_build_object('email', id || '@b.example'),
                'relationships', '{"profile": {"data": {"type": "profile", "id": "01P"}}}'::jsonb)))),
        'meta', jsonb_build_object('klaviyo_account_id', 'A', 'klaviyo_webhook_id', webhook))::text
    FROM unnest(ids) AS id
$$;
-- A request of now, unless it is of another time.
CREATE FUNCTION receive(webhook text, body text, secret text, account text DEFAULT NULL, sent text DEFAULT now()::text, sign_as text DEFAULT NULL)
RETURNS integer LANGUAGE sql AS $$
    SELECT klaviyo_receive_webhook(
        jsonb_build_object('Klaviyo-Webhook-Id', webhook, 'KLAVIYO-TIMESTAMP', sent,
                           'klaviyo-signature', coalesce(sign_as, sign(body, sent, secret)), 'content-type', 'application/json'),
        convert_to(body, 'UTF8'), account)
$$;
SET timezone = 'UTC';
SET datestyle = 'ISO';

-- Which there are.
SELECT klaviyo_set_webhook('01W', 'a secret of 16 b');
SET client_min_messages = error;
SELECT klaviyo_set_webhook(NULL, 'a secret of 16 b');
SELECT klaviyo_set_webhook('a webhook', 'a secret of 16 b');
SELECT klaviyo_set_webhook('01W', 'too short');
SELECT klaviyo_set_webhook('01W', NULL);
SELECT klaviyo_set_webhook('01W', 'a secret of 16 b', 'none');
SELECT klaviyo_remove_webhook('02W');

-- A secret that the server has, in a file of a line each, which only a superuser names.
SELECT klaviyo_set_webhook('03W');
SELECT klaviyo_set_webhook('03W', 'a secret of 16 b', secret_file => '/tmp/x');
CREATE ROLE webhooks_admin IN ROLE klaviyo_admin;
SET ROLE webhooks_admin;
SELECT klaviyo_set_webhook('03W', secret_file => '/etc/passwd');
UPDATE klaviyo.webhook SET secret_file = '/etc/passwd';
SELECT klaviyo.server_secrets('/etc/passwd', NULL);
RESET ROLE;
DROP ROLE webhooks_admin;
SELECT current_setting('data_directory') || '/webhook.secrets' AS file \gset
COPY (VALUES ('a secret of 16 b'), ('too short'), ('another of 16 by')) TO :'file';
SELECT klaviyo_set_webhook('03W', secret_file => :'file');
SELECT receive('03W', body('03W', 'f1'), 'a secret of 16 b') AS one, receive('03W', body('03W', 'f2'), 'another of 16 by') AS other;
SELECT receive('03W', body('03W', 'f3'), 'too short');
SELECT count(*) FROM klaviyo.webhook_secret WHERE webhook = '03W';
SELECT status FROM klaviyo_health() WHERE name = 'webhook';
SELECT klaviyo_set_webhook('03W', secret_file => '/nowhere');
SELECT receive('03W', body('03W', 'f4'), 'a secret of 16 b');
SELECT status, value FROM klaviyo_health() WHERE name = 'webhook';
SELECT klaviyo_set_webhook('03W', secret_env => 'NO_SUCH_VARIABLE');
SELECT status, value FROM klaviyo_health() WHERE name = 'webhook';
-- One that is given takes its place
SELECT klaviyo_set_webhook('03W', 'a third of 16 byt');
SELECT webhook, secret_file, secret_env FROM klaviyo.webhook WHERE webhook = '03W';
SELECT receive('03W', body('03W', 'f5'), 'a third of 16 byt') AS given;
-- Another account, and the same secret
SELECT klaviyo_set_webhook('03W', account => 'other');
SELECT receive('03W', body('03W', 'f6'), 'a third of 16 byt', 'other') AS theirs;
SELECT klaviyo_remove_webhook('03W');
DELETE FROM klaviyo.webhook_event;

-- What is signed is kept, each event once.
SELECT receive('01W', body('01W', 'e1', 'e2'), 'a secret of 16 b');
SELECT receive('01W', body('01W', 'e1', 'e2'), 'a secret of 16 b') AS again;
SELECT receive('01W', body('01W', 'e2', 'e3'), 'a secret of 16 b', 'default') AS one_more;
SELECT receive('01W', body('01W', 'e4'), 'a secret of 16 b', sent => to_char(now(), 'Dy, DD Mon YYYY HH24:MI:SS "GMT"')) AS http_date;
SELECT account, webhook, topic, external_id, profile_id, payload, sent_at IS NOT NULL AS sent_at, received_at IS NOT NULL AS received_at
FROM klaviyo.webhook_event ORDER BY event_id;

-- In the order in which they stand in a request.
SELECT receive('01W', body('01W', 'z1', 'a1', 'm1'), 'a secret of 16 b');
SELECT external_id FROM klaviyo.webhook_event ORDER BY event_id DESC LIMIT 3;
DELETE FROM klaviyo.webhook_event WHERE external_id ~ '^[zam]1';

-- What is not Klaviyo's.
SELECT receive('01W', body('01W', 'e9'), 'another of 16 by');
SELECT receive('01W', body('01W', 'e9'), 'a secret of 16 b', sign_as => '');
SELECT receive('01W', body('01W', 'e9'), 'a secret of 16 b', sign_as => upper(sign(body('01W', 'e9'), now()::text, 'a secret of 16 b')));
SELECT receive('02W', body('02W', 'e9'), 'a secret of 16 b');
SELECT receive('01W', body('01W', 'e9'), 'a secret of 16 b', 'other');
SELECT klaviyo_receive_webhook('{}', convert_to(body('01W', 'e9'), 'UTF8'));
SELECT klaviyo_receive_webhook('[1]', '\x00');
SELECT klaviyo_receive_webhook(NULL, NULL);
-- Of another time; the error would say which.
\set VERBOSITY sqlstate
SELECT receive('01W', body('01W', 'e9'), 'a secret of 16 b', sent => (now() - interval '61 minutes')::text);
SELECT receive('01W', body('01W', 'e9'), 'a secret of 16 b', sent => (now() + interval '61 minutes')::text);
\set VERBOSITY default
SELECT receive('01W', body('01W', 'e9'), 'a secret of 16 b', sent => 'yesterday');
-- Signed, and no such thing.
SELECT receive('01W', '{"data": []}', 'a secret of 16 b');
SELECT receive('01W', 'data', 'a secret of 16 b');
SELECT receive('01W', body('02W', 'e9'), 'a secret of 16 b');
SELECT receive('01W', repeat(' ', 6000000), 'a secret of 16 b');
SELECT count(*) FROM klaviyo.webhook_event;

-- Two secrets while one is changed.
SELECT klaviyo_set_webhook('01W', 'the next of 16 b');
SELECT receive('01W', body('01W', 'e5'), 'the next of 16 b') AS new, receive('01W', body('01W', 'e6'), 'a secret of 16 b') AS old;
SELECT klaviyo_set_webhook('01W', 'the last of 16 b', old_secret_for => '0');
SELECT receive('01W', body('01W', 'e7'), 'the last of 16 b') AS new;
SELECT receive('01W', body('01W', 'e8'), 'the next of 16 b') AS old;
-- Saying it again changes nothing of that.
SELECT klaviyo_set_webhook('01W', 'the last of 16 b');
SELECT receive('01W', body('01W', 'e8'), 'the next of 16 b') AS old;

-- A flow's, which is not signed.
SELECT klaviyo_set_webhook('flow:welcome', 'a secret of a flow');
CREATE FUNCTION flow(name text, secret text, body text, id text DEFAULT NULL) RETURNS integer LANGUAGE sql AS $$
    SELECT klaviyo_receive_webhook(
        jsonb_strip_nulls(jsonb_build_object('Klaviyo-Flow', name, 'Klaviyo-Flow-Secret', secret, 'Klaviyo-Flow-Id', id)),
        convert_to(body, 'UTF8'))
$$;
SELECT flow('welcome', 'a secret of a flow', '{"email": "a@b.example", "note": "\u0000"}');
SELECT flow('welcome', 'a secret of a flow', '{"email": "a@b.example", "note": "\u0000"}') AS again;
SELECT flow('welcome', 'a secret of a flow', '{"email": "a@b.example", "note": "\u0000"}', 'id') AS of_that_id;
SELECT flow('welcome', 'another of a flow', '{"email": "a@b.example"}');
SELECT flow('welcome', NULL, '{"email": "a@b.example"}');
SELECT flow('goodbye', 'a secret of a flow', '{"email": "a@b.example"}');
SELECT flow('welcome', 'a secret of a flow', '[1]');
SELECT topic, profile_id, payload, sent_at FROM klaviyo.webhook_event WHERE webhook LIKE 'flow:%' ORDER BY event_id;
-- Whose secret is known cannot be another's.
SELECT klaviyo_receive_webhook('{"klaviyo-webhook-id": "flow:welcome", "klaviyo-flow-secret": "a secret of a flow"}', '{}');
SELECT klaviyo_receive_webhook('{"klaviyo-flow": "01W", "klaviyo-flow-secret": "the last of 16 b"}', '{}');

-- Secrets are nobody's to read.
SET ROLE klaviyo_reader;
SELECT count(*) FROM klaviyo.webhook;
SELECT count(*) FROM klaviyo.webhook_secret;
SELECT klaviyo_receive_webhook('{}', '');
RESET ROLE;
SET ROLE klaviyo_admin;
SELECT klaviyo_set_webhook('03W', 'a secret of 16 b');
SELECT klaviyo_remove_webhook('03W');
SELECT * FROM klaviyo.webhook_secret;
RESET ROLE;
-- Whoever may hand them in need have no other right.
CREATE ROLE regress_klaviyo_hook;
GRANT EXECUTE ON FUNCTION klaviyo_receive_webhook TO regress_klaviyo_hook;
SET ROLE regress_klaviyo_hook;
SELECT klaviyo_receive_webhook('{"klaviyo-flow": "welcome", "klaviyo-flow-secret": "a secret of a flow"}', '{"n": 1}');
SELECT count(*) FROM klaviyo.webhook_event;
RESET ROLE;
DROP OWNED BY regress_klaviyo_hook;
DROP ROLE regress_klaviyo_hook;

-- Who is told of what.
CREATE FUNCTION opened(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION opened(event json) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION many(event jsonb) RETURNS SETOF integer LANGUAGE sql AS 'SELECT 1';
SELECT klaviyo_on_webhook('event:klaviyo.*', 'opened(jsonb)') AS new;
SELECT klaviyo_on_webhook('event:klaviyo.*', 'public.opened(jsonb)') AS again;
SELECT klaviyo_on_webhook('flow:welcome', 'opened(jsonb)') AS another;
SELECT klaviyo_on_webhook('event:*opened', 'opened(jsonb)');
SELECT klaviyo_on_webhook(repeat('x', 257), 'opened(jsonb)');
SELECT klaviyo_on_webhook(NULL, 'opened(jsonb)');
SELECT klaviyo_on_webhook('*', 'opened(json)');
SELECT klaviyo_on_webhook('*', 'many(jsonb)');
SELECT klaviyo_on_webhook('*', 'nothing(jsonb)');
SELECT klaviyo_on_webhook('*', NULL);
SELECT pattern, function FROM klaviyo.webhook_handler ORDER BY handler_id;
-- In a transaction, for a process of its own would tell them.
BEGIN;
SELECT receive('01W', body('01W', 'h1', 'h2'), 'the last of 16 b') AS of_two;
SELECT flow('welcome', 'a secret of a flow', '{"h": 3}') AS of_a_flow;
SELECT e.topic, h.pattern, t.profile_id, t.attempts
FROM klaviyo.webhook_task AS t JOIN klaviyo.webhook_event AS e USING (event_id) JOIN klaviyo.webhook_handler AS h USING (handler_id)
ORDER BY 1, 2;
SELECT klaviyo_off_webhook('event:klaviyo.*', 'opened(jsonb)') AS was;
SELECT klaviyo_off_webhook('event:klaviyo.*', 'opened(jsonb)') AS was;
SELECT count(*) AS tasks FROM klaviyo.webhook_task;
-- What was put aside is told again.
INSERT INTO klaviyo.webhook_dead_letter SELECT event_id, handler_id, 'no', 20, now() FROM klaviyo.webhook_task;
DELETE FROM klaviyo.webhook_task;
SELECT status, value, hint IS NOT NULL AS hint FROM klaviyo_health() WHERE name = 'webhook';
SELECT klaviyo_redrive_webhook(-1), klaviyo_redrive_webhook();
SELECT status, value, hint FROM klaviyo_health() WHERE name = 'webhook';
DELETE FROM klaviyo.webhook_event;
SELECT count(*) AS tasks FROM klaviyo.webhook_task;
ROLLBACK;
-- One that is gone.
DROP FUNCTION opened(jsonb);
SELECT status, value, hint FROM klaviyo_health() WHERE name = 'webhook' ORDER BY 2;
SELECT klaviyo_off_webhook('flow:welcome', 'public.opened(jsonb)') AS was;
SELECT klaviyo_off_webhook('flow:welcome', NULL);

-- What names somebody whose data is to be deleted is not kept.
SELECT klaviyo_request_deletion('E10@B.example') IS NOT NULL AS requested;
SELECT receive('01W', body('01W', 'e10', 'e11'), 'the last of 16 b') AS of_two;
SELECT flow('welcome', 'a secret of a flow', '{"to": "mail e10@b.example"}');
SELECT external_id FROM klaviyo.webhook_event ORDER BY event_id DESC LIMIT 1;
-- An account takes its webhooks along.
SELECT klaviyo_remove_account('default', bury_waiting => true) > 0 AS removed;
SELECT count(*) FROM klaviyo.webhook;
