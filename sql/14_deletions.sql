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
    dropped_at     timestamptz,
    readmitted_at  timestamptz,
    readmitted_seq bigint
);
CREATE INDEX deletion_digest_idx ON klaviyo.deletion (digest, account);
CREATE INDEX deletion_waiting_idx ON klaviyo.deletion (seq) WHERE accepted_at IS NULL AND dropped_at IS NULL;
CREATE INDEX deletion_to_purge_idx ON klaviyo.deletion (accepted_at) WHERE accepted_at IS NOT NULL AND purged_at IS NULL;
CREATE INDEX deletion_ended_idx ON klaviyo.deletion (coalesce(purged_at, dropped_at));
COMMENT ON TABLE klaviyo.deletion IS 'Requests to delete a person''s data, for the record: by a digest, once the person is gone from all our tables; kept for klaviyo.deletion_retention';
COMMENT ON COLUMN klaviyo.deletion.message_id IS 'The message that asks Klaviyo';
COMMENT ON COLUMN klaviyo.deletion.seq IS 'Order within this database';
COMMENT ON COLUMN klaviyo.deletion.account IS 'Account it is asked of';
COMMENT ON COLUMN klaviyo.deletion.digest IS 'Which email or phone_number it is about: SHA-256 of the account''s person_salt and the identifier';
COMMENT ON COLUMN klaviyo.deletion.identifier IS 'The identifier itself; NULL once all our tables have been purged of it, or the request was dropped';
COMMENT ON COLUMN klaviyo.deletion.requested_at IS 'When it was queued';
COMMENT ON COLUMN klaviyo.deletion.requested_by IS 'The role of the session that queued it';
COMMENT ON COLUMN klaviyo.deletion.accepted_at IS 'When it was recorded that Klaviyo has accepted it';
COMMENT ON COLUMN klaviyo.deletion.purged_at IS 'Since when none of our tables names the person, but for what is queued about them after that';
COMMENT ON COLUMN klaviyo.deletion.dropped_at IS 'Since when it is known to have been given up: its dead letter was discarded, or dropped when it was old';
COMMENT ON COLUMN klaviyo.deletion.readmitted_at IS 'When klaviyo_readmit() was called for the person; NULL if it was not';
COMMENT ON COLUMN klaviyo.deletion.readmitted_seq IS 'Messages with a higher seq than this are sent again';

CREATE TABLE klaviyo.accepted_deletion (
    message_id  uuid PRIMARY KEY,
    accepted_at timestamptz NOT NULL,
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id()
);
COMMENT ON TABLE klaviyo.accepted_deletion IS 'Requests for deletion that Klaviyo has accepted, until that is in klaviyo.deletion: whoever records results waits for nobody who has a row of that';
COMMENT ON COLUMN klaviyo.accepted_deletion.message_id IS 'The message that asked Klaviyo';
COMMENT ON COLUMN klaviyo.accepted_deletion.accepted_at IS 'When that was recorded';
COMMENT ON COLUMN klaviyo.accepted_deletion.xid IS 'The transaction that recorded it: those that had written something before may write more of the person, and are waited for';

CREATE TABLE klaviyo.discarded (
    message_id   uuid PRIMARY KEY,
    discarded_by uuid NOT NULL,
    account      text NOT NULL,
    kind         text NOT NULL,
    enqueued_at  timestamptz NOT NULL,
    discarded_at timestamptz NOT NULL
);
CREATE INDEX discarded_discarded_by_idx ON klaviyo.discarded (discarded_by);
CREATE INDEX discarded_discarded_at_idx ON klaviyo.discarded (discarded_at);
COMMENT ON TABLE klaviyo.discarded IS 'Messages that were not sent since the person they are about is to be deleted, or what they ask for was cancelled while they waited, without what was in them; for klaviyo.delivery_retention';
COMMENT ON COLUMN klaviyo.discarded.message_id IS 'Message';
COMMENT ON COLUMN klaviyo.discarded.discarded_by IS 'The request for deletion, see klaviyo.deletion, or the message that cancels it';
COMMENT ON COLUMN klaviyo.discarded.account IS 'Account it was to go to';
COMMENT ON COLUMN klaviyo.discarded.kind IS 'Kind of message';
COMMENT ON COLUMN klaviyo.discarded.enqueued_at IS 'When it was queued';
COMMENT ON COLUMN klaviyo.discarded.discarded_at IS 'When it was discarded';

CREATE FUNCTION klaviyo.person_digest(person_salt uuid, identifier text) RETURNS bytea
-- Resolved now, whatever the search_path will be; and since it is not more than its parts are, the planner puts it in the place of
-- its calls, of which there are many.
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN sha256(uuid_send(person_salt) || convert_to(identifier, 'UTF8'));
COMMENT ON FUNCTION klaviyo.person_digest(uuid, text) IS 'What stands for a person in klaviyo.deletion: a digest of an identifier as klaviyo.outbox.key has it';

CREATE FUNCTION klaviyo.identifier(name text, value text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'klaviyo_identifier';
COMMENT ON FUNCTION klaviyo.identifier(text, text) IS 'An identifier of a person, email, phone_number or external_id, as klaviyo.outbox.key has it';

-- Takes: messages, each an element with one of its identifiers. Returns: the requests for deletion that are about the same people,
-- the latest first. However few requests there were when it was planned, each is looked up.
CREATE FUNCTION klaviyo.deletions_of(accounts text[], seqs bigint[], identifiers text[])
RETURNS TABLE (deletion klaviyo.deletion, seq bigint, identifier text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
    RETURN QUERY
    SELECT d.found, m.seq, m.identifier
    FROM unnest(accounts, seqs, identifiers) AS m (account, seq, identifier)
    JOIN klaviyo.account AS a ON a.name = m.account
    CROSS JOIN LATERAL (
        SELECT f AS found
        FROM klaviyo.deletion AS f
        WHERE f.digest = klaviyo.person_digest(a.person_salt, m.identifier) AND f.account = m.account AND f.dropped_at IS NULL
        OFFSET 0
    ) AS d
    ORDER BY (d.found).seq DESC;
END
$$;
COMMENT ON FUNCTION klaviyo.deletions_of(text[], bigint[], text[]) IS 'Requests for deletion that are about the same people as these messages';

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
          klaviyo.person_digest(a.person_salt, klaviyo.identifier('email', klaviyo_readmit.email)),
          klaviyo.person_digest(a.person_salt, klaviyo.identifier('phone_number', klaviyo_readmit.phone_number))
      )
      AND d.readmitted_seq IS NULL
      AND d.dropped_at IS NULL;
    GET DIAGNOSTICS readmitted = ROW_COUNT;
    RETURN readmitted;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_readmit(text, text, text) IS
    'Has messages be sent again about a person whose data was to be deleted, and who is back: those queued after it. Returns how many requests for deletion it is about: 0 if there is none, or the person has been readmitted since the last of them';

-- Takes: a partition of delivery, some blocks of it, and people by account and identifier, each with the seq before which
-- what is about them is cleared. Returns: nothing. Touches: that partition.
CREATE FUNCTION klaviyo.purge_deliveries(
    part        regclass,
    first_block bigint,
    end_block   bigint,
    accounts    text[],
    identifiers text[],
    before      bigint[]
) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format(
        'UPDATE %1$s AS d SET key = ''{}''
         WHERE d.ctid = ANY (ARRAY(
             SELECT t.ctid
             FROM %1$s AS t
             CROSS JOIN LATERAL unnest(t.key) AS k (identifier)
             JOIN unnest($3, $4, $5) AS p (account, identifier, before)
               ON p.identifier = k.identifier AND p.account = t.account AND t.seq < p.before
             WHERE t.ctid >= $1 AND t.ctid < $2
         ))',
        part
    ) USING format('(%s,0)', first_block)::tid, format('(%s,0)', end_block)::tid, accounts, identifiers, before;
END
$$;
COMMENT ON FUNCTION klaviyo.purge_deliveries(regclass, bigint, bigint, text[], text[], bigint[]) IS
    'Clears the key of deliveries in some blocks of a partition that were about these people';

SELECT pg_catalog.pg_extension_config_dump('klaviyo.accepted_deletion', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.deletion', '');
