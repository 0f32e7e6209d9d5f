//! Damage is said by its kind, costs no other record, and hides nothing that can still be read.

use lanner::decode::{Damage, Decoder, Ignored, Payload};
use lanner::event::{AuditEvent, Body};
use lanner::source::{Chunk, Framing};
use serde_json::{Value, json};

use super::support::{What, envelope, event, seen, seen_bytes, with_event};

/// The event of `text` must be that of [`event`], but for what `except` resets.
fn same_event_but(text: &str, damage: Damage, except: impl Fn(&mut AuditEvent<'_>)) {
    with_event(&event().to_string(), |expected, _| {
        with_event(text, |found, reason| {
            let (mut expected, mut found) = (expected.clone(), found.clone());
            except(&mut expected);
            except(&mut found);
            assert_eq!(found, expected, "{text}");
            assert_eq!(reason, Some(damage), "{text}");
        });
    });
}

#[test]
fn a_wrong_type_costs_its_own_field_only() {
    type Reset = fn(&mut AuditEvent<'_>);
    let fields: &[(&str, Reset)] = &[
        ("/kind", |_| ()),
        ("/apiVersion", |_| ()),
        ("/level", |event| {
            event.level = lanner::event::Level::Unknown
        }),
        ("/auditID", |event| event.audit_id = "".into()),
        ("/stage", |event| {
            event.stage = lanner::event::Stage::Unknown
        }),
        ("/requestURI", |event| event.request_uri = "".into()),
        ("/verb", |event| event.verb = "".into()),
        ("/user", |event| event.user = Default::default()),
        ("/user/username", |event| event.user.username = "".into()),
        ("/user/groups", |event| event.user.groups.clear()),
        ("/user/groups/0", |event| {
            event.user.groups = vec!["system:authenticated".into()]
        }),
        ("/user/extra", |event| event.user.extra.clear()),
        ("/user/extra/oid", |event| {
            event.user.extra = vec![("oid".into(), vec![])]
        }),
        ("/sourceIPs", |event| event.source_ips.clear()),
        ("/userAgent", |event| event.user_agent = "".into()),
        ("/objectRef", |event| event.object_ref = None),
        ("/objectRef/name", |event| {
            event.object_ref.as_mut().unwrap().name = "".into()
        }),
        ("/responseStatus", |event| event.response_status = None),
        ("/responseStatus/code", |event| {
            event.response_status.as_mut().unwrap().code = 0
        }),
        ("/requestReceivedTimestamp", |event| {
            event.request_received = None
        }),
        ("/stageTimestamp", |event| event.stage_time = None),
        ("/annotations", |event| event.annotations.clear()),
        ("/annotations/authorization.k8s.io~1decision", |event| {
            event.annotations = vec![("authorization.k8s.io/decision".into(), "".into())];
        }),
    ];
    for (pointer, reset) in fields {
        for value in [
            json!(true),
            json!(-1.5),
            json!({ "a": { "b": [] } }),
            json!([[1], {}]),
        ] {
            let fits = |allowed: &[&str]| allowed.contains(pointer);
            if value.is_object()
                && fits(&[
                    "/user",
                    "/user/extra",
                    "/objectRef",
                    "/responseStatus",
                    "/annotations",
                ])
            {
                continue;
            }
            let mut wrong = event();
            *wrong.pointer_mut(pointer).unwrap() = value;
            same_event_but(&wrong.to_string(), Damage::WrongType, reset);
            let enclosed = envelope("kube-audit", &json!(wrong.to_string()));
            same_event_but(&enclosed.to_string(), Damage::WrongType, reset);
        }
    }
}

#[test]
fn a_malformed_time_is_none() {
    for time in [
        "yesterday",
        "2026-13-20T10:00:00Z",
        "2026-11-20T10:00:00.1234567890123Z",
    ] {
        let mut wrong = event();
        wrong["stageTimestamp"] = json!(time);
        same_event_but(&wrong.to_string(), Damage::WrongType, |event| {
            event.stage_time = None
        });
    }
}

#[test]
fn wrong_types_in_the_envelope_leave_the_payload() {
    for key in ["time", "resourceId", "category"] {
        let mut wrong = envelope("kube-audit", &json!(event().to_string()));
        wrong[key] = json!([7]);
        same_event_but(&wrong.to_string(), Damage::WrongType, |_| ());
    }
}

#[test]
fn of_duplicate_keys_the_last_counts() {
    let text = event().to_string();
    let twice = text.replacen(
        '{',
        r#"{"verb":"get","user":{"username":"x","uid":"y"},"#,
        1,
    );
    with_event(&text, |expected, _| {
        with_event(&twice, |event, damage| {
            assert_eq!((event, damage), (expected, None))
        });
        let cut = &twice[..twice.len() - 1];
        with_event(cut, |event, damage| {
            assert_eq!((event, damage), (expected, Some(Damage::CutOff)))
        });
    });
}

#[test]
fn what_follows_the_cut_is_unknown_and_what_precedes_it_is_kept() {
    // The order in which Go writes them.
    let text = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a","stage":"ResponseComplete","requestURI":"/x","verb":"create","user":{"username":"ana","groups":["g1","g2"]},"sourceIPs":["192.0.2.7","172.31.0.4"],"objectRef":{"resource":"pods","name":"p"},"requestObject":{"a":1},"responseObject":{"b":2},"annotations":{"k":"v"}}"#;
    let cut = |at: &str| text[..text.find(at).unwrap() + at.len()].to_owned();
    let with_cut = |at: &str, check: &dyn Fn(&AuditEvent<'_>)| {
        let cut = cut(at);
        let mut record = envelope("kube-audit", &json!(cut)).to_string();
        let check = |event: &AuditEvent<'_>, damage| {
            assert_eq!(damage, Some(Damage::CutOff));
            assert_eq!(event.verb, "create");
            check(event);
        };
        with_event(&cut, check);
        with_event(&record, check);
        // Now the envelope itself is cut, within the log.
        let escaped = serde_json::to_string(&cut).unwrap();
        let log = &escaped[..escaped.len() - 1];
        record.truncate(record.find(log).unwrap() + log.len());
        with_event(&record, check);
    };
    with_cut(r#""verb":"create","#, &|event| {
        assert_eq!(event.user.username, "");
        assert_eq!(
            (event.request_object, event.response_object),
            (Body::Unreadable, Body::Unreadable)
        );
    });
    with_cut(r#""username":"ana","groups":["g1""#, &|event| {
        assert_eq!(event.user.username, "ana");
        assert_eq!(event.user.groups.len(), 0);
    });
    with_cut(r#""sourceIPs":["192.0.2.7","#, &|event| {
        assert_eq!(event.source_ips.len(), 0)
    });
    with_cut(r#""resource":"po"#, &|event| {
        assert_eq!(event.object_ref.as_ref().unwrap().resource, "")
    });
    with_cut(r#""requestObject":{"a":"#, &|event| {
        assert_eq!(
            (event.request_object, event.response_object),
            (Body::Unreadable, Body::Unreadable)
        );
    });
    with_cut(r#""requestObject":{"a":1},"#, &|event| {
        assert_eq!(
            (event.request_object, event.response_object),
            (Body::Text("{\"a\":1}".into()), Body::Unreadable)
        );
    });
    with_cut(r#""annotations":{"k":"v"}"#, &|event| {
        assert_eq!(event.response_object, Body::Text("{\"b\":2}".into()));
        assert_eq!(event.annotation("k"), Some("v"));
    });
}

#[test]
fn nesting_without_end_is_counted() {
    let deep = 1 << 20;
    let open = "[".repeat(deep);
    let objects = "{\"a\":".repeat(deep / 5);
    let closed = format!("{open}{}", "]".repeat(deep));
    for text in [&open, &objects, &closed] {
        let all = seen(text);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].what, What::Nothing(Ignored::Damaged));
        assert_eq!(all[0].damage, Some(Damage::TooLarge));
    }
    let spliced = |key: &str, value: &str| {
        event()
            .to_string()
            .replacen('{', &format!("{{\"{key}\":{value},"), 1)
    };
    // As a body: no later parse could read it.
    let text =
        spliced("requestObject", "0").replace(&event()["requestObject"].to_string(), &closed);
    same_event_but(&text, Damage::TooLarge, |event| {
        if matches!(event.request_object, Body::Text(_)) {
            event.request_object = Body::Unreadable;
        }
    });
    // Where nobody looks, it is nobody's business.
    with_event(&spliced("other", &closed), |event, damage| {
        assert_eq!((event.verb.as_ref(), damage), ("create", None));
    });
    // In a field with a type.
    let mut wrong = event();
    wrong["verb"] = json!("VERB");
    let text = wrong.to_string().replace("\"VERB\"", &closed);
    same_event_but(&text, Damage::WrongType, |event| event.verb = "".into());
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_said() {
    let text = envelope("kube-audit", &json!(event().to_string())).to_string();
    let mut bytes = text.into_bytes();
    let at = bytes
        .windows(7)
        .position(|window| window == b"kubectl")
        .unwrap();
    bytes[at] = 0xff;
    let good = envelope("kube-audit", &json!(event().to_string())).to_string();
    let both = json!({ "records": [0, 1] }).to_string();
    let mut document = both.into_bytes();
    let one = document.iter().position(|byte| *byte == b'0').unwrap();
    document.splice(one..one + 3, [&bytes[..], b",", good.as_bytes()].concat());
    let all = seen_bytes(&document);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].what, What::Audit("create".to_owned()));
    assert_eq!(all[0].damage, Some(Damage::NotUtf8));
    assert_eq!(all[1].damage, None, "the other record is not touched");

    let surrogate = event().to_string().replace("kubectl/", r"\ud800");
    same_event_but(&surrogate, Damage::NotUtf8, |event| {
        event.user_agent = "".into()
    });
    with_event(&surrogate, |event, _| {
        assert_eq!(event.user_agent, "\u{fffd}v1.36.0 (linux/amd64)");
    });
    let control = event().to_string().replace("kubectl/", "\u{0}\u{1b}");
    same_event_but(&control, Damage::NotJson, |event| {
        event.user_agent = "".into()
    });
    let escaped = event().to_string().replace("kubectl/", r"\u0000\u001b");
    with_event(&escaped, |event, damage| {
        assert_eq!(event.user_agent, "\u{0}\u{1b}v1.36.0 (linux/amd64)");
        assert_eq!(damage, None);
    });
}

#[test]
fn what_is_no_json_costs_no_other_record() {
    let good = event().to_string();
    for (bad, damage) in [
        ("no json", Damage::NotJson),
        ("{\"a\":1", Damage::CutOff),
        ("{\"a\" 1}", Damage::NotJson),
        ("{\"a\":1;}", Damage::NotJson),
        ("}", Damage::NotJson),
        ("\u{0}", Damage::NotJson),
        ("[{}", Damage::CutOff),
        ("{\"records\":[", Damage::CutOff),
        ("{\"records\":[]", Damage::CutOff),
    ] {
        let all = seen(&format!("{good}\n{bad}\n{good}\n"));
        let damages: Vec<Damage> = all.iter().filter_map(|seen| seen.damage).collect();
        assert_eq!(damages, [damage], "{bad}");
        let create = What::Audit("create".to_owned());
        assert_eq!(
            all.iter().filter(|seen| seen.what == create).count(),
            2,
            "{bad}"
        );
    }
    // Behind a value on its line.
    let all = seen(&format!("{good} x\n"));
    assert_eq!(all.len(), 2);
    assert_eq!(
        (&all[0].damage, &all[1].damage),
        (&None, &Some(Damage::NotJson))
    );
}

#[test]
fn a_record_of_many_mebibytes_is_read() {
    let mut large = event();
    large["requestObject"] = json!({ "data": "x\"\\".repeat(1 << 19) });
    let text = envelope("kube-audit", &json!(large.to_string())).to_string();
    assert!(text.len() > 4 << 20);
    with_event(&text, |event, damage| {
        assert_eq!(damage, None);
        let expected = large["requestObject"].to_string();
        assert_eq!(event.request_object, Body::Text(expected.as_str().into()));
    });
}

#[test]
fn many_tiny_values_take_time_in_proportion() {
    // Half a million of each: anything quadratic would not end.
    for unit in [
        "{}",
        "[]",
        "[1,",
        "{\"verb\":",
        "\"a\",",
        "{\"kind\":\"Event\"}",
    ] {
        let text = unit.repeat(500_000);
        let chunk = Chunk {
            bytes: text.into(),
            position: 0,
            framing: Framing::Value,
            enqueued: None,
        };
        let mut count = 0;
        Decoder::default().decode(&chunk, &mut |record| {
            assert!(!matches!(record.payload, Payload::ApiServer(_)));
            count += 1;
        });
        assert!(count <= 500_000, "{unit}: {count}");
    }
}

#[test]
fn labels_are_distinct() {
    let mut labels: Vec<&str> = Damage::ALL.iter().map(|damage| damage.as_str()).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), Damage::ALL.len());
    let value: Value = json!(labels);
    assert!(value.to_string().is_ascii());
}
