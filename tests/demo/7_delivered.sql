SELECT kind, http_status, count(*) AS messages, max(attempts) AS most_attempts
  FROM klaviyo.delivery
 GROUP BY kind, http_status
 ORDER BY kind, http_status;

-- One of them, as its message_id would tell you.
SELECT r.kind, r.status, r.http_status, r.attempts, r.settled_at - r.enqueued_at AS took
  FROM (SELECT message_id FROM klaviyo.delivery WHERE kind = 'event' ORDER BY seq DESC LIMIT 1) AS d
 CROSS JOIN LATERAL klaviyo_result(d.message_id) AS r;
