//! OCSF's Detection Finding (class 2004), for SIEMs and data lakes.
//!
//! Format: <https://schema.ocsf.io/1.4.0/classes/detection_finding>, with the profiles `cloud` (for
//! `cloud` and `api`) and `host` (for `actor`). Where the schema has no place for something it stands
//! in `unmapped`. Texts are data here and go unescaped but for JSON, as in the alert itself.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::alert::{Actor, Alert, Evidence, Severity, Status};
use crate::detect::techniques;

/// The version of the schema that findings follow.
pub const OCSF_VERSION: &str = "1.4.0";

const CLASS: u32 = 2004;

/// The finding for an alert: created, updated or closed.
pub fn ocsf(alert: &Alert) -> Value {
    let is_first = alert.notification_id == format!("{}-1", alert.id);
    let (activity, activity_name) = match alert.status {
        Status::Closed => (3, "Close"),
        Status::Open if is_first => (1, "Create"),
        Status::Open => (2, "Update"),
    };
    let (severity, severity_name) = severity(alert.severity);
    // That nothing more was seen is no review, which is what the schema's "Resolved" means.
    let (status, status_name) = match alert.status {
        Status::Open => (1, "New"),
        Status::Closed => (99, "Closed, because nothing more was seen"),
    };
    let evidences: Vec<Value> = match alert.evidence.is_empty() {
        true => vec![evidence(alert, None)],
        false => alert
            .evidence
            .iter()
            .map(|one| evidence(alert, Some(one)))
            .collect(),
    };
    let time = alert.detected_at.or(alert.last_seen).or(alert.first_seen);
    without_null(json!({
        "activity_id": activity,
        "activity_name": activity_name,
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "type_uid": CLASS * 100 + activity,
        "type_name": format!("Detection Finding: {activity_name}"),
        "time": time.map_or(0, Timestamp::as_millisecond),
        "start_time": alert.first_seen.map(Timestamp::as_millisecond),
        "end_time": alert.last_seen.map(Timestamp::as_millisecond),
        "count": alert.count,
        "severity_id": severity,
        "severity": severity_name,
        "status_id": status,
        "status": status_name,
        "is_alert": alert.status == Status::Open,
        "message": alert.summary,
        "metadata": {
            "version": OCSF_VERSION,
            "product": {
                "name": "Lanner",
                "vendor_name": "Lanner",
                "version": env!("CARGO_PKG_VERSION"),
            },
            "profiles": ["cloud", "host"],
            "log_name": "kube-audit",
            "uid": alert.notification_id,
            "correlation_uid": alert.fingerprint,
        },
        "finding_info": finding_info(alert),
        "cloud": cloud(alert),
        "actor": actor(alert),
        "api": evidences[0]["api"],
        "resources": resources(alert),
        "evidences": evidences,
        "remediation": text(&alert.remedy).map(|desc| json!({"desc": desc})),
        "unmapped": {
            "schema": alert.schema,
            "cluster_name": text(&alert.cluster_name),
            "kind": alert.detector.kind.as_str(),
            "detector_hash": alert.detector.hash,
            "guide": text(&alert.guide),
            "triage": text(&alert.triage),
            "references": alert.references,
            "user_agent": text(&alert.user_agent),
            "impersonated": alert.actor.impersonated,
            "source_address": alert.source_ip.address,
            "source_network": alert.source_ip.network,
            "source_class": text(&alert.source_ip.class),
            "subresource": text(&alert.object.subresource),
        },
    }))
}

fn severity(severity: Severity) -> (u32, &'static str) {
    match severity {
        Severity::Info => (1, "Informational"),
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
        Severity::Critical => (5, "Critical"),
    }
}

fn finding_info(alert: &Alert) -> Value {
    json!({
        "uid": alert.id,
        "title": alert.detector.title,
        "desc": text(&alert.reason),
        "types": [alert.detector.kind.as_str()],
        "analytic": {
            "uid": alert.detector.id,
            "name": alert.detector.title,
            "version": alert.detector.revision.to_string(),
            "type_id": 1,
            "type": "Rule",
        },
        "attacks": alert.attack.iter().map(|id| attack(id)).collect::<Vec<_>>(),
        "created_time": alert.detected_at.map(Timestamp::as_millisecond),
        "first_seen_time": alert.first_seen.map(Timestamp::as_millisecond),
        "last_seen_time": alert.last_seen.map(Timestamp::as_millisecond),
        "related_events_count": alert.count,
    })
}

/// A technique, with its sub-technique where the id names one.
fn attack(id: &str) -> Value {
    let (technique, sub) = match id.split_once('.') {
        Some((technique, _)) => (technique, Some(json!({"uid": id}))),
        None => (id, None),
    };
    json!({
        "technique": {"uid": technique},
        "sub_technique": sub,
        "version": techniques::VERSION,
    })
}

/// The subscription out of the cluster's ARM id.
fn cloud(alert: &Alert) -> Value {
    let subscription = alert.cluster.split('/').nth(2).and_then(text);
    json!({
        "provider": "Azure",
        "account": subscription.map(|uid| json!({"uid": uid})),
    })
}

/// `None` where nobody is known: an actor without a user is not one.
fn actor(alert: &Alert) -> Option<Value> {
    let Actor { user, groups, .. } = &alert.actor;
    let name = text(user)?;
    let groups: Vec<Value> = groups.iter().map(|name| json!({"name": name})).collect();
    let (kind, kind_name) = match alert.actor.service_account {
        Some(_) => (4, "Service"),
        None if user.starts_with("system:") => (3, "System"),
        None => (1, "User"),
    };
    Some(json!({
        "user": {
            "name": name,
            "type_id": kind,
            "type": kind_name,
            "groups": groups,
        },
        "app_name": text(&alert.user_agent),
    }))
}

/// The cluster, and the object within.
fn resources(alert: &Alert) -> Vec<Value> {
    let mut resources = Vec::new();
    if text(&alert.cluster).or(text(&alert.cluster_name)).is_some() {
        resources.push(json!({
            "type": "AKS cluster",
            "uid": text(&alert.cluster),
            "name": text(&alert.cluster_name),
        }));
    }
    let object = &alert.object;
    if let Some(name) = text(&object.name).or(text(&object.namespace)) {
        let kind = match object.group.is_empty() {
            true => object.resource.clone(),
            false => format!("{}.{}", object.resource, object.group),
        };
        resources.push(json!({
            "type": text(&kind),
            "name": name,
            "data": {
                "group": object.group,
                "resource": object.resource,
                "namespace": object.namespace,
            },
        }));
    }
    resources
}

fn evidence(alert: &Alert, evidence: Option<&Evidence>) -> Value {
    // Anything but an address has no place in `ip`.
    let address = alert.source_ip.address.as_deref();
    let ip = address.filter(|address| address.parse::<IpAddr>().is_ok());
    let object = &alert.object;
    let mut operation = evidence.map_or("", |one| verb(&one.excerpt)).to_owned();
    for part in [&object.resource, &object.subresource] {
        if !part.is_empty() {
            let separator = if part == &object.resource { " " } else { "/" };
            operation.push_str(separator);
            operation.push_str(part);
        }
    }
    let uid = evidence.and_then(|one| text(&one.audit_id));
    let operation = text(operation.trim()).unwrap_or("unknown");
    json!({
        "actor": actor(alert),
        "api": {
            "operation": operation,
            "service": {"name": "Kubernetes API"},
            "group": text(&object.group).map(|name| json!({"name": name})),
            "request": uid.map(|uid| json!({"uid": uid})),
        },
        "src_endpoint": ip.map(|ip| json!({"ip": ip})),
        "user": alert.actor.impersonated.as_deref().and_then(text).map(|name| json!({"name": name})),
        "data": evidence.map(|one| json!({
            "stage": one.stage,
            "time": one.time.map(|time| time.to_string()),
            "source": one.source,
            "position": one.position,
            "excerpt": one.excerpt,
            "kql": one.kql(),
        })),
    })
}

/// An excerpt begins with the request's verb.
fn verb(excerpt: &str) -> &str {
    let word = excerpt.split(' ').next().unwrap_or_default();
    let is_verb = word.len() <= 32 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    if is_verb { word } else { "" }
}

/// `None` for an empty text: the schema's attributes are left out, not empty.
fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Without what is not known.
fn without_null(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_null(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_null).collect(),
        value => value,
    }
}
