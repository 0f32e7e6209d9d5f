//! Values that a key never showed before: a user from a new network, a binding with a new subject.
//!
//! A cluster is watched for the detector's `learn` time before anything is raised. After it, a key
//! never seen is one finding, and the values it shows while it settles are learned, so that a new
//! colleague is one alert and not twenty.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::BoundedMap;
use super::recall::{Pairs, Recall};
use crate::detect::matches::Digest128;

/// Keys, and pairs of key and value, kept at most over all detectors.
const KEY_LIMIT: usize = 1 << 20;
const PAIR_LIMIT: usize = 1 << 21;

/// Values kept for one key: beyond it, one identity would push others' out.
const VALUES_PER_KEY: u32 = 4096;

/// How long a key that appears after learning settles; never longer than `learn` itself.
const SETTLE: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug)]
pub struct FirstSeen {
    /// When each (detector, cluster) was first told of anything; seconds.
    watched_since: HashMap<Digest128, i64>,
    keys: BoundedMap<Key>,
    pairs: Pairs,
    fresh: Option<Vec<Told>>,
}

/// What is known of a key; times in seconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Key {
    /// `None` while its events were counted and none has been judged.
    first: Option<i64>,
    count: u64,
    values: u32,
}

/// What one match or one batch told, for the state's delta.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Told {
    Seen {
        scope: u128,
        key: u128,
        values: Vec<u128>,
        at: i64,
    },
    Counted {
        key: u128,
        events: u64,
    },
}

/// How to read a match.
pub struct Ask<'a> {
    /// The detector's state in the cluster.
    pub scope: Digest128,
    pub key: Digest128,
    pub values: &'a [(String, Digest128)],
    pub time: Timestamp,
    /// How long to learn; `None` says that everything before is the archive at hand, so that a
    /// key's first value is its baseline.
    pub learn: Option<SignedDuration>,
    /// The event is remembered and never raised.
    pub teach: bool,
    /// A key that appears after the learning time is learned, and not raised.
    pub learn_keys: bool,
}

/// What a match means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Known,
    Learning,
    /// The key itself is new.
    NewKey {
        watched: SignedDuration,
    },
    /// The key is known and these values are new. `events` are all of the key so far.
    NewValues {
        values: Vec<String>,
        seen_for: SignedDuration,
        events: u64,
        known_values: u32,
    },
}

impl FirstSeen {
    /// With `durable`, what is remembered is also kept for [`FirstSeen::take_delta`].
    pub fn new(durable: bool) -> FirstSeen {
        FirstSeen {
            watched_since: HashMap::new(),
            keys: BoundedMap::new(KEY_LIMIT),
            pairs: Pairs::new(PAIR_LIMIT),
            fresh: durable.then(Vec::new),
        }
    }

    /// What workers may know of the pairs.
    pub fn recall(&self) -> Recall {
        self.pairs.recall()
    }

    /// What the match means, given all before it; remembers it.
    pub fn ask(&mut self, ask: &Ask<'_>) -> Answer {
        let now = ask.time.as_second();
        let since = self
            .watched_since
            .get(&ask.scope)
            .copied()
            .unwrap_or(now)
            .min(now);
        let key = self.keys.get(&ask.key).copied().unwrap_or_default();
        let novel: Vec<&(String, Digest128)> = ask
            .values
            .iter()
            .filter(|(_, pair)| !self.pairs.contains(pair))
            .collect();

        let answer = if novel.is_empty() && key.first.is_some() {
            Answer::Known
        } else if ask.teach {
            Answer::Learning
        } else {
            let learning = ask.learn.is_some_and(|learn| now < since + learn.as_secs());
            match key.first {
                _ if learning => Answer::Learning,
                None if ask.learn.is_none() || ask.learn_keys => Answer::Learning,
                None => Answer::NewKey {
                    watched: SignedDuration::from_secs(now - since),
                },
                Some(first) if settling(first, now, since, ask.learn) => Answer::Learning,
                Some(first) => Answer::NewValues {
                    values: novel.iter().map(|(value, _)| value.clone()).collect(),
                    seen_for: SignedDuration::from_secs((now - first).max(0)),
                    events: key.count,
                    known_values: key.values,
                },
            }
        };
        self.remember(Told::Seen {
            scope: ask.scope.0,
            key: ask.key.0,
            values: novel.iter().map(|(_, pair)| pair.0).collect(),
            at: now,
        });
        answer
    }

    /// Adds to the events of a key, in any order.
    pub fn count(&mut self, key: Digest128, events: u64) {
        self.remember(Told::Counted { key: key.0, events });
    }

    fn remember(&mut self, told: Told) {
        self.apply(&told);
        if let Some(fresh) = &mut self.fresh {
            fresh.push(told);
        }
    }

    pub fn apply(&mut self, told: &Told) {
        match told {
            Told::Counted { key, events } => {
                let id = Digest128(*key);
                let mut key = self.keys.get(&id).copied().unwrap_or_default();
                key.count += events;
                self.keys.insert(id, key);
            }
            Told::Seen {
                scope,
                key,
                values,
                at,
            } => {
                let since = self.watched_since.entry(Digest128(*scope)).or_insert(*at);
                *since = (*since).min(*at);
                let id = Digest128(*key);
                let mut key = self.keys.get(&id).copied().unwrap_or_default();
                key.first = Some(key.first.map_or(*at, |first| first.min(*at)));
                for value in values {
                    let pair = Digest128(*value);
                    if key.values < VALUES_PER_KEY && !self.pairs.contains(&pair) {
                        key.values += 1;
                        self.pairs.insert(pair);
                    }
                }
                self.keys.insert(id, key);
            }
        }
    }

    /// What was remembered since the last call.
    pub fn take_delta(&mut self) -> Vec<Told> {
        self.fresh.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            watched_since: self
                .watched_since
                .iter()
                .map(|(key, at)| (key.0, *at))
                .collect(),
            keys: self
                .keys
                .iter()
                .map(|(key, value)| (key.0, *value))
                .collect(),
            pairs: self.pairs.iter().map(|key| key.0).collect(),
        }
    }

    /// Puts a snapshot into a state that knows nothing.
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.watched_since = snapshot
            .watched_since
            .into_iter()
            .map(|(key, at)| (Digest128(key), at))
            .collect();
        for (key, value) in snapshot.keys {
            self.keys.insert(Digest128(key), value);
        }
        for pair in snapshot.pairs {
            self.pairs.insert(Digest128(pair));
        }
    }

    /// Pairs of key and value remembered.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub fn evicted(&self) -> u64 {
        self.keys.evicted() + self.pairs.evicted()
    }
}

/// Everything remembered, for a snapshot on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    watched_since: Vec<(u128, i64)>,
    keys: Vec<(u128, Key)>,
    pairs: Vec<u128>,
}

/// A key that appeared after the learning time and is still new.
fn settling(first: i64, now: i64, since: i64, learn: Option<SignedDuration>) -> bool {
    let Some(learn) = learn else { return false };
    let settle = SETTLE.min(learn);
    first >= since + learn.as_secs() && now < first + settle.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(state: &mut FirstSeen, key: &str, value: &str, hours: i64) -> Answer {
        let key = Digest128::of([key.as_bytes()]);
        state.count(key, 1);
        state.ask(&Ask {
            scope: Digest128(1),
            key,
            values: &[(
                value.to_owned(),
                Digest128::of([&key.bytes()[..], value.as_bytes()]),
            )],
            time: Timestamp::from_second(1_700_000_000 + hours * 3600).expect("in range"),
            learn: Some(SignedDuration::from_hours(48)),
            teach: false,
            learn_keys: false,
        })
    }

    #[test]
    fn learns_then_raises_new_values_and_new_keys() {
        let mut state = FirstSeen::new(false);
        assert_eq!(ask(&mut state, "alice", "10.0.0.0/24", 0), Answer::Learning);
        assert_eq!(ask(&mut state, "alice", "10.0.0.0/24", 1), Answer::Known);
        assert_eq!(
            ask(&mut state, "alice", "10.0.1.0/24", 47),
            Answer::Learning
        );
        assert!(matches!(
            ask(&mut state, "alice", "203.0.113.0/24", 49),
            Answer::NewValues {
                events: 4,
                known_values: 2,
                ..
            }
        ));
        assert_eq!(
            ask(&mut state, "alice", "203.0.113.0/24", 50),
            Answer::Known
        );
        assert!(matches!(
            ask(&mut state, "bob", "10.0.0.0/24", 50),
            Answer::NewKey { .. }
        ));
        assert_eq!(ask(&mut state, "bob", "10.0.9.0/24", 51), Answer::Learning);
        assert!(matches!(
            ask(&mut state, "bob", "10.0.8.0/24", 80),
            Answer::NewValues { .. }
        ));
    }

    #[test]
    fn a_restored_state_answers_alike() {
        let mut state = FirstSeen::new(true);
        ask(&mut state, "alice", "10.0.0.0/24", 0);
        let mut again = FirstSeen::new(false);
        state.take_delta().iter().for_each(|told| again.apply(told));
        let mut restored = FirstSeen::new(false);
        restored.restore(state.snapshot());
        for state in [&mut again, &mut restored] {
            assert_eq!(ask(state, "alice", "10.0.0.0/24", 60), Answer::Known);
            assert!(matches!(
                ask(state, "alice", "10.0.7.0/24", 61),
                Answer::NewValues { .. }
            ));
        }
    }
}
