//! The ordered half of detection: what a match is, given everything before it.
//!
//! Matches come from [`crate::detect::engine`], in the order of their partition (live) or of event
//! time (replay). Duplicates of a request go first, then exceptions, then the detector's state; what
//! is left is a finding and goes to [`crate::alert::group`].

use std::sync::Arc;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::detector::StateSpec;
use super::engine::Engine;
use super::matches::Match;
use super::state::first_seen::{self, Answer, FirstSeen};
use super::state::requests::{Requests, Seen};
use super::state::threshold::{self, Thresholds};
use crate::alert::Severity;

/// What became of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A finding.
    Alert,
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
    pub const ALL: [Outcome; 5] = [
        Outcome::Alert,
        Outcome::Counted,
        Outcome::Learning,
        Outcome::Excepted,
        Outcome::Duplicate,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Alert => "alert",
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

/// Judges matches one after the other.
#[derive(Debug)]
pub struct Judge {
    learning: Learning,
    requests: Requests,
    first_seen: FirstSeen,
    thresholds: Thresholds,
}

impl Judge {
    pub fn new(learning: Learning) -> Judge {
        Judge {
            learning,
            requests: Requests::default(),
            first_seen: FirstSeen::default(),
            thresholds: Thresholds::default(),
        }
    }

    /// Says what the match is and remembers it. `engine` is the one that found it; after a reload
    /// it may be another than before, and state is kept where a detector's state hash agrees.
    pub fn judge(&mut self, engine: &Engine, mut found: Match) -> Judgement {
        let detector = engine.detector(found.detector);
        let occurrence = Arc::clone(&found.occurrence);
        let time = occurrence.clock();
        if occurrence.has_audit_id
            && self
                .requests
                .is_duplicate(&detector.id, occurrence.request, time)
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
        let (outcome, reason) = match &detector.state {
            StateSpec::None => (Outcome::Alert, detector.description.clone()),
            StateSpec::FirstSeen { learn, teach, .. } => {
                let learn = match self.learning {
                    _ if learn.is_zero() => Some(SignedDuration::ZERO),
                    Learning::Own => Some(*learn),
                    Learning::For(learn) => Some(learn),
                    Learning::Archive => None,
                };
                let answer = self.first_seen.ask(&first_seen::Ask {
                    state_hash: detector.state_hash,
                    cluster: &occurrence.cluster,
                    key: &found.key,
                    values: &found.values,
                    time,
                    learn,
                    teach: teach.contains(&occurrence.verb),
                });
                if learn.is_none() && matches!(answer, Answer::NewValues { .. }) {
                    found.severity = found.severity.min(Severity::Medium);
                }
                explain_novelty(answer, &found, learn.is_none())
            }
            StateSpec::Threshold {
                distinct,
                count,
                window,
                ..
            } => {
                let reached = self.thresholds.ask(&threshold::Ask {
                    state_hash: detector.state_hash,
                    key: &found.key,
                    distinct: distinct.and(found.values.first()).map(String::as_str),
                    request: occurrence.request,
                    time,
                    count: *count,
                    window: *window,
                });
                let what = distinct.map_or("events".to_owned(), |field| {
                    format!("different values of {}", field.name())
                });
                let reason = format!(
                    "{reached} {what} within {}; the threshold is {count}",
                    duration_text(*window)
                );
                (
                    if reached >= *count {
                        Outcome::Alert
                    } else {
                        Outcome::Counted
                    },
                    reason,
                )
            }
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

    /// What was remembered since the last call.
    pub fn take_delta(&mut self) -> Delta {
        Delta {
            requests: self.requests.take_delta(),
            first_seen: self.first_seen.take_delta(),
            thresholds: self.thresholds.take_delta(),
        }
    }

    pub fn apply(&mut self, delta: Delta) {
        delta
            .requests
            .into_iter()
            .for_each(|seen| self.requests.apply(seen));
        delta
            .first_seen
            .iter()
            .for_each(|told| self.first_seen.apply(told));
        delta
            .thresholds
            .into_iter()
            .for_each(|hit| self.thresholds.apply(hit));
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            requests: self.requests.all(),
            first_seen: self.first_seen.snapshot(),
            thresholds: self.thresholds.snapshot(),
        }
    }

    pub fn restore(&mut self, snapshot: Snapshot) {
        self.requests = Requests::default();
        snapshot
            .requests
            .into_iter()
            .for_each(|seen| self.requests.apply(seen));
        self.first_seen = FirstSeen::restore(snapshot.first_seen);
        self.thresholds = Thresholds::restore(snapshot.thresholds);
    }

    /// Entries remembered, by operator: requests, first_seen, threshold.
    pub fn entries(&self) -> [(&'static str, usize); 3] {
        [
            ("requests", self.requests.len()),
            ("first_seen", self.first_seen.len()),
            ("threshold", self.thresholds.len()),
        ]
    }

    /// Entries that a bound pushed out.
    pub fn evicted(&self) -> u64 {
        self.requests.evicted() + self.first_seen.evicted() + self.thresholds.evicted()
    }
}

/// What one batch of matches added to the state.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Delta {
    requests: Vec<Seen>,
    first_seen: Vec<first_seen::Told>,
    thresholds: Vec<threshold::Hit>,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.first_seen.is_empty() && self.thresholds.is_empty()
    }
}

/// The whole state, for a snapshot on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    requests: Vec<Seen>,
    first_seen: first_seen::Snapshot,
    thresholds: threshold::Snapshot,
}

fn explain_novelty(answer: Answer, found: &Match, archive: bool) -> (Outcome, String) {
    let who = found.key.last().map_or("", String::as_str);
    match answer {
        Answer::Known => (Outcome::Counted, "seen before".to_owned()),
        Answer::Learning => (Outcome::Learning, "learned".to_owned()),
        Answer::NewKey { watched } if watched.is_zero() => (
            Outcome::Alert,
            format!("nothing is known of {who} yet, so all of it is new"),
        ),
        Answer::NewKey { watched } => (
            Outcome::Alert,
            format!(
                "{who} was never seen here in {} of watching",
                duration_text(watched)
            ),
        ),
        Answer::NewValues {
            values,
            seen_for,
            earlier,
            known_values,
        } => {
            let within = if archive {
                "new within this archive: "
            } else {
                ""
            };
            let times = if earlier == 1 { "event" } else { "events" };
            let kinds = if known_values == 1 { "value" } else { "values" };
            (
                Outcome::Alert,
                format!(
                    "{within}first time that {who} shows {} in {}; {earlier} earlier {times} showed {known_values} {kinds}",
                    values.join(", "),
                    duration_text(seen_for),
                ),
            )
        }
    }
}

/// As a person says it: `14 days`, `5 minutes`.
fn duration_text(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        172_800.. => (seconds / 86_400, "day"),
        7_200..=172_799 => (seconds / 3_600, "hour"),
        120..=7_199 => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
