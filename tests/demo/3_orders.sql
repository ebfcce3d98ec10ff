INSERT INTO users (email, first_name, last_name) VALUES
    ('ada@example.com',   'Ada',   'Byron'),
    ('grace@example.com', 'Grace', 'Hopper'),
    ('edgar@example.com', 'Edgar', 'Codd'),
    ('zoe@example.com',   'Zoë',   'Müller');

INSERT INTO orders (number, user_id, total) VALUES
    ('A-1001', 1,  49.90),
    ('A-1002', 2, 120.00),
    ('A-1003', 3,   9.99);

-- Ada marries.
UPDATE users SET last_name = 'Lovelace' WHERE email = 'ada@example.com';
