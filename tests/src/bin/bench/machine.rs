//! What it all ran on.

use std::fs;
use std::process::Command;
use std::thread;

use harness::PgBin;
use serde::Serialize;

use crate::bed;

/// A figure means little without this.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_mb: u64,
    pub kernel: String,
    pub postgres: String,
    pub fsync: bool,
    /// With `-dirty` where what was measured is not what was committed.
    pub commit: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        Self {
            cpu: line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_mb: line_of("/proc/meminfo", "MemTotal")
                .and_then(|size| size.split(' ').next()?.parse::<u64>().ok())
                .unwrap_or_default()
                / 1_024,
            kernel: read("/proc/sys/kernel/osrelease"),
            postgres: PgBin::from_env().version().to_owned(),
            fsync: bed::fsync(),
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
        }
    }
}

/// How many processes wanted a core, on average over the last minute.
pub fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The value in the first line of a file that begins with a name, after the colon.
fn line_of(path: &str, name: &str) -> Option<String> {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn commit() -> Option<String> {
    let git = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(git).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
