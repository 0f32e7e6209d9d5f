//! Values that a key never showed before: a user from a new network, a binding with a new subject, a
//! secret among the many that a spike counts.
//!
//! A cluster is watched for the detector's `learn` time before anything is raised. After it, a key
//! never seen is one finding, and the values it shows while it settles are learned, so that a new
//! colleague is one alert and not twenty.
//!
//! By their layout, a million pairs cost about 35 bytes each, and 43 more for each key;
//! `benches/state.rs` measures it.

use std::{fmt, mem};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::fair::{FairMap, Owner};
use super::pack::{Packed, digest};
use super::recall::{Pairs, Recall};
use crate::detect::load::hex;
use crate::detect::matches::{Digest128, Novelty};

/// Keys, and pairs of key and value, kept at most over all detectors.
const KEY_LIMIT: usize = 1 << 20;
const PAIR_LIMIT: usize = 1 << 21;

/// Clusters times detectors, and keys that were counted and not judged yet.
const SCOPE_LIMIT: usize = 1 << 16;
const PENDING_LIMIT: usize = 1 << 16;

/// The year 2015: nothing of Kubernetes is older, and a false time must not end the learning.
const OLDEST: i64 = 1_420_070_400;

/// Values kept for one key: beyond it, one identity would push others' out.
const VALUES_PER_KEY: u32 = (1 << VALUE_BITS) - 1;
const VALUE_BITS: u32 = 12;

/// Events of one key are counted up to here; as said to people, "more than a million".
pub const MOST_EVENTS: u64 = (1 << (32 - VALUE_BITS)) - 1;

/// How late an event may come to count as the first that was watched; seconds.
const LATE: i64 = 24 * 3600;

/// How long a key that appears after learning settles; never longer than `learn` itself.
const SETTLE: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug)]
pub struct FirstSeen {
    /// When each (detector, cluster) was first told of anything; seconds.
    watched_since: FairMap<i64>,
    keys: FairMap<Key>,
    pairs: Pairs,
    /// Events of keys that are not known yet: workers count before the first of them is judged.
    pending: FairMap<u64>,
    /// Values that a key had no room for.
    refused: u64,
    fresh: Option<Vec<Told>>,
}

/// What is known of a key, in eight bytes: there may be a million.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Key {
    /// Seconds since 1970, from 1 to the year 2106.
    first: u32,
    /// Values in the lower [`VALUE_BITS`], events above them.
    counts: u32,
}

impl Key {
    fn new(first: u32, values: u32, events: u64) -> Key {
        let events = events.min(MOST_EVENTS) as u32;
        Key {
            first,
            counts: events << VALUE_BITS | values.min(VALUES_PER_KEY),
        }
    }

    fn values(self) -> u32 {
        self.counts & VALUES_PER_KEY
    }

    fn events(self) -> u64 {
        u64::from(self.counts >> VALUE_BITS)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("first", &self.first)
            .field("values", &self.values())
            .field("events", &self.events())
            .finish()
    }
}

/// What one match or one batch told, for the state's delta.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Told {
    Seen {
        #[serde(with = "digest")]
        scope: u128,
        #[serde(with = "digest")]
        key: u128,
        owner: u32,
        values: Packed,
        at: i64,
    },
    Counted {
        #[serde(with = "digest")]
        key: u128,
        events: u64,
    },
}

/// What is learned by itself: a detector's state in one cluster.
pub fn scope(state_hash: u64, cluster: &str) -> Digest128 {
    Digest128::of([&state_hash.to_le_bytes()[..], cluster.as_bytes()])
}

/// How to read a match.
pub struct Ask<'a> {
    /// The detector's state in the cluster.
    pub scope: Digest128,
    pub key: Digest128,
    /// Whose event it is.
    pub owner: Owner,
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
    /// The key is known and these values are new. `events` are all of the key so far, up to
    /// [`MOST_EVENTS`].
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
        FirstSeen::bounded(durable, KEY_LIMIT, PAIR_LIMIT)
    }

    /// With other bounds than the shipped ones.
    pub fn bounded(durable: bool, keys: usize, pairs: usize) -> FirstSeen {
        FirstSeen {
            watched_since: FairMap::new(SCOPE_LIMIT),
            keys: FairMap::new(keys),
            pairs: Pairs::new(pairs),
            pending: FairMap::new(PENDING_LIMIT),
            refused: 0,
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
        let known = self.keys.get(&ask.key).copied();
        let key = known.unwrap_or_else(|| {
            let pending = self.pending.get(&ask.key).copied();
            Key::new(0, 0, pending.unwrap_or_default())
        });
        let novel: Vec<&(String, Digest128)> = ask
            .values
            .iter()
            .filter(|(_, pair)| !self.pairs.contains(pair))
            .collect();

        let answer = if novel.is_empty() && known.is_some() {
            Answer::Known
        } else if ask.teach {
            Answer::Learning
        } else {
            let learning = ask.learn.is_some_and(|learn| now < since + learn.as_secs());
            let first = known.map(|key| i64::from(key.first));
            match first {
                _ if learning => Answer::Learning,
                None if ask.learn.is_none() || ask.learn_keys => Answer::Learning,
                None => Answer::NewKey {
                    watched: SignedDuration::from_secs(now - since),
                },
                Some(first) if settling(first, now, since, ask.learn) => Answer::Learning,
                Some(first) => Answer::NewValues {
                    values: novel.iter().map(|(value, _)| value.clone()).collect(),
                    seen_for: SignedDuration::from_secs((now - first).max(0)),
                    events: key.events(),
                    known_values: key.values(),
                },
            }
        };
        let novel: Vec<Digest128> = novel.iter().map(|(_, pair)| *pair).collect();
        self.see(ask.scope, ask.key, ask.owner, &novel, now);
        answer
    }

    /// Whether what a spike counted is new, however long it was watched; remembers it.
    pub fn meet(&mut self, novelty: Novelty, owner: Owner, time: Timestamp) -> bool {
        let Novelty { scope, to, pair } = novelty;
        let is_new = !self.pairs.contains(&pair);
        if is_new {
            self.see(scope, to, owner, &[pair], time.as_second());
        }
        is_new
    }

    fn see(
        &mut self,
        scope: Digest128,
        key: Digest128,
        owner: Owner,
        pairs: &[Digest128],
        at: i64,
    ) {
        let mut values = Packed::default();
        for pair in pairs {
            values.put(pair.0.to_le_bytes());
        }
        self.remember(Told::Seen {
            scope: scope.0,
            key: key.0,
            owner: owner as u32,
            values,
            at,
        });
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
                if let Some(key) = self.keys.get_mut(&id) {
                    *key = Key::new(
                        key.first,
                        key.values(),
                        key.events().saturating_add(*events),
                    );
                } else if let Some(pending) = self.pending.get_mut(&id) {
                    *pending += events;
                } else {
                    self.pending.sweep(|events| *events == 0);
                    self.pending.insert(id, id.0 as Owner, *events);
                }
            }
            Told::Seen {
                scope,
                key,
                owner,
                values,
                at,
            } => {
                let owner = Owner::from(*owner);
                self.watch(Digest128(*scope), *at);
                let id = Digest128(*key);
                let at = (*at).clamp(1, i64::from(u32::MAX)) as u32;
                let known = self.keys.get(&id).copied();
                let key = known.unwrap_or_else(|| {
                    let pending = self.pending.get_mut(&id).map(mem::take);
                    Key::new(at, 0, pending.unwrap_or_default())
                });
                let mut known_values = key.values();
                for value in values.records() {
                    let pair = Digest128(u128::from_le_bytes(*value));
                    if self.pairs.contains(&pair) {
                        continue;
                    }
                    if known_values < VALUES_PER_KEY {
                        known_values += 1;
                        self.pairs.insert(pair, owner);
                    } else {
                        self.refused += 1;
                    }
                }
                let first = key.first.min(at);
                self.keys
                    .insert(id, owner, Key::new(first, known_values, key.events()));
            }
        }
    }

    fn watch(&mut self, scope: Digest128, at: i64) {
        let at = at.max(OLDEST);
        match self.watched_since.get_mut(&scope) {
            // An event of another age is no part of what is watched, and must not end the learning.
            Some(since) if at >= since.saturating_sub(LATE) => *since = (*since).min(at),
            Some(_) => {}
            None => drop(self.watched_since.insert(scope, 0, at)),
        }
    }

    /// What was remembered since the last call.
    pub fn take_delta(&mut self) -> Vec<Told> {
        self.fresh.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut keys = Packed::with_capacity(KEY_BYTES * self.keys.len());
        for (id, owner, key) in self.keys.iter() {
            keys.put(id.0.to_le_bytes());
            keys.put((owner as u32).to_le_bytes());
            keys.put(key.first.to_le_bytes());
            keys.put(key.counts.to_le_bytes());
        }
        let counts = self.pending.iter().filter(|(_, _, count)| **count > 0);
        Snapshot {
            watched_since: self
                .watched_since
                .iter()
                .map(|(scope, _, at)| (scope.0, *at))
                .collect(),
            pending: counts.map(|(key, _, count)| (key.0, *count)).collect(),
            keys,
            pairs: self.pairs.pack(),
        }
    }

    /// Puts a snapshot into a state that knows nothing.
    pub fn restore(&mut self, snapshot: Snapshot) {
        for (scope, at) in snapshot.watched_since {
            self.watch(Digest128(scope), at);
        }
        for (key, count) in snapshot.pending {
            self.pending.insert(Digest128(key), key as Owner, count);
        }
        let records = snapshot.keys.records::<KEY_BYTES>();
        self.keys.reserve(records.len());
        for record in records {
            let (id, owner, key) = unpack(record);
            self.keys.insert(id, owner, key);
        }
        self.pairs.unpack(&snapshot.pairs);
    }

    /// Since when a scope has been watched; seconds.
    pub fn watched_since(&self, scope: &Digest128) -> Option<i64> {
        self.watched_since.get(scope).copied()
    }

    /// Pairs of key and value remembered.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub fn evicted(&self) -> u64 {
        self.watched_since.evicted()
            + self.keys.evicted()
            + self.pairs.evicted()
            + self.pending.evicted()
            + self.refused
    }
}

/// Everything remembered, for a snapshot on disk.
#[derive(Default, Serialize, Deserialize)]
pub struct Snapshot {
    watched_since: Vec<(u128, i64)>,
    pending: Vec<(u128, u64)>,
    keys: Packed,
    pairs: Packed,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.records().iter().map(unpack);
        let pairs = self.pairs.records::<20>().iter();
        f.debug_struct("Snapshot")
            .field("watched_since", &self.watched_since)
            .field("pending", &self.pending)
            .field("keys", &keys.collect::<Vec<_>>())
            .field("pairs", &pairs.map(|pair| hex(pair)).collect::<Vec<_>>())
            .finish()
    }
}

/// Bytes of a key in a snapshot: digest, owner, first time, counts.
const KEY_BYTES: usize = 16 + 4 + 4 + 4;

fn unpack(record: &[u8; KEY_BYTES]) -> (Digest128, Owner, Key) {
    let (id, rest) = record.split_first_chunk().expect("sixteen bytes");
    let (owner, rest) = rest.split_first_chunk().expect("four bytes");
    let (first, rest) = rest.split_first_chunk().expect("four bytes");
    let (counts, _) = rest.split_first_chunk().expect("four bytes");
    let key = Key {
        first: u32::from_le_bytes(*first),
        counts: u32::from_le_bytes(*counts),
    };
    let owner = Owner::from(u32::from_le_bytes(*owner));
    (Digest128(u128::from_le_bytes(*id)), owner, key)
}

/// A key that appeared after the learning time and is still new.
fn settling(first: i64, now: i64, since: i64, learn: Option<SignedDuration>) -> bool {
    let Some(learn) = learn else { return false };
    let settle = SETTLE.min(learn);
    first >= since + learn.as_secs() && now < first + settle.as_secs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(state: &mut FirstSeen, key: &str, value: &str, hours: i64) -> Answer {
        let key = Digest128::of([key.as_bytes()]);
        state.count(key, 1);
        state.ask(&Ask {
            scope: Digest128(1),
            key,
            owner: 1,
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

    /// As from a user's event of an hour, `minute` minutes into it.
    fn at(state: &mut FirstSeen, key: u64, value: u64, minute: i64) -> Answer {
        let key = Digest128::of([&key.to_le_bytes()[..]]);
        state.count(key, 1);
        state.ask(&Ask {
            scope: Digest128(1),
            key,
            owner: key.0 as Owner,
            values: &[(
                value.to_string(),
                Digest128::of([&key.bytes()[..], &value.to_le_bytes()]),
            )],
            time: Timestamp::from_second(1_700_000_000 + minute * 60).expect("in range"),
            learn: Some(SignedDuration::from_hours(5)),
            teach: false,
            learn_keys: false,
        })
    }

    #[test]
    fn keys_without_end_of_one_identity_leave_others_alone() {
        let mut state = FirstSeen::bounded(false, 1 << 14, 1 << 15);
        let see = |state: &mut FirstSeen, key: u64, owner: Owner| {
            let key = Digest128::of([&key.to_le_bytes()[..]]);
            state.count(key, 1);
            state.ask(&Ask {
                scope: Digest128(1),
                key,
                owner,
                values: &[(String::new(), Digest128::of([&key.bytes()[..]]))],
                time: Timestamp::from_second(1_700_000_000).expect("in range"),
                learn: Some(SignedDuration::from_hours(5)),
                teach: false,
                learn_keys: false,
            })
        };
        for other in 0..1_000 {
            see(&mut state, other, other * 0x9e37_79b9);
        }
        for made_up in 0..100_000 {
            see(&mut state, 1_000_000 + made_up, 12_345);
        }
        assert!(state.len() <= 1 << 15 && state.keys.len() == 1 << 14);
        assert!(state.evicted() >= 101_000 - (1 << 14));
        for other in 0..1_000 {
            assert_eq!(see(&mut state, other, 0), Answer::Known, "{other}");
        }
    }

    #[test]
    fn events_are_counted_up_to_their_bound_and_touch_nothing_else() {
        let mut state = FirstSeen::new(false);
        ask(&mut state, "alice", "10.0.0.0/24", 0);
        ask(&mut state, "alice", "10.0.1.0/24", 1);
        let alice = Digest128::of([b"alice".as_slice()]);
        for events in [1_000_000, u64::MAX, 1] {
            state.count(alice, events);
        }
        assert!(matches!(
            ask(&mut state, "alice", "203.0.113.0/24", 60),
            Answer::NewValues {
                events: MOST_EVENTS,
                known_values: 2,
                ..
            }
        ));
    }

    #[test]
    fn a_key_keeps_so_many_values() {
        let mut state = FirstSeen::new(false);
        for value in 0..i64::from(VALUES_PER_KEY) + 10 {
            at(&mut state, 1, value as u64, 0);
        }
        assert_eq!((state.len() as u32, state.refused), (VALUES_PER_KEY, 10));
    }

    proptest! {
        /// Away from the end of the learning time, what is new does not depend on the order of
        /// events that lie less than two minutes apart.
        #[test]
        fn the_order_of_arrival_does_not_matter(
            events in proptest::collection::vec((0_u64..6, 0_u64..6, 0_i64..40, 10_i64..50, 0_i64..120), 1..150),
        ) {
            let mut events: Vec<(i64, i64, u64, u64)> = events
                .into_iter()
                .map(|(key, value, hour, minute, late)| (hour * 60 + minute, late, key, value))
                .collect();
            let novel = |events: &[(i64, i64, u64, u64)]| {
                let mut state = FirstSeen::bounded(false, 1 << 10, 1 << 10);
                // The clock starts on the hour, and so the learning ends on one.
                at(&mut state, 99, 99, 0);
                let mut of_known = std::collections::BTreeSet::new();
                let mut new_keys = std::collections::BTreeSet::new();
                let first = |key: u64| events.iter().filter(|event| event.2 == key).map(|event| event.0).min();
                for (minute, _, key, value) in events {
                    match at(&mut state, *key, *value, *minute) {
                        Answer::NewKey { .. } => drop(new_keys.insert(*key)),
                        // A key that appears later settles for as long, which ends at any minute.
                        Answer::NewValues { values, .. } if first(*key) < Some(300) => {
                            of_known.extend(values.into_iter().map(|value| (*key, value)));
                        }
                        _ => {}
                    }
                }
                (of_known, new_keys)
            };
            events.sort_unstable();
            let in_order = novel(&events);
            events.sort_by_key(|(minute, late, ..)| minute * 60 + late);
            prop_assert_eq!(in_order, novel(&events));
        }
    }

    #[test]
    fn a_restored_state_answers_alike() {
        let mut state = FirstSeen::new(true);
        ask(&mut state, "alice", "10.0.0.0/24", 0);
        let mut again = FirstSeen::new(false);
        state.take_delta().iter().for_each(|told| again.apply(told));
        let mut restored = FirstSeen::new(false);
        let bytes = postcard::to_stdvec(&state.snapshot()).expect("written");
        restored.restore(postcard::from_bytes(&bytes).expect("read"));
        for state in [&mut again, &mut restored] {
            assert_eq!(ask(state, "alice", "10.0.0.0/24", 60), Answer::Known);
            assert!(matches!(
                ask(state, "alice", "10.0.7.0/24", 61),
                Answer::NewValues { .. }
            ));
        }
    }
}
