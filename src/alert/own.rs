//! Alerts about Lanner itself: a receiver that loses what it was to be told.
//!
//! They come from [`crate::pipeline::live`], have no detector's file behind them, pass by the routes,
//! and go to every other receiver: whoever reads those must know that somebody else is told nothing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Alert, SCHEMA, Severity};
use crate::detect::matches::Digest128;
use crate::store::Evicted;

/// The id in place of a detector's.
pub const RECEIVER_QUOTA: &str = "receiver-quota";

/// What receivers have lost, and what of it was said. In memory alone: a receiver that still loses
/// after a restart is told of again.
#[derive(Debug, Default)]
pub struct Losses(BTreeMap<String, Loss>);

#[derive(Debug)]
struct Loss {
    began: Timestamp,
    count: u64,
    severity: Severity,
    /// Something is to be said that was not.
    owed: bool,
    told: Option<Timestamp>,
    sequence: u32,
}

impl Losses {
    pub fn add(&mut self, evicted: &Evicted, now: Timestamp) {
        let loss = self
            .0
            .entry(evicted.receiver.clone())
            .or_insert_with(|| Loss {
                began: now,
                count: 0,
                severity: Severity::High,
                owed: false,
                told: None,
                sequence: 0,
            });
        loss.count += evicted.notifications;
        loss.severity = loss.severity.max(evicted.severity);
        loss.owed = true;
    }

    /// The alerts to be told at `now`, each with the receiver that it is about and that cannot be told:
    /// at once of a first loss, and of more when `repeat` has passed.
    pub fn take_due(&mut self, now: Timestamp, repeat: SignedDuration) -> Vec<(String, Alert)> {
        let mut due = Vec::new();
        for (receiver, loss) in &mut self.0 {
            let waits = loss.told.is_some_and(|told| {
                (SignedDuration::ZERO..repeat).contains(&now.duration_since(told))
            });
            if loss.owed && !waits {
                loss.owed = false;
                loss.told = Some(now);
                loss.sequence += 1;
                due.push((receiver.clone(), loss.alert(receiver, now)));
            }
        }
        due
    }
}

impl Loss {
    fn alert(&self, receiver: &str, now: Timestamp) -> Alert {
        let fingerprint = Digest128::of([RECEIVER_QUOTA.as_bytes(), receiver.as_bytes()]);
        let began = self.began.as_nanosecond().to_be_bytes();
        let id = Digest128::of([&fingerprint.bytes()[..], &began]).hex();
        let count = self.count;
        let value = json!({
            "schema": SCHEMA,
            "notification_id": format!("{id}-{}", self.sequence),
            "id": id,
            "fingerprint": fingerprint.hex(),
            "incident": null,
            "detector": {
                "id": RECEIVER_QUOTA, "revision": 1, "hash": "0".repeat(64),
                "title": "A receiver loses notifications", "kind": "threat",
            },
            "severity": self.severity,
            "status": "open",
            "summary": format!("{receiver} takes nothing and its queue is full: {count} notifications became dead letters"),
            "reason": "More waits for the receiver than `store.receiver-quota` allows; the oldest of the least grave go.",
            "cluster": "", "cluster_name": "",
            "first_seen": self.began, "last_seen": now, "detected_at": now,
            "count": count,
            "actor": { "user": "", "groups": [], "impersonated": null, "service_account": null },
            "source_ip": { "address": null, "network": null, "class": "" },
            "user_agent": "",
            "object": { "group": "", "resource": "", "subresource": "", "namespace": "", "name": "" },
            "attack": [],
            "guide": "",
            "triage": "See `lanner status` for its last error, and `lanner outbox list --dead` for what it was not told. If alerts flood, find out who causes them: somebody may want to drown one of them.",
            "remedy": "Mend the receiver, then `lanner outbox retry --dead`.",
            "references": [],
            "evidence": [],
        });
        serde_json::from_value(value).expect("a test reads one back")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_at_once_and_then_seldom() {
        let begin: Timestamp = "2026-11-20T10:00:00Z".parse().expect("a time");
        let at = |minutes| begin + SignedDuration::from_mins(minutes);
        let repeat = SignedDuration::from_hours(8);
        let evicted = Evicted {
            receiver: "webhook.soc".to_owned(),
            notifications: 10,
            severity: Severity::Critical,
            deleted: 0,
        };
        let mut losses = Losses::default();
        assert!(losses.take_due(at(0), repeat).is_empty());
        losses.add(&evicted, at(0));
        let told = losses.take_due(at(0), repeat);
        assert_eq!(told.len(), 1);
        let (receiver, first) = &told[0];
        assert_eq!((receiver.as_str(), first.count), ("webhook.soc", 10));
        assert_eq!(first.severity, Severity::Critical);
        for minute in 1..400 {
            losses.add(&evicted, at(minute));
            assert!(losses.take_due(at(minute), repeat).is_empty());
        }
        let told = losses.take_due(at(481), repeat);
        let (_, second) = &told[0];
        assert_eq!(second.count, 4000);
        assert_eq!(second.id, first.id);
        assert_ne!(second.notification_id, first.notification_id);
        assert!(
            losses.take_due(at(2000), repeat).is_empty(),
            "nothing more was lost"
        );
    }
}
