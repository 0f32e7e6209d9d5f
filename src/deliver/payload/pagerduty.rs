//! PagerDuty's Events API v2: `trigger` for an alert, `resolve` when it closes.
//!
//! Format: <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/>: 1,024 characters of
//! summary, 255 of `dedup_key`, 512 KB as a whole. Notifications of one fingerprint are one incident.

use serde_json::{Map, Value, json};

use super::{links, plain};
use crate::alert::render::{self, Sheet};
use crate::alert::{Alert, Severity, Status};
use crate::config::secret::Secret;

/// The event for an alert; `routing_key` is the integration's.
pub fn pagerduty(alert: &Alert, routing_key: &Secret) -> Value {
    let mut event = json!({
        "routing_key": routing_key.expose(),
        "event_action": match alert.status {
            Status::Open => "trigger",
            Status::Closed => "resolve",
        },
        "dedup_key": plain(&alert.fingerprint, 255),
    });
    if alert.status == Status::Closed {
        return event;
    }
    let cluster = render::cluster(alert);
    let summary = match cluster.is_empty() {
        true => plain(&alert.summary, 1_024),
        false => plain(
            &format!("{} ({cluster})", plain(&alert.summary, 880)),
            1_024,
        ),
    };
    let mut payload = json!({
        "summary": summary,
        // Required, and the one thing that an alert without a cluster has.
        "source": if cluster.is_empty() { "lanner".to_owned() } else { cluster },
        "severity": severity(alert.severity),
        "class": plain(&alert.detector.id, 255),
        "custom_details": details(alert),
    });
    for (key, value) in [
        ("component", render::object(alert)),
        ("group", plain(&alert.object.namespace, 255)),
    ] {
        if !value.is_empty() {
            payload[key] = json!(value);
        }
    }
    if let Some(time) = alert.last_seen.or(alert.first_seen) {
        payload["timestamp"] = json!(time.to_string());
    }
    event["payload"] = payload;
    event["client"] = json!("Lanner");
    let links: Vec<Value> = links(alert)
        .take(5)
        .map(|url| json!({"href": url, "text": url}))
        .collect();
    if !links.is_empty() {
        event["links"] = json!(links);
    }
    event
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "info",
    }
}

fn details(alert: &Alert) -> Value {
    let sheet = Sheet::new(alert);
    let evidence: Vec<Value> = sheet
        .evidence
        .iter()
        .map(|piece| json!({"time": piece.when, "record": piece.excerpt, "place": piece.place, "query": piece.kql}))
        .collect();
    let mut details: Map<String, Value> = sheet
        .rows
        .iter()
        .map(|(label, value)| ((*label).to_owned(), json!(value)))
        .collect();
    for (label, value) in [
        ("Severity", sheet.severity),
        ("Kind", sheet.kind),
        ("Why", &sheet.reason),
        ("Look at first", &sheet.triage.join("\n")),
        ("Remedy", &sheet.remedy.join("\n")),
        ("Detector", &sheet.detector),
        ("Title", &sheet.title),
        ("Alert", &sheet.id),
    ] {
        if !value.is_empty() {
            details.insert(label.to_owned(), json!(value));
        }
    }
    if !evidence.is_empty() {
        details.insert("Evidence".to_owned(), json!(evidence));
    }
    Value::Object(details)
}
