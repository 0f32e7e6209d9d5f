//! A detector as the engine runs it: names resolved, sets built, templates and conditions compiled.
//!
//! Made from a [`Spec`] by [`crate::detect::load`], tuned by the site's configuration.

use std::sync::Arc;

use jiff::SignedDuration;

use super::condition::Condition;
use super::inventory::known::Asked;
use super::matches::Digest128;
use super::spec;
use super::state::window::Counting;
use super::summary::Summary;
use crate::alert::{DetectorRef, Severity};
use crate::config::ExceptionConfig;
use crate::event::fact::Bits;
use crate::event::site::Names;
use crate::event::{Category, Field, LineKind, Stage};

#[derive(Debug, Clone)]
pub struct Detector {
    pub id: String,
    /// What alerts say of the detector. Its hash is of the file as loaded; after a merge, of the merged
    /// text.
    pub reference: Arc<DetectorRef>,
    /// Where it was read from: the path of a site's file, or `shipped`.
    pub file: String,
    pub severity: Severity,
    pub enabled: bool,
    /// A finding raises no alert: sequences build on it.
    pub signal: bool,
    pub covers: Vec<String>,
    pub guide: Arc<str>,
    pub attack: Arc<[String]>,
    pub requires: Vec<Category>,
    pub description: String,
    pub false_positives: Vec<String>,
    pub triage: Arc<str>,
    pub remedy: Arc<str>,
    pub references: Arc<[String]>,
    pub matching: Matcher,
    pub raise: Vec<Raise>,
    /// Severities that are not exceeded where more is known.
    pub lower: Vec<Raise>,
    pub habit: Option<Habit>,
    pub state: StateSpec,
    /// Hash of what decides the state's meaning: remembered state is kept while it agrees.
    pub state_hash: u64,
    /// Digest of the id, for keys of requests.
    pub digest: Digest128,
    pub summary: Summary,
    pub group_by: Vec<Field>,
    pub quiet_for: SignedDuration,
    pub exceptions: Vec<ExceptionConfig>,
    pub tests: Vec<spec::Test>,
    pub equivalent: Vec<spec::Equivalent>,
}

impl Detector {
    /// Everything that is asked of the inventory for the detector.
    pub fn known(&self) -> Bits {
        self.raise
            .iter()
            .map(|raise| &raise.known)
            .chain([&self.matching.known])
            .fold(Bits::EMPTY, |all, asked| {
                all.union(&asked.facts).union(&asked.not)
            })
    }

    /// The gravest severity that the detector can give.
    pub fn worst(&self) -> Severity {
        self.raise
            .iter()
            .map(|raise| raise.severity)
            .fold(self.severity, Severity::max)
    }
}

/// Which events are candidates, and what must be known of them.
#[derive(Debug, Clone)]
pub struct Matcher {
    pub groups: Option<Vec<String>>,
    pub resources: Option<Vec<String>>,
    pub subresources: Option<Vec<String>>,
    pub verbs: Option<Vec<String>>,
    /// Empty means every stage but `RequestReceived`, which tells no outcome.
    pub stages: Vec<Stage>,
    pub nonresource: Option<Names>,
    /// A detector with lines sees no audit event, one without sees no line. Without a single kind, it
    /// sees nothing at all.
    pub lines: Option<Vec<LineKind>>,
    pub facts: Bits,
    pub not: Bits,
    /// Facts that the ordered half has to ask for.
    pub known: Asked,
    pub when: Option<Condition>,
}

impl Matcher {
    /// For a detector of other detectors, which no event interests by itself.
    pub fn nothing() -> Matcher {
        Matcher {
            groups: None,
            resources: None,
            subresources: None,
            verbs: None,
            stages: Vec::new(),
            nonresource: None,
            lines: Some(Vec::new()),
            facts: Bits::EMPTY,
            not: Bits::EMPTY,
            known: Asked::default(),
            when: None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Raise {
    pub facts: Bits,
    pub not: Bits,
    pub known: Asked,
    pub severity: Severity,
}

/// Which matches may become a habit, and what is alike in them.
#[derive(Debug, Clone)]
pub struct Habit {
    pub key: Vec<Field>,
    pub facts: Bits,
    pub not: Bits,
}

/// What a detector remembers.
#[derive(Debug, Clone)]
pub enum StateSpec {
    None,
    FirstSeen {
        key: Vec<Field>,
        value: Vec<Field>,
        learn: SignedDuration,
        teach: Vec<String>,
        new_key: spec::NewKey,
    },
    Threshold {
        key: Vec<Field>,
        distinct: Option<Field>,
        count: u32,
        window: SignedDuration,
    },
    Spike {
        key: Vec<Field>,
        distinct: Option<Field>,
        count: u32,
        limit: u32,
        window: SignedDuration,
        learn: SignedDuration,
        /// Of these, `count` values must be new; empty where that does not matter.
        new_to: Vec<Field>,
    },
    Sequence {
        within: SignedDuration,
        steps: Vec<Step>,
    },
    Absence {
        of: Absent,
        after: SignedDuration,
    },
    /// Of an audit ID.
    Reuse {
        within: SignedDuration,
    },
}

impl StateSpec {
    /// Of a threshold or spike: by which fields it counts, which values, and how far.
    pub fn counting(&self) -> Option<(&[Field], Option<Field>, Counting)> {
        let (key, distinct, count, window, spike) = match self {
            StateSpec::Threshold {
                key,
                distinct,
                count,
                window,
            } => (key, distinct, count, window, false),
            StateSpec::Spike {
                key,
                distinct,
                limit,
                window,
                ..
            } => (key, distinct, limit, window, true),
            _ => return None,
        };
        let counting = Counting {
            count: *count,
            window: *window,
            distinct: distinct.is_some(),
            spike,
        };
        Some((key, *distinct, counting))
    }
}

/// What an absence is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Everything of a cluster.
    Cluster,
    /// One category of a cluster, while others go on.
    Category,
    /// Every network policy of a namespace that was made a while ago, or whose last one was deleted.
    NetworkPolicy,
}

/// A step of a sequence: what one of `detectors` finds.
#[derive(Debug, Clone)]
pub struct Step {
    /// Ids.
    pub detectors: Vec<String>,
    pub key: Vec<Field>,
    pub facts: Bits,
    pub not: Bits,
}
