//! Decoding a text, and what came of it without borrows.

use bytes::Bytes;
use lanner::decode::{Damage, Decoder, Form, Ignored, Payload, Record};
use lanner::event::{AuditEvent, Category};
use lanner::source::{Chunk, Framing};
use serde_json::{Value, json};

pub const CLUSTER: &str =
    "/SUBSCRIPTIONS/0A/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/BLUE";

pub fn decode(text: &[u8], framing: Framing, sink: &mut dyn FnMut(Record<'_>)) {
    let chunk = Chunk {
        bytes: Bytes::copy_from_slice(text),
        position: 7,
        framing,
        enqueued: None,
    };
    Decoder::default().decode(&chunk, &mut |record| {
        let start = record.position.offset as usize;
        assert_eq!(record.position.chunk, 7);
        assert_eq!(record.raw, &text[start..start + record.raw.len()]);
        sink(record);
    });
}

/// What a record turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub form: Form,
    pub category: Category,
    pub what: What,
    pub damage: Option<Damage>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// An audit event with this verb.
    Audit(String),
    ApiServer,
    Nothing(Ignored),
}

pub fn seen(text: &str) -> Vec<Seen> {
    seen_bytes(text.as_bytes())
}

pub fn seen_bytes(text: &[u8]) -> Vec<Seen> {
    let mut all = Vec::new();
    decode(text, Framing::Lines, &mut |record| {
        all.push(Seen {
            form: record.form,
            category: record.origin.category,
            what: match &record.payload {
                Payload::Audit(event) => What::Audit(event.verb.to_string()),
                Payload::ApiServer(_) => What::ApiServer,
                Payload::Nothing(ignored) => What::Nothing(*ignored),
            },
            damage: record.damage,
        });
    });
    all
}

/// Calls `check` with the one event that `text` holds, and its damage.
pub fn with_event(text: &str, check: impl FnOnce(&AuditEvent<'_>, Option<Damage>)) {
    let mut check = Some(check);
    decode(text.as_bytes(), Framing::Lines, &mut |record| {
        let check = check.take().expect("only one record");
        match &record.payload {
            Payload::Audit(event) => check(event, record.damage),
            other => panic!("no event: {other:?} of {text}"),
        }
    });
    assert!(check.is_none(), "no record in {text}");
}

/// A record with `log` as its payload.
pub fn envelope(category: &str, log: &Value) -> Value {
    json!({
        "time": "2026-11-20T10:00:00.123456789Z",
        "resourceId": CLUSTER,
        "category": category,
        "operationName": "Microsoft.ContainerService/managedClusters/diagnosticLogs/Read",
        "properties": { "log": log, "pod": "kube-apiserver-0", "stream": "stdout" },
    })
}

pub fn event() -> Value {
    json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "RequestResponse",
        "auditID": "5d0d3b1e-0000-4000-8000-000000000001",
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/web/pods?fieldManager=x&pretty=true",
        "verb": "create",
        "user": {
            "username": "ana@example.org",
            "uid": "u1",
            "groups": ["g1", "system:authenticated"],
            "extra": { "oid": ["o1"] },
        },
        "sourceIPs": ["192.0.2.7", "172.31.0.4"],
        "userAgent": "kubectl/v1.36.0 (linux/amd64)",
        "objectRef": { "resource": "pods", "namespace": "web", "name": "p", "apiVersion": "v1" },
        "responseStatus": { "metadata": {}, "code": 201 },
        "requestObject": { "kind": "Pod", "spec": { "containers": [{ "name": "c \"<é>\"" }] } },
        "responseObject": { "kind": "Pod", "metadata": { "uid": "x" } },
        "requestReceivedTimestamp": "2026-11-20T10:00:00.100000Z",
        "stageTimestamp": "2026-11-20T10:00:00.110000Z",
        "annotations": { "authorization.k8s.io/decision": "allow" },
    })
}
