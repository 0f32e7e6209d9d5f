//! What is remembered: in any order of arrival, within bounds, over a restart, and as imported.

use jiff::Timestamp;
use lanner::detect::inventory::import::Import;
use lanner::detect::inventory::{EVERY_CLUSTER, Inventory, Lesson};
use lanner::event::{Site, Truth};
use proptest::prelude::*;
use serde_json::json;

use crate::world::{CLUSTER, Told, binding, lessons, tell, user};

const RBAC: &str = "rbac.authorization.k8s.io";

/// A life of a few objects: made, changed, deleted, made again.
fn life() -> Vec<Lesson> {
    let mut all = Vec::new();
    let mut add = |told: Told<'_>| all.extend(lessons(&told));
    let pod = |privileged: bool| {
        json!({ "kind": "Pod", "metadata": {}, "spec": { "containers": [
            { "name": "c", "securityContext": { "privileged": privileged } }] } })
    };
    let at = |seconds: i64| 1_000_000 + seconds;
    add(Told {
        resource: "namespaces",
        namespace: "",
        name: "a",
        body: Some(json!({ "kind": "Namespace", "metadata": { "labels": { "env": "prod" } } })),
        at: at(0),
        ..Told::default()
    });
    add(Told {
        body: Some(pod(true)),
        at: at(1),
        ..Told::default()
    });
    add(Told {
        verb: "delete",
        at: at(20),
        ..Told::default()
    });
    add(Told {
        body: Some(pod(false)),
        at: at(30),
        ..Told::default()
    });
    let policy = Told {
        group: "networking.k8s.io",
        resource: "networkpolicies",
        name: "deny",
        ..Told::default()
    };
    add(Told {
        at: at(3),
        ..policy.clone()
    });
    add(Told {
        verb: "delete",
        at: at(40),
        ..policy
    });
    for (seconds, version, subjects) in [
        (5, 10, &["u1"][..]),
        (50, 20, &["u1", "u2"]),
        (70, 30, &["u2"]),
    ] {
        let subjects: Vec<_> = subjects.iter().map(|name| user(name)).collect();
        add(Told {
            verb: if version == 10 { "create" } else { "update" },
            group: RBAC,
            resource: "rolebindings",
            name: "b",
            body: Some(binding("ClusterRole", "edit", &subjects, version)),
            at: at(seconds),
            ..Told::default()
        });
    }
    add(Told {
        group: RBAC,
        resource: "rolebindings",
        name: "gone",
        body: Some(binding("ClusterRole", "edit", &[user("u3")], 5)),
        at: at(2),
        ..Told::default()
    });
    add(Told {
        verb: "delete",
        group: RBAC,
        resource: "rolebindings",
        name: "gone",
        at: at(60),
        ..Told::default()
    });
    all
}

fn shown(inventory: &Inventory) -> String {
    let rows: Vec<String> = inventory
        .rows(|_| true, None)
        .iter()
        .map(|row| format!("{} {}/{}: {}", row.kind, row.namespace, row.name, row.what))
        .collect();
    rows.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_order_of_arrival_does_not_matter(lessons in Just(life()).prop_shuffle()) {
        let mut inventory = Inventory::new(false);
        lessons.into_iter().for_each(|lesson| inventory.learn(lesson));
        prop_assert_eq!(
            shown(&inventory),
            "namespace /a: env=prod, no network policy\npod a/web-0: \nrolebinding a/b: edit to User:u2"
        );
    }

    /// In whatever order lessons come, some of them twice as from two categories.
    #[test]
    fn a_restart_forgets_nothing(
        all in Just([life(), life()].concat()).prop_shuffle(),
        split in 0usize..24,
    ) {
        let (first, second) = all.split_at(split.min(all.len()));
        let mut before = Inventory::new(true);
        first.iter().cloned().for_each(|lesson| before.learn(lesson));
        let (snapshot, _) = (before.snapshot(), before.take_delta());
        second.iter().cloned().for_each(|lesson| before.learn(lesson));
        let delta = before.take_delta();
        let mut after = Inventory::new(true);
        after.restore(&snapshot);
        after.apply(&delta);
        prop_assert_eq!(shown(&before), shown(&after));
        let contents = |inventory: &Inventory| format!("{:#?}", inventory.contents());
        prop_assert_eq!(contents(&before), contents(&after));
        prop_assert_eq!(before.snapshot(), after.snapshot());
    }
}

#[test]
fn one_hostile_identity_pushes_out_its_own() {
    let mut inventory = Inventory::with_limit(false, 40_000);
    let bind = |inventory: &mut Inventory, who: &str, number: i64| {
        let name = format!("b{number}");
        tell(
            inventory,
            &Told {
                group: RBAC,
                resource: "rolebindings",
                name: &name,
                user: who,
                body: Some(binding("ClusterRole", "edit", &[user("u1")], number as u64)),
                at: 1_000_000 + number,
                ..Told::default()
            },
        );
    };
    for number in 1..=20 {
        bind(&mut inventory, "root@example.com", number);
    }
    for number in 1_000..2_000 {
        bind(&mut inventory, "mallory@example.com", number);
    }
    let rows = inventory.rows(|_| true, None);
    assert!(rows.len() < 100, "{} objects", rows.len());
    assert!(inventory.evicted() > 900);
    for number in 1..=20 {
        let name = format!("b{number}");
        assert!(
            rows.iter().any(|row| row.name == name),
            "{name} belongs to another"
        );
    }
}

#[test]
fn a_write_that_changes_nothing_is_known_by_its_version() {
    let apply = |version: u64, at: i64, names: &[&str]| {
        let subjects: Vec<_> = names.iter().map(|name| user(name)).collect();
        binding("ClusterRole", "cluster-admin", &subjects, version)
            .to_string()
            .parse()
            .map(|body| Told {
                verb: "patch",
                group: RBAC,
                resource: "clusterrolebindings",
                namespace: "",
                name: "admins",
                body: Some(body),
                at,
                ..Told::default()
            })
    };
    let asked = |inventory: &mut Inventory, version, at, names: &[&str]| {
        let told = apply(version, at, names).expect("JSON");
        let request = tell(inventory, &told).expect("a request");
        let effect = inventory.effect_of(request).expect("an effect");
        (effect.unchanged, effect.subject_added)
    };
    let mut inventory = Inventory::new(false);
    // Nothing was seen: it may have changed.
    assert_eq!(
        asked(&mut inventory, 50, 2_000_000, &["u1"]),
        (false, Truth::Unknown)
    );
    // The version that is remembered.
    assert_eq!(
        asked(&mut inventory, 50, 2_000_600, &["u1"]),
        (true, Truth::False)
    );
    assert_eq!(
        asked(&mut inventory, 90, 2_001_000, &["u1", "u2"]),
        (false, Truth::True)
    );
    assert_eq!(
        asked(&mut inventory, 95, 2_002_000, &["u2"]),
        (false, Truth::False)
    );

    // Of a binding that was never seen: older than what the cluster had written before.
    let mut inventory = Inventory::new(false);
    let pod = |version: u64, at| Told {
        body: Some(
            json!({ "kind": "Pod", "metadata": { "resourceVersion": version.to_string() }, "spec": {} }),
        ),
        at,
        ..Told::default()
    };
    tell(&mut inventory, &pod(5_000, 3_000_000));
    assert_eq!(
        asked(&mut inventory, 50, 3_000_300, &["u1"]),
        (true, Truth::False)
    );
    // After the cluster was restored to an older state, versions begin lower.
    let mut inventory = Inventory::new(false);
    tell(&mut inventory, &pod(5_000, 4_000_000));
    tell(&mut inventory, &pod(100, 4_001_000));
    assert_eq!(
        asked(&mut inventory, 150, 4_001_300, &["u1"]),
        (false, Truth::Unknown)
    );
}

const KUBECTL: &str = r#"{"apiVersion":"v1","kind":"List","items":[
  {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"admins","resourceVersion":"50"},
   "roleRef":{"kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"User","name":"u1"}]},
  {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a","resourceVersion":"7"}},
  {"apiVersion":"v1","kind":"Pod","metadata":{"name":"agent","namespace":"a","resourceVersion":"8"},"spec":{"hostPID":true,"containers":[{"name":"c"}]}},
  {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"a"}}]}"#;

fn import(inventory: &mut Inventory, cluster: &str, complete: bool, base: bool) {
    let import = Import {
        cluster,
        at: Timestamp::from_second(900_000).expect("a time"),
        complete,
        base,
    };
    let single =
        r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"s","namespace":"a"}}"#;
    let text = format!("{KUBECTL}\n{single}");
    let imported = inventory
        .import(&text, &Site::default(), &import)
        .expect("JSON");
    assert_eq!((imported.taken, imported.passed), ([0, 1, 1, 1, 1, 0], 1));
}

#[test]
fn what_kubectl_says_is_known() {
    let mut inventory = Inventory::new(true);
    import(&mut inventory, CLUSTER, true, false);
    assert_eq!(
        shown(&inventory),
        "clusterrolebinding /admins: cluster-admin to User:u1\n\
         namespace /a: no network policy\n\
         pod a/agent: sees the node's processes\n\
         serviceaccount a/s: "
    );
    let mut after = Inventory::new(true);
    after.apply(&inventory.take_delta());
    assert_eq!(shown(&after), shown(&inventory));
    let reach = &after.reaches(|_| true)[0];
    assert_eq!(
        reach.text(),
        format!("{CLUSTER}: nothing was seen yet, and as imported at 1970-01-11T10:00:00Z")
    );
    assert!(
        inventory
            .import(
                "{",
                &Site::default(),
                &Import {
                    cluster: CLUSTER,
                    at: Timestamp::UNIX_EPOCH,
                    complete: false,
                    base: false,
                }
            )
            .is_err()
    );
}

/// An inventory that was taken after the archive's events says nothing of what was before them.
#[test]
fn replay_does_not_take_later_knowledge_for_earlier() {
    let asked = |version: u64| {
        let mut inventory = Inventory::new(false);
        import(&mut inventory, EVERY_CLUSTER, false, true);
        let told = Told {
            verb: "patch",
            group: RBAC,
            resource: "clusterrolebindings",
            namespace: "",
            name: "admins",
            body: Some(binding(
                "ClusterRole",
                "cluster-admin",
                &[user("u1"), user("u2")],
                version,
            )),
            at: 1_000,
            ..Told::default()
        };
        let request = tell(&mut inventory, &told).expect("a request");
        inventory
            .effect_of(request)
            .expect("an effect")
            .subject_added
    };
    assert_eq!(asked(60), Truth::True);
    assert_eq!(asked(40), Truth::Unknown);
}
