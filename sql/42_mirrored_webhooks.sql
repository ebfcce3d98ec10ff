-- Ready handlers of webhooks: what they tell, brought into the tables of what was read, and campaigns counted by the day.

CREATE TABLE klaviyo.campaign_event (
    account     text NOT NULL REFERENCES klaviyo.account ON DELETE CASCADE,
    campaign_id text NOT NULL,
    day         date NOT NULL,
    topic       text NOT NULL,
    events      bigint NOT NULL,
    PRIMARY KEY (account, campaign_id, day, topic)
);
CREATE INDEX campaign_event_day_idx ON klaviyo.campaign_event (day);
COMMENT ON TABLE klaviyo.campaign_event IS 'How often webhooks have told of what came of a campaign, by the day, see klaviyo_mirror_webhooks(); for klaviyo.campaign_retention';
COMMENT ON COLUMN klaviyo.campaign_event.account IS 'Account';
COMMENT ON COLUMN klaviyo.campaign_event.campaign_id IS 'Campaign, see klaviyo.campaign';
COMMENT ON COLUMN klaviyo.campaign_event.day IS 'Day of UTC on which it happened';
COMMENT ON COLUMN klaviyo.campaign_event.topic IS 'What has happened, as event:klaviyo.opened_email';
COMMENT ON COLUMN klaviyo.campaign_event.events IS 'How often';

CREATE VIEW klaviyo.campaign_day AS
SELECT e.account, e.campaign_id, c.name, e.day,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.(received|bounced|dropped|failed_to_deliver)_') AS sent,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.received_') AS delivered,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.(bounced|failed_to_deliver)_') AS bounced,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.opened_') AS opened,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.clicked_') AS clicked,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.unsubscribed_') AS unsubscribed,
       sum(e.events) FILTER (WHERE e.topic ~ 'klaviyo\.marked_.*_as_spam$') AS marked_as_spam
FROM klaviyo.campaign_event AS e
LEFT JOIN klaviyo.campaign AS c USING (account, campaign_id)
GROUP BY e.account, e.campaign_id, c.name, e.day;
COMMENT ON VIEW klaviyo.campaign_day IS 'What came of campaigns, a row a campaign and day, as far as webhooks have told';
COMMENT ON COLUMN klaviyo.campaign_day.account IS 'Account';
COMMENT ON COLUMN klaviyo.campaign_day.campaign_id IS 'Campaign, see klaviyo.campaign';
COMMENT ON COLUMN klaviyo.campaign_day.name IS 'What it is called, where that is known';
COMMENT ON COLUMN klaviyo.campaign_day.day IS 'Day of UTC on which it happened';
COMMENT ON COLUMN klaviyo.campaign_day.sent IS 'Messages that were delivered, bounced or dropped';
COMMENT ON COLUMN klaviyo.campaign_day.delivered IS 'Messages that were received';
COMMENT ON COLUMN klaviyo.campaign_day.bounced IS 'Messages that came back';
COMMENT ON COLUMN klaviyo.campaign_day.opened IS 'How often they were opened, by the same person or another';
COMMENT ON COLUMN klaviyo.campaign_day.clicked IS 'How often something in them was clicked';
COMMENT ON COLUMN klaviyo.campaign_day.unsubscribed IS 'How often somebody has unsubscribed by them';
COMMENT ON COLUMN klaviyo.campaign_day.marked_as_spam IS 'How often they were called spam';

-- When it happened, as Klaviyo says, or else when it came.
CREATE FUNCTION klaviyo.webhook_event_time(event jsonb) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(klaviyo.webhook_time(event #>> '{payload,data,attributes,datetime}'), (event->>'received_at')::timestamptz)
$$;
COMMENT ON FUNCTION klaviyo.webhook_event_time(jsonb) IS 'When something has happened that a webhook tells of';

-- Takes: an event, as handlers get it. Touches: campaign_event.
-- Klaviyo's document does not say so, but the property $message of what came of a campaign is the campaign's id; that of a flow is
-- shorter, or is there with $flow.
CREATE FUNCTION klaviyo.count_campaign_event(event jsonb) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO klaviyo.campaign_event AS c (account, campaign_id, day, topic, events)
    SELECT a.name, m.id, (klaviyo.webhook_event_time(event) AT TIME ZONE 'UTC')::date, event->>'topic', 1
    FROM klaviyo.account AS a
    CROSS JOIN LATERAL (
        SELECT p.properties->>'$message' AS id, p.properties ? '$flow' AS is_flow
        FROM (SELECT event #> '{payload,data,attributes,event_properties}' AS properties) AS p
        WHERE jsonb_typeof(p.properties) = 'object'
    ) AS m
    WHERE a.name = event->>'account' AND NOT m.is_flow
      AND (length(m.id) BETWEEN 20 AND 64
           OR EXISTS (SELECT FROM klaviyo.campaign AS k WHERE k.account = a.name AND k.campaign_id = m.id))
    ON CONFLICT ON CONSTRAINT campaign_event_pkey DO UPDATE SET events = c.events + 1
$$;
COMMENT ON FUNCTION klaviyo.count_campaign_event(jsonb) IS 'A handler: counts what came of campaigns, in klaviyo.campaign_event';

-- Takes: the same. Touches: profile. What was read since is newer.
CREATE FUNCTION klaviyo.mirror_consent_event(event jsonb) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE klaviyo.profile AS p
    SET subscriptions = coalesce(p.subscriptions, '{}') || jsonb_build_object(
            t.channel,
            coalesce(p.subscriptions->t.channel, '{}') || jsonb_build_object(
                'marketing',
                coalesce(p.subscriptions #> ARRAY[t.channel, 'marketing'], '{}')
                    || jsonb_build_object('consent', t.consent, 'last_updated', to_jsonb(klaviyo.webhook_event_time(event)))
            )
        ),
        pulled_at = now()
    FROM (
        VALUES ('event:klaviyo.subscribed_to_email_marketing', 'email', 'SUBSCRIBED'),
               ('event:klaviyo.unsubscribed_from_email_marketing', 'email', 'UNSUBSCRIBED'),
               ('event:klaviyo.subscribed_to_sms_marketing', 'sms', 'SUBSCRIBED'),
               ('event:klaviyo.unsubscribed_from_sms_marketing', 'sms', 'UNSUBSCRIBED')
    ) AS t (topic, channel, consent)
    WHERE t.topic = event->>'topic' AND p.account = event->>'account' AND p.profile_id = event->>'profile_id'
      AND (p.updated_at IS NULL OR p.updated_at <= klaviyo.webhook_event_time(event))
      AND coalesce(klaviyo.webhook_time(p.subscriptions #>> ARRAY[t.channel, 'marketing', 'last_updated']) <= klaviyo.webhook_event_time(event), true)
$$;
COMMENT ON FUNCTION klaviyo.mirror_consent_event(jsonb) IS 'A handler: brings what somebody has agreed to, or no more, into klaviyo.profile';

-- Takes: the same. Touches: list_member. The property List is what the list is called.
CREATE FUNCTION klaviyo.mirror_list_event(event jsonb) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO klaviyo.list_member (account, list_id, profile_id, joined_at, pulled_at)
    SELECT l.account, l.list_id, p.profile_id, klaviyo.webhook_event_time(event), now()
    FROM klaviyo.list AS l
    JOIN klaviyo.profile AS p ON p.account = l.account AND p.profile_id = event->>'profile_id'
    WHERE l.account = event->>'account' AND l.name = event #>> '{payload,data,attributes,event_properties,List}'
      -- Whoever has left since was not on it when all were read.
      AND (l.members_pulled_at IS NULL OR l.members_pulled_at < klaviyo.webhook_event_time(event))
      AND NOT EXISTS (SELECT FROM klaviyo.list AS o WHERE o.account = l.account AND o.name = l.name AND o.list_id <> l.list_id)
    ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION klaviyo.mirror_list_event(jsonb) IS 'A handler: brings who has come onto a list into klaviyo.list_member';

-- Takes: whether. Returns: how many handlers have come or gone. Touches: webhook_handler.
CREATE FUNCTION @extschema@.klaviyo_mirror_webhooks("on" boolean DEFAULT true) RETURNS integer
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    changed integer;
BEGIN
    WITH ready (pattern, function) AS (
        SELECT 'event:klaviyo.' || c.pattern, 'klaviyo.count_campaign_event(jsonb)'
        FROM unnest('{received_*,bounced_*,dropped_*,failed_to_deliver_*,opened_*,clicked_*,marked_*,unsubscribed_from_*}'::text[]) AS c (pattern)
        UNION ALL
        SELECT 'event:klaviyo.' || c.topic, 'klaviyo.mirror_consent_event(jsonb)'
        FROM unnest('{subscribed_to_email_marketing,unsubscribed_from_email_marketing,subscribed_to_sms_marketing,unsubscribed_from_sms_marketing}'::text[]) AS c (topic)
        UNION ALL
        SELECT 'event:klaviyo.subscribed_to_list', 'klaviyo.mirror_list_event(jsonb)'
    ), gone AS (
        DELETE FROM klaviyo.webhook_handler AS h USING ready AS r
        WHERE h.pattern = r.pattern AND h.function = r.function AND "on" IS FALSE
        RETURNING 1
    ), come AS (
        INSERT INTO klaviyo.webhook_handler (pattern, function, owner)
        SELECT r.pattern, r.function, current_user FROM ready AS r WHERE "on" IS NOT FALSE
        ON CONFLICT DO NOTHING
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM come) INTO changed;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_mirror_webhooks(boolean) IS
    'Has what webhooks tell from now on be brought into the tables of what was read: consent into klaviyo.profile, who has come onto a list into klaviyo.list_member; and counted by campaign and day: klaviyo.campaign_day. With false, no more. Returns how many handlers that are new, or gone';
