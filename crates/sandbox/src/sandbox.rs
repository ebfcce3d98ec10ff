//! What all connections share: the settings, and one mutex around everything that changes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use crate::batches::Batches;
use crate::bulk::BulkSettings;
use crate::campaigns::Campaigns;
use crate::faults::Faults;
use crate::flows::Flows;
use crate::jobs::Jobs;
use crate::rates::{RateSettings, Rates};
use crate::receipts::Receipts;
use crate::reports::Reports;
use crate::server::Command;
use crate::store::Store;
use crate::webhooks::Webhooks;

/// What the command line fixed.
pub struct Settings {
    /// The accepted keys; none means every key that starts with `pk_`.
    pub keys: Vec<String>,
    pub store_bodies: bool,
    /// The API listener's base URL, for the links in answers.
    pub api_url: String,
    pub seed: u64,
    pub rates: RateSettings,
    pub bulk: BulkSettings,
}

/// The sandbox. Nothing waits while it holds the lock.
pub struct Sandbox {
    pub settings: Settings,
    /// To the API listener.
    pub door: mpsc::Sender<Command>,
    started: Instant,
    up: AtomicBool,
    connections: AtomicU64,
    state: Mutex<State>,
}

/// All that a reset forgets or a control path changes.
pub struct State {
    pub store: Store,
    pub receipts: Receipts,
    pub rates: Rates,
    pub faults: Faults,
    pub jobs: Jobs,
    pub batches: Batches,
    pub campaigns: Campaigns,
    pub webhooks: Webhooks,
    pub flows: Flows,
    pub reports: Reports,
    pub bulk: BulkSettings,
}

impl Sandbox {
    pub fn new(settings: Settings, door: mpsc::Sender<Command>) -> Self {
        let state = State {
            store: Store::new(settings.seed),
            receipts: Receipts::new(settings.store_bodies),
            rates: Rates::new(settings.rates, settings.seed),
            faults: Faults::new(settings.seed),
            jobs: Jobs::new(settings.seed),
            // Other seeds, so that no two of them have one id.
            batches: Batches::new(settings.seed.wrapping_add(1)),
            campaigns: Campaigns::new(settings.seed.wrapping_add(2)),
            webhooks: Webhooks::new(settings.seed.wrapping_add(3)),
            flows: Flows::new(settings.seed.wrapping_add(4)),
            reports: Reports::new(),
            bulk: settings.bulk,
        };
        Self {
            settings,
            door,
            started: Instant::now(),
            up: AtomicBool::new(true),
            connections: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    /// What changes, with all jobs and campaigns as far as they are by now.
    pub fn state(&self) -> MutexGuard<'_, State> {
        // A panic in one request must not end the sandbox for all others: the lock is taken even if poisoned.
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { jobs, batches, campaigns, bulk, store, .. } = &mut *guard;
        let now_us = self.now_us();
        jobs.advance(bulk, store, now_us);
        batches.advance(bulk, store, now_us);
        campaigns.advance(bulk, store, now_us);
        guard
    }

    /// Microseconds since the start, never going back.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    /// Counts an accepted API connection and returns its number, from 1.
    pub fn count_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Forgets profiles, events, lists, segments, consents, the catalog, coupons, templates, campaigns, webhooks, flows, the
    /// numbers of reports, jobs, receipts and faults, and begins new rate windows. The settings of rates, bulk calls and
    /// reports stay, and so does the number of connections, which are still open.
    pub fn reset(&self) {
        let mut state = self.state();
        state.store.clear();
        state.jobs.clear();
        state.batches.clear();
        state.campaigns.clear();
        state.webhooks.clear();
        state.flows.clear();
        state.reports.clear();
        state.receipts.clear();
        state.faults.replace(Vec::new());
        state.rates.restart();
    }
}
