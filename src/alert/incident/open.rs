//! One open incident: its steps, what holds it together, and what its receivers know of it.
//!
//! [`super::state`] decides what belongs to it; what leaves the process is an [`Incident`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::links::Links;
use super::state::Finding;
use super::steps::{Kept, StepKey, once};
use super::{Incident, SCHEMA, Step, account};
use crate::alert::{Severity, Status};
use crate::detect::matches::Digest128;
use crate::detect::occurrence::Occurrence;
use crate::detect::techniques;
use crate::event::tie::{Role, Trace, TraceKind};

/// Steps that one incident keeps.
const MAX_STEPS: usize = 128;

/// Ids that an incident was told under before.
const MAX_TOLD: usize = 16;

/// An open incident.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Open {
    cluster: String,
    cluster_name: String,
    pub links: Links,
    /// Boxed: a node of the map has room for eleven, and most incidents have one or two.
    pub steps: BTreeMap<StepKey, Box<Kept>>,
    /// Findings that were of steps beyond those that are kept.
    beyond: u64,
    /// Receivers that take it as an incident.
    pub receivers: BTreeSet<String>,
    pub told: Told,
    /// Something is to be told that was not yet.
    pub owed: bool,
    /// The incident's id, while its earliest step stays the same.
    #[serde(skip)]
    id: Option<String>,
    /// What its steps hold in memory.
    #[serde(skip)]
    held: usize,
}

/// What receivers know of an incident.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Told {
    ids: Vec<String>,
    pub sequence: u32,
    pub severity: Option<Severity>,
    /// Wall time, seconds.
    pub at: i64,
}

impl Open {
    /// An incident without a step, in the cluster of `occurrence`.
    pub fn new(occurrence: &Occurrence) -> Open {
        Open {
            cluster: occurrence.cluster.to_string(),
            cluster_name: occurrence.cluster_name().to_owned(),
            links: Links::default(),
            steps: BTreeMap::new(),
            beyond: 0,
            receivers: BTreeSet::new(),
            told: Told::default(),
            owed: false,
            id: None,
            held: 0,
        }
    }

    pub fn severity(&self) -> Option<Severity> {
        self.steps.values().map(|kept| kept.step.severity).max()
    }

    /// What settles which of several ids an incident has: its earliest step.
    fn origin(&self) -> (Option<Timestamp>, u128, &str) {
        self.steps
            .iter()
            .map(|(key, kept)| (kept.step.first_seen, key.fingerprint, key.actor.as_str()))
            .min()
            .unwrap_or((None, 0, ""))
    }

    fn id(&self) -> String {
        let (time, fingerprint, actor) = self.origin();
        let time = time.map_or(0, |time| time.as_nanosecond());
        Digest128::of([
            b"incident".as_slice(),
            &time.to_be_bytes(),
            &fingerprint.to_be_bytes(),
            actor.as_bytes(),
        ])
        .hex()
    }

    pub fn add(&mut self, finding: &Finding<'_>) {
        let key = StepKey::of(finding);
        let full = self.steps.len() >= MAX_STEPS;
        match self.steps.get_mut(&key) {
            Some(kept) => {
                let before = kept.held();
                if kept.add(finding) {
                    self.id = None;
                }
                self.held = self.held - before + kept.held();
            }
            None if full => self.beyond += 1,
            None => {
                let kept = Box::new(Kept::new(finding));
                self.held += kept.held();
                self.steps.insert(key, kept);
                self.id = None;
            }
        }
    }

    pub fn bytes(&self) -> usize {
        size_of::<Open>() + self.links.bytes() + self.held
    }

    /// Counts anew what is in no snapshot.
    pub fn count_bytes(&mut self) {
        self.links.count_bytes();
        self.held = self.steps.values().map(|kept| kept.held()).sum();
    }

    /// The id, computed only where the earliest step may be another than before.
    pub fn current_id(&mut self) -> &str {
        if self.id.is_none() {
            self.id = Some(self.id());
        }
        self.id.as_deref().unwrap_or_default()
    }

    pub fn absorb(&mut self, other: Open, window: i64) {
        self.id = None;
        self.links.absorb(other.links, window);
        for (key, kept) in other.steps {
            let full = self.steps.len() >= MAX_STEPS;
            match self.steps.get_mut(&key) {
                Some(here) => here.merge(*kept),
                None if full => self.beyond += kept.step.count,
                None => {
                    self.steps.insert(key, kept);
                }
            }
        }
        self.held = self.steps.values().map(|kept| kept.held()).sum();
        self.beyond += other.beyond;
        self.receivers.extend(other.receivers);
        self.owed |= other.owed;
        self.told.ids.extend(other.told.ids);
        self.told.sequence = self.told.sequence.max(other.told.sequence);
        self.told.severity = self.told.severity.max(other.told.severity);
        self.told.at = self.told.at.max(other.told.at);
    }

    pub fn incident(&self, status: Status) -> Incident {
        let mut steps: Vec<(&StepKey, Step)> = self
            .steps
            .iter()
            .map(|(key, kept)| {
                let mut step = kept.step.clone();
                step.audit_ids = kept
                    .requests
                    .iter()
                    .map(|(_, id)| id)
                    .filter(|id| !id.is_empty())
                    .cloned()
                    .collect();
                step.audit_ids.dedup();
                (key, step)
            })
            .collect();
        steps.sort_by(|(a, first), (b, second)| {
            (first.first_seen, &first.detector, a).cmp(&(second.first_seen, &second.detector, b))
        });
        let steps: Vec<Step> = steps.into_iter().map(|(_, step)| step).collect();
        let mut tactics = once(steps.iter().flat_map(|step| step.tactics.clone()));
        tactics.sort_by_key(|tactic| techniques::tactic_order(tactic));
        let id = self.id.clone().unwrap_or_else(|| self.id());
        Incident {
            schema: SCHEMA.to_owned(),
            notification_id: format!("{id}-{}-{}", self.told.sequence.max(1), version(&steps)),
            replaces: once(self.told.ids.iter().filter(|old| **old != id).cloned()),
            id,
            severity: self.severity().unwrap_or(Severity::Info),
            status,
            summary: account::headline(&steps, &tactics),
            account: account::paragraph(&steps, &tactics, self.beyond),
            cluster: self.cluster.clone(),
            cluster_name: self.cluster_name.clone(),
            first_seen: steps.iter().filter_map(|step| step.first_seen).min(),
            last_seen: steps.iter().filter_map(|step| step.last_seen).max(),
            detected_at: steps.iter().filter_map(|step| step.last_seen).max(),
            count: steps.iter().map(|step| step.count).sum::<u64>() + self.beyond,
            actors: once(steps.iter().map(|step| step.actor.clone())),
            source_ips: once(steps.iter().filter_map(|s| s.source_ip.address.clone())),
            tactics,
            attack: once(steps.iter().flat_map(|step| step.attack.clone())),
            joined_by: self.joined_by(),
            steps,
            beyond: self.beyond,
        }
    }

    /// What its findings share, as far as that says something to people.
    fn joined_by(&self) -> Vec<Trace> {
        let mut uses: BTreeMap<Trace, u64> = BTreeMap::new();
        for (_, link) in self.links.iter() {
            let Trace { kind, value } = &link.tie.trace;
            let kind = match (*kind, link.tie.role) {
                // Every finding that has one has the other, or is tied by that alone.
                (TraceKind::SharedIdentity, _) => continue,
                (TraceKind::Nearby, _) => TraceKind::SharedIdentity,
                (TraceKind::CarriedOff, Role::Acts) => TraceKind::Pod,
                // Whoever reached into the pod is tied by the pod as well.
                (TraceKind::CarriedOff, _) => continue,
                (kind, _) => kind,
            };
            let value = value.clone();
            *uses.entry(Trace { kind, value }).or_default() += link.count;
        }
        let mut joined_by: Vec<Trace> = uses
            .into_iter()
            .filter(|(trace, count)| *count > 1 && trace.kind != TraceKind::Alert)
            .map(|(trace, _)| trace)
            .collect();
        // That an identity came from one address, ran in one pod or did two things to one object
        // adds nothing to that it was the same.
        let all = joined_by.clone();
        let known = |actor: &str, from: bool| {
            all.iter().any(|trace| match trace.kind {
                TraceKind::Identity => trace.value == actor,
                TraceKind::SharedIdentity => {
                    let rest = trace.value.strip_prefix(actor);
                    from && rest.is_some_and(|rest| rest.starts_with(" from "))
                }
                _ => false,
            })
        };
        joined_by.retain(|Trace { kind, value }| match kind {
            TraceKind::SharedIdentity => value
                .rsplit_once(" from ")
                .is_none_or(|(actor, _)| !known(actor, false)),
            TraceKind::Identity => value
                .strip_suffix(" in a pod")
                .or_else(|| value.strip_suffix(" from outside"))
                .is_none_or(|actor| !known(actor, false)),
            TraceKind::Object => value
                .rsplit_once(" by ")
                .and_then(|(_, actor)| actor.rsplit_once(" from "))
                .is_none_or(|(actor, _)| !known(actor, true)),
            _ => true,
        });
        joined_by
    }

    /// The incident as it is told now, which is remembered.
    pub fn tell(&mut self, severity: Option<Severity>, now: Timestamp) -> Incident {
        self.told.sequence += 1;
        self.told.at = now.as_second();
        self.told.severity = severity;
        self.owed = false;
        let incident = self.incident(Status::Open);
        if !self.told.ids.contains(&incident.id) {
            self.told.ids.push(incident.id.clone());
        }
        if self.told.ids.len() > MAX_TOLD {
            self.told.ids.remove(0);
        }
        incident
    }
}

/// Names what is said. After a damaged database incidents go on from a snapshot, and the number of a
/// message that somebody has may be given again, to one that says more: a receiver that knows
/// messages by their ids would drop it.
fn version(steps: &[Step]) -> String {
    let steps = steps.iter().map(|step| {
        let severity = step.severity.as_str();
        format!("{} {severity} {}", step.alert, step.count)
    });
    let steps: Vec<String> = steps.collect();
    let mut version = Digest128::of(steps.iter().map(|step| step.as_bytes())).hex();
    version.truncate(8);
    version
}

/// An incident that nothing can join any more.
#[derive(Debug)]
pub struct Closing {
    pub(super) open: Open,
}

impl Closing {
    /// The whole story.
    pub fn incident(&self) -> Incident {
        self.open.incident(Status::Closed)
    }

    /// [`Incident::id`].
    pub fn id(&mut self) -> &str {
        self.open.current_id()
    }

    /// The fingerprint of each step's alert, and when the step was first and last seen.
    pub fn steps(&self) -> impl Iterator<Item = (u128, Option<Timestamp>, Option<Timestamp>)> {
        self.open
            .steps
            .iter()
            .map(|(key, kept)| (key.fingerprint, kept.step.first_seen, kept.step.last_seen))
    }

    /// Those who were told of it, or are to be.
    pub fn receivers(&self) -> Vec<String> {
        self.open.receivers.iter().cloned().collect()
    }

    /// It holds news that its receivers were not told yet.
    pub fn is_owed(&self) -> bool {
        self.open.owed
    }
}
