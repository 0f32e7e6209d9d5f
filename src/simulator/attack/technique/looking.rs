//! Discovery: what may I do, what is here.

use serde_json::json;

use super::super::super::event::Target;
use super::super::Stage;
use super::{ANYONE, Ground, Technique, Who};

pub(in super::super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "Enumerate permissions (T1069.003)",
        run: permissions,
        by: &[Who::Account],
    },
    Technique {
        name: "Sweep all kinds of resources (T1613)",
        run: sweep,
        by: ANYONE,
    },
    Technique {
        name: "Try many doors and be refused (T1613)",
        run: refused,
        by: &[Who::Person, Who::Account],
    },
];

fn permissions(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, _) = s.victim();
    let review = Target::of("authorization.k8s.io", "v1", "selfsubjectrulesreviews");
    for ns in [ns.as_str(), "kube-system"] {
        let body = json!({"kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1",
            "metadata": {"creationTimestamp": null}, "spec": {"namespace": ns},
            "status": {"resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}], "nonResourceRules": [], "incomplete": false}});
        let event = g
            .client
            .request(s.rng, s.now(), "create", review.clone())
            .writes(body.to_string());
        s.strike("asks for all its rights", event);
    }
}

/// Kinds that `kubectl get all` and more, as tools for reconnaissance ask.
fn sweep(s: &mut Stage<'_>, g: &mut Ground) {
    let kinds = [
        Target::core("pods"),
        Target::core("services"),
        Target::core("nodes"),
        Target::core("namespaces"),
        Target::core("configmaps"),
        Target::core("serviceaccounts"),
        Target::core("persistentvolumes"),
        Target::core("persistentvolumeclaims"),
        Target::core("endpoints"),
        Target::of("apps", "v1", "deployments"),
        Target::of("apps", "v1", "daemonsets"),
        Target::of("apps", "v1", "statefulsets"),
        Target::of("batch", "v1", "cronjobs"),
        Target::of("batch", "v1", "jobs"),
        Target::of("networking.k8s.io", "v1", "ingresses"),
        Target::of("networking.k8s.io", "v1", "networkpolicies"),
        Target::rbac("clusterroles"),
        Target::rbac("clusterrolebindings"),
        Target::rbac("roles"),
        Target::rbac("rolebindings"),
    ];
    let pace = s.pace;
    // A script; who types takes longer than a minute for as many, and looks like anyone.
    s.pace = pace.min(0.06);
    for target in kinds {
        let event = g
            .client
            .request(s.rng, s.now(), "list", target)
            .query("limit=500");
        s.prepare("lists a kind of resource everywhere", event);
    }
    s.pace = pace;
}

fn refused(s: &mut Stage<'_>, g: &mut Ground) {
    let pace = s.pace;
    s.pace = pace.min(0.5);
    for _ in 0..6 {
        let (ns, _, _) = s.victim();
        for (verb, target) in [
            ("list", Target::core("secrets").ns(&ns)),
            ("create", Target::core("pods").ns(&ns)),
            ("list", Target::rbac("clusterrolebindings")),
            ("list", Target::core("secrets").ns("kube-system")),
            (
                "get",
                Target::core("configmaps").ns(&ns).name("app-settings"),
            ),
            ("create", Target::rbac("rolebindings").ns(&ns)),
            ("list", Target::core("nodes")),
        ] {
            let event = g.client.request(s.rng, s.now(), verb, target).forbidden();
            s.strike("is refused", event);
        }
    }
    s.pace = pace;
}
