//! The ordered half of detection: what a match is, given everything before it.
//!
//! Matches come from [`crate::detect::engine`], in the order of their partition (live) or of event
//! time (replay). Duplicates of a request go first, then exceptions, then the detector's state; what
//! is left is a finding and goes to [`crate::alert::group`].

mod counting;
mod known;
mod reuse;
mod steps;
mod ticks;

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::alert::Severity;
use crate::detect::detector::{Detector, StateSpec};
use crate::detect::engine::Engine;
use crate::detect::explain;
use crate::detect::index::DetectorIndex;
use crate::detect::inventory::Inventory;
use crate::detect::matches::{Digest128, Match, StateKey};
use crate::detect::occurrence::Occurrence;
use crate::detect::scratch::Counts;
use crate::detect::spec::NewKey;
use crate::detect::state::absence::Absence;
use crate::detect::state::first_seen::{self, Answer, FirstSeen};
use crate::detect::state::habit::{HABIT, Habits, MARGIN_SECS, NIGHT_SECS};
use crate::detect::state::held::Held;
use crate::detect::state::recall::Recall;
use crate::detect::state::requests::Requests;
use crate::detect::state::reused::Reused;
use crate::detect::state::sequence::Sequences;
use crate::detect::state::spike::Spikes;
use crate::detect::state::streams::Streams;
use crate::detect::state::threshold::Thresholds;
use crate::detect::state::unsure::Unsure;
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

    /// Whether the detector has found something, whoever hears of it.
    pub fn is_finding(self) -> bool {
        matches!(self, Outcome::Alert | Outcome::Signal)
    }

    /// What a finding of the detector becomes.
    fn of(detector: &Detector) -> Outcome {
        match detector.signal {
            true => Outcome::Signal,
            false => Outcome::Alert,
        }
    }

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
        if judgement.outcome == Outcome::Alert {
            judgement.outcome = Outcome::of(engine.detector(index));
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

    /// What was found besides the match at hand; the site's exceptions hold for it as well.
    fn raise(&mut self, detector: &Detector, found: Match, reason: String) {
        let (outcome, reason) = match excepted(detector, &found) {
            Some(reason) => (Outcome::Excepted, reason),
            None => (Outcome::of(detector), reason),
        };
        self.raised.push_back(Judgement {
            found,
            outcome,
            reason,
        });
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
        if let Some(reason) = excepted(detector, &found) {
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
                    teach: teach.iter().any(|verb| verb == occurrence.verb()),
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
                self.counted(state, *key, value, *novelty, &occurrence)
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
        let impersonated = occurrence.impersonated();
        let key = Digest128::of([
            b"usual".as_slice(),
            &engine.detector(found.detector).digest.bytes(),
            occurrence.cluster.as_bytes(),
            occurrence.user().as_bytes(),
            impersonated.unwrap_or_default().as_bytes(),
            product(occurrence.user_agent())
                .to_ascii_lowercase()
                .as_bytes(),
            occurrence.came_from.as_bytes(),
        ]);
        self.habits.ask(key, occurrence.owner, time, NIGHT_SECS) > 0
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

/// Why the match is no finding, where one of the site's exceptions covers it.
fn excepted(detector: &Detector, found: &Match) -> Option<String> {
    let at = found.exception?;
    let reason = &detector.exceptions[usize::from(at)].reason;
    Some(format!("excepted: {reason}"))
}
