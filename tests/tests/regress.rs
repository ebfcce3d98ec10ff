//! The SQL contract: runs every file of tests/regress/sql with pg_regress and compares with tests/regress/expected.
//!
//! Each file gets an empty database on a cluster of its own, which preloads the library and delivers nothing: one that
//! switches delivery on must not find the account of another, armed for Klaviyo itself. Expected output must be the same
//! on every major version (NAME_1.out beside NAME.out is allowed as a second truth).

use std::fs;
use std::path::{Path, PathBuf};

use harness::{Cluster, ServerUser};

#[test]
fn sql_does_what_its_files_say() {
    let names: Vec<String> = files(&own().join("sql"))
        .iter()
        .filter_map(|file| Some(file.strip_suffix(".sql")?.to_owned()))
        .collect();
    assert!(!names.is_empty(), "no files in {}", own().join("sql").display());
    let failed: Vec<String> = names.into_iter().filter(|name| !passes(name)).collect();
    assert!(failed.is_empty(), "not as expected: {failed:?}");
}

/// Where the files are.
fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("regress")
}

/// The server's user may not be able to read the source tree, and must be able to write results.
fn copy(work: &Path) {
    make_directory(work);
    for part in ["sql", "expected"] {
        make_directory(&work.join(part));
        for file in files(&own().join(part)) {
            let copy = work.join(part).join(&file);
            fs::copy(own().join(part).join(&file), &copy).expect("a test file can be copied");
            ServerUser::current().give(&copy);
        }
    }
}

fn passes(name: &str) -> bool {
    // retention.sql looks at days long past, which the worker would drop.
    let cluster = Cluster::builder()
        .setting("klaviyo.enabled", "off")
        .setting("klaviyo.delivery_retention", -1)
        .start();
    let work = &cluster.directory().join("regress");
    copy(work);
    let database = format!("regress_{name}");
    cluster.create_database(&database);
    let mut pg_regress = cluster.bin().pg_regress();
    pg_regress
        .args(["--use-existing", "--dbname", &database, "--user", "postgres", "--host"])
        .arg(cluster.socket_directory())
        .args(["--port", &cluster.port().to_string(), "--bindir"])
        .arg(cluster.bin().bin_dir())
        .arg("--inputdir")
        .arg(work)
        .arg("--outputdir")
        .arg(work)
        .arg(name)
        .current_dir(work);
    let output = ServerUser::current().run(&mut pg_regress).output().expect("pg_regress can be run");
    if output.status.success() {
        return true;
    }
    let read = |file: &str| fs::read_to_string(work.join(file)).unwrap_or_default();
    eprintln!(
        "pg_regress: {}\n{}{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        read("regression.diffs")
    );
    eprintln!("--- what {name}.sql printed ---\n{}", read(&format!("results/{name}.out")));
    false
}

fn make_directory(path: &Path) {
    fs::create_dir(path).expect("a directory can be made in the cluster's");
    ServerUser::current().give(path);
}

/// The names of a directory's files, sorted.
fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a directory can be read").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}
