//! What is kept of an object: of roles their rules, of bindings role and subjects, of pods whether
//! they own their node, of namespaces their labels; of all, that they are there.
//!
//! Read from an object's JSON, as bodies of the audit log and `kubectl get -o json` have it. Bounded:
//! what exceeds the bounds is there with unknown content.

use serde::{Deserialize, Serialize};

use super::rights::Rule;
use crate::event::Json;

/// Texts, rules and subjects of one object that are kept; beyond, its content is unknown. The
/// greatest of Kubernetes' own roles is a third of this.
const MAX_BYTES: usize = 48 << 10;
const MAX_SUBJECTS: usize = 256;
const MAX_LABELS: usize = 32;
/// Atoms of one role's rules: so that nobody makes us multiply lists.
const MAX_ATOMS: usize = 16_384;

/// Kinds of objects that the inventory knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// With an empty namespace, a ClusterRole; the same holds for bindings.
    Role,
    Binding,
    ServiceAccount,
    Pod,
    Namespace,
    /// NetworkPolicies, and those of Calico and Cilium that live in a namespace.
    Policy,
}

impl Kind {
    pub const ALL: [Kind; 6] = [
        Kind::Role,
        Kind::Binding,
        Kind::ServiceAccount,
        Kind::Pod,
        Kind::Namespace,
        Kind::Policy,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Role => "role",
            Kind::Binding => "binding",
            Kind::ServiceAccount => "serviceaccount",
            Kind::Pod => "pod",
            Kind::Namespace => "namespace",
            Kind::Policy => "networkpolicy",
        }
    }

    /// The kind that a resource of the API holds, if any.
    pub fn of(group: &str, resource: &str) -> Option<Kind> {
        Some(match (group, resource) {
            // Exports may lack the group.
            ("rbac.authorization.k8s.io" | "", "roles" | "clusterroles") => Kind::Role,
            ("rbac.authorization.k8s.io" | "", "rolebindings" | "clusterrolebindings") => {
                Kind::Binding
            }
            ("", "serviceaccounts") => Kind::ServiceAccount,
            ("", "pods") => Kind::Pod,
            ("", "namespaces") => Kind::Namespace,
            (
                "networking.k8s.io"
                | "extensions"
                | ""
                | "crd.projectcalico.org"
                | "projectcalico.org",
                "networkpolicies",
            )
            | ("cilium.io", "ciliumnetworkpolicies") => Kind::Policy,
            _ => return None,
        })
    }
}

/// An object's place in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub kind: Kind,
    /// Empty for what belongs to the cluster.
    pub namespace: Box<str>,
    pub name: Box<str>,
}

impl Key {
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Key {
        Key {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// As detectors' texts name it: `shop/web`, or `web` of the cluster.
    pub fn text(&self) -> String {
        match &*self.namespace {
            "" => self.name.to_string(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }
}

/// To whom a binding gives its role. A service account written as a user is a service account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    User(Box<str>),
    Group(Box<str>),
    ServiceAccount(Box<str>, Box<str>),
}

impl Subject {
    pub fn user(name: &str) -> Subject {
        match service_account(name) {
            Some((namespace, name)) => Subject::ServiceAccount(namespace.into(), name.into()),
            None => Subject::User(name.into()),
        }
    }

    pub fn text(&self) -> String {
        match self {
            Subject::User(name) => format!("User:{name}"),
            Subject::Group(name) => format!("Group:{name}"),
            Subject::ServiceAccount(namespace, name) => {
                format!("ServiceAccount:{namespace}/{name}")
            }
        }
    }

    fn read(subject: &Json<'_>, binding_namespace: &str) -> Subject {
        let name = subject.get("name").str();
        match subject.get("kind").str() {
            "ServiceAccount" => {
                let namespace = match subject.get("namespace").str() {
                    "" => binding_namespace,
                    namespace => namespace,
                };
                Subject::ServiceAccount(namespace.into(), name.into())
            }
            "Group" => Subject::Group(name.into()),
            _ => Subject::user(name),
        }
    }
}

/// Namespace and name of a service account's user name.
pub fn service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("system:serviceaccount:")?.split_once(':')
}

pub type Labels = Vec<(Box<str>, Box<str>)>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    pub rules: Vec<Rule>,
    /// Of ClusterRoles, by which others take them up.
    pub labels: Labels,
    /// Labels that make this role take up another; any of them.
    pub takes: Vec<Selector>,
}

/// What is asked of labels: all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector(pub Vec<(Box<str>, Operator, Vec<Box<str>>)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Kubernetes' meaning: an empty selector admits everything, and `NotIn` what lacks the label.
    pub fn admits(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(key, operator, values)| {
            let value = labels.iter().find(|(name, _)| name == key).map(|(_, v)| v);
            match operator {
                Operator::In => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn => value.is_none_or(|value| !values.contains(value)),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The role's key.
    pub role: Key,
    /// Sorted, each once.
    pub subjects: Vec<Subject>,
}

/// What a pod may do to its node, as bits of [`POD_WORDS`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod(pub u8);

/// Names of the bits of [`Pod`].
pub const POD_WORDS: [&str; 5] = [
    "privileged",
    "sees the node's processes",
    "mounts a sensitive path of the node",
    "has the container runtime's socket",
    "adds dangerous capabilities",
];

impl Pod {
    pub fn words(self) -> String {
        let words: Vec<&str> = (0..)
            .zip(POD_WORDS)
            .filter(|(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, word)| word)
            .collect();
        words.join(", ")
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    pub labels: Labels,
    /// Made by the platform itself.
    pub platform: bool,
    /// Milliseconds. Since then every policy of the namespace is known: since it was made, or since a
    /// whole inventory was imported.
    pub whole_since: Option<i64>,
    /// When the last policy went that was the only one.
    pub policy_gone: Option<i64>,
    /// State hashes of the detectors that have missed a policy here.
    pub told: Vec<u64>,
}

/// What is known of an object besides that it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Its body was not logged, or is beyond the bounds.
    Unknown,
    Role(Role),
    Binding(Binding),
    Pod(Pod),
    Namespace(Namespace),
    /// Nothing more is kept of this kind.
    Plain,
}

impl Content {
    /// Bytes, about.
    pub fn weight(&self) -> usize {
        let of_labels = |labels: &Labels| -> usize {
            labels
                .iter()
                .map(|(key, value)| key.len() + value.len() + 32)
                .sum()
        };
        match self {
            Content::Role(role) => {
                role.rules.iter().map(Rule::weight).sum::<usize>()
                    + of_labels(&role.labels)
                    + role.takes.iter().map(|s| 64 * s.0.len()).sum::<usize>()
            }
            // Each subject stands in an index, too.
            Content::Binding(binding) => binding
                .subjects
                .iter()
                .map(|subject| 2 * subject.text().len() + 128)
                .sum(),
            Content::Namespace(namespace) => of_labels(&namespace.labels),
            Content::Unknown | Content::Pod(_) | Content::Plain => 0,
        }
    }

    fn bounded(self) -> Content {
        let atoms = match &self {
            Content::Role(role) => role
                .rules
                .iter()
                .fold(0usize, |n, r| n.saturating_add(r.size())),
            Content::Binding(binding) if binding.subjects.len() > MAX_SUBJECTS => usize::MAX,
            _ => 0,
        };
        if atoms > MAX_ATOMS || self.weight() > MAX_BYTES {
            Content::Unknown
        } else {
            self
        }
    }
}

fn texts(list: &Json<'_>) -> Vec<Box<str>> {
    list.strings().map(Box::from).collect()
}

pub fn labels(object: &Json<'_>) -> Labels {
    let mut labels: Labels = object
        .at(&["metadata", "labels"])
        .entries()
        .iter()
        .take(MAX_LABELS)
        .map(|(key, value)| (key.as_ref().into(), value.str().into()))
        .collect();
    labels.sort();
    labels
}

pub fn role(object: &Json<'_>, cluster_wide: bool) -> Content {
    let rules = object.get("rules").items().iter().map(|rule| Rule {
        verbs: texts(rule.get("verbs")),
        groups: texts(rule.get("apiGroups")),
        resources: texts(rule.get("resources")),
        names: texts(rule.get("resourceNames")),
        // A Role has none.
        urls: match cluster_wide {
            true => texts(rule.get("nonResourceURLs")),
            false => Vec::new(),
        },
    });
    let takes = object
        .at(&["aggregationRule", "clusterRoleSelectors"])
        .items()
        .iter()
        .take(if cluster_wide { 16 } else { 0 })
        .map(selector);
    Content::Role(Role {
        rules: rules.collect(),
        labels: match cluster_wide {
            true => labels(object),
            false => Labels::new(),
        },
        takes: takes.collect(),
    })
    .bounded()
}

fn selector(selector: &Json<'_>) -> Selector {
    let exact = selector.get("matchLabels").entries().iter();
    let exact = exact.map(|(key, value)| {
        let value = vec![value.str().into()];
        (key.as_ref().into(), Operator::In, value)
    });
    let expressions = selector.get("matchExpressions").items().iter();
    let expressions = expressions.map(|expression| {
        let operator = match expression.get("operator").str() {
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => Operator::In,
        };
        let key = expression.get("key").str().into();
        (key, operator, texts(expression.get("values")))
    });
    Selector(exact.chain(expressions).take(MAX_LABELS).collect())
}

/// `namespace` is the binding's own, empty for a ClusterRoleBinding.
pub fn binding(object: &Json<'_>, namespace: &str) -> Content {
    let role = object.get("roleRef");
    let name = role.get("name").str();
    if name.is_empty() {
        return Content::Unknown;
    }
    let of_role = match role.get("kind").str() {
        "Role" => namespace,
        _ => "",
    };
    let mut subjects: Vec<Subject> = object
        .get("subjects")
        .items()
        .iter()
        .map(|subject| Subject::read(subject, namespace))
        .collect();
    subjects.sort();
    subjects.dedup();
    Content::Binding(Binding {
        role: Key::new(Kind::Role, of_role, name),
        subjects,
    })
    .bounded()
}
