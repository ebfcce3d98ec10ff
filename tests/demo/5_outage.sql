BEGIN;
INSERT INTO orders (number, user_id, total)
SELECT 'A-' || n, 1 + n % 4, 10 + n % 7 * 3.35
  FROM generate_series(1101, 1112) AS n;
INSERT INTO order_items
SELECT o.number, 1, 'CUP', 'Cup', 1, o.total
  FROM orders AS o
 WHERE o.number >= 'A-1101';
COMMIT;

UPDATE users SET email = 'zoe@example.org' WHERE email = 'zoe@example.com';
