//! Requests for deletion: what waits about the person is taken out, and what is under way does not come back.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use super::{GroupId, Queue, Queued};
use crate::deletion::DeletionRequest;
use crate::key::{self, Identifier};
use crate::message::Message;

/// A request of which the queue was told, and when.
pub struct Told {
    request: DeletionRequest,
    at: Instant,
}

impl Queue {
    /// Takes out what waits about a person and is of no use any more, but for other such requests.
    pub fn discard(&mut self, request: DeletionRequest, now: Instant) -> Vec<Message> {
        let whose = identifiers(&request.identifier);
        let useless = |queued: &Queued| {
            !queued.message.kind.deletes()
                && queued.identifiers.iter().any(|identifier| whose.contains(identifier))
                && request.covers(queued.message.seq, queued.message.enqueued_at)
        };
        let groups: HashSet<GroupId> =
            whose.iter().filter_map(|identifier| self.by_identifier.get(identifier).copied()).collect();
        let mut discarded = Vec::new();
        for id in groups {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            let (gone, left): (VecDeque<Queued>, _) =
                std::mem::take(&mut group.queue).into_iter().partition(useless);
            group.queue = left;
            discarded.extend(gone.into_iter().map(|queued| queued.message));
            self.place(id, now);
        }
        for identifier in whose {
            // One that was made later reaches further, though it may have been told before.
            let known = self.requests.get(&identifier);
            if known.is_none_or(|known| known.request.seq <= request.seq) {
                self.requests.insert(identifier, Told { request: request.clone(), at: now });
            }
        }
        discarded
    }

    /// The request that makes a message useless which was under way, if one does. Of what came after the request was told
    /// its giver knows better: the person may have been readmitted.
    pub(super) fn discarded_by(&self, queued: &Queued) -> Option<[u8; 16]> {
        let Message { seq, enqueued_at, kind, .. } = queued.message;
        let mut told = queued.identifiers.iter().filter_map(|identifier| self.requests.get(identifier));
        let told = told.find(|told| {
            !kind.deletes()
                && told.request.covers(seq, enqueued_at)
                && (seq < told.request.seq || queued.since <= told.at)
        });
        told.map(|told| told.request.id)
    }
}

/// Those of the person's messages, and of the person's history.
fn identifiers(identifier: &str) -> Vec<Identifier> {
    key::identifiers(&[identifier.to_owned(), key::of_history(identifier)])
}
