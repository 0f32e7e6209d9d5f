//! What one worker keeps while it goes through a batch: counts of events that are no news, and a
//! small memory of which those are.
//!
//! Everything here follows from the batch and from [`Recall`], so that the outcome of a replay does
//! not depend on which worker read what.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use ahash::RandomState;

use super::gate::Gate;
use super::index::DetectorIndex;
use super::inventory::Lesson;
use super::matches::Digest128;
use super::occurrence::Writer;
use super::state::first_seen;
use super::state::recall::Recall;
use crate::event::{Field, View};

/// Slots of the memory: a power of two. Each is 32 bytes; together they fit a core's cache.
const SLOTS: usize = 1 << 15;

/// Pairs of detector and cluster whose digest is kept.
const MAX_SCOPES: usize = 1 << 12;

/// Belongs to one worker thread.
#[derive(Debug)]
pub struct Scratch {
    /// Where nothing may be left out, as for `--each`, there is none.
    recall: Option<Recall>,
    pub(super) gate: Gate,
    hasher: RandomState,
    slots: Vec<Slot>,
    /// Slots that have counted in this batch.
    counting: Vec<u32>,
    counted: HashMap<Digest128, u64, RandomState>,
    /// Hashes of what needs to be a match once a batch.
    once: HashSet<u64, RandomState>,
    /// Of detectors and clusters: see [`Scratch::scope`].
    scopes: HashMap<(DetectorIndex, usize), (Arc<str>, Digest128), RandomState>,
    /// What the batch teaches the inventory, in the order of the records.
    pub(super) lessons: Vec<Lesson>,
    pub(super) writer: Writer,
    /// The engine that the slots are of.
    engine: u64,
    /// Slots that the last event was counted in.
    note: Vec<u64>,
    /// Whether every event like the last one comes to no more than its note.
    repeats: bool,
}

/// A combination of key and value that is known, by its hash; zero is an empty slot.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    hash: u64,
    /// The key's digest, in halves: a `u128` would be aligned to 16 bytes.
    key: [u64; 2],
    events: u32,
}

/// What a batch counted besides its matches.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events of a first-seen key.
    pub first_seen: Vec<(Digest128, u64)>,
    /// For the inventory.
    pub lessons: Vec<Lesson>,
}

impl Scratch {
    pub fn new(recall: Option<Recall>) -> Scratch {
        Scratch {
            recall,
            gate: Gate::default(),
            hasher: RandomState::new(),
            slots: vec![Slot::default(); SLOTS],
            counting: Vec::new(),
            counted: HashMap::default(),
            once: HashSet::default(),
            scopes: HashMap::default(),
            lessons: Vec::new(),
            writer: Writer::default(),
            engine: 0,
            note: Vec::new(),
            repeats: false,
        }
    }

    /// The next event is of `engine`.
    pub(super) fn begin(&mut self, engine: u64) {
        if self.engine != engine {
            // Another engine has other detectors at the same places.
            for at in self.counting.drain(..) {
                flush(&mut self.slots[at as usize], &mut self.counted);
            }
            self.slots.fill(Slot::default());
            self.scopes.clear();
            self.engine = engine;
        }
        self.note.clear();
        self.repeats = true;
    }

    /// Another event like this one may come to something else.
    pub(super) fn comes_to_more(&mut self) {
        self.repeats = false;
    }

    /// What the last event came to, if every event like it comes to that: the slots that it was counted
    /// in. Like it are those that agree in all but audit ID, times, the object's uid and version, and
    /// bodies that were not read.
    pub fn note(&self) -> Option<&[u64]> {
        self.repeats.then_some(self.note.as_slice())
    }

    /// Whether what is noted of an event is still known.
    pub fn holds(&self, note: &[u64]) -> bool {
        note.iter()
            .all(|hash| self.slots[*hash as usize % SLOTS].hash == *hash)
    }

    /// Counts one more event of which this is noted, and holds.
    pub fn again(&mut self, note: &[u64]) {
        for hash in note {
            self.hit(*hash);
        }
    }

    fn hit(&mut self, hash: u64) {
        let at = hash as usize % SLOTS;
        let slot = &mut self.slots[at];
        if slot.events == 0 {
            self.counting.push(at as u32);
        }
        slot.events += 1;
    }

    /// Whether this is the first time in the batch; always, where nothing may be left out.
    pub(super) fn is_first(&mut self, hash: u64) -> bool {
        self.repeats = false;
        self.recall.is_none() || self.once.insert(hash)
    }

    /// Hash of a detector's fields as the event has them. Keyed, so that nobody can aim at another's.
    pub(super) fn hash(
        &self,
        detector: DetectorIndex,
        view: &View<'_>,
        fields: [&[Field]; 2],
    ) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u16(detector);
        hasher.write(view.origin.cluster.as_bytes());
        for field in fields.into_iter().flatten() {
            hasher.write_u8(0xff);
            view.hash_field(*field, &mut hasher);
        }
        hasher.finish()
    }

    /// Stands for what the detector of this hash, at this place, remembers of the cluster.
    pub(super) fn scope(
        &mut self,
        detector: DetectorIndex,
        state_hash: u64,
        cluster: &Arc<str>,
    ) -> Digest128 {
        if self.scopes.len() > MAX_SCOPES {
            self.scopes.clear();
        }
        // The name that is kept stays where it is, so that no other is taken for it.
        let key = (detector, cluster.as_ptr() as usize);
        let new = || (cluster.clone(), first_seen::scope(state_hash, cluster));
        self.scopes.entry(key).or_insert_with(new).1
    }

    /// Whether the combination was found to be known; then this event of it is counted.
    pub(super) fn known(&mut self, hash: u64) -> bool {
        let known = self.slots[hash as usize % SLOTS].hash == hash && hash != 0;
        if known {
            self.hit(hash);
            self.note.push(hash);
        }
        known
    }

    /// Counts an event of a first-seen key, and tells whether its values are all known.
    pub(super) fn count(
        &mut self,
        hash: u64,
        key: Digest128,
        pairs: impl Iterator<Item = Digest128>,
    ) -> bool {
        *self.counted.entry(key).or_default() += 1;
        let Some(recall) = &self.recall else {
            return false;
        };
        let mut any = false;
        for pair in pairs {
            any = true;
            if !recall.knows(&pair) {
                return false;
            }
        }
        if any {
            let slot = &mut self.slots[hash as usize % SLOTS];
            flush(slot, &mut self.counted);
            *slot = Slot {
                hash,
                key: [(key.0 >> 64) as u64, key.0 as u64],
                events: 0,
            };
            self.note.push(hash);
        }
        any
    }

    /// What was counted in the batch that ends here.
    pub fn take(&mut self) -> Counts {
        for at in self.counting.drain(..) {
            flush(&mut self.slots[at as usize], &mut self.counted);
        }
        let mut first_seen: Vec<_> = self.counted.drain().collect();
        first_seen.sort_unstable();
        self.once.clear();
        Counts {
            first_seen,
            lessons: std::mem::take(&mut self.lessons),
        }
    }
}

fn flush(slot: &mut Slot, counted: &mut HashMap<Digest128, u64, RandomState>) {
    if slot.events > 0 {
        let [high, low] = slot.key.map(u128::from);
        *counted.entry(Digest128(high << 64 | low)).or_default() += u64::from(slot.events);
        slot.events = 0;
    }
}
