//! Privilege escalation by roles and bindings.

use serde_json::{Value, json};

use super::super::super::body;
use super::super::super::event::Target;
use super::super::super::site::ADMIN_GROUP;
use super::super::Stage;
use super::{ANYONE, Account, Ground, Technique, dull, make};

pub(in super::super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "Create an admin ClusterRole (T1098.006)",
        run: admin_role,
        by: ANYONE,
    },
    Technique {
        name: "Cluster-admin binding (T1098.006)",
        run: admin_binding,
        by: ANYONE,
    },
    Technique {
        name: "Admin of a namespace (T1098.006)",
        run: namespace_admin,
        by: ANYONE,
    },
    Technique {
        name: "Join the administrators' binding (T1098.006)",
        run: join,
        by: ANYONE,
    },
    Technique {
        name: "Role that may escalate (T1098.006)",
        run: escalating,
        by: ANYONE,
    },
    Technique {
        name: "Role with nodes/proxy or exec (T1098.006)",
        run: node_role,
        by: ANYONE,
    },
    Technique {
        name: "Weaken what everyone may do (T1098.006)",
        run: everyone,
        by: ANYONE,
    },
];

fn subject(s: &mut Stage<'_>, g: &mut Ground) -> Value {
    if s.rng.chance(0.4) && g.client.identity.name.contains('@') {
        body::user_subject(&g.client.identity.name)
    } else if s.rng.chance(0.5) {
        let (ns, app, _) = s.victim();
        g.account = Some(Account {
            namespace: ns.clone(),
            name: app.clone(),
            secret: None,
        });
        body::account_subject(&ns, &app)
    } else {
        body::user_subject(&format!("helpdesk-{}@example.com", s.rng.suffix(3)))
    }
}

fn admin_role(s: &mut Stage<'_>, g: &mut Ground) {
    let name = dull(s);
    let rules = match s.rng.below(3) {
        0 => json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]),
        1 => {
            json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}])
        }
        _ => {
            json!([{"apiGroups": ["", "apps", "rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["*"]}])
        }
    };
    let revision = s.world.revise();
    let role = body::role("", &name, json!({}), rules, revision).to_string();
    let event = make(s, g, Target::rbac("clusterroles"), &name, role);
    s.strike("creates a role with every right", event);
    let to = subject(s, g);
    let revision = s.world.revise();
    let binding = body::binding("", &name, ("ClusterRole", &name), &[to], revision).to_string();
    let event = make(s, g, Target::rbac("clusterrolebindings"), &name, binding);
    s.strike("binds it", event);
}

fn admin_binding(s: &mut Stage<'_>, g: &mut Ground) {
    let name = dull(s);
    let to = subject(s, g);
    let revision = s.world.revise();
    let binding =
        body::binding("", &name, ("ClusterRole", "cluster-admin"), &[to], revision).to_string();
    let event = make(s, g, Target::rbac("clusterrolebindings"), &name, binding);
    s.strike("binds cluster-admin", event);
}

fn namespace_admin(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, _) = s.victim();
    let ns = if s.rng.chance(0.3) {
        "kube-system".to_owned()
    } else {
        ns
    };
    let name = dull(s);
    let role = *s.rng.pick(&["admin", "cluster-admin", "edit"]);
    let to = subject(s, g);
    let revision = s.world.revise();
    let binding = body::binding(&ns, &name, ("ClusterRole", role), &[to], revision).to_string();
    let event = make(s, g, Target::rbac("rolebindings").ns(&ns), &name, binding);
    s.strike("binds a namespace's administration", event);
}

fn join(s: &mut Stage<'_>, g: &mut Ground) {
    let subjects = [body::group_subject(ADMIN_GROUP), subject(s, g)];
    let revision = s.world.revise();
    let object = body::binding(
        "",
        "platform-admins",
        ("ClusterRole", "cluster-admin"),
        &subjects,
        revision,
    );
    let target = Target::rbac("clusterrolebindings").name("platform-admins");
    let event = match s.rng.below(2) {
        0 => g
            .client
            .request(s.rng, s.now(), "patch", target)
            .query("fieldManager=kubectl-patch")
            .sends(json!([{"op": "add", "path": "/subjects/-", "value": subjects[1]}]).to_string())
            .gets(object.to_string()),
        _ => {
            // An editor sends the version that it read.
            let mut sent = object.clone();
            sent["metadata"]["resourceVersion"] = "812344".into();
            g.client
                .request(s.rng, s.now(), "update", target)
                .query("fieldManager=kubectl-edit&fieldValidation=Strict")
                .sends(sent.to_string())
                .gets(object.to_string())
        }
    };
    s.strike("adds a subject to the administrators' binding", event);
}

fn escalating(s: &mut Stage<'_>, g: &mut Ground) {
    let name = dull(s);
    let rules = match s.rng.below(3) {
        0 => {
            json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles", "roles"], "verbs": ["escalate", "bind"]}])
        }
        1 => {
            json!([{"apiGroups": [""], "resources": ["users", "groups", "serviceaccounts"], "verbs": ["impersonate"]}])
        }
        _ => {
            json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["create", "update", "bind"]}])
        }
    };
    let (ns, _, _) = s.victim();
    let ns = if s.rng.chance(0.5) { ns } else { String::new() };
    let revision = s.world.revise();
    let role = body::role(&ns, &name, json!({}), rules, revision).to_string();
    let target = if ns.is_empty() {
        Target::rbac("clusterroles")
    } else {
        Target::rbac("roles").ns(&ns)
    };
    let event = make(s, g, target, &name, role);
    s.strike("creates a role that leads to every right", event);
}

fn node_role(s: &mut Stage<'_>, g: &mut Ground) {
    let name = dull(s);
    let rules = match s.rng.below(2) {
        0 => json!([{"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get", "create"]}]),
        _ => {
            json!([{"apiGroups": [""], "resources": ["pods", "pods/exec"], "verbs": ["get", "list", "create"]}])
        }
    };
    let revision = s.world.revise();
    let role = body::role("", &name, json!({}), rules, revision).to_string();
    let event = make(s, g, Target::rbac("clusterroles"), &name, role);
    s.strike("creates a role that reaches into nodes or pods", event);
}

fn everyone(s: &mut Stage<'_>, g: &mut Ground) {
    let name = dull(s);
    let group = *s.rng.pick(&[
        "system:unauthenticated",
        "system:authenticated",
        "system:serviceaccounts",
    ]);
    let role = *s.rng.pick(&["view", "cluster-admin", "system:node"]);
    let revision = s.world.revise();
    let binding = body::binding(
        "",
        &name,
        ("ClusterRole", role),
        &[body::group_subject(group)],
        revision,
    )
    .to_string();
    let event = make(s, g, Target::rbac("clusterrolebindings"), &name, binding);
    s.strike("gives rights to everyone", event);
}
