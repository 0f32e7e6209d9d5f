//! The roles and bindings that every cluster begins with, so that they need not be seen.
//!
//! Written down in `builtin.toml` after Kubernetes' documented default roles and what AKS adds.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::object::{Binding, Key, Kind, Operator, Role, Selector, Subject};
use super::rights::Rule;

const TEXT: &str = include_str!("builtin.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    role: Vec<RoleText>,
    binding: Vec<BindingText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleText {
    name: String,
    /// The aggregated role that takes this one up.
    #[serde(default)]
    label: Option<String>,
    /// The labels by which this role takes others up.
    #[serde(default)]
    takes: Vec<String>,
    /// `VERBS GROUPS RESOURCES`, each separated by commas; `core` is the core group, and with `url`
    /// in place of the groups URLs follow.
    #[serde(default)]
    rules: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BindingText {
    name: String,
    /// The ClusterRole; the binding's own name where it is left out.
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
}

type Defaults = (BTreeMap<Box<str>, Role>, Vec<(Key, Binding)>);

static DEFAULTS: LazyLock<Defaults> = LazyLock::new(|| {
    let file: File = toml::from_str(TEXT).expect("a test reads the file");
    let roles = file
        .role
        .iter()
        .map(|role| (role.name.as_str().into(), of_role(role)));
    let bindings = file.binding.iter().map(of_binding);
    (roles.collect(), bindings.collect())
});

/// ClusterRoles by name.
pub fn roles() -> &'static BTreeMap<Box<str>, Role> {
    &DEFAULTS.0
}

/// ClusterRoleBindings.
pub fn bindings() -> &'static [(Key, Binding)] {
    &DEFAULTS.1
}

fn aggregation(role: &str) -> Box<str> {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}").into()
}

fn of_role(role: &RoleText) -> Role {
    let takes = role.takes.iter().map(|label| {
        Selector(vec![(
            aggregation(label),
            Operator::In,
            vec!["true".into()],
        )])
    });
    let label = role
        .label
        .iter()
        .map(|label| (aggregation(label), "true".into()));
    Role {
        rules: role.rules.iter().map(|rule| of_rule(rule)).collect(),
        labels: label.collect(),
        takes: takes.collect(),
    }
}

fn of_rule(rule: &str) -> Rule {
    let list = |text: &str| text.split(',').map(Box::from).collect();
    let mut parts = rule.split(' ');
    let mut next = || parts.next().unwrap_or_default();
    let (verbs, groups, what) = (next(), next(), next());
    let names = next();
    if groups == "url" {
        return Rule {
            verbs: list(verbs),
            urls: list(what),
            ..Rule::default()
        };
    }
    let core = |group: &str| {
        if group == "core" {
            "".into()
        } else {
            group.into()
        }
    };
    Rule {
        verbs: list(verbs),
        groups: groups.split(',').map(core).collect(),
        resources: list(what),
        names: match names {
            "" => Vec::new(),
            names => list(names),
        },
        urls: Vec::new(),
    }
}

fn of_binding(binding: &BindingText) -> (Key, Binding) {
    let role = binding.role.as_deref().unwrap_or(&binding.name);
    let users = binding.users.iter().map(|user| Subject::user(user));
    let groups = binding
        .groups
        .iter()
        .map(|group| Subject::Group(group.as_str().into()));
    let mut subjects: Vec<Subject> = users.chain(groups).collect();
    subjects.sort();
    (
        Key::new(Kind::Binding, "", &binding.name),
        Binding {
            role: Key::new(Kind::Role, "", role),
            subjects,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_and_every_bound_role_is_there() {
        assert!(roles().len() > 30 && bindings().len() > 12);
        for (key, binding) in bindings() {
            assert!(roles().contains_key(&binding.role.name), "{}", key.name);
            assert!(!binding.subjects.is_empty(), "{}", key.name);
        }
        for (name, role) in roles() {
            for rule in &role.rules {
                let whole = !rule.verbs.is_empty()
                    && (!rule.urls.is_empty()
                        || !rule.resources.is_empty() && !rule.groups.is_empty());
                assert!(whole, "{name}: {rule:?}");
            }
        }
    }
}
