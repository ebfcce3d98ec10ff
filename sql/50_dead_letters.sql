-- Dead letters: send again, or drop.

-- Takes: which ones; what is NULL does not matter, but one must be given. `called` is the function that was told.
CREATE FUNCTION klaviyo.chosen_dead_letters(called text, message_id uuid, code text, kind text, account text) RETURNS SETOF uuid
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF pg_catalog.num_nonnulls($2, $3, $4, $5) = 0 THEN
        RAISE EXCEPTION '%() was not told which dead letters', called
            USING ERRCODE = 'KS040', DETAIL = 'All arguments are NULL.', HINT = 'Pass message_id, or any of code, kind and account.';
    END IF;
    RETURN QUERY
        SELECT d.message_id
        FROM klaviyo.dead_letter AS d
        WHERE ($2 IS NULL OR d.message_id = $2)
          AND ($3 IS NULL OR d.code = $3)
          AND ($4 IS NULL OR d.kind = $4)
          AND ($5 IS NULL OR d.account = $5);
END
$$;
COMMENT ON FUNCTION klaviyo.chosen_dead_letters(text, uuid, text, text, text) IS
    'Dead letters with that message_id, code, kind and account, as far as they are given. A call that would mean all of them by accident is refused';

-- Takes: which ones; what is NULL does not matter, but one must be given. Returns: how many go back to their place.
-- Touches: dead_letter, retry. They keep their seq, so an old state goes before a newer one that still waits; one that
-- is older than a state Klaviyo has accepted since stays where it is, and so do those that were refused when queued and
-- those whose account is gone.
CREATE FUNCTION @extschema@.klaviyo_redrive(
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
COMMENT ON FUNCTION @extschema@.klaviyo_redrive(uuid, text, text, text) IS
    'Sends dead letters again: the one with that message_id, or all with that code, kind and account. An old state of a profile never overwrites a newer one. Returns how many are on their way';

-- Takes: which ones, as klaviyo_redrive(). Returns: how many were dropped. Touches: dead_letter, superseded, deletion. A
-- request for deletion that is dropped is in nobody's way any more, and names nobody.
CREATE FUNCTION @extschema@.klaviyo_discard(
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
COMMENT ON FUNCTION @extschema@.klaviyo_discard(uuid, text, text, text) IS
    'Drops dead letters for good: the one with that message_id, or all with that code, kind and account. Returns how many';
