//! Which request each audit ID stood for first.
//!
//! The API server takes an `Audit-ID` that a client sends, and does not ask whether it is new. Only
//! requests that some detector wants come here, so that the memory follows what is of interest.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::fair::{FairMap, Owner};
use super::pack::digest;
use crate::detect::matches::Digest128;

/// Audit IDs kept at most, 60 bytes each.
const LIMIT: usize = 1 << 17;

#[derive(Debug)]
pub struct Reused {
    first: FairMap<First>,
    fresh: Option<Vec<Used>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct First {
    /// Halves, which lie closer than a `u128`.
    request: [u64; 2],
    at: i64,
    /// Up to when it counts; seconds, as above.
    until: i64,
}

/// The first use of an audit ID, for the state's delta.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Used {
    #[serde(with = "digest")]
    key: u128,
    #[serde(with = "digest")]
    request: u128,
    owner: u32,
    at: i64,
    until: i64,
}

impl Reused {
    /// With `durable`, what is remembered is also kept for [`Reused::take_delta`].
    pub fn new(durable: bool) -> Reused {
        Reused {
            first: FairMap::new(LIMIT),
            fresh: durable.then(Vec::new),
        }
    }

    /// When the audit ID, of which `key` is the digest, stood for another request, if it did so within
    /// `within`. One that is not known is remembered.
    pub fn ask(
        &mut self,
        key: Digest128,
        owner: Owner,
        request: Digest128,
        time: Timestamp,
        within: SignedDuration,
    ) -> Option<i64> {
        let at = time.as_second();
        if let Some(first) = self.first.get(&key)
            && first.at.abs_diff(at) <= within.as_secs().unsigned_abs()
        {
            return (first.request != halves(request.0)).then_some(first.at);
        }
        let used = Used {
            key: key.0,
            request: request.0,
            owner: owner as u32,
            at,
            until: at.saturating_add(within.as_secs()),
        };
        self.apply(used);
        if let Some(fresh) = &mut self.fresh {
            fresh.push(used);
        }
        None
    }

    pub fn apply(&mut self, used: Used) {
        self.first.sweep(|first| first.until < used.at);
        let first = First {
            request: halves(used.request),
            at: used.at,
            until: used.until,
        };
        let owner = Owner::from(used.owner);
        self.first.insert(Digest128(used.key), owner, first);
    }

    /// What was remembered since the last call.
    pub fn take_delta(&mut self) -> Vec<Used> {
        self.fresh.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub fn all(&self) -> Vec<Used> {
        let entries = self.first.iter();
        entries
            .map(|(key, owner, first)| {
                let [high, low] = first.request.map(u128::from);
                Used {
                    key: key.0,
                    request: high << 64 | low,
                    owner: owner as u32,
                    at: first.at,
                    until: first.until,
                }
            })
            .collect()
    }

    pub fn len(&self) -> usize {
        self.first.len()
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub fn evicted(&self) -> u64 {
        self.first.evicted()
    }
}

fn halves(request: u128) -> [u64; 2] {
    [(request >> 64) as u64, request as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn ask(reused: &mut Reused, id: u128, owner: Owner, request: u128, at: i64) -> Option<i64> {
        let time = Timestamp::from_second(at).expect("in range");
        reused.ask(Digest128(id), owner, Digest128(request), time, HOUR)
    }

    #[test]
    fn the_first_request_of_an_id_is_known_after_a_restart_and_for_a_time() {
        let mut before = Reused::new(true);
        assert_eq!(ask(&mut before, 1, 7, 10, 1_000), None);
        assert_eq!(ask(&mut before, 1, 7, 10, 1_005), None, "another stage");
        assert_eq!(ask(&mut before, 1, 7, 10 << 64, 1_010), Some(1_000));
        assert_eq!(before.take_delta().len(), 1);
        let mut after = Reused::new(true);
        for used in before.all() {
            after.apply(used);
        }
        assert_eq!(ask(&mut after, 1, 8, 11, 4_600), Some(1_000));
        assert_eq!(ask(&mut after, 1, 8, 11, 400), Some(1_000), "it comes late");
        assert_eq!(ask(&mut after, 1, 7, 10, 4_601), None, "it ends long after");
    }

    #[test]
    fn who_makes_up_ids_without_number_pushes_out_their_own() {
        let mut reused = Reused::new(false);
        for id in 0..100 {
            ask(&mut reused, 1 << 100 | id, 1, 10, 1_000);
        }
        for id in 0..2 * LIMIT as u128 {
            ask(&mut reused, id << 32, 2, 10, 1_000);
        }
        assert_eq!(reused.len(), LIMIT);
        assert_eq!(reused.evicted(), LIMIT as u64 + 100);
        for id in 0..100 {
            assert_eq!(ask(&mut reused, 1 << 100 | id, 3, 11, 1_000), Some(1_000));
        }
    }
}
