//! Upkeep: what the tables of history need now and then. A round of small steps, each a transaction of its own with
//! deliveries in between; a step that fails harms nothing else and comes again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pgrx::prelude::*;
use pgrx::spi;

use super::process::attempt;
use crate::capture::backfill::notes;
use crate::capture::write_back;
use crate::inbound;
use crate::outbox::{self, import, retention, unique_ids};
use crate::pg::scoped::without_triggers;
use crate::pull;
use crate::settings::{self, Retention};

/// Between two rounds. Days are long, and partitions made days ahead.
const ROUND: Duration = Duration::from_secs(3_600);

/// Until the next round when a step has failed: most likely somebody held a lock.
const AGAIN: Duration = Duration::from_secs(60);

/// A lock is asked for no longer than this, for who comes after us waits as long.
const BOUNDS: &str = "SET LOCAL lock_timeout = '100ms'";

/// The steps of a round, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    AddDays,
    DropDays,
    DeleteStrays,
    DeleteOldAnswers,
    DeleteOldJobs,
    DeleteOldCampaigns,
    DeleteOldCounts,
    DeleteOldWebhookEvents,
    DeleteOldEvents,
    DeleteOldDeadLetters,
    CountDeadLetters,
    DeleteSurplusDeadLetters,
    ForgetUniqueIds,
    ForgetKeys,
    DeleteOldDiscarded,
    DeleteOldDeletions,
    DeleteOldCleanUps,
    DeleteOldConflicts,
    ForgetSecrets,
}

const STEPS: [Step; 19] = [
    Step::AddDays,
    Step::DropDays,
    Step::DeleteStrays,
    Step::DeleteOldAnswers,
    Step::DeleteOldJobs,
    Step::DeleteOldCampaigns,
    Step::DeleteOldCounts,
    Step::DeleteOldWebhookEvents,
    Step::DeleteOldEvents,
    Step::DeleteOldDeadLetters,
    Step::CountDeadLetters,
    Step::DeleteSurplusDeadLetters,
    Step::ForgetUniqueIds,
    Step::ForgetKeys,
    Step::DeleteOldDiscarded,
    Step::DeleteOldDeletions,
    Step::DeleteOldCleanUps,
    Step::DeleteOldConflicts,
    Step::ForgetSecrets,
];

/// Where the round stands.
pub struct Upkeep {
    due_at: Instant,
    /// What the settings were when the round began.
    retention: Retention,
    step: usize,
    /// What the step has done so far.
    done: usize,
    /// Dead letters above the limit.
    surplus: i64,
    failed: bool,
    /// Steps that failed last time, and of which the log knows.
    failing: HashSet<Step>,
}

impl Upkeep {
    /// Begins with a round.
    pub fn new() -> Self {
        Self {
            due_at: Instant::now(),
            retention: settings::retention(),
            step: 0,
            done: 0,
            surplus: 0,
            failed: false,
            failing: HashSet::new(),
        }
    }

    /// When there is something to do.
    pub fn due_at(&self) -> Instant {
        self.due_at
    }

    /// Does a piece of what is due, if anything is.
    pub fn work(&mut self) {
        let now = Instant::now();
        let retention = settings::retention();
        if retention != self.retention {
            // Begins anew: who shortens a retention wants it done.
            *self = Self { failing: std::mem::take(&mut self.failing), ..Self::new() };
        }
        if now < self.due_at {
            return;
        }
        let step = STEPS[self.step];
        match attempt(c"upkeep", |_| true, || self.run(step)) {
            Ok(0) => {
                self.tell(step);
                if self.failing.remove(&step) {
                    log!("klaviyo_sync: upkeep ({}) works again", step.name());
                }
                self.next();
            }
            Ok(done) => self.done += done,
            Err(error) => {
                self.tell(step);
                self.failed = true;
                if self.failing.insert(step) {
                    ereport!(
                        PgLogLevel::WARNING,
                        PgSqlErrorCode::ERRCODE_WARNING,
                        format!("klaviyo_sync: upkeep ({}) failed: {error}", step.name()),
                        "It is tried again every minute. Delivery goes on."
                    );
                }
                self.next();
            }
        }
    }

    /// Goes on to the next step, or ends the round.
    fn next(&mut self) {
        self.done = 0;
        self.step += 1;
        if self.step == STEPS.len() {
            self.step = 0;
            self.due_at = Instant::now() + if self.failed { AGAIN } else { ROUND };
            self.failed = false;
        }
    }

    /// A piece of a step, in the transaction the caller has begun. Returns how much it did: 0 when nothing is left. In the worker
    /// nothing of the user's runs: no event trigger, and no trigger of his on a table that was read of Klaviyo.
    fn run(&mut self, step: Step) -> Result<usize, spi::Error> {
        Spi::run(BOUNDS)?;
        let Retention { delivery, dead_letter, dead_letters, unique_id, deletion, campaign, webhook, event } =
            self.retention;
        match step {
            Step::AddDays => without_triggers(retention::add_day),
            Step::DropDays => {
                delivery.map_or(Ok(0), |minutes| without_triggers(|| retention::drop_day(minutes)))
            }
            Step::DeleteStrays => delivery.map_or(Ok(0), retention::delete_strays),
            Step::DeleteOldAnswers => delivery.map_or(Ok(0), retention::delete_old_answers),
            Step::DeleteOldJobs => delivery.map_or(Ok(0), import::delete_old),
            Step::DeleteOldCampaigns => {
                campaign.map_or(Ok(0), |minutes| without_triggers(|| outbox::campaign::delete_old(minutes)))
            }
            Step::DeleteOldCounts => campaign
                .map_or(Ok(0), |minutes| without_triggers(|| pull::retention::delete_old_counts(minutes))),
            Step::DeleteOldWebhookEvents => webhook.map_or(Ok(0), inbound::retention::delete_old),
            Step::DeleteOldEvents => event
                .map_or(Ok(0), |minutes| without_triggers(|| pull::retention::delete_old_events(minutes))),
            Step::DeleteOldDeadLetters => dead_letter.map_or(Ok(0), retention::delete_old_dead_letters),
            Step::CountDeadLetters => {
                self.surplus = dead_letters.map_or(Ok(0), retention::surplus_dead_letters)?;
                Ok(0)
            }
            Step::DeleteSurplusDeadLetters if self.surplus > 0 => {
                let deleted = retention::delete_oldest_dead_letters(self.surplus)?;
                self.surplus -= deleted as i64;
                Ok(deleted)
            }
            Step::DeleteSurplusDeadLetters => Ok(0),
            Step::ForgetUniqueIds => unique_id.map_or(Ok(0), unique_ids::forget),
            Step::DeleteOldDiscarded => delivery.map_or(Ok(0), retention::delete_old_discarded),
            Step::DeleteOldDeletions => deletion.map_or(Ok(0), retention::delete_old_deletions),
            Step::DeleteOldCleanUps => delivery.map_or(Ok(0), pull::clean_up::delete_old),
            Step::DeleteOldConflicts => write_back::task::delete_old(delivery),
            Step::ForgetSecrets => outbox::secrets::forget(),
            Step::ForgetKeys => {
                if self.done == 0 && notes::stop_largest()? {
                    log!(
                        "klaviyo_sync: a mapping has captured too many rows that could be taken for such as were there before; of its history it knows no more"
                    );
                }
                notes::forget()
            }
        }
    }

    /// Tells what the step has dropped.
    fn tell(&self, step: Step) {
        let done = self.done;
        if done == 0 {
            return;
        }
        match step {
            Step::AddDays | Step::CountDeadLetters | Step::ForgetKeys | Step::ForgetSecrets => {}
            Step::DropDays => log!(
                "klaviyo_sync: dropped the deliveries of days older than klaviyo.delivery_retention: {done}"
            ),
            Step::DeleteStrays => {
                log!("klaviyo_sync: dropped deliveries older than klaviyo.delivery_retention: {done}")
            }
            Step::DeleteOldAnswers => {
                log!("klaviyo_sync: dropped answers older than klaviyo.delivery_retention: {done}");
            }
            Step::DeleteOldJobs => {
                log!("klaviyo_sync: dropped import jobs older than klaviyo.delivery_retention: {done}");
            }
            Step::DeleteOldCampaigns => {
                log!("klaviyo_sync: forgot campaigns older than klaviyo.campaign_retention: {done}");
            }
            Step::DeleteOldCounts => {
                log!(
                    "klaviyo_sync: forgot what was counted of campaigns longer ago than klaviyo.campaign_retention: {done}"
                );
            }
            Step::DeleteOldWebhookEvents => {
                log!("klaviyo_sync: dropped webhooks' events older than klaviyo.webhook_retention: {done}");
            }
            Step::DeleteOldEvents => {
                log!("klaviyo_sync: dropped events older than klaviyo.event_retention: {done}");
            }
            Step::DeleteOldDeadLetters => {
                log!("klaviyo_sync: dropped dead letters older than klaviyo.dead_letter_retention: {done}");
            }
            Step::DeleteSurplusDeadLetters => ereport!(
                PgLogLevel::WARNING,
                PgSqlErrorCode::ERRCODE_WARNING,
                format!(
                    "klaviyo_sync: dropped dead letters above klaviyo.dead_letter_limit, the oldest: {done}"
                ),
                "See the reasons of those there are in klaviyo.dead_letter; then klaviyo_redrive() or klaviyo_discard() them, or raise the limit."
            ),
            Step::ForgetUniqueIds => {
                log!("klaviyo_sync: forgot unique_ids older than klaviyo.unique_id_retention: {done}");
            }
            Step::DeleteOldDiscarded => {
                log!("klaviyo_sync: forgot discarded messages older than klaviyo.delivery_retention: {done}");
            }
            Step::DeleteOldCleanUps => {
                log!("klaviyo_sync: forgot clean-ups older than klaviyo.delivery_retention: {done}");
            }
            Step::DeleteOldConflicts => {
                log!("klaviyo_sync: forgot conflicts older than klaviyo.delivery_retention: {done}");
            }
            Step::DeleteOldDeletions => {
                log!(
                    "klaviyo_sync: dropped requests for deletion older than klaviyo.deletion_retention: {done}"
                );
            }
        }
    }
}

impl Step {
    /// What the log calls it.
    fn name(self) -> &'static str {
        match self {
            Self::AddDays => "partitions of the days to come",
            Self::DropDays => "partitions of old days",
            Self::DeleteStrays => "old deliveries without a partition",
            Self::DeleteOldAnswers => "old answers",
            Self::DeleteOldJobs => "old import jobs",
            Self::DeleteOldCampaigns => "old campaigns",
            Self::DeleteOldCounts => "old counts of campaigns",
            Self::DeleteOldWebhookEvents => "old events of webhooks",
            Self::DeleteOldEvents => "old events that were read",
            Self::DeleteOldDeadLetters => "old dead letters",
            Self::CountDeadLetters | Self::DeleteSurplusDeadLetters => "dead letters above the limit",
            Self::ForgetUniqueIds => "old unique_ids",
            Self::ForgetKeys => "keys of captured rows",
            Self::DeleteOldDiscarded => "discarded messages",
            Self::DeleteOldDeletions => "old requests for deletion",
            Self::DeleteOldCleanUps => "old clean-ups",
            Self::DeleteOldConflicts => "old conflicts",
            Self::ForgetSecrets => "secrets of messages",
        }
    }
}
