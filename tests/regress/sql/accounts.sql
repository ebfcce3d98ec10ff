-- Guards: what klaviyo_set_account() and klaviyo_arm_account() add, change, leave, refuse, and to whom.
CREATE EXTENSION klaviyo_sync;
\pset format unaligned
\pset tuples_only on
\pset null NULL
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN 'valid';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state || ': ' || message, '  DETAIL: ' || nullif(detail, ''), '  HINT: ' || nullif(hint, ''));
END
$$;
CREATE FUNCTION state(statement text) RETURNS text LANGUAGE sql AS $$ SELECT left(try(statement), 5) $$;
CREATE VIEW accounts AS
SELECT a.name, a.base_url, a.rate_share, a.private_key_file, a.private_key_env, k.private_key, a.armed_system IS NOT NULL AS armed
  FROM klaviyo.account a LEFT JOIN klaviyo.account_key k ON k.account = a.name;

-- Added with defaults; the pinned revision is a date. It says what is still missing.
SELECT klaviyo_set_account();
TABLE accounts;
SELECT revision ~ '^\d{4}-\d\d-\d\d$' FROM klaviyo.account;

-- What is NULL stays as it is.
SELECT klaviyo_set_account(NULL, private_key_file => '/etc/klaviyo/private_key', rate_share => 0.5, revision => '2026-04-15');
SELECT klaviyo_set_account('default', rate_share => 0.25);
TABLE accounts;
SELECT revision FROM klaviyo.account;

-- A key comes from one place; naming another forgets the first.
SELECT klaviyo_set_account(private_key_env => 'KLAVIYO_PRIVATE_KEY');
TABLE accounts;
SELECT klaviyo_set_account(private_key => 'pk_0123456789');
TABLE accounts;
SELECT klaviyo_set_account(private_key => 'pk_9876543210');
SELECT klaviyo_set_account(rate_share => 1);
TABLE accounts;
SELECT klaviyo_set_account(private_key_file => '/etc/klaviyo/private_key');
TABLE accounts;
SELECT try($$SELECT klaviyo_set_account(private_key_file => '/a', private_key_env => 'A')$$);
SELECT state($$SELECT klaviyo_set_account(private_key_file => '/a', private_key => 'pk')$$), state($$SELECT klaviyo_set_account(private_key_env => 'A', private_key => 'pk')$$);
SELECT try($$SELECT klaviyo_set_account(private_key => '')$$);
SET client_min_messages = warning;
SELECT to_json(k), state(format('SELECT klaviyo_set_account(''keys'', private_key => %L)', k)) FROM unnest(ARRAY['pk_1', 'pk 1', ' pk_1', E'pk_1\n', E'pk_1\r\nX-Evil: 1', 'pk_ü']) AS k;
-- A file or variable that can never be there is refused here, not found out by the worker.
SELECT state($$SELECT klaviyo_set_account('keys', private_key_file => '')$$) LIKE 'KS%', state($$SELECT klaviyo_set_account('keys', private_key_env => '')$$) LIKE 'KS%', state($$SELECT klaviyo_set_account('keys', private_key_env => 'A=B')$$) LIKE 'KS%' AS refused;

-- Names.
SELECT try($$SELECT klaviyo_set_account('')$$);
SELECT to_json(n), state(format('SELECT klaviyo_set_account(%L)', n)) FROM unnest(ARRAY['a', 'A.b_c-1', repeat('x', 63), repeat('x', 64), 'a b', 'ü', E'a\n', 'a/b', 'a"b']) AS n;

-- Where Klaviyo answers: https, or http on this machine.
SELECT try($$SELECT klaviyo_set_account('url', base_url => 'http://a.klaviyo.com')$$);
SELECT to_json(u), state(format('SELECT klaviyo_set_account(''url'', base_url => %L)', u))
  FROM unnest(ARRAY['https://a.klaviyo.com', 'https://a.klaviyo.com/', 'https://proxy.shop.example:8443', 'http://localhost', 'http://localhost:8080/', 'http://127.0.0.1:8080', 'http://127.1.2.3', 'http://[::1]:8080']) AS u;
SELECT to_json(u), state(format('SELECT klaviyo_set_account(''url'', base_url => %L)', u))
  FROM unnest(ARRAY['', 'a.klaviyo.com', 'ftp://a.klaviyo.com', 'file:///etc/passwd', 'https://', 'https:///', 'https://a.klaviyo.com/api', 'https://a.klaviyo.com?x', 'https://a.klaviyo.com#x', 'https://user@a.klaviyo.com', 'https://user:password@a.klaviyo.com', 'https://a.klaviyo.com @evil.com', E'https://a.klaviyo.com\n', E'https://a.klaviyo.com\nhttps://evil.com', E'\nhttps://a.klaviyo.com', 'https://a.klaviyo.com\@evil.com',
    'http://127.0.0.1.evil.com', 'http://127.0.0.1:80.evil.com', 'http://localhost.evil.com', 'http://localhostevil.com', 'http://localhost@evil.com', 'http://localhost:80@evil.com', 'http://localhost/@evil.com', 'http://localhost#evil.com', 'http://localhost?evil.com', 'http://localhost\evil.com', 'http://evil.com#localhost', 'http://128.0.0.1', 'http://127.0.0', 'http://127.0.0.1.1', 'http://0.0.0.0', 'http://[::ffff:127.0.0.1]', 'http://[::2]', 'http://10.0.0.1', E'http://localhost\n.evil.com', E'http://localhost\n']) AS u;
-- What no client can reach, or reads otherwise than it looks: a backslash ends the host of an https URL (WHATWG URL Standard).
SELECT to_json(u), state(format('SELECT klaviyo_set_account(''url'', base_url => %L)', u))
  FROM unnest(ARRAY['https://evil.com\.klaviyo.com', 'https://a.klaviyo.com:port', 'https://a.klaviyo.com:99999', 'https://:443', 'https://[', 'http://127.0.0.999', 'http://localhost:99999']) AS u;
-- The table itself holds the line as well.
SELECT state($$UPDATE klaviyo.account SET base_url = 'http://evil.com'$$), state($$UPDATE klaviyo.account SET private_key_file = '/a', private_key_env = 'A'$$), state($$UPDATE klaviyo.account SET rate_share = 'NaN'$$), state($$UPDATE klaviyo.account SET revision = 'latest'$$), state($$INSERT INTO klaviyo.account (name) VALUES ('a b')$$);

-- Revisions are dates.
SELECT try($$SELECT klaviyo_set_account('revision', revision => 'latest')$$);
SELECT to_json(r), state(format('SELECT klaviyo_set_account(''revision'', revision => %L)', r)) FROM unnest(ARRAY['2026-04-15', '2026-4-15', '2026-04-15.pre', E'2026-04-15\r\nX-Evil: 1', '', '2026-13-45']) AS r;

-- Shares: of Klaviyo's limits no more than all, of a sandbox' as much as one likes.
SELECT try($$SELECT klaviyo_set_account('share', rate_share => 1.5)$$);
SELECT s, state(format('SELECT klaviyo_set_account(''share'', rate_share => %L)', s)) FROM unnest(ARRAY['1', '0.001', '1e-300', '0', '-1', '1.0000001', 'Infinity', '-Infinity', 'NaN']) AS s;
SELECT s, state(format('SELECT klaviyo_set_account(''share'', base_url => ''http://localhost:1'', rate_share => %L)', s)) FROM unnest(ARRAY['1.5', '1e9', '1.1e9', 'Infinity', 'NaN']) AS s;
SELECT name, base_url, rate_share FROM accounts WHERE name = 'share';
SELECT state($$SELECT klaviyo_set_account('share', rate_share => 2)$$), state($$SELECT klaviyo_set_account('share', base_url => 'https://a.klaviyo.com', rate_share => 2)$$);
-- It does not survive the move to Klaviyo.
SELECT klaviyo_set_account('share', base_url => 'https://a.klaviyo.com');
SELECT name, base_url, rate_share FROM accounts WHERE name = 'share';
RESET client_min_messages;

-- Stale events: NULL leaves it, 0 switches it off.
SET client_min_messages = warning;
SELECT klaviyo_set_account('stale', stale_after => '1 day'), klaviyo_set_account('stale', stale_action => 'dead_letter');
SELECT stale_after, stale_action FROM klaviyo.account WHERE name = 'stale';
SELECT klaviyo_set_account('stale', stale_after => '0');
SELECT stale_after, stale_action FROM klaviyo.account WHERE name = 'stale';
SELECT try($$SELECT klaviyo_set_account('stale', stale_after => '-1 day')$$);
SELECT try($$SELECT klaviyo_set_account('stale', stale_action => 'drop')$$);
RESET client_min_messages;

-- A refused call changes nothing.
SELECT try($$SELECT klaviyo_set_account('new', rate_share => 2)$$) LIKE 'KS025%';
SELECT count(*) FROM klaviyo.account WHERE name = 'new';

-- Arming: this cluster, this database. An account that is armed has nothing to be told of.
SELECT try($$SELECT klaviyo_arm_account('nowhere')$$);
SELECT klaviyo_arm_account();
SELECT a.armed_system = c.system_identifier AND a.armed_database = d.oid AND a.armed_name = current_database() AND a.armed_instance = '' AND a.changed_at > a.created_at AS armed
  FROM klaviyo.account a, pg_control_system() c, pg_database d
 WHERE a.name = 'default' AND d.datname = current_database();
SELECT klaviyo_set_account(rate_share => 0.5);
-- Changing it leaves it armed.
SELECT armed FROM accounts WHERE name = 'default';
-- NULL is the account "default" everywhere.
SELECT try($$SELECT klaviyo_arm_account(NULL)$$);
