//! A record that every profile alerts on.

use std::fmt::Display;

use bytes::Bytes;
use serde_json::json;

/// A command in `pod` at `time`, as Azure wraps it; `number` makes it another request.
pub fn exec(pod: &str, number: i64, time: impl Display) -> Bytes {
    let time = time.to_string();
    let event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
        "auditID": format!("a0000000-0000-4000-8000-{number:012x}"),
        "stage": "ResponseStarted",
        "requestURI": format!("/api/v1/namespaces/shop/pods/{pod}/exec?command=id&stdout=true"),
        "verb": "get",
        "user": { "username": "ada@example.com", "groups": ["system:authenticated"] },
        "sourceIPs": ["203.0.113.7", "172.31.4.5"],
        "userAgent": "kubectl/v1.34.1",
        "objectRef": { "resource": "pods", "namespace": "shop", "name": pod, "apiVersion": "v1", "subresource": "exec" },
        "responseStatus": { "metadata": {}, "code": 101 },
        "requestReceivedTimestamp": time, "stageTimestamp": time,
        "annotations": { "authorization.k8s.io/decision": "allow" },
    });
    let record = json!({
        "category": "kube-audit",
        "time": time,
        "resourceId": "/SUBSCRIPTIONS/0/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/WEST",
        "properties": { "log": format!("{event}\n"), "stream": "stdout" },
    });
    Bytes::from(json!({ "records": [record] }).to_string())
}
