//! A map that holds at most a given number of entries: the one first put in goes first.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use crate::detect::matches::{Digest128, DigestHasher};

/// Keys are digests of log content, so that nobody can aim at a bucket; values are small.
#[derive(Debug)]
pub struct BoundedMap<V> {
    entries: HashMap<Digest128, V, BuildHasherDefault<DigestHasher>>,
    order: VecDeque<Digest128>,
    limit: usize,
    evicted: u64,
}

impl<V> BoundedMap<V> {
    pub fn new(limit: usize) -> BoundedMap<V> {
        BoundedMap {
            entries: HashMap::default(),
            order: VecDeque::new(),
            limit,
            evicted: 0,
        }
    }

    pub fn get(&self, key: &Digest128) -> Option<&V> {
        self.entries.get(key)
    }

    pub fn get_mut(&mut self, key: &Digest128) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    pub fn contains(&self, key: &Digest128) -> bool {
        self.entries.contains_key(key)
    }

    /// Puts a value in, and lets the oldest go where the bound is reached.
    pub fn insert(&mut self, key: Digest128, value: V) {
        if self.entries.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        while self.entries.len() > self.limit {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if self.entries.remove(&oldest).is_some() {
                self.evicted += 1;
            }
        }
    }

    /// Drops the oldest entries for as long as `stale` holds of them. Not counted as evictions.
    pub fn drop_while(&mut self, mut stale: impl FnMut(&V) -> bool) {
        while let Some(oldest) = self.order.front() {
            match self.entries.get(oldest) {
                Some(value) if !stale(value) => break,
                Some(_) => {
                    self.entries.remove(oldest);
                }
                None => {}
            }
            self.order.pop_front();
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries that went because of the bound.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Entries in the order in which they were put in.
    pub fn iter(&self) -> impl Iterator<Item = (&Digest128, &V)> {
        self.order
            .iter()
            .filter_map(|key| self.entries.get(key).map(|value| (key, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_no_more_than_its_limit_and_counts_what_went() {
        let mut map = BoundedMap::new(2);
        for key in 0..5 {
            map.insert(Digest128(key), key);
        }
        assert_eq!(map.len(), 2);
        assert_eq!(map.evicted(), 3);
        assert!(map.contains(&Digest128(4)) && !map.contains(&Digest128(0)));
        map.drop_while(|value| *value < 4);
        assert_eq!(map.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [4]);
    }
}
