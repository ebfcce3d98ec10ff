//! Where clusters live: directories that the server's user can reach, with paths short enough for a Unix socket.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::unistd::geteuid;

use crate::process::Process;
use crate::server_user::ServerUser;

/// Set to keep the directories of clusters for a look at them afterwards.
const KEEP: &str = "KLAVIYO_TEST_KEEP";

/// A file that says so to later test processes, which else remove what earlier ones left.
const KEPT: &str = "kept";

/// A directory of this process, owned by the server's user and removed at the end.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    lasting: bool,
}

impl Directory {
    /// Makes a new one.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        static SWEEP: Once = Once::new();
        SWEEP.call_once(|| sweep(&root()));
        let root = root();
        let path =
            first_new(&root, || format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let mut directory = Self::lasting(&path);
        directory.lasting = false;
        if std::env::var_os(KEEP).is_some() {
            fs::write(directory.path.join(KEPT), "").expect("a directory can be marked");
        }
        directory
    }

    /// Makes one under a name of the caller's choice that stays when this process ends.
    pub fn lasting(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        ServerUser::current().give(path);
        Self { path: path.to_owned(), lasting: true }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.lasting {
            return;
        }
        if self.path.join(KEPT).exists() {
            eprintln!("kept: {}", self.path.display());
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// The directory of all directories, one for each user. Always under /tmp: a TMPDIR may be out of the server
/// user's reach, and a socket's path must stay under 108 bytes.
pub fn root() -> PathBuf {
    let root = PathBuf::from(format!("/tmp/klaviyo_sync-{}", geteuid()));
    // Failing is fine when it is there already; what counts is whose it is.
    let _ = fs::DirBuilder::new().mode(0o755).create(&root);
    let found = fs::symlink_metadata(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    assert!(
        found.is_dir() && found.uid() == geteuid().as_raw(),
        "{} belongs to somebody else; remove it",
        root.display()
    );
    root
}

/// Makes a directory under the first of these names that is not taken: one that was kept may be of an earlier process
/// of the same number.
fn first_new(root: &Path, mut next_name: impl FnMut() -> String) -> PathBuf {
    loop {
        let path = root.join(next_name());
        match fs::create_dir(&path) {
            Ok(()) => return path,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => panic!("cannot make {}: {error}", path.display()),
        }
    }
}

/// Removes what killed test processes left behind: directories are named after the process that made them.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some((pid, _)) = name.to_str().and_then(|name| name.split_once('-')) else { continue };
        let left_behind = pid.parse().is_ok_and(|pid| Process::find(pid).is_none());
        if left_behind && !entry.path().join(KEPT).exists() {
            // Another test process may be sweeping too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_not_taken_again() {
        let root = Directory::new();
        let kept = root.path().join("7-1");
        fs::create_dir(&kept).expect("a directory can be made");
        let mut names = (1..).map(|n| format!("7-{n}"));
        let new = first_new(root.path(), || names.next().expect("there are more names"));
        assert_eq!(new, root.path().join("7-2"));
        assert!(new.is_dir());
    }

    #[test]
    fn only_what_a_dead_process_left_and_nobody_keeps_is_swept_away() {
        let root = Directory::new();
        let mut process = std::process::Command::new("true").spawn().expect("a process can be started");
        let dead = process.id();
        process.wait().expect("it ends");
        let names =
            [format!("{dead}-1"), format!("{dead}-2"), format!("{}-1", std::process::id()), "ports".into()];
        let [left, kept, own, other] = names.map(|name| root.path().join(name));
        for path in [&left, &kept, &own, &other] {
            fs::create_dir(path).expect("a directory can be made");
        }
        fs::write(kept.join(KEPT), "").expect("a directory can be marked");
        sweep(root.path());
        assert_eq!([left, kept, own, other].map(|path| path.exists()), [false, true, true, true]);
    }
}
