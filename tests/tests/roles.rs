//! Roles are the cluster's, rights the database's: how both come to be, and what a dump makes of them.

use std::io::Write;
use std::process::Stdio;
use std::thread;

use harness::{Cluster, explain};

fn cluster() -> Cluster {
    Cluster::builder().preload(false).own_identity().start()
}

/// A database with the extension.
fn create(cluster: &Cluster, name: &str) {
    cluster.create_database(name);
    cluster.psql(name, "CREATE EXTENSION klaviyo_sync");
}

/// What `pg_dump` makes of a database, without its comments.
fn dump(cluster: &Cluster, database: &str) -> String {
    let mut pg_dump = cluster.bin().command("pg_dump");
    pg_dump.args(["-U", "postgres", "-h"]).arg(cluster.socket_directory());
    let output =
        pg_dump.args(["-p", &cluster.port().to_string(), database]).output().expect("pg_dump can be run");
    assert!(output.status.success(), "pg_dump failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("the dump is UTF-8");
    text.lines().filter(|line| !line.starts_with("--")).map(|line| format!("{line}\n")).collect()
}

fn restore(cluster: &Cluster, database: &str, dump: &str) {
    let mut psql = cluster.psql_command(database).stdin(Stdio::piped()).spawn().expect("psql can be run");
    let mut input = psql.stdin.take().expect("psql reads");
    input.write_all(dump.as_bytes()).expect("psql reads all of it");
    drop(input);
    assert!(psql.wait().expect("psql ends").success(), "the dump cannot be restored");
}

/// Every right that somebody other than the owner has on something in schema klaviyo or on a function of ours.
const RIGHTS: &str = "
    SELECT string_agg(format('%s: %s %s', object, x.grantee::regrole, x.privilege_type), E'\n' ORDER BY 1)
    FROM (
        SELECT c.oid::regclass::text, c.relacl FROM pg_class c WHERE c.relnamespace = 'klaviyo'::regnamespace
        UNION ALL
        SELECT a.attrelid::regclass || '.' || a.attname, a.attacl FROM pg_attribute a WHERE a.attacl IS NOT NULL
        UNION ALL
        SELECT p.oid::regprocedure::text, p.proacl FROM pg_proc p WHERE p.probin LIKE '%klaviyo%' OR p.proname LIKE 'klaviyo%'
        UNION ALL
        SELECT 'schema klaviyo', n.nspacl FROM pg_namespace n WHERE n.nspname = 'klaviyo'
    ) AS o (object, acl), aclexplode(acl) AS x
    WHERE x.grantee <> 10 AND x.grantee <> 0";

#[test]
fn a_dump_has_no_rights_of_ours_and_its_restore_has_them_all() {
    let old = cluster();
    create(&old, "shop");
    old.psql(
        "shop",
        "CREATE ROLE analyst;
         SELECT klaviyo_set_account(private_key => 'pk_not_in_a_dump', base_url => 'https://proxy.shop.example');
         SELECT klaviyo_arm_account();
         SELECT klaviyo_track_event('Placed Order', 'ada@shop.example');",
    );
    let text = dump(&old, "shop");
    let of_rights: Vec<&str> =
        text.lines().filter(|line| line.contains("GRANT") || line.contains("REVOKE")).collect();
    assert!(of_rights.is_empty(), "the dump has rights that the extension's script grants: {of_rights:?}");
    assert!(!text.contains("pk_not_in_a_dump"), "the dump has a key");

    // What somebody has granted since is not the extension's to know.
    old.psql("shop", "GRANT SELECT ON klaviyo.delivery TO analyst");
    let text = dump(&old, "shop");
    let of_rights: Vec<&str> =
        text.lines().filter(|line| line.contains("GRANT") || line.contains("REVOKE")).collect();
    assert_eq!(of_rights, ["GRANT SELECT ON TABLE klaviyo.delivery TO analyst;"]);

    // A cluster that has never seen the roles.
    let new = cluster();
    new.create_database("shop");
    new.psql("postgres", "CREATE ROLE analyst");
    restore(&new, "shop", &text);
    let rights = new.psql("shop", RIGHTS);
    assert!(rights.contains("klaviyo_reader SELECT"), "{rights}");
    assert_eq!(rights, old.psql("shop", RIGHTS));
    // Restored, an account is armed for where it was, and so sends nothing from here; its key has stayed there.
    let account =
        "SELECT base_url, armed_system, armed_database, armed_name, armed_instance FROM klaviyo.account";
    assert_eq!(new.psql("shop", account), old.psql("shop", account));
    let here = "SELECT klaviyo.is_armed(a), (SELECT count(*) FROM klaviyo.account_key), (SELECT count(*) FROM klaviyo.outbox)
                FROM klaviyo.account AS a";
    assert_eq!(new.psql("shop", here), "f|0|1");
}

#[test]
fn databases_may_make_the_roles_at_the_same_time() {
    let cluster = cluster();
    let names: Vec<String> = (1..=6).map(|number| format!("shop_{number}")).collect();
    names.iter().for_each(|name| cluster.create_database(name));
    let to = &cluster;
    thread::scope(|scope| {
        for name in &names {
            scope.spawn(move || {
                let mut client = to.connect(name);
                client
                    .batch_execute("CREATE EXTENSION klaviyo_sync")
                    .unwrap_or_else(|error| panic!("{name}: {}", explain(&error)));
            });
        }
    });
    assert_eq!(cluster.psql("shop_1", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'klaviyo%'"), "4");
}

#[test]
fn the_roles_stay_until_no_database_needs_them() {
    let cluster = cluster();
    create(&cluster, "shop");
    create(&cluster, "blog");
    let refused =
        cluster.connect("blog").batch_execute("DROP ROLE klaviyo_reader").expect_err("it has rights");
    assert!(explain(&refused).contains("some objects depend on it"), "{}", explain(&refused));
    cluster.psql("shop", "DROP EXTENSION klaviyo_sync");
    cluster.psql("blog", "DROP EXTENSION klaviyo_sync");
    cluster.psql("blog", "DROP ROLE klaviyo_admin, klaviyo_gateway, klaviyo_reader, klaviyo_writer");
    cluster.psql("blog", "CREATE EXTENSION klaviyo_sync");
}
