-- Queueing: the functions that triggers and applications call. What they write they write with the owner's rights, without
-- SECURITY DEFINER and SET, which would cost each row as much again.

CREATE FUNCTION @extschema@.klaviyo_track_event(
    metric         text,
    email          text DEFAULT NULL,
    properties     jsonb DEFAULT NULL,
    value          numeric DEFAULT NULL,
    value_currency text DEFAULT NULL,
    unique_id      text DEFAULT NULL,
    event_time     timestamptz DEFAULT NULL,
    phone_number   text DEFAULT NULL,
    external_id    text DEFAULT NULL,
    profile        jsonb DEFAULT NULL,
    account        text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_track_event';
COMMENT ON FUNCTION @extschema@.klaviyo_track_event(text, text, jsonb, numeric, text, text, timestamptz, text, text, jsonb, text) IS
    'Queues an event: that a person did something. Sent when the transaction has committed. NULL means absent; at least one of email, phone_number, external_id names the person; event_time defaults to now, unique_id to the message''s id. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_upsert_profile(
    email        text DEFAULT NULL,
    phone_number text DEFAULT NULL,
    external_id  text DEFAULT NULL,
    first_name   text DEFAULT NULL,
    last_name    text DEFAULT NULL,
    organization text DEFAULT NULL,
    title        text DEFAULT NULL,
    locale       text DEFAULT NULL,
    image        text DEFAULT NULL,
    location     jsonb DEFAULT NULL,
    properties   jsonb DEFAULT NULL,
    account      text DEFAULT NULL,
    clear        text[] DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_upsert_profile';
COMMENT ON FUNCTION @extschema@.klaviyo_upsert_profile(text, text, text, text, text, text, text, text, text, jsonb, jsonb, text, text[]) IS
    'Queues the state of a profile, to be made or updated at Klaviyo. Sent when the transaction has committed. NULL means absent and leaves a field as it is; clear names fields to empty. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_upsert_changes(
    new     jsonb,
    old     jsonb DEFAULT NULL,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_upsert_changes';
COMMENT ON FUNCTION @extschema@.klaviyo_upsert_changes(jsonb, jsonb, text) IS
    'Queues what of a profile''s state has changed; nothing where nothing has, or new is NULL. A state is an object of the arguments of klaviyo_upsert_profile(): {"email": …, "first_name": …, "location": {…}, "properties": {…}}. What was and is no longer, or is null, is cleared. All of new is queued where old is NULL or names another email, phone_number or external_id. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_request_deletion(
    email        text DEFAULT NULL,
    phone_number text DEFAULT NULL,
    account      text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_request_deletion';
COMMENT ON FUNCTION @extschema@.klaviyo_request_deletion(text, text, text) IS
    'Queues a request that Klaviyo delete all profiles with this email or this phone_number, and their data. Sent when the transaction has committed, after calls about the same person that are under way; what waits about that person, and what is queued for klaviyo.straggler_time after, is discarded; the key needs the scope data-privacy:write. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_merge_profiles(
    keep    text,
    merge   text,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_merge_profiles';
COMMENT ON FUNCTION @extschema@.klaviyo_merge_profiles(text, text, text) IS
    'Queues that two profiles become one at Klaviyo, by Klaviyo''s ids: the data of merge go into keep, and merge is deleted, which nobody can undo. Not in order with what is queued by other identifiers. Returns the message_id';

-- Consent -----------------------------------------------------------------------------------------------------------

CREATE FUNCTION @extschema@.klaviyo_subscribe(
    email             text DEFAULT NULL,
    phone_number      text DEFAULT NULL,
    list              text DEFAULT NULL,
    channels          text[] DEFAULT NULL,
    consented_at      timestamptz DEFAULT NULL,
    historical_import boolean DEFAULT false,
    custom_source     text DEFAULT NULL,
    date_of_birth     date DEFAULT NULL,
    account           text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_subscribe';
COMMENT ON FUNCTION @extschema@.klaviyo_subscribe(text, text, text, text[], timestamptz, boolean, text, date, text) IS
    'Queues that a person consents to be written to, and comes onto a list, by its id or its name, if one is given. Sent when the transaction has committed, in order with all else about the person. channels are email, sms and sms_transactional; NULL means email where there is an email, and sms where there is a phone_number. historical_import: consent of the past, given at consented_at, which starts no flow and is not confirmed anew. date_of_birth is for accounts that sell by age. It lifts what a person did to be written to no more, and a suppression. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_unsubscribe(
    email        text DEFAULT NULL,
    phone_number text DEFAULT NULL,
    list         text DEFAULT NULL,
    channels     text[] DEFAULT NULL,
    account      text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_unsubscribe';
COMMENT ON FUNCTION @extschema@.klaviyo_unsubscribe(text, text, text, text[], text) IS
    'Queues that a person consents no more: to anything of these channels (as those of klaviyo_subscribe()), or, with a list, by its id or its name, to that list. Of a list Klaviyo is asked first whether the person is on it: who is not stays as they are, and the message becomes a dead letter with code not_on_list, for Klaviyo would unsubscribe them from everything. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_suppress(
    email   text,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_suppress';
COMMENT ON FUNCTION @extschema@.klaviyo_suppress(text, text) IS
    'Queues that no e-mail marketing goes to an address any more, whatever the person has agreed to. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_unsuppress(
    email   text,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_unsuppress';
COMMENT ON FUNCTION @extschema@.klaviyo_unsuppress(text, text) IS
    'Queues that klaviyo_suppress() of an address be taken back. Who has unsubscribed, or whose mailbox refuses mail, stays so. Returns the message_id';

-- Lists -------------------------------------------------------------------------------------------------------------

CREATE FUNCTION @extschema@.klaviyo_create_list(
    name    text,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_create_list';
COMMENT ON FUNCTION @extschema@.klaviyo_create_list(text, text) IS
    'Queues that a list be made with that name. Klaviyo allows 150 a day. Where it has one of that name, the message becomes a dead letter with code list_exists: others name lists by their names. klaviyo_await() tells the id of the new one. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_rename_list(
    list    text,
    name    text,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_rename_list';
COMMENT ON FUNCTION @extschema@.klaviyo_rename_list(text, text, text) IS
    'Queues that a list, by its id or its name, have another name. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_delete_list(
    list    text,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_delete_list';
COMMENT ON FUNCTION @extschema@.klaviyo_delete_list(text, text) IS
    'Queues that a list, by its id or its name, be deleted for good; its members stay who they are. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_add_to_list(
    list         text,
    email        text DEFAULT NULL,
    phone_number text DEFAULT NULL,
    external_id  text DEFAULT NULL,
    account      text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_add_to_list';
COMMENT ON FUNCTION @extschema@.klaviyo_add_to_list(text, text, text, text, text) IS
    'Queues that a person come onto a list, by its id or its name, whatever the person has agreed to: klaviyo_subscribe() is for consent. Klaviyo is asked first which profile has that email, phone_number or external_id; where none has, the message becomes a dead letter with code no_such_profile. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_remove_from_list(
    list         text,
    email        text DEFAULT NULL,
    phone_number text DEFAULT NULL,
    external_id  text DEFAULT NULL,
    account      text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_remove_from_list';
COMMENT ON FUNCTION @extschema@.klaviyo_remove_from_list(text, text, text, text, text) IS
    'Queues that a person leave a list, by its id or its name, and what the person has agreed to stays as it is: klaviyo_unsubscribe() is for consent. As klaviyo_add_to_list() otherwise. Returns the message_id';

-- Anything else -----------------------------------------------------------------------------------------------------

CREATE FUNCTION @extschema@.klaviyo_call(
    method  text,
    path    text,
    body    jsonb DEFAULT NULL,
    account text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_call';
COMMENT ON FUNCTION @extschema@.klaviyo_call(text, text, jsonb, text) IS
    'Queues any call of Klaviyo''s API: its method, its path with a query as they stand in an address, and its body. It goes in the lane and within the limits of its path; klaviyo_await() tells the answer. Calls of one path go one after the other, and one whose body names one person is in order with all else about that person. Where the answer is lost a GET or DELETE is made again; a POST or PATCH becomes a dead letter with code ambiguous. Returns the message_id';
