//! What the ordered half has let the parallel half know: pairs of key and value that are no news.
//!
//! Most events of a first-seen detector show what was seen a thousand times. Workers look here
//! before they make a match of such an event, and only count it. The answer does not depend on when
//! they look: what is known here is known to the ordered half whenever the event's turn would come,
//! unless a bound has pushed it out meanwhile.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::fair::{FairMap, Owner};
use super::pack::Packed;
use crate::detect::matches::Digest128;

/// Parts of the set, each with a lock of its own: a writer keeps few readers waiting, and not for
/// long where its part has to grow.
const SHARDS: usize = 32;

type Shard = RwLock<FairMap<()>>;

/// Shared by all workers; written by the ordered half alone.
#[derive(Debug, Clone)]
pub struct Recall(Arc<[Shard]>);

impl Recall {
    pub fn knows(&self, pair: &Digest128) -> bool {
        self.read(pair).contains(pair)
    }

    fn shard(&self, pair: &Digest128) -> &Shard {
        // Other bits than those by which a shard finds its entries.
        &self.0[(pair.0 >> 64) as usize % SHARDS]
    }

    fn read(&self, pair: &Digest128) -> RwLockReadGuard<'_, FairMap<()>> {
        let shard = self.shard(pair);
        shard.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, pair: &Digest128) -> RwLockWriteGuard<'_, FairMap<()>> {
        let shard = self.shard(pair);
        shard.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pairs behind a [`Recall`]: bounded, and fair to those that they are of.
#[derive(Debug)]
pub struct Pairs {
    known: Recall,
    len: usize,
    evicted: u64,
}

impl Pairs {
    pub fn new(limit: usize) -> Pairs {
        let shard = || RwLock::new(FairMap::new(limit.div_ceil(SHARDS)));
        Pairs {
            known: Recall((0..SHARDS).map(|_| shard()).collect()),
            len: 0,
            evicted: 0,
        }
    }

    pub fn recall(&self) -> Recall {
        self.known.clone()
    }

    pub fn contains(&self, pair: &Digest128) -> bool {
        self.known.knows(pair)
    }

    pub fn insert(&mut self, pair: Digest128, owner: Owner) {
        let mut shard = self.known.write(&pair);
        let (len, evicted) = (shard.len(), shard.evicted());
        shard.insert(pair, owner, ());
        self.len = self.len - len + shard.len();
        self.evicted += shard.evicted() - evicted;
    }

    /// All of them, those of one identity and one shard in the order of their age.
    pub fn pack(&self) -> Packed {
        let mut packed = Packed::with_capacity(20 * self.len);
        for shard in self.known.0.iter() {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            for (pair, owner, ()) in shard.iter() {
                packed.put(pair.0.to_le_bytes());
                packed.put((owner as u32).to_le_bytes());
            }
        }
        packed
    }

    /// Puts in what [`Pairs::pack`] gave.
    pub fn unpack(&mut self, packed: &Packed) {
        let records = packed.records::<20>();
        for shard in self.known.0.iter() {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.reserve(records.len() / SHARDS);
        }
        for record in records {
            let (pair, owner) = record.split_at(16);
            let pair = u128::from_le_bytes(pair.try_into().expect("sixteen bytes"));
            let owner = u32::from_le_bytes(owner.try_into().expect("four bytes"));
            self.insert(Digest128(pair), Owner::from(owner));
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pairs that went because of the bound.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}
