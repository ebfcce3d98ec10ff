-- Campaigns: one message to everybody on some lists or in some segments.

CREATE FUNCTION @extschema@.klaviyo_create_campaign(
    name                text,
    included            text[],
    excluded            text[] DEFAULT NULL,
    channel             text DEFAULT 'email',
    content             jsonb DEFAULT NULL,
    send_at             timestamptz DEFAULT NULL,
    recipient_time      boolean DEFAULT false,
    throttle_percentage integer DEFAULT NULL,
    smart_send_on       date DEFAULT NULL,
    smart_sending       boolean DEFAULT NULL,
    tracking_options    jsonb DEFAULT NULL,
    account             text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_create_campaign';
COMMENT ON FUNCTION @extschema@.klaviyo_create_campaign(
    text, text[], text[], text, jsonb, timestamptz, boolean, integer, date, boolean, jsonb, text
) IS
    'Queues that a campaign be made, a draft for the lists and segments with the ids included, but those excluded. content is what its message says, as Klaviyo has it for the channel: of email subject, preview_text, from_email, from_label, reply_to_email, cc_email, bcc_email; of sms body; of mobile_push title, body, dynamic_image, action_buttons. Once sent it goes at once, or at send_at (with recipient_time at that time of UTC in each recipient''s zone, with throttle_percentage to such a part an hour), or on smart_send_on when Klaviyo thinks best. Returns the message_id, by which the campaign can be named from then on';

CREATE FUNCTION @extschema@.klaviyo_assign_template(
    campaign text,
    template text,
    account  text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_assign_template';
COMMENT ON FUNCTION @extschema@.klaviyo_assign_template(text, text, text) IS
    'Queues that the message of a campaign get a copy of a template, by Klaviyo''s id of it. The campaign is named by Klaviyo''s id, or by the message_id of the klaviyo_create_campaign() that makes it. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_estimate_campaign(
    campaign text,
    account  text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_estimate_campaign';
COMMENT ON FUNCTION @extschema@.klaviyo_estimate_campaign(text, text) IS
    'Queues that Klaviyo count to how many people a campaign would go, named as for klaviyo_assign_template(); once counted that is in klaviyo.campaign, and in the answer of klaviyo_await(). Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_send_campaign(
    campaign text,
    account  text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_send_campaign';
COMMENT ON FUNCTION @extschema@.klaviyo_send_campaign(text, text) IS
    'Queues that a campaign be sent, or scheduled, as it was made to be, named as for klaviyo_assign_template(). Only a draft is sent, and never twice: where nobody knows whether it was, it is put aside with code ambiguous for a person to decide. klaviyo.campaign shows how it goes on. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_cancel_campaign(
    campaign text,
    revert   boolean DEFAULT false,
    account  text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_cancel_campaign';
COMMENT ON FUNCTION @extschema@.klaviyo_cancel_campaign(text, boolean, text) IS
    'Queues that a campaign be sent to nobody any more, named as for klaviyo_assign_template(): cancelled for good, or with revert a draft again. A klaviyo_send_campaign() that still waits is discarded. Returns the message_id';
