//! Campaigns: what is to be sent, to whom, and how far that is.
//!
//! Time works on them as on jobs: whoever takes the sandbox's lock first has them be where they would be by then.

mod document;
mod life;
mod strategy;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::check::{Action, Assignment, Audiences, CampaignDraft, MessageDraft};
use crate::error::ApiError;
use crate::order::{Key, Rank};
use crate::store::{Store, ulid, unknown_list};
pub use document::About;
use life::{Job, Stage};
pub use strategy::{Options, Strategy};

/// One campaign.
pub struct Campaign {
    pub id: String,
    pub name: String,
    pub audiences: Audiences,
    strategy: Strategy,
    use_smart_sending: bool,
    /// Null if they were not given.
    tracking_options: Value,
    pub messages: Vec<Message>,
    pub created: Timestamp,
    pub updated: Timestamp,
    /// When its send job was done, if it is not sent at once.
    pub scheduled: Option<Timestamp>,
    /// When its sending begins or began.
    send_time: Option<Timestamp>,
    stage: Stage,
    /// The last one.
    send_job: Option<Job>,
    estimation_job: Option<Job>,
    /// Who would be sent to, as of the last estimation.
    estimate: Option<usize>,
    /// Send jobs that were accepted.
    send_jobs: u64,
    /// How often a sending began.
    sendings: u64,
    /// Whom the last sending went to.
    recipients: usize,
}

/// One message of a campaign.
pub struct Message {
    id: String,
    pub channel: &'static str,
    /// As answers have it (`EmailMessageDefinition` and its like).
    definition: Map<String, Value>,
    /// The id of the copy of a template.
    template: Option<String>,
    created: Timestamp,
    updated: Timestamp,
}

/// All campaigns.
pub struct Campaigns {
    random: fastrand::Rng,
    /// In the order of their creation.
    campaigns: Vec<Campaign>,
}

fn unknown_campaign() -> ApiError {
    ApiError::not_found("A campaign with this id does not exist.")
}

impl Campaigns {
    pub fn new(seed: u64) -> Self {
        Self::with_random(fastrand::Rng::with_seed(seed))
    }

    fn with_random(random: fastrand::Rng) -> Self {
        Self { random, campaigns: Vec::new() }
    }

    pub fn clear(&mut self) {
        *self = Self::with_random(self.random.fork());
    }

    /// A new campaign, or an error for each list and image that there is not; their pointers begin in the campaign's
    /// resource.
    pub fn create(
        &mut self,
        draft: CampaignDraft,
        store: &Store,
        now: Timestamp,
    ) -> Result<&Campaign, Vec<ApiError>> {
        let CampaignDraft { name, audiences, strategy, use_smart_sending, tracking_options, messages } =
            draft;
        let unknown: Vec<ApiError> =
            unknown_lists(&audiences, store).chain(unknown_images(&messages)).collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let random = &mut self.random;
        let id = ulid(random);
        let message = |MessageDraft { channel, definition, .. }| Message {
            id: ulid(random),
            channel,
            definition,
            template: None,
            created: now,
            updated: now,
        };
        self.campaigns.push(Campaign {
            id,
            name,
            audiences,
            strategy,
            use_smart_sending,
            tracking_options,
            messages: messages.into_iter().map(message).collect(),
            created: now,
            updated: now,
            scheduled: None,
            send_time: None,
            stage: Stage::Draft,
            send_job: None,
            estimation_job: None,
            estimate: None,
            send_jobs: 0,
            sendings: 0,
            recipients: 0,
        });
        Ok(&self.campaigns[self.campaigns.len() - 1])
    }

    /// All, in the order of their creation.
    pub fn all(&self) -> &[Campaign] {
        &self.campaigns
    }

    pub fn get(&self, id: &str) -> Result<&Campaign, ApiError> {
        self.campaigns.iter().find(|campaign| campaign.id == id).ok_or_else(unknown_campaign)
    }

    fn get_mut(&mut self, id: &str) -> Result<&mut Campaign, ApiError> {
        self.campaigns.iter_mut().find(|campaign| campaign.id == id).ok_or_else(unknown_campaign)
    }

    /// Deletes a campaign, also one that was about to be sent.
    pub fn delete(&mut self, id: &str) -> Result<(), ApiError> {
        let index =
            self.campaigns.iter().position(|campaign| campaign.id == id).ok_or_else(unknown_campaign)?;
        self.campaigns.remove(index);
        Ok(())
    }

    /// Has a message of a draft be written with a copy of a template. The pointer of an error begins in the message's
    /// resource.
    pub fn assign(
        &mut self,
        assignment: &Assignment,
        store: &mut Store,
        now: Timestamp,
    ) -> Result<(&Campaign, &Message), ApiError> {
        let Assignment { message, template } = assignment;
        let find = |campaign: &mut Campaign| campaign.messages.iter().position(|found| found.id == *message);
        let found = self.campaigns.iter_mut().find_map(|campaign| find(campaign).map(|at| (campaign, at)));
        let (campaign, at) = found.ok_or_else(|| {
            ApiError::not_found("A campaign message with this id does not exist.").at("/id")
        })?;
        campaign.check_draft("be changed").map_err(|error| error.at("/id"))?;
        let found = &mut campaign.messages[at];
        if found.channel != "email" {
            return Err(ApiError::invalid("/id", "Only an email message has a template."));
        }
        let copy = store.copy_template(template, now);
        found.template = Some(copy.map_err(|error| error.at("/relationships/template/data/id"))?);
        found.updated = now;
        campaign.updated = now;
        Ok((campaign, &campaign.messages[at]))
    }

    /// Makes a send job. The pointer of an error begins in the job's resource.
    pub fn send(&mut self, id: &str, now_us: u64, now: Timestamp) -> Result<&Campaign, ApiError> {
        let campaign = self.get_mut(id).map_err(|error| error.at("/id"))?;
        campaign.check_ready(now).map_err(|error| error.at("/id"))?;
        campaign.send_job = Some(Job::new(now_us));
        campaign.send_jobs += 1;
        campaign.enter(Stage::Preparing, now);
        Ok(campaign)
    }

    /// Ends a send job and what came of it. The pointer of an error begins in the job's resource.
    pub fn stop(&mut self, id: &str, action: Action, now: Timestamp) -> Result<(), ApiError> {
        let campaign = self.get_mut(id).map_err(|error| error.at("/id"))?;
        if !matches!(campaign.stage, Stage::Preparing | Stage::Scheduled | Stage::Sending { .. }) {
            let detail = format!("This campaign is not being sent: its status is '{}'.", campaign.status());
            return Err(ApiError::invalid("/attributes/action", detail));
        }
        if let Some(job) = &mut campaign.send_job {
            job.cancel();
        }
        match action {
            Action::Cancel => campaign.enter(Stage::Cancelled, now),
            Action::Revert => {
                campaign.scheduled = None;
                campaign.send_time = None;
                campaign.enter(Stage::Draft, now);
            }
        }
        Ok(())
    }

    /// Makes an estimation job, unless one is under way. The pointer of an error begins in the job's resource.
    pub fn estimate(&mut self, id: &str, now_us: u64) -> Result<&Campaign, ApiError> {
        let campaign = self.get_mut(id).map_err(|error| error.at("/id"))?;
        if !campaign.estimation_job.as_ref().is_some_and(Job::is_under_way) {
            campaign.estimation_job = Some(Job::new(now_us));
        }
        Ok(campaign)
    }
}

impl Campaign {
    /// Where it is among those that are sorted by this.
    pub fn key(&self, field: &str) -> Key {
        let rank = match field {
            "created_at" => Rank::time(self.created),
            "id" => Rank::Nothing,
            "name" => Rank::text(Some(&self.name)),
            "scheduled_at" => self.scheduled.map_or(Rank::Nothing, Rank::time),
            _ => Rank::time(self.updated),
        };
        Key { rank, id: self.id.clone() }
    }

    fn check_draft(&self, what: &str) -> Result<(), ApiError> {
        if self.stage == Stage::Draft {
            return Ok(());
        }
        let detail = format!("This campaign cannot {what}: its status is '{}'.", self.status());
        Err(ApiError::invalid("", detail))
    }

    /// Whether there is all that is needed to send it.
    fn check_ready(&self, now: Timestamp) -> Result<(), ApiError> {
        self.check_draft("be sent")?;
        let lacking = self.messages.iter().find_map(Message::lacks);
        let late = self.strategy.is_past(now).then_some("its time to send is past");
        match lacking.or(late) {
            Some(reason) => Err(ApiError::invalid("", format!("This campaign cannot be sent: {reason}."))),
            None => Ok(()),
        }
    }
}

impl Message {
    /// What it cannot be sent without.
    fn lacks(&self) -> Option<&'static str> {
        let is_blank = |member: &str| {
            let text = self.definition.get("content").and_then(|content| content[member].as_str());
            text.is_none_or(|text| text.trim().is_empty())
        };
        match self.channel {
            "email" if is_blank("subject") => Some("an email message has no subject"),
            "email" if self.template.is_none() => Some("an email message has no template"),
            "sms" if is_blank("body") => Some("an SMS message has no body"),
            _ => None,
        }
    }
}

fn unknown_lists(audiences: &Audiences, store: &Store) -> impl Iterator<Item = ApiError> {
    let sides = [("included", &audiences.included), ("excluded", &audiences.excluded)];
    sides.into_iter().flat_map(|(side, ids)| {
        let unknown = ids.iter().enumerate().filter(|(_, id)| store.list(id).is_err());
        unknown.map(move |(index, _)| unknown_list().at(format!("/attributes/audiences/{side}/{index}")))
    })
}

/// There are no images here.
fn unknown_images(messages: &[MessageDraft]) -> impl Iterator<Item = ApiError> {
    let with_image = messages.iter().enumerate().filter(|(_, message)| message.has_image);
    with_image.map(|(index, _)| {
        let at = format!("/attributes/campaign-messages/data/{index}/relationships/image/data/id");
        ApiError::not_found("An image with this id does not exist.").at(at)
    })
}

#[cfg(test)]
mod tests;
