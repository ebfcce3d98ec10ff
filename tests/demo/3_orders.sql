INSERT INTO users (email, first_name, last_name) VALUES
    ('ada@example.com',   'Ada',   'Byron'),
    ('grace@example.com', 'Grace', 'Hopper'),
    ('edgar@example.com', 'Edgar', 'Codd'),
    ('zoe@example.com',   'Zoë',   'Müller');

BEGIN;
INSERT INTO orders (number, user_id, total) VALUES
    ('A-1001', 1,  49.90),
    ('A-1002', 2, 120.00),
    ('A-1003', 3,   9.99);
INSERT INTO order_items VALUES
    ('A-1001', 1, 'TEA', 'Tea',  2,  4.95),
    ('A-1001', 2, 'POT', 'Pot',  1, 40.00),
    ('A-1002', 1, 'SET', 'Set',  1, 120.00),
    ('A-1003', 1, 'CUP', 'Cup',  1,  9.99);
COMMIT;

-- Ada marries. Nothing that is mapped of Grace changes.
UPDATE users SET last_name = 'Lovelace' WHERE email = 'ada@example.com';
UPDATE users SET last_name = 'Hopper' WHERE email = 'grace@example.com';

-- What is sent of an order, to the letter.
SELECT jsonb_pretty(request::jsonb #> '{data,attributes,properties}') AS properties FROM klaviyo_preview('orders', 1);
