-- Pulls: what Klaviyo has, read now and then into tables of ours.

-- What is to be read ------------------------------------------------------------------------------------------------

CREATE TABLE klaviyo.job_plan (
    account    text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    job        text NOT NULL,
    every      interval NOT NULL,
    names       text[],
    since      timestamptz,
    options    jsonb,
    paused_at  timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, job),
    CONSTRAINT job_plan_job_check CHECK (
        job IN ('profiles', 'events', 'lists', 'segments', 'campaigns', 'flows', 'metrics', 'aggregates', 'campaign_reports',
                'flow_reports', 'form_reports', 'segment_reports') OR job ~ '^(segment|profile):'
    ),
    CONSTRAINT job_plan_every_check CHECK (every BETWEEN interval '1 minute' AND interval '1000 years')
);
COMMENT ON TABLE klaviyo.job_plan IS 'What is read of Klaviyo, and how often, see klaviyo_set_job()';
COMMENT ON COLUMN klaviyo.job_plan.account IS 'Account';
COMMENT ON COLUMN klaviyo.job_plan.job IS 'What it reads: profiles, events, lists, segments, campaigns, flows, metrics, aggregates, campaign_reports, flow_reports, form_reports or segment_reports; segment: and its id, or profile: and its address, for one that a statement waits for, which klaviyo.job leaves out';
COMMENT ON COLUMN klaviyo.job_plan.every IS 'Time between the beginnings of two runs';
COMMENT ON COLUMN klaviyo.job_plan.names IS 'Metrics of which events or aggregates are read, or lists or segments of which members are, by name or Klaviyo''s id; NULL: all';
COMMENT ON COLUMN klaviyo.job_plan.since IS 'What was last updated, or has happened, before that is not read; NULL: all is, of aggregates and reports by the day the last year';
COMMENT ON COLUMN klaviyo.job_plan.options IS 'What else klaviyo_set_job() was told; NULL: nothing';
COMMENT ON COLUMN klaviyo.job_plan.paused_at IS 'When klaviyo_pause_job() was called; NULL if it is not paused';
COMMENT ON COLUMN klaviyo.job_plan.created_at IS 'When it was added';
COMMENT ON COLUMN klaviyo.job_plan.changed_at IS 'When klaviyo_set_job(), klaviyo_pause_job() or klaviyo_resume_job() last changed it';

-- How far it is. None of the tables from here on is carried by a dump: they are read anew.
CREATE TABLE klaviyo.job_run (
    account         text NOT NULL,
    job             text NOT NULL,
    run_at          timestamptz,
    started_at      timestamptz,
    step            text,
    step_started_at timestamptz,
    step_lacks_rows boolean NOT NULL DEFAULT false,
    item            text,
    read_from       timestamptz,
    cursor          text,
    read_until      timestamptz,
    page_size       integer,
    restarts        integer NOT NULL DEFAULT 0,
    pages           bigint NOT NULL DEFAULT 0,
    rows_read       bigint NOT NULL DEFAULT 0,
    rows_changed    bigint NOT NULL DEFAULT 0,
    rows_removed    bigint NOT NULL DEFAULT 0,
    rows_unreadable bigint NOT NULL DEFAULT 0,
    failures        integer NOT NULL DEFAULT 0,
    again_at        timestamptz,
    error           text,
    refusal         text,
    last_started_at timestamptz,
    last_ended_at   timestamptz,
    last_outcome    text,
    last_error      text,
    PRIMARY KEY (account, job),
    FOREIGN KEY (account, job) REFERENCES klaviyo.job_plan ON DELETE CASCADE,
    CONSTRAINT job_run_last_outcome_check CHECK (last_outcome IN ('complete', 'failed'))
);
COMMENT ON TABLE klaviyo.job_run IS 'How far each job is, and how its last run has ended; klaviyo.job shows it with the plan';
COMMENT ON COLUMN klaviyo.job_run.account IS 'Account';
COMMENT ON COLUMN klaviyo.job_run.job IS 'Job';
COMMENT ON COLUMN klaviyo.job_run.run_at IS 'When a run was asked for that is not under way yet; NULL: the next begins when its time comes';
COMMENT ON COLUMN klaviyo.job_run.started_at IS 'When the run began that is under way; NULL: none is';
COMMENT ON COLUMN klaviyo.job_run.step IS 'What is being read: metrics, listing or members';
COMMENT ON COLUMN klaviyo.job_run.step_started_at IS 'When that was begun';
COMMENT ON COLUMN klaviyo.job_run.step_lacks_rows IS 'Whether some of its rows cannot be read, so that nobody knows what is no more';
COMMENT ON COLUMN klaviyo.job_run.item IS 'Of which metric, list, segment or channel, by Klaviyo''s id; of aggregates with the dimension behind it, of reports the metric of conversions; empty: of all';
COMMENT ON COLUMN klaviyo.job_run.read_from IS 'From when on it is read; NULL: from the beginning';
COMMENT ON COLUMN klaviyo.job_run.cursor IS 'Klaviyo''s name of the next page; NULL: it is the first';
COMMENT ON COLUMN klaviyo.job_run.read_until IS 'Up to when all has been read, by the rows of the last page, or of aggregates and reports the end of the time that is being read; NULL where rows have no order of time';
COMMENT ON COLUMN klaviyo.job_run.page_size IS 'Rows that are asked for at a time, if fewer than a page may have';
COMMENT ON COLUMN klaviyo.job_run.restarts IS 'How often a step was begun anew since Klaviyo knew the next page no more';
COMMENT ON COLUMN klaviyo.job_run.pages IS 'Pages read in the run, or in the last if none is under way';
COMMENT ON COLUMN klaviyo.job_run.rows_read IS 'Rows on them';
COMMENT ON COLUMN klaviyo.job_run.rows_changed IS 'Those of them that were new here, or other than here';
COMMENT ON COLUMN klaviyo.job_run.rows_removed IS 'Rows of ours that are no more at Klaviyo, and so no more here';
COMMENT ON COLUMN klaviyo.job_run.rows_unreadable IS 'Rows that nobody can read, and that were left out';
COMMENT ON COLUMN klaviyo.job_run.failures IS 'Calls that have failed, one after the other';
COMMENT ON COLUMN klaviyo.job_run.again_at IS 'When it is tried again, if the last call has failed';
COMMENT ON COLUMN klaviyo.job_run.error IS 'Why it has';
COMMENT ON COLUMN klaviyo.job_run.refusal IS 'What Klaviyo has refused in the run, which went on with all else; the first of it';
COMMENT ON COLUMN klaviyo.job_run.last_started_at IS 'When the last run began that has ended';
COMMENT ON COLUMN klaviyo.job_run.last_ended_at IS 'When it ended';
COMMENT ON COLUMN klaviyo.job_run.last_outcome IS 'complete: all was read; failed: it was not, and what was read before that is kept';
COMMENT ON COLUMN klaviyo.job_run.last_error IS 'Why it has failed';

CREATE TABLE klaviyo.job_mark (
    account    text NOT NULL,
    job        text NOT NULL,
    item       text NOT NULL,
    read_until timestamptz NOT NULL,
    PRIMARY KEY (account, job, item),
    FOREIGN KEY (account, job) REFERENCES klaviyo.job_plan ON DELETE CASCADE
);
COMMENT ON TABLE klaviyo.job_mark IS 'Up to when jobs have read all that Klaviyo has; the next run begins there, but for klaviyo.pull_overlap, or 30 days of aggregates and reports by the day, 90 of those of flows';
COMMENT ON COLUMN klaviyo.job_mark.account IS 'Account';
COMMENT ON COLUMN klaviyo.job_mark.job IS 'Job';
COMMENT ON COLUMN klaviyo.job_mark.item IS 'Of which metric, by Klaviyo''s id, of aggregates with the dimension behind it; empty: of all';
COMMENT ON COLUMN klaviyo.job_mark.read_until IS 'Up to when';

CREATE TABLE klaviyo.job_seen (
    account text NOT NULL,
    job     text NOT NULL,
    id      text NOT NULL,
    PRIMARY KEY (account, job, id),
    FOREIGN KEY (account, job) REFERENCES klaviyo.job_plan ON DELETE CASCADE
);
COMMENT ON TABLE klaviyo.job_seen IS 'What the step of a run that is under way has read: at its end all else of that is removed here';
COMMENT ON COLUMN klaviyo.job_seen.account IS 'Account';
COMMENT ON COLUMN klaviyo.job_seen.job IS 'Job';
COMMENT ON COLUMN klaviyo.job_seen.id IS 'Klaviyo''s id of it';

CREATE TABLE klaviyo.read (
    read_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account  text NOT NULL,
    job      text NOT NULL,
    path     text NOT NULL,
    body     text,
    asked_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT read_once_key UNIQUE (account, job),
    FOREIGN KEY (account, job) REFERENCES klaviyo.job_plan ON DELETE CASCADE
);
COMMENT ON TABLE klaviyo.read IS 'Pages that jobs wait for: the worker asks Klaviyo for them as its limits allow';
COMMENT ON COLUMN klaviyo.read.read_id IS 'Number';
COMMENT ON COLUMN klaviyo.read.account IS 'Account';
COMMENT ON COLUMN klaviyo.read.job IS 'Job';
COMMENT ON COLUMN klaviyo.read.path IS 'Path and query of the call';
COMMENT ON COLUMN klaviyo.read.body IS 'What is sent along by POST; NULL of what is asked for by GET';
COMMENT ON COLUMN klaviyo.read.asked_at IS 'When the job asked for it';

-- The worker only ever inserts here, so that it waits for nobody.
CREATE TABLE klaviyo.read_answer (
    read_id     bigint PRIMARY KEY,
    body        text,
    code        text,
    reason      text,
    http_status integer,
    again       boolean NOT NULL,
    answered_at timestamptz NOT NULL
);
-- It is read once, and soon.
ALTER TABLE klaviyo.read_answer ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE klaviyo.read_answer ALTER COLUMN body SET STATISTICS 0;
COMMENT ON TABLE klaviyo.read_answer IS 'What Klaviyo has answered to klaviyo.read, until the job has taken it';
COMMENT ON COLUMN klaviyo.read_answer.read_id IS 'Which';
COMMENT ON COLUMN klaviyo.read_answer.body IS 'The answer, which is JSON; NULL if the call has failed';
COMMENT ON COLUMN klaviyo.read_answer.code IS 'Klaviyo''s error code, or one of ours, if it has';
COMMENT ON COLUMN klaviyo.read_answer.reason IS 'What went wrong';
COMMENT ON COLUMN klaviyo.read_answer.http_status IS 'HTTP status, if there was an answer';
COMMENT ON COLUMN klaviyo.read_answer.again IS 'Whether the same may be answered another time';
COMMENT ON COLUMN klaviyo.read_answer.answered_at IS 'When that was recorded';

-- What was read -----------------------------------------------------------------------------------------------------

CREATE TABLE klaviyo.profile (
    account       text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    profile_id    text NOT NULL,
    email         text,
    phone_number  text,
    external_id   text,
    first_name    text,
    last_name     text,
    organization  text,
    title         text,
    locale        text,
    image         text,
    location      jsonb,
    properties    jsonb,
    subscriptions jsonb,
    email_consent text GENERATED ALWAYS AS (subscriptions #>> '{email,marketing,consent}') STORED,
    sms_consent   text GENERATED ALWAYS AS (subscriptions #>> '{sms,marketing,consent}') STORED,
    created_at    timestamptz,
    updated_at    timestamptz,
    last_event_at timestamptz,
    pulled_at     timestamptz NOT NULL,
    PRIMARY KEY (account, profile_id)
);
CREATE INDEX profile_email_idx ON klaviyo.profile (lower(email), account);
CREATE INDEX profile_phone_number_idx ON klaviyo.profile (phone_number, account);
-- However long it is.
CREATE INDEX profile_external_id_idx ON klaviyo.profile USING hash (external_id);
COMMENT ON TABLE klaviyo.profile IS 'Profiles as Klaviyo has them, as of the last runs of the jobs profiles, lists and segments';
COMMENT ON COLUMN klaviyo.profile.account IS 'Account';
COMMENT ON COLUMN klaviyo.profile.profile_id IS 'Klaviyo''s id';
COMMENT ON COLUMN klaviyo.profile.email IS 'E-mail address';
COMMENT ON COLUMN klaviyo.profile.phone_number IS 'Phone number, E.164';
COMMENT ON COLUMN klaviyo.profile.external_id IS 'Id in a system of yours';
COMMENT ON COLUMN klaviyo.profile.first_name IS 'First name';
COMMENT ON COLUMN klaviyo.profile.last_name IS 'Last name';
COMMENT ON COLUMN klaviyo.profile.organization IS 'Company or organization';
COMMENT ON COLUMN klaviyo.profile.title IS 'Job title';
COMMENT ON COLUMN klaviyo.profile.locale IS 'Language and country, as en-US';
COMMENT ON COLUMN klaviyo.profile.image IS 'Address of a picture';
COMMENT ON COLUMN klaviyo.profile.location IS 'Postal address, coordinates, time zone';
COMMENT ON COLUMN klaviyo.profile.properties IS 'Properties of your own';
COMMENT ON COLUMN klaviyo.profile.subscriptions IS 'Consent and suppression by channel, as Klaviyo has them';
COMMENT ON COLUMN klaviyo.profile.email_consent IS 'Consent to marketing by e-mail: SUBSCRIBED, UNSUBSCRIBED, NEVER_SUBSCRIBED';
COMMENT ON COLUMN klaviyo.profile.sms_consent IS 'The same by SMS';
COMMENT ON COLUMN klaviyo.profile.created_at IS 'When Klaviyo made it';
COMMENT ON COLUMN klaviyo.profile.updated_at IS 'When Klaviyo last changed it';
COMMENT ON COLUMN klaviyo.profile.last_event_at IS 'When its last event happened';
COMMENT ON COLUMN klaviyo.profile.pulled_at IS 'When it last changed here';

CREATE TABLE klaviyo.deleted_profile (
    message_id uuid NOT NULL REFERENCES klaviyo.deletion ON DELETE CASCADE,
    digest     bytea NOT NULL,
    PRIMARY KEY (message_id, digest)
);
CREATE INDEX deleted_profile_digest_idx ON klaviyo.deleted_profile (digest);
COMMENT ON TABLE klaviyo.deleted_profile IS 'Which profiles were purged here since their deletion was asked for: what Klaviyo still tells of them is not read again';
COMMENT ON COLUMN klaviyo.deleted_profile.message_id IS 'The request, see klaviyo.deletion';
COMMENT ON COLUMN klaviyo.deleted_profile.digest IS 'Which: SHA-256 of the account''s person_salt and Klaviyo''s id';

CREATE TABLE klaviyo.event (
    account     text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    event_id    text NOT NULL,
    metric_id   text,
    profile_id  text,
    happened_at timestamptz NOT NULL,
    properties  jsonb,
    value       numeric GENERATED ALWAYS AS (
        CASE jsonb_typeof(properties->'$value') WHEN 'number' THEN (properties->>'$value')::numeric END
    ) STORED,
    pulled_at   timestamptz NOT NULL,
    PRIMARY KEY (account, event_id)
);
CREATE INDEX event_profile_idx ON klaviyo.event (account, profile_id, happened_at);
CREATE INDEX event_metric_idx ON klaviyo.event (account, metric_id, happened_at);
CREATE INDEX event_happened_at_idx ON klaviyo.event (happened_at);
COMMENT ON TABLE klaviyo.event IS 'Events that Klaviyo has recorded, as the job events reads them; for klaviyo.event_retention';
COMMENT ON COLUMN klaviyo.event.account IS 'Account';
COMMENT ON COLUMN klaviyo.event.event_id IS 'Klaviyo''s id';
COMMENT ON COLUMN klaviyo.event.metric_id IS 'Metric, see klaviyo.metric';
COMMENT ON COLUMN klaviyo.event.profile_id IS 'Whose, see klaviyo.profile';
COMMENT ON COLUMN klaviyo.event.happened_at IS 'When it happened';
COMMENT ON COLUMN klaviyo.event.properties IS 'What else is known of it';
COMMENT ON COLUMN klaviyo.event.value IS 'What it was worth, where it has a number for that';
COMMENT ON COLUMN klaviyo.event.pulled_at IS 'When it was read';

CREATE TABLE klaviyo.list (
    account           text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    list_id           text NOT NULL,
    name              text,
    opt_in_process    text,
    created_at        timestamptz,
    updated_at        timestamptz,
    pulled_at         timestamptz NOT NULL,
    members_pulled_at timestamptz,
    PRIMARY KEY (account, list_id)
);
COMMENT ON TABLE klaviyo.list IS 'Lists that Klaviyo has, as of the last run of the job lists';
COMMENT ON COLUMN klaviyo.list.account IS 'Account';
COMMENT ON COLUMN klaviyo.list.list_id IS 'Klaviyo''s id';
COMMENT ON COLUMN klaviyo.list.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.list.opt_in_process IS 'single_opt_in or double_opt_in';
COMMENT ON COLUMN klaviyo.list.created_at IS 'When it was made';
COMMENT ON COLUMN klaviyo.list.updated_at IS 'When Klaviyo last changed it';
COMMENT ON COLUMN klaviyo.list.pulled_at IS 'When it last changed here';
COMMENT ON COLUMN klaviyo.list.members_pulled_at IS 'As of when klaviyo.list_member has all its members, and nobody else; NULL: they were never read';

CREATE TABLE klaviyo.list_member (
    account    text NOT NULL,
    list_id    text NOT NULL,
    profile_id text NOT NULL,
    joined_at  timestamptz,
    pulled_at  timestamptz NOT NULL,
    PRIMARY KEY (account, list_id, profile_id),
    FOREIGN KEY (account, list_id) REFERENCES klaviyo.list ON DELETE CASCADE
);
CREATE INDEX list_member_profile_idx ON klaviyo.list_member (account, profile_id);
COMMENT ON TABLE klaviyo.list_member IS 'Who is on a list, as of members_pulled_at of klaviyo.list';
COMMENT ON COLUMN klaviyo.list_member.account IS 'Account';
COMMENT ON COLUMN klaviyo.list_member.list_id IS 'List';
COMMENT ON COLUMN klaviyo.list_member.profile_id IS 'Who, see klaviyo.profile';
COMMENT ON COLUMN klaviyo.list_member.joined_at IS 'Since when';
COMMENT ON COLUMN klaviyo.list_member.pulled_at IS 'When that was first read';

CREATE TABLE klaviyo.segment (
    account           text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    segment_id        text NOT NULL,
    name              text,
    is_active         boolean,
    is_processing     boolean,
    created_at        timestamptz,
    updated_at        timestamptz,
    pulled_at         timestamptz NOT NULL,
    members_pulled_at timestamptz,
    PRIMARY KEY (account, segment_id)
);
COMMENT ON TABLE klaviyo.segment IS 'Segments that Klaviyo has, as of the last run of the job segments';
COMMENT ON COLUMN klaviyo.segment.account IS 'Account';
COMMENT ON COLUMN klaviyo.segment.segment_id IS 'Klaviyo''s id';
COMMENT ON COLUMN klaviyo.segment.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.segment.is_active IS 'Whether Klaviyo keeps it up to date';
COMMENT ON COLUMN klaviyo.segment.is_processing IS 'Whether Klaviyo is just finding out who is in it';
COMMENT ON COLUMN klaviyo.segment.created_at IS 'When it was made';
COMMENT ON COLUMN klaviyo.segment.updated_at IS 'When Klaviyo last changed it';
COMMENT ON COLUMN klaviyo.segment.pulled_at IS 'When it last changed here';
COMMENT ON COLUMN klaviyo.segment.members_pulled_at IS 'As of when klaviyo.segment_member has all its members, and nobody else; NULL: they were never read';

CREATE TABLE klaviyo.segment_member (
    account    text NOT NULL,
    segment_id text NOT NULL,
    profile_id text NOT NULL,
    joined_at  timestamptz,
    pulled_at  timestamptz NOT NULL,
    PRIMARY KEY (account, segment_id, profile_id),
    FOREIGN KEY (account, segment_id) REFERENCES klaviyo.segment ON DELETE CASCADE
);
CREATE INDEX segment_member_profile_idx ON klaviyo.segment_member (account, profile_id);
COMMENT ON TABLE klaviyo.segment_member IS 'Who is in a segment, as of members_pulled_at of klaviyo.segment';
COMMENT ON COLUMN klaviyo.segment_member.account IS 'Account';
COMMENT ON COLUMN klaviyo.segment_member.segment_id IS 'Segment';
COMMENT ON COLUMN klaviyo.segment_member.profile_id IS 'Who, see klaviyo.profile';
COMMENT ON COLUMN klaviyo.segment_member.joined_at IS 'Since when';
COMMENT ON COLUMN klaviyo.segment_member.pulled_at IS 'When that was first read';

CREATE TABLE klaviyo.flow (
    account      text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    flow_id      text NOT NULL,
    name         text,
    status       text,
    archived     boolean,
    trigger_type text,
    created_at   timestamptz,
    updated_at   timestamptz,
    pulled_at    timestamptz NOT NULL,
    PRIMARY KEY (account, flow_id)
);
COMMENT ON TABLE klaviyo.flow IS 'Flows that Klaviyo has, as of the last run of the job flows';
COMMENT ON COLUMN klaviyo.flow.account IS 'Account';
COMMENT ON COLUMN klaviyo.flow.flow_id IS 'Klaviyo''s id';
COMMENT ON COLUMN klaviyo.flow.name IS 'What it is called';
COMMENT ON COLUMN klaviyo.flow.status IS 'draft, manual or live';
COMMENT ON COLUMN klaviyo.flow.archived IS 'Whether it was put away';
COMMENT ON COLUMN klaviyo.flow.trigger_type IS 'What starts it: Added to List, Date Based, Low Inventory, Metric, Price Drop, Unconfigured';
COMMENT ON COLUMN klaviyo.flow.created_at IS 'When it was made';
COMMENT ON COLUMN klaviyo.flow.updated_at IS 'When Klaviyo last changed it';
COMMENT ON COLUMN klaviyo.flow.pulled_at IS 'When it last changed here';

CREATE TABLE klaviyo.metric (
    account     text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    metric_id   text NOT NULL,
    name        text,
    integration text,
    category    text,
    created_at  timestamptz,
    updated_at  timestamptz,
    pulled_at   timestamptz NOT NULL,
    PRIMARY KEY (account, metric_id)
);
COMMENT ON TABLE klaviyo.metric IS 'Metrics that Klaviyo has, as of the last run of the job metrics, or of events of some metrics';
COMMENT ON COLUMN klaviyo.metric.account IS 'Account';
COMMENT ON COLUMN klaviyo.metric.metric_id IS 'Klaviyo''s id';
COMMENT ON COLUMN klaviyo.metric.name IS 'What it is called; there may be several of a name, by different integrations';
COMMENT ON COLUMN klaviyo.metric.integration IS 'What brings its events';
COMMENT ON COLUMN klaviyo.metric.category IS 'Of what sort that is';
COMMENT ON COLUMN klaviyo.metric.created_at IS 'When it was made';
COMMENT ON COLUMN klaviyo.metric.updated_at IS 'When Klaviyo last changed it';
COMMENT ON COLUMN klaviyo.metric.pulled_at IS 'When it last changed here';

SELECT pg_catalog.pg_extension_config_dump('klaviyo.job_plan', $$WHERE job !~ '^(segment|profile):'$$);
SELECT pg_catalog.pg_extension_config_dump('klaviyo.deleted_profile', '');

-- Of reports Klaviyo allows 225 calls a day, of which the lane leaves a quarter to others. So that they last the day, a run pays for
-- each page of the last with nine minutes.
CREATE FUNCTION klaviyo.job_pause(job text, every interval, pages bigint) RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN job ~ '_reports$' THEN greatest(every, pages * interval '9 minutes') ELSE every END;
COMMENT ON FUNCTION klaviyo.job_pause(text, interval, bigint) IS
    'Time from the beginning of a job''s last run, which took so many pages, to the next: as planned, or of reports longer where Klaviyo''s daily limit would not last';

CREATE VIEW klaviyo.job AS
SELECT p.account, p.job,
       CASE WHEN p.paused_at IS NOT NULL THEN 'paused'
            WHEN r.started_at IS NOT NULL AND r.again_at > now() THEN 'retrying'
            WHEN r.started_at IS NOT NULL THEN 'running'
            ELSE 'waiting' END AS state,
       p.every, coalesce(r.run_at, r.last_started_at + klaviyo.job_pause(p.job, p.every, r.pages), p.created_at) AS next_run_at,
       p.names, p.since, p.options, r.started_at, r.step, r.item, r.cursor, r.pages,
       r.rows_read, r.rows_changed, r.rows_removed, r.rows_unreadable, r.failures, r.again_at, r.error, r.last_outcome, r.last_error,
       r.last_started_at, r.last_ended_at, p.paused_at
FROM klaviyo.job_plan AS p
LEFT JOIN klaviyo.job_run AS r USING (account, job)
WHERE p.job !~ '^(segment|profile):';
COMMENT ON VIEW klaviyo.job IS 'Jobs that read what Klaviyo has, how far each is, and how its last run has ended';
COMMENT ON COLUMN klaviyo.job.account IS 'Account';
COMMENT ON COLUMN klaviyo.job.job IS 'What it reads: profiles, events, lists, segments, campaigns, flows, metrics, aggregates, campaign_reports, flow_reports, form_reports or segment_reports';
COMMENT ON COLUMN klaviyo.job.state IS 'running; retrying: a call has failed, it goes on at again_at; waiting for next_run_at; paused';
COMMENT ON COLUMN klaviyo.job.every IS 'Time between the beginnings of two runs';
COMMENT ON COLUMN klaviyo.job.next_run_at IS 'When the next run begins at the earliest; of reports so late that Klaviyo''s daily limit lasts';
COMMENT ON COLUMN klaviyo.job.names IS 'Metrics of which events or aggregates are read, or lists or segments of which members are; NULL: all';
COMMENT ON COLUMN klaviyo.job.since IS 'What was last updated, or has happened, before that is not read';
COMMENT ON COLUMN klaviyo.job.options IS 'What else klaviyo_set_job() was told';
COMMENT ON COLUMN klaviyo.job.started_at IS 'When the run began that is under way; NULL: none is';
COMMENT ON COLUMN klaviyo.job.step IS 'What is being read: metrics, listing or members';
COMMENT ON COLUMN klaviyo.job.item IS 'Of which metric, list, segment or channel; of aggregates with the dimension behind it, of reports the metric of conversions';
COMMENT ON COLUMN klaviyo.job.cursor IS 'Klaviyo''s name of the next page';
COMMENT ON COLUMN klaviyo.job.pages IS 'Pages read in the run, or in the last if none is under way';
COMMENT ON COLUMN klaviyo.job.rows_read IS 'Rows on them';
COMMENT ON COLUMN klaviyo.job.rows_changed IS 'Those of them that were new here, or other than here';
COMMENT ON COLUMN klaviyo.job.rows_removed IS 'Rows of ours that are no more at Klaviyo, and so no more here';
COMMENT ON COLUMN klaviyo.job.rows_unreadable IS 'Rows that nobody can read, and that were left out';
COMMENT ON COLUMN klaviyo.job.failures IS 'Calls that have failed, one after the other';
COMMENT ON COLUMN klaviyo.job.again_at IS 'When it is tried again, if the last call has failed';
COMMENT ON COLUMN klaviyo.job.error IS 'Why it has';
COMMENT ON COLUMN klaviyo.job.last_outcome IS 'complete: all was read; failed: it was not, and what was read before that is kept';
COMMENT ON COLUMN klaviyo.job.last_error IS 'Why the last run has failed';
COMMENT ON COLUMN klaviyo.job.last_started_at IS 'When the last run began that has ended';
COMMENT ON COLUMN klaviyo.job.last_ended_at IS 'When it ended';
COMMENT ON COLUMN klaviyo.job.paused_at IS 'When klaviyo_pause_job() was called';

-- Jobs --------------------------------------------------------------------------------------------------------------

-- Takes: an account and a job. Raises that there is none.
CREATE FUNCTION klaviyo.refuse_unknown_job(account text, job text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'account "%" has no job "%"', account, job
        USING ERRCODE = 'KS092', HINT = 'klaviyo.job has those there are; klaviyo_set_job() adds one.';
END
$$;
COMMENT ON FUNCTION klaviyo.refuse_unknown_job(text, text) IS 'Says that an account has no such job';

-- Takes: a job and its options. Returns: what is wrong with them; NULL where nothing is.
CREATE FUNCTION klaviyo.options_fault(job text, options jsonb) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    known text[] := CASE WHEN job = 'aggregates' THEN '{interval,time_zone,by}'
                         WHEN job IN ('campaign_reports', 'flow_reports') THEN '{conversion_metric}'
                         ELSE '{}' END;
    -- What Klaviyo groups events by, but for To Number, which is somebody's.
    dimensions text[] := ARRAY[
        '$attributed_channel', '$attributed_flow', '$attributed_message', '$attributed_variation', '$campaign_channel', '$flow',
        '$flow_channel', '$message', '$message_send_cohort', '$usage_amount', '$value_currency', '$variation',
        '$variation_send_cohort', 'Bot Click', 'Bounce Type', 'Campaign Name', 'Client Canonical', 'Client Name', 'Client Type',
        'Email Domain', 'Failure Source', 'Failure Type', 'From Number', 'From Phone Region', 'Inbox Provider', 'List',
        'Message Format', 'Message Name', 'Message Type', 'Method', 'Segment Count', 'Subject', 'To Phone Region', 'URL', 'form_id'
    ];
    unknown text;
BEGIN
    IF jsonb_typeof(options) <> 'object' THEN
        RETURN 'They are an object.';
    END IF;
    SELECT string_agg(quote_literal(k.name), ', ' ORDER BY k.name) INTO unknown
    FROM jsonb_object_keys(options) AS k (name)
    WHERE k.name <> ALL (known);
    IF unknown IS NOT NULL THEN
        RETURN format('It knows no option %s%s.', unknown,
                      CASE WHEN known = '{}' THEN ', nor any other' ELSE ', but ' || array_to_string(known, ', ') END);
    END IF;
    IF options ? 'interval' AND coalesce(options->>'interval', '') NOT IN ('hour', 'day', 'week', 'month') THEN
        RETURN 'interval is hour, day, week or month.';
    END IF;
    -- But for what Klaviyo says it does not know.
    IF options ? 'time_zone' AND NOT EXISTS (
        SELECT FROM pg_timezone_names AS z
        WHERE z.name = options->>'time_zone' AND z.name NOT IN ('Factory', 'Europe/Kyiv', 'Pacific/Kanton', 'localtime', 'posixrules')
          AND z.name !~ '^(posix|right)/'
    ) THEN
        RETURN 'time_zone is the name of a time zone that Klaviyo knows, in its own capitals, as Europe/Vienna, or Europe/Kiev.';
    END IF;
    IF options ? 'by' THEN
        IF jsonb_typeof(options->'by') <> 'array' THEN
            RETURN 'by is an array of what Klaviyo groups events by.';
        END IF;
        SELECT string_agg(coalesce(quote_literal(b.name), 'null'), ', ' ORDER BY b.name) INTO unknown
        FROM jsonb_array_elements_text(options->'by') AS b (name)
        WHERE b.name IS NULL OR b.name <> ALL (dimensions);
        IF unknown IS NOT NULL THEN
            RETURN format('Events cannot be grouped by %s, but by %s.', unknown, array_to_string(dimensions, ', '));
        END IF;
    END IF;
    IF options ? 'conversion_metric' AND (jsonb_typeof(options->'conversion_metric') <> 'string' OR btrim(options->>'conversion_metric') = '') THEN
        RETURN 'conversion_metric is the name of a metric, or Klaviyo''s id.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION klaviyo.options_fault(text, jsonb) IS 'What is wrong with the options of a job';

-- SECURITY INVOKER, as klaviyo_set_account().
CREATE FUNCTION @extschema@.klaviyo_set_job(
    job     text,
    every   interval DEFAULT NULL,
    names    text[] DEFAULT NULL,
    since   timestamptz DEFAULT NULL,
    options jsonb DEFAULT NULL,
    account text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    before klaviyo.job_plan;
    plan   klaviyo.job_plan;
    -- Stored as NULL.
    all_   boolean := names = '{*}';
    usual  interval := CASE WHEN job IN ('profiles', 'events') THEN '15 minutes'
                             WHEN job IN ('lists', 'segments', 'campaigns', 'aggregates', 'campaign_reports', 'flow_reports',
                                          'form_reports', 'segment_reports') THEN '1 hour'
                             WHEN job IN ('flows', 'metrics') THEN '1 day' END;
    -- What Klaviyo has counted, by time.
    counted boolean := job IN ('aggregates', 'flow_reports', 'form_reports', 'segment_reports');
    fault   text;
BEGIN
    account := coalesce(account, 'default');
    IF usual IS NULL THEN
        RAISE EXCEPTION 'there is no job "%"', coalesce(job, 'NULL')
            USING ERRCODE = 'KS090', HINT = 'There are profiles, events, lists, segments, campaigns, flows, metrics, aggregates, campaign_reports, flow_reports, form_reports and segment_reports.';
    END IF;
    IF NOT EXISTS (SELECT FROM klaviyo.account AS a WHERE a.name = account) THEN
        PERFORM klaviyo.refuse_unknown_account(account);
    END IF;
    IF every NOT BETWEEN interval '1 minute' AND interval '1000 years' THEN
        RAISE EXCEPTION 'a job cannot run every %', every
            USING ERRCODE = 'KS091', DETAIL = 'Between the beginnings of two runs there must be a minute at least, and 1000 years at the most.',
                  HINT = 'Klaviyo''s limits are better kept for what goes out; klaviyo_run_job() runs it now.';
    END IF;
    IF names IS NOT NULL AND (job NOT IN ('events', 'aggregates', 'lists', 'segments') OR job IN ('events', 'aggregates') AND names = '{}'
                             OR array_position(names, NULL) IS NOT NULL OR '' = ANY (names) OR '*' = ANY (names) AND NOT all_) THEN
        RAISE EXCEPTION 'argument "names" does not go with job "%"', job
            USING ERRCODE = 'KS091',
                  DETAIL = 'Of events and aggregates it names metrics, one at least, of lists and segments those whose members are read, none for {}; by names or Klaviyo''s ids, or {*} for all.',
                  HINT = 'Leave it out where all is to be read.';
    END IF;
    IF since IS NOT NULL AND job NOT IN ('profiles', 'events') AND NOT counted THEN
        RAISE EXCEPTION 'argument "since" does not go with job "%"', job
            USING ERRCODE = 'KS091', DETAIL = 'Only profiles, events, aggregates and reports by the day are read by time.';
    END IF;
    IF since = 'infinity' OR since > now() AND counted THEN
        RAISE EXCEPTION 'argument "since" leaves out everything'
            USING ERRCODE = 'KS091', HINT = 'klaviyo_pause_job() has a job read nothing; since => ''-infinity'' leaves out nothing, of aggregates and reports nothing of the last year.';
    END IF;
    fault := klaviyo.options_fault(job, options);
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'argument "options" does not go with job "%"', job
            USING ERRCODE = 'KS091', DETAIL = fault,
                  HINT = CASE WHEN job = 'aggregates' THEN 'As in options => ''{"interval": "day", "time_zone": "Europe/Vienna", "by": ["$attributed_channel"]}''; {} are none.'
                              WHEN job IN ('campaign_reports', 'flow_reports') THEN 'As in options => ''{"conversion_metric": "Placed Order"}''; {} are none.'
                              ELSE 'Leave it out.' END;
    END IF;
    SELECT p.* INTO before FROM klaviyo.job_plan AS p WHERE p.account = account AND p.job = job;
    INSERT INTO klaviyo.job_plan AS p (account, job, every, names, since, options)
    VALUES (account, job, coalesce(every, usual), CASE WHEN NOT all_ THEN names END, nullif(since, '-infinity'), nullif(options, '{}'))
    ON CONFLICT ON CONSTRAINT job_plan_pkey DO UPDATE
    SET every = coalesce(every, p.every), names = CASE WHEN names IS NULL THEN p.names WHEN NOT all_ THEN names END,
        since = nullif(coalesce(since, p.since), '-infinity'), options = nullif(coalesce(options, p.options), '{}'), changed_at = now()
    RETURNING p.* INTO plan;
    -- What is read by another plan than it was begun with would be neither the one nor the other.
    IF before.account IS NULL OR (plan.names, plan.since, plan.options) IS DISTINCT FROM (before.names, before.since, before.options) THEN
        PERFORM klaviyo.begin_job(
            account, job,
            CASE WHEN counted THEN (plan.since, plan.options) IS DISTINCT FROM (before.since, before.options)
                 ELSE coalesce(plan.since, '-infinity') < before.since END,
            true
        );
    ELSE
        PERFORM klaviyo.wake_runner();
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_set_job(text, interval, text[], timestamptz, jsonb, text) IS
    'Has profiles, events, lists, segments, campaigns, flows, metrics, aggregates of metrics, or campaign_reports, flow_reports, form_reports or segment_reports be read of Klaviyo into tables in schema klaviyo, now and then every so often: profiles and events every 15 minutes, flows and metrics every day, the others every hour, unless it says otherwise. names are those of metrics whose events or aggregates, or of lists or segments whose members are read, {*} for all; since leaves out what is older, -infinity nothing, but of aggregates and reports what is older than a year. options are, of aggregates, interval, time_zone and by, of the reports of campaigns and flows conversion_metric. What is NULL stays as it is';

-- Takes: a job; whether all is to be read anew; whether a run that is under way is to be given up. Touches: job_run, job_mark, job_seen.
CREATE FUNCTION klaviyo.begin_job(account text, job text, anew boolean, give_up boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF anew THEN
        DELETE FROM klaviyo.job_mark AS m WHERE m.account = account AND m.job = job;
    END IF;
    IF give_up THEN
        DELETE FROM klaviyo.read AS r WHERE r.account = account AND r.job = job;
        DELETE FROM klaviyo.job_seen AS s WHERE s.account = account AND s.job = job;
    END IF;
    INSERT INTO klaviyo.job_run AS r (account, job, run_at)
    VALUES (account, job, now())
    ON CONFLICT ON CONSTRAINT job_run_pkey DO UPDATE
    SET started_at = CASE WHEN NOT give_up THEN r.started_at END,
        run_at = CASE WHEN give_up OR r.started_at IS NULL THEN now() END,
        again_at = NULL, failures = 0;
    PERFORM klaviyo.wake_runner();
END
$$;
COMMENT ON FUNCTION klaviyo.begin_job(text, text, boolean, boolean) IS 'Has a job run now';

CREATE FUNCTION @extschema@.klaviyo_run_job(
    job     text,
    anew    boolean DEFAULT false,
    account text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    account := coalesce(account, 'default');
    IF NOT EXISTS (SELECT FROM klaviyo.job_plan AS p WHERE p.account = account AND p.job = job) THEN
        PERFORM klaviyo.refuse_unknown_job(account, job);
    END IF;
    PERFORM klaviyo.begin_job(account, job, coalesce(anew, false), coalesce(anew, false));
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_run_job(text, boolean, text) IS
    'Has a job run now, or go on at once if a run is under way; anew from the beginning, as if nothing had been read before. One that is paused runs when it is resumed. klaviyo.job shows how far it is';

CREATE FUNCTION @extschema@.klaviyo_pause_job(job text, account text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    account := coalesce(account, 'default');
    UPDATE klaviyo.job_plan AS p SET paused_at = coalesce(p.paused_at, now()), changed_at = now()
    WHERE p.account = account AND p.job = job;
    IF NOT FOUND THEN
        PERFORM klaviyo.refuse_unknown_job(account, job);
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_pause_job(text, text) IS 'Has a job read no more, until klaviyo_resume_job(); a run stays where it is';

CREATE FUNCTION @extschema@.klaviyo_resume_job(job text, account text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    account := coalesce(account, 'default');
    UPDATE klaviyo.job_plan AS p SET paused_at = NULL, changed_at = now()
    WHERE p.account = account AND p.job = job;
    IF NOT FOUND THEN
        PERFORM klaviyo.refuse_unknown_job(account, job);
    END IF;
    PERFORM klaviyo.wake_runner();
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_resume_job(text, text) IS 'Has a job go on that was paused';

CREATE FUNCTION @extschema@.klaviyo_remove_job(job text, account text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    account := coalesce(account, 'default');
    DELETE FROM klaviyo.job_plan AS p WHERE p.account = account AND p.job = job;
    IF NOT FOUND THEN
        PERFORM klaviyo.refuse_unknown_job(account, job);
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_remove_job(text, text) IS 'Has a job read no more; what it has read stays, as it was then';

-- Segments ----------------------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.segment_ttl() RETURNS integer
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'klaviyo_segment_ttl';
COMMENT ON FUNCTION klaviyo.segment_ttl() IS 'How old what is known of a segment''s members may be, in seconds: klaviyo.segment_ttl, or what klaviyo.environment says';

CREATE FUNCTION klaviyo.wish(account text, job text, oldest timestamptz) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_wish';
COMMENT ON FUNCTION klaviyo.wish(text, text, timestamptz) IS
    'Has a segment, or a profile, be read at once, unless it was as of then, whatever becomes of the transaction';

-- Takes: an account, and a segment by its name or Klaviyo's id. Returns: its id, once what is known of its members is as new as it is
-- to be: as of klaviyo.segment_ttl before the statement began.
CREATE FUNCTION klaviyo.fresh_segment(account text, segment text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    known   klaviyo.segment;
    others  bigint;
    failure text;
    oldest  timestamptz := statement_timestamp() - klaviyo.segment_ttl() * interval '1 second';
    until   timestamptz := clock_timestamp() + current_setting('klaviyo.pull_timeout')::interval;
BEGIN
    account := coalesce(account, 'default');
    SELECT s.* INTO known FROM klaviyo.segment AS s WHERE s.account = account AND s.segment_id = segment;
    IF NOT FOUND THEN
        SELECT count(*) INTO others FROM klaviyo.segment AS s WHERE s.account = account AND s.name = segment;
        IF others = 1 THEN
            SELECT s.* INTO known FROM klaviyo.segment AS s WHERE s.account = account AND s.name = segment;
        ELSIF others > 1 THEN
            RAISE EXCEPTION 'account "%" has % segments that are called "%"', account, others, segment
                USING ERRCODE = 'KS094', HINT = 'Name it by Klaviyo''s id, which klaviyo.segment has.';
        ELSE
            RAISE EXCEPTION 'account "%" has no segment "%"', account, segment
                USING ERRCODE = 'KS093',
                      HINT = 'klaviyo.segment has those there were when the job segments last ran: klaviyo_set_job(''segments''), with names => ''{}'' to read no members but those that are asked for.';
        END IF;
    END IF;
    WHILE known.members_pulled_at IS NULL OR known.members_pulled_at < oldest LOOP
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE EXCEPTION 'what is known of segment "%" is too old, and this transaction cannot see what is new', segment
                USING ERRCODE = 'KS095', DETAIL = format('It is of %s.', coalesce(known.members_pulled_at::text, 'no time')),
                      HINT = 'Ask in a transaction that is READ COMMITTED, or let klaviyo.segment_ttl be longer.';
        END IF;
        SELECT r.last_error INTO failure
        FROM klaviyo.job_run AS r
        WHERE r.account = account AND r.job = 'segment:' || known.segment_id AND r.last_outcome = 'failed'
          AND r.last_ended_at >= statement_timestamp();
        IF failure IS NOT NULL OR clock_timestamp() > until THEN
            RAISE EXCEPTION 'the members of segment "%" cannot be read', segment
                USING ERRCODE = 'KS095',
                      DETAIL = coalesce(failure, format('They were not read within klaviyo.pull_timeout, %s.', current_setting('klaviyo.pull_timeout'))),
                      HINT = 'See klaviyo_health(). Where older is good enough, let klaviyo.segment_ttl be longer.';
        END IF;
        PERFORM klaviyo.wish(account, 'segment:' || known.segment_id, oldest);
        PERFORM pg_sleep(0.02);
        SELECT s.* INTO known FROM klaviyo.segment AS s WHERE s.account = account AND s.segment_id = known.segment_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'account "%" has no segment "%" any more', account, segment
                USING ERRCODE = 'KS093', HINT = 'klaviyo.segment has those there are.';
        END IF;
    END LOOP;
    RETURN known.segment_id;
END
$$;
COMMENT ON FUNCTION klaviyo.fresh_segment(text, text) IS 'The id of a segment, once what is known of its members is new enough';

CREATE FUNCTION @extschema@.klaviyo_segment_members(segment text, account text DEFAULT NULL) RETURNS SETOF klaviyo.profile
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id text := klaviyo.fresh_segment(klaviyo_segment_members.account, segment);
BEGIN
    RETURN QUERY
    SELECT p.*
    FROM klaviyo.segment_member AS m
    JOIN klaviyo.profile AS p ON p.account = m.account AND p.profile_id = m.profile_id
    WHERE m.account = coalesce(klaviyo_segment_members.account, 'default') AND m.segment_id = id;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_segment_members(text, text) IS
    'Who is in a segment, named as Klaviyo has it or by its id. What is older than klaviyo.segment_ttl is read of Klaviyo first, once a statement, for klaviyo.pull_timeout at the most';

CREATE FUNCTION @extschema@.klaviyo_in_segment(segment text, email text, account text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id text := klaviyo.fresh_segment(klaviyo_in_segment.account, segment);
BEGIN
    RETURN EXISTS (
        SELECT FROM klaviyo.profile AS p
        JOIN klaviyo.segment_member AS m ON m.account = p.account AND m.profile_id = p.profile_id
        WHERE lower(p.email) = lower(klaviyo_in_segment.email) AND p.account = coalesce(klaviyo_in_segment.account, 'default')
          AND m.segment_id = id
    );
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_in_segment(text, text, text) IS
    'Whether somebody is in a segment, by his e-mail address; what is known of the segment is as new as for klaviyo_segment_members()';

-- One profile -------------------------------------------------------------------------------------------------------

CREATE FUNCTION @extschema@.klaviyo_pull_profile(email text, account text DEFAULT NULL) RETURNS SETOF klaviyo.profile
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    began timestamptz := clock_timestamp();
    until timestamptz := began + current_setting('klaviyo.pull_timeout')::interval;
    run   klaviyo.job_run;
BEGIN
    account := coalesce(account, 'default');
    email := lower(btrim(email));
    IF NOT EXISTS (SELECT FROM klaviyo.account AS a WHERE a.name = account) THEN
        PERFORM klaviyo.refuse_unknown_account(account);
    ELSIF email IS NULL OR email !~ '^[^[:space:]]+@[^[:space:]]+$' OR octet_length(email) > 254 THEN
        RAISE EXCEPTION 'argument "email" is no e-mail address'
            USING ERRCODE = 'KS002', HINT = 'Pass the address that Klaviyo knows the profile by.';
    ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the profile cannot be read for this transaction, which cannot see what is new'
            USING ERRCODE = 'KS095', HINT = 'Ask in a transaction that is READ COMMITTED.';
    END IF;
    LOOP
        SELECT r.* INTO run
        FROM klaviyo.job_run AS r
        WHERE r.account = account AND r.job = 'profile:' || email AND r.last_started_at >= began;
        -- While another run is under way nobody knows what the last has read.
        EXIT WHEN run.last_outcome = 'complete' AND run.started_at IS NULL;
        IF run.last_outcome = 'failed' OR clock_timestamp() > until THEN
            RAISE EXCEPTION 'the profile cannot be read'
                USING ERRCODE = 'KS095',
                      DETAIL = coalesce(run.last_error, format('It was not read within klaviyo.pull_timeout, %s.', current_setting('klaviyo.pull_timeout'))),
                      HINT = 'See klaviyo_health().';
        END IF;
        PERFORM klaviyo.wish(account, 'profile:' || email, began);
        PERFORM pg_sleep(0.02);
    END LOOP;
    -- What Klaviyo has no more is known here all the same.
    RETURN QUERY
    SELECT p.*
    FROM klaviyo.profile AS p
    WHERE p.account = account AND lower(p.email) = email AND run.rows_read > 0
    ORDER BY p.updated_at DESC NULLS LAST
    LIMIT 1;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_pull_profile(text, text) IS
    'Reads a profile of Klaviyo now, and returns it as it then stands in klaviyo.profile: no row if Klaviyo has none of that address. Waits for klaviyo.pull_timeout at the most. Tables of two-way mappings are written to soon after';
