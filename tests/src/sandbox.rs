//! The stand-in for Klaviyo, as a process of its own.

use std::ffi::OsStr;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::Agent;

use crate::control::Control;
use crate::port::Port;
use crate::process::{Process, spawn_bound, spawn_free};
use crate::shop::SANDBOX_KEY;
use crate::wait::{PATIENCE, becomes_true};

/// Names the program, when it does not lie where cargo builds it.
const PROGRAM: &str = "KLAVIYO_SANDBOX_BIN";

/// Where it says how to reach it, in the directory of its files. It is read as soon as it is there: it comes by rename.
const READY_FILE: &str = "sandbox.json";

/// What a new sandbox is to be like.
#[derive(Debug, Default)]
pub struct SandboxBuilder {
    arguments: Vec<String>,
    lasting: bool,
    memory_kept: bool,
}

impl SandboxBuilder {
    /// Adds command line arguments; `klaviyo-sandbox --help` tells which there are.
    #[must_use]
    pub fn arguments<S: AsRef<str>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Lets it outlive this process (see [`Sandbox::leave_running`]).
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// Has it keep the memory that it no longer needs, so that it does not have to ask for it again: for who measures.
    #[must_use]
    pub fn memory_kept(mut self) -> Self {
        self.memory_kept = true;
        self
    }

    /// Starts it, with its files in a directory, and waits until it listens.
    pub fn start(self, directory: &Path) -> Sandbox {
        let (ready_file, log_file) = (directory.join(READY_FILE), directory.join("sandbox.log"));
        let (api_port, control_port) = (Port::reserve(), Port::reserve());
        let log = fs::File::create(&log_file).expect("the sandbox's log can be made");
        let mut command = Command::new(program());
        command.args(["--listen", &format!("127.0.0.1:{}", api_port.number())]);
        command.args(["--control", &format!("127.0.0.1:{}", control_port.number())]);
        command.arg("--ready-file").arg(&ready_file).args(&self.arguments).stdin(Stdio::null());
        if self.memory_kept {
            // Of its allocator, mimalloc.
            command.env("MIMALLOC_PURGE_DELAY", "-1");
        }
        command.stdout(log.try_clone().expect("the log can be opened twice")).stderr(log);
        let child = if self.lasting { spawn_free(command) } else { spawn_bound(command, Signal::SIGKILL) };
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {}: {error}", program().display()));
        becomes_true(PATIENCE, || {
            ready_file.exists() || child.try_wait().expect("the sandbox is our child").is_some()
        });
        let Some(ready) = Ready::read(directory) else {
            // One that is to last would.
            let ended = child.kill().and_then(|()| child.wait());
            let log = fs::read_to_string(&log_file).unwrap_or_default();
            panic!("the sandbox is not up ({ended:?}):\n{log}");
        };
        Sandbox {
            child,
            api: ready.api,
            control: Control::new(&ready.control),
            free: self.lasting,
            left_running: false,
            _ports: [api_port, control_port],
        }
    }
}

/// What the sandbox writes when it listens.
#[derive(Deserialize)]
struct Ready {
    api: String,
    control: String,
    pid: i32,
}

impl Ready {
    fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(directory.join(READY_FILE)).ok()?).ok()
    }
}

/// A running sandbox, stopped with this value. All of [`Control`] can be called on it.
#[derive(Debug)]
pub struct Sandbox {
    child: Child,
    api: String,
    control: Control,
    free: bool,
    left_running: bool,
    _ports: [Port; 2],
}

impl Sandbox {
    /// Describes a new sandbox.
    pub fn builder() -> SandboxBuilder {
        SandboxBuilder::default()
    }

    /// The one that a lasting sandbox in this directory left running.
    pub fn left_in(directory: &Path) -> Option<Process> {
        Process::find_with(Ready::read(directory)?.pid, &directory.join(READY_FILE))
    }

    /// The base URL of what looks like Klaviyo's API.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// Makes a list, and returns its id.
    pub fn make_list(&self, name: &str) -> String {
        let body = json!({"data": {"type": "list", "attributes": {"name": name}}});
        let config = Agent::config_builder().timeout_global(Some(PATIENCE)).proxy(None);
        let agent: Agent = config.build().into();
        let call = agent
            .post(format!("{}/api/lists", self.api))
            .header("Authorization", format!("Klaviyo-API-Key {SANDBOX_KEY}"))
            .header("revision", delivery::klaviyo::REVISION)
            .content_type("application/vnd.api+json");
        let mut answer = call.send(body.to_string()).expect("the list can be made");
        let list: Value = answer.body_mut().read_json().expect("an answer");
        list["data"]["id"].as_str().expect("an id").to_owned()
    }

    /// Its process.
    pub fn process(&self) -> Option<Process> {
        Process::find(self.child.id().try_into().expect("process numbers fit"))
    }

    /// Has it take connections and requests, and neither read nor answer anything, until the value goes.
    pub fn freeze(&self) -> Frozen {
        let process = self.process().expect("it runs");
        process.freeze();
        Frozen(process)
    }

    /// Lets go of a lasting sandbox: dropping it no longer stops it.
    pub fn leave_running(&mut self) {
        assert!(self.free, "only a lasting sandbox can be left running");
        self.left_running = true;
    }
}

/// A sandbox that stands still. It goes on when this value goes; until then its control paths do not answer either.
#[derive(Debug)]
pub struct Frozen(Process);

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGCONT);
    }
}

impl Deref for Sandbox {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.left_running {
            return;
        }
        if let Some(process) = self.process() {
            process.signal(Signal::SIGTERM);
            if !becomes_true(PATIENCE, || !matches!(self.child.try_wait(), Ok(None))) {
                eprintln!("the sandbox does not end at SIGTERM; killing it");
                process.signal(Signal::SIGKILL);
            }
        }
        let _ = self.child.wait();
    }
}

/// Cargo puts programs beside this one, or one directory up when this is a test.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os(PROGRAM) {
        return named.into();
    }
    let own = std::env::current_exe().expect("the own program has a path");
    let beside = own.parent().expect("a program lies in a directory");
    let directory =
        if beside.file_name() == Some(OsStr::new("deps")) { beside.parent() } else { Some(beside) };
    let program = directory.expect("deps lies in a directory").join("klaviyo-sandbox");
    assert!(program.exists(), "{} is not built; `cargo build -p klaviyo-sandbox` does it", program.display());
    program
}
