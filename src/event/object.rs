//! The object that a write leaves behind, as several groups of facts look at it; and facts of any
//! object: who owns it, where it lies, what it calls itself.
//!
//! Read from [`View::object`]; a JSON Patch without an answer is spread into the object it hints at.

use std::borrow::Cow;

use super::fact::Fact;
use super::json::Json;
use super::view::{Object, View};
use super::{FactSet, Truth};

/// Namespaces that the API server makes for itself and in which nothing runs.
const EMPTY_NAMESPACES: &[&str] = &["kube-public", "kube-node-lease"];

/// Names that the system's own pods bear, without the suffixes that controllers add.
const SYSTEM_NAMES: &[&str] = &[
    "ama-logs",
    "ama-metrics",
    "azure-cni",
    "azure-ip-masq-agent",
    "azure-npm",
    "azure-policy",
    "calico-node",
    "cloud-controller-manager",
    "cloud-node-manager",
    "cluster-autoscaler",
    "coredns",
    "coredns-autoscaler",
    "csi-azuredisk-node",
    "csi-azurefile-node",
    "etcd",
    "konnectivity-agent",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-dns",
    "kube-proxy",
    "kube-scheduler",
    "metrics-server",
    "microsoft-defender-collector",
    "omsagent",
    "tunnelfront",
];

/// A JSON Patch as the object it hints at: each added or replaced value under its path. What it
/// removes or tests is left out, and an index stands for "some element".
pub(super) fn spread<'a>(steps: &[Json<'a>]) -> Json<'a> {
    let mut object = Json::Object(Vec::new());
    for step in steps {
        if matches!(step.get("op").str(), "add" | "replace") {
            let path: Vec<String> = step
                .get("path")
                .str()
                .split('/')
                .skip(1)
                .map(|part| part.replace("~1", "/").replace("~0", "~"))
                .collect();
            insert(&mut object, &path, step.get("value").clone());
        }
    }
    object
}

fn insert<'a>(target: &mut Json<'a>, path: &[String], value: Json<'a>) {
    let Some((part, rest)) = path.split_first() else {
        *target = value;
        return;
    };
    if part == "-" || part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty() {
        if !matches!(target, Json::Array(_)) {
            *target = Json::Array(Vec::new());
        }
        if let Json::Array(items) = target {
            let mut item = Json::Object(Vec::new());
            insert(&mut item, rest, value);
            items.push(item);
        }
        return;
    }
    if !matches!(target, Json::Object(_)) {
        *target = Json::Object(Vec::new());
    }
    if let Json::Object(entries) = target {
        if let Some((_, child)) = entries.iter_mut().rev().find(|(key, _)| key == part) {
            insert(child, rest, value);
        } else {
            let mut child = Json::Object(Vec::new());
            insert(&mut child, rest, value);
            entries.push((Cow::Owned(part.clone()), child));
        }
    }
}

/// Whether what is known of the object is a patch's delta, so that absence proves nothing.
pub(crate) fn is_delta(view: &View<'_>) -> bool {
    view.event.verb == "patch"
        && view
            .response_object()
            .is_none_or(|response| response.is_null() || response.get("kind").str() == "Status")
}

/// The values of the labels by which charts and add-ons name their application.
pub(super) fn application_labels<'j>(labels: &'j Json<'_>) -> impl Iterator<Item = &'j str> {
    const KEYS: &[&str] = &[
        "app",
        "app.kubernetes.io/name",
        "app.kubernetes.io/part-of",
        "component",
        "control-plane",
        "k8s-app",
        "name",
        "run",
    ];
    labels
        .entries()
        .iter()
        .filter(|(key, _)| KEYS.contains(&key.as_ref()))
        .map(|(_, value)| value.str())
}

pub(super) fn object_facts(view: &View<'_>, facts: &mut FactSet) {
    let object = view.object();
    facts.set(
        Fact::ObjectOwned,
        object.judge(|object| {
            object
                .at(&["metadata", "ownerReferences"])
                .items()
                .iter()
                .any(|owner| owner.get("controller").is_true())
        }),
    );
    let namespace = view.namespace();
    let protected = is_protected(view);
    let platform = view.fact(Fact::ActorPlatform);
    facts.set(
        Fact::ObjectSystemWorkload,
        if protected { platform } else { Truth::False },
    );
    facts.set(Fact::ObjectMisplaced, misplaced(view, protected, platform));
    facts.set(Fact::ObjectDefaultNamespace, namespace == "default");
}

/// Apart from the other facts of the object, because comparing names is dear and few ask.
pub(super) fn lookalike_facts(view: &View<'_>, facts: &mut FactSet) {
    let namespace = view.namespace();
    facts.set(
        Fact::ObjectLookalike,
        !is_protected(view) && !namespace.is_empty() && imitates_system(view.name()),
    );
}

fn is_protected(view: &View<'_>) -> bool {
    let namespace = view.namespace();
    namespace == "kube-system"
        || view.site.lists.protected_namespaces.contains(namespace)
        || namespace.ends_with("-system")
}

fn misplaced(view: &View<'_>, protected: bool, platform: Truth) -> Truth {
    if view.resource() != "pods" {
        Truth::False
    } else if EMPTY_NAMESPACES.contains(&view.namespace()) {
        Truth::True
    } else if !protected {
        Truth::False
    } else {
        match platform {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            Truth::Unknown => Truth::Unknown,
        }
    }
}

/// Whether `name` is a system name, alone or with a suffix, or one letter away from one.
fn imitates_system(name: &str) -> bool {
    SYSTEM_NAMES.iter().any(|system| {
        if let Some(rest) = name.strip_prefix(system)
            && (rest.is_empty() || rest.starts_with('-'))
        {
            return true;
        }
        // Short names have too many honest neighbours.
        system.len() >= 7
            && stems(name).any(|name| {
                name.len() >= 6
                    && name.len().abs_diff(system.len()) <= 1
                    && (may_be_a_slip(name, system) && strsim::osa_distance(name, system) == 1
                        || unmask(name).eq(unmask(system)))
            })
    })
}

/// `name`, and without the one or two parts that DaemonSets and Deployments add for their pods.
fn stems(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| {
        name.rsplit_once('-').map(|(stem, _)| stem)
    })
    .take(3)
}

/// Whether the names begin and end alike but for the two letters that one slip changes: most do not,
/// which is found out faster than their distance.
fn may_be_a_slip(name: &str, system: &str) -> bool {
    let same = |(a, b): &(u8, u8)| a == b;
    let front = name.bytes().zip(system.bytes()).take_while(same).count();
    let back = name.bytes().rev().zip(system.bytes().rev());
    // A letter of another alphabet has up to four bytes.
    front + back.take_while(same).count() + 4 >= system.len()
}

/// Letters that are mistaken for one another made the same.
fn unmask(name: &str) -> impl Iterator<Item = char> {
    name.chars()
        .map(|c| match c {
            '0' => 'o',
            '1' | 'i' => 'l',
            '3' => 'e',
            '5' => 's',
            other => other,
        })
        .filter(|c| *c != '-')
}

/// What is known of the object, with a JSON Patch spread; see [`View::object`].
pub(super) fn effective<'v>(view: &'v View<'_>) -> Object<'v> {
    match view.object() {
        Object::Known(Json::Array(_)) => match view.spread_patch() {
            Some(spread) => Object::Known(spread),
            None => Object::Unknown,
        },
        other => other,
    }
}

/// What a verb did, for people.
pub(super) fn action(verb: &str) -> &str {
    match verb {
        "create" => "created",
        "update" | "patch" => "changed",
        "delete" | "deletecollection" => "deleted",
        "get" => "read",
        "list" => "listed",
        "watch" => "watched",
        other => other,
    }
}

/// The singular of a resource's name, which is English and regular but for a few.
pub(super) fn noun(resource: &str, subresource: &str) -> String {
    let singular = match resource {
        "endpoints" => "endpoints".to_owned(),
        _ => {
            if let Some(stem) = resource.strip_suffix("ies") {
                format!("{stem}y")
            } else if resource.ends_with("sses") {
                resource[..resource.len() - 2].to_owned()
            } else {
                resource.strip_suffix('s').unwrap_or(resource).to_owned()
            }
        }
    };
    if subresource.is_empty() {
        singular
    } else {
        format!("{singular}/{subresource}")
    }
}

/// What the request asks for, with a JSON Patch spread.
pub(super) fn asked<'v>(view: &'v View<'_>) -> Option<&'v Json<'v>> {
    match view.request_object() {
        Some(Json::Array(_)) => view.spread_patch().map(|spread| spread as &Json<'v>),
        other => other.map(|request| request as &Json<'v>),
    }
}

/// What a JSON Patch removes right below `prefix`.
pub(super) fn removed(view: &View<'_>, prefix: &str) -> Vec<String> {
    view.request_object()
        .map_or(&[][..], |request| request.items())
        .iter()
        .filter(|step| step.get("op").str() == "remove")
        .filter_map(|step| step.get("path").str().strip_prefix(prefix))
        .map(|key| key.replace("~1", "/").replace("~0", "~"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_patch_is_spread_into_an_object() {
        let patch = Json::parse(
            r#"[{"op":"add","path":"/spec/containers/0/securityContext","value":{"privileged":true}},
                {"op":"replace","path":"/metadata/labels/a~1b","value":"c"},
                {"op":"remove","path":"/spec/hostPID"}]"#,
        )
        .expect("valid JSON");
        let object = spread(patch.items());
        assert!(
            object.at(&["spec", "containers"]).items()[0]
                .at(&["securityContext", "privileged"])
                .is_true()
        );
        assert_eq!(object.at(&["metadata", "labels", "a/b"]).str(), "c");
        assert!(object.at(&["spec", "hostPID"]).is_null());
    }

    #[test]
    fn resources_are_named_for_people() {
        for (resource, expected) in [
            ("pods", "pod"),
            ("networkpolicies", "networkpolicy"),
            ("ingresses", "ingress"),
            ("priorityclasses", "priorityclass"),
            ("endpoints", "endpoints"),
            ("", ""),
        ] {
            assert_eq!(noun(resource, ""), expected);
        }
        assert_eq!(noun("deployments", "scale"), "deployment/scale");
    }

    #[test]
    fn lookalikes_are_near_but_not_ordinary() {
        for name in [
            "coredns-5f8b9c7d6-abcde",
            "kube-proxy",
            "kube-pr0xy-x7abc",
            "kube-proxi",
            "metrics-server-7d9f8-zzzzz",
            "kubeproxy",
        ] {
            assert!(imitates_system(name), "{name}");
        }
        for name in [
            "web-0",
            "frontend-7d9f8c-abcde",
            "etcdctl",
            "proxy",
            "metrics-exporter",
            "kube-state-metrics-0",
            "redis",
        ] {
            assert!(!imitates_system(name), "{name}");
        }
    }
}
