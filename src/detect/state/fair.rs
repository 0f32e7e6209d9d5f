//! A bounded map that is fair: at the bound, whoever has the most entries loses their oldest.
//!
//! An entry belongs to the identity that made it. One identity with ten million keys so pushes out
//! its own, and never what is remembered of others.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use crate::detect::matches::{Digest128, DigestHasher};

/// 64 bits of a digest of cluster and authenticated user.
pub type Owner = u64;

#[derive(Debug)]
pub struct FairMap<V> {
    entries: HashMap<Digest128, (Owner, V), BuildHasherDefault<DigestHasher>>,
    /// Each owner's keys with their numbers, oldest first; none is empty.
    owners: HashMap<Owner, VecDeque<(u64, Digest128)>>,
    /// Entries, number of the oldest, owner: the last has the most, and of those the oldest.
    sizes: BTreeSet<(usize, Reverse<u64>, Owner)>,
    next: u64,
    limit: usize,
    evicted: u64,
}

impl<V> FairMap<V> {
    pub fn new(limit: usize) -> FairMap<V> {
        FairMap {
            entries: HashMap::default(),
            owners: HashMap::new(),
            sizes: BTreeSet::new(),
            next: 0,
            limit,
            evicted: 0,
        }
    }

    pub fn get(&self, key: &Digest128) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: &Digest128) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    pub fn contains(&self, key: &Digest128) -> bool {
        self.entries.contains_key(key)
    }

    /// Puts a value in. One that was there keeps its owner and its age.
    pub fn insert(&mut self, key: Digest128, owner: Owner, value: V) {
        if let Some((_, present)) = self.entries.get_mut(&key) {
            *present = value;
            return;
        }
        self.entries.insert(key, (owner, value));
        let number = self.next;
        self.next += 1;
        self.change(owner, |keys| keys.push_back((number, key)));
        while self.entries.len() > self.limit {
            let Some(&(_, _, greediest)) = self.sizes.last() else {
                break;
            };
            if let Some((_, oldest)) = self.change(greediest, VecDeque::pop_front) {
                self.entries.remove(&oldest);
                self.evicted += 1;
            }
        }
    }

    /// Changes the keys of an owner, and their place among the sizes.
    fn change<T>(
        &mut self,
        owner: Owner,
        change: impl FnOnce(&mut VecDeque<(u64, Digest128)>) -> T,
    ) -> T {
        let keys = self.owners.entry(owner).or_default();
        if let Some((oldest, _)) = keys.front() {
            self.sizes.remove(&(keys.len(), Reverse(*oldest), owner));
        }
        let result = change(keys);
        match keys.front() {
            Some((oldest, _)) => {
                self.sizes.insert((keys.len(), Reverse(*oldest), owner));
            }
            None => {
                self.owners.remove(&owner);
            }
        }
        result
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

    /// Entries with their owners, in the order in which they were put in.
    pub fn iter(&self) -> impl Iterator<Item = (&Digest128, Owner, &V)> {
        let mut keys: Vec<&(u64, Digest128)> = self.owners.values().flatten().collect();
        keys.sort_unstable_by_key(|(number, _)| *number);
        keys.into_iter().filter_map(|(_, key)| {
            let (owner, value) = self.entries.get(key)?;
            Some((key, *owner, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greediest_loses_their_oldest() {
        let mut map = FairMap::new(100);
        for key in 0..10 {
            map.insert(Digest128(key), key as u64, key);
        }
        for key in 1_000..11_000 {
            map.insert(Digest128(key), 99, key);
        }
        assert_eq!(map.len(), 100);
        assert_eq!(map.evicted(), 10_010 - 100);
        for key in 0..10 {
            assert!(map.contains(&Digest128(key)), "{key} belongs to another");
        }
        assert!(map.contains(&Digest128(10_999)) && !map.contains(&Digest128(1_000)));
    }

    #[test]
    fn of_equals_the_oldest_goes() {
        let mut map = FairMap::new(2);
        for key in 0..5 {
            map.insert(Digest128(key), key as u64, key);
        }
        assert_eq!(map.iter().map(|(_, _, v)| *v).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(map.owners.len(), 2);
    }
}
