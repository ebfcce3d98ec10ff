-- Tables. Functions stand in the schema the extension is installed into; tables in schema klaviyo, whatever that is.
-- Only functions of the extension and its worker write here.

-- For the whole script: what it runs and what its constraints and views are made of is Postgres' own, not what others
-- may have put into the schema the extension is installed into. That schema is named where something is made in it.
SET LOCAL search_path = pg_catalog, pg_temp;

DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() <> 'UTF8' THEN
        RAISE EXCEPTION 'klaviyo_sync needs a database with encoding UTF8, this one has %', pg_catalog.getdatabaseencoding()
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Klaviyo speaks UTF-8 only. Create the database with ENCODING ''UTF8''.';
    END IF;
END
$$;

CREATE SCHEMA klaviyo;
COMMENT ON SCHEMA klaviyo IS 'klaviyo_sync: messages on their way to Klaviyo and what became of them';

-- Accounts ----------------------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.is_base_url(url text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (
            url ~ '^https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?/?$'
            OR url ~ '^http://(localhost|127(\.(25[0-5]|2[0-4]\d|1\d\d|\d\d?)){3}|\[::1\])(:\d{1,5})?/?$'
        )
        AND coalesce(substring(url FROM ':(\d+)/?$')::int, 443) BETWEEN 1 AND 65535
$$;
COMMENT ON FUNCTION klaviyo.is_base_url(text) IS 'Whether a URL is https://host[:port], or http and a loopback address';

CREATE FUNCTION klaviyo.is_revision(revision text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN revision ~ '^20\d{2}-(0[1-9]|1[0-2])-\d{2}$' THEN
            split_part(revision, '-', 3)::int BETWEEN 1 AND extract(
                day FROM make_date(split_part(revision, '-', 1)::int, split_part(revision, '-', 2)::int, 1)
                    + interval '1 month' - interval '1 day'
            )
        ELSE false
    END
$$;
COMMENT ON FUNCTION klaviyo.is_revision(text) IS 'Whether a text is a revision of Klaviyo''s API, a date';

CREATE FUNCTION klaviyo.is_private_key(private_key text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT private_key ~ '^[!-~]+$' AND length(private_key) <= 1000
$$;
COMMENT ON FUNCTION klaviyo.is_private_key(text) IS 'Whether a text could be a private key, and can stand in a header';

CREATE TABLE klaviyo.account (
    name             text PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9_.-]{1,63}$'),
    base_url         text NOT NULL DEFAULT 'https://a.klaviyo.com',
    revision         text NOT NULL DEFAULT '2026-07-15' CHECK (klaviyo.is_revision(revision)),
    private_key_file text,
    private_key_env  text,
    rate_share       double precision NOT NULL DEFAULT 1,
    stale_after      interval,
    stale_action     text NOT NULL DEFAULT 'backfill',
    armed_system     bigint,
    armed_database   oid,
    armed_name       text,
    armed_instance   text,
    paused_at        timestamptz,
    paused_reason    text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    changed_at       timestamptz NOT NULL DEFAULT now(),
    fresh_from       bigint NOT NULL DEFAULT 1,
    person_salt      uuid NOT NULL DEFAULT gen_random_uuid(),
    CONSTRAINT account_base_url_check CHECK (klaviyo.is_base_url(base_url)),
    CONSTRAINT account_rate_share_check CHECK (
        rate_share >= 0.001 AND (rate_share <= 1 OR base_url LIKE 'http:%' AND rate_share <= 1e9)
    ),
    CONSTRAINT account_stale_after_check CHECK (stale_after > interval '0'),
    CONSTRAINT account_stale_action_check CHECK (stale_action IN ('backfill', 'dead_letter')),
    CONSTRAINT account_one_key_source_check CHECK (private_key_file IS NULL OR private_key_env IS NULL)
);
COMMENT ON TABLE klaviyo.account IS 'Klaviyo accounts that messages are sent to; see klaviyo_set_account()';
COMMENT ON COLUMN klaviyo.account.name IS 'Name used in the account argument of functions; "default" where none is given';
COMMENT ON COLUMN klaviyo.account.base_url IS 'Where the API answers; https, or http for a loopback address';
COMMENT ON COLUMN klaviyo.account.revision IS 'API revision sent in every request';
COMMENT ON COLUMN klaviyo.account.private_key_file IS 'File on the server that holds the private key';
COMMENT ON COLUMN klaviyo.account.private_key_env IS 'Environment variable of the server that holds the private key';
COMMENT ON COLUMN klaviyo.account.rate_share IS 'Part of Klaviyo''s limits that this database may use; above 1 only for a loopback base_url';
COMMENT ON COLUMN klaviyo.account.stale_after IS 'How long an event may wait and still start flows, and a klaviyo_send_campaign() and still be sent; NULL for however long';
COMMENT ON COLUMN klaviyo.account.stale_action IS 'What becomes of an event that has waited longer: backfill (Klaviyo records it and starts no flow) or dead_letter';
COMMENT ON COLUMN klaviyo.account.armed_system IS 'system_identifier of the cluster it may send from; NULL until armed';
COMMENT ON COLUMN klaviyo.account.armed_database IS 'OID of the database it may send from';
COMMENT ON COLUMN klaviyo.account.armed_name IS 'Name of the database it may send from';
COMMENT ON COLUMN klaviyo.account.armed_instance IS 'klaviyo.instance of the server it may send from; empty where that is not set';
COMMENT ON COLUMN klaviyo.account.paused_at IS 'Since when it is paused; NULL while it is not';
COMMENT ON COLUMN klaviyo.account.paused_reason IS 'Why, in the words of whoever paused it';
COMMENT ON COLUMN klaviyo.account.created_at IS 'When it was added';
COMMENT ON COLUMN klaviyo.account.changed_at IS 'When a function last changed it';
COMMENT ON COLUMN klaviyo.account.fresh_from IS 'Messages with a lower seq may have been sent by the database that this one is a copy of: they go in calls of their own';
COMMENT ON COLUMN klaviyo.account.person_salt IS 'What the digests of people in klaviyo.deletion are made with';

CREATE TABLE klaviyo.account_key (
    account     text PRIMARY KEY REFERENCES klaviyo.account ON DELETE CASCADE,
    private_key text NOT NULL CHECK (klaviyo.is_private_key(private_key))
);
-- With no policy at all: members of pg_read_all_data, which may read every table, find nothing here.
ALTER TABLE klaviyo.account_key ENABLE ROW LEVEL SECURITY;
-- ANALYZE would put keys into pg_statistic, where pg_stats shows them.
ALTER TABLE klaviyo.account_key ALTER COLUMN private_key SET STATISTICS 0;
COMMENT ON TABLE klaviyo.account_key IS 'Private keys given in a statement. Only the owner reads it, and no dump carries it';
COMMENT ON COLUMN klaviyo.account_key.account IS 'Account';
COMMENT ON COLUMN klaviyo.account_key.private_key IS 'Private key; never shown by any view or function';

CREATE TABLE klaviyo.account_status (
    account        text PRIMARY KEY,
    stopped_at     timestamptz,
    stopped_reason text
);
COMMENT ON TABLE klaviyo.account_status IS 'What the worker says of an account. Written by the worker alone, so that nobody''s open transaction holds it up';
COMMENT ON COLUMN klaviyo.account_status.account IS 'Account';
COMMENT ON COLUMN klaviyo.account_status.stopped_at IS 'Since when nothing can be sent; NULL while it can';
COMMENT ON COLUMN klaviyo.account_status.stopped_reason IS 'Why nothing can be sent, and what to do';

CREATE TABLE klaviyo.removed_account (
    account    text NOT NULL,
    before_seq bigint NOT NULL,
    removed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, before_seq)
);
COMMENT ON TABLE klaviyo.removed_account IS 'Accounts that were removed and whose waiting messages the worker has not put aside yet';
COMMENT ON COLUMN klaviyo.removed_account.account IS 'Account';
COMMENT ON COLUMN klaviyo.removed_account.before_seq IS 'Messages of it with a lower seq are put aside; those of another account of the same name, added later, have higher ones';
COMMENT ON COLUMN klaviyo.removed_account.removed_at IS 'When it was removed';

CREATE TABLE klaviyo.account_check (
    account     text NOT NULL,
    path        text NOT NULL,
    scope       text NOT NULL,
    status      text NOT NULL,
    http_status integer,
    detail      text,
    checked_at  timestamptz NOT NULL,
    method      text NOT NULL,
    PRIMARY KEY (account, path, method)
);
COMMENT ON TABLE klaviyo.account_check IS 'What klaviyo_check_account() last found: which calls an account''s key may make';
COMMENT ON COLUMN klaviyo.account_check.account IS 'Account';
COMMENT ON COLUMN klaviyo.account_check.path IS 'Path of the call';
COMMENT ON COLUMN klaviyo.account_check.scope IS 'Scopes that the key needs for it';
COMMENT ON COLUMN klaviyo.account_check.status IS 'allowed; refused (the scope is missing, or the key is not accepted); unknown (no answer that tells)';
COMMENT ON COLUMN klaviyo.account_check.http_status IS 'HTTP status where it is not allowed and there was an answer';
COMMENT ON COLUMN klaviyo.account_check.detail IS 'Why not, in Klaviyo''s words and ours';
COMMENT ON COLUMN klaviyo.account_check.checked_at IS 'When';
COMMENT ON COLUMN klaviyo.account_check.method IS 'Method of the call: GET or POST';

-- Messages ----------------------------------------------------------------------------------------------------------

-- Rows are inserted and deleted, never updated. The one index serves the reader, which moves up seq.
CREATE TABLE klaviyo.outbox (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id  uuid NOT NULL,
    account     text NOT NULL,
    kind        text NOT NULL,
    key         text[] NOT NULL,
    payload     json NOT NULL,
    enqueued_at timestamptz NOT NULL
) WITH (
    -- A queue is all dead rows: vacuum by number, not by share, and let the truncation's lock be.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);
COMMENT ON TABLE klaviyo.outbox IS 'Messages that no call has been made for yet. Append-only; a row leaves when its first call has ended';
COMMENT ON COLUMN klaviyo.outbox.seq IS 'Order within this database';
COMMENT ON COLUMN klaviyo.outbox.message_id IS 'Global identity, and an event''s unique_id where none was given';
COMMENT ON COLUMN klaviyo.outbox.account IS 'Account it goes to';
COMMENT ON COLUMN klaviyo.outbox.kind IS 'Kind of message: event, profile, deletion, subscribe, unsubscribe, suppress, unsuppress, merge, list_add, list_remove, list_create, list_rename, list_delete, catalog_item, catalog_item_update, catalog_item_delete, catalog_variant, catalog_variant_update, catalog_variant_delete, catalog_category, catalog_category_update, catalog_category_delete, coupon_code, campaign_create, campaign_template, campaign_estimate, campaign_send, campaign_cancel, call';
COMMENT ON COLUMN klaviyo.outbox.key IS 'Identifiers of whom it is about; messages that share one keep their order';
COMMENT ON COLUMN klaviyo.outbox.payload IS 'What is sent, as the kind lays it down';
COMMENT ON COLUMN klaviyo.outbox.enqueued_at IS 'When it was queued';

CREATE TABLE klaviyo.retry (
    seq             bigint PRIMARY KEY,
    message_id      uuid NOT NULL UNIQUE,
    account         text NOT NULL,
    kind            text NOT NULL,
    key             text[] NOT NULL,
    payload         json NOT NULL,
    enqueued_at     timestamptz NOT NULL,
    attempts        integer NOT NULL,
    strikes         integer NOT NULL,
    not_before      timestamptz NOT NULL,
    last_attempt_at timestamptz,
    last_status     integer,
    last_code       text,
    last_error      text,
    last_error_id   text,
    redriven_at     timestamptz,
    last_bulk       boolean NOT NULL DEFAULT false,
    may_be_done     boolean NOT NULL DEFAULT false
);
CREATE INDEX retry_tried_idx ON klaviyo.retry (seq) WHERE redriven_at IS NULL;
CREATE INDEX retry_redriven_kind_idx ON klaviyo.retry (kind) WHERE redriven_at IS NOT NULL;
CREATE INDEX retry_redriven_key_idx ON klaviyo.retry USING gin (key) WHERE redriven_at IS NOT NULL;
COMMENT ON TABLE klaviyo.retry IS 'Messages whose calls have failed so far and that will be tried again';
COMMENT ON COLUMN klaviyo.retry.seq IS 'Order within this database, kept from the outbox';
COMMENT ON COLUMN klaviyo.retry.message_id IS 'Message';
COMMENT ON COLUMN klaviyo.retry.account IS 'Account it goes to';
COMMENT ON COLUMN klaviyo.retry.kind IS 'Kind of message';
COMMENT ON COLUMN klaviyo.retry.key IS 'Identifiers of whom it is about';
COMMENT ON COLUMN klaviyo.retry.payload IS 'What is sent';
COMMENT ON COLUMN klaviyo.retry.enqueued_at IS 'When it was queued';
COMMENT ON COLUMN klaviyo.retry.attempts IS 'Calls it has been in';
COMMENT ON COLUMN klaviyo.retry.strikes IS 'Calls that failed while others of the lane succeeded; klaviyo.max_strikes of them make it a dead letter';
COMMENT ON COLUMN klaviyo.retry.not_before IS 'When it is tried again at the earliest';
COMMENT ON COLUMN klaviyo.retry.last_attempt_at IS 'When the last call was made';
COMMENT ON COLUMN klaviyo.retry.last_status IS 'HTTP status of the last answer, if there was one';
COMMENT ON COLUMN klaviyo.retry.last_code IS 'Error code of the last failure';
COMMENT ON COLUMN klaviyo.retry.last_error IS 'What went wrong in the last call';
COMMENT ON COLUMN klaviyo.retry.last_error_id IS 'Klaviyo''s id of the last error, for its support';
COMMENT ON COLUMN klaviyo.retry.redriven_at IS 'When klaviyo_redrive() took it out of the dead letters';
COMMENT ON COLUMN klaviyo.retry.last_bulk IS 'Whether the last call carried many messages';
COMMENT ON COLUMN klaviyo.retry.may_be_done IS 'Whether a call brought no answer that may have done what it asks for';

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

-- History, which only grows: by days, so that what is old goes at the price of a DROP. See 12_delivery_days.sql.
CREATE TABLE klaviyo.delivery (
    message_id       uuid NOT NULL,
    seq              bigint NOT NULL,
    account          text NOT NULL,
    kind             text NOT NULL,
    key              text[] NOT NULL,
    http_status      integer NOT NULL,
    attempts         integer NOT NULL,
    klaviyo_id       text,
    klaviyo_error_id text,
    enqueued_at      timestamptz NOT NULL,
    sent_at          timestamptz NOT NULL,
    settled_at       timestamptz NOT NULL,
    bulk             boolean NOT NULL DEFAULT false,
    PRIMARY KEY (message_id, settled_at)
) PARTITION BY RANGE (settled_at);
CREATE INDEX delivery_settled_at_idx ON klaviyo.delivery (settled_at);
COMMENT ON TABLE klaviyo.delivery IS 'Messages that Klaviyo has accepted, for klaviyo.delivery_retention';
COMMENT ON COLUMN klaviyo.delivery.message_id IS 'Message';
COMMENT ON COLUMN klaviyo.delivery.seq IS 'Order within this database';
COMMENT ON COLUMN klaviyo.delivery.account IS 'Account it went to';
COMMENT ON COLUMN klaviyo.delivery.kind IS 'Kind of message';
COMMENT ON COLUMN klaviyo.delivery.key IS 'Identifiers of whom it is about';
COMMENT ON COLUMN klaviyo.delivery.http_status IS 'HTTP status of Klaviyo''s answer';
COMMENT ON COLUMN klaviyo.delivery.attempts IS 'Calls it took';
COMMENT ON COLUMN klaviyo.delivery.klaviyo_id IS 'Klaviyo''s id of what the call made or changed, where the answer names it';
COMMENT ON COLUMN klaviyo.delivery.klaviyo_error_id IS 'Klaviyo''s id of the error of the last attempt before, if that failed';
COMMENT ON COLUMN klaviyo.delivery.enqueued_at IS 'When it was queued';
COMMENT ON COLUMN klaviyo.delivery.sent_at IS 'When the call that Klaviyo accepted was sent';
COMMENT ON COLUMN klaviyo.delivery.settled_at IS 'When the transaction began that recorded the answer';
COMMENT ON COLUMN klaviyo.delivery.bulk IS 'Whether that call carried many messages';

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

CREATE TABLE klaviyo.dead_letter (
    message_id           uuid PRIMARY KEY,
    seq                  bigint,
    account              text NOT NULL,
    kind                 text NOT NULL,
    key                  text[] NOT NULL,
    payload              json NOT NULL,
    code                 text NOT NULL,
    reason               text NOT NULL,
    http_status          integer,
    klaviyo_error_id     text,
    attempts             integer NOT NULL,
    enqueued_at          timestamptz NOT NULL,
    died_at              timestamptz NOT NULL,
    duplicate_profile_id text
);
CREATE INDEX dead_letter_kind_idx ON klaviyo.dead_letter (kind) WHERE seq IS NOT NULL;
CREATE INDEX dead_letter_key_idx ON klaviyo.dead_letter USING gin (key);
CREATE INDEX dead_letter_died_at_idx ON klaviyo.dead_letter (died_at);
COMMENT ON TABLE klaviyo.dead_letter IS 'Messages that are not tried again until somebody decides: klaviyo_redrive(), klaviyo_discard()';
COMMENT ON COLUMN klaviyo.dead_letter.message_id IS 'Message';
COMMENT ON COLUMN klaviyo.dead_letter.seq IS 'Order within this database; NULL for one that was refused when it was queued (klaviyo.on_invalid)';
COMMENT ON COLUMN klaviyo.dead_letter.account IS 'Account it was to go to';
COMMENT ON COLUMN klaviyo.dead_letter.kind IS 'Kind of message';
COMMENT ON COLUMN klaviyo.dead_letter.key IS 'Identifiers of whom it is about; empty for one that was refused when it was queued';
COMMENT ON COLUMN klaviyo.dead_letter.payload IS 'What was to be sent; for one refused when it was queued, the arguments it was queued with';
COMMENT ON COLUMN klaviyo.dead_letter.code IS 'Klaviyo''s error code, or one of ours';
COMMENT ON COLUMN klaviyo.dead_letter.reason IS 'What is wrong with it';
COMMENT ON COLUMN klaviyo.dead_letter.http_status IS 'HTTP status of the last answer, if there was one';
COMMENT ON COLUMN klaviyo.dead_letter.klaviyo_error_id IS 'Klaviyo''s id of the error, for its support';
COMMENT ON COLUMN klaviyo.dead_letter.attempts IS 'Calls it has been in';
COMMENT ON COLUMN klaviyo.dead_letter.enqueued_at IS 'When it was queued';
COMMENT ON COLUMN klaviyo.dead_letter.died_at IS 'When it was put aside';
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

CREATE TABLE klaviyo.superseded (
    message_id uuid PRIMARY KEY,
    newer_seq  bigint NOT NULL
);
COMMENT ON TABLE klaviyo.superseded IS 'Dead letters that describe a state of a profile older than one Klaviyo has accepted since; they are not redriven';
COMMENT ON COLUMN klaviyo.superseded.message_id IS 'Dead letter';
COMMENT ON COLUMN klaviyo.superseded.newer_seq IS 'The accepted message''s seq';

-- The worker's, three tables that no dump carries: of a copy they would not be true. The fourth, sent_unique_id, is true of
-- Klaviyo, whoever asks.
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

-- A dump carries configuration, every message not yet settled, and which ids Klaviyo knows; keys and history it does not.
SELECT pg_catalog.pg_extension_config_dump('klaviyo.account', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.campaign', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.outbox', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.outbox_seq_seq', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.retry', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.superseded', '');
SELECT pg_catalog.pg_extension_config_dump('klaviyo.sent_unique_id', '');
