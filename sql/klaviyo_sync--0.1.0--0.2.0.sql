-- From 0.1.0 to 0.2.0: calls of many, cheaper queueing.

\echo Use "ALTER EXTENSION klaviyo_sync UPDATE TO '0.2.0'" to load this file. \quit

-- As the install script has it: what is run here is Postgres' own.
SET LOCAL search_path = pg_catalog, pg_temp;

ALTER TABLE klaviyo.account ADD COLUMN fresh_from bigint NOT NULL DEFAULT 1;
COMMENT ON COLUMN klaviyo.account.fresh_from IS 'Messages with a lower seq may have been sent by the database that this one is a copy of: they go in calls of their own';
ALTER TABLE klaviyo.account ADD COLUMN person_salt uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid();
COMMENT ON COLUMN klaviyo.account.person_salt IS 'What the digests of people in klaviyo.deletion are made with';
COMMENT ON COLUMN klaviyo.account.stale_after IS 'How long an event may wait and still start flows, and a klaviyo_send_campaign() and still be sent; NULL for however long';

-- Calls of endpoints of which Klaviyo allows so many a day.
CREATE TABLE klaviyo.daily_call (
    account   text NOT NULL,
    lane      text NOT NULL,
    called_at timestamptz NOT NULL
);
COMMENT ON TABLE klaviyo.daily_call IS 'Calls of the last day of which Klaviyo allows so many a day, lest a worker that starts make too many';
COMMENT ON COLUMN klaviyo.daily_call.account IS 'Account they were made for';
COMMENT ON COLUMN klaviyo.daily_call.lane IS 'Lane, as in klaviyo.lane';
COMMENT ON COLUMN klaviyo.daily_call.called_at IS 'When the call had ended';

CREATE TABLE klaviyo.answer (
    message_id  uuid PRIMARY KEY,
    seq         bigint NOT NULL,
    account     text NOT NULL,
    lane        text NOT NULL,
    answered_at timestamptz NOT NULL,
    body        json
);
CREATE INDEX answer_answered_at_idx ON klaviyo.answer (answered_at);
COMMENT ON TABLE klaviyo.answer IS 'What Klaviyo has answered to calls of klaviyo_call() that it has accepted, and what klaviyo_estimate_campaign() had it count; for klaviyo.delivery_retention';
COMMENT ON COLUMN klaviyo.answer.message_id IS 'Message';
COMMENT ON COLUMN klaviyo.answer.seq IS 'Order within this database';
COMMENT ON COLUMN klaviyo.answer.account IS 'Account it went to';
COMMENT ON COLUMN klaviyo.answer.lane IS 'Lane it went in, as in klaviyo.lane';
COMMENT ON COLUMN klaviyo.answer.answered_at IS 'When the answer was recorded';
COMMENT ON COLUMN klaviyo.answer.body IS 'The answer; NULL where there was none that is JSON, or once it was purged of a person who is deleted';

CREATE TABLE klaviyo.campaign (
    account              text NOT NULL,
    campaign_id          text NOT NULL,
    name                 text,
    status               text,
    send_time            timestamptz,
    send_job             text,
    estimated_recipients bigint,
    estimated_at         timestamptz,
    made_by              uuid,
    sent_by              uuid,
    followed             boolean NOT NULL,
    read_at              timestamptz,
    changed_at           timestamptz NOT NULL,
    channel              text,
    archived             boolean,
    scheduled_at         timestamptz,
    created_at           timestamptz,
    updated_at           timestamptz,
    pulled_at            timestamptz,
    PRIMARY KEY (account, campaign_id)
);
CREATE INDEX campaign_changed_at_idx ON klaviyo.campaign (changed_at);
CREATE INDEX campaign_followed_idx ON klaviyo.campaign (changed_at) WHERE followed;
CREATE INDEX campaign_made_by_idx ON klaviyo.campaign (made_by) WHERE made_by IS NOT NULL;
COMMENT ON TABLE klaviyo.campaign IS 'Campaigns that were made, sent, cancelled or counted from here, for klaviyo.campaign_retention; one that is being sent is followed until it has been. And all that Klaviyo has, as of the last run of the job campaigns';
COMMENT ON COLUMN klaviyo.campaign.account IS 'Account';
COMMENT ON COLUMN klaviyo.campaign.campaign_id IS 'Klaviyo''s id of it';
COMMENT ON COLUMN klaviyo.campaign.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.campaign.status IS 'How it stands, in Klaviyo''s words: Draft, Scheduled, Sending, Sent, Cancelled and others; as of read_at';
COMMENT ON COLUMN klaviyo.campaign.send_time IS 'When it is sent, or was; NULL until Klaviyo has said so';
COMMENT ON COLUMN klaviyo.campaign.send_job IS 'How the job stands that sends it: queued, processing, complete, cancelled; NULL where it was not sent from here';
COMMENT ON COLUMN klaviyo.campaign.estimated_recipients IS 'To how many people it would go, as klaviyo_estimate_campaign() had it counted';
COMMENT ON COLUMN klaviyo.campaign.estimated_at IS 'When that was counted';
COMMENT ON COLUMN klaviyo.campaign.made_by IS 'Message of klaviyo_create_campaign() that has made it, if it was made from here';
COMMENT ON COLUMN klaviyo.campaign.sent_by IS 'Message of klaviyo_send_campaign() that has had it sent last';
COMMENT ON COLUMN klaviyo.campaign.followed IS 'Whether Klaviyo is asked now and then how it stands';
COMMENT ON COLUMN klaviyo.campaign.read_at IS 'When Klaviyo last said how it stands';
COMMENT ON COLUMN klaviyo.campaign.changed_at IS 'When something of this last changed';
COMMENT ON COLUMN klaviyo.campaign.channel IS 'email, sms or mobile_push; this and all from here on only of what the job campaigns has read';
COMMENT ON COLUMN klaviyo.campaign.archived IS 'Whether it was put away';
COMMENT ON COLUMN klaviyo.campaign.scheduled_at IS 'When it was had sent at that time';
COMMENT ON COLUMN klaviyo.campaign.created_at IS 'When it was made';
COMMENT ON COLUMN klaviyo.campaign.updated_at IS 'When Klaviyo last changed it';
COMMENT ON COLUMN klaviyo.campaign.pulled_at IS 'When the job last changed it here; NULL if it never has';

ALTER TYPE klaviyo.result ADD ATTRIBUTE answer json;

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

ALTER TABLE klaviyo.retry ADD COLUMN last_bulk boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN klaviyo.retry.last_bulk IS 'Whether the last call carried many messages';
ALTER TABLE klaviyo.retry ADD COLUMN may_be_done boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN klaviyo.retry.may_be_done IS 'Whether a call brought no answer that may have done what it asks for';
-- What was delivered so far went in calls of one.
ALTER TABLE klaviyo.delivery ADD COLUMN bulk boolean NOT NULL DEFAULT false;
ALTER TABLE klaviyo.delivery_default ALTER COLUMN bulk DROP DEFAULT;
COMMENT ON COLUMN klaviyo.delivery.bulk IS 'Whether that call carried many messages';
COMMENT ON COLUMN klaviyo.delivery_default.bulk IS 'Whether that call carried many messages';

-- There are two calls of one path.
ALTER TABLE klaviyo.account_check ADD COLUMN method text NOT NULL DEFAULT 'POST';
ALTER TABLE klaviyo.account_check ALTER COLUMN method DROP DEFAULT;
ALTER TABLE klaviyo.account_check DROP CONSTRAINT account_check_pkey;
ALTER TABLE klaviyo.account_check ADD PRIMARY KEY (account, path, method);
COMMENT ON COLUMN klaviyo.account_check.scope IS 'Scopes that the key needs for it';
COMMENT ON COLUMN klaviyo.account_check.method IS 'Method of the call: GET or POST';

-- The worker's, three tables that no dump carries: of a copy they would not be true.
CREATE TABLE klaviyo.claim_floor (
    single   boolean PRIMARY KEY DEFAULT true CHECK (single),
    seq      bigint NOT NULL,
    timeline text NOT NULL,
    since    timestamptz NOT NULL
);
COMMENT ON TABLE klaviyo.claim_floor IS 'Which messages can be known not to have been in a call: only these may ride in calls of many';
COMMENT ON COLUMN klaviyo.claim_floor.single IS 'There is one row';
COMMENT ON COLUMN klaviyo.claim_floor.seq IS 'Messages with this seq or a lower one may have been in a call, of whatever account';
COMMENT ON COLUMN klaviyo.claim_floor.timeline IS 'Timeline of the WAL that this is true of; after a failover or a recovery to a point in time all that waits may have been in a call';
COMMENT ON COLUMN klaviyo.claim_floor.since IS 'What was queued earlier was restored from somewhere, and may have been in a call there';

CREATE TABLE klaviyo.claim_mark (
    account text PRIMARY KEY,
    seq     bigint NOT NULL
);
COMMENT ON TABLE klaviyo.claim_mark IS 'How far the messages of an account may have been in calls, whatever ended the worker; raised before they are';
COMMENT ON COLUMN klaviyo.claim_mark.account IS 'Account';
COMMENT ON COLUMN klaviyo.claim_mark.seq IS 'Messages of it with a higher seq than this, and than that of claim_floor, have been in no call';

CREATE TABLE klaviyo.bulk_job (
    job_id       uuid PRIMARY KEY,
    account      text NOT NULL,
    status       text NOT NULL,
    klaviyo_id   text,
    profiles     integer NOT NULL,
    failed       integer,
    seqs         bigint[],
    positions    integer[],
    announced_at timestamptz NOT NULL,
    made_at      timestamptz,
    ended_at     timestamptz
);
CREATE INDEX bulk_job_open_idx ON klaviyo.bulk_job (announced_at) WHERE ended_at IS NULL;
CREATE INDEX bulk_job_ended_at_idx ON klaviyo.bulk_job (ended_at);
COMMENT ON TABLE klaviyo.bulk_job IS 'Jobs that Klaviyo makes of calls that import many profiles, followed to their end; for klaviyo.delivery_retention';
COMMENT ON COLUMN klaviyo.bulk_job.job_id IS 'Our name of it';
COMMENT ON COLUMN klaviyo.bulk_job.account IS 'Account';
COMMENT ON COLUMN klaviyo.bulk_job.status IS 'announced: Klaviyo is about to be asked for it; made: it is under way; complete; cancelled by Klaviyo; refused: Klaviyo has not made it; lost: whether Klaviyo has is not known';
COMMENT ON COLUMN klaviyo.bulk_job.klaviyo_id IS 'Klaviyo''s id of it';
COMMENT ON COLUMN klaviyo.bulk_job.profiles IS 'Profiles it is made of';
COMMENT ON COLUMN klaviyo.bulk_job.failed IS 'Those of them that it could not import, once it has ended: their messages go by themselves';
COMMENT ON COLUMN klaviyo.bulk_job.seqs IS 'Its messages, until it has ended';
COMMENT ON COLUMN klaviyo.bulk_job.positions IS 'Place of each message''s profile in the call, from 0, until it has ended';
COMMENT ON COLUMN klaviyo.bulk_job.announced_at IS 'When it was written down, before Klaviyo was asked for it';
COMMENT ON COLUMN klaviyo.bulk_job.made_at IS 'When Klaviyo had made it';
COMMENT ON COLUMN klaviyo.bulk_job.ended_at IS 'When it was known to have ended; NULL until then';

CREATE TABLE klaviyo.sent_unique_id (
    digest  uuid PRIMARY KEY,
    sent_at timestamptz NOT NULL
);
-- Rows come in order of time.
CREATE INDEX sent_unique_id_sent_at_idx ON klaviyo.sent_unique_id USING brin (sent_at) WITH (autosummarize = on);
COMMENT ON TABLE klaviyo.sent_unique_id IS 'Which unique_ids of your own Klaviyo may know: an event with one of them goes in a call of its own; for klaviyo.unique_id_retention';
COMMENT ON COLUMN klaviyo.sent_unique_id.digest IS 'klaviyo.unique_id_digest(account, metric, unique_id)';
COMMENT ON COLUMN klaviyo.sent_unique_id.sent_at IS 'When that was recorded first';
SELECT pg_catalog.pg_extension_config_dump('klaviyo.sent_unique_id', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.campaign', '');
-- As the worker has it (crates/delivery/src/unique_id.rs).
CREATE FUNCTION klaviyo.unique_id_digest(account text, metric text, unique_id text) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT encode(substr(sha256(
               convert_to(account, 'UTF8') || '\x00' || convert_to(metric, 'UTF8') || '\x00' || convert_to(unique_id, 'UTF8')
           ), 1, 16), 'hex')::uuid
$$;
COMMENT ON FUNCTION klaviyo.unique_id_digest(text, text, text) IS 'Under which digest klaviyo.sent_unique_id remembers an event''s unique_id';
-- What has failed so far may have been taken all the same. What was delivered is on record without its unique_id.
INSERT INTO klaviyo.sent_unique_id (digest, sent_at)
SELECT DISTINCT e.digest, now()
FROM (
    SELECT klaviyo.unique_id_digest(m.account, m.payload #>> '{event,metric,data,attributes,name}',
                                    m.payload #>> '{event,unique_id}') AS digest
    FROM (
        SELECT r.account, r.kind, r.payload FROM klaviyo.retry AS r
        UNION ALL
        SELECT l.account, l.kind, l.payload FROM klaviyo.dead_letter AS l WHERE l.seq IS NOT NULL
    ) AS m
    WHERE m.kind = 'event'
) AS e
WHERE e.digest IS NOT NULL;
CREATE OR REPLACE FUNCTION klaviyo.bury(account text, before_seq bigint, after bigint, until bigint) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH added AS (
        SELECT FROM klaviyo.account AS a WHERE a.name = bury.account
    ), of_outbox AS (
        DELETE FROM klaviyo.outbox AS o
        WHERE o.seq > bury.after AND o.seq <= bury.until AND o.account = bury.account
          AND (o.seq < bury.before_seq OR NOT EXISTS (SELECT FROM added))
        RETURNING o.message_id, o.seq, o.kind, o.key, o.payload, NULL::integer AS last_status, NULL::text AS last_error_id,
                  0 AS attempts, o.enqueued_at
    ), of_retry AS (
        DELETE FROM klaviyo.retry AS r
        WHERE r.account = bury.account AND (r.seq < bury.before_seq OR NOT EXISTS (SELECT FROM added))
        RETURNING r.message_id, r.seq, r.kind, r.key, r.payload, r.last_status, r.last_error_id, r.attempts, r.enqueued_at
    ), buried AS (
        INSERT INTO klaviyo.dead_letter
            (message_id, seq, account, kind, key, payload, code, reason, http_status, klaviyo_error_id, attempts,
             enqueued_at, died_at)
        SELECT w.message_id, w.seq, bury.account, w.kind, w.key, w.payload, 'account_removed',
               'The account was removed while the message waited. A call that was under way may have sent it.',
               w.last_status, w.last_error_id, w.attempts, w.enqueued_at, clock_timestamp()
        FROM (SELECT * FROM of_outbox UNION ALL SELECT * FROM of_retry) AS w
        ON CONFLICT (message_id) DO NOTHING
        RETURNING kind, payload
    ), remembered AS (
        -- Of another account of that name, added since, an event with the same id must not ride.
        INSERT INTO klaviyo.sent_unique_id (digest, sent_at)
        SELECT DISTINCT e.digest, now()
        FROM (
            SELECT klaviyo.unique_id_digest(bury.account, b.payload #>> '{event,metric,data,attributes,name}',
                                            b.payload #>> '{event,unique_id}') AS digest
            FROM buried AS b
            WHERE b.kind = 'event'
        ) AS e
        WHERE e.digest IS NOT NULL
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) FROM buried
$$;

-- Called here, and by each worker when it begins. On another timeline than before, after a failover or a recovery to a
-- point in time, the primary of before may have sent all that waits here.
CREATE FUNCTION klaviyo.open_claim_floor() RETURNS klaviyo.claim_floor
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO klaviyo.claim_floor AS f (seq, timeline, since)
    VALUES (
        coalesce(pg_sequence_last_value('klaviyo.outbox_seq_seq'), 0),
        left(pg_walfile_name(pg_current_wal_lsn()), 8),
        clock_timestamp()
    )
    ON CONFLICT (single) DO UPDATE
    SET seq = CASE WHEN f.timeline = excluded.timeline THEN f.seq ELSE excluded.seq END,
        timeline = excluded.timeline
    RETURNING *
$$;
COMMENT ON FUNCTION klaviyo.open_claim_floor() IS 'Looks whether the floor is still true of this server, and returns it';
SELECT klaviyo.open_claim_floor();

-- They write with the owner's rights by themselves now.
ALTER FUNCTION @extschema@.klaviyo_track_event(text, text, jsonb, numeric, text, text, timestamptz, text, text, jsonb, text)
    SECURITY INVOKER RESET ALL;
ALTER FUNCTION @extschema@.klaviyo_upsert_profile(text, text, text, text, text, text, text, text, text, jsonb, jsonb, text, text[])
    SECURITY INVOKER RESET ALL;

CREATE FUNCTION @extschema@.klaviyo_upsert_changes(
    new     jsonb,
    old     jsonb DEFAULT NULL,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_upsert_changes';
COMMENT ON FUNCTION @extschema@.klaviyo_upsert_changes(jsonb, jsonb, text) IS
    'Queues what of a profile''s state has changed; nothing where nothing has, or new is NULL. A state is an object of the arguments of klaviyo_upsert_profile(): {"email": …, "first_name": …, "location": {…}, "properties": {…}}. What was and is no longer, or is null, is cleared. All of new is queued where old is NULL or names another email, phone_number or external_id. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_request_deletion(
    email        text DEFAULT NULL,
    phone_number text DEFAULT NULL,
    account      text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_request_deletion';
COMMENT ON FUNCTION @extschema@.klaviyo_request_deletion(text, text, text) IS
    'Queues a request that Klaviyo delete all profiles with this email or this phone_number, and their data. Sent when the transaction has committed, after calls about the same person that are under way; what waits about that person, and what is queued for klaviyo.straggler_time after, is discarded; the key needs the scope data-privacy:write. Returns the message_id';

ALTER TABLE klaviyo.dead_letter ADD COLUMN duplicate_profile_id text;
COMMENT ON COLUMN klaviyo.dead_letter.duplicate_profile_id IS 'Klaviyo''s id of the profile that has one of its identifiers already, where that is why';

CREATE VIEW klaviyo.profile_conflict AS
SELECT d.message_id, d.account, d.key, d.duplicate_profile_id, d.reason, d.died_at
FROM klaviyo.dead_letter AS d
WHERE d.duplicate_profile_id IS NOT NULL;
COMMENT ON VIEW klaviyo.profile_conflict IS 'Messages that Klaviyo refuses since two profiles have the identifiers that they name. Nothing is lost: decide which profile stays, klaviyo_merge_profiles(), then klaviyo_redrive() the message, or klaviyo_discard() it';
COMMENT ON COLUMN klaviyo.profile_conflict.message_id IS 'Message, a dead letter';
COMMENT ON COLUMN klaviyo.profile_conflict.account IS 'Account it was to go to';
COMMENT ON COLUMN klaviyo.profile_conflict.key IS 'Identifiers that it names';
COMMENT ON COLUMN klaviyo.profile_conflict.duplicate_profile_id IS 'Klaviyo''s id of the profile that has one of them, and is not the one that has the others';
COMMENT ON COLUMN klaviyo.profile_conflict.reason IS 'What Klaviyo says';
COMMENT ON COLUMN klaviyo.profile_conflict.died_at IS 'When it was put aside';

CREATE FUNCTION @extschema@.klaviyo_upsert_catalog_item(
    external_id         text,
    title               text DEFAULT NULL,
    description         text DEFAULT NULL,
    url                 text DEFAULT NULL,
    price               numeric DEFAULT NULL,
    image_full_url      text DEFAULT NULL,
    image_thumbnail_url text DEFAULT NULL,
    images              text[] DEFAULT NULL,
    categories          text[] DEFAULT NULL,
    custom_metadata     jsonb DEFAULT NULL,
    published           boolean DEFAULT NULL,
    clear               text[] DEFAULT NULL,
    account             text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_upsert_catalog_item';
COMMENT ON FUNCTION @extschema@.klaviyo_upsert_catalog_item(
    text, text, text, text, numeric, text, text, text[], text[], jsonb, boolean, text[], text
) IS
    'Queues that an item of the catalog, by the shop''s own id of it, be made or changed. One that is not there needs a title, a description and a url. NULL leaves a field alone; clear empties price, image_full_url, image_thumbnail_url, images and custom_metadata. categories are those it is in from then on, by the shop''s own ids, which must be there or be queued. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_upsert_catalog_variant(
    external_id         text,
    item                text DEFAULT NULL,
    title               text DEFAULT NULL,
    description         text DEFAULT NULL,
    sku                 text DEFAULT NULL,
    url                 text DEFAULT NULL,
    price               numeric DEFAULT NULL,
    inventory_quantity  numeric DEFAULT NULL,
    inventory_policy    integer DEFAULT NULL,
    image_full_url      text DEFAULT NULL,
    image_thumbnail_url text DEFAULT NULL,
    images              text[] DEFAULT NULL,
    custom_metadata     jsonb DEFAULT NULL,
    published           boolean DEFAULT NULL,
    clear               text[] DEFAULT NULL,
    account             text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_upsert_catalog_variant';
COMMENT ON FUNCTION @extschema@.klaviyo_upsert_catalog_variant(
    text, text, text, text, text, text, numeric, numeric, integer, text, text, text[], jsonb, boolean, text[], text
) IS
    'Queues that a variant of an item be made or changed; with item, in order with what is queued of that. One that is not there needs its item, a title, a description, a sku, a url, a price and an inventory_quantity. inventory_policy is as Klaviyo has it: 0 or 2 show it whatever the quantity, 1 only while there are any. As klaviyo_upsert_catalog_item() otherwise. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_upsert_catalog_category(
    external_id text,
    name        text,
    account     text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_upsert_catalog_category';
COMMENT ON FUNCTION @extschema@.klaviyo_upsert_catalog_category(text, text, text) IS
    'Queues that a category of the catalog, by the shop''s own id of it, be made, or have that name. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_delete_catalog_item(
    external_id text,
    account     text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_delete_catalog_item';
COMMENT ON FUNCTION @extschema@.klaviyo_delete_catalog_item(text, text) IS
    'Queues that an item of the catalog be deleted, and its variants. One that is not there counts as deleted. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_delete_catalog_variant(
    external_id text,
    account     text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_delete_catalog_variant';
COMMENT ON FUNCTION @extschema@.klaviyo_delete_catalog_variant(text, text) IS
    'Queues that a variant be deleted. As klaviyo_delete_catalog_item() otherwise. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_delete_catalog_category(
    external_id text,
    account     text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_delete_catalog_category';
COMMENT ON FUNCTION @extschema@.klaviyo_delete_catalog_category(text, text) IS
    'Queues that a category be deleted; the items in it stay. As klaviyo_delete_catalog_item() otherwise. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_create_coupon_code(
    coupon     text,
    code       text,
    expires_at timestamptz DEFAULT NULL,
    account    text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_create_coupon_code';
COMMENT ON FUNCTION @extschema@.klaviyo_create_coupon_code(text, text, timestamptz, text) IS
    'Queues that a coupon, by Klaviyo''s id of it, have one more code for Klaviyo to give to somebody; without expires_at Klaviyo has it expire in a year. A code that is there already counts as made. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_create_campaign(
    name                text,
    included            text[],
    excluded            text[] DEFAULT NULL,
    channel             text DEFAULT 'email',
    content             jsonb DEFAULT NULL,
    send_at             timestamptz DEFAULT NULL,
    recipient_time      boolean DEFAULT false,
    throttle_percentage integer DEFAULT NULL,
    smart_send_on       date DEFAULT NULL,
    smart_sending       boolean DEFAULT NULL,
    tracking_options    jsonb DEFAULT NULL,
    account             text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_create_campaign';
COMMENT ON FUNCTION @extschema@.klaviyo_create_campaign(
    text, text[], text[], text, jsonb, timestamptz, boolean, integer, date, boolean, jsonb, text
) IS
    'Queues that a campaign be made, a draft for the lists and segments with the ids included, but those excluded. content is what its message says, as Klaviyo has it for the channel: of email subject, preview_text, from_email, from_label, reply_to_email, cc_email, bcc_email; of sms body; of mobile_push title, body, dynamic_image, action_buttons. Once sent it goes at once, or at send_at (with recipient_time at that time of UTC in each recipient''s zone, with throttle_percentage to such a part an hour), or on smart_send_on when Klaviyo thinks best. Returns the message_id, by which the campaign can be named from then on';

CREATE FUNCTION @extschema@.klaviyo_assign_template(
    campaign text,
    template text,
    account  text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_assign_template';
COMMENT ON FUNCTION @extschema@.klaviyo_assign_template(text, text, text) IS
    'Queues that the message of a campaign get a copy of a template, by Klaviyo''s id of it. The campaign is named by Klaviyo''s id, or by the message_id of the klaviyo_create_campaign() that makes it. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_estimate_campaign(
    campaign text,
    account  text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_estimate_campaign';
COMMENT ON FUNCTION @extschema@.klaviyo_estimate_campaign(text, text) IS
    'Queues that Klaviyo count to how many people a campaign would go, named as for klaviyo_assign_template(); once counted that is in klaviyo.campaign, and in the answer of klaviyo_await(). Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_send_campaign(
    campaign text,
    account  text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_send_campaign';
COMMENT ON FUNCTION @extschema@.klaviyo_send_campaign(text, text) IS
    'Queues that a campaign be sent, or scheduled, as it was made to be, named as for klaviyo_assign_template(). Only a draft is sent, and never twice: where nobody knows whether it was, it is put aside with code ambiguous for a person to decide. klaviyo.campaign shows how it goes on. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_cancel_campaign(
    campaign text,
    revert   boolean DEFAULT false,
    account  text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_cancel_campaign';
COMMENT ON FUNCTION @extschema@.klaviyo_cancel_campaign(text, boolean, text) IS
    'Queues that a campaign be sent to nobody any more, named as for klaviyo_assign_template(): cancelled for good, or with revert a draft again. A klaviyo_send_campaign() that still waits is discarded. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_call(
    method  text,
    path    text,
    body    jsonb DEFAULT NULL,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_call';
COMMENT ON FUNCTION @extschema@.klaviyo_call(text, text, jsonb, text) IS
    'Queues any call of Klaviyo''s API: its method, its path with a query as they stand in an address, and its body. It goes in the lane and within the limits of its path; klaviyo_await() tells the answer. Calls of one path go one after the other, and one whose body names one person is in order with all else about that person. Where the answer is lost a GET or DELETE is made again; a POST or PATCH becomes a dead letter with code ambiguous. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_merge_profiles(
    keep    text,
    merge   text,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_merge_profiles';
COMMENT ON FUNCTION @extschema@.klaviyo_merge_profiles(text, text, text) IS
    'Queues that two profiles become one at Klaviyo, by Klaviyo''s ids: the data of merge go into keep, and merge is deleted, which nobody can undo. Not in order with what is queued by other identifiers. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_subscribe(
    email             text DEFAULT NULL,
    phone_number      text DEFAULT NULL,
    list              text DEFAULT NULL,
    channels          text[] DEFAULT NULL,
    consented_at      timestamptz DEFAULT NULL,
    historical_import boolean DEFAULT false,
    custom_source     text DEFAULT NULL,
    date_of_birth     date DEFAULT NULL,
    account           text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_subscribe';
COMMENT ON FUNCTION @extschema@.klaviyo_subscribe(text, text, text, text[], timestamptz, boolean, text, date, text) IS
    'Queues that a person consents to be written to, and comes onto a list, by its id or its name, if one is given. Sent when the transaction has committed, in order with all else about the person. channels are email, sms and sms_transactional; NULL means email where there is an email, and sms where there is a phone_number. historical_import: consent of the past, given at consented_at, which starts no flow and is not confirmed anew. date_of_birth is for accounts that sell by age. It lifts what a person did to be written to no more, and a suppression. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_unsubscribe(
    email        text DEFAULT NULL,
    phone_number text DEFAULT NULL,
    list         text DEFAULT NULL,
    channels     text[] DEFAULT NULL,
    account      text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_unsubscribe';
COMMENT ON FUNCTION @extschema@.klaviyo_unsubscribe(text, text, text, text[], text) IS
    'Queues that a person consents no more: to anything of these channels (as those of klaviyo_subscribe()), or, with a list, by its id or its name, to that list. Of a list Klaviyo is asked first whether the person is on it: who is not stays as they are, and the message becomes a dead letter with code not_on_list, for Klaviyo would unsubscribe them from everything. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_suppress(
    email   text,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_suppress';
COMMENT ON FUNCTION @extschema@.klaviyo_suppress(text, text) IS
    'Queues that no e-mail marketing goes to an address any more, whatever the person has agreed to. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_unsuppress(
    email   text,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_unsuppress';
COMMENT ON FUNCTION @extschema@.klaviyo_unsuppress(text, text) IS
    'Queues that klaviyo_suppress() of an address be taken back. Who has unsubscribed, or whose mailbox refuses mail, stays so. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_create_list(
    name    text,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_create_list';
COMMENT ON FUNCTION @extschema@.klaviyo_create_list(text, text) IS
    'Queues that a list be made with that name. Klaviyo allows 150 a day. Where it has one of that name, the message becomes a dead letter with code list_exists: others name lists by their names. klaviyo_await() tells the id of the new one. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_rename_list(
    list    text,
    name    text,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_rename_list';
COMMENT ON FUNCTION @extschema@.klaviyo_rename_list(text, text, text) IS
    'Queues that a list, by its id or its name, have another name. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_delete_list(
    list    text,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_delete_list';
COMMENT ON FUNCTION @extschema@.klaviyo_delete_list(text, text) IS
    'Queues that a list, by its id or its name, be deleted for good; its members stay who they are. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_add_to_list(
    list         text,
    email        text DEFAULT NULL,
    phone_number text DEFAULT NULL,
    external_id  text DEFAULT NULL,
    account      text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_add_to_list';
COMMENT ON FUNCTION @extschema@.klaviyo_add_to_list(text, text, text, text, text) IS
    'Queues that a person come onto a list, by its id or its name, whatever the person has agreed to: klaviyo_subscribe() is for consent. Klaviyo is asked first which profile has that email, phone_number or external_id; where none has, the message becomes a dead letter with code no_such_profile. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_remove_from_list(
    list         text,
    email        text DEFAULT NULL,
    phone_number text DEFAULT NULL,
    external_id  text DEFAULT NULL,
    account      text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_remove_from_list';
COMMENT ON FUNCTION @extschema@.klaviyo_remove_from_list(text, text, text, text, text) IS
    'Queues that a person leave a list, by its id or its name, and what the person has agreed to stays as it is: klaviyo_unsubscribe() is for consent. As klaviyo_add_to_list() otherwise. Returns the message_id';

CREATE FUNCTION klaviyo.refuse_message(kind text, account text, code text, message text, detail text, hint text, given jsonb)
RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_refuse_message';
COMMENT ON FUNCTION klaviyo.refuse_message(text, text, text, text, text, text, jsonb) IS
    'Refuses a message, for a reason by its code: raises an error, or, where klaviyo.on_invalid is dead_letter, writes one with what was given and returns its message_id';

-- Takes: an item as a shop knows it. Returns: as Klaviyo names it, what else it has as it is.
CREATE FUNCTION klaviyo.purchased_item(item jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (item - ARRAY['product_id', 'sku', 'name', 'quantity', 'price', 'row_total', 'url', 'image_url', 'categories', 'brand'])
        || jsonb_strip_nulls(jsonb_build_object(
            'ProductID', item -> 'product_id',
            'SKU', item -> 'sku',
            'ProductName', item -> 'name',
            'Quantity', coalesce(nullif(item -> 'quantity', 'null'), '1'),
            'ItemPrice', item -> 'price',
            'RowTotal', coalesce(nullif(item -> 'row_total', 'null'), to_jsonb((item ->> 'price')::numeric * coalesce((item ->> 'quantity')::numeric, 1))),
            'ProductURL', item -> 'url',
            'ImageURL', item -> 'image_url',
            'Categories', item -> 'categories',
            'Brand', item -> 'brand'
        ))
$$;
COMMENT ON FUNCTION klaviyo.purchased_item(jsonb) IS
    'An item of klaviyo_track_purchase() under the names that Klaviyo''s templates use';

-- Takes: the items of a purchase. Returns: what is wrong with them; NULL where nothing is.
CREATE FUNCTION klaviyo.items_fault(items jsonb) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN jsonb_typeof(items) <> 'array' THEN 'It is not an array.'
        ELSE (
            SELECT format(
                'Item %s %s.', i.number,
                CASE
                    WHEN jsonb_typeof(i.item) <> 'object' THEN 'is not an object'
                    WHEN coalesce(i.item ->> 'product_id', '') = '' THEN 'has no product_id'
                    WHEN jsonb_typeof(i.item -> 'product_id') NOT IN ('string', 'number') THEN 'has a product_id that is neither text nor a number'
                    ELSE format('has a %s that is not a number', wrong.name)
                END
            )
            FROM jsonb_array_elements(CASE jsonb_typeof(items) WHEN 'array' THEN items ELSE '[]' END) WITH ORDINALITY AS i (item, number)
            LEFT JOIN LATERAL (
                SELECT n.name
                FROM unnest(ARRAY['quantity', 'price', 'row_total']) AS n (name)
                WHERE jsonb_typeof(i.item) = 'object' AND jsonb_typeof(i.item -> n.name) NOT IN ('number', 'null')
                LIMIT 1
            ) AS wrong ON true
            WHERE jsonb_typeof(i.item) <> 'object'
               OR coalesce(i.item ->> 'product_id', '') = ''
               OR jsonb_typeof(i.item -> 'product_id') NOT IN ('string', 'number')
               OR wrong.name IS NOT NULL
            ORDER BY i.number
            LIMIT 1
        )
    END
$$;
COMMENT ON FUNCTION klaviyo.items_fault(jsonb) IS 'What is wrong with the items of klaviyo_track_purchase(), if anything is';

-- Takes: items under Klaviyo's names, and a name. Returns: what they have under it, each once; what is an array by its elements.
CREATE FUNCTION klaviyo.of_items(items jsonb, name text) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_agg(DISTINCT v.value)
    FROM jsonb_array_elements(items) AS i
    CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(i -> name) WHEN 'array' THEN i -> name ELSE jsonb_build_array(i -> name) END) AS v
    WHERE i ? name
$$;
COMMENT ON FUNCTION klaviyo.of_items(jsonb, text) IS 'What the items of a purchase have under a name, each value once';

-- Takes: an order's or a product's id. Returns: what stands for it between underscores, of which it then has none.
CREATE FUNCTION klaviyo.id_part(id text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT replace(replace(id, '%', '%25'), '_', '%5F')
$$;
COMMENT ON FUNCTION klaviyo.id_part(text) IS 'An id as a part of a unique_id whose parts are joined by underscores, so that no two purchases come to the same';

-- Takes: an order. Returns: the message_id of Placed Order. Queues that, and then an Ordered Product for each item. Each has
-- a unique_id by which Klaviyo knows it again, so a purchase that is queued twice counts once: order_id, and order_id with
-- product_id, which is numbered where a product stands in several items.
CREATE FUNCTION @extschema@.klaviyo_track_purchase(
    email          text DEFAULT NULL,
    order_id       text DEFAULT NULL,
    total          numeric DEFAULT NULL,
    items          jsonb DEFAULT NULL,
    currency       text DEFAULT NULL,
    discount_code  text DEFAULT NULL,
    discount_value numeric DEFAULT NULL,
    properties     jsonb DEFAULT NULL,
    event_time     timestamptz DEFAULT NULL,
    phone_number   text DEFAULT NULL,
    external_id    text DEFAULT NULL,
    profile        jsonb DEFAULT NULL,
    account        text DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fault     text;
    purchased jsonb;
    of_order  jsonb;
    placed    uuid;
    item      record;
BEGIN
    IF coalesce(btrim(order_id), '') = '' THEN
        RETURN klaviyo.refuse_message(
            'event', account, 'invalid_order_id', 'argument "order_id" is not an order''s', 'It is NULL or blank.',
            'Pass the primary key of the order''s row, as text: by it Klaviyo knows the order again.',
            jsonb_strip_nulls(jsonb_build_object('email', email, 'phone_number', phone_number, 'external_id', external_id, 'total', total, 'items', items))
        );
    END IF;
    fault := klaviyo.items_fault(items);
    IF fault IS NOT NULL THEN
        RETURN klaviyo.refuse_message(
            'event', account, 'invalid_items', 'argument "items" is not a list of items', fault,
            'Pass an array of objects such as {"product_id": "A1", "name": "Shirt", "quantity": 2, "price": 19.90}.',
            jsonb_strip_nulls(jsonb_build_object('email', email, 'phone_number', phone_number, 'external_id', external_id, 'order_id', order_id, 'total', total, 'items', items))
        );
    END IF;
    SELECT coalesce(jsonb_agg(klaviyo.purchased_item(i.item) ORDER BY i.number), '[]')
    INTO purchased
    FROM jsonb_array_elements(coalesce(items, '[]')) WITH ORDINALITY AS i (item, number);

    of_order := jsonb_strip_nulls(jsonb_build_object(
        'OrderId', order_id,
        'DiscountCode', discount_code,
        'DiscountValue', discount_value,
        'ItemNames', klaviyo.of_items(purchased, 'ProductName'),
        'Categories', klaviyo.of_items(purchased, 'Categories'),
        'Brands', klaviyo.of_items(purchased, 'Brand')
    )) || jsonb_build_object('Items', purchased) || coalesce(properties, '{}');
    placed := @extschema@.klaviyo_track_event(
        'Placed Order', email, properties => of_order, value => total, value_currency => currency, unique_id => order_id,
        event_time => event_time, phone_number => phone_number, external_id => external_id, profile => profile, account => account
    );
    FOR item IN
        SELECT i.item, i.item ->> 'ProductID' AS product_id,
               row_number() OVER (PARTITION BY i.item ->> 'ProductID' ORDER BY i.number) AS nth
        FROM jsonb_array_elements(purchased) WITH ORDINALITY AS i (item, number)
        ORDER BY i.number
    LOOP
        PERFORM @extschema@.klaviyo_track_event(
            'Ordered Product', email,
            properties => (item.item - 'Brand') || jsonb_strip_nulls(jsonb_build_object('OrderId', order_id, 'ProductBrand', item.item -> 'Brand')),
            value => (item.item ->> 'RowTotal')::numeric, value_currency => currency,
            unique_id => concat_ws('_', klaviyo.id_part(order_id), klaviyo.id_part(item.product_id), nullif(item.nth, 1)), event_time => event_time,
            phone_number => phone_number, external_id => external_id, account => account
        );
    END LOOP;
    RETURN placed;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_track_purchase(text, text, numeric, jsonb, text, text, numeric, jsonb, timestamptz, text, text, jsonb, text) IS
    'Queues an order as Klaviyo''s own integrations tell of it: an event Placed Order, worth total, and for each item one Ordered Product, worth price times quantity or its row_total. items is an array of objects with product_id, sku, name, quantity, price, row_total, url, image_url, categories, brand, of which product_id alone must be there, and whatever else; properties are added to those of Placed Order. A purchase that is queued again under its order_id counts once. Returns the message_id of Placed Order';

-- Capture: triggers made from what a person says of a table's columns. Triggers and their functions are the table's
-- owner's, and no members of the extension: dumps carry them with the table.

CREATE TABLE klaviyo.mapping (
    id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind      text NOT NULL,
    name      text NOT NULL,
    account   text NOT NULL,
    spec      jsonb NOT NULL,
    plan      jsonb NOT NULL,
    relation  oid NOT NULL,
    table_name text NOT NULL,
    made_at   timestamptz NOT NULL DEFAULT now(),
    paused_at timestamptz,
    notes_keys boolean NOT NULL DEFAULT false,
    writes_back boolean NOT NULL DEFAULT false,
    writes_back_after text
);
COMMENT ON TABLE klaviyo.mapping IS 'What was said of tables whose rows are sent; see the view sync, which knows the tables';
COMMENT ON COLUMN klaviyo.mapping.id IS 'Number; its function is called klaviyo_sync_ and this, its triggers that and what they are for';
COMMENT ON COLUMN klaviyo.mapping.kind IS 'Kind of message that is queued: event or profile';
COMMENT ON COLUMN klaviyo.mapping.name IS 'Name, by which a table''s mappings are told apart; if nothing else was said an event''s metric, or profile';
COMMENT ON COLUMN klaviyo.mapping.account IS 'Account that the messages go to';
COMMENT ON COLUMN klaviyo.mapping.spec IS 'What was said of the columns, argument by argument';
COMMENT ON COLUMN klaviyo.mapping.plan IS 'What that comes to, as SQL over a row, with every name resolved: what its function is written from';
COMMENT ON COLUMN klaviyo.mapping.relation IS 'Table, by its number, which a dump that is restored has another of';
COMMENT ON COLUMN klaviyo.mapping.table_name IS 'Its name, in full, by which it is known in a dump that is restored';
COMMENT ON COLUMN klaviyo.mapping.made_at IS 'When it was attached, or last replaced';
COMMENT ON COLUMN klaviyo.mapping.paused_at IS 'Since when nothing is captured; NULL: not paused';
COMMENT ON COLUMN klaviyo.mapping.notes_keys IS 'Whether rows that are captured are noted in captured_key, so that no backfill sends them: until one is done';
COMMENT ON COLUMN klaviyo.mapping.writes_back IS 'Whether what Klaviyo changes is written back into the table: direction is both';
COMMENT ON COLUMN klaviyo.mapping.writes_back_after IS 'Up to which profile what was known before is to be written back by now; NULL: up to the last';

SELECT pg_catalog.pg_extension_config_dump('klaviyo.mapping', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.mapping_id_seq', '');

-- Found by its triggers: they go with a table that is dropped, stay with one that is renamed, and come with one that is
-- restored. Whoever calls his own triggers so is not found where the table is there.
CREATE VIEW klaviyo.sync AS
SELECT DISTINCT ON (m.id)
       m.id, t.relation::regclass AS relation, m.name, m.kind, m.account,
       CASE
           WHEN m.relation <> t.relation THEN 'copied'
           WHEN m.paused_at IS NOT NULL THEN 'paused'
           WHEN NOT t.enabled THEN 'disabled'
           ELSE 'on'
       END AS state,
       m.spec, t.function::regproc AS function, m.made_at, m.paused_at
FROM klaviyo.mapping AS m
JOIN (
    SELECT t.tgrelid AS relation, split_part(t.tgname, '_', 3)::integer AS id, min(t.tgfoid) AS function,
           bool_and(t.tgenabled <> 'D') AS enabled, c.relispartition AS is_partition,
           format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_trigger AS t
    JOIN pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE t.tgname ~ '^klaviyo_sync_[0-9]{1,9}_(insert|update|delete)$' AND NOT t.tgisinternal
    GROUP BY 1, 2, c.relispartition, n.nspname, c.relname
) AS t USING (id)
ORDER BY m.id, m.relation <> t.relation, m.table_name <> t.name, t.is_partition, t.relation;
COMMENT ON VIEW klaviyo.sync IS 'What is attached to which table; see klaviyo_sync_show() for the triggers themselves';
COMMENT ON COLUMN klaviyo.sync.id IS 'Number; its function is called klaviyo_sync_ and this, its triggers that and what they are for';
COMMENT ON COLUMN klaviyo.sync.relation IS 'Table';
COMMENT ON COLUMN klaviyo.sync.name IS 'Name, by which a table''s mappings are told apart';
COMMENT ON COLUMN klaviyo.sync.kind IS 'Kind of message that is queued: event or profile';
COMMENT ON COLUMN klaviyo.sync.account IS 'Account that the messages go to';
COMMENT ON COLUMN klaviyo.sync.state IS 'on; paused: klaviyo_sync_resume() ends that; disabled: a trigger of its is, by ALTER TABLE; copied: it came in a dump, and captures nothing until its account is armed here';
COMMENT ON COLUMN klaviyo.sync.spec IS 'What was said of the columns, argument by argument';
COMMENT ON COLUMN klaviyo.sync.function IS 'What its triggers call';
COMMENT ON COLUMN klaviyo.sync.made_at IS 'When it was attached, or last replaced';
COMMENT ON COLUMN klaviyo.sync.paused_at IS 'Since when nothing is captured; NULL: not paused';

CREATE FUNCTION @extschema@.klaviyo_sync_events(
    relation       regclass,
    metric         text,
    email          text DEFAULT NULL,
    phone_number   text DEFAULT NULL,
    external_id    text DEFAULT NULL,
    value          text DEFAULT NULL,
    value_currency text DEFAULT NULL,
    unique_id      text DEFAULT NULL,
    event_time     text DEFAULT NULL,
    properties     jsonb DEFAULT NULL,
    profile        jsonb DEFAULT NULL,
    "when"         text DEFAULT NULL,
    "on"           text DEFAULT 'insert',
    at             text DEFAULT 'statement',
    replicated     boolean DEFAULT false,
    name           text DEFAULT NULL,
    account        text DEFAULT NULL,
    replace        boolean DEFAULT false
) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_events';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_events(regclass, text, text, text, text, text, text, text, text, jsonb, jsonb, text, text, text, boolean, text, text, boolean) IS
    'Has rows that are written to a table queue events, by triggers that klaviyo_sync_show() shows. "on" is insert (the default), update, delete, or some of them: insert or update. An update is an event where the row then meets "when" and did not before. at is statement (the default), or commit: with the end of the transaction, as the row and what belongs to it are then. With replicated rows that logical replication applies count, too. Other arguments than metric, "on", at, name and account name a column or are an SQL expression over the row, a look-up in another table included: (SELECT u.email FROM users AS u WHERE u.id = row.user_id). properties and profile are a list of columns ("*": all, "-name": not that one), a map of names to expressions, lists or maps, or one expression. Only rows for which "when" is true are sent. Whoever calls must have the rights of the table''s owner, who must be a klaviyo_writer. With replace the mapping of that name is changed to this one. Returns the number of the mapping';

CREATE FUNCTION @extschema@.klaviyo_sync_profiles(
    relation     regclass,
    email        text DEFAULT NULL,
    phone_number text DEFAULT NULL,
    external_id  text DEFAULT NULL,
    first_name   text DEFAULT NULL,
    last_name    text DEFAULT NULL,
    organization text DEFAULT NULL,
    title        text DEFAULT NULL,
    locale       text DEFAULT NULL,
    image        text DEFAULT NULL,
    location     jsonb DEFAULT NULL,
    properties   jsonb DEFAULT NULL,
    "when"       text DEFAULT NULL,
    on_delete    text DEFAULT 'keep',
    replicated   boolean DEFAULT false,
    name         text DEFAULT 'profile',
    account      text DEFAULT NULL,
    replace      boolean DEFAULT false,
    direction    text DEFAULT 'out',
    updated_at   text DEFAULT NULL
) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_profiles';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_profiles(regclass, text, text, text, text, text, text, text, text, text, jsonb, jsonb, text, text, boolean, text, text, boolean, text, text) IS
    'Has rows that are inserted into a table queue the state of a profile, and those that are updated what of it has changed, if anything, by triggers that klaviyo_sync_show() shows. on_delete is keep (the default): a row that is deleted changes nothing at Klaviyo; or request_deletion: klaviyo_request_deletion() is called with its email, or its phone_number if it has none. direction is out (the default), or both: what Klaviyo changes of a profile, as the jobs and klaviyo_pull_profile() read it, is written back into the columns that are mapped as such, where updated_at says when a row was last changed: of a field that both have changed the later value stands, see klaviyo.sync_conflict. Other arguments are as those of klaviyo_sync_events(). Returns the number of the mapping';

CREATE FUNCTION @extschema@.klaviyo_sync_metric(
    relation       regclass,
    metric         text,
    email          text DEFAULT NULL,
    phone_number   text DEFAULT NULL,
    external_id    text DEFAULT NULL,
    value          text DEFAULT NULL,
    value_currency text DEFAULT NULL,
    unique_id      text DEFAULT NULL,
    event_time     text DEFAULT NULL,
    properties     jsonb DEFAULT NULL,
    profile        jsonb DEFAULT NULL,
    "when"         text DEFAULT NULL,
    "on"           text DEFAULT NULL,
    at             text DEFAULT NULL,
    replicated     boolean DEFAULT false,
    name           text DEFAULT NULL,
    account        text DEFAULT NULL,
    replace        boolean DEFAULT false,
    items          jsonb DEFAULT NULL,
    items_from     text DEFAULT NULL
) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_metric';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_metric(regclass, text, text, text, text, text, text, text, text, jsonb, jsonb, text, text, text, boolean, text, text, boolean, jsonb, text) IS
    'As klaviyo_sync_events(), for a metric that every shop has, with the properties that Klaviyo''s standard flows and reports look at: Placed Order, Ordered Product, Fulfilled Order, Cancelled Order, Refunded Order, Started Checkout, Viewed Product, Active on Site. items says what an order''s items are made of, field by field, and items_from where they stand, as after FROM: order_items AS i WHERE i.order_id = row.id. If nobody says otherwise, metrics with items are looked at with the end of the transaction, unique_id is the primary key, and what becomes of an order later is an event of an insert or update that meets "when". Returns the number of the mapping';

CREATE FUNCTION @extschema@.klaviyo_sync_detach(relation regclass, name text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_detach';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_detach(regclass, text) IS
    'Takes a table''s mapping of that name away, or all, triggers and function included. What was queued stays so. Returns how many';

CREATE FUNCTION @extschema@.klaviyo_sync_pause(relation regclass, name text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_pause';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_pause(regclass, text) IS
    'Has a table''s mapping of that name, or all, capture nothing of what is written from now on, without waiting for anybody who writes. Returns how many';

CREATE FUNCTION @extschema@.klaviyo_sync_resume(relation regclass, name text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_sync_resume';
COMMENT ON FUNCTION @extschema@.klaviyo_sync_resume(regclass, text) IS
    'Has a table''s mapping of that name, or all, capture again. What was written meanwhile was not captured. Returns how many';

CREATE FUNCTION @extschema@.klaviyo_sync_show(relation regclass, name text DEFAULT NULL) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(rtrim(pg_get_functiondef(f.oid), E'\n') || E';\n\n' || f.triggers, E'\n\n' ORDER BY s.id)
    FROM klaviyo.sync AS s
    CROSS JOIN LATERAL (
        SELECT t.tgfoid, string_agg(pg_get_triggerdef(t.oid) || ';', E'\n' ORDER BY t.oid)
        FROM pg_trigger AS t
        WHERE t.tgfoid = s.function AND t.tgname ~ format('^klaviyo_sync_%s_(insert|update|delete)$', s.id)
        GROUP BY t.tgfoid
    ) AS f (oid, triggers)
    WHERE s.relation = klaviyo_sync_show.relation
      AND (klaviyo_sync_show.name IS NULL OR s.name = klaviyo_sync_show.name)
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_sync_show(regclass, text) IS
    'The SQL of a table''s mapping of that name, or of all: what runs when a row is written. NULL where there is none';

-- Preview -----------------------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.check_event(
    metric text, email text, properties jsonb, value numeric, value_currency text, unique_id text, event_time timestamptz,
    phone_number text, external_id text, profile jsonb
) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_check_event';
COMMENT ON FUNCTION klaviyo.check_event(text, text, jsonb, numeric, text, text, timestamptz, text, text, jsonb) IS
    'What klaviyo_track_event() would send, or why it would refuse, as JSON; nothing is queued';

CREATE FUNCTION klaviyo.check_changes(new jsonb, old jsonb) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_check_changes';
COMMENT ON FUNCTION klaviyo.check_changes(jsonb, jsonb) IS
    'What klaviyo_upsert_changes() would send, or why it would refuse, as JSON; nothing is queued';

CREATE FUNCTION klaviyo.preview_rows(relation regclass, name text, "limit" integer, place integer, keys_only boolean) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_preview_rows';
COMMENT ON FUNCTION klaviyo.preview_rows(regclass, text, integer, integer, boolean) IS
    'What klaviyo_preview() shows of a mapping''s last rows but for so many, as a JSON array';

CREATE FUNCTION @extschema@.klaviyo_preview(
    relation regclass,
    "limit"  integer DEFAULT 10,
    name     text DEFAULT NULL
) RETURNS TABLE (mapping text, key text[], request json, code text, reason text, hint text)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    one    text;
    failed text;
    advice text;
BEGIN
    -- Refuses a table that is not the caller's, mapped or not.
    PERFORM klaviyo.preview_rows(relation, NULL, 0, 0, true);
    FOR one IN
        SELECT s.name
        FROM klaviyo.sync AS s
        WHERE s.relation = klaviyo_preview.relation AND (klaviyo_preview.name IS NULL OR s.name = klaviyo_preview.name)
        ORDER BY s.id
    LOOP
        BEGIN
            RETURN QUERY
            SELECT one, ARRAY(SELECT json_array_elements_text(p.key)), p.checked -> 'request', p.checked ->> 'code', p.checked ->> 'reason', p.checked ->> 'hint'
            FROM json_to_recordset(klaviyo.preview_rows(relation, one, "limit", 0, false)::json) AS p (key json, checked json);
            CONTINUE;
        EXCEPTION
            -- Of some row it cannot be computed: of which?
            WHEN SQLSTATE 'KS051' THEN
                NULL;
        END;
        FOR place IN 0 .. "limit" - 1 LOOP
            BEGIN
                RETURN QUERY
                SELECT one, ARRAY(SELECT json_array_elements_text(p.key)), p.checked -> 'request', p.checked ->> 'code', p.checked ->> 'reason', p.checked ->> 'hint'
                FROM json_to_recordset(klaviyo.preview_rows(relation, one, 1, place, false)::json) AS p (key json, checked json);
            EXCEPTION
                WHEN SQLSTATE 'KS051' THEN
                    GET STACKED DIAGNOSTICS failed = PG_EXCEPTION_DETAIL, advice = PG_EXCEPTION_HINT;
                    RETURN QUERY
                    SELECT one, ARRAY(SELECT json_array_elements_text(p.key)), NULL::json, 'broken_mapping', failed, advice
                    FROM json_to_recordset(klaviyo.preview_rows(relation, one, 1, place, true)::json) AS p (key json);
            END;
            EXIT WHEN NOT FOUND;
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_preview(regclass, integer, text) IS
    'What a table''s mapping of that name, or each of them, would send of the last rows by primary key for which its "when" is true: the body of the call to Klaviyo, or why it would be refused; broken_mapping where it cannot be computed. Nothing is queued. A message''s own id, and so an event''s unique_id where it has no other, is shown as zeros';

-- Faults ------------------------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.check_mapping(relation regclass, plan jsonb) RETURNS void
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_check_mapping';
COMMENT ON FUNCTION klaviyo.check_mapping(regclass, jsonb) IS
    'Raises an error if what a mapping says of a table''s rows is understood no more. Nothing of it is computed';

CREATE FUNCTION klaviyo.mapping_fault(relation regclass, plan jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
-- Whoever changes the table is not waited for.
SET lock_timeout = '100ms'
AS $$
BEGIN
    PERFORM klaviyo.check_mapping(relation, plan);
    RETURN NULL;
EXCEPTION
    WHEN lock_not_available THEN
        RETURN NULL;
    WHEN OTHERS THEN
        RETURN SQLERRM;
END
$$;
COMMENT ON FUNCTION klaviyo.mapping_fault(regclass, jsonb) IS 'What has become wrong with a mapping since it was made; NULL: nothing';

-- What triggers ask and tell ------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.is_capturing(mapping integer, relation oid) RETURNS boolean
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_is_capturing';
COMMENT ON FUNCTION klaviyo.is_capturing(integer, oid) IS
    'Whether what is written to a table is captured: not where the mapping is paused, not in a copy that is not armed, and not what a subscription copies when it begins';

CREATE FUNCTION klaviyo.fault_to_bury(mapping integer) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_fault_to_bury';
COMMENT ON FUNCTION klaviyo.fault_to_bury(integer) IS
    'What has become wrong with a mapping, where klaviyo.on_invalid says that such rows become dead letters; NULL: nothing, or that the statement is to fail';

CREATE FUNCTION klaviyo.bury_row(account text, kind text, "row" jsonb, fault text) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_bury_row';
COMMENT ON FUNCTION klaviyo.bury_row(text, text, jsonb, text) IS 'Makes a dead letter of a row of which no message can be made. Returns its message_id';

-- Copies --------------------------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.adopt_mappings(account text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_adopt_mappings';
COMMENT ON FUNCTION klaviyo.adopt_mappings(text) IS 'Has an account''s mappings that came in a dump capture what is written to the tables here';

-- Tables that change --------------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.follow_table(relation oid) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_follow_table';
COMMENT ON FUNCTION klaviyo.follow_table(oid) IS 'Brings the triggers of a table, its partitions'' included, and their functions in line with what it has become';

-- It has the extension's rights: partitions may be of other owners.
CREATE FUNCTION klaviyo.follow_tables() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed  regclass;
    attached record;
BEGIN
    -- Of all that are changed in a database the fewest are mapped.
    IF NOT EXISTS (SELECT FROM klaviyo.mapping) THEN
        RETURN;
    END IF;
    FOR changed IN
        WITH command AS (
            SELECT c.objid FROM pg_event_trigger_ddl_commands() AS c WHERE c.classid = 'pg_class'::regclass
            UNION
            -- Of a schema that is renamed all tables, and of ours all that are mapped.
            SELECT s.relation::oid
            FROM pg_event_trigger_ddl_commands() AS c
            JOIN klaviyo.sync AS s ON true
            JOIN pg_class AS t ON t.oid = s.relation
            WHERE c.classid = 'pg_namespace'::regclass
              AND (t.relnamespace = c.objid
                   OR c.objid = (SELECT e.extnamespace FROM pg_extension AS e WHERE e.extname = 'klaviyo_sync'))
        )
        SELECT coalesce(pg_partition_root(c.objid), c.objid::regclass) FROM command AS c
        UNION
        SELECT i.inhparent FROM command AS c JOIN pg_inherits AS i ON i.inhrelid = c.objid
    LOOP
        SELECT s.relation, s.name
        INTO attached
        FROM klaviyo.sync AS s
        JOIN pg_class AS c ON c.oid = s.relation
        WHERE c.relispartition AND s.state <> 'copied' AND pg_partition_root(s.relation) = changed;
        IF FOUND THEN
            RAISE EXCEPTION 'mapping "%" of % is in the way', attached.name, attached.relation
                USING ERRCODE = 'KS050', DETAIL = 'What is written to a partition through its table calls no trigger of the partition''s.',
                      HINT = format(
                          'Take it away with SELECT klaviyo_sync_detach(%L), and map %s as a whole.', attached.relation::text, changed);
        END IF;
        IF EXISTS (SELECT FROM klaviyo.sync AS s WHERE s.relation = changed AND s.state <> 'copied') THEN
            PERFORM klaviyo.follow_table(changed);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION klaviyo.follow_tables() IS 'Has mappings follow what is done to their tables';

CREATE EVENT TRIGGER klaviyo_sync ON ddl_command_end
WHEN TAG IN ('ALTER FOREIGN TABLE', 'ALTER SCHEMA', 'ALTER TABLE', 'CREATE FOREIGN TABLE', 'CREATE SCHEMA', 'CREATE TABLE')
EXECUTE FUNCTION klaviyo.follow_tables();
COMMENT ON EVENT TRIGGER klaviyo_sync IS 'Has mappings follow what is done to their tables';

-- A mapping's function depends on its table, but pg_upgrade knows nothing of that.
CREATE FUNCTION klaviyo.forget_tables() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone     integer;
    function regprocedure;
BEGIN
    FOR gone IN
        SELECT m.id
        FROM pg_event_trigger_dropped_objects() AS d
        JOIN klaviyo.mapping AS m ON m.relation = d.objid
        WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0
          AND NOT EXISTS (SELECT FROM klaviyo.sync AS s WHERE s.id = m.id)
    LOOP
        DELETE FROM klaviyo.captured_key AS k WHERE k.mapping = gone;
        DELETE FROM klaviyo.mapping AS m WHERE m.id = gone;
        FOR function IN
            SELECT p.oid
            FROM pg_proc AS p
            JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'x'
            JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'klaviyo_sync'
            WHERE p.proname = 'klaviyo_sync_' || gone AND d.refclassid = 'pg_extension'::regclass
              AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgfoid = p.oid)
        LOOP
            EXECUTE format('DROP FUNCTION %s', function);
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION klaviyo.forget_tables() IS 'Has mappings go with their tables';

CREATE EVENT TRIGGER klaviyo_sync_drop ON sql_drop
WHEN TAG IN ('DROP OWNED', 'DROP SCHEMA', 'DROP TABLE')
EXECUTE FUNCTION klaviyo.forget_tables();
COMMENT ON EVENT TRIGGER klaviyo_sync_drop IS 'Has mappings go with their tables';

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

CREATE FUNCTION klaviyo.wake_runner() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'klaviyo_wake_runner';
COMMENT ON FUNCTION klaviyo.wake_runner() IS
    'Wakes the runner of this database when the current transaction commits, or has it be started: there is something for it';

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

-- Pulls: what Klaviyo has, read now and then into tables of ours.

-- What is to be read ------------------------------------------------------------------------------------------------

CREATE TABLE klaviyo.job_plan (
    account    text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    job        text NOT NULL,
    every      interval NOT NULL,
    names       text[],
    since      timestamptz,
    options    jsonb,
    paused_at  timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, job),
    CONSTRAINT job_plan_job_check CHECK (
        job IN ('profiles', 'events', 'lists', 'segments', 'campaigns', 'flows', 'metrics', 'aggregates', 'campaign_reports',
                'flow_reports', 'form_reports', 'segment_reports') OR job ~ '^(segment|profile):'
    ),
    CONSTRAINT job_plan_every_check CHECK (every BETWEEN interval '1 minute' AND interval '1000 years')
);
COMMENT ON TABLE klaviyo.job_plan IS 'What is read of Klaviyo, and how often, see klaviyo_set_job()';
COMMENT ON COLUMN klaviyo.job_plan.account IS 'Account';
COMMENT ON COLUMN klaviyo.job_plan.job IS 'What it reads: profiles, events, lists, segments, campaigns, flows, metrics, aggregates, campaign_reports, flow_reports, form_reports or segment_reports; segment: and its id, or profile: and its address, for one that a statement waits for, which klaviyo.job leaves out';
COMMENT ON COLUMN klaviyo.job_plan.every IS 'Time between the beginnings of two runs';
COMMENT ON COLUMN klaviyo.job_plan.names IS 'Metrics of which events or aggregates are read, or lists or segments of which members are, by name or Klaviyo''s id; NULL: all';
COMMENT ON COLUMN klaviyo.job_plan.since IS 'What was last updated, or has happened, before that is not read; NULL: all is, of aggregates and reports by the day the last year';
COMMENT ON COLUMN klaviyo.job_plan.options IS 'What else klaviyo_set_job() was told; NULL: nothing';
COMMENT ON COLUMN klaviyo.job_plan.paused_at IS 'When klaviyo_pause_job() was called; NULL if it is not paused';
COMMENT ON COLUMN klaviyo.job_plan.created_at IS 'When it was added';
COMMENT ON COLUMN klaviyo.job_plan.changed_at IS 'When klaviyo_set_job(), klaviyo_pause_job() or klaviyo_resume_job() last changed it';

-- How far it is. None of the tables from here on is carried by a dump: they are read anew.
CREATE TABLE klaviyo.job_run (
    account         text NOT NULL,
    job             text NOT NULL,
    run_at          timestamptz,
    started_at      timestamptz,
    step            text,
    step_started_at timestamptz,
    step_lacks_rows boolean NOT NULL DEFAULT false,
    item            text,
    read_from       timestamptz,
    cursor          text,
    read_until      timestamptz,
    page_size       integer,
    restarts        integer NOT NULL DEFAULT 0,
    pages           bigint NOT NULL DEFAULT 0,
    rows_read       bigint NOT NULL DEFAULT 0,
    rows_changed    bigint NOT NULL DEFAULT 0,
    rows_removed    bigint NOT NULL DEFAULT 0,
    rows_unreadable bigint NOT NULL DEFAULT 0,
    failures        integer NOT NULL DEFAULT 0,
    again_at        timestamptz,
    error           text,
    refusal         text,
    last_started_at timestamptz,
    last_ended_at   timestamptz,
    last_outcome    text,
    last_error      text,
    PRIMARY KEY (account, job),
    FOREIGN KEY (account, job) REFERENCES klaviyo.job_plan ON DELETE CASCADE,
    CONSTRAINT job_run_last_outcome_check CHECK (last_outcome IN ('complete', 'failed'))
);
COMMENT ON TABLE klaviyo.job_run IS 'How far each job is, and how its last run has ended; klaviyo.job shows it with the plan';
COMMENT ON COLUMN klaviyo.job_run.account IS 'Account';
COMMENT ON COLUMN klaviyo.job_run.job IS 'Job';
COMMENT ON COLUMN klaviyo.job_run.run_at IS 'When a run was asked for that is not under way yet; NULL: the next begins when its time comes';
COMMENT ON COLUMN klaviyo.job_run.started_at IS 'When the run began that is under way; NULL: none is';
COMMENT ON COLUMN klaviyo.job_run.step IS 'What is being read: metrics, listing or members';
COMMENT ON COLUMN klaviyo.job_run.step_started_at IS 'When that was begun';
COMMENT ON COLUMN klaviyo.job_run.step_lacks_rows IS 'Whether some of its rows cannot be read, so that nobody knows what is no more';
COMMENT ON COLUMN klaviyo.job_run.item IS 'Of which metric, list, segment or channel, by Klaviyo''s id; of aggregates with the dimension behind it, of reports the metric of conversions; empty: of all';
COMMENT ON COLUMN klaviyo.job_run.read_from IS 'From when on it is read; NULL: from the beginning';
COMMENT ON COLUMN klaviyo.job_run.cursor IS 'Klaviyo''s name of the next page; NULL: it is the first';
COMMENT ON COLUMN klaviyo.job_run.read_until IS 'Up to when all has been read, by the rows of the last page, or of aggregates and reports the end of the time that is being read; NULL where rows have no order of time';
COMMENT ON COLUMN klaviyo.job_run.page_size IS 'Rows that are asked for at a time, if fewer than a page may have';
COMMENT ON COLUMN klaviyo.job_run.restarts IS 'How often a step was begun anew since Klaviyo knew the next page no more';
COMMENT ON COLUMN klaviyo.job_run.pages IS 'Pages read in the run, or in the last if none is under way';
COMMENT ON COLUMN klaviyo.job_run.rows_read IS 'Rows on them';
COMMENT ON COLUMN klaviyo.job_run.rows_changed IS 'Those of them that were new here, or other than here';
COMMENT ON COLUMN klaviyo.job_run.rows_removed IS 'Rows of ours that are no more at Klaviyo, and so no more here';
COMMENT ON COLUMN klaviyo.job_run.rows_unreadable IS 'Rows that nobody can read, and that were left out';
COMMENT ON COLUMN klaviyo.job_run.failures IS 'Calls that have failed, one after the other';
COMMENT ON COLUMN klaviyo.job_run.again_at IS 'When it is tried again, if the last call has failed';
COMMENT ON COLUMN klaviyo.job_run.error IS 'Why it has';
COMMENT ON COLUMN klaviyo.job_run.refusal IS 'What Klaviyo has refused in the run, which went on with all else; the first of it';
COMMENT ON COLUMN klaviyo.job_run.last_started_at IS 'When the last run began that has ended';
COMMENT ON COLUMN klaviyo.job_run.last_ended_at IS 'When it ended';
COMMENT ON COLUMN klaviyo.job_run.last_outcome IS 'complete: all was read; failed: it was not, and what was read before that is kept';
COMMENT ON COLUMN klaviyo.job_run.last_error IS 'Why it has failed';

CREATE TABLE klaviyo.job_mark (
    account    text NOT NULL,
    job        text NOT NULL,
    item       text NOT NULL,
    read_until timestamptz NOT NULL,
    PRIMARY KEY (account, job, item),
    FOREIGN KEY (account, job) REFERENCES klaviyo.job_plan ON DELETE CASCADE
);
COMMENT ON TABLE klaviyo.job_mark IS 'Up to when jobs have read all that Klaviyo has; the next run begins there, but for klaviyo.pull_overlap, or 30 days of aggregates and reports by the day, 90 of those of flows';
COMMENT ON COLUMN klaviyo.job_mark.account IS 'Account';
COMMENT ON COLUMN klaviyo.job_mark.job IS 'Job';
COMMENT ON COLUMN klaviyo.job_mark.item IS 'Of which metric, by Klaviyo''s id, of aggregates with the dimension behind it; empty: of all';
COMMENT ON COLUMN klaviyo.job_mark.read_until IS 'Up to when';

CREATE TABLE klaviyo.job_seen (
    account text NOT NULL,
    job     text NOT NULL,
    id      text NOT NULL,
    PRIMARY KEY (account, job, id),
    FOREIGN KEY (account, job) REFERENCES klaviyo.job_plan ON DELETE CASCADE
);
COMMENT ON TABLE klaviyo.job_seen IS 'What the step of a run that is under way has read: at its end all else of that is removed here';
COMMENT ON COLUMN klaviyo.job_seen.account IS 'Account';
COMMENT ON COLUMN klaviyo.job_seen.job IS 'Job';
COMMENT ON COLUMN klaviyo.job_seen.id IS 'Klaviyo''s id of it';

CREATE TABLE klaviyo.read (
    read_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account  text NOT NULL,
    job      text NOT NULL,
    path     text NOT NULL,
    body     text,
    asked_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT read_once_key UNIQUE (account, job),
    FOREIGN KEY (account, job) REFERENCES klaviyo.job_plan ON DELETE CASCADE
);
COMMENT ON TABLE klaviyo.read IS 'Pages that jobs wait for: the worker asks Klaviyo for them as its limits allow';
COMMENT ON COLUMN klaviyo.read.read_id IS 'Number';
COMMENT ON COLUMN klaviyo.read.account IS 'Account';
COMMENT ON COLUMN klaviyo.read.job IS 'Job';
COMMENT ON COLUMN klaviyo.read.path IS 'Path and query of the call';
COMMENT ON COLUMN klaviyo.read.body IS 'What is sent along by POST; NULL of what is asked for by GET';
COMMENT ON COLUMN klaviyo.read.asked_at IS 'When the job asked for it';

-- The worker only ever inserts here, so that it waits for nobody.
CREATE TABLE klaviyo.read_answer (
    read_id     bigint PRIMARY KEY,
    body        text,
    code        text,
    reason      text,
    http_status integer,
    again       boolean NOT NULL,
    answered_at timestamptz NOT NULL
);
-- It is read once, and soon.
ALTER TABLE klaviyo.read_answer ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE klaviyo.read_answer ALTER COLUMN body SET STATISTICS 0;
COMMENT ON TABLE klaviyo.read_answer IS 'What Klaviyo has answered to klaviyo.read, until the job has taken it';
COMMENT ON COLUMN klaviyo.read_answer.read_id IS 'Which';
COMMENT ON COLUMN klaviyo.read_answer.body IS 'The answer, which is JSON; NULL if the call has failed';
COMMENT ON COLUMN klaviyo.read_answer.code IS 'Klaviyo''s error code, or one of ours, if it has';
COMMENT ON COLUMN klaviyo.read_answer.reason IS 'What went wrong';
COMMENT ON COLUMN klaviyo.read_answer.http_status IS 'HTTP status, if there was an answer';
COMMENT ON COLUMN klaviyo.read_answer.again IS 'Whether the same may be answered another time';
COMMENT ON COLUMN klaviyo.read_answer.answered_at IS 'When that was recorded';

-- What was read -----------------------------------------------------------------------------------------------------

CREATE TABLE klaviyo.profile (
    account       text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    profile_id    text NOT NULL,
    email         text,
    phone_number  text,
    external_id   text,
    first_name    text,
    last_name     text,
    organization  text,
    title         text,
    locale        text,
    image         text,
    location      jsonb,
    properties    jsonb,
    subscriptions jsonb,
    email_consent text GENERATED ALWAYS AS (subscriptions #>> '{email,marketing,consent}') STORED,
    sms_consent   text GENERATED ALWAYS AS (subscriptions #>> '{sms,marketing,consent}') STORED,
    created_at    timestamptz,
    updated_at    timestamptz,
    last_event_at timestamptz,
    pulled_at     timestamptz NOT NULL,
    PRIMARY KEY (account, profile_id)
);
CREATE INDEX profile_email_idx ON klaviyo.profile (lower(email), account);
CREATE INDEX profile_phone_number_idx ON klaviyo.profile (phone_number, account);
-- However long it is.
CREATE INDEX profile_external_id_idx ON klaviyo.profile USING hash (external_id);
COMMENT ON TABLE klaviyo.profile IS 'Profiles as Klaviyo has them, as of the last runs of the jobs profiles, lists and segments';
COMMENT ON COLUMN klaviyo.profile.account IS 'Account';
COMMENT ON COLUMN klaviyo.profile.profile_id IS 'Klaviyo''s id';
COMMENT ON COLUMN klaviyo.profile.email IS 'E-mail address';
COMMENT ON COLUMN klaviyo.profile.phone_number IS 'Phone number, E.164';
COMMENT ON COLUMN klaviyo.profile.external_id IS 'Id in a system of yours';
COMMENT ON COLUMN klaviyo.profile.first_name IS 'First name';
COMMENT ON COLUMN klaviyo.profile.last_name IS 'Last name';
COMMENT ON COLUMN klaviyo.profile.organization IS 'Company or organization';
COMMENT ON COLUMN klaviyo.profile.title IS 'Job title';
COMMENT ON COLUMN klaviyo.profile.locale IS 'Language and country, as en-US';
COMMENT ON COLUMN klaviyo.profile.image IS 'Address of a picture';
COMMENT ON COLUMN klaviyo.profile.location IS 'Postal address, coordinates, time zone';
COMMENT ON COLUMN klaviyo.profile.properties IS 'Properties of your own';
COMMENT ON COLUMN klaviyo.profile.subscriptions IS 'Consent and suppression by channel, as Klaviyo has them';
COMMENT ON COLUMN klaviyo.profile.email_consent IS 'Consent to marketing by e-mail: SUBSCRIBED, UNSUBSCRIBED, NEVER_SUBSCRIBED';
COMMENT ON COLUMN klaviyo.profile.sms_consent IS 'The same by SMS';
COMMENT ON COLUMN klaviyo.profile.created_at IS 'When Klaviyo made it';
COMMENT ON COLUMN klaviyo.profile.updated_at IS 'When Klaviyo last changed it';
COMMENT ON COLUMN klaviyo.profile.last_event_at IS 'When its last event happened';
COMMENT ON COLUMN klaviyo.profile.pulled_at IS 'When it last changed here';

CREATE TABLE klaviyo.deleted_profile (
    message_id uuid NOT NULL REFERENCES klaviyo.deletion ON DELETE CASCADE,
    digest     bytea NOT NULL,
    PRIMARY KEY (message_id, digest)
);
CREATE INDEX deleted_profile_digest_idx ON klaviyo.deleted_profile (digest);
COMMENT ON TABLE klaviyo.deleted_profile IS 'Which profiles were purged here since their deletion was asked for: what Klaviyo still tells of them is not read again';
COMMENT ON COLUMN klaviyo.deleted_profile.message_id IS 'The request, see klaviyo.deletion';
COMMENT ON COLUMN klaviyo.deleted_profile.digest IS 'Which: SHA-256 of the account''s person_salt and Klaviyo''s id';

CREATE TABLE klaviyo.event (
    account     text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    event_id    text NOT NULL,
    metric_id   text,
    profile_id  text,
    happened_at timestamptz NOT NULL,
    properties  jsonb,
    value       numeric GENERATED ALWAYS AS (
        CASE jsonb_typeof(properties->'$value') WHEN 'number' THEN (properties->>'$value')::numeric END
    ) STORED,
    pulled_at   timestamptz NOT NULL,
    PRIMARY KEY (account, event_id)
);
CREATE INDEX event_profile_idx ON klaviyo.event (account, profile_id, happened_at);
CREATE INDEX event_metric_idx ON klaviyo.event (account, metric_id, happened_at);
CREATE INDEX event_happened_at_idx ON klaviyo.event (happened_at);
COMMENT ON TABLE klaviyo.event IS 'Events that Klaviyo has recorded, as the job events reads them; for klaviyo.event_retention';
COMMENT ON COLUMN klaviyo.event.account IS 'Account';
COMMENT ON COLUMN klaviyo.event.event_id IS 'Klaviyo''s id';
COMMENT ON COLUMN klaviyo.event.metric_id IS 'Metric, see klaviyo.metric';
COMMENT ON COLUMN klaviyo.event.profile_id IS 'Whose, see klaviyo.profile';
COMMENT ON COLUMN klaviyo.event.happened_at IS 'When it happened';
COMMENT ON COLUMN klaviyo.event.properties IS 'What else is known of it';
COMMENT ON COLUMN klaviyo.event.value IS 'What it was worth, where it has a number for that';
COMMENT ON COLUMN klaviyo.event.pulled_at IS 'When it was read';

CREATE TABLE klaviyo.list (
    account           text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    list_id           text NOT NULL,
    name              text,
    opt_in_process    text,
    created_at        timestamptz,
    updated_at        timestamptz,
    pulled_at         timestamptz NOT NULL,
    members_pulled_at timestamptz,
    PRIMARY KEY (account, list_id)
);
COMMENT ON TABLE klaviyo.list IS 'Lists that Klaviyo has, as of the last run of the job lists';
COMMENT ON COLUMN klaviyo.list.account IS 'Account';
COMMENT ON COLUMN klaviyo.list.list_id IS 'Klaviyo''s id';
COMMENT ON COLUMN klaviyo.list.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.list.opt_in_process IS 'single_opt_in or double_opt_in';
COMMENT ON COLUMN klaviyo.list.created_at IS 'When it was made';
COMMENT ON COLUMN klaviyo.list.updated_at IS 'When Klaviyo last changed it';
COMMENT ON COLUMN klaviyo.list.pulled_at IS 'When it last changed here';
COMMENT ON COLUMN klaviyo.list.members_pulled_at IS 'As of when klaviyo.list_member has all its members, and nobody else; NULL: they were never read';

CREATE TABLE klaviyo.list_member (
    account    text NOT NULL,
    list_id    text NOT NULL,
    profile_id text NOT NULL,
    joined_at  timestamptz,
    pulled_at  timestamptz NOT NULL,
    PRIMARY KEY (account, list_id, profile_id),
    FOREIGN KEY (account, list_id) REFERENCES klaviyo.list ON DELETE CASCADE
);
CREATE INDEX list_member_profile_idx ON klaviyo.list_member (account, profile_id);
COMMENT ON TABLE klaviyo.list_member IS 'Who is on a list, as of members_pulled_at of klaviyo.list';
COMMENT ON COLUMN klaviyo.list_member.account IS 'Account';
COMMENT ON COLUMN klaviyo.list_member.list_id IS 'List';
COMMENT ON COLUMN klaviyo.list_member.profile_id IS 'Who, see klaviyo.profile';
COMMENT ON COLUMN klaviyo.list_member.joined_at IS 'Since when';
COMMENT ON COLUMN klaviyo.list_member.pulled_at IS 'When that was first read';

CREATE TABLE klaviyo.segment (
    account           text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    segment_id        text NOT NULL,
    name              text,
    is_active         boolean,
    is_processing     boolean,
    created_at        timestamptz,
    updated_at        timestamptz,
    pulled_at         timestamptz NOT NULL,
    members_pulled_at timestamptz,
    PRIMARY KEY (account, segment_id)
);
COMMENT ON TABLE klaviyo.segment IS 'Segments that Klaviyo has, as of the last run of the job segments';
COMMENT ON COLUMN klaviyo.segment.account IS 'Account';
COMMENT ON COLUMN klaviyo.segment.segment_id IS 'Klaviyo''s id';
COMMENT ON COLUMN klaviyo.segment.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.segment.is_active IS 'Whether Klaviyo keeps it up to date';
COMMENT ON COLUMN klaviyo.segment.is_processing IS 'Whether Klaviyo is just finding out who is in it';
COMMENT ON COLUMN klaviyo.segment.created_at IS 'When it was made';
COMMENT ON COLUMN klaviyo.segment.updated_at IS 'When Klaviyo last changed it';
COMMENT ON COLUMN klaviyo.segment.pulled_at IS 'When it last changed here';
COMMENT ON COLUMN klaviyo.segment.members_pulled_at IS 'As of when klaviyo.segment_member has all its members, and nobody else; NULL: they were never read';

CREATE TABLE klaviyo.segment_member (
    account    text NOT NULL,
    segment_id text NOT NULL,
    profile_id text NOT NULL,
    joined_at  timestamptz,
    pulled_at  timestamptz NOT NULL,
    PRIMARY KEY (account, segment_id, profile_id),
    FOREIGN KEY (account, segment_id) REFERENCES klaviyo.segment ON DELETE CASCADE
);
CREATE INDEX segment_member_profile_idx ON klaviyo.segment_member (account, profile_id);
COMMENT ON TABLE klaviyo.segment_member IS 'Who is in a segment, as of members_pulled_at of klaviyo.segment';
COMMENT ON COLUMN klaviyo.segment_member.account IS 'Account';
COMMENT ON COLUMN klaviyo.segment_member.segment_id IS 'Segment';
COMMENT ON COLUMN klaviyo.segment_member.profile_id IS 'Who, see klaviyo.profile';
COMMENT ON COLUMN klaviyo.segment_member.joined_at IS 'Since when';
COMMENT ON COLUMN klaviyo.segment_member.pulled_at IS 'When that was first read';

CREATE TABLE klaviyo.flow (
    account      text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    flow_id      text NOT NULL,
    name         text,
    status       text,
    archived     boolean,
    trigger_type text,
    created_at   timestamptz,
    updated_at   timestamptz,
    pulled_at    timestamptz NOT NULL,
    PRIMARY KEY (account, flow_id)
);
COMMENT ON TABLE klaviyo.flow IS 'Flows that Klaviyo has, as of the last run of the job flows';
COMMENT ON COLUMN klaviyo.flow.account IS 'Account';
COMMENT ON COLUMN klaviyo.flow.flow_id IS 'Klaviyo''s id';
COMMENT ON COLUMN klaviyo.flow.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.flow.status IS 'draft, manual or live';
COMMENT ON COLUMN klaviyo.flow.archived IS 'Whether it was put away';
COMMENT ON COLUMN klaviyo.flow.trigger_type IS 'What starts it: Added to List, Date Based, Low Inventory, Metric, Price Drop, Unconfigured';
COMMENT ON COLUMN klaviyo.flow.created_at IS 'When it was made';
COMMENT ON COLUMN klaviyo.flow.updated_at IS 'When Klaviyo last changed it';
COMMENT ON COLUMN klaviyo.flow.pulled_at IS 'When it last changed here';

CREATE TABLE klaviyo.metric (
    account     text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    metric_id   text NOT NULL,
    name        text,
    integration text,
    category    text,
    created_at  timestamptz,
    updated_at  timestamptz,
    pulled_at   timestamptz NOT NULL,
    PRIMARY KEY (account, metric_id)
);
COMMENT ON TABLE klaviyo.metric IS 'Metrics that Klaviyo has, as of the last run of the job metrics, or of events of some metrics';
COMMENT ON COLUMN klaviyo.metric.account IS 'Account';
COMMENT ON COLUMN klaviyo.metric.metric_id IS 'Klaviyo''s id';
COMMENT ON COLUMN klaviyo.metric.name IS 'What it is called; there may be several of a name, by different integrations';
COMMENT ON COLUMN klaviyo.metric.integration IS 'What brings its events';
COMMENT ON COLUMN klaviyo.metric.category IS 'Of what sort that is';
COMMENT ON COLUMN klaviyo.metric.created_at IS 'When it was made';
COMMENT ON COLUMN klaviyo.metric.updated_at IS 'When Klaviyo last changed it';
COMMENT ON COLUMN klaviyo.metric.pulled_at IS 'When it last changed here';

SELECT pg_catalog.pg_extension_config_dump('klaviyo.job_plan', $$WHERE job !~ '^(segment|profile):'$$);
SELECT pg_catalog.pg_extension_config_dump('klaviyo.deleted_profile', '');

-- Of reports Klaviyo allows 225 calls a day, of which the lane leaves a quarter to others. So that they last the day, a run pays for
-- each page of the last with nine minutes.
CREATE FUNCTION klaviyo.job_pause(job text, every interval, pages bigint) RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN job ~ '_reports$' THEN greatest(every, pages * interval '9 minutes') ELSE every END;
COMMENT ON FUNCTION klaviyo.job_pause(text, interval, bigint) IS
    'Time from the beginning of a job''s last run, which took so many pages, to the next: as planned, or of reports longer where Klaviyo''s daily limit would not last';

CREATE VIEW klaviyo.job AS
SELECT p.account, p.job,
       CASE WHEN p.paused_at IS NOT NULL THEN 'paused'
            WHEN r.started_at IS NOT NULL AND r.again_at > now() THEN 'retrying'
            WHEN r.started_at IS NOT NULL THEN 'running'
            ELSE 'waiting' END AS state,
       p.every, coalesce(r.run_at, r.last_started_at + klaviyo.job_pause(p.job, p.every, r.pages), p.created_at) AS next_run_at,
       p.names, p.since, p.options, r.started_at, r.step, r.item, r.cursor, r.pages,
       r.rows_read, r.rows_changed, r.rows_removed, r.rows_unreadable, r.failures, r.again_at, r.error, r.last_outcome, r.last_error,
       r.last_started_at, r.last_ended_at, p.paused_at
FROM klaviyo.job_plan AS p
LEFT JOIN klaviyo.job_run AS r USING (account, job)
WHERE p.job !~ '^(segment|profile):';
COMMENT ON VIEW klaviyo.job IS 'Jobs that read what Klaviyo has, how far each is, and how its last run has ended';
COMMENT ON COLUMN klaviyo.job.account IS 'Account';
COMMENT ON COLUMN klaviyo.job.job IS 'What it reads: profiles, events, lists, segments, campaigns, flows, metrics, aggregates, campaign_reports, flow_reports, form_reports or segment_reports';
COMMENT ON COLUMN klaviyo.job.state IS 'running; retrying: a call has failed, it goes on at again_at; waiting for next_run_at; paused';
COMMENT ON COLUMN klaviyo.job.every IS 'Time between the beginnings of two runs';
COMMENT ON COLUMN klaviyo.job.next_run_at IS 'When the next run begins at the earliest; of reports so late that Klaviyo''s daily limit lasts';
COMMENT ON COLUMN klaviyo.job.names IS 'Metrics of which events or aggregates are read, or lists or segments of which members are; NULL: all';
COMMENT ON COLUMN klaviyo.job.since IS 'What was last updated, or has happened, before that is not read';
COMMENT ON COLUMN klaviyo.job.options IS 'What else klaviyo_set_job() was told';
COMMENT ON COLUMN klaviyo.job.started_at IS 'When the run began that is under way; NULL: none is';
COMMENT ON COLUMN klaviyo.job.step IS 'What is being read: metrics, listing or members';
COMMENT ON COLUMN klaviyo.job.item IS 'Of which metric, list, segment or channel; of aggregates with the dimension behind it, of reports the metric of conversions';
COMMENT ON COLUMN klaviyo.job.cursor IS 'Klaviyo''s name of the next page';
COMMENT ON COLUMN klaviyo.job.pages IS 'Pages read in the run, or in the last if none is under way';
COMMENT ON COLUMN klaviyo.job.rows_read IS 'Rows on them';
COMMENT ON COLUMN klaviyo.job.rows_changed IS 'Those of them that were new here, or other than here';
COMMENT ON COLUMN klaviyo.job.rows_removed IS 'Rows of ours that are no more at Klaviyo, and so no more here';
COMMENT ON COLUMN klaviyo.job.rows_unreadable IS 'Rows that nobody can read, and that were left out';
COMMENT ON COLUMN klaviyo.job.failures IS 'Calls that have failed, one after the other';
COMMENT ON COLUMN klaviyo.job.again_at IS 'When it is tried again, if the last call has failed';
COMMENT ON COLUMN klaviyo.job.error IS 'Why it has';
COMMENT ON COLUMN klaviyo.job.last_outcome IS 'complete: all was read; failed: it was not, and what was read before that is kept';
COMMENT ON COLUMN klaviyo.job.last_error IS 'Why the last run has failed';
COMMENT ON COLUMN klaviyo.job.last_started_at IS 'When the last run began that has ended';
COMMENT ON COLUMN klaviyo.job.last_ended_at IS 'When it ended';
COMMENT ON COLUMN klaviyo.job.paused_at IS 'When klaviyo_pause_job() was called';

-- Jobs --------------------------------------------------------------------------------------------------------------

-- Takes: an account and a job. Raises that there is none.
CREATE FUNCTION klaviyo.refuse_unknown_job(account text, job text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'account "%" has no job "%"', account, job
        USING ERRCODE = 'KS092', HINT = 'klaviyo.job has those there are; klaviyo_set_job() adds one.';
END
$$;
COMMENT ON FUNCTION klaviyo.refuse_unknown_job(text, text) IS 'Says that an account has no such job';

-- Takes: a job and its options. Returns: what is wrong with them; NULL where nothing is.
CREATE FUNCTION klaviyo.options_fault(job text, options jsonb) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    known text[] := CASE WHEN job = 'aggregates' THEN '{interval,time_zone,by}'
                         WHEN job IN ('campaign_reports', 'flow_reports') THEN '{conversion_metric}'
                         ELSE '{}' END;
    -- What Klaviyo groups events by, but for To Number, which is somebody's.
    dimensions text[] := ARRAY[
        '$attributed_channel', '$attributed_flow', '$attributed_message', '$attributed_variation', '$campaign_channel', '$flow',
        '$flow_channel', '$message', '$message_send_cohort', '$usage_amount', '$value_currency', '$variation',
        '$variation_send_cohort', 'Bot Click', 'Bounce Type', 'Campaign Name', 'Client Canonical', 'Client Name', 'Client Type',
        'Email Domain', 'Failure Source', 'Failure Type', 'From Number', 'From Phone Region', 'Inbox Provider', 'List',
        'Message Format', 'Message Name', 'Message Type', 'Method', 'Segment Count', 'Subject', 'To Phone Region', 'URL', 'form_id'
    ];
    unknown text;
BEGIN
    IF jsonb_typeof(options) <> 'object' THEN
        RETURN 'They are an object.';
    END IF;
    SELECT string_agg(quote_literal(k.name), ', ' ORDER BY k.name) INTO unknown
    FROM jsonb_object_keys(options) AS k (name)
    WHERE k.name <> ALL (known);
    IF unknown IS NOT NULL THEN
        RETURN format('It knows no option %s%s.', unknown,
                      CASE WHEN known = '{}' THEN ', nor any other' ELSE ', but ' || array_to_string(known, ', ') END);
    END IF;
    IF options ? 'interval' AND coalesce(options->>'interval', '') NOT IN ('hour', 'day', 'week', 'month') THEN
        RETURN 'interval is hour, day, week or month.';
    END IF;
    -- But for what Klaviyo says it does not know.
    IF options ? 'time_zone' AND NOT EXISTS (
        SELECT FROM pg_timezone_names AS z
        WHERE z.name = options->>'time_zone' AND z.name NOT IN ('Factory', 'Europe/Kyiv', 'Pacific/Kanton', 'localtime', 'posixrules')
          AND z.name !~ '^(posix|right)/'
    ) THEN
        RETURN 'time_zone is the name of a time zone that Klaviyo knows, in its own capitals, as Europe/Vienna, or Europe/Kiev.';
    END IF;
    IF options ? 'by' THEN
        IF jsonb_typeof(options->'by') <> 'array' THEN
            RETURN 'by is an array of what Klaviyo groups events by.';
        END IF;
        SELECT string_agg(coalesce(quote_literal(b.name), 'null'), ', ' ORDER BY b.name) INTO unknown
        FROM jsonb_array_elements_text(options->'by') AS b (name)
        WHERE b.name IS NULL OR b.name <> ALL (dimensions);
        IF unknown IS NOT NULL THEN
            RETURN format('Events cannot be grouped by %s, but by %s.', unknown, array_to_string(dimensions, ', '));
        END IF;
    END IF;
    IF options ? 'conversion_metric' AND (jsonb_typeof(options->'conversion_metric') <> 'string' OR btrim(options->>'conversion_metric') = '') THEN
        RETURN 'conversion_metric is the name of a metric, or Klaviyo''s id.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION klaviyo.options_fault(text, jsonb) IS 'What is wrong with the options of a job';

-- SECURITY INVOKER, as klaviyo_set_account().
CREATE FUNCTION @extschema@.klaviyo_set_job(
    job     text,
    every   interval DEFAULT NULL,
    names    text[] DEFAULT NULL,
    since   timestamptz DEFAULT NULL,
    options jsonb DEFAULT NULL,
    account text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    before klaviyo.job_plan;
    plan   klaviyo.job_plan;
    -- Stored as NULL.
    all_   boolean := names = '{*}';
    usual  interval := CASE WHEN job IN ('profiles', 'events') THEN '15 minutes'
                             WHEN job IN ('lists', 'segments', 'campaigns', 'aggregates', 'campaign_reports', 'flow_reports',
                                          'form_reports', 'segment_reports') THEN '1 hour'
                             WHEN job IN ('flows', 'metrics') THEN '1 day' END;
    -- What Klaviyo has counted, by time.
    counted boolean := job IN ('aggregates', 'flow_reports', 'form_reports', 'segment_reports');
    fault   text;
BEGIN
    account := coalesce(account, 'default');
    IF usual IS NULL THEN
        RAISE EXCEPTION 'there is no job "%"', coalesce(job, 'NULL')
            USING ERRCODE = 'KS090', HINT = 'There are profiles, events, lists, segments, campaigns, flows, metrics, aggregates, campaign_reports, flow_reports, form_reports and segment_reports.';
    END IF;
    IF NOT EXISTS (SELECT FROM klaviyo.account AS a WHERE a.name = account) THEN
        PERFORM klaviyo.refuse_unknown_account(account);
    END IF;
    IF every NOT BETWEEN interval '1 minute' AND interval '1000 years' THEN
        RAISE EXCEPTION 'a job cannot run every %', every
            USING ERRCODE = 'KS091', DETAIL = 'Between the beginnings of two runs there must be a minute at least, and 1000 years at the most.',
                  HINT = 'Klaviyo''s limits are better kept for what goes out; klaviyo_run_job() runs it now.';
    END IF;
    IF names IS NOT NULL AND (job NOT IN ('events', 'aggregates', 'lists', 'segments') OR job IN ('events', 'aggregates') AND names = '{}'
                             OR array_position(names, NULL) IS NOT NULL OR '' = ANY (names) OR '*' = ANY (names) AND NOT all_) THEN
        RAISE EXCEPTION 'argument "names" does not go with job "%"', job
            USING ERRCODE = 'KS091',
                  DETAIL = 'Of events and aggregates it names metrics, one at least, of lists and segments those whose members are read, none for {}; by names or Klaviyo''s ids, or {*} for all.',
                  HINT = 'Leave it out where all is to be read.';
    END IF;
    IF since IS NOT NULL AND job NOT IN ('profiles', 'events') AND NOT counted THEN
        RAISE EXCEPTION 'argument "since" does not go with job "%"', job
            USING ERRCODE = 'KS091', DETAIL = 'Only profiles, events, aggregates and reports by the day are read by time.';
    END IF;
    IF since = 'infinity' OR since > now() AND counted THEN
        RAISE EXCEPTION 'argument "since" leaves out everything'
            USING ERRCODE = 'KS091', HINT = 'klaviyo_pause_job() has a job read nothing; since => ''-infinity'' leaves out nothing, of aggregates and reports nothing of the last year.';
    END IF;
    fault := klaviyo.options_fault(job, options);
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'argument "options" does not go with job "%"', job
            USING ERRCODE = 'KS091', DETAIL = fault,
                  HINT = CASE WHEN job = 'aggregates' THEN 'As in options => ''{"interval": "day", "time_zone": "Europe/Vienna", "by": ["$attributed_channel"]}''; {} are none.'
                              WHEN job IN ('campaign_reports', 'flow_reports') THEN 'As in options => ''{"conversion_metric": "Placed Order"}''; {} are none.'
                              ELSE 'Leave it out.' END;
    END IF;
    SELECT p.* INTO before FROM klaviyo.job_plan AS p WHERE p.account = account AND p.job = job;
    INSERT INTO klaviyo.job_plan AS p (account, job, every, names, since, options)
    VALUES (account, job, coalesce(every, usual), CASE WHEN NOT all_ THEN names END, nullif(since, '-infinity'), nullif(options, '{}'))
    ON CONFLICT ON CONSTRAINT job_plan_pkey DO UPDATE
    SET every = coalesce(every, p.every), names = CASE WHEN names IS NULL THEN p.names WHEN NOT all_ THEN names END,
        since = nullif(coalesce(since, p.since), '-infinity'), options = nullif(coalesce(options, p.options), '{}'), changed_at = now()
    RETURNING p.* INTO plan;
    -- What is read by another plan than it was begun with would be neither the one nor the other.
    IF before.account IS NULL OR (plan.names, plan.since, plan.options) IS DISTINCT FROM (before.names, before.since, before.options) THEN
        PERFORM klaviyo.begin_job(
            account, job,
            CASE WHEN counted THEN (plan.since, plan.options) IS DISTINCT FROM (before.since, before.options)
                 ELSE coalesce(plan.since, '-infinity') < before.since END,
            true
        );
    ELSE
        PERFORM klaviyo.wake_runner();
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_set_job(text, interval, text[], timestamptz, jsonb, text) IS
    'Has profiles, events, lists, segments, campaigns, flows, metrics, aggregates of metrics, or campaign_reports, flow_reports, form_reports or segment_reports be read of Klaviyo into tables in schema klaviyo, now and then every so often: profiles and events every 15 minutes, flows and metrics every day, the others every hour, unless it says otherwise. names are those of metrics whose events or aggregates, or of lists or segments whose members are read, {*} for all; since leaves out what is older, -infinity nothing, but of aggregates and reports what is older than a year. options are, of aggregates, interval, time_zone and by, of the reports of campaigns and flows conversion_metric. What is NULL stays as it is';

-- Takes: a job; whether all is to be read anew; whether a run that is under way is to be given up. Touches: job_run, job_mark, job_seen.
CREATE FUNCTION klaviyo.begin_job(account text, job text, anew boolean, give_up boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF anew THEN
        DELETE FROM klaviyo.job_mark AS m WHERE m.account = account AND m.job = job;
    END IF;
    IF give_up THEN
        DELETE FROM klaviyo.read AS r WHERE r.account = account AND r.job = job;
        DELETE FROM klaviyo.job_seen AS s WHERE s.account = account AND s.job = job;
    END IF;
    INSERT INTO klaviyo.job_run AS r (account, job, run_at)
    VALUES (account, job, now())
    ON CONFLICT ON CONSTRAINT job_run_pkey DO UPDATE
    SET started_at = CASE WHEN NOT give_up THEN r.started_at END,
        run_at = CASE WHEN give_up OR r.started_at IS NULL THEN now() END,
        again_at = NULL, failures = 0;
    PERFORM klaviyo.wake_runner();
END
$$;
COMMENT ON FUNCTION klaviyo.begin_job(text, text, boolean, boolean) IS 'Has a job run now';

CREATE FUNCTION @extschema@.klaviyo_run_job(
    job     text,
    anew    boolean DEFAULT false,
    account text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    account := coalesce(account, 'default');
    IF NOT EXISTS (SELECT FROM klaviyo.job_plan AS p WHERE p.account = account AND p.job = job) THEN
        PERFORM klaviyo.refuse_unknown_job(account, job);
    END IF;
    PERFORM klaviyo.begin_job(account, job, coalesce(anew, false), coalesce(anew, false));
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_run_job(text, boolean, text) IS
    'Has a job run now, or go on at once if a run is under way; anew from the beginning, as if nothing had been read before. One that is paused runs when it is resumed. klaviyo.job shows how far it is';

CREATE FUNCTION @extschema@.klaviyo_pause_job(job text, account text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    account := coalesce(account, 'default');
    UPDATE klaviyo.job_plan AS p SET paused_at = coalesce(p.paused_at, now()), changed_at = now()
    WHERE p.account = account AND p.job = job;
    IF NOT FOUND THEN
        PERFORM klaviyo.refuse_unknown_job(account, job);
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_pause_job(text, text) IS 'Has a job read no more, until klaviyo_resume_job(); a run stays where it is';

CREATE FUNCTION @extschema@.klaviyo_resume_job(job text, account text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    account := coalesce(account, 'default');
    UPDATE klaviyo.job_plan AS p SET paused_at = NULL, changed_at = now()
    WHERE p.account = account AND p.job = job;
    IF NOT FOUND THEN
        PERFORM klaviyo.refuse_unknown_job(account, job);
    END IF;
    PERFORM klaviyo.wake_runner();
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_resume_job(text, text) IS 'Has a job go on that was paused';

CREATE FUNCTION @extschema@.klaviyo_remove_job(job text, account text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    account := coalesce(account, 'default');
    DELETE FROM klaviyo.job_plan AS p WHERE p.account = account AND p.job = job;
    IF NOT FOUND THEN
        PERFORM klaviyo.refuse_unknown_job(account, job);
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_remove_job(text, text) IS 'Has a job read no more; what it has read stays, as it was then';

-- Segments ----------------------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.segment_ttl() RETURNS integer
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'klaviyo_segment_ttl';
COMMENT ON FUNCTION klaviyo.segment_ttl() IS 'How old what is known of a segment''s members may be, in seconds: klaviyo.segment_ttl, or what klaviyo.environment says';

CREATE FUNCTION klaviyo.wish(account text, job text, oldest timestamptz) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_wish';
COMMENT ON FUNCTION klaviyo.wish(text, text, timestamptz) IS
    'Has a segment, or a profile, be read at once, unless it was as of then, whatever becomes of the transaction';

-- Takes: an account, and a segment by its name or Klaviyo's id. Returns: its id, once what is known of its members is as new as it is
-- to be: as of klaviyo.segment_ttl before the statement began.
CREATE FUNCTION klaviyo.fresh_segment(account text, segment text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    known   klaviyo.segment;
    others  bigint;
    failure text;
    oldest  timestamptz := statement_timestamp() - klaviyo.segment_ttl() * interval '1 second';
    until   timestamptz := clock_timestamp() + current_setting('klaviyo.pull_timeout')::interval;
BEGIN
    account := coalesce(account, 'default');
    SELECT s.* INTO known FROM klaviyo.segment AS s WHERE s.account = account AND s.segment_id = segment;
    IF NOT FOUND THEN
        SELECT count(*) INTO others FROM klaviyo.segment AS s WHERE s.account = account AND s.name = segment;
        IF others = 1 THEN
            SELECT s.* INTO known FROM klaviyo.segment AS s WHERE s.account = account AND s.name = segment;
        ELSIF others > 1 THEN
            RAISE EXCEPTION 'account "%" has % segments that are called "%"', account, others, segment
                USING ERRCODE = 'KS094', HINT = 'Name it by Klaviyo''s id, which klaviyo.segment has.';
        ELSE
            RAISE EXCEPTION 'account "%" has no segment "%"', account, segment
                USING ERRCODE = 'KS093',
                      HINT = 'klaviyo.segment has those there were when the job segments last ran: klaviyo_set_job(''segments''), with names => ''{}'' to read no members but those that are asked for.';
        END IF;
    END IF;
    WHILE known.members_pulled_at IS NULL OR known.members_pulled_at < oldest LOOP
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE EXCEPTION 'what is known of segment "%" is too old, and this transaction cannot see what is new', segment
                USING ERRCODE = 'KS095', DETAIL = format('It is of %s.', coalesce(known.members_pulled_at::text, 'no time')),
                      HINT = 'Ask in a transaction that is READ COMMITTED, or let klaviyo.segment_ttl be longer.';
        END IF;
        SELECT r.last_error INTO failure
        FROM klaviyo.job_run AS r
        WHERE r.account = account AND r.job = 'segment:' || known.segment_id AND r.last_outcome = 'failed'
          AND r.last_ended_at >= statement_timestamp();
        IF failure IS NOT NULL OR clock_timestamp() > until THEN
            RAISE EXCEPTION 'the members of segment "%" cannot be read', segment
                USING ERRCODE = 'KS095',
                      DETAIL = coalesce(failure, format('They were not read within klaviyo.pull_timeout, %s.', current_setting('klaviyo.pull_timeout'))),
                      HINT = 'See klaviyo_health(). Where older is good enough, let klaviyo.segment_ttl be longer.';
        END IF;
        PERFORM klaviyo.wish(account, 'segment:' || known.segment_id, oldest);
        PERFORM pg_sleep(0.02);
        SELECT s.* INTO known FROM klaviyo.segment AS s WHERE s.account = account AND s.segment_id = known.segment_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'account "%" has no segment "%" any more', account, segment
                USING ERRCODE = 'KS093', HINT = 'klaviyo.segment has those there are.';
        END IF;
    END LOOP;
    RETURN known.segment_id;
END
$$;
COMMENT ON FUNCTION klaviyo.fresh_segment(text, text) IS 'The id of a segment, once what is known of its members is new enough';

CREATE FUNCTION @extschema@.klaviyo_segment_members(segment text, account text DEFAULT NULL) RETURNS SETOF klaviyo.profile
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id text := klaviyo.fresh_segment(klaviyo_segment_members.account, segment);
BEGIN
    RETURN QUERY
    SELECT p.*
    FROM klaviyo.segment_member AS m
    JOIN klaviyo.profile AS p ON p.account = m.account AND p.profile_id = m.profile_id
    WHERE m.account = coalesce(klaviyo_segment_members.account, 'default') AND m.segment_id = id;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_segment_members(text, text) IS
    'Who is in a segment, named as Klaviyo has it or by its id. What is older than klaviyo.segment_ttl is read of Klaviyo first, once a statement, for klaviyo.pull_timeout at the most';

CREATE FUNCTION @extschema@.klaviyo_in_segment(segment text, email text, account text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id text := klaviyo.fresh_segment(klaviyo_in_segment.account, segment);
BEGIN
    RETURN EXISTS (
        SELECT FROM klaviyo.profile AS p
        JOIN klaviyo.segment_member AS m ON m.account = p.account AND m.profile_id = p.profile_id
        WHERE lower(p.email) = lower(klaviyo_in_segment.email) AND p.account = coalesce(klaviyo_in_segment.account, 'default')
          AND m.segment_id = id
    );
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_in_segment(text, text, text) IS
    'Whether somebody is in a segment, by his e-mail address; what is known of the segment is as new as for klaviyo_segment_members()';

-- One profile -------------------------------------------------------------------------------------------------------

CREATE FUNCTION @extschema@.klaviyo_pull_profile(email text, account text DEFAULT NULL) RETURNS SETOF klaviyo.profile
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    began timestamptz := clock_timestamp();
    until timestamptz := began + current_setting('klaviyo.pull_timeout')::interval;
    run   klaviyo.job_run;
BEGIN
    account := coalesce(account, 'default');
    email := lower(btrim(email));
    IF NOT EXISTS (SELECT FROM klaviyo.account AS a WHERE a.name = account) THEN
        PERFORM klaviyo.refuse_unknown_account(account);
    ELSIF email IS NULL OR email !~ '^[^[:space:]]+@[^[:space:]]+$' OR octet_length(email) > 254 THEN
        RAISE EXCEPTION 'argument "email" is no e-mail address'
            USING ERRCODE = 'KS002', HINT = 'Pass the address that Klaviyo knows the profile by.';
    ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the profile cannot be read for this transaction, which cannot see what is new'
            USING ERRCODE = 'KS095', HINT = 'Ask in a transaction that is READ COMMITTED.';
    END IF;
    LOOP
        SELECT r.* INTO run
        FROM klaviyo.job_run AS r
        WHERE r.account = account AND r.job = 'profile:' || email AND r.last_started_at >= began;
        -- While another run is under way nobody knows what the last has read.
        EXIT WHEN run.last_outcome = 'complete' AND run.started_at IS NULL;
        IF run.last_outcome = 'failed' OR clock_timestamp() > until THEN
            RAISE EXCEPTION 'the profile cannot be read'
                USING ERRCODE = 'KS095',
                      DETAIL = coalesce(run.last_error, format('It was not read within klaviyo.pull_timeout, %s.', current_setting('klaviyo.pull_timeout'))),
                      HINT = 'See klaviyo_health().';
        END IF;
        PERFORM klaviyo.wish(account, 'profile:' || email, began);
        PERFORM pg_sleep(0.02);
    END LOOP;
    -- What Klaviyo has no more is known here all the same.
    RETURN QUERY
    SELECT p.*
    FROM klaviyo.profile AS p
    WHERE p.account = account AND lower(p.email) = email AND run.rows_read > 0
    ORDER BY p.updated_at DESC NULLS LAST
    LIMIT 1;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_pull_profile(text, text) IS
    'Reads a profile of Klaviyo now, and returns it as it then stands in klaviyo.profile: no row if Klaviyo has none of that address. Waits for klaviyo.pull_timeout at the most. Tables of two-way mappings are written to soon after';

-- Clean-ups: who has not been heard of for long is suppressed, by a rule over what was read of Klaviyo.

CREATE TABLE klaviyo.clean_up (
    account    text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    name       text NOT NULL,
    rule       text NOT NULL,
    owner      text NOT NULL,
    cap        integer NOT NULL,
    dry_run    boolean NOT NULL,
    every      interval,
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, name),
    CONSTRAINT clean_up_cap_check CHECK (cap > 0),
    CONSTRAINT clean_up_every_check CHECK (every BETWEEN interval '1 hour' AND interval '1000 years')
);
COMMENT ON TABLE klaviyo.clean_up IS 'Rules by which profiles are suppressed, see klaviyo_set_clean_up()';
COMMENT ON COLUMN klaviyo.clean_up.account IS 'Account';
COMMENT ON COLUMN klaviyo.clean_up.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.clean_up.rule IS 'The condition, over a row of klaviyo.profile';
COMMENT ON COLUMN klaviyo.clean_up.owner IS 'Who has said so: it is found out with his rights whom it is true of';
COMMENT ON COLUMN klaviyo.clean_up.cap IS 'If it is true of more profiles than that, nobody is suppressed';
COMMENT ON COLUMN klaviyo.clean_up.dry_run IS 'Whether it is only shown of whom it is true';
COMMENT ON COLUMN klaviyo.clean_up.every IS 'Time between two runs; NULL: it runs when klaviyo_run_clean_up() is called';
COMMENT ON COLUMN klaviyo.clean_up.created_at IS 'When it was added';
COMMENT ON COLUMN klaviyo.clean_up.changed_at IS 'When klaviyo_set_clean_up() last changed it';

CREATE TABLE klaviyo.clean_up_run (
    run_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account      text NOT NULL,
    name         text NOT NULL,
    dry_run      boolean NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    started_at   timestamptz,
    ended_at     timestamptz,
    outcome      text,
    found        integer,
    error        text,
    CONSTRAINT clean_up_run_outcome_check CHECK (outcome IN ('shown', 'suppressed', 'capped', 'failed'))
);
CREATE UNIQUE INDEX clean_up_run_open_idx ON klaviyo.clean_up_run (account, name) WHERE ended_at IS NULL;
CREATE INDEX clean_up_run_requested_idx ON klaviyo.clean_up_run (account, name, requested_at);
CREATE INDEX clean_up_run_ended_at_idx ON klaviyo.clean_up_run (ended_at);
COMMENT ON TABLE klaviyo.clean_up_run IS 'What came of clean-ups, for klaviyo.delivery_retention';
COMMENT ON COLUMN klaviyo.clean_up_run.run_id IS 'Number';
COMMENT ON COLUMN klaviyo.clean_up_run.account IS 'Account';
COMMENT ON COLUMN klaviyo.clean_up_run.name IS 'Clean-up';
COMMENT ON COLUMN klaviyo.clean_up_run.dry_run IS 'Whether it is only to show of whom the rule is true';
COMMENT ON COLUMN klaviyo.clean_up_run.requested_at IS 'When it was asked for, or its time came';
COMMENT ON COLUMN klaviyo.clean_up_run.started_at IS 'When it began';
COMMENT ON COLUMN klaviyo.clean_up_run.ended_at IS 'When it ended';
COMMENT ON COLUMN klaviyo.clean_up_run.outcome IS 'shown: it was a dry run; suppressed: that is queued; capped: the rule is true of more than cap, so nobody is suppressed; failed';
COMMENT ON COLUMN klaviyo.clean_up_run.found IS 'Of how many profiles the rule is true; one more than cap where it is true of more';
COMMENT ON COLUMN klaviyo.clean_up_run.error IS 'Why it has failed';

CREATE TABLE klaviyo.clean_up_profile (
    run_id     bigint NOT NULL REFERENCES klaviyo.clean_up_run ON DELETE CASCADE,
    profile_id text NOT NULL,
    message_id uuid,
    PRIMARY KEY (run_id, profile_id)
);
COMMENT ON TABLE klaviyo.clean_up_profile IS 'Of whom a clean-up''s rule was true';
COMMENT ON COLUMN klaviyo.clean_up_profile.run_id IS 'Run';
COMMENT ON COLUMN klaviyo.clean_up_profile.profile_id IS 'Who, see klaviyo.profile';
COMMENT ON COLUMN klaviyo.clean_up_profile.message_id IS 'The message that suppresses him; NULL where none does';

SELECT pg_catalog.pg_extension_config_dump('klaviyo.clean_up', '');

CREATE FUNCTION @extschema@.klaviyo_set_clean_up(
    name    text,
    rule    text DEFAULT NULL,
    every   interval DEFAULT NULL,
    cap     integer DEFAULT NULL,
    dry_run boolean DEFAULT NULL,
    account text DEFAULT NULL
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_set_clean_up';
COMMENT ON FUNCTION @extschema@.klaviyo_set_clean_up(text, text, interval, integer, boolean, text) IS
    'Has profiles be found of which rule is true, a condition over a row of klaviyo.profile, which is called row; and, unless it is a dry run, which is the default, have them be suppressed, if they are no more than cap (1000). Every so often, or when klaviyo_run_clean_up() is called. What is NULL stays as it is';

-- Takes: which; whether only to show, as it was set unless that is said. Returns: the number of its run. Touches: clean_up_run.
CREATE FUNCTION @extschema@.klaviyo_run_clean_up(name text, dry_run boolean DEFAULT NULL, account text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    known klaviyo.clean_up;
    run   bigint;
BEGIN
    account := coalesce(account, 'default');
    SELECT c.* INTO known FROM klaviyo.clean_up AS c WHERE c.account = account AND c.name = name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'account "%" has no clean-up "%"', account, name
            USING ERRCODE = 'KS097', HINT = 'klaviyo.clean_up has those there are; klaviyo_set_clean_up() adds one.';
    END IF;
    INSERT INTO klaviyo.clean_up_run (account, name, dry_run) VALUES (account, name, coalesce(dry_run, known.dry_run))
    ON CONFLICT DO NOTHING
    RETURNING run_id INTO run;
    IF run IS NULL THEN
        RAISE EXCEPTION 'clean-up "%" runs already', name USING ERRCODE = 'KS098', HINT = 'klaviyo.clean_up_run shows when it has ended.';
    END IF;
    PERFORM klaviyo.wake_runner();
    RETURN run;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_run_clean_up(text, boolean, text) IS
    'Has a clean-up run now, once this transaction has committed. Returns the number of the run: klaviyo.clean_up_run says what came of it, klaviyo.clean_up_profile of whom the rule was true';

CREATE FUNCTION @extschema@.klaviyo_remove_clean_up(name text, account text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    account := coalesce(account, 'default');
    DELETE FROM klaviyo.clean_up AS c WHERE c.account = account AND c.name = name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'account "%" has no clean-up "%"', account, name
            USING ERRCODE = 'KS097', HINT = 'klaviyo.clean_up has those there are.';
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_remove_clean_up(text, text) IS 'Has a clean-up run no more; what it has done stays, and the record of it';

-- Ready handlers of webhooks: what they tell, brought into the tables of what was read, and campaigns counted by the day.

CREATE TABLE klaviyo.campaign_event (
    account     text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    campaign_id text NOT NULL,
    day         date NOT NULL,
    topic       text NOT NULL,
    events      bigint NOT NULL,
    PRIMARY KEY (account, campaign_id, day, topic)
);
CREATE INDEX campaign_event_day_idx ON klaviyo.campaign_event (day);
COMMENT ON TABLE klaviyo.campaign_event IS 'How often webhooks have told of what came of a campaign, by the day, see klaviyo_mirror_webhooks(); for klaviyo.campaign_retention';
COMMENT ON COLUMN klaviyo.campaign_event.account IS 'Account';
COMMENT ON COLUMN klaviyo.campaign_event.campaign_id IS 'Campaign, see klaviyo.campaign';
COMMENT ON COLUMN klaviyo.campaign_event.day IS 'Day of UTC on which it happened';
COMMENT ON COLUMN klaviyo.campaign_event.topic IS 'What has happened, as event:klaviyo.opened_email';
COMMENT ON COLUMN klaviyo.campaign_event.events IS 'How often';

CREATE VIEW klaviyo.campaign_day AS
SELECT e.account, e.campaign_id, c.name, e.day,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.(received|bounced|dropped|failed_to_deliver)_') AS sent,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.received_') AS delivered,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.(bounced|failed_to_deliver)_') AS bounced,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.opened_') AS opened,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.clicked_') AS clicked,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.unsubscribed_') AS unsubscribed,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.marked_.*_as_spam$') AS marked_as_spam
FROM klaviyo.campaign_event AS e
LEFT JOIN klaviyo.campaign AS c USING (account, campaign_id)
GROUP BY e.account, e.campaign_id, c.name, e.day;
COMMENT ON VIEW klaviyo.campaign_day IS 'What came of campaigns, a row a campaign and day, as far as webhooks have told';
COMMENT ON COLUMN klaviyo.campaign_day.account IS 'Account';
COMMENT ON COLUMN klaviyo.campaign_day.campaign_id IS 'Campaign, see klaviyo.campaign';
COMMENT ON COLUMN klaviyo.campaign_day.name IS 'What it is called, where that is known';
COMMENT ON COLUMN klaviyo.campaign_day.day IS 'Day of UTC on which it happened';
COMMENT ON COLUMN klaviyo.campaign_day.sent IS 'Messages that were delivered, bounced or dropped';
COMMENT ON COLUMN klaviyo.campaign_day.delivered IS 'Messages that were received';
COMMENT ON COLUMN klaviyo.campaign_day.bounced IS 'Messages that came back';
COMMENT ON COLUMN klaviyo.campaign_day.opened IS 'How often they were opened, by the same person or another';
COMMENT ON COLUMN klaviyo.campaign_day.clicked IS 'How often something in them was clicked';
COMMENT ON COLUMN klaviyo.campaign_day.unsubscribed IS 'How often somebody has unsubscribed by them';
COMMENT ON COLUMN klaviyo.campaign_day.marked_as_spam IS 'How often they were called spam';

-- When it happened, as Klaviyo says, or else when it came.
CREATE FUNCTION klaviyo.webhook_event_time(event jsonb) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(klaviyo.webhook_time(event #>> '{payload,data,attributes,datetime}'), (event->>'received_at')::timestamptz)
$$;
COMMENT ON FUNCTION klaviyo.webhook_event_time(jsonb) IS 'When something has happened that a webhook tells of';

-- Takes: an event, as handlers get it. Touches: campaign_event.
-- Klaviyo's document does not say so, but the property $message of what came of a campaign is the campaign's id; that of a flow is
-- shorter, or is there with $flow.
CREATE FUNCTION klaviyo.count_campaign_event(event jsonb) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO klaviyo.campaign_event AS c (account, campaign_id, day, topic, events)
    SELECT a.name, m.id, (klaviyo.webhook_event_time(event) AT TIME ZONE 'UTC')::date, event->>'topic', 1
    FROM klaviyo.account AS a
    CROSS JOIN LATERAL (
        SELECT p.properties->>'$message' AS id, p.properties ? '$flow' AS is_flow
        FROM (SELECT event #> '{payload,data,attributes,event_properties}' AS properties) AS p
        WHERE jsonb_typeof(p.properties) = 'object'
    ) AS m
    WHERE a.name = event->>'account' AND NOT m.is_flow
      AND (length(m.id) BETWEEN 20 AND 64
           OR EXISTS (SELECT FROM klaviyo.campaign AS k WHERE k.account = a.name AND k.campaign_id = m.id))
    ON CONFLICT ON CONSTRAINT campaign_event_pkey DO UPDATE SET events = c.events + 1
$$;
COMMENT ON FUNCTION klaviyo.count_campaign_event(jsonb) IS 'A handler: counts what came of campaigns, in klaviyo.campaign_event';

-- Takes: the same. Touches: profile. What was read since is newer.
CREATE FUNCTION klaviyo.mirror_consent_event(event jsonb) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE klaviyo.profile AS p
    SET subscriptions = coalesce(p.subscriptions, '{}') || jsonb_build_object(
            t.channel,
            coalesce(p.subscriptions->t.channel, '{}') || jsonb_build_object(
                'marketing',
                coalesce(p.subscriptions #> ARRAY[t.channel, 'marketing'], '{}')
                    || jsonb_build_object('consent', t.consent, 'last_updated', to_jsonb(klaviyo.webhook_event_time(event)))
            )
        ),
        pulled_at = now()
    FROM (
        VALUES ('event:klaviyo.subscribed_to_email_marketing', 'email', 'SUBSCRIBED'),
               ('event:klaviyo.unsubscribed_from_email_marketing', 'email', 'UNSUBSCRIBED'),
               ('event:klaviyo.subscribed_to_sms_marketing', 'sms', 'SUBSCRIBED'),
               ('event:klaviyo.unsubscribed_from_sms_marketing', 'sms', 'UNSUBSCRIBED')
    ) AS t (topic, channel, consent)
    WHERE t.topic = event->>'topic' AND p.account = event->>'account' AND p.profile_id = event->>'profile_id'
      AND (p.updated_at IS NULL OR p.updated_at <= klaviyo.webhook_event_time(event))
      AND coalesce(klaviyo.webhook_time(p.subscriptions #>> ARRAY[t.channel, 'marketing', 'last_updated']) <= klaviyo.webhook_event_time(event), true)
$$;
COMMENT ON FUNCTION klaviyo.mirror_consent_event(jsonb) IS 'A handler: brings what somebody has agreed to, or no more, into klaviyo.profile';

-- Takes: the same. Touches: list_member. The property List is what the list is called.
CREATE FUNCTION klaviyo.mirror_list_event(event jsonb) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO klaviyo.list_member (account, list_id, profile_id, joined_at, pulled_at)
    SELECT l.account, l.list_id, p.profile_id, klaviyo.webhook_event_time(event), now()
    FROM klaviyo.list AS l
    JOIN klaviyo.profile AS p ON p.account = l.account AND p.profile_id = event->>'profile_id'
    WHERE l.account = event->>'account' AND l.name = event #>> '{payload,data,attributes,event_properties,List}'
      -- Whoever has left since was not on it when all were read.
      AND (l.members_pulled_at IS NULL OR l.members_pulled_at < klaviyo.webhook_event_time(event))
      AND NOT EXISTS (SELECT FROM klaviyo.list AS o WHERE o.account = l.account AND o.name = l.name AND o.list_id <> l.list_id)
    ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION klaviyo.mirror_list_event(jsonb) IS 'A handler: brings who has come onto a list into klaviyo.list_member';

-- Takes: whether. Returns: how many handlers have come or gone. Touches: webhook_handler.
CREATE FUNCTION @extschema@.klaviyo_mirror_webhooks("on" boolean DEFAULT true) RETURNS integer
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    changed integer;
BEGIN
    WITH ready (pattern, function) AS (
        SELECT 'event:klaviyo.' || c.pattern, 'klaviyo.count_campaign_event(jsonb)'
        FROM unnest('{received_*,bounced_*,dropped_*,failed_to_deliver_*,opened_*,clicked_*,marked_*,unsubscribed_from_*}'::text[]) AS c (pattern)
        UNION ALL
        SELECT 'event:klaviyo.' || c.topic, 'klaviyo.mirror_consent_event(jsonb)'
        FROM unnest('{subscribed_to_email_marketing,unsubscribed_from_email_marketing,subscribed_to_sms_marketing,unsubscribed_from_sms_marketing}'::text[]) AS c (topic)
        UNION ALL
        SELECT 'event:klaviyo.subscribed_to_list', 'klaviyo.mirror_list_event(jsonb)'
    ), gone AS (
        DELETE FROM klaviyo.webhook_handler AS h USING ready AS r
        WHERE h.pattern = r.pattern AND h.function = r.function AND "on" IS FALSE
        RETURNING 1
    ), come AS (
        INSERT INTO klaviyo.webhook_handler (pattern, function, owner)
        SELECT r.pattern, r.function, current_user FROM ready AS r WHERE "on" IS NOT FALSE
        ON CONFLICT DO NOTHING
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM come) INTO changed;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_mirror_webhooks(boolean) IS
    'Has what webhooks tell from now on be brought into the tables of what was read: consent into klaviyo.profile, who has come onto a list into klaviyo.list_member; and counted by campaign and day: klaviyo.campaign_day. With false, no more. Returns how many handlers that are new, or gone';

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

-- Two-way profiles: what Klaviyo has changed is written back into the tables that profiles are mapped from.

CREATE TABLE klaviyo.write_back (
    mapping    integer NOT NULL REFERENCES klaviyo.mapping ON DELETE CASCADE,
    account    text NOT NULL,
    profile_id text NOT NULL,
    before     jsonb,
    noted_at   timestamptz NOT NULL DEFAULT now(),
    attempts   integer NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT now(),
    error      text,
    PRIMARY KEY (mapping, account, profile_id),
    FOREIGN KEY (account, profile_id) REFERENCES klaviyo.profile ON DELETE CASCADE
);
CREATE INDEX write_back_profile_idx ON klaviyo.write_back (account, profile_id);
COMMENT ON TABLE klaviyo.write_back IS 'Profiles that have changed at Klaviyo, and are to be written back into a table';
COMMENT ON COLUMN klaviyo.write_back.mapping IS 'Mapping of that table, see klaviyo.sync';
COMMENT ON COLUMN klaviyo.write_back.account IS 'Account';
COMMENT ON COLUMN klaviyo.write_back.profile_id IS 'Which, see klaviyo.profile';
COMMENT ON COLUMN klaviyo.write_back.before IS 'What was known of it when it was last written back; NULL: it never was';
COMMENT ON COLUMN klaviyo.write_back.noted_at IS 'When it was seen that it has changed';
COMMENT ON COLUMN klaviyo.write_back.attempts IS 'How often it has failed';
COMMENT ON COLUMN klaviyo.write_back.not_before IS 'When it is tried again';
COMMENT ON COLUMN klaviyo.write_back.error IS 'Why it has failed; what a column does not take is no failure, see klaviyo.sync_conflict';

CREATE TABLE klaviyo.sync_conflict (
    conflict_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mapping            integer NOT NULL REFERENCES klaviyo.mapping ON DELETE CASCADE,
    account            text NOT NULL,
    profile_id         text NOT NULL,
    key                text[] NOT NULL,
    field              text NOT NULL,
    table_value        jsonb,
    table_updated_at   timestamptz,
    klaviyo_value      jsonb,
    klaviyo_updated_at timestamptz,
    winner             text NOT NULL,
    error              text,
    found_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (account, profile_id) REFERENCES klaviyo.profile ON DELETE CASCADE,
    CONSTRAINT sync_conflict_winner_check CHECK (winner IN ('klaviyo', 'table'))
);
CREATE INDEX sync_conflict_profile_idx ON klaviyo.sync_conflict (account, profile_id);
CREATE INDEX sync_conflict_found_at_idx ON klaviyo.sync_conflict (found_at);
COMMENT ON TABLE klaviyo.sync_conflict IS 'Fields that a table and Klaviyo have both changed, and what has become of them; for klaviyo.delivery_retention';
COMMENT ON COLUMN klaviyo.sync_conflict.conflict_id IS 'Number';
COMMENT ON COLUMN klaviyo.sync_conflict.mapping IS 'Mapping of the table, see klaviyo.sync';
COMMENT ON COLUMN klaviyo.sync_conflict.account IS 'Account';
COMMENT ON COLUMN klaviyo.sync_conflict.profile_id IS 'Whose, see klaviyo.profile';
COMMENT ON COLUMN klaviyo.sync_conflict.key IS 'Row, by its primary key';
COMMENT ON COLUMN klaviyo.sync_conflict.field IS 'Field of the profile, as first_name or properties.Tier';
COMMENT ON COLUMN klaviyo.sync_conflict.table_value IS 'What the table had';
COMMENT ON COLUMN klaviyo.sync_conflict.table_updated_at IS 'When its row was last changed, as the mapping''s updated_at says';
COMMENT ON COLUMN klaviyo.sync_conflict.klaviyo_value IS 'What Klaviyo had';
COMMENT ON COLUMN klaviyo.sync_conflict.klaviyo_updated_at IS 'When Klaviyo last changed the profile';
COMMENT ON COLUMN klaviyo.sync_conflict.winner IS 'Whose value stands: klaviyo or table, whichever was changed last; the other is overwritten with it';
COMMENT ON COLUMN klaviyo.sync_conflict.error IS 'Why the table does not take Klaviyo''s value, where only that lets the table win';
COMMENT ON COLUMN klaviyo.sync_conflict.found_at IS 'When it was found';

-- Klaviyo may still tell what the shop has sent it and has changed since. Nobody is named here.
CREATE TABLE klaviyo.own_value (
    note_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account  text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    person   bytea NOT NULL,
    field    text[] NOT NULL,
    digest   bytea NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX own_value_person_idx ON klaviyo.own_value (account, person, field);
CREATE INDEX own_value_noted_at_idx ON klaviyo.own_value (noted_at);
COMMENT ON TABLE klaviyo.own_value IS 'What fields of two-way mappings were before they were changed here, for 30 days: such a value comes from here, and is nothing that Klaviyo has changed';
COMMENT ON COLUMN klaviyo.own_value.note_id IS 'Number';
COMMENT ON COLUMN klaviyo.own_value.account IS 'Account';
COMMENT ON COLUMN klaviyo.own_value.person IS 'Whose: SHA-256 of the account''s person_salt and an identifier';
COMMENT ON COLUMN klaviyo.own_value.field IS 'Field of the profile';
COMMENT ON COLUMN klaviyo.own_value.digest IS 'The value: SHA-256 of that salt and what it was';
COMMENT ON COLUMN klaviyo.own_value.noted_at IS 'When it was changed';

-- Fields ------------------------------------------------------------------------------------------------------------

-- This and the next three as klaviyo.person_digest(): the planner puts them in the place of their calls.
CREATE FUNCTION klaviyo.fields_of(profile jsonb) RETURNS TABLE (field text[], value jsonb)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT ARRAY[f.name], f.value
    FROM jsonb_each(profile) AS f (name, value)
    WHERE f.name NOT IN ('location', 'properties')
    UNION ALL
    SELECT ARRAY[o.name, f.name], f.value
    FROM jsonb_each(profile) AS o (name, value)
    CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(o.value) WHEN 'object' THEN o.value ELSE '{}' END) AS f (name, value)
    WHERE o.name IN ('location', 'properties');
END;
COMMENT ON FUNCTION klaviyo.fields_of(jsonb) IS 'The fields of a profile, those of its location and its properties each by itself';

CREATE FUNCTION klaviyo.field_text(field text[], value jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(value)
           WHEN 'null' THEN NULL
           WHEN 'number' THEN trim_scale((value #>> '{}')::numeric)::text
           WHEN 'string' THEN CASE WHEN field = '{email}' THEN lower(value #>> '{}') ELSE value #>> '{}' END
           ELSE value::text
       END;
COMMENT ON FUNCTION klaviyo.field_text(text[], jsonb) IS 'A value of a field as it is compared: two that are alike are the same text';

CREATE FUNCTION klaviyo.value_digest(person_salt uuid, field text[], value jsonb) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN klaviyo.person_digest(person_salt, coalesce('=' || klaviyo.field_text(field, value), ''));
COMMENT ON FUNCTION klaviyo.value_digest(uuid, text[], jsonb) IS 'What stands for a value of a field in klaviyo.own_value';

CREATE FUNCTION klaviyo.people_of(person_salt uuid, profile jsonb) RETURNS bytea[]
LANGUAGE sql STABLE PARALLEL SAFE
RETURN array_remove(
    ARRAY[
        klaviyo.person_digest(person_salt, klaviyo.identifier('email', profile ->> 'email')),
        klaviyo.person_digest(person_salt, klaviyo.identifier('phone_number', profile ->> 'phone_number')),
        klaviyo.person_digest(person_salt, klaviyo.identifier('external_id', profile ->> 'external_id'))
    ],
    NULL);
COMMENT ON FUNCTION klaviyo.people_of(uuid, jsonb) IS 'What stands for whoever a profile is of, by each identifier that it has';

CREATE FUNCTION klaviyo.with_field(profile jsonb, field text[], value jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT profile || jsonb_build_object(
        field[1],
        CASE cardinality(field)
            WHEN 1 THEN value
            ELSE coalesce(nullif(profile -> field[1], 'null'), '{}') || jsonb_build_object(field[2], value)
        END)
$$;
COMMENT ON FUNCTION klaviyo.with_field(jsonb, text[], jsonb) IS 'A profile with another value of a field';

CREATE FUNCTION klaviyo.note_own_values(account text, new jsonb, old jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    INSERT INTO klaviyo.own_value (account, person, field, digest)
    SELECT a.name, p.person, c.field, klaviyo.value_digest(a.person_salt, c.field, c.value)
    FROM klaviyo.account AS a
    CROSS JOIN klaviyo.fields_of(old) AS c
    CROSS JOIN LATERAL (
        SELECT DISTINCT unnest(klaviyo.people_of(a.person_salt, new) || klaviyo.people_of(a.person_salt, old))
    ) AS p (person)
    WHERE a.name = account AND c.value IS DISTINCT FROM new #> c.field;
END
$$;
COMMENT ON FUNCTION klaviyo.note_own_values(text, jsonb, jsonb) IS 'Notes what fields of a profile were before they were changed here';

-- Takes: the state of a row that is new. Touches: where Klaviyo is known to have the profile, own_value, for all of it is sent, and
-- write_back, for the row knows nothing of it.
CREATE FUNCTION klaviyo.note_new_row(account text, new jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    INSERT INTO klaviyo.write_back (mapping, account, profile_id)
    SELECT m.id, p.account, p.profile_id
    FROM klaviyo.mapping AS m
    JOIN klaviyo.profile AS p ON p.account = m.account
    WHERE m.account = account AND m.writes_back
      AND (lower(p.email) = lower(new ->> 'email') OR p.phone_number = new ->> 'phone_number' OR p.external_id = new ->> 'external_id')
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM klaviyo.note_own_values(account, '{}', new);
        PERFORM klaviyo.wake_runner();
    END IF;
END
$$;
COMMENT ON FUNCTION klaviyo.note_new_row(text, jsonb) IS 'Has a row that is new be told what Klaviyo knows of its profile';

-- What a table tells -------------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.told() RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_told';
COMMENT ON FUNCTION klaviyo.told() IS 'What is being written back by this process: the account, what stands for the person, and the profile as Klaviyo has it; NULL: nothing';

-- Takes: the states of a profile after and before a change, as klaviyo_upsert_changes(). Returns: the message_id, or NULL where
-- there is nothing to tell. Touches: outbox, own_value, for which it has the extension's rights.
CREATE FUNCTION @extschema@.klaviyo_upsert_two_way(new jsonb DEFAULT NULL, old jsonb DEFAULT NULL, account text DEFAULT NULL)
RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Of a handful of fields the planner expects thousands, and compiles for them.
SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    told  jsonb := klaviyo.told();
    field text[];
BEGIN
    account := coalesce(account, 'default');
    IF told ->> 'account' = account
       AND EXISTS (
           SELECT FROM klaviyo.account AS a
           CROSS JOIN unnest(klaviyo.people_of(a.person_salt, new)) AS p (person)
           WHERE a.name = account AND told -> 'people' ? encode(p.person, 'hex')
       ) THEN
        -- What Klaviyo has told it is not told again.
        FOR field IN
            SELECT n.field
            FROM klaviyo.fields_of(new) AS n
            WHERE klaviyo.field_text(n.field, n.value) IS NOT DISTINCT FROM klaviyo.field_text(n.field, told -> 'profile' #> n.field)
        LOOP
            old := klaviyo.with_field(coalesce(old, '{}'), field, new #> field);
        END LOOP;
    END IF;
    IF old IS NULL THEN
        PERFORM klaviyo.note_new_row(account, new);
    ELSE
        PERFORM klaviyo.note_own_values(account, new, old);
        IF (new -> 'email', new -> 'phone_number', new -> 'external_id') IS DISTINCT FROM (old -> 'email', old -> 'phone_number', old -> 'external_id') THEN
            -- All of it is sent, and may come late.
            PERFORM klaviyo.note_own_values(account, '{}', new);
        END IF;
    END IF;
    RETURN @extschema@.klaviyo_upsert_changes(new, old, account);
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_upsert_two_way(jsonb, jsonb, text) IS
    'As klaviyo_upsert_changes(), for a table that Klaviyo''s changes are written back into: what is being written back is not queued again. Triggers of klaviyo_sync_profiles(direction => ''both'') call it';

-- What Klaviyo tells --------------------------------------------------------------------------------------------------

-- However a profile is changed here: by a page, or by a webhook.
CREATE FUNCTION klaviyo.note_write_backs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM klaviyo.mapping AS m WHERE m.writes_back) THEN
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO klaviyo.write_back (mapping, account, profile_id)
        SELECT m.id, n.account, n.profile_id
        FROM new_rows AS n
        JOIN klaviyo.mapping AS m ON m.account = n.account AND m.writes_back
        ON CONFLICT DO NOTHING;
    ELSE
        INSERT INTO klaviyo.write_back (mapping, account, profile_id, before)
        SELECT m.id, n.account, n.profile_id, klaviyo.told_of(to_jsonb(o))
        FROM new_rows AS n
        JOIN old_rows AS o ON o.account = n.account AND o.profile_id = n.profile_id
        JOIN klaviyo.mapping AS m ON m.account = n.account AND m.writes_back
        WHERE klaviyo.told_of(to_jsonb(o)) <> klaviyo.told_of(to_jsonb(n))
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION klaviyo.note_write_backs() IS 'Has profiles that have changed at Klaviyo be written back';

CREATE FUNCTION klaviyo.told_of(profile jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_object_agg(f.name, f.value)
    FROM jsonb_each(profile) AS f (name, value)
    WHERE f.name IN ('email', 'phone_number', 'external_id', 'first_name', 'last_name', 'organization', 'title', 'locale', 'image',
                     'location', 'properties')
$$;
COMMENT ON FUNCTION klaviyo.told_of(jsonb) IS 'What is written back of a row of klaviyo.profile, in the form that tables tell theirs in';

CREATE TRIGGER write_back_insert AFTER INSERT ON klaviyo.profile
REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION klaviyo.note_write_backs();

CREATE TRIGGER write_back_update AFTER UPDATE ON klaviyo.profile
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION klaviyo.note_write_backs();

-- Takes: the fields that are written back, each a JSON array of names, and the profile as the table has it, as Klaviyo has it, and as
-- Klaviyo had it when it was last written back. Returns: what becomes of each field. same: both have it; kept: the table's is on its
-- way to Klaviyo; repeated: Klaviyo has what the table had before; written: only Klaviyo has changed it; klaviyo, table: both have,
-- and that is the winner.
CREATE FUNCTION klaviyo.compare_profiles(
    account text, fields jsonb, own jsonb, theirs jsonb, before jsonb, own_updated_at timestamptz, klaviyo_updated_at timestamptz
) RETURNS TABLE (field text[], outcome text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH compared AS (
        SELECT f.field, klaviyo.field_text(f.field, own #> f.field) AS own, klaviyo.field_text(f.field, theirs #> f.field) AS theirs,
               klaviyo.field_text(f.field, before #> f.field) AS before
        FROM (SELECT ARRAY(SELECT jsonb_array_elements_text(e.field)) FROM jsonb_array_elements(fields) AS e (field)) AS f (field)
    )
    SELECT c.field,
           CASE
               WHEN c.own IS NOT DISTINCT FROM c.theirs THEN 'same'
               WHEN compare_profiles.before IS NOT NULL AND c.theirs IS NOT DISTINCT FROM c.before THEN 'kept'
               WHEN EXISTS (
                   SELECT FROM klaviyo.account AS a
                   CROSS JOIN unnest(klaviyo.people_of(a.person_salt, compare_profiles.own)) AS p (person)
                   JOIN klaviyo.own_value AS o ON o.account = a.name AND o.person = p.person AND o.field = c.field
                   WHERE a.name = compare_profiles.account AND o.noted_at > now() - interval '30 days'
                     AND o.digest = klaviyo.value_digest(a.person_salt, c.field, compare_profiles.theirs #> c.field)
               ) THEN 'repeated'
               WHEN compare_profiles.before IS NOT NULL AND c.own IS NOT DISTINCT FROM c.before THEN 'written'
               WHEN compare_profiles.before IS NULL AND c.own IS NULL THEN 'written'
               WHEN compare_profiles.before IS NULL AND c.theirs IS NULL THEN 'kept'
               WHEN klaviyo_updated_at > own_updated_at OR own_updated_at IS NULL THEN 'klaviyo'
               ELSE 'table'
           END
    FROM compared AS c
$$;
COMMENT ON FUNCTION klaviyo.compare_profiles(text, jsonb, jsonb, jsonb, jsonb, timestamptz, timestamptz) IS
    'What becomes of the fields of a profile that a table and Klaviyo both have';

-- Takes: an UPDATE, the profile that is its parameter, and a search_path for what it calls. Returns: why it cannot be, or NULL where it is
-- done. With the rights of whoever calls.
CREATE FUNCTION klaviyo.try_update(statement text, profile jsonb, path text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    written bigint;
BEGIN
    PERFORM set_config('search_path', path, true);
    EXECUTE statement USING profile;
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN CASE WHEN written = 0 THEN 'the table leaves the row as it is' END;
EXCEPTION
    WHEN assert_failure THEN
        RETURN SQLERRM;
    WHEN OTHERS THEN
        -- What another time may be otherwise is no fault of the value's, nor is a name that nobody knows any more.
        IF left(SQLSTATE, 2) IN ('25', '40', '53', '57', '58') OR SQLSTATE = '55P03' OR left(SQLSTATE, 2) = '42' AND SQLSTATE <> '42501' THEN
            RAISE;
        END IF;
        RETURN SQLERRM;
END
$$;
COMMENT ON FUNCTION klaviyo.try_update(text, jsonb, text) IS 'Updates a row of a user''s table, unless its columns do not take the values';

-- Numbers: what Klaviyo has counted, read now and then into tables for reports.

-- Aggregates --------------------------------------------------------------------------------------------------------

CREATE TABLE klaviyo.metric_aggregate (
    account         text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    metric_id       text NOT NULL,
    dimension       text NOT NULL,
    dimension_value text NOT NULL,
    interval        text NOT NULL,
    time_zone       text NOT NULL,
    starts_at       timestamptz NOT NULL,
    local_start     timestamp GENERATED ALWAYS AS (starts_at AT TIME ZONE time_zone) STORED,
    count           bigint,
    sum_value       numeric,
    unique_profiles bigint,
    pulled_at       timestamptz NOT NULL,
    PRIMARY KEY (account, metric_id, dimension, dimension_value, starts_at),
    CONSTRAINT metric_aggregate_interval_check CHECK (interval IN ('hour', 'day', 'week', 'month'))
);
CREATE INDEX metric_aggregate_starts_at_idx ON klaviyo.metric_aggregate (starts_at);
COMMENT ON TABLE klaviyo.metric_aggregate IS 'What the events of metrics come to by hour, day, week or month, as the job aggregates reads them; a row only where there was any. Those of one dimension are to be added up, as of none, which are the whole, but for unique_profiles';
COMMENT ON COLUMN klaviyo.metric_aggregate.account IS 'Account';
COMMENT ON COLUMN klaviyo.metric_aggregate.metric_id IS 'Metric, see klaviyo.metric';
COMMENT ON COLUMN klaviyo.metric_aggregate.dimension IS 'What the events are grouped by, as Klaviyo calls it, such as $attributed_channel; empty: all of the metric';
COMMENT ON COLUMN klaviyo.metric_aggregate.dimension_value IS 'Which of its values they have; empty: none. One of more than 500 bytes is cut, and ends with a digest';
COMMENT ON COLUMN klaviyo.metric_aggregate.interval IS 'hour, day, week or month';
COMMENT ON COLUMN klaviyo.metric_aggregate.time_zone IS 'By whose clock it begins';
COMMENT ON COLUMN klaviyo.metric_aggregate.starts_at IS 'When it begins';
COMMENT ON COLUMN klaviyo.metric_aggregate.local_start IS 'The same by that clock, on which an hour may come twice';
COMMENT ON COLUMN klaviyo.metric_aggregate.count IS 'Events';
COMMENT ON COLUMN klaviyo.metric_aggregate.sum_value IS 'What they were worth together';
COMMENT ON COLUMN klaviyo.metric_aggregate.unique_profiles IS 'Profiles they are of; such numbers of several intervals or values cannot be added up';
COMMENT ON COLUMN klaviyo.metric_aggregate.pulled_at IS 'When it last changed here';

-- Reports -----------------------------------------------------------------------------------------------------------

CREATE TABLE klaviyo.campaign_report (
    account               text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    campaign_id           text NOT NULL,
    campaign_message_id   text NOT NULL,
    send_channel          text NOT NULL,
    conversion_metric_id  text NOT NULL,
    recipients            bigint,
    delivered             bigint,
    bounced               bigint,
    failed                bigint,
    opens                 bigint,
    opens_unique          bigint,
    clicks                bigint,
    clicks_unique         bigint,
    unsubscribes          bigint,
    unsubscribe_uniques   bigint,
    spam_complaints       bigint,
    conversions           bigint,
    conversion_uniques    bigint,
    conversion_value      numeric,
    text_message_spend    numeric,
    delivery_rate         numeric,
    bounce_rate           numeric,
    open_rate             numeric,
    click_rate            numeric,
    click_to_open_rate    numeric,
    conversion_rate       numeric,
    unsubscribe_rate      numeric,
    spam_complaint_rate   numeric,
    revenue_per_recipient numeric,
    average_order_value   numeric,
    pulled_at             timestamptz NOT NULL,
    PRIMARY KEY (account, campaign_id, campaign_message_id, send_channel)
);
COMMENT ON TABLE klaviyo.campaign_report IS 'What the messages of campaigns have come to, as the job campaign_reports reads it of the last 365 days; what was sent before stays as it was last read';
COMMENT ON COLUMN klaviyo.campaign_report.account IS 'Account';
COMMENT ON COLUMN klaviyo.campaign_report.campaign_id IS 'Campaign, see klaviyo.campaign';
COMMENT ON COLUMN klaviyo.campaign_report.campaign_message_id IS 'Its message, by Klaviyo''s id';
COMMENT ON COLUMN klaviyo.campaign_report.send_channel IS 'email, sms, push-notification or whatsapp; empty where Klaviyo does not say';
COMMENT ON COLUMN klaviyo.campaign_report.conversion_metric_id IS 'Metric whose events are conversions, see klaviyo.metric';
COMMENT ON COLUMN klaviyo.campaign_report.recipients IS 'To how many it was sent';
COMMENT ON COLUMN klaviyo.campaign_report.delivered IS 'To how many it was delivered';
COMMENT ON COLUMN klaviyo.campaign_report.bounced IS 'How many bounced';
COMMENT ON COLUMN klaviyo.campaign_report.failed IS 'How many could not be sent';
COMMENT ON COLUMN klaviyo.campaign_report.opens IS 'How often it was opened';
COMMENT ON COLUMN klaviyo.campaign_report.opens_unique IS 'By how many';
COMMENT ON COLUMN klaviyo.campaign_report.clicks IS 'How often something in it was clicked';
COMMENT ON COLUMN klaviyo.campaign_report.clicks_unique IS 'By how many';
COMMENT ON COLUMN klaviyo.campaign_report.unsubscribes IS 'How often somebody unsubscribed by it';
COMMENT ON COLUMN klaviyo.campaign_report.unsubscribe_uniques IS 'How many did';
COMMENT ON COLUMN klaviyo.campaign_report.spam_complaints IS 'How often it was called spam';
COMMENT ON COLUMN klaviyo.campaign_report.conversions IS 'Conversions that Klaviyo attributes to it, such as orders';
COMMENT ON COLUMN klaviyo.campaign_report.conversion_uniques IS 'By how many';
COMMENT ON COLUMN klaviyo.campaign_report.conversion_value IS 'What they were worth together, the revenue of orders';
COMMENT ON COLUMN klaviyo.campaign_report.text_message_spend IS 'What its text messages cost';
COMMENT ON COLUMN klaviyo.campaign_report.delivery_rate IS 'Share of the recipients, as Klaviyo reckons it, of 0 to 1, as all rates here';
COMMENT ON COLUMN klaviyo.campaign_report.bounce_rate IS 'Share that bounced';
COMMENT ON COLUMN klaviyo.campaign_report.open_rate IS 'Share that opened it';
COMMENT ON COLUMN klaviyo.campaign_report.click_rate IS 'Share that clicked';
COMMENT ON COLUMN klaviyo.campaign_report.click_to_open_rate IS 'Share of those who opened it that clicked';
COMMENT ON COLUMN klaviyo.campaign_report.conversion_rate IS 'Share that had a conversion';
COMMENT ON COLUMN klaviyo.campaign_report.unsubscribe_rate IS 'Share that unsubscribed';
COMMENT ON COLUMN klaviyo.campaign_report.spam_complaint_rate IS 'Share that called it spam';
COMMENT ON COLUMN klaviyo.campaign_report.revenue_per_recipient IS 'conversion_value by recipient';
COMMENT ON COLUMN klaviyo.campaign_report.average_order_value IS 'conversion_value by conversion';
COMMENT ON COLUMN klaviyo.campaign_report.pulled_at IS 'When it last changed here';

CREATE TABLE klaviyo.flow_report (
    account              text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    flow_id              text NOT NULL,
    flow_message_id      text NOT NULL,
    send_channel         text NOT NULL,
    day                  date NOT NULL,
    conversion_metric_id text NOT NULL,
    recipients           bigint,
    delivered            bigint,
    bounced              bigint,
    failed               bigint,
    opens                bigint,
    opens_unique         bigint,
    clicks               bigint,
    clicks_unique        bigint,
    unsubscribes         bigint,
    unsubscribe_uniques  bigint,
    spam_complaints      bigint,
    conversions          bigint,
    conversion_uniques   bigint,
    conversion_value     numeric,
    text_message_spend   numeric,
    pulled_at            timestamptz NOT NULL,
    PRIMARY KEY (account, flow_id, flow_message_id, send_channel, day)
);
CREATE INDEX flow_report_day_idx ON klaviyo.flow_report (day);
COMMENT ON TABLE klaviyo.flow_report IS 'What the messages of flows have come to by the day, as the job flow_reports reads it; a row only where there was anything';
COMMENT ON COLUMN klaviyo.flow_report.account IS 'Account';
COMMENT ON COLUMN klaviyo.flow_report.flow_id IS 'Flow, see klaviyo.flow';
COMMENT ON COLUMN klaviyo.flow_report.flow_message_id IS 'Its message, by Klaviyo''s id';
COMMENT ON COLUMN klaviyo.flow_report.send_channel IS 'email, sms, push-notification or whatsapp; empty where Klaviyo does not say';
COMMENT ON COLUMN klaviyo.flow_report.day IS 'Day by the clock of the company, as Klaviyo has it';
COMMENT ON COLUMN klaviyo.flow_report.conversion_metric_id IS 'Metric whose events are conversions, see klaviyo.metric';
COMMENT ON COLUMN klaviyo.flow_report.recipients IS 'To how many it was sent';
COMMENT ON COLUMN klaviyo.flow_report.delivered IS 'To how many it was delivered';
COMMENT ON COLUMN klaviyo.flow_report.bounced IS 'How many bounced';
COMMENT ON COLUMN klaviyo.flow_report.failed IS 'How many could not be sent';
COMMENT ON COLUMN klaviyo.flow_report.opens IS 'How often it was opened';
COMMENT ON COLUMN klaviyo.flow_report.opens_unique IS 'By how many; such numbers of several days cannot be added up, strictly';
COMMENT ON COLUMN klaviyo.flow_report.clicks IS 'How often something in it was clicked';
COMMENT ON COLUMN klaviyo.flow_report.clicks_unique IS 'By how many';
COMMENT ON COLUMN klaviyo.flow_report.unsubscribes IS 'How often somebody unsubscribed by it';
COMMENT ON COLUMN klaviyo.flow_report.unsubscribe_uniques IS 'How many did';
COMMENT ON COLUMN klaviyo.flow_report.spam_complaints IS 'How often it was called spam';
COMMENT ON COLUMN klaviyo.flow_report.conversions IS 'Conversions that Klaviyo attributes to it, such as orders';
COMMENT ON COLUMN klaviyo.flow_report.conversion_uniques IS 'By how many';
COMMENT ON COLUMN klaviyo.flow_report.conversion_value IS 'What they were worth together, the revenue of orders';
COMMENT ON COLUMN klaviyo.flow_report.text_message_spend IS 'What its text messages cost';
COMMENT ON COLUMN klaviyo.flow_report.pulled_at IS 'When it last changed here';

CREATE TABLE klaviyo.form_report (
    account                     text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    form_id                     text NOT NULL,
    day                         date NOT NULL,
    viewed_form                 bigint,
    viewed_form_uniques         bigint,
    closed_form                 bigint,
    closed_form_uniques         bigint,
    submits                     bigint,
    submitted_form_step         bigint,
    submitted_form_step_uniques bigint,
    qualified_form              bigint,
    qualified_form_uniques      bigint,
    pulled_at                   timestamptz NOT NULL,
    PRIMARY KEY (account, form_id, day)
);
CREATE INDEX form_report_day_idx ON klaviyo.form_report (day);
COMMENT ON TABLE klaviyo.form_report IS 'What sign-up forms have come to by the day, as the job form_reports reads it; a row only where there was anything';
COMMENT ON COLUMN klaviyo.form_report.account IS 'Account';
COMMENT ON COLUMN klaviyo.form_report.form_id IS 'Form, by Klaviyo''s id';
COMMENT ON COLUMN klaviyo.form_report.day IS 'Day by the clock of the company, as Klaviyo has it';
COMMENT ON COLUMN klaviyo.form_report.viewed_form IS 'How often it was seen';
COMMENT ON COLUMN klaviyo.form_report.viewed_form_uniques IS 'By how many';
COMMENT ON COLUMN klaviyo.form_report.closed_form IS 'How often it was closed';
COMMENT ON COLUMN klaviyo.form_report.closed_form_uniques IS 'By how many';
COMMENT ON COLUMN klaviyo.form_report.submits IS 'How often it was filled in and sent';
COMMENT ON COLUMN klaviyo.form_report.submitted_form_step IS 'How often a step of it was';
COMMENT ON COLUMN klaviyo.form_report.submitted_form_step_uniques IS 'By how many';
COMMENT ON COLUMN klaviyo.form_report.qualified_form IS 'How often it could have been shown to somebody';
COMMENT ON COLUMN klaviyo.form_report.qualified_form_uniques IS 'To how many';
COMMENT ON COLUMN klaviyo.form_report.pulled_at IS 'When it last changed here';

CREATE TABLE klaviyo.segment_report (
    account             text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    segment_id          text NOT NULL,
    day                 date NOT NULL,
    total_members       bigint,
    members_added       bigint,
    members_removed     bigint,
    net_members_changed bigint,
    pulled_at           timestamptz NOT NULL,
    PRIMARY KEY (account, segment_id, day)
);
CREATE INDEX segment_report_day_idx ON klaviyo.segment_report (day);
COMMENT ON TABLE klaviyo.segment_report IS 'How segments grow by the day, as the job segment_reports reads it; a row only where there was anybody';
COMMENT ON COLUMN klaviyo.segment_report.account IS 'Account';
COMMENT ON COLUMN klaviyo.segment_report.segment_id IS 'Segment, see klaviyo.segment';
COMMENT ON COLUMN klaviyo.segment_report.day IS 'Day by the clock of the company, as Klaviyo has it';
COMMENT ON COLUMN klaviyo.segment_report.total_members IS 'How many are in it';
COMMENT ON COLUMN klaviyo.segment_report.members_added IS 'How many have come';
COMMENT ON COLUMN klaviyo.segment_report.members_removed IS 'How many have gone';
COMMENT ON COLUMN klaviyo.segment_report.net_members_changed IS 'How many more, or fewer, that is';
COMMENT ON COLUMN klaviyo.segment_report.pulled_at IS 'When it last changed here';

-- Klaviyo tells it of no day that is over, so it cannot be read anew.
CREATE TABLE klaviyo.list_day (
    account text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    list_id text NOT NULL,
    day     date NOT NULL,
    members bigint NOT NULL,
    PRIMARY KEY (account, list_id, day)
);
COMMENT ON TABLE klaviyo.list_day IS 'How many were on a list when the job lists last had read it on a day';
COMMENT ON COLUMN klaviyo.list_day.account IS 'Account';
COMMENT ON COLUMN klaviyo.list_day.list_id IS 'List, see klaviyo.list';
COMMENT ON COLUMN klaviyo.list_day.day IS 'Day, of UTC';
COMMENT ON COLUMN klaviyo.list_day.members IS 'How many';

SELECT pg_catalog.pg_extension_config_dump('klaviyo.list_day', '');

-- What a marketer looks for -----------------------------------------------------------------------------------------

CREATE VIEW klaviyo.campaign_performance AS
SELECT r.account, r.campaign_id, c.name, r.send_channel, c.send_time, r.recipients, r.delivered, r.open_rate, r.click_rate,
       r.bounce_rate, r.unsubscribe_rate, r.conversion_rate, r.conversions AS orders, r.conversion_value AS revenue,
       r.revenue_per_recipient, r.average_order_value, r.campaign_message_id, r.conversion_metric_id
FROM klaviyo.campaign_report AS r
LEFT JOIN klaviyo.campaign AS c USING (account, campaign_id);
COMMENT ON VIEW klaviyo.campaign_performance IS 'Revenue, and open and click rate, of each campaign''s messages; names and times are there once the job campaigns has run';
COMMENT ON COLUMN klaviyo.campaign_performance.account IS 'Account';
COMMENT ON COLUMN klaviyo.campaign_performance.campaign_id IS 'Campaign';
COMMENT ON COLUMN klaviyo.campaign_performance.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.campaign_performance.send_channel IS 'email, sms, push-notification or whatsapp';
COMMENT ON COLUMN klaviyo.campaign_performance.send_time IS 'When it was sent';
COMMENT ON COLUMN klaviyo.campaign_performance.recipients IS 'To how many';
COMMENT ON COLUMN klaviyo.campaign_performance.delivered IS 'To how many it was delivered';
COMMENT ON COLUMN klaviyo.campaign_performance.open_rate IS 'Share that opened it, of 0 to 1, as all rates here';
COMMENT ON COLUMN klaviyo.campaign_performance.click_rate IS 'Share that clicked';
COMMENT ON COLUMN klaviyo.campaign_performance.bounce_rate IS 'Share that bounced';
COMMENT ON COLUMN klaviyo.campaign_performance.unsubscribe_rate IS 'Share that unsubscribed';
COMMENT ON COLUMN klaviyo.campaign_performance.conversion_rate IS 'Share that ordered';
COMMENT ON COLUMN klaviyo.campaign_performance.orders IS 'Orders that Klaviyo attributes to it, or what else conversion_metric of the job says';
COMMENT ON COLUMN klaviyo.campaign_performance.revenue IS 'What they were worth together';
COMMENT ON COLUMN klaviyo.campaign_performance.revenue_per_recipient IS 'The same by recipient';
COMMENT ON COLUMN klaviyo.campaign_performance.average_order_value IS 'The same by order';
COMMENT ON COLUMN klaviyo.campaign_performance.campaign_message_id IS 'Message';
COMMENT ON COLUMN klaviyo.campaign_performance.conversion_metric_id IS 'Metric whose events are the orders';

-- Rates of several days are reckoned of what they add up to.
CREATE VIEW klaviyo.flow_performance AS
SELECT r.account, r.flow_id, f.name, r.send_channel, date_trunc('month', r.day)::date AS month, sum(r.recipients)::bigint AS recipients,
       sum(r.delivered)::bigint AS delivered, sum(r.opens_unique) / nullif(sum(r.delivered), 0) AS open_rate,
       sum(r.clicks_unique) / nullif(sum(r.delivered), 0) AS click_rate, sum(r.bounced) / nullif(sum(r.recipients), 0) AS bounce_rate,
       sum(r.unsubscribe_uniques) / nullif(sum(r.delivered), 0) AS unsubscribe_rate, sum(r.conversions)::bigint AS orders,
       sum(r.conversion_value) AS revenue, sum(r.conversion_value) / nullif(sum(r.recipients), 0) AS revenue_per_recipient,
       r.conversion_metric_id
FROM klaviyo.flow_report AS r
LEFT JOIN klaviyo.flow AS f USING (account, flow_id)
GROUP BY r.account, r.flow_id, f.name, r.send_channel, date_trunc('month', r.day), r.conversion_metric_id;
COMMENT ON VIEW klaviyo.flow_performance IS 'Revenue, and open and click rate, of each flow by the month; names are there once the job flows has run. Whoever opens on two days counts twice';
COMMENT ON COLUMN klaviyo.flow_performance.account IS 'Account';
COMMENT ON COLUMN klaviyo.flow_performance.flow_id IS 'Flow';
COMMENT ON COLUMN klaviyo.flow_performance.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.flow_performance.send_channel IS 'email, sms, push-notification or whatsapp';
COMMENT ON COLUMN klaviyo.flow_performance.month IS 'First day of the month';
COMMENT ON COLUMN klaviyo.flow_performance.recipients IS 'To how many its messages were sent';
COMMENT ON COLUMN klaviyo.flow_performance.delivered IS 'To how many they were delivered';
COMMENT ON COLUMN klaviyo.flow_performance.open_rate IS 'Share of those that opened them, of 0 to 1, as all rates here';
COMMENT ON COLUMN klaviyo.flow_performance.click_rate IS 'Share of those that clicked';
COMMENT ON COLUMN klaviyo.flow_performance.bounce_rate IS 'Share of the recipients that bounced';
COMMENT ON COLUMN klaviyo.flow_performance.unsubscribe_rate IS 'Share of those it was delivered to that unsubscribed';
COMMENT ON COLUMN klaviyo.flow_performance.orders IS 'Orders that Klaviyo attributes to it, or what else conversion_metric of the job says';
COMMENT ON COLUMN klaviyo.flow_performance.revenue IS 'What they were worth together';
COMMENT ON COLUMN klaviyo.flow_performance.revenue_per_recipient IS 'The same by recipient';
COMMENT ON COLUMN klaviyo.flow_performance.conversion_metric_id IS 'Metric whose events are the orders; a month has a row for each there was';

CREATE VIEW klaviyo.list_growth AS
SELECT d.account, d.list_id, l.name, d.day, d.members,
       d.members - lag(d.members) OVER (PARTITION BY d.account, d.list_id ORDER BY d.day) AS net_change
FROM klaviyo.list_day AS d
LEFT JOIN klaviyo.list AS l USING (account, list_id);
COMMENT ON VIEW klaviyo.list_growth IS 'How lists grow by the day, from when on the job lists has read who is on them';
COMMENT ON COLUMN klaviyo.list_growth.account IS 'Account';
COMMENT ON COLUMN klaviyo.list_growth.list_id IS 'List';
COMMENT ON COLUMN klaviyo.list_growth.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.list_growth.day IS 'Day, of UTC';
COMMENT ON COLUMN klaviyo.list_growth.members IS 'How many were on it at the end of the day, as far as was read';
COMMENT ON COLUMN klaviyo.list_growth.net_change IS 'How many more, or fewer, than on the day before that was read';

CREATE VIEW klaviyo.segment_growth AS
SELECT r.account, r.segment_id, s.name, r.day, r.total_members AS members, r.members_added AS joined, r.members_removed AS departed,
       r.net_members_changed AS net_change
FROM klaviyo.segment_report AS r
LEFT JOIN klaviyo.segment AS s USING (account, segment_id);
COMMENT ON VIEW klaviyo.segment_growth IS 'How segments grow by the day; names are there once the job segments has run';
COMMENT ON COLUMN klaviyo.segment_growth.account IS 'Account';
COMMENT ON COLUMN klaviyo.segment_growth.segment_id IS 'Segment';
COMMENT ON COLUMN klaviyo.segment_growth.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.segment_growth.day IS 'Day by the clock of the company, as Klaviyo has it';
COMMENT ON COLUMN klaviyo.segment_growth.members IS 'How many are in it';
COMMENT ON COLUMN klaviyo.segment_growth.joined IS 'How many have come';
COMMENT ON COLUMN klaviyo.segment_growth.departed IS 'How many have gone';
COMMENT ON COLUMN klaviyo.segment_growth.net_change IS 'How many more, or fewer, that is';

CREATE FUNCTION klaviyo.mapping_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'mapping', s.account,
           CASE
               WHEN f.fault IS NOT NULL THEN 'critical'
               WHEN s.state <> 'on' OR o.owner IS NOT NULL OR w.error IS NOT NULL THEN 'warning'
               ELSE 'ok'
           END,
           format('%s: %s', s.relation, s.name)
               || CASE s.state WHEN 'on' THEN '' ELSE ', ' || s.state END
               || coalesce(': ' || f.fault, ': its function is that of ' || o.owner || ', its table not',
                           CASE WHEN w.error IS NOT NULL THEN format(': %s profiles cannot be written back: %s', w.profiles, w.error) END, ''),
           CASE
               WHEN f.fault IS NOT NULL OR o.owner IS NOT NULL THEN 'Map it anew with replace => true; what it says now is in klaviyo.sync.'
               WHEN s.state = 'copied' THEN format('If this is where its rows are written now: SELECT klaviyo_arm_account(%L).', s.account)
               WHEN s.state = 'paused' THEN format('SELECT klaviyo_sync_resume(%L, %L).', s.relation::text, s.name)
               WHEN s.state = 'disabled' THEN 'ALTER TABLE … ENABLE TRIGGER.'
               WHEN w.error IS NOT NULL THEN 'They are tried again: see klaviyo.write_back.'
           END
    FROM klaviyo.sync AS s
    JOIN klaviyo.mapping AS m ON m.id = s.id
    CROSS JOIN LATERAL klaviyo.mapping_fault(s.relation, m.plan) AS f (fault)
    LEFT JOIN LATERAL (
        SELECT pg_get_userbyid(p.proowner)
        FROM pg_proc AS p
        JOIN pg_class AS c ON c.oid = s.relation
        WHERE p.oid = s.function AND p.proowner <> c.relowner
    ) AS o (owner) ON true
    LEFT JOIN LATERAL (
        -- Who has its row for a moment is no trouble.
        SELECT count(*), min(b.error) FROM klaviyo.write_back AS b WHERE b.mapping = s.id AND b.attempts >= 3
    ) AS w (profiles, error) ON true
$$;
COMMENT ON FUNCTION klaviyo.mapping_health() IS 'The checks of klaviyo_health() that are about tables whose rows are sent';

CREATE FUNCTION klaviyo.backfill_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'backfill', m.account,
           CASE WHEN r.error IS NULL AND r.state = 'running' THEN 'ok' ELSE 'warning' END,
           format('%s: %s, %s, %s rows done', coalesce(s.relation::text, 'a table that is gone'), m.name, r.state, r.rows_done) || coalesce(': ' || r.error, ''),
           CASE WHEN r.state = 'paused' THEN
               format('SELECT klaviyo_backfill_resume(%L, %L), or klaviyo_backfill_cancel().', s.relation::text, m.name)
                WHEN r.error IS NOT NULL THEN 'It is tried again.' END
    FROM klaviyo.backfill_run AS r
    JOIN klaviyo.mapping AS m ON m.id = r.mapping
    LEFT JOIN klaviyo.sync AS s ON s.id = r.mapping
    WHERE r.ended_at IS NULL
$$;
COMMENT ON FUNCTION klaviyo.backfill_health() IS 'The checks of klaviyo_health() that are about backfills';

CREATE FUNCTION klaviyo.webhook_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'webhook', NULL::text,
           CASE
               WHEN f.fault IS NOT NULL THEN 'critical'
               WHEN d.events > 0 OR t.failing > 0 THEN 'warning'
               ELSE 'ok'
           END,
           format('%s: %s, %s events to be told, of them %s again, %s put aside', h.function, h.pattern, t.events, t.failing, d.events)
               || coalesce(': ' || f.fault, ''),
           CASE
               WHEN f.fault IS NOT NULL THEN
                   format('Make it anew and SELECT klaviyo_on_webhook(%1$L, %2$L), or SELECT klaviyo_off_webhook(%1$L, %2$L).', h.pattern, h.function)
               WHEN d.events > 0 OR t.failing > 0 THEN
                   format('See klaviyo.webhook_dead_letter and klaviyo.webhook_task; once the cause is gone, SELECT klaviyo_redrive_webhook(handler_id => %s).', h.handler_id)
           END
    FROM klaviyo.webhook_handler AS h
    LEFT JOIN pg_proc AS p ON p.oid = to_regprocedure(h.function)
    CROSS JOIN LATERAL (
        SELECT CASE
                   WHEN p.oid IS NULL THEN 'there is no such function'
                   WHEN pg_get_userbyid(p.proowner) <> h.owner THEN 'it is no longer its owner''s who was to have it called'
               END
    ) AS f (fault)
    CROSS JOIN LATERAL (
        SELECT count(*) AS events, count(*) FILTER (WHERE k.attempts > 0) AS failing
        FROM klaviyo.webhook_task AS k WHERE k.handler_id = h.handler_id
    ) AS t
    CROSS JOIN LATERAL (
        SELECT count(*) AS events FROM klaviyo.webhook_dead_letter AS l WHERE l.handler_id = h.handler_id
    ) AS d
    UNION ALL
    SELECT 'webhook', w.account, CASE WHEN cardinality(s.secrets) > 0 THEN 'ok' ELSE 'critical' END,
           format('%s: secret from %s', w.webhook, coalesce('file ' || w.secret_file, 'environment variable ' || w.secret_env))
               || CASE WHEN cardinality(s.secrets) > 0 THEN '' ELSE ', which has none that the server can read' END,
           CASE WHEN cardinality(s.secrets) = 0 THEN 'The server''s user must be able to read it, and a line must have 16 bytes. Until then its requests are refused.' END
    FROM klaviyo.webhook AS w
    CROSS JOIN LATERAL (SELECT klaviyo.server_secrets(w.secret_file, w.secret_env) AS secrets) AS s
    WHERE num_nonnulls(w.secret_file, w.secret_env) = 1
$$;
COMMENT ON FUNCTION klaviyo.webhook_health() IS 'The checks of klaviyo_health() that are about functions which are told what webhooks bring';

CREATE FUNCTION klaviyo.job_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'job', j.account,
           CASE WHEN j.failures > 2 OR j.last_outcome = 'failed' OR o.overdue IS NOT NULL OR j.rows_unreadable > 0 THEN 'warning' ELSE 'ok' END,
           format('%s: %s, last run %s at %s', j.job, j.state, coalesce(j.last_outcome, 'never'), coalesce(j.last_ended_at::text, 'no time'))
               || coalesce(': ' || coalesce(j.error, j.last_error), '') || coalesce(', ' || o.overdue, '')
               || CASE WHEN j.rows_unreadable > 0 THEN format(', %s rows left out that nobody can read', j.rows_unreadable) ELSE '' END,
           CASE
               WHEN j.failures > 2 THEN 'It is tried again. SELECT klaviyo_check_account() says what the account''s key may do.'
               WHEN j.last_outcome = 'failed' THEN format('Once the cause is gone, SELECT klaviyo_run_job(%L, account => %L).', j.job, j.account)
               WHEN o.overdue IS NOT NULL THEN 'See whether the account sends, and klaviyo.lane for what is left of its limits.'
           END
    FROM klaviyo.job AS j
    CROSS JOIN LATERAL (
        SELECT CASE
                   WHEN j.state = 'waiting' AND j.next_run_at < now() - interval '10 minutes' THEN 'overdue'
                   WHEN j.state = 'running' AND j.last_ended_at < now() - greatest(3 * j.every, interval '1 day') THEN 'long under way'
               END
    ) AS o (overdue)
    WHERE j.state <> 'paused'
$$;
COMMENT ON FUNCTION klaviyo.job_health() IS 'The checks of klaviyo_health() that are about jobs which read what Klaviyo has';

CREATE OR REPLACE FUNCTION @extschema@.klaviyo_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM klaviyo.server_health()
    UNION ALL
    SELECT * FROM klaviyo.account_health()
    UNION ALL
    SELECT * FROM klaviyo.lane_health()
    UNION ALL
    SELECT * FROM klaviyo.backlog_health()
    UNION ALL
    SELECT * FROM klaviyo.upkeep_health()
    UNION ALL
    SELECT * FROM klaviyo.mapping_health()
    UNION ALL
    SELECT * FROM klaviyo.backfill_health()
    UNION ALL
    SELECT * FROM klaviyo.webhook_health()
    UNION ALL
    SELECT * FROM klaviyo.job_health()
$$;

CREATE OR REPLACE FUNCTION klaviyo.lane_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'lane ' || l.lane, l.account, CASE WHEN l.state = 'breaker open' THEN 'critical' ELSE 'ok' END,
           format('%s; left of %s calls a second %s, of %s a minute %s', l.state, l.second_calls, l.second_left,
                  l.minute_calls, l.minute_left)
               || coalesce(', of ' || l.day_calls || ' a day ' || l.day_left, ''),
           CASE WHEN l.state = 'breaker open' THEN
               'Klaviyo does not answer as it should: see last_error, the network, and Klaviyo''s status page. It is probed by itself.' END
    FROM klaviyo.lane AS l
    WHERE l.state <> 'idle' OR coalesce(l.last_success_at, l.last_failure_at) IS NOT NULL
    UNION ALL
    SELECT 'last_success', a.name, 'ok', coalesce(max(l.last_success_at)::text, 'none since the server started'), NULL
    FROM klaviyo.account AS a
    LEFT JOIN klaviyo.lane AS l ON l.account = a.name
    GROUP BY a.name
    UNION ALL
    SELECT 'last_error', a.name,
           CASE WHEN f.last_failure_at > coalesce(f.last_success_at, '-infinity') THEN 'warning' ELSE 'ok' END,
           coalesce(f.last_failure_at || ': ' || coalesce('HTTP status ' || f.last_failure_status, 'no answer'), 'none since the server started'),
           CASE WHEN f.last_failure_at > coalesce(f.last_success_at, '-infinity') THEN
               'Nothing has succeeded since. klaviyo.retry.last_error and klaviyo.dead_letter.reason tell more.' END
    FROM klaviyo.account AS a
    LEFT JOIN LATERAL (
        SELECT l.last_failure_at, l.last_success_at, l.last_failure_status FROM klaviyo.lane AS l WHERE l.account = a.name
        ORDER BY l.last_failure_at DESC NULLS LAST LIMIT 1
    ) AS f ON true
$$;
COMMENT ON FUNCTION klaviyo.lane_health() IS 'The checks of klaviyo_health() that are about lanes that have been used';

-- Metrics: figures for a monitor, as Prometheus reads them.

-- Takes: names of labels and their values, in turn. Returns: them as they stand after a metric's name.
CREATE FUNCTION klaviyo.labels(labels text[]) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce('{' || string_agg(
        format('%s="%s"', labels[n], replace(replace(replace(labels[n + 1], '\', '\\'), '"', '\"'), chr(10), '\n')), ',' ORDER BY n
    ) || '}', '')
    FROM generate_series(1, cardinality(labels), 2) AS n
    WHERE labels[n + 1] IS NOT NULL
$$;
COMMENT ON FUNCTION klaviyo.labels(text[]) IS 'Labels of a metric, as Prometheus reads them';

CREATE FUNCTION klaviyo.metric_samples() RETURNS TABLE (metric text, labels text, value double precision)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'klaviyo_build_info', klaviyo.labels(ARRAY['version', klaviyo.library_version()]), 1
    UNION ALL
    SELECT 'klaviyo_worker_up', '', (klaviyo.worker_pid() IS NOT NULL)::integer
    UNION ALL
    SELECT 'klaviyo_health_status', klaviyo.labels(ARRAY['check', h.name, 'account', h.account]),
           max(array_position('{ok,warning,critical}', h.status) - 1)
    FROM @extschema@.klaviyo_health() AS h
    GROUP BY h.name, h.account
    UNION ALL
    -- Ten thousand at the most are counted: whoever has more has an alarm by then.
    SELECT 'klaviyo_outbox_messages', '',
           (SELECT count(*) FROM (SELECT FROM klaviyo.outbox AS o WHERE o.seq >= m.low ORDER BY o.seq LIMIT 10000) AS o)
    FROM (SELECT klaviyo.low_water() AS low) AS m
    UNION ALL
    SELECT 'klaviyo_outbox_oldest_age_seconds', '',
           coalesce((SELECT extract(epoch FROM clock_timestamp() - o.enqueued_at) FROM klaviyo.outbox AS o WHERE o.seq >= m.low ORDER BY o.seq LIMIT 1), 0)
    FROM (SELECT klaviyo.low_water() AS low) AS m
    UNION ALL
    SELECT 'klaviyo_retry_messages', '', count(*) FROM (SELECT FROM klaviyo.retry LIMIT 10000) AS r
    UNION ALL
    SELECT 'klaviyo_dead_letters', klaviyo.labels(ARRAY['account', a.name]),
           (SELECT count(*) FROM (SELECT FROM klaviyo.dead_letter AS d WHERE d.account = a.name LIMIT 10000) AS d)
    FROM klaviyo.account AS a
    UNION ALL
    SELECT 'klaviyo_account_stopped', klaviyo.labels(ARRAY['account', a.name]), (s.stopped_at IS NOT NULL OR a.paused_at IS NOT NULL)::integer
    FROM klaviyo.account AS a
    LEFT JOIN klaviyo.account_status AS s ON s.account = a.name
    UNION ALL
    SELECT s.metric, klaviyo.labels(ARRAY['account', t.account, 'lane', t.lane]), s.value
    FROM klaviyo.throughput AS t
    CROSS JOIN LATERAL (
        VALUES ('klaviyo_messages_accepted_total', t.accepted), ('klaviyo_calls_total', t.calls), ('klaviyo_call_failures_total', t.failures),
               ('klaviyo_calls_throttled_total', t.throttled)
    ) AS s (metric, value)
    UNION ALL
    SELECT s.metric, klaviyo.labels(ARRAY['account', l.account, 'lane', l.lane]), s.value
    FROM klaviyo.lane AS l
    CROSS JOIN LATERAL (
        VALUES ('klaviyo_lane_ready_keys', l.ready), ('klaviyo_lane_calls_under_way', l.under_way::bigint),
               ('klaviyo_lane_minute_calls_left', l.minute_left)
    ) AS s (metric, value)
    UNION ALL
    SELECT s.metric, klaviyo.labels(ARRAY['account', l.account, 'lane', l.lane, 'quantile', s.quantile]), s.ms / 1000
    FROM klaviyo.latency AS l
    CROSS JOIN LATERAL (
        VALUES ('klaviyo_call_duration_seconds', '0.5', l.call_p50_ms), ('klaviyo_call_duration_seconds', '0.95', l.call_p95_ms),
               ('klaviyo_call_duration_seconds', '0.99', l.call_p99_ms), ('klaviyo_delivery_duration_seconds', '0.5', l.delivery_p50_ms),
               ('klaviyo_delivery_duration_seconds', '0.95', l.delivery_p95_ms), ('klaviyo_delivery_duration_seconds', '0.99', l.delivery_p99_ms)
    ) AS s (metric, quantile, ms)
    WHERE s.ms IS NOT NULL
    UNION ALL
    SELECT 'klaviyo_webhook_events_untold', '', count(*) FROM (SELECT FROM klaviyo.webhook_task LIMIT 10000) AS t
    UNION ALL
    SELECT 'klaviyo_webhook_dead_letters', '', count(*) FROM (SELECT FROM klaviyo.webhook_dead_letter LIMIT 10000) AS d
    UNION ALL
    SELECT s.metric, klaviyo.labels(ARRAY['account', j.account, 'job', j.job]), s.value
    FROM klaviyo.job AS j
    CROSS JOIN LATERAL (
        VALUES ('klaviyo_job_last_end_timestamp_seconds', extract(epoch FROM j.last_ended_at)::double precision),
               ('klaviyo_job_last_failed', (j.last_outcome = 'failed')::integer::double precision),
               ('klaviyo_job_rows_read', j.rows_read::double precision)
    ) AS s (metric, value)
    WHERE s.value IS NOT NULL
$$;
COMMENT ON FUNCTION klaviyo.metric_samples() IS 'What klaviyo_metrics() says: metrics with their labels and values';

CREATE FUNCTION @extschema@.klaviyo_metrics() RETURNS text
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format(E'# HELP %1$s %2$s\n# TYPE %1$s %3$s\n%4$s', d.metric, d.help, d.type, s.lines), E'\n' ORDER BY d.metric) || E'\n'
    FROM (
        VALUES
            ('klaviyo_account_stopped', 'gauge', 'Whether nothing is sent for the account: paused, or refused by Klaviyo.'),
            ('klaviyo_build_info', 'gauge', 'The version of klaviyo_sync, as a label.'),
            ('klaviyo_call_duration_seconds', 'summary', 'From sending a call to its answer, since the server started.'),
            ('klaviyo_call_failures_total', 'counter', 'Calls that failed or were refused, throttled ones included.'),
            ('klaviyo_calls_throttled_total', 'counter', 'Calls answered with 429.'),
            ('klaviyo_calls_total', 'counter', 'Calls of Klaviyo''s API that have ended.'),
            ('klaviyo_dead_letters', 'gauge', 'Messages put aside until somebody decides, counted up to 10000.'),
            ('klaviyo_delivery_duration_seconds', 'summary', 'From queueing a message to Klaviyo''s acceptance, since the server started.'),
            ('klaviyo_health_status', 'gauge', 'Checks of klaviyo_health(): 0 ok, 1 warning, 2 critical.'),
            ('klaviyo_job_last_end_timestamp_seconds', 'gauge', 'When the job''s last run ended.'),
            ('klaviyo_job_last_failed', 'gauge', 'Whether the job''s last run has failed.'),
            ('klaviyo_job_rows_read', 'gauge', 'Rows read in the run under way, or in the last.'),
            ('klaviyo_lane_calls_under_way', 'gauge', 'Calls under way.'),
            ('klaviyo_lane_minute_calls_left', 'gauge', 'Calls that may still be made in this minute.'),
            ('klaviyo_lane_ready_keys', 'gauge', 'Keys in memory whose next message may go.'),
            ('klaviyo_messages_accepted_total', 'counter', 'Messages that Klaviyo has accepted.'),
            ('klaviyo_outbox_messages', 'gauge', 'Messages that wait, counted up to 10000.'),
            ('klaviyo_outbox_oldest_age_seconds', 'gauge', 'How long the oldest of them has waited.'),
            ('klaviyo_retry_messages', 'gauge', 'Messages that are tried again, counted up to 10000.'),
            ('klaviyo_webhook_dead_letters', 'gauge', 'Events that a handler has failed at each time, counted up to 10000.'),
            ('klaviyo_webhook_events_untold', 'gauge', 'Events of which handlers are still to be told, counted up to 10000.'),
            ('klaviyo_worker_up', 'gauge', 'Whether this database has a worker.')
    ) AS d (metric, type, help)
    JOIN (
        SELECT m.metric, string_agg(m.metric || m.labels || ' ' || m.value::text, E'\n' ORDER BY m.labels) AS lines
        FROM klaviyo.metric_samples() AS m
        WHERE m.value IS NOT NULL
        GROUP BY m.metric
    ) AS s ON s.metric = d.metric
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_metrics() IS
    'Figures of how delivery stands, in the text format that Prometheus reads; what the gateway answers at /metrics';

-- The gateway: what its role, klaviyo_gateway, may do, and nothing else.

-- Takes: an account, a request's headers and its body as it came. Returns: the status of HTTP that says what became of it.
CREATE FUNCTION klaviyo.gateway_webhook(account text, headers jsonb, body bytea) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM @extschema@.klaviyo_receive_webhook(gateway_webhook.headers, gateway_webhook.body, gateway_webhook.account);
    RETURN 200;
EXCEPTION
    WHEN SQLSTATE 'KS083' THEN RETURN 413;
    WHEN SQLSTATE 'KS084' THEN RETURN 401;
    WHEN SQLSTATE 'KS085' OR SQLSTATE 'KS086' THEN RETURN 400;
END
$$;
COMMENT ON FUNCTION klaviyo.gateway_webhook(text, jsonb, bytea) IS 'What the gateway does with a request to /webhooks/klaviyo/ and an account: klaviyo_receive_webhook()';

CREATE FUNCTION klaviyo.gateway_health() RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'status', (ARRAY['ok', 'warning', 'critical'])[coalesce(max(array_position('{ok,warning,critical}', h.status)), 1)],
        'checks', coalesce(
            jsonb_agg(jsonb_strip_nulls(to_jsonb(h))
                      ORDER BY array_position('{critical,warning,ok}', h.status), h.name, h.account), '[]'))
    FROM @extschema@.klaviyo_health() AS h
$$;
COMMENT ON FUNCTION klaviyo.gateway_health() IS 'What the gateway answers at /health: the checks of klaviyo_health(), and the worst status of them';

CREATE FUNCTION klaviyo.gateway_metrics() RETURNS text
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT @extschema@.klaviyo_metrics()
$$;
COMMENT ON FUNCTION klaviyo.gateway_metrics() IS 'What the gateway answers at /metrics: klaviyo_metrics()';

-- A role of the cluster's, as the others are (see the install script).
DO $$
DECLARE
    role    record;
    members text;
BEGIN
    FOR role IN
        SELECT *
        FROM (
            VALUES ('klaviyo_gateway', 'klaviyo_sync: what the gateway runs as')
        ) AS r (name, comment)
    LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role.name);
            EXECUTE format('COMMENT ON ROLE %I IS %L', role.name, role.comment);
        EXCEPTION
            -- Unique violation: another database's CREATE EXTENSION was faster by a moment.
            WHEN duplicate_object OR unique_violation THEN
                IF EXISTS (
                    SELECT FROM pg_authid AS a
                    WHERE a.rolname = role.name
                      AND (a.rolcanlogin OR a.rolsuper OR a.rolcreaterole OR a.rolcreatedb OR a.rolreplication
                           OR a.rolbypassrls OR NOT a.rolinherit)
                ) THEN
                    RAISE EXCEPTION 'role "%" exists and is more than a group', role.name
                        USING ERRCODE = 'object_not_in_prerequisite_state',
                              DETAIL = 'klaviyo_sync grants rights to the roles klaviyo_admin, klaviyo_gateway, klaviyo_reader and klaviyo_writer, which must be NOLOGIN and INHERIT, and have no other attribute.',
                              HINT = format('Rename or drop that role, or change it: ALTER ROLE %I NOLOGIN INHERIT NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS.', role.name);
                END IF;
                SELECT string_agg(quote_ident(m.rolname), ', ' ORDER BY m.rolname)
                INTO members
                FROM pg_auth_members AS g
                JOIN pg_authid AS m ON m.oid = g.member
                WHERE g.roleid = (SELECT a.oid FROM pg_authid AS a WHERE a.rolname = role.name)
                  AND NOT m.rolsuper;
                IF members IS NOT NULL THEN
                    RAISE WARNING 'role "%" exists and has members, who get its rights in this database: %', role.name, members
                        USING HINT = format('Those who should not: REVOKE %I FROM …', role.name);
                END IF;
        END;
    END LOOP;
END
$$;

-- What is new is the owner's alone, whatever ALTER DEFAULT PRIVILEGES says.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT o.name, g.grantee
        FROM (
            SELECT 'TABLE klaviyo.' || c.relname, c.relacl
            FROM pg_catalog.pg_class AS c
            WHERE c.oid IN ('klaviyo.claim_floor'::pg_catalog.regclass, 'klaviyo.claim_mark'::pg_catalog.regclass,
                            'klaviyo.bulk_job'::pg_catalog.regclass, 'klaviyo.sent_unique_id'::pg_catalog.regclass,
                            'klaviyo.mapping'::pg_catalog.regclass, 'klaviyo.mapping_id_seq'::pg_catalog.regclass,
                            'klaviyo.sync'::pg_catalog.regclass, 'klaviyo.backfill'::pg_catalog.regclass,
                            'klaviyo.backfill_run'::pg_catalog.regclass, 'klaviyo.backfill_run_id_seq'::pg_catalog.regclass,
                            'klaviyo.captured_key'::pg_catalog.regclass, 'klaviyo.deletion'::pg_catalog.regclass,
                            'klaviyo.accepted_deletion'::pg_catalog.regclass, 'klaviyo.answer'::pg_catalog.regclass, 'klaviyo.daily_call'::pg_catalog.regclass,
                            'klaviyo.campaign'::pg_catalog.regclass, 'klaviyo.webhook'::pg_catalog.regclass, 'klaviyo.webhook_secret'::pg_catalog.regclass,
                            'klaviyo.webhook_event'::pg_catalog.regclass, 'klaviyo.webhook_event_event_id_seq'::pg_catalog.regclass,
                            'klaviyo.webhook_handler'::pg_catalog.regclass, 'klaviyo.webhook_handler_handler_id_seq'::pg_catalog.regclass,
                            'klaviyo.webhook_task'::pg_catalog.regclass, 'klaviyo.webhook_dead_letter'::pg_catalog.regclass,
                            'klaviyo.discarded'::pg_catalog.regclass, 'klaviyo.profile_conflict'::pg_catalog.regclass,
                            'klaviyo.job_plan'::pg_catalog.regclass, 'klaviyo.job_run'::pg_catalog.regclass, 'klaviyo.job_mark'::pg_catalog.regclass,
                            'klaviyo.job_seen'::pg_catalog.regclass, 'klaviyo.read'::pg_catalog.regclass, 'klaviyo.read_answer'::pg_catalog.regclass,
                            'klaviyo.profile'::pg_catalog.regclass, 'klaviyo.deleted_profile'::pg_catalog.regclass,
                            'klaviyo.event'::pg_catalog.regclass, 'klaviyo.list'::pg_catalog.regclass, 'klaviyo.list_member'::pg_catalog.regclass,
                            'klaviyo.segment'::pg_catalog.regclass, 'klaviyo.segment_member'::pg_catalog.regclass, 'klaviyo.flow'::pg_catalog.regclass,
                            'klaviyo.metric'::pg_catalog.regclass, 'klaviyo.job'::pg_catalog.regclass, 'klaviyo.clean_up'::pg_catalog.regclass,
                            'klaviyo.clean_up_run'::pg_catalog.regclass, 'klaviyo.clean_up_profile'::pg_catalog.regclass,
                            'klaviyo.campaign_event'::pg_catalog.regclass, 'klaviyo.campaign_day'::pg_catalog.regclass,
                            'klaviyo.message_secret'::pg_catalog.regclass, 'klaviyo.write_back'::pg_catalog.regclass,
                            'klaviyo.sync_conflict'::pg_catalog.regclass, 'klaviyo.own_value'::pg_catalog.regclass,
                            'klaviyo.read_read_id_seq'::pg_catalog.regclass, 'klaviyo.clean_up_run_run_id_seq'::pg_catalog.regclass,
                            'klaviyo.sync_conflict_conflict_id_seq'::pg_catalog.regclass, 'klaviyo.own_value_note_id_seq'::pg_catalog.regclass,
                            'klaviyo.metric_aggregate'::pg_catalog.regclass, 'klaviyo.campaign_report'::pg_catalog.regclass,
                            'klaviyo.flow_report'::pg_catalog.regclass, 'klaviyo.form_report'::pg_catalog.regclass,
                            'klaviyo.segment_report'::pg_catalog.regclass, 'klaviyo.list_day'::pg_catalog.regclass,
                            'klaviyo.campaign_performance'::pg_catalog.regclass, 'klaviyo.flow_performance'::pg_catalog.regclass,
                            'klaviyo.list_growth'::pg_catalog.regclass, 'klaviyo.segment_growth'::pg_catalog.regclass)
            UNION ALL
            SELECT 'FUNCTION ' || p.oid::pg_catalog.regprocedure, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
            FROM pg_catalog.pg_proc AS p
            WHERE p.oid IN ('klaviyo.open_claim_floor'::pg_catalog.regproc, 'klaviyo.unique_id_digest'::pg_catalog.regproc,
                            '@extschema@.klaviyo_sync_detach'::pg_catalog.regproc, '@extschema@.klaviyo_sync_events'::pg_catalog.regproc,
                            '@extschema@.klaviyo_sync_metric'::pg_catalog.regproc, '@extschema@.klaviyo_sync_pause'::pg_catalog.regproc,
                            '@extschema@.klaviyo_sync_profiles'::pg_catalog.regproc,
                            '@extschema@.klaviyo_sync_resume'::pg_catalog.regproc, '@extschema@.klaviyo_sync_show'::pg_catalog.regproc,
                            '@extschema@.klaviyo_preview'::pg_catalog.regproc, '@extschema@.klaviyo_request_deletion'::pg_catalog.regproc,
                            '@extschema@.klaviyo_assign_template'::pg_catalog.regproc, '@extschema@.klaviyo_cancel_campaign'::pg_catalog.regproc,
                            '@extschema@.klaviyo_create_campaign'::pg_catalog.regproc, '@extschema@.klaviyo_estimate_campaign'::pg_catalog.regproc,
                            '@extschema@.klaviyo_send_campaign'::pg_catalog.regproc,
                            '@extschema@.klaviyo_set_webhook'::pg_catalog.regproc, '@extschema@.klaviyo_remove_webhook'::pg_catalog.regproc,
                            '@extschema@.klaviyo_receive_webhook'::pg_catalog.regproc, 'klaviyo.is_webhook_signed'::pg_catalog.regproc,
                            'klaviyo.webhook_time'::pg_catalog.regproc, 'klaviyo.webhook_events'::pg_catalog.regproc,
                            '@extschema@.klaviyo_on_webhook'::pg_catalog.regproc, '@extschema@.klaviyo_off_webhook'::pg_catalog.regproc,
                            '@extschema@.klaviyo_redrive_webhook'::pg_catalog.regproc,
                            'klaviyo.store_webhook_secret'::pg_catalog.regproc, 'klaviyo.webhook_health'::pg_catalog.regproc, 'klaviyo.job_health'::pg_catalog.regproc, 'klaviyo.names_deleted'::pg_catalog.regproc, 'klaviyo.server_secrets'::pg_catalog.regproc,
                            '@extschema@.klaviyo_call'::pg_catalog.regproc, '@extschema@.klaviyo_create_coupon_code'::pg_catalog.regproc,
                            '@extschema@.klaviyo_delete_catalog_category'::pg_catalog.regproc, '@extschema@.klaviyo_delete_catalog_item'::pg_catalog.regproc,
                            '@extschema@.klaviyo_delete_catalog_variant'::pg_catalog.regproc, '@extschema@.klaviyo_upsert_catalog_category'::pg_catalog.regproc,
                            '@extschema@.klaviyo_upsert_catalog_item'::pg_catalog.regproc, '@extschema@.klaviyo_upsert_catalog_variant'::pg_catalog.regproc, '@extschema@.klaviyo_create_list'::pg_catalog.regproc, '@extschema@.klaviyo_rename_list'::pg_catalog.regproc,
                            '@extschema@.klaviyo_delete_list'::pg_catalog.regproc,
                            '@extschema@.klaviyo_add_to_list'::pg_catalog.regproc, '@extschema@.klaviyo_remove_from_list'::pg_catalog.regproc,
                            '@extschema@.klaviyo_merge_profiles'::pg_catalog.regproc, '@extschema@.klaviyo_readmit'::pg_catalog.regproc, 'klaviyo.person_digest'::pg_catalog.regproc,
                            'klaviyo.purge_deliveries'::pg_catalog.regproc, 'klaviyo.identifier'::pg_catalog.regproc, 'klaviyo.deletions_of'::pg_catalog.regproc,
                            '@extschema@.klaviyo_subscribe'::pg_catalog.regproc, '@extschema@.klaviyo_suppress'::pg_catalog.regproc,
                            '@extschema@.klaviyo_track_purchase'::pg_catalog.regproc, 'klaviyo.items_fault'::pg_catalog.regproc,
                            'klaviyo.id_part'::pg_catalog.regproc, 'klaviyo.of_items'::pg_catalog.regproc,
                            'klaviyo.purchased_item'::pg_catalog.regproc, 'klaviyo.refuse_message'::pg_catalog.regproc,
                            '@extschema@.klaviyo_unsubscribe'::pg_catalog.regproc, '@extschema@.klaviyo_unsuppress'::pg_catalog.regproc,
                            '@extschema@.klaviyo_upsert_changes'::pg_catalog.regproc,
                            'klaviyo.adopt_mappings'::pg_catalog.regproc, 'klaviyo.bury_row'::pg_catalog.regproc,
                            'klaviyo.check_changes'::pg_catalog.regproc, 'klaviyo.check_event'::pg_catalog.regproc,
                            'klaviyo.fault_to_bury'::pg_catalog.regproc, 'klaviyo.follow_table'::pg_catalog.regproc,
                            'klaviyo.follow_tables'::pg_catalog.regproc, 'klaviyo.forget_tables'::pg_catalog.regproc, 'klaviyo.is_capturing'::pg_catalog.regproc,
                            'klaviyo.check_mapping'::pg_catalog.regproc, 'klaviyo.mapping_fault'::pg_catalog.regproc,
                            'klaviyo.mapping_health'::pg_catalog.regproc, 'klaviyo.preview_rows'::pg_catalog.regproc,
                            '@extschema@.klaviyo_backfill'::pg_catalog.regproc, '@extschema@.klaviyo_backfill_cancel'::pg_catalog.regproc,
                            '@extschema@.klaviyo_backfill_pause'::pg_catalog.regproc, '@extschema@.klaviyo_backfill_resume'::pg_catalog.regproc,
                            'klaviyo.backfill_changes'::pg_catalog.regproc, 'klaviyo.backfill_event'::pg_catalog.regproc,
                            'klaviyo.backfill_health'::pg_catalog.regproc, 'klaviyo.note_keys'::pg_catalog.regproc,
                            'klaviyo.notes_keys'::pg_catalog.regproc,
                            'klaviyo.labels'::pg_catalog.regproc, 'klaviyo.metric_samples'::pg_catalog.regproc,
                            '@extschema@.klaviyo_metrics'::pg_catalog.regproc, 'klaviyo.gateway_webhook'::pg_catalog.regproc,
                            'klaviyo.gateway_health'::pg_catalog.regproc, 'klaviyo.gateway_metrics'::pg_catalog.regproc,
                            'klaviyo.job_pause'::pg_catalog.regproc, 'klaviyo.options_fault'::pg_catalog.regproc,
                            'klaviyo.refuse_unknown_job'::pg_catalog.regproc, '@extschema@.klaviyo_set_job'::pg_catalog.regproc,
                            'klaviyo.begin_job'::pg_catalog.regproc, '@extschema@.klaviyo_run_job'::pg_catalog.regproc,
                            '@extschema@.klaviyo_pause_job'::pg_catalog.regproc, '@extschema@.klaviyo_resume_job'::pg_catalog.regproc,
                            '@extschema@.klaviyo_remove_job'::pg_catalog.regproc, 'klaviyo.segment_ttl'::pg_catalog.regproc,
                            'klaviyo.wish'::pg_catalog.regproc, 'klaviyo.fresh_segment'::pg_catalog.regproc,
                            '@extschema@.klaviyo_segment_members'::pg_catalog.regproc, '@extschema@.klaviyo_in_segment'::pg_catalog.regproc,
                            '@extschema@.klaviyo_pull_profile'::pg_catalog.regproc, '@extschema@.klaviyo_set_clean_up'::pg_catalog.regproc,
                            '@extschema@.klaviyo_run_clean_up'::pg_catalog.regproc, '@extschema@.klaviyo_remove_clean_up'::pg_catalog.regproc,
                            'klaviyo.webhook_event_time'::pg_catalog.regproc, 'klaviyo.count_campaign_event'::pg_catalog.regproc,
                            'klaviyo.mirror_consent_event'::pg_catalog.regproc, 'klaviyo.mirror_list_event'::pg_catalog.regproc,
                            '@extschema@.klaviyo_mirror_webhooks'::pg_catalog.regproc, '@extschema@.klaviyo_webhook_create'::pg_catalog.regproc,
                            '@extschema@.klaviyo_webhook_delete'::pg_catalog.regproc, '@extschema@.klaviyo_webhook_list'::pg_catalog.regproc,
                            '@extschema@.klaviyo_webhook_topics'::pg_catalog.regproc, 'klaviyo.fields_of'::pg_catalog.regproc,
                            'klaviyo.field_text'::pg_catalog.regproc, 'klaviyo.value_digest'::pg_catalog.regproc,
                            'klaviyo.people_of'::pg_catalog.regproc, 'klaviyo.with_field'::pg_catalog.regproc,
                            'klaviyo.note_own_values'::pg_catalog.regproc, 'klaviyo.note_new_row'::pg_catalog.regproc,
                            'klaviyo.told'::pg_catalog.regproc, '@extschema@.klaviyo_upsert_two_way'::pg_catalog.regproc,
                            'klaviyo.note_write_backs'::pg_catalog.regproc, 'klaviyo.told_of'::pg_catalog.regproc,
                            'klaviyo.compare_profiles'::pg_catalog.regproc, 'klaviyo.try_update'::pg_catalog.regproc,
                            'klaviyo.wake_runner'::pg_catalog.regproc)
        ) AS o (name, acl)
        CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) AS g
        WHERE g.grantee <> (SELECT e.extowner FROM pg_catalog.pg_extension AS e WHERE e.extname = 'klaviyo_sync')
    LOOP
        EXECUTE pg_catalog.format(
            'REVOKE ALL ON %s FROM %s',
            granted.name,
            CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::pg_catalog.regrole::text END
        );
    END LOOP;
END
$$;
GRANT SELECT ON klaviyo.accepted_deletion, klaviyo.answer, klaviyo.campaign, klaviyo.daily_call, klaviyo.backfill, klaviyo.backfill_run, klaviyo.captured_key, klaviyo.mapping, klaviyo.sync, klaviyo.discarded, klaviyo.profile_conflict, klaviyo.webhook, klaviyo.webhook_dead_letter, klaviyo.webhook_event, klaviyo.webhook_handler, klaviyo.webhook_task TO klaviyo_reader;
GRANT INSERT (webhook, account), UPDATE (account, changed_at), DELETE ON klaviyo.webhook TO klaviyo_admin;
-- Pulls' rights.
GRANT SELECT ON
    klaviyo.campaign_day, klaviyo.campaign_event, klaviyo.campaign_performance, klaviyo.campaign_report, klaviyo.clean_up,
    klaviyo.clean_up_profile, klaviyo.clean_up_run, klaviyo.event, klaviyo.flow, klaviyo.flow_performance, klaviyo.flow_report,
    klaviyo.form_report, klaviyo.job, klaviyo.job_mark, klaviyo.job_plan, klaviyo.job_run, klaviyo.list, klaviyo.list_day,
    klaviyo.list_growth, klaviyo.list_member, klaviyo.metric, klaviyo.metric_aggregate, klaviyo.profile, klaviyo.segment,
    klaviyo.segment_growth, klaviyo.segment_member, klaviyo.segment_report, klaviyo.sync_conflict, klaviyo.write_back
TO klaviyo_reader;
GRANT EXECUTE ON FUNCTION
    klaviyo.options_fault, klaviyo.refuse_unknown_job, @extschema@.klaviyo_set_job, klaviyo.begin_job, @extschema@.klaviyo_run_job,
    @extschema@.klaviyo_pause_job, @extschema@.klaviyo_resume_job, @extschema@.klaviyo_remove_job,
    @extschema@.klaviyo_pull_profile, @extschema@.klaviyo_set_clean_up, @extschema@.klaviyo_run_clean_up,
    @extschema@.klaviyo_remove_clean_up, @extschema@.klaviyo_mirror_webhooks, @extschema@.klaviyo_webhook_create,
    @extschema@.klaviyo_webhook_delete, @extschema@.klaviyo_webhook_list, @extschema@.klaviyo_webhook_topics, klaviyo.wake_runner
TO klaviyo_admin;
GRANT INSERT (account, job, every, names, since, options), UPDATE (every, names, since, options, paused_at, changed_at), DELETE ON klaviyo.job_plan TO klaviyo_admin;
GRANT EXECUTE ON FUNCTION @extschema@.klaviyo_in_segment TO klaviyo_reader, klaviyo_writer;
GRANT EXECUTE ON FUNCTION @extschema@.klaviyo_segment_members, klaviyo.job_pause TO klaviyo_reader;
GRANT EXECUTE ON FUNCTION @extschema@.klaviyo_upsert_two_way, klaviyo.try_update TO klaviyo_writer;
GRANT EXECUTE ON FUNCTION @extschema@.klaviyo_metrics TO klaviyo_reader;
GRANT USAGE ON SCHEMA klaviyo TO klaviyo_gateway;
GRANT EXECUTE ON FUNCTION klaviyo.gateway_health, klaviyo.gateway_metrics, klaviyo.gateway_webhook TO klaviyo_gateway;
-- End of pulls' rights.
GRANT SELECT (message_id, seq, account, identifier, requested_at, requested_by, accepted_at, purged_at, dropped_at, readmitted_at, readmitted_seq)
ON klaviyo.deletion TO klaviyo_reader;
GRANT EXECUTE ON FUNCTION @extschema@.klaviyo_sync_show TO klaviyo_reader;
GRANT USAGE ON SCHEMA klaviyo TO klaviyo_writer;
GRANT EXECUTE ON FUNCTION
    @extschema@.klaviyo_add_to_list, @extschema@.klaviyo_merge_profiles, @extschema@.klaviyo_readmit, @extschema@.klaviyo_remove_from_list,
    @extschema@.klaviyo_create_list, @extschema@.klaviyo_delete_list, @extschema@.klaviyo_rename_list,
    @extschema@.klaviyo_create_coupon_code, @extschema@.klaviyo_delete_catalog_category, @extschema@.klaviyo_delete_catalog_item,
    @extschema@.klaviyo_delete_catalog_variant, @extschema@.klaviyo_upsert_catalog_category, @extschema@.klaviyo_upsert_catalog_item,
    @extschema@.klaviyo_upsert_catalog_variant,
    @extschema@.klaviyo_request_deletion, @extschema@.klaviyo_subscribe, @extschema@.klaviyo_suppress, @extschema@.klaviyo_track_purchase,
    @extschema@.klaviyo_unsubscribe, klaviyo.id_part, klaviyo.items_fault, klaviyo.of_items, klaviyo.purchased_item, klaviyo.refuse_message,
    @extschema@.klaviyo_unsuppress, @extschema@.klaviyo_upsert_changes, klaviyo.bury_row, klaviyo.fault_to_bury, klaviyo.is_capturing, klaviyo.note_keys,
    klaviyo.notes_keys
TO klaviyo_writer;
GRANT EXECUTE ON FUNCTION
    @extschema@.klaviyo_backfill, @extschema@.klaviyo_backfill_cancel, @extschema@.klaviyo_backfill_pause,
    @extschema@.klaviyo_assign_template, @extschema@.klaviyo_cancel_campaign, @extschema@.klaviyo_create_campaign,
    @extschema@.klaviyo_estimate_campaign, @extschema@.klaviyo_send_campaign,
    @extschema@.klaviyo_backfill_resume, @extschema@.klaviyo_call, @extschema@.klaviyo_preview, @extschema@.klaviyo_sync_detach,
    @extschema@.klaviyo_sync_events,
    @extschema@.klaviyo_sync_metric, @extschema@.klaviyo_sync_pause, @extschema@.klaviyo_sync_profiles, @extschema@.klaviyo_sync_resume,
    @extschema@.klaviyo_off_webhook, @extschema@.klaviyo_on_webhook, @extschema@.klaviyo_receive_webhook,
    @extschema@.klaviyo_redrive_webhook, @extschema@.klaviyo_remove_webhook, @extschema@.klaviyo_set_webhook,
    klaviyo.adopt_mappings, klaviyo.check_changes, klaviyo.check_event, klaviyo.preview_rows, klaviyo.store_webhook_secret
TO klaviyo_admin;

CREATE OR REPLACE FUNCTION @extschema@.klaviyo_redrive(
    message_id uuid DEFAULT NULL,
    code       text DEFAULT NULL,
    kind       text DEFAULT NULL,
    account    text DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    chosen     uuid[];
    moved      bigint;
    superseded bigint;
    refused    bigint;
    homeless   bigint;
BEGIN
    chosen := ARRAY(
        SELECT c
        FROM klaviyo.chosen_dead_letters(
                'klaviyo_redrive', klaviyo_redrive.message_id, klaviyo_redrive.code, klaviyo_redrive.kind,
                klaviyo_redrive.account
            ) AS c
    );
    SELECT count(*) FILTER (WHERE s.message_id IS NOT NULL), count(*) FILTER (WHERE d.seq IS NULL),
           count(*) FILTER (WHERE a.name IS NULL)
    INTO superseded, refused, homeless
    FROM klaviyo.dead_letter AS d
    LEFT JOIN klaviyo.superseded AS s ON s.message_id = d.message_id
    LEFT JOIN klaviyo.account AS a ON a.name = d.account
    WHERE d.message_id = ANY (chosen);

    WITH gone AS (
        DELETE FROM klaviyo.dead_letter AS d
        WHERE d.message_id = ANY (chosen) AND d.seq IS NOT NULL
          AND NOT EXISTS (SELECT FROM klaviyo.superseded AS s WHERE s.message_id = d.message_id)
          AND EXISTS (SELECT FROM klaviyo.account AS a WHERE a.name = d.account)
        RETURNING d.*
    )
    INSERT INTO klaviyo.retry
        (seq, message_id, account, kind, key, payload, enqueued_at, attempts, strikes, not_before, last_status,
         last_code, last_error, last_error_id, redriven_at, may_be_done)
    SELECT g.seq, g.message_id, g.account, g.kind, g.key, g.payload, g.enqueued_at, g.attempts, 0, now(), g.http_status,
           g.code, g.reason, g.klaviyo_error_id, now(),
           -- It is looked for first, unless Klaviyo has refused it or somebody has looked.
           g.kind = 'campaign_create' AND g.attempts > 0 AND g.code <> 'ambiguous'
               AND coalesce(g.http_status, 0) NOT BETWEEN 400 AND 499
    FROM gone AS g;
    GET DIAGNOSTICS moved = ROW_COUNT;

    IF superseded > 0 THEN
        RAISE NOTICE 'dead letters that stay, older than a state of the same profile that Klaviyo has accepted since: %', superseded
            USING HINT = 'Drop them with klaviyo_discard(); to send their content all the same, queue it anew.';
    END IF;
    IF refused > 0 THEN
        RAISE NOTICE 'dead letters that stay, refused when they were queued: %', refused
            USING HINT = 'Correct and queue their content anew, then drop them with klaviyo_discard().';
    END IF;
    IF homeless > 0 THEN
        RAISE NOTICE 'dead letters that stay, of accounts that do not exist: %', homeless
            USING HINT = 'Add their account with klaviyo_set_account(), or drop them with klaviyo_discard().';
    END IF;
    PERFORM klaviyo.wake_worker(true);
    RETURN moved;
END
$$;

CREATE OR REPLACE FUNCTION @extschema@.klaviyo_arm_account(name text DEFAULT 'default') RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account_name text := coalesce(name, 'default');
BEGIN
    UPDATE klaviyo.account AS a
    SET armed_system = (SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c),
        armed_database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database()),
        armed_name = current_database(),
        armed_instance = coalesce(pg_catalog.current_setting('klaviyo.instance', true), ''),
        fresh_from = CASE
            WHEN a.armed_system IS NULL OR klaviyo.is_armed(a) THEN a.fresh_from
            ELSE (SELECT s.last_value + 1 FROM klaviyo.outbox_seq_seq AS s)
        END,
        changed_at = now()
    WHERE a.name = account_name;
    IF NOT FOUND THEN
        PERFORM klaviyo.refuse_unknown_account(account_name);
    END IF;
    PERFORM klaviyo.adopt_mappings(account_name);
    PERFORM klaviyo.wake_worker(true);
END
$$;
GRANT SELECT ON klaviyo.outbox_seq_seq TO klaviyo_admin;
GRANT UPDATE (fresh_from) ON klaviyo.account TO klaviyo_admin;
GRANT SELECT ON klaviyo.bulk_job, klaviyo.sent_unique_id TO klaviyo_reader;
GRANT EXECUTE ON FUNCTION klaviyo.unique_id_digest(text, text, text) TO klaviyo_reader;

CREATE OR REPLACE FUNCTION @extschema@.klaviyo_check_account(name text DEFAULT 'default', timeout interval DEFAULT '30 seconds')
RETURNS SETOF klaviyo.account_check
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account_name text := coalesce(name, 'default');
    began        timestamptz := clock_timestamp();
    deadline     timestamptz := began + least(greatest(coalesce(timeout, interval '30 seconds'), interval '0'), interval '1 hour');
    asked        boolean := false;
    able         boolean;
BEGIN
    SELECT klaviyo.is_armed(a) AND a.paused_at IS NULL INTO able FROM klaviyo.account AS a WHERE a.name = account_name;
    IF NOT FOUND THEN
        PERFORM klaviyo.refuse_unknown_account(account_name);
    END IF;
    IF NOT able OR coalesce(klaviyo.worker_pid(), -1) < 0
        OR NOT coalesce(pg_catalog.current_setting('klaviyo.enabled', true), 'on')::boolean THEN
        RAISE EXCEPTION 'account "%" cannot be checked: it makes no calls', account_name
            USING ERRCODE = 'KS028', DETAIL = 'The worker asks Klaviyo, with the account''s key.',
                  HINT = coalesce(klaviyo.waiting_hint(account_name), 'Arm and resume the account first.');
    END IF;
    IF pg_catalog.current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'klaviyo_check_account() cannot see the answer at isolation level %', pg_catalog.current_setting('transaction_isolation')
            USING ERRCODE = 'KS031', DETAIL = 'The transaction sees the database as it was when it began.',
                  HINT = 'Call it in a READ COMMITTED transaction, or outside of one.';
    END IF;
    WHILE NOT EXISTS (SELECT FROM klaviyo.account_check AS c WHERE c.account = account_name AND c.checked_at >= began) LOOP
        -- The worker may not have seen a new account yet.
        asked := asked OR klaviyo.ask_for_check(account_name);
        IF clock_timestamp() >= deadline THEN
            RAISE EXCEPTION 'the check of account "%" has not ended in time', account_name
                USING ERRCODE = 'KS029', DETAIL = 'It goes on; klaviyo.account_check will have what it finds.',
                      HINT = coalesce(klaviyo.waiting_hint(account_name), 'Klaviyo may be slow, or the account at its limits: see klaviyo.lane. Allow more time.');
        END IF;
        PERFORM pg_catalog.pg_sleep(0.02);
    END LOOP;
    RETURN QUERY SELECT c.* FROM klaviyo.account_check AS c WHERE c.account = account_name ORDER BY c.path, c.method;
END
$$;

-- A request for deletion that is dropped is over.
CREATE OR REPLACE FUNCTION @extschema@.klaviyo_discard(
    message_id uuid DEFAULT NULL,
    code       text DEFAULT NULL,
    kind       text DEFAULT NULL,
    account    text DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dropped bigint;
BEGIN
    WITH gone AS (
        DELETE FROM klaviyo.dead_letter AS d
        USING klaviyo.chosen_dead_letters(
                'klaviyo_discard', klaviyo_discard.message_id, klaviyo_discard.code, klaviyo_discard.kind,
                klaviyo_discard.account
            ) AS chosen
        WHERE d.message_id = chosen
        RETURNING d.message_id
    ), marks AS (
        DELETE FROM klaviyo.superseded AS s USING gone AS g WHERE s.message_id = g.message_id
    ), requests AS (
        UPDATE klaviyo.deletion AS d
        SET identifier = NULL, dropped_at = now()
        FROM gone AS g
        WHERE d.message_id = g.message_id AND d.accepted_at IS NULL
    )
    SELECT count(*) INTO dropped FROM gone;
    RETURN dropped;
END
$$;

-- A message may be discarded.
COMMENT ON TYPE klaviyo.result IS
    'What became of a message. status: waiting (no call yet), retrying (a call failed, more will follow), accepted (Klaviyo has it), dead (put aside, see klaviyo.dead_letter), discarded (not sent, since the person was to be deleted, see klaviyo.deletion, or since it was cancelled while it waited), unknown (no such message, or its record has been dropped)';

CREATE OR REPLACE FUNCTION klaviyo.settled_result(message_id uuid) RETURNS SETOF klaviyo.result
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.message_id, 'accepted', d.kind, d.account, d.http_status, d.attempts, d.klaviyo_id, NULL::text, NULL::text,
           d.klaviyo_error_id, d.enqueued_at, d.settled_at, NULL::text, a.body
    FROM klaviyo.delivery AS d
    LEFT JOIN klaviyo.answer AS a ON a.message_id = d.message_id
    WHERE d.message_id = settled_result.message_id
    UNION ALL
    SELECT d.message_id, 'dead', d.kind, d.account, d.http_status, d.attempts, NULL, d.code, d.reason,
           d.klaviyo_error_id, d.enqueued_at, d.died_at,
           CASE
               WHEN d.seq IS NULL THEN
                   'It was refused when it was queued: correct it, queue it again, and drop this one with klaviyo_discard().'
               WHEN EXISTS (SELECT FROM klaviyo.superseded AS s WHERE s.message_id = d.message_id) THEN
                   'Klaviyo has accepted a newer state of the same profile since: drop this one with klaviyo_discard().'
               WHEN d.code = 'ambiguous_list' THEN
                   'Give all but one of them another name at Klaviyo, or queue it anew with the id of the one that is meant; drop this one with klaviyo_discard().'
               WHEN d.code = 'list_exists' THEN
                   'Use that one, or queue it anew with another name; drop this one with klaviyo_discard().'
               WHEN d.code = 'no_such_campaign' THEN
                   'See what became of the message that was to make it: once that has been sent again and is accepted, klaviyo_redrive() this one.'
               WHEN d.code IN ('not_a_draft', 'too_late') THEN
                   'See klaviyo.campaign; drop this one with klaviyo_discard().'
               WHEN d.code = 'not_one_message' THEN
                   'Use klaviyo_call(''POST'', ''/api/campaign-message-assign-template'', …) with the message that is meant; drop this one with klaviyo_discard().'
               WHEN d.code = 'ambiguous' AND d.kind = 'campaign_send' THEN
                   'Look at Klaviyo whether the campaign is being sent, see klaviyo.campaign. If it is, drop this one with klaviyo_discard(); if it is a draft, klaviyo_redrive() sends it.'
               WHEN d.code = 'ambiguous' THEN
                   'Look at Klaviyo whether it was done. If it was, drop this one with klaviyo_discard(); if not, klaviyo_redrive() sends it again.'
               WHEN d.duplicate_profile_id IS NOT NULL THEN
                   format('Profile %s has one of its identifiers already: decide which stays, klaviyo_merge_profiles(), then klaviyo_redrive() it.', d.duplicate_profile_id)
               ELSE 'When the cause is gone, klaviyo_redrive() sends it again; klaviyo_discard() drops it.'
           END,
           NULL
    FROM klaviyo.dead_letter AS d
    WHERE d.message_id = settled_result.message_id
    UNION ALL
    SELECT d.message_id, 'discarded', d.kind, d.account, NULL, 0, NULL, w.code, w.reason, NULL, d.enqueued_at,
           d.discarded_at, w.hint, NULL
    FROM klaviyo.discarded AS d
    JOIN (
        VALUES
            (true, 'cancelled', 'klaviyo_cancel_campaign() was called while it waited',
             'If it is to be sent after all, call klaviyo_send_campaign() again.'),
            (false, 'person_deleted', 'the data of the person it is about was to be deleted',
             'If the person is back, call klaviyo_readmit() and queue it again.')
    ) AS w (is_campaign, code, reason, hint) ON w.is_campaign = (d.kind = 'campaign_send')
    WHERE d.message_id = settled_result.message_id
    UNION ALL
    SELECT r.message_id, 'retrying', r.kind, r.account, r.last_status, r.attempts, NULL, r.last_code, r.last_error,
           r.last_error_id, r.enqueued_at, NULL, klaviyo.waiting_hint(r.account), NULL
    FROM klaviyo.retry AS r
    WHERE r.message_id = settled_result.message_id
$$;

COMMENT ON FUNCTION @extschema@.klaviyo_result(uuid) IS
    'What became of a message: its status (waiting, retrying, accepted, dead, discarded, unknown), Klaviyo''s answer (of a klaviyo_call() all of it) and what to do. While the message waits it reads the whole outbox';

CREATE OR REPLACE FUNCTION @extschema@.klaviyo_await(message_id uuid, timeout interval DEFAULT '10 seconds') RETURNS klaviyo.result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deadline     timestamptz := clock_timestamp()
        + least(greatest(coalesce(timeout, interval '10 seconds'), interval '0'), interval '1 hour');
    pause        double precision := 0.002;
    found_result klaviyo.result;
BEGIN
    IF EXISTS (
        SELECT FROM klaviyo.outbox AS o
        WHERE o.message_id = klaviyo_await.message_id AND klaviyo.is_own_transaction(o.xmin)
    ) THEN
        RAISE EXCEPTION 'message % was queued in this very transaction', klaviyo_await.message_id
            USING ERRCODE = 'KS030', DETAIL = 'It is sent when the transaction has committed, so waiting for it here would wait for ever.',
                  HINT = 'COMMIT first, then call klaviyo_await().';
    END IF;
    IF pg_catalog.current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'klaviyo_await() cannot see the answer at isolation level %', pg_catalog.current_setting('transaction_isolation')
            USING ERRCODE = 'KS031', DETAIL = 'The transaction sees the database as it was when it began.',
                  HINT = 'Call it in a READ COMMITTED transaction, or outside of one.';
    END IF;
    LOOP
        SELECT * INTO found_result FROM klaviyo.settled_result(klaviyo_await.message_id) LIMIT 1;
        EXIT WHEN found_result.status IN ('accepted', 'dead', 'discarded') OR clock_timestamp() >= deadline;
        IF pause = 0.002 AND found_result.status IS NULL THEN
            -- The only look into the outbox: no need to wait for what is not there.
            found_result := klaviyo.result_of(klaviyo_await.message_id);
            EXIT WHEN found_result.status <> 'waiting' AND found_result.status <> 'retrying';
        END IF;
        PERFORM pg_catalog.pg_sleep(least(pause, greatest(0, extract(epoch FROM deadline - clock_timestamp()))));
        pause := least(pause * 2, 0.1);
    END LOOP;
    IF found_result.status IS NULL THEN
        found_result := klaviyo.result_of(klaviyo_await.message_id);
    END IF;
    RETURN found_result;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_await(uuid, interval) IS
    'Waits until a message is accepted, dead or discarded, or the timeout (at most an hour) is over, and tells what became of it as klaviyo_result() does. Call it after the transaction that queued the message has committed';

-- Jobs, where one asks what holds a message or an account.
CREATE OR REPLACE FUNCTION klaviyo.waiting_result(message_id uuid) RETURNS SETOF klaviyo.result
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT o.message_id, 'waiting', o.kind, o.account, NULL::integer, 0, NULL::text, NULL::text, NULL::text, NULL::text,
           o.enqueued_at, NULL::timestamptz,
           CASE
               WHEN klaviyo.is_own_transaction(o.xmin) THEN 'It is sent when the transaction that queued it has committed.'
               ELSE coalesce(klaviyo.waiting_hint(o.account), job.hint)
           END,
           NULL::json
    FROM klaviyo.outbox AS o
    LEFT JOIN LATERAL (
        SELECT format('Klaviyo is importing it since %s with others, as job %s: see klaviyo.bulk_job.', j.announced_at,
                      coalesce(j.klaviyo_id, 'not known by name yet')) AS hint
        FROM klaviyo.bulk_job AS j
        WHERE j.ended_at IS NULL AND j.account = o.account AND o.seq = ANY (j.seqs)
        LIMIT 1
    ) AS job ON true
    WHERE o.message_id = waiting_result.message_id
$$;

CREATE OR REPLACE FUNCTION klaviyo.account_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'account', NULL::text, 'warning', 'there is none', 'Add one with klaviyo_set_account().'
    WHERE NOT EXISTS (SELECT FROM klaviyo.account)
    UNION ALL
    SELECT 'arming', a.name, CASE WHEN klaviyo.is_armed(a) THEN 'ok' ELSE 'critical' END,
           CASE WHEN klaviyo.is_armed(a) THEN 'armed'
                WHEN a.armed_system IS NULL THEN 'never armed'
                ELSE 'armed for another cluster, database or klaviyo.instance: this may be a copy' END,
           CASE WHEN NOT klaviyo.is_armed(a) THEN
               format('If this database is to send: SELECT klaviyo_arm_account(%L).', a.name) END
    FROM klaviyo.account AS a
    UNION ALL
    SELECT 'paused', a.name, CASE WHEN a.paused_at IS NULL THEN 'ok' ELSE 'warning' END,
           CASE WHEN a.paused_at IS NULL THEN 'no' ELSE 'since ' || a.paused_at || coalesce(': ' || a.paused_reason, '') END,
           CASE WHEN a.paused_at IS NOT NULL THEN format('SELECT klaviyo_resume_account(%L) sends what waits.', a.name) END
    FROM klaviyo.account AS a
    UNION ALL
    SELECT 'key', a.name,
           CASE WHEN refused.reason IS NOT NULL THEN 'critical' ELSE 'ok' END,
           CASE WHEN refused.reason IS NOT NULL THEN 'not accepted'
                WHEN l.last_success_at IS NOT NULL THEN 'accepted, last at ' || l.last_success_at
                ELSE 'not used since the server started' END,
           refused.reason
    FROM klaviyo.account AS a
    LEFT JOIN klaviyo.account_status AS s ON s.account = a.name AND s.stopped_at IS NOT NULL
    LEFT JOIN LATERAL (
        SELECT s.stopped_reason WHERE klaviyo.is_armed(a) AND a.paused_at IS NULL
    ) AS refused (reason) ON true
    LEFT JOIN LATERAL (
        SELECT max(l.last_success_at) AS last_success_at FROM klaviyo.lane AS l WHERE l.account = a.name
    ) AS l ON true
    UNION ALL
    SELECT 'revision', a.name,
           CASE WHEN a.revision::date < now() - interval '2 years' THEN 'critical'
                WHEN a.revision::date < now() - interval '18 months' THEN 'warning' ELSE 'ok' END,
           a.revision,
           CASE WHEN a.revision::date < now() - interval '18 months' THEN
               'Klaviyo retires a revision after two years: update the extension, then klaviyo_set_account(revision => …).' END
    FROM klaviyo.account AS a
    UNION ALL
    SELECT 'import_jobs', a.name, CASE WHEN j.is_late THEN 'warning' ELSE 'ok' END,
           CASE WHEN j.open > 0 THEN format('%s under way, the first since %s', j.open, j.since) ELSE 'none under way' END,
           CASE WHEN j.is_late THEN
               'Klaviyo has not ended a job within klaviyo.backlog_age. Until it has, nothing else is sent about the profiles in it; see klaviyo.bulk_job, and Klaviyo''s status page.' END
    FROM klaviyo.account AS a
    CROSS JOIN LATERAL (
        SELECT count(*) AS open, min(j.announced_at) AS since,
               min(j.announced_at) < clock_timestamp() - coalesce(current_setting('klaviyo.backlog_age', true), '15min')::interval AS is_late
        FROM klaviyo.bulk_job AS j
        WHERE j.ended_at IS NULL AND j.account = a.name
    ) AS j
    UNION ALL
    SELECT 'deletions', a.name, CASE WHEN p.is_late THEN 'warning' ELSE 'ok' END,
           CASE WHEN p.open > 0 THEN format('%s to be purged, the first since %s', p.open, p.since) ELSE 'none to be purged' END,
           CASE WHEN p.is_late THEN
               'Klaviyo has accepted a request for deletion more than a day ago, and our tables still name the person. A transaction that does not end, or is prepared, or a lock holds that up: see pg_stat_activity, pg_prepared_xacts and the server''s log.' END
    FROM klaviyo.account AS a
    CROSS JOIN LATERAL (
        SELECT count(*) AS open, min(d.accepted_at) AS since, min(d.accepted_at) < clock_timestamp() - interval '1 day' AS is_late
        FROM (
            SELECT d.accepted_at
            FROM klaviyo.deletion AS d
            WHERE d.account = a.name AND d.accepted_at IS NOT NULL AND d.purged_at IS NULL
            UNION ALL
            SELECT c.accepted_at
            FROM klaviyo.accepted_deletion AS c
            JOIN klaviyo.deletion AS d ON d.message_id = c.message_id
            WHERE d.account = a.name AND d.accepted_at IS NULL
        ) AS d
    ) AS p
$$;

COMMENT ON COLUMN klaviyo.outbox.kind IS 'Kind of message: event, profile, deletion, subscribe, unsubscribe, suppress, unsuppress, merge, list_add, list_remove, list_create, list_rename, list_delete, catalog_item, catalog_item_update, catalog_item_delete, catalog_variant, catalog_variant_update, catalog_variant_delete, catalog_category, catalog_category_update, catalog_category_delete, coupon_code, campaign_create, campaign_template, campaign_estimate, campaign_send, campaign_cancel, call';
