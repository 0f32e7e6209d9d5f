//! Roles that a request writes: what their rules grant.
//!
//! Rights count only where verb and resource meet in the same rule. Judged is the object as stored
//! (the response), else what was asked for; a patch that does not touch the rules grants nothing,
//! and neither does an update that changed nothing.

use super::json::Json;
use super::view::{Object, View};
use super::{Body, Fact, FactSet, Truth};

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// What a rule may grant that leads to more rights, and the words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    AllPowerful,
    WideWildcard,
    Escalate,
    PodExec,
    NodesProxy,
    ReadsSecrets,
    WritesWorkloads,
    WritesRbac,
    ApprovesCsr,
    IssuesTokens,
    WritesWebhooks,
    WritesNodes,
    Wildcard,
    Writes,
}

use Right::*;

/// All rights with their facts and their words, the gravest first.
const RIGHTS: [(Right, Option<Fact>, &str); 14] = [
    (AllPowerful, Some(Fact::RoleAllPowerful), "everything"),
    (WideWildcard, None, "every resource of a group"),
    (
        Escalate,
        Some(Fact::RoleEscalate),
        "escalate, bind or impersonate",
    ),
    (
        NodesProxy,
        Some(Fact::RoleNodesProxy),
        "nodes/proxy (commands at the kubelet)",
    ),
    (
        PodExec,
        Some(Fact::RolePodExec),
        "exec, attach or port-forward in pods",
    ),
    (
        ReadsSecrets,
        Some(Fact::RoleReadsSecrets),
        "reading secrets",
    ),
    (
        WritesRbac,
        Some(Fact::RoleWritesRbac),
        "writing roles or bindings",
    ),
    (
        IssuesTokens,
        Some(Fact::RoleIssuesTokens),
        "issuing service account tokens",
    ),
    (
        ApprovesCsr,
        Some(Fact::RoleApprovesCsr),
        "approving or signing certificates",
    ),
    (
        WritesWebhooks,
        Some(Fact::RoleWritesWebhooks),
        "writing admission webhooks or policies",
    ),
    (WritesNodes, Some(Fact::RoleWritesNodes), "writing nodes"),
    (
        WritesWorkloads,
        Some(Fact::RoleWritesWorkloads),
        "creating or changing workloads",
    ),
    (Wildcard, Some(Fact::RoleWildcard), "a wildcard"),
    (Writes, Some(Fact::RoleWrites), "writing"),
];

/// Those that make a role dangerous to be handed out or aggregated.
const DANGEROUS: [Right; 12] = [
    AllPowerful,
    WideWildcard,
    Escalate,
    NodesProxy,
    PodExec,
    ReadsSecrets,
    WritesRbac,
    IssuesTokens,
    ApprovesCsr,
    WritesWebhooks,
    WritesNodes,
    WritesWorkloads,
];

/// One rule of a role.
struct Rule<'j> {
    groups: Vec<&'j str>,
    resources: Vec<&'j str>,
    verbs: Vec<&'j str>,
    urls: Vec<&'j str>,
}

impl<'j> Rule<'j> {
    fn of(rule: &'j Json<'_>) -> Rule<'j> {
        let list = |key: &str| rule.get(key).strings().collect();
        Rule {
            groups: list("apiGroups"),
            resources: list("resources"),
            verbs: list("verbs"),
            urls: list("nonResourceURLs"),
        }
    }

    fn verb(&self, wanted: &[&str]) -> bool {
        self.verbs
            .iter()
            .any(|verb| *verb == "*" || wanted.contains(verb))
    }

    fn every_verb(&self) -> bool {
        self.verbs.contains(&"*")
    }

    fn group(&self, group: &str) -> bool {
        // A delta may name resources without their group.
        self.groups.is_empty() || self.groups.iter().any(|g| *g == "*" || *g == group)
    }

    fn every_resource(&self) -> bool {
        self.resources.contains(&"*") || self.resources.contains(&"*/*")
    }

    /// Whether the rule names `resource` (`pods`, or `pods/exec`), also by `pods/*`, `*/exec`; and
    /// by `*` where `wide`.
    fn names(&self, resource: &str, wide: bool) -> bool {
        let (parent, sub) = resource.split_once('/').unwrap_or((resource, ""));
        self.resources.iter().any(|given| {
            if *given == "*" {
                return wide;
            }
            let (given_parent, given_sub) = given.split_once('/').unwrap_or((given, ""));
            (given_parent == parent || given_parent == "*" && !given_sub.is_empty())
                && (given_sub == sub || !sub.is_empty() && given_sub == "*")
        })
    }

    fn grants(&self, right: Right) -> bool {
        let core = self.group("");
        let rbac = self.group("rbac.authorization.k8s.io");
        match right {
            AllPowerful => self.every_verb() && self.every_resource() && self.groups.contains(&"*"),
            WideWildcard => {
                self.every_resource() && (core || rbac) && (self.verb(&READ) || self.verb(&WRITE))
            }
            Wildcard => {
                !self.verbs.is_empty()
                    && (self.every_verb()
                        || self
                            .resources
                            .iter()
                            .any(|resource| *resource == "*" || resource.contains("*/"))
                        || self.urls.contains(&"*"))
            }
            Escalate => {
                let explicit = |verbs: &[&str]| self.verbs.iter().any(|verb| verbs.contains(verb));
                let roles = self.names("roles", true) || self.names("clusterroles", true);
                explicit(&["escalate", "bind"]) && roles
                    || self
                        .verbs
                        .iter()
                        .any(|verb| verb.starts_with("impersonate"))
                    || self.every_verb()
                        && (rbac
                            && (self.names("roles", false) || self.names("clusterroles", false))
                            || core && (self.names("users", false) || self.names("groups", false)))
            }
            PodExec => {
                core && self.verb(&["get", "create"])
                    && ["pods/exec", "pods/attach", "pods/portforward"]
                        .iter()
                        .any(|resource| self.names(resource, true))
            }
            NodesProxy => {
                core && self.verb(&["get", "create", "update", "patch", "delete"])
                    && self.names("nodes/proxy", false)
            }
            ReadsSecrets => core && self.verb(&READ) && self.names("secrets", true),
            Writes => {
                let harmless = |resource: &&str| {
                    let (parent, sub) = resource.split_once('/').unwrap_or((resource, ""));
                    // Creating an exec or a proxied request stores nothing; they have rights of
                    // their own above.
                    parent.ends_with("reviews")
                        || matches!(parent, "events" | "leases")
                        || super::target::CONNECT.contains(&sub)
                };
                self.verb(&WRITE)
                    && (!self.urls.is_empty()
                        || !self.resources.is_empty() && !self.resources.iter().all(harmless))
            }
            WritesWorkloads => {
                let verbs = ["create", "update", "patch"];
                self.verb(&verbs)
                    && (core
                        && (self.names("pods", true)
                            || self.names("replicationcontrollers", true)
                            || self.names("pods/ephemeralcontainers", false))
                        || self.group("apps")
                            && ["deployments", "daemonsets", "statefulsets", "replicasets"]
                                .iter()
                                .any(|resource| self.names(resource, true))
                        || self.group("batch")
                            && (self.names("jobs", true) || self.names("cronjobs", true)))
            }
            WritesRbac => {
                rbac && self.verb(&["create", "update", "patch"])
                    && [
                        "roles",
                        "clusterroles",
                        "rolebindings",
                        "clusterrolebindings",
                    ]
                    .iter()
                    .any(|resource| self.names(resource, true))
            }
            ApprovesCsr => {
                // `*` on every group is said by AllPowerful and Wildcard.
                let wide = self.groups.contains(&"certificates.k8s.io");
                self.group("certificates.k8s.io")
                    && (self.verb(&["update", "patch"])
                        && [
                            "certificatesigningrequests/approval",
                            "certificatesigningrequests/status",
                        ]
                        .iter()
                        .any(|resource| self.names(resource, wide))
                        || self.verb(&["approve", "sign", "attest"]) && self.names("signers", wide))
            }
            IssuesTokens => {
                core && self.verb(&["create"]) && self.names("serviceaccounts/token", false)
            }
            WritesWebhooks => {
                let wide = self.groups.contains(&"admissionregistration.k8s.io");
                self.group("admissionregistration.k8s.io")
                    && self.verb(&WRITE)
                    && [
                        "mutatingwebhookconfigurations",
                        "validatingwebhookconfigurations",
                        "mutatingadmissionpolicies",
                        "mutatingadmissionpolicybindings",
                        "validatingadmissionpolicies",
                        "validatingadmissionpolicybindings",
                    ]
                    .iter()
                    .any(|resource| self.names(resource, wide))
            }
            WritesNodes => {
                core && self.verb(&WRITE)
                    && (self.names("nodes", false) || self.names("nodes/status", false))
            }
        }
    }
}

/// What the rules of a written role grant.
#[derive(Debug)]
pub(super) struct Rules {
    /// A role is written; unknown where its body is.
    applies: Truth,
    /// The write may have changed the rules.
    changed: bool,
    rights: Vec<Right>,
    aggregated: bool,
}

impl Rules {
    pub(super) fn of(view: &View<'_>) -> Rules {
        let mut rules = Rules {
            applies: Truth::False,
            changed: false,
            rights: Vec::new(),
            aggregated: false,
        };
        if !matches!(view.resource(), "roles" | "clusterroles") || !view.subresource().is_empty() {
            return rules;
        }
        let object = view.object();
        rules.applies = object.judge(|_| true);
        let Object::Known(object) = object else {
            return rules;
        };
        if view.is(Fact::Unchanged) {
            rules.applies = Truth::False;
            return rules;
        }
        rules.changed = view.touches("rules");
        let written = written(object, "rules");
        rules.rights = RIGHTS
            .iter()
            .map(|(right, ..)| *right)
            .filter(|right| written.iter().any(|rule| Rule::of(rule).grants(*right)))
            .collect();
        let labelled = object
            .at(&["metadata", "labels"])
            .entries()
            .iter()
            .any(|(key, value)| is_aggregation(key) && value.str() == "true");
        let label_touched = view.event.verb != "patch"
            || matches!(view.event.request_object, Body::Text(delta) if delta.contains("aggregate-to-"));
        rules.aggregated = labelled && (label_touched || rules.changed);
        rules
    }

    fn has(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }

    /// The dangerous rights, for people; one word where the rules grant everything.
    pub(super) fn dangerous(&self) -> String {
        let mut words: Vec<&str> = RIGHTS
            .iter()
            .filter(|(right, ..)| DANGEROUS.contains(right) && self.has(*right))
            .map(|(_, _, words)| *words)
            .collect();
        if self.has(AllPowerful) {
            words.truncate(1);
        }
        words.join("; ")
    }
}

fn is_aggregation(label: &str) -> bool {
    matches!(
        label.strip_prefix("rbac.authorization.k8s.io/aggregate-to-"),
        Some("admin" | "edit" | "view")
    )
}

/// The elements of the object's list `key`; of a JSON Patch, those that it adds or puts there.
pub(super) fn written<'j>(object: &'j Json<'j>, key: &str) -> Vec<&'j Json<'j>> {
    match object {
        Json::Array(steps) => steps
            .iter()
            .filter(|step| {
                step.get("path")
                    .str()
                    .trim_start_matches('/')
                    .starts_with(key)
            })
            .flat_map(|step| match step.get("value") {
                Json::Array(items) => items.iter().collect::<Vec<_>>(),
                value @ Json::Object(_) => vec![value],
                _ => Vec::new(),
            })
            .collect(),
        object => object.get(key).items().iter().collect(),
    }
}

pub(super) fn facts(view: &View<'_>, facts: &mut FactSet) {
    let rules = view.rules();
    let judge = |holds: bool| match rules.applies {
        Truth::True => Truth::from(holds),
        other => other,
    };
    for (right, fact, _) in RIGHTS {
        if let Some(fact) = fact {
            facts.set(fact, judge(rules.changed && rules.has(right)));
        }
    }
    let infrastructure = [ApprovesCsr, IssuesTokens, WritesWebhooks, WritesNodes];
    facts.set(
        Fact::RoleInfrastructure,
        judge(rules.changed && infrastructure.iter().any(|right| rules.has(*right))),
    );
    facts.set(Fact::RoleAggregated, judge(rules.aggregated));
    facts.set(
        Fact::RoleDangerous,
        judge(DANGEROUS.iter().any(|right| rules.has(*right))),
    );
    let rbac = matches!(
        view.resource(),
        "roles" | "clusterroles" | "rolebindings" | "clusterrolebindings"
    );
    facts.set(Fact::RoleSystem, rbac && view.name().starts_with("system:"));
}
