-- Guards: every setting's name, type, default, unit, bounds and who may change it when.
\pset format unaligned
\pset fieldsep ' | '
\pset footer off
SELECT name, vartype AS type, boot_val AS default, unit, min_val AS min, max_val AS max, enumvals AS values, context
  FROM pg_settings
 WHERE name LIKE 'klaviyo.%'
 ORDER BY 1;
SELECT name, short_desc, extra_desc FROM pg_settings WHERE name LIKE 'klaviyo.%' ORDER BY 1;

-- Units are understood, values and bounds checked.
SET klaviyo.on_invalid = dead_letter;
SHOW klaviyo.on_invalid;
SET klaviyo.on_invalid = ignore;
SHOW klaviyo.on_invalid;
RESET klaviyo.on_invalid;
SHOW klaviyo.on_invalid;
ALTER SYSTEM SET klaviyo.max_in_flight = 0;
ALTER SYSTEM SET klaviyo.max_strikes = 'many';
-- (How Postgres words a bound with a unit differs between majors: the SQLSTATE alone.)
\set VERBOSITY sqlstate
ALTER SYSTEM SET klaviyo.poll_interval = '50ms';
ALTER SYSTEM SET klaviyo.poll_interval = '2h';
\set VERBOSITY default

-- What is the server's is not a session's; how a shop deals with bad rows is everybody's own.
SET klaviyo.enabled = on;
SET klaviyo.max_databases = 9;
SET klaviyo.request_timeout = '1min';
CREATE ROLE settings_stranger;
SET ROLE settings_stranger;
SET klaviyo.on_invalid = dead_letter;
SHOW klaviyo.on_invalid;
RESET klaviyo.on_invalid;
RESET ROLE;
DROP ROLE settings_stranger;

-- A function can carry it.
CREATE FUNCTION queueing() RETURNS text LANGUAGE sql SET klaviyo.on_invalid = dead_letter AS $$ SELECT current_setting('klaviyo.on_invalid') $$;
SELECT queueing(), current_setting('klaviyo.on_invalid');
