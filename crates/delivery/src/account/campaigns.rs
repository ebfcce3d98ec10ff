//! Campaigns that are being sent: Klaviyo is asked how the job stands that sends one, and then how the campaign does, until
//! it has been sent or cancelled. Nothing waits for that, least of all a message that cancels it.
//!
//! Who owns the outbox writes down which are followed ([`CampaignNews`]), so that a later life of ours goes on.

use std::time::{Duration, Instant};

use klaviyo::{
    Campaign, Endpoint, GET_CAMPAIGN, GET_SEND_JOB, JobStatus, Request, ask_campaign, campaign_of,
    resource_job_of,
};

use super::{Account, Policy};
use crate::call::{Call, Carried, Purpose};
use crate::campaign::{Act, CampaignFact, CampaignNews, Step};
use crate::draw;
use crate::import::{UNKNOWN, pause};
use crate::kind::campaign::Payload;
use crate::message::{Ending, Message, Report};
use crate::verdict::{Scope, Verdict};

/// Between two of these questions, whatever the campaign, so that they leave most of their lanes to messages.
const PACE: Duration = Duration::from_secs(1);

/// Between two questions about a campaign that is sent later, and one of which nobody knows how it stands.
const SELDOM: Duration = Duration::from_secs(300);

/// A campaign that is followed.
struct Watch {
    number: u64,
    campaign: String,
    /// How the job stands that sends it; none while that is asked.
    job: Option<JobStatus>,
    ask_at: Instant,
    asked: u32,
    asking: bool,
    /// When Klaviyo last said how the job stands, and at last that it is over.
    heard_at: Instant,
}

impl Watch {
    fn asks(&self) -> &'static Endpoint {
        if self.job.is_none() { &GET_SEND_JOB } else { &GET_CAMPAIGN }
    }

    /// The job is over, as far as one can tell: from now on it is the campaign that is asked about.
    fn job_over(&mut self, job: JobStatus, now: Instant) {
        (self.job, self.asked, self.ask_at, self.heard_at) = (Some(job), 0, now, now);
    }

    /// Whether nothing more will become of a campaign. That it is to be sent may show after a while only.
    fn is_over(&self, campaign: &Campaign, now: Instant) -> bool {
        let is_back = self.job == Some(JobStatus::Cancelled) || now >= self.heard_at + UNKNOWN;
        match campaign.status.as_str() {
            Campaign::SENT => true,
            Campaign::DRAFT => is_back,
            _ => campaign.is_cancelled(),
        }
    }
}

/// All of them.
#[derive(Default)]
pub struct Watches {
    watches: Vec<Watch>,
    begun: u64,
    next_at: Option<Instant>,
}

/// What a message that is accepted means for a campaign.
pub(super) fn news_of(message: &Message, ending: Option<&Ending>) -> Option<CampaignNews> {
    let act = message.kind.campaign()?;
    let Ending::Accepted { resource_id, .. } = ending? else { return None };
    let step = || Step::read(&message.payload).ok()?.campaign;
    let (id, fact) = match act {
        Act::Make => {
            let name = Payload::read(&message.payload).ok()?.name().to_owned();
            (resource_id.clone()?, CampaignFact::Made { by: message.id, name })
        }
        Act::Send => (step()?, CampaignFact::Sent { by: message.id }),
        Act::Cancel => (step()?, CampaignFact::Cancelled),
        Act::AssignTemplate | Act::Estimate => return None,
    };
    CampaignNews::new(&id, fact)
}

impl Account {
    /// A campaign was made, sent or cancelled.
    pub(super) fn campaign_changed(&mut self, news: &CampaignNews, now: Instant) {
        match &news.fact {
            CampaignFact::Made { by, .. } => self.queue.campaign_made(*by, &news.id, now),
            CampaignFact::Sent { .. } | CampaignFact::Cancelled => self.watch(news.id.clone(), now),
            _ => {}
        }
    }

    /// Follows a campaign from now on, or anew.
    pub fn watch(&mut self, campaign: String, now: Instant) {
        self.watches.watches.retain(|watch| watch.campaign != campaign);
        self.watches.begun += 1;
        self.watches.watches.push(Watch {
            number: self.watches.begun,
            campaign,
            job: None,
            ask_at: now + pause(0),
            asked: 0,
            asking: false,
            heard_at: now,
        });
    }

    /// The next of these questions that may be asked now.
    pub(super) fn next_watch(&mut self, now: Instant, policy: &Policy) -> Option<Call> {
        if self.watches.next_at.is_some_and(|at| now < at) {
            return None;
        }
        let due = |watch: &&Watch| !watch.asking && watch.ask_at <= now;
        let watch = self.watches.watches.iter().filter(due).min_by_key(|watch| watch.ask_at)?;
        let (number, endpoint, id) = (watch.number, watch.asks(), watch.campaign.clone());
        let lane = draw::number(endpoint);
        if !self.may_start(lane, now, policy) {
            return None;
        }
        if let Some(watch) = self.watches.watches.iter_mut().find(|watch| watch.number == number) {
            (watch.asking, watch.asked) = (true, watch.asked + 1);
        }
        self.watches.next_at = Some(now + PACE);
        let request = if *endpoint == GET_CAMPAIGN { ask_campaign(&id) } else { Request::get(endpoint, &id) };
        self.start(lane, request, Carried::default(), Purpose::Watch(number), now)
    }

    /// When the next may be.
    pub(super) fn watches_at(&mut self, now: Instant, policy: &Policy) -> Option<Instant> {
        let paced = self.watches.next_at.unwrap_or(now);
        let waiting = self.watches.watches.iter().filter(|watch| !watch.asking);
        let next = waiting.min_by_key(|watch| watch.ask_at)?;
        let (lane, ask_at) = (draw::number(next.asks()), next.ask_at);
        self.starts_when(lane, false, now, policy).at(ask_at.max(paced))
    }

    /// Such a question was answered.
    pub(super) fn watched(
        &mut self,
        number: u64,
        lane: usize,
        (verdict, body): (&Verdict, &[u8]),
        (now, policy): (Instant, &Policy),
        mut report: Report,
    ) -> Report {
        self.lanes[lane].settled();
        report.lane = None;
        let Some(at) = self.watches.watches.iter().position(|watch| watch.number == number) else {
            return report;
        };
        let watch = &mut self.watches.watches[at];
        watch.asking = false;
        let silent = now >= watch.heard_at + UNKNOWN;
        let fact = match (watch.job, verdict) {
            (None, Verdict::Accepted { .. }) => match resource_job_of(body).map(|job| job.status) {
                Some(job @ (JobStatus::Complete | JobStatus::Cancelled)) => {
                    watch.job_over(job, now);
                    Some(CampaignFact::Job(job))
                }
                Some(job) => {
                    (watch.heard_at, watch.ask_at) = (now, now + pause(watch.asked));
                    Some(CampaignFact::Job(job))
                }
                None if silent => {
                    watch.job_over(JobStatus::Complete, now);
                    None
                }
                None => {
                    watch.ask_at = now + policy.backoff.delay(watch.asked);
                    None
                }
            },
            // There is none, or it may not be asked about: the campaign tells.
            (None, Verdict::Refused { .. } | Verdict::Stopped { scope: Scope::Lane, .. }) => {
                watch.job_over(JobStatus::Complete, now);
                None
            }
            (Some(_), Verdict::Accepted { .. }) => match campaign_of(body) {
                Some(campaign) => {
                    let is_over = watch.is_over(&campaign, now);
                    watch.ask_at = now + if campaign.is_awaited() { SELDOM } else { pause(watch.asked) };
                    Some(CampaignFact::Read { campaign, followed: Some(!is_over) })
                }
                None => {
                    watch.ask_at = now + policy.backoff.delay(watch.asked);
                    None
                }
            },
            (Some(_), Verdict::Refused { .. }) => Some(CampaignFact::Left),
            (_, Verdict::Throttled { retry_after, .. } | Verdict::Trouble { retry_after, .. }) => {
                watch.ask_at = now + policy.backoff.delay(watch.asked).max(retry_after.unwrap_or_default());
                None
            }
            (_, Verdict::Stopped { .. }) => {
                watch.ask_at = now + policy.backoff.delay(watch.asked);
                None
            }
        };
        let Some(fact) = fact else { return report };
        let id = watch.campaign.clone();
        if matches!(fact, CampaignFact::Left | CampaignFact::Read { followed: Some(false), .. }) {
            self.watches.watches.swap_remove(at);
        }
        report.campaigns.extend(CampaignNews::new(&id, fact));
        report
    }
}
