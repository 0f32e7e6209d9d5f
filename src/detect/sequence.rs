//! Steps of sequences, in the parallel half: which of an event's matches are steps of which sequence.
//!
//! A sequence has no events of its own. Where a detector of one of its steps matches, the sequence
//! gets a match too, with the step's key; [`crate::detect::order`] asks what became of the
//! detector's own match, and only a finding is a step.

use std::sync::Arc;

use super::detector::{Detector, StateSpec, Step};
use super::engine::{Engine, make_match};
use super::index::DetectorIndex;
use super::matches::{Digest128, Match, StateKey};
use crate::event::{Field, Truth, View};

/// One step of a sequence that an event may be.
#[derive(Debug, Clone)]
pub struct StepKey {
    pub step: u8,
    pub key: Digest128,
    /// The detectors of the step that matched the event.
    pub of: Vec<DetectorIndex>,
}

/// For each detector, the sequences that have it as a step.
#[derive(Debug, Default)]
pub(super) struct Followers(Vec<Vec<DetectorIndex>>);

impl Followers {
    pub fn new(detectors: &[Detector]) -> Followers {
        let mut followers = vec![Vec::new(); detectors.len()];
        for (index, sequence) in (0..).zip(detectors) {
            let StateSpec::Sequence { steps, .. } = &sequence.state else {
                continue;
            };
            for (detector, followers) in detectors.iter().zip(&mut followers) {
                if steps
                    .iter()
                    .any(|step| step.detectors.contains(&detector.id))
                {
                    followers.push(index);
                }
            }
        }
        Followers(followers)
    }

    /// Puts a match to `out` for every sequence that has one of the matches from `first` on as a
    /// step; all of them are of one event.
    pub fn add(&self, engine: &Engine, view: &View<'_>, first: usize, out: &mut Vec<Match>) {
        let mut sequences: Vec<DetectorIndex> = out[first..]
            .iter()
            .flat_map(|found| &self.0[usize::from(found.detector)])
            .copied()
            .collect();
        if sequences.is_empty() {
            return;
        }
        sequences.sort_unstable();
        sequences.dedup();
        let occurrence = Arc::clone(&out[first].occurrence);
        let matched: Vec<DetectorIndex> = out[first..].iter().map(|found| found.detector).collect();
        for index in sequences {
            let sequence = engine.detector(index);
            let StateSpec::Sequence { steps, .. } = &sequence.state else {
                continue;
            };
            let steps: Vec<StepKey> = (0..)
                .zip(steps)
                .filter_map(|(number, step)| {
                    step_key(engine, sequence, number, step, view, &matched)
                })
                .collect();
            if !steps.is_empty() {
                let state = StateKey::Sequence(steps);
                out.push(make_match(sequence, index, view, state, &occurrence));
            }
        }
    }
}

fn step_key(
    engine: &Engine,
    sequence: &Detector,
    number: u8,
    step: &Step,
    view: &View<'_>,
    matched: &[DetectorIndex],
) -> Option<StepKey> {
    let of: Vec<DetectorIndex> = matched
        .iter()
        .filter(|index| step.detectors.contains(&engine.detector(**index).id))
        .copied()
        .collect();
    if of.is_empty() || view.test(&step.facts, &step.not) != Truth::True {
        return None;
    }
    // What is not known joins with nothing; a raw audit log names no cluster.
    let lacking = |field: &Field| *field != Field::Cluster && view.field(*field).text().is_empty();
    (!step.key.iter().any(lacking)).then(|| StepKey {
        step: number,
        key: Digest128::of_fields(&sequence.state_hash.to_le_bytes(), view, &step.key),
        of,
    })
}
