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
