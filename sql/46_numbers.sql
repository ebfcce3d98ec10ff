-- Numbers: what Klaviyo has counted, read now and then into tables for reports.

-- Aggregates --------------------------------------------------------------------------------------------------------

CREATE TABLE klaviyo.metric_aggregate (
    account         text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    metric_id       text NOT NULL,
    dimension       text NOT NULL,
    dimension_value text NOT NULL,
    interval        text NOT NULL,
    time_zone       text NOT NULL,
    starts_at       timestamptz NOT NULL,
    local_start     timestamp GENERATED ALWAYS AS (starts_at AT TIME ZONE time_zone) STORED,
    count           bigint,
    sum_value       numeric,
    unique_profiles bigint,
    pulled_at       timestamptz NOT NULL,
    PRIMARY KEY (account, metric_id, dimension, dimension_value, starts_at),
    CONSTRAINT metric_aggregate_interval_check CHECK (interval IN ('hour', 'day', 'week', 'month'))
);
CREATE INDEX metric_aggregate_starts_at_idx ON klaviyo.metric_aggregate (starts_at);
COMMENT ON TABLE klaviyo.metric_aggregate IS 'What the events of metrics come to by hour, day, week or month, as the job aggregates reads them; a row only where there was any. Those of one dimension are to be added up, as of none, which are the whole, but for unique_profiles';
COMMENT ON COLUMN klaviyo.metric_aggregate.account IS 'Account';
COMMENT ON COLUMN klaviyo.metric_aggregate.metric_id IS 'Metric, see klaviyo.metric';
COMMENT ON COLUMN klaviyo.metric_aggregate.dimension IS 'What the events are grouped by, as Klaviyo calls it, such as $attributed_channel; empty: all of the metric';
COMMENT ON COLUMN klaviyo.metric_aggregate.dimension_value IS 'Which of its values they have; empty: none. One of more than 500 bytes is cut, and ends with a digest';
COMMENT ON COLUMN klaviyo.metric_aggregate.interval IS 'hour, day, week or month';
COMMENT ON COLUMN klaviyo.metric_aggregate.time_zone IS 'By whose clock it begins';
COMMENT ON COLUMN klaviyo.metric_aggregate.starts_at IS 'When it begins';
COMMENT ON COLUMN klaviyo.metric_aggregate.local_start IS 'The same by that clock, on which an hour may come twice';
COMMENT ON COLUMN klaviyo.metric_aggregate.count IS 'Events';
COMMENT ON COLUMN klaviyo.metric_aggregate.sum_value IS 'What they were worth together';
COMMENT ON COLUMN klaviyo.metric_aggregate.unique_profiles IS 'Profiles they are of; such numbers of several intervals or values cannot be added up';
COMMENT ON COLUMN klaviyo.metric_aggregate.pulled_at IS 'When it last changed here';

-- Reports -----------------------------------------------------------------------------------------------------------

CREATE TABLE klaviyo.campaign_report (
    account               text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    campaign_id           text NOT NULL,
    campaign_message_id   text NOT NULL,
    send_channel          text NOT NULL,
    conversion_metric_id  text NOT NULL,
    recipients            bigint,
    delivered             bigint,
    bounced               bigint,
    failed                bigint,
    opens                 bigint,
    opens_unique          bigint,
    clicks                bigint,
    clicks_unique         bigint,
    unsubscribes          bigint,
    unsubscribe_uniques   bigint,
    spam_complaints       bigint,
    conversions           bigint,
    conversion_uniques    bigint,
    conversion_value      numeric,
    text_message_spend    numeric,
    delivery_rate         numeric,
    bounce_rate           numeric,
    open_rate             numeric,
    click_rate            numeric,
    click_to_open_rate    numeric,
    conversion_rate       numeric,
    unsubscribe_rate      numeric,
    spam_complaint_rate   numeric,
    revenue_per_recipient numeric,
    average_order_value   numeric,
    pulled_at             timestamptz NOT NULL,
    PRIMARY KEY (account, campaign_id, campaign_message_id, send_channel)
);
COMMENT ON TABLE klaviyo.campaign_report IS 'What the messages of campaigns have come to, as the job campaign_reports reads it of the last 365 days; what was sent before stays as it was last read';
COMMENT ON COLUMN klaviyo.campaign_report.account IS 'Account';
COMMENT ON COLUMN klaviyo.campaign_report.campaign_id IS 'Campaign, see klaviyo.campaign';
COMMENT ON COLUMN klaviyo.campaign_report.campaign_message_id IS 'Its message, by Klaviyo''s id';
COMMENT ON COLUMN klaviyo.campaign_report.send_channel IS 'email, sms, push-notification or whatsapp; empty where Klaviyo does not say';
COMMENT ON COLUMN klaviyo.campaign_report.conversion_metric_id IS 'Metric whose events are conversions, see klaviyo.metric';
COMMENT ON COLUMN klaviyo.campaign_report.recipients IS 'To how many it was sent';
COMMENT ON COLUMN klaviyo.campaign_report.delivered IS 'To how many it was delivered';
COMMENT ON COLUMN klaviyo.campaign_report.bounced IS 'How many bounced';
COMMENT ON COLUMN klaviyo.campaign_report.failed IS 'How many could not be sent';
COMMENT ON COLUMN klaviyo.campaign_report.opens IS 'How often it was opened';
COMMENT ON COLUMN klaviyo.campaign_report.opens_unique IS 'By how many';
COMMENT ON COLUMN klaviyo.campaign_report.clicks IS 'How often something in it was clicked';
COMMENT ON COLUMN klaviyo.campaign_report.clicks_unique IS 'By how many';
COMMENT ON COLUMN klaviyo.campaign_report.unsubscribes IS 'How often somebody unsubscribed by it';
COMMENT ON COLUMN klaviyo.campaign_report.unsubscribe_uniques IS 'How many did';
COMMENT ON COLUMN klaviyo.campaign_report.spam_complaints IS 'How often it was called spam';
COMMENT ON COLUMN klaviyo.campaign_report.conversions IS 'Conversions that Klaviyo attributes to it, such as orders';
COMMENT ON COLUMN klaviyo.campaign_report.conversion_uniques IS 'By how many';
COMMENT ON COLUMN klaviyo.campaign_report.conversion_value IS 'What they were worth together, the revenue of orders';
COMMENT ON COLUMN klaviyo.campaign_report.text_message_spend IS 'What its text messages cost';
COMMENT ON COLUMN klaviyo.campaign_report.delivery_rate IS 'Share of the recipients, as Klaviyo reckons it, of 0 to 1, as all rates here';
COMMENT ON COLUMN klaviyo.campaign_report.bounce_rate IS 'Share that bounced';
COMMENT ON COLUMN klaviyo.campaign_report.open_rate IS 'Share that opened it';
COMMENT ON COLUMN klaviyo.campaign_report.click_rate IS 'Share that clicked';
COMMENT ON COLUMN klaviyo.campaign_report.click_to_open_rate IS 'Share of those who opened it that clicked';
COMMENT ON COLUMN klaviyo.campaign_report.conversion_rate IS 'Share that had a conversion';
COMMENT ON COLUMN klaviyo.campaign_report.unsubscribe_rate IS 'Share that unsubscribed';
COMMENT ON COLUMN klaviyo.campaign_report.spam_complaint_rate IS 'Share that called it spam';
COMMENT ON COLUMN klaviyo.campaign_report.revenue_per_recipient IS 'conversion_value by recipient';
COMMENT ON COLUMN klaviyo.campaign_report.average_order_value IS 'conversion_value by conversion';
COMMENT ON COLUMN klaviyo.campaign_report.pulled_at IS 'When it last changed here';

CREATE TABLE klaviyo.flow_report (
    account              text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    flow_id              text NOT NULL,
    flow_message_id      text NOT NULL,
    send_channel         text NOT NULL,
    day                  date NOT NULL,
    conversion_metric_id text NOT NULL,
    recipients           bigint,
    delivered            bigint,
    bounced              bigint,
    failed               bigint,
    opens                bigint,
    opens_unique         bigint,
    clicks               bigint,
    clicks_unique        bigint,
    unsubscribes         bigint,
    unsubscribe_uniques  bigint,
    spam_complaints      bigint,
    conversions          bigint,
    conversion_uniques   bigint,
    conversion_value     numeric,
    text_message_spend   numeric,
    pulled_at            timestamptz NOT NULL,
    PRIMARY KEY (account, flow_id, flow_message_id, send_channel, day)
);
CREATE INDEX flow_report_day_idx ON klaviyo.flow_report (day);
COMMENT ON TABLE klaviyo.flow_report IS 'What the messages of flows have come to by the day, as the job flow_reports reads it; a row only where there was anything';
COMMENT ON COLUMN klaviyo.flow_report.account IS 'Account';
COMMENT ON COLUMN klaviyo.flow_report.flow_id IS 'Flow, see klaviyo.flow';
COMMENT ON COLUMN klaviyo.flow_report.flow_message_id IS 'Its message, by Klaviyo''s id';
COMMENT ON COLUMN klaviyo.flow_report.send_channel IS 'email, sms, push-notification or whatsapp; empty where Klaviyo does not say';
COMMENT ON COLUMN klaviyo.flow_report.day IS 'Day by the clock of the company, as Klaviyo has it';
COMMENT ON COLUMN klaviyo.flow_report.conversion_metric_id IS 'Metric whose events are conversions, see klaviyo.metric';
COMMENT ON COLUMN klaviyo.flow_report.recipients IS 'To how many it was sent';
COMMENT ON COLUMN klaviyo.flow_report.delivered IS 'To how many it was delivered';
COMMENT ON COLUMN klaviyo.flow_report.bounced IS 'How many bounced';
COMMENT ON COLUMN klaviyo.flow_report.failed IS 'How many could not be sent';
COMMENT ON COLUMN klaviyo.flow_report.opens IS 'How often it was opened';
COMMENT ON COLUMN klaviyo.flow_report.opens_unique IS 'By how many; such numbers of several days cannot be added up, strictly';
COMMENT ON COLUMN klaviyo.flow_report.clicks IS 'How often something in it was clicked';
COMMENT ON COLUMN klaviyo.flow_report.clicks_unique IS 'By how many';
COMMENT ON COLUMN klaviyo.flow_report.unsubscribes IS 'How often somebody unsubscribed by it';
COMMENT ON COLUMN klaviyo.flow_report.unsubscribe_uniques IS 'How many did';
COMMENT ON COLUMN klaviyo.flow_report.spam_complaints IS 'How often it was called spam';
COMMENT ON COLUMN klaviyo.flow_report.conversions IS 'Conversions that Klaviyo attributes to it, such as orders';
COMMENT ON COLUMN klaviyo.flow_report.conversion_uniques IS 'By how many';
COMMENT ON COLUMN klaviyo.flow_report.conversion_value IS 'What they were worth together, the revenue of orders';
COMMENT ON COLUMN klaviyo.flow_report.text_message_spend IS 'What its text messages cost';
COMMENT ON COLUMN klaviyo.flow_report.pulled_at IS 'When it last changed here';

CREATE TABLE klaviyo.form_report (
    account                     text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    form_id                     text NOT NULL,
    day                         date NOT NULL,
    viewed_form                 bigint,
    viewed_form_uniques         bigint,
    closed_form                 bigint,
    closed_form_uniques         bigint,
    submits                     bigint,
    submitted_form_step         bigint,
    submitted_form_step_uniques bigint,
    qualified_form              bigint,
    qualified_form_uniques      bigint,
    pulled_at                   timestamptz NOT NULL,
    PRIMARY KEY (account, form_id, day)
);
CREATE INDEX form_report_day_idx ON klaviyo.form_report (day);
COMMENT ON TABLE klaviyo.form_report IS 'What sign-up forms have come to by the day, as the job form_reports reads it; a row only where there was anything';
COMMENT ON COLUMN klaviyo.form_report.account IS 'Account';
COMMENT ON COLUMN klaviyo.form_report.form_id IS 'Form, by Klaviyo''s id';
COMMENT ON COLUMN klaviyo.form_report.day IS 'Day by the clock of the company, as Klaviyo has it';
COMMENT ON COLUMN klaviyo.form_report.viewed_form IS 'How often it was seen';
COMMENT ON COLUMN klaviyo.form_report.viewed_form_uniques IS 'By how many';
COMMENT ON COLUMN klaviyo.form_report.closed_form IS 'How often it was closed';
COMMENT ON COLUMN klaviyo.form_report.closed_form_uniques IS 'By how many';
COMMENT ON COLUMN klaviyo.form_report.submits IS 'How often it was filled in and sent';
COMMENT ON COLUMN klaviyo.form_report.submitted_form_step IS 'How often a step of it was';
COMMENT ON COLUMN klaviyo.form_report.submitted_form_step_uniques IS 'By how many';
COMMENT ON COLUMN klaviyo.form_report.qualified_form IS 'How often it could have been shown to somebody';
COMMENT ON COLUMN klaviyo.form_report.qualified_form_uniques IS 'To how many';
COMMENT ON COLUMN klaviyo.form_report.pulled_at IS 'When it last changed here';

CREATE TABLE klaviyo.segment_report (
    account             text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    segment_id          text NOT NULL,
    day                 date NOT NULL,
    total_members       bigint,
    members_added       bigint,
    members_removed     bigint,
    net_members_changed bigint,
    pulled_at           timestamptz NOT NULL,
    PRIMARY KEY (account, segment_id, day)
);
CREATE INDEX segment_report_day_idx ON klaviyo.segment_report (day);
COMMENT ON TABLE klaviyo.segment_report IS 'How segments grow by the day, as the job segment_reports reads it; a row only where there was anybody';
COMMENT ON COLUMN klaviyo.segment_report.account IS 'Account';
COMMENT ON COLUMN klaviyo.segment_report.segment_id IS 'Segment, see klaviyo.segment';
COMMENT ON COLUMN klaviyo.segment_report.day IS 'Day by the clock of the company, as Klaviyo has it';
COMMENT ON COLUMN klaviyo.segment_report.total_members IS 'How many are in it';
COMMENT ON COLUMN klaviyo.segment_report.members_added IS 'How many have come';
COMMENT ON COLUMN klaviyo.segment_report.members_removed IS 'How many have gone';
COMMENT ON COLUMN klaviyo.segment_report.net_members_changed IS 'How many more, or fewer, that is';
COMMENT ON COLUMN klaviyo.segment_report.pulled_at IS 'When it last changed here';

-- Klaviyo tells it of no day that is over, so it cannot be read anew.
CREATE TABLE klaviyo.list_day (
    account text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    list_id text NOT NULL,
    day     date NOT NULL,
    members bigint NOT NULL,
    PRIMARY KEY (account, list_id, day)
);
COMMENT ON TABLE klaviyo.list_day IS 'How many were on a list when the job lists last had read it on a day';
COMMENT ON COLUMN klaviyo.list_day.account IS 'Account';
COMMENT ON COLUMN klaviyo.list_day.list_id IS 'List, see klaviyo.list';
COMMENT ON COLUMN klaviyo.list_day.day IS 'Day, of UTC';
COMMENT ON COLUMN klaviyo.list_day.members IS 'How many';

SELECT pg_catalog.pg_extension_config_dump('klaviyo.list_day', '');

-- What a marketer looks for -----------------------------------------------------------------------------------------

CREATE VIEW klaviyo.campaign_performance AS
SELECT r.account, r.campaign_id, c.name, r.send_channel, c.send_time, r.recipients, r.delivered, r.open_rate, r.click_rate,
       r.bounce_rate, r.unsubscribe_rate, r.conversion_rate, r.conversions AS orders, r.conversion_value AS revenue,
       r.revenue_per_recipient, r.average_order_value, r.campaign_message_id, r.conversion_metric_id
FROM klaviyo.campaign_report AS r
LEFT JOIN klaviyo.campaign AS c USING (account, campaign_id);
COMMENT ON VIEW klaviyo.campaign_performance IS 'Revenue, and open and click rate, of each campaign''s messages; names and times are there once the job campaigns has run';
COMMENT ON COLUMN klaviyo.campaign_performance.account IS 'Account';
COMMENT ON COLUMN klaviyo.campaign_performance.campaign_id IS 'Campaign';
COMMENT ON COLUMN klaviyo.campaign_performance.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.campaign_performance.send_channel IS 'email, sms, push-notification or whatsapp';
COMMENT ON COLUMN klaviyo.campaign_performance.send_time IS 'When it was sent';
COMMENT ON COLUMN klaviyo.campaign_performance.recipients IS 'To how many';
COMMENT ON COLUMN klaviyo.campaign_performance.delivered IS 'To how many it was delivered';
COMMENT ON COLUMN klaviyo.campaign_performance.open_rate IS 'Share that opened it, of 0 to 1, as all rates here';
COMMENT ON COLUMN klaviyo.campaign_performance.click_rate IS 'Share that clicked';
COMMENT ON COLUMN klaviyo.campaign_performance.bounce_rate IS 'Share that bounced';
COMMENT ON COLUMN klaviyo.campaign_performance.unsubscribe_rate IS 'Share that unsubscribed';
COMMENT ON COLUMN klaviyo.campaign_performance.conversion_rate IS 'Share that ordered';
COMMENT ON COLUMN klaviyo.campaign_performance.orders IS 'Orders that Klaviyo attributes to it, or what else conversion_metric of the job says';
COMMENT ON COLUMN klaviyo.campaign_performance.revenue IS 'What they were worth together';
COMMENT ON COLUMN klaviyo.campaign_performance.revenue_per_recipient IS 'The same by recipient';
COMMENT ON COLUMN klaviyo.campaign_performance.average_order_value IS 'The same by order';
COMMENT ON COLUMN klaviyo.campaign_performance.campaign_message_id IS 'Message';
COMMENT ON COLUMN klaviyo.campaign_performance.conversion_metric_id IS 'Metric whose events are the orders';

-- Rates of several days are reckoned of what they add up to.
CREATE VIEW klaviyo.flow_performance AS
SELECT r.account, r.flow_id, f.name, r.send_channel, date_trunc('month', r.day)::date AS month, sum(r.recipients)::bigint AS recipients,
       sum(r.delivered)::bigint AS delivered, sum(r.opens_unique) / nullif(sum(r.delivered), 0) AS open_rate,
       sum(r.clicks_unique) / nullif(sum(r.delivered), 0) AS click_rate, sum(r.bounced) / nullif(sum(r.recipients), 0) AS bounce_rate,
       sum(r.unsubscribe_uniques) / nullif(sum(r.delivered), 0) AS unsubscribe_rate, sum(r.conversions)::bigint AS orders,
       sum(r.conversion_value) AS revenue, sum(r.conversion_value) / nullif(sum(r.recipients), 0) AS revenue_per_recipient,
       r.conversion_metric_id
FROM klaviyo.flow_report AS r
LEFT JOIN klaviyo.flow AS f USING (account, flow_id)
GROUP BY r.account, r.flow_id, f.name, r.send_channel, date_trunc('month', r.day), r.conversion_metric_id;
COMMENT ON VIEW klaviyo.flow_performance IS 'Revenue, and open and click rate, of each flow by the month; names are there once the job flows has run. Whoever opens on two days counts twice';
COMMENT ON COLUMN klaviyo.flow_performance.account IS 'Account';
COMMENT ON COLUMN klaviyo.flow_performance.flow_id IS 'Flow';
COMMENT ON COLUMN klaviyo.flow_performance.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.flow_performance.send_channel IS 'email, sms, push-notification or whatsapp';
COMMENT ON COLUMN klaviyo.flow_performance.month IS 'First day of the month';
COMMENT ON COLUMN klaviyo.flow_performance.recipients IS 'To how many its messages were sent';
COMMENT ON COLUMN klaviyo.flow_performance.delivered IS 'To how many they were delivered';
COMMENT ON COLUMN klaviyo.flow_performance.open_rate IS 'Share of those that opened them, of 0 to 1, as all rates here';
COMMENT ON COLUMN klaviyo.flow_performance.click_rate IS 'Share of those that clicked';
COMMENT ON COLUMN klaviyo.flow_performance.bounce_rate IS 'Share of the recipients that bounced';
COMMENT ON COLUMN klaviyo.flow_performance.unsubscribe_rate IS 'Share of those it was delivered to that unsubscribed';
COMMENT ON COLUMN klaviyo.flow_performance.orders IS 'Orders that Klaviyo attributes to it, or what else conversion_metric of the job says';
COMMENT ON COLUMN klaviyo.flow_performance.revenue IS 'What they were worth together';
COMMENT ON COLUMN klaviyo.flow_performance.revenue_per_recipient IS 'The same by recipient';
COMMENT ON COLUMN klaviyo.flow_performance.conversion_metric_id IS 'Metric whose events are the orders; a month has a row for each there was';

CREATE VIEW klaviyo.list_growth AS
SELECT d.account, d.list_id, l.name, d.day, d.members,
       d.members - lag(d.members) OVER (PARTITION BY d.account, d.list_id ORDER BY d.day) AS net_change
FROM klaviyo.list_day AS d
LEFT JOIN klaviyo.list AS l USING (account, list_id);
COMMENT ON VIEW klaviyo.list_growth IS 'How lists grow by the day, from when on the job lists has read who is on them';
COMMENT ON COLUMN klaviyo.list_growth.account IS 'Account';
COMMENT ON COLUMN klaviyo.list_growth.list_id IS 'List';
COMMENT ON COLUMN klaviyo.list_growth.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.list_growth.day IS 'Day, of UTC';
COMMENT ON COLUMN klaviyo.list_growth.members IS 'How many were on it at the end of the day, as far as was read';
COMMENT ON COLUMN klaviyo.list_growth.net_change IS 'How many more, or fewer, than on the day before that was read';

CREATE VIEW klaviyo.segment_growth AS
SELECT r.account, r.segment_id, s.name, r.day, r.total_members AS members, r.members_added AS joined, r.members_removed AS departed,
       r.net_members_changed AS net_change
FROM klaviyo.segment_report AS r
LEFT JOIN klaviyo.segment AS s USING (account, segment_id);
COMMENT ON VIEW klaviyo.segment_growth IS 'How segments grow by the day; names are there once the job segments has run';
COMMENT ON COLUMN klaviyo.segment_growth.account IS 'Account';
COMMENT ON COLUMN klaviyo.segment_growth.segment_id IS 'Segment';
COMMENT ON COLUMN klaviyo.segment_growth.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.segment_growth.day IS 'Day by the clock of the company, as Klaviyo has it';
COMMENT ON COLUMN klaviyo.segment_growth.members IS 'How many are in it';
COMMENT ON COLUMN klaviyo.segment_growth.joined IS 'How many have come';
COMMENT ON COLUMN klaviyo.segment_growth.departed IS 'How many have gone';
COMMENT ON COLUMN klaviyo.segment_growth.net_change IS 'How many more, or fewer, that is';
