-- Dead letters: send again, or drop.

-- Takes: which ones; what is NULL does not matter, but one must be given. Returns: how many go back to their place.
-- Touches: dead_letter, retry. They keep their seq, so an old state goes before a newer one that still waits; one that
-- is older than a state Klaviyo has accepted since stays where it is, and so does one that was refused when queued.
CREATE FUNCTION klaviyo_redrive(
    message_id uuid DEFAULT NULL,
    code       text DEFAULT NULL,
    kind       text DEFAULT NULL,
    account    text DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moved      bigint;
    superseded bigint;
    refused    bigint;
BEGIN
    PERFORM klaviyo.require_choice(pg_catalog.num_nonnulls(message_id, code, kind, account), 'klaviyo_redrive');
    SELECT count(*) FILTER (WHERE s.message_id IS NOT NULL), count(*) FILTER (WHERE d.seq IS NULL)
    INTO superseded, refused
    FROM klaviyo.dead_letter AS d
    LEFT JOIN klaviyo.superseded AS s ON s.message_id = d.message_id
    WHERE (klaviyo_redrive.message_id IS NULL OR d.message_id = klaviyo_redrive.message_id)
      AND (klaviyo_redrive.code IS NULL OR d.code = klaviyo_redrive.code)
      AND (klaviyo_redrive.kind IS NULL OR d.kind = klaviyo_redrive.kind)
      AND (klaviyo_redrive.account IS NULL OR d.account = klaviyo_redrive.account);

    WITH gone AS (
        DELETE FROM klaviyo.dead_letter AS d
        WHERE d.seq IS NOT NULL
          AND NOT EXISTS (SELECT FROM klaviyo.superseded AS s WHERE s.message_id = d.message_id)
          AND (klaviyo_redrive.message_id IS NULL OR d.message_id = klaviyo_redrive.message_id)
          AND (klaviyo_redrive.code IS NULL OR d.code = klaviyo_redrive.code)
          AND (klaviyo_redrive.kind IS NULL OR d.kind = klaviyo_redrive.kind)
          AND (klaviyo_redrive.account IS NULL OR d.account = klaviyo_redrive.account)
        RETURNING d.*
    )
    INSERT INTO klaviyo.retry
        (seq, message_id, account, kind, key, payload, enqueued_at, attempts, strikes, not_before, last_status,
         last_code, last_error, last_error_id, redriven_at)
    SELECT g.seq, g.message_id, g.account, g.kind, g.key, g.payload, g.enqueued_at, g.attempts, 0, now(), g.http_status,
           g.code, g.reason, g.klaviyo_error_id, now()
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
    PERFORM klaviyo.wake_worker(true);
    RETURN moved;
END
$$;
COMMENT ON FUNCTION klaviyo_redrive(uuid, text, text, text) IS
    'Sends dead letters again: the one with that message_id, or all with that code, kind and account. An old state of a profile never overwrites a newer one. Returns how many are on their way';

-- Takes: which ones, as klaviyo_redrive(). Returns: how many were dropped. Touches: dead_letter, superseded.
CREATE FUNCTION klaviyo_discard(
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
    PERFORM klaviyo.require_choice(pg_catalog.num_nonnulls(message_id, code, kind, account), 'klaviyo_discard');
    WITH gone AS (
        DELETE FROM klaviyo.dead_letter AS d
        WHERE (klaviyo_discard.message_id IS NULL OR d.message_id = klaviyo_discard.message_id)
          AND (klaviyo_discard.code IS NULL OR d.code = klaviyo_discard.code)
          AND (klaviyo_discard.kind IS NULL OR d.kind = klaviyo_discard.kind)
          AND (klaviyo_discard.account IS NULL OR d.account = klaviyo_discard.account)
        RETURNING d.message_id
    ), marks AS (
        DELETE FROM klaviyo.superseded AS s USING gone AS g WHERE s.message_id = g.message_id
    )
    SELECT count(*) INTO dropped FROM gone;
    RETURN dropped;
END
$$;
COMMENT ON FUNCTION klaviyo_discard(uuid, text, text, text) IS
    'Drops dead letters for good: the one with that message_id, or all with that code, kind and account. Returns how many';

CREATE FUNCTION klaviyo.require_choice(given integer, called text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF given = 0 THEN
        RAISE EXCEPTION '%() was not told which dead letters', called
            USING ERRCODE = 'KS040', DETAIL = 'All arguments are NULL.', HINT = 'Pass message_id, or any of code, kind and account.';
    END IF;
END
$$;
COMMENT ON FUNCTION klaviyo.require_choice(integer, text) IS 'Refuses a call that would mean all dead letters by accident';
