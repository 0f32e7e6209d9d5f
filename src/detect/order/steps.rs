//! Matches of a sequence: which of them are steps, and when they make it whole.

use std::sync::Arc;

use jiff::SignedDuration;

use super::{Judge, Judgement, Outcome};
use crate::detect::engine::Engine;
use crate::detect::explain;
use crate::detect::index::DetectorIndex;
use crate::detect::matches::{Digest128, Match, StateKey};
use crate::detect::state::sequence;

impl Judge {
    /// A match of a sequence: a step, where a detector of the step has just found something.
    pub(super) fn step(
        &mut self,
        engine: &Engine,
        mut found: Match,
        within: SignedDuration,
        steps: usize,
    ) -> Judgement {
        let occurrence = Arc::clone(&found.occurrence);
        let StateKey::Sequence(keys) = std::mem::replace(&mut found.state, StateKey::None) else {
            unreachable!("matches of sequences have the keys of steps");
        };
        let outcomes = match &self.current {
            Some(current) if Arc::ptr_eq(&current.occurrence, &occurrence) => &current.outcomes[..],
            _ => &[],
        };
        let hits: Vec<sequence::Hit> = keys
            .into_iter()
            .filter_map(|key| {
                let is_found = |of: &&DetectorIndex| {
                    let mut outcomes = outcomes.iter();
                    outcomes.any(|(index, outcome)| index == *of && outcome.is_finding())
                };
                let detector = &engine.detector(*key.of.iter().find(is_found)?).id;
                let event = sequence::Event::new(
                    key.step,
                    occurrence.clock(),
                    occurrence.request,
                    detector,
                    occurrence.audit_id(),
                );
                let event = event.by(occurrence.someone());
                let owner = occurrence.owner;
                Some(sequence::Hit::new(key.key, owner, steps, within, event))
            })
            .collect();
        if hits.is_empty() {
            let reason = "no finding of a step's detector".to_owned();
            return Judgement {
                found,
                outcome: Outcome::Counted,
                reason,
            };
        }
        let last_key = hits
            .iter()
            .find(|hit| usize::from(hit.event.step) + 1 == steps)
            .map(|hit| Digest128(hit.key));
        let mut own = None;
        for hit in hits {
            let key = Digest128(hit.key);
            for chain in self.sequences.ask(hit) {
                let last = chain.last().map_or(0, |event| event.request);
                if last == occurrence.request.0 as u64 {
                    own.get_or_insert(chain);
                    continue;
                }
                match self.held.take(key, last) {
                    Some(held) => {
                        // After a reload, the detector may have another place.
                        let found = Match {
                            detector: found.detector,
                            ..held
                        };
                        self.raised.push_back(whole(found, &chain));
                    }
                    // Forgotten by a restart: the finding is then of the step that came late.
                    None => drop(own.get_or_insert(chain)),
                }
            }
        }
        match own {
            Some(chain) => whole(found, &chain),
            None => {
                if let Some(key) = last_key {
                    self.held.put(key, &found);
                }
                Judgement {
                    found,
                    outcome: Outcome::Counted,
                    reason: "a step of a sequence that is not whole".to_owned(),
                }
            }
        }
    }
}

/// The finding of a whole sequence. What the platform did last, it did for whoever went before.
fn whole(mut found: Match, chain: &[sequence::Event]) -> Judgement {
    if found.occurrence.someone().is_none() {
        for whom in chain.iter().filter_map(|event| event.actor.as_ref()) {
            if !found.on_behalf_of.contains(whom) {
                found.on_behalf_of.push(whom.clone());
            }
        }
        found.summary = explain::on_behalf(&found.summary, &found.on_behalf_of).into();
    }
    Judgement {
        found,
        outcome: Outcome::Alert,
        reason: explain::sequence(chain),
    }
}
