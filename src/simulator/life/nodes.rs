//! What every node does: leases, statuses, what a kubelet reads for its pods, agents on the node.

use std::time::Duration;

use super::super::Traffic;
use super::super::body;
use super::super::event::Target;
use super::super::world::{Operator, World};

const LEASES: &str = "coordination.k8s.io";

pub fn lease(node: usize, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let node = &world.nodes[node];
    let target = Target::of(LEASES, "v1", "leases")
        .ns("kube-node-lease")
        .name(&node.name);
    let event = node
        .kubelet
        .request(t.rng, t.now, "update", target)
        .query("timeout=10s");
    t.send(event);
    t.rng.turn(10.0)
}

pub fn node_status(node: usize, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let node = &world.nodes[node];
    let images = if t.rng.chance(0.1) { 30 } else { 0 };
    let target = Target::core("nodes").name(&node.name).sub("status");
    let event = node
        .kubelet
        .request(t.rng, t.now, "patch", target)
        .query("timeout=10s")
        .sends(body::node_status_patch(t.now, images));
    t.send(event);
    t.rng.turn(60.0)
}

pub fn pod_status(node: usize, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let revision = world.revise();
    let node = &world.nodes[node];
    let app = t.rng.pick(&world.apps);
    let pod = t.rng.pick(&app.pods);
    let patch = body::Pod {
        namespace: &app.namespace,
        app: &app.name,
        name: &pod.name,
        image: &app.image,
        node: &node.name,
        address: &pod.address,
        revision,
    }
    .status_patch(t.now, t.rng);
    let target = Target::core("pods").ns(&app.namespace).name(&pod.name);
    let get = node.kubelet.request(t.rng, t.now, "get", target.clone());
    t.send(get);
    t.pass(0.002, 0.02);
    let event = node
        .kubelet
        .request(t.rng, t.now, "patch", target.sub("status"))
        .sends(patch);
    t.send(event);
    if t.rng.chance(0.3) {
        let (reason, message) = *t.rng.pick(&[
            ("Pulled", "Container image already present on machine"),
            (
                "Unhealthy",
                "Readiness probe failed: HTTP probe failed with statuscode: 503",
            ),
            ("BackOff", "Back-off restarting failed container app in pod"),
            ("Started", "Started container app"),
        ]);
        let target = Target::core("events").ns(&app.namespace);
        let event = node
            .kubelet
            .request(t.rng, t.now, "create", target)
            .sends(body::pod_event(
                &app.namespace,
                &pod.name,
                reason,
                message,
                t.now,
            ));
        t.send(event);
    }
    t.rng.turn(30.0)
}

pub fn reads(node: usize, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let node = &world.nodes[node];
    let app = t.rng.pick(&world.apps);
    let (ns, name) = (app.namespace.as_str(), app.name.as_str());
    let kubelet = &node.kubelet;
    let event = match t.rng.below(10) {
        0..=2 => {
            let config = Target::core("configmaps")
                .ns(ns)
                .name(&format!("{name}-config"));
            kubelet.request(t.rng, t.now, "get", config)
        }
        3 => {
            let secret = Target::core("secrets").ns(ns).name(&format!("{name}-tls"));
            kubelet.request(t.rng, t.now, "get", secret)
        }
        4 => {
            let account = Target::core("serviceaccounts")
                .ns(ns)
                .name(name)
                .sub("token");
            let annotation = format!("JTI={}", t.rng.uuid());
            let mut event = kubelet.request(t.rng, t.now, "create", account);
            event.annotations.push((
                "authentication.kubernetes.io/issued-credential-id",
                annotation,
            ));
            event
        }
        5 => {
            let lease = Target::of(LEASES, "v1", "leases")
                .ns("kube-node-lease")
                .name(&node.name);
            kubelet.request(t.rng, t.now, "get", lease)
        }
        6 => {
            let own = Target::core("nodes").name(&node.name);
            kubelet
                .request(t.rng, t.now, "get", own)
                .query("resourceVersion=0&timeout=10s")
        }
        // A watch of one object begins or ends all the time.
        _ => {
            let (resource, object) = if t.rng.chance(0.5) {
                ("configmaps", "kube-root-ca.crt".to_owned())
            } else {
                ("secrets", format!("{name}-tls"))
            };
            let query = format!(
                "allowWatchBookmarks=true&fieldSelector=metadata.name%3D{object}&resourceVersion={}&timeout=7m3s&timeoutSeconds=423&watch=true",
                t.rng.below(90_000_000)
            );
            let target = Target::core(resource).ns(ns).name(&object);
            let mut event = kubelet.request(t.rng, t.now, "watch", target);
            event.uri = format!("/api/v1/namespaces/{ns}/{resource}?{query}");
            let lasts = t.rng.turn(423.0);
            let stages = event.long(lasts);
            t.send_all(stages);
            return t.rng.turn(6.0);
        }
    };
    t.send(event);
    t.rng.turn(6.0)
}

/// What DaemonSets do with the API server, each under its own account.
pub fn agents(node: usize, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let (kind, verb, target) = match t.rng.below(6) {
        0 => (
            Operator::CsiDisk,
            "get",
            Target::of("storage.k8s.io", "v1", "csinodes").name(&world.nodes[node].name),
        ),
        1 => (
            Operator::CloudNode,
            "get",
            Target::core("nodes").name(&world.nodes[node].name),
        ),
        2 => (Operator::AmaLogs, "list", Target::core("pods")),
        3 => (
            Operator::CoreDns,
            "watch",
            Target::of("discovery.k8s.io", "v1", "endpointslices"),
        ),
        4 => (
            Operator::AmaLogs,
            "get",
            Target::core("nodes").name(&world.nodes[node].name),
        ),
        _ => (Operator::KubeStateMetrics, "watch", Target::core("pods")),
    };
    let client = world.agent(kind).client.clone();
    let event = client.request(t.rng, t.now, verb, target);
    if verb == "watch" {
        let event = event.query("allowWatchBookmarks=true&timeoutSeconds=480&watch=true");
        let lasts = t.rng.turn(480.0);
        t.send_all(event.long(lasts));
    } else {
        t.send(event);
    }
    t.rng.turn(8.0)
}
