//! What one record teaches the inventory: objects as a successful request left, showed or removed
//! them.
//!
//! Made by the parallel half, of the few resources that [`Kind::of`] names and of nothing else; told
//! to [`super::Inventory`] in the ordered half.

use serde::{Deserialize, Serialize};

use super::object::{self, Content, Key, Kind, Pod};
use crate::detect::occurrence::{self, Place};
use crate::event::object::is_delta;
use crate::event::{AuditEvent, Fact, Json, Object, Stage, View};

/// Objects of one list that are learnt.
const MAX_LISTED: usize = 4096;

/// Groups of an actor that are told.
const MAX_GROUPS: usize = 64;

/// Bytes of one name that are told; Kubernetes' own names are shorter.
const MAX_NAME: usize = 512;

/// One change of one object, or one that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lesson {
    pub cluster: Box<str>,
    /// Milliseconds of the event's time, and of the request's receipt.
    pub at: i64,
    pub received: i64,
    /// The object's resourceVersion as a number; 0 where it is not told.
    pub version: u64,
    /// As [`crate::detect::matches::Occurrence::owner`].
    pub owner: u64,
    /// As [`crate::detect::matches::Occurrence::request`].
    pub request: u128,
    pub key: Key,
    pub what: What,
    /// Who wrote roles and bindings.
    pub actor: Option<Box<Author>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    Made(Content),
    /// Written, or read where `shown`.
    Left {
        content: Content,
        shown: bool,
    },
    Gone,
    /// Every object of the kind in the namespace, whatever its name.
    AllGone,
    /// What a detector's state by this hash was told of a namespace.
    Told(u64),
    /// Every policy of the namespace is known from now on.
    Whole,
}

/// Who acts, as far as rights need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The authenticated user.
    pub user: Box<str>,
    /// Whom it acts as; the user itself where it impersonates nobody.
    pub effective: Box<str>,
    pub groups: Vec<Box<str>>,
    pub address: Box<str>,
    pub audit_id: Box<str>,
}

/// The names that [`teaches`] tells apart.
pub const GROUPS: &[&str] = &[
    "",
    "cilium.io",
    "crd.projectcalico.org",
    "extensions",
    "networking.k8s.io",
    "projectcalico.org",
    "rbac.authorization.k8s.io",
];
pub const RESOURCES: &[&str] = &[
    "ciliumnetworkpolicies",
    "clusterrolebindings",
    "clusterroles",
    "namespaces",
    "networkpolicies",
    "pods",
    "rolebindings",
    "roles",
    "serviceaccounts",
];
pub const SUBRESOURCES: &[&str] = &["", "ephemeralcontainers"];
pub const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
];

/// Whether events of this resource and verb can teach anything.
pub fn teaches(group: &str, resource: &str, subresource: &str, verb: &str) -> bool {
    let subresource =
        subresource.is_empty() || resource == "pods" && subresource == "ephemeralcontainers";
    let Some(kind) = Kind::of(group, resource).filter(|_| subresource) else {
        return false;
    };
    match verb {
        "create" | "update" | "patch" | "delete" | "deletecollection" => true,
        // Bodies of reads are rare, and of pods they are many.
        "get" | "list" => kind != Kind::Pod,
        _ => false,
    }
}

/// Puts what the event behind `view` teaches to `out`. To be asked only where [`teaches`] says so.
pub fn read(view: &View<'_>, place: Place<'_>, out: &mut Vec<Lesson>) {
    let event = view.event;
    let object_ref = view.object_ref();
    let Some(kind) = Kind::of(&object_ref.api_group, &object_ref.resource) else {
        return;
    };
    if event.stage == Stage::RequestReceived || !view.is(Fact::Succeeded) || view.is(Fact::DryRun) {
        return;
    }
    let Some(time) = event.time().or(view.origin.time) else {
        return;
    };
    let owner = occurrence::owner(&view.origin.cluster, &event.user.username);
    let request = occurrence::request(view, place);
    let lesson = |namespace: &str, name: &str, version: u64, what: What| Lesson {
        cluster: view.origin.cluster.as_ref().into(),
        at: time.as_millisecond(),
        received: event.request_received.unwrap_or(time).as_millisecond(),
        version,
        owner,
        request: request.0,
        key: Key::new(
            kind,
            namespace,
            &policy_name(kind, &object_ref.api_group, name),
        ),
        what,
        actor: matches!(kind, Kind::Role | Kind::Binding).then(|| Box::new(author(view))),
    };
    let namespace = match kind {
        Kind::Namespace => "",
        _ => view.namespace(),
    };
    if namespace.len() > MAX_NAME || view.name().len() > MAX_NAME {
        return;
    }
    match event.verb.as_ref() {
        "create" | "update" | "patch" => {
            let name = view.name();
            if name.is_empty() {
                return;
            }
            // What a pod may do is in its spec alone.
            if kind == Kind::Pod && !view.touches("spec") {
                return;
            }
            let object = view.object();
            let whole = match object {
                // A delta does not tell what the object holds.
                Object::Known(_) if is_delta(view) => None,
                Object::Known(object) => Some(object),
                Object::Unknown | Object::None => None,
            };
            let content = content(view, kind, whole);
            let what = match view.is(Fact::Made) && view.subresource().is_empty() {
                true => What::Made(content),
                false => What::Left {
                    content,
                    shown: false,
                },
            };
            out.push(lesson(namespace, name, whole.map_or(0, version), what));
        }
        "delete" => {
            let left = view.response_object();
            let metadata = left.map(|object| object.get("metadata"));
            // A pod goes when its time is up, and another request tells of that.
            let waits = kind == Kind::Pod
                && metadata.is_some_and(|metadata| {
                    metadata
                        .get("deletionGracePeriodSeconds")
                        .as_i64()
                        .unwrap_or(0)
                        > 0
                });
            if !waits {
                out.push(lesson(namespace, view.name(), 0, What::Gone));
            }
        }
        "deletecollection" => {
            let listed = view.response_object().map(|list| list.get("items").items());
            let selected = view
                .query()
                .iter()
                .any(|(name, value)| name.ends_with("Selector") && !value.is_empty());
            match listed {
                Some(items) if selected => {
                    for item in items.iter().take(MAX_LISTED) {
                        let name = item.at(&["metadata", "name"]).str();
                        let namespace = item.at(&["metadata", "namespace"]).str();
                        out.push(lesson(namespace, name, 0, What::Gone));
                    }
                }
                _ if selected => {}
                _ => out.push(lesson(namespace, "", 0, What::AllGone)),
            }
        }
        _ => {
            let Some(object) = view.response_object() else {
                return;
            };
            let items = match object.get("items") {
                Json::Array(items) => &items[..],
                _ if object.get("kind").str() == "Status" => return,
                _ => std::slice::from_ref(object),
            };
            for item in items.iter().take(MAX_LISTED) {
                let metadata = item.get("metadata");
                let (namespace, name) =
                    (metadata.get("namespace").str(), metadata.get("name").str());
                let content = of_json(kind, namespace, item);
                if !name.is_empty() && name.len() <= MAX_NAME && namespace.len() <= MAX_NAME {
                    let what = What::Left {
                        content,
                        shown: true,
                    };
                    out.push(lesson(namespace, name, version(item), what));
                }
            }
        }
    }
}

/// Policies of several API groups may bear one name.
fn policy_name<'n>(kind: Kind, group: &str, name: &'n str) -> std::borrow::Cow<'n, str> {
    match (kind, group) {
        (Kind::Policy, "cilium.io") => format!("cilium.io/{name}").into(),
        (Kind::Policy, "crd.projectcalico.org" | "projectcalico.org") => {
            // Calico keeps NetworkPolicies under its own name with a prefix.
            format!("projectcalico.org/{name}").into()
        }
        _ => name.into(),
    }
}

fn version(object: &Json<'_>) -> u64 {
    let version = object.at(&["metadata", "resourceVersion"]).str();
    version.parse().unwrap_or(0)
}

fn content(view: &View<'_>, kind: Kind, object: Option<&Json<'_>>) -> Content {
    match kind {
        Kind::Pod => pod(view),
        Kind::Namespace => match (object, of_json(kind, "", object.unwrap_or(&Json::Null))) {
            (Some(_), Content::Namespace(namespace)) => Content::Namespace(object::Namespace {
                platform: view.is(Fact::ActorPlatform),
                ..namespace
            }),
            _ => Content::Unknown,
        },
        Kind::ServiceAccount | Kind::Policy => Content::Plain,
        _ => object.map_or(Content::Unknown, |object| {
            of_json(kind, view.namespace(), object)
        }),
    }
}

fn of_json(kind: Kind, namespace: &str, object: &Json<'_>) -> Content {
    match kind {
        Kind::Role => object::role(object, namespace.is_empty()),
        Kind::Binding => object::binding(object, namespace),
        Kind::Namespace => Content::Namespace(object::Namespace {
            labels: object::labels(object),
            ..object::Namespace::default()
        }),
        Kind::Pod => Content::Unknown,
        Kind::ServiceAccount | Kind::Policy => Content::Plain,
    }
}

fn pod(view: &View<'_>) -> Content {
    const FACTS: [&[Fact]; 5] = [
        &[Fact::PodPrivileged],
        &[Fact::PodHostPid],
        &[
            Fact::PodHostPathSensitive,
            Fact::PodHostRoot,
            Fact::PodAzureCredentials,
        ],
        &[Fact::PodContainerSocket],
        &[Fact::PodCapabilitiesDangerous],
    ];
    let known = matches!(view.fact(Fact::PodPrivileged), crate::event::Truth::True)
        || view.object().known().is_some() && !is_delta(view);
    if !known {
        return Content::Unknown;
    }
    let bits = (0..)
        .zip(FACTS)
        .filter(|(_, facts)| facts.iter().any(|fact| view.is(*fact)))
        .fold(0, |bits, (bit, _)| bits | 1 << bit);
    Content::Pod(Pod(bits))
}

fn author(view: &View<'_>) -> Author {
    let AuditEvent {
        user,
        impersonated_user,
        audit_id,
        ..
    } = view.event;
    let effective = impersonated_user.as_ref().unwrap_or(user);
    let short = |text: &str| text[..text.floor_char_boundary(MAX_NAME)].into();
    Author {
        user: short(&user.username),
        effective: short(&effective.username),
        groups: effective
            .groups
            .iter()
            .take(MAX_GROUPS)
            .map(|group| short(group))
            .collect(),
        address: view
            .client()
            .map_or_else(Box::default, |address| address.to_string().into()),
        audit_id: audit_id[..audit_id.floor_char_boundary(128)].into(),
    }
}
