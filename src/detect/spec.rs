//! A detector's file, as TOML spells it. [`crate::detect::load`] checks what serde cannot.
//!
//! The shape is described for authors in `detectors/README.md`; `deny_unknown_fields` makes a
//! misspelt key an error with its position.

use serde::Deserialize;
use toml::Spanned;

use crate::alert::{Kind, Severity};

/// One file of `detectors/`, or of a site's own folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The file's stem, in kebab-case; never changes.
    pub id: Spanned<String>,
    /// Raised by one with every change of what it matches.
    pub revision: u32,
    pub title: String,
    pub kind: Kind,
    /// Unless a `[[raise]]` says otherwise.
    pub severity: Severity,
    /// Rows of `docs/coverage.md`.
    #[serde(default)]
    pub covers: Vec<Spanned<String>>,
    /// Section of the hardening guide.
    #[serde(default)]
    pub guide: String,
    /// ATT&CK techniques.
    #[serde(default)]
    pub attack: Vec<Spanned<String>>,
    /// Categories without which the detector is blind.
    pub requires: Vec<Spanned<String>>,
    pub description: String,
    pub false_positives: Vec<String>,
    pub triage: String,
    pub remedy: String,
    #[serde(default)]
    pub references: Vec<String>,
    /// How a site's file with a shipped id relates to it.
    #[serde(default, rename = "override")]
    pub override_shipped: Option<Override>,
    /// A finding raises no alert: it is there for sequences to build on.
    #[serde(default)]
    pub signal: bool,
    /// Not there where a detector is of other detectors (`[sequence]`, `[reuse]`) or of no event
    /// (`[absence]`).
    #[serde(default, rename = "match")]
    pub matching: Option<Match>,
    #[serde(default)]
    pub raise: Vec<Raise>,
    #[serde(default)]
    pub lower: Vec<Raise>,
    #[serde(default)]
    pub habit: Option<Habit>,
    #[serde(default)]
    pub first_seen: Option<Spanned<FirstSeen>>,
    #[serde(default)]
    pub threshold: Option<Spanned<Threshold>>,
    #[serde(default)]
    pub spike: Option<Spanned<Spike>>,
    #[serde(default)]
    pub sequence: Option<Spanned<Sequence>>,
    #[serde(default)]
    pub absence: Option<Spanned<Absence>>,
    #[serde(default)]
    pub reuse: Option<Spanned<Reuse>>,
    pub alert: AlertSpec,
    #[serde(default)]
    pub test: Vec<Spanned<Test>>,
    /// Mutants that change nothing, each with its reason.
    #[serde(default)]
    pub equivalent: Vec<Equivalent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Override {
    /// The keys of the site's file replace the shipped ones, table by table.
    Merge,
    /// The site's file stands alone.
    Replace,
}

/// Exact sets, all of which must hold; an absent one holds for any event.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// API groups; `""` is core.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
    #[serde(default)]
    pub resources: Option<Vec<String>>,
    /// `""` is none.
    #[serde(default)]
    pub subresources: Option<Vec<String>>,
    #[serde(default)]
    pub verbs: Option<Vec<String>>,
    /// Default: every stage that tells the outcome.
    #[serde(default)]
    pub stages: Option<Vec<Spanned<String>>>,
    /// Kinds of lines of the API server's own log; the detector then sees no audit event.
    #[serde(default)]
    pub lines: Option<Vec<Spanned<String>>>,
    /// Globs over the path of requests that name no resource.
    #[serde(default)]
    pub nonresource: Option<Vec<Spanned<String>>>,
    /// All known to be true.
    #[serde(default)]
    pub facts: Vec<Spanned<String>>,
    /// All known to be false.
    #[serde(default)]
    pub not: Vec<Spanned<String>>,
    /// A condition in CEL over fields.
    #[serde(default)]
    pub when: Option<Spanned<String>>,
}

/// A severity for events of which more is known; of several the gravest counts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raise {
    #[serde(default)]
    pub facts: Vec<Spanned<String>>,
    #[serde(default)]
    pub not: Vec<Spanned<String>>,
    pub severity: Severity,
}

/// What is lowered to `low` once it was seen on several days: listed, and nobody is woken.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Habit {
    /// What is alike in matches of one habit; the cluster always is.
    pub key: Vec<Spanned<String>>,
    /// Of which matches there are habits: all known to be true …
    #[serde(default)]
    pub facts: Vec<Spanned<String>>,
    /// … and all known to be false.
    #[serde(default)]
    pub not: Vec<Spanned<String>>,
}

/// Raises when a key shows a value that it never showed before.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstSeen {
    /// Whose habits are remembered.
    pub key: Vec<Spanned<String>>,
    /// What is new. A list field counts element by element.
    pub value: Vec<Spanned<String>>,
    /// How long a cluster is watched before anything is raised.
    pub learn: Spanned<String>,
    /// Verbs whose events are remembered and never raised.
    #[serde(default)]
    pub teach: Vec<String>,
    /// What a key is that appears after the learning time.
    #[serde(default)]
    pub new_key: NewKey,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NewKey {
    /// A finding.
    #[default]
    Raise,
    /// Nothing by itself: nodes come and go. Its first values are learned.
    Learn,
}

/// Raises when a key reaches a count within a sliding window of event time.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    pub key: Vec<Spanned<String>>,
    /// Counts the different values of this field instead of events.
    #[serde(default)]
    pub distinct: Option<Spanned<String>>,
    pub count: u32,
    pub window: Spanned<String>,
}

/// Raises when a key does far more within a window than it ever does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spike {
    pub key: Vec<Spanned<String>>,
    /// Counts the different values of this field instead of events.
    #[serde(default)]
    pub distinct: Option<Spanned<String>>,
    /// Fewer are never a spike; enough of a key of which too little is known.
    pub count: u32,
    /// So many always are one, whatever the key did before.
    pub limit: u32,
    pub window: Spanned<String>,
    /// How far back a key's first activity must lie before its past counts.
    pub learn: Spanned<String>,
    /// Of the different values, `count` must be such as these together never showed before.
    #[serde(default)]
    pub new_to: Vec<Spanned<String>>,
}

/// Raises when what other detectors find follows one upon the other.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// What the steps have in common; an event that lacks one of them is no step.
    pub key: Vec<Spanned<String>>,
    /// From the first step to the last.
    pub within: Spanned<String>,
    /// In the order in which they happen.
    pub step: Vec<Spanned<Step>>,
}

/// A finding of one of some detectors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Ids of detectors, which must not be of sequences themselves.
    pub detectors: Vec<Spanned<String>>,
    /// Fields in place of the sequence's `key`, one for each.
    #[serde(default)]
    pub key: Option<Spanned<Vec<Spanned<String>>>>,
    /// What must be known of the event besides.
    #[serde(default)]
    pub facts: Vec<Spanned<String>>,
    #[serde(default)]
    pub not: Vec<Spanned<String>>,
}

/// Raises when what came steadily comes no more.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absence {
    /// `cluster`: everything of a cluster; `category`: one category, while others of it go on;
    /// `network-policy`: every policy of a namespace.
    pub of: Spanned<String>,
    /// How long nothing came.
    pub after: Spanned<String>,
}

/// Raises when two requests that other detectors want have the same audit ID.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reuse {
    /// How long after the first.
    pub within: Spanned<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertSpec {
    /// A minijinja template over fields.
    pub summary: Spanned<String>,
    /// Findings that agree in these fields form one alert.
    pub group_by: Vec<Spanned<String>>,
    /// How long without a finding until the alert closes.
    pub quiet_for: Spanned<String>,
}

/// A self-test: events and what is expected of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    pub name: String,
    /// The row of `docs/coverage.md` that the test is an example of.
    #[serde(default)]
    pub row: Option<Spanned<String>>,
    pub expect: Expect,
    /// The severity that the alert must have.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// Merged over a base event: an ordinary person's `get` of a pod. With `line`, a line of the API
    /// server's own log instead.
    #[serde(default)]
    pub event: Option<toml::Table>,
    /// As `event`, one after the other; `at` moves an event on the clock (`"+90s"`), `category` says
    /// in which one it comes. `times` and `every`, and `days`, make many of one: `{n}` in its texts is
    /// then its number in its day.
    #[serde(default)]
    pub events: Option<Vec<toml::Table>>,
    /// Findings before it are looked over: they teach what is usual.
    #[serde(default)]
    pub since: Option<String>,
    /// A file beside the detector, or under `tests/fixtures/envelopes`, with whole records.
    #[serde(default)]
    pub raw: Option<Spanned<String>>,
    /// One test for each value of each key.
    #[serde(default)]
    pub each: Option<toml::Table>,
    /// Site settings that the test needs: `lists`, `private-api`.
    #[serde(default)]
    pub config: Option<toml::Table>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    Alert,
    Quiet,
}

/// A mutant that no test can notice, and why.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Equivalent {
    /// As `lanner detectors test --mutate` names it.
    pub mutant: String,
    pub reason: String,
}
