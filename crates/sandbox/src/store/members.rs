//! Who is on a list or in a segment.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::index::Index;
use super::{Profile, Store};
use crate::order::{Key, Rank, Rows, Slice};

/// The places of profiles in the store, and when each joined.
#[derive(Default)]
pub struct Members {
    joined: BTreeMap<usize, Timestamp>,
    by_time: Index,
}

impl Members {
    /// Whoever is there already stays since when they are.
    pub fn join(&mut self, place: usize, id: &str, now: Timestamp) {
        if self.has(place) {
            return;
        }
        self.joined.insert(place, now);
        self.by_time.set(place, Some(Key { rank: Rank::time(now), id: id.to_owned() }));
    }

    /// False if the profile was not there.
    pub fn leave(&mut self, place: usize) -> bool {
        self.by_time.set(place, None);
        self.joined.remove(&place).is_some()
    }

    pub fn has(&self, place: usize) -> bool {
        self.joined.contains_key(&place)
    }

    /// The oldest profile first.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.joined.keys().copied()
    }
}

impl Store {
    /// A page of members, with the times when they joined; of all, or of those that are meant.
    pub fn members(
        &self,
        members: &Members,
        slice: &Slice,
        meant: Option<&BTreeSet<usize>>,
        meets: impl Fn(Timestamp) -> bool,
    ) -> Rows<(&Profile, Timestamp)> {
        let row = |place: usize| (&self.profiles[place], members.joined[&place]);
        let is_met = |(_, (_, joined)): &(Key, (&Profile, Timestamp))| meets(*joined);
        match meant {
            None => {
                let rows = slice.of(members.by_time.rows());
                slice.page(rows.map(|(key, place)| (key.clone(), row(place))).filter(is_met))
            }
            Some(meant) => {
                let rows = meant.iter().filter_map(|place| Some((members.by_time.key(*place)?, *place)));
                slice.page_of_few(rows.map(|(key, place)| (key.clone(), row(place))).filter(is_met).collect())
            }
        }
    }
}
