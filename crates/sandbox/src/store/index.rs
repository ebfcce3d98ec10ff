//! An order of rows that come, change and go.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::order::Key;

/// The places of rows by their keys, and the other way round.
#[derive(Default)]
pub struct Index {
    rows: BTreeMap<Key, usize>,
    keys: HashMap<usize, Key>,
}

impl Index {
    /// Where a row is from now on; nowhere if there is no key.
    pub fn set(&mut self, place: usize, key: Option<Key>) {
        let before = match &key {
            Some(key) => self.keys.insert(place, key.clone()),
            None => self.keys.remove(&place),
        };
        if let Some(before) = before {
            self.rows.remove(&before);
        }
        if let Some(key) = key {
            self.rows.insert(key, place);
        }
    }

    pub fn key(&self, place: usize) -> Option<&Key> {
        self.keys.get(&place)
    }

    pub fn rows(&self) -> &BTreeMap<Key, usize> {
        &self.rows
    }
}
