//! What the request is about and how it ended: outcome, dry run, the object or URL it names.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::audit::{Body, Level, Stage};
use super::view::View;
use super::{Fact, FactSet, Truth, admission, dashboard, secret, workload};

/// Subresources that connect instead of reading or storing an object.
pub(super) const CONNECT: [&str; 4] = ["exec", "attach", "portforward", "proxy"];

/// Core resources without a namespace; a list of any other without one spans all namespaces.
const CLUSTER_SCOPED: [&str; 30] = [
    "apiservices",
    "certificatesigningrequests",
    "clusterrolebindings",
    "clusterroles",
    "componentstatuses",
    "csidrivers",
    "csinodes",
    "customresourcedefinitions",
    "deviceclasses",
    "flowschemas",
    "ingressclasses",
    "ipaddresses",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "namespaces",
    "nodes",
    "persistentvolumes",
    "podsecuritypolicies",
    "priorityclasses",
    "prioritylevelconfigurations",
    "resourceslices",
    "runtimeclasses",
    "servicecidrs",
    "storageclasses",
    "storageversions",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
    "volumeattachments",
];

pub(super) fn request_facts(view: &View<'_>, facts: &mut FactSet) {
    let event = view.event;
    let (code, status) = event
        .response_status
        .as_ref()
        .map_or((0, ""), |status| (status.code, status.status.as_ref()));
    let succeeded = match code {
        100..=399 => Truth::True,
        400.. => Truth::False,
        _ if status == "Failure" => Truth::False,
        _ if status == "Success" || event.stage == Stage::ResponseStarted => Truth::True,
        _ => Truth::Unknown,
    };
    facts.set(Fact::Succeeded, succeeded);
    facts.set(
        Fact::Failed,
        match succeeded {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            Truth::Unknown => Truth::Unknown,
        },
    );
    facts.set(Fact::Forbidden, code == 403);
    facts.set(Fact::Unauthorized, code == 401);
    facts.set(
        Fact::DecisionForbid,
        match event.annotation("authorization.k8s.io/decision") {
            Some(decision) => Truth::from(decision == "forbid"),
            None => Truth::Unknown,
        },
    );
    facts.set(Fact::EscalationDenied, escalation_denied(view, code));
    facts.set(Fact::DryRun, dry_run(view));
    let verb = event.verb.as_ref();
    facts.set(
        Fact::Write,
        matches!(
            verb,
            "create" | "update" | "patch" | "delete" | "deletecollection"
        ),
    );
    facts.set(Fact::Patch, verb == "patch");
    facts.set(
        Fact::Made,
        match (verb, code) {
            ("create", _) | ("update" | "patch", 201) => Truth::True,
            ("update" | "patch", 0) => Truth::Unknown,
            _ => Truth::False,
        },
    );
    facts.set(
        Fact::LongRunning,
        verb == "watch" || CONNECT.contains(&view.subresource()) || view.subresource() == "log",
    );
    facts.set(
        Fact::BodyUnreadable,
        event.request_object == Body::Unreadable || event.response_object == Body::Unreadable,
    );
    facts.set(
        Fact::RequestEmptyReason,
        event.annotation("authorization.k8s.io/decision") == Some("allow")
            && event.annotation("authorization.k8s.io/reason") == Some(""),
    );
    admission::refusal_facts(view, facts);
}

pub(super) fn change_facts(view: &View<'_>, facts: &mut FactSet) {
    facts.set(Fact::Unchanged, unchanged(view));
}

/// The messages are those of Kubernetes' RBAC storage (`rbac/escalation_check`, `policybased`).
fn escalation_denied(view: &View<'_>, code: i64) -> Truth {
    if code != 403 {
        return Truth::False;
    }
    let message = message(view);
    if message.is_empty() && view.object_ref().api_group == "rbac.authorization.k8s.io" {
        return Truth::Unknown;
    }
    Truth::from(
        message.contains("attempting to grant RBAC permissions not currently held")
            || message.contains("must have cluster-admin privileges to use"),
    )
}

/// The answer's message, from the status or from the body that is one.
pub(super) fn message<'v>(view: &'v View<'_>) -> &'v str {
    let message = view
        .event
        .response_status
        .as_ref()
        .map_or("", |status| status.message.as_ref());
    if message.is_empty() {
        view.response_object()
            .filter(|object| object.get("kind").str() == "Status")
            .map_or("", |object| object.get("message").str())
    } else {
        message
    }
}

/// The server reads `dryRun` of a delete from its body if there is one, else from the query; of
/// other writes from the query alone. Connecting ignores it. What cannot be decided counts as real.
fn dry_run(view: &View<'_>) -> bool {
    let by_query = || {
        view.query()
            .iter()
            .any(|(name, value)| name == "dryRun" && value == "All")
    };
    match view.event.verb.as_ref() {
        "create" | "update" | "patch" => !CONNECT.contains(&view.subresource()) && by_query(),
        "delete" | "deletecollection" => match view.event.request_object {
            Body::Text(_) => view.request_object().is_some_and(|options| {
                if options.is_null() {
                    return by_query();
                }
                options.get("dryRun").strings().any(|value| value == "All")
            }),
            Body::Absent => {
                matches!(view.event.level, Level::Request | Level::RequestResponse) && by_query()
            }
            Body::Unreadable => false,
        },
        _ => false,
    }
}

fn unchanged(view: &View<'_>) -> bool {
    if view.event.verb != "update" {
        return false;
    }
    let version = |object: Option<&super::Json<'_>>| {
        object.map_or(String::new(), |object| {
            object.at(&["metadata", "resourceVersion"]).str().to_owned()
        })
    };
    let sent = version(view.request_object());
    !sent.is_empty() && sent == version(view.response_object())
}

pub(super) fn facts(view: &View<'_>, facts: &mut FactSet) {
    let (resource, namespace) = (view.resource(), view.namespace());
    let names_object = view.event.object_ref.is_some();
    let reaches = matches!(resource, "services" | "pods" | "endpoints");
    facts.set(
        Fact::TargetDashboard,
        reaches && dashboard::is_dashboard(namespace, view.name()),
    );
    facts.set(Fact::TargetDashboardOwn, dashboard::is_own(view));
    let protected = namespace == "kube-system"
        || (!namespace.is_empty() && view.site.lists.protected_namespaces.contains(namespace));
    facts.set(Fact::TargetProtectedNamespace, protected);
    facts.set(Fact::TargetKubeSystem, namespace == "kube-system");
    facts.set(Fact::TargetNonresource, !names_object);
    facts.set(Fact::TargetHealth, !names_object && is_health(view));
    let collection =
        names_object && view.object_ref().name.is_empty() && view.event.verb != "create";
    facts.set(Fact::TargetCollection, collection);
    facts.set(
        Fact::TargetAllNamespaces,
        collection
            && namespace.is_empty()
            && matches!(
                view.event.verb.as_ref(),
                "list" | "watch" | "deletecollection"
            )
            && !CLUSTER_SCOPED.contains(&resource),
    );
    let proxied = (view.subresource() == "proxy").then(|| proxy_path(view));
    facts.set(
        Fact::TargetMetrics,
        view.event.verb == "get" && proxied.as_deref().is_some_and(is_metrics),
    );
    facts.set(
        Fact::TargetKubeletCommand,
        resource == "nodes" && proxied.as_deref().and_then(kubelet_command).is_some(),
    );
    secret::name_facts(view, facts);
    workload::name_facts(view, facts);
}

/// URLs that the API server shows to anyone by its default roles.
pub(super) fn is_health(view: &View<'_>) -> bool {
    let path = path(&view.event.request_uri);
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    match (segments.next(), segments.count()) {
        (Some("healthz" | "livez" | "readyz" | "openapi" | ".well-known"), _) => true,
        (Some("version" | "api"), rest) => rest <= 1,
        (Some("apis"), rest) => rest <= 2,
        _ => false,
    }
}

/// A path behind `…/proxy` that monitoring asks for. A path with detours is none.
fn is_metrics(path: &str) -> bool {
    let mut segments = path.split('/');
    let known = matches!(
        segments.next(),
        Some("metrics" | "stats" | "healthz" | "livez" | "readyz" | "configz" | "federate")
    );
    known
        && segments.all(|segment| {
            !segment.is_empty()
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

/// The kubelet's endpoint, where it is one that runs or reaches into containers.
pub(super) fn kubelet_command(path: &str) -> Option<&'static str> {
    let first = path.split('/').next()?;
    ["run", "exec", "attach", "portForward", "cri", "checkpoint"]
        .into_iter()
        .find(|endpoint| first.eq_ignore_ascii_case(endpoint))
}

/// The path of a request URI, decoded once.
pub(super) fn path(uri: &str) -> String {
    let raw = uri.split_once('?').map_or(uri, |(path, _)| path);
    percent_decode_str(raw).decode_utf8_lossy().into_owned()
}

/// What was asked for behind `…/proxy`, decoded, without a leading slash and with `.`, `..` and
/// empty segments resolved, as the server behind does; with a trailing slash removed.
pub(super) fn proxy_path(view: &View<'_>) -> String {
    let uri = view.event.request_uri.as_ref();
    let raw = uri.split_once('?').map_or(uri, |(path, _)| path);
    let segments: Vec<String> = raw
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    let resource = view.resource();
    let start = (2..segments.len())
        .find(|&i| segments[i] == "proxy" && segments[i - 2] == resource)
        .map_or(segments.len(), |i| i + 1);
    let mut resolved: Vec<&str> = Vec::new();
    // An encoded slash within a segment is one for the server behind.
    for segment in segments[start..].iter().flat_map(|s| s.split('/')) {
        match segment {
            "" | "." => {}
            ".." => {
                resolved.pop();
            }
            other => resolved.push(other),
        }
    }
    resolved.join("/")
}

/// The decoded query of a request URI, as Go's `url.ParseQuery` reads it: pairs with a semicolon or
/// a broken escape are dropped.
pub(super) fn decode_query(uri: &str) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let Some((_, query)) = uri.split_once('?') else {
        return Vec::new();
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(name)?, unescape(value)?))
        })
        .collect()
}

fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    for (i, byte) in bytes.iter().enumerate() {
        if *byte == b'%'
            && !bytes
                .get(i + 1..i + 3)
                .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
        {
            return None;
        }
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8_lossy();
    Some(Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn broken_pairs_are_dropped_as_the_server_drops_them() {
        let query = decode_query("/x?a=1&b=%zz&c=1;d=2&e&=f&a=+%2B");
        let pairs: Vec<(&str, &str)> = query
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
            .collect();
        assert_eq!(pairs, [("a", "1"), ("e", ""), ("", "f"), ("a", " +")]);
        assert!(decode_query("/x").is_empty());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(name in any::<String>(), value in any::<String>()) {
            let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let uri = format!("/x?{}={}", encode(&name), encode(&value));
            prop_assert_eq!(decode_query(&uri), vec![(name.into(), value.into())]);
        }

        #[test]
        fn any_uri_is_read(uri in any::<String>()) {
            decode_query(&uri);
            path(&uri);
        }
    }
}
