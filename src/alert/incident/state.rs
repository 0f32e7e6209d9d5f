//! The open incidents: findings joined by shared traces, converging whatever order they come in.
//!
//! Of each trace and role the stretches of time are kept in which no two uses lie further apart than the
//! window; an incident is what hangs together over such stretches. A finding within the window of any
//! use of a stretch is within the window of the stretch, and the other way round, so that neither the
//! union of stretches nor what joins them depends on the order of their parts; nor do the steps, which
//! are kept by alert and actor. Everything is bounded: what no longer fits is counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasherDefault;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::links::Links;
use super::steps::{Kept, StepKey, once};
use super::{Incident, SCHEMA, Step, account};
use crate::alert::{Alert, Kind, ObjectId, Severity, Status};
use crate::detect::matches::{Digest128, DigestHasher, Match, StateKey};
use crate::detect::techniques;
use crate::event::trace::{Role, Tie, Trace, TraceKind};

/// Open incidents kept at most; beyond, the one longest without a finding closes.
const MAX_OPEN: usize = 10_000;

/// Steps that one incident keeps.
const MAX_STEPS: usize = 128;

/// Ids that an incident was told under before.
const MAX_TOLD: usize = 16;

type Digests<V> = HashMap<Digest128, V, BuildHasherDefault<DigestHasher>>;

/// A finding as it joins: its match, the alert it went to, and what the account shows of it.
#[derive(Debug)]
pub struct Finding<'f> {
    pub found: &'f Match,
    pub alert: &'f Alert,
    pub fingerprint: Digest128,
}

/// All open incidents.
#[derive(Debug)]
pub struct Incidents {
    /// Seconds of event time.
    window: i64,
    /// Bytes that open incidents hold at most.
    quota: usize,
    /// What they hold: the sum of [`Open::bytes`].
    bytes: usize,
    open: Digests<Open>,
    /// By tie: stretches of time and whose they are.
    ties: Digests<Vec<Stretch>>,
    /// By the time at which they close if nothing more comes.
    by_end: BTreeSet<(i64, Digest128)>,
    changed: BTreeSet<Digest128>,
    closed: Vec<Digest128>,
    /// To be told to receivers of incidents.
    due: BTreeSet<Digest128>,
    displaced: Vec<Closing>,
    evicted: u64,
}

/// An incident that nothing can join any more.
#[derive(Debug)]
pub struct Closing {
    open: Open,
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

impl Default for Incidents {
    fn default() -> Incidents {
        Incidents::new(SignedDuration::from_hours(12))
    }
}

#[derive(Debug, Clone, Copy)]
struct Stretch {
    first: i64,
    last: i64,
    incident: Digest128,
}

/// An open incident.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Open {
    cluster: String,
    cluster_name: String,
    links: Links,
    /// Boxed: a node of the map has room for eleven, and most incidents have one or two.
    steps: BTreeMap<StepKey, Box<Kept>>,
    /// Findings that were of steps beyond those that are kept.
    beyond: u64,
    /// Receivers that take it as an incident.
    receivers: BTreeSet<String>,
    told: Told,
    /// Something is to be told that was not yet.
    owed: bool,
    /// The incident's id, while its earliest step stays the same.
    #[serde(skip)]
    id: Option<String>,
    /// What its steps hold in memory.
    #[serde(skip)]
    held: usize,
}

/// What receivers know of an incident.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Told {
    ids: Vec<String>,
    sequence: u32,
    severity: Option<Severity>,
    /// Wall time, seconds.
    at: i64,
}

impl Open {
    fn severity(&self) -> Option<Severity> {
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

    fn add(&mut self, finding: &Finding<'_>) {
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

    fn bytes(&self) -> usize {
        size_of::<Open>() + self.links.bytes() + self.held
    }

    /// Counts anew what is in no snapshot.
    fn count_bytes(&mut self) {
        self.links.count_bytes();
        self.held = self.steps.values().map(|kept| kept.held()).sum();
    }

    /// The id, computed only where the earliest step may be another than before.
    fn current_id(&mut self) -> &str {
        if self.id.is_none() {
            self.id = Some(self.id());
        }
        self.id.as_deref().unwrap_or_default()
    }

    fn absorb(&mut self, other: Open, window: i64) {
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

    fn incident(&self, status: Status) -> Incident {
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
        let mut uses: BTreeMap<&Trace, u64> = BTreeMap::new();
        for (_, link) in self.links.iter() {
            *uses.entry(&link.tie.trace).or_default() += link.count;
        }
        let mut joined_by: Vec<Trace> = uses
            .into_iter()
            .filter(|(trace, count)| *count > 1 && trace.kind != TraceKind::Alert)
            .map(|(trace, _)| trace.clone())
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
                .is_none_or(|actor| !known(actor, false)),
            TraceKind::Object => value
                .rsplit_once(" by ")
                .and_then(|(_, actor)| actor.rsplit_once(" from "))
                .is_none_or(|(actor, _)| !known(actor, true)),
            _ => true,
        });
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
            joined_by,
            steps,
            beyond: self.beyond,
        }
    }
}

impl Incidents {
    /// Findings further apart than `window` (event time) are not joined by what they share.
    pub fn new(window: SignedDuration) -> Incidents {
        Incidents {
            window: window.as_secs().max(1),
            quota: usize::MAX,
            bytes: 0,
            open: Digests::default(),
            ties: Digests::default(),
            by_end: BTreeSet::new(),
            changed: BTreeSet::new(),
            closed: Vec::new(),
            due: BTreeSet::new(),
            displaced: Vec::new(),
            evicted: 0,
        }
    }

    /// Open incidents are to hold no more than `bytes`, about.
    pub fn set_quota(&mut self, bytes: usize) {
        self.quota = bytes;
    }

    /// Bytes that open incidents hold, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Another window, as after a reload; what is joined stays joined.
    pub fn set_window(&mut self, window: SignedDuration) {
        let window = window.as_secs().max(1);
        if window != self.window {
            self.window = window;
            self.by_end = self
                .open
                .iter()
                .map(|(key, open)| (open.links.last().saturating_add(window), *key))
                .collect();
        }
    }

    /// Adds a finding; gives the key and the id of its incident. Hygiene is part of none.
    pub fn add(&mut self, finding: &Finding<'_>) -> Option<(Digest128, &str)> {
        if finding.alert.detector.kind == Kind::Hygiene {
            return None;
        }
        let occurrence = &finding.found.occurrence;
        let now = occurrence.clock().as_second();
        let ties = joining(finding);
        let keyed: Vec<(Digest128, &Tie)> = ties
            .iter()
            .map(|tie| (digest(&occurrence.cluster, &tie.trace), tie))
            .collect();
        let window = self.window;
        let mut touched: BTreeSet<Digest128> = BTreeSet::new();
        for (trace, tie) in &keyed {
            for other in Role::ALL {
                let (before, after) = (other.leads_to(tie.role), tie.role.leads_to(other));
                if !before && !after {
                    continue;
                }
                let near = |stretch: &&Stretch| {
                    let Stretch { first, last, .. } = **stretch;
                    let before = before && now >= first && now <= last.saturating_add(window);
                    let after = after && now <= last && now >= first.saturating_sub(window);
                    before || after
                };
                let stretches = self.ties.get(&of_role(*trace, other)).into_iter().flatten();
                touched.extend(stretches.filter(near).map(|stretch| stretch.incident));
            }
        }
        // Of several that turn out to be one, the one with most to move stays where it is.
        let key = touched
            .iter()
            .copied()
            .max_by_key(|key| self.open.get(key).map_or(0, |open| open.links.len()))
            .unwrap_or_else(|| {
                Digest128::of([
                    &finding.fingerprint.bytes()[..],
                    &occurrence.request.bytes(),
                    &now.to_be_bytes(),
                ])
            });
        if touched.len() > 1 {
            self.join(key, touched);
        }
        let open = self.open.entry(key).or_insert_with(|| Open {
            cluster: occurrence.cluster.to_string(),
            cluster_name: occurrence.cluster_name.clone(),
            links: Links::default(),
            steps: BTreeMap::new(),
            beyond: 0,
            receivers: BTreeSet::new(),
            told: Told::default(),
            owed: false,
            id: None,
            held: 0,
        });
        let before = open.links.last();
        // A new one counts nothing yet.
        let bytes_before = match open.steps.is_empty() {
            true => 0,
            false => open.bytes(),
        };
        for (trace, tie) in keyed {
            let tie_key = of_role(trace, tie.role);
            let Some((first, last)) = open.links.add(tie_key.0, tie, now, window) else {
                continue;
            };
            let stretches = self.ties.entry(tie_key).or_default();
            stretches
                .retain(|other| other.incident != key || other.last < first || other.first > last);
            stretches.push(Stretch {
                first,
                last,
                incident: key,
            });
        }
        let end = open.links.last();
        if open.steps.is_empty() || end != before {
            self.by_end.remove(&(before.saturating_add(window), key));
            self.by_end.insert((end.saturating_add(window), key));
        }
        open.add(finding);
        self.bytes = self.bytes - bytes_before + open.bytes();
        if open.owed {
            self.due.insert(key);
        }
        self.changed.insert(key);
        while (self.open.len() > MAX_OPEN || self.bytes > self.quota && self.open.len() > 1)
            && let Some((_, first)) = self.by_end.first().copied()
        {
            let displaced = self.close(first);
            self.displaced.extend(displaced);
            self.evicted += 1;
        }
        self.open.get_mut(&key).map(|open| (key, open.current_id()))
    }

    /// Makes one of the incidents that a finding has turned out to join.
    fn join(&mut self, key: Digest128, parts: BTreeSet<Digest128>) {
        let Some(mut open) = self.take(key) else {
            return;
        };
        for other in parts.into_iter().filter(|other| *other != key) {
            self.due.remove(&other);
            if let Some(absorbed) = self.take(other) {
                self.closed.push(other);
                self.changed.remove(&other);
                open.absorb(absorbed, self.window);
            }
        }
        self.put(key, open);
    }

    /// `receivers` take the incident in place of an alert of it, which is to be told now.
    pub fn tell(&mut self, key: Digest128, receivers: Vec<String>) {
        if let Some(open) = self.open.get_mut(&key)
            && !receivers.is_empty()
        {
            open.receivers.extend(receivers);
            open.owed = true;
            self.due.insert(key);
            self.changed.insert(key);
        }
    }

    /// Incidents to tell at `now` (wall time), with their receivers: new ones and ones that became
    /// graver at once, others when `debounce` has passed since they were last told.
    pub fn take_due(
        &mut self,
        now: Timestamp,
        debounce: SignedDuration,
    ) -> Vec<(Incident, Vec<String>)> {
        let mut told = Vec::new();
        let due = std::mem::take(&mut self.due);
        for key in due {
            let Some(open) = self.open.get_mut(&key) else {
                continue;
            };
            let severity = open.severity();
            let waits = open.told.sequence > 0
                && severity <= open.told.severity
                // A clock that was set back must not silence anybody.
                && (0..debounce.as_secs()).contains(&(now.as_second() - open.told.at));
            if waits {
                self.due.insert(key);
                continue;
            }
            let mut incident = Open::told(open, severity, now);
            incident.detected_at = Some(now);
            told.push((incident, open.receivers.iter().cloned().collect()));
            self.changed.insert(key);
        }
        told
    }

    /// Closes the incidents that nothing can join any more at `now` (event time), and gives them.
    pub fn close_quiet(&mut self, now: Timestamp) -> Vec<Closing> {
        std::iter::from_fn(|| self.close_one(now)).collect()
    }

    /// The next of [`Incidents::close_quiet`].
    pub fn close_one(&mut self, now: Timestamp) -> Option<Closing> {
        if let Some(displaced) = self.displaced.pop() {
            return Some(displaced);
        }
        let (end, key) = self.by_end.first().copied()?;
        (end < now.as_second()).then(|| self.close(key)).flatten()
    }

    /// Closes what is still open, as at the end of an archive.
    pub fn close_all(&mut self) -> Vec<Closing> {
        self.close_quiet(Timestamp::MAX)
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Incidents that closed because of the bound.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn close(&mut self, key: Digest128) -> Option<Closing> {
        let open = self.take(key)?;
        self.changed.remove(&key);
        self.due.remove(&key);
        self.closed.push(key);
        Some(Closing { open })
    }

    fn take(&mut self, key: Digest128) -> Option<Open> {
        let open = self.open.remove(&key)?;
        self.bytes -= open.bytes();
        self.by_end
            .remove(&(open.links.last().saturating_add(self.window), key));
        for tie in open.links.ties() {
            let tie = Digest128(tie);
            if let Some(stretches) = self.ties.get_mut(&tie) {
                stretches.retain(|stretch| stretch.incident != key);
                if stretches.is_empty() {
                    self.ties.remove(&tie);
                }
            }
        }
        Some(open)
    }

    fn put(&mut self, key: Digest128, mut open: Open) {
        open.count_bytes();
        self.bytes += open.bytes();
        for (tie, link) in open.links.iter() {
            self.ties.entry(Digest128(tie)).or_default().push(Stretch {
                first: link.first,
                last: link.last,
                incident: key,
            });
        }
        self.by_end
            .insert((open.links.last().saturating_add(self.window), key));
        self.open.insert(key, open);
    }

    /// What changed since the last call.
    pub fn take_delta(&mut self) -> Delta {
        let changed = std::mem::take(&mut self.changed);
        Delta {
            closed: std::mem::take(&mut self.closed)
                .into_iter()
                .map(|key| key.0)
                .collect(),
            changed: changed
                .into_iter()
                .filter_map(|key| self.open.get(&key).map(|open| (key.0, open.clone())))
                .collect(),
        }
    }

    /// As [`Incidents::take_delta`], for a process that keeps nothing.
    pub fn forget_delta(&mut self) {
        self.changed.clear();
        self.closed.clear();
    }

    /// Puts back what [`Incidents::take_delta`] gave. What was to be told and was not is due.
    pub fn apply(&mut self, delta: Delta) {
        for key in delta.closed {
            self.take(Digest128(key));
            self.due.remove(&Digest128(key));
        }
        for (key, open) in delta.changed {
            let key = Digest128(key);
            self.take(key);
            match open.owed {
                true => self.due.insert(key),
                false => self.due.remove(&key),
            };
            self.put(key, open);
        }
        self.closed.clear();
    }

    pub fn snapshot(&self) -> Delta {
        Delta {
            closed: Vec::new(),
            changed: self
                .open
                .iter()
                .map(|(key, open)| (key.0, open.clone()))
                .collect(),
        }
    }
}

impl Open {
    /// The incident as it is told now, which is remembered.
    fn told(open: &mut Open, severity: Option<Severity>, now: Timestamp) -> Incident {
        open.told.sequence += 1;
        open.told.at = now.as_second();
        open.told.severity = severity;
        open.owed = false;
        let incident = open.incident(Status::Open);
        if !open.told.ids.contains(&incident.id) {
            open.told.ids.push(incident.id.clone());
        }
        if open.told.ids.len() > MAX_TOLD {
            open.told.ids.remove(0);
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

/// What ties a finding to others. What nobody is woken for is tied by who did it from where only:
/// people restart one another's workloads all day, and an object that an intruder touched too must not
/// make one incident of them all. Nor is that enough where it is the actor's everyday work: who goes
/// wrong at noon has worked all morning. That is tied by what the actor did to the same object from
/// the same place besides, and by a foreign address.
fn joining(finding: &Finding<'_>) -> Vec<Tie> {
    let occurrence = &finding.found.occurrence;
    let user = &occurrence.actor.user;
    let told = finding.found.severity >= Severity::Medium;
    let usual = finding.found.usual && !told;
    let joins = |kind: TraceKind| match kind {
        TraceKind::Address => true,
        TraceKind::SharedIdentity | TraceKind::Credential => !usual,
        _ => told,
    };
    let mut joining: Vec<Tie> = occurrence
        .traces
        .iter()
        .filter(|tie| joins(tie.trace.kind))
        .cloned()
        .collect();
    let acts = |kind, value| Tie {
        trace: Trace { kind, value },
        role: Role::Acts,
    };
    // The platform does everyone's work: it acts as nobody.
    let acted = |tie: &Tie| matches!(tie.role, Role::Acts | Role::Bears);
    if !user.is_empty() && occurrence.traces.iter().any(acted) {
        let address = occurrence.source_ip.address.as_deref().unwrap_or_default();
        if !usual && !address.is_empty() {
            joining.push(acts(
                TraceKind::SharedIdentity,
                format!("{user} from {address}"),
            ));
        }
        let object = &occurrence.object;
        // Which of many objects was one too many is chance.
        let of_many = matches!(
            finding.found.state,
            StateKey::Count {
                distinct: Some(_),
                ..
            }
        );
        if (usual || told) && !of_many && !object.name.is_empty() {
            let ObjectId {
                resource,
                namespace,
                name,
                ..
            } = object;
            joining.push(acts(
                TraceKind::Object,
                format!("{resource} {namespace}/{name} by {user} from {address}"),
            ));
        }
    }
    if joining.is_empty() {
        joining.push(acts(
            TraceKind::Alert,
            format!("{} {user}", finding.fingerprint.hex()),
        ));
    }
    joining.sort();
    joining.dedup();
    joining
}

fn digest(cluster: &str, trace: &Trace) -> Digest128 {
    Digest128::of([
        cluster.as_bytes(),
        &[trace.kind as u8],
        trace.value.as_bytes(),
    ])
}

/// Stands for a tie: the trace's digest, which is worked out once, with the role in it.
fn of_role(trace: Digest128, role: Role) -> Digest128 {
    Digest128(trace.0 ^ role as u128)
}

/// What one batch of findings did to the open incidents; a snapshot is the delta from nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Delta {
    closed: Vec<u128>,
    changed: Vec<(u128, Open)>,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.changed.is_empty()
    }
}
