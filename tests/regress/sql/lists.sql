-- klaviyo_create_list(), klaviyo_rename_list() and klaviyo_delete_list(); and which list a name means.
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;

SELECT klaviyo_create_list('VIP "gold"') IS NOT NULL AS queued;
SELECT klaviyo_rename_list('Y6nRLr', 'Gold') IS NOT NULL AS queued;
SELECT klaviyo_rename_list('VIP "gold"', 'Gold') IS NOT NULL AS queued;
SELECT klaviyo_delete_list('name:Summer') IS NOT NULL AS queued;
SELECT klaviyo_add_to_list('id:ABCDEFGH', 'ada@shop.example') IS NOT NULL AS queued;
SELECT klaviyo_remove_from_list('VIP customers', external_id => '42') IS NOT NULL AS queued;
SELECT klaviyo_subscribe('ada@shop.example', list => 'Newsletter') IS NOT NULL AS queued;
SELECT klaviyo_unsubscribe('ada@shop.example', list => 'Newsletter') IS NOT NULL AS queued;
SELECT kind, account, key, payload FROM klaviyo.outbox ORDER BY seq;
DELETE FROM klaviyo.outbox;
SELECT klaviyo_create_list(NULL);
SELECT klaviyo_create_list(' ');
SELECT klaviyo_rename_list(NULL, 'Gold');
SELECT klaviyo_rename_list('Y6nRLr', '');
SELECT klaviyo_delete_list('id:not one');
SELECT klaviyo_delete_list('name: ');
SELECT klaviyo_delete_list(repeat('x', 1001));
SELECT klaviyo_subscribe('ada@shop.example', list => '');
SELECT klaviyo_create_list('Gold', account => 'none');
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_rename_list('Y6nRLr', ' ') IS NOT NULL AS buried;
SELECT kind, code, reason, payload FROM klaviyo.dead_letter;
SELECT count(*) FROM klaviyo.outbox;
