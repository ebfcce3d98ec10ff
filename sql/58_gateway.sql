-- The gateway: what its role, klaviyo_gateway, may do, and nothing else.

-- Takes: an account, a request's headers and its body as it came. Returns: the status of HTTP that says what became of it.
CREATE FUNCTION klaviyo.gateway_webhook(account text, headers jsonb, body bytea) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM @extschema@.klaviyo_receive_webhook(gateway_webhook.headers, gateway_webhook.body, gateway_webhook.account);
    RETURN 200;
EXCEPTION
    WHEN SQLSTATE 'KS083' THEN RETURN 413;
    WHEN SQLSTATE 'KS084' THEN RETURN 401;
    WHEN SQLSTATE 'KS085' OR SQLSTATE 'KS086' THEN RETURN 400;
END
$$;
COMMENT ON FUNCTION klaviyo.gateway_webhook(text, jsonb, bytea) IS 'What the gateway does with a request to /webhooks/klaviyo/ and an account: klaviyo_receive_webhook()';

CREATE FUNCTION klaviyo.gateway_health() RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'status', (ARRAY['ok', 'warning', 'critical'])[coalesce(max(array_position('{ok,warning,critical}', h.status)), 1)],
        'checks', coalesce(
            jsonb_agg(jsonb_strip_nulls(to_jsonb(h))
                      ORDER BY array_position('{critical,warning,ok}', h.status), h.name, h.account), '[]'))
    FROM @extschema@.klaviyo_health() AS h
$$;
COMMENT ON FUNCTION klaviyo.gateway_health() IS 'What the gateway answers at /health: the checks of klaviyo_health(), and the worst status of them';

CREATE FUNCTION klaviyo.gateway_metrics() RETURNS text
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT @extschema@.klaviyo_metrics()
$$;
COMMENT ON FUNCTION klaviyo.gateway_metrics() IS 'What the gateway answers at /metrics: klaviyo_metrics()';
