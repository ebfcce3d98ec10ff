//! `initdb` takes a second; it runs once for each version of Postgres, and clusters are copies of its result.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::directory;
use crate::pg_bin::PgBin;
use crate::server_user::ServerUser;

/// Changes whenever `initdb`'s arguments below do, so that no older template is taken for the new one.
const EDITION: u32 = 2;

/// Puts a new data directory at `data` by copying. All copies share one system identifier.
pub(crate) fn copy(bin: &PgBin, data: &Path) {
    copy_files(&template(bin), data);
}

/// Copies a data directory to `data`.
pub(crate) fn copy_files(from: &Path, data: &Path) {
    let mut cp = Command::new("cp");
    cp.args(["-a", "--reflink=auto"]).arg(from).arg(data).current_dir("/");
    run(&mut cp);
}

/// Puts a new data directory with a system identifier of its own at `data`.
pub(crate) fn init(bin: &PgBin, data: &Path) {
    let mut initdb = bin.command("initdb");
    initdb
        .args([
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
            // The default from 18 on. pg_upgrade wants it alike on both sides.
            "--data-checksums",
        ])
        // Only who may enter the socket's directory gets in: over TCP a password is asked for, and there is none.
        .args(["--auth-local=trust", "--auth-host=scram-sha-256", "-D"])
        .arg(data);
    run(&mut initdb);
}

fn template(bin: &PgBin) -> PathBuf {
    // Owned by the server's user, who cannot write to the root of all directories.
    let home = directory::root().join("templates");
    fs::create_dir_all(&home).expect("the directory of templates can be made");
    let name = format!("{}-{EDITION}", bin.version());
    let lock = File::create(home.join(format!("{name}.lock"))).expect("the template's lock can be made");
    lock.lock().expect("the template can be locked");
    let place = home.join(name);
    let (unfinished, finished) = (place.join("unfinished"), place.join("data"));
    if !finished.exists() {
        fs::create_dir_all(&place).expect("the template's directory can be made");
        ServerUser::current().give(&place);
        // Left there if an earlier attempt was killed.
        let _ = fs::remove_dir_all(&unfinished);
        init(bin, &unfinished);
        fs::rename(&unfinished, &finished).expect("the template can be renamed");
    }
    finished
}

/// Runs a program as the server's user, and panics with what it printed when it fails.
pub(crate) fn run(command: &mut Command) {
    let output = ServerUser::current().run(command).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
