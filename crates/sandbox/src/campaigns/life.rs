//! What time does to campaigns: a send job works, a sending begins when it is due, and ends.

use jiff::Timestamp;

use super::{Campaign, Campaigns};
use crate::bulk::BulkSettings;
use crate::jobs::Status;
use crate::store::Store;
use crate::time::now;

/// How far a campaign is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    Draft,
    /// Its send job is at work.
    Preparing,
    /// The time to send has not come.
    Scheduled,
    Sending {
        since_us: u64,
    },
    Sent,
    Cancelled,
    /// When it was to be sent nobody was in its audience.
    NoRecipients,
}

/// A job about a campaign, whose id it has.
pub(super) struct Job {
    since_us: u64,
    pub status: Status,
}

impl Job {
    pub fn new(now_us: u64) -> Self {
        Self { since_us: now_us, status: Status::Queued }
    }

    pub fn is_under_way(&self) -> bool {
        matches!(self.status, Status::Queued | Status::Processing)
    }

    pub fn cancel(&mut self) {
        self.status = Status::Cancelled;
    }

    /// Goes as far as is due. When it comes to its end, the time of that.
    fn advance(&mut self, settings: &BulkSettings, now_us: u64) -> Option<u64> {
        if !self.is_under_way() {
            return None;
        }
        let due = settings.due(1, now_us.saturating_sub(self.since_us));
        self.status = Status::of(due.is_some(), due == Some(1));
        (self.status == Status::Complete).then(|| self.since_us + settings.length_us())
    }
}

impl Campaigns {
    /// Has every campaign be where it is by now.
    pub fn advance(&mut self, settings: &BulkSettings, store: &Store, now_us: u64) {
        let mut open = self.campaigns.iter_mut().filter(|campaign| campaign.is_under_way()).peekable();
        if open.peek().is_none() {
            return;
        }
        let now = now();
        open.for_each(|campaign| campaign.advance(settings, store, now_us, now));
    }
}

impl Campaign {
    fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Preparing | Stage::Scheduled | Stage::Sending { .. })
            || self.estimation_job.as_ref().is_some_and(Job::is_under_way)
    }

    pub(super) fn advance(&mut self, settings: &BulkSettings, store: &Store, now_us: u64, now: Timestamp) {
        let estimation = self.estimation_job.as_mut();
        if estimation.and_then(|job| job.advance(settings, now_us)).is_some() {
            self.estimate = Some(self.count_audience(store));
        }
        let send_job = self.send_job.as_mut();
        if let Some(ended_us) = send_job.and_then(|job| job.advance(settings, now_us)) {
            match self.strategy.time() {
                None => self.begin(store, ended_us, now),
                Some(time) => {
                    self.scheduled = Some(now);
                    self.send_time = Some(time);
                    self.enter(Stage::Scheduled, now);
                }
            }
        }
        if let (Stage::Scheduled, Some(time)) = (self.stage, self.send_time.filter(|time| *time <= now)) {
            // Not negative, since the time has come.
            let late_us = u64::try_from(now.duration_since(time).as_micros()).unwrap_or_default();
            self.begin(store, now_us.saturating_sub(late_us), now);
        }
        if let Stage::Sending { since_us } = self.stage
            && now_us.saturating_sub(since_us) >= settings.processing_us()
        {
            self.enter(Stage::Sent, now);
        }
    }

    /// Begins to send, to whoever is in the audience by now.
    fn begin(&mut self, store: &Store, since_us: u64, now: Timestamp) {
        self.recipients = self.count_audience(store);
        if self.recipients == 0 {
            self.enter(Stage::NoRecipients, now);
        } else {
            self.send_time.get_or_insert(now);
            self.sendings += 1;
            self.enter(Stage::Sending { since_us }, now);
        }
    }

    pub(super) fn enter(&mut self, stage: Stage, now: Timestamp) {
        self.stage = stage;
        self.updated = now;
    }

    fn count_audience(&self, store: &Store) -> usize {
        store.count_on_lists(&self.audiences.included, &self.audiences.excluded)
    }

    /// The status as answers have it.
    pub fn status(&self) -> &'static str {
        match self.stage {
            Stage::Draft => "Draft",
            Stage::Preparing if self.strategy.time().is_none() => "Preparing to send",
            Stage::Preparing => "Preparing to schedule",
            Stage::Scheduled => "Scheduled",
            Stage::Sending { .. } => "Sending",
            Stage::Sent => "Sent",
            Stage::Cancelled => "Cancelled",
            Stage::NoRecipients => "Cancelled: No Recipients",
        }
    }
}
