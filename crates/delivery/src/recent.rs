//! A map that remembers what was inserted last and is bounded: two generations, the older of which is forgotten when the
//! younger is full. Looking something up does not keep it.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    generation: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Remembers at least the last `generation` entries and at most twice as many.
    pub fn new(generation: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_and_forgets_the_rest() {
        let mut recent = Recent::new(100);
        for n in 0..1_000 {
            recent.insert(n, n);
            assert_eq!(recent.get(&(n - 99).max(0)), Some(&(n - 99).max(0)));
            assert!(recent.young.len() + recent.old.len() <= 200);
        }
        assert_eq!(recent.get(&700), None);
        recent.insert(999, -1);
        assert_eq!(recent.get(&999), Some(&-1));
    }
}
