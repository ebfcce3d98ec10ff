-- Accounts: whom messages go to, with which key, and whether this database may send at all.

CREATE FUNCTION klaviyo.wake_worker(configuration boolean) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'klaviyo_wake_worker';
COMMENT ON FUNCTION klaviyo.wake_worker(boolean) IS
    'Wakes the worker of this database when the current transaction commits; with true it also reads its configuration anew';

CREATE FUNCTION klaviyo.wake_runner() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'klaviyo_wake_runner';
COMMENT ON FUNCTION klaviyo.wake_runner() IS
    'Wakes the runner of this database when the current transaction commits, or has it be started: there is something for it';

-- Rules of the table that depend on who writes, so that neither a function nor an UPDATE of one's own gets round them.
-- A superuser's restore of a dump keeps what the account was armed for, wherever that was.
CREATE FUNCTION klaviyo.guard_account() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- What a new row may have without any further right.
    known klaviyo.account;
BEGIN
    IF (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user) THEN
        RETURN NEW;
    END IF;
    known.base_url := 'https://a.klaviyo.com';
    IF TG_OP = 'UPDATE' THEN
        known := OLD;
    END IF;
    IF NEW.base_url <> known.base_url THEN
        RAISE EXCEPTION 'only a superuser may set the base URL of an account'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'It says which host gets the account''s key and its customers'' data.',
                  HINT = 'Leave it out: Klaviyo answers at https://a.klaviyo.com.';
    END IF;
    IF pg_catalog.num_nonnulls(
            nullif(NEW.private_key_file, known.private_key_file), nullif(NEW.private_key_env, known.private_key_env)
        ) > 0
        AND NOT pg_catalog.pg_has_role(current_user, 'pg_read_server_files', 'USAGE') THEN
        RAISE EXCEPTION 'only a superuser or a member of pg_read_server_files may name a file or variable of the server'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'What is read there is sent to the account''s base URL.',
                  HINT = 'Ask a superuser to set the account''s key.';
    END IF;
    IF (NEW.armed_system, NEW.armed_database, NEW.armed_name, NEW.armed_instance)
        IS DISTINCT FROM (known.armed_system, known.armed_database, known.armed_name, known.armed_instance)
        AND NOT klaviyo.is_armed(NEW) THEN
        RAISE EXCEPTION 'only a superuser may arm an account for another place than this'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'What it is armed for is not this cluster, this database and this server''s klaviyo.instance.',
                  HINT = pg_catalog.format('SELECT klaviyo_arm_account(%L) arms it for here.', NEW.name);
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION klaviyo.guard_account() IS
    'Keeps base_url to superusers, files and variables of the server to members of pg_read_server_files, and arming to this very database';

CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON klaviyo.account FOR EACH ROW EXECUTE FUNCTION klaviyo.guard_account();
-- Also for who may set session_replication_role, as the administrators of managed servers do.
ALTER TABLE klaviyo.account ENABLE ALWAYS TRIGGER guard;

-- Takes: an account and its key; NULL for none. Touches: account_key.
-- The one way to a table on which nobody has a right. It writes what its caller hands it and tells nothing of what was
-- there.
CREATE FUNCTION klaviyo.store_key(account text, private_key text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM klaviyo.account_key AS k WHERE k.account = store_key.account;
    INSERT INTO klaviyo.account_key (account, private_key)
    SELECT store_key.account, store_key.private_key
    WHERE store_key.private_key IS NOT NULL;
$$;
COMMENT ON FUNCTION klaviyo.store_key(text, text) IS 'Stores an account''s private key in the place of the one before; NULL: none';

-- Takes: what to add or change; NULL leaves a thing as it is. Touches: account, account_key.
-- A key comes from one place: naming one forgets the others.
-- SECURITY INVOKER, as klaviyo_arm_account(): whoever calls must hold the rights on the tables. A SECURITY DEFINER
-- function cannot tell who calls it, and a superuser's REFRESH of somebody's view runs that somebody's code.
-- What only some may set, the table's trigger knows.
CREATE FUNCTION @extschema@.klaviyo_set_account(
    name             text DEFAULT 'default',
    private_key_file text DEFAULT NULL,
    private_key_env  text DEFAULT NULL,
    private_key      text DEFAULT NULL,
    rate_share       double precision DEFAULT NULL,
    base_url         text DEFAULT NULL,
    revision         text DEFAULT NULL,
    stale_after      interval DEFAULT NULL,
    stale_action     text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    account_name text := coalesce(name, 'default');
    sources      int := pg_catalog.num_nonnulls(private_key_file, private_key_env, private_key);
    known_url    text;
    armed        boolean;
BEGIN
    IF account_name !~ '^[A-Za-z0-9_.-]{1,63}$' THEN
        RAISE EXCEPTION 'argument "name" is not a name for an account'
            USING ERRCODE = 'KS020', DETAIL = 'It must have 1 to 63 letters, digits, points, hyphens or underscores.',
                  HINT = 'Leave it out for the account "default".';
    END IF;
    IF sources > 1 THEN
        RAISE EXCEPTION 'a private key comes from one place'
            USING ERRCODE = 'KS021', DETAIL = 'More than one of private_key_file, private_key_env and private_key is given.',
                  HINT = 'A file of the server is best: private_key_file => ''/etc/klaviyo/private_key''.';
    END IF;
    IF NOT klaviyo.is_base_url(base_url) THEN
        RAISE EXCEPTION 'argument "base_url" is not a URL that Klaviyo could answer at'
            USING ERRCODE = 'KS022', DETAIL = 'It must be https://host[:port]; http is for loopback addresses only.',
                  HINT = 'Klaviyo answers at https://a.klaviyo.com.';
    END IF;
    IF NOT klaviyo.is_revision(revision) THEN
        RAISE EXCEPTION 'argument "revision" is not an API revision'
            USING ERRCODE = 'KS023', DETAIL = 'It must be a date of the form YYYY-MM-DD.',
                  HINT = 'Leave it out for the one this version was made for.';
    END IF;
    IF NOT klaviyo.is_private_key(private_key) THEN
        RAISE EXCEPTION 'argument "private_key" is not a key'
            USING ERRCODE = 'KS024', DETAIL = 'It is empty, too long, or has characters that no key has.',
                  HINT = 'A private key of Klaviyo''s begins with pk_.';
    END IF;
    IF private_key_file !~ '^/.' OR private_key_env !~ '^[A-Za-z_][A-Za-z0-9_]*$' THEN
        RAISE EXCEPTION 'argument "%" does not name where a key could be',
            CASE WHEN private_key_file IS NULL THEN 'private_key_env' ELSE 'private_key_file' END
            USING ERRCODE = 'KS026', DETAIL = 'A file is named by its absolute path, a variable by letters, digits and underscores.',
                  HINT = 'The server''s user must be able to read it.';
    END IF;

    IF stale_after < interval '0' OR stale_action NOT IN ('backfill', 'dead_letter') THEN
        RAISE EXCEPTION 'argument "%" says nothing about stale events', CASE WHEN stale_after < interval '0' THEN 'stale_after' ELSE 'stale_action' END
            USING ERRCODE = 'KS016', DETAIL = 'stale_after is an interval, 0 for never; stale_action is backfill or dead_letter.',
                  HINT = 'With stale_after => ''1 day'', an event that has waited for a day is recorded by Klaviyo and starts no flow.';
    END IF;

    INSERT INTO klaviyo.account AS a (name) VALUES (account_name)
    ON CONFLICT ON CONSTRAINT account_pkey DO UPDATE SET changed_at = now()
    RETURNING a.base_url, a.armed_system IS NOT NULL INTO known_url, armed;

    IF rate_share IS NOT NULL AND NOT (
        rate_share >= 0.001
        AND (rate_share <= 1 OR coalesce(base_url, known_url) LIKE 'http:%' AND rate_share <= 1e9)
    ) THEN
        RAISE EXCEPTION 'argument "rate_share" is out of range'
            USING ERRCODE = 'KS025',
                  DETAIL = 'It is the part of Klaviyo''s limits this database may use: from 0.001 to 1.',
                  HINT = 'Above 1, up to 1e9, is for a sandbox on this machine only.';
    END IF;

    UPDATE klaviyo.account AS a
    SET base_url = coalesce(klaviyo_set_account.base_url, a.base_url),
        revision = coalesce(klaviyo_set_account.revision, a.revision),
        stale_after = nullif(coalesce(klaviyo_set_account.stale_after, a.stale_after), interval '0'),
        stale_action = coalesce(klaviyo_set_account.stale_action, a.stale_action),
        rate_share = CASE
            WHEN klaviyo_set_account.rate_share IS NOT NULL THEN klaviyo_set_account.rate_share
            -- A share above 1 does not survive a move from the sandbox to Klaviyo.
            WHEN klaviyo_set_account.base_url LIKE 'https:%' THEN least(a.rate_share, 1)
            ELSE a.rate_share
        END,
        private_key_file = CASE WHEN sources = 0 THEN a.private_key_file ELSE klaviyo_set_account.private_key_file END,
        private_key_env = CASE WHEN sources = 0 THEN a.private_key_env ELSE klaviyo_set_account.private_key_env END
    WHERE a.name = account_name;

    IF sources > 0 THEN
        PERFORM klaviyo.store_key(account_name, private_key);
    END IF;
    IF private_key IS NOT NULL THEN
        RAISE NOTICE 'the key was given in a statement: statement logs, pg_stat_activity and psql''s history may hold it'
            USING HINT = 'Prefer private_key_file or private_key_env.';
    END IF;
    IF NOT armed THEN
        RAISE NOTICE 'account "%" is not armed: its messages wait', account_name
            USING HINT = pg_catalog.format('SELECT klaviyo_arm_account(%L) lets this database send.', account_name);
    END IF;
    PERFORM klaviyo.wake_worker(true);
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_set_account(text, text, text, text, double precision, text, text, interval, text) IS
    'Adds a Klaviyo account or changes it; what is NULL stays as it is. The private key comes from a file or an environment variable of the server, or is stored. An event that has waited for longer than stale_after (0: never) starts no flows. base_url is for superusers: https, or a sandbox on a loopback address';
