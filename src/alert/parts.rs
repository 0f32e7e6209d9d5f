//! An alert's JSON in parts, in the order of its schema: for what puts something between them, as
//! `replay --each` does, or keeps a part once for many alerts, as [`super::shelf`] does.

use jiff::Timestamp;
use serde::Serialize;

use super::{Actor, Alert, Evidence, ObjectId, Severity, SourceIp, Status};

/// Behind the schema, and before incident and detector.
#[derive(Serialize)]
pub struct Identity<'a> {
    id: &'a str,
    fingerprint: &'a str,
    notification_id: &'a str,
}

/// Behind the detector: what happened.
#[derive(Serialize)]
pub struct Middle<'a> {
    severity: Severity,
    status: Status,
    summary: &'a str,
    reason: &'a str,
    cluster: &'a str,
    cluster_name: &'a str,
    first_seen: Option<Timestamp>,
    last_seen: Option<Timestamp>,
    detected_at: Option<Timestamp>,
    count: u64,
    actor: &'a Actor,
    source_ip: &'a SourceIp,
    user_agent: &'a str,
    object: &'a ObjectId,
}

/// The same for all alerts of a detector.
#[derive(Serialize)]
pub struct Advice<'a> {
    attack: &'a [String],
    guide: &'a str,
    triage: &'a str,
    remedy: &'a str,
    references: &'a [String],
}

#[derive(Serialize)]
pub struct Rest<'a> {
    evidence: &'a [Evidence],
}

impl Identity<'_> {
    pub fn of(alert: &Alert) -> Identity<'_> {
        Identity {
            id: &alert.id,
            fingerprint: &alert.fingerprint,
            notification_id: &alert.notification_id,
        }
    }
}

impl Middle<'_> {
    pub fn of(alert: &Alert) -> Middle<'_> {
        Middle {
            severity: alert.severity,
            status: alert.status,
            summary: &alert.summary,
            reason: &alert.reason,
            cluster: &alert.cluster,
            cluster_name: &alert.cluster_name,
            first_seen: alert.first_seen,
            last_seen: alert.last_seen,
            detected_at: alert.detected_at,
            count: alert.count,
            actor: &alert.actor,
            source_ip: &alert.source_ip,
            user_agent: &alert.user_agent,
            object: &alert.object,
        }
    }
}

impl Advice<'_> {
    pub fn of(alert: &Alert) -> Advice<'_> {
        Advice {
            attack: &alert.attack,
            guide: &alert.guide,
            triage: &alert.triage,
            remedy: &alert.remedy,
            references: &alert.references,
        }
    }
}

impl Rest<'_> {
    pub fn of(alert: &Alert) -> Rest<'_> {
        Rest {
            evidence: &alert.evidence,
        }
    }
}
