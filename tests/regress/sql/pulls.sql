-- klaviyo_set_job() and what else there is to say about jobs: what they read is for the end-to-end tests. The runner, which may take
-- up a job at once, sees nothing of this transaction.
SET timezone = 'UTC';
SET client_min_messages = error;
CREATE EXTENSION klaviyo_sync;
SELECT klaviyo_set_account();
SELECT klaviyo_set_account('other');
RESET client_min_messages;
BEGIN;
\set ON_ERROR_ROLLBACK on

-- What is there, how often, and of what
SELECT klaviyo_set_job('profiles');
SELECT klaviyo_set_job('events', names => '{Placed Order,Ordered Product}', since => '2026-01-01');
SELECT klaviyo_set_job('lists', every => '2 hours', names => '{}');
SELECT klaviyo_set_job('segments', account => 'other');
SELECT klaviyo_set_job('campaigns');
SELECT klaviyo_set_job('flows');
SELECT klaviyo_set_job('metrics', '7 days');
SELECT account, job, state, every, names, since, next_run_at <= now() AS is_due, started_at, last_outcome
FROM klaviyo.job ORDER BY account, job;

-- What is not said stays as it is
SELECT klaviyo_set_job('events', every => '1 hour');
SELECT klaviyo_set_job('events', names => '{*}');
SELECT every, names, since FROM klaviyo.job WHERE job = 'events';
SELECT klaviyo_set_job('events');
SELECT every, names, since FROM klaviyo.job WHERE job = 'events';

-- What cannot be
SELECT klaviyo_set_job('orders');
\echo :LAST_ERROR_SQLSTATE
SELECT klaviyo_set_job(NULL);
SELECT klaviyo_set_job('profiles', every => '59 seconds');
\echo :LAST_ERROR_SQLSTATE
SELECT klaviyo_set_job('profiles', every => '-1 hour');
SELECT klaviyo_set_job('profiles', every => '1001 years');
SELECT klaviyo_set_job('profiles', since => 'infinity');
SELECT klaviyo_set_job('profiles', account => 'nobody');
SELECT klaviyo_set_job('profiles', names => '{x}');
SELECT klaviyo_set_job('events', names => '{}');
SELECT klaviyo_set_job('events', names => '{a,NULL}');
SELECT klaviyo_set_job('events', names => '{a,""}');
SELECT klaviyo_set_job('events', names => '{a,*}');
SELECT klaviyo_set_job('lists', since => '2026-01-01');
SELECT klaviyo_run_job('profiles', account => 'other');
\echo :LAST_ERROR_SQLSTATE
SELECT klaviyo_pause_job('profiles', 'other');
SELECT klaviyo_resume_job('orders');
SELECT klaviyo_remove_job('profiles', 'other');

-- A run that is under way, as the runner has it
CREATE PROCEDURE under_way(what text)
LANGUAGE sql
AS $$
    INSERT INTO klaviyo.job_run AS r (account, job, started_at) VALUES ('default', what, now())
    ON CONFLICT (account, job) DO UPDATE SET started_at = now(), run_at = NULL, again_at = now() + interval '1 hour', failures = 3;
    INSERT INTO klaviyo.job_mark (account, job, item, read_until) VALUES ('default', what, '', '2026-06-01') ON CONFLICT DO NOTHING;
    INSERT INTO klaviyo.job_seen (account, job, id) VALUES ('default', what, 'x') ON CONFLICT DO NOTHING;
    INSERT INTO klaviyo.read (account, job, path) VALUES ('default', what, '/api/' || what) ON CONFLICT DO NOTHING;
$$;
CREATE VIEW known AS
SELECT r.job, r.started_at IS NOT NULL AS under_way, r.run_at IS NOT NULL AS asked_for, r.again_at IS NOT NULL AS waits, r.failures,
       (SELECT count(*) FROM klaviyo.job_mark AS m WHERE m.job = r.job) AS marks,
       (SELECT count(*) FROM klaviyo.job_seen AS s WHERE s.job = r.job) AS seen,
       (SELECT count(*) FROM klaviyo.read AS o WHERE o.job = r.job) AS asked
FROM klaviyo.job_run AS r
WHERE r.account = 'default' AND r.job IN ('profiles', 'events')
ORDER BY r.job;
CALL under_way('profiles');
CALL under_way('events');
SELECT job, state, failures FROM klaviyo.job WHERE job IN ('profiles', 'events') ORDER BY job;
-- Run now: it goes on at once
SELECT klaviyo_run_job('profiles');
SELECT * FROM known;
-- The same plan changes nothing, another one begins anew
SELECT klaviyo_set_job('profiles', every => '1 hour');
SELECT klaviyo_set_job('events', since => '2026-02-01');
SELECT * FROM known;
-- An earlier beginning means all, and so does anew
CALL under_way('events');
SELECT klaviyo_set_job('events', since => '2026-01-15');
SELECT klaviyo_run_job('profiles', anew => true);
SELECT * FROM known;

-- Paused and resumed
SELECT klaviyo_pause_job('profiles');
SELECT klaviyo_pause_job('profiles');
SELECT job, state, paused_at IS NOT NULL AS paused FROM klaviyo.job WHERE job = 'profiles';
SELECT klaviyo_resume_job('profiles');
SELECT job, state, paused_at IS NOT NULL AS paused FROM klaviyo.job WHERE job = 'profiles';

-- Removed with all that is known of how far it was, but not with what it has read
CALL under_way('profiles');
INSERT INTO klaviyo.profile (account, profile_id, email, subscriptions, pulled_at)
VALUES ('default', '01P', 'ada@shop.example', '{"email": {"marketing": {"consent": "SUBSCRIBED"}}}', now());
INSERT INTO klaviyo.event (account, event_id, happened_at, properties, pulled_at)
VALUES ('default', 'E', now(), '{"$value": 12.5}', now()), ('default', 'F', now(), '{"$value": "much"}', now());
SELECT klaviyo_remove_job('profiles');
SELECT count(*) FROM known WHERE job = 'profiles';
SELECT email, email_consent, sms_consent FROM klaviyo.profile;
SELECT event_id, value FROM klaviyo.event ORDER BY event_id;

COMMIT;
\set ON_ERROR_ROLLBACK off

-- Segments, as they are known
INSERT INTO klaviyo.segment (account, segment_id, name, pulled_at, members_pulled_at)
VALUES ('default', 'S1', 'VIP', now(), now()), ('default', 'S2', 'Gone', now(), NULL), ('default', 'S3', 'Twice', now(), now()),
       ('default', 'S4', 'Twice', now(), now()), ('other', 'S1', 'VIP', now(), now());
INSERT INTO klaviyo.segment_member (account, segment_id, profile_id, pulled_at) VALUES ('default', 'S1', '01P', now());
SELECT klaviyo_in_segment('VIP', 'Ada@Shop.example'), klaviyo_in_segment('S1', 'eve@shop.example'),
       klaviyo_in_segment('VIP', 'ada@shop.example', 'other') AS other, klaviyo_in_segment('VIP', NULL) AS nobody;
SELECT profile_id, email FROM klaviyo_segment_members('VIP');
SELECT klaviyo_in_segment('Silver', 'ada@shop.example');
SELECT klaviyo_in_segment('Twice', 'ada@shop.example');
SELECT count(*) FROM klaviyo_segment_members(NULL);
SET klaviyo.pull_timeout = '50ms';
SELECT klaviyo_in_segment('Gone', 'ada@shop.example');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT klaviyo_in_segment('Gone', 'ada@shop.example');
ROLLBACK;
SET klaviyo.segment_ttl = 60;
SELECT klaviyo.segment_ttl();
RESET klaviyo.segment_ttl;
SELECT klaviyo.segment_ttl();

-- Who may say so, and who may look
CREATE ROLE pulls_admin IN ROLE klaviyo_admin;
CREATE ROLE pulls_reader IN ROLE klaviyo_reader;
CREATE ROLE pulls_writer IN ROLE klaviyo_writer;
SET ROLE pulls_admin;
SELECT klaviyo_set_job('profiles', since => '2026-01-01');
SELECT klaviyo_set_job('profiles', since => '-infinity');
SELECT since FROM klaviyo.job WHERE job = 'profiles';
SELECT klaviyo_run_job('profiles', anew => true);
SELECT klaviyo_pause_job('profiles');
SELECT klaviyo_resume_job('profiles');
SELECT klaviyo_remove_job('profiles');
DELETE FROM klaviyo.profile;
SET ROLE pulls_reader;
SELECT count(*) FROM klaviyo.profile;
SELECT count(*) FROM klaviyo.job WHERE job = 'events';
SELECT count(*) FROM klaviyo_segment_members('VIP');
SELECT klaviyo_run_job('events');
SELECT body FROM klaviyo.read_answer;
SET ROLE pulls_writer;
SELECT count(*) FROM klaviyo.profile;
SELECT klaviyo_in_segment('VIP', 'ada@shop.example');
SELECT count(*) FROM klaviyo_segment_members('VIP');
SELECT klaviyo_set_job('profiles');
RESET ROLE;
DROP ROLE pulls_admin, pulls_reader, pulls_writer;

-- With the account goes all that was read of it
SELECT klaviyo_remove_account('default');
SELECT (SELECT count(*) FROM klaviyo.job WHERE account = 'default') AS jobs, (SELECT count(*) FROM klaviyo.profile) AS profiles,
       (SELECT count(*) FROM klaviyo.event) AS events;
