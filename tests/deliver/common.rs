//! What the tests of deliveries share: an outbox in a temporary folder, an alert, servers.

use std::sync::Arc;
use std::time::Duration;

use lanner::alert::{
    Actor, Alert, DetectorRef, Evidence, Kind, ObjectId, SCHEMA, Severity, SourceIp, Status,
};
use lanner::store::{Commit, Entry, Inspector, NewNotification, Store, StoreConfig};
use tempfile::TempDir;

pub struct Outbox {
    pub store: Arc<Store>,
    config: StoreConfig,
    folder: TempDir,
}

impl Outbox {
    pub fn new() -> Outbox {
        let folder = TempDir::new().unwrap();
        let config = StoreConfig {
            path: folder.path().to_owned(),
            receiver_quota: 1 << 20,
            quarantine_quota: 1 << 20,
        };
        let (store, _) = Store::open(&config).unwrap();
        Outbox {
            store: Arc::new(store),
            config,
            folder,
        }
    }

    /// Closes the store, as a shutdown does, and opens it again.
    pub fn reopen(self) -> Outbox {
        let Outbox {
            store,
            config,
            folder,
        } = self;
        drop(Arc::try_unwrap(store).expect("all deliveries have ended"));
        let (store, _) = Store::open(&config).unwrap();
        Outbox {
            store: Arc::new(store),
            config,
            folder,
        }
    }

    pub fn add(&self, receiver: &str, id: &str, severity: Severity) {
        let notification = NewNotification {
            notification_id: id.to_owned(),
            receiver: receiver.to_owned(),
            severity,
            body: serde_json::to_string(&alert(id, severity)).unwrap(),
            enqueued: None,
        };
        let commit = Commit {
            notifications: vec![notification],
            ..Commit::default()
        };
        self.store.commit(&commit).unwrap();
    }

    pub fn pending(&self, receiver: &str) -> u64 {
        self.count(receiver).0
    }

    pub fn dead(&self, receiver: &str) -> u64 {
        self.count(receiver).1
    }

    fn count(&self, receiver: &str) -> (u64, u64) {
        let counts = self.store.outbox_counts().unwrap();
        let found = counts.iter().find(|count| count.receiver == receiver);
        found.map_or((0, 0), |count| (count.pending, count.dead))
    }

    pub fn inspector(&self) -> Inspector {
        Inspector::open(&self.config).unwrap()
    }

    pub fn entries(&self, receiver: &str) -> Vec<Entry> {
        self.inspector().list(Some(receiver), 1_000).unwrap()
    }
}

/// Waits until `holds`; a test that waits in vain fails after half a minute.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}

/// An alert with something in every field.
pub fn alert(notification_id: &str, severity: Severity) -> Alert {
    Alert {
        schema: SCHEMA.to_owned(),
        id: "5d1f0c".to_owned(),
        fingerprint: "77aa01".to_owned(),
        notification_id: notification_id.to_owned(),
        incident: None,
        detector: Arc::new(DetectorRef {
            id: "pod-exec".to_owned(),
            revision: 1,
            hash: "0f".repeat(32),
            title: "Command execution in a pod".to_owned(),
            kind: Kind::Threat,
        }),
        severity,
        status: Status::Open,
        summary: "mallory@example.com ran `sh -c 'cat /etc/shadow'` in shop/cart-7d9f".to_owned(),
        reason: "commands in pods of this namespace are run by its deployment alone".to_owned(),
        cluster: "/subscriptions/0/resourcegroups/rg/providers/microsoft.containerservice/managedclusters/prod-weu".to_owned(),
        cluster_name: "prod-weu".to_owned(),
        first_seen: "2026-11-20T10:00:00Z".parse().ok(),
        last_seen: "2026-11-20T10:04:30Z".parse().ok(),
        detected_at: "2026-11-20T10:04:31Z".parse().ok(),
        count: 3,
        actor: Actor {
            user: "mallory@example.com".to_owned(),
            groups: vec!["system:authenticated".to_owned()],
            impersonated: Some("system:serviceaccount:shop:deployer".to_owned()),
            service_account: None,
        },
        source_ip: SourceIp {
            address: Some("203.0.113.7".to_owned()),
            network: Some("203.0.113.0/24".to_owned()),
            class: "public".to_owned(),
        },
        user_agent: "kubectl/v1.31.0 (linux/amd64)".to_owned(),
        object: ObjectId {
            group: String::new(),
            resource: "pods".to_owned(),
            subresource: "exec".to_owned(),
            namespace: "shop".to_owned(),
            name: "cart-7d9f".to_owned(),
        },
        attack: ["T1609".to_owned()].into(),
        guide: "Limit Container Runtime Privileges".into(),
        triage: "Ask the user whether they ran it; look at what the pod's token may do.".into(),
        remedy: "Take the right to exec from people; give it for a time where it is needed.".into(),
        references: ["https://kubernetes.io/docs/concepts/security/".to_owned()].into(),
        evidence: vec![Evidence {
            audit_id: "9c1f6f1e-93a4-4a3a-8f0e-1f5a5a0c7a11".to_owned(),
            stage: "ResponseStarted".to_owned(),
            time: "2026-11-20T10:00:00Z".parse().ok(),
            source: "ns/hub/$Default/3".to_owned(),
            position: "1234#5".to_owned(),
            excerpt: "get /api/v1/namespaces/shop/pods/cart-7d9f/exec 101 command: sh -c 'cat /etc/shadow'".to_owned(),
        }],
    }
}

/// An alert whose every text from the log is hostile.
pub fn hostile(severity: Severity) -> Alert {
    let evil = "</td><script>alert(1)</script>\r\nBcc: all@example.com\x1b[2J\u{202e}{{ 7*7 }}<!channel> &amp; *x* `y` ```z``` [l](https://x.example) <https://x.example|l> ${x}";
    let mut alert = alert("a-1", severity);
    alert.summary = evil.to_owned();
    Arc::make_mut(&mut alert.detector).title = evil.to_owned();
    alert.reason = evil.to_owned();
    alert.actor.user = evil.repeat(500);
    alert.actor.impersonated = Some(evil.to_owned());
    alert.user_agent = evil.to_owned();
    alert.source_ip.address = Some(evil.to_owned());
    alert.source_ip.class = evil.to_owned();
    alert.object.namespace = evil.to_owned();
    alert.object.name = evil.to_owned();
    alert.cluster_name = evil.to_owned();
    alert.references = alert
        .references
        .iter()
        .map(String::as_str)
        .chain(["javascript:alert(1)", "https://example.com/\"><script>"])
        .map(str::to_owned)
        .collect();
    alert.evidence[0].audit_id = evil.to_owned();
    alert.evidence[0].excerpt = evil.to_owned();
    alert.evidence[0].source = evil.to_owned();
    alert
}

/// An alert that knows nothing.
pub fn bare(severity: Severity) -> Alert {
    let mut alert = alert("a-1", severity);
    alert.first_seen = None;
    alert.last_seen = None;
    alert.actor = Default::default();
    alert.source_ip = Default::default();
    alert.object = Default::default();
    alert.cluster.clear();
    alert.cluster_name.clear();
    alert.user_agent.clear();
    alert.reason.clear();
    alert.triage = "".into();
    alert.remedy = "".into();
    alert.guide = "".into();
    alert.attack = [].into();
    alert.references = [].into();
    alert.evidence.clear();
    alert
}
