//! All that a run brings: what `bench.json` holds.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::bed;
use crate::effort::Effort;
use crate::figure::Section;
use crate::machine::{self, Machine};

/// A run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    /// Settings of every cluster, beside the defaults.
    pub settings: Vec<(String, String)>,
    pub effort: Effort,
    /// Load at the beginning and at the end. The one at the beginning is the work of others.
    pub load: [f64; 2],
    pub seconds: u64,
    pub sections: Vec<Section>,
    pub failures: Vec<Failure>,
    #[serde(skip)]
    began: Instant,
}

/// What could not be measured.
#[derive(Debug, Serialize)]
pub struct Failure {
    pub measurement: String,
    pub reason: String,
}

impl Failure {
    /// Why a measurement was not made.
    pub fn new(measurement: &str, reason: &str) -> Self {
        Self { measurement: measurement.to_owned(), reason: reason.to_owned() }
    }
}

impl Report {
    /// One that holds nothing yet.
    pub fn begin(effort: &Effort) -> Self {
        Self {
            machine: Machine::this(),
            settings: bed::settings(),
            effort: *effort,
            load: [machine::load(); 2],
            seconds: 0,
            sections: Vec::new(),
            failures: Vec::new(),
            began: Instant::now(),
        }
    }

    /// Nothing more comes.
    pub fn end(&mut self) {
        self.load[1] = machine::load();
        self.seconds = self.began.elapsed().as_secs();
    }

    /// Writes it as JSON.
    pub fn write(&self, file: &Path) -> Result<(), String> {
        let json = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        fs::write(file, json + "\n").map_err(|error| format!("cannot write {}: {error}", file.display()))
    }
}
