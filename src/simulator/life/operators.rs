//! Components that teams and AKS run in the cluster, each with its own habits, and the workloads
//! that talk to the API server themselves.

use std::time::Duration;

use serde_json::json;

use super::super::Traffic;
use super::super::body;
use super::super::event::{Client, Event, Target};
use super::super::site::ADMIN_GROUP;
use super::super::world::{Operator, World};

pub fn turn(kind: Operator, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let client = world.agent(kind).client.clone();
    match kind {
        Operator::Kustomize => reconcile(&client, world, t),
        Operator::Helm => helm_check(&client, world, t),
        Operator::CertManager => certificates(&client, world, t),
        Operator::Ingress => ingress(&client, world, t),
        Operator::Prometheus => scrape(&client, world, t),
        Operator::MetricsServer => node_metrics(&client, world, t),
        Operator::ArgoCd => super::addons::argo(&client, world, t),
        Operator::ExternalSecrets => super::addons::external_secrets(&client, world, t),
        Operator::Kyverno => super::addons::kyverno(&client, world, t),
        Operator::PrometheusKeeper => super::addons::prometheus_operator(&client, world, t),
        Operator::Scanner => super::addons::scanner(&client, world, t),
        Operator::Gatekeeper => gatekeeper(&client, world, t),
        Operator::AzurePolicy => azure_policy(&client, world, t),
        Operator::Velero => backup(&client, world, t),
        Operator::ExternalDns | Operator::Keda | Operator::KubeStateMetrics => {
            lists(kind, &client, world, t)
        }
        Operator::CoreDns | Operator::CsiDisk | Operator::CloudNode | Operator::AmaLogs => {
            reads_configuration(&client, world, t)
        }
    }
}

/// GitOps compares everything by server-side dry runs, access rights too.
fn reconcile(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    const FLUX: &str = "kustomize.toolkit.fluxcd.io";
    let name = *t
        .rng
        .pick(&["apps", "infrastructure", "access", "monitoring"]);
    let source = Target::of("source.toolkit.fluxcd.io", "v1", "gitrepositories");
    let event = client.request(t.rng, t.now, "get", source.ns("flux-system").name("fleet"));
    t.send(event);
    let revision = world.revise();
    let objects: Vec<(Target, String)> = match name {
        "access" => vec![
            (
                Target::rbac("clusterrolebindings").name("platform-admins"),
                platform_admins(revision).to_string(),
            ),
            (
                Target::rbac("clusterroles").name("ci-deployer"),
                ci_deployer(revision).to_string(),
            ),
        ],
        _ => (0..3)
            .map(|_| {
                let app = t.rng.pick(&world.apps);
                let target = Target::of("apps", "v1", "deployments")
                    .ns(&app.namespace)
                    .name(&app.name);
                let count = app.pods.len();
                let object =
                    body::deployment(&app.namespace, &app.name, &app.image, count, revision);
                (target, object.to_string())
            })
            .collect(),
    };
    for (target, object) in objects {
        t.pass(0.01, 0.15);
        let event = client
            .request(t.rng, t.now, "patch", target)
            .query("dryRun=All&fieldManager=kustomize-controller&force=true")
            .writes(object);
        t.send(event);
    }
    t.pass(0.01, 0.2);
    let status = Target::of(FLUX, "v1", "kustomizations")
        .ns("flux-system")
        .name(name)
        .sub("status");
    let event = client
        .request(t.rng, t.now, "patch", status)
        .query("fieldManager=kustomize-controller");
    t.send(event);
    t.rng.turn(90.0)
}

/// The administrators' own binding, which stands since the cluster was made.
pub fn platform_admins(revision: u64) -> serde_json::Value {
    let subjects = [body::group_subject(ADMIN_GROUP)];
    body::binding(
        "",
        "platform-admins",
        ("ClusterRole", "cluster-admin"),
        &subjects,
        revision,
    )
}

pub fn ci_deployer(revision: u64) -> serde_json::Value {
    let rules = json!([
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["get", "list", "watch", "create", "patch", "update"]},
        {"apiGroups": [""], "resources": ["services", "configmaps"], "verbs": ["get", "list", "create", "patch"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "create", "delete"]},
    ]);
    body::role("", "ci-deployer", json!({}), rules, revision)
}

/// Helm keeps its releases in secrets, which it reads often and writes at upgrades.
fn helm_check(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let app = t.rng.pick(&world.apps);
    let secrets = Target::core("secrets").ns(&app.namespace);
    let event = client
        .request(t.rng, t.now, "list", secrets.clone())
        .query(&format!("labelSelector=name%3D{}%2Cowner%3Dhelm", app.name));
    t.send(event);
    t.pass(0.05, 0.4);
    let release = format!("sh.helm.release.v1.{}.v{}", app.name, app.release);
    let event = client.request(t.rng, t.now, "get", secrets.name(&release));
    t.send(event);
    t.rng.turn(60.0)
}

fn certificates(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let app = t.rng.pick(&world.apps);
    let certificates = Target::of("cert-manager.io", "v1", "certificates");
    let name = format!("{}-tls", app.name);
    let certificate = certificates.ns(&app.namespace).name(&name);
    let secret = Target::core("secrets").ns(&app.namespace).name(&name);
    let event = client.request(t.rng, t.now, "update", certificate.clone().sub("status"));
    t.send(event);
    if t.rng.chance(0.01) {
        let get = client.request(t.rng, t.now, "get", secret.clone());
        t.send(get);
        t.pass(0.2, 1.0);
        let query = "fieldManager=cert-manager-certificates-issuing&force=true";
        let renew = client.request(t.rng, t.now, "patch", secret).query(query);
        t.send(renew);
        let status = client.request(t.rng, t.now, "update", certificate.sub("status"));
        t.send(status);
    }
    if t.rng.chance(0.05) {
        // The injector writes authorities into webhooks.
        let injector =
            client.with_agent("cert-manager-cainjector/v1.17.1 (linux/amd64) cert-manager/8ec25b2");
        let target = Target::of(
            "admissionregistration.k8s.io",
            "v1",
            "validatingwebhookconfigurations",
        )
        .name("cert-manager-webhook");
        let patch = json!({"webhooks": [{"name": "webhook.cert-manager.io", "clientConfig": {"caBundle": "LS0tLS1CRUdJTg=="}}]});
        let event = injector
            .request(t.rng, t.now, "patch", target)
            .sends(patch.to_string())
            .gets(json!({"kind": "ValidatingWebhookConfiguration", "apiVersion": "admissionregistration.k8s.io/v1",
                "metadata": {"name": "cert-manager-webhook", "resourceVersion": world.revise().to_string()},
                "webhooks": [{"name": "webhook.cert-manager.io", "failurePolicy": "Fail", "sideEffects": "None",
                    "clientConfig": {"service": {"namespace": "cert-manager", "name": "cert-manager-webhook"}, "caBundle": "LS0tLS1CRUdJTg=="}}]}).to_string());
        t.send(event);
    }
    t.rng.turn(25.0)
}

fn ingress(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let app = t.rng.pick(&world.apps);
    let target = Target::of("networking.k8s.io", "v1", "ingresses")
        .ns(&app.namespace)
        .name(&app.name);
    let object = json!({
        "kind": "Ingress", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": app.name, "namespace": app.namespace},
        "spec": {"ingressClassName": "nginx",
            "tls": [{"hosts": [format!("{}.example.com", app.name)], "secretName": format!("{}-tls", app.name)}],
            "rules": [{"host": format!("{}.example.com", app.name), "http": {"paths": [{"path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": app.name, "port": {"name": "http"}}}}]}}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.70"}]}},
    });
    let event = client
        .request(t.rng, t.now, "update", target.sub("status"))
        .writes(object.to_string());
    t.send(event);
    let lease = Target::of("coordination.k8s.io", "v1", "leases")
        .ns("ingress-nginx")
        .name("ingress-nginx-leader");
    let event = client.request(t.rng, t.now, "update", lease);
    t.send(event);
    t.rng.turn(12.0)
}

/// Scrapers go through the API server where they cannot reach a target otherwise.
fn scrape(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let event = match t.rng.below(4) {
        0 => client.request(t.rng, t.now, "get", Target::url("/metrics")),
        1 => {
            let node = t.rng.pick(&world.nodes).name.clone();
            let mut event = client.request(
                t.rng,
                t.now,
                "get",
                Target::core("nodes").name(&node).sub("proxy"),
            );
            let path = *t.rng.pick(&["/metrics", "/metrics/cadvisor"]);
            event.uri.push_str(path);
            let [started, complete] = event.long(Duration::from_millis(180));
            t.send(started);
            complete
        }
        _ => {
            let resource = *t.rng.pick(&["pods", "endpoints", "services"]);
            let target = Target::core(resource);
            let event = client
                .request(t.rng, t.now, "watch", target)
                .query("allowWatchBookmarks=true&timeoutSeconds=330&watch=true");
            let [started, complete] = event.long(Duration::from_secs(330));
            t.send(started);
            complete
        }
    };
    t.send(event);
    t.rng.turn(10.0)
}

fn node_metrics(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let target = Target::core("configmaps")
        .ns("kube-system")
        .name("extension-apiserver-authentication");
    let event = client.request(t.rng, t.now, "get", target);
    t.send(event);
    let node = t.rng.pick(&world.nodes).name.clone();
    let event = client.request(
        t.rng,
        t.now,
        "get",
        Target::core("nodes").name(&node).sub("metrics"),
    );
    t.send(event);
    t.rng.turn(15.0)
}

/// Its audit writes what it found into its constraints.
fn gatekeeper(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let resource = *t.rng.pick(&["namespaces", "pods", "deployments"]);
    let target = match resource {
        "deployments" => Target::of("apps", "v1", resource),
        _ => Target::core(resource),
    };
    let event = client
        .request(t.rng, t.now, "list", target)
        .query("limit=500");
    t.send(event);
    let status = Target::of(
        "constraints.gatekeeper.sh",
        "v1beta1",
        "k8sazurev2noprivilege",
    )
    .name("azurepolicy-k8sazurev2noprivilege-2e8f")
    .sub("status");
    let event = client.request(t.rng, t.now, "update", status);
    t.send(event);
    if t.rng.chance(0.02) {
        // Someone's pod does not comply; the admission says no and that is that.
        let person = t.rng.pick(&world.people).clone();
        let who = world.at_work(&person, t.rng);
        let app = t.rng.pick(&world.apps);
        let target = Target::of("apps", "v1", "deployments").ns(&app.namespace);
        let message = "admission webhook \"validation.gatekeeper.sh\" denied the request: [azurepolicy-k8sazurev2containerallowedimag-9c1e] Container image docker.io/library/redis for container cache has not been allowed.";
        let event: Event = who
            .request(t.rng, t.now, "create", target)
            .query("fieldManager=kubectl-client-side-apply")
            .sends(
                body::deployment(&app.namespace, "cache", "docker.io/library/redis:7.4", 1, 0)
                    .to_string(),
            )
            .fails(403, "Forbidden", message);
        t.send(event);
    }
    t.rng.turn(30.0)
}

fn azure_policy(client: &Client, _world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let target = Target::of(
        "constraints.gatekeeper.sh",
        "v1beta1",
        "k8sazurev2noprivilege",
    )
    .name("azurepolicy-k8sazurev2noprivilege-2e8f");
    let verb = if t.rng.chance(0.2) { "update" } else { "get" };
    let event = client.request(t.rng, t.now, verb, target);
    t.send(event);
    t.rng.turn(45.0)
}

/// Lists everything, and freezes a database for its snapshot by a command in its pod.
fn backup(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    for resource in [
        "pods",
        "configmaps",
        "persistentvolumeclaims",
        "services",
        "serviceaccounts",
    ] {
        let app = t.rng.pick(&world.apps);
        let target = Target::core(resource).ns(&app.namespace);
        t.pass(0.02, 0.2);
        let event = client
            .request(t.rng, t.now, "list", target)
            .query("limit=500");
        t.send(event);
    }
    if let Some(app) = world.apps.iter().find(|app| app.namespace == "payments") {
        t.pass(0.1, 0.5);
        let pod = &app.pods[0].name;
        let query = "command=%2Fsbin%2Ffsfreeze&command=--freeze&command=%2Fdata&container=app&stderr=true&stdout=true";
        let event = client
            .request(
                t.rng,
                t.now,
                "create",
                Target::core("pods")
                    .ns(&app.namespace)
                    .name(pod)
                    .sub("exec"),
            )
            .query(query)
            .code(101);
        let stages = event.long(Duration::from_millis(420));
        t.send_all(stages);
    }
    let status = Target::of("velero.io", "v1", "backups")
        .ns("velero")
        .name("nightly");
    let event = client.request(t.rng, t.now, "patch", status);
    t.send(event);
    t.rng.turn(240.0)
}

fn lists(kind: Operator, client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let event = match kind {
        Operator::ExternalDns => {
            let target = Target::of("networking.k8s.io", "v1", "ingresses");
            client.request(t.rng, t.now, "list", target)
        }
        Operator::Keda => {
            let app = t.rng.pick(&world.apps);
            let target = Target::of("keda.sh", "v1alpha1", "scaledobjects")
                .ns(&app.namespace)
                .name(&app.name);
            client.request(t.rng, t.now, "patch", target.sub("status"))
        }
        _ => {
            let resource = *t.rng.pick(&["secrets", "configmaps", "nodes"]);
            let target = Target::core(resource);
            client.request(t.rng, t.now, "list", target)
        }
    };
    t.send(event);
    t.rng.turn(20.0)
}

fn reads_configuration(client: &Client, world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let target = Target::core("configmaps").ns("kube-system");
    let name = *t.rng.pick(&[
        "coredns",
        "azure-ip-masq-agent-config",
        "container-azm-ms-agentconfig",
        "extension-apiserver-authentication",
    ]);
    let event = client.request(t.rng, t.now, "get", target.name(name));
    let event = if name.starts_with("container-azm") {
        event.not_found()
    } else {
        event
    };
    t.send(event);
    if t.rng.chance(0.1) {
        let node = t.rng.pick(&world.nodes).name.clone();
        let event = client.request(t.rng, t.now, "get", Target::core("nodes").name(&node));
        t.send(event);
    }
    t.rng.turn(30.0)
}

/// A workload's own requests: its configuration, its leader election, at times what it may not.
pub fn workload(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let app = t.rng.pick(&world.apps);
    let (ns, name) = (app.namespace.as_str(), app.name.as_str());
    let client = &app.client;
    let event = match t.rng.below(40) {
        0..=13 => client.request(
            t.rng,
            t.now,
            "get",
            Target::core("configmaps")
                .ns(ns)
                .name(&format!("{name}-config")),
        ),
        14..=25 => {
            let lease = Target::of("coordination.k8s.io", "v1", "leases")
                .ns(ns)
                .name(name);
            client.request(t.rng, t.now, "update", lease)
        }
        26..=33 => client.request(t.rng, t.now, "list", Target::core("endpoints").ns(ns)),
        34..=37 => client.request(
            t.rng,
            t.now,
            "get",
            Target::core("secrets")
                .ns(ns)
                .name(&format!("{name}-credentials")),
        ),
        38 => client
            .request(t.rng, t.now, "list", Target::core("pods").ns(ns))
            .query(&format!("labelSelector=app%3D{name}")),
        _ => client
            .request(
                t.rng,
                t.now,
                "get",
                Target::core("configmaps").ns(ns).name("feature-flags"),
            )
            .not_found(),
    };
    t.send(event);
    t.rng.wait(1.2)
}
