//! Which request each detector has matched already: the first stage counts, later ones and the copy
//! in the other category are duplicates.
//!
//! Only matched requests are remembered, one entry for each detector, so that the memory follows
//! what is of interest and not the traffic. A request that has started to answer may end hours
//! later; every other can only come again as its copy, which comes soon.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::fair::{FairMap, Owner};
use super::pack::digest;
use crate::detect::matches::Digest128;
use crate::event::Stage;

/// How long a started request is remembered: an `exec` may end, and be logged again, a day after it
/// began; the API server ends watches sooner.
const STARTED_SECS: i64 = 26 * 3600;

/// How long an ended one is: the two categories lie on partitions that differ by less.
const ENDED_SECS: i64 = 15 * 60;

/// Entries kept at most, of each kind: 42 bytes each.
const LIMIT: usize = 1 << 18;

#[derive(Debug)]
pub struct Requests {
    started: FairMap<i64>,
    ended: FairMap<i64>,
    fresh: Option<Vec<Seen>>,
}

/// A request that a detector matched, for the state's delta.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Seen {
    #[serde(with = "digest")]
    key: u128,
    owner: u32,
    at: i64,
    started: bool,
}

impl Requests {
    /// With `durable`, what is remembered is also kept for [`Requests::take_delta`].
    pub fn new(durable: bool) -> Requests {
        Requests {
            started: FairMap::new(LIMIT),
            ended: FairMap::new(LIMIT),
            fresh: durable.then(Vec::new),
        }
    }

    /// Whether the detector matched this request before; remembers that it has now.
    pub fn is_duplicate(
        &mut self,
        detector: Digest128,
        request: Digest128,
        owner: Owner,
        stage: Stage,
        time: Timestamp,
    ) -> bool {
        // Both are SHA-256, so their sum is as hard to forge as either.
        let key = Digest128(detector.0 ^ request.0);
        if self.started.contains(&key) || self.ended.contains(&key) {
            return true;
        }
        let seen = Seen {
            key: key.0,
            owner: owner as u32,
            at: time.as_second(),
            started: matches!(stage, Stage::ResponseStarted | Stage::RequestReceived),
        };
        self.apply(seen);
        if let Some(fresh) = &mut self.fresh {
            fresh.push(seen);
        }
        false
    }

    /// What was remembered since the last call.
    pub fn take_delta(&mut self) -> Vec<Seen> {
        self.fresh.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub fn apply(&mut self, seen: Seen) {
        let (map, remembered) = if seen.started {
            (&mut self.started, STARTED_SECS)
        } else {
            (&mut self.ended, ENDED_SECS)
        };
        map.sweep(|at| *at < seen.at - remembered);
        map.insert(Digest128(seen.key), Owner::from(seen.owner), seen.at);
    }

    pub fn all(&self) -> Vec<Seen> {
        let of = |map: &FairMap<i64>, started: bool| -> Vec<Seen> {
            map.iter()
                .map(|(key, owner, at)| Seen {
                    key: key.0,
                    owner: owner as u32,
                    at: *at,
                    started,
                })
                .collect()
        };
        let mut all = of(&self.started, true);
        all.extend(of(&self.ended, false));
        all
    }

    pub fn len(&self) -> usize {
        self.started.len() + self.ended.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn evicted(&self) -> u64 {
        self.started.evicted() + self.ended.evicted()
    }
}
