//! What the inventory knows of a match, which a detector may ask for, and what becomes of a match when
//! that turns out late.

use super::Judge;
use crate::detect::detector::StateSpec;
use crate::detect::engine::Engine;
use crate::detect::inventory::known;
use crate::detect::matches::Match;
use crate::event::{Fact, Truth};

impl Judge {
    /// Asks the inventory what the detector wants to be known. Where it is not, says so; else the match
    /// gets the severity and the note that follow.
    pub(super) fn unknown(&self, engine: &Engine, found: &mut Match) -> Option<String> {
        let query = found.known.as_ref()?;
        let detector = engine.detector(found.detector);
        let wanted = detector.known();
        let facts = self.inventory.facts(&wanted, &found.occurrence, query);
        let asked = &detector.matching.known;
        if facts.test(&asked.facts, &asked.not) != Truth::True {
            let unmet = |wanted: Truth| move |fact: &Fact| facts.get(*fact) != wanted;
            let needed = asked.facts.iter().filter(unmet(Truth::True));
            let names: Vec<&str> = needed
                .chain(asked.not.iter().filter(unmet(Truth::False)))
                .map(|fact| fact.name())
                .collect();
            return Some(format!(
                "the inventory does not say so: {}",
                names.join(", ")
            ));
        }
        let raised = query
            .raises
            .iter()
            .filter(|(at, _)| {
                let known = &detector.raise[usize::from(*at)].known;
                facts.test(&known.facts, &known.not) == Truth::True
            })
            .map(|(_, severity)| *severity)
            .max();
        if let Some(raised) = raised {
            found.severity = match query.raised {
                true => found.severity.max(raised),
                false => raised,
            };
        }
        if let Some(note) = self.inventory.explain(&wanted, &found.occurrence, query) {
            found.note = Some(note);
        }
        None
    }

    /// Judges again what a late lesson concerns.
    pub(super) fn judge_unsure(&mut self, engine: &Engine) {
        for lesson in self.inventory.take_late() {
            let concerned = self
                .unsure
                .take(|found| known::concerns(&lesson, &found.occurrence));
            for (digest, mut found) in concerned {
                // After a reload, the detector may be gone, or have another place.
                let place = (0..)
                    .zip(&engine.detectors)
                    .find(|(_, of)| of.digest == digest);
                let Some((index, StateSpec::None)) = place.map(|(at, of)| (at, &of.state)) else {
                    continue;
                };
                found.detector = index;
                if self.unknown(engine, &mut found).is_some() {
                    self.unsure.put(digest, found);
                    continue;
                }
                let detector = engine.detector(found.detector);
                let description = &detector.description;
                let reason = match &found.note {
                    Some(note) => format!("{description} {note}"),
                    None => description.clone(),
                };
                self.raise(detector, found, reason);
            }
        }
    }
}
