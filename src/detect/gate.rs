//! Which detectors an event's head leaves: what a worker remembers of [`super::index`]'s answers.
//!
//! Candidates are known by the names that choose them, and of the candidates those that the facts
//! of the head do not rule out are known by these facts. Events of a cluster are of few kinds, so
//! that nearly all cost two look-ups, however many detectors there are.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use ahash::RandomState;

use super::engine::Engine;
use super::index::{Candidates, DetectorIndex};
use crate::event::fact::FactSet;
use crate::event::memo::Memo;
use crate::event::{AuditEvent, Truth};

/// Entries of each table; a full one is emptied. Names come from log content.
const MAX_ENTRIES: usize = 1 << 14;

/// Belongs to one worker thread.
#[derive(Debug, Default)]
pub struct Gate {
    /// The engine that the answers are of.
    engine: u64,
    hasher: RandomState,
    candidates: HashMap<u64, Arc<Candidates>, RandomState>,
    left: HashMap<(u32, FactSet), Arc<[DetectorIndex]>, RandomState>,
    /// Of the engine's own sites; away while an event is looked at.
    memo: Option<Box<Memo>>,
}

impl Gate {
    /// The detectors that can want the event, by its API group, resource, subresource and verb.
    pub fn candidates(&mut self, engine: &Engine, event: &AuditEvent<'_>) -> Arc<Candidates> {
        if self.engine != engine.number() {
            *self = Gate {
                engine: engine.number(),
                ..Gate::default()
            };
        }
        let mut hasher = self.hasher.build_hasher();
        hasher.write(event.verb.as_bytes());
        if let Some(object) = &event.object_ref {
            for name in [&object.api_group, &object.resource, &object.subresource] {
                hasher.write_u8(0xff);
                hasher.write(name.as_bytes());
            }
        }
        let hash = hasher.finish();
        if let Some(found) = self.candidates.get(&hash) {
            return Arc::clone(found);
        }
        let found = engine.candidates(event);
        if self.candidates.len() >= MAX_ENTRIES {
            self.candidates.clear();
        }
        self.candidates.insert(hash, Arc::clone(&found));
        found
    }

    /// What is known of identities at the engine's own sites, to be put back after the event.
    pub fn take_memo(&mut self) -> Box<Memo> {
        self.memo.take().unwrap_or_default()
    }

    pub fn put_memo(&mut self, memo: Box<Memo>) {
        self.memo = Some(memo);
    }

    /// The candidates that `head`, the facts of the head, does not rule out.
    pub fn left(
        &mut self,
        engine: &Engine,
        candidates: &Candidates,
        head: FactSet,
    ) -> Arc<[DetectorIndex]> {
        let key = (candidates.number, head);
        if let Some(left) = self.left.get(&key) {
            return Arc::clone(left);
        }
        let left: Arc<[DetectorIndex]> = candidates
            .detectors
            .iter()
            .copied()
            .filter(|index| {
                let matching = &engine.detector(*index).matching;
                head.test(&matching.facts, &matching.not) != Truth::False
            })
            .collect();
        if self.left.len() >= MAX_ENTRIES {
            self.left.clear();
        }
        self.left.insert(key, Arc::clone(&left));
        left
    }
}
