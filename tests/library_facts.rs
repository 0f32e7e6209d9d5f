//! Facts of objects, on events written by hand: what is true, what is false, and above all what
//! cannot be known.

use std::borrow::Cow;

use lanner::event::audit::{Body, Level, ObjectRef, ResponseStatus};
use lanner::event::{AuditEvent, Category, Fact, Field, Origin, Site, Truth, View};

const FALSE: Truth = Truth::False;
const TRUE: Truth = Truth::True;
const UNKNOWN: Truth = Truth::Unknown;

/// A write of `resource/subresource` in namespace shop; a name with `@` says another namespace.
struct Case {
    verb: &'static str,
    resource: &'static str,
    name: &'static str,
    level: Level,
    request: Body<'static>,
    response: Body<'static>,
}

fn case(verb: &'static str, resource: &'static str, request: &'static str) -> Case {
    Case {
        verb,
        resource,
        name: "web",
        level: Level::RequestResponse,
        request: if request.is_empty() {
            Body::Absent
        } else {
            Body::Text(request.into())
        },
        response: Body::Absent,
    }
}

impl Case {
    fn answered(mut self, response: &'static str) -> Case {
        self.response = Body::Text(response.into());
        self
    }

    fn named(mut self, name: &'static str) -> Case {
        self.name = name;
        self
    }

    fn metadata(mut self) -> Case {
        self.level = Level::Metadata;
        self
    }

    fn unreadable(mut self) -> Case {
        self.request = Body::Unreadable;
        self.response = Body::Unreadable;
        self
    }

    fn with<T>(&self, look: impl FnOnce(&View<'_>) -> T) -> T {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        let (name, namespace) = self.name.split_once('@').unwrap_or((self.name, "shop"));
        let mut event = AuditEvent {
            level: self.level,
            verb: Cow::Borrowed(self.verb),
            request_object: self.request,
            response_object: self.response,
            object_ref: Some(ObjectRef {
                resource: resource.into(),
                subresource: subresource.into(),
                namespace: namespace.into(),
                name: name.into(),
                ..ObjectRef::default()
            }),
            response_status: Some(ResponseStatus {
                code: 200,
                ..ResponseStatus::default()
            }),
            user_agent: "kubectl/v1.34.1".into(),
            source_ips: vec!["203.0.113.7".into()],
            ..AuditEvent::default()
        };
        event.user.username = "ada@example.com".into();
        let origin = Origin {
            cluster: "c".into(),
            category: Category::KubeAudit,
            time: None,
        };
        let site = Site::default();
        look(&View::new(&event, &origin, &site))
    }

    fn fact(&self, name: &str) -> Truth {
        let fact = Fact::parse(name).unwrap_or_else(|| panic!("{name} is no fact"));
        self.with(|view| view.fact(fact))
    }

    fn field(&self, name: &str) -> String {
        let field = Field::parse(name).unwrap_or_else(|| panic!("{name} is no field"));
        self.with(|view| view.field(field).text().into_owned())
    }
}

const PRIVILEGED: &str = r#"{"kind":"Pod","spec":{"containers":[{"name":"a","image":"a","securityContext":{"privileged":true}}]}}"#;
const PLAIN: &str = r#"{"kind":"Pod","spec":{"containers":[{"name":"a","image":"a"}]}}"#;

#[test]
fn what_was_not_logged_is_unknown() {
    assert_eq!(
        case("create", "pods", "").metadata().fact("pod.privileged"),
        UNKNOWN
    );
    assert_eq!(
        case("create", "pods", "")
            .unreadable()
            .fact("pod.privileged"),
        UNKNOWN
    );
    assert_eq!(
        case("create", "deployments", "")
            .metadata()
            .fact("image.miner"),
        UNKNOWN
    );
    assert_eq!(
        case("create", "secrets", "")
            .metadata()
            .fact("secret.service_account_token"),
        UNKNOWN
    );
    assert_eq!(
        case("create", "services", "")
            .unreadable()
            .fact("service.public"),
        UNKNOWN
    );
    // A name needs no body.
    let debugger = case("create", "pods", "")
        .metadata()
        .named("node-debugger-x-abcde");
    assert_eq!(debugger.fact("pod.node_shell"), TRUE);
}

#[test]
fn what_has_no_body_by_nature_is_false() {
    assert_eq!(
        case("get", "pods", "").metadata().fact("pod.privileged"),
        FALSE
    );
    assert_eq!(
        case("create", "pods/exec", "")
            .metadata()
            .fact("pod.privileged"),
        FALSE
    );
    assert_eq!(
        case("create", "leases", "")
            .metadata()
            .fact("pod.privileged"),
        FALSE
    );
}

#[test]
fn the_answer_counts_before_the_request() {
    assert_eq!(
        case("create", "pods", PLAIN)
            .answered(PRIVILEGED)
            .fact("pod.privileged"),
        TRUE
    );
    let refused = case("create", "pods", PRIVILEGED).answered(r#"{"kind":"Status","code":403}"#);
    assert_eq!(refused.fact("pod.privileged"), TRUE);
    assert_eq!(
        case("patch", "pods", r#"{"spec":{}}"#)
            .answered(PRIVILEGED)
            .fact("pod.privileged"),
        TRUE
    );
}

#[test]
fn a_patch_that_leaves_the_spec_alone_makes_nothing_privileged() {
    let labelled = case("patch", "pods", r#"{"metadata":{"labels":{"a":"b"}}}"#);
    assert_eq!(labelled.answered(PRIVILEGED).fact("pod.privileged"), FALSE);
    let by_steps = case(
        "patch",
        "pods",
        r#"[{"op":"add","path":"/metadata/labels/a","value":"b"}]"#,
    );
    assert_eq!(by_steps.answered(PRIVILEGED).fact("pod.privileged"), FALSE);
}

#[test]
fn a_delta_shows_what_it_adds_and_proves_no_lack() {
    let delta = case("patch", "pods", PLAIN);
    assert_eq!(delta.fact("pod.may_run_as_root"), FALSE);
    assert_eq!(delta.fact("pod.token_mounted"), FALSE);
    let steps = r#"[{"op":"add","path":"/spec/template/spec/hostPID","value":true}]"#;
    assert_eq!(
        case("patch", "deployments", steps).fact("pod.host_pid"),
        TRUE
    );
}

#[test]
fn templates_are_found_at_every_depth() {
    let spec = r#"{"containers":[],"hostIPC":true}"#;
    for (resource, text) in [
        (
            "podtemplates",
            format!(r#"{{"template":{{"spec":{spec}}}}}"#),
        ),
        (
            "statefulsets",
            format!(r#"{{"spec":{{"template":{{"spec":{spec}}}}}}}"#),
        ),
        (
            "cronjobs",
            format!(r#"{{"spec":{{"jobTemplate":{{"spec":{{"template":{{"spec":{spec}}}}}}}}}}}"#),
        ),
        (
            "rollouts",
            format!(r#"{{"spec":{{"template":{{"spec":{spec}}}}}}}"#),
        ),
    ] {
        let text: &'static str = text.leak();
        assert_eq!(
            case("create", resource, text).fact("pod.host_ipc"),
            TRUE,
            "{resource}"
        );
    }
}

#[test]
fn paths_are_normalised_before_they_are_judged() {
    let pod = |path: &str| {
        let text =
            format!(r#"{{"spec":{{"volumes":[{{"name":"v","hostPath":{{"path":"{path}"}}}}]}}}}"#);
        case("create", "pods", text.leak())
    };
    for (path, sensitive) in [
        ("/", TRUE),
        ("//etc///", TRUE),
        ("/srv/../etc/ssl", TRUE),
        ("/var", TRUE),
        ("/var/lib/kubelet/pods/x", TRUE),
        ("/srv", FALSE),
        ("/etcetera", FALSE),
        ("/var/lib/kube", FALSE),
    ] {
        assert_eq!(
            pod(path).fact("pod.host_path_sensitive"),
            sensitive,
            "{path}"
        );
    }
    assert_eq!(
        pod(r"C:\\k\\azure.json").fact("pod.azure_credentials"),
        TRUE
    );
    assert_eq!(pod("/run/containerd").fact("pod.container_socket"), TRUE);
    assert_eq!(pod("/srv/../etc/").field("pod.host_paths"), "/etc");
}

#[test]
fn a_certificate_names_its_subject() {
    // O=system:masters, CN=ops, in the base64 of a PEM.
    let request = include_str!("fixtures/csr/masters.b64").trim();
    let text = format!(r#"{{"spec":{{"request":"{request}","usages":["client auth"]}}}}"#);
    let csr = case("create", "certificatesigningrequests", text.leak());
    assert_eq!(csr.fact("csr.privileged"), TRUE);
    assert_eq!(csr.fact("csr.node"), FALSE);
    assert_eq!(csr.field("csr.subject"), "CN=ops, O=system:masters");
    let damaged = case(
        "create",
        "certificatesigningrequests",
        r#"{"spec":{"request":"bm90aGluZw=="}}"#,
    );
    assert_eq!(damaged.fact("csr.privileged"), FALSE);
    assert_eq!(
        case("create", "certificatesigningrequests", "")
            .metadata()
            .fact("csr.privileged"),
        UNKNOWN
    );
}

#[test]
fn a_label_is_weakened_by_value_and_by_removal() {
    let fact = "namespace.pod_security_weakened";
    let label = "pod-security.kubernetes.io/enforce";
    for (value, truth) in [
        (r#""privileged""#, TRUE),
        ("null", TRUE),
        (r#""baseline""#, FALSE),
    ] {
        let text = format!(r#"{{"metadata":{{"labels":{{"{label}":{value}}}}}}}"#);
        assert_eq!(
            case("patch", "namespaces", text.leak()).fact(fact),
            truth,
            "{value}"
        );
    }
    let step = r#"[{"op":"remove","path":"/metadata/labels/pod-security.kubernetes.io~1enforce"}]"#;
    assert_eq!(case("patch", "namespaces", step).fact(fact), TRUE);
    assert_eq!(
        case("patch", "namespaces", "").unreadable().fact(fact),
        UNKNOWN
    );
    assert_eq!(case("patch", "namespaces/status", step).fact(fact), FALSE);
}

#[test]
fn rotation_of_a_webhooks_certificate_is_told_from_a_change() {
    let resource = "mutatingwebhookconfigurations";
    let fact = "webhook.ca_bundle_only";
    for (text, truth) in [
        (
            r#"{"webhooks":[{"name":"a","clientConfig":{"caBundle":"x"}}]}"#,
            TRUE,
        ),
        (
            r#"[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":"x"}]"#,
            TRUE,
        ),
        (
            r#"{"webhooks":[{"name":"a","failurePolicy":"Ignore","clientConfig":{"caBundle":"x"}}]}"#,
            FALSE,
        ),
        (
            r#"{"webhooks":[{"name":"a","clientConfig":{"caBundle":"x","url":"https://b"}}]}"#,
            FALSE,
        ),
        (r#"{"webhooks":[]}"#, FALSE),
    ] {
        assert_eq!(case("patch", resource, text).fact(fact), truth, "{text}");
    }
    assert_eq!(case("patch", resource, "").unreadable().fact(fact), UNKNOWN);
}

#[test]
fn a_misplaced_pod_is_known_by_its_namespace_and_its_maker() {
    assert_eq!(
        case("create", "pods", PLAIN)
            .named("x@kube-system")
            .fact("object.misplaced"),
        TRUE
    );
    assert_eq!(
        case("create", "pods", PLAIN)
            .named("x@kube-public")
            .fact("object.misplaced"),
        TRUE
    );
    assert_eq!(
        case("create", "pods", PLAIN).fact("object.misplaced"),
        FALSE
    );
    assert_eq!(
        case("create", "jobs", PLAIN)
            .named("x@kube-system")
            .fact("object.misplaced"),
        FALSE
    );
}

#[test]
fn hostile_bodies_do_no_harm() {
    for text in [
        "[]",
        "{}",
        "null",
        r#""text""#,
        "17",
        r#"{"spec":[]}"#,
        r#"{"spec":{"containers":{"a":1}}}"#,
        r#"[{"op":"add"}]"#,
        r#"[{"op":"add","path":"/0/0/-/a","value":{}}]"#,
        r#"{"spec":{"template":[1]}}"#,
    ] {
        for resource in [
            "pods",
            "cronjobs",
            "services",
            "networkpolicies",
            "namespaces",
            "nodes",
            "persistentvolumes",
            "certificatesigningrequests",
            "validatingwebhookconfigurations",
            "configmaps",
            "secrets",
            "serviceaccounts",
        ] {
            for verb in ["create", "update", "patch", "delete"] {
                case(verb, resource, text).with(|view| {
                    for info in lanner::event::fact::FACTS {
                        view.fact(info.fact);
                    }
                    for info in lanner::event::field::FIELDS {
                        view.field(info.field);
                    }
                });
            }
        }
    }
}
