//! The extension as the database has it, and whether the library that the server has loaded is of the same version.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use pgrx::{PgSqlErrorCode, pg_sys, spi};

use super::process::{self, transaction};
use super::slots::{Slot, state};
use crate::pg;
use crate::pg::spi::{column, rows};
use crate::settings;

/// The version of this library.
const OWN: &str = env!("CARGO_PKG_VERSION");

const EXTENSION: &str =
    "SELECT e.oid, e.extversion FROM pg_catalog.pg_extension AS e WHERE e.extname = 'klaviyo_sync'";

/// The extension of a database. Dropped and made anew it is another one.
#[derive(PartialEq, Eq)]
pub struct Extension {
    pub oid: pg_sys::Oid,
    version: String,
}

impl Extension {
    pub fn find() -> Result<Option<Self>, spi::Error> {
        let mut found = None;
        rows(EXTENSION, &[], |row| found = Some(Self { oid: column(row, 1), version: column(row, 2) }))?;
        Ok(found)
    }

    /// Whether its tables are those this library knows.
    pub fn is_ours(&self) -> bool {
        self.version == OWN
    }
}

/// Waits until the extension is of this library's version. None when there is no extension, or the worker is to end.
pub fn wait_for_ours(slot: &Slot) -> Option<Extension> {
    let mut told = None;
    loop {
        let Some(extension) = transaction(c"looking for the extension", Extension::find) else {
            slot.set_state(state::ABSENT);
            return None;
        };
        if extension.is_ours() {
            return Some(extension);
        }
        if told.as_ref() != Some(&extension.version) {
            warn(&extension.version);
            // What it has spent nobody can read; others need not wait for that.
            slot.shown().store(true, SeqCst);
            told = Some(extension.version);
        }
        let look_at = Instant::now() + settings::poll_interval();
        // Commits that queue something wake it in vain.
        while !slot.take_configuration() && Instant::now() < look_at {
            let reload = process::wait(look_at.saturating_duration_since(Instant::now()), None);
            if process::is_terminating() {
                return None;
            }
            if reload {
                break;
            }
        }
    }
}

fn warn(version: &str) {
    let older = numbers(OWN) < numbers(version);
    let hint = if older {
        "Restart the server: it still has the older library loaded."
    } else {
        "ALTER EXTENSION klaviyo_sync UPDATE brings this database to the library's version."
    };
    let message = format!(
        "nothing is sent, messages wait: the extension is version {version}, the library that is loaded {OWN}"
    );
    pg::warn(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message, hint);
}

fn numbers(version: &str) -> Vec<u64> {
    version.split(|letter: char| !letter.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}
