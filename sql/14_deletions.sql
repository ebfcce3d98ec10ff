-- Requests for deletion: for the record, and so that nothing that was queued about the person brings them back.

CREATE TABLE klaviyo.deletion (
    message_id     uuid PRIMARY KEY,
    seq            bigint NOT NULL,
    account        text NOT NULL,
    digest         bytea NOT NULL,
    identifier     text,
    requested_at   timestamptz NOT NULL,
    requested_by   text NOT NULL,
    accepted_at    timestamptz,
    purged_at      timestamptz,
    discarded      bigint NOT NULL DEFAULT 0,
    readmitted_at  timestamptz,
    readmitted_seq bigint
);
CREATE INDEX deletion_digest_idx ON klaviyo.deletion (digest, account);
CREATE INDEX deletion_to_purge_idx ON klaviyo.deletion (accepted_at) WHERE accepted_at IS NOT NULL AND purged_at IS NULL;
CREATE INDEX deletion_purged_at_idx ON klaviyo.deletion (purged_at);
COMMENT ON TABLE klaviyo.deletion IS 'Requests to delete a person''s data, for the record: by a digest, once the person is gone from all our tables; kept for klaviyo.deletion_retention';
COMMENT ON COLUMN klaviyo.deletion.message_id IS 'The message that asks Klaviyo';
COMMENT ON COLUMN klaviyo.deletion.seq IS 'Order within this database';
COMMENT ON COLUMN klaviyo.deletion.account IS 'Account it is asked of';
COMMENT ON COLUMN klaviyo.deletion.digest IS 'Which email or phone_number it is about: SHA-256 of the account''s person_salt and the identifier';
COMMENT ON COLUMN klaviyo.deletion.identifier IS 'The identifier itself; NULL once all our tables have been purged of it';
COMMENT ON COLUMN klaviyo.deletion.requested_at IS 'When it was queued';
COMMENT ON COLUMN klaviyo.deletion.requested_by IS 'The role of the session that queued it';
COMMENT ON COLUMN klaviyo.deletion.accepted_at IS 'When it was recorded that Klaviyo has accepted it';
COMMENT ON COLUMN klaviyo.deletion.purged_at IS 'Since when none of our tables names the person';
COMMENT ON COLUMN klaviyo.deletion.discarded IS 'Messages about the person that were not sent for it';
COMMENT ON COLUMN klaviyo.deletion.readmitted_at IS 'When klaviyo_readmit() was called for the person; NULL if it was not';
COMMENT ON COLUMN klaviyo.deletion.readmitted_seq IS 'Messages with a higher seq than this are sent again';

CREATE TABLE klaviyo.discarded (
    message_id   uuid PRIMARY KEY,
    deletion     uuid NOT NULL,
    account      text NOT NULL,
    kind         text NOT NULL,
    enqueued_at  timestamptz NOT NULL,
    discarded_at timestamptz NOT NULL
);
CREATE INDEX discarded_discarded_at_idx ON klaviyo.discarded (discarded_at);
COMMENT ON TABLE klaviyo.discarded IS 'Messages that were not sent since the person they are about is to be deleted, without what was in them; for klaviyo.delivery_retention';
COMMENT ON COLUMN klaviyo.discarded.message_id IS 'Message';
COMMENT ON COLUMN klaviyo.discarded.deletion IS 'The request for deletion, see klaviyo.deletion';
COMMENT ON COLUMN klaviyo.discarded.account IS 'Account it was to go to';
COMMENT ON COLUMN klaviyo.discarded.kind IS 'Kind of message';
COMMENT ON COLUMN klaviyo.discarded.enqueued_at IS 'When it was queued';
COMMENT ON COLUMN klaviyo.discarded.discarded_at IS 'When it was discarded';

CREATE FUNCTION klaviyo.person_digest(person_salt uuid, identifier text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT sha256(uuid_send(person_salt) || convert_to(identifier, 'UTF8'))
$$;
COMMENT ON FUNCTION klaviyo.person_digest(uuid, text) IS 'What stands for a person in klaviyo.deletion: a digest of an identifier as klaviyo.outbox.key has it';

-- Takes: whom, by what the request named. Returns: how many requests are no longer in the way. Touches: deletion.
-- The number is taken out of the outbox's sequence, so that what this transaction queues after it has a higher one.
CREATE FUNCTION @extschema@.klaviyo_readmit(
    email        text DEFAULT NULL,
    phone_number text DEFAULT NULL,
    account      text DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    readmitted bigint;
BEGIN
    IF num_nonnulls(email, phone_number) = 0 THEN
        RAISE EXCEPTION 'klaviyo_readmit() was not told whom'
            USING ERRCODE = 'KS041', DETAIL = 'Neither email nor phone_number is given.', HINT = 'Pass what the request for deletion named.';
    END IF;
    UPDATE klaviyo.deletion AS d
    SET readmitted_at = now(), readmitted_seq = nextval('klaviyo.outbox_seq_seq')
    FROM klaviyo.account AS a
    WHERE a.name = coalesce(klaviyo_readmit.account, 'default')
      AND d.account = a.name
      AND d.digest IN (
          klaviyo.person_digest(a.person_salt, 'email:' || lower(klaviyo_readmit.email)),
          klaviyo.person_digest(a.person_salt, 'phone_number:' || klaviyo_readmit.phone_number)
      );
    GET DIAGNOSTICS readmitted = ROW_COUNT;
    RETURN readmitted;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_readmit(text, text, text) IS
    'Has messages be sent again about a person whose data was to be deleted, and who is back: those queued after it. Returns how many requests for deletion it is about, 0 if there is none';

-- Takes: a partition of delivery, and people by account and identifier. Returns: nothing. Touches: that partition.
CREATE FUNCTION klaviyo.purge_deliveries(part regclass, accounts text[], identifiers text[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format(
        'UPDATE %s AS d SET key = ''{}''
         WHERE d.key && $2
           AND EXISTS (SELECT FROM unnest($1, $2) AS p (account, identifier) WHERE p.account = d.account AND d.key @> ARRAY[p.identifier])',
        part
    ) USING accounts, identifiers;
END
$$;
COMMENT ON FUNCTION klaviyo.purge_deliveries(regclass, text[], text[]) IS
    'Clears the key of deliveries in a partition that were about these people';

SELECT pg_catalog.pg_extension_config_dump('klaviyo.deletion', '');
