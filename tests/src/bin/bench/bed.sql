-- What every measurement begins with: an order, as its event's properties have it.

CREATE SCHEMA bench;

CREATE TABLE bench.properties (properties jsonb NOT NULL);

-- "note" is what other payloads are shortened in, to make them as many bytes.
INSERT INTO bench.properties
SELECT jsonb_build_object(
    'order_id', 'A-2026-000123',
    'total', 119.90,
    'currency', 'EUR',
    'items', jsonb_build_array(
        jsonb_build_object('sku', 'SHIRT-M-BLUE', 'name', 'Shirt, blue, M', 'quantity', 2, 'price', 29.95),
        jsonb_build_object('sku', 'TROUSERS-32', 'name', 'Trousers, 32/34', 'quantity', 1, 'price', 60.00)
    ),
    'shipping', jsonb_build_object('method', 'standard', 'country', 'DE'),
    'note', repeat('x', 80)
);

ANALYZE bench.properties;
