-- The preflight of an account: which calls its key may make.

CREATE FUNCTION klaviyo.ask_for_check(account text) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_ask_for_check';
COMMENT ON FUNCTION klaviyo.ask_for_check(text) IS
    'Has the worker find out, at once, what an account''s key may do. False when there is no worker, or it does not know the account yet';

-- Takes: an account's name, and how long to wait. Returns: a row a call. Touches nothing itself: the worker makes the
-- calls and writes account_check, as no transaction may be open during HTTP.
CREATE FUNCTION @extschema@.klaviyo_check_account(name text DEFAULT 'default', timeout interval DEFAULT '30 seconds')
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
COMMENT ON FUNCTION @extschema@.klaviyo_check_account(text, interval) IS
    'Finds out which calls an account''s key may make, and names the scopes it lacks. Makes each call once, with a body that Klaviyo refuses, so nothing comes of it. Waits at most an hour; the account must be armed and not paused';
