SELECT count(*) AS orders FROM orders;

SELECT (SELECT count(*) FROM klaviyo.outbox) AS queued,
       (SELECT count(*) FROM klaviyo.retry) AS to_be_retried,
       (SELECT count(*) FROM klaviyo.dead_letter) AS given_up;

SELECT DISTINCT last_error FROM klaviyo.retry LIMIT 1;
