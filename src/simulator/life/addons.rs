//! More that runs in grown clusters: Argo CD, external-secrets, Kyverno, the Prometheus operator,
//! scanners, agents with rights on the node. All of it is what anomaly detection takes for attacks
//! first: it reads secrets in bulk, asks for tokens, writes webhooks and runs privileged pods.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::Traffic;
use super::super::body;
use super::super::event::{Client, Target};
use super::super::world::{Operator, World};

pub fn argo(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    // Informers over everything, one after the other, when a connection breaks.
    if t.rng.chance(0.004) {
        for target in [
            Target::core("secrets"),
            Target::core("configmaps"),
            Target::core("services"),
            Target::core("serviceaccounts"),
            Target::core("pods"),
            Target::core("persistentvolumeclaims"),
            Target::of("apps", "v1", "deployments"),
            Target::of("apps", "v1", "statefulsets"),
            Target::of("apps", "v1", "daemonsets"),
            Target::of("batch", "v1", "cronjobs"),
            Target::of("networking.k8s.io", "v1", "ingresses"),
            Target::rbac("roles"),
            Target::rbac("rolebindings"),
            Target::rbac("clusterroles"),
        ] {
            t.pass(0.01, 0.2);
            let list = client
                .request(t.rng, t.now, "list", target.clone())
                .query("limit=500");
            t.send(list);
            let watch = client
                .request(t.rng, t.now, "watch", target)
                .query("allowWatchBookmarks=true&timeoutSeconds=2400&watch=true");
            let lasts = t.rng.turn(2400.0);
            t.send_all(watch.long(lasts));
        }
    }
    let app = t.rng.pick(&world.apps);
    let (ns, name) = (app.namespace.clone(), app.name.clone());
    let application = Target::of("argoproj.io", "v1alpha1", "applications")
        .ns("argocd")
        .name(&name);
    let patch = client.request(t.rng, t.now, "patch", application);
    t.send(patch);
    if t.rng.chance(0.02) {
        // Drift is corrected: the object is applied as it is in Git.
        let revision = world.revise();
        let app = t.rng.pick(&world.apps);
        let object = body::deployment(
            &app.namespace,
            &app.name,
            &app.image,
            app.pods.len(),
            revision,
        );
        let target = Target::of("apps", "v1", "deployments")
            .ns(&app.namespace)
            .name(&app.name);
        let event = client
            .request(t.rng, t.now, "patch", target)
            .query("fieldManager=argocd-controller&force=true")
            .writes(object.to_string());
        t.send(event);
    }
    if t.rng.chance(0.01) {
        // A hook of a sync: a job that migrates a database.
        let job = json!({"kind": "Job", "apiVersion": "batch/v1", "metadata": {"name": format!("{name}-migrate"), "namespace": ns},
            "spec": {"template": body::deployment(&ns, &name, &world.apps[0].image, 1, 1)["spec"]["template"]}});
        let mut event = client
            .request(
                t.rng,
                t.now,
                "create",
                Target::of("batch", "v1", "jobs").ns(&ns),
            )
            .writes(job.to_string());
        event.target.name = format!("{name}-migrate");
        t.send(event);
        t.pass(20.0, 60.0);
        let done = Target::of("batch", "v1", "jobs")
            .ns(&ns)
            .name(&format!("{name}-migrate"));
        let event = client.request(t.rng, t.now, "delete", done);
        t.send(event);
    }
    t.rng.turn(60.0)
}

/// Reads and writes teams' secrets, and asks for their accounts' tokens to reach the vault.
pub fn external_secrets(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let app = t.rng.pick(&world.apps);
    let (ns, name) = (app.namespace.clone(), app.name.clone());
    let account = Target::core("serviceaccounts").ns(&ns).name(&name);
    let get = client.request(t.rng, t.now, "get", account.clone());
    t.send(get);
    t.pass(0.05, 0.2);
    let mut token = client.request(t.rng, t.now, "create", account.sub("token"));
    let issued = format!("JTI={}", t.rng.uuid());
    token
        .annotations
        .push(("authentication.kubernetes.io/issued-credential-id", issued));
    t.send(token);
    t.pass(0.3, 1.0);
    let secret = Target::core("secrets")
        .ns(&ns)
        .name(&format!("{name}-credentials"));
    let verb = if t.rng.chance(0.1) { "update" } else { "get" };
    let event = client.request(t.rng, t.now, verb, secret);
    t.send(event);
    let status = Target::of("external-secrets.io", "v1", "externalsecrets")
        .ns(&ns)
        .name(&name);
    let event = client.request(t.rng, t.now, "update", status.sub("status"));
    t.send(event);
    if t.rng.chance(0.01) {
        // All of them at once, after a restart.
        for app in &world.apps {
            for of in ["credentials", "db"] {
                let secret = Target::core("secrets")
                    .ns(&app.namespace)
                    .name(&format!("{}-{of}", app.name));
                t.pass(0.05, 0.3);
                let event = client.request(t.rng, t.now, "get", secret);
                t.send(event);
            }
        }
    }
    t.rng.turn(180.0)
}

/// Writes reports, looks after its own webhooks, and asks what people may do.
pub fn kyverno(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let app = t.rng.pick(&world.apps);
    let ns = app.namespace.clone();
    let report = Target::of("wgpolicyk8s.io", "v1alpha2", "policyreports")
        .ns(&ns)
        .name("8b1f0c4e");
    let event = client.request(t.rng, t.now, "update", report);
    t.send(event);
    if t.rng.chance(0.02) {
        let kind = *t.rng.pick(&[
            "validatingwebhookconfigurations",
            "mutatingwebhookconfigurations",
        ]);
        let name = if kind.starts_with('v') {
            "kyverno-resource-validating-webhook-cfg"
        } else {
            "kyverno-resource-mutating-webhook-cfg"
        };
        let object = json!({"kind": "ValidatingWebhookConfiguration", "apiVersion": "admissionregistration.k8s.io/v1",
            "metadata": {"name": name, "resourceVersion": world.revise().to_string(), "labels": {"webhook.kyverno.io/managed-by": "kyverno"}},
            "webhooks": [{"name": "validate.kyverno.svc-fail", "failurePolicy": "Fail", "sideEffects": "NoneOnDryRun", "timeoutSeconds": 10,
                "clientConfig": {"caBundle": "LS0tLS1CRUdJTg==", "service": {"namespace": "kyverno", "name": "kyverno-svc", "path": "/validate/fail"}},
                "rules": [{"apiGroups": ["", "apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods", "deployments"]}]}]});
        let target = Target::of("admissionregistration.k8s.io", "v1", kind).name(name);
        let event = client
            .request(t.rng, t.now, "update", target)
            .writes(object.to_string());
        t.send(event);
    }
    if t.rng.chance(0.05) {
        let review = Target::of("authorization.k8s.io", "v1", "selfsubjectaccessreviews");
        let event = client
            .request(t.rng, t.now, "create", review)
            .writes(body::access_review(
                &client.identity.name,
                "update",
                "pods",
                &ns,
            ));
        t.send(event);
    }
    t.rng.turn(90.0)
}

/// Keeps its stateful sets, and rewrites its generated configuration.
pub fn prometheus_operator(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let revision = world.revise();
    let image = "quay.io/prometheus/prometheus:v3.3.0";
    let mut object = body::deployment("monitoring", "prometheus-main", image, 2, revision);
    object["kind"] = "StatefulSet".into();
    let target = Target::of("apps", "v1", "statefulsets")
        .ns("monitoring")
        .name("prometheus-main");
    let event = client
        .request(t.rng, t.now, "update", target)
        .writes(object.to_string());
    t.send(event);
    let secret = Target::core("secrets")
        .ns("monitoring")
        .name("prometheus-main");
    let event = client.request(t.rng, t.now, "update", secret);
    t.send(event);
    t.rng.turn(1800.0)
}

/// A scanner of images: a job for each workload, whose pull secrets it reads.
pub fn scanner(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let ns = "trivy-system";
    for app in world.apps.iter().take(12) {
        let secret = Target::core("secrets")
            .ns(&app.namespace)
            .name("registry-pull");
        t.pass(0.1, 0.6);
        let event = client.request(t.rng, t.now, "get", secret);
        t.send(event);
    }
    let name = format!("scan-vulnerabilityreport-{}", t.rng.suffix(9));
    let spec = json!({"serviceAccountName": "trivy-operator", "restartPolicy": "Never", "containers": [{"name": "scan",
        "image": "ghcr.io/aquasecurity/trivy:0.61.0", "command": ["trivy", "image", "--quiet", "registry.example.azurecr.io/payments/ledger:1.2"]}]});
    let job = json!({"kind": "Job", "apiVersion": "batch/v1", "metadata": {"name": name, "namespace": ns}, "spec": {"template": {"spec": spec}}});
    let mut event = client
        .request(
            t.rng,
            t.now,
            "create",
            Target::of("batch", "v1", "jobs").ns(ns),
        )
        .writes(job.to_string());
    event.target.name.clone_from(&name);
    t.send(event);
    let pod = owned_pod(ns, &name, "Job", spec, t);
    let event = world
        .controller("job-controller")
        .request(t.rng, t.now, "create", Target::core("pods").ns(ns))
        .writes(pod.to_string());
    t.send(event);
    t.pass(30.0, 90.0);
    let log = Target::core("pods").ns(ns).name(&name).sub("log");
    let event = client.request(t.rng, t.now, "get", log);
    t.send(event);
    t.rng.turn(3600.0)
}

fn owned_pod(ns: &str, owner: &str, kind: &str, spec: Value, t: &mut Traffic<'_>) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": format!("{owner}-{}", t.rng.suffix(5)), "namespace": ns,
        "labels": {"app": owner}, "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": t.rng.uuid(), "controller": true}]},
        "spec": spec})
}

/// The agents of every node that need rights on it: as teams install them, and as AKS does.
pub fn agents() -> [(&'static str, &'static str, Value); 4] {
    [
        (
            "monitoring",
            "node-exporter",
            json!({"hostNetwork": true, "hostPID": true, "serviceAccountName": "node-exporter",
                "containers": [{"name": "node-exporter", "image": "quay.io/prometheus/node-exporter:v1.9.1",
                    "args": ["--path.rootfs=/host/root"], "volumeMounts": [{"name": "root", "mountPath": "/host/root", "readOnly": true}]}],
                "volumes": [{"name": "root", "hostPath": {"path": "/"}}]}),
        ),
        (
            "falco",
            "falco",
            json!({"serviceAccountName": "falco", "containers": [{"name": "falco", "image": "docker.io/falcosecurity/falco:0.40.0",
                "securityContext": {"privileged": true}, "volumeMounts": [{"name": "proc", "mountPath": "/host/proc", "readOnly": true}]}],
                "volumes": [{"name": "proc", "hostPath": {"path": "/proc"}}]}),
        ),
        (
            "kube-system",
            "csi-azuredisk-node",
            json!({"hostNetwork": true, "serviceAccountName": "csi-azuredisk-node-sa", "containers": [{"name": "azuredisk",
                "image": "mcr.microsoft.com/oss/kubernetes-csi/azuredisk-csi:v1.31.3", "securityContext": {"privileged": true},
                "volumeMounts": [{"name": "kubelet", "mountPath": "/var/lib/kubelet"}]}],
                "volumes": [{"name": "kubelet", "hostPath": {"path": "/var/lib/kubelet"}}]}),
        ),
        (
            "kube-system",
            "ama-logs",
            json!({"serviceAccountName": "ama-logs", "containers": [{"name": "ama-logs",
                "image": "mcr.microsoft.com/azuremonitor/containerinsights/ciprod:3.1.26", "securityContext": {"privileged": true},
                "volumeMounts": [{"name": "host", "mountPath": "/hostfs", "readOnly": true}]}],
                "volumes": [{"name": "host", "hostPath": {"path": "/"}}]}),
        ),
    ]
}

/// The agents' pods on a node that has just come.
pub fn start_agents(node: &str, world: &mut World, t: &mut Traffic<'_>) {
    for (ns, name, mut spec) in agents() {
        spec["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
            [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}}});
        let pod = owned_pod(ns, name, "DaemonSet", spec, t);
        t.pass(0.02, 0.2);
        let event = world
            .controller("daemon-set-controller")
            .request(t.rng, t.now, "create", Target::core("pods").ns(ns))
            .writes(pod.to_string());
        t.send(event);
    }
}

/// A release of an agent comes by Git: its DaemonSet gets another image, and pods follow.
pub fn agent_release(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let flux = world.agent(Operator::Kustomize).client.clone();
    let (ns, name, mut spec) = agents()[t.rng.below(2)].clone();
    let image = format!(
        "{}.{}",
        spec["containers"][0]["image"].as_str().unwrap_or_default(),
        t.rng.below(50)
    );
    spec["containers"][0]["image"] = image.into();
    let revision = world.revise();
    let object = json!({"kind": "DaemonSet", "apiVersion": "apps/v1", "metadata": {"name": name, "namespace": ns, "resourceVersion": revision.to_string(),
        "labels": {"kustomize.toolkit.fluxcd.io/name": "monitoring"}}, "spec": {"selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": spec}}});
    let target = Target::of("apps", "v1", "daemonsets").ns(ns).name(name);
    let event = flux
        .request(t.rng, t.now, "patch", target)
        .query("fieldManager=kustomize-controller&force=true")
        .writes(object.to_string());
    t.send(event);
    for _ in 0..world.nodes.len() {
        t.pass(5.0, 30.0);
        let pod = owned_pod(ns, name, "DaemonSet", spec.clone(), t);
        let event = world
            .controller("daemon-set-controller")
            .request(t.rng, t.now, "create", Target::core("pods").ns(ns))
            .writes(pod.to_string());
        t.send(event);
    }
    t.rng.wait(4.0 * 86_400.0)
}
