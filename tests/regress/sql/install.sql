-- The extension installs into an empty database, and its library is there.
CREATE EXTENSION klaviyo_sync;
SELECT e.extname, n.nspname AS schema, e.extrelocatable AS relocatable
  FROM pg_extension e
  JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname = 'klaviyo_sync';
