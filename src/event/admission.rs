//! What guards admission: webhooks, admission policies, the constraints of policy engines; and
//! whether admission refused a request.
//!
//! Read from the object that the request leaves behind; what a change leaves out, from the request.

use std::borrow::Cow;

use super::fact::Fact;
use super::field::FieldValue;
use super::json::Json;
use super::view::{Object, View};
use super::{FactSet, Truth, actor, object};

const WEBHOOKS: &[&str] = &[
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
];

const POLICIES: &[&str] = &[
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
];

/// API groups of policy engines whose objects say what is enforced.
const ENGINES: &[&str] = &[
    "constraints.gatekeeper.sh",
    "kyverno.io",
    "policies.kyverno.io",
];

/// Configurations by which service meshes inject their sidecars.
const INJECTORS: &[&str] = &[
    "consul-connect-injector",
    "istio-revision-tag",
    "istio-sidecar-injector",
    "kuma-",
    "linkerd-proxy-injector",
    "osm-webhook",
];

pub(super) fn admission_facts(view: &View<'_>, facts: &mut FactSet) {
    let object = object::effective(view);
    let resource = view.resource();
    let webhook = WEBHOOKS.contains(&resource);
    let judge_if = |applies: bool, judge: &dyn Fn(&Json<'_>) -> bool| {
        if applies {
            object.judge(judge)
        } else {
            Truth::False
        }
    };
    facts.set(
        Fact::WebhookIgnoresFailure,
        judge_if(webhook, &|o| {
            webhooks(o).any(|w| w.get("failurePolicy").str() == "Ignore")
        }),
    );
    facts.set(
        Fact::WebhookExcludesNamespaces,
        if webhook {
            excludes(view)
        } else {
            Truth::False
        },
    );
    facts.set(
        Fact::WebhookCaBundleOnly,
        if webhook {
            ca_bundle_only(view)
        } else {
            Truth::False
        },
    );
    facts.set(
        Fact::WebhookExternalUrl,
        judge_if(webhook, &|o| {
            webhooks(o).any(|w| !w.at(&["clientConfig", "url"]).str().is_empty())
        }),
    );
    let own = actor::service_account(&view.event.user.username).map(|(namespace, _)| namespace);
    facts.set(
        Fact::WebhookOwn,
        judge_if(webhook && own.is_some(), &|o| {
            let service = ["clientConfig", "service", "namespace"];
            webhooks(o).next().is_some() && webhooks(o).all(|w| Some(w.at(&service).str()) == own)
        }),
    );
    facts.set(
        Fact::WebhookMeshInjector,
        webhook && INJECTORS.iter().any(|name| view.name().contains(name)),
    );
    facts.set(
        Fact::AdmissionPolicyWeakened,
        judge_if(POLICIES.contains(&resource), &|o| {
            let spec = o.get("spec");
            let actions = spec.get("validationActions").items();
            spec.get("failurePolicy").str() == "Ignore"
                || (!actions.is_empty() && !actions.iter().any(|action| action.str() == "Deny"))
        }),
    );
    facts.set(
        Fact::ConstraintWeakened,
        judge_if(
            ENGINES.contains(&view.object_ref().api_group.as_ref()),
            &|o| {
                let spec = o.get("spec");
                matches!(spec.get("enforcementAction").str(), "dryrun" | "warn")
                    || spec
                        .get("validationFailureAction")
                        .str()
                        .eq_ignore_ascii_case("audit")
            },
        ),
    );
}

/// What the answer and the annotations tell of admission.
pub(super) fn refusal_facts(view: &View<'_>, facts: &mut FactSet) {
    facts.set(Fact::AdmissionDenied, denied(view));
    facts.set(
        Fact::PodSecurityViolation,
        view.event
            .annotation("pod-security.kubernetes.io/audit-violations")
            .is_some()
            || message(view).contains("violates PodSecurity"),
    );
}

fn message<'v>(view: &'v View<'_>) -> &'v str {
    view.event
        .response_status
        .as_ref()
        .map_or("", |status| &status.message)
}

fn denied(view: &View<'_>) -> bool {
    let code = view
        .event
        .response_status
        .as_ref()
        .map_or(0, |status| status.code);
    let message = message(view);
    matches!(code, 400..=499)
        && ((message.contains("admission webhook \"") && message.contains("denied the request"))
            || (message.contains("AdmissionPolicy") && message.contains("denied request"))
            || message.contains("violates PodSecurity"))
}

fn webhooks<'j>(object: &'j Json<'_>) -> impl Iterator<Item = &'j Json<'j>> {
    let items: &'j [Json<'j>] = object.get("webhooks").items();
    items.iter()
}

/// Whether the request itself narrows what a webhook sees. A whole object may only repeat what it
/// was, so it counts where it is new.
fn excludes(view: &View<'_>) -> Truth {
    const KEYS: &[&str] = &["namespaceSelector", "objectSelector", "matchConditions"];
    let narrows = |value: &Json<'_>| !value.entries().is_empty() || !value.items().is_empty();
    match view.request_object() {
        None => match view.object() {
            Object::None => Truth::False,
            _ => Truth::Unknown,
        },
        Some(Json::Array(steps)) => steps
            .iter()
            .any(|step| {
                let path = step.get("path").str();
                step.get("op").str() != "remove" && KEYS.iter().any(|key| path.contains(key))
            })
            .into(),
        Some(request) => webhooks(request)
            .any(|w| KEYS.iter().any(|key| narrows(w.get(key))))
            .into(),
    }
}

/// Certificates are rotated by controllers every few hours, with a patch of this one key.
fn ca_bundle_only(view: &View<'_>) -> Truth {
    if view.event.verb != "patch" {
        return Truth::False;
    }
    match view.request_object() {
        None => Truth::Unknown,
        Some(Json::Array(steps)) => Truth::from(
            !steps.is_empty()
                && steps.iter().all(|step| {
                    step.get("op").str() == "test"
                        || step.get("path").str().ends_with("/clientConfig/caBundle")
                }),
        ),
        Some(request) => Truth::from(
            !request.get("webhooks").items().is_empty()
                && request.entries().iter().all(|(key, _)| {
                    matches!(
                        key.as_ref(),
                        "webhooks" | "$setElementOrder/webhooks" | "apiVersion" | "kind"
                    ) || key == "metadata"
                })
                && request
                    .get("metadata")
                    .entries()
                    .iter()
                    .all(|(key, _)| matches!(key.as_ref(), "name" | "resourceVersion" | "uid"))
                && webhooks(request).all(|w| {
                    w.entries()
                        .iter()
                        .all(|(key, _)| matches!(key.as_ref(), "name" | "clientConfig"))
                        && w.get("clientConfig")
                            .entries()
                            .iter()
                            .all(|(key, _)| key == "caBundle")
                }),
        ),
    }
}

pub(super) fn targets(view: &View<'_>) -> FieldValue<'static> {
    let mut items: Vec<Cow<'static, str>> = Vec::new();
    if let Some(object) = object::effective(view).known() {
        for webhook in webhooks(object) {
            let config = webhook.get("clientConfig");
            let url = config.get("url").str();
            let service = config.get("service");
            let item = if url.is_empty() {
                format!(
                    "{}/{}",
                    service.get("namespace").str(),
                    service.get("name").str()
                )
            } else {
                url.to_owned()
            };
            if item.len() > 1 && !items.iter().any(|known| *known == item) {
                items.push(Cow::Owned(item));
            }
        }
    }
    FieldValue::List(items)
}
