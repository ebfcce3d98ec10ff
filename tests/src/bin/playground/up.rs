//! A cluster and a sandbox that keep running, for a person to play with.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::{Cluster, PgBin, Process, Sandbox, Shop, Signal, interrupt};
use serde::{Deserialize, Serialize};

/// A server that has not ended by then gets a harder signal.
const PATIENCE: Duration = Duration::from_secs(30);

/// The length at which the path of a socket in the directory still fits into 107 bytes.
const LONGEST_DIRECTORY: usize = 88;

/// What `up` puts into the directory: before anything else, as a sign that all in there is its own, and again when all is
/// up.
#[derive(Deserialize, Serialize)]
struct State {
    version: String,
    /// How to reach what is up; none before it is.
    exports: Vec<(String, String)>,
}

impl State {
    fn path(directory: &Path) -> PathBuf {
        directory.join("playground.json")
    }

    /// None where there is none.
    fn read(directory: &Path) -> Result<Option<Self>, String> {
        let path = Self::path(directory);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        };
        let state = serde_json::from_slice(&text);
        state.map(Some).map_err(|error| format!("{} is damaged: {error}", path.display()))
    }

    fn write(&self, directory: &Path) -> Result<(), String> {
        let path = Self::path(directory);
        let text = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    fn print(&self) {
        for (name, value) in &self.exports {
            println!("export {name}='{}'", value.replace('\'', r"'\''"));
        }
    }
}

/// What runs in a directory, by what the servers themselves wrote there.
struct Running {
    postmaster: Option<Process>,
    sandbox: Option<Process>,
}

impl Running {
    fn find(directory: &Path) -> Self {
        Self { postmaster: Cluster::left_in(directory), sandbox: Sandbox::left_in(directory) }
    }

    fn is_complete(&self) -> bool {
        self.postmaster.is_some() && self.sandbox.is_some()
    }
}

/// Starts it, unless it is up, and prints how to reach it.
pub fn up(directory: &Path) -> Result<(), String> {
    let version = PgBin::from_env().version().to_owned();
    let state = State::read(directory).map_err(|reason| format!("{reason}; `make down` clears up"))?;
    if let Some(state) = state {
        if Running::find(directory).is_complete() && !state.exports.is_empty() {
            if state.version != version {
                return Err(format!("a PostgreSQL {} is up already; `make down` stops it", state.version));
            }
            eprintln!("It is up already; `make down` stops it.");
            state.print();
            return Ok(());
        }
        // Half of it, or none, has survived, for instance a reboot.
        remove(directory)?;
    }
    if directory.as_os_str().len() > LONGEST_DIRECTORY {
        return Err(format!("{} is too long a path for a socket", directory.display()));
    }
    if directory.is_dir() && fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("{} is not empty", directory.display()));
    }

    let unfinished = Unfinished(directory);
    fs::create_dir_all(directory).map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    let mut state = State { version, exports: Vec::new() };
    state.write(directory)?;
    let mut shop = Shop::builder().lasting(directory).rate_share(1.0).start();
    interrupt::check()?;
    state.exports = [
        ("PGHOST", shop.cluster.socket_directory().display().to_string()),
        ("PGPORT", shop.cluster.port().to_string()),
        ("PGUSER", "postgres".to_owned()),
        ("PGDATABASE", "shop".to_owned()),
        ("SANDBOX_URL", shop.sandbox.api().to_owned()),
        ("SANDBOX_CONTROL", shop.sandbox.url().to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    state.write(directory)?;
    shop.leave_running();
    std::mem::forget(unfinished);
    eprintln!("PostgreSQL {} and the sandbox are up; `make down` stops them.", state.version);
    state.print();
    Ok(())
}

/// Stops and removes it.
pub fn down(directory: &Path) -> Result<(), String> {
    match State::read(directory) {
        Ok(None) => {
            let running = Running::find(directory);
            // Only what is certainly no other's is stopped, and its directory removed.
            if running.sandbox.is_none() {
                if let Some(postmaster) = running.postmaster {
                    return Err(format!(
                        "`make up` has left no note in {}, but a server runs there: process {}",
                        directory.display(),
                        postmaster.pid
                    ));
                }
                eprintln!("Nothing is up.");
                return Ok(());
            }
        }
        Ok(Some(_)) => {}
        Err(reason) => eprintln!("{reason}"),
    }
    remove(directory)?;
    eprintln!("It is down.");
    Ok(())
}

fn remove(directory: &Path) -> Result<(), String> {
    let running = Running::find(directory);
    if let Some(postmaster) = running.postmaster {
        stop(postmaster, &[Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL])?;
    }
    if let Some(sandbox) = running.sandbox {
        stop(sandbox, &[Signal::SIGTERM, Signal::SIGKILL])?;
    }
    fs::remove_dir_all(directory).map_err(|error| format!("cannot remove {}: {error}", directory.display()))
}

/// Sends ever harder signals until the process has ended.
fn stop(process: Process, signals: &[Signal]) -> Result<(), String> {
    for &signal in signals {
        process.signal(signal);
        if process.wait_gone(PATIENCE) {
            return Ok(());
        }
    }
    Err(format!("process {} cannot be stopped", process.pid))
}

/// Removes the directory of what did not come up; the harness has stopped the servers by then.
struct Unfinished<'a>(&'a Path);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // Nothing to add to the reason why this happens.
        let _ = fs::remove_dir_all(self.0);
    }
}
