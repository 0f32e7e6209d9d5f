//! Mutation of detectors: does a detector's own tests notice when part of it is taken away?
//!
//! A mutant is the detector with one element changed: an element of a set or of `facts` and `not`
//! left out, a condition dropped or negated, a count moved by one, a
//! window halved. The mutants of one detector stand side by side in one engine, so that each test's
//! events are decoded once and their facts computed once for all of them. What no test notices is a
//! survivor: it wants a test, or is of no use, or is listed under `[[equivalent]]` with its reason.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::condition::Condition;
use super::detector::{Detector, StateSpec, Step};
use super::engine::{Engine, UNVERIFIABLE_BODY};
use super::selftest::{self, Case};
use super::spec::NewKey;
use crate::event::Field;
use crate::event::fact::Bits;
use crate::event::site::Names;

/// What the tests of one detector notice of its mutants.
#[derive(Debug, Default, Serialize)]
pub struct Survey {
    pub detector: String,
    pub mutants: usize,
    /// Unnoticed and not explained.
    pub survivors: Vec<String>,
    /// Unnoticed, and listed under `[[equivalent]]`.
    pub equivalent: Vec<String>,
    /// What is wrong with the file itself: a failing test, an `[[equivalent]]` that does not hold.
    pub errors: Vec<String>,
}

impl Survey {
    pub fn is_fine(&self) -> bool {
        self.survivors.is_empty() && self.errors.is_empty()
    }

    /// Mutants that some test notices.
    pub fn noticed(&self) -> usize {
        self.mutants - self.survivors.len() - self.equivalent.len()
    }
}

/// Surveys the detectors whose ids `wanted` admits, on every core, in the order of the engine.
pub fn run(engine: &Engine, wanted: impl Fn(&str) -> bool, fixtures: &[&Path]) -> Vec<Survey> {
    let chosen: Vec<&Detector> = engine
        .detectors
        .iter()
        .filter(|detector| wanted(&detector.id))
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let surveys = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(chosen.len()) {
            scope.spawn(|| {
                while let Some(detector) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let survey = survey(engine, detector, fixtures);
                    surveys
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(detector.id.clone(), survey);
                }
            });
        }
    });
    surveys
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_values()
        .collect()
}

/// Tries every mutant of one detector.
pub fn survey(engine: &Engine, detector: &Detector, fixtures: &[&Path]) -> Survey {
    let mut survey = Survey {
        detector: detector.id.clone(),
        ..Survey::default()
    };
    let mut cases = Vec::new();
    for (name, case) in selftest::cases(&engine.sites, detector, fixtures) {
        match case {
            Ok(case) => cases.push((name, case)),
            Err(error) => survey.errors.push(format!("test {name:?}: {error}")),
        }
    }
    let mutants = mutants(detector);
    survey.mutants = mutants.len();
    let (names, changed): (Vec<String>, Vec<Detector>) = mutants.into_iter().unzip();
    let noticed = if detector.id == UNVERIFIABLE_BODY {
        let all = engine.detectors.clone();
        among(all, engine, detector, changed, &cases, &mut survey.errors)
    } else if let StateSpec::Sequence { steps, .. } = &detector.state {
        let mut needed = engine.detectors.clone();
        needed.retain(|other| {
            other.id == detector.id || steps.iter().any(|step| step.detectors.contains(&other.id))
        });
        among(
            needed,
            engine,
            detector,
            changed,
            &cases,
            &mut survey.errors,
        )
    } else if matches!(detector.state, StateSpec::Reuse { .. }) {
        let all = engine.detectors.clone();
        among(all, engine, detector, changed, &cases, &mut survey.errors)
    } else if matches!(detector.state, StateSpec::Absence { .. }) {
        let alone = Vec::new();
        among(alone, engine, detector, changed, &cases, &mut survey.errors)
    } else {
        side_by_side(engine, detector, changed, &cases, &mut survey.errors)
    };
    for (name, noticed) in names.iter().zip(&noticed) {
        let explained = detector.equivalent.iter().any(|e| &e.mutant == name);
        match (noticed, explained) {
            (false, false) => survey.survivors.push(name.clone()),
            (false, true) => survey.equivalent.push(name.clone()),
            (true, true) => survey
                .errors
                .push(format!("equivalent `{name}`: a test does notice it")),
            (true, false) => {}
        }
    }
    for equivalent in &detector.equivalent {
        if !names.contains(&equivalent.mutant) {
            let near = crate::config::diagnose::nearest(
                &equivalent.mutant,
                names.iter().map(String::as_str),
            )
            .map_or(String::new(), |name| format!("; did you mean `{name}`?"));
            survey.errors.push(format!(
                "equivalent `{}`: names no mutant{near}",
                equivalent.mutant
            ));
        }
    }
    survey
}

/// Which mutants some case notices, all of them in one engine behind the detector itself.
fn side_by_side(
    engine: &Engine,
    detector: &Detector,
    mutants: Vec<Detector>,
    cases: &[(String, Case<'_>)],
    errors: &mut Vec<String>,
) -> Vec<bool> {
    let mut noticed = vec![false; mutants.len()];
    let mut all = vec![detector.clone()];
    all.extend(mutants);
    let herd = Engine::new(all, engine.sites.clone());
    for (name, case) in cases {
        let mut matches: Vec<Vec<_>> = (0..=noticed.len()).map(|_| Vec::new()).collect();
        for found in case.matches(&herd) {
            matches[usize::from(found.detector)].push(found);
        }
        let mut matches = matches.into_iter();
        let own = matches.next().unwrap_or_default();
        if let Err(error) = case.verdict(&herd, own) {
            errors.push(format!("test {name:?}: {error}"));
        }
        for (noticed, matches) in noticed.iter_mut().zip(matches) {
            if !*noticed {
                *noticed = case.verdict(&herd, matches).is_err();
            }
        }
    }
    noticed
}

/// As [`side_by_side`], for a detector whose matches depend on those of `others`.
fn among(
    mut others: Vec<Detector>,
    engine: &Engine,
    detector: &Detector,
    mutants: Vec<Detector>,
    cases: &[(String, Case<'_>)],
    errors: &mut Vec<String>,
) -> Vec<bool> {
    for (name, case) in cases {
        if let Err(error) = case.run(engine, detector) {
            errors.push(format!("test {name:?}: {error}"));
        }
    }
    others.retain(|other| other.id != detector.id);
    mutants
        .into_iter()
        .map(|mutant| {
            let mut all = others.clone();
            all.push(mutant);
            let changed = Engine::new(all, engine.sites.clone());
            cases
                .iter()
                .any(|(_, case)| case.run(&changed, detector).is_err())
        })
        .collect()
}

/// Every mutant with its name, which says the key in the file and what was done to it.
fn mutants(detector: &Detector) -> Vec<(String, Detector)> {
    let mut mutants = Mutants {
        detector,
        found: Vec::new(),
    };
    mutants.sets();
    mutants.facts("match", |d| &mut d.matching.facts, |d| &mut d.matching.not);
    mutants.facts(
        "match",
        |d| &mut d.matching.known.facts,
        |d| &mut d.matching.known.not,
    );
    mutants.when();
    for at in 0..detector.raise.len() {
        mutants.add(format!("raise[{at}]: dropped"), |d| {
            d.raise.remove(at);
        });
        mutants.facts(
            &format!("raise[{at}]"),
            |d| &mut d.raise[at].facts,
            |d| &mut d.raise[at].not,
        );
        mutants.facts(
            &format!("raise[{at}]"),
            |d| &mut d.raise[at].known.facts,
            |d| &mut d.raise[at].known.not,
        );
    }
    mutants.state();
    mutants.found
}

struct Mutants<'d> {
    detector: &'d Detector,
    found: Vec<(String, Detector)>,
}

impl Mutants<'_> {
    fn add(&mut self, name: String, change: impl FnOnce(&mut Detector)) {
        let mut mutant = Detector {
            tests: Vec::new(),
            enabled: true,
            ..self.detector.clone()
        };
        change(&mut mutant);
        self.found.push((name, mutant));
    }

    fn sets(&mut self) {
        type Set = fn(&mut Detector) -> &mut Option<Vec<String>>;
        let sets: [(&str, Set); 4] = [
            ("groups", |d| &mut d.matching.groups),
            ("resources", |d| &mut d.matching.resources),
            ("subresources", |d| &mut d.matching.subresources),
            ("verbs", |d| &mut d.matching.verbs),
        ];
        for (key, set) in sets {
            let whole = set(&mut self.detector.clone()).clone();
            self.set(key, whole.unwrap_or_default(), set);
        }
        let stages = self.detector.matching.stages.clone();
        self.set("stages", stages, |d| &mut d.matching.stages);
        let nonresource = self.detector.matching.nonresource.clone();
        let globs = nonresource.map_or(Vec::new(), |globs| globs.patterns().to_vec());
        self.set("nonresource", globs, |d| &mut d.matching.nonresource);
        let lines = self.detector.matching.lines.clone().unwrap_or_default();
        if lines.len() > 1 {
            self.set("lines", lines, |d| &mut d.matching.lines);
        }
    }

    /// The set without each of its elements; without its only one, any value will do.
    fn set<T: Clone + Element, S: From<Rest<T>>>(
        &mut self,
        key: &str,
        whole: Vec<T>,
        set: impl Fn(&mut Detector) -> &mut S,
    ) {
        for at in 0..whole.len() {
            let mut rest = whole.clone();
            let name = format!("match.{key}: {}", rest.remove(at).shown());
            self.add(name, |d| *set(d) = S::from(Rest(rest)));
        }
    }

    fn facts(
        &mut self,
        table: &str,
        facts: impl Fn(&mut Detector) -> &mut Bits,
        not: impl Fn(&mut Detector) -> &mut Bits,
    ) {
        let mut copy = self.detector.clone();
        for fact in facts(&mut copy).iter().collect::<Vec<_>>() {
            self.add(format!("{table}.facts: {}", fact.name()), |d| {
                *facts(d) = facts(d).without(&Bits::EMPTY.with(fact));
            });
        }
        for fact in not(&mut copy).iter().collect::<Vec<_>>() {
            self.add(format!("{table}.not: {}", fact.name()), |d| {
                *not(d) = not(d).without(&Bits::EMPTY.with(fact));
            });
        }
    }

    fn when(&mut self) {
        let Some(when) = &self.detector.matching.when else {
            return;
        };
        let negated = Condition::compile(&format!("!({})", when.source()));
        self.add("match.when: dropped".to_owned(), |d| d.matching.when = None);
        // A condition near the bound on its size cannot be negated, and dropping it says as much.
        if let Ok(negated) = negated {
            self.add("match.when: negated".to_owned(), |d| {
                d.matching.when = Some(negated);
            });
        }
    }

    fn state(&mut self) {
        match &self.detector.state {
            StateSpec::None => {}
            StateSpec::FirstSeen { teach, new_key, .. } => {
                if *new_key == NewKey::Learn {
                    self.add("first_seen.new_key: dropped".to_owned(), |d| {
                        if let StateSpec::FirstSeen { new_key, .. } = &mut d.state {
                            *new_key = NewKey::Raise;
                        }
                    });
                }
                for at in 0..teach.len() {
                    self.add(format!("first_seen.teach: {}", teach[at]), |d| {
                        if let StateSpec::FirstSeen { teach, .. } = &mut d.state {
                            teach.remove(at);
                        }
                    });
                }
            }
            StateSpec::Threshold { distinct, .. } => {
                for (name, step) in [("+1", 1), ("-1", -1)] {
                    self.add(format!("threshold.count: {name}"), |d| {
                        if let StateSpec::Threshold { count, .. } = &mut d.state {
                            *count = count.saturating_add_signed(step);
                        }
                    });
                }
                self.add("threshold.window: halved".to_owned(), |d| {
                    if let StateSpec::Threshold { window, .. } = &mut d.state {
                        *window /= 2;
                    }
                });
                if distinct.is_some() {
                    self.add("threshold.distinct: dropped".to_owned(), |d| {
                        if let StateSpec::Threshold { distinct, .. } = &mut d.state {
                            *distinct = None;
                        }
                    });
                }
            }
            StateSpec::Spike {
                distinct, new_to, ..
            } => {
                for field in 0..new_to.len() {
                    let name = format!("spike.new_to: without {}", new_to[field].name());
                    self.add(name, |d| {
                        if let StateSpec::Spike { new_to, .. } = &mut d.state {
                            new_to.remove(field);
                        }
                    });
                }
                for (name, step) in [("+1", 1), ("-1", -1)] {
                    self.add(format!("spike.count: {name}"), |d| {
                        if let StateSpec::Spike { count, .. } = &mut d.state {
                            *count = count.saturating_add_signed(step);
                        }
                    });
                }
                self.add("spike.limit: as count".to_owned(), |d| {
                    if let StateSpec::Spike { count, limit, .. } = &mut d.state {
                        *limit = *count;
                    }
                });
                self.add("spike.window: halved".to_owned(), |d| {
                    if let StateSpec::Spike { window, .. } = &mut d.state {
                        *window /= 2;
                    }
                });
                if distinct.is_some() {
                    self.add("spike.distinct: dropped".to_owned(), |d| {
                        if let StateSpec::Spike { distinct, .. } = &mut d.state {
                            *distinct = None;
                        }
                    });
                }
            }
            StateSpec::Sequence { steps, .. } => self.sequence(steps),
            StateSpec::Reuse { .. } => {
                for (name, times) in [("halved", 1), ("doubled", 4)] {
                    self.add(format!("reuse.within: {name}"), |d| {
                        if let StateSpec::Reuse { within } = &mut d.state {
                            *within = *within * times / 2;
                        }
                    });
                }
            }
            StateSpec::Absence { .. } => {
                for (name, times) in [("halved", 1), ("doubled", 4)] {
                    self.add(format!("absence.after: {name}"), |d| {
                        if let StateSpec::Absence { after, .. } = &mut d.state {
                            *after = *after * times / 2;
                        }
                    });
                }
            }
        }
    }
}

impl Mutants<'_> {
    fn sequence(&mut self, steps: &[Step]) {
        fn change(change: impl FnOnce(&mut Vec<Step>)) -> impl FnOnce(&mut Detector) {
            |d| {
                if let StateSpec::Sequence { steps, .. } = &mut d.state {
                    change(steps);
                }
            }
        }
        self.add("sequence.within: halved".to_owned(), |d| {
            if let StateSpec::Sequence { within, .. } = &mut d.state {
                *within /= 2;
            }
        });
        self.add(
            "sequence.step: reversed".to_owned(),
            change(|s| s.reverse()),
        );
        for field in 0..steps[0].key.len() {
            // Tests have one cluster; that clusters are apart is the judge's own test.
            if steps[0].key[field] != Field::Cluster {
                let name = format!("sequence.key: {}", steps[0].key[field].name());
                let without = move |steps: &mut Vec<Step>| {
                    for step in steps {
                        step.key.remove(field);
                    }
                };
                self.add(name, change(without));
            }
        }
        for (at, step) in steps.iter().enumerate() {
            let table = format!("sequence.step[{at}]");
            self.add(format!("{table}: dropped"), change(|s| drop(s.remove(at))));
            for (place, id) in step.detectors.iter().enumerate() {
                if step.detectors.len() > 1 {
                    let without = |s: &mut Vec<Step>| drop(s[at].detectors.remove(place));
                    self.add(format!("{table}.detectors: {id}"), change(without));
                }
            }
            for fact in step.facts.iter() {
                let without = Bits::EMPTY.with(fact);
                let without = |s: &mut Vec<Step>| s[at].facts = s[at].facts.without(&without);
                self.add(format!("{table}.facts: {}", fact.name()), change(without));
            }
            for fact in step.not.iter() {
                let without = Bits::EMPTY.with(fact);
                let without = |s: &mut Vec<Step>| s[at].not = s[at].not.without(&without);
                self.add(format!("{table}.not: {}", fact.name()), change(without));
            }
        }
    }
}

/// What is left of a set; nothing left stands for a key that is not there.
struct Rest<T>(Vec<T>);

impl<T> From<Rest<T>> for Option<Vec<T>> {
    fn from(rest: Rest<T>) -> Self {
        Some(rest.0).filter(|rest| !rest.is_empty())
    }
}

impl<T> From<Rest<T>> for Vec<T> {
    fn from(rest: Rest<T>) -> Self {
        rest.0
    }
}

impl From<Rest<String>> for Option<Names> {
    fn from(rest: Rest<String>) -> Self {
        let globs = Names::new(&rest.0).expect("these globs were compiled before");
        Some(globs).filter(|globs| !globs.is_empty())
    }
}

/// An element of a set, as a mutant's name shows it.
trait Element {
    fn shown(&self) -> String;
}

impl Element for String {
    fn shown(&self) -> String {
        if self.is_empty() {
            "\"\"".to_owned()
        } else {
            self.clone()
        }
    }
}

impl Element for crate::event::LineKind {
    fn shown(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Element for crate::event::Stage {
    fn shown(&self) -> String {
        self.as_str().to_owned()
    }
}
