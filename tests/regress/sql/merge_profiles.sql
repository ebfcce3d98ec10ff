-- klaviyo_merge_profiles().
CREATE EXTENSION klaviyo_sync;
SET client_min_messages = error;
SELECT klaviyo_set_account();
RESET client_min_messages;

SELECT klaviyo_merge_profiles('01GDDKASAP8TKDDA2GRZDSVP4H', '01GDDKASAP8TKDDA2GRZDSVP4I') IS NOT NULL AS queued;
SELECT kind, account, key, payload FROM klaviyo.outbox;
SELECT klaviyo_merge_profiles(NULL, '01GDDKASAP8TKDDA2GRZDSVP4I');
SELECT klaviyo_merge_profiles('01GDDKASAP8TKDDA2GRZDSVP4H', 'ada@shop.example');
SELECT klaviyo_merge_profiles(keep => '01GDDKASAP8TKDDA2GRZDSVP4H', merge => '01GDDKASAP8TKDDA2GRZDSVP4H');
SELECT klaviyo_merge_profiles('01GDDKASAP8TKDDA2GRZDSVP4H', '01GDDKASAP8TKDDA2GRZDSVP4I', account => 'none');
SET klaviyo.on_invalid = dead_letter;
SELECT klaviyo_merge_profiles('', '01GDDKASAP8TKDDA2GRZDSVP4I') IS NOT NULL AS buried;
SELECT kind, code, reason, payload FROM klaviyo.dead_letter;
-- Not in conflict: Klaviyo has not said so.
SELECT * FROM klaviyo.profile_conflict;
