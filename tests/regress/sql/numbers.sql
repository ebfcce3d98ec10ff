-- Aggregates and reports: what their jobs are told, and what a marketer sees of what they have read. The runner, which may take up a
-- job at once, sees nothing of this transaction.
SET timezone = 'UTC';
SET client_min_messages = error;
CREATE EXTENSION klaviyo_sync;
SELECT klaviyo_set_account();
RESET client_min_messages;
BEGIN;

SELECT klaviyo_set_job('aggregates', names => '{Placed Order}', options => '{"interval": "week", "time_zone": "Europe/Vienna", "by": ["$flow", "List"]}');
SELECT klaviyo_set_job('campaign_reports');
SELECT klaviyo_set_job('flow_reports', since => '2026-01-01', options => '{"conversion_metric": "Bought"}');
SELECT klaviyo_set_job('form_reports', every => '6 hours');
SELECT klaviyo_set_job('segment_reports');
SELECT job, every, names, since, options FROM klaviyo.job ORDER BY job;

-- What is not said stays as it is; {} are none
SELECT klaviyo_set_job('flow_reports', every => '2 hours');
SELECT klaviyo_set_job('aggregates', options => '{}', names => '{*}');
SELECT job, every, names, since, options FROM klaviyo.job WHERE job IN ('aggregates', 'flow_reports') ORDER BY job;

-- What cannot be
\set ON_ERROR_ROLLBACK on
SELECT klaviyo_set_job('aggregates', options => '[]');
\echo :LAST_ERROR_SQLSTATE
SELECT klaviyo_set_job('aggregates', options => '{"intervall": "day", "zone": 1}');
SELECT klaviyo_set_job('aggregates', options => '{"interval": "year"}');
SELECT klaviyo_set_job('aggregates', options => '{"interval": 1}');
SELECT klaviyo_set_job('aggregates', options => '{"interval": null}');
SELECT klaviyo_set_job('aggregates', options => '{"time_zone": "europe/vienna"}');
SELECT klaviyo_set_job('aggregates', options => '{"time_zone": null}');
SELECT klaviyo_set_job('aggregates', options => '{"by": "$flow"}');
SELECT klaviyo_set_job('aggregates', options => '{"by": ["To Number"]}');
SELECT klaviyo_set_job('aggregates', options => '{"by": [null, 7]}');
SELECT klaviyo_set_job('aggregates', names => '{}');
SELECT klaviyo_set_job('aggregates', since => 'tomorrow');
SELECT klaviyo_set_job('campaign_reports', options => '{"interval": "day"}');
SELECT klaviyo_set_job('campaign_reports', options => '{"conversion_metric": " "}');
SELECT klaviyo_set_job('campaign_reports', since => '2026-01-01');
SELECT klaviyo_set_job('form_reports', options => '{"conversion_metric": "Bought"}');
SELECT klaviyo_set_job('form_reports', names => '{FORM}');
SELECT klaviyo_set_job('profiles', options => '{"by": []}');
SELECT klaviyo_set_job('visit_reports');
\set ON_ERROR_ROLLBACK off

-- Another beginning, and other options, mean all; the same mean nothing
CREATE VIEW marks AS SELECT count(*) FROM klaviyo.job_mark WHERE job = 'flow_reports';
CREATE PROCEDURE mark() LANGUAGE sql AS $$
    INSERT INTO klaviyo.job_mark VALUES ('default', 'flow_reports', 'Y6', '2026-06-01') ON CONFLICT DO NOTHING
$$;
CALL mark();
SELECT klaviyo_set_job('flow_reports', every => '1 hour', since => '2026-01-01', options => '{"conversion_metric": "Bought"}');
TABLE marks;
SELECT klaviyo_set_job('flow_reports', options => '{"conversion_metric": "Placed Order"}');
TABLE marks;
CALL mark();
SELECT klaviyo_set_job('flow_reports', since => '2025-01-01');
TABLE marks;

-- Of reports Klaviyo's daily limit is to last
SELECT job, pages, klaviyo.job_pause(job, '1 hour', pages)
FROM unnest('{campaign_reports,flow_reports,aggregates,profiles}'::text[]) AS j (job), unnest('{0,6,7,200}'::bigint[]) AS p (pages)
ORDER BY job, pages;

-- What a marketer looks for, also without names
INSERT INTO klaviyo.flow_report (account, flow_id, flow_message_id, send_channel, day, conversion_metric_id, recipients, delivered, bounced, opens_unique,
                                 clicks_unique, unsubscribe_uniques, conversions, conversion_value, pulled_at)
VALUES ('default', 'F', 'A', 'email', '2026-11-01', 'Y6', 100, 80, 20, 40, 8, 4, 2, 50, now()),
       ('default', 'F', 'B', 'email', '2026-11-30', 'Y6', 100, 20, 0, 10, 2, 0, 0, 0, now()),
       ('default', 'F', 'A', 'email', '2026-12-01', 'Y6', 0, 0, 0, 0, 0, 0, 1, 10, now()),
       ('default', 'F', 'A', 'sms', '2026-12-01', 'Y6', 5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, now());
SELECT flow_id, name, send_channel, month, recipients, delivered, round(open_rate, 4) AS open_rate, round(click_rate, 4) AS click_rate,
       round(bounce_rate, 4) AS bounce_rate, round(unsubscribe_rate, 4) AS unsubscribe_rate, orders, revenue, round(revenue_per_recipient, 4) AS per_recipient
FROM klaviyo.flow_performance ORDER BY send_channel, month;
INSERT INTO klaviyo.list (account, list_id, name, pulled_at) VALUES ('default', 'L', 'Newsletter', now());
INSERT INTO klaviyo.list_day VALUES ('default', 'L', '2026-11-01', 10), ('default', 'L', '2026-11-02', 15), ('default', 'L', '2026-11-04', 12), ('default', 'M', '2026-11-02', 3);
SELECT list_id, name, day, members, net_change FROM klaviyo.list_growth ORDER BY list_id, day;
INSERT INTO klaviyo.metric_aggregate (account, metric_id, dimension, dimension_value, interval, time_zone, starts_at, count, pulled_at)
VALUES ('default', 'Y6', '', '', 'day', 'America/New_York', '2026-11-01 04:00Z', 1, now()),
       ('default', 'Y6', '', '', 'day', 'America/New_York', '2026-11-02 05:00Z', 1, now());
SELECT starts_at, local_start FROM klaviyo.metric_aggregate ORDER BY starts_at;

-- klaviyo_reader sees all of it
SET LOCAL ROLE klaviyo_reader;
SELECT (SELECT count(*) FROM klaviyo.metric_aggregate), (SELECT count(*) FROM klaviyo.campaign_report), (SELECT count(*) FROM klaviyo.form_report),
       (SELECT count(*) FROM klaviyo.segment_report), (SELECT count(*) FROM klaviyo.campaign_performance), (SELECT count(*) FROM klaviyo.segment_growth),
       (SELECT count(*) FROM klaviyo.job);
ROLLBACK;
