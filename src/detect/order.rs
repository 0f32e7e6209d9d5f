//! The ordered half of detection: what a match is, given everything before it.
//!
//! Matches come from [`crate::detect::engine`], in the order of their partition (live) or of event
//! time (replay). Duplicates of a request go first, then exceptions, then the detector's state; what
//! is left is a finding and goes to [`crate::alert::group`].

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::detector::{Absent, Detector, StateSpec};
use super::engine::Engine;
use super::explain;
use super::index::DetectorIndex;
use super::inventory::{Inventory, known};
use super::matches::{Digest128, Match, Novelty, Occurrence, StateKey};
use super::scratch::Counts;
use super::spec::NewKey;
use super::state::absence::{self, Absence};
use super::state::first_seen::{self, Answer, FirstSeen};
use super::state::habit::{HABIT, Habits, MARGIN_SECS, NIGHT_SECS};
use super::state::held::Held;
use super::state::recall::Recall;
use super::state::requests::Requests;
use super::state::reused::Reused;
use super::state::sequence::{self, Sequences};
use super::state::spike::{self, Spikes};
use super::state::streams::Streams;
use super::state::threshold::Thresholds;
use super::state::unsure::Unsure;
use super::state::window::Counting;
use crate::alert::Severity;
use crate::event::Truth;
use crate::event::agent::product;

/// What became of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A finding.
    Alert,
    /// A finding that only sequences build on.
    Signal,
    /// Remembered by the detector's state, which saw nothing new or not enough.
    Counted,
    /// Remembered while the detector still learns what is normal.
    Learning,
    /// Covered by one of the site's exceptions.
    Excepted,
    /// A later stage of a request that counted already, or its copy in the other category.
    Duplicate,
}

impl Outcome {
    pub const ALL: [Outcome; 6] = [
        Outcome::Alert,
        Outcome::Signal,
        Outcome::Counted,
        Outcome::Learning,
        Outcome::Excepted,
        Outcome::Duplicate,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Alert => "alert",
            Outcome::Signal => "signal",
            Outcome::Counted => "counted",
            Outcome::Learning => "learning",
            Outcome::Excepted => "excepted",
            Outcome::Duplicate => "duplicate",
        }
    }
}

/// A match, what became of it, and why.
#[derive(Debug)]
pub struct Judgement {
    pub found: Match,
    pub outcome: Outcome,
    pub reason: String,
}

/// Where learning times come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learning {
    /// Each detector's own.
    Own,
    /// The same for all, as `replay --learn` says.
    For(SignedDuration),
    /// None: what is new is new within the archive.
    Archive,
}

/// The event at hand and what became of its matches so far.
#[derive(Debug)]
struct Current {
    occurrence: Arc<Occurrence>,
    outcomes: Vec<(DetectorIndex, Outcome)>,
}

/// Judges matches one after the other.
#[derive(Debug)]
pub struct Judge {
    learning: Learning,
    pub(super) requests: Requests,
    pub(super) reused: Reused,
    pub(super) first_seen: FirstSeen,
    pub(super) thresholds: Thresholds,
    pub(super) spikes: Spikes,
    pub(super) sequences: Sequences,
    pub(super) habits: Habits,
    /// Last steps that wait for an earlier one that comes late.
    held: Held,
    pub(super) absence: Absence,
    pub(super) inventory: Inventory,
    /// Matches that a late lesson of the inventory may turn into findings.
    unsure: Unsure,
    /// Seconds of the last tick.
    ticked: Option<i64>,
    late: u64,
    current: Option<Current>,
    raised: VecDeque<Judgement>,
}

impl Judge {
    /// For a process that keeps nothing, as replay.
    pub fn new(learning: Learning) -> Judge {
        Judge::with(learning, false)
    }

    /// For one that writes [`Judge::take_delta`] to disk.
    pub fn durable(learning: Learning) -> Judge {
        Judge::with(learning, true)
    }

    fn with(learning: Learning, durable: bool) -> Judge {
        Judge {
            learning,
            requests: Requests::new(durable),
            reused: Reused::new(durable),
            first_seen: FirstSeen::new(durable),
            thresholds: Thresholds::new(durable),
            spikes: Spikes::new(durable),
            sequences: Sequences::new(durable),
            habits: Habits::new(durable),
            held: Held::default(),
            absence: Absence::new(durable),
            inventory: Inventory::new(durable),
            unsure: Unsure::default(),
            ticked: None,
            late: 0,
            current: None,
            raised: VecDeque::new(),
        }
    }

    /// What workers may know of the state, to leave out what is no news.
    pub fn recall(&self) -> Recall {
        self.first_seen.recall()
    }

    /// Adds what a batch counted besides its matches.
    pub fn count(&mut self, counts: Counts) {
        for (key, events) in counts.first_seen {
            self.first_seen.count(key, events);
        }
        self.inventory.hear(counts.lessons);
    }

    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// For what a person imports.
    pub fn inventory_mut(&mut self) -> &mut Inventory {
        &mut self.inventory
    }

    /// Says what the match is and remembers it. `engine` is the one that found it; after a reload
    /// it may be another than before, and state is kept where a detector's state hash agrees.
    pub fn judge(&mut self, engine: &Engine, found: Match) -> Judgement {
        let occurrence = Arc::clone(&found.occurrence);
        let index = found.detector;
        self.inventory.advance(occurrence.clock().as_millisecond());
        self.judge_unsure(engine);
        let goes_on = |current: &Current| Arc::ptr_eq(&current.occurrence, &occurrence);
        if !self.current.as_ref().is_some_and(goes_on) {
            self.reuse(engine, &occurrence);
        }
        let mut judgement = self.decide(engine, found);
        if judgement.outcome == Outcome::Alert && engine.detector(index).signal {
            judgement.outcome = Outcome::Signal;
        }
        if judgement.outcome == Outcome::Alert && judgement.found.severity <= Severity::Low {
            judgement.found.usual = self.is_usual(engine, &judgement.found);
        }
        if judgement.outcome == Outcome::Alert
            && let Some(effect) = self.inventory.effect_of(occurrence.request.0)
        {
            let text = effect.text();
            if !text.is_empty() {
                judgement.reason = format!("{} {text}", judgement.reason);
            }
        }
        let outcome = (index, judgement.outcome);
        match &mut self.current {
            Some(current) if Arc::ptr_eq(&current.occurrence, &occurrence) => {
                current.outcomes.push(outcome);
            }
            current => {
                let outcomes = vec![outcome];
                *current = Some(Current {
                    occurrence,
                    outcomes,
                });
            }
        }
        judgement
    }

    /// Findings that came of a match besides its own: those that had waited for it. To be asked for
    /// after each [`Judge::judge`], until there is none.
    pub fn raised(&mut self) -> Option<Judgement> {
        self.raised.pop_front()
    }

    pub(super) fn raise(&mut self, judgement: Judgement) {
        self.raised.push_back(judgement);
    }

    fn decide(&mut self, engine: &Engine, mut found: Match) -> Judgement {
        let detector = engine.detector(found.detector);
        let occurrence = Arc::clone(&found.occurrence);
        let time = occurrence.clock();
        if occurrence.has_audit_id
            && self.requests.is_duplicate(
                detector.digest,
                occurrence.request,
                occurrence.owner,
                occurrence.stage,
                time,
            )
        {
            let reason = "another stage or copy of a request that counted already".to_owned();
            return Judgement {
                found,
                outcome: Outcome::Duplicate,
                reason,
            };
        }
        if let Some(at) = found.exception {
            let reason = format!("excepted: {}", detector.exceptions[usize::from(at)].reason);
            return Judgement {
                found,
                outcome: Outcome::Excepted,
                reason,
            };
        }
        if let Some(reason) = self.unknown(engine, &mut found) {
            self.unsure.put(detector.digest, found.clone());
            return Judgement {
                found,
                outcome: Outcome::Counted,
                reason,
            };
        }
        let remembers = !matches!(detector.state, StateSpec::None);
        if remembers && self.ticked.is_some_and(|ticked| time.as_second() < ticked) {
            self.late += 1;
        }
        if let (StateSpec::Sequence { within, steps }, StateKey::Sequence(_)) =
            (&detector.state, &found.state)
        {
            return self.step(engine, found, *within, steps.len());
        }
        let (outcome, reason) = match (&detector.state, &found.state) {
            (
                StateSpec::FirstSeen {
                    learn,
                    teach,
                    new_key,
                    ..
                },
                StateKey::FirstSeen {
                    scope,
                    key,
                    who,
                    values,
                },
            ) => {
                let learn = match self.learning {
                    _ if learn.is_zero() => Some(SignedDuration::ZERO),
                    Learning::Own => Some(*learn),
                    Learning::For(learn) => Some(learn),
                    Learning::Archive => None,
                };
                let answer = self.first_seen.ask(&first_seen::Ask {
                    scope: *scope,
                    key: *key,
                    owner: occurrence.owner,
                    values,
                    time,
                    learn,
                    teach: teach.contains(&occurrence.verb),
                    learn_keys: *new_key == NewKey::Learn,
                });
                if learn.is_none() && matches!(answer, Answer::NewValues { .. }) {
                    found.severity = found.severity.min(Severity::Low);
                }
                explain::novelty(answer, who, learn.is_none())
            }
            (
                state,
                StateKey::Count {
                    key,
                    distinct,
                    novelty,
                },
            ) => {
                // The first 64 bits of the request's digest stand for the request.
                let value = distinct.unwrap_or(occurrence.request.0 as u64);
                let new = novelty
                    .and_then(|novelty| self.new_values(detector, novelty, value, &occurrence));
                self.counted(state, *key, value, new, &occurrence)
            }
            _ => (Outcome::Alert, detector.description.clone()),
        };
        let reason = match found.habit {
            Some(key) if outcome == Outcome::Alert => {
                let days = self.habits.ask(key, occurrence.owner, time, MARGIN_SECS);
                if days >= HABIT {
                    found.severity = found.severity.min(Severity::Low);
                    format!("{reason} The same was seen on {days} days before.")
                } else {
                    reason
                }
            }
            _ => reason,
        };
        let reason = match &found.note {
            Some(note) => format!("{reason} {note}"),
            None => reason,
        };
        Judgement {
            found,
            outcome,
            reason,
        }
    }

    /// Whether what was found is the actor's everyday work. Who, what, by which program and from where
    /// belong together: the same by another program or from elsewhere is new.
    fn is_usual(&mut self, engine: &Engine, found: &Match) -> bool {
        let occurrence = &found.occurrence;
        let time = occurrence.clock();
        let impersonated = occurrence.actor.impersonated.as_deref();
        let key = Digest128::of([
            b"usual".as_slice(),
            &engine.detector(found.detector).digest.bytes(),
            occurrence.cluster.as_bytes(),
            occurrence.actor.user.as_bytes(),
            impersonated.unwrap_or_default().as_bytes(),
            product(&occurrence.user_agent)
                .to_ascii_lowercase()
                .as_bytes(),
            occurrence.came_from.as_bytes(),
        ]);
        self.habits.ask(key, occurrence.owner, time, NIGHT_SECS) > 0
    }

    /// Asks the inventory what the detector wants to be known. Where it is not, says so; else the match
    /// gets the severity and the note that follow.
    fn unknown(&self, engine: &Engine, found: &mut Match) -> Option<String> {
        let query = found.known.as_ref()?;
        let detector = engine.detector(found.detector);
        let wanted = detector.known();
        let facts = self.inventory.facts(&wanted, &found.occurrence, query);
        let asked = &detector.matching.known;
        if facts.test(&asked.facts, &asked.not) != Truth::True {
            let unmet = |wanted: Truth| move |fact: &crate::event::Fact| facts.get(*fact) != wanted;
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
    fn judge_unsure(&mut self, engine: &Engine) {
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
                let description = &engine.detector(found.detector).description;
                let reason = match &found.note {
                    Some(note) => format!("{description} {note}"),
                    None => description.clone(),
                };
                self.raised.push_back(Judgement {
                    found,
                    outcome: Outcome::Alert,
                    reason,
                });
            }
        }
    }

    /// A match of a threshold or spike.
    fn counted(
        &mut self,
        state: &StateSpec,
        key: Digest128,
        value: u64,
        new: Option<u32>,
        occurrence: &Occurrence,
    ) -> (Outcome, String) {
        let Some((_, distinct, counting)) = state.counting() else {
            unreachable!("only what counts has keys to count by");
        };
        let hit = counting.hit(key, occurrence.owner, value, occurrence.clock());
        let counted = |reached| explain::counted(reached, distinct, counting.window);
        if let StateSpec::Spike { count, learn, .. } = state {
            let learn = match self.learning {
                Learning::For(learn) => learn,
                Learning::Own | Learning::Archive => *learn,
            };
            let answer = self.spikes.ask(&spike::Ask {
                hit,
                least: *count,
                learn,
            });
            return match answer.is_spike() {
                true if new.is_some_and(|new| new < *count) => (
                    Outcome::Counted,
                    "many, but too few that were not seen before".to_owned(),
                ),
                true => (
                    Outcome::Alert,
                    explain::spike(&answer, counted(answer.reached), new),
                ),
                false => (
                    Outcome::Counted,
                    "no more than was to be expected".to_owned(),
                ),
            };
        }
        let reached = self.thresholds.ask(hit);
        if reached >= counting.count {
            let reason = format!("{}; the threshold is {}", counted(reached), counting.count);
            (Outcome::Alert, reason)
        } else {
            (Outcome::Counted, "the threshold is not reached".to_owned())
        }
    }

    /// How many of the values within the window were never seen before; of one that was, how many
    /// are around it. Remembers the value.
    fn new_values(
        &mut self,
        detector: &Detector,
        novelty: Novelty,
        value: u64,
        occurrence: &Occurrence,
    ) -> Option<u32> {
        let StateSpec::Spike { count, window, .. } = detector.state else {
            return None;
        };
        let (owner, time) = (occurrence.owner, occurrence.clock());
        let counting = Counting {
            count,
            window,
            distinct: true,
            spike: false,
        };
        let hit = counting.hit(novelty.to, owner, value, time);
        let scope = first_seen::scope(detector.state_hash, &occurrence.cluster);
        let is_new = self
            .first_seen
            .meet(scope, novelty.to, owner, novelty.pair, time);
        Some(match is_new {
            true => self.thresholds.ask(hit),
            false => self.thresholds.around(&hit),
        })
    }

    /// A match of a sequence: a step, where a detector of the step has just found something.
    fn step(
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
                let found = |outcome: Outcome| matches!(outcome, Outcome::Alert | Outcome::Signal);
                let is_found = |of: &&DetectorIndex| {
                    let mut outcomes = outcomes.iter();
                    outcomes.any(|(index, outcome)| index == *of && found(*outcome))
                };
                let detector = &engine.detector(*key.of.iter().find(is_found)?).id;
                let event = sequence::Event::new(
                    key.step,
                    occurrence.clock(),
                    occurrence.request,
                    detector,
                    &occurrence.audit_id,
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

    /// Matches of detectors that remember which came later than what was expected: the answers to
    /// them may have been others in the order of time.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Remembers which streams a batch had records of.
    pub fn observe(&mut self, streams: &Streams) {
        self.absence.observe(streams);
        self.inventory.observe(streams);
    }

    /// The clock has come to `now`, before which nothing more is expected: what is absent becomes a
    /// finding, to be asked for with [`Judge::raised`]. `live` says that silence up to now counts.
    pub fn tick(&mut self, engine: &Engine, now: Timestamp, live: bool) {
        self.inventory.advance(now.as_millisecond());
        self.judge_unsure(engine);
        let now = now.as_second();
        // It may go back: to a partition that is behind, or with the machine's clock.
        if self.ticked == Some(now) {
            return;
        }
        self.ticked = Some(now);
        let millis = now.saturating_mul(1000);
        self.thresholds.tick(millis);
        self.spikes.tick(millis);
        for (index, detector) in (0..).zip(&engine.detectors) {
            let StateSpec::Absence { of, after } = detector.state else {
                continue;
            };
            if of == Absent::NetworkPolicy {
                self.miss_policies(engine, index, after, now, live);
                continue;
            }
            let clock = absence::Clock { now, live };
            for gap in self
                .absence
                .gaps(detector.state_hash, of, after.as_secs(), clock)
            {
                let found = engine.absent(index, &gap);
                let (outcome, reason) = match found.exception {
                    Some(at) => (
                        Outcome::Excepted,
                        format!("excepted: {}", detector.exceptions[usize::from(at)].reason),
                    ),
                    None => (Outcome::Alert, explain::absence(&gap, &engine.detectors)),
                };
                self.raised.push_back(Judgement {
                    found,
                    outcome,
                    reason,
                });
            }
        }
        self.absence
            .forget_before(now.saturating_sub(absence::KEPT_SECS));
    }

    /// Namespaces that are without a network policy for too long.
    fn miss_policies(
        &mut self,
        engine: &Engine,
        index: DetectorIndex,
        after: SignedDuration,
        now: i64,
        live: bool,
    ) {
        let detector = engine.detector(index);
        let bare = self
            .inventory
            .take_bare(detector.state_hash, after, now, live);
        for bare in bare {
            let Some(found) = engine.without_policy(index, &bare) else {
                continue;
            };
            let (outcome, reason) = match found.exception {
                Some(at) => (
                    Outcome::Excepted,
                    format!("excepted: {}", detector.exceptions[usize::from(at)].reason),
                ),
                None => (Outcome::Alert, explain::without_policy(&bare)),
            };
            self.raised.push_back(Judgement {
                found,
                outcome,
                reason,
            });
        }
    }

    /// The machine's clock was wrong until now, or is from now on: what is silent by it is silent
    /// from now.
    pub fn clock_was_set(&mut self) {
        self.absence.begin_anew();
    }

    /// The detectors among `detectors` that still learn at `now`, with the clusters where they do and
    /// when the last of these is learned.
    pub fn learning<'d>(
        &self,
        detectors: &'d [Detector],
        now: Timestamp,
    ) -> Vec<(&'d Detector, usize, Timestamp)> {
        let until = |detector: &Detector, learn: SignedDuration, cluster: &str| {
            let scope = first_seen::scope(detector.state_hash, cluster);
            let since = self.first_seen.watched_since(&scope)?;
            let until = Timestamp::from_second(since.saturating_add(learn.as_secs())).ok()?;
            (until > now).then_some(until)
        };
        let of = |detector: &'d Detector| {
            let StateSpec::FirstSeen { learn, .. } = detector.state else {
                return None;
            };
            let clusters = self.absence.clusters();
            let times: Vec<_> = clusters
                .filter_map(|cluster| until(detector, learn, cluster))
                .collect();
            Some((detector, times.len(), times.into_iter().max()?))
        };
        detectors.iter().filter_map(of).collect()
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
        found.summary = explain::on_behalf(&found.summary, &found.on_behalf_of);
    }
    Judgement {
        found,
        outcome: Outcome::Alert,
        reason: explain::sequence(chain),
    }
}
