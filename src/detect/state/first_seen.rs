//! Values that a key never showed before: a user from a new network, a binding with a new subject.
//!
//! A cluster is watched for the detector's `learn` time before anything is raised. After it, a key
//! never seen is one finding, and the values it shows while it settles are learned, so that a new
//! colleague is one alert and not twenty.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::BoundedMap;
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
    pairs: BoundedMap<()>,
    fresh: Vec<Told>,
}

impl Default for FirstSeen {
    fn default() -> Self {
        FirstSeen {
            watched_since: HashMap::new(),
            keys: BoundedMap::new(KEY_LIMIT),
            pairs: BoundedMap::new(PAIR_LIMIT),
            fresh: Vec::new(),
        }
    }
}

/// What is known of a key; times in seconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Key {
    first: i64,
    last: i64,
    count: u64,
    values: u32,
}

/// What one match told, for the state's delta.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Told {
    scope: u128,
    key: u128,
    values: Vec<u128>,
    at: i64,
}

/// How to read a match.
pub struct Ask<'a> {
    /// The detector's state hash and the cluster.
    pub state_hash: u64,
    pub cluster: &'a str,
    pub key: &'a [String],
    pub values: &'a [String],
    pub time: Timestamp,
    /// How long to learn; `None` says that everything before is the archive at hand, so that a
    /// key's first value is its baseline.
    pub learn: Option<SignedDuration>,
    /// The event is remembered and never raised.
    pub teach: bool,
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
    /// The key is known and these values are new.
    NewValues {
        values: Vec<String>,
        seen_for: SignedDuration,
        earlier: u64,
        known_values: u32,
    },
}

impl FirstSeen {
    /// What the match means, given all before it; remembers it.
    pub fn ask(&mut self, ask: &Ask<'_>) -> Answer {
        let now = ask.time.as_second();
        let scope = Digest128::of([&ask.state_hash.to_le_bytes()[..], ask.cluster.as_bytes()]);
        let key = Digest128::of(
            std::iter::once(&scope.bytes()[..]).chain(ask.key.iter().map(|part| part.as_bytes())),
        );
        let pairs: Vec<Digest128> = ask
            .values
            .iter()
            .map(|value| Digest128::of([&key.bytes()[..], value.as_bytes()]))
            .collect();
        let since = self
            .watched_since
            .get(&scope)
            .copied()
            .unwrap_or(now)
            .min(now);
        let known = self.keys.get(&key).copied();
        let novel: Vec<usize> = (0..pairs.len())
            .filter(|at| !self.pairs.contains(&pairs[*at]))
            .collect();

        let answer = if novel.is_empty() && known.is_some() {
            Answer::Known
        } else if ask.teach {
            Answer::Learning
        } else {
            let learning = ask.learn.is_some_and(|learn| now < since + learn.as_secs());
            match known {
                _ if learning => Answer::Learning,
                None if ask.learn.is_none() => Answer::Learning,
                None => Answer::NewKey {
                    watched: SignedDuration::from_secs(now - since),
                },
                Some(known) if settling(&known, now, since, ask.learn) => Answer::Learning,
                Some(known) => Answer::NewValues {
                    values: novel.iter().map(|at| ask.values[*at].clone()).collect(),
                    seen_for: SignedDuration::from_secs((now - known.first).max(0)),
                    earlier: known.count,
                    known_values: known.values,
                },
            }
        };
        let told = Told {
            scope: scope.0,
            key: key.0,
            values: novel.iter().map(|at| pairs[*at].0).collect(),
            at: now,
        };
        self.apply(&told);
        self.fresh.push(told);
        answer
    }

    pub fn apply(&mut self, told: &Told) {
        let since = self
            .watched_since
            .entry(Digest128(told.scope))
            .or_insert(told.at);
        *since = (*since).min(told.at);
        let id = Digest128(told.key);
        let mut key = self.keys.get(&id).copied().unwrap_or(Key {
            first: told.at,
            ..Key::default()
        });
        key.first = key.first.min(told.at);
        key.last = key.last.max(told.at);
        key.count += 1;
        for value in &told.values {
            let pair = Digest128(*value);
            if key.values < VALUES_PER_KEY && !self.pairs.contains(&pair) {
                key.values += 1;
                self.pairs.insert(pair, ());
            }
        }
        self.keys.insert(id, key);
    }

    /// What was remembered since the last call.
    pub fn take_delta(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.fresh)
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
            pairs: self.pairs.iter().map(|(key, ())| key.0).collect(),
        }
    }

    pub fn restore(snapshot: Snapshot) -> FirstSeen {
        let mut state = FirstSeen::default();
        state.watched_since = snapshot
            .watched_since
            .into_iter()
            .map(|(key, at)| (Digest128(key), at))
            .collect();
        for (key, value) in snapshot.keys {
            state.keys.insert(Digest128(key), value);
        }
        for pair in snapshot.pairs {
            state.pairs.insert(Digest128(pair), ());
        }
        state
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
fn settling(key: &Key, now: i64, since: i64, learn: Option<SignedDuration>) -> bool {
    let Some(learn) = learn else { return false };
    let settle = SETTLE.min(learn);
    key.first >= since + learn.as_secs() && now < key.first + settle.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(state: &mut FirstSeen, key: &str, value: &str, hours: i64) -> Answer {
        state.ask(&Ask {
            state_hash: 1,
            cluster: "c",
            key: &[key.to_owned()],
            values: &[value.to_owned()],
            time: Timestamp::from_second(1_700_000_000 + hours * 3600).expect("in range"),
            learn: Some(SignedDuration::from_hours(48)),
            teach: false,
        })
    }

    #[test]
    fn learns_then_raises_new_values_and_new_keys() {
        let mut state = FirstSeen::default();
        assert_eq!(ask(&mut state, "alice", "10.0.0.0/24", 0), Answer::Learning);
        assert_eq!(ask(&mut state, "alice", "10.0.0.0/24", 1), Answer::Known);
        assert_eq!(
            ask(&mut state, "alice", "10.0.1.0/24", 47),
            Answer::Learning
        );
        assert!(matches!(
            ask(&mut state, "alice", "203.0.113.0/24", 49),
            Answer::NewValues {
                earlier: 3,
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
        let mut state = FirstSeen::default();
        ask(&mut state, "alice", "10.0.0.0/24", 0);
        let mut again = FirstSeen::default();
        state.take_delta().iter().for_each(|told| again.apply(told));
        let mut restored = FirstSeen::restore(state.snapshot());
        for state in [&mut again, &mut restored] {
            assert_eq!(ask(state, "alice", "10.0.0.0/24", 60), Answer::Known);
            assert!(matches!(
                ask(state, "alice", "10.0.7.0/24", 61),
                Answer::NewValues { .. }
            ));
        }
    }
}
