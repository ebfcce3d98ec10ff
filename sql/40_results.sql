-- Results: what became of a message.

CREATE TYPE klaviyo.result AS (
    message_id       uuid,
    status           text,
    kind             text,
    account          text,
    http_status      integer,
    attempts         integer,
    klaviyo_id       text,
    code             text,
    reason           text,
    klaviyo_error_id text,
    enqueued_at      timestamptz,
    settled_at       timestamptz,
    hint             text,
    answer           json
);
COMMENT ON TYPE klaviyo.result IS
    'What became of a message. status: waiting (no call yet), retrying (a call failed, more will follow), accepted (Klaviyo has it), dead (put aside, see klaviyo.dead_letter), discarded (not sent, since the person was to be deleted, see klaviyo.deletion, or since it was cancelled while it waited), unknown (no such message, or its record has been dropped)';

CREATE FUNCTION klaviyo.worker_pid() RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_worker_pid';
COMMENT ON FUNCTION klaviyo.worker_pid() IS
    'Process id of this database''s worker; NULL when none is running, -1 when the library is not preloaded';

CREATE FUNCTION klaviyo.is_own_transaction(xmin xid) RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_is_own_transaction';
COMMENT ON FUNCTION klaviyo.is_own_transaction(xid) IS
    'Whether a row with that xmin was written by the current transaction or a subtransaction of it';

-- Takes: an account's name. Returns: why its messages wait, and what to do; NULL when nothing is known to hold them.
CREATE FUNCTION klaviyo.waiting_hint(account text) RETURNS text
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN klaviyo.worker_pid() = -1 THEN
            'The library is not loaded: add klaviyo_sync to shared_preload_libraries and restart the server.'
        WHEN NOT pg_catalog.current_setting('klaviyo.enabled')::boolean THEN
            'Delivery is off: klaviyo.enabled is off.'
        WHEN klaviyo.worker_pid() IS NULL THEN
            'No worker is running for this database: see the server''s log, max_worker_processes and klaviyo.max_databases.'
        WHEN a.name IS NULL THEN
            pg_catalog.format('Account "%s" does not exist: add it with klaviyo_set_account().', waiting_hint.account)
        WHEN a.armed_system IS NULL THEN
            pg_catalog.format('The account is not armed: SELECT klaviyo_arm_account(%L).', a.name)
        ELSE s.stopped_reason
    END
    FROM (VALUES (1)) AS one
    LEFT JOIN klaviyo.account AS a ON a.name = waiting_hint.account
    LEFT JOIN klaviyo.account_status AS s ON s.account = a.name AND s.stopped_at IS NOT NULL
$$;
COMMENT ON FUNCTION klaviyo.waiting_hint(text) IS 'Why an account''s messages wait, and what to do';

-- Takes: a message. Returns: its row of delivery, dead_letter or retry, each found by its key; no row while it waits.
CREATE FUNCTION klaviyo.settled_result(message_id uuid) RETURNS SETOF klaviyo.result
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
COMMENT ON FUNCTION klaviyo.settled_result(uuid) IS 'What became of a message for which a call has ended; no row for one that waits';

-- Takes: a message. Returns: its row of the outbox. The outbox has no index on message_id, so this reads all of it.
CREATE FUNCTION klaviyo.waiting_result(message_id uuid) RETURNS SETOF klaviyo.result
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
COMMENT ON FUNCTION klaviyo.waiting_result(uuid) IS 'A message for which no call has ended yet';

-- Takes: a message. Returns: always one row. Looks where messages end up before where they wait, and there again:
-- one may be settled between two looks.
CREATE FUNCTION klaviyo.result_of(message_id uuid) RETURNS klaviyo.result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_result klaviyo.result;
BEGIN
    SELECT * INTO found_result FROM klaviyo.settled_result(result_of.message_id) LIMIT 1;
    IF NOT FOUND THEN
        SELECT * INTO found_result FROM klaviyo.waiting_result(result_of.message_id) LIMIT 1;
    END IF;
    IF NOT FOUND THEN
        SELECT * INTO found_result FROM klaviyo.settled_result(result_of.message_id) LIMIT 1;
    END IF;
    IF NOT FOUND THEN
        found_result.message_id := result_of.message_id;
        found_result.status := 'unknown';
        found_result.hint := 'There is no such message in this database, or its record has been dropped.';
    END IF;
    RETURN found_result;
END
$$;
COMMENT ON FUNCTION klaviyo.result_of(uuid) IS 'What became of a message, wherever it is now';

CREATE FUNCTION @extschema@.klaviyo_result(message_id uuid) RETURNS klaviyo.result
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT klaviyo.result_of(klaviyo_result.message_id)
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_result(uuid) IS
    'What became of a message: its status (waiting, retrying, accepted, dead, discarded, unknown), Klaviyo''s answer (of a klaviyo_call() all of it) and what to do. While the message waits it reads the whole outbox';

-- Takes: a message and how long to wait. Returns: as klaviyo_result().
-- Looks again after 2 ms, then after twice as long each time, up to 100 ms.
CREATE FUNCTION @extschema@.klaviyo_await(message_id uuid, timeout interval DEFAULT '10 seconds') RETURNS klaviyo.result
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
