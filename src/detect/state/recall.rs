//! What the ordered half has let the parallel half know: pairs of key and value that are no news.
//!
//! Most events of a first-seen detector show what was seen a thousand times. Workers look here
//! before they make a match of such an event, and only count it. The answer does not depend on when
//! they look: what is known here is known to the ordered half whenever the event's turn would come.

use std::collections::VecDeque;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use dashmap::DashMap;

use crate::detect::matches::{Digest128, DigestHasher};

/// Shared by all workers; written by the ordered half alone.
#[derive(Debug, Clone, Default)]
pub struct Recall(Arc<DashMap<Digest128, (), BuildHasherDefault<DigestHasher>>>);

impl Recall {
    pub fn knows(&self, pair: &Digest128) -> bool {
        self.0.contains_key(pair)
    }
}

/// The pairs behind a [`Recall`], bounded: the one first put in goes first.
#[derive(Debug)]
pub struct Pairs {
    known: Recall,
    order: VecDeque<Digest128>,
    limit: usize,
    evicted: u64,
}

impl Pairs {
    pub fn new(limit: usize) -> Pairs {
        Pairs {
            known: Recall::default(),
            order: VecDeque::new(),
            limit,
            evicted: 0,
        }
    }

    pub fn recall(&self) -> Recall {
        self.known.clone()
    }

    pub fn contains(&self, pair: &Digest128) -> bool {
        self.known.knows(pair)
    }

    pub fn insert(&mut self, pair: Digest128) {
        if self.known.0.insert(pair, ()).is_some() {
            return;
        }
        self.order.push_back(pair);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.0.remove(&oldest);
            self.evicted += 1;
        }
    }

    /// In the order in which they were put in.
    pub fn iter(&self) -> impl Iterator<Item = &Digest128> {
        self.order.iter()
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Pairs that went because of the bound.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}
