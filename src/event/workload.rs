//! What becomes of workloads: switched off, blown up, swapped, and whether they guard the cluster.
//!
//! Read from the request where it tells what changes, and from the object's names and labels.

use std::borrow::Cow;

use super::fact::Fact;
use super::field::FieldValue;
use super::json::Json;
use super::pod::{Pod, Written};
use super::site::Names;
use super::view::View;
use super::{FactSet, Truth, object};

pub(super) fn workload_facts(view: &View<'_>, facts: &mut FactSet) {
    let verb = view.event.verb.as_ref();
    let change = matches!(verb, "update" | "patch");
    let asked = change.then(|| object::asked(view)).flatten();
    let scaled_to_zero = match asked {
        _ if !change => Truth::False,
        Some(request) => Truth::from(
            request.at(&["spec", "replicas"]).as_i64() == Some(0)
                || (verb == "patch"
                    && !is_whole(request)
                    && !request
                        .at(&["spec", "template", "spec", "nodeSelector"])
                        .is_null()),
        ),
        None => Truth::Unknown,
    };
    facts.set(Fact::WorkloadScaledToZero, scaled_to_zero);
    facts.set(
        Fact::WorkloadLarge,
        match Pod::written(view) {
            Written::Known(pod) => Truth::from(pod.containers.iter().any(|c| is_large(c))),
            Written::Unknown => Truth::Unknown,
            Written::None => Truth::False,
        },
    );
    let lists = &view.site.lists;
    facts.set(
        Fact::WorkloadPolicyEngine,
        belongs(view, &lists.policy_engines),
    );
    facts.set(
        Fact::WorkloadMonitoringAgent,
        belongs(view, &lists.monitoring_agents),
    );
    facts.set(
        Fact::WorkloadImageChanged,
        match asked {
            _ if verb != "patch" => Truth::False,
            Some(request) => Truth::from(!is_whole(request) && swaps(request)),
            None => Truth::Unknown,
        },
    );
}

/// What the names alone tell of a workload.
pub(super) fn name_facts(view: &View<'_>, facts: &mut FactSet) {
    // An event is named after what it is about, and where it has no name yet, only its body tells.
    let told = view.resource() != "events";
    facts.set(
        Fact::WorkloadHttpApplicationRouting,
        told && view.name().starts_with("addon-http-application-routing"),
    );
}

/// A server-side apply sends the whole object, so what it names need not be new.
fn is_whole(request: &Json<'_>) -> bool {
    !request.get("apiVersion").is_null() && !request.get("kind").is_null()
}

/// Whether a delta names a container's image, command or arguments.
fn swaps(request: &Json<'_>) -> bool {
    let template = [
        request.at(&["spec", "template", "spec"]),
        request.at(&["spec", "jobTemplate", "spec", "template", "spec"]),
        request.get("spec"),
    ]
    .into_iter()
    .find(|spec| !spec.get("containers").is_null() || !spec.get("initContainers").is_null());
    template.is_some_and(|spec| {
        ["containers", "initContainers"]
            .iter()
            .flat_map(|list| spec.get(list).items())
            .any(|container| {
                ["image", "command", "args"]
                    .iter()
                    .any(|key| !container.get(key).is_null())
            })
    })
}

/// Whether the object's name, namespace or labels are on `list`.
fn belongs(view: &View<'_>, list: &Names) -> bool {
    list.contains(view.name())
        || (!view.namespace().is_empty() && list.contains(view.namespace()))
        || object::effective(view).known().is_some_and(|object| {
            object::application_labels(object.at(&["metadata", "labels"]))
                .any(|label| list.contains(label))
        })
}

fn is_large(container: &Json<'_>) -> bool {
    ["requests", "limits"].iter().any(|kind| {
        container
            .at(&["resources", kind])
            .entries()
            .iter()
            .any(|(resource, amount)| match resource.as_ref() {
                "cpu" => quantity(amount) >= 32.0,
                "memory" => quantity(amount) >= 128.0 * 1024.0 * 1024.0 * 1024.0,
                other => other.ends_with("/gpu") && quantity(amount) >= 1.0,
            })
    })
}

/// A Kubernetes quantity as a number; 0 where it is none.
fn quantity(amount: &Json<'_>) -> f64 {
    match amount {
        Json::Int(number) => *number as f64,
        Json::Float(number) => *number,
        Json::Str(text) => {
            let digits = text
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(text.len());
            let factor = match &text[digits..] {
                "" => 1.0,
                "m" => 1e-3,
                "k" => 1e3,
                "M" => 1e6,
                "G" => 1e9,
                "T" => 1e12,
                "Ki" => 1024.0,
                "Mi" => 1024.0 * 1024.0,
                "Gi" => 1024.0 * 1024.0 * 1024.0,
                "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
                _ => 0.0,
            };
            text[..digits].parse::<f64>().unwrap_or(0.0) * factor
        }
        _ => 0.0,
    }
}

/// Replicas that the request asks for; -1 where it says nothing.
pub(super) fn replicas(view: &View<'_>) -> FieldValue<'static> {
    let asked = object::asked(view).and_then(|request| request.at(&["spec", "replicas"]).as_i64());
    FieldValue::Int(asked.unwrap_or(-1))
}

/// Labels that the request sets, and those that a merge or JSON patch removes, with a minus after
/// the key as `kubectl label` spells it.
pub(super) fn labels(view: &View<'_>) -> FieldValue<'static> {
    let mut items: Vec<Cow<'static, str>> = Vec::new();
    if let Some(request) = object::asked(view) {
        for (key, value) in request.at(&["metadata", "labels"]).entries() {
            items.push(Cow::Owned(match value {
                Json::Null => format!("{key}-"),
                value => format!("{key}={}", value.str()),
            }));
        }
    }
    for key in object::removed(view, "/metadata/labels/") {
        items.push(Cow::Owned(format!("{key}-")));
    }
    FieldValue::List(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_suffixes() {
        assert_eq!(quantity(&Json::Str("500m".into())), 0.5);
        assert_eq!(
            quantity(&Json::Str("2Gi".into())),
            2.0 * 1024.0 * 1024.0 * 1024.0
        );
        assert_eq!(quantity(&Json::Int(3)), 3.0);
        assert_eq!(quantity(&Json::Str("much".into())), 0.0);
    }
}
