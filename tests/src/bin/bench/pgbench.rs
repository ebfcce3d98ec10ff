//! Runs of pgbench.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use harness::process::spawn_bound;
use harness::{Cluster, Signal, interrupt};

/// What a run did.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub transactions: i64,
    /// Transactions a second, without the time to connect.
    pub rate: f64,
}

/// One run of it.
pub struct Pgbench(Command);

impl Pgbench {
    /// In database `shop`, with statements prepared once a session and no VACUUM before.
    pub fn new(cluster: &Cluster) -> Self {
        let mut command = cluster.client("pgbench");
        command.args(["--no-vacuum", "--protocol=prepared"]);
        Self(command)
    }

    /// Settings of its sessions, as for `PGOPTIONS`.
    #[must_use]
    pub fn options(mut self, options: &str) -> Self {
        self.0.env("PGOPTIONS", options);
        self
    }

    /// Runs a script instead of the built-in one.
    #[must_use]
    pub fn script(mut self, script: &PathBuf) -> Self {
        self.0.arg("--file").arg(script);
        self
    }

    /// Has so many clients run for so many seconds.
    pub fn run(mut self, clients: usize, seconds: u64) -> Result<Done, String> {
        self.0.args(["--client", &clients.to_string(), "--time", &seconds.to_string(), "shop"]);
        let output = run(self.0)?;
        let number = |before: &str| -> Option<&str> {
            output.lines().find_map(|line| line.strip_prefix(before))?.split([' ', '/']).next()
        };
        let transactions = number("number of transactions actually processed: ").and_then(|n| n.parse().ok());
        let rate = number("tps = ").and_then(|n| n.parse().ok());
        match (transactions, rate) {
            (Some(transactions), Some(rate)) => Ok(Done { transactions, rate }),
            _ => Err(format!("pgbench did not say how fast it was:\n{output}")),
        }
    }
}

/// Makes pgbench's own tables in database `shop`.
pub fn initialize(cluster: &Cluster, scale: u32) -> Result<(), String> {
    let mut command = cluster.client("pgbench");
    command.args(["--initialize", "--quiet", "--scale", &scale.to_string(), "shop"]);
    run(command).map(drop)
}

/// Writes a script to a file in the cluster's directory.
pub fn script(cluster: &Cluster, name: &str, sql: &str) -> Result<PathBuf, String> {
    let file = cluster.directory().join(format!("{name}.sql"));
    fs::write(&file, sql).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(file)
}

fn run(mut command: Command) -> Result<String, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        spawn_bound(command, Signal::SIGKILL).map_err(|error| format!("cannot run pgbench: {error}"))?;
    // It writes a screenful, which finds room in the pipe.
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(format!("cannot wait for pgbench: {error}")),
        }
        if let Err(interrupted) = interrupt::check() {
            let _ = child.kill().and_then(|()| child.wait());
            return Err(interrupted);
        }
    };
    let mut output = String::new();
    let streams = [
        child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read>),
        child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read>),
    ];
    for mut stream in streams.into_iter().flatten() {
        let _ = stream.read_to_string(&mut output);
    }
    // A client that fails leaves the others running, and pgbench succeeding.
    if status.success() && !output.contains("aborted") {
        Ok(output)
    } else {
        Err(format!("pgbench failed ({status}):\n{output}"))
    }
}
