-- Campaigns: what is laid down for each call, and what is refused.
SET client_min_messages = error;
CREATE EXTENSION klaviyo_sync;
SELECT klaviyo_set_account(private_key => 'pk_test');
RESET client_min_messages;
-- No worker delivers in this cluster.

-- One transaction: a draft, its template, its count, its sending, and all of that called off.
BEGIN;
SELECT klaviyo_create_campaign('Sale', '{Y6nRLr}', excluded => '{UTd5ui}',
                               content => '{"subject": "Now", "from_email": "shop@b.example"}') AS campaign \gset
SELECT klaviyo_assign_template(:'campaign', 'RdDPbR') IS NOT NULL AS queued;
SELECT klaviyo_estimate_campaign(:'campaign') IS NOT NULL AS queued;
SELECT klaviyo_send_campaign(:'campaign') IS NOT NULL AS queued;
SELECT klaviyo_cancel_campaign(:'campaign') IS NOT NULL AS queued;
COMMIT;
SELECT kind, key = ARRAY['campaign:' || :'campaign'] AS is_of_it,
       payload::jsonb - 'since' - 'made_by' AS payload, payload->>'made_by' = :'campaign' AS names_it
FROM klaviyo.outbox ORDER BY seq;
SELECT (payload->>'since')::timestamptz < enqueued_at AS since FROM klaviyo.outbox WHERE kind = 'campaign_create';
TRUNCATE klaviyo.outbox;

-- By Klaviyo's id, as a draft again.
SELECT klaviyo_cancel_campaign('01GDDKASAP8TKDDA2GRZDSVP4H', revert => true) IS NOT NULL AS queued;
SELECT key, payload FROM klaviyo.outbox;
TRUNCATE klaviyo.outbox;

-- When it is to go.
SELECT klaviyo_create_campaign('at a time', '{Y6nRLr}', send_at => '2026-12-24 10:00+01') IS NOT NULL AS queued;
SELECT klaviyo_create_campaign('in their zone', '{Y6nRLr}', send_at => '2026-12-24 10:00+00', recipient_time => true) IS NOT NULL AS queued;
SELECT klaviyo_create_campaign('slowly', '{Y6nRLr}', send_at => '2026-12-24 10:00+00', throttle_percentage => 25) IS NOT NULL AS queued;
SELECT klaviyo_create_campaign('smart', '{Y6nRLr}', smart_send_on => '2026-12-24', smart_sending => false,
                               tracking_options => '{"is_tracking_opens": true}') IS NOT NULL AS queued;
SELECT payload->'attributes'->>'name' AS name, payload->'attributes'->'send_strategy' AS send_strategy,
       payload->'attributes'->'send_options' AS send_options, payload->'attributes'->'tracking_options' AS tracking_options
FROM klaviyo.outbox ORDER BY seq;
TRUNCATE klaviyo.outbox;

-- What it says.
SELECT klaviyo_create_campaign('text', '{Y6nRLr}', channel => 'sms', content => '{"body": "Hi"}') IS NOT NULL AS queued;
SELECT klaviyo_create_campaign('push', '{Y6nRLr}', channel => 'mobile_push', content => '{"title": "Sale", "body": "Hi"}') IS NOT NULL AS queued;
SELECT payload->'attributes'->'campaign-messages' AS messages FROM klaviyo.outbox ORDER BY seq;
TRUNCATE klaviyo.outbox;

-- What is no campaign.
SELECT klaviyo_create_campaign(NULL, '{Y6nRLr}');
SELECT klaviyo_create_campaign('Sale', NULL);
SELECT klaviyo_create_campaign('Sale', '{}');
SELECT klaviyo_create_campaign('Sale', '{Y6nRLr,NULL}');
SELECT klaviyo_create_campaign('Sale', '{Newsletter subscribers}');
SELECT klaviyo_create_campaign('Sale', '{Y6nRLr}', channel => 'fax');
SELECT klaviyo_create_campaign('Sale', '{Y6nRLr}', channel => NULL);
SELECT klaviyo_create_campaign('Sale', '{Y6nRLr}', content => '{"body": "Hi"}');
SELECT klaviyo_create_campaign('Sale', '{Y6nRLr}', content => '["subject"]');
SELECT klaviyo_create_campaign('Sale', '{Y6nRLr}', channel => 'mobile_push');
SELECT klaviyo_create_campaign('Sale', '{Y6nRLr}', send_at => now(), smart_send_on => '2026-12-24');
SELECT klaviyo_create_campaign('Sale', '{Y6nRLr}', recipient_time => true);
SELECT klaviyo_create_campaign('Sale', '{Y6nRLr}', send_at => '2026-12-24', throttle_percentage => 26);
SELECT klaviyo_create_campaign('Sale', '{Y6nRLr}', send_at => 'infinity');
SELECT klaviyo_create_campaign('Sale', '{Y6nRLr}', smart_send_on => '-infinity');
SELECT klaviyo_assign_template('01GDDKASAP8TKDDA2GRZDSVP4H', 'a template');
SELECT klaviyo_send_campaign(NULL);
SELECT klaviyo_send_campaign('Sale of the year');
SELECT klaviyo_send_campaign('01GDDKASAP8TKDDA2GRZDSVP4H', account => 'none');

-- Where a bad row must fail nobody, it is put aside as it was given.
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_create_campaign('Sale', '{Y6nRLr}', channel => 'fax', send_at => '2026-12-24 10:00+00',
                               smart_send_on => '2026-12-24', throttle_percentage => 26) IS NOT NULL AS buried;
SELECT klaviyo_cancel_campaign('Sale of the year', revert => true) IS NOT NULL AS buried;
RESET klaviyo.on_invalid;
SELECT kind, code, payload::jsonb - 'send_at' AS payload FROM klaviyo.dead_letter ORDER BY kind;
TRUNCATE klaviyo.dead_letter;

-- What a person is told of what was not sent.
INSERT INTO klaviyo.dead_letter (message_id, seq, account, kind, key, payload, code, reason, attempts, enqueued_at, died_at)
SELECT gen_random_uuid(), n, 'default', 'campaign_send', '{}', '{}', code, 'because', 1, now(), now()
FROM unnest(ARRAY['ambiguous', 'no_such_campaign', 'not_a_draft', 'not_one_message']) WITH ORDINALITY AS c (code, n);
SELECT r.code, r.hint FROM klaviyo.dead_letter AS d CROSS JOIN LATERAL klaviyo_result(d.message_id) AS r ORDER BY r.code;
INSERT INTO klaviyo.discarded VALUES (gen_random_uuid(), gen_random_uuid(), 'default', 'campaign_send', now(), now());
SELECT r.status, r.code, r.reason, r.hint FROM klaviyo.discarded AS d CROSS JOIN LATERAL klaviyo_result(d.message_id) AS r;

-- Who writes orders does not write to everybody.
SET ROLE klaviyo_writer;
SELECT klaviyo_send_campaign('01GDDKASAP8TKDDA2GRZDSVP4H');
RESET ROLE;
SET ROLE klaviyo_admin;
SELECT klaviyo_send_campaign('01GDDKASAP8TKDDA2GRZDSVP4H') IS NOT NULL AS queued;
SELECT count(*) FROM klaviyo.campaign;
RESET ROLE;
