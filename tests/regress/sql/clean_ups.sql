-- klaviyo_set_clean_up() and what else there is to say about clean-ups. No worker runs here: what they do is for the end-to-end tests.
SET timezone = 'UTC';
SET client_min_messages = error;
CREATE EXTENSION klaviyo_sync;
SELECT klaviyo_set_account();
RESET client_min_messages;

-- A rule means the same in every session
CREATE SCHEMA shop;
CREATE TABLE shop.customers (email text, left_at timestamptz);
SET search_path = shop, public;
SELECT klaviyo_set_clean_up('left', 'EXISTS (SELECT FROM customers AS c WHERE c.email = row.email AND c.left_at < now())');
SELECT klaviyo_set_clean_up('quiet', 'last_event_at < now() - interval ''180 days'' -- for half a year', '7 days', 50, false);
RESET search_path;
SELECT account, name, rule, owner, cap, dry_run, every FROM klaviyo.clean_up ORDER BY name;
-- What is not said stays as it is
SELECT klaviyo_set_clean_up('quiet', cap => 60);
SELECT klaviyo_set_clean_up('quiet', dry_run => true);
SELECT klaviyo_set_clean_up('quiet', every => '0');
SELECT rule, cap, dry_run, every FROM klaviyo.clean_up WHERE name = 'quiet';

-- What cannot be
SELECT klaviyo_set_clean_up(NULL, 'true');
\echo :LAST_ERROR_SQLSTATE
SELECT klaviyo_set_clean_up('new');
SELECT klaviyo_set_clean_up('new', 'row.shoe_size > 40');
SELECT klaviyo_set_clean_up('new', 'row.email');
SELECT klaviyo_set_clean_up('new', 'true; DELETE FROM klaviyo.profile');
SELECT klaviyo_set_clean_up('new', 'true) OR (true');
SELECT klaviyo_set_clean_up('new', 'count(*) > 1');
SELECT klaviyo_set_clean_up('new', 'true', cap => 0);
SELECT klaviyo_set_clean_up('new', 'true', every => '59 minutes');
SELECT klaviyo_set_clean_up('new', 'true', account => 'nobody');
\echo :LAST_ERROR_SQLSTATE
SELECT klaviyo_run_clean_up('new');
\echo :LAST_ERROR_SQLSTATE
SELECT klaviyo_remove_clean_up('new');

-- One run at a time
SELECT klaviyo_run_clean_up('quiet', dry_run => false);
SELECT klaviyo_run_clean_up('quiet');
\echo :LAST_ERROR_SQLSTATE
SELECT name, dry_run, started_at, ended_at, outcome FROM klaviyo.clean_up_run;

-- Who may say so
CREATE ROLE clean_ups_admin IN ROLE klaviyo_admin;
CREATE ROLE clean_ups_reader IN ROLE klaviyo_reader;
SET ROLE clean_ups_admin;
SELECT klaviyo_set_clean_up('theirs', 'row.email IS NULL');
-- Another's rule stays another's
SELECT klaviyo_set_clean_up('left', cap => 7);
UPDATE klaviyo.clean_up SET owner = 'postgres';
RESET ROLE;
SELECT name, owner, cap FROM klaviyo.clean_up ORDER BY name;
SET ROLE clean_ups_reader;
SELECT count(*) FROM klaviyo.clean_up;
SELECT klaviyo_set_clean_up('theirs', 'true');
RESET ROLE;
DROP ROLE clean_ups_reader, clean_ups_admin;

SELECT klaviyo_remove_clean_up('quiet');
SELECT name FROM klaviyo.clean_up ORDER BY name;
