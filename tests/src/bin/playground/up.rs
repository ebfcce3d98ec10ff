//! A cluster and a sandbox that keep running, for a person to play with.

use std::fs;
use std::path::Path;
use std::time::Duration;

use harness::{PgBin, Process, Shop, Signal};
use serde::{Deserialize, Serialize};

use crate::check_interrupt;

const STATE: &str = "playground.json";

/// A server that has not ended by then gets a harder signal.
const PATIENCE: Duration = Duration::from_secs(30);

/// The length at which the path of a socket in the directory still fits into 107 bytes.
const LONGEST_DIRECTORY: usize = 88;

/// What must be known to find it again.
#[derive(Deserialize, Serialize)]
struct State {
    version: String,
    postmaster: Process,
    sandbox: Process,
    exports: Vec<(String, String)>,
}

impl State {
    fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(directory.join(STATE)).ok()?).ok()
    }

    fn print(&self) {
        for (name, value) in &self.exports {
            println!("export {name}='{}'", value.replace('\'', r"'\''"));
        }
    }
}

/// Starts it, unless it is up, and prints how to reach it.
pub fn up(directory: &Path) -> Result<(), String> {
    let version = PgBin::from_env().version().to_owned();
    if let Some(state) = State::read(directory) {
        if state.postmaster.is_alive() && state.sandbox.is_alive() {
            if state.version != version {
                return Err(format!("a PostgreSQL {} is up already; `make down` stops it", state.version));
            }
            eprintln!("It is up already; `make down` stops it.");
            state.print();
            return Ok(());
        }
        // Half of it, or none, has survived, for instance a reboot.
        remove(directory, &state)?;
    }
    if directory.as_os_str().len() > LONGEST_DIRECTORY {
        return Err(format!("{} is too long a path for a socket", directory.display()));
    }
    if directory.is_dir() && fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("{} is not empty", directory.display()));
    }

    let unfinished = Unfinished(directory);
    let mut shop = Shop::builder().lasting(directory).rate_share(1.0).start();
    check_interrupt()?;
    let export = |name: &str, value: String| (name.to_owned(), value);
    let state = State {
        version,
        postmaster: shop.cluster.postmaster().ok_or("the server has ended")?,
        sandbox: shop.sandbox.process().ok_or("the sandbox has ended")?,
        exports: vec![
            export("PGHOST", shop.cluster.socket_directory().display().to_string()),
            export("PGPORT", shop.cluster.port().to_string()),
            export("PGUSER", "postgres".to_owned()),
            export("PGDATABASE", "shop".to_owned()),
            export("SANDBOX_URL", shop.sandbox.api().to_owned()),
        ],
    };
    let text = serde_json::to_vec(&state).map_err(|error| error.to_string())?;
    fs::write(directory.join(STATE), text).map_err(|error| format!("{}: {error}", directory.display()))?;
    shop.leave_running();
    std::mem::forget(unfinished);
    eprintln!("PostgreSQL {} and the sandbox are up; `make down` stops them.", state.version);
    state.print();
    Ok(())
}

/// Stops and removes it.
pub fn down(directory: &Path) -> Result<(), String> {
    match State::read(directory) {
        Some(state) => {
            remove(directory, &state)?;
            eprintln!("It is down.");
        }
        None => eprintln!("Nothing is up."),
    }
    Ok(())
}

fn remove(directory: &Path, state: &State) -> Result<(), String> {
    stop(state.postmaster, &[Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL])?;
    stop(state.sandbox, &[Signal::SIGTERM, Signal::SIGKILL])?;
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
