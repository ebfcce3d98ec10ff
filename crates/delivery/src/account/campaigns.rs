//! Campaigns that are being sent: Klaviyo is asked how the job stands that sends one, and then how the campaign does, until
//! it has been sent or cancelled. Nothing waits for that, least of all a message that cancels it.
//!
//! Who owns the outbox writes down which are followed ([`CampaignNews`]), so that a later life of ours goes on.

use std::time::{Duration, Instant};

use klaviyo::{
    Campaign, Endpoint, GET_CAMPAIGN, GET_CAMPAIGNS, GET_SEND_JOB, JobStatus, Request, ask_campaign,
    campaign_of, resource_job_of,
};

use super::questions::{GOES_ON, may_still_show, soon};
use super::{Account, Policy, earlier};
use crate::call::{Call, Carried, Purpose};
use crate::campaign::{Act, CampaignFact, CampaignNews, Step};
use crate::draw;
use crate::import::{UNKNOWN, pause};
use crate::kind::campaign::Payload;
use crate::message::{Ending, Failure, Message, Report};
use crate::queue::{AMBIGUOUS, NOBODY_KNOWS, Queued};
use crate::verdict::{Scope, Verdict, kept};

/// Between two of these questions, whatever the campaign, so that they leave most of their lanes to messages.
const PACE: Duration = Duration::from_secs(1);

/// Between two questions about a campaign that is sent later, and one of which nobody knows how it stands.
const SELDOM: Duration = Duration::from_secs(300);

/// After which it is asked that seldom about any.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long one is followed that is not scheduled for later.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A campaign that is followed.
struct Watch {
    number: u64,
    campaign: String,
    /// When it was had sent, if it was that and not cancelled.
    sent_at: Option<Instant>,
    /// How the job stands that sends it; none while that is asked.
    job: Option<JobStatus>,
    /// What was said of it last.
    said: Option<JobStatus>,
    since: Instant,
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

    fn lane(&self) -> usize {
        draw::number(self.asks())
    }

    /// The job is over, as far as one can tell: from now on it is the campaign that is asked about.
    fn job_over(&mut self, job: JobStatus, now: Instant) {
        (self.job, self.asked, self.ask_at, self.heard_at) = (Some(job), 0, now, now);
    }

    /// How long to wait with the next question.
    fn pause(&self, now: Instant) -> Duration {
        if now >= self.since + DAY { SELDOM } else { pause(self.asked) }
    }

    /// Whether nothing more will become of a campaign. That it is to be sent may show after a while only.
    fn is_over(&self, campaign: &Campaign, now: Instant) -> bool {
        // A job that was cancelled before is known by the same id.
        let is_cancelled = self.job == Some(JobStatus::Cancelled) && self.sent_at.is_none();
        let is_back = is_cancelled || now >= self.heard_at + UNKNOWN;
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
            CampaignFact::Sent { .. } => self.watch(news.id.clone(), Some(now), now),
            CampaignFact::Cancelled => self.watch(news.id.clone(), None, now),
            _ => {}
        }
    }

    /// Follows a campaign from now on, or anew, that was had sent just now or otherwise.
    pub fn watch(&mut self, campaign: String, sent_at: Option<Instant>, now: Instant) {
        self.watches.watches.retain(|watch| watch.campaign != campaign);
        self.watches.begun += 1;
        self.watches.watches.push(Watch {
            number: self.watches.begun,
            campaign,
            sent_at,
            job: None,
            said: None,
            since: now,
            ask_at: now + pause(0),
            asked: 0,
            asking: false,
            heard_at: now,
        });
    }

    /// Whether what was asked then may be otherwise soon: what a message asks for may have been done, or a campaign is to be sent
    /// that just has been.
    pub(super) fn may_show_otherwise(&self, queued: &Queued, asked: Instant, policy: &Policy) -> bool {
        let done = queued.doubted_at.filter(|_| queued.message.may_be_done);
        may_still_show(done, asked, policy) || may_still_show(self.sent_at(queued), asked, policy)
    }

    /// What becomes of a message that may have made one of these campaigns.
    pub(super) fn made_one_of(
        &self,
        made: Vec<String>,
        queued: &mut Queued,
        asked: Instant,
        (now, policy): (Instant, &Policy),
    ) -> (Option<Ending>, Option<Duration>) {
        let Message { id, .. } = queued.message;
        let its_own: Vec<String> =
            made.into_iter().filter(|made| !self.queue.campaigns.is_anothers(made, id)).collect();
        match its_own.as_slice() {
            [] if self.may_show_otherwise(queued, asked, policy) => (None, Some(soon(queued, now))),
            [] => {
                queued.was_told(&GET_CAMPAIGNS, asked, None);
                GOES_ON
            }
            [one] => (Some(Ending::done(200, Some(one.clone()))), None),
            several => {
                let reason = kept(format!("{NOBODY_KNOWS}, one of {}", several.join(", ")));
                let failure = Failure { code: AMBIGUOUS.to_owned(), reason, ..Failure::default() };
                (Some(Ending::Dead { failure, newer: None }), None)
            }
        }
    }

    /// The next of these questions that may be asked now.
    pub(super) fn next_watch(&mut self, now: Instant, policy: &Policy) -> Option<Call> {
        if self.watches.next_at.is_some_and(|at| now < at) {
            return None;
        }
        let mut next = self.next_watches().into_iter().flatten().filter(|(_, ask_at)| *ask_at <= now);
        let (number, _) = next.find(|(number, _)| {
            let lane = self.watches.watches.iter().find(|watch| watch.number == *number).map(Watch::lane);
            lane.is_some_and(|lane| self.may_start(lane, now, policy))
        })?;
        let watch = self.watches.watches.iter().find(|watch| watch.number == number)?;
        let (endpoint, lane, id) = (watch.asks(), watch.lane(), watch.campaign.clone());
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
        let lanes = [&GET_SEND_JOB, &GET_CAMPAIGN].map(draw::number);
        let mut wake = None;
        for (lane, (_, ask_at)) in
            lanes.into_iter().zip(self.next_watches()).filter_map(|(lane, next)| Some((lane, next?)))
        {
            wake = earlier(wake, self.starts_when(lane, false, now, policy).at(ask_at.max(paced)));
        }
        wake
    }

    /// The watch to be asked about next of each of the two questions, and when.
    fn next_watches(&self) -> [Option<(u64, Instant)>; 2] {
        [&GET_SEND_JOB, &GET_CAMPAIGN].map(|endpoint| {
            let waiting =
                self.watches.watches.iter().filter(|watch| !watch.asking && watch.asks() == endpoint);
            waiting.map(|watch| (watch.number, watch.ask_at)).min_by_key(|(_, ask_at)| *ask_at)
        })
    }

    /// When the campaign was had sent that a message is about, if that has been just now and it is followed.
    pub(super) fn sent_at(&self, queued: &Queued) -> Option<Instant> {
        queued.message.kind.campaign().filter(|act| matches!(act, Act::Send | Act::Cancel))?;
        let id = Step::read(&queued.message.payload).ok()?.campaign?;
        self.watches.watches.iter().find(|watch| watch.campaign == id)?.sent_at
    }

    /// Whether a message cancels what was had sent only just now, which Klaviyo may not know yet.
    pub(super) fn cancels_too_soon(&self, queued: &Queued, now: Instant, policy: &Policy) -> bool {
        queued.message.kind.campaign() == Some(Act::Cancel)
            && may_still_show(self.sent_at(queued), now, policy)
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
                    (watch.heard_at, watch.ask_at) = (now, now + watch.pause(now));
                    (watch.said.replace(job) != Some(job)).then_some(CampaignFact::Job(job))
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
                    let is_too_long = now >= watch.since + LONGEST && campaign.status != Campaign::SCHEDULED;
                    let is_over = watch.is_over(&campaign, now) || is_too_long;
                    watch.ask_at = now + if campaign.is_awaited() { SELDOM } else { watch.pause(now) };
                    Some(CampaignFact::Read { campaign, followed: Some(!is_over) })
                }
                None if now >= watch.since + LONGEST => Some(CampaignFact::Left),
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
