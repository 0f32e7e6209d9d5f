//! The steps of an open incident: what is kept of the findings of one alert by one actor.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::state::Finding;
use super::{Step, short};
use crate::detect::techniques;

/// Audit IDs that one step keeps: half of its first, and half of its last.
const MAX_AUDIT_IDS: usize = 32;

/// The alert's fingerprint, and the actor: an alert that several identities caused is a step of
/// each of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct StepKey {
    pub fingerprint: u128,
    pub actor: String,
}

impl StepKey {
    pub fn of(finding: &Finding<'_>) -> StepKey {
        StepKey {
            fingerprint: finding.found.fingerprint.0,
            actor: finding.found.occurrence.user().to_owned(),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    pub step: Step,
    /// Time (nanoseconds) and request of the finding that the step shows.
    shown: (i128, u128),
    /// Time and request of each audit ID, in their order.
    pub requests: Vec<((i128, u128), String)>,
}

/// Time in nanoseconds, and the request.
fn request(finding: &Finding<'_>) -> (i128, u128) {
    let occurrence = &finding.found.occurrence;
    (occurrence.clock().as_nanosecond(), occurrence.request.0)
}

impl Kept {
    /// What it holds in memory.
    pub fn held(&self) -> usize {
        let requests = self.requests.iter();
        size_of::<Kept>() - size_of::<Step>()
            + self.step.held()
            + requests
                .map(|(_, id)| size_of::<((i128, u128), String)>() + id.len())
                .sum::<usize>()
    }

    pub fn new(finding: &Finding<'_>) -> Kept {
        let request = request(finding);
        let audit_id = finding.found.occurrence.audit_id().to_owned();
        Kept {
            shown: request,
            requests: vec![(request, audit_id)],
            step: step(finding),
        }
    }

    /// As [`Kept::merge`] with what [`Kept::new`] makes of the finding, which most findings of a step
    /// need not become; tells whether the step begins earlier now.
    pub fn add(&mut self, finding: &Finding<'_>) -> bool {
        let before = self.step.first_seen;
        let severity = finding.found.severity;
        let request = request(finding);
        if severity > self.step.severity || severity == self.step.severity && request < self.shown {
            self.merge(Kept::new(finding));
            return self.step.first_seen != before;
        }
        let time = finding.found.occurrence.time;
        self.step.count += 1;
        self.step.first_seen = [before, time].into_iter().flatten().min();
        self.step.last_seen = self.step.last_seen.max(time);
        self.keep(request, || finding.found.occurrence.audit_id().to_owned());
        self.step.first_seen != before
    }

    /// What is kept of two parts of one step depends on neither's coming first.
    pub fn merge(&mut self, other: Kept) {
        let graver = other.step.severity > self.step.severity
            || other.step.severity == self.step.severity && other.shown < self.shown;
        let count = self.step.count + other.step.count;
        let first = [self.step.first_seen, other.step.first_seen];
        let last = [self.step.last_seen, other.step.last_seen];
        if graver {
            self.step = other.step;
            self.shown = other.shown;
        }
        self.step.count = count;
        self.step.first_seen = first.into_iter().flatten().min();
        self.step.last_seen = last.into_iter().flatten().max();
        for (request, audit_id) in other.requests {
            self.keep(request, || audit_id);
        }
    }

    fn keep(&mut self, request: (i128, u128), audit_id: impl FnOnce() -> String) {
        let Err(place) = self.requests.binary_search_by_key(&request, |kept| kept.0) else {
            return;
        };
        let middle = MAX_AUDIT_IDS / 2;
        if self.requests.len() < MAX_AUDIT_IDS {
            self.requests.insert(place, (request, audit_id()));
        } else if place != middle {
            self.requests.insert(place, (request, audit_id()));
            self.requests.remove(middle);
        }
    }
}

fn step(finding: &Finding<'_>) -> Step {
    let Finding { found, alert, .. } = finding;
    let occurrence = &found.occurrence;
    let tactics = alert.attack.iter().filter_map(|id| {
        let first = techniques::tactics(id).first()?;
        Some((*first).to_owned())
    });
    Step {
        alert: alert.id.clone(),
        fingerprint: alert.fingerprint.clone(),
        detector: alert.detector.id.clone(),
        title: alert.detector.title.clone(),
        kind: alert.detector.kind,
        severity: found.severity,
        summary: short(&found.summary),
        actor: occurrence.user().to_owned(),
        impersonated: occurrence.impersonated().map(str::to_owned),
        source_ip: occurrence.source_ip(),
        place: occurrence.came_from.to_owned(),
        user_agent: short(occurrence.user_agent()),
        object: crate::alert::ObjectId {
            name: short(occurrence.object().name),
            ..occurrence.object().into()
        },
        tactics: once(tactics),
        attack: alert.attack.to_vec(),
        first_seen: occurrence.time,
        last_seen: occurrence.time,
        count: 1,
        audit_ids: Vec::new(),
    }
}

/// Each once, in the order of their first.
pub(super) fn once(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    items.filter(|item| seen.insert(item.clone())).collect()
}
