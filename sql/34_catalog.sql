-- The catalog, which product blocks and back-in-stock are made of, and coupons' codes.

CREATE FUNCTION @extschema@.klaviyo_upsert_catalog_item(
    external_id         text,
    title               text DEFAULT NULL,
    description         text DEFAULT NULL,
    url                 text DEFAULT NULL,
    price               numeric DEFAULT NULL,
    image_full_url      text DEFAULT NULL,
    image_thumbnail_url text DEFAULT NULL,
    images              text[] DEFAULT NULL,
    categories          text[] DEFAULT NULL,
    custom_metadata     jsonb DEFAULT NULL,
    published           boolean DEFAULT NULL,
    clear               text[] DEFAULT NULL,
    account             text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_upsert_catalog_item';
COMMENT ON FUNCTION @extschema@.klaviyo_upsert_catalog_item(
    text, text, text, text, numeric, text, text, text[], text[], jsonb, boolean, text[], text
) IS
    'Queues that an item of the catalog, by the shop''s own id of it, be made or changed. One that is not there needs a title, a description and a url. NULL leaves a field alone; clear empties price, image_full_url, image_thumbnail_url, images and custom_metadata. categories are those it is in from then on, by the shop''s own ids, which must be there or be queued. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_upsert_catalog_variant(
    external_id         text,
    item                text DEFAULT NULL,
    title               text DEFAULT NULL,
    description         text DEFAULT NULL,
    sku                 text DEFAULT NULL,
    url                 text DEFAULT NULL,
    price               numeric DEFAULT NULL,
    inventory_quantity  numeric DEFAULT NULL,
    inventory_policy    integer DEFAULT NULL,
    image_full_url      text DEFAULT NULL,
    image_thumbnail_url text DEFAULT NULL,
    images              text[] DEFAULT NULL,
    custom_metadata     jsonb DEFAULT NULL,
    published           boolean DEFAULT NULL,
    clear               text[] DEFAULT NULL,
    account             text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_upsert_catalog_variant';
COMMENT ON FUNCTION @extschema@.klaviyo_upsert_catalog_variant(
    text, text, text, text, text, text, numeric, numeric, integer, text, text, text[], jsonb, boolean, text[], text
) IS
    'Queues that a variant of an item be made or changed; with item, in order with what is queued of that. One that is not there needs its item, a title, a description, a sku, a url, a price and an inventory_quantity. inventory_policy is as Klaviyo has it: 0 or 2 show it whatever the quantity, 1 only while there are any. As klaviyo_upsert_catalog_item() otherwise. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_upsert_catalog_category(
    external_id text,
    name        text,
    account     text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_upsert_catalog_category';
COMMENT ON FUNCTION @extschema@.klaviyo_upsert_catalog_category(text, text, text) IS
    'Queues that a category of the catalog, by the shop''s own id of it, be made, or have that name. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_delete_catalog_item(
    external_id text,
    account     text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_delete_catalog_item';
COMMENT ON FUNCTION @extschema@.klaviyo_delete_catalog_item(text, text) IS
    'Queues that an item of the catalog be deleted, and its variants. One that is not there counts as deleted. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_delete_catalog_variant(
    external_id text,
    account     text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_delete_catalog_variant';
COMMENT ON FUNCTION @extschema@.klaviyo_delete_catalog_variant(text, text) IS
    'Queues that a variant be deleted. As klaviyo_delete_catalog_item() otherwise. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_delete_catalog_category(
    external_id text,
    account     text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_delete_catalog_category';
COMMENT ON FUNCTION @extschema@.klaviyo_delete_catalog_category(text, text) IS
    'Queues that a category be deleted; the items in it stay. As klaviyo_delete_catalog_item() otherwise. Returns the message_id';

CREATE FUNCTION @extschema@.klaviyo_create_coupon_code(
    coupon     text,
    code       text,
    expires_at timestamptz DEFAULT NULL,
    account    text DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_create_coupon_code';
COMMENT ON FUNCTION @extschema@.klaviyo_create_coupon_code(text, text, timestamptz, text) IS
    'Queues that a coupon, by Klaviyo''s id of it, have one more code for Klaviyo to give to somebody; without expires_at Klaviyo has it expire in a year. A code that is there already counts as made. Returns the message_id';
