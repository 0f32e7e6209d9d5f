//! What a judge remembers, as it goes to disk and comes back: changes after each batch, and the whole
//! now and then.
//!
//! A snapshot has a part for each operator, and each part a version of its own: what this program
//! does not know is learned anew, and the rest is kept. It also says which state each detector had,
//! so that a changed detector, whose memory begins anew, can be named.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::detector::{Detector, StateSpec};
use super::engine::Engine;
use super::inventory;
use super::order::Judge;
use super::state::pack::Packed;
use super::state::requests::Seen;
use super::state::reused::Used;
use super::state::window::Hit;
use super::state::{absence, first_seen, habit, sequence, spike, threshold};

/// Versions of what the operators write.
const REQUESTS: (&str, u8) = ("requests", 1);
const REUSE: (&str, u8) = ("reuse", 1);
const FIRST_SEEN: (&str, u8) = ("first_seen", 2);
const THRESHOLD: (&str, u8) = ("threshold", 1);
const SPIKE: (&str, u8) = ("spike", 1);
const SEQUENCE: (&str, u8) = ("sequence", 2);
const HABIT: (&str, u8) = ("habit", 1);
const ABSENCE: (&str, u8) = ("absence", 2);
const INVENTORY: (&str, u8) = ("inventory", 1);

/// What one batch of matches added to the state.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Delta {
    requests: Vec<Seen>,
    reused: Vec<Used>,
    first_seen: Vec<first_seen::Told>,
    thresholds: Vec<Hit>,
    spikes: Vec<Hit>,
    sequences: Vec<sequence::Hit>,
    habits: Vec<habit::Seen>,
    absence: absence::Snapshot,
    inventory: inventory::Delta,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
            && self.reused.is_empty()
            && self.first_seen.is_empty()
            && self.thresholds.is_empty()
            && self.spikes.is_empty()
            && self.sequences.is_empty()
            && self.habits.is_empty()
            && self.absence.is_empty()
            && self.inventory.is_empty()
    }
}

/// What each operator remembers.
#[derive(Debug)]
#[expect(dead_code, reason = "read by its Debug")]
pub struct Contents {
    requests: Vec<Seen>,
    reused: Vec<Used>,
    first_seen: first_seen::Snapshot,
    thresholds: threshold::Snapshot,
    spikes: spike::Snapshot,
    sequences: sequence::Snapshot,
    habits: Vec<habit::Seen>,
    absence: absence::Snapshot,
    inventory: inventory::Contents,
}

/// The whole state, for a snapshot on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    parts: Vec<Part>,
    /// Ids of the detectors that remember, and the hashes of what decides their state's meaning.
    detectors: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Part {
    operator: String,
    version: u8,
    state: Packed,
}

impl Snapshot {
    fn put(
        &mut self,
        (operator, version): (&str, u8),
        state: &impl Serialize,
    ) -> Result<(), postcard::Error> {
        self.parts.push(Part {
            operator: operator.to_owned(),
            version,
            state: Packed::from(postcard::to_stdvec(state)?),
        });
        Ok(())
    }

    /// `None` where it is missing or cannot be read; then it is named in `lost`.
    fn take<T: DeserializeOwned>(
        &self,
        (operator, version): (&'static str, u8),
        lost: &mut Vec<&'static str>,
    ) -> Option<T> {
        let part = self.parts.iter().find(|part| part.operator == operator);
        let state = part
            .filter(|part| part.version == version)
            .and_then(|part| postcard::from_bytes(part.state.bytes()).ok());
        if state.is_none() {
            lost.push(operator);
        }
        state
    }

    /// Detectors that remembered something else when the snapshot was written.
    pub fn changed(&self, detectors: &[Detector]) -> Vec<String> {
        let remembering = of_detectors(detectors);
        let changed =
            |(id, hash): &(&String, &u64)| remembering.get(*id).is_some_and(|known| known != *hash);
        let ids = self.detectors.iter().filter(changed);
        ids.map(|(id, _)| id.clone()).collect()
    }
}

fn of_detectors(detectors: &[Detector]) -> BTreeMap<String, u64> {
    detectors
        .iter()
        .filter(|detector| !matches!(detector.state, StateSpec::None))
        .map(|detector| (detector.id.clone(), detector.state_hash))
        .collect()
}

impl Judge {
    /// What was remembered since the last call.
    pub fn take_delta(&mut self) -> Delta {
        Delta {
            requests: self.requests.take_delta(),
            reused: self.reused.take_delta(),
            first_seen: self.first_seen.take_delta(),
            thresholds: self.thresholds.take_delta(),
            spikes: self.spikes.take_delta(),
            sequences: self.sequences.take_delta(),
            habits: self.habits.take_delta(),
            absence: self.absence.take_delta(),
            inventory: self.inventory.take_delta(),
        }
    }

    pub fn apply(&mut self, delta: Delta) {
        for seen in delta.requests {
            self.requests.apply(seen);
        }
        for used in delta.reused {
            self.reused.apply(used);
        }
        for told in &delta.first_seen {
            self.first_seen.apply(told);
        }
        for hit in delta.thresholds {
            self.thresholds.apply(hit);
        }
        for hit in delta.spikes {
            self.spikes.apply(hit);
        }
        for hit in delta.sequences {
            self.sequences.apply(hit);
        }
        for seen in delta.habits {
            self.habits.apply(seen);
        }
        self.inventory.apply(&delta.inventory);
        self.put_absence(delta.absence);
    }

    /// The inventory is told of how far each cluster has come, which it does not write itself.
    fn put_absence(&mut self, absence: absence::Snapshot) {
        for (cluster, latest) in absence.latest() {
            self.inventory.has_come(cluster, latest);
        }
        self.absence.apply(absence);
    }

    /// Everything, entries in no particular order.
    pub fn contents(&self) -> Contents {
        Contents {
            requests: self.requests.all(),
            reused: self.reused.all(),
            first_seen: self.first_seen.snapshot(),
            thresholds: self.thresholds.snapshot(),
            spikes: self.spikes.snapshot(),
            sequences: self.sequences.snapshot(),
            habits: self.habits.all(),
            absence: self.absence.snapshot(),
            inventory: self.inventory.contents(),
        }
    }

    pub fn snapshot(&self, engine: &Engine) -> Result<Snapshot, postcard::Error> {
        let mut snapshot = Snapshot {
            parts: Vec::new(),
            detectors: of_detectors(&engine.detectors),
        };
        snapshot.put(REQUESTS, &self.requests.all())?;
        snapshot.put(REUSE, &self.reused.all())?;
        snapshot.put(FIRST_SEEN, &self.first_seen.snapshot())?;
        snapshot.put(THRESHOLD, &self.thresholds.snapshot())?;
        snapshot.put(SPIKE, &self.spikes.snapshot())?;
        snapshot.put(SEQUENCE, &self.sequences.snapshot())?;
        snapshot.put(HABIT, &self.habits.all())?;
        snapshot.put(ABSENCE, &self.absence.snapshot())?;
        snapshot.put(INVENTORY, &self.inventory.snapshot())?;
        Ok(snapshot)
    }

    /// Puts a snapshot into a judge that knows nothing; gives the operators whose part cannot be
    /// read, and that therefore learn anew.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Vec<&'static str> {
        let mut lost = Vec::new();
        for seen in snapshot
            .take::<Vec<Seen>>(REQUESTS, &mut lost)
            .into_iter()
            .flatten()
        {
            self.requests.apply(seen);
        }
        for used in snapshot
            .take::<Vec<Used>>(REUSE, &mut lost)
            .into_iter()
            .flatten()
        {
            self.reused.apply(used);
        }
        if let Some(state) = snapshot.take(FIRST_SEEN, &mut lost) {
            self.first_seen.restore(state);
        }
        if let Some(state) = snapshot.take(THRESHOLD, &mut lost) {
            self.thresholds.restore(state);
        }
        if let Some(state) = snapshot.take(SPIKE, &mut lost) {
            self.spikes.restore(state);
        }
        if let Some(state) = snapshot.take(SEQUENCE, &mut lost) {
            self.sequences.restore(state);
        }
        for seen in snapshot
            .take::<Vec<habit::Seen>>(HABIT, &mut lost)
            .into_iter()
            .flatten()
        {
            self.habits.apply(seen);
        }
        if let Some(state) = snapshot.take::<inventory::Snapshot>(INVENTORY, &mut lost) {
            self.inventory.restore(&state);
        }
        if let Some(state) = snapshot.take(ABSENCE, &mut lost) {
            self.put_absence(state);
        }
        lost
    }

    /// Entries remembered, by operator.
    pub fn entries(&self) -> [(&'static str, usize); 9] {
        [
            ("requests", self.requests.len()),
            ("reuse", self.reused.len()),
            ("first_seen", self.first_seen.len()),
            ("threshold", self.thresholds.len()),
            ("spike", self.spikes.len()),
            ("sequence", self.sequences.len()),
            ("habit", self.habits.len()),
            ("absence", self.absence.len()),
            ("inventory", self.inventory.len()),
        ]
    }

    /// Entries that a bound pushed out.
    pub fn evicted(&self) -> u64 {
        self.requests.evicted()
            + self.reused.evicted()
            + self.first_seen.evicted()
            + self.thresholds.evicted()
            + self.spikes.evicted()
            + self.sequences.evicted()
            + self.habits.evicted()
            + self.absence.evicted()
            + self.inventory.evicted()
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::super::order::Learning;
    use super::*;
    use crate::event::Sites;

    fn engine() -> Engine {
        let detectors = load::load(&load::shipped(), &[]).expect("the shipped ones load");
        Engine::new(detectors, Sites::default())
    }

    #[test]
    fn what_one_operator_wrote_in_another_version_costs_the_others_nothing() {
        let engine = engine();
        let mut judge = Judge::durable(Learning::Own);
        judge.thresholds.apply(Hit {
            key: 7,
            owner: 1,
            at: 1_700_000_000_000,
            value: 1,
            count: 3,
            window: 60_000,
            distinct: true,
            spike: false,
        });
        let mut snapshot = judge.snapshot(&engine).expect("written");
        let part = |snapshot: &mut Snapshot, operator: &str| {
            snapshot
                .parts
                .iter()
                .position(|part| part.operator == operator)
                .expect("every operator has a part")
        };
        let first_seen = part(&mut snapshot, "first_seen");
        snapshot.parts[first_seen].version = 0;
        let spike = part(&mut snapshot, "spike");
        snapshot.parts.remove(spike);
        let mut again = Judge::durable(Learning::Own);
        assert_eq!(again.restore(&snapshot), ["first_seen", "spike"]);
        assert_eq!(again.entries(), judge.entries());
    }

    #[test]
    fn a_changed_detector_is_named() {
        let mut engine = engine();
        let snapshot = Judge::new(Learning::Own)
            .snapshot(&engine)
            .expect("written");
        assert_eq!(snapshot.changed(&engine.detectors), [""; 0]);
        for detector in &mut engine.detectors {
            if detector.id == "mass-delete" {
                detector.state_hash ^= 1;
            }
        }
        assert_eq!(snapshot.changed(&engine.detectors), ["mass-delete"]);
    }
}
