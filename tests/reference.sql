-- Prints docs/reference.md. What it says is in the catalogue: comments, signatures, settings, rights; so a thing that has
-- no comment shows here as a thing without words.

-- Helpers ------------------------------------------------------------------------------------------------------------

-- The functions, tables and views to be told of. A partition is its table's.
CREATE TEMP VIEW our_function AS
SELECT p.*, p.pronamespace = 'klaviyo'::regnamespace AS is_helper
  FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'klaviyo_sync';

CREATE TEMP VIEW our_relation AS
SELECT c.*, CASE WHEN c.relkind = 'S' THEN 'sequence' WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'table' END AS kind
  FROM pg_class c
 WHERE c.relnamespace = 'klaviyo'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND NOT c.relispartition;

CREATE TEMP VIEW our_type AS
SELECT t.*
  FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid
 WHERE t.typnamespace = 'klaviyo'::regnamespace AND c.relkind = 'c';

CREATE TEMP VIEW our_role AS
SELECT r.oid, r.rolname FROM pg_roles r WHERE r.rolname LIKE 'klaviyo\_%';

CREATE TEMP VIEW grantee AS SELECT r.rolname::text AS role FROM pg_temp.our_role r UNION ALL SELECT 'public';

CREATE FUNCTION pg_temp.cell(text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(replace(replace($1, '|', '\|'), E'\n', ' '), '')
$$;

CREATE FUNCTION pg_temp.code(text) RETURNS text LANGUAGE sql AS $$ SELECT '`' || nullif($1, '') || '`' $$;

-- A default as one would write it.
CREATE FUNCTION pg_temp.plain(expression text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace($1, '^(NULL|''.*'')::.*$', '\1')
$$;

-- The roles that may call a function, by name.
CREATE FUNCTION pg_temp.callers(function oid) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(pg_temp.code(r.rolname), ', ' ORDER BY r.rolname), 'its owner alone')
      FROM pg_temp.our_role r
     WHERE has_function_privilege(r.oid, $1, 'EXECUTE')
$$;

-- What a role may do with a relation; of which columns, where it is not all of them.
CREATE FUNCTION pg_temp.rights(role text, relation oid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(held.privilege || coalesce(' (' || held.columns || ')', ''), ', ' ORDER BY held.position)
      FROM (
            SELECT w.privilege, w.position,
                   CASE WHEN NOT has_table_privilege($1, $2, w.privilege) THEN
                       (SELECT string_agg(a.attname, ', ' ORDER BY a.attnum)
                          FROM pg_attribute a
                         WHERE a.attrelid = $2 AND a.attnum > 0 AND NOT a.attisdropped AND w.of_columns
                           AND CASE WHEN w.of_columns THEN has_column_privilege($1, $2, a.attnum, w.privilege) END) END AS columns
              FROM (VALUES ('SELECT', 1, true), ('INSERT', 2, true), ('UPDATE', 3, true), ('DELETE', 4, false),
                           ('TRUNCATE', 5, false), ('REFERENCES', 6, true), ('TRIGGER', 7, false)) AS w (privilege, position, of_columns)
           ) AS held
     WHERE held.columns IS NOT NULL OR has_table_privilege($1, $2, held.privilege)
$$;

CREATE FUNCTION pg_temp.signature(function oid) RETURNS text LANGUAGE sql AS $$
    SELECT p.proname || '('
           || coalesce(E'\n' || string_agg(
                  '    ' || quote_ident(a.name) || ' ' || a.type::regtype || coalesce(' DEFAULT ' || pg_temp.plain(pg_get_function_arg_default(p.oid, a.position::int)), ''),
                  E',\n' ORDER BY a.position) || E'\n', '')
           || ') RETURNS ' || pg_get_function_result(p.oid)
      FROM pg_proc p LEFT JOIN unnest(p.proargtypes::oid[], p.proargnames[1:p.pronargs]) WITH ORDINALITY AS a (type, name, position) ON a.type IS NOT NULL
     WHERE p.oid = $1
     GROUP BY p.oid, p.proname
$$;

-- The text -----------------------------------------------------------------------------------------------------------

\echo '# Reference'
\echo
\echo 'Made by `make docs` from the catalogue of a server with the extension; do not edit it.'
\echo
\echo '- [Functions](#functions)'
\echo '- [Health checks](#health-checks)'
\echo '- [Settings](#settings)'
\echo '- [Tables and views](#tables-and-views)'
\echo '- [Types](#types)'
\echo '- [Roles](#roles) and [who may what](#who-may-what)'
\echo '- [Errors](#errors)'
\echo '- [Helpers](#helpers)'
\echo
\echo '## Functions'
\echo
\echo 'They stand in the schema the extension is installed into. NULL means absent.'
SELECT format(E'\n### %s\n\n```sql\n%s\n```\n\n%s.\n\nMay be called by %s.', f.proname, pg_temp.signature(f.oid), obj_description(f.oid, 'pg_proc'), pg_temp.callers(f.oid))
  FROM pg_temp.our_function f
 WHERE NOT f.is_helper
 ORDER BY f.proname COLLATE "C";

\echo
\echo '## Health checks'
\echo
\echo 'What `klaviyo_health()` looks at; a lane is an endpoint of Klaviyo''s.'
\echo
\echo '| checks | |'
\echo '|---|---|'
-- Each of these functions is a chain of SELECTs whose first column is the check's name.
SELECT format('| %s | %s |', string_agg(pg_temp.code(trim(n.name[1]) || CASE WHEN n.name[2] <> ',' THEN ' …' ELSE '' END), ', ' ORDER BY n.position), pg_temp.cell(regexp_replace(obj_description(f.oid, 'pg_proc'), '^The checks of klaviyo_health\(\) that are ', '')))
  FROM pg_temp.our_function f, regexp_matches(f.prosrc, 'SELECT ''([a-z_ ]+)''\s*(,|\|\|)', 'g') WITH ORDINALITY AS n (name, position)
 WHERE f.is_helper AND pg_get_function_result(f.oid) = 'SETOF klaviyo.health'
 GROUP BY f.oid
 ORDER BY f.oid;

\echo
\echo '## Settings'
\echo
\echo '| setting | type | default | values | changed by | what |'
\echo '|---|---|---|---|---|---|'
SELECT format('| `%s` | %s | %s | %s | %s | %s |',
           s.name,
           s.vartype || coalesce(', ' || s.unit, ''),
           pg_temp.code(current_setting(s.name)),
           CASE WHEN s.vartype = 'enum' THEN (SELECT string_agg(pg_temp.code(v), ', ') FROM unnest(s.enumvals) AS v)
                WHEN s.min_val IS NOT NULL THEN s.min_val || ' to ' || s.max_val END,
           CASE s.context WHEN 'postmaster' THEN 'restart' WHEN 'sighup' THEN 'reload' WHEN 'user' THEN 'anybody, `SET`' ELSE s.context END,
           pg_temp.cell(concat_ws(' ', s.short_desc, s.extra_desc)))
  FROM pg_settings s
 WHERE s.name LIKE 'klaviyo.%'
 ORDER BY s.name;

\echo
\echo '## Tables and views'
\echo
\echo 'They stand in schema `klaviyo`. The extension''s functions and its worker write to them, and nobody else; but'
\echo '`klaviyo_admin` may change `klaviyo.account` directly as well, by the same rules.'
SELECT format(E'\n### klaviyo.%s%s\n\n%s.\n\n| column | type | |\n|---|---|---|\n%s', r.relname, CASE r.kind WHEN 'view' THEN ' (view)' END, obj_description(r.oid, 'pg_class'),
           (SELECT string_agg(
                       format('| `%s` | %s | %s |', a.attname,
                              pg_temp.cell(format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull AND r.kind = 'table' THEN ', not null' ELSE '' END),
                              pg_temp.cell(col_description(r.oid, a.attnum))),
                       E'\n' ORDER BY a.attnum)
              FROM pg_attribute a WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped))
  FROM pg_temp.our_relation r
 WHERE r.kind <> 'sequence'
 ORDER BY r.relname COLLATE "C";

\echo
\echo '## Types'
SELECT format(E'\n### klaviyo.%s\n\n%s.\n\n| field | type |\n|---|---|\n%s', t.typname, obj_description(t.oid, 'pg_type'),
           (SELECT string_agg(format('| `%s` | %s |', a.attname, format_type(a.atttypid, a.atttypmod)), E'\n' ORDER BY a.attnum)
              FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
  FROM pg_temp.our_type t
 ORDER BY t.typname COLLATE "C";

\echo
\echo '## Roles'
\echo
\echo '`CREATE EXTENSION` makes them where the cluster does not have them; they cannot log in. Roles are the cluster''s:'
\echo 'who is a member in one database is one in all, and `DROP EXTENSION` leaves them, without their rights. `DROP ROLE`'
\echo 'removes them when no database has the extension any more. A role of such a name that has an attribute of its own,'
\echo '`LOGIN` or `SUPERUSER` for instance, is refused; members that one already has are named in a warning.'
\echo
\echo '| role | |'
\echo '|---|---|'
SELECT format('| `%s` | %s |', r.rolname, pg_temp.cell(regexp_replace(shobj_description(r.oid, 'pg_authid'), '^klaviyo_sync: ', ''))) FROM pg_temp.our_role r ORDER BY r.rolname;
\echo
\echo '`klaviyo_reader` sees customers'' data: addresses, orders, and what else is queued. `klaviyo_admin` decides which account'
\echo 'of Klaviyo''s, by its key, gets them; to which host they go only a superuser decides, and files and variables of the'
\echo 'server with a key in them are named by superusers and members of `pg_read_server_files`. A stored key is shown to'
\echo 'nobody, not even to members of `pg_read_all_data`, who read everything else. Grant no role `pg_write_all_data` that'
\echo 'is not to queue what it likes.'
\echo
\echo '## Who may what'
\echo
\echo 'Beside the owner, a superuser. Nothing is granted to `PUBLIC`; what has no mark is nobody else''s. A role needs no right'
\echo 'on schema `klaviyo` to call the functions, and none at all to write to a table whose trigger calls them, where the owner of'
\echo 'the trigger''s `SECURITY DEFINER` function has it.'
\echo
SELECT format(E'| | %s |\n|---%s|', string_agg(pg_temp.code(w.role), ' | ' ORDER BY w.role), repeat('|---', count(*)::int))
  FROM pg_temp.grantee w;
SELECT format('| %s | %s |', regexp_replace(o.object, '[a-z_.]+(\(\))?$', '`\&`'), string_agg(pg_temp.cell(o.rights), ' | ' ORDER BY o.role))
  FROM (
        SELECT 1 AS part, 'schema klaviyo' AS object, w.role,
               CASE WHEN has_schema_privilege(w.role, 'klaviyo', 'CREATE') THEN 'CREATE, ' ELSE '' END || CASE WHEN has_schema_privilege(w.role, 'klaviyo', 'USAGE') THEN 'USAGE' ELSE '' END AS rights
          FROM pg_temp.grantee w
        UNION ALL
        SELECT CASE WHEN f.is_helper THEN 5 ELSE 2 END, f.oid::regproc || '()', w.role, CASE WHEN has_function_privilege(w.role, f.oid, 'EXECUTE') THEN 'EXECUTE' END
          FROM pg_temp.our_function f, pg_temp.grantee w
        UNION ALL
        SELECT 3, r.oid::regclass::text, w.role,
               CASE WHEN r.kind <> 'sequence' THEN pg_temp.rights(w.role, r.oid)
                    WHEN has_sequence_privilege(w.role, r.oid, 'USAGE, SELECT, UPDATE') THEN 'USAGE, SELECT or UPDATE' END
          FROM pg_temp.our_relation r, pg_temp.grantee w
        UNION ALL
        SELECT 4, 'type ' || t.oid::regtype, w.role, CASE WHEN has_type_privilege(w.role, t.oid, 'USAGE') THEN 'USAGE' END
          FROM pg_temp.our_type t, pg_temp.grantee w
       ) AS o
 GROUP BY o.part, o.object
 ORDER BY o.part, o.object COLLATE "C";

\echo
\echo '## Kinds of message'
\echo
\echo 'Which calls of Klaviyo''s API bring them, and what becomes of one where the answer to such a call is lost, so that nobody knows'
\echo 'whether Klaviyo has done what it was asked.'
\echo
\echo '| kind | calls | a lost answer |'
\echo '|---|---|---|'
SELECT format('| `%s` | %s | %s |', k.kind, k.calls, k.lost)
  FROM json_to_recordset(:'kinds') AS k (kind text, calls text, lost text);

\echo
\echo '## Errors'
\echo
\echo 'Their SQLSTATEs are of class `KS`. Each comes with a DETAIL and a HINT. Those of messages that Klaviyo would never take'
\echo 'are also the `code` of a dead letter, with `klaviyo.on_invalid = dead_letter`.'
\echo
\echo '| SQLSTATE | | from |'
\echo '|---|---|---|'
SELECT format('| `%s` | %s | %s |', e.sqlstate, string_agg(DISTINCT e.what, '; '), string_agg(DISTINCT e.source, ', '))
  FROM (
        SELECT f.sqlstate, pg_temp.code(f.code), 'queueing'
          FROM json_to_recordset(:'faults') AS f (sqlstate text, code text)
        UNION ALL
        SELECT r.sqlstate, pg_temp.cell(r.what), r.source
          FROM json_to_recordset(:'refusals') AS r (sqlstate text, what text, source text)
        UNION ALL
        SELECT m.found[2], pg_temp.cell(replace(replace(m.found[1], '''''', ''''), '%', '…')), pg_temp.code(f.oid::regproc || '()')
          FROM pg_temp.our_function f,
               regexp_matches(f.prosrc, 'RAISE EXCEPTION ''((?:[^'']|'''')*)''[^;]*?ERRCODE = ''(KS\d+)''', 'g') AS m (found)
       ) AS e (sqlstate, what, source)
 GROUP BY e.sqlstate
 ORDER BY e.sqlstate;

\echo
\echo '## Helpers'
\echo
\echo 'Functions of schema `klaviyo` that the others are made of; they may change with any version.'
\echo
\echo '| function | |'
\echo '|---|---|'
SELECT format('| `%s` | %s |', f.oid::regprocedure, pg_temp.cell(obj_description(f.oid, 'pg_proc')))
  FROM pg_temp.our_function f
 WHERE f.is_helper
 ORDER BY f.oid::regprocedure::text COLLATE "C";
