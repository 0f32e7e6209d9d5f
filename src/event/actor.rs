//! Who acts: people, service accounts, nodes, the control plane and AKS itself.
//!
//! Judged is the authenticated user; whom it acts as is said beside it. A name alone proves
//! nothing (a stolen token bears its name too), so [`Fact::ActorPlatform`] also asks where the
//! request came from and by which client.

use std::hash::Hasher;

use super::audit::User;
use super::source_ip::Class;
use super::target;
use super::view::View;
use super::{Fact, FactSet, Truth, agent, dashboard};

/// Users by which AKS' own services act; `masterclient`, a person with the admin kubeconfig, is
/// none of them.
const AKS: [&str; 6] = [
    "aksService",
    "hcpService",
    "acsService",
    "nodeclient",
    "readinessChecker",
    "kubelet-nodepool-bootstrap",
];

/// The local administrator of an AKS cluster (`az aks get-credentials --admin`).
const STATIC_ADMIN: &str = "masterclient";

const APISERVER: &str = "system:apiserver";

/// What a user's name says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Anonymous,
    ServiceAccount,
    Node,
    ControlPlane,
    Aks,
    StaticAdmin,
    User,
}

impl Kind {
    pub fn of(name: &str) -> Kind {
        if name == "system:anonymous" || name.is_empty() {
            Kind::Anonymous
        } else if service_account(name).is_some() {
            Kind::ServiceAccount
        } else if name.starts_with("system:node:") {
            Kind::Node
        } else if is_control_plane(name) {
            Kind::ControlPlane
        } else if AKS.contains(&name) || name.starts_with("aks:") {
            Kind::Aks
        } else if name == STATIC_ADMIN {
            Kind::StaticAdmin
        } else {
            Kind::User
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Anonymous => "anonymous",
            Kind::ServiceAccount => "service_account",
            Kind::Node => "node",
            Kind::ControlPlane => "control_plane",
            Kind::Aks => "aks",
            Kind::StaticAdmin => "static_admin",
            Kind::User => "user",
        }
    }
}

fn is_control_plane(name: &str) -> bool {
    name == APISERVER
        || [
            "system:kube-",
            "system:cloud-",
            "system:aggregator",
            "system:konnectivity-",
            "system:serviceaccount-controller",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Namespace and name of a service account's user name.
pub(super) fn service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("system:serviceaccount:")?
        .split_once(':')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
}

/// Whether requests by `user` bypass RBAC or hold the platform's rights.
pub(super) fn is_privileged(view: &View<'_>, user: &User<'_>) -> bool {
    let by_name = match Kind::of(&user.username) {
        Kind::Node | Kind::ControlPlane | Kind::Aks | Kind::StaticAdmin => true,
        Kind::ServiceAccount => user
            .username
            .starts_with("system:serviceaccount:kube-system:"),
        Kind::Anonymous => false,
        Kind::User => {
            matches!(user.username.as_ref(), "system:admin" | "system:masters")
                || view.site.lists.admin_users.contains(&user.username)
        }
    };
    by_name
        || user.groups.iter().any(|group| {
            matches!(
                group.as_ref(),
                "system:masters"
                    | "system:nodes"
                    | "system:serviceaccounts:kube-system"
                    | "kubeadm:cluster-admins"
                    | "system:node-proxier"
            ) || is_control_plane(group)
        })
}

/// Whether the actor is one of Kubernetes' or AKS' own.
///
/// By name: nodes, control-plane components, AKS' services, service accounts of kube-system and of
/// Azure Arc's agents, but neither `default` nor the dashboard's. By address: from inside; the API
/// server itself from its own host only. By client: no tool that people use; AKS' services alone,
/// whose certificate never leaves the control plane, apply add-ons with kubectl from there.
fn platform(view: &View<'_>) -> Truth {
    let event = view.event;
    let name = event.user.username.as_ref();
    let kind = Kind::of(name);
    let own_name = match kind {
        Kind::Aks | Kind::ControlPlane => true,
        Kind::Node => name["system:node:".len()..].starts_with("aks"),
        Kind::ServiceAccount => service_account(name).is_some_and(|(namespace, account)| {
            matches!(namespace, "kube-system" | "azure-arc")
                && account != "default"
                && !dashboard::is_account(namespace, account)
        }),
        Kind::Anonymous | Kind::StaticAdmin | Kind::User => false,
    };
    if !own_name {
        return Truth::False;
    }
    if event.source_ips.is_empty() {
        // A real request always has an address; an export that dropped it proves nothing.
        return Truth::Unknown;
    }
    let class = Class::of(view.client());
    let inside = if name == APISERVER {
        class == Class::Loopback
    } else {
        is_inside(view)
    };
    let from_control_plane = class == Class::Loopback
        || view
            .client()
            .is_some_and(|client| view.site.lists.trusted_hops.contains(client));
    let own_client = match view.family() {
        agent::Family::Component | agent::Family::GoDefault => true,
        agent::Family::Kubectl | agent::Family::Deploying => {
            kind == Kind::Aks && from_control_plane
        }
        _ => false,
    };
    (inside && own_client).into()
}

/// Whether the client's address is one that only the cluster and its network have.
fn is_inside(view: &View<'_>) -> bool {
    match Class::of(view.client()) {
        Class::Loopback | Class::Private | Class::Shared | Class::LinkLocal => true,
        Class::Public => view.is(Fact::SourceIpNode),
        Class::Unknown => false,
    }
}

/// An Entra identity: an object id or an e-mail-like name.
fn is_entra(user: &User<'_>) -> bool {
    let name = user.username.as_ref();
    let mail = name
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.'));
    mail || is_guid(name) || user.extra.iter().any(|(key, _)| key == "oid")
}

fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The node of a token that is bound to a pod, or the node that the actor is; else empty.
pub(super) fn node_name<'e>(event: &'e super::AuditEvent<'_>) -> &'e str {
    event
        .user
        .extra
        .iter()
        .find(|(key, _)| key == "authentication.kubernetes.io/node-name")
        .and_then(|(_, values)| values.first())
        .map(|name| name.as_ref())
        .or_else(|| event.user.username.strip_prefix("system:node:"))
        .unwrap_or_default()
}

pub(super) fn facts(view: &View<'_>, facts: &mut FactSet) {
    let bound =
        service_account(&view.event.user.username).is_some() && !node_name(view.event).is_empty();
    // Not in the memory of identities: an account has tokens of many kinds.
    facts.set(Fact::ActorBoundToken, bound);
    let event = view.event;
    let code = event
        .response_status
        .as_ref()
        .map_or(0, |status| status.code);
    // What a refusal says and whom the actor acts as is read each time.
    let Some(memo) = view
        .memo()
        .filter(|_| code != 403 && event.impersonated_user.is_none())
    else {
        return read(view, facts);
    };
    let mut key = memo.hasher();
    let mut text = |text: &str| {
        key.write(text.as_bytes());
        key.write_u8(0xff);
    };
    text(&event.user.username);
    event.user.groups.iter().for_each(|group| text(group));
    let client = view.client();
    let hop = client.is_some_and(|client| view.site.lists.trusted_hops.contains(client));
    let said = [
        code == 401,
        event.user.extra.iter().any(|(key, _)| key == "oid"),
        event.source_ips.is_empty(),
        hop,
    ];
    key.write(&said.map(u8::from));
    key.write_u8(Class::of(client) as u8);
    key.write_u8(view.fact(Fact::SourceIpNode) as u8);
    key.write_u8(view.family() as u8);
    key.write_usize(std::ptr::from_ref(view.site).addr());
    facts.merge(&memo.actor(key.finish(), || {
        let mut facts = FactSet::default();
        read(view, &mut facts);
        facts
    }));
}

/// The facts; [`facts`] names to its memory all that they are read from.
fn read(view: &View<'_>, facts: &mut FactSet) {
    let event = view.event;
    let user = &event.user;
    let name = user.username.as_ref();
    let kind = Kind::of(name);
    let code = event
        .response_status
        .as_ref()
        .map_or(0, |status| status.code);
    let in_group = |group: &str| user.groups.iter().any(|g| g == group);
    let account = service_account(name);

    let platform = platform(view);
    facts.set(Fact::ActorPlatform, platform);
    facts.set(
        Fact::ActorSystem,
        matches!(
            kind,
            Kind::ServiceAccount | Kind::Node | Kind::ControlPlane | Kind::Aks
        ),
    );
    facts.set(
        Fact::ActorHuman,
        matches!(kind, Kind::User | Kind::StaticAdmin) && !name.starts_with("system:"),
    );
    facts.set(Fact::ActorServiceAccount, account.is_some());
    facts.set(
        Fact::ActorKubeSystem,
        account.is_some_and(|(namespace, _)| namespace == "kube-system"),
    );
    facts.set(
        Fact::ActorDefaultServiceAccount,
        account.is_some_and(|(_, account)| account == "default"),
    );
    facts.set(Fact::ActorNode, kind == Kind::Node);
    facts.set(Fact::ActorControlPlane, kind == Kind::ControlPlane);
    facts.set(Fact::ActorAks, kind == Kind::Aks);
    facts.set(
        Fact::ActorAnonymous,
        if name.is_empty() && code != 401 {
            // An export may have dropped the user.
            Truth::Unknown
        } else {
            Truth::from(kind == Kind::Anonymous || in_group("system:unauthenticated"))
        },
    );
    facts.set(Fact::ActorStaticAdmin, kind == Kind::StaticAdmin);
    facts.set(Fact::ActorSystemMasters, in_group("system:masters"));
    let lists = &view.site.lists;
    facts.set(
        Fact::ActorAdminUser,
        !name.is_empty() && lists.admin_users.contains(name),
    );
    facts.set(
        Fact::ActorDeployer,
        !name.is_empty() && lists.deployers.contains(name),
    );
    facts.set(Fact::ActorEntra, kind == Kind::User && is_entra(user));
    facts.set(
        Fact::ActorDashboard,
        account.is_some_and(|(namespace, account)| dashboard::is_account(namespace, account)),
    );
    facts.set(Fact::ActorImpersonating, event.impersonated_user.is_some());
    facts.set(
        Fact::ActorImpersonatesPrivileged,
        event
            .impersonated_user
            .as_ref()
            .is_some_and(|user| is_privileged(view, user)),
    );
    facts.set(
        Fact::ActorImpersonationRefused,
        code == 403
            && event.impersonated_user.is_none()
            && target::message(view).contains(" cannot impersonate"),
    );
    facts.set(
        Fact::ActorInCluster,
        matches!(kind, Kind::ServiceAccount | Kind::Node)
            && Class::of(view.client()) != Class::Public,
    );
    // Arc's proxy passes on the user agents of its clients.
    let arc = account
        .is_some_and(|(namespace, account)| namespace == "azure-arc" && account.contains("proxy"))
        && is_inside(view);
    facts.set(
        Fact::ActorApprovedImpersonator,
        arc || (!name.is_empty() && lists.impersonators.contains(name)),
    );
}
