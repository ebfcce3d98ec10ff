-- klaviyo_subscribe(), klaviyo_unsubscribe(), klaviyo_suppress(), klaviyo_unsuppress().
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;
CREATE VIEW queued AS SELECT kind, account, key, payload FROM klaviyo.outbox ORDER BY seq;
SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'German';

SELECT klaviyo_subscribe('Ada@Shop.example') IS NOT NULL AS queued;
SELECT klaviyo_subscribe('ada@shop.example', '+15005550006', 'Y6nRLr') IS NOT NULL AS queued;
SELECT klaviyo_subscribe(
    'ada@shop.example', '+15005550006', channels => '{sms_transactional,sms,sms}', consented_at => '2020-02-29 12:00:00.5+09',
    historical_import => true, custom_source => 'Fair "18"', date_of_birth => '2000-02-29'
) IS NOT NULL AS queued;
SELECT klaviyo_unsubscribe('ada@shop.example', '+15005550006') IS NOT NULL AS queued;
SELECT klaviyo_unsubscribe('ada@shop.example', list => 'Y6nRLr') IS NOT NULL AS queued;
SELECT klaviyo_unsubscribe(phone_number => '+15005550006', channels => '{sms}', list => 'Y6nRLr') IS NOT NULL AS queued;
SELECT klaviyo_suppress('ada@shop.example') IS NOT NULL AS queued;
SELECT klaviyo_unsuppress('ada@shop.example') IS NOT NULL AS queued;
\a\t
SELECT * FROM queued;
\a\t
DELETE FROM klaviyo.outbox;

-- Whom, and where.
SELECT klaviyo_subscribe();
SELECT klaviyo_unsubscribe(list => 'Y6nRLr');
SELECT klaviyo_suppress(NULL);
SELECT klaviyo_unsuppress('nobody');
SELECT klaviyo_subscribe('ada@shop.example', '0500');
SELECT klaviyo_subscribe('ada@shop.example', account => 'none');
SELECT klaviyo_subscribe('ada@shop.example', list => ' ');
SELECT klaviyo_unsubscribe('ada@shop.example', '+15005550006', 'Y6nRLr');
-- By which channels.
SELECT klaviyo_subscribe('ada@shop.example', channels => '{}');
SELECT klaviyo_subscribe('ada@shop.example', channels => '{sms}');
SELECT klaviyo_subscribe('ada@shop.example', channels => '{email,push}');
SELECT klaviyo_unsubscribe('ada@shop.example', channels => '{email,NULL}');
-- Since when.
SELECT klaviyo_subscribe('ada@shop.example', consented_at => now() - interval '1 day');
SELECT klaviyo_subscribe('ada@shop.example', historical_import => true);
SELECT klaviyo_subscribe('ada@shop.example', historical_import => true, consented_at => now());
SELECT klaviyo_subscribe('ada@shop.example', historical_import => true, consented_at => 'infinity');
SELECT klaviyo_subscribe('ada@shop.example', historical_import => true, consented_at => '-infinity');
SELECT klaviyo_subscribe(phone_number => '+15005550006', date_of_birth => 'infinity');
SELECT klaviyo_subscribe(phone_number => '+15005550006', date_of_birth => '-infinity');
SELECT klaviyo_subscribe(phone_number => '+15005550006', date_of_birth => '5874897-12-31');
SELECT klaviyo_subscribe(phone_number => '+15005550006', date_of_birth => current_date + 2);
SELECT klaviyo_subscribe('ada@shop.example', custom_source => ' ');
SELECT klaviyo_subscribe('ada@shop.example', custom_source => repeat('x', 1025));
SELECT count(*) FROM klaviyo.outbox;

-- Kept as they were given.
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_subscribe('nobody', '+15005550006', 'Y6nRLr', '{sms,NULL}', '2020-02-29 12:00+09', true, 'Fair', '1985-12-10') IS NOT NULL AS buried;
SELECT klaviyo_unsubscribe('nobody', list => 'Y6nRLr', channels => '{email}') IS NOT NULL AS buried;
SELECT klaviyo_suppress('nobody') IS NOT NULL AS buried;
SELECT kind, code, reason, payload FROM klaviyo.dead_letter ORDER BY kind;
RESET klaviyo.on_invalid;

-- A rollback takes a change of mind back.
BEGIN;
SAVEPOINT mind;
SELECT klaviyo_subscribe('ada@shop.example') IS NOT NULL AS queued;
ROLLBACK TO mind;
SELECT klaviyo_unsubscribe('ada@shop.example') IS NOT NULL AS queued;
COMMIT;
SELECT kind, key FROM queued;
