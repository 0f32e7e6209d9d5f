//! Traces: what a request leaves behind by which others can be told to belong with it.
//!
//! An actor, a credential, a pod or an object that two requests share makes them steps of one
//! incident ([`crate::alert::incident`]), if the one can have led to the other: whoever makes or takes
//! something goes before whoever acts with it ([`Role`]). That two change what was there before, or
//! that one reaches into what another is using, joins nothing: much is many people's business. What
//! strangers share is left out as well: identities of the platform, namespaces, nodes, the networks
//! that people come from together. Identities that many use (the local administrator, what deploys)
//! count together with the address they came from, and an address alone counts only outside the
//! trusted networks and together with the client. An account is held by a pod that runs as it, by a
//! token whose id or secret the log tells, or by who was given rights for it: where the log tells them
//! apart, one way of holding it joins no other; and a pod's token that is used outside was carried off by
//! whoever reached into the pod before that began. What a person does from outside the trusted networks is
//! likewise told apart from what they do within. To impersonate somebody leaves nothing to act with later.

use super::actor::{self, Kind};
use super::source_ip::Class;
use super::tie::{Role, TraceKind, Writer};
use super::view::View;
use super::{Body, Fact, Field, FieldValue};

/// Subjects beyond which a binding is a list of the staff, not a grant to someone.
const MAX_SUBJECTS: usize = 3;

/// Where a request came from, in words for people; empty where nothing is known.
pub fn place(view: &View<'_>) -> &'static str {
    if view.is(Fact::SourceIpThreat) {
        "a network known to be bad"
    } else if view.is(Fact::SourceIpUntrusted) {
        "outside the trusted networks"
    } else if view.is(Fact::SourceIpTrusted) {
        "inside the trusted networks"
    } else if view.is(Fact::SourceIpNode) {
        "the nodes' networks"
    } else {
        ""
    }
}

/// The traces of an event. A request by the platform itself leaves none, but of a secret that it fills
/// because somebody asked for a token in one.
pub fn traces(view: &View<'_>, traces: &mut Writer) {
    if view.is(Fact::ActorPlatform) {
        if view.resource() == "secrets" && matches!(view.event.verb.as_ref(), "update" | "patch") {
            object(Role::Made, view, traces);
        }
        return;
    }
    actor_traces(view, traces);
    object_traces(view, traces);
}

fn actor_traces(view: &View<'_>, traces: &mut Writer) {
    let event = view.event;
    let user = event.user.username.as_ref();
    let kind = Kind::of(user);
    let client = view.client();
    let address = view.field(Field::SourceIpAddress);
    let address = address.text();
    let foreign = Class::of(client) == Class::Public
        && !view.is(Fact::SourceIpTrusted)
        && !view.is(Fact::SourceIpNode);
    let extra = |wanted: &str| {
        let wanted = |key: &str| key.strip_prefix("authentication.kubernetes.io/") == Some(wanted);
        event
            .user
            .extra
            .iter()
            .find(|(key, _)| wanted(key))
            .and_then(|(_, values)| values.first())
            .map(|value| value.as_ref())
    };
    match kind {
        // Whoever has no identity is known by the address alone.
        Kind::Anonymous if foreign => {
            traces.add(Role::Acts, TraceKind::Address, &[&address]);
        }
        Kind::Anonymous if address.is_empty() => {}
        Kind::Anonymous | Kind::StaticAdmin | Kind::Aks | Kind::ControlPlane => {
            traces.add(
                Role::Acts,
                TraceKind::SharedIdentity,
                &[user, " from ", &address],
            );
        }
        Kind::ServiceAccount | Kind::Node | Kind::User if view.is(Fact::ActorDeployer) => {
            traces.add(
                Role::Acts,
                TraceKind::SharedIdentity,
                &[user, " from ", &address],
            );
        }
        Kind::ServiceAccount if foreign && extra("credential-id").is_some() => {
            traces.add(Role::Bears, TraceKind::Identity, &[user]);
        }
        // Whoever stole a credential uses it from elsewhere, while its owner goes on working.
        Kind::User if foreign && view.is(Fact::SourceIpUntrusted) => {
            traces.add(Role::Bears, TraceKind::Identity, &[user]);
            traces.add(Role::Acts, TraceKind::Identity, &from_outside(user));
        }
        Kind::ServiceAccount | Kind::Node | Kind::User => {
            traces.add(Role::Acts, TraceKind::Identity, &[user]);
        }
    }
    if foreign && view.is(Fact::SourceIpUntrusted) && kind != Kind::Anonymous {
        traces.add(
            Role::Acts,
            TraceKind::Address,
            &[&address, " with ", &event.user_agent],
        );
    }
    // The local administrator's certificate is everyone's who ever fetched it.
    if matches!(kind, Kind::ServiceAccount | Kind::User | Kind::Node)
        && let Some(credential) = extra("credential-id")
    {
        traces.add(Role::Acts, TraceKind::Credential, &[credential]);
    }
    if let Some((namespace, _)) = actor::service_account(user) {
        let secret = [
            "authentication.k8s.io/legacy-token-manual-secret",
            "authentication.k8s.io/legacy-token-autogenerated-secret",
        ]
        .into_iter()
        .find_map(|wanted| event.annotation(wanted));
        let pod = extra("pod-name");
        if let Some(pod) = pod {
            let kind = match foreign && view.is(Fact::SourceIpUntrusted) {
                true => TraceKind::CarriedOff,
                false => TraceKind::Pod,
            };
            traces.add(Role::Acts, kind, &[namespace, "/", pod]);
        }
        // A token that never expires is known by the secret that it lies in.
        if let Some(secret) = secret {
            traces.add(
                Role::Bears,
                TraceKind::Object,
                &["secrets ", namespace, "/", secret],
            );
        }
        // Where the log tells of neither, it may be either.
        if pod.is_some() || secret.is_none() && extra("credential-id").is_none() {
            traces.add(Role::Bears, TraceKind::Identity, &in_a_pod(user));
        }
    }
}

fn object_traces(view: &View<'_>, traces: &mut Writer) {
    let event = view.event;
    let verb = event.verb.as_ref();
    let writes = matches!(verb, "create" | "update" | "patch" | "delete");
    let (namespace, name) = (view.namespace(), view.name());
    let role = match verb {
        "create" => Role::Made,
        _ => Role::Took,
    };
    let issued = "authentication.kubernetes.io/issued-credential-id";
    let credential = event.annotation(issued);
    if let Some(credential) = credential {
        traces.add(Role::Made, TraceKind::Credential, &[credential]);
    }
    match (view.resource(), view.subresource()) {
        ("serviceaccounts", "") if writes => traces.account(role, namespace, name),
        // A token that is known by its id is tied by that alone: others may ask for one as well.
        ("serviceaccounts", "token") if writes && credential.is_none() => {
            traces.account(Role::Took, namespace, name);
        }
        ("pods", "exec" | "attach" | "ephemeralcontainers") => {
            pod(Role::Took, namespace, name, traces);
        }
        ("pods", "") if writes => pod(role, namespace, name, traces),
        ("rolebindings" | "clusterrolebindings", _) if writes => {
            // What deploys binds ordinary roles to the accounts of everyone.
            if !view.is(Fact::ActorDeployer) || view.is(Fact::BindingPrivilegedRole) {
                subjects(view, traces);
            }
            object(role, view, traces);
        }
        ("secrets", "") if verb == "get" => object(Role::Took, view, traces),
        ("certificatesigningrequests", _) if writes => {
            let subject = view.field(Field::CsrSubject);
            if let Some(name) = common_name(&subject.text()) {
                traces.add(Role::Made, TraceKind::Identity, &[name]);
            }
            object(role, view, traces);
        }
        // What many share, and what says little by itself.
        (
            "" | "namespaces" | "nodes" | "events" | "leases" | "endpoints" | "endpointslices"
            | "services" | "persistentvolumes",
            _,
        ) => {}
        (_, "") if writes => object(role, view, traces),
        _ => {}
    }
    // What deploys names the accounts of everyone, and what is there has its account already.
    // Most objects name none, which is found out faster than by a parse.
    let mut bodies = [event.request_object, event.response_object].into_iter();
    if verb == "create"
        && bodies.any(|body| matches!(body, Body::Text(text) if text.may_hold("serviceAccount")))
        && !view.is(Fact::ActorDeployer)
    {
        let account = view.field(Field::PodServiceAccount);
        let account = account.text();
        if account != "default" && !account.is_empty() && !namespace.is_empty() {
            let account = format!("system:serviceaccount:{namespace}:{account}");
            traces.add(Role::Took, TraceKind::Identity, &in_a_pod(&account));
        }
    }
}

/// An account as the pods have it that run as it: who runs one has no other token of the account.
fn in_a_pod(account: &str) -> [&str; 2] {
    [account, " in a pod"]
}

/// A person, as they come from outside the trusted networks.
fn from_outside(user: &str) -> [&str; 2] {
    [user, " from outside"]
}

fn pod(role: Role, namespace: &str, name: &str, traces: &mut Writer) {
    if !namespace.is_empty() && !name.is_empty() {
        for kind in [TraceKind::Pod, TraceKind::CarriedOff] {
            traces.add(role, kind, &[namespace, "/", name]);
        }
    }
}

fn object(role: Role, view: &View<'_>, traces: &mut Writer) {
    let (resource, namespace, name) = (view.resource(), view.namespace(), view.name());
    if !name.is_empty() {
        traces.add(
            role,
            TraceKind::Object,
            &[resource, " ", namespace, "/", name],
        );
    }
}

/// Those whom a binding empowers, where it is a few.
fn subjects(view: &View<'_>, traces: &mut Writer) {
    let FieldValue::List(subjects) = view.field(Field::BindingSubjects) else {
        return;
    };
    if subjects.len() > MAX_SUBJECTS {
        return;
    }
    for subject in &subjects {
        if let Some(user) = subject.strip_prefix("User:") {
            if Kind::of(user) == Kind::User {
                traces.add(Role::Made, TraceKind::Identity, &[user]);
            }
        } else if let Some((namespace, name)) = subject
            .strip_prefix("ServiceAccount:")
            .and_then(|account| account.split_once('/'))
        {
            traces.account(Role::Made, namespace, name);
        }
    }
}

/// `CN` of a subject as [`Field::CsrSubject`] writes it.
fn common_name(subject: &str) -> Option<&str> {
    subject
        .split([',', '/', '+'])
        .find_map(|part| part.trim().strip_prefix("CN="))
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::audit::{AuditEvent, Category, ObjectRef, Origin, User};
    use super::super::site::{Lists, Site};
    use super::super::tie::TieRef;
    use super::*;

    fn user(name: &'static str, extra: &[(&'static str, &'static str)]) -> User<'static> {
        User {
            username: name.into(),
            extra: extra
                .iter()
                .map(|(key, value)| {
                    let key = format!("authentication.kubernetes.io/{key}");
                    (key.into(), vec![(*value).into()])
                })
                .collect(),
            ..User::default()
        }
    }

    fn of(event: &AuditEvent<'_>) -> Vec<String> {
        on(&Site::default(), event)
    }

    fn on(site: &Site, event: &AuditEvent<'_>) -> Vec<String> {
        let origin = Origin {
            cluster: "c".into(),
            category: Category::KubeAudit,
            time: None,
        };
        let mut writer = Writer::default();
        traces(&View::new(event, &origin, site), &mut writer);
        let ties = writer.finish();
        ties.iter()
            .map(|TieRef { kind, value, role }| format!("{role:?} {kind:?} {value}"))
            .collect()
    }

    #[test]
    fn an_account_leaves_its_name_credential_and_pod() {
        let event = AuditEvent {
            verb: "list".into(),
            user: user(
                "system:serviceaccount:shop:web",
                &[("credential-id", "JTI=1"), ("pod-name", "web-0")],
            ),
            source_ips: vec!["10.0.0.1".into()],
            ..AuditEvent::default()
        };
        assert_eq!(
            of(&event),
            [
                "Acts Identity system:serviceaccount:shop:web",
                "Bears Identity system:serviceaccount:shop:web in a pod",
                "Acts Credential JTI=1",
                "Acts Pod shop/web-0"
            ]
        );
    }

    #[test]
    fn a_token_that_never_expires_is_known_by_its_secret() {
        let key = "authentication.k8s.io/legacy-token-manual-secret";
        let event = AuditEvent {
            verb: "list".into(),
            user: user("system:serviceaccount:shop:web", &[]),
            source_ips: vec!["10.0.0.1".into()],
            annotations: vec![(key.into(), "web-token".into())],
            ..AuditEvent::default()
        };
        assert_eq!(
            of(&event),
            [
                "Acts Identity system:serviceaccount:shop:web",
                "Bears Object secrets shop/web-token"
            ]
        );
    }

    /// Where the trusted networks are known; else nobody is outside.
    #[test]
    fn a_person_outside_is_told_apart() {
        let mut site = Site::default();
        let event = |address: &'static str| AuditEvent {
            verb: "get".into(),
            user: user("eve@example.com", &[]),
            source_ips: vec![address.into()],
            ..AuditEvent::default()
        };
        let inside = ["Acts Identity eve@example.com"];
        assert_eq!(on(&site, &event("198.51.100.7")), inside);
        let trusted = ["203.0.113.0/24".parse().expect("a network")];
        site.lists = Arc::new(Lists {
            trusted_networks: trusted.into_iter().collect(),
            ..Lists::default()
        });
        assert_eq!(on(&site, &event("203.0.113.7")), inside);
        assert_eq!(
            on(&site, &event("198.51.100.7")),
            [
                "Bears Identity eve@example.com",
                "Acts Identity eve@example.com from outside",
                "Acts Address 198.51.100.7 with "
            ]
        );
    }

    #[test]
    fn what_many_use_counts_with_its_address() {
        let event = AuditEvent {
            verb: "get".into(),
            user: user("masterclient", &[("credential-id", "X509SHA256=1")]),
            source_ips: vec!["198.51.100.7".into()],
            ..AuditEvent::default()
        };
        assert_eq!(
            of(&event),
            ["Acts SharedIdentity masterclient from 198.51.100.7"]
        );
    }

    #[test]
    fn the_platform_and_its_namespaces_join_nothing() {
        let event = AuditEvent {
            verb: "delete".into(),
            user: user(
                "system:serviceaccount:kube-system:replicaset-controller",
                &[],
            ),
            user_agent: "kube-controller-manager/v1.32.3".into(),
            source_ips: vec!["172.31.2.3".into()],
            object_ref: Some(ObjectRef {
                resource: "pods".into(),
                namespace: "shop".into(),
                name: "web-0".into(),
                ..ObjectRef::default()
            }),
            ..AuditEvent::default()
        };
        assert!(of(&event).is_empty());
    }

    #[test]
    fn a_token_that_the_platform_fills_in_is_taken_by_who_reads_it() {
        let event = |user_name, verb: &'static str| AuditEvent {
            verb: verb.into(),
            user: user(user_name, &[]),
            user_agent: "kube-controller-manager/v1.32.3".into(),
            source_ips: vec!["172.31.2.3".into()],
            object_ref: Some(ObjectRef {
                resource: "secrets".into(),
                namespace: "shop".into(),
                name: "web-token".into(),
                ..ObjectRef::default()
            }),
            ..AuditEvent::default()
        };
        let filled = of(&event("system:kube-controller-manager", "update"));
        assert_eq!(filled, ["Made Object secrets shop/web-token"]);
        let read = of(&event("eve@example.com", "get"));
        assert!(read.contains(&"Took Object secrets shop/web-token".to_owned()));
    }

    #[test]
    fn a_certificate_joins_its_name() {
        assert_eq!(common_name("CN=eve,O=system:masters"), Some("eve"));
        assert_eq!(common_name("O=x, CN=eve"), Some("eve"));
        assert_eq!(common_name("CN="), None);
    }
}
