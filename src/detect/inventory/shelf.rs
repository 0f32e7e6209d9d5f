//! A bounded store that is fair by weight: at the bound, whoever's entries weigh most loses their
//! oldest.
//!
//! An entry belongs to the identity that wrote it last with more in it. One identity that writes a
//! million objects so pushes out its own, and never what is remembered of others; what a person
//! imported goes last.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use crate::detect::state::fair::Owner;

/// Owns what was imported.
pub const IMPORTED: Owner = 0;

/// What is kept.
#[derive(Debug, Clone)]
struct Held<V> {
    value: V,
    owner: Owner,
    number: u64,
    weight: usize,
}

#[derive(Debug)]
pub struct Shelf<K, V> {
    entries: BTreeMap<K, Held<V>>,
    /// Each owner's keys by their numbers, oldest first, and what they weigh; none is empty.
    owners: HashMap<Owner, (usize, BTreeMap<u64, K>), ahash::RandomState>,
    /// Weight, number of the oldest, owner: the last weighs most. What was imported is not in it.
    sizes: BTreeSet<(usize, Reverse<u64>, Owner)>,
    next: u64,
    weight: usize,
    limit: usize,
    evicted: u64,
}

impl<K: Ord + Clone, V> Shelf<K, V> {
    /// `limit` is in the units of the weights that entries are put in with.
    pub fn new(limit: usize) -> Shelf<K, V> {
        Shelf {
            entries: BTreeMap::new(),
            owners: HashMap::default(),
            sizes: BTreeSet::new(),
            next: 0,
            weight: 0,
            limit,
            evicted: 0,
        }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|held| &held.value)
    }

    /// Puts a value in; gives what had to go for it. One that was there keeps its owner and its age,
    /// unless it gets heavier.
    pub fn insert(&mut self, key: K, owner: Owner, weight: usize, value: V) -> Vec<(K, V)> {
        let before = self
            .entries
            .get(&key)
            .map(|held| (held.owner, held.weight, held.number));
        let (owner, number) = match before {
            Some((of, had, number)) if weight <= had => (of, number),
            _ => {
                self.next += 1;
                (owner, self.next)
            }
        };
        self.remove(&key);
        self.weight += weight;
        self.change(owner, |held, keys| {
            keys.insert(number, key.clone());
            *held += weight;
        });
        let held = Held {
            value,
            owner,
            number,
            weight,
        };
        self.entries.insert(key, held);
        let mut gone = Vec::new();
        while self.weight > self.limit {
            let greediest = self.sizes.last().map_or(IMPORTED, |(_, _, owner)| *owner);
            let oldest = self
                .owners
                .get(&greediest)
                .and_then(|(_, keys)| keys.first_key_value())
                .map(|(_, key)| key.clone());
            let Some(oldest) = oldest else { break };
            if let Some(value) = self.remove(&oldest) {
                gone.push((oldest, value));
            }
            self.evicted += 1;
        }
        gone
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let held = self.entries.remove(key)?;
        self.weight -= held.weight;
        self.change(held.owner, |weight, keys| {
            keys.remove(&held.number);
            *weight -= held.weight;
        });
        Some(held.value)
    }

    /// Changes the keys of an owner, and their place among the sizes.
    fn change(&mut self, owner: Owner, change: impl FnOnce(&mut usize, &mut BTreeMap<u64, K>)) {
        let (weight, keys) = self.owners.entry(owner).or_default();
        if let Some((oldest, _)) = keys.first_key_value() {
            self.sizes.remove(&(*weight, Reverse(*oldest), owner));
        }
        change(weight, keys);
        match keys.first_key_value() {
            Some((oldest, _)) if owner != IMPORTED => {
                self.sizes.insert((*weight, Reverse(*oldest), owner));
            }
            Some(_) => {}
            None => {
                self.owners.remove(&owner);
            }
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

    /// In the order of the keys, from `from` on.
    pub fn range(&self, from: K) -> impl Iterator<Item = (&K, &V)> {
        self.entries
            .range(from..)
            .map(|(key, held)| (key, &held.value))
    }

    /// With owners and weights, in the order in which they were put in.
    pub fn by_age(&self) -> Vec<(&K, Owner, usize, &V)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(_, held)| held.number);
        entries
            .into_iter()
            .map(|(key, held)| (key, held.owner, held.weight, &held.value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_loses_their_oldest_and_imports_go_last() {
        let mut shelf = Shelf::new(1_000);
        for key in 0..10 {
            shelf.insert(key, IMPORTED, 10, key);
            shelf.insert(100 + key, 1, 10, key);
        }
        let mut gone = 0;
        for key in 1_000..11_000 {
            gone += shelf.insert(key, 99, 10, key).len();
        }
        assert_eq!(shelf.len(), 100);
        assert_eq!((gone as u64, shelf.evicted()), (10_020 - 100, 10_020 - 100));
        assert!((0..10).all(|key| shelf.get(&key).is_some() && shelf.get(&(100 + key)).is_some()));
        assert!(shelf.get(&10_999).is_some() && shelf.get(&1_000).is_none());
    }

    #[test]
    fn a_change_that_adds_nothing_keeps_its_owner() {
        let mut shelf = Shelf::new(100);
        shelf.insert("a", 1, 40, 0);
        shelf.insert("a", 2, 40, 1);
        shelf.insert("b", 2, 50, 2);
        // The second owner's entry is the heavier.
        let gone = shelf.insert("c", 3, 20, 3);
        assert_eq!(gone, [("b", 2)]);
        shelf.remove(&"a");
        shelf.remove(&"c");
        assert!(shelf.is_empty() && shelf.owners.is_empty() && shelf.sizes.is_empty());
    }
}
