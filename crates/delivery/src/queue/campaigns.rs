//! Which campaign a message has made, for those that name it by that message; and what need not be sent any more.

use std::time::Instant;

use uuid::Uuid;

use super::{GroupId, Queue, Queued};
use crate::campaign::{self, Act};
use crate::key;
use crate::message::Message;
use crate::recent::Recent;

/// Campaigns that are remembered, twice each. What is settled is looked up in the database when a message is read, and one
/// that is here by then learns of it at once.
const REMEMBERED: usize = 1_000;

/// The code of what is about a campaign that has not been made.
pub const NO_SUCH_CAMPAIGN: &str = "no_such_campaign";

/// Campaigns that were made.
pub struct Made {
    /// Klaviyo's ids, by the messages that made them, and the other way round.
    ids: Recent<Uuid, String>,
    makers: Recent<String, Uuid>,
}

impl Default for Made {
    fn default() -> Self {
        Self { ids: Recent::new(REMEMBERED), makers: Recent::new(REMEMBERED) }
    }
}

impl Made {
    /// Remembers what a message has made.
    pub fn insert(&mut self, maker: Uuid, id: String) {
        self.makers.insert(id.clone(), maker);
        self.ids.insert(maker, id);
    }

    /// Whether another message than that has made a campaign.
    pub fn is_anothers(&self, id: &str, message: [u8; 16]) -> bool {
        self.makers.get(&id.to_owned()).is_some_and(|maker| *maker.as_bytes() != message)
    }

    /// Tells a message which campaign it means, where that is known. It keeps its order with what names that otherwise.
    pub fn tell(&self, message: &mut Message) {
        let Some(id) = maker(message).and_then(|maker| self.ids.get(&maker)) else { return };
        campaign::resolve(message, id);
    }
}

/// The message that makes the campaign that one is about, if nobody has said yet which that is.
fn maker(message: &Message) -> Option<Uuid> {
    // Most is about none, and its payload may be long.
    message.kind.campaign().filter(|act| *act != Act::Make)?;
    campaign::made_by(&message.payload)
}

/// Why a message about a campaign cannot go whose turn has come: what was to make that is before it.
pub(super) fn unmade(queued: &Queued) -> Option<String> {
    let maker = maker(&queued.message)?;
    Some(format!(
        "message {maker} of klaviyo_create_campaign(), which was to make the campaign, has made none"
    ))
}

impl Queue {
    /// A message has made a campaign. Whoever waits to do something with it can.
    pub fn campaign_made(&mut self, by: [u8; 16], id: &str, now: Instant) {
        let maker = Uuid::from_bytes(by);
        self.campaigns.insert(maker, id.to_owned());
        let names = [maker.to_string(), id.to_owned()].map(|name| campaign::key(&name));
        self.link(&names);
        // What names it by its id may be here already.
        let group = self.group_of(key::identifiers(&names));
        let Self { campaigns, groups, .. } = self;
        for queued in groups.get_mut(&group).into_iter().flat_map(|group| &mut group.queue) {
            campaigns.tell(&mut queued.message);
            // Of its questions it could ask none before.
            queued.set_payload(queued.message.payload.clone());
        }
        self.place(group, now);
    }

    /// The message that cancels what the oldest of a group would send, where that waits as well: then the first need not go.
    pub(super) fn cancelled_by(&self, group: GroupId) -> Option<[u8; 16]> {
        let queue = &self.groups.get(&group)?.queue;
        let sends = |queued: &&Queued| queued.message.kind.campaign() == Some(Act::Send);
        let first = queue.front().filter(sends).filter(|first| !first.message.may_be_done)?;
        let about = self.aliases.expand(&first.identifiers);
        let cancels = |later: &&Queued| {
            later.message.kind.campaign() == Some(Act::Cancel)
                && later.identifiers.iter().any(|identifier| about.contains(identifier))
        };
        Some(queue.iter().find(cancels)?.message.id)
    }
}
