//! Bodies of requests and answers: Kubernetes objects as JSON, with the bulk that real ones carry.
//!
//! Those written thousands of times a second are put together as text; the rare ones are values.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::rng::Rng;

/// Variables that a workload's containers have: most few, and one in eight what a monolith has.
fn variables(app: &str) -> usize {
    let sum: usize = app.bytes().map(usize::from).sum();
    match sum % 8 {
        0 => 90,
        1..=3 => 24,
        _ => 3,
    }
}

/// Field ownership, which is much of every real object.
fn managed_fields(out: &mut String, managers: &[&str], variables: usize, at: Timestamp) {
    out.push_str("\"managedFields\":[");
    for (i, manager) in managers.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        let _ = write!(
            out,
            "{{\"manager\":\"{manager}\",\"operation\":\"Update\",\"apiVersion\":\"v1\",\"time\":\"{at:.0}\",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":{{\"f:metadata\":{{\"f:annotations\":{{\".\":{{}},\"f:checksum/config\":{{}}}},\"f:labels\":{{\".\":{{}},\"f:app\":{{}},\"f:app.kubernetes.io/instance\":{{}},\"f:pod-template-hash\":{{}}}}}},\"f:spec\":{{\"f:containers\":{{\"k:{{\\\"name\\\":\\\"app\\\"}}\":{{\".\":{{}},\"f:env\":{{\".\":{{}}"
        );
        for variable in 0..variables {
            let _ = write!(
                out,
                ",\"k:{{\\\"name\\\":\\\"SETTING_{variable}\\\"}}\":{{\".\":{{}},\"f:name\":{{}},\"f:value\":{{}}}}"
            );
        }
        out.push_str(
            "},\"f:image\":{},\"f:imagePullPolicy\":{},\"f:ports\":{},\"f:resources\":{}}},\"f:serviceAccountName\":{}}}}",
        );
    }
    out.push(']');
}

/// A pod of a workload.
pub struct Pod<'a> {
    pub namespace: &'a str,
    pub app: &'a str,
    pub name: &'a str,
    pub image: &'a str,
    pub node: &'a str,
    pub address: &'a str,
    pub revision: u64,
}

impl Pod<'_> {
    /// The whole object, running.
    pub fn json(&self, at: Timestamp, rng: &mut Rng) -> String {
        let mut out = String::with_capacity(4096);
        let (ns, app, name) = (self.namespace, self.app, self.name);
        let _ = write!(
            out,
            "{{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{{\"name\":\"{name}\",\"generateName\":\"{app}-\",\"namespace\":\"{ns}\",\"uid\":\"{}\",\"resourceVersion\":\"{}\",\"creationTimestamp\":\"{at:.0}\",\"labels\":{{\"app\":\"{app}\",\"app.kubernetes.io/instance\":\"{app}\",\"app.kubernetes.io/managed-by\":\"Helm\"}},\"annotations\":{{\"checksum/config\":\"{}\"}},\"ownerReferences\":[{{\"apiVersion\":\"apps/v1\",\"kind\":\"ReplicaSet\",\"name\":\"{app}\",\"uid\":\"{}\",\"controller\":true,\"blockOwnerDeletion\":true}}],",
            rng.uuid(),
            self.revision,
            rng.hex(64),
            rng.uuid(),
        );
        let managers = ["kube-controller-manager", "kubelet"];
        managed_fields(&mut out, &managers, variables(app), at);
        out.push_str("},\"spec\":");
        self.spec(&mut out);
        out.push_str(",\"status\":");
        self.status(&mut out, at);
        out.push('}');
        out
    }

    fn spec(&self, out: &mut String) {
        let (app, image, node) = (self.app, self.image, self.node);
        let mut settings = String::new();
        for variable in 0..variables(app) {
            let _ = write!(
                settings,
                ",{{\"name\":\"SETTING_{variable}\",\"value\":\"{app}-backend-{variable}.internal.example.com:8443\"}}"
            );
        }
        let _ = write!(
            out,
            "{{\"volumes\":[{{\"name\":\"kube-api-access\",\"projected\":{{\"sources\":[{{\"serviceAccountToken\":{{\"expirationSeconds\":3607,\"path\":\"token\"}}}},{{\"configMap\":{{\"name\":\"kube-root-ca.crt\",\"items\":[{{\"key\":\"ca.crt\",\"path\":\"ca.crt\"}}]}}}}],\"defaultMode\":420}}}}],\"containers\":[{{\"name\":\"app\",\"image\":\"{image}\",\"args\":[\"--config=/etc/{app}/config.yaml\"],\"ports\":[{{\"name\":\"http\",\"containerPort\":8080,\"protocol\":\"TCP\"}}],\"env\":[{{\"name\":\"LOG_LEVEL\",\"value\":\"info\"}},{{\"name\":\"POD_NAME\",\"valueFrom\":{{\"fieldRef\":{{\"apiVersion\":\"v1\",\"fieldPath\":\"metadata.name\"}}}}}}{settings}],\"resources\":{{\"limits\":{{\"memory\":\"512Mi\"}},\"requests\":{{\"cpu\":\"100m\",\"memory\":\"256Mi\"}}}},\"volumeMounts\":[{{\"name\":\"kube-api-access\",\"readOnly\":true,\"mountPath\":\"/var/run/secrets/kubernetes.io/serviceaccount\"}}],\"livenessProbe\":{{\"httpGet\":{{\"path\":\"/healthz\",\"port\":\"http\",\"scheme\":\"HTTP\"}},\"timeoutSeconds\":1,\"periodSeconds\":10,\"successThreshold\":1,\"failureThreshold\":3}},\"imagePullPolicy\":\"IfNotPresent\",\"securityContext\":{{\"capabilities\":{{\"drop\":[\"ALL\"]}},\"runAsNonRoot\":true,\"runAsUser\":10001,\"readOnlyRootFilesystem\":true,\"allowPrivilegeEscalation\":false}}}}],\"restartPolicy\":\"Always\",\"terminationGracePeriodSeconds\":30,\"dnsPolicy\":\"ClusterFirst\",\"serviceAccountName\":\"{app}\",\"nodeName\":\"{node}\",\"securityContext\":{{\"seccompProfile\":{{\"type\":\"RuntimeDefault\"}}}},\"schedulerName\":\"default-scheduler\",\"enableServiceLinks\":false}}"
        );
    }

    fn status(&self, out: &mut String, at: Timestamp) {
        out.push_str("{\"phase\":\"Running\",\"conditions\":[");
        for (i, kind) in ["Initialized", "Ready", "ContainersReady", "PodScheduled"]
            .iter()
            .enumerate()
        {
            let comma = if i > 0 { "," } else { "" };
            let _ = write!(
                out,
                "{comma}{{\"type\":\"{kind}\",\"status\":\"True\",\"lastProbeTime\":null,\"lastTransitionTime\":\"{at:.0}\"}}"
            );
        }
        let _ = write!(
            out,
            "],\"podIP\":\"{0}\",\"podIPs\":[{{\"ip\":\"{0}\"}}],\"startTime\":\"{at:.0}\",\"containerStatuses\":[{{\"name\":\"app\",\"state\":{{\"running\":{{\"startedAt\":\"{at:.0}\"}}}},\"lastState\":{{}},\"ready\":true,\"restartCount\":0,\"image\":\"{1}\",\"started\":true}}],\"qosClass\":\"Burstable\"}}",
            self.address, self.image
        );
    }

    /// What a kubelet patches.
    pub fn status_patch(&self, at: Timestamp, rng: &mut Rng) -> String {
        let mut out = format!("{{\"metadata\":{{\"uid\":\"{}\"}},\"status\":", rng.uuid());
        self.status(&mut out, at);
        out.push('}');
        out
    }
}

/// What a kubelet patches into its node's status: conditions, and at times the images it has.
pub fn node_status_patch(at: Timestamp, images: usize) -> String {
    let mut out = String::from(
        "{\"status\":{\"$setElementOrder/conditions\":[{\"type\":\"MemoryPressure\"},{\"type\":\"DiskPressure\"},{\"type\":\"PIDPressure\"},{\"type\":\"Ready\"}],\"conditions\":[",
    );
    for (i, (kind, reason)) in [
        ("MemoryPressure", "KubeletHasSufficientMemory"),
        ("DiskPressure", "KubeletHasNoDiskPressure"),
        ("PIDPressure", "KubeletHasSufficientPID"),
        ("Ready", "KubeletReady"),
    ]
    .iter()
    .enumerate()
    {
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(
            out,
            "{comma}{{\"lastHeartbeatTime\":\"{at:.0}\",\"message\":\"{reason}\",\"reason\":\"{reason}\",\"type\":\"{kind}\"}}"
        );
    }
    out.push(']');
    if images > 0 {
        out.push_str(",\"images\":[");
        for i in 0..images {
            let comma = if i > 0 { "," } else { "" };
            let _ = write!(
                out,
                "{comma}{{\"names\":[\"registry.example.azurecr.io/team/service-{i}@sha256:{i:064x}\",\"registry.example.azurecr.io/team/service-{i}:1.{i}.0\"],\"sizeBytes\":{}}}",
                40_000_000 + i * 1_234_567
            );
        }
        out.push(']');
    }
    out.push_str("}}");
    out
}

/// A Kubernetes event about a pod.
pub fn pod_event(namespace: &str, pod: &str, reason: &str, message: &str, at: Timestamp) -> String {
    json!({
        "kind": "Event", "apiVersion": "v1",
        "metadata": {"name": format!("{pod}.{:x}", at.as_microsecond()), "namespace": namespace},
        "involvedObject": {"kind": "Pod", "namespace": namespace, "name": pod, "apiVersion": "v1"},
        "reason": reason, "message": message, "type": "Normal", "count": 1,
        "source": {"component": "kubelet"}, "firstTimestamp": format!("{at:.0}"),
        "reportingComponent": "kubelet",
    })
    .to_string()
}

/// A question to the authorizer, with its answer.
pub fn access_review(user: &str, verb: &str, resource: &str, namespace: &str) -> String {
    json!({
        "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "metadata": {"creationTimestamp": null},
        "spec": {
            "resourceAttributes": {"namespace": namespace, "verb": verb, "resource": resource},
            "user": user, "groups": ["system:authenticated"],
        },
        "status": {"allowed": true},
    })
    .to_string()
}

pub fn endpoint_slice(
    namespace: &str,
    service: &str,
    addresses: &[String],
    revision: u64,
) -> String {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| {
            json!({"addresses": [address], "conditions": {"ready": true, "serving": true, "terminating": false}})
        })
        .collect();
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-7x4kq"), "namespace": namespace,
            "resourceVersion": revision.to_string(),
            "labels": {"kubernetes.io/service-name": service}},
        "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
    .to_string()
}

/// A deployment of hardened pods.
pub fn deployment(
    namespace: &str,
    app: &str,
    image: &str,
    replicas: usize,
    revision: u64,
) -> Value {
    let variables = variables(app);
    let settings: Vec<Value> = (0..variables)
        .map(|variable| {
            json!({"name": format!("SETTING_{variable}"),
                "value": format!("{app}-backend-{variable}.internal.example.com:8443")})
        })
        .collect();
    let owned: serde_json::Map<String, Value> = (0..variables)
        .map(|variable| {
            let key = format!("k:{{\"name\":\"SETTING_{variable}\"}}");
            (key, json!({".": {}, "f:name": {}, "f:value": {}}))
        })
        .collect();
    let managed: Vec<Value> = ["helm", "kube-controller-manager"]
        .iter()
        .map(|manager| {
            json!({"manager": manager, "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {"f:env": owned}}}}}}})
        })
        .collect();
    json!({
        "kind": "Deployment", "apiVersion": "apps/v1",
        "metadata": {"name": app, "namespace": namespace, "resourceVersion": revision.to_string(),
            "managedFields": managed,
            "generation": revision % 97,
            "labels": {"app": app, "app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"deployment.kubernetes.io/revision": (revision % 41).to_string()}},
        "spec": {
            "replicas": replicas, "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": app}},
            "template": {
                "metadata": {"labels": {"app": app}},
                "spec": {
                    "serviceAccountName": app,
                    "automountServiceAccountToken": false,
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "app", "image": image,
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "env": settings,
                        "envFrom": [{"configMapRef": {"name": format!("{app}-config")}}],
                        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
                        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "runAsUser": 10001, "capabilities": {"drop": ["ALL"]}},
                    }],
                },
            },
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        },
        "status": {"observedGeneration": revision % 97, "replicas": replicas, "readyReplicas": replicas},
    })
}

/// A Role, or a ClusterRole where `namespace` is empty.
pub fn role(namespace: &str, name: &str, labels: Value, rules: Value, revision: u64) -> Value {
    let kind = if namespace.is_empty() {
        "ClusterRole"
    } else {
        "Role"
    };
    json!({
        "kind": kind, "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": metadata(namespace, name, labels, revision),
        "rules": rules,
    })
}

/// A RoleBinding, or a ClusterRoleBinding where `namespace` is empty.
pub fn binding(
    namespace: &str,
    name: &str,
    (role_kind, role): (&str, &str),
    subjects: &[Value],
    revision: u64,
) -> Value {
    let kind = if namespace.is_empty() {
        "ClusterRoleBinding"
    } else {
        "RoleBinding"
    };
    json!({
        "kind": kind, "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": metadata(namespace, name, json!({}), revision),
        "subjects": subjects,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
    })
}

fn metadata(namespace: &str, name: &str, labels: Value, revision: u64) -> Value {
    let mut metadata = json!({"name": name, "resourceVersion": revision.to_string()});
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
        metadata["labels"] = labels;
    }
    metadata
}

pub fn user_subject(name: &str) -> Value {
    json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

pub fn group_subject(name: &str) -> Value {
    json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

pub fn account_subject(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

/// A service of the given type; `annotations` as JSON.
pub fn service(
    namespace: &str,
    name: &str,
    kind: &str,
    annotations: Value,
    revision: u64,
) -> Value {
    let mut metadata = metadata(namespace, name, json!({"k8s-app": name}), revision);
    metadata["annotations"] = annotations;
    json!({
        "kind": "Service", "apiVersion": "v1", "metadata": metadata,
        "spec": {"type": kind, "selector": {"k8s-app": name}, "clusterIP": "10.0.71.20",
            "ports": [{"name": "https", "port": 443, "targetPort": 8443, "protocol": "TCP"}]},
        "status": {"loadBalancer": {}},
    })
}
