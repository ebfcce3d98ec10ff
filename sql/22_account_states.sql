-- What an account may do: send from here at all (armed), send just now (not paused), be known (removed).
-- They are SECURITY INVOKER, for the reason given at klaviyo_set_account(); what klaviyo_remove_account() writes where no
-- role may write is done by a helper.

CREATE FUNCTION klaviyo.refuse_unknown_account(name text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'account "%" does not exist', pg_catalog.left(name, 63)
        USING ERRCODE = 'KS013', DETAIL = 'Nothing was changed.', HINT = 'Add it with klaviyo_set_account().';
END
$$;
COMMENT ON FUNCTION klaviyo.refuse_unknown_account(text) IS 'Raises the error that there is no such account';

-- The one place that says what arming is worth: the same cluster, database and instance. One that was never armed has
-- none of them.
CREATE FUNCTION klaviyo.is_armed(account klaviyo.account) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(
        account.armed_system = (SELECT c.system_identifier FROM pg_control_system() AS c)
            AND account.armed_name = current_database()
            AND account.armed_database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
            AND account.armed_instance = coalesce(current_setting('klaviyo.instance', true), ''),
        false
    )
$$;
COMMENT ON FUNCTION klaviyo.is_armed(klaviyo.account) IS 'Whether this very database, of this server, may send the account''s messages';

-- Takes: an account's name. Touches: account. Where it was armed for another place, this is a copy, and what waits may have
-- been sent from there: it goes by itself, for of that Klaviyo drops the repeat.
CREATE FUNCTION @extschema@.klaviyo_arm_account(name text DEFAULT 'default') RETURNS void
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
COMMENT ON FUNCTION @extschema@.klaviyo_arm_account(text) IS
    'Lets this very database send the account''s messages. A copy of it (a restored dump, a cloned server) sends nothing until it is armed itself';

-- Takes: an account's name and, for whoever finds it paused, why. Touches: account. Calls under way end as they would.
CREATE FUNCTION @extschema@.klaviyo_pause_account(name text DEFAULT 'default', reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account_name text := coalesce(name, 'default');
BEGIN
    UPDATE klaviyo.account AS a
    SET paused_at = coalesce(a.paused_at, now()), paused_reason = reason, changed_at = now()
    WHERE a.name = account_name;
    IF NOT FOUND THEN
        PERFORM klaviyo.refuse_unknown_account(account_name);
    END IF;
    PERFORM klaviyo.wake_worker(true);
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_pause_account(text, text) IS
    'Sends no more of the account''s messages until klaviyo_resume_account(); they wait. Calls under way still end';

-- Takes: an account's name. Touches: account.
CREATE FUNCTION @extschema@.klaviyo_resume_account(name text DEFAULT 'default') RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account_name text := coalesce(name, 'default');
BEGIN
    UPDATE klaviyo.account AS a
    SET paused_at = NULL, paused_reason = NULL, changed_at = now()
    WHERE a.name = account_name;
    IF NOT FOUND THEN
        PERFORM klaviyo.refuse_unknown_account(account_name);
    END IF;
    PERFORM klaviyo.wake_worker(true);
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_resume_account(text) IS 'Sends the messages of a paused account again';

-- Takes: an account's name, and whether its waiting messages become dead letters. Returns: how many wait, and will be
-- put aside by the worker. Touches: account, account_key, removed_account. What was delivered or died stays on record.
CREATE FUNCTION @extschema@.klaviyo_remove_account(name text, bury_waiting boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known   boolean;
    waiting bigint;
BEGIN
    DELETE FROM klaviyo.account AS a WHERE a.name = klaviyo_remove_account.name;
    known := FOUND;
    waiting := klaviyo.count_waiting(name);
    IF waiting > 0 AND NOT coalesce(bury_waiting, false) THEN
        RAISE EXCEPTION 'messages of account "%" wait: %', name, waiting
            USING ERRCODE = 'KS027', DETAIL = 'Without the account they could never be sent.',
                  HINT = pg_catalog.format(
                      'Wait until they are delivered, or put them aside: SELECT klaviyo_remove_account(%L, bury_waiting => true).',
                      name);
    END IF;
    IF NOT known AND waiting = 0 THEN
        PERFORM klaviyo.refuse_unknown_account(name);
    END IF;
    PERFORM klaviyo.note_removal(name);
    PERFORM klaviyo.wake_worker(true);
    RETURN waiting;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_remove_account(text, boolean) IS
    'Removes an account and its stored key. Refused while messages wait for it, unless they are to become dead letters; the worker sees to that as soon as the transactions of the moment have ended. Returns how many wait';

CREATE FUNCTION klaviyo.count_waiting(account text) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (SELECT count(*) FROM klaviyo.outbox AS o WHERE o.account = count_waiting.account)
        + (SELECT count(*) FROM klaviyo.retry AS r WHERE r.account = count_waiting.account)
$$;
COMMENT ON FUNCTION klaviyo.count_waiting(text) IS 'How many messages of an account wait. Reads the whole outbox';

-- Nothing is put aside of an account that is there, whoever calls this.
CREATE FUNCTION klaviyo.note_removal(account text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO klaviyo.removed_account (account, before_seq)
    SELECT note_removal.account, nextval('klaviyo.outbox_seq_seq')
    WHERE NOT EXISTS (SELECT FROM klaviyo.account AS a WHERE a.name = note_removal.account)
$$;
COMMENT ON FUNCTION klaviyo.note_removal(text) IS 'Has the worker put aside what waits for an account that is no more';

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

-- Called by the worker. Takes: an account that was removed; the number below which its messages lie, which those of
-- another account of the same name, added since, do not; and the part of the outbox to look through.
CREATE FUNCTION klaviyo.bury(account text, before_seq bigint, after bigint, until bigint) RETURNS bigint
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
COMMENT ON FUNCTION klaviyo.bury(text, bigint, bigint, bigint) IS
    'Makes dead letters of what waits for an account that was removed, in a part of the outbox. Returns how many';
