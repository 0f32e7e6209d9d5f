//! Incidents: findings that belong together, told as one story.
//!
//! Findings come from [`super::group`], each with the traces of its event
//! ([`crate::event::trace`]). Findings that share a trace within the window are steps of one
//! incident, over any number of traces in between.
//!
//! What wakes nobody (below medium) is a step if the same identity did it from the same address as
//! something graver. But an insider, or whose credential is stolen, works on the same day as every day,
//! and a responder who reads a page of deployments overlooks the one that matters. So a finding of a kind
//! that the actor had on an earlier day, by the same program from the same place ([`Match::usual`]), is a
//! step only by what the same actor did to the same object from the same place, or by a foreign address.
//! It is listed and told as before, and nothing from medium on is ever left out: frequent abuse stays
//! abuse. In an archive of one day nothing is usual.
//!
//! [`Incidents`] keeps the open ones, in whatever order findings come; [`Incident`] is what leaves the
//! process, as `lanner/incident/v1`.

mod account;
mod links;
mod open;
mod state;
mod steps;
mod ties;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::{
    Actor, Alert, DetectorRef, Evidence, Kind, ObjectId, SCHEMA as ALERT, Severity, SourceIp,
    Status, redact,
};
#[cfg(doc)]
use crate::detect::matches::Match;
use crate::event::tie::Trace;

pub use open::Closing;
pub use state::{Delta, Finding, Incidents};

/// The `schema` of every incident.
pub const SCHEMA: &str = "lanner/incident/v1";

/// Whether a route's receivers take alerts or incidents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Send {
    #[default]
    Alerts,
    Incidents,
}

/// What is said of one alert within an incident: who did what, and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// [`Alert::id`] and [`Alert::fingerprint`].
    pub alert: String,
    pub fingerprint: String,
    /// The detector's id.
    pub detector: String,
    pub title: String,
    pub kind: Kind,
    pub severity: Severity,
    /// The summary of the gravest finding, the first of these.
    pub summary: String,
    pub actor: String,
    pub impersonated: Option<String>,
    pub source_ip: SourceIp,
    /// Where that is, in words: `outside the trusted networks`.
    pub place: String,
    pub user_agent: String,
    pub object: ObjectId,
    /// ATT&CK technique ids, and the tactics that these serve.
    pub attack: Vec<String>,
    pub tactics: Vec<String>,
    /// Event time.
    pub first_seen: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    /// Findings of this step.
    pub count: u64,
    /// Audit IDs of its first requests and of its last, bounded.
    pub audit_ids: Vec<String>,
}

/// An incident as it leaves the process. Strings are redacted and bounded, not escaped: each medium
/// escapes for itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// [`SCHEMA`].
    pub schema: String,
    /// Follows from the earliest step: the same whatever the order in which steps came.
    pub id: String,
    /// `id` and a sequence number, fixed when written to the outbox; the idempotency key.
    pub notification_id: String,
    /// Ids under which this incident, or ones that turned out to be parts of it, were told before.
    pub replaces: Vec<String>,
    pub severity: Severity,
    pub status: Status,
    /// One sentence: who, how many steps, towards what.
    pub summary: String,
    /// One paragraph in plain words: what happened, in the order of time.
    pub account: String,
    /// ARM id in lower case; empty where the records named no cluster.
    pub cluster: String,
    pub cluster_name: String,
    /// Event time of the first and last finding.
    pub first_seen: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    /// Wall time at which the daemon decided; in replay, the event time.
    pub detected_at: Option<Timestamp>,
    /// Findings so far.
    pub count: u64,
    /// Who acted, in the order in which they first did.
    pub actors: Vec<String>,
    pub source_ips: Vec<String>,
    /// ATT&CK tactics and technique ids of all steps; tactics in the matrix's order.
    pub tactics: Vec<String>,
    pub attack: Vec<String>,
    /// What steps have in common: each trace is shared by two or more.
    pub joined_by: Vec<Trace>,
    /// In the order of time.
    pub steps: Vec<Step>,
    /// Findings that were of steps beyond those that are kept.
    pub beyond: u64,
}

impl Incident {
    /// The incident in the shape of an alert, for receivers whose formats know only these.
    pub fn to_alert(&self) -> Alert {
        let gravest = self.steps.iter().rev().max_by_key(|step| step.severity);
        let kind = |step: &Step| step.kind == Kind::Threat;
        let steps = match self.steps.len() {
            1 => "1 step".to_owned(),
            steps => format!("{steps} steps"),
        };
        Alert {
            schema: ALERT.to_owned(),
            id: self.id.clone(),
            // What a receiver joins updates by.
            fingerprint: self.id.clone(),
            notification_id: self.notification_id.clone(),
            incident: Some(self.id.clone()),
            detector: Arc::new(DetectorRef {
                id: "incident".to_owned(),
                revision: 1,
                hash: String::new(),
                title: format!("Incident of {steps}"),
                kind: match self.steps.iter().any(kind) {
                    true => Kind::Threat,
                    false => Kind::Change,
                },
            }),
            severity: self.severity,
            status: self.status,
            summary: self.summary.clone(),
            reason: self.account.clone(),
            cluster: self.cluster.clone(),
            cluster_name: self.cluster_name.clone(),
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            detected_at: self.detected_at,
            count: self.count,
            actor: Actor {
                user: self.actors.join(", "),
                ..Actor::default()
            },
            source_ip: SourceIp {
                address: Some(self.source_ips.join(", ")).filter(|text| !text.is_empty()),
                ..SourceIp::default()
            },
            user_agent: gravest.map_or(String::new(), |step| step.user_agent.clone()),
            object: gravest.map_or(ObjectId::default(), |step| step.object.clone()),
            attack: self.attack.as_slice().into(),
            guide: "".into(),
            triage: "".into(),
            remedy: "".into(),
            references: [].into(),
            evidence: self
                .steps
                .iter()
                .map(|step| Evidence {
                    audit_id: step.audit_ids.first().cloned().unwrap_or_default(),
                    stage: String::new(),
                    time: step.first_seen,
                    source: step.detector.clone(),
                    position: format!("×{}", step.count),
                    excerpt: step.summary.clone(),
                })
                .collect(),
        }
    }

    /// The requests that the steps name, by audit ID.
    pub fn audit_ids(&self) -> impl Iterator<Item = &str> {
        self.steps
            .iter()
            .flat_map(|step| step.audit_ids.iter().map(String::as_str))
    }
}

/// A text of a finding for a step: redacted, and shorter than an alert's.
fn short(text: &str) -> String {
    const MAX: usize = 300;
    let text = redact::redact(text);
    match text.len() > MAX {
        true => format!("{}…", &text[..text.floor_char_boundary(MAX)]),
        false => text.into_owned(),
    }
}

#[cfg(test)]
mod tests;
