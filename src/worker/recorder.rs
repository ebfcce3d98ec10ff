//! Writes down what the HTTP thread reports, and keeps it where there is no room to write. Lanes are told only of what
//! is recorded: with `klaviyo.max_in_flight` calls waiting for that they send no more, so a full disk makes nothing be
//! sent twice.

use std::sync::Arc;
use std::time::Instant;

use delivery::campaign::CampaignNews;
use delivery::{AccountState, Finding, ImportReport, Outcome, Parked, ReadAnswer, Report};
use pgrx::prelude::*;
use pgrx::spi;

use super::accounts::Accounts;
use super::daily;
use super::process::{NO_ROOM_PAUSE, attempt, is_lack_of_room};
use crate::outbox::settle::Settler;
use crate::outbox::{campaign, import};
use crate::pg::scoped::without_triggers;
use crate::pull::read;

/// What is not recorded yet.
#[derive(Default)]
pub struct Recorder {
    settler: Settler,
    outcomes: Vec<Outcome>,
    lanes: Vec<(Arc<str>, &'static str)>,
    states: Vec<(Arc<str>, AccountState)>,
    found: Vec<(Arc<str>, Vec<Finding>)>,
    imports: Vec<(Arc<str>, ImportReport)>,
    campaigns: Vec<(Arc<str>, CampaignNews)>,
    parked: Vec<Parked>,
    reads: Vec<ReadAnswer>,
    announced: Vec<(Arc<str>, [u8; 16])>,
    /// There was no room; when to try again.
    again_at: Option<Instant>,
}

/// What has just been recorded: outcomes, the lanes of their calls, how far import jobs have come, and which calls are about
/// to be made; and what of these needs no record, but its time: what has left the HTTP thread to wait for jobs.
pub struct Recorded {
    pub outcomes: Vec<Outcome>,
    pub lanes: Vec<(Arc<str>, &'static str)>,
    pub imports: Vec<(Arc<str>, ImportReport)>,
    pub parked: Vec<Parked>,
    /// The reads that are answered.
    pub reads: Vec<i64>,
    pub announced: Vec<(Arc<str>, [u8; 16])>,
}

impl Recorder {
    /// Looks for what others have done to the tables, in the transaction the caller has begun.
    pub fn look(&mut self) -> Result<(), spi::Error> {
        self.settler.look()
    }

    /// Takes reports.
    pub fn take(&mut self, reports: Vec<Report>) {
        for report in reports {
            let Report {
                account,
                lane,
                outcomes,
                account_state,
                findings,
                imports,
                campaigns,
                parked,
                reads,
                announced,
            } = report;
            self.announced.extend(announced.map(|id| (account.clone(), id)));
            self.outcomes.extend(outcomes);
            self.parked.extend(parked);
            self.reads.extend(reads);
            self.imports.extend(imports.into_iter().map(|import| (account.clone(), import)));
            self.campaigns.extend(campaigns.into_iter().map(|news| (account.clone(), news)));
            self.found.extend(findings.map(|findings| (account.clone(), findings)));
            self.states.extend(account_state.map(|state| (account.clone(), state)));
            self.lanes.extend(lane.map(|lane| (account, lane.name)));
        }
    }

    /// Takes messages that no call was needed for to know that they are dead.
    pub fn add(&mut self, undeliverable: Vec<Outcome>) {
        self.outcomes.extend(undeliverable);
    }

    /// When to try again, where there was no room.
    pub fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// The next try is the last, and is not waited for.
    pub fn hurry(&mut self) {
        self.again_at = self.again_at.map(|_| Instant::now());
    }

    /// Records what there is. None: there is nothing, or no room.
    pub fn record(&mut self, accounts: &mut Accounts) -> Option<Recorded> {
        let nothing = self.outcomes.is_empty()
            && self.states.is_empty()
            && self.lanes.is_empty()
            && self.imports.is_empty()
            && self.campaigns.is_empty()
            && self.parked.is_empty()
            && self.reads.is_empty();
        if nothing || self.again_at.is_some_and(|again_at| Instant::now() < again_at) {
            return None;
        }
        let recorded = attempt(c"recording outcomes", is_lack_of_room, || {
            self.settler.settle(&self.outcomes)?;
            self.lanes.iter().try_for_each(|(account, lane)| daily::note(account, lane))?;
            self.imports.iter().try_for_each(|(account, report)| import::record(account, report))?;
            if !self.campaigns.is_empty() {
                without_triggers(|| {
                    self.campaigns.iter().try_for_each(|(account, news)| campaign::record(account, news))
                })?;
            }
            self.reads.iter().try_for_each(read::record)?;
            self.found.iter().try_for_each(|(account, findings)| accounts.found(account, findings))?;
            self.states.iter().try_for_each(|(account, state)| accounts.note(account, state))
        });
        if let Err(error) = recorded {
            if self.again_at.is_none() {
                ereport!(
                    PgLogLevel::WARNING,
                    PgSqlErrorCode::ERRCODE_DISK_FULL,
                    format!("klaviyo_sync: what became of messages cannot be recorded: {error}"),
                    "It is kept in memory and tried again every few seconds; until then little is sent."
                );
            }
            self.again_at = Some(Instant::now() + NO_ROOM_PAUSE);
            return None;
        }
        if self.again_at.take().is_some() {
            log!("klaviyo_sync: what became of messages is recorded again");
        }
        self.found.clear();
        self.campaigns.clear();
        self.states.clear();
        Some(Recorded {
            outcomes: std::mem::take(&mut self.outcomes),
            lanes: std::mem::take(&mut self.lanes),
            imports: std::mem::take(&mut self.imports),
            parked: std::mem::take(&mut self.parked),
            reads: std::mem::take(&mut self.reads).into_iter().map(|answer| answer.id).collect(),
            announced: std::mem::take(&mut self.announced),
        })
    }
}
