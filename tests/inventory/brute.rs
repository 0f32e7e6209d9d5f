//! Kubernetes' RBAC as its documentation tells it, without any cleverness: of each request, each
//! binding is asked in turn.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>

use std::collections::BTreeMap;

use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub verbs: Vec<&'static str>,
    pub groups: Vec<&'static str>,
    pub resources: Vec<&'static str>,
    pub names: Vec<&'static str>,
    pub urls: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Role {
    pub rules: Vec<Rule>,
    pub labels: Vec<(&'static str, &'static str)>,
    /// Each a set of labels, of which a role needs all; of an aggregated ClusterRole.
    pub selectors: Vec<Vec<(&'static str, &'static str)>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    User(&'static str),
    Group(&'static str),
    Account(&'static str, &'static str),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Refers to a ClusterRole.
    pub of_cluster: bool,
    pub role: &'static str,
    pub subjects: Vec<Subject>,
}

/// By namespace (empty for the cluster's) and name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct World {
    pub roles: BTreeMap<(&'static str, &'static str), Role>,
    pub bindings: BTreeMap<(&'static str, &'static str), Binding>,
}

/// A request's resource is `pods` or `pods/exec`; a path instead of a resource begins with a slash.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    pub verb: &'static str,
    pub group: &'static str,
    pub what: &'static str,
    pub name: &'static str,
    pub namespace: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    pub user: String,
    pub groups: Vec<String>,
}

fn rule_allows(rule: &Rule, request: &Request) -> bool {
    let verb = rule.verbs.iter().any(|v| *v == "*" || *v == request.verb);
    if !verb {
        return false;
    }
    if request.what.starts_with('/') {
        return rule.urls.iter().any(|url| {
            // A star is allowed as the last character only, and stands for any rest.
            match url.strip_suffix('*') {
                Some(prefix) => request.what.starts_with(prefix),
                None => *url == request.what,
            }
        });
    }
    let group = rule.groups.iter().any(|g| *g == "*" || *g == request.group);
    let mut resource = false;
    for given in &rule.resources {
        if *given == "*" || *given == request.what {
            resource = true;
        }
        // "*/scale" is the subresource scale of every resource; "pods/*" is nothing.
        if let (Some(sub), Some(at)) = (given.strip_prefix("*/"), request.what.find('/'))
            && sub == &request.what[at + 1..]
        {
            resource = true;
        }
    }
    // Names restrict; requests for collections have none, and match no restricted rule.
    let name = rule.names.is_empty() || rule.names.contains(&request.name);
    group && resource && name
}

impl World {
    /// An aggregated ClusterRole has the rules of all that one of its selectors selects, besides what
    /// stands in it.
    fn rules(&self, namespace: &str, name: &str) -> Vec<&Rule> {
        let found = self
            .roles
            .iter()
            .find(|((ns, n), _)| *ns == namespace && *n == name);
        let Some((key, role)) = found else {
            return Vec::new();
        };
        let mut rules: Vec<&Rule> = role.rules.iter().collect();
        for (other_key, other) in &self.roles {
            if other_key != key && other_key.0.is_empty() && namespace.is_empty() {
                for selector in &role.selectors {
                    if selector.iter().all(|label| other.labels.contains(label)) {
                        rules.extend(&other.rules);
                    }
                }
            }
        }
        rules
    }

    pub fn allows(&self, person: &Person, request: &Request) -> bool {
        if person.groups.iter().any(|group| group == "system:masters") {
            return true;
        }
        for ((namespace, _), binding) in &self.bindings {
            // A RoleBinding grants in its namespace, and no URL.
            if !namespace.is_empty()
                && (*namespace != request.namespace || request.what.starts_with('/'))
            {
                continue;
            }
            let bound = binding.subjects.iter().any(|subject| match subject {
                Subject::User(name) => person.user == *name,
                Subject::Group(name) => person.groups.iter().any(|group| group == name),
                Subject::Account(of, name) => {
                    person.user == format!("system:serviceaccount:{of}:{name}")
                }
            });
            let of = if binding.of_cluster { "" } else { namespace };
            if bound
                && self
                    .rules(of, binding.role)
                    .iter()
                    .any(|rule| rule_allows(rule, request))
            {
                return true;
            }
        }
        false
    }
}

/// Whom a subject stands for at least.
pub fn person(subject: &Subject) -> Person {
    let everyone = "system:authenticated".to_owned();
    let (user, groups) = match subject {
        Subject::User(name) => ((*name).to_owned(), vec![everyone]),
        Subject::Group(name) if name.starts_with("system:serviceaccounts:") => (
            String::new(),
            vec![
                (*name).to_owned(),
                "system:serviceaccounts".into(),
                everyone,
            ],
        ),
        Subject::Group("system:authenticated") => (String::new(), vec![everyone]),
        Subject::Group("system:unauthenticated") => {
            (String::new(), vec!["system:unauthenticated".into()])
        }
        Subject::Group(name) => (String::new(), vec![(*name).to_owned(), everyone]),
        Subject::Account(namespace, name) => (
            format!("system:serviceaccount:{namespace}:{name}"),
            vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                everyone,
            ],
        ),
    };
    Person { user, groups }
}

impl Role {
    pub fn body(&self, version: u64) -> Value {
        let rules: Vec<Value> = self
            .rules
            .iter()
            .map(|rule| {
                json!({ "verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources,
                        "resourceNames": rule.names, "nonResourceURLs": rule.urls })
            })
            .collect();
        let labels: BTreeMap<_, _> = self.labels.iter().copied().collect();
        let mut body = json!({
            "kind": "Role",
            "metadata": { "labels": labels, "resourceVersion": version.to_string() },
            "rules": rules,
        });
        if !self.selectors.is_empty() {
            let selectors: Vec<Value> = self
                .selectors
                .iter()
                .map(|selector| {
                    let labels: BTreeMap<_, _> = selector.iter().copied().collect();
                    json!({ "matchLabels": labels })
                })
                .collect();
            body["aggregationRule"] = json!({ "clusterRoleSelectors": selectors });
        }
        body
    }
}

impl Subject {
    pub fn body(&self) -> Value {
        match self {
            Subject::User(name) => json!({ "kind": "User", "name": name }),
            Subject::Group(name) => json!({ "kind": "Group", "name": name }),
            Subject::Account(namespace, name) => {
                json!({ "kind": "ServiceAccount", "namespace": namespace, "name": name })
            }
        }
    }

    /// As the inventory names it.
    pub fn text(&self) -> String {
        match self {
            Subject::User(name) => format!("User:{name}"),
            Subject::Group(name) => format!("Group:{name}"),
            Subject::Account(namespace, name) => format!("ServiceAccount:{namespace}/{name}"),
        }
    }
}
