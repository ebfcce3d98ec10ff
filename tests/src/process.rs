//! Processes: told apart for good, signalled, waited for, and made to die with their parent.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid, setsid};
use serde::{Deserialize, Serialize};

use crate::wait::{PATIENCE, becomes_true};

/// One process. Its start time tells it from a later process under the same number.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Process {
    /// The process number.
    pub pid: i32,
    /// Clock ticks between boot and its start.
    started: u64,
}

/// What /proc/PID/stat says of a process, as far as it matters here (see proc(5)).
struct Stat {
    state: char,
    parent: i32,
    /// Ticks of the processor, in user mode and in the kernel.
    ticks: u64,
    threads: u32,
    started: u64,
}

/// Ticks in a second, in everything that /proc tells: USER_HZ, which is 100 wherever Linux runs a Postgres.
const TICKS: u64 = 100;

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may itself hold blanks and parentheses.
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let user: u64 = fields.nth(9)?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    let threads = fields.nth(4)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(Stat { state, parent, ticks: user + kernel, threads, started })
}

impl Stat {
    /// A process is a zombie as soon as its first thread has ended; until the others have too, its memory stays, and with
    /// it the shared memory that forbids another server to start.
    fn runs(&self) -> bool {
        self.state != 'Z' || self.threads > 1
    }
}

impl Process {
    /// The living process under this number.
    pub fn find(pid: i32) -> Option<Self> {
        let found = stat(pid).filter(Stat::runs)?;
        Some(Self { pid, started: found.started })
    }

    /// The living process under this number, if this is one of its arguments: for numbers that stand in files, which may
    /// be somebody else's by now.
    pub fn find_with(pid: i32, argument: &Path) -> Option<Self> {
        let found = Self::find(pid)?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        command.split(|&byte| byte == 0).any(|part| part == argument.as_os_str().as_bytes()).then_some(found)
    }

    /// Every living child of a process.
    pub fn children_of(parent: i32) -> Vec<Self> {
        let entries = fs::read_dir("/proc").expect("/proc can be read");
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|&pid| stat(pid).is_some_and(|stat| stat.parent == parent))
            .filter_map(Self::find)
            .collect()
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Whether a SIGSTOP holds it.
    pub fn is_stopped(self) -> bool {
        self.is_alive() && stat(self.pid).is_some_and(|stat| stat.state == 'T')
    }

    /// Freezes it, and returns when it does nothing more, not even finish what it had begun.
    pub fn freeze(self) {
        self.signal(Signal::SIGSTOP);
        assert!(becomes_true(PATIENCE, || self.is_stopped()), "process {} does not stop", self.pid);
    }

    /// The processor's time that it has used, all its threads together.
    pub fn cpu(self) -> Option<Duration> {
        stat(self.pid).map(|stat| Duration::from_millis(stat.ticks * 1_000 / TICKS))
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(self, signal: Signal) {
        if self.is_alive() {
            // It may end between the question and the signal; nothing is wrong then.
            let _ = nix::sys::signal::kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Waits until it has ended; false when the time is up first.
    pub fn wait_gone(self, patience: Duration) -> bool {
        becomes_true(patience, || !self.is_alive())
    }
}

/// Sends a signal to the process with this number, such as one that `pg_stat_activity` names.
pub fn kill(pid: i32, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(pid), signal)
        .unwrap_or_else(|error| panic!("cannot send {signal} to process {pid}: {error}"));
}

/// Starts a child that gets `signal` when this process ends, however it ends. Ctrl-C at the terminal does not reach
/// it, so that this process can clean up in order.
pub fn spawn_bound(mut command: Command, signal: Signal) -> io::Result<Child> {
    let parent = Pid::this();
    command.process_group(0);
    // SAFETY: only system calls between fork and exec. It runs last, after a change of user, which clears the setting.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(signal)?;
            // The parent may have ended before the setting was made.
            if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
        });
    }
    spawn_from_lasting_thread(command)
}

/// Starts a child in a session of its own, which outlives this process.
pub fn spawn_free(mut command: Command) -> io::Result<Child> {
    // SAFETY: one system call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            setsid()?;
            Ok(())
        });
    }
    command.spawn()
}

type Order = (Command, Sender<io::Result<Child>>);

/// The death signal is sent when the *thread* that started the child ends (prctl(2)), so that one thread, which
/// lives as long as this process, starts them all.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in orders {
                // Whoever asked has panicked if nobody takes the answer; the child then ends with this process.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, answer) = channel();
    spawner.send((command, reply)).expect("the spawning thread lives as long as the process");
    answer.recv().expect("the spawning thread answers every order")
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::waitpid;
    use nix::unistd::{ForkResult, fork};

    use super::*;

    /// A child whose first thread ends at once, and whose second does nothing.
    fn half_ended() -> Pid {
        // SAFETY: the child needs nothing of what this process' other threads may hold, but memory, whose locks the C
        // library takes care of in fork().
        match unsafe { fork() }.expect("this process can be doubled") {
            ForkResult::Parent { child } => child,
            ForkResult::Child => loop {
                thread::spawn(|| thread::sleep(PATIENCE));
                // SAFETY: it ends this thread, which holds nothing.
                unsafe { nix::libc::syscall(nix::libc::SYS_exit, 0) };
            },
        }
    }

    #[test]
    fn a_process_runs_as_long_as_one_of_its_threads() {
        let child = half_ended();
        let is_zombie = || stat(child.as_raw()).is_some_and(|stat| stat.state == 'Z');
        assert!(becomes_true(PATIENCE, is_zombie), "its first thread does not end");
        let process = Process::find(child.as_raw()).expect("its other thread runs");
        assert!(!process.wait_gone(Duration::from_millis(100)));
        process.signal(Signal::SIGKILL);
        assert!(process.wait_gone(PATIENCE));
        waitpid(child, None).expect("it can be waited for");
    }
}
