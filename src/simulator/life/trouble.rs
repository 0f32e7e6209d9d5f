//! What goes wrong without anybody's doing wrong: expired tokens, missing rights, conflicts, an API
//! server that is busy, webhooks that do not answer, pods that crash.

use std::time::Duration;

use super::super::Traffic;
use super::super::body;
use super::super::event::{Client, Stage, Target};
use super::super::identity::Identity;
use super::super::world::World;

/// One kind of trouble, for a while.
pub fn trouble(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    match t.rng.below(8) {
        0 => expired_token(world, t),
        1 => missing_right(world, t),
        2 => conflicts(world, t),
        3 | 4 => busy(world, t),
        5 => crash_loop(world, t),
        6 => silent_webhook(world, t),
        _ => wrong_context(world, t),
    }
    t.rng.wait(9000.0)
}

/// A program that never reads its token again, and is refused until somebody restarts it.
fn expired_token(world: &mut World, t: &mut Traffic<'_>) {
    let app = t.rng.below(world.apps.len());
    let node = world.apps[app].pods[0].node;
    let nobody = Identity::new("", "", &[], &[]);
    let client = world.client(&nobody, node, "report-exporter/v0.9 (linux/amd64)", "");
    let ns = world.apps[app].namespace.clone();
    for _ in 0..40 + t.rng.below(100) {
        let target = Target::core("configmaps").ns(&ns).name("report-settings");
        let mut event =
            client
                .request(t.rng, t.now, "get", target)
                .fails(401, "Unauthorized", "Unauthorized");
        event.stage = Stage::Started;
        event.bare = true;
        t.send(event);
        t.pass(5.0, 30.0);
    }
}

/// An operator's new version asks for what its role does not have yet, again and again.
fn missing_right(world: &mut World, t: &mut Traffic<'_>) {
    let agent = world.agents[t.rng.below(world.agents.len())].client.clone();
    let kinds = [
        Target::of("gateway.networking.k8s.io", "v1", "gateways"),
        Target::of("gateway.networking.k8s.io", "v1", "httproutes"),
        Target::of("policy", "v1", "poddisruptionbudgets"),
    ];
    let kinds = &kinds[..1 + t.rng.below(3)];
    for _ in 0..40 + t.rng.below(60) {
        for kind in kinds {
            let event = agent
                .request(t.rng, t.now, "list", kind.clone())
                .query("limit=500&resourceVersion=0")
                .forbidden();
            t.send(event);
        }
        t.pass(10.0, 60.0);
    }
}

fn conflicts(world: &mut World, t: &mut Traffic<'_>) {
    let agent = world.agents[t.rng.below(world.agents.len())].client.clone();
    let app = t.rng.pick(&world.apps);
    let target = Target::of("apps", "v1", "deployments")
        .ns(&app.namespace)
        .name(&app.name);
    for _ in 0..5 + t.rng.below(20) {
        let event = agent
            .request(t.rng, t.now, "update", target.clone())
            .sends(body::deployment(&app.namespace, &app.name, &app.image, 2, 1).to_string())
            .fails(409, "Conflict", "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version and try again");
        t.send(event);
        t.pass(0.05, 2.0);
    }
}

/// Everyone is told to wait, or gets errors, for minutes.
fn busy(world: &mut World, t: &mut Traffic<'_>) {
    let (code, reason, message): (u16, &'static str, &str) = *t.rng.pick(&[
        (
            429,
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
        ),
        (
            500,
            "InternalError",
            "Internal error occurred: etcdserver: leader changed",
        ),
        (
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        (
            504,
            "Timeout",
            "request did not complete within requested timeout",
        ),
    ]);
    for _ in 0..100 {
        let app = t.rng.pick(&world.apps);
        let client = match t.rng.below(3) {
            0 => app.client.clone(),
            1 => world.agents[t.rng.below(world.agents.len())].client.clone(),
            _ => world.nodes[t.rng.below(world.nodes.len())].kubelet.clone(),
        };
        let (verb, target) = *t.rng.pick(&[
            ("list", "pods"),
            ("get", "configmaps"),
            ("list", "secrets"),
            ("create", "events"),
        ]);
        let mut event = client
            .request(t.rng, t.now, verb, Target::core(target).ns(&app.namespace))
            .fails(code, reason, message);
        if code == 500 && t.rng.chance(0.05) {
            event.stage = Stage::Panic;
        }
        t.send(event);
        t.pass(0.1, 3.0);
    }
}

fn crash_loop(world: &mut World, t: &mut Traffic<'_>) {
    let app = t.rng.below(world.apps.len());
    for round in 0..20 {
        let app = &world.apps[app];
        let pod = &app.pods[0];
        let kubelet = world.nodes[pod.node].kubelet.clone();
        let patch = format!(
            "{{\"status\":{{\"containerStatuses\":[{{\"name\":\"app\",\"restartCount\":{round},\"ready\":false,\"state\":{{\"waiting\":{{\"reason\":\"CrashLoopBackOff\"}}}}}}]}}}}"
        );
        let target = Target::core("pods")
            .ns(&app.namespace)
            .name(&pod.name)
            .sub("status");
        let event = kubelet.request(t.rng, t.now, "patch", target).sends(patch);
        t.send(event);
        let text = body::pod_event(
            &app.namespace,
            &pod.name,
            "BackOff",
            "Back-off restarting failed container app in pod",
            t.now,
        );
        let event = kubelet
            .request(
                t.rng,
                t.now,
                "create",
                Target::core("events").ns(&app.namespace),
            )
            .sends(text);
        t.send(event);
        t.pass(10.0, 300.0);
    }
}

/// A webhook of the fail-closed kind is away: what it would have judged is refused.
fn silent_webhook(world: &mut World, t: &mut Traffic<'_>) {
    for _ in 0..30 {
        let app = t.rng.pick(&world.apps);
        let target = Target::core("pods").ns(&app.namespace);
        let event = world
            .controller("replicaset-controller")
            .request(t.rng, t.now, "create", target)
            .fails(500, "InternalError", "Internal error occurred: failed calling webhook \"validate.kyverno.svc-fail\": failed to call webhook: context deadline exceeded");
        t.send(event);
        t.pass(1.0, 20.0);
    }
}

/// Somebody works in the wrong cluster for a minute: all they try is refused.
fn wrong_context(world: &mut World, t: &mut Traffic<'_>) {
    let developers: Vec<_> = world
        .people
        .iter()
        .filter(|person| person.duty == super::super::site::Duty::Developer)
        .cloned()
        .collect();
    let person = t.rng.pick(&developers).clone();
    let client: Client = world.at_work(&person, t.rng);
    let app = t.rng.pick(&world.apps);
    for _ in 0..2 + t.rng.below(4) {
        let (verb, target) = match t.rng.below(3) {
            0 => ("list", Target::core("pods").ns(&app.namespace)),
            1 => (
                "get",
                Target::of("apps", "v1", "deployments")
                    .ns(&app.namespace)
                    .name(&app.name),
            ),
            _ => ("list", Target::core("services").ns(&app.namespace)),
        };
        let event = client.request(t.rng, t.now, verb, target).forbidden();
        t.send(event);
        t.pass(3.0, 20.0);
    }
}
