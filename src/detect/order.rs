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
use super::matches::{Match, StateKey};
use super::scratch::Counts;
use super::state::first_seen::{self, Answer, FirstSeen};
use super::state::recall::Recall;
use super::state::requests::{Requests, Seen};
use super::state::threshold::{self, Hit, Thresholds};
use crate::alert::Severity;
use crate::event::Field;

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
            first_seen: FirstSeen::new(durable),
            thresholds: Thresholds::new(durable),
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
        for hit in counts.thresholds {
            self.thresholds.refresh(hit);
        }
    }

    /// Says what the match is and remembers it. `engine` is the one that found it; after a reload
    /// it may be another than before, and state is kept where a detector's state hash agrees.
    pub fn judge(&mut self, engine: &Engine, mut found: Match) -> Judgement {
        let detector = engine.detector(found.detector);
        let occurrence = Arc::clone(&found.occurrence);
        let time = occurrence.clock();
        if occurrence.has_audit_id
            && self.requests.is_duplicate(
                detector.digest,
                occurrence.request,
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
        let (outcome, reason) = match (&detector.state, &found.state) {
            (
                StateSpec::FirstSeen { learn, teach, .. },
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
                    values,
                    time,
                    learn,
                    teach: teach.contains(&occurrence.verb),
                });
                if learn.is_none() && matches!(answer, Answer::NewValues { .. }) {
                    found.severity = found.severity.min(Severity::Low);
                }
                explain_novelty(answer, who, learn.is_none())
            }
            (
                StateSpec::Threshold {
                    distinct,
                    count,
                    window,
                    ..
                },
                StateKey::Threshold {
                    key,
                    distinct: value,
                },
            ) => {
                // The first 64 bits of the request's digest stand for the request.
                let value_or_request = value.unwrap_or(occurrence.request.0 as u64);
                let hit = Hit::new(
                    *key,
                    value_or_request,
                    value.is_some(),
                    time,
                    *count,
                    *window,
                );
                let reached = self.thresholds.ask(hit);
                if reached >= *count {
                    (
                        Outcome::Alert,
                        explain_threshold(reached, *distinct, *count, *window),
                    )
                } else {
                    (Outcome::Counted, "the threshold is not reached".to_owned())
                }
            }
            _ => (Outcome::Alert, detector.description.clone()),
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

    /// Puts a snapshot into a judge that knows nothing.
    pub fn restore(&mut self, snapshot: Snapshot) {
        snapshot
            .requests
            .into_iter()
            .for_each(|seen| self.requests.apply(seen));
        self.first_seen.restore(snapshot.first_seen);
        self.thresholds.restore(snapshot.thresholds);
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

fn explain_threshold(
    reached: u32,
    distinct: Option<Field>,
    count: u32,
    window: SignedDuration,
) -> String {
    let what = match distinct {
        Some(field) => format!("different values of {}", field.name()),
        None => "events".to_owned(),
    };
    format!(
        "{reached} {what} within {}; the threshold is {count}",
        duration_text(window)
    )
}

fn explain_novelty(answer: Answer, who: &str, archive: bool) -> (Outcome, String) {
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
            events,
            known_values,
        } => {
            let within = if archive {
                "new within this archive: "
            } else {
                ""
            };
            let times = if events == 1 { "event" } else { "events" };
            let kinds = if known_values == 1 { "value" } else { "values" };
            (
                Outcome::Alert,
                format!(
                    "{within}first time that {who} shows {} in {}; {events} {times} so far showed {known_values} {kinds}",
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
