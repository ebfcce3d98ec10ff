//! What the worker uses: time of the processor, and memory.

use std::fs;
use std::time::Duration;

use harness::{Process, wait_for_worker};
use postgres::Client;

/// Kilobytes in the megabytes that are shown.
const KB: f64 = 1_024.0;

/// The worker of one database.
pub struct Worker {
    process: Process,
    cpu: Duration,
    /// The most memory of its own that has been seen.
    own_kb: u64,
}

/// What it has used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub cpu_seconds: f64,
    /// VmHWM: with the pages of shared_buffers that it has touched.
    pub peak_mb: f64,
    /// RssAnon and RssFile, by looking often: what it takes for itself, its code included.
    pub own_mb: f64,
}

impl Worker {
    /// That of the client's database. From here on what it uses counts.
    pub fn watch(db: &mut Client) -> Result<Self, String> {
        let process = Process::find(wait_for_worker(db)).ok_or("the worker has ended")?;
        // "5" begins the peak anew; see proc_pid_clear_refs(5).
        fs::write(format!("/proc/{}/clear_refs", process.pid), "5")
            .map_err(|error| format!("cannot begin the worker's peak of memory anew: {error}"))?;
        let cpu = process.cpu().ok_or("the worker has ended")?;
        Ok(Self { process, cpu, own_kb: 0 })
    }

    /// Looks how much memory it has now.
    pub fn look(&mut self) {
        self.own_kb = self.own_kb.max(self.own_kb_now());
    }

    /// The megabytes that it has now for itself.
    pub fn own_mb(&self) -> f64 {
        self.own_kb_now() as f64 / KB
    }

    fn own_kb_now(&self) -> u64 {
        let status = self.status();
        kilobytes(&status, "RssAnon") + kilobytes(&status, "RssFile")
    }

    /// What it has used since.
    pub fn usage(&mut self) -> Result<Usage, String> {
        self.look();
        let cpu = self.process.cpu().filter(|_| self.process.is_alive()).ok_or("the worker has ended")?;
        Ok(Usage {
            cpu_seconds: (cpu - self.cpu).as_secs_f64(),
            peak_mb: kilobytes(&self.status(), "VmHWM") as f64 / KB,
            own_mb: self.own_kb as f64 / KB,
        })
    }

    fn status(&self) -> String {
        fs::read_to_string(format!("/proc/{}/status", self.process.pid)).unwrap_or_default()
    }
}

fn kilobytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
