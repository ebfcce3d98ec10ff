-- klaviyo_call().
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;

SELECT klaviyo_call('GET', '/api/tags?filter=equals(name,"a b")') IS NOT NULL AS queued;
SELECT klaviyo_call('post', '/api/tags', '{"data": {"type": "tag", "attributes": {"name": "VIP"}}}') IS NOT NULL AS queued;
SELECT klaviyo_call('PATCH', '/api/profiles/01GDDKASAP8TKDDA2GRZDSVP4H', '{"data": {"attributes": {"email": "Ada@shop.example"}}}') IS NOT NULL AS queued;
SELECT klaviyo_call(method => 'DELETE', path => '/api/tags/1') IS NOT NULL AS queued;
SELECT kind, account, key, payload FROM klaviyo.outbox ORDER BY seq;
DELETE FROM klaviyo.outbox;
SELECT klaviyo_call(NULL, '/api/tags');
SELECT klaviyo_call('PUT', '/api/tags');
SELECT klaviyo_call('GET', NULL);
SELECT klaviyo_call('GET', 'https://a.klaviyo.com/api/tags');
SELECT klaviyo_call('GET', '/api/tags/../lists');
SELECT klaviyo_call('GET', '/api/nothing');
SELECT klaviyo_call('DELETE', '/api/tags');
SELECT klaviyo_call('GET', '/api/tags/{id}');
SELECT klaviyo_call('GET', '/api/tags', '{}');
SELECT klaviyo_call('POST', '/api/tags');
SELECT klaviyo_call('POST', '/api/tags', '[]');
SELECT klaviyo_call('POST', '/api/image-upload', '{}');
SELECT klaviyo_call('GET', '/api/tags', account => 'none');
SELECT klaviyo_call('POST', '/api/tags', jsonb_build_object('name', repeat('x', 5000000)));
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_call('POST', '/api/nothing', '{"a": 1}') IS NOT NULL AS buried;
SELECT kind, code, reason, payload FROM klaviyo.dead_letter;
SELECT count(*) FROM klaviyo.outbox;
RESET klaviyo.on_invalid;
-- Whoever may queue messages may not do at Klaviyo whatever the key may.
SET ROLE klaviyo_writer;
SELECT klaviyo_call('GET', '/api/tags');
