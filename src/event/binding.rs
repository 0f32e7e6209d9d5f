//! Bindings that a request writes: which role they bind to whom.
//!
//! Judged is the binding as stored (the response), else what was asked for; a patch that touches
//! neither subjects nor role binds nothing, and neither does an update that changed nothing.

use super::actor;
use super::dashboard;
use super::json::Json;
use super::rbac::written;
use super::view::{Object, View};
use super::{Fact, FactSet, Truth};

/// Roles of Kubernetes and AKS that lead to the cluster or to all of a namespace.
fn is_privileged(name: &str) -> bool {
    is_cluster_admin(name)
        || matches!(
            name,
            "admin"
                | "edit"
                | "system:masters"
                | "system:node"
                | "system:node-bootstrapper"
                | "system:node-proxier"
                | "system:kubelet-api-admin"
                | "system:kube-controller-manager"
                | "system:kube-scheduler"
                | "system:aggregate-to-admin"
                | "system:aggregate-to-edit"
                | "system:persistent-volume-provisioner"
                | "system:certificates.k8s.io:certificatesigningrequests:nodeclient"
                | "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"
                | "system:certificates.k8s.io:kube-apiserver-client-approver"
                | "system:certificates.k8s.io:kubelet-serving-approver"
                | "system:certificates.k8s.io:legacy-unknown-approver"
                | "system:cloud-controller-manager"
                | "system:volume-scheduler"
        )
        || name.starts_with("system:controller:")
}

fn is_cluster_admin(name: &str) -> bool {
    name.contains("cluster-admin")
        || name == "system:masters"
        || name.starts_with("aks-") && name.contains("admin")
}

/// Roles that everyone has by default.
const PUBLIC: [&str; 6] = [
    "system:discovery",
    "system:basic-user",
    "system:public-info-viewer",
    "system:service-account-issuer-discovery",
    "system:monitoring",
    "system:scope-impersonation",
];

/// A subject of a binding. A service account may also be written as the user or as a group that it
/// is for the authorizer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    User(String),
    Group(String),
    ServiceAccount(String, String),
}

impl Subject {
    fn of(subject: &Json<'_>, binding_namespace: &str) -> Subject {
        let name = subject.get("name").str().to_owned();
        match subject.get("kind").str() {
            "ServiceAccount" => {
                let namespace = match subject.get("namespace").str() {
                    "" => binding_namespace,
                    namespace => namespace,
                };
                Subject::ServiceAccount(namespace.to_owned(), name)
            }
            "Group" => Subject::Group(name),
            _ => match actor::service_account(&name) {
                Some((namespace, account)) => {
                    Subject::ServiceAccount(namespace.to_owned(), account.to_owned())
                }
                None => Subject::User(name),
            },
        }
    }

    fn text(&self) -> String {
        match self {
            Subject::User(name) => format!("User:{name}"),
            Subject::Group(name) => format!("Group:{name}"),
            Subject::ServiceAccount(namespace, name) => {
                format!("ServiceAccount:{namespace}/{name}")
            }
        }
    }
}

/// What a written binding binds to whom.
#[derive(Debug)]
pub(super) struct Binding {
    applies: Truth,
    /// Kind and name; `None` where a delta does not say.
    role: Option<(String, String)>,
    subjects: Vec<Subject>,
}

impl Binding {
    pub(super) fn of(view: &View<'_>) -> Binding {
        let mut binding = Binding {
            applies: Truth::False,
            role: None,
            subjects: Vec::new(),
        };
        if !matches!(view.resource(), "rolebindings" | "clusterrolebindings") {
            return binding;
        }
        let object = view.object();
        binding.applies = object.judge(|_| true);
        let Object::Known(object) = object else {
            return binding;
        };
        let role = object.get("roleRef");
        let name = role.get("name").str();
        if !name.is_empty() {
            binding.role = Some((role.get("kind").str().to_owned(), name.to_owned()));
        }
        binding.subjects = written(object, "subjects")
            .into_iter()
            .map(|subject| Subject::of(subject, view.namespace()))
            .collect();
        if view.is(Fact::Unchanged) || !view.touches("subjects") && !view.touches("roleRef") {
            binding.applies = Truth::False;
        }
        binding
    }

    /// As `Kind/name`; empty where it is not known.
    pub(super) fn role(&self) -> String {
        match &self.role {
            Some((kind, name)) if kind.is_empty() => name.clone(),
            Some((kind, name)) => format!("{kind}/{name}"),
            None => String::new(),
        }
    }

    pub(super) fn subjects(&self) -> Vec<String> {
        self.subjects.iter().map(Subject::text).collect()
    }
}

pub(super) fn facts(view: &View<'_>, facts: &mut FactSet) {
    let binding = view.binding();
    let role = |test: &dyn Fn(&str) -> bool| match (binding.applies, &binding.role) {
        (Truth::True, Some((kind, name))) => Truth::from(kind != "Role" && test(name)),
        (Truth::True, None) => Truth::Unknown,
        (other, _) => other,
    };
    facts.set(Fact::BindingClusterAdmin, role(&is_cluster_admin));
    facts.set(Fact::BindingPrivilegedRole, role(&is_privileged));
    facts.set(
        Fact::BindingPublicRole,
        role(&|name| PUBLIC.contains(&name)),
    );
    let changed = matches!(view.event.verb.as_ref(), "create" | "update" | "patch")
        && matches!(view.resource(), "rolebindings" | "clusterrolebindings")
        && !view.is(Fact::Unchanged)
        && (view.touches("subjects") || view.touches("roleRef"));
    facts.set(Fact::BindingChanged, changed);
    facts.set(
        Fact::BindingOrdinary,
        changed && role(&is_privileged) != Truth::True,
    );
    facts.set(
        Fact::BindingClusterWide,
        view.resource() == "clusterrolebindings",
    );
    let subject = |test: &dyn Fn(&Subject) -> bool| match binding.applies {
        Truth::True => Truth::from(binding.subjects.iter().any(test)),
        other => other,
    };
    let group = |names: &'static [&'static str]| {
        move |subject: &Subject| match subject {
            Subject::Group(name) | Subject::User(name) => names.contains(&name.as_str()),
            Subject::ServiceAccount(..) => false,
        }
    };
    facts.set(
        Fact::BindingToAnonymous,
        subject(&group(&["system:anonymous", "system:unauthenticated"])),
    );
    facts.set(
        Fact::BindingToEveryone,
        subject(&group(&[
            "system:authenticated",
            "system:serviceaccounts",
            "system:anonymous",
            "system:unauthenticated",
        ])),
    );
    facts.set(
        Fact::BindingToServiceAccount,
        subject(&|subject| matches!(subject, Subject::ServiceAccount(..))),
    );
    facts.set(
        Fact::BindingToDefaultServiceAccount,
        subject(&|subject| match subject {
            Subject::ServiceAccount(_, name) => name == "default",
            Subject::Group(name) => name.starts_with("system:serviceaccounts:"),
            Subject::User(_) => false,
        }),
    );
    facts.set(
        Fact::BindingToKubeSystem,
        subject(&|subject| match subject {
            Subject::ServiceAccount(namespace, _) => namespace == "kube-system",
            Subject::Group(name) => name == "system:serviceaccounts:kube-system",
            Subject::User(_) => false,
        }),
    );
    facts.set(
        Fact::BindingToDashboard,
        subject(&|subject| match subject {
            Subject::ServiceAccount(namespace, name) => dashboard::is_account(namespace, name),
            _ => false,
        }),
    );
    facts.set(
        Fact::BindingToSelf,
        subject(&|subject| is_actor(view, subject)),
    );
}

/// Whether a subject is the actor, or a group of its own that not everyone is in.
fn is_actor(view: &View<'_>, subject: &Subject) -> bool {
    let users = std::iter::once(&view.event.user).chain(&view.event.impersonated_user);
    users.into_iter().any(|user| match subject {
        Subject::User(name) => *name == user.username,
        Subject::Group(name) => {
            user.groups.iter().any(|group| group == name)
                && !matches!(
                    name.as_str(),
                    "system:authenticated" | "system:unauthenticated" | "system:serviceaccounts"
                )
        }
        Subject::ServiceAccount(namespace, name) => {
            actor::service_account(&user.username) == Some((namespace, name))
        }
    })
}
