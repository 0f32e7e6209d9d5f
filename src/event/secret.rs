//! Secrets, tokens and configuration, and what the site's lists say of who may do what.
//!
//! AKS logs secrets, config maps and token requests without their bodies: what is read from these
//! is then unknown, and names have to do.

use super::fact::Fact;
use super::json::Json;
use super::view::{Object, View};
use super::{FactSet, Truth, credential, object};

const TOKEN_TYPE: &str = "kubernetes.io/service-account-token";

/// A day: what bound tokens of pods live at most, with a margin.
const LONG: i64 = 24 * 60 * 60;

pub(super) fn secret_facts(view: &View<'_>, facts: &mut FactSet) {
    secrets(view, facts);
    tokens(view, facts);
    config_maps(view, facts);
    facts.set(
        Fact::ServiceAccountWorkloadIdentity,
        if view.resource() != "serviceaccounts" || !view.subresource().is_empty() {
            Truth::False
        } else if view.event.verb == "patch" {
            // What stands in the answer may have stood there before.
            match object::asked(view) {
                Some(request) => binds_identity(request).into(),
                None => Truth::Unknown,
            }
        } else {
            object::effective(view).judge(binds_identity)
        },
    );
}

/// What the site's lists say of the actor, and of the site.
pub(super) fn site_facts(view: &View<'_>, facts: &mut FactSet) {
    let lists = &view.site.lists;
    facts.set(
        Fact::ActorUnlisted,
        view.is(Fact::ActorHuman) && !lists.allowed_users.contains(&view.event.user.username),
    );
    facts.set(Fact::SiteAllowsUsers, !lists.allowed_users.is_empty());
    facts.set(
        Fact::SiteAllowsNamespaces,
        !lists.allowed_namespaces.is_empty(),
    );
    facts.set(Fact::SitePrivateApi, view.site.private_api);
}

fn binds_identity(account: &Json<'_>) -> bool {
    account
        .at(&["metadata", "annotations"])
        .entries()
        .iter()
        .any(|(key, value)| key == "azure.workload.identity/client-id" && !value.str().is_empty())
}

fn secrets(view: &View<'_>, facts: &mut FactSet) {
    let secret = view.resource() == "secrets";
    let kind = if secret {
        object::effective(view)
    } else {
        Object::None
    };
    facts.set(
        Fact::SecretServiceAccountToken,
        kind.judge(|o| o.get("type").str() == TOKEN_TYPE),
    );
    facts.set(
        Fact::SecretMayBeToken,
        secret
            && matches!(view.event.verb.as_ref(), "create" | "patch")
            && !is_helm_release(view)
            && matches!(kind, Object::Unknown),
    );
}

fn is_helm_release(view: &View<'_>) -> bool {
    view.resource() == "secrets" && view.name().starts_with("sh.helm.release.")
}

/// What the names alone tell of secrets and config maps.
pub(super) fn name_facts(view: &View<'_>, facts: &mut FactSet) {
    let namespace = view.namespace();
    facts.set(
        Fact::SecretsBroad,
        view.resource() == "secrets"
            && matches!(view.event.verb.as_ref(), "list" | "watch")
            && view.object_ref().name.is_empty()
            && (namespace.is_empty()
                || namespace == "kube-system"
                || view.site.lists.protected_namespaces.contains(namespace)),
    );
    facts.set(Fact::SecretHelmRelease, is_helm_release(view));
    let own = view
        .event
        .user
        .username
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split(':').next())
        .is_some_and(|actors| !namespace.is_empty() && actors == namespace);
    facts.set(Fact::SecretOwn, own);
    let config_map = view.resource() == "configmaps";
    let name = if config_map { view.name() } else { "" };
    facts.set(
        Fact::ConfigMapCoreDns,
        config_map
            && view.namespace() == "kube-system"
            && matches!(name, "coredns" | "coredns-custom" | "kube-dns"),
    );
    facts.set(
        Fact::ConfigMapBookkeeping,
        config_map
            && (matches!(
                name,
                "kube-root-ca.crt"
                    | "istio-ca-root-cert"
                    | "extension-apiserver-authentication"
                    | "cluster-autoscaler-status"
            ) || name.contains("leader")
                || name.ends_with("-lock")),
    );
}

fn tokens(view: &View<'_>, facts: &mut FactSet) {
    let token = view.resource() == "serviceaccounts" && view.subresource() == "token";
    let object = if token {
        object::effective(view)
    } else {
        Object::None
    };
    facts.set(
        Fact::TokenLongLived,
        object.judge(|o| lifetime_of(o) > LONG),
    );
    facts.set(
        Fact::TokenPodBound,
        object.judge(|o| !o.at(&["spec", "boundObjectRef"]).is_null()),
    );
}

fn lifetime_of(object: &Json<'_>) -> i64 {
    object
        .at(&["spec", "expirationSeconds"])
        .as_i64()
        .unwrap_or(0)
}

pub(super) fn lifetime(view: &View<'_>) -> super::FieldValue<'static> {
    super::FieldValue::Int(object::effective(view).known().map_or(0, lifetime_of))
}

fn config_maps(view: &View<'_>, facts: &mut FactSet) {
    let config_map = view.resource() == "configmaps";
    facts.set(
        Fact::ConfigMapCredential,
        if !config_map || (!view.touches("data") && !view.touches("binaryData")) {
            Truth::False
        } else {
            object::effective(view).judge(|o| {
                o.get("data").entries().iter().any(|(key, value)| {
                    credential::is_credential(key, value.str())
                        || credential::holds_credential(value.str())
                })
            })
        },
    );
}
