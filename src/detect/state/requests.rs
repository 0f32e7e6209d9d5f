//! Which request each detector has matched already: the first stage counts, later ones and the copy
//! in the other category are duplicates.
//!
//! Only matched requests are remembered, one entry for each detector, so that the memory follows
//! what is of interest and not the traffic.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::BoundedMap;
use crate::detect::matches::Digest128;

/// How long a request is remembered. An `exec` may end, and be logged again, a day after it began;
/// the API server ends watches sooner.
const REMEMBERED_SECS: i64 = 26 * 3600;

/// Entries kept at most: 32 bytes each, and their place in the order.
const LIMIT: usize = 1 << 20;

#[derive(Debug)]
pub struct Requests {
    seen: BoundedMap<i64>,
    fresh: Vec<Seen>,
}

/// A request that a detector matched, for the state's delta.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Seen {
    key: u128,
    at: i64,
}

impl Default for Requests {
    fn default() -> Self {
        Requests {
            seen: BoundedMap::new(LIMIT),
            fresh: Vec::new(),
        }
    }
}

impl Requests {
    /// Whether the detector matched this request before; remembers that it has now.
    pub fn is_duplicate(&mut self, detector: &str, request: Digest128, time: Timestamp) -> bool {
        let key = Digest128::of([detector.as_bytes(), &request.bytes()]);
        if self.seen.contains(&key) {
            return true;
        }
        let seen = Seen {
            key: key.0,
            at: time.as_second(),
        };
        self.apply(seen);
        self.fresh.push(seen);
        false
    }

    /// What was remembered since the last call.
    pub fn take_delta(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.fresh)
    }

    pub fn apply(&mut self, seen: Seen) {
        self.seen.insert(Digest128(seen.key), seen.at);
        let horizon = seen.at - REMEMBERED_SECS;
        self.seen.drop_while(|at| *at < horizon);
    }

    pub fn all(&self) -> Vec<Seen> {
        self.seen
            .iter()
            .map(|(key, at)| Seen {
                key: key.0,
                at: *at,
            })
            .collect()
    }

    pub fn len(&self) -> usize {
        self.seen.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    pub fn evicted(&self) -> u64 {
        self.seen.evicted()
    }
}
