-- Purchases: what Klaviyo's own integrations make of an order, out of events.

CREATE FUNCTION klaviyo.refuse_message(kind text, account text, code text, message text, detail text, hint text, given jsonb)
RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'klaviyo_refuse_message';
COMMENT ON FUNCTION klaviyo.refuse_message(text, text, text, text, text, text, jsonb) IS
    'Refuses a message, for a reason by its code: raises an error, or, where klaviyo.on_invalid is dead_letter, writes one with what was given and returns its message_id';

-- Takes: an item as a shop knows it. Returns: as Klaviyo names it, what else it has as it is.
CREATE FUNCTION klaviyo.purchased_item(item jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (item - ARRAY['product_id', 'sku', 'name', 'quantity', 'price', 'row_total', 'url', 'image_url', 'categories', 'brand'])
        || jsonb_strip_nulls(jsonb_build_object(
            'ProductID', item -> 'product_id',
            'SKU', item -> 'sku',
            'ProductName', item -> 'name',
            'Quantity', coalesce(nullif(item -> 'quantity', 'null'), '1'),
            'ItemPrice', item -> 'price',
            'RowTotal', coalesce(nullif(item -> 'row_total', 'null'), to_jsonb((item ->> 'price')::numeric * coalesce((item ->> 'quantity')::numeric, 1))),
            'ProductURL', item -> 'url',
            'ImageURL', item -> 'image_url',
            'Categories', item -> 'categories',
            'Brand', item -> 'brand'
        ))
$$;
COMMENT ON FUNCTION klaviyo.purchased_item(jsonb) IS
    'An item of klaviyo_track_purchase() under the names that Klaviyo''s templates use';

-- Takes: the items of a purchase. Returns: what is wrong with them; NULL where nothing is.
CREATE FUNCTION klaviyo.items_fault(items jsonb) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN jsonb_typeof(items) <> 'array' THEN 'It is not an array.'
        ELSE (
            SELECT format(
                'Item %s %s.', i.number,
                CASE
                    WHEN jsonb_typeof(i.item) <> 'object' THEN 'is not an object'
                    WHEN coalesce(i.item ->> 'product_id', '') = '' THEN 'has no product_id'
                    WHEN jsonb_typeof(i.item -> 'product_id') NOT IN ('string', 'number') THEN 'has a product_id that is neither text nor a number'
                    ELSE format('has a %s that is not a number', wrong.name)
                END
            )
            FROM jsonb_array_elements(CASE jsonb_typeof(items) WHEN 'array' THEN items ELSE '[]' END) WITH ORDINALITY AS i (item, number)
            LEFT JOIN LATERAL (
                SELECT n.name
                FROM unnest(ARRAY['quantity', 'price', 'row_total']) AS n (name)
                WHERE jsonb_typeof(i.item) = 'object' AND jsonb_typeof(i.item -> n.name) NOT IN ('number', 'null')
                LIMIT 1
            ) AS wrong ON true
            WHERE jsonb_typeof(i.item) <> 'object'
               OR coalesce(i.item ->> 'product_id', '') = ''
               OR jsonb_typeof(i.item -> 'product_id') NOT IN ('string', 'number')
               OR wrong.name IS NOT NULL
            ORDER BY i.number
            LIMIT 1
        )
    END
$$;
COMMENT ON FUNCTION klaviyo.items_fault(jsonb) IS 'What is wrong with the items of klaviyo_track_purchase(), if anything is';

-- Takes: items under Klaviyo's names, and a name. Returns: what they have under it, each once; what is an array by its elements.
CREATE FUNCTION klaviyo.of_items(items jsonb, name text) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_agg(DISTINCT v.value)
    FROM jsonb_array_elements(items) AS i
    CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(i -> name) WHEN 'array' THEN i -> name ELSE jsonb_build_array(i -> name) END) AS v
    WHERE i ? name
$$;
COMMENT ON FUNCTION klaviyo.of_items(jsonb, text) IS 'What the items of a purchase have under a name, each value once';

-- Takes: an order's or a product's id. Returns: what stands for it between underscores, of which it then has none.
CREATE FUNCTION klaviyo.id_part(id text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT replace(replace(id, '%', '%25'), '_', '%5F')
$$;
COMMENT ON FUNCTION klaviyo.id_part(text) IS 'An id as a part of a unique_id whose parts are joined by underscores, so that no two purchases come to the same';

-- Takes: an order. Returns: the message_id of Placed Order. Queues that, and then an Ordered Product for each item. Each has
-- a unique_id by which Klaviyo knows it again, so a purchase that is queued twice counts once: order_id, and order_id with
-- product_id, which is numbered where a product stands in several items.
CREATE FUNCTION @extschema@.klaviyo_track_purchase(
    email          text DEFAULT NULL,
    order_id       text DEFAULT NULL,
    total          numeric DEFAULT NULL,
    items          jsonb DEFAULT NULL,
    currency       text DEFAULT NULL,
    discount_code  text DEFAULT NULL,
    discount_value numeric DEFAULT NULL,
    properties     jsonb DEFAULT NULL,
    event_time     timestamptz DEFAULT NULL,
    phone_number   text DEFAULT NULL,
    external_id    text DEFAULT NULL,
    profile        jsonb DEFAULT NULL,
    account        text DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fault     text;
    purchased jsonb;
    of_order  jsonb;
    placed    uuid;
    item      record;
BEGIN
    IF coalesce(btrim(order_id), '') = '' THEN
        RETURN klaviyo.refuse_message(
            'event', account, 'invalid_order_id', 'argument "order_id" is not an order''s', 'It is NULL or blank.',
            'Pass the primary key of the order''s row, as text: by it Klaviyo knows the order again.',
            jsonb_strip_nulls(jsonb_build_object('email', email, 'phone_number', phone_number, 'external_id', external_id, 'total', total, 'items', items))
        );
    END IF;
    fault := klaviyo.items_fault(items);
    IF fault IS NOT NULL THEN
        RETURN klaviyo.refuse_message(
            'event', account, 'invalid_items', 'argument "items" is not a list of items', fault,
            'Pass an array of objects such as {"product_id": "A1", "name": "Shirt", "quantity": 2, "price": 19.90}.',
            jsonb_strip_nulls(jsonb_build_object('email', email, 'phone_number', phone_number, 'external_id', external_id, 'order_id', order_id, 'total', total, 'items', items))
        );
    END IF;
    SELECT coalesce(jsonb_agg(klaviyo.purchased_item(i.item) ORDER BY i.number), '[]')
    INTO purchased
    FROM jsonb_array_elements(coalesce(items, '[]')) WITH ORDINALITY AS i (item, number);

    of_order := jsonb_strip_nulls(jsonb_build_object(
        'OrderId', order_id,
        'DiscountCode', discount_code,
        'DiscountValue', discount_value,
        'ItemNames', klaviyo.of_items(purchased, 'ProductName'),
        'Categories', klaviyo.of_items(purchased, 'Categories'),
        'Brands', klaviyo.of_items(purchased, 'Brand')
    )) || jsonb_build_object('Items', purchased) || coalesce(properties, '{}');
    placed := @extschema@.klaviyo_track_event(
        'Placed Order', email, properties => of_order, value => total, value_currency => currency, unique_id => order_id,
        event_time => event_time, phone_number => phone_number, external_id => external_id, profile => profile, account => account
    );
    FOR item IN
        SELECT i.item, i.item ->> 'ProductID' AS product_id,
               row_number() OVER (PARTITION BY i.item ->> 'ProductID' ORDER BY i.number) AS nth
        FROM jsonb_array_elements(purchased) WITH ORDINALITY AS i (item, number)
        ORDER BY i.number
    LOOP
        PERFORM @extschema@.klaviyo_track_event(
            'Ordered Product', email,
            properties => (item.item - 'Brand') || jsonb_strip_nulls(jsonb_build_object('OrderId', order_id, 'ProductBrand', item.item -> 'Brand')),
            value => (item.item ->> 'RowTotal')::numeric, value_currency => currency,
            unique_id => concat_ws('_', klaviyo.id_part(order_id), klaviyo.id_part(item.product_id), nullif(item.nth, 1)), event_time => event_time,
            phone_number => phone_number, external_id => external_id, account => account
        );
    END LOOP;
    RETURN placed;
END
$$;
COMMENT ON FUNCTION @extschema@.klaviyo_track_purchase(text, text, numeric, jsonb, text, text, numeric, jsonb, timestamptz, text, text, jsonb, text) IS
    'Queues an order as Klaviyo''s own integrations tell of it: an event Placed Order, worth total, and for each item one Ordered Product, worth price times quantity or its row_total. items is an array of objects with product_id, sku, name, quantity, price, row_total, url, image_url, categories, brand, of which product_id alone must be there, and whatever else; properties are added to those of Placed Order. A purchase that is queued again under its order_id counts once. Returns the message_id of Placed Order';
