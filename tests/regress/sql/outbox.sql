-- Guards: a message is written as a statement of the owner would write it, whatever has been made of the outbox: by a writer who may do nothing else, long and short, with triggers, constraints, further columns and indexes; and for the accounts that the transaction sees.
CREATE EXTENSION klaviyo_sync;
\set VERBOSITY terse
\pset format unaligned
\pset footer off
SET client_min_messages = error;
SELECT klaviyo_set_account(private_key => 'pk_0123456789abcdef0123456789abcdef01');
RESET client_min_messages;
CREATE ROLE outbox_writer;
GRANT klaviyo_writer TO outbox_writer;
CREATE FUNCTION queue(account text DEFAULT 'default', note text DEFAULT 'none') RETURNS text LANGUAGE sql AS $$
    SELECT 'queued' WHERE klaviyo_track_event('Placed Order', 'ada@example.com', jsonb_build_object('note', note), account => account) IS NOT NULL
$$;
CREATE VIEW queued AS
SELECT seq, account, kind, key, payload -> 'event' -> 'properties' ->> 'note' AS note FROM klaviyo.outbox ORDER BY seq;

-- A writer queues and reads nothing.
SET ROLE outbox_writer;
SELECT queue();
SELECT klaviyo_upsert_profile('ada@example.com', first_name => 'Ada') IS NOT NULL AS queued;
TABLE klaviyo.outbox;
SELECT nextval('klaviyo.outbox_seq_seq');
SELECT queue('nobody');
RESET ROLE;
TABLE queued;

-- The index knows what is there; so does who looks in the same transaction, and nobody who looks after a rollback.
BEGIN;
SET LOCAL enable_seqscan = off;
SELECT seq, kind FROM klaviyo.outbox WHERE seq BETWEEN 1 AND 2 ORDER BY seq;
SAVEPOINT before;
SELECT queue(note => 'undone');
SELECT note FROM queued WHERE note = 'undone';
ROLLBACK TO before;
SELECT note FROM queued WHERE note = 'undone';
COMMIT;
DO $$
DECLARE before bigint := (SELECT count(*) FROM klaviyo.outbox);
BEGIN
    PERFORM queue(note => 'seen');
    RAISE NOTICE '% more', (SELECT count(*) FROM klaviyo.outbox) - before;
END
$$;
BEGIN READ ONLY;
SELECT queue();
ROLLBACK;

-- What does not fit into a page.
TRUNCATE klaviyo.outbox;
SET ROLE outbox_writer;
SELECT klaviyo_track_event('Placed Order', 'ada@example.com', jsonb_object_agg('p' || n, repeat(md5(n::text), 50))) IS NOT NULL AS queued
FROM generate_series(1, 300) AS n;
RESET ROLE;
SELECT length(payload::text) > 480000 AS long,
       (SELECT bool_and(p.value = repeat(md5(substr(p.key, 2)), 50)) FROM json_each_text(payload -> 'event' -> 'properties') AS p) AS whole
FROM klaviyo.outbox;

-- Accounts that this transaction has added or removed, and any number of them, whatever their order.
BEGIN;
SET LOCAL client_min_messages = error;
SELECT klaviyo_set_account('mine', private_key => 'pk_0123456789abcdef0123456789abcdef02');
SELECT queue('mine');
DELETE FROM klaviyo.account WHERE name = 'mine';
SELECT queue('mine');
ROLLBACK;
SELECT queue('mine');
SET client_min_messages = error;
SELECT count(klaviyo_set_account(name, private_key => 'pk_0123456789abcdef0123456789abcdef03'))
FROM (SELECT unnest('{A,a,B,b,_,-b,Zz,zZ,a-b,a_b,ab}'::text[]) || n AS name FROM generate_series(1, 50) AS n) AS names;
RESET client_min_messages;
SELECT count(queue(name)), count(*) FROM klaviyo.account;
SELECT count(DISTINCT account) FROM klaviyo.outbox;

-- A trigger of a superuser's: it runs as the owner's statement would have it run, and nothing of that is left.
TRUNCATE klaviyo.outbox;
CREATE TABLE seen (by name, path text, note text);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.payload -> 'event' -> 'properties' ->> 'note' = 'bad' THEN
        RAISE EXCEPTION 'not this one';
    END IF;
    INSERT INTO public.seen VALUES (current_user, current_setting('search_path'), NEW.kind);
    RETURN NEW;
END
$$;
CREATE TRIGGER look BEFORE INSERT ON klaviyo.outbox FOR EACH ROW EXECUTE FUNCTION look();
GRANT EXECUTE ON FUNCTION queue TO outbox_writer;
SET ROLE outbox_writer;
SELECT queue(note => 'good');
DO $$
BEGIN
    PERFORM queue(note => 'bad');
EXCEPTION WHEN raise_exception THEN
    RAISE NOTICE '%: % %', SQLERRM, current_user, current_setting('search_path');
END
$$;
SELECT current_user, current_setting('search_path');
SELECT queue('nobody');
RESET ROLE;
SELECT by = (SELECT rolname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE c.oid = 'klaviyo.outbox'::regclass) AS owner, path, note FROM seen;
DROP TRIGGER look ON klaviyo.outbox;

-- Indexes, constraints and columns of somebody's.
SET ROLE outbox_writer;
SELECT queue();
RESET ROLE;
CREATE INDEX mine ON klaviyo.outbox (account);
SELECT queue(note => 'found');
SET enable_seqscan = off;
SELECT note FROM queued WHERE account = 'default';
RESET enable_seqscan;
DROP INDEX klaviyo.mine;
ALTER TABLE klaviyo.outbox SET UNLOGGED;
SELECT queue(note => 'unlogged');
ALTER TABLE klaviyo.outbox SET LOGGED;
ALTER TABLE klaviyo.outbox ADD CONSTRAINT none_of_these CHECK (payload -> 'event' -> 'properties' ->> 'note' <> 'these');
SET ROLE outbox_writer;
SELECT queue(note => 'these');
SELECT queue(note => 'those');
RESET ROLE;
ALTER TABLE klaviyo.outbox DROP CONSTRAINT none_of_these;
ALTER TABLE klaviyo.outbox ADD COLUMN more text DEFAULT 'filled in';
SET ROLE outbox_writer;
SELECT queue(note => 'more');
RESET ROLE;
SELECT more FROM klaviyo.outbox WHERE payload -> 'event' -> 'properties' ->> 'note' = 'more';
ALTER TABLE klaviyo.outbox DROP COLUMN more;
SELECT queue(note => 'less');
SELECT count(*) FROM queued WHERE note IN ('more', 'less');

-- What is refused is put aside by the same right.
SET klaviyo.on_invalid = 'dead_letter';
SET ROLE outbox_writer;
SELECT queue('nobody');
RESET ROLE;
SELECT account, code FROM klaviyo.dead_letter;

-- Without the table there is an error, not a crash.
ALTER TABLE klaviyo.outbox RENAME TO elsewhere;
SELECT queue();
