//! Namespaces and their guards, nodes and what is scheduled on them, volumes of the node.
//!
//! What a change takes away is read from the request, because the object that it leaves behind does
//! not say what was there.

use super::fact::Fact;
use super::json::Json;
use super::pod;
use super::view::View;
use super::{FactSet, Truth, object};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// Annotations by which nodes are rebooted or drained for maintenance.
const MAINTENANCE: &[&str] = &[
    "cluster-autoscaler.kubernetes.io/scale-down-disabled",
    "kured.dev/",
    "weave.works/kured",
];

pub(super) fn namespace_facts(view: &View<'_>, facts: &mut FactSet) {
    let resource = view.resource();
    let lists = &view.site.lists;
    let name = view.name();
    facts.set(
        Fact::NamespaceAllowed,
        resource == "namespaces" && lists.allowed_namespaces.contains(name),
    );
    facts.set(
        Fact::NamespaceLookalike,
        resource == "namespaces" && imitates(name),
    );
    facts.set(
        Fact::NamespacePodSecurityWeakened,
        on(view, "namespaces", |request| {
            changes(view, request, "labels", ENFORCE, |level| {
                level == "privileged"
            })
        }),
    );
    facts.set(
        Fact::NamespaceMeshDisabled,
        on(view, "namespaces", |request| {
            changes(view, request, "labels", "istio-injection", |v| {
                v != "enabled"
            }) || changes(view, request, "labels", "istio.io/rev", |_| false)
                || changes(view, request, "annotations", "linkerd.io/inject", |v| {
                    v == "disabled"
                })
                || changes(view, request, "labels", "kuma.io/sidecar-injection", |v| {
                    v == "disabled"
                })
                || changes(
                    view,
                    request,
                    "labels",
                    "openservicemesh.io/monitored-by",
                    |_| false,
                )
        }),
    );
    let node = resource == "nodes";
    facts.set(Fact::NodeVirtual, node && pod::is_virtual_node(name));
    facts.set(
        Fact::NodeExpectedName,
        node && lists.node_names.contains(name),
    );
    facts.set(
        Fact::NodeLabelsChanged,
        on(view, "nodes", |request| {
            touches(view, request, &["metadata", "labels"])
                || touches(view, request, &["spec", "taints"])
        }),
    );
    facts.set(
        Fact::NodeSchedulingChanged,
        on(view, "nodes", |request| {
            touches(view, request, &["spec", "unschedulable"])
                || request
                    .at(&["metadata", "annotations"])
                    .entries()
                    .iter()
                    .any(|(key, _)| MAINTENANCE.iter().any(|prefix| key.starts_with(prefix)))
                || object::removed(view, "/metadata/annotations/")
                    .iter()
                    .any(|key| MAINTENANCE.iter().any(|prefix| key.starts_with(prefix)))
        }),
    );
    let volume = |judge: &dyn Fn(&str) -> bool| {
        if resource != "persistentvolumes" || !view.touches("spec") {
            return Truth::False;
        }
        object::effective(view).judge(|o| {
            ["hostPath", "local"]
                .iter()
                .filter_map(|kind| o.at(&["spec", kind, "path"]).as_str())
                .any(judge)
        })
    };
    facts.set(Fact::VolumeHostPath, volume(&|_| true));
    facts.set(
        Fact::VolumeHostPathSensitive,
        volume(&|path| pod::is_sensitive(view, &pod::normalised(path))),
    );
}

/// Kubernetes keeps the prefix `kube-` for itself; AKS makes a few namespaces of its own.
fn imitates(name: &str) -> bool {
    const SYSTEM: &[&str] = &[
        "aks-command",
        "calico-system",
        "gatekeeper-system",
        "kube-node-lease",
        "kube-public",
        "kube-system",
    ];
    !SYSTEM.contains(&name)
        && (name.starts_with("kube-")
            || SYSTEM.iter().any(|system| {
                name.len().abs_diff(system.len()) <= 2 && strsim::osa_distance(name, system) <= 2
            }))
}

/// Judges the request of an update or patch of `resource`; unknown where it cannot be read.
fn on(view: &View<'_>, resource: &str, judge: impl Fn(&Json<'_>) -> bool) -> Truth {
    if view.resource() != resource
        || !view.subresource().is_empty()
        || !matches!(view.event.verb.as_ref(), "update" | "patch")
    {
        return Truth::False;
    }
    match view.request_object() {
        Some(Json::Array(_)) => view
            .spread_patch()
            .map_or(Truth::Unknown, |o| judge(o).into()),
        Some(request) => judge(request).into(),
        None => Truth::Unknown,
    }
}

/// Whether the request sets a label or annotation to a value that weakens, or removes it.
fn changes(
    view: &View<'_>,
    request: &Json<'_>,
    kind: &'static str,
    key: &str,
    weakens: impl Fn(&str) -> bool,
) -> bool {
    let entries = request.at(&["metadata", kind]).entries();
    let set = entries.iter().rev().find(|(name, _)| name == key);
    match set {
        Some((_, Json::Null)) => true,
        Some((_, value)) => weakens(value.str()),
        None => {
            let prefix = format!("/metadata/{kind}/");
            object::removed(view, &prefix)
                .iter()
                .any(|name| name == key)
        }
    }
}

/// Whether a patch names the key, or takes it away; an update names every key.
fn touches(view: &View<'_>, request: &Json<'_>, path: &[&str]) -> bool {
    let (last, parents) = path.split_last().expect("the paths above are not empty");
    request
        .at(parents)
        .entries()
        .iter()
        .any(|(key, _)| key == last)
        || object::removed(view, "/")
            .iter()
            .any(|removed| removed.starts_with(&path.join("/")))
}
