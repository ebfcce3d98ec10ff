//! The user that servers run as: Postgres refuses to run as root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, User, geteuid, setgroups, setresgid, setresuid};

/// Who owns the clusters: user `postgres` when root runs the tests, else whoever runs them.
#[derive(Clone, Copy, Debug)]
pub struct ServerUser(Option<(Uid, Gid)>);

impl ServerUser {
    /// Looks the user up.
    pub fn current() -> Self {
        if !geteuid().is_root() {
            return Self(None);
        }
        let postgres = User::from_name("postgres").expect("the user database can be read");
        let postgres = postgres.expect("root needs a user named postgres to run servers as");
        Self(Some((postgres.uid, postgres.gid)))
    }

    /// Makes a command run as this user.
    pub fn run(self, command: &mut Command) -> &mut Command {
        let Some((uid, gid)) = self.0 else { return command };
        // SAFETY: between fork and exec only these three system calls are made; none allocates or takes a lock.
        unsafe {
            command.pre_exec(move || {
                setgroups(&[])?;
                setresgid(gid, gid, gid)?;
                setresuid(uid, uid, uid)?;
                Ok(())
            })
        }
    }

    /// Hands a file or directory to this user, for its eyes only.
    pub fn give(self, path: &Path) {
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .and_then(|()| match self.0 {
                Some((uid, gid)) => chown(path, Some(uid.as_raw()), Some(gid.as_raw())),
                None => Ok(()),
            })
            .unwrap_or_else(|error| panic!("cannot give {} to the server's user: {error}", path.display()));
    }
}
