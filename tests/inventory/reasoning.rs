//! What a change of rights is said to give, against a brute-force evaluator: on random roles,
//! bindings and changes, for every subject and every request of a small universe.

use lanner::detect::inventory::Inventory;
use lanner::detect::inventory::effect::{Effect, Gain};
use lanner::detect::inventory::rights;
use lanner::event::Truth;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::json;

use crate::brute::{Binding, Person, Request, Role, Rule, Subject, World, person};
use crate::world::{Told, tell};

const EVERY_SUBJECT: [Subject; 10] = [
    Subject::User("u1"),
    Subject::User("u2"),
    Subject::Group("g1"),
    Subject::Group("system:masters"),
    Subject::Group("system:authenticated"),
    Subject::Group("system:serviceaccounts"),
    Subject::Group("system:serviceaccounts:a"),
    Subject::Account("a", "s1"),
    Subject::Account("b", "s1"),
    Subject::Group("system:unauthenticated"),
];

/// One value of each that no rule names, so that a wildcard has something that nothing else has.
fn universe() -> Vec<Request> {
    let mut requests = Vec::new();
    for verb in ["get", "other"] {
        for namespace in ["a", "b", "other"] {
            for group in ["", "apps", "other"] {
                for what in [
                    "pods",
                    "pods/exec",
                    "pods/scale",
                    "deployments",
                    "deployments/scale",
                    "others",
                    "others/scale",
                    "others/other",
                    "pods/other",
                ] {
                    for name in ["", "n1", "other"] {
                        requests.push(Request {
                            verb,
                            group,
                            what,
                            name,
                            namespace,
                        });
                    }
                }
            }
        }
        for what in ["/x", "/x/y", "/xother", "/x/other", "/other"] {
            requests.push(Request {
                verb,
                group: "",
                what,
                name: "",
                namespace: "",
            });
        }
    }
    requests
}

fn rule() -> impl Strategy<Value = Rule> {
    let of = |all: &'static [&'static str], most: usize| subsequence(all.to_vec(), 1..=most);
    let resources = (
        of(&["get", "list", "*"], 2),
        of(&["", "apps", "*"], 2),
        of(
            &[
                "pods",
                "pods/exec",
                "pods/*",
                "*/scale",
                "deployments",
                "deployments/scale",
                "*",
            ],
            3,
        ),
        prop_oneof![
            3 => Just(vec![]),
            1 => of(&["n1", "n2"], 2),
        ],
    );
    let resources = resources.prop_map(|(verbs, groups, resources, names)| Rule {
        verbs,
        groups,
        resources,
        names,
        urls: vec![],
    });
    let urls = (of(&["get", "*"], 2), of(&["/x", "/x/*", "/x*", "*"], 2));
    let urls = urls.prop_map(|(verbs, urls)| Rule {
        verbs,
        groups: vec![],
        resources: vec![],
        names: vec![],
        urls,
    });
    prop_oneof![5 => resources, 1 => urls]
}

fn labels() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    subsequence(vec![("x", "1"), ("y", "1")], 0..=2)
}

/// An empty one would take up Kubernetes' own roles, too.
fn selector() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    subsequence(vec![("x", "1"), ("y", "1")], 1..=2)
}

#[derive(Debug, Clone)]
enum Change {
    Role(&'static str, &'static str, Role),
    Binding(&'static str, &'static str, Binding),
    RoleGone(&'static str, &'static str),
    BindingGone(&'static str, &'static str),
}

const ROLES: [(&str, &str); 5] = [("", "c1"), ("", "c2"), ("", "c3"), ("a", "r1"), ("b", "r1")];
const BINDINGS: [(&str, &str); 5] = [
    ("", "b1"),
    ("", "b2"),
    ("a", "b1"),
    ("b", "b1"),
    ("a", "b2"),
];

fn change() -> impl Strategy<Value = Change> {
    let role = (
        select(ROLES.to_vec()),
        prop::collection::vec(rule(), 0..3),
        labels(),
        prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(selector(), 1..3)],
    );
    let role = role.prop_map(|((namespace, name), mut rules, labels, selectors)| {
        let mut role = Role::default();
        if namespace.is_empty() {
            (role.labels, role.selectors) = (labels, selectors);
        } else {
            // The API server refuses URLs in a Role.
            rules.retain(|rule| rule.urls.is_empty());
        }
        role.rules = rules;
        Change::Role(namespace, name, role)
    });
    let binding = (
        select(BINDINGS.to_vec()),
        any::<bool>(),
        select(vec!["c1", "c2", "c3", "cluster-admin-of-nobody"]),
        subsequence(EVERY_SUBJECT.to_vec(), 0..4),
    );
    let binding = binding.prop_map(|((namespace, name), of_cluster, role, subjects)| {
        let of_cluster = of_cluster || namespace.is_empty();
        let binding = Binding {
            of_cluster,
            role: if of_cluster { role } else { "r1" },
            subjects,
        };
        Change::Binding(namespace, name, binding)
    });
    prop_oneof![
        4 => role,
        4 => binding,
        1 => select(ROLES.to_vec()).prop_map(|(ns, name)| Change::RoleGone(ns, name)),
        1 => select(BINDINGS.to_vec()).prop_map(|(ns, name)| Change::BindingGone(ns, name)),
    ]
}

/// Makes the change in both worlds; gives what the inventory says of it.
fn make(
    change: &Change,
    number: usize,
    author: &Person,
    world: &mut World,
    inventory: &mut Inventory,
) -> Option<std::sync::Arc<Effect>> {
    let version = 100 + number as u64;
    let (resource, namespace, name, body, known) = match change {
        Change::Role(namespace, name, role) => {
            let known = world.roles.insert((namespace, name), role.clone());
            (
                "roles",
                *namespace,
                *name,
                Some(role.body(version)),
                known.is_some(),
            )
        }
        Change::Binding(namespace, name, binding) => {
            let known = world.bindings.insert((namespace, name), binding.clone());
            let subjects: Vec<_> = binding.subjects.iter().map(Subject::body).collect();
            let kind = if binding.of_cluster {
                "ClusterRole"
            } else {
                "Role"
            };
            let body = crate::world::binding(kind, binding.role, &subjects, version);
            (
                "rolebindings",
                *namespace,
                *name,
                Some(body),
                known.is_some(),
            )
        }
        Change::RoleGone(namespace, name) => {
            world.roles.remove(&(*namespace, *name));
            ("roles", *namespace, *name, None, true)
        }
        Change::BindingGone(namespace, name) => {
            world.bindings.remove(&(*namespace, *name));
            ("rolebindings", *namespace, *name, None, true)
        }
    };
    let of_cluster = format!("cluster{resource}");
    let groups: Vec<&str> = author.groups.iter().map(String::as_str).collect();
    let request = tell(
        inventory,
        &Told {
            verb: match (&body, known) {
                (None, _) => "delete",
                (_, true) => "update",
                (_, false) => "create",
            },
            group: "rbac.authorization.k8s.io",
            resource: if namespace.is_empty() {
                &of_cluster
            } else {
                resource
            },
            namespace,
            name,
            user: &author.user,
            groups: &groups,
            body: body.or_else(|| Some(json!({ "kind": "Status", "status": "Success" }))),
            at: 1_000_000 + number as i64,
            ..Told::default()
        },
    );
    request.and_then(|request| inventory.effect_of(request).cloned())
}

fn gain_allows(gain: &Gain, request: &Request) -> bool {
    let as_asked = if request.what.starts_with('/') {
        rights::Request::Url {
            verb: request.verb,
            path: request.what,
        }
    } else {
        let (resource, subresource) = request.what.split_once('/').unwrap_or((request.what, ""));
        rights::Request::Resource {
            verb: request.verb,
            group: request.group,
            resource,
            subresource,
            name: request.name,
        }
    };
    gain.allows(request.namespace, &as_asked)
}

/// The subjects by which a person is bound.
fn is_of(subject: &str, person: &Person) -> bool {
    match subject.split_once(':') {
        Some(("Group", name)) => person.groups.iter().any(|group| group == name),
        Some(("User", name)) => person.user == name,
        Some(("ServiceAccount", account)) => {
            person.user == format!("system:serviceaccount:{}", account.replace('/', ":"))
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_a_change_gives_is_what_the_authorizer_would_say(
        changes in prop::collection::vec((change(), select(EVERY_SUBJECT.to_vec())), 1..8),
    ) {
        let requests = universe();
        let people: Vec<Person> = EVERY_SUBJECT.iter().map(person).collect();
        // By person and request.
        let judge = |world: &World| -> Vec<Vec<bool>> {
            let of = |person| requests.iter().map(|request| world.allows(person, request)).collect();
            people.iter().map(of).collect()
        };
        let mut after = judge(&World::default());
        let mut world = World::default();
        let mut inventory = Inventory::new(false);
        for (number, (change, author)) in changes.iter().enumerate() {
            let own = EVERY_SUBJECT.iter().position(|s| s == author).expect("one of ours");
            let effect = make(change, number, &people[own], &mut world, &mut inventory);
            let before = std::mem::replace(&mut after, judge(&world));
            let gained = |person: usize, at: usize| after[person][at] && !before[person][at];
            let Some(effect) = effect else {
                // Only what is deleted has none, and takes.
                prop_assert!(matches!(change, Change::RoleGone(..) | Change::BindingGone(..)));
                continue;
            };
            for (person, of) in people.iter().enumerate() {
                let gains: Vec<&Gain> = effect
                    .gains
                    .iter()
                    .filter(|(subject, _)| is_of(&subject.text(), of))
                    .flat_map(|(_, gains)| gains)
                    .collect();
                for (at, request) in requests.iter().enumerate() {
                    let said = !before[person][at]
                        && gains.iter().any(|gain| gain_allows(gain, request));
                    prop_assert_eq!(said, gained(person, at), "{:?} {:?}", of, request);
                }
            }
            // What only a request outside of the universe could use.
            let odd = |gain: &Gain| {
                gain.rule.resources.iter().any(|resource| **resource == *"pods/*")
                    || gain.rule.names.iter().any(|name| **name == *"n2")
                    || gain.rule.verbs.iter().all(|verb| **verb == *"list")
            };
            for (of, gains) in &effect.gains {
                let subject = EVERY_SUBJECT.iter().position(|s| s.text() == of.text());
                let person = subject.expect("one of ours");
                prop_assert!(!gains.is_empty());
                for gain in gains {
                    let used = (0..requests.len())
                        .any(|at| gain_allows(gain, &requests[at]) && gained(person, at));
                    prop_assert!(used || odd(gain), "{:?} gains nothing by {:?}", of, gain);
                }
            }
            let any = (0..people.len()).any(|p| (0..requests.len()).any(|at| gained(p, at)));
            prop_assert!(!any || effect.rights_added == Truth::True);
            // The author gains by itself exactly what it is said to; by accounts it may gain more.
            let itself = (0..requests.len()).any(|at| gained(own, at));
            prop_assert!(!itself || effect.self_grant == Truth::True);
            let more = effect.gains.iter().any(|(of, gains)| {
                of.text().starts_with("ServiceAccount:")
                    || of.text().starts_with("Group:system:serviceaccounts:")
                    || gains.iter().any(odd)
            });
            prop_assert!(
                itself || more || effect.self_grant != Truth::True,
                "{:?} gains nothing", author
            );
        }
    }
}
