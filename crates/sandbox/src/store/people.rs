//! Profiles in the orders in which they can be read.

use std::collections::BTreeSet;

use hashbrown::{HashMap, HashSet};

use super::index::Index;
use super::{Profile, Store};
use crate::check::Whose;
use crate::order::{Key, Order, Rows, Slice};

/// Indexes of profiles, by what they are sorted by. Each is made when a list in its order is first asked for, and brought up to
/// date when one is again: requests that change profiles, which have to be quick, only say whom they changed.
#[derive(Default)]
pub struct Orders {
    indexes: HashMap<&'static str, Index>,
    changed: HashSet<usize>,
}

impl Orders {
    /// Says that a profile has changed, come or gone.
    pub fn note(&mut self, place: usize) {
        if !self.indexes.is_empty() {
            self.changed.insert(place);
        }
    }

    fn refresh(&mut self, order: Order, profiles: &[Profile]) {
        for place in self.changed.drain() {
            for (field, index) in &mut self.indexes {
                index.set(place, profiles[place].key(field));
            }
        }
        self.indexes.entry(order.field).or_insert_with(|| {
            let mut index = Index::default();
            for (place, profile) in profiles.iter().enumerate() {
                index.set(place, profile.key(order.field));
            }
            index
        });
    }
}

impl Store {
    /// Has an order be what profiles are by now. Pages are read in no other.
    pub fn sort_people(&mut self, order: Order) {
        self.orders.refresh(order, &self.profiles);
    }

    /// A page of profiles; of all, or of those that are meant.
    pub fn people(
        &self,
        slice: &Slice,
        meant: Option<&BTreeSet<usize>>,
        meets: impl Fn(&Profile) -> bool,
    ) -> Rows<&Profile> {
        let field = slice.order.field;
        if let Some(meant) = meant {
            let found = meant.iter().map(|place| &self.profiles[*place]).filter(|profile| meets(profile));
            let keyed = found.filter_map(|profile| Some((profile.key(field)?, profile)));
            return slice.page_of_few(keyed.collect());
        }
        let Some(index) = self.orders.indexes.get(field) else {
            return Rows { rows: Vec::new(), last: None };
        };
        let rows = slice.of(index.rows()).map(|(key, place)| (key, &self.profiles[place]));
        let rows = rows.filter(|(_, profile)| meets(profile));
        slice.page(rows.map(|(key, profile)| (Key::clone(key), profile)))
    }

    /// The places of those whom all of these mean, each one way or another; of everybody if there is nothing to mean.
    pub fn meant(&self, all: &[Vec<Whose>]) -> Option<BTreeSet<usize>> {
        let sets = all.iter().map(|any| any.iter().filter_map(|whose| self.who(whose)).collect());
        sets.reduce(|one: BTreeSet<usize>, other| one.intersection(&other).copied().collect())
    }

    /// The profile with an id.
    pub fn profile(&self, id: &str) -> Option<&Profile> {
        self.by_id.get(id).map(|place| &self.profiles[*place])
    }
}

#[cfg(test)]
mod tests;
