//! Prometheus Alertmanager's `POST /api/v2/alerts`.
//!
//! Format: `api/v2/openapi.yaml` in <https://github.com/prometheus/alertmanager>. An alert is known
//! by its labels there; ours come from the configuration and the detectors but for the namespace,
//! and the fingerprint keeps the alerts of one detector apart. Alertmanager ends an alert that is
//! not posted again for some minutes, which a daemon does not do, so that `endsAt` is always given.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::plain;
use crate::alert::render::{self, Sheet};
use crate::alert::{Alert, Severity, Status};

/// The alerts to post for an alert at `now`; an open one ends `resolve_after` from then if nothing
/// more is said of it. An alert that became graver is another one to Alertmanager, so that those of
/// the lower severities are ended with the same post.
pub fn alertmanager(alert: &Alert, now: Timestamp, resolve_after: Duration) -> Value {
    let starts = alert.first_seen.or(alert.detected_at).unwrap_or(now);
    // A start in the future, by a clock that is ahead, would be refused.
    let starts = starts.min(now);
    let resolve_after = SignedDuration::try_from(resolve_after).unwrap_or(SignedDuration::MAX);
    let later = now.saturating_add(resolve_after).unwrap_or(Timestamp::MAX);
    let post = |severity: Severity, ends: Timestamp| {
        json!({
            "labels": labels(alert, severity),
            "annotations": annotations(alert),
            "startsAt": starts.to_string(),
            "endsAt": ends.to_string(),
        })
    };
    let ends = match alert.status {
        Status::Open => later,
        Status::Closed => now,
    };
    let is_first = alert.notification_id == format!("{}-1", alert.id);
    let lower = Severity::ALL
        .into_iter()
        .filter(|severity| !is_first && *severity < alert.severity)
        .map(|severity| post(severity, now));
    let posts: Vec<Value> = std::iter::once(post(alert.severity, ends))
        .chain(lower)
        .collect();
    Value::Array(posts)
}

fn labels(alert: &Alert, severity: Severity) -> Value {
    // Label values without text are dropped there: they would not be the same labels.
    object([
        ("alertname", plain(&alert.detector.id, 120)),
        ("severity", severity.as_str().to_owned()),
        ("kind", alert.detector.kind.as_str().to_owned()),
        ("cluster", render::cluster(alert)),
        ("namespace", plain(&alert.object.namespace, 63)),
        ("fingerprint", plain(&alert.fingerprint, 64)),
        ("job", "lanner".to_owned()),
    ])
}

fn annotations(alert: &Alert) -> Value {
    let sheet = Sheet::new(alert);
    let evidence = sheet.evidence.first();
    let row = |label: &str| {
        let found = sheet.rows.iter().find(|(name, _)| *name == label);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    object([
        ("summary", sheet.summary.clone()),
        ("description", sheet.reason.clone()),
        ("title", sheet.title.clone()),
        ("who", row("Who")),
        ("from", row("From")),
        ("client", row("Client")),
        ("object", row("Object")),
        ("when", row("When")),
        ("attack", row("ATT&CK")),
        ("triage", sheet.triage.join("\n")),
        ("remedy", sheet.remedy.join("\n")),
        (
            "evidence",
            evidence
                .map(|piece| piece.excerpt.clone())
                .unwrap_or_default(),
        ),
        (
            "query",
            evidence.map(|piece| piece.kql.clone()).unwrap_or_default(),
        ),
        ("alert", sheet.id.clone()),
        ("cluster_id", plain(&alert.cluster, 400)),
    ])
}

/// Only what has text.
fn object<const N: usize>(pairs: [(&str, String); N]) -> Value {
    let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    let map: Map<String, Value> = pairs
        .map(|(key, value)| (key.to_owned(), Value::String(value)))
        .collect();
    Value::Object(map)
}
