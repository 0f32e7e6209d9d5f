//! A bounded map that is fair: at the bound, whoever has the most entries, within a thirtieth, loses
//! their oldest.
//!
//! An entry belongs to the identity that made it. One identity with ten million keys so pushes out
//! its own, and never what is remembered of others. Identities are spread over a fixed number of
//! queues (as in stochastic fairness queueing, McKenney 1990), so that an identity with a single
//! entry costs nothing besides that entry; within a queue, a majority vote (Boyer and Moore 1991)
//! tells the greedy identity from those that share the queue with it.
//!
//! Entries lie in chunks of one size, found by an index of four bytes each: no entry is allocated by
//! itself, growing moves none of them, and half-empty tables waste little.

use std::mem;

use hashbrown::HashTable;

use crate::detect::matches::Digest128;

/// A digest of cluster and authenticated user. The lower 32 bits of it tell identities apart.
pub type Owner = u64;

/// Queues of a table, at most. Twenty bytes each.
const QUEUES: usize = 4096;

/// Entries in one piece of memory, as a power of two: 4096.
const CHUNK_BITS: u32 = 12;
const CHUNK: usize = 1 << CHUNK_BITS;

/// Entries of others that make way for the majority's in one eviction.
const TURNS: usize = 4096;

/// Queues count as even that differ by less than this part.
const EVEN: u32 = 32;

/// No entry.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub struct FairMap<V> {
    index: HashTable<u32>,
    chunks: Vec<Vec<Slot<V>>>,
    /// First of the slots that hold nothing.
    free: u32,
    /// Made with the first entry.
    queues: Vec<Queue>,
    /// The queue with the most entries, and a bound on the entries of all others.
    longest: usize,
    others: u32,
    /// The queue to be looked at next for entries that are stale.
    swept: usize,
    limit: usize,
    evicted: u64,
}

#[derive(Debug, Clone)]
struct Slot<V> {
    /// Halves, so that an entry need not lie at a multiple of sixteen bytes.
    key: [u64; 2],
    owner: u32,
    /// The next of the queue, or of the free slots.
    next: u32,
    value: V,
}

/// Entries of some identities, oldest first.
#[derive(Debug, Clone, Copy)]
struct Queue {
    head: u32,
    tail: u32,
    len: u32,
    /// Whose entries the majority are, if anybody's, and how many votes that has left.
    candidate: u32,
    votes: u32,
}

const EMPTY: Queue = Queue {
    head: NONE,
    tail: NONE,
    len: 0,
    candidate: 0,
    votes: 0,
};

fn split(key: &Digest128) -> [u64; 2] {
    [(key.0 >> 64) as u64, key.0 as u64]
}

fn joined([high, low]: [u64; 2]) -> Digest128 {
    Digest128(u128::from(high) << 64 | u128::from(low))
}

/// The hash of the entry at `at`, where the whole map cannot be borrowed.
fn hash_in<V>(chunks: &[Vec<Slot<V>>], at: u32) -> u64 {
    joined(chunks[(at >> CHUNK_BITS) as usize][at as usize % CHUNK].key).spread()
}

impl<V: Default> FairMap<V> {
    /// Holds at most `limit` entries, which is less than 2³².
    pub fn new(limit: usize) -> FairMap<V> {
        FairMap {
            index: HashTable::new(),
            chunks: Vec::new(),
            free: NONE,
            queues: Vec::new(),
            longest: 0,
            others: 0,
            swept: 0,
            limit: limit.min(NONE as usize - 1),
            evicted: 0,
        }
    }

    fn slot(&self, at: u32) -> &Slot<V> {
        &self.chunks[(at >> CHUNK_BITS) as usize][at as usize % CHUNK]
    }

    fn slot_mut(&mut self, at: u32) -> &mut Slot<V> {
        &mut self.chunks[(at >> CHUNK_BITS) as usize][at as usize % CHUNK]
    }

    fn find(&self, key: &Digest128) -> Option<u32> {
        let halves = split(key);
        self.index
            .find(key.spread(), |at| self.slot(*at).key == halves)
            .copied()
    }

    pub fn get(&self, key: &Digest128) -> Option<&V> {
        self.find(key).map(|at| &self.slot(at).value)
    }

    pub fn get_mut(&mut self, key: &Digest128) -> Option<&mut V> {
        let at = self.find(key)?;
        Some(&mut self.slot_mut(at).value)
    }

    pub fn contains(&self, key: &Digest128) -> bool {
        self.find(key).is_some()
    }

    /// Puts a value in. One that was there keeps its owner and its age. Gives what had to go.
    pub fn insert(&mut self, key: Digest128, owner: Owner, value: V) -> Option<V> {
        if let Some(present) = self.get_mut(&key) {
            *present = value;
            return None;
        }
        if self.queues.is_empty() {
            let queues = (self.limit / 64).next_power_of_two().clamp(64, QUEUES);
            self.queues = vec![EMPTY; queues];
        }
        // Before, so that it cannot be the new one.
        let gone = match self.len() >= self.limit {
            true => self.evict(),
            false => None,
        };
        let owner = owner as u32;
        let halves = split(&key);
        let at = self.place(Slot {
            key: halves,
            owner,
            next: NONE,
            value,
        });
        let chunks = &self.chunks;
        let hash = |at: &u32| hash_in(chunks, *at);
        self.index.insert_unique(joined(halves).spread(), at, hash);
        let queue = owner as usize % self.queues.len();
        self.push(queue, at);
        self.vote(queue, owner);
        let len = self.queues[queue].len;
        if queue != self.longest {
            if len > self.queues[self.longest].len {
                self.others = self.others.max(self.queues[self.longest].len);
                self.longest = queue;
            } else {
                self.others = self.others.max(len);
            }
        }
        gone
    }

    /// A slot with the entry in it.
    fn place(&mut self, slot: Slot<V>) -> u32 {
        if self.free != NONE {
            let at = self.free;
            self.free = self.slot(at).next;
            *self.slot_mut(at) = slot;
            return at;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // Only the first is small, for tables that stay so.
            let first = self.chunks.is_empty();
            self.chunks
                .push(Vec::with_capacity(if first { 16 } else { CHUNK }));
        }
        let last = self.chunks.len() - 1;
        self.chunks[last].push(slot);
        ((last << CHUNK_BITS) + self.chunks[last].len() - 1) as u32
    }

    fn push(&mut self, queue: usize, at: u32) {
        self.slot_mut(at).next = NONE;
        let Queue { tail, .. } = self.queues[queue];
        match tail {
            NONE => self.queues[queue].head = at,
            tail => self.slot_mut(tail).next = at,
        }
        self.queues[queue].tail = at;
        self.queues[queue].len += 1;
    }

    fn pop(&mut self, queue: usize) -> Option<u32> {
        let Queue { head, .. } = self.queues[queue];
        if head == NONE {
            return None;
        }
        let next = self.slot(head).next;
        self.queues[queue].head = next;
        if next == NONE {
            self.queues[queue].tail = NONE;
        }
        self.queues[queue].len -= 1;
        Some(head)
    }

    fn vote(&mut self, queue: usize, owner: u32) {
        let queue = &mut self.queues[queue];
        if queue.votes == 0 {
            (queue.candidate, queue.votes) = (owner, 1);
        } else if queue.candidate == owner {
            queue.votes += 1;
        } else {
            queue.votes -= 1;
        }
    }

    /// Drops the oldest entry of the identity that has the most; gives its value.
    pub fn evict(&mut self) -> Option<V> {
        if self.queues.is_empty() {
            return None;
        }
        // Of queues that are about as long, one gives way for some time: to look at all costs more.
        let longest = self.queues[self.longest].len;
        if longest + longest / EVEN < self.others {
            self.rank();
        }
        let queue = self.longest;
        let greedy = self.queues[queue].candidate;
        for _ in 0..TURNS.min(self.queues[queue].len as usize) {
            let head = self.queues[queue].head;
            if head == NONE || self.slot(head).owner == greedy {
                break;
            }
            // Of somebody else: it goes to the end, as if it were new.
            if let Some(spared) = self.pop(queue) {
                self.push(queue, spared);
            }
        }
        let oldest = self.pop(queue)?;
        let value = self.remove(oldest);
        self.evicted += 1;
        let Queue { head, votes, .. } = self.queues[queue];
        self.queues[queue].votes = votes.saturating_sub(1);
        if votes <= 1 && head != NONE {
            let owner = self.slot(head).owner;
            self.vote(queue, owner);
        }
        Some(value)
    }

    /// Finds the longest queue and the next; of equals, the one after the last in turn.
    fn rank(&mut self) {
        let count = self.queues.len();
        let (mut longest, mut others) = (self.longest, 0);
        for turn in 1..=count {
            let queue = (self.longest + turn) % count;
            let len = self.queues[queue].len;
            if queue == longest {
                continue;
            }
            if len > self.queues[longest].len {
                others = others.max(self.queues[longest].len);
                longest = queue;
            } else {
                others = others.max(len);
            }
        }
        (self.longest, self.others) = (longest, others);
    }

    /// Takes an entry that is in no queue any more out of the index, and frees its slot.
    fn remove(&mut self, at: u32) -> V {
        let key = self.slot(at).key;
        if let Ok(entry) = self
            .index
            .find_entry(joined(key).spread(), |known| *known == at)
        {
            entry.remove();
        }
        let free = self.free;
        let slot = self.slot_mut(at);
        let value = mem::take(&mut slot.value);
        slot.next = free;
        self.free = at;
        value
    }

    /// Drops the oldest entries of the next queue for as long as `stale` holds of them: to be called
    /// with every insertion. Not counted as evictions.
    pub fn sweep(&mut self, stale: impl Fn(&V) -> bool) {
        if self.queues.is_empty() {
            return;
        }
        self.swept = (self.swept + 1) % self.queues.len();
        let queue = self.swept;
        loop {
            let head = self.queues[queue].head;
            if head == NONE || !stale(&self.slot(head).value) {
                break;
            }
            if let Some(oldest) = self.pop(queue) {
                self.remove(oldest);
            }
        }
        if self.queues[queue].len == 0 {
            self.queues[queue].votes = 0;
        }
    }

    /// Makes room for so many more entries at once.
    pub fn reserve(&mut self, entries: usize) {
        let chunks = &self.chunks;
        let hash = |at: &u32| hash_in(chunks, *at);
        self.index.reserve(entries.min(self.limit), hash);
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Entries that went because of the bound.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Entries with their owners' 32 bits; those of one identity in the order of their age.
    pub fn iter(&self) -> impl Iterator<Item = (Digest128, Owner, &V)> {
        self.queues.iter().flat_map(move |queue| {
            let mut at = queue.head;
            std::iter::from_fn(move || {
                if at == NONE {
                    return None;
                }
                let slot = self.slot(at);
                at = slot.next;
                Some((joined(slot.key), Owner::from(slot.owner), &slot.value))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn who_shares_a_queue_with_the_greediest_loses_nothing() {
        let mut map = FairMap::new(1_000);
        let beside = |number: u64| 7 + 64 * number;
        for number in 0..200 {
            map.insert(Digest128(u128::from(number)), beside(number), number);
        }
        for key in 1_000..21_000_u64 {
            map.insert(Digest128(u128::from(key)), 7 + (1 << 20), key);
        }
        assert_eq!((map.len(), map.evicted()), (1_000, 19_200));
        for number in 0..200 {
            assert!(map.contains(&Digest128(number)), "{number}");
        }
    }

    #[test]
    fn those_who_make_as_much_keep_as_much() {
        let (owners, each) = (64, 1_000);
        let mut map = FairMap::new(owners * each);
        for key in 0..(3 * owners * each) as u64 {
            map.insert(Digest128(u128::from(key)), key % owners as u64, key);
        }
        let mut kept = vec![0; owners];
        for (_, owner, _) in map.iter() {
            kept[owner as usize] += 1;
        }
        let even = |kept: &usize| kept.abs_diff(each) <= each / EVEN as usize;
        assert!(kept.iter().all(even), "{kept:?}");
    }

    #[test]
    fn what_is_stale_goes_uncounted() {
        let mut map = FairMap::new(1_000);
        for key in 0..500_u64 {
            map.insert(Digest128(u128::from(key)), key % 7, key);
        }
        for _ in 0..64 {
            map.sweep(|value| *value < 400);
        }
        assert_eq!((map.len(), map.evicted()), (100, 0));
        assert!(!map.contains(&Digest128(399)) && map.contains(&Digest128(400)));
        map.insert(Digest128(1), 1, 1);
        assert_eq!(map.get(&Digest128(1)), Some(&1));
    }

    proptest! {
        /// Held to the plainest map there is, below the bound; and to its bound above it.
        #[test]
        fn it_is_a_map_of_bounded_size(
            inserts in proptest::collection::vec((0_u128..60, 0_u64..5, any::<u16>()), 0..200),
            limit in 1_usize..80,
        ) {
            let mut map = FairMap::new(limit);
            let mut plain = std::collections::HashMap::new();
            for (key, owner, value) in inserts {
                map.insert(Digest128(key), owner, value);
                plain.insert(key, value);
                prop_assert!(map.len() <= limit);
                prop_assert_eq!(map.get(&Digest128(key)), Some(&value));
                prop_assert_eq!(map.iter().count(), map.len());
                for (key, _, value) in map.iter() {
                    prop_assert_eq!(plain.get(&key.0), Some(value));
                }
            }
            if plain.len() <= limit {
                prop_assert_eq!(map.len(), plain.len());
                prop_assert_eq!(map.evicted(), 0);
            }
        }
    }
}
