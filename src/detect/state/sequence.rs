//! Findings that follow one upon the other: a privileged pod made, then a command run in it.
//!
//! Each step's findings are kept by key, in the order of event time. A finding of the last step
//! completes the sequence where earlier steps lie before it, in their order, each another request,
//! all within the window. Whatever the order of arrival, the same findings of the last step do so:
//! an earlier step that comes late completes those that were waiting for it.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::fair::{FairMap, Owner};
use crate::detect::matches::Digest128;
use crate::detect::occurrence::Whom;

/// Keys kept at most over all detectors.
const KEY_LIMIT: usize = 1 << 16;

/// Findings of one step kept for a key: those around the latest.
const KEPT_PER_STEP: usize = 8;

#[derive(Debug)]
pub struct Sequences {
    chains: FairMap<Chain>,
    fresh: Option<Vec<Hit>>,
}

/// The findings of one key, by time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Chain(VecDeque<Event>);

/// A finding of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds.
    pub at: i64,
    pub step: u8,
    /// 64 bits of the request's digest.
    pub request: u64,
    /// Id of the detector.
    pub detector: String,
    pub audit_id: String,
    /// Who made the request, but for the platform.
    pub actor: Option<Whom>,
    /// It was the last of a whole sequence.
    done: bool,
}

impl Event {
    pub fn new(
        step: u8,
        time: Timestamp,
        request: Digest128,
        detector: &str,
        audit_id: &str,
    ) -> Event {
        Event {
            at: time.as_millisecond(),
            step,
            request: request.0 as u64,
            detector: detector.to_owned(),
            audit_id: audit_id.to_owned(),
            actor: None,
            done: false,
        }
    }

    pub fn by(self, actor: Option<Whom>) -> Event {
        Event { actor, ..self }
    }
}

/// A finding to be remembered, for the state's delta.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hit {
    pub key: u128,
    pub owner: Owner,
    /// How many steps the sequence has, and its window in milliseconds.
    pub steps: u8,
    pub within: i64,
    pub event: Event,
}

impl Hit {
    pub fn new(
        key: Digest128,
        owner: Owner,
        steps: usize,
        within: SignedDuration,
        event: Event,
    ) -> Hit {
        Hit {
            key: key.0,
            owner,
            steps: steps as u8,
            within: i64::try_from(within.as_millis()).unwrap_or(i64::MAX / 4),
            event,
        }
    }
}

impl Sequences {
    /// With `durable`, what is remembered is also kept for [`Sequences::take_delta`].
    pub fn new(durable: bool) -> Sequences {
        Sequences {
            chains: FairMap::new(KEY_LIMIT),
            fresh: durable.then(Vec::new),
        }
    }

    /// Remembers the finding; gives the sequences that it completes, each from its first step to its
    /// last. More than one where it is an early step that came late.
    pub fn ask(&mut self, hit: Hit) -> Vec<Vec<Event>> {
        if let Some(fresh) = &mut self.fresh {
            fresh.push(hit.clone());
        }
        self.apply(hit)
    }

    pub fn apply(&mut self, hit: Hit) -> Vec<Vec<Event>> {
        let key = Digest128(hit.key);
        if let Some(chain) = self.chains.get_mut(&key) {
            return chain.insert(hit);
        }
        let owner = hit.owner;
        let mut chain = Chain::default();
        let completed = chain.insert(hit);
        self.chains.insert(key, owner, chain);
        completed
    }

    /// What was remembered since the last call.
    pub fn take_delta(&mut self) -> Vec<Hit> {
        self.fresh.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub fn snapshot(&self) -> Snapshot {
        let chains = self.chains.iter();
        Snapshot(
            chains
                .map(|(key, owner, chain)| (key.0, owner, chain.clone()))
                .collect(),
        )
    }

    /// Puts a snapshot into a state that knows nothing.
    pub fn restore(&mut self, snapshot: Snapshot) {
        for (key, owner, chain) in snapshot.0 {
            self.chains.insert(Digest128(key), owner, chain);
        }
    }

    /// Keys remembered.
    pub fn len(&self) -> usize {
        self.chains.len()
    }

    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    pub fn evicted(&self) -> u64 {
        self.chains.evicted()
    }
}

/// Every chain, for a snapshot on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Snapshot(Vec<(u128, Owner, Chain)>);

impl Chain {
    fn insert(&mut self, hit: Hit) -> Vec<Vec<Event>> {
        let Hit {
            steps,
            within,
            event,
            ..
        } = hit;
        if self
            .0
            .iter()
            .any(|known| known.request == event.request && known.step == event.step)
        {
            return Vec::new();
        }
        let (step, at) = (event.step, event.at);
        let place = self
            .0
            .partition_point(|known| (known.at, known.step) <= (event.at, event.step));
        self.0.insert(place, event);
        if self.0.iter().filter(|known| known.step == step).count() > KEPT_PER_STEP {
            // The farthest from the time at hand: the oldest, or one from the future.
            let of_step = |known: &Event| known.step == step;
            let first = self.0.iter().position(of_step).unwrap_or(0);
            let last = self.0.iter().rposition(of_step).unwrap_or(0);
            let away = |place: usize| self.0[place].at.abs_diff(at);
            self.0.remove(if away(last) > away(first) {
                last
            } else {
                first
            });
        }
        let mut completed = Vec::new();
        for at in 0..self.0.len() {
            let last = &self.0[at];
            if last.step + 1 != steps || last.done {
                continue;
            }
            if let Some(chain) = self.before(at, steps, within) {
                self.0[at].done = true;
                completed.push(chain);
            }
        }
        completed
    }

    /// The sequence whose last step is the event at `last`. Going back, the latest finding of each
    /// step is the best one: it leaves the most room for those before it.
    fn before(&self, last: usize, steps: u8, within: i64) -> Option<Vec<Event>> {
        let end = &self.0[last];
        let mut chain = vec![end.clone()];
        let mut latest = end.at;
        for step in (0..steps - 1).rev() {
            let event = self.0.iter().rev().find(|event| {
                event.step == step
                    && event.at <= latest
                    && end.at - event.at <= within
                    && chain.iter().all(|later| later.request != event.request)
            })?;
            latest = event.at;
            chain.push(event.clone());
        }
        chain.reverse();
        Some(chain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hit(step: u8, seconds: i64, request: u64) -> Hit {
        Hit::new(
            Digest128(7),
            1,
            3,
            SignedDuration::from_secs(100),
            Event::new(
                step,
                Timestamp::from_second(1_700_000_000 + seconds).expect("in range"),
                Digest128(u128::from(request)),
                "a-detector",
                "an id",
            ),
        )
    }

    fn ends(state: &mut Sequences, hit: Hit) -> Vec<u64> {
        let completed = state.ask(hit);
        completed
            .iter()
            .filter_map(|chain| chain.last())
            .map(|event| event.request)
            .collect()
    }

    #[test]
    fn steps_in_order_within_the_window_complete_a_sequence() {
        let mut state = Sequences::new(false);
        assert!(ends(&mut state, hit(0, 0, 1)).is_empty());
        assert!(ends(&mut state, hit(2, 5, 2)).is_empty());
        assert!(ends(&mut state, hit(1, 10, 3)).is_empty());
        assert_eq!(ends(&mut state, hit(2, 100, 4)), [4]);
        assert!(ends(&mut state, hit(2, 101, 5)).is_empty(), "too late");
    }

    #[test]
    fn one_request_is_one_step() {
        let mut state = Sequences::new(false);
        ends(&mut state, hit(0, 0, 1));
        ends(&mut state, hit(1, 0, 1));
        assert!(ends(&mut state, hit(2, 0, 2)).is_empty());
    }

    proptest! {
        #[test]
        fn the_order_of_arrival_does_not_matter(
            events in proptest::collection::vec((0_u8..3, 0_i64..300), 1..8),
            order in any::<proptest::sample::Index>(),
            swaps in proptest::collection::vec((any::<proptest::sample::Index>(), any::<proptest::sample::Index>()), 0..12),
        ) {
            let hits: Vec<Hit> = events
                .iter()
                .enumerate()
                .map(|(number, (step, at))| hit(*step, *at, number as u64))
                .collect();
            let mut sorted = hits.clone();
            sorted.sort_by_key(|hit| hit.event.at);
            let mut shuffled = hits;
            let by = order.index(shuffled.len());
            shuffled.rotate_left(by);
            for (a, b) in swaps {
                let (a, b) = (a.index(shuffled.len()), b.index(shuffled.len()));
                shuffled.swap(a, b);
            }
            let found = |hits: Vec<Hit>| {
                let mut state = Sequences::new(false);
                let mut found: Vec<u64> =
                    hits.into_iter().flat_map(|hit| ends(&mut state, hit)).collect();
                found.sort_unstable();
                found
            };
            prop_assert_eq!(found(sorted), found(shuffled));
        }
    }
}
