-- Guards: what klaviyo_upsert_profile() lays down in the outbox.
CREATE EXTENSION klaviyo_sync;
\pset format unaligned
\pset null NULL
SET client_min_messages = warning;
SELECT klaviyo_set_account(), klaviyo_set_account('other');
RESET client_min_messages;
\pset fieldsep ' | '
\pset footer off

-- As one writes it in psql.
SELECT klaviyo_upsert_profile('Ada@Shop.Example') AS message_id \gset
SELECT klaviyo_upsert_profile('ada@shop.example', '+15005550006', 'u-1', 'Ada', 'Lovelace') IS NOT NULL AS queued;
SELECT klaviyo_upsert_profile(external_id => 'u-1', properties => '{"plan": "gold", "gone": null}') IS NOT NULL AS queued;
SELECT klaviyo_upsert_profile(
    email        => 'ada@shop.example',
    phone_number => '+15005550006',
    external_id  => 'u-1',
    first_name   => 'Ada "A" Lovelace',
    last_name    => E'O''Neil\n😀',
    organization => 'Analytical Engines',
    title        => '',
    locale       => 'en-GB',
    image        => 'https://shop.example/ada.png',
    location     => '{"address1": "1 Main St", "address2": null, "city": "London", "region": "", "zip": "N1", "country": "UK", "timezone": "Europe/London", "ip": "127.0.0.1", "latitude": 51.50, "longitude": "-0.12"}',
    properties   => '{"n": 12345678901234567890.10, "nested": {"a": [1, null, {}]}}',
    account      => 'other'
) IS NOT NULL AS queued;
SELECT kind, account, key, payload FROM klaviyo.outbox ORDER BY seq;
SELECT count(*) FROM klaviyo.outbox WHERE message_id = :'message_id';
TRUNCATE klaviyo.outbox;

-- NULL is absent and leaves a field at Klaviyo as it is; clear empties one.
SELECT klaviyo_upsert_profile('ada@shop.example', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) IS NOT NULL AS queued;
SELECT klaviyo_upsert_profile('ada@shop.example', clear => '{}') IS NOT NULL AS queued;
SELECT klaviyo_upsert_profile('ada@shop.example', first_name => 'Ada', clear => '{title,last_name}') IS NOT NULL AS queued;
SELECT klaviyo_upsert_profile('ada@shop.example', clear => '{first_name,last_name,organization,title,locale,image}') IS NOT NULL AS queued;
SELECT payload FROM klaviyo.outbox ORDER BY seq;
TRUNCATE klaviyo.outbox;

-- An empty location or no properties are what they are.
SELECT klaviyo_upsert_profile('ada@shop.example', location => '{}', properties => '{}') IS NOT NULL AS queued;
SELECT payload FROM klaviyo.outbox;
TRUNCATE klaviyo.outbox;

-- Nothing of what is rolled back stays.
BEGIN;
SELECT klaviyo_upsert_profile('kept@shop.example') IS NOT NULL AS queued;
SAVEPOINT s;
SELECT klaviyo_upsert_profile('undone@shop.example') IS NOT NULL AS queued;
ROLLBACK TO s;
COMMIT;
SELECT key FROM klaviyo.outbox;

-- From a trigger.
CREATE TABLE users (id bigint PRIMARY KEY, email text, name text);
CREATE FUNCTION user_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM klaviyo_upsert_profile(NEW.email, external_id => NEW.id::text, first_name => NEW.name);
    RETURN NULL;
END
$$;
CREATE TRIGGER user_changed AFTER INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION user_changed();
INSERT INTO users VALUES (1, 'bob@shop.example', 'Bob');
UPDATE users SET name = 'Robert', email = NULL;
SELECT key, payload FROM klaviyo.outbox ORDER BY seq DESC LIMIT 2;
