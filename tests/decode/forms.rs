//! The forms that AKS, exports and archives are known to have: each told apart by its kind.

use lanner::decode::{Damage, Form, Ignored, Payload};
use lanner::event::{Body, Category, Level, Stage};
use lanner::source::Framing;
use serde_json::{Value, json};

use super::support::{CLUSTER, Seen, What, decode, envelope, event, seen, with_event};

fn whole(form: Form, category: Category, what: What) -> Vec<Seen> {
    vec![Seen {
        form,
        category,
        what,
        damage: None,
    }]
}

fn times(one: &[Seen], count: usize) -> Vec<Seen> {
    std::iter::repeat_n(one, count).flatten().cloned().collect()
}

fn create() -> What {
    What::Audit("create".to_owned())
}

fn ignored(form: Form, category: Category, ignored: Ignored) -> Vec<Seen> {
    whole(form, category, What::Nothing(ignored))
}

#[test]
fn the_log_is_told_apart_by_what_it_holds() {
    let audit = Category::KubeAudit;
    let log = |log: Value| seen(&envelope("kube-audit", &log).to_string());
    let text = event().to_string();
    assert_eq!(log(json!(text)), whole(Form::Escaped, audit, create()));
    let with_break = format!("{text}\n");
    assert_eq!(
        log(json!(with_break)),
        whole(Form::Escaped, audit, create())
    );
    assert_eq!(log(event()), whole(Form::Object, audit, create()));
    assert_eq!(
        log(json!("{\"kind\":\"Event\"}\n")),
        ignored(Form::Escaped, audit, Ignored::EmptyEvent)
    );
    assert_eq!(
        log(json!(
            "I1120 10:00:00.000000       1 a.go:1] \"x\" y=\"z\": {\"a\":1}\n"
        )),
        ignored(Form::Escaped, audit, Ignored::Text)
    );
    assert_eq!(
        log(json!("goroutine 7 [running]:")),
        ignored(Form::Escaped, audit, Ignored::Text)
    );
    for empty in [json!(null), json!(""), json!(" \n")] {
        assert_eq!(
            log(empty),
            ignored(Form::Escaped, audit, Ignored::NoPayload)
        );
    }
    assert_eq!(
        log(json!({ "foo": 1 })),
        ignored(Form::Object, audit, Ignored::Unrelated)
    );
    let damaged = |damage, what| {
        vec![Seen {
            form: Form::Escaped,
            category: audit,
            what,
            damage: Some(damage),
        }]
    };
    let nothing = What::Nothing(Ignored::Damaged);
    assert_eq!(log(json!(7)), damaged(Damage::WrongType, nothing.clone()));
    assert_eq!(log(json!([])), damaged(Damage::WrongType, nothing.clone()));
    let cut = &text[..text.rfind("\"verb\"").unwrap() - 1];
    assert_eq!(
        log(json!(cut)),
        damaged(Damage::CutOff, What::Audit(String::new()))
    );
    // The rest of an event that was split in two.
    let rest = &text[text.len() / 2..];
    assert_eq!(log(json!(rest)), damaged(Damage::NotJson, nothing));
}

#[test]
fn properties_may_be_a_string() {
    for log in [json!(event().to_string()), event()] {
        let mut record = envelope("kube-audit-admin", &log);
        record["properties"] = json!(record["properties"].to_string());
        assert_eq!(
            seen(&record.to_string()),
            whole(Form::EscapedProperties, Category::KubeAuditAdmin, create())
        );
    }
}

#[test]
fn the_category_decides_before_the_payload_is_read() {
    let text = json!(event().to_string());
    let of = |category: &str| seen(&envelope(category, &text).to_string());
    assert_eq!(
        of("kube-audit"),
        whole(Form::Escaped, Category::KubeAudit, create())
    );
    assert_eq!(
        of("Kube-Audit-Admin"),
        whole(Form::Escaped, Category::KubeAuditAdmin, create())
    );
    for other in [
        "guard",
        "kube-scheduler",
        "cluster-autoscaler",
        "kube-audit-x",
    ] {
        assert_eq!(
            of(other),
            ignored(Form::Escaped, Category::Raw, Ignored::Category)
        );
    }
    let line = json!("E1120 10:00:00.000000       1 a.go:1] x\n");
    assert_eq!(
        seen(&envelope("kube-apiserver", &line).to_string()),
        whole(Form::Escaped, Category::KubeApiserver, What::ApiServer)
    );
    let mut unsaid = envelope("", &text);
    unsaid.as_object_mut().unwrap().remove("category");
    assert_eq!(
        seen(&unsaid.to_string()),
        whole(Form::Escaped, Category::Raw, create())
    );
    unsaid["properties"] = json!({ "log": line });
    assert_eq!(
        seen(&unsaid.to_string()),
        ignored(Form::Escaped, Category::Raw, Ignored::Text)
    );
}

#[test]
fn documents_lists_arrays_and_lines_hold_the_same() {
    let record = envelope("kube-audit", &json!(event().to_string()));
    let records = json!({ "records": [record, record] });
    let list = json!({ "kind": "EventList", "metadata": {}, "items": [event(), event()] });
    let one = whole(Form::Escaped, Category::KubeAudit, create());
    let raw = whole(Form::Raw, Category::Raw, create());
    for (text, expected) in [
        (records.to_string(), times(&one, 2)),
        (format!("{record}\r\n\r\n{record}"), times(&one, 2)),
        (format!("{record}{record} {record}"), times(&one, 3)),
        (json!([record, records]).to_string(), times(&one, 3)),
        (format!("\u{feff}{record}\n"), one.clone()),
        (list.to_string(), times(&raw, 2)),
        (json!([event(), list]).to_string(), times(&raw, 3)),
        (event().to_string(), raw.clone()),
        (json!({ "records": [] }).to_string(), vec![]),
        (" \n\r\n".to_owned(), vec![]),
    ] {
        assert_eq!(seen(&text), expected, "{text}");
    }
    let mut count = 0;
    let pretty = serde_json::to_vec_pretty(&records).unwrap();
    decode(&pretty, Framing::Value, &mut |record| {
        count += usize::from(matches!(record.payload, Payload::Audit(_)));
    });
    assert_eq!(count, 2);
}

#[test]
fn the_items_of_a_list_need_not_say_what_they_are() {
    let mut bare = event();
    bare.as_object_mut().unwrap().remove("kind");
    bare.as_object_mut().unwrap().remove("apiVersion");
    let list = json!({ "kind": "EventList", "items": [bare] });
    assert_eq!(
        seen(&list.to_string()),
        whole(Form::Raw, Category::Raw, create())
    );
}

#[test]
fn other_json_is_unrelated() {
    let unrelated = ignored(Form::Raw, Category::Raw, Ignored::Unrelated);
    let core = json!({ "kind": "Event", "apiVersion": "v1", "reason": "Killing" });
    let pods = json!({ "kind": "PodList", "apiVersion": "v1", "items": [{ "spec": {} }] });
    for text in [
        core.to_string(),
        pods.to_string(),
        "{\"a\":[1]}".to_owned(),
        "{}".to_owned(),
    ] {
        assert_eq!(seen(&text), unrelated, "{text}");
    }
    let mut foreign = event();
    foreign["apiVersion"] = json!("events.k8s.io/v1");
    assert_eq!(seen(&foreign.to_string()), unrelated);
}

#[test]
fn the_envelope_says_whose_and_when() {
    let record = envelope("kube-audit", &json!(event().to_string()));
    let mut clusters = Vec::new();
    let text = format!("{record}\n{record}\n{}\n", event());
    decode(text.as_bytes(), Framing::Lines, &mut |record| {
        let time = record.origin.time.map(|time| time.to_string());
        clusters.push((record.origin.cluster.clone(), time));
    });
    let time = Some("2026-11-20T10:00:00.123456789Z".to_owned());
    let cluster = CLUSTER.to_lowercase();
    assert_eq!(clusters[0], (cluster.as_str().into(), time));
    assert!(std::sync::Arc::ptr_eq(&clusters[0].0, &clusters[1].0));
    assert_eq!(clusters[2], ("".into(), None));
}

#[test]
fn every_field_is_read() {
    let mut full = event();
    full["impersonatedUser"] = json!({ "username": "eve", "groups": ["system:masters"] });
    full["objectRef"] = json!({
        "resource": "pods", "namespace": "n", "name": "o", "uid": "u", "apiGroup": "g",
        "apiVersion": "v", "resourceVersion": "7", "subresource": "exec",
    });
    full["responseStatus"] = json!({ "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403, "details": {} });
    full["authenticationMetadata"] = json!({ "impersonationConstraint": "x" });
    with_event(&full.to_string(), |event, damage| {
        assert_eq!(damage, None);
        assert_eq!(
            (event.level, event.stage),
            (Level::RequestResponse, Stage::ResponseComplete)
        );
        assert_eq!(event.audit_id, "5d0d3b1e-0000-4000-8000-000000000001");
        assert_eq!(
            event.request_uri,
            "/api/v1/namespaces/web/pods?fieldManager=x&pretty=true"
        );
        assert_eq!(
            (event.user.username.as_ref(), event.user.uid.as_ref()),
            ("ana@example.org", "u1")
        );
        assert_eq!(event.user.groups, ["g1", "system:authenticated"]);
        assert_eq!(event.user.extra, [("oid".into(), vec!["o1".into()])]);
        let impersonated = event.impersonated_user.as_ref().unwrap();
        assert_eq!(
            (impersonated.username.as_ref(), impersonated.groups.len()),
            ("eve", 1)
        );
        assert_eq!(event.source_ips, ["192.0.2.7", "172.31.0.4"]);
        assert_eq!(event.user_agent, "kubectl/v1.36.0 (linux/amd64)");
        let object = event.object_ref.as_ref().unwrap();
        assert_eq!(
            [
                &object.resource,
                &object.namespace,
                &object.name,
                &object.uid
            ],
            ["pods", "n", "o", "u"]
        );
        assert_eq!(
            [
                &object.api_group,
                &object.api_version,
                &object.resource_version,
                &object.subresource
            ],
            ["g", "v", "7", "exec"]
        );
        let status = event.response_status.as_ref().unwrap();
        assert_eq!(status.code, 403);
        assert_eq!(
            [&status.status, &status.reason, &status.message],
            ["Failure", "Forbidden", "no"]
        );
        assert_eq!(
            event.request_object,
            Body::Text(full["requestObject"].to_string().as_str().into())
        );
        assert_eq!(
            event.response_object,
            Body::Text(full["responseObject"].to_string().as_str().into())
        );
        assert_eq!(
            event.request_received.unwrap().to_string(),
            "2026-11-20T10:00:00.1Z"
        );
        assert_eq!(event.time().unwrap().to_string(), "2026-11-20T10:00:00.11Z");
        assert_eq!(
            event.annotation("authorization.k8s.io/decision"),
            Some("allow")
        );
    });
}

#[test]
fn null_is_as_missing() {
    let mut nulls = event();
    let keep = ["kind", "verb"];
    for (key, value) in nulls.as_object_mut().unwrap() {
        if !keep.contains(&key.as_str()) {
            *value = Value::Null;
        }
    }
    with_event(&nulls.to_string(), |event, damage| {
        let expected = lanner::event::AuditEvent {
            verb: "create".into(),
            ..Default::default()
        };
        assert_eq!((event, damage), (&expected, None));
    });
}

#[test]
fn times_without_an_offset_are_utc() {
    for (written, expected) in [
        (
            "2026-11-20T10:00:00.123456789Z",
            "2026-11-20T10:00:00.123456789Z",
        ),
        ("2026-11-20T12:00:00+02:00", "2026-11-20T10:00:00Z"),
        ("2026-11-20 10:00:00.38", "2026-11-20T10:00:00.38Z"),
        (
            "2026-11-20 10:00:00.123456000",
            "2026-11-20T10:00:00.123456Z",
        ),
    ] {
        let mut dated = event();
        dated["stageTimestamp"] = json!(written);
        with_event(&dated.to_string(), |event, damage| {
            assert_eq!(event.stage_time.unwrap().to_string(), expected);
            assert_eq!(damage, None);
        });
    }
}

#[test]
fn bodies_that_were_left_out_are_unreadable() {
    let bodies = |event: &Value| {
        let mut found = None;
        with_event(&event.to_string(), |event, damage| {
            assert_eq!(damage, None);
            let readable = |body| match body {
                Body::Absent => "absent",
                Body::Unreadable => "unreadable",
                Body::Text(_) => "text",
            };
            found = Some((
                readable(event.request_object),
                readable(event.response_object),
            ));
        });
        found.unwrap()
    };
    let mut skipped = event();
    skipped["responseObject"] = json!("skipped-too-big-size-object");
    assert_eq!(bodies(&skipped), ("text", "unreadable"));

    let mut truncated = event();
    truncated.as_object_mut().unwrap().remove("requestObject");
    truncated.as_object_mut().unwrap().remove("responseObject");
    assert_eq!(bodies(&truncated), ("absent", "absent"));
    truncated["annotations"]["audit.k8s.io/truncated"] = json!("true");
    assert_eq!(bodies(&truncated), ("unreadable", "unreadable"));
    truncated["level"] = json!("Request");
    assert_eq!(bodies(&truncated), ("unreadable", "absent"));
    truncated["level"] = json!("Metadata");
    assert_eq!(bodies(&truncated), ("absent", "absent"));
}

#[test]
fn rows_of_log_analytics_are_read() {
    let diagnostics = json!({
        "TenantId": "t", "TimeGenerated": "2026-11-20T10:00:01Z", "ResourceId": CLUSTER,
        "Category": "kube-audit", "log_s": event().to_string(), "pod_s": "p",
    });
    assert_eq!(
        seen(&diagnostics.to_string()),
        whole(Form::Escaped, Category::KubeAudit, create())
    );
    let event = event();
    let columns = |nested: &dyn Fn(&Value) -> Value| {
        json!({
            "TenantId": "t", "TimeGenerated": "2026-11-20T10:00:01Z", "_ResourceId": CLUSTER,
            "Type": "AKSAuditAdmin", "AuditId": event["auditID"], "Level": "RequestResponse",
            "Stage": "ResponseComplete", "Verb": "create", "RequestUri": event["requestURI"],
            "User": nested(&event["user"]), "SourceIps": nested(&event["sourceIPs"]),
            "UserAgent": event["userAgent"], "ObjectRef": nested(&event["objectRef"]),
            "ResponseStatus": nested(&event["responseStatus"]),
            "RequestObject": nested(&event["requestObject"]),
            "ResponseObject": nested(&event["responseObject"]),
            "Annotations": nested(&event["annotations"]), "PodName": "p",
            "RequestReceivedTime": event["requestReceivedTimestamp"],
            "StageReceivedTime": event["stageTimestamp"],
        })
    };
    for row in [
        columns(&Value::clone),
        columns(&|value| json!(value.to_string())),
    ] {
        with_event(&event.to_string(), |expected, _| {
            with_event(&row.to_string(), |event, damage| {
                assert_eq!((event, damage), (expected, None));
            });
        });
        let mut cluster = None;
        decode(row.to_string().as_bytes(), Framing::Lines, &mut |record| {
            assert_eq!(record.form, Form::Row);
            assert_eq!(record.origin.category, Category::KubeAuditAdmin);
            cluster = Some(record.origin.cluster.to_string());
        });
        assert_eq!(cluster.unwrap(), CLUSTER.to_lowercase());
    }
    // Cells are cut at 32 KiB.
    let mut cut = columns(&|value| json!(value.to_string()));
    cut["RequestObject"] = json!("{\"spec\":{\"contai");
    with_event(&cut.to_string(), |event, damage| {
        assert_eq!(damage, Some(Damage::CutOff));
        assert_eq!(event.request_object, Body::Unreadable);
        assert!(matches!(event.response_object, Body::Text(_)));
        assert_eq!(event.user.username, "ana@example.org");
    });
}
