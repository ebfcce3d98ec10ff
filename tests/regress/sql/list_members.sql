-- klaviyo_add_to_list() and klaviyo_remove_from_list().
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;

SELECT klaviyo_add_to_list('Y6nRLr', 'Ada@Shop.example') IS NOT NULL AS queued;
SELECT klaviyo_add_to_list('Y6nRLr', phone_number => '+15005550006') IS NOT NULL AS queued;
SELECT klaviyo_remove_from_list('Y6nRLr', external_id => '42') IS NOT NULL AS queued;
SELECT kind, account, key, payload FROM klaviyo.outbox ORDER BY seq;
DELETE FROM klaviyo.outbox;
SELECT klaviyo_add_to_list(NULL, 'ada@shop.example');
SELECT klaviyo_add_to_list(' ', 'ada@shop.example');
SELECT klaviyo_add_to_list('Y6nRLr');
SELECT klaviyo_remove_from_list('Y6nRLr', 'ada@shop.example', external_id => '42');
SELECT klaviyo_remove_from_list('Y6nRLr', 'nobody');
SELECT klaviyo_add_to_list('Y6nRLr', 'ada@shop.example', account => 'none');
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_add_to_list('Y6nRLr', 'nobody') IS NOT NULL AS buried;
SELECT kind, code, reason, payload FROM klaviyo.dead_letter;
SELECT count(*) FROM klaviyo.outbox;
