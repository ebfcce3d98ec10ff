SELECT klaviyo_sync_profiles(
    'users',
    email       => 'email',
    external_id => 'id',
    first_name  => 'first_name',
    last_name   => 'last_name'
);

-- With the names that Klaviyo's own flows and reports look for, and the items that are inserted after their order.
SELECT klaviyo_sync_metric(
    'orders', 'Placed Order',
    external_id    => 'user_id',
    value          => 'total',
    value_currency => '''EUR''',
    event_time     => 'placed_at',
    properties     => '{"OrderId": "number"}',
    items          => '{"ProductID": "i.sku", "ProductName": "i.name", "Quantity": "i.quantity", "ItemPrice": "i.price"}',
    items_from     => 'order_items AS i WHERE i.number = row.number ORDER BY i.line'
);

SELECT relation, name, kind, state, function FROM klaviyo.sync ORDER BY id;
