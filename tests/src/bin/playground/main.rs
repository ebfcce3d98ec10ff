//! `playground`: what `make demo`, `make up` and `make down` run.

mod compare;
mod demo;
mod screen;
mod up;

use std::panic::{self, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use harness::{directory, interrupt};

const USAGE: &str = "usage: playground demo | up [--dir DIRECTORY] | down [--dir DIRECTORY]";

fn main() -> ExitCode {
    interrupt::catch();
    // The harness panics when something fails. Unwinding cleans up; where in the source it was helps nobody here.
    panic::set_hook(Box::new(|info| {
        eprintln!("playground: {}", info.payload_as_str().unwrap_or("failed"));
    }));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match catch_unwind(|| run(&arguments)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(reason)) => {
            eprintln!("playground: {reason}");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let home = || directory::root().join("playground");
    match arguments[..] {
        ["demo"] => demo::play(),
        ["up"] => up::up(&home()),
        ["up", "--dir", directory] => up::up(&absolute(directory)?),
        ["down"] => up::down(&home()),
        ["down", "--dir", directory] => up::down(&absolute(directory)?),
        _ => Err(USAGE.to_owned()),
    }
}

fn absolute(directory: &str) -> Result<PathBuf, String> {
    std::path::absolute(directory).map_err(|error| format!("{directory}: {error}"))
}
