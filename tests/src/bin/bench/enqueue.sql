-- Five tables of orders, alike but for their triggers. A row carries what every variant needs, so that all insert the
-- same bytes.

CREATE TABLE bench.plain (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email      text NOT NULL,
    properties jsonb NOT NULL,
    key        text[] NOT NULL,
    payload    jsonb NOT NULL
);
CREATE TABLE bench.floor (LIKE bench.plain INCLUDING ALL);
CREATE TABLE bench.row_level (LIKE bench.plain INCLUDING ALL);
CREATE TABLE bench.statement_level (LIKE bench.plain INCLUDING ALL);
CREATE TABLE bench.mapped (LIKE bench.plain INCLUDING ALL);

-- The floor -----------------------------------------------------------------------------------------------------------

CREATE TABLE bench.outbox (LIKE klaviyo.outbox INCLUDING ALL);

CREATE FUNCTION bench.floor() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO bench.outbox (message_id, account, kind, key, payload, enqueued_at)
    VALUES (gen_random_uuid(), 'default', 'event', NEW.key, NEW.payload, now());
    RETURN NULL;
END
$$;

CREATE TRIGGER floor AFTER INSERT ON bench.floor
FOR EACH ROW EXECUTE FUNCTION bench.floor();

-- Ours ----------------------------------------------------------------------------------------------------------------

CREATE FUNCTION bench.row_level() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM klaviyo_track_event('Placed Order', NEW.email, NEW.properties);
    RETURN NULL;
END
$$;

CREATE TRIGGER row_level AFTER INSERT ON bench.row_level
FOR EACH ROW EXECUTE FUNCTION bench.row_level();

CREATE FUNCTION bench.statement_level() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM klaviyo_track_event('Placed Order', n.email, n.properties)
    FROM new_rows AS n;
    RETURN NULL;
END
$$;

CREATE TRIGGER statement_level AFTER INSERT ON bench.statement_level
REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION bench.statement_level();

SELECT klaviyo_sync_events('bench.mapped', 'Placed Order', email => 'email', properties => '"properties"');

-- What is inserted ----------------------------------------------------------------------------------------------------

-- One order with its payload: as klaviyo_track_event lays it down, its note shortened by what jsonb writes in addition
-- (a blank after each colon and comma), so that the floor stores as many bytes.
CREATE TABLE bench.sample AS
SELECT 'customer-1000000@example.com' AS email, p.properties, NULL::text[] AS key, NULL::jsonb AS payload
FROM bench.properties AS p;

SELECT klaviyo_track_event('Placed Order', s.email, s.properties)
FROM bench.sample AS s;

UPDATE bench.sample AS s
SET key = o.key,
    payload = jsonb_set(
        o.payload::jsonb,
        '{event, properties, note}',
        to_jsonb(left(
            s.properties ->> 'note',
            length(s.properties ->> 'note') + length(o.payload::text) - length(o.payload::jsonb::text)
        ))
    )
FROM klaviyo.outbox AS o;

TRUNCATE klaviyo.outbox;

-- Many of them, each another person's.
CREATE TABLE bench.orders AS
SELECT replace(s.email, '1000000', n.n::text) AS email,
       s.properties,
       replace(s.key::text, '1000000', n.n::text)::text[] AS key,
       s.payload
FROM bench.sample AS s, generate_series(1000001, 1000000 + :rows) AS n (n);
