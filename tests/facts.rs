//! Facts and fields of hand-written events, through decode: what is true, what is false and, above
//! all, what is not known.

use std::sync::Arc;

use bytes::Bytes;
use lanner::decode::{Payload, decode};
use lanner::event::{Fact, Field, FieldValue, Lists, Site, Truth, View};
use lanner::source::{Chunk, Framing};
use serde_json::{Value, json};

/// Looks at one event as a detector would.
fn look(event: &Value, site: &Site, see: &mut dyn FnMut(&View<'_>)) {
    let chunk = Chunk {
        bytes: Bytes::from(event.to_string()),
        position: 0,
        framing: Framing::Lines,
        enqueued: None,
    };
    let mut seen = 0;
    decode(&chunk, &mut |record| {
        if let Payload::Audit(event) = &record.payload {
            seen += 1;
            see(&View::new(event, &record.origin, site));
        }
    });
    assert_eq!(seen, 1, "{event} is no audit event");
}

fn truth(event: &Value, site: &Site, name: &str) -> Truth {
    let fact = Fact::parse(name).unwrap_or_else(|| panic!("{name} is no fact"));
    let mut found = None;
    look(event, site, &mut |view| found = Some(view.fact(fact)));
    found.expect("looked at once")
}

fn field(event: &Value, name: &str) -> FieldValue<'static> {
    let field = Field::parse(name).unwrap_or_else(|| panic!("{name} is no field"));
    let mut found = None;
    look(event, &Site::default(), &mut |view| {
        found = Some(view.field(field).into_owned());
    });
    found.expect("looked at once")
}

/// Asserts the truth of facts: `!name` is false, `?name` is unknown.
fn expect(event: &Value, site: &Site, facts: &[&str]) {
    for fact in facts {
        let (name, wanted) = match fact.split_at(1) {
            ("!", name) => (name, Truth::False),
            ("?", name) => (name, Truth::Unknown),
            _ => (*fact, Truth::True),
        };
        assert_eq!(truth(event, site, name), wanted, "{name} of {event}");
    }
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// A person's request for a pod, with `over` in it.
fn event(over: Value) -> Value {
    let mut base = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse",
        "auditID": "7f2b6d10-0000-4000-8000-000000000001", "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/shop/pods/web-0", "verb": "get",
        "user": {"username": "ada@example.com", "groups": ["system:authenticated"]},
        "sourceIPs": ["203.0.113.7", "172.31.4.5"],
        "userAgent": "kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9",
        "objectRef": {"resource": "pods", "namespace": "shop", "name": "web-0"},
        "responseStatus": {"code": 200},
    });
    merge(&mut base, over);
    base
}

fn site(lists: &str) -> Site {
    let lists: Lists = toml::from_str(lists).expect("valid lists");
    Site {
        lists: Arc::new(lists),
        ..Site::default()
    }
}

#[test]
fn outcome_is_the_code_and_at_the_start_of_a_stream_its_absence() {
    let of = |stage: &str, status: Value| {
        let mut event = event(json!({"stage": stage}));
        event["responseStatus"] = status;
        event
    };
    let plain = Site::default();
    for (status, facts) in [
        (json!({"code": 101}), &["succeeded", "!failed"][..]),
        (json!({"code": 304}), &["succeeded"]),
        (
            json!({"code": 403}),
            &["failed", "forbidden", "!unauthorized"],
        ),
        (json!({"code": 401}), &["failed", "unauthorized"]),
        (json!({"status": "Failure"}), &["failed"]),
        (json!(null), &["?succeeded", "?failed", "!forbidden"]),
    ] {
        expect(&of("ResponseComplete", status), &plain, facts);
    }
    expect(&of("ResponseStarted", json!(null)), &plain, &["succeeded"]);
}

#[test]
fn a_dry_run_is_what_the_server_takes_for_one() {
    let plain = Site::default();
    let write = |verb: &str, query: &str, body: Value, level: &str| {
        let mut event = event(json!({
            "verb": verb, "level": level,
            "requestURI": format!("/api/v1/namespaces/shop/pods/web-0{query}"),
        }));
        if !body.is_null() {
            event["requestObject"] = body;
        }
        event
    };
    let full = "RequestResponse";
    for query in [
        "?dryRun=All",
        "?dry%52un=All",
        "?a=b&dryRun=%41ll",
        "?dryRun=x&dryRun=All",
    ] {
        for verb in ["create", "update", "patch"] {
            expect(&write(verb, query, json!({}), full), &plain, &["dry_run"]);
        }
    }
    for query in [
        "",
        "?dryrun=All",
        "?x=dryRun=All",
        "?fieldManager=dryRun%3DAll",
        "?dryRun=all",
        "?dryRun=All;x",
        "?dryRun=All%zz",
    ] {
        expect(
            &write("create", query, json!({}), full),
            &plain,
            &["!dry_run"],
        );
    }
    // Of a delete the body decides, and where it was not logged nothing does.
    let options = json!({"kind": "DeleteOptions"});
    let dry = json!({"kind": "DeleteOptions", "dryRun": ["All"]});
    for (query, body, level, wanted) in [
        ("?dryRun=All", options.clone(), full, "!dry_run"),
        ("?dryRun=All", json!({}), full, "!dry_run"),
        ("?dryRun=All", Value::Null, full, "dry_run"),
        ("?dryRun=All", Value::Null, "Metadata", "!dry_run"),
        ("", dry, full, "dry_run"),
        ("", options, full, "!dry_run"),
        (
            "?dryRun=All",
            json!("skipped-too-big-size-object"),
            full,
            "!dry_run",
        ),
    ] {
        expect(&write("delete", query, body, level), &plain, &[wanted]);
    }
    let exec = event(json!({
        "verb": "create", "requestURI": "/api/v1/namespaces/shop/pods/web-0/exec?command=id&dryRun=All",
        "objectRef": {"subresource": "exec"},
    }));
    expect(&exec, &plain, &["!dry_run"]);
}

#[test]
fn the_platform_is_known_by_name_address_and_client_together() {
    let plain = Site::default();
    let of = |name: &str, addresses: &[&str], agent: &str| {
        event(json!({"user": {"username": name}, "sourceIPs": addresses, "userAgent": agent}))
    };
    let controller = "system:serviceaccount:kube-system:replicaset-controller";
    for (name, addresses, agent, wanted) in [
        (
            controller,
            &["10.224.0.4"][..],
            "kube-controller-manager/v1.34.1",
            "actor.platform",
        ),
        (
            controller,
            &["10.224.0.4"],
            "kubectl/v1.34.1",
            "!actor.platform",
        ),
        (controller, &["10.224.0.4"], "curl/8.9", "!actor.platform"),
        (controller, &["10.224.0.4"], "", "!actor.platform"),
        (
            controller,
            &["198.51.100.9", "172.31.4.5"],
            "kube-controller-manager/v1",
            "!actor.platform",
        ),
        (
            controller,
            &["10.0.0.1", "198.51.100.9", "172.31.4.5"],
            "kube-controller-manager/v1",
            "!actor.platform",
        ),
        (
            controller,
            &[],
            "kube-controller-manager/v1",
            "?actor.platform",
        ),
        (
            controller,
            &["nonsense"],
            "kube-controller-manager/v1",
            "!actor.platform",
        ),
        (
            "system:serviceaccount:kube-system:default",
            &["10.224.0.4"],
            "x/1",
            "!actor.platform",
        ),
        (
            "system:serviceaccount:kube-system:kubernetes-dashboard",
            &["10.224.0.4"],
            "dashboard/v2",
            "!actor.platform",
        ),
        (
            "system:serviceaccount:shop:web",
            &["10.224.0.4"],
            "x/1",
            "!actor.platform",
        ),
        (
            "system:apiserver",
            &["::1"],
            "kube-apiserver/v1.34.1",
            "actor.platform",
        ),
        (
            "system:apiserver",
            &["10.224.0.4"],
            "kube-apiserver/v1.34.1",
            "!actor.platform",
        ),
        (
            "system:kube-scheduler",
            &["172.31.4.9"],
            "kube-scheduler/v1.34.1",
            "actor.platform",
        ),
        (
            "aksService",
            &["172.31.4.9"],
            "Go-http-client/2.0",
            "actor.platform",
        ),
        (
            "aksService",
            &["172.31.4.9"],
            "kubectl/v1.30",
            "actor.platform",
        ),
        (
            "aksService",
            &["10.244.1.9"],
            "kubectl/v1.30",
            "!actor.platform",
        ),
        (
            "system:node:aks-pool1-1-vmss000000",
            &["10.224.0.4"],
            "kubelet/v1.34.1",
            "actor.platform",
        ),
        (
            "system:node:mine",
            &["10.224.0.4"],
            "kubelet/v1.34.1",
            "!actor.platform",
        ),
        (
            "masterclient",
            &["172.31.4.9"],
            "Go-http-client/2.0",
            "!actor.platform",
        ),
        (
            "system:anonymous",
            &["127.0.0.1"],
            "kube-probe/1.34",
            "!actor.platform",
        ),
        ("ada@example.com", &["10.224.0.4"], "x/1", "!actor.platform"),
    ] {
        expect(&of(name, addresses, agent), &plain, &[wanted]);
    }
    let node = of(
        "system:node:aks-pool1-1-vmss000000",
        &["192.0.2.10", "172.31.4.5"],
        "kubelet/v1",
    );
    expect(&node, &plain, &["!actor.platform"]);
    expect(
        &node,
        &site("node-networks = [\"192.0.2.10\"]"),
        &["actor.platform"],
    );
    // Whom it impersonates does not make anyone the platform.
    let acting = event(json!({
        "sourceIPs": ["10.224.0.4"], "userAgent": "x/1", "impersonatedUser": {"username": controller},
    }));
    expect(
        &acting,
        &plain,
        &["!actor.platform", "actor.impersonates_privileged"],
    );
}

#[test]
fn kinds_of_actors() {
    let plain = Site::default();
    for (user, facts) in [
        (
            json!({"username": "ada@example.com"}),
            &[
                "actor.human",
                "actor.entra",
                "!actor.system",
                "!actor.anonymous",
            ][..],
        ),
        (
            json!({"username": "0f8fad5b-d9cb-469f-a165-70867728950e"}),
            &["actor.human", "actor.entra"],
        ),
        (
            json!({"username": "masterclient", "groups": ["system:masters"]}),
            &[
                "actor.static_admin",
                "actor.system_masters",
                "actor.human",
                "!actor.entra",
            ],
        ),
        (
            json!({"username": "system:serviceaccount:shop:default"}),
            &[
                "actor.service_account",
                "actor.default_service_account",
                "actor.system",
                "!actor.human",
            ],
        ),
        (
            json!({"username": "system:node:n1"}),
            &["actor.node", "actor.system"],
        ),
        (
            json!({"username": "system:anonymous"}),
            &["actor.anonymous", "!actor.human"],
        ),
        (
            json!({"username": ""}),
            &["?actor.anonymous", "!actor.human"],
        ),
    ] {
        let mut event = event(json!({}));
        event["user"] = user;
        expect(&event, &plain, facts);
    }
    let mut unauthorized = event(json!({"responseStatus": {"code": 401}}));
    unauthorized["user"] = json!({});
    expect(&unauthorized, &plain, &["actor.anonymous", "unauthorized"]);
}

#[test]
fn the_client_is_the_right_most_address_that_is_no_hop() {
    let plain = Site::default();
    let of = |addresses: &[&str]| event(json!({"sourceIPs": addresses}));
    for (addresses, address, class) in [
        (&["203.0.113.7", "172.31.4.5"][..], "203.0.113.7", "public"),
        (
            &["10.0.0.9", "203.0.113.7", "172.31.4.5"],
            "203.0.113.7",
            "public",
        ),
        (
            &["203.0.113.7", "172.31.9.9", "172.31.4.5"],
            "203.0.113.7",
            "public",
        ),
        (&["172.31.4.9"], "172.31.4.9", "private"),
        (&["::ffff:203.0.113.7"], "203.0.113.7", "public"),
        (&["100.64.3.4"], "100.64.3.4", "shared"),
        (&[" 10.1.2.3 "], "10.1.2.3", "private"),
        (&["x"], "", "unknown"),
        (&[], "", "unknown"),
    ] {
        let event = of(addresses);
        assert_eq!(
            field(&event, "source_ip.address").text(),
            address,
            "{event}"
        );
        assert_eq!(field(&event, "source_ip.class").text(), class, "{event}");
    }
    expect(
        &of(&["10.0.0.9", "203.0.113.7", "172.31.4.5"]),
        &plain,
        &[
            "source_ip.forged_chain",
            "source_ip.public",
            "!source_ip.private",
        ],
    );
    expect(
        &of(&["203.0.113.7", "172.31.4.5"]),
        &plain,
        &[
            "!source_ip.forged_chain",
            "!source_ip.untrusted",
            "!source_ip.trusted",
        ],
    );
    expect(
        &of(&[]),
        &plain,
        &["source_ip.unknown", "?source_ip.public"],
    );
    let office = site("trusted-networks = [\"203.0.113.0/24\"]\nnode-networks = [\"10.0.0.0/8\"]");
    expect(
        &of(&["203.0.113.7", "172.31.4.5"]),
        &office,
        &["source_ip.trusted", "!source_ip.untrusted"],
    );
    expect(
        &of(&["198.51.100.9", "172.31.4.5"]),
        &office,
        &["!source_ip.trusted", "source_ip.untrusted"],
    );
    expect(
        &of(&["10.244.0.9"]),
        &office,
        &["!source_ip.untrusted", "source_ip.node_network"],
    );
    expect(&of(&["127.0.0.1"]), &office, &["!source_ip.untrusted"]);
    expect(
        &of(&[]),
        &office,
        &["?source_ip.untrusted", "?source_ip.trusted"],
    );
}

fn role(verb: &str, request: Value, response: Value) -> Value {
    let mut event = event(json!({
        "verb": verb,
        "objectRef": {"resource": "clusterroles", "apiGroup": "rbac.authorization.k8s.io", "name": "r"},
    }));
    event["requestObject"] = request;
    if !response.is_null() {
        event["responseObject"] = response;
    }
    event
}

#[test]
fn rights_count_where_verb_and_resource_meet() {
    let plain = Site::default();
    let rules = |rules: Value| {
        role(
            "create",
            json!({"kind": "ClusterRole", "rules": rules}),
            Value::Null,
        )
    };
    let across = rules(json!([
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["delete"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    ]));
    expect(
        &across,
        &plain,
        &["!role.reads_secrets", "role.writes", "!role.wildcard"],
    );
    let everything = rules(json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]));
    expect(
        &everything,
        &plain,
        &[
            "role.all_powerful",
            "role.wildcard",
            "role.reads_secrets",
            "role.pod_exec",
            "role.dangerous",
        ],
    );
    assert!(
        field(&everything, "role.dangerous")
            .text()
            .starts_with("everything")
    );
    let elsewhere =
        rules(json!([{"apiGroups": ["example.com"], "resources": ["*"], "verbs": ["*"]}]));
    expect(
        &elsewhere,
        &plain,
        &[
            "role.wildcard",
            "!role.all_powerful",
            "!role.reads_secrets",
            "!role.pod_exec",
            "!role.dangerous",
        ],
    );
    let subresources =
        rules(json!([{"apiGroups": [""], "resources": ["pods/*"], "verbs": ["get"]}]));
    expect(
        &subresources,
        &plain,
        &["role.pod_exec", "!role.wildcard", "!role.reads_secrets"],
    );
}

#[test]
fn a_patch_is_judged_by_what_it_leaves_if_it_touches_that() {
    let plain = Site::default();
    let stored = json!({"kind": "ClusterRole", "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    let rules = json!({"rules": stored["rules"]});
    expect(
        &role("patch", rules.clone(), stored.clone()),
        &plain,
        &["role.reads_secrets"],
    );
    expect(
        &role("patch", rules, Value::Null),
        &plain,
        &["role.reads_secrets"],
    );
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    expect(
        &role("patch", label, stored.clone()),
        &plain,
        &["!role.reads_secrets"],
    );
    for (steps, wanted) in [
        (
            json!([{"op": "add", "path": "/rules/-", "value": stored["rules"][0]}]),
            "role.reads_secrets",
        ),
        (
            json!([{"op": "add", "path": "/metadata/labels/a", "value": "b"}]),
            "!role.reads_secrets",
        ),
    ] {
        expect(
            &role("patch", steps.clone(), stored.clone()),
            &plain,
            &[wanted],
        );
        expect(&role("patch", steps, Value::Null), &plain, &[wanted]);
    }
    let sent = json!({"metadata": {"resourceVersion": "7"}, "rules": stored["rules"]});
    expect(
        &role("update", sent.clone(), sent.clone()),
        &plain,
        &["unchanged", "!role.reads_secrets"],
    );
}

#[test]
fn what_cannot_be_read_is_unknown_and_what_has_no_body_is_false() {
    let plain = Site::default();
    let hidden = role("create", json!("skipped-too-big-size-object"), Value::Null);
    expect(
        &hidden,
        &plain,
        &["?role.wildcard", "?role.dangerous", "body_unreadable"],
    );
    let mut metadata = role("create", Value::Null, Value::Null);
    metadata["level"] = json!("Metadata");
    expect(&metadata, &plain, &["?role.wildcard"]);
    expect(
        &event(json!({})),
        &plain,
        &[
            "!role.wildcard",
            "!binding.to_anonymous",
            "!exec.reverse_shell",
        ],
    );
    // The response is read where the request was too big.
    let stored = json!({"kind": "ClusterRole", "rules": [{"apiGroups": [""], "resources": ["*"], "verbs": ["get"]}]});
    let half = role("create", json!("skipped-too-big-size-object"), stored);
    expect(&half, &plain, &["role.wildcard"]);
    // A new binding without its body: new, and not known to be harmless.
    let mut binding = role("create", Value::Null, Value::Null);
    binding["level"] = json!("Metadata");
    binding["objectRef"]["resource"] = json!("clusterrolebindings");
    expect(
        &binding,
        &plain,
        &[
            "?binding.privileged_role",
            "binding.ordinary",
            "binding.changed",
        ],
    );
}

#[test]
fn commands_come_out_of_the_uri_as_the_server_reads_it() {
    let exec = |query: &str| {
        event(json!({
            "requestURI": format!("/api/v1/namespaces/shop/pods/web-0/exec?{query}"),
            "stage": "ResponseStarted", "objectRef": {"subresource": "exec"},
        }))
    };
    let event = exec(
        "stdout=1&command=sh&container=web&command=-c&command=cat+%2Fetc%2Fshadow%26id&tty=1&stdin=false",
    );
    assert_eq!(
        field(&event, "exec.command").text(),
        "sh -c cat /etc/shadow&id"
    );
    assert_eq!(field(&event, "exec.container").text(), "web");
    expect(
        &event,
        &Site::default(),
        &[
            "exec.tty",
            "!exec.stdin",
            "exec.shell",
            "exec.interactive_shell",
            "exec.reads_credentials",
            "exec.notable",
        ],
    );
    expect(
        &exec("command=ls&tty"),
        &Site::default(),
        &["exec.tty", "!exec.shell", "!exec.notable"],
    );
    expect(
        &exec("command=ls&tty=False"),
        &Site::default(),
        &["!exec.tty"],
    );
    let kubelet = self::event(json!({
        "requestURI": "/api/v1/nodes/n1/proxy/metrics/..//run/shop/web-0/web?cmd=cat%20/var/run/secrets/kubernetes.io/serviceaccount/token",
        "verb": "create", "objectRef": {"resource": "nodes", "subresource": "proxy", "name": "n1"},
    }));
    expect(
        &kubelet,
        &Site::default(),
        &[
            "target.kubelet_command",
            "!target.metrics",
            "exec.kubelet",
            "exec.reads_token",
        ],
    );
    assert_eq!(field(&kubelet, "proxy.path").text(), "/run/shop/web-0/web");
    assert_eq!(field(&kubelet, "exec.container").text(), "web");
    let hidden = self::event(json!({
        "requestURI": "/api/v1/nodes/n1/proxy/run/shop/web-0/web",
        "verb": "create", "objectRef": {"resource": "nodes", "subresource": "proxy", "name": "n1"},
    }));
    expect(
        &hidden,
        &Site::default(),
        &["exec.kubelet", "?exec.reads_token"],
    );
}
