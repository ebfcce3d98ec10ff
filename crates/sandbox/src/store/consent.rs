//! Who may be sent to: subscriptions by channel, suppressed addresses, and the order in which both changed.

use jiff::Timestamp;
use serde::Serialize;

use super::{Identifier, Refusal, Store, unknown_list};
use crate::check::{ConsentDraft, ConsentItem, ProfileDraft};
use crate::error::ApiError;
use crate::jobs::PROFILES;

/// What somebody may be reached by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    Email,
    Sms,
    SmsTransactional,
}

impl Channel {
    /// What a profile needs for it.
    pub const fn identifier(self) -> Identifier {
        match self {
            Self::Email => Identifier::Email,
            Self::Sms | Self::SmsTransactional => Identifier::PhoneNumber,
        }
    }
}

/// The consent to one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Subscription {
    Subscribed,
    Unsubscribed,
    #[default]
    NeverSubscribed,
}

/// The consent to one channel, and since when it is what it is. Control paths show only the former.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Standing {
    pub subscription: Subscription,
    #[serde(skip)]
    pub since: Option<Timestamp>,
}

/// The consents to all channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Subscriptions {
    pub email: Standing,
    pub sms: Standing,
    pub sms_transactional: Standing,
}

/// Why an address gets no marketing, whatever it subscribed to. Klaviyo has further reasons, of mails that came back or
/// were complained of; nobody sends mails here.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    Unsubscribe,
    UserSuppressed,
}

/// That an address gets none, and since when. Control paths show only the reason.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Suppression {
    pub reason: Reason,
    #[serde(skip)]
    pub since: Timestamp,
}

/// What a profile consented to.
#[derive(Debug, Default)]
pub struct Consent {
    pub subscriptions: Subscriptions,
    pub suppressions: Vec<Suppression>,
}

impl Consent {
    /// A subscription to e-mail lifts the suppressions.
    fn subscribe(&mut self, channels: &[Channel], now: Timestamp) {
        self.set(channels, Subscription::Subscribed, now);
        if channels.contains(&Channel::Email) {
            self.suppressions.clear();
        }
    }

    fn unsubscribe(&mut self, channels: &[Channel], now: Timestamp) {
        self.set(channels, Subscription::Unsubscribed, now);
        if channels.contains(&Channel::Email) {
            self.suppress(Reason::Unsubscribe, now);
        }
    }

    fn suppress(&mut self, reason: Reason, since: Timestamp) {
        if self.suppressions.iter().all(|known| known.reason != reason) {
            self.suppressions.push(Suppression { reason, since });
        }
    }

    fn set(&mut self, channels: &[Channel], subscription: Subscription, now: Timestamp) {
        for channel in channels {
            let of = &mut self.subscriptions;
            let current = match channel {
                Channel::Email => &mut of.email,
                Channel::Sms => &mut of.sms,
                Channel::SmsTransactional => &mut of.sms_transactional,
            };
            *current = Standing { subscription, since: Some(now) };
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Subscribed,
    /// From all, or from the list that the entry names.
    Unsubscribed,
    /// From all, since the profile was not on the list that the call named.
    UnsubscribedEverywhere,
    Suppressed,
    Unsuppressed,
}

/// A change of a profile's consent.
pub struct Entry {
    receipt: u64,
    profile: usize,
    /// What the profile had then; nothing any more once it is deleted.
    email: Option<String>,
    phone_number: Option<String>,
    change: Change,
    channels: Vec<Channel>,
    list: Option<String>,
}

/// A change of consent as the control path shows it.
#[derive(Serialize)]
pub struct ConsentView<'a> {
    /// The receipt of the request that made it.
    n: u64,
    profile_id: &'a str,
    email: Option<&'a str>,
    phone_number: Option<&'a str>,
    change: Change,
    channels: &'a [Channel],
    list: Option<&'a str>,
}

impl Store {
    /// Subscribes profiles, and puts them on the list if there is one.
    pub fn subscribe(
        &mut self,
        draft: ConsentDraft,
        receipt: u64,
        now: Timestamp,
    ) -> Result<(), Vec<ApiError>> {
        let list = self.look_up(&draft)?;
        for ConsentItem { profile, channels } in draft.profiles {
            // The only refusal is of an id that nobody has, and those were looked up.
            let Ok(profile) = self.place(profile, now) else { continue };
            self.profiles[profile].consent.subscribe(&channels, now);
            if let Some(list) = list {
                self.lists[list].subscribe(profile, &self.profiles[profile].id, now);
            }
            self.note(receipt, profile, Change::Subscribed, channels, draft.list.clone());
        }
        Ok(())
    }

    /// Unsubscribes profiles: from the list if there is one and they are on it, else from all.
    pub fn unsubscribe(
        &mut self,
        draft: ConsentDraft,
        receipt: u64,
        now: Timestamp,
    ) -> Result<(), Vec<ApiError>> {
        let list = self.look_up(&draft)?;
        for ConsentItem { profile, channels } in draft.profiles {
            let Ok(profile) = self.place(profile, now) else { continue };
            let was_on_list = list.is_some_and(|list| self.lists[list].unsubscribe(profile, now));
            if !was_on_list {
                self.profiles[profile].consent.unsubscribe(&channels, now);
            }
            let change = match list {
                Some(_) if !was_on_list => Change::UnsubscribedEverywhere,
                _ => Change::Unsubscribed,
            };
            self.note(receipt, profile, change, channels, draft.list.clone());
        }
        Ok(())
    }

    /// Suppresses an address, of a new profile if nobody has it.
    pub fn suppress(&mut self, email: String, receipt: u64, now: Timestamp) {
        let mut draft = ProfileDraft::default();
        draft.attributes.insert(Identifier::Email.attribute().to_owned(), email.into());
        // Only an id can be of nobody.
        let Ok(profile) = self.place(draft, now) else { return };
        self.profiles[profile].consent.suppress(Reason::UserSuppressed, now);
        self.note(receipt, profile, Change::Suppressed, vec![Channel::Email], None);
    }

    /// Lifts the suppression of an address that `suppress` set. False if nobody has it.
    pub fn unsuppress(&mut self, email: &str, receipt: u64, now: Timestamp) -> bool {
        let Some(profile) = self.owner(Identifier::Email, email) else { return false };
        self.orders.note(profile);
        let found = &mut self.profiles[profile];
        found.touch(now);
        found.consent.suppressions.retain(|suppression| suppression.reason != Reason::UserSuppressed);
        self.note(receipt, profile, Change::Unsuppressed, vec![Channel::Email], None);
        true
    }

    /// All changes, in the order in which they took effect.
    pub fn consents(&self) -> Vec<ConsentView<'_>> {
        let views = self.consents.iter().map(|entry| ConsentView {
            n: entry.receipt,
            profile_id: &self.profiles[entry.profile].id,
            email: entry.email.as_deref(),
            phone_number: entry.phone_number.as_deref(),
            change: entry.change,
            channels: &entry.channels,
            list: entry.list.as_deref(),
        });
        views.collect()
    }

    /// Forgets what the log knows of a deleted profile.
    pub(super) fn forget_consents(&mut self, profile: usize) {
        for entry in self.consents.iter_mut().filter(|entry| entry.profile == profile) {
            entry.email = None;
            entry.phone_number = None;
        }
    }

    /// The place of the list of a call. An error for the list and for each profile that nobody knows, and then nothing is
    /// done.
    fn look_up(&self, draft: &ConsentDraft) -> Result<Option<usize>, Vec<ApiError>> {
        let mut errors = Vec::new();
        let list = draft.list.as_deref().map(|id| self.find_list(id));
        if list == Some(None) {
            errors.push(unknown_list().at("/data/relationships/list/data/id"));
        }
        for (index, item) in draft.profiles.iter().enumerate() {
            if item.profile.id.as_ref().is_some_and(|id| !self.by_id.contains_key(id)) {
                errors.push(Refusal::UnknownProfile.to_error(&format!("{PROFILES}/{index}")));
            }
        }
        if errors.is_empty() { Ok(list.flatten()) } else { Err(errors) }
    }

    fn note(
        &mut self,
        receipt: u64,
        profile: usize,
        change: Change,
        channels: Vec<Channel>,
        list: Option<String>,
    ) {
        let text = |of: Identifier| self.profiles[profile].text(of.attribute()).map(str::to_owned);
        let (email, phone_number) = (text(Identifier::Email), text(Identifier::PhoneNumber));
        self.consents.push(Entry { receipt, profile, email, phone_number, change, channels, list });
    }
}

#[cfg(test)]
mod tests;
