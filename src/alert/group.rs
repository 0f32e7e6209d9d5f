//! Findings of one fingerprint form an alert with a life: it opens, counts, and closes when quiet.
//!
//! Findings come from [`crate::detect::order`]. An alert is notified when it opens, when its severity
//! rises or another actor comes in, and again after `repeat` while findings go on; what lies between
//! is only counted, so that a storm of findings is a handful of notifications.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::incident::{self, Finding, Incidents};
use super::{Alert, Evidence, ObjectId, SCHEMA, Severity, Status, redact, size};
use crate::detect::matches::{Digest128, DigestHasher};
use crate::detect::occurrence::Occurrence;
use crate::detect::order::Judgement;
use crate::detect::{Detector, Engine};

/// Pieces of evidence kept of an alert's first findings; beside them stands the latest.
const FIRST_EVIDENCE: usize = 4;

/// Actors of one alert who are news when they first do it; beyond, nobody is.
const MAX_ACTORS: usize = 8;

/// Open alerts kept at most; beyond, the one longest without a finding closes.
const MAX_OPEN: usize = 100_000;

/// Bytes that open alerts hold at most, and open incidents as many again: see [`Groups::set_quota`].
const QUOTA: usize = 128 << 20;

/// All open alerts.
#[derive(Debug)]
pub struct Groups {
    limit: usize,
    quota: usize,
    /// What all of them hold: the sum of [`Group::bytes`].
    bytes: usize,
    /// Boxed: a table has twice the room that it needs, and has it once more while it grows.
    open: HashMap<Digest128, Box<Group>, BuildHasherDefault<DigestHasher>>,
    /// By a time before which none of them closes: [`Group::listed`].
    by_end: BTreeSet<(i64, Digest128)>,
    /// Each once: see [`Group::changed`].
    changed: Vec<Digest128>,
    closed: Vec<Digest128>,
    /// Alerts that were closed to make room, not told of yet.
    displaced: Vec<Alert>,
    evicted: u64,
    /// The moment up to which alerts were last closed; seconds. A finding that is later than the
    /// clock allows counts as of then, or each of many that come late would open an alert anew.
    clock: i64,
    /// What the alerts' findings belong to.
    pub incidents: Incidents,
}

/// What a finding did to the alert that it belongs to.
#[derive(Debug)]
pub struct Added {
    pub fingerprint: Digest128,
    /// Why the alert is to be notified now: see [`Groups::shown`].
    pub cause: Option<Cause>,
    /// The key of its incident in [`Groups::incidents`].
    pub incident: Option<Digest128>,
}

/// An open alert and what has been said of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Group {
    pub alert: Alert,
    /// Notifications so far.
    sequence: u32,
    notified_at: i64,
    notified_severity: Severity,
    /// Who is known to have caused it, bounded.
    actors: Vec<String>,
    last: i64,
    quiet_for: i64,
    /// Becomes evidence when the alert is shown; most findings of a storm never are.
    #[serde(skip)]
    latest: Option<Arc<Occurrence>>,
    /// The end under which [`Groups::by_end`] has it; the true one may be later.
    #[serde(skip)]
    listed: i64,
    /// [`Groups::changed`] has it.
    #[serde(skip)]
    changed: bool,
    /// What it holds in memory, as [`Groups::bytes`] has it.
    #[serde(skip)]
    bytes: usize,
}

impl Group {
    /// When the alert closes if nothing more comes; seconds of event time.
    fn end(&self) -> i64 {
        self.last.saturating_add(self.quiet_for)
    }

    fn held(&self) -> usize {
        size_of::<Group>() - size_of::<Alert>()
            + self.alert.held()
            + size::texts(&self.actors)
            + self.latest.as_ref().map_or(0, |latest| latest.held())
    }

    fn shown(&self) -> Alert {
        self.clone().into_shown()
    }

    fn into_shown(self) -> Alert {
        let mut alert = self.alert;
        alert
            .evidence
            .extend(self.latest.iter().map(|occurrence| evidence(occurrence)));
        alert
    }
}

/// Why a notification is made; closed, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    Opened,
    SeverityRose,
    /// Someone else does it too.
    AnotherActor,
    Repeated,
}

impl Default for Groups {
    fn default() -> Groups {
        Groups::bounded(MAX_OPEN)
    }
}

impl Groups {
    /// With another bound than the shipped one.
    pub fn bounded(limit: usize) -> Groups {
        let mut incidents = Incidents::default();
        incidents.set_quota(QUOTA);
        Groups {
            limit,
            quota: QUOTA,
            bytes: 0,
            open: HashMap::default(),
            by_end: BTreeSet::new(),
            changed: Vec::new(),
            closed: Vec::new(),
            displaced: Vec::new(),
            evicted: 0,
            clock: 0,
            incidents,
        }
    }

    /// Open alerts, and open incidents, are to hold no more than `bytes` each, about; beyond, those
    /// longest without a finding close.
    pub fn set_quota(&mut self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.quota = bytes;
        self.incidents.set_quota(bytes);
    }

    /// Bytes that open alerts hold, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a finding to its alert and incident. `repeat` is the time after which an alert that goes
    /// on is notified again.
    pub fn add(
        &mut self,
        engine: &Engine,
        judgement: &Judgement,
        detected_at: Timestamp,
        repeat: SignedDuration,
    ) -> Added {
        let found = &judgement.found;
        let detector = engine.detector(found.detector);
        let fingerprint = found.fingerprint;
        let cause = self.count(detector, judgement, detected_at, repeat);
        let group = self.open.get_mut(&fingerprint);
        let alert = group.map(|group| {
            let held = group.held();
            self.bytes = self.bytes - group.bytes + held;
            group.bytes = held;
            &mut group.alert
        });
        let incident = alert.and_then(|alert| {
            let (key, id) = self.incidents.add(&Finding { found, alert })?;
            if alert.incident.as_deref() != Some(id) {
                alert.incident = Some(id.to_owned());
            }
            Some(key)
        });
        Added {
            fingerprint,
            cause,
            incident,
        }
    }

    /// An open alert as it is to be told now.
    pub fn shown(&self, fingerprint: Digest128) -> Option<Alert> {
        self.open.get(&fingerprint).map(|group| group.shown())
    }

    fn count(
        &mut self,
        detector: &Detector,
        judgement: &Judgement,
        detected_at: Timestamp,
        repeat: SignedDuration,
    ) -> Option<Cause> {
        let found = &judgement.found;
        let fingerprint = found.fingerprint;
        let now = found.occurrence.clock().as_second().max(self.clock);
        if self
            .open
            .get(&fingerprint)
            .is_some_and(|group| group.end() < now)
        {
            let displaced = self.remove(fingerprint);
            self.displaced.extend(displaced);
        }
        let Some(group) = self.open.get_mut(&fingerprint) else {
            self.open(detector, judgement, detected_at);
            return Some(Cause::Opened);
        };
        group.last = group.last.max(now);
        if !std::mem::replace(&mut group.changed, true) {
            self.changed.push(fingerprint);
        }

        let alert = &mut group.alert;
        alert.count += 1;
        alert.first_seen = alert
            .first_seen
            .min(found.occurrence.time)
            .or(alert.first_seen);
        alert.last_seen = alert.last_seen.max(found.occurrence.time);
        let graver = found.severity > alert.severity;
        if graver {
            // The alert shows what is worst in it.
            alert.severity = found.severity;
            alert.summary = redact::redact(&found.summary).into_owned();
            alert.reason = redact::redact(&judgement.reason).into_owned();
        }
        if alert.evidence.len() < FIRST_EVIDENCE {
            alert.evidence.push(evidence(&found.occurrence));
        } else {
            group.latest = Some(Arc::clone(&found.occurrence));
        }

        let user = found.occurrence.user();
        let another =
            group.actors.len() < MAX_ACTORS && !group.actors.iter().any(|actor| actor == user);
        if another {
            group.actors.push(user.to_owned());
        }
        let cause = if alert.severity > group.notified_severity {
            Cause::SeverityRose
        } else if another && found.severity >= group.notified_severity {
            Cause::AnotherActor
        } else if group.last - group.notified_at >= repeat.as_secs() {
            Cause::Repeated
        } else {
            return None;
        };
        group.sequence += 1;
        group.notified_at = group.last;
        group.notified_severity = group.alert.severity;
        group.alert.detected_at = Some(detected_at);
        group.alert.notification_id = format!("{}-{}", group.alert.id, group.sequence);
        Some(cause)
    }

    fn open(&mut self, detector: &Detector, judgement: &Judgement, detected_at: Timestamp) {
        // Before it opens, so that it is not the one to go: it is still to be told.
        while (self.open.len() >= self.limit || self.bytes > self.quota)
            && let Some(first) = self.first_to_close()
        {
            let displaced = self.remove(first);
            self.displaced.extend(displaced);
            self.evicted += 1;
        }
        let alert = alert_of(detector, judgement, detected_at);
        let fingerprint = judgement.found.fingerprint;
        let clock = judgement.found.occurrence.clock();
        let last = clock.as_second().max(self.clock);
        self.insert(
            fingerprint,
            Group {
                sequence: 1,
                notified_at: last,
                notified_severity: alert.severity,
                actors: vec![alert.actor.user.clone()],
                last,
                quiet_for: detector.quiet_for.as_secs(),
                latest: None,
                listed: 0,
                changed: true,
                bytes: 0,
                alert,
            },
        );
        self.changed.push(fingerprint);
    }

    fn insert(&mut self, fingerprint: Digest128, mut group: Group) {
        group.listed = group.end();
        group.bytes = group.held();
        self.bytes += group.bytes;
        self.by_end.insert((group.listed, fingerprint));
        if let Some(before) = self.open.insert(fingerprint, Box::new(group)) {
            self.bytes -= before.bytes;
            self.by_end.remove(&(before.listed, fingerprint));
        }
    }

    fn remove(&mut self, fingerprint: Digest128) -> Option<Alert> {
        let group = self.open.remove(&fingerprint)?;
        self.bytes -= group.bytes;
        self.by_end.remove(&(group.listed, fingerprint));
        self.closed.push(fingerprint);
        Some(Alert {
            status: Status::Closed,
            ..group.into_shown()
        })
    }

    /// The alert that is the first to close if nothing more comes. Puts right what is listed too early
    /// on the way: an alert moves once for many findings.
    fn first_to_close(&mut self) -> Option<Digest128> {
        loop {
            let (listed, fingerprint) = self.by_end.first().copied()?;
            let Some(group) = self.open.get_mut(&fingerprint) else {
                self.by_end.pop_first();
                continue;
            };
            if group.end() == listed {
                return Some(fingerprint);
            }
            group.listed = group.end();
            self.by_end.pop_first();
            self.by_end.insert((group.end(), fingerprint));
        }
    }

    /// Closes the alerts that have been quiet for long enough at `now` (event time), and gives them,
    /// with those that had to make room since the last call.
    pub fn close_quiet(&mut self, now: Timestamp) -> Vec<Alert> {
        std::iter::from_fn(|| self.close_one(now)).collect()
    }

    /// The next of [`Groups::close_quiet`].
    pub fn close_one(&mut self, now: Timestamp) -> Option<Alert> {
        self.clock = now.as_second();
        if let Some(displaced) = self.displaced.pop() {
            return Some(displaced);
        }
        let now = now.as_second();
        if self.by_end.first().is_none_or(|(listed, _)| *listed >= now) {
            return None;
        }
        let fingerprint = self.first_to_close()?;
        let quiet = self
            .open
            .get(&fingerprint)
            .is_some_and(|group| group.end() < now);
        quiet.then(|| self.remove(fingerprint)).flatten()
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Alerts that closed because of the bound.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What changed since the last call.
    pub fn take_delta(&mut self) -> Delta {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        let mut delta = Delta {
            closed: std::mem::take(&mut self.closed)
                .into_iter()
                .map(|key| key.0)
                .collect(),
            changed: Vec::with_capacity(changed.len()),
            incidents: self.incidents.take_delta(),
        };
        for key in changed {
            if let Some(group) = self.open.get_mut(&key)
                && std::mem::take(&mut group.changed)
            {
                delta.changed.push((key.0, Group::clone(group)));
            }
        }
        delta
    }

    /// As [`Groups::take_delta`], for a process that keeps nothing.
    pub fn forget_delta(&mut self) {
        for key in self.changed.drain(..) {
            if let Some(group) = self.open.get_mut(&key) {
                group.changed = false;
            }
        }
        self.closed.clear();
        self.incidents.forget_delta();
    }

    pub fn apply(&mut self, delta: Delta) {
        for key in delta.closed {
            self.remove(Digest128(key));
        }
        for (key, group) in delta.changed {
            self.insert(Digest128(key), group);
        }
        self.closed.clear();
        self.incidents.apply(delta.incidents);
    }

    pub fn snapshot(&self) -> Delta {
        Delta {
            closed: Vec::new(),
            changed: self
                .open
                .iter()
                .map(|(key, group)| (key.0, Group::clone(group)))
                .collect(),
            incidents: self.incidents.snapshot(),
        }
    }
}

/// What one batch of findings did to the open alerts; a snapshot is the delta from nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Delta {
    closed: Vec<u128>,
    changed: Vec<(u128, Group)>,
    incidents: incident::Delta,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.changed.is_empty() && self.incidents.is_empty()
    }
}

/// The alert that a judgement opens, or, for `--each`, shows.
pub fn alert_of(detector: &Detector, judgement: &Judgement, detected_at: Timestamp) -> Alert {
    let found = &judgement.found;
    let occurrence = &found.occurrence;
    let fingerprint = found.fingerprint;
    let id = Digest128::of([&fingerprint.bytes()[..], &occurrence.request.bytes()]).hex();
    let mut object = ObjectId::from(occurrence.object());
    object.name = redact::redact(&object.name).into_owned();
    Alert {
        schema: SCHEMA.to_owned(),
        notification_id: format!("{id}-1"),
        incident: None,
        id,
        fingerprint: fingerprint.hex(),
        detector: Arc::clone(&detector.reference),
        severity: found.severity,
        status: Status::Open,
        summary: redact::redact(&found.summary).into_owned(),
        // What the detector says of itself needs no redaction.
        reason: match judgement.reason == detector.description {
            true => judgement.reason.clone(),
            false => redact::redact(&judgement.reason).into_owned(),
        },
        cluster: occurrence.cluster.to_string(),
        cluster_name: occurrence.cluster_name().to_owned(),
        first_seen: occurrence.time,
        last_seen: occurrence.time,
        detected_at: Some(detected_at),
        count: 1,
        actor: occurrence.actor(),
        source_ip: occurrence.source_ip(),
        user_agent: redact::redact(occurrence.user_agent()).into_owned(),
        object,
        attack: detector.attack.clone(),
        guide: detector.guide.clone(),
        triage: detector.triage.clone(),
        remedy: detector.remedy.clone(),
        references: detector.references.clone(),
        evidence: vec![evidence(occurrence)],
    }
}

fn evidence(occurrence: &Occurrence) -> Evidence {
    Evidence {
        audit_id: occurrence.audit_id().to_owned(),
        stage: occurrence.stage.as_str().to_owned(),
        time: occurrence.told,
        source: format!(
            "{}/{}",
            occurrence.partition.source, occurrence.partition.id
        ),
        position: format!(
            "{}#{}",
            occurrence.position.chunk, occurrence.position.offset
        ),
        excerpt: redact::redact(occurrence.excerpt()).into_owned(),
    }
}
