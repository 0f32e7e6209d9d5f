//! The control plane and AKS' own services: elections, controllers, watches, probes, reviews, logs.

use std::time::Duration;

use jiff::Timestamp;

use super::super::Traffic;
use super::super::body;
use super::super::event::{Client, Target};
use super::super::world::World;

const MANAGER: &str =
    "kube-controller-manager/v1.32.3 (linux/amd64) kubernetes/32cc146/leader-election";

/// Everyone who elects a leader asks every two seconds.
pub fn leader_election(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let manager = Client::new(&world.controller_manager, &[&world.hop], MANAGER, "");
    let electors = [
        (manager, "kube-controller-manager"),
        (world.scheduler.clone(), "kube-scheduler"),
        (world.cloud_controller.clone(), "cloud-controller-manager"),
        (
            world
                .aks
                .with_agent("csi-resizer/v0.0.0 (linux/amd64) kubernetes/$Format"),
            "external-resizer-file-csi-azure-com",
        ),
        (
            world.aks.with_agent(
                "cluster-autoscaler/v0.0.0 (linux/amd64) kubernetes/$Format/leader-election",
            ),
            "cluster-autoscaler",
        ),
    ];
    for (client, name) in electors {
        let lease = Target::of("coordination.k8s.io", "v1", "leases")
            .ns("kube-system")
            .name(name);
        t.pass(0.0, 0.3);
        if t.rng.chance(0.5) {
            let get = client
                .request(t.rng, t.now, "get", lease.clone())
                .query("timeout=5s");
            t.send(get);
        }
        let update = client
            .request(t.rng, t.now, "update", lease)
            .query("timeout=5s");
        t.send(update);
    }
    t.rng.turn(2.0)
}

pub fn controllers(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let revision = world.revise();
    let app = t.rng.pick(&world.apps);
    let (ns, name) = (app.namespace.clone(), app.name.clone());
    let event = match t.rng.below(9) {
        0 => {
            let addresses: Vec<String> = app.pods.iter().map(|pod| pod.address.clone()).collect();
            let target = Target::of("discovery.k8s.io", "v1", "endpointslices")
                .ns(&ns)
                .name(&format!("{name}-7x4kq"));
            world
                .controller("endpointslice-controller")
                .request(t.rng, t.now, "update", target)
                .writes(body::endpoint_slice(&ns, &name, &addresses, revision))
        }
        1 => {
            let target = Target::of("apps", "v1", "deployments")
                .ns(&ns)
                .name(&name)
                .sub("status");
            let object = body::deployment(&ns, &name, &app.image, app.pods.len(), revision);
            world
                .controller("deployment-controller")
                .request(t.rng, t.now, "update", target)
                .writes(object.to_string())
        }
        2 => {
            let target = Target::of("autoscaling", "v2", "horizontalpodautoscalers")
                .ns(&ns)
                .name(&name)
                .sub("status");
            let status = serde_json::json!({"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2",
                "metadata": {"name": name, "namespace": ns, "resourceVersion": revision.to_string()},
                "status": {"currentReplicas": app.pods.len(), "desiredReplicas": app.pods.len()}});
            world
                .controller("horizontal-pod-autoscaler")
                .request(t.rng, t.now, "update", target)
                .writes(status.to_string())
        }
        3 => {
            let target = Target::of("metrics.k8s.io", "v1beta1", "pods").ns(&ns);
            world
                .controller("horizontal-pod-autoscaler")
                .request(t.rng, t.now, "list", target)
                .query(&format!("labelSelector=app%3D{name}"))
        }
        // Keeps the built-in roles as the labelled ones add up; nothing changes.
        4 if t.rng.chance(0.1) => {
            let role = *t.rng.pick(&["admin", "edit", "view"]);
            let rules = serde_json::json!([{"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["get", "list", "watch"]}]);
            let object = body::role("", role, serde_json::json!({}), rules, revision);
            world
                .controller("clusterrole-aggregation-controller")
                .request(
                    t.rng,
                    t.now,
                    "patch",
                    Target::rbac("clusterroles").name(role),
                )
                .query("fieldManager=clusterrole-aggregation-controller&force=true")
                .writes(object.to_string())
        }
        5 => {
            let target = Target::core("configmaps").ns(&ns).name("kube-root-ca.crt");
            world
                .controller("root-ca-cert-publisher")
                .request(t.rng, t.now, "get", target)
        }
        6 if t.rng.chance(0.2) => {
            let target = Target::core("serviceaccounts")
                .ns("kube-system")
                .name("generic-garbage-collector")
                .sub("token");
            Client::new(&world.controller_manager, &[&world.hop], MANAGER, "")
                .request(t.rng, t.now, "create", target)
        }
        7 => {
            let target = Target::core("events").ns(&ns);
            let text = body::pod_event(
                &ns,
                &name,
                "ScalingReplicaSet",
                "Scaled up replica set",
                t.now,
            );
            world
                .controller("deployment-controller")
                .request(t.rng, t.now, "create", target)
                .sends(text)
        }
        _ => {
            let target = Target::core("serviceaccounts").ns(&ns).name(&name);
            world
                .controller("service-account-controller")
                .request(t.rng, t.now, "get", target)
        }
    };
    t.send(event);
    t.rng.wait(0.6)
}

/// Informers start over every few minutes.
pub fn watches(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let targets = [
        Target::core("pods"),
        Target::core("nodes"),
        Target::core("services"),
        Target::core("secrets"),
        Target::of("apps", "v1", "replicasets"),
        Target::of("rbac.authorization.k8s.io", "v1", "clusterroles"),
        Target::of("storage.k8s.io", "v1", "csidrivers"),
        Target::of("networking.k8s.io", "v1", "networkpolicies"),
    ];
    let target = t.rng.pick(&targets).clone();
    let client = match t.rng.below(3) {
        0 => world.scheduler.clone(),
        1 => Client::new(&world.controller_manager, &[&world.hop], MANAGER, ""),
        _ => world.cloud_controller.clone(),
    };
    let query = format!(
        "allowWatchBookmarks=true&resourceVersion={}&timeout=8m11s&timeoutSeconds=491&watch=true",
        world.revise()
    );
    let event = client.request(t.rng, t.now, "watch", target).query(&query);
    let lasts = t.rng.turn(491.0);
    t.send_all(event.long(lasts));
    t.rng.wait(3.0)
}

/// AKS' services: among others a config map that they try to create for ever.
pub fn aks(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let event = match t.rng.below(5) {
        0 => {
            let target = Target::core("configmaps").ns("kube-system");
            let mut event = world
                .hcp
                .request(t.rng, t.now, "create", target)
                .query("fieldManager=kubectl-create")
                .fails(
                    409,
                    "AlreadyExists",
                    "configmaps \"coredns-custom\" already exists",
                );
            event.target.name = "coredns-custom".to_owned();
            event
        }
        1 => world
            .aks
            .request(t.rng, t.now, "list", Target::core("nodes")),
        2 => {
            let target = Target::of("apps", "v1", "deployments")
                .ns("kube-system")
                .name("konnectivity-agent");
            world.hcp.request(t.rng, t.now, "get", target)
        }
        3 => {
            let node = t.rng.pick(&world.nodes).name.clone();
            let patch = "{\"metadata\":{\"labels\":{\"kubernetes.azure.com/consolidated-additional-properties\":\"5d2f\"}}}";
            world
                .aks
                .request(t.rng, t.now, "patch", Target::core("nodes").name(&node))
                .sends(patch)
                .gets(format!("{{\"kind\":\"Node\",\"apiVersion\":\"v1\",\"metadata\":{{\"name\":\"{node}\"}}}}"))
        }
        _ => {
            let identity =
                super::super::identity::Identity::system("readinessChecker", &["system:masters"]);
            Client::new(&identity, &[&world.hop], "Go-http-client/2.0", "").request(
                t.rng,
                t.now,
                "get",
                Target::url("/readyz"),
            )
        }
    };
    t.send(event);
    t.rng.wait(8.0)
}

/// Load balancers and probes, who are nobody.
pub fn probes(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let path = *t.rng.pick(&[
        "/healthz",
        "/livez",
        "/readyz",
        "/readyz?verbose",
        "/version",
    ]);
    let client = world.anonymous.clone();
    let event = client.request(t.rng, t.now, "get", Target::url(path));
    t.send(event);
    if t.rng.chance(0.004) {
        // The internet finds every public address.
        let scanner = world.outside(
            &client.identity,
            "198.51.100.200",
            "Mozilla/5.0 zgrab/0.x",
            "",
        );
        let mut event = scanner
            .request(t.rng, t.now, "get", Target::url("/"))
            .fails(
                403,
                "Forbidden",
                "forbidden: User \"system:anonymous\" cannot get path \"/\"",
            );
        event.allowed = false;
        t.send(event);
    }
    t.rng.turn(3.0)
}

/// Webhooks and aggregated API servers ask what others may do.
pub fn reviews(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    use super::super::world::Operator;
    let who = world.agent(Operator::MetricsServer).client.clone();
    let user = t.rng.pick(&world.apps).client.identity.name.clone();
    let event = if t.rng.chance(0.3) {
        who.request(
            t.rng,
            t.now,
            "create",
            Target::of("authentication.k8s.io", "v1", "tokenreviews"),
        )
    } else {
        let target = Target::of("authorization.k8s.io", "v1", "subjectaccessreviews");
        let ns = t.rng.pick(&world.apps).namespace.clone();
        who.request(t.rng, t.now, "create", target)
            .writes(body::access_review(&user, "get", "pods", &ns))
    };
    t.send(event);
    t.rng.wait(2.0)
}

/// Lines of control-plane components, which share the hub.
pub fn component_logs(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let stamp = klog_time(t.now);
    let app = t.rng.pick(&world.apps);
    let (category, text) = match t.rng.below(7) {
        0..=2 => {
            let verb = *t.rng.pick(&["GET", "LIST", "WATCH", "PUT"]);
            let line = format!(
                "I{stamp}       1 httplog.go:132] \"HTTP\" verb=\"{verb}\" URI=\"/api/v1/namespaces/{}/configmaps/{}-config\" latency=\"{:.3}ms\" userAgent=\"kubelet/v1.32.3 (linux/amd64) kubernetes/32cc146\" audit-ID=\"{}\" srcIP=\"10.224.0.{}:{}\" apf_pl=\"system\" apf_fs=\"system-nodes\" apf_iseats=1 apf_fseats=0 apf_additionalLatency=\"0s\" apf_execution_time=\"1.2ms\" resp=200",
                app.namespace,
                app.name,
                t.rng.between(0.4, 9.0),
                t.rng.uuid(),
                4 + t.rng.below(200),
                30_000 + t.rng.below(30_000),
            );
            ("kube-apiserver", line)
        }
        3 => (
            "kube-controller-manager",
            format!(
                "I{stamp}       1 event.go:389] \"Event occurred\" object=\"{}/{}\" fieldPath=\"\" kind=\"Deployment\" apiVersion=\"apps/v1\" type=\"Normal\" reason=\"ScalingReplicaSet\" message=\"Scaled up replica set\"",
                app.namespace, app.name
            ),
        ),
        4 => (
            "kube-scheduler",
            format!(
                "I{stamp}       1 schedule_one.go:314] \"Successfully bound pod to node\" pod=\"{}/{}\" node=\"{}\" evaluatedNodes=3 feasibleNodes=3",
                app.namespace, app.pods[0].name, world.nodes[app.pods[0].node].name
            ),
        ),
        5 => (
            "cluster-autoscaler",
            format!("I{stamp}       1 static_autoscaler.go:632] Starting scale down"),
        ),
        _ => (
            "guard",
            format!(
                "I{stamp}       1 azure.go:231] Authorization request for user {} was allowed",
                t.rng.pick(&world.people).identity.name
            ),
        ),
    };
    t.line(category, text);
    t.rng.wait(1.5)
}

/// `0417 13:23:32.030695`.
fn klog_time(at: Timestamp) -> String {
    at.strftime("%m%d %H:%M:%S.%6f").to_string()
}
