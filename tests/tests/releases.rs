//! Releases: their schemas do not change any more, and each is updated to this version's with all that is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use harness::Cluster;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a shop has in its tables, from any release on.
const CONTENT: &str = "
    SELECT klaviyo_set_account('other', private_key_env => 'KLAVIYO_KEY', rate_share => 0.5);
    SELECT klaviyo_set_account(private_key => 'pk_kept_0123456789');
    SELECT klaviyo_arm_account();
    SELECT klaviyo_track_event('Placed Order', 'ada@shop.example', unique_id => 'order-' || n)
    FROM generate_series(1, 50) AS n;
    SELECT klaviyo_upsert_profile('bob@shop.example', first_name => 'Bob');
    SET klaviyo.on_invalid = dead_letter;
    SELECT klaviyo_track_event('Placed Order', 'no address');";

/// One of its events has failed so far.
const FAILED: &str = "
    WITH failed AS (DELETE FROM klaviyo.outbox AS o WHERE o.payload #>> '{event,unique_id}' = 'order-7' RETURNING o.*)
    INSERT INTO klaviyo.retry
        (seq, message_id, account, kind, key, payload, enqueued_at, attempts, strikes, not_before)
    SELECT f.seq, f.message_id, f.account, f.kind, f.key, f.payload, f.enqueued_at, 1, 0, now()
    FROM failed AS f";

/// Whether it is known that its id may have been taken, under the digest that the worker knows it by.
const REMEMBERED: &str = "
    SELECT array_agg(s.digest) = ARRAY[klaviyo.unique_id_digest('default', 'Placed Order', 'order-7')]
    FROM klaviyo.sent_unique_id AS s";

/// Everything a shop would miss.
const KEPT: &str = "
    SELECT 'account', a.name, a.rate_share, a.private_key_env, a.armed_name, k.private_key
    FROM klaviyo.account AS a LEFT JOIN klaviyo.account_key AS k ON k.account = a.name
    UNION ALL
    SELECT 'outbox', o.message_id::text, o.seq, o.kind, o.account, o.payload::text FROM klaviyo.outbox AS o
    UNION ALL
    SELECT 'retry', r.message_id::text, r.seq, r.kind, r.account, r.payload::text FROM klaviyo.retry AS r
    UNION ALL
    SELECT 'dead_letter', d.message_id::text, d.attempts, d.kind, d.code, d.payload::text FROM klaviyo.dead_letter AS d
    ORDER BY 1, 2";

/// What the SQL contract does not show: what functions do, who may what, and comments.
const DETAILS: &str = "
    WITH member AS (
        SELECT 'function' AS kind, p.oid::regprocedure::text AS name, p.prosrc AS source,
               obj_description(p.oid, 'pg_proc') AS comment, coalesce(p.proacl, acldefault('f', p.proowner)) AS acl
        FROM pg_proc AS p
        JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'klaviyo_sync'
        UNION ALL
        SELECT 'relation', c.relname, CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) END,
               obj_description(c.oid, 'pg_class'),
               coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", c.relowner))
        FROM pg_class AS c
        WHERE c.relnamespace = 'klaviyo'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S') AND c.relname !~ '^delivery_[0-9]'
        UNION ALL
        SELECT 'column', c.relname || '.' || a.attname, a.attstattarget::text, col_description(c.oid, a.attnum),
               coalesce(a.attacl, acldefault('c', c.relowner))
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'klaviyo'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'c') AND c.relname !~ '^delivery_[0-9]'
    )
    SELECT m.kind, m.name, m.source, m.comment,
           (SELECT string_agg(format('%s %s', coalesce(nullif(g.grantee, 0)::regrole::text, 'PUBLIC'), g.privilege_type), ', '
                              ORDER BY g.grantee::regrole::text, g.privilege_type)
            FROM aclexplode(m.acl) AS g)
    FROM member AS m
    ORDER BY 1, 2";

/// The install scripts in sql/releases, by version.
fn releases() -> BTreeMap<String, PathBuf> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../sql/releases");
    let files = fs::read_dir(directory).expect("the directory of releases can be read");
    let paths = files.map(|file| file.expect("a file").path());
    paths
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let version = name.strip_prefix("klaviyo_sync--")?.strip_suffix(".sql")?;
            Some((version.to_owned(), path.clone()))
        })
        .collect()
}

/// The schema of a database with the extension, as the SQL contract describes it.
fn schema(cluster: &Cluster, database: &str) -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/regress/sql/schema.sql");
    let queries = fs::read_to_string(file).expect("the queries can be read");
    let queries = queries.replace("CREATE EXTENSION klaviyo_sync;", "");
    let mut psql = cluster.psql_command(database);
    let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql can be run");
    let mut input = psql.stdin.take().expect("a pipe");
    input.write_all(queries.as_bytes()).expect("psql reads");
    drop(input);
    let output = psql.wait_with_output().expect("psql ends");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

/// Panics with what is different in an updated schema.
fn assert_same(updated: &str, fresh: &str, version: &str) {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (updated_lines, fresh_lines) = (lines(updated), lines(fresh));
    let surplus: Vec<_> = updated_lines.difference(&fresh_lines).collect();
    let missing: Vec<_> = fresh_lines.difference(&updated_lines).collect();
    assert!(updated == fresh, "{version}, updated, has {surplus:#?} and lacks {missing:#?}");
}

#[test]
fn a_released_schema_does_not_change() {
    let Some(frozen) = releases().remove(VERSION) else { return };
    let cluster = Cluster::builder().preload(false).start();
    let share = cluster.psql("postgres", "SELECT setting FROM pg_config WHERE name = 'SHAREDIR'");
    let installed = format!("{share}/extension/klaviyo_sync--{VERSION}.sql");
    let text = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let lines = text.lines().filter(|line| !line.starts_with("-- src/lib.rs:"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert!(
        text(&installed) == text(frozen.to_str().expect("a path")),
        "{VERSION} is released: a changed schema needs a new version, an upgrade script in sql, and a line in CHANGELOG.md"
    );
}

#[test]
fn every_release_is_updated_with_all_that_is_in_it() {
    let cluster = Cluster::builder().setting("klaviyo.enabled", "off").start();
    cluster.create_database("fresh");
    cluster.psql("fresh", "CREATE EXTENSION klaviyo_sync");
    let (fresh, details) = (schema(&cluster, "fresh"), cluster.psql("fresh", DETAILS));
    assert!(fresh.contains("klaviyo_track_event"), "{fresh}");
    for version in releases().into_keys().filter(|version| version != VERSION) {
        let database = format!("v{version}");
        cluster.create_database(&database);
        cluster.psql(
            &database,
            &format!("CREATE EXTENSION klaviyo_sync VERSION '{version}'; {CONTENT} {FAILED}"),
        );
        let before = cluster.psql(&database, KEPT);
        assert_eq!(before.lines().count(), 54, "{before}");
        cluster.psql(&database, "ALTER EXTENSION klaviyo_sync UPDATE");
        assert_eq!(cluster.psql(&database, KEPT), before, "what was there in {version}");
        assert_eq!(cluster.psql(&database, REMEMBERED), "t", "what Klaviyo may know in {version}");
        assert_same(&schema(&cluster, &database), &fresh, &version);
        assert_same(&cluster.psql(&database, DETAILS), &details, &version);
        cluster.psql(&database, CONTENT);
    }
}
