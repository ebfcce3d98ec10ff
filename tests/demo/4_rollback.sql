BEGIN;
INSERT INTO orders (number, user_id, total) VALUES ('A-1099', 4, 9999.00);
-- As the end of the transaction would.
SET CONSTRAINTS ALL IMMEDIATE;
SELECT kind, count(*) AS queued FROM klaviyo.outbox GROUP BY kind;
ROLLBACK;
SELECT count(*) AS queued FROM klaviyo.outbox;
