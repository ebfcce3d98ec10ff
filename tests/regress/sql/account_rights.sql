-- Guards: what a member of klaviyo_admin may make of an account, by the functions or past them: neither another host, nor a file of the server, nor sending from elsewhere. A superuser's session lends nobody his rights.
CREATE EXTENSION klaviyo_sync;
\pset format unaligned
\pset tuples_only on
\pset null NULL
\set SHOW_CONTEXT never
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state || ': ' || message, '  DETAIL: ' || nullif(detail, ''), '  HINT: ' || nullif(hint, ''));
END
$$;
CREATE VIEW accounts AS
SELECT a.name, a.base_url, a.revision, a.rate_share, a.private_key_file, a.private_key_env, k.private_key, a.armed_name
  FROM klaviyo.account a LEFT JOIN klaviyo.account_key k ON k.account = a.name;
CREATE ROLE account_rights_admin IN ROLE klaviyo_admin;
CREATE ROLE account_rights_filer IN ROLE klaviyo_admin, pg_read_server_files;
CREATE ROLE account_rights_owner;
SET client_min_messages = warning;
-- An account of the superuser's making, for a sandbox: an administrator keeps what it has and is no way to other hosts.
SELECT klaviyo_set_account('sandbox', base_url => 'http://127.0.0.1:9', rate_share => 100, private_key_file => '/etc/klaviyo/sandbox');

-- By the functions.
SET ROLE account_rights_admin;
SELECT try($$SELECT klaviyo_set_account(private_key => 'pk_secret', rate_share => 0.5, revision => '2026-04-15')$$);
SELECT try($$SELECT klaviyo_set_account('sandbox', rate_share => 200)$$);
SELECT try($$SELECT klaviyo_arm_account()$$);
SELECT try($$SELECT klaviyo_set_account(base_url => 'https://evil.com')$$);
SELECT try($$SELECT klaviyo_set_account('new', base_url => 'https://evil.com')$$);
SELECT try($$SELECT klaviyo_set_account('sandbox', base_url => 'http://localhost:9')$$);
SELECT try($$SELECT klaviyo_set_account(private_key_file => '/etc/passwd')$$);
SELECT try($$SELECT klaviyo_set_account('new', private_key_env => 'HOME')$$);
RESET ROLE;
TABLE accounts ORDER BY name;
-- A stored key takes the place of the file that only others may name.
SET ROLE account_rights_admin;
SELECT try($$SELECT klaviyo_set_account('sandbox', private_key => 'pk_sandbox')$$);
-- Who may read files of the server may name one, and no host either.
SET ROLE account_rights_filer;
SELECT try($$SELECT klaviyo_set_account(private_key_file => '/etc/klaviyo/private_key')$$), try($$SELECT klaviyo_set_account('filed', private_key_env => 'KLAVIYO_KEY')$$);
SELECT left(try($$SELECT klaviyo_set_account('filed', base_url => 'https://evil.com')$$), 5);
RESET ROLE;
TABLE accounts ORDER BY name;

-- Past the functions. What he may, he may directly as well; the rules are the table's.
SET ROLE account_rights_admin;
SELECT try($$UPDATE klaviyo.account SET rate_share = 0.25, base_url = base_url, private_key_file = private_key_file, changed_at = now()$$);
SELECT try($$UPDATE klaviyo.account SET base_url = 'https://evil.com'$$);
SELECT try($$UPDATE klaviyo.account SET base_url = (SELECT base_url FROM klaviyo.account WHERE name = 'sandbox') WHERE name = 'default'$$);
SELECT try($$UPDATE klaviyo.account SET base_url = DEFAULT WHERE name = 'sandbox'$$);
SELECT try($$UPDATE klaviyo.account SET private_key_file = '/etc/passwd'$$);
SELECT try($$UPDATE klaviyo.account SET private_key_file = '', private_key_env = NULL$$);
SELECT try($$UPDATE klaviyo.account SET private_key_file = NULL, private_key_env = 'HOME'$$);
SELECT try($$UPDATE klaviyo.account SET armed_system = 1, armed_database = 1, armed_name = 'shop', armed_instance = '' WHERE name = 'default'$$);
SELECT try($$UPDATE klaviyo.account SET armed_instance = 'elsewhere' WHERE name = 'default'$$);
SELECT try($$UPDATE klaviyo.account SET armed_system = NULL WHERE name = 'default'$$);
SELECT try($$UPDATE klaviyo.account AS a SET armed_system = b.armed_system, armed_database = b.armed_database, armed_name = b.armed_name, armed_instance = b.armed_instance FROM klaviyo.account AS b WHERE a.name = 'filed' AND b.name = 'default'$$);
SELECT left(try($$UPDATE klaviyo.account SET rate_share = 2 WHERE name = 'default'$$), 5), left(try($$UPDATE klaviyo.account SET name = 'moved' WHERE name = 'sandbox'$$), 5), left(try($$UPDATE klaviyo.account SET created_at = now()$$), 5);
-- One that exists no more and is made anew has nothing of its former self.
SELECT try($$DELETE FROM klaviyo.account WHERE name = 'sandbox'$$), try($$INSERT INTO klaviyo.account (name) VALUES ('sandbox')$$);
SELECT left(try($$INSERT INTO klaviyo.account (name, base_url) VALUES ('new', 'https://evil.com')$$), 5);
SELECT left(try($$INSERT INTO klaviyo.account (name) VALUES ('default') ON CONFLICT (name) DO UPDATE SET base_url = 'https://evil.com'$$), 5);
RESET ROLE;
TABLE accounts ORDER BY name;

-- Nothing of it ends up in a header: neither key nor revision take a line's end, whichever way.
SET ROLE account_rights_admin;
SELECT left(try(format($$SELECT klaviyo_set_account(private_key => %L)$$, E'pk_1\r\nX-Evil: 1')), 5), left(try(format($$SELECT klaviyo.store_key('default', %L)$$, E'pk_1\r\nX-Evil: 1')), 5), left(try(format($$SELECT klaviyo.store_key('default', %L)$$, E'pk_1\n')), 5);
SELECT left(try(format($$SELECT klaviyo_set_account(revision => %L)$$, E'2026-04-15\r\nX-Evil: 1')), 5), left(try(format($$UPDATE klaviyo.account SET revision = %L$$, E'2026-04-15\r\nX-Evil: 1')), 5);
RESET ROLE;
SELECT left(try(format($$SELECT klaviyo_set_account(base_url => %L)$$, E'https://a.klaviyo.com\r\nX-Evil: 1')), 5), left(try(format($$UPDATE klaviyo.account SET base_url = %L$$, E'https://a.klaviyo.com\r\nX-Evil: 1')), 5);

-- Wider grants do not widen the rules, nor does a session in which triggers are off.
GRANT ALL ON klaviyo.account TO account_rights_admin;
SET ROLE account_rights_admin;
SELECT try($$INSERT INTO klaviyo.account (name, base_url) VALUES ('new', 'https://evil.com')$$);
SELECT left(try($$INSERT INTO klaviyo.account (name, private_key_env) VALUES ('new', 'HOME')$$), 5), left(try($$INSERT INTO klaviyo.account (name, armed_name) VALUES ('new', 'shop')$$), 5), left(try($$ALTER TABLE klaviyo.account DISABLE TRIGGER guard$$), 5);
RESET ROLE;
SET session_replication_role = replica;
SET ROLE account_rights_admin;
SELECT left(try($$UPDATE klaviyo.account SET base_url = 'https://evil.com'$$), 5);
RESET ROLE;
RESET session_replication_role;

-- What a superuser restores stays armed for where it was.
COPY klaviyo.account (name, base_url, private_key_file, armed_system, armed_database, armed_name, armed_instance) FROM stdin;
restored	https://proxy.shop.example	/etc/klaviyo/private_key	42	42	shop	there
\.
SELECT * FROM accounts WHERE name = 'restored';

-- A superuser's session lends nobody his rights: neither to a function of another that he calls, nor to what
-- Postgres runs as another while he refreshes, indexes or analyses.
CREATE FUNCTION redirect(via text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM public.klaviyo_set_account(base_url => 'https://evil.com');
    RETURN true;
END
$$;
ALTER FUNCTION redirect OWNER TO account_rights_admin;
SELECT try($$SELECT redirect('a call')$$);
CREATE MATERIALIZED VIEW trap AS SELECT redirect('a view') WITH NO DATA;
ALTER MATERIALIZED VIEW trap OWNER TO account_rights_admin;
SELECT try('REFRESH MATERIALIZED VIEW trap');
-- Nor does an owner's function lend a stranger more than its owner has.
CREATE FUNCTION store() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ SELECT klaviyo.store_key('default', 'pk_evil') $$;
ALTER FUNCTION store OWNER TO account_rights_owner;
SELECT try('SELECT store()');
SELECT base_url, private_key FROM accounts WHERE name = 'default';

DROP MATERIALIZED VIEW trap;
DROP OWNED BY account_rights_admin, account_rights_filer, account_rights_owner;
DROP ROLE account_rights_admin, account_rights_filer, account_rights_owner;
