//! From findings to notifications: exceptions, groups with a life, routing and redaction.
//!
//! Findings come from [`crate::detect`]; [`Alert`] is what leaves the process, as `lanner/alert/v1`.
//! Notifications go to the outbox ([`crate::store`]) and from there to [`crate::deliver`].

pub mod escape;
pub mod group;
pub mod incident;
pub mod own;
pub mod parts;
pub mod redact;
pub mod render;
pub mod shelf;
mod size;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

/// The `schema` of every alert.
pub const SCHEMA: &str = "lanner/alert/v1";

/// How grave an alert is; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 5] = [
        Severity::Info,
        Severity::Low,
        Severity::Medium,
        Severity::High,
        Severity::Critical,
    ];

    /// `steps` up or, below zero, down; it stays within the scale.
    pub fn shifted(self, steps: i8) -> Severity {
        let last = Severity::ALL.len() as i64 - 1;
        Severity::ALL[(self as i64 + i64::from(steps)).clamp(0, last) as usize]
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Severity::ALL
            .into_iter()
            .find(|severity| severity.as_str() == text)
            .ok_or_else(|| {
                format!("`{text}` is no severity; one of info, low, medium, high, critical")
            })
    }
}

/// What a detector looks for, and so who wants to hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What an attacker does: notified.
    Threat,
    /// A change that matters for security whoever makes it: notified where grave, else listed.
    Change,
    /// What hardening asks for and is not so: only with the profile `all`.
    Hygiene,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Threat => "threat",
            Kind::Change => "change",
            Kind::Hygiene => "hygiene",
        }
    }
}

/// The rule that raised an alert, exactly: id, revision and the hash of its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectorRef {
    pub id: String,
    pub revision: u32,
    /// SHA-256 of the detector's file as loaded, in hexadecimal.
    pub hash: String,
    pub title: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Open,
    /// Quiet for the detector's `quiet_for`.
    Closed,
}

/// Who did it: the authenticated user is responsible, the impersonated one is who they acted as.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Actor {
    pub user: String,
    pub groups: Vec<String>,
    pub impersonated: Option<String>,
    /// `namespace/name`, where the authenticated user is a service account.
    pub service_account: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceIp {
    pub address: Option<String>,
    pub network: Option<String>,
    pub class: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ObjectId {
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

/// One record that an alert rests on. Its JSON has [`Evidence::kql`] too.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Evidence {
    pub audit_id: String,
    pub stage: String,
    pub time: Option<Timestamp>,
    /// Hub and partition, or the file.
    pub source: String,
    /// Sequence number or byte offset, and the record's index or offset within: `1234#5`.
    pub position: String,
    /// Verb, URI, code and what else explains it, on one line; bounded and redacted.
    pub excerpt: String,
}

impl Evidence {
    /// A Log Analytics query that finds the record when the hub no longer holds it, in either of the
    /// forms that AKS writes; empty where the event had no audit ID.
    pub fn kql(&self) -> String {
        if self.audit_id.is_empty() {
            return String::new();
        }
        // The audit ID is the client's text: anything but the usual alphabet is left out of the query.
        let id: String = self
            .audit_id
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            .collect();
        format!(
            "union isfuzzy=true (AKSAudit | where AuditId == \"{id}\"), (AKSAuditAdmin | where AuditId == \"{id}\"), (AzureDiagnostics | where Category startswith \"kube-audit\" and log_s has \"{id}\")"
        )
    }
}

impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The query follows from the audit ID: whoever reads JSON has it, the store does not keep it.
        let shown = serializer.is_human_readable();
        let mut fields = serializer.serialize_struct("Evidence", 6 + usize::from(shown))?;
        fields.serialize_field("audit_id", &self.audit_id)?;
        fields.serialize_field("stage", &self.stage)?;
        fields.serialize_field("time", &self.time)?;
        fields.serialize_field("source", &self.source)?;
        fields.serialize_field("position", &self.position)?;
        fields.serialize_field("excerpt", &self.excerpt)?;
        if shown {
            fields.serialize_field("kql", &self.kql())?;
        }
        fields.end()
    }
}

/// An alert as it leaves the process. Strings from the log are redacted and bounded, not escaped:
/// each medium escapes for itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// [`SCHEMA`].
    pub schema: String,
    /// Stable: fingerprint and the request that opened the alert.
    pub id: String,
    /// Stable: detector and group key.
    pub fingerprint: String,
    /// `id` and a sequence number, fixed when written to the outbox; the idempotency key.
    pub notification_id: String,
    /// [`incident::Incident::id`] as known when this was written: steps that come out of order can
    /// still make it part of another one.
    #[serde(default)]
    pub incident: Option<String>,
    pub detector: Arc<DetectorRef>,
    pub severity: Severity,
    pub status: Status,
    /// One sentence: who did what to what.
    pub summary: String,
    /// Why this is an alert: the rule in words, or what a baseline expected and on what evidence.
    pub reason: String,
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
    pub actor: Actor,
    pub source_ip: SourceIp,
    pub user_agent: String,
    pub object: ObjectId,
    /// ATT&CK technique ids.
    pub attack: Arc<[String]>,
    /// Section of the hardening guide.
    pub guide: Arc<str>,
    pub triage: Arc<str>,
    pub remedy: Arc<str>,
    pub references: Arc<[String]>,
    pub evidence: Vec<Evidence>,
}

impl Alert {
    /// Something in every field, with `text` for each that may hold what others wrote: to try a template
    /// or an escape on.
    pub fn sample(mut text: impl FnMut() -> String) -> Alert {
        let time = Some(Timestamp::UNIX_EPOCH);
        Alert {
            schema: SCHEMA.to_owned(),
            id: "0".to_owned(),
            fingerprint: "0".to_owned(),
            notification_id: "0-1".to_owned(),
            incident: None,
            detector: Arc::new(DetectorRef {
                id: "sample".to_owned(),
                revision: 1,
                hash: "0".to_owned(),
                title: text(),
                kind: Kind::Threat,
            }),
            severity: Severity::High,
            status: Status::Open,
            summary: text(),
            reason: text(),
            cluster: text(),
            cluster_name: text(),
            first_seen: time,
            last_seen: time,
            detected_at: time,
            count: 2,
            actor: Actor {
                user: text(),
                groups: vec![text(), text()],
                impersonated: Some(text()),
                service_account: Some(text()),
            },
            source_ip: SourceIp {
                address: Some(text()),
                network: Some(text()),
                class: text(),
            },
            user_agent: text(),
            object: ObjectId {
                group: text(),
                resource: text(),
                subresource: text(),
                namespace: text(),
                name: text(),
            },
            attack: ["T1609".to_owned()].into(),
            guide: text().into(),
            triage: text().into(),
            remedy: text().into(),
            references: [text()].into(),
            evidence: vec![Evidence {
                audit_id: text(),
                stage: text(),
                time,
                source: text(),
                position: text(),
                excerpt: text(),
            }],
        }
    }
}
