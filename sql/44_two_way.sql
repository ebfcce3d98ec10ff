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
