//! Campaigns, as `klaviyo.campaign` has them: which message made one, how it stands, and which are still followed.

use std::collections::HashMap;

use delivery::campaign::{self, Act, CampaignFact, CampaignNews};
use delivery::{Message, klaviyo};
use pgrx::{Uuid, spi};

use super::claim::Claimed;
use crate::pg;
use crate::pg::spi::{arg, column, rows, run};

/// Rows deleted in one go.
const BATCH: i64 = 10_000;

/// Campaigns that are followed at the most: hours of questions.
const FOLLOWED: i64 = 10_000;

/// Campaigns of which the worker knows who has made them, whatever is asked of it.
const REMEMBERED: i64 = 1_000;

/// Bytes of a name or a status of Klaviyo's that are kept.
const KEPT: usize = 2_000;

/// A message that was redriven may make another one.
const NOT_THE_MAKER: &str = "
    UPDATE klaviyo.campaign AS c SET made_by = NULL
    WHERE c.made_by = $3 AND (c.account, c.campaign_id) <> ($1, $2)";

/// What is NULL is as it was, but that of what was read (`$11`) the time of sending may be none.
const RECORD: &str = "
    INSERT INTO klaviyo.campaign AS c
        (account, campaign_id, name, status, send_time, send_job, estimated_recipients, estimated_at, made_by, sent_by,
         followed, read_at, changed_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $7 IS NOT NULL THEN pg_catalog.clock_timestamp() END, $8, $9,
            coalesce($10, false), CASE WHEN $11 THEN pg_catalog.clock_timestamp() END, pg_catalog.clock_timestamp())
    ON CONFLICT (account, campaign_id) DO UPDATE
    SET name = coalesce(excluded.name, c.name),
        status = CASE WHEN $8 IS NOT NULL THEN coalesce(c.status, excluded.status)
                      ELSE coalesce(excluded.status, c.status) END,
        send_time = CASE WHEN $11 THEN excluded.send_time ELSE c.send_time END,
        send_job = coalesce(excluded.send_job, c.send_job),
        estimated_recipients = coalesce(excluded.estimated_recipients, c.estimated_recipients),
        estimated_at = coalesce(excluded.estimated_at, c.estimated_at),
        made_by = coalesce(c.made_by, excluded.made_by),
        sent_by = coalesce(excluded.sent_by, c.sent_by),
        followed = coalesce($10, c.followed),
        read_at = coalesce(excluded.read_at, c.read_at),
        changed_at = CASE
            WHEN $11 AND (c.name, c.status, c.send_time, c.followed)
                         IS NOT DISTINCT FROM (excluded.name, excluded.status, excluded.send_time, coalesce($10, c.followed))
            THEN c.changed_at
            ELSE excluded.changed_at
        END";

const MADE: &str = "
    SELECT c.made_by, c.account, c.campaign_id
    FROM klaviyo.campaign AS c
    WHERE c.made_by = ANY ($1)";

const OPEN: &str = "
    SELECT c.account, c.campaign_id FROM klaviyo.campaign AS c WHERE c.followed ORDER BY c.changed_at DESC LIMIT $1";

const LAST: &str = "
    SELECT c.account, c.campaign_id, c.made_by
    FROM klaviyo.campaign AS c
    WHERE c.made_by IS NOT NULL
    ORDER BY c.changed_at DESC
    LIMIT $1";

const DELETE_OLD: &str = "
    DELETE FROM klaviyo.campaign AS c
    WHERE c.ctid = ANY (ARRAY(
        SELECT o.ctid FROM klaviyo.campaign AS o
        WHERE NOT o.followed AND o.pulled_at IS NULL AND o.changed_at < pg_catalog.now() - $1 * interval '1 minute'
        ORDER BY o.changed_at
        LIMIT $2
    ))";

/// What is written down of it.
#[derive(Default)]
struct Row<'a> {
    name: Option<&'a str>,
    status: Option<&'a str>,
    send_time: Option<i64>,
    send_job: Option<&'a str>,
    recipients: Option<i64>,
    made_by: Option<[u8; 16]>,
    sent_by: Option<[u8; 16]>,
    followed: Option<bool>,
    was_read: bool,
}

impl<'a> Row<'a> {
    fn of(fact: &'a CampaignFact) -> Self {
        match fact {
            CampaignFact::Made { by, name } => Self {
                name: Some(name),
                status: Some(klaviyo::Campaign::DRAFT),
                made_by: Some(*by),
                ..Self::default()
            },
            CampaignFact::Sent { by } => {
                let send_job = Some(klaviyo::JobStatus::Queued.name());
                Self { send_job, sent_by: Some(*by), followed: Some(true), ..Self::default() }
            }
            CampaignFact::Cancelled => Self { followed: Some(true), ..Self::default() },
            CampaignFact::Job(status) => Self { send_job: Some(status.name()), ..Self::default() },
            CampaignFact::Read { campaign, followed } => Self {
                name: Some(&campaign.name),
                status: Some(&campaign.status),
                send_time: campaign.send_time.as_deref().and_then(campaign::micros),
                followed: *followed,
                was_read: true,
                ..Self::default()
            },
            CampaignFact::Left => Self { followed: Some(false), ..Self::default() },
            CampaignFact::Recipients(recipients) => Self { recipients: Some(*recipients), ..Self::default() },
        }
    }
}

fn kept(text: &str) -> &str {
    &text[..text.floor_char_boundary(KEPT)]
}

/// Writes down what has become known of a campaign, in the transaction the caller has begun.
pub fn record(account: &str, CampaignNews { id, fact }: &CampaignNews) -> Result<(), spi::Error> {
    let row = Row::of(fact);
    if let Some(maker) = row.made_by {
        run(NOT_THE_MAKER, &[arg(account), arg(id.as_str()), arg(Uuid::from_bytes(maker))])?;
    }
    let args = [
        arg(account),
        arg(id.as_str()),
        arg(row.name.map(kept)),
        arg(row.status.map(kept)),
        arg(row.send_time.map(pg::timestamp)),
        arg(row.send_job),
        arg(row.recipients),
        arg(row.made_by.map(Uuid::from_bytes)),
        arg(row.sent_by.map(Uuid::from_bytes)),
        arg(row.followed),
        arg(row.was_read),
    ];
    run(RECORD, &args).map(drop)
}

/// Tells messages that were read which campaign they mean, where the message that made it is settled.
pub fn resolve(claimed: &mut Claimed) -> Result<(), spi::Error> {
    // Most is about none, and its payload may be long.
    let is_step = |message: &&mut Message| message.kind.campaign().is_some_and(|act| act != Act::Make);
    let mut unknown: Vec<(&str, uuid::Uuid, &mut Message)> = claimed
        .messages
        .iter_mut()
        .flat_map(|(account, messages)| messages.iter_mut().map(|message| (account.as_str(), message)))
        .filter(|(_, message)| is_step(message))
        .filter_map(|(account, message)| Some((account, campaign::made_by(&message.payload)?, message)))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let makers: Vec<Uuid> = unknown.iter().map(|(_, maker, _)| Uuid::from_bytes(*maker.as_bytes())).collect();
    let mut made: HashMap<(uuid::Uuid, String), String> = HashMap::new();
    rows(MADE, &[arg(makers)], |row| {
        let maker = uuid::Uuid::from_bytes(*column::<Uuid>(row, 1).as_bytes());
        made.insert((maker, column(row, 2)), column(row, 3));
    })?;
    for (account, maker, message) in &mut unknown {
        if let Some(id) = made.get(&(*maker, (*account).to_owned())) {
            campaign::resolve(message, id);
        }
    }
    Ok(())
}

/// What is known of an account's campaigns: which messages have made the last of them, and which are followed.
#[derive(Default)]
pub struct Known {
    pub made: Vec<(uuid::Uuid, String)>,
    pub followed: Vec<String>,
}

/// The same of all accounts, by their names.
pub fn known() -> Result<HashMap<String, Known>, spi::Error> {
    let mut known: HashMap<String, Known> = HashMap::new();
    rows(LAST, &[arg(REMEMBERED)], |row| {
        let maker = uuid::Uuid::from_bytes(*column::<Uuid>(row, 3).as_bytes());
        known.entry(column(row, 1)).or_default().made.push((maker, column(row, 2)));
    })?;
    rows(OPEN, &[arg(FOLLOWED)], |row| {
        known.entry(column(row, 1)).or_default().followed.push(column(row, 2))
    })?;
    Ok(known)
}

/// Deletes what is known of campaigns that are not followed and have not changed for so many minutes.
pub fn delete_old(minutes: i32) -> Result<usize, spi::Error> {
    run(DELETE_OLD, &[arg(minutes), arg(BATCH)])
}
