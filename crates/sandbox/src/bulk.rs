//! How the bulk calls behave where Klaviyo's documents leave it open, or where a test wants a say.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// When a bulk call of events in which a `unique_id` is a repeat fails. Klaviyo's document says that "the request will
/// fail and no events will be processed", not when.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Repeats {
    /// It is answered 400.
    AtOnce,
    /// It is answered 202, and its events never come.
    After,
}

/// How the bulk calls behave.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BulkSettings {
    /// When a repeated `unique_id` fails a call.
    pub repeats: Repeats,
    /// How long a job waits before its first entry is taken, in milliseconds.
    pub queued_ms: u64,
    /// How long it takes from then to its last entry, in milliseconds.
    pub processing_ms: u64,
    /// Whether import errors name the profile as it was sent, or null instead.
    pub original_payloads: bool,
}

/// A change of some of the settings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkChange {
    repeats: Option<Repeats>,
    queued_ms: Option<u64>,
    processing_ms: Option<u64>,
    original_payloads: Option<bool>,
}

impl BulkSettings {
    /// How many of its entries a job of this age should have taken, evenly over the time that it works. `None` while it
    /// waits.
    pub fn due(&self, total: usize, age_us: u64) -> Option<usize> {
        let working_us = u128::from(age_us).checked_sub(u128::from(self.queued_ms) * 1_000)?;
        let length_us = u128::from(self.processing_ms) * 1_000;
        if working_us >= length_us {
            return Some(total);
        }
        // Less than the total, which is a usize.
        Some((total as u128 * working_us / length_us) as usize)
    }

    /// How long the processing takes, in microseconds.
    pub fn processing_us(&self) -> u64 {
        self.processing_ms.saturating_mul(1_000)
    }

    /// How long a job takes from its creation to its end, in microseconds.
    pub fn length_us(&self) -> u64 {
        self.queued_ms.saturating_mul(1_000).saturating_add(self.processing_us())
    }

    pub fn changed(self, change: &BulkChange) -> Self {
        Self {
            repeats: change.repeats.unwrap_or(self.repeats),
            queued_ms: change.queued_ms.unwrap_or(self.queued_ms),
            processing_ms: change.processing_ms.unwrap_or(self.processing_ms),
            original_payloads: change.original_payloads.unwrap_or(self.original_payloads),
        }
    }
}
