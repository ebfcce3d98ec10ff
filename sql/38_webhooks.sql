-- Webhooks: what Klaviyo tells by itself, checked and kept.

-- A secret in a table of its own, as an account's key.
CREATE TABLE klaviyo.webhook (
    webhook     text PRIMARY KEY,
    account     text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    secret_file text,
    secret_env  text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    changed_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT webhook_webhook_check CHECK (webhook ~ '^(flow:)?[A-Za-z0-9_.-]{1,128}$'),
    CONSTRAINT webhook_secret_check CHECK (num_nonnulls(secret_file, secret_env) < 2)
);
CREATE INDEX webhook_account_idx ON klaviyo.webhook (account);
COMMENT ON TABLE klaviyo.webhook IS 'Webhooks whose requests are taken, see klaviyo_set_webhook()';
COMMENT ON COLUMN klaviyo.webhook.webhook IS 'Klaviyo''s id of a system webhook, or flow: and the name of a flow''s';
COMMENT ON COLUMN klaviyo.webhook.account IS 'Account it is of';
COMMENT ON COLUMN klaviyo.webhook.secret_file IS 'File of the server that has its secrets, a line each; NULL: none has';
COMMENT ON COLUMN klaviyo.webhook.secret_env IS 'Environment variable of the server that has them';
COMMENT ON COLUMN klaviyo.webhook.created_at IS 'When it was added';
COMMENT ON COLUMN klaviyo.webhook.changed_at IS 'When klaviyo_set_webhook() last changed it';

CREATE TABLE klaviyo.webhook_secret (
    webhook          text PRIMARY KEY REFERENCES klaviyo.webhook ON DELETE CASCADE,
    secret           text NOT NULL,
    old_secret       text,
    old_secret_until timestamptz,
    CONSTRAINT webhook_secret_secret_check CHECK (octet_length(secret) BETWEEN 16 AND 512)
);
-- As klaviyo.account_key: no policy, no statistics.
ALTER TABLE klaviyo.webhook_secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE klaviyo.webhook_secret ALTER COLUMN secret SET STATISTICS 0;
ALTER TABLE klaviyo.webhook_secret ALTER COLUMN old_secret SET STATISTICS 0;
COMMENT ON TABLE klaviyo.webhook_secret IS 'Secrets of webhooks. Only the owner reads it, and no dump carries it';
COMMENT ON COLUMN klaviyo.webhook_secret.webhook IS 'Webhook';
COMMENT ON COLUMN klaviyo.webhook_secret.secret IS 'Secret; never shown by any view or function';
COMMENT ON COLUMN klaviyo.webhook_secret.old_secret IS 'The one before, while both are taken';
COMMENT ON COLUMN klaviyo.webhook_secret.old_secret_until IS 'Until when the one before is taken';

CREATE TABLE klaviyo.webhook_event (
    event_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account     text NOT NULL,
    webhook     text NOT NULL,
    topic       text NOT NULL,
    external_id text NOT NULL,
    profile_id  text,
    payload     jsonb NOT NULL,
    sent_at     timestamptz,
    received_at timestamptz NOT NULL,
    CONSTRAINT webhook_event_once_key UNIQUE (webhook, topic, external_id)
);
CREATE INDEX webhook_event_received_at_idx ON klaviyo.webhook_event (received_at);
COMMENT ON TABLE klaviyo.webhook_event IS 'What Klaviyo has told by webhooks, each once, for klaviyo.webhook_retention. Append-only';
COMMENT ON COLUMN klaviyo.webhook_event.event_id IS 'Order in which they came';
COMMENT ON COLUMN klaviyo.webhook_event.account IS 'Account it is of';
COMMENT ON COLUMN klaviyo.webhook_event.webhook IS 'Webhook it came by';
COMMENT ON COLUMN klaviyo.webhook_event.topic IS 'What has happened, as event:klaviyo.opened_email; of a flow''s webhook its name, as flow:welcome';
COMMENT ON COLUMN klaviyo.webhook_event.external_id IS 'Klaviyo''s id of the event; of a flow''s webhook what the header klaviyo-flow-id says, or a digest of the body';
COMMENT ON COLUMN klaviyo.webhook_event.profile_id IS 'Klaviyo''s id of the profile it is about, where the payload says that';
COMMENT ON COLUMN klaviyo.webhook_event.payload IS 'The event as Klaviyo''s call Get Event has it; of a flow''s webhook the body';
COMMENT ON COLUMN klaviyo.webhook_event.sent_at IS 'When Klaviyo sent it, where that is signed';
COMMENT ON COLUMN klaviyo.webhook_event.received_at IS 'When it came';

CREATE TABLE klaviyo.webhook_handler (
    handler_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pattern    text NOT NULL,
    function   text NOT NULL,
    owner      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT webhook_handler_once_key UNIQUE (pattern, function)
);
COMMENT ON TABLE klaviyo.webhook_handler IS 'Functions that are told of events, see klaviyo_on_webhook()';
COMMENT ON COLUMN klaviyo.webhook_handler.handler_id IS 'Number';
COMMENT ON COLUMN klaviyo.webhook_handler.pattern IS 'Of which topics: that one, or with a * at its end those that begin so';
COMMENT ON COLUMN klaviyo.webhook_handler.function IS 'Function, with its schema and argument; it is called with its owner''s rights';
COMMENT ON COLUMN klaviyo.webhook_handler.owner IS 'Its owner when it was registered; one that has another by now is not called';
COMMENT ON COLUMN klaviyo.webhook_handler.created_at IS 'Since when';

-- Rows of their own, which come and go; an event takes them along.
CREATE TABLE klaviyo.webhook_task (
    event_id        bigint NOT NULL REFERENCES klaviyo.webhook_event ON DELETE CASCADE,
    handler_id      integer NOT NULL REFERENCES klaviyo.webhook_handler ON DELETE CASCADE,
    profile_id      text,
    attempts        integer NOT NULL DEFAULT 0,
    not_before      timestamptz NOT NULL DEFAULT now(),
    last_attempt_at timestamptz,
    last_error      text,
    PRIMARY KEY (event_id, handler_id)
);
CREATE INDEX webhook_task_profile_idx ON klaviyo.webhook_task (handler_id, profile_id, event_id);
COMMENT ON TABLE klaviyo.webhook_task IS 'Events of which handlers are still to be told';
COMMENT ON COLUMN klaviyo.webhook_task.event_id IS 'Event';
COMMENT ON COLUMN klaviyo.webhook_task.handler_id IS 'Handler';
COMMENT ON COLUMN klaviyo.webhook_task.profile_id IS 'Profile it is about: of one profile a handler is told in the order in which events came';
COMMENT ON COLUMN klaviyo.webhook_task.attempts IS 'Calls that were begun';
COMMENT ON COLUMN klaviyo.webhook_task.not_before IS 'When it is called again at the earliest';
COMMENT ON COLUMN klaviyo.webhook_task.last_attempt_at IS 'When it was called last';
COMMENT ON COLUMN klaviyo.webhook_task.last_error IS 'What went wrong then; while it is called, that it is not known how that ended';

CREATE TABLE klaviyo.webhook_dead_letter (
    event_id   bigint NOT NULL REFERENCES klaviyo.webhook_event ON DELETE CASCADE,
    handler_id integer NOT NULL REFERENCES klaviyo.webhook_handler ON DELETE CASCADE,
    error      text NOT NULL,
    attempts   integer NOT NULL,
    died_at    timestamptz NOT NULL,
    PRIMARY KEY (event_id, handler_id)
);
CREATE INDEX webhook_dead_letter_handler_idx ON klaviyo.webhook_dead_letter (handler_id);
COMMENT ON TABLE klaviyo.webhook_dead_letter IS 'Events that a handler has failed at, each time: klaviyo_redrive_webhook() has it told again';
COMMENT ON COLUMN klaviyo.webhook_dead_letter.event_id IS 'Event';
COMMENT ON COLUMN klaviyo.webhook_dead_letter.handler_id IS 'Handler';
COMMENT ON COLUMN klaviyo.webhook_dead_letter.error IS 'What went wrong the last time';
COMMENT ON COLUMN klaviyo.webhook_dead_letter.attempts IS 'Calls that have failed';
COMMENT ON COLUMN klaviyo.webhook_dead_letter.died_at IS 'When it was put aside';

SELECT pg_catalog.pg_extension_config_dump('klaviyo.webhook', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.webhook_handler', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.webhook_handler_handler_id_seq', '');

CREATE FUNCTION klaviyo.is_webhook_signed(body bytea, sent_at text, signature text, secrets text[]) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'klaviyo_is_webhook_signed';
COMMENT ON FUNCTION klaviyo.is_webhook_signed(bytea, text, text, text[]) IS
    'Whether a request of Klaviyo''s was signed with one of the secrets; in a time that does not tell how far it was right';

CREATE FUNCTION klaviyo.webhook_time(sent_at text) RETURNS timestamptz
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'klaviyo_webhook_time';
COMMENT ON FUNCTION klaviyo.webhook_time(text) IS 'The time that the header klaviyo-timestamp says: an HTTP date, or ISO 8601; NULL where it is neither';

CREATE FUNCTION klaviyo.webhook_events(body bytea, flow text, external_id text) RETURNS jsonb
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'klaviyo_webhook_events';
COMMENT ON FUNCTION klaviyo.webhook_events(bytea, text, text) IS
    'What is in a request of Klaviyo''s, or of a flow''s webhook, and whom each event names; NULL where that cannot be read';

CREATE FUNCTION klaviyo.server_secrets(file text, variable text) RETURNS text[]
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'klaviyo_server_secrets';
COMMENT ON FUNCTION klaviyo.server_secrets(text, text) IS 'The secrets that a file, or an environment variable, of the server has; none where it cannot be read';

-- Takes: a webhook and its secret; for how long the one before is taken as well. Touches: webhook, webhook_secret.
CREATE FUNCTION klaviyo.store_webhook_secret(webhook text, secret text, old_secret_for interval) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE klaviyo.webhook AS w SET secret_file = NULL, secret_env = NULL WHERE w.webhook = store_webhook_secret.webhook;
    INSERT INTO klaviyo.webhook_secret AS s (webhook, secret)
    VALUES (store_webhook_secret.webhook, store_webhook_secret.secret)
    ON CONFLICT ON CONSTRAINT webhook_secret_pkey DO UPDATE
    SET secret = excluded.secret,
        (old_secret, old_secret_until) = (
            SELECT CASE WHEN o.until > now() THEN o.secret END, CASE WHEN o.until > now() THEN o.until END
            FROM (
                SELECT CASE WHEN s.secret = excluded.secret THEN s.old_secret ELSE s.secret END,
                       -- The same again makes no time longer, and may end it.
                       CASE WHEN s.secret = excluded.secret THEN least(s.old_secret_until, now() + store_webhook_secret.old_secret_for)
                            ELSE now() + store_webhook_secret.old_secret_for END
            ) AS o (secret, until)
        )
$$;
COMMENT ON FUNCTION klaviyo.store_webhook_secret(text, text, interval) IS 'Stores a webhook''s secret, and keeps the one before for a while';

-- SECURITY INVOKER, as klaviyo_set_account().
CREATE FUNCTION @extschema@.klaviyo_set_webhook(
    webhook        text,
    secret         text DEFAULT NULL,
    account        text DEFAULT NULL,
    old_secret_for interval DEFAULT '1 day',
    secret_file    text DEFAULT NULL,
    secret_env     text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF webhook IS NULL OR webhook !~ '^(flow:)?[A-Za-z0-9_.-]{1,128}$' THEN
        RAISE EXCEPTION 'argument "webhook" names no webhook'
            USING ERRCODE = 'KS080', DETAIL = 'It is neither an id of Klaviyo''s nor flow: with a name of letters, digits, points, hyphens or underscores.',
                  HINT = 'Pass Klaviyo''s id of the webhook, or flow:welcome for a webhook of a flow.';
    END IF;
    IF num_nonnulls(secret, secret_file, secret_env) > 1
       OR num_nonnulls(secret, secret_file, secret_env) = 0 AND NOT EXISTS (SELECT FROM klaviyo.webhook AS w WHERE w.webhook = webhook) THEN
        RAISE EXCEPTION 'a webhook has one secret'
            USING ERRCODE = 'KS081', DETAIL = 'It is given itself, or by a file or a variable of the server that has it.',
                  HINT = 'Pass one of secret, secret_file and secret_env.';
    END IF;
    IF octet_length(secret) NOT BETWEEN 16 AND 512 THEN
        RAISE EXCEPTION 'argument "secret" is no secret'
            USING ERRCODE = 'KS081', DETAIL = 'It must have 16 to 512 bytes.',
                  HINT = 'Make one that nobody can guess, as by gen_random_uuid() twice.';
    END IF;
    IF num_nonnulls(secret_file, secret_env) = 1 AND NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION 'only a superuser may name a file or a variable of the server'
            USING ERRCODE = 'insufficient_privilege', HINT = 'Have a superuser say it, or give the secret itself.';
    END IF;
    -- Of one that is known it stays as it is, unless it is said.
    account := coalesce(account, (SELECT w.account FROM klaviyo.webhook AS w WHERE w.webhook = webhook), 'default');
    IF NOT EXISTS (SELECT FROM klaviyo.account AS a WHERE a.name = account) THEN
        PERFORM klaviyo.refuse_unknown_account(account);
    END IF;
    INSERT INTO klaviyo.webhook AS w (webhook, account) VALUES (webhook, account)
    ON CONFLICT ON CONSTRAINT webhook_pkey DO UPDATE SET account = excluded.account, changed_at = now();
    IF secret IS NULL THEN
        IF num_nonnulls(secret_file, secret_env) = 1 THEN
            UPDATE klaviyo.webhook AS w SET secret_file = secret_file, secret_env = secret_env WHERE w.webhook = webhook;
            DELETE FROM klaviyo.webhook_secret AS s WHERE s.webhook = webhook;
        END IF;
        RETURN;
    END IF;
    PERFORM klaviyo.store_webhook_secret(webhook, secret, greatest(coalesce(old_secret_for, interval '0'), interval '0'));
    RAISE NOTICE 'the secret was given in a statement: statement logs, pg_stat_activity and psql''s history may hold it';
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_set_webhook(text, text, text, interval, text, text) IS
    'Has requests of a webhook be taken that are signed with that secret, or, of a flow''s webhook, bring it. The secret before is taken for old_secret_for as well, so that it can be changed here first and then at Klaviyo; the same again, for 0, ends that. A secret_file or secret_env of the server, which only a superuser names, has secrets of 16 bytes or more, a line each, all of which are taken. The account is default, or stays as it is';

CREATE FUNCTION @extschema@.klaviyo_remove_webhook(webhook text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM klaviyo.webhook AS w WHERE w.webhook = klaviyo_remove_webhook.webhook;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no webhook "%"', webhook
            USING ERRCODE = 'KS082', HINT = 'klaviyo.webhook has those there are.';
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_remove_webhook(text) IS 'Has no more requests of a webhook be taken; what it has told stays';

-- Takes: a request's headers, by names of whatever case, and its body as it came; the account, where the caller knows whose it
-- must be. Returns: how many events are new. Touches: webhook_event.
-- Whoever calls it need have no right but this: what is not signed does nothing, and what comes twice neither.
CREATE FUNCTION @extschema@.klaviyo_receive_webhook(
    headers jsonb,
    body    bytea,
    account text DEFAULT NULL
) RETURNS integer
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    given    jsonb;
    flow     text;
    known    klaviyo.webhook;
    secrets  text[];
    trusted  boolean;
    sent     timestamptz;
    told     jsonb;
    new      integer;
    tasks    integer;
    largest  bigint := pg_size_bytes(current_setting('klaviyo.webhook_max_size'));
    window_s double precision := extract(epoch FROM current_setting('klaviyo.webhook_tolerance')::interval);
BEGIN
    IF octet_length(body) > largest THEN
        RAISE EXCEPTION 'the request is too large'
            USING ERRCODE = 'KS083', DETAIL = format('It has %s bytes, of %s.', octet_length(body), largest),
                  HINT = 'klaviyo.webhook_max_size sets the bound.';
    END IF;
    IF jsonb_typeof(headers) = 'object' THEN
        SELECT jsonb_object_agg(lower(h.key), h.value) INTO given FROM jsonb_each_text(headers) AS h;
    END IF;
    flow := 'flow:' || (given->>'klaviyo-flow');
    SELECT w.*
    INTO known
    FROM klaviyo.webhook AS w
    WHERE w.webhook = coalesce(given->>'klaviyo-webhook-id', flow)
      AND (account IS NULL OR w.account = account)
      AND (w.webhook LIKE 'flow:%') = (given->>'klaviyo-webhook-id' IS NULL);
    SELECT array_remove(ARRAY[s.secret, CASE WHEN s.old_secret_until > now() THEN s.old_secret END], NULL)
    INTO secrets
    FROM klaviyo.webhook_secret AS s
    WHERE s.webhook = known.webhook;
    IF num_nonnulls(known.secret_file, known.secret_env) = 1 THEN
        secrets := klaviyo.server_secrets(known.secret_file, known.secret_env);
    END IF;

    IF known.webhook LIKE 'flow:%' THEN
        -- Of digests nobody learns by the time how far they are alike.
        SELECT bool_or(sha256(convert_to(s.secret, 'UTF8')) = sha256(convert_to(given->>'klaviyo-flow-secret', 'UTF8')))
        INTO trusted
        FROM unnest(secrets) AS s (secret);
    ELSE
        flow := NULL;
        sent := klaviyo.webhook_time(given->>'klaviyo-timestamp');
        trusted := klaviyo.is_webhook_signed(body, given->>'klaviyo-timestamp', given->>'klaviyo-signature', secrets);
    END IF;
    IF trusted IS NOT TRUE THEN
        RAISE EXCEPTION 'the request is not Klaviyo''s'
            USING ERRCODE = 'KS084',
                  DETAIL = 'There is no such webhook, or it was signed with none of its secrets, or changed on its way.',
                  HINT = 'klaviyo_set_webhook() says which there are. The body must be passed to the byte as it came.';
    END IF;
    IF flow IS NULL AND (sent IS NULL OR abs(extract(epoch FROM clock_timestamp() - sent)) > window_s) THEN
        RAISE EXCEPTION 'the request is too old, or from the future'
            USING ERRCODE = 'KS085', DETAIL = format('It was sent at %s.', coalesce(sent::text, 'a time that cannot be read')),
                  HINT = 'See to the clock. klaviyo.webhook_tolerance sets the bound.';
    END IF;

    told := klaviyo.webhook_events(body, flow, coalesce(nullif(btrim(given->>'klaviyo-flow-id'), ''), encode(sha256(body), 'hex')));
    IF told IS NULL OR flow IS NULL AND told->>'webhook' <> known.webhook THEN
        RAISE EXCEPTION 'the request cannot be read'
            USING ERRCODE = 'KS086', DETAIL = 'It is no JSON of the form that Klaviyo''s have, or names another webhook than its header does.';
    END IF;
    -- One request of a webhook after the other: who reads an event has seen all those before it, so that handlers are told in order.
    PERFORM FROM klaviyo.webhook AS w WHERE w.webhook = known.webhook FOR NO KEY UPDATE;
    WITH event AS (
        INSERT INTO klaviyo.webhook_event (event_id, account, webhook, topic, external_id, profile_id, payload, sent_at, received_at)
        OVERRIDING SYSTEM VALUE
        SELECT n.event_id, known.account, known.webhook, n.topic, n.external_id, n.event->>'profile_id', n.event->'payload', sent,
               clock_timestamp()
        FROM (
            SELECT nextval('klaviyo.webhook_event_event_id_seq') AS event_id, e.event->>'topic' AS topic,
                   e.event->>'external_id' AS external_id, e.event
            FROM jsonb_array_elements(told->'events') AS e (event)
            -- Nobody would purge what names a person whose data was to be deleted.
            WHERE NOT klaviyo.names_deleted(known.account, ARRAY(SELECT jsonb_array_elements_text(e.event->'people')))
        ) AS n
        -- Numbered as they stand, and written in an order that is the same for all: two that bring the same wait for each other,
        -- and never each for the other.
        ORDER BY n.topic, n.external_id
        ON CONFLICT ON CONSTRAINT webhook_event_once_key DO NOTHING
        RETURNING event_id, topic, profile_id
    ), task AS (
        INSERT INTO klaviyo.webhook_task (event_id, handler_id, profile_id)
        SELECT e.event_id, h.handler_id, e.profile_id
        FROM event AS e
        JOIN klaviyo.webhook_handler AS h
          ON CASE WHEN right(h.pattern, 1) = '*' THEN starts_with(e.topic, left(h.pattern, -1)) ELSE e.topic = h.pattern END
        RETURNING event_id
    )
    SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM task) INTO new, tasks;
    IF tasks > 0 THEN
        PERFORM klaviyo.wake_runner();
    END IF;
    RETURN new;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_receive_webhook(jsonb, bytea, text) IS
    'Takes a request that a webhook of Klaviyo''s has made: its headers, and its body as it came. What is not signed with the webhook''s secret, or too old, is refused; what is, stands in klaviyo.webhook_event, each event once. Returns how many are new. Grant EXECUTE on it to whoever hands in requests';

-- Takes: an account and identifiers of people. Returns: whether one of them is somebody whose data was to be deleted.
CREATE FUNCTION klaviyo.names_deleted(account text, people text[]) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM unnest(names_deleted.people) AS p (identifier)
        JOIN klaviyo.account AS a ON a.name = names_deleted.account
        JOIN klaviyo.deletion AS x ON x.account = a.name AND x.digest = klaviyo.person_digest(a.person_salt, p.identifier)
        CROSS JOIN (SELECT s.setting::integer AS minutes FROM pg_settings AS s WHERE s.name = 'klaviyo.straggler_time') AS s
        WHERE x.dropped_at IS NULL AND x.readmitted_seq IS NULL
          AND (s.minutes < 0 OR x.requested_at > now() - s.minutes * interval '1 minute')
    )
$$;
COMMENT ON FUNCTION klaviyo.names_deleted(text, text[]) IS 'Whether one of these identifiers is of a person whose data was to be deleted';

CREATE FUNCTION @extschema@.klaviyo_on_webhook(pattern text, function regprocedure) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_on_webhook';
COMMENT ON FUNCTION @extschema@.klaviyo_on_webhook(text, regprocedure) IS
    'Has a function of one jsonb argument be called with each event whose topic is pattern, or with a * at its end begins so; with the function''s owner''s rights, in a process of its own, each call a transaction. What fails is tried again, and stands in klaviyo.webhook_dead_letter in the end. Only a member of the owner may say so. Returns whether that is new';

CREATE FUNCTION @extschema@.klaviyo_off_webhook(pattern text, function text) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_off_webhook';
COMMENT ON FUNCTION @extschema@.klaviyo_off_webhook(text, text) IS
    'Has a function be called no more, nor for what it was still to be told; one that is gone is named as klaviyo.webhook_handler has it. Returns whether it was';

-- Takes: which; NULL for all. Returns: how many. Touches: webhook_dead_letter, webhook_task.
CREATE FUNCTION @extschema@.klaviyo_redrive_webhook(event_id bigint DEFAULT NULL, handler_id integer DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moved bigint;
BEGIN
    WITH gone AS (
        DELETE FROM klaviyo.webhook_dead_letter AS d
        WHERE d.event_id = coalesce(klaviyo_redrive_webhook.event_id, d.event_id)
          AND d.handler_id = coalesce(klaviyo_redrive_webhook.handler_id, d.handler_id)
        RETURNING d.event_id, d.handler_id
    )
    INSERT INTO klaviyo.webhook_task (event_id, handler_id, profile_id)
    SELECT g.event_id, g.handler_id, e.profile_id
    FROM gone AS g
    JOIN klaviyo.webhook_event AS e ON e.event_id = g.event_id
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS moved = ROW_COUNT;
    PERFORM klaviyo.wake_runner();
    RETURN moved;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_redrive_webhook(bigint, integer) IS
    'Has handlers be told again of events that they have failed at: of one event, by one handler, or of all. Returns how many';
