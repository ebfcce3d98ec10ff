//! A Postgres cluster of one's own: started, stopped, killed, started again.

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use postgres::{Client, NoTls};

use crate::cluster_builder::ClusterBuilder;
use crate::directory::Directory;
use crate::pg_bin::PgBin;
use crate::port::Port;
use crate::process::{Process, spawn_bound, spawn_free};
use crate::server_user::ServerUser;
use crate::wait::{PATIENCE, becomes_true};

/// The data directory, in the cluster's.
pub(crate) const DATA: &str = "data";

/// How a server is told to stop (see pg_ctl(1)).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// Waits for all sessions to end.
    Smart,
    /// Ends the sessions, then writes a checkpoint.
    Fast,
    /// Ends at once, without a checkpoint; the next start recovers.
    Immediate,
}

/// A cluster that is stopped and removed with this value.
#[derive(Debug)]
pub struct Cluster {
    bin: PgBin,
    port: Port,
    postmaster: Option<Child>,
    /// Whether the server can outlive this process.
    free: bool,
    left_running: bool,
    environment: Vec<(String, OsString)>,
    directory: Directory,
}

impl Cluster {
    /// A stopped one in this directory; `free` when its server is to outlive this process.
    pub(crate) fn new(
        bin: PgBin,
        directory: Directory,
        free: bool,
        environment: Vec<(String, OsString)>,
    ) -> Self {
        let port = Port::reserve();
        Self { bin, port, postmaster: None, free, left_running: false, environment, directory }
    }

    /// Describes a new cluster, which preloads the extension.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// The postmaster that a lasting cluster in this directory left running.
    pub fn left_in(directory: &Path) -> Option<Process> {
        let data = directory.join(DATA);
        let file = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        Process::find_with(file.lines().next()?.parse().ok()?, &data)
    }

    /// Adds lines to postgresql.conf.
    pub(crate) fn append_settings(&self, settings: &[(String, String)]) {
        let mut lines = String::new();
        for (name, value) in settings {
            let _ = writeln!(lines, "{name} = '{}'", value.replace('\'', "''"));
        }
        OpenOptions::new()
            .append(true)
            .open(self.data_directory().join("postgresql.conf"))
            .and_then(|mut file| file.write_all(lines.as_bytes()))
            .expect("postgresql.conf can be written");
    }

    /// Changes a setting: soon after this returns when the server runs and a reload is enough for it, else at the next
    /// start.
    pub fn set(&self, name: &str, value: impl ToString) {
        self.append_settings(&[(name.to_owned(), value.to_string())]);
        if let Some(postmaster) = self.postmaster() {
            postmaster.signal(Signal::SIGHUP);
        }
    }

    /// Starts the server and waits until it takes connections.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the server with further arguments.
    pub fn start_with(&mut self, arguments: &[&str]) {
        assert!(self.postmaster.is_none(), "the server runs already");
        let log =
            File::options().create(true).append(true).open(self.log_file()).expect("the log can be opened");
        let mut postgres = self.bin.command("postgres");
        postgres.arg("-D").arg(self.data_directory()).args(arguments).stdin(Stdio::null());
        postgres.envs(self.environment.iter().map(|(name, value)| (name, value)));
        postgres.stdout(log.try_clone().expect("the log can be opened twice")).stderr(log);
        ServerUser::current().run(&mut postgres);
        // SIGQUIT is an immediate shutdown; it takes the server's children along.
        let child = if self.free { spawn_free(postgres) } else { spawn_bound(postgres, Signal::SIGQUIT) };
        self.postmaster = Some(child.unwrap_or_else(|error| panic!("cannot start the server: {error}")));
        self.wait_ready();
    }

    /// Waits until the server takes connections, for instance after a crash of one of its processes.
    pub fn wait_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match self.try_connect("postgres") {
                Ok(_) => return,
                Err(error) => error,
            };
            let exited = self.postmaster.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if exited.is_some() || Instant::now() > deadline {
                panic!(
                    "the server is not up: {error}; exit status {exited:?}; its log:\n{}",
                    self.log_tail(60)
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server and tells how long that took.
    pub fn stop(&mut self, how: Stop) -> Duration {
        let began = Instant::now();
        let Some(postmaster) = self.postmaster() else { return Duration::ZERO };
        postmaster.signal(match how {
            Stop::Smart => Signal::SIGTERM,
            Stop::Fast => Signal::SIGINT,
            Stop::Immediate => Signal::SIGQUIT,
        });
        let ended = self.reap(PATIENCE);
        assert!(ended, "{how:?} shutdown takes over {PATIENCE:?}; the server's log:\n{}", self.log_tail(60));
        began.elapsed()
    }

    /// Stops the server and starts it again.
    pub fn restart(&mut self, how: Stop) {
        self.stop(how);
        self.start();
    }

    /// Kills the postmaster with SIGKILL, as the kernel does when memory runs out, and waits until the processes it
    /// leaves behind have noticed and ended: until then their shared memory forbids a new start.
    pub fn kill9_postmaster(&mut self) {
        let postmaster = self.postmaster().expect("the server runs");
        // Frozen first, or it could yet start a process that is not among those waited for.
        postmaster.freeze();
        let children = Process::children_of(postmaster.pid);
        postmaster.signal(Signal::SIGKILL);
        assert!(self.reap(PATIENCE), "the postmaster survives SIGKILL");
        // A frozen process notices nothing, and may hold a lock on which others wait without noticing either.
        if children.iter().any(|child| child.is_stopped()) {
            children.iter().for_each(|child| child.signal(Signal::SIGKILL));
        }
        for child in children {
            assert!(
                child.wait_gone(PATIENCE),
                "process {} outlives its postmaster by {PATIENCE:?}; the server's log:\n{}",
                child.pid,
                self.log_tail(60)
            );
        }
    }

    /// Waits for the postmaster's end; false when the time is up first.
    fn reap(&mut self, patience: Duration) -> bool {
        let Some(child) = &mut self.postmaster else { return true };
        let ended =
            becomes_true(patience, || child.try_wait().expect("the postmaster is our child").is_some());
        if ended {
            self.postmaster = None;
        }
        ended
    }

    /// Lets go of a lasting cluster: dropping it no longer stops the server.
    pub fn leave_running(&mut self) {
        assert!(self.free, "only a lasting cluster can be left running");
        self.left_running = true;
    }

    /// The postmaster, while the server runs.
    pub fn postmaster(&self) -> Option<Process> {
        let pid = self.postmaster.as_ref()?.id();
        Process::find(pid.try_into().expect("process numbers fit"))
    }

    /// How to reach a database, as superuser and over the socket; can go to another thread.
    pub fn config(&self, database: &str) -> postgres::Config {
        let mut config = postgres::Config::new();
        config
            .host_path(self.socket_directory())
            .port(self.port.number())
            .user("postgres")
            .dbname(database)
            .connect_timeout(PATIENCE);
        config
    }

    /// Connects to a database as superuser.
    pub fn connect(&self, database: &str) -> Client {
        self.try_connect(database).unwrap_or_else(|error| {
            panic!(
                "cannot connect to {database}: {}; the server's log:\n{}",
                explain(&error),
                self.log_tail(30)
            )
        })
    }

    /// Connects, or tells why not: for tests in which the server may be down.
    pub fn try_connect(&self, database: &str) -> Result<Client, postgres::Error> {
        self.config(database).connect(NoTls)
    }

    /// Makes a database.
    pub fn create_database(&self, name: &str) {
        self.connect("postgres")
            .batch_execute(&format!("CREATE DATABASE \"{name}\""))
            .unwrap_or_else(|error| panic!("cannot make database {name}: {}", explain(&error)));
    }

    /// Runs SQL through psql and returns what it prints, unaligned and without headers.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let output = self.psql_command(database).args(["-At", "-c", sql]).output().expect("psql can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "psql failed: {errors}\nin: {sql}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// A psql that is connected to a database and stops at the first error.
    pub fn psql_command(&self, database: &str) -> Command {
        let mut psql = self.client("psql");
        psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", database]);
        psql
    }

    /// One of Postgres' client programs, told how to reach the server as superuser.
    pub fn client(&self, program: &str) -> Command {
        let mut client = self.bin.command(program);
        client.args(["-U", "postgres", "-p", &self.port.number().to_string(), "-h"]);
        client.arg(self.socket_directory());
        client
    }

    /// A database as pg_dump writes it.
    pub fn dump(&self, database: &str) -> Vec<u8> {
        let output = self.client("pg_dump").arg(database).output().expect("pg_dump can be run");
        assert!(output.status.success(), "pg_dump failed: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Makes a database of a dump.
    pub fn restore(&self, database: &str, dump: &[u8]) {
        self.create_database(database);
        let file = self.directory().join(format!("{database}.sql"));
        fs::write(&file, dump).expect("a dump can be written");
        let output = self.psql_command(database).arg("-f").arg(&file).output().expect("psql can be run");
        assert!(output.status.success(), "psql failed: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The Postgres it runs on.
    pub fn bin(&self) -> &PgBin {
        &self.bin
    }

    /// Its directory; files for the server to read may be put here (see [`ServerUser::give`]).
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory.
    pub fn data_directory(&self) -> PathBuf {
        self.directory().join(DATA)
    }

    /// The directory of its socket.
    pub fn socket_directory(&self) -> PathBuf {
        self.directory().to_owned()
    }

    /// The port, both of the socket and on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    fn log_file(&self) -> PathBuf {
        self.directory().join("server.log")
    }

    /// Everything the server has logged so far.
    pub fn log(&self) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The last lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let from = log.lines().count().saturating_sub(lines);
        log.lines().skip(from).fold(String::new(), |tail, line| tail + "  " + line + "\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("The end of the server's log:\n{}", self.log_tail(100));
        }
        let Some(postmaster) = self.postmaster().filter(|_| !self.left_running) else { return };
        let children = Process::children_of(postmaster.pid);
        postmaster.signal(Signal::SIGQUIT);
        if !self.reap(Duration::from_secs(30)) {
            eprintln!("the server does not stop; killing it");
            postmaster.signal(Signal::SIGKILL);
            children.iter().for_each(|child| child.signal(Signal::SIGKILL));
            self.reap(PATIENCE);
        }
    }
}

/// Everything that an error of the server tells: the client's own short form says only that there was one.
pub fn explain(error: &postgres::Error) -> String {
    let Some(told) = error.as_db_error() else {
        return error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    };
    let mut text = format!("{} {}: {}", told.severity(), told.code().code(), told.message());
    for (name, part) in [("DETAIL", told.detail()), ("HINT", told.hint()), ("CONTEXT", told.where_())] {
        if let Some(part) = part {
            let _ = write!(text, "\n  {name}: {part}");
        }
    }
    text
}
