-- Metrics: figures for a monitor, as Prometheus reads them.

-- Takes: names of labels and their values, in turn. Returns: them as they stand after a metric's name.
CREATE FUNCTION klaviyo.labels(labels text[]) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce('{' || string_agg(
        format('%s="%s"', labels[n], replace(replace(replace(labels[n + 1], '\', '\\'), '"', '\"'), chr(10), '\n')), ',' ORDER BY n
    ) || '}', '')
    FROM generate_series(1, cardinality(labels), 2) AS n
    WHERE labels[n + 1] IS NOT NULL
$$;
COMMENT ON FUNCTION klaviyo.labels(text[]) IS 'Labels of a metric, as Prometheus reads them';

CREATE FUNCTION klaviyo.metric_samples() RETURNS TABLE (metric text, labels text, value double precision)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'klaviyo_build_info', klaviyo.labels(ARRAY['version', klaviyo.library_version()]), 1
    UNION ALL
    SELECT 'klaviyo_worker_up', '', (klaviyo.worker_pid() IS NOT NULL)::integer
    UNION ALL
    SELECT 'klaviyo_health_status', klaviyo.labels(ARRAY['check', h.name, 'account', h.account]),
           max(array_position('{ok,warning,critical}', h.status) - 1)
    FROM @extschema@.klaviyo_health() AS h
    GROUP BY h.name, h.account
    UNION ALL
    -- Ten thousand at the most are counted: whoever has more has an alarm by then.
    SELECT 'klaviyo_outbox_messages', '',
           (SELECT count(*) FROM (SELECT FROM klaviyo.outbox AS o WHERE o.seq >= m.low ORDER BY o.seq LIMIT 10000) AS o)
    FROM (SELECT klaviyo.low_water() AS low) AS m
    UNION ALL
    SELECT 'klaviyo_outbox_oldest_age_seconds', '',
           coalesce((SELECT extract(epoch FROM clock_timestamp() - o.enqueued_at) FROM klaviyo.outbox AS o WHERE o.seq >= m.low ORDER BY o.seq LIMIT 1), 0)
    FROM (SELECT klaviyo.low_water() AS low) AS m
    UNION ALL
    SELECT 'klaviyo_retry_messages', '', count(*) FROM (SELECT FROM klaviyo.retry LIMIT 10000) AS r
    UNION ALL
    SELECT 'klaviyo_dead_letters', klaviyo.labels(ARRAY['account', a.name]),
           (SELECT count(*) FROM (SELECT FROM klaviyo.dead_letter AS d WHERE d.account = a.name LIMIT 10000) AS d)
    FROM klaviyo.account AS a
    UNION ALL
    SELECT 'klaviyo_account_stopped', klaviyo.labels(ARRAY['account', a.name]), (s.stopped_at IS NOT NULL OR a.paused_at IS NOT NULL)::integer
    FROM klaviyo.account AS a
    LEFT JOIN klaviyo.account_status AS s ON s.account = a.name
    UNION ALL
    SELECT s.metric, klaviyo.labels(ARRAY['account', t.account, 'lane', t.lane]), s.value
    FROM klaviyo.throughput AS t
    CROSS JOIN LATERAL (
        VALUES ('klaviyo_messages_accepted_total', t.accepted), ('klaviyo_calls_total', t.calls), ('klaviyo_call_failures_total', t.failures),
               ('klaviyo_calls_throttled_total', t.throttled)
    ) AS s (metric, value)
    UNION ALL
    SELECT s.metric, klaviyo.labels(ARRAY['account', l.account, 'lane', l.lane]), s.value
    FROM klaviyo.lane AS l
    CROSS JOIN LATERAL (
        VALUES ('klaviyo_lane_ready_keys', l.ready), ('klaviyo_lane_calls_under_way', l.under_way::bigint),
               ('klaviyo_lane_minute_calls_left', l.minute_left)
    ) AS s (metric, value)
    UNION ALL
    SELECT s.metric, klaviyo.labels(ARRAY['account', l.account, 'lane', l.lane, 'quantile', s.quantile]), s.ms / 1000
    FROM klaviyo.latency AS l
    CROSS JOIN LATERAL (
        VALUES ('klaviyo_call_duration_seconds', '0.5', l.call_p50_ms), ('klaviyo_call_duration_seconds', '0.95', l.call_p95_ms),
               ('klaviyo_call_duration_seconds', '0.99', l.call_p99_ms), ('klaviyo_delivery_duration_seconds', '0.5', l.delivery_p50_ms),
               ('klaviyo_delivery_duration_seconds', '0.95', l.delivery_p95_ms), ('klaviyo_delivery_duration_seconds', '0.99', l.delivery_p99_ms)
    ) AS s (metric, quantile, ms)
    WHERE s.ms IS NOT NULL
    UNION ALL
    SELECT 'klaviyo_webhook_events_untold', '', count(*) FROM (SELECT FROM klaviyo.webhook_task LIMIT 10000) AS t
    UNION ALL
    SELECT 'klaviyo_webhook_dead_letters', '', count(*) FROM (SELECT FROM klaviyo.webhook_dead_letter LIMIT 10000) AS d
    UNION ALL
    SELECT s.metric, klaviyo.labels(ARRAY['account', j.account, 'job', j.job]), s.value
    FROM klaviyo.job AS j
    CROSS JOIN LATERAL (
        VALUES ('klaviyo_job_last_end_timestamp_seconds', extract(epoch FROM j.last_ended_at)::double precision),
               ('klaviyo_job_last_failed', (j.last_outcome = 'failed')::integer::double precision),
               ('klaviyo_job_rows_read', j.rows_read::double precision)
    ) AS s (metric, value)
    WHERE s.value IS NOT NULL
$$;
COMMENT ON FUNCTION klaviyo.metric_samples() IS 'What klaviyo_metrics() says: metrics with their labels and values';

CREATE FUNCTION @extschema@.klaviyo_metrics() RETURNS text
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format(E'# HELP %1$s %2$s\n# TYPE %1$s %3$s\n%4$s', d.metric, d.help, d.type, s.lines), E'\n' ORDER BY d.metric) || E'\n'
    FROM (
        VALUES
            ('klaviyo_account_stopped', 'gauge', 'Whether nothing is sent for the account: paused, or refused by Klaviyo.'),
            ('klaviyo_build_info', 'gauge', 'The version of klaviyo_sync, as a label.'),
            ('klaviyo_call_duration_seconds', 'summary', 'From sending a call to its answer, since the server started.'),
            ('klaviyo_call_failures_total', 'counter', 'Calls that failed or were refused, throttled ones included.'),
            ('klaviyo_calls_throttled_total', 'counter', 'Calls answered with 429.'),
            ('klaviyo_calls_total', 'counter', 'Calls of Klaviyo''s API that have ended.'),
            ('klaviyo_dead_letters', 'gauge', 'Messages put aside until somebody decides, counted up to 10000.'),
            ('klaviyo_delivery_duration_seconds', 'summary', 'From queueing a message to Klaviyo''s acceptance, since the server started.'),
            ('klaviyo_health_status', 'gauge', 'Checks of klaviyo_health(): 0 ok, 1 warning, 2 critical.'),
            ('klaviyo_job_last_end_timestamp_seconds', 'gauge', 'When the job''s last run ended.'),
            ('klaviyo_job_last_failed', 'gauge', 'Whether the job''s last run has failed.'),
            ('klaviyo_job_rows_read', 'gauge', 'Rows read in the run under way, or in the last.'),
            ('klaviyo_lane_calls_under_way', 'gauge', 'Calls under way.'),
            ('klaviyo_lane_minute_calls_left', 'gauge', 'Calls that may still be made in this minute.'),
            ('klaviyo_lane_ready_keys', 'gauge', 'Keys in memory whose next message may go.'),
            ('klaviyo_messages_accepted_total', 'counter', 'Messages that Klaviyo has accepted.'),
            ('klaviyo_outbox_messages', 'gauge', 'Messages that wait, counted up to 10000.'),
            ('klaviyo_outbox_oldest_age_seconds', 'gauge', 'How long the oldest of them has waited.'),
            ('klaviyo_retry_messages', 'gauge', 'Messages that are tried again, counted up to 10000.'),
            ('klaviyo_webhook_dead_letters', 'gauge', 'Events that a handler has failed at each time, counted up to 10000.'),
            ('klaviyo_webhook_events_untold', 'gauge', 'Events of which handlers are still to be told, counted up to 10000.'),
            ('klaviyo_worker_up', 'gauge', 'Whether this database has a worker.')
    ) AS d (metric, type, help)
    JOIN (
        SELECT m.metric, string_agg(m.metric || m.labels || ' ' || m.value::text, E'\n' ORDER BY m.labels) AS lines
        FROM klaviyo.metric_samples() AS m
        WHERE m.value IS NOT NULL
        GROUP BY m.metric
    ) AS s ON s.metric = d.metric
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_metrics() IS
    'Figures of how delivery stands, in the text format that Prometheus reads; what the gateway answers at /metrics';
