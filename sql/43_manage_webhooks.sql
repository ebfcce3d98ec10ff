-- System webhooks at Klaviyo: made, listed, deleted, and what they can be told of.

-- A secret that stands in no message: the worker puts it into the call, and nobody else sees it.
CREATE TABLE klaviyo.message_secret (
    message_id uuid PRIMARY KEY,
    account    text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    secret     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- As klaviyo.account_key: no policy, no statistics.
ALTER TABLE klaviyo.message_secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE klaviyo.message_secret ALTER COLUMN secret SET STATISTICS 0;
COMMENT ON TABLE klaviyo.message_secret IS 'Secrets that messages must carry and that do not stand in them, until Klaviyo has taken those. Only the owner reads it, and no dump carries it';
COMMENT ON COLUMN klaviyo.message_secret.message_id IS 'Message';
COMMENT ON COLUMN klaviyo.message_secret.account IS 'Account it goes to';
COMMENT ON COLUMN klaviyo.message_secret.secret IS 'Secret; never shown by any view or function';
COMMENT ON COLUMN klaviyo.message_secret.created_at IS 'When the message was queued';

-- Takes: a new webhook. Returns: the message_id. Touches: message_secret.
CREATE FUNCTION @extschema@.klaviyo_webhook_create(
    name         text,
    endpoint_url text,
    topics       text[],
    description  text DEFAULT NULL,
    secret       text DEFAULT NULL,
    account      text DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    message uuid;
BEGIN
    IF coalesce(name, '') = '' OR endpoint_url !~ '^https://[^[:space:]]+$' IS NOT FALSE
       OR cardinality(topics) > 0 IS NOT TRUE OR array_position(topics, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'a webhook cannot be so'
            USING ERRCODE = 'KS080', DETAIL = 'It has a name, an address that begins with https://, and one topic at least.',
                  HINT = 'klaviyo_webhook_topics() asks Klaviyo which topics there are.';
    END IF;
    IF octet_length(secret) NOT BETWEEN 16 AND 512 THEN
        RAISE EXCEPTION 'argument "secret" is no secret'
            USING ERRCODE = 'KS081', DETAIL = 'It must have 16 to 512 bytes.', HINT = 'Leave it out: then one is made that nobody knows.';
    END IF;
    message := @extschema@.klaviyo_call(
        'POST', '/api/webhooks',
        jsonb_build_object('data', jsonb_build_object(
            'type', 'webhook',
            'attributes', jsonb_strip_nulls(jsonb_build_object(
                'name', name, 'description', description, 'endpoint_url', endpoint_url, 'secret_key', '{klaviyo_sync.message_secret}')),
            'relationships', jsonb_build_object('webhook-topics', jsonb_build_object('data', (
                SELECT jsonb_agg(jsonb_build_object('type', 'webhook-topic', 'id', t.topic) ORDER BY t.place)
                FROM unnest(topics) WITH ORDINALITY AS t (topic, place)))))),
        account);
    INSERT INTO klaviyo.message_secret (message_id, account, secret)
    VALUES (message, coalesce(account, 'default'), coalesce(secret, replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')));
    RETURN message;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_webhook_create(text, text, text[], text, text, text) IS
    'Queues that Klaviyo make a system webhook, which tells endpoint_url of these topics. Once it has, and some seconds later, its requests are taken: klaviyo.webhook has it. The secret that signs them is made here, unless it is said, and stands in no message. Returns the message_id';

-- Takes: a webhook, by Klaviyo's id. Returns: the message_id. Touches: webhook.
CREATE FUNCTION @extschema@.klaviyo_webhook_delete(webhook text, account text DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF webhook IS NULL OR webhook !~ '^[A-Za-z0-9_.-]{1,128}$' THEN
        RAISE EXCEPTION 'argument "webhook" names no system webhook'
            USING ERRCODE = 'KS080', HINT = 'Pass Klaviyo''s id of it, which klaviyo.webhook has.';
    END IF;
    account := coalesce(account, (SELECT w.account FROM klaviyo.webhook AS w WHERE w.webhook = webhook));
    DELETE FROM klaviyo.webhook AS w WHERE w.webhook = webhook AND w.account = coalesce(account, 'default');
    RETURN @extschema@.klaviyo_call('DELETE', '/api/webhooks/' || webhook, NULL, account);
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_webhook_delete(text, text) IS
    'Queues that Klaviyo delete a system webhook; its requests are not taken from now on. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_webhook_list(account text DEFAULT NULL) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT @extschema@.klaviyo_call('GET', '/api/webhooks', NULL, klaviyo_webhook_list.account)
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_webhook_list(text) IS
    'Asks which system webhooks there are at Klaviyo; klaviyo_await() has the answer. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_webhook_topics(account text DEFAULT NULL) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT @extschema@.klaviyo_call('GET', '/api/webhook-topics', NULL, klaviyo_webhook_topics.account)
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_webhook_topics(text) IS
    'Asks what a system webhook can be told of; klaviyo_await() has the answer. Returns the message_id';
