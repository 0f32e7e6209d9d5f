//! More rights: roles that say too much, grants to oneself, bindings to cluster-admin.

use serde_json::{Value, json};

use super::super::body;
use super::super::event::{Client, Target};
use super::super::site::ADMIN_GROUP;
use super::super::truth::Family;
use super::{Play, Stage};

pub(super) const ESCALATION: &[Play] = &[
    Play::of(
        Family::RbacEscalation,
        "cluster role with everything",
        &["RBAC-3"],
        &["T1098.006"],
        wildcard,
    ),
    Play::of(
        Family::RbacEscalation,
        "role that may escalate and bind",
        &["RBAC-2"],
        &["T1098.006"],
        escalate,
    ),
    Play::of(
        Family::RbacEscalation,
        "grant of a namespace's admin role to oneself",
        &["RBAC-1", "RBAC-16"],
        &["T1098.006"],
        self_grant,
    ),
    Play::of(
        Family::RbacEscalation,
        "rules aggregated into view",
        &["RBAC-18"],
        &["T1098.006"],
        aggregation,
    ),
    Play::of(
        Family::RbacEscalation,
        "built-in role changed",
        &["RBAC-9"],
        &["T1098.006"],
        system_role,
    ),
    Play::of(
        Family::RbacEscalation,
        "escalation refused by RBAC",
        &["RBAC-15"],
        &["T1098.006"],
        refused,
    ),
];

pub(super) const BINDINGS: &[Play] = &[
    binding(
        "cluster-admin for a service account",
        &["RBAC-1", "CRB-1"],
        grant_account,
    ),
    binding(
        "cluster-admin for a stranger",
        &["RBAC-1", "CRB-1"],
        grant_user,
    ),
    binding(
        "subject added to the administrators' binding",
        &["RBAC-11", "RBAC-1"],
        added,
    ),
    binding(
        "everyone bound to cluster-admin",
        &["RBAC-12", "CRB-1", "RBAC-1"],
        everyone,
    ),
];

const fn binding(
    name: &'static str,
    rows: &'static [&'static str],
    run: fn(&mut Stage<'_>),
) -> Play {
    Play::of(Family::ClusterRoleBinding, name, rows, &["T1098.006"], run)
}

const CREATE: &str = "fieldManager=kubectl-create&fieldValidation=Strict";

fn create(
    s: &mut Stage<'_>,
    client: &Client,
    target: Target,
    name: &str,
    object: &Value,
) -> super::Event {
    let mut event = client
        .request(s.rng, s.now(), "create", target)
        .query(CREATE)
        .writes(object.to_string());
    event.target.name = name.to_owned();
    event
}

/// Names as an attacker chooses them: like those of Kubernetes.
fn disguise(s: &mut Stage<'_>) -> String {
    let part = *s
        .rng
        .pick(&["node-metrics", "events-sync", "audit-reader", "csi-helper"]);
    format!("{part}-{}", s.rng.suffix(4))
}

fn wildcard(s: &mut Stage<'_>) {
    let client = s.insider();
    let name = disguise(s);
    let rules = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let revision = s.world.revise();
    let object = body::role("", &name, json!({}), rules, revision);
    let event = create(s, &client, Target::rbac("clusterroles"), &name, &object);
    s.strike("creates a cluster role with every right", event);
}

fn escalate(s: &mut Stage<'_>) {
    let client = s.insider();
    let name = disguise(s);
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["escalate", "bind", "get"]},
    ]);
    let revision = s.world.revise();
    let object = body::role("", &name, json!({}), rules, revision);
    let event = create(s, &client, Target::rbac("clusterroles"), &name, &object);
    s.strike("creates a cluster role that may grant anything", event);
}

fn self_grant(s: &mut Stage<'_>) {
    let client = s.insider();
    let (ns, _, _) = s.victim();
    let name = disguise(s);
    let me = client.identity.name.clone();
    let revision = s.world.revise();
    let object = body::binding(
        &ns,
        &name,
        ("ClusterRole", "admin"),
        &[body::user_subject(&me)],
        revision,
    );
    let event = create(
        s,
        &client,
        Target::rbac("rolebindings").ns(&ns),
        &name,
        &object,
    );
    s.strike("binds themselves to the namespace's admin role", event);
    let list = client.request(s.rng, s.now(), "list", Target::core("secrets").ns(&ns));
    s.prepare("reads the namespace's secrets", list);
}

fn aggregation(s: &mut Stage<'_>) {
    let client = s.insider();
    let name = disguise(s);
    let labels = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    let rules = json!([{"apiGroups": [""], "resources": ["secrets", "pods/exec"], "verbs": ["get", "list", "create"]}]);
    let revision = s.world.revise();
    let object = body::role("", &name, labels, rules, revision);
    let event = create(s, &client, Target::rbac("clusterroles"), &name, &object);
    s.strike("adds secrets and exec to what everyone may view", event);
}

fn system_role(s: &mut Stage<'_>) {
    let client = s.insider();
    let role = *s.rng.pick(&[
        "system:basic-user",
        "system:discovery",
        "system:node-problem-detector",
    ]);
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]);
    let revision = s.world.revise();
    let object = body::role(
        "",
        role,
        json!({"kubernetes.io/bootstrapping": "rbac-defaults"}),
        rules.clone(),
        revision,
    );
    let event = client
        .request(
            s.rng,
            s.now(),
            "patch",
            Target::rbac("clusterroles").name(role),
        )
        .query("fieldManager=kubectl-patch")
        .sends(json!({"rules": rules}).to_string())
        .gets(object.to_string());
    s.strike("changes a role of Kubernetes' own", event);
}

fn refused(s: &mut Stage<'_>) {
    let client = s.insider();
    let (ns, _, _) = s.victim();
    for _ in 0..2 {
        let name = disguise(s);
        let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]);
        let object = body::role(&ns, &name, json!({}), rules, 0);
        let message = format!(
            "roles.rbac.authorization.k8s.io \"{name}\" is forbidden: user \"{}\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"*\"]}}",
            client.identity.name
        );
        let event = create(s, &client, Target::rbac("roles").ns(&ns), &name, &object).fails(
            403,
            "Forbidden",
            message,
        );
        s.strike("tries to grant what they do not have", event);
    }
}

fn grant_account(s: &mut Stage<'_>) {
    let client = s.insider();
    let (ns, _, _) = s.victim();
    let name = disguise(s);
    let mut account = client
        .request(s.rng, s.now(), "create", Target::core("serviceaccounts").ns(&ns))
        .query(CREATE)
        .writes(json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": name, "namespace": ns}}).to_string());
    account.target.name.clone_from(&name);
    s.prepare("creates a service account", account);
    grant(s, &client, &name, &[body::account_subject(&ns, &name)]);
}

fn grant_user(s: &mut Stage<'_>) {
    let client = s.insider();
    let name = disguise(s);
    grant(
        s,
        &client,
        &name,
        &[body::user_subject("helpdesk-7@example.com")],
    );
}

fn grant(s: &mut Stage<'_>, client: &Client, name: &str, subjects: &[Value]) {
    let revision = s.world.revise();
    let object = body::binding(
        "",
        name,
        ("ClusterRole", "cluster-admin"),
        subjects,
        revision,
    );
    let event = create(
        s,
        client,
        Target::rbac("clusterrolebindings"),
        name,
        &object,
    );
    s.strike("binds it to cluster-admin", event);
}

/// The binding has stood for long, and pipelines apply it at every run.
fn added(s: &mut Stage<'_>) {
    let client = s.insider();
    let intruder = format!("support-{}@example.com", s.rng.suffix(3));
    let subjects = [
        body::group_subject(ADMIN_GROUP),
        body::user_subject(&intruder),
    ];
    let target = Target::rbac("clusterrolebindings").name("platform-admins");
    let look = client.request(s.rng, s.now(), "get", target.clone());
    s.prepare("looks at the administrators' binding", look);
    let revision = s.world.revise();
    let object = body::binding(
        "",
        "platform-admins",
        ("ClusterRole", "cluster-admin"),
        &subjects,
        revision,
    );
    let event = client
        .request(s.rng, s.now(), "patch", target)
        .query("fieldManager=kubectl-patch")
        .sends(json!({"subjects": subjects}).to_string())
        .gets(object.to_string());
    s.strike("adds a subject to the administrators' binding", event);
}

fn everyone(s: &mut Stage<'_>) {
    let client = s.insider();
    let name = disguise(s);
    let group = *s
        .rng
        .pick(&["system:unauthenticated", "system:authenticated"]);
    grant(s, &client, &name, &[body::group_subject(group)]);
}
