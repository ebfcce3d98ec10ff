//! Lists, and who is on them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::members::Members;
use super::{Refusal, Store, short_id};
use crate::call::Call;
use crate::check::{ListChange, ListDraft};
use crate::error::ApiError;
use crate::order::{Key, Rank};
use crate::time::written;

/// Whether whoever subscribes to a list is asked to confirm it. Here it is only kept: nobody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OptIn {
    SingleOptIn,
    DoubleOptIn,
}

/// What a list has that was made without saying. Of Klaviyo's accounts it is a setting.
const ACCOUNT_OPT_IN: OptIn = OptIn::SingleOptIn;

/// One list.
pub struct List {
    pub id: String,
    pub name: String,
    opt_in: OptIn,
    pub created: Timestamp,
    pub updated: Timestamp,
    pub members: Members,
    /// The places of profiles that unsubscribed from it and did not subscribe to it again, and when they did.
    unsubscribed: BTreeMap<usize, Timestamp>,
}

/// A list as the control path shows it.
#[derive(Serialize)]
pub struct ListView<'a> {
    id: &'a str,
    name: &'a str,
    members: Vec<&'a str>,
}

/// The refusal of an id that no list has.
pub fn unknown_list() -> ApiError {
    ApiError::not_found("A list with this id does not exist.")
}

impl List {
    /// Where it is among those that are sorted by this.
    pub fn key(&self, field: &str) -> Key {
        let rank = match field {
            "id" => Rank::Nothing,
            "name" => Rank::text(Some(&self.name)),
            "updated" => Rank::time(self.updated),
            _ => Rank::time(self.created),
        };
        Key { rank, id: self.id.clone() }
    }

    pub fn change(&mut self, change: ListChange, now: Timestamp) {
        if let Some(name) = change.name {
            self.name = name;
        }
        if let Some(opt_in) = change.opt_in {
            self.opt_in = opt_in;
        }
        self.updated = now;
    }

    pub(super) fn subscribe(&mut self, profile: usize, id: &str, now: Timestamp) {
        self.unsubscribed.remove(&profile);
        self.members.join(profile, id, now);
    }

    /// False if the profile is not on it, and nothing happens.
    pub(super) fn unsubscribe(&mut self, profile: usize, now: Timestamp) -> bool {
        let was_on = self.members.leave(profile);
        if was_on {
            self.unsubscribed.insert(profile, now);
        }
        was_on
    }

    pub(super) fn unsubscribed_since(&self, profile: usize) -> Option<Timestamp> {
        self.unsubscribed.get(&profile).copied()
    }

    /// Forgets a deleted profile.
    pub(super) fn forget(&mut self, profile: usize) {
        self.members.leave(profile);
        self.unsubscribed.remove(&profile);
    }

    /// The list as answers have it (`ListListResponseObjectResource` and its like).
    pub fn resource(&self, api_url: &str) -> Value {
        let url = format!("{api_url}{}/{}/", Call::Lists.path(), self.id);
        let related = |name: &str| json!({"links": {"self": format!("{url}relationships/{name}/"), "related": format!("{url}{name}/")}});
        json!({
            "type": "list",
            "id": self.id,
            "attributes": {
                "name": self.name,
                "created": written(self.created),
                "updated": written(self.updated),
                "opt_in_process": self.opt_in,
            },
            "relationships": {
                "profiles": related("profiles"),
                "tags": related("tags"),
                "flow-triggers": related("flow-triggers"),
            },
            "links": {"self": url},
        })
    }

    /// The answer about the one list (`PostListCreateResponse`, `GetListRetrieveResponseCompoundDocument`,
    /// `PatchListPartialUpdateResponse`).
    pub fn document(&self, api_url: &str) -> Value {
        let resource = self.resource(api_url);
        json!({"links": resource["links"], "data": resource})
    }
}

impl Store {
    pub fn create_list(&mut self, draft: ListDraft, now: Timestamp) -> &List {
        self.lists.push(List {
            id: short_id(&mut self.random),
            name: draft.name,
            opt_in: draft.opt_in.unwrap_or(ACCOUNT_OPT_IN),
            created: now,
            updated: now,
            members: Members::default(),
            unsubscribed: BTreeMap::new(),
        });
        &self.lists[self.lists.len() - 1]
    }

    /// All, in the order of their creation.
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    pub fn list(&self, id: &str) -> Result<&List, ApiError> {
        self.find_list(id).map(|index| &self.lists[index]).ok_or_else(unknown_list)
    }

    pub fn list_mut(&mut self, id: &str) -> Result<&mut List, ApiError> {
        let index = self.find_list(id).ok_or_else(unknown_list)?;
        Ok(&mut self.lists[index])
    }

    /// Deletes a list. Its profiles stay, and so does what they consented to.
    pub fn delete_list(&mut self, id: &str) -> Result<(), ApiError> {
        let index = self.find_list(id).ok_or_else(unknown_list)?;
        self.lists.remove(index);
        Ok(())
    }

    /// Puts profiles on a list, whatever they consented to. An error for each id of nobody, and then nothing is done.
    pub fn add_to_list(
        &mut self,
        id: &str,
        profiles: &[String],
        now: Timestamp,
    ) -> Result<(), Vec<ApiError>> {
        let profiles = self.with_ids(profiles);
        let list = self.find_list(id).ok_or_else(|| vec![unknown_list()])?;
        for profile in profiles? {
            self.lists[list].members.join(profile, &self.profiles[profile].id, now);
        }
        Ok(())
    }

    /// Takes profiles off a list, on which they need not be. Of ids the same.
    pub fn remove_from_list(&mut self, id: &str, profiles: &[String]) -> Result<(), Vec<ApiError>> {
        let profiles = self.with_ids(profiles);
        let list = self.list_mut(id).map_err(|error| vec![error])?;
        for profile in profiles? {
            list.members.leave(profile);
        }
        Ok(())
    }

    /// The profiles with these ids, or an error for each id that nobody has; they are the items of `data`.
    fn with_ids(&self, ids: &[String]) -> Result<Vec<usize>, Vec<ApiError>> {
        let find = |(index, id): (usize, &String)| {
            let found = self.by_id.get(id).copied();
            found.ok_or_else(|| Refusal::UnknownProfile.to_error(&format!("/data/{index}")))
        };
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for profile in ids.iter().enumerate().map(find) {
            match profile {
                Ok(profile) => found.push(profile),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(found) } else { Err(errors) }
    }

    /// How many profiles are on one of some lists and on none of others. A list that there is no more has nobody on it.
    pub fn count_on_lists(&self, on: &[String], off: &[String]) -> usize {
        let members = |ids: &[String]| -> BTreeSet<usize> {
            let lists = ids.iter().filter_map(|id| self.list(id).ok());
            lists.flat_map(|list| list.members.places()).collect()
        };
        members(on).difference(&members(off)).count()
    }

    pub(super) fn find_list(&self, id: &str) -> Option<usize> {
        self.lists.iter().position(|list| list.id == id)
    }

    /// The ids of the lists that a profile is on, and those of the lists that it unsubscribed from.
    pub(super) fn lists_of(&self, profile: usize) -> [Vec<&str>; 2] {
        let on = self.lists.iter().filter(|list| list.members.has(profile));
        let off = self.lists.iter().filter(|list| list.unsubscribed.contains_key(&profile));
        [on.map(|list| list.id.as_str()).collect(), off.map(|list| list.id.as_str()).collect()]
    }

    pub fn list_views(&self) -> Vec<ListView<'_>> {
        let views = self.lists.iter().map(|list| {
            let members = list.members.places().map(|profile| self.profiles[profile].id.as_str());
            ListView { id: &list.id, name: &list.name, members: members.collect() }
        });
        views.collect()
    }
}

#[cfg(test)]
mod tests;
