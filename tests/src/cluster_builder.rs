//! What a new cluster is to be like, and where its files come from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::cluster::{Cluster, DATA};
use crate::directory::Directory;
use crate::pg_bin::PgBin;
use crate::template;

/// Where the files of a cluster come from.
#[derive(Debug)]
enum Origin {
    Template,
    Init,
    Copy(PathBuf),
    /// Directory and port of the socket of a running server.
    Backup(PathBuf, u16),
}

/// What a new cluster is to be like.
#[derive(Debug)]
pub struct ClusterBuilder {
    bin: PgBin,
    preload: bool,
    origin: Origin,
    lasting: Option<PathBuf>,
    settings: Vec<(String, String)>,
    environment: Vec<(String, OsString)>,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self {
            bin: PgBin::from_env(),
            preload: true,
            origin: Origin::Template,
            lasting: None,
            settings: Vec::new(),
            environment: Vec::new(),
        }
    }
}

impl ClusterBuilder {
    /// Whether the server preloads the extension's library; it does unless told otherwise.
    #[must_use]
    pub fn preload(mut self, preload: bool) -> Self {
        self.preload = preload;
        self
    }

    /// Adds a line to postgresql.conf; a later one for the same name wins, also over the harness' own.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Waits for the disk at commit. A killed process loses nothing without it, only a crash of the machine would.
    #[must_use]
    pub fn fsync(self) -> Self {
        self.setting("fsync", "on")
    }

    /// Sets a variable in the server's environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Gives it a system identifier that no other cluster has: clusters are else copies of one another.
    #[must_use]
    pub fn own_identity(mut self) -> Self {
        self.origin = Origin::Init;
        self
    }

    /// Puts it into this directory, which stays, and lets it outlive this process (see [`Cluster::leave_running`]).
    #[must_use]
    pub fn lasting(mut self, directory: &Path) -> Self {
        self.lasting = Some(directory.to_owned());
        self
    }

    /// Has it run on another Postgres than the one under test.
    #[must_use]
    pub fn bin(mut self, bin: PgBin) -> Self {
        self.bin = bin;
        self
    }

    /// Begins with the files of a stopped cluster, settings included.
    #[must_use]
    pub fn copy_of(mut self, cluster: &Cluster) -> Self {
        assert!(cluster.postmaster().is_none(), "files of a running server are no copy of it");
        self.origin = Origin::Copy(cluster.data_directory());
        self
    }

    /// Makes it a standby of a running server, whose settings it inherits.
    #[must_use]
    pub fn standby_of(mut self, primary: &Cluster) -> Self {
        self.origin = Origin::Backup(primary.socket_directory(), primary.port());
        self
    }

    /// Makes the cluster and starts its server.
    pub fn start(self) -> Cluster {
        let mut cluster = self.make();
        cluster.start();
        cluster
    }

    /// Makes the cluster and leaves it stopped.
    pub fn make(self) -> Cluster {
        let directory = match &self.lasting {
            Some(path) => Directory::lasting(path),
            None => Directory::new(),
        };
        let data = directory.path().join(DATA);
        match &self.origin {
            Origin::Template => template::copy(&self.bin, &data),
            Origin::Init => template::init(&self.bin, &data),
            Origin::Copy(files) => template::copy_files(files, &data),
            Origin::Backup(socket, port) => {
                let mut backup = self.bin.command("pg_basebackup");
                backup.args([
                    "--username=postgres",
                    "--checkpoint=fast",
                    "--write-recovery-conf",
                    "--no-sync",
                ]);
                backup.arg("--host").arg(socket).arg(format!("--port={port}")).arg("--pgdata").arg(&data);
                template::run(&mut backup);
            }
        }
        let cluster = Cluster::new(self.bin, directory, self.lasting.is_some(), self.environment);
        cluster.append_settings(&own_settings(&cluster, self.preload));
        cluster.append_settings(&self.settings);
        cluster
    }
}

/// The settings that make a small server which only this machine reaches.
fn own_settings(cluster: &Cluster, preload: bool) -> Vec<(String, String)> {
    let settings = [
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("port", cluster.port().to_string()),
        ("unix_socket_directories", cluster.socket_directory().display().to_string()),
        ("shared_preload_libraries", if preload { "klaviyo_sync" } else { "" }.to_owned()),
        ("shared_buffers", "16MB".to_owned()),
        ("max_prepared_transactions", "10".to_owned()),
        ("fsync", "off".to_owned()),
        ("jit", "off".to_owned()),
        ("log_checkpoints", "off".to_owned()),
        ("log_line_prefix", "%m [%p] %b %d: ".to_owned()),
    ];
    settings.map(|(name, value)| (name.to_owned(), value)).to_vec()
}
