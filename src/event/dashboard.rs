//! The Kubernetes dashboard: its objects by name, and what a write makes of them.

use super::actor;
use super::json::Json;
use super::target;
use super::view::View;
use super::{Fact, FactSet, Truth};

/// Names of the dashboard in manifests, in the Helm chart of version 2 and, with a suffix for each
/// part, of version 3 (`…-web`, `…-api`, `…-auth`, `…-kong-proxy`).
const NAMES: [&str; 2] = ["kubernetes-dashboard", "k8s-dashboard"];

const NAMESPACES: [&str; 2] = ["kubernetes-dashboard", "kube-system"];

fn named_so(text: &str) -> bool {
    NAMES.iter().any(|name| text.contains(name))
}

/// Whether `name`, in the proxy's forms `name`, `name:port` and `scheme:name:port`, is a service or
/// pod of the dashboard.
pub(super) fn is_dashboard(namespace: &str, name: &str) -> bool {
    named_so(name)
        || (namespace == "kubernetes-dashboard"
            && name
                .split(':')
                .any(|part| part == "dashboard" || part.starts_with("dashboard-web")))
}

/// Whether a service account is the dashboard's own.
pub(super) fn is_account(namespace: &str, name: &str) -> bool {
    named_so(name) && (NAMESPACES.contains(&namespace) || name.starts_with(NAMES[0]))
}

/// What the dashboard's service account asks for in its normal work.
pub(super) fn is_own(view: &View<'_>) -> bool {
    let Some((namespace, _)) = actor::service_account(&view.event.user.username) else {
        return false;
    };
    let object = view.object_ref();
    let verb = view.event.verb.as_ref();
    let reads = matches!(verb, "get" | "list" | "watch");
    match (object.api_group.as_ref(), object.resource.as_ref()) {
        ("", "") => target::is_health(view),
        ("authorization.k8s.io" | "authentication.k8s.io", _) => verb == "create",
        ("metrics.k8s.io", "pods" | "nodes") => reads,
        _ if object.namespace != namespace => false,
        ("", "secrets") => {
            named_so(view.name())
                && ["-key-holder", "-csrf", "-certs"]
                    .iter()
                    .any(|suffix| view.name().ends_with(suffix))
        }
        ("", "configmaps") => named_so(view.name()) && view.name().ends_with("-settings"),
        ("coordination.k8s.io", "leases") => named_so(view.name()),
        ("", "services") => {
            object.subresource == "proxy"
                && ["metrics-scraper", "heapster"]
                    .iter()
                    .any(|part| view.name().contains(part))
        }
        _ => false,
    }
}

pub(super) fn facts(view: &View<'_>, facts: &mut FactSet) {
    facts.set(Fact::DashboardExposed, exposed(view));
    facts.set(
        Fact::DashboardInternalOnly,
        view.resource() == "services"
            && view.object().known().is_some_and(|service| {
                service
                    .at(&["metadata", "annotations"])
                    .get("service.beta.kubernetes.io/azure-load-balancer-internal")
                    .str()
                    == "true"
            }),
    );
    let (deployed, no_login) = deployed(view);
    facts.set(Fact::DashboardDeployed, deployed);
    facts.set(Fact::DashboardNoLogin, no_login);
    let (guards, open) = policy(view);
    facts.set(Fact::DashboardPolicy, guards);
    facts.set(Fact::DashboardPolicyOpen, open);
}

/// Whether labels or a selector are the dashboard's.
fn selects(labels: &Json<'_>) -> bool {
    labels.entries().iter().any(|(key, value)| {
        matches!(
            key.as_ref(),
            "k8s-app"
                | "app"
                | "app.kubernetes.io/name"
                | "app.kubernetes.io/part-of"
                | "app.kubernetes.io/instance"
        ) && named_so(value.str())
    })
}

fn exposed(view: &View<'_>) -> Truth {
    if !view.subresource().is_empty() || !view.touches("spec") {
        return Truth::False;
    }
    match view.resource() {
        "services" => view.object().judge(|service| {
            let spec = service.get("spec");
            let ours = is_dashboard(view.namespace(), view.name())
                || selects(spec.get("selector"))
                || selects(service.at(&["metadata", "labels"]));
            let open = matches!(spec.get("type").str(), "LoadBalancer" | "NodePort")
                || !spec.get("externalIPs").items().is_empty();
            ours && open
        }),
        "ingresses" | "httproutes" | "tlsroutes" | "tcproutes" | "virtualservices"
        | "ingressroutes" => view
            .object()
            .judge(|route| routes_to_dashboard(view.namespace(), route.get("spec"), false)),
        _ => Truth::False,
    }
}

/// Whether a backend anywhere in an ingress or route is a service of the dashboard.
fn routes_to_dashboard(namespace: &str, spec: &Json<'_>, in_backend: bool) -> bool {
    match spec {
        Json::Object(entries) => entries.iter().any(|(key, value)| {
            let in_backend = in_backend
                || matches!(
                    key.as_ref(),
                    "backend" | "defaultBackend" | "backendRefs" | "destination" | "services"
                );
            let names = matches!(key.as_ref(), "name" | "serviceName" | "host");
            (in_backend && names && is_dashboard(namespace, value.str()))
                || routes_to_dashboard(namespace, value, in_backend)
        }),
        Json::Array(items) => items
            .iter()
            .any(|item| routes_to_dashboard(namespace, item, in_backend)),
        _ => false,
    }
}

/// Whether a workload runs the dashboard, and whether without a proper login.
fn deployed(view: &View<'_>) -> (Truth, Truth) {
    let template: &[&str] = match view.resource() {
        "pods" => &["spec"],
        "deployments" | "daemonsets" | "statefulsets" | "replicasets" | "jobs" => {
            &["spec", "template", "spec"]
        }
        "cronjobs" => &["spec", "jobTemplate", "spec", "template", "spec"],
        _ => return (Truth::False, Truth::False),
    };
    if !view.subresource().is_empty() || !changes_containers(view) {
        return (Truth::False, Truth::False);
    }
    let object = view.object();
    let containers = |object: &Json<'_>, test: &dyn Fn(&Json<'_>) -> bool| {
        let spec = object.at(template);
        ["containers", "initContainers"]
            .iter()
            .flat_map(|list| spec.get(list).items())
            .any(test)
    };
    let deployed = object.judge(|object| containers(object, &runs_dashboard));
    let no_login = object.judge(|object| {
        containers(object, &|container| {
            runs_dashboard(container)
                && ["args", "command"]
                    .iter()
                    .flat_map(|key| container.get(key).strings())
                    .any(weakens_login)
        })
    });
    (deployed, no_login)
}

/// A patch that only restarts, labels or scales a workload deploys nothing.
fn changes_containers(view: &View<'_>) -> bool {
    match (view.event.verb.as_ref(), view.event.request_object) {
        ("patch", super::Body::Text(delta)) => ["image", "args", "command"]
            .iter()
            .any(|key| delta.contains(key)),
        _ => true,
    }
}

fn runs_dashboard(container: &Json<'_>) -> bool {
    let image = container.get("image").str();
    let repository = image.split('@').next().unwrap_or("");
    (repository.contains("kubernetesui/dashboard") || named_so(repository))
        && !repository.contains("metrics-scraper")
}

fn weakens_login(argument: &str) -> bool {
    argument.split_whitespace().any(|word| {
        let (flag, value) = word.split_once('=').unwrap_or((word, "true"));
        match flag.trim_start_matches('-') {
            "enable-skip-login" | "enable-insecure-login" | "disable-csrf-protection" => {
                value != "false"
            }
            "authentication-mode" => value.split(',').any(|mode| mode == "basic"),
            _ => false,
        }
    })
}

/// Whether a NetworkPolicy guards the dashboard, and whether the write removes or opens it.
fn policy(view: &View<'_>) -> (Truth, Truth) {
    if view.resource() != "networkpolicies" {
        return (Truth::False, Truth::False);
    }
    let name = view.name();
    let ours =
        named_so(name) || (NAMESPACES.contains(&view.namespace()) && name.contains("dashboard"));
    let guards =
        |policy: &Json<'_>| {
            let selector = policy.at(&["spec", "podSelector"]);
            named_so(policy.at(&["metadata", "name"]).str())
                || selects(selector.get("matchLabels"))
                || selector.get("matchExpressions").items().iter().any(|e| {
                    e.get("operator").str() == "In" && e.get("values").strings().any(named_so)
                })
        };
    // The answer to a deletion is the deleted object, a list of them, or only a status.
    let deleted = || {
        view.response_object()
            .is_some_and(|answer| guards(answer) || answer.get("items").items().iter().any(guards))
    };
    let deletes = matches!(view.event.verb.as_ref(), "delete" | "deletecollection");
    let object = view.object();
    let guarding = if ours {
        Truth::True
    } else if deletes {
        Truth::from(deleted())
    } else {
        object.judge(guards)
    };
    let open = if deletes {
        Truth::True
    } else if view.touches("spec") {
        object.judge(|policy| lets_everyone_in(policy.get("spec")))
    } else {
        Truth::False
    };
    let both = match (guarding, open) {
        (Truth::False, _) | (_, Truth::False) => Truth::False,
        (Truth::True, Truth::True) => Truth::True,
        _ => Truth::Unknown,
    };
    (guarding, both)
}

fn lets_everyone_in(spec: &Json<'_>) -> bool {
    let types: Vec<&str> = spec.get("policyTypes").strings().collect();
    let ignores_ingress = !types.is_empty() && !types.contains(&"Ingress");
    ignores_ingress
        || spec.get("ingress").items().iter().any(|rule| {
            let from = rule.get("from").items();
            from.is_empty()
                || from
                    .iter()
                    .any(|peer| matches!(peer.at(&["ipBlock", "cidr"]).str(), "0.0.0.0/0" | "::/0"))
        })
}
