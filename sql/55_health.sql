-- Health: what a person, or a monitor, must know, and what to do.

CREATE FUNCTION klaviyo.gauges() RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_gauges';
COMMENT ON FUNCTION klaviyo.gauges() IS
    'What each lane of this database shows in shared memory, as a JSON array; empty without a worker. Counted since the server started. See the views lane, throughput and latency';

CREATE FUNCTION klaviyo.at(microseconds double precision) RETURNS timestamptz
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_catalog.to_timestamp(microseconds / 1e6)
$$;
COMMENT ON FUNCTION klaviyo.at(double precision) IS 'The time so many microseconds after 1970';

-- Lanes -------------------------------------------------------------------------------------------------------------

CREATE VIEW klaviyo.lane AS
SELECT g.account, g.lane, g.path,
       CASE
           WHEN s.stopped_at IS NOT NULL THEN 'stopped'
           WHEN g.breaker_open THEN 'breaker open'
           WHEN klaviyo.at(g.held_until) > pg_catalog.now() THEN 'held'
           WHEN g.ready > 0 AND 0 IN ((g.windows -> 0 ->> 'left')::bigint, (g.windows -> 1 ->> 'left')::bigint,
                                      coalesce((g.windows -> 2 ->> 'left')::bigint, 1)) THEN 'at its limit'
           WHEN g.ready > 0 OR g.under_way > 0 THEN 'sending'
           ELSE 'idle'
       END AS state,
       g.ready, g.under_way,
       (g.windows -> 0 ->> 'calls')::bigint AS second_calls, (g.windows -> 0 ->> 'left')::bigint AS second_left,
       (g.windows -> 1 ->> 'calls')::bigint AS minute_calls, (g.windows -> 1 ->> 'left')::bigint AS minute_left,
       (g.windows -> 2 ->> 'calls')::bigint AS day_calls, (g.windows -> 2 ->> 'left')::bigint AS day_left,
       klaviyo.at(g.held_until) AS held_until, klaviyo.at(g.last_success) AS last_success_at,
       klaviyo.at(g.last_failure) AS last_failure_at,
       CASE WHEN g.last_failure IS NOT NULL THEN nullif(g.last_failure_status, 0) END AS last_failure_status
FROM pg_catalog.json_to_recordset(klaviyo.gauges()::json) AS g (
         account text, lane text, path text, windows json, breaker_open boolean, held_until double precision,
         ready bigint, under_way integer, last_success double precision, last_failure double precision,
         last_failure_status integer
     )
LEFT JOIN klaviyo.account_status AS s ON s.account = g.account;
COMMENT ON VIEW klaviyo.lane IS 'The lanes of this database''s accounts, each an endpoint of Klaviyo''s: what they do just now and what is left of their limits';
COMMENT ON COLUMN klaviyo.lane.account IS 'Account';
COMMENT ON COLUMN klaviyo.lane.lane IS 'Lane, named after its endpoint';
COMMENT ON COLUMN klaviyo.lane.path IS 'Path of the endpoint';
COMMENT ON COLUMN klaviyo.lane.state IS 'stopped (see account_status), breaker open (Klaviyo answers no more; probed now and then), held (Klaviyo told us to wait), at its limit, sending, idle';
COMMENT ON COLUMN klaviyo.lane.ready IS 'Keys in memory whose next message may go; more may wait in the outbox';
COMMENT ON COLUMN klaviyo.lane.under_way IS 'Calls under way';
COMMENT ON COLUMN klaviyo.lane.second_calls IS 'Calls this database may make in a second';
COMMENT ON COLUMN klaviyo.lane.second_left IS 'Calls it may still make just now';
COMMENT ON COLUMN klaviyo.lane.minute_calls IS 'Calls it may make in a minute';
COMMENT ON COLUMN klaviyo.lane.minute_left IS 'Calls left of them';
COMMENT ON COLUMN klaviyo.lane.day_calls IS 'Calls it may make in a day, where Klaviyo counts them';
COMMENT ON COLUMN klaviyo.lane.day_left IS 'Calls left of them';
COMMENT ON COLUMN klaviyo.lane.held_until IS 'Until when Klaviyo told us to wait';
COMMENT ON COLUMN klaviyo.lane.last_success_at IS 'When Klaviyo last accepted a call';
COMMENT ON COLUMN klaviyo.lane.last_failure_at IS 'When a call last failed or was refused';
COMMENT ON COLUMN klaviyo.lane.last_failure_status IS 'HTTP status of that; NULL where there was no answer';

CREATE VIEW klaviyo.throughput AS
SELECT g.account, g.lane, g.accepted, pg_catalog.round(g.accepted_10s / 10.0, 1) AS accepted_per_second, g.accepted_60s AS accepted_last_minute,
       g.calls, g.failures, g.throttled
FROM pg_catalog.json_to_recordset(klaviyo.gauges()::json) AS g (
    account text, lane text, accepted bigint, accepted_10s bigint, accepted_60s bigint, calls bigint, failures bigint,
    throttled bigint
);
COMMENT ON VIEW klaviyo.throughput IS 'What the lanes got through since the server started';
COMMENT ON COLUMN klaviyo.throughput.account IS 'Account';
COMMENT ON COLUMN klaviyo.throughput.lane IS 'Lane, named after its endpoint';
COMMENT ON COLUMN klaviyo.throughput.accepted IS 'Messages that Klaviyo has accepted';
COMMENT ON COLUMN klaviyo.throughput.accepted_per_second IS 'Of them a second, over the last ten seconds';
COMMENT ON COLUMN klaviyo.throughput.accepted_last_minute IS 'Of them in the last minute';
COMMENT ON COLUMN klaviyo.throughput.calls IS 'Calls that have ended';
COMMENT ON COLUMN klaviyo.throughput.failures IS 'Calls that failed or were refused, throttled ones included';
COMMENT ON COLUMN klaviyo.throughput.throttled IS 'Calls answered with 429: somebody else spends the account''s limits too';

CREATE VIEW klaviyo.latency AS
SELECT g.account, g.lane,
       (g.call_ms ->> 0)::double precision AS call_p50_ms, (g.call_ms ->> 1)::double precision AS call_p95_ms,
       (g.call_ms ->> 2)::double precision AS call_p99_ms, (g.delivery_ms ->> 0)::double precision AS delivery_p50_ms,
       (g.delivery_ms ->> 1)::double precision AS delivery_p95_ms, (g.delivery_ms ->> 2)::double precision AS delivery_p99_ms
FROM pg_catalog.json_to_recordset(klaviyo.gauges()::json) AS g (account text, lane text, call_ms json, delivery_ms json);
COMMENT ON VIEW klaviyo.latency IS 'How long the lanes'' calls and deliveries took since the server started: percentiles in milliseconds, right to within a quarter';
COMMENT ON COLUMN klaviyo.latency.account IS 'Account';
COMMENT ON COLUMN klaviyo.latency.lane IS 'Lane, named after its endpoint';
COMMENT ON COLUMN klaviyo.latency.call_p50_ms IS 'From sending a call to its answer: half of them took no longer';
COMMENT ON COLUMN klaviyo.latency.call_p95_ms IS 'The same for 95 of 100';
COMMENT ON COLUMN klaviyo.latency.call_p99_ms IS 'The same for 99 of 100';
COMMENT ON COLUMN klaviyo.latency.delivery_p50_ms IS 'From queueing a message to Klaviyo''s acceptance: half of them took no longer';
COMMENT ON COLUMN klaviyo.latency.delivery_p95_ms IS 'The same for 95 of 100';
COMMENT ON COLUMN klaviyo.latency.delivery_p99_ms IS 'The same for 99 of 100';

-- Checks ------------------------------------------------------------------------------------------------------------

CREATE TABLE klaviyo.acknowledged (
    single          boolean PRIMARY KEY DEFAULT true CHECK (single),
    acknowledged_at timestamptz NOT NULL
);
COMMENT ON TABLE klaviyo.acknowledged IS 'When somebody last said, by klaviyo_acknowledge(), that he has seen the dead letters';
COMMENT ON COLUMN klaviyo.acknowledged.single IS 'There is one row at the most';
COMMENT ON COLUMN klaviyo.acknowledged.acknowledged_at IS 'When';

CREATE TYPE klaviyo.health AS (
    name    text,
    account text,
    status  text,
    value   text,
    hint    text
);
COMMENT ON TYPE klaviyo.health IS
    'One check of klaviyo_health(): its name, the account it is about if it is about one, ok, warning or critical, what was found, and what to do';

CREATE FUNCTION @extschema@.klaviyo_acknowledge() RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO klaviyo.acknowledged (acknowledged_at) VALUES (clock_timestamp())
    ON CONFLICT (single) DO UPDATE SET acknowledged_at = excluded.acknowledged_at
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_acknowledge() IS
    'Says that you have seen the dead letters there are: klaviyo_health() warns of newer ones only';

CREATE FUNCTION klaviyo.library_version() RETURNS text
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'klaviyo_library_version';
COMMENT ON FUNCTION klaviyo.library_version() IS
    'Version of the library that this session has loaded; in the worker''s, a server that was not restarted may have an older one';

-- Whether this is a server that delivers, and what runs of it.
CREATE FUNCTION klaviyo.server_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'preload', NULL::text,
           CASE WHEN klaviyo.worker_pid() = -1 THEN 'critical' ELSE 'ok' END,
           CASE WHEN klaviyo.worker_pid() = -1 THEN 'the library is not loaded at server start' ELSE 'loaded' END,
           CASE WHEN klaviyo.worker_pid() = -1 THEN
               'Add klaviyo_sync to shared_preload_libraries and restart the server.' END
    UNION ALL
    SELECT 'version', NULL, CASE WHEN e.extversion = klaviyo.library_version() THEN 'ok' ELSE 'critical' END,
           CASE WHEN e.extversion = klaviyo.library_version() THEN e.extversion
                ELSE format('the extension is version %s, the library that is loaded %s', e.extversion, klaviyo.library_version()) END,
           CASE WHEN e.extversion <> klaviyo.library_version() THEN
               'Nothing is sent. ALTER EXTENSION klaviyo_sync UPDATE if the library is newer; restart the server if it is older.' END
    FROM pg_extension AS e
    WHERE e.extname = 'klaviyo_sync'
    UNION ALL
    SELECT 'launcher', NULL,
           CASE WHEN l.pid IS NOT NULL OR pg_is_in_recovery() THEN 'ok' ELSE 'critical' END,
           CASE WHEN l.pid IS NOT NULL THEN format('running, pid %s', l.pid)
                WHEN pg_is_in_recovery() THEN 'idle: this server is a standby' ELSE 'not running' END,
           CASE WHEN l.pid IS NULL AND NOT pg_is_in_recovery() THEN
               'See the server''s log. A launcher starts with the server, and again a second after it ended.' END
    FROM (VALUES (1)) AS one
    LEFT JOIN pg_stat_activity AS l ON l.backend_type = 'klaviyo_sync launcher'
    UNION ALL
    SELECT 'worker', NULL,
           CASE WHEN klaviyo.worker_pid() > 0 OR pg_is_in_recovery() THEN 'ok' ELSE 'critical' END,
           CASE WHEN klaviyo.worker_pid() > 0 THEN
                    format('running, pid %s%s', klaviyo.worker_pid(),
                           (SELECT ', ' || nullif(a.query, '') FROM pg_stat_activity AS a WHERE a.pid = klaviyo.worker_pid()))
                WHEN pg_is_in_recovery() THEN 'idle: this server is a standby' ELSE 'not running' END,
           CASE WHEN coalesce(klaviyo.worker_pid(), -1) < 0 AND NOT pg_is_in_recovery() THEN
               'See the server''s log, max_worker_processes and klaviyo.max_databases.' END
    UNION ALL
    SELECT 'enabled', NULL, CASE WHEN e.on THEN 'ok' ELSE 'warning' END, CASE WHEN e.on THEN 'on' ELSE 'off' END,
           CASE WHEN NOT e.on THEN 'Messages wait. To send them: ALTER SYSTEM SET klaviyo.enabled = on; SELECT pg_reload_conf();' END
    FROM (SELECT coalesce(current_setting('klaviyo.enabled', true), 'on')::boolean AS on) AS e
$$;
COMMENT ON FUNCTION klaviyo.server_health() IS 'The checks of klaviyo_health() that are about the server';

-- Whether each account can send and does.
CREATE FUNCTION klaviyo.account_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'account', NULL::text, 'warning', 'there is none', 'Add one with klaviyo_set_account().'
    WHERE NOT EXISTS (SELECT FROM klaviyo.account)
    UNION ALL
    SELECT 'arming', a.name, CASE WHEN klaviyo.is_armed(a) THEN 'ok' ELSE 'critical' END,
           CASE WHEN klaviyo.is_armed(a) THEN 'armed'
                WHEN a.armed_system IS NULL THEN 'never armed'
                ELSE 'armed for another cluster, database or klaviyo.instance: this may be a copy' END,
           CASE WHEN NOT klaviyo.is_armed(a) THEN
               format('If this database is to send: SELECT klaviyo_arm_account(%L).', a.name) END
    FROM klaviyo.account AS a
    UNION ALL
    SELECT 'paused', a.name, CASE WHEN a.paused_at IS NULL THEN 'ok' ELSE 'warning' END,
           CASE WHEN a.paused_at IS NULL THEN 'no' ELSE 'since ' || a.paused_at || coalesce(': ' || a.paused_reason, '') END,
           CASE WHEN a.paused_at IS NOT NULL THEN format('SELECT klaviyo_resume_account(%L) sends what waits.', a.name) END
    FROM klaviyo.account AS a
    UNION ALL
    SELECT 'key', a.name,
           CASE WHEN refused.reason IS NOT NULL THEN 'critical' ELSE 'ok' END,
           CASE WHEN refused.reason IS NOT NULL THEN 'not accepted'
                WHEN l.last_success_at IS NOT NULL THEN 'accepted, last at ' || l.last_success_at
                ELSE 'not used since the server started' END,
           refused.reason
    FROM klaviyo.account AS a
    LEFT JOIN klaviyo.account_status AS s ON s.account = a.name AND s.stopped_at IS NOT NULL
    LEFT JOIN LATERAL (
        SELECT s.stopped_reason WHERE klaviyo.is_armed(a) AND a.paused_at IS NULL
    ) AS refused (reason) ON true
    LEFT JOIN LATERAL (
        SELECT max(l.last_success_at) AS last_success_at FROM klaviyo.lane AS l WHERE l.account = a.name
    ) AS l ON true
    UNION ALL
    SELECT 'revision', a.name,
           CASE WHEN a.revision::date < now() - interval '2 years' THEN 'critical'
                WHEN a.revision::date < now() - interval '18 months' THEN 'warning' ELSE 'ok' END,
           a.revision,
           CASE WHEN a.revision::date < now() - interval '18 months' THEN
               'Klaviyo retires a revision after two years: update the extension, then klaviyo_set_account(revision => …).' END
    FROM klaviyo.account AS a
    UNION ALL
    SELECT 'import_jobs', a.name, CASE WHEN j.is_late THEN 'warning' ELSE 'ok' END,
           CASE WHEN j.open > 0 THEN format('%s under way, the first since %s', j.open, j.since) ELSE 'none under way' END,
           CASE WHEN j.is_late THEN
               'Klaviyo has not ended a job within klaviyo.backlog_age. Until it has, nothing else is sent about the profiles in it; see klaviyo.bulk_job, and Klaviyo''s status page.' END
    FROM klaviyo.account AS a
    CROSS JOIN LATERAL (
        SELECT count(*) AS open, min(j.announced_at) AS since,
               min(j.announced_at) < clock_timestamp() - coalesce(current_setting('klaviyo.backlog_age', true), '15min')::interval AS is_late
        FROM klaviyo.bulk_job AS j
        WHERE j.ended_at IS NULL AND j.account = a.name
    ) AS j
    UNION ALL
    SELECT 'deletions', a.name, CASE WHEN p.is_late THEN 'warning' ELSE 'ok' END,
           CASE WHEN p.open > 0 THEN format('%s to be purged, the first since %s', p.open, p.since) ELSE 'none to be purged' END,
           CASE WHEN p.is_late THEN
               'Klaviyo has accepted a request for deletion more than a day ago, and our tables still name the person. A transaction that does not end, or is prepared, or a lock holds that up: see pg_stat_activity, pg_prepared_xacts and the server''s log.' END
    FROM klaviyo.account AS a
    CROSS JOIN LATERAL (
        SELECT count(*) AS open, min(d.accepted_at) AS since, min(d.accepted_at) < clock_timestamp() - interval '1 day' AS is_late
        FROM (
            SELECT d.accepted_at
            FROM klaviyo.deletion AS d
            WHERE d.account = a.name AND d.accepted_at IS NOT NULL AND d.purged_at IS NULL
            UNION ALL
            SELECT c.accepted_at
            FROM klaviyo.accepted_deletion AS c
            JOIN klaviyo.deletion AS d ON d.message_id = c.message_id
            WHERE d.account = a.name AND d.accepted_at IS NULL
        ) AS d
    ) AS p
$$;
COMMENT ON FUNCTION klaviyo.account_health() IS 'The checks of klaviyo_health() that are about accounts';

-- How the lanes stand that have been used.
CREATE FUNCTION klaviyo.lane_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'lane ' || l.lane, l.account, CASE WHEN l.state = 'breaker open' THEN 'critical' ELSE 'ok' END,
           format('%s; left of %s calls a second %s, of %s a minute %s', l.state, l.second_calls, l.second_left,
                  l.minute_calls, l.minute_left)
               || coalesce(', of ' || l.day_calls || ' a day ' || l.day_left, ''),
           CASE WHEN l.state = 'breaker open' THEN
               'Klaviyo does not answer as it should: see last_error, the network, and Klaviyo''s status page. It is probed by itself.' END
    FROM klaviyo.lane AS l
    WHERE l.state <> 'idle' OR coalesce(l.last_success_at, l.last_failure_at) IS NOT NULL
    UNION ALL
    SELECT 'last_success', a.name, 'ok', coalesce(max(l.last_success_at)::text, 'none since the server started'), NULL
    FROM klaviyo.account AS a
    LEFT JOIN klaviyo.lane AS l ON l.account = a.name
    GROUP BY a.name
    UNION ALL
    SELECT 'last_error', a.name,
           CASE WHEN f.last_failure_at > coalesce(f.last_success_at, '-infinity') THEN 'warning' ELSE 'ok' END,
           coalesce(f.last_failure_at || ': ' || coalesce('HTTP status ' || f.last_failure_status, 'no answer'), 'none since the server started'),
           CASE WHEN f.last_failure_at > coalesce(f.last_success_at, '-infinity') THEN
               'Nothing has succeeded since. klaviyo.retry.last_error and klaviyo.dead_letter.reason tell more.' END
    FROM klaviyo.account AS a
    LEFT JOIN LATERAL (
        SELECT l.last_failure_at, l.last_success_at, l.last_failure_status FROM klaviyo.lane AS l WHERE l.account = a.name
        ORDER BY l.last_failure_at DESC NULLS LAST LIMIT 1
    ) AS f ON true
$$;
COMMENT ON FUNCTION klaviyo.lane_health() IS 'The checks of klaviyo_health() that are about lanes that have been used';

CREATE FUNCTION klaviyo.low_water() RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_low_water';
COMMENT ON FUNCTION klaviyo.low_water() IS
    'The seq of the outbox below which the worker knows that nothing waits; 0 without a worker. Rows there may be dead and not yet vacuumed';

-- What waits: how old, how much. Reads no more than ten thousand rows, and none that are known to be gone.
CREATE FUNCTION klaviyo.backlog_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH bound AS (
        SELECT coalesce(current_setting('klaviyo.backlog_age', true), '15min')::interval AS age,
               pg_size_bytes(coalesce(current_setting('klaviyo.backlog_size', true), '1GB')) AS size
    ), waiting AS (
        SELECT (
                   SELECT count(*)
                   FROM (SELECT FROM klaviyo.outbox AS o WHERE o.seq >= m.low ORDER BY o.seq LIMIT 10001) AS o
               ) AS messages,
               (SELECT count(*) FROM (SELECT FROM klaviyo.retry LIMIT 10001) AS r) AS retries,
               clock_timestamp() - least(
                   (SELECT o.enqueued_at FROM klaviyo.outbox AS o WHERE o.seq >= m.low ORDER BY o.seq LIMIT 1),
                   (SELECT r.enqueued_at FROM klaviyo.retry AS r WHERE r.redriven_at IS NULL ORDER BY r.seq LIMIT 1)
               ) AS age,
               pg_total_relation_size('klaviyo.outbox') + pg_total_relation_size('klaviyo.retry') AS size
        FROM (SELECT klaviyo.low_water() AS low) AS m
    )
    SELECT 'backlog', NULL::text, 'ok',
           CASE WHEN w.messages > 10000 THEN 'more than 10000 messages' ELSE w.messages || ' messages' END
               || CASE WHEN w.retries > 10000 THEN ', more than 10000 to be tried again' ELSE format(', %s to be tried again', w.retries) END,
           NULL
    FROM waiting AS w
    UNION ALL
    SELECT 'backlog_age', NULL,
           CASE WHEN w.age > b.age * 10 THEN 'critical' WHEN w.age > b.age THEN 'warning' ELSE 'ok' END,
           coalesce(date_trunc('second', w.age)::text, 'nothing waits'),
           CASE WHEN w.age > b.age THEN
               'Messages wait longer than klaviyo.backlog_age. See the other checks, and klaviyo.lane for what holds them.' END
    FROM waiting AS w, bound AS b
    UNION ALL
    SELECT 'backlog_size', NULL,
           CASE WHEN w.size > b.size * 10 THEN 'critical' WHEN w.size > b.size THEN 'warning' ELSE 'ok' END,
           pg_size_pretty(w.size),
           CASE WHEN w.size > b.size THEN
               'What waits takes more than klaviyo.backlog_size on disk. If little waits, an old transaction keeps vacuum from the rest: see xmin.' END
    FROM waiting AS w, bound AS b
    UNION ALL
    SELECT 'homeless', NULL, CASE WHEN count(*) > 0 THEN 'critical' ELSE 'ok' END,
           coalesce('messages wait for accounts that do not exist: ' || string_agg(DISTINCT h.account, ', '), 'none'),
           CASE WHEN count(*) > 0 THEN
               'Add the account with klaviyo_set_account(), or put its messages aside: klaviyo_remove_account(…, bury_waiting => true).' END
    FROM (
        SELECT o.account
        FROM (
            SELECT o.account FROM klaviyo.outbox AS o WHERE o.seq >= (SELECT klaviyo.low_water()) ORDER BY o.seq LIMIT 1000
        ) AS o
        UNION ALL
        SELECT r.account FROM (SELECT r.account FROM klaviyo.retry AS r ORDER BY r.seq LIMIT 1000) AS r
    ) AS h
    WHERE NOT EXISTS (SELECT FROM klaviyo.account AS a WHERE a.name = h.account)
$$;
COMMENT ON FUNCTION klaviyo.backlog_health() IS 'The checks of klaviyo_health() that are about what waits';

-- What needs a person, or keeps vacuum from our tables.
CREATE FUNCTION klaviyo.upkeep_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'dead_letters', NULL::text, CASE WHEN d.new > 0 THEN 'warning' ELSE 'ok' END,
           format('%s, %s of them new since %s',
                  CASE WHEN d.all > 10000 THEN 'more than 10000' ELSE d.all::text END,
                  CASE WHEN d.new > 10000 THEN 'more than 10000' ELSE d.new::text END,
                  coalesce(d.since::text, 'ever')),
           CASE WHEN d.new > 0 THEN
               'See klaviyo.dead_letter; then klaviyo_redrive(), klaviyo_discard(), or klaviyo_acknowledge() if they may stay.' END
    FROM (
        SELECT (SELECT count(*) FROM (SELECT FROM klaviyo.dead_letter LIMIT 10001) AS l) AS all,
               (
                   SELECT count(*)
                   FROM (SELECT FROM klaviyo.dead_letter AS l WHERE l.died_at > s.since LIMIT 10001) AS l
               ) AS new,
               nullif(s.since, '-infinity') AS since
        FROM (SELECT coalesce(max(k.acknowledged_at), '-infinity') AS since FROM klaviyo.acknowledged AS k) AS s
    ) AS d
    UNION ALL
    -- The one that holds back most. How long is known of sessions and prepared transactions; standbys and slots count in
    -- transactions, and a slot that nobody uses holds back for ever.
    SELECT 'xmin', NULL,
           CASE WHEN x.age > interval '1 day' THEN 'critical'
                WHEN x.age > interval '1 hour' OR x.abandoned THEN 'warning' ELSE 'ok' END,
           CASE WHEN x.who IS NULL THEN 'not held back'
                ELSE format('held back for %s by %s', coalesce(date_trunc('second', x.age)::text, x.transactions || ' transactions'), x.who) END,
           CASE WHEN x.age > interval '1 hour' OR x.abandoned THEN
               'What has been delivered cannot be vacuumed, so the outbox grows. End that transaction, or drop that slot.' END
    FROM (VALUES (1)) AS one
    LEFT JOIN (
        SELECT greatest(age(a.backend_xmin), age(a.backend_xid)) AS transactions,
               clock_timestamp() - a.xact_start AS age, 'pid ' || a.pid AS who, false AS abandoned
        FROM pg_stat_activity AS a
        WHERE coalesce(a.backend_xmin, a.backend_xid) IS NOT NULL AND a.pid <> pg_backend_pid()
          AND (a.datname = current_database() OR a.datname IS NULL)
        UNION ALL
        SELECT age(p.transaction), clock_timestamp() - p.prepared, format('prepared transaction %L', p.gid), false
        FROM pg_prepared_xacts AS p
        WHERE p.database = current_database()
        UNION ALL
        SELECT age(s.xmin), NULL, format('%s replication slot %L', CASE WHEN s.active THEN 'active' ELSE 'inactive' END, s.slot_name),
               NOT s.active
        FROM pg_replication_slots AS s
        WHERE s.xmin IS NOT NULL
        ORDER BY transactions DESC, age DESC NULLS LAST
        LIMIT 1
    ) AS x ON true
$$;
COMMENT ON FUNCTION klaviyo.upkeep_health() IS 'The checks of klaviyo_health() that are about upkeep';

-- Mappings ----------------------------------------------------------------------------------------------------------

CREATE FUNCTION klaviyo.mapping_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'mapping', s.account,
           CASE
               WHEN f.fault IS NOT NULL THEN 'critical'
               WHEN s.state <> 'on' OR o.owner IS NOT NULL OR w.error IS NOT NULL THEN 'warning'
               ELSE 'ok'
           END,
           format('%s: %s', s.relation, s.name)
               || CASE s.state WHEN 'on' THEN '' ELSE ', ' || s.state END
               || coalesce(': ' || f.fault, ': its function is that of ' || o.owner || ', its table not',
                           CASE WHEN w.error IS NOT NULL THEN format(': %s profiles cannot be written back: %s', w.profiles, w.error) END, ''),
           CASE
               WHEN f.fault IS NOT NULL OR o.owner IS NOT NULL THEN 'Map it anew with replace => true; what it says now is in klaviyo.sync.'
               WHEN s.state = 'copied' THEN format('If this is where its rows are written now: SELECT klaviyo_arm_account(%L).', s.account)
               WHEN s.state = 'paused' THEN format('SELECT klaviyo_sync_resume(%L, %L).', s.relation::text, s.name)
               WHEN s.state = 'disabled' THEN 'ALTER TABLE … ENABLE TRIGGER.'
               WHEN w.error IS NOT NULL THEN 'They are tried again: see klaviyo.write_back.'
           END
    FROM klaviyo.sync AS s
    JOIN klaviyo.mapping AS m ON m.id = s.id
    CROSS JOIN LATERAL klaviyo.mapping_fault(s.relation, m.plan) AS f (fault)
    LEFT JOIN LATERAL (
        SELECT pg_get_userbyid(p.proowner)
        FROM pg_proc AS p
        JOIN pg_class AS c ON c.oid = s.relation
        WHERE p.oid = s.function AND p.proowner <> c.relowner
    ) AS o (owner) ON true
    LEFT JOIN LATERAL (
        -- Who has its row for a moment is no trouble.
        SELECT count(*), min(b.error) FROM klaviyo.write_back AS b WHERE b.mapping = s.id AND b.attempts >= 3
    ) AS w (profiles, error) ON true
$$;
COMMENT ON FUNCTION klaviyo.mapping_health() IS 'The checks of klaviyo_health() that are about tables whose rows are sent';

CREATE FUNCTION klaviyo.backfill_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'backfill', m.account,
           CASE WHEN r.error IS NULL AND r.state = 'running' THEN 'ok' ELSE 'warning' END,
           format('%s: %s, %s, %s rows done', coalesce(s.relation::text, 'a table that is gone'), m.name, r.state, r.rows_done) || coalesce(': ' || r.error, ''),
           CASE WHEN r.state = 'paused' THEN
               format('SELECT klaviyo_backfill_resume(%L, %L), or klaviyo_backfill_cancel().', s.relation::text, m.name)
                WHEN r.error IS NOT NULL THEN 'It is tried again.' END
    FROM klaviyo.backfill_run AS r
    JOIN klaviyo.mapping AS m ON m.id = r.mapping
    LEFT JOIN klaviyo.sync AS s ON s.id = r.mapping
    WHERE r.ended_at IS NULL
$$;
COMMENT ON FUNCTION klaviyo.backfill_health() IS 'The checks of klaviyo_health() that are about backfills';

CREATE FUNCTION klaviyo.webhook_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'webhook', NULL::text,
           CASE
               WHEN f.fault IS NOT NULL THEN 'critical'
               WHEN d.events > 0 OR t.failing > 0 THEN 'warning'
               ELSE 'ok'
           END,
           format('%s: %s, %s events to be told, of them %s again, %s put aside', h.function, h.pattern, t.events, t.failing, d.events)
               || coalesce(': ' || f.fault, ''),
           CASE
               WHEN f.fault IS NOT NULL THEN
                   format('Make it anew and SELECT klaviyo_on_webhook(%1$L, %2$L), or SELECT klaviyo_off_webhook(%1$L, %2$L).', h.pattern, h.function)
               WHEN d.events > 0 OR t.failing > 0 THEN
                   format('See klaviyo.webhook_dead_letter and klaviyo.webhook_task; once the cause is gone, SELECT klaviyo_redrive_webhook(handler_id => %s).', h.handler_id)
           END
    FROM klaviyo.webhook_handler AS h
    LEFT JOIN pg_proc AS p ON p.oid = to_regprocedure(h.function)
    CROSS JOIN LATERAL (
        SELECT CASE
                   WHEN p.oid IS NULL THEN 'there is no such function'
                   WHEN pg_get_userbyid(p.proowner) <> h.owner THEN 'it is no longer its owner''s who was to have it called'
               END
    ) AS f (fault)
    CROSS JOIN LATERAL (
        SELECT count(*) AS events, count(*) FILTER (WHERE k.attempts > 0) AS failing
        FROM klaviyo.webhook_task AS k WHERE k.handler_id = h.handler_id
    ) AS t
    CROSS JOIN LATERAL (
        SELECT count(*) AS events FROM klaviyo.webhook_dead_letter AS l WHERE l.handler_id = h.handler_id
    ) AS d
    UNION ALL
    SELECT 'webhook', w.account, CASE WHEN cardinality(s.secrets) > 0 THEN 'ok' ELSE 'critical' END,
           format('%s: secret from %s', w.webhook, coalesce('file ' || w.secret_file, 'environment variable ' || w.secret_env))
               || CASE WHEN cardinality(s.secrets) > 0 THEN '' ELSE ', which has none that the server can read' END,
           CASE WHEN cardinality(s.secrets) = 0 THEN 'The server''s user must be able to read it, and a line must have 16 bytes. Until then its requests are refused.' END
    FROM klaviyo.webhook AS w
    CROSS JOIN LATERAL (SELECT klaviyo.server_secrets(w.secret_file, w.secret_env) AS secrets) AS s
    WHERE num_nonnulls(w.secret_file, w.secret_env) = 1
$$;
COMMENT ON FUNCTION klaviyo.webhook_health() IS 'The checks of klaviyo_health() that are about functions which are told what webhooks bring';

CREATE FUNCTION klaviyo.job_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'job', j.account,
           CASE WHEN j.failures > 2 OR j.last_outcome = 'failed' OR o.overdue IS NOT NULL OR j.rows_unreadable > 0 THEN 'warning' ELSE 'ok' END,
           format('%s: %s, last run %s at %s', j.job, j.state, coalesce(j.last_outcome, 'never'), coalesce(j.last_ended_at::text, 'no time'))
               || coalesce(': ' || coalesce(j.error, j.last_error), '') || coalesce(', ' || o.overdue, '')
               || CASE WHEN j.rows_unreadable > 0 THEN format(', %s rows left out that nobody can read', j.rows_unreadable) ELSE '' END,
           CASE
               WHEN j.failures > 2 THEN 'It is tried again. SELECT klaviyo_check_account() says what the account''s key may do.'
               WHEN j.last_outcome = 'failed' THEN format('Once the cause is gone, SELECT klaviyo_run_job(%L, account => %L).', j.job, j.account)
               WHEN o.overdue IS NOT NULL THEN 'See whether the account sends, and klaviyo.lane for what is left of its limits.'
           END
    FROM klaviyo.job AS j
    CROSS JOIN LATERAL (
        SELECT CASE
                   WHEN j.state = 'waiting' AND j.next_run_at < now() - interval '10 minutes' THEN 'overdue'
                   WHEN j.state = 'running' AND j.last_ended_at < now() - greatest(3 * j.every, interval '1 day') THEN 'long under way'
               END
    ) AS o (overdue)
    WHERE j.state <> 'paused'
$$;
COMMENT ON FUNCTION klaviyo.job_health() IS 'The checks of klaviyo_health() that are about jobs which read what Klaviyo has';

CREATE FUNCTION @extschema@.klaviyo_health() RETURNS SETOF klaviyo.health
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM klaviyo.server_health()
    UNION ALL
    SELECT * FROM klaviyo.account_health()
    UNION ALL
    SELECT * FROM klaviyo.lane_health()
    UNION ALL
    SELECT * FROM klaviyo.backlog_health()
    UNION ALL
    SELECT * FROM klaviyo.upkeep_health()
    UNION ALL
    SELECT * FROM klaviyo.mapping_health()
    UNION ALL
    SELECT * FROM klaviyo.backfill_health()
    UNION ALL
    SELECT * FROM klaviyo.webhook_health()
    UNION ALL
    SELECT * FROM klaviyo.job_health()
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_health() IS
    'How delivery stands: a row a check with its status (ok, warning, critical), what was found and what to do. Cheap enough to be asked every minute';
