//! `bench`: what `make bench` and `make bench-quick` run.
//!
//! In here: what is measured, and beside each figure its floor or its peer, measured in the same run. Not in here:
//! whether a figure is good enough. It fails only when something could not be run, or the wrong messages arrived.

mod at_the_limits;
mod backlog;
mod bare_client;
mod bed;
mod clock;
mod commit_to_request;
mod day;
mod drain;
mod drains;
mod effort;
mod enqueue;
mod figure;
mod machine;
mod neighbours;
mod pgbench;
mod report;
mod table;
mod turns;
mod worker;

use std::panic::{self, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use harness::interrupt;

use crate::effort::Effort;
use crate::figure::Section;
use crate::report::{Failure, Report};

const USAGE: &str = "usage: bench [--quick] [--json FILE] [MEASUREMENT...]";

/// Starts what it needs, measures, and stops it.
type Measurement = fn(&Effort) -> Result<Vec<Section>, String>;

/// All there are, in the order in which they run. Another one is another line.
const MEASUREMENTS: [(&str, Measurement); 7] = [
    ("enqueue", enqueue::measure),
    ("drains", drains::measure),
    ("limits", at_the_limits::measure),
    ("latency", commit_to_request::measure),
    ("backlog", backlog::measure),
    ("day", day::measure),
    ("neighbours", neighbours::measure),
];

fn main() -> ExitCode {
    interrupt::catch();
    // The harness panics when something fails. Unwinding cleans up; where in the source it was helps nobody here.
    panic::set_hook(Box::new(|info| {
        eprintln!("bench: {}", info.payload_as_str().unwrap_or("failed"));
    }));
    let wish = match Wish::read(std::env::args().skip(1)) {
        Ok(wish) => wish,
        Err(reason) => {
            eprintln!("bench: {reason}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let report = run(&wish);
    table::print(&report);
    if let Some(file) = &wish.json
        && let Err(reason) = report.write(file)
    {
        eprintln!("bench: {reason}");
        return ExitCode::FAILURE;
    }
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the measurements that are wished for. One that fails does not keep the others from being made.
fn run(wish: &Wish) -> Report {
    let mut report = Report::begin(&wish.effort);
    for (name, measure) in &wish.measurements {
        if interrupt::check().is_err() {
            report.failures.push(Failure::new(name, "interrupted"));
            break;
        }
        eprintln!("bench: {name}");
        match catch_unwind(|| measure(&wish.effort)) {
            Ok(Ok(sections)) => report.sections.extend(sections),
            Ok(Err(reason)) => {
                eprintln!("bench: {reason}");
                report.failures.push(Failure::new(name, &reason));
            }
            Err(_) => report.failures.push(Failure::new(name, "it panicked; what it said is above")),
        }
    }
    report.end();
    report
}

/// What the command line asks for.
struct Wish {
    effort: Effort,
    json: Option<PathBuf>,
    measurements: Vec<(&'static str, Measurement)>,
}

impl Wish {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut wish = Self { effort: Effort::full(), json: None, measurements: Vec::new() };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => wish.effort = Effort::quick(),
                "--json" => wish.json = Some(arguments.next().ok_or("--json needs a file")?.into()),
                name => {
                    let known = MEASUREMENTS.iter().find(|(known, _)| *known == name);
                    wish.measurements.push(*known.ok_or_else(|| {
                        let names = MEASUREMENTS.map(|(name, _)| name).join(", ");
                        format!("there is no measurement {name:?}; there are {names}")
                    })?);
                }
            }
        }
        if wish.measurements.is_empty() {
            wish.measurements = MEASUREMENTS.to_vec();
        }
        Ok(wish)
    }
}
